/* Pipes, with a name or without. */
#include "guests/runtime/pipe.h"
#include <asm/fcntl.h>
#include <asm/ioctls.h>
#include <asm/poll.h>
#include <linux/stat.h>
#include "guests/runtime/process.h"

#define PIPE_ATOMIC PAGE /* PIPE_BUF */

struct pipe {
    struct ring ring;
    uint64_t capacity;
    unsigned readers, writers;
    unsigned reads, writes; /* ends ever opened: who waits for one sees one that is closed again */
    struct inode *inode;    /* its name, or NULL */
};

static void changed(const void *key)
{
    thread_wake(key);
    thread_wake(&poll_key);
}

struct ring *pipe_ring(const struct file *f)
{
    return f && f->ops == &pipe_ops ? &((struct pipe *)f->data)->ring : NULL;
}

void pipe_changed(const struct file *f)
{
    changed(f->data);
}

int64_t pipe_wait_bytes(struct file *f, bool now)
{
    struct pipe *p = f->data;

    while (!p->ring.len) {
        if (!p->writers)
            return 0;
        if (now || f->flags & O_NONBLOCK)
            return -EAGAIN;
        int64_t err = thread_wait(p, NEVER);

        if (err)
            return err;
    }
    return 1;
}

int64_t pipe_wait_room(struct file *f, uint64_t room, bool now)
{
    struct pipe *p = f->data;

    while (p->readers && p->ring.len + room > p->capacity) {
        if (now || f->flags & O_NONBLOCK)
            return -EAGAIN;
        int64_t err = thread_wait(p, NEVER);

        if (err)
            return err;
    }
    return p->readers ? 1 : -EPIPE;
}

static int64_t pipe_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct pipe *p = f->data;
    uint64_t done = 0;

    (void)pos;
    if (!len)
        return 0;
    int64_t err = pipe_wait_bytes(f, false);

    if (err <= 0)
        return err;
    while (done < len && p->ring.len) {
        uint64_t n = len - done;
        char *from = ring_bytes(&p->ring, 0, &n);

        if (copy_out(buf + done, from, n))
            break;
        ring_drop(&p->ring, n);
        done += n;
    }
    changed(p);
    return done ? (int64_t)done : -EFAULT;
}

static int64_t put(struct pipe *p, uint64_t buf, uint64_t len)
{
    struct ring *r = &p->ring;
    uint64_t done = 0;

    while (done < len) {
        uint64_t n = least(len - done, p->capacity - r->len);
        char *to = ring_room(r, &n);

        if (!to && !n)
            break;
        if (!to || copy_in(to, buf + done, n))
            return done ? (int64_t)done : to ? -EFAULT : -ENOMEM;
        ring_add(r, n);
        done += n;
    }
    return (int64_t)done;
}

static int64_t pipe_write(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct pipe *p = f->data;
    uint64_t done = 0;

    (void)pos;
    while (done < len) {
        int64_t n = pipe_wait_room(f, len <= PIPE_ATOMIC ? len : 1, false);

        if (n > 0)
            n = put(p, buf + done, len - done);
        if (n == -EPIPE && !done)
            signal_send(NULL, SIGPIPE, SI_USER, 0);
        if (n < 0)
            return done ? (int64_t)done : n;
        done += (uint64_t)n;
        changed(p);
    }
    return (int64_t)done;
}

static bool reads(const struct file *f)
{
    return (f->flags & O_ACCMODE) != O_WRONLY;
}

static bool writes(const struct file *f)
{
    return (f->flags & O_ACCMODE) != O_RDONLY;
}

static unsigned pipe_poll(struct file *f)
{
    struct pipe *p = f->data;
    unsigned events = 0;

    if (reads(f))
        events |= (p->ring.len ? POLLIN | POLLRDNORM : 0) | (p->writers ? 0 : POLLHUP);
    if (writes(f))
        events |= (p->ring.len + PIPE_ATOMIC <= p->capacity ? POLLOUT | POLLWRNORM : 0) |
                  (p->readers ? 0 : POLLERR);
    return events;
}

