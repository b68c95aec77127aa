/* Names made, moved and removed. */
#include "virtio/fuse_impl.h"

#include <linux/fs.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* name in the directory of the request was just made: give it to the guest's user, and reply. */
static int made(struct fuse_fs *fs, struct fuse_req *r, int dirfd, uint32_t mode)
{
    struct statx st;
    int fd = fuse_openat(fs, dirfd, r->name, O_PATH, 0);

    if (fd < 0)
        return fd;
    int err = fuse_stat_at(fd, "", &st);

    if (!err)
        err = fuse_own(fs, r, dirfd, fd, mode, &st);
    if (!err)
        err = fuse_reply_entry(fs, r, r->node, r->name, &st);
    fuse_fd_close(fd);
    return err;
}

/* Run the rest with the directory's descriptor held. */
static int dir_of(struct fuse_fs *fs, struct fuse_req *r, bool *kept)
{
    int fd = fuse_dir_fd(fs, r->node);

    *kept = r->node->keep;
    if (fd >= 0)
        r->node->keep = true;
    return fd;
}

int fuse_op_mknod(struct fuse_fs *fs, struct fuse_req *r)
{
    uint32_t mode = r->a.mknod.mode;
    bool kept;

    if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode))
        return -EPERM; /* a device node would lead out of the share */
    int dirfd = dir_of(fs, r, &kept);

    if (dirfd < 0)
        return dirfd;
    int err = mknodat(dirfd, r->name, mode & (S_IFMT | 07777), 0) ? -errno : 0;

    if (!err)
        err = made(fs, r, dirfd, mode);
    r->node->keep = kept;
    return err;
}

int fuse_op_mkdir(struct fuse_fs *fs, struct fuse_req *r)
{
    bool kept;
    int dirfd = dir_of(fs, r, &kept);

    if (dirfd < 0)
        return dirfd;
    int err = mkdirat(dirfd, r->name, r->a.mkdir.mode & 07777) ? -errno : 0;

    if (!err)
        err = made(fs, r, dirfd, r->a.mkdir.mode);
    r->node->keep = kept;
    return err;
}

int fuse_op_symlink(struct fuse_fs *fs, struct fuse_req *r)
{
    bool kept;
    int dirfd = dir_of(fs, r, &kept);

    if (dirfd < 0)
        return dirfd;
    int err = symlinkat(r->name2, dirfd, r->name) ? -errno : 0;

    if (!err)
        err = made(fs, r, dirfd, 0777);
    r->node->keep = kept;
    return err;
}

int fuse_op_readlink(struct fuse_fs *fs, struct fuse_req *r)
{
    if (!S_ISLNK(r->node->type))
        return -EINVAL;
    int fd = fuse_path_fd(fs, r->node);

    if (fd < 0)
        return fd;
    uint32_t room = r->out_room < 4096 ? r->out_room : 4096;
    ssize_t n = room ? readlinkat(fd, "", (char *)fs->reply, room) : 0;

    if (n < 0)
        return -errno;
    r->out_len = (uint32_t)n;
    return 0;
}

/* A second name for old: by its first, checked to be still the same file. */
static int link_to(struct fuse_fs *fs, struct fuse_inode *old, int dirfd, const char *name)
{
    struct fuse_inode *dir = old->name ? fuse_node(fs, old->parent) : NULL;
    char number[12];
    struct statx st;

    if (!dir) {
        int fd = fuse_path_fd(fs, old);

        if (fd < 0)
            return fd;
        fuse_decimal(number, (unsigned)fd);
        return linkat(fs->proc_fd, number, dirfd, name, AT_SYMLINK_FOLLOW) ? -errno : 0;
    }
    int fd = fuse_dir_fd(fs, dir);
    int err = fd < 0 ? fd : fuse_stat_at(fd, old->name, &st);

    if (!err && fuse_find(fs, &st) != old)
        err = -ESTALE;
    if (!err && linkat(fd, old->name, dirfd, name, 0))
        err = -errno;
    return err;
}

