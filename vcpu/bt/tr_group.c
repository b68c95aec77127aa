/*
 * Accesses checked against a linear window (window.c): where, and several at once.
 *
 * Accesses of one symbol (and index) that lie close together make a group (tr_plan.c): one
 * comparison for all of them, put where the flags are dead if there is such a place between the
 * point from which the symbols are known and the first access. What is then accessed needs no
 * scratch register: the window's offset goes into the instruction's own displacement.
 *
 * A group that fails the comparison leaves the block at that point, with everything exact, for a
 * translation of the rest that knows no windows (KEY_PLAIN). bt_window_missed() sees to it that a
 * site which keeps missing is translated for the other window, or for the TLB.
 *
 * The comparison stays good until the block ends, or calls: a window shrinks only in callouts,
 * which leave the block then, or while this vCPU is at the top of its loop.
 */
#include "vcpu/bt/tr.h"

#define SPAN_MAX (64 * (WIN_CLASSES - 6))

bool tr_window_bias(const struct tr *t, unsigned kind, int64_t *bias)
{
    const struct bt_window *win = &t->bt->win[tr_ctx(t)][kind];

    *bias = (int64_t)win->off - (int64_t)win->lo;
    return win->on;
}

/* --- groups --- */

static unsigned span_class(int64_t lo, int64_t hi)
{
    return bt_window_class((unsigned)(hi - lo));
}

/* May a join g? The union is to stay small. What is not known to want another window goes along. */
static bool joins(const struct tr_group *g, const struct tr_access *a, enum bt_hint hint)
{
    int64_t lo = a->off < g->lo ? a->off : g->lo;
    int64_t hi = a->off + a->size > g->hi ? a->off + a->size : g->hi;

    /* Constants may be next to what is written and yet not writable. */
    if (a->base == SYM_NONE && a->index == SYM_NONE && a->write != g->write)
        return false;
    return a->epoch == g->epoch && a->base == g->base && a->index == g->index &&
           a->scale == g->scale && (hint == HINT_NONE || g->hint == hint) && hi - lo <= SPAN_MAX;
}

static void place(struct tr *t, unsigned i, struct tr_access *a)
{
    enum bt_hint hint = bt_window_hint(t->bt, t->rip[i]);
    bool stack = hint == HINT_OTHER ? !a->stack : a->stack;
    struct tr_group *g;

    if (hint == HINT_TLB || a->base == SYM_LAST || a->index == SYM_LAST)
        return;
    for (g = t->group; g < t->group + t->ngroup; g++)
        if (joins(g, a, hint))
            break;
    if (g == t->group + t->ngroup) {
        int64_t bias;

        if (!tr_window_bias(t, stack ? WIN_STACK : 0, &bias))
            return;
        *g = (struct tr_group){.base = a->base,
                               .index = a->index,
                               .scale = a->scale,
                               .stack = stack,
                               .hint = hint,
                               .epoch = a->epoch,
                               .first = (uint8_t)i,
                               .lo = a->off,
                               .hi = a->off + a->size};
        t->ngroup++;
    }
    if (a->off < g->lo)
        g->lo = a->off;
    if (a->off + a->size > g->hi)
        g->hi = a->off + a->size;
    g->write |= a->write;
    a->group = (uint8_t)(g - t->group + 1);
}

/* The register that holds symbol sym before instruction i; REG_NONE. */
static unsigned holder(const struct tr *t, unsigned i, unsigned sym)
{
    for (unsigned r = 0; r < NGPR + 2; r++)
        if (t->syms[i].sym[r] == sym)
            return r;
    return REG_NONE;
}

static bool known(const struct tr *t, unsigned i, const struct tr_group *g)
{
    return t->syms[i].epoch == g->epoch &&
           (g->base == SYM_NONE || holder(t, i, g->base) != REG_NONE) &&
           (g->index == SYM_NONE || holder(t, i, g->index) != REG_NONE);
}

/* Where the group's comparison goes: as late as it can with the flags dead. */
static void choose_point(struct tr *t, struct tr_group *g)
{
    g->at = g->first;
    for (unsigned i = g->first + 1u; i-- > 0 && known(t, i, g);)
        if (!t->live[i]) {
            g->at = (uint8_t)i;
            return;
        }
}

/* More than sum() changes by where tr_checks_run() moves a comparison, or than RSP lags. */
#define MOVED 8192

