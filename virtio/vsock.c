/* virtio-vsock: packets of the driver, packets for the driver (VIRTIO 1.2 §5.10.6). */
#include "virtio/vsock.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VSOCK_F_STREAM 0

/* --- packets for the driver --- */

void vsock_ready(struct vsock *v, struct vsock_conn *c)
{
    uint16_t i = (uint16_t)(c - v->conn);

    if (c->ready)
        return;
    c->ready = true;
    c->ready_next = VSOCK_NONE;
    if (v->ready_first == VSOCK_NONE)
        v->ready_first = i;
    else
        v->conn[v->ready_last].ready_next = i;
    v->ready_last = i;
}

void vsock_owe(struct vsock *v, struct vsock_conn *c, enum vsock_op op)
{
    c->owed |= (uint8_t)(1u << op);
    vsock_ready(v, c);
}

static struct vsock_conn *next_ready(struct vsock *v)
{
    struct vsock_conn *c = &v->conn[v->ready_first];

    v->ready_first = c->ready_next;
    c->ready = false;
    return c;
}

static struct vsock_hdr header(struct vsock *v, struct vsock_conn *c, enum vsock_op op)
{
    c->fwd_told = c->fwd;
    return (struct vsock_hdr){
        .src_cid = htole64(VSOCK_HOST_CID),
        .dst_cid = htole64(v->cid),
        .src_port = htole32(c->host_port),
        .dst_port = htole32(c->guest_port),
        .type = htole16(VSOCK_TYPE_STREAM),
        .op = htole16(op),
        .buf_alloc = htole32(VSOCK_BUF_ALLOC),
        .fwd_cnt = htole32(c->fwd),
    };
}

/* The control packet whose turn it is, or VSOCK_OP_INVALID. */
static enum vsock_op take_owed(struct vsock_conn *c)
{
    for (unsigned op = VSOCK_OP_REQUEST; op <= VSOCK_OP_CREDIT_REQUEST; op++) {
        if (c->owed >> op & 1) {
            c->owed &= (uint8_t) ~(1u << op);
            return (enum vsock_op)op;
        }
    }
    return VSOCK_OP_INVALID;
}

/* Data of the host into the driver's buffer. Bytes, or -EAGAIN. */
static int read_data(struct vsock *v, struct vsock_conn *c, const struct virtq_chain *ch)
{
    struct iovec iov[VIRTQ_SIZE_MAX];
    uint32_t room = ch->in_len - (uint32_t)sizeof(struct vsock_hdr), credit = vsock_credit(c);
    int n;

    if (c->guest_closed && c->host_gone)
        c->host_eof = true; /* what is unread stays so */
    if (c->state != CONN_OPEN || !c->readable || c->host_eof || c->guest_closed)
        return -EAGAIN;
    if (!credit) {
        if (!c->asked)
            vsock_owe(v, c, VSOCK_OP_CREDIT_REQUEST);
        c->asked = true;
        return -EAGAIN;
    }
    c->asked = false;
    room = room < credit ? room : credit;
    room = room < VSOCK_PACKET ? room : VSOCK_PACKET;
    unsigned k = virtq_slice(iov, ch->iov + ch->nout, ch->nin, sizeof(struct vsock_hdr), room);

    n = vsock_read(c, iov, k);
    if (n > 0) {
        c->sent += (uint32_t)n;
        return n;
    }
    c->readable = false;
    if (n != -EAGAIN) {
        c->host_eof = true;
        c->host_gone |= n < 0;
    }
    return -EAGAIN;
}

/* The next packet of c, if it has one: its header, data behind it in ch. Bytes of data, -EAGAIN. */
static int make_packet(struct vsock *v, struct vsock_conn *c, struct vsock_hdr *h,
                       const struct virtq_chain *ch)
{
    enum vsock_op op;
    int n;

    if (c->state == CONN_FREE || c->state == CONN_HELLO)
        return -EAGAIN;
    if (c->state == CONN_CLOSED) {
        *h = header(v, c, VSOCK_OP_RST);
        vsock_close(v, c, false);
        return 0;
    }
    op = take_owed(c);
    if (op == VSOCK_OP_INVALID) {
        n = read_data(v, c, ch);
        if (n > 0) {
            *h = header(v, c, VSOCK_OP_RW);
            h->len = htole32((uint32_t)n);
            vsock_ready(v, c);
            return n;
        }
        op = take_owed(c);
    }
    if (op == VSOCK_OP_INVALID && c->host_eof && !c->eof_told && c->state == CONN_OPEN) {
        c->eof_told = true;
        *h = header(v, c, VSOCK_OP_SHUTDOWN);
        h->flags = htole32(c->host_gone ? VSOCK_SHUTDOWN_BOTH : VSOCK_SHUTDOWN_SEND);
        if (c->host_gone)
            vsock_wait_end(v, c);
        return 0;
    }
    if (op == VSOCK_OP_INVALID)
        return -EAGAIN;
    *h = header(v, c, op);
    vsock_ready(v, c);
    return 0;
}

