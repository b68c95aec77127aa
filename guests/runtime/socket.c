/* Sockets as descriptors, and the calls that neither move data nor set options. */
#include "guests/runtime/socket.h"
#include <asm/fcntl.h>
#include <asm/ioctls.h>
#include <asm/poll.h>
#include <linux/in.h>
#include "guests/runtime/net.h"
#include "guests/runtime/address.h"
#include "guests/runtime/net/vsock.h"
#include "guests/runtime/process.h"
#include "guests/runtime/unix.h"

enum { SOCK_CLOEXEC = O_CLOEXEC, SOCK_NONBLOCK = O_NONBLOCK, SOCK_TYPE_MASK = 15 };

static int64_t socket_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct socket *s = f->data;
    unsigned flags = f->flags & O_NONBLOCK ? MSG_DONTWAIT : 0;
    struct span to;

    (void)pos;
    return span_of_buffer(&to, buf, len) ? -EFAULT : s->ops->recv(s, &to, &flags, NULL);
}

static int64_t socket_write(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct socket *s = f->data;
    unsigned flags = f->flags & O_NONBLOCK ? MSG_DONTWAIT : 0;
    struct span from;

    (void)pos;
    return span_of_buffer(&from, buf, len) ? -EFAULT : s->ops->send(s, &from, flags, NULL);
}

static int64_t socket_vector(struct file *f, uint64_t iov, uint64_t count, bool write)
{
    struct socket *s = f->data;
    unsigned flags = f->flags & O_NONBLOCK ? MSG_DONTWAIT : 0;
    struct span span;

    if (span_of_iov(&span, iov, count))
        return -EFAULT;
    return write ? s->ops->send(s, &span, flags, NULL) : s->ops->recv(s, &span, &flags, NULL);
}

static unsigned socket_poll(struct file *f)
{
    struct socket *s = f->data;

    return s->ops->poll(s);
}

/* What a call may have given the network to do, where there is one. */
static void settle(void)
{
    if (net_settle)
        net_settle();
}

static int64_t file_ioctl(struct file *f, uint64_t cmd, uint64_t arg)
{
    struct socket *s = f->data;
    uint32_t n;

    if (cmd == FIONREAD && s->ops->readable) {
        n = (uint32_t)s->ops->readable(s);
        return copy_out(arg, &n, sizeof n);
    }
    return socket_ioctl ? socket_ioctl(s, cmd, arg) : -ENOTTY;
}

static void socket_release(struct file *f)
{
    struct socket *s = f->data;

    s->ops->close(s);
}

static const struct file_ops socket_ops = {.read = socket_read,
                                           .write = socket_write,
                                           .poll = socket_poll,
                                           .ioctl = file_ioctl,
                                           .release = socket_release,
                                           .vector = socket_vector};

struct socket *socket_of(struct file *f)
{
    return f && f->ops == &socket_ops ? f->data : NULL;
}

struct socket *socket_new(const struct socket_ops *ops)
{
    struct socket *s = kalloc(sizeof *s);

    if (!s)
        return NULL;
    s->ops = ops;
    s->receive_buffer = s->send_buffer = 212992;
    s->keep_idle = 7200;
    s->keep_interval = 75;
    s->keep_count = 9;
    s->ttl = 64;
    return s;
}

void socket_free(struct socket *s)
{
    kfree(s, sizeof *s);
}

int64_t socket_install(struct socket *s, uint64_t flags)
{
    struct file *f = file_new(&socket_ops, NULL, O_RDWR | ((uint32_t)flags & O_NONBLOCK));

    if (!f) {
        s->ops->close(s);
        return -ENFILE;
    }
    f->data = s;
    return fd_install(f, 0, flags & SOCK_CLOEXEC);
}

void socket_changed(struct socket *s)
{
    thread_wake(s);
    thread_wake(&poll_key);
}

int64_t socket_wait(struct socket *s, uint64_t limit, uint64_t *began)
{
    int64_t err;

    if (!*began)
        *began = clock_ns();
    err = thread_wait(s, limit ? *began + limit : NEVER);
    return err == -ETIMEDOUT ? -EAGAIN : err;
}

