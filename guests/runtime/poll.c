/* Waiting for files: poll, select, epoll. A waiter looks at its files, and again whenever anything
 * that can be polled has changed. */
#include <asm/fcntl.h>
#include <asm/poll.h>
#include <linux/eventpoll.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/process.h"

static unsigned ready(struct file *f)
{
    return f->ops->poll ? f->ops->poll(f) : POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
}

/* --- poll --- */

static int64_t poll_once(uint64_t at, uint64_t n)
{
    int64_t found = 0;

    for (uint64_t i = 0; i < n; i++) {
        struct pollfd p;

        if (copy_in(&p, at + i * sizeof p, sizeof p))
            return -EFAULT;
        struct file *f = p.fd < 0 ? NULL : fd_file((uint64_t)p.fd);

        if (p.fd < 0)
            p.revents = 0;
        else if (!f)
            p.revents = POLLNVAL;
        else
            p.revents = (short)(ready(f) & ((unsigned)p.events | POLLERR | POLLHUP));
        if (copy_out(at + i * sizeof p, &p, sizeof p))
            return -EFAULT;
        found += p.revents != 0;
    }
    return found;
}

static int64_t do_poll(uint64_t at, uint64_t n, uint64_t deadline)
{
    if (n > MAX_FDS)
        return -EINVAL;
    for (;;) {
        int64_t found = poll_once(at, n), err;

        if (found || deadline <= clock_ns())
            return found;
        err = thread_wait(&poll_key, deadline);
        if (err == -ETIMEDOUT)
            return poll_once(at, n);
        if (err)
            return -EINTR;
    }
}

static uint64_t after_ms(uint64_t ms)
{
    return (int32_t)ms < 0 ? NEVER : clock_ns() + (uint32_t)ms * (NS / 1000);
}

static int deadline_in(uint64_t timeout, uint64_t *deadline)
{
    uint64_t ns;
    int err;

    *deadline = NEVER;
    if (!timeout)
        return 0;
    err = timespec_in(timeout, &ns);
    if (!err)
        *deadline = clock_ns() + ns;
    return err;
}

int64_t sys_poll(uint64_t at, uint64_t n, uint64_t ms)
{
    return do_poll(at, n, after_ms(ms));
}

int64_t sys_ppoll(uint64_t at, uint64_t n, uint64_t timeout, uint64_t mask, uint64_t size)
{
    uint64_t deadline;
    int err = deadline_in(timeout, &deadline);

    if (!err)
        err = signal_swap_mask(mask, size);
    return err ? err : do_poll(at, n, deadline);
}

/* --- select --- */

#define SET_WORDS (MAX_FDS / 64)

static int64_t select_once(uint64_t n, uint64_t in[3][SET_WORDS], uint64_t out[3][SET_WORDS])
{
    static const unsigned wants[3] = {POLLIN | POLLHUP | POLLERR, POLLOUT | POLLERR, POLLPRI};
    int64_t found = 0;

    fill(out, 0, 3 * SET_WORDS * 8);
    for (uint64_t fd = 0; fd < n; fd++)
        for (unsigned s = 0; s < 3; s++) {
            if (!(in[s][fd / 64] >> fd % 64 & 1))
                continue;
            struct file *f = fd_file(fd);

            if (!f)
                return -EBADF;
            if (ready(f) & wants[s]) {
                out[s][fd / 64] |= 1ull << fd % 64;
                found++;
            }
        }
    return found;
}

static int64_t do_select(uint64_t n, const uint64_t sets[3], uint64_t deadline)
{
    uint64_t in[3][SET_WORDS] = {0}, out[3][SET_WORDS], bytes;
    int64_t found;

    n = least((uint32_t)n, MAX_FDS);
    bytes = (n + 63) / 64 * 8;
    for (unsigned s = 0; s < 3; s++)
        if (sets[s] && copy_in(in[s], sets[s], bytes))
            return -EFAULT;
    for (;;) {
        found = select_once(n, in, out);
        if (found || deadline <= clock_ns())
            break;
        int64_t err = thread_wait(&poll_key, deadline);

        if (err == -ERESTARTSYS)
            return -EINTR;
    }
    for (unsigned s = 0; s < 3 && found >= 0; s++)
        if (sets[s] && copy_out(sets[s], out[s], bytes))
            return -EFAULT;
    return found;
}

int64_t sys_select(uint64_t n, uint64_t r, uint64_t w, uint64_t e, uint64_t timeout)
{
    uint64_t deadline = NEVER, sets[3] = {r, w, e};
    int64_t t[2];

    if (timeout) {
        if (copy_in(t, timeout, sizeof t))
            return -EFAULT;
        if (t[0] < 0 || t[1] < 0)
            return -EINVAL;
        deadline = clock_ns() + least((uint64_t)t[0], 9000000000) * NS +
                   (uint64_t)t[1] % 1000000000 * 1000;
    }
    return do_select(n, sets, deadline);
}

