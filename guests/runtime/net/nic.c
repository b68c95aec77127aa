/*
 * virtio-net, driver side (VIRTIO 1.2 §5.1).
 *
 * Receive: buffers are pages with a struct pbuf_custom at their end; a frame is a chain of them and
 * goes up as it is, other pages take their place in the ring. Short frames are copied: a page would
 * be too much for them. Transmit: one indirect descriptor a frame, its table points at the pbufs'
 * bytes; the frame's pbufs are held until the card has sent it. What finds the ring full waits.
 *
 * The card's interrupts are edges, so its interrupt status need not be read (and no exit is paid).
 */
#include "guests/runtime/net/nic.h"
#include "guests/runtime/socket.h"
#include "guests/runtime/process.h"
#include "guests/runtime/virtio.h"

#include "lwip/etharp.h"
#include "lwip/ip.h"
#include "lwip/prot/tcp.h"
#include "lwip/prot/udp.h"
#include "netif/ethernet.h"

enum { RX, TX };
enum { CSUM = 0, GUEST_CSUM = 1, MTU = 3, MAC = 5, GUEST_TSO4 = 7, HOST_TSO4 = 11, MRG_RXBUF = 15 };
#define FEATURE(f) (1ull << (f))
#define INDIRECT   (1ull << 28)