void vsock_deliver(struct vsock *v)
{
    struct virtq *vq = &v->dev.vq[VSOCK_RX];
    struct iovec iov[VIRTQ_SIZE_MAX];
    struct virtq_chain ch = {.iov = iov, .cap = VIRTQ_SIZE_MAX};

    while (v->nrst || v->ready_first != VSOCK_NONE) {
        struct vsock_hdr h;
        int n = 0;

        if (virtq_pop(vq, &ch) <= 0)
            return;
        if (ch.in_len <= sizeof h) { /* no room for data: no use */
            virtq_push(vq, &ch, 0);
            continue;
        }
        if (v->nrst) {
            h = v->rst[v->rst_at];
            v->rst_at = (v->rst_at + 1) % VSOCK_RSTS;
            if (v->nrst-- == VSOCK_RSTS)
                virtio_look_again(&v->dev, VSOCK_TX);
        } else {
            n = make_packet(v, next_ready(v), &h, &ch);
        }
        if (n < 0) {
            virtq_unpop(vq, 1);
            continue;
        }
        virtq_scatter(iov + ch.nout, ch.nin, 0, &h, sizeof h);
        virtq_push(vq, &ch, (uint32_t)sizeof h + (uint32_t)n);
    }
}

/* --- packets of the driver --- */

/* To a packet that belongs to nothing. */
static void answer_rst(struct vsock *v, const struct vsock_hdr *to)
{
    v->rst[(v->rst_at + v->nrst++) % VSOCK_RSTS] = (struct vsock_hdr){
        .src_cid = to->dst_cid,
        .dst_cid = to->src_cid,
        .src_port = to->dst_port,
        .dst_port = to->src_port,
        .type = to->type,
        .op = htole16(VSOCK_OP_RST),
    };
}

static void on_request(struct vsock *v, const struct vsock_hdr *h)
{
    struct vsock_conn *c;

    if (vsock_connect(v, le32toh(h->dst_port), le32toh(h->src_port), &c)) {
        answer_rst(v, h);
        return;
    }
    c->peer_alloc = le32toh(h->buf_alloc);
    c->peer_fwd = le32toh(h->fwd_cnt);
    vsock_owe(v, c, VSOCK_OP_RESPONSE);
}

static void on_packet(struct vsock *v, struct vsock_conn *c, const struct vsock_hdr *h,
                      const struct iovec *data, unsigned n)
{
    uint32_t len = le32toh(h->len);
    bool bad = false;

    c->peer_alloc = le32toh(h->buf_alloc);
    c->peer_fwd = le32toh(h->fwd_cnt);
    switch (le16toh(h->op)) {
    case VSOCK_OP_RESPONSE:
        bad = c->state != CONN_REQUEST;
        if (!bad)
            vsock_accepted(v, c);
        break;
    case VSOCK_OP_RW:
        bad = c->state != CONN_OPEN || c->guest_eof || vsock_push_data(v, c, data, n, len);
        break;
    case VSOCK_OP_SHUTDOWN:
        bad = c->state != CONN_OPEN;
        if (!bad)
            vsock_guest_shutdown(v, c, le32toh(h->flags));
        break;
    case VSOCK_OP_CREDIT_UPDATE:
        break;
    case VSOCK_OP_CREDIT_REQUEST:
        vsock_owe(v, c, VSOCK_OP_CREDIT_UPDATE);
        break;
    default: /* a REQUEST for what is there already, and what is no operation */
        bad = true;
    }
    if (bad)
        vsock_close(v, c, true);
    else
        vsock_ready(v, c); /* there may be credit now */
}

