/*
 * Console device (VIRTIO 1.2 §5.3): port 0 alone, hvc0 to Linux, on the monitor's console. The
 * control queues of F_MULTIPORT are not offered: there is no second port to tell of.
 *
 * Output that the monitor has no room for stays in its chain until there is some; the driver waits
 * for the used buffer, and so is slowed down as a serial port's is.
 */
#include "virtio/console.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Feature bits, §5.3.3 */
#define F_SIZE        (1ull << 0)
#define F_EMERG_WRITE (1ull << 2)

enum { RX, TX };
#define QUEUE_SIZE 32u
#define PASS_MAX   (256u << 10) /* bytes of output in one pass of the I/O thread */
#define CHAIN_COST 64u          /* bytes that a chain counts for on top: empty ones are many */

/* §5.3.4 */
struct config {
    uint16_t cols, rows;
    uint32_t max_nr_ports, emerg_wr;
};

struct vconsole {
    struct virtio_dev dev;
    struct vconsole_host host;
    struct config config;
    bool reading; /* the host was told so */
    /* Output not yet taken: the chain, and how much of it is done. */
    bool pending;
    uint64_t done;
    struct virtq_chain out;
    struct iovec out_iov[QUEUE_SIZE];
    struct iovec in_iov[QUEUE_SIZE];
};

/* --- output --- */

/* What is left of the pending chain, *budget bytes at most. true: all of it is done. */
static bool drain(struct vconsole *v, uint64_t *budget)
{
    uint64_t skip = v->done;

    for (unsigned i = 0; i < v->out.nout; i++) {
        const struct iovec *e = &v->out.iov[i];

        if (skip >= e->iov_len) {
            skip -= e->iov_len;
            continue;
        }
        size_t len = e->iov_len - skip;

        if (len > *budget)
            len = *budget;
        size_t n = v->host.write(v->host.opaque, (const uint8_t *)e->iov_base + skip, len);

        v->done += n;
        *budget -= n;
        if (n < len || !*budget)
            return v->done == v->out.out_len;
        skip = 0;
    }
    return true;
}

static void transmit(struct vconsole *v)
{
    struct virtq *vq = &v->dev.vq[TX];
    uint64_t budget = PASS_MAX;

    for (;;) {
        if (!v->pending) {
            v->out = (struct virtq_chain){.iov = v->out_iov, .cap = QUEUE_SIZE};
            if (virtq_pop(vq, &v->out) <= 0)
                return;
            v->pending = true;
            v->done = 0;
        }
        if (!drain(v, &budget)) {
            if (!budget)
                virtio_look_again(&v->dev, TX);
            return;
        }
        v->pending = false;
        virtq_push(vq, &v->out, 0);
        budget -= budget < CHAIN_COST ? budget : CHAIN_COST;
    }
}

/* --- input --- */

static void receive(struct vconsole *v)
{
    struct virtq *vq = &v->dev.vq[RX];
    struct virtq_chain c = {.iov = v->in_iov, .cap = QUEUE_SIZE};

    if (!v->reading && virtq_has(vq)) {
        v->reading = true;
        v->host.reads(v->host.opaque, true);
    }
    for (unsigned k = 0; k < QUEUE_SIZE; k++) {
        uint32_t got = 0;
        bool more = true;

        if (virtq_pop(vq, &c) <= 0)
            return;
        for (unsigned i = c.nout; more && i < (unsigned)c.nout + c.nin; i++) {
            size_t n = v->host.read(v->host.opaque, c.iov[i].iov_base, c.iov[i].iov_len);

            got += (uint32_t)n;
            more = n == c.iov[i].iov_len;
        }
        if (!got && c.in_len) {
            virtq_unpop(vq, 1);
            return;
        }
        virtq_push(vq, &c, got);
    }
    virtio_look_again(&v->dev, RX);
}

