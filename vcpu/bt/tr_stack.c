/*
 * Stack instructions: PUSH, POP, LEAVE, PUSHF, runs of them as one access.
 *
 * Where nothing can leave the block in between, H_SP lags behind the guest's RSP by t->sp, which
 * goes into the displacements of what is accessed through it: pushes and pops that are checked by a
 * window need no arithmetic each. Whatever may leave the block, or look at RSP, has it settled.
 */
#include "vcpu/bt/tr.h"

#define LAG_MAX 4096

void tr_sp_settle(struct tr *t)
{
    if (t->sp)
        e_lea(&t->e, H_SP, H_SP, REG_NONE, 0, t->sp, t->mode, 8);
    t->sp = 0;
}

void tr_sp_add(struct tr *t, int32_t add)
{
    t->sp += add;
    if (!t->lag || t->sp > LAG_MAX || t->sp < -LAG_MAX)
        tr_sp_settle(t);
}

/* RSP += *add, and nobody reads the flags of that. */
static bool moves_sp(const struct tr *t, int64_t *add)
{
    const struct insn *in = &t->in[t->i];
    unsigned op = in->opcode, digit = in->reg & 7;

    if (insn_class(in) != IC_ALU || in->map != 0 || in->opsize != 8 || in->lock)
        return false;
    if (op == 0x8d) {
        *add = in->disp;
        return in->reg == RSP && in->base == RSP && in->index == REG_NONE && in->addrsize == 8;
    }
    *add = digit == 0 ? (int64_t)in->imm : -(int64_t)in->imm;
    return (op == 0x81 || op == 0x83) && !in->has_mem && in->rm == RSP &&
           (digit == 0 || digit == 5) && !t->live[t->i + 1];
}

/* Can the ALU instruction neither fault nor leave the block, and does it use RSP for nothing but
 * an address in a window? */
static bool alu_lags(const struct tr *t)
{
    const struct insn *in = &t->in[t->i];

    /* Beyond the first two maps the host may lack it (#UD), and VEX.vvvv may be RSP. */
    if ((in->map == 0 && (in->opcode == 0xf6 || in->opcode == 0xf7) && (in->reg & 7) >= 6) ||
        (in->map == 1 && in->opcode == 0xc7) || in->map > 1 || (in->info->flags & OF_BITMEM))
        return false;
    if (!((in->gpr_read | in->gpr_write) >> RSP & 1))
        return !in->has_mem || t->acc[t->i][0].used || (in->map == 0 && in->opcode == 0x8d);
    return t->acc[t->i][0].used && in->base == RSP && in->reg != RSP && !(in->gpr_write >> RSP & 1);
}

static bool stack_lags(const struct tr *t);

/* May H_SP lag behind in, and after, this instruction? */
static bool lags(const struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    unsigned op = in->opcode;

    if (t->plan != PLAN_WINDOW)
        return false;
    for (unsigned k = 0; k < 2; k++)
        if (t->acc[t->i][k].used && !t->acc[t->i][k].group)
            return false;
    switch (insn_class(in)) {
    case IC_ALU:
        return alu_lags(t);
    case IC_STACK:
        return stack_lags(t);
    case IC_BRANCH: /* CALL, RET */
        return in->map == 0 &&
               (op == 0xe8 || op == 0xc2 || op == 0xc3 ||
                (op == 0xff && (in->reg & 7) == 2 && (in->has_mem ? in->base : in->rm) != RSP));
    default:
        return false;
    }
}

bool tr_sp_follow(struct tr *t)
{
    int64_t add;

    if (t->plan == PLAN_WINDOW && moves_sp(t, &add) && add >= -LAG_MAX && add <= LAG_MAX) {
        t->lag = true;
        tr_flags_use(t, true);
        tr_sp_add(t, (int32_t)add);
        t->keep = true;
        return true;
    }
    t->lag = lags(t);
    if (!t->lag)
        tr_sp_settle(t);
    return false;
}

void tr_push_slot(struct tr *t, uint32_t more)
{
    tr_access(t, 1, H_SP, -(int32_t)t->mode, t->mode, true, more);
}

void tr_push_done(struct tr *t)
{
    tr_sp_add(t, -(int32_t)t->mode);
}

