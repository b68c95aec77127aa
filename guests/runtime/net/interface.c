/* The guest's interface: the card, its address from DHCP or the user, the loopback, lwIP's timers;
 * and what happens to connections when the program ends. */
#include "guests/runtime/fs.h"
#include "guests/runtime/net.h"
#include "guests/runtime/net/nic.h"
#include "guests/runtime/socket.h"
#include "guests/runtime/net/vsock.h"
#include "guests/runtime/process.h"

#include "lwip/dhcp.h"
#include "lwip/dns.h"
#include "lwip/etharp.h"
#include "lwip/priv/tcp_priv.h"
#include "netif/ethernet.h"

#define DHCP_WAIT   (5 * NS)
#define FINISH_WAIT (5 * NS)
#define LO_MTU      16384u
#define RESOLVERS   DNS_MAX_SERVERS

/* What a peer may send ahead. passt drops what its socket's buffer does not hold, and takes long to
 * notice. */
#define WINDOW       (1u << 20)
#define WINDOW_LEAST (128u << 10)
#define MTU_PASST    65520u
uint32_t net_window = WINDOW;
bool net_behind_passt;

static struct netif card;
static uint32_t resolver[RESOLVERS];

struct netif *net_card(void)
{
    return card.linkoutput ? &card : NULL;
}

bool net_is_ours(uint32_t address)
{
    return !address || (address & 0xff) == 127 || address == UINT32_MAX ||
           address == netif_ip4_addr(&card)->addr;
}

/* In place of lwIP's dns.c. */
void dns_init(void) {}

void dns_tmr(void) {}

void dns_setserver(u8_t number, const ip_addr_t *server)
{
    if (number < RESOLVERS)
        resolver[number] = server->addr;
}

static void address_text(char *out, size_t size, uint32_t a)
{
    format(out, size, "%d.%d.%d.%d", (uint64_t)(uint8_t)a, (uint64_t)(uint8_t)(a >> 8),
           (uint64_t)(uint8_t)(a >> 16), (uint64_t)(a >> 24));
}

const char *net_hosts(void)
{
    static char text[128];
    char address[20];

    address_text(address, sizeof address, netif_ip4_addr(&card)->addr);
    format(text, sizeof text, "127.0.0.1\tlocalhost\n%s\tmayfly\n",
           netif_ip4_addr(&card)->addr ? address : "127.0.1.1");
    return text;
}

const char *net_resolvers(void)
{
    static char text[RESOLVERS * 32 + 1];
    char address[20];

    for (unsigned i = 0; i < RESOLVERS; i++) {
        if (!resolver[i])
            continue;
        size_t n = length(text);

        address_text(address, sizeof address, resolver[i]);
        format(text + n, sizeof text - n, "nameserver %s\n", address);
    }
    return text;
}

void net_settle(void)
{
    netif_poll_all();
    net_timers_traffic();
    uint64_t t = net_timers_next();

    /* One that comes too early looks and goes to sleep again. */
    if (t < net_timer) {
        net_timer = t;
        thread_timers_changed();
    }
}

void net_interrupt(void)
{
    nic_poll(&card);
    net_settle();
    vsock_interrupt();
}

void net_tick(void)
{
    nic_reclaim();
    net_timers_run();
    netif_poll_all();
    net_timer = net_timers_next();
    thread_timers_changed();
}

/* Run the network until *deadline, unless something else wakes us first. */
static void run_until(uint64_t deadline)
{
    timer_arm(least(net_timer, deadline));
    cpu_idle();
    if (net_timer <= clock_ns())
        net_tick();
}

static void wait_for_address(void)
{
    uint64_t until = clock_ns() + DHCP_WAIT;

    net_settle();
    while (!netif_ip4_addr(&card)->addr && clock_ns() < until)
        run_until(until);
    thread_timers_changed();
    if (!netif_ip4_addr(&card)->addr)
        say("mayfly: network: nobody answers DHCP; the program starts without an address: give "
            "ip=ADDRESS/BITS[,gw=ADDRESS][,dns=ADDRESS] with --net");
}

static void loopback_mtu(void)
{
    struct netif *lo = netif_find("lo0");

    if (!lo)
        return;
    lo->mtu = LO_MTU;
    NETIF_SET_CHECKSUM_CTRL(lo, NETIF_CHECKSUM_DISABLE_ALL);
}

void net_init(void)
{
    ip4_addr_t address = {boot.net_address}, mask = {boot.net_mask}, gateway = {boot.net_gateway};

    /* What its lwip_init() does, whose file wants a window known to the compiler. */
    vsock_init();
    netif_init();
    udp_init();
    tcp_init();
    net_timers_start();
    loopback_mtu();
    if (netif_add(&card, &address, &mask, &gateway, NULL, nic_start, ethernet_input)) {
        net_behind_passt = card.mtu == MTU_PASST;
        if (boot.net_ahead)
            net_window = (uint32_t)least(WINDOW, boot.net_ahead);
        if (net_window < WINDOW_LEAST)
            net_window = WINDOW_LEAST;
        netif_set_hostname(&card, "mayfly");
        netif_set_default(&card);
        netif_set_up(&card);
        netif_set_link_up(&card);
        resolver[0] = boot.net_dns;
        net_settle();
        if (!boot.net_address && dhcp_start(&card) == ERR_OK)
            wait_for_address();
    }
    net_settle();
}

/* --- the end --- */

static bool busy(void)
{
    for (const struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next)
        if (p->state != SYN_SENT && p->state != SYN_RCVD &&
            (p->unsent || p->unacked || p->state == CLOSING || p->state == FIN_WAIT_1 ||
             p->state == LAST_ACK))
            return true;
    return nic_reclaim() != 0 || vsock_busy();
}

void net_finish(void)
{
    uint64_t until = clock_ns() + FINISH_WAIT;

    for (uint64_t fd = 0; fd < MAX_FDS; fd++)
        if (socket_of(fd_file(fd)))
            sys_close(fd);
    net_settle();
    while (busy() && clock_ns() < until)
        run_until(least(until, clock_ns() + NS / 1000));
}
