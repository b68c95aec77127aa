/*
 * futex(2): wait, wake, requeue, bitsets, wake-op, and the locks whose word the kernel writes: PI
 * (an ordinary queue here: threads have no priorities) and robust ones. One address space: the
 * address is the key.
 */
#include "guests/runtime/futex.h"
#include <linux/futex.h>
#include "guests/runtime/process.h"

static char futex_key;

/* Who has waited longest. */
static struct thread *first_waiter(uint64_t at, uint32_t bits)
{
    struct thread *best = NULL;

    for (struct thread *t = thread_list(); t; t = t->next)
        if (t->state == WAITING && t->futex == at && t->futex_bits & bits &&
            (!best || t->turn < best->turn))
            best = t;
    return best;
}

unsigned futex_wake(uint64_t at, unsigned n, uint32_t bits)
{
    unsigned woken = 0;
    struct thread *t;

    while (woken < n && (t = first_waiter(at, bits))) {
        thread_ready(t, 0);
        woken++;
    }
    return woken;
}

static int64_t futex_wait(uint64_t at, uint32_t want, uint64_t deadline, uint32_t bits)
{
    uint32_t have;
    int64_t err;

    if (!bits)
        return -EINVAL;
    if (copy_in(&have, at, 4))
        return -EFAULT;
    if (have != want)
        return -EAGAIN;
    current->futex = at;
    current->futex_bits = bits;
    err = thread_wait(&futex_key, deadline);
    current->futex = 0;
    return err == -ERESTARTSYS && deadline != NEVER ? -EINTR : err;
}

static int64_t requeue(uint64_t from, unsigned wake, unsigned move, uint64_t to)
{
    int64_t n = futex_wake(from, wake, ~0u);
    struct thread *t;

    while (move-- && (t = first_waiter(from, ~0u))) {
        t->futex = to;
        n++;
    }
    return n;
}

static int64_t wake_op(uint64_t a, unsigned wake, unsigned wake2, uint64_t b, uint32_t op)
{
    uint32_t old, new, arg = op >> 12 & 0xfff, cmp = op & 0xfff;
    bool yes;

    if (op >> 28 & FUTEX_OP_OPARG_SHIFT)
        arg = 1u << (arg & 31);
    if (copy_in(&old, b, 4))
        return -EFAULT;
    switch (op >> 28 & 7) {
    case FUTEX_OP_SET:
        new = arg;
        break;
    case FUTEX_OP_ADD:
        new = old + arg;
        break;
    case FUTEX_OP_OR:
        new = old | arg;
        break;
    case FUTEX_OP_ANDN:
        new = old & ~arg;
        break;
    case FUTEX_OP_XOR:
        new = old ^ arg;
        break;
    default:
        return -ENOSYS;
    }
    if (copy_out(b, &new, 4))
        return -EFAULT;
    switch (op >> 24 & 15) {
    case FUTEX_OP_CMP_EQ:
        yes = old == cmp;
        break;
    case FUTEX_OP_CMP_NE:
        yes = old != cmp;
        break;
    case FUTEX_OP_CMP_LT:
        yes = (int32_t)old < (int32_t)cmp;
        break;
    case FUTEX_OP_CMP_LE:
        yes = (int32_t)old <= (int32_t)cmp;
        break;
    case FUTEX_OP_CMP_GT:
        yes = (int32_t)old > (int32_t)cmp;
        break;
    case FUTEX_OP_CMP_GE:
        yes = (int32_t)old >= (int32_t)cmp;
        break;
    default:
        return -ENOSYS;
    }
    return futex_wake(a, wake, ~0u) + (yes ? futex_wake(b, wake2, ~0u) : 0);
}

/* The word is 0 or the owner's thread number, and FUTEX_WAITERS: then FUTEX_UNLOCK_PI hands over.
 */
static int64_t lock_pi(uint64_t at, uint64_t deadline, bool wait)
{
    for (;;) {
        uint32_t word;

        if (copy_in(&word, at, 4))
            return -EFAULT;
        if ((word & FUTEX_TID_MASK) == current->tid)
            return -EDEADLK;
        if (!(word & FUTEX_TID_MASK)) {
            word = current->tid | (word & FUTEX_OWNER_DIED) |
                   (first_waiter(at, ~0u) ? FUTEX_WAITERS : 0);
            return copy_out(at, &word, 4);
        }
        if (!wait)
            return -EAGAIN;
        if (!thread_find(word & FUTEX_TID_MASK))
            return -ESRCH;
        word |= FUTEX_WAITERS;
        if (copy_out(at, &word, 4))
            return -EFAULT;
        current->futex = at;
        current->futex_bits = ~0u;
        int64_t err = thread_wait(&futex_key, deadline);

        current->futex = 0;
        if (err)
            return err == -ERESTARTSYS ? -EINTR : err;
        if (copy_in(&word, at, 4))
            return -EFAULT;
        if ((word & FUTEX_TID_MASK) == current->tid)
            return 0; /* handed over */
    }
}

