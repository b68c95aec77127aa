/* Installing the filters that rules.c compiled. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "seccomp/seccomp.h"
#include "seccomp_filters.h"

#define FILTER(f)                     \
    {                                 \
        sizeof(f) / sizeof((f)[0]), f \
    }
#define FILTER_MAX 512

static const struct {
    unsigned short len;
    const struct sock_filter *filter;
} filters[SECCOMP_KINDS] = {
    [SECCOMP_VCPU] = FILTER(filter_vcpu),
    [SECCOMP_VCPU_KVM] = FILTER(filter_vcpu_kvm),
    [SECCOMP_VCPU_HVT] = FILTER(filter_vcpu_hvt),
    [SECCOMP_VCPU_KVM_HVT] = FILTER(filter_vcpu_kvm_hvt),
    [SECCOMP_IO] = FILTER(filter_io),
    [SECCOMP_IO_VSOCK] = FILTER(filter_io_vsock),
    [SECCOMP_IO_FS] = FILTER(filter_io_fs),
    [SECCOMP_IO_FS_VSOCK] = FILTER(filter_io_fs_vsock),
    [SECCOMP_GDB] = FILTER(filter_gdb),
    [SECCOMP_ALONE] = FILTER(filter_alone),
    [SECCOMP_ALONE_KVM] = FILTER(filter_alone_kvm),
};

/* The kernel tries a new filter on every call number, to know which are allowed whatever their
 * arguments: two thirds of what installing takes. A vCPU makes few calls, and its start waits for
 * this: a load of something that is no call number (kernel/seccomp.c, seccomp_is_const_allow) ends
 * each of those trials at once. */
static const struct sock_filter no_trials =
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer));

int seccomp_install(enum seccomp_kind kind)
{
    struct sock_filter code[FILTER_MAX + 1];
    unsigned short n = 0;

    if ((unsigned)kind >= SECCOMP_KINDS || filters[kind].len > FILTER_MAX)
        return -EINVAL;
    if (kind == SECCOMP_VCPU || kind == SECCOMP_VCPU_KVM || kind >= SECCOMP_ALONE)
        code[n++] = no_trials;
    for (unsigned i = 0; i < filters[kind].len; i++, n++) {
        code[n] = filters[kind].filter[i];
        if (code[n].k == THIS_PID)
            code[n].k = (unsigned)getpid();
        else if (code[n].k == THIS_TID)
            code[n].k = (unsigned)syscall(SYS_gettid);
    }
    struct sock_fprog prog = {n, code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -errno;
    /* SPEC_ALLOW: the kernel must not switch on costly speculation barriers for a thread that runs
     * guest code whose isolation does not rest on them (older kernels do it by default). */
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &prog) &&
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog))
        return -errno;
    return 0;
}
