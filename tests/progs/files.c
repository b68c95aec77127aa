/* Files: an in-memory root with the usual devices; directories; pipes, poll, epoll, eventfd. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static void check(int good, const char *name)
{
    printf("%s %s\n", good ? "PASS" : "FAIL", name);
}

static void *later(void *arg)
{
    struct timespec ts = {0, 20000000};

    nanosleep(&ts, NULL);
    return (void *)(intptr_t)write((int)(intptr_t)arg, "hello", 5);
}

static void tree(void)
{
    char buf[64], dir[64];
    struct stat st;

    snprintf(dir, sizeof dir, "%s/mayflyXXXXXX", getenv("DIR") ? getenv("DIR") : "/tmp");
    check(mkdtemp(dir) != NULL && !chdir(dir), "mkdtemp, chdir");
    int fd = open("a", O_RDWR | O_CREAT | O_EXCL, 0644);

    check(fd >= 0 && write(fd, "0123456789", 10) == 10, "create, write");
    check(open("a", O_CREAT | O_EXCL | O_RDWR, 0644) == -1 && errno == EEXIST, "EEXIST");
    check(lseek(fd, -3, SEEK_END) == 7 && read(fd, buf, 10) == 3 && !memcmp(buf, "789", 3),
          "lseek");
    check(pread(fd, buf, 4, 2) == 4 && !memcmp(buf, "2345", 4), "pread");
    check(pwrite(fd, "xy", 2, 100000) == 2 && !fstat(fd, &st) && st.st_size == 100002,
          "pwrite far");
    check(pread(fd, buf, 1, 50000) == 1 && buf[0] == 0, "holes read zero");
    check(!ftruncate(fd, 5) && !fstat(fd, &st) && st.st_size == 5, "ftruncate");
    struct iovec v[2] = {{buf, 2}, {buf + 10, 10}};

    lseek(fd, 0, SEEK_SET);
    check(readv(fd, v, 2) == 5 && !memcmp(buf + 10, "234", 3), "readv");
    char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

    check(m != MAP_FAILED && !memcmp(m, "01234", 6), "private mapping");
    m[0] = 'z';
    check(pread(fd, buf, 1, 0) == 1 && buf[0] == '0', "its writes stay private");
    if (!getenv("DIR")) { /* a shared directory has none */
        char *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        check(s != MAP_FAILED, "shared mapping");
        s[1] = 'Q';
        check(pread(fd, buf, 2, 0) == 2 && buf[1] == 'Q', "its writes are the file's");
    }
    check(!mkdir("d", 0755) && !rename("a", "d/b") && !access("d/b", F_OK), "mkdir, rename");
    check(rmdir("d") == -1 && errno == ENOTEMPTY, "ENOTEMPTY");
    check(!symlink("d/b", "l") && readlink("l", buf, 64) == 3 && !stat("l", &st) && st.st_size == 5,
          "symlink");
    check(!lstat("l", &st) && S_ISLNK(st.st_mode), "lstat");
    check(!link("d/b", "h") && !stat("h", &st) && st.st_nlink == 2, "link");
    DIR *dp = opendir(".");
    int n = 0;

    for (struct dirent *e; (e = readdir(dp));)
        n++;
    closedir(dp);
    check(n == 5, "readdir");
    check(getcwd(buf, 64) && !strcmp(buf, dir), "getcwd");
    check(!unlink("d/b") && pread(fd, buf, 1, 0) == 1, "unlinked and open");
    check(!unlink("h") && !unlink("l") && !rmdir("d") && !chdir("/") && !rmdir(dir), "remove all");
    check(stat(dir, &st) == -1 && errno == ENOENT, "ENOENT");
    check(open("/etc/passwd/x", O_RDONLY) == -1 && errno == ENOTDIR, "ENOTDIR");
    FILE *f = tmpfile();

    check(f && fprintf(f, "%d\n", 42) == 3 && !fseek(f, 0, SEEK_SET) && fscanf(f, "%d", &n) == 1 &&
              n == 42,
          "tmpfile");
}

