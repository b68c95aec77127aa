/* Split rings without a transport: each way a chain can be wrong, and the arithmetic of lists. */
#include <criterion/criterion.h>
#include <string.h>
#include "virtio/virtio.h"

#define SIZE  8u
#define DESC  0x1000u
#define AVAIL 0x2000u
#define USED  0x3000u
#define TABLE 0x4000u
#define RAM   (MMIO_HOLE_START + 2 * MIB) /* 3 GiB below the hole, 2 MiB above */

static struct ram ram;
static struct virtio_dev dev;
static struct virtio_bus bus;
static struct virtq *vq = &dev.vq[0];
static const char *complaint;
static uint16_t avail;

static void warn(const char *label, const char *why)
{
    (void)label;
    complaint = why;
}

static void setup(void)
{
    cr_assert_eq(ram_create(&ram, RAM), 0);
    memset(&dev, 0, sizeof dev);
    bus.warn = warn;
    dev.bus = &bus;
    dev.nqueues = 1;
    pthread_mutex_init(&dev.lock, NULL);
    vq->dev = &dev;
    vq->size_max = SIZE;
    cr_assert_eq(virtq_start(vq, &ram, SIZE, DESC, AVAIL, USED, true), 0);
    avail = 0;
    complaint = NULL;
}
static void teardown(void)
{
    ram_destroy(&ram);
}
TestSuite(virtq, .init = setup, .fini = teardown);

struct d {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};
enum { N = 1, W = 2, I = 4 };

static void put(uint64_t table, const struct d *d, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        memcpy(ram.base + table + 16 * i, &d[i], 16);
}
static void offer(uint16_t head)
{
    memcpy(ram.base + AVAIL + 4 + 2 * (avail % SIZE), &head, 2);
    avail++;
    memcpy(ram.base + AVAIL + 2, &avail, 2);
}

static struct iovec iov[16];
static struct virtq_chain c = {.iov = iov, .cap = 16};

Test(virtq, order_and_merging)
{
    put(DESC,
        (struct d[]){{0x10000, 16, N, 2},
                     {0x30000, 5, W, 0},
                     {0x10010, 16, N, 3},
                     {0x20000, 0, N, 4},
                     {0x20000, 7, N | W, 1}},
        5);
    offer(0);
    cr_assert_eq(virtq_pop(vq, &c), 1);
    cr_assert(c.nout == 1 && c.nin == 2 && c.out_len == 32 && c.in_len == 12);
    cr_assert(iov[0].iov_base == ram.base + 0x10000 && iov[0].iov_len == 32);
    cr_assert(iov[1].iov_base == ram.base + 0x20000 && iov[1].iov_len == 7);
    cr_assert(iov[2].iov_base == ram.base + 0x30000 && iov[2].iov_len == 5);
    cr_assert_eq(virtq_pop(vq, &c), 0);
    cr_assert_eq(vq->in_flight, 1);
    virtq_push(vq, &c, 9);
    cr_assert_eq(vq->in_flight, 0);
    cr_assert_eq(vq->count.bytes, 32 + 9);
    uint16_t idx;

    memcpy(&idx, ram.base + USED + 2, 2);
    cr_assert_eq(idx, 0, "not before the pass ends");
    cr_assert(virtq_publish(vq));
    memcpy(&idx, ram.base + USED + 2, 2);
    cr_assert_eq(idx, 1);
    cr_assert(!virtq_publish(vq), "nothing new");
}

Test(virtq, read_and_write_side_do_not_merge)
{
    put(DESC, (struct d[]){{0x10000, 16, N, 1}, {0x10010, 16, W, 0}}, 2);
    offer(0);
    cr_assert_eq(virtq_pop(vq, &c), 1);
    cr_assert(c.nout == 1 && c.nin == 1);
}

Test(virtq, high_memory)
{
    put(DESC, (struct d[]){{MMIO_HOLE_END + 2 * MIB - 16, 16, 0, 0}}, 1);
    offer(0);
    cr_assert_eq(virtq_pop(vq, &c), 1);
    cr_assert(iov[0].iov_base == ram.base + MMIO_HOLE_END + 2 * MIB - 16);
}

Test(virtq, direct_then_indirect)
{
    put(DESC, (struct d[]){{0x10000, 16, N, 1}, {TABLE + 1, 32, I, 0}}, 2);
    put(TABLE + 1, (struct d[]){{0x20000, 4, N, 1}, {0x30000, 4, W, 0}}, 2);
    offer(0);
    cr_assert_eq(virtq_pop(vq, &c), 1);
    cr_assert(c.out_len == 20 && c.in_len == 4);
}