static void push_reg(struct tr *t, unsigned r)
{
    tr_push_slot(t, 0);
    t->keep = tr_grouped(t, t->i, 1);
    e_op(&t->e, 0x89, tr_use(t, r, H_B), &t->m, tr_wide(t));
    tr_push_done(t);
}

void tr_store_imm32(struct tr *t, uint64_t imm)
{
    e_op(&t->e, 0xc7, 0, &t->m, tr_wide(t)); /* mov [m], imm32 */
    e32(&t->e, (uint32_t)imm);
}

void tr_load_operand(struct tr *t, uint32_t more)
{
    if (tr_window_operand(t))
        tr_window_registers(t);
    else
        tr_operand(t, false, t->mode, more);
    e_op(&t->e, 0x8b, H_B, &t->m, tr_wide(t));
    e_gs_store(&t->e, H_B, VOFF(hot.tmp));
}

#define RUN_MAX 8

/* How many instructions from i on are PUSH r (op 0x50) or POP r (0x58) of plain registers, with RSP
 * followed all the way: then one check of it is good for all. */
static unsigned run_length(const struct tr *t, unsigned op)
{
    unsigned n = 0;

    if ((t->sti && t->sti == t->i) || bt_window_hint(t->bt, t->rip[t->i]) == HINT_TLB)
        return 1;
    while (t->i + n < t->n && n < RUN_MAX) {
        const struct insn *in = &t->in[t->i + n];

        if (insn_class(in) != IC_STACK || in->map || (in->opcode & 0xf8) != op ||
            in->opsize != t->mode || in->rm == RSP ||
            t->syms[t->i + n].sym[RSP] != t->syms[t->i].sym[RSP])
            break;
        n++;
    }
    return n;
}

/* Does a window serve all n accesses, pushes (k 1) or pops (0)? */
static bool run_in_window(const struct tr *t, unsigned n, unsigned k)
{
    for (unsigned j = 0; j < n; j++)
        if (t->plan != PLAN_WINDOW || !t->acc[t->i + j][k].group)
            return false;
    return true;
}

/* ... or one group of a page? */
static bool run_in_page(const struct tr *t, unsigned n, unsigned k)
{
    for (unsigned j = 0; j < n; j++)
        if (t->plan != PLAN_PAGE || !t->acc[t->i + j][k].group ||
            t->acc[t->i + j][k].group != t->acc[t->i][k].group)
            return false;
    return true;
}

/* PUSH or POP of a plain register other than RSP, or PUSH imm, in a window. */
static bool stack_lags(const struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    unsigned op = in->opcode;

    if (in->map || in->opsize != t->mode)
        return false;
    if (op == 0x68 || op == 0x6a)
        return true;
    if (op < 0x50 || op > 0x5f || in->rm == RSP)
        return false;
    return run_in_window(t, run_length(t, op & 0xf8), op < 0x58);
}

/* n pushes or pops checked as one access, m[] where they go; if it cannot be had at once, the
 * interpreter does the first alone and the rest is a block of its own. */
static void locate_run(struct tr *t, unsigned n, bool push, struct opnd *m)
{
    int32_t word = (int32_t)t->mode, size = word * (int32_t)n, step = push ? -word : word;
    bool window = run_in_window(t, n, push), page = !window && run_in_page(t, n, push);

    tr_checks_run(t, n);
    if (page) {
        tr_access(t, push, H_SP, push ? -word : 0, t->mode, push, 0);
    } else if (!window) {
        struct tr_linear l = {.base = H_SP, .add = push ? -size : 0};

        tr_probe(t, l, push, (unsigned)size, SITE_END | SITE_RUN);
        t->m.disp = push ? size - word : 0;
    }
    for (unsigned k = 0; k < n; k++) {
        m[k] = t->m;
        if (window)
            m[k] = (struct opnd){.base = H_SP,
                                 .index = REG_NONE,
                                 .disp = (int32_t)t->acc[t->i + k][push].disp + t->sp};
        m[k].disp += step * (int32_t)k;
    }
    t->keep = window || page;
}

