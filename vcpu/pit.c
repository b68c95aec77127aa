/*
 * The 8254 timer (Intel 231164) on CLOCK_MONOTONIC: a channel's state is the time its count was
 * loaded, what a read gives is computed from the time of the read.
 */
#include <time.h>
#include "vcpu/irqchip.h"
#include "vcpu/scale.h"

#define NS_PER_S 1000000000u
/* The bit of port 0x61 that shows the memory refresh toggles every 15.085 us. */
#define REFRESH_NS 15085u
/* IRQ 0 comes no more often than this: a period of some ticks would keep the I/O thread busy. */
#define MIN_EDGE_NS 20000u

void (*pit_changed)(struct vm_cpus *vm);

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

void pit_reset(struct irqchip *c)
{
    /* Not counting until programmed, as after power-up. */
    for (int i = 0; i < 3; i++) {
        c->pit.ch[i].gate = i != 2;
        c->pit.ch[i].rw_mode = 3;
    }
}

/* Counts one period has; what a binary counter wraps at. */
static uint32_t wrap(const struct pit_channel *ch)
{
    return ch->bcd ? 10000 : 0x10000;
}

static uint32_t initial(const struct pit_channel *ch)
{
    return ch->count ? ch->count : wrap(ch);
}

/* Modes that an edge of the gate starts, whatever its level after that. */
static bool triggered(const struct pit_channel *ch)
{
    return ch->mode == 1 || ch->mode == 5;
}

/* Ticks counted since the load. */
static uint64_t ticks(const struct pit_channel *ch, uint64_t now)
{
    uint64_t ns = ch->held_ns;

    if (ch->gate || triggered(ch))
        ns = now > ch->start_ns ? now - ch->start_ns : 0;
    return mul_div(ns, PIT_HZ, NS_PER_S);
}

/* The counting element, in binary (231164 "mode definitions"). */
static uint32_t counter(const struct pit_channel *ch, uint64_t now)
{
    uint32_t n = initial(ch), w = wrap(ch);

    if (!ch->loaded)
        return n % w;
    uint64_t t = ticks(ch, now);

    switch (ch->mode) {
    case 2:
        return n - (uint32_t)(t % n);
    case 3: { /* by twos: an odd count is high for one tick more than low */
        uint32_t p = (uint32_t)(t % n), high = (n + 1) / 2;

        return (n & ~1u) - 2 * (p < high ? p : p - high);
    }
    default:
        return (uint32_t)((n + w - t % w) % w);
    }
}

static bool output(const struct pit_channel *ch, uint64_t now)
{
    uint32_t n = initial(ch);

    if (!ch->loaded)
        return ch->mode != 0;
    uint64_t t = ticks(ch, now);

    switch (ch->mode) {
    case 0:
    case 1:
        return t >= n;
    case 2:
        return !ch->gate || t % n != n - 1;
    case 3:
        return !ch->gate || t % n < (n + 1) / 2;
    default: /* a strobe of one tick at the end */
        return t != n;
    }
}

static uint16_t to_bcd(uint32_t v)
{
    return (uint16_t)(v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12);
}

/* Digits above 9 are the guest's mistake: they count what they are worth. */
static uint32_t from_bcd(uint32_t v)
{
    return (v & 15) + (v >> 4 & 15) * 10 + (v >> 8 & 15) * 100 + (v >> 12 & 15) * 1000;
}

static uint16_t visible(const struct pit_channel *ch, uint64_t now)
{
    uint32_t v = counter(ch, now);

    return ch->bcd ? to_bcd(v) : (uint16_t)v;
}

