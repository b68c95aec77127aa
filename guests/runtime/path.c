/* Paths: walking them, opening files. */
#include <asm/fcntl.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/hostfs.h"
#include "guests/runtime/path.h"
#include "guests/runtime/pipe.h"
#include "guests/runtime/process.h"
#include "guests/runtime/users.h"

#define MAX_LINKS        40u
#define RESOLVE_CONFINED (RESOLVE_BENEATH | RESOLVE_IN_ROOT)
#define RESOLVE_KNOWN                                                                             \
    (uint64_t)(RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_CONFINED | \
               RESOLVE_CACHED)

/* Each call that names a file takes one, or some where there are links: clearing a page each time
 * would be most of what such a call costs. */
static char *spare[4];
static unsigned spares;

char *path_buffer(void)
{
    return spares ? spare[--spares] : kalloc(PATH_LIMIT);
}

void path_free(char *path)
{
    if (path && spares < sizeof spare / sizeof spare[0])
        spare[spares++] = path;
    else
        kfree(path, PATH_LIMIT);
}

struct path_rule path_rule;

static int walk(struct inode *dir, const char *path, unsigned how, struct place *p);

static bool recent_used;        /* in this walk */
static unsigned links_followed; /* in all of it, as Linux counts: one after another too */

/* What the host said a moment ago about a directory on the way, or a link to one. */
static struct inode *recent(struct inode *dir, const char *name, size_t len)
{
    struct inode *i = dir->node && !path_rule.flags ? dir_known(dir, name, len) : NULL;

    if (!i || i->named_until <= clock_ns() || !(S_ISDIR(i->mode) || S_ISLNK(i->mode)))
        return NULL;
    recent_used = true;
    return i;
}

/* What a link in dir leads to. */
static int walk_link(struct inode *dir, struct inode *link, unsigned how, struct place *p)
{
    static char name[256];
    char *text;
    int err;

    if (links_followed++ >= MAX_LINKS || path_rule.flags & RESOLVE_NO_SYMLINKS ||
        (!link->target && path_rule.flags & (RESOLVE_NO_MAGICLINKS | RESOLVE_CONFINED)))
        return -ELOOP;
    text = path_buffer();
    if (!text)
        return -ENOMEM;
    if (link->target)
        copy(text, link->target, length(link->target) + 1);
    else
        proc_resolve(link, text, PATH_LIMIT);
    err = walk(dir, text, PATH_FOLLOW | (how & PATH_RECENT), p);
    if (err || p->inode) {
        p->name = NULL;
    } else if (p->name != name) { /* it is in text; a file may be made there */
        copy(name, p->name, p->len);
        p->name = name;
    }
    path_free(text);
    return err;
}

/* What is mounted there is ours. */
static void not_asked(struct place *p)
{
    struct inode *i = dir_known(p->dir, p->name, p->len);

    p->inode = i && i->mount ? i : NULL;
    p->unasked = !p->inode;
}

/* By the rule of openat2(): ".." at the top, and what is another filesystem. */
static bool allowed(const struct inode *dir, const struct place *p)
{
    bool up = p->len == 2 && p->name[0] == '.' && p->name[1] == '.';

    if (path_rule.flags & RESOLVE_BENEATH && up && dir == path_rule.top)
        return false;
    return !(path_rule.flags & RESOLVE_NO_XDEV) || !p->inode ||
           (!p->inode->node == !dir->node && p->inode->share == dir->share);
}

