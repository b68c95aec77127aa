/*
 * What the decoder says an instruction touches, held against what it does. The translator trusts
 * gpr_read, gpr_write, fl_read, fl_write and the memory operand: a window's check stands for later
 * accesses because no register between was written, a flag is not kept because it is written before
 * it is read, an instruction with no operand in memory is emitted as it is.
 *
 * A single instruction is run in the interpreter three times: as it is; with everything changed
 * that it is said not to read, which may change nothing that it writes; and with one thing changed
 * that it is said to read. The last finds no fault: it tells, with the registers and flags that
 * changed in the first, what the test would notice should it be missing from the tables.
 */
#include <stdlib.h>
#include "tests/fuzz.h"
#include "vcpu/bt/tr.h"

/* By form. always: written, or read, in all its instances; seen: an instance would have failed. */
struct effects {
    unsigned runs;
    uint16_t gw_any, gw_always, gw_seen, gr_any, gr_always, gr_seen;
    uint16_t fw_any, fw_seen, fr_any, fr_seen;
};
static struct effects *effects;
static struct fz_case other;
static struct fz_result second;
static uint8_t page[2][PAGE_SIZE]; /* the data pages after the first run */

#define FLAGS (FL_ARITH | FL_DF)

void fz_effects_init(unsigned nforms)
{
    effects = calloc(nforms, sizeof(*effects));
    if (!effects)
        abort();
}

static bool complain(const struct fz_case *c, const char *what, uint64_t bits)
{
    static unsigned shown;

    if (shown++ < 20) {
        printf("%s (%#lx), which the decoder does not say: %s\n", what, bits, c->in[0].info->name);
        fz_print_case(c);
    }
    return false;
}

/* At most one operand, in memory where ModRM says. */
static bool bounded(const struct insn *in)
{
    enum insn_class cls = insn_class(in);

    return (cls == IC_ALU || cls == IC_VEC || cls == IC_X87) && !(in->info->flags & OF_BITMEM);
}

/* Linear address of the ModRM operand; nothing is there when mem_size is 0. */
static uint64_t operand(const struct fz_case *c)
{
    const struct insn *in = &c->in[0];
    uint64_t ea = (uint64_t)in->disp;

    if (in->base == BASE_RIP)
        ea += c->code_va + in->len;
    else if (in->base != REG_NONE)
        ea += c->st.gpr[in->base];
    if (in->index != REG_NONE)
        ea += c->st.gpr[in->index] << in->scale;
    if (in->addrsize < 8)
        ea &= in->addrsize == 4 ? 0xffffffff : 0xffff;
    return fz_wrap(ea + (in->seg == SEG_FS   ? c->st.fs_base
                         : in->seg == SEG_GS ? c->st.gs_base
                                             : 0));
}

static bool in_operand(const struct fz_case *c, uint64_t va)
{
    return c->in[0].has_mem && va - operand(c) < c->in[0].mem_size;
}

static bool writes_ok(const struct fz_case *c, const struct fz_result *a, struct effects *e)
{
    const struct insn *in = &c->in[0];
    uint64_t flags = (a->st.rflags ^ c->st.rflags) & ~(uint64_t)FL_RF;
    uint16_t gprs = 0;

    for (unsigned r = 0; r < NGPR; r++)
        if (a->st.gpr[r] != c->st.gpr[r])
            gprs |= (uint16_t)(1u << r);
    e->gw_seen |= gprs;
    e->fw_seen |= flags & FLAGS;
    if (gprs & ~in->gpr_write)
        return complain(c, "registers written", gprs & ~in->gpr_write);
    /* POPF has more of them, and bt's blocks end after it. */
    if (flags & ~(uint64_t)in->fl_write && (in->opcode != 0x9d || in->map))
        return complain(c, "flags written", flags & ~(uint64_t)in->fl_write);
    for (unsigned i = 0; i < 2 * PAGE_SIZE && bounded(in); i++)
        if (page[i / PAGE_SIZE][i % PAGE_SIZE] != c->data[i / PAGE_SIZE][i % PAGE_SIZE] &&
            !(in->mem_write && in_operand(c, FZ_DATA + i)) &&
            !(c->code_in_data && FZ_DATA + i - c->code_va < INSN_MAX + 64))
            return complain(c, "memory written", FZ_DATA + i);
    return true;
}

