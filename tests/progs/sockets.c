/* What sockets do, on the loopback, in lines that must be the same on the host and in a guest. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *name(int e)
{
    static const struct {
        int e;
        const char *name;
    } names[] = {{0, "ok"},
                 {EAGAIN, "EAGAIN"},
                 {EBADF, "EBADF"},
                 {EINVAL, "EINVAL"},
                 {ENOTSOCK, "ENOTSOCK"},
                 {ENOTCONN, "ENOTCONN"},
                 {EISCONN, "EISCONN"},
                 {EPIPE, "EPIPE"},
                 {EADDRINUSE, "EADDRINUSE"},
                 {EADDRNOTAVAIL, "EADDRNOTAVAIL"},
                 {EAFNOSUPPORT, "EAFNOSUPPORT"},
                 {ECONNREFUSED, "ECONNREFUSED"},
                 {ECONNRESET, "ECONNRESET"},
                 {EINPROGRESS, "EINPROGRESS"},
                 {EALREADY, "EALREADY"},
                 {EDESTADDRREQ, "EDESTADDRREQ"},
                 {EMSGSIZE, "EMSGSIZE"},
                 {EOPNOTSUPP, "EOPNOTSUPP"},
                 {EPROTONOSUPPORT, "EPROTONOSUPPORT"},
                 {ENOPROTOOPT, "ENOPROTOOPT"},
                 {EFAULT, "EFAULT"},
                 {EDOM, "EDOM"},
                 {ESPIPE, "ESPIPE"},
                 {ETIMEDOUT, "ETIMEDOUT"}};
    static char other[20];

    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].e == e)
            return names[i].name;
    snprintf(other, sizeof other, "errno %d", e);
    return other;
}

/* A result: what was returned, or the error. */
static void say(const char *what, long r)
{
    if (r < 0)
        printf("%s: %s\n", what, name(errno));
    else
        printf("%s: %ld\n", what, r);
}

static struct sockaddr_in local(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

static int port_of(int fd)
{
    struct sockaddr_in a;
    socklen_t n = sizeof a;

    return getsockname(fd, (struct sockaddr *)&a, &n) ? -1 : ntohs(a.sin_port);
}

static int listener(int backlog)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in a = local(0);

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, backlog))
        perror("listener");
    return fd;
}

static int client(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = local(port);

    if (connect(fd, (struct sockaddr *)&a, sizeof a))
        perror("client");
    return fd;
}

/* A connection: [0] the client's end, [1] the server's. */
static void connection(int fd[2])
{
    int l = listener(5);

    fd[0] = client(port_of(l));
    fd[1] = accept(l, NULL, NULL);
    close(l);
}

