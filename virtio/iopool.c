/*
 * Asynchronous I/O without io_uring: one ppoll() for what can be polled, a few threads for file
 * reads and writes, which block. The threads exist only where a device is there to need them.
 */
#include "virtio/io_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS 4u

struct list {
    struct io_op *first, **end;
};

struct pool {
    struct io *io;
    /* I/O thread: fresh: to be tried; waiting: for their file */
    struct list fresh, waiting;
    unsigned nthreads;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct list queue, done; /* under lock */
};

/* --- lists --- */

static void list_init(struct list *l)
{
    l->first = NULL;
    l->end = &l->first;
}

static void list_add(struct list *l, struct io_op *op)
{
    op->next = NULL;
    op->prev = l->end;
    *l->end = op;
    l->end = &op->next;
}

static void list_remove(struct list *l, struct io_op *op)
{
    *op->prev = op->next;
    if (op->next)
        op->next->prev = op->prev;
    else
        l->end = op->prev;
}

/* All of l, in a list that has its own head. */
static void list_take_all(struct list *l, struct list *to)
{
    *to = *l;
    if (to->first)
        to->first->prev = &to->first;
    else
        to->end = &to->first;
    list_init(l);
}

static struct io_op *list_take(struct list *l)
{
    struct io_op *op = l->first;

    if (op)
        list_remove(l, op);
    return op;
}

/* --- carrying out --- */

static int result(ssize_t r)
{
    return r < 0 ? -errno : (int)r;
}

/* A large transfer in one call never ends above 2 GiB, so an int holds it. */
static int carry_out(struct io_op *op, int fd)
{
    bool stream = op->off == UINT64_MAX;
    off_t off = (off_t)op->off;

    switch ((enum io_kind)op->kind) {
    case IO_READV:
        return result(stream ? readv(fd, op->addr, (int)op->len)
                             : preadv(fd, op->addr, (int)op->len, off));
    case IO_WRITEV:
        return result(stream ? writev(fd, op->addr, (int)op->len)
                             : pwritev(fd, op->addr, (int)op->len, off));
    case IO_FSYNC:
        return result(op->aux ? fdatasync(fd) : fsync(fd));
    case IO_FALLOCATE:
        return result(fallocate(fd, (int)op->len, off, (off_t)op->aux));
    case IO_RECVMSG:
        return result(recvmsg(fd, op->addr, (int)op->len | MSG_DONTWAIT));
    case IO_SENDMSG:
        return result(sendmsg(fd, op->addr, (int)op->len | MSG_DONTWAIT));
    default:
        return -EINVAL;
    }
}

static void *pool_thread(void *arg)
{
    struct pool *p = arg;

    if (io_pool_confine && io_pool_confine())
        _exit(125);
    for (;;) {
        pthread_mutex_lock(&p->lock);
        while (!p->queue.first)
            pthread_cond_wait(&p->more, &p->lock);
        struct io_op *op = list_take(&p->queue);

        op->queued = false; /* too late to take it back */
        int fd = p->io->file[op->file].fd;

        pthread_mutex_unlock(&p->lock);
        int res = carry_out(op, fd);

        pthread_mutex_lock(&p->lock);
        op->res = res;
        list_add(&p->done, op);
        pthread_mutex_unlock(&p->lock);
        io_wake(p->io);
    }
    return NULL;
}

/* --- the I/O thread's side --- */

static bool reads(const struct io_op *op)
{
    return op->kind == IO_READV || op->kind == IO_RECVMSG;
}

/* Where its file is not ready: is that its result? */
static bool waits_not(const struct io_op *op)
{
    return (op->kind == IO_RECVMSG || op->kind == IO_SENDMSG) && op->len & MSG_DONTWAIT;
}

static void pool_start(struct io *io, struct io_op *op)
{
    struct pool *p = io->own;

    op->res = 0;
    if (op->kind == IO_POLL) {
        op->flags |= OP_WAITS;
        list_add(&p->waiting, op);
    } else if (io->file[op->file].pollable || !p->nthreads) {
        list_add(&p->fresh, op);
    } else {
        pthread_mutex_lock(&p->lock);
        op->queued = true;
        list_add(&p->queue, op);
        pthread_cond_signal(&p->more);
        pthread_mutex_unlock(&p->lock);
    }
}

static void pool_cancel(struct io *io, struct io_op *op)
{
    struct pool *p = io->own;

    /* Its callback comes from the next wait. With the threads: only if none has taken it yet. */
    if (io->file[op->file].pollable || !p->nthreads || op->kind == IO_POLL) {
        if (op->flags & OP_WAITS) {
            list_remove(&p->waiting, op);
            list_add(&p->fresh, op);
        }
        return;
    }
    pthread_mutex_lock(&p->lock);
    if (op->queued) {
        op->queued = false;
        list_remove(&p->queue, op);
        op->res = -ECANCELED;
        list_add(&p->done, op);
    }
    pthread_mutex_unlock(&p->lock);
}

