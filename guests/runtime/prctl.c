/* prctl(): names of threads, and settings that are kept for who asks. */
#include <linux/capability.h>
#include <linux/prctl.h>
#include "guests/runtime/process.h"
#include "guests/runtime/users.h"

static uint32_t death_signal;
static uint64_t timer_slack = 50000;
static bool undumpable, subreaper, no_new_privileges, no_huge_pages;

/* One of those that are on or off. */
static int64_t set_flag(bool *flag, uint64_t to, uint64_t c, uint64_t d, uint64_t e)
{
    if (to > 1 || c || d || e)
        return -EINVAL;
    *flag = to;
    return 0;
}

static int64_t flag_out(bool flag, uint64_t out)
{
    uint32_t n = flag;

    return copy_out(out, &n, sizeof n);
}

static int64_t ambient(uint64_t what, uint64_t capability)
{
    switch (what) {
    case PR_CAP_AMBIENT_CLEAR_ALL:
        return capability ? -EINVAL : 0;
    case PR_CAP_AMBIENT_IS_SET:
    case PR_CAP_AMBIENT_LOWER:
        return capability > CAP_LAST_CAP ? -EINVAL : 0;
    case PR_CAP_AMBIENT_RAISE:
        return capability > CAP_LAST_CAP ? -EINVAL : -EPERM;
    default:
        return -EINVAL;
    }
}

void thread_name(const struct thread *t, char out[NAME_BYTES])
{
    fill(out, 0, NAME_BYTES);
    format(out, NAME_BYTES, "%s", t->name[0] ? t->name : program_name());
}

int64_t thread_set_name(struct thread *t, uint64_t at, uint64_t n)
{
    char name[NAME_BYTES] = "";

    if (copy_in(name, at, least(n, NAME_BYTES - 1)))
        return -EFAULT;
    copy(t->name, name, sizeof name);
    return 0;
}

/* Its end may be that of what can be read. */
static int64_t name_in(uint64_t at)
{
    uint64_t n = 0;
    char c;

    for (; n < NAME_BYTES - 1; n++)
        if (copy_in(&c, at + n, 1))
            return -EFAULT;
        else if (!c)
            break;
    return thread_set_name(current, at, n);
}

int64_t sys_prctl(uint64_t op, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    char name[NAME_BYTES];

    switch ((uint32_t)op) {
    case PR_SET_NAME:
        return name_in(a);
    case PR_GET_NAME:
        thread_name(current, name);
        return copy_out(a, name, sizeof name);
    case PR_SET_PDEATHSIG:
        if (a > NSIG_MAX)
            return -EINVAL;
        death_signal = (uint32_t)a;
        return 0;
    case PR_GET_PDEATHSIG:
        return copy_out(a, &death_signal, sizeof death_signal);
    case PR_GET_DUMPABLE:
        return !undumpable;
    case PR_SET_DUMPABLE:
        if (a > 1)
            return -EINVAL;
        undumpable = !a;
        return 0;
    case PR_GET_KEEPCAPS:
        return users_keep_caps(false, false);
    case PR_SET_KEEPCAPS:
        return a > 1 ? -EINVAL : (users_keep_caps(true, a), 0);
    case PR_GET_TIMERSLACK:
        return (int64_t)timer_slack;
    case PR_SET_TIMERSLACK:
        timer_slack = (int64_t)a > 0 ? a : 50000;
        return 0;
    case PR_SET_CHILD_SUBREAPER:
        subreaper = a;
        return 0;
    case PR_GET_CHILD_SUBREAPER:
        return flag_out(subreaper, a);
    case PR_SET_NO_NEW_PRIVS:
        return a == 1 ? set_flag(&no_new_privileges, a, b, c, d) : -EINVAL;
    case PR_GET_NO_NEW_PRIVS:
        return a || b || c || d ? -EINVAL : no_new_privileges;
    case PR_SET_THP_DISABLE:
        return set_flag(&no_huge_pages, a != 0, b, c, d);
    case PR_GET_THP_DISABLE:
        return a || b || c || d ? -EINVAL : no_huge_pages;
    case PR_CAPBSET_READ:
        return a > CAP_LAST_CAP ? -EINVAL : 1;
    case PR_CAPBSET_DROP:
        return a > CAP_LAST_CAP ? -EINVAL : 0;
    case PR_CAP_AMBIENT:
        return c || d ? -EINVAL : ambient(a, b);
    case PR_GET_SECUREBITS:
    case PR_GET_SECCOMP:
        return 0;
    case PR_GET_TID_ADDRESS:
        return copy_out(a, &current->clear_tid, 8);
    default:
        return -EINVAL;
    }
}
