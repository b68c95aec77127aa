/* lwIP's hooks. */
#ifndef GUESTS_RUNTIME_NET_HOOKS_H
#define GUESTS_RUNTIME_NET_HOOKS_H

struct ip4_addr;
uint32_t net_initial_sequence(const struct ip4_addr *local, uint16_t local_port,
                              const struct ip4_addr *remote, uint16_t remote_port);
#define LWIP_HOOK_TCP_ISN net_initial_sequence

struct pbuf;
/* icmp.c: every packet, before lwIP looks at it; 0: it shall. */
int net_ip_input(const struct pbuf *p);
#define LWIP_HOOK_IP4_INPUT(p, netif) net_ip_input(p)

struct tcp_pcb;
/* timers.c: a segment came, with this acknowledgement and window, and so many bytes. */
void net_segment_came(const struct tcp_pcb *pcb, uint32_t ack, uint32_t window, uint32_t bytes);
#define LWIP_HOOK_TCP_INPACKET_PCB(pcb, hdr, optlen, opt1len, opt2, p) \
    (net_segment_came(pcb, (hdr)->ackno, (hdr)->wnd, (p)->tot_len), ERR_OK)

#endif
