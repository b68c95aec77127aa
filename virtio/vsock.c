/* virtio-vsock: packets of the driver, packets for the driver (VIRTIO 1.2 §5.10.6). */
#include "virtio/vsock.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "virtio/unix_path.h"

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

struct vsock_hdr vsock_header(struct vsock *v, struct vsock_conn *c, enum vsock_op op)
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

enum made { NOTHING, PACKET, READING };

/* The next packet of c, if it has one: its header. READING: x went with a read that makes one. */
static enum made make_packet(struct vsock *v, struct vsock_conn *c, struct vsock_hdr *h,
                             struct vsock_xfer *x)
{
    enum vsock_op op;

    if (c->state == CONN_FREE || c->state == CONN_HELLO)
        return NOTHING;
    if (c->state == CONN_CLOSED) {
        *h = vsock_header(v, c, VSOCK_OP_RST);
        vsock_close(v, c, false);
        return PACKET;
    }
    op = take_owed(c);
    if (op == VSOCK_OP_INVALID) {
        if (vsock_read(v, c, x)) {
            vsock_ready(v, c);
            return READING;
        }
        op = take_owed(c);
    }
    if (op == VSOCK_OP_INVALID && c->host_eof && !c->reading && !c->eof_told &&
        c->state == CONN_OPEN) {
        c->eof_told = true;
        *h = vsock_header(v, c, VSOCK_OP_SHUTDOWN);
        h->flags = htole32(c->host_gone ? VSOCK_SHUTDOWN_BOTH : VSOCK_SHUTDOWN_SEND);
        if (c->host_gone)
            vsock_wait_end(v, c);
        return PACKET;
    }
    if (op == VSOCK_OP_INVALID)
        return NOTHING;
    *h = vsock_header(v, c, op);
    vsock_ready(v, c);
    return PACKET;
}

static void rx_idle(struct vsock *v, struct vsock_xfer *x)
{
    x->next = v->idle_rx;
    v->idle_rx = x;
}

void vsock_rx_done(struct vsock *v, struct vsock_xfer *x, uint32_t len)
{
    virtq_push(&v->dev.vq[VSOCK_RX], &x->chain, len);
    rx_idle(v, x);
}

void vsock_rx_spare(struct vsock *v, struct vsock_xfer *x)
{
    if (!v->running) { /* its ring is no more */
        rx_idle(v, x);
        return;
    }
    x->next = v->spare_rx;
    v->spare_rx = x;
}

/* A receive buffer of the driver with room for data. */
static struct vsock_xfer *take_buffer(struct vsock *v)
{
    struct vsock_xfer *x = v->spare_rx;

    if (x) {
        v->spare_rx = x->next;
        return x;
    }
    while ((x = v->idle_rx)) {
        if (virtq_pop(&v->dev.vq[VSOCK_RX], &x->chain) <= 0)
            return NULL;
        v->idle_rx = x->next;
        if (x->chain.in_len > sizeof(struct vsock_hdr))
            return x;
        vsock_rx_done(v, x, 0); /* no use */
    }
    return NULL;
}

