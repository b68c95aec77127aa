/* The FUSE server's tables: directories read, references counted, limits, and a hostile guest. */
#include <sys/resource.h>
#include "tests/fuse_fix.h"

TestSuite(fuse_tables, .init = setup, .fini = teardown);

/* Read a whole directory in pieces of size bytes; how many names, "." and ".." included. */
static unsigned list(uint32_t op, uint64_t fh, uint64_t node, uint32_t size, char seen[],
                     unsigned n)
{
    struct fuse_read_in in = {.fh = fh, .size = size};
    unsigned count = 0;

    for (;;) {
        cr_assert_eq(CALL(op, node, in, NULL, 0), 0);
        if (reply_len == 16)
            return count;
        cr_assert_leq(reply_len - 16, size);
        for (int64_t i = 16; i < reply_len;) {
            struct fuse_dirent *d =
                (struct fuse_dirent *)(reply_buf + i + (op == FUSE_READDIRPLUS ? 128 : 0));
            unsigned k = 0;

            if (d->namelen > 1 && d->name[0] == 'n') {
                k = (unsigned)atoi(d->name + 1);
                cr_assert_lt(k, n);
                seen[k]++;
            }
            in.offset = d->off;
            count++;
            i += (op == FUSE_READDIRPLUS ? 128 : 0) + (int64_t)FUSE_DIRENT_SIZE(d);
        }
    }
}

Test(fuse_tables, directories_are_read_whole)
{
    static const uint32_t sizes[] = {300, 4096, 65536, 1 << 20};
    enum { N = 700 };
    char name[32];
    uint64_t fh;

    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof name, "n%u", i);
        host_file(name, "");
    }
    for (unsigned i = 0; i < 4; i++)
        for (unsigned plus = 0; plus < 2; plus++) {
            char seen[N] = "";

            cr_assert_eq(open_node(FUSE_OPENDIR, ROOT, O_RDONLY, &fh), 0);
            cr_assert_eq(list(plus ? FUSE_READDIRPLUS : FUSE_READDIR, fh, ROOT, sizes[i], seen, N),
                         N + 2);
            for (unsigned k = 0; k < N; k++)
                cr_assert_eq(seen[k], 1, "n%u in pieces of %u", k, sizes[i]);
            cr_assert_eq(list(FUSE_READDIR, fh, ROOT, sizes[i], seen, N), N + 2, "rewound");
            cr_assert_eq(release(fh, FUSE_RELEASE), -EBADF);
            cr_assert_eq(release(fh, FUSE_RELEASEDIR), 0);
        }
    cr_assert_eq(fuse_count(fs).inodes, N + 1);
    struct fuse_read_in in = {.size = 20};

    cr_assert_eq(open_node(FUSE_OPENDIR, ROOT, O_RDONLY, &in.fh), 0);
    cr_assert_eq(CALL(FUSE_READDIR, ROOT, in, NULL, 0), -EINVAL, "no room for one");
}

Test(fuse_tables, lookups_and_forgets_balance)
{
    uint64_t a, b, fh;

    host_file("f", "");
    a = must(ROOT, "f");
    for (unsigned i = 0; i < 9; i++)
        cr_assert_eq(must(ROOT, "f"), a);
    forget(a, 9);
    cr_assert_eq(getattr(a, NULL), 0);
    /* readdirplus counts one too, but not for "." and "..". */
    struct fuse_read_in in = {.size = 4096};

    cr_assert_eq(open_node(FUSE_OPENDIR, ROOT, O_RDONLY, &fh), 0);
    in.fh = fh;
    cr_assert_eq(CALL(FUSE_READDIRPLUS, ROOT, in, NULL, 0), 0);
    forget(a, 1);
    cr_assert_eq(getattr(a, NULL), 0);
    struct {
        struct fuse_batch_forget_in in;
        struct fuse_forget_one one[3];
    } batch = {{3, 0}, {{a, 1}, {12345, 1}, {ROOT, 99}}};

    CALL(FUSE_BATCH_FORGET, 0, batch, NULL, 0);
    cr_assert_eq(reply_len, 0);
    cr_assert_eq(getattr(a, NULL), -ESTALE);
    cr_assert_eq(getattr(ROOT, NULL), 0);
    b = must(ROOT, "f");
    cr_assert_neq(a, b, "a number is not used twice");
    forget(b, UINT64_MAX);
    cr_assert_eq(fuse_count(fs).inodes, 1);
}

