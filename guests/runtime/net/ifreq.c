/* ioctl() on sockets: what is there to read; the interfaces, lo and eth0. */
#include <asm/ioctls.h>
#include <linux/in.h>
#include <linux/sockios.h>
#include "guests/runtime/socket.h"

#include "lwip/netif.h"

/* linux/if.h's, which cannot be had without a C library's. */
enum {
    IFF_UP = 1,
    IFF_BROADCAST = 2,
    IFF_LOOPBACK = 8,
    IFF_RUNNING = 0x40,
    IFF_MULTICAST = 0x1000
};
enum { ARPHRD_ETHER = 1, ARPHRD_LOOPBACK = 772, NAME_BYTES = 16 };
struct ifreq {
    char name[NAME_BYTES];
    union {
        struct sockaddr_in address;
        struct {
            uint16_t family;
            uint8_t bytes[14];
        } hardware;
        uint16_t flags;
        int32_t number;
        uint8_t room[24];
    };
};
struct ifconf {
    int32_t len;
    uint64_t buf __attribute__((aligned(8)));
};

static void put_address(struct ifreq *r, uint32_t address)
{
    r->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {address}};
}

static struct netif *interface_named(const char *name, bool *lo)
{
    *lo = same(name, "lo");
    return *lo ? netif_find("lo0") : same(name, "eth0") ? net_card() : NULL;
}

static int64_t interface(uint64_t cmd, uint64_t arg)
{
    struct ifreq r;
    bool lo;
    struct netif *n;

    if (copy_in(&r, arg, sizeof r))
        return -EFAULT;
    r.name[NAME_BYTES - 1] = 0;
    n = interface_named(r.name, &lo);
    if (!n)
        return -ENODEV;
    switch (cmd) {
    case SIOCGIFADDR:
        put_address(&r, netif_ip4_addr(n)->addr);
        break;
    case SIOCGIFNETMASK:
        put_address(&r, netif_ip4_netmask(n)->addr);
        break;
    case SIOCGIFBRDADDR:
        put_address(&r, netif_ip4_addr(n)->addr | ~netif_ip4_netmask(n)->addr);
        break;
    case SIOCGIFFLAGS:
        r.flags = lo ? IFF_UP | IFF_RUNNING | IFF_LOOPBACK
                     : IFF_UP | IFF_RUNNING | IFF_BROADCAST | IFF_MULTICAST;
        break;
    case SIOCGIFHWADDR:
        r.hardware.family = lo ? ARPHRD_LOOPBACK : ARPHRD_ETHER;
        copy(r.hardware.bytes, n->hwaddr, 6);
        break;
    case SIOCGIFMTU:
        r.number = n->mtu;
        break;
    case SIOCGIFINDEX:
        r.number = lo ? 1 : 2;
        break;
    case SIOCGIFMETRIC:
        r.number = 0;
        break;
    case SIOCGIFTXQLEN:
        r.number = 1000;
        break;
    default:
        return -EOPNOTSUPP;
    }
    return copy_out(arg, &r, sizeof r);
}

static int64_t interfaces(uint64_t arg)
{
    static const char *const names[] = {"lo", "eth0"};
    struct ifconf c;
    int32_t len = 0;

    if (copy_in(&c, arg, sizeof c))
        return -EFAULT;
    for (unsigned i = 0; i < 2; i++) {
        struct ifreq r = {0};
        bool lo;
        struct netif *n = interface_named(names[i], &lo);

        if (!n || !netif_ip4_addr(n)->addr)
            continue;
        if (c.buf) {
            if (c.len < len + (int32_t)sizeof r)
                break;
            copy(r.name, names[i], length(names[i]));
            put_address(&r, netif_ip4_addr(n)->addr);
            if (copy_out(c.buf + (uint32_t)len, &r, sizeof r))
                return -EFAULT;
        }
        len += (int32_t)sizeof r;
    }
    c.len = len;
    return copy_out(arg, &c, sizeof c);
}

int64_t socket_ioctl(struct socket *s, uint64_t cmd, uint64_t arg)
{
    (void)s;
    switch (cmd) {
    case SIOCGIFCONF:
        return interfaces(arg);
    default:
        return cmd >= 0x8900 && cmd <= 0x89ff ? interface(cmd, arg) : -ENOTTY;
    }
}
