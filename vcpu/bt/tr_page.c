/*
 * Accesses of one symbol close together, where there is no window: the first looks for all of them
 * in the TLB, as one access, and the others use the host address it found for as long as H_A holds
 * it.
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

/* Only the access before counts: any other has taken H_A meanwhile. A constant address has a slot
 * of the TLB that is known beforehand, which is better than company. */
static struct tr_group *place(struct tr *t, unsigned i, struct tr_access *a, struct tr_group *last)
{
    if (bt_window_hint(t->bt, t->rip[i]) == HINT_TLB || a->base == SYM_LAST ||
        a->index == SYM_LAST || (a->base == SYM_NONE && a->index == SYM_NONE))
        return NULL;
    struct tr_group *g = last;

    if (!g || !joins(g, a)) {
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
    struct tr_group *last = NULL;

    for (unsigned i = 0; i < t->n; i++)
        for (unsigned k = 0; k < 2; k++)
            if (t->acc[i][k].used)
                last = place(t, i, &t->acc[i][k], last);
    for (unsigned i = 0; i < t->n; i++)
        for (unsigned k = 0; k < 2; k++)
            if (t->acc[i][k].group && t->group[t->acc[i][k].group - 1].members == 1)
                t->acc[i][k].group = 0;
}

bool tr_page_held(struct tr *t, unsigned k, int32_t *adjust)
{
    const struct tr_access *a = &t->acc[t->i][k];
    const struct tr_group *g = &t->group[a->group - 1];

    *adjust = (int32_t)(g->lo - a->off);
    if (t->held != HELD_PAGE + a->group)
        return false;
    t->m = (struct opnd){.base = H_A, .index = REG_NONE, .disp = -*adjust};
    return true;
}

void tr_page_probe(struct tr *t, unsigned k, struct tr_linear l, uint32_t more)
{
    const struct tr_access *a = &t->acc[t->i][k];
    const struct tr_group *g = &t->group[a->group - 1];

    tr_probe(t, l, g->write, (unsigned)(g->hi - g->lo), more | SITE_RUN | SITE_END);
    t->m.disp = (int32_t)(a->off - g->lo);
    t->held = HELD_PAGE + a->group;
}
