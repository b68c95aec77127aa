/* socketpair(AF_UNIX, SOCK_STREAM): two sockets, each with the bytes for it to read. */
#include <linux/in.h>
#include <linux/un.h>
#include "guests/runtime/net.h"
#include "guests/runtime/net/socket.h"
#include "guests/runtime/process.h"

#define PAGES 16u
#define BYTES (PAGES * PAGE)

struct end {
    struct socket *socket;
    struct end *other; /* NULL: closed */
    uint64_t head, len;
    bool no_read, no_write;
    char *page[PAGES];
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
static int64_t put(struct end *to, struct span *from)
{
    int64_t done = 0;

    while (from->left && to->len < BYTES) {
        uint64_t tail = (to->head + to->len) % BYTES, at = tail % PAGE;
        uint64_t n = least(least(from->left, BYTES - to->len), PAGE - at);
        char **page = &to->page[tail / PAGE];

        if (!*page && !(*page = kalloc(PAGE)))
            return done ? done : -ENOMEM;
        if (span_read(from, *page + at, n))
            return done ? done : -EFAULT;
        to->len += n;
        done += (int64_t)n;
    }
    return done;
}

static int64_t send_from(struct socket *s, struct span *from, unsigned flags,
                         const struct endpoint *to)
{
    struct end *e = s->impl;
    uint64_t began = 0;
    int64_t done = 0, n;

    if (to)
        return -EISCONN;
    for (;;) {
        if (!e->other || e->no_write || e->other->no_read) {
            if (!done && !(flags & MSG_NOSIGNAL))
                signal_send(NULL, SIGPIPE, SI_USER, 0);
            return done ? done : -EPIPE;
        }
        n = put(e->other, from);
        if (n > 0)
            both_changed(e);
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

static int64_t get(struct end *e, struct span *to, bool peek)
{
    uint64_t done = 0;

    while (to->left && done < e->len) {
        uint64_t from = (e->head + done) % BYTES, at = from % PAGE;
        uint64_t n = least(least(to->left, e->len - done), PAGE - at);

        if (span_write(to, e->page[from / PAGE] + at, n))
            return done ? (int64_t)done : -EFAULT;
        done += n;
    }
    if (!peek) {
        e->head = (e->head + done) % BYTES;
        e->len -= done;
        both_changed(e);
    }
    return (int64_t)done;
}

static int64_t recv_to(struct socket *s, struct span *to, unsigned *flags, struct endpoint *from)
{
    struct end *e = s->impl;
    unsigned wanted = *flags;
    uint64_t began = 0;
    int64_t done = 0, n;

    (void)from;
    *flags = 0;
    for (;;) {
        n = get(e, to, wanted & MSG_PEEK);
        if (n < 0)
            return done ? done : n;
        done += n;
        if (!to->left || (done && (wanted & (MSG_PEEK | MSG_WAITALL)) != MSG_WAITALL))
            return done;
        if (!e->other || e->no_read || e->other->no_write)
            return done;
        n = wanted & MSG_DONTWAIT ? -EAGAIN : socket_wait(s, s->receive_wait, &began);
        if (n)
            return done ? done : n;
    }
}

static unsigned readiness(struct socket *s)
{
    enum { IN = 1, OUT = 4, HUP = 16, RDNORM = 64, WRNORM = 256, RDHUP = 0x2000 };
    const struct end *e = s->impl;
    bool over = !e->other || e->no_read || e->other->no_write;

    return (e->len || over ? IN | RDNORM : 0) | (over ? RDHUP : 0) |
           (!e->other || (over && e->no_write) ? HUP : 0) |
           (!e->other || e->other->len < BYTES / 2 ? OUT | WRNORM : 0);
}

static uint64_t readable(struct socket *s)
{
    return ((struct end *)s->impl)->len;
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
    for (unsigned i = 0; i < PAGES; i++)
        kfree(e->page[i], PAGE);
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
