/* Descriptors, and the calls on them. */
#include <asm/fcntl.h>
#include <asm/ioctls.h>
#include <linux/stat.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/hostfs.h"
#include "guests/runtime/pipe.h"
#include "guests/runtime/poll.h"
#include "guests/runtime/process.h"

#define IOV_LIMIT 1024u
#define RW_LIMIT  0x7ffff000ull /* Linux's own: MAX_RW_COUNT */

static struct descriptor {
    struct file *file;
    bool cloexec;
} fds[MAX_FDS];

struct file *file_new(const struct file_ops *ops, struct inode *i, uint32_t flags)
{
    struct file *f = kalloc(sizeof *f);

    if (!f)
        return NULL;
    f->ops = ops;
    f->inode = i;
    f->refs = 1;
    f->flags = flags & ~(uint32_t)(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC);
    if (i) {
        inode_hold(i);
        i->opens++;
    }
    return f;
}

int64_t file_wait(const struct file *f, const void *key)
{
    return f->flags & O_NONBLOCK ? -EAGAIN : thread_wait(key, NEVER);
}

void file_hold(struct file *f)
{
    f->refs++;
}

void file_drop(struct file *f)
{
    if (--f->refs)
        return;
    epoll_forget(f);
    lock_release(f);
    if (f->ops->release)
        f->ops->release(f);
    if (f->inode) {
        f->inode->opens--;
        inode_drop(f->inode);
    }
    kfree(f, sizeof *f);
}

void file_settle(struct file *f)
{
    if (!f->appended)
        return;
    f->appended = false;
    hostfs_refresh_file(f);
    f->pos = f->inode->size;
}

struct file *fd_file(uint64_t fd)
{
    return (uint32_t)fd < MAX_FDS ? fds[(uint32_t)fd].file : NULL;
}

int64_t fd_install(struct file *f, uint64_t from, bool cloexec)
{
    for (uint64_t fd = from; fd < limit_files(); fd++)
        if (!fds[fd].file) {
            fds[fd] = (struct descriptor){f, cloexec};
            return (int64_t)fd;
        }
    file_drop(f);
    return -EMFILE;
}

void files_init(void)
{
    for (unsigned i = 0; i < 3; i++) {
        struct file *f;

        if (boot.flags & MAYFLY_BOOT_CLOSED(i))
            continue;
        f = file_new(&console_ops, NULL, i ? O_WRONLY : O_RDONLY);
        if (boot.flags & MAYFLY_BOOT_TTY(i))
            f->flags = O_RDWR;
        f->data = (void *)(uintptr_t)i;
        fds[i].file = f;
    }
}

int64_t sys_close(uint64_t fd)
{
    struct file *f = fd_file(fd);

    if (!f)
        return -EBADF;
    fds[(uint32_t)fd].file = NULL;
    file_drop(f);
    return 0;
}

int64_t sys_close_range(uint64_t first, uint64_t last, uint64_t flags)
{
    if ((uint32_t)first > (uint32_t)last)
        return -EINVAL;
    for (uint64_t fd = (uint32_t)first; fd <= least((uint32_t)last, MAX_FDS - 1); fd++) {
        if (flags & 4)
            fds[fd].cloexec = true;
        else
            sys_close(fd);
    }
    return 0;
}

/* --- reading and writing --- */

int64_t file_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    int64_t n;

    if ((f->flags & 3) == O_WRONLY || f->flags & O_PATH)
        return -EBADF;
    if (!f->ops->read)
        return -EINVAL;
    if (!user_range(buf, len))
        return -EFAULT;
    if (!pos)
        file_settle(f);
    file_hold(f); /* another thread may close it while we wait */
    n = f->ops->read(f, buf, least(len, RW_LIMIT), pos ? pos : &f->pos);
    file_drop(f);
    return n;
}

int64_t file_write(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    int64_t n;

    if ((f->flags & 3) == O_RDONLY || f->flags & O_PATH)
        return -EBADF;
    if (!f->ops->write)
        return -EINVAL;
    if (!user_range(buf, len))
        return -EFAULT;
    if (!pos && !(f->flags & O_APPEND))
        file_settle(f);
    file_hold(f);
    n = f->ops->write(f, buf, least(len, RW_LIMIT), pos ? pos : &f->pos);
    file_drop(f);
    return n;
}

int64_t sys_read(uint64_t fd, uint64_t buf, uint64_t len)
{
    struct file *f = fd_file(fd);

    return f ? file_read(f, buf, len, NULL) : -EBADF;
}

int64_t sys_write(uint64_t fd, uint64_t buf, uint64_t len)
{
    struct file *f = fd_file(fd);

    return f ? file_write(f, buf, len, NULL) : -EBADF;
}

typedef int64_t move_fn(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos);

static int64_t at_offset(uint64_t fd, uint64_t buf, uint64_t len, uint64_t off, move_fn *move)
{
    struct file *f = fd_file(fd);

    if (!f)
        return -EBADF;
    if ((int64_t)off < 0)
        return -EINVAL;
    return f->ops->seekable ? move(f, buf, len, &off) : -ESPIPE;
}

