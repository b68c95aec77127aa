/* The network card and the sockets behind hostile rings: after any nonsense a reset mends them, and
 * then they work. */
#include "tests/virtio_fix.h"

#include <fcntl.h>
#include <signal.h>
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

/* Programs of the host: some listen where the guest may connect, some connect to it; they echo,
 * stop reading, close one direction or all, as it comes. */
#define PROGRAMS 12u
struct host {
    char dir[40];
    int listener[3], fd[PROGRAMS];
    uint64_t seed;
    unsigned long opened, moved;
    atomic_bool stop;
};

static uint64_t host_rnd(struct host *h, uint64_t below)
{
    h->seed ^= h->seed << 13, h->seed ^= h->seed >> 7, h->seed ^= h->seed << 17;
    return (h->seed >> 11) % below;
}

static struct sockaddr_un place(const struct host *h, int port)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    snprintf(sa.sun_path, sizeof sa.sun_path, "%s/v", h->dir);
    if (port >= 0)
        snprintf(sa.sun_path + strlen(sa.sun_path), 8, "_%d", port);
    return sa;
}

static int begin_program(struct host *h)
{
    struct sockaddr_un sa = place(h, -1);
    int s = accept4(h->listener[host_rnd(h, 3)], NULL, NULL, SOCK_NONBLOCK);
    char line[20];

    if (s >= 0 || host_rnd(h, 8))
        return s;
    s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int n = snprintf(line, sizeof line, "CONNECT %d\n", (int)host_rnd(h, 3));

    if (!connect(s, (struct sockaddr *)&sa, sizeof sa) &&
        send(s, line, (size_t)n, MSG_NOSIGNAL) == n)
        return s;
    close(s);
    return -1;
}

static void *host_thread(void *arg)
{
    static uint8_t buf[40000];
    struct host *h = arg;

    while (!atomic_load(&h->stop)) {
        int *p = &h->fd[host_rnd(h, PROGRAMS)];
        uint64_t what = host_rnd(h, 60);

        if (*p < 0) {
            *p = begin_program(h);
            h->opened += *p >= 0;
            usleep(20);
        } else if (what == 0) {
            close(*p);
            *p = -1;
        } else if (what == 1) {
            shutdown(*p, host_rnd(h, 2) ? SHUT_WR : SHUT_RD);
        } else if (what < 30) {
            ssize_t n = recv(*p, buf, host_rnd(h, sizeof buf), MSG_DONTWAIT);

            h->moved += n > 0 ? (unsigned long)n : 0;
        } else {
            send(*p, buf, host_rnd(h, sizeof buf), MSG_DONTWAIT | MSG_NOSIGNAL);
        }
    }
    return NULL;
}

/* One packet of the driver, taken before the next. */
static void say(struct fix *f, uint16_t op, uint32_t src, uint32_t dst, uint32_t len, uint32_t got)
{
    struct vsock_hdr h = {.src_cid = 5,
                          .dst_cid = 2,
                          .src_port = src,
                          .dst_port = dst,
                          .len = len,
                          .type = 1,
                          .op = op,
                          .flags = (uint32_t)rnd(4),
                          .buf_alloc = 40000,
                          .fwd_cnt = got};
    uint32_t head, used;

    memcpy(f->ram.base + BUFFERS, &h, sizeof h);
    put_desc(f, RING_DESC + RING_STRIDE, 0, BUFFERS, (uint32_t)sizeof h + len, 0, 0);
    offer(f, VSOCK_TX, 0);
    notify(f, VSOCK_TX);
    cr_assert(take_used(f, VSOCK_TX, &head, &used), "op %u of %u bytes", op, len);
}

/* A driver that keeps to the ring's rules and says anything at any time, and resets in the middle.
 */
