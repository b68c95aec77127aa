/*
 * vsock: data between the host's sockets and guest memory.
 *
 * From the host: several reads of a connection may be in flight, as many as the last ones were
 * filled; they are done in the order in which they were started. From the guest: one packet of a
 * connection at a time, the others behind it; when the socket is full all of them are copied, so
 * that the driver has its buffers back.
 */
#include "virtio/vsock.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* --- from the guest to the host --- */

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

static void start_send(struct vsock *v, struct vsock_conn *c)
{
    struct vsock_xfer *x = c->first;

    c->sending = true;
    c->ops++;
    virtio_hold(&v->dev);
    io_sendmsg(v->dev.io, &x->op, c->file, &x->msg, MSG_DONTWAIT);
}

static void start_flush(struct vsock *v, struct vsock_conn *c)
{
    uint32_t first = VSOCK_BUF_ALLOC - c->buf_at;

    c->vec = (struct iovec){c->buf + c->buf_at, c->buffered < first ? c->buffered : first};
    c->msg = (struct msghdr){.msg_iov = &c->vec, .msg_iovlen = 1};
    c->flushing = true;
    c->ops++;
    io_sendmsg(v->dev.io, &c->flush, c->file, &c->msg, MSG_DONTWAIT);
}

static struct vsock_xfer *take_first(struct vsock_conn *c)
{
    struct vsock_xfer *x = c->first;

    c->first = x->next;
    return x;
}

static void forget(struct vsock *v, struct vsock_conn *c)
{
    while (c->first)
        vsock_tx_done(v, take_first(c));
    c->buffered = 0;
    c->fwd = c->received;
}

/* Bytes of x from skip on: with the monitor until the socket takes them. */
static bool keep(struct vsock_conn *c, const struct vsock_xfer *x, uint32_t skip)
{
    uint32_t len = x->len - skip, at, first;
    unsigned n = (unsigned)x->msg.msg_iovlen;

    if (!c->buf) {
        c->buf = malloc(VSOCK_BUF_ALLOC);
        if (!c->buf)
            return false;
        c->buf_at = 0;
    }
    at = (c->buf_at + c->buffered) % VSOCK_BUF_ALLOC;
    first = VSOCK_BUF_ALLOC - at < len ? VSOCK_BUF_ALLOC - at : len;
    virtq_gather(c->buf + at, first, x->data, n, skip);
    virtq_gather(c->buf, len - first, x->data, n, skip + first);
    c->buffered += len; /* all of it is below the guest's credit */
    return true;
}

/* What was sent changes what is next. */
static void go_on(struct vsock *v, struct vsock_conn *c)
{
    if (c->state == CONN_OPEN && !c->dropped) {
        if (c->host_gone && !c->flushing && !c->sending)
            forget(v, c);
        if (!c->buffered && !c->flushing) {
            free(c->buf);
            c->buf = NULL;
        }
        if (c->buffered && !c->flushing && !c->blocked)
            start_flush(v, c);
        tell_credit(v, c);
        end_of_guest(v, c);
        vsock_watch(v, c);
    }
    virtio_look_again(&v->dev, VSOCK_RX);
}

static void sent(struct io_op *op, int res)
{
    struct vsock_xfer *x = (struct vsock_xfer *)((char *)op - offsetof(struct vsock_xfer, op));
    struct vsock *v = x->v;
    struct vsock_conn *c = x->c;
    uint32_t done = res > 0 ? (uint32_t)res : 0;
    bool kept = true;

    virtio_release(&v->dev);
    c->sending = false;
    if (c->dropped) {
        forget(v, c);
    } else {
        /* The host has closed; what it sent before that is still for the guest. */
        c->host_gone |= res < 0 && res != -EAGAIN && res != -EINTR;
        c->fwd += done;
        take_first(c);
        if (!c->host_gone && done < x->len) {
            kept = keep(c, x, done);
            while (c->first && kept) {
                struct vsock_xfer *y = take_first(c);

                kept = keep(c, y, 0);
                vsock_tx_done(v, y);
            }
            c->blocked = true;
        }
        vsock_tx_done(v, x);
        if (c->first && !c->host_gone)
            start_send(v, c);
    }
    if (!kept) {
        forget(v, c);
        vsock_close(v, c, true);
    }
    go_on(v, c);
    vsock_op_done(v, c);
}

