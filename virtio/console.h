/*
 * What the console device (console.c) and the monitor's console have to do with each other. This
 * room calls nothing of the monitor, so the bytes go through functions it is given.
 */
#ifndef VIRTIO_CONSOLE_H
#define VIRTIO_CONSOLE_H

#include "virtio/virtio.h"

/* All are called on the I/O thread, and none blocks. */
struct vconsole_host {
    void *opaque;
    /* Take output: the bytes taken. Fewer than len: vconsole_look() follows when there is room. */
    size_t (*write)(void *opaque, const void *buf, size_t len);
    /* Input for the driver's buffers: the bytes given. Fewer than len: vconsole_look() follows when
     * more is here. */
    size_t (*read)(void *opaque, void *buf, size_t len);
    /* The driver can take input (it has given buffers), or cannot any more. */
    void (*reads)(void *opaque, bool on);
    /* Columns and rows; 0 and 0 when nobody knows. */
    void (*size)(void *opaque, uint16_t *cols, uint16_t *rows);
};

/* After console_create(), before the guest runs. */
void vconsole_connect(struct virtio_dev *dev, const struct vconsole_host *host);

/* I/O thread: there is input, or room for output. Cheap. */
void vconsole_look(struct virtio_dev *dev);

/* I/O thread: the terminal has another size. */
void vconsole_resized(struct virtio_dev *dev);

#endif
