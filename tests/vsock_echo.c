/*
 * The guest's side of the vsock test (also a client): built with musl, static.
 *
 *   vsock_echo serve PORT          echo until the peer has finished, for ever
 *   vsock_echo send PORT BYTES     connect to the host, send a pattern, read it back, compare
 *   vsock_echo sink PORT           receive until the end, say how many bytes and their sum
 *   vsock_echo refused PORT        connecting must fail
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* <linux/vm_sockets.h>, which musl's compiler does not find. */
struct sockaddr_vm {
    unsigned short family, reserved;
    unsigned int port, cid;
    unsigned char flags, zero[3];
};
#define CID_ANY  0xffffffffu
#define CID_HOST 2u

static int make(unsigned port, unsigned cid, struct sockaddr_vm *sa)
{
    int s = socket(AF_VSOCK, SOCK_STREAM, 0);

    if (s < 0) {
        perror("socket AF_VSOCK");
        exit(1);
    }
    *sa = (struct sockaddr_vm){.family = AF_VSOCK, .port = port, .cid = cid};
    return s;
}

static void echo(int s)
{
    static char buf[65536];
    ssize_t n;

    while ((n = read(s, buf, sizeof buf)) > 0)
        for (ssize_t at = 0, w; at < n; at += w)
            if ((w = write(s, buf + at, (size_t)(n - at))) <= 0)
                _exit(1);
    shutdown(s, SHUT_WR);
    _exit(0);
}

static int serve(unsigned port)
{
    struct sockaddr_vm sa;
    int s = make(port, CID_ANY, &sa), c;

    if (bind(s, (struct sockaddr *)&sa, sizeof sa) || listen(s, 1024)) {
        perror("listen");
        return 1;
    }
    while ((c = accept(s, NULL, NULL)) >= 0) {
        if (!fork())
            echo(c);
        close(c);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
    return 1;
}

static uint8_t pattern(uint64_t i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

/* Sends and receives at once: either side may be the slower one. */
static int send_back(unsigned port, uint64_t bytes)
{
    static uint8_t out[65536], in[65536];
    struct sockaddr_vm sa;
    int s = make(port, CID_HOST, &sa);
    uint64_t sent = 0, got = 0;

    if (connect(s, (struct sockaddr *)&sa, sizeof sa)) {
        printf("T: connect %u: %s\n", port, strerror(errno));
        return 1;
    }
    for (;;) {
        struct pollfd p = {s, (short)(POLLIN | (sent < bytes ? POLLOUT : 0)), 0};

        if (poll(&p, 1, 20000) <= 0)
            break;
        if (p.revents & POLLOUT && sent < bytes) {
            size_t n = bytes - sent < sizeof out ? (size_t)(bytes - sent) : sizeof out;

            for (size_t i = 0; i < n; i++)
                out[i] = pattern(sent + i);
            ssize_t w = send(s, out, n, MSG_DONTWAIT);

            if (w < 0 && errno != EAGAIN)
                break;
            sent += w > 0 ? (uint64_t)w : 0;
            if (sent == bytes)
                shutdown(s, SHUT_WR);
        }
        if (p.revents & (POLLIN | POLLHUP)) {
            ssize_t r = recv(s, in, sizeof in, MSG_DONTWAIT);

            if (r == 0)
                break;
            for (ssize_t i = 0; i < r; i++)
                if (in[i] != pattern(got + (uint64_t)i)) {
                    printf("T: echo %u: byte %llu differs\n", port, (unsigned long long)got);
                    return 1;
                }
            got += r > 0 ? (uint64_t)r : 0;
        }
    }
    printf("T: echo %u: %llu of %llu bytes\n", port, (unsigned long long)got,
           (unsigned long long)bytes);
    return got != bytes;
}

static int sink(unsigned port)
{
    static uint8_t in[65536];
    struct sockaddr_vm sa;
    int s = make(port, CID_HOST, &sa);
    uint64_t got = 0, sum = 0;
    ssize_t n;

    if (connect(s, (struct sockaddr *)&sa, sizeof sa)) {
        printf("T: connect %u: %s\n", port, strerror(errno));
        return 1;
    }
    while ((n = read(s, in, sizeof in)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            sum = sum * 31 + in[i];
        got += (uint64_t)n;
    }
    printf("T: sink %u: %llu bytes\n", port, (unsigned long long)got);
    return 0;
}

static int refused(unsigned port)
{
    struct sockaddr_vm sa;
    int s = make(port, CID_HOST, &sa);

    if (!connect(s, (struct sockaddr *)&sa, sizeof sa)) {
        printf("T: port %u is open\n", port);
        return 1;
    }
    printf("T: refused %u: %s\n", port, strerror(errno));
    return 0;
}

int main(int argc, char **argv)
{
    unsigned port = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;

    if (argc > 2 && !strcmp(argv[1], "serve"))
        return serve(port);
    if (argc > 3 && !strcmp(argv[1], "send"))
        return send_back(port, strtoull(argv[3], NULL, 10));
    if (argc > 2 && !strcmp(argv[1], "sink"))
        return sink(port);
    if (argc > 2 && !strcmp(argv[1], "refused"))
        return refused(port);
    return 2;
}
