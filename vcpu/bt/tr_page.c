/*
 * Accesses of one symbol close together, where there is no window: the first looks for all of them
 * in the TLB, as one access, and the others use the host address it found, from H_A or, where
 * another was needed in between, from hot.page.
 *
 * They must lie in one page. Should they not, or should anything else keep the TLB from serving all
 * of them at once, the interpreter does the first instruction alone and the rest is a block of its
 * own (SITE_RUN, SITE_END); a site to which that happens over and over in one page is translated by
 * itself (HINT_TLB).
 *
 * The address stays good for as long as the block runs: pages come to be traced only while this
 * vCPU is at the top of its loop, mappings change in callouts, and those do not come back then.
 */
#include "vcpu/bt/tr.h"

#define SPAN_MAX 96 /* SITE_SIZE has seven bits */

/* A write's group serves reads after it; a read's group serves no write. */
static bool joins(const struct tr_group *g, const struct tr_access *a)
{
    int64_t lo = a->off < g->lo ? a->off : g->lo;
    int64_t hi = a->off + a->size > g->hi ? a->off + a->size : g->hi;

    return a->epoch == g->epoch && a->base == g->base && a->index == g->index &&
           a->scale == g->scale && (g->write || !a->write) && hi - lo <= SPAN_MAX;
}

#define BACK 6 /* groups looked at, from the last one on */

/* The group that a goes into, none before first; NULL if none is near. */
static struct tr_group *near(struct tr *t, const struct tr_access *a, struct tr_group *last,
                             const struct tr_group *first)
{
    struct tr_group *g = t->group + t->ngroup;

    if (last && joins(last, a))
        return last;
    for (unsigned n = 0; n < BACK && g-- > first; n++)
        if (g != last && joins(g, a)) {
            if (!g->save && t->nsaved < PAGES_SAVED)
                g->save = (uint8_t)++t->nsaved;
            return g->save ? g : NULL;
        }
    return NULL;
}

/* A constant address has a slot of the TLB that is known beforehand, which is better than company.
 */
static struct tr_group *place(struct tr *t, unsigned i, struct tr_access *a, struct tr_group *last,
                              const struct tr_group *first)
{
    if (bt_window_hint(t->bt, t->rip[i]) == HINT_TLB || a->base == SYM_LAST ||
        a->index == SYM_LAST || (a->base == SYM_NONE && a->index == SYM_NONE))
        return NULL;
    struct tr_group *g = near(t, a, last, first);

    if (!g) {
        g = &t->group[t->ngroup++];
        *g = (struct tr_group){.base = a->base,
                               .index = a->index,
                               .scale = a->scale,
                               .write = a->write,
                               .epoch = a->epoch,
                               .first = (uint8_t)i,
                               .lo = a->off,
                               .hi = a->off + a->size};
    }
    if (a->off < g->lo)
        g->lo = a->off;
    if (a->off + a->size > g->hi)
        g->hi = a->off + a->size;
    g->members++;
    a->group = (uint8_t)(g - t->group + 1);
    return g;
}

void tr_plan_pages(struct tr *t)
{
    struct tr_group *last = NULL, *first = t->group;

    t->nsaved = 0;
    for (unsigned i = 0; i < t->n; i++) {
        /* These may change what addresses mean. */
        if (insn_class(&t->in[i]) == IC_SYS || insn_class(&t->in[i]) == IC_VECSYS) {
            first = t->group + t->ngroup;
            last = NULL;
        }
        for (unsigned k = 0; k < 2; k++)
            if (t->acc[i][k].used)
                last = place(t, i, &t->acc[i][k], last, first);
    }
    for (unsigned i = 0; i < t->n; i++)
        for (unsigned k = 0; k < 2; k++)
            if (t->acc[i][k].group && t->group[t->acc[i][k].group - 1].members == 1)
                t->acc[i][k].group = 0;
}

static int32_t page_slot(const struct tr_group *g)
{
    return VOFF(hot.page) + 8 * (int32_t)(g->save - 1);
}

bool tr_page_held(struct tr *t, unsigned k, int32_t *adjust)
{
    const struct tr_access *a = &t->acc[t->i][k];
    const struct tr_group *g = &t->group[a->group - 1];

    *adjust = (int32_t)(g->lo - a->off);
    if (t->held != HELD_PAGE + a->group) {
        if (!g->kept)
            return false;
        e_gs_load(&t->e, H_A, page_slot(g));
        t->held = HELD_PAGE + a->group;
    }
    t->m = (struct opnd){.base = H_A, .index = REG_NONE, .disp = -*adjust};
    return true;
}

/* Can the instruction's other access have it all done out of line, and what is here be passed by?
 */
static bool may_skip(const struct tr *t)
{
    for (unsigned k = t->ncold; k-- > 0 && t->cold[k].i == t->i;)
        if (!(t->cold[k].info & SITE_END))
            return true;
    return false;
}

void tr_page_probe(struct tr *t, unsigned k, struct tr_linear l, uint32_t more)
{
    const struct tr_access *a = &t->acc[t->i][k];
    struct tr_group *g = &t->group[a->group - 1];

    tr_probe(t, l, g->write, (unsigned)(g->hi - g->lo), more | SITE_RUN | SITE_END);
    if (g->save && !may_skip(t)) {
        e_gs_store(&t->e, H_A, page_slot(g));
        g->kept = true;
    }
    t->m.disp = (int32_t)(a->off - g->lo);
    t->held = HELD_PAGE + a->group;
}
