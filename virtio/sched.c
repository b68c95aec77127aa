/*
 * The I/O thread's pass over the devices: what was notified is looked at, what was completed is
 * published, one interrupt a device, notifications asked for again.
 *
 * A queue is armed (the guest notifies) or active (it does not: somebody will look). A queue that
 * is given one request at a time is armed before every sleep and its completions go out at once. A
 * queue under load gathers: it stays active, is looked at every LOOK_NS, and its completions are
 * held back for as long as each look still finds something new, at most HOLD_NS. A quiet look means
 * that the guest waits for us: publish, interrupt, arm. How many requests it had out then is its
 * depth; for some batches to come the wait is over as soon as so many are done. So a stream costs
 * an interrupt and a notification for each batch that the guest submits, not for each request.
 *
 * Where the guest asks for one thing at a time (a file system), it waits for our being woken each
 * time: 10 us and more, for a call that takes one. So when such a request has come soon after the
 * last, we linger: the queue stays active, and we look for the next one for LINGER_NS before we
 * sleep. A look that was in vain ends that, until two requests come close together again. So what
 * it can cost is one LINGER_NS for each time that we sleep, and nothing in a guest that is idle.
 * On a host whose CPUs have other work a thread that waits awake loses its turn, and the guest with
 * it, where one that sleeps is run as soon as it is woken: so whoever takes our CPU away ends it
 * for some time, the longer the sooner it happens again.
 */
#include "virtio/bus.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#define LOOK_NS       50000u
#define PACE_LOOK_NS  100000u /* what a guest says under moderation waits that long at most */
#define PACE_QUIET_NS 250000u
#define PACE_STILL_NS 400000u
#define HOLD_NS       2000000u
#define QUIET         8u
#define LOAD_MAX      32u
#define BATCH_MIN     4u  /* requests at a time that are worth gathering */
#define PROBE         32u /* lone completions from one probe to the next */
#define TRUST         15u /* batches from one measurement of the depth to the next */
#define LINGER_NS     60000u
#define AWAKE_NS      200000u /* lingering, until the loop looks at what else there is */
#define TAKEN_NS      50000u  /* another thread had the CPU so long */
#define PAUSE_LEAST   2000000u
#define PAUSE_MOST    1000000000u

/* --- attaching --- */

static void on_eventfd(struct io_op *op, int res)
{
    struct virtio_dev *dev =
        (struct virtio_dev *)((char *)op - offsetof(struct virtio_dev, event_op));
    uint64_t count;

    if (res < 0 || !op->busy)
        return;
    if (!io_is_uring(dev->io))
        (void)!read(dev->event_fd, &count, sizeof count);
    dev->vq[0].count.notifications++;
    atomic_fetch_or(&dev->bells, ~0u);
    atomic_fetch_or(&dev->bus->bells, 1u << dev->slot);
}

/* With one host CPU the guest does not run while we look; where we cannot know that the CPU was
 * taken from us, we do not keep it. */
static bool can_linger(struct virtio_bus *bus)
{
    bool wanted = false;
    cpu_set_t host;

    for (unsigned i = 0; i < bus->ndev; i++)
        for (unsigned q = 0; q < bus->dev[i]->nqueues; q++)
            wanted |= bus->dev[i]->vq[q].linger;
    bus->schedstat = wanted ? open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC) : -1;
    return bus->schedstat >= 0 && !sched_getaffinity(0, sizeof host, &host) && CPU_COUNT(&host) > 1;
}

int virtio_bus_attach(struct virtio_bus *bus, struct io *io, const struct virtio_dev **which)
{
    bus->may_linger = can_linger(bus);
    for (unsigned i = 0; i < bus->ndev; i++) {
        struct virtio_dev *dev = bus->dev[i];
        int err = 0;

        *which = dev;
        dev->io = io;
        if (dev->event_fd >= 0) {
            int file = io_file_add(io, dev->event_fd, 0);

            if (file < 0)
                return file;
            dev->event_op.done = on_eventfd;
            io_poll(io, &dev->event_op, file, POLLIN, true);
        }
        if (dev->ops->attach)
            err = dev->ops->attach(dev);
        if (err)
            return err;
    }
    atomic_store(&bus->io, io);
    return 0;
}

void virtio_bus_stop(struct virtio_bus *bus)
{
    for (unsigned i = 0; i < bus->ndev; i++)
        if (bus->dev[i]->io && bus->dev[i]->ops->stop)
            bus->dev[i]->ops->stop(bus->dev[i]);
}

void virtio_look_again(struct virtio_dev *dev, unsigned q)
{
    if (q < dev->nqueues && !dev->resetting)
        dev->look |= 1u << q;
}

/* --- the pass --- */