static void flushed(struct io_op *op, int res)
{
    struct vsock_conn *c = (struct vsock_conn *)((char *)op - offsetof(struct vsock_conn, flush));

    c->flushing = false;
    if (!c->dropped && res > 0) {
        c->buf_at = (c->buf_at + (uint32_t)res) % VSOCK_BUF_ALLOC;
        c->buffered -= (uint32_t)res;
        c->fwd += (uint32_t)res;
    } else if (!c->dropped) {
        c->blocked = res == -EAGAIN;
        c->host_gone |= res != -EAGAIN && res != -EINTR;
    }
    go_on(c->v, c);
    vsock_op_done(c->v, c);
}

int vsock_push_data(struct vsock *v, struct vsock_conn *c, struct vsock_xfer *x, unsigned n,
                    uint32_t len)
{
    if (len > VSOCK_BUF_ALLOC - (c->received - c->fwd))
        return -EPROTO;
    c->received += len;
    x->len = len;
    x->msg = (struct msghdr){.msg_iov = x->data, .msg_iovlen = n};
    if (!len || c->host_gone || c->buffered) {
        bool kept = !len || c->host_gone || keep(c, x, 0);

        go_on(v, c);
        return kept ? 0 : -ENOMEM;
    }
    x->c = c;
    x->next = NULL;
    if (c->first) {
        c->last->next = x;
        c->last = x;
    } else {
        c->first = c->last = x;
        start_send(v, c);
    }
    return 1;
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

/* Bytes the guest has room for. */
static uint32_t credit(const struct vsock_conn *c)
{
    uint32_t out = c->sent + c->asked_for - c->peer_fwd;

    return out < c->peer_alloc ? c->peer_alloc - out : 0;
}

bool vsock_read(struct vsock *v, struct vsock_conn *c, struct vsock_xfer *x)
{
    uint32_t room = x->chain.in_len - (uint32_t)sizeof(struct vsock_hdr), most = credit(c);

    if (c->guest_closed && c->host_gone)
        c->host_eof = true; /* what is unread stays so */
    if (c->state != CONN_OPEN || !c->readable || c->host_eof || c->guest_closed ||
        c->reading >= c->burst)
        return false;
    if (!most) {
        if (!c->asked && !c->reading)
            vsock_owe(v, c, VSOCK_OP_CREDIT_REQUEST);
        c->asked |= !c->reading;
        return false;
    }
    c->asked = false;
    room = room < most ? room : most;
    room = room < VSOCK_PACKET ? room : VSOCK_PACKET;
    x->c = c;
    x->len = room;
    x->msg = (struct msghdr){.msg_iov = x->data};
    x->msg.msg_iovlen = virtq_slice(x->data, x->chain.iov + x->chain.nout, x->chain.nin,
                                    sizeof(struct vsock_hdr), room);
    c->reading++;
    c->asked_for += room;
    c->ops++;
    virtio_hold(&v->dev);
    io_recvmsg(v->dev.io, &x->op, c->file, &x->msg, MSG_DONTWAIT);
    return true;
}

static void received(struct io_op *op, int res)
{
    struct vsock_xfer *x = (struct vsock_xfer *)((char *)op - offsetof(struct vsock_xfer, op));
    struct vsock *v = x->v;
    struct vsock_conn *c = x->c;
    bool wanted = c->state == CONN_OPEN && !c->dropped && !c->guest_closed && !c->host_eof;

    virtio_release(&v->dev);
    c->reading--;
    c->asked_for -= x->len;
    if (res > 0 && wanted) {
        c->sent += (uint32_t)res;
        struct vsock_hdr h = vsock_header(v, c, VSOCK_OP_RW);

        h.len = htole32((uint32_t)res);
        virtq_scatter(x->chain.iov + x->chain.nout, x->chain.nin, 0, &h, sizeof h);
        /* One that was not filled has emptied the socket: the poll says when there is more. */
        c->readable &= (uint32_t)res == x->len || c->host_shut;
        if (!c->readable)
            c->burst = 1;
        else if (c->burst < VSOCK_READS)
            c->burst *= 2;
        vsock_rx_done(v, x, (uint32_t)sizeof h + (uint32_t)res);
    } else {
        vsock_rx_spare(v, x);
        if (wanted && res != -EINTR) {
            c->readable = false;
            c->burst = 1;
            c->host_eof = res != -EAGAIN;
            c->host_gone |= res < 0 && res != -EAGAIN;
        }
    }
    if (c->state == CONN_OPEN) {
        vsock_ready(v, c);
        vsock_watch(v, c);
    }
    virtio_look_again(&v->dev, VSOCK_RX);
    vsock_op_done(v, c);
}

/* --- events --- */

static void event(struct vsock *v, struct vsock_conn *c, unsigned events)
{
    if (c->state == CONN_HELLO) {
        vsock_read_line(v, c);
        return;
    }
    if (c->state == CONN_CLOSED)
        return;
    if (events & (POLLERR | POLLHUP)) {
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
    c->host_shut |= (events & POLLRDHUP) != 0;
    if (events & (POLLIN | POLLRDHUP | POLLERR | POLLHUP) && !c->host_eof) {
        c->readable = true;
        vsock_ready(v, c);
    }
    if (events & (POLLOUT | POLLERR | POLLHUP))
        c->blocked = false;
    go_on(v, c);
}

/* Once the host has shut its direction, that is an event for the ring whether asked for or not: a
 * multishot, which reports changes only, goes on where a single poll would end at once for ever. */
void vsock_watch(struct vsock *v, struct vsock_conn *c)
{
    unsigned events = 0; /* that the host has closed is always an event */

    if (c->dropped || c->host_gone)
        return;
    if (c->state == CONN_HELLO || (!c->readable && !c->reading && !c->host_shut && !c->host_eof))
        events |= POLLIN | POLLRDHUP;
    if (c->blocked)
        events |= POLLOUT;
    if (c->poll.busy) {
        if (events & ~c->polling || (c->host_shut && c->polling & ~events))
            io_cancel(v->dev.io, &c->poll); /* and anew in its callback */
        return;
    }
    c->polling = events;
    c->ops++;
    io_poll(v->dev.io, &c->poll, c->file, events, c->host_shut);
}

static void polled(struct io_op *op, int res)
{
    struct vsock_conn *c = (struct vsock_conn *)((char *)op - offsetof(struct vsock_conn, poll));
    struct vsock *v = c->v;
    bool goes_on = op->busy;

    if (!c->dropped && res != -ECANCELED)
        event(v, c, res < 0 ? POLLERR : (unsigned)res);
    vsock_watch(v, c);
    virtio_look_again(&v->dev, VSOCK_RX);
    if (!goes_on)
        vsock_op_done(v, c);
}

void vsock_io_init(struct vsock *v)
{
    for (unsigned i = 0; i < VSOCK_CONNS; i++) {
        v->conn[i].v = v;
        v->conn[i].poll.done = polled;
        v->conn[i].flush.done = flushed;
    }
    for (unsigned i = 0; i < VSOCK_READS; i++) {
        struct vsock_xfer *x = &v->rx[i];

        *x = (struct vsock_xfer){.v = v, .op.done = received, .next = v->idle_rx};
        x->chain = (struct virtq_chain){.iov = x->iov, .cap = VIRTQ_SIZE_MAX};
        v->idle_rx = x;
    }
    for (unsigned i = 0; i < VSOCK_SENDS; i++) {
        struct vsock_xfer *x = &v->tx[i];

        *x = (struct vsock_xfer){.v = v, .op.done = sent, .next = v->idle_tx};
        x->chain = (struct virtq_chain){.iov = x->iov, .cap = VIRTQ_SIZE_MAX};
        v->idle_tx = x;
    }
}
