/* The list of mappings, sorted by address. */
#include "guests/runtime/hostfs.h"
#include "guests/runtime/vm.h"

struct vma *vmas;
static struct vma *last; /* found last */

struct vma *vma_find(uint64_t at)
{
    struct vma *v = last && last->start <= at ? last : vmas;

    while (v && v->end <= at)
        v = v->next;
    if (!v || v->start > at)
        return NULL;
    return last = v;
}

static struct vma *copy_of(const struct vma *like)
{
    struct vma *v = kalloc(sizeof *v);

    if (!v)
        return NULL;
    *v = *like;
    if (v->inode) {
        inode_hold(v->inode);
        v->inode->maps++;
    }
    return v;
}

static void release(struct vma *v)
{
    if (v == last)
        last = NULL;
    if (v->inode) {
        if (!--v->inode->maps && v->inode->node)
            hostfs_unmapped(v->inode);
        inode_drop(v->inode);
    }
    kfree(v, sizeof *v);
}

static int cut_at(uint64_t at)
{
    struct vma *v = vma_find(at), *rest;

    if (!v || v->start == at)
        return 0;
    rest = copy_of(v);
    if (!rest)
        return -ENOMEM;
    rest->start = at;
    rest->offset += at - v->start;
    v->end = at;
    v->next = rest;
    return 0;
}

int vma_cut(uint64_t start, uint64_t end)
{
    int err = cut_at(start);

    return err ? err : cut_at(end);
}

void vma_remove(uint64_t start, uint64_t end)
{
    struct vma **p = &vmas;

    last = NULL;
    while (*p && (*p)->end <= start)
        p = &(*p)->next;
    while (*p && (*p)->start < end) {
        struct vma *v = *p;

        *p = v->next;
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
    for (struct vma *v = vmas; v && v->start <= end; v = v->next)
        while (v->next && v->end >= start && alike(v, v->next)) {
            struct vma *gone = v->next;

            v->end = gone->end;
            v->next = gone->next;
            release(gone);
        }
}

int vma_add(const struct vma *like)
{
    struct vma **p = &vmas, *prev = NULL, *v;

    while (*p && (*p)->start < like->start)
        prev = *p, p = &prev->next;
    if (prev && alike(prev, like)) { /* the common case: it grows */
        prev->end = like->end;
    } else {
        v = copy_of(like);
        if (!v)
            return -ENOMEM;
        v->next = *p;
        *p = prev = v;
    }
    if (prev->next && alike(prev, prev->next)) {
        v = prev->next;
        prev->end = v->end;
        prev->next = v->next;
        release(v);
    }
    return 0;
}

/* The highest gap below limit: the list goes upward, so it is the last one that fits. */
static uint64_t highest_gap(uint64_t low, uint64_t limit, uint64_t len)
{
    uint64_t from = low, best = 0;

    for (struct vma *v = vmas; v; v = v->next) {
        uint64_t end = least(v->start, limit);

        if (end > from && end - from >= len)
            best = end - len;
        if (v->end > from)
            from = v->end;
    }
    if (from < limit && limit - from >= len)
        best = limit - len;
    return best;
}

static uint64_t lowest_gap(uint64_t low, uint64_t limit, uint64_t len)
{
    for (struct vma *v = vmas; v && low < limit; v = v->next) {
        if (v->end <= low)
            continue;
        if (v->start > low && v->start - low >= len)
            break;
        low = v->end;
    }
    return low < limit && limit - low >= len ? low : 0;
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
    for (struct vma *v = vmas; v; v = v->next)
        if (v->start < end && start < v->end)
            return false;
    return true;
}

bool vma_covers(uint64_t start, uint64_t end)
{
    struct vma *v = vma_find(start);

    while (v && v->end < end && v->next && v->next->start == v->end)
        v = v->next;
    return v && v->end >= end;
}
