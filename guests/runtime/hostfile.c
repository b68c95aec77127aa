/*
 * The host's files, open: reading, writing, and pages for mappings. The host copies from and to the
 * program's own memory. Nothing is kept between calls but the pages of files that are mapped
 * (mapfile.c).
 */
#include <asm/fcntl.h>
#include <asm/poll.h>
#include <linux/fuse.h>
#include <linux/stat.h>
#include "guests/runtime/hostfs.h"
#include "guests/runtime/vm.h"

#define OPEN_FLAGS   (O_ACCMODE | O_APPEND | O_NONBLOCK)
#define REQUEST_MOST (1u << 20) /* what FUSE_INIT offers */

void hostfs_close(uint8_t share, uint64_t node, uint64_t fh, bool directory)
{
    struct fuse_release_in r = {.fh = fh};

    fuse_post(share, directory ? FUSE_RELEASEDIR : FUSE_RELEASE, node, &r, sizeof r);
}

int hostfs_open(struct file *f, bool truncate)
{
    struct inode *i = f->inode;
    bool directory = S_ISDIR(i->mode);
    struct fuse_open_in in = {.flags =
                                  (f->flags & OPEN_FLAGS) | (truncate ? (uint32_t)O_TRUNC : 0)};
    struct fuse_open_out out;
    int64_t err = fuse_call(&(struct fuse_call){.op = directory ? FUSE_OPENDIR : FUSE_OPEN,
                                                .share = i->share,
                                                .node = i->node,
                                                .in = &in,
                                                .in_len = sizeof in,
                                                .out = &out,
                                                .out_len = sizeof out});

    if (err < 0)
        return (int)err;
    if (truncate)
        i->size = 0;
    if (directory && hostdir_attach(f, out.fh)) {
        hostfs_close(i->share, i->node, out.fh, true);
        return -ENOMEM;
    }
    if (!directory) {
        f->data = (void *)(uintptr_t)out.fh;
        f->ops = &hostfile_ops;
    }
    return 0;
}

static int64_t transfer(const struct inode *i, uint64_t fh, bool write, uint64_t at, uint64_t n,
                        const struct stretch *data, unsigned stretches, uint32_t flags)
{
    struct fuse_read_in r = {.fh = fh, .offset = at, .size = (uint32_t)n};
    struct fuse_write_in w = {.fh = fh, .offset = at, .size = (uint32_t)n, .flags = flags};
    struct fuse_write_out out;

    if (!write)
        return fuse_call(&(struct fuse_call){.op = FUSE_READ,
                                             .share = i->share,
                                             .node = i->node,
                                             .in = &r,
                                             .in_len = sizeof r,
                                             .data = data,
                                             .stretches = stretches,
                                             .data_out = n});
    int64_t err = fuse_call(&(struct fuse_call){.op = FUSE_WRITE,
                                                .share = i->share,
                                                .node = i->node,
                                                .in = &w,
                                                .in_len = sizeof w,
                                                .out = &out,
                                                .out_len = sizeof out,
                                                .data = data,
                                                .stretches = stretches,
                                                .data_in = n});

    return err < 0 ? err : out.size <= n ? (int64_t)out.size : -EIO;
}

/* --- the program's memory --- */

/* Where the page of at is, for that access; 0: it may not be. */
static uint64_t user_page(uint64_t at, bool write)
{
    uint64_t want = PTE_P | PTE_U | (write ? PTE_W : 0);
    uint64_t *e = pages_entry(at, false);
    struct fault f;

    if ((!e || (*e & want) != want) && vm_fault(at, write, false, &f))
        return 0;
    e = pages_entry(at, false);
    return e && (*e & want) == want ? *e & PTE_ADDR : 0;
}

/* The stretches that program memory is in, as far as they fit: how many bytes; *n of them. */
static uint64_t user_stretches(uint64_t at, uint64_t len, bool write, struct stretch *s,
                               unsigned *n)
{
    uint64_t done = 0;

    *n = 0;
    while (done < len) {
        uint64_t page = user_page(page_down(at), write), part = least(len - done, PAGE - at % PAGE);
        char *p = (char *)kva(page) + at % PAGE;

        if (!page)
            break;
        if (*n && (char *)s[*n - 1].at + s[*n - 1].len == p)
            s[*n - 1].len += part;
        else if (*n < STRETCHES)
            s[(*n)++] = (struct stretch){p, part};
        else
            break;
        done += part;
        at += part;
    }
    return done;
}

/* One request's worth between the file and program memory; *asked: how much that was. */
static int64_t move(struct file *f, uint64_t buf, uint64_t len, uint64_t pos, bool write,
                    uint64_t *asked)
{
    struct stretch s[STRETCHES];
    unsigned n;

    *asked = user_stretches(buf, least(len, REQUEST_MOST), !write, s, &n);
    if (!*asked)
        return -EFAULT;
    return transfer(f->inode, (uintptr_t)f->data, write, pos, *asked, s, n, f->flags & O_APPEND);
}

