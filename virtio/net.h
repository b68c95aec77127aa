/*
 * virtio-net (VIRTIO 1.2 §5.1): what its files share.
 *
 *   net.c           the device: features, configuration, queues, link
 *   net_options.c   --net's argument
 *   net_rx.c        the driver's receive buffers, and frames into them
 *   net_ctrl.c      control queue, receive filter
 *   net_tap.c       backend: a tap with virtio headers; the kernel reads and writes guest memory
 *   net_stream.c    backend: frames with a length before them on a stream socket
 *   net_passt.c     starts passt at the other end of that socket
 *   net_restrict.c  which frames of the guest ,restrict lets through
 */
#ifndef VIRTIO_NET_H
#define VIRTIO_NET_H

#include "virtio/address.h"
#include "virtio/virtio.h"

/* §5.1.3 */
enum {
    NET_F_CSUM = 0,
    NET_F_GUEST_CSUM = 1,
    NET_F_MTU = 3,
    NET_F_MAC = 5,
    NET_F_GUEST_TSO4 = 7,
    NET_F_GUEST_TSO6 = 8,
    NET_F_HOST_TSO4 = 11,
    NET_F_HOST_TSO6 = 12,
    NET_F_MRG_RXBUF = 15,
    NET_F_STATUS = 16,
    NET_F_CTRL_VQ = 17,
    NET_F_CTRL_RX = 18,
    NET_F_CTRL_MAC_ADDR = 23,
};
#define NET_BIT(f) (1ull << NET_F_##f)

enum { NET_RX, NET_TX, NET_CTRL, NET_QUEUES };

/* struct virtio_net_hdr with num_buffers (§5.1.6), which VERSION_1 always has. */
#define NET_HDR_LEN         12u
#define NET_HDR_NUM_BUFFERS 10u
#define NET_HDR_DATA_VALID  2u

#define NET_ETH_HLEN  14u
#define NET_FRAME_MAX (65535u + 18u) /* Ethernet header, VLAN tag, the longest IP packet */

/* §5.1.4 */
struct net_config {
    uint8_t mac[6];
    uint16_t status;
    uint16_t max_virtqueue_pairs;
    uint16_t mtu;
} __attribute__((packed));
#define NET_S_LINK_UP 1u

/* A receive buffer of the driver that is with us. Elements past NET_BUF_IOVS are left unused. */
#define NET_BUFS      1024u
#define NET_BUF_IOVS  24u
#define NET_BUF_BYTES (1u << 20) /* more of one buffer is not used either */
struct net_buf {
    uint16_t head, niov;
    uint32_t len;
    struct iovec iov[NET_BUF_IOVS];
};

/* Buffers taken together for one frame. */
#define NET_TAKE_BUFS 64u
#define NET_TAKE_IOVS 256u
struct net_take {
    uint16_t nbuf, niov;
    uint32_t len;
    uint16_t buf[NET_TAKE_BUFS];
    struct iovec iov[NET_TAKE_IOVS];
};

struct net;

/* One const table a backend. All on the I/O thread but open. */
struct net_backend {
    int (*attach)(struct net *n);
    void (*start)(struct net *n);
    void (*rx)(struct net *n); /* there may be new receive buffers */
    void (*tx)(struct net *n); /* there may be frames to send */
    void (*reset)(struct net *n);
    void (*stop)(struct net *n); /* may be NULL */
};

struct net_filter {
    bool promisc, allmulti, all_unicast, all_multicast; /* all_*: the table was too long */
    uint16_t nunicast, nmulticast;
    uint8_t unicast[64][6], multicast[64][6];
};

/* For --stats. A frame is what one request of a ring holds: with segmentation offload, up to 64 KiB
 * of a TCP stream. A packet is what of it goes over a wire. */
enum {
    NET_C_FRAMES,
    NET_C_PACKETS,
    NET_C_RX_FRAMES,
    NET_C_RX_PACKETS,
    NET_C_TX_FRAMES,
    NET_C_TX_PACKETS,
    NET_C_RX_DROPPED,
    NET_C_TX_DROPPED,
    NET_C_FILTERED,
    NET_COUNTERS,
};

