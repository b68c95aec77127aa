/* Names of AF_UNIX sockets (unixname.c). */
#ifndef GUESTS_RUNTIME_UNIX_H
#define GUESTS_RUNTIME_UNIX_H

#include "guests/runtime/ring.h"
#include "guests/runtime/socket.h"

/* A path, or a first byte of NUL and any bytes (abstract); len 0: none. */
struct unix_name {
    uint32_t len;
    char text[109]; /* sun_path and a NUL */
};

/* A socket's own half. */
struct local {
    struct local *next;    /* of all */
    struct socket *socket; /* NULL: nobody has accepted it yet */
    struct local *other;   /* connected to; NULL: not, or that one is closed */
    struct unix_name name, peer;
    struct inode *inode; /* of a path; an accepted one has only its listener's name */
    bool bound, connected, accepted, no_read, no_write, listens;
    struct local *queue, *queued; /* who waits to be accepted, first to last; the next of them */
    unsigned waiting, backlog;
    struct ring ring; /* what is there to be read */
};
extern struct local *unix_all;

/* From and to the program: struct sockaddr_un. */
int unix_name_in(struct unix_name *n, uint64_t at, uint64_t len);
int unix_name_out(const struct unix_name *n, uint64_t at, uint32_t room, uint64_t len_at);
/* Give u the name, an unused one when it has none: 0, -EADDRINUSE and what a path may come to. */
int64_t unix_bind(struct local *u, const struct unix_name *n);
void unix_unbind(struct local *u);
/* Who has the name; NULL: *err. */
struct local *unix_find(const struct unix_name *n, unsigned type, int64_t *err);

#endif
