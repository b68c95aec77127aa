/*
 * A FUSE server for one host directory: requests in, replies out, as lists of memory. It knows
 * nothing of virtio; virtio/fs.c carries its requests.
 *
 * Confinement. The server reaches files only from descriptors of directories it holds, by one name
 * at a time (never "", ".", "..", never with a '/'), never through a symbolic link: openat2() with
 * RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, or *at() calls that do not follow. Symbolic links are
 * data: the guest reads and resolves them. Only regular files and directories are ever opened;
 * device nodes are not made.
 *
 * Owners. Where mayfly runs as root, a new file gets the user and group of the guest's process
 * (a set-group-ID directory passes on its group), and chown does what it says. Otherwise everything
 * belongs to the user who runs mayfly and chown to others is EPERM. The guest's kernel checks
 * permissions (default_permissions); the host's then apply to mayfly's user.
 *
 * Extended attributes: user.* only; others are EOPNOTSUPP, and not listed.
 *
 * Caching. Names, that there is none of a name, and attributes are good for one second in the
 * guest, so a change made on the host is seen within that. Cached data is kept over opens of a file
 * that did not change. Writes go through at once.
 *
 * Everything is called on one thread. Metadata calls are made synchronously there.
 */
#ifndef VIRTIO_FUSE_SERVER_H
#define VIRTIO_FUSE_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct fuse_fs;
struct fuse_handle;

/* A request (device-readable) and the room for its reply; hostile, and changing while it is read.
 */
struct fuse_buf {
    const struct iovec *in, *out;
    unsigned nin, nout;
};

/* Data or fsync, for the caller to do as it likes best. */
struct fuse_io {
    enum fuse_io_kind { FUSE_IO_READ, FUSE_IO_WRITE, FUSE_IO_SYNC, FUSE_IO_DATASYNC } kind;
    int fd;
    uint64_t off;
    uint32_t len;  /* bytes; not of a sync */
    uint32_t skip; /* the data begins at this byte of the reply (READ), of the request (WRITE) */
    int *file;     /* for the caller, lives with the open file; -1 at first */
    /* --- the server's own --- */
    struct fuse_handle *handle;
    uint64_t unique;
};

/* Serve dir (open, O_PATH will do; the server's from now on, also on failure). 0 or -errno. */
int fuse_create(struct fuse_fs **fs, int dir, bool read_only);
void fuse_destroy(struct fuse_fs *fs);

/* Called before an open file whose *file is not -1 is closed. */
void fuse_on_close(struct fuse_fs *fs, void (*closing)(void *opaque, int file), void *opaque);

#define FUSE_LATER (-1)
/* Serve one request: the length of the reply placed in b->out (0: none), or FUSE_LATER: *io is to
 * be done, and fuse_io_done() called with its result, any time. */
int64_t fuse_request(struct fuse_fs *fs, const struct fuse_buf *b, struct fuse_io *io);
/* res: bytes or -errno. Returns the length of the reply. */
int64_t fuse_io_done(struct fuse_fs *fs, const struct fuse_buf *b, const struct fuse_io *io,
                     int64_t res);
/* The same for an operation whose memory is not to be touched any more: no reply. */
void fuse_io_drop(struct fuse_fs *fs, const struct fuse_io *io);
/* Do it now, by system call, between the file and iov[0..n). only_if_ready: -EAGAIN rather than
 * wait for a disk to read from. */
int64_t fuse_io_run(const struct fuse_io *io, const struct iovec *iov, unsigned n,
                    bool only_if_ready);

/* The guest is gone: forget every inode and open file. What is in flight ends by itself. */
void fuse_reset(struct fuse_fs *fs);

/* Descriptors held for inodes, inodes known (the root is one), open files: for tests. */
struct fuse_counts {
    unsigned inode_fds, inodes, handles;
};
struct fuse_counts fuse_count(const struct fuse_fs *fs);
/* At most so many descriptors for inodes; for tests. */
void fuse_limit_fds(struct fuse_fs *fs, unsigned max);

#endif
