/* The entropy, console and balloon devices, each behind a ring that the test drives. */
#include "tests/virtio_fix.h"

#include <sys/mman.h>
#include "virtio/console.h"

static char err[256];

static struct fix *make(int (*create)(const char *, struct virtio_dev **, char *, size_t),
                        const char *arg, uint64_t ram)
{
    struct virtio_dev *dev = NULL;

    cr_assert_eq(create(arg, &dev, err, sizeof err), 0, "%s", err);
    struct fix *f = fix_new(dev, ram, false);

    f->size = 16;
    return f;
}

/* One buffer as a chain of its own, notified. */
static void give(struct fix *f, unsigned q, uint16_t d, uint64_t addr, uint32_t len, uint16_t flags)
{
    put_desc(f, RING_DESC + q * RING_STRIDE, d, addr, len, flags, 0);
    offer(f, q, d);
    notify(f, q);
}

static uint32_t used_len(struct fix *f, unsigned q)
{
    uint32_t head, len = 0;
    bool got = false;

    for (unsigned i = 0; i < 60 && !got; i++)
        got = take_used(f, q, &head, &len);
    cr_assert(got, "queue %u gives nothing back", q);
    return len;
}

/* What was notified before has been looked at: a configuration write is answered by the I/O thread
 * before it looks at the queues, and the second one in the pass after that. */
static void settle(struct fix *f)
{
    for (unsigned i = 0; i < 2; i++)
        virtio_mmio_write(&f->bus, virtio_slot_base(0) + 0x100, 4, 0);
}

static bool only(const uint8_t *p, size_t len, uint8_t byte)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != byte)
            return false;
    return true;
}

static uint64_t counter(struct fix *f, const char *name)
{
    for (const struct virtio_counter *c = f->dev->counters; c->name; c++)
        if (!strcmp(c->name, name))
            return c->value;
    cr_assert(false, "no counter %s", name);
    return 0;
}

/* --- rng --- */

Test(rng, fills_what_it_is_given)
{
    struct fix *f = make(rng_create, NULL, 8 * MIB);
    uint8_t *b = f->ram.base + BUFFERS;

    go(f, 0);
    put_desc(f, RING_DESC, 0, BUFFERS, 100, D_WRITE | D_NEXT, 1);
    put_desc(f, RING_DESC, 1, BUFFERS + 4096, 200, D_WRITE, 0);
    offer(f, 0, 0);
    notify(f, 0);
    cr_assert_eq(used_len(f, 0), 300);
    cr_assert_not(only(b, 100, 0));
    cr_assert_not(only(b + 4096, 200, 0));
    cr_assert(only(b + 100, 3996, 0));
    cr_assert(only(b + 4296, 3896, 0));
    fix_free(f);
}

Test(rng, bounds_a_request)
{
    struct fix *f = make(rng_create, NULL, 8 * MIB);
    uint8_t *b = f->ram.base + BUFFERS;

    go(f, 0);
    give(f, 0, 0, BUFFERS, 1u << 20, D_WRITE);
    cr_assert_eq(used_len(f, 0), 65536);
    cr_assert_not(only(b + 65536 - 64, 64, 0));
    cr_assert(only(b + 65536, (1u << 20) - 65536, 0));
    /* More than a pass's worth comes all the same. */
    for (uint16_t i = 0; i < 16; i++) {
        put_desc(f, RING_DESC, i, BUFFERS, 1u << 20, D_WRITE, 0);
        offer(f, 0, i);
    }
    notify(f, 0);
    for (unsigned i = 0; i < 16; i++)
        cr_assert_eq(used_len(f, 0), 65536);
    fix_free(f);
}

Test(rng, nothing_to_write_to)
{
    struct fix *f = make(rng_create, NULL, 8 * MIB);

    go(f, 0);
    memset(f->ram.base + BUFFERS, 0x5a, 64);
    give(f, 0, 0, BUFFERS, 64, 0);
    cr_assert_eq(used_len(f, 0), 0);
    cr_assert(only(f->ram.base + BUFFERS, 64, 0x5a));
    fix_free(f);
}

