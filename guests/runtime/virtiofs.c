/*
 * virtio-fs, driver side: carries one FUSE request at a time that is waited for, and beside it some
 * whose answers say nothing (FUSE_RELEASE): those are given to the device, and their places are
 * found again when their answers have come.
 */
#include "guests/runtime/hostfs.h"
#include <linux/fuse.h>
#include "guests/runtime/virtio.h"

enum { QUEUE = VIRTQ_MOST, HIPRIO_QUEUE = 8, HIPRIO = 0, REQUESTS = 1 };
enum { POSTS = 8, POSTS_FROM = QUEUE - 2 * POSTS, POST_BYTES = 128 };

static struct share {
    struct virtio device;
    struct virtq hiprio, requests;
    uint32_t posted; /* a bit for each that is with the device */
} shares[SHARES];
static unsigned count;
static char request[2 * PAGE] __attribute__((aligned(4096), section(".bss.pages")));
static char reply[PAGE] __attribute__((aligned(4096), section(".bss.pages")));
static struct {
    char request[POST_BYTES];
    struct fuse_out_header reply;
} posts[SHARES][POSTS];

_Static_assert(3 + STRETCHES <= POSTS_FROM, "a request and its data");

unsigned virtiofs_init(void)
{
    for (count = 0; count < SHARES; count++) {
        struct share *s = &shares[count];

        if (!virtio_find(&s->device, VIRTIO_FS, count) || !virtio_start(&s->device, 0, NULL) ||
            !virtio_queue(&s->device, &s->hiprio, HIPRIO, HIPRIO_QUEUE, false) ||
            !virtio_queue(&s->device, &s->requests, REQUESTS, QUEUE, false))
            break;
        virtio_go(&s->device);
    }
    return count;
}

void fuse_tell(uint8_t share, uint32_t op, const void *in, uint64_t len)
{
    struct fuse_in_header h = {.len = (uint32_t)(sizeof h + len), .opcode = op};

    if (share >= count || sizeof h + len > sizeof request)
        return;
    copy(request, &h, sizeof h);
    copy(request + sizeof h, in, len);
    virtq_put(&shares[share].hiprio, 0, request, sizeof h + len, 0);
    virtq_request(&shares[share].hiprio, 0);
}

static uint64_t next_unique(void)
{
    static uint64_t unique;

    return ++unique;
}

/* The chain at head 0 was given to the device: wait for it, whatever comes before it. */
static bool wait_for_answer(struct share *s)
{
    uint32_t head;

    while (virtq_wait(&s->requests, &head)) {
        if (!head)
            return true;
        if (head >= POSTS_FROM && head < QUEUE)
            s->posted &= ~(1u << (head - POSTS_FROM) / 2);
    }
    return false;
}

void fuse_post(uint8_t share, uint32_t op, uint64_t node, const void *in, uint64_t len)
{
    struct share *s = &shares[share % SHARES];
    struct fuse_call c = {.op = op, .share = share, .node = node, .in = in, .in_len = len};
    struct fuse_in_header h = {.len = (uint32_t)(sizeof h + len),
                               .opcode = op,
                               .unique = next_unique(),
                               .nodeid = node,
                               .pid = 1};
    unsigned n = 0;

    while (n < POSTS && s->posted & 1u << n)
        n++;
    if (share >= count || n == POSTS || h.len > POST_BYTES) {
        fuse_call(&c); /* which finds the places of those that are answered */
        return;
    }
    char *at = posts[share][n].request;
    unsigned head = POSTS_FROM + 2 * n;

    copy(at, &h, sizeof h);
    copy(at + sizeof h, in, len);
    virtq_put(&s->requests, head, at, h.len, VIRTQ_NEXT);
    virtq_put(&s->requests, head + 1, &posts[share][n].reply, sizeof posts[share][n].reply,
              VIRTQ_WRITE);
    s->posted |= 1u << n;
    virtq_add(&s->requests, head);
    virtq_kick(&s->requests);
}

int64_t fuse_call(const struct fuse_call *c)
{
    struct fuse_in_header h = {.len = (uint32_t)(sizeof h + c->in_len + c->name_len + c->data_in),
                               .opcode = c->op,
                               .unique = next_unique(),
                               .nodeid = c->node,
                               .pid = 1};
    uint64_t n = sizeof h;
    unsigned d = 0;
    struct share *s = &shares[c->share % SHARES];
    struct virtq *q = &s->requests;

    if (c->share >= count || c->stretches > STRETCHES)
        return -EIO;
    if (c->in_len + c->name_len + n > sizeof request)
        return -ENAMETOOLONG;
    copy(request, &h, n);
    copy(request + n, c->in, c->in_len);
    n += c->in_len;
    copy(request + n, c->name, c->name_len);
    n += c->name_len;
    virtq_put(q, d++, request, n, VIRTQ_NEXT);
    for (unsigned i = 0; c->data_in && i < c->stretches; i++)
        virtq_put(q, d++, c->data[i].at, c->data[i].len, VIRTQ_NEXT);
    virtq_put(q, d++, reply, sizeof(struct fuse_out_header) + c->out_len,
              VIRTQ_WRITE | (c->data_out ? VIRTQ_NEXT : 0));
    for (unsigned i = 0; c->data_out && i < c->stretches; i++)
        virtq_put(q, d++, c->data[i].at, c->data[i].len,
                  VIRTQ_WRITE | (i + 1 < c->stretches ? VIRTQ_NEXT : 0));
    virtq_add(q, 0);
    virtq_kick(q);
    if (!wait_for_answer(s))
        return -EIO;
    struct fuse_out_header o;

    copy(&o, reply, sizeof o);
    if (o.error)
        return o.error < 0 && o.error > -4096 ? o.error : -EIO;
    if (o.len < sizeof o || o.len > sizeof o + c->out_len + c->data_out)
        return -EIO;
    copy(c->out, reply + sizeof o, c->out_len);
    return o.len - (int64_t)sizeof o - (c->data_out ? (int64_t)c->out_len : 0);
}
