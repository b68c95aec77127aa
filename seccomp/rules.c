/*
 * The filters' source: a host program that prints build/gen/seccomp_filters.h.
 *
 * One table of rules; a row says which kinds of thread may make the call, and under which condition
 * on one argument. A call that no row names kills the process (and the kernel logs it). Nothing
 * here opens, connects, executes, forks, changes identity or makes memory executable.
 */
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "seccomp/seccomp.h"

enum {
    HVT = 1 << SECCOMP_VCPU_HVT | 1 << SECCOMP_VCPU_KVM_HVT, /* a vCPU that does its own I/O */
    ALONE = 1 << SECCOMP_ALONE | 1 << SECCOMP_ALONE_KVM, /* a vCPU that may start the I/O thread */
    VCPU = 1 << SECCOMP_VCPU | 1 << SECCOMP_VCPU_HVT | 1 << SECCOMP_ALONE,
    KVM = 1 << SECCOMP_VCPU_KVM | 1 << SECCOMP_VCPU_KVM_HVT | 1 << SECCOMP_ALONE_KVM,
    VSOCK = 1 << SECCOMP_IO_VSOCK | 1 << SECCOMP_IO_FS_VSOCK, /* the I/O thread with a vsock */
    FS = 1 << SECCOMP_IO_FS | 1 << SECCOMP_IO_FS_VSOCK,       /* ... with a shared directory */
    IO = 1 << SECCOMP_IO | VSOCK | FS,
    GDB = 1 << SECCOMP_GDB,
};
#define ALL (VCPU | KVM | IO | GDB)
/* Of musl's pthread_create(): a thread of this process, never another process. */
#define CLONE_ALL                                                                       \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | \
     CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_DETACHED)

/* Numbers no process has (pid_max is at most 2^22): install.c puts the real ones in their place. */
enum { THIS_PID = 0x6d617966, THIS_TID = 0x6d617967 };

static const char *const kind_name[SECCOMP_KINDS] = {[SECCOMP_VCPU] = "vcpu",
                                                     [SECCOMP_VCPU_KVM] = "vcpu_kvm",
                                                     [SECCOMP_VCPU_HVT] = "vcpu_hvt",
                                                     [SECCOMP_VCPU_KVM_HVT] = "vcpu_kvm_hvt",
                                                     [SECCOMP_IO] = "io",
                                                     [SECCOMP_IO_VSOCK] = "io_vsock",
                                                     [SECCOMP_IO_FS] = "io_fs",
                                                     [SECCOMP_IO_FS_VSOCK] = "io_fs_vsock",
                                                     [SECCOMP_GDB] = "gdb",
                                                     [SECCOMP_ALONE] = "alone",
                                                     [SECCOMP_ALONE_KVM] = "alone_kvm"};

enum test { ANY, EQUAL, CLEAR }; /* argument: any value; equals value; has none of value's bits */

