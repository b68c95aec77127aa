/*
 * The kvm engine: hardware assist through /dev/kvm. The kernel has the local APICs (split
 * irqchip), the IOAPIC, the 8259 pair and the 8254 stay in vcpu/ and deliver by message.
 *
 * Outside callers (virtio, monitor) use the part marked so; the rest is for this folder.
 */
#ifndef VCPU_KVM_KVM_H
#define VCPU_KVM_KVM_H

#include <linux/kvm.h>
#include <stddef.h>
#include "vcpu/engine.h"

/* --- for virtio and the monitor --- */

/* How long KVM_CREATE_VM took. Over 5 ms is the nx_huge_pages worker being attached to a cgroup:
 * kvm.nx_huge_pages=never, or the cgroup mount option favordynmods, cures it. */
extern uint64_t kvm_create_vm_ns;
#define KVM_CREATE_VM_SLOW_NS 5000000u

/* A guest store of len bytes (0: any length) to MMIO addr signals fd instead of leaving the
 * kernel. One address a queue, so no data match. remove: the same arguments as when it was added.
 * 0 or -errno. */
int kvm_ioeventfd(struct vm_cpus *vm, gpa_t addr, unsigned len, int fd, bool remove);

/* The debugger (vcpu/debug.h), while every vCPU stands still: is there room for one more point; put
 * into guest memory, before going on, what the debug registers have no room for, and take it out
 * again. */
bool kvm_debug_takes(const struct vm_cpus *vm, const struct debug_point *p);
void kvm_debug_insert(struct vm_cpus *vm);
void kvm_debug_remove(struct vm_cpus *vm);

/* Did an earlier launch find that this KVM runs kernel code in hardware; and have it known in the
 * next. Only that is kept: a slow probe may have been bad luck, a quick one cannot be. */
bool kvm_known_hardware(void);
void kvm_note_hardware(void);

/* --- within the engine --- */

struct kvm_vm {
    int dev_fd;
    int fd;
    size_t run_size;
    bool sregs2;            /* KVM_GET/SET_SREGS2: PDPTEs without a look at memory */
    struct kvm_vcpu *vcpus; /* all that were made, for the end */
    _Atomic bool intr;      /* the 8259's INTR pin */
    /* What the kernel was told of the IOAPIC's pins; under the irqchip's lock. */
    uint32_t routed;
    uint64_t route[IOAPIC_PINS]; /* redirection entry behind the route */
};

struct kvm_vcpu {
    struct kvm_vcpu *next;
    unsigned index;
    int fd;
    int tid;
    struct kvm_run *run;
    _Atomic bool in_run; /* between the last look at kicks and the return of KVM_RUN */
    bool fresh;          /* nothing was imported yet: KVM's own reset state */
    bool in_flight;      /* KVM was injecting something when it was last exported */
    bool emulate;        /* the exit was for an instruction that KVM cannot emulate */
    bool ext_injected;   /* KVM_INTERRUPT was used since the last export */
    bool have_tsc_offset;
    uint64_t msr_missing; /* rows of kvm_msr.c's table that this KVM does not have */
    uint32_t xstate_mask; /* components of struct cpu.xsave that KVM takes */
    /* What KVM holds, as last imported or exported: another value in struct vcpu has to be
     * imported. held false: KVM holds nothing of ours yet. */
    bool held;
    struct cpu cpu;
    struct lapic lapic;
    uint64_t tlb_fills;
    bool tlb_used; /* it may be as zero as it was mapped until then */
    _Alignas(64) struct kvm_xsave xsave;
    char what[128]; /* of vcpu.exit, where it has a number in it */
    /* What KVM_SET_GUEST_DEBUG was last told. */
    uint64_t debug_gen;
    uint8_t debug;
};

/* ioctl() as the kernel has it: 0 or positive, or -errno. (musl's request parameter is an int.) */
long kvm_ioctl(int fd, unsigned long request, void *arg);

/* Zeroed memory for a VM or a vCPU, or NULL; munmap() frees it. The first malloc() of a process
 * takes four system calls, and the launch has no other. */
void *kvm_block(size_t size);

/* kvm_vcpu.c */
int kvm_vcpu_create(struct kvm_vm *vm, unsigned index, const char **what);
int kvm_vcpu_init(struct vcpu *v, const char **what);
void kvm_vcpu_fini(struct vcpu *v);
void kvm_vcpu_free(struct kvm_vm *vm, struct kvm_vcpu *k);
enum exit_reason kvm_vcpu_run(struct vcpu *v);
void kvm_vcpu_kick(struct vcpu *v);
int kvm_kick_signal_init(void);

