/* TCP: how connections come and go. */
#include "guests/runtime/net/nic.h"
#include "guests/runtime/net/tcp.h"
#include <linux/in.h>

#include "lwip/priv/tcp_priv.h"

#define LOOPBACK PP_HTONL(INADDR_LOOPBACK)

static struct tcp *tcp_new_state(struct socket *s)
{
    struct tcp *t = kalloc(sizeof *t);

    if (!t)
        return NULL;
    t->socket = s;
    t->in_end = &t->in;
    s->impl = t;
    return t;
}

static bool new_pcb(struct tcp *t)
{
    t->pcb = tcp_new_ip_type(IPADDR_TYPE_V4);
    if (!t->pcb)
        return false;
    tcp_attach(t);
    tcp_set_options(t->socket);
    return true;
}

bool tcp_open(struct socket *s)
{
    struct tcp *t = tcp_new_state(s);

    if (t && new_pcb(t))
        return true;
    kfree(t, sizeof *t);
    return false;
}

void tcp_set_options(struct socket *s)
{
    struct tcp *t = s->impl;
    struct tcp_pcb *p = t->pcb;

    if (!p)
        return;
    if (s->reuse || s->reuse_port)
        ip_set_option(p, SOF_REUSEADDR);
    else
        ip_reset_option(p, SOF_REUSEADDR);
    if (t->phase == TCP_LISTENING)
        return; /* a shorter pcb */
    if (s->keepalive)
        ip_set_option(p, SOF_KEEPALIVE);
    else
        ip_reset_option(p, SOF_KEEPALIVE);
    if (s->no_delay)
        tcp_nagle_disable(p);
    else
        tcp_nagle_enable(p);
    p->keep_idle = s->keep_idle * 1000;
    p->keep_intvl = s->keep_interval * 1000;
    p->keep_cnt = s->keep_count;
    p->tos = s->tos;
    p->ttl = s->ttl;
    if (s->no_delay && p->unsent)
        tcp_output(p);
}

void tcp_keep_names(struct tcp *t)
{
    if (!t->pcb)
        return;
    t->local =
        (struct endpoint){.address = t->pcb->local_ip.addr, .port = lwip_htons(t->pcb->local_port)};
    if (t->phase != TCP_LISTENING)
        t->peer = (struct endpoint){.address = t->pcb->remote_ip.addr,
                                    .port = lwip_htons(t->pcb->remote_port)};
}

static int64_t bind_to(struct socket *s, const struct endpoint *e)
{
    struct tcp *t = s->impl;
    ip_addr_t address = {e->address};

    if (t->phase != TCP_NEW || !t->pcb || t->pcb->local_port)
        return -EINVAL;
    if (tcp_bind(t->pcb, &address, lwip_ntohs(e->port)))
        return -EADDRINUSE;
    tcp_keep_names(t);
    return 0;
}

/* With a card that segments, one segment of ours may be many on the wire: nic.c. Only where the
 * peer takes full ones, whose length is then known there. */
static void enlarge_segments(struct tcp *t)
{
    const struct netif *card = net_card();
    unsigned limit = nic_segment_limit();

    if (!card || !limit || t->pcb->mss != card->mtu - IP_HLEN - TCP_HLEN ||
        t->pcb->local_ip.addr != netif_ip4_addr(card)->addr)
        return;
    t->pcb->mss = (uint16_t)limit;
    if (t->pcb->cwnd < 2 * limit)
        t->pcb->cwnd = 2 * limit;
}

/* --- connections that come --- */

static struct tcp *unlink_pending(struct tcp *listener, struct tcp *which)
{
    struct tcp **p = &listener->pending;

    while (*p && which && *p != which)
        p = &(*p)->pending_next;
    struct tcp *t = *p;

    if (t) {
        *p = t->pending_next;
        t->listener = NULL;
    }
    return t;
}