static const struct wrong {
    struct d direct[3], table[3];
    uint16_t head;
    const char *why;
} wrong[] = {
    {{{0x10000, 16, N, 8}}, {{0}}, 0, "a descriptor index past the table"},
    {{{0x10000, 16, N, 0xffff}}, {{0}}, 0, "a descriptor index past the table"},
    {{{0}}, {{0}}, 8, "a chain's head past the table"},
    {{{0}}, {{0}}, 0xffff, "a chain's head past the table"},
    {{{0x10000, 1, N, 0}}, {{0}}, 0, "a loop of descriptors"},
    {{{0x10000, 1, N, 1}, {0x10001, 1, N, 0}}, {{0}}, 0, "a loop of descriptors"},
    {{{MMIO_HOLE_START - 8, 16, 0, 0}}, {{0}}, 0, "a buffer outside RAM"},
    {{{MMIO_HOLE_START, 1, 0, 0}}, {{0}}, 0, "a buffer outside RAM"},
    {{{MMIO_HOLE_END - 1, 2, 0, 0}}, {{0}}, 0, "a buffer outside RAM"},
    {{{MMIO_HOLE_END + 2 * MIB - 1, 2, W, 0}}, {{0}}, 0, "a buffer outside RAM"},
    {{{UINT64_MAX, 1, 0, 0}}, {{0}}, 0, "a buffer outside RAM"},
    {{{UINT64_MAX - 3, 0xffffffff, W, 0}}, {{0}}, 0, "a buffer outside RAM"},
    {{{0x10000, 0xffffffff, 0, 0}}, {{0}}, 0, "a buffer outside RAM"},
    {{{0, 0xc0000000, N, 1}, {0, 0x40000000, 0, 0}}, {{0}}, 0, "a chain of more than 4 GiB"},
    {{{0x10000, 1, N | W, 1}, {0x20000, 1, 0, 0}},
     {{0}},
     0,
     "a readable descriptor after a writable one"},
    {{{TABLE, 16, I | N, 1}}, {{0}}, 0, "a nested or continued indirect descriptor"},
    {{{TABLE, 16, I, 0}}, {{TABLE, 16, I, 0}}, 0, "a nested or continued indirect descriptor"},
    {{{TABLE, 0, I, 0}}, {{0}}, 0, "an indirect table of a wrong size"},
    {{{TABLE, 17, I, 0}}, {{0}}, 0, "an indirect table of a wrong size"},
    {{{TABLE, 16 * 1025, I, 0}}, {{0}}, 0, "an indirect table of a wrong size"},
    {{{TABLE, 0xfffffff0, I, 0}}, {{0}}, 0, "an indirect table of a wrong size"},
    {{{MMIO_HOLE_START - 16, 32, I, 0}}, {{0}}, 0, "an indirect table outside RAM"},
    {{{TABLE, 32, I, 0}}, {{0x10000, 1, N, 2}}, 0, "a descriptor index past the table"},
    {{{TABLE, 48, I, 0}}, {{0x10000, 1, N, 0}}, 0, "a loop of descriptors"},
};

Test(virtq, wrong_chains)
{
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const struct wrong *w = &wrong[i];

        teardown();
        setup();
        put(DESC, w->direct, 3);
        put(TABLE, w->table, 3);
        offer(w->head);
        cr_assert_lt(virtq_pop(vq, &c), 0, "case %u", i);
        cr_assert(complaint && !strcmp(complaint, w->why), "case %u: %s", i,
                  complaint ? complaint : "-");
        cr_assert(dev.broken && !vq->live && dev.status == 64);
        /* Dead: harmless. */
        cr_assert_eq(virtq_pop(vq, &c), 0);
        virtq_push(vq, &c, 1);
        virtq_push_raw(vq, 0, 1);
        cr_assert(!virtq_publish(vq) && !virtq_arm(vq) && !virtq_has(vq));
        virtq_unpop(vq, 1);
        cr_assert_eq(vq->in_flight, 0);
    }
}

Test(virtq, too_many_elements)
{
    struct d d[6];

    for (uint16_t i = 0; i < 6; i++)
        d[i] = (struct d){0x10000u + i * 0x100u, 4, N, (uint16_t)(i + 1)};
    d[4].flags = 0;
    put(DESC, d, 6);
    offer(0);
    c.cap = 4;
    cr_assert_lt(virtq_pop(vq, &c), 0);
    cr_assert_str_eq(complaint, "a chain of too many descriptors");
}

Test(virtq, index_runs_ahead)
{
    uint16_t idx = SIZE + 1;

    memcpy(ram.base + AVAIL + 2, &idx, 2);
    cr_assert_lt(virtq_pop(vq, &c), 0);
    cr_assert_str_eq(complaint, "an available index that runs ahead");
}

