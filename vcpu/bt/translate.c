/*
 * Translating a block: gather its instructions, work out which flags are read later, emit.
 */
#include "vcpu/bt/tr.h"

#define UNROLL    32 /* instructions that repeating a loop may come to */
#define AHEAD_MAX 8  /* instructions looked at beyond a branch for flag liveness */

struct bt_map *tr_mark(struct tr *t)
{
    struct bt_map *m = &t->map[t->nmap++];

    *m = (struct bt_map){.host = t->e.at - t->b->code,
                         .guest = (uint16_t)(t->rip[t->i] - t->b->rip),
                         .saved = t->saved || !t->live[t->i]};
    return m;
}

void tr_reloc(struct tr *t, enum bt_reloc kind)
{
    uint32_t at = t->e.at - (kind == RELOC_ADDR || kind == RELOC_LINK ? 8 : 4) - t->b->code;

    if (t->nreloc == RELOC_MAX || at > 0xffff)
        t->fixed = true;
    if (!t->fixed)
        t->reloc[t->nreloc++] = (uint32_t)kind << 16 | at;
}

void tr_mov_addr(struct tr *t, unsigned reg, uint64_t addr)
{
    if (t->fixed) {
        e_mov_imm(&t->e, reg, addr);
        return;
    }
    e_mov_imm64(&t->e, reg, addr);
    tr_reloc(t, RELOC_ADDR);
}

void tr_jmp_glue(struct tr *t, uint32_t target)
{
    e_jmp_to(&t->e, target);
    tr_reloc(t, RELOC_GLUE);
}

void tr_call_glue(struct tr *t, uint32_t target)
{
    e_call_to(&t->e, target);
    tr_reloc(t, RELOC_GLUE);
}

void tr_flags_clobber(struct tr *t)
{
    if (!t->saved && t->live[t->i]) {
        e_flags_save(&t->e, true);
        t->saved = true;
    }
}

void tr_flags_use(struct tr *t, bool h_b)
{
    const struct insn *in = &t->in[t->i];
    unsigned w = in->fl_write & FL_ARITH;

    if (!t->saved)
        return;
    if ((in->fl_read & FL_ARITH) || (w && (t->live[t->i + 1] & ~w))) {
        e_flags_restore(&t->e, h_b);
        t->saved = false;
    } else if (w) {
        t->saved = false;
    }
}

/* Flags an instruction reads, as liveness must see it. */
static uint16_t reads(const struct insn *in)
{
    if (insn_class(in) == IC_SYS || insn_class(in) == IC_UD)
        return FL_ARITH;
    return in->fl_read & FL_ARITH;
}

/* Flags live on entry to rip, which lies in the page that host shows; remembers what it looked at.
 */
static uint16_t live_at(struct tr *t, uint64_t rip, const uint8_t *page)
{
    unsigned at = rip & (PAGE_SIZE - 1), start = at, slot = 0;
    uint16_t need = 0, killed = 0;

    while (slot < BT_AHEAD && t->b->ahead[slot].len)
        slot++;
    if (slot == BT_AHEAD || (rip ^ t->b->rip) >> PAGE_SHIFT || t->b->page2 != ~(gpa_t)0 ||
        (bt_debug & BT_DBG_NO_LIVENESS))
        return FL_ARITH;
    for (int k = 0; k < AHEAD_MAX && ((need | killed) & FL_ARITH) != FL_ARITH; k++) {
        struct insn in;

        if (decode(&in, page + at, PAGE_SIZE - at, t->mode) != DEC_OK)
            break;
        need |= (uint16_t)(reads(&in) & ~killed);
        killed |= in.fl_write & FL_ARITH;
        at += in.len;
        if (tr_ends(&in))
            break;
    }
    /* Even an undecided look saw bytes: those to come may be others, so count them all the same. */
    t->b->ahead[slot].at = (uint16_t)start;
    t->b->ahead[slot].len =
        (uint16_t)((at < PAGE_SIZE - INSN_MAX ? at + INSN_MAX : PAGE_SIZE) - start);
    return (uint16_t)((FL_ARITH & ~killed) | need);
}

/* Flags live where instruction i leaves the block to; of the last one, also by falling through. */
static uint16_t live_out(struct tr *t, unsigned i, const uint8_t *page)
{
    const struct insn *in = &t->in[i];
    uint64_t next = t->rip[i] + in->len, target = tr_target(t, i);
    unsigned op = in->opcode;
    bool last = i + 1 == t->n;

    if (!tr_ends(in))
        return last ? live_at(t, next, page) : 0;
    if (insn_class(in) != IC_BRANCH)
        return FL_ARITH;
    if (tr_is_jcc(in) && !last)
        return live_at(t, t->again[i] ? next : target, page);
    if (tr_is_jcc(in) || (in->map == 0 && op >= 0xe0 && op <= 0xe3))
        return live_at(t, next, page) | live_at(t, target, page);
    if (in->map == 0 && (op == 0xe8 || op == 0xe9 || op == 0xeb))
        return live_at(t, target, page);
    return FL_ARITH;
}

