/*
 * The driver's receive buffers, and frames into them (VIRTIO 1.2 §5.1.6.3, §5.1.6.4).
 *
 * Buffers are popped as they come and wait here in a ring until a backend takes some for a frame
 * whose length it may not know yet; those the frame did not need come back to the front.
 */
#include <endian.h>
#include <string.h>
#include "virtio/net.h"

void net_rx_init(struct net *n)
{
    n->nready = n->ready_head = 0;
    n->nfree = NET_BUFS;
    for (unsigned i = 0; i < NET_BUFS; i++)
        n->free_buf[i] = (uint16_t)i;
}

static void keep(struct net *n, const struct virtq_chain *c)
{
    uint16_t i = n->free_buf[--n->nfree];
    struct net_buf *b = &n->buf[i];

    b->head = c->head;
    b->niov = 0;
    b->len = 0;
    for (unsigned k = c->nout; k < (unsigned)c->nout + c->nin && b->niov < NET_BUF_IOVS; k++) {
        struct iovec v = c->iov[k];

        if (v.iov_len > NET_BUF_BYTES - b->len)
            v.iov_len = NET_BUF_BYTES - b->len;
        if (!v.iov_len)
            break;
        b->iov[b->niov++] = v;
        b->len += (uint32_t)v.iov_len;
    }
    n->ready[(n->ready_head + n->nready++) % NET_BUFS] = i;
}

/* One more buffer from the driver. */
static bool fetch(struct net *n)
{
    struct iovec iov[VIRTQ_SIZE_MAX];
    struct virtq_chain c = {.iov = iov, .cap = VIRTQ_SIZE_MAX};

    while (n->nfree && virtq_pop(&n->dev.vq[NET_RX], &c) > 0) {
        if (c.in_len < NET_HDR_LEN) { /* no room for a header: no use */
            virtq_push(&n->dev.vq[NET_RX], &c, 0);
            continue;
        }
        keep(n, &c);
        return true;
    }
    return false;
}

static bool fits(const struct net *n, const struct net_take *t, const struct net_buf *b)
{
    if (t->nbuf && !n->mergeable)
        return false;
    return t->nbuf < NET_TAKE_BUFS && t->niov + b->niov <= NET_TAKE_IOVS;
}

bool net_rx_take(struct net *n, struct net_take *t, uint32_t want, bool settle)
{
    t->nbuf = t->niov = 0;
    t->len = 0;
    while (t->len < want && (n->nready || fetch(n))) {
        uint16_t i = n->ready[n->ready_head];
        struct net_buf *b = &n->buf[i];

        if (!fits(n, t, b))
            return true; /* as long as it gets */
        n->ready_head = (uint16_t)((n->ready_head + 1) % NET_BUFS);
        n->nready--;
        memcpy(t->iov + t->niov, b->iov, b->niov * sizeof b->iov[0]);
        t->niov = (uint16_t)(t->niov + b->niov);
        t->buf[t->nbuf++] = i;
        t->len += b->len;
    }
    if (t->len >= want || (t->nbuf && (settle || !n->mergeable)))
        return true;
    net_rx_return(n, t, 0);
    return false;
}

void net_rx_return(struct net *n, struct net_take *t, unsigned first)
{
    for (unsigned k = t->nbuf; k > first; k--) {
        n->ready_head = (uint16_t)((n->ready_head + NET_BUFS - 1) % NET_BUFS);
        n->ready[n->ready_head] = t->buf[k - 1];
        n->nready++;
    }
    t->nbuf = 0;
}

void net_rx_finish(struct net *n, struct net_take *t, uint32_t len)
{
    struct virtq *vq = &n->dev.vq[NET_RX];
    uint8_t to[6];
    unsigned used = 0;
    uint32_t left = len;

    if (len < NET_HDR_LEN + NET_ETH_HLEN || len > t->len ||
        virtq_gather(to, sizeof to, t->iov, t->niov, NET_HDR_LEN) != sizeof to) {
        n->count[NET_C_RX_DROPPED].value++;
        net_rx_return(n, t, 0);
        return;
    }
    if (!net_filter_takes(n, to)) {
        n->count[NET_C_FILTERED].value++;
        net_rx_return(n, t, 0);
        return;
    }
    while (left) { /* ends: len <= t->len, the sum of these */
        uint32_t l = n->buf[t->buf[used++]].len;

        left -= l < left ? l : left;
    }
    uint16_t count = htole16((uint16_t)used);

    net_count(n, NET_C_RX_FRAMES, t->iov, t->niov, len);

    virtq_scatter(t->iov, t->niov, NET_HDR_NUM_BUFFERS, &count, sizeof count);
    left = len;
    for (unsigned k = 0; k < used; k++) {
        struct net_buf *b = &n->buf[t->buf[k]];
        struct virtq_chain c = {
            .iov = b->iov, .cap = NET_BUF_IOVS, .head = b->head, .nin = b->niov, .in_len = b->len};
        uint32_t l = b->len < left ? b->len : left;

        virtq_push(vq, &c, l);
        left -= l;
        n->free_buf[n->nfree++] = t->buf[k];
    }
    net_traffic(n, len);
    net_rx_return(n, t, used);
}