static const struct rule {
    int nr;
    unsigned kinds;
    enum test test;
    unsigned arg;
    uint64_t value;
} rules[] = {
    /* Threads, waiting, time. */
    {SYS_futex, ALL, ANY, 0, 0},
    {SYS_sched_yield, ALL, ANY, 0, 0},
    {SYS_clock_gettime, ALL, ANY, 0, 0},
    {SYS_nanosleep, ALL, ANY, 0, 0},
    {SYS_clock_nanosleep, ALL, ANY, 0, 0},
    {SYS_restart_syscall, ALL, ANY, 0, 0},
    {SYS_timerfd_settime, ALL, ANY, 0, 0},
    {SYS_timerfd_gettime, IO, ANY, 0, 0},
    {SYS_exit, ALL, ANY, 0, 0},
    {SYS_exit_group, ALL, ANY, 0, 0},

    /* The I/O thread, made late, before it and its maker have narrower filters. */
    {SYS_clone, ALONE, EQUAL, 0, CLONE_ALL},
    {SYS_timerfd_create, ALONE, ANY, 0, 0},
    {SYS_eventfd2, ALONE, ANY, 0, 0},
    {SYS_prctl, ALONE, EQUAL, 0, PR_SET_NO_NEW_PRIVS},
    {SYS_seccomp, ALONE, EQUAL, 0, SECCOMP_SET_MODE_FILTER},

    /* Signals: kicks between threads, faults of translated code. Only to this process. */
    {SYS_rt_sigreturn, ALL, ANY, 0, 0},
    {SYS_rt_sigprocmask, ALL, ANY, 0, 0},
    {SYS_sigaltstack, ALL, ANY, 0, 0},
    {SYS_getpid, ALL, ANY, 0, 0},
    {SYS_gettid, ALL, ANY, 0, 0},
    {SYS_tgkill, ALL, EQUAL, 0, THIS_PID},
    {SYS_tkill, ALL, EQUAL, 0, THIS_TID},
    {SYS_rt_sigaction, ALL, ANY, 0, 0}, /* the default action again, to die of one's own bug */

    /* Memory: never executable. Code caches are mapped before the filter is on. */
    {SYS_brk, ALL, ANY, 0, 0},
    {SYS_mmap, ALL, CLEAR, 2, PROT_EXEC},
    {SYS_mprotect, ALL, CLEAR, 2, PROT_EXEC},
    {SYS_munmap, ALL, ANY, 0, 0},
    {SYS_madvise, ALL, ANY, 0, 0},
    {SYS_mincore, ALL, ANY, 0, 0}, /* --stats */

    /* Files that are open already. */
    {SYS_read, ALL, ANY, 0, 0},
    {SYS_write, ALL, ANY, 0, 0},
    {SYS_writev, ALL, ANY, 0, 0},
    {SYS_readv, IO, ANY, 0, 0},
    {SYS_lseek, IO, ANY, 0, 0},
    {SYS_ftruncate, IO, ANY, 0, 0}, /* --stats=FILE */
    {SYS_fsync, IO, ANY, 0, 0},
    {SYS_fstat, IO | ALONE, ANY, 0, 0},
    {SYS_close, IO | GDB | ALONE, ANY, 0, 0},
    {SYS_poll, ALL, ANY, 0, 0},
    {SYS_ppoll, IO | HVT | ALONE, ANY, 0, 0},
    {SYS_fcntl, IO | ALONE, EQUAL, 1, 3 /* F_GETFL */},
    {SYS_fcntl, IO | ALONE, EQUAL, 1, 4 /* F_SETFL */},

    /* virtio: the ring and nothing but new registered files; where there is none, the same by call,
     * on descriptors that are open already. */
    {SYS_io_uring_enter, IO, ANY, 0, 0},
    {SYS_io_uring_register, IO, EQUAL, 1, 6 /* IORING_REGISTER_FILES_UPDATE */},
    {SYS_preadv, IO, ANY, 0, 0},
    {SYS_pwritev, IO, ANY, 0, 0},
    {SYS_pread64, IO | HVT, ANY, 0, 0},
    {SYS_pwrite64, IO | HVT, ANY, 0, 0},
    {SYS_fdatasync, IO, ANY, 0, 0},
    {SYS_fallocate, IO, ANY, 0, 0},
    {SYS_recvmsg, IO, ANY, 0, 0},
    {SYS_sendmsg, IO, ANY, 0, 0},
    {SYS_accept4, IO | GDB, ANY, 0, 0},

    /* rng: entropy for the guest. */
    {SYS_getrandom, IO, ANY, 0, 0},

    /* net: what the driver takes from a tap; the end of the stream to passt, or to a program. */
    {SYS_shutdown, IO, ANY, 0, 0},
    {SYS_ioctl, IO, EQUAL, 1, TUNSETOFFLOAD},

    /* vsock: the sockets of the host's programs, and PATH's end. */
    {SYS_socket, VSOCK, EQUAL, 0, AF_UNIX},
    {SYS_connect, VSOCK, ANY, 0, 0},
    {SYS_stat, VSOCK | GDB, ANY, 0, 0}, /* --gdb unix:PATH too */
    {SYS_unlink, VSOCK | GDB, ANY, 0, 0},

    /* A shared directory: names below descriptors it holds (virtio/fuse_inode.c), open files. */
    {SYS_openat2, FS, ANY, 0, 0},
    {SYS_openat, FS, ANY, 0, 0},
    {SYS_statx, FS, ANY, 0, 0},
    {SYS_getdents64, FS, ANY, 0, 0},
    {SYS_mkdirat, FS, ANY, 0, 0},
    {SYS_mknodat, FS, ANY, 0, 0},
    {SYS_unlinkat, FS, ANY, 0, 0},
    {SYS_renameat2, FS, ANY, 0, 0},
    {SYS_linkat, FS, ANY, 0, 0},
    {SYS_symlinkat, FS, ANY, 0, 0},
    {SYS_readlinkat, FS, ANY, 0, 0},
    {SYS_fchmod, FS, ANY, 0, 0},
    {SYS_fchmodat, FS, ANY, 0, 0},
    {SYS_fchownat, FS, ANY, 0, 0},
    {SYS_utimensat, FS, ANY, 0, 0},
    {SYS_preadv2, FS, ANY, 0, 0},
    {SYS_copy_file_range, FS, ANY, 0, 0},
    {SYS_fsetxattr, FS, ANY, 0, 0},
    {SYS_fgetxattr, FS, ANY, 0, 0},
    {SYS_flistxattr, FS, ANY, 0, 0},
    {SYS_fremovexattr, FS, ANY, 0, 0},
    {SYS_fstatfs, FS, ANY, 0, 0},
    {SYS_mincore, FS, ANY, 0, 0}, /* --dumpcore: which pages the guest has touched */

    /* The terminal: musl's tcgetattr/tcsetattr, and the size; a program's own wishes come from a
     * vCPU. */
    {SYS_ioctl, ALL, EQUAL, 1, TCGETS},
    {SYS_ioctl, ALL, EQUAL, 1, TCSETS},
    {SYS_ioctl, ALL, EQUAL, 1, TCSETSW},
    {SYS_ioctl, ALL, EQUAL, 1, TCSETSF},
    {SYS_ioctl, ALL, EQUAL, 1, TIOCGWINSZ},

    /* KVM: what a running VM asks for; nothing that makes VMs, vCPUs, memory slots or devices. A
     * device on the I/O thread may raise an interrupt. */
    {SYS_ioctl, KVM | IO, EQUAL, 1, KVM_SIGNAL_MSI},
    {SYS_ioctl, KVM | IO, EQUAL, 1, KVM_INTERRUPT},
    {SYS_ioctl, KVM | IO, EQUAL, 1, KVM_IRQ_LINE},
    {SYS_ioctl, KVM | IO, EQUAL, 1, KVM_SET_GSI_ROUTING},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_RUN},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_NMI},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_GET_REGS},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_REGS},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_GET_SREGS},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_SREGS},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_GET_SREGS2},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_SREGS2},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_GET_MSRS},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_MSRS},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_GET_XSAVE},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_XSAVE},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_GET_XCRS},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_XCRS},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_GET_FPU},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_FPU},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_GET_LAPIC},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_LAPIC},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_GET_DEBUGREGS},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_DEBUGREGS},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_GUEST_DEBUG}, /* --gdb */
    {SYS_ioctl, KVM, EQUAL, 1, KVM_GET_VCPU_EVENTS},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_VCPU_EVENTS},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_GET_MP_STATE},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_MP_STATE},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_GET_TSC_KHZ},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_GET_SREGS2},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_SREGS2},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_GET_DEVICE_ATTR}, /* the TSC offset */
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_DEVICE_ATTR},
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_SIGNAL_MASK}, /* handing over an 8259 vector */
    {SYS_ioctl, KVM, EQUAL, 1, KVM_GET_DEVICE_ATTR}, /* of the vCPU: its TSC offset */
    {SYS_ioctl, KVM, EQUAL, 1, KVM_SET_DEVICE_ATTR},
};

