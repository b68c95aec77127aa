/* The calls that name files, but for opening them. */
#include <asm/fcntl.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/hostfs.h"
#include "guests/runtime/path.h"
#include "guests/runtime/process.h"

int64_t sys_mkdirat(uint64_t dirfd, uint64_t at, uint64_t mode)
{
    char *path;
    struct place p;
    struct inode *i;
    int64_t err = path_take(dirfd, at, PATH_UNASKED, &path, &p);

    if (err)
        return err;
    err = path_create(&p, S_IFDIR | ((uint32_t)mode & ~umask_now & 07777), &i);
    path_free(path);
    return err;
}

int64_t sys_mkdir(uint64_t at, uint64_t mode)
{
    return sys_mkdirat((uint64_t)AT_FDCWD, at, mode);
}

int64_t sys_symlinkat(uint64_t target, uint64_t dirfd, uint64_t at)
{
    char *path, *text = path_buffer();
    struct place p;
    struct inode *i;
    int64_t n = text ? str_in(text, target, PATH_LIMIT) : -ENOMEM, err;

    if (n <= 0 || (err = path_take(dirfd, at, PATH_UNASKED, &path, &p))) {
        path_free(text);
        return n < 0 ? n : n ? err : -ENOENT;
    }
    if (p.dir->node && p.name && !p.inode)
        err = hostfs_symlink(p.dir, p.name, p.len, text);
    else
        err = path_create(&p, S_IFLNK | 0777, &i);
    if (!err && !p.dir->node) {
        i->target = kalloc((size_t)n + 1);
        if (i->target)
            copy(i->target, text, (size_t)n);
        i->size = (uint64_t)n;
    }
    path_free(text);
    path_free(path);
    return err;
}

int64_t sys_symlink(uint64_t target, uint64_t at)
{
    return sys_symlinkat(target, (uint64_t)AT_FDCWD, at);
}

int64_t sys_unlinkat(uint64_t dirfd, uint64_t at, uint64_t flags)
{
    char *path;
    struct place p;
    int64_t err =
        flags & ~(uint64_t)AT_REMOVEDIR ? -EINVAL : path_take(dirfd, at, PATH_UNASKED, &path, &p);

    if (err)
        return err;
    if (p.unasked)
        err = hostfs_remove(p.dir, p.name, p.len, flags & AT_REMOVEDIR);
    else if (!p.inode)
        err = -ENOENT;
    else if (!p.len || p.inode == p.dir || p.inode == p.dir->parent)
        err = !(flags & AT_REMOVEDIR) ? -EISDIR
              : p.len == 1            ? -EINVAL
              : p.len                 ? -ENOTEMPTY
                                      : -EBUSY;
    else if (p.inode->mount)
        err = -EBUSY;
    else if (flags & AT_REMOVEDIR && !S_ISDIR(p.inode->mode))
        err = -ENOTDIR;
    else if (!(flags & AT_REMOVEDIR) && S_ISDIR(p.inode->mode))
        err = -EISDIR;
    else if (flags & AT_REMOVEDIR && p.inode->entries && !p.inode->node)
        err = -ENOTEMPTY;
    else if (p.dir->node)
        err = hostfs_remove(p.dir, p.name, p.len, flags & AT_REMOVEDIR);
    else
        err = dir_remove(p.dir, p.name, p.len);
    if (!err)
        p.dir->mtime = wall_now();
    path_free(path);
    return err;
}

int64_t sys_unlink(uint64_t at)
{
    return sys_unlinkat((uint64_t)AT_FDCWD, at, 0);
}

int64_t sys_rmdir(uint64_t at)
{
    return sys_unlinkat((uint64_t)AT_FDCWD, at, AT_REMOVEDIR);
}

static bool is_above(const struct inode *i, const struct inode *dir)
{
    for (; dir && dir != root; dir = dir->parent)
        if (dir == i)
            return true;
    return i == root;
}

