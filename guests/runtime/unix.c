/*
 * AF_UNIX within the program: streams and datagrams, in pairs or by name. Each socket has the bytes
 * for it to read; of datagrams each lies there behind its length and its sender's name.
 */
#include "guests/runtime/unix.h"
#include <linux/in.h>
#include <linux/un.h>
#include "guests/runtime/net.h"
#include "guests/runtime/process.h"
#include "guests/runtime/stream.h"

extern const struct socket_ops unix_stream_ops, unix_dgram_ops, unix_packet_ops;

static void tell(const struct local *u)
{
    if (u && u->socket)
        socket_changed(u->socket);
}

static void both_changed(const struct local *u)
{
    tell(u);
    tell(u->other);
}

static int64_t name_of(struct socket *s, struct endpoint *e, bool peer)
{
    const struct local *u = s->impl;

    *e = (struct endpoint){.name = peer ? &u->peer : &u->name};
    return peer && !u->connected ? -ENOTCONN : 0;
}

static int64_t shut(struct socket *s, unsigned how)
{
    struct local *u = s->impl;

    if (!u->connected)
        return -ENOTCONN;
    u->no_read |= how != SHUT_WRITE;
    u->no_write |= how != SHUT_READ;
    both_changed(u);
    return 0;
}

/* --- streams --- */

/* Into what the other end reads. */
static int64_t push(struct socket *s, struct span *from)
{
    struct local *u = s->impl;

    if (!u->connected)
        return -ENOTCONN;
    if (!u->other || u->no_write || u->other->no_read)
        return -EPIPE;
    int64_t n = stream_fill(&u->other->ring, from);

    if (n > 0)
        both_changed(u);
    return n;
}

static struct ring *ring_of(struct socket *s)
{
    return &((struct local *)s->impl)->ring;
}

static void taken(struct socket *s, uint64_t n)
{
    (void)n;
    both_changed(s->impl);
}

static int64_t over(struct socket *s)
{
    const struct local *u = s->impl;

    if (!u->connected)
        return u->listens ? -EINVAL : -ENOTCONN;
    return !u->other || u->no_read || u->other->no_write;
}

static const struct stream stream = {push, ring_of, taken, over};

static int64_t stream_send_from(struct socket *s, struct span *from, unsigned flags,
                                const struct endpoint *to)
{
    if (to)
        return ((struct local *)s->impl)->connected ? -EISCONN : -EOPNOTSUPP;
    return stream_send(&stream, s, from, flags);
}

static int64_t stream_recv_to(struct socket *s, struct span *to, unsigned *flags,
                              struct endpoint *from)
{
    (void)from;
    return stream_recv(&stream, s, to, flags);
}

enum { IN = 1, OUT = 4, HUP = 16, RDNORM = 64, WRNORM = 256, RDHUP = 0x2000 };

static unsigned stream_poll(struct socket *s)
{
    const struct local *u = s->impl;

    if (u->listens)
        return u->queue ? IN | RDNORM : 0;
    if (!u->connected)
        return OUT | WRNORM | HUP;
    bool end = over(s);

    return (u->ring.len || end ? IN | RDNORM : 0) | (end ? RDHUP : 0) |
           (!u->other || (end && u->no_write) ? HUP : 0) |
           (!u->other || u->other->ring.len < RING_BYTES / 2 ? OUT | WRNORM : 0);
}

static uint64_t stream_readable(struct socket *s)
{
    return ((struct local *)s->impl)->ring.len;
}

static void set_options(struct socket *s)
{
    (void)s;
}

static int64_t bind_name(struct socket *s, const struct endpoint *e)
{
    return unix_bind(s->impl, e->name);
}

static int64_t listen_at(struct socket *s, unsigned backlog)
{
    struct local *u = s->impl;

    if (!u->name.len || u->connected)
        return -EINVAL;
    u->listens = true;
    u->backlog = backlog;
    return 0;
}

static struct local *new_half(struct socket *s)
{
    struct local *u = kalloc(sizeof *u);

