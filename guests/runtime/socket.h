/*
 * Sockets: the system calls are in socket.c, message.c and option.c; what a kind of socket does, in
 * its table: tcp.c, udp.c, unix.c. lwIP calls back only while an interrupt, a timer or a call of
 * ours runs it, never in the middle of our code.
 */
#ifndef GUESTS_RUNTIME_SOCKET_H
#define GUESTS_RUNTIME_SOCKET_H

#include "guests/runtime/fs.h"
#include "guests/runtime/net.h"
#include "guests/runtime/runtime.h"

enum { AF_UNSPEC, AF_UNIX, AF_INET, AF_VSOCK = 40 };
enum { SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_SEQPACKET = 5 };
enum {
    MSG_OOB = 1,
    MSG_PEEK = 2,
    MSG_TRUNC = 0x20,
    MSG_DONTWAIT = 0x40,
    MSG_WAITALL = 0x100,
    MSG_ERRQUEUE = 0x2000, /* nothing is ever in it */
    MSG_NOSIGNAL = 0x4000,
    MSG_MORE = 0x8000,
    MSG_WAITFORONE = 0x10000,
};
enum { SHUT_READ, SHUT_WRITE, SHUT_BOTH };

/* An IPv4 address and port, in network order; or a CID and a port of AF_VSOCK. */
struct unix_name;
struct endpoint {
    uint32_t address, port;
    const struct unix_name *name; /* of AF_UNIX, instead */
};

/* Bytes of the program, from one buffer or an array of struct iovec. */
struct span {
    uint64_t iov, count; /* those that have not begun */
    uint64_t at, here;   /* of the one that has */
    uint64_t left;       /* in all */
};
int span_of_iov(struct span *s, uint64_t iov, uint64_t count);
int span_of_buffer(struct span *s, uint64_t at, uint64_t len);
/* n bytes (at most what is left) to or from memory of ours; 0 or -EFAULT. */
int span_read(struct span *s, void *dst, uint64_t n);
int span_write(struct span *s, const void *src, uint64_t n);

struct socket;
struct socket_ops {
    uint16_t domain, type, protocol;
    int64_t (*bind)(struct socket *s, const struct endpoint *e);
    int64_t (*listen)(struct socket *s, unsigned backlog);
    /* The next connection, an own reference; NULL with an error in *err. */
    struct socket *(*accept)(struct socket *s, bool wait, int64_t *err);
    int64_t (*connect)(struct socket *s, const struct endpoint *e, bool wait);
    int64_t (*name)(struct socket *s, struct endpoint *e, bool peer);
    int64_t (*shutdown)(struct socket *s, unsigned how);
    int64_t (*send)(struct socket *s, struct span *from, unsigned flags, const struct endpoint *to);
    /* *flags: MSG_TRUNC comes back. from: who sent it, for datagrams. */
    int64_t (*recv)(struct socket *s, struct span *to, unsigned *flags, struct endpoint *from);
    unsigned (*poll)(struct socket *s);
    uint64_t (*readable)(struct socket *s); /* FIONREAD */
    void (*set)(struct socket *s);          /* options below changed */
    void (*close)(struct socket *s);        /* the last descriptor is gone: s is to be freed */
};

struct socket {
    const struct socket_ops *ops;
    void *impl;                       /* the kind's */
    int error;                        /* SO_ERROR: an errno */
    uint64_t receive_wait, send_wait; /* ns; 0: for ever */
    uint32_t receive_buffer, send_buffer;
    bool reuse, reuse_port, broadcast, keepalive, linger, no_delay, cork;
    uint32_t linger_seconds, keep_idle, keep_interval, keep_count; /* seconds */
    uint8_t tos, ttl;
};

/* --- socket.c --- */
struct socket *socket_of(struct file *f); /* NULL: it is none */
struct socket *socket_new(const struct socket_ops *ops);
void socket_free(struct socket *s);
/* A descriptor of it; s is freed when there is none to be had. */
int64_t socket_install(struct socket *s, uint64_t flags);
/* Something about s has changed. */
void socket_changed(struct socket *s);
/* Wait for that: 0, -EAGAIN when limit (a span of time from *began on, 0: none) is over, or a
 * signal's error. *began: 0 before the first wait. */
int64_t socket_wait(struct socket *s, uint64_t limit, uint64_t *began);
/* -s->error, once. */
int64_t socket_error(struct socket *s);

/* --- ifreq.c --- */
IF_LINKED int64_t socket_ioctl(struct socket *s, uint64_t cmd, uint64_t arg);

/* --- tcp.c, udp.c, unix.c --- */
int64_t unix_socket(uint64_t type, uint64_t protocol);
bool unix_is_listening(const struct socket *s);
IF_LINKED extern const struct socket_ops tcp_ops, udp_ops;
IF_LINKED bool tcp_open(struct socket *s);
IF_LINKED bool udp_open(struct socket *s);
/* An ICMP error about what the socket sent: udp_open()'s state. */
void udp_error(void *state, int error);
IF_LINKED bool tcp_is_listening(const struct socket *s);

/* --- interface.c --- */
struct netif;
struct netif *net_card(void); /* NULL: none */
extern bool net_behind_passt;
/* --- memory.c --- */
/* Less than such a part of memory is free: packets are dropped, senders wait. */
bool net_short_of_memory(unsigned part);

/* --- timers.c: lwIP's --- */
void net_timers_start(void);
void net_timers_traffic(void);
void net_timers_run(void); /* those whose time has come */
uint64_t net_timers_next(void);

#endif
