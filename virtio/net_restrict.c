/*
 * --net user,restrict: the guest answers those who come in by hostfwd, and reaches nobody itself.
 *
 * Without state: a TCP connection begins with a SYN without ACK, so the guest may send TCP segments
 * of any other kind, and besides that only what its own address takes: ARP, DHCP, DHCPv6, IPv6
 * neighbour discovery. Fragments and extension headers hide what they carry and are dropped.
 */
#include "virtio/net.h"

enum { ETH_ARP = 0x0806, ETH_IP4 = 0x0800, ETH_IP6 = 0x86dd };
enum { IP_TCP = 6, IP_UDP = 17, IP_ICMP6 = 58 };
enum { TCP_SYN = 0x02, TCP_ACK = 0x10 };

static unsigned be16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static bool tcp_allowed(const uint8_t *p, size_t len)
{
    if (len < 20)
        return false;
    return (p[13] & TCP_ACK) || !(p[13] & TCP_SYN);
}

static bool udp_allowed(const uint8_t *p, size_t len, unsigned server)
{
    return len >= 8 && be16(p + 2) == server;
}

bool net_restrict_allows(const uint8_t *frame, size_t len)
{
    if (len < NET_ETH_HLEN)
        return false;
    const uint8_t *p = frame + NET_ETH_HLEN;

    len -= NET_ETH_HLEN;
    switch (be16(frame + 12)) {
    case ETH_ARP:
        return true;
    case ETH_IP4: {
        size_t ihl = len ? (p[0] & 15u) * 4u : 0;

        if (len < 20 || p[0] >> 4 != 4 || ihl < 20 || ihl > len || be16(p + 6) & 0x3fff)
            return false;
        if (p[9] == IP_TCP)
            return tcp_allowed(p + ihl, len - ihl);
        return p[9] == IP_UDP && udp_allowed(p + ihl, len - ihl, 67);
    }
    case ETH_IP6:
        if (len < 40 || p[0] >> 4 != 6)
            return false;
        if (p[6] == IP_TCP)
            return tcp_allowed(p + 40, len - 40);
        if (p[6] == IP_UDP)
            return udp_allowed(p + 40, len - 40, 547);
        /* Router solicitation to redirect, and multicast listener reports. */
        return p[6] == IP_ICMP6 && len > 40 &&
               ((p[40] >= 133 && p[40] <= 137) || p[40] == 131 || p[40] == 132 || p[40] == 143);
    default:
        return false;
    }
}