static void push_run(struct tr *t, unsigned n)
{
    struct emit *e = &t->e;
    struct opnd m[RUN_MAX];

    locate_run(t, n, true, m);
    for (unsigned k = 0; k < n; k++)
        e_op(e, 0x89, tr_use(t, t->in[t->i + k].rm, H_B), &m[k], tr_wide(t));
    tr_sp_add(t, -(int32_t)(t->mode * n));
    t->i += n - 1;
}

static void pop_into(struct tr *t, unsigned r, const struct opnd *m)
{
    unsigned h = tr_spilled(r) ? H_B : r;

    e_op(&t->e, 0x8b, h, m, tr_wide(t));
    if (h == H_B)
        e_gs_store(&t->e, H_B, GPR_OFF(r));
    if (t->held == r)
        t->held = REG_NONE;
}

static void pop_run(struct tr *t, unsigned n)
{
    struct opnd m[RUN_MAX];

    locate_run(t, n, false, m);
    for (unsigned k = 0; k < n; k++)
        pop_into(t, t->in[t->i + k].rm, &m[k]);
    tr_sp_add(t, (int32_t)(t->mode * n));
    t->i += n - 1;
}

static void push_mem(struct tr *t)
{
    tr_load_operand(t, 0);
    tr_push_slot(t, 0);
    e_gs_load(&t->e, H_B, VOFF(hot.tmp));
    e_op(&t->e, 0x89, H_B, &t->m, tr_wide(t));
    tr_push_done(t);
}

static void pop_reg(struct tr *t, unsigned r)
{
    struct emit *e = &t->e;

    tr_access(t, 0, H_SP, 0, t->mode, false, 0);
    t->keep = tr_grouped(t, t->i, 0);
    if (r == RSP) {
        e_op(e, 0x8b, H_SP, &t->m, tr_wide(t));
        return;
    }
    pop_into(t, r, &t->m);
    tr_sp_add(t, (int32_t)t->mode);
}

/* POP m, its address not made of RSP, which it would count from after the increment (SDM 2B). */
static void pop_mem(struct tr *t)
{
    struct emit *e = &t->e;

    tr_access(t, 1, H_SP, 0, t->mode, false, 0);
    e_op(e, 0x8b, H_B, &t->m, tr_wide(t));
    e_gs_store(e, H_B, VOFF(hot.tmp));
    if (tr_window_operand(t))
        tr_window_registers(t);
    else
        tr_operand(t, true, t->mode, 0);
    e_gs_load(e, H_B, VOFF(hot.tmp));
    e_op(e, 0x89, H_B, &t->m, tr_wide(t));
    e_lea(e, H_SP, H_SP, REG_NONE, 0, (int32_t)t->mode, t->mode, 8);
}

void tr_stack(struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    unsigned op = in->opcode;
    bool plain = in->map == 0 && in->opsize == t->mode && !tr_odd_operand(in) &&
                 !(bt_debug & BT_DBG_NO_INLINE);

    unsigned run = plain && in->map == 0 ? run_length(t, op & 0xf8) : 0;

    if (run > 1 && (op & 0xf8) == 0x50) {
        push_run(t, run);
    } else if (run > 1 && (op & 0xf8) == 0x58) {
        pop_run(t, run);
    } else if (plain && op >= 0x50 && op <= 0x57) {
        push_reg(t, in->rm);
    } else if (plain && op >= 0x58 && op <= 0x5f) {
        pop_reg(t, in->rm);
    } else if (plain && (op == 0x68 || op == 0x6a)) {
        tr_push_slot(t, 0);
        tr_store_imm32(t, in->imm);
        tr_push_done(t);
    } else if (plain && op == 0xff) {
        if (in->has_mem)
            push_mem(t);
        else
            push_reg(t, in->rm);
    } else if (plain && op == 0x8f && !in->has_mem) {
        pop_reg(t, in->rm);
    } else if (plain && op == 0x8f && in->base != RSP) {
        pop_mem(t);
    } else if (plain && op == 0x9c) {
        tr_pushf(t);
    } else if (plain && op == 0xc9) { /* LEAVE */
        tr_access(t, 0, RBP, 0, t->mode, false, 0);
        e_lea(&t->e, H_SP, RBP, REG_NONE, 0, (int32_t)t->mode, t->mode, 8);
        e_op(&t->e, 0x8b, RBP, &t->m, tr_wide(t));
    } else {
        tr_callout(t);
    }
}
