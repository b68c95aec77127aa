/* Make an instruction's operands fit: registers, displacement, immediate, memory. */
#include "tests/fuzz.h"

/* One instruction on its way into a case. */
struct place {
    struct fz_case *c;
    struct fz_rng *r;
    unsigned i;
    uint16_t *keep, dirty;
};

static struct insn *insn_of(const struct place *p)
{
    return &p->c->in[p->i];
}

bool fz_set_reg(struct fz_case *c, uint16_t *keep, uint16_t dirty, unsigned reg, uint64_t val)
{
    uint16_t bit = (uint16_t)(1u << reg);

    if ((dirty & bit) || ((*keep & bit) && c->st.gpr[reg] != val))
        return false;
    c->st.gpr[reg] = val;
    *keep |= bit;
    return true;
}

static bool set(struct place *p, unsigned reg, uint64_t val)
{
    return fz_set_reg(p->c, p->keep, p->dirty, reg, val);
}

static bool fixed(const struct place *p, unsigned reg)
{
    return (p->dirty | *p->keep) >> reg & 1;
}

void fz_redecode(struct fz_case *c, unsigned i)
{
    uint8_t buf[INSN_MAX];

    memcpy(buf, c->code + c->off[i], c->in[i].len);
    decode(&c->in[i], buf, c->in[i].len, 8);
}

static void patch(struct place *p, unsigned off, uint64_t val, unsigned n)
{
    memcpy(p->c->code + p->c->off[p->i] + off, &val, n);
    fz_redecode(p->c, p->i);
}

static uint64_t next_rip(const struct place *p)
{
    return p->c->code_va + p->c->off[p->i] + insn_of(p)->len;
}

static uint64_t seg_base(const struct place *p, unsigned seg)
{
    return seg == SEG_FS ? p->c->st.fs_base : seg == SEG_GS ? p->c->st.gs_base : 0;
}

static bool fits(int64_t v, unsigned bytes)
{
    return bytes >= 8 || (bytes == 4 && v == (int32_t)v) || (bytes == 1 && v == (int8_t)v);
}

/* Give the displacement the value it must have for need bytes more; false when it cannot. */
static bool patch_disp(struct place *p, uint64_t disp)
{
    const struct insn *in = insn_of(p);
    int64_t want = in->addrsize == 4 ? (int32_t)disp : (int64_t)disp;

    if (want == in->disp)
        return true;
    if (!in->disp_len || !fits(want, in->disp_len))
        return false;
    patch(p, in->disp_off, (uint64_t)want, in->disp_len);
    return true;
}

static uint64_t widen(struct place *p, uint64_t val)
{
    const struct insn *in = insn_of(p);

    /* REP with 32-bit addresses may clear upper halves also when it does nothing. */
    if (p->c->sequence && insn_class(in) == IC_STRING && in->addrsize == 4)
        return (uint32_t)val;
    return in->addrsize == 4 ? (uint32_t)val | fz_rnd(p->r) << 32 : val;
}

static uint64_t mask_of(const struct insn *in)
{
    return in->addrsize == 4 ? 0xffffffff : ~(uint64_t)0;
}

/* All address registers have their value: does the operand lie somewhere useful? */
static bool settle(struct place *p, uint64_t ea, unsigned size)
{
    struct insn *in = insn_of(p);
    const uint64_t *g = p->c->st.gpr;
    uint64_t rest = 0;

    if (in->base != REG_NONE)
        rest += g[in->base];
    if (in->index != REG_NONE)
        rest += g[in->index] << in->scale;
    if (patch_disp(p, ea - rest))
        return true;
    rest = (rest + (uint64_t)in->disp) & mask_of(in);
    return fz_data_free(p->c, rest + seg_base(p, in->seg), size);
}

