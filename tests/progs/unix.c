#define _GNU_SOURCE
/* AF_UNIX sockets within one program: pairs, paths, abstract names, each kind. A line for each
 * check; the output must be the host's. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void say(const char *what, long result)
{
    if (result < 0)
        printf("%s: %s\n", what, strerrorname_np(errno));
    else
        printf("%s: %ld\n", what, result);
}

static socklen_t name(struct sockaddr_un *a, const char *text)
{
    size_t n = strlen(text);

    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(a->sun_path, text, n);
    if (text[0] == '@')
        a->sun_path[0] = 0;
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (text[0] != '@'));
}

static int bound(int type, const char *text)
{
    struct sockaddr_un a;
    socklen_t n = name(&a, text);
    int fd = socket(AF_UNIX, type, 0);

    say("bind", bind(fd, (void *)&a, n));
    return fd;
}

static int joined(int type, const char *text)
{
    struct sockaddr_un a;
    socklen_t n = name(&a, text);
    int fd = socket(AF_UNIX, type, 0);

    say("connect", connect(fd, (void *)&a, n));
    return fd;
}

static void show(const char *what, int fd, int peer)
{
    struct sockaddr_un a = {.sun_family = 99};
    socklen_t n = sizeof a;

    say(what, peer ? getpeername(fd, (void *)&a, &n) : getsockname(fd, (void *)&a, &n));
    printf("  family %d, %u bytes, '%s' '%s'\n", a.sun_family, n, n > 2 ? a.sun_path : "",
           n > 2 && !a.sun_path[0] ? a.sun_path + 1 : "");
}

static int ready(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};

    return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

static void *answer(void *fd)
{
    char buf[64];
    int c = accept(*(int *)fd, NULL, NULL);
    ssize_t n = read(c, buf, sizeof buf);

    (void)!write(c, buf, (size_t)n);
    close(c);
    return NULL;
}

static void connections(int type, const char *text)
{
    char buf[64] = "";
    struct stat st;
    pthread_t t;
    int l = bound(type, text), again = socket(AF_UNIX, type, 0), on = 0;
    struct sockaddr_un a;
    struct ucred who;
    socklen_t n = name(&a, text), len = sizeof on;

    say("bind again", bind(again, (void *)&a, n));
    say("before listen", connect(again, (void *)&a, n));
    close(again);
    if (text[0] != '@') {
        say("stat", stat(text, &st));
        printf("  mode %o\n", st.st_mode);
        say("open", open(text, O_RDWR));
    }
    say("listen", listen(l, 2));
    say("SO_ACCEPTCONN", getsockopt(l, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) ? -1 : on);
    show("listener", l, 0);
    say("poll", ready(l));
    pthread_create(&t, NULL, answer, &l);
    int c = joined(type, text);

    show("own", c, 0);
    show("peer", c, 1);
    say("write", write(c, "over and back", 13));
    say("read", read(c, buf, sizeof buf));
    printf("  %s\n", buf);
    say("its end", read(c, buf, sizeof buf));
    say("poll", ready(c));
    pthread_join(t, NULL);
    say("EPIPE", send(c, "x", 1, MSG_NOSIGNAL));
    close(c);
    fcntl(l, F_SETFL, O_NONBLOCK);
    say("nobody", accept(l, NULL, NULL));
    int early = joined(type, text);

    int second = joined(type, text); /* while one with the listener's name waits */

    say("before accept", send(early, "early", 5, 0));
    say("poll", ready(l));
    n = sizeof a;
    c = accept(l, (void *)&a, &n);
    printf("accepted: %d, %u bytes\n", c >= 0, n);
    show("accepted", c, 0);
    show("accepted's peer", c, 1);
    close(accept(l, NULL, NULL));
    close(second);
    say("FIONREAD", ioctl(c, FIONREAD, &on) ? -1 : on);
    say("peek", recv(c, buf, 2, MSG_PEEK));
    say("what came", recv(c, buf, sizeof buf, 0));
    len = sizeof who;
    say("SO_PEERCRED",
        getsockopt(c, SOL_SOCKET, SO_PEERCRED, &who, &len) ? -1 : who.pid == getpid());
    shutdown(c, SHUT_WR);
    say("after shutdown", read(early, buf, 1));
    say("the other way", write(early, "z", 1));
    say("there", read(c, buf, 9));
    close(c);
    close(early);
    c = joined(type, text);
    close(l);
    say("listener gone", send(c, "x", 1, MSG_NOSIGNAL));
    say("and this end", read(c, buf, 1));
    close(c);
    close(joined(type, text));
    if (text[0] != '@')
        say("unlink", unlink(text));
    close(joined(type, text));
}

