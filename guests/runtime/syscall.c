/* The table of system calls, and how often each was asked for. */
#include <asm/unistd.h>
#include "guests/runtime/calls.h"
#include "guests/runtime/net.h"
#include "guests/runtime/process.h"

#define LAST 512u

struct regs *syscall_regs;
static uint32_t asked[LAST]; /* times */

/* A call takes the first of the six registers that it declares: the calling convention lets the
 * rest be passed and ignored. */
static void *const table[LAST] = {
    [__NR_read] = (void *)sys_read,
    [__NR_write] = (void *)sys_write,
    [__NR_open] = (void *)sys_open,
    [__NR_close] = (void *)sys_close,
    [__NR_stat] = (void *)sys_stat,
    [__NR_fstat] = (void *)sys_fstat,
    [__NR_lstat] = (void *)sys_lstat,
    [__NR_poll] = (void *)sys_poll,
    [__NR_lseek] = (void *)sys_lseek,
    [__NR_mmap] = (void *)sys_mmap,
    [__NR_mprotect] = (void *)sys_mprotect,
    [__NR_munmap] = (void *)sys_munmap,
    [__NR_brk] = (void *)sys_brk,
    [__NR_rt_sigaction] = (void *)sys_rt_sigaction,
    [__NR_rt_sigprocmask] = (void *)sys_rt_sigprocmask,
    [__NR_rt_sigreturn] = (void *)sys_rt_sigreturn,
    [__NR_ioctl] = (void *)sys_ioctl,
    [__NR_pread64] = (void *)sys_pread64,
    [__NR_pwrite64] = (void *)sys_pwrite64,
    [__NR_readv] = (void *)sys_readv,
    [__NR_writev] = (void *)sys_writev,
    [__NR_access] = (void *)sys_access,
    [__NR_pipe] = (void *)sys_pipe,
    [__NR_select] = (void *)sys_select,
    [__NR_sched_yield] = (void *)sys_sched_yield,
    [__NR_mremap] = (void *)sys_mremap,
    [__NR_msync] = (void *)sys_msync,
    [__NR_mincore] = (void *)sys_mincore,
    [__NR_madvise] = (void *)sys_madvise,
    [__NR_dup] = (void *)sys_dup,
    [__NR_dup2] = (void *)sys_dup2,
    [__NR_pause] = (void *)sys_pause,
    [__NR_nanosleep] = (void *)sys_nanosleep,
    [__NR_getitimer] = (void *)sys_getitimer,
    [__NR_alarm] = (void *)sys_alarm,
    [__NR_setitimer] = (void *)sys_setitimer,
    [__NR_getpid] = (void *)sys_one,
    [__NR_sendfile] = (void *)sys_sendfile,
    [__NR_socket] = (void *)sys_socket,
    [__NR_connect] = (void *)sys_connect,
    [__NR_accept] = (void *)sys_accept,
    [__NR_sendto] = (void *)sys_sendto,
    [__NR_recvfrom] = (void *)sys_recvfrom,
    [__NR_sendmsg] = (void *)sys_sendmsg,
    [__NR_recvmsg] = (void *)sys_recvmsg,
    [__NR_shutdown] = (void *)sys_shutdown,
    [__NR_bind] = (void *)sys_bind,
    [__NR_listen] = (void *)sys_listen,
    [__NR_getsockname] = (void *)sys_getsockname,
    [__NR_getpeername] = (void *)sys_getpeername,
    [__NR_socketpair] = (void *)sys_socketpair,
    [__NR_setsockopt] = (void *)sys_setsockopt,
    [__NR_getsockopt] = (void *)sys_getsockopt,
    [__NR_accept4] = (void *)sys_accept4,
    [__NR_recvmmsg] = (void *)sys_recvmmsg,
    [__NR_sendmmsg] = (void *)sys_sendmmsg,
    [__NR_clone] = (void *)sys_clone,
    [__NR_fork] = (void *)sys_fork,
    [__NR_vfork] = (void *)sys_fork,
    [__NR_execve] = (void *)sys_execve,
    [__NR_exit] = (void *)sys_exit,
    [__NR_wait4] = (void *)sys_wait4,
    [__NR_kill] = (void *)sys_kill,
    [__NR_uname] = (void *)sys_uname,
    [__NR_fcntl] = (void *)sys_fcntl,
    [__NR_flock] = (void *)sys_flock,
    [__NR_fsync] = (void *)sys_fsync,
    [__NR_fdatasync] = (void *)sys_fsync,
    [__NR_truncate] = (void *)sys_truncate,
    [__NR_ftruncate] = (void *)sys_ftruncate,
    [__NR_getcwd] = (void *)sys_getcwd,
    [__NR_chdir] = (void *)sys_chdir,
    [__NR_fchdir] = (void *)sys_fchdir,
    [__NR_rename] = (void *)sys_rename,
    [__NR_mkdir] = (void *)sys_mkdir,
    [__NR_rmdir] = (void *)sys_rmdir,
    [__NR_creat] = (void *)sys_creat,
    [__NR_link] = (void *)sys_link,
    [__NR_unlink] = (void *)sys_unlink,
    [__NR_symlink] = (void *)sys_symlink,
    [__NR_readlink] = (void *)sys_readlink,
    [__NR_chmod] = (void *)sys_chmod,
    [__NR_fchmod] = (void *)sys_fchmod,
    [__NR_chown] = (void *)sys_chown,
    [__NR_lchown] = (void *)sys_lchown,
    [__NR_umask] = (void *)sys_umask,
    [__NR_gettimeofday] = (void *)sys_gettimeofday,
    [__NR_getrlimit] = (void *)sys_getrlimit,
    [__NR_getrusage] = (void *)sys_getrusage,
    [__NR_sysinfo] = (void *)sys_sysinfo,
    [__NR_times] = (void *)sys_times,
    [__NR_getuid] = (void *)sys_getuid,
    [__NR_getgid] = (void *)sys_getgid,
    [__NR_setuid] = (void *)sys_setuid,
    [__NR_setgid] = (void *)sys_setgid,
    [__NR_geteuid] = (void *)sys_geteuid,
    [__NR_getegid] = (void *)sys_getegid,
    [__NR_setpgid] = (void *)sys_setpgid,
    [__NR_getppid] = (void *)sys_zero,
    [__NR_getpgrp] = (void *)sys_one,
    [__NR_setsid] = (void *)sys_one,
    [__NR_getgroups] = (void *)sys_getgroups,
    [__NR_setgroups] = (void *)sys_setgroups,
    [__NR_setresuid] = (void *)sys_setresuid,
    [__NR_setresgid] = (void *)sys_setresgid,
    [__NR_getpgid] = (void *)sys_getpgid,
    [__NR_setfsuid] = (void *)sys_setfsuid,
    [__NR_setfsgid] = (void *)sys_setfsgid,
    [__NR_getsid] = (void *)sys_getpgid,
    [__NR_rt_sigpending] = (void *)sys_rt_sigpending,
    [__NR_rt_sigtimedwait] = (void *)sys_rt_sigtimedwait,
    [__NR_rt_sigsuspend] = (void *)sys_rt_sigsuspend,
    [__NR_sigaltstack] = (void *)sys_sigaltstack,
    [__NR_personality] = (void *)sys_zero,
    [__NR_statfs] = (void *)sys_statfs,
    [__NR_fstatfs] = (void *)sys_fstatfs,
    [__NR_setpriority] = (void *)sys_setpriority,
    [__NR_sched_setscheduler] = (void *)sys_sched_setscheduler,
    [__NR_sched_getscheduler] = (void *)sys_sched_getscheduler,
    [__NR_mlock] = (void *)sys_zero,
    [__NR_munlock] = (void *)sys_zero,
    [__NR_mlockall] = (void *)sys_zero,
    [__NR_munlockall] = (void *)sys_zero,
    [__NR_prctl] = (void *)sys_prctl,
    [__NR_arch_prctl] = (void *)sys_arch_prctl,
    [__NR_setrlimit] = (void *)sys_setrlimit,
    [__NR_sync] = (void *)sys_zero,
    [__NR_gettid] = (void *)sys_gettid,
    [__NR_readahead] = (void *)sys_zero,
    [__NR_tkill] = (void *)sys_tkill,
    [__NR_time] = (void *)sys_time,
    [__NR_futex] = (void *)sys_futex,
    [__NR_sched_setaffinity] = (void *)sys_sched_setaffinity,
    [__NR_sched_getaffinity] = (void *)sys_sched_getaffinity,
    [__NR_epoll_create] = (void *)sys_epoll_create,
    [__NR_getdents64] = (void *)sys_getdents64,
    [__NR_set_tid_address] = (void *)sys_set_tid_address,
    [__NR_fadvise64] = (void *)sys_zero,
    [__NR_clock_gettime] = (void *)sys_clock_gettime,
    [__NR_clock_getres] = (void *)sys_clock_getres,
    [__NR_clock_nanosleep] = (void *)sys_clock_nanosleep,
    [__NR_exit_group] = (void *)sys_exit_group,
    [__NR_epoll_wait] = (void *)sys_epoll_wait,
    [__NR_epoll_ctl] = (void *)sys_epoll_ctl,
    [__NR_tgkill] = (void *)sys_tgkill,
    [__NR_waitid] = (void *)sys_waitid,
    [__NR_openat] = (void *)sys_openat,
    [__NR_mkdirat] = (void *)sys_mkdirat,
    [__NR_fchownat] = (void *)sys_fchownat,
    [__NR_newfstatat] = (void *)sys_newfstatat,
    [__NR_unlinkat] = (void *)sys_unlinkat,
    [__NR_linkat] = (void *)sys_linkat,
    [__NR_symlinkat] = (void *)sys_symlinkat,
    [__NR_readlinkat] = (void *)sys_readlinkat,
    [__NR_fchmodat] = (void *)sys_fchmodat,
    [__NR_faccessat] = (void *)sys_faccessat,
    [__NR_pselect6] = (void *)sys_pselect6,
    [__NR_ppoll] = (void *)sys_ppoll,
    [__NR_set_robust_list] = (void *)sys_set_robust_list,
    [__NR_utimensat] = (void *)sys_utimensat,
    [__NR_epoll_pwait] = (void *)sys_epoll_pwait,
    [__NR_eventfd] = (void *)sys_eventfd,
    [__NR_fallocate] = (void *)sys_fallocate,
    [__NR_eventfd2] = (void *)sys_eventfd2,
    [__NR_epoll_create1] = (void *)sys_epoll_create1,
    [__NR_dup3] = (void *)sys_dup3,
    [__NR_pipe2] = (void *)sys_pipe2,
    [__NR_preadv] = (void *)sys_preadv,
    [__NR_pwritev] = (void *)sys_pwritev,
    [__NR_prlimit64] = (void *)sys_prlimit64,
    [__NR_syncfs] = (void *)sys_fsync,
    [__NR_getcpu] = (void *)sys_getcpu,
    [__NR_renameat2] = (void *)sys_renameat2,
    [__NR_getrandom] = (void *)sys_getrandom,
    [__NR_execveat] = (void *)sys_execve,
    [__NR_membarrier] = (void *)sys_membarrier,
    [__NR_statx] = (void *)sys_statx,
    [__NR_clone3] = (void *)sys_clone3,
    [__NR_close_range] = (void *)sys_close_range,
    [__NR_faccessat2] = (void *)sys_faccessat,
    [__NR_fchown] = (void *)sys_fchown,
    [__NR_renameat] = (void *)sys_renameat,
    [__NR_utime] = (void *)sys_utime,
    [__NR_utimes] = (void *)sys_utimes,
    [__NR_futimesat] = (void *)sys_futimesat,
    [__NR_mknod] = (void *)sys_mknod,
    [__NR_mknodat] = (void *)sys_mknodat,
    [__NR_timer_create] = (void *)sys_timer_create,
    [__NR_timer_settime] = (void *)sys_timer_settime,
    [__NR_timer_gettime] = (void *)sys_timer_gettime,
    [__NR_timer_getoverrun] = (void *)sys_timer_getoverrun,
    [__NR_timer_delete] = (void *)sys_timer_delete,
    [__NR_timerfd_create] = (void *)sys_timerfd_create,
    [__NR_timerfd_settime] = (void *)sys_timerfd_settime,
    [__NR_timerfd_gettime] = (void *)sys_timerfd_gettime,
    [__NR_signalfd] = (void *)sys_signalfd,
    [__NR_signalfd4] = (void *)sys_signalfd4,
    [__NR_rt_sigqueueinfo] = (void *)sys_rt_sigqueueinfo,
    [__NR_rt_tgsigqueueinfo] = (void *)sys_rt_tgsigqueueinfo,
    [__NR_get_robust_list] = (void *)sys_get_robust_list,
    [__NR_copy_file_range] = (void *)sys_copy_file_range,
    [__NR_memfd_create] = (void *)sys_memfd_create,
    [__NR_preadv2] = (void *)sys_preadv2,
    [__NR_pwritev2] = (void *)sys_pwritev2,
    [__NR_epoll_pwait2] = (void *)sys_epoll_pwait2,
    [__NR_getresuid] = (void *)sys_getresuid,
    [__NR_getpriority] = (void *)sys_getpriority,
    [__NR_sched_getparam] = (void *)sys_sched_getparam,
    [__NR_sched_get_priority_max] = (void *)sys_sched_get_priority_max,
    [__NR_sched_get_priority_min] = (void *)sys_sched_get_priority_min,
    [__NR_sched_rr_get_interval] = (void *)sys_sched_rr_get_interval,
    [__NR_capget] = (void *)sys_capget,
    [__NR_getresgid] = (void *)sys_getresgid,
    [__NR_setreuid] = (void *)sys_setreuid,
    [__NR_setregid] = (void *)sys_setregid,
    [__NR_mlock2] = (void *)sys_zero,
    [__NR_sched_setparam] = (void *)sys_sched_setparam,
    [__NR_ioprio_set] = (void *)sys_zero,
    [__NR_ioprio_get] = (void *)sys_zero,
    [__NR_sync_file_range] = (void *)sys_zero,
    [__NR_capset] = (void *)sys_capset,
    [__NR_clock_settime] = (void *)sys_not_permitted,
    [__NR_settimeofday] = (void *)sys_not_permitted,
    [__NR_sethostname] = (void *)sys_not_permitted,
    [__NR_setdomainname] = (void *)sys_not_permitted,
    [__NR_mount] = (void *)sys_not_permitted,
    [__NR_umount2] = (void *)sys_not_permitted,
    [__NR_chroot] = (void *)sys_not_permitted,
    [__NR_pivot_root] = (void *)sys_not_permitted,
    [__NR_reboot] = (void *)sys_not_permitted,
    [__NR_splice] = (void *)sys_splice,
    [__NR_tee] = (void *)sys_tee,
    [__NR_vmsplice] = (void *)sys_vmsplice,
    [__NR_openat2] = (void *)sys_openat2,
    [__NR_setxattr] = (void *)sys_xattr,
    [__NR_getxattr] = (void *)sys_xattr,
    [__NR_removexattr] = (void *)sys_xattr,
    [__NR_listxattr] = (void *)sys_listxattr,
    [__NR_lsetxattr] = (void *)sys_lxattr,
    [__NR_lgetxattr] = (void *)sys_lxattr,
    [__NR_lremovexattr] = (void *)sys_lxattr,
    [__NR_llistxattr] = (void *)sys_llistxattr,
    [__NR_fsetxattr] = (void *)sys_fxattr,
    [__NR_fgetxattr] = (void *)sys_fxattr,
    [__NR_fremovexattr] = (void *)sys_fxattr,
    [__NR_flistxattr] = (void *)sys_flistxattr,
    [__NR_sched_getattr] = (void *)sys_sched_getattr,
    [__NR_sched_setattr] = (void *)sys_sched_setattr,
    [__NR_adjtimex] = (void *)sys_not_permitted,
    [__NR_clock_adjtime] = (void *)sys_not_permitted,
    [__NR_syslog] = (void *)sys_not_permitted,
    [__NR_ptrace] = (void *)sys_not_permitted,
    [__NR_iopl] = (void *)sys_not_permitted,
    [__NR_ioperm] = (void *)sys_not_permitted,
    [__NR_acct] = (void *)sys_not_permitted,
    [__NR_swapon] = (void *)sys_not_permitted,
    [__NR_swapoff] = (void *)sys_not_permitted,
    [__NR_init_module] = (void *)sys_not_permitted,
    [__NR_delete_module] = (void *)sys_not_permitted,
    [__NR_unshare] = (void *)sys_not_permitted,
    [__NR_setns] = (void *)sys_not_permitted,
    [__NR_vhangup] = (void *)sys_not_permitted,
};

