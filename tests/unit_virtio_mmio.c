/* The transport as a driver sees it, with a device that copies what it reads to where it writes. */
#include "tests/virtio_fix.h"

#include <sched.h>

/* Queue 0 answers at once. Queue 1 keeps its chain until the test says so (a held operation). */
static struct echo {
    struct virtio_dev dev;
    uint8_t config[10];
    uint64_t space;
    struct virtq_chain kept;
    struct iovec kept_iov[8];
    bool keeping;
    atomic_bool let_go;
    struct io_timer timer;
    unsigned starts, resets, writes;
    uint32_t last_off, last_size, last_val;
} echo;

static void poll_kept(struct io_timer *t)
{
    (void)t;
    if (!echo.keeping)
        return;
    if (!atomic_load(&echo.let_go)) {
        io_timer_set(echo.dev.io, &echo.timer, io_now() + 1000000);
        return;
    }
    echo.keeping = false;
    /* After a reset this must find a dead queue and do nothing. */
    virtq_push(&echo.dev.vq[1], &echo.kept, 0);
    virtio_release(&echo.dev);
}

static void echo_notify(struct virtio_dev *dev, unsigned q)
{
    struct iovec iov[16];
    struct virtq_chain c = {.iov = iov, .cap = 16};
    uint8_t buf[8192];

    if (q == 1) {
        echo.kept = (struct virtq_chain){.iov = echo.kept_iov, .cap = 8};
        if (!echo.keeping && virtq_pop(&dev->vq[1], &echo.kept) > 0) {
            echo.keeping = true;
            virtio_hold(dev);
            echo.timer.fire = poll_kept;
            io_timer_set(dev->io, &echo.timer, io_now() + 1000000);
        }
        return;
    }
    while (virtq_pop(&dev->vq[q], &c) > 0) {
        size_t n = virtq_gather(buf, sizeof buf, c.iov, c.nout, 0);

        n = virtq_scatter(c.iov + c.nout, c.nin, 0, buf, n);
        virtq_push(&dev->vq[q], &c, (uint32_t)n);
    }
}
static void echo_start(struct virtio_dev *dev)
{
    (void)dev;
    echo.starts++;
}
static void echo_reset(struct virtio_dev *dev)
{
    (void)dev;
    echo.resets++;
}
static void echo_write(struct virtio_dev *dev, uint32_t off, unsigned size, uint32_t val)
{
    (void)dev;
    echo.writes++;
    echo.last_off = off, echo.last_size = size, echo.last_val = val;
}
static const struct virtio_ops echo_ops = {
    .name = "echo",
    .id = 42,
    .start = echo_start,
    .notify = echo_notify,
    .reset = echo_reset,
    .config_write = echo_write,
};

static struct fix *f;

static void setup(void)
{
    memset(&echo, 0, sizeof echo);
    echo.dev.ops = &echo_ops;
    echo.dev.features = 1ull << 7;
    echo.dev.nqueues = 2;
    echo.dev.vq[0].size_max = 128;
    echo.dev.config = echo.config;
    echo.dev.config_len = sizeof echo.config;
    for (unsigned i = 0; i < sizeof echo.config; i++)
        echo.config[i] = (uint8_t)(0x10 + i);
    f = fix_new(&echo.dev, 4 * MIB, true);
}

static void teardown(void)
{
    fix_free(f);
}

TestSuite(virtio_mmio, .init = setup, .fini = teardown, .timeout = 60);

/* One request of out bytes of val and in bytes of room in queue q, chain at descriptor i. */
static void request(unsigned q, uint16_t i, uint8_t val, uint32_t out, uint32_t in)
{
    uint64_t t = RING_DESC + q * RING_STRIDE, a = BUFFERS + i * 0x2000u;

    memset(f->ram.base + a, val, out);
    memset(f->ram.base + a + 0x1000, 0, in);
    put_desc(f, t, i, a, out, D_NEXT, (uint16_t)(i + 1));
    put_desc(f, t, i + 1u, a + 0x1000, in, D_WRITE, 0);
    offer(f, q, i);
}

