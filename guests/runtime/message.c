/* Calls that move data: send and receive, with addresses and arrays of buffers. */
#include <asm/fcntl.h>
#include "guests/runtime/net.h"
#include "guests/runtime/address.h"
#include "guests/runtime/process.h"

#define IOV_LIMIT 1024u
#define LEN_LIMIT 0x7ffff000ull

/* --- spans --- */

struct iovec {
    uint64_t base, len;
};

int span_of_buffer(struct span *s, uint64_t at, uint64_t len)
{
    len = least(len, LEN_LIMIT);
    *s = (struct span){.at = at, .here = len, .left = len};
    return user_range(at, len) ? 0 : -EFAULT;
}

int span_of_iov(struct span *s, uint64_t iov, uint64_t count)
{
    struct iovec v;

    if (count > IOV_LIMIT)
        return -EMSGSIZE;
    *s = (struct span){.iov = iov, .count = count};
    for (uint64_t i = 0; i < count; i++) {
        if (copy_in(&v, iov + i * sizeof v, sizeof v) || !user_range(v.base, v.len))
            return -EFAULT;
        s->left += v.len;
    }
    s->left = least(s->left, LEN_LIMIT);
    return 0;
}

static int move(struct span *s, void *mem, uint64_t n, bool out)
{
    char *p = mem;

    while (n) {
        struct iovec v;
        uint64_t k = least(n, s->here);
        int err = out ? copy_out(s->at, p, k) : copy_in(p, s->at, k);

        if (err)
            return err;
        s->at += k;
        s->here -= k;
        s->left -= least(k, s->left);
        p += k;
        n -= k;
        if (!n || s->here)
            continue;
        if (!s->count || copy_in(&v, s->iov, sizeof v))
            return -EFAULT;
        s->iov += sizeof v;
        s->count--;
        s->at = v.base;
        s->here = v.len;
    }
    return 0;
}

int span_read(struct span *s, void *dst, uint64_t n)
{
    return move(s, dst, n, false);
}

int span_write(struct span *s, const void *src, uint64_t n)
{
    return move(s, (void *)(uintptr_t)src, n, true);
}

/* --- calls --- */

static unsigned with_file(const struct file *f, uint64_t flags)
{
    return (unsigned)flags | (f->flags & O_NONBLOCK ? MSG_DONTWAIT : 0);
}

int64_t sys_sendto(uint64_t fd, uint64_t buf, uint64_t len, uint64_t flags, uint64_t to,
                   uint64_t to_len)
{
    struct socket *s;
    struct span span;
    struct endpoint e;
    int64_t n;
    struct file *f = socket_get(fd, &s, &n);

    if (!f)
        return n;
    n = span_of_buffer(&span, buf, len);
    if (!n && flags & MSG_OOB)
        n = -EOPNOTSUPP;
    if (!n && to)
        n = address_in(s, &e, to, to_len);
    if (!n)
        n = s->ops->send(s, &span, with_file(f, flags), to ? &e : NULL);
    file_drop(f);
    return n;
}

int64_t sys_recvfrom(uint64_t fd, uint64_t buf, uint64_t len, uint64_t flags, uint64_t from,
                     uint64_t from_len)
{
    struct socket *s;
    struct span span;
    struct endpoint e = {0, 0, NULL};
    int64_t n, err;
    struct file *f = socket_get(fd, &s, &n);

    if (!f)
        return n;
    unsigned all = with_file(f, flags);

    n = flags & MSG_ERRQUEUE ? -EAGAIN
        : flags & MSG_OOB    ? -EINVAL
                             : span_of_buffer(&span, buf, len);
    if (!n)
        n = s->ops->recv(s, &span, &all, &e);
    /* A connection's bytes come without a name. */
    if (n >= 0 && from && s->ops->type == SOCK_STREAM) {
        uint32_t none = 0;

        if (copy_out(from_len, &none, sizeof none))
            n = -EFAULT;
    } else if (n >= 0 && (err = address_out(s, &e, from, from_len))) {
        n = err;
    }
    file_drop(f);
    return n;
}

struct message {
    uint64_t name;
    uint32_t name_len, pad0;
    uint64_t iov, iov_count, control, control_len;
    uint32_t flags, pad1;
};

