/*
 * Backend: Ethernet frames on a stream socket, each after its length as four big-endian bytes, as
 * passt and QEMU's stream netdev speak it.
 *
 * Transmit: as many frames as there are go with one writev straight from the driver's buffers.
 * Receive: when a frame's length is known, one readv puts the rest of it into the driver's buffers,
 * and what follows it into a small buffer of our own, from which short frames are copied.
 *
 * The stream must never lose its step: a reset in the middle of a frame leaves bytes to be skipped
 * on one side, and on the other the frame is filled up with zeros.
 */
#include "virtio/net.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <sys/socket.h>

#define FRAMES     64u
#define TX_IOVS    4096u
#define WRITE_IOVS 1024u /* UIO_MAXIOV */
#define AHEAD      8192u
#define PASST_MTU  65520u
#define STOP_MS    200

struct tx_frame {
    struct virtq_chain chain;
    uint32_t total, left; /* bytes on the stream; those that are not there yet */
    uint32_t head_len;
    uint8_t head[4 + NET_RESTRICT_LOOK];
    bool padding; /* the rest of a frame from before a reset: no chain */
};

struct stream {
    struct net *n;
    int fd, file;
    bool restricted;

    /* A batch is written to its end before the next one is collected. */
    struct io_op write;
    unsigned frame_at, nframe, iov_at, niov;
    struct tx_frame frame[FRAMES];
    struct iovec iov[TX_IOVS];

    struct io_op read;
    uint32_t len, got; /* of the frame that is being received; len 0: none */
    uint32_t skip;     /* bytes to throw away */
    bool taken;        /* take holds its buffers */
    struct net_take take;
    struct iovec into[NET_TAKE_IOVS + 1];
    uint32_t ahead_at, ahead_len;
    uint8_t ahead[AHEAD];
};

static uint8_t zeros[NET_FRAME_MAX]; /* not const: it takes no room in the binary */

/* --- transmit --- */

static void write_more(struct stream *s)
{
    unsigned n = s->niov - s->iov_at;

    virtio_hold(&s->n->dev);
    io_writev(s->n->dev.io, &s->write, s->file, s->iov + s->iov_at, n < WRITE_IOVS ? n : WRITE_IOVS,
              UINT64_MAX);
}

/* The first bytes of the batch are on the stream. */
static void advance(struct stream *s, uint32_t bytes)
{
    for (uint32_t b = bytes; b && s->iov_at < s->niov;) {
        struct iovec *v = &s->iov[s->iov_at];
        uint32_t part = v->iov_len < b ? (uint32_t)v->iov_len : b;

        v->iov_base = (uint8_t *)v->iov_base + part;
        v->iov_len -= part;
        b -= part;
        s->iov_at += !v->iov_len;
    }
    while (s->frame_at < s->nframe) {
        struct tx_frame *f = &s->frame[s->frame_at];
        uint32_t part = f->left < bytes ? f->left : bytes;

        f->left -= part;
        bytes -= part;
        if (f->left)
            break;
        if (!f->padding && s->n->running)
            net_tx_done(s->n, &f->chain, true);
        s->frame_at++;
    }
}

/* The device was reset: of the batch only a frame that has begun remains, and that as zeros. */
static void abandon(struct stream *s)
{
    struct tx_frame *f = &s->frame[s->frame_at];
    uint32_t begun = 0, head;

    if (s->frame_at < s->nframe)
        begun = f->total - f->left;
    if (s->frame_at == s->nframe || (!begun && !f->padding)) {
        s->frame_at = s->nframe = s->iov_at = s->niov = 0;
        return;
    }
    head = begun < f->head_len ? f->head_len - begun : 0;
    if (head)
        memmove(s->frame[0].head, f->head + begun, head);
    s->frame[0].total = s->frame[0].left = f->left;
    s->frame[0].head_len = head;
    s->frame[0].padding = true;
    s->iov[0] = (struct iovec){s->frame[0].head, head};
    s->iov[1] = (struct iovec){zeros, s->frame[0].left - head};
    s->frame_at = s->iov_at = 0;
    s->nframe = 1;
    s->niov = 2;
}

