/* TCP: bytes in and out. */
#include "guests/runtime/net/tcp.h"
#include "guests/runtime/net/nic.h"
#include "guests/runtime/process.h"

#define OUT_MOST  (1u << 20)   /* bytes that wait for an acknowledgement or the window */
#define OUT_READY (256u << 10) /* of room: poll() says so */

/* --- what lwIP calls --- */

void tcp_detach(struct tcp *t)
{
    tcp_arg(t->pcb, NULL);
    tcp_recv(t->pcb, NULL);
    tcp_sent(t->pcb, NULL);
    tcp_err(t->pcb, NULL);
    t->pcb = NULL;
}

/* lwIP frees a pcb of which both ends are closed when its time has come, without a word. */
void tcp_detach_if_over(struct tcp *t)
{
    if (t->pcb && t->fin && t->no_write && !t->out_bytes)
        tcp_detach(t);
}

void tcp_fail(struct tcp_pcb *pcb, int error)
{
    struct tcp *t = pcb->callback_arg;

    if (!t || !t->socket)
        return;
    tcp_detach(t);
    tcp_abort(pcb);
    t->socket->error = error;
    t->phase = TCP_DEAD;
    socket_changed(t->socket);
}

static void forget(struct tcp *t)
{
    tcp_drop_output(t);
    kfree(t, sizeof *t);
}

static err_t on_receive(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    struct tcp *t = arg;
    struct packet *k;

    (void)err;
    if (!p) {
        t->fin = true;
        if (t->socket) {
            tcp_detach_if_over(t);
            socket_changed(t->socket);
        }
        return ERR_OK;
    }
    if (!t->socket || t->no_read) {
        tcp_recved(pcb, p->tot_len);
        pbuf_free(p);
        return ERR_OK;
    }
    k = kalloc(sizeof *k);
    if (!k)
        return ERR_MEM; /* it offers it again */
    k->p = p;
    *t->in_end = k;
    t->in_end = &k->next;
    t->in_bytes += p->tot_len;
    socket_changed(t->socket);
    return ERR_OK;
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
    struct tcp *t = arg;
    uint64_t left = len;

    (void)pcb;
    if (!t)
        return ERR_OK;

    while (left && t->out) {
        struct tcp_page *g = t->out;
        uint32_t k = (uint32_t)least(left, g->used - g->acked);

        g->acked += k;
        left -= k;
        t->out_bytes -= k;
        /* The last page may still have room, or be filled just now. */
        if (g->acked < g->used || (!g->next && (t->out_bytes || t->filling)))
            break;
        t->out = g->next;
        if (!t->out)
            t->out_last = NULL;
        nic_page_done(g);
    }
    if (t->socket) {
        tcp_detach_if_over(t);
        socket_changed(t->socket);
    } else if (!t->out_bytes) {
        tcp_detach(t);
        forget(t);
    }
    return ERR_OK;
}

/* The connection is no more, and neither is its pcb. */
static void on_error(void *arg, err_t err)
{
    struct tcp *t = arg;

    t->pcb = NULL;
    if (!t->socket) {
        forget(t);
        return;
    }
    if (err == ERR_ABRT)
        t->socket->error = ETIMEDOUT;
    else if (err == ERR_RST)
        t->socket->error = t->phase == TCP_CONNECTING ? ECONNREFUSED : t->fin ? EPIPE : ECONNRESET;
    t->phase = TCP_DEAD;
    if (!t->filling)
        tcp_drop_output(t);
    socket_changed(t->socket);
}

void tcp_attach(struct tcp *t)
{
    tcp_arg(t->pcb, t);
    tcp_recv(t->pcb, on_receive);
    tcp_sent(t->pcb, on_sent);
    tcp_err(t->pcb, on_error);
}

void tcp_drop_input(struct tcp *t)
{
    while (t->in) {
        struct packet *k = t->in;

        t->in = k->next;
        pbuf_free(k->p);
        kfree(k, sizeof *k);
    }
    t->in_end = &t->in;
    t->in_bytes = 0;
}

void tcp_drop_output(struct tcp *t)
{
    while (t->out) {
        struct tcp_page *g = t->out;

        t->out = g->next;
        nic_page_done(g);
    }
    t->out_last = NULL;
    t->out_bytes = 0;
}

/* --- receive --- */

/* Up to what there is; without taking it when peeking. */
static int64_t take(struct tcp *t, struct span *to, bool peek)
{
    struct packet *k = t->in;
    uint64_t done = 0, at = k ? k->at : 0;

    while (k && to->left) {
        const struct pbuf *p = k->p;
        uint64_t within = at, n;

        for (; within >= p->len; p = p->next)
            within -= p->len;
        n = least(p->len - within, to->left);
        if (span_write(to, (const char *)p->payload + within, n))
            return done ? (int64_t)done : -EFAULT;
        done += n;
        at += n;
        if (!peek) {
            k->at = at;
            t->in_bytes -= n;
        }
        if (at < k->p->tot_len)
            continue;
        struct packet *next = k->next;

        if (!peek) {
            t->in = next;
            if (!next)
                t->in_end = &t->in;
            pbuf_free(k->p);
            kfree(k, sizeof *k);
        }
        k = next;
        at = 0;
    }
    return (int64_t)done;
}

static void taken(struct tcp *t, uint64_t n)
{
    while (n && t->pcb) {
        uint16_t part = (uint16_t)least(n, 0xffff);

        tcp_recved(t->pcb, part);
        n -= part;
    }
}

