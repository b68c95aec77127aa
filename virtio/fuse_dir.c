/* Reading directories. */
#include "virtio/fuse_impl.h"

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct host_dirent { /* getdents64(2) */
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};

int fuse_op_opendir(struct fuse_fs *fs, struct fuse_req *r)
{
    struct fuse_handle *h;

    if (!S_ISDIR(r->node->type))
        return -ENOTDIR;
    int err = fuse_handle_new(fs, &h);

    if (err)
        return err;
    h->dir = true;
    h->fd = fuse_reopen(fs, r->node, O_RDONLY, NULL);
    if (h->fd < 0) {
        err = h->fd;
        fuse_handle_free(fs, h);
        return err;
    }
    *(struct fuse_open_out *)fs->reply = (struct fuse_open_out){.fh = fuse_handle_number(fs, h)};
    r->out_len = sizeof(struct fuse_open_out);
    return 0;
}

int fuse_op_releasedir(struct fuse_fs *fs, struct fuse_req *r)
{
    struct fuse_handle *h = fuse_handle_get(fs, r->a.release.fh, true);

    if (!h)
        return -EBADF;
    fuse_handle_free(fs, h);
    return 0;
}

int fuse_op_fsyncdir(struct fuse_fs *fs, struct fuse_req *r)
{
    return fuse_op_fsync(fs, r);
}

/* The next entry, still in the buffer. NULL: the end, or *err. */
static const struct host_dirent *next_entry(struct fuse_handle *h, int *err)
{
    struct fuse_dirbuf *b = h->buf;

    if (b->pos == b->len) {
        long n = syscall(SYS_getdents64, h->fd, b->data, sizeof b->data);

        b->pos = 0;
        b->len = n > 0 ? (uint32_t)n : 0;
        *err = n < 0 ? -errno : 0;
        if (n <= 0)
            return NULL;
    }
    return (const struct host_dirent *)(b->data + b->pos);
}

void fuse_dirbuf_free(struct fuse_fs *fs, struct fuse_handle *h)
{
    fs->dirbufs -= h->buf != NULL;
    free(h->buf);
    h->buf = NULL;
}

/* Begin at cookie off: where the last call ended, if the guest just reads on. */
static int seek_entry(struct fuse_fs *fs, struct fuse_handle *h, uint64_t off)
{
    if (!h->buf) {
        h->buf = fs->dirbufs < FUSE_DIRBUFS_MAX ? malloc(sizeof *h->buf) : NULL;
        if (!h->buf)
            return -ENOMEM;
        fs->dirbufs++;
        h->buf->off = 0;
        h->buf->pos = h->buf->len = 0;
    }
    if (off == h->buf->off && off)
        return 0;
    h->buf->pos = h->buf->len = 0;
    h->buf->off = off;
    return lseek(h->fd, (off_t)off, SEEK_SET) < 0 ? -errno : 0;
}

/* The entry's attributes, looked up for the guest. A name that has gone meanwhile, and the two that
 * every directory has, are listed without. */
static void plus_entry(struct fuse_fs *fs, struct fuse_req *r, const struct fuse_handle *h,
                       const char *name, struct fuse_entry_out *out)
{
    struct statx st;

    memset(out, 0, sizeof *out);
    if (fuse_name(name) || fuse_stat_at(h->fd, name, &st))
        return;
    struct fuse_inode *n = fuse_enter(fs, r->node, name, &st);

    if (n)
        fuse_fill_entry(fs, n, &st, out);
}

static int read_entries(struct fuse_fs *fs, struct fuse_req *r, bool plus)
{
    struct fuse_handle *h = fuse_handle_get(fs, r->a.read.fh, true);
    uint32_t room = r->a.read.size < r->out_room ? r->a.read.size : r->out_room;
    uint32_t head = plus ? (uint32_t)sizeof(struct fuse_entry_out) : 0;
    const struct host_dirent *e;

    if (!h)
        return -EBADF;
    if (!S_ISDIR(r->node->type))
        return -ENOTDIR;
    if (room > FUSE_REPLY_MAX)
        room = FUSE_REPLY_MAX;
    int err = seek_entry(fs, h, r->a.read.offset);

    if (err)
        return err;
    while ((e = next_entry(h, &err)) != NULL) {
        uint32_t namelen = (uint32_t)strlen(e->name);
        uint32_t len = head + (uint32_t)FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + namelen);

        if (len > room - r->out_len) {
            err = r->out_len ? 0 : -EINVAL;
            break;
        }
        uint8_t *at = fs->reply + r->out_len;
        struct fuse_dirent *d = (struct fuse_dirent *)(at + head);

        if (plus)
            plus_entry(fs, r, h, e->name, (struct fuse_entry_out *)at);
        *d = (struct fuse_dirent){
            .ino = e->ino, .off = (uint64_t)e->off, .namelen = namelen, .type = e->type};
        memcpy(d->name, e->name, namelen);
        memset(d->name + namelen, 0, len - head - FUSE_NAME_OFFSET - namelen);
        /* Not what is above the shared directory. */
        if (r->node == fs->inode && !strcmp(e->name, ".."))
            d->ino = fs->inode[0].id.ino;
        r->out_len += len;
        h->buf->off = (uint64_t)e->off;
        h->buf->pos += e->reclen;
    }
    /* The end: many directories stay open after that, few are in the middle. */
    if (!e)
        fuse_dirbuf_free(fs, h);
    return r->out_len ? 0 : err;
}

int fuse_op_readdir(struct fuse_fs *fs, struct fuse_req *r)
{
    return read_entries(fs, r, false);
}

int fuse_op_readdirplus(struct fuse_fs *fs, struct fuse_req *r)
{
    return read_entries(fs, r, true);
}