/* The ModRM memory operand to linear address target. */
static bool place_mem(struct place *p, uint64_t target, unsigned size)
{
    struct insn *in = insn_of(p);
    uint64_t ea = target - seg_base(p, in->seg), base, index, *g = p->c->st.gpr;

    if (in->base == BASE_RIP)
        return patch_disp(p, ea - next_rip(p));
    if (in->base == REG_NONE && in->index == REG_NONE)
        return patch_disp(p, ea);
    if ((in->base != REG_NONE && (p->dirty >> in->base & 1)) ||
        (in->index != REG_NONE && (p->dirty >> in->index & 1)))
        return false;
    if (in->base == in->index) {
        if (!fixed(p, in->base))
            set(p, in->base,
                widen(p, (ea - (uint64_t)in->disp) / (1 + (uint64_t)(1u << in->scale))));
        return settle(p, ea, size);
    }
    if (in->index != REG_NONE && !fixed(p, in->index)) {
        index = in->base == REG_NONE ? fz_below(p->r, 0x8000) : g[in->index];
        set(p, in->index, widen(p, index));
    }
    if (in->base != REG_NONE && !fixed(p, in->base)) {
        base = ea - (uint64_t)in->disp;
        if (in->index != REG_NONE)
            base -= g[in->index] << in->scale;
        set(p, in->base, widen(p, base));
        return true;
    }
    if (in->index != REG_NONE)
        *p->keep |= (uint16_t)(1u << in->index);
    if (in->base != REG_NONE)
        *p->keep |= (uint16_t)(1u << in->base);
    return settle(p, ea, size);
}

/* Linear address of the placed memory operand. */
static uint64_t placed(const struct place *p)
{
    const struct insn *in = insn_of(p);
    uint64_t ea = (uint64_t)in->disp;

    if (in->base == BASE_RIP)
        ea += next_rip(p);
    else if (in->base != REG_NONE)
        ea += p->c->st.gpr[in->base];
    if (in->index != REG_NONE)
        ea += p->c->st.gpr[in->index] << in->scale;
    return (ea & mask_of(in)) + seg_base(p, in->seg);
}

static void mask(struct place *p, uint64_t va, unsigned len)
{
    struct fz_case *c = p->c;

    if (c->nmask < 4) {
        c->mask[c->nmask].va = va;
        c->mask[c->nmask++].len = len;
    }
}

/* --- IC_ALU --- */

static bool is_bit_string(const struct insn *in)
{
    return (in->info->flags & OF_BITMEM) && in->has_mem && in->map == 1 && in->opcode != 0xba;
}

static bool alu_mem(struct place *p)
{
    struct insn *in = insn_of(p);
    unsigned size = in->mem_size, align = in->info->flags & OF_ALIGN16 ? size
                                          : fz_pct(p->r, 50)           ? size
                                                                       : 1;
    uint64_t t;

    /* A locked access across a cache line costs 50 us where the host watches for them. */
    if ((in->lock || (in->map == 0 && (in->opcode & 0xfe) == 0x86)) && !fz_pct(p->r, 4))
        align = size;
    t = fz_target(p->c, p->r, size, align);
    if (align == size && (in->lock || (in->opcode & 0xfe) == 0x86))
        t &= ~(uint64_t)(size - 1);
    if (is_bit_string(in)) {
        if (in->reg != in->base && in->reg != in->index && fz_pct(p->r, 90) && !fixed(p, in->reg))
            p->c->st.gpr[in->reg] = (fz_rnd(p->r) << 32) | (uint32_t)(fz_below(p->r, 4096) - 2048u);
        if (in->reg != in->base && in->reg != in->index && in->opsize == 8 && !fixed(p, in->reg))
            p->c->st.gpr[in->reg] = (uint64_t)(int64_t)(int32_t)p->c->st.gpr[in->reg];
        if (p->c->sequence) /* where it goes must be known */
            return (p->dirty >> in->reg & 1) == 0 && in->reg != in->base && in->reg != in->index &&
                   place_mem(p, t, size) && ((*p->keep |= (uint16_t)(1u << in->reg)), true);
    }
    return place_mem(p, t, size);
}

/* Compare-and-exchange should succeed now and then. */
static void match_accumulator(struct place *p)
{
    struct insn *in = insn_of(p);
    const uint64_t *g = p->c->st.gpr;
    uint64_t va;

    if (in->map != 1 || !in->has_mem || fz_pct(p->r, 50))
        return;
    va = placed(p);
    if ((in->opcode & 0xfe) == 0xb0) {
        fz_poke(p->c, va, &g[RAX], in->opsize);
    } else if (in->opcode == 0xc7) {
        fz_poke(p->c, va, &g[RAX], in->opsize);
        fz_poke(p->c, va + in->opsize, &g[RDX], in->opsize);
    }
}

