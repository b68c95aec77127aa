/* Page-table walks: every rule of SDM 3A chapter 4 that walk() knows, against tables made here. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include "paging/walk.h"

enum {
    P = 1,
    W = 2,
    U = 4,
    PWT = 8,
    PCD = 0x10,
    A = 0x20,
    D = 0x40,
    PS = 0x80,
    G = 0x100,
    FULL = P | W | U
};
#define NX       ((uint64_t)1 << 63)
#define WP       0x10000u
#define PG       0x80000000u
#define PSE      0x10u
#define PAE      0x20u
#define PGE      0x80u
#define SMEP     0x100000u
#define SMAP     0x200000u
#define NXE      0x800u
#define LMA      0x400u
#define MAXPHY   46u
#define PAGE_GPA 0x5000u

static struct ram ram;
static struct walk_ctx c;
static struct walk_result r;
static uint32_t error;

/* Level n's table is at n * 0x1000 (1: the page table), and the entry used is its second. */
static uint64_t *wide(int level)
{
    return (uint64_t *)ram_ptr(&ram, (uint64_t)level * 0x1000, 0x1000) + 1;
}
static uint32_t *narrow(int level)
{
    return (uint32_t *)ram_ptr(&ram, (uint64_t)level * 0x1000, 0x1000) + 1;
}
#define LIN_LONG  ((1ull << 39 | 1ull << 30 | 1ull << 21 | 1ull << 12) + 0x123)
#define LIN_PAE   (1ull << 30 | 1ull << 21 | 1ull << 12 | 0x123)
#define LIN_PLAIN (1ull << 22 | 1ull << 12 | 0x123)

static void setup(void)
{
    cr_assert_eq(ram_create(&ram, 16 * MIB), 0);
}
static void teardown(void)
{
    ram_destroy(&ram);
}
TestSuite(walk, .init = setup, .fini = teardown);

static void long_mode(void)
{
    c = (struct walk_ctx){
        .cr0 = PG | WP, .cr3 = 0x4000, .cr4 = PAE | PGE, .efer = LMA | NXE, .maxphyaddr = MAXPHY};
    for (int level = 4; level > 1; level--)
        *wide(level) = (uint64_t)(level - 1) * 0x1000 | FULL;
    *wide(1) = PAGE_GPA | FULL;
}
static void pae_mode(void)
{
    c = (struct walk_ctx){.cr0 = PG | WP,
                          .cr4 = PAE | PGE,
                          .efer = NXE,
                          .pdpte = {[1] = 0x2000 | P},
                          .maxphyaddr = MAXPHY};
    *wide(2) = 0x1000 | FULL;
    *wide(1) = PAGE_GPA | FULL;
}
static void plain_mode(void)
{
    c = (struct walk_ctx){.cr0 = PG | WP, .cr3 = 0x2000, .cr4 = PSE | PGE, .maxphyaddr = MAXPHY};
    *narrow(2) = 0x1000 | FULL;
    *narrow(1) = PAGE_GPA | FULL;
}

static int go(gva_t lin, unsigned acc)
{
    error = 0xdead;
    return walk(&ram, &c, lin, acc, false, &r, &error);
}

/* 4.6.1, what the whole of the tables grants: w, u, nx. */
static bool granted(unsigned acc, bool w, bool u, bool nx)
{
    bool smap = c.cr4 & SMAP && !(c.ac && !(acc & ACC_IMPLICIT));

    switch (acc & ~(unsigned)ACC_IMPLICIT) {
    case ACC_READ:
        return !(u && smap);
    case ACC_WRITE:
        return !(u && smap) && (w || !(c.cr0 & WP));
    case ACC_FETCH:
        return !nx && !(u && c.cr4 & SMEP);
    case ACC_USER:
        return u;
    case ACC_USER | ACC_WRITE:
        return u && w;
    default: /* ACC_USER | ACC_FETCH */
        return u && !nx;
    }
}

/* 4.7 */
static uint32_t code(unsigned acc, uint32_t more)
{
    bool fetch = acc & ACC_FETCH && ((c.cr4 & PAE && c.efer & NXE) || c.cr4 & SMEP);

    return more | (acc & ACC_WRITE ? PF_W : 0u) | (acc & ACC_USER ? PF_U : 0u) |
           (fetch ? PF_I : 0u);
}

static const unsigned accesses[] = {ACC_READ,
                                    ACC_WRITE,
                                    ACC_FETCH,
                                    ACC_READ | ACC_IMPLICIT,
                                    ACC_WRITE | ACC_IMPLICIT,
                                    ACC_USER,
                                    ACC_USER | ACC_WRITE,
                                    ACC_USER | ACC_FETCH};
#define ACCESSES (sizeof accesses / sizeof *accesses)

