/*
 * virtio-vsock (VIRTIO 1.2 §5.10): what its files share.
 *
 *   vsock.c        the device: packets of the driver, packets for the driver
 *   vsock_conn.c   connections: their table, how they begin and end
 *   vsock_io.c     data between the host's Unix sockets and guest memory
 *   vsock_path.c   --vsock's argument and the listening socket at PATH
 *
 * Data goes by asynchronous operations (io.h) that never wait: what a socket does not take or give
 * at once is left to a poll. So none holds a buffer of the driver for longer than a pass, and a
 * slow host program holds up nobody but its own connection. A table entry whose connection has
 * ended is free again when the last operation on its socket has.
 */
#ifndef VIRTIO_VSOCK_H
#define VIRTIO_VSOCK_H

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>
#include "virtio/virtio.h"

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

/* §5.10.6 */
struct vsock_hdr {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port;
    uint32_t len;
    uint16_t type, op;
    uint32_t flags;
    uint32_t buf_alloc, fwd_cnt;
} __attribute__((packed));
_Static_assert(sizeof(struct vsock_hdr) == 44, "VIRTIO 1.2 5.10.6");

enum vsock_op {
    VSOCK_OP_INVALID,
    VSOCK_OP_REQUEST,
    VSOCK_OP_RESPONSE,
    VSOCK_OP_RST,
    VSOCK_OP_SHUTDOWN,
    VSOCK_OP_RW,
    VSOCK_OP_CREDIT_UPDATE,
    VSOCK_OP_CREDIT_REQUEST,
};
#define VSOCK_TYPE_STREAM   1u
#define VSOCK_SHUTDOWN_RCV  1u
#define VSOCK_SHUTDOWN_SEND 2u
#define VSOCK_SHUTDOWN_BOTH 3u
#define VSOCK_HOST_CID      2u

#define VSOCK_CONNS     1024u
#define VSOCK_BUCKETS   256u
#define VSOCK_BUF_ALLOC (128u << 10) /* what a guest may have on its way to a host that is slow */
#define VSOCK_PACKET    (64u << 10)  /* bytes of data in one packet of ours */
#define VSOCK_RSTS      256u
#define VSOCK_NONE      0xffffu
#define VSOCK_LINE      32u /* of "CONNECT 4294967295\n" */
#define VSOCK_READS     32u /* receive buffers of the driver with us */
#define VSOCK_SENDS     64u /* packets of the driver with us */

enum vsock_state {
    CONN_FREE,
    CONN_HELLO,   /* a host program connected to PATH: its line is being read */
    CONN_REQUEST, /* the guest was asked for it */
    CONN_OPEN,
    CONN_CLOSED, /* RST is to be sent, then it is free */
};

struct vsock;
struct vsock_conn;

/* A buffer of the driver, and its transfer: a packet to be sent, or room for one. */
struct vsock_xfer {
    struct io_op op;
    struct vsock *v;
    struct vsock_conn *c;    /* while it belongs to a connection */
    struct vsock_xfer *next; /* of the idle ones, or to be sent after it */
    struct virtq_chain chain;
    uint32_t len; /* of the data */
    struct msghdr msg;
    struct iovec iov[VIRTQ_SIZE_MAX], data[VIRTQ_SIZE_MAX];
};

struct vsock_conn {
    enum vsock_state state;
    struct vsock *v;
    int fd, file; /* -1: none */
    uint16_t ops; /* in flight on it */
    bool dropped; /* the socket is closed when there are none */
    struct io_op poll;
    unsigned polling; /* the events it asks for */
    uint32_t host_port, guest_port;
    uint16_t next;       /* in its bucket, or of the free ones */
    uint16_t ready_next; /* in the list of those that have a packet for the guest */
    bool listed, ready;
    bool readable;     /* as far as we know */
    bool host_shut;    /* the host sends no more than is in the socket */
    bool host_eof;     /* nothing */
    bool host_gone;    /* nor does it read */
    bool eof_told;     /* the guest knows */
    bool guest_eof;    /* the guest sends no more */
    bool shut;         /* the host was told */
    bool guest_closed; /* nor does it receive */
    bool asked;        /* CREDIT_REQUEST was sent for the present lack */
    uint8_t owed;      /* bit a vsock_op: control packets to be sent */
    uint64_t deadline; /* ns, 0 none */
    /* host to guest: what the guest says, and what it got */
    uint32_t peer_alloc, peer_fwd, sent;
    uint32_t asked_for;      /* bytes of the reads in flight */
    uint16_t reading, burst; /* how many those are, and may be */
    /* guest to host: received, passed on, passed on as far as the guest was told */
    uint32_t received, fwd, fwd_told;
    /* The rest is either in packets, the first of them being sent, or, once the socket took no
     * more, copied: buffered bytes from buf_at on, wrapping. */
    struct vsock_xfer *first, *last;
    uint8_t *buf;
    uint32_t buf_at, buffered;
    bool sending, flushing; /* the first packet is on its way; buf is */
    bool blocked;           /* the socket is full */
    struct io_op flush;
    struct msghdr msg;
    struct iovec vec;
    char line[VSOCK_LINE];
    unsigned line_len;
};

