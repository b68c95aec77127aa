/*
 * The host's files. Names are looked up each time, so what changes there is seen here; an inode is
 * kept under its directory as long as the host says it is the same one. Nothing is cached but pages
 * of private mappings.
 */
#include "guests/runtime/hostfs.h"
#include <asm/fcntl.h>
#include <asm/poll.h>
#include <linux/fuse.h>
#include <linux/stat.h>
#include "guests/runtime/process.h"

#define OPEN_FLAGS (O_ACCMODE | O_APPEND | O_NONBLOCK)

static void set_attr(struct inode *i, const struct fuse_attr *a)
{
    i->mode = a->mode;
    i->size = a->size;
    i->ino = a->ino;
    i->nlink = a->nlink;
    i->uid = a->uid;
    i->gid = a->gid;
    i->mtime = (int64_t)(a->mtime * NS + a->mtimensec);
    i->atime = (int64_t)(a->atime * NS + a->atimensec);
    i->ctime = (int64_t)(a->ctime * NS + a->ctimensec);
    i->ops = S_ISDIR(a->mode) ? &directory_ops : &hostfile_ops;
}

static void read_link(struct inode *i)
{
    int64_t n = fuse_call(&(struct fuse_call){
        .op = FUSE_READLINK, .node = i->node, .data = bounce, .data_out = PAGE - 1});

    if (n < 0 || n >= (int64_t)PAGE)
        return;
    i->target = kalloc((size_t)n + 1);
    if (i->target)
        copy(i->target, bounce, (size_t)n);
}

static struct inode *known(struct inode *dir, const char *name, size_t len)
{
    uint64_t node = dir->node;
    struct inode *i;

    dir->node = 0; /* what we have ourselves */
    i = dir_find(dir, name, len);
    dir->node = node;
    return i;
}

static void forget(struct inode *dir, const char *name, size_t len)
{
    uint64_t node = dir->node;

    dir->node = 0;
    dir_remove(dir, name, len);
    dir->node = node;
}

static struct inode *remember(struct inode *dir, const char *name, size_t len,
                              const struct fuse_entry_out *e)
{
    struct inode *i = known(dir, name, len);
    uint64_t node = dir->node;

    if (i && i->node == e->nodeid) {
        set_attr(i, &e->attr);
        return i;
    }
    if (i)
        forget(dir, name, len);
    i = inode_new(e->attr.mode);
    if (!i)
        return NULL;
    i->node = e->nodeid;
    if (S_ISLNK(e->attr.mode))
        read_link(i);
    dir->node = 0;
    int err = dir_add(dir, name, len, i);

    dir->node = node;
    set_attr(i, &e->attr);
    inode_drop(i);
    return err ? NULL : i;
}

static size_t name_of(char *buf, const char *name, size_t len)
{
    copy(buf, name, len);
    buf[len] = 0;
    return len + 1;
}

struct inode *hostfs_find(struct inode *dir, const char *name, size_t len)
{
    struct fuse_entry_out e;
    char text[256];
    size_t n = name_of(text, name, len);

    if (fuse_call(&(struct fuse_call){.op = FUSE_LOOKUP,
                                      .node = dir->node,
                                      .name = text,
                                      .name_len = n,
                                      .out = &e,
                                      .out_len = sizeof e}) < 0 ||
        !e.nodeid) {
        if (known(dir, name, len))
            forget(dir, name, len);
        return NULL;
    }
    return remember(dir, name, len, &e);
}

static void release(uint64_t node, uint64_t fh, bool directory)
{
    struct fuse_release_in r = {.fh = fh};

    fuse_call(&(struct fuse_call){.op = directory ? FUSE_RELEASEDIR : FUSE_RELEASE,
                                  .node = node,
                                  .in = &r,
                                  .in_len = sizeof r});
}

int64_t hostfs_create(struct inode *dir, const char *name, size_t len, uint32_t mode)
{
    char text[256];
    size_t n = name_of(text, name, len);

    if (S_ISDIR(mode)) {
        struct fuse_mkdir_in in = {.mode = mode & 07777};
        struct fuse_entry_out e;

        int64_t err = fuse_call(&(struct fuse_call){.op = FUSE_MKDIR,
                                                    .node = dir->node,
                                                    .in = &in,
                                                    .in_len = sizeof in,
                                                    .name = text,
                                                    .name_len = n,
                                                    .out = &e,
                                                    .out_len = sizeof e});

        return err < 0 ? err : 0;
    }
    if (!S_ISREG(mode))
        return -EPERM;
    struct fuse_create_in in = {.flags = O_RDWR | O_CREAT | O_EXCL, .mode = mode};
    struct {
        struct fuse_entry_out e;
        struct fuse_open_out o;
    } out;
    int64_t err = fuse_call(&(struct fuse_call){.op = FUSE_CREATE,
                                                .node = dir->node,
                                                .in = &in,
                                                .in_len = sizeof in,
                                                .name = text,
                                                .name_len = n,
                                                .out = &out,
                                                .out_len = sizeof out});

    if (err >= 0)
        release(out.e.nodeid, out.o.fh, false);
    return err < 0 ? err : 0;
}

