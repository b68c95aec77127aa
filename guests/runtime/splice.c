/* splice, tee, vmsplice: bytes to and from pipes. */
#include <asm/fcntl.h>
#include <asm/mman.h>
#include <linux/mman.h>
#include "guests/runtime/pipe.h"

enum { NONBLOCK = 2, KNOWN = 15 };

/* From pipe to pipe, as much as there is and fits; keep: it stays in the first. */
static int64_t pour(struct file *from, struct file *to, uint64_t count, bool keep)
{
    struct ring *a = pipe_ring(from), *b = pipe_ring(to);
    uint64_t done = 0, skip = 0;

    while (done < count && skip < a->len) {
        uint64_t n = count - done;
        const char *src = ring_bytes(a, skip, &n);
        char *dst = ring_room(b, &n);

        if (!dst)
            break;
        copy(dst, src, n);
        ring_add(b, n);
        done += n;
        if (keep)
            skip += n;
        else
            ring_drop(a, n);
    }
    pipe_changed(from);
    pipe_changed(to);
    return done ? (int64_t)done : -ENOMEM;
}

/* Files are read and written through program memory: a stretch that is borrowed. */
static int64_t from_pipe(struct file *from, struct file *to, uint64_t at, uint64_t count,
                         uint64_t *pos)
{
    struct ring *r = pipe_ring(from);
    uint64_t len = least(count, r->len), n;

    for (uint64_t done = 0; done < len; done += n) {
        n = len - done;
        const char *src = ring_bytes(r, done, &n);

        if (copy_out(at + done, src, n))
            return -ENOMEM;
    }
    int64_t put = file_write(to, at, len, pos);

    if (put > 0) {
        ring_drop(r, least((uint64_t)put, r->len));
        pipe_changed(from);
    }
    return put;
}

static int64_t to_pipe(struct file *from, struct file *to, uint64_t at, uint64_t count,
                       uint64_t *pos)
{
    int64_t got = file_read(from, at, least(count, RING_BYTES - pipe_ring(to)->len), pos);

    return got > 0 ? file_write(to, at, (uint64_t)got, NULL) : got;
}

static int64_t wait_both(struct file *from, struct file *to, uint64_t flags)
{
    int64_t n = pipe_ring(from) ? pipe_wait_bytes(from, flags & NONBLOCK) : 1;

    return n > 0 && pipe_ring(to) ? pipe_wait_room(to, 1, flags & NONBLOCK) : n;
}

static bool directions(const struct file *from, const struct file *to)
{
    return from && to && (from->flags & O_ACCMODE) != O_WRONLY &&
           (to->flags & O_ACCMODE) != O_RDONLY;
}

static int64_t splice(struct file *from, uint64_t *in, struct file *to, uint64_t *out, uint64_t len)
{
    if (pipe_ring(from) && pipe_ring(to))
        return pour(from, to, len, false);
    int64_t at =
        sys_mmap(0, RING_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NEVER, 0);

    if (at < 0)
        return at;
    int64_t n = pipe_ring(from) ? from_pipe(from, to, (uint64_t)at, len, out)
                                : to_pipe(from, to, (uint64_t)at, len, in);

    sys_munmap((uint64_t)at, RING_BYTES);
    return n;
}

/* Both are held while it may wait; in, out: where the offsets are, NULL of a pipe. */
static int64_t transfer(struct file *from, uint64_t *in, struct file *to, uint64_t *out,
                        uint64_t len, uint64_t flags, bool keep)
{
    if (!len)
        return 0;
    file_hold(from);
    file_hold(to);
    int64_t n = wait_both(from, to, flags);

    if (n > 0)
        n = keep ? pour(from, to, len, true) : splice(from, in, to, out, len);
    file_drop(from);
    file_drop(to);
    return n;
}

int64_t sys_splice(uint64_t in, uint64_t in_at, uint64_t out, uint64_t out_at, uint64_t len,
                   uint64_t flags)
{
    struct file *from = fd_file(in), *to = fd_file(out);
    uint64_t a = 0, b = 0;

    if (flags & ~(uint64_t)KNOWN)
        return -EINVAL;
    if (!directions(from, to))
        return -EBADF;
    if ((!pipe_ring(from) && !pipe_ring(to)) || pipe_ring(from) == pipe_ring(to) ||
        to->flags & O_APPEND)
        return -EINVAL;
    if ((in_at && !from->ops->seekable) || (out_at && !to->ops->seekable))
        return -ESPIPE;
    if ((in_at && copy_in(&a, in_at, 8)) || (out_at && copy_in(&b, out_at, 8)))
        return -EFAULT;
    if ((int64_t)a < 0 || (int64_t)b < 0)
        return -EINVAL;
    int64_t n = transfer(from, in_at ? &a : NULL, to, out_at ? &b : NULL, len, flags, false);

    if (n > 0 && ((in_at && copy_out(in_at, &a, 8)) || (out_at && copy_out(out_at, &b, 8))))
        return -EFAULT;
    return n;
}

int64_t sys_tee(uint64_t in, uint64_t out, uint64_t len, uint64_t flags)
{
    struct file *from = fd_file(in), *to = fd_file(out);

    if (!directions(from, to))
        return -EBADF;
    if (flags & ~(uint64_t)KNOWN || !pipe_ring(from) || !pipe_ring(to) ||
        pipe_ring(from) == pipe_ring(to))
        return -EINVAL;
    return transfer(from, NULL, to, NULL, len, flags, true);
}

/* What there is room for, once there is any. */
static int64_t put_some(struct file *f, uint64_t fd, uint64_t iov, uint64_t count, bool now)
{
    int64_t n = pipe_wait_room(f, 1, now);

    while (n > 0) {
        uint32_t was = f->flags;

        f->flags |= O_NONBLOCK;
        n = sys_writev(fd, iov, count);
        f->flags = was;
        if (n != -EAGAIN || now || was & O_NONBLOCK)
            break;
        n = pipe_wait_room(f, PAGE, false); /* a piece that goes whole */
    }
    return n;
}

/* Pages are never given away here: it is a copy in either direction. */
int64_t sys_vmsplice(uint64_t fd, uint64_t iov, uint64_t count, uint64_t flags)
{
    struct file *f = fd_file(fd);

    if (!pipe_ring(f))
        return -EBADF;
    if (flags & ~(uint64_t)KNOWN)
        return -EINVAL;
    if ((f->flags & O_ACCMODE) == O_RDONLY)
        return sys_readv(fd, iov, count);
    file_hold(f);
    int64_t n = put_some(f, fd, iov, count, flags & NONBLOCK);

    file_drop(f);
    return n;
}
