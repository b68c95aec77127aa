/* Make an instruction's operands fit: registers, displacement, immediate, memory. */
#include "tests/fuzz_place.h"

bool fz_set_reg(struct fz_case *c, uint16_t *keep, uint16_t dirty, unsigned reg, uint64_t val)
{
    uint16_t bit = (uint16_t)(1u << reg);

    if ((dirty & bit) || ((*keep & bit) && c->st.gpr[reg] != fz_wrap(val)))
        return false;
    c->st.gpr[reg] = fz_wrap(val);
    *keep |= bit;
    return true;
}

bool fzp_set(struct place *p, unsigned reg, uint64_t val)
{
    return fz_set_reg(p->c, p->keep, p->dirty, reg, val);
}

bool fzp_fixed(const struct place *p, unsigned reg)
{
    return (p->dirty | *p->keep) >> reg & 1;
}

void fz_redecode(struct fz_case *c, unsigned i)
{
    uint8_t buf[INSN_MAX];

    memcpy(buf, c->code + c->off[i], c->in[i].len);
    decode(&c->in[i], buf, c->in[i].len, fz_mode);
}

void fzp_patch(struct place *p, unsigned off, uint64_t val, unsigned n)
{
    memcpy(p->c->code + p->c->off[p->i] + off, &val, n);
    fz_redecode(p->c, p->i);
}

uint64_t fzp_next_rip(const struct place *p)
{
    return p->c->code_va + p->c->off[p->i] + fzp_insn(p)->len;
}

uint64_t fzp_seg_base(const struct place *p, unsigned seg)
{
    return seg == SEG_FS ? p->c->st.fs_base : seg == SEG_GS ? p->c->st.gs_base : 0;
}

static bool fits(int64_t v, unsigned bytes)
{
    return bytes >= 8 || (bytes == 4 && v == (int32_t)v) || (bytes == 1 && v == (int8_t)v);
}

/* Give the displacement the value it must have for need bytes more; false when it cannot. */
bool fzp_disp(struct place *p, uint64_t disp)
{
    const struct insn *in = fzp_insn(p);
    int64_t want = in->addrsize == 4 ? (int32_t)disp : (int64_t)disp;

    if (want == in->disp)
        return true;
    if (!in->disp_len || !fits(want, in->disp_len))
        return false;
    fzp_patch(p, in->disp_off, (uint64_t)want, in->disp_len);
    return true;
}

uint64_t fzp_widen(struct place *p, uint64_t val)
{
    const struct insn *in = fzp_insn(p);

    /* REP with 32-bit addresses may clear upper halves also when it does nothing. */
    if (fz_mode != 8 || (p->c->sequence && insn_class(in) == IC_STRING && in->addrsize == 4))
        return fz_mode == 8 || in->addrsize == 4 ? (uint32_t)val : (uint16_t)val;
    return in->addrsize == 4 ? (uint32_t)val | fz_rnd(p->r) << 32 : val;
}

uint64_t fzp_mask_of(const struct insn *in)
{
    return in->addrsize == 4 ? 0xffffffff : in->addrsize == 2 ? 0xffff : ~(uint64_t)0;
}

/* All address registers have their value: does the operand lie somewhere useful? */
static bool settle(struct place *p, uint64_t ea, unsigned size)
{
    struct insn *in = fzp_insn(p);
    const uint64_t *g = p->c->st.gpr;
    uint64_t rest = 0;

    if (in->base != REG_NONE)
        rest += g[in->base];
    if (in->index != REG_NONE)
        rest += g[in->index] << in->scale;
    if (fzp_disp(p, ea - rest))
        return true;
    rest = (rest + (uint64_t)in->disp) & fzp_mask_of(in);
    return fz_data_free(p->c, fz_wrap(rest + fzp_seg_base(p, in->seg)), size);
}

/* The ModRM memory operand to linear address target. */
static bool place_mem(struct place *p, uint64_t target, unsigned size)
{
    struct insn *in = fzp_insn(p);
    uint64_t ea = target - fzp_seg_base(p, in->seg), base, index, *g = p->c->st.gpr;

    if (in->base == BASE_RIP)
        return fzp_disp(p, ea - fzp_next_rip(p));
    if (in->base == REG_NONE && in->index == REG_NONE)
        return fzp_disp(p, ea);
    if ((in->base != REG_NONE && (p->dirty >> in->base & 1)) ||
        (in->index != REG_NONE && (p->dirty >> in->index & 1)))
        return false;
    if (in->base == in->index) {
        if (!fzp_fixed(p, in->base))
            fzp_set(p, in->base,
                    fzp_widen(p, (ea - (uint64_t)in->disp) / (1 + (uint64_t)(1u << in->scale))));
        return settle(p, ea, size);
    }
    if (in->index != REG_NONE && !fzp_fixed(p, in->index)) {
        index = in->base == REG_NONE ? fz_below(p->r, 0x8000) : g[in->index];
        fzp_set(p, in->index, fzp_widen(p, index));
    }
    if (in->base != REG_NONE && !fzp_fixed(p, in->base)) {
        base = ea - (uint64_t)in->disp;
        if (in->index != REG_NONE)
            base -= g[in->index] << in->scale;
        fzp_set(p, in->base, fzp_widen(p, base));
        return true;
    }
    if (in->index != REG_NONE)
        *p->keep |= (uint16_t)(1u << in->index);
    if (in->base != REG_NONE)
        *p->keep |= (uint16_t)(1u << in->base);
    return settle(p, ea, size);
}

