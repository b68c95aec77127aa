/*
 * The session: from bytes to an operation and back. Each request is copied out once (header, fixed
 * arguments, names) and judged as the copy; only file data stays where it is.
 */
#include "virtio/fuse_impl.h"

#include <linux/fs.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <linux/openat2.h>
#include <unistd.h>
#include "virtio/virtq.h"

#define OVERLAYFS_MAGIC 0x794c7630
#define MINOR_LEAST     31u /* 7.31: the first of virtio-fs */

/* What is asked for, where the guest has it too. Not the write-back cache: a write is in the host's
 * file when it returns. Locks are the guest kernel's own. */
#define WANTED                                                                                  \
    ((uint32_t)FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA | \
     FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS |      \
     FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_HANDLE_KILLPRIV_V2)

/* --- operations of the session itself --- */

static int op_init(struct fuse_fs *fs, struct fuse_req *r)
{
    const struct fuse_init_in *in = &r->a.init;
    struct fuse_init_out *out = (struct fuse_init_out *)fs->reply;

    *out = (struct fuse_init_out){.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION};
    r->out_len = sizeof *out;
    if (in->major > FUSE_KERNEL_VERSION) /* it comes again with ours */
        return 0;
    if (in->major < FUSE_KERNEL_VERSION || in->minor < MINOR_LEAST)
        return -EPROTO;
    fuse_reset(fs); /* a mount begins: nothing of an earlier one */
    fs->started = true;
    out->max_readahead = in->max_readahead < FUSE_WRITE_MAX ? in->max_readahead : FUSE_WRITE_MAX;
    out->flags = in->flags & WANTED;
    out->max_background = 64;
    out->congestion_threshold = 48;
    out->max_write = FUSE_WRITE_MAX;
    out->max_pages = FUSE_WRITE_MAX / 4096;
    out->time_gran = 1;
    return 0;
}

static int op_destroy(struct fuse_fs *fs, struct fuse_req *r)
{
    (void)r;
    fuse_reset(fs);
    return 0;
}

static int op_silent(struct fuse_fs *fs, struct fuse_req *r)
{
    (void)fs;
    (void)r;
    return FUSE_OP_SILENT;
}

static int op_ioctl(struct fuse_fs *fs, struct fuse_req *r)
{
    (void)fs;
    (void)r;
    return -ENOTTY;
}

/* --- the table --- */

enum {
    NODE = 1,   /* h.nodeid names an inode that it works on */
    MODIFY = 2, /* not on a read-only share */
    EARLY = 4,  /* also before FUSE_INIT */
    SILENT = 8, /* no reply, whatever happens */
    RAW = 16,   /* its first name is no file's */
};

