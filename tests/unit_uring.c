/* The ring from inside: what its restrictions refuse, and what it does where a file says EAGAIN. */
#include "virtio/uring.c"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <unistd.h>
#include "tests/io_fix.h"

static void prepare_ring(void)
{
    unsetenv("MAYFLY_NO_IO_URING");
    cr_assert_eq(io_create(&io, IO_BACKEND_URING), 0);
    if (!io_is_uring(io))
        cr_skip("io_uring is refused here");
}

static void teardown(void)
{
    io_destroy(io);
}

TestSuite(uring, .init = prepare_ring, .fini = teardown, .timeout = 60);

static bool finish(struct call *c, unsigned ms)
{
    uint64_t end = io_now() + ms * 1000000ull;
    unsigned before = c->times;

    while (c->times == before && io_now() < end)
        io_wait(io, io_now() + 1000000, NULL);
    return c->times == before + 1;
}

static struct io_uring *ring(void)
{
    struct uring *u = io->own;

    return &u->ring;
}

/* The result of an operation on a file number that is free. */
static int result(uint8_t opcode, uint8_t flags)
{
    struct call c = CALL;
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring());

    cr_assert_not_null(sqe);
    *sqe = (struct io_uring_sqe){0};
    sqe->opcode = opcode;
    sqe->flags = flags;
    sqe->fd = IO_FILES_MAX - 1;
    sqe->user_data = (uintptr_t)&c;
    cr_assert(finish(&c, 2000), "opcode %u", opcode);
    return c.res;
}

static bool listed(unsigned opcode)
{
    for (unsigned i = 0; i < NALLOWED; i++)
        if (allowed_ops[i] == opcode)
            return true;
    return false;
}

Test(uring, other_operations_are_refused)
{
    cr_assert_eq(io_enable(io), 0);
    /* Opcodes that this kernel has not are -EINVAL: none of them does anything. */
    for (unsigned op = 0; op < 256; op++) {
        if (listed(op))
            continue;
        int r = result((uint8_t)op, IOSQE_FIXED_FILE);

        cr_expect(r == -EACCES || (op > IORING_OP_MSG_RING && r == -EINVAL), "opcode %u: %d", op,
                  r);
    }
}

Test(uring, listed_operations_ask_for_registered_files)
{
    cr_assert_eq(io_enable(io), 0);
    for (unsigned i = 0; i < NALLOWED; i++) {
        uint8_t op = allowed_ops[i];

        cr_expect_neq(result(op, IOSQE_FIXED_FILE), -EACCES, "opcode %u", op);
        cr_expect_eq(result(op, 0), -EACCES, "opcode %u on a descriptor", op);
        cr_expect_eq(result(op, IOSQE_FIXED_FILE | IOSQE_ASYNC), -EACCES, "opcode %u", op);
    }
}

Test(uring, nothing_more_is_registered)
{
    static char page[4096];
    struct iovec iov = {page, sizeof page};
    int fd = 0;

    cr_assert_eq(io_enable(io), 0);
    cr_assert_eq(io_uring_register_buffers(ring(), &iov, 1), -EACCES);
    cr_assert_eq(io_uring_register_eventfd(ring(), fd), -EACCES);
    cr_assert_eq(io_uring_unregister_files(ring()), -EACCES);
    cr_assert_lt(restrict_ring(ring()), 0, "the list is final");
}

/* Kernels before 5.19 answer EAGAIN where a file is O_NONBLOCK; newer ones wait themselves. So the
 * answer is made up here: the file is polled, and read again. */
Test(uring, eagain_is_waited_out)
{
    char buf[16];
    struct call r = CALL;
    int p[2], in;

    cr_assert_eq(io_enable(io), 0);
    cr_assert_eq(pipe2(p, O_NONBLOCK), 0);
    in = io_file_add(io, p[0], 0);
    for (int canceled = 0; canceled < 2; canceled++) {
        r.iov = (struct iovec){buf, sizeof buf};
        r.op = (struct io_op){.done = on_done,
                              .busy = true,
                              .kind = IO_READV,
                              .file = (uint16_t)in,
                              .addr = &r.iov,
                              .len = 1,
                              .off = UINT64_MAX};
        cr_assert(try_later(io, &r.op, -EAGAIN));
        cr_assert(!finish(&r, 5) && r.op.flags & OP_WAITS, "it waits");
        if (canceled)
            io_cancel(io, &r.op);
        else
            cr_assert_eq(write(p[1], "hello", 5), 5);
        cr_assert(finish(&r, 2000));
        cr_assert_eq(r.res, canceled ? -ECANCELED : 5);
        cr_assert(!r.op.busy && !r.op.flags);
    }
    /* Not for files that cannot be polled, nor for other errors. */
    cr_assert(!try_later(io, &r.op, -EIO));
    r.op.file = (uint16_t)io_file_add(io, open("/proc/self/exe", O_RDONLY), 0);
    cr_assert(!try_later(io, &r.op, -EAGAIN));
}

/* A pipe that is full: room lets a write go on, a cancel and the reader's end end it. */
Test(uring, full_pipe)
{
    static char buf[65536];
    struct call w = CALL, r = CALL;
    int p[2];

    cr_assert_eq(io_enable(io), 0);
    cr_assert_eq(pipe2(p, O_NONBLOCK), 0);
    int in = io_file_add(io, p[0], 0), out = io_file_add(io, p[1], 0);

    while (write(p[1], buf, sizeof buf) > 0)
        ;
    write_one(&w, out, buf, 100, UINT64_MAX);
    cr_assert(!finish(&w, 5), "it waits");
    read_one(&r, in, buf, sizeof buf, UINT64_MAX);
    cr_assert(finish(&r, 2000) && r.res == sizeof buf);
    cr_assert((w.times || finish(&w, 2000)) && w.res == 100);
    while (write(p[1], buf, sizeof buf) > 0 || write(p[1], buf, 1) > 0)
        ;
    write_one(&w, out, buf, 100, UINT64_MAX);
    cr_assert(!finish(&w, 5));
    io_cancel(io, &w.op);
    cr_assert(finish(&w, 2000) && w.res == -ECANCELED);
    write_one(&w, out, buf, 100, UINT64_MAX);
    cr_assert(!finish(&w, 5));
    signal(SIGPIPE, SIG_IGN);
    io_file_remove(io, in);
    close(p[0]);
    cr_assert(finish(&w, 2000) && w.res == -EPIPE, "%d", w.res);
}

/* More operations in a pass than the submission queue holds. */
Test(uring, a_full_queue_is_handed_over)
{
    static struct call c[SQ_ENTRIES * 3 + 7];
    int fd = open("/dev/zero", O_RDONLY), f, done = 0;
    char byte;

    cr_assert_eq(io_enable(io), 0);
    f = io_file_add(io, fd, 0);
    for (unsigned i = 0; i < sizeof c / sizeof c[0]; i++) {
        c[i].op.done = on_done;
        read_one(&c[i], f, &byte, 1, 0);
    }
    for (unsigned i = 0; i < sizeof c / sizeof c[0]; i++)
        cr_assert(c[i].times || finish(&c[i], 2000), "%u", i);
    for (unsigned i = 0; i < sizeof c / sizeof c[0]; i++)
        done += c[i].res == 1 && c[i].times == 1;
    cr_assert_eq(done, (int)(sizeof c / sizeof c[0]));
    cr_assert_geq(io_statistics(io)->enters, 3);
}
