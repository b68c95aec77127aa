/*
 * Entropy device (VIRTIO 1.2 §5.4): getrandom() straight into the driver's buffers.
 *
 * A request gets REQUEST_MAX bytes at most (§5.4.6.2: fewer than the buffer has are fine), a pass
 * of the I/O thread PASS_MAX, so that a guest that asks for gigabytes holds up nobody else.
 */
#include "virtio/virtio.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define QUEUE_SIZE  64u
#define REQUEST_MAX 65536u
#define PASS_MAX    (4 * REQUEST_MAX)
#define CHAIN_COST  512u /* bytes that a request counts for on top: empty ones are many */

struct rng {
    struct virtio_dev dev;
    struct iovec iov[QUEUE_SIZE];
};

/* Fill the chain's writable part from its start: the bytes written. */
static uint32_t fill(const struct virtq_chain *c)
{
    uint32_t done = 0;

    for (unsigned i = c->nout; i < (unsigned)c->nout + c->nin && done < REQUEST_MAX; i++) {
        size_t len = c->iov[i].iov_len, at = 0;

        if (len > REQUEST_MAX - done)
            len = REQUEST_MAX - done;
        while (at < len) {
            /* The pool was ready when the launch took its seed from it: this does not block. */
            ssize_t n = getrandom((uint8_t *)c->iov[i].iov_base + at, len - at, GRND_NONBLOCK);

            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0)
                return done + (uint32_t)at;
            at += (size_t)n;
        }
        done += (uint32_t)len;
    }
    return done;
}

static void notify(struct virtio_dev *dev, unsigned q)
{
    struct rng *r = (struct rng *)dev;
    struct virtq_chain c = {.iov = r->iov, .cap = QUEUE_SIZE};
    uint32_t done = 0;

    while (virtq_pop(&dev->vq[q], &c) > 0) {
        uint32_t n = fill(&c);

        virtq_push(&dev->vq[q], &c, n);
        done += n + CHAIN_COST;
        if (done >= PASS_MAX) {
            virtio_look_again(dev, q);
            return;
        }
    }
}

static void reset(struct virtio_dev *dev)
{
    (void)dev; /* nothing outlives a call of notify() */
}

static const struct virtio_ops ops = {
    .name = "rng",
    .id = VIRTIO_ID_RNG,
    .notify = notify,
    .reset = reset,
};

int rng_create(const char *arg, struct virtio_dev **dev, char *err, size_t len)
{
    if (arg) {
        snprintf(err, len, "it takes no value; --rng alone");
        return -EINVAL;
    }
    struct rng *r = calloc(1, sizeof *r);

    if (!r) {
        snprintf(err, len, "out of memory");
        return -ENOMEM;
    }
    r->dev.ops = &ops;
    r->dev.nqueues = 1;
    r->dev.vq[0].size_max = QUEUE_SIZE;
    r->dev.label = "rng";
    *dev = &r->dev;
    return 0;
}
