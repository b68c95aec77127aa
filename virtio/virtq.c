/* Split rings. Offsets as in VIRTIO 1.2 §2.7.5, §2.7.6 and §2.7.8; all values little-endian. */
#include "virtio/virtio.h"

#include <errno.h>
#include <string.h>

#define DESC_F_NEXT     1u
#define DESC_F_WRITE    2u
#define DESC_F_INDIRECT 4u

#define AVAIL_F_NO_INTERRUPT 1u
#define USED_F_NO_NOTIFY     1u

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
} __attribute__((packed)); /* an indirect table may lie at any address */
_Static_assert(sizeof(struct desc) == 16, "VIRTIO 1.2 2.7.5");

/* The rings are shared with running CPUs: every access is one atomic access. */
static uint16_t get16(const uint8_t *p)
{
    return __atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE);
}

static void put16(uint8_t *p, uint16_t v)
{
    __atomic_store_n((uint16_t *)p, v, __ATOMIC_RELEASE);
}

static void put32(uint8_t *p, uint32_t v)
{
    __atomic_store_n((uint32_t *)p, v, __ATOMIC_RELAXED);
}

static uint8_t *used_event(const struct virtq *vq)
{
    return vq->avail + 4 + 2 * (size_t)vq->size;
}

static uint8_t *avail_event(const struct virtq *vq)
{
    return vq->used + 4 + 8 * (size_t)vq->size;
}

int virtq_start(struct virtq *vq, struct ram *ram, uint16_t size, gpa_t desc, gpa_t avail,
                gpa_t used, bool event_idx)
{
    unsigned max = vq->size_max ? vq->size_max : 256;

    vq->live = false;
    if (!size || size > max || (size & (size - 1)) || desc % 16 || avail % 2 || used % 4)
        return -EINVAL;
    vq->desc = ram_ptr(ram, desc, 16 * (uint64_t)size);
    vq->avail = ram_ptr(ram, avail, 6 + 2 * (uint64_t)size);
    vq->used = ram_ptr(ram, used, 6 + 8 * (uint64_t)size);
    if (!vq->desc || !vq->avail || !vq->used)
        return -EINVAL;
    vq->ram = ram;
    vq->size = size;
    vq->event_idx = event_idx;
    vq->next_avail = vq->next_used = vq->seen = vq->published = 0;
    vq->last_avail = vq->last_used = 0;
    vq->in_flight = 0;
    vq->dirty = vq->armed = false;
    vq->load = vq->trust = vq->quiet = vq->lone = 0;
    vq->depth = 0;
    vq->hold_since = vq->look_at = vq->pace_at = 0;
    vq->pace_from = 0;
    vq->pace_due = false;
    vq->live = true;
    return 0;
}

void virtq_stop(struct virtq *vq)
{
    vq->live = vq->dirty = vq->armed = false;
    vq->in_flight = 0;
    vq->hold_since = vq->look_at = 0;
}

bool virtq_has(struct virtq *vq)
{
    if (!vq->live)
        return false;
    vq->seen = get16(vq->avail + 2);
    return vq->seen != vq->next_avail;
}

/* One element for len bytes at p, or more of the last one. */
static const char *append(struct virtq_chain *c, uint8_t *p, uint32_t len, bool write)
{
    uint16_t n = (uint16_t)(c->nout + c->nin);
    uint32_t *total = write ? &c->in_len : &c->out_len;

    if (!write && c->nin)
        return "a readable descriptor after a writable one";
    if (len > UINT32_MAX - c->in_len - c->out_len)
        return "a chain of more than 4 GiB";
    *total += len;
    /* The hole lies between what adjoins nowhere: adjoining elements are one range of RAM. */
    if (n && (write ? c->nin : c->nout)) {
        struct iovec *last = &c->iov[n - 1];

        if ((uint8_t *)last->iov_base + last->iov_len == p) {
            last->iov_len += len;
            return NULL;
        }
    }
    if (n >= c->cap)
        return "a chain of too many descriptors";
    c->iov[n] = (struct iovec){p, len};
    if (write)
        c->nin++;
    else
        c->nout++;
    return NULL;
}

/* Read a whole descriptor once: another CPU may be changing it. */
static struct desc load_desc(const uint8_t *table, unsigned i)
{
    const volatile struct desc *p = (const volatile struct desc *)(table + 16 * (size_t)i);

    return (struct desc){p->addr, p->len, p->flags, p->next};
}

/* Collect the chain that begins at head. NULL, or what is wrong with it. */
static const char *collect(struct virtq *vq, uint16_t head, struct virtq_chain *c)
{
    const uint8_t *table = vq->desc;
    unsigned n = vq->size, at = head, left = vq->size;
    bool indirect = false;

    for (;;) {
        if (at >= n)
            return "a descriptor index past the table";
        if (!left--)
            return "a loop of descriptors";
        struct desc d = load_desc(table, at);

        if (d.flags & DESC_F_INDIRECT) {
            /* §2.7.5.3.1: no nesting, and it is the last of its chain. */
            if (indirect || d.flags & DESC_F_NEXT)
                return "a nested or continued indirect descriptor";
            if (!d.len || d.len % 16 || d.len / 16 > VIRTQ_SIZE_MAX)
                return "an indirect table of a wrong size";
            table = ram_ptr(vq->ram, d.addr, d.len);
            if (!table)
                return "an indirect table outside RAM";
            indirect = true;
            n = left = d.len / 16;
            at = 0;
            continue;
        }
        uint8_t *p = ram_ptr(vq->ram, d.addr, d.len);

        if (!p)
            return "a buffer outside RAM";
        if (d.len) {
            const char *why = append(c, p, d.len, d.flags & DESC_F_WRITE);

            if (why)
                return why;
        }
        if (!(d.flags & DESC_F_NEXT))
            return NULL;
        at = d.next;
    }
}