/* Every right taken away at every level, under every setting, for every kind of access. */
Test(walk, rights)
{
    long_mode();
    for (unsigned mode = 0; mode < 16; mode++) {
        c.cr0 = PG | (mode & 1 ? WP : 0);
        c.cr4 = PAE | PGE | (mode & 2 ? SMEP : 0) | (mode & 4 ? SMAP : 0);
        c.ac = mode & 8;
        for (unsigned taken = 0; taken < 1u << 12; taken++) {
            bool w = true, u = true, nx = false;

            for (int level = 1; level <= 4; level++) {
                unsigned t = taken >> 3 * (level - 1);

                *wide(level) = (*wide(level) & ~(NX | FULL)) | P | (t & 1 ? 0 : W) |
                               (t & 2 ? 0 : U) | (t & 4 ? NX : 0);
                w &= !(t & 1);
                u &= !(t & 2);
                nx |= t & 4;
            }
            for (unsigned i = 0; i < ACCESSES; i++) {
                bool yes = granted(accesses[i], w, u, nx);
                int e = go(LIN_LONG, accesses[i]);

                cr_assert_eq(e, yes ? 0 : -EFAULT, "mode %u, taken %#x, access %u", mode, taken,
                             accesses[i]);
                if (!yes)
                    cr_assert_eq(error, code(accesses[i], PF_P),
                                 "mode %u, taken %#x, access %u: "
                                 "%#x",
                                 mode, taken, accesses[i], error);
                else
                    cr_assert(r.gpa == PAGE_GPA + 0x123 && r.user == u && r.nx == nx);
            }
        }
    }
}

Test(walk, not_present)
{
    for (int mode = 0; mode < 3; mode++) {
        gva_t lin = mode == 0 ? LIN_LONG : mode == 1 ? LIN_PAE : LIN_PLAIN;

        for (int level = mode ? 2 : 4; level; level--) {
            mode == 0 ? long_mode() : mode == 1 ? pae_mode() : plain_mode();
            cr_assert_eq(go(lin, ACC_READ), 0);
            if (mode == 2)
                *narrow(level) &= ~(uint32_t)P;
            else
                *wide(level) &= ~(uint64_t)P;
            for (unsigned i = 0; i < ACCESSES; i++) {
                cr_expect_eq(go(lin, accesses[i]), -EFAULT);
                cr_expect_eq(error, code(accesses[i], 0));
            }
        }
    }
    pae_mode();
    c.pdpte[1] = 0;
    cr_expect(go(LIN_PAE, ACC_READ) == -EFAULT && error == 0);
    /* A table beyond RAM. */
    long_mode();
    *wide(3) = 1ull << 40 | FULL;
    cr_expect(go(LIN_LONG, ACC_USER) == -EFAULT && error == PF_U);
}

/* Tables 4-15 to 4-20, 4-8 to 4-11, 4-4: bits that must be 0. */
Test(walk, reserved)
{
    struct {
        int mode, level;
        uint64_t set;
        bool fault;
    } t[] = {
        {0, 4, PS, true},
        {0, 4, 1ull << MAXPHY, true},
        {0, 1, 1ull << MAXPHY, true},
        {0, 1, 1ull << 51, true},
        {0, 1, 1ull << 52, false}, /* ignored */
        {0, 2, 1ull << 62, false},
        {0, 3, 1ull << 51, true},
        {0, 2, PS | 1u << 13, true},
        {0, 2, PS | 1u << 20, true},
        {0, 2, PS | 1u << 12, false}, /* PAT */
        {0, 3, PS | 1u << 13, true},
        {0, 3, PS | 1u << 21, true},
        {0, 3, PS | 1u << 29, true},
        {0, 3, PS | 1u << 12, false},
        {1, 1, 1ull << 52, true},
        {1, 2, 1ull << 62, true},
        {1, 1, NX, false},
        {1, 2, PS | 1u << 13, true},
        {2, 2, PS | 1u << 21, true},
        {2, 2, PS | 1u << 13, false}, /* PSE-36 */
    };

    for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
        t[i].mode == 0 ? long_mode() : t[i].mode == 1 ? pae_mode() : plain_mode();
        uint64_t at = t[i].set & PS ? 0 : t[i].mode == 2 ? *narrow(t[i].level) : *wide(t[i].level);

        if (t[i].mode == 2)
            *narrow(t[i].level) = (uint32_t)(at | FULL | t[i].set);
        else
            *wide(t[i].level) = at | FULL | t[i].set;
        int e = go(t[i].mode == 0 ? LIN_LONG : t[i].mode == 1 ? LIN_PAE : LIN_PLAIN, ACC_READ);

        cr_expect_eq(e, t[i].fault ? -EFAULT : 0, "row %u: %d", i, e);
        if (t[i].fault)
            cr_expect_eq(error, PF_P | PF_RSVD, "row %u: %#x", i, error);
    }
    /* NX without EFER.NXE, at every level. */
    for (int level = 1; level <= 4; level++) {
        long_mode();
        c.efer = LMA;
        *wide(level) |= NX;
        cr_expect(go(LIN_LONG, ACC_USER | ACC_FETCH) == -EFAULT &&
                  error == (PF_P | PF_RSVD | PF_U));
    }
}