Test(rng, takes_no_value)
{
    struct virtio_dev *dev;

    cr_assert_eq(rng_create("x", &dev, err, sizeof err), -EINVAL);
}

/* --- console --- */

static struct host {
    char out[4u << 20];
    _Atomic size_t nout, room, most;
    const char *in;
    _Atomic size_t nin;
    atomic_int reads;
    uint16_t cols, rows;
} host;

static size_t host_write(void *opaque, const void *buf, size_t len)
{
    struct host *h = opaque;

    if (len > h->most)
        h->most = len;
    len = len < h->room ? len : h->room;
    memcpy(h->out + h->nout, buf, len);
    h->room -= len;
    h->nout += len;
    return len;
}
static size_t host_read(void *opaque, void *buf, size_t len)
{
    struct host *h = opaque;

    len = len < h->nin ? len : h->nin;
    memcpy(buf, h->in, len);
    h->in += len;
    h->nin -= len;
    return len;
}
static void host_reads(void *opaque, bool on)
{
    ((struct host *)opaque)->reads += on ? 1 : -1;
}
static void host_size(void *opaque, uint16_t *cols, uint16_t *rows)
{
    *cols = ((struct host *)opaque)->cols;
    *rows = ((struct host *)opaque)->rows;
}

static struct fix *make_console(void)
{
    struct fix *f = make(console_create, "virtio", 8 * MIB);

    host.room = sizeof host.out;
    host.cols = 80, host.rows = 25;
    vconsole_connect(f->dev,
                     &(struct vconsole_host){&host, host_write, host_read, host_reads, host_size});
    return f;
}

static void say(struct fix *f, uint16_t d, const char *s)
{
    memcpy(f->ram.base + BUFFERS + d * 4096, s, strlen(s));
    give(f, 1, d, BUFFERS + d * 4096, (uint32_t)strlen(s), 0);
}

Test(console, writes_in_order)
{
    struct fix *f = make_console();

    go(f, 0);
    memcpy(f->ram.base + BUFFERS, "Hello, ", 7);
    memcpy(f->ram.base + BUFFERS + 8192, "world", 5);
    put_desc(f, RING_DESC + RING_STRIDE, 0, BUFFERS, 7, D_NEXT, 1);
    put_desc(f, RING_DESC + RING_STRIDE, 1, BUFFERS + 8192, 5, 0, 0);
    offer(f, 1, 0);
    say(f, 3, "!\n");
    cr_assert_eq(used_len(f, 1), 0);
    cr_assert_eq(used_len(f, 1), 0);
    cr_assert_eq(host.nout, 14);
    cr_assert_eq(memcmp(host.out, "Hello, world!\n", 14), 0);
    fix_free(f);
}

Test(console, waits_for_room)
{
    struct fix *f = make_console();

    go(f, 0);
    host.room = 4;
    say(f, 0, "0123456789");
    settle(f);
    cr_assert_eq(host.nout, 4);
    cr_assert_eq(used_idx(f, 1), 0, "a chain came back before it was written");
    host.room = 100;
    say(f, 1, "ab"); /* its notification makes the device look */
    used_len(f, 1);
    used_len(f, 1);
    cr_assert_eq(host.nout, 12);
    cr_assert_eq(memcmp(host.out, "0123456789ab", 12), 0);
    fix_free(f);
}

Test(console, reset_forgets_what_waits)
{
    struct fix *f = make_console();

    go(f, 0);
    host.room = 2;
    say(f, 0, "old line");
    settle(f);
    cr_assert_eq(host.nout, 2);
    go(f, 0);
    host.room = 100;
    say(f, 0, "new");
    used_len(f, 1);
    cr_assert_eq(host.nout, 5);
    cr_assert_eq(memcmp(host.out, "olnew", 5), 0);
    fix_free(f);
}

