/*
 * seccomp/: what each kind of thread may ask of the host's kernel once guest code runs.
 *
 * rules.c is a host program (libseccomp) run by the build; it writes the filters as BPF into
 * build/gen/seccomp_filters.h. install.c, in mayfly, only installs them. This room stands alone: it
 * includes no other room's header and calls nothing but the kernel.
 */
#ifndef SECCOMP_SECCOMP_H
#define SECCOMP_SECCOMP_H

#include <stdbool.h>
#include <stdint.h>

enum seccomp_kind {
    SECCOMP_VCPU,     /* a vCPU thread under bt or interp */
    SECCOMP_VCPU_KVM, /* a vCPU thread under kvm: also the ioctls of a running VM */
    SECCOMP_VCPU_HVT, /* the same two for a Solo5 unikernel: its hypercalls' I/O besides */
    SECCOMP_VCPU_KVM_HVT,
    SECCOMP_IO, /* the I/O thread (event loop), the main thread while it waits */
    /* The I/O thread with devices that ask for more; the bits add up. */
    SECCOMP_IO_VSOCK,    /* SECCOMP_IO + SECCOMP_WITH_VSOCK: Unix sockets */
    SECCOMP_IO_FS,       /* SECCOMP_IO + SECCOMP_WITH_FS: a shared directory */
    SECCOMP_IO_FS_VSOCK, /* both */
    SECCOMP_GDB,         /* the debugger's thread (--gdb) */
    /* A vCPU thread, under bt or interp and under kvm, that has no I/O thread beside it and starts
     * one when there is something to watch: also to make a thread, what that opens and asks for,
     * and a narrower filter for each. */
    SECCOMP_ALONE,
    SECCOMP_ALONE_KVM,
    SECCOMP_KINDS
};
enum { SECCOMP_WITH_VSOCK = 1, SECCOMP_WITH_FS = 2 };

/* On the calling thread, for good: no new privileges, then the filter of its kind. A call that is
 * not on the list kills the process (SIGSYS), and the kernel logs it. 0 or -errno; on failure
 * nothing guards the thread and the caller must not run guest code. Call it once set-up is over: no
 * file can be opened and, but for SECCOMP_ALONE, no thread started afterwards. The kinds of one
 * thread add up: what it may do is what all allow. */
int seccomp_install(enum seccomp_kind kind);

/* On the calling thread and those it starts from then on, for good: no file can be opened for its
 * contents, made, changed or removed but below these directories, none at all executed. What is
 * open stays usable. remove_elsewhere: but files may be removed anywhere (a socket at the end).
 * 0, -EOPNOTSUPP where the kernel has no Landlock (2nd ABI) or it is off, or -errno. */
struct seccomp_dir {
    int fd;
    bool read_only;
};
int seccomp_beneath(const struct seccomp_dir *dir, unsigned n, bool remove_elsewhere);

#endif
