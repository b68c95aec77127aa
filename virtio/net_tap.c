/*
 * Backend: a tap with virtio headers (IFF_VNET_HDR). A frame with its header is one readv or writev
 * between the kernel and the driver's buffers; segmentation and checksums are the two kernels'.
 *
 * Several reads are in flight, each over buffers for the longest frame. The ring runs them on this
 * thread, so they are done in the order in which frames came, whichever read got which frame, and
 * are given to the driver in that order.
 */
#include "virtio/net.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define READS      8u
#define WRITES     64u
#define ERRORS_MAX 64u  /* in a row: the tap is no more */
#define BUSY_TRIES 100u /* of 10 ms */

struct tap_read {
    struct io_op op;
    struct net *n;
    struct net_take take;
};

struct tap_write {
    struct io_op op;
    struct net *n;
    struct virtq_chain chain;
    struct iovec iov[VIRTQ_SIZE_MAX];
};

struct tap {
    int fd, file;
    unsigned reading, writing, errors;
    uint32_t want; /* bytes of buffers for the longest frame */
    struct tap_read read[READS];
    struct tap_write write[WRITES];
};

static void tap_rx(struct net *n);

static void read_done(struct io_op *op, int res)
{
    struct tap_read *r = (struct tap_read *)op;
    struct net *n = r->n;
    struct tap *t = n->state;

    t->reading--;
    if (n->running && res > 0) {
        t->errors = 0;
        net_rx_finish(n, &r->take, (uint32_t)res);
    } else if (n->running) {
        /* -EFAULT: a frame longer than the buffers, which is lost; or the interface went away. */
        n->count[NET_C_RX_DROPPED].value++;
        net_rx_return(n, &r->take, 0);
        if (res == -EBADFD || res == -ENODEV || ++t->errors == ERRORS_MAX)
            net_link_down(n);
    }
    virtio_release(&n->dev);
    if (n->running)
        tap_rx(n);
}

static void tap_rx(struct net *n)
{
    struct tap *t = n->state;

    for (unsigned i = 0; i < READS && n->link_up && n->running; i++) {
        struct tap_read *r = &t->read[i];

        if (r->op.busy)
            continue;
        /* A driver that never has enough buffers for the longest frame gets shorter ones. */
        if (!net_rx_take(n, &r->take, t->want, !t->reading))
            break;
        t->reading++;
        virtio_hold(&n->dev);
        io_readv(n->dev.io, &r->op, t->file, r->take.iov, r->take.niov, UINT64_MAX);
    }
}

static void write_done(struct io_op *op, int res)
{
    struct tap_write *w = (struct tap_write *)op;
    struct net *n = w->n;
    struct tap *t = n->state;

    /* -EIO: the interface is down; -EINVAL: a header that makes no sense. The frame is lost, as on
     * a cable. */
    if (n->running)
        net_tx_done(n, &w->chain, res > 0);
    if (res == -EBADFD)
        net_link_down(n);
    virtio_release(&n->dev);
    if (t->writing-- == WRITES)
        virtio_look_again(&n->dev, NET_TX);
}

static void tap_tx(struct net *n)
{
    struct virtq *vq = &n->dev.vq[NET_TX];
    struct tap *t = n->state;

    for (unsigned i = 0; i < WRITES && t->writing < WRITES; i++) {
        struct tap_write *w = &t->write[i];

        if (w->op.busy)
            continue;
        w->chain.iov = w->iov;
        w->chain.cap = VIRTQ_SIZE_MAX;
        if (virtq_pop(vq, &w->chain) <= 0)
            return;
        if (w->chain.out_len < NET_HDR_LEN + NET_ETH_HLEN ||
            w->chain.out_len > NET_HDR_LEN + NET_FRAME_MAX) {
            net_tx_done(n, &w->chain, false);
            virtio_look_again(&n->dev, NET_TX);
            continue;
        }
        t->writing++;
        virtio_hold(&n->dev);
        io_writev(n->dev.io, &w->op, t->file, w->iov, w->chain.nout, UINT64_MAX);
    }
}

/* What the driver takes decides what the kernel may leave undone in frames for it. */
static void tap_start(struct net *n)
{
    struct tap *t = n->state;
    unsigned offload = 0;

    if (virtio_has(&n->dev, NET_BIT(GUEST_CSUM))) {
        offload |= TUN_F_CSUM;
        if (virtio_has(&n->dev, NET_BIT(GUEST_TSO4)))
            offload |= TUN_F_TSO4;
        if (virtio_has(&n->dev, NET_BIT(GUEST_TSO6)))
            offload |= TUN_F_TSO6;
    }
    ioctl(t->fd, TUNSETOFFLOAD, offload);
    t->errors = 0;
    t->want = NET_HDR_LEN +
              (offload & (TUN_F_TSO4 | TUN_F_TSO6) ? NET_FRAME_MAX : 18u + le16toh(n->config.mtu));
}

static void tap_reset(struct net *n)
{
    struct tap *t = n->state;

    for (unsigned i = 0; i < READS; i++)
        io_cancel(n->dev.io, &t->read[i].op);
    for (unsigned i = 0; i < WRITES; i++)
        io_cancel(n->dev.io, &t->write[i].op);
}