/* Try what is fresh; what would block waits for its file. true: something was completed. */
static bool try_fresh(struct pool *p)
{
    struct list now;
    struct io_op *op;
    bool any = false;

    list_take_all(&p->fresh, &now);
    while ((op = list_take(&now))) {
        if (op->flags & OP_CANCEL) {
            io_complete(op, -ECANCELED, false);
            any = true;
            continue;
        }
        int res = carry_out(op, p->io->file[op->file].fd);

        if (res == -EAGAIN && !waits_not(op)) {
            op->flags |= OP_WAITS;
            list_add(&p->waiting, op);
        } else {
            io_complete(op, res, false);
            any = true;
        }
    }
    return any;
}

/* A file became ready for op. */
static void ready(struct pool *p, struct io_op *op, int revents)
{
    if (op->kind == IO_POLL) {
        bool goes_on = op->aux && !(revents & (POLLERR | POLLHUP | POLLNVAL));

        if (!goes_on)
            list_remove(&p->waiting, op);
        io_complete(op, revents & POLLNVAL ? -EBADF : revents, goes_on);
        return;
    }
    int res = carry_out(op, p->io->file[op->file].fd);

    if (res == -EAGAIN)
        return;
    list_remove(&p->waiting, op);
    io_complete(op, res, false);
}

static bool has_done(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    bool any = p->done.first != NULL;

    pthread_mutex_unlock(&p->lock);
    return any;
}

static void take_done(struct pool *p)
{
    struct list now;
    struct io_op *op;

    pthread_mutex_lock(&p->lock);
    list_take_all(&p->done, &now);
    pthread_mutex_unlock(&p->lock);
    while ((op = list_take(&now)))
        io_complete(op, op->res, false);
}

static void pool_wait(struct io *io, uint64_t until_ns, const sigset_t *mask)
{
    struct pool *p = io->own;
    struct pollfd fds[IO_FILES_MAX + 1];
    struct io_op *ops[IO_FILES_MAX + 1];
    struct timespec ts = {0}, *timeout = &ts;
    unsigned n = 1;
    uint64_t now = until_ns > 1 ? io_now() : 0;

    fds[0] = (struct pollfd){.fd = io->wake_fd, .events = POLLIN};
    /* What callbacks did is to be seen by whoever runs after this wait. */
    if (try_fresh(p))
        until_ns = 1;
    for (struct io_op *op = p->waiting.first; op && n <= IO_FILES_MAX; op = op->next, n++) {
        short events = op->kind == IO_POLL ? (short)op->len : (short)(reads(op) ? POLLIN : POLLOUT);

        ops[n] = op;
        fds[n] = (struct pollfd){.fd = io->file[op->file].fd, .events = events};
    }
    /* Results, and what callbacks started, wait for no event. */
    if (p->fresh.first || (p->nthreads && has_done(p)))
        until_ns = 1;
    if (!until_ns) {
        timeout = NULL;
    } else if (until_ns > now && until_ns > 1) {
        uint64_t ns = until_ns - now;

        ts = (struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
                               .tv_nsec = (long)(ns % 1000000000u)};
    }
    io->stats.enters++;
    int got = ppoll(fds, n, timeout, mask);

    atomic_store(&io->asleep, false);
    if (got > 0 && fds[0].revents) {
        uint64_t count;

        (void)!read(io->wake_fd, &count, sizeof count);
    }
    /* A callback may cancel another op of this list: then that one is no longer waiting. */
    for (unsigned i = 1; i < n && got > 0; i++)
        if (fds[i].revents && ops[i]->busy && ops[i]->flags & OP_WAITS &&
            !(ops[i]->flags & OP_CANCEL))
            ready(p, ops[i], fds[i].revents);
    if (p->nthreads)
        take_done(p);
}

static int pool_file_set(struct io *io, int file, int fd)
{
    const struct io_file *f = &io->file[file];

    if (fd >= 0 && f->pollable && !f->poll_only) {
        int flags = fcntl(fd, F_GETFL);

        if (flags < 0 || (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK)))
            return -errno;
    }
    return 0;
}

/* Threads where io_uring was asked for: devices are there. */
static int pool_enable(struct io *io)
{
    struct pool *p = io->own;

    if (!io->refused)
        return 0;
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_t t;
        int err = pthread_create(&t, NULL, pool_thread, p);

        if (err)
            return p->nthreads ? 0 : -err;
        pthread_detach(t);
        p->nthreads++;
    }
    return 0;
}

/* Its threads run to the end of the process: only a pool without them is given back. */
static void pool_destroy(struct io *io)
{
    struct pool *p = io->own;

    if (!p->nthreads)
        free(p);
}

static const struct io_impl pool_impl = {
    .enable = pool_enable,
    .start = pool_start,
    .cancel = pool_cancel,
    .wait = pool_wait,
    .file_set = pool_file_set,
    .destroy = pool_destroy,
};

int iopool_create(struct io *io)
{
    struct pool *p = calloc(1, sizeof *p);

    if (!p)
        return -ENOMEM;
    p->io = io;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
    list_init(&p->fresh);
    list_init(&p->waiting);
    list_init(&p->queue);
    list_init(&p->done);
    io->own = p;
    io->impl = &pool_impl;
    return 0;
}
