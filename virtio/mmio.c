/*
 * The virtio-mmio transport, version 2 (VIRTIO 1.2 §4.2): the registers as vCPU threads see them,
 * and the requests that the I/O thread serves for them.
 */
#include "virtio/virtio.h"

#include <string.h>
#include <unistd.h>
#include "virtio/bus.h"

/* Registers, §4.2.2 table 4.1 */
enum {
    R_MAGIC = 0x000,
    R_VERSION = 0x004,
    R_DEVICE_ID = 0x008,
    R_VENDOR_ID = 0x00c,
    R_DEVICE_FEATURES = 0x010,
    R_DEVICE_FEATURES_SEL = 0x014,
    R_DRIVER_FEATURES = 0x020,
    R_DRIVER_FEATURES_SEL = 0x024,
    R_QUEUE_SEL = 0x030,
    R_QUEUE_SIZE_MAX = 0x034,
    R_QUEUE_SIZE = 0x038,
    R_QUEUE_READY = 0x044,
    R_QUEUE_NOTIFY = VIRTIO_QUEUE_NOTIFY,
    R_INTERRUPT_STATUS = 0x060,
    R_INTERRUPT_ACK = 0x064,
    R_STATUS = 0x070,
    R_QUEUE_DESC_LOW = 0x080,
    R_QUEUE_DESC_HIGH = 0x084,
    R_QUEUE_AVAIL_LOW = 0x090,
    R_QUEUE_AVAIL_HIGH = 0x094,
    R_QUEUE_USED_LOW = 0x0a0,
    R_QUEUE_USED_HIGH = 0x0a4,
    R_SHM_LEN_LOW = 0x0b0,
    R_SHM_BASE_HIGH = 0x0bc,
    R_CONFIG_GENERATION = 0x0fc,
    R_CONFIG = 0x100,
};
#define MAGIC     0x74726976u /* "virt" */
#define VENDOR_ID 0x4c464d59u /* "YMFL" */

/* Device status, §2.1 */
#define S_DRIVER_OK   4u
#define S_FEATURES_OK 8u
#define S_NEEDS_RESET 64u
#define S_DRIVER      (1u | 2u | S_DRIVER_OK | S_FEATURES_OK | 128u)

#define ISR_QUEUE  1u
#define ISR_CONFIG 2u

#define TRANSPORT_FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX)

/* --- interrupts and requests --- */

void virtio_interrupt(struct virtio_dev *dev, bool config)
{
    atomic_fetch_or(&dev->interrupt_status, config ? ISR_CONFIG : ISR_QUEUE);
    if (config)
        dev->count.config_interrupts++;
    else
        dev->count.interrupts++;
    irq_pulse(dev->bus->vm, dev->gsi);
}

static void ring_bell(struct virtio_dev *dev)
{
    struct virtio_bus *bus = dev->bus;

    atomic_fetch_or(&bus->bells, 1u << dev->slot);
    struct io *io = atomic_load(&bus->io);

    if (io)
        io_wake(io);
}

/* One request at a time: another CPU's comes first. dev->lock is held, and let go meanwhile. */
static void wait_turn(struct virtio_dev *dev)
{
    while (atomic_load(&dev->request))
        pthread_cond_wait(&dev->ready, &dev->lock);
}

/* Have the I/O thread do something and wait until it has. dev->lock as above. */
static void ask(struct virtio_dev *dev, enum virtio_request what)
{
    wait_turn(dev);
    atomic_store(&dev->request, what);
    ring_bell(dev);
    while (atomic_load(&dev->request) == what)
        pthread_cond_wait(&dev->ready, &dev->lock);
}

static void answer(struct virtio_dev *dev)
{
    pthread_mutex_lock(&dev->lock);
    atomic_store(&dev->request, REQ_NONE);
    pthread_cond_broadcast(&dev->ready);
    pthread_mutex_unlock(&dev->lock);
}

static void stop_queues(struct virtio_dev *dev)
{
    for (unsigned q = 0; q < dev->nqueues; q++)
        virtq_stop(&dev->vq[q]);
    dev->look = 0;
}

