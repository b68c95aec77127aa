/*
 * virtio-vsock, driver side (VIRTIO 1.2 §5.10): packets to and from the host, the connections they
 * belong to. A packet is a page, its header first; data leaves some of the transmit ring to control
 * packets, so that these find a place.
 */
#include "guests/runtime/net/vsock.h"
#include "guests/runtime/process.h"
#include "guests/runtime/virtio.h"

enum { RX, TX, EVENT };
#define SLOTS       32u
#define FOR_CONTROL 8u
#define STREAM      1u
#define FIRST_PORT  1024u

struct packet {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, len;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));
#define PAYLOAD (PAGE - sizeof(struct packet))

static struct virtio device;
static struct virtq rx, tx, event;
static uint32_t cid;
static struct packet *rx_page[SLOTS], *tx_page[SLOTS];
static uint8_t tx_slot[SLOTS]; /* free ones */
static unsigned tx_nfree;
static bool starving; /* somebody found the ring full: the device says when it is not */
static struct vsock *all;

bool vsock_there(void)
{
    return device.reg;
}

uint32_t vsock_cid(void)
{
    return cid;
}

/* --- connections --- */

struct vsock *vsock_new(struct socket *s)
{
    struct vsock *v = kalloc(sizeof *v);

    if (!v)
        return NULL;
    v->socket = s;
    v->next = all;
    all = v;
    return v;
}

void vsock_free(struct vsock *v)
{
    struct vsock **p = &all;

    while (*p != v)
        p = &(*p)->next;
    *p = v->next;
    ring_free(&v->ring);
    kfree(v, sizeof *v);
}

static struct vsock *find(const struct packet *p)
{
    for (struct vsock *v = all; v; v = v->next)
        if (v->state >= VSOCK_ASKS && v->port == p->dst_port && v->peer_port == p->src_port &&
            v->peer == p->src_cid)
            return v;
    return NULL;
}

struct vsock *vsock_listener(uint32_t port)
{
    for (struct vsock *v = all; v; v = v->next)
        if (v->state == VSOCK_LISTENS && v->port == port)
            return v;
    return NULL;
}

bool vsock_port_taken(uint32_t port)
{
    for (struct vsock *v = all; v; v = v->next)
        if (v->port == port && v->state != VSOCK_OVER)
            return true;
    return false;
}

uint32_t vsock_free_port(void)
{
    static uint32_t last;

    do
        last = last < FIRST_PORT ? FIRST_PORT : last + 1;
    while (last == VSOCK_ANY || vsock_port_taken(last));
    return last;
}

/* --- to the host --- */

static void want_interrupts(bool on)
{
    starving = on;
    tx.avail[0] = !on;
    __asm__ volatile("mfence" : : : "memory");
}

static void reclaim(void)
{
    struct virtq_used u;
    bool some = false;

    while (virtq_take(&tx, &u))
        if (u.id < SLOTS && tx_nfree < SLOTS) {
            tx_slot[tx_nfree++] = (uint8_t)u.id;
            some = true;
        }
    if (!some || !starving)
        return;
    want_interrupts(false);
    for (struct vsock *v = all; v; v = v->next)
        if (v->socket)
            socket_changed(v->socket);
}

/* 0, or an error of from's. The ring has room. */
static int emit(const struct packet *h, struct span *from)
{
    unsigned slot = tx_slot[tx_nfree - 1];
    struct packet *p = tx_page[slot];

    if (!p && !(p = tx_page[slot] = kalloc(PAGE)))
        return -ENOMEM;
    *p = *h;
    if (h->len && span_read(from, p + 1, h->len))
        return -EFAULT;
    tx_nfree--;
    virtq_put(&tx, slot, p, sizeof *p + h->len, 0);
    virtq_add(&tx, slot);
    virtq_kick(&tx);
    return 0;
}

static struct packet header(struct vsock *v, enum vsock_op op)
{
    v->told = v->taken;
    return (struct packet){.src_cid = cid,
                           .dst_cid = v->peer,
                           .src_port = v->port,
                           .dst_port = v->peer_port,
                           .type = STREAM,
                           .op = (uint16_t)op,
                           .buf_alloc = RING_BYTES,
                           .fwd_cnt = v->taken};
}

/* The device takes packets at once or it is broken. */
static bool wait_for_slot(void)
{
    for (;;) {
        reclaim();
        if (tx_nfree)
            return true;
        if (virtio_broken(&device))
            return false;
        __asm__ volatile("pause" : : : "memory");
    }
}

void vsock_control(struct vsock *v, enum vsock_op op, uint32_t flags)
{
    struct packet h = header(v, op);

    h.flags = flags;
    if (wait_for_slot())
        emit(&h, NULL);
}

static void refuse(const struct packet *p)
{
    struct packet h = {.src_cid = cid,
                       .dst_cid = p->src_cid,
                       .src_port = p->dst_port,
                       .dst_port = p->src_port,
                       .type = p->type,
                       .op = VSOCK_RST};

    if (p->op != VSOCK_RST && wait_for_slot())
        emit(&h, NULL);
}

static uint32_t credit(const struct vsock *v)
{
    uint32_t under_way = v->sent - v->peer_took;

    return under_way < v->peer_room ? v->peer_room - under_way : 0;
}

bool vsock_can_send(const struct vsock *v)
{
    return credit(v) && tx_nfree > FOR_CONTROL;
}

int64_t vsock_send(struct vsock *v, struct span *from)
{
    int64_t done = 0;

    while (from->left) {
        struct packet h = header(v, VSOCK_RW);

        reclaim();
        h.len = (uint32_t)least(least(from->left, PAYLOAD), credit(v));
        if (h.len && tx_nfree <= FOR_CONTROL) {
            want_interrupts(true);
            reclaim(); /* something may have come back before it knew */
        }
        if (!h.len || tx_nfree <= FOR_CONTROL)
            break;
        int err = emit(&h, from);

        if (err)
            return done ? done : err;
        v->sent += h.len;
        done += h.len;
    }
    return done;
}

