/* The host directories of --share: inodes with a FUSE node. */
#ifndef GUESTS_RUNTIME_HOSTFS_H
#define GUESTS_RUNTIME_HOSTFS_H

#include "guests/runtime/fs.h"

/* --- virtiofs.c --- */
#define SHARES 8u
unsigned virtiofs_init(void); /* how many shares there are */
struct stretch {              /* of the runtime's addresses */
    void *at;
    uint64_t len;
};
#define STRETCHES 96u
struct fuse_call {
    uint8_t share;
    uint32_t op;
    uint64_t node;
    const void *in;
    uint64_t in_len;
    const void *name; /* behind in: names with their NULs */
    uint64_t name_len;
    void *out;
    uint64_t out_len;
    const struct stretch *data; /* of a write (data_in bytes), or room for a read's (data_out) */
    unsigned stretches;
    uint64_t data_in, data_out;
};
/* -errno, or how much data came. */
int64_t fuse_call(const struct fuse_call *c);
/* What has no answer; what has one that nobody waits for. */
void fuse_tell(uint8_t share, uint32_t op, const void *in, uint64_t len);
void fuse_post(uint8_t share, uint32_t op, uint64_t node, const void *in, uint64_t len);

/* --- hostfs.c: what inode.c and the calls do for an inode with a node --- */
/* Finds the shares, one of which may be the root; the others are mounted when the tree is there. */
void hostfs_init(void);
void hostfs_mount(void);
struct inode *hostfs_share(unsigned n); /* its directory; NULL: there is none */
struct inode *hostfs_find(struct inode *dir, const char *name, size_t len);
extern int hostfs_failed; /* why it found nothing: -ENOENT, or what hindered it */
/* What is made is *made. */
int hostfs_create(struct inode *dir, const char *name, size_t len, uint32_t mode,
                  struct inode **made);
int hostfs_symlink(struct inode *dir, const char *name, size_t len, const char *target);
int hostfs_link(struct inode *dir, const char *name, size_t len, struct inode *i);
int hostfs_remove(struct inode *dir, const char *name, size_t len, bool directory);
int hostfs_rename(struct inode *from, const char *a, size_t alen, struct inode *to, const char *b,
                  size_t blen, uint32_t flags);
int hostfs_resize(struct inode *i, uint64_t size);
int hostfs_chmod(struct inode *i, uint32_t mode);
int hostfs_chown(struct inode *i, uint32_t uid, uint32_t gid);
int hostfs_times(struct inode *i, int64_t atime, int64_t mtime);
/* Nobody holds what a path led to without a reference: the host's names that were seen long ago may
 * be dropped. */
void hostfs_prune(void);
/* The last of it here has gone: the host may forget it too. */
void hostfs_forget(const struct inode *i);
struct statfs;
int hostfs_statfs(const struct inode *i, struct statfs *s);
void hostfs_refresh(struct inode *i);
void hostfs_refresh_file(const struct file *f); /* the same, of one that is open */

/* --- hostfile.c --- */
int hostfs_open(struct file *f, bool truncate);
/* The same for what may not be there yet: *i, and a file that is to be f's. What else is there by
 * that name is -ELOOP (a link), -EISDIR, -ENXIO. */
int hostfs_open_new(struct inode *dir, const char *name, size_t len, uint32_t flags, uint32_t mode,
                    struct inode **i, uint64_t *fh);
void hostfs_close(uint8_t share, uint64_t node, uint64_t fh, bool directory);
int hostfs_fallocate(struct file *f, uint64_t mode, uint64_t off, uint64_t len);
/* A mapped file's pages, by whole pages of kernel memory: from n on (how many bytes came); one. */
int64_t hostfs_pages(const struct inode *i, uint64_t n, void *const page[], unsigned count);
int hostfs_put_page(struct inode *i, uint64_t n, void *page);
void hostfs_mapped(struct file *f);
void hostfs_unmapped(struct inode *i); /* the last mapping has gone */
extern const struct file_ops hostfile_ops;

/* --- hostdir.c --- */
uint64_t hostdir_handle(const struct file *f);
int hostdir_attach(struct file *f, uint64_t fh); /* fh is f's from now on, unless -ENOMEM */
int64_t hostfs_getdents(struct file *f, uint64_t buf, uint64_t size);
extern const struct file_ops hostdir_ops;

/* --- directory.c: one record of getdents64; 0: no room --- */
int64_t put_record(uint64_t at, uint64_t room, uint64_t ino, unsigned type, uint64_t off,
                   const char *name, size_t n);

#endif