bool fzp_mem(struct place *p, uint64_t target, unsigned size)
{
    unsigned seg = fzp_insn(p)->seg;

    if (!place_mem(p, target, size))
        return false;
    /* An offset that wraps in 32-bit code faults or not (SDM 3A 5.3). */
    if (fz_mode != 8 &&
        fz_wrap(fzp_placed(p) - fzp_seg_base(p, seg)) + (size ? size - 1 : 0) > UINT32_MAX)
        p->c->no_native = true;
    return true;
}

/* Linear address of the placed memory operand. */
uint64_t fzp_placed(const struct place *p)
{
    const struct insn *in = fzp_insn(p);
    uint64_t ea = (uint64_t)in->disp;

    if (in->base == BASE_RIP)
        ea += fzp_next_rip(p);
    else if (in->base != REG_NONE)
        ea += p->c->st.gpr[in->base];
    if (in->index != REG_NONE)
        ea += p->c->st.gpr[in->index] << in->scale;
    return fz_wrap((ea & fzp_mask_of(in)) + fzp_seg_base(p, in->seg));
}

/* --- IC_ALU --- */

static bool is_bit_string(const struct insn *in)
{
    return (in->info->flags & OF_BITMEM) && in->has_mem && in->map == 1 && in->opcode != 0xba;
}

static bool alu_mem(struct place *p)
{
    struct insn *in = fzp_insn(p);
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
        if (in->reg != in->base && in->reg != in->index && fz_pct(p->r, 90) &&
            !fzp_fixed(p, in->reg))
            p->c->st.gpr[in->reg] =
                fz_wrap((fz_rnd(p->r) << 32) | (uint32_t)(fz_below(p->r, 4096) - 2048u));
        if (in->reg != in->base && in->reg != in->index && in->opsize == 8 &&
            !fzp_fixed(p, in->reg))
            p->c->st.gpr[in->reg] = (uint64_t)(int64_t)(int32_t)p->c->st.gpr[in->reg];
        if (p->c->sequence) /* where it goes must be known */
            return (p->dirty >> in->reg & 1) == 0 && in->reg != in->base && in->reg != in->index &&
                   fzp_mem(p, t, size) && ((*p->keep |= (uint16_t)(1u << in->reg)), true);
    }
    return fzp_mem(p, t, size);
}

/* Compare-and-exchange should succeed now and then. */
static void match_accumulator(struct place *p)
{
    struct insn *in = fzp_insn(p);
    const uint64_t *g = p->c->st.gpr;
    uint64_t va;

    if (in->map != 1 || !in->has_mem || fz_pct(p->r, 50))
        return;
    va = fzp_placed(p);
    if ((in->opcode & 0xfe) == 0xb0) {
        fz_poke(p->c, va, &g[RAX], in->opsize);
    } else if (in->opcode == 0xc7) {
        fz_poke(p->c, va, &g[RAX], in->opsize);
        fz_poke(p->c, va + in->opsize, &g[RDX], in->opsize);
    }
}

static void easy_divide(struct place *p)
{
    struct insn *in = fzp_insn(p);
    uint64_t *g = p->c->st.gpr;

    if (in->map || (in->opcode & 0xfe) != 0xf6 || (in->reg & 6) != 6 || fz_pct(p->r, 30))
        return;
    if (in->opsize == 1) {
        if (!fzp_fixed(p, RAX))
            g[RAX] = (g[RAX] & ~(uint64_t)0xffff) | fz_below(p->r, 256);
    } else if (!fzp_fixed(p, RDX)) {
        bool down = fz_mode == 8 ? g[RAX] >> 63 : g[RAX] >> 31;

        g[RDX] = (in->reg & 1) && fz_pct(p->r, 50) && down ? fz_wrap(~(uint64_t)0) : 0;
    }
}

/* SHLD and SHRD of 16 bits by more leave the destination undefined: keep to 16. */
static bool double_shift(struct place *p)
{
    struct insn *in = fzp_insn(p);
    unsigned op = in->opcode, n;

    if (in->map != 1 || in->opsize != 2 || (op != 0xa4 && op != 0xa5 && op != 0xac && op != 0xad))
        return true;
    n = fz_below(p->r, 17);
    if (!(op & 1)) {
        fzp_patch(p, in->imm_off, n | (fz_below(p->r, 8) << 5), 1);
        return true;
    }
    if (p->c->sequence || fzp_fixed(p, RCX))
        return (p->c->st.gpr[RCX] & 31) <= 16 && !(p->dirty >> RCX & 1);
    p->c->st.gpr[RCX] = (p->c->st.gpr[RCX] & ~(uint64_t)31) | n;
    *p->keep |= 1u << RCX;
    return true;
}

static bool place_alu(struct place *p)
{
    struct insn *in = fzp_insn(p);

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

bool fz_place(struct fz_case *c, struct fz_rng *r, unsigned i, uint16_t *keep, uint16_t dirty)
{
    struct place p = {.c = c, .r = r, .i = i, .keep = keep, .dirty = dirty};
    const struct insn *in = &c->in[i];

    switch (insn_class(in)) {
    case IC_ALU:
        return place_alu(&p);
    case IC_VEC:
    case IC_X87:
        return fzp_vec(&p);
    case IC_VECSYS:
        return fzp_vecsys(&p);
    case IC_STRING:
        return fzp_string(&p);
    case IC_MOFFS:
        return fzp_moffs(&p);
    case IC_STACK:
        return fzp_stack(&p);
    case IC_BRANCH:
        return fzp_branch(&p);
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