int64_t socket_error(struct socket *s)
{
    int e = s->error;

    s->error = 0;
    return -e;
}

/* The socket of a descriptor, held till socket_put(): another thread may close it while we wait. */
static struct file *get(uint64_t fd, struct socket **s, int64_t *err)
{
    struct file *f = fd_file(fd);

    *s = socket_of(f);
    *err = !f ? -EBADF : !*s ? -ENOTSOCK : 0;
    if (!*s)
        return NULL;
    file_hold(f);
    return f;
}

struct file *socket_get(uint64_t fd, struct socket **s, int64_t *err)
{
    return get(fd, s, err);
}

static bool waits(const struct file *f)
{
    return !(f->flags & O_NONBLOCK);
}

/* --- addresses --- */

int address_in(const struct socket *s, struct endpoint *e, uint64_t at, uint64_t len)
{
    struct sockaddr_in a = {0};

    if (vsock_address_in && s->ops->domain == AF_VSOCK)
        return vsock_address_in(e, at, len);
    if (s->ops->domain == AF_UNIX) {
        static struct unix_name name; /* used before anybody waits */
        int err = unix_name_in(&name, at, len);

        e->name = &name;
        return err;
    }
    if ((uint32_t)len < sizeof a)
        return -EINVAL;
    if (copy_in(&a, at, sizeof a))
        return -EFAULT;
    if (a.sin_family != AF_INET)
        return -EAFNOSUPPORT;
    *e = (struct endpoint){a.sin_addr.s_addr, a.sin_port, NULL};
    return 0;
}

int address_out(const struct socket *s, const struct endpoint *e, uint64_t at, uint64_t len_at)
{
    struct sockaddr_in a = {.sin_family = s->ops->domain};
    uint32_t room, size = s->ops->domain == AF_INET ? sizeof a : sizeof a.sin_family;

    if (!at)
        return 0;
    if (copy_in(&room, len_at, sizeof room))
        return -EFAULT;
    if ((int32_t)room < 0)
        return -EINVAL;
    if (vsock_address_out && s->ops->domain == AF_VSOCK)
        return vsock_address_out(e, at, room, len_at);
    if (s->ops->domain == AF_UNIX) {
        size = 0; /* a datagram of nobody */
        return e->name ? unix_name_out(e->name, at, room, len_at)
                       : copy_out(len_at, &size, sizeof size);
    }
    a.sin_addr.s_addr = e->address;
    a.sin_port = (uint16_t)e->port;
    if (copy_out(at, &a, least(room, size)) || copy_out(len_at, &size, sizeof size))
        return -EFAULT;
    return 0;
}

/* --- the calls --- */

/* A program that wants a network where there is none tells its user little: "Address family not
 * supported by protocol". */
static void tell_no_network(void)
{
    static bool said;

    if (!said)
        say("mayfly: %s: socket: no network here; run it with --net user, --net tap=NAME or --net "
            "lo, or --vsock",
            program_name());
    said = true;
}

int64_t sys_socket(uint64_t domain, uint64_t type, uint64_t protocol)
{
    const struct socket_ops *ops;
    struct socket *s;
    bool opened;

    if (vsock_socket && (uint32_t)domain == AF_VSOCK)
        return vsock_socket(type, protocol);
    if ((uint32_t)domain == AF_UNIX)
        return unix_socket(type, protocol);
    if (!tcp_open || !udp_open)
        tell_no_network();
    if ((uint32_t)domain != AF_INET || !tcp_open || !udp_open)
        return -EAFNOSUPPORT;
    switch (type & SOCK_TYPE_MASK) {
    case SOCK_STREAM:
        ops = &tcp_ops;
        break;
    case SOCK_DGRAM:
        ops = &udp_ops;
        break;
    default:
        return (type & SOCK_TYPE_MASK) > 10 ? -EINVAL : -EPROTONOSUPPORT;
    }
    if (protocol && (uint32_t)protocol != ops->protocol)
        return -EPROTONOSUPPORT;
    s = socket_new(ops);
    if (!s)
        return -ENOMEM;
    opened = ops == &tcp_ops ? tcp_open(s) : udp_open(s);
    if (!opened) {
        socket_free(s);
        return -ENOMEM;
    }
    return socket_install(s, type);
}