Test(virtio_mmio, identity)
{
    cr_assert_eq(reg(f, 0), 0x74726976);
    cr_assert_eq(reg(f, 4), 2);
    cr_assert_eq(reg(f, 8), 42);
    set_reg(f, 0x14, 0);
    cr_assert_eq(reg(f, 0x10), 1u << 28 | 1u << 29 | 1u << 7);
    set_reg(f, 0x14, 1);
    cr_assert_eq(reg(f, 0x10), 1);
    set_reg(f, 0x14, 2);
    cr_assert_eq(reg(f, 0x10), 0);
    set_reg(f, 0x30, 0);
    cr_assert_eq(reg(f, 0x34), 128);
    set_reg(f, 0x30, 1);
    cr_assert_eq(reg(f, 0x34), 256);
    set_reg(f, 0x30, 2);
    cr_assert_eq(reg(f, 0x34), 0, "a queue that is not there");
    cr_assert_eq(reg(f, 0xb0), ~0u, "no shared memory");
}

Test(virtio_mmio, only_whole_registers)
{
    uint64_t v = 1;
    gpa_t base = virtio_slot_base(0);

    cr_assert(virtio_mmio_read(&f->bus, base, 1, &v) && v == 0);
    v = 1;
    cr_assert(virtio_mmio_read(&f->bus, base + 2, 4, &v) && v == 0);
    cr_assert(virtio_mmio_write(&f->bus, base + R_STATUS, 1, 1));
    cr_assert_eq(reg(f, R_STATUS), 0);
    cr_assert(!virtio_mmio_read(&f->bus, base + 0x1000, 4, &v), "the next slot is empty");
    cr_assert(!virtio_mmio_read(&f->bus, base - 4, 4, &v));
}

Test(virtio_mmio, features)
{
    cr_assert_eq(negotiate(f, 1ull << 7), 11);
    /* Later writes change nothing. */
    set_reg(f, 0x24, 0);
    set_reg(f, 0x20, 0);
    cr_assert_eq(echo.dev.driver_features, 1ull << 7 | VIRTIO_F_VERSION_1);
    cr_assert_eq(negotiate(f, 1ull << 7 | 1ull << 8), 11, "a bit that is not offered is dropped");
    cr_assert_eq(echo.dev.driver_features, 1ull << 7 | VIRTIO_F_VERSION_1);
    cr_assert_eq(negotiate(f, 1ull << 60 | 1ull << 8), 11);
    cr_assert_eq(echo.dev.driver_features, VIRTIO_F_VERSION_1);
    set_reg(f, R_STATUS, 0);
    set_reg(f, R_STATUS, 7);
    cr_assert_eq(reg(f, R_STATUS), 3, "DRIVER_OK without FEATURES_OK");
    cr_assert_eq(echo.starts, 0);
    set_reg(f, R_STATUS, 11);
    cr_assert_eq(reg(f, R_STATUS), 11, "VERSION_1 may be left out");
    cr_assert_eq(echo.dev.driver_features, 0);
}

Test(virtio_mmio, echo)
{
    uint32_t head, len;

    go(f, 0);
    cr_assert_eq(reg(f, R_STATUS), 15);
    cr_assert_eq(echo.starts, 1);
    request(0, 4, 0xab, 100, 200);
    notify(f, 0);
    cr_assert(take_used(f, 0, &head, &len));
    cr_assert(head == 4 && len == 100);
    cr_assert_eq(f->ram.base[BUFFERS + 4 * 0x2000 + 0x1000 + 99], 0xab);
    cr_assert_eq(f->ram.base[BUFFERS + 4 * 0x2000 + 0x1000 + 100], 0);
    usleep(1000);
    cr_assert_eq(interrupts(f), 1);
    cr_assert_eq(reg(f, R_ISR), 1);
    set_reg(f, 0x64, 1);
    cr_assert_eq(reg(f, R_ISR), 0);
}

