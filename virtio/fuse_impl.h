/*
 * Inside the FUSE server: the session, its tables, and what the operations share.
 *
 * An inode that the guest knows is remembered by what it is (device, number, time of birth) and
 * where it was last seen (directory and name). It holds a descriptor only while that is of use:
 * directories that are worked in, and files removed while the guest still knows them. The others
 * are reached by name and checked to be the same file; else the guest gets ESTALE and looks again.
 * So a tree of any size needs few descriptors.
 */
#ifndef VIRTIO_FUSE_IMPL_H
#define VIRTIO_FUSE_IMPL_H

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <linux/stat.h> /* struct statx, which not every libc has */
#include "virtio/fuse_server.h"

#define FUSE_INODES_MAX  (1u << 20)
#define FUSE_HANDLES_MAX (1u << 14)
#define FUSE_BUCKETS     (1u << 17)
#define FUSE_DEPTH_MAX   512u  /* directories reopened for one request */
#define FUSE_DIRBUFS_MAX 1024u /* directories in the middle of being read */
#define FUSE_WRITE_MAX   (1u << 20)
#define FUSE_REPLY_MAX   65536u /* of what is not file data */
#define FUSE_TEXT_MAX    (65536u + 4096u + 512u)
#define FUSE_NONE        UINT32_MAX

struct fuse_id {
    uint64_t dev, ino, btime;
};

struct fuse_inode {
    struct fuse_id id;
    uint64_t nlookup;
    uint64_t parent; /* node number */
    char *name;      /* NULL: removed (then fd is all there is), or the root */
    uint64_t cached; /* ctime (ns) of what the guest may keep in its page cache, 0: nothing */
    int fd;          /* O_PATH, -1 */
    uint32_t gen;
    uint32_t chain;          /* of the hash; of free slots */
    uint32_t newer, older;   /* list of inodes whose fd may be closed */
    uint32_t type;           /* S_IFMT */
    bool used, listed, keep; /* keep: not to be closed just now */
};

struct fuse_handle {
    int fd, file;
    uint32_t gen, busy;
    bool used, dir, closed; /* closed: released while operations are in flight */
    bool append;
    uint32_t next_free;
    struct fuse_dirbuf *buf;
};

/* What getdents() gave and the guest has not had yet. */
struct fuse_dirbuf {
    uint64_t off; /* cookie of the entry at pos */
    uint32_t pos, len;
    _Alignas(8) uint8_t data[16384];
};

struct fuse_fs {
    int root_fd, proc_fd;
    bool ro, as_root, started, no_btime, no_openat2;
    uint64_t root_dev;
    struct fuse_inode *inode; /* [FUSE_INODES_MAX]; 0 is the root */
    uint32_t *bucket;
    uint32_t inodes_high, inode_free, newest, oldest;
    struct fuse_handle *handle; /* [FUSE_HANDLES_MAX] */
    uint32_t handles_high, handle_free;
    unsigned inode_fds, inode_fds_max, dirbufs;
    struct fuse_counts count;
    void (*closing)(void *opaque, int file);
    void *opaque;
    char text[FUSE_TEXT_MAX + 1];
    _Alignas(8) uint8_t reply[FUSE_REPLY_MAX];
};

/* One request being served. */
struct fuse_req {
    struct fuse_in_header h;
    union fuse_args {
        struct fuse_forget_in forget;
        struct fuse_batch_forget_in batch;
        struct fuse_getattr_in getattr;
        struct fuse_mknod_in mknod;
        struct fuse_mkdir_in mkdir;
        struct fuse_rename_in rename;
        struct fuse_rename2_in rename2;
        struct fuse_link_in link;
        struct fuse_setattr_in setattr;
        struct fuse_open_in open;
        struct fuse_create_in create;
        struct fuse_release_in release;
        struct fuse_flush_in flush;
        struct fuse_read_in read;
        struct fuse_write_in write;
        struct fuse_fsync_in fsync;
        struct fuse_setxattr_in setxattr;
        struct fuse_getxattr_in getxattr;
        struct fuse_access_in access;
        struct fuse_init_in init;
        struct fuse_fallocate_in fallocate;
        struct fuse_lseek_in lseek;
        struct fuse_copy_file_range_in copy;
    } a;
    struct fuse_inode *node;  /* of h.nodeid */
    const char *name, *name2; /* in fs->text */
    const char *rest;         /* after them */
    uint32_t rest_len;
    const struct fuse_buf *b;
    uint32_t args_end; /* byte of the request after the fixed arguments */
    uint32_t out_room; /* for the reply's body */
    uint32_t out_len;  /* of it, in fs->reply */
    struct fuse_io *io;
};

/* An operation: 0 (the reply is in fs->reply), -errno, or one of these. */
enum { FUSE_OP_IO = 1, FUSE_OP_SILENT = 2 };
typedef int fuse_op(struct fuse_fs *fs, struct fuse_req *r);

/* --- fuse_inode.c: tables, and the only ways to a descriptor --- */
int fuse_tables(struct fuse_fs *fs);
void fuse_tables_free(struct fuse_fs *fs);
void fuse_forget_all(struct fuse_fs *fs);
struct fuse_inode *fuse_node(struct fuse_fs *fs, uint64_t nodeid);
uint64_t fuse_nodeid(const struct fuse_fs *fs, const struct fuse_inode *n);
/* Is name one component, below its directory? 0, -EINVAL, -ENAMETOOLONG. */
int fuse_name(const char *name);
/* Attributes of name in dirfd, or of dirfd itself ("" as name). Never follows. 0 or -errno. */
int fuse_stat_at(int dirfd, const char *name, struct statx *st);
/* The descriptor of n, O_PATH: the server's, good until the next call that takes one unless n->keep
 * is set. -errno, -ESTALE: not to be found where it was. */