/* Let the device take what is there. */
static void look(struct virtq *vq, bool again)
{
    struct virtio_dev *dev = vq->dev;

    vq->count.looks++;
    if (!virtq_has(vq) && !again)
        return;
    uint64_t had = vq->count.requests;

    if (vq->armed)
        virtq_disarm(vq);
    dev->ops->notify(dev, vq->index);
    dev->bus->served |= vq->linger && vq->count.requests != had;
}

static bool guest_is_idle(const struct vm_cpus *vm)
{
    for (unsigned i = 0; i < vm->nvcpu; i++)
        if (!atomic_load(&vm->vcpu[i]->futex))
            return false;
    return true;
}

/* Is it worth waiting for more? Then until when, in ns; else 0. */
static uint64_t gather(struct virtq *vq, uint64_t now)
{
    uint16_t popped = (uint16_t)(vq->next_avail - vq->last_avail);
    uint16_t done = (uint16_t)(vq->next_used - vq->last_used);
    /* Requests the guest has out, as far as it has not been told of their ends. */
    uint16_t out = (uint16_t)(vq->next_avail - vq->published);

    if (!vq->gather)
        return 0;
    if (out >= BATCH_MIN && popped)
        vq->load = LOAD_MAX;
    /* An I/O thread that is faster than the guest submits never sees many at a time. So now and
     * then one is held back, to see whether the guest halts for it or goes on. */
    if (!vq->load && vq->dirty && ++vq->lone >= PROBE) {
        vq->lone = 0;
        vq->load = 1;
    }
    if (!vq->load)
        return 0;
    if (vq->trust && vq->dirty && !vq->in_flight && out >= vq->depth) {
        vq->trust--;
        vq->look_at = 0;
        return 0;
    }
    if (vq->look_at && now < vq->look_at)
        return vq->look_at;
    vq->last_avail = vq->next_avail;
    vq->last_used = vq->next_used;
    if (vq->dirty && !vq->hold_since)
        vq->hold_since = now;
    vq->quiet = popped || done ? 0 : (uint8_t)(vq->quiet + 1);
    bool idle = guest_is_idle(vq->dev->bus->vm);

    if ((idle && !vq->in_flight) || vq->quiet >= (idle ? 1 : QUIET) ||
        (vq->hold_since && now - vq->hold_since >= HOLD_NS)) {
        vq->look_at = 0;
        vq->quiet = 0;
        if (vq->dirty && out < BATCH_MIN) {
            vq->load /= 2;
        } else if (vq->dirty && idle) {
            vq->depth = out;
            vq->trust = TRUST;
        }
        return 0;
    }
    vq->look_at = now + LOOK_NS;
    return vq->look_at;
}

static void sooner(uint64_t *next, uint64_t t)
{
    if (t && (!*next || t < *next))
        *next = t;
}

/* A queue under moderation: is an interrupt due? Its time has come, or its ring runs out, or
 * nothing more comes: the other side of the stream waits for the guest. A guest that sleeps hears
 * of that sooner than one that may still be at the last batch. */
static bool paced(struct virtq *vq, uint64_t now)
{
    const struct virtio_dev *dev = vq->dev;

    vq->hold_since = 0;
    vq->pace_due |= virtq_publish(vq);
    if (vq->last_used != vq->next_used) {
        vq->last_used = vq->next_used;
        vq->pace_moved = now;
    }
    if (!vq->pace_due)
        return false;
    if (now >= vq->pace_at || (uint16_t)(vq->next_used - vq->pace_from) >= vq->size - vq->size / 4)
        return true;
    /* Whether CPUs in KVM sleep is not known here. */
    bool idle = dev->event_fd >= 0 || guest_is_idle(dev->bus->vm);

    return now - vq->pace_moved >= (idle ? PACE_QUIET_NS : PACE_STILL_NS);
}

/* One interrupt is for all queues of a device: what any of them waits to say goes with it. */
static void interrupt_all(struct virtio_dev *dev, uint64_t now)
{
    for (unsigned q = 0; q < dev->nqueues; q++) {
        struct virtq *vq = &dev->vq[q];

        vq->pace_due = false;
        vq->pace_at = now + vq->pace;
        vq->pace_from = vq->next_used;
    }
    virtio_interrupt(dev, false);
}

/* Is the queue looked at, instead of armed? Not while something of it is in flight: of its end the
 * host tells. */
static bool lingers(const struct virtq *vq)
{
    return vq->linger && vq->live && vq->dev->bus->lingering && !vq->in_flight;
}

