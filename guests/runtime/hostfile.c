/*
 * The host's files, open: reading, writing, directories, and pages for mappings. Nothing is kept
 * between calls but the pages of files that are mapped (mapfile.c).
 */
#include <asm/fcntl.h>
#include <asm/poll.h>
#include <linux/fuse.h>
#include <linux/stat.h>
#include "guests/runtime/hostfs.h"
#include "guests/runtime/vm.h"

#define OPEN_FLAGS (O_ACCMODE | O_APPEND | O_NONBLOCK)

void hostfs_close(uint8_t share, uint64_t node, uint64_t fh, bool directory)
{
    struct fuse_release_in r = {.fh = fh};

    fuse_call(&(struct fuse_call){.op = directory ? FUSE_RELEASEDIR : FUSE_RELEASE,
                                  .share = share,
                                  .node = node,
                                  .in = &r,
                                  .in_len = sizeof r});
}

static int64_t open_node(struct inode *i, uint32_t flags, uint64_t *fh)
{
    struct fuse_open_in in = {.flags = flags};
    struct fuse_open_out out;
    int64_t err = fuse_call(&(struct fuse_call){.op = S_ISDIR(i->mode) ? FUSE_OPENDIR : FUSE_OPEN,
                                                .share = i->share,
                                                .node = i->node,
                                                .in = &in,
                                                .in_len = sizeof in,
                                                .out = &out,
                                                .out_len = sizeof out});

    *fh = out.fh;
    return err < 0 ? err : 0;
}

int hostfs_open(struct file *f)
{
    uint64_t fh;
    int64_t err = open_node(f->inode, f->flags & OPEN_FLAGS, &fh);

    if (err)
        return (int)err;
    f->data = (void *)fh;
    f->ops = &hostfile_ops;
    return 0;
}

static int64_t transfer(struct inode *i, uint64_t fh, bool write, uint64_t at, uint64_t n,
                        void *data)
{
    struct fuse_read_in r = {.fh = fh, .offset = at, .size = (uint32_t)n};
    struct fuse_write_in w = {.fh = fh, .offset = at, .size = (uint32_t)n};
    struct fuse_write_out out;

    if (!write)
        return fuse_call(&(struct fuse_call){.op = FUSE_READ,
                                             .share = i->share,
                                             .node = i->node,
                                             .in = &r,
                                             .in_len = sizeof r,
                                             .data = data,
                                             .data_out = n});
    int64_t err = fuse_call(&(struct fuse_call){.op = FUSE_WRITE,
                                                .share = i->share,
                                                .node = i->node,
                                                .in = &w,
                                                .in_len = sizeof w,
                                                .out = &out,
                                                .out_len = sizeof out,
                                                .data = data,
                                                .data_in = n});

    return err < 0 ? err : out.size <= n ? (int64_t)out.size : -EIO;
}

static int64_t host_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    uint64_t done = 0;

    if (S_ISDIR(f->inode->mode))
        return -EISDIR;
    mapfile_sync(f->inode);
    while (done < len) {
        uint64_t n = least(len - done, BOUNCE);
        int64_t got = transfer(f->inode, (uintptr_t)f->data, false, *pos, n, bounce);

        if (got > 0 && copy_out(buf + done, bounce, (size_t)got))
            got = -EFAULT;
        if (got <= 0)
            return done ? (int64_t)done : got;
        done += (uint64_t)got;
        *pos += (uint64_t)got;
        if ((uint64_t)got < n)
            break;
    }
    return (int64_t)done;
}

static int64_t host_write(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    uint64_t done = 0;

    mapfile_sync(f->inode);
    if (f->flags & O_APPEND) {
        hostfs_refresh(f->inode);
        *pos = f->inode->size;
    }
    int err = limit_write(*pos, &len);

    if (err)
        return err;
    while (done < len) {
        uint64_t n = least(len - done, BOUNCE);
        int64_t put = copy_in(bounce, buf + done, n)
                          ? -EFAULT
                          : transfer(f->inode, (uintptr_t)f->data, true, *pos, n, bounce);

        if (put <= 0)
            return done ? (int64_t)done : put;
        mapfile_update(f->inode, *pos, bounce, (uint64_t)put);
        done += (uint64_t)put;
        *pos += (uint64_t)put;
        if (*pos > f->inode->size)
            f->inode->size = *pos;
    }
    return (int64_t)done;
}

static int host_sync(struct file *f)
{
    struct fuse_fsync_in in = {.fh = (uintptr_t)f->data};
    int err = mapfile_sync(f->inode);
    int64_t got =
        fuse_call(&(struct fuse_call){.op = S_ISDIR(f->inode->mode) ? FUSE_FSYNCDIR : FUSE_FSYNC,
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
    hostfs_close(f->inode->share, f->inode->node, (uintptr_t)f->data, S_ISDIR(f->inode->mode));
}

const struct file_ops hostfile_ops = {.read = host_read,
                                      .write = host_write,
                                      .poll = host_poll,
                                      .sync = host_sync,
                                      .release = host_release,
                                      .seekable = true};

int hostfs_page(struct inode *i, uint64_t n, void *page)
{
    int64_t err =
        i->backing ? transfer(i, (uintptr_t)i->backing->data, false, n * PAGE, PAGE, page) : -EIO;

    return err < 0 ? (int)err : 0;
}

int hostfs_put_page(struct inode *i, uint64_t n, void *page)
{
    uint64_t at = n * PAGE;
    int64_t put;

    if (at >= i->size)
        return 0;
    put = i->backing
              ? transfer(i, (uintptr_t)i->backing->data, true, at, least(PAGE, i->size - at), page)
              : -EIO;
    return put < 0 ? (int)put : 0;
}

/* Its pages are read and written through a file that stays open as long as it is mapped: one that
 * may write, if there is one. */
void hostfs_mapped(struct file *f)
{
    struct inode *i = f->inode;

    hostfs_refresh(i);
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

int64_t hostfs_getdents(struct file *f, uint64_t buf, uint64_t size)
{
    struct fuse_read_in in = {.fh = (uintptr_t)f->data, .offset = f->pos, .size = PAGE};
    uint64_t done = 0, at = 0;
    int64_t n = fuse_call(&(struct fuse_call){.op = FUSE_READDIR,
                                              .share = f->inode->share,
                                              .node = f->inode->node,
                                              .in = &in,
                                              .in_len = sizeof in,
                                              .data = bounce,
                                              .data_out = PAGE});

    if (n < 0)
        return n;
    while (at + FUSE_NAME_OFFSET <= (uint64_t)n) {
        const struct fuse_dirent *d = (const struct fuse_dirent *)(bounce + at);

        if (d->namelen > 255 || at + FUSE_NAME_OFFSET + d->namelen > (uint64_t)n)
            return -EIO;
        int64_t len =
            put_record(buf + done, size - done, d->ino, d->type, d->off, d->name, d->namelen);

        if (len <= 0)
            return done ? (int64_t)done : len ? len : -EINVAL;
        done += (uint64_t)len;
        f->pos = d->off;
        at += FUSE_DIRENT_SIZE(d);
    }
    return (int64_t)done;
}
