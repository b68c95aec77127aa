#include "paging/walk.h"

#include <errno.h>

/* Bits of a paging-structure entry (SDM 3A tables 4-5 to 4-20); the same in every format. */
#define PTE_P    0x1u
#define PTE_W    0x2u
#define PTE_U    0x4u
#define PTE_PWT  0x8u
#define PTE_PCD  0x10u
#define PTE_A    0x20u
#define PTE_D    0x40u
#define PTE_PS   0x80u
#define PTE_G    0x100u
#define PTE_NX   ((uint64_t)1 << 63)
#define PTE_ADDR 0x000ffffffffff000u

#define W_CR0_WP   0x10000u
#define W_CR0_PG   0x80000000u
#define W_CR4_PSE  0x10u
#define W_CR4_PAE  0x20u
#define W_CR4_PGE  0x80u
#define W_CR4_SMEP 0x100000u
#define W_CR4_SMAP 0x200000u
#define W_EFER_LMA 0x400u
#define W_EFER_NXE 0x800u

/* One step: the entry's host location, its value, and its width. */
struct step {
    void *slot;
    gpa_t gpa;
    uint64_t val;
    bool wide;
};

static bool load_entry(struct ram *ram, gpa_t table, unsigned index, bool wide, struct step *s)
{
    s->wide = wide;
    s->gpa = table + (uint64_t)index * (wide ? 8 : 4);
    s->slot = ram_ptr(ram, s->gpa, wide ? 8 : 4);
    if (!s->slot)
        return false;
    s->val = wide ? __atomic_load_n((uint64_t *)s->slot, __ATOMIC_RELAXED)
                  : __atomic_load_n((uint32_t *)s->slot, __ATOMIC_RELAXED);
    return true;
}

