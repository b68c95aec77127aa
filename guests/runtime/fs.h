/* Files: an in-memory tree of inodes, open files, descriptors. */
#ifndef GUESTS_RUNTIME_FS_H
#define GUESTS_RUNTIME_FS_H

#include "guests/runtime/runtime.h"

struct file;
struct watch;
struct inode;
struct entry; /* of a directory: directory.c */
struct index;

/* What an open file can do; NULL: -EINVAL. pos NULL: at the file's own position. Buffers are the
 * program's. */
struct file_ops {
    int64_t (*read)(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos);
    int64_t (*write)(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos);
    unsigned (*poll)(struct file *f); /* POLLIN ... now */
    int64_t (*ioctl)(struct file *f, uint64_t cmd, uint64_t arg);
    int (*sync)(struct file *f); /* NULL: nothing to be done */
    void (*release)(struct file *f);
    /* readv and writev in one, where bytes sent apart would not be the same: sockets */
    int64_t (*vector)(struct file *f, uint64_t iov, uint64_t count, bool write);
    bool seekable;
};

struct inode {
    uint32_t mode, uid, gid, refs, nlink, opens;
    uint64_t ino, size;
    int64_t mtime, atime, ctime; /* ns, CLOCK_REALTIME */
    uint64_t **pages;            /* two levels of 512: physical addresses */
    uint8_t *flat;               /* page-aligned bytes that never change, instead of pages */
    /* of a directory: in order; the one that was listed last; by name, where they are many */
    struct entry *entries, *last, *listed;
    struct index *index;
    uint64_t places; /* given to entries so far */
    uint32_t count;
    struct inode *parent;       /* where its name is, the last that was made; NULL: nowhere */
    struct entry *entry;        /* that name, in parent */
    const struct file_ops *ops; /* a device */
    uint64_t rdev;
    struct pipe *pipe;    /* of a named pipe that somebody has open */
    char *target;         /* of a symbolic link */
    uint64_t node;        /* the host's file: its FUSE node; 0: ours */
    uint32_t lookups;     /* how often the host has named it: as often it is to be forgotten */
    uint64_t named_until; /* so long it may be taken to have that name still (clock_ns) */
    uint8_t share;        /* of which --share */
    bool mount;           /* hides what the directory has by that name */
    uint32_t maps;        /* mappings that show it */
    struct file *backing; /* a mapped host file, open */
    /* /proc: makes the content when opened, in at most size bytes; returns its length. */
    size_t (*make)(char *out, size_t size);
    const char *text; /* the same, always this */
};

struct file {
    const struct file_ops *ops;
    struct inode *inode;
    uint32_t refs, flags; /* O_* */
    uint64_t pos;
    bool appended; /* pos is the file's end, which file_settle() asks for */
    void *data;
    struct watch *watches; /* epoll.c */
};

/* --- inode.c --- */
#define INODE_MAX (1ull << 30) /* bytes of a file in memory, or mapped */
void fs_init(void);
struct inode *inode_new(uint32_t mode);
void inode_hold(struct inode *i);
void inode_drop(struct inode *i);
/* The frame of page n, 0 a hole; create: made when it is one (0: no memory). */
uint64_t inode_page(struct inode *i, uint64_t n, bool create);
int inode_resize(struct inode *i, uint64_t size);
/* Kernel memory into a file being set up. */
int inode_put(struct inode *i, uint64_t at, const void *src, uint64_t len);
extern struct inode *root, *cwd;
/* The pages of a host's file, no longer mapped. */
void inode_forget_pages(struct inode *i);
/* Make what is needed so that path exists with this inode (set-up only). */
void fs_place(const char *path, struct inode *i);
struct inode *fs_text(const char *path, const char *text);
extern const struct file_ops regular_ops, directory_ops;

