/* The FUSE server with requests made by hand: what each does to the host's directory. */
#include <linux/falloc.h>
#include "tests/fuse_fix.h"

TestSuite(fuse, .init = setup, .fini = teardown);

Test(fuse, init_negotiates)
{
    struct fuse_init_out *out = body();

    cr_assert_eq(init(7, 36), 0);
    cr_assert_eq(out->major, 7);
    cr_assert_eq(out->max_write, 1u << 20);
    cr_assert_eq(out->max_pages, 256);
    cr_assert(out->flags & FUSE_DO_READDIRPLUS);
    cr_assert(out->flags & FUSE_HANDLE_KILLPRIV_V2);
    cr_assert_not(out->flags & FUSE_WRITEBACK_CACHE);
    cr_assert_not(out->flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS));
    cr_assert_eq(init(8, 0), 0);
    cr_assert_eq(out->major, 7);
    cr_assert_eq(init(7, 30), -EPROTO);
    cr_assert_eq(init(6, 99), -EPROTO);
}

Test(fuse, nothing_before_init)
{
    fuse_destroy(fs);
    serve_dir(false);
    cr_assert_eq(look(ROOT, "x", NULL), -EIO);
    cr_assert_eq(init(7, 36), 0);
    cr_assert_eq(look(ROOT, "x", NULL), -ENOENT);
}

Test(fuse, create_write_read)
{
    uint64_t node, fh, fh2;
    struct fuse_attr a;

    cr_assert_eq(create(ROOT, "f", O_RDWR | O_EXCL, 0640, &node, &fh), 0);
    cr_assert_eq(put(fh, 0, "hello world", 11, O_RDWR), 11);
    cr_assert_eq(get(fh, 6, 100), 5);
    cr_assert_eq(memcmp(body(), "world", 5), 0);
    cr_assert_eq(get(fh, 11, 100), 0);
    host_is("f", "hello world");
    cr_assert_eq(getattr(node, &a), 0);
    cr_assert_eq(a.size, 11);
    cr_assert_eq(a.mode, S_IFREG | 0640);
    cr_assert_eq(create(ROOT, "f", O_RDWR | O_EXCL, 0640, NULL, NULL), -EEXIST);
    cr_assert_eq(create(ROOT, "f", O_RDWR | O_TRUNC, 0640, NULL, &fh2), 0);
    host_is("f", "");
    cr_assert_eq(release(fh, FUSE_RELEASE), 0);
    cr_assert_eq(release(fh, FUSE_RELEASE), -EBADF);
    cr_assert_eq(put(fh, 0, "x", 1, 0), -EBADF);
    cr_assert_eq(release(fh2, FUSE_RELEASE), 0);
    cr_assert_eq(fuse_count(fs).handles, 0);
}

Test(fuse, large_data)
{
    static uint8_t data[1 << 20];
    uint64_t fh;

    for (unsigned i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + (i >> 8));
    cr_assert_eq(create(ROOT, "big", O_RDWR, 0600, NULL, &fh), 0);
    cr_assert_eq(put(fh, 12345, data, sizeof data, O_RDWR), sizeof data);
    cr_assert_eq(get(fh, 12345, sizeof data), sizeof data);
    cr_assert_eq(memcmp(body(), data, sizeof data), 0);
}

Test(fuse, append_follows_the_open_file)
{
    uint64_t node, fh;

    host_file("f", "abc");
    node = must(ROOT, "f");
    cr_assert_eq(open_node(FUSE_OPEN, node, O_WRONLY | O_APPEND, &fh), 0);
    cr_assert_eq(put(fh, 0, "de", 2, O_WRONLY | O_APPEND), 2);
    host_is("f", "abcde");
    cr_assert_eq(put(fh, 0, "X", 1, O_WRONLY), 1); /* the guest took O_APPEND away */
    host_is("f", "Xbcde");
    cr_assert_eq(put(fh, 0, "f", 1, O_WRONLY | O_APPEND), 1);
    host_is("f", "Xbcdef");
}