void virtio_broken(struct virtio_dev *dev, const char *why)
{
    if (dev->broken || dev->resetting)
        return;
    dev->broken = true;
    dev->count.broken++;
    stop_queues(dev);
    if (dev->bus->warn)
        dev->bus->warn(dev->label, why);
    pthread_mutex_lock(&dev->lock);
    bool driving = dev->status & S_DRIVER_OK;

    dev->status |= S_NEEDS_RESET;
    pthread_mutex_unlock(&dev->lock);
    if (driving)
        virtio_interrupt(dev, true); /* §2.1.2 */
}

/* DRIVER_OK was written, or a queue was enabled after it: start the queues that are ready. */
static void start_device(struct virtio_dev *dev)
{
    struct virtq_regs regs[VIRTIO_QUEUES_MAX];
    bool first = !dev->started;

    pthread_mutex_lock(&dev->lock);
    memcpy(regs, dev->regs, sizeof regs);
    dev->negotiated = dev->driver_features;
    pthread_mutex_unlock(&dev->lock);
    if (dev->broken)
        return;
    dev->started = true;
    uint32_t fresh = 0;

    for (unsigned q = 0; q < dev->nqueues; q++) {
        struct virtq *vq = &dev->vq[q];
        const struct virtq_regs *r = &regs[q];

        if (!r->ready || vq->live)
            continue;
        if (r->size > VIRTQ_SIZE_MAX ||
            virtq_start(vq, dev->ram, (uint16_t)r->size, r->desc, r->avail, r->used,
                        dev->negotiated & VIRTIO_F_EVENT_IDX)) {
            virtio_broken(dev, "a ring that is misaligned or outside RAM");
            return;
        }
        fresh |= 1u << q;
    }
    if (first && dev->ops->start)
        dev->ops->start(dev);
    dev->look |= fresh;
}

/* The driver took a queue back without a reset of the device. What is in flight from it ends
 * without a trace in its rings. */
static void stop_queue(struct virtio_dev *dev)
{
    uint32_t q = dev->req_off;

    if (q < dev->nqueues)
        virtq_stop(&dev->vq[q]);
}

static void reset_begin(struct virtio_dev *dev)
{
    stop_queues(dev);
    dev->count.resets++;
    dev->resetting = true;
    if (dev->started)
        dev->ops->reset(dev);
}

static void reset_end(struct virtio_dev *dev)
{
    dev->resetting = dev->started = dev->broken = false;
    dev->negotiated = 0;
    atomic_store(&dev->bells, 0);
    pthread_mutex_lock(&dev->lock);
    dev->status = 0;
    dev->driver_features = 0;
    dev->features_sel = dev->driver_features_sel = dev->queue_sel = 0;
    memset(dev->regs, 0, sizeof dev->regs);
    atomic_store(&dev->interrupt_status, 0);
    pthread_mutex_unlock(&dev->lock);
    answer(dev);
}

void virtio_serve(struct virtio_dev *dev)
{
    if (dev->resetting) {
        if (!dev->held)
            reset_end(dev);
        return;
    }
    switch (atomic_load(&dev->request)) {
    case REQ_START:
        start_device(dev);
        answer(dev);
        break;
    case REQ_STOP_QUEUE:
        stop_queue(dev);
        answer(dev);
        break;
    case REQ_RESET:
        reset_begin(dev);
        if (!dev->held)
            reset_end(dev);
        break;
    case REQ_CONFIG:
        if (dev->ops->config_write)
            dev->ops->config_write(dev, dev->req_off, dev->req_size, dev->req_val);
        answer(dev);
        break;
    default:
        break;
    }
}

void virtio_hold(struct virtio_dev *dev)
{
    dev->held++;
}

void virtio_release(struct virtio_dev *dev)
{
    if (dev->held && !--dev->held && dev->resetting)
        atomic_fetch_or(&dev->bus->bells, 1u << dev->slot);
}

void virtio_config_set(struct virtio_dev *dev, uint32_t off, const void *src, uint32_t len)
{
    if (off > dev->config_len || len > dev->config_len - off)
        return;
    pthread_mutex_lock(&dev->lock);
    memcpy(dev->config + off, src, len);
    dev->generation++;
    bool driving = dev->status & S_DRIVER_OK;

    pthread_mutex_unlock(&dev->lock);
    if (driving)
        virtio_interrupt(dev, true);
}