Test(fuse_tables, few_descriptors_for_many_directories)
{
    unsigned before = open_fds();
    uint64_t node[40], dir = ROOT, fh;

    fuse_limit_fds(fs, 3);
    for (unsigned i = 0; i < 40; i++) {
        cr_assert_eq(make_dir(dir, "sub", &node[i]), 0);
        dir = node[i];
    }
    cr_assert_leq(open_fds(), before + 4);
    for (unsigned i = 40; i--;) {
        cr_assert_eq(create(node[i], "f", O_RDWR, 0600, NULL, &fh), 0);
        cr_assert_eq(release(fh, FUSE_RELEASE), 0);
        cr_assert_eq(rename_to(node[i], "f", node[39 - i], "g", 0), 0);
    }
    cr_assert_leq(fuse_count(fs).inode_fds, 4);
    cr_assert_leq(open_fds(), before + 5);
}

Test(fuse_tables, no_descriptor_is_lost)
{
    unsigned before = open_fds();
    uint64_t fh, node;

    for (unsigned i = 0; i < 20; i++) {
        cr_assert_eq(create(ROOT, "f", O_RDWR, 0600, &node, &fh), 0);
        cr_assert_eq(create(ROOT, "f", O_RDWR | O_EXCL, 0600, NULL, NULL), -EEXIST);
        cr_assert_eq(make_dir(ROOT, "f", NULL), -EEXIST);
        cr_assert_eq(open_node(FUSE_OPENDIR, ROOT, 0, &fh), 0);
        cr_assert_eq(name_call(FUSE_UNLINK, ROOT, "f"), 0);
    }
    fuse_reset(fs);
    cr_assert_eq(fuse_count(fs).handles, 0);
    cr_assert_eq(open_fds(), before);
    cr_assert_eq(getattr(node, NULL), -EIO);
}

Test(fuse_tables, too_many_open_files)
{
    uint64_t fh = 0, last = 0, node;
    int err = 0;
    unsigned n = 0;

    host_file("f", "x");
    node = must(ROOT, "f");
    for (; !err && n < FUSE_HANDLES_MAX + 10; n++) {
        last = fh;
        err = open_node(FUSE_OPEN, node, O_RDONLY, &fh);
    }
    cr_assert(err == -ENFILE || err == -EMFILE, "%d", err);
    cr_assert_eq(release(last, FUSE_RELEASE), 0);
    cr_assert_eq(open_node(FUSE_OPEN, node, O_RDONLY, &fh), 0);
}

Test(fuse_tables, released_while_in_flight)
{
    struct {
        struct fuse_in_header h;
        struct fuse_read_in in;
    } q = {{.len = sizeof q, .opcode = FUSE_READ}, {.size = 10}};
    struct iovec iv = {&q, sizeof q}, ov = {reply_buf, 100};
    struct fuse_buf b = {&iv, &ov, 1, 1};
    struct fuse_io io;
    uint64_t fh;

    host_file("f", "0123456789");
    cr_assert_eq(open_node(FUSE_OPEN, must(ROOT, "f"), O_RDONLY, &fh), 0);
    q.in.fh = fh;
    cr_assert_eq(fuse_request(fs, &b, &io), FUSE_LATER);
    cr_assert_eq(release(fh, FUSE_RELEASE), 0);
    cr_assert_eq(fcntl(io.fd, F_GETFD) >= 0, 1, "still open");
    cr_assert_eq(release(fh, FUSE_RELEASE), -EBADF);
    cr_assert_eq(fuse_io_done(fs, &b, &io, 10), 26);
    cr_assert_eq(fcntl(io.fd, F_GETFD), -1);
    cr_assert_eq(fuse_count(fs).handles, 0);
}