int virtq_pop(struct virtq *vq, struct virtq_chain *c)
{
    const char *why = NULL;
    uint16_t head;

    if (!virtq_has(vq))
        return 0;
    c->nout = c->nin = 0;
    c->out_len = c->in_len = 0;
    if ((uint16_t)(vq->seen - vq->next_avail) > vq->size)
        why = "an available index that runs ahead";
    else if (vq->in_flight >= vq->size)
        why = "more requests than descriptors";
    if (!why) {
        head = get16(vq->avail + 4 + 2 * (size_t)(vq->next_avail & (vq->size - 1)));
        if (head >= vq->size)
            why = "a chain's head past the table";
        else
            why = collect(vq, head, c);
    }
    if (why) {
        virtio_broken(vq->dev, why);
        return -EPROTO;
    }
    c->head = head;
    vq->next_avail++;
    vq->in_flight++;
    vq->count.requests++;
    return 1;
}

void virtq_unpop(struct virtq *vq, unsigned n)
{
    if (!vq->live || n > vq->in_flight)
        return;
    vq->next_avail = (uint16_t)(vq->next_avail - n);
    vq->in_flight = (uint16_t)(vq->in_flight - n);
    vq->count.requests -= n;
}

void virtq_written(struct virtq *vq, const void *p, size_t len)
{
    if (vq->live)
        ram_written(vq->ram, (gpa_t)((const uint8_t *)p - vq->ram->base), len);
}

void virtq_push_raw(struct virtq *vq, uint16_t head, uint32_t len)
{
    if (!vq->live || !vq->in_flight)
        return;
    uint8_t *e = vq->used + 4 + 8 * (size_t)(vq->next_used & (vq->size - 1));

    put32(e, head);
    put32(e + 4, len);
    vq->next_used++;
    vq->in_flight--;
    vq->dirty = true;
}

void virtq_push(struct virtq *vq, const struct virtq_chain *c, uint32_t written)
{
    uint32_t left = written < c->in_len ? written : c->in_len;

    if (!vq->live)
        return;
    vq->count.bytes += (uint64_t)c->out_len + left;
    written = left;
    for (unsigned i = c->nout; left && i < (unsigned)c->nout + c->nin; i++) {
        uint32_t len = c->iov[i].iov_len < left ? (uint32_t)c->iov[i].iov_len : left;

        virtq_written(vq, c->iov[i].iov_base, len);
        left -= len;
    }
    virtq_push_raw(vq, c->head, written);
}

bool virtq_publish(struct virtq *vq)
{
    if (!vq->live || !vq->dirty)
        return false;
    uint16_t old = vq->published, new = vq->next_used;

    put16(vq->used + 2, new);
    vq->published = new;
    vq->dirty = false;
    /* One for all elements of this batch: a ring spans three pages at most. */
    virtq_written(vq, vq->used, 6 + 8 * (size_t)vq->size);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!vq->event_idx)
        return !(get16(vq->avail) & AVAIL_F_NO_INTERRUPT);
    return (uint16_t)(new - get16(used_event(vq)) - 1) < (uint16_t)(new - old);
}

bool virtq_arm(struct virtq *vq)
{
    if (!vq->live)
        return false;
    if (vq->event_idx) {
        put16(avail_event(vq), vq->seen);
        virtq_written(vq, avail_event(vq), 2);
    } else {
        put16(vq->used, 0);
        virtq_written(vq, vq->used, 2);
    }
    vq->armed = true;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return get16(vq->avail + 2) != vq->seen;
}

void virtq_disarm(struct virtq *vq)
{
    vq->armed = false;
    if (!vq->live || vq->event_idx)
        return;
    put16(vq->used, USED_F_NO_NOTIFY);
    virtq_written(vq, vq->used, 2);
}

/* --- lists of elements --- */

/* Between buf and the list from its byte `skip` on; buf is only read where the list is written. */
static size_t copy_list(const struct iovec *iov, unsigned n, size_t skip, void *buf, size_t len,
                        bool to_list)
{
    size_t done = 0;

    for (unsigned i = 0; i < n && done < len; i++) {
        size_t part = iov[i].iov_len;

        if (skip >= part) {
            skip -= part;
            continue;
        }
        part -= skip;
        if (part > len - done)
            part = len - done;
        uint8_t *in_list = (uint8_t *)iov[i].iov_base + skip, *in_buf = (uint8_t *)buf + done;

        memcpy(to_list ? in_list : in_buf, to_list ? in_buf : in_list, part);
        done += part;
        skip = 0;
    }
    return done;
}

size_t virtq_gather(void *dst, size_t len, const struct iovec *iov, unsigned n, size_t skip)
{
    return copy_list(iov, n, skip, dst, len, false);
}

size_t virtq_scatter(const struct iovec *iov, unsigned n, size_t skip, const void *src, size_t len)
{
    return copy_list(iov, n, skip, (void *)(uintptr_t)src, len, true);
}

unsigned virtq_slice(struct iovec *out, const struct iovec *iov, unsigned n, size_t skip,
                     size_t len)
{
    unsigned k = 0;

    for (unsigned i = 0; i < n && len; i++) {
        struct iovec v = iov[i];

        if (skip >= v.iov_len) {
            skip -= v.iov_len;
            continue;
        }
        v.iov_base = (uint8_t *)v.iov_base + skip;
        v.iov_len -= skip;
        skip = 0;
        if (v.iov_len > len)
            v.iov_len = len;
        len -= v.iov_len;
        out[k++] = v;
    }
    return len ? 0 : k;
}
