/* virtio-net without a guest: its options, its filters, and frames over a stream socket. */
#include "tests/virtio_fix.h"

#include <sys/socket.h>
#include "virtio/net.h"

/* --- options --- */

Test(net_options, table)
{
    static const struct {
        const char *arg, *spec; /* spec: of the first forward; NULL: refused */
    } cases[] = {
        {"tap=t0", ""},
        {"tap=t0,mac=02:00:00:00:aB:01", ""},
        {"user", ""},
        {"user,restrict", ""},
        {"user,hostfwd=tcp:127.0.0.1:8080-:80", "127.0.0.1/8080:80"},
        {"user,hostfwd=tcp::8080-:80,restrict", "8080:80"},
        {"user,hostfwd=udp:[::1]:53-:5353", "::1/53:5353"},
        {"", NULL},
        {"user=1", NULL},
        {"tap=", NULL},
        {"tap=a/b", NULL},
        {"tap=sixteencharacter", NULL},
        {"tap=t0,restrict", NULL},
        {"user,mac=02:00:00:00:00", NULL},
        {"user,mac=02:00:00:00:00:0g", NULL},
        {"user,mac=03:00:00:00:00:01", NULL},
        {"user,mac=00:00:00:00:00:00", NULL},
        {"user,hostfwd=", NULL},
        {"user,hostfwd=sctp::1-:1", NULL},
        {"user,hostfwd=tcp:host:1-:1", NULL},
        {"user,hostfwd=tcp::0-:1", NULL},
        {"user,hostfwd=tcp::1-:65536", NULL},
        {"user,hostfwd=tcp::99999999999999999999-:1", NULL},
        {"user,hostfwd=tcp::1-2", NULL},
        {"user,hostfwd=tcp::1-:2x", NULL},
        {"user,hostfwd=tcp:[::1:1-:2", NULL},
        {"user,restrict,hostfwd=udp::1-:1", NULL},
    };

    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct net_options o;
        char err[256] = "";
        int e = net_options_parse(cases[i].arg, &o, err, sizeof err);

        cr_expect_eq(e, cases[i].spec ? 0 : -EINVAL, "%s: %d %s", cases[i].arg, e, err);
        cr_expect_eq(*err != 0, !cases[i].spec, "%s: '%s'", cases[i].arg, err);
        if (cases[i].spec && !e)
            cr_expect_str_eq(o.forward[0].spec, cases[i].spec);
    }
}

/* --- restrict --- */

static size_t frame_of(uint8_t *f, unsigned type, const uint8_t *payload, size_t n)
{
    memset(f, 2, 12);
    f[12] = (uint8_t)(type >> 8);
    f[13] = (uint8_t)type;
    memcpy(f + 14, payload, n);
    return 14 + n;
}

static bool ip4(unsigned proto, unsigned ihl, unsigned fragment, unsigned dst_port, unsigned flags)
{
    uint8_t p[80] = {0}, f[128];

    p[0] = (uint8_t)(0x40 | ihl);
    p[6] = (uint8_t)(fragment >> 8);
    p[7] = (uint8_t)fragment;
    p[9] = (uint8_t)proto;
    p[ihl * 4 + 2] = (uint8_t)(dst_port >> 8);
    p[ihl * 4 + 3] = (uint8_t)dst_port;
    p[ihl * 4 + 13] = (uint8_t)flags;
    return net_restrict_allows(f, frame_of(f, 0x800, p, ihl * 4 + 20));
}

static bool ip6(unsigned next, unsigned type, unsigned dst_port, unsigned flags)
{
    uint8_t p[80] = {0x60}, f[128];

    p[6] = (uint8_t)next;
    p[40] = (uint8_t)type;
    p[42] = (uint8_t)(dst_port >> 8);
    p[43] = (uint8_t)dst_port;
    p[53] = (uint8_t)flags;
    return net_restrict_allows(f, frame_of(f, 0x86dd, p, 60));
}