Test(fuse_tables, read_only)
{
    uint64_t node, fh;
    struct fuse_setattr_in set = {.valid = FATTR_MODE, .mode = 0777};
    struct fuse_mknod_in mk = {.mode = S_IFIFO};
    struct fuse_access_in acc = {.mask = W_OK};

    host_file("f", "text");
    again(true);
    node = must(ROOT, "f");
    cr_assert_eq(open_node(FUSE_OPEN, node, O_RDWR, &fh), -EROFS);
    cr_assert_eq(open_node(FUSE_OPEN, node, O_RDONLY | O_TRUNC, &fh), -EROFS);
    cr_assert_eq(open_node(FUSE_OPEN, node, O_RDONLY, &fh), 0);
    cr_assert_eq(get(fh, 0, 10), 4);
    cr_assert_eq(put(fh, 0, "x", 1, 0), -EROFS);
    cr_assert_eq(create(ROOT, "g", O_RDONLY, 0600, NULL, NULL), -EROFS);
    cr_assert_eq(create(ROOT, "f", O_RDONLY, 0600, NULL, NULL), -EROFS);
    cr_assert_eq(make_dir(ROOT, "g", NULL), -EROFS);
    cr_assert_eq(CALL(FUSE_MKNOD, ROOT, mk, "p", 2), -EROFS);
    cr_assert_eq(call(FUSE_SYMLINK, ROOT, NULL, 0, "l\0t", 4), -EROFS);
    cr_assert_eq(name_call(FUSE_UNLINK, ROOT, "f"), -EROFS);
    cr_assert_eq(rename_to(ROOT, "f", ROOT, "g", 0), -EROFS);
    cr_assert_eq(CALL(FUSE_SETATTR, node, set, NULL, 0), -EROFS);
    cr_assert_eq(call(FUSE_SETXATTR, node, &(uint64_t){5}, 8, "user.a\0value", 12), -EROFS);
    cr_assert_eq(CALL(FUSE_ACCESS, node, acc, NULL, 0), -EROFS);
    host_is("f", "text");
}

Test(fuse_tables, the_directory_vanishes)
{
    uint64_t node, sub;

    cr_assert_eq(make_dir(ROOT, "sub", &sub), 0);
    cr_assert_eq(create(sub, "f", O_RDWR, 0600, &node, NULL), 0);
    nftw(at(""), rm_one, 16, FTW_DEPTH | FTW_PHYS);
    cr_assert_eq(look(ROOT, "sub", NULL), -ENOENT);
    cr_assert_lt(look(sub, "f", NULL), 0);
    cr_assert_eq(create(ROOT, "new", O_RDWR, 0600, NULL, NULL), -ENOENT);
    cr_assert_eq(getattr(ROOT, NULL), 0);
}

Test(fuse_tables, file_size_limit_is_the_guests_error)
{
    struct rlimit old, small = {4096, 4096};
    uint64_t fh;
    char data[100] = "";

    cr_assert_eq(create(ROOT, "f", O_RDWR, 0600, NULL, &fh), 0);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    cr_assert_eq(put(fh, 8192, data, 100, 0), -EFBIG);
    setrlimit(RLIMIT_FSIZE, &old);
}

/* --- a hostile guest --- */