static void on_chain(struct vsock *v, const struct virtq_chain *ch)
{
    struct iovec data[VIRTQ_SIZE_MAX];
    struct vsock_hdr h;
    struct vsock_conn *c;
    unsigned n;

    if (virtq_gather(&h, sizeof h, ch->iov, ch->nout, 0) != sizeof h ||
        le64toh(h.src_cid) != v->cid)
        return; /* nobody an answer could go to */
    uint32_t len = le32toh(h.len);
    uint16_t op = le16toh(h.op);

    if (len > ch->out_len - sizeof h || le64toh(h.dst_cid) != VSOCK_HOST_CID ||
        le16toh(h.type) != VSOCK_TYPE_STREAM) {
        if (op != VSOCK_OP_RST)
            answer_rst(v, &h);
        return;
    }
    n = virtq_slice(data, ch->iov, ch->nout, sizeof h, len);
    c = vsock_find(v, le32toh(h.dst_port), le32toh(h.src_port));
    if (op == VSOCK_OP_RST) {
        if (c)
            vsock_close(v, c, false);
    } else if (c && c->state != CONN_CLOSED) {
        on_packet(v, c, &h, data, n);
    } else if (!c && op == VSOCK_OP_REQUEST) {
        on_request(v, &h);
    } else if (!c) {
        answer_rst(v, &h);
    }
}

static void transmit(struct vsock *v)
{
    struct virtq *vq = &v->dev.vq[VSOCK_TX];
    struct iovec iov[VIRTQ_SIZE_MAX];
    struct virtq_chain ch = {.iov = iov, .cap = VIRTQ_SIZE_MAX};

    /* With no room for an answer the rest waits until the driver has taken some. */
    while (v->nrst < VSOCK_RSTS && virtq_pop(vq, &ch) > 0) {
        on_chain(v, &ch);
        virtq_push(vq, &ch, 0);
    }
}

/* --- the device --- */

static int attach(struct virtio_dev *dev)
{
    struct vsock *v = (struct vsock *)dev;

    v->epoll_file = io_file_add(dev->io, v->epoll_fd, IO_POLL_ONLY);
    if (v->epoll_file < 0)
        return v->epoll_file;
    io_poll(dev->io, &v->poll, v->epoll_file, POLLIN, true);
    return 0;
}

static void start(struct virtio_dev *dev)
{
    struct vsock *v = (struct vsock *)dev;

    v->running = true;
    vsock_accept(v); /* those who came before the driver */
}

static void notify(struct virtio_dev *dev, unsigned q)
{
    struct vsock *v = (struct vsock *)dev;

    if (!v->running || q == VSOCK_EVENT)
        return;
    if (q == VSOCK_TX)
        transmit(v);
    if (v->unseen)
        vsock_look(v);
    else
        vsock_deliver(v);
}

static void reset(struct virtio_dev *dev)
{
    struct vsock *v = (struct vsock *)dev;

    v->running = false;
    vsock_close_all(v);
}

static void stop(struct virtio_dev *dev)
{
    vsock_unlink((struct vsock *)dev);
}

static const struct virtio_ops vsock_ops = {
    .name = "vsock",
    .id = VIRTIO_ID_VSOCK,
    .attach = attach,
    .start = start,
    .notify = notify,
    .reset = reset,
    .stop = stop,
};

int vsock_create(const char *arg, struct virtio_dev **dev, char *err, size_t len)
{
    struct vsock *v = calloc(1, sizeof *v);
    int e;

    if (!v) {
        snprintf(err, len, "out of memory");
        return -ENOMEM;
    }
    e = vsock_open(v, arg, err, len);
    if (e) {
        free(v);
        return e;
    }
    vsock_conn_init(v);
    v->guest_cid = htole64(v->cid);
    v->poll.done = vsock_events;
    v->timer.fire = vsock_timeouts;
    v->dev.ops = &vsock_ops;
    v->dev.features = 1ull << VSOCK_F_STREAM;
    v->dev.nqueues = VSOCK_QUEUES;
    v->dev.vq[VSOCK_RX].size_max = 256;
    v->dev.vq[VSOCK_TX].size_max = 256;
    v->dev.vq[VSOCK_EVENT].size_max = 64;
    v->dev.config = (uint8_t *)&v->guest_cid;
    v->dev.config_len = sizeof v->guest_cid;
    snprintf(v->label, sizeof v->label, "vsock %u at '%s'", (unsigned)v->cid, v->path);
    v->dev.label = v->label;
    *dev = &v->dev;
    return 0;
}
