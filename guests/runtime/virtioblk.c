/*
 * virtio-blk, driver side (VIRTIO 1.2 §5.2): the disks of --disk as /dev/vda, /dev/vdb, ... One
 * request at a time, and the whole program waits for it; nothing but a sector is cached, so a part
 * of a sector is written by reading it first. What a write has returned from is in the host's file,
 * and on its disk after fsync.
 */
#include <asm/fcntl.h>
#include <asm/poll.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/virtio.h"

#define F_RO    (1ull << 5)
#define F_FLUSH (1ull << 9)
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4 };
enum { S_OK = 0 };

#define DISKS  8u
#define SECTOR 512ull
#define QUEUE  4
#define MAJOR  254u /* the first that Linux gives to drivers without one of their own */

static struct disk {
    struct virtio device;
    struct virtq queue;
    uint64_t bytes, features;
    char *request; /* header, then the status byte: a block of kalloc()'s */
    /* The last sector of the last write, for the next one, which often goes on there. */
    char *tail; /* NULL: no memory for it */
    uint64_t tail_at;
} disks[DISKS];

struct header {
    uint32_t type, reserved;
    uint64_t sector;
};

/* Whole sectors between the disk and the runtime's memory; T_FLUSH: no data. */
static int request(struct disk *d, uint32_t type, uint64_t at, void *data, uint64_t len)
{
    volatile uint8_t *status = (uint8_t *)d->request + sizeof(struct header);
    unsigned n = 0;

    *(struct header *)d->request = (struct header){.type = type, .sector = at / SECTOR};
    *status = 255;
    virtq_put(&d->queue, n++, d->request, sizeof(struct header), VIRTQ_NEXT);
    if (len)
        virtq_put(&d->queue, n++, data, len, VIRTQ_NEXT | (type == T_IN ? VIRTQ_WRITE : 0));
    virtq_put(&d->queue, n, d->request + sizeof(struct header), 1, VIRTQ_WRITE);
    return virtq_request(&d->queue, 0) && *status == S_OK ? 0 : -EIO;
}

static struct disk *disk_of(const struct file *f)
{
    return &disks[f->inode->rdev / 16 % 16];
}

/* What of [pos, pos + len) a request can carry: whole sectors from *start, through the bounce
 * buffer. */
static uint64_t piece(uint64_t pos, uint64_t len, uint64_t *start, uint64_t *sectors)
{
    *start = pos & ~(SECTOR - 1);
    len = least(len, *start + BOUNCE - pos);
    *sectors = ((pos + len + SECTOR - 1) & ~(SECTOR - 1)) - *start;
    return len;
}

static int64_t disk_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct disk *d = disk_of(f);
    uint64_t done = 0;

    len = *pos < d->bytes ? least(len, d->bytes - *pos) : 0;
    while (done < len) {
        uint64_t start, bytes, n = piece(*pos, len - done, &start, &bytes);
        int64_t err = request(d, T_IN, start, bounce, bytes);

        if (!err && copy_out(buf + done, bounce + (*pos - start), n))
            err = -EFAULT;
        if (err)
            return done ? (int64_t)done : err;
        done += n;
        *pos += n;
    }
    return (int64_t)done;
}

/* A sector of which a part will be written. */
static int old_sector(struct disk *d, uint64_t at, char *out)
{
    if (!d->tail || d->tail_at != at)
        return request(d, T_IN, at, out, SECTOR);
    copy(out, d->tail, SECTOR);
    return 0;
}

static int write_piece(struct disk *d, uint64_t buf, uint64_t pos, uint64_t n, uint64_t start,
                       uint64_t bytes)
{
    uint64_t last = start + bytes - SECTOR;
    int err = 0;

    if (pos != start)
        err = old_sector(d, start, bounce);
    if (!err && pos + n != start + bytes && (pos == start || last != start))
        err = old_sector(d, last, bounce + (last - start));
    if (!err && copy_in(bounce + (pos - start), buf, n))
        err = -EFAULT;
    if (err)
        return err;
    d->tail_at = NEVER;
    err = request(d, T_OUT, start, bounce, bytes);
    if (!err && d->tail) {
        copy(d->tail, bounce + (last - start), SECTOR);
        d->tail_at = last;
    }
    return err;
}

static int disk_sync(struct file *f)
{
    struct disk *d = disk_of(f);

    return d->features & F_FLUSH ? request(d, T_FLUSH, 0, NULL, 0) : 0;
}

static int64_t disk_write(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct disk *d = disk_of(f);
    uint64_t done = 0;
    int64_t err = 0;

    if (d->features & F_RO)
        return -EPERM;
    if (len && *pos >= d->bytes)
        return -ENOSPC;
    len = least(len, d->bytes - *pos);
    while (done < len) {
        uint64_t start, bytes, n = piece(*pos, len - done, &start, &bytes);

        err = write_piece(d, buf + done, *pos, n, start, bytes);
        if (err)
            break;
        done += n;
        *pos += n;
    }
    if (!err && f->flags & O_DSYNC)
        err = disk_sync(f);
    return done && err != -EIO ? (int64_t)done : err;
}

static unsigned disk_poll(struct file *f)
{
    (void)f;
    return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
}

static int64_t disk_ioctl(struct file *f, uint64_t cmd, uint64_t arg)
{
    struct disk *d = disk_of(f);
    uint32_t sector = SECTOR, ro = (d->features & F_RO) != 0;
    uint64_t sectors = d->bytes / SECTOR;

    switch (cmd) {
    case BLKGETSIZE64:
        return copy_out(arg, &d->bytes, sizeof d->bytes);
    case BLKGETSIZE:
        return copy_out(arg, &sectors, sizeof sectors);
    case BLKSSZGET:
        return copy_out(arg, &sector, sizeof sector);
    case BLKROGET:
        return copy_out(arg, &ro, sizeof ro);
    case BLKFLSBUF:
        return disk_sync(f);
    default:
        return -ENOTTY;
    }
}

static const struct file_ops disk_ops = {.read = disk_read,
                                         .write = disk_write,
                                         .poll = disk_poll,
                                         .ioctl = disk_ioctl,
                                         .sync = disk_sync,
                                         .seekable = true};

void disks_init(void)
{
    char name[] = "/dev/vda";

    for (unsigned n = 0; n < DISKS; n++, name[7]++) {
        struct disk *d = &disks[n];

        if (!virtio_find(&d->device, VIRTIO_BLK, n))
            return;
        d->request = kalloc(sizeof(struct header) + 1);
        if (!d->request || !virtio_start(&d->device, F_RO | F_FLUSH, &d->features) ||
            !virtio_queue(&d->device, &d->queue, 0, QUEUE, false))
            continue;
        d->tail = kalloc(SECTOR);
        d->tail_at = NEVER;
        d->bytes =
            (virtio_config(&d->device, 0) | (uint64_t)virtio_config(&d->device, 4) << 32) * SECTOR;
        virtio_go(&d->device);
        struct inode *i = inode_new(S_IFBLK | (d->features & F_RO ? 0440 : 0660));

        i->ops = &disk_ops;
        i->rdev = MAJOR << 8 | n * 16;
        i->size = d->bytes;
        fs_place(name, i);
    }
}