int hostfs_symlink(struct inode *dir, const char *name, size_t len, const char *target)
{
    struct fuse_entry_out e;
    char text[256 + 1024];
    size_t n = name_of(text, name, len), t = length(target);

    if (n + t + 1 > sizeof text)
        return -ENAMETOOLONG;
    n += name_of(text + n, target, t);
    int64_t err = fuse_call(&(struct fuse_call){.op = FUSE_SYMLINK,
                                                .node = dir->node,
                                                .name = text,
                                                .name_len = n,
                                                .out = &e,
                                                .out_len = sizeof e});

    return err < 0 ? (int)err : 0;
}

int hostfs_link(struct inode *dir, const char *name, size_t len, struct inode *i)
{
    struct fuse_link_in in = {.oldnodeid = i->node};
    struct fuse_entry_out e;
    char text[256];
    size_t n = name_of(text, name, len);

    if (!i->node)
        return -EXDEV;
    int64_t err = fuse_call(&(struct fuse_call){.op = FUSE_LINK,
                                                .node = dir->node,
                                                .in = &in,
                                                .in_len = sizeof in,
                                                .name = text,
                                                .name_len = n,
                                                .out = &e,
                                                .out_len = sizeof e});

    return err < 0 ? (int)err : 0;
}

int hostfs_remove(struct inode *dir, const char *name, size_t len, bool directory)
{
    char text[256];
    size_t n = name_of(text, name, len);
    int64_t err = fuse_call(&(struct fuse_call){.op = directory ? FUSE_RMDIR : FUSE_UNLINK,
                                                .node = dir->node,
                                                .name = text,
                                                .name_len = n});

    if (err >= 0)
        forget(dir, name, len);
    return err < 0 ? (int)err : 0;
}

int hostfs_rename(struct inode *from, const char *a, size_t alen, struct inode *to, const char *b,
                  size_t blen)
{
    struct fuse_rename_in in = {.newdir = to->node};
    char text[512];
    size_t n = name_of(text, a, alen);

    if (!from->node || !to->node)
        return -EXDEV;
    n += name_of(text + n, b, blen);
    int64_t err = fuse_call(&(struct fuse_call){.op = FUSE_RENAME,
                                                .node = from->node,
                                                .in = &in,
                                                .in_len = sizeof in,
                                                .name = text,
                                                .name_len = n});

    if (err < 0)
        return (int)err;
    forget(from, a, alen);
    forget(to, b, blen);
    return 0;
}

int hostfs_resize(struct inode *i, uint64_t size)
{
    struct fuse_setattr_in in = {.valid = FATTR_SIZE, .size = size};
    struct fuse_attr_out out;
    int64_t err = fuse_call(&(struct fuse_call){.op = FUSE_SETATTR,
                                                .node = i->node,
                                                .in = &in,
                                                .in_len = sizeof in,
                                                .out = &out,
                                                .out_len = sizeof out});

    if (err >= 0)
        set_attr(i, &out.attr);
    return err < 0 ? (int)err : 0;
}

void hostfs_refresh(struct inode *i)
{
    struct fuse_getattr_in in = {0};
    struct fuse_attr_out out;

    if (fuse_call(&(struct fuse_call){.op = FUSE_GETATTR,
                                      .node = i->node,
                                      .in = &in,
                                      .in_len = sizeof in,
                                      .out = &out,
                                      .out_len = sizeof out}) >= 0)
        set_attr(i, &out.attr);
}

static int64_t open_node(struct inode *i, uint32_t flags, uint64_t *fh)
{
    struct fuse_open_in in = {.flags = flags};
    struct fuse_open_out out;
    int64_t err = fuse_call(&(struct fuse_call){.op = S_ISDIR(i->mode) ? FUSE_OPENDIR : FUSE_OPEN,
                                                .node = i->node,
                                                .in = &in,
                                                .in_len = sizeof in,
                                                .out = &out,
                                                .out_len = sizeof out});

    *fh = out.fh;
    return err < 0 ? err : 0;
}

int hostfs_open(struct file *f)
{
    uint64_t fh;
    int64_t err = open_node(f->inode, f->flags & OPEN_FLAGS, &fh);

    if (err)
        return (int)err;
    f->data = (void *)fh;
    f->ops = &hostfile_ops;
    return 0;
}