static void easy_divide(struct place *p)
{
    struct insn *in = insn_of(p);
    uint64_t *g = p->c->st.gpr;

    if (in->map || (in->opcode & 0xfe) != 0xf6 || (in->reg & 6) != 6 || fz_pct(p->r, 30))
        return;
    if (in->opsize == 1) {
        if (!fixed(p, RAX))
            g[RAX] = (g[RAX] & ~(uint64_t)0xffff) | fz_below(p->r, 256);
    } else if (!fixed(p, RDX)) {
        g[RDX] = (in->reg & 1) && fz_pct(p->r, 50) ? (uint64_t)((int64_t)g[RAX] >> 63) : 0;
    }
}

/* SHLD and SHRD of 16 bits by more leave the destination undefined: keep to 16. */
static bool double_shift(struct place *p)
{
    struct insn *in = insn_of(p);
    unsigned op = in->opcode, n;

    if (in->map != 1 || in->opsize != 2 || (op != 0xa4 && op != 0xa5 && op != 0xac && op != 0xad))
        return true;
    n = fz_below(p->r, 17);
    if (!(op & 1)) {
        patch(p, in->imm_off, n | (fz_below(p->r, 8) << 5), 1);
        return true;
    }
    if (p->c->sequence || fixed(p, RCX))
        return (p->c->st.gpr[RCX] & 31) <= 16 && !(p->dirty >> RCX & 1);
    p->c->st.gpr[RCX] = (p->c->st.gpr[RCX] & ~(uint64_t)31) | n;
    *p->keep |= 1u << RCX;
    return true;
}

static bool place_alu(struct place *p)
{
    struct insn *in = insn_of(p);

    if (in->map == 1 && in->opsize == 2 && in->opcode >= 0xc8 && in->opcode <= 0xcf)
        return false; /* BSWAP r16: undefined */
    if (!double_shift(p))
        return false;
    easy_divide(p);
    if (in->has_mem && in->mem_size && !alu_mem(p))
        return false;
    if (in->has_mem)
        match_accumulator(p);
    return true;
}

/* --- vectors --- */

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