/* --- registers: dev->lock is held --- */

static uint64_t offered(const struct virtio_dev *dev)
{
    return dev->features | TRANSPORT_FEATURES;
}

static uint32_t half(uint64_t v, uint32_t sel)
{
    return sel > 1 ? 0 : (uint32_t)(v >> sel * 32);
}

static void set_half(uint64_t *v, bool high, uint32_t val)
{
    *v = high ? (*v & 0xffffffff) | (uint64_t)val << 32 : (*v & ~0xffffffffull) | val;
}

static uint32_t reg_read(struct virtio_dev *dev, uint32_t off)
{
    static const struct virtq_regs none;
    bool have = dev->queue_sel < dev->nqueues;
    const struct virtq_regs *r = have ? &dev->regs[dev->queue_sel] : &none;

    switch (off) {
    case R_MAGIC:
        return MAGIC;
    case R_VERSION:
        return 2;
    case R_DEVICE_ID:
        return dev->ops->id;
    case R_VENDOR_ID:
        return VENDOR_ID;
    case R_DEVICE_FEATURES:
        return half(offered(dev), dev->features_sel);
    case R_QUEUE_SIZE_MAX:
        if (!have)
            return 0;
        return dev->vq[dev->queue_sel].size_max ? dev->vq[dev->queue_sel].size_max : 256;
    case R_QUEUE_READY:
        return r->ready;
    case R_INTERRUPT_STATUS:
        return atomic_load(&dev->interrupt_status);
    case R_STATUS:
        return dev->status;
    case R_CONFIG_GENERATION:
        return dev->generation;
    default:
        /* No shared memory region: length and base read as all-ones (§4.2.2). */
        return off >= R_SHM_LEN_LOW && off <= R_SHM_BASE_HIGH ? ~0u : 0;
    }
}

static void status_write(struct virtio_dev *dev, uint32_t val)
{
    uint32_t fresh = val & S_DRIVER & ~dev->status;

    if (!val) {
        ask(dev, REQ_RESET);
        return;
    }
    /* A driver must not clear bits (§2.1.1): what it leaves out stays. A bit that was not offered
     * is not negotiated, no more: QEMU and Firecracker drop it, and Unikraft takes
     * NET_F_GUEST_ANNOUNCE of every device and never looks whether FEATURES_OK stayed. A driver
     * that leaves VERSION_1 out we MAY refuse (§6.2); OSv does, insists on FEATURES_OK and uses the
     * layouts of version 1, which are all that this transport has. */
    if (fresh & S_FEATURES_OK)
        dev->driver_features &= offered(dev);
    if (fresh & S_DRIVER_OK && !((dev->status | fresh) & S_FEATURES_OK))
        fresh &= ~S_DRIVER_OK;
    dev->status |= fresh;
    if (fresh & S_DRIVER_OK)
        ask(dev, REQ_START);
}

static void ready_write(struct virtio_dev *dev, struct virtq_regs *r, uint32_t val)
{
    if (val & 1 && !r->ready && !r->retired) {
        r->ready = 1;
        if (dev->status & S_DRIVER_OK)
            ask(dev, REQ_START);
    } else if (!(val & 1) && r->ready) {
        r->ready = 0;
        if (dev->status & S_DRIVER_OK) {
            r->retired = true; /* what is in flight from it must not meet a new ring */
            uint32_t q = dev->queue_sel;

            wait_turn(dev);
            dev->req_off = q;
            ask(dev, REQ_STOP_QUEUE);
        }
    }
}

static void queue_write(struct virtio_dev *dev, uint32_t off, uint32_t val)
{
    if (dev->queue_sel >= dev->nqueues)
        return;
    struct virtq_regs *r = &dev->regs[dev->queue_sel];

    if (off == R_QUEUE_READY) {
        ready_write(dev, r, val);
        return;
    }
    /* A ring that is in use does not move. */
    if (r->ready)
        return;
    switch (off) {
    case R_QUEUE_SIZE:
        r->size = val;
        break;
    case R_QUEUE_DESC_LOW:
    case R_QUEUE_DESC_HIGH:
        set_half(&r->desc, off & 4, val);
        break;
    case R_QUEUE_AVAIL_LOW:
    case R_QUEUE_AVAIL_HIGH:
        set_half(&r->avail, off & 4, val);
        break;
    case R_QUEUE_USED_LOW:
    case R_QUEUE_USED_HIGH:
        set_half(&r->used, off & 4, val);
        break;
    }
}