/* kvm_emulate.c */
int kvm_emulate_init(void);
int kvm_emulate_thread_init(struct vcpu *v);
/* struct cpu is the truth, KVM could not execute the instruction at its RIP: do it. True when KVM
 * can go on; else v->exit says why not. */
bool kvm_emulate(struct vcpu *v);
/* Does the instruction that KVM could not execute (v->exit.bytes) concern registers, segments,
 * control registers, vector state and memory alone: no MSR, debug register, APIC, time? */
bool kvm_emulate_by_registers(const struct vcpu *v);

/* kvm_state.c: struct cpu and struct lapic <-> KVM. 0 or -errno with *what naming the ioctl.
 * kvm_export() wants kvm_run's synchronised registers to be fresh. deliver: an event that KVM was
 * about to inject is delivered in software; 1 when that ended in a shutdown. */
int kvm_import(struct vcpu *v, const char **what);
int kvm_export(struct vcpu *v, bool deliver, const char **what);
/* Does struct vcpu differ from what KVM holds? */
bool kvm_stale(const struct vcpu *v);

/* kvm_regs.c: their part of it. */
int kvm_set_regs(struct vcpu *v, const char **what);
int kvm_get_regs(struct vcpu *v, const char **what);

/* kvm_msr.c */
int kvm_move_msrs(struct vcpu *v, bool set);
int kvm_one_msr(struct vcpu *v, bool set, uint32_t index, uint64_t *val);
int kvm_set_tsc(struct vcpu *v);
int kvm_get_tsc(struct vcpu *v);

/* kvm_lapic.c: the register page of KVM_GET/SET_LAPIC. now: guest TSC. */
void kvm_lapic_to_page(struct vcpu *v, struct kvm_lapic_state *page);
bool kvm_lapic_is_reset(const struct vcpu *v);
void kvm_lapic_from_page(struct vcpu *v, const struct kvm_lapic_state *page);

/* kvm_irq.c */
void kvm_irq_init(struct vm_cpus *vm);
/* Own thread, before entering: hand over what the 8259 asserts, or ask for the window. */
int kvm_irq_before_run(struct vcpu *v, const char **what);
/* The guest wrote to the IOAPIC. */
void kvm_irq_ioapic_written(struct vm_cpus *vm);

/* kvm_cpuid.c */
int kvm_cpuid_set(struct vcpu *v, const char **what);
/* Learn what KVM supports: from the launch before, or have a thread of its own ask while the VM is
 * made. dev_fd stays open. Once, before any vCPU. */
void kvm_cpuid_prefetch(int dev_fd);

#define KVM_CPUID_ENTRIES 256
struct kvm_cpuid_buf {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 e[KVM_CPUID_ENTRIES];
};

/* kvm_cpuid_cache.c: that answer, and the host's CPUID, in a file. The key is what it depends on;
 * false: unknown. */
struct kvm_cpuid_key {
    uint64_t magic;
    uint64_t kvm_inode;
    int64_t booted; /* CLOCK_REALTIME, s */
    uint32_t cpu[3];
    char release[64], version[64], pad[4];
};
#define KVM_CPUID_PATH 256
bool kvm_cpuid_key(struct kvm_cpuid_key *key);
/* Where the file is for this user, or in a directory that a test chose; false: nowhere. */
extern const char *kvm_cpuid_dir;
bool kvm_cpuid_cache_path(char *path, size_t len);
bool kvm_cpuid_cache_load(const char *path, const struct kvm_cpuid_key *key,
                          struct kvm_cpuid_buf *out, bool *hardware);
void kvm_cpuid_cache_save(const char *path, const struct kvm_cpuid_key *key,
                          const struct kvm_cpuid_buf *buf, bool hardware);

/* kvm_debug.c: tell KVM what the debugger wants of v. 0 or -errno. */
int kvm_debug_apply(struct vcpu *v);
/* KVM_EXIT_DEBUG: true if v stops, for the reason in debug_stop. */
bool kvm_debug_exit(struct vcpu *v);

/* vcpu/probe.c: the CPL0 probe guest alone, whatever CPUID says. */
void kvm_probe_guest(int dev_fd, struct probe *out);

#endif
