/*
 * The host's names and attributes: what --share gives. A name is looked up each time, so what
 * changes there is seen here; an inode is kept under its directory as long as the host says it is
 * the same one. Only the directories on the way to a file that is to be looked at (path.c) are
 * taken to be the same for NAMED_NS, or for as long as the host allows if that is less. What is
 * mounted in a shared directory hides the host's name.
 */
#include "guests/runtime/hostfs.h"
#include <asm/fcntl.h>
#include <asm/statfs.h>
#include <asm/poll.h>
#include <linux/fuse.h>
#include <linux/stat.h>
#include "guests/runtime/process.h"

#define NAMED_NS    100000000u
#define KNOWN_LEAST 4096u /* inodes of the host that are kept before any is dropped */

static uint32_t known;

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
    int64_t n = fuse_call(&(struct fuse_call){.op = FUSE_READLINK,
                                              .share = i->share,
                                              .node = i->node,
                                              .data = &(struct stretch){bounce, PAGE - 1},
                                              .stretches = 1,
                                              .data_out = PAGE - 1});

    if (n < 0 || n >= (int64_t)PAGE)
        return;
    i->target = kalloc((size_t)n + 1);
    if (i->target)
        copy(i->target, bounce, (size_t)n);
}

static struct inode *remember(struct inode *dir, const char *name, size_t len,
                              const struct fuse_entry_out *e)
{
    struct inode *i = dir_known(dir, name, len);
    uint64_t until = clock_ns() + least(e->entry_valid * NS + e->entry_valid_nsec, NAMED_NS);

    if (i && i->node == e->nodeid) {
        i->lookups++;
        i->named_until = until;
        set_attr(i, &e->attr);
        return i;
    }
    if (i)
        dir_remove(dir, name, len);
    i = inode_new(e->attr.mode);
    if (!i)
        return NULL;
    known++;
    i->share = dir->share;
    i->node = e->nodeid;
    i->lookups = 1;
    i->named_until = until;
    if (S_ISLNK(e->attr.mode))
        read_link(i);
    int err = dir_add(dir, name, len, i);

    set_attr(i, &e->attr);
    inode_drop(i);
    return err ? NULL : i;
}

/* Many at a time; those that are left at the end of the program matter to nobody. */
void hostfs_forget(const struct inode *i)
{
    enum { MANY = 32 };
    static struct {
        struct fuse_batch_forget_in head;
        struct fuse_forget_one one[MANY];
    } batch[SHARES];
    uint32_t n = batch[i->share].head.count;

    known -= i->node != FUSE_ROOT_ID;
    if (!i->lookups)
        return;
    batch[i->share].one[n++] = (struct fuse_forget_one){.nodeid = i->node, .nlookup = i->lookups};
    batch[i->share].head.count = n;
    if (n < MANY)
        return;
    fuse_tell(i->share, FUSE_BATCH_FORGET, &batch[i->share], sizeof batch[0]);
    batch[i->share].head.count = 0;
}

static size_t name_of(char *buf, const char *name, size_t len)
{
    copy(buf, name, len);
    buf[len] = 0;
    return len + 1;
}

/* A call about a name in dir that comes back with an entry: what is known of it from then on. The
 * name, name_len long, comes first in text; n: all of that, NULs and all. */
struct entry_call {
    uint32_t op;
    const void *in;
    size_t in_len;
    const char *text;
    size_t n, name_len;
    uint64_t *fh; /* FUSE_CREATE: of the open file */
};

static int ask_entry(struct inode *dir, const struct entry_call *c, struct inode **made)
{
    struct {
        struct fuse_entry_out e;
        struct fuse_open_out o;
    } out;
    int64_t err = fuse_call(&(struct fuse_call){.op = c->op,
                                                .share = dir->share,
                                                .node = dir->node,
                                                .in = c->in,
                                                .in_len = c->in_len,
                                                .name = c->text,
                                                .name_len = c->n,
                                                .out = &out,
                                                .out_len = c->fh ? sizeof out : sizeof out.e});

    if (err < 0)
        return (int)err;
    if (!out.e.nodeid) /* FUSE's other way to say so */
        return -ENOENT;
    *made = remember(dir, c->text, c->name_len, &out.e);
    if (c->fh)
        *c->fh = out.o.fh;
    if (c->fh && !*made)
        hostfs_close(dir->share, out.e.nodeid, out.o.fh, false);
    return *made ? 0 : -ENOMEM;
}

int hostfs_failed;

struct inode *hostfs_find(struct inode *dir, const char *name, size_t len)
{
    char text[256];
    size_t n = name_of(text, name, len);
    struct inode *i = dir_known(dir, name, len), *found = NULL;

    if (i && i->mount)
        return i;
    hostfs_failed =
        ask_entry(dir, &(struct entry_call){FUSE_LOOKUP, NULL, 0, text, n, len, NULL}, &found);
    if (hostfs_failed && i)
        dir_remove(dir, name, len);
    return found;
}

int hostfs_open_new(struct inode *dir, const char *name, size_t len, uint32_t flags, uint32_t mode,
                    struct inode **i, uint64_t *fh)
{
    struct fuse_create_in in = {.flags = flags | O_CREAT, .mode = S_IFREG | mode};
    char text[256];
    size_t n = name_of(text, name, len);

