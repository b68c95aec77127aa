/* Asynchronous I/O: the same cases over io_uring, over the fallback with its threads, and over
 * plain polling. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/io_fix.h"

enum { URING, THREADS, PLAIN, KINDS };
static const char *const kind_name[KINDS] = {"io_uring", "threads", "poll"};

static void make(int kind)
{
    if (kind == THREADS)
        setenv("MAYFLY_NO_IO_URING", "1", 1);
    else
        unsetenv("MAYFLY_NO_IO_URING");
    cr_assert_eq(io_create(&io, kind == PLAIN ? IO_BACKEND_POLL : IO_BACKEND_URING), 0);
    cr_assert_eq(io_enable(io), 0);
    cr_assert_eq(io_refused(io) != NULL, kind == THREADS);
    cr_assert_eq(io_is_uring(io), kind == URING);
}

/* Passes until c was called, two seconds at most. */
static void finish(struct call *c)
{
    uint64_t end = io_now() + 2000000000u;
    unsigned before = c->times;

    while (c->times == before && io_now() < end)
        io_wait(io, io_now() + 10000000, NULL);
    cr_assert_eq(c->times, before + 1);
}

static int temp_file(void)
{
    char name[] = "/tmp/mayfly-io-XXXXXX";
    int fd = mkstemp(name);

    cr_assert(fd >= 0);
    unlink(name);
    return fd;
}

#define EACH_KIND                                            \
    for (int kind = 0; kind < KINDS; kind++, io_destroy(io)) \
        if (make(kind), 1)

Test(io, files, .timeout = 60)
{
    EACH_KIND
    {
        int fd = temp_file(), f = io_file_add(io, fd, 0);
        struct call c = CALL;
        char buf[8] = "";
        struct iovec iov[2] = {{(void *)"abc", 3}, {(void *)"defg", 4}};

        cr_assert(f >= 0, "%s", kind_name[kind]);
        io_writev(io, &c.op, f, iov, 2, 100);
        cr_assert(c.op.busy && c.times == 0, "never from within the call");
        finish(&c);
        cr_assert(c.res == 7 && !c.op.busy);
        read_one(&c, f, buf, 8, 99);
        finish(&c);
        cr_assert(c.res == 8 && !memcmp(buf, "\0abcdefg", 8), "%s", kind_name[kind]);
        read_one(&c, f, buf, 8, 107);
        finish(&c);
        cr_assert_eq(c.res, 0);
        write_one(&c, f, "ZZ", 2, 100);
        finish(&c);
        iov[0] = (struct iovec){buf, 1}, iov[1] = (struct iovec){buf + 1, 2};
        io_readv(io, &c.op, f, iov, 2, 100);
        finish(&c);
        cr_assert(c.res == 3 && !memcmp(buf, "ZZc", 3));
        io_fsync(io, &c.op, f, true);
        finish(&c);
        cr_assert_eq(c.res, 0);
        io_fallocate(io, &c.op, f, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 100, 2);
        finish(&c);
        cr_assert(c.res == 0 || c.res == -EOPNOTSUPP);
        io_fallocate(io, &c.op, f, 0, 0, 0);
        finish(&c);
        cr_assert_eq(c.res, -EINVAL);
        io_file_remove(io, f);
        close(fd);
    }
}

Test(io, many_at_once, .timeout = 60)
{
    static struct call c[1000];
    static uint32_t out[1000], in[1000];

    EACH_KIND
    {
        int fd = temp_file(), f = io_file_add(io, fd, 0);
        unsigned done;

        for (unsigned round = 0; round < 2; round++) {
            for (unsigned i = 0; i < 1000; i++) {
                c[i] = CALL;
                out[i] = i * 77;
                if (round)
                    read_one(&c[i], f, &in[i], 4, 4 * i);
                else
                    write_one(&c[i], f, &out[i], 4, 4 * i);
            }
            uint64_t end = io_now() + 5000000000u;

            do {
                io_wait(io, io_now() + 10000000, NULL);
                done = 0;
                for (unsigned i = 0; i < 1000; i++)
                    done += c[i].times == 1 && c[i].res == 4;
            } while (done < 1000 && io_now() < end);
            cr_assert_eq(done, 1000, "%s round %u: %u", kind_name[kind], round, done);
        }
        cr_assert(!memcmp(in, out, sizeof in));
        close(fd);
    }
}

Test(io, streams, .timeout = 60)
{
    EACH_KIND
    for (int nonblock = 0; nonblock < 2; nonblock++) {
        int p[2];
        struct call r = CALL, w = CALL;
        char buf[16] = "";

        cr_assert_eq(pipe2(p, nonblock ? O_NONBLOCK : 0), 0);
        int in = io_file_add(io, p[0], 0), out = io_file_add(io, p[1], 0);

        read_one(&r, in, buf, 16, UINT64_MAX);
        io_wait(io, io_now() + 5000000, NULL);
        cr_assert_eq(r.times, 0, "%s: nothing to read yet", kind_name[kind]);
        write_one(&w, out, "hello", 5, UINT64_MAX);
        finish(&w);
        if (!r.times)
            finish(&r);
        cr_assert(r.res == 5 && !memcmp(buf, "hello", 5), "%s: %d", kind_name[kind], r.res);
        io_file_remove(io, in);
        io_file_remove(io, out);
        close(p[0]);
        close(p[1]);
    }
}

