/* Both ends of the network tests, run on the host and as a guest:
 *   serve PORT              echo by TCP and UDP, many at once, until a datagram says "quit"
 *   each HOST PORT N        N connections one after the other, an echo on each
 *   together HOST PORT N    N connections at the same time
 *   datagrams HOST PORT N   N echoes by UDP
 *   burst HOST PORT N       the same, all sent before the first is looked for
 *   pour HOST PORT BYTES    send a pattern; sink PORT: take it from the first who connects
 *   connect HOST PORT MS    one try, at most so long: prints the error
 *   lookup NAME, dns PORT   getaddrinfo(); a name server that knows guest.test and nothing else
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int fail(const char *what)
{
    printf("%s: %s\n", what, strerror(errno));
    return 1;
}

static struct sockaddr_in at(const char *host, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

    inet_pton(AF_INET, host, &a.sin_addr);
    return a;
}

static int bound(int type, int port)
{
    int fd = socket(AF_INET, type, 0), one = 1;
    struct sockaddr_in a = at("0.0.0.0", port);

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || (type == SOCK_STREAM && listen(fd, 128)))
        exit(fail("bind"));
    return fd;
}

static int dial(const char *host, int port, int flags)
{
    int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    struct sockaddr_in a = at(host, port);

    if (connect(fd, (struct sockaddr *)&a, sizeof a) && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

/* --- serve --- */

static struct client {
    char buf[8192];
    size_t from, to;
} clients[1024];

static void served(int ep, int fd)
{
    struct client *c = &clients[fd];
    struct epoll_event ev = {.data.fd = fd};
    ssize_t n = 1;

    if (c->from == c->to) {
        n = read(fd, c->buf, sizeof c->buf);
        c->from = 0;
        c->to = n > 0 ? (size_t)n : 0;
    }
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        close(fd);
        return;
    }
    if (c->from < c->to && (n = write(fd, c->buf + c->from, c->to - c->from)) > 0)
        c->from += (size_t)n;
    ev.events = c->from < c->to ? EPOLLOUT : EPOLLIN;
    epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev);
}