static void reg_write(struct virtio_dev *dev, uint32_t off, uint32_t val)
{
    switch (off) {
    case R_DEVICE_FEATURES_SEL:
        dev->features_sel = val;
        break;
    case R_DRIVER_FEATURES:
        if (!(dev->status & S_FEATURES_OK) && dev->driver_features_sel < 2)
            set_half(&dev->driver_features, dev->driver_features_sel, val);
        break;
    case R_DRIVER_FEATURES_SEL:
        dev->driver_features_sel = val;
        break;
    case R_QUEUE_SEL:
        dev->queue_sel = val;
        break;
    case R_INTERRUPT_ACK:
        atomic_fetch_and(&dev->interrupt_status, ~val);
        break;
    case R_STATUS:
        status_write(dev, val);
        break;
    default:
        queue_write(dev, off, val);
    }
}

static uint64_t config_read(struct virtio_dev *dev, uint32_t off, unsigned size)
{
    uint64_t val = 0;

    if (off < dev->config_len)
        memcpy(&val, dev->config + off,
               dev->config_len - off < size ? dev->config_len - off : size);
    return val;
}

static void config_write(struct virtio_dev *dev, uint32_t off, unsigned size, uint32_t val)
{
    if (off >= dev->config_len || size > dev->config_len - off || size > 4)
        return;
    wait_turn(dev);
    dev->req_off = off;
    dev->req_size = size;
    dev->req_val = val;
    ask(dev, REQ_CONFIG);
}

/* --- the bus --- */

static struct virtio_dev *find(const struct virtio_bus *bus, gpa_t gpa)
{
    gpa_t slot = (gpa - VIRTIO_BASE) / VIRTIO_SLOT_SIZE;

    return gpa >= VIRTIO_BASE && slot < bus->ndev ? bus->dev[slot] : NULL;
}

bool virtio_mmio_read(struct virtio_bus *bus, gpa_t gpa, unsigned size, uint64_t *val)
{
    struct virtio_dev *dev = find(bus, gpa);
    uint32_t off = (uint32_t)gpa & (VIRTIO_SLOT_SIZE - 1);

    if (!dev)
        return false;
    pthread_mutex_lock(&dev->lock);
    dev->count.mmio_reads++;
    if (off >= R_CONFIG)
        *val = config_read(dev, off - R_CONFIG, size);
    else /* registers are read whole (§4.2.2.2) */
        *val = size == 4 && !(off & 3) ? reg_read(dev, off) : 0;
    pthread_mutex_unlock(&dev->lock);
    return true;
}

bool virtio_mmio_write(struct virtio_bus *bus, gpa_t gpa, unsigned size, uint64_t val)
{
    struct virtio_dev *dev = find(bus, gpa);
    uint32_t off = (uint32_t)gpa & (VIRTIO_SLOT_SIZE - 1);

    if (!dev)
        return false;
    if (off == R_QUEUE_NOTIFY) {
        uint32_t q = (uint32_t)val & 0xffff;

        if (q < dev->nqueues) {
            __atomic_fetch_add(&dev->vq[q].count.notifications, 1, __ATOMIC_RELAXED);
            atomic_fetch_or(&dev->bells, 1u << q);
            if (dev->vq[q].linger)
                atomic_store_explicit(&dev->bus->rung_at, io_now(), memory_order_relaxed);
            ring_bell(dev);
        }
        return true;
    }
    pthread_mutex_lock(&dev->lock);
    dev->count.mmio_writes++;
    if (off >= R_CONFIG)
        config_write(dev, off - R_CONFIG, size, (uint32_t)val);
    else if (size == 4 && !(off & 3))
        reg_write(dev, off, (uint32_t)val);
    pthread_mutex_unlock(&dev->lock);
    return true;
}