Test(console, a_long_chain_goes_in_pieces)
{
    struct fix *f = make_console();

    go(f, 0);
    for (unsigned i = 0; i < 3u << 20; i++)
        f->ram.base[BUFFERS + i] = (uint8_t)(i * 7 + (i >> 12));
    give(f, 1, 0, BUFFERS, 3u << 20, 0);
    used_len(f, 1);
    cr_assert_eq(host.nout, 3u << 20);
    cr_assert_eq(memcmp(host.out, f->ram.base + BUFFERS, 3u << 20), 0);
    cr_assert_leq(host.most, 256u << 10);
    fix_free(f);
}

Test(console, reads_into_buffers)
{
    struct fix *f = make_console();

    go(f, 0);
    cr_assert_eq(host.reads, 0);
    give(f, 0, 0, BUFFERS, 4, D_WRITE);
    give(f, 0, 1, BUFFERS + 4096, 100, D_WRITE);
    settle(f);
    cr_assert_eq(host.reads, 1);
    cr_assert_eq(used_idx(f, 0), 0);
    host.in = "abcdefg";
    host.nin = 7;
    notify(f, 0);
    cr_assert_eq(used_len(f, 0), 4);
    cr_assert_eq(used_len(f, 0), 3);
    cr_assert_eq(memcmp(f->ram.base + BUFFERS, "abcd\0", 5), 0);
    cr_assert_eq(memcmp(f->ram.base + BUFFERS + 4096, "efg\0", 4), 0);
    /* What comes without a buffer waits for one. */
    host.in = "xy";
    host.nin = 2;
    notify(f, 0);
    settle(f);
    cr_assert_eq(host.nin, 2);
    give(f, 0, 2, BUFFERS, 100, D_WRITE);
    cr_assert_eq(used_len(f, 0), 2);
    set_reg(f, R_STATUS, 0);
    cr_assert_eq(host.reads, 0);
    fix_free(f);
}

Test(console, useless_receive_buffers_come_back_empty)
{
    struct fix *f = make_console();

    go(f, 0);
    host.in = "z";
    host.nin = 1;
    give(f, 0, 0, BUFFERS, 64, 0);
    cr_assert_eq(used_len(f, 0), 0);
    give(f, 0, 1, BUFFERS, 64, D_WRITE);
    cr_assert_eq(used_len(f, 0), 1);
    fix_free(f);
}

Test(console, emergency_write)
{
    struct fix *f = make_console();

    cr_assert_eq(negotiate(f, 4), 11);
    virtio_mmio_write(&f->bus, virtio_slot_base(0) + 0x108, 4, 'E');
    cr_assert_eq(host.nout, 1);
    cr_assert_eq(host.out[0], 'E');
    fix_free(f);
}

Test(console, size_and_its_change)
{
    struct fix *f = make_console();

    go(f, 1);
    cr_assert_eq(reg(f, 0x100), 25u << 16 | 80);
    cr_assert_eq(reg(f, R_ISR), 2, "the first size is a change too");
    set_reg(f, 0x64, 2);
    uint32_t generation = reg(f, 0xfc);

    vconsole_resized(f->dev); /* to what it is */
    cr_assert_eq(reg(f, 0xfc), generation);
    cr_assert_eq(reg(f, R_ISR), 0);
    host.cols = 132, host.rows = 50;
    vconsole_resized(f->dev);
    cr_assert_eq(reg(f, 0x100), 50u << 16 | 132);
    cr_assert_neq(reg(f, 0xfc), generation);
    cr_assert_eq(reg(f, R_ISR), 2);
    fix_free(f);
}

Test(console, refuses_other_kinds)
{
    struct virtio_dev *dev;

    cr_assert_eq(console_create("vga", &dev, err, sizeof err), -EINVAL);
}

/* --- balloon --- */

#define BAL_STATS     2u
#define BAL_REPORTING 32u
#define BAL_POISON    16u

static void put32(struct fix *f, uint64_t at, uint32_t v)
{
    memcpy(f->ram.base + at, &v, 4);
}

