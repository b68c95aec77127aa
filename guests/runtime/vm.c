/* Memory calls, and the page faults that give memory when it is first touched. */
#include "guests/runtime/hostfs.h"
#include "guests/runtime/vm.h"
#include <asm/mman.h>
#include <asm/fcntl.h>
#include <linux/mman.h>
#include <linux/stat.h>

#define RESERVE     64u            /* pages that only the runtime may take */
#define OVERCOMMIT  8u             /* times the memory there is */
#define STACK_BLOCK (256ull << 10) /* what a window of bt is at least */
#define BLOCK       (2ull << 20)
#define HEAP_BRIDGE (1ull << 20) /* a mapping worth it */
#define AROUND      16u          /* pages of a file mapped by one fault */
#define LOWEST      (64ull << 10)

uint64_t stack_top;
static uint64_t committed; /* bytes of private writable mappings */

/* --- faults --- */

static int refuse(struct fault *f, int signal, int code)
{
    f->signal = signal;
    f->code = code;
    return -EFAULT;
}

static _Noreturn void out_of_memory(void)
{
    say("mayfly: %s: out of memory (%d MiB): give more with -m", program_name(),
        boot.mem_size >> 20);
    machine_exit(128 + SIGKILL);
}

/* The mapping allows the access: make the page's entry allow it. */
static int serve(struct vma *v, uint64_t at, bool write, struct fault *f)
{
    uint64_t bits = pages_bits(v->prot), *e = pages_entry(at, true), pa, page;
    bool own;

    if (!e)
        out_of_memory();
    pa = *e & PTE_ADDR;
    own = *e & PTE_OWNED;
    if (!v->inode) {
        if (!pa) {
            pa = frame_for(at);
            own = true;
        }
    } else if (!own) {
        uint64_t n = (v->offset + (at - v->start)) / PAGE;

        if (n * PAGE >= v->inode->size)
            return refuse(f, SIGBUS, BUS_ADRERR);
        page = inode_page(v->inode, n, v->shared || v->inode->node);
        if (!page && v->inode->node && frames_free() > RESERVE)
            return refuse(f, SIGBUS, BUS_ADRERR); /* the host could not read it */
        if (v->shared) {
            pa = page;
            if (mapfile_tracked(v) && !write)
                bits &= ~PTE_W;
        } else if (write || !page || v->prot & PROT_WRITE || v->inode == program_inode) {
            pa = frame_for(at);
            own = true;
            if (pa && page)
                copy(kva(pa), kva(page), PAGE);
        } else {
            pa = page;
            bits &= ~PTE_W;
        }
    }
    if (!pa)
        out_of_memory();
    bool there = *e;

    *e = pa | bits | (own ? PTE_OWNED : 0);
    if (there)
        pages_flush(at);
    return 0;
}

/* Pages nobody had yet cost nothing before they are touched: the rest of the 2 MiB around comes
 * along, while memory is plenty. False: at has a page, or gets none so. */
static bool map_block(struct vma *v, uint64_t at)
{
    uint64_t block = v->end == stack_top ? STACK_BLOCK : BLOCK;
    uint64_t from = at & ~(block - 1), end = least(from + block, v->end), *e;

    if (frames_free() < frames_total() / 2)
        return false;
    if (from < v->start)
        from = v->start;
    e = pages_entry(from, true);
    if (!e || e[(at - from) / PAGE])
        return false;
    frames_map(from, (end - from) / PAGE, e, pages_bits(v->prot) | PTE_OWNED);
    return e[(at - from) / PAGE];
}

/* The program's own neighbours will be wanted too. */
static void map_around(struct vma *v, uint64_t at)
{
    uint64_t from = at & ~(AROUND * PAGE - 1), end = least(from + AROUND * PAGE, v->end), *e;
    struct fault f;

    for (from = from < v->start ? v->start : from; from < end; from += PAGE) {
        e = pages_entry(from, false);
        if (e && !*e && frames_free() > RESERVE && serve(v, from, v->prot & PROT_WRITE, &f))
            break;
    }
}

