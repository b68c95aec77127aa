/*
 * User-level instructions over sets of operands, folded into one sum each. The same source runs on
 * the host CPU at build time (sums.c prints build/gen/selftest_sums.h) and in the guest, which
 * compares. Undefined flags are masked. Nothing here needs privilege or an address of its own.
 */
#ifndef GUESTS_SELFTEST_COMPUTE_H
#define GUESTS_SELFTEST_COMPUTE_H

#include <stdint.h>

/* CPUID bits that a sum needs, as (leaf << 8 | register * 32 + bit); 0: every x86-64 has it. */
struct sum {
    const char *name;
    uint64_t (*fn)(void);
    uint32_t need[2];
};
#define CPUID_1_ECX(bit)  (1u << 8 | (64 + (bit)))
#define CPUID_7_EBX(bit)  (7u << 8 | (32 + (bit)))
#define CPUID_81_ECX(bit) (0x81u << 8 | (64 + (bit))) /* leaf 0x80000001 */

extern const struct sum sums[];
extern const unsigned nsums;

static inline uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

/* RFLAGS bits */
enum { CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, OF = 0x800, ARITH = 0x8d5 };

static const uint64_t operands[] = {0,
                                    1,
                                    2,
                                    3,
                                    0x0f,
                                    0x10,
                                    0x7f,
                                    0x80,
                                    0xff,
                                    0x7fff,
                                    0x8000,
                                    0xffff,
                                    0x7fffffff,
                                    0x80000000,
                                    0xffffffff,
                                    0x123456789abcdef0,
                                    0x7fffffffffffffff,
                                    0x8000000000000000,
                                    0xfffffffffffffffe,
                                    0xffffffffffffffff};
enum { NOPERANDS = sizeof(operands) / sizeof(operands[0]) };

uint64_t sum_alu(void), sum_alu_memory(void), sum_unary(void), sum_shift(void),
    sum_shift_double(void), sum_multiply(void), sum_divide(void), sum_bits(void), sum_moves(void),
    sum_exchange(void), sum_conditions(void), sum_strings(void), sum_branches(void),
    sum_stack(void), sum_bmi(void), sum_popcnt(void), sum_lzcnt(void), sum_crc32(void);
uint64_t sum_x87(void), sum_mmx(void), sum_sse(void), sum_sse_float(void), sum_ssse3(void),
    sum_sse4(void), sum_avx(void), sum_avx2(void), sum_fma(void), sum_aes(void), sum_fxsave(void);

#endif