static bool resident(struct fix *f, uint64_t gpa)
{
    unsigned char vec = 0;

    cr_assert_eq(mincore(f->ram.base + gpa, 4096, &vec), 0);
    return vec & 1;
}

static uint64_t told[16];
static unsigned ntold;

static void on_code_written(void *opaque, gpa_t gpa, uint64_t len)
{
    (void)opaque, (void)len;
    if (ntold < 16)
        told[ntold++] = gpa;
}

Test(balloon, inflate_gives_pages_back)
{
    struct fix *f = make(balloon_create, NULL, 8 * MIB);
    static const uint32_t pfn[] = {0x400, 0x401, 0x402, 0x501, 0x500, 0x600};

    go(f, BAL_STATS);
    memset(f->ram.base + 4 * MIB, 0x77, 4 * MIB);
    f->ram.code_written = on_code_written;
    f->ram.attr[0x500] = RAM_ATTR_CODE;
    for (unsigned i = 0; i < 6; i++)
        put32(f, BUFFERS + 4 * i, pfn[i]);
    put32(f, BUFFERS + 24, 0xffffff); /* a byte or three of one more are none */
    give(f, 0, 0, BUFFERS, 27, 0);
    cr_assert_eq(used_len(f, 0), 0);
    for (unsigned i = 0; i < 6; i++) {
        cr_assert_not(resident(f, (uint64_t)pfn[i] << 12));
        cr_assert(only(f->ram.base + ((uint64_t)pfn[i] << 12), 4096, 0));
    }
    cr_assert(only(f->ram.base + 0x403000, 4096, 0x77));
    cr_assert(only(f->ram.base + 0x4ff000, 4096, 0x77));
    cr_assert(only(f->ram.base + 0x502000, 4096, 0x77));
    cr_assert_eq(ntold, 1, "the code traces were told %u times", ntold);
    cr_assert_eq(told[0], 0x500000);
    cr_assert_eq(counter(f, "inflated_pages"), 6);
    cr_assert_eq(counter(f, "ignored_pages"), 0);
    give(f, 1, 0, BUFFERS, 24, 0);
    cr_assert_eq(used_len(f, 1), 0);
    cr_assert_eq(counter(f, "deflated_pages"), 6);
    fix_free(f);
}

Test(balloon, pages_outside_ram_are_ignored)
{
    struct fix *f = make(balloon_create, NULL, 3584 * MIB);
    /* the hole's two edges, in it, RAM's end, far out */
    static const uint32_t pfn[] = {0xbffff,  0xc0000,  0xd0000,  0xfffff,
                                   0x100000, 0x11ffff, 0x120000, 0xffffffff};

    go(f, BAL_STATS);
    f->ram.base[0xbffffabcull] = f->ram.base[0x100000abcull] = f->ram.base[0x11ffffabcull] = 1;
    for (unsigned i = 0; i < 8; i++)
        put32(f, BUFFERS + 4 * i, pfn[i]);
    give(f, 0, 0, BUFFERS, 32, 0);
    used_len(f, 0);
    cr_assert_eq(counter(f, "inflated_pages"), 3);
    cr_assert_eq(counter(f, "ignored_pages"), 5);
    cr_assert_eq(f->ram.base[0xbffffabcull], 0);
    cr_assert_eq(f->ram.base[0x100000abcull], 0);
    cr_assert_eq(f->ram.base[0x11ffffabcull], 0);
    cr_assert_eq(reg(f, R_STATUS), ST_OK);
    fix_free(f);
}

Test(balloon, a_long_list_is_done_in_passes)
{
    struct fix *f = make(balloon_create, NULL, 64 * MIB);
    unsigned n = 300000;

    go(f, BAL_STATS);
    /* every other page, over and over: no runs */
    for (unsigned i = 0; i < n; i++)
        put32(f, 16 * MIB + 4 * i, 0x2000 + 2 * (i % 1024));
    memset(f->ram.base + 32 * MIB, 0x77, 8 * MIB);
    give(f, 0, 0, 16 * MIB, 4 * n, 0);
    used_len(f, 0);
    cr_assert_eq(counter(f, "inflated_pages"), n);
    for (unsigned i = 0; i < 1024; i++)
        cr_assert(only(f->ram.base + 32 * MIB + 8192 * i, 8192, 0) ==
                  false); /* the odd pages stay */
    cr_assert(only(f->ram.base + 32 * MIB, 4096, 0));
    fix_free(f);
}