    if (!u)
        return NULL;
    u->socket = s;
    u->accepted = s;
    u->next = unix_all;
    unix_all = u;
    return u;
}

static void join(struct local *a, struct local *b)
{
    a->other = b;
    b->other = a;
    a->connected = b->connected = true;
}

static void free_half(struct local *u)
{
    struct local **p = &unix_all;

    while (*p != u)
        p = &(*p)->next;
    *p = u->next;
    for (struct local *v = unix_all; v; v = v->next)
        if (v->other == u) {
            v->other = NULL;
            /* What it had not read, or not accepted, is lost. */
            if (v->socket && v->socket->ops != &unix_dgram_ops && (u->ring.len || !u->accepted))
                v->socket->error = ECONNRESET;
            tell(v);
        }
    unix_unbind(u);
    ring_free(&u->ring);
    kfree(u, sizeof *u);
}

/* The other half is made at once; accept() gives it a socket. */
static int64_t stream_connect(struct socket *s, const struct endpoint *e, bool wait)
{
    struct local *u = s->impl, *l, *half;
    struct unix_name name = *e->name;
    int64_t err;

    if (u->connected || u->listens)
        return u->connected ? -EISCONN : -EINVAL;
    for (;;) {
        l = unix_find(&name, s->ops->type, &err);
        if (!l || !l->listens)
            return l ? -ECONNREFUSED : err;
        if (l->waiting <= l->backlog)
            break;
        uint64_t began = 0;

        err = wait ? socket_wait(l->socket, s->send_wait, &began) : -EAGAIN;
        if (err)
            return err;
    }
    half = new_half(NULL);
    if (!half)
        return -ENOMEM;
    half->name = u->peer = l->name;
    half->peer = u->name;
    join(u, half);
    struct local **p = &l->queue;

    while (*p)
        p = &(*p)->queued;
    *p = half;
    l->waiting++;
    tell(l);
    return 0;
}

static struct socket *accept_one(struct socket *s, bool wait, int64_t *err)
{
    struct local *l = s->impl, *half;
    uint64_t began = 0;

    *err = l->listens ? 0 : -EINVAL;
    while (!*err && !l->queue)
        *err = wait ? socket_wait(s, s->receive_wait, &began) : -EAGAIN;
    if (*err)
        return NULL;
    half = l->queue;
    half->socket = socket_new(s->ops);
    if (!half->socket) {
        *err = -ENFILE;
        return NULL;
    }
    half->socket->impl = half;
    half->accepted = true;
    l->queue = half->queued;
    l->waiting--;
    tell(l); /* who waits for a place */
    return half->socket;
}

static void close_socket(struct socket *s)
{
    struct local *u = s->impl;

    while (u->queue) {
        struct local *half = u->queue;

        u->queue = half->queued;
        free_half(half);
    }
    u->socket = NULL;
    free_half(u);
    socket_changed(s); /* a connect() that waits for a place */
    socket_free(s);
}

/* --- datagrams --- */

struct head {
    uint32_t len;
    struct unix_name from;
};

static void ring_put(struct ring *r, const void *src, uint64_t len)
{
    for (uint64_t done = 0, n; done < len; done += n) {
        n = len - done;
        char *to = ring_room(r, &n);

        if (!to)
            return;
        copy(to, (const char *)src + done, n);
        ring_add(r, n);
    }
}

static void ring_get(const struct ring *r, uint64_t skip, void *dst, uint64_t len)
{
    for (uint64_t done = 0, n; done < len; done += n) {
        n = len - done;
        copy((char *)dst + done, ring_bytes(r, skip + done, &n), n);
    }
}

static int64_t dgram_connect(struct socket *s, const struct endpoint *e, bool wait)
{
    struct local *u = s->impl, *to = NULL;
    int64_t err = 0;

    (void)wait;
    if (e) {
        to = unix_find(e->name, SOCK_DGRAM, &err);
        if (!to)
            return err;
        u->peer = to->name;
    }
    u->other = to;
    u->connected = to != NULL;
    return 0;
}

/* Room for all of it has to be there, and is made: pages of a ring come when they are first used.
 */
