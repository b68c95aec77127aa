/* The balloon behind a ring that the test drives. */
#include "tests/virtio_small.h"

#include <sys/mman.h>

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
    end(f);
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
    end(f);
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
    end(f);
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
    end(f);
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
    end(f);
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
    end(f);
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
    /* One is enough: of a second the first goes back at once, whatever the time. */
    give(f, 2, 6, BUFFERS, sizeof s, 0);
    settle(f);
    give(f, 2, 7, BUFFERS, sizeof s, 0);
    cr_assert(take_used(f, 2, &head, &len));
    cr_assert_eq(head, 6);
    end(f);
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
    end(f);
}

Test(balloon, its_options)
{
    static const char *const bad[] = {"",   "x",       "1X",    "1M,",         "stats=0", "stats=",
                                      "-1", "64M,foo", "stats", "99999999999", "20T",     "1M 2M"};
    struct virtio_dev *dev;

    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_eq(balloon_create(bad[i], &dev, err, sizeof err), -EINVAL, "'%s'", bad[i]);
    cr_assert_eq(balloon_create("16M", &dev, err, sizeof err), 0);
    cr_assert_eq(balloon_size(dev), 16 * MIB, "what the monitor holds against -m");
    free(dev);
}
