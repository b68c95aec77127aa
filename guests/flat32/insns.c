/* What 32-bit code has that 64-bit code has not, or has otherwise: opcodes, addresses, stack slots,
 * strings. */
#include "guests/flat32/flat32.h"

#define CF 1u
#define AF 0x10u
#define ZF 0x40u
#define SF 0x80u
#define OF 0x800u

/* The one-byte INC and DEC: REX to 64-bit code. CF stays. */
static void inc_dec(void)
{
    uint32_t a = 0x7fffffff, d = 0, f, g;

    __asm__ volatile("stc; .byte 0x40; pushf; pop %2; .byte 0x4a; pushf; pop %3"
                     : "+a"(a), "+d"(d), "=r"(f), "=r"(g));
    check(a == 0x80000000 && (f & (OF | SF | ZF | CF)) == (OF | SF | CF), "inc eax");
    check(d == 0xffffffff && (g & (OF | SF | ZF | CF)) == (SF | CF), "dec edx");
    __asm__ volatile(".byte 0x66, 0x40" : "+a"(a)); /* inc ax */
    check(a == 0x80000001, "inc ax");
}

static void decimal(void)
{
    uint32_t a = 0x79, f;

    __asm__ volatile("add $0x35, %%al; daa; pushf; pop %1" : "+a"(a), "=r"(f));
    check(a == 0x14 && (f & CF), "daa");
    a = 0x35;
    __asm__ volatile("sub $0x47, %%al; das; pushf; pop %1" : "+a"(a), "=r"(f));
    check(a == 0x88 && (f & CF), "das");
    a = 0x0205;
    __asm__ volatile("add $9, %%al; aaa; pushf; pop %1" : "+a"(a), "=r"(f));
    check(a == 0x0304 && (f & CF), "aaa");
    a = 0x0203;
    __asm__ volatile("sub $7, %%al; aas; pushf; pop %1" : "+a"(a), "=r"(f));
    check(a == 0x0106 && (f & CF), "aas");
    a = 63;
    __asm__ volatile("aam; pushf; pop %1" : "+a"(a), "=r"(f));
    check(a == 0x0603 && !(f & ZF), "aam");
    __asm__ volatile("aad" : "+a"(a));
    check(a == 63, "aad");
    __asm__ volatile("stc; .byte 0xd6" : "+a"(a)); /* salc */
    check((uint8_t)a == 0xff, "salc");
    a = 0x12345600;
    __asm__ volatile(".byte 0x82, 0xc0, 0x7f" : "+a"(a)); /* add al, 0x7f once more */
    check(a == 0x1234567f, "82 /0");
}

static void addresses(void)
{
    volatile uint32_t *w = (uint32_t *)scratch[0];
    uint32_t at = (uint32_t)w, a, b;

    for (uint32_t i = 0; i < 64; i++)
        w[i] = i * 0x01010101;
    __asm__ volatile("mov 0x20(%1), %0" : "=r"(a) : "r"(at - 0x10));
    check(a == w[4], "[r+disp8]");
    /* Sums wrap at 4 GiB, however many times. */
    __asm__ volatile("mov -0x10(%1,%2,8), %0" : "=r"(a) : "r"(at - 0x80000000), "r"(0x10000004));
    check(a == w[4], "[r+r*8+disp] wraps");
    __asm__ volatile("mov 0x7fffff00(%1), %0" : "=r"(a) : "r"(at + 0x80000100));
    check(a == w[0], "[r+disp32] wraps");
    __asm__ volatile("lea 0x7fffff00(%1,%1,8), %0" : "=r"(a) : "r"(0x90000000));
    check(a == 0x90000000u * 9 + 0x7fffff00u, "lea wraps");
    __asm__ volatile("mov scratch+12, %0; mov scratch+16, %1" : "=r"(a), "=a"(b)); /* moffs */
    check(a == w[3] && b == w[4], "[disp32], moffs");
    __asm__ volatile("mov %%al, scratch+17" : : "a"(0x55) : "memory");
    check(w[4] == 0x04045504, "mov moffs, al");
    __asm__ volatile("xlat" : "=a"(a) : "0"(5), "b"(at));
    check(a == 1, "xlat");
    __asm__ volatile("bts %2, (%1); mov 60(%1), %0"
                     : "=r"(a)
                     : "r"(at), "r"(31 + 15 * 32)
                     : "memory");
    check(a == 0x8f0f0f0f, "bts [m], r");
    __asm__ volatile("bts %2, (%1); mov -64(%1), %0"
                     : "=r"(a)
                     : "r"(at + 128), "r"(-512)
                     : "memory");
    check(a == 0x10101011, "bts [m], -r");
    __asm__ volatile("lea -0x10(%%bx,%%si), %0" : "=r"(a) : "b"(0x5fff8), "S"(0x9));
    check(a == 0xfff1, "lea, 16-bit addresses");
}

static unsigned loops(void)
{
    unsigned n = 0, c = 7, d = 0x10003;

    __asm__ volatile("1: inc %0; loop 1b" : "+r"(n), "+c"(c));
    __asm__ volatile("1: inc %0; .byte 0x67; loop 1b" : "+r"(n), "+c"(d));
    if (d != 0x10000)
        return 0;
    __asm__ volatile("jcxz 1f; inc %0; 1: jecxz 2f; add $100, %0; 2:" : "+r"(n) : "c"(0x10000));
    return n;
}

/* A sum known from elsewhere: CRC-32 of 0, 1, ... 255. */
static uint32_t crc(void)
{
    uint32_t c = ~0u;

    for (unsigned i = 0; i < 256; i++) {
        c ^= i;
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? 0xedb88320 : 0);
    }
    return ~c;
}

