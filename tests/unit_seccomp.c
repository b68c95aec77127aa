/* The filters: what each kind of thread may do, and that anything else is the end of the process.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "seccomp/seccomp.h"

static pid_t parent; /* the parent's pid, in the child */

static long do_openat(void)
{
    return syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
}
static long do_socket(void)
{
    return syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}
static long do_execve(void)
{
    return syscall(SYS_execve, "/bin/true", NULL, NULL);
}
static long do_clone(void)
{
    return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}
/* Refused by the kernel, that has no stack for it, if the filter lets it through. */
#define THREAD                                                                          \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | \
     CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_DETACHED)
static long do_clone_thread(void)
{
    return syscall(SYS_clone, THREAD, 0, NULL, NULL, -1ul); /* TLS at no canonical address */
}
static long do_clone_files(void)
{
    return syscall(SYS_clone, THREAD & ~CLONE_FILES, 0, NULL, NULL, -1ul);
}
static long do_timerfd_create(void)
{
    return syscall(SYS_timerfd_create, -1, 0);
}
static long do_eventfd(void)
{
    return syscall(SYS_eventfd2, 0, -1);
}
static long do_prctl(void)
{
    return syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
}
static long do_seccomp(void)
{
    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, NULL);
}
static long do_second(void)
{
    return seccomp_install(SECCOMP_IO);
}
static long do_ptrace(void)
{
    return syscall(SYS_ptrace, 0, 0, 0, 0);
}
static long do_mmap_exec(void)
{
    return syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static long do_mprotect_exec(void)
{
    return syscall(SYS_mprotect, 0, 4096, PROT_EXEC);
}
static long do_mmap(void)
{
    return syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static long do_write(void)
{
    return syscall(SYS_write, -1, "", 0);
}
static long do_futex(void)
{
    int word = 0;

    return syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
static long do_timerfd_settime(void)
{
    return syscall(SYS_timerfd_settime, -1, 0, NULL, NULL);
}
static long do_socket_unix(void)
{
    return syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
}
static long do_connect(void)
{
    return syscall(SYS_connect, -1, NULL, 0);
}
static long do_accept(void)
{
    return syscall(SYS_accept4, -1, NULL, NULL, 0);
}
static long do_ppoll(void)
{
    struct timespec zero = {0, 0};

    return syscall(SYS_ppoll, NULL, 0, &zero, NULL, 8);
}
static long do_ftruncate(void)
{
    return syscall(SYS_ftruncate, -1, 0);
}
static long do_pread(void)
{
    return syscall(SYS_pread64, -1, NULL, 0, 0);
}
static long do_preadv(void)
{
    return syscall(SYS_preadv, -1, NULL, 0, 0, 0);
}
static long do_tcgets(void)
{
    return syscall(SYS_ioctl, -1, TCGETS, NULL);
}
static long do_tiocsti(void)
{
    return syscall(SYS_ioctl, -1, TIOCSTI, "x");
}
static long do_kvm_run(void)
{
    return syscall(SYS_ioctl, -1, KVM_RUN, 0);
}
static long do_kvm_msi(void)
{
    return syscall(SYS_ioctl, -1, KVM_SIGNAL_MSI, 0);
}
static long do_kvm_create(void)
{
    return syscall(SYS_ioctl, -1, KVM_CREATE_VM, 0);
}
static long do_kvm_memory(void)
{
    return syscall(SYS_ioctl, -1, KVM_SET_USER_MEMORY_REGION, 0);
}
static long do_tgkill(void)
{
    return syscall(SYS_tgkill, getpid(), gettid(), 0);
}
static long do_tgkill_parent(void)
{
    return syscall(SYS_tgkill, parent, parent, 0);
}
static long do_tkill(void)
{
    return syscall(SYS_tkill, gettid(), 0);
}
static long do_tkill_parent(void)
{
    return syscall(SYS_tkill, parent, 0);
}
static long do_x32(void)
{
    return syscall(0x40000000 | SYS_getpid);
}

enum {
    HVT = 1 << SECCOMP_VCPU_HVT | 1 << SECCOMP_VCPU_KVM_HVT,
    ALONE = 1 << SECCOMP_ALONE | 1 << SECCOMP_ALONE_KVM,
    VCPU = 1 << SECCOMP_VCPU | 1 << SECCOMP_VCPU_HVT | 1 << SECCOMP_ALONE,
    KVM = 1 << SECCOMP_VCPU_KVM | 1 << SECCOMP_VCPU_KVM_HVT | 1 << SECCOMP_ALONE_KVM,
    VSOCK = 1 << SECCOMP_IO_VSOCK | 1 << SECCOMP_IO_FS_VSOCK,
    FS = 1 << SECCOMP_IO_FS | 1 << SECCOMP_IO_FS_VSOCK,
    IO = 1 << SECCOMP_IO | VSOCK | FS,
    GDB = 1 << SECCOMP_GDB,
    ALL = VCPU | KVM | IO | GDB
};
static const struct {
    const char *name;
    long (*call)(void);
    unsigned allowed;
} cases[] = {
    {"openat", do_openat, FS}, /* Landlock says where */
    {"socket", do_socket, 0},
    {"Unix socket", do_socket_unix, VSOCK},
    {"connect", do_connect, VSOCK},
    {"accept4", do_accept, IO | GDB},
    {"execve", do_execve, 0},
    {"clone", do_clone, 0},
    {"clone of a thread that shares less", do_clone_files, 0},
    {"clone of a thread", do_clone_thread, ALONE},
    {"timerfd_create", do_timerfd_create, ALONE},
    {"eventfd", do_eventfd, ALONE},
    {"prctl but for no new privileges", do_prctl, 0},
    {"seccomp but for a filter", do_seccomp, 0},
    {"a second filter", do_second, ALONE},
    {"ptrace", do_ptrace, 0},
    {"mmap executable", do_mmap_exec, 0},
    {"mprotect executable", do_mprotect_exec, 0},
    {"x32 call", do_x32, 0},
    {"TIOCSTI", do_tiocsti, 0},
    {"KVM_CREATE_VM", do_kvm_create, 0},
    {"KVM_SET_USER_MEMORY_REGION", do_kvm_memory, 0},
    {"tgkill of another process", do_tgkill_parent, 0},
    {"tkill of another process", do_tkill_parent, 0},
    {"tgkill", do_tgkill, ALL},
    {"tkill", do_tkill, ALL},
    {"mmap", do_mmap, ALL},
    {"write", do_write, ALL},
    {"futex", do_futex, ALL},
    {"timerfd_settime", do_timerfd_settime, ALL},
    {"ppoll", do_ppoll, IO | HVT | ALONE},
    {"pread", do_pread, IO | HVT},
    {"preadv", do_preadv, IO},
    {"ftruncate", do_ftruncate, IO},
    {"TCGETS", do_tcgets, ALL},
    {"KVM_RUN", do_kvm_run, KVM},
    {"KVM_SIGNAL_MSI", do_kvm_msi, KVM | IO},
};

/* How a child that installs the filter and makes the call ends: wait()'s status. */
static int outcome(enum seccomp_kind kind, long (*call)(void))
{
    int status = -1;
    parent = getpid();
    pid_t pid = fork();

    cr_assert_geq(pid, 0);
    if (!pid) {
        if (seccomp_install(kind))
            _exit(99);
        call();
        syscall(SYS_exit_group, 42);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return status;
}

Test(seccomp, every_kind_every_case)
{
    for (unsigned kind = 0; kind < SECCOMP_KINDS; kind++)
        for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            int status = outcome((enum seccomp_kind)kind, cases[i].call);

            if (cases[i].allowed & 1u << kind)
                cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 42,
                          "kind %u: %s must be allowed (status %#x)", kind, cases[i].name, status);
            else
                cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS,
                          "kind %u: %s must kill (status %#x)", kind, cases[i].name, status);
        }
}

Test(seccomp, unknown_kind)
{
    cr_expect_eq(seccomp_install(SECCOMP_KINDS), -EINVAL);
}
