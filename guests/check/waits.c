/* Waiting for descriptors: pipes, eventfd, poll, select, epoll. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include "guests/check/check.h"

static void *later(void *arg)
{
    struct timespec ms = {0, 15000000};
    uint64_t one = 1;

    nanosleep(&ms, NULL);
    return write((int)(intptr_t)arg, &one, 8) == 8 ? NULL : arg;
}

static void *fill_pipe(void *arg)
{
    static char block[4096];
    long n = 0;

    memset(block, 'x', sizeof block);
    for (int i = 0; i < 100; i++)
        n += write((int)(intptr_t)arg, block, sizeof block);
    close((int)(intptr_t)arg);
    return (void *)n;
}

static void pipes(void)
{
    int fd[2];
    char buf[4096];
    pthread_t t;
    long total = 0, n;
    void *r;

    check(!pipe2(fd, O_NONBLOCK) && read(fd[0], buf, 1) == -1 && errno == EAGAIN, "an empty pipe");
    for (total = 0; (n = write(fd[1], buf, sizeof buf)) > 0; total += n)
        ;
    int queued = 0;

    check(errno == EAGAIN && total == 65536, "a full one holds 64 KiB");
    check(!ioctl(fd[0], FIONREAD, &queued) && queued == 65536, "FIONREAD");
    struct pollfd p = {fd[1], POLLOUT, 0};

    check(poll(&p, 1, 0) == 0 && read(fd[0], buf, 4096) == 4096 && poll(&p, 1, 0) == 1, "POLLOUT");
    close(fd[0]);
    close(fd[1]);
    check(!pipe(fd), "pipe");
    pthread_create(&t, NULL, fill_pipe, (void *)(intptr_t)fd[1]);
    for (total = 0; (n = read(fd[0], buf, sizeof buf)) > 0; total += n)
        ;
    pthread_join(t, &r);
    check(!n && total == 409600 && (long)r == total, "400 KiB through a pipe, and its end");
    close(fd[0]);
}

static void epolls(void)
{
    int ev = eventfd(0, EFD_NONBLOCK), ep = epoll_create1(EPOLL_CLOEXEC), fd[2];
    int tm = timerfd_create(CLOCK_MONOTONIC, 0);
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = 1}, got[4];
    struct itimerspec at = {{0, 0}, {0, 5000000}};
    uint64_t n = 3;
    pthread_t t;

    if (pipe(fd))
        return;
    check(!epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e), "epoll: an eventfd");
    e.data.u32 = 2;
    check(!epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], &e) &&
              epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], &e) == -1 && errno == EEXIST,
          "a pipe");
    e.data.u32 = 3;
    check(!epoll_ctl(ep, EPOLL_CTL_ADD, tm, &e), "a timerfd");
    check(epoll_wait(ep, got, 4, 0) == 0, "nothing yet");
    check(write(ev, &n, 8) == 8 && epoll_wait(ep, got, 4, 1000) == 1 && got[0].data.u32 == 1,
          "the eventfd");
    check(epoll_wait(ep, got, 4, 0) == 1, "is still ready");
    check(read(ev, &n, 8) == 8 && n == 3 && epoll_wait(ep, got, 4, 0) == 0, "until it is read");
    timerfd_settime(tm, 0, &at, NULL);
    check(epoll_wait(ep, got, 4, 5000) == 1 && got[0].data.u32 == 3, "the timer");
    check(read(tm, &n, 8) == 8, "is read");
    pthread_create(&t, NULL, later, (void *)(intptr_t)fd[1]);
    check(epoll_wait(ep, got, 4, 5000) == 1 && got[0].data.u32 == 2, "the pipe, from a thread");
    pthread_join(t, NULL);
    e.events = EPOLLIN | EPOLLONESHOT;
    check(!epoll_ctl(ep, EPOLL_CTL_MOD, fd[0], &e) && epoll_wait(ep, got, 4, 0) == 1 &&
              epoll_wait(ep, got, 4, 0) == 0,
          "EPOLLONESHOT");
    e.events = EPOLLIN | EPOLLET;
    check(!epoll_ctl(ep, EPOLL_CTL_MOD, fd[0], &e) && epoll_wait(ep, got, 4, 0) == 1 &&
              epoll_wait(ep, got, 4, 0) == 0,
          "EPOLLET");
    close(fd[1]);
    check(epoll_wait(ep, got, 4, 0) == 1 && got[0].events & EPOLLHUP, "EPOLLHUP");
    check(!epoll_ctl(ep, EPOLL_CTL_DEL, fd[0], NULL) && epoll_wait(ep, got, 4, 0) == 0, "removed");
    close(fd[0]);
    e = (struct epoll_event){.events = EPOLLIN, .data.u32 = 9};
    int second = eventfd(1, 0), copy = dup(second), ep2 = epoll_create1(0);

    check(!epoll_ctl(ep, EPOLL_CTL_ADD, second, &e) && !close(second) &&
              epoll_wait(ep, got, 4, 0) == 1,
          "a watched descriptor is closed, its file is open by another");
    close(copy);
    check(epoll_wait(ep, got, 4, 0) == 0, "now it is not");
    second = eventfd(1, 0);
    check(!epoll_ctl(ep, EPOLL_CTL_ADD, second, &e) && epoll_wait(ep, got, 4, 0) == 1,
          "its number is another file's");
    e.data.u32 = 10;
    check(!epoll_ctl(ep2, EPOLL_CTL_ADD, ep, &e) && epoll_wait(ep2, got, 4, 0) == 1 &&
              got[0].data.u32 == 10,
          "an epoll watches an epoll");
    check(epoll_ctl(ep, EPOLL_CTL_ADD, ep2, &e) == -1 && errno == ELOOP, "not in a circle: ELOOP");
    check(epoll_ctl(ep, EPOLL_CTL_ADD, open("/etc/passwd", O_RDONLY), &e) == -1 && errno == EPERM,
          "a file: EPERM");
    int third = eventfd(1, 0);

    e.data.u32 = 11;
    check(!epoll_ctl(ep, EPOLL_CTL_ADD, third, &e) && epoll_wait(ep, got, 1, 0) == 1, "one of two");
    uint32_t before = got[0].data.u32;

    check(epoll_wait(ep, got, 1, 0) == 1 && got[0].data.u32 != before, "then the other");
    close(ep2);
    close(second);
    close(third);
    close(ep);
    close(tm);
    close(ev);
}

void check_waits(void)
{
    int ev = eventfd(2, EFD_SEMAPHORE);
    struct timespec ms = {0, 5000000};
    struct pollfd p = {ev, POLLIN, 0};
    uint64_t n = 0;
    fd_set set;
    pthread_t t;

    pipes();
    check(read(ev, &n, 8) == 8 && n == 1 && read(ev, &n, 8) == 8 && n == 1, "EFD_SEMAPHORE");
    check(ppoll(&p, 1, &ms, NULL) == 0, "ppoll: time over");
    pthread_create(&t, NULL, later, (void *)(intptr_t)ev);
    check(poll(&p, 1, 5000) == 1 && p.revents == POLLIN, "poll: woken by a thread");
    pthread_join(t, NULL);
    FD_ZERO(&set);
    FD_SET(ev, &set);
    struct timeval tv = {1, 0};

    check(select(ev + 1, &set, NULL, NULL, &tv) == 1 && FD_ISSET(ev, &set), "select");
    FD_SET(100, &set);
    check(select(101, &set, NULL, NULL, &tv) == -1 && errno == EBADF, "select: EBADF");
    p.fd = 100;
    check(poll(&p, 1, 0) == 1 && p.revents == POLLNVAL, "POLLNVAL");
    close(ev);
    epolls();
}
