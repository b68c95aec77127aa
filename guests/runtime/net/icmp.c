/* ICMP's "destination unreachable" (RFC 792, RFC 1122 4.1.3.3, 4.2.3.9), which lwIP leaves aside:
 * an error of the connected UDP socket, the end of a TCP connection that is being made. */
#include "guests/runtime/net/tcp.h"
#include "guests/runtime/process.h"

#include "lwip/ip4.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/prot/icmp.h"
#include "lwip/prot/udp.h"
#include "lwip/udp.h"

#include LWIP_HOOK_FILENAME

enum { ICMP_HEADER = 8, TRANSPORT = 8 /* bytes of it that come back */ };

static int error_of(unsigned code)
{
    switch (code) {
    case ICMP_DUR_NET:
    case 6:
    case 9:
    case 11:
        return ENETUNREACH;
    case ICMP_DUR_PROTO:
        return ENOPROTOOPT;
    case ICMP_DUR_PORT:
        return ECONNREFUSED;
    case ICMP_DUR_FRAG:
        return EMSGSIZE;
    default:
        return EHOSTUNREACH;
    }
}

/* The transport's first bytes are the same for both: the ports, from and to. */
struct sent {
    uint32_t from, to;
    uint16_t from_port, to_port; /* in the host's order */
    uint32_t sequence;
};

static void udp_failed(const struct sent *m, int error)
{
    for (const struct udp_pcb *p = udp_pcbs; p; p = p->next)
        if (p->local_port == m->from_port && p->flags & UDP_FLAGS_CONNECTED &&
            p->remote_port == m->to_port && p->remote_ip.addr == m->to)
            udp_error(p->recv_arg, error);
}

static void tcp_failed(const struct sent *m, int error)
{
    for (struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next)
        if (p->state == SYN_SENT && p->local_port == m->from_port && p->remote_port == m->to_port &&
            p->remote_ip.addr == m->to && m->sequence == p->lastack) {
            tcp_fail(p, error);
            return;
        }
}

int net_ip_input(const struct pbuf *p)
{
    const struct ip_hdr *outer = p->payload, *inner;
    const uint8_t *icmp, *ports;
    unsigned at = p->len >= IP_HLEN ? IPH_HL_BYTES(outer) : 0;

    if (at < IP_HLEN || IPH_PROTO(outer) != IP_PROTO_ICMP ||
        IPH_OFFSET(outer) & PP_HTONS(IP_OFFMASK | IP_MF) || p->len < at + ICMP_HEADER + IP_HLEN)
        return 0;
    icmp = (const uint8_t *)outer + at;
    inner = (const struct ip_hdr *)(icmp + ICMP_HEADER);
    at += ICMP_HEADER + IPH_HL_BYTES(inner);
    if (icmp[0] != ICMP_DUR || IPH_HL_BYTES(inner) < IP_HLEN || p->len < at + TRANSPORT ||
        inner->src.addr != outer->dest.addr)
        return 0;
    ports = (const uint8_t *)outer + at;
    struct sent m = {.from = inner->src.addr,
                     .to = inner->dest.addr,
                     .from_port = (uint16_t)(ports[0] << 8 | ports[1]),
                     .to_port = (uint16_t)(ports[2] << 8 | ports[3]),
                     .sequence = (uint32_t)ports[4] << 24 | (uint32_t)ports[5] << 16 |
                                 (uint32_t)ports[6] << 8 | ports[7]};

    if (IPH_PROTO(inner) == IP_PROTO_UDP)
        udp_failed(&m, error_of(icmp[1]));
    else if (IPH_PROTO(inner) == IP_PROTO_TCP && icmp[1] != ICMP_DUR_FRAG)
        tcp_failed(&m, error_of(icmp[1]));
    return 0; /* lwIP goes on with it */
}