static int64_t receive(struct socket *s, struct span *to, unsigned flags)
{
    struct tcp *t = s->impl;
    uint64_t began = 0;
    int64_t done = 0, err = 0;
    bool peek = flags & MSG_PEEK;

    if (t->phase == TCP_NEW || t->phase == TCP_LISTENING)
        return -ENOTCONN;
    for (;;) {
        if (t->in) {
            int64_t n = take(t, to, peek);

            if (n < 0)
                return done ? done : n;
            if (!peek)
                taken(t, (uint64_t)n);
            done += n;
        }
        if (!to->left || (done && (peek || !(flags & MSG_WAITALL))))
            return done;
        if (t->fin)
            return done;
        if (s->error && !done)
            return socket_error(s);
        if (t->no_read || s->error || t->phase == TCP_DEAD)
            return done;
        err = flags & MSG_DONTWAIT ? -EAGAIN : socket_wait(s, s->receive_wait, &began);
        if (err)
            return done ? done : err;
    }
}

int64_t tcp_receive_bytes(struct socket *s, struct span *to, unsigned *flags, struct endpoint *from)
{
    int64_t n = receive(s, to, *flags);

    (void)from;
    *flags = 0;
    net_settle();
    return n;
}

/* --- send --- */

/* The page to go on in. */
static struct tcp_page *room(struct tcp *t)
{
    struct tcp_page *g = t->out_last;

    if (g && g->used < sizeof g->bytes)
        return g;
    g = kalloc(PAGE);
    if (!g)
        return NULL;
    if (t->out_last)
        t->out_last->next = g;
    else
        t->out = g;
    t->out_last = g;
    return g;
}

/* As much as fits now: how much, or an error. */
static int64_t put(struct tcp *t, struct span *from, bool more)
{
    uint64_t done = 0;
    int err = 0;

    /* lwIP makes no segment longer than half of the largest window seen, and stops when one that
     * waits is longer than that: a peer could make it so with a window of 1. */
    if (t->pcb->snd_wnd_max < 2u * t->pcb->mss)
        t->pcb->snd_wnd_max = 2u * t->pcb->mss;
    while (from->left && t->pcb && t->out_bytes < OUT_MOST &&
           !(t->out_bytes && net_short_of_memory(8))) {
        struct tcp_page *g = room(t);
        uint64_t n;

        if (!g) {
            err = t->out_bytes ? 0 : -ENOMEM;
            break;
        }
        n = least(least(sizeof g->bytes - g->used, from->left), tcp_sndbuf(t->pcb));
        if (!n)
            break;
        /* A page fault may wait for the host, and the network goes on meanwhile. */
        struct span before = *from;

        t->filling = true;
        err = span_read(from, g->bytes + g->used, n);
        t->filling = false;
        if (err || !t->pcb)
            break;
        bool last = !from->left && !more;

        if (tcp_write(t->pcb, g->bytes + g->used, (uint16_t)n, last ? 0 : TCP_WRITE_FLAG_MORE)) {
            *from = before; /* no memory for its headers now */
            break;
        }
        g->used += (uint32_t)n;
        t->out_bytes += n;
        done += n;
    }
    if (!t->pcb || !t->out_bytes)
        tcp_drop_output(t);
    return done ? (int64_t)done : err;
}

static int64_t broken_pipe(unsigned flags)
{
    if (!(flags & MSG_NOSIGNAL))
        signal_send(NULL, SIGPIPE, SI_USER, 0);
    return -EPIPE;
}

int64_t tcp_send_bytes(struct socket *s, struct span *from, unsigned flags,
                       const struct endpoint *to)
{
    struct tcp *t = s->impl;
    uint64_t began = 0;
    int64_t done = 0, err = 0;

    (void)to;
    for (;;) {
        bool connecting = t->phase == TCP_CONNECTING;

        if (s->error && !done && (err = socket_error(s)) != -EPIPE)
            return err;
        if (!connecting && (!t->pcb || t->no_write || t->phase != TCP_CONNECTED))
            return done ? done : broken_pipe(flags);
        if (!connecting) {
            int64_t n = put(t, from, flags & MSG_MORE || s->cork);

            if (t->pcb && n > 0)
                tcp_output(t->pcb);
            net_settle();
            if (n < 0)
                return done ? done : n;
            done += n;
        }
        if (!from->left && !connecting)
            return done;
        if (!connecting && (s->error || !t->pcb))
            continue;
        err = flags & MSG_DONTWAIT ? -EAGAIN : socket_wait(s, s->send_wait, &began);
        if (err)
            return done ? done : err;
    }
}

/* --- poll --- */

unsigned tcp_readiness(struct socket *s)
{
    enum { IN = 1, OUT = 4, ERR = 8, HUP = 16, RDNORM = 64, WRNORM = 256, RDHUP = 0x2000 };
    struct tcp *t = s->impl;
    unsigned r = s->error ? ERR : 0;

    switch (t->phase) {
    case TCP_NEW:
        return r | OUT | WRNORM | HUP;
    case TCP_LISTENING:
        return r | (t->pending ? IN | RDNORM : 0);
    case TCP_CONNECTING:
        return r;
    case TCP_CONNECTED:
    case TCP_DEAD:
        break;
    }
    bool over = t->fin || t->no_read || t->phase == TCP_DEAD;

    if (t->in || over)
        r |= IN | RDNORM;
    if (over)
        r |= RDHUP;
    if (!t->pcb || (over && t->no_write))
        r |= HUP;
    if (!t->pcb || t->no_write || t->out_bytes + OUT_READY <= OUT_MOST)
        r |= OUT | WRNORM;
    return r;
}