int64_t sys_bind(uint64_t fd, uint64_t at, uint64_t len)
{
    struct socket *s;
    struct endpoint e;
    int64_t err;
    struct file *f = get(fd, &s, &err);

    if (!f)
        return err;
    err = s->ops->bind ? address_in(s, &e, at, len) : -EOPNOTSUPP;
    if (!err && s->ops->domain == AF_INET && net_is_ours && !net_is_ours(e.address))
        err = -EADDRNOTAVAIL;
    if (!err)
        err = s->ops->bind(s, &e);
    file_drop(f);
    return err;
}

int64_t sys_listen(uint64_t fd, uint64_t backlog)
{
    struct socket *s;
    int64_t err;
    struct file *f = get(fd, &s, &err);

    if (!f)
        return err;
    err = s->ops->listen ? s->ops->listen(s, (unsigned)least((uint32_t)backlog, 255)) : -EOPNOTSUPP;
    file_drop(f);
    return err;
}

int64_t sys_accept4(uint64_t fd, uint64_t at, uint64_t len_at, uint64_t flags)
{
    struct socket *s, *got;
    struct endpoint e = {0, 0, NULL};
    int64_t err, n;
    struct file *f = get(fd, &s, &err);

    if (!f)
        return err;
    if (flags & ~(uint64_t)(SOCK_CLOEXEC | SOCK_NONBLOCK)) {
        file_drop(f);
        return -EINVAL;
    }
    err = -EOPNOTSUPP;
    got = s->ops->accept ? s->ops->accept(s, waits(f), &err) : NULL;
    file_drop(f);
    if (!got)
        return err;
    got->ops->name(got, &e, true);
    if (at && (err = address_out(got, &e, at, len_at))) {
        got->ops->close(got);
        return err;
    }
    n = socket_install(got, flags);
    settle();
    return n;
}

int64_t sys_accept(uint64_t fd, uint64_t at, uint64_t len_at)
{
    return sys_accept4(fd, at, len_at, 0);
}

int64_t sys_connect(uint64_t fd, uint64_t at, uint64_t len)
{
    enum { AF_UNSPEC_BYTES = 2 };
    struct socket *s;
    struct endpoint e = {0, 0, NULL};
    uint16_t family = AF_UNSPEC;
    int64_t err;
    struct file *f = get(fd, &s, &err);

    if (!f)
        return err;
    if ((uint32_t)len < AF_UNSPEC_BYTES)
        err = -EINVAL;
    else if (copy_in(&family, at, sizeof family))
        err = -EFAULT;
    else if (family == AF_UNSPEC && s->ops->type == SOCK_DGRAM)
        err = s->ops->connect(s, NULL, false);
    else
        err = s->ops->connect ? address_in(s, &e, at, len) : -EISCONN;
    if (!err && family != AF_UNSPEC)
        err = s->ops->connect(s, &e, waits(f));
    file_drop(f);
    return err;
}

static int64_t name(uint64_t fd, uint64_t at, uint64_t len_at, bool peer)
{
    struct socket *s;
    struct endpoint e = {0, 0, NULL};
    int64_t err;
    struct file *f = get(fd, &s, &err);

    if (!f)
        return err;
    err = s->ops->name(s, &e, peer);
    if (!err)
        err = at ? address_out(s, &e, at, len_at) : -EFAULT;
    file_drop(f);
    return err;
}

int64_t sys_getsockname(uint64_t fd, uint64_t at, uint64_t len_at)
{
    return name(fd, at, len_at, false);
}

int64_t sys_getpeername(uint64_t fd, uint64_t at, uint64_t len_at)
{
    return name(fd, at, len_at, true);
}

int64_t sys_shutdown(uint64_t fd, uint64_t how)
{
    struct socket *s;
    int64_t err;
    struct file *f = get(fd, &s, &err);

    if (!f)
        return err;
    err = (uint32_t)how > SHUT_BOTH ? -EINVAL : s->ops->shutdown(s, (unsigned)how);
    settle();
    file_drop(f);
    return err;
}
