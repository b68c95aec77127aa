/* What a file is: stat, statx, statfs. */
#include <asm/fcntl.h>
#include <asm/stat.h>
#include <asm/statfs.h>
#include <linux/fcntl.h>
#include <linux/stat.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/hostfs.h"
#include "guests/runtime/path.h"

#define TMPFS_MAGIC 0x01021994
#define STAT_FLAGS \
    (uint64_t)(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE)

/* Times that nobody set are the start's. */
static int64_t boot_time(int64_t t)
{
    return t == -1 ? clock_wall() : t;
}

/* The console and pipes have no inode: what they look like. */
static void describe(const struct file *f, struct inode *i, struct stat *s)
{
    uint32_t mode = 0010600; /* FIFO */

    *s = (struct stat){.st_nlink = 1, .st_blksize = 4096, .st_dev = 0x10, .st_ino = 1};
    if (!i) {
        if (f->ops == &console_ops && boot.flags & MAYFLY_BOOT_TTY((uintptr_t)f->data)) {
            mode = 0020620;
            s->st_rdev = 0x8800;
        }
        s->st_mode = f->ops->vector ? 0140777 /* a socket */ : mode;
        s->st_ino = (uintptr_t)f & 0xffffffff;
        return;
    }
    s->st_mode = i->mode;
    if (i->node)
        s->st_dev += 1u + i->share; /* where the host's numbers of files hold */
    s->st_ino = i->ino;
    s->st_nlink = S_ISDIR(i->mode) ? 2 : i->nlink;
    s->st_uid = i->uid;
    s->st_gid = i->gid;
    s->st_rdev = i->rdev;
    s->st_size = S_ISBLK(i->mode) ? 0 : (int64_t)i->size;
    s->st_blocks = (s->st_size + 511) / 512;
    int64_t a = boot_time(i->atime), m = boot_time(i->mtime), c = boot_time(i->ctime);

    s->st_atime = (uint64_t)a / NS;
    s->st_atime_nsec = (uint64_t)a % NS;
    s->st_mtime = (uint64_t)m / NS;
    s->st_mtime_nsec = (uint64_t)m % NS;
    s->st_ctime = (uint64_t)c / NS;
    s->st_ctime_nsec = (uint64_t)c % NS;
}

static int64_t get(uint64_t dirfd, uint64_t at, uint64_t flags, struct stat *s)
{
    char *path;
    struct place p;
    int64_t n;

    if (flags & AT_EMPTY_PATH) {
        char first = 0;

        if (at && copy_in(&first, at, 1))
            return -EFAULT;
        if (!first) {
            struct file *f = fd_file(dirfd);

            if ((int32_t)dirfd != AT_FDCWD && f && f->inode && f->inode->node)
                hostfs_refresh_file(f);
            if ((int32_t)dirfd == AT_FDCWD && cwd->node)
                hostfs_refresh(cwd);
            if ((int32_t)dirfd == AT_FDCWD)
                describe(NULL, cwd, s);
            else if (f)
                describe(f, f->inode, s);
            return f || (int32_t)dirfd == AT_FDCWD ? 0 : -EBADF;
        }
    }
    path = path_buffer();
    n = path ? str_in(path, at, PATH_LIMIT) : -ENOMEM;
    if (n >= 0 && !(flags & AT_SYMLINK_NOFOLLOW) && procfd_of(path) >= 0) {
        const struct file *f = fd_file((uint64_t)procfd_of(path));

        path_free(path);
        if (f)
            describe(f, f->inode, s);
        return f ? 0 : -ENOENT;
    }
    if (n >= 0)
        n = path_walk((int64_t)dirfd, path,
                      PATH_RECENT | (flags & AT_SYMLINK_NOFOLLOW ? PATH_FIND : PATH_FOLLOW), &p);
    path_free(path);
    if (n < 0)
        return n;
    if (!p.inode)
        return -ENOENT;
    describe(NULL, p.inode, s);
    return 0;
}