static const struct row {
    fuse_op *op;
    uint16_t in;   /* bytes of fixed arguments */
    uint16_t room; /* bytes that its reply needs */
    uint8_t names; /* that follow the arguments */
    uint8_t flags;
} rows[] = {
#define ENTRY sizeof(struct fuse_entry_out)
#define ATTR  sizeof(struct fuse_attr_out)
#define OPEN  sizeof(struct fuse_open_out)
    [FUSE_INIT] = {op_init, 16, sizeof(struct fuse_init_out), 0, EARLY},
    [FUSE_DESTROY] = {op_destroy, 0, 0, 0, EARLY},
    [FUSE_INTERRUPT] = {op_silent, 0, 0, 0, SILENT | EARLY},
    [FUSE_IOCTL] = {op_ioctl, 0, 0, 0, 0},
    [FUSE_LOOKUP] = {fuse_op_lookup, 0, ENTRY, 1, NODE},
    [FUSE_FORGET] = {fuse_op_forget, sizeof(struct fuse_forget_in), 0, 0, SILENT},
    [FUSE_BATCH_FORGET] = {fuse_op_batch_forget, sizeof(struct fuse_batch_forget_in), 0, 0, SILENT},
    [FUSE_GETATTR] = {fuse_op_getattr, sizeof(struct fuse_getattr_in), ATTR, 0, NODE},
    [FUSE_SETATTR] = {fuse_op_setattr, sizeof(struct fuse_setattr_in), ATTR, 0, NODE | MODIFY},
    [FUSE_ACCESS] = {fuse_op_access, sizeof(struct fuse_access_in), 0, 0, NODE},
    [FUSE_STATFS] = {fuse_op_statfs, 0, sizeof(struct fuse_statfs_out), 0, 0},
    [FUSE_READLINK] = {fuse_op_readlink, 0, 0, 0, NODE},
    [FUSE_SYMLINK] = {fuse_op_symlink, 0, ENTRY, 2, NODE | MODIFY},
    [FUSE_MKNOD] = {fuse_op_mknod, sizeof(struct fuse_mknod_in), ENTRY, 1, NODE | MODIFY},
    [FUSE_MKDIR] = {fuse_op_mkdir, sizeof(struct fuse_mkdir_in), ENTRY, 1, NODE | MODIFY},
    [FUSE_UNLINK] = {fuse_op_unlink, 0, 0, 1, NODE | MODIFY},
    [FUSE_RMDIR] = {fuse_op_rmdir, 0, 0, 1, NODE | MODIFY},
    [FUSE_RENAME] = {fuse_op_rename, sizeof(struct fuse_rename_in), 0, 2, NODE | MODIFY},
    [FUSE_RENAME2] = {fuse_op_rename2, sizeof(struct fuse_rename2_in), 0, 2, NODE | MODIFY},
    [FUSE_LINK] = {fuse_op_link, sizeof(struct fuse_link_in), ENTRY, 1, NODE | MODIFY},
    [FUSE_OPEN] = {fuse_op_open, sizeof(struct fuse_open_in), OPEN, 0, NODE},
    [FUSE_CREATE] = {fuse_op_create, sizeof(struct fuse_create_in), ENTRY + OPEN, 1, NODE | MODIFY},
    [FUSE_READ] = {fuse_op_read, sizeof(struct fuse_read_in), 0, 0, 0},
    [FUSE_WRITE] = {fuse_op_write, sizeof(struct fuse_write_in), sizeof(struct fuse_write_out), 0,
                    MODIFY},
    [FUSE_RELEASE] = {fuse_op_release, sizeof(struct fuse_release_in), 0, 0, 0},
    [FUSE_FSYNC] = {fuse_op_fsync, sizeof(struct fuse_fsync_in), 0, 0, 0},
    /* FUSE_FLUSH has no row: once refused, the guest closes files without asking. Nothing is held
     * back that could be flushed. */
    [FUSE_FALLOCATE] = {fuse_op_fallocate, sizeof(struct fuse_fallocate_in), 0, 0, MODIFY},
    [FUSE_LSEEK] = {fuse_op_lseek, sizeof(struct fuse_lseek_in), sizeof(struct fuse_lseek_out), 0,
                    0},
    [FUSE_COPY_FILE_RANGE] = {fuse_op_copy, sizeof(struct fuse_copy_file_range_in),
                              sizeof(struct fuse_write_out), 0, MODIFY},
    [FUSE_OPENDIR] = {fuse_op_opendir, sizeof(struct fuse_open_in), OPEN, 0, NODE},
    [FUSE_READDIR] = {fuse_op_readdir, sizeof(struct fuse_read_in), 0, 0, NODE},
    [FUSE_READDIRPLUS] = {fuse_op_readdirplus, sizeof(struct fuse_read_in), 0, 0, NODE},
    [FUSE_RELEASEDIR] = {fuse_op_releasedir, sizeof(struct fuse_release_in), 0, 0, 0},
    [FUSE_FSYNCDIR] = {fuse_op_fsyncdir, sizeof(struct fuse_fsync_in), 0, 0, 0},
    /* FUSE_SETXATTR_EXT is not taken up: the short form. */
    [FUSE_SETXATTR] = {fuse_op_setxattr, FUSE_COMPAT_SETXATTR_IN_SIZE, 0, 1, NODE | MODIFY | RAW},
    [FUSE_GETXATTR] = {fuse_op_getxattr, sizeof(struct fuse_getxattr_in), 0, 1, NODE | RAW},
    [FUSE_LISTXATTR] = {fuse_op_listxattr, sizeof(struct fuse_getxattr_in), 0, 0, NODE},
    [FUSE_REMOVEXATTR] = {fuse_op_removexattr, 0, 0, 1, NODE | MODIFY | RAW},
#undef ENTRY
#undef ATTR
#undef OPEN
};

