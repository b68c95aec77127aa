/* Integer arithmetic, shifts, multiplication, bits: every size, results and defined flags. */
#include "guests/selftest/compute.h"

#define EACH_SIZE(M, op, mask) \
    M(op, uint8_t, mask)       \
    M(op, uint16_t, mask)      \
    M(op, uint32_t, mask)      \
    M(op, uint64_t, mask)

/* Register and register, with both carries in. */
#define ALU(op, T, mask)                                                          \
    for (unsigned i = 0; i < NOPERANDS * NOPERANDS * 2; i++) {                    \
        T a = (T)operands[i / 2 % NOPERANDS], b = (T)operands[i / 2 / NOPERANDS]; \
        uint64_t f = i & 1;                                                       \
        __asm__ volatile("btq $0, %1\n\t" op " %2, %0\n\tpushfq\n\tpopq %1"       \
                         : "+q"(a), "+r"(f)                                       \
                         : "q"(b)                                                 \
                         : "cc", "memory");                                       \
        h = mix(mix(h, a), f & (mask));                                           \
    }

uint64_t sum_alu(void)
{
    uint64_t h = 1;

    EACH_SIZE(ALU, "add", ARITH)
    EACH_SIZE(ALU, "adc", ARITH)
    EACH_SIZE(ALU, "sub", ARITH)
    EACH_SIZE(ALU, "sbb", ARITH)
    EACH_SIZE(ALU, "cmp", ARITH)
    EACH_SIZE(ALU, "and", ARITH & ~AF)
    EACH_SIZE(ALU, "or", ARITH & ~AF)
    EACH_SIZE(ALU, "xor", ARITH & ~AF)
    EACH_SIZE(ALU, "test", ARITH & ~AF)
    return h;
}

/* Memory destination, then memory source. */
#define ALU_MEMORY(op, T, mask)                                             \
    for (unsigned i = 0; i < NOPERANDS * 3; i++) {                          \
        volatile T a = (T)operands[i % NOPERANDS];                          \
        T b = (T)operands[(i * 7 + 3) % NOPERANDS];                         \
        uint64_t f = i & 1;                                                 \
        __asm__ volatile("btq $0, %1\n\t" op " %2, %0\n\tpushfq\n\tpopq %1" \
                         : "+m"(a), "+r"(f)                                 \
                         : "q"(b)                                           \
                         : "cc", "memory");                                 \
        h = mix(mix(h, a), f & (mask));                                     \
        f = i >> 1 & 1;                                                     \
        __asm__ volatile("btq $0, %1\n\t" op " %2, %0\n\tpushfq\n\tpopq %1" \
                         : "+q"(b), "+r"(f)                                 \
                         : "m"(a)                                           \
                         : "cc", "memory");                                 \
        h = mix(mix(h, b), f & (mask));                                     \
    }

uint64_t sum_alu_memory(void)
{
    uint64_t h = 2;

    EACH_SIZE(ALU_MEMORY, "add", ARITH)
    EACH_SIZE(ALU_MEMORY, "adc", ARITH)
    EACH_SIZE(ALU_MEMORY, "sub", ARITH)
    EACH_SIZE(ALU_MEMORY, "sbb", ARITH)
    EACH_SIZE(ALU_MEMORY, "cmp", ARITH)
    EACH_SIZE(ALU_MEMORY, "and", ARITH & ~AF)
    EACH_SIZE(ALU_MEMORY, "or", ARITH & ~AF)
    EACH_SIZE(ALU_MEMORY, "xor", ARITH & ~AF)
    return h;
}

#define UNARY(op, T, mask)                                              \
    for (unsigned i = 0; i < NOPERANDS * 2; i++) {                      \
        T a = (T)operands[i / 2];                                       \
        uint64_t f = i & 1;                                             \
        __asm__ volatile("btq $0, %1\n\t" op " %0\n\tpushfq\n\tpopq %1" \
                         : "+q"(a), "+r"(f)                             \
                         :                                              \
                         : "cc", "memory");                             \
        h = mix(mix(h, a), f & (mask));                                 \
    }