/* The program's own pages from at on, in one copy where nobody had their memory yet: how far. */
static uint64_t copy_in_one(const struct vma *v, uint64_t at)
{
    uint64_t from = v->offset + (at - v->start), *e = pages_entry(at, true);
    uint64_t end = least(v->end, (at & ~(BLOCK - 1)) + BLOCK);
    uint64_t len = least(end - at, page_up(v->inode->size) - least(from, v->inode->size));

    if (!e || !len || len / PAGE + RESERVE > frames_free())
        return 0;
    uint64_t pa = frames_run(at, len / PAGE, e, pages_bits(v->prot) | PTE_OWNED);

    if (!pa)
        return 0;
    copy(kva(pa), v->inode->flat + from, len);
    return len;
}

void vm_populate(uint64_t start, uint64_t end)
{
    struct fault f;

    for (struct vma *v = vma_find(start); v && v->start < end; v = v->next)
        for (uint64_t at = v->start, step; v->prot && at < least(v->end, end); at += step) {
            step = v->inode == program_inode && !v->shared ? copy_in_one(v, at) : 0;
            if (step)
                continue;
            if (!v->inode) {
                step = BLOCK - at % BLOCK;
                if (map_block(v, at))
                    continue;
            }
            serve(v, at, v->prot & PROT_WRITE, &f);
            step = step ? step : PAGE;
        }
}

int vm_fault(uint64_t at, bool write, bool fetch, struct fault *f)
{
    struct vma *v = vma_find(at);

    if (!v)
        return refuse(f, SIGSEGV, SEGV_MAPERR);
    if (!v->prot || (write && !(v->prot & PROT_WRITE)) || (fetch && !(v->prot & PROT_EXEC)))
        return refuse(f, SIGSEGV, SEGV_ACCERR);
    at = page_down(at);
    if (!v->inode && map_block(v, at))
        return 0;
    int err = serve(v, at, write, f);

    if (!err && v->inode == program_inode && !v->shared)
        map_around(v, at);
    return err;
}

/* --- mapping --- */

static bool counts(uint32_t prot, bool shared)
{
    return prot & PROT_WRITE && !shared;
}

/* A program that asks for more than there is hears so at once, when it can still be told. */
bool vm_affordable(uint64_t len)
{
    return len / PAGE + RESERVE <= frames_free() &&
           committed + len <= frames_total() * PAGE * OVERCOMMIT;
}

static void uncount(uint64_t start, uint64_t end)
{
    for (struct vma *v = vma_from(start); v && v->start < end; v = v->next)
        if (v->start >= start && v->end <= end && counts(v->prot, v->shared))
            committed -= v->end - v->start;
}

static int unmap(uint64_t start, uint64_t end)
{
    int err;

    if (vma_free(start, end))
        return 0;
    err = vma_cut(start, end);
    if (err)
        return err;
    uncount(start, end);
    mapfile_sync_range(start, end);
    pages_drop(start, end);
    vma_remove(start, end);
    return 0;
}

int vm_map(uint64_t start, uint64_t len, uint32_t prot, bool shared, struct inode *i, uint64_t off,
           const char *name)
{
    struct vma v = {.start = start,
                    .end = start + len,
                    .prot = prot,
                    .shared = shared,
                    .inode = i,
                    .offset = off,
                    .name = name};
    int err = vma_past(start) ? 0 : unmap(start, start + len);

    if (!err)
        err = vma_add(&v);
    if (!err && counts(prot, shared))
        committed += len;
    return err;
}

#define PROT_ALL 7u

