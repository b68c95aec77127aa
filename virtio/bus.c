/* The slots: who is in which, with its interrupt and, under kvm, its doorbell. */
#include "virtio/bus.h"

#include <errno.h>
#include <sys/eventfd.h>

unsigned virtio_slot_gsi(unsigned slot)
{
    return slot < 3 ? 5 + slot : 10 + slot - 3;
}

/* kvm: doorbells go by descriptor, past the vCPU's thread. One doorbell a device: the driver writes
 * the queue's number to one address, and a look at all rings is cheap. Interrupts do not: KVM's
 * irqfd would be a system call of ours too, and knows neither the 8259 nor masked pins. */
static int make_doorbell(struct virtio_dev *dev)
{
    struct virtio_bus *bus = dev->bus;

    dev->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (dev->event_fd < 0)
        return -errno;
    return bus->ioeventfd(bus->vm, virtio_slot_base(dev->slot) + VIRTIO_QUEUE_NOTIFY, 4,
                          dev->event_fd, false);
}

int virtio_bus_add(struct virtio_bus *bus, struct virtio_dev *dev)
{
    if (bus->ndev >= VIRTIO_SLOTS)
        return -ENOSPC;
    if (!dev->nqueues || dev->nqueues > VIRTIO_QUEUES_MAX)
        return -EINVAL;
    dev->bus = bus;
    dev->ram = bus->ram;
    dev->slot = bus->ndev;
    dev->gsi = virtio_slot_gsi(dev->slot);
    dev->event_fd = -1;
    dev->instance = 0;
    for (unsigned i = 0; i < bus->ndev; i++)
        dev->instance += bus->dev[i]->ops == dev->ops;
    pthread_mutex_init(&dev->lock, NULL);
    pthread_cond_init(&dev->ready, NULL);
    for (unsigned q = 0; q < dev->nqueues; q++) {
        dev->vq[q].dev = dev;
        dev->vq[q].index = (uint16_t)q;
    }
    bus->dev[bus->ndev++] = dev;
    return bus->ioeventfd ? make_doorbell(dev) : 0;
}
