/*
 * The control queue (VIRTIO 1.2 §5.1.6.5): what the driver wants to receive, and its address.
 */
#include <endian.h>
#include <string.h>
#include "virtio/net.h"

enum { CLASS_RX = 0, RX_PROMISC = 0, RX_ALLMULTI = 1 };
enum { CLASS_MAC = 1, MAC_TABLE_SET = 0, MAC_ADDR_SET = 1 };
enum { ACK_OK = 0, ACK_ERR = 1 };

#define TABLE_MAX (sizeof((struct net_filter *)0)->unicast / 6)

void net_filter_reset(struct net *n)
{
    /* Until the driver says what it wants it gets everything, as from a plain cable. */
    memset(&n->filter, 0, sizeof n->filter);
    n->filter.promisc = !virtio_has(&n->dev, NET_BIT(CTRL_RX));
    n->filter.all_multicast = true;
}

static bool listed(const uint8_t (*table)[6], unsigned count, const uint8_t mac[6])
{
    for (unsigned i = 0; i < count; i++)
        if (!memcmp(table[i], mac, 6))
            return true;
    return false;
}

bool net_filter_takes(const struct net *n, const uint8_t mac[6])
{
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const struct net_filter *f = &n->filter;

    if (f->promisc || !memcmp(mac, broadcast, 6))
        return true;
    if (mac[0] & 1)
        return f->allmulti || f->all_multicast || listed(f->multicast, f->nmulticast, mac);
    return !memcmp(mac, n->config.mac, 6) || f->all_unicast || listed(f->unicast, f->nunicast, mac);
}

/* One table of addresses at off: a count, then as many addresses. Longer than we keep: *all. */
static bool read_table(const struct virtq_chain *c, size_t *off, uint8_t (*table)[6],
                       uint16_t *count, bool *all)
{
    uint32_t entries;

    if (virtq_gather(&entries, sizeof entries, c->iov, c->nout, *off) != sizeof entries)
        return false;
    *off += sizeof entries;
    entries = le32toh(entries);
    if (entries > (c->out_len - *off) / 6)
        return false;
    *all = entries > TABLE_MAX;
    *count = *all ? 0 : (uint16_t)entries;
    virtq_gather(table, *count * 6u, c->iov, c->nout, *off);
    *off += (size_t)entries * 6;
    return true;
}

static uint8_t command(struct net *n, const struct virtq_chain *c)
{
    struct net_filter f = n->filter;
    uint8_t head[3] = {0xff, 0xff, 0}, mac[6];
    size_t off = 2;

    virtq_gather(head, sizeof head, c->iov, c->nout, 0);
    if (head[0] == CLASS_RX && virtio_has(&n->dev, NET_BIT(CTRL_RX)) && c->out_len == 3) {
        if (head[1] == RX_PROMISC)
            n->filter.promisc = head[2] != 0;
        else if (head[1] == RX_ALLMULTI)
            n->filter.allmulti = head[2] != 0;
        else
            return ACK_ERR;
        return ACK_OK;
    }
    if (head[0] == CLASS_MAC && head[1] == MAC_TABLE_SET && virtio_has(&n->dev, NET_BIT(CTRL_RX))) {
        if (!read_table(c, &off, f.unicast, &f.nunicast, &f.all_unicast) ||
            !read_table(c, &off, f.multicast, &f.nmulticast, &f.all_multicast))
            return ACK_ERR;
        n->filter = f;
        return ACK_OK;
    }
    if (head[0] == CLASS_MAC && head[1] == MAC_ADDR_SET &&
        virtio_has(&n->dev, NET_BIT(CTRL_MAC_ADDR)) && c->out_len == 8) {
        virtq_gather(mac, sizeof mac, c->iov, c->nout, 2);
        if (mac[0] & 1)
            return ACK_ERR;
        virtio_config_set(&n->dev, 0, mac, sizeof mac);
        return ACK_OK;
    }
    return ACK_ERR;
}

void net_ctrl_notify(struct net *n)
{
    struct virtq *vq = &n->dev.vq[NET_CTRL];
    struct iovec iov[VIRTQ_SIZE_MAX];
    struct virtq_chain c = {.iov = iov, .cap = VIRTQ_SIZE_MAX};

    while (virtq_pop(vq, &c) > 0) {
        uint8_t ack = command(n, &c);

        virtq_push(vq, &c, (uint32_t)virtq_scatter(iov + c.nout, c.nin, 0, &ack, 1));
    }
}