static int64_t put_datagram(struct local *to, const struct local *u, struct span *from)
{
    struct head h = {.len = (uint32_t)from->left, .from = u->name};
    struct ring was = to->ring;

    ring_put(&to->ring, &h, sizeof h);
    int64_t n = from->left ? stream_fill(&to->ring, from) : 0;

    if (to->ring.len != was.len + sizeof h + h.len) {
        to->ring.len = was.len;
        return n < 0 ? n : -ENOMEM;
    }
    tell(to);
    return h.len;
}

static int64_t broken_pipe(unsigned flags)
{
    if (!(flags & MSG_NOSIGNAL))
        signal_send(NULL, SIGPIPE, SI_USER, 0);
    return -EPIPE;
}

static int64_t dgram_send(struct socket *s, struct span *from, unsigned flags,
                          const struct endpoint *e)
{
    struct local *u = s->impl, *to;
    struct unix_name name = e ? *e->name : u->peer;
    uint64_t began = 0;
    int64_t err;

    if (e && s->ops == &unix_packet_ops)
        return u->connected ? -EISCONN : -EOPNOTSUPP;
    if (u->no_write)
        return broken_pipe(flags);
    if (from->left > RING_BYTES - sizeof(struct head))
        return -EMSGSIZE;
    for (;;) {
        to = e ? unix_find(&name, SOCK_DGRAM, &err) : u->other;
        if (!e && !to && u->connected && s->ops == &unix_packet_ops)
            return s->error ? socket_error(s) : broken_pipe(flags);
        if (!e && !to)
            err = u->connected ? -ECONNREFUSED : -ENOTCONN;
        if (!to)
            return err;
        if (to->other && to->other != u)
            return -EPERM; /* it is connected to somebody else */
        if (to->no_read)
            return broken_pipe(flags);
        if (to->ring.len + sizeof(struct head) + from->left <= RING_BYTES)
            return put_datagram(to, u, from);
        err = flags & MSG_DONTWAIT ? -EAGAIN : socket_wait(to->socket, s->send_wait, &began);
        if (err)
            return err;
    }
}

static int64_t dgram_recv(struct socket *s, struct span *to, unsigned *flags, struct endpoint *from)
{
    static struct head h; /* the name goes to the program before anybody else receives */
    struct local *u = s->impl;
    unsigned wanted = *flags;
    uint64_t began = 0, done = 0;

    *flags = 0;
    while (!u->ring.len) {
        int64_t end = s->ops == &unix_packet_ops ? over(s) : u->no_read;

        if (end)
            return end < 0 ? end : socket_error(s);
        int64_t err = wanted & MSG_DONTWAIT ? -EAGAIN : socket_wait(s, s->receive_wait, &began);

        if (err)
            return err;
    }
    ring_get(&u->ring, 0, &h, sizeof h);
    for (uint64_t n; done < least(h.len, to->left + done); done += n) {
        n = least(h.len - done, to->left);
        const char *src = ring_bytes(&u->ring, sizeof h + done, &n);

        if (span_write(to, src, n))
            return -EFAULT;
    }
    if (from)
        from->name = h.from.len ? &h.from : NULL;
    if (done < h.len)
        *flags = MSG_TRUNC;
    if (!(wanted & MSG_PEEK)) {
        ring_drop(&u->ring, sizeof h + h.len);
        both_changed(u);
    }
    return wanted & MSG_TRUNC ? (int64_t)h.len : (int64_t)done;
}

static unsigned dgram_poll(struct socket *s)
{
    const struct local *u = s->impl;

    return (u->ring.len || u->no_read ? IN | RDNORM : 0) |
           (!u->other || u->other->ring.len < RING_BYTES / 2 ? OUT | WRNORM : 0);
}

static uint64_t dgram_readable(struct socket *s)
{
    const struct local *u = s->impl;
    struct head h = {0};

    if (u->ring.len)
        ring_get(&u->ring, 0, &h, sizeof h);
    return h.len;
}

