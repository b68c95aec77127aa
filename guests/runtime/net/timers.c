/*
 * lwIP's timers, so that an idle guest sleeps: TCP's ticks of 50 ms come while a connection waits
 * for something, once a second else; the tables' seconds come while there is traffic, every ten
 * else. What was left out is made up for, by the clock.
 */
#include "guests/runtime/net/tcp.h"
#include "guests/runtime/process.h"

#include "lwip/dhcp.h"
#include "lwip/etharp.h"
#include "lwip/ip4_frag.h"
#include "lwip/priv/tcp_priv.h"

#include LWIP_HOOK_FILENAME

#define MS           (NS / 1000)
#define FAST         (TCP_FAST_INTERVAL * MS)
#define SLOW         (TCP_SLOW_INTERVAL * MS)
#define QUIET        (6 * NS) /* without traffic: ARP has given up by then */
#define QUIET_PERIOD (10 * NS)
#define REMEMBERED   1024u
#define FIRST_RTO    (1000 / TCP_SLOW_INTERVAL) /* RFC 6298 2.1; lwIP has the 3 s of before it */
#define STALLED      (90 * MS)                  /* two ticks */
#define AGAIN        (10 * MS)
#define AGAIN_MOST   (320 * MS)

static uint64_t tcp_next = NEVER, slow_last, second_next = NEVER, second_last, dhcp_next = NEVER,
                minute_next = NEVER, again_next = NEVER, again_wait = AGAIN, traffic;

/* lwIP has a connection, or one that is being forgotten. */
void tcp_timer_needed(void)
{
    if (tcp_next != NEVER || (!tcp_active_pcbs && !tcp_tw_pcbs))
        return;
    slow_last = clock_ns();
    tcp_next = slow_last + FAST;
}

static bool waits(const struct tcp_pcb *p)
{
    return p->unsent || p->unacked || p->ooseq || p->refused_data || p->persist_backoff ||
           p->flags & (TF_ACK_DELAY | TF_ACK_NOW | TF_CLOSEPEND | TF_NAGLEMEMERR) ||
           (p->state != ESTABLISHED && p->state != CLOSE_WAIT);
}

/* Closed connections of the last half minute: only so many, the oldest go, which are last. */
static void forget_old(void)
{
    unsigned n = 0;

    for (struct tcp_pcb *p = tcp_tw_pcbs, *next; p; p = next) {
        next = p->next;
        if (++n > REMEMBERED)
            tcp_abort(p); /* without a segment, in this state */
    }
}

/* Nothing was acknowledged for a while: it may be what passt dropped last, of which it says
 * nothing. Where that was too hasty passt throws it away. */
static void stalled(struct tcp_pcb *p, uint64_t now)
{
    struct tcp *t = p->callback_arg;

    if (!t || p->state < ESTABLISHED)
        return;
    if (!p->unacked || t->acked != p->lastack || !t->since) {
        t->acked = p->lastack;
        t->since = p->unacked ? now : 0;
        t->again = 0;
    } else if (now - t->since >= STALLED << t->again) {
        uint8_t tries = p->nrtx;

        tcp_rexmit_rto(p);
        p->nrtx = tries;
        t->since = now;
        t->again += t->again < 3;
    }
}

static void tcp_tick(uint64_t now)
{
    uint64_t steps = (now - slow_last) / SLOW;
    bool busy = false;

    for (struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next)
        if (!p->nrtx && !p->sa && p->sv > FIRST_RTO) /* no round trip was measured, or one of 0 */
            p->rto = p->sv = FIRST_RTO;
    tcp_fasttmr();
    if (steps) {
        slow_last += steps * SLOW;
        tcp_ticks += (uint32_t)(steps - 1);
        tcp_slowtmr();
    }
    for (struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next) {
        busy |= waits(p);
        if (net_behind_passt)
            stalled(p, now);
    }
    forget_old();
    tcp_next = !tcp_active_pcbs && !tcp_tw_pcbs ? NEVER : now + (busy ? FAST : NS);
}

/*
 * passt writes what it gets to its own socket, drops what that does not take, and all after it, and
 * says so by acknowledging again what it has: too few times for fast retransmission. After a window
 * of zero it does not say when there is room. So both are tried again soon, then less and less
 * often.
 */
void net_segment_came(const struct tcp_pcb *pcb, uint32_t ack, uint32_t window, uint32_t bytes)
{
    if (!net_behind_passt || pcb->state < ESTABLISHED)
        return;
    if (ack != pcb->lastack)
        again_wait = AGAIN;
    if (again_next == NEVER && ((uint64_t)window << pcb->snd_scale < pcb->mss ||
                                (!bytes && pcb->unacked && ack == pcb->lastack))) {
        again_next = clock_ns() + again_wait;
        again_wait = least(2 * again_wait, AGAIN_MOST);
    }
}

static void send_again(void)
{
    again_next = NEVER;
    for (struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next) {
        uint8_t tries = p->nrtx, probes = p->persist_probe; /* the network is all right */

        if (p->persist_backoff && p->unsent) {
            if (!p->snd_wnd)
                tcp_zero_window_probe(p);
            else if (tcp_split_unsent_seg(p, (uint16_t)least(p->snd_wnd, p->mss)) == ERR_OK)
                tcp_output(p);
        } else if (p->dupacks && p->unacked) {
            p->ssthresh = p->cwnd / 2 > 2u * p->mss ? p->cwnd / 2 : 2u * p->mss;
            p->cwnd = p->ssthresh;
            p->dupacks = 0;
            tcp_clear_flags(p, TF_INFR);
            tcp_rexmit_rto(p);
        }
        p->nrtx = tries;
        p->persist_probe = probes;
    }
}

static void seconds(uint64_t now)
{
    uint64_t steps = least((now - second_last) / NS, 300);

    second_last = now;
    while (steps--) {
        etharp_tmr();
        ip_reass_tmr();
    }
    second_next = now + (now - traffic < QUIET ? NS : QUIET_PERIOD);
}

/* DHCP has asked and waits for an answer. */
static bool asking(void)
{
    const struct dhcp *d = net_card() ? netif_dhcp_data(net_card()) : NULL;

    return d && d->request_timeout;
}

uint64_t net_timers_next(void)
{
    return least(least(least(tcp_next, again_next), second_next), least(dhcp_next, minute_next));
}

void net_timers_traffic(void)
{
    uint64_t now = clock_ns();

    traffic = now;
    if (tcp_next != NEVER)
        tcp_next = least(tcp_next, now + FAST);
    second_next = least(second_next, now + NS);
    if (dhcp_next == NEVER && asking())
        dhcp_next = now + DHCP_FINE_TIMER_MSECS * MS;
}

void net_timers_run(void)
{
    uint64_t now = clock_ns();

    if (tcp_next <= now)
        tcp_tick(now);
    if (again_next <= now)
        send_again();
    if (second_next <= now)
        seconds(now);
    if (dhcp_next <= now) {
        dhcp_fine_tmr();
        dhcp_next = asking() ? now + DHCP_FINE_TIMER_MSECS * MS : NEVER;
    }
    if (minute_next <= now) {
        dhcp_coarse_tmr();
        minute_next = now + DHCP_COARSE_TIMER_MSECS * MS;
        if (asking())
            dhcp_next = least(dhcp_next, now + DHCP_FINE_TIMER_MSECS * MS);
    }
}

void net_timers_start(void)
{
    second_last = clock_ns();
    minute_next = second_last + DHCP_COARSE_TIMER_MSECS * MS;
}