static int tap_attach(struct net *n)
{
    struct tap *t = n->state;

    t->file = io_file_add(n->dev.io, t->fd, 0);
    return t->file < 0 ? t->file : 0;
}

static const struct net_backend tap_backend = {
    .attach = tap_attach, .start = tap_start, .rx = tap_rx, .tx = tap_tx, .reset = tap_reset};

/* The interface's MTU, or -errno: it is there. */
static int interface_mtu(const char *name)
{
    struct ifreq ifr = {0};
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), mtu;

    if (s < 0)
        return -errno;
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", name);
    mtu = ioctl(s, SIOCGIFMTU, &ifr) ? -errno : ifr.ifr_mtu;
    close(s);
    return mtu;
}

static int tap_fail(int fd, int e, const char *name, char *err, size_t len)
{
    if (fd >= 0)
        close(fd);
    switch (e) {
    case ENODEV:
        snprintf(err, len,
                 "there is no interface '%s'; make it: ip tuntap add dev %s mode tap user $USER",
                 name, name);
        break;
    case EBUSY:
        snprintf(err, len,
                 "'%s' is busy: another process has it open; stop that, or take another tap", name);
        break;
    case EPERM:
        snprintf(err, len,
                 "'%s' is not yours: %s; make it for you: ip tuntap add dev %s mode tap user $USER",
                 name, strerror(e), name);
        break;
    case EINVAL:
        snprintf(err, len, "'%s' is no tap of one queue; make one: ip tuntap add dev NAME mode tap",
                 name);
        break;
    default:
        snprintf(err, len, "'%s': %s", name, strerror(e));
    }
    return -e;
}

/* A run that has just ended may still hold the tap: the kernel takes its ring apart after the
 * process is gone. */
static int take(int fd, struct ifreq *ifr)
{
    struct timespec pause = {.tv_nsec = 10000000};

    for (unsigned i = 0; ioctl(fd, TUNSETIFF, ifr); i++) {
        if (errno != EBUSY || i == BUSY_TRIES)
            return -1;
        nanosleep(&pause, NULL);
    }
    return 0;
}

/* A descriptor of the tap, or -errno with a clause in err. flags: beside IFF_TAP | IFF_NO_PI. */
static int open_tap(const char *name, short flags, uint16_t *mtu, char *err, size_t len)
{
    struct ifreq ifr = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | flags)};
    int most = interface_mtu(name), fd;

    /* TUNSETIFF would make an interface of that name. */
    if (most < 0)
        return tap_fail(-1, -most, name, err, len);
    *mtu = (uint16_t)(most > 65535 ? 65535 : most < 68 ? 68 : most);
    fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        int e = errno;

        snprintf(err, len, "/dev/net/tun: %s; %s", strerror(e),
                 e == EACCES || e == EPERM ? "ask for the right to open it" : "modprobe tun");
        return -e;
    }
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", name);
    return take(fd, &ifr) ? tap_fail(fd, errno, name, err, len) : fd;
}

int net_tap_frames(const char *name, uint16_t *mtu, char *err, size_t len)
{
    int fd = open_tap(name, 0, mtu, err, len);

    /* Whole frames with their checksums, whatever an earlier owner of the interface left set. */
    if (fd >= 0)
        ioctl(fd, TUNSETOFFLOAD, 0);
    return fd;
}

uint16_t net_tap_mtu(int fd)
{
    struct ifreq ifr = {0};
    int mtu = ioctl(fd, TUNGETIFF, &ifr) ? -1 : interface_mtu(ifr.ifr_name);

    return mtu < 68 || mtu > 65535 ? 1500 : (uint16_t)mtu;
}

int net_tap_open(struct net *n, const char *name, char *err, size_t len)
{
    int hdr = (int)NET_HDR_LEN, one = 1;
    uint16_t mtu;
    int fd = open_tap(name, IFF_VNET_HDR, &mtu, err, len);

    if (fd < 0)
        return fd;
    if (ioctl(fd, TUNSETVNETHDRSZ, &hdr) || ioctl(fd, TUNSETVNETLE, &one))
        return tap_fail(fd, errno, name, err, len);
    struct tap *t = calloc(1, sizeof *t);

    if (!t)
        return tap_fail(fd, ENOMEM, name, err, len);
    /* A kernel without an offload takes none of those together. */
    if (!ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6))
        n->dev.features |= NET_BIT(CSUM) | NET_BIT(HOST_TSO4) | NET_BIT(HOST_TSO6) |
                           NET_BIT(GUEST_TSO4) | NET_BIT(GUEST_TSO6);
    else
        n->dev.features &= ~NET_BIT(GUEST_CSUM);
    for (unsigned i = 0; i < READS; i++)
        t->read[i] = (struct tap_read){.op = {.done = read_done}, .n = n};
    for (unsigned i = 0; i < WRITES; i++) {
        t->write[i].op.done = write_done;
        t->write[i].n = n;
    }
    t->fd = fd;
    n->config.mtu = htole16(mtu);
    n->backend = &tap_backend;
    n->state = t;
    return 0;
}