int64_t sys_pread64(uint64_t fd, uint64_t buf, uint64_t len, uint64_t off)
{
    return at_offset(fd, buf, len, off, file_read);
}

int64_t sys_pwrite64(uint64_t fd, uint64_t buf, uint64_t len, uint64_t off)
{
    return at_offset(fd, buf, len, off, file_write);
}

struct iovec {
    uint64_t base, len;
};

static int64_t vectors(struct file *f, uint64_t iov, uint64_t count, uint64_t *pos, move_fn *move)
{
    int64_t total = 0;

    if (!f)
        return -EBADF;
    if (count > IOV_LIMIT)
        return -EINVAL;
    if (f->ops->vector) {
        file_hold(f);
        total = f->ops->vector(f, iov, count, move == file_write);
        file_drop(f);
        return total;
    }
    for (uint64_t i = 0; i < count; i++) {
        struct iovec v;

        if (copy_in(&v, iov + i * sizeof v, sizeof v))
            return total ? total : -EFAULT;
        if ((int64_t)v.len < 0)
            return total ? total : -EINVAL;
        if (!v.len)
            continue;
        int64_t n = move(f, v.base, v.len, pos);

        if (n < 0)
            return total ? total : n;
        total += n;
        if ((uint64_t)n < v.len)
            break;
    }
    return total;
}

int64_t sys_readv(uint64_t fd, uint64_t iov, uint64_t count)
{
    return vectors(fd_file(fd), iov, count, NULL, file_read);
}

/* Few bytes into the bounce buffer. */
static bool gather(uint64_t iov, uint64_t count, uint64_t *n)
{
    struct iovec v[4];

    *n = 0;
    if (count > sizeof v / sizeof v[0] || copy_in(v, iov, count * sizeof v[0]))
        return false;
    for (uint64_t i = 0; i < count; i++) {
        if (v[i].len > BOUNCE - *n || copy_in(bounce + *n, v[i].base, v[i].len))
            return false;
        *n += v[i].len;
    }
    return true;
}

int64_t sys_writev(uint64_t fd, uint64_t iov, uint64_t count)
{
    struct file *f = fd_file(fd);
    uint64_t n;

    /* A C library writes its buffer and the rest: to the console that is one call, not two. */
    if (f && f->ops == &console_ops && !(f->flags & O_PATH) && (f->flags & 3) != O_RDONLY &&
        gather(iov, count, &n))
        return n ? console_put(f, n) : 0;
    return vectors(f, iov, count, NULL, file_write);
}

int64_t sys_preadv(uint64_t fd, uint64_t iov, uint64_t count, uint64_t off)
{
    struct file *f = fd_file(fd);

    if (f && !f->ops->seekable)
        return -ESPIPE;
    return vectors(f, iov, count, &off, file_read);
}

int64_t sys_pwritev(uint64_t fd, uint64_t iov, uint64_t count, uint64_t off)
{
    struct file *f = fd_file(fd);

    if (f && !f->ops->seekable)
        return -ESPIPE;
    return vectors(f, iov, count, &off, file_write);
}

/* An offset of -1 is the file's own position; of the flags none can be promised. */
int64_t sys_preadv2(uint64_t fd, uint64_t iov, uint64_t count, uint64_t off, uint64_t high,
                    uint64_t flags)
{
    (void)high;
    if (flags)
        return -EOPNOTSUPP;
    return off == NEVER ? sys_readv(fd, iov, count) : sys_preadv(fd, iov, count, off);
}

int64_t sys_pwritev2(uint64_t fd, uint64_t iov, uint64_t count, uint64_t off, uint64_t high,
                     uint64_t flags)
{
    (void)high;
    if (flags)
        return -EOPNOTSUPP;
    return off == NEVER ? sys_writev(fd, iov, count) : sys_pwritev(fd, iov, count, off);
}

int64_t sys_lseek(uint64_t fd, uint64_t off, uint64_t whence)
{
    struct file *f = fd_file(fd);
    int64_t at;

    if (!f)
        return -EBADF;
    if (!f->ops->seekable)
        return -ESPIPE;
    if (whence == 1)
        file_settle(f);
    if (whence == 0)
        at = (int64_t)off;
    else if (whence == 1)
        at = (int64_t)(f->pos + off);
    else if (whence == 2 && f->inode && f->inode->node)
        hostfs_refresh_file(f), at = (int64_t)(f->inode->size + off);
    else if (whence == 2)
        at = (int64_t)((f->inode ? f->inode->size : 0) + off);
    else if ((whence == 3 || whence == 4) && f->inode) { /* SEEK_DATA, SEEK_HOLE: all is data */
        if (off >= f->inode->size)
            return -ENXIO;
        at = (int64_t)(whence == 3 ? off : f->inode->size);
    } else
        return -EINVAL;
    if (at < 0)
        return -EINVAL;
    f->pos = (uint64_t)at;
    f->appended = false;
    return at;
}

int64_t sys_ftruncate(uint64_t fd, uint64_t size)
{
    struct file *f = fd_file(fd);

    if (!f)
        return -EBADF;
    if (!f->inode || (f->ops != &regular_ops && f->ops != &hostfile_ops) ||
        (f->flags & 3) == O_RDONLY || (int64_t)size < 0)
        return -EINVAL;
    return inode_resize(f->inode, size);
}

