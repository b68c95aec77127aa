/* Lookup and forget; attributes read and set. */
#include "virtio/fuse_impl.h"

#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>
#include "virtio/virtq.h"

#define VALID_SECONDS 1

/* --- attributes in the protocol's form --- */

void fuse_fill_attr(const struct fuse_fs *fs, const struct statx *st, struct fuse_attr *a)
{
    uint64_t dev = (uint64_t)st->stx_dev_major << 32 | st->stx_dev_minor;

    *a = (struct fuse_attr){
        /* Other file systems may be mounted below; their numbers must not look like ours. */
        .ino = dev == fs->root_dev ? st->stx_ino : st->stx_ino ^ (dev * 0x9e3779b97f4a7c15u) << 40,
        .size = st->stx_size,
        .blocks = st->stx_blocks,
        .atime = (uint64_t)st->stx_atime.tv_sec,
        .mtime = (uint64_t)st->stx_mtime.tv_sec,
        .ctime = (uint64_t)st->stx_ctime.tv_sec,
        .atimensec = st->stx_atime.tv_nsec,
        .mtimensec = st->stx_mtime.tv_nsec,
        .ctimensec = st->stx_ctime.tv_nsec,
        .mode = st->stx_mode,
        .nlink = st->stx_nlink,
        .uid = st->stx_uid,
        .gid = st->stx_gid,
        .rdev = (st->stx_rdev_minor & 0xff) | st->stx_rdev_major << 8 |
                (st->stx_rdev_minor & ~0xffu) << 12,
        .blksize = st->stx_blksize,
    };
}

void fuse_fill_entry(const struct fuse_fs *fs, const struct fuse_inode *n, const struct statx *st,
                     struct fuse_entry_out *out)
{
    *out = (struct fuse_entry_out){
        .nodeid = fuse_nodeid(fs, n),
        .entry_valid = VALID_SECONDS,
        .attr_valid = VALID_SECONDS,
    };
    fuse_fill_attr(fs, st, &out->attr);
}

int fuse_reply_entry(struct fuse_fs *fs, struct fuse_req *r, struct fuse_inode *dir,
                     const char *name, const struct statx *st)
{
    struct fuse_inode *n = fuse_enter(fs, dir, name, st);

    if (!n)
        return -ENOMEM;
    fuse_fill_entry(fs, n, st, (struct fuse_entry_out *)fs->reply);
    r->out_len = sizeof(struct fuse_entry_out);
    return 0;
}

static int reply_attr(struct fuse_fs *fs, struct fuse_req *r, const struct statx *st)
{
    struct fuse_attr_out *out = (struct fuse_attr_out *)fs->reply;

    *out = (struct fuse_attr_out){.attr_valid = VALID_SECONDS};
    fuse_fill_attr(fs, st, &out->attr);
    r->out_len = sizeof *out;
    return 0;
}

/* --- lookup, forget --- */

int fuse_op_lookup(struct fuse_fs *fs, struct fuse_req *r)
{
    int fd = fuse_dir_fd(fs, r->node);
    struct statx st;

    if (fd < 0)
        return fd;
    int err = fuse_stat_at(fd, r->name, &st);

    if (!err)
        return fuse_reply_entry(fs, r, r->node, r->name, &st);
    if (err != -ENOENT)
        return err;
    /* In a directory that was removed there is nothing; by its path there may be another by now. */
    if (r->node != fs->inode && !fuse_stat_at(fd, "", &st) && !st.stx_nlink)
        return -ESTALE;
    /* Node 0: there is none, and the guest need not ask again before it makes one. */
    *(struct fuse_entry_out *)fs->reply = (struct fuse_entry_out){.entry_valid = VALID_SECONDS};
    r->out_len = sizeof(struct fuse_entry_out);
    return 0;
}

int fuse_op_forget(struct fuse_fs *fs, struct fuse_req *r)
{
    struct fuse_inode *n = fuse_node(fs, r->h.nodeid);

    if (n)
        fuse_forget(fs, n, r->a.forget.nlookup);
    return FUSE_OP_SILENT;
}

