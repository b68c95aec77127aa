/*
 * Self-modifying code: whatever way a byte of code changes, the next execution of it must be of the
 * new byte. Each case generates code into pages of the region (or their aliases), runs it, changes
 * it, runs it again. Cross-modification through another linear address is followed by a jump and
 * CPUID, as SDM 3A 8.1.3 asks; changes through the same address need neither on any CPU since P6.
 */
#include "guests/smc/smc.h"

static uint8_t *emit(uint8_t *p, const char *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        *p++ = (uint8_t)bytes[i];
    return p;
}
#define EMIT(p, s) ((p) = emit((p), s, sizeof(s) - 1))

/* mov $v, %eax; ret */
static void make_const(uint8_t *p, uint32_t v)
{
    p[0] = 0xb8;
    put32(p + 1, v);
    *(volatile uint8_t *)(p + 5) = 0xc3;
}

static void test_patch_other(void)
{
    uint8_t *p = region_map(0, 0, P | W);
    uint64_t bad = ~0ull;

    for (uint32_t i = 0; i < 3000; i++) {
        make_const(p + 0x100, i);
        expect_run(p + 0x100, i, &bad);
        expect_run(p + 0x100, i, &bad);
    }
    check_equal(bad, ~0ull, "a function rewritten 3000 times");

    bad = ~0ull;
    make_const(p + 0x200, 1);
    for (uint32_t i = 0; i < 2000; i++) {
        *(volatile uint8_t *)(p + 0x201) = (uint8_t)i; /* one byte of its immediate */
        expect_run(p + 0x200, i & 0xff, &bad);
    }
    check_equal(bad, ~0ull, "one byte of it patched 2000 times");

    bad = ~0ull;
    make_const(p + 0x300, 77);
    for (uint32_t i = 0; i < 5000; i++) {
        put32(p + 0x800 + i % 64 * 4, i); /* data beside code */
        if (i % 16 == 0)
            expect_run(p + 0x300, 77, &bad);
    }
    check_equal(bad, ~0ull, "data written on a page that holds code");
}

/* The store changes the instruction right behind it, in the same straight line. */
static void test_patch_next(void)
{
    uint8_t *p = region_map(1, 1, P | W), *q = p, *imm;

    EMIT(q, "\x31\xc0");                   /* xor %eax, %eax */
    EMIT(q, "\xc7\x05\0\0\0\0\x22\0\0\0"); /* movl $0x22, imm(%rip) */
    imm = q + 1;
    put32(q - 8, 1);           /* from the end of the movl to the immediate behind it */
    EMIT(q, "\xb8\x11\0\0\0"); /* mov $0x11, %eax */
    EMIT(q, "\xc3");
    check_equal(run(p), 0x22, "the next instruction patched by the one before it");
    put32(imm, 0x11);
    check_equal(run(p), 0x22, "and again");

    /* Some instructions further on, within one block. */
    q = p + 0x100;
    EMIT(q, "\xc6\x05\x0a\0\0\0\x05"); /* movb $5, 10(%rip): the add's immediate */
    EMIT(q, "\xb8\x01\0\0\0");         /* mov $1, %eax */
    EMIT(q, "\x90\x90\x90");
    EMIT(q, "\x83\xc0\x01"); /* add $1, %eax */
    EMIT(q, "\xc3");
    check_equal(run(p + 0x100), 6, "an instruction further on in the block");

    /* The loop's own body, behind the store: seen on the next turn. */
    q = p + 0x200;
    EMIT(q, "\x31\xc0");                 /* xor %eax, %eax */
    EMIT(q, "\xb9\x0a\0\0\0");           /* mov $10, %ecx */
    EMIT(q, "\x83\xc0\x01");             /* 1: add $1, %eax */
    EMIT(q, "\xfe\x05\xf9\xff\xff\xff"); /* incb -7(%rip): that 1 */
    EMIT(q, "\xff\xc9");                 /* dec %ecx */
    EMIT(q, "\x75\xf3");                 /* jnz 1b */
    EMIT(q, "\xc3");
    check_equal(run(p + 0x200), 55, "a loop that changes its own body every turn");
}

static void test_alias(void)
{
    uint8_t *p = region_map(2, 2, P), *alias = region_map(3, 2, P | W);
    uint64_t bad = ~0ull;

    for (uint32_t i = 0; i < 1000; i++) {
        make_const(alias + 0x40, i);
        serialize();
        expect_run(p + 0x40, i, &bad);
    }
    check_equal(bad, ~0ull, "patched through an alias, run where it is read-only");
    bad = ~0ull;
    for (uint32_t i = 0; i < 1000; i++) {
        make_const(frames[2] + 0x40, i ^ 0x5a5a);
        serialize();
        expect_run(p + 0x40, i ^ 0x5a5a, &bad);
        expect_run(alias + 0x40, i ^ 0x5a5a, &bad);
    }
    check_equal(bad, ~0ull, "patched through a 2 MiB page, run through two others");
}