#define UNARY_MEMORY(op, suffix, T, mask)                                      \
    for (unsigned i = 0; i < NOPERANDS * 2; i++) {                             \
        volatile T a = (T)operands[i / 2];                                     \
        uint64_t f = i & 1;                                                    \
        __asm__ volatile("btq $0, %1\n\t" op suffix " %0\n\tpushfq\n\tpopq %1" \
                         : "+m"(a), "+r"(f)                                    \
                         :                                                     \
                         : "cc", "memory");                                    \
        h = mix(mix(h, a), f & (mask));                                        \
    }

uint64_t sum_unary(void)
{
    uint64_t h = 3;

    EACH_SIZE(UNARY, "inc", ARITH) /* CF comes through */
    EACH_SIZE(UNARY, "dec", ARITH)
    EACH_SIZE(UNARY, "neg", ARITH)
    EACH_SIZE(UNARY, "not", CF)
    UNARY_MEMORY("inc", "b", uint8_t, ARITH)
    UNARY_MEMORY("dec", "w", uint16_t, ARITH)
    UNARY_MEMORY("neg", "l", uint32_t, ARITH)
    UNARY_MEMORY("not", "q", uint64_t, CF)
    UNARY_MEMORY("lock inc", "q", uint64_t, ARITH)
    return h;
}

/* Flags of a shift: all but AF when the masked count is 1; OF is undefined beyond; rotates define
 * CF (and OF at 1). Count 0 leaves them: then only what bt defined, CF. SDM 2, SHL and RCL. */
#define SHIFT(op, T, keep)                                                        \
    for (unsigned i = 0; i < NOPERANDS; i++)                                      \
        for (unsigned n = 0; n < 70; n++) {                                       \
            T a = (T)operands[i];                                                 \
            uint64_t f = n & 1;                                                   \
            unsigned count = n & (sizeof(T) == 8 ? 63 : 31);                      \
            uint64_t mask = !count ? CF : count == 1 ? (keep) : (keep) & ~OF;     \
            if (count >= sizeof(T) * 8)                                           \
                mask &= ~CF;                                                      \
            __asm__ volatile("btq $0, %1\n\t" op " %%cl, %0\n\tpushfq\n\tpopq %1" \
                             : "+q"(a), "+r"(f)                                   \
                             : "c"(n)                                             \
                             : "cc", "memory");                                   \
            h = mix(mix(h, a), f & mask);                                         \
        }

uint64_t sum_shift(void)
{
    uint64_t h = 4;

    EACH_SIZE(SHIFT, "shl", ARITH & ~AF)
    EACH_SIZE(SHIFT, "shr", ARITH & ~AF)
    EACH_SIZE(SHIFT, "sar", ARITH & ~AF)
    EACH_SIZE(SHIFT, "rol", CF | OF)
    EACH_SIZE(SHIFT, "ror", CF | OF)
    EACH_SIZE(SHIFT, "rcl", CF | OF)
    EACH_SIZE(SHIFT, "rcr", CF | OF)
    return h;
}

#define DOUBLE(op, T, unused)                                                         \
    for (unsigned i = 0; i < NOPERANDS; i++)                                          \
        for (unsigned n = 0; n < sizeof(T) * 8; n++) {                                \
            T a = (T)operands[i], b = (T)operands[(i + 5) % NOPERANDS];               \
            uint64_t f = 0;                                                           \
            __asm__ volatile("btq $0, %1\n\t" op " %%cl, %2, %0\n\tpushfq\n\tpopq %1" \
                             : "+r"(a), "+r"(f)                                       \
                             : "r"(b), "c"(n)                                         \
                             : "cc", "memory");                                       \
            h = mix(mix(h, a), f & (n ? CF | ZF | SF | PF : CF));                     \
        }

uint64_t sum_shift_double(void)
{
    uint64_t h = 5;

    DOUBLE("shld", uint16_t, )
    DOUBLE("shld", uint32_t, )
    DOUBLE("shld", uint64_t, )
    DOUBLE("shrd", uint16_t, )
    DOUBLE("shrd", uint32_t, )
    DOUBLE("shrd", uint64_t, )
    return h;
}