    return ask_entry(dir, &(struct entry_call){FUSE_CREATE, &in, sizeof in, text, n, len, fh}, i);
}

int hostfs_create(struct inode *dir, const char *name, size_t len, uint32_t mode,
                  struct inode **made)
{
    struct fuse_mkdir_in in = {.mode = mode & 07777};
    char text[256];
    uint64_t fh;

    if (S_ISREG(mode)) {
        int err = hostfs_open_new(dir, name, len, O_RDWR | O_EXCL, mode & 07777, made, &fh);

        if (!err)
            hostfs_close(dir->share, (*made)->node, fh, false);
        return err;
    }
    if (!S_ISDIR(mode))
        return -EPERM;
    size_t n = name_of(text, name, len);

    return ask_entry(dir, &(struct entry_call){FUSE_MKDIR, &in, sizeof in, text, n, len, NULL},
                     made);
}

int hostfs_symlink(struct inode *dir, const char *name, size_t len, const char *target)
{
    char text[256 + 1024];
    size_t n = name_of(text, name, len), t = length(target);

    if (n + t + 1 > sizeof text)
        return -ENAMETOOLONG;
    n += name_of(text + n, target, t);
    struct inode *made;

    return ask_entry(dir, &(struct entry_call){FUSE_SYMLINK, NULL, 0, text, n, len, NULL}, &made);
}

int hostfs_link(struct inode *dir, const char *name, size_t len, struct inode *i)
{
    struct fuse_link_in in = {.oldnodeid = i->node};
    char text[256];
    size_t n = name_of(text, name, len);
    struct inode *made;

    if (!i->node || i->share != dir->share)
        return -EXDEV;
    return ask_entry(dir, &(struct entry_call){FUSE_LINK, &in, sizeof in, text, n, len, NULL},
                     &made);
}

int hostfs_remove(struct inode *dir, const char *name, size_t len, bool directory)
{
    char text[256];
    size_t n = name_of(text, name, len);
    int64_t err = fuse_call(&(struct fuse_call){.op = directory ? FUSE_RMDIR : FUSE_UNLINK,
                                                .share = dir->share,
                                                .node = dir->node,
                                                .name = text,
                                                .name_len = n});

    if (err >= 0)
        dir_remove(dir, name, len);
    return err < 0 ? (int)err : 0;
}

/* What is known by the one name is so by the other: also what is open or worked in. */
static void moved(struct inode *from, const char *a, size_t alen, struct inode *to, const char *b,
                  size_t blen)
{
    struct inode *i = dir_known(from, a, alen);

    if (i)
        inode_hold(i);
    dir_remove(to, b, blen);
    dir_remove(from, a, alen);
    if (!i)
        return;
    dir_add(to, b, blen, i);
    inode_drop(i);
}

int hostfs_rename(struct inode *from, const char *a, size_t alen, struct inode *to, const char *b,
                  size_t blen, uint32_t flags)
{
    struct fuse_rename2_in in = {.newdir = to->node, .flags = flags};
    char text[512];
    size_t n = name_of(text, a, alen);

    if (!from->node || !to->node || from->share != to->share)
        return -EXDEV;
    n += name_of(text + n, b, blen);
    int64_t err = fuse_call(&(struct fuse_call){.op = FUSE_RENAME2,
                                                .share = from->share,
                                                .node = from->node,
                                                .in = &in,
                                                .in_len = sizeof in,
                                                .name = text,
                                                .name_len = n});

    if (err >= 0)
        moved(from, a, alen, to, b, blen);
    return err < 0 ? (int)err : 0;
}

static int set_attributes(struct inode *i, const struct fuse_setattr_in *in)
{
    struct fuse_attr_out out;
    int64_t err = fuse_call(&(struct fuse_call){.op = FUSE_SETATTR,
                                                .share = i->share,
                                                .node = i->node,
                                                .in = in,
                                                .in_len = sizeof *in,
                                                .out = &out,
                                                .out_len = sizeof out});

    if (err >= 0)
        set_attr(i, &out.attr);
    return err < 0 ? (int)err : 0;
}

int hostfs_resize(struct inode *i, uint64_t size)
{
    return set_attributes(i, &(struct fuse_setattr_in){.valid = FATTR_SIZE, .size = size});
}

int hostfs_chmod(struct inode *i, uint32_t mode)
{
    return set_attributes(
        i, &(struct fuse_setattr_in){.valid = FATTR_MODE, .mode = (i->mode & S_IFMT) | mode});
}

int hostfs_chown(struct inode *i, uint32_t uid, uint32_t gid)
{
    return set_attributes(i, &(struct fuse_setattr_in){.valid = (uid != ~0u ? FATTR_UID : 0) |
                                                                (gid != ~0u ? FATTR_GID : 0),
                                                       .uid = uid,
                                                       .gid = gid});
}