static void chatter(struct fix *f)
{
    for (unsigned round = 0; round < 20; round++) {
        uint32_t got[4][3] = {0}, head, len;

        go(f, 0);
        for (uint16_t i = 0; i < 16; i++) {
            put_desc(f, RING_DESC, i, BUFFERS + 0x100000 + i * 0x2000ull, 0x2000, D_WRITE, 0);
            offer(f, VSOCK_RX, i);
        }
        notify(f, VSOCK_RX);
        for (unsigned k = 0; k < 400; k++) {
            while (used_idx(f, VSOCK_RX) != f->seen_used[VSOCK_RX] &&
                   take_used(f, VSOCK_RX, &head, &len)) {
                struct vsock_hdr h;

                memcpy(&h, f->ram.base + BUFFERS + 0x100000 + head * 0x2000ull, sizeof h);
                cr_assert(head < 16 && len == sizeof h + h.len);
                if (h.src_port < 3 && h.dst_port < 4)
                    got[h.dst_port][h.src_port] += h.len;
                offer(f, VSOCK_RX, (uint16_t)head);
                notify(f, VSOCK_RX);
                if (h.op == VSOCK_OP_REQUEST)
                    say(f, rnd(2) ? VSOCK_OP_RESPONSE : VSOCK_OP_RST, h.dst_port, h.src_port, 0, 0);
            }
            uint32_t src = (uint32_t)rnd(4), dst = (uint32_t)rnd(3);
            uint64_t what = rnd(40);

            if (what < 10)
                got[src][dst] = 0;
            say(f,
                what < 10   ? VSOCK_OP_REQUEST
                : what < 30 ? VSOCK_OP_RW
                : what < 38 ? VSOCK_OP_CREDIT_UPDATE
                            : (uint16_t)rnd(9),
                src, dst, what >= 10 && what < 30 ? (uint32_t)rnd(60000) : 0, got[src][dst]);
        }
    }
}

static void torment_vsock(bool uring)
{
    struct host h = {.dir = "/tmp/mayfly-vsock-XXXXXX", .seed = 0x2545f4914f6cdd1d};
    struct virtio_dev *dev;
    char arg[100], err[256];
    uint32_t head, len;
    pthread_t t;

    signal(SIGPIPE, SIG_IGN); /* as in the monitor */
    cr_assert(mkdtemp(h.dir));
    snprintf(arg, sizeof arg, "5,uds=%s/v", h.dir);
    cr_assert_eq(vsock_create(arg, &dev, err, sizeof err), 0, "%s", err);
    for (int i = 0; i < 3; i++) {
        struct sockaddr_un sa = place(&h, i);

        h.listener[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        cr_assert_eq(bind(h.listener[i], (struct sockaddr *)&sa, sizeof sa), 0);
        cr_assert_eq(listen(h.listener[i], 8), 0);
    }
    memset(h.fd, 0xff, sizeof h.fd);
    struct fix *f = fix_new(dev, 8 * MIB, uring);

    pthread_create(&t, NULL, host_thread, &h);
    torment(f, 0);
    chatter(f);
    go(f, 0);
    atomic_store(&h.stop, true);
    pthread_join(t, NULL);
    cr_expect_gt(h.opened, 100, "%lu connections", h.opened);
    cr_expect_gt(h.moved, 100000, "%lu bytes", h.moved);
    /* After the last reset all the host's ends are closed, and nothing of the guest's is left. */
    for (unsigned i = 0; i < PROGRAMS; i++) {
        char b[4096];

        if (h.fd[i] < 0)
            continue;
        fcntl(h.fd[i], F_SETFL, 0);
        shutdown(h.fd[i], SHUT_WR);
        while (recv(h.fd[i], b, sizeof b, 0) > 0)
            ;
        close(h.fd[i]);
    }
    struct vsock_hdr to = {
        .src_cid = 5, .dst_cid = 2, .src_port = 1, .dst_port = 9, .type = 1, .op = VSOCK_OP_RW};

    memcpy(f->ram.base + BUFFERS, &to, sizeof to);
    for (uint16_t i = 0; i < 8; i++) {
        put_desc(f, RING_DESC, i, BUFFERS + 0x1000 * (i + 1u), 0x1000, D_WRITE, 0);
        offer(f, VSOCK_RX, i);
    }
    put_desc(f, RING_DESC + RING_STRIDE, 0, BUFFERS, sizeof to, 0, 0);
    notify(f, VSOCK_RX);
    offer(f, VSOCK_TX, 0);
    notify(f, VSOCK_TX);
    /* A program of the host may have asked for a connection before it was told to stop. */
    bool answered = false;

    for (unsigned i = 0; i < 8 && !answered && take_used(f, VSOCK_RX, &head, &len); i++) {
        struct vsock_hdr got;

        memcpy(&got, f->ram.base + BUFFERS + 0x1000 * (head + 1u), sizeof got);
        answered = got.op == VSOCK_OP_RST && got.src_port == 9;
    }
    cr_expect(answered);
    fix_free(f);
    free(dev);
    for (int i = -1; i < 3; i++)
        unlink(place(&h, i).sun_path);
    rmdir(h.dir);
}

Test(net_torment, vsock_poll)
{
    torment_vsock(false);
}
Test(net_torment, vsock_uring)
{
    torment_vsock(true);
}