static int serve(int port)
{
    int l = bound(SOCK_STREAM, port), u = bound(SOCK_DGRAM, port), ep = epoll_create1(0),
        accepted = 0;
    struct epoll_event ev = {EPOLLIN, {.fd = l}}, got[64];

    fcntl(l, F_SETFL, O_NONBLOCK);
    epoll_ctl(ep, EPOLL_CTL_ADD, l, &ev);
    ev.data.fd = u;
    epoll_ctl(ep, EPOLL_CTL_ADD, u, &ev);
    printf("serving\n");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(ep, got, 64, -1);

        for (int i = 0; i < n; i++) {
            int fd = got[i].data.fd;

            if (fd == l) {
                while ((fd = accept4(l, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    ev = (struct epoll_event){EPOLLIN, {.fd = fd}};
                    clients[fd].from = clients[fd].to = 0;
                    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
                    accepted++;
                }
            } else if (fd == u) {
                static char buf[65536];
                struct sockaddr_in from;
                socklen_t len = sizeof from;
                ssize_t k = recvfrom(u, buf, sizeof buf, 0, (struct sockaddr *)&from, &len);

                if (k >= 0)
                    sendto(u, buf, (size_t)k, 0, (struct sockaddr *)&from, len);
                if (k == 4 && !memcmp(buf, "quit", 4)) {
                    printf("served %d\n", accepted);
                    return 0;
                }
            } else {
                served(ep, fd);
            }
        }
    }
}

/* --- clients --- */

static int each(const char *host, int port, int n)
{
    int good = 0;

    for (int i = 0; i < n; i++) {
        char out[64], in[64];
        int fd = dial(host, port, 0), len = snprintf(out, sizeof out, "connection %d", i);

        if (fd < 0)
            return fail("connect");
        if (write(fd, out, (size_t)len) == len && recv(fd, in, (size_t)len, MSG_WAITALL) == len)
            good += !memcmp(in, out, (size_t)len);
        close(fd);
    }
    printf("each %d of %d\n", good, n);
    return good != n;
}

/* All of them send 16 KiB and read it back as they can. */
static int together(const char *host, int port, int n)
{
    enum { BYTES = 16384, MOST = 256 };
    static struct pollfd p[MOST];
    static size_t out[MOST], in[MOST];
    static char buf[BYTES];
    int open = n, good = 0;

    for (int i = 0; i < n; i++) {
        p[i] = (struct pollfd){dial(host, port, SOCK_NONBLOCK), POLLIN | POLLOUT, 0};
        if (p[i].fd < 0)
            return fail("connect");
    }
    while (open && poll(p, (nfds_t)n, 20000) > 0)
        for (int i = 0; i < n; i++) {
            ssize_t k;

            if (!p[i].revents || p[i].fd < 0)
                continue;
            if (p[i].revents & POLLOUT && out[i] < BYTES) {
                memset(buf, 'a' + i % 26, BYTES);
                k = write(p[i].fd, buf, BYTES - out[i]);
                out[i] += k > 0 ? (size_t)k : 0;
                if (out[i] == BYTES)
                    p[i].events = POLLIN;
            }
            if (!(p[i].revents & (POLLIN | POLLERR | POLLHUP)))
                continue;
            k = read(p[i].fd, buf, BYTES);
            for (ssize_t b = 0; b < k; b++)
                if (buf[b] != 'a' + i % 26) {
                    k = -1;
                    errno = EBADMSG;
                }
            in[i] += k > 0 ? (size_t)k : 0;
            if (in[i] == BYTES || k == 0 || (k < 0 && errno != EAGAIN)) {
                good += in[i] == BYTES;
                if (in[i] != BYTES)
                    printf("connection %d: %s, out %zu, in %zu\n", i, k ? strerror(errno) : "end",
                           out[i], in[i]);
                close(p[i].fd);
                p[i].fd = -1;
                open--;
            }
        }
    if (open)
        printf("%d still open\n", open);
    printf("together %d of %d\n", good, n);
    return good != n;
}

static int datagrams(const char *host, int port, int n)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0), good = 0;
    struct sockaddr_in a = at(host, port);
    struct timeval wait = {2, 0};
    char out[1400], in[1400];

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (connect(fd, (struct sockaddr *)&a, sizeof a))
        return fail("connect");
    if (!n)
        return send(fd, "quit", 4, 0) == 4 ? 0 : fail("quit");
    for (int i = 0; i < n; i++) {
        size_t len = 1 + (size_t)(i * 37) % sizeof out;

        memset(out, i, len);
        good += send(fd, out, len, 0) == (ssize_t)len &&
                recv(fd, in, sizeof in, 0) == (ssize_t)len && !memcmp(in, out, len);
    }
    printf("datagrams %d of %d\n", good, n);
    return good != n;
}

/* The first of them asks who the neighbour is: all must be kept until that is known. */
static int burst(const char *host, int port, int n)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0), sent = 0, good = 0;
    struct sockaddr_in a = at(host, port);
    struct timeval wait = {2, 0};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (connect(fd, (struct sockaddr *)&a, sizeof a))
        return fail("connect");
    for (int i = 0; i < n; i++)
        sent += send(fd, &i, sizeof i, 0) == sizeof i;
    for (int k; good < n && recv(fd, &k, sizeof k, 0) == sizeof k && k == good;)
        good++;
    printf("burst %d, back %d of %d\n", sent, good, n);
    return good != n;
}

static uint32_t next(uint32_t *x)
{
    *x = *x * 1664525 + 1013904223;
    return *x;
}

