/*
 * Asynchronous I/O by io_uring. One io_uring_enter() a pass: it submits all that was started, and
 * waits. Only the I/O thread touches the ring (SINGLE_ISSUER), so completions run in its own
 * enter (DEFER_TASKRUN) and interrupt nothing.
 *
 * Guest memory is not registered as fixed buffers: that would pin all of it, which costs the launch
 * and takes ballooning away; the kernel pins the pages of each direct request instead.
 */
#include "virtio/io_int.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define SQ_ENTRIES 256u
#define CQ_ENTRIES 2048u
#define CQE_BATCH  64u

struct uring {
    struct io *io;
    struct io_uring ring;
    struct io_op wake;
    int wake_file;
};

static const uint8_t allowed_ops[] = {
    IORING_OP_READV,   IORING_OP_WRITEV,    IORING_OP_FSYNC,    IORING_OP_RECVMSG,
    IORING_OP_SENDMSG, IORING_OP_FALLOCATE, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL,
};
#define NALLOWED (sizeof allowed_ops / sizeof allowed_ops[0])

static struct io_uring_sqe *get_sqe(struct io *io)
{
    struct uring *u = io->own;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

    /* Full: the kernel takes all that is there. */
    while (!sqe) {
        io->stats.enters++;
        io_uring_submit(&u->ring);
        sqe = io_uring_get_sqe(&u->ring);
    }
    return sqe;
}

static void prepare(struct io_uring_sqe *sqe, const struct io_op *op)
{
    int f = op->file;

    if (op->flags & OP_WAITS) {
        io_uring_prep_poll_add(sqe, f, op->kind == IO_READV ? POLLIN : POLLOUT);
        return;
    }
    switch ((enum io_kind)op->kind) {
    case IO_READV:
        io_uring_prep_readv(sqe, f, op->addr, op->len, op->off);
        break;
    case IO_WRITEV:
        io_uring_prep_writev(sqe, f, op->addr, op->len, op->off);
        break;
    case IO_FSYNC:
        io_uring_prep_fsync(sqe, f, op->aux ? IORING_FSYNC_DATASYNC : 0);
        break;
    case IO_FALLOCATE:
        io_uring_prep_fallocate(sqe, f, (int)op->len, (off_t)op->off, (off_t)op->aux);
        break;
    case IO_RECVMSG:
        io_uring_prep_recvmsg(sqe, f, op->addr, op->len);
        break;
    case IO_SENDMSG:
        io_uring_prep_sendmsg(sqe, f, op->addr, op->len);
        break;
    case IO_POLL:
        if (op->aux)
            io_uring_prep_poll_multishot(sqe, f, op->len);
        else
            io_uring_prep_poll_add(sqe, f, op->len);
        break;
    }
}

static void uring_start(struct io *io, struct io_op *op)
{
    struct io_uring_sqe *sqe = get_sqe(io);

    prepare(sqe, op);
    sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(sqe, op);
}

static void uring_cancel(struct io *io, struct io_op *op)
{
    struct io_uring_sqe *sqe = get_sqe(io);

    io_uring_prep_cancel(sqe, op, 0);
    sqe->flags |= IOSQE_FIXED_FILE; /* means nothing here, but the restrictions ask for it */
    io_uring_sqe_set_data(sqe, NULL);
}

/* A tap or a pipe that is O_NONBLOCK says EAGAIN where the ring could have waited: do it by poll,
 * then try again. */
static bool try_later(struct io *io, struct io_op *op, int res)
{
    bool stream = op->kind <= IO_WRITEV && io->file[op->file].pollable;

    if (op->flags & OP_WAITS) {
        op->flags &= (uint8_t)~OP_WAITS;
        if (res < 0 || op->flags & OP_CANCEL)
            return false;
        uring_start(io, op);
        return true;
    }
    if (!stream || res != -EAGAIN || op->flags & OP_CANCEL)
        return false;
    op->flags |= OP_WAITS;
    uring_start(io, op);
    return true;
}

static void reap(struct io *io)
{
    struct uring *u = io->own;
    struct io_uring_cqe *cqe[CQE_BATCH];
    struct {
        struct io_op *op;
        int res;
        bool more;
    } got[CQE_BATCH];
    unsigned n;

    /* Copied out first: callbacks start new operations. What they complete at once waits for the
     * next pass. */
    for (unsigned round = 0; round < CQ_ENTRIES / CQE_BATCH; round++) {
        n = io_uring_peek_batch_cqe(&u->ring, cqe, CQE_BATCH);
        if (!n)
            return;
        for (unsigned i = 0; i < n; i++) {
            got[i].op = io_uring_cqe_get_data(cqe[i]);
            got[i].res = cqe[i]->res;
            got[i].more = cqe[i]->flags & IORING_CQE_F_MORE;
        }
        io_uring_cq_advance(&u->ring, n);
        for (unsigned i = 0; i < n; i++) {
            struct io_op *op = got[i].op;

            if (!op || try_later(io, op, got[i].res))
                continue;
            io_complete(op, op->flags & OP_CANCEL && got[i].res == -EINTR ? -ECANCELED : got[i].res,
                        got[i].more);
        }
    }
}

