/*
 * virtio-net: the device (VIRTIO 1.2 §5.1). Frames go by a backend (net.h); the driver sees one
 * receive queue, one transmit queue and the control queue.
 */
#include "virtio/net.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

void net_link_down(struct net *n)
{
    uint16_t status = 0;

    if (!n->link_up)
        return;
    n->link_up = false;
    virtio_config_set(&n->dev, offsetof(struct net_config, status), &status, sizeof status);
    virtio_look_again(&n->dev, NET_TX);
}

/*
 * Interrupt moderation. While a stream goes (6 MB/s and more), the driver hears of received frames
 * and of sent ones no more often than a network card would tell it, and does not notify: the queues
 * are looked at by time. A stream is not held up by it as long as its windows last that long, and
 * where they do not nothing more comes, which ends the wait (sched.c). A guest that waits for
 * single answers never gets into this state.
 */
#define BULK_BYTES (64u << 10)
#define TICK_NS    10000000u
#define PACE_NS    3000000u

static void set_bulk(struct net *n, bool bulk)
{
    n->bulk = bulk;
    n->bytes = 0;
    n->dev.vq[NET_RX].pace = n->dev.vq[NET_TX].pace = bulk ? PACE_NS : 0;
    io_timer_set(n->dev.io, &n->tick, bulk ? io_now() + TICK_NS : 0);
}

static void on_tick(struct io_timer *t)
{
    struct net *n = (struct net *)((char *)t - offsetof(struct net, tick));

    set_bulk(n, n->running && n->bytes >= BULK_BYTES / 4);
}

void net_traffic(struct net *n, uint32_t bytes)
{
    n->bytes += bytes;
    if (n->bulk || n->bytes < BULK_BYTES)
        return;
    uint64_t now = io_now();

    if (now - n->since < TICK_NS)
        set_bulk(n, true);
    n->since = now;
    n->bytes = 0;
}

/* The header's words on segmentation (§5.1.6) are the driver's own in frames to send: they decide
 * a number for --stats, nothing else. */
void net_count(struct net *n, unsigned which, const struct iovec *iov, unsigned niov, uint32_t len)
{
    uint16_t hdr[4];
    uint32_t packets = 1;

    if (virtq_gather(hdr, sizeof hdr, iov, niov, 0) == sizeof hdr && hdr[0] >> 8) {
        uint32_t before = NET_HDR_LEN + le16toh(hdr[1]), size = le16toh(hdr[2]);

        if (size && len > before)
            packets = (len - before + size - 1) / size;
    }
    n->count[which].value++;
    n->count[which + 1].value += packets;
    n->count[NET_C_FRAMES].value++;
    n->count[NET_C_PACKETS].value += packets;
}

void net_tx_done(struct net *n, const struct virtq_chain *c, bool sent)
{
    if (sent) {
        net_count(n, NET_C_TX_FRAMES, c->iov, c->nout, c->out_len);
        net_traffic(n, c->out_len);
    } else {
        n->count[NET_C_TX_DROPPED].value++;
    }
    virtq_push(&n->dev.vq[NET_TX], c, 0);
}

/* Pop and drop everything in the transmit queue. */
static void discard_tx(struct net *n)
{
    struct iovec iov[VIRTQ_SIZE_MAX];
    struct virtq_chain c = {.iov = iov, .cap = VIRTQ_SIZE_MAX};

    while (virtq_pop(&n->dev.vq[NET_TX], &c) > 0)
        net_tx_done(n, &c, false);
}

static int attach(struct virtio_dev *dev)
{
    struct net *n = (struct net *)dev;

    return n->backend->attach(n);
}

static void start(struct virtio_dev *dev)
{
    struct net *n = (struct net *)dev;

    net_rx_init(n);
    net_filter_reset(n);
    n->mergeable = virtio_has(dev, NET_BIT(MRG_RXBUF));
    n->running = true;
    n->backend->start(n);
}

static void notify(struct virtio_dev *dev, unsigned q)
{
    struct net *n = (struct net *)dev;

    if (!n->running)
        return;
    if (q == NET_CTRL)
        net_ctrl_notify(n);
    else if (q == NET_RX)
        n->backend->rx(n);
    else if (n->link_up)
        n->backend->tx(n);
    else
        discard_tx(n);
}

static void reset(struct virtio_dev *dev)
{
    struct net *n = (struct net *)dev;

    if (!n->running)
        return;
    n->running = false;
    set_bulk(n, false);
    n->backend->reset(n);
}

static void stop(struct virtio_dev *dev)
{
    struct net *n = (struct net *)dev;

    if (n->backend->stop)
        n->backend->stop(n);
}

