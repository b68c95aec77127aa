/* CPU self-test: one line a check, a verdict, exit status = number of failures. */
#include "guests/selftest/selftest.h"
#include "guests/selftest/compute.h"
#include "selftest_sums.h"

bool has_cpuid(uint32_t leaf, unsigned reg, unsigned bit)
{
    uint32_t r[4];

    cpuid(leaf & 0x80000000, 0, r);
    if (leaf > r[0])
        return false;
    cpuid(leaf, 0, r);
    return r[reg] >> bit & 1;
}

static bool have(uint32_t need)
{
    uint32_t leaf = need >> 8;

    return !need || has_cpuid(leaf == 0x81 ? 0x80000001 : leaf, (need & 0xff) / 32, need & 31);
}

void test_sums(void)
{
    for (unsigned i = 0; i < nsums; i++)
        if (!expected_sums[i] || !have(sums[i].need[0]) || !have(sums[i].need[1]))
            bare_print("SKIP %s: the CPU has it not\n", sums[i].name);
        else
            check_equal(sums[i].fn(), expected_sums[i], sums[i].name);
}

void bare_main(void)
{
    if (has_cpuid(1, 2, 26)) { /* XSAVE: x87, SSE, AVX on */
        write_cr4(read_cr4() | 1 << 18);
        __asm__ volatile("xsetbv" : : "c"(0), "a"(has_cpuid(1, 2, 28) ? 7 : 3), "d"(0));
    }
    region_init();
    test_sums();
    test_exceptions();
    test_paging();
    test_pcid();
    test_system();
    test_user();
    test_debug();
    test_blocks();
    test_survival();
}