void vsock_taken(struct vsock *v, uint64_t n)
{
    v->taken += (uint32_t)n;
    if (v->state == VSOCK_UP && v->taken - v->told >= RING_BYTES / 2)
        vsock_control(v, VSOCK_CREDIT_UPDATE, 0);
}

/* --- from the host --- */

static void changed(struct vsock *v)
{
    if (v->socket)
        socket_changed(v->socket);
}

/* The end of a connection, by either side's RST. */
static void end(struct vsock *v, int error)
{
    v->state = VSOCK_OVER;
    if (!v->socket) {
        vsock_free(v);
        return;
    }
    if (error)
        v->socket->error = error;
    changed(v);
}

static void requested(const struct packet *p)
{
    struct vsock *l = vsock_listener(p->dst_port), *v, **at;
    struct socket *s = NULL;

    if (!l || l->queued >= l->backlog || !(s = socket_new(&vsock_ops)) || !(v = vsock_new(s))) {
        if (s)
            socket_free(s);
        refuse(p);
        return;
    }
    s->impl = v;
    v->state = VSOCK_UP;
    v->port = p->dst_port;
    v->peer = (uint32_t)p->src_cid;
    v->peer_port = p->src_port;
    v->peer_room = p->buf_alloc;
    v->peer_took = p->fwd_cnt;
    for (at = &l->queue; *at; at = &(*at)->next_queued)
        ;
    *at = v;
    l->queued++;
    vsock_control(v, VSOCK_RESPONSE, 0);
    changed(l);
}

/* false: more than there is room for, which the host was told. */
static bool store(struct vsock *v, const char *data, uint32_t len)
{
    if (len > RING_BYTES - v->ring.len)
        return false;
    while (len) {
        uint64_t n = len;
        char *to = ring_room(&v->ring, &n);

        if (!to)
            return false;
        copy(to, data, n);
        ring_add(&v->ring, n);
        data += n;
        len -= (uint32_t)n;
    }
    return true;
}

static void shut(struct vsock *v, uint32_t flags)
{
    v->peer_no_receive |= flags & VSOCK_NO_RECEIVE;
    v->peer_no_send |= (flags & VSOCK_NO_SEND) != 0;
    if (v->peer_no_receive && v->peer_no_send) {
        vsock_control(v, VSOCK_RST, 0);
        end(v, 0);
    } else {
        changed(v);
    }
}

static void receive(const struct packet *p, uint32_t bytes)
{
    struct vsock *v;

    if (bytes < sizeof *p || p->len > bytes - sizeof *p || p->dst_cid != cid)
        return;
    v = p->type == STREAM ? find(p) : NULL;
    if (!v && p->op == VSOCK_REQUEST && p->type == STREAM) {
        requested(p);
        return;
    }
    if (!v || v->state == VSOCK_OVER) {
        refuse(p);
        return;
    }
    v->peer_room = p->buf_alloc;
    v->peer_took = p->fwd_cnt;
    switch (p->op) {
    case VSOCK_RESPONSE:
        if (v->state == VSOCK_ASKS)
            v->state = VSOCK_UP;
        break;
    case VSOCK_RST:
        end(v, v->state == VSOCK_ASKS || !v->peer_no_send ? ECONNRESET : 0);
        return;
    case VSOCK_SHUTDOWN:
        shut(v, p->flags);
        return;
    case VSOCK_RW:
        /* Nobody will read it, or there is more than we allowed. */
        if (!v->socket || v->no_read || !store(v, (const char *)(p + 1), p->len)) {
            vsock_control(v, VSOCK_RST, 0);
            end(v, ECONNRESET);
            return;
        }
        break;
    case VSOCK_CREDIT_REQUEST:
        vsock_control(v, VSOCK_CREDIT_UPDATE, 0);
        break;
    }
    changed(v);
}

void vsock_interrupt(void)
{
    struct virtq_used u;
    bool some = false;

    if (!device.reg)
        return;
    virtio_interrupted(&device);
    reclaim();
    while (virtq_take(&rx, &u)) {
        if (u.id >= SLOTS)
            continue;
        receive(rx_page[u.id], (uint32_t)least(u.length, PAGE));
        virtq_add(&rx, u.id);
        some = true;
    }
    if (some)
        virtq_kick(&rx);
}

bool vsock_busy(void)
{
    if (!device.reg || virtio_broken(&device))
        return false;
    want_interrupts(true);
    reclaim();
    for (const struct vsock *v = all; v; v = v->next)
        if (!v->socket)
            return true;
    return tx_nfree < SLOTS;
}

bool vsock_init(void)
{
    if (!virtio_find(&device, VIRTIO_VSOCK, 0))
        return false;
    if (!virtio_start(&device, 0, NULL) || !virtio_queue(&device, &rx, RX, SLOTS, true) ||
        !virtio_queue(&device, &tx, TX, SLOTS, false) ||
        !virtio_queue(&device, &event, EVENT, 4, false)) {
        device.reg = NULL;
        return false;
    }
    cid = virtio_config(&device, 0);
    virtio_interrupts(&device, VECTOR_NET);
    virtio_go(&device);
    for (unsigned i = 0; i < SLOTS; i++) {
        tx_slot[tx_nfree++] = (uint8_t)i;
        rx_page[i] = kalloc(PAGE);
        if (!rx_page[i])
            break;
        virtq_put(&rx, i, rx_page[i], PAGE, VIRTQ_WRITE);
        virtq_add(&rx, i);
    }
    virtq_kick(&rx);
    return true;
}