static int64_t transfer(struct inode *i, uint64_t fh, bool write, uint64_t at, uint64_t n,
                        void *data)
{
    struct fuse_read_in r = {.fh = fh, .offset = at, .size = (uint32_t)n};
    struct fuse_write_in w = {.fh = fh, .offset = at, .size = (uint32_t)n};
    struct fuse_write_out out;

    if (!write)
        return fuse_call(&(struct fuse_call){.op = FUSE_READ,
                                             .node = i->node,
                                             .in = &r,
                                             .in_len = sizeof r,
                                             .data = data,
                                             .data_out = n});
    int64_t err = fuse_call(&(struct fuse_call){.op = FUSE_WRITE,
                                                .node = i->node,
                                                .in = &w,
                                                .in_len = sizeof w,
                                                .out = &out,
                                                .out_len = sizeof out,
                                                .data = data,
                                                .data_in = n});

    return err < 0 ? err : out.size <= n ? (int64_t)out.size : -EIO;
}

static int64_t host_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    uint64_t done = 0;

    if (S_ISDIR(f->inode->mode))
        return -EISDIR;
    while (done < len) {
        uint64_t n = least(len - done, BOUNCE);
        int64_t got = transfer(f->inode, (uintptr_t)f->data, false, *pos, n, bounce);

        if (got > 0 && copy_out(buf + done, bounce, (size_t)got))
            got = -EFAULT;
        if (got <= 0)
            return done ? (int64_t)done : got;
        done += (uint64_t)got;
        *pos += (uint64_t)got;
        if ((uint64_t)got < n)
            break;
    }
    return (int64_t)done;
}

static int64_t host_write(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    uint64_t done = 0;

    if (f->flags & O_APPEND) {
        hostfs_refresh(f->inode);
        *pos = f->inode->size;
    }
    while (done < len) {
        uint64_t n = least(len - done, BOUNCE);
        int64_t put = copy_in(bounce, buf + done, n)
                          ? -EFAULT
                          : transfer(f->inode, (uintptr_t)f->data, true, *pos, n, bounce);

        if (put <= 0)
            return done ? (int64_t)done : put;
        done += (uint64_t)put;
        *pos += (uint64_t)put;
        if (*pos > f->inode->size)
            f->inode->size = *pos;
    }
    return (int64_t)done;
}

static unsigned host_poll(struct file *f)
{
    (void)f;
    return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
}

static int host_sync(struct file *f)
{
    struct fuse_fsync_in in = {.fh = (uintptr_t)f->data};

    return (int)fuse_call(
        &(struct fuse_call){.op = S_ISDIR(f->inode->mode) ? FUSE_FSYNCDIR : FUSE_FSYNC,
                            .node = f->inode->node,
                            .in = &in,
                            .in_len = sizeof in});
}

static void host_release(struct file *f)
{
    release(f->inode->node, (uintptr_t)f->data, S_ISDIR(f->inode->mode));
}

const struct file_ops hostfile_ops = {.read = host_read,
                                      .write = host_write,
                                      .poll = host_poll,
                                      .sync = host_sync,
                                      .release = host_release,
                                      .seekable = true};

int hostfs_page(struct inode *i, uint64_t n, void *page)
{
    uint64_t fh;
    int64_t err = open_node(i, O_RDONLY, &fh);

    if (err)
        return (int)err;
    err = transfer(i, fh, false, n * PAGE, PAGE, page);
    release(i->node, fh, false);
    return err < 0 ? (int)err : 0;
}

int64_t hostfs_getdents(struct file *f, uint64_t buf, uint64_t size)
{
    struct fuse_read_in in = {.fh = (uintptr_t)f->data, .offset = f->pos, .size = PAGE};
    uint64_t done = 0, at = 0;
    int64_t n = fuse_call(&(struct fuse_call){.op = FUSE_READDIR,
                                              .node = f->inode->node,
                                              .in = &in,
                                              .in_len = sizeof in,
                                              .data = bounce,
                                              .data_out = PAGE});

    if (n < 0)
        return n;
    while (at + FUSE_NAME_OFFSET <= (uint64_t)n) {
        const struct fuse_dirent *d = (const struct fuse_dirent *)(bounce + at);

        if (d->namelen > 255 || at + FUSE_NAME_OFFSET + d->namelen > (uint64_t)n)
            return -EIO;
        int64_t len =
            put_record(buf + done, size - done, d->ino, d->type, d->off, d->name, d->namelen);

        if (len <= 0)
            return done ? (int64_t)done : len ? len : -EINVAL;
        done += (uint64_t)len;
        f->pos = d->off;
        at += FUSE_DIRENT_SIZE(d);
    }
    return (int64_t)done;
}

void hostfs_init(void)
{
    struct fuse_init_in in = {.major = FUSE_KERNEL_VERSION,
                              .minor = FUSE_KERNEL_MINOR_VERSION,
                              .flags = FUSE_BIG_WRITES | FUSE_ATOMIC_O_TRUNC};
    struct fuse_init_out out;
    struct inode *i;

    if (!virtiofs_init())
        return;
    if (fuse_call(&(struct fuse_call){
            .op = FUSE_INIT, .in = &in, .in_len = sizeof in, .out = &out, .out_len = sizeof out}) <
        0)
        return;
    i = inode_new(S_IFDIR | 0755);
    i->node = FUSE_ROOT_ID;
    fs_place("/host", i);
    hostfs_refresh(i);
}
