/*
 * The virtio console (virtio/console.c) on stdin and stdout, beside the serial port. Both write;
 * input goes to hvc0 once its driver has given it buffers, and to the serial port otherwise.
 */
#include "monitor/core.h"

#include <sys/ioctl.h>

static size_t take_output(void *opaque, const void *buf, size_t len)
{
    struct console *c = opaque;
    size_t n = console_write_some(c->m, buf, len);

    if (n < len && !c->hvc_stalled) {
        c->hvc_stalled = true;
        loop_wake(c->m); /* it has to poll stdout from now on */
    }
    return n;
}

static size_t give_input(void *opaque, void *buf, size_t len)
{
    struct console *c = opaque;

    if (!c->rx_count)
        return 0;
    if (!loop_lock(c->m)) {
        vconsole_look(c->hvc);
        return 0;
    }
    uint8_t *p = buf;
    size_t n = 0;

    for (; n < len && c->rx_count; n++) {
        p[n] = c->rx[c->rx_head];
        c->rx_head = (uint32_t)((c->rx_head + 1) % sizeof c->rx);
        c->rx_count--;
    }
    pthread_mutex_unlock(&c->m->lock);
    if (!c->rx_count)
        loop_wake(c->m); /* it may read stdin again */
    return n;
}

static void takes_input(void *opaque, bool on)
{
    struct console *c = opaque;

    atomic_store(&c->hvc_reads, on);
    loop_wake(c->m);
}

static void get_size(void *opaque, uint16_t *cols, uint16_t *rows)
{
    struct winsize w;

    (void)opaque;
    if (ioctl(1, TIOCGWINSZ, &w) && ioctl(0, TIOCGWINSZ, &w))
        return;
    *cols = w.ws_col;
    *rows = w.ws_row;
}

void hvc_connect(struct machine *m, struct virtio_dev *dev)
{
    struct console *c = m->console;

    c->hvc = dev;
    vconsole_connect(dev,
                     &(struct vconsole_host){c, take_output, give_input, takes_input, get_size});
}

void hvc_room(struct console *c)
{
    if (!c->hvc_stalled)
        return;
    c->hvc_stalled = false;
    vconsole_look(c->hvc);
}

void hvc_resized(struct console *c)
{
    if (c->hvc)
        vconsole_resized(c->hvc);
}
