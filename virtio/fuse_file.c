/* Regular files: open, create, data, allocation. */
#include "virtio/fuse_impl.h"

#include <linux/falloc.h>
#include <time.h>
#include <unistd.h>

#define COPY_MAX (4u << 20) /* a call: the thread has other things to do */

/* What of the guest's flags means something for the file itself. O_DIRECT does not: the guest
 * bypasses its own cache, and its buffers are aligned for its own disks. */
static int host_flags(uint32_t flags)
{
    return (int)(flags & (O_ACCMODE | O_APPEND | O_SYNC | O_DSYNC));
}

static bool wants_write(uint32_t flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
}

static uint64_t ns_of(const struct statx_timestamp *t)
{
    return (uint64_t)t->tv_sec * 1000000000u + t->tv_nsec;
}

/* The guest may keep what it has cached if the file has not changed since it was opened last. A
 * change time younger than the clock's grain (and some) could hide a change that follows. */
static uint32_t keep_cache(struct fuse_inode *n, const struct statx *st)
{
    uint64_t changed = ns_of(&st->stx_ctime);
    struct timespec t;

    if (n->cached == changed)
        return FOPEN_KEEP_CACHE;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;

    n->cached = changed < now && now - changed > 1000000000u ? changed : 0;
    return 0;
}

static int truncate_open(int fd, uint32_t open_flags)
{
    if (ftruncate(fd, 0))
        return -errno;
    if (open_flags & FUSE_OPEN_KILL_SUIDGID)
        fuse_kill_suidgid(fd);
    return 0;
}

static struct fuse_open_out open_out(struct fuse_fs *fs, struct fuse_handle *h, int fd,
                                     uint32_t flags)
{
    h->fd = fd;
    h->append = flags & O_APPEND;
    return (struct fuse_open_out){.fh = fuse_handle_number(fs, h)};
}

int fuse_op_open(struct fuse_fs *fs, struct fuse_req *r)
{
    uint32_t flags = r->a.open.flags;
    struct fuse_handle *h;
    struct statx st;

    if (S_ISDIR(r->node->type))
        return -EISDIR;
    if (fs->ro && wants_write(flags))
        return -EROFS;
    int err = fuse_handle_new(fs, &h);

    if (err)
        return err;
    int fd = fuse_reopen(fs, r->node, host_flags(flags), &st);

    err = fd < 0 ? fd : flags & O_TRUNC ? truncate_open(fd, r->a.open.open_flags) : 0;
    if (err) {
        if (fd >= 0)
            fuse_fd_close(fd);
        fuse_handle_free(fs, h);
        return err;
    }
    struct fuse_open_out *out = (struct fuse_open_out *)fs->reply;

    *out = open_out(fs, h, fd, flags);
    if (!(flags & O_TRUNC))
        out->open_flags = keep_cache(r->node, &st);
    r->out_len = sizeof *out;
    return 0;
}

/* Name may exist already, unless the guest wants it new. */
static int create_or_open(struct fuse_fs *fs, struct fuse_req *r, int dirfd, struct statx *st)
{
    uint32_t flags = r->a.create.flags;
    int fd = fuse_openat(fs, dirfd, r->name, host_flags(flags) | O_CREAT | O_EXCL,
                         r->a.create.mode & 07777);
    int err;

    if (fd >= 0) {
        err = fuse_stat_at(fd, "", st);
        if (!err)
            err = fuse_own(fs, r, dirfd, fd, r->a.create.mode, st);
    } else if (fd == -EEXIST && !(flags & O_EXCL)) {
        err = fuse_stat_at(dirfd, r->name, st);
        if (err)
            return err;
        if (!S_ISREG(st->stx_mode))
            return S_ISDIR(st->stx_mode) ? -EISDIR : S_ISLNK(st->stx_mode) ? -ELOOP : -ENXIO;
        fd = fuse_openat(fs, dirfd, r->name, host_flags(flags), 0);
        if (fd < 0)
            return fd;
        if (flags & O_TRUNC)
            err = truncate_open(fd, r->a.create.open_flags);
        if (!err)
            err = fuse_stat_at(fd, "", st);
        if (!err && !S_ISREG(st->stx_mode))
            err = -ENXIO;
    } else {
        return fd;
    }
    if (err)
        fuse_fd_close(fd);
    return err ? err : fd;
}

int fuse_op_create(struct fuse_fs *fs, struct fuse_req *r)
{
    struct fuse_entry_out *entry = (struct fuse_entry_out *)fs->reply;
    struct fuse_handle *h;
    struct statx st;
    int dirfd = fuse_dir_fd(fs, r->node);

    if (dirfd < 0)
        return dirfd;
    int err = fuse_handle_new(fs, &h);

    if (err)
        return err;
    bool kept = r->node->keep;

    r->node->keep = true;
    int fd = create_or_open(fs, r, dirfd, &st);

    r->node->keep = kept;
    err = fd < 0 ? fd : fuse_reply_entry(fs, r, r->node, r->name, &st);
    if (err) {
        if (fd >= 0)
            fuse_fd_close(fd);
        fuse_handle_free(fs, h);
        return err;
    }
    *(struct fuse_open_out *)(entry + 1) = open_out(fs, h, fd, r->a.create.flags);
    r->out_len += (uint32_t)sizeof(struct fuse_open_out);
    return 0;
}