int64_t sys_pselect6(uint64_t n, uint64_t r, uint64_t w, uint64_t e, uint64_t timeout,
                     uint64_t mask)
{
    uint64_t deadline, sets[3] = {r, w, e}, pair[2] = {0, 0};
    int err = deadline_in(timeout, &deadline);

    if (!err && mask && copy_in(pair, mask, sizeof pair))
        err = -EFAULT;
    if (!err)
        err = signal_swap_mask(pair[0], pair[1]);
    return err ? err : do_select(n, sets, deadline);
}

/* --- epoll --- */

struct watch {
    struct watch *next;
    uint32_t fd, events;
    uint64_t data;
    struct file *file; /* not held: compared with what fd is now */
    uint64_t told;     /* EPOLLET: the change after which it was reported */
};

struct watcher {
    struct watch *list;
};

static unsigned watched(struct watch *w)
{
    struct file *f = fd_file(w->fd);

    if (f != w->file || !(w->events & ~(EPOLLET | EPOLLONESHOT)))
        return 0;
    return ready(f) & (w->events | POLLERR | POLLHUP);
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

    for (struct watch *w = s->list; w; w = w->next)
        if (watched(w) && is_news(w))
            return POLLIN | POLLRDNORM;
    return 0;
}

static void epoll_release(struct file *f)
{
    struct watcher *s = f->data;

    while (s->list) {
        struct watch *w = s->list;

        s->list = w->next;
        kfree(w, sizeof *w);
    }
    kfree(s, sizeof *s);
}

static const struct file_ops epoll_ops = {.poll = epoll_poll, .release = epoll_release};

int64_t sys_epoll_create1(uint64_t flags)
{
    struct watcher *s = kalloc(sizeof *s);
    struct file *f = s ? file_new(&epoll_ops, NULL, O_RDWR) : NULL;

    if (!f)
        return -ENFILE;
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
    struct watch **p;

    if (!ep || !f)
        return -EBADF;
    if (ep->ops != &epoll_ops || ep == f)
        return -EINVAL;
    if (f->ops == &regular_ops || f->ops == &directory_ops)
        return -EPERM;
    if (op != EPOLL_CTL_DEL && copy_in(&ev, at, sizeof ev))
        return -EFAULT;
    p = &((struct watcher *)ep->data)->list;
    while (*p && ((*p)->fd != (uint32_t)fd || (*p)->file != f))
        p = &(*p)->next;
    struct watch *w = *p;

    switch (op) {
    case EPOLL_CTL_ADD:
        if (w)
            return -EEXIST;
        w = kalloc(sizeof *w);
        if (!w)
            return -ENOMEM;
        *w = (struct watch){.fd = (uint32_t)fd, .file = f};
        *p = w;
        break;
    case EPOLL_CTL_MOD:
        if (!w)
            return -ENOENT;
        break;
    case EPOLL_CTL_DEL:
        if (!w)
            return -ENOENT;
        *p = w->next;
        kfree(w, sizeof *w);
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

static int64_t epoll_once(struct watcher *s, uint64_t out, uint64_t max)
{
    uint64_t n = 0;

    for (struct watch *w = s->list; w && n < max; w = w->next) {
        unsigned now = watched(w);

        if (!now || !is_news(w))
            continue;
        w->told = poll_changes;
        struct epoll_event ev = {.events = now, .data = w->data};

        if (copy_out(out + n * sizeof ev, &ev, sizeof ev))
            return n ? (int64_t)n : -EFAULT;
        n++;
        if (w->events & EPOLLONESHOT)
            w->events &= EPOLLET | EPOLLONESHOT;
    }
    return (int64_t)n;
}

static int64_t epoll_wait_until(uint64_t epfd, uint64_t out, uint64_t max, uint64_t deadline)
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
    return epoll_wait_until(epfd, out, max, after_ms(ms));
}

int64_t sys_epoll_pwait2(uint64_t epfd, uint64_t out, uint64_t max, uint64_t timeout, uint64_t mask,
                         uint64_t size)
{
    uint64_t deadline;
    int err = deadline_in(timeout, &deadline);

    if (!err)
        err = signal_swap_mask(mask, size);
    return err ? err : epoll_wait_until(epfd, out, max, deadline);
}

int64_t sys_epoll_pwait(uint64_t epfd, uint64_t out, uint64_t max, uint64_t ms, uint64_t mask,
                        uint64_t size)
{
    int err = signal_swap_mask(mask, size);

    return err ? err : sys_epoll_wait(epfd, out, max, ms);
}