int64_t sys_fallocate(uint64_t fd, uint64_t mode, uint64_t off, uint64_t len)
{
    struct file *f = fd_file(fd);

    if (!f)
        return -EBADF;
    if (!f->inode || !S_ISREG(f->inode->mode))
        return f->inode && S_ISDIR(f->inode->mode) ? -EISDIR : -ESPIPE;
    if ((f->flags & 3) == O_RDONLY)
        return -EBADF;
    if ((int64_t)off < 0 || (int64_t)len <= 0 || (int64_t)(off + len) < 0)
        return -EINVAL;
    if (f->inode->node)
        return hostfs_fallocate(f, mode, off, len);
    if (mode & ~1ull)
        return -EOPNOTSUPP;
    if (mode) /* FALLOC_FL_KEEP_SIZE: nothing is set aside here */
        return 0;
    return off + len > f->inode->size ? inode_resize(f->inode, off + len) : 0;
}

int64_t sys_fsync(uint64_t fd)
{
    struct file *f = fd_file(fd);

    if (!f)
        return -EBADF;
    if (!f->ops->seekable)
        return -EINVAL;
    return f->ops->sync ? f->ops->sync(f) : 0;
}

/* --- descriptors --- */

static int64_t duplicate(uint64_t fd, uint64_t from, bool cloexec)
{
    struct file *f = fd_file(fd);

    if (!f)
        return -EBADF;
    if (from >= limit_files())
        return -EINVAL;
    file_hold(f);
    return fd_install(f, from, cloexec);
}

int64_t sys_dup(uint64_t fd)
{
    return duplicate(fd, 0, false);
}

int64_t sys_dup3(uint64_t fd, uint64_t to, uint64_t flags)
{
    struct file *f = fd_file(fd);

    if ((uint32_t)fd == (uint32_t)to || flags & ~(uint64_t)O_CLOEXEC)
        return -EINVAL;
    if (!f || (uint32_t)to >= limit_files())
        return -EBADF;
    file_hold(f);
    sys_close(to);
    fds[(uint32_t)to] = (struct descriptor){f, flags & O_CLOEXEC};
    return (int64_t)(uint32_t)to;
}

int64_t sys_dup2(uint64_t fd, uint64_t to)
{
    if ((uint32_t)fd == (uint32_t)to)
        return fd_file(fd) ? (int64_t)(uint32_t)to : -EBADF;
    return sys_dup3(fd, to, 0);
}

int64_t sys_fcntl(uint64_t fd, uint64_t cmd, uint64_t arg)
{
    enum {
        SETTABLE = O_APPEND | O_NONBLOCK,
        LARGEFILE = 0100000,
        OFD_GETLK = 36, /* linux/fcntl.h */
        OFD_SETLK,
        OFD_SETLKW,
        DUPFD_CLOEXEC = 1030,
        SETPIPE_SZ,
        GETPIPE_SZ
    };
    struct file *f = fd_file(fd);

    if (!f)
        return -EBADF;
    switch (cmd) {
    case F_DUPFD:
    case DUPFD_CLOEXEC:
        return duplicate(fd, arg, cmd == DUPFD_CLOEXEC);
    case F_GETFD:
        return fds[(uint32_t)fd].cloexec;
    case F_SETFD:
        fds[(uint32_t)fd].cloexec = arg & FD_CLOEXEC;
        return 0;
    case F_GETFL:
        return f->flags | (f->ops == &regular_ops ? LARGEFILE : 0);
    case F_SETFL:
        f->flags = (f->flags & ~(uint32_t)SETTABLE) | ((uint32_t)arg & SETTABLE);
        return 0;
    case F_GETLK:
    case OFD_GETLK:
        return lock_record(f, arg, true);
    case F_SETLK:
    case F_SETLKW:
    case OFD_SETLK:
    case OFD_SETLKW:
        return lock_record(f, arg, false);
    case F_SETOWN:
    case F_GETOWN:
        return 0;
    case SETPIPE_SZ:
        return arg ? pipe_capacity(f, (uint32_t)arg) : -EINVAL;
    case GETPIPE_SZ:
        return pipe_capacity(f, 0);
    default:
        return -EINVAL;
    }
}

int64_t sys_ioctl(uint64_t fd, uint64_t cmd, uint64_t arg)
{
    struct file *f = fd_file(fd);

    if (!f)
        return -EBADF;
    switch ((uint32_t)cmd) {
    case FIONBIO: {
        uint32_t on;

        if (copy_in(&on, arg, 4))
            return -EFAULT;
        f->flags = on ? f->flags | O_NONBLOCK : f->flags & ~(uint32_t)O_NONBLOCK;
        return 0;
    }
    case FIOCLEX:
    case FIONCLEX:
        fds[(uint32_t)fd].cloexec = (uint32_t)cmd == FIOCLEX;
        return 0;
    }
    return f->ops->ioctl ? f->ops->ioctl(f, (uint32_t)cmd, arg) : -ENOTTY;
}