int fuse_op_release(struct fuse_fs *fs, struct fuse_req *r)
{
    struct fuse_handle *h = fuse_handle_get(fs, r->a.release.fh, false);

    if (!h)
        return -EBADF;
    fuse_handle_free(fs, h);
    return 0;
}

/* --- data --- */

static int start(struct fuse_req *r, struct fuse_handle *h, enum fuse_io_kind kind)
{
    h->busy++;
    *r->io = (struct fuse_io){
        .kind = kind, .fd = h->fd, .file = &h->file, .handle = h, .unique = r->h.unique};
    return FUSE_OP_IO;
}

int fuse_op_read(struct fuse_fs *fs, struct fuse_req *r)
{
    const struct fuse_read_in *a = &r->a.read;
    struct fuse_handle *h = fuse_handle_get(fs, a->fh, false);
    uint32_t len = a->size < r->out_room ? a->size : r->out_room;

    if (!h)
        return -EBADF;
    if (a->offset > (uint64_t)INT64_MAX - len)
        return -EINVAL;
    if (!len)
        return 0;
    start(r, h, FUSE_IO_READ);
    r->io->off = a->offset;
    r->io->len = len;
    r->io->skip = sizeof(struct fuse_out_header);
    return FUSE_OP_IO;
}

int fuse_op_write(struct fuse_fs *fs, struct fuse_req *r)
{
    const struct fuse_write_in *a = &r->a.write;
    struct fuse_handle *h = fuse_handle_get(fs, a->fh, false);

    if (!h)
        return -EBADF;
    if (a->size > r->h.len - r->args_end || a->offset > (uint64_t)INT64_MAX - a->size)
        return -EINVAL;
    /* fcntl(F_SETFL) in the guest changes this with nothing else said about it. */
    if (h->append != !!(a->flags & O_APPEND) && !(a->write_flags & FUSE_WRITE_CACHE)) {
        int flags = fcntl(h->fd, F_GETFL);

        h->append = a->flags & O_APPEND;
        if (flags < 0 || fcntl(h->fd, F_SETFL, (flags & ~O_APPEND) | (h->append ? O_APPEND : 0)))
            return -errno;
    }
    if (a->write_flags & FUSE_WRITE_KILL_SUIDGID)
        fuse_kill_suidgid(h->fd);
    start(r, h, FUSE_IO_WRITE);
    r->io->off = a->offset;
    r->io->len = a->size;
    r->io->skip = r->args_end;
    return FUSE_OP_IO;
}

int fuse_op_fsync(struct fuse_fs *fs, struct fuse_req *r)
{
    struct fuse_handle *h = fuse_handle_get(fs, r->a.fsync.fh, r->h.opcode == FUSE_FSYNCDIR);
    bool data = r->a.fsync.fsync_flags & FUSE_FSYNC_FDATASYNC;

    return h ? start(r, h, data ? FUSE_IO_DATASYNC : FUSE_IO_SYNC) : -EBADF;
}

/* --- the rest --- */

int fuse_op_fallocate(struct fuse_fs *fs, struct fuse_req *r)
{
    const struct fuse_fallocate_in *a = &r->a.fallocate;
    struct fuse_handle *h = fuse_handle_get(fs, a->fh, false);

    if (!h)
        return -EBADF;
    if (a->mode & ~(uint32_t)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
        return -EOPNOTSUPP;
    return fallocate(h->fd, (int)a->mode, (off_t)a->offset, (off_t)a->length) ? -errno : 0;
}

int fuse_op_lseek(struct fuse_fs *fs, struct fuse_req *r)
{
    const struct fuse_lseek_in *a = &r->a.lseek;
    struct fuse_handle *h = fuse_handle_get(fs, a->fh, false);

    if (!h)
        return -EBADF;
    if (a->whence != SEEK_DATA && a->whence != SEEK_HOLE)
        return -EINVAL;
    off_t at = lseek(h->fd, (off_t)a->offset, (int)a->whence);

    if (at < 0)
        return -errno;
    *(struct fuse_lseek_out *)fs->reply = (struct fuse_lseek_out){.offset = (uint64_t)at};
    r->out_len = sizeof(struct fuse_lseek_out);
    return 0;
}

int fuse_op_copy(struct fuse_fs *fs, struct fuse_req *r)
{
    const struct fuse_copy_file_range_in *a = &r->a.copy;
    struct fuse_handle *from = fuse_handle_get(fs, a->fh_in, false);
    struct fuse_handle *to = fuse_handle_get(fs, a->fh_out, false);
    off_t in = (off_t)a->off_in, out = (off_t)a->off_out;

    if (!from || !to)
        return -EBADF;
    if (a->flags)
        return -EINVAL;
    fuse_kill_suidgid(to->fd);
    ssize_t n = copy_file_range(from->fd, &in, to->fd, &out,
                                a->len < COPY_MAX ? (size_t)a->len : COPY_MAX, 0);

    if (n < 0)
        return -errno;
    *(struct fuse_write_out *)fs->reply = (struct fuse_write_out){.size = (uint32_t)n};
    r->out_len = sizeof(struct fuse_write_out);
    return 0;
}
