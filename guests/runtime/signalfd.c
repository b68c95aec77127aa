/* signalfd(2): pending signals, read from a descriptor. */
#include <asm/fcntl.h>
#include <asm/poll.h>
#include <linux/signalfd.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/process.h"

struct set {
    uint64_t signals;
};

static unsigned count; /* of descriptors */
static char key;

void signalfd_notify(void)
{
    if (!count)
        return;
    thread_wake(&key);
    thread_wake(&poll_key);
}

static void describe(struct signalfd_siginfo *out, const siginfo_t *info)
{
    uint64_t value = *(const uint64_t *)((const char *)info + 24);

    *out =
        (struct signalfd_siginfo){.ssi_signo = (uint32_t)info->si_signo, .ssi_code = info->si_code};
    if (info->si_code > 0 && info->si_code != SI_KERNEL) {
        out->ssi_addr = (uintptr_t)info->si_addr;
        return;
    }
    out->ssi_pid = (uint32_t)info->si_pid;
    out->ssi_int = (int32_t)value;
    out->ssi_ptr = value;
}

static int64_t signalfd_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct set *s = f->data;
    uint64_t done = 0;
    siginfo_t info;

    (void)pos;
    if (len < sizeof(struct signalfd_siginfo))
        return -EINVAL;
    while (len - done >= sizeof(struct signalfd_siginfo)) {
        struct signalfd_siginfo out;

        if (!signal_take(s->signals, &info)) {
            if (done)
                break;
            int64_t err = file_wait(f, &key);

            if (err)
                return err;
            continue;
        }
        describe(&out, &info);
        if (copy_out(buf + done, &out, sizeof out))
            return done ? (int64_t)done : -EFAULT;
        done += sizeof out;
    }
    return (int64_t)done;
}

static unsigned signalfd_poll(struct file *f)
{
    const struct set *s = f->data;

    return (current->pending | process_pending) & s->signals ? POLLIN | POLLRDNORM : 0;
}

static void signalfd_release(struct file *f)
{
    kfree(f->data, sizeof(struct set));
    count--;
}

static const struct file_ops signalfd_ops = {
    .read = signalfd_read, .poll = signalfd_poll, .release = signalfd_release};

int64_t sys_signalfd4(uint64_t fd, uint64_t at, uint64_t size, uint64_t flags)
{
    uint64_t signals;

    if (size != 8 || flags & ~(uint64_t)(SFD_CLOEXEC | SFD_NONBLOCK))
        return -EINVAL;
    if (copy_in(&signals, at, 8))
        return -EFAULT;
    signals &= ~(BIT(SIGKILL) | BIT(SIGSTOP));
    if ((int32_t)fd != -1) {
        struct file *f = fd_file(fd);

        if (!f || f->ops != &signalfd_ops)
            return f ? -EINVAL : -EBADF;
        ((struct set *)f->data)->signals = signals;
        signalfd_notify();
        return (int64_t)(uint32_t)fd;
    }
    struct set *s = kalloc(sizeof *s);
    struct file *f =
        s ? file_new(&signalfd_ops, NULL, O_RDWR | ((uint32_t)flags & O_NONBLOCK)) : NULL;

    if (!f) {
        kfree(s, sizeof *s);
        return -ENFILE;
    }
    s->signals = signals;
    f->data = s;
    count++;
    return fd_install(f, 0, flags & SFD_CLOEXEC);
}

int64_t sys_signalfd(uint64_t fd, uint64_t at, uint64_t size)
{
    return sys_signalfd4(fd, at, size, 0);
}