Test(fuse, open_flags)
{
    uint64_t node, fh;

    host_file("f", "abc");
    node = must(ROOT, "f");
    cr_assert_eq(open_node(FUSE_OPEN, node, O_RDONLY | O_DIRECT, &fh), 0);
    cr_assert_eq(get(fh, 1, 1), 1, "O_DIRECT is the guest's own affair");
    cr_assert_eq(put(fh, 0, "x", 1, 0), -EBADF);
    cr_assert_eq(open_node(FUSE_OPEN, node, O_WRONLY | O_TRUNC, &fh), 0);
    host_is("f", "");
    cr_assert_eq(open_node(FUSE_OPEN, ROOT, O_RDONLY, &fh), -EISDIR);
    cr_assert_eq(open_node(FUSE_OPENDIR, node, O_RDONLY, &fh), -ENOTDIR);
}

Test(fuse, cache_is_kept_for_what_did_not_change)
{
    struct timespec old[2] = {{1000, 0}, {1000, 0}};
    struct fuse_open_out *out = body();
    uint64_t node, fh;

    host_file("f", "abc");
    node = must(ROOT, "f");
    usleep(1100000); /* older than a clock's grain */
    cr_assert_eq(open_node(FUSE_OPEN, node, O_RDONLY, &fh), 0);
    cr_assert_not(out->open_flags & FOPEN_KEEP_CACHE);
    cr_assert_eq(open_node(FUSE_OPEN, node, O_RDONLY, &fh), 0);
    cr_assert(out->open_flags & FOPEN_KEEP_CACHE);
    utimensat(AT_FDCWD, at("f"), old, 0); /* changes ctime */
    cr_assert_eq(open_node(FUSE_OPEN, node, O_RDONLY, &fh), 0);
    cr_assert_not(out->open_flags & FOPEN_KEEP_CACHE);
}

Test(fuse, names_are_single_components)
{
    static const char *const bad[] = {"", ".", "..", "/", "a/b", "../x", "/etc/passwd", "a/.."};
    char longest[300];

    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_eq(look(ROOT, bad[i], NULL), -EINVAL, "'%s'", bad[i]);
        cr_assert_eq(make_dir(ROOT, bad[i], NULL), -EINVAL);
        cr_assert_eq(create(ROOT, bad[i], O_RDWR, 0600, NULL, NULL), -EINVAL);
        cr_assert_eq(name_call(FUSE_UNLINK, ROOT, bad[i]), -EINVAL);
        cr_assert_eq(name_call(FUSE_RMDIR, ROOT, bad[i]), -EINVAL);
        cr_assert_eq(rename_to(ROOT, "a", ROOT, bad[i], 0), -EINVAL);
        cr_assert_eq(rename_to(ROOT, bad[i], ROOT, "a", 0), -EINVAL);
    }
    memset(longest, 'x', sizeof longest);
    longest[256] = 0;
    cr_assert_eq(make_dir(ROOT, longest, NULL), -ENAMETOOLONG);
    longest[255] = 0;
    cr_assert_eq(make_dir(ROOT, longest, NULL), 0);
    cr_assert_eq(call(FUSE_LOOKUP, ROOT, NULL, 0, "abc", 3), -EINVAL, "no NUL");
}

Test(fuse, links_are_not_followed)
{
    uint64_t node, fh;
    char secret[128];

    snprintf(secret, sizeof secret, "%s/secret", top);
    FILE *f = fopen(secret, "w");

    fputs("outside", f);
    fclose(f);
    cr_assert_eq(symlink(secret, at("link")), 0);
    cr_assert_eq(symlink("..", at("up")), 0);
    node = must(ROOT, "link");
    cr_assert_eq(open_node(FUSE_OPEN, node, O_RDONLY, &fh), -ELOOP);
    cr_assert_eq(create(ROOT, "link", O_RDWR, 0600, NULL, NULL), -ELOOP);
    cr_assert_eq(create(ROOT, "link", O_RDWR | O_TRUNC, 0600, NULL, NULL), -ELOOP);
    cr_assert_eq(call(FUSE_READLINK, node, NULL, 0, NULL, 0), 0);
    cr_assert_eq((size_t)reply_len - 16, strlen(secret));
    struct fuse_setattr_in set = {.valid = FATTR_MODE, .mode = 0777};

    cr_assert_eq(CALL(FUSE_SETATTR, node, set, NULL, 0), -EOPNOTSUPP);
    set = (struct fuse_setattr_in){.valid = FATTR_SIZE};
    cr_assert_lt(CALL(FUSE_SETATTR, node, set, NULL, 0), 0);
    node = must(ROOT, "up");
    cr_assert_eq(look(node, "secret", NULL), -ENOTDIR);
    cr_assert_eq(make_dir(node, "x", NULL), -ENOTDIR);
    cr_assert_eq(open_node(FUSE_OPENDIR, node, O_RDONLY, &fh), -ENOTDIR);
    f = fopen(secret, "r");
    char buf[16] = "";

    cr_assert(fgets(buf, sizeof buf, f));
    fclose(f);
    cr_assert_str_eq(buf, "outside");
}