static bool place_vec(struct place *p)
{
    struct insn *in = insn_of(p);
    unsigned size = in->mem_size, align;
    uint32_t mxcsr;

    if (!in->has_mem)
        return true;
    align = in->info->flags & OF_ALIGN16 ? size : fz_pct(p->r, 50) ? size : 1;
    if (align & (align - 1))
        align = 1;
    if (!place_mem(p,
                   size == 10 ? parts_target(p, size, align) : fz_target(p->c, p->r, size, align),
                   size))
        return false;
    if (in->mem_write && !fz_data_free(p->c, placed(p), size))
        all_masked(&p->c->st);
    if (in->map == 1 && in->opcode == 0xae && (in->reg & 7) == 2) { /* LDMXCSR */
        mxcsr = 0x1f80 | ((uint32_t)fz_rnd(p->r) & (fz_pct(p->r, 90) ? 0xe07f : 0xffffffff));
        fz_poke(p->c, placed(p), &mxcsr, 4);
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
    struct insn *in = insn_of(p);
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
    base = t - seg_base(p, in->seg);
    if (in->base == REG_NONE)
        return patch_disp(p, base);
    return in->base != BASE_RIP && set(p, in->base, widen(p, base - (uint64_t)in->disp));
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
    struct insn *in = insn_of(p);
    uint64_t va;

    if (!place_mem(p, parts_target(p, size, align), size))
        return false;
    va = placed(p);
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
    if (!fixed(p, RAX) && in->base != RAX && in->index != RAX)
        p->c->st.gpr[RAX] = fz_below(p->r, 8) | (fz_rnd(p->r) & 0xfff00000);
    else
        return false;
    return !((p->dirty >> RAX) & 1);
}

/* Whether bytes that the mask leaves out may fault is not said: of a bad operand all are bad, and
 * the first is in the mask. */
static bool byte_mask_matters(struct place *p, uint64_t va)
{
    const struct insn *in = insn_of(p);

    if (fz_data_free(p->c, va, 16))
        return false;
    if (p->c->sequence || fz_data_free(p->c, va, 1) || (va ^ (va + 15)) >> PAGE_SHIFT)
        return true;
    set_element(p->c, in->rm, 0, 8, ~(uint64_t)0);
    memset(p->c->st.xsave + 32 + 16 * (in->rm & 7), 0xff, 8);
    p->c->st.xsave[3] &= 0xc7; /* TOP 0: ST(i) is MM(i) */
    return false;
}

static bool place_vecsys(struct place *p)
{
    struct insn *in = insn_of(p);
    unsigned op = in->reg & 7, wide = in->vex_l ? 32 : 16;

    if (in->map == 0)
        return saved_image(p, in->opcode == 0xdd ? 108 : 28, fz_pct(p->r, 50) ? 4 : 1);
    if (in->map == 1 && in->opcode == 0xf7) {
        unsigned seg = in->seg_override == REG_NONE ? SEG_DS : in->seg_override;

        if (!set(p, RDI, widen(p, parts_target(p, 16, 1) - seg_base(p, seg))))
            return false;
        return !byte_mask_matters(p, (p->c->st.gpr[RDI] & mask_of(in)) + seg_base(p, seg));
    }
    if (in->map == 1 && in->opcode == 0xae)
        return saved_image(p, op < 2 ? 512 : XSAVE_AREA_SIZE, op < 2 ? 16 : 64);
    if (in->map == 1)
        return saved_image(p, XSAVE_AREA_SIZE, 64);
    if (in->opcode >= 0x90)
        return gather(p);
    return place_mem(p, parts_target(p, wide, 1), wide);
}

/* --- strings, moffs --- */

static bool place_string(struct place *p)
{
    struct insn *in = insn_of(p);
    unsigned op = in->opcode & 0xfe, size = in->opsize, align = fz_pct(p->r, 60) ? size : 1;
    unsigned seg = in->seg_override == REG_NONE ? SEG_DS : in->seg_override;
    bool si = op == 0xa4 || op == 0xa6 || op == 0xac, di = op != 0xac;
    uint64_t src = fz_target(p->c, p->r, size, align), dst = fz_target(p->c, p->r, size, align);
    uint64_t n = fz_below(p->r, 17);

    if (fz_pct(p->r, 25))
        n = fz_below(p->r, 80);
    else if (fz_pct(p->r, 4) && !p->c->sequence)
        n = fz_below(p->r, 3000);
    if (fz_pct(p->r, 20)) /* near each other: overlap */
        dst = src + fz_below(p->r, 64) - 32;
    /* Which of two bad operands is reported is not said anywhere. */
    if (si && di && !fz_data_free(p->c, src, size) && !fz_data_free(p->c, dst, size))
        src = FZ_DATA + 0xd00;
    /* Some processors clear the upper half of RCX when ECX is 0, some do not. */
    if ((in->rep || in->repne) && !set(p, RCX, n ? widen(p, n) : 0))
        return false;
    if (si && !set(p, RSI, widen(p, src - seg_base(p, seg))))
        return false;
    if (di && !set(p, RDI, widen(p, dst)))
        return false;
    if (si && di &&
        !fz_data_free(p->c, (p->c->st.gpr[RSI] & mask_of(in)) + seg_base(p, seg), size) &&
        !fz_data_free(p->c, p->c->st.gpr[RDI] & mask_of(in), size))
        return false;
    if ((op == 0xa6 || op == 0xae) && fz_pct(p->r, 60)) {
        uint8_t fill[64];

        memset(fill, (int)(uint8_t)p->c->st.gpr[RAX], sizeof(fill));
        if (op == 0xae)
            memset(fill, fill[0], sizeof(fill));
        fz_poke(p->c, dst, fill, fz_below(p->r, 64));
        if (op == 0xa6)
            fz_poke(p->c, src, fill, fz_below(p->r, 64));
    }
    return true;
}

static bool place_moffs(struct place *p)
{
    struct insn *in = insn_of(p);
    uint64_t t = fz_target(p->c, p->r, in->opsize, 1) - seg_base(p, in->seg);

    if (in->opcode == 0xd7) {
        if (p->c->sequence && (p->dirty >> RAX & 1))
            return false;
        *p->keep |= 1u << RAX;
        return set(p, RBX, widen(p, t - (p->c->st.gpr[RAX] & 0xff)));
    }
    patch(p, in->disp_off, t, in->disp_len);
    return true;
}

/* --- stack, branches --- */

/* RSP for an access of size bytes at (push: below) it. */
static bool stack_at(struct place *p, unsigned size, bool push, uint64_t *at)
{
    uint64_t t = fz_target(p->c, p->r, size, fz_pct(p->r, 80) ? 8 : 1);

    if (p->c->sequence) { /* it was set when the sequence began */
        *at = 0;
        return !(p->dirty >> RSP & 1);
    }
    *at = t;
    p->c->st.gpr[RSP] = push ? t + size : t;
    *p->keep |= 1u << RSP;
    return true;
}

static bool place_stack(struct place *p)
{
    struct insn *in = insn_of(p);
    unsigned op = in->opcode, size = in->opsize;
    bool push = (op >= 0x50 && op <= 0x57) || op == 0x68 || op == 0x6a || op == 0x9c ||
                op == 0xff || op == 0xc8 || (in->map == 1 && (op & 7) == 0);
    uint64_t at, flags;

    if (!stack_at(p, size, push, &at))
        return false;
    if (op == 0xc8) {
        patch(p, in->imm_off, fz_below(p->r, 64), 2);
        patch(p, in->imm_off + 2u, fz_pct(p->r, 50) ? 0 : fz_below(p->r, 6) | (fz_rnd(p->r) & 0xe0),
              1);
        /* Which of two bad frames is reported is not said. */
        if (!p->c->sequence && !fz_data_free(p->c, at - 64, 128))
            return set(p, RBP, FZ_DATA + 0xc00);
        return set(p, RBP, fz_target(p->c, p->r, 64, 8) + 64);
    }
    if (op == 0xc9)
        return set(p, RBP, fz_target(p->c, p->r, 8, 8));
    if (op == 0x9d) {
        /* AC and TF in the host's own flags would be the end of the test. */
        p->c->no_native |= p->c->sequence;
        flags = fz_rnd(p->r) & ~(uint64_t)(FL_TF | FL_AC | FL_NT);
        fz_poke64(p->c, at, flags);
        if (!p->c->sequence && fz_peek(p->c, at, 8) != flags)
            p->c->no_native = true;
    }
    return !in->has_mem ||
           place_mem(p, fz_target(p->c, p->r, size, fz_pct(p->r, 50) ? 8 : 1), size);
}

/* Somewhere near to branch to. */
static uint64_t pad(struct place *p, unsigned reach)
{
    uint64_t end = next_rip(p), va;

    if (p->c->code_in_data || fz_pct(p->r, 50))
        va = end + 16 + fz_below(p->r, reach == 1 ? 100 : 180);
    else
        va = p->c->code_va - 2 - fz_below(p->r, reach == 1 ? 90 : 0x100);
    if (va >= FZ_CODE + 0x2000 && !p->c->code_in_data)
        va = p->c->code_va - 2 - fz_below(p->r, 90);
    return p->c->pad_va = va;
}

static uint64_t indirect_target(struct place *p)
{
    switch (fz_below(p->r, 20)) {
    case 0:
        return fz_rnd(p->r) | 0x0001000000000000;
    case 1:
        return FZ_RO + fz_below(p->r, 0x1000);
    case 2:
        return FZ_SUPER + fz_below(p->r, 0x1000);
    default:
        return pad(p, 4);
    }
}

static bool place_branch(struct place *p)
{
    struct insn *in = insn_of(p);
    unsigned op = in->opcode;
    bool near = in->map == 0 && (op == 0xff || op == 0xc2 || op == 0xc3), bad_stack = false;
    uint64_t at, to;

    if (p->c->sequence)
        return false; /* fuzz_seq.c makes its own */
    if (!near) {
        if (op == 0xe8 && in->map == 0)
            stack_at(p, 8, true, &at);
        if (op >= 0xe0 && op <= 0xe3 && in->map == 0 && fz_pct(p->r, 60))
            p->c->st.gpr[RCX] = widen(p, fz_below(p->r, 3));
        to = pad(p, in->imm_len);
        patch(p, in->imm_off, to - next_rip(p), in->imm_len);
        return true;
    }
    to = indirect_target(p);
    if (op == 0xff && (in->reg & 7) == 2) {
        stack_at(p, 8, true, &at);
        /* Is the target looked at before the push? */
        bad_stack = !fz_data_free(p->c, at, 8);
        if (bad_stack && to >> 47)
            to = pad(p, 4);
        if (!in->has_mem && in->rm == RSP)
            return false;
    }
    if (op != 0xff) {
        stack_at(p, 8, false, &at);
        fz_poke64(p->c, at, to);
        return true;
    }
    if (!in->has_mem) {
        p->c->st.gpr[in->rm] = to;
        return true;
    }
    if (!place_mem(p, fz_target(p->c, p->r, 8, fz_pct(p->r, 50) ? 8 : 1), 8))
        return false;
    fz_poke64(p->c, placed(p), to);
    if (fz_data_free(p->c, placed(p), 8))
        return fz_peek(p->c, placed(p), 8) == to && p->c->st.gpr[RSP] != 0;
    return !bad_stack;
}

bool fz_place(struct fz_case *c, struct fz_rng *r, unsigned i, uint16_t *keep, uint16_t dirty)
{
    struct place p = {.c = c, .r = r, .i = i, .keep = keep, .dirty = dirty};
    const struct insn *in = &c->in[i];

    switch (insn_class(in)) {
    case IC_ALU:
        return place_alu(&p);
    case IC_VEC:
    case IC_X87:
        return place_vec(&p);
    case IC_VECSYS:
        return place_vecsys(&p);
    case IC_STRING:
        return place_string(&p);
    case IC_MOFFS:
        return place_moffs(&p);
    case IC_STACK:
        return place_stack(&p);
    case IC_BRANCH:
        return place_branch(&p);
    default:
        return false;
    }
}

uint16_t fz_undef(const struct fz_case *c, unsigned i, bool known_cl)
{
    const struct insn *in = &c->in[i];
    uint16_t undef = in->info->fl_undef & in->fl_write & FL_ARITH;
    bool by_cl = (in->map == 0 && (in->opcode & 0xfe) == 0xd2) ||
                 (in->map == 1 && (in->opcode == 0xa5 || in->opcode == 0xad));

    if (by_cl && known_cl && !(c->st.gpr[RCX] & (in->opsize == 8 ? 63 : 31)))
        return 0;
    return undef;
}

void fz_single(struct fz_case *c, uint64_t seed, uint64_t index, unsigned nforms)
{
    struct fz_rng r;
    unsigned form = (unsigned)(index % nforms), tries = 0;
    enum insn_class cls = insn_class(fz_form(form));
    uint16_t keep;

    fz_seed(&r, seed, index);
    c->seed = seed;
    c->index = index;
    c->sequence = false;
    do {
        fz_random_state(c, &r, 14,
                        cls == IC_STRING || cls == IC_VECSYS ||
                            (fz_form(form)->info->flags & OF_BITMEM));
        c->form = form;
        keep = 0;
        if (tries++ > 50) /* such an instance cannot be: an empty case */
            return;
    } while (!fz_form_instance(c, &r, form, 0) || !fz_place(c, &r, 0, &keep, 0));
    c->n = 1;
    c->len = c->off[1] = c->in[0].len;
    if (cls == IC_STRING && fz_pct(&r, 30))
        c->st.rflags ^= FL_DF;
    c->undef = c->undef_at[1] = fz_undef(c, 0, true);
    if ((c->in[0].seg == SEG_FS || c->in[0].seg == SEG_GS || c->in[0].seg_override == SEG_FS ||
         c->in[0].seg_override == SEG_GS) &&
        !fz_native_bases())
        c->no_native = true;
}
