/*
 * Short sequences: what a translator gets wrong shows between instructions. Flags that live across
 * memory operands, registers that live elsewhere, blocks that end, loop, call and are chained, code
 * that changes itself.
 */
#include <stdlib.h>
#include "tests/fuzz.h"

/* A sequence being made. */
struct seq {
    struct fz_case *c;
    struct fz_rng *r;
    uint16_t keep, dirty;           /* registers: relied upon; written */
    uint16_t undef;                 /* flags undefined here */
    uint16_t join[FZ_MAX_INSN + 1]; /* ... and on a branch to instruction i */
    int target[FZ_MAX_INSN];        /* of a branch: an instruction; -1 none */
    struct {                        /* stores into the code, by instruction */
        int insn;                   /* the one that is changed; -1 none */
        unsigned off;
    } patch[FZ_MAX_INSN];
    bool no_stack; /* RSP is not to move */
};

static unsigned *by_class[IC_SYS], count[IC_SYS];

static void sort_forms(unsigned nforms)
{
    for (unsigned k = 0; k < IC_SYS; k++) {
        by_class[k] = calloc(nforms, sizeof(unsigned));
        if (!by_class[k])
            abort();
    }
    for (unsigned i = 0; i < nforms; i++) {
        unsigned k = insn_class(fz_form(i));

        by_class[k][count[k]++] = i;
    }
}

static enum insn_class pick_class(struct seq *s)
{
    unsigned p = fz_below(s->r, 100);

    if (p < 62)
        return IC_ALU;
    if (p < 76)
        return IC_STACK;
    if (p < 86)
        return IC_VEC;
    if (p < 91)
        return IC_X87;
    if (p < 96)
        return IC_STRING;
    return p < 98 ? IC_MOFFS : IC_VECSYS;
}

/* Instruction c->n is in place, n bytes long. */
static void accept(struct seq *s)
{
    struct fz_case *c = s->c;

    s->target[c->n] = s->patch[c->n].insn = -1;
    c->off[c->n + 1] = (uint16_t)(c->off[c->n] + c->in[c->n].len);
    c->n++;
    c->len = c->off[c->n];
    s->undef |= s->join[c->n];
}

/* Instruction by its bytes. */
static void emit(struct seq *s, const uint8_t *b, unsigned n)
{
    struct fz_case *c = s->c;
    struct insn *in = &c->in[c->n];

    if (fz_mode != 8 && (*b & 0xf0) == 0x40) { /* REX */
        b++;
        n--;
    }
    memcpy(c->code + c->len, b, n);
    if (decode(in, b, n, fz_mode) != DEC_OK || in->len != n)
        abort();
    c->undef_at[c->n] = s->undef;
    s->dirty |= in->gpr_write;
    s->undef &= (uint16_t)~in->fl_write;
    accept(s);
}

static bool room(const struct seq *s, unsigned insns)
{
    return s->c->n + insns < FZ_MAX_INSN && s->c->len + insns * INSN_MAX < FZ_MAX_CODE;
}

static bool fits_here(const struct seq *s, const struct insn *in)
{
    enum insn_class cls = insn_class(in);
    uint16_t rsp = 1u << RSP, writes = in->gpr_write;

    if (cls == IC_STACK) {
        if (s->no_stack || (s->dirty & rsp))
            return false;
        writes &= (uint16_t)~rsp;
        if (in->opcode == 0x9d && !fz_pct(s->r, 20))
            return false;
    }
    if ((writes & s->keep) || (in->fl_read & FL_ARITH & s->undef))
        return false;
    if (s->c->code_in_data &&
        (cls == IC_STRING || cls == IC_VECSYS || ((in->info->flags & OF_BITMEM) && in->has_mem)))
        return false;
    if (!fz_native_bases() && (in->seg == SEG_FS || in->seg == SEG_GS))
        return false;
    return true;
}