struct vsock {
    struct virtio_dev dev;
    uint64_t guest_cid; /* the configuration space, little-endian */
    uint64_t cid;
    bool running;
    bool accepting; /* false: connections wait at PATH until an entry is free */
    int listen_fd, listen_file;
    struct io_op poll;
    struct io_timer timer;
    uint32_t next_port;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    char label[160];

    uint16_t free_conn, ready_first, ready_last, nconn;
    uint16_t bucket[VSOCK_BUCKETS];
    struct vsock_conn conn[VSOCK_CONNS];

    /* Answers to packets that belong to no connection. */
    unsigned rst_at, nrst;
    struct vsock_hdr rst[VSOCK_RSTS];

    struct vsock_xfer *idle_rx, *spare_rx, *idle_tx; /* spare: with a chain that was not needed */
    struct vsock_xfer rx[VSOCK_READS], tx[VSOCK_SENDS];
};

/* --- vsock.c --- */
/* c has something for the guest. */
void vsock_ready(struct vsock *v, struct vsock_conn *c);
void vsock_owe(struct vsock *v, struct vsock_conn *c, enum vsock_op op);
/* Fill the driver's receive buffers with what there is. */
void vsock_deliver(struct vsock *v);
/* The header of a packet for the guest. */
struct vsock_hdr vsock_header(struct vsock *v, struct vsock_conn *c, enum vsock_op op);
/* x is done with: its chain goes to the driver with len bytes; idle. */
void vsock_rx_done(struct vsock *v, struct vsock_xfer *x, uint32_t len);
void vsock_tx_done(struct vsock *v, struct vsock_xfer *x);
/* A receive buffer that was not needed. */
void vsock_rx_spare(struct vsock *v, struct vsock_xfer *x);

/* --- vsock_conn.c --- */
void vsock_conn_init(struct vsock *v); /* an empty table */
struct vsock_conn *vsock_find(struct vsock *v, uint32_t host_port, uint32_t guest_port);
/* The guest asks for host_port: connect to PATH_host_port. 0 or -errno. */
int vsock_connect(struct vsock *v, uint32_t host_port, uint32_t guest_port,
                  struct vsock_conn **conn);
/* The guest agreed to what a host program asked for. */
void vsock_accepted(struct vsock *v, struct vsock_conn *c);
/* A host program's line, as far as it has come. */
void vsock_read_line(struct vsock *v, struct vsock_conn *c);
/* Close the host's end; send RST to the guest if reset is set. */
void vsock_close(struct vsock *v, struct vsock_conn *c, bool reset);
void vsock_close_all(struct vsock *v);
/* An operation on c's socket has ended. */
void vsock_op_done(struct vsock *v, struct vsock_conn *c);
/* Both sides are through: the guest's RST ends it, or ours after a while. */
void vsock_wait_end(struct vsock *v, struct vsock_conn *c);
void vsock_accept(struct vsock *v);
void vsock_on_listen(struct io_op *op, int res);
void vsock_timeouts(struct io_timer *t);

/* --- vsock_io.c --- */
void vsock_io_init(struct vsock *v); /* once */
/* Poll c's socket for what is waited for. */
void vsock_watch(struct vsock *v, struct vsock_conn *c);
/* Pass on the data of a packet: len bytes, n elements of x->data. 1: x is kept until then; 0: it is
 * not; -EPROTO: more than the guest's credit; -ENOMEM. */
int vsock_push_data(struct vsock *v, struct vsock_conn *c, struct vsock_xfer *x, unsigned n,
                    uint32_t len);
/* SHUTDOWN of the guest. */
void vsock_guest_shutdown(struct vsock *v, struct vsock_conn *c, uint32_t flags);
/* Read for the guest into x. false: there is no reason to. */
bool vsock_read(struct vsock *v, struct vsock_conn *c, struct vsock_xfer *x);

/* --- vsock_path.c: main thread --- */
/* "CID,uds=PATH" into v->cid and v->path, and a socket that listens there. 0, or -errno with a
 * clause in err. */
int vsock_open(struct vsock *v, const char *arg, char *err, size_t len);

#endif
