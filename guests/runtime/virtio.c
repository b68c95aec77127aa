/* virtio-mmio, driver side: registers and rings. */
#include "guests/runtime/virtio.h"
#include "guests/runtime/process.h"
#include "guests/runtime/standalone.h"

enum {
    REG_MAGIC = 0x000,
    REG_VERSION = 0x004,
    REG_ID = 0x008,
    REG_FEATURES = 0x010,
    REG_FEATURES_SEL = 0x014,
    REG_DRIVER = 0x020,
    REG_DRIVER_SEL = 0x024,
    REG_QUEUE_SEL = 0x030,
    REG_QUEUE_MAX = 0x034,
    REG_QUEUE_SIZE = 0x038,
    REG_QUEUE_READY = 0x044,
    REG_NOTIFY = 0x050,
    REG_INTERRUPT = 0x060,
    REG_INTERRUPT_ACK = 0x064,
    REG_STATUS = 0x070,
    REG_DESC = 0x080,
    REG_AVAIL = 0x090,
    REG_USED = 0x0a0,
    REG_CONFIG = 0x100
};
enum { NO_INTERRUPT = 1 }; /* of the available ring's flags */
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64 };

#define MAGIC      0x74726976u
#define SLOT       0x1000u
#define SLOTS      512u
#define DEVICES_AT 4u /* entry of image_pd: 2 MiB of device registers */
#define LOOKS      64u
#define LOOK_NS    100000u
#define NAP_NS     10000000u

static uint32_t get(const struct virtio *d, unsigned reg)
{
    return d->reg[reg / 4];
}

static void set(const struct virtio *d, unsigned reg, uint32_t v)
{
    d->reg[reg / 4] = v;
}

static void set64(const struct virtio *d, unsigned reg, uint64_t v)
{
    set(d, reg, (uint32_t)v);
    set(d, reg + 4, (uint32_t)(v >> 32));
}

bool virtio_find(struct virtio *d, uint32_t id, unsigned nth)
{
    image_pd[DEVICES_AT] = boot.virtio_base | 0x93 | 1ull << 63; /* P, W, PCD, PS, NX */
    __asm__ volatile("" : : : "memory");
    for (unsigned i = 0; i < least(boot.virtio_count, SLOTS); i++) {
        uint64_t at = standalone_device && !boot.hypercall_port ? standalone_device(i) : i * SLOT;

        d->reg = (volatile uint32_t *)(KIMAGE + DEVICES_AT * (2ull << 20) + at);
        d->slot = i;
        if (get(d, REG_MAGIC) == MAGIC && get(d, REG_VERSION) == 2 && get(d, REG_ID) == id &&
            !nth--)
            return true;
    }
    d->reg = NULL;
    return false;
}

