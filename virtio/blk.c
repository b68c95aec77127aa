/*
 * Block device (VIRTIO 1.2 §5.2): an image file or a block device of the host, request by request
 * straight between the file and guest memory, as many at a time as the ring has.
 *
 * Durability: a flush is an fdatasync(), and completes after it. A driver that does not take
 * VIRTIO_BLK_F_FLUSH has a write-through disk: each of its writes is followed by one (§5.2.6.2).
 */
#include "virtio/blk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

/* Feature bits, §5.2.3 */
#define F_SEG_MAX      (1ull << 2)
#define F_RO           (1ull << 5)
#define F_BLK_SIZE     (1ull << 6)
#define F_FLUSH        (1ull << 9)
#define F_TOPOLOGY     (1ull << 10)
#define F_DISCARD      (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

/* Requests, §5.2.6 */
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK, S_IOERR, S_UNSUPP };
#define UNMAP 1u /* flag of a write-zeroes segment */

#define QUEUE_SIZE  256u
#define SEGMENTS    254u /* of data; the header and the status come on top */
#define RANGES      16u  /* of one discard or write-zeroes request */
#define MAX_SECTORS (1u << 22)
#define ZERO_CHUNK  65536u
#define ZERO_IOV    16u
#define BOUNCE_MAX  (4u << 20)

struct header {
    uint32_t type, reserved;
    uint64_t sector;
};

struct range {
    uint64_t sector;
    uint32_t sectors, flags;
};

struct request {
    struct io_op op;
    struct blk *blk;
    struct request *next; /* of the free ones */
    struct virtq_chain chain;
    struct iovec iov[SEGMENTS + 2];
    uint32_t type;
    /* Data: elements left to be moved, where, how much. */
    struct iovec data[SEGMENTS + 2];
    unsigned ndata;
    uint64_t offset;
    uint64_t left;
    uint8_t *bounce;
    bool syncing;
    struct range range[RANGES];
    unsigned nrange, at;
    bool zeroing; /* the file system cannot do it: write zeroes */
};

struct blk {
    struct virtio_dev dev;
    struct blk_config config;
    struct blk_file f;
    int file;
    struct request *free;
    struct request request[QUEUE_SIZE];
};

static const uint8_t zeroes[ZERO_CHUNK];

static void advance(struct request *r);

/* --- ends --- */

static void finish(struct request *r, uint8_t status)
{
    struct blk *b = r->blk;
    struct virtq_chain *c = &r->chain;

    if (r->bounce) {
        if (r->type == T_IN && status == S_OK && b->dev.vq[0].live)
            virtq_scatter(c->iov + c->nout, c->nin, 0, r->bounce, c->in_len - 1);
        free(r->bounce);
        r->bounce = NULL;
    }
    if (b->dev.vq[0].live)
        virtq_scatter(c->iov + c->nout, c->nin, c->in_len - 1, &status, 1);
    virtq_push(&b->dev.vq[0], c, c->in_len);
    r->next = b->free;
    b->free = r;
}

/* The end of an operation: a reset waits for it, and then nothing goes on. */
static void on_done(struct io_op *op, int res)
{
    struct request *r = (struct request *)op;
    struct blk *b = r->blk;
    bool dead = !b->dev.vq[0].live;

    virtio_release(&b->dev);
    if (dead) {
        finish(r, S_IOERR);
        return;
    }
    if (res == -EINTR || res == -EAGAIN) {
        advance(r);
        return;
    }
    switch (r->type) {
    case T_IN:
    case T_OUT:
        /* 0: the file has shrunk. */
        if (res < 0 || (res == 0 && !r->syncing)) {
            finish(r, S_IOERR);
            return;
        }
        if (r->syncing) {
            finish(r, S_OK);
            return;
        }
        r->left -= (uint64_t)res;
        r->offset += (uint64_t)res;
        r->ndata = virtq_slice(r->data, r->data, r->ndata, (size_t)res, r->left);
        break;
    case T_DISCARD:
    case T_WRITE_ZEROES:
        if (r->zeroing) {
            if (res <= 0) {
                finish(r, S_IOERR);
                return;
            }
            r->left -= (uint64_t)res;
            r->offset += (uint64_t)res;
            if (!r->left)
                r->at++;
        } else if (res == -EOPNOTSUPP || res == -ENOTTY || res == -ENODEV) {
            /* Discarding is a hint; zeroes have to be there. */
            if (r->type == T_WRITE_ZEROES)
                r->zeroing = true;
            else
                r->at++;
        } else if (res < 0) {
            finish(r, S_IOERR);
            return;
        } else {
            r->at++;
        }
        break;
    default: /* flush */
        finish(r, res < 0 ? S_IOERR : S_OK);
        return;
    }
    advance(r);
}