static void errors(void)
{
    struct sockaddr_in a = local(1), far = local(1);
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    int fd = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_INET, SOCK_DGRAM, 0), p[2];
    char c[4];

    say("socket of no type", socket(AF_INET, 12, 0));
    say("socket of another protocol", socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    say("socket of no domain", socket(77, SOCK_STREAM, 0));
    say("pair of inet", socketpair(AF_INET, SOCK_STREAM, 0, p));
    say("connect refused", connect(fd, (struct sockaddr *)&a, sizeof a));
    say("connect bad fd", connect(99, (struct sockaddr *)&a, sizeof a));
    say("connect no socket", connect(1, (struct sockaddr *)&a, sizeof a));
    say("connect short address", connect(fd, (struct sockaddr *)&a, 8));
    say("connect other family", connect(fd, (struct sockaddr *)&six, sizeof six));
    say("bind bad pointer", bind(fd, (struct sockaddr *)16, sizeof a));
    inet_pton(AF_INET, "203.0.113.77", &far.sin_addr);
    say("bind foreign address", bind(fd, (struct sockaddr *)&far, sizeof far));
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    say("recv unconnected", recv(fd, c, 4, 0));
    say("send unconnected", send(fd, c, 4, MSG_NOSIGNAL));
    say("getpeername unconnected", getpeername(fd, (struct sockaddr *)&a, &(socklen_t){sizeof a}));
    say("accept without listen", accept(fd, NULL, NULL));
    say("shutdown unconnected", shutdown(fd, SHUT_RDWR));
    say("shutdown nonsense", shutdown(fd, 7));
    say("lseek", lseek(fd, 0, SEEK_SET));
    say("pread", pread(fd, c, 1, 0));
    say("listen on udp", listen(u, 1));
    say("accept on udp", accept(u, NULL, NULL));
    say("udp send nowhere", send(u, c, 4, 0));
    a = local(9);
    say("udp send too much", sendto(u, malloc(70000), 66000, 0, (struct sockaddr *)&a, sizeof a));
    say("udp recv nothing", recv(u, c, 4, MSG_DONTWAIT));
    close(fd);
    close(u);
    struct stat st;

    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int r = fstat(fd, &st);

    printf("fstat %d %d flags %d %d\n", r, S_ISSOCK(st.st_mode),
           (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0, fcntl(fd, F_GETFD));
    close(fd);
}

static void options(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_INET, SOCK_DGRAM, 0), v = 1;
    socklen_t n = sizeof v;
    struct timeval t = {0, 200000};
    static const struct {
        const char *name;
        int level, option;
    } flags[] = {{"SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR},
                 {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE},
                 {"SO_BROADCAST", SOL_SOCKET, SO_BROADCAST},
                 {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY},
                 {"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE},
                 {"IP_TTL", IPPROTO_IP, IP_TTL},
                 {"IP_TOS", IPPROTO_IP, IP_TOS}};

    for (unsigned i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        v = flags[i].option == IP_TOS ? 16 : 1;
        int r = setsockopt(fd, flags[i].level, flags[i].option, &v, sizeof v);

        v = -1;
        n = sizeof v;
        r |= getsockopt(fd, flags[i].level, flags[i].option, &v, &n);
        printf("%s %d %d %d\n", flags[i].name, r, v, (int)n);
    }
    v = n = 0;
    static const int numbers[] = {SO_TYPE, SO_ERROR, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN};

    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        n = sizeof v;
        getsockopt(fd, SOL_SOCKET, numbers[i], &v, &n);
        printf("option %d: %d", numbers[i], v);
        getsockopt(u, SOL_SOCKET, numbers[i], &v, &n);
        printf(" %d\n", v);
    }
    v = 65536;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &v, sizeof v);
    getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &v, &n);
    printf("SO_RCVBUF %d\n", v);
    say("unknown option", setsockopt(fd, SOL_SOCKET, 9999, &v, sizeof v));
    say("unknown tcp option", setsockopt(fd, IPPROTO_TCP, 9999, &v, sizeof v));
    say("short option", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &v, 1));
    say("option of no socket", setsockopt(1, SOL_SOCKET, SO_KEEPALIVE, &v, sizeof v));
    say("bad timeout",
        setsockopt(u, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){0, 2000000}, sizeof t));
    say("timeout", setsockopt(u, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    struct sockaddr_in a = local(0);
    struct timespec from, to;

    bind(u, (struct sockaddr *)&a, sizeof a);
    clock_gettime(CLOCK_MONOTONIC, &from);
    say("recv with timeout", recv(u, &v, sizeof v, 0));
    clock_gettime(CLOCK_MONOTONIC, &to);
    long ms = (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000;

    printf("it took its time: %d\n", ms >= 190 && ms < 5000);
    close(fd);
    close(u);
}

static void stream(void)
{
    int fd[2], n = -1;
    char buf[64];
    struct iovec v[2] = {{"one ", 4}, {"two", 3}}, in[2] = {{buf, 3}, {buf + 3, 20}};
    struct msghdr m = {.msg_iov = in, .msg_iovlen = 2};
    struct sockaddr_in a, b;
    socklen_t len = sizeof a;

    connection(fd);
    getsockname(fd[0], (struct sockaddr *)&a, &len);
    getpeername(fd[1], (struct sockaddr *)&b, &len);
    printf("names agree %d, length %d\n",
           a.sin_port == b.sin_port && a.sin_addr.s_addr == b.sin_addr.s_addr, (int)len);
    say("connect again", connect(fd[0], (struct sockaddr *)&b, sizeof b));
    say("writev", writev(fd[0], v, 2));
    struct pollfd p = {fd[1], POLLIN | POLLOUT, 0};

    poll(&p, 1, 2000);
    usleep(20000);
    ioctl(fd[1], FIONREAD, &n);
    printf("poll %x FIONREAD %d\n", p.revents, n);
    say("peek", recv(fd[1], buf, 3, MSG_PEEK));
    n = recvmsg(fd[1], &m, 0);
    printf("recvmsg %d '%.*s' flags %x\n", n, n, buf, m.msg_flags);
    say("nothing there", recv(fd[1], buf, 4, MSG_DONTWAIT));
    write(fd[1], "answer", 6);
    n = recv(fd[0], buf, 6, MSG_WAITALL);
    printf("answer '%.*s'\n", n, buf);
    say("empty write", write(fd[0], "", 0));
    say("read to a bad address", (write(fd[1], "x", 1), usleep(20000), read(fd[0], (void *)16, 1)));
    n = read(fd[0], buf, 4);
    printf("it is still there: %d %c\n", n, buf[0]);
    say("write from a bad address", write(fd[0], (void *)16, 5));
    say("shutdown write", shutdown(fd[0], SHUT_WR));
    say("write after it", send(fd[0], "x", 1, MSG_NOSIGNAL));
    say("end of file", read(fd[1], buf, 4));
    poll(&p, 1, 0);
    printf("poll at the end %x\n", p.revents);
    say("the other way still goes", write(fd[1], "late", 4));
    n = read(fd[0], buf, 10);
    printf("late '%.*s'\n", n, buf);
    close(fd[1]);
    say("end there too", read(fd[0], buf, 10));
    p = (struct pollfd){fd[0], POLLIN | POLLOUT | POLLRDHUP, 0};
    poll(&p, 1, 0);
    printf("poll when both are closed %x\n", p.revents);
    close(fd[0]);
}

static volatile int pipes;

static void on_pipe(int sig)
{
    (void)sig;
    pipes++;
}

static void resets(void)
{
    int fd[2], e;
    char c[8];
    socklen_t n = sizeof e;
    struct linger hard = {1, 0};
    struct pollfd p;

    signal(SIGPIPE, on_pipe);
    connection(fd);
    setsockopt(fd[1], SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd[1]);
    usleep(50000);
    p = (struct pollfd){fd[0], POLLIN | POLLOUT, 0};
    poll(&p, 1, 1000);
    printf("poll after a reset %x\n", p.revents);
    getsockopt(fd[0], SOL_SOCKET, SO_ERROR, &e, &n);
    printf("SO_ERROR %s\n", name(e));
    say("read after it", read(fd[0], c, 1));
    say("write after it", write(fd[0], "x", 1));
    printf("SIGPIPE %d\n", pipes);
    close(fd[0]);

    connection(fd);
    write(fd[0], "unread", 6);
    usleep(50000);
    close(fd[1]); /* with data nobody read: a reset */
    usleep(50000);
    say("read when the peer did not", read(fd[0], c, 1));
    close(fd[0]);

    connection(fd);
    write(fd[1], "data", 4);
    close(fd[1]);
    usleep(50000);
    say("data before the end", read(fd[0], c, 8));
    say("then the end", read(fd[0], c, 8));
    say("write to the closed", write(fd[0], "x", 1));
    usleep(50000);
    say("write to the closed again", write(fd[0], "x", 1));
    printf("SIGPIPE %d\n", pipes);
    close(fd[0]);
}

static void nonblocking(void)
{
    int l = listener(8), fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), e = -1, got;
    struct sockaddr_in a = local(port_of(l));
    socklen_t n = sizeof e;
    struct pollfd p = {fd, POLLOUT, 0};
    static char block[65536];

    fcntl(l, F_SETFL, O_NONBLOCK);
    say("accept nothing", accept(l, NULL, NULL));
    int r = connect(fd, (struct sockaddr *)&a, sizeof a);

    printf("connect %d\n", r == 0 || errno == EINPROGRESS);
    printf("poll %d", poll(&p, 1, 2000));
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n);
    printf(" %x error %d\n", p.revents, e);
    p = (struct pollfd){l, POLLIN, 0};
    poll(&p, 1, 2000);
    n = sizeof a;
    got = accept4(l, (struct sockaddr *)&a, &n, SOCK_NONBLOCK);
    printf("accept4 %d length %d nonblocking %d\n", got > 0, (int)n,
           (fcntl(got, F_GETFL) & O_NONBLOCK) != 0);
    long sent = 0, received = 0, k;

    while ((k = write(fd, block, sizeof block)) > 0)
        sent += k;
    say("full", k);
    while (received < sent) {
        p = (struct pollfd){got, POLLIN, 0};
        poll(&p, 1, 2000);
        k = read(got, block, sizeof block);
        if (k <= 0)
            break;
        received += k;
    }
    printf("all of it came: %d, more than 64 KiB: %d\n", received == sent, sent > 65536);
    p = (struct pollfd){fd, POLLOUT, 0};
    printf("writable again %d\n", poll(&p, 1, 2000));
    close(got);
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    a = local(1);
    r = connect(fd, (struct sockaddr *)&a, sizeof a);
    e = errno;
    p = (struct pollfd){fd, POLLOUT | POLLIN, 0};
    poll(&p, 1, 2000);
    if (r && e == EINPROGRESS) {
        n = sizeof e;
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n);
    }
    printf("refused %s\n", name(e));
    close(fd);
    close(l);
}