static void collect(struct stream *s)
{
    struct net *n = s->n;

    s->frame_at = s->nframe = s->iov_at = s->niov = 0;
    while (s->nframe < FRAMES && s->niov + 1 + VIRTQ_SIZE_MAX <= TX_IOVS) {
        struct tx_frame *f = &s->frame[s->nframe];
        struct iovec *iov = s->iov + s->niov;
        uint32_t look = 0, len;
        unsigned k;

        f->chain.iov = iov + 1;
        f->chain.cap = VIRTQ_SIZE_MAX;
        if (virtq_pop(&n->dev.vq[NET_TX], &f->chain) <= 0)
            break;
        len = f->chain.out_len - NET_HDR_LEN;
        if (f->chain.out_len < NET_HDR_LEN + NET_ETH_HLEN || len > NET_FRAME_MAX) {
            net_tx_done(n, &f->chain, false);
            continue;
        }
        /* What is judged is what is sent: a copy, that the guest cannot change any more. */
        if (s->restricted) {
            look = len < NET_RESTRICT_LOOK ? len : NET_RESTRICT_LOOK;
            virtq_gather(f->head + 4, look, iov + 1, f->chain.nout, NET_HDR_LEN);
            if (!net_restrict_allows(f->head + 4, look)) {
                net_tx_done(n, &f->chain, false);
                continue;
            }
        }
        uint32_t be = htobe32(len);

        memcpy(f->head, &be, 4);
        f->head_len = 4 + look;
        f->total = f->left = 4 + len;
        f->padding = false;
        iov[0] = (struct iovec){f->head, f->head_len};
        k = virtq_slice(iov + 1, iov + 1, f->chain.nout, NET_HDR_LEN + look, len - look);
        s->niov += 1 + k;
        s->nframe++;
    }
}

static void stream_tx(struct net *n)
{
    struct stream *s = n->state;

    if (s->write.busy)
        return;
    if (s->frame_at == s->nframe)
        collect(s);
    if (s->frame_at < s->nframe)
        write_more(s);
}

static void write_done(struct io_op *op, int res)
{
    struct stream *s = (struct stream *)((char *)op - offsetof(struct stream, write));
    struct net *n = s->n;

    advance(s, res > 0 ? (uint32_t)res : 0);
    if (res < 0 && res != -ECANCELED && res != -EAGAIN && res != -EINTR) {
        for (; s->frame_at < s->nframe && n->running; s->frame_at++)
            if (!s->frame[s->frame_at].padding)
                net_tx_done(n, &s->frame[s->frame_at].chain, false);
        s->frame_at = s->nframe;
        net_link_down(n);
    } else if (!n->running) {
        abandon(s);
    } else if (s->frame_at < s->nframe) {
        write_more(s);
    }
    virtio_release(&n->dev);
    virtio_look_again(&n->dev, NET_TX);
}

/* --- receive --- */

static void read_more(struct stream *s)
{
    unsigned k = 0;

    if (s->taken) /* all that was read ahead is in the frame already */
        k = virtq_slice(s->into, s->take.iov, s->take.niov, NET_HDR_LEN + s->got, s->len - s->got);
    if (s->ahead_at) {
        memmove(s->ahead, s->ahead + s->ahead_at, s->ahead_len);
        s->ahead_at = 0;
    }
    s->into[k++] = (struct iovec){s->ahead + s->ahead_len, AHEAD - s->ahead_len};
    virtio_hold(&s->n->dev);
    io_readv(s->n->dev.io, &s->read, s->file, s->into, k, UINT64_MAX);
}

static void eat(struct stream *s, uint32_t bytes)
{
    s->ahead_at += bytes;
    s->ahead_len -= bytes;
}

/* A length begins a frame: get buffers for it. false: the driver has too few now. */
static bool begin_frame(struct stream *s)
{
    struct net *n = s->n;
    struct virtq *vq = &n->dev.vq[NET_RX];
    uint32_t want = NET_HDR_LEN + s->len;

    if (!net_rx_take(n, &s->take, want, false) &&
        (vq->in_flight < vq->size || !net_rx_take(n, &s->take, want, true)))
        return false;
    if (s->take.len >= want) {
        s->taken = true;
        return true;
    }
    /* It never has more than this: the frame is lost. */
    n->count[NET_C_RX_DROPPED].value++;
    net_rx_return(n, &s->take, 0);
    s->skip = s->len;
    s->len = 0;
    return true;
}

