/*
 * virtio-fs (VIRTIO 1.2 §5.11): carries FUSE requests between the guest and the server
 * (fuse_server.h). One high-priority queue (forget) and one for requests; no notification queue, no
 * DAX window.
 *
 * Metadata calls are made on the I/O thread, synchronously: most take a microsecond or two, less
 * than handing them to another thread would. Small reads that the host's cache answers and small
 * writes are done there too; what is large, may wait for a disk, or is fsync goes through io.h
 * between the file and guest memory.
 */
#include "virtio/virtio.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/virtio_fs.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "virtio/fuse_server.h"

enum { Q_HIPRIO, Q_REQUEST, QUEUES };

#define CHAIN_MAX   512u /* 1 MiB in single pages, and headers: what FUSE_INIT offers */
#define HIPRIO_SIZE 128u
#define SLOTS       32u
#define FILES_MAX   SLOTS /* open files that io knows at a time */
#define INLINE_MAX  131072u
#define PASS_MAX    64u /* requests before other devices get their turn */
#define SHARES_MAX  8u

struct fs_dev;

/* An open file that io has a number for. */
struct known {
    int *number; /* in the server, NULL: free */
    unsigned busy;
};

/* An operation in flight. */
struct slot {
    struct io_op op;
    struct fs_dev *f;
    struct slot *next_free;
    struct known *file;
    bool busy, dead; /* dead: the guest has reset the device meanwhile */
    struct virtq *vq;
    struct fuse_io io;
    struct virtq_chain chain;
    unsigned ndata;
    struct iovec iov[CHAIN_MAX], data[CHAIN_MAX];
};

struct fs_dev {
    struct virtio_dev dev;
    struct virtio_fs_config config;
    char *path; /* where a program finds it, or NULL */
    struct fuse_fs *fs;
    int dir;
    bool ro;
    struct known known[FILES_MAX];
    unsigned next_known;
    struct slot *free;
    struct iovec iov[CHAIN_MAX], data[CHAIN_MAX];
    struct slot slot[SLOTS];
};

static struct fuse_buf buf_of(const struct virtq_chain *c)
{
    return (struct fuse_buf){.in = c->iov, .nin = c->nout, .out = c->iov + c->nout, .nout = c->nin};
}

/* --- data --- */

static void forget_file(struct fs_dev *f, struct known *k)
{
    io_file_remove(f->dev.io, *k->number);
    *k->number = -1;
    k->number = NULL;
}

static void file_closing(void *opaque, int file)
{
    struct fs_dev *f = opaque;

    for (unsigned i = 0; i < FILES_MAX; i++)
        if (f->known[i].number && *f->known[i].number == file) {
            forget_file(f, &f->known[i]);
            return;
        }
}

/* The open file as io knows it; NULL: it is to be done without. */
static struct known *file_of(struct fs_dev *f, const struct fuse_io *io)
{
    struct known *k = NULL;

    for (unsigned i = 0; i < FILES_MAX; i++)
        if (f->known[i].number == io->file)
            return &f->known[i];
    /* Another's place, in turn: there are as many as operations, so one is idle. */
    for (unsigned i = 0; i < FILES_MAX && (!k || k->busy); i++)
        k = &f->known[f->next_known++ % FILES_MAX];
    if (k->busy)
        return NULL;
    if (k->number)
        forget_file(f, k);
    int flags = fcntl(io->fd, F_GETFL);

    /* Opened so for the sake of what might have been no file; here it would mean "do not wait". */
    if (flags < 0 || fcntl(io->fd, F_SETFL, flags & ~O_NONBLOCK))
        return NULL;
    int file = io_file_add(f->dev.io, io->fd, 0);

    if (file < 0)
        return NULL;
    *io->file = file;
    k->number = io->file;
    return k;
}

static void finish(struct slot *s, int64_t res)
{
    struct fs_dev *f = s->f;
    struct fuse_buf b = buf_of(&s->chain);

    s->file->busy--;
    if (s->dead)
        fuse_io_drop(f->fs, &s->io);
    else
        virtq_push(s->vq, &s->chain, (uint32_t)fuse_io_done(f->fs, &b, &s->io, res));
    s->busy = false;
    s->next_free = f->free;
    f->free = s;
    virtio_release(&f->dev);
}

static void on_done(struct io_op *op, int res)
{
    struct slot *s = (struct slot *)((char *)op - offsetof(struct slot, op));

    /* A short read is the end of the file for the guest: so it must be. */
    if (s->io.kind == FUSE_IO_READ && !s->dead && res > 0 && (uint32_t)res < s->io.len)
        finish(s, fuse_io_run(&s->io, s->data, s->ndata, false));
    else
        finish(s, res);
}

static void begin(struct fs_dev *f, struct slot *s, int file)
{
    struct io *io = f->dev.io;

    switch (s->io.kind) {
    case FUSE_IO_READ:
        io_readv(io, &s->op, file, s->data, s->ndata, s->io.off);
        break;
    case FUSE_IO_WRITE:
        io_writev(io, &s->op, file, s->data, s->ndata, s->io.off);
        break;
    default:
        io_fsync(io, &s->op, file, s->io.kind == FUSE_IO_DATASYNC);
    }
}