static void test_remap(void)
{
    uint8_t *p = region_map(4, 4, P | W);
    uint64_t bad = ~0ull;

    make_const(frames[4] + 0x10, 444);
    make_const(frames[5] + 0x10, 555);
    for (uint32_t i = 0; i < 1000; i++) {
        region_map(4, 4 + (i & 1), P | W);
        expect_run(p + 0x10, i & 1 ? 555 : 444, &bad);
    }
    check_equal(bad, ~0ull, "another page mapped under the same address");
    bad = ~0ull;
    for (uint32_t i = 0; i < 200; i++) {
        region_table[4] = (uintptr_t)frames[4 + (i & 1)] | P | W;
        __asm__ volatile("movq %%cr3, %%rax\n\tmovq %%rax, %%cr3" : : : "rax", "memory");
        expect_run(p + 0x10, i & 1 ? 555 : 444, &bad);
    }
    check_equal(bad, ~0ull, "the same by MOV CR3");
}

static void test_string_stores(void)
{
    uint8_t *p = region_map(6, 6, P | W), *d = p;
    const uint8_t *s;
    uint64_t c = 64;
    static const uint8_t body[] = {0xb8, 0x21, 0x43, 0, 0, 0xc3};

    make_const(p, 1);
    make_const(p + 0x20, 2);
    check_equal(run(p) + run(p + 0x20), 3, "two functions");
    /* REP STOS of "inc %eax" pairs over both, then a RET behind them. */
    __asm__ volatile("rep stosw" : "+D"(d), "+c"(c) : "a"(0xc0ff) : "memory");
    *(volatile uint8_t *)(p + 128) = 0xc3;
    {
        uint64_t r;

        __asm__ volatile("call *%1" : "=a"(r) : "r"(p), "0"(0) : "memory", "cc");
        check_equal(r, 64, "REP STOS over code");
    }
    d = p;
    s = body;
    c = sizeof(body);
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(c) : : "memory");
    check_equal(run(p), 0x4321, "REP MOVS over code");

    /* A REP STOSB that overwrites what follows itself: the NOPs it writes are what runs. */
    uint8_t *q = p + 0x400;

    EMIT(q, "\x48\x8d\x3d\x0b\0\0\0"); /* lea 11(%rip), %rdi: behind the stosb */
    EMIT(q, "\xb9\x05\0\0\0");         /* mov $5, %ecx */
    EMIT(q, "\xb0\x90");               /* mov $0x90, %al */
    EMIT(q, "\x31\xd2");               /* xor %edx, %edx */
    EMIT(q, "\xf3\xaa");               /* rep stosb */
    EMIT(q, "\xba\x63\0\0\0");         /* mov $99, %edx: gone */
    EMIT(q, "\x89\xd0\xc3");           /* mov %edx, %eax; ret */
    check_equal(run(p + 0x400), 0, "REP STOS over the instruction behind it");
}

static void test_other_stores(void)
{
    uint8_t *p = region_map(7, 7, P | W);
    uint64_t old;

    make_const(p, 0x11111111);
    check_equal(run(p), 0x11111111, "before");
    __asm__ volatile("lock xaddl %%eax, 1(%1)" : "=a"(old) : "r"(p), "0"(1) : "memory", "cc");
    check_equal(run(p), 0x11111112, "LOCK XADD on code");
    __asm__ volatile("lock cmpxchgl %2, 1(%1)"
                     : "=a"(old)
                     : "r"(p), "r"(0x33333333), "0"(0x11111112)
                     : "memory", "cc");
    check_equal(run(p), 0x33333333, "LOCK CMPXCHG on code");
    __asm__ volatile("btsl $31, 1(%0)" : : "r"(p) : "memory", "cc");
    check_equal(run(p), 0xb3333333, "BTS on code");
    __asm__ volatile("movq %%rsp, %%rcx\n\tleaq 9(%0), %%rsp\n\tpushq %1\n\tmovq %%rcx, %%rsp"
                     :
                     : "r"(p), "r"(0x909090c377777777)
                     : "rcx", "memory");
    check_equal(run(p), 0x77777777, "PUSH on code");
    *(volatile uint16_t *)(p + 2) = 0x4444;
    check_equal(run(p), 0x77444477, "a 16-bit store into the middle");

    /* A call whose return address lands on code. */
    make_const(p + 0x80, 0x55);
    make_const(p + 0x88, 0x66);
    check_equal(run(p + 0x80) + run(p + 0x88), 0xbb, "two more");
    __asm__ volatile("movq %%rsp, %%rbx\n\tleaq 0x90(%0), %%rsp\n\tcall 1f\n1:\tmovq %%rbx, %%rsp"
                     :
                     : "r"(p)
                     : "rbx", "memory");
    check(*(uint64_t *)(p + 0x88) != 0x66b8 && run(p + 0x80) == 0x55, "CALL pushed on code");
    make_const(p + 0x88, 0x99);
    check_equal(run(p + 0x88), 0x99, "and the code written again");
}