int hostfs_times(struct inode *i, int64_t atime, int64_t mtime)
{
    return set_attributes(i,
                          &(struct fuse_setattr_in){.valid = FATTR_ATIME | FATTR_MTIME,
                                                    .atime = (uint64_t)atime / NS,
                                                    .atimensec = (uint32_t)(atime % (int64_t)NS),
                                                    .mtime = (uint64_t)mtime / NS,
                                                    .mtimensec = (uint32_t)(mtime % (int64_t)NS)});
}

static void refresh(struct inode *i, const struct fuse_getattr_in *in)
{
    struct fuse_attr_out out;

    if (fuse_call(&(struct fuse_call){.op = FUSE_GETATTR,
                                      .share = i->share,
                                      .node = i->node,
                                      .in = in,
                                      .in_len = sizeof *in,
                                      .out = &out,
                                      .out_len = sizeof out}) >= 0)
        set_attr(i, &out.attr);
}

void hostfs_refresh(struct inode *i)
{
    refresh(i, &(struct fuse_getattr_in){0});
}

/* By its handle: wherever it is by now, if it is anywhere. */
void hostfs_refresh_file(const struct file *f)
{
    bool handle = f->ops == &hostfile_ops || f->ops == &hostdir_ops;
    uint64_t fh = f->ops == &hostdir_ops ? hostdir_handle(f) : (uintptr_t)f->data;

    refresh(f->inode,
            &(struct fuse_getattr_in){.getattr_flags = handle ? FUSE_GETATTR_FH : 0, .fh = fh});
}

int hostfs_statfs(const struct inode *i, struct statfs *s)
{
    enum { FUSE_MAGIC = 0x65735546 };
    struct fuse_statfs_out out;
    int64_t err = fuse_call(&(struct fuse_call){
        .op = FUSE_STATFS, .share = i->share, .node = i->node, .out = &out, .out_len = sizeof out});

    if (err < 0)
        return (int)err;
    *s = (struct statfs){.f_type = FUSE_MAGIC,
                         .f_bsize = out.st.bsize,
                         .f_blocks = (int64_t)out.st.blocks,
                         .f_bfree = (int64_t)out.st.bfree,
                         .f_bavail = (int64_t)out.st.bavail,
                         .f_files = (int64_t)out.st.files,
                         .f_ffree = (int64_t)out.st.ffree,
                         .f_namelen = out.st.namelen,
                         .f_frsize = out.st.frsize};
    return 0;
}

/* The share's own root directory; NULL: it does not answer. */
static struct inode *open_share(unsigned share)
{
    struct fuse_init_in in = {.major = FUSE_KERNEL_VERSION,
                              .minor = FUSE_KERNEL_MINOR_VERSION,
                              .flags = FUSE_BIG_WRITES | FUSE_ATOMIC_O_TRUNC};
    struct fuse_init_out out;
    struct inode *i;

    if (fuse_call(&(struct fuse_call){.op = FUSE_INIT,
                                      .share = (uint8_t)share,
                                      .in = &in,
                                      .in_len = sizeof in,
                                      .out = &out,
                                      .out_len = sizeof out}) < 0)
        return NULL;
    i = inode_new(S_IFDIR | 0755);
    if (!i)
        return NULL;
    i->share = (uint8_t)share;
    i->node = FUSE_ROOT_ID;
    hostfs_refresh(i);
    i->mount = true;
    return i;
}

/* The first --share without a PATH is at /host, the others at /host1, /host2 ... */
static void mount_at(struct inode *i, const char *path, unsigned share)
{
    char plain[16];

    if (!*path)
        format(plain, sizeof plain, share ? "/host%d" : "/host", (uint64_t)share);
    fs_place(*path ? path : plain, i);
}

static void is_mount(struct inode *i)
{
    i->mount = true;
}

/* A share at / is the tree itself; what the runtime has there (/dev, /proc) stays above it. */
static void become_root(struct inode *i)
{
    dir_each(root, is_mount);
    root->share = i->share;
    root->node = i->node;
    hostfs_refresh(root);
    inode_drop(i);
}

static struct inode *share[SHARES];

/* When twice as many have come as the last time were in use, so that it costs each name little. */
void hostfs_prune(void)
{
    static uint32_t most = KNOWN_LEAST;

    if (known < most)
        return;
    for (unsigned i = 0; i < SHARES; i++)
        if (share[i])
            dir_prune(share[i]);
    most = known < KNOWN_LEAST / 2 ? KNOWN_LEAST : 2 * known;
}

static const char *path_of_share(unsigned n)
{
    const char *path = boot.mounts_gpa ? kva(boot.mounts_gpa) : "";

    while (boot.mounts_gpa && n--)
        path += length(path) + 1;
    return path;
}

void hostfs_init(void)
{
    unsigned n = virtiofs_init();

    for (unsigned i = 0; i < n; i++) {
        share[i] = open_share(i);
        if (share[i] && same(path_of_share(i), "/")) {
            become_root(share[i]);
            share[i] = root;
        }
    }
}

struct inode *hostfs_share(unsigned n)
{
    return n < SHARES ? share[n] : NULL;
}

void hostfs_mount(void)
{
    for (unsigned i = 0; i < SHARES; i++)
        if (share[i] && share[i] != root)
            mount_at(share[i], path_of_share(i), i);
}