static void end_frame(struct stream *s)
{
    struct net *n = s->n;
    uint8_t head[NET_HDR_LEN] = {0};

    /* It came over a pipe, so to speak: nothing can have damaged it. */
    if (virtio_has(&n->dev, NET_BIT(GUEST_CSUM)))
        head[0] = NET_HDR_DATA_VALID;
    virtq_scatter(s->take.iov, s->take.niov, 0, head, sizeof head);
    net_rx_finish(n, &s->take, NET_HDR_LEN + s->len);
    s->len = s->got = 0;
    s->taken = false;
}

static void stream_rx(struct net *n)
{
    struct stream *s = n->state;

    if (s->read.busy)
        return;
    while (n->link_up && n->running) {
        uint32_t part = s->skip < s->ahead_len ? s->skip : s->ahead_len, be;

        eat(s, part);
        s->skip -= part;
        if (s->skip || (!s->len && s->ahead_len < 4)) {
            read_more(s);
            return;
        }
        if (!s->len) {
            memcpy(&be, s->ahead + s->ahead_at, 4);
            eat(s, 4);
            s->len = be32toh(be);
            s->got = 0;
            if (s->len < NET_ETH_HLEN || s->len > NET_FRAME_MAX) {
                s->len = 0;
                net_link_down(n); /* out of step: nothing after this makes sense */
                return;
            }
        }
        if (!s->taken) {
            if (!begin_frame(s))
                return;
            if (!s->taken)
                continue;
        }
        part = s->len - s->got < s->ahead_len ? s->len - s->got : s->ahead_len;
        virtq_scatter(s->take.iov, s->take.niov, NET_HDR_LEN + s->got, s->ahead + s->ahead_at,
                      part);
        eat(s, part);
        s->got += part;
        if (s->got < s->len) {
            read_more(s);
            return;
        }
        end_frame(s);
    }
}

/* The frame that is being received has lost its buffers. */
static void forget_frame(struct stream *s)
{
    s->skip += s->len - s->got;
    s->len = s->got = 0;
    s->taken = false;
}

static void read_done(struct io_op *op, int res)
{
    struct stream *s = (struct stream *)((char *)op - offsetof(struct stream, read));
    struct net *n = s->n;
    uint32_t bytes = res > 0 ? (uint32_t)res : 0, part;

    part = s->taken ? s->len - s->got : 0;
    part = part < bytes ? part : bytes;
    s->got += part;
    s->ahead_len += bytes - part;
    if (!n->running)
        forget_frame(s);
    if (res == 0 || (res < 0 && res != -ECANCELED && res != -EAGAIN && res != -EINTR))
        net_link_down(n);
    else if (n->running && s->taken && s->got == s->len)
        end_frame(s);
    virtio_release(&n->dev);
    if (n->running)
        stream_rx(n);
}

/* --- the backend --- */

static void stream_start(struct net *n)
{
    (void)n; /* notify() of every queue follows */
}

static void stream_reset(struct net *n)
{
    struct stream *s = n->state;

    io_cancel(n->dev.io, &s->write);
    io_cancel(n->dev.io, &s->read);
    if (!s->read.busy)
        forget_frame(s);
}

static int stream_attach(struct net *n)
{
    struct stream *s = n->state;

    s->file = io_file_add(n->dev.io, s->fd, 0);
    return s->file < 0 ? s->file : 0;
}

/* passt ends, and gives its ports back, when it sees the end of the stream: now, and not when the
 * kernel gets around to our io_uring. */
static void stream_stop(struct net *n)
{
    struct pollfd p = {.fd = ((struct stream *)n->state)->fd};

    if (!shutdown(p.fd, SHUT_WR))
        poll(&p, 1, STOP_MS);
}

static const struct net_backend stream_backend = {.attach = stream_attach,
                                                  .start = stream_start,
                                                  .rx = stream_rx,
                                                  .tx = stream_tx,
                                                  .reset = stream_reset,
                                                  .stop = stream_stop};

int net_stream_open(struct net *n, int fd, bool restricted, char *err, size_t len)
{
    struct stream *s = calloc(1, sizeof *s);

    if (!s) {
        snprintf(err, len, "out of memory");
        return -ENOMEM;
    }
    s->n = n;
    s->fd = fd;
    s->restricted = restricted;
    s->write.done = write_done;
    s->read.done = read_done;
    n->config.mtu = htole16(PASST_MTU);
    n->backend = &stream_backend;
    n->state = s;
    return 0;
}