/* What a device's queues need: true, look at the device again at once. */
static bool run_device(struct virtio_dev *dev, uint64_t now, uint64_t *next)
{
    uint32_t bells = atomic_exchange(&dev->bells, 0) | dev->look;
    bool interrupt = false, again = false;

    dev->look = 0;
    for (unsigned q = 0; q < dev->nqueues && !dev->broken; q++)
        if (dev->vq[q].live && (bells >> q & 1 || !dev->vq[q].armed))
            look(&dev->vq[q], bells >> q & 1);
    for (unsigned q = 0; q < dev->nqueues && !dev->broken; q++) {
        struct virtq *vq = &dev->vq[q];

        if (!vq->live || (vq->armed && !vq->dirty && !vq->pace_due))
            continue;
        if (vq->pace) {
            interrupt |= paced(vq, now);
            sooner(next, now + PACE_LOOK_NS);
            continue;
        }
        uint64_t t = gather(vq, now);

        if (t) {
            sooner(next, t);
            continue;
        }
        vq->hold_since = 0;
        interrupt |= virtq_publish(vq) || vq->pace_due;
        if (!vq->armed && !lingers(vq) && virtq_arm(vq)) {
            virtq_disarm(vq);
            again = true;
        }
    }
    if (interrupt)
        interrupt_all(dev, now);
    return again || dev->look;
}

/* One look at everything: true, look again at once; else when the next is due. */
static bool pass(struct virtio_bus *bus, uint64_t *next)
{
    uint32_t bells = atomic_exchange(&bus->bells, 0);
    uint64_t now = 0;
    bool again = false;

    *next = 0;
    for (unsigned i = 0; i < bus->ndev; i++) {
        struct virtio_dev *dev = bus->dev[i];

        if (bells >> i & 1)
            virtio_serve(dev);
        if (!dev->started || dev->resetting)
            continue;
        if (!now)
            now = io_now();
        again |= run_device(dev, now, next);
    }
    return again;
}

/* What queues that linger have for us, or a notification of another: 1; 0: nothing yet; -1: none
 * of them lingers now. */
static int next_request(struct virtio_bus *bus)
{
    int found = -1;

    for (unsigned i = 0; i < bus->ndev; i++)
        for (unsigned q = 0; q < bus->dev[i]->nqueues; q++) {
            struct virtq *vq = &bus->dev[i]->vq[q];

            if (!lingers(vq))
                continue;
            if (virtq_has(vq))
                return 1;
            found = 0;
        }
    return found < 0 ? -1 : atomic_load(&bus->bells) != 0;
}

/* How long this thread has been ready to run without being run, ns: the second number there. */
static uint64_t waited_for_cpu(const struct virtio_bus *bus)
{
    char text[64], *end;
    ssize_t n = bus->schedstat < 0 ? -1 : pread(bus->schedstat, text, sizeof text - 1, 0);

    text[n > 0 ? n : 0] = 0;
    strtoull(text, &end, 10);
    return strtoull(end, NULL, 10);
}

/* Was the CPU taken away since lingering began? Asked only where that much time has passed since
 * the last look, which may also be what a request took. */
static bool cpu_taken(struct virtio_bus *bus, uint64_t now)
{
    bool long_ago = now - bus->looked_at > TAKEN_NS;

    bus->looked_at = now;
    if (!long_ago)
        return false;
    uint64_t before = bus->waited;

    bus->waited = waited_for_cpu(bus);
    return bus->waited - before > TAKEN_NS;
}

/* The host has other work for this CPU. */
static void pause_lingering(struct virtio_bus *bus, uint64_t now)
{
    bool soon = now - bus->linger_from < PAUSE_MOST;

    bus->linger_pause = !soon                                ? PAUSE_LEAST
                        : bus->linger_pause < PAUSE_MOST / 2 ? bus->linger_pause * 2
                                                             : PAUSE_MOST;
    bus->linger_from = now + bus->linger_pause;
}

/* Wait awake. false: nothing came, or not to be done now: the queues are to be armed. */
static bool linger(struct virtio_bus *bus)
{
    int found;

    do {
        uint64_t now = io_now();

        found = next_request(bus);
        if (cpu_taken(bus, now)) {
            pause_lingering(bus, now);
            return false;
        }
        if (!found && now - bus->served_at > LINGER_NS)
            return false;
        __builtin_ia32_pause();
    } while (!found);
    return found > 0;
}

/* A request was served just now: did it come soon after the last? What counts is when the guest
 * gave it to us, not how long we took to wake. Doorbells of kvm do not tell when that was. */
static void note_served(struct virtio_bus *bus)
{
    uint64_t rung = atomic_load_explicit(&bus->rung_at, memory_order_relaxed), now = io_now();

    if (rung <= bus->served_at)
        rung = now;
    bus->served = false;
    if (!bus->lingering && bus->may_linger && now >= bus->linger_from &&
        rung - bus->served_at < LINGER_NS) {
        bus->lingering = true;
        bus->looked_at = now;
        bus->waited = waited_for_cpu(bus);
    }
    bus->served_at = now;
}

uint64_t virtio_bus_run(struct virtio_bus *bus)
{
    uint64_t next, from = 0;

    for (;;) {
        if (pass(bus, &next))
            return 1;
        if (bus->served)
            note_served(bus);
        if (!bus->lingering)
            return next;
        if (!from)
            from = bus->served_at;
        if (bus->served_at - from > AWAKE_NS)
            return 1;
        bus->lingering = linger(bus);
    }
}
