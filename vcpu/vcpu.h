/*
 * struct vcpu: one virtual CPU with everything that is private to its thread: architectural state,
 * software TLB, local APIC, statistics, the reason of the last exit, and the engine's own block.
 * struct vm_cpus: what the vCPUs of one machine share.
 *
 * While guest code runs under bt or interp, the host's GS base points at struct vcpu, and the
 * guest's x87/SSE/AVX state may live in the host's registers (fpu_live). So everything in vcpu/ and
 * paging/ is compiled with -mgeneral-regs-only and calls no libc function that could touch vector
 * state; before calling out to the machine (struct machine_ops) the state is put away with
 * fpu_put().
 */
#ifndef VCPU_VCPU_H
#define VCPU_VCPU_H

#include <stdatomic.h>
#include "paging/tlb.h"
#include "vcpu/cpu.h"
#include "vcpu/debug.h"
#include "vcpu/irq.h"
#include "vcpu/stats.h"

struct vcpu;
struct bt_vcpu;
struct kvm_vcpu;
struct kvm_vm;

/* Why run() returned, or what an engine needs from the machine's loop. */
enum exit_reason {
    EXIT_KICKED,   /* vcpu_kick() was called: look at vm->stop, then run again */
    EXIT_HLT,      /* HLT, nothing deliverable: block in vcpu_wait() */
    EXIT_PIO,      /* kvm only: bt and interp call the bus themselves */
    EXIT_MMIO,     /* kvm only */
    EXIT_SHUTDOWN, /* triple fault */
    EXIT_ERROR,    /* the engine cannot go on: exit.what says why */
    EXIT_STOP,     /* a device asked for the end of the machine (vm->stop) */
    EXIT_DEBUG,    /* vcpu.debug_stop says why */
    EXIT_REASONS
};

struct vcpu_exit {
    enum exit_reason reason;
    const char *what; /* EXIT_ERROR: static text */
    int err;          /* EXIT_ERROR: errno, or 0 */
    uint64_t rip;
    uint8_t bytes[15]; /* at rip, EXIT_ERROR */
    uint8_t nbytes;
};

/* What the machine offers to its CPUs. All may be called from any vCPU thread; the machine locks.
 * size is 1, 2, 4 (pio) or 1..8 (mmio). Unclaimed reads give all-ones. */
struct machine_ops {
    /* May pio_read and pio_write be called for this port with the guest's vector state live: no
     * code on the way uses vector registers? NULL: never. */
    bool (*pio_plain)(void *m, uint16_t port, unsigned size);
    uint64_t (*pio_read)(void *m, uint16_t port, unsigned size);
    void (*pio_write)(void *m, uint16_t port, unsigned size, uint64_t val);
    uint64_t (*mmio_read)(void *m, gpa_t gpa, unsigned size);
    void (*mmio_write)(void *m, gpa_t gpa, unsigned size, uint64_t val);
    /* Arm the host timer that kicks vCPU index at host TSC value tsc (0: disarm). Called by the
     * LAPIC when its next deadline changes. */
    void (*arm_timer)(void *m, unsigned index, uint64_t tsc);
};

/* Windows for reading and writing, through RSP and otherwise. */
enum win_kind { WIN_READ, WIN_WRITE, WIN_STACK, WIN_KINDS = 4 };
/* Of what is compared with a linear window at once: up to 1, 2, 4 ... 64 bytes, then 128, 192 ...
 */
#define WIN_CLASSES 70

/* The translator's inline jump cache: guest RIP -> translated code, one set per enum tlb_ctx. Slots
 * by RIP bits 1-16; a zeroed table is empty but for slot 0 (bt_vcpu_init). */
#define JC_BITS    16
#define JC_ENTRIES (1u << JC_BITS)
struct jc_entry {
    uint64_t rip;
    uint64_t code; /* host address of the entry that takes flags from hot.flags */
};