Test(fuse, a_directory_swapped_for_a_link)
{
    uint64_t dir, node, fh;

    mkdir(at("sub"), 0755);
    host_file("sub/f", "in");
    dir = must(ROOT, "sub");
    node = must(dir, "f");
    fuse_limit_fds(fs, 0); /* nothing held: every step by name */
    mkdir(at("x"), 0755);
    cr_assert_eq(look(must(ROOT, "x"), "none", NULL), -ENOENT);
    char sub[128];

    strcpy(sub, at("sub"));
    cr_assert_eq(rename(sub, at("gone")), 0);
    cr_assert_eq(symlink("/etc", at("sub")), 0);
    cr_assert_eq(look(dir, "passwd", NULL), -ESTALE);
    cr_assert_eq(open_node(FUSE_OPEN, node, O_RDONLY, &fh), -ESTALE);
    cr_assert_eq(getattr(node, NULL), -ESTALE);
}

/* Where its path leads there may be another by now: the guest is to look again, not to believe that
 * there is nothing. */
Test(fuse, nothing_is_found_in_a_removed_directory)
{
    uint64_t dir, node = 1;

    cr_assert_eq(make_dir(ROOT, "d", &dir), 0);
    cr_assert_eq(look(dir, "f", &node), -ENOENT);
    cr_assert_eq(rmdir(at("d")), 0);
    cr_assert_eq(mkdir(at("d"), 0700), 0);
    host_file("d/f", "new");
    cr_assert_eq(look(dir, "f", &node), -ESTALE);
    dir = must(ROOT, "d");
    cr_assert_eq(look(dir, "f", &node), 0);
}

Test(fuse, special_files_are_not_opened)
{
    struct fuse_mknod_in in = {.mode = S_IFIFO | 0644};
    uint64_t node, fh;

    cr_assert_eq(CALL(FUSE_MKNOD, ROOT, in, "fifo", 5), 0);
    node = ((struct fuse_entry_out *)body())->nodeid;
    cr_assert_eq(open_node(FUSE_OPEN, node, O_RDONLY, &fh), -ENXIO);
    cr_assert_eq(create(ROOT, "fifo", O_WRONLY, 0600, NULL, NULL), -ENXIO);
    in.mode = S_IFCHR | 0666;
    in.rdev = 0x103;
    cr_assert_eq(CALL(FUSE_MKNOD, ROOT, in, "null", 5), -EPERM);
    in.mode = S_IFBLK | 0666;
    cr_assert_eq(CALL(FUSE_MKNOD, ROOT, in, "sda", 4), -EPERM);
    in.mode = S_IFREG | 0600;
    cr_assert_eq(CALL(FUSE_MKNOD, ROOT, in, "reg", 4), 0);
    host_is("reg", "");
}

