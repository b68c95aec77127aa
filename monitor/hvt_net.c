/*
 * A Solo5 unikernel's networks: frames from and to a descriptor that keeps them apart (a tap), or
 * passt's stream socket, where each has its length before it (four bytes, big-endian). On the
 * vCPU's thread; reading never waits.
 */
#include "monitor/hvt.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include "virtio/net.h"

#define LENGTH 4u

struct hvt_stream {
    bool restricted;
    uint32_t have; /* bytes of buf */
    uint8_t buf[LENGTH + NET_FRAME_MAX];
};

int hvt_stream_open(struct hvt_host *h, int fd, bool restricted)
{
    struct hvt_stream *s = calloc(1, sizeof *s);
    int flags = fcntl(fd, F_GETFL);

    if (!s || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK)) {
        free(s);
        return s ? -errno : -ENOMEM;
    }
    s->restricted = restricted;
    h->fd = fd;
    h->stream = s;
    return 0;
}

/* The other end is no more: nothing comes from it, what is sent is lost. A negative descriptor is
 * what poll() ignores. */
static void gone(struct hvt_host *h)
{
    h->fd = -1;
}

static bool again(void)
{
    return errno == EAGAIN || errno == EINTR;
}

/* Length of the frame that is coming, 0 while that is not known. */
static uint32_t coming(const struct hvt_stream *s)
{
    uint32_t len = 0;

    if (s->have >= LENGTH)
        memcpy(&len, s->buf, LENGTH);
    return be32toh(len);
}

/* Never more than the rest of one frame, so that what is ready shows in poll(). */
static bool fill(struct hvt_host *h)
{
    struct hvt_stream *s = h->stream;

    for (;;) {
        uint32_t len = coming(s);

        if (s->have >= LENGTH && (len < NET_ETH_HLEN || len > NET_FRAME_MAX)) {
            gone(h); /* it has lost its way */
            s->have = 0;
            return false;
        }
        if (s->have >= LENGTH && s->have == LENGTH + len)
            return true;
        ssize_t n = h->fd < 0 ? -1 : read(h->fd, s->buf + s->have, LENGTH + len - s->have);

        if (n == 0 || (n < 0 && h->fd >= 0 && !again()))
            gone(h);
        if (n <= 0)
            return false;
        s->have += (uint32_t)n;
    }
}

bool hvt_net_pending(const struct hvt_host *h)
{
    return h->stream && h->stream->have > LENGTH && h->stream->have == LENGTH + coming(h->stream);
}

bool hvt_net_ready(struct hvt_host *h)
{
    return h->stream ? fill(h) : h->fd >= 0;
}

ssize_t hvt_net_read(struct hvt_host *h, void *p, size_t len)
{
    if (!h->stream) {
        ssize_t n = h->fd < 0 ? -1 : read(h->fd, p, len);

        if (n < 0 && h->fd >= 0 && !again())
            gone(h);
        return n;
    }
    if (!fill(h))
        return -1;
    uint32_t frame = coming(h->stream);
    size_t n = frame < len ? frame : len;

    memcpy(p, h->stream->buf + LENGTH, n);
    h->stream->have = 0;
    return (ssize_t)n;
}

/* Until the stream has room; false: the machine has stopped. */
static bool wait_for_room(struct machine *m, const struct hvt_host *h)
{
    while (!atomic_load(&m->stopping)) {
        struct pollfd p[] = {{.fd = h->fd, .events = POLLOUT},
                             {.fd = m->hvt->wake_fd, .events = POLLIN}};
        uint64_t kicks;

        if (poll(p, 2, -1) > 0 && p[1].revents)
            (void)!read(m->hvt->wake_fd, &kicks, sizeof kicks);
        if (p[0].revents)
            return true;
    }
    return false;
}

static void send_on_stream(struct machine *m, struct hvt_host *h, const uint8_t *p, size_t len)
{
    uint32_t head = htobe32((uint32_t)len);
    struct iovec iov[] = {{&head, LENGTH}, {(void *)(uintptr_t)p, len}};
    size_t done = 0;

    if (h->stream->restricted &&
        !net_restrict_allows(p, len < NET_RESTRICT_LOOK ? len : NET_RESTRICT_LOOK))
        return;
    /* A frame that is half sent must be sent whole. */
    while (h->fd >= 0 && done < LENGTH + len) {
        struct iovec rest[2] = {iov[0], iov[1]};
        unsigned first = done < LENGTH ? 0 : 1;
        size_t skip = done - (first ? LENGTH : 0);

        rest[first].iov_base = (uint8_t *)rest[first].iov_base + skip;
        rest[first].iov_len -= skip;
        ssize_t n = writev(h->fd, rest + first, (int)(2 - first));

        if (n >= 0)
            done += (size_t)n;
        else if (!again())
            gone(h);
        else if (!wait_for_room(m, h))
            return;
    }
}

void hvt_net_write(struct machine *m, struct hvt_host *h, const void *p, size_t len)
{
    if (h->stream)
        send_on_stream(m, h, p, len);
    else if (h->fd >= 0)
        (void)!write(h->fd, p, len); /* down, or no room: lost */
}
