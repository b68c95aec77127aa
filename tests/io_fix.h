/* Operations of virtio/io.h that note how they ended. */
#ifndef TESTS_IO_FIX_H
#define TESTS_IO_FIX_H

#include "virtio/io.h"

static struct io *io;

struct call {
    struct io_op op;
    int res;
    unsigned times;
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

#endif