int fuse_op_link(struct fuse_fs *fs, struct fuse_req *r)
{
    struct fuse_inode *old = fuse_node(fs, r->a.link.oldnodeid);
    struct statx st;
    bool kept;

    if (!old)
        return -ESTALE;
    if (S_ISDIR(old->type))
        return -EPERM;
    int dirfd = dir_of(fs, r, &kept);

    if (dirfd < 0)
        return dirfd;
    int err = link_to(fs, old, dirfd, r->name);

    if (!err)
        err = fuse_stat_at(dirfd, r->name, &st);
    if (!err)
        err = fuse_reply_entry(fs, r, r->node, r->name, &st);
    r->node->keep = kept;
    return err;
}

static int remove_name(struct fuse_fs *fs, struct fuse_req *r, int flags)
{
    bool kept;
    int dirfd = dir_of(fs, r, &kept);

    if (dirfd < 0)
        return dirfd;
    struct fuse_inode *n = fuse_before_removal(fs, r->node, dirfd, r->name);
    int err = unlinkat(dirfd, r->name, flags) ? -errno : 0;

    if (!err && n)
        fuse_removed(fs, n);
    r->node->keep = kept;
    return err;
}

int fuse_op_unlink(struct fuse_fs *fs, struct fuse_req *r)
{
    return remove_name(fs, r, 0);
}

int fuse_op_rmdir(struct fuse_fs *fs, struct fuse_req *r)
{
    return remove_name(fs, r, AT_REMOVEDIR);
}

/* The inode of name in dirfd, if the guest knows it. */
static struct fuse_inode *known(struct fuse_fs *fs, int dirfd, const char *name)
{
    struct statx st;

    return fuse_stat_at(dirfd, name, &st) ? NULL : fuse_find(fs, &st);
}

static int move(struct fuse_fs *fs, struct fuse_req *r, struct fuse_inode *to, int fromfd,
                uint32_t flags)
{
    int tofd = fuse_dir_fd(fs, to);

    if (tofd < 0)
        return tofd;
    bool kept = to->keep, swap = flags & RENAME_EXCHANGE;

    to->keep = true;
    struct fuse_inode *n = known(fs, fromfd, r->name);
    struct fuse_inode *other = swap ? known(fs, tofd, r->name2) : NULL;
    struct fuse_inode *gone = flags ? NULL : fuse_before_removal(fs, to, tofd, r->name2);
    int err = syscall(SYS_renameat2, fromfd, r->name, tofd, r->name2, flags) ? -errno : 0;

    to->keep = kept;
    /* Two names of one file: rename(2) does nothing. */
    if (err || (!swap && n && n == known(fs, fromfd, r->name)))
        return err;
    if (gone && gone != n)
        fuse_removed(fs, gone);
    if (n)
        fuse_moved(fs, n, to, r->name2);
    if (other)
        fuse_moved(fs, other, r->node, r->name);
    return 0;
}

static int rename_names(struct fuse_fs *fs, struct fuse_req *r, uint64_t newdir, uint32_t flags)
{
    struct fuse_inode *to = fuse_node(fs, newdir);
    bool kept;

    if (!to)
        return -ESTALE;
    if (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL; /* RENAME_WHITEOUT makes a device node */
    int fd = dir_of(fs, r, &kept);

    if (fd < 0)
        return fd;
    int err = move(fs, r, to, fd, flags);

    r->node->keep = kept;
    return err;
}

int fuse_op_rename(struct fuse_fs *fs, struct fuse_req *r)
{
    return rename_names(fs, r, r->a.rename.newdir, 0);
}

int fuse_op_rename2(struct fuse_fs *fs, struct fuse_req *r)
{
    return rename_names(fs, r, r->a.rename2.newdir, r->a.rename2.flags);
}
