/* Operands of vector and x87 instructions, and of those that save and restore their state. */
#include "tests/fuzz_place.h"

static void mask(struct place *p, uint64_t va, unsigned len)
{
    struct fz_case *c = p->c;

    if (c->nmask < 4) {
        c->mask[c->nmask].va = va;
        c->mask[c->nmask++].len = len;
    }
}

/* A store that raises an unmasked exception makes no access, so its operand raises no fault; or it
 * does, the other way round. */
static void all_masked(struct fz_state *s)
{
    s->xsave[0] |= 0x3f;
    s->xsave[2] &= 0x7f;
    s->xsave[3] &= 0x7f;
    s->xsave[24] |= 0x80;
    s->xsave[25] |= 0x1f;
}

/* Not across the end of the lower half: whether such an operand is seen whole or in parts differs.
 */
static uint64_t parts_target(struct place *p, unsigned size, unsigned align)
{
    uint64_t t;

    do
        t = fz_target(p->c, p->r, size, align);
    while (t >> 12 == 0x7ffffffff);
    return t;
}

bool fzp_vec(struct place *p)
{
    struct insn *in = fzp_insn(p);
    unsigned size = in->mem_size, align;
    uint32_t mxcsr;

    if (!in->has_mem)
        return true;
    align = in->info->flags & OF_ALIGN16 ? size : fz_pct(p->r, 50) ? size : 1;
    if (align & (align - 1))
        align = 1;
    if (p->c->sequence && in->mem_write && in->seg == SEG_CS)
        return false; /* #GP, if it does make the access */
    if (!fzp_mem(p, size == 10 ? parts_target(p, size, align) : fz_target(p->c, p->r, size, align),
                 size))
        return false;
    if (in->mem_write && (!fz_data_free(p->c, fzp_placed(p), size) || in->seg == SEG_CS))
        all_masked(&p->c->st);
    if (in->map == 1 && in->opcode == 0xae && (in->reg & 7) == 2) { /* LDMXCSR */
        mxcsr = 0x1f80 | ((uint32_t)fz_rnd(p->r) & (fz_pct(p->r, 90) ? 0xe07f : 0xffffffff));
        fz_poke(p->c, fzp_placed(p), &mxcsr, 4);
    }
    return true;
}

/* A vector register's element e of size bytes. */
static void set_element(struct fz_case *c, unsigned reg, unsigned e, unsigned size, uint64_t val)
{
    unsigned at = e * size;

    memcpy(c->st.xsave + (at < 16 ? 160 : 576 - 16) + 16 * reg + at, &val, size);
}

static bool gather(struct place *p)
{
    struct insn *in = fzp_insn(p);
    struct fz_case *c = p->c;
    unsigned isize = in->opcode & 1 ? 8 : 4, size = in->vex_w ? 8 : 4;
    uint64_t t = FZ_DATA + 0x800 + fz_below(p->r, 0xf00), base;

    if (c->sequence)
        return false; /* its index would have to be known */
    for (unsigned e = 0; e < 32 / isize; e++) {
        int64_t at = (int64_t)fz_below(p->r, 0x400);

        if (fz_pct(p->r, 50))
            at = -at;
        if (fz_pct(p->r, 2))
            at = (int64_t)fz_interesting(p->r);
        set_element(c, in->index, e, isize, (uint64_t)(at >> in->scale));
    }
    for (unsigned e = 0; e < 32 / size; e++)
        set_element(c, in->vex_vvvv, e, size, fz_pct(p->r, 75) ? ~(uint64_t)0 : fz_rnd(p->r) >> 1);
    base = t - fzp_seg_base(p, in->seg);
    if (in->base == REG_NONE)
        return fzp_disp(p, base);
    return in->base != BASE_RIP && fzp_set(p, in->base, fzp_widen(p, base - (uint64_t)in->disp));
}

/* --- saved images --- */

static void xrstor_image(struct place *p, uint64_t va, bool compact)
{
    uint8_t img[XSAVE_AREA_SIZE];
    uint64_t bv = fz_below(p->r, 8), comp = 0;
    uint32_t mxcsr = 0x1f80 | (uint32_t)(fz_rnd(p->r) & 0xe07f);

    memcpy(img, p->c->st.xsave, sizeof(img));
    for (unsigned i = 160; i < sizeof(img); i++)
        if (i < 512 || i >= 576)
            img[i] ^= (uint8_t)i;
    if (compact || fz_pct(p->r, 10)) {
        p->c->no_native |= !fz_guest_xsavec();
        comp = (uint64_t)1 << 63 | bv | fz_below(p->r, 8);
    }
    if (fz_pct(p->r, 3))
        bv |= (uint64_t)1 << 50;
    if (fz_pct(p->r, 3))
        mxcsr |= 1u << 31;
    memset(img + 512, 0, 64);
    if (fz_pct(p->r, 3))
        img[512 + 16 + fz_below(p->r, 48)] = 1;
    memcpy(img + 512, &bv, 8);
    memcpy(img + 520, &comp, 8);
    memcpy(img + 24, &mxcsr, 4);
    memset(img + 6, 0, 18);
    if (fz_data_free(p->c, va, sizeof(img))) {
        fz_poke(p->c, va, img, sizeof(img));
        return;
    }
    /* Part of it faults; let nothing else be wrong with it. */
    memset(img + 512, 0, 64);
    fz_poke(p->c, va + 512, img + 512, 64);
    memset(img + 24, 0, 4);
    fz_poke(p->c, va + 24, img + 24, 4);
}

