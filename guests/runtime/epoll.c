/*
 * epoll. A watch is on two lists: its epoll's, in the order of looking, and its file's, so that it
 * goes when the file is closed for good (epoll(7), Q6).
 */
#include <asm/fcntl.h>
#include <asm/poll.h>
#include <linux/eventpoll.h>
#include <linux/stat.h>
#include "guests/runtime/poll.h"
#include "guests/runtime/process.h"

#define DEPTH_MOST 5u /* epolls that watch epolls, as Linux has it */

struct watch {
    struct watch *next, **link; /* link: what points at it */
    struct watch *other;        /* the next of the same file */
    struct watcher *of;
    struct file *file;
    uint32_t fd, events;
    uint64_t data;
    uint64_t told; /* EPOLLET: the change after which it was reported */
};

struct watcher {
    struct watch *first, **end;
};

static void append(struct watcher *s, struct watch *w)
{
    w->next = NULL;
    w->link = s->end;
    *s->end = w;
    s->end = &w->next;
}

static void unlink_watch(struct watch *w)
{
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    else
        w->of->end = w->link;
}

static void drop(struct watch *w)
{
    struct watch **p = &w->file->watches;

    while (*p != w)
        p = &(*p)->other;
    *p = w->other;
    unlink_watch(w);
    kfree(w, sizeof *w);
}

void epoll_forget(struct file *f)
{
    while (f->watches)
        drop(f->watches);
}

static unsigned watched(struct watch *w)
{
    if (!(w->events & ~(EPOLLET | EPOLLONESHOT)))
        return 0;
    return poll_ready(w->file) & (w->events | POLLERR | POLLHUP);
}

/* Edge-triggered: an edge is any change since the last report, this file's or another's; who asks
 * for edges tries until -EAGAIN and can take one too many. */
static bool is_news(const struct watch *w)
{
    return !(w->events & EPOLLET) || w->told != poll_changes;
}

static unsigned epoll_poll(struct file *f)
{
    struct watcher *s = f->data;

    for (struct watch *w = s->first; w; w = w->next)
        if (watched(w) && is_news(w))
            return POLLIN | POLLRDNORM;
    return 0;
}

static void epoll_release(struct file *f)
{
    struct watcher *s = f->data;

    while (s->first)
        drop(s->first);
    kfree(s, sizeof *s);
}

static const struct file_ops epoll_ops = {.poll = epoll_poll, .release = epoll_release};

/* How deep epolls are below f, DEPTH_MOST at most; it is that too where `not` is among them. */
static unsigned depth(const struct file *f, const struct file * not, unsigned most)
{
    unsigned deepest = 0;

    if (f->ops != &epoll_ops)
        return 0;
    if (f == not || !most)
        return DEPTH_MOST;
    for (struct watch *w = ((struct watcher *)f->data)->first; w; w = w->next) {
        unsigned d = depth(w->file, not, most - 1) + (w->file->ops == &epoll_ops);

        if (d > deepest)
            deepest = d;
    }
    return deepest;
}

int64_t sys_epoll_create1(uint64_t flags)
{
    struct watcher *s;
    struct file *f;

    if (flags & ~(uint64_t)O_CLOEXEC)
        return -EINVAL;
    s = kalloc(sizeof *s);
    f = s ? file_new(&epoll_ops, NULL, O_RDWR) : NULL;
    if (!f) {
        kfree(s, sizeof *s);
        return -ENFILE;
    }
    s->end = &s->first;
    f->data = s;
    return fd_install(f, 0, flags & O_CLOEXEC);
}

int64_t sys_epoll_create(uint64_t size)
{
    return (int32_t)size > 0 ? sys_epoll_create1(0) : -EINVAL;
}