Test(virtq, one_head_offered_for_ever)
{
    put(DESC, (struct d[]){{0x10000, 1, 0, 0}}, 1);
    for (unsigned i = 0; i < SIZE; i++) {
        offer(0);
        cr_assert_eq(virtq_pop(vq, &c), 1);
    }
    offer(0);
    cr_assert_lt(virtq_pop(vq, &c), 0);
    cr_assert_str_eq(complaint, "more requests than descriptors");
}

Test(virtq, unpop)
{
    put(DESC, (struct d[]){{0x10000, 1, 0, 0}, {0x10000, 2, 0, 0}}, 2);
    offer(0);
    offer(1);
    cr_assert(virtq_pop(vq, &c) == 1 && virtq_pop(vq, &c) == 1);
    virtq_unpop(vq, 2);
    cr_assert(vq->count.requests == 0 && vq->in_flight == 0);
    cr_assert(virtq_pop(vq, &c) == 1 && c.out_len == 1);
    virtq_unpop(vq, 9);
    cr_assert_eq(vq->in_flight, 1, "more than there are");
}

Test(virtq, notifications)
{
    uint16_t ev;

    cr_assert(!virtq_arm(vq));
    put(DESC, (struct d[]){{0x10000, 1, 0, 0}}, 1);
    offer(0);
    virtq_disarm(vq);
    cr_assert(virtq_has(vq));
    offer(0);
    cr_assert(virtq_arm(vq), "one came after the look");
    cr_assert(virtq_has(vq) && !virtq_arm(vq));
    memcpy(&ev, ram.base + USED + 4 + 8 * SIZE, 2);
    cr_assert_eq(ev, 2);
}

static unsigned traced;
static uint64_t trace_gpa[8], trace_len[8];
static void trace(void *opaque, gpa_t gpa, uint64_t len)
{
    (void)opaque;
    trace_gpa[traced % 8] = gpa;
    trace_len[traced++ % 8] = len;
}

Test(virtq, writes_reach_the_code_traces)
{
    ram.code_written = trace;
    ram.attr[0x20000 >> PAGE_SHIFT] = ram.attr[0x30000 >> PAGE_SHIFT] = RAM_ATTR_CODE;
    ram.attr[USED >> PAGE_SHIFT] = RAM_ATTR_CODE;
    traced = 0;
    put(DESC, (struct d[]){{0x20000, 8, N | W, 1}, {0x30000, 8, W, 0}}, 2);
    offer(0);
    cr_assert_eq(virtq_pop(vq, &c), 1);
    virtq_push(vq, &c, 12);
    cr_assert_eq(traced, 2);
    cr_assert(trace_gpa[0] == 0x20000 && trace_len[0] == 8);
    cr_assert(trace_gpa[1] == 0x30000 && trace_len[1] == 4);
    virtq_publish(vq);
    cr_assert(traced == 3 && trace_gpa[2] == USED);
}

Test(virtq, lists)
{
    char a[4] = "abcd", b[3] = "efg", e[5] = "hijkl", out[16] = "";
    struct iovec l[3] = {{a, 4}, {b, 3}, {e, 5}}, s[3];

    cr_assert_eq(virtq_gather(out, 16, l, 3, 0), 12);
    cr_assert(!memcmp(out, "abcdefghijkl", 12));
    cr_assert_eq(virtq_gather(out, 4, l, 3, 3), 4);
    cr_assert(!memcmp(out, "defg", 4));
    cr_assert_eq(virtq_gather(out, 4, l, 3, 11), 1);
    cr_assert_eq(virtq_gather(out, 4, l, 3, 12), 0);
    cr_assert_eq(virtq_gather(out, 4, l, 3, 100), 0);
    cr_assert_eq(virtq_slice(s, l, 3, 4, 3), 1);
    cr_assert(s[0].iov_base == b && s[0].iov_len == 3);
    cr_assert_eq(virtq_slice(s, l, 3, 5, 4), 2);
    cr_assert(s[0].iov_base == b + 1 && s[0].iov_len == 2 && s[1].iov_len == 2);
    cr_assert_eq(virtq_slice(s, l, 3, 5, 8), 0, "longer than the list");
    cr_assert_eq(virtq_slice(s, l, 3, 12, 0), 0);
    cr_assert_eq(virtq_slice(l, l, 3, 5, 7), 2, "in place");
    cr_assert(l[0].iov_base == b + 1 && l[1].iov_base == e && l[1].iov_len == 5);
    cr_assert_eq(virtq_scatter(l, 2, 1, "XY", 2), 2);
    cr_assert(b[1] == 'f' && b[2] == 'X' && e[0] == 'Y');
}