Test(walk, sizes)
{
    long_mode();
    cr_expect(!go(LIN_LONG, ACC_READ) && r.page_size == 4096 && r.gpa == PAGE_GPA + 0x123);
    *wide(2) = 0x600000 | PS | FULL;
    cr_expect(!go(LIN_LONG, ACC_READ) && r.page_size == 2 * MIB && r.gpa == 0x601123);
    *wide(3) = 0x80000000 | PS | FULL;
    cr_expect(!go(LIN_LONG, ACC_READ) && r.page_size == 1024 * MIB && r.gpa == 0x80201123);
    pae_mode();
    cr_expect(!go(LIN_PAE, ACC_READ) && r.page_size == 4096 && r.gpa == PAGE_GPA + 0x123);
    *wide(2) = 0x600000 | PS | FULL;
    cr_expect(!go(LIN_PAE, ACC_READ) && r.page_size == 2 * MIB && r.gpa == 0x601123);
    plain_mode();
    cr_expect(!go(LIN_PLAIN, ACC_READ) && r.page_size == 4096 && r.gpa == PAGE_GPA + 0x123);
    *narrow(2) = 0x800000 | 5u << 13 | PS | FULL;
    cr_expect(!go(LIN_PLAIN, ACC_READ) && r.page_size == 4 * MIB && r.gpa == 0x500801123);
    c.cr4 = 0; /* without PSE the bit means nothing, and the entry names a table */
    *narrow(2) = 0x1000 | PS | FULL;
    cr_expect(!go(LIN_PLAIN, ACC_READ) && r.page_size == 4096 && r.gpa == PAGE_GPA + 0x123);
    c.cr0 = 0;
    cr_expect(!go(0x100000000 + LIN_PLAIN, ACC_USER | ACC_WRITE) && r.gpa == LIN_PLAIN);
}

/* 4.8: A in every entry, D in the last one by a write; nothing by a walk that only looks. */
Test(walk, accessed_and_dirty)
{
    long_mode();
    cr_expect(!go(LIN_LONG, ACC_WRITE) && !r.accessed && !r.write_ok);
    for (int level = 1; level <= 4; level++)
        cr_expect_eq(*wide(level) & (A | D), 0);
    cr_expect(!walk(&ram, &c, LIN_LONG, ACC_READ, true, &r, &error) && r.accessed && !r.write_ok);
    for (int level = 1; level <= 4; level++)
        cr_expect_eq(*wide(level) & (A | D), A);
    cr_expect(!walk(&ram, &c, LIN_LONG, ACC_WRITE, true, &r, &error) && r.write_ok);
    for (int level = 1; level <= 4; level++)
        cr_expect_eq(*wide(level) & (A | D), level == 1 ? A | D : A);
    /* Dirty, but not to be written. */
    *wide(2) &= ~(uint64_t)W;
    cr_expect(!go(LIN_LONG, ACC_READ) && !r.write_ok);
    c.cr0 = PG;
    cr_expect(!go(LIN_LONG, ACC_READ) && r.write_ok);
    cr_expect(!go(LIN_LONG, ACC_USER) && !r.write_ok);
    /* A fault sets nothing. */
    long_mode();
    *wide(1) &= ~(uint64_t)U;
    cr_expect(walk(&ram, &c, LIN_LONG, ACC_USER, true, &r, &error) == -EFAULT);
    for (int level = 1; level <= 4; level++)
        cr_expect_eq(*wide(level) & (A | D), 0);
}

Test(walk, global_and_memory_type)
{
    long_mode();
    for (unsigned i = 0; i < 8; i++) {
        *wide(1) = PAGE_GPA | FULL | (i & 4 ? PS : 0) | (i & 2 ? PCD : 0) | (i & 1 ? PWT : 0);
        cr_expect(!go(LIN_LONG, ACC_READ) && r.mem_type == i && !r.global);
    }
    *wide(1) |= G;
    cr_expect(!go(LIN_LONG, ACC_READ) && r.global);
    c.cr4 = PAE;
    cr_expect(!go(LIN_LONG, ACC_READ) && !r.global);
    *wide(2) = 0x600000 | PS | FULL | 0x1000 | PWT;
    cr_expect(!go(LIN_LONG, ACC_READ) && r.mem_type == 5);
}
