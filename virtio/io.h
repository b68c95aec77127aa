/*
 * Asynchronous I/O for devices: start an operation, get a call when it is done. One struct io a VM,
 * owned by the I/O thread; everything but io_wake() is called on that thread only, callbacks too.
 *
 * Two implementations, one behaviour: io_uring (uring.c), and where that is refused a poll loop
 * with a few threads for what blocks (iopool.c). Devices cannot tell.
 *
 * Nothing is submitted on its own: operations started in one pass of the loop go to the kernel
 * together in the io_wait() that ends it. So start as many as there are; there is no flush.
 */
#ifndef VIRTIO_IO_H
#define VIRTIO_IO_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct io;
struct io_op;

/* res: as the system call's result, or -errno (-ECANCELED after io_cancel()). The op is the
 * caller's again (may be freed or started anew from inside the callback) unless it is a multishot
 * poll that goes on: see io_poll(). Short reads and writes happen as with the system call. */
typedef void io_done(struct io_op *op, int res);

/* Embed it in the request. Owned by io from the start to the callback: not moved, not reused.
 * Buffers, iovecs and msghdrs given with it stay valid as long. Zero it once. */
struct io_op {
    io_done *done; /* set by the caller before starting */
    /* --- io's own --- */
    struct io_op *next, **prev;
    uint8_t kind, flags;
    bool busy;
    bool queued; /* iopool.c: with its threads, not begun; under its lock */
    uint16_t file;
    uint32_t len;
    uint64_t off;
    void *addr;
    uint64_t aux;
    int res;
};

/* --- files ---
 * Operations name files by number, not descriptor: the ring may touch no others. */
enum {
    IO_POLL_ONLY = 1, /* only io_poll() is used on it; its O_NONBLOCK is left alone (stdin...) */
};
/* The number for fd (>= 0), or -errno (-ENFILE: the table of IO_FILES_MAX is full). At any time;
 * what is added in attach() is registered with the ring's creation, later each costs one system
 * call. fd stays the caller's to close, after io_file_remove(). Unless IO_POLL_ONLY, a socket,
 * pipe or tap may be made O_NONBLOCK. */
#define IO_FILES_MAX 2048
int io_file_add(struct io *io, int fd, unsigned flags);
/* No operation on it may be in flight. */
void io_file_remove(struct io *io, int file);

/* --- operations: never fail at once, errors come by callback (never from within the call) --- */
void io_readv(struct io *io, struct io_op *op, int file, const struct iovec *iov, unsigned n,
              uint64_t off); /* off UINT64_MAX: a stream, no position */
void io_writev(struct io *io, struct io_op *op, int file, const struct iovec *iov, unsigned n,
               uint64_t off);
void io_fsync(struct io *io, struct io_op *op, int file, bool data_only);
void io_fallocate(struct io *io, struct io_op *op, int file, int mode, uint64_t off, uint64_t len);
/* MSG_DONTWAIT in flags: -EAGAIN where it would wait. */
void io_recvmsg(struct io *io, struct io_op *op, int file, struct msghdr *msg, unsigned flags);
void io_sendmsg(struct io *io, struct io_op *op, int file, const struct msghdr *msg,
                unsigned flags); /* MSG_NOSIGNAL is added */
/* events: POLLIN, POLLOUT...; res: the events. multishot: the callback comes again and again and
 * the op stays io's until io_cancel() (op->busy says so inside the callback: a multishot may also
 * end by itself with an error or after POLLHUP, with busy false). Each call means "look until
 * -EAGAIN": whether unread input reports itself again is not promised. */
void io_poll(struct io *io, struct io_op *op, int file, unsigned events, bool multishot);

/* Ask for an op in flight to end soon: its callback comes once, later, with -ECANCELED, or with
 * its result when it was faster. File reads and writes that have begun run to their end. An op
 * that is not in flight is ignored. */
void io_cancel(struct io *io, struct io_op *op);

/* --- timers: no system call each --- */
struct io_timer {
    void (*fire)(struct io_timer *t); /* set by the caller */
    uint64_t at;                      /* CLOCK_MONOTONIC ns; 0: not armed */
    struct io_timer *next;
};
void io_timer_set(struct io *io, struct io_timer *t, uint64_t at_ns); /* 0 disarms; also re-arms */
uint64_t io_now(void);                                                /* CLOCK_MONOTONIC, ns */

/* --- waking, from any thread and from a signal's handler --- */
/* Make the current or next io_wait() return soon. One atomic exchange, and a system call only when
 * the I/O thread sleeps. Store what it is to see first. */
void io_wake(struct io *io);

/* --- for the loop (monitor/loop.c) --- */
enum io_backend {
    IO_BACKEND_POLL,  /* ppoll(): costs nothing to make; threads only once a file op is started */
    IO_BACKEND_URING, /* io_uring; becomes IO_BACKEND_POLL where that is refused */
};
/* On the I/O thread. 0 or -errno. */
int io_create(struct io **io, enum io_backend want);
/* What a thread of the fallback runs first (its seccomp filter); 0 or -errno. Set before
 * io_enable(). */
extern int (*io_pool_confine)(void);
/* After the attach() calls, before any operation is waited for: register the files, limit the ring
 * to the listed operations on registered files, switch it on. May fall back: refused() says so. */
int io_enable(struct io *io);
/* NULL: runs on what was asked for. Else why io_uring is not used, for the notice. */
const char *io_refused(const struct io *io);
/* Say that a sleep is coming: from here on io_wake() makes the next io_wait() return at once. What
 * may have been stored before is to be looked for after this, and before io_wait(). */
void io_doze(struct io *io);
/* Submit what was started, sleep until something happens or CLOCK_MONOTONIC until_ns (0: no limit,
 * 1: do not sleep), with mask as the signal mask meanwhile; run callbacks and timers. A handler
 * alone does not end the sleep: liburing enters again when the call it interrupted had submitted
 * something. So a handler calls io_wake(). */
void io_wait(struct io *io, uint64_t until_ns, const sigset_t *mask);
void io_destroy(struct io *io);

struct io_stats {
    uint64_t ops, enters, waits, wakes; /* wakes: eventfd writes */
};
const struct io_stats *io_statistics(const struct io *io);
bool io_is_uring(const struct io *io);

#endif