Test(virtio_mmio, indirect)
{
    uint32_t head, len;

    go(f, VIRTIO_F_INDIRECT_DESC);
    memset(f->ram.base + BUFFERS, 0x77, 64);
    put_desc(f, INDIRECT + 8, 0, BUFFERS, 64, D_NEXT, 2);
    put_desc(f, INDIRECT + 8, 2, BUFFERS + 0x1000, 10, D_WRITE | D_NEXT, 1);
    put_desc(f, INDIRECT + 8, 1, BUFFERS + 0x2000, 100, D_WRITE, 0);
    put_desc(f, RING_DESC, 9, INDIRECT + 8, 48, D_INDIRECT, 0);
    offer(f, 0, 9);
    notify(f, 0);
    cr_assert(take_used(f, 0, &head, &len));
    cr_assert(head == 9 && len == 64);
    cr_assert_eq(f->ram.base[BUFFERS + 0x2000 + 53], 0x77);
    cr_assert_eq(f->ram.base[BUFFERS + 0x2000 + 54], 0);
}

Test(virtio_mmio, batch_is_one_interrupt)
{
    uint32_t head, len;

    go(f, VIRTIO_F_EVENT_IDX);
    for (uint16_t i = 0; i < 8; i++)
        request(0, (uint16_t)(2 * i), i, 16, 16);
    notify(f, 0);
    for (unsigned i = 0; i < 8; i++)
        cr_assert(take_used(f, 0, &head, &len) && head == 2 * i);
    usleep(2000);
    cr_assert_eq(interrupts(f), 1);
    /* used_event far ahead: no interrupt. */
    *avail16(f, 0, 4 + 2 * f->size) = 20;
    request(0, 0, 1, 16, 16);
    notify(f, 0);
    cr_assert(take_used(f, 0, &head, &len));
    usleep(2000);
    cr_assert_eq(interrupts(f), 0);
    /* ...and at it: one. */
    *avail16(f, 0, 4 + 2 * f->size) = 9;
    request(0, 0, 1, 16, 16);
    notify(f, 0);
    cr_assert(take_used(f, 0, &head, &len));
    usleep(2000);
    cr_assert_eq(interrupts(f), 1);
    /* Asleep: avail_event asks for the next one. */
    cr_assert_eq(*used16(f, 0, 4 + 8 * f->size), f->avail[0]);
}

static bool interrupted(void)
{
    for (unsigned i = 0; i < 10000; i++, usleep(100))
        if (interrupts(f))
            return true;
    return false;
}

/* A queue under moderation is looked at without notifications, and an interrupt that is not due for
 * seconds comes when nothing more is going on. */
Test(virtio_mmio, moderation)
{
    uint32_t head, len;

    go(f, VIRTIO_F_EVENT_IDX);
    echo.dev.vq[0].pace = 4000000000u;
    request(0, 0, 1, 16, 16);
    notify(f, 0);
    cr_assert(interrupted(), "the first goes out at once");
    cr_assert(take_used(f, 0, &head, &len));
    for (unsigned round = 0; round < 20; round++) {
        *avail16(f, 0, 4 + 2 * f->size) = f->seen_used[0];
        request(0, (uint16_t)(2 * round), 1, 16, 16);
        cr_assert(take_used(f, 0, &head, &len) && head == 2 * round, "round %u", round);
        cr_assert(interrupted(), "round %u", round);
    }
    cr_assert_eq(echo.dev.vq[0].count.notifications, 1);
    cr_assert_eq(echo.dev.count.interrupts, 21);
    /* Three quarters of the ring at once wait for nothing. */
    *avail16(f, 0, 4 + 2 * f->size) = f->seen_used[0];
    for (unsigned i = 0; i < f->size * 3 / 4; i++)
        request(0, (uint16_t)(i % 30 * 2), 1, 16, 16);
    for (unsigned i = 0; i < f->size * 3 / 4; i++)
        cr_assert(take_used(f, 0, &head, &len));
    cr_assert(interrupted());
}

Test(virtio_mmio, no_interrupt_flag)
{
    uint32_t head, len;

    go(f, 0);
    *avail16(f, 0, 0) = 1;
    request(0, 0, 1, 16, 16);
    notify(f, 0);
    cr_assert(take_used(f, 0, &head, &len));
    usleep(2000);
    cr_assert_eq(interrupts(f), 0);
    cr_assert_eq(*used16(f, 0, 0), 0, "asleep: notifications are wanted");
}

