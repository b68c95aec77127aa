/* Moves, exchanges, conditions, string instructions, branches, the stack. */
#include "guests/selftest/compute.h"

uint64_t sum_moves(void)
{
    uint64_t h = 20;

    for (unsigned i = 0; i < NOPERANDS; i++) {
        uint64_t a = operands[i], r[12];
        volatile uint64_t m = a;

        __asm__ volatile("movzbl %b1, %k0" : "=r"(r[0]) : "q"(a));
        __asm__ volatile("movzwl %w1, %k0" : "=r"(r[1]) : "r"(a));
        __asm__ volatile("movsbq %b1, %q0" : "=r"(r[2]) : "q"(a));
        __asm__ volatile("movswl %w1, %k0" : "=r"(r[3]) : "r"(a));
        __asm__ volatile("movslq %k1, %q0" : "=r"(r[4]) : "r"(a));
        __asm__ volatile("movsbw %1, %w0" : "=r"(r[5]) : "m"(m), "0"(~0ull));
        __asm__ volatile("movl %k1, %k0" : "=r"(r[6]) : "r"(a), "0"(~0ull)); /* clears 63:32 */
        __asm__ volatile("movw %w1, %w0" : "=r"(r[7]) : "r"(a), "0"(~0ull)); /* keeps 63:16 */
        __asm__ volatile("movb %b1, %h0" : "=Q"(r[8]) : "Q"(a), "0"(0ull));  /* AH and friends */
        __asm__ volatile("leaq 0x1234(%1, %1, 8), %0" : "=r"(r[9]) : "r"(a));
        __asm__ volatile("leal -1(%k1, %k1, 2), %k0" : "=r"(r[10]) : "r"(a));
        __asm__ volatile("cbtw; cwtl; cltq" : "=a"(r[11]) : "0"(a));
        for (unsigned j = 0; j < 12; j++)
            h = mix(h, r[j]);
        __asm__ volatile("movq $-5, %0; movl $-5, %1" : "=m"(r[0]), "+m"(r[1]));
        h = mix(mix(h, r[0]), r[1]);
    }
    return h;
}

#define XADD(T)                                                  \
    {                                                            \
        volatile T m = (T)a;                                     \
        T r = (T)b;                                              \
        __asm__ volatile("lock xadd %1, %0\n\tpushfq\n\tpopq %2" \
                         : "+m"(m), "+q"(r), "=r"(f)             \
                         :                                       \
                         : "cc", "memory");                      \
        h = mix(mix(mix(h, m), r), f & ARITH);                   \
    }
#define CMPXCHG(T)                                             \
    {                                                          \
        volatile T m = (T)a;                                   \
        uint64_t acc = i & 1 ? a : b;                          \
        __asm__ volatile("cmpxchg %3, %0\n\tpushfq\n\tpopq %2" \
                         : "+m"(m), "+a"(acc), "=r"(f)         \
                         : "q"((T)0x5a5a5a5a5a5a5a5a)          \
                         : "cc", "memory");                    \
        h = mix(mix(mix(h, m), acc), f & ARITH);               \
    }

uint64_t sum_exchange(void)
{
    uint64_t h = 21, f;

    for (unsigned i = 0; i < NOPERANDS * NOPERANDS; i++) {
        uint64_t a = operands[i % NOPERANDS], b = operands[i / NOPERANDS];

        XADD(uint8_t)
        XADD(uint16_t)
        XADD(uint32_t)
        XADD(uint64_t)
        CMPXCHG(uint8_t)
        CMPXCHG(uint16_t)
        CMPXCHG(uint32_t)
        CMPXCHG(uint64_t)
        volatile uint64_t m[2] __attribute__((aligned(16))) = {a, b};
        uint64_t lo = i & 1 ? a : b, hi = b, r = a;

        __asm__ volatile("lock cmpxchg8b %0\n\tpushfq\n\tpopq %3"
                         : "+m"(m[0]), "+a"(lo), "+d"(hi), "=r"(f)
                         : "b"(0x11111111ull), "c"(0x22222222ull)
                         : "cc", "memory");
        h = mix(mix(mix(mix(h, m[0]), lo), hi), f & ZF);
        __asm__ volatile("xchgq %0, %1" : "+m"(m[1]), "+r"(r) : : "memory");
        __asm__ volatile("xchgb %b0, %h0" : "+Q"(r));
        h = mix(mix(h, m[1]), r);
    }
    return h;
}