static int pour(const char *host, int port, long bytes)
{
    int fd = dial(host, port, 0);
    uint32_t x = 1, buf[16384];

    if (fd < 0)
        return fail("connect");
    for (long left = bytes; left;) {
        size_t n = left < (long)sizeof buf ? (size_t)left : sizeof buf, at_byte = 0;

        for (size_t i = 0; i < sizeof buf / 4; i++)
            buf[i] = next(&x);
        while (at_byte < n) {
            ssize_t k = write(fd, (char *)buf + at_byte, n - at_byte);

            if (k <= 0)
                return fail("write");
            at_byte += (size_t)k;
        }
        left -= (long)n;
    }
    printf("poured %ld\n", bytes);
    return 0; /* and gone at once: what was written must arrive all the same */
}

static int sink(int port)
{
    int l = bound(SOCK_STREAM, port), fd;
    uint32_t x = 1, buf[16384];
    size_t have = 0;
    long total = 0, bad = 0;
    struct timespec from, to;

    printf("waiting\n");
    fflush(stdout);
    fd = accept(l, NULL, NULL);
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (ssize_t k; (k = read(fd, (char *)buf + have, sizeof buf - have)) > 0;) {
        size_t all = have + (size_t)k;

        for (size_t i = 0; i < all / 4; i++)
            bad += buf[i] != next(&x);
        memmove(buf, (char *)buf + all / 4 * 4, all % 4);
        have = all % 4;
        total += k;
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("sank %ld bad %ld\n", total, bad);
    double s = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;

    fprintf(stderr, "%.0f MB/s\n", (double)total / 1e6 / s);
    return bad != 0;
}

static int try_connect(const char *host, int port, int ms)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = at(host, port);
    struct timeval t = {ms / 1000, ms % 1000 * 1000};

    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    printf("%s\n", connect(fd, (struct sockaddr *)&a, sizeof a) ? strerror(errno) : "connected");
    return 0;
}

/* --- names --- */

static int lookup(const char *name)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *r;
    int e = getaddrinfo(name, NULL, &hints, &r);

    printf("%s: %s\n", name,
           e == EAI_NONAME ? "no such name"
           : e             ? gai_strerror(e)
                           : inet_ntoa(((struct sockaddr_in *)r->ai_addr)->sin_addr));
    return 0;
}

static int dns(int port)
{
    static const uint8_t known[] = "\5guest\4test",
                         record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 1, 2, 3};
    int u = bound(SOCK_DGRAM, port);

    for (;;) {
        uint8_t q[512];
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(u, q, sizeof q - sizeof record, 0, (struct sockaddr *)&from, &len);
        size_t end = 12;

        if (n < 17)
            continue;
        while (end < (size_t)n && q[end])
            end += q[end] + 1u;
        end += 5;
        if (end > (size_t)n)
            continue;
        int yes = end == 12 + sizeof known + 4 && !memcmp(q + 12, known, sizeof known),
            a = q[end - 3] == 1;

        q[2] = 0x81;
        q[3] = yes ? 0x80 : 0x83;
        memset(q + 6, 0, 6);
        if (yes && a) {
            q[7] = 1;
            memcpy(q + end, record, sizeof record);
            end += sizeof record;
        }
        sendto(u, q, end, 0, (struct sockaddr *)&from, len);
    }
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "", *host = argv[2];
    int port = argc > 3 ? atoi(argv[3]) : argc > 2 ? atoi(argv[2]) : 0;
    long n = argc > 4 ? atol(argv[4]) : 0;

    signal(SIGPIPE, SIG_IGN);
    if (!strcmp(what, "serve"))
        return serve(port);
    if (!strcmp(what, "sink"))
        return sink(port);
    if (!strcmp(what, "dns"))
        return dns(port);
    if (!strcmp(what, "lookup"))
        return lookup(host);
    if (!strcmp(what, "each"))
        return each(host, port, (int)n);
    if (!strcmp(what, "together"))
        return together(host, port, (int)n);
    if (!strcmp(what, "datagrams"))
        return datagrams(host, port, (int)n);
    if (!strcmp(what, "burst"))
        return burst(host, port, (int)n);
    if (!strcmp(what, "pour"))
        return pour(host, port, n);
    if (!strcmp(what, "connect"))
        return try_connect(host, port, (int)n);
    fprintf(stderr, "usage: see the source\n");
    return 2;
}