#define HEADER ((uint32_t)sizeof(struct fuse_out_header))

static size_t total(const struct iovec *iov, unsigned n)
{
    size_t len = 0;

    for (unsigned i = 0; i < n; i++)
        len += iov[i].iov_len;
    return len;
}

/* The names after the arguments, into fs->text. The second one of a symbolic link is its target. */
static int take_names(struct fuse_fs *fs, struct fuse_req *r, const struct row *row)
{
    uint32_t len = r->h.len - r->args_end;

    if (len > FUSE_TEXT_MAX)
        len = FUSE_TEXT_MAX;
    if (virtq_gather(fs->text, len, r->b->in, r->b->nin, r->args_end) != len)
        return -EINVAL;
    const char *at = fs->text, *end = at + len;

    for (unsigned i = 0; i < row->names; i++) {
        const char *nul = memchr(at, 0, (size_t)(end - at));

        if (!nul)
            return -EINVAL;
        *(i ? &r->name2 : &r->name) = at;
        at = nul + 1;
    }
    r->rest = at;
    r->rest_len = (uint32_t)(end - at);
    if (row->flags & RAW)
        return 0;
    int err = fuse_name(r->name);

    if (err || row->names < 2)
        return err;
    if (r->h.opcode != FUSE_SYMLINK)
        return fuse_name(r->name2);
    size_t target = strlen(r->name2);

    return !target ? -ENOENT : target > 4095 ? -ENAMETOOLONG : 0;
}

static int serve(struct fuse_fs *fs, struct fuse_req *r, size_t in_len, size_t out_len)
{
    const struct row *row = r->h.opcode < sizeof rows / sizeof rows[0] ? &rows[r->h.opcode] : NULL;

    if (!row || !row->op)
        return -ENOSYS;
    if (r->h.len > in_len || r->h.len < sizeof r->h + row->in)
        return -EINVAL;
    r->out_room = out_len > HEADER ? (uint32_t)(out_len - HEADER) : 0;
    if (r->out_room < row->room)
        return -EINVAL;
    if (!fs->started && !(row->flags & EARLY))
        return -EIO;
    if (fs->ro && row->flags & MODIFY)
        return -EROFS;
    r->args_end = (uint32_t)sizeof r->h + row->in;
    virtq_gather(&r->a, row->in, r->b->in, r->b->nin, sizeof r->h);
    if (row->flags & NODE) {
        r->node = fuse_node(fs, r->h.nodeid);
        if (!r->node)
            return -ESTALE;
    }
    int err = row->names ? take_names(fs, r, row) : 0;

    return err ? err : row->op(fs, r);
}

static int64_t reply(const struct fuse_buf *b, uint64_t unique, int err, const void *body,
                     uint32_t len)
{
    struct fuse_out_header h = {.len = HEADER + (err ? 0 : len), .error = err, .unique = unique};

    virtq_scatter(b->out, b->nout, 0, &h, sizeof h);
    if (!err && body)
        virtq_scatter(b->out, b->nout, HEADER, body, len);
    return h.len;
}

int64_t fuse_request(struct fuse_fs *fs, const struct fuse_buf *b, struct fuse_io *io)
{
    size_t in_len = total(b->in, b->nin), out_len = total(b->out, b->nout);
    struct fuse_req r = {.b = b, .io = io};

    if (virtq_gather(&r.h, sizeof r.h, b->in, b->nin, 0) != sizeof r.h)
        return 0; /* not even whose it is can be told */
    bool silent = r.h.opcode < sizeof rows / sizeof rows[0] && rows[r.h.opcode].flags & SILENT;

    if (!silent && out_len < HEADER)
        return 0;
    if (in_len > UINT32_MAX || out_len > UINT32_MAX)
        return reply(b, r.h.unique, -EINVAL, NULL, 0);
    int err = serve(fs, &r, in_len, out_len);

    if (err == FUSE_OP_IO)
        return FUSE_LATER;
    if (silent)
        return 0;
    return reply(b, r.h.unique, err, fs->reply, r.out_len);
}

/* --- data --- */

void fuse_io_drop(struct fuse_fs *fs, const struct fuse_io *io)
{
    fuse_handle_idle(fs, io->handle);
}