static bool try_one(struct seq *s)
{
    enum insn_class cls = pick_class(s);
    unsigned form = by_class[cls][fz_below(s->r, count[cls])];
    struct fz_case *c = s->c;
    struct insn *in = &c->in[c->n];
    uint16_t keep = s->keep;
    bool saved_native = c->no_native;

    if (!fz_form_instance(c, s->r, form, c->len) || !fits_here(s, in))
        return false;
    if (!fz_place(c, s->r, c->n, &s->keep, s->dirty)) {
        s->keep = keep;
        c->no_native = saved_native;
        return false;
    }
    s->dirty |= in->gpr_write;
    if (cls == IC_STACK && !((in->opcode & 0xf8) == 0x58 && in->rm == RSP) &&
        !(in->opcode == 0x8f && !in->has_mem && in->rm == RSP))
        s->dirty &= (uint16_t) ~(1u << RSP);
    c->undef_at[c->n] = s->undef;
    s->undef = (uint16_t)((s->undef & ~in->fl_write) | fz_undef(c, c->n, false));
    accept(s);
    return true;
}

static void some(struct seq *s, unsigned n)
{
    for (unsigned tries = 0; n && tries < 60 * n && room(s, 2); tries++)
        n -= try_one(s);
}

/* --- branches --- */

static uint16_t cond_reads(unsigned cc)
{
    static const uint16_t reads[8] = {FL_OF, FL_CF, FL_ZF,         FL_CF | FL_ZF,
                                      FL_SF, FL_PF, FL_SF | FL_OF, FL_SF | FL_OF | FL_ZF};

    return reads[cc >> 1];
}

/* Forward, over some instructions. Displacements come last. */
static void forward(struct seq *s)
{
    struct fz_case *c = s->c;
    unsigned at = c->n, cc = fz_below(s->r, 16), over = 1 + fz_below(s->r, 3);
    bool wide = fz_pct(s->r, 50);
    uint16_t undef = s->undef;

    if (fz_pct(s->r, 15)) {
        emit(s, wide ? (uint8_t[]){0xe9, 0, 0, 0, 0} : (uint8_t[]){0xeb, 0}, wide ? 5 : 2);
    } else if (fz_pct(s->r, 10)) {
        emit(s, (uint8_t[]){0xe3, 0}, 2);
    } else {
        while (cond_reads(cc) & s->undef) {
            if (s->undef == FL_ARITH)
                return;
            cc = fz_below(s->r, 16);
            if (fz_pct(s->r, 10))
                return;
        }
        emit(s,
             wide ? (uint8_t[]){0x0f, (uint8_t)(0x80 | cc), 0, 0, 0, 0}
                  : (uint8_t[]){(uint8_t)(0x70 | cc), 0},
             wide ? 6 : 2);
    }
    some(s, over);
    s->target[at] = (int)c->n;
    s->join[c->n] |= undef;
    s->undef |= undef;
}

/* An unused register other than RSP, or -1. */
static int free_reg(struct seq *s)
{
    for (unsigned k = 0; k < 20; k++) {
        unsigned reg = fz_below(s->r, fz_nregs());

        if (reg != RSP && !((s->keep | s->dirty) >> reg & 1))
            return (int)reg;
    }
    return -1;
}

/* Down to here from instruction head, some times. */
static void loop_back(struct seq *s, int reg, unsigned head)
{
    uint8_t rexb = (uint8_t)(reg >> 3);
    unsigned kind = fz_below(s->r, 4);

    if (reg == RCX && kind < 2) {
        emit(s, (uint8_t[]){0xe2, 0}, 2);
    } else {
        if (kind == 0) /* dec r64 */
            emit(s, (uint8_t[]){0x48 | rexb, 0xff, (uint8_t)(0xc8 | (reg & 7))}, 3);
        else if (kind == 1) /* sub r32, 1 */
            emit(s, (uint8_t[]){0x40 | rexb, 0x83, (uint8_t)(0xe8 | (reg & 7)), 1}, 4);
        else { /* lea r64, [r - 1]; test r, r */
            if ((reg & 7) == RSP)
                emit(s, (uint8_t[]){0x48 | (uint8_t)(rexb * 5), 0x8d, 0x64, 0x24, 0xff}, 5);
            else
                emit(s,
                     (uint8_t[]){0x48 | (uint8_t)(rexb * 5), 0x8d,
                                 (uint8_t)(0x40 | (reg & 7) << 3 | (reg & 7)), 0xff},
                     4);
            emit(s,
                 (uint8_t[]){0x48 | (uint8_t)(rexb * 5), 0x85,
                             (uint8_t)(0xc0 | (reg & 7) << 3 | (reg & 7))},
                 3);
        }
        if (fz_pct(s->r, 50))
            emit(s, (uint8_t[]){0x75, 0}, 2);
        else
            emit(s, (uint8_t[]){0x0f, 0x85, 0, 0, 0, 0}, 6);
    }
    s->target[s->c->n - 1] = (int)head;
}

