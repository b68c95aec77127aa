/* The network card and the sockets behind hostile rings: after any nonsense a reset mends them, and
 * then they work. */
#include "tests/virtio_fix.h"

#include <sys/socket.h>
#include "virtio/net.h"
#include "virtio/vsock.h"

#define ROUNDS 300u

static uint64_t seed = 0x9e3779b97f4a7c15;

static uint64_t rnd(uint64_t below)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (seed >> 11) % below;
}

static uint64_t some_address(void)
{
    static const uint64_t edges[] = {8 * MIB - 100, UINT64_MAX - 50, 0xbfffff00, INDIRECT};

    return rnd(3) ? BUFFERS + rnd(4 * MIB) : edges[rnd(4)] + rnd(200);
}

/* Headers that make sense in parts, so that what lies behind them is reached. */
static void some_content(struct fix *f)
{
    for (unsigned i = 0; i < 64; i++) {
        struct vsock_hdr h = {.src_cid = 5,
                              .dst_cid = 2,
                              .src_port = (uint32_t)rnd(3),
                              .dst_port = (uint32_t)rnd(3),
                              .len = (uint32_t)(rnd(4) ? rnd(200) : rnd(UINT32_MAX)),
                              .type = (uint16_t)(rnd(8) != 0),
                              .op = (uint16_t)rnd(9),
                              .flags = (uint32_t)rnd(4),
                              .buf_alloc = (uint32_t)rnd(UINT32_MAX),
                              .fwd_cnt = (uint32_t)rnd(1000)};

        memcpy(f->ram.base + BUFFERS + i * 0x1000, &h, sizeof h);
    }
}

static void torment(struct fix *f, uint64_t features)
{
    f->size = 16;
    for (unsigned r = 0; r < ROUNDS; r++) {
        go(f, features);
        some_content(f);
        for (unsigned k = rnd(6) + 1; k; k--) {
            unsigned q = (unsigned)rnd(f->dev->nqueues);
            uint64_t table = RING_DESC + q * RING_STRIDE;
            bool sane = rnd(3);

            for (unsigned i = 0; i < 16; i++) {
                uint64_t at = sane ? BUFFERS + rnd(64) * 0x1000 : some_address();
                uint32_t len = (uint32_t)(rnd(4) ? rnd(3000) : rnd(sane ? 300000 : UINT32_MAX));

                put_desc(f, table, i, at, len,
                         (uint16_t)(sane ? (q == 0) * D_WRITE + rnd(2) * (i < 15) : rnd(8)),
                         (uint16_t)(sane ? i + 1 : rnd(24)));
                put_desc(f, INDIRECT, i, some_address(), len, (uint16_t)rnd(8), (uint16_t)rnd(24));
            }
            for (unsigned n = rnd(16); n; n--)
                offer(f, q, (uint16_t)rnd(sane ? 16 : 20));
            notify(f, q);
        }
        if (rnd(2))
            usleep((unsigned)rnd(300));
    }
    go(f, features);
}

struct peer {
    int fd;
    atomic_bool stop;
};

/* The other end: reads what comes, sends frames of all lengths. */
static void *peer_thread(void *arg)
{
    static uint8_t in[65536], out[4096];
    struct peer *p = arg;

    memset(out, 0xff, sizeof out);
    for (unsigned i = 0; !atomic_load(&p->stop); i++) {
        uint32_t len = 14 + i * 37 % 4000;

        while (recv(p->fd, in, sizeof in, MSG_DONTWAIT) > 0)
            ;
        out[0] = out[1] = 0;
        out[2] = (uint8_t)(len >> 8);
        out[3] = (uint8_t)len;
        for (uint32_t at = 0; at < 4 + len && !atomic_load(&p->stop);) {
            ssize_t n = send(p->fd, out + at, 4 + len - at, MSG_DONTWAIT | MSG_NOSIGNAL);

            at += n > 0 ? (uint32_t)n : 0;
            if (n <= 0)
                usleep(200);
        }
    }
    return NULL;
}

static void torment_net(bool uring, bool restricted)
{
    struct net_options o = {.has_mac = true, .mac = {2, 0, 0, 0, 0, 1}};
    struct peer p = {.fd = -1};
    char err[256];
    uint32_t head, len = 0;
    pthread_t t;
    int s[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    p.fd = s[1];
    struct net *n = net_new(&o, err, sizeof err);

    cr_assert_eq(net_stream_open(n, s[0], restricted, err, sizeof err), 0);
    struct fix *f = fix_new(&n->dev, 8 * MIB, uring);

    pthread_create(&t, NULL, peer_thread, &p);
    torment(f, n->dev.features);
    /* The stream is in step: frames still come, whole. */
    put_desc(f, RING_DESC, 0, BUFFERS, 0x10000, D_WRITE, 0);
    offer(f, NET_RX, 0);
    notify(f, NET_RX);
    cr_expect(take_used(f, NET_RX, &head, &len));
    cr_expect(len >= 12 + 14 && f->ram.base[BUFFERS + 12] == 0xff &&
              f->ram.base[BUFFERS + len - 1] == 0xff);
    atomic_store(&p.stop, true);
    pthread_join(t, NULL);
    close(p.fd);
    fix_free(f);
    free(n->state);
    free(n);
}

Test(net_torment, poll)
{
    torment_net(false, false);
}
Test(net_torment, uring)
{
    torment_net(true, false);
}
Test(net_torment, restricted)
{
    torment_net(true, true);
}

Test(net_torment, vsock)
{
    char dir[] = "/tmp/mayfly-vsock-XXXXXX", arg[100], err[256];
    struct virtio_dev *dev;
    uint32_t head, len;

    cr_assert(mkdtemp(dir));
    snprintf(arg, sizeof arg, "5,uds=%s/v", dir);
    cr_assert_eq(vsock_create(arg, &dev, err, sizeof err), 0, "%s", err);
    struct fix *f = fix_new(dev, 8 * MIB, true);

    torment(f, 0);
    struct vsock_hdr h = {
        .src_cid = 5, .dst_cid = 2, .src_port = 1, .dst_port = 9, .type = 1, .op = VSOCK_OP_RW};

    memcpy(f->ram.base + BUFFERS, &h, sizeof h);
    put_desc(f, RING_DESC, 0, BUFFERS + 0x1000, 0x1000, D_WRITE, 0);
    put_desc(f, RING_DESC + RING_STRIDE, 0, BUFFERS, sizeof h, 0, 0);
    offer(f, VSOCK_RX, 0);
    notify(f, VSOCK_RX);
    offer(f, VSOCK_TX, 0);
    notify(f, VSOCK_TX);
    cr_expect(take_used(f, VSOCK_RX, &head, &len) && len == sizeof h);
    fix_free(f);
    free(dev);
    snprintf(arg, sizeof arg, "%s/v", dir);
    unlink(arg);
    rmdir(dir);
}