/* Set bits in an entry if it is still what was walked; false: it changed, walk again. */
static bool set_bits(struct ram *ram, struct step *s, uint64_t bits)
{
    if ((s->val & bits) == bits)
        return true;
    uint64_t old64 = s->val;
    uint32_t old32 = (uint32_t)s->val;
    bool ok = s->wide
                  ? __atomic_compare_exchange_n((uint64_t *)s->slot, &old64, old64 | bits, false,
                                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
                  : __atomic_compare_exchange_n((uint32_t *)s->slot, &old32, old32 | (uint32_t)bits,
                                                false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);

    if (ok) {
        s->val |= bits;
        ram_written(ram, s->gpa, s->wide ? 8 : 4);
    }
    return ok;
}

static bool ifetch_bit(const struct walk_ctx *c)
{
    return ((c->cr4 & W_CR4_PAE) && (c->efer & W_EFER_NXE)) || (c->cr4 & W_CR4_SMEP);
}

static uint32_t error_code(const struct walk_ctx *c, unsigned acc, uint32_t more)
{
    uint32_t e = more;

    if (acc & ACC_WRITE)
        e |= PF_W;
    if (acc & ACC_USER)
        e |= PF_U;
    if ((acc & ACC_FETCH) && ifetch_bit(c))
        e |= PF_I;
    return e;
}

/* Is the access allowed by the rights collected over all levels (SDM 3A 4.6.1)? */
static bool allowed(const struct walk_ctx *c, unsigned acc, bool w, bool u, bool nx)
{
    if (acc & ACC_USER) {
        if (!u || ((acc & ACC_WRITE) && !w))
            return false;
        return !((acc & ACC_FETCH) && nx);
    }
    if (acc & ACC_FETCH)
        return !nx && !(u && (c->cr4 & W_CR4_SMEP));
    if (u && (c->cr4 & W_CR4_SMAP) && ((acc & ACC_IMPLICIT) || !c->ac))
        return false;
    return !((acc & ACC_WRITE) && !w && (c->cr0 & W_CR0_WP));
}

/* Reserved bits of a PAE or 4-level entry at level (1 = PTE .. 4 = PML4E). */
static uint64_t reserved_wide(const struct walk_ctx *c, int level, bool leaf, bool pae)
{
    uint64_t r = PTE_ADDR & ~(((uint64_t)1 << c->maxphyaddr) - 1);

    if (pae)
        r |= 0x7ff0000000000000u; /* bits 52-62: only NX above the address */
    if (!(c->efer & W_EFER_NXE))
        r |= PTE_NX;
    if (level == 4)
        r |= PTE_PS;
    if (leaf && level == 3)
        r |= 0x3fffe000u;
    if (leaf && level == 2)
        r |= 0x1fe000u;
    return r;
}

struct shape {
    int levels;
    unsigned bits; /* of index per level */
    bool wide, pae;
};

static struct shape shape_of(const struct walk_ctx *c)
{
    if (c->efer & W_EFER_LMA)
        return (struct shape){4, 9, true, false};
    if (c->cr4 & W_CR4_PAE)
        return (struct shape){2, 9, true, true};
    return (struct shape){2, 10, false, false};
}

/* Bits 13-20 of a 4 MiB PDE are address bits 32-39 (PSE-36, SDM 3A table 4-4). */
static gpa_t pse36_base(uint64_t pde)
{
    return (pde & 0xffc00000u) | (pde & 0x1fe000u) << 19;
}

static int walk_once(struct ram *ram, const struct walk_ctx *c, gva_t lin, unsigned acc,
                     bool set_ad, struct walk_result *out, uint32_t *error)
{
    struct shape sh = shape_of(c);
    struct step step[4];
    int n = 0;
    bool w = true, u = true, nx = false;
    gpa_t table = c->cr3 & (sh.wide ? PTE_ADDR : 0xfffff000u);
    int level = sh.levels;
    bool leaf;

    if (sh.pae) {
        uint64_t pdpte = c->pdpte[lin >> 30 & 3];

        if (!(pdpte & PTE_P)) {
            *error = error_code(c, acc, 0);
            return -EFAULT;
        }
        table = pdpte & PTE_ADDR;
    }
    for (;; level--) {
        unsigned shift = PAGE_SHIFT + sh.bits * (unsigned)(level - 1);
        struct step *s = &step[n++];

        if (!load_entry(ram, table, (unsigned)(lin >> shift) & ((1u << sh.bits) - 1), sh.wide, s) ||
            !(s->val & PTE_P)) {
            *error = error_code(c, acc, 0);
            return -EFAULT;
        }
        bool ps_ok = sh.wide ? level == 2 || level == 3 : level == 2 && (c->cr4 & W_CR4_PSE);

        leaf = level == 1 || (ps_ok && (s->val & PTE_PS));
        uint64_t rsvd =
            sh.wide ? reserved_wide(c, level, leaf, sh.pae) : (leaf && level == 2 ? 0x200000u : 0);

        if (s->val & rsvd) {
            *error = error_code(c, acc, PF_P | PF_RSVD);
            return -EFAULT;
        }
        w = w && (s->val & PTE_W);
        u = u && (s->val & PTE_U);
        nx = nx || (sh.wide && (s->val & PTE_NX));
        if (leaf)
            break;
        table = s->val & (sh.wide ? PTE_ADDR : 0xfffff000u);
    }
    if (!allowed(c, acc, w, u, nx)) {
        *error = error_code(c, acc, PF_P);
        return -EFAULT;
    }
    struct step *l = &step[n - 1];
    bool accessed = true;

    if (set_ad) {
        for (int i = 0; i < n - 1; i++)
            if (!set_bits(ram, &step[i], PTE_A))
                return -EAGAIN;
        if (!set_bits(ram, l, PTE_A | (acc & ACC_WRITE ? PTE_D : 0)))
            return -EAGAIN;
    }
    for (int i = 0; i < n; i++)
        accessed = accessed && (step[i].val & PTE_A);
    uint64_t size = (uint64_t)1 << (PAGE_SHIFT + sh.bits * (unsigned)(level - 1));
    gpa_t base = sh.wide ? l->val & PTE_ADDR & ~(size - 1)
                         : (level == 2 ? pse36_base(l->val) : l->val & 0xfffff000u);
    unsigned wr = (acc & (ACC_USER | ACC_IMPLICIT)) | ACC_WRITE;
    unsigned pat = level == 1 ? (l->val & PTE_PS ? 4 : 0) : (l->val & 0x1000 ? 4 : 0);

    *out = (struct walk_result){
        .gpa = base | (lin & (size - 1)),
        .page_size = size,
        .write_ok = (l->val & PTE_D) && allowed(c, wr, w, u, nx),
        .accessed = accessed,
        .user = u,
        .nx = nx,
        .global = (c->cr4 & W_CR4_PGE) && (l->val & PTE_G),
        .mem_type = (uint8_t)(pat | (l->val & PTE_PCD ? 2 : 0) | (l->val & PTE_PWT ? 1 : 0)),
    };
    return 0;
}

int walk(struct ram *ram, const struct walk_ctx *ctx, gva_t lin, unsigned acc, bool set_ad,
         struct walk_result *out, uint32_t *error)
{
    if (!(ctx->cr0 & W_CR0_PG)) {
        *out = (struct walk_result){.gpa = (uint32_t)lin,
                                    .page_size = PAGE_SIZE,
                                    .write_ok = true,
                                    .accessed = true,
                                    .user = true};
        return 0;
    }
    /* Another CPU may change an entry between the read and the A/D update; a guest that does so
     * for ever starves only itself, but bounded is bounded. */
    for (int i = 0; i < 1000; i++) {
        int r = walk_once(ram, ctx, lin, acc, set_ad, out, error);

        if (r != -EAGAIN)
            return r;
    }
    *error = error_code(ctx, acc, 0);
    return -EFAULT;
}