static int64_t unlock_pi(uint64_t at)
{
    uint32_t word;
    struct thread *t;

    if (copy_in(&word, at, 4))
        return -EFAULT;
    if ((word & FUTEX_TID_MASK) != current->tid)
        return -EPERM;
    t = first_waiter(at, ~0u);
    word = t ? t->tid : 0;
    if (t)
        thread_ready(t, 0);
    if (first_waiter(at, ~0u))
        word |= FUTEX_WAITERS;
    return copy_out(at, &word, 4);
}

/* --- robust lists (Linux's robust-futex-ABI): what a thread held when it ended --- */

#define ROBUST_LIMIT 2048u

static void owner_died(uint64_t at, const struct thread *t)
{
    uint32_t word;

    if (at % 4 || copy_in(&word, at, 4) || (word & FUTEX_TID_MASK) != t->tid)
        return;
    uint32_t waiters = word & FUTEX_WAITERS;

    word = FUTEX_OWNER_DIED | waiters;
    if (!copy_out(at, &word, 4) && waiters)
        futex_wake(at, 1, ~0u);
}

void futex_thread_ends(const struct thread *t)
{
    struct {
        uint64_t next;
        int64_t offset;
        uint64_t pending;
    } head;

    if (!t->robust || copy_in(&head, t->robust, sizeof head))
        return;
    uint64_t entry = head.next & ~1ull; /* bit 0: a PI lock */

    for (unsigned i = 0; i < ROBUST_LIMIT && entry != t->robust; i++) {
        uint64_t next;

        if (copy_in(&next, entry, 8))
            break;
        if (entry != (head.pending & ~1ull))
            owner_died(entry + (uint64_t)head.offset, t);
        entry = next & ~1ull;
    }
    if (head.pending)
        owner_died((head.pending & ~1ull) + (uint64_t)head.offset, t);
}

int64_t sys_set_robust_list(uint64_t head, uint64_t size)
{
    if (size != 24)
        return -EINVAL;
    current->robust = head;
    return 0;
}

int64_t sys_get_robust_list(uint64_t tid, uint64_t head, uint64_t size)
{
    const struct thread *t = (uint32_t)tid ? thread_find((uint32_t)tid) : current;
    uint64_t bytes = 24;

    if (!t)
        return -ESRCH;
    return copy_out(head, &t->robust, 8) || copy_out(size, &bytes, 8) ? -EFAULT : 0;
}

/* FUTEX_WAIT's time is relative, the others' absolute: on either clock, FUTEX_LOCK_PI's on the wall
 * clock. */
static int deadline_in(uint64_t op, uint64_t timeout, uint64_t *deadline)
{
    uint64_t ns;
    int err;

    *deadline = NEVER;
    if (!timeout)
        return 0;
    err = timespec_in(timeout, &ns);
    if (err)
        return err;
    if ((op & 0x7f) == FUTEX_WAIT) {
        *deadline = clock_ns() + ns;
    } else if (op & FUTEX_CLOCK_REALTIME || (op & 0x7f) == FUTEX_LOCK_PI) {
        uint64_t wall = (uint64_t)clock_wall();

        *deadline = ns > wall ? ns - wall : 0;
    } else {
        *deadline = ns;
    }
    return 0;
}

int64_t sys_futex(uint64_t at, uint64_t op, uint64_t val, uint64_t timeout, uint64_t at2,
                  uint64_t val3)
{
    uint64_t deadline;
    uint32_t have;
    int err;

    if (at % 4 || !user_range(at, 4))
        return -EINVAL;
    switch ((uint32_t)op & (uint32_t)FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
        err = deadline_in(op, timeout, &deadline);
        if (err)
            return err;
        return futex_wait(at, (uint32_t)val, deadline,
                          (op & 0x7f) == FUTEX_WAIT ? ~0u : (uint32_t)val3);
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
        err = deadline_in(op, timeout, &deadline);
        return err ? err : lock_pi(at, deadline, true);
    case FUTEX_TRYLOCK_PI:
        return lock_pi(at, NEVER, false);
    case FUTEX_UNLOCK_PI:
        return unlock_pi(at);
    case FUTEX_WAKE:
        return futex_wake(at, (unsigned)val, ~0u);
    case FUTEX_WAKE_BITSET:
        return val3 ? (int64_t)futex_wake(at, (unsigned)val, (uint32_t)val3) : -EINVAL;
    case FUTEX_CMP_REQUEUE:
        if (copy_in(&have, at, 4))
            return -EFAULT;
        if (have != (uint32_t)val3)
            return -EAGAIN;
        /* fall through */
    case FUTEX_REQUEUE:
        return requeue(at, (unsigned)val, (unsigned)timeout, at2);
    case FUTEX_WAKE_OP:
        return wake_op(at, (unsigned)val, (unsigned)timeout, at2, (uint32_t)val3);
    default:
        return -ENOSYS;
    }
}