#define WIDE(op, T, unused)                                  \
    for (unsigned i = 0; i < NOPERANDS * NOPERANDS; i++) {   \
        uint64_t a = operands[i % NOPERANDS], d = 0x5555, f; \
        T b = (T)operands[i / NOPERANDS];                    \
        __asm__ volatile(op " %3\n\tpushfq\n\tpopq %2"       \
                         : "+a"(a), "+d"(d), "=r"(f)         \
                         : "q"(b)                            \
                         : "cc", "memory");                  \
        h = mix(mix(mix(h, a), d), f & (CF | OF));           \
    }
#define IMUL2(op, T, unused)                                                 \
    for (unsigned i = 0; i < NOPERANDS * NOPERANDS; i++) {                   \
        T a = (T)operands[i % NOPERANDS], b = (T)operands[i / NOPERANDS], c; \
        uint64_t f, g;                                                       \
        __asm__ volatile("imul %4, %0\n\tpushfq\n\tpopq %1\n\t"              \
                         "imul $-77, %4, %2\n\tpushfq\n\tpopq %3"            \
                         : "+r"(a), "=&r"(f), "=&r"(c), "=&r"(g)             \
                         : "r"(b)                                            \
                         : "cc", "memory");                                  \
        h = mix(mix(mix(h, a), c), (f & (CF | OF)) << 16 | (g & (CF | OF))); \
    }

uint64_t sum_multiply(void)
{
    uint64_t h = 6;

    EACH_SIZE(WIDE, "mul", )
    EACH_SIZE(WIDE, "imul", )
    IMUL2("", uint16_t, )
    IMUL2("", uint32_t, )
    IMUL2("", uint64_t, )
    return h;
}

/* Dividends chosen so that the quotient fits: high half below the divisor. */
#define DIVIDE(T, high)                                                \
    for (unsigned i = 0; i < NOPERANDS * NOPERANDS; i++) {             \
        T b = (T)operands[i / NOPERANDS];                              \
        uint64_t a = operands[i % NOPERANDS], d = high;                \
        if ((T)d >= b)                                                 \
            continue;                                                  \
        __asm__ volatile("div %2" : "+a"(a), "+d"(d) : "r"(b) : "cc"); \
        h = mix(mix(h, a), d);                                         \
    }
#define IDIVIDE(T, extend)                                                         \
    for (unsigned i = 0; i < NOPERANDS * NOPERANDS; i++) {                         \
        T b = (T)operands[i / NOPERANDS];                                          \
        uint64_t a = operands[i % NOPERANDS], d = 0;                               \
        if (!b || b == (T)-1)                                                      \
            continue;                                                              \
        __asm__ volatile(extend "\n\tidiv %2" : "+a"(a), "+d"(d) : "r"(b) : "cc"); \
        h = mix(mix(h, a), d);                                                     \
    }

uint64_t sum_divide(void)
{
    uint64_t h = 7;

    DIVIDE(uint16_t, 0)
    DIVIDE(uint32_t, 2)
    DIVIDE(uint64_t, 0x77)
    IDIVIDE(uint16_t, "cwtd")
    IDIVIDE(uint32_t, "cltd")
    IDIVIDE(uint64_t, "cqto")
    for (unsigned i = 1; i < 256; i++) { /* bytes: AX by r/m8 */
        uint64_t a = i * 3, b = i * 40 % 127;
        uint8_t by = (uint8_t)i;

        __asm__ volatile("divb %1" : "+a"(a) : "q"(by) : "cc");
        __asm__ volatile("idivb %1" : "+a"(b) : "q"((uint8_t)(by | 64)) : "cc");
        h = mix(mix(h, a), b);
    }
    return h;
}

#define BIT(op, T, unused)                                     \
    for (unsigned i = 0; i < NOPERANDS; i++)                   \
        for (T n = 0; n < 80; n++) {                           \
            T a = (T)operands[i];                              \
            uint64_t f;                                        \
            __asm__ volatile(op " %2, %0\n\tpushfq\n\tpopq %1" \
                             : "+r"(a), "=r"(f)                \
                             : "r"(n)                          \
                             : "cc", "memory");                \
            h = mix(mix(h, a), f & CF);                        \
        }