int64_t sys_mmap(uint64_t at, uint64_t len, uint64_t prot, uint64_t flags, uint64_t fd,
                 uint64_t off)
{
    struct inode *i = NULL, *anon = NULL;
    bool shared = (flags & MAP_TYPE) == MAP_SHARED || (flags & MAP_TYPE) == MAP_SHARED_VALIDATE;

    if (!len || off % PAGE || (!shared && (flags & MAP_TYPE) != MAP_PRIVATE))
        return -EINVAL;
    if (len > USER_TOP)
        return -ENOMEM;
    len = page_up(len);
    if (!(flags & MAP_ANONYMOUS)) {
        struct file *f = fd_file(fd);

        if (!f)
            return -EBADF;
        if (!f->inode || !S_ISREG(f->inode->mode)) {
            if (f->inode && f->inode->rdev != 0x105) /* /dev/zero maps as nothing */
                return -ENODEV;
        } else {
            i = f->inode;
        }
        if (f->flags & O_PATH)
            return -EBADF;
        if ((f->flags & 3) == 1 || (shared && prot & PROT_WRITE && (f->flags & 3) != 2))
            return -EACCES;
    }
    if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
        if (at % PAGE)
            return -EINVAL;
        if (!user_range(at, len))
            return -ENOMEM;
        if (at < LOWEST)
            return -EPERM;
        if (flags & MAP_FIXED_NOREPLACE && !vma_free(at, at + len))
            return -EEXIST;
    } else {
        if (len >= HEAP_BRIDGE && prot & PROT_WRITE)
            heap_bridge();
        at = page_up(at);
        if (at < LOWEST || !user_range(at, len) || !vma_free(at, at + len))
            at = vma_gap(len);
        if (!at)
            return -ENOMEM;
    }
    if (i && i->node) {
        if (off > INODE_MAX || len > INODE_MAX - off)
            return -EOVERFLOW;
        hostfs_mapped(fd_file(fd));
    }
    if (!limit_maps(len) ||
        (counts((uint32_t)prot, shared) && !(flags & MAP_NORESERVE) && !vm_affordable(len)))
        return -ENOMEM;
    if (shared && !i) { /* shared with nobody but ourselves: still its pages are one file's */
        anon = i = inode_new(0100600);
        if (!anon || inode_resize(anon, len))
            return -ENOMEM;
        off = 0;
    }
    int err = vm_map(at, len, (uint32_t)prot & PROT_ALL, shared, i, off, NULL);

    if (anon)
        inode_drop(anon);
    if (err && i && i->node && !i->maps)
        hostfs_unmapped(i);
    if (err)
        return err;
    if (flags & MAP_POPULATE) {
        struct fault f;

        for (uint64_t p = at; p < at + len && frames_free() > RESERVE; p += PAGE)
            if (vm_fault(p, prot & PROT_WRITE, false, &f))
                break;
    }
    return (int64_t)at;
}

int64_t sys_munmap(uint64_t at, uint64_t len)
{
    if (at % PAGE || !len || !user_range(at, len))
        return -EINVAL;
    return unmap(at, at + page_up(len));
}

int64_t sys_mprotect(uint64_t at, uint64_t len, uint64_t prot)
{
    uint64_t end = at + page_up(len), more = 0;

    if (at % PAGE || !user_range(at, len))
        return at % PAGE ? -EINVAL : -ENOMEM;
    prot &= PROT_ALL;
    if (!len)
        return 0;
    if (!vma_covers(at, end))
        return -ENOMEM;
    int err = vma_cut(at, end);

    if (err)
        return err;
    mapfile_sync_range(at, end);
    for (struct vma *v = vma_find(at); v && v->start < end; v = v->next)
        if (!counts(v->prot, v->shared) && counts((uint32_t)prot, v->shared))
            more += v->end - v->start;
    if (more && !vm_affordable(more))
        return -ENOMEM;
    for (struct vma *v = vma_find(at); v && v->start < end; v = v->next) {
        if (counts(v->prot, v->shared))
            committed -= v->end - v->start;
        v->prot = (uint32_t)prot;
        if (counts(v->prot, v->shared))
            committed += v->end - v->start;
        pages_protect(v->start, v->end, v->prot, v->shared && !mapfile_tracked(v));
    }
    vma_merge(at, end);
    return 0;
}

