/* AF_VSOCK: the device and its connections (vsock.c), the sockets on them (vsock_socket.c). */
#ifndef GUESTS_RUNTIME_NET_VSOCK_H
#define GUESTS_RUNTIME_NET_VSOCK_H

#include "guests/runtime/stream.h"

#define VSOCK_HOST 2u
#define VSOCK_ANY  UINT32_MAX /* CID or port */

enum vsock_op {
    VSOCK_REQUEST = 1,
    VSOCK_RESPONSE,
    VSOCK_RST,
    VSOCK_SHUTDOWN,
    VSOCK_RW,
    VSOCK_CREDIT_UPDATE,
    VSOCK_CREDIT_REQUEST
};
enum { VSOCK_NO_RECEIVE = 1, VSOCK_NO_SEND = 2 }; /* flags of VSOCK_SHUTDOWN */

/* A socket's other half. Addresses are CIDs, ports in the host's order, of 32 bits. */
struct vsock {
    struct vsock *next;
    struct socket *socket; /* NULL: closed here, the host has not said RST yet */
    enum { VSOCK_NEW, VSOCK_LISTENS, VSOCK_ASKS, VSOCK_UP, VSOCK_OVER } state;
    uint32_t port, peer, peer_port; /* port 0: not bound */
    /* Listening: who waits to be accepted, first to last. */
    struct vsock *queue, *next_queued;
    unsigned queued, backlog;
    /* Counts of bytes, as both sides tell them (§5.10.6.3). */
    uint32_t sent, peer_took, peer_room, taken, told;
    bool no_read, no_write, peer_no_send, peer_no_receive;
    struct ring ring; /* what is there to be read */
};

/* Device and driver; false: there is none. */
bool vsock_init(void);
bool vsock_there(void);
uint32_t vsock_cid(void);
void vsock_interrupt(void);
/* Is anything still on its way? */
bool vsock_busy(void);

struct vsock *vsock_new(struct socket *s);
/* Not known to the device any more; memory goes. */
void vsock_free(struct vsock *v);
struct vsock *vsock_listener(uint32_t port);
/* A port that nobody has. */
uint32_t vsock_free_port(void);
bool vsock_port_taken(uint32_t port);
void vsock_control(struct vsock *v, enum vsock_op op, uint32_t flags);
/* How much of from can go now, gone: 0: nothing, for lack of credit or of room in the ring; or
 * -EFAULT, -ENOMEM. */
int64_t vsock_send(struct vsock *v, struct span *from);
bool vsock_can_send(const struct vsock *v);
/* The program has taken n bytes out of the ring. */
void vsock_taken(struct vsock *v, uint64_t n);

/* --- vsock_socket.c --- */
extern const struct socket_ops vsock_ops;
IF_LINKED int64_t vsock_socket(uint64_t type, uint64_t protocol);
/* struct sockaddr_vm of the program. */
IF_LINKED int vsock_address_in(struct endpoint *e, uint64_t at, uint64_t len);
IF_LINKED int vsock_address_out(const struct endpoint *e, uint64_t at, uint32_t room,
                                uint64_t len_at);

#endif
