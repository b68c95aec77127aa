/* Stream sockets of AF_VSOCK. */
#include "guests/runtime/net/vsock.h"
#include "guests/runtime/process.h"

#define CONNECT_WAIT (2 * NS)

struct sockaddr_vm { /* linux/vm_sockets.h */
    uint16_t family, reserved;
    uint32_t port, cid;
    uint8_t flags, zero[3];
};

int vsock_address_in(struct endpoint *e, uint64_t at, uint64_t len)
{
    struct sockaddr_vm a;

    if ((uint32_t)len < sizeof a)
        return -EINVAL;
    if (copy_in(&a, at, sizeof a))
        return -EFAULT;
    if (a.family != AF_VSOCK)
        return -EAFNOSUPPORT;
    *e = (struct endpoint){.address = a.cid, .port = a.port};
    return 0;
}

int vsock_address_out(const struct endpoint *e, uint64_t at, uint32_t room, uint64_t len_at)
{
    struct sockaddr_vm a = {.family = AF_VSOCK, .port = e->port, .cid = e->address};
    uint32_t size = sizeof a;

    return copy_out(at, &a, least(room, size)) || copy_out(len_at, &size, sizeof size) ? -EFAULT
                                                                                       : 0;
}

int64_t vsock_socket(uint64_t type, uint64_t protocol)
{
    struct socket *s;

    if ((type & 15) != SOCK_STREAM)
        return -ESOCKTNOSUPPORT;
    if (protocol && protocol != AF_VSOCK)
        return -EPROTONOSUPPORT;
    if (!vsock_there())
        return -ENODEV;
    s = socket_new(&vsock_ops);
    if (!s)
        return -ENOMEM;
    s->impl = vsock_new(s);
    if (!s->impl) {
        socket_free(s);
        return -ENOMEM;
    }
    return socket_install(s, type);
}

static int64_t vsock_bind(struct socket *s, const struct endpoint *e)
{
    struct vsock *v = s->impl;

    if (v->state != VSOCK_NEW || v->port)
        return -EINVAL;
    if (e->address != VSOCK_ANY && e->address != vsock_cid())
        return -EADDRNOTAVAIL;
    if (e->port != VSOCK_ANY && vsock_port_taken(e->port))
        return -EADDRINUSE;
    v->port = e->port == VSOCK_ANY ? vsock_free_port() : e->port;
    return 0;
}

static int64_t vsock_listen(struct socket *s, unsigned backlog)
{
    struct vsock *v = s->impl;

    if (v->state != VSOCK_LISTENS && (v->state != VSOCK_NEW || !v->port))
        return -EINVAL;
    v->state = VSOCK_LISTENS;
    v->backlog = backlog ? backlog : 1;
    return 0;
}

static struct socket *vsock_accept(struct socket *s, bool wait, int64_t *err)
{
    struct vsock *v = s->impl;
    uint64_t began = 0;

    while (v->state == VSOCK_LISTENS && !v->queue) {
        *err = wait ? socket_wait(s, s->receive_wait, &began) : -EAGAIN;
        if (*err)
            return NULL;
    }
    struct vsock *got = v->queue;

    if (v->state != VSOCK_LISTENS) {
        *err = -EINVAL;
        return NULL;
    }
    v->queue = got->next_queued;
    v->queued--;
    return got->socket;
}

static int64_t vsock_connect(struct socket *s, const struct endpoint *e, bool wait)
{
    struct vsock *v = s->impl;
    uint64_t began = 0;
    int64_t err = 0;

    if (v->state == VSOCK_UP)
        return -EISCONN;
    if (v->state != VSOCK_NEW)
        return v->state == VSOCK_ASKS ? -EALREADY : -EINVAL;
    if (e->address != VSOCK_HOST)
        return -ENETUNREACH;
    v->port = v->port ? v->port : vsock_free_port();
    v->peer = e->address;
    v->peer_port = e->port;
    v->state = VSOCK_ASKS;
    vsock_control(v, VSOCK_REQUEST, 0);
    if (!wait)
        return -EINPROGRESS;
    while (v->state == VSOCK_ASKS && !err)
        err = socket_wait(s, CONNECT_WAIT, &began);
    if (v->state == VSOCK_ASKS) {
        vsock_control(v, VSOCK_RST, 0);
        v->state = VSOCK_OVER;
        return err == -EAGAIN ? -ETIMEDOUT : err;
    }
    return v->state == VSOCK_OVER ? socket_error(s) : 0;
}