/* jmp or call through a register or memory, or push and ret, to what comes next but skip. */
static void indirect(struct seq *s)
{
    struct fz_case *c = s->c;
    int reg = free_reg(s);
    unsigned at = c->n, kind = fz_below(s->r, 3), over = fz_below(s->r, 3);
    bool stack = !s->no_stack && !(s->dirty >> RSP & 1);

    if (reg < 0 || !room(s, 8))
        return;
    if (kind == 0 && stack) {
        emit(s, (uint8_t[]){0x68, 0, 0, 0, 0}, 5); /* push imm32 */
        emit(s, (uint8_t[]){0xc3}, 1);
        s->dirty &= (uint16_t) ~(1u << RSP);
    } else {
        bool call = stack && fz_pct(s->r, 50);
        uint8_t rex = (uint8_t)(0x48 | reg >> 3 << 2), rexb = (uint8_t)(0x40 | reg >> 3);

        /* lea reg, [rip + ...]; jmp/call reg */
        emit(s, (uint8_t[]){rex, 0x8d, (uint8_t)(5 | (reg & 7) << 3), 0, 0, 0, 0}, 7);
        if (kind == 1 && stack) { /* by way of the stack */
            emit(s, (uint8_t[]){rexb, (uint8_t)(0x50 | (reg & 7))}, 2);
            emit(s, (uint8_t[]){0xff, call ? 0x14 : 0x24, 0x24}, 3);
        } else {
            emit(s, (uint8_t[]){rexb, 0xff, (uint8_t)((call ? 0xd0 : 0xe0) | (reg & 7))}, 3);
        }
        s->dirty &= (uint16_t) ~(1u << RSP);
    }
    uint16_t undef = s->undef;

    some(s, over);
    s->target[at] = (int)c->n;
    s->join[c->n] |= undef;
    s->undef |= undef;
}

/* call over a jump: jmp main; sub: ...; ret; main: ...; call sub */
static void subroutine(struct seq *s)
{
    struct fz_case *c = s->c;
    unsigned jmp = c->n, head;
    bool no_stack = s->no_stack;

    if (s->no_stack || (s->dirty >> RSP & 1) || !room(s, 10))
        return;
    emit(s, (uint8_t[]){0xe9, 0, 0, 0, 0}, 5);
    head = c->n;
    /* It may be called with any flags. */
    s->undef = FL_ARITH;
    s->no_stack = true;
    some(s, 1 + fz_below(s->r, 3));
    s->no_stack = no_stack;
    if (s->dirty >> RSP & 1)
        return; /* and never mind what happens then */
    emit(s, (uint8_t[]){0xc3}, 1);
    s->target[jmp] = (int)c->n;
    s->undef = FL_ARITH;
    for (unsigned k = 1 + fz_below(s->r, 3); k && room(s, 4); k--) {
        some(s, fz_below(s->r, 2));
        if (s->dirty >> RSP & 1)
            return;
        emit(s, (uint8_t[]){0xe8, 0, 0, 0, 0}, 5);
        s->target[c->n - 1] = (int)head;
        s->undef = FL_ARITH;
    }
    s->dirty &= (uint16_t) ~(1u << RSP);
}

/* --- self-modification --- */

/* op rAX, imm32: one that a store may change. */
static void victim(struct seq *s)
{
    static const uint8_t op[] = {0x05, 0x2d, 0x3d};

    if ((s->keep >> RAX) & 1) /* nop dword [rax + disp32]: its displacement can change freely */
        emit(s, (uint8_t[]){0x0f, 0x1f, 0x80, 1, 2, 3, 4}, 7);
    else
        emit(s, (uint8_t[]){op[fz_below(s->r, 3)], 1, 2, 3, 4}, 5);
}

