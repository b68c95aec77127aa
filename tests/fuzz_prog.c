/*
 * Small programs of the kind that compilers make: many accesses near a few bases, bases that move
 * by constants, pushes and pops, branches forwards, calls, and loops of some dozen rounds. They are
 * what the translator's plans (tr_plan.c) are about: accesses checked together, registers kept,
 * bodies repeated, windows that miss.
 */
#include "tests/fuzz.h"
#include "vcpu/bt/emit.h"

struct prog {
    struct fz_case *c;
    struct fz_rng *r;
    struct emit e;
    uint16_t bases;   /* registers that point into the data pages */
    unsigned counter; /* register of the loop */
    bool sub;         /* in a subroutine: what it pushes would be where it returns to */
};

/* 64-bit operands, n times in 100. */
static bool wide(struct prog *p, unsigned n)
{
    return fz_pct(p->r, n) && fz_mode == 8;
}

static bool is_base(const struct prog *p, unsigned r)
{
    return p->bases >> r & 1;
}

/* A register whose value is nobody's concern. */
static unsigned any(struct prog *p)
{
    unsigned r;

    do
        r = fz_below(p->r, fz_nregs());
    while (r == RSP || is_base(p, r) || r == p->counter);
    return r;
}

static unsigned base(struct prog *p)
{
    unsigned r;

    do
        r = fz_below(p->r, fz_nregs());
    while (!is_base(p, r));
    return r;
}

static void done(struct prog *p)
{
    struct fz_case *c = p->c;

    c->len = p->e.at;
    c->off[++c->n] = (uint16_t)c->len;
}

static bool room(const struct prog *p)
{
    return p->c->n + 6 < FZ_MAX_INSN && p->e.at + 60 < FZ_MAX_CODE;
}

static struct opnd near(struct prog *p)
{
    struct opnd m = {.base = (uint8_t)base(p), .index = REG_NONE};

    m.disp = (int)fz_below(p->r, fz_pct(p->r, 70) ? 64 : 400) - (fz_pct(p->r, 20) ? 64 : 0);
    if (fz_pct(p->r, 60))
        m.disp &= ~7;
    return m;
}

/* An index: made small by the instruction before. */
static void indexed(struct prog *p, struct opnd *m)
{
    unsigned i = any(p);

    e_rr(&p->e, 0x83, 4, i, false); /* and r32, imm8 */
    e8(&p->e, fz_below(p->r, 32));
    done(p);
    m->index = (uint8_t)i;
    m->scale = (uint8_t)fz_below(p->r, 4);
}

static void memory(struct prog *p)
{
    static const uint8_t ops[] = {0x8b, 0x8b, 0x8b, 0x89, 0x89, 0x89, 0x03, 0x01, 0x33,
                                  0x31, 0x3b, 0x39, 0x85, 0x87, 0x63, 0x29, 0x23, 0x13};
    struct opnd m = near(p);
    unsigned op = ops[fz_below(p->r, sizeof(ops))];

    if (fz_pct(p->r, 20))
        indexed(p, &m);
    else if (wide(p, 10))
        e8(&p->e, 0x67);            /* all that is accessed lies low */
    if (op == 0x63 && fz_mode != 8) /* ARPL there */
        op = 0x8b;
    e_op(&p->e, op, any(p), &m, op == 0x63 || wide(p, 70));
    done(p);
}

/* From the base of FS or GS, with a small index or none. */
static void of_segment(struct prog *p)
{
    static const uint8_t ops[] = {0x8b, 0x89, 0x03, 0x01, 0x3b};
    struct opnd m = {.base = REG_NONE, .index = REG_NONE};

    if (!fz_native_bases())
        return;
    if (fz_pct(p->r, 30)) {
        indexed(p, &m);
        m.base = m.index;
        m.index = REG_NONE;
    }
    m.disp = (int)fz_below(p->r, 96);
    e8(&p->e, 0x64 | fz_below(p->r, 2));
    e_op(&p->e, ops[fz_below(p->r, sizeof(ops))], any(p), &m, wide(p, 70));
    done(p);
}

/* 0F xx: MOVZX, MOVSX, CMOVcc, SETcc, MOVUPS. */
static void memory_0f(struct prog *p)
{
    static const uint8_t ops[] = {0xb6, 0xb7, 0xbe, 0xbf, 0x44, 0x4c, 0x92, 0x9f, 0x10, 0x11};
    struct opnd m = near(p);
    unsigned reg = any(p), op = ops[fz_below(p->r, sizeof(ops))];

    if (fz_mode == 8)
        e8(&p->e, 0x48 | (reg & 8 ? 4u : 0) | (m.base & 8 ? 1u : 0));
    e8(&p->e, 0x0f);
    e8(&p->e, op);
    e8(&p->e, 0x80 | (reg & 7) << 3 | (m.base & 7));
    if ((m.base & 7) == 4)
        e8(&p->e, 0x24);
    e32(&p->e, (uint32_t)m.disp);
    done(p);
}