/* What the comparison adds to the registers; false: perhaps more than a displacement. */
static bool sum(const struct tr *t, const struct tr_group *g, int64_t *add)
{
    const struct tr_syms *s = &t->syms[g->at];

    *add = g->lo - (int64_t)t->bt->win[tr_ctx(t)][g->kind].lo;
    if (g->base != SYM_NONE)
        *add -= s->add[holder(t, g->at, g->base)];
    if (g->index != SYM_NONE)
        *add -= (int64_t)s->add[holder(t, g->at, g->index)] << g->scale;
    return *add > INT32_MIN + MOVED && *add < INT32_MAX - MOVED;
}

/* What is left of a group whose window does not serve after all goes by the TLB. */
static void settle(struct tr *t)
{
    for (struct tr_group *g = t->group; g < t->group + t->ngroup; g++) {
        int64_t bias, add;

        g->kind = (uint8_t)((g->write ? WIN_WRITE : WIN_READ) | (g->stack ? WIN_STACK : 0));
        choose_point(t, g);
        g->dead = !tr_window_bias(t, g->kind, &bias) || !sum(t, g, &add);
    }
    for (unsigned i = 0; i < t->n; i++)
        for (unsigned k = 0; k < 2; k++) {
            struct tr_access *a = &t->acc[i][k];
            int64_t bias;

            if (!a->group)
                continue;
            const struct tr_group *g = &t->group[a->group - 1];

            tr_window_bias(t, g->kind, &bias);
            bias += a->disp;
            if (g->dead || bias < INT32_MIN + MOVED || bias > INT32_MAX - MOVED)
                a->group = 0;
            else
                a->disp = bias;
        }
}

/* Programs with a linear map lie low, and what lies high has no window. */
bool tr_windows(const struct tr *t)
{
    const struct bt_window *win = t->bt->win[tr_ctx(t)];

    if ((bt_debug & (BT_DBG_NO_WINDOW | BT_DBG_NO_INLINE)) || t->b->rip > INT32_MAX)
        return false;
    for (unsigned kind = 0; kind < WIN_KINDS; kind++)
        if (win[kind].on)
            return true;
    return false;
}

void tr_plan_windows(struct tr *t)
{
    for (unsigned i = 0; i < t->n; i++)
        for (unsigned k = 0; k < 2; k++)
            if (t->acc[i][k].used)
                place(t, i, &t->acc[i][k]);
    settle(t);
}

/* --- emission --- */

/* Host register of symbol sym before instruction i. */
static unsigned fetch(struct tr *t, unsigned i, unsigned sym, unsigned scratch)
{
    unsigned r;

    if (sym == SYM_NONE)
        return REG_NONE;
    r = holder(t, i, sym);
    if (r < NGPR)
        return tr_use(t, r, scratch);
    tr_segment_base(t, r == SYM_FS ? SEG_FS : SEG_GS);
    return H_A;
}

/* Where the limit of window kind for the group's span is, from GS. */
static int32_t limit_of(const struct tr *t, const struct tr_group *g, unsigned kind)
{
    return VOFF(hot.win_limit) +
           (int32_t)(8 * (WIN_CLASSES * (WIN_KINDS * tr_ctx(t) + kind) + span_class(g->lo, g->hi)));
}

static void check(struct tr *t, struct tr_group *g)
{
    struct emit *e = &t->e;
    unsigned base, index;
    int64_t add;

    tr_sp_settle(t);
    sum(t, g, &add);
    tr_flags_clobber(t);
    base = fetch(t, g->at, g->base, H_A);
    index = fetch(t, g->at, g->index, H_B);
    if (base == REG_NONE && index == REG_NONE)
        e_mov_imm(e, H_B, (uint64_t)add);
    else
        e_lea(e, H_B, base, index, g->scale, (int32_t)add, 8, 8);
    e_gs(e, 0x3b, H_B, limit_of(t, g, g->kind), true);
    g->miss = e_jcc(e, 3); /* jae */
    g->back = e->at;
    g->done = true;
}

/* Such a site met both windows: the one it asks first is not the only one. */
static bool check_other(struct tr *t, const struct tr_group *g)
{
    const struct bt_window *win = t->bt->win[tr_ctx(t)];
    unsigned other = g->kind ^ WIN_STACK;
    int64_t bias, bias2, add = (int64_t)win[g->kind].lo - (int64_t)win[other].lo;

    if (g->hint != HINT_OTHER || !tr_window_bias(t, g->kind, &bias) ||
        !tr_window_bias(t, other, &bias2) || bias != bias2 || add != (int32_t)add)
        return false;
    e_lea(&t->e, H_B, H_B, REG_NONE, 0, (int32_t)add, 8, 8);
    e_gs(&t->e, 0x3b, H_B, limit_of(t, g, other), true);
    e_patch(t->e.rw, e_jcc(&t->e, 2), g->back); /* jb */
    e_lea(&t->e, H_B, H_B, REG_NONE, 0, (int32_t)-add, 8, 8);
    return true;
}

