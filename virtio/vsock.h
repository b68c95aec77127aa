/*
 * virtio-vsock (VIRTIO 1.2 §5.10): what its files share.
 *
 *   vsock.c        the device: packets of the driver, packets for the driver
 *   vsock_conn.c   connections: their table, the host's Unix sockets at their other ends
 *   vsock_path.c   --vsock's argument and the listening socket at PATH
 *
 * The host's side is non-blocking sockets in one epoll set, edge-triggered; the set's descriptor is
 * what the I/O thread polls. A connection is readable until a read says EAGAIN. Reads and writes
 * are plain system calls between socket and guest memory: nothing is in flight across a reset.
 */
#ifndef VIRTIO_VSOCK_H
#define VIRTIO_VSOCK_H

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

enum vsock_state {
    CONN_FREE,
    CONN_HELLO,   /* a host program connected to PATH: its line is being read */
    CONN_REQUEST, /* the guest was asked for it */
    CONN_OPEN,
    CONN_CLOSED, /* RST is to be sent, then it is free */
};

struct vsock_conn {
    enum vsock_state state;
    int fd;
    uint32_t host_port, guest_port;
    uint32_t generation; /* of this table entry, for late events */
    uint16_t next;       /* in its bucket, or of the free ones */
    uint16_t ready_next; /* in the list of those that have a packet for the guest */
    bool listed, ready;
    bool readable;     /* as far as we know */
    bool host_eof;     /* the host sends no more */
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
    /* guest to host: received, passed on, passed on as far as the guest was told */
    uint32_t received, fwd, fwd_told;
    uint8_t
        *buf; /* received - fwd bytes from buf_at on, wrapping; allocated when a write is short */
    uint32_t buf_at;
    char line[VSOCK_LINE];
    unsigned line_len;
};

struct vsock {
    struct virtio_dev dev;
    uint64_t guest_cid; /* the configuration space, little-endian */
    uint64_t cid;
    bool running;
    bool unseen;    /* there are more events of the host */
    bool accepting; /* false: connections wait at PATH until an entry is free */
    int listen_fd, epoll_fd, epoll_file;
    struct io_op poll;
    struct io_timer timer;
    uint32_t next_port;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    char label[160];
    dev_t path_dev;
    ino_t path_ino;

    uint16_t free_conn, ready_first, ready_last, nconn;
    uint16_t bucket[VSOCK_BUCKETS];
    struct vsock_conn conn[VSOCK_CONNS];

    /* Answers to packets that belong to no connection. */
    unsigned rst_at, nrst;
    struct vsock_hdr rst[VSOCK_RSTS];
};

/* --- vsock.c --- */
/* c has something for the guest. */
void vsock_ready(struct vsock *v, struct vsock_conn *c);
void vsock_owe(struct vsock *v, struct vsock_conn *c, enum vsock_op op);
/* Fill the driver's receive buffers with what there is. */
void vsock_deliver(struct vsock *v);

/* --- vsock_conn.c --- */
void vsock_conn_init(struct vsock *v); /* an empty table */
struct vsock_conn *vsock_find(struct vsock *v, uint32_t host_port, uint32_t guest_port);
/* The guest asks for host_port: connect to PATH_host_port. 0 or -errno. */
int vsock_connect(struct vsock *v, uint32_t host_port, uint32_t guest_port,
                  struct vsock_conn **conn);
/* The guest agreed to what a host program asked for. */
void vsock_accepted(struct vsock *v, struct vsock_conn *c);
/* Pass data of the guest on. -EPROTO: more than its credit, -errno: the host's end is gone. */
int vsock_push_data(struct vsock *v, struct vsock_conn *c, const struct iovec *iov, unsigned n,
                    uint32_t len);
/* SHUTDOWN of the guest. */
void vsock_guest_shutdown(struct vsock *v, struct vsock_conn *c, uint32_t flags);
/* Read for the guest. Bytes, 0: the host sends no more, -EAGAIN, other -errno: it is gone. */
int vsock_read(struct vsock_conn *c, const struct iovec *iov, unsigned n);
uint32_t vsock_credit(const struct vsock_conn *c); /* bytes the guest has room for */
/* Close the host's end; send RST to the guest if reset is set. */
void vsock_close(struct vsock *v, struct vsock_conn *c, bool reset);
void vsock_close_all(struct vsock *v);
/* Both sides are through: the guest's RST ends it, or ours after a while. */
void vsock_wait_end(struct vsock *v, struct vsock_conn *c);
void vsock_accept(struct vsock *v);
void vsock_events(struct io_op *op, int res);
void vsock_look(struct vsock *v); /* take what events there are */
void vsock_timeouts(struct io_timer *t);

/* --- vsock_path.c: main thread --- */
/* "CID,uds=PATH" into v->cid and v->path, and a socket that listens there. 0, or -errno with a
 * clause in err. */
int vsock_open(struct vsock *v, const char *arg, char *err, size_t len);
/* Remove PATH, if it is still ours. */
void vsock_unlink(struct vsock *v);

#endif