/* --- steps --- */

static void next_range(struct request *r)
{
    struct blk *b = r->blk;
    const struct range *g = &r->range[r->at];
    uint64_t off = g->sector * 512, len = (uint64_t)g->sectors * 512;

    if (r->zeroing) {
        if (!r->left) {
            r->offset = off;
            r->left = len;
        }
        unsigned n = 0;

        for (uint64_t left = r->left; left && n < ZERO_IOV; n++) {
            size_t part = left < ZERO_CHUNK ? (size_t)left : ZERO_CHUNK;

            r->data[n] = (struct iovec){(void *)zeroes, part};
            left -= part;
        }
        io_writev(b->dev.io, &r->op, b->file, r->data, n, r->offset);
        return;
    }
    bool punch = r->type == T_DISCARD || g->flags & UNMAP;

    io_fallocate(b->dev.io, &r->op, b->file,
                 FALLOC_FL_KEEP_SIZE | (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE), off,
                 len);
}

/* Start the request's next operation, or end it. */
static void advance(struct request *r)
{
    struct blk *b = r->blk;
    struct io *io = b->dev.io;

    if (r->type == T_DISCARD || r->type == T_WRITE_ZEROES) {
        while (r->at < r->nrange && !r->range[r->at].sectors)
            r->at++;
        if (r->at < r->nrange) {
            virtio_hold(&b->dev);
            next_range(r);
            return;
        }
        r->left = 0;
    }
    if (!r->left && (r->type == T_IN || virtio_has(&b->dev, F_FLUSH)) && r->type != T_FLUSH) {
        finish(r, S_OK);
        return;
    }
    virtio_hold(&b->dev);
    if (r->left && r->type == T_IN) {
        io_readv(io, &r->op, b->file, r->data, r->ndata, r->offset);
    } else if (r->left) {
        io_writev(io, &r->op, b->file, r->data, r->ndata, r->offset);
    } else {
        r->syncing = true;
        r->type = r->type == T_DISCARD || r->type == T_WRITE_ZEROES ? T_FLUSH : r->type;
        io_fsync(io, &r->op, b->file, true);
    }
}

/* O_DIRECT wants aligned memory: where the guest's is not, the data goes through some that is. */
static bool bounce(struct request *r)
{
    struct blk *b = r->blk;
    uint64_t bits = 0;

    if (!b->f.direct)
        return true;
    for (unsigned i = 0; i < r->ndata; i++)
        bits |= (uintptr_t)r->data[i].iov_base | r->data[i].iov_len;
    if (!(bits & (b->f.memory_align - 1)))
        return true;
    if (r->left > BOUNCE_MAX || posix_memalign((void **)&r->bounce, 4096, r->left))
        return false;
    if (r->type == T_OUT)
        virtq_gather(r->bounce, r->left, r->data, r->ndata, 0);
    r->data[0] = (struct iovec){r->bounce, r->left};
    r->ndata = 1;
    return true;
}

static bool in_bounds(const struct blk *b, uint64_t sector, uint64_t len)
{
    uint64_t capacity = b->config.capacity;

    return sector <= capacity && len / 512 <= capacity - sector;
}

/* Read or write: what the chain carries besides header and status. */
static uint8_t prepare_data(struct request *r, uint64_t sector)
{
    struct blk *b = r->blk;
    struct virtq_chain *c = &r->chain;
    bool in = r->type == T_IN;

    r->left = in ? c->in_len - 1 : c->out_len - sizeof(struct header);
    if ((!in && b->f.read_only) || r->left % 512 || !in_bounds(b, sector, r->left))
        return S_IOERR;
    if (in)
        r->ndata = virtq_slice(r->data, c->iov + c->nout, c->nin, 0, r->left);
    else
        r->ndata = virtq_slice(r->data, c->iov, c->nout, sizeof(struct header), r->left);
    r->offset = sector * 512;
    return r->left && !bounce(r) ? S_IOERR : S_OK;
}