enum { NEEDS_CSUM = 1, DATA_VALID = 2, GSO_TCPV4 = 1, INDIRECT_FLAG = 4 };
struct header {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

#define SLOTS    128u
#define PIECES   40u
#define BACKLOG  512u
#define ETHERNET 14u
#define COPIED   1024u /* frames up to this are copied */

struct rx_page {
    char bytes[PAGE - sizeof(struct pbuf_custom)];
    struct pbuf_custom pbuf;
};

static struct virtio card;
static struct virtq rx, tx;
static uint64_t features;
static unsigned mtu;

static struct rx_page *rx_slot[SLOTS], *rx_free;
static unsigned rx_given;

static struct virtq_desc table[SLOTS][PIECES] __attribute__((aligned(16)));
static struct header head[SLOTS];
static struct pbuf *sending[SLOTS], *backlog[BACKLOG];
static uint16_t tx_slot[SLOTS]; /* free ones */
static unsigned tx_nfree, waiting_at, waiting;
static uint64_t given, done, number[SLOTS]; /* of frames */

/* --- transmit --- */

static struct limbo {
    struct limbo *next;
    uint64_t until; /* frames done */
} * limbo_head, *limbo_tail;

void nic_page_done(void *page)
{
    struct limbo *l = page;

    if (given == done && !waiting) {
        kfree(page, PAGE);
        return;
    }
    *l = (struct limbo){NULL, given + waiting};
    if (limbo_tail)
        limbo_tail->next = l;
    else
        limbo_head = l;
    limbo_tail = l;
}

/* Frames may come back in another order: those before this one are gone. */
static uint64_t oldest(void)
{
    uint64_t n = given;

    for (unsigned i = 0; i < SLOTS; i++)
        if (sending[i] && number[i] < n)
            n = number[i];
    return n;
}

static void leave_limbo(void)
{
    if (!limbo_head || limbo_head->until > done)
        return;
    uint64_t gone = oldest();

    while (limbo_head && limbo_head->until <= gone) {
        struct limbo *l = limbo_head;

        limbo_head = l->next;
        if (!limbo_head)
            limbo_tail = NULL;
        kfree(l, PAGE);
    }
}

/* Checksum and segmentation are left to the card: the pseudo-header's sum goes where the checksum
 * will be (§5.1.6.2). */
static void offload(struct pbuf *p, struct header *h)
{
    uint8_t *frame = p->payload, *transport;
    const struct eth_hdr *eth = p->payload;
    struct ip_hdr *ip = (struct ip_hdr *)(frame + ETHERNET);
    unsigned ihl, offset;

    *h = (struct header){0};
    if (!(features & FEATURE(CSUM)) || p->len < ETHERNET + IP_HLEN ||
        eth->type != PP_HTONS(ETHTYPE_IP) || IPH_OFFSET(ip) & PP_HTONS(IP_OFFMASK | IP_MF))
        return;
    ihl = IPH_HL_BYTES(ip);
    transport = frame + ETHERNET + ihl;
    if (IPH_PROTO(ip) == IP_PROTO_TCP && p->len >= ETHERNET + ihl + TCP_HLEN)
        offset = 16;
    else if (IPH_PROTO(ip) == IP_PROTO_UDP && p->len >= ETHERNET + ihl + UDP_HLEN)
        offset = 6;
    else
        return;
    unsigned total = p->tot_len - ETHERNET;
    uint32_t sum = (ip->src.addr & 0xffff) + (ip->src.addr >> 16) + (ip->dest.addr & 0xffff) +
                   (ip->dest.addr >> 16) + PP_HTONS((uint16_t)IPH_PROTO(ip)) +
                   lwip_htons((uint16_t)(total - ihl));

    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    transport[offset] = (uint8_t)sum;
    transport[offset + 1] = (uint8_t)(sum >> 8);
    h->flags = NEEDS_CSUM;
    h->csum_start = (uint16_t)(ETHERNET + ihl);
    h->csum_offset = (uint16_t)offset;
    if (offset == 16 && total > mtu) {
        unsigned tcp = TCPH_HDRLEN_BYTES((struct tcp_hdr *)transport);

        h->gso_type = GSO_TCPV4;
        h->hdr_len = (uint16_t)(ETHERNET + ihl + tcp);
        h->gso_size = (uint16_t)(mtu - IP_HLEN - TCP_HLEN);
    }
}

/* p is ours. */
static void give(struct pbuf *p)
{
    unsigned slot = tx_slot[--tx_nfree], n = 1;
    struct virtq_desc *t = table[slot];

    offload(p, &head[slot]);
    t[0] = (struct virtq_desc){kpa(&head[slot]), sizeof head[slot], VIRTQ_NEXT, 1};
    for (const struct pbuf *q = p; q; q = q->next) {
        if (!q->len)
            continue;
        t[n] = (struct virtq_desc){kpa(q->payload), q->len, VIRTQ_NEXT, (uint16_t)(n + 1)};
        n++;
    }
    t[n - 1].flags = 0;
    sending[slot] = p;
    number[slot] = given++;
    virtq_put(&tx, slot, t, n * sizeof *t, INDIRECT_FLAG);
    virtq_add(&tx, slot);
}

static void want_interrupts(bool on)
{
    tx.avail[0] = !on;
    __asm__ volatile("mfence" : : : "memory");
}

unsigned nic_reclaim(void)
{
    struct virtq_used u;
    bool room = false;

    if (!card.reg)
        return 0;
    do {
        while (virtq_take(&tx, &u)) {
            if (u.id >= SLOTS || !sending[u.id])
                continue;
            pbuf_free(sending[u.id]);
            sending[u.id] = NULL;
            tx_slot[tx_nfree++] = (uint16_t)u.id;
            done++;
            room = true;
        }
        leave_limbo();
        if (!waiting || !room)
            break;
        while (waiting && tx_nfree) {
            give(backlog[waiting_at]);
            waiting_at = (waiting_at + 1) % BACKLOG;
            waiting--;
        }
        virtq_kick(&tx);
        if (!waiting)
            want_interrupts(false);
        room = false;
    } while (waiting);
    return (unsigned)(given - done) + waiting;
}

static unsigned pieces(const struct pbuf *p)
{
    unsigned n = 1;

    for (; p; p = p->next)
        n += p->len != 0;
    return n;
}

static err_t transmit(struct netif *netif, struct pbuf *p)
{
    (void)netif;
    nic_reclaim();
    if (pieces(p) > PIECES) {
        p = pbuf_clone(PBUF_RAW, PBUF_RAM, p);
        if (!p)
            return ERR_MEM;
    } else {
        pbuf_ref(p);
    }
    if (tx_nfree && !waiting) {
        give(p);
        virtq_kick(&tx);
        return ERR_OK;
    }
    if (waiting == BACKLOG) {
        pbuf_free(p);
        return ERR_MEM;
    }
    backlog[(waiting_at + waiting++) % BACKLOG] = p;
    if (waiting == 1) {
        want_interrupts(true);
        nic_reclaim(); /* something may have come back before it knew */
    }
    return ERR_OK;
}

/* lwIP would cut every packet past the MTU into fragments: the card does better with TCP's. */
err_t __real_ip4_frag(struct pbuf *p, struct netif *netif, const ip4_addr_t *to);
err_t __wrap_ip4_frag(struct pbuf *p, struct netif *netif, const ip4_addr_t *to);
err_t __wrap_ip4_frag(struct pbuf *p, struct netif *netif, const ip4_addr_t *to)
{
    const struct ip_hdr *ip = p->payload;

    if (netif->linkoutput == transmit && nic_segment_limit() && IPH_PROTO(ip) == IP_PROTO_TCP)
        return netif->output(netif, p, to);
    return __real_ip4_frag(p, netif, to);
}

/* --- receive --- */

static struct rx_page *new_page(void)
{
    struct rx_page *p = rx_free;