static uint64_t rnd(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

Test(fuse_tables, wrong_sizes)
{
    struct fuse_in_header h = {.len = sizeof h, .opcode = FUSE_LOOKUP, .nodeid = ROOT};
    uint8_t in[64] = "";

    for (uint32_t op = 0; op < 80; op++) {
        h.opcode = op;
        memcpy(in, &h, sizeof h);
        raw(in, sizeof h, 0);
        cr_assert_eq(reply_len, 0);
        raw(in, sizeof h, 15);
        cr_assert_eq(reply_len, 0);
        raw(in, 39, 100);
        cr_assert_eq(reply_len, 0, "not even a header");
        if (op != FUSE_FORGET && op != FUSE_BATCH_FORGET && op != FUSE_INTERRUPT &&
            op != FUSE_DESTROY && op != FUSE_STATFS && op != FUSE_READLINK)
            cr_assert_lt(raw(in, sizeof h, 16), 0, "op %u", op);
    }
    static const uint32_t lens[] = {0, 1, 39, 41, 65, 1 << 20, UINT32_MAX};

    h.opcode = FUSE_LOOKUP;
    for (unsigned i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        h.len = lens[i];
        memcpy(in, &h, sizeof h);
        cr_assert_eq(raw(in, 64, 4096), -EINVAL, "length %u", lens[i]);
    }
    h = (struct fuse_in_header){.len = sizeof h, .opcode = 4096, .nodeid = ROOT};
    cr_assert_eq(raw(&h, sizeof h, 100), -ENOSYS);
    h.opcode = UINT32_MAX;
    cr_assert_eq(raw(&h, sizeof h, 100), -ENOSYS);
}

/* Numbers that a guest may send, near those that mean something. */
static uint64_t number(uint64_t *s, const uint64_t *good, unsigned n)
{
    switch (rnd(s) % 8) {
    case 0:
        return rnd(s);
    case 1:
        return rnd(s) % 70000;
    case 2:
        return good[rnd(s) % n] + (1ull << 32);
    default:
        return good[rnd(s) % n];
    }
}

Test(fuse_tables, mutations, .timeout = 120)
{
    static const char *const names[] = {"a", "b", "c", "sub", "..", "", "x/y", "l"};
    static uint8_t in[8192];
    uint64_t good[16] = {ROOT, ROOT, 0, UINT64_MAX, 1ull << 63};
    const char *seed = getenv("FUSE_SEED");
    uint64_t s = seed ? strtoull(seed, NULL, 0) : 0x2545f4914f6cdd1d;
    unsigned before = open_fds();
    char outside[128];

    snprintf(outside, sizeof outside, "%s/outside", top);
    close(open(outside, O_CREAT | O_WRONLY, 0600));
    cr_assert_eq(symlink("..", at("l")), 0);
    for (unsigned i = 0; i < 60000; i++) {
        struct fuse_in_header h = {.opcode = (uint32_t)(rnd(&s) % 54), .unique = i};
        size_t len = sizeof h + rnd(&s) % 96;

        if (h.opcode == FUSE_INIT && rnd(&s) % 16)
            h.opcode = FUSE_CREATE;
        if (h.opcode == FUSE_DESTROY && rnd(&s) % 64)
            h.opcode = FUSE_LOOKUP;
        if (h.opcode == FUSE_FSYNC || h.opcode == FUSE_FSYNCDIR)
            continue; /* slow, and nothing to it */
        h.nodeid = number(&s, good, 16);
        for (size_t k = sizeof h; k < len; k += 8) {
            uint64_t v = number(&s, good, 16);

            if (rnd(&s) % 3 == 0)
                v = (v & 0xffff) | (rnd(&s) & 0x7000ull) << 32;
            memcpy(in + k, &v, 8);
        }
        for (unsigned k = 0; k < 2 && rnd(&s) % 4; k++) {
            const char *name = names[rnd(&s) % 8];

            memcpy(in + len, name, strlen(name) + 1);
            len += strlen(name) + 1;
        }
        h.len = rnd(&s) % 16 ? (uint32_t)len : (uint32_t)rnd(&s);
        memcpy(in, &h, sizeof h);
        int err = raw(in, len, rnd(&s) % 16 ? 8192 : rnd(&s) % 400);

        cr_assert(err <= 0 && err > -4096, "error %d", err);
        cr_assert_leq(reply_len, 8192 + 16);
        /* Keep some of what the server gave. */
        if (!err && reply_len >= 32)
            memcpy(&good[2 + rnd(&s) % 14], body(), 8);
        if (!err && reply_len == 16 + 128 + 16)
            memcpy(&good[2 + rnd(&s) % 14], reply_buf + 16 + 128, 8);
        if (h.opcode == FUSE_DESTROY)
            init(7, 36);
    }
    init(7, 36);
    cr_assert_eq(fuse_count(fs).handles, 0);
    cr_assert_eq(fuse_count(fs).inodes, 1);
    cr_assert_eq(fuse_count(fs).inode_fds, 0);
    cr_assert_eq(open_fds(), before);
    unsigned n = 0;
    DIR *d = opendir(top);

    for (struct dirent *e; (e = readdir(d));)
        n++;
    closedir(d);
    cr_assert_eq(n, 4, "nothing was made outside");
}
