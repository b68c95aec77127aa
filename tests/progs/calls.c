#define _GNU_SOURCE
/* Calls that are asked for more rarely: named pipes, files without a name, attributes, limits,
 * splice, openat2 and the like. Each must come out as on the host. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

static void check(int good, const char *name)
{
    printf("%s %s\n", good ? "PASS" : "FAIL", name);
}

static void *other_end(void *how)
{
    char buf[8] = "";
    int fd = open("fifo", *(const char *)how == 'w' ? O_WRONLY : O_RDONLY);

    if (*(const char *)how == 'w')
        return (void *)(intptr_t)(write(fd, "named", 5) == 5 && !close(fd));
    return (void *)(intptr_t)(read(fd, buf, 8) == 3 && !strcmp(buf, "two") && !close(fd));
}

static void fifos(void)
{
    char buf[16] = "";
    struct stat st;
    pthread_t t;
    void *good;

    check(!mkfifo("fifo", 0640) && !stat("fifo", &st) && st.st_mode == (S_IFIFO | 0640), "mkfifo");
    check(mkfifo("fifo", 0640) == -1 && errno == EEXIST, "mkfifo: EEXIST");
    check(open("fifo", O_WRONLY | O_NONBLOCK) == -1 && errno == ENXIO, "ENXIO without a reader");
    pthread_create(&t, NULL, other_end, "w");
    int fd = open("fifo", O_RDONLY);

    check(fd >= 0 && read(fd, buf, 16) == 5 && !strcmp(buf, "named"), "a reader meets a writer");
    pthread_join(t, &good);
    check(good && read(fd, buf, 16) == 0, "its end");
    close(fd);
    pthread_create(&t, NULL, other_end, "r");
    fd = open("fifo", O_WRONLY);
    check(fd >= 0 && write(fd, "two", 3) == 3, "a writer meets a reader");
    pthread_join(t, &good);
    signal(SIGPIPE, SIG_IGN);
    check(good && write(fd, "x", 1) == -1 && errno == EPIPE, "EPIPE");
    close(fd);
    fd = open("fifo", O_RDWR | O_NONBLOCK);
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};

    check(poll(&p, 1, 0) == 1 && p.revents == POLLOUT && read(fd, buf, 1) == -1 && errno == EAGAIN,
          "O_RDWR, empty");
    check(write(fd, "q", 1) == 1 && poll(&p, 1, 0) == 1 && p.revents == (POLLIN | POLLOUT) &&
              read(fd, buf, 9) == 1,
          "O_RDWR, a byte");
    close(fd);
    check(!unlink("fifo"), "unlink");
}

static void unnamed(void)
{
    char name[64], buf[8] = "";
    struct stat st;
    int fd = open(".", O_TMPFILE | O_RDWR, 0600);

    check(fd >= 0 && write(fd, "abc", 3) == 3 && !fstat(fd, &st) && st.st_nlink == 0 &&
              st.st_size == 3,
          "O_TMPFILE");
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    check(!linkat(AT_FDCWD, name, AT_FDCWD, "given", AT_SYMLINK_FOLLOW) && !fstat(fd, &st) &&
              st.st_nlink == 1,
          "linkat gives it a name");
    close(fd);
    fd = open("given", O_RDONLY);
    check(read(fd, buf, 8) == 3 && !strcmp(buf, "abc"), "by which it is read");
    close(fd);
    unlink("given");
    check(open(".", O_TMPFILE | O_RDONLY, 0600) == -1 && errno == EINVAL, "O_TMPFILE, read only");
    fd = memfd_create("m", MFD_CLOEXEC);
    check(fd >= 0 && !ftruncate(fd, 8192) && !fstat(fd, &st) && st.st_size == 8192, "memfd_create");
    close(fd);
}

static void attributes(void)
{
    char buf[64];
    int fd = open("file", O_CREAT | O_RDWR, 0644);

    /* Where there are none (tmpfs before 6.6, the runtime) and where there are: no list. */
    check(listxattr("file", buf, sizeof buf) == 0 && flistxattr(fd, buf, sizeof buf) == 0,
          "listxattr");
    check(getxattr("file", "user.none", buf, sizeof buf) == -1 &&
              (errno == ENODATA || errno == ENOTSUP),
          "getxattr");
    check(lremovexattr("file", "user.none") == -1 && (errno == ENODATA || errno == ENOTSUP),
          "lremovexattr");
    check(listxattr("missing", buf, 8) == -1 && errno == ENOENT &&
              getxattr("missing", "user.a", buf, 8) == -1 && errno == ENOENT,
          "of what is not there");
    check(fgetxattr(-1, "user.a", buf, 8) == -1 && errno == EBADF, "fgetxattr: EBADF");
    close(fd);
    unlink("file");
}

static volatile sig_atomic_t too_big;

static void note(int sig)
{
    too_big = sig;
}

