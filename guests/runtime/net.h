/*
 * What the image with the network (guests/runtime/net, taken when there is a --net) adds to the
 * runtime. In the plain image these are not there: their addresses are 0, their calls ENOSYS.
 */
#ifndef GUESTS_RUNTIME_NET_H
#define GUESTS_RUNTIME_NET_H

#include "guests/runtime/runtime.h"

#define IF_LINKED __attribute__((weak))

/* Device, addresses, /etc/resolv.conf; waits for DHCP. */
IF_LINKED void net_init(void);
IF_LINKED void net_interrupt(void);
/* net_timer has come. */
IF_LINKED void net_tick(void);
/* The program is done: what it has sent arrives, or some seconds pass. */
IF_LINKED void net_finish(void);
/* What /etc/hosts and /etc/resolv.conf say. */
IF_LINKED const char *net_hosts(void);
IF_LINKED const char *net_resolvers(void);

/* After anything that may have given lwIP something to do: what it sent to itself, its timers. */
IF_LINKED void net_settle(void);
/* May the address be bound here? */
IF_LINKED bool net_is_ours(uint32_t address);

/* The calls on sockets: socket.c, message.c, option.c, unix.c. */
int64_t sys_socket(uint64_t, uint64_t, uint64_t);
int64_t sys_socketpair(uint64_t, uint64_t, uint64_t, uint64_t);
int64_t sys_bind(uint64_t, uint64_t, uint64_t);
int64_t sys_listen(uint64_t, uint64_t);
int64_t sys_accept(uint64_t, uint64_t, uint64_t);
int64_t sys_accept4(uint64_t, uint64_t, uint64_t, uint64_t);
int64_t sys_connect(uint64_t, uint64_t, uint64_t);
int64_t sys_getsockname(uint64_t, uint64_t, uint64_t);
int64_t sys_getpeername(uint64_t, uint64_t, uint64_t);
int64_t sys_shutdown(uint64_t, uint64_t);
int64_t sys_getsockopt(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
int64_t sys_setsockopt(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
int64_t sys_sendto(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
int64_t sys_recvfrom(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
int64_t sys_sendmsg(uint64_t, uint64_t, uint64_t);
int64_t sys_recvmsg(uint64_t, uint64_t, uint64_t);
int64_t sys_sendmmsg(uint64_t, uint64_t, uint64_t, uint64_t);
int64_t sys_recvmmsg(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

#endif
