/* Standard input and output, /dev. */
#include <asm/fcntl.h>
#include <asm/ioctls.h>
#include <asm/poll.h>
#include <linux/stat.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/process.h"

static int64_t console_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    (void)pos;
    if (!len)
        return 0;
    for (;;) {
        int64_t n = monitor_call(MAYFLY_CALL_READ, VECTOR_INPUT, bounce, least(len, BOUNCE));

        if (n >= 0)
            return copy_out(buf, bounce, (size_t)n) ? -EFAULT : n;
        if (n != -EAGAIN || f->flags & O_NONBLOCK)
            return n;
        n = thread_wait(&input_key, NEVER);
        if (n)
            return n;
    }
}

int64_t console_put(const struct file *f, uint64_t n)
{
    uint32_t fd = (uintptr_t)f->data == 2 ? 2 : 1;

    /* The monitor ends a program whose reader has gone, as SIGPIPE would; one that has its own way
     * with that signal wants to know of it. */
    if (fd == 1 && (actions[SIGPIPE].sa_handler != SIG_DFL || current->mask & BIT(SIGPIPE)))
        fd |= MAYFLY_WRITE_THROUGH;
    int64_t took;

    do { /* 0: the monitor was interrupted, and has something else to do first */
        took = monitor_call(MAYFLY_CALL_WRITE, fd, bounce, n);
    } while (!took && n);
    if (took == -EPIPE)
        signal_send(current, SIGPIPE, SI_USER, 0);
    return took;
}

static int64_t console_write(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    uint64_t done = 0;

    (void)pos;
    while (done < len) {
        uint64_t n = least(len - done, BOUNCE);

        if (copy_in(bounce, buf + done, n))
            return done ? (int64_t)done : -EFAULT;
        int64_t took = console_put(f, n);

        if (took <= 0)
            return done ? (int64_t)done : took;
        done += (uint64_t)took;
    }
    return (int64_t)done;
}

static unsigned console_poll(struct file *f)
{
    unsigned out = POLLOUT | POLLWRNORM;

    if (f->data)
        return out;
    return monitor_call(MAYFLY_CALL_INPUT, VECTOR_INPUT, NULL, 0) > 0 ? POLLIN | POLLRDNORM : 0;
}

static int64_t tty(const struct file *f, uint64_t cmd, uint64_t arg, size_t size, bool sets)
{
    char data[64] __attribute__((aligned(8))) = {0};

    if (sets && copy_in(data, arg, size))
        return -EFAULT;
    int64_t err =
        monitor_call(MAYFLY_CALL_TTY, (uint32_t)(cmd << 2 | (uintptr_t)f->data), data, size);

    return err || sets ? err : copy_out(arg, data, size);
}

/* A terminal is the host's own, line discipline and all. */
static int64_t console_ioctl(struct file *f, uint64_t cmd, uint64_t arg)
{
    enum { TERMIOS_BYTES = 36 };
    uint32_t group = 1;

    if (!(boot.flags & MAYFLY_BOOT_TTY((uintptr_t)f->data)))
        return -ENOTTY;
    switch (cmd) {
    case TCGETS:
        return tty(f, cmd, arg, TERMIOS_BYTES, false);
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
        return tty(f, cmd, arg, TERMIOS_BYTES, true);
    case TIOCGWINSZ:
        return tty(f, cmd, arg, 8, false);
    case TIOCGPGRP:
        return copy_out(arg, &group, sizeof group);
    case TIOCSPGRP:
        return 0;
    default:
        return -ENOTTY;
    }
}

const struct file_ops console_ops = {
    .read = console_read, .write = console_write, .poll = console_poll, .ioctl = console_ioctl};

static unsigned always(struct file *f)
{
    (void)f;
    return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
}

static int64_t null_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    (void)f, (void)buf, (void)len, (void)pos;
    return 0;
}

static int64_t null_write(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    (void)f, (void)buf, (void)pos;
    return (int64_t)len;
}

static int64_t full_write(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    (void)f, (void)buf, (void)len, (void)pos;
    return -ENOSPC;
}

static int64_t zero_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    (void)f, (void)pos;
    return clear_out(buf, len) ? -EFAULT : (int64_t)len;
}

static int64_t random_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    (void)f, (void)pos;
    for (uint64_t done = 0; done < len; done += BOUNCE) {
        uint64_t n = least(len - done, BOUNCE);

        random_bytes(bounce, n);
        if (copy_out(buf + done, bounce, n))
            return done ? (int64_t)done : -EFAULT;
    }
    return (int64_t)len;
}

static const struct file_ops null_ops = {
    .read = null_read, .write = null_write, .poll = always, .seekable = true};
static const struct file_ops zero_ops = {
    .read = zero_read, .write = null_write, .poll = always, .seekable = true};
static const struct file_ops full_ops = {
    .read = zero_read, .write = full_write, .poll = always, .seekable = true};
static const struct file_ops random_ops = {
    .read = random_read, .write = null_write, .poll = always};

int64_t sys_getrandom(uint64_t buf, uint64_t len, uint64_t flags)
{
    return flags & ~7ull ? -EINVAL : random_read(NULL, buf, least(len, 1u << 25), NULL);
}

static void place_device(const char *path, const struct file_ops *ops, uint64_t rdev)
{
    struct inode *i = inode_new(S_IFCHR | 0666);

    i->ops = ops;
    i->rdev = rdev;
    fs_place(path, i);
}

void devices_init(void)
{
    place_device("/dev/null", &null_ops, 0x103);
    place_device("/dev/zero", &zero_ops, 0x105);
    place_device("/dev/full", &full_ops, 0x107);
    place_device("/dev/tty", &null_ops, 0x500); /* opened by path.c */
    place_device("/dev/random", &random_ops, 0x108);
    place_device("/dev/urandom", &random_ops, 0x109);
    fs_place("/dev/shm", inode_new(S_IFDIR | 01777));
}
