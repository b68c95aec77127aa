/* Asynchronous I/O: files, timers, waking, and the start of operations, whoever carries them out.
 */
#include "virtio/io_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int (*io_pool_confine)(void);

uint64_t io_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- files --- */

int io_file_add(struct io *io, int fd, unsigned flags)
{
    unsigned at = 0;
    struct stat st;

    while (at < io->files && io->file[at].fd >= 0)
        at++;
    if (at == IO_FILES_MAX)
        return -ENFILE;
    if (fstat(fd, &st))
        return -errno;
    io->file[at] = (struct io_file){
        .fd = fd,
        .poll_only = flags & IO_POLL_ONLY,
        .pollable = !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISDIR(st.st_mode),
    };
    int err = io->impl->file_set(io, (int)at, fd);

    if (err) {
        io->file[at].fd = -1;
        return err;
    }
    if (at == io->files)
        io->files++;
    return (int)at;
}

void io_file_remove(struct io *io, int file)
{
    if (file < 0 || (unsigned)file >= io->files || io->file[file].fd < 0)
        return;
    io->impl->file_set(io, file, -1);
    io->file[file].fd = -1;
}

/* --- operations --- */

static void start(struct io *io, struct io_op *op, enum io_kind kind, int file)
{
    op->kind = (uint8_t)kind;
    op->flags = 0;
    op->busy = true;
    op->file = (uint16_t)file;
    io->stats.ops++;
    io->impl->start(io, op);
}

void io_readv(struct io *io, struct io_op *op, int file, const struct iovec *iov, unsigned n,
              uint64_t off)
{
    op->addr = (void *)iov;
    op->len = n;
    op->off = off;
    start(io, op, IO_READV, file);
}

void io_writev(struct io *io, struct io_op *op, int file, const struct iovec *iov, unsigned n,
               uint64_t off)
{
    op->addr = (void *)iov;
    op->len = n;
    op->off = off;
    start(io, op, IO_WRITEV, file);
}

void io_fsync(struct io *io, struct io_op *op, int file, bool data_only)
{
    op->aux = data_only;
    start(io, op, IO_FSYNC, file);
}

void io_fallocate(struct io *io, struct io_op *op, int file, int mode, uint64_t off, uint64_t len)
{
    op->off = off;
    op->aux = len;
    op->len = (uint32_t)mode;
    start(io, op, IO_FALLOCATE, file);
}

void io_recvmsg(struct io *io, struct io_op *op, int file, struct msghdr *msg, unsigned flags)
{
    op->addr = msg;
    op->len = flags;
    start(io, op, IO_RECVMSG, file);
}

void io_sendmsg(struct io *io, struct io_op *op, int file, const struct msghdr *msg, unsigned flags)
{
    op->addr = (void *)msg;
    op->len = flags | MSG_NOSIGNAL;
    start(io, op, IO_SENDMSG, file);
}

void io_poll(struct io *io, struct io_op *op, int file, unsigned events, bool multishot)
{
    op->len = events;
    op->aux = multishot;
    start(io, op, IO_POLL, file);
}

void io_cancel(struct io *io, struct io_op *op)
{
    if (!op->busy || op->flags & OP_CANCEL)
        return;
    op->flags |= OP_CANCEL;
    io->impl->cancel(io, op);
}

/* --- timers --- */

void io_timer_set(struct io *io, struct io_timer *t, uint64_t at_ns)
{
    struct io_timer **p;

    if (t->at)
        for (p = &io->timers; *p; p = &(*p)->next)
            if (*p == t) {
                *p = t->next;
                break;
            }
    t->at = at_ns;
    if (!at_ns)
        return;
    for (p = &io->timers; *p && (*p)->at <= at_ns;)
        p = &(*p)->next;
    t->next = *p;
    *p = t;
}

static void run_timers(struct io *io)
{
    if (!io->timers)
        return;
    uint64_t now = io_now();

    /* One that arms itself anew for a time that has passed comes with the next pass. */
    for (struct io_timer *t; (t = io->timers) && t->at <= now;) {
        io->timers = t->next;
        t->at = 0;
        t->fire(t);
    }
}

/* --- waking and waiting --- */

void io_wake(struct io *io)
{
    uint64_t one = 1;

    if (!atomic_load(&io->asleep) || !atomic_exchange(&io->asleep, false))
        return;
    __atomic_fetch_add(&io->stats.wakes, 1, __ATOMIC_RELAXED);
    (void)!write(io->wake_fd, &one, sizeof one);
}

void io_doze(struct io *io)
{
    atomic_store(&io->asleep, true);
}

void io_wait(struct io *io, uint64_t until_ns, const sigset_t *mask)
{
    if (io->timers && (!until_ns || io->timers->at < until_ns))
        until_ns = io->timers->at;
    io->stats.waits++;
    io->impl->wait(io, until_ns, mask);
    run_timers(io);
}

/* --- making it --- */

int io_create(struct io **out, enum io_backend want)
{
    struct io *io = calloc(1, sizeof *io);
    int err = 0;

    if (!io)
        return -ENOMEM;
    io->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (io->wake_fd < 0)
        err = -errno;
    if (!err && want == IO_BACKEND_URING) {
        /* For tests, and for whoever distrusts io_uring. */
        err = getenv("MAYFLY_NO_IO_URING") ? -EPERM : uring_create(io);
        if (err) {
            io->refused = getenv("MAYFLY_NO_IO_URING") ? "MAYFLY_NO_IO_URING is set"
                          : err == -EPERM              ? "this system forbids it"
                          : err == -EMFILE ? "too few open files are allowed (ulimit -n)"
                                           : "this kernel's is missing or too old";
            want = IO_BACKEND_POLL;
            err = 0;
        }
    }
    if (!err && want == IO_BACKEND_POLL)
        err = iopool_create(io);
    if (err) {
        if (io->wake_fd >= 0)
            close(io->wake_fd);
        free(io);
        return err;
    }
    *out = io;
    return 0;
}

int io_enable(struct io *io)
{
    int err = io->impl->enable ? io->impl->enable(io) : 0;

    io->enabled = !err;
    return err;
}

const char *io_refused(const struct io *io)
{
    return io->refused;
}

const struct io_stats *io_statistics(const struct io *io)
{
    return &io->stats;
}

void io_destroy(struct io *io)
{
    io->impl->destroy(io);
    close(io->wake_fd);
    free(io);
}
