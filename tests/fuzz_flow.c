/* Operands of string and stack instructions, targets of branches. */
#include "tests/fuzz_place.h"

bool fzp_string(struct place *p)
{
    struct insn *in = fzp_insn(p);
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
    if ((in->rep || in->repne) && !fzp_set(p, RCX, n ? fzp_widen(p, n) : 0))
        return false;
    if (si && !fzp_set(p, RSI, fzp_widen(p, src - fzp_seg_base(p, seg))))
        return false;
    if (di && !fzp_set(p, RDI, fzp_widen(p, dst)))
        return false;
    if (si && di &&
        !fz_data_free(p->c, fz_wrap((p->c->st.gpr[RSI] & fzp_mask_of(in)) + fzp_seg_base(p, seg)),
                      size) &&
        !fz_data_free(p->c, p->c->st.gpr[RDI] & fzp_mask_of(in), size))
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

bool fzp_moffs(struct place *p)
{
    struct insn *in = fzp_insn(p);
    uint64_t t = fz_target(p->c, p->r, in->opsize, 1) - fzp_seg_base(p, in->seg);

    if (in->opcode == 0xd7) {
        if (p->c->sequence && (p->dirty >> RAX & 1))
            return false;
        *p->keep |= 1u << RAX;
        return fzp_set(p, RBX, fzp_widen(p, t - (p->c->st.gpr[RAX] & 0xff)));
    }
    fzp_patch(p, in->disp_off, t, in->disp_len);
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
    p->c->st.gpr[RSP] = fz_wrap(push ? t + size : t);
    *p->keep |= 1u << RSP;
    return true;
}

bool fzp_stack(struct place *p)
{
    struct insn *in = fzp_insn(p);
    unsigned op = in->opcode, size = in->opsize;
    bool push = (op >= 0x50 && op <= 0x57) || op == 0x68 || op == 0x6a || op == 0x9c ||
                op == 0xff || op == 0xc8 || op == 0x60 || (in->map == 1 && (op & 7) == 0);
    uint64_t at, flags;

    if (op == 0x60 || op == 0x61) /* PUSHA, POPA */
        size *= 8;
    if (!stack_at(p, size, push, &at))
        return false;
    /* How much of it is done before it faults is not said. */
    if (op == 0x61 && !fz_data_free(p->c, at, size))
        p->c->no_native = true;
    if (op == 0xc8) {
        fzp_patch(p, in->imm_off, fz_below(p->r, 64), 2);
        fzp_patch(p, in->imm_off + 2u,
                  fz_pct(p->r, 50) ? 0 : fz_below(p->r, 6) | (fz_rnd(p->r) & 0xe0), 1);
        /* Which of two bad frames is reported is not said. */
        if (!p->c->sequence && !fz_data_free(p->c, at - 64, 128))
            return fzp_set(p, RBP, FZ_DATA + 0xc00);
        return fzp_set(p, RBP, fz_target(p->c, p->r, 64, 8) + 64);
    }
    if (op == 0xc9)
        return fzp_set(p, RBP, fz_target(p->c, p->r, 8, 8));
    if (op == 0x9d) {
        /* AC and TF in the host's own flags would be the end of the test. */
        p->c->no_native |= p->c->sequence;
        flags = fz_rnd(p->r) & ~(uint64_t)(FL_TF | FL_AC | FL_NT);
        fz_poke64(p->c, at, flags);
        if (!p->c->sequence && fz_peek(p->c, at, 8) != flags)
            p->c->no_native = true;
    }
    return !in->has_mem || fzp_mem(p, fz_target(p->c, p->r, size, fz_pct(p->r, 50) ? 8 : 1), size);
}

/* Somewhere near to branch to. */
static uint64_t pad(struct place *p, unsigned reach)
{
    uint64_t end = fzp_next_rip(p), va;

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
        return fz_wrap(fz_rnd(p->r) | 0x0001000000000000);
    case 1:
        return FZ_RO + fz_below(p->r, 0x1000);
    case 2:
        return FZ_SUPER + fz_below(p->r, 0x1000);
    default:
        return pad(p, 4);
    }
}

bool fzp_branch(struct place *p)
{
    struct insn *in = fzp_insn(p);
    unsigned op = in->opcode;
    bool near = in->map == 0 && (op == 0xff || op == 0xc2 || op == 0xc3), bad_stack = false;
    uint64_t at, to;

    if (p->c->sequence)
        return false; /* fuzz_seq.c makes its own */
    if (!near) {
        if (op == 0xe8 && in->map == 0)
            stack_at(p, fz_mode, true, &at);
        if (op >= 0xe0 && op <= 0xe3 && in->map == 0 && fz_pct(p->r, 60))
            p->c->st.gpr[RCX] = fzp_widen(p, fz_below(p->r, 3));
        to = pad(p, in->imm_len);
        fzp_patch(p, in->imm_off, to - fzp_next_rip(p), in->imm_len);
        return true;
    }
    to = indirect_target(p);
    if (op == 0xff && (in->reg & 7) == 2) {
        stack_at(p, fz_mode, true, &at);
        /* Is the target looked at before the push? */
        bad_stack = !fz_data_free(p->c, at, fz_mode);
        if (bad_stack && to >> 47)
            to = pad(p, 4);
        if (!in->has_mem && in->rm == RSP)
            return false;
    }
    if (op != 0xff) {
        stack_at(p, fz_mode, false, &at);
        fz_poke64(p->c, at, to);
        return true;
    }
    if (!in->has_mem) {
        p->c->st.gpr[in->rm] = to;
        return true;
    }
    if (!fzp_mem(p, fz_target(p->c, p->r, 8, fz_pct(p->r, 50) ? 8 : 1), 8))
        return false;
    fz_poke64(p->c, fzp_placed(p), to);
    if (fz_data_free(p->c, fzp_placed(p), 8))
        return fz_peek(p->c, fzp_placed(p), 8) == to && p->c->st.gpr[RSP] != 0;
    return !bad_stack;
}
