/* A FUSE server on a fresh temporary directory, and requests made by hand. */
#ifndef TESTS_FUSE_FIX_H
#define TESTS_FUSE_FIX_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "virtio/fuse_impl.h"

#define ROOT FUSE_ROOT_ID

static struct fuse_fs *fs;
static char top[64], path_buf[4096];
static uint8_t reply_buf[2 * 1024 * 1024];
static int64_t reply_len;
static uint32_t as_uid, as_gid;

static inline const char *at(const char *name)
{
    snprintf(path_buf, sizeof path_buf, "%s/d/%s", top, name);
    return path_buf;
}

/* One request, in and out in pieces as a guest would give them. Returns its error; the body is at
 * body(). */
static inline int raw(const void *in, size_t len, size_t room)
{
    size_t cut = len > 40 ? 40 : len;
    struct iovec iv[2] = {{(void *)in, cut}, {(uint8_t *)in + cut, len - cut}};
    struct iovec ov[3] = {{reply_buf, 16}, {reply_buf + 16, 64}, {reply_buf + 80, 0}};
    struct fuse_buf b = {iv, ov, 2, 3};
    struct fuse_io io;

    if (room < 80) {
        ov[0].iov_len = room < 16 ? room : 16;
        ov[1].iov_len = room - ov[0].iov_len;
    } else {
        ov[2].iov_len = room - 80;
    }
    memset(reply_buf, 0xa5, room < sizeof reply_buf ? room : sizeof reply_buf);
    reply_len = fuse_request(fs, &b, &io);
    if (reply_len == FUSE_LATER) {
        uint8_t *data = io.kind == FUSE_IO_READ ? reply_buf : (uint8_t *)in;
        struct iovec one = {data + io.skip, io.len};
        reply_len = fuse_io_done(fs, &b, &io, fuse_io_run(&io, &one, 1, false));
    }
    if (reply_len < 16)
        return reply_len ? 9999 : 0;
    return ((struct fuse_out_header *)reply_buf)->error;
}

static inline void *body(void)
{
    return reply_buf + 16;
}

static inline int call(uint32_t op, uint64_t node, const void *args, size_t alen, const void *rest,
                       size_t rlen)
{
    static uint8_t in[2 * 1024 * 1024];
    struct fuse_in_header h = {.len = (uint32_t)(sizeof h + alen + rlen),
                               .opcode = op,
                               .unique = 77,
                               .nodeid = node,
                               .uid = as_uid,
                               .gid = as_gid};

    memcpy(in, &h, sizeof h);
    if (alen)
        memcpy(in + sizeof h, args, alen);
    if (rlen)
        memcpy(in + sizeof h + alen, rest, rlen);
    int err = raw(in, h.len, sizeof reply_buf);

    if (reply_len >= 16)
        cr_assert_eq(((struct fuse_out_header *)reply_buf)->unique, 77);
    return err;
}
#define CALL(op, node, args, rest, rlen) call(op, node, &(args), sizeof(args), rest, rlen)

static inline int name_call(uint32_t op, uint64_t node, const char *name)
{
    return call(op, node, NULL, 0, name, strlen(name) + 1);
}

static inline int look(uint64_t dir, const char *name, uint64_t *node)
{
    int err = name_call(FUSE_LOOKUP, dir, name);
    uint64_t found = err ? 0 : ((struct fuse_entry_out *)body())->nodeid;

    if (node)
        *node = found;
    return err || found ? err : -ENOENT; /* node 0: none, and that may be cached */
}

static inline uint64_t must(uint64_t dir, const char *name)
{
    uint64_t node = 0;

    cr_assert_eq(look(dir, name, &node), 0, "lookup of %s", name);
    return node;
}

static inline int create(uint64_t dir, const char *name, uint32_t flags, uint32_t mode,
                         uint64_t *node, uint64_t *fh)
{
    struct fuse_create_in in = {.flags = flags, .mode = mode};
    int err = CALL(FUSE_CREATE, dir, in, name, strlen(name) + 1);
    struct fuse_entry_out *e = body();

    if (node)
        *node = err ? 0 : e->nodeid;
    if (fh)
        *fh = err ? 0 : ((struct fuse_open_out *)(e + 1))->fh;
    return err;
}

