/* The in-memory tree: inodes and their pages. */
#include <asm/fcntl.h>
#include <asm/poll.h>
#include <linux/stat.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/hostfs.h"
#include "guests/runtime/pipe.h"
#include "guests/runtime/process.h"

#define FANOUT 512u
#define AHEAD  16u   /* pages of a host's file read at a time */
#define PLENTY 4096u /* free pages: while there are as many */

struct inode *root, *cwd;
static uint64_t last_ino;

struct inode *inode_new(uint32_t mode)
{
    struct inode *i = kalloc(sizeof *i);

    if (!i)
        return NULL;
    i->mode = mode;
    i->refs = 1;
    i->ino = ++last_ino;
    i->ops = S_ISDIR(mode) ? &directory_ops : S_ISFIFO(mode) ? &pipe_ops : &regular_ops;
    i->mtime = i->atime = i->ctime = -1; /* not asked for yet: the boot */
    return i;
}

void inode_hold(struct inode *i)
{
    i->refs++;
}

static void free_pages(struct inode *i, uint64_t from)
{
    for (uint64_t a = from / FANOUT; i->pages && a < FANOUT; a++) {
        if (!i->pages[a])
            continue;
        for (uint64_t b = a == from / FANOUT ? from % FANOUT : 0; b < FANOUT; b++)
            if (i->pages[a][b]) {
                frame_free(i->pages[a][b]);
                i->pages[a][b] = 0;
            }
    }
}

static void inode_free(struct inode *i)
{
    dir_clear(i);
    if (i->node)
        hostfs_forget(i);
    free_pages(i, 0);
    for (unsigned a = 0; i->pages && a < FANOUT; a++)
        if (i->pages[a])
            kfree(i->pages[a], PAGE);
    kfree(i->pages, PAGE);
    if (i->target)
        kfree(i->target, length(i->target) + 1);
    kfree(i, sizeof *i);
}

/* A directory takes its entries with it, one after another: the tree may be deep, the stack is
 * not. */
void inode_drop(struct inode *i)
{
    static struct inode *dying;
    static bool busy;

    if (--i->refs)
        return;
    i->parent = dying;
    dying = i;
    if (busy)
        return;
    busy = true;
    while (dying) {
        i = dying;
        dying = i->parent;
        inode_free(i);
    }
    busy = false;
}

/* A host file's page n, and those that follow it in its leaf, are not there yet, and will be wanted
 * too: one request for them all. */
static void fetch_pages(const struct inode *i, uint64_t n, uint64_t *leaf)
{
    uint64_t end = least((n / FANOUT + 1) * FANOUT, page_up(i->size) / PAGE), pa;
    void *page[AHEAD];
    unsigned count = 0;

    for (; n + count < end && count < AHEAD && !leaf[(n + count) % FANOUT]; count++) {
        pa = !count || frames_free() > PLENTY ? frame_alloc_dirty() : 0;
        if (!pa)
            break;
        page[count] = kva(pa);
    }
    int64_t got = count ? hostfs_pages(i, n, page, count) : 0;

    for (unsigned k = 0; k < count; k++) {
        uint64_t have = got > (int64_t)(k * PAGE) ? least((uint64_t)got - k * PAGE, PAGE) : 0;

        if (got < 0) {
            frame_free(kpa(page[k]));
            continue;
        }
        fill((char *)page[k] + have, 0, PAGE - have);
        leaf[(n + k) % FANOUT] = kpa(page[k]);
    }
}

uint64_t inode_page(struct inode *i, uint64_t n, bool create)
{
    uint64_t *leaf;

    if (i->flat)
        return n * PAGE < i->size ? kpa(i->flat) + n * PAGE : 0;
    if (n >= FANOUT * FANOUT)
        return 0;
    if (!i->pages && (!create || !(i->pages = kalloc(PAGE))))
        return 0;
    leaf = i->pages[n / FANOUT];
    if (!leaf) {
        if (!create || !(leaf = kalloc(PAGE)))
            return 0;
        i->pages[n / FANOUT] = leaf;
    }
    /* The last pages are for the program's own memory. */
    if (!leaf[n % FANOUT] && create && frames_free() > 64) {
        if (i->node)
            fetch_pages(i, n, leaf);
        else
            leaf[n % FANOUT] = frame_alloc();
    }
    return leaf[n % FANOUT];
}

void inode_forget_pages(struct inode *i)
{
    free_pages(i, 0);
}

