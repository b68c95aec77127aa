/* Open files of the guest, and the process's budget of descriptors. */
#include "virtio/fuse_impl.h"

#include <sys/resource.h>
#include <unistd.h>

/* --- the budget: of all shares together; the I/O thread's --- */

#define FDS_RESERVE 256u /* for everything else that mayfly opens */

static struct {
    unsigned used, max;
} fds;

bool fuse_fds_short(void)
{
    if (!fds.max) {
        struct rlimit r;

        /* As many as are to be had without asking anybody. */
        if (!getrlimit(RLIMIT_NOFILE, &r) && r.rlim_cur < r.rlim_max) {
            r.rlim_cur = r.rlim_max;
            setrlimit(RLIMIT_NOFILE, &r);
        }
        if (getrlimit(RLIMIT_NOFILE, &r))
            r.rlim_cur = 1024;
        fds.max = r.rlim_cur > 65536 ? 65536 : (unsigned)r.rlim_cur;
        fds.max = fds.max > 2 * FDS_RESERVE ? fds.max - FDS_RESERVE : fds.max / 2;
    }
    return fds.used >= fds.max;
}

void fuse_fd_opened(void)
{
    fds.used++;
}

void fuse_fd_close(int fd)
{
    close(fd);
    fds.used--;
}

/* --- handles --- */

int fuse_handle_new(struct fuse_fs *fs, struct fuse_handle **out)
{
    struct fuse_handle *h;

    if (fs->handle_free != FUSE_NONE) {
        h = &fs->handle[fs->handle_free];
        fs->handle_free = h->next_free;
    } else if (fs->handles_high < FUSE_HANDLES_MAX) {
        h = &fs->handle[fs->handles_high++];
    } else {
        return -ENFILE;
    }
    *h = (struct fuse_handle){.gen = h->gen, .fd = -1, .file = -1, .used = true};
    fs->count.handles++;
    *out = h;
    return 0;
}

uint64_t fuse_handle_number(const struct fuse_fs *fs, const struct fuse_handle *h)
{
    return (uint64_t)h->gen << 32 | ((uint64_t)(h - fs->handle) + 1);
}

struct fuse_handle *fuse_handle_get(struct fuse_fs *fs, uint64_t fh, bool dir)
{
    uint32_t i = (uint32_t)fh - 1;

    if (i >= fs->handles_high || !fs->handle[i].used || fs->handle[i].gen != fh >> 32 ||
        fs->handle[i].closed || fs->handle[i].dir != dir)
        return NULL;
    return &fs->handle[i];
}

void fuse_handle_free(struct fuse_fs *fs, struct fuse_handle *h)
{
    h->closed = true;
    if (h->busy) /* the kernel still uses the descriptor */
        return;
    if (h->file >= 0 && fs->closing)
        fs->closing(fs->opaque, h->file);
    if (h->fd >= 0)
        fuse_fd_close(h->fd);
    fuse_dirbuf_free(fs, h);
    *h = (struct fuse_handle){.gen = h->gen + 1, .fd = -1, .next_free = fs->handle_free};
    fs->handle_free = (uint32_t)(h - fs->handle);
    fs->count.handles--;
}

void fuse_handle_idle(struct fuse_fs *fs, struct fuse_handle *h)
{
    h->busy--;
    if (h->closed)
        fuse_handle_free(fs, h);
}
