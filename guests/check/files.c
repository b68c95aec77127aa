/* Files: calls that copy inside the kernel, descriptors, what is refused; MAP_SHARED. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utime.h>
#include "guests/check/check.h"

#define SIZE 200000

static char *pattern(void)
{
    static char block[SIZE];

    for (int i = 0; i < SIZE; i++)
        block[i] = (char)(i * 7 + i / 251);
    return block;
}

static int holds(int fd, off_t at, const char *want, size_t n)
{
    static char got[SIZE];

    return pread(fd, got, n, at) == (ssize_t)n && !memcmp(got, want, n);
}

static void copies(void)
{
    int a = open("a", O_RDWR | O_CREAT | O_TRUNC, 0600), b = open("b", O_RDWR | O_CREAT, 0600);
    char *want = pattern();
    off_t off = 1000;
    loff_t in = 0, out = 500;
    int fd[2];

    check(write(a, want, SIZE) == SIZE && holds(a, 0, want, SIZE), "200000 bytes");
    check(sendfile(b, a, &off, SIZE) == SIZE - 1000 && off == SIZE &&
              holds(b, 0, want + 1000, SIZE - 1000),
          "sendfile to a file");
    if (!pipe(fd)) {
        off = 0;
        check(sendfile(fd[1], a, &off, 3000) == 3000 && off == 3000, "to a pipe");
        char got[3000];

        check(read(fd[0], got, 3000) == 3000 && !memcmp(got, want, 3000), "from it");
        check(sendfile(a, fd[0], NULL, 10) == -1 && errno == EINVAL, "from a pipe: EINVAL");
        close(fd[0]);
        close(fd[1]);
    }
    check(copy_file_range(a, &in, b, &out, 70000, 0) == 70000 && in == 70000 && out == 70500 &&
              holds(b, 500, want, 70000),
          "copy_file_range");
    struct iovec v[3] = {{want, 10}, {want + 50, 0}, {want + 100, 90}};

    check(pwritev(b, v, 3, 7) == 100 && holds(b, 7, want, 10) && holds(b, 17, want + 100, 90),
          "pwritev");
    check(!ftruncate(b, 300000) && lseek(b, 0, SEEK_END) == 300000 &&
              !posix_fallocate(b, 0, 310000),
          "ftruncate, posix_fallocate");
    struct stat st;

    check(!fstat(b, &st) && st.st_size == 310000 && S_ISREG(st.st_mode), "fstat");
    check(!fsync(a) && !fdatasync(b), "fsync");
    close(a);
    close(b);
}

static void attributes(void)
{
    struct timeval tv[2] = {{1000000, 500000}, {2000000, 250000}};
    struct utimbuf ut = {3000000, 4000000};
    struct stat st;

    check(!chmod("a", 0640) && !stat("a", &st) && (st.st_mode & 0777) == 0640, "chmod");
    check(!chown("a", 12, 34) && !stat("a", &st) && st.st_uid == 12 && st.st_gid == 34, "chown");
    check(!chown("a", 0, 0), "and back");
    check(!utimes("a", tv) && !stat("a", &st) && st.st_atim.tv_sec == 1000000 &&
              st.st_mtim.tv_sec == 2000000 && st.st_mtim.tv_nsec == 250000000,
          "utimes");
    check(!utime("a", &ut) && !stat("a", &st) && st.st_mtim.tv_sec == 4000000, "utime");
    check(!renameat(AT_FDCWD, "a", AT_FDCWD, "c") && stat("a", &st) == -1 && !stat("c", &st),
          "renameat");
    check(!link("c", "d") && !stat("d", &st) && st.st_nlink == 2 && !unlink("c"), "link");
    check(!symlink("d", "s") && readlink("s", (char *)&st, 10) == 1 && !lstat("s", &st) &&
              S_ISLNK(st.st_mode) && !unlink("s"),
          "symlink");
    check(!mkdir("dir", 0700) && !rename("d", "dir/e") && rmdir("dir") == -1 && errno == ENOTEMPTY,
          "mkdir, rename into it");
    DIR *d = opendir("dir");
    int n = 0;

    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    check(n == 3, "readdir");
    check(!unlink("dir/e") && !rmdir("dir") && !unlink("b"), "all removed");
}

static void shared(void)
{
    int fd = open("m", O_RDWR | O_CREAT | O_TRUNC, 0600), ro = open("m", O_RDONLY);
    char *want = pattern();

    check(write(fd, want, 20000) == 20000, "a file to be mapped");
    char *p = mmap(NULL, 24576, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *q = mmap(NULL, 8192, PROT_READ, MAP_SHARED, ro, 4096);
    char *own = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

    check(p != MAP_FAILED && q != MAP_FAILED && own != MAP_FAILED, "MAP_SHARED and MAP_PRIVATE");
    if (p == MAP_FAILED || q == MAP_FAILED || own == MAP_FAILED)
        return;
    check(!memcmp(p, want, 20000) && !memcmp(q, want + 4096, 8192), "show what is in it");
    check(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0) == MAP_FAILED &&
              errno == EACCES,
          "no writing through what is open for reading");
    memcpy(p + 5000, "here", 4);
    check(!memcmp(q + 904, "here", 4), "one mapping shows what another wrote");
    check(holds(fd, 5000, "here", 4), "so does a read");
    check(pwrite(fd, "there", 5, 6000) == 5 && !memcmp(p + 6000, "there", 5),
          "a write shows in a mapping");
    own[0] = (char)(want[0] + 1);
    check(p[0] == want[0] && holds(fd, 0, want, 1), "a private one keeps it to itself");
    check(!msync(p, 24576, MS_SYNC), "msync");
    p[100] = 'z';
    check(!munmap(p, 24576) && holds(ro, 100, "z", 1), "munmap writes back");
    struct stat st;

    check(!fstat(fd, &st) && st.st_size == 20000, "and the size is as it was");
    check(!munmap(q, 8192) && !munmap(own, 8192) && !close(fd) && !close(ro) && !unlink("m"),
          "all gone");
}

#define MANY 3000

static int present(const char *format, int n)
{
    char name[32];
    struct stat st;

    snprintf(name, sizeof name, format, n);
    return !stat(name, &st);
}

/* Enough entries for an index that grows, listed in many pieces; they go while they are listed. */
static void listing(void)
{
    int wrong = 0, n = 0, again = 0;
    struct dirent *e;
    char name[32];
    long middle = 0;

    int ready = !mkdir("many", 0700) && !chdir("many");

    check(ready, "a directory for many files");
    if (!ready)
        return; /* all that is here is removed below */
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "entry%d", i);
        int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);

        wrong += fd < 0 || close(fd);
    }
    for (int i = 0; i < MANY; i += 7) {
        snprintf(name, sizeof name, "entry%d", i);
        wrong += unlink(name) != 0;
    }
    for (int i = 0; i < MANY; i++)
        wrong += present("entry%d", i) != (i % 7 != 0);
    check(!wrong && !present("entry%d", MANY), "3000 made, every seventh removed, the rest found");
    DIR *d = opendir(".");

    while (d && (e = readdir(d)))
        if (++n == 1000)
            middle = telldir(d);
    check(n == MANY - (MANY + 6) / 7 + 2, "all are listed");
    for (seekdir(d, middle); readdir(d); again++)
        ;
    check(again == n - 1000, "and again from the middle");
    rewinddir(d);
    while ((e = readdir(d)))
        if (e->d_name[0] != '.')
            wrong += unlink(e->d_name) != 0;
    closedir(d);
    check(!wrong && !chdir("..") && !rmdir("many"), "removed one by one as they are listed");
}