static void datagrams(void)
{
    int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0), n;
    struct sockaddr_in to = local(0), from = {0};
    socklen_t len = sizeof from;
    static char buf[65536], out[60000];
    struct iovec iov = {buf, 3};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_name = &from, .msg_namelen = sizeof from};

    bind(a, (struct sockaddr *)&to, sizeof to);
    to = local(port_of(a));
    say("sendto", sendto(b, "hello", 5, 0, (struct sockaddr *)&to, sizeof to));
    n = recvfrom(a, buf, sizeof buf, 0, (struct sockaddr *)&from, &len);
    printf("recvfrom %d '%.*s' from the sender %d\n", n, n, buf,
           ntohs(from.sin_port) == port_of(b));
    sendto(a, "back", 4, 0, (struct sockaddr *)&from, sizeof from);
    n = recv(b, buf, sizeof buf, 0);
    printf("back '%.*s'\n", n, buf);
    say("connect", connect(b, (struct sockaddr *)&to, sizeof to));
    send(b, "", 0, 0);
    say("an empty one", recv(a, buf, 10, 0));
    send(b, "longer than three", 17, 0);
    n = recvmsg(a, &m, 0);
    printf("cut %d flags %x\n", n, m.msg_flags);
    send(b, "longer than three", 17, 0);
    say("its true length", recv(a, buf, 3, MSG_TRUNC));
    for (unsigned i = 0; i < sizeof out; i++)
        out[i] = (char)(i * 7);
    say("a long one", send(b, out, sizeof out, 0));
    n = recv(a, buf, sizeof buf, 0);
    printf("came whole %d\n", n == sizeof out && !memcmp(buf, out, sizeof out));
    struct mmsghdr two[2] = {{.msg_hdr = {.msg_iov = &(struct iovec){"aa", 2}, .msg_iovlen = 1}},
                             {.msg_hdr = {.msg_iov = &(struct iovec){"bbb", 3}, .msg_iovlen = 1}}};

    say("sendmmsg", sendmmsg(b, two, 2, 0));
    usleep(20000);
    char in[2][8];
    struct mmsghdr got[2] = {{.msg_hdr = {.msg_iov = &(struct iovec){in[0], 8}, .msg_iovlen = 1}},
                             {.msg_hdr = {.msg_iov = &(struct iovec){in[1], 8}, .msg_iovlen = 1}}};

    say("recvmmsg", recvmmsg(a, got, 2, 0, NULL));
    printf("lengths %u %u\n", got[0].msg_len, got[1].msg_len);
    ioctl(a, FIONREAD, &n);
    printf("FIONREAD %d\n", n);
    int c = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in nobody = local(1);

    connect(c, (struct sockaddr *)&nobody, sizeof nobody);
    say("to a port where nobody is", send(c, "x", 1, 0));
    usleep(20000);
    struct pollfd p = {c, POLLIN, 0};

    poll(&p, 1, 1000);
    printf("poll %x\n", p.revents);
    say("it is said", recv(c, buf, 4, 0));
    say("once", recv(c, buf, 4, MSG_DONTWAIT));
    close(c);
    say("port is taken", bind(b, (struct sockaddr *)&to, sizeof to));
    close(a);
    close(b);
}