static inline int open_node(uint32_t op, uint64_t node, uint32_t flags, uint64_t *fh)
{
    struct fuse_open_in in = {.flags = flags};
    int err = CALL(op, node, in, NULL, 0);

    *fh = err ? 0 : ((struct fuse_open_out *)body())->fh;
    return err;
}

static inline int put(uint64_t fh, uint64_t off, const void *data, uint32_t len, uint32_t flags)
{
    struct fuse_write_in in = {.fh = fh, .offset = off, .size = len, .flags = flags};
    int err = CALL(FUSE_WRITE, 0, in, data, len);

    return err ? err : (int)((struct fuse_write_out *)body())->size;
}

/* Bytes read (at body()), or the error. */
static inline int get(uint64_t fh, uint64_t off, uint32_t len)
{
    struct fuse_read_in in = {.fh = fh, .offset = off, .size = len};
    int err = CALL(FUSE_READ, 0, in, NULL, 0);

    return err ? err : (int)reply_len - 16;
}

static inline int release(uint64_t fh, uint32_t op)
{
    struct fuse_release_in in = {.fh = fh};

    return CALL(op, 0, in, NULL, 0);
}

static inline int make_dir(uint64_t dir, const char *name, uint64_t *node)
{
    struct fuse_mkdir_in in = {.mode = 0755};
    int err = CALL(FUSE_MKDIR, dir, in, name, strlen(name) + 1);

    if (node)
        *node = err ? 0 : ((struct fuse_entry_out *)body())->nodeid;
    return err;
}

static inline int rename_to(uint64_t dir, const char *a, uint64_t to, const char *b, uint32_t flags)
{
    struct fuse_rename2_in in = {.newdir = to, .flags = flags};
    char two[1024];
    size_t n = strlen(a) + 1, m = strlen(b) + 1;

    memcpy(two, a, n);
    memcpy(two + n, b, m);
    return CALL(FUSE_RENAME2, dir, in, two, n + m);
}

static inline int getattr(uint64_t node, struct fuse_attr *attr)
{
    struct fuse_getattr_in in = {0};
    int err = CALL(FUSE_GETATTR, node, in, NULL, 0);

    if (!err && attr)
        *attr = ((struct fuse_attr_out *)body())->attr;
    return err;
}

static inline void forget(uint64_t node, uint64_t n)
{
    struct fuse_forget_in in = {n};

    CALL(FUSE_FORGET, node, in, NULL, 0);
    cr_assert_eq(reply_len, 0, "forget has no reply");
}

static inline int init(uint32_t major, uint32_t minor)
{
    struct fuse_init_in in = {
        .major = major, .minor = minor, .max_readahead = 131072, .flags = ~0u};

    return CALL(FUSE_INIT, 0, in, NULL, 0);
}

static inline void host_file(const char *name, const char *text)
{
    FILE *f = fopen(at(name), "w");

    cr_assert(f);
    fputs(text, f);
    fclose(f);
}

static inline void host_is(const char *name, const char *text)
{
    char buf[4096] = "";
    FILE *f = fopen(at(name), "r");

    cr_assert(f, "host's %s", name);
    buf[fread(buf, 1, sizeof buf - 1, f)] = 0;
    fclose(f);
    cr_assert_str_eq(buf, text);
}

static inline int rm_one(const char *p, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(p);
}

static inline void serve_dir(bool ro)
{
    int fd = open(at(""), O_PATH | O_DIRECTORY);

    cr_assert_geq(fd, 0);
    cr_assert_eq(fuse_create(&fs, fd, ro), 0);
}

static inline void setup(void)
{
    strcpy(top, "/tmp/unit_fuse.XXXXXX");
    cr_assert(mkdtemp(top));
    mkdir(at(""), 0755);
    as_uid = geteuid(), as_gid = getegid();
    serve_dir(false);
    cr_assert_eq(init(7, 36), 0);
}

static inline void teardown(void)
{
    fuse_destroy(fs);
    nftw(top, rm_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Serve the same directory again. */
static inline void again(bool ro)
{
    fuse_destroy(fs);
    serve_dir(ro);
    cr_assert_eq(init(7, 36), 0);
}

static inline unsigned open_fds(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

#endif