/* Both names stay, their files change places. */
static int64_t exchange(const struct place *a, const struct place *b)
{
    struct inode *i = a->inode, *j = b->inode;

    if (!j)
        return -ENOENT;
    if ((S_ISDIR(i->mode) && is_above(i, b->dir)) || (S_ISDIR(j->mode) && is_above(j, a->dir)))
        return -EINVAL;
    dir_exchange(a->dir, a->name, a->len, b->dir, b->name, b->len);
    a->dir->mtime = b->dir->mtime = i->ctime = j->ctime = wall_now();
    return 0;
}

/* Both names are ours to look at, or the host will. */
static int64_t rename_at(const struct place *a, const struct place *b, uint64_t flags)
{
    struct inode *i = a->inode;
    int err;

    if (!i && !a->unasked)
        return -ENOENT;
    if (!a->len || !b->name || !b->len || (i && i->mount) || (b->inode && b->inode->mount))
        return -EBUSY;
    if (i && b->inode == i)
        return 0;
    if (b->inode && flags & RENAME_NOREPLACE)
        return -EEXIST;
    if (a->dir->node || b->dir->node)
        return hostfs_rename(a->dir, a->name, a->len, b->dir, b->name, b->len, (uint32_t)flags);
    if (flags & RENAME_EXCHANGE)
        return exchange(a, b);
    if (S_ISDIR(i->mode) && is_above(i, b->dir))
        return -EINVAL;
    if (b->inode) {
        if (S_ISDIR(b->inode->mode) != S_ISDIR(i->mode))
            return S_ISDIR(i->mode) ? -ENOTDIR : -EISDIR;
        if (b->inode->entries)
            return -ENOTEMPTY;
    }
    inode_hold(i);
    err = b->inode ? dir_remove(b->dir, b->name, b->len) : 0;
    if (!err)
        err = dir_remove(a->dir, a->name, a->len);
    if (!err)
        err = dir_add(b->dir, b->name, b->len, i);
    inode_drop(i);
    a->dir->mtime = b->dir->mtime = i->ctime = wall_now();
    return err;
}