/* Report a range on queue q; is it gone? */
static bool reported(struct fix *f, unsigned q)
{
    memset(f->ram.base + 4 * MIB, 0x77, 2 * MIB);
    give(f, q, 0, 4 * MIB, 1u << 20, D_WRITE);
    used_len(f, q);
    return !resident(f, 4 * MIB) && !resident(f, 5 * MIB - 4096) && resident(f, 5 * MIB);
}

Test(balloon, reported_pages_go_back)
{
    struct fix *f = make(balloon_create, NULL, 8 * MIB);

    /* As Linux and QEMU number the queues, and as the standard does. */
    go(f, BAL_STATS | BAL_REPORTING);
    cr_assert(reported(f, 3));
    cr_assert(reported(f, 4));
    go(f, BAL_REPORTING);
    cr_assert(reported(f, 2));
    cr_assert(reported(f, 4));
    cr_assert_eq(counter(f, "reported_pages"), 4 * 256);
    /* Without the feature, and where the guest wants its pattern kept. */
    go(f, BAL_STATS);
    cr_assert_not(reported(f, 3));
    go(f, BAL_STATS | BAL_REPORTING | BAL_POISON);
    cr_assert(reported(f, 3));
    virtio_mmio_write(&f->bus, virtio_slot_base(0) + 0x10c, 4, 0xaaaaaaaa);
    cr_assert_eq(reg(f, 0x10c), 0xaaaaaaaa);
    cr_assert_not(reported(f, 3));
    fix_free(f);
}

Test(balloon, only_whole_pages_are_reported)
{
    struct fix *f = make(balloon_create, NULL, 8 * MIB);

    go(f, BAL_STATS | BAL_REPORTING);
    memset(f->ram.base + 4 * MIB, 0x77, MIB);
    give(f, 3, 0, 4 * MIB + 100, 3 * 4096, D_WRITE);
    used_len(f, 3);
    cr_assert(only(f->ram.base + 4 * MIB, 4096, 0x77));
    cr_assert(only(f->ram.base + 4 * MIB + 4096, 8192, 0));
    cr_assert(only(f->ram.base + 4 * MIB + 3 * 4096, 4096, 0x77));
    give(f, 3, 1, 4 * MIB + 0x10010, 200, D_WRITE); /* not one whole page */
    give(f, 3, 2, 4 * MIB + 0x20010, 5000, D_WRITE);
    used_len(f, 3);
    used_len(f, 3);
    cr_assert(only(f->ram.base + 4 * MIB + 0x10000, 0x20000, 0x77));
    cr_assert_eq(counter(f, "reported_pages"), 2);
    fix_free(f);
}

Test(balloon, a_large_report_is_done_in_passes)
{
    struct fix *f = make(balloon_create, NULL, 512 * MIB);

    go(f, BAL_STATS | BAL_REPORTING);
    for (uint64_t at = 8 * MIB; at < 512 * MIB; at += MIB)
        f->ram.base[at + 12345] = 1;
    /* 500 MiB in two pieces, the first of which ends within a page */
    put_desc(f, RING_DESC + 3 * RING_STRIDE, 0, 8 * MIB + 1, 300 * MIB, D_WRITE | D_NEXT, 1);
    put_desc(f, RING_DESC + 3 * RING_STRIDE, 1, 309 * MIB, 203 * MIB, D_WRITE, 0);
    offer(f, 3, 0);
    notify(f, 3);
    used_len(f, 3);
    for (uint64_t at = 9 * MIB; at < 512 * MIB; at += MIB)
        cr_assert_eq(f->ram.base[at + 12345], at == 308 * MIB, "at %lu MiB", at / MIB);
    cr_assert_eq(counter(f, "reported_pages"), (300 + 203) * 256 - 1);
    fix_free(f);
}

