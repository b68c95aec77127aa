/*
 * The code cache: where translations lie, how they are found by guest address, by page and by host
 * PC, how direct branches between them are linked, and how they go away.
 *
 * Space is handed out upwards and taken back all at once (bt_cache_flush) when either the code or
 * the bookkeeping is full; an invalidated block is only unreachable until then.
 */
#include "vcpu/bt/bt_int.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "paging/copy.h"
#include "vcpu/bt/emit.h"
#include "vcpu/bt/tr.h"
#include "vcpu/bt/world.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

static void *map_anon(uint64_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static int map_code(struct bt *bt)
{
    int fd = (int)syscall(SYS_memfd_create, "mayfly-code", 1u /* MFD_CLOEXEC */);

    if (fd < 0)
        return -errno;
    int err = ftruncate(fd, bt->code_size) ? -errno : 0;

    if (!err) {
        bt->rw = mmap(NULL, bt->code_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        bt->rx = mmap(NULL, bt->code_size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
        if (bt->rw == MAP_FAILED || bt->rx == MAP_FAILED)
            err = -errno;
    }
    close(fd);
    return err;
}

/* In what proportion code and bookkeeping grow: seen in boots of Linux and in programs. */
static void share_out(struct bt *bt, uint64_t size)
{
    bt->code_size = (uint32_t)((size / 16 * 9) & PAGE_MASK);
    bt->meta_size = (size / 16 * 6) & PAGE_MASK;
    bt->max_blocks = (uint32_t)(bt->meta_size / sizeof(struct bt_block));
    bt->hash_size = BT_HASH_MAX;
    while (bt->hash_size * sizeof(*bt->hash) > size / 64)
        bt->hash_size /= 2;
}

int bt_cache_init(struct bt *bt)
{
    share_out(bt, bt_cache_size);
    int err = map_code(bt);

    if (err)
        return err;
    bt->npages = bt->ram->attr_len;
    bt->meta = map_anon(bt->meta_size);
    bt->hash = map_anon(bt->hash_size * sizeof(*bt->hash));
    bt->page = map_anon(bt->npages * sizeof(*bt->page));
    bt->order = map_anon(bt->max_blocks * sizeof(*bt->order));
    return bt->meta && bt->hash && bt->page && bt->order ? 0 : -ENOMEM;
}

void bt_cache_fini(struct bt *bt)
{
    munmap(bt->rw, bt->code_size);
    munmap(bt->rx, bt->code_size);
    munmap(bt->meta, bt->meta_size);
    munmap(bt->hash, bt->hash_size * sizeof(*bt->hash));
    munmap(bt->page, bt->npages * sizeof(*bt->page));
    munmap(bt->order, bt->max_blocks * sizeof(*bt->order));
}

void *bt_meta_alloc(struct bt *bt, size_t size)
{
    void *p = bt->meta + bt->meta_used;

    bt->meta_used += (size + 7) & ~(size_t)7;
    return p;
}

/* Pages are had ahead of where translations grow, some at a time: a fault for each, in both
 * mappings of the code, would cost more. A guest that stays small has none. Hosts before Linux 5.14
 * take the faults. */
#define AHEAD (256 * 1024u)

void bt_cache_ahead(struct bt *bt)
{
    uint64_t at;

    if (bt->used >= bt->code_ahead && bt->used + AHEAD <= bt->code_size) {
        at = (bt->used + PAGE_SIZE - 1) & PAGE_MASK;
        if (bt->code_ahead && !madvise(bt->rw + at, AHEAD, MADV_POPULATE_WRITE))
            madvise(bt->rx + at, AHEAD, MADV_POPULATE_READ);
        bt->code_ahead = (uint32_t)at + AHEAD;
    }
    if (bt->meta_used >= bt->meta_ahead && bt->meta_used + AHEAD <= bt->meta_size) {
        at = (bt->meta_used + PAGE_SIZE - 1) & PAGE_MASK;
        if (bt->meta_ahead)
            madvise(bt->meta + at, AHEAD, MADV_POPULATE_WRITE);
        bt->meta_ahead = at + AHEAD;
    }
}

bool bt_cache_room(const struct bt *bt)
{
    return bt->code_size - bt->used > 2 * BT_BLOCK_ROOM &&
           bt->meta_size - bt->meta_used > BT_BLOCK_ROOM && bt->norder + 1 < bt->max_blocks;
}

static void page_untrace(struct bt *bt, uint64_t pfn)
{
    if (!bt->page[pfn])
        __atomic_fetch_and(&bt->ram->attr[pfn], (uint8_t)~RAM_ATTR_CODE, __ATOMIC_SEQ_CST);
}

void bt_cache_flush(struct bt *bt)
{
    for (uint32_t i = 0; i < bt->norder; i++) {
        const struct bt_block *b = bt->order[i];

        bt->page[b->gpa >> PAGE_SHIFT] = NULL;
        page_untrace(bt, b->gpa >> PAGE_SHIFT);
        if (b->page2 != ~(gpa_t)0) {
            bt->page[b->page2 >> PAGE_SHIFT] = NULL;
            page_untrace(bt, b->page2 >> PAGE_SHIFT);
        }
    }
    zero_bytes(bt->hash, bt->hash_size * sizeof(*bt->hash));
    zero_bytes(bt->hint, sizeof(bt->hint));
    bt->norder = 0;
    bt->xlinks = NULL;
    bt->meta_used = 0;
    bt->used = bt->start;
    bt->gen++;
}

/* Neighbours in guest memory stay neighbours here: a short guest touches few pages of the table.
 * Not of RIP: what is translated for other addresses is found as well. */
static unsigned hash_of(const struct bt *bt, gpa_t gpa, uint16_t key)
{
    uint64_t far = (gpa >> 14) * 0x9e3779b97f4a7c15u;

    return (unsigned)(gpa >> 1 ^ far >> 40 ^ (uint64_t)key << 6) & (bt->hash_size - 1);
}

struct bt_block *bt_block_first(struct bt *bt, gpa_t gpa, uint16_t key)
{
    return bt->hash[hash_of(bt, gpa, key)];
}

struct bt_block *bt_block_find(struct bt *bt, gpa_t gpa, uint64_t rip, uint16_t key)
{
    struct bt_block *b = bt_block_first(bt, gpa, key);

    while (b && !(b->gpa == gpa && b->rip == rip && b->key == key))
        b = b->hash_next;
    return b;
}

void bt_trace_page(struct vcpu *v, gpa_t gpa)
{
    gpa_t page = gpa & PAGE_MASK;
    uint8_t *attr = &v->vm->ram->attr[page >> PAGE_SHIFT];

    if (__atomic_load_n(attr, __ATOMIC_RELAXED) & RAM_ATTR_CODE)
        return;
    bt_world_stop(v);
    __atomic_fetch_or(attr, RAM_ATTR_CODE, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < v->vm->nvcpu; i++)
        tlb_drop_writes(&v->vm->vcpu[i]->tlb, v->vm->ram->base + page);
    bt_window_traced(v->vm, page);
    bt_world_start(v);
}

/* One page may be mapped behind itself. */
static bool two_pages(const struct bt_block *b)
{
    return b->page2 != ~(gpa_t)0 && b->page2 >> PAGE_SHIFT != b->gpa >> PAGE_SHIFT;
}

void bt_block_add(struct bt *bt, struct bt_block *b)
{
    unsigned h = hash_of(bt, b->gpa, b->key);

    b->valid = true;
    b->hash_next = bt->hash[h];
    bt->hash[h] = b;
    bt->order[bt->norder++] = b;
    b->page_next[0] = bt->page[b->gpa >> PAGE_SHIFT];
    bt->page[b->gpa >> PAGE_SHIFT] = b;
    if (two_pages(b)) {
        b->page_next[1] = bt->page[b->page2 >> PAGE_SHIFT];
        bt->page[b->page2 >> PAGE_SHIFT] = b;
    }
}

static void unlink_out(struct bt *bt, struct bt_link *l)
{
    if (!l->to)
        return;
    struct bt_link **p = &l->to->in;

    while (*p != l)
        p = &(*p)->next_in;
    *p = l->next_in;
    l->to = NULL;
    e_patch(bt->rw, l->site, l->stub);
}

void bt_link_to(struct bt *bt, struct bt_link *l, struct bt_block *to)
{
    l->to = to;
    l->next_in = to->in;
    to->in = l;
    e_patch(bt->rw, l->site, l->flags_saved ? to->entry_slot : to->entry_live);
    if (l->cross_page) {
        l->next_x = bt->xlinks;
        bt->xlinks = l;
    }
}

static void drop_xlink(struct bt *bt, struct bt_link *l)
{
    for (struct bt_link **p = &bt->xlinks; *p; p = &(*p)->next_x)
        if (*p == l) {
            *p = l->next_x;
            return;
        }
}

void bt_link_undo(struct bt *bt, struct bt_link *l)
{
    if (l->to && l->cross_page)
        drop_xlink(bt, l);
    unlink_out(bt, l);
}

void bt_unlink_cross(struct bt *bt)
{
    for (struct bt_link *l = bt->xlinks; l; l = l->next_x)
        unlink_out(bt, l);
    bt->xlinks = NULL;
}

/* Which of b's two page lists is the one of page frame pfn. */
static unsigned list_index(const struct bt_block *b, uint64_t pfn)
{
    return b->gpa >> PAGE_SHIFT == pfn ? 0 : 1;
}

static void page_remove(struct bt *bt, struct bt_block *b, uint64_t pfn)
{
    struct bt_block **p = &bt->page[pfn];

    while (*p != b)
        p = &(*p)->page_next[list_index(*p, pfn)];
    *p = b->page_next[list_index(b, pfn)];
}

void bt_block_kill(struct bt *bt, struct bt_block *b)
{
    struct bt_block **p = &bt->hash[hash_of(bt, b->gpa, b->key)];

    while (*p != b)
        p = &(*p)->hash_next;
    *p = b->hash_next;
    page_remove(bt, b, b->gpa >> PAGE_SHIFT);
    if (two_pages(b))
        page_remove(bt, b, b->page2 >> PAGE_SHIFT);
    while (b->in)
        bt_link_undo(bt, b->in);
    for (struct bt_link *l = b->out; l; l = l->next_out)
        bt_link_undo(bt, l);
    b->valid = false;
    bt->gen++;
    bt_block_forget(bt, b);
}

void bt_block_forget(struct bt *bt, const struct bt_block *b)
{
    for (unsigned i = 0; i < bt->vm->nvcpu; i++) {
        struct jc_entry *row = &bt->vm->vcpu[i]->jc[b->key & KEY_CTX][jc_slot(b->rip)];

        if (__atomic_load_n(&row->rip, __ATOMIC_RELAXED) == b->rip)
            __atomic_store_n(&row->rip, b->rip ^ 2,
                             __ATOMIC_RELAXED); /* belongs to another slot: never hits */
    }
}

struct bt_block *bt_block_at(const struct bt *bt, uint32_t off)
{
    uint32_t lo = 0, hi = bt->norder;

    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;

        if (bt->order[mid]->code + bt->order[mid]->code_len <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < bt->norder && bt->order[lo]->code <= off ? bt->order[lo] : NULL;
}

/* Does the block's code cover any byte of [gpa, end)? */
static bool covers(const struct bt_block *b, gpa_t gpa, gpa_t end)
{
    uint64_t first = PAGE_SIZE - (b->gpa & (PAGE_SIZE - 1));
    gpa_t page = b->gpa & PAGE_MASK;

    for (int i = 0; i < BT_AHEAD; i++)
        if (b->ahead[i].len && page + b->ahead[i].at < end &&
            gpa < page + b->ahead[i].at + b->ahead[i].len)
            return true;
    if (b->len <= first)
        return b->gpa < end && gpa < b->gpa + b->len;
    return (b->gpa < end && gpa < b->gpa + first) ||
           (b->page2 < end && gpa < b->page2 + (b->len - first));
}

void bt_code_written(void *opaque, gpa_t gpa, uint64_t len)
{
    struct bt *bt = opaque;
    gpa_t end = gpa + len;

    bt_lock(bt);
    for (uint64_t pfn = gpa >> PAGE_SHIFT; pfn <= (end - 1) >> PAGE_SHIFT; pfn++) {
        struct bt_block *b = bt->page[pfn], *next;

        for (; b; b = next) {
            next = b->page_next[list_index(b, pfn)];
            if (covers(b, gpa, end)) {
                bt_block_kill(bt, b);
                bt->vm->vcpu[0]->stats.bt_smc++;
            }
        }
        page_untrace(bt, pfn);
    }
    bt_unlock(bt);
}

void bt_note_breakpoint(struct vm_cpus *vm, gva_t lin)
{
    struct bt *bt = vm->bt;

    bt_lock(bt);
    for (uint32_t i = 0; i < bt->norder; i++)
        if (bt->order[i]->valid && lin - bt->order[i]->rip < bt->order[i]->len)
            bt_block_kill(bt, bt->order[i]);
    bt_unlock(bt);
}
