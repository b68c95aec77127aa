/* The entropy and console devices, each behind a ring that the test drives. */
#include "tests/virtio_small.h"

#include "virtio/console.h"

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
    end(f);
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
    end(f);
}

Test(rng, nothing_to_write_to)
{
    struct fix *f = make(rng_create, NULL, 8 * MIB);

    go(f, 0);
    memset(f->ram.base + BUFFERS, 0x5a, 64);
    give(f, 0, 0, BUFFERS, 64, 0);
    cr_assert_eq(used_len(f, 0), 0);
    cr_assert(only(f->ram.base + BUFFERS, 64, 0x5a));
    end(f);
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
    if (!len)
        return 0;
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
    end(f);
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
    end(f);
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
    end(f);
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
    end(f);
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
    end(f);
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
    end(f);
}

Test(console, emergency_write)
{
    struct fix *f = make_console();

    cr_assert_eq(negotiate(f, 4), 11);
    virtio_mmio_write(&f->bus, virtio_slot_base(0) + 0x108, 4, 'E');
    cr_assert_eq(host.nout, 1);
    cr_assert_eq(host.out[0], 'E');
    end(f);
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
    end(f);
}

Test(console, refuses_other_kinds)
{
    struct virtio_dev *dev;

    cr_assert_eq(console_create("vga", &dev, err, sizeof err), -EINVAL);
}