static void limits(void)
{
    struct rlimit was, l;
    char buf[200] = "";

    getrlimit(RLIMIT_NOFILE, &was);
    l = (struct rlimit){10, was.rlim_max};
    check(!setrlimit(RLIMIT_NOFILE, &l) && !getrlimit(RLIMIT_NOFILE, &l) && l.rlim_cur == 10,
          "setrlimit");
    int fd[20], n = 0;

    while (n < 20 && (fd[n] = dup(1)) >= 0)
        n++;
    check(n < 10 && errno == EMFILE, "RLIMIT_NOFILE: dup");
    check(dup2(1, 12) == -1 && errno == EBADF, "RLIMIT_NOFILE: dup2");
    check(fcntl(1, F_DUPFD, 10) == -1 && errno == EINVAL, "RLIMIT_NOFILE: F_DUPFD");
    while (n--)
        close(fd[n]);
    check(!setrlimit(RLIMIT_NOFILE, &was), "RLIMIT_NOFILE as before");
    l = (struct rlimit){20, 10};
    check(setrlimit(RLIMIT_NOFILE, &l) == -1 && errno == EINVAL, "more than the most");

    getrlimit(RLIMIT_FSIZE, &was);
    l = (struct rlimit){100, was.rlim_max};
    signal(SIGXFSZ, note);
    int f = open("limited", O_CREAT | O_RDWR, 0644);

    /* stdout may be a file too: told when the limit is gone. */
    bool part = !setrlimit(RLIMIT_FSIZE, &l) && write(f, buf, 200) == 100;
    bool over = write(f, buf, 1) == -1 && errno == EFBIG && too_big == SIGXFSZ;

    too_big = 0;
    bool size = ftruncate(f, 101) == -1 && errno == EFBIG && too_big == SIGXFSZ;

    check(!setrlimit(RLIMIT_FSIZE, &was) && write(f, buf, 100) == 100, "RLIMIT_FSIZE as before");
    check(part, "RLIMIT_FSIZE: a part");
    check(over, "RLIMIT_FSIZE: SIGXFSZ");
    check(size, "RLIMIT_FSIZE: ftruncate");
    close(f);
    unlink("limited");

    getrlimit(RLIMIT_AS, &was);
    l = (struct rlimit){64 << 20, was.rlim_max};
    setrlimit(RLIMIT_AS, &l);
    void *p = mmap(NULL, 80 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    check(p == MAP_FAILED && errno == ENOMEM, "RLIMIT_AS: mmap");
    setrlimit(RLIMIT_AS, &was);
    p = mmap(NULL, 80 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(p != MAP_FAILED, "RLIMIT_AS as before");
    munmap(p, 80 << 20);
}

static void moves(void)
{
    char buf[32] = "";
    int a[2], b[2], f = open("moved", O_CREAT | O_RDWR, 0644);
    loff_t at = 2;

    check(!pipe(a) && !pipe(b) && write(f, "0123456789", 10) == 10, "pipes");
    check(splice(f, &at, a[1], NULL, 5, 0) == 5 && at == 7, "splice: file to pipe");
    check(tee(a[0], b[1], 3, 0) == 3 && read(b[0], buf, 8) == 3 && !memcmp(buf, "234", 3), "tee");
    check(splice(a[0], NULL, b[1], NULL, 2, 0) == 2 && read(b[0], buf, 8) == 2 &&
              !memcmp(buf, "23", 2),
          "splice: pipe to pipe");
    at = 20;
    check(splice(a[0], NULL, f, &at, 100, 0) == 3 && at == 23 && pread(f, buf, 8, 20) == 3 &&
              !memcmp(buf, "456", 3),
          "splice: pipe to file");
    check(splice(a[0], NULL, f, NULL, 1, SPLICE_F_NONBLOCK) == -1 && errno == EAGAIN,
          "splice: EAGAIN");
    check(splice(f, NULL, f, NULL, 1, 0) == -1 && errno == EINVAL, "splice: no pipe");
    at = 0;
    check(splice(a[0], &at, f, NULL, 1, 0) == -1 && errno == ESPIPE, "splice: ESPIPE");
    struct iovec v[2] = {{"ab", 2}, {"c", 1}};

    check(vmsplice(a[1], v, 2, 0) == 3 && read(a[0], buf, 8) == 3 && !memcmp(buf, "abc", 3),
          "vmsplice");
    off_t from = 1;

    check(sendfile(a[1], f, &from, 4) == 4 && read(a[0], buf, 8) == 4 && !memcmp(buf, "1234", 4),
          "sendfile");
    loff_t in = 0, out = 30;

    check(copy_file_range(f, &in, f, &out, 3, 0) == 3 && pread(f, buf, 8, 30) == 3 &&
              !memcmp(buf, "012", 3),
          "copy_file_range");
    struct iovec w = {buf, 4};

    check(syscall(SYS_preadv2, f, &w, 1, 3, 0, 0) == 4 && !memcmp(buf, "3456", 4), "preadv2");
    check(fcntl(a[0], F_GETPIPE_SZ) == 65536 && fcntl(a[1], F_SETPIPE_SZ, 10000) == 16384 &&
              fcntl(a[0], F_GETPIPE_SZ) == 16384,
          "F_SETPIPE_SZ");
    static char much[20000];

    fcntl(a[1], F_SETFL, O_NONBLOCK);
    check(write(a[1], much, sizeof much) == 16384 && read(a[0], much, sizeof much) == 16384,
          "a pipe of that size");
    close(a[1]);
    check(splice(a[0], NULL, f, NULL, 1, 0) == 0, "splice: the end");
    close(f);
    unlink("moved");
}

static int openat2_(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = {.flags = flags, .resolve = resolve};

    return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static void names(void)
{
    struct stat st, in;
    int dir, fd;

    mkdir("top", 0755);
    mkdir("top/in", 0755);
    close(open("top/in/file", O_CREAT | O_WRONLY, 0644));
    close(open("outside", O_CREAT | O_WRONLY, 0644));
    check(!symlink("in/file", "top/good") && !symlink("../outside", "top/bad") &&
              !symlink("/in/file", "top/absolute"),
          "symlinks");
    dir = open("top", O_PATH | O_DIRECTORY);
    fd = openat2_(dir, "in/../good", O_RDONLY, RESOLVE_BENEATH);
    check(fd >= 0, "openat2: beneath");
    close(fd);
    check(openat2_(dir, "bad", O_RDONLY, RESOLVE_BENEATH) == -1 && errno == EXDEV, "a link above");
    check(openat2_(dir, "../outside", O_RDONLY, RESOLVE_BENEATH) == -1 && errno == EXDEV, "..");
    check(openat2_(dir, "absolute", O_RDONLY, RESOLVE_BENEATH) == -1 && errno == EXDEV,
          "an absolute link");
    fd = openat2_(dir, "absolute", O_RDONLY, RESOLVE_IN_ROOT);
    check(fd >= 0 && !fstat(fd, &st) && !stat("top/in/file", &in) && st.st_ino == in.st_ino,
          "openat2: in a root");
    close(fd);
    check(openat2_(dir, "bad", O_RDONLY, RESOLVE_IN_ROOT) == -1 && errno == ENOENT,
          "a link above the root");
    check(openat2_(dir, "good", O_RDONLY, RESOLVE_NO_SYMLINKS) == -1 && errno == ELOOP,
          "openat2: no links");
    check(openat2_(dir, "good", O_RDONLY, 1 << 20) == -1 && errno == EINVAL, "openat2: EINVAL");
    check(openat2_(dir, "good", 1ull << 40, 0) == -1 && errno == EINVAL, "openat2: flags");
    fd = openat2_(dir, "good", O_RDONLY | O_CLOEXEC, 0);
    check(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC, "openat2");
    check(!faccessat(dir, "good", R_OK, 0) && !syscall(SYS_faccessat2, dir, "bad", R_OK, 0),
          "faccessat2");
    check(!syscall(SYS_close_range, fd, fd, 0) && close(fd) == -1, "close_range");
    close(dir);
    unlink("top/good"), unlink("top/bad"), unlink("top/absolute"), unlink("top/in/file");
    unlink("outside"), rmdir("top/in");
    check(!rmdir("top"), "rmdir");
}

static void others(void)
{
    uint32_t attr[12];

    check(!syscall(SYS_sched_getattr, 0, attr, sizeof attr, 0) && attr[1] == SCHED_OTHER,
          "sched_getattr");
    cpu_set_t none;
    struct sched_param zero = {0};

    CPU_ZERO(&none);
    check(sched_setaffinity(0, sizeof none, &none) == -1 && errno == EINVAL, "no CPU");
    check(sched_getscheduler(-1) == -1 && errno == EINVAL, "no thread");
    check(sched_setscheduler(0, SCHED_FIFO, &zero) == -1 && errno == EINVAL, "no priority");
    check(!symlink("nowhere", "link") && !lchown("link", 1, 1) && chown("link", 1, 1) == -1 &&
              !unlink("link"),
          "lchown");
    check(syscall(SYS_membarrier, 0, 0, 0) >= 0, "membarrier");
    check(sched_get_priority_max(SCHED_FIFO) == 99 && sched_getscheduler(0) == SCHED_OTHER,
          "sched_*");
}

int main(void)
{
    char dir[] = "/tmp/mayflyXXXXXX";

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!mkdtemp(dir) || chdir(dir))
        return 1;
    fifos();
    unnamed();
    attributes();
    limits();
    moves();
    names();
    others();
    rmdir(dir);
    return 0;
}
