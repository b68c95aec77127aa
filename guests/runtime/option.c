/* Socket options. */
#include <asm/socket.h>
#include <linux/in.h>
#include <linux/tcp.h>
#include "guests/runtime/net.h"
#include "guests/runtime/address.h"
#include "guests/runtime/users.h"

#define BUFFER_MOST (4u << 20)

static int64_t time_in(uint64_t at, uint64_t len, uint64_t *ns)
{
    int64_t t[2];

    if (len < sizeof t)
        return -EINVAL;
    if (copy_in(t, at, sizeof t))
        return -EFAULT;
    if (t[1] < 0 || t[1] >= 1000000)
        return -EDOM;
    *ns = t[0] < 0 ? 1 : least((uint64_t)t[0], 9000000000) * NS + (uint64_t)t[1] * 1000;
    return 0;
}

static int64_t linger_in(struct socket *s, uint64_t at, uint64_t len)
{
    int32_t v[2];

    if (len < sizeof v)
        return -EINVAL;
    if (copy_in(v, at, sizeof v))
        return -EFAULT;
    s->linger = v[0];
    s->linger_seconds = v[1] > 0 ? (uint32_t)v[1] : 0;
    return 0;
}

static int64_t set_socket(struct socket *s, unsigned option, int32_t v)
{
    switch (option) {
    case SO_REUSEADDR:
        s->reuse = v;
        return 0;
    case SO_REUSEPORT:
        s->reuse_port = v;
        return 0;
    case SO_KEEPALIVE:
        s->keepalive = v;
        return 0;
    case SO_BROADCAST:
        s->broadcast = v;
        return 0;
    case SO_RCVBUF:
    case SO_RCVBUFFORCE:
        s->receive_buffer = 2 * (uint32_t)least(v < 1152 ? 1152 : (uint32_t)v, BUFFER_MOST);
        return 0;
    case SO_SNDBUF:
    case SO_SNDBUFFORCE:
        s->send_buffer = 2 * (uint32_t)least(v < 2304 ? 2304 : (uint32_t)v, BUFFER_MOST);
        return 0;
    case SO_DONTROUTE:
    case SO_OOBINLINE:
    case SO_PRIORITY:
    case SO_RCVLOWAT:
    case SO_TIMESTAMP_OLD:
        return 0; /* what they ask for makes no difference here */
    default:
        return -ENOPROTOOPT;
    }
}

static int64_t set_tcp(struct socket *s, unsigned option, int32_t v)
{
    switch (option) {
    case TCP_NODELAY:
        s->no_delay = v;
        return 0;
    case TCP_CORK:
        s->cork = v;
        return 0;
    case TCP_KEEPIDLE:
    case TCP_KEEPINTVL:
    case TCP_KEEPCNT:
        if (v < 1 || v > 32767)
            return -EINVAL;
        *(option == TCP_KEEPIDLE    ? &s->keep_idle
          : option == TCP_KEEPINTVL ? &s->keep_interval
                                    : &s->keep_count) = (uint32_t)v;
        return 0;
    case TCP_DEFER_ACCEPT:
    case TCP_QUICKACK:
    case TCP_SYNCNT:
    case TCP_USER_TIMEOUT:
    case TCP_LINGER2:
        return 0;
    default:
        return -ENOPROTOOPT;
    }
}

static int64_t set_ip(struct socket *s, unsigned option, int32_t v)
{
    switch (option) {
    case IP_TOS:
        s->tos = (uint8_t)v;
        return 0;
    case IP_TTL:
        if (v < -1 || v == 0 || v > 255)
            return -EINVAL;
        s->ttl = v < 0 ? 64 : (uint8_t)v;
        return 0;
    case IP_MTU_DISCOVER:
    case IP_RECVERR:
        return 0;
    default:
        return -ENOPROTOOPT;
    }
}

static int64_t set(struct socket *s, unsigned level, unsigned option, uint64_t at, uint64_t len)
{
    int32_t v = 0;

    if (level == SOL_SOCKET && (option == SO_RCVTIMEO_OLD || option == SO_SNDTIMEO_OLD))
        return time_in(at, len, option == SO_RCVTIMEO_OLD ? &s->receive_wait : &s->send_wait);
    if (level == SOL_SOCKET && option == SO_LINGER)
        return linger_in(s, at, len);
    if (len < sizeof v && !(level == IPPROTO_IP && len))
        return -EINVAL;
    if (copy_in(&v, at, least(len, sizeof v)))
        return -EFAULT;
    if (level == SOL_SOCKET)
        return set_socket(s, option, v);
    if (level == IPPROTO_TCP && s->ops == &tcp_ops)
        return set_tcp(s, option, v);
    if (level == IPPROTO_IP && s->ops->domain == AF_INET)
        return set_ip(s, option, v);
    return -ENOPROTOOPT;
}