bool virtio_start(struct virtio *d, uint64_t wanted, uint64_t *got)
{
    uint64_t features = 0;

    set(d, REG_STATUS, 0);
    set(d, REG_STATUS, ACKNOWLEDGE | DRIVER);
    wanted |= VIRTIO_VERSION_1;
    for (unsigned half = 0; half < 2; half++) {
        set(d, REG_FEATURES_SEL, half);
        uint32_t both = get(d, REG_FEATURES) & (uint32_t)(wanted >> 32 * half);

        features |= (uint64_t)both << 32 * half;
        set(d, REG_DRIVER_SEL, half);
        set(d, REG_DRIVER, both);
    }
    set(d, REG_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    if (got)
        *got = features;
    return features & VIRTIO_VERSION_1 && get(d, REG_STATUS) & FEATURES_OK;
}

/* The IOAPIC's entry of its line: fixed, edge, to CPU 0 (82093AA 3.2.4). */
void virtio_interrupts(const struct virtio *d, unsigned vector)
{
    enum { IOAPIC_AT = 5, SELECT = 0, WINDOW = 4, REDIRECTION = 0x10 };
    volatile uint32_t *io = (volatile uint32_t *)(KIMAGE + IOAPIC_AT * (2ull << 20));
    unsigned gsi = boot.virtio_gsi[d->slot];

    image_pd[IOAPIC_AT] = 0xfec00000 | 0x93 | 1ull << 63;
    __asm__ volatile("" : : : "memory");
    io[SELECT] = REDIRECTION + 2 * gsi + 1;
    io[WINDOW] = 0;
    io[SELECT] = REDIRECTION + 2 * gsi;
    io[WINDOW] = vector;
}

void virtio_interrupted(const struct virtio *d)
{
    if (!boot.hypercall_port)
        set(d, REG_INTERRUPT_ACK, get(d, REG_INTERRUPT));
}

void virtio_go(struct virtio *d)
{
    set(d, REG_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

uint32_t virtio_config(const struct virtio *d, unsigned at)
{
    return get(d, REG_CONFIG + at);
}

bool virtio_broken(const struct virtio *d)
{
    return get(d, REG_STATUS) & NEEDS_RESET;
}

bool virtio_queue(struct virtio *d, struct virtq *q, uint16_t index, uint16_t size, bool interrupts)
{
    char *page = kalloc(PAGE);

    set(d, REG_QUEUE_SEL, index);
    if (!page || size > VIRTQ_MOST || get(d, REG_QUEUE_MAX) < size) {
        kfree(page, PAGE);
        return false;
    }
    *q = (struct virtq){.device = d, .index = index, .size = size};
    q->desc = (struct virtq_desc *)page;
    q->avail = (uint16_t *)(page + size * sizeof(struct virtq_desc));
    q->used = q->avail + 2 + ((size + 1u) & ~1u);
    q->interrupts = interrupts;
    q->avail[0] = interrupts ? 0 : NO_INTERRUPT;
    set(d, REG_QUEUE_SIZE, size);
    set64(d, REG_DESC, kpa(page));
    set64(d, REG_AVAIL, kpa((const void *)q->avail));
    set64(d, REG_USED, kpa((const void *)q->used));
    set(d, REG_QUEUE_READY, 1);
    return true;
}

void virtq_put(struct virtq *q, unsigned i, const void *at, uint64_t len, unsigned flags)
{
    q->desc[i] = (struct virtq_desc){kpa(at), (uint32_t)len, (uint16_t)flags, (uint16_t)(i + 1)};
}

void virtq_add(struct virtq *q, unsigned head)
{
    q->avail[2 + q->added % q->size] = (uint16_t)head;
    __asm__ volatile("" : : : "memory"); /* entry before index: x86 keeps the order of stores */
    q->avail[1] = ++q->added;
}

void virtq_kick(struct virtq *q)
{
    __asm__ volatile("mfence" : : : "memory"); /* index before the device's wish not to be told */
    if (!(q->used[0] & 1))
        set(q->device, REG_NOTIFY, q->index);
}

bool virtq_take(struct virtq *q, struct virtq_used *u)
{
    if (q->seen == q->used[1])
        return false;
    __asm__ volatile("" : : : "memory");
    copy(u, (const char *)q->used + 4 + q->seen % q->size * sizeof *u, sizeof *u);
    q->seen++;
    return true;
}

/* Nothing for some time: the host is busy with others, or with a disk. Halt until the device says.
 */
static void halt(struct virtq *q)
{
    if (!q->interrupts)
        virtio_interrupts(q->device, VECTOR_REQUEST);
    q->interrupts = true;
    q->avail[0] = 0;
    __asm__ volatile("mfence" : : : "memory"); /* the wish before the look */
    if (q->seen == q->used[1]) {
        timer_arm(clock_ns() + NAP_NS);
        cpu_idle();
    }
    virtio_interrupted(q->device);
    q->avail[0] = NO_INTERRUPT;
    thread_timers_changed();
}

bool virtq_wait(struct virtq *q, uint32_t *head)
{
    uint64_t from = 0;
    struct virtq_used u;

    for (unsigned i = 1; !virtq_take(q, &u); i++) {
        __asm__ volatile("pause" : : : "memory");
        if (i % LOOKS)
            continue;
        if (!from)
            from = clock_ns();
        if (clock_ns() - from < LOOK_NS)
            continue;
        if (virtio_broken(q->device))
            return false;
        halt(q);
    }
    *head = u.id;
    return true;
}

bool virtq_request(struct virtq *q, unsigned head)
{
    uint32_t any;

    virtq_add(q, head);
    virtq_kick(q);
    return virtq_wait(q, &any);
}
