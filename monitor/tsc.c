/*
 * The host's clocks: CLOCK_MONOTONIC in ns, and the frequency of the TSC.
 *
 * CPUID says the frequency on some hosts (SDM 3A 19.7.3; leaf 0x40000010 of hypervisors). Where it
 * does not, the TSC is held against CLOCK_MONOTONIC_RAW over the launch itself: that clock is a
 * linear function of the TSC, so two pairs of readings 64 us apart are good to some 25 parts in a
 * million, at no cost but four reads. A hardware guest's frequency is close to a whole MHz: within
 * the error of measurement it is taken for one, so that runs agree.
 */
#include "monitor/core.h"

#include <time.h>
#include "vcpu/hostcpu.h"

#define MEASURE_NS 64000u

enum { EAX, EBX, ECX };

static struct {
    uint64_t tsc, ns;
} first;

static uint64_t raw_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t clock_ns(void)
{
    return raw_ns(CLOCK_MONOTONIC);
}

/* One instant on both clocks: of some tries, the one whose readings lie closest together. */
static void read_pair(uint64_t *tsc, uint64_t *ns)
{
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < 6; i++) {
        uint64_t a = __builtin_ia32_rdtsc(), n = raw_ns(CLOCK_MONOTONIC_RAW);
        uint64_t b = __builtin_ia32_rdtsc();

        if (b - a < best) {
            best = b - a;
            *tsc = a + best / 2;
            *ns = n;
        }
    }
}

void tsc_start(void)
{
    read_pair(&first.tsc, &first.ns);
}

static uint64_t measure(void)
{
    uint64_t tsc, ns;

    do
        read_pair(&tsc, &ns);
    while (ns - first.ns < MEASURE_NS);

    uint64_t hz = (uint64_t)((unsigned __int128)(tsc - first.tsc) * 1000000000u / (ns - first.ns));
    uint64_t mhz = (hz + 500000) / 1000000 * 1000000;
    uint64_t off = hz > mhz ? hz - mhz : mhz - hz;

    return off < mhz / 1000000 * 40 ? mhz : hz;
}

static bool near(uint64_t a, uint64_t b)
{
    return (a > b ? a - b : b - a) < b / 2000;
}

/* 0: CPUID does not say. One leaf is asked, and only in a VM is that an exit: the hypervisor's,
 * whether it has so many or not, for it must agree with what was measured. */
static uint64_t from_cpuid(uint64_t measured, const char **how)
{
    if (host_cpuid(1, 0).r[ECX] & 1u << 31) {
        uint64_t hz = (uint64_t)host_cpuid(0x40000010, 0).r[EAX] * 1000;

        *how = "CPUID 0x40000010";
        return near(hz, measured) ? hz : 0;
    }
    struct host_leaf h = {{0}};

    if (host_cpuid(0, 0).r[EAX] >= 0x15)
        h = host_cpuid(0x15, 0);
    *how = "CPUID 0x15";
    return h.r[EAX] ? (uint64_t)h.r[ECX] * h.r[EBX] / h.r[EAX] : 0;
}

uint64_t tsc_frequency(const char **how)
{
    if (!first.ns)
        tsc_start();
    uint64_t measured = measure(), hz = from_cpuid(measured, how);

    /* What no x86-64 CPU has is a mistake. */
    if (hz >= 100000000u && hz <= 20000000000u)
        return hz;
    *how = "measured";
    return measured;
}
