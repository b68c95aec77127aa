/* Process-context identifiers (SDM 3A 4.10): two address spaces that differ in one page each,
 * switched between without a flush. What must be gone is gone; what may stay is not looked at. */
#include "guests/selftest/selftest.h"

#define PGE     (1u << 7)
#define PCIDE   (1u << 17)
#define NOFLUSH (1ull << 63)
#define G       0x100

enum { PAGE = 40, FRAME = 4, VALUE = 0x100 }; /* of the region; frame 4, 5 and 6; in the page */

static uint64_t pml4[512] __attribute__((aligned(4096)));
static uint64_t pdpt[512] __attribute__((aligned(4096)));
static uint64_t directory[512] __attribute__((aligned(4096)));
static uint64_t table[512] __attribute__((aligned(4096)));

static uint64_t *const page = (uint64_t *)(REGION + PAGE * 4096ull);

static void write_cr3(uint64_t v)
{
    __asm__ volatile("movq %0, %%cr3" : : "r"(v) : "memory");
}

static uint64_t roots[2];

/* To address space 0 or 1, PCID 1 or 2. */
static void go(unsigned space, uint64_t noflush)
{
    write_cr3(roots[space] | (space + 1) | noflush);
}

static void make(unsigned frame, uint32_t v)
{
    volatile uint8_t *f = frames[frame];

    *(volatile uint64_t *)(f + VALUE) = v;
    f[0] = 0xb8; /* mov $v, %eax; ret */
    for (unsigned i = 0; i < 4; i++)
        f[1 + i] = (uint8_t)(v >> 8 * i);
    f[5] = 0xc3;
}

/* What is seen at the page: as data and as code; ~0 when they differ. */
static uint64_t seen(void)
{
    uint64_t data = *(volatile uint64_t *)(page + VALUE / 8), code;

    __asm__ volatile("call *%1" : "=a"(code) : "r"(page) : "memory", "cc");
    return data == (uint32_t)code ? data : ~0ull;
}

static void invpcid(uint64_t type, uint64_t pcid, const void *lin)
{
    uint64_t d[2] = {pcid, (uintptr_t)lin};

    __asm__ volatile("invpcid %0, %1" : : "m"(d), "r"(type) : "memory");
}

static void test_apart(void)
{
    uint64_t bad = ~0ull;

    for (unsigned i = 0; i < 500; i++) {
        go(i & 1, i < 2 ? 0 : NOFLUSH);
        for (unsigned k = 0; k < i % 3 + 1; k++)
            if (seen() != 0x1000 + (i & 1) && bad == ~0ull)
                bad = i;
    }
    check_equal(bad, ~0ull, "two address spaces, switched between without a flush");
}

/* In space 0 the mapping of space 1 changes; then whatever how does. */
static void expect_new(unsigned how, const char *name)
{
    uint64_t bad = ~0ull;

    for (unsigned i = 0; i < 40; i++) {
        go(1, NOFLUSH);
        if (seen() != (i & 1 ? 0x1002 : 0x1001) && bad == ~0ull)
            bad = i;
        go(0, NOFLUSH);
        table[PAGE] = (uintptr_t)frames[FRAME + (i & 1 ? 1 : 2)] | P | W | A | D;
        if (how < 4)
            invpcid(how, how < 2 ? 2 : 0, how ? NULL : (uint8_t *)page + 0x123);
        else if (how == 4)
            write_cr4(read_cr4() & ~(uint64_t)PGE);
        if (how == 4)
            write_cr4(read_cr4() | PGE);
        if (seen() != 0x1000 && bad == ~0ull)
            bad = 0x100 + i;
        go(1, how == 5 ? 0 : NOFLUSH);
        if (seen() != (i & 1 ? 0x1001 : 0x1002) && bad == ~0ull)
            bad = 0x200 + i;
    }
    check_equal(bad, ~0ull, name);
}

/* INVLPG drops a global page whatever the PCID. */
static void test_global(void)
{
    uint64_t bad = ~0ull;

    region_table[PAGE] = table[PAGE] = (uintptr_t)frames[FRAME] | P | W | G;
    go(1, 0);
    go(0, 0);
    for (unsigned i = 0; i < 40; i++) {
        uint64_t pte = (uintptr_t)frames[FRAME + (i & 1)] | P | W | G;

        region_table[PAGE] = table[PAGE] = pte;
        go(i >> 1 & 1, NOFLUSH);
        invlpg(page);
        if (seen() != 0x1000 + (i & 1) && bad == ~0ull)
            bad = i;
        go(~i >> 1 & 1, NOFLUSH);
        if (seen() != 0x1000 + (i & 1) && bad == ~0ull)
            bad = 0x100 + i;
    }
    check_equal(bad, ~0ull, "INVLPG of a global page is for all PCIDs");
    region_table[PAGE] = (uintptr_t)frames[FRAME] | P | W;
    table[PAGE] = (uintptr_t)frames[FRAME + 1] | P | W;
    invlpg(page);
    go(1, 0);
    go(0, 0);
}

