/* Event counters. */
#include <asm/fcntl.h>
#include <asm/poll.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/process.h"

static void changed(const void *key)
{
    thread_wake(key);
    thread_wake(&poll_key);
}

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
        int64_t err = file_wait(f, e);

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
        int64_t err = file_wait(f, e);

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
