/* What both ends of the vsock test do: echo, and a pattern sent and compared. */
#ifndef TESTS_VSOCK_PEER_H
#define TESTS_VSOCK_PEER_H

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uint8_t peer_pattern(uint64_t i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

/* Until the other end has finished; then this one has. */
static void peer_echo(int s)
{
    char buf[16384];
    ssize_t n, at = 0;

    while (at >= 0 && (n = read(s, buf, sizeof buf)) > 0)
        for (at = 0; at >= 0 && at < n;) {
            ssize_t w = send(s, buf + at, (size_t)(n - at), MSG_NOSIGNAL);

            at = w <= 0 ? -1 : at + w;
        }
    shutdown(s, SHUT_WR);
    close(s);
}

/* bytes there and back, at once: either side may be the slower one. Returns those that came back as
 * they were. */
static uint64_t peer_send_back(int s, uint64_t bytes)
{
    static uint8_t out[65536], in[65536];
    uint64_t sent = 0, got = 0;

    while (got < bytes) {
        struct pollfd p = {s, (short)(POLLIN | (sent < bytes ? POLLOUT : 0)), 0};

        if (poll(&p, 1, 20000) <= 0)
            break;
        if (p.revents & POLLOUT && sent < bytes) {
            size_t n = bytes - sent < sizeof out ? (size_t)(bytes - sent) : sizeof out;

            for (size_t i = 0; i < n; i++)
                out[i] = peer_pattern(sent + i);
            ssize_t w = send(s, out, n, MSG_DONTWAIT | MSG_NOSIGNAL);

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
                if (in[i] != peer_pattern(got + (uint64_t)i)) {
                    fprintf(stderr, "byte %llu differs\n", (unsigned long long)(got + (uint64_t)i));
                    return got;
                }
            got += r > 0 ? (uint64_t)r : 0;
        }
    }
    return got;
}

#endif
