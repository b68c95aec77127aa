/* vsock connections: the table, how they begin and end. */
#include "virtio/vsock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_NS 10000000000ull /* for a line, a RESPONSE, the RST that ends a connection */
#define TICK_NS     1000000000ull
#define FIRST_PORT  0x40000000u /* of connections that begin on the host */

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
        v->conn[i].fd = v->conn[i].file = -1;
        v->conn[i].next = i + 1 < VSOCK_CONNS ? (uint16_t)(i + 1) : VSOCK_NONE;
    }
    v->ready_first = v->ready_last = VSOCK_NONE;
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
    int file = i == VSOCK_NONE ? -ENOBUFS : io_file_add(v->dev.io, fd, 0);

    if (file < 0)
        return NULL;
    struct vsock_conn *c = &v->conn[i];
    /* A former life of the entry may have left it in the list of ready ones: it stays there. */
    struct vsock_conn fresh = {.state = state,
                               .v = v,
                               .fd = fd,
                               .file = file,
                               .poll.done = c->poll.done,
                               .flush.done = c->flush.done,
                               .ready = c->ready,
                               .ready_next = c->ready_next,
                               .readable = true,
                               .burst = 1};

    v->free_conn = c->next;
    v->nconn++;
    *c = fresh;
    return c;
}

static void give_back(struct vsock *v, struct vsock_conn *c)
{
    c->next = v->free_conn;
    v->free_conn = (uint16_t)(c - v->conn);
    if (!v->accepting && v->running)
        vsock_accept(v);
}

void vsock_op_done(struct vsock *v, struct vsock_conn *c)
{
    if (--c->ops || !c->dropped)
        return;
    io_file_remove(v->dev.io, c->file);
    close(c->fd);
    c->fd = c->file = -1;
    free(c->buf);
    c->buf = NULL;
    if (c->state == CONN_FREE)
        give_back(v, c);
}

static void drop_host(struct vsock *v, struct vsock_conn *c)
{
    if (c->dropped)
        return;
    c->dropped = true;
    c->ops++;
    io_cancel(v->dev.io, &c->poll);
    vsock_op_done(v, c);
}

static void release(struct vsock *v, struct vsock_conn *c)
{
    c->state = CONN_FREE;
    c->deadline = 0;
    v->nconn--;
    if (c->listed)
        unlist(v, c);
    if (!c->dropped)
        drop_host(v, c);
    else if (c->fd < 0)
        give_back(v, c);
}

void vsock_close(struct vsock *v, struct vsock_conn *c, bool reset)
{
    if (!reset) {
        release(v, c);
        return;
    }
    drop_host(v, c);
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
    for (unsigned i = 0; i < VSOCK_CONNS; i++) {
        v->conn[i].ready = false;
        if (v->conn[i].state != CONN_FREE)
            release(v, &v->conn[i]);
    }
    v->ready_first = v->ready_last = VSOCK_NONE;
    v->nrst = v->rst_at = 0;
    io_timer_set(v->dev.io, &v->timer, 0);
}

/* --- how they begin --- */

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
    vsock_watch(v, *conn);
    return 0;
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
            else if (!v->poll.busy)
                io_poll(v->dev.io, &v->poll, v->listen_file, POLLIN, false);
            return;
        }
        c = add(v, fd, CONN_HELLO);
        if (c) {
            set_deadline(v, c);
            vsock_watch(v, c);
        } else {
            close(fd);
        }
    }
    v->accepting = false;
}

void vsock_on_listen(struct io_op *op, int res)
{
    struct vsock *v = (struct vsock *)((char *)op - offsetof(struct vsock, poll));

    if (res >= 0 && v->running)
        vsock_accept(v);
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
void vsock_read_line(struct vsock *v, struct vsock_conn *c)
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
