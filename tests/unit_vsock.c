/* virtio-vsock without a guest: packets by hand, a host program at the other end. */
#include "tests/virtio_fix.h"

#include <sys/socket.h>
#include <sys/un.h>
#include "virtio/vsock.h"

#define TX_AT 0x200000u
#define RX_AT 0x300000u
#define CID   5u

static struct fix *f;
static char dir[] = "/tmp/mayfly-vsock-XXXXXX", path[64], port_path[80];
static uint16_t next_tx, next_rx;

static int listen_at(const char *p)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(sa.sun_path, sizeof sa.sun_path, "%s", p);
    cr_assert_eq(bind(s, (struct sockaddr *)&sa, sizeof sa), 0);
    cr_assert_eq(listen(s, 16), 0);
    return s;
}

static int dial(void)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = 5};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(sa.sun_path, sizeof sa.sun_path, "%s", path);
    cr_assert_eq(connect(s, (struct sockaddr *)&sa, sizeof sa), 0);
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return s;
}

static void begin(bool uring)
{
    struct virtio_dev *dev;
    char arg[100], err[256];

    cr_assert(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/v", dir);
    snprintf(port_path, sizeof port_path, "%s_9", path);
    snprintf(arg, sizeof arg, "%u,uds=%s", CID, path);
    cr_assert_eq(vsock_create(arg, &dev, err, sizeof err), 0, "%s", err);
    f = fix_new(dev, 8 * MIB, uring);
    go(f, 0);
}

static void finish(void)
{
    struct virtio_dev *dev = f->dev;

    fix_free(f);
    free(dev);
    cr_expect_eq(access(path, F_OK), 0);
    unlink(port_path);
}

static void teardown(void)
{
    unlink(path);
    unlink(port_path);
    rmdir(dir);
}
TestSuite(vsock, .fini = teardown);

/* Receive buffers of len bytes. */
static void buffers(unsigned n, uint32_t len)
{
    while (n--) {
        uint16_t i = next_rx++ % 64;

        put_desc(f, RING_DESC, i, RX_AT + i * 0x2000ull, len, D_WRITE, 0);
        offer(f, VSOCK_RX, i);
    }
    notify(f, VSOCK_RX);
}

static struct vsock_hdr packet(enum vsock_op op, uint32_t src, uint32_t dst, uint32_t len)
{
    return (struct vsock_hdr){.src_cid = CID,
                              .dst_cid = VSOCK_HOST_CID,
                              .src_port = src,
                              .dst_port = dst,
                              .len = len,
                              .type = VSOCK_TYPE_STREAM,
                              .op = op,
                              .buf_alloc = 100};
}

/* Send h with as many bytes of data as really says. */
static void send_packet(struct vsock_hdr h, uint32_t really)
{
    uint16_t i = next_tx++ % 16;
    uint64_t at = TX_AT + i * 0x10000ull;
    uint32_t head, len;

    memcpy(f->ram.base + at, &h, sizeof h);
    for (uint32_t k = 0; k < really; k++)
        f->ram.base[at + sizeof h + k] = (uint8_t)k;
    put_desc(f, RING_DESC + VSOCK_TX * RING_STRIDE, i, at, (uint32_t)sizeof h + really, 0, 0);
    offer(f, VSOCK_TX, i);
    notify(f, VSOCK_TX);
    cr_assert(take_used(f, VSOCK_TX, &head, &len) && head == i && len == 0);
}

/* The next packet for the guest; its data in *data. */
static struct vsock_hdr receive(const uint8_t **data)
{
    struct vsock_hdr h = {0};
    uint32_t head, len;

    cr_assert(take_used(f, VSOCK_RX, &head, &len), "no packet came");
    memcpy(&h, f->ram.base + RX_AT + head * 0x2000ull, sizeof h);
    if (data)
        *data = f->ram.base + RX_AT + head * 0x2000ull + sizeof h;
    cr_expect_eq(len, sizeof h + h.len);
    cr_expect_eq(h.dst_cid, CID);
    return h;
}

static void expect_op(enum vsock_op op, uint32_t src, uint32_t dst)
{
    struct vsock_hdr h = receive(NULL);

    cr_expect(h.op == op && h.src_port == src && h.dst_port == dst, "op %u, %u to %u; not op %u",
              h.op, h.src_port, h.dst_port, op);
}

static void expect_nothing(void)
{
    usleep(20000);
    cr_expect_eq(used_idx(f, VSOCK_RX), f->seen_used[VSOCK_RX]);
}

Test(vsock, packets_of_nobody)
{
    struct vsock_hdr h;

    begin(false);
    buffers(20, 0x1000);
    send_packet(packet(VSOCK_OP_RW, 1000, 9, 4), 4);
    expect_op(VSOCK_OP_RST, 9, 1000);
    send_packet(packet(VSOCK_OP_REQUEST, 1000, 9, 0), 0); /* nobody is at PATH_9 */
    expect_op(VSOCK_OP_RST, 9, 1000);
    h = packet(VSOCK_OP_REQUEST, 1000, 9, 0);
    h.type = 2;
    send_packet(h, 0);
    cr_expect_eq(receive(NULL).type, 2);
    h = packet(VSOCK_OP_REQUEST, 1000, 9, 0);
    h.dst_cid = 77;
    send_packet(h, 0);
    cr_expect_eq(receive(NULL).src_cid, 77u);
    send_packet(packet(VSOCK_OP_RW, 1000, 9, 0xffffffff), 4); /* more than there is */
    expect_op(VSOCK_OP_RST, 9, 1000);
    /* No answer: a wrong sender, a RST, half a header. */
    h = packet(VSOCK_OP_RW, 1000, 9, 0);
    h.src_cid = CID + 1;
    send_packet(h, 0);
    send_packet(packet(VSOCK_OP_RST, 1000, 9, 0), 0);
    put_desc(f, RING_DESC + VSOCK_TX * RING_STRIDE, 40, TX_AT, 43, 0, 0);
    offer(f, VSOCK_TX, 40);
    notify(f, VSOCK_TX);
    expect_nothing();
    finish();
}

/* Answers that find no buffer are bounded: then packets wait in the ring. */
Test(vsock, flood)
{
    unsigned sent = 0;
    uint32_t head, len;

    begin(false);
    struct vsock_hdr h = packet(VSOCK_OP_RW, 1, 2, 0);

    memcpy(f->ram.base + TX_AT, &h, sizeof h);
    put_desc(f, RING_DESC + VSOCK_TX * RING_STRIDE, 0, TX_AT, sizeof h, 0, 0);
    for (; sent < 400; sent++) {
        if ((uint16_t)(f->avail[VSOCK_TX] - used_idx(f, VSOCK_TX)) == 60)
            break;
        offer(f, VSOCK_TX, 0);
        notify(f, VSOCK_TX);
        usleep(100);
    }
    cr_expect(sent >= VSOCK_RSTS && sent < 400, "%u packets were taken", sent);
    for (unsigned got = 0; got < sent; got++) {
        buffers(1, 0x1000);
        cr_assert(take_used(f, VSOCK_RX, &head, &len), "after %u of %u", got, sent);
    }
    expect_nothing();
    finish();
}

static void check_guest_connects(bool uring)
{
    const uint8_t *data;
    uint8_t buf[256];
    struct vsock_hdr h;

    begin(uring);
    int s = listen_at(port_path), c;

    buffers(30, 0x1000);
    send_packet(packet(VSOCK_OP_REQUEST, 1000, 9, 0), 0);
    h = receive(NULL);
    cr_expect(h.op == VSOCK_OP_RESPONSE && h.buf_alloc == VSOCK_BUF_ALLOC && h.fwd_cnt == 0);
    c = accept(s, NULL, NULL);
    send_packet(packet(VSOCK_OP_RW, 1000, 9, 200), 200);
    cr_expect_eq(recv(c, buf, 200, MSG_WAITALL), 200);
    cr_expect(buf[0] == 0 && buf[199] == 199);
    /* The guest has room for 100 bytes: so many and no more, then a question. */
    cr_assert_eq(write(c, buf, 150), 150);
    h = receive(&data);
    cr_expect(h.op == VSOCK_OP_RW && h.len == 100 && data[99] == 99);
    cr_expect_eq(h.fwd_cnt, 200u);
    expect_op(VSOCK_OP_CREDIT_REQUEST, 9, 1000);
    expect_nothing();
    h = packet(VSOCK_OP_CREDIT_UPDATE, 1000, 9, 0);
    h.fwd_cnt = 30;
    send_packet(h, 0);
    h = receive(&data);
    cr_expect(h.op == VSOCK_OP_RW && h.len == 30 && data[0] == 100);
    expect_op(VSOCK_OP_CREDIT_REQUEST, 9, 1000);
    /* Credit that cannot be: no more than nothing. */
    h = packet(VSOCK_OP_CREDIT_UPDATE, 1000, 9, 0);
    h.fwd_cnt = 0x80000000;
    send_packet(h, 0);
    expect_nothing();
    h.fwd_cnt = 130;
    send_packet(h, 0);
    h = receive(NULL);
    cr_expect(h.op == VSOCK_OP_RW && h.len == 20);
    h = packet(VSOCK_OP_CREDIT_REQUEST, 1000, 9, 0);
    h.fwd_cnt = 150;
    send_packet(h, 0);
    expect_op(VSOCK_OP_CREDIT_UPDATE, 9, 1000);
    /* The host closes, the guest agrees. */
    close(c);
    h = receive(NULL);
    cr_expect(h.op == VSOCK_OP_SHUTDOWN && h.flags == VSOCK_SHUTDOWN_BOTH);
    send_packet(packet(VSOCK_OP_RST, 1000, 9, 0), 0);
    send_packet(packet(VSOCK_OP_RW, 1000, 9, 0), 0);
    expect_op(VSOCK_OP_RST, 9, 1000);
    close(s);
    finish();
}
Test(vsock, guest_connects_poll)
{
    check_guest_connects(false);
}
Test(vsock, guest_connects_uring)
{
    check_guest_connects(true);
}

static void check_guest_beyond_its_credit(bool uring)
{
    uint8_t b[65536];

    begin(uring);
    int s = listen_at(port_path), c;

    buffers(30, 0x1000);
    send_packet(packet(VSOCK_OP_REQUEST, 1000, 9, 0), 0);
    expect_op(VSOCK_OP_RESPONSE, 9, 1000);
    c = accept(s, NULL, NULL);
    /* Nobody reads: the socket takes some, 128 KiB are kept, what is more ends the connection. */
    unsigned n = 0;
    bool ended = false;

    for (; n < 100 && !ended; n++) {
        send_packet(packet(VSOCK_OP_RW, 1000, 9, 0xff00), 0xff00);
        usleep(1000);
        while (!ended && used_idx(f, VSOCK_RX) != f->seen_used[VSOCK_RX]) {
            struct vsock_hdr h = receive(NULL);

            ended = h.op == VSOCK_OP_RST;
            cr_expect(ended || h.op == VSOCK_OP_CREDIT_UPDATE);
        }
    }
    cr_expect(ended && n > 2, "%u packets", n);
    while (read(c, b, sizeof b) > 0)
        ;
    close(c);
    close(s);
    finish();
}
Test(vsock, guest_beyond_its_credit_poll)
{
    check_guest_beyond_its_credit(false);
}
Test(vsock, guest_beyond_its_credit_uring)
{
    check_guest_beyond_its_credit(true);
}

static void check_half_closed(bool uring)
{
    uint8_t buf[100000];
    struct vsock_hdr h;

    begin(uring);
    int s = listen_at(port_path), c;

    buffers(30, 0x1000);
    send_packet(packet(VSOCK_OP_REQUEST, 1000, 9, 0), 0);
    expect_op(VSOCK_OP_RESPONSE, 9, 1000);
    c = accept(s, NULL, NULL);
    send_packet(packet(VSOCK_OP_RW, 1000, 9, 50), 50);
    h = packet(VSOCK_OP_SHUTDOWN, 1000, 9, 0);
    h.flags = VSOCK_SHUTDOWN_SEND;
    send_packet(h, 0);
    cr_expect_eq(recv(c, buf, sizeof buf, MSG_WAITALL), 50);
    cr_assert_eq(write(c, buf, 50), 50);
    h = receive(NULL);
    cr_expect(h.op == VSOCK_OP_RW && h.len == 50);
    send_packet(packet(VSOCK_OP_RW, 1000, 9, 1), 1); /* it said it would not */
    expect_op(VSOCK_OP_RST, 9, 1000);
    cr_expect_eq(read(c, buf, 1), 0);
    close(c);
    /* The host closes its direction and reads slowly: the I/O thread sleeps meanwhile, and all
     * that the guest sends arrives. */
    send_packet(packet(VSOCK_OP_REQUEST, 1001, 9, 0), 0);
    expect_op(VSOCK_OP_RESPONSE, 9, 1001);
    c = accept(s, NULL, NULL);
    cr_assert_eq(write(c, buf, 5), 5);
    cr_assert_eq(shutdown(c, SHUT_WR), 0);
    h = receive(NULL);
    cr_expect(h.op == VSOCK_OP_RW && h.len == 5);
    h = receive(NULL);
    cr_expect(h.op == VSOCK_OP_SHUTDOWN && h.flags == VSOCK_SHUTDOWN_SEND);
    unsigned all = 0;

    for (uint32_t space = VSOCK_BUF_ALLOC; all < 20 * 0xff00; all += 0xff00) {
        while (space < 0xff00 + all || used_idx(f, VSOCK_RX) != f->seen_used[VSOCK_RX]) {
            if (used_idx(f, VSOCK_RX) == f->seen_used[VSOCK_RX])
                break;
            buffers(1, 0x1000);
            h = receive(NULL);
            cr_expect_eq(h.op, VSOCK_OP_CREDIT_UPDATE);
            space = VSOCK_BUF_ALLOC + h.fwd_cnt;
        }
        if (space < 0xff00 + all)
            break;
        send_packet(packet(VSOCK_OP_RW, 1001, 9, 0xff00), 0xff00);
        usleep(1000);
    }
    uint64_t passes = io_statistics(f->io)->waits;

    usleep(50000);
    passes = io_statistics(f->io)->waits - passes;
    cr_expect_lt(passes, 100, "the I/O thread went round %lu times", (unsigned long)passes);
    h = packet(VSOCK_OP_SHUTDOWN, 1001, 9, 0);
    h.flags = VSOCK_SHUTDOWN_BOTH;
    send_packet(h, 0);
    unsigned got = 0;

    for (ssize_t n; (n = read(c, buf, sizeof buf)) > 0; got += (unsigned)n)
        cr_assert_eq(buf[0], (uint8_t)(got % 0xff00));
    cr_expect_eq(got, all);
    cr_expect_gt(all, 2 * VSOCK_BUF_ALLOC, "more than the socket took at once");
    close(c);
    close(s);
    finish();
}
Test(vsock, half_closed_poll)
{
    check_half_closed(false);
}
Test(vsock, half_closed_uring)
{
    check_half_closed(true);
}

static void check_host_connects(bool uring)
{
    char line[64] = "";
    struct vsock_hdr h;
    uint32_t port;

    begin(uring);
    buffers(30, 0x1000);
    int s = dial();

    cr_assert_eq(write(s, "CONNECT 70", 10), 10);
    expect_nothing();
    cr_assert_eq(write(s, "0\nearly", 7), 7);
    h = receive(NULL);
    port = h.src_port;
    cr_expect(h.op == VSOCK_OP_REQUEST && h.dst_port == 700 && h.src_cid == VSOCK_HOST_CID);
    send_packet(packet(VSOCK_OP_RESPONSE, 700, port, 0), 0);
    h = receive(NULL);
    cr_expect(h.op == VSOCK_OP_RW && h.len == 5);
    cr_expect_gt(recv(s, line, sizeof line, 0), 0);
    snprintf(line + 32, 32, "OK %u\n", port);
    cr_expect_str_eq(line, line + 32);
    /* A second RESPONSE is a mistake. */
    send_packet(packet(VSOCK_OP_RESPONSE, 700, port, 0), 0);
    expect_op(VSOCK_OP_RST, port, 700);
    cr_expect_eq(recv(s, line, 1, 0), 0);
    close(s);
    /* The guest refuses. */
    s = dial();
    cr_assert_eq(write(s, "CONNECT 4294967295\n", 19), 19);
    port = receive(NULL).src_port;
    send_packet(packet(VSOCK_OP_RST, 4294967295u, port, 0), 0);
    cr_expect_eq(recv(s, line, 1, 0), 0);
    close(s);
    static const char *const bad[] = {"\n",           "CONNECT\n",
                                      "CONNECT \n",   "CONNECT -1\n",
                                      "connect 1\n",  "CONNECT 4294967296\n",
                                      "CONNECT 1 \n", "CONNECT 99999999999\n"};

    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        s = dial();
        cr_assert_eq(write(s, bad[i], strlen(bad[i])), (ssize_t)strlen(bad[i]));
        ssize_t n = recv(s, line, 1, 0);

        cr_expect(n == 0 || (n < 0 && errno == ECONNRESET), "%s", bad[i]);
        close(s);
    }
    expect_nothing();
    finish();
}
Test(vsock, host_connects_poll)
{
    check_host_connects(false);
}
Test(vsock, host_connects_uring)
{
    check_host_connects(true);
}