int fuse_path_fd(struct fuse_fs *fs, struct fuse_inode *n);
/* The same, for working in: -ENOTDIR. */
int fuse_dir_fd(struct fuse_fs *fs, struct fuse_inode *n);
int fuse_stat(struct fuse_fs *fs, struct fuse_inode *n, struct statx *st);
/* Open n itself: a regular file or directory, nothing else (-ENXIO, -ELOOP). A new descriptor, the
 * caller's. st may be NULL. */
int fuse_reopen(struct fuse_fs *fs, struct fuse_inode *n, int flags, struct statx *st);
/* Open name in dirfd, not following. */
int fuse_openat(struct fuse_fs *fs, int dirfd, const char *name, int flags, uint32_t mode);
/* The guest has learnt of the file st as name in dir: its inode, one lookup counted. NULL: full. */
struct fuse_inode *fuse_enter(struct fuse_fs *fs, struct fuse_inode *dir, const char *name,
                              const struct statx *st);
void fuse_forget(struct fuse_fs *fs, struct fuse_inode *n, uint64_t count);
/* Before name in dir is removed or replaced: its inode keeps a descriptor if the guest knows it. */
struct fuse_inode *fuse_before_removal(struct fuse_fs *fs, struct fuse_inode *dir, int dirfd,
                                       const char *name);
/* It is removed from there; or it has moved. */
void fuse_removed(struct fuse_fs *fs, struct fuse_inode *n);
void fuse_moved(struct fuse_fs *fs, struct fuse_inode *n, struct fuse_inode *dir, const char *name);
/* n in decimal: a name in /proc/self/fd. */
void fuse_decimal(char buf[12], unsigned n);
/* The inode of st, or NULL. */
struct fuse_inode *fuse_find(struct fuse_fs *fs, const struct statx *st);

/* --- fuse_handle.c: open files --- */
/* -ENFILE. A slot first, so that an open cannot fail after it had effects; then fill in fd. */
int fuse_handle_new(struct fuse_fs *fs, struct fuse_handle **h);
uint64_t fuse_handle_number(const struct fuse_fs *fs, const struct fuse_handle *h);
struct fuse_handle *fuse_handle_get(struct fuse_fs *fs, uint64_t fh, bool dir);
void fuse_handle_free(struct fuse_fs *fs, struct fuse_handle *h);
void fuse_handle_idle(struct fuse_fs *fs, struct fuse_handle *h); /* an operation of it ended */
/* A new descriptor is about to be opened: close what is not needed if there are too many. */
int fuse_make_room(struct fuse_fs *fs);
bool fuse_fds_short(void); /* the process is near its limit of descriptors */
void fuse_fd_opened(void);
void fuse_fd_close(int fd);

/* --- fuse_attr.c --- */
void fuse_fill_attr(const struct fuse_fs *fs, const struct statx *st, struct fuse_attr *attr);
void fuse_fill_entry(const struct fuse_fs *fs, const struct fuse_inode *n, const struct statx *st,
                     struct fuse_entry_out *out);
/* Reply with the entry name of dir, which has just been found or made. */
int fuse_reply_entry(struct fuse_fs *fs, struct fuse_req *r, struct fuse_inode *dir,
                     const char *name, const struct statx *st);
/* Mode of the file behind an O_PATH descriptor (not a symbolic link's). */
int fuse_chmod(struct fuse_fs *fs, int fd, uint32_t mode);
/* A file that a request made: owner, group and mode as the guest's kernel means them. st is brought
 * up to date. */
int fuse_own(struct fuse_fs *fs, const struct fuse_req *r, int dirfd, int fd, uint32_t mode,
             struct statx *st);
/* Take set-user-ID and set-group-ID from a file about to be changed by one without CAP_FSETID. */
void fuse_kill_suidgid(int fd);

fuse_op fuse_op_lookup, fuse_op_forget, fuse_op_batch_forget, fuse_op_getattr, fuse_op_setattr,
    fuse_op_access, fuse_op_statfs;
/* --- fuse_file.c --- */
fuse_op fuse_op_open, fuse_op_create, fuse_op_read, fuse_op_write, fuse_op_release, fuse_op_fsync,
    fuse_op_fallocate, fuse_op_lseek, fuse_op_copy;
/* --- fuse_dir.c --- */
void fuse_dirbuf_free(struct fuse_fs *fs, struct fuse_handle *h);
fuse_op fuse_op_opendir, fuse_op_readdir, fuse_op_readdirplus, fuse_op_releasedir, fuse_op_fsyncdir;
/* --- fuse_name.c --- */
fuse_op fuse_op_mknod, fuse_op_mkdir, fuse_op_symlink, fuse_op_readlink, fuse_op_link,
    fuse_op_unlink, fuse_op_rmdir, fuse_op_rename, fuse_op_rename2;
/* --- fuse_xattr.c --- */
fuse_op fuse_op_setxattr, fuse_op_getxattr, fuse_op_listxattr, fuse_op_removexattr;

#endif
