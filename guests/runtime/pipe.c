/* Pipes and event counters. */
#include <asm/fcntl.h>
#include <asm/ioctls.h>
#include <asm/poll.h>

#include <linux/stat.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/process.h"

#define PIPE_PAGES  16u
#define PIPE_BYTES  (PIPE_PAGES * PAGE)
#define PIPE_ATOMIC PAGE /* PIPE_BUF */

struct pipe {
    uint64_t head, len; /* first byte, how many */
    unsigned readers, writers;
    char *page[PIPE_PAGES];
};

static void changed(const void *key)
{
    thread_wake(key);
    thread_wake(&poll_key);
}

static int64_t pipe_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct pipe *p = f->data;
    uint64_t done = 0;

    (void)pos;
    if (!len)
        return 0;
    while (!p->len) {
        if (!p->writers)
            return 0;
        if (f->flags & O_NONBLOCK)
            return -EAGAIN;
        int64_t err = thread_wait(p, NEVER);

        if (err)
            return err;
    }
    while (done < len && p->len) {
        uint64_t at = p->head % PAGE;
        uint64_t n = least(least(len - done, p->len), PAGE - at);

        if (copy_out(buf + done, p->page[p->head / PAGE] + at, n))
            break;
        p->head = (p->head + n) % PIPE_BYTES;
        p->len -= n;
        done += n;
    }
    changed(p);
    return done ? (int64_t)done : -EFAULT;
}

static int64_t put(struct pipe *p, uint64_t buf, uint64_t len)
{
    uint64_t done = 0;

    while (done < len && p->len < PIPE_BYTES) {
        uint64_t tail = (p->head + p->len) % PIPE_BYTES, at = tail % PAGE;
        uint64_t n = least(least(len - done, PIPE_BYTES - p->len), PAGE - at);
        char **page = &p->page[tail / PAGE];

        if (!*page && !(*page = kalloc(PAGE)))
            return done ? (int64_t)done : -ENOMEM;
        if (copy_in(*page + at, buf + done, n))
            return done ? (int64_t)done : -EFAULT;
        p->len += n;
        done += n;
    }
    return (int64_t)done;
}

static int64_t pipe_write(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct pipe *p = f->data;
    uint64_t done = 0;

    (void)pos;
    if (!len)
        return 0;
    while (done < len) {
        if (!p->readers) {
            if (!done)
                signal_send(NULL, SIGPIPE, SI_USER, 0);
            return done ? (int64_t)done : -EPIPE;
        }
        uint64_t room = PIPE_BYTES - p->len;

        if (!room || (len <= PIPE_ATOMIC && room < len)) {
            if (f->flags & O_NONBLOCK)
                return done ? (int64_t)done : -EAGAIN;
            int64_t err = thread_wait(p, NEVER);

            if (err)
                return done ? (int64_t)done : err;
            continue;
        }
        int64_t n = put(p, buf + done, len - done);

        if (n < 0)
            return done ? (int64_t)done : n;
        done += (uint64_t)n;
        changed(p);
    }
    return (int64_t)done;
}

static unsigned pipe_poll(struct file *f)
{
    struct pipe *p = f->data;

    if ((f->flags & 3) == O_RDONLY)
        return (p->len ? POLLIN | POLLRDNORM : 0) | (p->writers ? 0 : POLLHUP);
    return (p->len <= PIPE_BYTES - PIPE_ATOMIC ? POLLOUT | POLLWRNORM : 0) |
           (p->readers ? 0 : POLLERR);
}

static int64_t pipe_ioctl(struct file *f, uint64_t cmd, uint64_t arg)
{
    uint32_t n = (uint32_t)((struct pipe *)f->data)->len;

    return cmd == FIONREAD ? copy_out(arg, &n, 4) : -ENOTTY;
}

static void pipe_release(struct file *f)
{
    struct pipe *p = f->data;

    if ((f->flags & 3) == O_RDONLY)
        p->readers--;
    else
        p->writers--;
    changed(p);
    if (p->readers || p->writers)
        return;
    for (unsigned i = 0; i < PIPE_PAGES; i++)
        kfree(p->page[i], PAGE);
    kfree(p, sizeof *p);
}

static const struct file_ops pipe_ops = {.read = pipe_read,
                                         .write = pipe_write,
                                         .poll = pipe_poll,
                                         .ioctl = pipe_ioctl,
                                         .release = pipe_release};

int64_t sys_pipe2(uint64_t out, uint64_t flags)
{
    struct pipe *p = kalloc(sizeof *p);
    struct file *in =
        p ? file_new(&pipe_ops, NULL, O_RDONLY | ((uint32_t)flags & O_NONBLOCK)) : NULL;
    struct file *to =
        in ? file_new(&pipe_ops, NULL, O_WRONLY | ((uint32_t)flags & O_NONBLOCK)) : NULL;
    int64_t a, b;

    if (flags & ~(uint64_t)(O_CLOEXEC | O_NONBLOCK))
        return -EINVAL;
    if (!to)
        return -ENFILE;
    p->readers = p->writers = 1;
    in->data = to->data = p;
    a = fd_install(in, 0, flags & O_CLOEXEC);
    b = fd_install(to, 0, flags & O_CLOEXEC);
    if (a < 0 || b < 0)
        return -EMFILE;
    int32_t fd[2] = {(int32_t)a, (int32_t)b};

    return copy_out(out, fd, sizeof fd);
}

int64_t sys_pipe(uint64_t out)
{
    return sys_pipe2(out, 0);
}

/* --- eventfd --- */

struct event {
    uint64_t count;
    bool semaphore;
};

static int64_t event_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct event *e = f->data;

    (void)pos;
    if (len < 8)
        return -EINVAL;
    while (!e->count) {
        if (f->flags & O_NONBLOCK)
            return -EAGAIN;
        int64_t err = thread_wait(e, NEVER);

        if (err)
            return err;
    }
    uint64_t n = e->semaphore ? 1 : e->count;

    e->count -= n;
    changed(e);
    return copy_out(buf, &n, 8) ? -EFAULT : 8;
}

static int64_t event_write(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct event *e = f->data;
    uint64_t n;

    (void)pos;
    if (len < 8)
        return -EINVAL;
    if (copy_in(&n, buf, 8))
        return -EFAULT;
    if (n == UINT64_MAX)
        return -EINVAL;
    while (e->count > UINT64_MAX - 1 - n) {
        if (f->flags & O_NONBLOCK)
            return -EAGAIN;
        int64_t err = thread_wait(e, NEVER);

        if (err)
            return err;
    }
    e->count += n;
    changed(e);
    return 8;
}

static unsigned event_poll(struct file *f)
{
    struct event *e = f->data;

    return (e->count ? POLLIN | POLLRDNORM : 0) |
           (e->count < UINT64_MAX - 1 ? POLLOUT | POLLWRNORM : 0);
}

static void event_release(struct file *f)
{
    kfree(f->data, sizeof(struct event));
}

static const struct file_ops event_ops = {
    .read = event_read, .write = event_write, .poll = event_poll, .release = event_release};

int64_t sys_eventfd2(uint64_t count, uint64_t flags)
{
    struct event *e = kalloc(sizeof *e);
    struct file *f = e ? file_new(&event_ops, NULL, O_RDWR | ((uint32_t)flags & O_NONBLOCK)) : NULL;

    if (!f)
        return -ENFILE;
    e->count = (uint32_t)count;
    e->semaphore = flags & 1;
    f->data = e;
    return fd_install(f, 0, flags & O_CLOEXEC);
}

int64_t sys_eventfd(uint64_t count)
{
    return sys_eventfd2(count, 0);
}
