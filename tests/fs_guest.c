/* Runs in the guest (tests/virtio_fs.sh), in the current directory, which is the share: what the
 * shell's tools cannot ask for. One line, "T: calls ok" or what went wrong. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NOREPLACE 1
#define EXCHANGE  2

#define OK(x)                                                                               \
    do {                                                                                    \
        if (!(x)) {                                                                         \
            printf("T: calls failed at line %d: %s (%s)\n", __LINE__, #x, strerror(errno)); \
            exit(1);                                                                        \
        }                                                                                   \
    } while (0)
#define FAILS(x, e) OK((x) < 0 && errno == (e))

static int put(const char *name, const char *text)
{
    int fd = open(name, O_CREAT | O_TRUNC | O_RDWR, 0644);

    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? fd : -1;
}

static int holds(const char *name, const char *text)
{
    char buf[256] = "";
    int fd = open(name, O_RDONLY);
    ssize_t n = read(fd, buf, sizeof buf - 1);

    close(fd);
    return n == (ssize_t)strlen(text) && !strcmp(buf, text);
}

static long rename2(const char *a, const char *b, unsigned flags)
{
    return syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, flags);
}

static void names(void)
{
    struct stat a, b;

    OK(close(put("a", "A")) == 0 && close(put("b", "B")) == 0);
    FAILS(rename2("a", "b", NOREPLACE), EEXIST);
    OK(rename2("a", "c", NOREPLACE) == 0 && holds("c", "A"));
    OK(rename2("c", "b", EXCHANGE) == 0 && holds("c", "B") && holds("b", "A"));
    OK(link("b", "hard") == 0 && !stat("b", &a) && !stat("hard", &b));
    OK(a.st_ino == b.st_ino && b.st_nlink == 2);
    OK(unlink("b") == 0 && holds("hard", "A"));
    OK(mkfifo("fifo", 0600) == 0 && !stat("fifo", &a) && S_ISFIFO(a.st_mode));
    FAILS(mknod("dev", S_IFCHR | 0600, 0x103), EPERM);
    OK(mkdir("dir", 0700) == 0);
    FAILS(rename("dir", "dir/x"), EINVAL);
    OK(mkdir("dir/full", 0700) == 0);
    FAILS(rmdir("dir"), ENOTEMPTY);
    int dir = open("dir", O_RDONLY | O_DIRECTORY);

    OK(dir >= 0 && fsync(dir) == 0 && rmdir("dir/full") == 0 && rmdir("dir") == 0);
    OK(close(dir) == 0);
    OK(!unlink("c") && !unlink("hard") && !unlink("fifo"));
}

static void attributes(void)
{
    struct timespec t[2] = {{1000000000, 123456789}, {1100000000, 987654321}};
    char buf[64];
    struct stat st;
    struct statvfs vfs;
    int fd = put("f", "0123456789");

    OK(fd >= 0 && ftruncate(fd, 4) == 0 && !fstat(fd, &st) && st.st_size == 4);
    OK(truncate("f", 100) == 0 && !stat("f", &st) && st.st_size == 100);
    OK(chmod("f", 04755) == 0 && !stat("f", &st) && (st.st_mode & 07777) == 04755);
    OK(utimensat(AT_FDCWD, "f", t, 0) == 0 && !stat("f", &st));
    OK(st.st_atim.tv_nsec == 123456789 && st.st_mtim.tv_sec == 1100000000);
    OK(setxattr("f", "user.one", "value", 5, 0) == 0);
    FAILS(setxattr("f", "user.one", "x", 1, XATTR_CREATE), EEXIST);
    OK(getxattr("f", "user.one", buf, sizeof buf) == 5 && !memcmp(buf, "value", 5));
    OK(listxattr("f", buf, sizeof buf) == 9 && !strcmp(buf, "user.one"));
    OK(removexattr("f", "user.one") == 0);
    FAILS(getxattr("f", "user.one", buf, sizeof buf), ENODATA);
    OK(access("f", R_OK | W_OK) == 0 && statvfs(".", &vfs) == 0 && vfs.f_blocks);
    OK(close(fd) == 0 && unlink("f") == 0);
}

static void data(void)
{
    char buf[8192];
    int fd = put("f", "begin"), to;

    OK(fd >= 0 && fallocate(fd, 0, 0, 1 << 20) == 0);
    OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 65536) == 0);
    OK(pwrite(fd, "end", 3, 1 << 20) == 3 && fsync(fd) == 0 && fdatasync(fd) == 0);
    OK(lseek(fd, 0, SEEK_END) == (1 << 20) + 3 && lseek(fd, 0, SEEK_DATA) == 0);
    OK(lseek(fd, 0, SEEK_HOLE) > 0);
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    OK(p != MAP_FAILED && !memcmp(p, "begin", 5));
    memcpy(p + 5000, "mapped", 6);
    OK(msync(p, 8192, MS_SYNC) == 0 && munmap(p, 8192) == 0);
    OK(pread(fd, buf, 6, 5000) == 6 && !memcmp(buf, "mapped", 6));
    to = open("g", O_CREAT | O_RDWR, 0600);
    OK(to >= 0 && copy_file_range(fd, &(off_t){5000}, to, NULL, 6, 0) == 6 && holds("g", "mapped"));
    OK(close(to) == 0);
    to = open("g", O_WRONLY | O_APPEND);
    OK(write(to, "1", 1) == 1 && pwrite(to, "2", 1, 0) == 1 && close(to) == 0);
    OK(holds("g", "mapped12"));
    to = open("g", O_RDONLY | O_DIRECT);
    OK(to >= 0 && pread(to, (void *)(((unsigned long)buf + 511) & ~511ul), 512, 0) == 8);
    OK(close(to) == 0);
    to = open("g", O_WRONLY | O_TRUNC);
    OK(close(to) == 0 && holds("g", ""));
    /* Open, and gone. */
    OK(unlink("f") == 0 && pread(fd, buf, 5, 0) == 5 && !memcmp(buf, "begin", 5));
    struct stat st;

    OK(fstat(fd, &st) == 0 && st.st_nlink == 0 && ftruncate(fd, 2) == 0 && fchmod(fd, 0600) == 0);
    OK(flock(fd, LOCK_EX) == 0 && close(fd) == 0 && unlink("g") == 0);
    struct flock lock = {.l_type = F_WRLCK};

    fd = put("f", "x");
    OK(fcntl(fd, F_SETLK, &lock) == 0 && close(fd) == 0 && unlink("f") == 0);
    FAILS(open("none", O_RDONLY), ENOENT);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && !strcmp(argv[1], "swap")) { /* for the read-only share */
        OK(argc == 4);
        long err = rename2(argv[2], argv[3], EXCHANGE) ? errno : 0;

        printf("T: swap %s\n", strerror((int)err));
        return 0;
    }
    names();
    attributes();
    data();
    puts("T: calls ok");
    return 0;
}
