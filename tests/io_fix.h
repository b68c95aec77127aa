/* Operations of virtio/io.h that note how they ended. */
#ifndef TESTS_IO_FIX_H
#define TESTS_IO_FIX_H

#include "virtio/io.h"

static struct io *io;

struct call {
    struct io_op op;
    int res;
    unsigned times;
    struct iovec iov;
};
static void on_done(struct io_op *op, int res)
{
    struct call *c = (struct call *)op;

    c->res = res;
    c->times++;
}
#define CALL                             \
    (struct call)                        \
    {                                    \
        .op.done = on_done, .res = 12345 \
    }

/* One buffer. */
static void read_one(struct call *c, int file, void *buf, size_t len, uint64_t off)
{
    c->iov = (struct iovec){buf, len};
    io_readv(io, &c->op, file, &c->iov, 1, off);
}
static void write_one(struct call *c, int file, const void *buf, size_t len, uint64_t off)
{
    c->iov = (struct iovec){(void *)(uintptr_t)buf, len};
    io_writev(io, &c->op, file, &c->iov, 1, off);
}

#endif
