/* virtio-fs, driver side: carries one FUSE request at a time. */
#include "guests/runtime/hostfs.h"
#include <linux/fuse.h>
#include "guests/runtime/virtio.h"

enum { QUEUE = 8, HIPRIO = 0, REQUESTS = 1 };

static struct share {
    struct virtio device;
    struct virtq hiprio, requests;
} shares[SHARES];
static unsigned count;
static char request[2 * PAGE] __attribute__((aligned(4096), section(".bss.pages")));
static char reply[PAGE] __attribute__((aligned(4096), section(".bss.pages")));

unsigned virtiofs_init(void)
{
    for (count = 0; count < SHARES; count++) {
        struct share *s = &shares[count];

        if (!virtio_find(&s->device, VIRTIO_FS, count) || !virtio_start(&s->device, 0, NULL) ||
            !virtio_queue(&s->device, &s->hiprio, HIPRIO, QUEUE, false) ||
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

int64_t fuse_call(const struct fuse_call *c)
{
    static uint64_t unique;
    struct fuse_in_header h = {.len = (uint32_t)(sizeof h + c->in_len + c->name_len + c->data_in),
                               .opcode = c->op,
                               .unique = ++unique,
                               .nodeid = c->node,
                               .pid = 1};
    uint64_t n = sizeof h;
    unsigned d = 0;
    struct virtq *q = &shares[c->share % SHARES].requests;

    if (c->share >= count)
        return -EIO;
    if (c->in_len + c->name_len + n > sizeof request)
        return -ENAMETOOLONG;
    copy(request, &h, n);
    copy(request + n, c->in, c->in_len);
    n += c->in_len;
    copy(request + n, c->name, c->name_len);
    n += c->name_len;
    virtq_put(q, d++, request, n, VIRTQ_NEXT);
    if (c->data_in)
        virtq_put(q, d++, c->data, c->data_in, VIRTQ_NEXT);
    virtq_put(q, d++, reply, sizeof(struct fuse_out_header) + c->out_len,
              VIRTQ_WRITE | (c->data_out ? VIRTQ_NEXT : 0));
    if (c->data_out)
        virtq_put(q, d++, c->data, c->data_out, VIRTQ_WRITE);
    if (!virtq_request(q, 0))
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