static void uring_wait(struct io *io, uint64_t until_ns, const sigset_t *mask)
{
    struct uring *u = io->own;
    struct io_uring_cqe *cqe;

    io->stats.enters++;
    uint64_t now = until_ns > 1 ? io_now() : 0;

    if (until_ns && until_ns <= now + 1) {
        io_uring_submit_and_get_events(&u->ring);
    } else {
        uint64_t ns = until_ns - now;
        struct __kernel_timespec ts = {.tv_sec = (long long)(ns / 1000000000u),
                                       .tv_nsec = (long long)(ns % 1000000000u)};

        io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, until_ns ? &ts : NULL,
                                         (sigset_t *)mask);
    }
    atomic_store(&io->asleep, false);
    reap(io);
}

static int uring_file_set(struct io *io, int file, int fd)
{
    struct uring *u = io->own;
    int r = io_uring_register_files_update(&u->ring, (unsigned)file, &fd, 1);

    return r < 0 ? r : 0;
}

/* The doorbell of io_wake(). Each write reports itself anew, so it is never read. */
static void woken(struct io_op *op, int res)
{
    struct uring *u = (struct uring *)((char *)op - offsetof(struct uring, wake));

    (void)res;
    if (!op->busy)
        io_poll(u->io, op, u->wake_file, POLLIN, true);
}

static int restrict_ring(struct io_uring *ring)
{
    struct io_uring_restriction r[NALLOWED + 3] = {
        {.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_FILES_UPDATE},
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE},
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE},
    };

    for (unsigned i = 0; i < NALLOWED; i++) {
        r[3 + i].opcode = IORING_RESTRICTION_SQE_OP;
        r[3 + i].sqe_op = allowed_ops[i];
    }
    return io_uring_register_restrictions(ring, r, NALLOWED + 3);
}

static int uring_enable(struct io *io)
{
    struct uring *u = io->own;
    int err = restrict_ring(&u->ring);

    return err ? err : io_uring_enable_rings(&u->ring);
}

static void uring_destroy(struct io *io)
{
    struct uring *u = io->own;

    io_uring_queue_exit(&u->ring);
    free(u);
}

static const struct io_impl uring_impl = {
    .enable = uring_enable,
    .start = uring_start,
    .cancel = uring_cancel,
    .wait = uring_wait,
    .file_set = uring_file_set,
    .destroy = uring_destroy,
};

bool io_is_uring(const struct io *io)
{
    return io->impl == &uring_impl;
}

static int setup(struct io_uring *ring)
{
    /* From the newest to what 5.13 knows (multishot poll, restrictions). */
    static const unsigned flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
        0,
    };
    int err = -EINVAL;

    for (unsigned i = 0; i < sizeof flags / sizeof flags[0] && err == -EINVAL; i++) {
        struct io_uring_params p = {
            .flags = flags[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE,
            .cq_entries = CQ_ENTRIES,
        };

        err = io_uring_queue_init_params(SQ_ENTRIES, ring, &p);
        if (!err && !(p.features & IORING_FEAT_EXT_ARG)) {
            io_uring_queue_exit(ring);
            err = -ENOSYS;
        }
    }
    return err;
}

static int register_table(struct io_uring *ring)
{
    int fds[IO_FILES_MAX];
    int err = io_uring_register_files_sparse(ring, IO_FILES_MAX);

    if (err != -EINVAL)
        return err;
    memset(fds, 0xff, sizeof fds);
    return io_uring_register_files(ring, fds, IO_FILES_MAX);
}

int uring_create(struct io *io)
{
    struct uring *u = calloc(1, sizeof *u);

    if (!u)
        return -ENOMEM;
    int err = setup(&u->ring);

    if (err) {
        free(u);
        return err;
    }
    err = register_table(&u->ring);
    u->io = io;
    io->own = u;
    io->impl = &uring_impl;
    if (!err) {
        u->wake_file = io_file_add(io, io->wake_fd, IO_POLL_ONLY);
        err = u->wake_file < 0 ? u->wake_file : 0;
    }
    if (err) {
        uring_destroy(io);
        io->impl = NULL;
        io->files = 0;
        return err;
    }
    u->wake.done = woken;
    io_poll(io, &u->wake, u->wake_file, POLLIN, true);
    return 0;
}
