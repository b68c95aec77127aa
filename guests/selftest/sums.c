/* The table of sums; hosted, also the program that computes what they must be. */
#include "guests/selftest/compute.h"

const struct sum sums[] = {
    {"alu", sum_alu, {0}},
    {"alu_memory", sum_alu_memory, {0}},
    {"unary", sum_unary, {0}},
    {"shift", sum_shift, {0}},
    {"shift_double", sum_shift_double, {0}},
    {"multiply", sum_multiply, {0}},
    {"divide", sum_divide, {0}},
    {"bits", sum_bits, {0}},
    {"moves", sum_moves, {0}},
    {"exchange", sum_exchange, {0}},
    {"conditions", sum_conditions, {0}},
    {"strings", sum_strings, {0}},
    {"branches", sum_branches, {0}},
    {"stack", sum_stack, {0}},
    {"popcnt", sum_popcnt, {CPUID_1_ECX(23)}},
    {"crc32", sum_crc32, {CPUID_1_ECX(20)}},
    {"lzcnt", sum_lzcnt, {CPUID_81_ECX(5)}},
    {"bmi", sum_bmi, {CPUID_7_EBX(3), CPUID_7_EBX(8)}},
    {"x87", sum_x87, {0}},
    {"mmx", sum_mmx, {0}},
    {"sse", sum_sse, {0}},
    {"sse_float", sum_sse_float, {0}},
    {"fxsave", sum_fxsave, {0}},
    {"ssse3", sum_ssse3, {CPUID_1_ECX(9)}},
    {"sse4", sum_sse4, {CPUID_1_ECX(19), CPUID_1_ECX(20)}},
    {"aes", sum_aes, {CPUID_1_ECX(25), CPUID_1_ECX(1)}},
    {"avx", sum_avx, {CPUID_1_ECX(28)}},
    {"avx2", sum_avx2, {CPUID_7_EBX(5)}},
    {"fma", sum_fma, {CPUID_1_ECX(12)}},
};
const unsigned nsums = sizeof(sums) / sizeof(sums[0]);

#ifdef SELFTEST_HOSTED
#include <stdbool.h>
#include <stdio.h>

static bool have(uint32_t need)
{
    uint32_t leaf = need >> 8, a, b, c, d, r[4];

    if (!need)
        return true;
    leaf = leaf == 0x81 ? 0x80000001 : leaf;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf), "c"(0));
    r[0] = a, r[1] = b, r[2] = c, r[3] = d;
    return r[(need & 0xff) / 32] >> (need & 31) & 1;
}

int main(void)
{
    printf("static const uint64_t expected_sums[] = { /* 0: this host cannot say */\n");
    for (unsigned i = 0; i < nsums; i++)
        printf("    0x%llx, /* %s */\n",
               have(sums[i].need[0]) && have(sums[i].need[1]) ? (unsigned long long)sums[i].fn()
                                                              : 0ull,
               sums[i].name);
    printf("};\n");
    return 0;
}
#endif