static err_t on_connection(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct tcp *listener = arg, *t, **end = &listener->pending;
    struct socket *s;

    if (err != ERR_OK || !pcb)
        return ERR_VAL;
    s = socket_new(&tcp_ops);
    t = s ? tcp_new_state(s) : NULL;
    if (!t) {
        if (s)
            socket_free(s);
        return ERR_MEM;
    }
    t->pcb = pcb;
    t->phase = TCP_CONNECTED;
    s->no_delay = listener->socket->no_delay;
    s->keepalive = listener->socket->keepalive;
    s->keep_idle = listener->socket->keep_idle;
    s->keep_interval = listener->socket->keep_interval;
    s->keep_count = listener->socket->keep_count;
    s->receive_wait = listener->socket->receive_wait;
    s->send_wait = listener->socket->send_wait;
    tcp_attach(t);
    tcp_set_options(s);
    tcp_keep_names(t);
    enlarge_segments(t);
    tcp_backlog_delayed(pcb);
    t->listener = listener;
    while (*end)
        end = &(*end)->pending_next;
    *end = t;
    socket_changed(listener->socket);
    return ERR_OK;
}

static int64_t start_listening(struct socket *s, unsigned backlog)
{
    struct tcp *t = s->impl;
    struct tcp_pcb *p;
    err_t err = ERR_OK;

    if (t->phase == TCP_LISTENING) {
        tcp_backlog_set(t->pcb, (uint8_t)backlog);
        return 0;
    }
    if (t->phase != TCP_NEW || !t->pcb)
        return -EINVAL;
    if (!t->pcb->local_port && tcp_bind(t->pcb, IP_ADDR_ANY, 0))
        return -EADDRINUSE;
    tcp_arg(t->pcb, NULL);
    p = tcp_listen_with_backlog_and_err(t->pcb, (uint8_t)(backlog ? backlog : 1), &err);
    if (!p) {
        tcp_arg(t->pcb, t);
        return err == ERR_USE ? -EADDRINUSE : -ENOMEM;
    }
    t->pcb = p;
    t->phase = TCP_LISTENING;
    tcp_arg(p, t);
    tcp_accept(p, on_connection);
    tcp_keep_names(t);
    return 0;
}

static struct socket *next_connection(struct socket *s, bool wait, int64_t *err)
{
    struct tcp *t = s->impl, *got;
    uint64_t began = 0;

    while (t->phase == TCP_LISTENING && !t->pending) {
        *err = wait ? socket_wait(s, s->receive_wait, &began) : -EAGAIN;
        if (*err)
            return NULL;
    }
    if (t->phase != TCP_LISTENING) {
        *err = -EINVAL;
        return NULL;
    }
    got = unlink_pending(t, NULL);
    if (got->pcb)
        tcp_backlog_accepted(got->pcb);
    return got->socket;
}

/* --- connections that go out --- */

static err_t on_connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct tcp *t = arg;

    (void)pcb, (void)err;
    t->phase = TCP_CONNECTED;
    tcp_keep_names(t);
    enlarge_segments(t);
    socket_changed(t->socket);
    return ERR_OK;
}

static int64_t begin(struct tcp *t, const struct endpoint *e)
{
    ip_addr_t address = {e->address ? e->address : LOOPBACK};

    if (!t->pcb && !new_pcb(t))
        return -ENOMEM;
    t->fin = false;
    switch (tcp_connect(t->pcb, &address, lwip_ntohs(e->port), on_connected)) {
    case ERR_OK:
        t->phase = TCP_CONNECTING;
        tcp_keep_names(t);
        return 0;
    case ERR_RTE:
        return -ENETUNREACH;
    case ERR_USE:
        return t->pcb->local_port ? -EADDRINUSE : -EADDRNOTAVAIL;
    case ERR_BUF:
        return -EADDRNOTAVAIL; /* no port is left */
    case ERR_VAL:
        return -EINVAL;
    default:
        return -ENOMEM;
    }
}