/* Channel 0: the first rising edge of its output after now, or 0. */
static uint64_t next_edge(const struct pit_channel *ch, uint64_t now)
{
    uint32_t n = initial(ch);
    uint64_t t, edge;

    if (!ch->loaded || triggered(ch)) /* no trigger reaches channel 0 */
        return 0;
    t = ticks(ch, now);
    switch (ch->mode) {
    case 0:
        edge = n;
        break;
    case 4:
        edge = (uint64_t)n + 1;
        break;
    default:
        edge = (t / n + 1) * n;
    }
    if (edge <= t)
        return 0;
    /* The first ns at which ticks() says so. */
    uint64_t ns = mul_div(edge, NS_PER_S, PIT_HZ);

    return ch->start_ns + ns + (mul_div(ns, PIT_HZ, NS_PER_S) < edge);
}

static void start(struct pit_channel *ch, uint64_t now)
{
    ch->count = ch->reload;
    ch->loaded = true;
    ch->null_count = false;
    ch->start_ns = now;
    ch->held_ns = 0;
}

/* Modes 2 and 3: a count written while another runs is loaded at the period's end. */
static void settle(struct pit_channel *ch, uint64_t now)
{
    if (!ch->null_count || !ch->loaded || triggered(ch) || ch->write_state || !ch->gate)
        return;
    uint32_t n = initial(ch);
    uint64_t end = ch->start_ns + mul_div(n, NS_PER_S, PIT_HZ) + 1;

    if (now >= end)
        start(ch, end);
}

static void load(struct pit_channel *ch, uint32_t val, uint64_t now)
{
    ch->reload = ch->bcd ? from_bcd(val) : val;
    /* One tick is no period for modes 2 and 3. */
    if (ch->reload == 1 && (ch->mode == 2 || ch->mode == 3))
        ch->reload = 2;
    ch->null_count = true;
    if (triggered(ch)) /* the gate's edge starts it */
        return;
    if (ch->loaded && ch->gate && (ch->mode == 2 || ch->mode == 3)) {
        /* The period that runs becomes the one that settle() sees the end of. */
        uint32_t n = initial(ch);

        ch->start_ns += mul_div(ticks(ch, now) / n * n, NS_PER_S, PIT_HZ);
        return;
    }
    start(ch, now);
}

static void latch_count(struct pit_channel *ch, uint64_t now)
{
    if (ch->count_latched)
        return;
    ch->latched = visible(ch, now);
    ch->count_latched = ch->rw_mode; /* 1 low, 2 high, 3 low then high */
}

static void latch_status(struct pit_channel *ch, uint64_t now)
{
    if (ch->status_latched)
        return;
    ch->status = (uint8_t)(output(ch, now) << 7 | ch->null_count << 6 | ch->rw_mode << 4 |
                           ch->mode << 1 | ch->bcd);
    ch->status_latched = 1;
}

static void control(struct irqchip *c, uint8_t val, uint64_t now)
{
    unsigned sel = val >> 6, rw = val >> 4 & 3;

    if (sel == 3) { /* read-back */
        for (unsigned i = 0; i < 3; i++) {
            if (!(val >> (i + 1) & 1))
                continue;
            if (!(val & 0x20))
                latch_count(&c->pit.ch[i], now);
            if (!(val & 0x10))
                latch_status(&c->pit.ch[i], now);
        }
        return;
    }
    struct pit_channel *ch = &c->pit.ch[sel];

    if (!rw) {
        latch_count(ch, now);
        return;
    }
    uint8_t mode = val >> 1 & 7;

    ch->rw_mode = (uint8_t)rw;
    ch->mode = mode > 5 ? mode & 3 : mode;
    ch->bcd = val & 1;
    ch->read_state = ch->write_state = 0;
    ch->count_latched = ch->status_latched = 0;
    ch->loaded = false;
    ch->null_count = true;
    ch->count = ch->reload = 0;
}

static void write_count(struct pit_channel *ch, uint8_t val, uint64_t now)
{
    switch (ch->rw_mode) {
    case 1:
        load(ch, val, now);
        break;
    case 2:
        load(ch, (uint32_t)val << 8, now);
        break;
    default:
        ch->write_state ^= 1;
        if (!ch->write_state) {
            load(ch, ch->write_latch | (uint32_t)val << 8, now);
            break;
        }
        ch->write_latch = val;
        if (ch->mode == 0) /* the first byte stops the count */
            ch->loaded = false;
    }
}