Test(vsock, reset_closes_all)
{
    char b;

    begin(true);
    int s = listen_at(port_path), c;

    buffers(30, 0x1000);
    send_packet(packet(VSOCK_OP_REQUEST, 1000, 9, 0), 0);
    expect_op(VSOCK_OP_RESPONSE, 9, 1000);
    c = accept(s, NULL, NULL);
    go(f, 0);
    next_rx = next_tx = 0;
    cr_expect_eq(read(c, &b, 1), 0);
    buffers(5, 0x1000);
    send_packet(packet(VSOCK_OP_RW, 1000, 9, 0), 0);
    expect_op(VSOCK_OP_RST, 9, 1000);
    close(c);
    close(s);
    finish();
}

/* A table entry is used again when the last operation on its socket has ended. */
Test(vsock, entries_come_back)
{
    char b;

    begin(true);
    int s = listen_at(port_path);

    for (unsigned i = 0; i < VSOCK_CONNS + 100; i++) {
        buffers(1, 0x1000);
        send_packet(packet(VSOCK_OP_REQUEST, i, 9, 0), 0);
        expect_op(VSOCK_OP_RESPONSE, 9, i);
        int c = accept(s, NULL, NULL);

        send_packet(packet(VSOCK_OP_RW, i, 9, 100), 100);
        send_packet(packet(VSOCK_OP_RST, i, 9, 0), 0);
        while (read(c, &b, 1) > 0)
            ;
        close(c);
    }
    struct vsock *v = (struct vsock *)f->dev;

    for (unsigned i = 0; i < 1000 && v->nconn; i++)
        usleep(1000);
    cr_expect_eq(v->nconn, 0);
    close(s);
    finish();
}
