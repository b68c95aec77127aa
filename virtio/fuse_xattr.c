/* Extended attributes: of regular files and directories, in user.* only. The others mean something
 * to the host itself (capabilities, labels, access lists). */
#include "virtio/fuse_impl.h"

#include <string.h>
#include <sys/xattr.h>

static bool ours(const char *name)
{
    return !strncmp(name, "user.", 5) && name[5];
}

static int check_name(const char *name)
{
    if (!*name)
        return -EINVAL;
    if (strlen(name) > 255)
        return -ERANGE;
    return ours(name) ? 0 : -EOPNOTSUPP;
}

static bool may_have(const struct fuse_inode *n)
{
    return S_ISREG(n->type) || S_ISDIR(n->type);
}

int fuse_op_setxattr(struct fuse_fs *fs, struct fuse_req *r)
{
    uint32_t size = r->a.setxattr.size;
    int err = check_name(r->name);

    if (err)
        return err;
    if (size > r->rest_len)
        return size > 65536 ? -E2BIG : -EINVAL;
    if (r->a.setxattr.flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE))
        return -EINVAL;
    if (!may_have(r->node))
        return -EPERM;
    int fd = fuse_reopen(fs, r->node, O_RDONLY, NULL);

    if (fd < 0)
        return fd;
    if (fsetxattr(fd, r->name, r->rest, size, (int)r->a.setxattr.flags))
        err = -errno;
    fuse_fd_close(fd);
    return err;
}

/* The guest asks for the size first, with size 0. */
static int reply_bytes(struct fuse_fs *fs, struct fuse_req *r, ssize_t n)
{
    uint32_t size = r->a.getxattr.size;

    if (n < 0)
        return -errno;
    if (!size) {
        if (r->out_room < sizeof(struct fuse_getxattr_out))
            return -EINVAL;
        *(struct fuse_getxattr_out *)fs->reply = (struct fuse_getxattr_out){.size = (uint32_t)n};
        r->out_len = sizeof(struct fuse_getxattr_out);
        return 0;
    }
    if (n > size || n > r->out_room)
        return -ERANGE;
    r->out_len = (uint32_t)n;
    return 0;
}

int fuse_op_getxattr(struct fuse_fs *fs, struct fuse_req *r)
{
    int err = check_name(r->name);

    if (err)
        return err;
    if (!may_have(r->node))
        return -ENODATA;
    int fd = fuse_reopen(fs, r->node, O_RDONLY, NULL);

    if (fd < 0)
        return fd;
    err = reply_bytes(fs, r, fgetxattr(fd, r->name, fs->reply, sizeof fs->reply));
    fuse_fd_close(fd);
    return err;
}

int fuse_op_listxattr(struct fuse_fs *fs, struct fuse_req *r)
{
    char *list = (char *)fs->reply;
    ssize_t n = 0, kept = 0;

    if (may_have(r->node)) {
        int fd = fuse_reopen(fs, r->node, O_RDONLY, NULL);

        if (fd < 0)
            return fd;
        n = flistxattr(fd, list, sizeof fs->reply);
        int err = n < 0 ? -errno : 0;

        fuse_fd_close(fd);
        if (err)
            return err;
    }
    for (ssize_t at = 0, len; at < n; at += len) {
        len = (ssize_t)strnlen(list + at, (size_t)(n - at)) + 1;
        if (at + len <= n && ours(list + at)) {
            memmove(list + kept, list + at, (size_t)len);
            kept += len;
        }
    }
    return reply_bytes(fs, r, kept);
}

int fuse_op_removexattr(struct fuse_fs *fs, struct fuse_req *r)
{
    int err = check_name(r->name);

    if (err)
        return err;
    if (!may_have(r->node))
        return -EPERM;
    int fd = fuse_reopen(fs, r->node, O_RDONLY, NULL);

    if (fd < 0)
        return fd;
    if (fremovexattr(fd, r->name))
        err = -errno;
    fuse_fd_close(fd);
    return err;
}
