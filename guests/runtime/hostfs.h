/* The host directory of --share, under /host: inodes with a FUSE node. */
#ifndef GUESTS_RUNTIME_HOSTFS_H
#define GUESTS_RUNTIME_HOSTFS_H

#include "guests/runtime/fs.h"

/* --- virtiofs.c --- */
bool virtiofs_init(void);
struct fuse_call {
    uint32_t op;
    uint64_t node;
    const void *in;
    uint64_t in_len;
    const void *name; /* behind in: names with their NULs */
    uint64_t name_len;
    void *out;
    uint64_t out_len;
    void *data; /* data of a write (data_in bytes), or room for that of a read (data_out) */
    uint64_t data_in, data_out;
};
/* -errno, or how much data came. */
int64_t fuse_call(const struct fuse_call *c);

/* --- hostfs.c: what inode.c and the calls do for an inode with a node --- */
void hostfs_init(void);
struct inode *hostfs_find(struct inode *dir, const char *name, size_t len);
int64_t hostfs_create(struct inode *dir, const char *name, size_t len, uint32_t mode);
int hostfs_symlink(struct inode *dir, const char *name, size_t len, const char *target);
int hostfs_link(struct inode *dir, const char *name, size_t len, struct inode *i);
int hostfs_remove(struct inode *dir, const char *name, size_t len, bool directory);
int hostfs_rename(struct inode *from, const char *a, size_t alen, struct inode *to, const char *b,
                  size_t blen);
int hostfs_resize(struct inode *i, uint64_t size);
int hostfs_page(struct inode *i, uint64_t n, void *page);
void hostfs_refresh(struct inode *i);
int hostfs_open(struct file *f);
int64_t hostfs_getdents(struct file *f, uint64_t buf, uint64_t size);
extern const struct file_ops hostfile_ops;

/* --- files.c: one record of getdents64; 0: no room --- */
int64_t put_record(uint64_t at, uint64_t room, uint64_t ino, unsigned type, uint64_t off,
                   const char *name, size_t n);

#endif