int fuse_op_batch_forget(struct fuse_fs *fs, struct fuse_req *r)
{
    uint32_t fit = (r->h.len - r->args_end) / (uint32_t)sizeof(struct fuse_forget_one);
    uint32_t left = r->a.batch.count < fit ? r->a.batch.count : fit;
    struct fuse_forget_one *one = (struct fuse_forget_one *)fs->reply;
    size_t at = r->args_end;

    while (left) {
        uint32_t n = left < 1024 ? left : 1024;
        size_t got = virtq_gather(one, n * sizeof *one, r->b->in, r->b->nin, at);

        if (got < n * sizeof *one)
            break;
        for (uint32_t i = 0; i < n; i++) {
            struct fuse_inode *node = fuse_node(fs, one[i].nodeid);

            if (node)
                fuse_forget(fs, node, one[i].nlookup);
        }
        at += got;
        left -= n;
    }
    return FUSE_OP_SILENT;
}

/* --- attributes --- */

int fuse_op_getattr(struct fuse_fs *fs, struct fuse_req *r)
{
    struct fuse_handle *h = NULL;
    struct statx st;

    if (r->a.getattr.getattr_flags & FUSE_GETATTR_FH)
        h = fuse_handle_get(fs, r->a.getattr.fh, S_ISDIR(r->node->type));
    int err = h ? fuse_stat_at(h->fd, "", &st) : fuse_stat(fs, r->node, &st);

    return err ? err : reply_attr(fs, r, &st);
}

int fuse_chmod(struct fuse_fs *fs, int fd, uint32_t mode)
{
    char number[12];

    if (fs->proc_fd < 0)
        return -EOPNOTSUPP;
    fuse_decimal(number, (unsigned)fd);
    return fchmodat(fs->proc_fd, number, mode & 07777, 0) ? -errno : 0;
}

void fuse_kill_suidgid(int fd)
{
    struct statx st;

    if (fuse_stat_at(fd, "", &st) || !S_ISREG(st.stx_mode))
        return;
    uint32_t mode = st.stx_mode & 07777u & ~(uint32_t)S_ISUID;

    if (mode & S_IXGRP) /* without it, set-group-ID means mandatory locking */
        mode &= ~(uint32_t)S_ISGID;
    if (mode != (st.stx_mode & 07777))
        (void)fchmod(fd, mode);
}

int fuse_own(struct fuse_fs *fs, const struct fuse_req *r, int dirfd, int fd, uint32_t mode,
             struct statx *st)
{
    uint32_t want = mode & 07777;
    struct statx dir;

    if (fs->as_root && (st->stx_uid != r->h.uid || st->stx_gid != r->h.gid)) {
        uid_t uid = r->h.uid;
        gid_t gid = r->h.gid;

        if (!fuse_stat_at(dirfd, "", &dir) && dir.stx_mode & S_ISGID)
            gid = (gid_t)-1;
        /* Where that is not permitted (user namespaces) the file is mayfly's own. */
        (void)fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
    }
    if (S_ISDIR(st->stx_mode))
        want |= st->stx_mode & S_ISGID; /* inherited */
    /* mayfly's own umask, or a change of owner, may have taken bits. */
    if (!S_ISLNK(st->stx_mode) && (want & 07000 || (st->stx_mode & 07777) != want))
        (void)fuse_chmod(fs, fd, want);
    return fuse_stat_at(fd, "", st);
}

static struct timespec time_of(uint32_t valid, uint32_t now, uint64_t sec, uint32_t nsec)
{
    struct timespec t = {.tv_nsec = UTIME_OMIT};

    if (valid & now)
        t.tv_nsec = UTIME_NOW;
    else if (valid)
        t = (struct timespec){.tv_sec = (time_t)sec, .tv_nsec = (long)nsec};
    return t;
}

static int set_times(struct fuse_fs *fs, const struct fuse_setattr_in *a, int fd, uint32_t type)
{
    const struct timespec t[2] = {
        time_of(a->valid & (FATTR_ATIME | FATTR_ATIME_NOW), FATTR_ATIME_NOW, a->atime,
                a->atimensec),
        time_of(a->valid & (FATTR_MTIME | FATTR_MTIME_NOW), FATTR_MTIME_NOW, a->mtime,
                a->mtimensec),
    };
    char number[12];

    if (!utimensat(fd, "", t, AT_EMPTY_PATH))
        return 0;
    /* Before Linux 5.8 it knew no empty path. */
    if (errno != EINVAL || S_ISLNK(type) || fs->proc_fd < 0)
        return -errno;
    fuse_decimal(number, (unsigned)fd);
    return utimensat(fs->proc_fd, number, t, 0) ? -errno : 0;
}