/* As tmpfs: a file that has another name now is not listed once more, for ever. */
static void renaming(void)
{
    int n = 0, fd;
    char name[300], here[100];
    struct dirent *e;

    int ready = !mkdir("r", 0700) && !mkdir("r/in", 0700) && !chdir("r/in");

    check(ready, "a directory to be renamed");
    if (!ready)
        return; /* not in somebody else's */
    fd = open("a", O_CREAT | O_WRONLY, 0600);
    close(fd);
    fd = open("b", O_CREAT | O_WRONLY, 0600);
    close(fd);
    DIR *d = opendir(".");

    while (d && (e = readdir(d)) && n < 100)
        if (e->d_name[0] != '.') {
            snprintf(name, sizeof name, "%sx", e->d_name);
            n += !rename(e->d_name, name);
        }
    if (d)
        closedir(d);
    check(n == 2 && present("ax", 0) && present("bx", 0), "files renamed as they are listed");
    check(!rename("../../r", "../../s") && getcwd(here, sizeof here) && strlen(here) > 5 &&
              !strcmp(here + strlen(here) - 5, "/s/in"),
          "getcwd below a directory that was renamed");
    check(!unlink("ax") && !unlink("bx") && !chdir("../..") && !rmdir("s/in") && !rmdir("s"),
          "and away with it");
}