/* Pages past the new end go, unless a mapping may still show them: then they become zero. */
int inode_resize(struct inode *i, uint64_t size)
{
    uint64_t was = i->size;

    if (i->flat)
        return -ETXTBSY;
    if (!i->node && size > INODE_MAX)
        return -EFBIG;
    int err = size > was ? limit_size(size) : 0;

    if (!err && i->node)
        err = hostfs_resize(i, size);
    if (err)
        return err;
    if (size < was && i->pages) {
        uint64_t page = size % PAGE ? inode_page(i, size / PAGE, false) : 0;

        if (page)
            fill((char *)kva(page) + size % PAGE, 0, PAGE - size % PAGE);
        if (!i->maps) {
            free_pages(i, page_up(size) / PAGE);
        } else {
            for (uint64_t n = page_up(size) / PAGE; n < page_up(was) / PAGE; n++) {
                page = inode_page(i, n, false);
                if (page)
                    fill(kva(page), 0, PAGE);
            }
        }
    }
    i->size = size;
    return 0;
}

int inode_put(struct inode *i, uint64_t at, const void *src, uint64_t len)
{
    const char *from = src;

    while (len) {
        uint64_t n = least(len, PAGE - at % PAGE), page = inode_page(i, at / PAGE, true);

        if (!page)
            return -ENOSPC;
        copy((char *)kva(page) + at % PAGE, from, n);
        at += n;
        from += n;
        len -= n;
        if (at > i->size)
            i->size = at;
    }
    return 0;
}

static int64_t now(void)
{
    return (int64_t)clock_ns() + clock_wall();
}

static int64_t regular_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct inode *i = f->inode;
    uint64_t done = 0;

    if (*pos >= i->size)
        return 0;
    len = least(len, i->size - *pos);
    while (done < len) {
        uint64_t at = *pos + done, n = least(len - done, PAGE - at % PAGE);
        uint64_t page = inode_page(i, at / PAGE, false);

        if (page ? copy_out(buf + done, (char *)kva(page) + at % PAGE, n)
                 : clear_out(buf + done, n))
            return done ? (int64_t)done : -EFAULT;
        done += n;
    }
    *pos += done;
    return (int64_t)done;
}

static int64_t regular_write(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct inode *i = f->inode;
    uint64_t done = 0;

    if (i->flat)
        return -ETXTBSY;
    if (f->flags & O_APPEND)
        *pos = i->size;
    int err = limit_write(*pos, &len);

    if (err)
        return err;
    while (done < len) {
        uint64_t at = *pos + done, n = least(len - done, PAGE - at % PAGE);
        uint64_t page = at < INODE_MAX ? inode_page(i, at / PAGE, true) : 0;

        if (!page || copy_in((char *)kva(page) + at % PAGE, buf + done, n)) {
            if (done)
                break;
            return page ? -EFAULT : at < INODE_MAX ? -ENOSPC : -EFBIG;
        }
        done += n;
        if (at + n > i->size)
            i->size = at + n;
    }
    *pos += done;
    if (done)
        i->mtime = i->ctime = now();
    return (int64_t)done;
}

static unsigned regular_poll(struct file *f)
{
    (void)f;
    return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
}

static int64_t directory_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    (void)f, (void)buf, (void)len, (void)pos;
    return -EISDIR;
}

const struct file_ops regular_ops = {
    .read = regular_read, .write = regular_write, .poll = regular_poll, .seekable = true};
const struct file_ops directory_ops = {.read = directory_read, .seekable = true};

/* --- the tree --- */

void fs_place(const char *path, struct inode *i)
{
    struct inode *dir = root;

    while (*path == '/')
        path++;
    for (;;) {
        size_t len = 0;

        while (path[len] && path[len] != '/')
            len++;
        if (!path[len]) {
            i->mount |= dir->node != 0;
            if (dir_known(dir, path, len))
                dir_remove(dir, path, len);
            dir_add(dir, path, len, i);
            inode_drop(i);
            return;
        }
        struct inode *next = dir_find(dir, path, len);

        if (!next) {
            next = inode_new(S_IFDIR | 0755);
            next->mount = dir->node != 0;
            dir_add(dir, path, len, next);
            inode_drop(next);
        }
        dir = next;
        path += len;
        while (*path == '/')
            path++;
    }
}

struct inode *fs_text(const char *path, const char *text)
{
    struct inode *i = inode_new(S_IFREG | 0644);

    inode_put(i, 0, text, length(text));
    fs_place(path, i);
    return i;
}

void fs_init(void)
{
    root = inode_new(S_IFDIR | 0755);
    root->parent = root;
    root->nlink = 1;
    cwd = root;
    inode_hold(root);
    files_init();
}
