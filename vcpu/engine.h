/*
 * An engine executes a vCPU. Each is one const table; the machine knows no more about it.
 *
 * run(): executes from struct cpu until something needs the machine, and says what in v->exit. On
 * return struct cpu is the truth (vector state included). Called on the vCPU's own thread only.
 */
#ifndef VCPU_ENGINE_H
#define VCPU_ENGINE_H

#include "vcpu/vcpu.h"

struct engine {
    const char *name;
    /* 0 or -errno with *what set to a static text naming the step that failed. */
    int (*vm_init)(struct vm_cpus *vm, const char **what);
    void (*vm_fini)(struct vm_cpus *vm);
    /* On the vCPU's own thread, before its first run(). */
    int (*vcpu_init)(struct vcpu *v, const char **what);
    void (*vcpu_fini)(struct vcpu *v);
    enum exit_reason (*run)(struct vcpu *v);
    /* Async, any thread: beyond vcpu_kick()'s flags, make the thread leave run(). NULL: none
     * needed. */
    void (*kick)(struct vcpu *v);
};

extern const struct engine engine_interp;
extern const struct engine engine_bt;
extern const struct engine engine_kvm;

/* --- choosing (vcpu/probe.c) --- */
enum kvm_kind {
    KVM_NONE,     /* no /dev/kvm, or it cannot be opened: why is in .err */
    KVM_SOFTWARE, /* opens, but CPL0 is interpreted (nested page-table KVM) */
    KVM_HARDWARE
};

struct probe {
    enum kvm_kind kind;
    int err;          /* errno of open() or of the ioctl named */
    const char *step; /* which call failed, or how the verdict was reached; static text */
    int api_version;
    uint64_t probe_ns; /* time of the CPL0 probe guest, 0 when it was not needed */
    uint64_t ns_per_insn_x100;
};

/* What DESIGN.md's --engine auto decides by. Never fails: the verdict says it. */
void kvm_probe(struct probe *out);

#endif
