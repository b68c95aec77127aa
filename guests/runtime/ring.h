/* A queue of up to 64 KiB, in pages that are made when they are first needed: what a pipe or a
 * socket holds. */
#ifndef GUESTS_RUNTIME_RING_H
#define GUESTS_RUNTIME_RING_H

#include "guests/runtime/runtime.h"

#define RING_PAGES 16u
#define RING_BYTES (RING_PAGES * PAGE)

struct ring {
    uint64_t head, len; /* the first byte, how many */
    char *page[RING_PAGES];
};

/* Where the next bytes go, and with *n at most how many there: NULL: it is full (*n is 0 then), or
 * there is no memory. Then ring_add(). */
char *ring_room(struct ring *r, uint64_t *n);
/* Where those behind the first skip are (skip < len); *n as above. */
char *ring_bytes(const struct ring *r, uint64_t skip, uint64_t *n);
void ring_free(struct ring *r); /* its pages */

static inline void ring_add(struct ring *r, uint64_t n)
{
    r->len += n;
}

static inline void ring_drop(struct ring *r, uint64_t n)
{
    r->head = (r->head + n) % RING_BYTES;
    r->len -= n;
}

#endif