/* Every condition after every comparison: Jcc, SETcc, CMOVcc agree. */
#define CONDITION(cc)                                                                             \
    {                                                                                             \
        uint8_t s;                                                                                \
        uint64_t m = 0, j = 0;                                                                    \
        __asm__ volatile("cmpq %4, %3\n\tset" #cc " %0\n\tcmov" #cc "q %3, %1\n\tj" #cc " 1f\n\t" \
                         "movl $9, %k2\n1:"                                                       \
                         : "=&q"(s), "+&r"(m), "+&r"(j)                                           \
                         : "r"(a), "r"(b)                                                         \
                         : "cc");                                                                 \
        h = mix(mix(mix(h, s), m), j);                                                            \
    }

uint64_t sum_conditions(void)
{
    uint64_t h = 22;

    for (unsigned i = 0; i < NOPERANDS * NOPERANDS; i++) {
        uint64_t a = operands[i % NOPERANDS], b = operands[i / NOPERANDS];

        CONDITION(o)
        CONDITION(no)
        CONDITION(b)
        CONDITION(ae)
        CONDITION(e)
        CONDITION(ne)
        CONDITION(be)
        CONDITION(a)
        CONDITION(s)
        CONDITION(ns)
        CONDITION(p)
        CONDITION(np)
        CONDITION(l)
        CONDITION(ge)
        CONDITION(le)
        CONDITION(g)
    }
    return h;
}

#define STRING(insn, count)                                                          \
    for (unsigned down = 0; down < 2; down++) {                                      \
        uint8_t *s = buf + (down ? 200 : 8), *d = buf + (down ? 500 : 260);          \
        uint64_t c = (count), a = 0x4142434445464748, f;                             \
        if (down)                                                                    \
            __asm__ volatile("std");                                                 \
        __asm__ volatile("cmpq %%rax, %%rax\n\t" insn "\n\tpushfq\n\tpopq %0\n\tcld" \
                         : "=&r"(f), "+S"(s), "+D"(d), "+c"(c), "+a"(a)              \
                         :                                                           \
                         : "cc", "memory");                                          \
        h = mix(mix(mix(h, c), a), f & ARITH);                                       \
        h = mix(mix(h, (uint64_t)(s - buf)), (uint64_t)(d - buf));                   \
    }

uint64_t sum_strings(void)
{
    static uint8_t buf[768];
    uint64_t h = 23;

    for (unsigned i = 0; i < sizeof(buf); i++)
        buf[i] = (uint8_t)(i * 7 % 31);
    STRING("rep movsb", 37)
    STRING("rep movsw", 11)
    STRING("rep movsl", 9)
    STRING("rep movsq", 13)
    STRING("movsb", 5)
    STRING("lodsb", 5)
    STRING("rep lodsw", 5)
    STRING("lodsq", 5)
    STRING("repe cmpsb", 64)
    STRING("repne cmpsb", 64)
    STRING("repe cmpsq", 8)
    STRING("cmpsl", 8)
    STRING("repne scasb", 64)
    STRING("repe scasw", 64)
    STRING("scasq", 3)
    STRING("rep stosb", 21)
    STRING("rep stosw", 6)
    STRING("stosl", 6)
    STRING("rep stosq", 7)
    STRING("rep movsb", 0)
    STRING("repe cmpsb", 0)
    {
        /* Overlap: a forward copy one byte up smears the first byte. */
        uint8_t *s = buf, *d = buf + 1;
        uint64_t c = 100;

        __asm__ volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(c) : : "memory");
        s = buf + 300;
        d = buf + 303;
        c = 30;
        __asm__ volatile("rep movsq" : "+S"(s), "+D"(d), "+c"(c) : : "memory");
    }
    for (unsigned i = 0; i < sizeof(buf); i++)
        h = mix(h, buf[i]);
    return h;
}

static uint64_t leaf_a(uint64_t v)
{
    return v * 3 + 1;
}
static uint64_t leaf_b(uint64_t v)
{
    return v ^ 0x5555;
}
static uint64_t leaf_c(uint64_t v)
{
    return v >> 1;
}

