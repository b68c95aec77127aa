/*
 * The host's directories, open. A listing is fetched in large pieces and handed out in such as the
 * program's are (musl asks for 2 KiB at a time).
 */
#include <linux/fuse.h>
#include <linux/stat.h>
#include "guests/runtime/hostfs.h"

#define PAGES 4u
#define KEPT  4u /* buffers, for those who come next */

struct hostdir {
    uint64_t fh;
    uint8_t *piece;   /* of the listing; NULL: none was asked for */
    uint64_t at, len; /* what of it is still to be handed out begins here; its end */
    uint64_t pos;     /* that is the file's position then */
};

static uint8_t *kept[KEPT];
static unsigned nkept;

static uint8_t *buffer_take(void)
{
    uint64_t pa = nkept ? 0 : frames_row(PAGES);

    return nkept ? kept[--nkept] : pa ? kva(pa) : NULL;
}

static void buffer_give(uint8_t *buffer)
{
    if (nkept < KEPT) {
        kept[nkept++] = buffer;
        return;
    }
    for (unsigned i = 0; i < PAGES; i++)
        frame_free(kpa(buffer + i * PAGE));
}

static struct hostdir *hostdir_of(const struct file *f)
{
    return f->data;
}

uint64_t hostdir_handle(const struct file *f)
{
    return hostdir_of(f)->fh;
}

int hostdir_attach(struct file *f, uint64_t fh)
{
    struct hostdir *d = kalloc(sizeof *d);

    if (!d)
        return -ENOMEM;
    d->fh = fh;
    f->data = d;
    f->ops = &hostdir_ops;
    return 0;
}

static void dir_release(struct file *f)
{
    struct hostdir *d = hostdir_of(f);

    hostfs_close(f->inode->share, f->inode->node, d->fh, true);
    if (d->piece)
        buffer_give(d->piece);
    kfree(d, sizeof *d);
}

static int64_t dir_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    (void)f, (void)buf, (void)len, (void)pos;
    return -EISDIR;
}

static int dir_sync(struct file *f)
{
    struct fuse_fsync_in in = {.fh = hostdir_of(f)->fh};

    return (int)fuse_call(&(struct fuse_call){.op = FUSE_FSYNCDIR,
                                              .share = f->inode->share,
                                              .node = f->inode->node,
                                              .in = &in,
                                              .in_len = sizeof in});
}

const struct file_ops hostdir_ops = {
    .read = dir_read, .sync = dir_sync, .release = dir_release, .seekable = true};

/* The next piece: its length, 0 at the end. */
static int64_t fetch(struct file *f, struct hostdir *d)
{
    if (!d->piece)
        d->piece = buffer_take();
    if (!d->piece)
        return -ENOMEM;
    struct fuse_read_in in = {.fh = d->fh, .offset = f->pos, .size = PAGES * PAGE};
    int64_t n = fuse_call(&(struct fuse_call){.op = FUSE_READDIR,
                                              .share = f->inode->share,
                                              .node = f->inode->node,
                                              .in = &in,
                                              .in_len = sizeof in,
                                              .data = &(struct stretch){d->piece, PAGES * PAGE},
                                              .stretches = 1,
                                              .data_out = PAGES * PAGE});

    d->at = 0;
    d->len = n > 0 ? (uint64_t)n : 0;
    d->pos = f->pos;
    return n;
}

int64_t hostfs_getdents(struct file *f, uint64_t buf, uint64_t size)
{
    struct hostdir *d = hostdir_of(f);
    uint64_t done = 0;

    if (d->pos != f->pos || !f->pos) /* it was moved, or shows what is there now */
        d->at = d->len;
    for (;;) {
        const struct fuse_dirent *e = (const struct fuse_dirent *)(d->piece + d->at);

        if (d->len - d->at < FUSE_NAME_OFFSET) {
            int64_t n = done ? 0 : fetch(f, d);

            if (n <= 0)
                return done ? (int64_t)done : n;
            continue;
        }
        if (e->namelen > 255 || FUSE_NAME_OFFSET + e->namelen > d->len - d->at)
            return -EIO;
        int64_t len =
            put_record(buf + done, size - done, e->ino, e->type, e->off, e->name, e->namelen);

        if (len <= 0)
            return done ? (int64_t)done : len ? len : -EINVAL;
        done += (uint64_t)len;
        d->pos = f->pos = e->off;
        d->at = least(d->at + FUSE_DIRENT_SIZE(e), d->len);
    }
}
