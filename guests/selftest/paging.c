/* Page tables: accessed and dirty bits, WP, NX, reserved bits, remapping, aliases, crossings. */
#include "guests/selftest/selftest.h"

void try_read(void *p)
{
    uint64_t v;

    __asm__ volatile("movq (%1), %0" : "=r"(v) : "r"(p) : "memory");
}

void try_write(void *p)
{
    __asm__ volatile("movq $0x11223344, (%0)" : : "r"(p) : "memory");
}

void try_call(void *p)
{
    __asm__ volatile("call *%0" : : "r"(p) : "memory", "rax", "rcx", "rdx", "cc");
}

static uint64_t read64(const void *p)
{
    uint64_t v;

    __asm__ volatile("movq (%1), %0" : "=r"(v) : "r"(p) : "memory");
    return v;
}

static void test_accessed_dirty(void)
{
    uint8_t *p = region_map(2, 2, P | W);

    region_directory[0] &= ~(uint64_t)A;
    __asm__ volatile("movq %%cr3, %%rax\n\tmovq %%rax, %%cr3" : : : "rax", "memory");
    check_equal(region_table[2] & (A | D), 0, "A and D clear at first");
    read64(p);
    check_equal(region_table[2] & (A | D), A, "a read sets A alone");
    check(region_directory[0] & A, "A in the directory");
    try_write(p);
    check_equal(region_table[2] & (A | D), A | D, "a write sets D");
    region_table[2] &= ~(uint64_t)(A | D);
    invlpg(p);
    try_write(p);
    check_equal(region_table[2] & (A | D), A | D, "and again after INVLPG");
}

static void test_permissions(void)
{
    struct frame f;
    uint8_t *p = region_map(3, 3, P);

    check_equal(bare_try(try_read, p, &f), 0, "read-only page reads");
    check_equal(bare_try(try_write, p, &f), 1 + 14, "#PF WP write");
    check_equal(f.error, 3, "WP error code");
    check_equal(region_table[3] & D, 0, "no D from a refused write");
    write_cr0(read_cr0() & ~0x10000ull);
    check_equal(bare_try(try_write, p, &f), 0, "without WP the supervisor writes");
    write_cr0(read_cr0() | 0x10000);
    check_equal(bare_try(try_write, p, &f), 1 + 14, "WP again");

    frames[4][0] = 0xc3; /* ret */
    p = region_map(4, 4, P | W);
    check_equal(bare_try(try_call, p, &f), 0, "executable page");
    region_map(4, 4, P | W | NX);
    check_equal(bare_try(try_read, p, &f), 1 + 14, "#PF NX bit reserved without EFER.NXE");
    check_equal(f.error, 9, "its error code: reserved bit");
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
    check_equal(bare_try(try_read, p, &f), 0, "NX page reads");
    check_equal(bare_try(try_call, p, &f), 1 + 14, "#PF NX fetch");
    check_equal(f.error, 0x11, "NX error code");
    region_map(4, 4, P | W);
    check_equal(bare_try(try_call, p, &f), 0, "executable again");

    region_directory[1] = 0x2000 | 0x80 | P | W; /* 2 MiB page, bit 13 is reserved */
    check_equal(bare_try(try_read, (void *)(REGION + 0x200000), &f), 1 + 14, "#PF reserved bit");
    check_equal(f.error, 9, "reserved-bit error code");
    region_directory[1] = 0;
}

static void test_remap(void)
{
    uint8_t *p, *q;

    *(uint64_t *)frames[5] = 0x5555;
    *(uint64_t *)frames[6] = 0x6666;
    p = region_map(5, 5, P | W);
    check_equal(read64(p), 0x5555, "mapped");
    region_map(5, 6, P | W);
    check_equal(read64(p), 0x6666, "remapped after INVLPG");
    region_table[5] = (uintptr_t)frames[5] | P | W;
    __asm__ volatile("movq %%cr3, %%rax\n\tmovq %%rax, %%cr3" : : : "rax", "memory");
    check_equal(read64(p), 0x5555, "remapped after MOV CR3");

    q = region_map(6, 5, P | W);
    *(volatile uint64_t *)q = 0x7777;
    check_equal(read64(p), 0x7777, "an alias shows the write");
    check_equal(read64(frames[5]), 0x7777, "so does the identity map");

    /* Eight bytes across two pages that are not neighbours in memory. */
    p = region_map(7, 2, P | W);
    region_map(8, 6, P | W);
    *(volatile uint64_t *)(p + 4093) = 0x8877665544332211;
    check_equal(frames[2][4093] | frames[2][4095] << 8, 0x3311, "crossing write, first page");
    check_equal(frames[6][0] | frames[6][4] << 8, 0x8844, "crossing write, second page");
    check_equal(read64(p + 4093), 0x8877665544332211, "crossing read");
    __asm__ volatile("lock addq $1, (%0)" : : "r"(p + 4093) : "memory", "cc");
    check_equal(read64(p + 4093), 0x8877665544332212, "crossing locked add");
}

void test_paging(void)
{
    test_accessed_dirty();
    test_permissions();
    test_remap();
}
