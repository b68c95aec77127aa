/* Time from the TSC: no exit to read it. The wall clock asks the monitor once. */
#include "guests/runtime/process.h"

static uint64_t scale;     /* ns per TSC tick, 32.32 */
static uint64_t hz, start; /* TSC at the runtime's start, which is second 1 */
static int64_t wall;
static bool wall_known;

void clock_init(void)
{
    hz = boot.tsc_hz ? boot.tsc_hz : NS;
    scale = (NS << 32) / hz;
    start = tsc();
}

static uint64_t ticks_ns(uint64_t ticks)
{
    return (uint64_t)((unsigned __int128)ticks * scale >> 32);
}

uint64_t clock_ns(void)
{
    return ticks_ns(tsc() - start) + NS;
}

/* Rounded up, so that the deadline has passed when the timer says so. */
uint64_t clock_tsc(uint64_t ns)
{
    uint64_t t, got;

    ns = ns > NS ? ns - NS : 0;
    t = ns / NS * hz + ns % NS * hz / NS + 1;
    while ((got = ticks_ns(t)) < ns)
        t += (ns - got) * hz / NS + 1;
    return start + t;
}

int64_t clock_wall(void)
{
    if (!wall_known) {
        wall = monitor_call(MAYFLY_CALL_WALLTIME, 0, NULL, 0) - (int64_t)clock_ns();
        wall_known = true;
    }
    return wall;
}

int timespec_in(uint64_t src, uint64_t *ns)
{
    struct timespec64 t;

    if (copy_in(&t, src, sizeof t))
        return -EFAULT;
    if (t.sec < 0 || t.nsec < 0 || t.nsec >= (int64_t)NS)
        return -EINVAL;
    *ns = t.sec > 9000000000 ? 9000000000 * NS : (uint64_t)t.sec * NS + (uint64_t)t.nsec;
    return 0;
}

enum { REALTIME, MONOTONIC, PROCESS, THREAD, RAW, REALTIME_COARSE, COARSE, BOOTTIME, CLOCKS };

static int clock_at(uint64_t id, uint64_t *ns)
{
    int which = (int)id;

    *ns = clock_ns();
    if (which == REALTIME || which == REALTIME_COARSE)
        *ns += (uint64_t)clock_wall();
    else if (which < 0 && (which & 3) == 3)
        return -EINVAL; /* a descriptor's */
    else if (which < 0 && ~(which >> 3) && !thread_is_known((uint32_t) ~(which >> 3)))
        return -EINVAL;
    else if (which == PROCESS || which == THREAD || which < 0) /* < 0: pthread_getcpuclockid() */
        *ns = which == THREAD || (which & 7) == 6 ? thread_cpu_ns() : process_cpu_ns();
    else if (which >= CLOCKS)
        return -EINVAL;
    return 0;
}

static int64_t time_out(uint64_t dst, uint64_t ns)
{
    struct timespec64 t = {(int64_t)(ns / NS), (int64_t)(ns % NS)};

    return dst ? copy_out(dst, &t, sizeof t) : 0;
}

int64_t sys_clock_gettime(uint64_t id, uint64_t out)
{
    uint64_t ns;

    return clock_at(id, &ns) ? -EINVAL : time_out(out, ns);
}

int64_t sys_clock_getres(uint64_t id, uint64_t out)
{
    uint64_t ns;

    return clock_at(id, &ns) ? -EINVAL : time_out(out, 1);
}

int64_t sys_gettimeofday(uint64_t out)
{
    uint64_t ns = clock_ns() + (uint64_t)clock_wall();
    struct timespec64 t = {(int64_t)(ns / NS), (int64_t)(ns % NS / 1000)};

    return out ? copy_out(out, &t, sizeof t) : 0;
}

int64_t sys_time(uint64_t out)
{
    int64_t t = (int64_t)((clock_ns() + (uint64_t)clock_wall()) / NS);

    return out && copy_out(out, &t, sizeof t) ? -EFAULT : t;
}

static int64_t sleep_until(uint64_t deadline, uint64_t left)
{
    int64_t err;
    static char nobody;

    while ((err = thread_wait(&nobody, deadline)) == 0)
        ;
    if (err == -ETIMEDOUT)
        return 0;
    uint64_t now = clock_ns();

    if (left && time_out(left, deadline > now ? deadline - now : 0))
        return -EFAULT;
    return -EINTR;
}

int64_t sys_nanosleep(uint64_t req, uint64_t rem)
{
    uint64_t ns;
    int err = timespec_in(req, &ns);

    if (err)
        return err;
    return sleep_until(clock_ns() + ns, rem);
}

int64_t sys_clock_nanosleep(uint64_t id, uint64_t flags, uint64_t req, uint64_t rem)
{
    uint64_t ns, now;
    int err = timespec_in(req, &ns);

    if (err)
        return err;
    if (clock_at(id, &now))
        return -EINVAL;
    if (!(flags & 1))
        return sys_nanosleep(req, rem);
    return sleep_until(clock_ns() + (ns > now ? ns - now : 0), 0);
}
