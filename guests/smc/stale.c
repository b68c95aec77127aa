/*
 * What was translated while the guest left mappings and rights in between: good for just as long.
 */
#include "guests/smc/smc.h"

enum { PAGE = 40, OTHER = 41, USER = 42, CODE = 43 }; /* of the region */

static void put(uint8_t *p, const char *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (uint8_t)bytes[i];
}
#define PUT(p, s) put(p, s, sizeof(s) - 1)

static uint64_t way(const uint8_t *p, uint64_t n)
{
    uint64_t got;

    __asm__ volatile("call *%1" : "=a"(got) : "r"(p), "D"(n) : "memory", "cc");
    return got;
}

/* A branch within a page, first taken after the page was mapped to another frame without INVLPG:
 * where it went then says nothing about where it goes once the old mapping is back. */
static void test_unflushed(void)
{
    /* Of the same slot in a TLB of up to 4096 entries. */
    uint8_t *rival = (uint8_t *)0x1000000 + PAGE * 4096;
    uint8_t *p = region_map(PAGE, 4, P), *q = region_map(OTHER, 5, P);
    uint64_t bad = ~0ull, got;

    for (unsigned k = 4; k < 6; k++) {
        PUT(frames[k], "\x85\xff"                 /* test %edi, %edi */
                       "\x0f\x84\xf8\x00\x00\x00" /* jz 0x100 */
                       "\xb8\x01\x00\x00\x00"     /* mov $1, %eax */
                       "\xc3");
        PUT(frames[k] + 0x100, "\xb8\x04\x00\x00\x00\xc3"); /* mov $4, %eax; ret */
        frames[k][0x101] = (uint8_t)k;
    }
    for (unsigned i = 0; i < 64; i++)
        PUT(rival + i * 64, "\xc3");
    serialize();
    for (unsigned i = 0; i < 50; i++) {
        expect_run(q + 0x100, 5, &bad);
        if (way(p, 1) != 1)
            bad = i;
    }
    check_equal(bad, ~0ull, "two frames alike");
    region_table[PAGE] = (uintptr_t)frames[5] | P;
    for (unsigned i = 0; i < 64; i++)
        run(rival + i * 64);
    got = way(p, 0);
    check(got == 4 || got == 5, "one mapped for the other, the old mapping may still be used");
    region_map(PAGE, 4, P);
    bad = ~0ull;
    for (unsigned i = 0; i < 50; i++)
        if (way(p, 0) != 4 && bad == ~0ull)
            bad = i;
    check_equal(bad, ~0ull, "back again, with INVLPG");
}

static void with_ac(void *p)
{
    uint64_t rax;

    __asm__ volatile("call *%1"
                     : "=a"(rax)
                     : "r"(p), "D"(1ull), "S"(REGION + USER * 4096ull)
                     : "memory", "cc");
}

/* STAC, and CLAC by code that has not run before: what returns from there has no access. */
static void test_smap(void)
{
    uint8_t *p = region_map(CODE, 6, P);
    const uint8_t *user = region_map(USER, 7, P | W | U);
    uint64_t cr4 = read_cr4(), rax;
    struct frame f;
    uint32_t r[4];

    cpuid(7, 0, r);
    if (!(r[1] >> 20 & 1))
        return;
    PUT(frames[6], "\x0f\x01\xcb"                   /* stac */
                   "\x48\x8b\x06"                   /* mov (%rsi), %rax */
                   "\x85\xff"                       /* test %edi, %edi */
                   "\x74\x08"                       /* jz 0x12 */
                   "\xe8\xf1\x02\x00\x00"           /* call 0x300 */
                   "\x48\x8b\x06"                   /* mov (%rsi), %rax */
                   "\x0f\x01\xca\xc3");             /* clac; ret */
    PUT(frames[6] + 0x200, "\xc3");                 /* ret */
    PUT(frames[6] + 0x300, "\x0f\x01\xca"           /* clac */
                           "\xe9\xf8\xfe\xff\xff"); /* jmp 0x200 */
    serialize();
    write_cr4(cr4 | 1 << 21);
    for (unsigned i = 0; i < 100; i++) {
        run(p + 0x200);
        __asm__ volatile("call *%1" : "=a"(rax) : "r"(p), "D"(0ull), "S"(user) : "memory", "cc");
    }
    check_equal(bare_try(with_ac, p, &f), 1 + 14, "#PF SMAP after a call that ended with CLAC");
    check_equal(f.rip, (uintptr_t)p + 0xf, "its RIP");
    write_cr4(cr4);
}

/* %rdi 0: STAC, CLAC; 1: in between, without CR0.TS, calls %rsi, and sets TS afterwards; 2: calls
 * it as TS is. */
static void with_ts(void *p)
{
    const uint64_t *e = p;

    __asm__ volatile("call *%0" : : "r"(e[0]), "D"(e[1]), "S"(e[2]) : "rax", "memory", "cc");
}

/* SSE called with AC set when TS allowed it: no more when TS does not. */
static void test_ts(void)
{
    uint8_t *p = region_map(CODE, 6, P);
    uint64_t cr0 = read_cr0(), e[3] = {(uintptr_t)p + 0x400, 0, (uintptr_t)p + 0x500}, bad = 0;
    struct frame f;
    uint32_t r[4];

    cpuid(7, 0, r);
    if (!(r[1] >> 20 & 1))
        return;
    PUT(frames[6] + 0x400, "\x0f\x01\xcb"       /* stac */
                           "\x85\xff"           /* test %edi, %edi */
                           "\x74\x07"           /* jz 0x40e */
                           "\x83\xff\x01"       /* cmp $1, %edi */
                           "\x74\x16"           /* jz 0x422 */
                           "\xff\xd6"           /* call *%rsi */
                           "\x0f\x01\xca"       /* clac */
                           "\x83\xff\x01"       /* cmp $1, %edi */
                           "\x75\x0b"           /* jnz 0x421 */
                           "\x0f\x20\xc0"       /* mov %cr0, %rax */
                           "\x48\x83\xc8\x08"   /* or $8, %rax */
                           "\x90"               /* nop */
                           "\x0f\x22\xc0"       /* mov %rax, %cr0 */
                           "\xc3"               /* ret */
                           "\x0f\x06"           /* clts */
                           "\xff\xd6"           /* call *%rsi */
                           "\xeb\xe6");         /* jmp 0x40e */
    PUT(frames[6] + 0x500, "\x0f\x57\xc0\xc3"); /* xorps %xmm0, %xmm0; ret */
    serialize();
    write_cr4(read_cr4() | 1 << 21);
    write_cr0(cr0 | 8);
    for (unsigned i = 0; i < 200; i++) {
        e[1] = i / 100;
        bad += bare_try(with_ts, e, &f) != 0;
    }
    check_equal(bad, 0, "SSE with AC set and TS clear");
    e[1] = 2;
    check_equal(bare_try(with_ts, e, &f), 1 + 7, "#NM with AC and TS set");
    write_cr0(cr0);
    write_cr4(read_cr4() & ~(1ull << 21));
}

void test_stale(void)
{
    test_unflushed();
    test_smap();
    test_ts();
}