static int64_t pipe_ioctl(struct file *f, uint64_t cmd, uint64_t arg)
{
    uint32_t n = (uint32_t)((struct pipe *)f->data)->ring.len;

    return cmd == FIONREAD ? copy_out(arg, &n, 4) : -ENOTTY;
}

static void pipe_release(struct file *f)
{
    struct pipe *p = f->data;

    if (!p) /* its opening failed */
        return;
    p->readers -= reads(f);
    p->writers -= writes(f);
    changed(p);
    if (p->readers || p->writers)
        return;
    if (p->inode)
        p->inode->pipe = NULL;
    ring_free(&p->ring);
    kfree(p, sizeof *p);
}

const struct file_ops pipe_ops = {.read = pipe_read,
                                  .write = pipe_write,
                                  .poll = pipe_poll,
                                  .ioctl = pipe_ioctl,
                                  .release = pipe_release};

/* F_GETPIPE_SZ; F_SETPIPE_SZ: powers of two from a page to what there is room for. */
int64_t pipe_capacity(const struct file *f, uint64_t set)
{
    struct pipe *p = f->data;
    uint64_t size = PAGE;

    if (!pipe_ring(f))
        return -EBADF;
    while (size < set && size < RING_BYTES)
        size *= 2;
    if (set > size)
        return -EPERM;
    if (set && size < p->ring.len)
        return -EBUSY;
    if (set)
        p->capacity = size;
    return (int64_t)p->capacity;
}

static void join(struct pipe *p, struct file *f)
{
    f->data = p;
    p->readers += reads(f);
    p->writers += writes(f);
    p->reads += reads(f);
    p->writes += writes(f);
}

/* fifo(7): a reader waits for a writer, and a writer for a reader. */
int64_t fifo_open(struct file *f)
{
    struct pipe *p = f->inode->pipe;
    bool now = f->flags & O_NONBLOCK;

    if (f->flags & O_PATH)
        return 0;
    if (now && !reads(f) && !(p && p->readers))
        return -ENXIO;
    if (!p) {
        p = f->inode->pipe = kalloc(sizeof *p);
        if (!p)
            return -ENOMEM;
        p->inode = f->inode;
        p->capacity = RING_BYTES;
    }
    join(p, f);
    changed(p);
    unsigned met = reads(f) ? p->writes : p->reads;

    while (!now && (reads(f) ? !p->writers && p->writes == met : !p->readers && p->reads == met)) {
        int64_t err = thread_wait(p, NEVER);

        if (err)
            return err;
    }
    return 0;
}

int64_t sys_pipe2(uint64_t out, uint64_t flags)
{
    if (flags & ~(uint64_t)(O_CLOEXEC | O_NONBLOCK))
        return -EINVAL;
    uint32_t file_flags = (uint32_t)flags & O_NONBLOCK;
    struct pipe *p = kalloc(sizeof *p);
    struct file *in = p ? file_new(&pipe_ops, NULL, O_RDONLY | file_flags) : NULL;
    struct file *to = in ? file_new(&pipe_ops, NULL, O_WRONLY | file_flags) : NULL;

    if (!to) {
        if (in)
            file_drop(in);
        kfree(p, sizeof *p);
        return -ENFILE;
    }
    p->capacity = RING_BYTES;
    join(p, in);
    join(p, to);
    int64_t a = fd_install(in, 0, flags & O_CLOEXEC);
    int64_t b = fd_install(to, 0, flags & O_CLOEXEC);

    if (a < 0 || b < 0) {
        if (a >= 0)
            sys_close((uint64_t)a);
        return -EMFILE;
    }
    int32_t fd[2] = {(int32_t)a, (int32_t)b};

    return copy_out(out, fd, sizeof fd);
}

int64_t sys_pipe(uint64_t out)
{
    return sys_pipe2(out, 0);
}
