/*
 * Virtio devices and their bus: virtio-mmio version 2 (VIRTIO 1.2 §4.2) in fixed slots.
 *
 * This room: the transport (mmio.c), rings (virtq.h), asynchronous I/O (io.h) and one file a
 * device. It may call paging/, vcpu/irq.h and vcpu/kvm/kvm.h's public part; never monitor/.
 *
 * Threads. A device is made on the main thread before the guest runs (its create function opens
 * files, may start children, and may fail with words for the user). Everything after that, every
 * function of struct virtio_ops, runs on the I/O thread, one at a time: a device needs no lock and
 * must not block (no blocking read, no sleep; open/stat of local files is tolerated in fs).
 *
 * vCPU threads come only as far as mmio.c. They hold dev->lock there for the registers and the
 * configuration bytes; the device changes the latter by virtio_config_set() only. What needs the
 * device (start, reset, configuration writes) is handed to the I/O thread, and the vCPU waits.
 *
 * Reset at any moment: the transport stops all queues (virtq.h: dead queues are harmless), calls
 * reset(), and lets the guest go on when no operation that touches guest memory is in flight any
 * more. For that a device brackets each such operation with virtio_hold() and virtio_release().
 */
#ifndef VIRTIO_VIRTIO_H
#define VIRTIO_VIRTIO_H

#include <pthread.h>
#include "vcpu/vcpu.h"
#include "virtio/io.h"
#include "virtio/virtq.h"

/* Slot n: one page at VIRTIO_BASE + n * 4 KiB, one GSI (edge): 5-7, 10-23 (8 and 9 are the clock's
 * and ACPI's). */
#define VIRTIO_BASE       0xd0000000u
#define VIRTIO_SLOT_SIZE  0x1000u
#define VIRTIO_SLOTS      17u
#define VIRTIO_QUEUES_MAX 32u

/* Device IDs, VIRTIO 1.2 §5 */
enum {
    VIRTIO_ID_NET = 1,
    VIRTIO_ID_BLOCK = 2,
    VIRTIO_ID_CONSOLE = 3,
    VIRTIO_ID_RNG = 4,
    VIRTIO_ID_BALLOON = 5,
    VIRTIO_ID_VSOCK = 19,
    VIRTIO_ID_FS = 26,
};

/* Feature bits that are the transport's: VERSION_1, INDIRECT_DESC and EVENT_IDX are offered for
 * every device without being asked for. */
#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX     (1ull << 29)
#define VIRTIO_F_VERSION_1     (1ull << 32)

struct virtio_dev;

struct virtio_ops {
    const char *name; /* "blk": statistics are named by it and the instance, blk0 */
    uint16_t id;
    /* Once, before the seccomp filter: io_file_add() its descriptors, start permanent polls. NULL:
     * nothing to do. 0 or -errno (the run ends with a line). */
    int (*attach)(struct virtio_dev *dev);
    /* DRIVER_OK: dev->negotiated is final, the queues the driver enabled are live. May be NULL.
     * notify() of every live queue follows. */
    void (*start)(struct virtio_dev *dev);
    /* There may be chains in queue q: pop until there are none, or until the device cannot take
     * more (then it looks again itself: virtio_look_again() when it can). Also called without a
     * notification, whenever the I/O thread looks by itself. */
    void (*notify)(struct virtio_dev *dev, unsigned q);
    /* Back to the state before start(): io_cancel() what is in flight, forget popped chains. The
     * queues are dead already. Returns without waiting; see virtio_hold(). Also called for a device
     * that broke, when the guest gets around to resetting it, and never before start(). */
    void (*reset)(struct virtio_dev *dev);
    /* The driver wrote size bytes (1, 2, 4) at offset off of the configuration; bounded to
     * config_len already. NULL: not writable, ignored. */
    void (*config_write)(struct virtio_dev *dev, uint32_t off, unsigned size, uint32_t val);
    /* The machine ends (the process follows): last words to peers; must be quick. May be NULL. */
    void (*stop)(struct virtio_dev *dev);
};

struct virtio_bus;

/* A number of the device's own for --stats. */
struct virtio_counter {
    const char *name; /* NULL ends the list */
    const char
        *each; /* "frame": notifications and interrupts are shown per each as well; or NULL */
    uint64_t value;
};

/* Embed it as the first member of the device's own struct. */
struct virtio_dev {
    /* --- set by the device's create function --- */
    const struct virtio_ops *ops;
    uint64_t features; /* device-specific bits offered */
    unsigned nqueues;
    struct virtq vq[VIRTIO_QUEUES_MAX]; /* size_max, gather */
    uint8_t *config;                    /* the configuration space, in the device's own struct */
    uint32_t config_len;
    const char *label; /* for messages: "disk 'x.img'"; lives as long as the device */
    const struct virtio_counter *counters; /* shown behind the transport's, or NULL */

    /* --- valid for the device from attach() on --- */
    struct virtio_bus *bus;
    struct io *io;
    struct ram *ram;
    uint64_t negotiated; /* from start() to reset() */
    unsigned instance;   /* of its kind, from 0 */

    /* --- the transport's (mmio.c) --- */
    unsigned slot, gsi;
    pthread_mutex_t lock; /* registers below, and config[] */
    pthread_cond_t ready; /* request becomes 0 */
    uint32_t status, features_sel, driver_features_sel, queue_sel, generation;
    uint64_t driver_features;
    struct virtq_regs {
        uint32_t size, ready;
        bool retired; /* was taken back: not again before a reset */
        uint64_t desc, avail, used;
    } regs[VIRTIO_QUEUES_MAX];
    _Atomic uint32_t interrupt_status;
    _Atomic uint32_t bells;   /* a bit a queue: notified */
    _Atomic uint32_t request; /* what a vCPU waits for */
    uint32_t req_off, req_size, req_val;
    uint32_t held;
    uint32_t look; /* a bit a queue: virtio_look_again() */
    bool started, broken, resetting;
    int event_fd; /* kvm: the ioeventfd of its doorbell; -1 */
    struct io_op event_op;
    struct {
        uint64_t interrupts, config_interrupts, broken, resets, mmio_reads, mmio_writes;
    } count;
};

