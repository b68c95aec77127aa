/* Inodes that the guest knows, and every way from one to a descriptor. */
#include "virtio/fuse_impl.h"

#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- the host --- */

int fuse_name(const char *name)
{
    size_t len = strlen(name);

    if (!len || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
        return -EINVAL;
    return len <= 255 ? 0 : -ENAMETOOLONG;
}

int fuse_stat_at(int dirfd, const char *name, struct statx *st)
{
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);

    return syscall(SYS_statx, dirfd, name, flags, STATX_BASIC_STATS | STATX_BTIME, st) ? -errno : 0;
}

void fuse_decimal(char buf[12], unsigned n)
{
    char *p = buf;

    for (unsigned v = n; v >= 10; v /= 10)
        p++;
    p[1] = 0;
    for (; p >= buf; n /= 10)
        *p-- = (char)('0' + n % 10);
}

static int open_once(struct fuse_fs *fs, int dirfd, const char *name, int flags, uint32_t mode)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_NOFOLLOW | O_CLOEXEC),
        .mode = flags & O_CREAT ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd;

    if (!(flags & O_PATH))
        how.flags |= O_NOCTTY | O_NONBLOCK; /* a fifo or terminal put there meanwhile */
    if (fs->no_openat2)                     /* one component, not followed: nothing to resolve */
        fd = openat(dirfd, name, (int)how.flags, (mode_t)how.mode);
    else
        fd = syscall(SYS_openat2, dirfd, name, &how, sizeof how);
    return fd < 0 ? -errno : (int)fd;
}

int fuse_openat(struct fuse_fs *fs, int dirfd, const char *name, int flags, uint32_t mode)
{
    int fd = fuse_make_room(fs);

    if (!fd)
        fd = open_once(fs, dirfd, name, flags, mode);
    if (fd >= 0)
        fuse_fd_opened();
    return fd;
}

/* --- tables --- */

enum { INODES_LEN = sizeof(struct fuse_inode) * FUSE_INODES_MAX };
enum { HANDLES_LEN = sizeof(struct fuse_handle) * FUSE_HANDLES_MAX };
enum { TABLES_LEN = INODES_LEN + HANDLES_LEN + sizeof(uint32_t) * FUSE_BUCKETS };