Test(io, polls, .timeout = 60)
{
    EACH_KIND
    {
        int p[2];
        struct call c = CALL, once = CALL;
        char b;

        cr_assert_eq(pipe2(p, O_NONBLOCK), 0);
        int f = io_file_add(io, p[0], IO_POLL_ONLY);

        io_poll(io, &c.op, f, POLLIN, true);
        for (unsigned i = 0; i < 3; i++) {
            cr_assert_eq(write(p[1], "x", 1), 1);
            finish(&c);
            cr_assert(c.res & POLLIN && c.op.busy, "%s", kind_name[kind]);
            cr_assert_eq(read(p[0], &b, 1), 1);
            io_wait(io, 1, NULL);
        }
        unsigned before = c.times;

        io_cancel(io, &c.op);
        io_cancel(io, &c.op);
        finish(&c);
        cr_assert(c.res == -ECANCELED && !c.op.busy && c.times == before + 1);
        io_cancel(io, &c.op);
        io_poll(io, &once.op, f, POLLIN, false);
        cr_assert_eq(write(p[1], "x", 1), 1);
        finish(&once);
        cr_assert(once.res & POLLIN && !once.op.busy);
        io_wait(io, io_now() + 2000000, NULL);
        cr_assert_eq(once.times, 1);
        io_file_remove(io, f);
        close(p[0]);
        close(p[1]);
    }
}

Test(io, cancel, .timeout = 60)
{
    EACH_KIND
    {
        int p[2];
        struct call c = CALL;
        char b[4];

        cr_assert_eq(pipe(p), 0);
        int f = io_file_add(io, p[0], 0);

        /* Before it was submitted, and after. */
        for (int waited = 0; waited < 2; waited++) {
            read_one(&c, f, b, 4, UINT64_MAX);
            if (waited)
                io_wait(io, 1, NULL);
            io_cancel(io, &c.op);
            finish(&c);
            cr_assert_eq(c.res, -ECANCELED, "%s", kind_name[kind]);
        }
        io_file_remove(io, f);
        close(p[0]);
        close(p[1]);
    }
}

Test(io, sockets, .timeout = 60)
{
    EACH_KIND
    {
        struct call snd = CALL, rcv = CALL;
        char buf[8];
        struct iovec out = {(void *)"ping", 4}, in = {buf, 8};
        struct msghdr mo = {.msg_iov = &out, .msg_iovlen = 1},
                      mi = {.msg_iov = &in, .msg_iovlen = 1};
        int end[2];

        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, end), 0);
        int here = io_file_add(io, end[0], 0), there = io_file_add(io, end[1], 0);

        io_recvmsg(io, &rcv.op, there, &mi, 0);
        io_wait(io, 1, NULL);
        io_sendmsg(io, &snd.op, here, &mo, 0);
        finish(&snd);
        if (!rcv.times)
            finish(&rcv);
        cr_assert(snd.res == 4 && rcv.res == 4 && !memcmp(buf, "ping", 4));
        close(end[1]);
        io_file_remove(io, there);
        io_sendmsg(io, &snd.op, here, &mo, 0);
        finish(&snd);
        cr_assert_eq(snd.res, -EPIPE, "an error, not a signal");
        close(end[0]);
    }
}

static struct io_timer timer[3];
static unsigned order[8], fired;
static void fire(struct io_timer *t)
{
    order[fired++] = (unsigned)(t - timer);
    if (fired < 6 && t == &timer[0])
        io_timer_set(io, t, io_now() + 1000000);
}

Test(io, timers, .timeout = 60)
{
    EACH_KIND
    {
        uint64_t now = io_now();

        fired = 0;
        for (unsigned i = 0; i < 3; i++)
            timer[i].fire = fire;
        io_timer_set(io, &timer[0], now + 6000000);
        io_timer_set(io, &timer[1], now + 2000000);
        io_timer_set(io, &timer[2], now + 4000000);
        io_timer_set(io, &timer[2], now + 1000000);
        io_timer_set(io, &timer[1], 0);
        io_timer_set(io, &timer[1], 0);
        while (fired < 2)
            io_wait(io, 0, NULL);
        cr_assert(order[0] == 2 && order[1] == 0 && io_now() >= now + 6000000);
        while (fired < 4)
            io_wait(io, 0, NULL);
        io_timer_set(io, &timer[0], 0);
    }
}

static atomic_bool flag;
static void *waker(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 2000; i++) {
        while (atomic_load(&flag))
            ;
        atomic_store(&flag, true);
        io_wake(io);
    }
    return NULL;
}

/* The protocol of loop.c: no wake-up is lost, however they fall. */
Test(io, wakes, .timeout = 60)
{
    EACH_KIND
    {
        pthread_t t;
        unsigned seen = 0;

        atomic_store(&flag, false);
        pthread_create(&t, NULL, waker, NULL);
        while (seen < 2000) {
            io_doze(io);
            uint64_t before = io_now();

            io_wait(io, atomic_load(&flag) ? 1 : before + 5000000000u, NULL);
            cr_assert(io_now() - before < 4000000000u, "%s: lost after %u", kind_name[kind], seen);
            if (atomic_exchange(&flag, false))
                seen++;
        }
        pthread_join(t, NULL);
    }
}

Test(io, table_of_files, .timeout = 60)
{
    EACH_KIND
    {
        int fd = temp_file(), n = 0, f;

        while ((f = io_file_add(io, fd, 0)) >= 0)
            n++;
        cr_assert_eq(f, -ENFILE);
        cr_assert_geq(n, IO_FILES_MAX - 2);
        io_file_remove(io, 100);
        io_file_remove(io, 100);
        io_file_remove(io, -1);
        io_file_remove(io, 100000);
        cr_assert_eq(io_file_add(io, fd, 0), 100);
        cr_assert_eq(io_file_add(io, -1, 0), -ENFILE);
        io_file_remove(io, 100);
        cr_assert_eq(io_file_add(io, -1, 0), -EBADF);
        close(fd);
    }
}