    if (p) {
        rx_free = *(struct rx_page **)p->bytes;
        return p;
    }
    uint64_t pa = net_short_of_memory(16) ? 0 : frame_alloc();

    return pa ? kva(pa) : NULL;
}

static void old_page(struct rx_page *p)
{
    *(struct rx_page **)p->bytes = rx_free;
    rx_free = p;
}

static void page_freed(struct pbuf *p)
{
    old_page((struct rx_page *)((char *)p - offsetof(struct rx_page, pbuf)));
}

static void refill(void)
{
    unsigned before = rx_given;

    for (unsigned i = 0; i < SLOTS && rx_given < SLOTS; i++) {
        if (rx_slot[i])
            continue;
        rx_slot[i] = new_page();
        if (!rx_slot[i])
            break;
        rx_given++;
        virtq_put(&rx, i, rx_slot[i]->bytes, sizeof rx_slot[i]->bytes, VIRTQ_WRITE);
        virtq_add(&rx, i);
    }
    if (rx_given != before)
        virtq_kick(&rx);
}

static struct rx_page *take(unsigned *len)
{
    struct virtq_used u;
    struct rx_page *p;

    while (virtq_take(&rx, &u)) {
        if (u.id >= SLOTS || !rx_slot[u.id])
            continue;
        p = rx_slot[u.id];
        rx_slot[u.id] = NULL;
        rx_given--;
        *len = (unsigned)least(u.length, sizeof p->bytes);
        return p;
    }
    return NULL;
}

/* The bytes of a page from skip on. */
static struct pbuf *wrap(struct rx_page *p, unsigned skip, unsigned len)
{
    struct pbuf *b = NULL;