static const struct virtio_ops net_ops = {
    .name = "net",
    .id = VIRTIO_ID_NET,
    .attach = attach,
    .start = start,
    .notify = notify,
    .reset = reset,
    .stop = stop,
};

/* Locally administered, for one run. */
static int random_mac(uint8_t mac[6])
{
    if (getrandom(mac, 6, GRND_NONBLOCK) != 6)
        return -errno;
    mac[0] = (uint8_t)((mac[0] & ~1u) | 2u);
    return 0;
}

static uint32_t buffer_of(int fd)
{
    int size = 0;
    socklen_t len = sizeof size;

    return getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &len) || size < 0 ? 0 : (uint32_t)size;
}

static int open_backend(struct net *n, const struct net_options *o, char *err, size_t len)
{
    int fd, e;

    if (!o->user)
        return net_tap_open(n, o->tap, err, len);
    e = net_passt_start(o, &fd, err, len);
    n->address.ahead = e ? 0 : buffer_of(fd) / 2; /* the kernel counts its own bytes too */
    return e ? e : net_stream_open(n, fd, o->restricted, err, len);
}

static void name_counters(struct net *n)
{
    static const struct virtio_counter names[NET_COUNTERS] = {
        [NET_C_FRAMES] = {.name = "frames", .each = "frame"},
        [NET_C_PACKETS] = {.name = "packets", .each = "packet"},
        [NET_C_RX_FRAMES] = {.name = "rx_frames"},
        [NET_C_RX_PACKETS] = {.name = "rx_packets"},
        [NET_C_TX_FRAMES] = {.name = "tx_frames"},
        [NET_C_TX_PACKETS] = {.name = "tx_packets"},
        [NET_C_RX_DROPPED] = {.name = "rx_dropped"},
        [NET_C_TX_DROPPED] = {.name = "tx_dropped"},
        [NET_C_FILTERED] = {.name = "filtered"},
    };

    memcpy(n->count, names, sizeof names);
    n->dev.counters = n->count;
}

struct net *net_new(const struct net_options *o, char *err, size_t len)
{
    struct net *n = calloc(1, sizeof *n);
    int e;

    if (!n) {
        snprintf(err, len, "out of memory");
        return NULL;
    }
    if (o->has_mac) {
        memcpy(n->config.mac, o->mac, 6);
    } else if ((e = random_mac(n->config.mac))) {
        snprintf(err, len, "getrandom: %s; give mac=", strerror(-e));
        free(n);
        return NULL;
    }
    n->address = o->address;
    n->config.status = htole16(NET_S_LINK_UP);
    n->config.max_virtqueue_pairs = htole16(1);
    n->link_up = true;
    n->tick.fire = on_tick;
    name_counters(n);
    n->dev.ops = &net_ops;
    n->dev.config = (uint8_t *)&n->config;
    n->dev.config_len = sizeof n->config;
    n->dev.nqueues = NET_QUEUES;
    n->dev.vq[NET_RX].size_max = NET_BUFS;
    n->dev.vq[NET_TX].size_max = 256;
    n->dev.vq[NET_CTRL].size_max = 64;
    n->dev.vq[NET_RX].gather = n->dev.vq[NET_TX].gather = true;
    n->dev.features = NET_BIT(MAC) | NET_BIT(STATUS) | NET_BIT(MTU) | NET_BIT(MRG_RXBUF) |
                      NET_BIT(CTRL_VQ) | NET_BIT(CTRL_RX) | NET_BIT(CTRL_MAC_ADDR) |
                      NET_BIT(GUEST_CSUM);
    return n;
}

const struct net_address *net_address_of(const struct virtio_dev *dev)
{
    return &((const struct net *)dev)->address;
}

int net_create(const char *arg, struct virtio_dev **dev, char *err, size_t len)
{
    struct net_options o;
    int e = net_options_parse(arg, &o, err, len);
    struct net *n = e ? NULL : net_new(&o, err, len);

    if (!n)
        return e ? e : -ENOMEM;
    e = open_backend(n, &o, err, len);
    if (e) {
        free(n);
        return e;
    }
    const uint8_t *m = n->config.mac;

    snprintf(n->label, sizeof n->label, "net '%s', MAC %02x:%02x:%02x:%02x:%02x:%02x, MTU %u",
             o.user ? "user" : o.tap, m[0], m[1], m[2], m[3], m[4], m[5],
             (unsigned)le16toh(n->config.mtu));
    n->dev.label = n->label;
    *dev = &n->dev;
    return 0;
}