static void fail(const char *what, int err)
{
    fprintf(stderr, "seccomp rules: %s: %s\n", what, strerror(-err));
    exit(1);
}

static void add(scmp_filter_ctx ctx, const struct rule *r)
{
    int err;

    switch (r->test) {
    case EQUAL: /* the low half: the kernel reads ioctl and fcntl commands as 32 bits */
        err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, r->nr, 1,
                               SCMP_CMP64(r->arg, SCMP_CMP_MASKED_EQ, 0xffffffff, r->value));
        break;
    case CLEAR:
        err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, r->nr, 1,
                               SCMP_CMP64(r->arg, SCMP_CMP_MASKED_EQ, r->value, 0));
        break;
    default:
        err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, r->nr, 0);
    }
    if (err)
        fail("adding a rule", err);
}

/* libseccomp writes BPF to a descriptor; here it becomes a C array. */
static void emit(scmp_filter_ctx ctx, const char *name)
{
    FILE *f = tmpfile();
    struct {
        uint16_t code;
        uint8_t jt, jf;
        uint32_t k;
    } op;
    unsigned n = 0;
    int err;

    if (!f)
        fail("temporary file", -1);
    err = seccomp_export_bpf(ctx, fileno(f));
    if (err)
        fail("exporting", err);
    rewind(f);
    printf("static const struct sock_filter filter_%s[] = {\n", name);
    for (; fread(&op, sizeof(op), 1, f) == 1; n++)
        printf("    {%u, %u, %u, 0x%xu},\n", op.code, op.jt, op.jf, op.k);
    printf("};\n");
    fclose(f);
    if (!n || n > 4096)
        fail("size of the filter", -1);
}

int main(void)
{
    printf("enum { THIS_PID = 0x%x, THIS_TID = 0x%x };\n", THIS_PID, THIS_TID);
    for (unsigned kind = 0; kind < SECCOMP_KINDS; kind++) {
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);

        if (!ctx)
            fail("init", -1);
        seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* binary tree: few steps a call */
        for (unsigned i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
            if (rules[i].kinds & 1u << kind)
                add(ctx, &rules[i]);
        emit(ctx, kind_name[kind]);
        seccomp_release(ctx);
    }
    return fflush(stdout) ? 1 : 0;
}
