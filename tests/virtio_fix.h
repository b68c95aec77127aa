/*
 * A driver's side of one virtio device: guest RAM, a bus, an I/O thread that runs the real passes,
 * and a ring to put requests into. The test's own thread is the vCPU.
 */
#ifndef TESTS_VIRTIO_FIX_H
#define TESTS_VIRTIO_FIX_H

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "virtio/virtio.h"

/* Where the driver keeps things. Queue q's ring is RING_STRIDE further on. */
#define RING_DESC   0x10000u
#define RING_AVAIL  0x14000u
#define RING_USED   0x18000u
#define RING_STRIDE 0x10000u
#define BUFFERS     0x100000u
#define INDIRECT    0x80000u

enum {
    D_NEXT = 1,
    D_WRITE = 2,
    D_INDIRECT = 4,
    ST_OK = 1 | 2 | 8 | 4,
    ST_NEEDS_RESET = 64,
    R_STATUS = 0x70,
    R_ISR = 0x60,
};

struct fix {
    struct ram ram;
    struct vm_cpus vm;
    struct virtio_bus bus;
    struct virtio_dev *dev;
    struct io *io;
    pthread_t thread;
    atomic_bool stop, ready;
    bool uring;
    uint64_t interrupts;               /* seen by interrupts() */
    unsigned size;                     /* of each ring */
    uint16_t avail[VIRTIO_QUEUES_MAX]; /* driver's next avail.idx */
    uint16_t seen_used[VIRTIO_QUEUES_MAX];
};

static void *fix_thread(void *arg)
{
    struct fix *f = arg;
    const struct virtio_dev *which;

    cr_assert_eq(io_create(&f->io, f->uring ? IO_BACKEND_URING : IO_BACKEND_POLL), 0);
    cr_assert_eq(virtio_bus_attach(&f->bus, f->io, &which), 0);
    cr_assert_eq(io_enable(f->io), 0);
    atomic_store(&f->ready, true);
    while (!atomic_load(&f->stop)) {
        uint64_t t = virtio_bus_run(&f->bus);

        io_doze(f->io);
        if (atomic_load(&f->bus.bells) || atomic_load(&f->stop))
            t = 1;
        io_wait(f->io, t, NULL);
    }
    return NULL;
}

/* MAYFLY_NO_IO_URING=1 in the environment makes uring the fallback with its threads. */
static struct fix *fix_new(struct virtio_dev *dev, uint64_t ram, bool uring)
{
    struct fix *f = calloc(1, sizeof *f);

    f->dev = dev;
    f->uring = uring;
    f->size = 64;
    cr_assert_eq(ram_create(&f->ram, ram), 0);
    f->vm.ram = &f->ram;
    irqchip_init(&f->vm.irqchip, &f->vm); /* interrupts are counted: all pins are masked */
    f->bus.vm = &f->vm;
    f->bus.ram = &f->ram;
    cr_assert_eq(virtio_bus_add(&f->bus, dev), 0);
    cr_assert_eq(pthread_create(&f->thread, NULL, fix_thread, f), 0);
    while (!atomic_load(&f->ready))
        usleep(100);
    return f;
}

__attribute__((unused)) static void fix_free(struct fix *f)
{
    atomic_store(&f->stop, true);
    io_wake(f->io);
    pthread_join(f->thread, NULL);
    io_destroy(f->io);
    ram_destroy(&f->ram);
    free(f);
}

static uint32_t reg(struct fix *f, uint32_t off)
{
    uint64_t v = 0;

    cr_assert(virtio_mmio_read(&f->bus, virtio_slot_base(f->dev->slot) + off, 4, &v));
    return (uint32_t)v;
}

static void set_reg(struct fix *f, uint32_t off, uint32_t v)
{
    cr_assert(virtio_mmio_write(&f->bus, virtio_slot_base(f->dev->slot) + off, 4, v));
}

/* Interrupts since the last call. */
__attribute__((unused)) static unsigned interrupts(struct fix *f)
{
    uint64_t all = f->dev->count.interrupts + f->dev->count.config_interrupts;
    unsigned n = (unsigned)(all - f->interrupts);

    f->interrupts = all;
    return n;
}