static uint8_t read_count(struct pit_channel *ch, uint64_t now)
{
    if (ch->status_latched) {
        ch->status_latched = 0;
        return ch->status;
    }
    if (ch->count_latched) {
        uint8_t part = ch->count_latched;

        ch->count_latched = part == 3 ? 2 : 0;
        return (uint8_t)(part == 2 ? ch->latched >> 8 : ch->latched);
    }
    uint16_t v = visible(ch, now);

    if (ch->rw_mode == 3)
        ch->read_state ^= 1;
    return (uint8_t)(ch->rw_mode == 2 || (ch->rw_mode == 3 && !ch->read_state) ? v >> 8 : v);
}

static void set_gate(struct pit_channel *ch, bool gate, uint64_t now)
{
    if (gate == ch->gate)
        return;
    if (!gate) {
        if (ch->loaded && !triggered(ch))
            ch->held_ns = now > ch->start_ns ? now - ch->start_ns : 0;
        ch->gate = 0;
        return;
    }
    ch->gate = 1;
    if (ch->mode == 0 || ch->mode == 4)
        ch->start_ns = now - ch->held_ns; /* goes on */
    else if (ch->loaded || (ch->null_count && triggered(ch)))
        start(ch, now); /* the rising edge is the trigger */
}

uint8_t pit_read(struct irqchip *c, uint16_t port)
{
    uint8_t val = 0xff;

    pthread_mutex_lock(&c->lock);
    uint64_t now = now_ns();
    struct pit_channel *ch = &c->pit.ch[port >= 0x40 && port <= 0x42 ? port - 0x40 : 2];

    if (port == 0x61) {
        settle(ch, now);
        val =
            (uint8_t)((c->pit.speaker & 0x0f) | (now / REFRESH_NS & 1) << 4 | output(ch, now) << 5);
    } else if (port >= 0x40 && port <= 0x42) {
        settle(ch, now);
        val = read_count(ch, now);
    }
    pthread_mutex_unlock(&c->lock);
    return val;
}

void pit_write(struct irqchip *c, uint16_t port, uint8_t val)
{
    struct pit *p = &c->pit;

    pthread_mutex_lock(&c->lock);
    uint64_t was = p->next_ns, now = now_ns();

    for (int i = 0; i < 3; i++)
        settle(&p->ch[i], now);
    if (port == 0x61) {
        p->speaker = val & 0x0f;
        set_gate(&p->ch[2], val & 1, now);
    } else if (port == 0x43) {
        control(c, val, now);
    } else if (port >= 0x40 && port <= 0x42) {
        write_count(&p->ch[port - 0x40], val, now);
    }
    /* An edge that is due but not raised yet stays due, unless what made it is gone. */
    if (!p->ch[0].loaded)
        p->next_ns = 0;
    else if (!was || now < was || p->ch[0].start_ns == now)
        p->next_ns = next_edge(&p->ch[0], now);
    bool changed = p->next_ns != was;

    pthread_mutex_unlock(&c->lock);
    if (changed && pit_changed)
        pit_changed(c->vm);
}

uint64_t pit_poll(struct irqchip *c, uint64_t now)
{
    pthread_mutex_lock(&c->lock);
    if (c->pit.next_ns && now >= c->pit.next_ns) {
        irqchip_line(c, 0, true);
        irqchip_line(c, 0, false);
        settle(&c->pit.ch[0], now);
        uint64_t period = mul_div(initial(&c->pit.ch[0]), NS_PER_S, PIT_HZ);

        c->pit.next_ns = next_edge(&c->pit.ch[0], period < MIN_EDGE_NS ? now + MIN_EDGE_NS : now);
    }
    uint64_t next = c->pit.next_ns;

    pthread_mutex_unlock(&c->lock);
    return next;
}