/* An instruction across two pages; each half changes. */
static void test_straddle(void)
{
    uint8_t *p = region_map(8, 0, P | W);
    uint64_t bad = ~0ull;

    region_map(9, 5, P | W);
    make_const(p + 4096 - 3, 0);
    for (uint32_t i = 0; i < 500; i++) {
        *(volatile uint8_t *)(p + 4096) = (uint8_t)i;      /* byte 2 of the immediate */
        *(volatile uint8_t *)(p + 4096 - 1) = (uint8_t)~i; /* byte 1 */
        expect_run(p + 4096 - 3, (uint32_t)(i & 0xff) << 16 | (~i & 0xff) << 8, &bad);
    }
    check_equal(bad, ~0ull, "an instruction across pages, both halves patched");
    region_map(9, 6, P | W); /* the second page is another one now */
    frames[6][0] = 0xab;
    frames[6][1] = 0xcd;
    frames[6][2] = 0xc3;
    check_equal(run(p + 4096 - 3) >> 16, 0xcdab, "its second page remapped");
}

/* Direct jumps and calls between blocks, retargeted: chains must break. */
static void test_retarget(void)
{
    uint8_t *p = region_map(10, 1, P | W), *q = p;
    uint64_t bad = ~0ull;

    EMIT(q, "\xe9\0\0\0\0"); /* jmp */
    make_const(p + 0x100, 100);
    make_const(p + 0x200, 200);
    for (uint32_t i = 0; i < 1000; i++) {
        put32(p + 1, i & 1 ? 0x200 - 5 : 0x100 - 5);
        expect_run(p, i & 1 ? 200 : 100, &bad);
    }
    check_equal(bad, ~0ull, "a direct jump retargeted");
    bad = ~0ull;
    for (uint32_t i = 0; i < 1000; i++) {
        put32(p + 0x101, i); /* what a chained jump leads to */
        put32(p + 1, 0x100 - 5);
        expect_run(p, i, &bad);
    }
    check_equal(bad, ~0ull, "the target of a direct jump rewritten");
}

static volatile unsigned breakpoints;
static uint8_t *broken;

static void on_int3(struct frame *f)
{
    breakpoints++;
    *(volatile uint8_t *)broken = 0xb8;
    f->rip--;
}

/* The kernel's way to patch: INT3 first, the tail, then the first byte. */
static void test_int3(void)
{
    uint8_t *p = region_map(11, 2, P | W) + 0x800;
    uint64_t bad = ~0ull;

    bare_on(3, on_int3);
    make_const(p, 0);
    broken = p;
    for (uint32_t i = 0; i < 300; i++) {
        *(volatile uint8_t *)p = 0xcc;
        put32(p + 1, i);
        expect_run(p, i, &bad); /* the handler puts the first byte back */
    }
    check_equal(bad, ~0ull, "INT3 over the first byte, then put back");
    check_equal(breakpoints, 300, "every INT3 was met");
    bare_on(3, NULL);
}

static void store8(void *p)
{
    *(volatile uint64_t *)p = ~0ull;
}

/* A store that changes code and faults on its second page changes nothing. */
static void test_fault(void)
{
    struct frame f;
    uint8_t *p = region_map(12, 3, P | W);

    region_unmap(13);
    make_const(p + 4096 - 8, 0x1234);
    check_equal(run(p + 4096 - 8), 0x1234, "before the fault");
    check_equal(bare_try(store8, p + 4096 - 4, &f), 1 + 14, "a store over code that faults");
    check_equal(run(p + 4096 - 8), 0x1234, "changed nothing");
}

void bare_main(void)
{
    region_init();
    test_patch_other();
    test_patch_next();
    test_alias();
    test_remap();
    test_string_stores();
    test_other_stores();
    test_straddle();
    test_retarget();
    test_int3();
    test_fault();
    test_elsewhere();
    test_stale();
}
