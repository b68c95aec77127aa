/*
 * MAP_SHARED of the host's files. Their pages are kept while they are mapped, and are read-only in
 * the tables until they are written to: an entry that allows writing is a page the host has not
 * seen. It is written back, and read-only again, by msync, fsync, munmap, read and write of the
 * file, and at the end of the program, however it ends.
 */
#include "guests/runtime/hostfs.h"
#include "guests/runtime/vm.h"

unsigned mapfile_count;

bool mapfile_tracked(const struct vma *v)
{
    return v->shared && v->inode && v->inode->node;
}

int mapfile_sync_range(uint64_t start, uint64_t end)
{
    int err = 0;

    for (struct vma *v = mapfile_count ? vma_from(start) : NULL; v && v->start < end; v = v->next) {
        uint64_t at = v->start > start ? v->start : start, stop = least(v->end, end), *e;

        if (!mapfile_tracked(v))
            continue;
        for (; (at = pages_next(at, stop, &e)) < stop; at += PAGE) {
            if (!(*e & PTE_W))
                continue;
            *e &= ~PTE_W;
            pages_flush(at);
            int failed =
                hostfs_put_page(v->inode, (v->offset + (at - v->start)) / PAGE, kva(*e & PTE_ADDR));

            err = failed ? failed : err;
        }
    }
    return err;
}

int mapfile_sync(const struct inode *i)
{
    int err = 0;

    if (!i->maps || !mapfile_count)
        return 0;
    for (const struct vma *v = vmas; v; v = v->next)
        if (v->inode == i && mapfile_tracked(v)) {
            int failed = mapfile_sync_range(v->start, v->end);

            err = failed ? failed : err;
        }
    return err;
}

void mapfile_update(struct inode *i, uint64_t at, const void *src, uint64_t len)
{
    const char *from = src;

    while (i->maps && len) {
        uint64_t n = least(len, PAGE - at % PAGE), page = inode_page(i, at / PAGE, false);

        if (page)
            copy((char *)kva(page) + at % PAGE, from, n);
        at += n;
        from += n;
        len -= n;
    }
}
