/*
 * virtio-fs, driver side: finds the device among the virtio-mmio slots (VIRTIO 1.2 §4.2) and
 * carries one FUSE request at a time. The caller waits: first looking, for most requests take a few
 * microseconds, then halted for a tenth of a millisecond at a time.
 */
#include "guests/runtime/hostfs.h"
#include <linux/fuse.h>
#include "guests/runtime/process.h"

enum {
    REG_MAGIC = 0x000,
    REG_VERSION = 0x004,
    REG_ID = 0x008,
    REG_FEATURES_SEL = 0x014,
    REG_DRIVER = 0x020,
    REG_DRIVER_SEL = 0x024,
    REG_QUEUE_SEL = 0x030,
    REG_QUEUE_SIZE = 0x038,
    REG_QUEUE_READY = 0x044,
    REG_NOTIFY = 0x050,
    REG_STATUS = 0x070,
    REG_DESC = 0x080,
    REG_AVAIL = 0x090,
    REG_USED = 0x0a0
};
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64 };

#define MAGIC      0x74726976u
#define ID_FS      26u
#define SLOT       0x1000u
#define DEVICES_AT 4u /* entry of image_pd: 2 MiB of device registers */
#define LOOKS      20000u
#define NAP_NS     100000u

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};
enum { NEXT = 1, WRITE = 2, QUEUE = 8, REQUESTS = 1 };

extern uint64_t image_pd[];
static struct {
    struct descriptor desc[QUEUE] __attribute__((aligned(16)));
    struct {
        uint16_t flags, index, ring[QUEUE];
    } avail;
    struct {
        uint16_t flags, index;
        struct {
            uint32_t id, length;
        } ring[QUEUE];
    } used __attribute__((aligned(4)));
} ring[2];
static char request[2 * PAGE] __attribute__((aligned(4096), section(".bss.pages")));
static char reply[PAGE] __attribute__((aligned(4096), section(".bss.pages")));
static volatile uint32_t *device;

static void set(unsigned reg, uint32_t v)
{
    device[reg / 4] = v;
}

static void set64(unsigned reg, uint64_t v)
{
    set(reg, (uint32_t)v);
    set(reg + 4, (uint32_t)(v >> 32));
}

static bool find(void)
{
    image_pd[DEVICES_AT] = boot.virtio_base | 0x93 | 1ull << 63; /* P, W, PCD, PS, NX */
    for (uint64_t i = 0; i < boot.virtio_count; i++) {
        device = (volatile uint32_t *)(KIMAGE + DEVICES_AT * (2ull << 20) + i * SLOT);
        if (device[REG_MAGIC / 4] == MAGIC && device[REG_VERSION / 4] == 2 &&
            device[REG_ID / 4] == ID_FS)
            return true;
    }
    return false;
}

bool virtiofs_init(void)
{
    if (!boot.virtio_count || boot.virtio_count > 512 || !find())
        return false;
    set(REG_STATUS, 0);
    set(REG_STATUS, ACKNOWLEDGE | DRIVER);
    set(REG_DRIVER_SEL, 0);
    set(REG_DRIVER, 0);
    set(REG_DRIVER_SEL, 1);
    set(REG_DRIVER, 1); /* VERSION_1 */
    set(REG_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    if (!(device[REG_STATUS / 4] & FEATURES_OK))
        return false;
    for (unsigned q = 0; q < 2; q++) {
        set(REG_QUEUE_SEL, q);
        set(REG_QUEUE_SIZE, QUEUE);
        set64(REG_DESC, kpa(ring[q].desc));
        set64(REG_AVAIL, kpa(&ring[q].avail));
        set64(REG_USED, kpa(&ring[q].used));
        ring[q].avail.flags = 1; /* no interrupts: we look */
        set(REG_QUEUE_READY, 1);
    }
    set(REG_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    return true;
}

static void put(unsigned i, const void *at, uint64_t len, unsigned flags)
{
    ring[REQUESTS].desc[i] =
        (struct descriptor){kpa(at), (uint32_t)len, (uint16_t)flags, (uint16_t)(i + 1)};
}

static bool wait(uint16_t index)
{
    volatile uint16_t *used = &ring[REQUESTS].used.index;

    for (unsigned i = 0; *used != index; i++) {
        __asm__ volatile("pause" : : : "memory");
        if (i < LOOKS)
            continue;
        if (device[REG_STATUS / 4] & NEEDS_RESET)
            return false;
        timer_arm(clock_ns() + NAP_NS);
        cpu_idle();
    }
    thread_timers_changed();
    __asm__ volatile("" : : : "memory");
    return true;
}

int64_t fuse_call(const struct fuse_call *c)
{
    static uint64_t unique;
    struct fuse_in_header h = {.len = (uint32_t)(sizeof h + c->in_len + c->name_len + c->data_in),
                               .opcode = c->op,
                               .unique = ++unique,
                               .nodeid = c->node,
                               .pid = 1};
    uint64_t n = sizeof h;
    unsigned d = 0;

    if (c->in_len + c->name_len + n > sizeof request)
        return -ENAMETOOLONG;
    copy(request, &h, n);
    copy(request + n, c->in, c->in_len);
    n += c->in_len;
    copy(request + n, c->name, c->name_len);
    n += c->name_len;
    put(d++, request, n, NEXT);
    if (c->data_in)
        put(d++, c->data, c->data_in, NEXT);
    put(d++, reply, sizeof(struct fuse_out_header) + c->out_len, WRITE | (c->data_out ? NEXT : 0));
    if (c->data_out)
        put(d++, c->data, c->data_out, WRITE);
    ring[REQUESTS].avail.ring[ring[REQUESTS].avail.index % QUEUE] = 0;
    __asm__ volatile("mfence" : : : "memory");
    uint16_t index = (uint16_t)(ring[REQUESTS].avail.index + 1);

    *(volatile uint16_t *)&ring[REQUESTS].avail.index = index;
    __asm__ volatile("mfence" : : : "memory");
    set(REG_NOTIFY, REQUESTS);
    if (!wait(index))
        return -EIO;
    struct fuse_out_header o;

    copy(&o, reply, sizeof o);
    if (o.error)
        return o.error < 0 && o.error > -4096 ? o.error : -EIO;
    if (o.len < sizeof o || o.len > sizeof o + c->out_len + c->data_out)
        return -EIO;
    copy(c->out, reply + sizeof o, c->out_len);
    return o.len - (int64_t)sizeof o - (c->data_out ? (int64_t)c->out_len : 0);
}
