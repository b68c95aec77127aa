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

#include <cpuid.h>
#include <time.h>

#define MEASURE_NS 64000u

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

static uint64_t from_cpuid(const char **how)
{
    uint32_t a, b, c, d;

    if (__get_cpuid_count(0x15, 0, &a, &b, &c, &d) && a && b && c) {
        *how = "CPUID 0x15";
        return (uint64_t)c * b / a;
    }
    __cpuid(1, a, b, c, d);
    if (!(c & (1u << 31)))
        return 0;
    __cpuid(0x40000000, a, b, c, d);
    if (a < 0x40000010 || a > 0x400000ff)
        return 0;
    __cpuid(0x40000010, a, b, c, d);
    *how = "CPUID 0x40000010";
    return (uint64_t)a * 1000;
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

uint64_t tsc_frequency(const char **how)
{
    uint64_t hz = from_cpuid(how);

    /* What no x86-64 CPU has is a hypervisor's mistake. */
    if (hz >= 100000000u && hz <= 20000000000u)
        return hz;
    *how = "measured";
    if (!first.ns)
        tsc_start();
    return measure();
}
