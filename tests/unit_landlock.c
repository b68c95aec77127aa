/* The wall of files around the thread that serves shares: the FUSE server works inside, nothing
 * else of the host is to be had. */
#include "tests/fuse_fix.h"
#include "seccomp/seccomp.h"

TestSuite(landlock, .init = setup, .fini = teardown);

/* In a child: what is fenced stays so. false: this kernel has none. */
static bool fence(bool ro, bool remove_elsewhere)
{
    struct seccomp_dir dir = {open(at(""), O_PATH | O_DIRECTORY), ro};
    int err = seccomp_beneath(&dir, 1, remove_elsewhere);

    if (err == -EOPNOTSUPP)
        puts("skipped landlock: this kernel has none");
    else
        cr_assert_eq(err, 0);
    return !err;
}

Test(landlock, the_server_works_inside)
{
    uint64_t node, fh, sub;
    struct fuse_mknod_in fifo = {.mode = S_IFIFO | 0600};
    struct fuse_setattr_in set = {.valid = FATTR_SIZE | FATTR_MODE, .size = 2, .mode = 0640};

    if (!fence(false, false))
        return;
    cr_assert_eq(create(ROOT, "f", O_RDWR, 0600, &node, &fh), 0);
    cr_assert_eq(put(fh, 0, "hello", 5, O_RDWR), 5);
    cr_assert_eq(CALL(FUSE_SETATTR, node, set, NULL, 0), 0);
    cr_assert_eq(get(fh, 0, 10), 2);
    cr_assert_eq(make_dir(ROOT, "sub", &sub), 0);
    cr_assert_eq(rename_to(ROOT, "f", sub, "g", 0), 0);
    struct fuse_link_in link = {node};

    cr_assert_eq(CALL(FUSE_LINK, ROOT, link, "h", 2), 0);
    cr_assert_eq(call(FUSE_SYMLINK, ROOT, NULL, 0, "l\0/etc", 7), 0);
    cr_assert_eq(CALL(FUSE_MKNOD, ROOT, fifo, "p", 2), 0);
    cr_assert_eq(call(FUSE_SETXATTR, node, &(uint64_t){5}, 8, "user.a\0value", 12), 0);
    cr_assert_eq(open_node(FUSE_OPENDIR, sub, 0, &fh), 0);
    cr_assert_eq(name_call(FUSE_UNLINK, ROOT, "h"), 0);
    cr_assert_eq(name_call(FUSE_UNLINK, sub, "g"), 0);
    cr_assert_eq(open_node(FUSE_OPEN, node, O_RDWR, &fh), 0, "removed, and opened again");
    cr_assert_eq(name_call(FUSE_RMDIR, ROOT, "sub"), 0);
    cr_assert_eq(name_call(FUSE_UNLINK, ROOT, "l"), 0);
    cr_assert_eq(name_call(FUSE_UNLINK, ROOT, "p"), 0);
}

static void outside(bool remove_elsewhere)
{
    char p[128];

    snprintf(p, sizeof p, "%s/x", top);
    close(open(p, O_CREAT | O_WRONLY, 0600));
    if (!fence(false, remove_elsewhere))
        return;
    cr_assert_eq(open("/etc/passwd", O_RDONLY), -1);
    cr_assert_eq(open("/", O_RDONLY | O_DIRECTORY), -1);
    cr_assert_eq(open("/dev/null", O_RDWR), -1);
    cr_assert_eq(open(p, O_RDONLY), -1);
    cr_assert_eq(errno, EACCES);
    cr_assert_eq(symlink("a", "/tmp/unit_landlock_link"), -1);
    cr_assert_eq(rename(p, at("x")), -1);
    cr_assert_eq(link(p, at("x")), -1);
    cr_assert_eq(mknod(at("dev"), S_IFCHR | 0600, 0x103), -1, "not even inside");
    cr_assert_eq(unlink(p), remove_elsewhere ? 0 : -1);
}

Test(landlock, nothing_else)
{
    outside(false);
}

Test(landlock, but_a_socket_to_remove)
{
    outside(true);
}

Test(landlock, read_only)
{
    uint64_t fh;

    host_file("f", "text");
    if (!fence(true, false))
        return;
    /* Of a server that has forgotten what it was told. */
    cr_assert_eq(open_node(FUSE_OPEN, must(ROOT, "f"), O_RDONLY, &fh), 0);
    cr_assert_eq(get(fh, 0, 10), 4);
    cr_assert_eq(open_node(FUSE_OPEN, must(ROOT, "f"), O_RDWR, &fh), -EACCES);
    cr_assert_lt(create(ROOT, "g", O_RDWR, 0600, NULL, NULL), 0);
    cr_assert_lt(name_call(FUSE_UNLINK, ROOT, "f"), 0);
    cr_assert_lt(make_dir(ROOT, "d", NULL), 0);
}