static inline unsigned jc_slot(uint64_t rip)
{
    return (unsigned)(rip >> 1) & (JC_ENTRIES - 1);
}

#define PAGES_SAVED 8

/* Slots that translated code reaches with one GS-relative access. */
struct bt_hot {
    uint64_t rax;      /* RAX while LAHF/SAHF borrow it */
    uint64_t tmp;      /* a value held across a second TLB probe */
    uint64_t tmp2;     /* the callouts own */
    uint64_t host_rsp; /* the C stack while translated code runs */
    uint64_t ras_rsp;  /* the return stack (ras.c): its top while C runs, and its bottom */
    uint64_t ras_base;
    uint64_t exit_info; /* what the exit stub said: struct bt_link * or enum bt_exit */
    uint64_t self;      /* struct vcpu */
    uint64_t sti_ptr;   /* polled after STI: &poll_word, or 0 while an interrupt waits for IF */
    uint64_t fn_mem, fn_insn;   /* C callouts */
    uint16_t flags;             /* arithmetic flags: high byte as LAHF gives it, low byte OF */
    uint64_t page[PAGES_SAVED]; /* host addresses that a block comes back to (bt/tr_page.c) */
    /* Linear windows: one past the last offset at which what is compared at once may begin;
     * [context][enum win_kind][class] */
    uint64_t win_limit[TLB_CTXS][WIN_KINDS][WIN_CLASSES];
    uint64_t odd_seg[2]; /* of FS, GS in 32-bit code: 0, or what keeps it out of the TLB */
};

struct vm_cpus {
    struct ram *ram;
    const struct machine_ops *ops;
    void *machine; /* first argument of ops */
    struct vcpu **vcpu;
    unsigned nvcpu;
    uint64_t tsc_hz;
    uint8_t maxphyaddr;
    bool overcommitted;    /* more vCPUs than host CPUs: vcpu_spin() */
    _Atomic bool stop;     /* set once, with vcpu_kick() to all: run() returns EXIT_STOP */
    _Atomic bool last;     /* ... and nobody will look at the CPUs' state again */
    _Atomic uint32_t deaf; /* bit per vCPU: halted with interrupts off (vcpu_never_wakes) */
    struct irqchip irqchip;
    const struct cpuid_table *cpuid;     /* built once by cpuid_build() */
    struct debug *debug;                 /* what the debugger wants, NULL without one */
    struct bt *bt;                       /* the shared code cache, NULL without bt */
    int kvm_fd;                          /* VM fd, -1 without kvm */
    struct kvm_vm *kvm;                  /* kvm's own block, NULL without kvm */
    void (*engine_kick)(struct vcpu *v); /* engine.kick of the running engine, or NULL */
};

/* Large (the tables are touched as they fill): allocate with mmap, zeroed, 64-byte aligned. */
struct vcpu {
    /* Hot, reached by translated code through GS. Keep the order: emit.c uses offsetof. */
    struct cpu cpu;
    /* Where translated code polls: normally &poll_word; NULL after a kick, so that the poll's load
     * faults and the signal handler leaves the cache. Written by any thread. */
    _Atomic(uint32_t *) poll_ptr;
    uint32_t poll_word;
    _Atomic uint32_t kicked; /* 1: someone wants the CPU to look up: set before poll_ptr */
    /* Windows of hot.win_limit are open: a kick closes them, so that the next comparison with one
     * leaves the cache (window.c opens them again). */
    _Atomic bool windows;
    bool cold;     /* interp: code that will hardly come again, decode and forget */
    uint8_t debug; /* DEBUG_*: what the debugger wants of this CPU, 0 without one */
    bool fpu_live; /* vector state is in the host registers, cpu.xsave is stale */
    struct bt_hot hot;
    struct bt_vcpu *bt;
    struct kvm_vcpu *kvm;

    struct tlb tlb;
    struct lapic lapic;

