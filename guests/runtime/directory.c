/*
 * Directories of the tree: entries in the order in which they came, found by name. Each has a
 * number of its own, which is its place for getdents64, so that a listing in pieces neither skips
 * nor repeats entries when others come and go meanwhile. Many entries have an index, a hash table
 * of one page, and more as it grows.
 */
#include <linux/stat.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/hostfs.h"

#define INDEX_FROM 32u /* entries; fewer are soon looked through */
#define LEAF       512u
#define LEAVES     256u

struct index {
    uint32_t leaves; /* a power of two, of LEAF chains each */
    struct entry **leaf[LEAVES];
};

struct entry {
    struct entry *next, *prev; /* in order */
    struct entry *chain;       /* of the index */
    struct inode *inode;
    uint64_t place; /* for getdents64: from 3, "." and ".." come first */
    uint32_t hash;
    uint8_t len;
    char name[];
};

/* FNV-1a */
static uint32_t hash_of(const char *name, size_t len)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)name[i]) * 16777619u;
    return h ^ h >> 15;
}

static struct entry **chain_of(const struct index *x, uint32_t hash)
{
    return &x->leaf[hash / LEAF % x->leaves][hash % LEAF];
}

static void index_free(struct inode *dir)
{
    for (uint32_t i = 0; dir->index && i < dir->index->leaves; i++)
        kfree(dir->index->leaf[i], PAGE);
    kfree(dir->index, sizeof *dir->index);
    dir->index = NULL;
}

/* An index of that many leaves, in place of the one there is; without memory for it none. */
static void index_make(struct inode *dir, uint32_t leaves)
{
    index_free(dir);
    dir->index = kalloc(sizeof *dir->index);
    for (uint32_t i = 0; dir->index && i < leaves; i++) {
        dir->index->leaf[i] = kalloc(PAGE);
        dir->index->leaves = i + 1;
        if (!dir->index->leaf[i])
            index_free(dir);
    }
    for (struct entry *e = dir->index ? dir->entries : NULL; e; e = e->next) {
        struct entry **at = chain_of(dir->index, e->hash);

        e->chain = *at;
        *at = e;
    }
}

static bool is_named(const struct entry *e, uint32_t hash, const char *name, size_t len)
{
    size_t k = 0;

    if (e->hash != hash || e->len != len)
        return false;
    while (k < len && e->name[k] == name[k])
        k++;
    return k == len;
}

static struct entry *find(const struct inode *dir, const char *name, size_t len)
{
    uint32_t hash = hash_of(name, len);
    struct entry *e = dir->index ? *chain_of(dir->index, hash) : dir->entries;

    while (e && !is_named(e, hash, name, len))
        e = dir->index ? e->chain : e->next;
    return e;
}

struct inode *dir_known(struct inode *dir, const char *name, size_t len)
{
    const struct entry *e = find(dir, name, len);

    return e ? e->inode : NULL;
}

struct inode *dir_find(struct inode *dir, const char *name, size_t len)
{
    if (dir->node)
        return hostfs_find(dir, name, len);
    if (procfd_is(dir))
        procfd_refresh(dir);
    return dir_known(dir, name, len);
}

int dir_add(struct inode *dir, const char *name, size_t len, struct inode *i)
{
    struct entry *e = kalloc(sizeof *e + len + 1);

    if (!e)
        return -ENOSPC;
    copy(e->name, name, len);
    e->len = (uint8_t)len;
    e->hash = hash_of(name, len);
    e->inode = i;
    e->place = dir->places++ + 3;
    e->prev = dir->last;
    *(e->prev ? &e->prev->next : &dir->entries) = e;
    dir->last = e;
    dir->count++;
    inode_hold(i);
    i->nlink++;
    i->parent = dir; /* of a file with several names: the last */
    i->entry = e;
    if (dir->index && dir->count <= 2 * LEAF * dir->index->leaves) {
        struct entry **at = chain_of(dir->index, e->hash);

        e->chain = *at;
        *at = e;
    } else if (dir->count >= INDEX_FROM) {
        index_make(dir, dir->index ? (uint32_t)least(dir->index->leaves * 2, LEAVES) : 1);
    }
    return 0;
}

static void take_out(struct inode *dir, struct entry *e)
{
    struct inode *i = e->inode;

    if (dir->index) {
        struct entry **at = chain_of(dir->index, e->hash);

        while (*at != e)
            at = &(*at)->chain;
        *at = e->chain;
    }
    *(e->prev ? &e->prev->next : &dir->entries) = e->next;
    *(e->next ? &e->next->prev : &dir->last) = e->prev;
    if (dir->listed == e)
        dir->listed = e->prev;
    dir->count--;
    kfree(e, sizeof *e + e->len + 1);
    i->nlink--;
    if (i->entry == e) {
        i->parent = NULL;
        i->entry = NULL;
    }
    inode_drop(i);
}

int dir_remove(struct inode *dir, const char *name, size_t len)
{
    struct entry *e = find(dir, name, len);

    if (!e)
        return -ENOENT;
    take_out(dir, e);
    return 0;
}

