/*
 * Split virtqueues, device side (VIRTIO 1.2 §2.7): indirect descriptors, EVENT_IDX both ways.
 *
 * Everything here runs on the I/O thread, without a lock. Every index, address and length that the
 * guest wrote is read once and bounded. What is wrong with a ring breaks that device: virtq_pop()
 * calls virtio_broken() (DEVICE_NEEDS_RESET, configuration interrupt, counted), every queue of the
 * device goes dead until the guest resets it, and nothing outside guest RAM is touched.
 *
 * A dead queue (not enabled, broken, being reset) is harmless to use: pop finds nothing, push does
 * nothing. So a completion that comes late needs no check of its own.
 */
#ifndef VIRTIO_VIRTQ_H
#define VIRTIO_VIRTQ_H

#include <sys/uio.h>
#include "paging/ram.h"

#define VIRTQ_SIZE_MAX 1024u

struct virtio_dev;

/* One request of the guest: a descriptor chain, as host memory that is all guest RAM. Descriptors
 * that adjoin in memory and have one direction are one element (§2.7.4: a device must not depend on
 * the framing). The device-readable bytes come first, then the device-writable ones; any other
 * order breaks the device. Total length below 4 GiB.
 *
 * The memory stays valid for the life of the VM, but its *content* may change at any moment: copy
 * a header out with virtq_gather() and judge the copy, once. */
struct virtq_chain {
    struct iovec *iov; /* the caller's array of cap elements, set before virtq_pop() */
    uint16_t cap;
    uint16_t head;      /* for the used ring */
    uint16_t nout, nin; /* iov[0..nout) is read by the device, iov[nout..nout+nin) written */
    uint32_t out_len, in_len;
};

struct virtq {
    /* --- the device may set these in its create function --- */
    uint16_t size_max; /* QueueSizeMax; 0: 256. A power of two, at most VIRTQ_SIZE_MAX */
    bool gather; /* under load (many requests at a time) completions may be held back for a fraction
                  * of a millisecond while more keep coming, so that one interrupt covers them; and
                  * the queue is looked at by time instead of by notification meanwhile. Streams
                  * (blk, net) want it; it never delays a guest that has one request at a time. */
    bool linger; /* the guest asks for one thing, waits for it, and soon asks for the next (fs):
                  * while that is so the I/O thread looks for the next by itself for a moment,
                  * before it has itself notified and sleeps. */

    /* Interrupt moderation, at any time: while not 0, the guest is interrupted at most every pace
     * ns (sooner when three quarters of the ring were completed since, or when nothing more is
     * completed), and the queue is looked at by time, and in every pass, instead of
     * asking for notifications. What is completed can be seen by a guest that looks. */
    uint32_t pace;

    /* --- read only for devices --- */
    struct virtio_dev *dev;
    uint16_t index;
    bool live;
    uint16_t size;
    uint16_t in_flight; /* popped and not yet pushed */
    struct {
        uint64_t requests;      /* chains popped (less those given back) */
        uint64_t bytes;         /* of data: added by virtq_push(): out_len + written */
        uint64_t notifications; /* of the guest for this queue */
        uint64_t looks;         /* times the avail ring was looked at */
    } count;

    /* --- virtq.c's own --- */
    struct ram *ram;
    uint8_t *desc, *avail, *used; /* validated: all of each is RAM */
    uint16_t next_avail, next_used;
    uint16_t seen;      /* avail.idx as last read */
    uint16_t published; /* used.idx as the guest sees it, and as of the last look at used_event */
    bool event_idx, dirty;
    uint64_t pace_at;    /* under moderation: when the next interrupt may be */
    uint64_t pace_moved; /* when next_used was last seen to move */
    uint16_t pace_from;  /* next_used at the last one */
    bool pace_due;       /* the guest wants one */
    bool armed;          /* the guest notifies for the next chain */
    /* gathering: the scheduler's (sched.c) */
    uint8_t load;        /* above 0: gather */
    uint8_t lone;        /* completions that went out one by one */
    uint8_t quiet;       /* looks in a row that found nothing new */
    uint8_t trust;       /* batches that depth is believed for */
    uint16_t depth;      /* requests at a time, as the last quiet look found */
    uint16_t last_avail; /* next_avail and next_used at its last look */
    uint16_t last_used;
    uint64_t hold_since; /* ns: the first completion held back; 0 none */
    uint64_t look_at;    /* ns: when it looks again; 0 none */
};

/* Take the next chain. 1: c is filled; 0: there is none (notifications are re-armed by the
 * transport before the I/O thread sleeps, devices do nothing about that); -EPROTO: the ring is
 * broken, as above; treat it as 0. A chain with more elements than c->cap breaks the device, so
 * give cap = vq->size_max wherever the guest may send that many (SEG_MAX says less for blk). */
int virtq_pop(struct virtq *vq, struct virtq_chain *c);

/* Give the last n chains popped back, unused (in reverse order, nothing popped in between). They
 * are found again by the next virtq_pop(); virtio_look_again() or new chains trigger a look. */
void virtq_unpop(struct virtq *vq, unsigned n);

/* Is there a chain to pop? One read of the ring. */
bool virtq_has(struct virtq *vq);

/* The request is done; the device wrote written bytes from the start of the chain's writable part.
 * Tells the code traces (ram_written) about exactly these bytes, so the device need not. Chains may
 * be pushed in any order. The guest sees them at the end of the I/O thread's pass, all of a pass at
 * once (mergeable receive buffers rely on it), and gets at most one interrupt for them. */
void virtq_push(struct virtq *vq, const struct virtq_chain *c, uint32_t written);
/* The same where the device placed bytes elsewhere than at the start of the writable part: it has
 * called virtq_written() for them. len is what the used ring says. */
void virtq_push_raw(struct virtq *vq, uint16_t head, uint32_t len);
/* Bytes at p (inside guest RAM) were changed by the device: every range, before it is pushed. */
void virtq_written(struct virtq *vq, const void *p, size_t len);

/* Copy between a linear buffer and a list of elements, from byte offset skip of the list on.
 * Returns the bytes copied (less than len where the list ends). virtq_scatter() does not call
 * ram_written: virtq_push() does. */
size_t virtq_gather(void *dst, size_t len, const struct iovec *iov, unsigned n, size_t skip);
size_t virtq_scatter(const struct iovec *iov, unsigned n, size_t skip, const void *src, size_t len);
/* The part of a list from byte skip on, len bytes long, into out[] (room for n elements). Returns
 * the number of elements, 0 when the list is shorter than skip + len. out may be iov itself. */
unsigned virtq_slice(struct iovec *out, const struct iovec *iov, unsigned n, size_t skip,
                     size_t len);

/* --- for the transport --- */
/* Begin with validated sizes; -EINVAL where a ring is misaligned (§2.7) or not all in RAM. */
int virtq_start(struct virtq *vq, struct ram *ram, uint16_t size, gpa_t desc, gpa_t avail,
                gpa_t used, bool event_idx);
void virtq_stop(struct virtq *vq);
/* Ask for a notification of the next chain (avail_event, or VIRTQ_USED_F_NO_NOTIFY cleared).
 * true: chains came meanwhile: look again. */
bool virtq_arm(struct virtq *vq);
/* Under EVENT_IDX: leave avail_event behind; else set VIRTQ_USED_F_NO_NOTIFY. */
void virtq_disarm(struct virtq *vq);
/* Publish the used ring; is an interrupt due (§2.7.7, §2.7.10)? */
bool virtq_publish(struct virtq *vq);

#endif