/* Address space, and no more until it is used. */
int fuse_tables(struct fuse_fs *fs)
{
    uint8_t *p = mmap(NULL, TABLES_LEN, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct statx st;

    if (p == MAP_FAILED)
        return -errno;
    fs->inode = (struct fuse_inode *)p;
    fs->handle = (struct fuse_handle *)(p + INODES_LEN);
    fs->bucket = (uint32_t *)(p + INODES_LEN + HANDLES_LEN); /* index + 1, 0 none */
    fs->inode_free = fs->handle_free = fs->newest = fs->oldest = FUSE_NONE;
    fs->inodes_high = 1;
    fs->count.inodes = 1;
    int err = fuse_stat_at(fs->root_fd, "", &st);

    if (err)
        return err;
    fs->inode[0] = (struct fuse_inode){.fd = fs->root_fd, .type = S_IFDIR, .used = true};
    fs->root_dev = fs->inode[0].id.dev = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
    fs->inode[0].id.ino = st.stx_ino;
    return 0;
}

void fuse_tables_free(struct fuse_fs *fs)
{
    munmap(fs->inode, TABLES_LEN);
}

static uint32_t index_of(const struct fuse_fs *fs, const struct fuse_inode *n)
{
    return (uint32_t)(n - fs->inode);
}

uint64_t fuse_nodeid(const struct fuse_fs *fs, const struct fuse_inode *n)
{
    return (uint64_t)n->gen << 32 | (index_of(fs, n) + 1);
}

struct fuse_inode *fuse_node(struct fuse_fs *fs, uint64_t nodeid)
{
    uint32_t i = (uint32_t)nodeid - 1;

    if (i >= fs->inodes_high || !fs->inode[i].used || fs->inode[i].gen != nodeid >> 32)
        return NULL;
    return &fs->inode[i];
}

static struct fuse_id id_of(const struct fuse_fs *fs, const struct statx *st)
{
    struct fuse_id id = {
        .dev = (uint64_t)st->stx_dev_major << 32 | st->stx_dev_minor,
        .ino = st->stx_ino,
    };

    if (st->stx_mask & STATX_BTIME && !fs->no_btime)
        id.btime = (uint64_t)st->stx_btime.tv_sec * 1000000000u + st->stx_btime.tv_nsec;
    return id;
}

static bool is_it(const struct fuse_fs *fs, const struct fuse_inode *n, const struct statx *st)
{
    struct fuse_id id = id_of(fs, st);

    return n->id.ino == id.ino && n->id.dev == id.dev && n->id.btime == id.btime &&
           n->type == (st->stx_mode & S_IFMT);
}

static uint32_t *bucket_of(struct fuse_fs *fs, struct fuse_id id)
{
    uint64_t h = (id.ino ^ id.dev << 7 ^ id.btime) * 0x9e3779b97f4a7c15u;

    return &fs->bucket[h >> (64 - 17)];
}

struct fuse_inode *fuse_find(struct fuse_fs *fs, const struct statx *st)
{
    struct fuse_id id = id_of(fs, st);

    for (uint32_t i = *bucket_of(fs, id); i; i = fs->inode[i - 1].chain)
        if (is_it(fs, &fs->inode[i - 1], st))
            return &fs->inode[i - 1];
    return NULL;
}

/* --- which descriptors may be closed: by last use --- */

static void unlist(struct fuse_fs *fs, struct fuse_inode *n)
{
    if (!n->listed)
        return;
    *(n->newer == FUSE_NONE ? &fs->newest : &fs->inode[n->newer].older) = n->older;
    *(n->older == FUSE_NONE ? &fs->oldest : &fs->inode[n->older].newer) = n->newer;
    n->listed = false;
}

static void used_now(struct fuse_fs *fs, struct fuse_inode *n)
{
    uint32_t i = index_of(fs, n);

    if (n->fd < 0 || !n->name || (n->listed && fs->newest == i))
        return;
    unlist(fs, n);
    n->newer = FUSE_NONE;
    n->older = fs->newest;
    *(fs->newest == FUSE_NONE ? &fs->oldest : &fs->inode[fs->newest].newer) = i;
    fs->newest = i;
    n->listed = true;
}

static void close_inode(struct fuse_fs *fs, struct fuse_inode *n)
{
    unlist(fs, n);
    if (n->fd < 0)
        return;
    fuse_fd_close(n->fd);
    n->fd = -1;
    fs->inode_fds--;
}

/* Close the one that was not used for longest. */
static bool close_oldest(struct fuse_fs *fs)
{
    for (uint32_t i = fs->oldest; i != FUSE_NONE; i = fs->inode[i].newer)
        if (!fs->inode[i].keep) {
            close_inode(fs, &fs->inode[i]);
            return true;
        }
    return false;
}

int fuse_make_room(struct fuse_fs *fs)
{
    if (fs->inode_fds >= fs->inode_fds_max)
        close_oldest(fs); /* none: they are of removed files */
    while (fuse_fds_short())
        if (!close_oldest(fs))
            return -ENFILE;
    return 0;
}

/* --- from an inode to a descriptor --- */

/* What a name's absence means for an inode that was there. */
static int stale(int err)
{
    return err == -ENOENT || err == -ENOTDIR || err == -ELOOP ? -ESTALE : err;
}

/* n, whose directory is dir, gets its descriptor. */
static int open_path(struct fuse_fs *fs, struct fuse_inode *dir, struct fuse_inode *n)
{
    bool kept = dir->keep;
    struct statx st;

    dir->keep = true;
    int fd = fuse_openat(fs, dir->fd, n->name, O_PATH | (S_ISDIR(n->type) ? O_DIRECTORY : 0), 0);

    dir->keep = kept;
    if (fd < 0)
        return stale(fd);
    int err = fuse_stat_at(fd, "", &st);

    if (!err && !is_it(fs, n, &st))
        err = -ESTALE;
    if (err) {
        fuse_fd_close(fd);
        return err;
    }
    n->fd = fd;
    fs->inode_fds++;
    used_now(fs, n);
    return 0;
}

int fuse_path_fd(struct fuse_fs *fs, struct fuse_inode *n)
{
    uint32_t path[FUSE_DEPTH_MAX];
    unsigned depth = 0;
    struct fuse_inode *at = n;

    for (; at->fd < 0; path[depth++] = index_of(fs, at), at = fuse_node(fs, at->parent)) {
        if (!at->name || depth == FUSE_DEPTH_MAX || !fuse_node(fs, at->parent))
            return -ESTALE;
    }
    used_now(fs, at);
    while (depth) {
        struct fuse_inode *next = &fs->inode[path[--depth]];
        /* Directories moved on the host may have become each other's parents. */
        int err = next->fd < 0 ? open_path(fs, at, next) : 0;

        if (err)
            return err;
        at = next;
    }
    return n->fd;
}

int fuse_dir_fd(struct fuse_fs *fs, struct fuse_inode *n)
{
    return S_ISDIR(n->type) ? fuse_path_fd(fs, n) : -ENOTDIR;
}

/* The directory n was seen in. */
static int parent_fd(struct fuse_fs *fs, struct fuse_inode *n)
{
    struct fuse_inode *dir = n->name ? fuse_node(fs, n->parent) : NULL;

    return dir ? stale(fuse_dir_fd(fs, dir)) : -ESTALE;
}

int fuse_stat(struct fuse_fs *fs, struct fuse_inode *n, struct statx *st)
{
    if (n->fd >= 0)
        return fuse_stat_at(n->fd, "", st);
    int dir = parent_fd(fs, n);

    if (dir < 0)
        return dir;
    int err = stale(fuse_stat_at(dir, n->name, st));

    return err ? err : is_it(fs, n, st) ? 0 : -ESTALE;
}

int fuse_reopen(struct fuse_fs *fs, struct fuse_inode *n, int flags, struct statx *st)
{
    struct statx here;
    int fd, err = 0;

    if (!st)
        st = &here;
    if (S_ISDIR(n->type)) {
        bool kept = n->keep;

        fd = fuse_path_fd(fs, n);
        if (fd < 0)
            return fd;
        n->keep = true;
        fd = fuse_openat(fs, fd, ".", flags | O_DIRECTORY, 0);
        n->keep = kept;
        return fd;
    }
    if (!S_ISREG(n->type))
        return S_ISLNK(n->type) ? -ELOOP : -ENXIO;
    if (n->name) {
        fd = parent_fd(fs, n);
        if (fd < 0)
            return fd;
        struct fuse_inode *dir = fuse_node(fs, n->parent);
        bool kept = dir->keep;

        dir->keep = true;
        fd = stale(fuse_openat(fs, fd, n->name, flags, 0));
        dir->keep = kept;
    } else {
        /* Removed: its own descriptor, by the one magic link that leads to it. */
        char number[12];

        if (n->fd < 0 || fs->proc_fd < 0)
            return -ESTALE;
        err = fuse_make_room(fs);
        if (err)
            return err;
        fuse_decimal(number, (unsigned)n->fd);
        fd = openat(fs->proc_fd, number, flags | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
            return -errno;
        fuse_fd_opened();
    }
    if (fd < 0)
        return fd;
    err = fuse_stat_at(fd, "", st);
    if (!err && !is_it(fs, n, st))
        err = -ESTALE;
    if (err)
        fuse_fd_close(fd);
    return err ? err : fd;
}

/* --- what the guest knows --- */

static int set_name(struct fuse_fs *fs, struct fuse_inode *n, uint64_t parent, const char *name)
{
    if (n->name && n->parent == parent && !strcmp(n->name, name))
        return 0;
    char *copy = strdup(name);

    if (!copy)
        return -ENOMEM;
    free(n->name);
    n->name = copy;
    n->parent = parent;
    used_now(fs, n);
    return 0;
}

static struct fuse_inode *take_slot(struct fuse_fs *fs)
{
    struct fuse_inode *n = NULL;

    if (fs->inode_free != FUSE_NONE) {
        n = &fs->inode[fs->inode_free];
        fs->inode_free = n->chain;
    } else if (fs->inodes_high < FUSE_INODES_MAX) {
        n = &fs->inode[fs->inodes_high++];
    }
    if (n) {
        *n = (struct fuse_inode){.gen = n->gen, .fd = -1, .used = true};
        fs->count.inodes++;
    }
    return n;
}

static void free_slot(struct fuse_fs *fs, struct fuse_inode *n)
{
    uint32_t i = index_of(fs, n);

    close_inode(fs, n);
    for (uint32_t *at = bucket_of(fs, n->id); *at; at = &fs->inode[*at - 1].chain)
        if (*at == i + 1) {
            *at = n->chain;
            break;
        }
    free(n->name);
    *n = (struct fuse_inode){.gen = n->gen + 1, .fd = -1, .chain = fs->inode_free};
    fs->inode_free = i;
    fs->count.inodes--;
}

struct fuse_inode *fuse_enter(struct fuse_fs *fs, struct fuse_inode *dir, const char *name,
                              const struct statx *st)
{
    struct fuse_inode *n = fuse_find(fs, st);
    uint64_t parent = fuse_nodeid(fs, dir);

    if (!n) {
        n = take_slot(fs);
        if (!n)
            return NULL;
        n->id = id_of(fs, st);
        n->type = st->stx_mode & S_IFMT;
        uint32_t *b = bucket_of(fs, n->id);

        n->chain = *b;
        *b = index_of(fs, n) + 1;
    }
    if (set_name(fs, n, parent, name)) {
        if (!n->nlookup)
            free_slot(fs, n);
        return NULL;
    }
    n->nlookup++;
    return n;
}

void fuse_forget(struct fuse_fs *fs, struct fuse_inode *n, uint64_t count)
{
    if (n == fs->inode)
        return;
    n->nlookup -= count < n->nlookup ? count : n->nlookup;
    if (!n->nlookup)
        free_slot(fs, n);
}

void fuse_forget_all(struct fuse_fs *fs)
{
    for (uint32_t i = 1; i < fs->inodes_high; i++)
        if (fs->inode[i].used)
            free_slot(fs, &fs->inode[i]);
}

struct fuse_inode *fuse_before_removal(struct fuse_fs *fs, struct fuse_inode *dir, int dirfd,
                                       const char *name)
{
    struct statx st;

    if (fuse_stat_at(dirfd, name, &st))
        return NULL;
    struct fuse_inode *n = fuse_find(fs, &st);

    if (!n || !n->name || n->parent != fuse_nodeid(fs, dir) || strcmp(n->name, name))
        return NULL;
    bool kept = n->keep;

    n->keep = true;
    (void)fuse_path_fd(fs, n); /* without one, it is stale from then on */
    n->keep = kept;
    return n;
}

void fuse_removed(struct fuse_fs *fs, struct fuse_inode *n)
{
    unlist(fs, n);
    free(n->name);
    n->name = NULL;
}

void fuse_moved(struct fuse_fs *fs, struct fuse_inode *n, struct fuse_inode *dir, const char *name)
{
    if (set_name(fs, n, fuse_nodeid(fs, dir), name))
        fuse_removed(fs, n);
}