static uint8_t prepare_ranges(struct request *r)
{
    struct blk *b = r->blk;
    size_t len = r->chain.out_len - sizeof(struct header);
    uint32_t known = r->type == T_WRITE_ZEROES ? UNMAP : 0;

    if (b->f.read_only || !len || len % sizeof(struct range) || len > sizeof r->range)
        return S_IOERR;
    virtq_gather(r->range, len, r->chain.iov, r->chain.nout, sizeof(struct header));
    r->nrange = (unsigned)(len / sizeof(struct range));
    r->at = 0;
    r->left = 0;
    r->zeroing = false;
    for (unsigned i = 0; i < r->nrange; i++) {
        const struct range *g = &r->range[i];

        if (g->flags & ~known)
            return S_UNSUPP;
        if (g->sectors > MAX_SECTORS || !in_bounds(b, g->sector, (uint64_t)g->sectors * 512))
            return S_IOERR;
    }
    return S_OK;
}

static void begin(struct request *r)
{
    struct blk *b = r->blk;
    struct virtq_chain *c = &r->chain;
    struct header h;
    uint8_t status = S_OK;

    r->syncing = false;
    r->left = 0;
    if (virtq_gather(&h, sizeof h, c->iov, c->nout, 0) != sizeof h) {
        r->type = T_FLUSH;
        finish(r, S_IOERR);
        return;
    }
    r->type = h.type;
    switch (h.type) {
    case T_IN:
    case T_OUT:
        status = prepare_data(r, h.sector);
        break;
    case T_DISCARD:
    case T_WRITE_ZEROES:
        status = prepare_ranges(r);
        break;
    case T_FLUSH:
        break;
    case T_GET_ID:
        virtq_scatter(c->iov + c->nout, c->nin, 0, b->f.serial,
                      c->in_len - 1 < BLK_SERIAL ? c->in_len - 1 : BLK_SERIAL);
        finish(r, S_OK);
        return;
    default:
        status = S_UNSUPP;
    }
    if (status != S_OK)
        finish(r, status);
    else
        advance(r);
}

/* --- the device --- */

static void blk_notify(struct virtio_dev *dev, unsigned q)
{
    struct blk *b = (struct blk *)dev;
    struct request *r;

    /* A ring has no more chains in flight than there are requests here. */
    while ((r = b->free) && virtq_pop(&dev->vq[q], &r->chain) > 0) {
        if (!r->chain.in_len) {
            virtio_broken(dev, "a request without room for its status");
            return;
        }
        b->free = r->next;
        begin(r);
    }
}

static void blk_reset(struct virtio_dev *dev)
{
    struct blk *b = (struct blk *)dev;

    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        io_cancel(dev->io, &b->request[i].op);
}

static int blk_attach(struct virtio_dev *dev)
{
    struct blk *b = (struct blk *)dev;

    b->file = io_file_add(dev->io, b->f.fd, 0);
    return b->file < 0 ? b->file : 0;
}

static const struct virtio_ops blk_ops = {
    .name = "blk",
    .id = VIRTIO_ID_BLOCK,
    .attach = blk_attach,
    .notify = blk_notify,
    .reset = blk_reset,
};

int blk_create(const char *arg, struct virtio_dev **dev, char *err, size_t len)
{
    struct blk_file f;
    int r = blk_file_open(arg, &f, err, len);

    if (r)
        return r;
    struct blk *b = calloc(1, sizeof *b);

    if (!b)
        return -ENOMEM;
    b->f = f;
    b->dev.ops = &blk_ops;
    b->dev.nqueues = 1;
    b->dev.vq[0].size_max = QUEUE_SIZE;
    b->dev.vq[0].gather = true;
    b->dev.label = b->f.label;
    b->dev.features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY;
    b->dev.features |= f.read_only ? F_RO : F_DISCARD | F_WRITE_ZEROES;
    b->config = (struct blk_config){
        .capacity = f.size / 512,
        .seg_max = SEGMENTS,
        .blk_size = f.block,
        .physical_block_exp = (uint8_t)__builtin_ctz(4096 / f.block),
        .min_io_size = (uint16_t)(4096 / f.block),
        .max_discard_sectors = MAX_SECTORS,
        .max_discard_seg = RANGES,
        .discard_sector_alignment = 4096 / 512,
        .max_write_zeroes_sectors = MAX_SECTORS,
        .max_write_zeroes_seg = RANGES,
        .write_zeroes_may_unmap = 1,
    };
    b->dev.config = (uint8_t *)&b->config;
    b->dev.config_len = sizeof b->config;
    for (unsigned i = 0; i < QUEUE_SIZE; i++) {
        struct request *q = &b->request[i];

        q->blk = b;
        q->op.done = on_done;
        q->chain.iov = q->iov;
        q->chain.cap = SEGMENTS + 2;
        q->next = b->free;
        b->free = q;
    }
    *dev = &b->dev;
    return 0;
}
