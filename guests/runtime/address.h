/* Between socket.c and message.c. */
#ifndef GUESTS_RUNTIME_ADDRESS_H
#define GUESTS_RUNTIME_ADDRESS_H

#include "guests/runtime/socket.h"

/* A descriptor's socket, its file held till file_drop(). NULL: *err. */
struct file *socket_get(uint64_t fd, struct socket **s, int64_t *err);
/* An address of the program, of the socket's family. */
int address_in(const struct socket *s, struct endpoint *e, uint64_t at, uint64_t len);
/* As accept() and others give one: at 0: not wanted; *len_at is the room, then the length. */
int address_out(const struct socket *s, const struct endpoint *e, uint64_t at, uint64_t len_at);

#endif