static int walk(struct inode *dir, const char *path, unsigned how, struct place *p)
{
    if (*path == '/') {
        if (path_rule.flags & RESOLVE_BENEATH)
            return -EXDEV;
        dir = path_rule.flags & RESOLVE_IN_ROOT ? path_rule.top : root;
    }
    *p = (struct place){.dir = dir, .inode = dir, .name = path};
    for (;;) {
        size_t len = 0;
        bool last;

        while (*path == '/')
            path++;
        if (!*path)
            return 0;
        while (path[len] && path[len] != '/')
            len++;
        if (len > 255)
            return -ENAMETOOLONG;
        const char *rest = path + len;

        while (*rest == '/')
            rest++;
        last = !*rest;
        if (!p->inode)
            return -ENOENT;
        if (!S_ISDIR(p->inode->mode))
            return -ENOTDIR;
        dir = p->inode;
        *p = (struct place){.dir = dir, .name = path, .len = len, .slash = path[len] == '/'};
        if (len == 1 && path[0] == '.')
            p->inode = dir;
        else if (len == 2 && path[0] == '.' && path[1] == '.')
            p->inode = dir == path_rule.top ? dir : dir->parent;
        else if (last && !p->slash && dir->node && how & PATH_UNASKED)
            not_asked(p);
        else if (last || !(how & PATH_RECENT) || !(p->inode = recent(dir, path, len))) {
            p->inode = dir_find(dir, path, len);
            if (!p->inode && dir->node && hostfs_failed != -ENOENT)
                return hostfs_failed;
        }
        if (path_rule.flags && !allowed(dir, p))
            return -EXDEV;
        if (p->inode && S_ISLNK(p->inode->mode) && (!last || how & PATH_FOLLOW || p->slash)) {
            bool slash = p->slash;
            int err = walk_link(dir, p->inode, how, p);

            if (err)
                return err;
            p->slash = slash;
        }
        if (last)
            return p->slash && p->inode && !S_ISDIR(p->inode->mode) ? -ENOTDIR : 0;
        path = rest;
    }
}

/* The tree is filled when the first path is walked: many a program never names a file. */
static void fill_tree(void)
{
    static bool done;

    if (done)
        return;
    done = true;
    devices_init();
    disks_init();
    proc_init();
    hostfs_init();
    etc_init();
    hostfs_mount();
}

int path_walk(int64_t dirfd, const char *path, unsigned how, struct place *p)
{
    struct inode *dir = cwd;

    fill_tree();

    if (!*path)
        return -ENOENT;
    if (*path != '/' && (int32_t)dirfd != AT_FDCWD) {
        struct file *f = fd_file((uint64_t)(uint32_t)dirfd);

        if (!f)
            return -EBADF;
        if (!f->inode || !S_ISDIR(f->inode->mode))
            return -ENOTDIR;
        dir = f->inode;
    }
    hostfs_prune();
    recent_used = false;
    links_followed = 0;
    int err = walk(dir, path, how, p);

    if (recent_used && err && err != -ENOENT) {
        links_followed = 0;
        err = walk(dir, path, how & ~(unsigned)PATH_RECENT, p);
    }
    return err == -ESTALE ? -ENOENT : err; /* a directory that has gone */
}

/* The path from the program, walked. The buffer stays: names point into it. */
int path_take(uint64_t dirfd, uint64_t at, unsigned how, char **buf, struct place *p)
{
    int64_t n;

    *buf = path_buffer();
    if (!*buf)
        return -ENOMEM;
    n = str_in(*buf, at, PATH_LIMIT);
    n = n < 0 ? n : path_walk((int64_t)dirfd, *buf, how, p);
    if (n < 0) {
        kfree(*buf, PATH_LIMIT);
        *buf = NULL;
    }
    return n < 0 ? (int)n : 0;
}

int64_t wall_now(void)
{
    return (int64_t)clock_ns() + clock_wall();
}

uint32_t umask_now = 022;

int64_t sys_umask(uint64_t mask)
{
    uint32_t was = umask_now;

    umask_now = (uint32_t)mask & 0777;
    return was;
}

/* A new thing at a place that has none. */
int64_t path_create(struct place *p, uint32_t mode, struct inode **made)
{
    struct inode *i;
    int err;

    if (p->inode)
        return -EEXIST;
    if (!p->name)
        return -ENOENT; /* a dangling link */
    if (p->slash && !S_ISDIR(mode))
        return -EISDIR;
    if (!p->dir->nlink)
        return -ENOENT;
    if (p->dir->node)
        return hostfs_create(p->dir, p->name, p->len, mode, made);
    i = inode_new(mode);
    if (!i)
        return -ENOSPC;
    i->mtime = i->atime = i->ctime = p->dir->mtime = wall_now();
    i->uid = user.file;
    i->gid = p->dir->mode & S_ISGID ? p->dir->gid : group.file;
    err = dir_add(p->dir, p->name, p->len, i);
    *made = i;
    inode_drop(i);
    return err;
}