static int64_t connect_to(struct socket *s, const struct endpoint *e, bool wait)
{
    struct tcp *t = s->impl;
    uint64_t began = 0;
    int64_t err;

    if (t->phase == TCP_CONNECTED && t->begun && !s->error) {
        t->begun = false;
        return 0;
    }
    if (t->phase == TCP_CONNECTED)
        return -EISCONN;
    if (t->phase == TCP_LISTENING)
        return -EINVAL;
    if (t->phase == TCP_CONNECTING && !wait)
        return -EALREADY;
    if (s->error)
        return socket_error(s);
    if (t->phase != TCP_CONNECTING) {
        err = begin(t, e);
        net_settle();
        if (err)
            return err;
        /* Over the loopback it may be there already: still it was only begun. */
        t->begun = !wait;
        if (!wait)
            return -EINPROGRESS;
    }
    while (t->phase == TCP_CONNECTING) {
        err = wait ? socket_wait(s, s->send_wait, &began) : -EAGAIN;
        if (err == -EAGAIN)
            return -EINPROGRESS;
        if (err)
            return err;
    }
    return s->error ? socket_error(s) : t->phase == TCP_CONNECTED ? 0 : -ECONNABORTED;
}

static int64_t name_of(struct socket *s, struct endpoint *e, bool peer)
{
    const struct tcp *t = s->impl;

    *e = peer ? t->peer : t->local;
    return peer && (t->phase != TCP_CONNECTED || !t->pcb) ? -ENOTCONN : 0;
}

/* --- the end --- */

static void close_listener(struct tcp *t)
{
    tcp_arg(t->pcb, NULL);
    tcp_close(t->pcb);
    t->pcb = NULL;
    while (t->pending) {
        struct tcp *p = unlink_pending(t, NULL);

        p->socket->linger = true; /* nobody will answer it: a reset */
        p->socket->linger_seconds = 0;
        p->socket->ops->close(p->socket);
    }
}

static int64_t shut(struct socket *s, unsigned how)
{
    struct tcp *t = s->impl;

    if (t->phase == TCP_LISTENING && how != SHUT_WRITE) {
        close_listener(t);
        t->phase = TCP_NEW;
        socket_changed(s); /* who accepts is told: EINVAL */
        return 0;
    }
    if (t->phase != TCP_CONNECTED)
        return -ENOTCONN;
    if (how != SHUT_WRITE)
        t->no_read = true;
    if (how != SHUT_READ && !t->no_write) {
        t->no_write = true;
        if (t->pcb)
            tcp_shutdown(t->pcb, 0, 1);
        tcp_detach_if_over(t);
    }
    socket_changed(s);
    return 0;
}

/* lwIP would send a reset then, and free the pcb without a word. */
static bool unread(const struct tcp_pcb *p)
{
    return (p->state == ESTABLISHED || p->state == CLOSE_WAIT) &&
           (p->refused_data || p->rcv_wnd != TCP_WND_MAX(p));
}

/* What was sent goes on being sent; the peer learns by a reset of bytes that nobody has read. */
static void close_connection(struct socket *s, struct tcp *t)
{
    struct tcp_pcb *p = t->pcb;
    bool reset = (s->linger && !s->linger_seconds) || unread(p);

    if (reset || !t->out_bytes)
        tcp_detach(t);
    if (reset || tcp_close(p) != ERR_OK) {
        if (t->pcb)
            tcp_detach(t);
        tcp_abort(p);
    }
}

static void close_socket(struct socket *s)
{
    struct tcp *t = s->impl;

    if (t->pcb && t->phase == TCP_LISTENING)
        close_listener(t);
    else if (t->pcb)
        close_connection(s, t);
    tcp_drop_input(t);
    t->socket = NULL;
    if (!t->pcb) {
        tcp_drop_output(t);
        kfree(t, sizeof *t);
    }
    socket_free(s);
    net_settle();
}

bool tcp_is_listening(const struct socket *s)
{
    return ((const struct tcp *)s->impl)->phase == TCP_LISTENING;
}

static uint64_t readable(struct socket *s)
{
    return ((struct tcp *)s->impl)->in_bytes;
}

const struct socket_ops tcp_ops = {
    .domain = AF_INET,
    .type = SOCK_STREAM,
    .protocol = IPPROTO_TCP,
    .bind = bind_to,
    .listen = start_listening,
    .accept = next_connection,
    .connect = connect_to,
    .name = name_of,
    .shutdown = shut,
    .send = tcp_send_bytes,
    .recv = tcp_receive_bytes,
    .poll = tcp_readiness,
    .readable = readable,
    .set = tcp_set_options,
    .close = close_socket,
};