static int64_t vsock_name(struct socket *s, struct endpoint *e, bool peer)
{
    const struct vsock *v = s->impl;

    if (peer && v->state != VSOCK_UP && v->state != VSOCK_OVER)
        return -ENOTCONN;
    *e = peer ? (struct endpoint){.address = v->peer, .port = v->peer_port}
              : (struct endpoint){.address = v->port ? vsock_cid() : VSOCK_ANY,
                                  .port = v->port ? v->port : VSOCK_ANY};
    return 0;
}

static int64_t vsock_shutdown(struct socket *s, unsigned how)
{
    struct vsock *v = s->impl;

    if (v->state != VSOCK_UP)
        return -ENOTCONN;
    v->no_read |= how != SHUT_WRITE;
    v->no_write |= how != SHUT_READ;
    vsock_control(v, VSOCK_SHUTDOWN,
                  (v->no_read ? VSOCK_NO_RECEIVE : 0) | (v->no_write ? VSOCK_NO_SEND : 0));
    socket_changed(s);
    return 0;
}

static bool connected(const struct vsock *v)
{
    return v->state == VSOCK_UP || v->state == VSOCK_OVER;
}

static int64_t push(struct socket *s, struct span *from)
{
    struct vsock *v = s->impl;

    if (!connected(v))
        return -ENOTCONN;
    if (v->state == VSOCK_OVER || v->no_write || v->peer_no_receive)
        return -EPIPE;
    return vsock_send(v, from);
}

static struct ring *ring_of(struct socket *s)
{
    return &((struct vsock *)s->impl)->ring;
}

static void taken(struct socket *s, uint64_t n)
{
    vsock_taken(s->impl, n);
}

static int64_t over(struct socket *s)
{
    const struct vsock *v = s->impl;

    if (!connected(v))
        return -ENOTCONN;
    return v->state == VSOCK_OVER || v->no_read || v->peer_no_send;
}

static const struct stream stream = {push, ring_of, taken, over};

static int64_t vsock_write(struct socket *s, struct span *from, unsigned flags,
                           const struct endpoint *to)
{
    const struct vsock *v = s->impl;

    if (to)
        return v->state == VSOCK_UP ? -EISCONN : -EOPNOTSUPP;
    return stream_send(&stream, s, from, flags);
}

static int64_t vsock_read(struct socket *s, struct span *to, unsigned *flags, struct endpoint *from)
{
    (void)from;
    return stream_recv(&stream, s, to, flags);
}

static unsigned vsock_poll(struct socket *s)
{
    enum { IN = 1, OUT = 4, ERR = 8, HUP = 16, RDNORM = 64, WRNORM = 256, RDHUP = 0x2000 };
    const struct vsock *v = s->impl;
    bool end = v->state == VSOCK_OVER || v->no_read || v->peer_no_send;

    switch (v->state) {
    case VSOCK_NEW:
        return OUT | HUP;
    case VSOCK_LISTENS:
        return v->queue ? IN | RDNORM : 0;
    case VSOCK_ASKS:
        return 0;
    default:
        return (v->ring.len || end ? IN | RDNORM : 0) | (end ? RDHUP : 0) |
               (v->state == VSOCK_OVER ? HUP | OUT : 0) | (s->error ? ERR : 0) |
               (v->state == VSOCK_UP && vsock_can_send(v) ? OUT | WRNORM : 0);
    }
}

static uint64_t vsock_readable(struct socket *s)
{
    return ((struct vsock *)s->impl)->ring.len;
}

static void vsock_set(struct socket *s)
{
    (void)s;
}

static void vsock_close(struct socket *s)
{
    struct vsock *v = s->impl;

    while (v->queue) { /* nobody will accept them */
        struct vsock *q = v->queue;

        v->queue = q->next_queued;
        vsock_control(q, VSOCK_RST, 0);
        socket_free(q->socket);
        vsock_free(q);
    }
    v->socket = NULL;
    socket_free(s);
    if (v->state == VSOCK_UP) {
        vsock_control(v, VSOCK_SHUTDOWN, VSOCK_NO_RECEIVE | VSOCK_NO_SEND);
        return; /* the host's RST ends it, when it has all that was sent */
    }
    if (v->state == VSOCK_ASKS)
        vsock_control(v, VSOCK_RST, 0);
    vsock_free(v);
}

const struct socket_ops vsock_ops = {
    .domain = AF_VSOCK,
    .type = SOCK_STREAM,
    .bind = vsock_bind,
    .listen = vsock_listen,
    .accept = vsock_accept,
    .connect = vsock_connect,
    .name = vsock_name,
    .shutdown = vsock_shutdown,
    .send = vsock_write,
    .recv = vsock_read,
    .poll = vsock_poll,
    .readable = vsock_readable,
    .set = vsock_set,
    .close = vsock_close,
};