    if (len < skip)
        skip = len;
    len -= skip;
    if (len <= COPIED && (b = pbuf_alloc(PBUF_RAW, (uint16_t)len, PBUF_RAM))) {
        copy(b->payload, p->bytes + skip, len);
        old_page(p);
        return b;
    }
    p->pbuf.custom_free_function = page_freed;
    return pbuf_alloced_custom(PBUF_RAW, (uint16_t)len, PBUF_REF, &p->pbuf, p->bytes + skip,
                               (uint16_t)len);
}

/* What goes up to IP goes without the Ethernet header: with it, the longest packets would not fit a
 * pbuf's 16-bit length. */
static void up(struct netif *netif, struct pbuf *p, const struct eth_hdr *eth, bool valid)
{
    uint16_t flags = netif->chksum_flags;

    if (!valid)
        netif->chksum_flags |= NETIF_CHECKSUM_CHECK_TCP | NETIF_CHECKSUM_CHECK_UDP;
    p->if_idx = netif_get_index(netif);
    if (eth->dest.addr[0] & 1)
        p->flags |= eth->dest.addr[0] == 0xff ? PBUF_FLAG_LLBCAST : PBUF_FLAG_LLMCAST;
    ip4_input(p, netif);
    netif->chksum_flags = flags;
}

static bool receive(struct netif *netif)
{
    struct header h;
    struct eth_hdr eth;
    unsigned len, n;
    struct rx_page *page = take(&len);
    struct pbuf *p, *more;

    if (!page)
        return false;
    copy(&h, page->bytes, sizeof h);
    copy(&eth, page->bytes + sizeof h, sizeof eth);
    n = h.num_buffers;
    if (len < sizeof h + sizeof eth) {
        old_page(page);
        return true;
    }
    bool ip = eth.type == PP_HTONS(ETHTYPE_IP);

    p = wrap(page, sizeof h + (ip ? ETHERNET : 0), len);
    while (n-- > 1 && (page = take(&len))) {
        more = wrap(page, 0, len);
        if (p->tot_len + more->tot_len > 0xffff)
            pbuf_free(more); /* no frame is so long */
        else
            pbuf_cat(p, more);
    }
    if (ip)
        up(netif, p, &eth, h.flags & (NEEDS_CSUM | DATA_VALID));
    else if (netif->input(p, netif) != ERR_OK)
        pbuf_free(p);
    return true;
}

void nic_poll(struct netif *netif)
{
    if (!card.reg)
        return;
    virtio_interrupted(&card);
    nic_reclaim();
    while (receive(netif))
        if (rx_given < SLOTS / 2)
            refill();
    refill();
}

unsigned nic_segment_limit(void)
{
    unsigned mss = mtu - IP_HLEN - TCP_HLEN;

    return features & FEATURE(HOST_TSO4) ? 32768 / mss * mss : 0;
}

/* --- start --- */

err_t nic_start(struct netif *netif)
{
    uint64_t wanted = FEATURE(CSUM) | FEATURE(GUEST_CSUM) | FEATURE(MTU) | FEATURE(MAC) |
                      FEATURE(GUEST_TSO4) | FEATURE(HOST_TSO4) | FEATURE(MRG_RXBUF) | INDIRECT;
    uint32_t mac[2];

    if (!virtio_find(&card, VIRTIO_NET, 0) || !virtio_start(&card, wanted, &features) ||
        (features & (INDIRECT | FEATURE(MRG_RXBUF))) != (INDIRECT | FEATURE(MRG_RXBUF)) ||
        !virtio_queue(&card, &rx, RX, SLOTS, true) || !virtio_queue(&card, &tx, TX, SLOTS, false)) {
        card.reg = NULL;
        return ERR_IF;
    }
    virtio_interrupts(&card, VECTOR_NET);
    virtio_go(&card);
    for (unsigned i = 0; i < SLOTS; i++)
        tx_slot[tx_nfree++] = (uint16_t)i;
    mac[0] = virtio_config(&card, 0);
    mac[1] = virtio_config(&card, 4);
    copy(netif->hwaddr, mac, 6);
    netif->hwaddr_len = 6;
    mtu = features & FEATURE(MTU) ? virtio_config(&card, 8) >> 16 : 1500;
    netif->mtu = (uint16_t)mtu;
    netif->name[0] = 'e';
    netif->name[1] = 't';
    netif->output = etharp_output;
    netif->linkoutput = transmit;
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET;
    uint16_t sums = NETIF_CHECKSUM_GEN_IP | NETIF_CHECKSUM_GEN_ICMP | NETIF_CHECKSUM_CHECK_IP |
                    NETIF_CHECKSUM_CHECK_ICMP;

    if (!(features & FEATURE(CSUM)))
        sums |= NETIF_CHECKSUM_GEN_TCP | NETIF_CHECKSUM_GEN_UDP;
    NETIF_SET_CHECKSUM_CTRL(netif, sums);
    refill();
    return ERR_OK;
}
