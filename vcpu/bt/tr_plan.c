/*
 * What a block's instructions access, as far as can be said when it is translated: for every access
 * a symbolic address, symbol + (index symbol << scale) + constant, where a symbol is what a
 * register held when it was last set to something unknown. PUSH, POP, ADD imm, LEA and MOV keep the
 * symbol. Accesses of one symbol that lie close together are checked together, by a window
 * (tr_group.c) or a page (tr_page.c).
 */
#include "vcpu/bt/tr.h"

#define FAR (1 << 24) /* constants beyond are not followed */

struct planner {
    unsigned next; /* symbol */
};

/* --- following registers --- */

static void renew(struct planner *p, struct tr_syms *s, unsigned r)
{
    s->sym[r] = (uint8_t)p->next;
    s->add[r] = 0;
    if (p->next < SYM_LAST)
        p->next++;
}

static void offset(struct planner *p, struct tr_syms *s, unsigned dst, unsigned src, int64_t add)
{
    add += s->add[src];
    if (add <= -FAR || add >= FAR) {
        renew(p, s, dst);
        return;
    }
    s->sym[dst] = s->sym[src];
    s->add[dst] = (int32_t)add;
}

static bool plain_push(const struct insn *in)
{
    unsigned op = in->opcode;

    return in->map == 0 && in->opsize == in->mode &&
           ((op >= 0x50 && op <= 0x57) || op == 0x68 || op == 0x6a || op == 0x9c || op == 0xff);
}

static bool pop_memory(const struct insn *in)
{
    return in->map == 0 && in->opsize == in->mode && in->opcode == 0x8f && in->has_mem;
}

static bool plain_pop(const struct insn *in)
{
    unsigned op = in->opcode;

    return in->map == 0 && in->opsize == in->mode &&
           ((op >= 0x58 && op <= 0x5f) || (op == 0x8f && !in->has_mem));
}

/* dst = src + *add with nothing else? */
static bool is_offset(const struct insn *in, unsigned *dst, unsigned *src, int64_t *add)
{
    unsigned op = in->opcode;

    if (insn_class(in) != IC_ALU || in->map != 0 || in->opsize != in->mode || in->lock)
        return false;
    if (op == 0x8d) {
        *dst = in->reg;
        *src = in->base;
        *add = in->disp;
        return in->base < NGPR && in->index == REG_NONE && in->addrsize == in->mode;
    }
    if (in->has_mem)
        return false;
    *dst = *src = in->rm;
    *add = (int64_t)in->imm;
    if (op == 0x89 || op == 0x8b) {
        *dst = op == 0x89 ? in->rm : in->reg;
        *src = op == 0x89 ? in->reg : in->rm;
        *add = 0;
        return true;
    }
    if (op == 0xff) {
        *add = in->reg & 7 ? -1 : 1;
        return (in->reg & 7) < 2;
    }
    if ((op != 0x81 && op != 0x83) || ((in->reg & 7) != 0 && (in->reg & 7) != 5))
        return false;
    if ((in->reg & 7) == 5)
        *add = -*add;
    return *add > -FAR && *add < FAR;
}

/* Registers after instruction in. */
static void follow(struct planner *p, struct tr_syms *s, const struct insn *in)
{
    unsigned dst, src, written = in->gpr_write;
    int64_t add;

    if (insn_class(in) == IC_STACK && plain_push(in)) {
        offset(p, s, RSP, RSP, -(int64_t)in->mode);
        return;
    }
    if (insn_class(in) == IC_STACK && plain_pop(in)) {
        offset(p, s, RSP, RSP, in->mode);
        renew(p, s, in->rm);
        return;
    }
    if (insn_class(in) == IC_STACK && pop_memory(in)) {
        offset(p, s, RSP, RSP, in->mode);
        return;
    }
    if (insn_class(in) == IC_STACK && in->map == 0 && in->opcode == 0xc9 &&
        in->opsize == in->mode) {
        offset(p, s, RSP, RBP, in->mode);
        renew(p, s, RBP);
        return;
    }
    if (is_offset(in, &dst, &src, &add)) {
        offset(p, s, dst, src, add);
        return;
    }
    /* Whatever is called may change all of them. */
    if (insn_class(in) == IC_BRANCH && in->map == 0 && (in->opcode == 0xe8 || in->opcode == 0xff))
        written = 0xffff;
    for (unsigned r = 0; written; r++, written >>= 1)
        if (written & 1)
            renew(p, s, r);
    if (insn_class(in) == IC_BRANCH && !tr_is_jcc(in)) {
        renew(p, s, SYM_FS);
        renew(p, s, SYM_GS);
        s->epoch++;
    }
    if (insn_class(in) == IC_SYS || insn_class(in) == IC_VECSYS) {
        renew(p, s, SYM_FS);
        renew(p, s, SYM_GS);
    }
}

/* --- accesses --- */

static struct tr_access *new_access(struct tr *t, unsigned i, unsigned k, unsigned size, bool write)
{
    struct tr_access *a = &t->acc[i][k];

    *a = (struct tr_access){.size = (uint8_t)size, .write = write, .epoch = t->syms[i].epoch};
    return a;
}