#define SCAN(op, T)                                        \
    for (unsigned i = 1; i < NOPERANDS; i++) {             \
        T a = (T)operands[i], r = 0;                       \
        uint64_t f;                                        \
        if (!a)                                            \
            continue;                                      \
        __asm__ volatile(op " %2, %0\n\tpushfq\n\tpopq %1" \
                         : "+r"(r), "=r"(f)                \
                         : "r"(a)                          \
                         : "cc", "memory");                \
        h = mix(mix(h, r), f & ZF);                        \
    }

uint64_t sum_bits(void)
{
    uint64_t h = 8;
    uint64_t map[8] = {0};

    BIT("bt", uint16_t, )
    BIT("bts", uint32_t, )
    BIT("btr", uint64_t, )
    BIT("btc", uint16_t, )
    SCAN("bsf", uint16_t)
    SCAN("bsf", uint32_t)
    SCAN("bsr", uint64_t)
    SCAN("bsr", uint16_t)
    /* A bit string: the register's high bits choose the word, also below the address. */
    for (int64_t n = -130; n < 250; n += 7) {
        uint64_t f;

        __asm__ volatile("btcq %2, %0\n\tpushfq\n\tpopq %1"
                         : "+m"(map[3]), "=r"(f)
                         : "r"(n)
                         : "cc", "memory");
        h = mix(h, f & CF);
    }
    for (unsigned i = 0; i < 8; i++)
        h = mix(h, map[i]);
    for (unsigned i = 0; i < NOPERANDS; i++) {
        uint64_t a = operands[i];
        uint32_t b = (uint32_t)operands[i];

        __asm__ volatile("bswapq %0\n\tbswapl %1" : "+r"(a), "+r"(b));
        h = mix(mix(h, a), b);
    }
    return h;
}

#define TWO(op, T)                                                                          \
    for (unsigned i = 0; i < NOPERANDS * NOPERANDS; i++) {                                  \
        T r = 0;                                                                            \
        uint64_t f;                                                                         \
        __asm__ volatile(op " %2, %3, %0\n\tpushfq\n\tpopq %1"                              \
                         : "=r"(r), "=r"(f)                                                 \
                         : "r"((T)operands[i % NOPERANDS]), "r"((T)operands[i / NOPERANDS]) \
                         : "cc", "memory");                                                 \
        h = mix(h, r);                                                                      \
    }

uint64_t sum_bmi(void)
{
    uint64_t h = 9;

    TWO("andn", uint32_t)
    TWO("andn", uint64_t)
    TWO("bextr", uint64_t)
    TWO("bzhi", uint64_t)
    TWO("pdep", uint64_t)
    TWO("pext", uint32_t)
    TWO("shlx", uint64_t)
    TWO("sarx", uint32_t)
    TWO("shrx", uint64_t)
    SCAN("blsi", uint64_t)
    SCAN("blsr", uint32_t)
    SCAN("blsmsk", uint64_t)
    SCAN("tzcnt", uint64_t)
    for (unsigned i = 0; i < NOPERANDS; i++) {
        uint64_t lo, hi, r;

        __asm__ volatile("mulxq %3, %0, %1\n\trorxq $13, %3, %2"
                         : "=r"(lo), "=r"(hi), "=r"(r)
                         : "r"(operands[i]), "d"(0x123456789abcdefull));
        h = mix(mix(mix(h, lo), hi), r);
    }
    return h;
}

uint64_t sum_popcnt(void)
{
    uint64_t h = 10;

    SCAN("popcnt", uint16_t)
    SCAN("popcnt", uint32_t)
    SCAN("popcnt", uint64_t)
    return h;
}

uint64_t sum_lzcnt(void)
{
    uint64_t h = 11;

    SCAN("lzcnt", uint16_t)
    SCAN("lzcnt", uint32_t)
    SCAN("lzcnt", uint64_t)
    return h;
}

uint64_t sum_crc32(void)
{
    uint64_t h = 12, c = 0xffffffff;

    for (unsigned i = 0; i < NOPERANDS; i++) {
        __asm__ volatile("crc32q %1, %0" : "+r"(c) : "r"(operands[i]));
        __asm__ volatile("crc32b %b1, %0" : "+r"(c) : "q"(operands[i]));
        h = mix(h, c);
    }
    return h;
}