Test(fuse, rename)
{
    uint64_t a, sub, fh;

    host_file("a", "A");
    host_file("b", "B");
    cr_assert_eq(make_dir(ROOT, "sub", &sub), 0);
    a = must(ROOT, "a");
    uint64_t b = must(ROOT, "b");

    cr_assert_eq(rename_to(ROOT, "a", ROOT, "b", RENAME_NOREPLACE), -EEXIST);
    cr_assert_eq(rename_to(ROOT, "a", ROOT, "b", RENAME_EXCHANGE), 0);
    host_is("a", "B");
    cr_assert_eq(open_node(FUSE_OPEN, a, O_RDONLY, &fh), 0);
    cr_assert_eq(get(fh, 0, 1), 1);
    cr_assert_eq(*(char *)body(), 'A');
    cr_assert_eq(rename_to(ROOT, "b", sub, "c", 0), 0); /* A */
    cr_assert_eq(getattr(a, NULL), 0);
    host_is("sub/c", "A");
    cr_assert_eq(rename_to(ROOT, "a", sub, "c", 0), 0); /* B over A */
    host_is("sub/c", "B");
    cr_assert_eq(getattr(b, NULL), 0);
    struct fuse_attr attr;

    cr_assert_eq(getattr(a, &attr), 0, "the guest still knows it");
    cr_assert_eq(attr.nlink, 0);
    cr_assert_eq(rename_to(ROOT, "none", ROOT, "x", 0), -ENOENT);
    cr_assert_eq(rename_to(ROOT, "sub", sub, "x", 0), -EINVAL);
    cr_assert_eq(rename_to(sub, "c", ROOT, "c", RENAME_WHITEOUT), -EINVAL);
}

Test(fuse, children_follow_a_renamed_directory)
{
    uint64_t sub, node;

    cr_assert_eq(make_dir(ROOT, "one", &sub), 0);
    cr_assert_eq(create(sub, "f", O_RDWR, 0600, &node, NULL), 0);
    fuse_limit_fds(fs, 0);
    cr_assert_eq(rename_to(ROOT, "one", ROOT, "two", 0), 0);
    cr_assert_eq(getattr(node, NULL), 0);
    cr_assert_eq(name_call(FUSE_UNLINK, sub, "f"), 0);
    cr_assert_eq(name_call(FUSE_RMDIR, ROOT, "two"), 0);
}

Test(fuse, removed_but_known)
{
    uint64_t node, fh;
    struct fuse_attr a;
    struct fuse_setattr_in set = {.valid = FATTR_SIZE, .size = 2};

    cr_assert_eq(create(ROOT, "f", O_RDWR, 0600, &node, &fh), 0);
    cr_assert_eq(put(fh, 0, "abcdef", 6, O_RDWR), 6);
    cr_assert_eq(name_call(FUSE_UNLINK, ROOT, "f"), 0);
    cr_assert_eq(access(at("f"), F_OK), -1);
    cr_assert_eq(getattr(node, &a), 0);
    cr_assert_eq(a.nlink, 0);
    cr_assert_eq(CALL(FUSE_SETATTR, node, set, NULL, 0), 0);
    cr_assert_eq(get(fh, 0, 10), 2);
    cr_assert_eq(release(fh, FUSE_RELEASE), 0);
    cr_assert_eq(open_node(FUSE_OPEN, node, O_RDONLY, &fh), 0);
    cr_assert_eq(get(fh, 0, 10), 2);
    cr_assert_eq(fuse_count(fs).inode_fds, 1);
    forget(node, 1);
    cr_assert_eq(fuse_count(fs).inode_fds, 0);
    cr_assert_eq(getattr(node, NULL), -ESTALE);
    cr_assert_eq(get(fh, 0, 10), 2);
}

Test(fuse, hard_links)
{
    uint64_t node;
    struct fuse_attr a;

    cr_assert_eq(create(ROOT, "f", O_RDWR, 0600, &node, NULL), 0);
    struct fuse_link_in in = {node};

    cr_assert_eq(CALL(FUSE_LINK, ROOT, in, "g", 2), 0);
    cr_assert_eq(((struct fuse_entry_out *)body())->nodeid, node);
    cr_assert_eq(getattr(node, &a), 0);
    cr_assert_eq(a.nlink, 2);
    cr_assert_eq(rename_to(ROOT, "f", ROOT, "g", 0), 0); /* two names of one file: nothing */
    cr_assert_eq(getattr(node, NULL), 0);
    cr_assert_eq(name_call(FUSE_UNLINK, ROOT, "g"), 0);
    cr_assert_eq(getattr(node, &a), 0);
    cr_assert_eq(a.nlink, 1);
    cr_assert_eq(must(ROOT, "f"), node);
    in.oldnodeid = ROOT;
    cr_assert_eq(CALL(FUSE_LINK, ROOT, in, "h", 2), -EPERM);
    in.oldnodeid = 12345678;
    cr_assert_eq(CALL(FUSE_LINK, ROOT, in, "h", 2), -ESTALE);
}

