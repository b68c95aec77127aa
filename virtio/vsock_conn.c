/* vsock connections: the table, and the Unix sockets at their host ends. */
#include "virtio/vsock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define PATIENCE_NS  10000000000ull /* for a line, a RESPONSE, the RST that ends a connection */
#define TICK_NS      1000000000ull
#define EVENT_ROUNDS 8u
#define FIRST_PORT   0x40000000u /* of connections that begin on the host */

/* --- the table --- */

static unsigned bucket_of(uint32_t host_port, uint32_t guest_port)
{
    return ((host_port ^ guest_port * 0x9e3779b1u) * 0x9e3779b1u) >> 24;
}
_Static_assert(VSOCK_BUCKETS == 256, "bucket_of()");

void vsock_conn_init(struct vsock *v)
{
    for (unsigned i = 0; i < VSOCK_BUCKETS; i++)
        v->bucket[i] = VSOCK_NONE;
    for (unsigned i = 0; i < VSOCK_CONNS; i++) {
        v->conn[i].state = CONN_FREE;
        v->conn[i].ready = v->conn[i].listed = false;
        v->conn[i].next = i + 1 < VSOCK_CONNS ? (uint16_t)(i + 1) : VSOCK_NONE;
    }
    v->free_conn = 0;
    v->nconn = 0;
    v->ready_first = v->ready_last = VSOCK_NONE;
    v->nrst = v->rst_at = 0;
}

struct vsock_conn *vsock_find(struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
    uint16_t i = v->bucket[bucket_of(host_port, guest_port)];

    while (i != VSOCK_NONE &&
           (v->conn[i].host_port != host_port || v->conn[i].guest_port != guest_port))
        i = v->conn[i].next;
    return i == VSOCK_NONE ? NULL : &v->conn[i];
}

static void list(struct vsock *v, struct vsock_conn *c)
{
    uint16_t *b = &v->bucket[bucket_of(c->host_port, c->guest_port)];

    c->next = *b;
    *b = (uint16_t)(c - v->conn);
    c->listed = true;
}

static void unlist(struct vsock *v, struct vsock_conn *c)
{
    uint16_t *b = &v->bucket[bucket_of(c->host_port, c->guest_port)];

    while (&v->conn[*b] != c)
        b = &v->conn[*b].next;
    *b = c->next;
    c->listed = false;
}

static void set_deadline(struct vsock *v, struct vsock_conn *c)
{
    uint64_t now = io_now();

    c->deadline = now + PATIENCE_NS;
    if (!v->timer.at)
        io_timer_set(v->dev.io, &v->timer, now + TICK_NS);
}

/* A new entry for fd, which is its own on success. */
static struct vsock_conn *add(struct vsock *v, int fd, enum vsock_state state)
{
    uint16_t i = v->free_conn;

    if (i == VSOCK_NONE)
        return NULL;
    struct vsock_conn *c = &v->conn[i];
    /* A former life of the entry may have left it in the list of ready ones: it stays there. */
    struct vsock_conn fresh = {.state = state,
                               .fd = fd,
                               .generation = c->generation + 1,
                               .ready = c->ready,
                               .ready_next = c->ready_next,
                               .readable = true};
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                             .data.u64 = (uint64_t)fresh.generation << 32 | i};

    if (epoll_ctl(v->epoll_fd, EPOLL_CTL_ADD, fd, &ev))
        return NULL;
    v->free_conn = c->next;
    v->nconn++;
    *c = fresh;
    return c;
}

static void drop_host(struct vsock_conn *c)
{
    if (c->fd >= 0)
        close(c->fd); /* leaves the epoll set by that */
    c->fd = -1;
    free(c->buf);
    c->buf = NULL;
}

static void release(struct vsock *v, struct vsock_conn *c)
{
    drop_host(c);
    if (c->listed)
        unlist(v, c);
    c->state = CONN_FREE;
    c->deadline = 0;
    c->next = v->free_conn;
    v->free_conn = (uint16_t)(c - v->conn);
    v->nconn--;
}

void vsock_close(struct vsock *v, struct vsock_conn *c, bool reset)
{
    if (!reset) {
        release(v, c);
        if (!v->accepting && v->running)
            vsock_accept(v);
        return;
    }
    drop_host(c);
    c->state = CONN_CLOSED;
    c->deadline = 0;
    vsock_ready(v, c);
}

void vsock_wait_end(struct vsock *v, struct vsock_conn *c)
{
    set_deadline(v, c);
}

void vsock_close_all(struct vsock *v)
{
    for (unsigned i = 0; i < VSOCK_CONNS; i++)
        if (v->conn[i].state != CONN_FREE)
            release(v, &v->conn[i]);
    vsock_conn_init(v);
    io_timer_set(v->dev.io, &v->timer, 0);
}

/* --- from the guest to the host --- */