/* The file is mapped: what is written shows in the mapping. */
static int64_t write_mapped(struct file *f, uint64_t buf, uint64_t len, uint64_t pos)
{
    uint64_t n = least(len, BOUNCE);

    if (copy_in(bounce, buf, n))
        return -EFAULT;
    int64_t put = transfer(f->inode, (uintptr_t)f->data, true, pos, n, &(struct stretch){bounce, n},
                           1, f->flags & O_APPEND);

    if (put > 0)
        mapfile_update(f->inode, pos, bounce, (uint64_t)put);
    return put;
}

static int64_t host_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    uint64_t done = 0, asked = 0;

    mapfile_sync(f->inode);
    for (int64_t got = 0; done < len && (uint64_t)got == asked; done += (uint64_t)got) {
        got = move(f, buf + done, len - done, *pos, false, &asked);
        if (got < 0)
            return done ? (int64_t)done : got;
        *pos += (uint64_t)got;
    }
    return (int64_t)done;
}

/* Where the file ends is the host's to say, and asked for when the program wants to know. */
static int64_t append(struct file *f, uint64_t buf, uint64_t len)
{
    struct inode *i = f->inode;
    uint64_t done = 0, asked;

    if (i->maps)
        hostfs_refresh(i);
    while (done < len) {
        int64_t put = i->maps ? write_mapped(f, buf + done, len - done, i->size)
                              : move(f, buf + done, len - done, i->size, true, &asked);

        if (put <= 0)
            return done ? (int64_t)done : put;
        i->size += (uint64_t)put;
        done += (uint64_t)put;
    }
    return (int64_t)done;
}

static int64_t host_write(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct inode *i = f->inode;
    uint64_t done = 0, asked;

    mapfile_sync(i);
    int err = limit_write(f->flags & O_APPEND ? i->size : *pos, &len);

    if (err)
        return err;
    if (f->flags & O_APPEND) {
        f->appended = true;
        return append(f, buf, len);
    }
    while (done < len) {
        int64_t put = i->maps ? write_mapped(f, buf + done, len - done, *pos)
                              : move(f, buf + done, len - done, *pos, true, &asked);

        if (put <= 0)
            return done ? (int64_t)done : put;
        done += (uint64_t)put;
        *pos += (uint64_t)put;
        if (*pos > i->size)
            i->size = *pos;
    }
    return (int64_t)done;
}

static int host_sync(struct file *f)
{
    struct fuse_fsync_in in = {.fh = (uintptr_t)f->data};
    int err = mapfile_sync(f->inode);
    int64_t got = fuse_call(&(struct fuse_call){.op = FUSE_FSYNC,
                                                .share = f->inode->share,
                                                .node = f->inode->node,
                                                .in = &in,
                                                .in_len = sizeof in});

    return err ? err : (int)got;
}

static unsigned host_poll(struct file *f)
{
    (void)f;
    return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
}

static void host_release(struct file *f)
{
    hostfs_close(f->inode->share, f->inode->node, (uintptr_t)f->data, false);
}

const struct file_ops hostfile_ops = {.read = host_read,
                                      .write = host_write,
                                      .poll = host_poll,
                                      .sync = host_sync,
                                      .release = host_release,
                                      .seekable = true};

int64_t hostfs_pages(const struct inode *i, uint64_t n, void *const page[], unsigned count)
{
    struct stretch s[STRETCHES];

    if (!i->backing)
        return -EIO;
    count = (unsigned)least(count, STRETCHES);
    for (unsigned k = 0; k < count; k++)
        s[k] = (struct stretch){page[k], PAGE};
    return transfer(i, (uintptr_t)i->backing->data, false, n * PAGE, count * PAGE, s, count, 0);
}

int hostfs_put_page(struct inode *i, uint64_t n, void *page)
{
    uint64_t at = n * PAGE, len = at < i->size ? least(PAGE, i->size - at) : 0;
    int64_t put;

    if (!len)
        return 0;
    put = i->backing ? transfer(i, (uintptr_t)i->backing->data, true, at, len,
                                &(struct stretch){page, len}, 1, 0)
                     : -EIO;
    return put < 0 ? (int)put : 0;
}

/* Its pages are read and written through a file that stays open as long as it is mapped: one that
 * may write, if there is one. */
void hostfs_mapped(struct file *f)
{
    struct inode *i = f->inode;

    hostfs_refresh_file(f);
    if (i->backing &&
        ((i->backing->flags & O_ACCMODE) == O_RDWR || (f->flags & O_ACCMODE) != O_RDWR))
        return;
    file_hold(f);
    if (i->backing)
        file_drop(i->backing);
    i->backing = f;
}

void hostfs_unmapped(struct inode *i)
{
    struct file *f = i->backing;

    i->backing = NULL;
    inode_forget_pages(i);
    if (f)
        file_drop(f);
}

int hostfs_fallocate(struct file *f, uint64_t mode, uint64_t off, uint64_t len)
{
    struct fuse_fallocate_in in = {
        .fh = (uintptr_t)f->data, .offset = off, .length = len, .mode = (uint32_t)mode};
    int64_t err = fuse_call(&(struct fuse_call){.op = FUSE_FALLOCATE,
                                                .share = f->inode->share,
                                                .node = f->inode->node,
                                                .in = &in,
                                                .in_len = sizeof in});

    if (err >= 0)
        hostfs_refresh(f->inode);
    return err < 0 ? (int)err : 0;
}