Test(balloon, statistics_are_asked_for)
{
    struct fix *f = make(balloon_create, "2M,stats=1", 8 * MIB);
    struct {
        uint16_t tag;
        uint64_t val;
    } __attribute__((packed)) s[] = {{4, 111}, {5, 222}, {99, 333}, {6, 444}};
    uint32_t head, len;
    bool back = false;

    go(f, BAL_STATS);
    cr_assert_eq(reg(f, 0x100), 512);
    memcpy(f->ram.base + BUFFERS, s, sizeof s);
    give(f, 2, 5, BUFFERS, sizeof s, 0);
    settle(f);
    cr_assert_eq(counter(f, "guest_free_bytes"), 111);
    cr_assert_eq(counter(f, "guest_total_bytes"), 222);
    cr_assert_eq(counter(f, "guest_available_bytes"), 444);
    for (unsigned i = 0; i < 20 && !back; i++)
        back = take_used(f, 2, &head, &len);
    cr_assert(back, "the statistics buffer does not come back");
    cr_assert_eq(head, 5);
    fix_free(f);
}

Test(balloon, the_drivers_fields)
{
    struct fix *f = make(balloon_create, "1G", 1024 * MIB);

    go(f, BAL_STATS);
    cr_assert_eq(reg(f, 0x100), 1u << 18);
    for (uint32_t off = 0; off < 16; off += 4)
        virtio_mmio_write(&f->bus, virtio_slot_base(0) + 0x100 + off, 4, 0x1234);
    virtio_mmio_write(&f->bus, virtio_slot_base(0) + 0x105, 1, 0x99);
    cr_assert_eq(reg(f, 0x100), 1u << 18);
    cr_assert_eq(reg(f, 0x104), 0x1234);
    cr_assert_eq(reg(f, 0x108), 0);
    cr_assert_eq(reg(f, 0x10c), 0x1234);
    cr_assert_eq(counter(f, "actual_pages"), 0x1234);
    set_reg(f, R_STATUS, 0);
    cr_assert_eq(reg(f, 0x104), 0);
    fix_free(f);
}

Test(balloon, its_options)
{
    static const char *const bad[] = {"",   "x",       "1X",    "1M,",         "stats=0", "stats=",
                                      "-1", "64M,foo", "stats", "99999999999", "20T",     "1M 2M"};
    struct virtio_dev *dev;
    struct ram ram;

    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_eq(balloon_create(bad[i], &dev, err, sizeof err), -EINVAL, "'%s'", bad[i]);
    cr_assert_eq(balloon_create("16M", &dev, err, sizeof err), 0);
    cr_assert_eq(ram_create(&ram, 8 * MIB), 0);
    dev->ram = &ram;
    cr_assert_eq(dev->ops->attach(dev), -ERANGE, "a balloon larger than the guest");
    ram_destroy(&ram);
}

/* --- hostile rings --- */

static uint64_t seed = 0x9e3779b97f4a7c15;

static uint64_t rnd(uint64_t below)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (seed >> 11) % below;
}

static uint64_t some_address(void)
{
    switch (rnd(8)) {
    case 0:
        return 8 * MIB - rnd(8192); /* across RAM's end */
    case 1:
        return rnd(UINT64_MAX);
    case 2:
        return UINT64_MAX - rnd(4096);
    case 3:
        return 0xc0000000u - 2048 + rnd(4096);
    case 4:
        return INDIRECT;
    default:
        return BUFFERS + rnd(4 * MIB);
    }
}

static uint32_t some_length(void)
{
    switch (rnd(6)) {
    case 0:
        return 0;
    case 1:
        return (uint32_t)rnd(UINT32_MAX);
    case 2:
        return 16 * (uint32_t)rnd(40);
    default:
        return (uint32_t)rnd(20000);
    }
}