Test(fuse, setattr)
{
    uint64_t node, fh;
    struct fuse_setattr_in set = {.valid = FATTR_MODE | FATTR_ATIME | FATTR_MTIME,
                                  .mode = 04751,
                                  .atime = 1000,
                                  .atimensec = 5,
                                  .mtime = 2000,
                                  .mtimensec = 7};
    struct stat st;

    cr_assert_eq(create(ROOT, "f", O_RDWR, 0600, &node, &fh), 0);
    cr_assert_eq(CALL(FUSE_SETATTR, node, set, NULL, 0), 0);
    stat(at("f"), &st);
    cr_assert_eq(st.st_mode, S_IFREG | 04751);
    cr_assert_eq(st.st_atim.tv_sec, 1000);
    cr_assert_eq(st.st_mtim.tv_nsec, 7);
    set = (struct fuse_setattr_in){.valid = FATTR_SIZE | FATTR_FH, .size = 100, .fh = fh};
    cr_assert_eq(CALL(FUSE_SETATTR, node, set, NULL, 0), 0);
    stat(at("f"), &st);
    cr_assert_eq(st.st_size, 100);
    set = (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = UINT64_MAX};
    cr_assert_eq(CALL(FUSE_SETATTR, node, set, NULL, 0), -EFBIG);
    set = (struct fuse_setattr_in){.valid = FATTR_SIZE | FATTR_KILL_SUIDGID, .size = 5};
    cr_assert_eq(CALL(FUSE_SETATTR, node, set, NULL, 0), 0);
    stat(at("f"), &st);
    cr_assert_eq(st.st_mode, S_IFREG | 0751);
}

Test(fuse, a_write_takes_set_user_id)
{
    uint64_t node, fh;
    struct stat st;

    cr_assert_eq(create(ROOT, "f", O_RDWR, 06755, &node, &fh), 0);
    stat(at("f"), &st);
    cr_assert_eq(st.st_mode & 07777, 06755);
    struct fuse_write_in in = {.fh = fh, .size = 1, .write_flags = FUSE_WRITE_KILL_SUIDGID};

    cr_assert_eq(CALL(FUSE_WRITE, node, in, "x", 1), 0);
    stat(at("f"), &st);
    cr_assert_eq(st.st_mode & 07777, 0755);
}

Test(fuse, owners)
{
    struct stat st;
    uint64_t node;

    as_uid = 1234, as_gid = 2345;
    cr_assert_eq(create(ROOT, "f", O_RDWR, 0600, &node, NULL), 0);
    cr_assert_eq(make_dir(ROOT, "d", NULL), 0);
    cr_assert_eq(call(FUSE_SYMLINK, ROOT, NULL, 0, "l\0target", 9), 0);
    uid_t uid = geteuid() ? geteuid() : 1234;

    stat(at("f"), &st);
    cr_assert_eq(st.st_uid, uid);
    stat(at("d"), &st);
    cr_assert_eq(st.st_uid, uid);
    lstat(at("l"), &st);
    cr_assert_eq(st.st_uid, uid);
    struct fuse_setattr_in set = {.valid = FATTR_UID, .uid = 77};

    cr_assert_eq(CALL(FUSE_SETATTR, node, set, NULL, 0), geteuid() ? -EPERM : 0);
    chmod(at("d"), 02775);
    cr_assert_eq(make_dir(must(ROOT, "d"), "e", NULL), 0);
    stat(at("d/e"), &st);
    cr_assert(st.st_mode & S_ISGID, "inherited");
}

