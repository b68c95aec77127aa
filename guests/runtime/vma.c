/* The list of mappings, sorted by address. */
#include "guests/runtime/hostfs.h"
#include "guests/runtime/vm.h"

#define MAX_VMAS 65530u /* as Linux's vm.max_map_count */

struct vma *vmas;
struct vma *vma_tail;
static struct vma *last; /* found last */
static unsigned count;

struct vma *vma_from(uint64_t at)
{
    struct vma *v = last ? last : vmas;

    if (vma_past(at))
        return NULL;
    while (v && v->end <= at)
        v = v->next;
    while (v && v->prev && v->prev->end > at)
        v = v->prev;
    if (v)
        last = v;
    return v;
}

struct vma *vma_find(uint64_t at)
{
    struct vma *v = vma_from(at);

    return v && v->start <= at ? v : NULL;
}

/* A copy, after prev (NULL: at the front). */
static struct vma *insert(const struct vma *like, struct vma *prev)
{
    struct vma *v = count < MAX_VMAS ? kalloc(sizeof *v) : NULL;

    if (!v)
        return NULL;
    *v = *like;
    if (v->inode) {
        v->inode->refs++;
        v->inode->maps++;
        if (v->inode->node)
            mapfile_count += mapfile_tracked(v);
    }
    v->prev = prev;
    v->next = prev ? prev->next : vmas;
    *(v->next ? &v->next->prev : &vma_tail) = v;
    *(prev ? &prev->next : &vmas) = v;
    count++;
    return last = v;
}

static void release(struct vma *v)
{
    *(v->next ? &v->next->prev : &vma_tail) = v->prev;
    *(v->prev ? &v->prev->next : &vmas) = v->next;
    if (v == last)
        last = NULL;
    if (v->inode) {
        mapfile_count -= mapfile_tracked(v);
        if (!--v->inode->maps && v->inode->node)
            hostfs_unmapped(v->inode);
        inode_drop(v->inode);
    }
    kfree(v, sizeof *v);
    count--;
}

static int cut_at(uint64_t at)
{
    struct vma *v = vma_find(at), *rest;

    if (!v || v->start == at)
        return 0;
    rest = insert(v, v);
    if (!rest)
        return -ENOMEM;
    rest->start = at;
    rest->offset += at - v->start;
    v->end = at;
    return 0;
}

int vma_cut(uint64_t start, uint64_t end)
{
    int err = cut_at(start);

    return err ? err : cut_at(end);
}

/* --- where there is room ---
 *
 * The search goes on where it ended the last time: what it went over had only holes that were too
 * small, of at most `hole` bytes. */
struct search {
    uint64_t at, hole;
};
static struct search up, down = {NEVER, 0};

void vma_remove(uint64_t start, uint64_t end)
{
    struct vma *v = vma_from(start), *next;

    up.at = least(up.at, start);
    if (down.at < end)
        down.at = end;
    for (; v && v->start < end; v = next) {
        next = v->next;
        release(v);
    }
}

static bool alike(const struct vma *a, const struct vma *b)
{
    return a->end == b->start && a->prot == b->prot && a->shared == b->shared &&
           a->inode == b->inode && a->name == b->name &&
           (!a->inode || a->offset + (a->end - a->start) == b->offset);
}

/* Join neighbours that touch [start, end]. */
void vma_merge(uint64_t start, uint64_t end)
{
    struct vma *v = vma_from(start);

    if (v && v->prev)
        v = v->prev;
    for (; v && v->start <= end; v = v->next)
        while (v->next && alike(v, v->next)) {
            v->end = v->next->end;
            release(v->next);
        }
}

int vma_add(const struct vma *like)
{
    struct vma *next = vma_past(like->start) ? NULL : vma_from(like->start);
    struct vma *prev = next ? next->prev : vma_tail;

    if (prev && alike(prev, like)) /* the common case: it grows */
        prev->end = like->end;
    else
        prev = insert(like, prev);
    if (!prev)
        return -ENOMEM;
    if (prev->next && alike(prev, prev->next)) {
        prev->end = prev->next->end;
        release(prev->next);
    }
    return 0;
}

static void skip(struct search *s, uint64_t hole)
{
    if (hole > s->hole)
        s->hole = hole;
}

static uint64_t lowest_gap(uint64_t low, uint64_t limit, uint64_t len)
{
    if (len <= up.hole || up.at < low)
        up = (struct search){low, 0};
    for (struct vma *v = vma_from(up.at); v && up.at < limit; v = v->next) {
        uint64_t room = v->start > up.at ? v->start - up.at : 0;

        if (room >= len)
            break;
        skip(&up, room);
        up.at = v->end;
    }
    if (up.at >= limit || limit - up.at < len)
        return 0;
    up.at += len;
    return up.at - len;
}

static uint64_t highest_gap(uint64_t low, uint64_t limit, uint64_t len)
{
    if (len <= down.hole || down.at > limit)
        down = (struct search){limit, 0};
    struct vma *v = vma_from(down.at);

    if (!v || v->start >= down.at)
        v = v ? v->prev : vma_tail;
    for (; v && down.at > low; v = v->prev) {
        uint64_t room = v->end < down.at ? down.at - (v->end > low ? v->end : low) : 0;

        if (room >= len)
            break;
        skip(&down, room);
        down.at = least(down.at, v->start);
    }
    if (down.at <= low || down.at - low < len)
        return 0;
    down.at -= len;
    return down.at;
}

/* In the linear part right above the heap, so that both are one stretch; else anywhere above. */
uint64_t vma_gap(uint64_t len)
{
    uint64_t top = stack_top - STACK_SIZE - STACK_GUARD, at = 0;

    if (vm_heap_limit() < top && top <= linear_high())
        at = lowest_gap(vm_heap_limit(), top, len);
    return at ? at : highest_gap(1ull << 32, MMAP_TOP, len);
}

bool vma_free(uint64_t start, uint64_t end)
{
    const struct vma *v = vma_from(start);

    return !v || v->start >= end;
}

bool vma_covers(uint64_t start, uint64_t end)
{
    struct vma *v = vma_find(start);

    while (v && v->end < end && v->next && v->next->start == v->end)
        v = v->next;
    return v && v->end >= end;
}
