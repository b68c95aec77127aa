/* Calls that tell about the process and the machine. */
#include <linux/resource.h>
#include <linux/sysinfo.h>
#include <linux/utsname.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/process.h"
#include "guests/runtime/vm.h"

int64_t sys_zero(void)
{
    return 0;
}

int64_t sys_one(void)
{
    return 1;
}

int64_t sys_gettid(void)
{
    return current->tid;
}

int64_t sys_set_tid_address(uint64_t at)
{
    current->clear_tid = at;
    return current->tid;
}

int64_t sys_arch_prctl(uint64_t code, uint64_t addr)
{
    enum { SET_GS = 0x1001, SET_FS, GET_FS, GET_GS };

    switch (code) {
    case SET_FS:
    case SET_GS:
        if (addr >= USER_TOP)
            return -EPERM;
        if (code == SET_FS)
            cpu_set_fs(current->fs = addr);
        else
            cpu_set_gs(current->gs = addr);
        return 0;
    case GET_FS:
        return copy_out(addr, &current->fs, 8);
    case GET_GS:
        return copy_out(addr, &current->gs, 8);
    default:
        return -EINVAL;
    }
}

static void put(char *out, const char *text)
{
    copy(out, text, length(text) + 1);
}

int64_t sys_uname(uint64_t out)
{
    struct new_utsname u;

    fill(&u, 0, sizeof u);
    put(u.sysname, "Linux");
    put(u.nodename, "mayfly");
    put(u.release, RELEASE);
    put(u.version, "#1 mayfly runtime");
    put(u.machine, "x86_64");
    put(u.domainname, "(none)");
    return copy_out(out, &u, sizeof u);
}

int64_t sys_sysinfo(uint64_t out)
{
    struct sysinfo s = {.uptime = (int64_t)(process_cpu_ns() / NS),
                        .totalram = frames_total() * PAGE,
                        .freeram = frames_free() * PAGE,
                        .procs = (uint16_t)thread_count(),
                        .mem_unit = 1};

    return copy_out(out, &s, sizeof s);
}

int64_t sys_getrusage(uint64_t who, uint64_t out)
{
    struct rusage u;
    uint64_t t = (int32_t)who == 1 ? thread_cpu_ns() : process_cpu_ns();

    if ((int32_t)who > 1 || (int32_t)who < -1)
        return -EINVAL;
    fill(&u, 0, sizeof u);
    if ((int32_t)who >= 0) {
        u.ru_utime.tv_sec = (int64_t)(t / NS);
        u.ru_utime.tv_usec = (int64_t)(t % NS / 1000);
        u.ru_maxrss = (int64_t)((frames_total() - frames_free()) * 4);
    }
    return copy_out(out, &u, sizeof u);
}

int64_t sys_times(uint64_t out)
{
    int64_t t[4] = {(int64_t)(process_cpu_ns() / (NS / 100)), 0, 0, 0};

    return out && copy_out(out, t, sizeof t) ? -EFAULT : (int64_t)(clock_ns() / (NS / 100));
}

/* 0, or why there is no such thread. */
static int64_t no_thread(uint64_t tid)
{
    int32_t t = (int32_t)tid;

    return t < 0 ? -EINVAL : !t || thread_find((uint32_t)t) ? 0 : -ESRCH;
}

int64_t sys_sched_getaffinity(uint64_t pid, uint64_t size, uint64_t out)
{
    uint64_t mask = 1;

    if (size < 8 || size % 8)
        return -EINVAL;
    if (no_thread(pid))
        return -ESRCH;
    return copy_out(out, &mask, 8) ? -EFAULT : 8;
}

int64_t sys_sched_setaffinity(uint64_t pid, uint64_t size, uint64_t at)
{
    uint8_t first = 0;

    if (no_thread(pid))
        return -ESRCH;
    if (size && copy_in(&first, at, 1))
        return -EFAULT;
    return first & 1 ? 0 : -EINVAL; /* the one CPU there is */
}

/* Policies are taken and not followed: turns are equal. */
int64_t sys_sched_setscheduler(uint64_t pid, uint64_t policy, uint64_t at)
{
    enum { RESET_ON_FORK = 0x40000000, FIFO = 1, RR = 2, DEADLINE = 6 };
    uint32_t kind = (uint32_t)policy & ~(uint32_t)RESET_ON_FORK;
    int32_t priority;
    int64_t err = no_thread(pid);

    if (err)
        return err;
    if (copy_in(&priority, at, sizeof priority))
        return -EFAULT;
    bool real_time = kind == FIFO || kind == RR;

    return kind >= DEADLINE || priority < real_time || priority > (real_time ? 99 : 0) ? -EINVAL
                                                                                       : 0;
}

