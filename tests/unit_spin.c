/* PAUSE loops: a CPU that waits gives its host CPU away, but not at each of thousands of PAUSEs. */
#include <criterion/criterion.h>
#include "tests/vmfix.h"

#define PAUSES 2048u

/* How often the host's CPU was given away in one loop of PAUSES. */
static uint64_t loop(unsigned ncpu, bool overcommitted)
{
    static struct vmfix f;
    uint64_t spins;

    vmf_create(&f, VMFIX_LONG);
    f.vm.nvcpu = ncpu;
    f.vm.overcommitted = overcommitted;
    for (unsigned i = 0; i < PAUSES; i++)
        vcpu_spin(f.v);
    spins = f.v->stats.spins;
    vmf_destroy(&f);
    return spins;
}

Test(spin, alone)
{
    cr_expect_eq(loop(1, false), 0u);
}

/* Up to YIELD_US the loop yields, 400 times at most; then it dozes for 50 us, or more, each of
 * which counts as 100 PAUSEs. */
Test(spin, overcommitted)
{
    uint64_t most = 0;

    for (unsigned n = 0; n < 20; n++) {
        uint64_t spins = loop(4, true);

        cr_expect_leq(spins, PAUSES / 4, "%llu", (unsigned long long)spins);
        most = spins > most ? spins : most;
    }
    cr_expect_gt(most, 0u);
}