/* Rounds of nonsense; after each the device must still answer a reset and then serve a request. */
static void torment(struct fix *f, uint64_t features, unsigned rounds, void (*check)(struct fix *))
{
    unsigned broken = 0;

    for (unsigned r = 0; r < rounds; r++) {
        f->size = 16;
        go(f, features);
        for (unsigned k = rnd(4) + 1; k; k--) {
            unsigned q = (unsigned)rnd(f->dev->nqueues);
            uint64_t table = RING_DESC + q * RING_STRIDE;
            bool sane = rnd(3); /* mostly well-formed: it has to get past the ring's own checks */

            for (unsigned i = 0; i < 16; i++) {
                put_desc(
                    f, table, i, sane ? BUFFERS + rnd(2 * MIB) : some_address(),
                    sane ? (uint32_t)rnd(300000) : some_length(),
                    (uint16_t)(sane ? rnd(2) * D_WRITE + rnd(2) * (i < 15 ? D_NEXT : 0) : rnd(8)),
                    (uint16_t)(sane ? i + 1 : rnd(24)));
                put_desc(f, INDIRECT, i, some_address(), some_length(), (uint16_t)rnd(8),
                         (uint16_t)rnd(24));
            }
            for (unsigned i = 0; i < 64; i++)
                put32(f, BUFFERS + 4 * i, (uint32_t)rnd(4096) + 0x500);
            for (unsigned n = rnd(16); n; n--)
                offer(f, q, (uint16_t)rnd(sane ? 16 : 20));
            if (!rnd(8))
                __atomic_store_n(avail16(f, q, 2), (uint16_t)rnd(65536), __ATOMIC_SEQ_CST);
            notify(f, q);
            if (f->dev->config_len && !rnd(4))
                virtio_mmio_write(&f->bus, virtio_slot_base(0) + 0x100 + rnd(20), 1u << rnd(4),
                                  rnd(UINT64_MAX));
        }
        if (rnd(2))
            usleep((unsigned)rnd(500));
        broken += !!(reg(f, R_STATUS) & ST_NEEDS_RESET);
    }
    cr_assert_gt(broken, 0);
    cr_assert_lt(broken, rounds);
    memset(f->ram.base + BUFFERS, 0, MIB);
    go(f, features);
    check(f);
    fix_free(f);
}

static void rng_works(struct fix *f)
{
    give(f, 0, 0, BUFFERS, 64, D_WRITE);
    cr_assert_eq(used_len(f, 0), 64);
}

static size_t sink(void *opaque, const void *buf, size_t len)
{
    (void)opaque;
    /* Reads all of it, and takes some. */
    return only(buf, len, 0xee) ? len : len / 3 + 1;
}

static void console_works(struct fix *f)
{
    host.in = "a";
    host.nin = 1;
    give(f, 0, 0, BUFFERS, 64, D_WRITE);
    cr_assert_eq(used_len(f, 0), 1);
    give(f, 1, 0, BUFFERS, 1, 0);
    used_len(f, 1);
}

static void balloon_works(struct fix *f)
{
    put32(f, BUFFERS, 0x400);
    give(f, 0, 0, BUFFERS, 4, 0);
    used_len(f, 0);
}

Test(hostile, rng)
{
    torment(make(rng_create, NULL, 8 * MIB), 0, 1500, rng_works);
}

Test(hostile, console)
{
    struct fix *f = make_console();
    static char endless[1 << 20];

    vconsole_connect(f->dev,
                     &(struct vconsole_host){&host, sink, host_read, host_reads, host_size});
    host.in = endless;
    host.nin = sizeof endless;
    torment(f, 1 | 4, 1500, console_works);
}

Test(hostile, balloon)
{
    torment(make(balloon_create, "1M,stats=1", 8 * MIB), BAL_STATS | BAL_REPORTING, 1500,
            balloon_works);
}

Test(hostile, balloon_event_idx)
{
    torment(make(balloon_create, NULL, 8 * MIB),
            BAL_STATS | BAL_REPORTING | BAL_POISON | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC,
            1500, balloon_works);
}
