/* What the stream sockets that hold their bytes in a ring have in common: unix.c, vsock_socket.c.
 */
#ifndef GUESTS_RUNTIME_STREAM_H
#define GUESTS_RUNTIME_STREAM_H

#include "guests/runtime/socket.h"
#include "guests/runtime/ring.h"

struct stream {
    /* Send what can go now: how much, 0: nothing, an error; -EPIPE raises SIGPIPE. */
    int64_t (*push)(struct socket *s, struct span *from);
    struct ring *(*ring)(struct socket *s);
    void (*taken)(struct socket *s, uint64_t n); /* n bytes have left the ring */
    /* Does nothing more come? 1: so it is, 0: it may, or an error. */
    int64_t (*over)(struct socket *s);
};

int64_t stream_send(const struct stream *t, struct socket *s, struct span *from, unsigned flags);
int64_t stream_recv(const struct stream *t, struct socket *s, struct span *to, unsigned *flags);
/* From the program into a ring: how much, 0: it is full; -ENOMEM, -EFAULT. */
int64_t stream_fill(struct ring *r, struct span *from);

#endif
