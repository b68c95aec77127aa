/* Clocks from the TSC: no exit to read one. The wall clock asks the monitor once. */
#include "guests/runtime/runtime.h"

#define NS 1000000000ull

static uint64_t scale; /* ns per TSC tick, 32.32 */
static uint64_t wall_offset;
static int wall_known;

void clock_init(void)
{
    uint64_t hz = runtime_boot.tsc_hz ? runtime_boot.tsc_hz : NS;

    scale = (NS << 32) / hz;
}

uint64_t clock_ns(void)
{
    uint32_t lo, hi;

    __asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)((unsigned __int128)((uint64_t)hi << 32 | lo) * scale >> 32);
}

int clock_read(int id, struct runtime_timespec *ts)
{
    enum { REALTIME, MONOTONIC, PROCESS, THREAD, RAW, REALTIME_COARSE, COARSE, BOOTTIME };
    uint64_t t = clock_ns();

    switch (id) {
    case REALTIME:
    case REALTIME_COARSE:
        if (!wall_known) {
            wall_offset = (uint64_t)runtime_call(MAYFLY_CALL_WALLTIME, 0, NULL, 0) - t;
            wall_known = 1;
        }
        t += wall_offset;
        break;
    case MONOTONIC:
    case PROCESS:
    case THREAD:
    case RAW:
    case COARSE:
    case BOOTTIME:
        break;
    default:
        return -E_INVAL;
    }
    ts->sec = (int64_t)(t / NS);
    ts->nsec = (int64_t)(t % NS);
    return 0;
}