static void in_directory(const char *dir)
{
    char here[200];

    snprintf(here, sizeof here, "%s/check.XXXXXX", dir);
    int ready = mkdtemp(here) && !chdir(here);

    check(ready, "a directory of our own");
    if (!ready)
        return;
    copies();
    attributes();
    listing();
    renaming();
    check_names();
    shared();
    check(!chdir("/") && !rmdir(here), "and away");
}

void check_files(void)
{
    char buf[64];
    int fd = (int)memfd_create("m", MFD_CLOEXEC);

    in_directory("/tmp");
    check(fd >= 0 && write(fd, "abc", 3) == 3 && pread(fd, buf, 3, 0) == 3, "memfd_create");
    close(fd);
    check(open("/tmp/no/such", O_RDONLY) == -1 && errno == ENOENT, "ENOENT");
    check(open("/etc/passwd/x", O_RDONLY) == -1 && errno == ENOTDIR, "ENOTDIR");
    fd = open("/dev/zero", O_RDWR);
    char *z = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

    check(z != MAP_FAILED && !z[77] && read(fd, buf, 64) == 64 && !buf[63], "/dev/zero");
    close(fd);
    fd = open("/dev/full", O_WRONLY);
    check(write(fd, buf, 1) == -1 && errno == ENOSPC, "/dev/full");
    close(fd);
    fd = open("/dev/urandom", O_RDONLY);
    char other[64];

    check(read(fd, buf, 64) == 64 && read(fd, other, 64) == 64 && memcmp(buf, other, 64),
          "/dev/urandom");
    close(fd);
}

/* More files, one after another, than the host holds open for a guest. */
void check_churn(void)
{
    const char *dir = getenv("DIR");
    int wrong = 0;

    check(dir && !chdir(dir), "DIR says where");
    for (int i = 0; i < 17000 && !wrong; i++) {
        int fd = open("churn", O_CREAT | O_EXCL | O_WRONLY, 0600);

        wrong = fd < 0 || close(fd) || unlink("churn");
    }
    check(!wrong, "17000 files made and removed");

    enum { FILES = 12000 };
    struct sysinfo before, after;
    char name[32];

    sysinfo(&before);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "n%d", i);
        int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);

        wrong += fd < 0 || close(fd);
    }
    for (int i = 0; i < FILES; i++)
        wrong += !present("n%d", i);
    sysinfo(&after);
    check(!wrong, "12000 files seen");
    check(before.freeram - after.freeram < 5 << 19, "and not all of them remembered");
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "n%d", i);
        wrong += unlink(name) != 0;
    }
    check(!wrong, "and removed");
}

/* In $DIR, which is the host's. A file "kept" stays mapped and written to when the program ends. */
void check_share(void)
{
    const char *dir = getenv("DIR");
    char name[200];

    if (!dir) {
        check(0, "DIR says where");
        return;
    }
    in_directory(dir);
    snprintf(name, sizeof name, "%s/kept", dir);
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    char *p = ftruncate(fd, 10000) ? MAP_FAILED
                                   : mmap(NULL, 10000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    check(p != MAP_FAILED, "a mapping that stays");
    if (p != MAP_FAILED)
        memcpy(p + 9000, "to the end", 10);
}
