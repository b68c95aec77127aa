/* Scheduling as programs set it: policies, priorities and CPUs are kept for who asks, turns are
 * equal.
 */
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include "guests/runtime/process.h"

enum { NICE_LOWEST = 19, NICE_HIGHEST = -20, MOST = 99 /* of real-time priorities */ };
static int32_t nice; /* of the process */

/* The thread that a call means, 0: its own; NULL: *err says why there is none. */
static struct thread *thread_of(uint64_t tid, int64_t *err)
{
    struct thread *t = (uint32_t)tid ? thread_find((uint32_t)tid) : current;

    *err = t ? 0 : (int32_t)tid < 0 ? -EINVAL : -ESRCH;
    return t;
}

static bool is_real_time(uint32_t policy)
{
    return policy == SCHED_FIFO || policy == SCHED_RR;
}

int64_t sys_sched_getaffinity(uint64_t pid, uint64_t size, uint64_t out)
{
    uint64_t mask = 1;
    int64_t err;

    if (size < 8 || size % 8)
        return -EINVAL;
    if (!thread_of(pid, &err))
        return -ESRCH;
    return copy_out(out, &mask, 8) ? -EFAULT : 8;
}

int64_t sys_sched_setaffinity(uint64_t pid, uint64_t size, uint64_t at)
{
    uint8_t first = 0;
    int64_t err;

    if (!thread_of(pid, &err))
        return -ESRCH;
    if (size && copy_in(&first, at, 1))
        return -EFAULT;
    return first & 1 ? 0 : -EINVAL; /* the one CPU there is */
}

static int64_t set_policy(uint64_t pid, int64_t policy, uint64_t at)
{
    int32_t priority;
    int64_t err;
    struct thread *t = thread_of(pid, &err);

    if (!at || (int32_t)pid < 0)
        return -EINVAL;
    if (copy_in(&priority, at, sizeof priority))
        return -EFAULT;
    if (!t)
        return err;
    uint32_t all = policy < 0 ? t->policy : (uint32_t)policy;
    uint32_t kind = all & ~(uint32_t)SCHED_RESET_ON_FORK;

    if (kind >= SCHED_DEADLINE || priority < is_real_time(kind) ||
        priority > (is_real_time(kind) ? MOST : 0))
        return -EINVAL;
    t->policy = all;
    t->priority = (uint32_t)priority;
    return 0;
}

int64_t sys_sched_setscheduler(uint64_t pid, uint64_t policy, uint64_t at)
{
    return (int32_t)policy < 0 ? -EINVAL : set_policy(pid, (uint32_t)policy, at);
}

int64_t sys_sched_setparam(uint64_t pid, uint64_t at)
{
    return set_policy(pid, -1, at);
}

int64_t sys_sched_getscheduler(uint64_t pid)
{
    int64_t err;
    const struct thread *t = thread_of(pid, &err);

    return t ? (int64_t)t->policy : err;
}

int64_t sys_sched_getparam(uint64_t pid, uint64_t out)
{
    int64_t err;
    const struct thread *t = thread_of(pid, &err);

    if (!out)
        return -EINVAL;
    return t ? copy_out(out, &t->priority, sizeof t->priority) : err;
}

#define ATTR_BYTES 48u /* SCHED_ATTR_SIZE_VER0 */

int64_t sys_sched_getattr(uint64_t pid, uint64_t out, uint64_t size, uint64_t flags)
{
    int64_t err;
    const struct thread *t = thread_of(pid, &err);

    if (!out || size < ATTR_BYTES || size > PAGE || flags || (int32_t)pid < 0)
        return -EINVAL;
    if (!t)
        return err;
    struct sched_attr a = {.size = ATTR_BYTES,
                           .sched_policy = t->policy & ~(uint32_t)SCHED_RESET_ON_FORK,
                           .sched_priority = t->priority,
                           .sched_nice = nice};

    if (t->policy & SCHED_RESET_ON_FORK)
        a.sched_flags = SCHED_FLAG_RESET_ON_FORK;
    return copy_out(out, &a, ATTR_BYTES);
}

int64_t sys_sched_setattr(uint64_t pid, uint64_t at, uint64_t flags)
{
    struct sched_attr a;
    int64_t err;
    struct thread *t = thread_of(pid, &err);

    if (!at || flags || (int32_t)pid < 0)
        return -EINVAL;
    if (copy_in(&a, at, ATTR_BYTES))
        return -EFAULT;
    if (!t)
        return err;
    if (a.sched_policy >= SCHED_DEADLINE || a.sched_priority < is_real_time(a.sched_policy) ||
        a.sched_priority > (is_real_time(a.sched_policy) ? MOST : 0u))
        return a.sched_policy == SCHED_DEADLINE ? -EPERM : -EINVAL;
    t->policy = a.sched_policy |
                (a.sched_flags & SCHED_FLAG_RESET_ON_FORK ? (uint32_t)SCHED_RESET_ON_FORK : 0);
    t->priority = a.sched_priority;
    nice = a.sched_nice;
    return 0;
}

/* SCHED_FIFO and SCHED_RR have priorities, the others one. */
int64_t sys_sched_get_priority_max(uint64_t policy)
{
    return is_real_time((uint32_t)policy) ? MOST : policy <= SCHED_DEADLINE ? 0 : -EINVAL;
}

int64_t sys_sched_get_priority_min(uint64_t policy)
{
    return is_real_time((uint32_t)policy) ? 1 : policy <= SCHED_DEADLINE ? 0 : -EINVAL;
}

int64_t sys_sched_rr_get_interval(uint64_t pid, uint64_t out)
{
    int64_t err;
    const struct thread *t = thread_of(pid, &err);

    if (!t)
        return err;
    struct timespec64 turn = {0, t->policy == SCHED_FIFO ? 0 : 4000000};

    return copy_out(out, &turn, sizeof turn);
}

int64_t sys_sched_yield(void)
{
    thread_yield();
    return 0;
}

/* --- nice --- */

/* The program's by its process, its group or its user: 0, or why not. */
static int64_t who(uint64_t which, uint64_t id)
{
    if ((uint32_t)which > PRIO_USER)
        return -EINVAL;
    return !(uint32_t)id || (which != PRIO_USER && thread_is_known((uint32_t)id)) ? 0 : -ESRCH;
}

int64_t sys_getpriority(uint64_t which, uint64_t id)
{
    int64_t err = who(which, id);

    return err ? err : 20 - nice; /* as the call counts it */
}

int64_t sys_setpriority(uint64_t which, uint64_t id, uint64_t value)
{
    int32_t n = (int32_t)value;
    int64_t err = who(which, id);

    if (!err)
        nice = n < NICE_HIGHEST ? NICE_HIGHEST : n > NICE_LOWEST ? NICE_LOWEST : n;
    return err;
}