/* [base + disp] of instruction i. */
static void simple(struct tr *t, unsigned i, unsigned k, unsigned base, int64_t disp, unsigned size,
                   bool write)
{
    struct tr_access *a = new_access(t, i, k, size, write);
    const struct tr_syms *s = &t->syms[i];

    a->base = s->sym[base];
    a->index = SYM_NONE;
    a->off = disp + s->add[base];
    a->stack = a->base == s->sym[RSP];
    a->disp = disp;
    a->used = true;
}

/* The ModRM operand of instruction i. */
static void operand(struct tr *t, unsigned i)
{
    const struct insn *in = &t->in[i];
    const struct tr_syms *s = &t->syms[i];
    struct tr_access *a;
    unsigned base = in->base, index = in->index, scale = in->scale;

    if (in->mem_size == 0 || in->mem_size > 64 || (in->info->flags & OF_BITMEM) ||
        tr_odd_operand(in))
        return;
    a = new_access(t, i, 0, in->mem_size, in->mem_write);
    a->disp = in->disp;
    if (base == BASE_RIP) {
        a->disp += (int64_t)(t->rip[i] + in->len);
        base = REG_NONE;
    }
    if (in->addrsize != in->mode && (base != REG_NONE || index != REG_NONE))
        return;
    if (in->addrsize == 4)
        a->disp = (int64_t)(uint32_t)a->disp;
    if (in->seg == SEG_FS || in->seg == SEG_GS) {
        /* The segment's base takes the place of the base, which can only become the index. */
        if (index != REG_NONE)
            return;
        index = base;
        base = in->seg == SEG_FS ? SYM_FS : SYM_GS;
        scale = 0;
    }
    a->off = a->disp;
    a->base = a->index = SYM_NONE;
    if (base != REG_NONE) {
        a->base = s->sym[base];
        a->off += s->add[base];
    }
    if (index != REG_NONE) {
        a->index = s->sym[index];
        a->scale = (uint8_t)scale;
        a->off += (int64_t)s->add[index] << scale;
    }
    a->stack = a->base == s->sym[RSP];
    a->used = true;
}

static void string_accesses(struct tr *t, unsigned i)
{
    const struct insn *in = &t->in[i];
    unsigned op = in->opcode & 0xfe;

    if (in->rep || in->repne || in->addrsize != in->mode || in->seg == SEG_FS || in->seg == SEG_GS)
        return;
    if (op == 0xa4 || op == 0xac)
        simple(t, i, 0, RSI, 0, in->opsize, false);
    if (op == 0xa4 || op == 0xaa)
        simple(t, i, 1, RDI, 0, in->opsize, true);
}

static void branch_accesses(struct tr *t, unsigned i)
{
    const struct insn *in = &t->in[i];
    unsigned op = in->opcode, digit = in->reg & 7;

    if (in->map != 0)
        return;
    if (op == 0xff && in->has_mem && (digit == 2 || digit == 4) && in->opsize == in->mode)
        operand(t, i);
    if (op == 0xe8 || (op == 0xff && digit == 2))
        simple(t, i, 1, RSP, -(int64_t)in->mode, in->mode, true);
    if (op == 0xc2 || op == 0xc3)
        simple(t, i, 0, RSP, 0, in->mode, false);
}

static void accesses(struct tr *t, unsigned i)
{
    const struct insn *in = &t->in[i];

    switch (insn_class(in)) {
    case IC_ALU:
    case IC_VEC:
    case IC_X87:
        if (in->has_mem)
            operand(t, i);
        break;
    case IC_STACK:
        if (plain_push(in)) {
            if (in->has_mem)
                operand(t, i);
            simple(t, i, 1, RSP, -(int64_t)in->mode, in->mode, true);
        } else if (pop_memory(in)) {
            operand(t, i);
            simple(t, i, 1, RSP, 0, in->mode, false);
        } else if (plain_pop(in)) {
            simple(t, i, 0, RSP, 0, in->mode, false);
        } else if (in->map == 0 && in->opcode == 0xc9 && in->opsize == in->mode) {
            simple(t, i, 0, RBP, 0, in->mode, false);
        }
        break;
    case IC_STRING:
        string_accesses(t, i);
        break;
    case IC_BRANCH:
        branch_accesses(t, i);
        break;
    default:
        break;
    }
}

/* --- the plan --- */

void tr_plan(struct tr *t)
{
    struct planner p = {.next = SYM_NEW};
    struct tr_syms *s = t->syms;

    t->ngroup = 0;
    t->plan = PLAN_NONE;
    if (bt_debug & BT_DBG_NO_INLINE)
        return;
    s->epoch = 0;
    for (unsigned r = 0; r < NGPR + 2; r++) {
        s->sym[r] = (uint8_t)r;
        s->add[r] = 0;
    }
    for (unsigned i = 0; i < t->n; i++) {
        t->acc[i][0].used = t->acc[i][1].used = false;
        t->acc[i][0].group = t->acc[i][1].group = 0;
        accesses(t, i);
        t->syms[i + 1] = t->syms[i];
        follow(&p, &t->syms[i + 1], &t->in[i]);
    }
    if (!(t->b->key & KEY_PLAIN) && tr_windows(t)) {
        t->plan = PLAN_WINDOW;
        tr_plan_windows(t);
    } else if (!(bt_debug & BT_DBG_NO_TRACE)) {
        t->plan = PLAN_PAGE;
        tr_plan_pages(t);
    }
}

bool tr_grouped(const struct tr *t, unsigned i, unsigned k)
{
    return t->plan != PLAN_NONE && t->acc[i][k].group;
}