static bool saved_image(struct place *p, unsigned size, unsigned align)
{
    struct insn *in = fzp_insn(p);
    uint64_t va;

    if (!fzp_mem(p, parts_target(p, size, align), size))
        return false;
    va = fzp_placed(p);
    /* What the image holds of the host's addresses may go anywhere. */
    p->c->no_native |= p->c->sequence;
    if (in->map == 0) { /* FNSTENV, FNSAVE: FIP, FOP, FDP */
        unsigned w = in->opsize66 ? 2 : 4;

        if (in->mem_write)
            mask(p, va + 3 * w, 4 * w);
        return true;
    }
    /* What the guest's CPUID does not offer. */
    if ((in->opcode == 0xc7 || (in->opcode == 0xae && (in->reg & 7) == 6)) && !fz_guest_xsavec())
        p->c->no_native = true;
    mask(p, va + 6, 18);
    if (in->opcode == 0xae && (in->reg & 7) < 2) {
        if ((in->reg & 7) == 1)
            xrstor_image(p, va, false);
        return true;
    }
    if (!in->mem_write) {
        /* How much of it is touched beyond what is loaded is not said. */
        if (!fz_data_free(p->c, va, size) && (va ^ (va + size - 1)) >> PAGE_SHIFT)
            return false;
        xrstor_image(p, va, false);
    } else {
        if (size > 16)
            fz_poke64(p->c, va + 512, fz_below(p->r, 8));
    }
    /* Components that the guest has; no other that the host has. */
    if (!fzp_fixed(p, RAX) && in->base != RAX && in->index != RAX)
        p->c->st.gpr[RAX] = fz_below(p->r, 8) | (fz_rnd(p->r) & 0xfff00000);
    else
        return false;
    return !((p->dirty >> RAX) & 1);
}

/* Whether bytes that the mask leaves out may fault is not said: of a bad operand all are bad, and
 * the first is in the mask. */
static bool byte_mask_matters(struct place *p, uint64_t va)
{
    const struct insn *in = fzp_insn(p);

    if (fz_data_free(p->c, va, 16))
        return false;
    if (p->c->sequence || fz_data_free(p->c, va, 1) || (va ^ (va + 15)) >> PAGE_SHIFT)
        return true;
    set_element(p->c, in->rm, 0, 8, ~(uint64_t)0);
    memset(p->c->st.xsave + 32 + 16 * (in->rm & 7), 0xff, 8);
    p->c->st.xsave[3] &= 0xc7; /* TOP 0: ST(i) is MM(i) */
    return false;
}

bool fzp_vecsys(struct place *p)
{
    struct insn *in = fzp_insn(p);
    unsigned op = in->reg & 7, wide = in->vex_l ? 32 : 16;

    if (in->map == 0)
        return saved_image(p, in->opcode == 0xdd ? 108 : 28, fz_pct(p->r, 50) ? 4 : 1);
    if (in->map == 1 && in->opcode == 0xf7) {
        unsigned seg = in->seg_override == REG_NONE ? SEG_DS : in->seg_override;

        if (!fzp_set(p, RDI, fzp_widen(p, parts_target(p, 16, 1) - fzp_seg_base(p, seg))))
            return false;
        /* Is what is not stored to be storable? */
        p->c->no_native |= fz_mode != 8 && (seg == SEG_CS || p->c->st.gpr[RDI] + 15 > UINT32_MAX);
        return !byte_mask_matters(
            p, fz_wrap((p->c->st.gpr[RDI] & fzp_mask_of(in)) + fzp_seg_base(p, seg)));
    }
    if (in->map == 1 && in->opcode == 0xae)
        return saved_image(p, op < 2 ? 512 : XSAVE_AREA_SIZE, op < 2 ? 16 : 64);
    if (in->map == 1)
        return saved_image(p, XSAVE_AREA_SIZE, 64);
    if (in->opcode >= 0x90)
        return gather(p);
    return fzp_mem(p, parts_target(p, wide, 1), wide);
}