static uint64_t fib(unsigned n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

void test_insns(void)
{
    inc_dec();
    decimal();
    addresses();
    check(loops() == 110, "loop, jcxz, jecxz");
    check(crc() == 0x29058c73, "crc32");
    check(fib(12) == 144, "fib");
}

/* --- the stack --- */

void test_stack(void)
{
    uint32_t *w = (uint32_t *)scratch[1], a, b;

    __asm__ volatile("mov %%esp, %%esi; mov %2, %%esp\n"
                     "mov $0x11, %%eax; mov $0x22, %%ecx; mov $0x33, %%edx; mov $0x44, %%ebx\n"
                     "push %%ebp; mov $0x55, %%ebp; pusha; xor %%ebp, %%ebp; xor %%ebx, %%ebx\n"
                     "popa; mov %%ebp, %0; mov %%ebx, %1; pop %%ebp; mov %%esi, %%esp"
                     : "=m"(w[500]), "=m"(w[501])
                     : "r"(w + 100)
                     : "eax", "ecx", "edx", "ebx", "esi", "memory");
    check(w[500] == 0x55 && w[501] == 0x44, "popa");
    check(w[98] == 0x11 && w[97] == 0x22 && w[96] == 0x33 && w[95] == 0x44 &&
              w[94] == (uint32_t)(w + 99) && w[93] == 0x55,
          "pusha");
    __asm__ volatile("mov %%esp, %%esi; mov %2, %%esp; push %%esp; pop %0; push %%esp; pop %%esp\n"
                     "mov %%esp, %1; mov %%esi, %%esp"
                     : "=&r"(a), "=&r"(b)
                     : "r"(w + 100)
                     : "esi", "memory");
    check(a == (uint32_t)(w + 100) && b == a, "push esp, pop esp");
    __asm__ volatile("mov %%esp, %%esi; mov %1, %%esp; push $-2; pushl (%%esp); popl 4(%%esp)\n"
                     "pushw $0x1234; mov %%esp, %0; popw %%ax; pop %%ecx; mov %%esi, %%esp"
                     : "=&r"(a)
                     : "r"(w + 100)
                     : "eax", "ecx", "esi", "memory");
    check(a == (uint32_t)(w + 99) - 2 && w[99] == (uint32_t)-2 && w[100] == (uint32_t)-2,
          "push imm, push [esp], pop [esp + 4], push 16 bits");
    __asm__ volatile("mov %%esp, %%esi; mov %%ebp, %%edi; mov %1, %%esp; lea 400(%%esp), %%ebp\n"
                     "movl $0x77, -4(%%ebp); enter $16, $2; mov %%esp, %0; leave\n"
                     "mov %%edi, %%ebp; mov %%esi, %%esp"
                     : "=&r"(a)
                     : "r"(w + 100)
                     : "esi", "edi", "memory");
    check(a == (uint32_t)(w + 93) && w[98] == 0x77, "enter, leave");
    __asm__ volatile("push $1; push $2; push $3; call 1f; jmp 2f; 1: ret $8; 2: pop %0" : "=r"(a));
    check(a == 1, "ret imm16");
}

/* --- strings --- */

void test_strings(void)
{
    uint8_t *p = scratch[2], *q = scratch[4];
    uint32_t si = (uint32_t)p + 3, di = (uint32_t)q + 0xfe1, n = 1500, f;

    for (unsigned i = 0; i < 8192; i++) {
        p[i] = (uint8_t)(i * 7 + (i >> 8));
        q[i] = 0;
    }
    __asm__ volatile("rep movsl" : "+S"(si), "+D"(di), "+c"(n) : : "memory");
    check(!n && si == (uint32_t)p + 6003 && di == (uint32_t)q + 0xfe1 + 6000, "rep movsd");
    check(q[0xfe0] == 0 && q[0xfe1] == p[3] && q[0x1000] == p[34] && q[0xfe1 + 5999] == p[6002] &&
              q[0xfe1 + 6000] == 0,
          "rep movsd, bytes");
    si = (uint32_t)p + 3;
    di = (uint32_t)q + 0xfe1;
    n = 7000;
    __asm__ volatile("repe cmpsb; pushf; pop %3"
                     : "+S"(si), "+D"(di), "+c"(n), "=r"(f)
                     :
                     : "memory");
    check(n == 999 && !(f & ZF) && si == (uint32_t)p + 6004, "repe cmpsb");
    di = (uint32_t)p + 8000;
    n = 9000;
    p[4000] = 0x99;
    for (unsigned i = 4001; i <= 8000; i++)
        p[i] = 1;
    __asm__ volatile("std; repne scasb; cld" : "+D"(di), "+c"(n) : "a"(0x99) : "memory");
    check(di == (uint32_t)p + 3999 && n == 9000 - 4001, "std repne scasb");
    di = (uint32_t)q;
    n = 0x10000; /* CX is 0 */
    __asm__ volatile(".byte 0x67; rep stosb" : "+D"(di), "+c"(n) : "a"(0xee) : "memory");
    check(n == 0x10000 && di == (uint32_t)q && q[0] == 0, "rep stosb, CX 0");
    di = (uint32_t)q;
    __asm__ volatile("stosl; stosb; mov $4, %%ecx; rep stosw"
                     : "+D"(di)
                     : "a"(0x31323334)
                     : "ecx", "memory");
    check(di == (uint32_t)q + 13 && q[3] == 0x31 && q[4] == 0x34 && q[12] == 0x33, "stos");
    si = (uint32_t)q;
    __asm__ volatile("lodsl" : "+S"(si), "=a"(n) : : "memory");
    check(n == 0x31323334 && si == (uint32_t)q + 4, "lodsd");
}
