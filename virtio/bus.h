/* What the transport (mmio.c) and the I/O thread's scheduler (sched.c) share. */
#ifndef VIRTIO_BUS_H
#define VIRTIO_BUS_H

#include "virtio/virtio.h"

#define VIRTIO_QUEUE_NOTIFY 0x050u

/* dev->request: what a vCPU waits for. */
enum virtio_request { REQ_NONE, REQ_START, REQ_STOP_QUEUE, REQ_RESET, REQ_CONFIG };

/* I/O thread: do what a vCPU waits for; end a reset that nothing holds up any more. */
void virtio_serve(struct virtio_dev *dev);

/* I/O thread: the device's interrupt, for its queues or its configuration. */
void virtio_interrupt(struct virtio_dev *dev, bool config);

#endif