const struct socket_ops unix_stream_ops = {.domain = AF_UNIX,
                                           .type = SOCK_STREAM,
                                           .bind = bind_name,
                                           .listen = listen_at,
                                           .accept = accept_one,
                                           .connect = stream_connect,
                                           .name = name_of,
                                           .shutdown = shut,
                                           .send = stream_send_from,
                                           .recv = stream_recv_to,
                                           .poll = stream_poll,
                                           .readable = stream_readable,
                                           .set = set_options,
                                           .close = close_socket};
/* Connections like a stream's, pieces that stay whole like datagrams. */
const struct socket_ops unix_packet_ops = {.domain = AF_UNIX,
                                           .type = SOCK_SEQPACKET,
                                           .bind = bind_name,
                                           .listen = listen_at,
                                           .accept = accept_one,
                                           .connect = stream_connect,
                                           .name = name_of,
                                           .shutdown = shut,
                                           .send = dgram_send,
                                           .recv = dgram_recv,
                                           .poll = stream_poll,
                                           .readable = dgram_readable,
                                           .set = set_options,
                                           .close = close_socket};
const struct socket_ops unix_dgram_ops = {.domain = AF_UNIX,
                                          .type = SOCK_DGRAM,
                                          .bind = bind_name,
                                          .connect = dgram_connect,
                                          .name = name_of,
                                          .shutdown = shut,
                                          .send = dgram_send,
                                          .recv = dgram_recv,
                                          .poll = dgram_poll,
                                          .readable = dgram_readable,
                                          .set = set_options,
                                          .close = close_socket};

/* --- the calls that make them --- */

static const struct socket_ops *kind(uint64_t type)
{
    switch (type & 15) {
    case SOCK_STREAM:
        return &unix_stream_ops;
    case SOCK_DGRAM:
        return &unix_dgram_ops;
    case SOCK_SEQPACKET:
        return &unix_packet_ops;
    default:
        return NULL;
    }
}

static struct socket *new_socket(uint64_t type)
{
    struct socket *s = socket_new(kind(type));

    if (s && !(s->impl = new_half(s))) {
        socket_free(s);
        return NULL;
    }
    if (s) /* halves of it go in by two, as programs reckon */
        s->send_buffer = s->receive_buffer = RING_BYTES - PAGE;
    return s;
}

static int64_t none_such(uint64_t type, uint64_t protocol)
{
    if (protocol && (uint32_t)protocol != AF_UNIX)
        return -EPROTONOSUPPORT;
    return kind(type) ? 0 : -ESOCKTNOSUPPORT;
}

int64_t unix_socket(uint64_t type, uint64_t protocol)
{
    int64_t err = none_such(type, protocol);
    struct socket *s = err ? NULL : new_socket(type);

    return err ? err : s ? socket_install(s, type) : -ENOMEM;
}

int64_t sys_socketpair(uint64_t domain, uint64_t type, uint64_t protocol, uint64_t out)
{
    struct socket *a, *b;
    int64_t fd[2], err;

    if ((uint32_t)domain != AF_UNIX)
        return (uint32_t)domain == AF_INET ? -EOPNOTSUPP : -EAFNOSUPPORT;
    err = none_such(type, protocol);
    if (err)
        return err;
    a = new_socket(type);
    b = a ? new_socket(type) : NULL;
    if (!b) {
        if (a)
            close_socket(a);
        return -ENFILE;
    }
    join(a->impl, b->impl);
    fd[0] = socket_install(a, type);
    if (fd[0] < 0) {
        close_socket(b);
        return fd[0];
    }
    fd[1] = socket_install(b, type);
    int32_t both[2] = {(int32_t)fd[0], (int32_t)fd[1]};

    if (fd[1] < 0 || copy_out(out, both, sizeof both)) {
        sys_close((uint64_t)fd[0]);
        if (fd[1] >= 0)
            sys_close((uint64_t)fd[1]);
        return fd[1] < 0 ? fd[1] : -EFAULT;
    }
    return 0;
}

bool unix_is_listening(const struct socket *s)
{
    return s->ops->domain == AF_UNIX && ((const struct local *)s->impl)->listens;
}