int64_t sys_renameat2(uint64_t fd1, uint64_t at1, uint64_t fd2, uint64_t at2, uint64_t flags)
{
    char *from, *to;
    struct place a, b;
    int64_t err;

    if (flags & ~(uint64_t)(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
        flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    err = path_take(fd1, at1, PATH_UNASKED, &from, &a);
    if (err)
        return err;
    /* The host may have changed: the second walk may lose what the first one found. */
    inode_hold(a.dir);
    if (a.inode)
        inode_hold(a.inode);
    err = path_take(fd2, at2, PATH_UNASKED, &to, &b);
    if (!err) {
        err = rename_at(&a, &b, flags);
        path_free(to);
    }
    if (a.inode)
        inode_drop(a.inode);
    inode_drop(a.dir);
    path_free(from);
    return err;
}

int64_t sys_renameat(uint64_t fd1, uint64_t at1, uint64_t fd2, uint64_t at2)
{
    return sys_renameat2(fd1, at1, fd2, at2, 0);
}

int64_t sys_rename(uint64_t at1, uint64_t at2)
{
    return sys_renameat2((uint64_t)AT_FDCWD, at1, (uint64_t)AT_FDCWD, at2, 0);
}

/* What is to get another name: by its path, or an open file, which may have none (O_TMPFILE). */
static int64_t link_source(uint64_t fd, uint64_t at, uint64_t flags, struct inode **i)
{
    char *path = path_buffer();
    struct place p;
    int64_t n = path ? str_in(path, at, PATH_LIMIT) : -ENOMEM;
    int open = n > 0 && flags & AT_SYMLINK_FOLLOW ? procfd_of(path) : -1;

    if (!n && flags & AT_EMPTY_PATH)
        open = (int)fd;
    if (n >= 0 && open >= 0) {
        const struct file *f = fd_file((uint64_t)open);

        n = f ? 0 : -EBADF;
        *i = f ? f->inode : NULL;
    } else if (n >= 0) {
        n = path_walk((int64_t)fd, path, flags & AT_SYMLINK_FOLLOW, &p);
        *i = n ? NULL : p.inode;
    }
    path_free(path);
    return n < 0 ? n : *i ? 0 : -ENOENT;
}

int64_t sys_linkat(uint64_t fd1, uint64_t at1, uint64_t fd2, uint64_t at2, uint64_t flags)
{
    char *to;
    struct place b;
    struct inode *i;
    int64_t err = flags & ~(uint64_t)(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)
                      ? -EINVAL
                      : link_source(fd1, at1, flags, &i);

    if (err)
        return err;
    inode_hold(i); /* the second walk may lose it */
    err = path_take(fd2, at2, PATH_UNASKED, &to, &b);
    if (!err) {
        if (S_ISDIR(i->mode))
            err = -EPERM;
        else if (b.inode)
            err = -EEXIST;
        else if (!b.name || !b.len)
            err = -ENOENT; /* a link that leads nowhere */
        else if (b.dir->node)
            err = hostfs_link(b.dir, b.name, b.len, i);
        else if (i->node)
            err = -EXDEV;
        else
            err = dir_add(b.dir, b.name, b.len, i);
        if (!err && !b.dir->node)
            i->ctime = b.dir->mtime = wall_now();
        path_free(to);
    }
    inode_drop(i);
    return err;
}

int64_t sys_link(uint64_t at1, uint64_t at2)
{
    return sys_linkat((uint64_t)AT_FDCWD, at1, (uint64_t)AT_FDCWD, at2, 0);
}

int64_t sys_readlinkat(uint64_t dirfd, uint64_t at, uint64_t buf, uint64_t size)
{
    char *path;
    struct place p;
    int64_t err = path_take(dirfd, at, PATH_RECENT, &path, &p);

    if (err)
        return err;
    if (!p.inode || !S_ISLNK(p.inode->mode)) {
        err = p.inode ? -EINVAL : -ENOENT;
    } else {
        if (p.inode->target)
            copy(path, p.inode->target, length(p.inode->target) + 1);
        else
            proc_resolve(p.inode, path, PATH_LIMIT);
        uint64_t n = least(length(path), size);

        err = copy_out(buf, path, n) ? -EFAULT : (int64_t)n;
    }
    path_free(path);
    return err;
}

int64_t sys_readlink(uint64_t at, uint64_t buf, uint64_t size)
{
    return sys_readlinkat((uint64_t)AT_FDCWD, at, buf, size);
}

int64_t sys_faccessat(uint64_t dirfd, uint64_t at, uint64_t mode)
{
    char *path;
    struct place p;
    int64_t err = path_take(dirfd, at, PATH_FOLLOW | PATH_RECENT, &path, &p);

    if (err)
        return err;
    path_free(path);
    if (!p.inode)
        return -ENOENT;
    return mode & 1 && !S_ISDIR(p.inode->mode) && !(p.inode->mode & 0111) ? -EACCES : 0;
}

int64_t sys_access(uint64_t at, uint64_t mode)
{
    return sys_faccessat((uint64_t)AT_FDCWD, at, mode);
}

static int64_t change_dir(struct inode *i)
{
    if (!i)
        return -ENOENT;
    if (!S_ISDIR(i->mode))
        return -ENOTDIR;
    inode_hold(i);
    inode_drop(cwd);
    cwd = i;
    return 0;
}

int64_t sys_chdir(uint64_t at)
{
    char *path;
    struct place p;
    int64_t err = path_take((uint64_t)AT_FDCWD, at, PATH_FOLLOW | PATH_RECENT, &path, &p);

    if (err)
        return err;
    path_free(path);
    return change_dir(p.inode);
}

int64_t sys_fchdir(uint64_t fd)
{
    struct file *f = fd_file(fd);

    return f ? f->inode ? change_dir(f->inode) : -ENOTDIR : -EBADF;
}

int64_t sys_getcwd(uint64_t buf, uint64_t size)
{
    char *path = path_buffer();
    int64_t n = path ? path_of(cwd, path, PATH_LIMIT) : -ENOMEM;

    if (n > 0 && (uint64_t)n > size)
        n = -ERANGE;
    if (n > 0 && copy_out(buf, path, (size_t)n))
        n = -EFAULT;
    path_free(path);
    return n;
}

/* Everything belongs to the one user there is: owners and modes are kept, not enforced. */
static int64_t set_mode(struct inode *i, uint64_t mode)
{
    if (i->node)
        return hostfs_chmod(i, (uint32_t)mode & 07777);
    i->mode = (i->mode & S_IFMT) | ((uint32_t)mode & 07777);
    i->ctime = wall_now();
    return 0;
}

int64_t sys_fchmodat(uint64_t dirfd, uint64_t at, uint64_t mode)
{
    char *path;
    struct place p;
    int64_t err = path_take(dirfd, at, PATH_FOLLOW, &path, &p);

    if (err)
        return err;
    path_free(path);
    return p.inode ? set_mode(p.inode, mode) : -ENOENT;
}

int64_t sys_chmod(uint64_t at, uint64_t mode)
{
    return sys_fchmodat((uint64_t)AT_FDCWD, at, mode);
}

int64_t sys_fchmod(uint64_t fd, uint64_t mode)
{
    struct file *f = fd_file(fd);

    if (!f || f->flags & O_PATH)
        return -EBADF;
    return f->inode ? set_mode(f->inode, mode) : -EINVAL;
}

static int64_t set_owner(struct inode *i, uint64_t uid, uint64_t gid)
{
    if (i->node)
        return hostfs_chown(i, (uint32_t)uid, (uint32_t)gid);
    if ((uint32_t)uid != ~0u)
        i->uid = (uint32_t)uid;
    if ((uint32_t)gid != ~0u)
        i->gid = (uint32_t)gid;
    if (S_ISREG(i->mode)) /* a program's privileges are not for its new owner */
        i->mode &= ~(uint32_t)(S_ISUID | (i->mode & S_IXGRP ? S_ISGID : 0));
    i->ctime = wall_now();
    return 0;
}

static int64_t owner_of_fd(uint64_t fd, uint64_t uid, uint64_t gid)
{
    struct file *f = fd_file(fd);

    if (!f)
        return -EBADF;
    return f->inode ? set_owner(f->inode, uid, gid) : 0;
}

int64_t sys_fchown(uint64_t fd, uint64_t uid, uint64_t gid)
{
    const struct file *f = fd_file(fd);

    return f && f->flags & O_PATH ? -EBADF : owner_of_fd(fd, uid, gid);
}

int64_t sys_fchownat(uint64_t dirfd, uint64_t at, uint64_t uid, uint64_t gid, uint64_t flags)
{
    char *path;
    struct place p;
    char first = 1;

    if (flags & ~(uint64_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    if (flags & AT_EMPTY_PATH && !copy_in(&first, at, 1) && !first)
        return (int32_t)dirfd == AT_FDCWD ? set_owner(cwd, uid, gid) : owner_of_fd(dirfd, uid, gid);
    int64_t err =
        path_take(dirfd, at, flags & AT_SYMLINK_NOFOLLOW ? PATH_FIND : PATH_FOLLOW, &path, &p);

    if (err)
        return err;
    path_free(path);
    return p.inode ? set_owner(p.inode, uid, gid) : -ENOENT;
}

int64_t sys_chown(uint64_t at, uint64_t uid, uint64_t gid)
{
    return sys_fchownat((uint64_t)AT_FDCWD, at, uid, gid, 0);
}

int64_t sys_lchown(uint64_t at, uint64_t uid, uint64_t gid)
{
    return sys_fchownat((uint64_t)AT_FDCWD, at, uid, gid, AT_SYMLINK_NOFOLLOW);
}

int64_t sys_truncate(uint64_t at, uint64_t size)
{
    char *path;
    struct place p;
    int64_t err = path_take((uint64_t)AT_FDCWD, at, PATH_FOLLOW, &path, &p);

    if (err)
        return err;
    path_free(path);
    if (!p.inode)
        return -ENOENT;
    if (!S_ISREG(p.inode->mode) || (int64_t)size < 0)
        return S_ISDIR(p.inode->mode) ? -EISDIR : -EINVAL;
    return inode_resize(p.inode, size);
}

enum { UTIME_NOW = 0x3fffffff, UTIME_OMIT = 0x3ffffffe };

static bool is_time(const struct timespec64 *t)
{
    return (uint64_t)t->nsec < NS || t->nsec == UTIME_NOW || t->nsec == UTIME_OMIT;
}

static int64_t time_from(const struct timespec64 *t, int64_t was)
{
    if (t->nsec == UTIME_OMIT)
        return was;
    return t->nsec == UTIME_NOW ? wall_now() : t->sec * (int64_t)NS + t->nsec;
}

static int64_t set_times(uint64_t dirfd, uint64_t at, const struct timespec64 t[2], uint64_t flags)
{
    struct inode *i;

    if (flags & ~(uint64_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) || !is_time(&t[0]) ||
        !is_time(&t[1]))
        return -EINVAL;

    if (at) {
        char *path;
        struct place p;
        int64_t err =
            path_take(dirfd, at, flags & AT_SYMLINK_NOFOLLOW ? PATH_FIND : PATH_FOLLOW, &path, &p);

        if (err)
            return err;
        path_free(path);
        i = p.inode;
    } else {
        struct file *f = fd_file(dirfd);

        if (!f)
            return -EBADF;
        i = f->inode;
    }
    if (!i)
        return -ENOENT;
    int64_t atime = time_from(&t[0], i->atime), mtime = time_from(&t[1], i->mtime);

    if (i->node)
        return hostfs_times(i, atime, mtime);
    i->atime = atime;
    i->mtime = mtime;
    i->ctime = wall_now();
    return 0;
}

static const struct timespec64 both_now[2] = {{0, 0x3fffffff}, {0, 0x3fffffff}};

int64_t sys_utimensat(uint64_t dirfd, uint64_t at, uint64_t times, uint64_t flags)
{
    struct timespec64 t[2];

    if (times && copy_in(t, times, sizeof t))
        return -EFAULT;
    return set_times(dirfd, at, times ? t : both_now, flags);
}

/* Microseconds; what is no number of them would mean something else in nanoseconds. */
int64_t sys_futimesat(uint64_t dirfd, uint64_t at, uint64_t times)
{
    struct timespec64 t[2];

    if (times && copy_in(t, times, sizeof t))
        return -EFAULT;
    for (unsigned k = 0; times && k < 2; k++) {
        if ((uint64_t)t[k].nsec > 999999)
            return -EINVAL;
        t[k].nsec *= 1000;
    }
    return set_times(dirfd, at, times ? t : both_now, 0);
}

int64_t sys_utimes(uint64_t at, uint64_t times)
{
    return sys_futimesat((uint64_t)AT_FDCWD, at, times);
}

int64_t sys_utime(uint64_t at, uint64_t times)
{
    int64_t s[2] = {0, 0};

    if (times && copy_in(s, times, sizeof s))
        return -EFAULT;
    const struct timespec64 t[2] = {{s[0], 0}, {s[1], 0}};

    return set_times((uint64_t)AT_FDCWD, at, times ? t : both_now, 0);
}

/* Regular files and pipes: the runtime's devices are fixed, and on the host's side nobody would
 * meet at a pipe. */
int64_t sys_mknodat(uint64_t dirfd, uint64_t at, uint64_t mode)
{
    char *path;
    struct place p;
    struct inode *i;
    int64_t err;

    if (mode & S_IFMT && !S_ISREG(mode) && !S_ISFIFO(mode))
        return -EPERM;
    err = path_take(dirfd, at, PATH_UNASKED, &path, &p);
    if (err)
        return err;
    if (S_ISFIFO(mode) && p.dir->node && !p.inode)
        err = -EPERM;
    else
        err = path_create(
            &p, (S_ISFIFO(mode) ? S_IFIFO : S_IFREG) | ((uint32_t)mode & ~umask_now & 07777), &i);
    path_free(path);
    return err;
}

int64_t sys_mknod(uint64_t at, uint64_t mode)
{
    return sys_mknodat((uint64_t)AT_FDCWD, at, mode);
}
