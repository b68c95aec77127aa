/* A TCP socket, between tcp.c (data) and tcp_connect.c (how connections come and go). */
#ifndef GUESTS_RUNTIME_NET_TCP_H
#define GUESTS_RUNTIME_NET_TCP_H

#include "guests/runtime/socket.h"
#include "lwip/tcp.h"

enum tcp_phase { TCP_NEW, TCP_LISTENING, TCP_CONNECTING, TCP_CONNECTED, TCP_DEAD };

/* What came in, as lwIP gave it. */
struct packet {
    struct packet *next;
    struct pbuf *p;
    uint64_t at; /* bytes read already */
};

/* A page of what goes out: lwIP sends from here, until all of it has been acknowledged. */
struct tcp_page {
    struct tcp_page *next;
    uint32_t used, acked;
    uint8_t bytes[PAGE - 16];
};

struct tcp {
    struct socket *socket; /* NULL: closed, only what was sent keeps it */
    struct tcp_pcb *pcb;   /* NULL: there is none (any more) */
    enum tcp_phase phase;
    bool begun; /* by a connect() that did not wait: the next one says how it went */
    bool fin, no_read, no_write; /* the peer's, our shutdown()s */
    struct endpoint local, peer;

    struct packet *in, **in_end;
    uint64_t in_bytes;
    struct tcp_page *out, *out_last;
    uint64_t out_bytes;
    bool filling; /* out_last is being written to */

    /* timers.c: the last acknowledgement, since when (0: nothing is under way), times sent again */
    uint32_t acked;
    uint64_t since;
    unsigned again;

    /* of a listening one: connections nobody has accepted, each in the listener's list */
    struct tcp *listener, *pending, *pending_next;
};

/* --- tcp.c --- */
/* lwIP's callbacks for a connection. */
void tcp_attach(struct tcp *t);
/* lwIP goes on with the pcb alone; it is freed there. */
void tcp_detach(struct tcp *t);
void tcp_detach_if_over(struct tcp *t);
/* The connection that is being made will not be. */
void tcp_fail(struct tcp_pcb *pcb, int error);
void tcp_drop_input(struct tcp *t);
void tcp_drop_output(struct tcp *t);
int64_t tcp_send_bytes(struct socket *s, struct span *from, unsigned flags,
                       const struct endpoint *to);
int64_t tcp_receive_bytes(struct socket *s, struct span *to, unsigned *flags,
                          struct endpoint *from);
unsigned tcp_readiness(struct socket *s);

/* --- tcp_connect.c --- */
void tcp_set_options(struct socket *s);
/* The names of both ends, while lwIP knows them. */
void tcp_keep_names(struct tcp *t);

#endif