static bool is_lacking(unsigned nr)
{
    return !table[nr] || table[nr] == (void *)sys_fork || table[nr] == (void *)sys_execve;
}

/* To the monitor, which knows their names. */
void syscalls_report(void)
{
    struct mayfly_asked *out = (struct mayfly_asked *)bounce;
    uint64_t n = 0;

    if (!(boot.flags & MAYFLY_BOOT_VERBOSE))
        return;
    for (unsigned nr = 0; nr < LAST; nr++)
        if (asked[nr])
            out[n++] = (struct mayfly_asked){(uint16_t)nr, is_lacking(nr), asked[nr]};
    monitor_call(MAYFLY_CALL_ASKED, 0, out, n * sizeof *out);
}

/* A program that wants a network where there is none tells its user little: "bind: Function not
 * implemented". Unix sockets are what a C library tries and does without. */
static void tell_no_network(uint64_t domain)
{
    enum { UNIX = 1 }; /* AF_UNIX */
    static bool said;

    if (domain == UNIX || said)
        return;
    said = true;
    say("mayfly: %s: socket: no network here; run it with --net user, --net tap=NAME or --net lo, "
        "or --vsock",
        program_name());
}

void syscall_enter(struct regs *r)
{
    uint64_t nr = r->error;
    syscall_fn *fn = nr < LAST ? (syscall_fn *)table[nr] : NULL;

    syscall_regs = r;
    if (nr < LAST)
        asked[nr]++;
    if (!fn && nr == __NR_socket)
        tell_no_network(r->rdi);
    /* Without a network no family of addresses is there: what programs know how to do without. */
    int none = nr == __NR_socket ? -EAFNOSUPPORT : -ENOSYS;

    r->rax = (uint64_t)(fn ? fn(r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9) : none);
    thread_leave(r);
}
