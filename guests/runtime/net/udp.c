/* UDP sockets. */
#include <linux/in.h>
#include "guests/runtime/socket.h"
#include "guests/runtime/process.h"

#include "lwip/udp.h"

#define LOOPBACK PP_HTONL(INADDR_LOOPBACK)
#define LONGEST  65507u

struct datagram {
    struct datagram *next;
    struct pbuf *p;
    struct endpoint from;
};

struct udp {
    struct socket *socket;
    struct udp_pcb *pcb;
    struct datagram *in, **in_end;
    uint64_t in_bytes;
    bool connected, no_read, no_write;
};

static void on_datagram(void *arg, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *address,
                        u16_t port)
{
    struct udp *u = arg;
    struct datagram *d = NULL;

    (void)pcb;
    /* Each costs more memory than its bytes. */
    if (u->in_bytes + p->tot_len + 512 <= u->socket->receive_buffer && !u->no_read)
        d = kalloc(sizeof *d);
    if (!d) {
        pbuf_free(p);
        return;
    }
    *d = (struct datagram){.p = p, .from = {address->addr, lwip_htons(port)}};
    *u->in_end = d;
    u->in_end = &d->next;
    u->in_bytes += p->tot_len + 512u;
    socket_changed(u->socket);
}

void udp_error(void *state, int error)
{
    struct udp *u = state;

    u->socket->error = error;
    socket_changed(u->socket);
}

static void set_options(struct socket *s)
{
    struct udp_pcb *p = ((struct udp *)s->impl)->pcb;

    if (s->reuse || s->reuse_port)
        ip_set_option(p, SOF_REUSEADDR);
    else
        ip_reset_option(p, SOF_REUSEADDR);
    if (s->broadcast)
        ip_set_option(p, SOF_BROADCAST);
    else
        ip_reset_option(p, SOF_BROADCAST);
    p->tos = s->tos;
    p->ttl = s->ttl;
}

bool udp_open(struct socket *s)
{
    struct udp *u = kalloc(sizeof *u);

    if (!u)
        return false;
    u->socket = s;
    u->in_end = &u->in;
    u->pcb = udp_new_ip_type(IPADDR_TYPE_V4);
    if (!u->pcb) {
        kfree(u, sizeof *u);
        return false;
    }
    s->impl = u;
    udp_recv(u->pcb, on_datagram, u);
    set_options(s);
    return true;
}

static int64_t bind_to(struct socket *s, const struct endpoint *e)
{
    struct udp *u = s->impl;
    ip_addr_t address = {e->address};

    if (u->pcb->local_port)
        return -EINVAL;
    return udp_bind(u->pcb, &address, lwip_ntohs(e->port)) ? -EADDRINUSE : 0;
}

static int64_t connect_to(struct socket *s, const struct endpoint *e, bool wait)
{
    struct udp *u = s->impl;
    ip_addr_t address = {e && e->address ? e->address : LOOPBACK};
    struct netif *route;

    (void)wait;
    if (!e) {
        udp_disconnect(u->pcb);
        u->connected = false;
        return 0;
    }
    route = ip4_route(&address);
    if (!route)
        return -ENETUNREACH;
    switch (udp_connect(u->pcb, &address, lwip_ntohs(e->port))) {
    case ERR_OK:
        break;
    case ERR_USE:
        return -EADDRINUSE;
    default:
        return -EAGAIN; /* no port is left */
    }
    /* getsockname() shows which address would be used. */
    if (!u->pcb->local_ip.addr)
        u->pcb->local_ip.addr = netif_ip4_addr(route)->addr;
    u->connected = true;
    return 0;
}

static int64_t name_of(struct socket *s, struct endpoint *e, bool peer)
{
    const struct udp *u = s->impl;

    if (peer && !u->connected)
        return -ENOTCONN;
    *e = peer ? (struct endpoint){.address = u->pcb->remote_ip.addr,
                                  .port = lwip_htons(u->pcb->remote_port)}
              : (struct endpoint){.address = u->pcb->local_ip.addr,
                                  .port = lwip_htons(u->pcb->local_port)};
    return 0;
}

static int64_t shut(struct socket *s, unsigned how)
{
    struct udp *u = s->impl;

    if (!u->connected)
        return -ENOTCONN;
    u->no_read |= how != SHUT_WRITE;
    u->no_write |= how != SHUT_READ;
    socket_changed(s);
    return 0;
}