Test(virtio_mmio, used_index_wraps)
{
    uint32_t head, len;

    f->size = 4;
    go(f, VIRTIO_F_EVENT_IDX);
    for (unsigned i = 0; i < 70000; i++) {
        *avail16(f, 0, 4 + 2 * f->size) = f->seen_used[0];
        request(0, 0, (uint8_t)i, 4, 4);
        notify(f, 0);
        while (used_idx(f, 0) == f->seen_used[0])
            sched_yield();
        cr_assert(take_used(f, 0, &head, &len) && head == 0 && len == 4, "request %u", i);
    }
    cr_assert_eq(reg(f, R_STATUS), 15);
}

Test(virtio_mmio, rings_that_are_wrong)
{
    static const struct {
        uint64_t desc, avail, used;
        unsigned size;
    } wrong[] = {
        {RING_DESC + 8, RING_AVAIL, RING_USED, 64},
        {RING_DESC, RING_AVAIL + 1, RING_USED, 64},
        {RING_DESC, RING_AVAIL, RING_USED + 2, 64},
        {4 * MIB - 16, RING_AVAIL, RING_USED, 64},
        {RING_DESC, 4 * MIB - 4, RING_USED, 64},
        {RING_DESC, RING_AVAIL, 4 * MIB - 4, 64},
        {0xfffffffffffffff0, RING_AVAIL, RING_USED, 64},
        {RING_DESC, RING_AVAIL, 0xfffffffffffffffc, 64},
        {MMIO_HOLE_START - 16, RING_AVAIL, RING_USED, 64},
        {RING_DESC, RING_AVAIL, RING_USED, 0},
        {RING_DESC, RING_AVAIL, RING_USED, 63},
        {RING_DESC, RING_AVAIL, RING_USED, 256},
        {RING_DESC, RING_AVAIL, RING_USED, 65536},
    };

    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cr_assert_eq(negotiate(f, 0), 11);
        f->size = wrong[i].size;
        interrupts(f);
        set_queue(f, 0, wrong[i].desc, wrong[i].avail, wrong[i].used);
        set_reg(f, R_STATUS, ST_OK);
        cr_assert(reg(f, R_STATUS) & ST_NEEDS_RESET, "case %u", i);
        cr_assert_eq(interrupts(f), 1, "case %u", i);
        cr_assert_eq(reg(f, R_ISR), 2);
    }
    f->size = 64;
    cr_assert_eq(echo.dev.count.broken, sizeof wrong / sizeof wrong[0]);
    uint32_t head, len;

    go(f, 0);
    request(0, 0, 1, 8, 8);
    notify(f, 0);
    cr_assert(take_used(f, 0, &head, &len), "a reset mends it");
}

Test(virtio_mmio, a_live_ring_does_not_move)
{
    uint32_t head, len;

    go(f, 0);
    set_queue(f, 0, 0x40000, 0x50000, 0x60000);
    request(0, 0, 1, 8, 8);
    notify(f, 0);
    cr_assert(take_used(f, 0, &head, &len));
}

Test(virtio_mmio, queue_taken_back)
{
    uint32_t head, len;

    go(f, 0);
    set_reg(f, 0x30, 0);
    set_reg(f, 0x44, 0);
    cr_assert_eq(reg(f, 0x44), 0);
    request(0, 0, 1, 8, 8);
    notify(f, 0);
    usleep(3000);
    cr_assert_eq(used_idx(f, 0), 0);
    set_reg(f, 0x44, 1);
    cr_assert_eq(reg(f, 0x44), 0, "not again before a reset");
    go(f, 0);
    request(0, 0, 1, 8, 8);
    notify(f, 0);
    cr_assert(take_used(f, 0, &head, &len));
}

static atomic_bool reset_done;
static void *do_reset(void *arg)
{
    set_reg(arg, R_STATUS, 0);
    atomic_store(&reset_done, true);
    return NULL;
}

