/*
 * A hostile driver: rings, requests and registers of seeded noise against a block device. Whatever
 * it does, only its own device breaks, guest RAM is the only memory touched, and a reset mends it.
 * SEED and ROUNDS in the environment choose what is played.
 */
#include "tests/virtio_fix.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define DISK (1u << 20)
#define RAM  (MMIO_HOLE_START + 4 * MIB) /* so that there is a hole to fall into */

static uint64_t state;
static uint64_t rnd(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}
static bool one_in(unsigned n)
{
    return rnd() % n == 0;
}

/* Addresses near every edge there is. */
static uint64_t any_address(void)
{
    static const uint64_t edge[] = {
        0,
        RING_DESC,
        RING_USED,
        BUFFERS,
        MMIO_HOLE_START,
        MMIO_HOLE_END,
        MMIO_HOLE_END + 4 * MIB,
        VIRTIO_BASE,
        (uint64_t)1 << 46,
        (uint64_t)1 << 63,
        UINT64_MAX,
    };

    if (one_in(2))
        return BUFFERS + rnd() % MIB;
    return edge[rnd() % (sizeof edge / sizeof edge[0])] + (rnd() % 64) - 32;
}

static uint32_t any_length(void)
{
    switch (rnd() % 8) {
    case 0:
        return 0;
    case 1:
        return (uint32_t)rnd();
    case 2:
        return 0xffffffff - (uint32_t)(rnd() % 4);
    case 3:
        return 1;
    default:
        return (uint32_t)(rnd() % 3000);
    }
}

static void any_table(struct fix *f, uint64_t at, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint16_t flags = (uint16_t)(rnd() & (one_in(6) ? 0xffff : 3));
        uint16_t next = (uint16_t)(one_in(20) ? rnd() : rnd() % n);

        if (flags & D_INDIRECT && one_in(2))
            put_desc(f, at, i, INDIRECT + rnd() % 64, (uint32_t)(16 * (rnd() % 40)), flags, next);
        else
            put_desc(f, at, i, any_address(), any_length(), flags, next);
    }
}

/* A request that is right but for a detail or two. */
static void likely_request(struct fix *f, uint16_t i)
{
    static const uint32_t types[] = {0, 1, 4, 8, 11, 13, 2, 0xffffffff};
    uint64_t h = BUFFERS + i * 0x3000u, data = h + 0x1000, status = h + 0x2800;
    uint32_t type = types[rnd() % 8], len = (uint32_t)(rnd() % 5) * 512;
    uint64_t sector = one_in(4) ? rnd() : rnd() % (DISK / 512 + 2);

    if (one_in(8))
        len = (uint32_t)(rnd() % 4097);
    if (type == 11 || type == 13) {
        uint64_t range[2] = {rnd() % (DISK / 512 + 8), rnd() % 64};

        if (one_in(3))
            range[1] |= rnd() << 32;
        memcpy(f->ram.base + data, range, 16);
        len = one_in(4) ? (uint32_t)(rnd() % 512) : 16;
    }
    memcpy(f->ram.base + h, &type, 4);
    memcpy(f->ram.base + h + 8, &sector, 8);
    bool in = type == 0 || type == 8;
    uint16_t d = (uint16_t)(i * 3);

    put_desc(f, RING_DESC, d, h, one_in(30) ? (uint32_t)(rnd() % 32) : 16, D_NEXT,
             (uint16_t)(d + 1));
    put_desc(f, RING_DESC, d + 1u, one_in(40) ? any_address() : data, len,
             in ? D_NEXT | D_WRITE : D_NEXT, (uint16_t)(d + 2));
    put_desc(f, RING_DESC, d + 2u, one_in(40) ? any_address() : status,
             one_in(30) ? (uint32_t)(rnd() % 3) : 1, one_in(40) ? 0 : D_WRITE, 0);
    offer(f, 0, d);
}

/* Does a request that is right still work? */
static void works(struct fix *f, unsigned round)
{
    uint32_t head, len, type = 8;

    go(f, VIRTIO_F_EVENT_IDX);
    memset(f->ram.base + BUFFERS, 0, 64);
    memcpy(f->ram.base + BUFFERS, &type, 4);
    f->ram.base[BUFFERS + 100] = 0xff;
    put_desc(f, RING_DESC, 0, BUFFERS, 16, D_NEXT, 1);
    put_desc(f, RING_DESC, 1, BUFFERS + 32, 20, D_WRITE | D_NEXT, 2);
    put_desc(f, RING_DESC, 2, BUFFERS + 100, 1, D_WRITE, 0);
    offer(f, 0, 0);
    notify(f, 0);
    cr_assert(take_used(f, 0, &head, &len), "round %u", round);
    cr_assert(head == 0 && len == 21 && f->ram.base[BUFFERS + 100] == 0, "round %u", round);
    cr_assert(!memcmp(f->ram.base + BUFFERS + 32, "mayfly-hostile", 14));
}