/* --- directory.c --- */
/* Among our own entries; dir_find() asks the host where that has a say. */
struct inode *dir_known(struct inode *dir, const char *name, size_t len);
struct inode *dir_find(struct inode *dir, const char *name, size_t len);
int dir_add(struct inode *dir, const char *name, size_t len, struct inode *i);
int dir_remove(struct inode *dir, const char *name, size_t len);
/* Two entries that are there: each gets the other's file. */
void dir_exchange(struct inode *a, const char *name, size_t len, struct inode *b, const char *other,
                  size_t other_len);
void dir_clear(struct inode *dir); /* all of them */
/* Drop what is known of the host below top and not in use. */
void dir_prune(struct inode *top);
void dir_each(struct inode *dir, void (*what)(struct inode *i));
/* The absolute path of what has a name. */
int64_t path_of(struct inode *dir, char *out, size_t size);

/* --- path.c --- */
struct place {
    struct inode *dir, *inode; /* inode NULL: not there */
    const char *name;          /* last component, inside the path given to path_walk */
    size_t len;
    bool slash;   /* the path ended in '/' */
    bool unasked; /* the host was not asked for the last component: inode says nothing */
};
/* What is done about the last component: nothing more than to find it; a link there is followed;
 * where it is the host's to say whether it is there, the host is not asked, for the call that
 * follows will tell. PATH_RECENT, for calls that only look: the directories on the way may be those
 * that the host named a moment ago (hostfs.c). */
enum { PATH_FIND = 0, PATH_FOLLOW = 1, PATH_UNASKED = 2, PATH_RECENT = 4 };
/* Resolve a path from dirfd: 0, -ENOENT (an inner part is missing), ... */
int path_walk(int64_t dirfd, const char *path, unsigned how, struct place *p);
#define PATH_LIMIT 4096
char *path_buffer(void); /* PATH_LIMIT bytes, not cleared; NULL: no memory */
void path_free(char *path);

/* --- files.c --- */
#define MAX_FDS 1024
struct file *file_new(const struct file_ops *ops, struct inode *i, uint32_t flags);
void file_hold(struct file *f);
void file_settle(struct file *f); /* before its position is looked at */
void file_drop(struct file *f);
/* A read or write of f has to wait for thread_wake() of key: 0 afterwards, -ERESTARTSYS, or -EAGAIN
 * at once where f does not block. */
int64_t file_wait(const struct file *f, const void *key);
struct file *fd_file(uint64_t fd);                               /* NULL: EBADF */
int64_t fd_install(struct file *f, uint64_t from, bool cloexec); /* drops f when there is no room */
void files_init(void);
int64_t file_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos);
int64_t file_write(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos);

/* --- lock.c --- */
void lock_release(const struct file *f);
int64_t lock_record(const struct file *f, uint64_t at, bool ask);

/* --- limits.c: setrlimit --- */
uint64_t limit_files(void); /* descriptors are below it */
/* A file that is to be written at, or to become of that size: 0, *len perhaps less, or -EFBIG and
 * the signal. */
int limit_write(uint64_t at, uint64_t *len);
int limit_size(uint64_t size);

/* --- devices.c, virtioblk.c, proc.c --- */
void devices_init(void);
void disks_init(void);
void proc_init(void);
void etc_init(void);                   /* what a tree has that no --share is the root of */
extern const struct inode *proc_asked; /* whose content is being made */
void proc_task(struct inode *dir, uint64_t tid); /* the files of /proc/self/task/TID */
void proc_resolve(struct inode *link, char *out, size_t size); /* /proc/self/fd/N, exe, cwd */
enum { LINK_EXE = 1, LINK_CWD, LINK_ROOT, LINK_FD };
extern const struct file_ops console_ops;

/* --- procfd.c --- */
void procfd_init(void);
bool procfd_is(const struct inode *dir);
void procfd_refresh(struct inode *dir);
void procfd_resolve(uint64_t fd, char *out, size_t size);
/* The descriptor that a path means: /proc/self/fd/N, /dev/fd/N, /dev/stdin ...; -1: none. */
int procfd_of(const char *path);
int64_t console_put(const struct file *f, uint64_t n); /* from bounce; how many were taken */

#endif