void dir_exchange(struct inode *a, const char *name, size_t len, struct inode *b, const char *other,
                  size_t other_len)
{
    struct entry *e = find(a, name, len), *f = find(b, other, other_len);

    if (!e || !f)
        return;
    struct inode *i = e->inode;

    e->inode = f->inode;
    f->inode = i;
    e->inode->parent = a;
    e->inode->entry = e;
    i->parent = b;
    i->entry = f;
}

void dir_clear(struct inode *dir)
{
    index_free(dir);
    while (dir->entries)
        take_out(dir, dir->entries);
}

void dir_each(struct inode *dir, void (*what)(struct inode *i))
{
    for (struct entry *e = dir->entries; e; e = e->next)
        what(e->inode);
}

/* What nobody uses, and nothing hangs from. */
static bool idle(const struct inode *i)
{
    return i->node && i->refs == 1 && !i->mount && !i->entries;
}

void dir_prune(struct inode *top)
{
    struct inode *dir = top;
    struct entry *e = top->entries;

    while (e) {
        struct entry *next = e->next;

        if (e->inode->entries && e->inode->node && !e->inode->mount) {
            dir = e->inode;
            e = dir->entries;
            continue;
        }
        if (idle(e->inode))
            take_out(dir, e);
        while (!next && dir != top) { /* back up: it may be idle itself now */
            e = dir->entry;
            dir = dir->parent;
            next = e->next;
            if (idle(e->inode))
                take_out(dir, e);
        }
        e = next;
    }
}

int64_t path_of(struct inode *dir, char *out, size_t size)
{
    size_t at = size;

    out[--at] = 0;
    if (dir == root)
        out[--at] = '/';
    for (; dir != root; dir = dir->parent) {
        const struct entry *e = dir->entry;

        if (!e || !dir->parent)
            return -ENOENT; /* removed meanwhile */
        if (at < (size_t)e->len + 1)
            return -ENAMETOOLONG;
        at -= e->len;
        copy(out + at, e->name, e->len);
        out[--at] = '/';
    }
    copy(out, out + at, size - at);
    return (int64_t)(size - at);
}

/* --- listing --- */

struct record {
    uint64_t ino, off;
    uint16_t len;
    uint8_t type;
    char name[256];
};

int64_t put_record(uint64_t at, uint64_t room, uint64_t ino, unsigned type, uint64_t off,
                   const char *name, size_t n)
{
    enum { HEAD = offsetof(struct record, name) };
    struct record r;
    size_t size = (HEAD + n + 1 + 7) & ~7ull;

    if (size > room)
        return 0;
    r.ino = ino;
    r.off = off;
    r.len = (uint16_t)size;
    r.type = (uint8_t)type;
    copy(r.name, name, n);
    fill(r.name + n, 0, size - HEAD - n);
    return copy_out(at, &r, size) ? -EFAULT : (int64_t)size;
}

/* What is to be listed after place pos: mostly what follows the entry listed last. */
static struct entry *entry_after(const struct inode *dir, uint64_t pos)
{
    struct entry *e = dir->listed && dir->listed->place <= pos ? dir->listed : dir->entries;

    while (e && e->place <= pos)
        e = e->next;
    return e;
}

/* The listing ends with what was there when it began: a program that renames each file it is told
 * of would otherwise be told of them again and again. That place is kept in the open file. */
static int64_t list(struct file *f, uint64_t buf, uint64_t size)
{
    struct inode *dir = f->inode;
    uint64_t done = 0, end = 0;

    if (!f->pos)
        f->data = (void *)(uintptr_t)(dir->places + 3);
    end = (uintptr_t)f->data;
    for (;;) {
        const struct inode *i = dir;
        uint64_t place = f->pos + 1;
        const char *name = "..";
        size_t len = place;
        struct entry *e = NULL;

        if (place == 2) {
            i = dir->parent ? dir->parent : dir;
        } else if (place > 2) {
            e = entry_after(dir, f->pos);
            if (!e || (end && e->place >= end))
                break;
            i = e->inode;
            name = e->name;
            len = e->len;
            place = e->place;
        }
        int64_t n =
            put_record(buf + done, size - done, i->ino, i->mode >> 12 & 15, place, name, len);

        if (n <= 0)
            return done ? (int64_t)done : n ? n : -EINVAL;
        done += (uint64_t)n;
        f->pos = place;
        dir->listed = e;
    }
    return (int64_t)done;
}

int64_t sys_getdents64(uint64_t fd, uint64_t buf, uint64_t size)
{
    struct file *f = fd_file(fd);

    if (!f)
        return -EBADF;
    if (!f->inode || !S_ISDIR(f->inode->mode))
        return -ENOTDIR;
    if (f->inode->node)
        return hostfs_getdents(f, buf, size);
    if (procfd_is(f->inode) && !f->pos)
        procfd_refresh(f->inode);
    return list(f, buf, size);
}