int vsock_connect(struct vsock *v, uint32_t host_port, uint32_t guest_port,
                  struct vsock_conn **conn)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), e = 0;

    if (fd < 0)
        return -errno;
    snprintf(sa.sun_path, sizeof sa.sun_path, "%.*s_%u", (int)(sizeof sa.sun_path - 12), v->path,
             host_port);
    if (connect(fd, (struct sockaddr *)&sa, sizeof sa))
        e = -errno;
    *conn = e ? NULL : add(v, fd, CONN_OPEN);
    if (!*conn) {
        close(fd);
        return e ? e : -ENOBUFS;
    }
    (*conn)->host_port = host_port;
    (*conn)->guest_port = guest_port;
    list(v, *conn);
    return 0;
}

static void tell_credit(struct vsock *v, struct vsock_conn *c)
{
    if (c->fwd - c->fwd_told >= VSOCK_BUF_ALLOC / 4)
        vsock_owe(v, c, VSOCK_OP_CREDIT_UPDATE);
}

/* The guest is done sending, and all it sent is with the host. */
static void end_of_guest(struct vsock *v, struct vsock_conn *c)
{
    if (!c->guest_eof || c->fwd != c->received)
        return;
    if (c->guest_closed) {
        vsock_close(v, c, true);
    } else if (!c->shut) {
        c->shut = true; /* once: each is an event again */
        shutdown(c->fd, SHUT_WR);
    }
}

/* What could not be written at once. */
static void flush(struct vsock *v, struct vsock_conn *c)
{
    while (c->fwd != c->received && !c->host_gone) {
        uint32_t n = c->received - c->fwd, first = VSOCK_BUF_ALLOC - c->buf_at;
        ssize_t w = write(c->fd, c->buf + c->buf_at, n < first ? n : first);

        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0 && errno == EAGAIN)
            break;
        if (w < 0) {
            c->host_gone = true;
            break;
        }
        c->buf_at = (c->buf_at + (uint32_t)w) % VSOCK_BUF_ALLOC;
        c->fwd += (uint32_t)w;
    }
    if (c->host_gone)
        c->fwd = c->received;
    if (c->fwd == c->received) {
        free(c->buf);
        c->buf = NULL;
    }
    tell_credit(v, c);
    end_of_guest(v, c);
}

static int keep(struct vsock_conn *c, const struct iovec *iov, unsigned n, uint32_t skip,
                uint32_t len)
{
    uint32_t at, first;

    if (!c->buf) {
        c->buf = malloc(VSOCK_BUF_ALLOC);
        if (!c->buf)
            return -ENOMEM;
        c->buf_at = 0;
    }
    at = (c->buf_at + (c->received - c->fwd)) % VSOCK_BUF_ALLOC;
    first = VSOCK_BUF_ALLOC - at < len ? VSOCK_BUF_ALLOC - at : len;
    virtq_gather(c->buf + at, first, iov, n, skip);
    virtq_gather(c->buf, len - first, iov, n, skip + first);
    c->received += len;
    return 0;
}

int vsock_push_data(struct vsock *v, struct vsock_conn *c, const struct iovec *iov, unsigned n,
                    uint32_t len)
{
    ssize_t w = 0;

    if (len > VSOCK_BUF_ALLOC - (c->received - c->fwd))
        return -EPROTO;
    if (c->host_gone) {
        c->received += len;
        c->fwd = c->received;
        tell_credit(v, c);
        return 0;
    }
    if (c->received == c->fwd && len) {
        do
            w = writev(c->fd, iov, (int)(n < 1024 ? n : 1024));
        while (w < 0 && errno == EINTR);
        if (w < 0 && errno != EAGAIN) {
            /* The host has closed; what it sent before that is still for the guest. */
            c->host_gone = true;
            w = len;
        }
        w = w < 0 ? 0 : w;
        c->received += (uint32_t)w;
        c->fwd += (uint32_t)w;
    }
    tell_credit(v, c);
    return (uint32_t)w < len ? keep(c, iov, n, (uint32_t)w, len - (uint32_t)w) : 0;
}

void vsock_guest_shutdown(struct vsock *v, struct vsock_conn *c, uint32_t flags)
{
    if (flags & VSOCK_SHUTDOWN_RCV)
        c->guest_closed = true;
    if (flags & VSOCK_SHUTDOWN_SEND)
        c->guest_eof = true;
    if (c->guest_closed && !c->guest_eof)
        shutdown(c->fd, SHUT_RD);
    end_of_guest(v, c);
}

/* --- from the host to the guest --- */

uint32_t vsock_credit(const struct vsock_conn *c)
{
    uint32_t out = c->sent - c->peer_fwd;

    return out < c->peer_alloc ? c->peer_alloc - out : 0;
}

int vsock_read(struct vsock_conn *c, const struct iovec *iov, unsigned n)
{
    ssize_t r;

    do
        r = readv(c->fd, iov, (int)(n < 1024 ? n : 1024));
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : (int)r;
}