static void datagrams(void)
{
    char buf[64] = "";
    struct sockaddr_un a;
    socklen_t n = name(&a, "dgram");
    int to = bound(SOCK_DGRAM, "dgram"), from = bound(SOCK_DGRAM, "@sender"),
        none = socket(AF_UNIX, SOCK_DGRAM, 0), pair[2];

    say("a stream to it", connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&a, n));
    say("sendto", sendto(from, "first", 5, 0, (void *)&a, n));
    say("empty", sendto(none, "", 0, 0, (void *)&a, n));
    say("connect", connect(none, (void *)&a, n));
    say("send", send(none, "third, longer", 13, 0));
    say("not connected", send(from, "x", 1, 0));
    for (int i = 0; i < 3; i++) {
        n = sizeof a;
        say("recvfrom", recvfrom(to, buf, 5, i == 2 ? MSG_TRUNC : 0, (void *)&a, &n));
        printf("  from %u bytes, '%s'\n", n, n > 2 ? a.sun_path + 1 : "");
    }
    say("no more", recv(to, buf, 1, MSG_DONTWAIT));
    say("poll", ready(to));
    close(to);
    say("gone", send(none, "x", 1, 0));
    unlink("dgram");
    n = name(&a, "dgram");
    say("not there", sendto(from, "x", 1, 0, (void *)&a, n));
    say("autobind", bind(socket(AF_UNIX, SOCK_DGRAM, 0), (void *)&a, sizeof a.sun_family));
    say("socketpair", socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair));
    say("two", write(pair[0], "one", 3) + write(pair[0], "two2", 4));
    say("one", read(pair[1], buf, sizeof buf));
    say("two", read(pair[1], buf, sizeof buf));
    say("none", read(pair[1], buf, sizeof buf));
    close(pair[0]);
    close(none);
    close(from);
}

static void packets(void)
{
    char buf[64];
    int pair[2];

    say("socketpair", socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    say("two", write(pair[0], "one", 3) + write(pair[0], "two2", 4));
    say("one", read(pair[1], buf, sizeof buf));
    say("a part", read(pair[1], buf, 2));
    say("none", recv(pair[1], buf, sizeof buf, MSG_DONTWAIT));
    close(pair[0]);
    say("end", read(pair[1], buf, sizeof buf));
}

/* More than a socket holds goes through, in order. */
static void *pour(void *fd)
{
    static unsigned char block[10000];

    for (int i = 0; i < 100; i++) {
        memset(block, i, sizeof block);
        (void)!write(*(int *)fd, block, sizeof block);
    }
    close(*(int *)fd);
    return NULL;
}

static void much(void)
{
    unsigned char buf[3333];
    unsigned long sum = 0, bytes = 0;
    int pair[2];
    pthread_t t;
    ssize_t n;

    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    pthread_create(&t, NULL, pour, &pair[0]);
    while ((n = read(pair[1], buf, sizeof buf)) > 0)
        for (ssize_t i = 0; i < n; i++)
            sum += buf[i] * (++bytes % 7 + 1);
    pthread_join(t, NULL);
    printf("%lu bytes, sum %lu\n", bytes, sum);
}

int main(void)
{
    char dir[] = "/tmp/unixXXXXXX";
    struct sockaddr_un a;

    if (!mkdtemp(dir) || chdir(dir))
        return 1;
    signal(SIGPIPE, SIG_IGN);
    connections(SOCK_STREAM, "stream");
    connections(SOCK_STREAM, "@mayfly-stream");
    connections(SOCK_SEQPACKET, "packets");
    datagrams();
    packets();
    much();
    say("kinds", socket(AF_UNIX, 9, 0));
    say("protocols", socket(AF_UNIX, SOCK_STREAM, 77));
    a.sun_family = AF_INET;
    say("families", bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&a, sizeof a));
    say("a missing directory", bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&a, name(&a, "x/y")));
    return chdir("/tmp") || rmdir(dir);
}