Test(net_restrict, table)
{
    uint8_t f[64] = {0};

    cr_expect(ip4(6, 5, 0, 80, 0x12), "SYN ACK: an answer");
    cr_expect(ip4(6, 5, 0, 80, 0x10) && ip4(6, 5, 0, 80, 0x18) && ip4(6, 5, 0, 80, 0x11));
    cr_expect(ip4(6, 15, 0, 80, 0x10) && ip4(6, 5, 0, 80, 0x04));
    cr_expect_not(ip4(6, 5, 0, 80, 0x02), "SYN");
    cr_expect_not(ip4(6, 15, 0, 80, 0x02), "SYN behind options");
    cr_expect_not(ip4(6, 5, 0, 80, 0x06), "SYN RST");
    cr_expect_not(ip4(6, 5, 0, 80, 0xc2), "SYN ECE CWR");
    cr_expect_not(ip4(6, 5, 0x2000, 80, 0x10), "a first fragment");
    cr_expect_not(ip4(6, 5, 1, 80, 0x10), "a later fragment");
    cr_expect_not(ip4(6, 4, 0, 80, 0x10), "a header of 16 bytes");
    cr_expect(ip4(17, 5, 0, 67, 0));
    cr_expect_not(ip4(17, 5, 0, 53, 0));
    cr_expect_not(ip4(1, 5, 0, 0, 0), "ICMP");
    cr_expect(ip6(6, 0, 80, 0x10) && ip6(17, 0, 547, 0) && ip6(58, 135, 0, 0) &&
              ip6(58, 143, 0, 0));
    cr_expect_not(ip6(6, 0, 80, 0x02));
    cr_expect_not(ip6(17, 0, 53, 0));
    cr_expect_not(ip6(58, 128, 0, 0), "echo request");
    cr_expect_not(ip6(0, 6, 0, 0x10), "hop-by-hop options");
    cr_expect_not(ip6(44, 6, 0, 0x10), "a fragment");
    f[12] = 8;
    f[13] = 6;
    cr_expect(net_restrict_allows(f, 42), "ARP");
    f[12] = 0x81;
    f[13] = 0;
    cr_expect_not(net_restrict_allows(f, 60), "a VLAN tag");
    for (size_t n = 0; n < 14; n++)
        cr_expect_not(net_restrict_allows(f, n));
    f[12] = 8;
    f[14] = 0x4f;
    f[23] = 6;
    for (size_t n = 14; n < 64; n++)
        cr_expect_not(net_restrict_allows(f, n), "cut at %zu", n);
}

/* --- a device over a socket pair --- */

#define ALL   (NET_BIT(MRG_RXBUF) | NET_BIT(CTRL_VQ) | NET_BIT(CTRL_RX) | NET_BIT(CTRL_MAC_ADDR))
#define TX_AT 0x200000u
#define RX_AT 0x300000u
#define CT_AT 0x400000u

static const uint8_t own[6] = {2, 0, 0, 0, 0, 1};
static int peer;
static struct fix *f;

static void begin(bool uring, bool restricted, uint64_t features)
{
    struct net_options o = {.has_mac = true};
    char err[256];
    int s[2];

    memcpy(o.mac, own, 6);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    peer = s[1];
    struct timeval limit = {.tv_sec = 5};

    setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    struct net *n = net_new(&o, err, sizeof err);

    cr_assert_eq(net_stream_open(n, s[0], restricted, err, sizeof err), 0);
    f = fix_new(&n->dev, 8 * MIB, uring);
    go(f, features);
}

static void finish(void)
{
    struct net *n = (struct net *)f->dev;

    close(peer);
    fix_free(f);
    free(n->state);
    free(n);
}

/* Frame i of the driver: out_len bytes after the header, each the frame's number. */
static void transmit(uint16_t i, uint32_t frame_len)
{
    uint64_t at = TX_AT + i * 0x12000ull;

    memset(f->ram.base + at, 0, NET_HDR_LEN);
    memset(f->ram.base + at + NET_HDR_LEN, i + 1, frame_len);
    put_desc(f, RING_DESC + NET_TX * RING_STRIDE, i, at, NET_HDR_LEN + frame_len, 0, 0);
    offer(f, NET_TX, i);
    notify(f, NET_TX);
}