Test(fuse, xattrs)
{
    struct {
        struct fuse_setxattr_in in;
    } s = {{.size = 5}};
    struct fuse_getxattr_in g = {.size = 100};
    uint64_t node;
    char buf[32];

    cr_assert_eq(create(ROOT, "f", O_RDWR, 0600, &node, NULL), 0);
    cr_assert_eq(call(FUSE_SETXATTR, node, &s, 8, "user.a\0value", 12), 0);
    cr_assert_eq(getxattr(at("f"), "user.a", buf, sizeof buf), 5);
    cr_assert_eq(CALL(FUSE_GETXATTR, node, g, "user.a", 7), 0);
    cr_assert_eq(memcmp(body(), "value", 5), 0);
    g.size = 3;
    cr_assert_eq(CALL(FUSE_GETXATTR, node, g, "user.a", 7), -ERANGE);
    g.size = 0;
    cr_assert_eq(CALL(FUSE_GETXATTR, node, g, "user.a", 7), 0);
    cr_assert_eq(((struct fuse_getxattr_out *)body())->size, 5);
    g.size = 100;
    cr_assert_eq(CALL(FUSE_LISTXATTR, node, g, NULL, 0), 0);
    cr_assert_eq(reply_len - 16, 7);
    cr_assert_str_eq((char *)body(), "user.a");
    cr_assert_eq(CALL(FUSE_GETXATTR, node, g, "user.b", 7), -ENODATA);
    cr_assert_eq(CALL(FUSE_GETXATTR, node, g, "security.capability", 20), -EOPNOTSUPP);
    cr_assert_eq(call(FUSE_SETXATTR, node, &s, 8, "trusted.a\0value", 15), -EOPNOTSUPP);
    s.in.size = 6; /* more than there is */
    cr_assert_eq(call(FUSE_SETXATTR, node, &s, 8, "user.a\0value", 12), -EINVAL);
    cr_assert_eq(name_call(FUSE_REMOVEXATTR, node, "user.a"), 0);
    cr_assert_eq(name_call(FUSE_REMOVEXATTR, node, "user.a"), -ENODATA);
}

Test(fuse, the_rest_of_a_file)
{
    struct fuse_fallocate_in fa = {.length = 8192};
    struct fuse_lseek_in ls = {.whence = SEEK_HOLE};
    struct fuse_fsync_in sync = {0};
    uint64_t fh, to, dir;
    struct stat st;

    cr_assert_eq(create(ROOT, "f", O_RDWR, 0600, NULL, &fh), 0);
    fa.fh = ls.fh = sync.fh = fh;
    cr_assert_eq(CALL(FUSE_FALLOCATE, 0, fa, NULL, 0), 0);
    stat(at("f"), &st);
    cr_assert_eq(st.st_size, 8192);
    fa.mode = FALLOC_FL_COLLAPSE_RANGE;
    cr_assert_eq(CALL(FUSE_FALLOCATE, 0, fa, NULL, 0), -EOPNOTSUPP);
    cr_assert_eq(put(fh, 0, "data", 4, O_RDWR), 4);
    cr_assert_eq(CALL(FUSE_LSEEK, 0, ls, NULL, 0), 0);
    cr_assert_geq(((struct fuse_lseek_out *)body())->offset, 4);
    ls.whence = SEEK_SET;
    cr_assert_eq(CALL(FUSE_LSEEK, 0, ls, NULL, 0), -EINVAL);
    cr_assert_eq(CALL(FUSE_FSYNC, 0, sync, NULL, 0), 0);
    sync.fsync_flags = FUSE_FSYNC_FDATASYNC;
    cr_assert_eq(CALL(FUSE_FSYNC, 0, sync, NULL, 0), 0);
    cr_assert_eq(CALL(FUSE_FSYNCDIR, 0, sync, NULL, 0), -EBADF);
    cr_assert_eq(open_node(FUSE_OPENDIR, ROOT, O_RDONLY, &dir), 0);
    sync.fh = dir;
    cr_assert_eq(CALL(FUSE_FSYNCDIR, 0, sync, NULL, 0), 0);
    cr_assert_eq(create(ROOT, "g", O_RDWR, 0600, NULL, &to), 0);
    struct fuse_copy_file_range_in copy = {.fh_in = fh, .fh_out = to, .len = 4, .off_out = 1};

    cr_assert_eq(CALL(FUSE_COPY_FILE_RANGE, 0, copy, NULL, 0), 0);
    cr_assert_eq(get(to, 1, 10), 4);
    cr_assert_eq(memcmp(body(), "data", 4), 0);
    cr_assert_eq(call(FUSE_STATFS, ROOT, NULL, 0, NULL, 0), 0);
    cr_assert_gt(((struct fuse_statfs_out *)body())->st.blocks, 0);
}