int64_t fuse_io_done(struct fuse_fs *fs, const struct fuse_buf *b, const struct fuse_io *io,
                     int64_t res)
{
    struct fuse_write_out out = {.size = (uint32_t)res};

    fuse_handle_idle(fs, io->handle);
    if (res < 0)
        return reply(b, io->unique, res < -4095 ? -EIO : (int)res, NULL, 0);
    switch (io->kind) {
    case FUSE_IO_READ: /* it is in its place */
        return reply(b, io->unique, 0, NULL, res < io->len ? (uint32_t)res : io->len);
    case FUSE_IO_WRITE:
        return reply(b, io->unique, 0, &out, sizeof out);
    default:
        return reply(b, io->unique, 0, NULL, 0);
    }
}

static int64_t read_now(const struct fuse_io *io, const struct iovec *iov, unsigned n, int flags)
{
    struct statx st;
    long got =
        syscall(SYS_preadv2, io->fd, iov, (unsigned long)n, (unsigned long)io->off, 0ul, flags);

    if (got < 0)
        return errno == EOPNOTSUPP && flags ? -EAGAIN : -errno;
    /* Less than asked for: the end of the file, or of what is in the host's cache? */
    if (flags && (uint64_t)got < io->len &&
        (fuse_stat_at(io->fd, "", &st) || io->off + (uint64_t)got < st.stx_size))
        return -EAGAIN;
    return got;
}

int64_t fuse_io_run(const struct fuse_io *io, const struct iovec *iov, unsigned n,
                    bool only_if_ready)
{
    ssize_t got;

    switch (io->kind) {
    case FUSE_IO_READ:
        return read_now(io, iov, n, only_if_ready ? RWF_NOWAIT : 0);
    case FUSE_IO_WRITE:
        got = pwritev(io->fd, iov, (int)n, (off_t)io->off);
        break;
    case FUSE_IO_DATASYNC:
        got = fdatasync(io->fd);
        break;
    default:
        got = fsync(io->fd);
    }
    return got < 0 ? -errno : got;
}

/* --- life --- */

void fuse_reset(struct fuse_fs *fs)
{
    for (uint32_t i = 0; i < fs->handles_high; i++)
        if (fs->handle[i].used)
            fuse_handle_free(fs, &fs->handle[i]);
    fuse_forget_all(fs);
    fs->started = false;
}

int fuse_create(struct fuse_fs **out, int dir, bool read_only)
{
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
    struct fuse_fs *fs = calloc(1, sizeof *fs);
    struct statfs s;

    *out = fs;
    if (!fs) {
        close(dir);
        return -ENOMEM;
    }
    fs->root_fd = dir;
    fs->ro = read_only;
    fs->as_root = geteuid() == 0;
    fs->inode_fds_max = 4096;
    fs->proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = (int)syscall(SYS_openat2, dir, ".", &how, sizeof how);

    fs->no_openat2 = fd < 0 && (errno == ENOSYS || errno == EPERM);
    if (fd >= 0)
        close(fd);
    /* There, a file that is written to for the first time is copied, and younger from then on. */
    fs->no_btime = fstatfs(dir, &s) || s.f_type == OVERLAYFS_MAGIC;
    /* A write beyond RLIMIT_FSIZE is to be an error of the guest's file, not mayfly's end. */
    signal(SIGXFSZ, SIG_IGN);
    fuse_fds_short();
    int err = fuse_tables(fs);

    if (err)
        fuse_destroy(fs);
    return err;
}

void fuse_destroy(struct fuse_fs *fs)
{
    if (fs->inode) {
        fuse_reset(fs);
        fuse_tables_free(fs);
    }
    if (fs->proc_fd >= 0)
        close(fs->proc_fd);
    close(fs->root_fd);
    free(fs);
}

void fuse_on_close(struct fuse_fs *fs, void (*closing)(void *opaque, int file), void *opaque)
{
    fs->closing = closing;
    fs->opaque = opaque;
}

struct fuse_counts fuse_count(const struct fuse_fs *fs)
{
    struct fuse_counts c = fs->count;

    c.inode_fds = fs->inode_fds;
    return c;
}

void fuse_limit_fds(struct fuse_fs *fs, unsigned max)
{
    fs->inode_fds_max = max;
}