static void notify(struct virtio_dev *dev, unsigned q)
{
    struct vconsole *v = (struct vconsole *)dev;

    if (q == TX)
        transmit(v);
    else
        receive(v);
}

void vconsole_look(struct virtio_dev *dev)
{
    virtio_look_again(dev, RX);
    virtio_look_again(dev, TX);
}

/* --- the rest --- */

static void reset(struct virtio_dev *dev)
{
    struct vconsole *v = (struct vconsole *)dev;

    v->pending = false;
    if (v->reading)
        v->host.reads(v->host.opaque, false);
    v->reading = false;
}

/* A character from a guest that has no queues yet, or no more (§5.3.6.1). */
static void config_write(struct virtio_dev *dev, uint32_t off, unsigned size, uint32_t val)
{
    struct vconsole *v = (struct vconsole *)dev;
    uint8_t byte = (uint8_t)val;

    (void)size;
    if (off == offsetof(struct config, emerg_wr))
        v->host.write(v->host.opaque, &byte, 1);
}

static bool get_size(const struct vconsole *v, uint16_t size[2])
{
    uint16_t cols = 0, rows = 0;

    v->host.size(v->host.opaque, &cols, &rows);
    size[0] = htole16(cols);
    size[1] = htole16(rows);
    return memcmp(size, &v->config, 4) != 0;
}

void vconsole_resized(struct virtio_dev *dev)
{
    uint16_t size[2];

    if (get_size((struct vconsole *)dev, size))
        virtio_config_set(dev, 0, size, sizeof size);
}

/* Linux takes the size from the configuration when it changes, also for the first time. */
static void start(struct virtio_dev *dev)
{
    const struct vconsole *v = (struct vconsole *)dev;
    uint16_t size[2] = {v->config.cols, v->config.rows};

    if (virtio_has(dev, F_SIZE) && size[0])
        virtio_config_set(dev, 0, size, sizeof size);
}

static const struct virtio_ops ops = {
    .name = "console",
    .id = VIRTIO_ID_CONSOLE,
    .start = start,
    .notify = notify,
    .reset = reset,
    .config_write = config_write,
};

/* Without a host: what is written is gone, and there is nothing to read. */
static size_t no_write(void *opaque, const void *buf, size_t len)
{
    (void)opaque, (void)buf;
    return len;
}
static size_t no_read(void *opaque, void *buf, size_t len)
{
    (void)opaque, (void)buf, (void)len;
    return 0;
}
static void no_reads(void *opaque, bool on)
{
    (void)opaque, (void)on;
}
static void no_size(void *opaque, uint16_t *cols, uint16_t *rows)
{
    (void)opaque, (void)cols, (void)rows;
}

void vconsole_connect(struct virtio_dev *dev, const struct vconsole_host *host)
{
    struct vconsole *v = (struct vconsole *)dev;
    uint16_t size[2];

    v->host = *host;
    if (get_size(v, size))
        memcpy(&v->config, size, sizeof size);
}

int console_create(const char *arg, struct virtio_dev **dev, char *err, size_t len)
{
    if (arg && strcmp(arg, "virtio") != 0) {
        snprintf(err, len, "'%s' is no kind of console; --console or --console=virtio", arg);
        return -EINVAL;
    }
    struct vconsole *v = calloc(1, sizeof *v);

    if (!v) {
        snprintf(err, len, "out of memory");
        return -ENOMEM;
    }
    v->host = (struct vconsole_host){NULL, no_write, no_read, no_reads, no_size};
    v->config.max_nr_ports = htole32(1);
    v->dev.ops = &ops;
    v->dev.features = F_SIZE | F_EMERG_WRITE;
    v->dev.nqueues = 2;
    v->dev.vq[RX].size_max = v->dev.vq[TX].size_max = QUEUE_SIZE;
    v->dev.config = (uint8_t *)&v->config;
    v->dev.config_len = sizeof v->config;
    v->dev.label = "console";
    *dev = &v->dev;
    return 0;
}
