/* Queues of bytes in pages. */
#include "guests/runtime/ring.h"

char *ring_room(struct ring *r, uint64_t *n)
{
    uint64_t tail = (r->head + r->len) % RING_BYTES, at = tail % PAGE;
    char **page = &r->page[tail / PAGE];

    *n = least(least(*n, RING_BYTES - r->len), PAGE - at);
    if (!*n || (!*page && !(*page = kalloc(PAGE))))
        return NULL;
    return *page + at;
}

char *ring_bytes(const struct ring *r, uint64_t skip, uint64_t *n)
{
    uint64_t from = (r->head + skip) % RING_BYTES, at = from % PAGE;

    *n = least(least(*n, r->len - skip), PAGE - at);
    return r->page[from / PAGE] + at;
}

void ring_free(struct ring *r)
{
    for (unsigned i = 0; i < RING_PAGES; i++)
        kfree(r->page[i], PAGE);
}