static void liveness(struct tr *t, const uint8_t *page)
{
    t->live[t->n] = 0;
    for (unsigned i = t->n; i-- > 0;) {
        const struct insn *in = &t->in[i];
        uint16_t after = t->out[i] = live_out(t, i, page);

        /* What comes after a call is the callee's affair. */
        if (!tr_ends(in) || tr_is_jcc(in))
            after |= t->live[i + 1];
        if (i + 1 == t->n)
            t->live[t->n] = t->out[t->n] = t->out[i];
        t->live[i] = (uint16_t)((after & ~in->fl_write) | reads(in)) & FL_ARITH;
        if (bt_debug & BT_DBG_NO_LIVENESS)
            t->live[i] = FL_ARITH;
    }
}

/* The first instruction runs into the next page. */
static bool gather_straddler(struct tr *t, const uint8_t *host, unsigned first, bool *fault)
{
    struct vcpu *v = t->v;
    uint8_t buf[INSN_MAX];
    gpa_t gpa2;
    bool global;

    if (mem_translate_fetch(v, (t->b->rip & PAGE_MASK) + PAGE_SIZE, &gpa2, &global)) {
        *fault = true;
        return false;
    }
    const uint8_t *second = ram_ptr(v->vm->ram, gpa2, PAGE_SIZE);

    /* Untraced again since locate(): the interpreter will do this once. */
    if (!second || !(v->vm->ram->attr[gpa2 >> PAGE_SHIFT] & RAM_ATTR_CODE))
        return false;
    for (unsigned i = 0; i < INSN_MAX; i++)
        buf[i] = i < first ? host[i] : second[i - first];
    if (decode(&t->in[0], buf, INSN_MAX, t->mode) != DEC_OK)
        return false;
    t->b->page2 = gpa2 & PAGE_MASK;
    t->n = 1;
    return true;
}

/* The interpreter runs what has a breakpoint, and so stops there. */
static bool has_breakpoint(const struct tr *t, uint64_t rip)
{
    const struct debug *d = t->v->vm->debug;

    return d && d->ncode && debug_code(d, rip);
}

/* The block goes on after its last instruction: past a branch that is not taken, after a call, or
 * once more round a short loop (*again). */
static bool goes_on(struct tr *t, unsigned *sides, bool *again)
{
    const struct insn *in = &t->in[t->n - 1];
    unsigned op = in->opcode, body = t->n;

    *again = false;
    if (insn_class(in) != IC_BRANCH || (bt_debug & BT_DBG_NO_TRACE) || *sides == BT_MAX_SIDES ||
        t->b->page2 != ~(gpa_t)0)
        return false;
    ++*sides;
    if (in->map == 0 && (op == 0xe8 || (op == 0xff && (in->reg & 7) == 2)))
        return true;
    if (!tr_is_jcc(in))
        return false;
    *again = tr_target(t, t->n - 1) == t->b->rip;
    /* Past the end of another loop it pays where what is checked is checked for good. */
    if (!*again)
        return (int64_t)in->imm >= 0 || tr_windows(t);
    for (unsigned i = 0; i < t->n; i++)
        if (t->again[i])
            body = t->n - i - 1;
    return t->n + body <= UNROLL;
}

static bool gather(struct tr *t, const uint8_t *host, bool *fault)
{
    unsigned room = PAGE_SIZE - (t->b->gpa & (PAGE_SIZE - 1)), at = 0, sides = 0;
    unsigned max = bt_debug & BT_DBG_ONE_INSN ? 1 : BT_MAX_INSNS;

    *fault = false;
    while (t->n < max) {
        struct insn *in = &t->in[t->n];

        if (has_breakpoint(t, t->b->rip + at))
            break;
        enum decode_status st = decode(in, host + at, room - at, t->mode);
        bool again = false;

        if (st == DEC_MORE && t->n == 0 && !gather_straddler(t, host, room, fault))
            return false;
        if (st == DEC_MORE && t->n == 1 && t->b->page2 != ~(gpa_t)0)
            st = DEC_OK;
        else if (st == DEC_OK)
            t->n++;
        if (st != DEC_OK)
            break;
        t->rip[t->n - 1] = t->b->rip + at;
        t->again[t->n - 1] = false;
        if (!tr_wide(t))
            tr_as64(in);
        at += in->len;
        t->rip[t->n] = t->b->rip + at;
        if (t->b->len < at)
            t->b->len = (uint16_t)at;
        if (at >= room || (tr_ends(in) && !goes_on(t, &sides, &again)))
            break;
        if (tr_ends(in) && again && t->n < max) {
            t->again[t->n - 1] = true;
            at = 0;
            t->rip[t->n] = t->b->rip;
        }
    }
    return t->n > 0;
}