int64_t sys_setsockopt(uint64_t fd, uint64_t level, uint64_t option, uint64_t at, uint64_t len)
{
    struct socket *s;
    int64_t err;
    struct file *f = socket_get(fd, &s, &err);

    if (!f)
        return err;
    err = set(s, (unsigned)level, (unsigned)option, at, (uint32_t)len);
    if (!err)
        s->ops->set(s);
    if (net_settle)
        net_settle();
    file_drop(f);
    return err;
}

/* --- getsockopt --- */

static int64_t get_number(struct socket *s, unsigned level, unsigned option)
{
    if (level == SOL_SOCKET)
        switch (option) {
        case SO_ERROR:
            return -socket_error(s);
        case SO_TYPE:
            return s->ops->type;
        case SO_DOMAIN:
            return s->ops->domain;
        case SO_PROTOCOL:
            return s->ops->protocol;
        case SO_ACCEPTCONN:
            return unix_is_listening(s) ||
                   (tcp_is_listening && s->ops == &tcp_ops && tcp_is_listening(s));
        case SO_REUSEADDR:
            return s->reuse;
        case SO_REUSEPORT:
            return s->reuse_port;
        case SO_KEEPALIVE:
            return s->keepalive;
        case SO_BROADCAST:
            return s->broadcast;
        case SO_RCVBUF:
            return s->receive_buffer;
        case SO_SNDBUF:
            return s->send_buffer;
        case SO_RCVLOWAT:
            return 1;
        case SO_OOBINLINE:
        case SO_DONTROUTE:
        case SO_PRIORITY:
            return 0;
        }
    if (level == IPPROTO_TCP && s->ops == &tcp_ops)
        switch (option) {
        case TCP_NODELAY:
            return s->no_delay;
        case TCP_CORK:
            return s->cork;
        case TCP_KEEPIDLE:
            return s->keep_idle;
        case TCP_KEEPINTVL:
            return s->keep_interval;
        case TCP_KEEPCNT:
            return s->keep_count;
        case TCP_MAXSEG:
            return 1460;
        }
    if (level == IPPROTO_IP && s->ops->domain == AF_INET)
        switch (option) {
        case IP_TOS:
            return s->tos;
        case IP_TTL:
            return s->ttl;
        }
    return -ENOPROTOOPT;
}

static int64_t give(uint64_t at, uint64_t len_at, const void *value, uint32_t size)
{
    uint32_t room;

    if (copy_in(&room, len_at, sizeof room))
        return -EFAULT;
    if ((int32_t)room < 0)
        return -EINVAL;
    size = (uint32_t)least(size, room);
    return copy_out(at, value, size) || copy_out(len_at, &size, sizeof size) ? -EFAULT : 0;
}

int64_t sys_getsockopt(uint64_t fd, uint64_t level, uint64_t option, uint64_t at, uint64_t len_at)
{
    struct socket *s;
    int64_t n;
    struct file *f = socket_get(fd, &s, &n);

    if (!f)
        return n;
    bool of_socket = (uint32_t)level == SOL_SOCKET;

    if (of_socket && ((uint32_t)option == SO_RCVTIMEO_OLD || (uint32_t)option == SO_SNDTIMEO_OLD)) {
        uint64_t ns = (uint32_t)option == SO_RCVTIMEO_OLD ? s->receive_wait : s->send_wait;
        uint64_t t[2] = {ns / NS, ns % NS / 1000};

        n = give(at, len_at, t, sizeof t);
    } else if (of_socket && (uint32_t)option == SO_LINGER) {
        uint32_t v[2] = {s->linger, s->linger_seconds};

        n = give(at, len_at, v, sizeof v);
    } else if (of_socket && (uint32_t)option == SO_PEERCRED && s->ops->domain == AF_UNIX) {
        uint32_t v[3] = {1, user.effective, group.effective};

        n = give(at, len_at, v, sizeof v);
    } else {
        n = get_number(s, (uint32_t)level, (uint32_t)option);
        int32_t v = (int32_t)n;

        if (n >= 0)
            n = give(at, len_at, &v, sizeof v);
    }
    file_drop(f);
    return n;
}
