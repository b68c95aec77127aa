/* Files: what opening, moving and removing does with what is there, or is not; appending; program
 * memory that is not as it should be. As on the host, which runs it too. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "guests/check/check.h"

static int fails(long result, int err)
{
    return result == -1 && errno == err;
}

/* A file of n bytes by that name; its descriptor is closed again. */
static void put(const char *name, int n)
{
    static char block[10000];
    int fd = open(name, O_CREAT | O_TRUNC | O_WRONLY, 0600);

    check(fd >= 0 && write(fd, block, (size_t)n) == n && !close(fd), "a file");
}

static long size_of(const char *name)
{
    struct stat st;

    return stat(name, &st) ? -1 : (long)st.st_size;
}

/* Opens with these flags, and says what is wrong with that. */
static int opens(const char *name, int flags)
{
    int fd = open(name, flags, 0600);

    return fd >= 0 && !close(fd);
}

static void opening(void)
{
    put("file", 100);
    check(!mkdir("dir", 0700) && !symlink("file", "link") && !symlink("later", "dangling") &&
              !symlink("dir", "dirlink") && !symlink("loop", "loop"),
          "links");
    check(opens("file", O_CREAT | O_RDWR) && size_of("file") == 100, "O_CREAT of what is there");
    check(fails(open("file", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST), "O_EXCL");
    check(opens("link", O_CREAT | O_RDWR) && size_of("link") == 100, "O_CREAT through a link");
    check(fails(open("link", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST), "O_EXCL of a link");
    check(fails(open("link", O_CREAT | O_NOFOLLOW | O_RDWR, 0600), ELOOP), "O_NOFOLLOW");
    char many[300] = "";

    check(!symlink(".", "here"), "a link to where it is");
    for (int i = 0; i < 40; i++)
        strcat(many, "here/");
    check(size_of(strcat(many, "file")) == 100, "40 links on the way");
    memmove(many + 5, many, strlen(many) + 1);
    check(fails(open(memcpy(many, "here/", 5), O_RDONLY), ELOOP) && !unlink("here"),
          "41 are too many");
    check(opens("dangling", O_CREAT | O_RDWR) && size_of("later") == 0, "where a link leads");
    check(fails(open("loop", O_CREAT | O_RDWR, 0600), ELOOP), "a link to itself");
    check(fails(open("dir", O_CREAT | O_RDWR, 0600), EISDIR) &&
              fails(open("none/", O_CREAT | O_RDWR, 0600), EISDIR),
          "O_CREAT of a directory");
    check(fails(open("file/x", O_CREAT | O_RDWR, 0600), ENOTDIR) &&
              fails(open("none/x", O_CREAT | O_RDWR, 0600), ENOENT),
          "O_CREAT below what is none");
    check(opens("file", O_TRUNC | O_WRONLY) && size_of("file") == 0, "O_TRUNC");
    put("file", 5000);
    check(opens("file", O_TRUNC | O_CREAT | O_RDWR) && size_of("file") == 0, "with O_CREAT");
    put("file", 5000);
    check(opens("file", O_TRUNC | O_CREAT | O_RDONLY) && size_of("file") == 0, "read-only");
    int fd = open("file", O_RDWR);
    char *p = ftruncate(fd, 5000) ? MAP_FAILED
                                  : mmap(NULL, 5000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    check(p != MAP_FAILED && (p[4999] = 'x'), "mapped");
    check(opens("file", O_TRUNC | O_CREAT | O_RDWR) && !ftruncate(fd, 5000) && !p[4999],
          "what is cut off shows in the mapping");
    munmap(p, 5000);
    close(fd);
}

static long rename_new(const char *a, const char *b)
{
    return syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 1 /* RENAME_NOREPLACE */);
}

static void moving(void)
{
    put("other", 7);
    check(fails(rename_new("other", "file"), EEXIST) && size_of("other") == 7, "NOREPLACE");
    check(!rename_new("other", "new") && !rename("new", "other"), "where nothing is");
    check(fails(rename("other", "dir"), EISDIR) && fails(rename("dir", "other"), ENOTDIR) &&
              fails(rename("none", "other"), ENOENT) && fails(rename("none", "none"), ENOENT),
          "rename of other kinds");
    check(!rename("dir/", "moved/") && !rename("moved", "dir") &&
              fails(rename("dir", "dir/x"), EINVAL),
          "rename of directories");
    check(!rename("link", "link2") && size_of("link2") == 5000 && !rename("link2", "link"),
          "rename of a link");
    check(fails(link("other", "file"), EEXIST) && fails(symlink("x", "dangling"), EEXIST) &&
              fails(mkdir("dir", 0700), EEXIST) && fails(mkdir("dangling", 0700), EEXIST) &&
              fails(mkdir("none/x", 0700), ENOENT) && fails(mknod("file", S_IFREG, 0), EEXIST),
          "names that are taken");
    check(!link("other", "second") && !rename("other", "second") && size_of("other") == 7 &&
              !unlink("second"),
          "rename to another name of the same file");
}

static void removing(void)
{
    check(fails(unlink("dir"), EISDIR) && fails(rmdir("file"), ENOTDIR) &&
              fails(unlink("none"), ENOENT) && fails(rmdir("none"), ENOENT) &&
              fails(unlink("file/"), ENOTDIR) && fails(rmdir("dir/."), EINVAL),
          "what cannot be removed");
    check(!mkdir("dir/in/", 0700) && fails(rmdir("dir"), ENOTEMPTY) && !rmdir("dir/in/"),
          "a full one");
    check(!unlink("dangling") && size_of("later") == 0 && !unlink("later") && !unlink("loop") &&
              !unlink("dirlink") && !unlink("link") && size_of("file") == 5000,
          "links go, not what they lead to");
    int fd = open("other", O_RDWR);
    struct stat st;
    char c;

    check(!unlink("other") && !fstat(fd, &st) && st.st_size == 7 && st.st_nlink == 0 &&
              pread(fd, &c, 1, 6) == 1 && !close(fd),
          "open, and gone");
    check(!unlink("file") && !rmdir("dir"), "all gone");
}

static void appending(void)
{
    int a = open("log", O_CREAT | O_RDWR | O_APPEND, 0600), b = open("log", O_WRONLY | O_APPEND);
    char buf[32] = "";

    check(write(a, "one,", 4) == 4 && lseek(a, 0, SEEK_CUR) == 4, "appended, and where that ends");
    check(write(b, "two,", 4) == 4 && write(a, "three,", 6) == 6 && lseek(a, 0, SEEK_CUR) == 14,
          "by two in turn");
    check(read(a, buf, 1) == 0 && lseek(a, 4, SEEK_SET) == 4 && read(a, buf, 4) == 4 &&
              !memcmp(buf, "two,", 4),
          "read");
    check(pwrite(a, "four,", 5, 0) == 5 && size_of("log") == 19, "pwrite appends");
    check(write(a, "!", 1) == 1 && !fcntl(a, F_SETFL, 0) && write(a, "five", 4) == 4 &&
              size_of("log") == 24,
          "O_APPEND taken away, on from the end");
    check(pwrite(a, "ONE", 3, 0) == 3 && pread(a, buf, 24, 0) == 24 &&
              !memcmp(buf, "ONE,two,three,four,!five", 24),
          "all of it in order");
    close(a);
    close(b);
    check(!unlink("log"), "gone");
}

#define LARGE (3 * 1024 * 1024 + 333)

/* Across pages, at odd addresses and places; memory that ends, or may not be used so. */
static void memory(void)
{
    char *p = mmap(NULL, LARGE + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *q = mmap(NULL, LARGE + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = open("large", O_CREAT | O_RDWR, 0600);

    for (int i = 0; i < LARGE; i++)
        p[i + 7] = (char)(i * 11 + i / 4096);
    check(pwrite(fd, p + 7, LARGE, 4095) == LARGE && size_of("large") == LARGE + 4095, "written");
    check(pread(fd, q + 1, LARGE + 4096, 4095) == LARGE && !memcmp(q + 1, p + 7, LARGE) && !q[0] &&
              !q[LARGE + 1],
          "and read back");
    check(!mprotect(q + 8192, 4096, PROT_READ) && !mprotect(q + 12288, 4096, PROT_NONE), "pages");
    check(pread(fd, q + 100, 8192 - 100, 4095) == 8192 - 100, "up to a page that is read-only");
    check(fails(pread(fd, q + 8192, 10, 4095), EFAULT) &&
              fails(pread(fd, q + 8200, 9000, 0), EFAULT),
          "into it");
    check(pwrite(fd, q + 8192, 4096, 0) == 4096 && fails(pwrite(fd, q + 12288, 1, 0), EFAULT),
          "from it, and from none");
    long n = pread(fd, q, 12288, 4095);

    check(n == -1 ? errno == EFAULT : n > 0 && n <= 8192 && !memcmp(q + 1, p + 8, (size_t)n - 1),
          "partly into it");
    n = pwrite(fd, q + 8192, 8192, 100);
    check(n == -1 ? errno == EFAULT : n > 0 && n <= 4096, "partly from none");
    char *m = mmap(NULL, LARGE, PROT_READ, MAP_PRIVATE, fd, 0), *s = NULL;
    int wrong = 0;

    for (int i = 8192; i < LARGE; i += 1999)
        wrong += m[i] != p[7 + i - 4095];
    check(!wrong, "mapped");
    s = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 40960);
    check(pread(fd, s, 8192, 8192) == 8192 && pread(fd, q, 8192, 40960) == 8192 &&
              !memcmp(q, p + 7 + 4097, 8192),
          "read into its own mapping");
    check(pwrite(fd, s, 8192, 8192 + 5) == 8192 && pread(fd, q, 8192, 8197) == 8192 &&
              !memcmp(q, p + 7 + 4097, 8192),
          "and written from it");
    close(fd);
    munmap(m, LARGE);
    munmap(s, 8192);
    munmap(p, LARGE + 8192);
    munmap(q, LARGE + 8192);
    put("large", 5000); /* in pages that held something else */
    fd = open("large", O_RDONLY);
    m = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
    wrong = 0;
    for (int i = 0; i < 8192; i++)
        wrong += m[i] != 0;
    check(!wrong, "behind the end there is nothing");
    munmap(m, 8192);
    check(!close(fd) && !unlink("large"), "gone");
}

void check_names(void)
{
    opening();
    moving();
    removing();
    appending();
    memory();
}