/* A file without a name. */
static int64_t open_unnamed(const struct place *p, uint64_t flags, uint64_t mode)
{
    if (!p->inode)
        return -ENOENT;
    if (!S_ISDIR(p->inode->mode))
        return -ENOTDIR;
    if ((flags & O_ACCMODE) == O_RDONLY)
        return -EINVAL;
    if (p->inode->node)
        return -EOPNOTSUPP; /* the host's server has none */
    struct inode *i = inode_new(S_IFREG | ((uint32_t)mode & ~umask_now & 07777));
    struct file *f = i ? file_new(&regular_ops, i, (uint32_t)flags & ~(uint32_t)O_TMPFILE) : NULL;

    if (!i)
        return -ENOSPC;
    i->mtime = i->atime = i->ctime = wall_now();
    inode_drop(i);
    return f ? fd_install(f, 0, flags & O_CLOEXEC) : -ENFILE;
}

/* Opened, and made before that if need be, in one go. */
static int64_t open_new(const struct place *p, uint64_t flags, uint64_t mode)
{
    const uint32_t pass = O_ACCMODE | O_APPEND | O_EXCL | O_TRUNC;
    struct inode *i;
    uint64_t fh;
    int err = hostfs_open_new(p->dir, p->name, p->len, (uint32_t)flags & pass,
                              (uint32_t)mode & ~umask_now & 07777, &i, &fh);

    if (err)
        return err;
    struct file *f = file_new(&hostfile_ops, i, (uint32_t)flags);

    if (!f) {
        hostfs_close(i->share, i->node, fh, false);
        return -ENFILE;
    }
    f->data = (void *)(uintptr_t)fh;
    return fd_install(f, 0, flags & O_CLOEXEC);
}

/* Can the host do so with what is there by that name, if anything? What is mapped here is cut off
 * here too, and who may only read does not ask it to. */
static bool may_open_new(const struct place *p, uint64_t flags)
{
    const struct inode *i = dir_known(p->dir, p->name, p->len);

    return !(flags & O_TRUNC) || ((flags & O_ACCMODE) != O_RDONLY && !(i && i->pages));
}

/* What the path leads to, for opening it: *opened when that has been done, with what came of it. */
static int64_t open_walk(uint64_t dirfd, const char *path, uint64_t flags, uint64_t mode,
                         struct place *p, bool *opened)
{
    bool follow = !(flags & O_NOFOLLOW) && !(flags & O_CREAT && flags & O_EXCL);
    bool create = flags & O_CREAT && !(flags & (O_PATH | O_DIRECTORY)) && !path_rule.flags;
    unsigned how = follow ? PATH_FOLLOW : PATH_FIND;

    if (!(flags & (O_ACCMODE | O_CREAT | O_TRUNC)))
        how |= PATH_RECENT;
    int64_t n = path_walk((int64_t)dirfd, path, how | (create ? PATH_UNASKED : 0), p);

    if (n || !p->unasked)
        return n;
    n = may_open_new(p, flags) ? open_new(p, flags, mode) : -ELOOP;
    /* A link, to be followed if it may be; a file that is there already, where none may be made. */
    *opened = n != -EROFS && !(n == -ELOOP && follow);
    return *opened ? n : path_walk((int64_t)dirfd, path, how, p);
}

/* The host's file is cut off as it is opened, unless the cut shows in a mapping. */
static int truncate(struct inode *i, uint64_t flags, bool *by_open)
{
    *by_open = i->node && !i->pages && (flags & O_ACCMODE) != O_RDONLY;
    int err = *by_open ? 0 : inode_resize(i, 0);

    if (!err)
        i->mtime = wall_now();
    return err;
}