static void store_to_code(struct seq *s, int which)
{
    struct fz_case *c = s->c;
    uint8_t v = (uint8_t)fz_rnd(s->r);

    if (fz_pct(s->r, 50))
        emit(s, (uint8_t[]){0xc6, 0x05, 0, 0, 0, 0, v}, 7); /* mov byte [rip + ...], v */
    else
        emit(s, (uint8_t[]){0x80, 0x05, 0, 0, 0, 0, v | 1}, 7); /* add byte ... */
    s->patch[c->n - 1].insn = which;
    s->patch[c->n - 1].off = 1 + fz_below(s->r, 4);
}

/* What the displacement of [rip + ...] counts from; in 32-bit code that encoding is an address. */
static uint64_t here(const struct fz_case *c, unsigned off)
{
    return fz_mode == 8 ? c->code_va + off : 0;
}

/* Flags that nobody reads, until ADD is made ADC behind a branch: who looked ahead must look again.
 */
static void add_to_adc(struct seq *s)
{
    struct fz_case *c = s->c;
    bool wide = fz_pct(s->r, 50);
    uint32_t rel;
    unsigned at;

    if ((s->keep >> RAX & 1) || !room(s, 8))
        return;
    emit(s, (uint8_t[]){0x48, 0x83, 0xf8, (uint8_t)fz_rnd(s->r)}, 4); /* cmp rax, imm8 */
    rel = (uint32_t)(FZ_DATA + 0x400 + fz_below(s->r, 0x1bf0) - here(c, c->len + 6));
    emit(s,
         (uint8_t[]){0x89, 0x1d, (uint8_t)rel, (uint8_t)(rel >> 8), (uint8_t)(rel >> 16),
                     (uint8_t)(rel >> 24)},
         6); /* mov [rip + ...], ebx */
    emit(s, wide ? (uint8_t[]){0xe9, 0, 0, 0, 0} : (uint8_t[]){0xeb, 0}, wide ? 5 : 2);
    at = c->n;
    s->target[at - 1] = (int)at;
    emit(s, (uint8_t[]){0x05, 1, 2, 3, 4}, 5);
    emit(s, (uint8_t[]){0xc6, 0x05, 0, 0, 0, 0, 0x15}, 7); /* mov byte [rip + ...], 0x15 */
    s->patch[c->n - 1].insn = (int)at;
    s->patch[c->n - 1].off = 0;
}

static void self_modify(struct seq *s)
{
    unsigned at = s->c->n, first;

    if (fz_pct(s->r, 40)) {
        add_to_adc(s);
        return;
    }
    if (fz_pct(s->r, 40)) { /* an earlier one: the loop comes back to it */
        victim(s);
        some(s, fz_below(s->r, 3));
        store_to_code(s, (int)at);
        return;
    }
    store_to_code(s, 0);
    first = s->c->n - 1;
    some(s, fz_below(s->r, 3));
    s->patch[first].insn = (int)s->c->n;
    victim(s);
}

/* --- displacements --- */

static bool resolve(struct seq *s)
{
    struct fz_case *c = s->c;

    for (unsigned i = 0; i < c->n; i++) {
        const struct insn *in = &c->in[i];
        int64_t rel;
        uint8_t *p;

        if (s->target[i] >= 0 && in->opcode == 0x68 && !in->map) {
            uint32_t va = (uint32_t)(c->code_va + c->off[s->target[i]]);

            memcpy(c->code + c->off[i] + 1, &va, 4);
        } else if (s->target[i] >= 0) {
            rel = c->off[s->target[i]] - c->off[i + 1];
            if (insn_class(in) != IC_BRANCH) { /* LEA */
                rel += (int64_t)(c->code_va + c->off[i + 1] - here(c, c->off[i + 1]));
                memcpy(c->code + c->off[i] + in->disp_off, &rel, 4);
            } else if (in->imm_len == 1 && rel != (int8_t)rel) {
                return false;
            } else {
                memcpy(c->code + c->off[i] + in->imm_off, &rel, in->imm_len);
            }
        } else if (s->patch[i].insn >= 0) {
            c->patches++;
            const struct insn *v = &c->in[s->patch[i].insn];

            rel = c->off[s->patch[i].insn] + (v->imm_off ? v->imm_off : v->disp_off) +
                  (int)s->patch[i].off - 1 - c->off[i + 1];
            rel += (int64_t)(c->code_va + c->off[i + 1] - here(c, c->off[i + 1]));
            p = c->code + c->off[i] + in->disp_off;
            memcpy(p, &rel, 4);
        } else {
            continue;
        }
        fz_redecode(c, i);
    }
    return true;
}