static void buffer(uint16_t i, uint32_t len)
{
    put_desc(f, RING_DESC + NET_RX * RING_STRIDE, i, RX_AT + i * 0x4000ull, len, D_WRITE, 0);
    offer(f, NET_RX, i);
    notify(f, NET_RX);
}

static size_t make_frame(uint8_t *p, const uint8_t to[6], size_t len, uint8_t fill)
{
    uint8_t head[4] = {(uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
                       (uint8_t)len};

    memcpy(p, head, 4);
    memset(p + 4, fill, len);
    memcpy(p + 4, to, 6);
    return 4 + len;
}

static void send_frame(const uint8_t to[6], size_t len, uint8_t fill)
{
    static uint8_t p[70000];
    size_t n = make_frame(p, to, len, fill);

    cr_assert_eq(write(peer, p, n), (ssize_t)n);
}

/* What the driver gets next: bytes used of buffer *head; its last byte in *fill. */
static uint32_t receive(uint32_t *head, uint8_t *fill)
{
    uint32_t len = 0;

    cr_assert(take_used(f, NET_RX, head, &len), "nothing was received");
    *fill = len ? f->ram.base[RX_AT + *head * 0x4000ull + len - 1] : 0;
    return len;
}

/* A whole frame from the peer's end of the stream. Its length; all bytes must be fill. */
static uint32_t read_frame(uint8_t *fill)
{
    static uint8_t p[70000];
    uint8_t head[4];
    uint32_t len;

    cr_assert_eq(recv(peer, head, 4, MSG_WAITALL), 4);
    len = (uint32_t)head[0] << 24 | (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
    cr_assert_leq(len, sizeof p);
    cr_assert_eq(recv(peer, p, len, MSG_WAITALL), (ssize_t)len);
    *fill = p[len - 1];
    return len;
}

static void check_transmit(bool uring)
{
    uint32_t head, len;
    uint8_t fill;

    begin(uring, false, ALL);
    transmit(0, 60);
    transmit(1, 13); /* shorter than an Ethernet header: dropped */
    transmit(2, NET_FRAME_MAX);
    transmit(3, NET_FRAME_MAX + 1); /* dropped */
    transmit(4, 14);
    cr_expect_eq(read_frame(&fill), 60u);
    cr_expect_eq(fill, 1);
    cr_expect_eq(read_frame(&fill), NET_FRAME_MAX); /* more than a socket takes at once */
    cr_expect_eq(fill, 3);
    cr_expect_eq(read_frame(&fill), 14u);
    cr_expect_eq(fill, 5);
    for (unsigned i = 0; i < 5; i++)
        cr_expect(take_used(f, NET_TX, &head, &len) && len == 0);
    finish();
}
Test(net_stream, transmit_poll)
{
    check_transmit(false);
}
Test(net_stream, transmit_uring)
{
    check_transmit(true);
}

static void check_receive(bool uring)
{
    uint8_t p[256], fill;
    uint32_t head;
    size_t n;

    begin(uring, false, ALL);
    for (uint16_t i = 0; i < 8; i++)
        buffer(i, 100);
    /* Two in one write, and one that comes byte by byte. */
    n = make_frame(p, own, 60, 7);
    n += make_frame(p + n, own, 60, 8);
    cr_assert_eq(write(peer, p, n), (ssize_t)n);
    cr_expect_eq(receive(&head, &fill), 72u);
    cr_expect_eq(fill, 7);
    cr_expect_eq(f->ram.base[RX_AT + NET_HDR_NUM_BUFFERS], 1);
    cr_expect_eq(receive(&head, &fill), 72u);
    cr_expect_eq(fill, 8);
    n = make_frame(p, own, 20, 9);
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(write(peer, p + i, 1), 1);
        usleep(100);
    }
    cr_expect_eq(receive(&head, &fill), 32u);
    cr_expect_eq(fill, 9);
    /* One over three buffers: 12 + 250 = 100 + 100 + 62. */
    send_frame(own, 250, 10);
    cr_expect_eq(receive(&head, &fill), 100u);
    cr_expect_eq(f->ram.base[RX_AT + head * 0x4000ull + NET_HDR_NUM_BUFFERS], 3);
    cr_expect_eq(receive(&head, &fill), 100u);
    cr_expect_eq(receive(&head, &fill), 62u);
    cr_expect_eq(fill, 10);
    /* One that waits for buffers. */
    send_frame(own, 500, 11);
    usleep(20000);
    cr_expect_eq(used_idx(f, NET_RX), f->seen_used[NET_RX]);
    for (uint16_t i = 8; i < 14; i++)
        buffer(i, 100);
    for (unsigned left = 512; left;) {
        uint32_t len = receive(&head, &fill);

        cr_assert(len && len <= left);
        left -= len;
    }
    cr_expect_eq(fill, 11);
    finish();
}
Test(net_stream, receive_poll)
{
    check_receive(false);
}
Test(net_stream, receive_uring)
{
    check_receive(true);
}

Test(net_stream, receive_without_merging)
{
    uint32_t head;
    uint8_t fill;

    begin(false, false, 0);
    buffer(0, 100);
    buffer(1, 2000);
    buffer(2, 2000);
    buffer(3, 11);           /* no room for a header: given back */
    send_frame(own, 200, 1); /* longer than buffer 0: lost */
    send_frame(own, 50, 2);
    cr_expect_eq(receive(&head, &fill), 62u);
    cr_expect(head == 0 && fill == 2);
    cr_expect_eq(f->ram.base[RX_AT + NET_HDR_NUM_BUFFERS], 1);
    send_frame(own, 1500, 3);
    cr_expect_eq(receive(&head, &fill), 1512u);
    cr_expect(head == 1 && fill == 3);
    finish();
}

/* --- the control queue --- */

static uint8_t control(const void *cmd, uint32_t len)
{
    static uint16_t i;
    uint64_t t = RING_DESC + NET_CTRL * RING_STRIDE;
    uint16_t d = (uint16_t)(i++ % 16 * 2);
    uint32_t head, used;

    memcpy(f->ram.base + CT_AT, cmd, len);
    f->ram.base[CT_AT + 0x1000] = 0xee;
    put_desc(f, t, d, CT_AT, len, D_NEXT, (uint16_t)(d + 1));
    put_desc(f, t, d + 1, CT_AT + 0x1000, 1, D_WRITE, 0);
    offer(f, NET_CTRL, d);
    notify(f, NET_CTRL);
    cr_assert(take_used(f, NET_CTRL, &head, &used) && head == d && used == 1);
    return f->ram.base[CT_AT + 0x1000];
}
#define CONTROL(...) control((uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))

Test(net_ctrl, commands)
{
    static uint8_t table[2 + 4 + 6 * 70 + 4];
    uint8_t other[6] = {2, 0, 0, 0, 0, 9}, group[6] = {1, 0, 94, 0, 0, 1}, fill;
    uint32_t head;

    begin(false, false, ALL);
    for (uint16_t i = 0; i < 8; i++)
        buffer(i, 2000);
    cr_expect_eq(CONTROL(0, 0, 0), 0); /* promisc off */
    send_frame(other, 60, 1);
    send_frame(own, 60, 2);
    cr_expect_eq(receive(&head, &fill), 72u);
    cr_expect_eq(fill, 2, "the other station's frame came through");
    cr_expect_eq(CONTROL(0, 0, 1), 0);
    send_frame(other, 60, 3);
    receive(&head, &fill);
    cr_expect_eq(fill, 3);
    cr_expect_eq(CONTROL(0, 0, 0), 0);
    /* A table of one station and no group. */
    cr_expect_eq(CONTROL(1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0), 0);
    send_frame(group, 60, 4);
    send_frame(other, 60, 5);
    receive(&head, &fill);
    cr_expect_eq(fill, 5);
    cr_expect_eq(CONTROL(0, 1, 1), 0); /* all groups */
    send_frame(group, 60, 6);
    receive(&head, &fill);
    cr_expect_eq(fill, 6);
    /* Longer than is kept: everything of that kind. */
    table[0] = 1;
    table[2] = 70;
    cr_expect_eq(control(table, sizeof table), 0);
    send_frame((uint8_t[]){2, 7, 7, 7, 7, 7}, 60, 7);
    receive(&head, &fill);
    cr_expect_eq(fill, 7);
    cr_expect_eq(CONTROL(1, 1, 2, 0, 0, 0, 0, 0x77), 0);
    cr_expect_eq(reg(f, 0x104) >> 8 & 0xff, 0x77u);
    /* What is wrong is refused and changes nothing. */
    cr_expect_eq(CONTROL(0), 1);
    cr_expect_eq(CONTROL(0, 0), 1);
    cr_expect_eq(CONTROL(0, 9, 1), 1);
    cr_expect_eq(CONTROL(4, 0, 1, 0), 1);
    cr_expect_eq(CONTROL(1, 1, 3, 0, 0, 0, 0, 1), 1);
    cr_expect_eq(CONTROL(1, 1, 2, 0, 0, 0, 0), 1);
    cr_expect_eq(CONTROL(1, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 9), 1);
    cr_expect_eq(CONTROL(1, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0), 1);
    cr_expect_eq(CONTROL(1, 0, 0, 0, 0, 0), 1);
    finish();
}

/* --- the peer, and resets --- */

static bool link_goes_down(void)
{
    for (unsigned i = 0; i < 10000; i++) {
        if (!(reg(f, 0x104) >> 16 & NET_S_LINK_UP))
            return true;
        usleep(100);
    }
    return false;
}

Test(net_stream, peer_gone)
{
    uint32_t head, len;

    begin(false, false, ALL);
    buffer(0, 2000);
    shutdown(peer, SHUT_RDWR);
    cr_expect(link_goes_down());
    transmit(0, 60);
    transmit(1, 60);
    cr_expect(take_used(f, NET_TX, &head, &len) && take_used(f, NET_TX, &head, &len));
    cr_expect_eq(reg(f, R_STATUS) & ST_NEEDS_RESET, 0u);
    finish();
}

Test(net_stream, peer_out_of_step)
{
    begin(false, false, ALL);
    buffer(0, 2000);
    cr_assert_eq(write(peer, "\xff\xff\xff\xff....", 8), 8);
    cr_expect(link_goes_down());
    finish();
}

Test(net_stream, reset_inside_a_frame)
{
    uint8_t p[4096], fill, c;
    uint32_t head, len;
    size_t n;
    unsigned frames = 0;

    begin(true, false, ALL);
    buffer(0, 2000);
    n = make_frame(p, own, 1000, 1);
    cr_assert_eq(write(peer, p, 500), 500);
    usleep(20000);
    go(f, ALL);
    buffer(0, 2000);
    cr_assert_eq(write(peer, p + 500, n - 500), (ssize_t)(n - 500));
    send_frame(own, 60, 2);
    cr_expect_eq(receive(&head, &fill), 72u);
    cr_expect_eq(fill, 2);
    /* Transmit: more than the socket takes, so that one is cut in the middle. */
    for (uint16_t i = 0; i < 10; i++)
        transmit(i, 60000);
    usleep(50000);
    go(f, ALL);
    transmit(20, 77);
    for (len = 0; len != 77 && frames < 20; frames++)
        len = read_frame(&fill);
    cr_expect_eq(len, 77u);
    cr_expect_eq(fill, 21);
    cr_expect_eq(recv(peer, &c, 1, MSG_DONTWAIT), -1);
    finish();
}

Test(net_stream, restricted)
{
    uint8_t fill;

    begin(false, true, ALL);
    transmit(1, 60); /* its type is 0x0202: nothing that is let through */
    transmit(0x07, 60);
    /* ARP */
    uint64_t at = TX_AT + 2 * 0x12000ull;

    memset(f->ram.base + at, 9, 300);
    f->ram.base[at + 12 + 12] = 8;
    f->ram.base[at + 12 + 13] = 6;
    put_desc(f, RING_DESC + NET_TX * RING_STRIDE, 2, at, 12 + 250, 0, 0);
    offer(f, NET_TX, 2);
    notify(f, NET_TX);
    cr_expect_eq(read_frame(&fill), 250u); /* longer than what is looked at */
    cr_expect_eq(fill, 9);
    finish();
}