void vsock_accept(struct vsock *v)
{
    v->accepting = true;
    while (v->free_conn != VSOCK_NONE) {
        int fd = accept4(v->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct vsock_conn *c;

        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0) {
            if (errno != EAGAIN)
                v->accepting = false; /* descriptors are short: when a connection ends */
            return;
        }
        c = add(v, fd, CONN_HELLO);
        if (!c)
            close(fd);
        else
            set_deadline(v, c);
    }
    v->accepting = false;
}

static bool port_taken(struct vsock *v, uint32_t port)
{
    for (unsigned i = 0; i < VSOCK_CONNS; i++)
        if (v->conn[i].listed && v->conn[i].host_port == port)
            return true;
    return false;
}

/* "CONNECT PORT\n" without its end. */
static bool parse_line(const char *s, uint32_t *port)
{
    uint64_t p = 0;

    if (strncmp(s, "CONNECT ", 8))
        return false;
    s += 8;
    if (!*s || strspn(s, "0123456789") != strlen(s) || strlen(s) > 10)
        return false;
    while (*s)
        p = p * 10 + (uint64_t)(*s++ - '0');
    *port = (uint32_t)p;
    return p <= UINT32_MAX;
}

/* A byte at a time: what follows the line is the guest's. */
static void read_line(struct vsock *v, struct vsock_conn *c)
{
    char b;
    ssize_t n;

    while ((n = read(c->fd, &b, 1)) == 1 && b != '\n' && c->line_len < VSOCK_LINE - 1)
        c->line[c->line_len++] = b;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != 1 || b != '\n' || !parse_line(c->line, &c->guest_port)) {
        vsock_close(v, c, false);
        return;
    }
    do
        c->host_port = v->next_port++ | FIRST_PORT;
    while (port_taken(v, c->host_port));
    c->state = CONN_REQUEST;
    list(v, c);
    set_deadline(v, c);
    vsock_owe(v, c, VSOCK_OP_REQUEST);
}

void vsock_accepted(struct vsock *v, struct vsock_conn *c)
{
    char ok[32];
    int n = snprintf(ok, sizeof ok, "OK %u\n", c->host_port);

    c->deadline = 0;
    c->state = CONN_OPEN;
    if (write(c->fd, ok, (size_t)n) != n) {
        vsock_close(v, c, true);
        return;
    }
    vsock_ready(v, c);
}

/* --- events --- */

static void event(struct vsock *v, struct vsock_conn *c, uint32_t events)
{
    if (c->state == CONN_HELLO) {
        read_line(v, c);
        return;
    }
    if (c->state == CONN_CLOSED)
        return;
    if (events & (EPOLLERR | EPOLLHUP)) {
        if (c->state == CONN_REQUEST) {
            vsock_close(v, c, true);
            return;
        }
        if (!c->host_gone && c->eof_told) {
            c->eof_told = false; /* it was told of one direction only */
            vsock_ready(v, c);
        }
        c->host_gone = true;
    }
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP) && !c->host_eof) {
        c->readable = true;
        vsock_ready(v, c);
    }
    if (c->state == CONN_OPEN && (c->received != c->fwd || c->host_gone))
        flush(v, c);
}

void vsock_look(struct vsock *v)
{
    struct epoll_event ev[64];
    int n = 64;

    for (unsigned round = 0; n > 0 && round < EVENT_ROUNDS; round++) {
        n = epoll_wait(v->epoll_fd, ev, 64, 0);
        for (int i = 0; i < n && v->running; i++) {
            uint32_t at = (uint32_t)ev[i].data.u64;

            if (at == VSOCK_CONNS)
                vsock_accept(v);
            else if (v->conn[at].state != CONN_FREE &&
                     v->conn[at].generation == ev[i].data.u64 >> 32)
                event(v, &v->conn[at], ev[i].events);
        }
    }
    /* Others want this thread too: the rest in the next pass. */
    v->unseen = n > 0;
    if (v->unseen)
        virtio_look_again(&v->dev, VSOCK_RX);
    if (v->running)
        vsock_deliver(v);
}

void vsock_events(struct io_op *op, int res)
{
    struct vsock *v = (struct vsock *)((char *)op - offsetof(struct vsock, poll));

    if (!op->busy && res >= 0)
        io_poll(v->dev.io, op, v->epoll_file, POLLIN, true);
    if (res >= 0)
        vsock_look(v);
}

void vsock_timeouts(struct io_timer *t)
{
    struct vsock *v = (struct vsock *)((char *)t - offsetof(struct vsock, timer));
    uint64_t now = io_now();
    bool more = false;

    io_timer_set(v->dev.io, t, 0);
    for (unsigned i = 0; i < VSOCK_CONNS; i++) {
        struct vsock_conn *c = &v->conn[i];

        if (c->state == CONN_FREE || !c->deadline)
            continue;
        if (now >= c->deadline)
            vsock_close(v, c, c->listed);
        else
            more = true;
    }
    if (more && !t->at)
        io_timer_set(v->dev.io, t, now + TICK_NS);
    if (v->running)
        vsock_deliver(v);
}