static void noise(struct fix *f)
{
    switch (rnd() % 4) {
    case 0: /* requests, nearly right */
        for (uint16_t n = (uint16_t)(1 + rnd() % 20); n; n--)
            likely_request(f, n);
        break;
    case 1: /* any descriptors */
        any_table(f, RING_DESC, f->size);
        any_table(f, INDIRECT, 64);
        for (unsigned n = 1 + (unsigned)rnd() % 8; n; n--)
            offer(f, 0, (uint16_t)(one_in(20) ? rnd() : rnd() % f->size));
        break;
    case 2: /* the index alone */
        likely_request(f, 1);
        *avail16(f, 0, 2) = (uint16_t)rnd();
        break;
    default: /* registers */
        for (unsigned n = 1 + (unsigned)rnd() % 40; n; n--) {
            uint32_t off = (uint32_t)(one_in(3) ? rnd() % 0x200 : rnd() % 0x40 * 4);
            unsigned size = 1u << rnd() % 4;
            uint64_t val = one_in(2) ? rnd() : rnd() % 16;

            if (one_in(3))
                virtio_mmio_read(&f->bus, virtio_slot_base(0) + off, size, &val);
            else
                virtio_mmio_write(&f->bus, virtio_slot_base(0) + off, size, val);
        }
    }
    set_reg(f, 0x50, (uint32_t)(one_in(10) ? rnd() : 0));
    /* Change what is being looked at. */
    for (unsigned n = (unsigned)rnd() % 30; n; n--)
        put_desc(f, one_in(2) ? RING_DESC : INDIRECT, (unsigned)rnd() % 64, any_address(),
                 any_length(), (uint16_t)(rnd() & 7), (uint16_t)rnd());
}

static struct virtio_dev *disk(char *name)
{
    struct virtio_dev *dev;
    char err[256] = "", arg[128];
    int fd = mkstemp(name);

    cr_assert(fd >= 0);
    cr_assert_eq(ftruncate(fd, DISK), 0);
    close(fd);
    snprintf(arg, sizeof arg, "%s,serial=mayfly-hostile", name);
    cr_assert_eq(blk_create(arg, &dev, err, sizeof err), 0, "%s", err);
    return dev;
}

static void play(bool no_uring)
{
    char name[] = "/tmp/mayfly-hostile-XXXXXX";
    const char *s = getenv("SEED"), *r = getenv("ROUNDS");
    unsigned rounds = r ? (unsigned)atoi(r) : 400, broken;
    struct stat st;

    if (no_uring)
        setenv("MAYFLY_NO_IO_URING", "1", 1);
    state = s ? strtoull(s, NULL, 0) : 0x9e3779b97f4a7c15;
    struct virtio_dev *dev = disk(name);
    struct fix *f = fix_new(dev, RAM, true);
    /* After the last byte of RAM, and in the hole, an access is a crash. */
    uint8_t *end = f->ram.base + MMIO_HOLE_END + 4 * MIB;

    mmap(end, 64 * 1024, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    for (unsigned i = 0; i < rounds; i++) {
        go(f, one_in(2) ? VIRTIO_F_EVENT_IDX | 1ull << 9 : 0);
        for (unsigned n = 1 + (unsigned)rnd() % 4; n; n--) {
            noise(f);
            if (one_in(4))
                usleep(200);
        }
        if (i % 8 == 0)
            works(f, i);
    }
    broken = (unsigned)dev->count.broken;
    works(f, rounds);
    set_reg(f, R_STATUS, 0);
    cr_assert_eq(dev->held, 0);
    cr_assert_gt(broken, rounds / 20, "%u of %u rounds broke it", broken, rounds);
    cr_assert(!stat(name, &st) && st.st_size == DISK, "the image has kept its size");
    unlink(name);
    fix_free(f);
    free(dev);
}

Test(virtio_hostile, over_io_uring, .timeout = 120)
{
    play(false);
}

Test(virtio_hostile, over_threads, .timeout = 120)
{
    play(true);
}
