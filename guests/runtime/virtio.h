/*
 * virtio-mmio, driver side (VIRTIO 1.2 §4.2, §2.7): a device's registers, its split rings. A
 * driver: virtio_find(), virtio_start(), virtio_queue() for each queue, virtio_go(). The ring's
 * descriptors are the driver's to fill by virtq_put().
 */
#ifndef GUESTS_RUNTIME_VIRTIO_H
#define GUESTS_RUNTIME_VIRTIO_H

#include "guests/runtime/runtime.h"

enum { VIRTIO_NET = 1, VIRTIO_BLK = 2, VIRTIO_VSOCK = 19, VIRTIO_FS = 26 };

#define VIRTIO_VERSION_1 (1ull << 32)

struct virtio {
    volatile uint32_t *reg; /* NULL: not there */
    unsigned slot;
};

extern uint64_t image_pd[]; /* the runtime's 2 MiB pages (start.S) */

/* The nth (from 0) device of this kind. */
bool virtio_find(struct virtio *d, uint32_t id, unsigned nth);
/* Reset it and take of the features wanted those it has (*got, unless NULL; VERSION_1 always).
 * false: it will not have us. */
bool virtio_start(struct virtio *d, uint64_t wanted, uint64_t *got);
/* Its interrupts come as this vector. */
void virtio_interrupts(const struct virtio *d, unsigned vector);
/* One has come. mayfly's are edges, about which nothing need be said; elsewhere the line is high
 * until it is. */
void virtio_interrupted(const struct virtio *d);
void virtio_go(struct virtio *d);
/* Of the configuration space, at a multiple of 4. */
uint32_t virtio_config(const struct virtio *d, unsigned at);
bool virtio_broken(const struct virtio *d);

/* A ring is one page: at most 128 entries. */
#define VIRTQ_MOST 128u
enum { VIRTQ_NEXT = 1, VIRTQ_WRITE = 2 /* the device writes it */ };

struct virtq_desc {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};
struct virtq_used {
    uint32_t id, length;
};

struct virtq {
    struct virtio *device;
    uint16_t index, size; /* which; how many entries, a power of two */
    uint16_t added, seen; /* heads given, used entries taken */
    bool interrupts;      /* its device's are on */
    struct virtq_desc *desc;
    volatile uint16_t *avail; /* flags, index, ring */
    volatile uint16_t *used;  /* flags, index, then struct virtq_used from used + 2 */
};

/* Memory for the ring, and its address to the device. interrupts: it says when it used something.
 */
bool virtio_queue(struct virtio *d, struct virtq *q, uint16_t index, uint16_t size,
                  bool interrupts);
/* Descriptor i: memory of the runtime (one stretch of RAM); VIRTQ_NEXT: i + 1 follows. */
void virtq_put(struct virtq *q, unsigned i, const void *at, uint64_t len, unsigned flags);
/* The chain from head on is the device's. virtq_kick() tells it, once for all that were given. */
void virtq_add(struct virtq *q, unsigned head);
void virtq_kick(struct virtq *q);
/* A chain that came back, which may be any number: false: none. */
bool virtq_take(struct virtq *q, struct virtq_used *u);
/* Wait for the next that comes back: first looking, for most requests take a microsecond or some,
 * then halted. The whole program waits. false: the device is broken. */
bool virtq_wait(struct virtq *q, uint32_t *head);
/* For one request at a time: add, kick, wait. */
bool virtq_request(struct virtq *q, unsigned head);

#endif