/* The translator's plan says of registers that they hold what one held before, and a constant. */
static bool plan_ok(const struct fz_case *c, const struct fz_result *a)
{
    static struct tr t;
    static struct bt bt;
    static struct bt_block b;
    unsigned debug = bt_debug;

    bt_debug = BT_DBG_NO_TRACE;
    b.rip = (uint64_t)1 << 40; /* no windows are looked for there */
    t.b = &b;
    t.bt = &bt;
    t.n = 1;
    t.mode = fz_mode;
    t.in[0] = c->in[0];
    t.rip[0] = c->code_va;
    t.rip[1] = c->code_va + c->in[0].len;
    tr_plan(&t);
    bt_debug = debug;
    for (unsigned r = 0; r < NGPR; r++) {
        unsigned sym = t.syms[1].sym[r];

        if (sym < NGPR &&
            fz_wrap(a->st.gpr[r] - c->st.gpr[sym] - (uint64_t)(int64_t)t.syms[1].add[r]))
            return complain(c, "a register does not hold what the plan says", 1u << r);
    }
    return (t.syms[1].sym[SYM_FS] != SYM_FS || a->st.fs_base == c->st.fs_base) &&
           (t.syms[1].sym[SYM_GS] != SYM_GS || a->st.gs_base == c->st.gs_base);
}

/* Change what the instruction is said not to read. */
static void disturb(struct fz_case *c, struct fz_rng *r)
{
    const struct insn *in = &c->in[0];

    for (unsigned g = 0; g < NGPR; g++)
        if (!(in->gpr_read >> g & 1))
            c->st.gpr[g] ^= g < 8 ? fz_wrap(fz_rnd(r)) : fz_rnd(r);
    c->st.rflags ^= fz_rnd(r) & (FL_ARITH | FL_DF) & ~(uint64_t)in->fl_read;
    if (!bounded(in) || c->code_in_data)
        return;
    for (unsigned i = 0; i < 2 * PAGE_SIZE; i++)
        if (!in->mem_read || !in_operand(c, FZ_DATA + i))
            c->data[i / PAGE_SIZE][i % PAGE_SIZE] ^= 0x5a;
}

/* The first and the second run did the same. What faults stored nothing, or some of it, and x87
 * stores nothing when it raises what is not masked. */
static bool same_memory(const struct fz_case *c, bool done)
{
    const struct insn *in = &c->in[0];

    for (unsigned i = 0; i < 2 * PAGE_SIZE; i++) {
        uint8_t now = second.page[i / PAGE_SIZE][i % PAGE_SIZE];
        bool masked = false;

        for (unsigned k = 0; k < c->nmask; k++)
            masked |= FZ_DATA + i - c->mask[k].va < c->mask[k].len;
        if (masked || now == page[i / PAGE_SIZE][i % PAGE_SIZE])
            continue;
        if (done && in->mem_write && in_operand(c, FZ_DATA + i))
            return false;
        if (now != other.data[i / PAGE_SIZE][i % PAGE_SIZE])
            return false;
    }
    return true;
}

static bool reads_ok(const struct fz_case *c, const struct fz_result *a)
{
    const struct insn *in = &c->in[0];
    bool done = a->vector == FZ_END, x87 = insn_class(in) == IC_X87;
    uint64_t kept = (other.st.rflags ^ second.st.rflags) & FLAGS & ~(uint64_t)in->fl_write;
    uint64_t killed = (a->st.rflags ^ second.st.rflags) & in->fl_write & FLAGS;

    if (second.vector != a->vector || second.st.rip != a->st.rip ||
        (a->vector >= 0 && second.error != a->error))
        return complain(c, "something decides where it goes", 0);
    for (unsigned r = 0; r < NGPR; r++) {
        bool written = in->gpr_write >> r & 1, read = in->gpr_read >> r & 1;

        /* What faults may have written it before, or not. */
        if (done && written && second.st.gpr[r] != a->st.gpr[r])
            return complain(c, "a register's result depends on something", 1u << r);
        if (!written && !read && second.st.gpr[r] != other.st.gpr[r])
            return complain(c, "a register was written", 1u << r);
    }
    if (done && kept)
        return complain(c, "flags written", kept);
    if (done && (killed & ~(uint64_t)c->undef))
        return complain(c, "a flag's result depends on something", killed);
    if (memcmp(a->st.xsave, second.st.xsave, sizeof(a->st.xsave)))
        return complain(c, "a vector result depends on something", 0);
    if (!same_memory(c, done && !x87))
        return complain(c, "what is stored depends on something", 0);
    return true;
}

/* Change one thing that it reads: would anybody notice? */
static void notice(const struct fz_case *c, const struct fz_result *a, struct fz_rng *r,
                   struct effects *e)
{
    const struct insn *in = &c->in[0];
    uint16_t gpr = 0, flag = 0, flags = in->fl_read & FLAGS;
    unsigned k;