static int set_size(struct fuse_fs *fs, struct fuse_req *r, const struct fuse_handle *h)
{
    const struct fuse_setattr_in *a = &r->a.setattr;

    if (S_ISDIR(r->node->type))
        return -EISDIR;
    if (a->size > INT64_MAX)
        return -EFBIG;
    int fd = h ? h->fd : fuse_reopen(fs, r->node, O_WRONLY, NULL);

    if (fd < 0)
        return fd;
    int err = ftruncate(fd, (off_t)a->size) ? -errno : 0;

    if (!err && a->valid & FATTR_KILL_SUIDGID)
        fuse_kill_suidgid(fd);
    if (!h)
        fuse_fd_close(fd);
    return err;
}

int fuse_op_setattr(struct fuse_fs *fs, struct fuse_req *r)
{
    const struct fuse_setattr_in *a = &r->a.setattr;
    struct fuse_inode *n = r->node;
    struct fuse_handle *h = NULL;
    struct statx st;
    int err = 0;

    if (a->valid & FATTR_FH)
        h = fuse_handle_get(fs, a->fh, S_ISDIR(n->type));
    int fd = h ? h->fd : fuse_path_fd(fs, n);

    if (fd < 0)
        return fd;
    bool kept = n->keep;

    n->keep = true;
    if (a->valid & (FATTR_UID | FATTR_GID))
        err =
            fchownat(fd, "", a->valid & FATTR_UID ? a->uid : (uid_t)-1,
                     a->valid & FATTR_GID ? a->gid : (gid_t)-1, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)
                ? -errno
                : 0;
    if (!err && a->valid & FATTR_MODE) /* after the owner: a change of that takes bits away */
        err = S_ISLNK(n->type) ? -EOPNOTSUPP : fuse_chmod(fs, fd, a->mode);
    if (!err && a->valid & FATTR_SIZE)
        err = set_size(fs, r, h);
    if (!err && a->valid & (FATTR_ATIME | FATTR_ATIME_NOW | FATTR_MTIME | FATTR_MTIME_NOW))
        err = set_times(fs, a, fd, n->type);
    if (!err)
        err = fuse_stat_at(fd, "", &st);
    n->keep = kept;
    return err ? err : reply_attr(fs, r, &st);
}

/* A guest that has default_permissions never asks. */
int fuse_op_access(struct fuse_fs *fs, struct fuse_req *r)
{
    uint32_t mask = r->a.access.mask & 7;
    struct statx st;
    int err = fuse_stat(fs, r->node, &st);

    if (err || !mask)
        return err;
    if (mask & W_OK && fs->ro)
        return -EROFS;
    uint32_t mode = st.stx_mode;

    if (!r->h.uid)
        mode = S_ISDIR(mode) || mode & 0111 ? 7 : 6;
    else if (r->h.uid == st.stx_uid)
        mode >>= 6;
    else if (r->h.gid == st.stx_gid)
        mode >>= 3;
    return mask & ~mode ? -EACCES : 0;
}

int fuse_op_statfs(struct fuse_fs *fs, struct fuse_req *r)
{
    struct fuse_statfs_out *out = (struct fuse_statfs_out *)fs->reply;
    struct statfs s;

    if (fstatfs(fs->root_fd, &s))
        return -errno;
    *out = (struct fuse_statfs_out){.st = {
                                        .blocks = s.f_blocks,
                                        .bfree = s.f_bfree,
                                        .bavail = s.f_bavail,
                                        .files = s.f_files,
                                        .ffree = s.f_ffree,
                                        .bsize = (uint32_t)s.f_bsize,
                                        .namelen = 255,
                                        .frsize = (uint32_t)s.f_frsize,
                                    }};
    r->out_len = sizeof *out;
    return 0;
}