static void one(struct tr *t)
{
    const struct insn *in = &t->in[t->i];

    switch (insn_class(in)) {
    case IC_ALU:
        /* With other CPUs to wait for. */
        if (in->map == 0 && in->opcode == OP_PAUSE && in->rep && t->v->vm->nvcpu > 1)
            tr_callout(t);
        else
            tr_operate(t);
        break;
    case IC_VEC:
    case IC_X87:
    case IC_MOFFS:
        tr_operate(t);
        break;
    case IC_STACK:
        tr_stack(t);
        break;
    case IC_BRANCH:
        tr_branch(t);
        break;
    case IC_UD:
        tr_exit_interp(t, t->rip[t->i]);
        break;
    case IC_SYS:
        if (tr_ends(in))
            tr_exit_interp(t, t->rip[t->i]);
        else if (!tr_system(t))
            tr_callout(t);
        break;
    case IC_STRING:
        if (!tr_string(t))
            tr_callout(t);
        break;
    case IC_VECSYS:
        tr_callout(t);
        break;
    }
}

static void emit_block(struct tr *t)
{
    struct bt_block *b = t->b;

    b->entry_slot = t->e.at;
    if (t->live[0])
        e_flags_restore(&t->e, true);
    b->entry_live = t->e.at;
    tr_poll_start(t);
    for (t->i = 0; t->i < t->n; t->i++) {
        unsigned first = t->ncold;

        t->keep = false;
        tr_checks(t);
        if (!tr_sp_follow(t))
            one(t);
        if (!t->keep)
            t->held = REG_NONE;
        bool sti = t->sti == t->i && t->sti;

        if (sti) {
            /* The instruction after STI is through: the shadow ends here. */
            t->n = t->i + 1;
            t->b->len = (uint16_t)(t->rip[t->n] - t->b->rip);
            t->live[t->n] = t->out[t->i] = FL_ARITH;
        }
        for (unsigned k = first; k < t->ncold; k++) {
            t->cold[k].next = t->e.at;
            t->cold[k].restore = !t->saved && t->live[t->i + 1];
        }
        if (sti)
            tr_exit_sti(t, t->rip[t->n]);
    }
    if (!t->ended)
        tr_exit_direct(t, t->rip[t->n]);
    tr_cold_all(t);
    tr_cold_reps(t);
    tr_stubs(t);
    tr_misses(t);
}

static void finish(struct tr *t)
{
    struct bt_block *b = t->b;
    struct bt *bt = t->bt;

    b->code_len = t->e.at - b->code;
    b->nmap = t->nmap;
    b->fixed = t->fixed;
    b->nreloc = (uint16_t)(t->fixed ? 0 : t->nreloc);
    b->reloc = bt_meta_alloc(bt, sizeof(*b->reloc) * b->nreloc);
    for (unsigned k = 0; k < b->nreloc; k++)
        b->reloc[k] = t->reloc[k];
    b->map = bt_meta_alloc(bt, sizeof(*b->map) * t->nmap);
    for (unsigned k = 0; k < t->nmap; k++)
        b->map[k] = t->map[k];
    bt->used = (t->e.at + 15) & ~15u;
    bt_block_add(bt, b);
    bt_cache_ahead(bt);

    struct vcpu_stats *s = &t->v->stats;

    s->bt_blocks++;
    s->bt_guest_insns += t->n;
    s->bt_guest_bytes += b->len;
    s->bt_host_bytes += b->code_len;
}

struct bt_block *bt_translate(struct vcpu *v, gpa_t gpa, uint16_t key, bool *fault)
{
    struct bt *bt = v->vm->bt;
    struct tr *t = &v->bt->tr;
    const uint8_t *page = ram_ptr(v->vm->ram, gpa & PAGE_MASK, PAGE_SIZE);

    *fault = false;
    if (!page)
        return NULL;
    t->v = v;
    t->bt = bt;
    if (v->vm->nvcpu == 1 && (uintptr_t)v <= INT32_MAX - sizeof(*v))
        bt->self = bt_debug & BT_DBG_NO_LOW ? 0 : (uint32_t)(uintptr_t)v;
    t->e = (struct emit){.rw = bt->rw, .at = bt->used, .self = bt->self};
    t->mode = bt_mode(key);
    t->n = t->ncold = t->nrep = t->nmap = t->npend = t->nreloc = t->nlit = 0;
    t->sp = 0;
    t->fixed = !bt_movable(v, v->cpu.rip, key);
    t->saved = t->ended = false;
    t->held = REG_NONE;
    t->sti = 0;
    t->b = bt_meta_alloc(bt, sizeof(*t->b));
    *t->b = (struct bt_block){
        .gpa = gpa, .page2 = ~(gpa_t)0, .rip = v->cpu.rip, .key = key, .code = t->e.at};
    if (!gather(t, page + (gpa & (PAGE_SIZE - 1)), fault)) {
        bt->meta_used = (uint64_t)((uint8_t *)t->b - bt->meta);
        return NULL;
    }
    liveness(t, page);
    tr_plan(t);
    emit_block(t);
    finish(t);
    return t->b;
}