    other = *c;
    if (flags && fz_pct(r, 50)) {
        do
            flag = (uint16_t)(1u << fz_below(r, 16));
        while (!(flag & flags));
        other.st.rflags ^= flag;
    } else if (in->gpr_read) {
        do
            k = fz_below(r, NGPR);
        while (!(in->gpr_read >> k & 1));
        gpr = (uint16_t)(1u << k);
        other.st.gpr[k] ^= fz_wrap(fz_rnd(r));
    } else {
        return;
    }
    fz_interp_run(&other, &second);
    bool same = second.vector == a->vector && second.st.rip == a->st.rip &&
                !((second.st.rflags ^ a->st.rflags) & FLAGS & ~(uint64_t)flag) &&
                !memcmp(a->st.xsave, second.st.xsave, sizeof(a->st.xsave)) &&
                !memcmp(page[0], second.page[0], PAGE_SIZE) &&
                !memcmp(page[1], second.page[1], PAGE_SIZE);

    if (flag && ((in->fl_write & flag) ? (second.st.rflags ^ a->st.rflags) & flag
                                       : !((second.st.rflags ^ a->st.rflags) & flag)))
        same = false;
    for (k = 0; k < NGPR; k++)
        if (!(gpr >> k & 1) || (in->gpr_write >> k & 1))
            same &= second.st.gpr[k] == a->st.gpr[k];
    if (!same) {
        e->gr_seen |= gpr;
        e->fr_seen |= flag;
    }
}

bool fz_effects(const struct fz_case *c, const struct fz_result *a)
{
    const struct insn *in = &c->in[0];
    struct effects *e = &effects[c->form];
    struct fz_rng r;
    bool ok;

    if (c->n != 1 || a->vector == FZ_LOST || a->astray)
        return true;
    fz_seed(&r, c->seed ^ 0xeffec7, c->index);
    memcpy(page[0], a->page[0], PAGE_SIZE);
    memcpy(page[1], a->page[1], PAGE_SIZE);
    ok = a->vector != FZ_END || (writes_ok(c, a, e) && plan_ok(c, a));
    other = *c;
    disturb(&other, &r);
    fz_interp_run(&other, &second);
    ok = ok && reads_ok(c, a);
    if (a->vector != FZ_END)
        return ok;
    e->gw_always = e->runs ? e->gw_always & in->gpr_write : in->gpr_write;
    e->gr_always = e->runs ? e->gr_always & in->gpr_read : in->gpr_read;
    e->gw_any |= in->gpr_write;
    e->gr_any |= in->gpr_read;
    e->fw_any |= in->fl_write & FLAGS & (uint16_t)~c->undef;
    e->fr_any |= in->fl_read & FLAGS;
    e->runs++;
    notice(c, a, &r, e);
    return ok;
}

/* Nothing depends on the address of a NOP; LEAVE and LODS replace what the tables say they keep a
 * part of, save for a count that is rare. */
static bool vague(const struct insn *in)
{
    static const char *const name[] = {"nop", "leave", "lods"};

    for (unsigned i = 0; i < sizeof(name) / sizeof(*name); i++)
        if (!strcmp(in->info->name, name[i]))
            return true;
    return false;
}

static bool weak(unsigned form, const char *what, uint16_t any, uint16_t all, uint16_t seen)
{
    const struct insn *in = fz_form(form);

    if (!(all & ~seen) && (!any || seen))
        return false;
    if (getenv("UNCOVERED"))
        printf("not noticed: %s map %u opcode %02x opsize %u: %s %#x of %#x\n", in->info->name,
               in->map, in->opcode, in->opsize, what, all & ~seen, any);
    return true;
}

bool fz_effects_tally(unsigned nforms, bool enough)
{
    unsigned runs = 0, n = 0;

    for (unsigned i = 0; i < nforms; i++) {
        const struct effects *e = &effects[i];

        if (!e->runs)
            continue;
        runs++;
        n += weak(i, "registers written", e->gw_any, e->gw_always, e->gw_seen);
        n += weak(i, "flags written", e->fw_any, e->fw_any, e->fw_seen);
        n += !vague(fz_form(i)) && weak(i, "registers read", e->gr_any, e->gr_always, e->gr_seen);
        n += weak(i, "flags read", e->fr_any, 0, e->fr_seen);
    }
    printf("effects of %u forms", runs);
    if (enough)
        printf("; in %u something could be missing from the tables unnoticed", n);
    printf("\n");
    return !enough || !n;
}