struct net {
    struct virtio_dev dev;
    struct net_config config;
    struct net_filter filter;
    const struct net_backend *backend;
    void *state; /* the backend's */
    bool running, link_up, mergeable;
    char label[96];
    struct net_address address;

    /* net_rx.c */
    uint16_t nfree, nready, ready_head;
    uint16_t free_buf[NET_BUFS], ready[NET_BUFS];
    struct net_buf buf[NET_BUFS];

    /* net.c: is a stream going? */
    bool bulk;
    uint32_t bytes; /* lately */
    uint64_t since;
    struct io_timer tick;

    struct virtio_counter count[NET_COUNTERS + 1];
};

/* --- net.c --- */
/* The peer is gone, for good: the driver is told, what it sends is dropped. */
void net_link_down(struct net *n);
/* Count a frame of len bytes that begins, header first, at iov; which: NET_C_RX_FRAMES or
 * NET_C_TX_FRAMES. */
void net_count(struct net *n, unsigned which, const struct iovec *iov, unsigned niov, uint32_t len);
/* So many bytes went through, either way. */
void net_traffic(struct net *n, uint32_t bytes);
/* A frame of the driver is done with. */
void net_tx_done(struct net *n, const struct virtq_chain *c, bool sent);

/* --- net_options.c --- */
#define NET_FORWARDS 16u
struct net_options {
    char tap[16];
    bool user, restricted, has_mac;
    uint8_t mac[6];
    struct net_address address;
    unsigned nforward;
    struct net_forward {
        bool udp;
        char spec[72]; /* as passt writes it: ADDR/PORT:PORT */
    } forward[NET_FORWARDS];
};
/* 0, or -EINVAL with one clause in err. */
int net_options_parse(const char *arg, struct net_options *o, char *err, size_t len);

/* --- net.c --- */
/* A device without a backend; NULL with a clause in err. free() it if nothing comes of it. */
struct net *net_new(const struct net_options *o, char *err, size_t len);

/* --- net_rx.c --- */
void net_rx_init(struct net *n);
/* Take buffers of at least want bytes (the first ones that come to it). May be less: see
 * net_rx_short(). false: nothing was taken, because all there is would not do, and more may come.
 */
bool net_rx_take(struct net *n, struct net_take *t, uint32_t want, bool settle);
/* Put buffers from number first on back, in front of all others. */
void net_rx_return(struct net *n, struct net_take *t, unsigned first);
/* A frame of len bytes, header included, lies at the start of t: give the buffers that hold it to
 * the driver (if its filter takes the frame), keep the others. */
void net_rx_finish(struct net *n, struct net_take *t, uint32_t len);

/* --- net_ctrl.c --- */
void net_ctrl_notify(struct net *n);
void net_filter_reset(struct net *n);
/* Does the driver want a frame to this address? */
bool net_filter_takes(const struct net *n, const uint8_t mac[6]);

/* --- net_tap.c, net_stream.c, net_passt.c: main thread; 0 or -errno with a clause in err --- */
int net_tap_open(struct net *n, const char *name, char *err, size_t len);
/* The tap for whoever reads and writes plain frames himself: a non-blocking descriptor, and the
 * interface's MTU. -errno with a clause in err. */
int net_tap_frames(const char *name, uint16_t *mtu, char *err, size_t len);
/* The MTU of the interface behind a descriptor; 1500 when it does not say. */
uint16_t net_tap_mtu(int fd);
/* fd: a connected stream socket, owned from here on. */
int net_stream_open(struct net *n, int fd, bool restricted, char *err, size_t len);
/* Start passt; *fd is our end of its socket. */
int net_passt_start(const struct net_options *o, int *fd, char *err, size_t len);

/* --- net_restrict.c --- */
#define NET_RESTRICT_LOOK 128u
/* May the guest send the frame that begins with these bytes (all of it, or NET_RESTRICT_LOOK)? */
bool net_restrict_allows(const uint8_t *frame, size_t len);

#endif