/* ANDN, BZHI, PEXT, PDEP, BEXTR, SHLX, SARX, SHRX: a third register, which may be a base. */
static void three_operands(struct prog *p)
{
    static const uint8_t ops[][2] = {{0xf2, 0}, {0xf5, 0}, {0xf5, 2}, {0xf5, 3},
                                     {0xf7, 0}, {0xf7, 1}, {0xf7, 2}, {0xf7, 3}};
    unsigned k = fz_below(p->r, sizeof(ops) / sizeof(ops[0])), reg = any(p);
    unsigned third = fz_pct(p->r, 50) ? RSP : fz_pct(p->r, 30) ? base(p) : any(p);
    struct opnd m = near(p);

    if (!__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2"))
        return;
    if (fz_pct(p->r, 50))
        m.base = RSP;
    e8(&p->e, 0xc4);
    e8(&p->e, (reg & 8 ? 0 : 0x80u) | 0x40 | (m.base & 8 ? 0 : 0x20u) | 2);
    e8(&p->e, (fz_pct(p->r, 80) ? 0x80u : 0) | (~third & 15) << 3 | ops[k][1]);
    e8(&p->e, ops[k][0]);
    e8(&p->e, 0x80 | (reg & 7) << 3 | (m.base & 7));
    if ((m.base & 7) == 4)
        e8(&p->e, 0x24);
    e32(&p->e, (uint32_t)m.disp);
    done(p);
    /* ANDN, BZHI and BEXTR leave some flags undefined, which a Jcc to come may read. */
    if (ops[k][1] == 0) {
        e_rr(&p->e, 0x39, reg, any(p), fz_mode == 8);
        done(p);
    }
}

static void arithmetic(struct prog *p)
{
    static const uint8_t ops[] = {0x01, 0x29, 0x31, 0x39, 0x85, 0x89, 0x11, 0x19, 0x21, 0x8b};
    unsigned from = fz_pct(p->r, 20) ? base(p) : any(p);

    e_rr(&p->e, ops[fz_below(p->r, sizeof(ops))], from, any(p), wide(p, 70));
    done(p);
}

/* Bases move by constants: ADD, SUB, LEA, INC. */
static void move_base(struct prog *p)
{
    unsigned r = base(p);
    int by = (int)fz_below(p->r, 33) - 16;

    if (fz_pct(p->r, 40)) {
        e_lea(&p->e, r, fz_pct(p->r, 70) ? r : base(p), REG_NONE, 0, by, fz_mode, 8);
    } else if (fz_pct(p->r, 20)) {
        e_rr(&p->e, 0xff, fz_below(p->r, 2), r, fz_mode == 8);
    } else {
        e_rr(&p->e, 0x83, fz_pct(p->r, 50) ? 0 : 5, r, fz_mode == 8);
        e8(&p->e, (unsigned)by & 0xff);
    }
    done(p);
}

static void stack(struct prog *p)
{
    unsigned n = 1 + fz_below(p->r, 3);
    bool push = fz_pct(p->r, 60);

    while (n--) {
        unsigned r = any(p);

        if (r & 8)
            e8(&p->e, 0x41);
        e8(&p->e, (push ? 0x50u : 0x58u) | (r & 7));
        done(p);
    }
}

static void string(struct prog *p)
{
    static const uint8_t ops[] = {0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad};

    if (!is_base(p, RSI) || !is_base(p, RDI))
        return;
    if (fz_pct(p->r, 30) && p->counter != RCX && !is_base(p, RCX)) {
        e_mov_imm(&p->e, RCX, fz_below(p->r, 40));
        done(p);
        e8(&p->e, 0xf3);
        e8(&p->e, ops[fz_below(p->r, 4)]);
    } else {
        e8(&p->e, ops[fz_below(p->r, sizeof(ops))]);
    }
    done(p);
}

static void plain(struct prog *p)
{
    unsigned what = fz_below(p->r, 100);

    if (what < 40)
        memory(p);
    else if (what < 45)
        of_segment(p);
    else if (what < 55)
        memory_0f(p);
    else if (what < 58)
        three_operands(p);
    else if (what < 75)
        arithmetic(p);
    else if (what < 85)
        move_base(p);
    else if (what < 94 && !p->sub)
        stack(p);
    else
        string(p);
}

static void forward(struct prog *p)
{
    unsigned n = 1 + fz_below(p->r, 3);
    uint32_t site = e_jcc(&p->e, fz_below(p->r, 16));

    done(p);
    while (n-- && room(p))
        plain(p);
    e_patch(p->e.rw, site, p->e.at);
}

static void body(struct prog *p, unsigned parts, uint32_t sub)
{
    while (parts-- && room(p)) {
        if (sub && fz_pct(p->r, 10)) {
            e_call_to(&p->e, sub - 1);
            done(p);
        } else if (fz_pct(p->r, 20)) {
            forward(p);
        } else {
            plain(p);
        }
    }
}

static uint64_t place(struct prog *p)
{
    /* Some where the pages meet. */
    uint64_t at = fz_pct(p->r, 30) ? 0xf00 + fz_below(p->r, 0x110) : 0x500 + fz_below(p->r, 0x1500);

    return FZ_DATA + (fz_pct(p->r, 80) ? at & ~7u : at);
}

static void choose_registers(struct prog *p)
{
    static const uint8_t odd64[] = {R10, R11, R15}, odd32[] = {RDX, RBX, RBP};
    const uint8_t *odd = fz_mode == 8 ? odd64 : odd32;
    unsigned n = 2 + fz_below(p->r, 4);

    p->bases = 1u << RSP;
    p->counter = fz_pct(p->r, 50) ? RCX : odd[fz_below(p->r, 3)];
    if (fz_pct(p->r, 40))
        p->bases |= 1u << RSI | 1u << RDI;
    while (n--) {
        unsigned r = fz_pct(p->r, 30) ? odd[fz_below(p->r, 3)] : fz_below(p->r, fz_nregs());

        if (r != p->counter && r != RAX)
            p->bases |= (uint16_t)(1u << r);
    }
    for (unsigned r = 0; r < NGPR; r++)
        if (is_base(p, r))
            p->c->st.gpr[r] = place(p);
    if (fz_native_bases()) {
        p->c->st.fs_base = place(p);
        p->c->st.gs_base = place(p);
    }
}

/* RSP comes from so far that the plan loses sight of it (16 MiB) some pushes or pops later. */
static void far_stack(struct prog *p)
{
    int by = ((1 << 24) - 8 * (1 + (int)fz_below(p->r, 5))) * (fz_pct(p->r, 50) ? 1 : -1);

    p->c->st.gpr[RSP] = fz_wrap(p->c->st.gpr[RSP] - (uint64_t)(int64_t)by);
    e_lea(&p->e, RSP, RSP, REG_NONE, 0, by, fz_mode, 8);
    done(p);
    for (unsigned n = 2 + fz_below(p->r, 3); n; n--)
        stack(p);
}

static void build(struct prog *p)
{
    unsigned rounds = fz_pct(p->r, 70) ? 2 + fz_below(p->r, 20) : 0;
    uint32_t sub = 0, loop;

    choose_registers(p);
    if (fz_pct(p->r, 10))
        far_stack(p);
    if (fz_pct(p->r, 40)) {
        uint32_t over = e_jmp(&p->e);

        done(p);
        sub = p->e.at + 1; /* 0: none */
        p->sub = true;
        body(p, 1 + fz_below(p->r, 4), 0);
        p->sub = false;
        e8(&p->e, 0xc3);
        done(p);
        e_patch(p->e.rw, over, p->e.at);
    }
    if (rounds) {
        e_mov_imm(&p->e, p->counter, rounds);
        done(p);
    } else {
        p->counter = REG_NONE;
    }
    loop = p->e.at;
    body(p, 2 + fz_below(p->r, 14), sub);
    if (rounds) {
        e_rr(&p->e, 0x83, 5, p->counter, wide(p, 50)); /* sub counter, 1 */
        e8(&p->e, 1);
        done(p);
        e_patch(p->e.rw, e_jcc(&p->e, 5), loop);
        done(p);
    }
}

void fz_program(struct fz_case *c, uint64_t seed, uint64_t index)
{
    struct fz_rng r;
    struct prog p = {.c = c, .r = &r};

    fz_seed(&r, seed ^ 0x70726f67, index);
    c->seed = seed;
    c->index = index;
    c->sequence = true;
    do {
        fz_random_state(c, &r, FZ_MAX_CODE, true);
        c->st.rflags &= ~(uint64_t)FL_DF;
        p.e = (struct emit){.rw = c->code};
        build(&p);
        for (unsigned i = 0; i < c->n; i++)
            decode(&c->in[i], c->code + c->off[i], (unsigned)(c->off[i + 1] - c->off[i]), fz_mode);
    } while (c->n < 2);
}