Test(virtio_mmio, reset_waits_for_what_is_in_flight)
{
    pthread_t t;

    go(f, 0);
    request(1, 0, 1, 8, 8);
    notify(f, 1);
    for (unsigned i = 0; i < 1000 && !echo.dev.held; i++)
        usleep(1000);
    cr_assert_eq(echo.dev.held, 1);
    cr_assert_eq(pthread_create(&t, NULL, do_reset, f), 0);
    usleep(20000);
    cr_assert(!atomic_load(&reset_done));
    cr_assert_eq(echo.resets, 1);
    atomic_store(&echo.let_go, true);
    pthread_join(t, NULL);
    cr_assert_eq(reg(f, R_STATUS), 0);
    cr_assert_eq(used_idx(f, 1), 0, "nothing is written into a ring after a reset");
    cr_assert_eq(echo.dev.held, 0);
}

Test(virtio_mmio, reset_before_start)
{
    set_reg(f, R_STATUS, 0);
    negotiate(f, 0);
    set_reg(f, R_STATUS, 0);
    cr_assert_eq(echo.resets, 0);
    cr_assert_eq(reg(f, R_STATUS), 0);
    set_reg(f, 0x30, 0);
    cr_assert_eq(reg(f, 0x44), 0);
}

Test(virtio_mmio, configuration)
{
    gpa_t c = virtio_slot_base(0) + 0x100;
    uint64_t v;

    cr_assert(virtio_mmio_read(&f->bus, c + 1, 1, &v) && v == 0x11);
    cr_assert(virtio_mmio_read(&f->bus, c + 2, 2, &v) && v == 0x1312);
    cr_assert(virtio_mmio_read(&f->bus, c, 8, &v) && v == 0x1716151413121110);
    cr_assert(virtio_mmio_read(&f->bus, c + 8, 8, &v) && v == 0x1918, "to its end, then zeroes");
    cr_assert(virtio_mmio_read(&f->bus, c + 10, 4, &v) && v == 0);
    cr_assert(virtio_mmio_read(&f->bus, c + 0xefc, 4, &v) && v == 0);
    cr_assert(virtio_mmio_write(&f->bus, c + 2, 2, 0xbeef));
    cr_assert(echo.writes == 1 && echo.last_off == 2 && echo.last_size == 2 &&
              echo.last_val == 0xbeef);
    cr_assert(virtio_mmio_write(&f->bus, c + 8, 4, 1));
    cr_assert(virtio_mmio_write(&f->bus, c + 10, 1, 1));
    cr_assert(virtio_mmio_write(&f->bus, c, 8, 1));
    cr_assert_eq(echo.writes, 1, "past the end, or too wide");
}

Test(virtio_mmio, configuration_change)
{
    uint32_t generation = reg(f, 0xfc);
    uint8_t v = 0x99;

    virtio_config_set(&echo.dev, 0, &v, 1);
    cr_assert_neq(reg(f, 0xfc), generation);
    cr_assert_eq(interrupts(f), 0, "nobody drives it yet");
    go(f, 0);
    interrupts(f);
    virtio_config_set(&echo.dev, 9, &v, 1);
    cr_assert_eq(interrupts(f), 1);
    cr_assert_eq(reg(f, R_ISR), 2);
    generation = reg(f, 0xfc);
    virtio_config_set(&echo.dev, 10, &v, 1);
    virtio_config_set(&echo.dev, ~0u, &v, 1);
    cr_assert_eq(reg(f, 0xfc), generation, "outside");
}

Test(virtio_mmio, notifications_to_nowhere)
{
    notify(f, 0);
    notify(f, 2);
    notify(f, 0xffff);
    go(f, 0);
    notify(f, 31);
    notify(f, 0x10000);
    usleep(2000);
    cr_assert_eq(reg(f, R_STATUS), 15);
}

Test(virtio_mmio, slots)
{
    bool seen[24] = {false};

    for (unsigned i = 0; i < VIRTIO_SLOTS; i++) {
        unsigned gsi = virtio_slot_gsi(i);

        cr_assert(gsi >= 5 && gsi < 24 && gsi != 8 && gsi != 9 && !seen[gsi], "slot %u", i);
        seen[gsi] = true;
    }
}