static void *echo(void *arg)
{
    int l = *(int *)arg;

    for (;;) {
        int fd = accept(l, NULL, NULL);
        char buf[4096];
        ssize_t n;

        if (fd < 0)
            return NULL;
        while ((n = read(fd, buf, sizeof buf)) > 0)
            write(fd, buf, (size_t)n);
        close(fd);
        if (n < 0)
            return NULL;
    }
}

static void threads(void)
{
    int l = listener(16), good = 0;
    pthread_t t[4];
    char buf[8192], back[8192];

    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, echo, &l);
    for (int i = 0; i < 100; i++) {
        int fd = client(port_of(l));
        size_t got = 0;
        ssize_t n;

        memset(buf, i, sizeof buf);
        write(fd, buf, sizeof buf);
        shutdown(fd, SHUT_WR);
        while ((n = read(fd, back + got, sizeof back - got)) > 0)
            got += (size_t)n;
        good += got == sizeof buf && !memcmp(buf, back, got);
        close(fd);
    }
    printf("echoed %d of 100\n", good);
    shutdown(l, SHUT_RDWR);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    close(l);
}

static void watching(void)
{
    int l = listener(64), ep = epoll_create1(0), fd[40], server[40], n = 0;
    struct epoll_event ev = {EPOLLIN, {.fd = l}}, got[64];
    fd_set set;

    fcntl(l, F_SETFL, O_NONBLOCK);
    epoll_ctl(ep, EPOLL_CTL_ADD, l, &ev);
    for (int i = 0; i < 40; i++)
        fd[i] = client(port_of(l));
    while (n < 40 && epoll_wait(ep, got, 64, 2000) == 1)
        while ((server[n] = accept(l, NULL, NULL)) >= 0) {
            ev = (struct epoll_event){EPOLLIN | EPOLLRDHUP, {.u32 = (unsigned)n}};
            epoll_ctl(ep, EPOLL_CTL_ADD, server[n++], &ev);
        }
    printf("accepted %d\n", n);
    say("nothing to read", epoll_wait(ep, got, 64, 0));
    for (int i = 0; i < 40; i += 2)
        write(fd[i], "x", 1);
    usleep(50000);
    say("half of them", epoll_wait(ep, got, 64, 2000));
    for (int i = 1; i < 40; i += 2)
        close(fd[i]);
    usleep(50000);
    n = epoll_wait(ep, got, 64, 2000);
    int hung = 0;

    for (int i = 0; i < n; i++)
        hung += (got[i].events & EPOLLRDHUP) != 0;
    printf("all of them %d, half closed %d\n", n, hung);
    FD_ZERO(&set);
    FD_SET(server[0], &set);
    FD_SET(server[2], &set);
    say("select", select(server[2] + 1, &set, NULL, NULL, &(struct timeval){2, 0}));
    for (int i = 0; i < 40; i++) {
        close(server[i]);
        if (i % 2 == 0)
            close(fd[i]);
    }
    close(l);
    close(ep);
}

static void pairs(void)
{
    int fd[2], n;
    char buf[16];
    struct pollfd p;

    say("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
    say("write", write(fd[0], "pair", 4));
    n = read(fd[1], buf, sizeof buf);
    printf("read '%.*s'\n", n, buf);
    say("nothing", recv(fd[1], buf, 4, MSG_DONTWAIT));
    p = (struct pollfd){fd[1], POLLIN | POLLOUT, 0};
    poll(&p, 1, 0);
    printf("poll %x\n", p.revents);
    shutdown(fd[0], SHUT_WR);
    say("end", read(fd[1], buf, 4));
    close(fd[1]);
    say("write to nobody", send(fd[0], "x", 1, MSG_NOSIGNAL));
    close(fd[0]);
}

static void names(void)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *r;
    int e = getaddrinfo("localhost", "80", &hints, &r);

    if (!e)
        printf("localhost is %s\n", inet_ntoa(((struct sockaddr_in *)r->ai_addr)->sin_addr));
    else
        printf("getaddrinfo: %s\n", gai_strerror(e));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    errors();
    options();
    stream();
    resets();
    nonblocking();
    datagrams();
    threads();
    watching();
    pairs();
    names();
    return 0;
}
