/* What the tests of the entropy, console and balloon devices share. */
#ifndef TESTS_VIRTIO_SMALL_H
#define TESTS_VIRTIO_SMALL_H

#include "tests/virtio_fix.h"

/* Features of the balloon, VIRTIO 1.2 5.5.3 */
#define BAL_STATS     2u
#define BAL_REPORTING 32u
#define BAL_POISON    16u

static char err[256];

__attribute__((unused)) static struct fix *make(int (*create)(const char *, struct virtio_dev **,
                                                              char *, size_t),
                                                const char *arg, uint64_t ram)
{
    struct virtio_dev *dev = NULL;

    cr_assert_eq(create(arg, &dev, err, sizeof err), 0, "%s", err);
    struct fix *f = fix_new(dev, ram, false);

    f->size = 16;
    return f;
}

__attribute__((unused)) static void end(struct fix *f)
{
    struct virtio_dev *dev = f->dev;

    fix_free(f);
    free(dev);
}

/* One buffer as a chain of its own, notified. */
__attribute__((unused)) static void give(struct fix *f, unsigned q, uint16_t d, uint64_t addr,
                                         uint32_t len, uint16_t flags)
{
    put_desc(f, RING_DESC + q * RING_STRIDE, d, addr, len, flags, 0);
    offer(f, q, d);
    notify(f, q);
}

__attribute__((unused)) static uint32_t used_len(struct fix *f, unsigned q)
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
__attribute__((unused)) static void settle(struct fix *f)
{
    for (unsigned i = 0; i < 2; i++)
        virtio_mmio_write(&f->bus, virtio_slot_base(0) + 0x100, 4, 0);
}

__attribute__((unused)) static bool only(const uint8_t *p, size_t len, uint8_t byte)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != byte)
            return false;
    return true;
}

__attribute__((unused)) static uint64_t counter(struct fix *f, const char *name)
{
    for (const struct virtio_counter *c = f->dev->counters; c->name; c++)
        if (!strcmp(c->name, name))
            return c->value;
    cr_assert(false, "no counter %s", name);
    return 0;
}

__attribute__((unused)) static void put32(struct fix *f, uint64_t at, uint32_t v)
{
    memcpy(f->ram.base + at, &v, 4);
}

#endif