    struct vm_cpus *vm;
    unsigned index; /* 0 is the boot processor; also the APIC id */
    struct vcpu_exit exit;
    struct vcpu_stats stats;
    uint32_t watch_hits;    /* data and I/O breakpoints met, not yet a #DB: bit n for DRn */
    _Atomic uint32_t futex; /* 1 while vcpu_wait() or vcpu_park() sleeps on it */
    uint64_t spin_since, spin_last, spin_free; /* TSC, TSC, PAUSEs: vcpu_spin() */
    /* The debugger's: leave run() at a kick; stop after a step, unless RIP is in [from, to). */
    _Atomic bool pause;
    uint64_t step_from, step_to;
    struct debug_stop debug_stop;
    struct jc_entry jc[TLB_CTXS][JC_ENTRIES];
};

/* From any thread, async-signal-safe: make run() or vcpu_wait() look at pending events soon. */
void vcpu_kick(struct vcpu *v);

/* All limits to 0. */
void vcpu_close_windows(struct vcpu *v);

/* Engine side: take note of a kick (clears it, restores poll_ptr). True when there was one. */
bool vcpu_take_kick(struct vcpu *v);

/* Engine side, after a kick was taken: does it ask run() to return, and with what? */
static inline bool vcpu_must_leave(const struct vcpu *v, enum exit_reason *r)
{
    if (atomic_load(&v->vm->stop))
        *r = EXIT_STOP;
    else if (atomic_load(&v->pause))
        *r = EXIT_KICKED;
    else
        return false;
    return true;
}

/* After EXIT_HLT, before vcpu_wait(), not with kvm: do all CPUs sleep with interrupts off, and is
 * there nothing left that could send an NMI, INIT or SIPI? */
bool vcpu_never_wakes(struct vcpu *v);

/* A single step is of the program's own instructions: interrupts wait, unless it is they that end a
 * HLT. */
static inline bool vcpu_holds_irqs(const struct vcpu *v)
{
    return (v->debug & DEBUG_STEP) && !v->cpu.halted && !v->cpu.wait_for_sipi;
}

/* Block the thread until an interrupt may be deliverable, a kick, or vm->stop. Uses the LAPIC's own
 * next deadline as the timeout, so an idle guest costs no other thread's wake-up. */
void vcpu_wait(struct vcpu *v);

/* The guest executes PAUSE (spin.c). */
void vcpu_spin(struct vcpu *v);

/* Block the thread until a kick, which is left to be taken. */
void vcpu_park(struct vcpu *v);

/* Put the vector state into cpu.xsave / into the host registers. Idempotent. */
void fpu_put(struct vcpu *v);
void fpu_take(struct vcpu *v);

/* Called at instruction boundaries by bt and interp: deliver a pending NMI or interrupt if the
 * guest lets us. Returns 1 when one was delivered (RIP changed), 0 when none, CPU_FAULT on triple
 * fault (v->exit set to EXIT_SHUTDOWN; or EXIT_ERROR, see ram_protect()). */
int vcpu_inject(struct vcpu *v);

/* After a change of the state named: flush what depends on it (TLB, jump cache, windows). The one
 * place that engines hook (bt_note_*). */
void vcpu_note_cr3(struct vcpu *v); /* MOV CR3: non-global, of the current PCID */
/* MOV CR3 with CR4.PCIDE, to this PCID; keep: bit 63. */
void vcpu_note_pcid(struct vcpu *v, uint16_t pcid, bool keep);
void vcpu_note_forget(struct vcpu *v, uint16_t pcid); /* INVPCID of another one */
void vcpu_note_forget_all(struct vcpu *v);            /* of all others */
void vcpu_note_paging(struct vcpu *v); /* CR0.PG/WP, CR4.*, EFER.NXE/LMA: everything */
void vcpu_note_invlpg(struct vcpu *v, gva_t lin);

/* Guest TSC now. */
uint64_t vcpu_tsc(const struct vcpu *v);

#endif