/* What is only a hint is taken; what has to be done and is not there, refused. */
int64_t sys_madvise(uint64_t at, uint64_t len, uint64_t advice)
{
    uint64_t end = at + page_up(len);

    if (at % PAGE || !user_range(at, len) || (int32_t)advice < 0 ||
        ((uint32_t)advice > MADV_DONTNEED && (uint32_t)advice < MADV_FREE) ||
        advice == MADV_REMOVE || advice > MADV_DONTNEED_LOCKED)
        return -EINVAL;
    if (!len)
        return 0;
    if (!vma_covers(at, end))
        return -ENOMEM;
    if (advice != MADV_DONTNEED && advice != MADV_DONTNEED_LOCKED)
        return 0;
    mapfile_sync_range(at, end);
    pages_drop(at, end);
    return 0;
}

/* Grow where it is, or move: the pages go along, only the tables change. */
int64_t sys_mremap(uint64_t at, uint64_t old, uint64_t len, uint64_t flags, uint64_t to)
{
    struct vma *v = vma_find(at), like;
    int err;

    if (at % PAGE || !len || flags & ~3ull || (flags & MREMAP_FIXED && !(flags & MREMAP_MAYMOVE)))
        return -EINVAL;
    old = page_up(old);
    if (len > USER_TOP)
        return -ENOMEM;
    len = page_up(len);
    if (!v || !old || !user_range(at, old) || at + old > v->end)
        return -EFAULT;
    if (!(flags & MREMAP_FIXED)) {
        if (len < old) {
            err = unmap(at + len, at + old);
            return err ? err : (int64_t)at;
        }
        if (len == old)
            return (int64_t)at;
    }
    if (len > old &&
        (!limit_maps(len - old) || (counts(v->prot, v->shared) && !vm_affordable(len - old))))
        return -ENOMEM;
    like = *v;
    like.offset += at - v->start;
    like.start = at;
    if (!(flags & MREMAP_FIXED) && v->end == at + old && user_range(at, len) &&
        vma_free(at + old, at + len)) {
        struct vma more = like;

        more.start = at + old;
        more.end = at + len;
        more.offset += old;
        err = vma_add(&more);
        if (!err && counts(like.prot, like.shared))
            committed += len - old;
        return err ? err : (int64_t)at;
    }
    if (!(flags & MREMAP_MAYMOVE))
        return -ENOMEM;
    if (!(flags & MREMAP_FIXED))
        to = vma_gap(len);
    if (!to || to % PAGE || !user_range(to, len) || (to < at + old && at < to + len))
        return flags & MREMAP_FIXED ? -EINVAL : -ENOMEM;
    if (like.inode)
        inode_hold(like.inode);
    err = vm_map(to, len, like.prot, like.shared, like.inode, like.offset, like.name);
    if (like.inode)
        inode_drop(like.inode);
    if (err)
        return err;
    uint64_t moved = least(old, len);

    for (uint64_t p = 0; p < moved; p += PAGE)
        if (pages_entry(at + p, false) && !pages_entry(to + p, true))
            out_of_memory();
    pages_move(at, to, moved);
    err = unmap(at, at + old);
    return err ? err : (int64_t)to;
}

int64_t sys_msync(uint64_t at, uint64_t len, uint64_t flags)
{
    enum { BOTH = MS_ASYNC | MS_SYNC };

    if (at % PAGE || flags & ~(uint64_t)(BOTH | MS_INVALIDATE) || (flags & BOTH) == BOTH)
        return -EINVAL;
    if (!user_range(at, len) || !vma_covers(at, at + page_up(len)))
        return -ENOMEM;
    return mapfile_sync_range(at, at + page_up(len));
}

int64_t sys_mincore(uint64_t at, uint64_t len, uint64_t vec)
{
    if (at % PAGE || !user_range(at, len))
        return -EINVAL;
    if (!vma_covers(at, at + page_up(len)))
        return -ENOMEM;
    for (uint64_t p = 0; p < page_up(len) / PAGE; p++) {
        uint64_t *e = pages_entry(at + p * PAGE, false);
        uint8_t here = e && *e & PTE_ADDR;

        if (copy_out(vec + p, &here, 1))
            return -EFAULT;
    }
    return 0;
}