int64_t sys_epoll_ctl(uint64_t epfd, uint64_t op, uint64_t fd, uint64_t at)
{
    struct file *ep = fd_file(epfd), *f = fd_file(fd);
    struct epoll_event ev = {0};

    if (!ep || !f)
        return -EBADF;
    if (ep->ops != &epoll_ops || ep == f)
        return -EINVAL;
    if (f->inode && (S_ISREG(f->inode->mode) || S_ISDIR(f->inode->mode)))
        return -EPERM;
    if (op != EPOLL_CTL_DEL && copy_in(&ev, at, sizeof ev))
        return -EFAULT;
    struct watcher *s = ep->data;
    struct watch *w = f->watches;

    while (w && (w->of != s || w->fd != (uint32_t)fd))
        w = w->other;
    switch (op) {
    case EPOLL_CTL_ADD:
        if (w)
            return -EEXIST;
        if (f->ops == &epoll_ops && depth(f, ep, DEPTH_MOST) >= DEPTH_MOST - 1)
            return -ELOOP;
        w = kalloc(sizeof *w);
        if (!w)
            return -ENOMEM;
        w->of = s;
        w->fd = (uint32_t)fd;
        w->file = f;
        w->other = f->watches;
        f->watches = w;
        append(s, w);
        break;
    case EPOLL_CTL_MOD:
        if (!w)
            return -ENOENT;
        break;
    case EPOLL_CTL_DEL:
        if (!w)
            return -ENOENT;
        drop(w);
        return 0;
    default:
        return -EINVAL;
    }
    w->events = ev.events;
    w->data = ev.data;
    w->told = 0;
    thread_wake(&poll_key);
    return 0;
}

/* What was reported goes to the end of the list, so that all have their turn. */
static int64_t epoll_once(struct watcher *s, uint64_t out, uint64_t max)
{
    struct watch *stop = NULL;
    uint64_t n = 0;

    for (struct watch *w = s->first, *next; w && w != stop && n < max; w = next) {
        unsigned now = watched(w);

        next = w->next;
        if (!now || !is_news(w))
            continue;
        w->told = poll_changes;
        struct epoll_event ev = {.events = now, .data = w->data};

        if (copy_out(out + n * sizeof ev, &ev, sizeof ev))
            return n ? (int64_t)n : -EFAULT;
        n++;
        if (w->events & EPOLLONESHOT)
            w->events &= EPOLLET | EPOLLONESHOT;
        unlink_watch(w);
        append(s, w);
        if (!stop)
            stop = w;
    }
    return (int64_t)n;
}

static int64_t wait_until(uint64_t epfd, uint64_t out, uint64_t max, uint64_t deadline)
{
    struct file *ep = fd_file(epfd);

    if (!ep)
        return -EBADF;
    if (ep->ops != &epoll_ops || (int32_t)max <= 0)
        return -EINVAL;
    file_hold(ep);
    for (;;) {
        int64_t n = epoll_once(ep->data, out, (uint32_t)max), err;

        if (!n && deadline > clock_ns()) {
            err = thread_wait(&poll_key, deadline);
            if (err != -ERESTARTSYS)
                continue;
            n = -EINTR;
        }
        file_drop(ep);
        return n;
    }
}

int64_t sys_epoll_wait(uint64_t epfd, uint64_t out, uint64_t max, uint64_t ms)
{
    return wait_until(epfd, out, max, poll_after_ms(ms));
}

int64_t sys_epoll_pwait2(uint64_t epfd, uint64_t out, uint64_t max, uint64_t timeout, uint64_t mask,
                         uint64_t size)
{
    uint64_t deadline;
    int err = poll_deadline_in(timeout, &deadline);

    if (!err)
        err = signal_swap_mask(mask, size);
    return err ? err : wait_until(epfd, out, max, deadline);
}

int64_t sys_epoll_pwait(uint64_t epfd, uint64_t out, uint64_t max, uint64_t ms, uint64_t mask,
                        uint64_t size)
{
    int err = signal_swap_mask(mask, size);

    return err ? err : sys_epoll_wait(epfd, out, max, ms);
}
