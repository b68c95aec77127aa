/* lwIP's hooks. */
#ifndef GUESTS_RUNTIME_NET_HOOKS_H
#define GUESTS_RUNTIME_NET_HOOKS_H

struct ip4_addr;
uint32_t net_initial_sequence(const struct ip4_addr *local, uint16_t local_port,
                              const struct ip4_addr *remote, uint16_t remote_port);
#define LWIP_HOOK_TCP_ISN net_initial_sequence

#endif