/* A page written to in one is executed in the other, and written to again. */
static void test_code(void)
{
    uint64_t bad = ~0ull;

    table[PAGE] = region_table[PAGE];
    go(1, 0);
    for (uint32_t i = 0; i < 300; i++) {
        uint32_t r[4];

        go(0, NOFLUSH);
        *(volatile uint32_t *)((uint8_t *)page + 1) = i;
        *(volatile uint64_t *)(page + VALUE / 8) = i;
        cpuid(0, 0, r); /* SDM 3A 8.1.3 */
        go(1, NOFLUSH);
        for (unsigned k = 0; k < 3; k++)
            if (seen() != i && bad == ~0ull)
                bad = i;
    }
    check_equal(bad, ~0ull, "code written to under another PCID");
    make(FRAME, 0x1000);
    table[PAGE] = (uintptr_t)frames[FRAME + 1] | P | W;
    go(1, 0);
    go(0, 0);
}

static void try_cr3(void *p)
{
    write_cr3((uintptr_t)p);
}
static void try_cr4(void *p)
{
    write_cr4((uintptr_t)p);
}
static const uint64_t *operands;
static void try_invpcid(void *p)
{
    invpcid((uintptr_t)p, operands[0], (const void *)(uintptr_t)operands[1]);
}

static void test_faults(bool inv)
{
    static const uint64_t good[2], reserved[2] = {0x1000, 0}, wild[2] = {0, 1ull << 60};
    static const uint64_t other[2] = {1, 0};
    uint64_t cr4 = read_cr4();
    struct frame f;

    check_equal(bare_try(try_cr3, (void *)(roots[0] | NOFLUSH), &f), 1 + 13,
                "#GP bit 63 of CR3 without PCIDE");
    write_cr3(roots[0] | 0x18);
    check_equal(bare_try(try_cr4, (void *)(cr4 | PCIDE), &f), 1 + 13,
                "#GP PCIDE with CR3 bits 3 and 4");
    write_cr3(roots[0]);
    if (!inv)
        return;
    operands = other;
    check_equal(bare_try(try_invpcid, (void *)0, &f), 1 + 13,
                "#GP INVPCID of a PCID without PCIDE");
    operands = good;
    check_equal(bare_try(try_invpcid, (void *)0, &f), 0, "INVPCID of PCID 0 without PCIDE");
    check_equal(bare_try(try_invpcid, (void *)4, &f), 1 + 13, "#GP INVPCID type 4");
    operands = reserved;
    check_equal(bare_try(try_invpcid, (void *)1, &f), 1 + 13, "#GP INVPCID bit 12");
    operands = wild;
    check_equal(bare_try(try_invpcid, (void *)0, &f), 1 + 13, "#GP INVPCID not canonical");
}

void test_pcid(void)
{
    uint64_t cr4 = read_cr4();
    bool inv = has_cpuid(7, 1, 10);

    if (!has_cpuid(1, 2, 17))
        return;
    for (unsigned i = 0; i < 512; i++) {
        pml4[i] = bare_pml4[i];
        pdpt[i] = bare_pdpt[i];
    }
    pml4[0] = (uintptr_t)pdpt | P | W;
    pdpt[REGION >> 30] = (uintptr_t)directory | P | W;
    directory[0] = (uintptr_t)table | P | W;
    roots[0] = (uintptr_t)bare_pml4;
    roots[1] = (uintptr_t)pml4;
    for (unsigned i = 0; i < 3; i++)
        make(FRAME + i, 0x1000 + i);
    region_map(PAGE, FRAME, P | W);
    table[PAGE] = (uintptr_t)frames[FRAME + 1] | P | W;
    test_faults(inv);
    write_cr4(cr4 | PGE | PCIDE);
    test_apart();
    if (inv) {
        expect_new(0, "INVPCID of an address of another PCID");
        expect_new(1, "INVPCID of another PCID");
        expect_new(2, "INVPCID of everything");
        expect_new(3, "INVPCID of all but global pages");
    }
    expect_new(4, "CR4.PGE off and on is for all PCIDs");
    expect_new(5, "MOV CR3 with bit 63 clear");
    test_global();
    test_code();
    write_cr3(roots[0]);
    write_cr4(cr4);
}