static void devices(void)
{
    char a[64], b[64];
    int fd = open("/dev/null", O_RDWR);

    check(write(fd, a, 64) == 64 && read(fd, a, 64) == 0, "/dev/null");
    fd = open("/dev/zero", O_RDONLY);
    memset(a, 1, 64);
    check(read(fd, a, 64) == 64 && !a[0] && !a[63], "/dev/zero");
    fd = open("/dev/urandom", O_RDONLY);
    check(read(fd, a, 64) == 64 && read(fd, b, 64) == 64 && memcmp(a, b, 64), "/dev/urandom");
    fd = open("/dev/full", O_WRONLY);
    check(write(fd, a, 1) == -1 && errno == ENOSPC, "/dev/full");
    fd = open("/proc/self/maps", O_RDONLY);
    check(fd >= 0 && read(fd, a, 64) == 64, "/proc/self/maps");
    check(readlink("/proc/self/exe", a, 64) > 0, "/proc/self/exe");
    check(dup2(fd, 20) == 20 && fcntl(20, F_GETFD) == 0 && !close(20), "dup2");
    check(fcntl(fd, F_DUPFD_CLOEXEC, 30) == 30 && fcntl(30, F_GETFD) == FD_CLOEXEC, "F_DUPFD");
    check(read(99, a, 1) == -1 && errno == EBADF, "EBADF");
    char *volatile nowhere = (char *)8;

    check(read(fd, nowhere, 1) == -1 && errno == EFAULT, "EFAULT");
}

static void waiting(void)
{
    int fd[2], ev = eventfd(0, EFD_NONBLOCK), ep = epoll_create1(0);
    char buf[16];
    uint64_t n = 7;
    pthread_t t;

    check(!pipe(fd), "pipe");
    struct pollfd p = {fd[0], POLLIN, 0};

    check(poll(&p, 1, 10) == 0, "poll: nothing");
    pthread_create(&t, NULL, later, (void *)(intptr_t)fd[1]);
    check(poll(&p, 1, 5000) == 1 && p.revents == POLLIN, "poll: woken");
    check(read(fd[0], buf, 16) == 5, "read of a pipe");
    pthread_join(t, NULL);
    pthread_create(&t, NULL, later, (void *)(intptr_t)fd[1]);
    check(read(fd[0], buf, 16) == 5, "read waits");
    pthread_join(t, NULL);
    check(read(ev, &n, 8) == -1 && errno == EAGAIN, "eventfd: empty");
    n = 7;
    check(write(ev, &n, 8) == 8, "eventfd: write");
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = 11}, got[4];

    check(!epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e), "epoll_ctl");
    e.data.u64 = 12;
    check(!epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], &e), "epoll_ctl 2");
    check(epoll_wait(ep, got, 4, 1000) == 1 && got[0].data.u64 == 11, "epoll_wait");
    check(read(ev, &n, 8) == 8 && n == 7, "eventfd: read");
    check(epoll_wait(ep, got, 4, 5) == 0, "epoll_wait: time over");
    pthread_create(&t, NULL, later, (void *)(intptr_t)fd[1]);
    check(epoll_wait(ep, got, 4, 5000) == 1 && got[0].data.u64 == 12, "epoll_wait: woken");
    pthread_join(t, NULL);
    fd_set set;
    struct timeval tv = {1, 0};

    FD_ZERO(&set);
    FD_SET(fd[0], &set);
    check(select(fd[0] + 1, &set, NULL, NULL, &tv) == 1 && FD_ISSET(fd[0], &set), "select");
    check(read(fd[0], buf, 16) == 5, "drain");
    close(fd[1]);
    check(read(fd[0], buf, 16) == 0, "end of a pipe");
    check(poll(&p, 1, 0) == 1 && p.revents & POLLHUP, "POLLHUP");
}

int main(void)
{
    tree();
    devices();
    waiting();
    return 0;
}