int64_t sys_sched_getscheduler(uint64_t pid)
{
    return no_thread(pid);
}

int64_t sys_sched_yield(void)
{
    thread_yield();
    return 0;
}

int64_t sys_getcpu(uint64_t cpu, uint64_t node)
{
    uint32_t zero = 0;

    if ((cpu && copy_out(cpu, &zero, 4)) || (node && copy_out(node, &zero, 4)))
        return -EFAULT;
    return 0;
}

static char task_name[16];

int64_t sys_prctl(uint64_t op, uint64_t arg)
{
    enum { GET_DUMPABLE = 3, SET_DUMPABLE = 4, SET_NAME = 15, GET_NAME = 16, NO_NEW_PRIVS = 38 };

    switch (op) {
    case SET_NAME:
        return copy_in(task_name, arg, 15);
    case GET_NAME:
        return copy_out(arg, task_name, 16);
    case GET_DUMPABLE:
    case SET_DUMPABLE:
    case NO_NEW_PRIVS:
        return 0;
    default:
        return -EINVAL;
    }
}

int64_t sys_membarrier(uint64_t cmd)
{
    /* One CPU, and every switch of threads is a barrier. */
    return cmd == 0 ? 0x19 : 0;
}

/* --- users, priorities, privileges: one user, who may nothing outside, and one CPU --- */

int64_t sys_not_permitted(void)
{
    return -EPERM;
}

int64_t sys_getresuid(uint64_t a, uint64_t b, uint64_t c)
{
    uint32_t zero = 0;

    return copy_out(a, &zero, 4) || copy_out(b, &zero, 4) || copy_out(c, &zero, 4) ? -EFAULT : 0;
}

/* Kept, not enforced. */
#define GROUPS 64u
static uint32_t groups[GROUPS];
static uint32_t ngroups;

int64_t sys_getgroups(uint64_t most, uint64_t out)
{
    if ((int32_t)most < 0 || (most && (uint32_t)most < ngroups))
        return -EINVAL;
    return most && copy_out(out, groups, ngroups * 4) ? -EFAULT : (int64_t)ngroups;
}

int64_t sys_setgroups(uint64_t n, uint64_t at)
{
    if ((uint32_t)n > GROUPS)
        return -EINVAL;
    if (copy_in(groups, at, (uint32_t)n * 4))
        return -EFAULT;
    ngroups = (uint32_t)n;
    return 0;
}

int64_t sys_getpriority(void)
{
    return 20; /* nice 0, as the call counts it */
}

int64_t sys_sched_getparam(uint64_t pid, uint64_t out)
{
    uint32_t zero = 0;
    int64_t err = no_thread(pid);

    return err ? err : copy_out(out, &zero, 4);
}

int64_t sys_sched_getattr(uint64_t pid, uint64_t out, uint64_t size)
{
    uint32_t attr[12] = {sizeof attr}; /* SCHED_OTHER, nice 0, no flags */

    (void)pid;
    return size < sizeof attr ? -EINVAL : copy_out(out, attr, sizeof attr);
}

/* SCHED_FIFO and SCHED_RR have priorities, the others one. */
int64_t sys_sched_get_priority_max(uint64_t policy)
{
    return policy == 1 || policy == 2 ? 99 : policy <= 6 ? 0 : -EINVAL;
}

int64_t sys_sched_get_priority_min(uint64_t policy)
{
    return policy == 1 || policy == 2 ? 1 : policy <= 6 ? 0 : -EINVAL;
}

int64_t sys_sched_rr_get_interval(uint64_t pid, uint64_t out)
{
    struct timespec64 t = {0, 4000000};

    (void)pid;
    return copy_out(out, &t, sizeof t);
}

/* linux/capability.h: a header of version and process, then three words for each 32. */
int64_t sys_capget(uint64_t header, uint64_t data)
{
    enum { VERSION3 = 0x20080522 };
    uint32_t version;

    if (copy_in(&version, header, 4))
        return -EFAULT;
    if (version != VERSION3) {
        version = VERSION3;
        return copy_out(header, &version, 4) ? -EFAULT : data ? -EINVAL : 0;
    }
    return data ? clear_out(data, 24) : 0;
}

int64_t sys_wait4(void)
{
    return -ECHILD;
}

int64_t sys_execve(void)
{
    static bool said;

    if (!said)
        say("mayfly: %s: execve: a program runs alone here and cannot start another",
            program_name());
    said = true;
    return -ENOSYS;
}

int64_t sys_exit(uint64_t status)
{
    thread_exit((int)(status & 255));
}

int64_t sys_exit_group(uint64_t status)
{
    machine_exit((int)(status & 255));
}
