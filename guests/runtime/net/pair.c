/* socketpair(AF_UNIX, SOCK_STREAM): two sockets, each with the bytes for it to read. */
#include <linux/in.h>
#include <linux/un.h>
#include "guests/runtime/net.h"
#include "guests/runtime/net/stream.h"

struct end {
    struct socket *socket;
    struct end *other; /* NULL: closed */
    bool no_read, no_write;
    struct ring ring;
};

static int64_t name_of(struct socket *s, struct endpoint *e, bool peer)
{
    (void)s, (void)peer;
    *e = (struct endpoint){0, 0};
    return 0;
}

static void both_changed(struct end *e)
{
    socket_changed(e->socket);
    if (e->other)
        socket_changed(e->other->socket);
}

static int64_t shut(struct socket *s, unsigned how)
{
    struct end *e = s->impl;

    e->no_read |= how != SHUT_WRITE;
    e->no_write |= how != SHUT_READ;
    both_changed(e);
    return 0;
}

/* Into what the other end reads. */
static int64_t push(struct socket *s, struct span *from)
{
    struct end *e = s->impl;

    if (!e->other || e->no_write || e->other->no_read)
        return -EPIPE;
    int64_t n = stream_fill(&e->other->ring, from);

    if (n > 0)
        both_changed(e);
    return n;
}

static struct ring *ring_of(struct socket *s)
{
    return &((struct end *)s->impl)->ring;
}

static void taken(struct socket *s, uint64_t n)
{
    (void)n;
    both_changed(s->impl);
}

static int64_t over(struct socket *s)
{
    const struct end *e = s->impl;

    return !e->other || e->no_read || e->other->no_write;
}

static const struct stream stream = {push, ring_of, taken, over};

static int64_t send_from(struct socket *s, struct span *from, unsigned flags,
                         const struct endpoint *to)
{
    return to ? -EISCONN : stream_send(&stream, s, from, flags);
}

static int64_t recv_to(struct socket *s, struct span *to, unsigned *flags, struct endpoint *from)
{
    (void)from;
    return stream_recv(&stream, s, to, flags);
}

static unsigned readiness(struct socket *s)
{
    enum { IN = 1, OUT = 4, HUP = 16, RDNORM = 64, WRNORM = 256, RDHUP = 0x2000 };
    const struct end *e = s->impl;
    bool end = over(s);

    return (e->ring.len || end ? IN | RDNORM : 0) | (end ? RDHUP : 0) |
           (!e->other || (end && e->no_write) ? HUP : 0) |
           (!e->other || e->other->ring.len < RING_BYTES / 2 ? OUT | WRNORM : 0);
}

static uint64_t readable(struct socket *s)
{
    return ((struct end *)s->impl)->ring.len;
}

static void set_options(struct socket *s)
{
    (void)s;
}

static void close_socket(struct socket *s)
{
    struct end *e = s->impl;

    if (e->other) {
        e->other->other = NULL;
        socket_changed(e->other->socket);
    }
    ring_free(&e->ring);
    kfree(e, sizeof *e);
    socket_free(s);
}

const struct socket_ops pair_ops = {
    .domain = AF_UNIX,
    .type = SOCK_STREAM,
    .name = name_of,
    .shutdown = shut,
    .send = send_from,
    .recv = recv_to,
    .poll = readiness,
    .readable = readable,
    .set = set_options,
    .close = close_socket,
};

static struct end *new_end(void)
{
    struct end *e = kalloc(sizeof *e);

    if (e && !(e->socket = socket_new(&pair_ops))) {
        kfree(e, sizeof *e);
        return NULL;
    }
    if (e)
        e->socket->impl = e;
    return e;
}

int64_t sys_socketpair(uint64_t domain, uint64_t type, uint64_t protocol, uint64_t out)
{
    struct end *a, *b;
    int64_t fd[2];

    if ((uint32_t)domain != AF_UNIX)
        return (uint32_t)domain == AF_INET ? -EOPNOTSUPP : -EAFNOSUPPORT;
    if ((type & 15) != SOCK_STREAM || protocol)
        return -EPROTONOSUPPORT;
    a = new_end();
    b = a ? new_end() : NULL;
    if (!b) {
        if (a)
            close_socket(a->socket);
        return -ENFILE;
    }
    a->other = b;
    b->other = a;
    fd[0] = socket_install(a->socket, type);
    if (fd[0] < 0) {
        close_socket(b->socket);
        return fd[0];
    }
    fd[1] = socket_install(b->socket, type);
    int32_t both[2] = {(int32_t)fd[0], (int32_t)fd[1]};

    if (fd[1] < 0 || copy_out(out, both, sizeof both)) {
        sys_close((uint64_t)fd[0]);
        if (fd[1] >= 0)
            sys_close((uint64_t)fd[1]);
        return fd[1] < 0 ? fd[1] : -EFAULT;
    }
    return 0;
}