static void set_queue(struct fix *f, unsigned q, uint64_t desc, uint64_t avail, uint64_t used)
{
    set_reg(f, 0x30, q);
    set_reg(f, 0x38, f->size);
    set_reg(f, 0x80, (uint32_t)desc);
    set_reg(f, 0x84, (uint32_t)(desc >> 32));
    set_reg(f, 0x90, (uint32_t)avail);
    set_reg(f, 0x94, (uint32_t)(avail >> 32));
    set_reg(f, 0xa0, (uint32_t)used);
    set_reg(f, 0xa4, (uint32_t)(used >> 32));
    set_reg(f, 0x44, 1);
}

/* Reset, then as far as FEATURES_OK, with these features and VERSION_1. */
static uint32_t negotiate(struct fix *f, uint64_t features)
{
    features |= VIRTIO_F_VERSION_1;
    set_reg(f, R_STATUS, 0);
    set_reg(f, R_STATUS, 1);
    set_reg(f, R_STATUS, 3);
    for (uint32_t i = 0; i < 2; i++) {
        set_reg(f, 0x24, i);
        set_reg(f, 0x20, (uint32_t)(features >> i * 32));
    }
    set_reg(f, R_STATUS, 11);
    return reg(f, R_STATUS);
}

/* The whole way to DRIVER_OK with all queues at their usual places. */
static void go(struct fix *f, uint64_t features)
{
    cr_assert_eq(negotiate(f, features), 11);
    for (unsigned q = 0; q < f->dev->nqueues; q++) {
        memset(f->ram.base + RING_DESC + q * RING_STRIDE, 0, RING_STRIDE);
        set_queue(f, q, RING_DESC + q * RING_STRIDE, RING_AVAIL + q * RING_STRIDE,
                  RING_USED + q * RING_STRIDE);
        f->avail[q] = f->seen_used[q] = 0;
    }
    set_reg(f, R_STATUS, ST_OK);
}

/* --- the ring --- */

static void put_desc(struct fix *f, uint64_t table, unsigned i, uint64_t addr, uint32_t len,
                     uint16_t flags, uint16_t next)
{
    uint8_t *d = f->ram.base + table + 16 * i;

    memcpy(d, &addr, 8);
    memcpy(d + 8, &len, 4);
    memcpy(d + 12, &flags, 2);
    memcpy(d + 14, &next, 2);
}

static uint16_t *avail16(struct fix *f, unsigned q, unsigned off)
{
    return (uint16_t *)(f->ram.base + RING_AVAIL + q * RING_STRIDE + off);
}

static uint16_t *used16(struct fix *f, unsigned q, unsigned off)
{
    return (uint16_t *)(f->ram.base + RING_USED + q * RING_STRIDE + off);
}

/* Make the chain at head available; without a notification. */
static void offer(struct fix *f, unsigned q, uint16_t head)
{
    *avail16(f, q, 4 + 2 * (f->avail[q] % f->size)) = head;
    __atomic_store_n(avail16(f, q, 2), ++f->avail[q], __ATOMIC_SEQ_CST);
}

static void notify(struct fix *f, unsigned q)
{
    set_reg(f, 0x50, q);
}

static uint16_t used_idx(struct fix *f, unsigned q)
{
    return __atomic_load_n(used16(f, q, 2), __ATOMIC_SEQ_CST);
}

/* The next used element: true and its head and length, false when there was none within a second.
 */
__attribute__((unused)) static bool take_used(struct fix *f, unsigned q, uint32_t *head,
                                              uint32_t *len)
{
    for (unsigned i = 0; i < 10000 && used_idx(f, q) == f->seen_used[q]; i++)
        usleep(100);
    if (used_idx(f, q) == f->seen_used[q])
        return false;
    uint32_t *e = (uint32_t *)used16(f, q, 4 + 8 * (f->seen_used[q] % f->size));

    *head = e[0];
    *len = e[1];
    f->seen_used[q]++;
    return true;
}

/* Wait until the status has (or has not) the bits. */
__attribute__((unused)) static bool status_gets(struct fix *f, uint32_t bits)
{
    for (unsigned i = 0; i < 10000; i++) {
        if ((reg(f, R_STATUS) & bits) == bits)
            return true;
        usleep(100);
    }
    return false;
}

#endif
