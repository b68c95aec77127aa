/* Sending to and receiving from a ring of bytes. */
#include "guests/runtime/stream.h"
#include "guests/runtime/process.h"

int64_t stream_fill(struct ring *r, struct span *from)
{
    int64_t done = 0;

    while (from->left) {
        uint64_t n = from->left;
        char *to = ring_room(r, &n);

        if (!to && !n)
            break;
        if (!to || span_read(from, to, n))
            return done ? done : to ? -EFAULT : -ENOMEM;
        ring_add(r, n);
        done += (int64_t)n;
    }
    return done;
}

int64_t stream_send(const struct stream *t, struct socket *s, struct span *from, unsigned flags)
{
    uint64_t began = 0;
    int64_t done = 0, n;

    for (;;) {
        n = t->push(s, from);
        if (n == -EPIPE && !done && !(flags & MSG_NOSIGNAL))
            signal_send(NULL, SIGPIPE, SI_USER, 0);
        if (n < 0)
            return done ? done : n;
        done += n;
        if (!from->left)
            return done;
        n = flags & MSG_DONTWAIT ? -EAGAIN : socket_wait(s, s->send_wait, &began);
        if (n)
            return done ? done : n;
    }
}

static int64_t take(const struct stream *t, struct socket *s, struct span *to, bool peek)
{
    struct ring *r = t->ring(s);
    uint64_t done = 0;

    while (to->left && done < r->len) {
        uint64_t n = to->left;
        char *from = ring_bytes(r, done, &n);

        if (span_write(to, from, n))
            return done ? (int64_t)done : -EFAULT;
        done += n;
    }
    if (!peek && done) {
        ring_drop(r, done);
        t->taken(s, done);
    }
    return (int64_t)done;
}

int64_t stream_recv(const struct stream *t, struct socket *s, struct span *to, unsigned *flags)
{
    unsigned wanted = *flags;
    uint64_t began = 0;
    int64_t done = 0, n;

    *flags = 0;
    for (;;) {
        n = take(t, s, to, wanted & MSG_PEEK);
        if (n < 0)
            return done ? done : n;
        done += n;
        if (!to->left || (done && (wanted & (MSG_PEEK | MSG_WAITALL)) != MSG_WAITALL))
            return done;
        n = t->over(s);
        if (n)
            return done ? done : n < 0 ? n : socket_error(s);
        n = wanted & MSG_DONTWAIT ? -EAGAIN : socket_wait(s, s->receive_wait, &began);
        if (n)
            return done ? done : n;
    }
}