int64_t sys_newfstatat(uint64_t dirfd, uint64_t at, uint64_t out, uint64_t flags)
{
    struct stat s;
    int64_t err = flags & ~STAT_FLAGS ? -EINVAL : get(dirfd, at, flags, &s);

    return err ? err : copy_out(out, &s, sizeof s);
}

int64_t sys_fstat(uint64_t fd, uint64_t out)
{
    struct file *f = fd_file(fd);
    struct stat s;

    if (!f)
        return -EBADF;
    if (f->inode && f->inode->node)
        hostfs_refresh_file(f);
    describe(f, f->inode, &s);
    return copy_out(out, &s, sizeof s);
}

int64_t sys_stat(uint64_t at, uint64_t out)
{
    return sys_newfstatat((uint64_t)AT_FDCWD, at, out, 0);
}

int64_t sys_lstat(uint64_t at, uint64_t out)
{
    return sys_newfstatat((uint64_t)AT_FDCWD, at, out, AT_SYMLINK_NOFOLLOW);
}

int64_t sys_statx(uint64_t dirfd, uint64_t at, uint64_t flags, uint64_t mask, uint64_t out)
{
    struct stat s;
    int64_t err;

    if (mask & STATX__RESERVED || flags & ~STAT_FLAGS ||
        (flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE)
        return -EINVAL;
    err = get(dirfd, at, flags, &s);
    if (err)
        return err;
    struct statx x = {
        .stx_mask = STATX_BASIC_STATS,
        .stx_blksize = (uint32_t)s.st_blksize,
        .stx_nlink = (uint32_t)s.st_nlink,
        .stx_uid = s.st_uid,
        .stx_gid = s.st_gid,
        .stx_mode = (uint16_t)s.st_mode,
        .stx_ino = s.st_ino,
        .stx_size = (uint64_t)s.st_size,
        .stx_blocks = (uint64_t)s.st_blocks,
        .stx_atime = {.tv_sec = (int64_t)s.st_atime, .tv_nsec = (uint32_t)s.st_atime_nsec},
        .stx_mtime = {.tv_sec = (int64_t)s.st_mtime, .tv_nsec = (uint32_t)s.st_mtime_nsec},
        .stx_ctime = {.tv_sec = (int64_t)s.st_ctime, .tv_nsec = (uint32_t)s.st_ctime_nsec},
        .stx_rdev_major = (uint32_t)(s.st_rdev >> 8),
        .stx_rdev_minor = (uint32_t)(s.st_rdev & 255),
        .stx_dev_minor = (uint32_t)s.st_dev};

    return copy_out(out, &x, sizeof x);
}

static int64_t statfs_out(const struct inode *i, uint64_t out)
{
    struct statfs s = {.f_type = TMPFS_MAGIC,
                       .f_bsize = PAGE,
                       .f_blocks = (int64_t)frames_total(),
                       .f_bfree = (int64_t)frames_free(),
                       .f_bavail = (int64_t)frames_free(),
                       .f_files = (int64_t)frames_total(),
                       .f_ffree = (int64_t)frames_free(),
                       .f_namelen = 255,
                       .f_frsize = PAGE};
    int err = i && i->node ? hostfs_statfs(i, &s) : 0;

    return err ? err : copy_out(out, &s, sizeof s);
}

int64_t sys_statfs(uint64_t at, uint64_t out)
{
    char *path;
    struct place p;
    int64_t err = path_take((uint64_t)AT_FDCWD, at, PATH_FOLLOW | PATH_RECENT, &path, &p);

    if (err)
        return err;
    path_free(path);
    return p.inode ? statfs_out(p.inode, out) : -ENOENT;
}

int64_t sys_fstatfs(uint64_t fd, uint64_t out)
{
    const struct file *f = fd_file(fd);

    return f ? statfs_out(f->inode, out) : -EBADF;
}