static __attribute__((noinline)) uint64_t depth(uint64_t n)
{
    return n ? n * 3 + depth(n - 1) : 1;
}

uint64_t sum_branches(void)
{
    static uint64_t (*volatile const table[])(uint64_t) = {leaf_a, leaf_b, leaf_c, leaf_a};
    uint64_t h = 24, v = 77, n;

    for (unsigned i = 0; i < 3000; i++)
        h = mix(h, v = table[(i * 7 + i / 5) & 3](v + i));
    h = mix(h, depth(500));
    for (unsigned i = 0; i < 300; i++)
        switch (i % 13) { /* a jump table */
        case 0:
            h = mix(h, 1);
            break;
        case 1:
            h = mix(h, i);
            break;
        case 2:
            h = mix(h, i * 2);
            break;
        case 5:
            h = mix(h, i * 5);
            break;
        case 6:
            h = mix(h, 66);
            break;
        case 9:
            h = mix(h, ~i);
            break;
        case 11:
            h = mix(h, 11);
            break;
        default:
            h = mix(h, 3);
        }
    __asm__ volatile("movl $50, %%ecx\n\txorl %k0, %k0\n1:\taddq %%rcx, %0\n\tloop 1b"
                     : "=&r"(n)
                     :
                     : "rcx", "cc");
    h = mix(h, n);
    __asm__ volatile("movl $9, %%ecx\n\txorl %k0, %k0\n"
                     "1:\tincq %0\n\tcmpq $4, %0\n\tloopne 1b\n\tpushq %%rcx\n\tpopq %0"
                     : "=&r"(n)
                     :
                     : "rcx", "cc", "memory");
    h = mix(h, n);
    __asm__ volatile("xorl %%ecx, %%ecx\n\tmovl $1, %k0\n\tjrcxz 1f\n\tmovl $2, %k0\n1:"
                     : "=&r"(n)
                     :
                     : "rcx", "cc");
    h = mix(h, n);
    __asm__ volatile("movabsq $0x100000000, %%rcx\n\tmovl $1, %k0\n\tjecxz 1f\n\tmovl $2, %k0\n1:"
                     : "=&r"(n)
                     :
                     : "rcx", "cc");
    return mix(h, n);
}

uint64_t sum_stack(void)
{
    uint64_t h = 25, a, b, c;

    __asm__ volatile("movq %%rsp, %2\n\tpushq $-3\n\tpushw $0x1234\n\tpushq %%rsp\n\t"
                     "popq %0\n\tsubq %2, %0\n\tpopw %w1\n\tpopq %1\n\tmovq %2, %%rsp"
                     : "=&r"(a), "=&r"(b), "=&r"(c)
                     :
                     : "memory", "cc");
    h = mix(mix(h, a), b);
    /* POP to memory addressed by RSP uses the RSP after the pop (SDM 2, POP). */
    __asm__ volatile("pushq $11\n\tpushq $22\n\tpushq $33\n\tpopq 8(%%rsp)\n\t"
                     "popq %0\n\tpopq %1"
                     : "=&r"(a), "=&r"(b)
                     :
                     : "memory");
    h = mix(mix(h, a), b);
    __asm__ volatile("pushq %%rbp\n\tmovq %%rsp, %%rbp\n\tenter $32, $0\n\tmovq %%rbp, %0\n\t"
                     "subq %%rsp, %0\n\tleave\n\tpopq %%rbp"
                     : "=&r"(a)
                     :
                     : "memory", "cc");
    h = mix(h, a);
    /* What POPFQ lets through: arithmetic, DF, AC, ID. */
    __asm__ volatile("pushfq\n\tpushq $0xcd5\n\tpopfq\n\tpushfq\n\tpopq %0\n\tpopfq"
                     : "=&r"(a)
                     :
                     : "memory", "cc");
    h = mix(h, a & 0xcd5);
    __asm__ volatile("movb $0xd5, %%ah\n\tsahf\n\tlahf\n\tmovq %%rax, %0\n\tstc\n\tcmc\n\tlahf"
                     : "=&r"(a), "=&a"(b)
                     : "1"(0ull)
                     : "cc");
    return mix(mix(h, a & 0xff00), b & 0xff00);
}