static int64_t open_at(uint64_t dirfd, const char *path, uint64_t flags, uint64_t mode)
{
    struct place p;
    struct file *f;
    struct inode *i;
    bool opened = false, cut = false;
    int fd = procfd_of(path);

    if (fd >= 0 && !path_rule.flags &&
        (f = fd_file((uint64_t)fd))) { /* the descriptor again, as for what has no path */
        file_hold(f);
        return fd_install(f, 0, flags & O_CLOEXEC);
    }
    if (same(path, "/dev/tty")) /* no descriptor is one */
        return -ENXIO;
    int64_t err = open_walk(dirfd, path, flags, mode, &p, &opened);

    path_rule = (struct path_rule){0, NULL}; /* opening may wait, and others walk */
    if (err || opened)
        return err;
    if ((flags & O_TMPFILE) == O_TMPFILE)
        return open_unnamed(&p, flags, mode);
    if (!p.inode && !(flags & O_CREAT))
        return -ENOENT;
    if (!p.inode) {
        err = path_create(&p, S_IFREG | ((uint32_t)mode & ~umask_now & 07777), &i);
        if (err)
            return err;
    } else {
        i = p.inode;
        if (flags & O_CREAT && flags & O_EXCL)
            return -EEXIST;
        if (S_ISLNK(i->mode) && !(flags & O_PATH))
            return -ELOOP;
        if (S_ISSOCK(i->mode) && !(flags & O_PATH))
            return -ENXIO;
        if (S_ISDIR(i->mode) && (flags & 3 || flags & O_CREAT))
            return -EISDIR;
        if (flags & O_DIRECTORY && !S_ISDIR(i->mode))
            return -ENOTDIR;
        if (i->flat && flags & 3)
            return -ETXTBSY;
        if (flags & O_TRUNC && S_ISREG(i->mode) && !i->make && !i->text) {
            err = truncate(i, flags, &cut);
            if (err)
                return err;
        }
    }
    if (i->make || i->text) { /* /proc: what it says now */
        struct inode *text = inode_new(i->mode);
        char *page = path_buffer();

        if (!text || !page)
            return -ENOMEM;
        proc_asked = i;
        err = i->make ? inode_put(text, 0, page, i->make(page, PATH_LIMIT))
                      : inode_put(text, 0, i->text, length(i->text));
        path_free(page);
        text->ino = i->ino;
        f = err ? NULL : file_new(&regular_ops, text, (uint32_t)flags);
        inode_drop(text);
    } else {
        f = file_new(i->node ? &regular_ops : i->ops, i, (uint32_t)flags);
        err = !f ? 0 : i->node ? hostfs_open(f, cut) : S_ISFIFO(i->mode) ? fifo_open(f) : 0;
        if (err) {
            file_drop(f);
            return err;
        }
    }
    return f ? fd_install(f, 0, flags & O_CLOEXEC) : -ENFILE;
}

int64_t sys_openat(uint64_t dirfd, uint64_t at, uint64_t flags, uint64_t mode)
{
    char *path = path_buffer();
    int64_t n = path ? str_in(path, at, PATH_LIMIT) : -ENOMEM;

    if (n >= 0)
        n = open_at(dirfd, path, flags, mode);
    path_free(path);
    return n;
}

int64_t sys_openat2(uint64_t dirfd, uint64_t at, uint64_t how_at, uint64_t size)
{
    struct open_how how = {0};
    struct inode *top = cwd;
    uint8_t rest;

    if (size < sizeof how)
        return -EINVAL;
    if (size > PAGE)
        return -E2BIG;
    if (copy_in(&how, how_at, sizeof how))
        return -EFAULT;
    for (uint64_t i = sizeof how; i < size; i++)
        if (copy_in(&rest, how_at + i, 1) || rest)
            return -E2BIG;
    if (how.flags >> 32 || how.resolve & ~RESOLVE_KNOWN || how.mode & ~07777ull ||
        (how.mode && !(how.flags & (O_CREAT | __O_TMPFILE))) ||
        (how.resolve & RESOLVE_CONFINED) == RESOLVE_CONFINED)
        return -EINVAL;
    if (how.resolve & RESOLVE_CACHED)
        return -EAGAIN;
    if (how.resolve & RESOLVE_CONFINED && (int32_t)dirfd != AT_FDCWD) {
        const struct file *f = fd_file((uint64_t)(uint32_t)dirfd);

        if (!f)
            return -EBADF;
        top = f->inode;
    }
    path_rule = (struct path_rule){how.resolve, how.resolve & RESOLVE_CONFINED ? top : NULL};
    int64_t n = sys_openat(dirfd, at, how.flags, how.mode);

    path_rule = (struct path_rule){0, NULL};
    return n;
}

int64_t sys_open(uint64_t at, uint64_t flags, uint64_t mode)
{
    return sys_openat((uint64_t)AT_FDCWD, at, flags, mode);
}

int64_t sys_creat(uint64_t at, uint64_t mode)
{
    return sys_open(at, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
