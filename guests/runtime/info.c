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

int64_t sys_getcpu(uint64_t cpu, uint64_t node)
{
    uint32_t zero = 0;

    if ((cpu && copy_out(cpu, &zero, 4)) || (node && copy_out(node, &zero, 4)))
        return -EFAULT;
    return 0;
}

int64_t sys_membarrier(uint64_t cmd)
{
    /* One CPU, and every switch of threads is a barrier. */
    return cmd == 0 ? 0x19 : 0;
}

/* What only a system's administrator may do: there is no system here. */
int64_t sys_not_permitted(void)
{
    return -EPERM;
}

/* There are no children. */
int64_t sys_wait4(uint64_t pid, uint64_t status, uint64_t options)
{
    enum { KNOWN = 0xe000000b }; /* WNOHANG, WUNTRACED, WCONTINUED, __WNOTHREAD, __WALL, __WCLONE */

    (void)pid, (void)status;
    return (uint32_t)options & ~KNOWN ? -EINVAL : -ECHILD;
}

int64_t sys_waitid(uint64_t which, uint64_t id, uint64_t info, uint64_t options)
{
    enum { ASKED = 0xe, KNOWN = 0xe100000f }; /* WSTOPPED, WEXITED, WCONTINUED; WNOHANG, WNOWAIT */

    (void)id, (void)info;
    return (uint32_t)options & ~KNOWN || !(options & ASKED) || which > 3 ? -EINVAL : -ECHILD;
}

/* Of process groups and sessions there is one, 1. */
static int64_t one_of(uint64_t pid)
{
    return !(uint32_t)pid || thread_is_known((uint32_t)pid) ? 1 : -ESRCH;
}

int64_t sys_getpgid(uint64_t pid)
{
    return one_of(pid);
}

int64_t sys_setpgid(uint64_t pid, uint64_t group)
{
    if ((int32_t)group < 0)
        return -EINVAL;
    return one_of(pid) < 0 ? -ESRCH : group > 1 ? -EPERM : 0;
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
