/* Shared by io.c (what both implementations have) and the implementations, uring.c and iopool.c. */
#ifndef VIRTIO_IO_INT_H
#define VIRTIO_IO_INT_H

#include "virtio/io.h"

enum io_kind {
    IO_READV,
    IO_WRITEV,
    IO_FSYNC,
    IO_FALLOCATE,
    IO_RECVMSG,
    IO_SENDMSG,
    IO_POLL,
};

/* op->flags */
enum {
    OP_MULTISHOT = 1,
    OP_WAITS = 2,  /* for its file to become ready, to be tried again */
    OP_CANCEL = 4, /* asked to end */
};

struct io_impl {
    int (*enable)(struct io *io);
    void (*start)(struct io *io, struct io_op *op);
    void (*cancel)(struct io *io, struct io_op *op);
    void (*wait)(struct io *io, uint64_t until_ns, const sigset_t *mask);
    int (*file_set)(struct io *io, int file, int fd); /* fd -1: removed */
    void (*destroy)(struct io *io);
};

struct io_file {
    int fd; /* -1: free */
    bool poll_only, pollable;
};

struct io {
    const struct io_impl *impl;
    void *own; /* the implementation's */
    const char *refused;
    struct io_file file[IO_FILES_MAX];
    unsigned files; /* in use: all below it */
    bool enabled;
    int wake_fd;
    _Atomic bool asleep;
    struct io_timer *timers; /* sorted */
    struct io_stats stats;
};

/* The op's result has come: hand it to its owner. A multishot that goes on stays busy. */
static inline void io_complete(struct io_op *op, int res, bool goes_on)
{
    op->busy = goes_on;
    if (!goes_on)
        op->flags = 0;
    op->done(op, res);
}

/* 0, or -errno: not allowed, not there. */
int uring_create(struct io *io);
int iopool_create(struct io *io);

#endif