static void part(struct seq *s)
{
    unsigned p = fz_below(s->r, 100);

    if (p < 55)
        some(s, 1 + fz_below(s->r, 4));
    else if (p < 80)
        forward(s);
    else if (p < 90)
        indirect(s);
    else if (p < 95)
        subroutine(s);
    else
        self_modify(s);
}

static bool build(struct seq *s)
{
    struct fz_case *c = s->c;
    unsigned parts = 1 + fz_below(s->r, 4);
    int reg = -1;

    fz_random_state(c, s->r, 60, false);
    s->keep = s->dirty = s->undef = 0;
    s->no_stack = fz_pct(s->r, 20);
    memset(s->join, 0, sizeof(s->join));
    if (!s->no_stack) {
        c->st.gpr[RSP] = FZ_DATA + 0x600 + fz_below(s->r, 0x1800);
        if (fz_pct(s->r, 90))
            c->st.gpr[RSP] &= ~(uint64_t)7;
        s->keep = 1u << RSP;
    }
    if (fz_pct(s->r, 30)) {
        reg = fz_pct(s->r, 40) ? RCX : free_reg(s);
        c->st.gpr[reg] = 2 + fz_below(s->r, 4);
        s->keep |= (uint16_t)(1u << reg);
        s->dirty |= (uint16_t)(1u << reg);
        s->undef = FL_ARITH;
    }
    while (parts-- && room(s, 12))
        part(s);
    if (c->n == 0)
        return false;
    if (reg >= 0)
        loop_back(s, reg, 0);
    c->undef = c->undef_at[c->n] = s->undef;
    return resolve(s);
}

void fz_sequence(struct fz_case *c, uint64_t seed, uint64_t index, unsigned nforms)
{
    struct fz_rng r;
    struct seq s = {.c = c, .r = &r};

    if (!by_class[0])
        sort_forms(nforms);
    fz_seed(&r, seed ^ 0x73657175, index);
    c->seed = seed;
    c->index = index;
    c->sequence = true;
    for (unsigned tries = 0; tries < 20; tries++)
        if (build(&s))
            return;
    c->n = 0;
}

/* --- liveness --- */

/* The instruction at a branch's target, or c->n. */
static unsigned successor(const struct fz_case *c, unsigned i)
{
    int64_t to = c->off[i + 1] + (int64_t)c->in[i].imm;

    for (unsigned k = 0; k < c->n; k++)
        if (c->off[k] == to)
            return k;
    return c->n;
}

uint16_t fz_dead_flags(const struct fz_case *c, unsigned at)
{
    uint16_t live[FZ_MAX_INSN + 1];

    for (unsigned i = 0; i < c->n; i++)
        live[i] = 0;
    live[c->n] = FL_ARITH;
    /* Branches backward need another round. */
    for (unsigned round = 0; round < 3; round++)
        for (unsigned i = c->n; i-- > 0;) {
            const struct insn *in = &c->in[i];
            uint16_t out = live[i + 1];
            bool branch = insn_class(in) == IC_BRANCH;

            if (branch && in->imm_len && in->opcode != 0xc2) {
                bool always =
                    !in->map && (in->opcode == 0xe8 || in->opcode == 0xe9 || in->opcode == 0xeb);

                out = live[successor(c, i)] | (always ? 0 : out);
            } else if (branch) {
                out = FL_ARITH;
            }
            live[i] = (uint16_t)(((out & ~in->fl_write) | in->fl_read) & FL_ARITH);
        }
    return at < c->n ? (uint16_t)(FL_ARITH & ~live[at]) : 0;
}
