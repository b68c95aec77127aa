/*
 * MOVS, STOS and LODS, and CMPS and SCAS with REP, in the cache: forward, with flat addresses. Both
 * operands are checked before anything changes. With REP that takes windows, and a count that does
 * not keep a kick waiting for long, or operands that stay in a page each; what is not so goes to
 * bt_string().
 */
#include "vcpu/bt/tr.h"

/* mov between reg and t->m in the size of the element; store or load. A 4-byte load zero-extends;
 * shorter ones merge, as LODS does. RAX or H_B as reg, so byte registers need no thought. */
static void move(struct tr *t, unsigned size, unsigned reg, bool store)
{
    if (size == 2)
        e8(&t->e, 0x66);
    e_op(&t->e, (store ? 0x88u : 0x8au) | (size > 1), reg, &t->m, size == 8);
}

#define REP_MAX (1u << 20) /* elements */

/* Is all of [reg, reg + H_B) in window kind? miss: the jumps that are taken when not. */
static void in_window(struct tr *t, unsigned kind, unsigned reg, uint32_t miss[2])
{
    struct emit *e = &t->e;
    const struct bt_window *win = &t->bt->win[tr_ctx(t)][kind];
    int32_t len = VOFF(hot.win_limit) + (int32_t)(8 * WIN_CLASSES * (WIN_KINDS * tr_ctx(t) + kind));

    e_lea(e, H_A, reg, REG_NONE, 0, -(int32_t)win->lo, 8, 8);
    e_gs(e, 0x3b, H_A, len, true); /* cmp; of one byte, the limit is the length */
    miss[0] = e_jcc(e, 3);         /* jae */
    e_rr(e, 0x01, H_B, H_A, true); /* add */
    e_gs(e, 0x3b, H_A, len, true);
    miss[1] = e_jcc(e, 7); /* ja */
}

static void operand(struct tr *t, struct cold_rep *c, unsigned kind, unsigned reg)
{
    unsigned k = c->nop++;

    c->op[k].reg = (uint8_t)reg;
    c->op[k].kind = (uint8_t)kind;
    in_window(t, kind, reg, c->op[k].miss);
    c->op[k].back = t->e.at;
}

static void shift_pointer(struct tr *t, unsigned reg, unsigned kind, bool to_host)
{
    int64_t bias;

    tr_window_bias(t, kind, &bias);
    e_lea(&t->e, reg, reg, REG_NONE, 0, (int32_t)(to_host ? bias : -bias), 8, 8);
}

static bool bias_fits(const struct tr *t, unsigned kind)
{
    int64_t bias;

    return tr_window_bias(t, kind, &bias) && bias > INT32_MIN && bias <= INT32_MAX;
}

/* MOVS, STOS, CMPS, SCAS with a repeat prefix. */
static bool rep(struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    unsigned op = in->opcode & 0xfe, kind = op == 0xa4 || op == 0xaa ? WIN_WRITE : WIN_READ;
    bool si = op == 0xa4 || op == 0xa6, compares = op == 0xa6 || op == 0xae;
    struct emit *e = &t->e;

    struct cold_rep *c;

    if (t->plan != PLAN_WINDOW || !bias_fits(t, kind) || (si && !bias_fits(t, WIN_READ)) ||
        !(c = tr_cold_rep(t)))
        return false;
    c->restore = compares;
    /* When comparing, a count of 0, which leaves the flags alone, is too large as well. */
    e_lea(e, H_B, RCX, REG_NONE, 0, compares ? -1 : 0, 8, 8);
    e8(e, 0x49); /* cmp r11, imm32 */
    e8(e, 0x81);
    e8(e, 0xfb);
    e32(e, REP_MAX);
    c->jcc[c->n++] = e_jcc(e, 7); /* ja */
    e_lea(e, H_B, REG_NONE, RCX, (unsigned)__builtin_ctz(in->opsize), 0, 8, 8);
    operand(t, c, kind, RDI);
    if (si)
        operand(t, c, WIN_READ, RSI);
    shift_pointer(t, RDI, kind, true);
    if (si)
        shift_pointer(t, RSI, WIN_READ, true);
    if (in->opsize == 2)
        e8(e, 0x66);
    e8(e, in->repne ? 0xf2 : 0xf3);
    if (in->opsize == 8)
        e8(e, 0x48);
    e8(e, in->opcode);
    shift_pointer(t, RDI, kind, false);
    if (si)
        shift_pointer(t, RSI, WIN_READ, false);
    if (compares)
        t->saved = false;
    c->next = e->at;
    return true;
}

/* [reg, reg + RCX elements) by the TLB, all of it in one page; then slot holds what makes its
 * linear address a host address. RCX is at most a page's worth. */