static int64_t transmit(struct udp *u, struct pbuf *p, const struct endpoint *to)
{
    ip_addr_t address = {0};

    if (to)
        address.addr = to->address ? to->address : LOOPBACK;
    switch (to ? udp_sendto(u->pcb, p, &address, lwip_ntohs(to->port)) : udp_send(u->pcb, p)) {
    case ERR_OK:
        return 0;
    case ERR_RTE:
        return -ENETUNREACH;
    case ERR_VAL:
        return -EACCES; /* to a broadcast address, without SO_BROADCAST */
    case ERR_USE:
        return -EAGAIN;
    default:
        return -ENOBUFS;
    }
}

static int64_t send_from(struct socket *s, struct span *from, unsigned flags,
                         const struct endpoint *to)
{
    struct udp *u = s->impl;
    uint64_t len = from->left;
    struct pbuf *p;
    int64_t err = 0;

    if (!to && !u->connected)
        return -EDESTADDRREQ;
    if (s->error)
        return socket_error(s);
    if (to && !to->port)
        return -EINVAL;
    if (len > LONGEST)
        return -EMSGSIZE;
    if (u->no_write) {
        if (!(flags & MSG_NOSIGNAL))
            signal_send(NULL, SIGPIPE, SI_USER, 0);
        return -EPIPE;
    }
    /* Short ones in one piece, long ones in pieces of a page. */
    p = pbuf_alloc(PBUF_TRANSPORT, (uint16_t)len, len < 2048 ? PBUF_RAM : PBUF_POOL);
    if (!p)
        return -ENOBUFS;
    for (struct pbuf *q = p; q && !err; q = q->next)
        err = span_read(from, q->payload, q->len);
    if (!err)
        err = transmit(u, p, to);
    pbuf_free(p);
    net_settle();
    return err ? err : (int64_t)len;
}

static void drop_first(struct udp *u)
{
    struct datagram *d = u->in;

    u->in = d->next;
    if (!u->in)
        u->in_end = &u->in;
    u->in_bytes -= d->p->tot_len + 512u;
    pbuf_free(d->p);
    kfree(d, sizeof *d);
}

static int64_t recv_to(struct socket *s, struct span *to, unsigned *flags, struct endpoint *from)
{
    struct udp *u = s->impl;
    uint64_t began = 0, left, len;
    unsigned wanted = *flags;
    int64_t err;

    while (!u->in) {
        if (s->error)
            return socket_error(s);
        if (u->no_read)
            return 0;
        err = wanted & MSG_DONTWAIT ? -EAGAIN : socket_wait(s, s->receive_wait, &began);
        if (err)
            return err;
    }
    struct datagram *d = u->in;

    len = d->p->tot_len;
    left = least(len, to->left);
    *flags = left < len ? MSG_TRUNC : 0;
    int64_t got = (int64_t)(wanted & MSG_TRUNC ? len : left);

    if (from)
        *from = d->from;
    for (const struct pbuf *q = d->p; q && left; q = q->next) {
        uint64_t n = least(q->len, left);

        if (span_write(to, q->payload, n)) {
            got = -EFAULT;
            break;
        }
        left -= n;
    }
    if (!(wanted & MSG_PEEK))
        drop_first(u);
    return got;
}

static unsigned readiness(struct socket *s)
{
    enum { IN = 1, OUT = 4, ERR = 8, RDNORM = 64, WRNORM = 256, RDHUP = 0x2000 };
    const struct udp *u = s->impl;

    return OUT | WRNORM | (u->in || u->no_read ? IN | RDNORM : 0) | (u->no_read ? RDHUP : 0) |
           (s->error ? ERR : 0);
}

static uint64_t readable(struct socket *s)
{
    const struct udp *u = s->impl;

    return u->in ? u->in->p->tot_len : 0;
}

static void close_socket(struct socket *s)
{
    struct udp *u = s->impl;

    udp_remove(u->pcb);
    while (u->in)
        drop_first(u);
    kfree(u, sizeof *u);
    socket_free(s);
}

const struct socket_ops udp_ops = {
    .domain = AF_INET,
    .type = SOCK_DGRAM,
    .protocol = IPPROTO_UDP,
    .bind = bind_to,
    .connect = connect_to,
    .name = name_of,
    .shutdown = shut,
    .send = send_from,
    .recv = recv_to,
    .poll = readiness,
    .readable = readable,
    .set = set_options,
    .close = close_socket,
};