static int64_t send_message(struct file *f, struct socket *s, uint64_t at, unsigned flags)
{
    struct message m;
    struct span span;
    struct endpoint e;
    int64_t n;

    if (copy_in(&m, at, sizeof m))
        return -EFAULT;
    n = span_of_iov(&span, m.iov, m.iov_count);
    if (!n && (flags & MSG_OOB || (m.control_len && s->ops->domain == AF_UNIX)))
        n = -EOPNOTSUPP; /* descriptors are not passed */
    if (!n && m.name && m.name_len)
        n = address_in(s, &e, m.name, m.name_len);
    if (!n)
        n = s->ops->send(s, &span, with_file(f, flags), m.name && m.name_len ? &e : NULL);
    return n;
}

static int64_t receive_message(struct file *f, struct socket *s, uint64_t at, unsigned flags)
{
    struct message m;
    struct span span;
    struct endpoint e = {0, 0, NULL};
    unsigned all = with_file(f, flags);
    int64_t n, err;

    if (copy_in(&m, at, sizeof m))
        return -EFAULT;
    n = flags & MSG_ERRQUEUE ? -EAGAIN
        : flags & MSG_OOB    ? -EINVAL
                             : span_of_iov(&span, m.iov, m.iov_count);
    if (!n)
        n = s->ops->recv(s, &span, &all, &e);
    if (n < 0)
        return n;
    uint64_t name_len_at = at + offsetof(struct message, name_len);

    if (s->ops->type == SOCK_STREAM) {
        m.name_len = 0;
        if (copy_out(name_len_at, &m.name_len, sizeof m.name_len))
            return -EFAULT;
    } else if ((err = address_out(s, &e, m.name, name_len_at))) {
        return err;
    }
    m.control_len = 0;
    m.flags = all & MSG_TRUNC && s->ops->type == SOCK_DGRAM ? MSG_TRUNC : 0;
    if (copy_out(at + offsetof(struct message, control_len), &m.control_len, 8) ||
        copy_out(at + offsetof(struct message, flags), &m.flags, 4))
        return -EFAULT;
    return n;
}

typedef int64_t message_fn(struct file *f, struct socket *s, uint64_t at, unsigned flags);

static int64_t one_message(uint64_t fd, uint64_t at, uint64_t flags, message_fn *pass)
{
    struct socket *s;
    int64_t n;
    struct file *f = socket_get(fd, &s, &n);

    if (!f)
        return n;
    n = pass(f, s, at, (unsigned)flags);
    file_drop(f);
    return n;
}

int64_t sys_sendmsg(uint64_t fd, uint64_t at, uint64_t flags)
{
    return one_message(fd, at, flags, send_message);
}

int64_t sys_recvmsg(uint64_t fd, uint64_t at, uint64_t flags)
{
    return one_message(fd, at, flags, receive_message);
}

struct many {
    struct message message;
    uint32_t len, pad;
};

/* Until count of them are done, one fails, or it is too late. later: flags of all but the first. */
static int64_t many_messages(uint64_t fd, uint64_t at, uint64_t count, unsigned flags,
                             unsigned later, uint64_t until, message_fn *pass)
{
    struct socket *s;
    int64_t n, done = 0;
    struct file *f = socket_get(fd, &s, &n);

    if (!f)
        return n;
    for (n = 0; done < (int64_t)least((uint32_t)count, IOV_LIMIT) && clock_ns() < until; done++) {
        uint64_t one = at + (uint64_t)done * sizeof(struct many);

        n = pass(f, s, one, done ? flags | later : flags);
        if (n >= 0 && copy_out(one + offsetof(struct many, len), &n, 4))
            n = -EFAULT;
        if (n < 0)
            break;
    }
    file_drop(f);
    return done ? done : n < 0 ? n : 0;
}

int64_t sys_sendmmsg(uint64_t fd, uint64_t at, uint64_t count, uint64_t flags)
{
    return many_messages(fd, at, count, (unsigned)flags, 0, NEVER, send_message);
}

int64_t sys_recvmmsg(uint64_t fd, uint64_t at, uint64_t count, uint64_t flags, uint64_t timeout)
{
    unsigned first = (unsigned)flags & ~(unsigned)MSG_WAITFORONE;
    uint64_t ns = 0;
    int64_t err = timeout ? timespec_in(timeout, &ns) : 0;

    return err ? err
               : many_messages(fd, at, count, first, flags & MSG_WAITFORONE ? MSG_DONTWAIT : 0,
                               timeout ? clock_ns() + ns : NEVER, receive_message);
}