/* --- for devices, on the I/O thread --- */

/* An operation that reads or writes guest memory after the current call has returned begins / has
 * ended (its io_done callback has been called). A reset completes when none is held. */
void virtio_hold(struct virtio_dev *dev);
void virtio_release(struct virtio_dev *dev);

/* Change bytes of the configuration: generation, configuration interrupt (§4.2.2). */
void virtio_config_set(struct virtio_dev *dev, uint32_t off, const void *src, uint32_t len);

/* Call notify(dev, q) again at the end of this pass: there is room now for what was left. */
void virtio_look_again(struct virtio_dev *dev, unsigned q);

/* The driver did what the device cannot go on from: DEVICE_NEEDS_RESET. Queues go dead. why:
 * static text, shown at -v and counted. */
void virtio_broken(struct virtio_dev *dev, const char *why);

static inline bool virtio_has(const struct virtio_dev *dev, uint64_t feature)
{
    return (dev->negotiated & feature) != 0;
}

/* --- how a device comes to be ---
 * Each device file exports
 *     int NAME_create(const char *arg, struct virtio_dev **dev, char *err, size_t len);
 * arg: the option's value as the user typed it ("x.img,ro,serial=A"), NULL for an option without a
 * value. 0, or -errno with one clause for the user in err, in the form "what: why; what to do"
 * (the caller prints "mayfly: --OPTION ARG: " before it). Main thread, before the guest, without
 * seccomp. Memory: calloc() once a device. monitor/devices.c has the table of options: add a row,
 * and the prototype below. */
int blk_create(const char *arg, struct virtio_dev **dev, char *err, size_t len);
int net_create(const char *arg, struct virtio_dev **dev, char *err, size_t len);
int vsock_create(const char *arg, struct virtio_dev **dev, char *err, size_t len);
int fs_create(const char *arg, struct virtio_dev **dev, char *err, size_t len);
/* What the share dev serves: the directory's descriptor, the device's own. */
int fs_directory(const struct virtio_dev *dev, bool *read_only);
/* Where a program finds it (--share DIR:/PATH), or NULL. */
const char *fs_path(const struct virtio_dev *dev);
int console_create(const char *arg, struct virtio_dev **dev, char *err, size_t len);
int rng_create(const char *arg, struct virtio_dev **dev, char *err, size_t len);
/* Bytes that the balloon dev asks the guest for from the start. */
uint64_t balloon_size(const struct virtio_dev *dev);
int balloon_create(const char *arg, struct virtio_dev **dev, char *err, size_t len);

/* --- the bus, for the monitor --- */
struct virtio_bus {
    struct vm_cpus *vm;
    struct ram *ram;
    struct io *_Atomic io; /* NULL until the I/O thread has made it */
    unsigned ndev;
    struct virtio_dev *dev[VIRTIO_SLOTS];
    _Atomic uint32_t bells; /* a bit a device: something to look at */
    /* sched.c: the I/O thread waits awake for requests of queues that linger; it may (there is a
     * second host CPU); such a queue had one in this pass; when it last had one, ns. */
    bool lingering, may_linger, served;
    uint64_t served_at;
    uint64_t linger_from, linger_pause; /* not before that; how long the last pause was, ns */
    int schedstat;                      /* /proc/thread-self/schedstat; -1 */
    uint64_t looked_at, waited; /* the last look; how long we had waited for a CPU then, ns */
    _Atomic uint64_t rung_at;   /* when a vCPU last notified such a queue, ns */
    void (*warn)(const char *label, const char *why); /* a broken device; -v */
    /* vcpu/kvm/kvm.h's function under the kvm engine, NULL under the others. */
    int (*ioeventfd)(struct vm_cpus *vm, gpa_t addr, unsigned len, int fd, bool remove);
};

/* Before the guest runs, main thread. -ENOSPC: no slot is free. */
int virtio_bus_add(struct virtio_bus *bus, struct virtio_dev *dev);
unsigned virtio_slot_gsi(unsigned slot);
static inline gpa_t virtio_slot_base(unsigned slot)
{
    return VIRTIO_BASE + slot * VIRTIO_SLOT_SIZE;
}

/* vCPU threads: an access of 1, 2, 4 or 8 bytes at gpa. false: no device is there. */
bool virtio_mmio_read(struct virtio_bus *bus, gpa_t gpa, unsigned size, uint64_t *val);
bool virtio_mmio_write(struct virtio_bus *bus, gpa_t gpa, unsigned size, uint64_t val);

/* I/O thread, once, after io_create() and before io_enable(). 0 or -errno; *which: the device. */
int virtio_bus_attach(struct virtio_bus *bus, struct io *io, const struct virtio_dev **which);
/* I/O thread, once a pass, before io_wait(): looks at what was notified, publishes, interrupts,
 * re-arms. Returns when (CLOCK_MONOTONIC ns) it has to be called again at the latest; 0 never, 1 at
 * once. The loop then calls io_doze(), looks at bus->bells and its own flags, and sleeps only if
 * all are 0. */
uint64_t virtio_bus_run(struct virtio_bus *bus);
void virtio_bus_stop(struct virtio_bus *bus);

#endif
