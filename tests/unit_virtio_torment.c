/* The entropy, console and balloon devices behind hostile rings. */
#include "tests/virtio_small.h"

#include "virtio/console.h"

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
    }
    go(f, features);
    offer(f, 0, 99);
    notify(f, 0);
    cr_assert(status_gets(f, ST_NEEDS_RESET));
    memset(f->ram.base + BUFFERS, 0, MIB);
    go(f, features);
    check(f);
    end(f);
}

static void rng_works(struct fix *f)
{
    give(f, 0, 0, BUFFERS, 64, D_WRITE);
    cr_assert_eq(used_len(f, 0), 64);
}

static char endless[1 << 20];
static size_t given;

static size_t sink(void *opaque, const void *buf, size_t len)
{
    (void)opaque;
    /* Reads all of it, and takes some. */
    return only(buf, len, 0xee) ? len : len / 3 + 1;
}

static size_t source(void *opaque, void *buf, size_t len)
{
    (void)opaque;
    len = len < sizeof endless - given ? len : sizeof endless - given;
    memcpy(buf, endless, len);
    given += len;
    return len;
}

static void no_reads(void *opaque, bool on)
{
    (void)opaque, (void)on;
}

static void no_size(void *opaque, uint16_t *cols, uint16_t *rows)
{
    (void)opaque, (void)cols, (void)rows;
}

static void console_works(struct fix *f)
{
    given = sizeof endless - 1;
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
    struct fix *f = make(console_create, NULL, 8 * MIB);

    vconsole_connect(f->dev, &(struct vconsole_host){NULL, sink, source, no_reads, no_size});
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