void vsock_deliver(struct vsock *v)
{
    struct vsock_xfer *x;

    while ((v->nrst || v->ready_first != VSOCK_NONE) && (x = take_buffer(v))) {
        struct vsock_hdr h;

        if (v->nrst) {
            h = v->rst[v->rst_at];
            v->rst_at = (v->rst_at + 1) % VSOCK_RSTS;
            if (v->nrst-- == VSOCK_RSTS)
                virtio_look_again(&v->dev, VSOCK_TX);
        } else {
            switch (make_packet(v, next_ready(v), &h, x)) {
            case NOTHING:
                vsock_rx_spare(v, x);
                continue;
            case READING:
                continue;
            case PACKET:
                break;
            }
        }
        virtq_scatter(x->chain.iov + x->chain.nout, x->chain.nin, 0, &h, sizeof h);
        vsock_rx_done(v, x, (uint32_t)sizeof h);
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

/* true: x is kept, with the n elements of its data. */
static bool on_packet(struct vsock *v, struct vsock_conn *c, const struct vsock_hdr *h,
                      struct vsock_xfer *x, unsigned n)
{
    bool bad = false;
    int kept = 0;

    c->peer_alloc = le32toh(h->buf_alloc);
    c->peer_fwd = le32toh(h->fwd_cnt);
    switch (le16toh(h->op)) {
    case VSOCK_OP_RESPONSE:
        bad = c->state != CONN_REQUEST;
        if (!bad)
            vsock_accepted(v, c);
        break;
    case VSOCK_OP_RW:
        bad = c->state != CONN_OPEN || c->guest_eof;
        if (!bad)
            kept = vsock_push_data(v, c, x, n, le32toh(h->len));
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
    if (bad || kept < 0)
        vsock_close(v, c, true);
    else
        vsock_ready(v, c); /* there may be credit now */
    return kept > 0;
}

/* true: x is kept. */
static bool on_chain(struct vsock *v, struct vsock_xfer *x)
{
    const struct virtq_chain *ch = &x->chain;
    struct vsock_hdr h;
    struct vsock_conn *c;
    unsigned n;

    if (virtq_gather(&h, sizeof h, ch->iov, ch->nout, 0) != sizeof h ||
        le64toh(h.src_cid) != v->cid)
        return false; /* nobody an answer could go to */
    uint32_t len = le32toh(h.len);
    uint16_t op = le16toh(h.op);

    if (len > ch->out_len - sizeof h || le64toh(h.dst_cid) != VSOCK_HOST_CID ||
        le16toh(h.type) != VSOCK_TYPE_STREAM) {
        if (op != VSOCK_OP_RST)
            answer_rst(v, &h);
        return false;
    }
    n = virtq_slice(x->data, ch->iov, ch->nout, sizeof h, len);
    c = vsock_find(v, le32toh(h.dst_port), le32toh(h.src_port));
    if (op == VSOCK_OP_RST) {
        if (c)
            vsock_close(v, c, false);
    } else if (c && c->state != CONN_CLOSED) {
        return on_packet(v, c, &h, x, n);
    } else if (!c && op == VSOCK_OP_REQUEST) {
        on_request(v, &h);
    } else if (!c) {
        answer_rst(v, &h);
    }
    return false;
}

void vsock_tx_done(struct vsock *v, struct vsock_xfer *x)
{
    virtq_push(&v->dev.vq[VSOCK_TX], &x->chain, 0);
    if (!v->idle_tx)
        virtio_look_again(&v->dev, VSOCK_TX);
    x->next = v->idle_tx;
    v->idle_tx = x;
}

static void transmit(struct vsock *v)
{
    struct virtq *vq = &v->dev.vq[VSOCK_TX];
    struct vsock_xfer *x;

    /* With no room for an answer the rest waits until the driver has taken some. */
    while (v->nrst < VSOCK_RSTS && (x = v->idle_tx) && virtq_pop(vq, &x->chain) > 0) {
        v->idle_tx = x->next;
        if (!on_chain(v, x))
            vsock_tx_done(v, x);
    }
}

/* --- the device --- */

static int attach(struct virtio_dev *dev)
{
    struct vsock *v = (struct vsock *)dev;

    v->listen_file = io_file_add(dev->io, v->listen_fd, IO_POLL_ONLY);
    return v->listen_file < 0 ? v->listen_file : 0;
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
    vsock_deliver(v);
}

static void reset(struct virtio_dev *dev)
{
    struct vsock *v = (struct vsock *)dev;

    struct vsock_xfer *x;

    v->running = false;
    while ((x = v->spare_rx)) {
        v->spare_rx = x->next;
        rx_idle(v, x);
    }
    vsock_close_all(v);
}

static void stop(struct virtio_dev *dev)
{
    unix_path_remove(((struct vsock *)dev)->path);
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
    vsock_io_init(v);
    v->guest_cid = htole64(v->cid);
    v->poll.done = vsock_on_listen;
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