/* Do io for the chain: the reply's length, or FUSE_LATER. */
static int64_t transfer(struct fs_dev *f, struct virtq *vq, const struct virtq_chain *c,
                        const struct fuse_io *io)
{
    struct fuse_buf b = buf_of(c);
    bool sync = io->kind != FUSE_IO_READ && io->kind != FUSE_IO_WRITE;
    unsigned n = 0;
    int64_t res = -EAGAIN;

    if (io->kind == FUSE_IO_READ)
        n = virtq_slice(f->data, b.out, b.nout, io->skip, io->len);
    else if (io->kind == FUSE_IO_WRITE)
        n = virtq_slice(f->data, b.in, b.nin, io->skip, io->len);
    if (!sync && io->len <= INLINE_MAX)
        res = fuse_io_run(io, f->data, n, true);
    if (res != -EAGAIN)
        return fuse_io_done(f->fs, &b, io, res);
    struct known *k = f->free ? file_of(f, io) : NULL;

    if (!k)
        return fuse_io_done(f->fs, &b, io, fuse_io_run(io, f->data, n, false));
    struct slot *s = f->free;

    f->free = s->next_free;
    s->busy = true;
    s->dead = false;
    s->file = k;
    k->busy++;
    s->vq = vq;
    s->io = *io;
    s->chain = *c;
    s->chain.iov = s->iov;
    memcpy(s->iov, c->iov, sizeof(struct iovec) * ((size_t)c->nout + c->nin));
    memcpy(s->data, f->data, sizeof(struct iovec) * n);
    s->ndata = n;
    virtio_hold(&f->dev);
    begin(f, s, *k->number);
    return FUSE_LATER;
}

/* --- the device --- */

static void fs_notify(struct virtio_dev *dev, unsigned q)
{
    struct fs_dev *f = (struct fs_dev *)dev;
    struct virtq *vq = &dev->vq[q];
    struct virtq_chain c = {.iov = f->iov, .cap = CHAIN_MAX};
    unsigned left = PASS_MAX;

    for (; left && virtq_pop(vq, &c) > 0; left--) {
        struct fuse_buf b = buf_of(&c);
        struct fuse_io io;
        int64_t len = fuse_request(f->fs, &b, &io);

        if (len == FUSE_LATER)
            len = transfer(f, vq, &c, &io);
        if (len != FUSE_LATER)
            virtq_push(vq, &c, (uint32_t)len);
    }
    if (!left)
        virtio_look_again(dev, q);
}

static void fs_reset(struct virtio_dev *dev)
{
    struct fs_dev *f = (struct fs_dev *)dev;

    for (unsigned i = 0; i < SLOTS; i++)
        if (f->slot[i].busy) {
            f->slot[i].dead = true;
            io_cancel(dev->io, &f->slot[i].op);
        }
    fuse_reset(f->fs);
}

static const struct virtio_ops fs_ops = {
    .name = "fs",
    .id = VIRTIO_ID_FS,
    .notify = fs_notify,
    .reset = fs_reset,
};

/* --- making it --- */

struct wish {
    char *dir;
    const char *tag; /* into dir's text, or NULL */
    char *path;      /* the same, where it begins with '/' */
    bool ro;
};

/* Absolute, without "." and ".."; made plain: no empty parts, no '/' at the end but for "/". */
static int plain_path(char *path)
{
    char *out = path, *in = path;

    while (*in) {
        while (*in == '/')
            in++;
        size_t n = strcspn(in, "/");

        if (!n)
            break;
        if (n > 255 || (*in == '.' && (n == 1 || (n == 2 && in[1] == '.'))))
            return -EINVAL;
        *out++ = '/';
        memmove(out, in, n);
        out += n;
        in += n;
    }
    if (out == path)
        *out++ = '/';
    *out = 0;
    return out - path < PATH_MAX ? 0 : -EINVAL;
}

/* Where what follows DIR begins: the ',' or the ":/PATH" or ":TAG". A ':' or ',' of DIR itself is
 * one with a '/' after it, but for the last ":/". */
static char *end_of_dir(char *dir)
{
    char *last = strrchr(dir, '/'), *path = NULL;

    for (char *p = dir; (p = strstr(p, ":/")); p++)
        path = p;
    return path ? path : (last ? last : dir) + strcspn(last ? last : dir, ":,");
}