void tr_checks(struct tr *t)
{
    if (t->plan == PLAN_WINDOW)
        for (struct tr_group *g = t->group; g < t->group + t->ngroup; g++)
            if (g->at == t->i && !g->dead && !g->done)
                check(t, g);
}

bool tr_checks_by(const struct tr *t, unsigned i)
{
    if (t->plan == PLAN_WINDOW)
        for (const struct tr_group *g = t->group; g < t->group + t->ngroup; g++)
            if (g->at <= i && !g->dead)
                return true;
    return false;
}

void tr_checks_run(struct tr *t, unsigned n)
{
    if (t->plan != PLAN_WINDOW)
        return;
    for (struct tr_group *g = t->group; g < t->group + t->ngroup; g++)
        if (g->at > t->i && g->at < t->i + n)
            g->at = (uint8_t)(g->first >= t->i + n ? t->i + n : t->i);
    tr_checks(t);
}

void tr_misses(struct tr *t)
{
    struct emit *e = &t->e;

    for (struct tr_group *g = t->group; g < t->group + t->ngroup; g++) {
        if (!g->done)
            continue;
        t->fixed = true; /* windows are where they are */
        struct bt_miss *m = bt_meta_alloc(t->bt, sizeof(*m));

        *m = (struct bt_miss){.block = t->b,
                              .rip = t->rip[g->first],
                              .kind = g->kind,
                              .class_ = (uint8_t)span_class(g->lo, g->hi),
                              .hint = g->hint,
                              .shadow = t->sti && t->sti == g->at};
        e_patch(e->rw, g->miss, e->at);
        m->both = check_other(t, g);
        e_gs_store(e, H_B, VOFF(hot.tmp2));
        e_mov_imm(e, H_A, t->rip[g->at]);
        e_mov_imm(e, H_B, (uintptr_t)m | BTX_MISS_TAG);
        tr_jmp_glue(t, t->bt->g_exit_slot);
    }
}

/* --- what the accesses themselves look like --- */

/* Registers and displacement of access k of the instruction: [base + disp]. */
bool tr_window_simple(struct tr *t, unsigned k, unsigned base)
{
    const struct tr_access *a = &t->acc[t->i][k];

    if (t->plan != PLAN_WINDOW || !a->group)
        return false;
    t->m = (struct opnd){.base = (uint8_t)base, .index = REG_NONE, .disp = (int32_t)a->disp};
    if (base == H_SP)
        t->m.disp += t->sp;
    return true;
}

bool tr_window_operand(const struct tr *t)
{
    return t->plan == PLAN_WINDOW && t->acc[t->i][0].group;
}

unsigned tr_window_h_a(const struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    bool base = in->base < NGPR && tr_spilled(in->base);
    bool index = in->index < NGPR && tr_spilled(in->index);

    if (in->seg == SEG_FS || in->seg == SEG_GS || (base && index && in->base != in->index))
        return BASE_RIP;
    return base ? in->base : index ? in->index : REG_NONE;
}

void tr_window_registers(struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    unsigned base = in->base == BASE_RIP ? REG_NONE : in->base, index = in->index;

    t->m = (struct opnd){.scale = in->scale, .disp = (int32_t)t->acc[t->i][0].disp};
    if (base == RSP)
        t->m.disp += t->sp;
    if (in->seg == SEG_FS || in->seg == SEG_GS) {
        tr_segment_base(t, in->seg);
        index = base;
        base = H_A;
        t->m.scale = 0;
    } else if (base != REG_NONE) {
        base = tr_use(t, base, H_A);
    }
    if (index != REG_NONE) {
        index = tr_use(t, index, base == H_A ? H_B : H_A);
        if (index == H_B) {
            /* That is left to the other operands. */
            e_lea(&t->e, H_A, H_A, H_B, t->m.scale, 0, 8, 8);
            index = REG_NONE;
            t->held = REG_NONE;
        }
    }
    t->m.base = (uint8_t)base;
    t->m.index = (uint8_t)index;
}
