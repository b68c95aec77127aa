/* Waiting for files: poll, select. A waiter looks at its files, and again whenever anything that
 * can be polled has changed. */
#include <asm/fcntl.h>
#include <asm/poll.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/poll.h"
#include "guests/runtime/process.h"

unsigned poll_ready(struct file *f)
{
    return f->ops->poll ? f->ops->poll(f) : POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
}

/* --- poll --- */

static int64_t poll_once(uint64_t at, uint64_t n)
{
    int64_t found = 0;

    for (uint64_t i = 0; i < n; i++) {
        struct pollfd p;

        if (copy_in(&p, at + i * sizeof p, sizeof p))
            return -EFAULT;
        struct file *f = p.fd < 0 ? NULL : fd_file((uint64_t)p.fd);

        if (p.fd < 0)
            p.revents = 0;
        else if (!f)
            p.revents = POLLNVAL;
        else
            p.revents = (short)(poll_ready(f) & ((unsigned)p.events | POLLERR | POLLHUP));
        if (copy_out(at + i * sizeof p, &p, sizeof p))
            return -EFAULT;
        found += p.revents != 0;
    }
    return found;
}

static int64_t do_poll(uint64_t at, uint64_t n, uint64_t deadline)
{
    if (n > MAX_FDS)
        return -EINVAL;
    for (;;) {
        int64_t found = poll_once(at, n), err;

        if (found || deadline <= clock_ns())
            return found;
        err = thread_wait(&poll_key, deadline);
        if (err == -ETIMEDOUT)
            return poll_once(at, n);
        if (err)
            return -EINTR;
    }
}

uint64_t poll_after_ms(uint64_t ms)
{
    return (int32_t)ms < 0 ? NEVER : clock_ns() + (uint32_t)ms * (NS / 1000);
}

int poll_deadline_in(uint64_t timeout, uint64_t *deadline)
{
    uint64_t ns;
    int err;

    *deadline = NEVER;
    if (!timeout)
        return 0;
    err = timespec_in(timeout, &ns);
    if (!err)
        *deadline = clock_ns() + ns;
    return err;
}

int64_t sys_poll(uint64_t at, uint64_t n, uint64_t ms)
{
    return do_poll(at, n, poll_after_ms(ms));
}

int64_t sys_ppoll(uint64_t at, uint64_t n, uint64_t timeout, uint64_t mask, uint64_t size)
{
    uint64_t deadline;
    int err = poll_deadline_in(timeout, &deadline);

    if (!err)
        err = signal_swap_mask(mask, size);
    return err ? err : do_poll(at, n, deadline);
}

/* --- select --- */

#define SET_WORDS (MAX_FDS / 64)

static int64_t select_once(uint64_t n, uint64_t in[3][SET_WORDS], uint64_t out[3][SET_WORDS])
{
    static const unsigned wants[3] = {POLLIN | POLLHUP | POLLERR, POLLOUT | POLLERR, POLLPRI};
    int64_t found = 0;

    fill(out, 0, 3 * SET_WORDS * 8);
    for (uint64_t fd = 0; fd < n; fd++)
        for (unsigned s = 0; s < 3; s++) {
            if (!(in[s][fd / 64] >> fd % 64 & 1))
                continue;
            struct file *f = fd_file(fd);

            if (!f)
                return -EBADF;
            if (poll_ready(f) & wants[s]) {
                out[s][fd / 64] |= 1ull << fd % 64;
                found++;
            }
        }
    return found;
}

static int64_t do_select(uint64_t n, const uint64_t sets[3], uint64_t deadline)
{
    uint64_t in[3][SET_WORDS] = {0}, out[3][SET_WORDS], bytes;
    int64_t found;

    if ((int32_t)n < 0)
        return -EINVAL;
    n = least((uint32_t)n, MAX_FDS);
    bytes = (n + 63) / 64 * 8;
    for (unsigned s = 0; s < 3; s++)
        if (sets[s] && copy_in(in[s], sets[s], bytes))
            return -EFAULT;
    for (;;) {
        found = select_once(n, in, out);
        if (found || deadline <= clock_ns())
            break;
        int64_t err = thread_wait(&poll_key, deadline);

        if (err == -ERESTARTSYS)
            return -EINTR;
    }
    for (unsigned s = 0; s < 3 && found >= 0; s++)
        if (sets[s] && copy_out(sets[s], out[s], bytes))
            return -EFAULT;
    return found;
}

int64_t sys_select(uint64_t n, uint64_t r, uint64_t w, uint64_t e, uint64_t timeout)
{
    uint64_t deadline = NEVER, sets[3] = {r, w, e};
    int64_t t[2];

    if (timeout) {
        if (copy_in(t, timeout, sizeof t))
            return -EFAULT;
        if (t[0] < 0 || t[1] < 0)
            return -EINVAL;
        deadline = clock_ns() + least((uint64_t)t[0], 9000000000) * NS +
                   (uint64_t)t[1] % 1000000000 * 1000;
    }
    return do_select(n, sets, deadline);
}

int64_t sys_pselect6(uint64_t n, uint64_t r, uint64_t w, uint64_t e, uint64_t timeout,
                     uint64_t mask)
{
    uint64_t deadline, sets[3] = {r, w, e}, pair[2] = {0, 0};
    int err = poll_deadline_in(timeout, &deadline);

    if (!err && mask && copy_in(pair, mask, sizeof pair))
        err = -EFAULT;
    if (!err)
        err = signal_swap_mask(pair[0], pair[1]);
    return err ? err : do_select(n, sets, deadline);
}