/* DIR[:TAG][,ro] or DIR:/PATH[,ro]. */
static int parse(const char *arg, struct wish *w, char *err, size_t len)
{
    char *dir = strdup(arg);

    *w = (struct wish){.dir = dir};
    if (!dir)
        return -ENOMEM;
    char *end = end_of_dir(dir), *comma = strchr(end, ',');

    if (comma) {
        *comma++ = 0;
        w->ro = !strcmp(comma, "ro");
        if (!w->ro) {
            snprintf(err, len,
                     "unknown option '%s'; DIR[:TAG][,ro] (a DIR with a comma: end it "
                     "with '/')",
                     comma);
            return -EINVAL;
        }
    }
    if (*end == ':') {
        *end++ = 0;
        if (*end == '/')
            w->path = end;
        else
            w->tag = end;
    }
    if (!*dir)
        snprintf(err, len, "no directory; DIR[:TAG][,ro]");
    else if (w->tag && (!*w->tag || strlen(w->tag) > sizeof((struct virtio_fs_config *)0)->tag))
        snprintf(err, len, "a tag has 1 to 36 bytes; DIR[:TAG][,ro]");
    else if (w->path && plain_path(w->path))
        snprintf(err, len, "'%s' is no place to mount at: give an absolute path without '..'",
                 w->path);
    else
        return 0;
    return -EINVAL;
}

/* Two shares with one tag could not be told apart. */
static int take_tag(struct virtio_fs_config *config, const char *want, char *err, size_t len)
{
    static char taken[SHARES_MAX][sizeof config->tag + 1];
    static unsigned n;
    char number[16];

    if (!want) {
        snprintf(number, sizeof number, n ? "share%u" : "share", n);
        want = number;
    }
    for (unsigned i = 0; i < n && i < SHARES_MAX; i++)
        if (!strcmp(taken[i], want)) {
            snprintf(err, len, "tag '%s': another share has it; give this one its own, DIR:TAG",
                     want);
            return -EEXIST;
        }
    memcpy(config->tag, want, strlen(want));
    if (n < SHARES_MAX)
        strcpy(taken[n++], want);
    return 0;
}

static int take_path(struct fs_dev *f, const char *want, char *err, size_t len)
{
    static const char *taken[SHARES_MAX];
    static unsigned n;

    if (!want)
        return 0;
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(taken[i], want)) {
            snprintf(err, len, "'%s': another share is there; give this one its own, DIR:/PATH",
                     want);
            return -EEXIST;
        }
    f->path = strdup(want);
    if (!f->path)
        return -ENOMEM;
    if (n < SHARES_MAX)
        taken[n++] = f->path;
    return 0;
}

static int open_dir(const struct wish *w, char *err, size_t len)
{
    int fd = open(w->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int e = fd < 0 ? errno : faccessat(fd, ".", R_OK | X_OK, 0) ? errno : 0;

    if (!e)
        return fd;
    if (fd >= 0)
        close(fd);
    snprintf(err, len, "'%s': %s; %s", w->dir, strerror(e),
             e == ENOENT    ? "give a directory that exists"
             : e == ENOTDIR ? "only a directory can be shared (a file: --disk)"
                            : "give a directory that you can read");
    return -e;
}

static int make(struct fs_dev *f, const struct wish *w, char *err, size_t len)
{
    static const char format[] = "share '%s'";
    char *label = malloc(sizeof format + strlen(w->dir));

    if (!label)
        return -ENOMEM;
    sprintf(label, format, w->dir);
    f->dev.ops = &fs_ops;
    f->dev.label = label;
    f->dev.nqueues = QUEUES;
    f->dev.vq[Q_HIPRIO].size_max = HIPRIO_SIZE;
    f->dev.vq[Q_REQUEST].size_max = CHAIN_MAX;
    /* No gathering: a file system asks for one thing at a time, and waits for it. */
    f->dev.vq[Q_REQUEST].linger = true;
    f->dev.config = (uint8_t *)&f->config;
    f->dev.config_len = sizeof f->config;
    f->config.num_request_queues = 1;
    for (unsigned i = 0; i < SLOTS; i++) {
        f->slot[i].f = f;
        f->slot[i].op.done = on_done;
        f->slot[i].next_free = f->free;
        f->free = &f->slot[i];
    }
    int fd = open_dir(w, err, len);

    if (fd < 0)
        return fd;
    int e = take_tag(&f->config, w->tag, err, len);

    if (!e)
        e = take_path(f, w->path, err, len);
    if (e) {
        close(fd);
        return e;
    }
    f->dir = fd;
    f->ro = w->ro;
    e = fuse_create(&f->fs, fd, w->ro);
    if (!e)
        fuse_on_close(f->fs, file_closing, f);
    return e;
}

int fs_directory(const struct virtio_dev *dev, bool *read_only)
{
    const struct fs_dev *f = (const struct fs_dev *)dev;

    *read_only = f->ro;
    return f->dir;
}

const char *fs_path(const struct virtio_dev *dev)
{
    return ((const struct fs_dev *)dev)->path;
}

int fs_create(const char *arg, struct virtio_dev **dev, char *err, size_t len)
{
    struct fs_dev *f = calloc(1, sizeof *f);
    struct wish w;
    int e = -ENOMEM;

    *err = 0;
    if (f) {
        e = parse(arg ? arg : "", &w, err, len);
        if (!e)
            e = make(f, &w, err, len);
        free(w.dir);
    }
    if (e && !*err)
        snprintf(err, len, "%s%s", strerror(-e), e == -ENOMEM ? "; share fewer directories" : "");
    if (e)
        free(f);
    else
        *dev = &f->dev;
    return e;
}