static void in_page(struct tr *t, struct cold_rep *c, unsigned reg, bool write, int32_t slot)
{
    struct emit *e = &t->e;
    int32_t at = (int32_t)offsetof(struct vcpu, tlb.e) +
                 (int32_t)(sizeof(struct tlb_entry) * TLB_ENTRIES) *
                     (int32_t)(tr_ctx(t) * TLB_KINDS + (write ? TLB_W : TLB_R));

    tr_tlb_index(t, reg);
    e_gs_index(e, 0x8b, H_A, H_B, 0, at + (int32_t)offsetof(struct tlb_entry, add));
    e_gs_index(e, 0x8b, H_B, H_B, 0, at + (int32_t)offsetof(struct tlb_entry, last));
    e_gs_store(e, H_A, slot);
    e_rr(e, 0x29, H_A, H_B, true); /* sub r11, r10; sub r11, reg */
    e_rr(e, 0x29, reg, H_B, true);
    e_lea(e, H_A, REG_NONE, RCX, (unsigned)__builtin_ctz(t->in[t->i].opsize),
          -(int32_t)PAGE_SIZE - 1, 8, 8);
    e_rr(e, 0x3b, H_B, H_A, true); /* cmp r11, r10 */
    c->jcc[c->n++] = e_jcc(e, 2);  /* jb */
}

/* REP MOVS and STOS where there are no windows: a kernel's are short, and seldom cross a page. */
static bool rep_in_page(struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    unsigned op = in->opcode & 0xfe;
    struct emit *e = &t->e;

    struct cold_rep *c;

    if ((op != 0xa4 && op != 0xaa) || !(c = tr_cold_rep(t)))
        return false;
    e8(e, 0x48); /* cmp rcx, imm32 */
    e8(e, 0x81);
    e8(e, 0xf9);
    e32(e, PAGE_SIZE / in->opsize);
    c->jcc[c->n++] = e_jcc(e, 7); /* ja */
    in_page(t, c, RDI, true, VOFF(hot.tmp));
    if (op == 0xa4) {
        in_page(t, c, RSI, false, VOFF(hot.tmp2));
        e_gs(e, 0x03, RSI, VOFF(hot.tmp2), true); /* add */
    }
    e_gs(e, 0x03, RDI, VOFF(hot.tmp), true);
    if (in->opsize == 2)
        e8(e, 0x66);
    e8(e, 0xf3);
    if (in->opsize == 8)
        e8(e, 0x48);
    e8(e, in->opcode);
    e_gs(e, 0x2b, RDI, VOFF(hot.tmp), tr_wide(t)); /* sub */
    if (op == 0xa4)
        e_gs(e, 0x2b, RSI, VOFF(hot.tmp2), tr_wide(t));
    c->next = e->at;
    return true;
}

/* The stack's window, where it is at the same offset, serves as well. */
static void try_stack(struct tr *t, const struct cold_rep *c, unsigned k, uint32_t miss[2])
{
    unsigned kind = c->op[k].kind, stack = kind | WIN_STACK;
    int64_t bias, stack_bias;

    tr_window_bias(t, kind, &bias);
    tr_window_bias(t, stack, &stack_bias);
    if (!bias_fits(t, stack) || bias != stack_bias) {
        miss[0] = c->op[k].miss[0];
        miss[1] = c->op[k].miss[1];
        return;
    }
    for (unsigned j = 0; j < 2; j++)
        e_patch(t->e.rw, c->op[k].miss[j], t->e.at);
    in_window(t, stack, c->op[k].reg, miss);
    e_jmp_to(&t->e, c->op[k].back);
}

void tr_cold_reps(struct tr *t)
{
    for (unsigned k = 0; k < t->nrep; k++) {
        const struct cold_rep *c = &t->rep[k];
        uint32_t miss[4] = {0};

        for (unsigned j = 0; j < c->nop; j++)
            try_stack(t, c, j, &miss[2 * j]);
        for (unsigned j = 0; j < c->n; j++)
            e_patch(t->e.rw, c->jcc[j], t->e.at);
        for (unsigned j = 0; j < 2 * c->nop; j++)
            e_patch(t->e.rw, miss[j], t->e.at);
        t->i = c->i;
        tr_callout_at(t, c->end ? SITE_END : 0);
        if (c->restore)
            e_flags_restore(&t->e, true);
        e_jmp_to(&t->e, c->next);
    }
}

bool tr_string(struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    struct emit *e = &t->e;
    unsigned op = in->opcode & 0xfe, size = in->opsize;
    bool movs = op == 0xa4, stos = op == 0xaa, lods = op == 0xac;

    if (!tr_flat_string(in) || (t->b->key & KEY_ODD) || (bt_debug & BT_DBG_NO_INLINE))
        return false;
    if (in->rep || in->repne)
        return !lods && in->map == 0 && op >= 0xa4 && (rep(t) || rep_in_page(t));
    if (!(movs || stos || lods))
        return false;
    if (movs) {
        tr_access(t, 0, RSI, 0, size, false, 0);
        move(t, size, H_B, false);
        e_gs_store(e, H_B, VOFF(hot.tmp));
    }
    tr_access(t, !lods, lods ? RSI : RDI, 0, size, !lods, 0);
    if (movs)
        e_gs_load(e, H_B, VOFF(hot.tmp));
    move(t, size, movs ? H_B : RAX, !lods);
    if (!stos)
        e_lea(e, RSI, RSI, REG_NONE, 0, (int32_t)size, t->mode, 8);
    if (!lods)
        e_lea(e, RDI, RDI, REG_NONE, 0, (int32_t)size, t->mode, 8);
    return true;
}
