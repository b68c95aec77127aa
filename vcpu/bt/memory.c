/*
 * What the engine costs in memory: resident pages of its mappings, asked of the host at the end of
 * a run.
 */
#include <sys/mman.h>
#include "vcpu/bt/tr.h"

/* Resident bytes of the pages that [start, start + len) touches. */
static uint64_t resident(const void *start, uint64_t len)
{
    unsigned char page[4096];
    uintptr_t at = (uintptr_t)start & PAGE_MASK, end = (uintptr_t)start + len;
    uint64_t n = 0;

    while (len && at < end) {
        uint64_t pages = (end - at + PAGE_SIZE - 1) >> PAGE_SHIFT;

        if (pages > sizeof(page))
            pages = sizeof(page);
        if (mincore((void *)at, pages << PAGE_SHIFT, page))
            return n;
        for (uint64_t i = 0; i < pages; i++)
            n += page[i] & 1;
        at += pages << PAGE_SHIFT;
    }
    return n << PAGE_SHIFT;
}

void bt_memory(const struct vm_cpus *vm, struct bt_memory *m)
{
    const struct bt *bt = vm->bt;
    const struct ram *ram = vm->ram;

    *m = (struct bt_memory){0};
    m->ram = resident(ram->base, ram->low);
    if (ram->high)
        m->ram += resident(ram->base + MMIO_HOLE_END, ram->high);
    if (!bt)
        return;
    m->code = resident(bt->rw, bt->code_size);
    m->tables =
        resident(bt->meta, bt->meta_size) + resident(bt->hash, bt->hash_size * sizeof(*bt->hash)) +
        resident(bt->page, bt->npages * sizeof(*bt->page)) +
        resident(bt->order, bt->max_blocks * sizeof(*bt->order)) + resident(bt, sizeof(*bt));
    for (unsigned i = 0; i < vm->nvcpu; i++) {
        const struct vcpu *v = vm->vcpu[i];

        m->cpus += resident(v, sizeof(*v));
        if (v->bt)
            m->cpus += resident(v->bt, sizeof(*v->bt)) + resident(v->bt->ras, PAGE_SIZE + RAS_SIZE);
    }
}
