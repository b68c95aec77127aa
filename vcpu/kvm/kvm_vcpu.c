#include "vcpu/kvm/kvm.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "paging/copy.h"
#include "vcpu/lapic_regs.h"
#include "vcpu/mem.h"

/* --- kicks ---
 * The kicker sets run->immediate_exit, then sends a signal if the thread may be inside KVM_RUN:
 * before the guest is entered KVM sees the one, inside the guest the other ends it. The vCPU thread
 * clears immediate_exit before it looks at the flags that kicks are about, so none is lost.
 */
#define KICK_SIGNAL SIGRTMIN

static void on_kick(int sig)
{
    (void)sig; /* its delivery is what ends KVM_RUN */
}

int kvm_kick_signal_init(void)
{
    struct sigaction sa = {.sa_handler = on_kick, .sa_flags = SA_ONSTACK};

    sigemptyset(&sa.sa_mask);
    return sigaction(KICK_SIGNAL, &sa, NULL) ? -errno : 0;
}

void kvm_vcpu_kick(struct vcpu *v)
{
    struct kvm_vcpu *k = __atomic_load_n(&v->kvm, __ATOMIC_ACQUIRE);
    int saved = errno; /* may run in a signal handler */

    if (!k)
        return;
    __atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (atomic_load(&k->in_run))
        syscall(SYS_tgkill, getpid(), k->tid, KICK_SIGNAL);
    errno = saved;
}

/* --- life --- */

/* The TSC runs at the host's rate unless the machine asks for another and the host can scale. */
static int set_tsc_khz(struct vcpu *v, const char **what)
{
    /* The VM's answer (Linux 5.17) costs no load of the vCPU. */
    long khz = kvm_ioctl(v->vm->kvm_fd, KVM_GET_TSC_KHZ, NULL);
    uint64_t want = v->vm->tsc_hz / 1000;

    if (khz <= 0)
        khz = kvm_ioctl(v->kvm->fd, KVM_GET_TSC_KHZ, NULL);
    if (khz <= 0)
        return 0; /* an unstable host TSC: KVM does not say, nothing can be asked of it */
    if (!want) {
        v->vm->tsc_hz = (uint64_t)khz * 1000;
        return 0;
    }
    uint64_t diff = want > (uint64_t)khz ? want - (uint64_t)khz : (uint64_t)khz - want;

    if (diff <= (uint64_t)khz / 4000) /* 250 ppm, KVM's own tolerance */
        return 0;
    if (kvm_ioctl(v->vm->kvm->dev_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_TSC_CONTROL) <= 0)
        return 0; /* measured differently, but it is the same counter */
    *what = "KVM_SET_TSC_KHZ";
    return (int)kvm_ioctl(v->kvm->fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)want);
}

/* The block stays until kvm_vm_fini(): another thread may be in the middle of a kick. */
void kvm_vcpu_fini(struct vcpu *v)
{
    struct kvm_vcpu *k = v->kvm;

    if (!k)
        return;
    __atomic_store_n(&v->kvm, NULL, __ATOMIC_RELEASE);
    /* struct lapic rules again: its timer needs the machine's, the 8259 its pin. */
    if (k->held && !atomic_load(&v->vm->stop)) {
        if (v->index == 0 && atomic_load(&v->vm->kvm->intr))
            atomic_fetch_or(&v->lapic.events, LAPIC_EV_EXTINT);
        lapic_timer_set_lvt(v, v->lapic.lvt_timer);
    }
}

void kvm_vcpu_free(struct kvm_vm *vm, struct kvm_vcpu *k)
{
    munmap(k->run, vm->run_size);
    close(k->fd);
    munmap(k, sizeof *k);
}

int kvm_vcpu_create(struct kvm_vm *vm, unsigned index, const char **what)
{
    struct kvm_vcpu *k = kvm_block(sizeof *k);
    int r;

    *what = "memory for the vCPU";
    if (!k)
        return -ENOMEM;
    k->index = index;
    k->fresh = true;
    *what = "KVM_CREATE_VCPU";
    k->fd = (int)kvm_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)index);
    if (k->fd < 0) {
        r = k->fd;
        munmap(k, sizeof *k);
        return r;
    }
    *what = "mmap of struct kvm_run";
    k->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd, 0);
    if (k->run == MAP_FAILED) {
        r = -errno;
        close(k->fd);
        munmap(k, sizeof *k);
        return r;
    }
    k->next = vm->vcpus;
    vm->vcpus = k;
    return 0;
}

int kvm_vcpu_init(struct vcpu *v, const char **what)
{
    struct kvm_vcpu *k = v->vm->kvm->vcpus;
    sigset_t set;
    int r;

    while (k && k->index != v->index)
        k = k->next;
    if (!k) {
        *what = "a vCPU that vm_init() did not know of";
        return -EINVAL;
    }
    k->tid = (int)syscall(SYS_gettid);
    __atomic_store_n(&v->kvm, k, __ATOMIC_RELEASE);
    sigemptyset(&set);
    sigaddset(&set, KICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    r = kvm_cpuid_set(v, what);
    if (!r)
        r = set_tsc_khz(v, what);
    if (!r) {
        *what = "setting up a vCPU thread's signal stack";
        r = kvm_emulate_thread_init(v);
    }
    if (r)
        kvm_vcpu_fini(v);
    return r;
}

/* --- exits --- */

static enum exit_reason fail(struct vcpu *v, const char *what, int err)
{
    v->exit = (struct vcpu_exit){.reason = EXIT_ERROR, .what = what, .err = err};
    return EXIT_ERROR;
}

/* fmt has a place for one long long. */
static __attribute__((format(printf, 2, 0))) enum exit_reason
fail_with(struct vcpu *v, const char *fmt, unsigned long long number)
{
    struct kvm_vcpu *k = v->kvm;

    snprintf(k->what, sizeof k->what, fmt, number);
    return fail(v, k->what, 0);
}

/* Linux 5.14 and later say which bytes KVM could not emulate. */
static void note_bytes(struct vcpu *v)
{
    const struct kvm_run *run = v->kvm->run;
    unsigned n = run->emulation_failure.insn_size;

    if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION ||
        run->emulation_failure.ndata < 3 ||
        !(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
        return;
    if (n > sizeof v->exit.bytes)
        n = sizeof v->exit.bytes;
    memcpy(v->exit.bytes, run->emulation_failure.insn_bytes, n);
    v->exit.nbytes = (uint8_t)n;
}

static const char *internal_error(uint32_t suberror)
{
    switch (suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
        return "KVM_EXIT_INTERNAL_ERROR 1: KVM cannot emulate this instruction";
    case KVM_INTERNAL_ERROR_SIMUL_EX:
        return "KVM_EXIT_INTERNAL_ERROR 2: simultaneous exceptions";
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
        return "KVM_EXIT_INTERNAL_ERROR 3: exit while an event was delivered";
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
        return "KVM_EXIT_INTERNAL_ERROR 4: unexpected VM exit reason";
    }
    return "KVM_EXIT_INTERNAL_ERROR of an unknown kind";
}

/* run->io.size comes from KVM, 1, 2 or 4, count at most a page of data; both checked all the same:
 * the page is shared with the kernel, not with the guest. */
static int do_pio(struct vcpu *v)
{
    struct kvm_run *run = v->kvm->run;
    const struct machine_ops *ops = v->vm->ops;
    unsigned size = run->io.size;
    uint64_t off = run->io.data_offset, len = (uint64_t)run->io.count * size;

    if ((size != 1 && size != 2 && size != 4) || off + len > v->vm->kvm->run_size)
        return -EINVAL;
    uint8_t *p = (uint8_t *)run + off;

    for (uint32_t i = 0; i < run->io.count; i++, p += size) {
        uint64_t val = 0;

        if (run->io.direction == KVM_EXIT_IO_IN) {
            val = ops->pio_read(v->vm->machine, run->io.port, size);
            memcpy(p, &val, size);
            v->stats.pio_reads++;
        } else {
            memcpy(&val, p, size);
            ops->pio_write(v->vm->machine, run->io.port, size, val);
            v->stats.pio_writes++;
        }
    }
    v->stats.exits[EXIT_PIO]++;
    return 0;
}

static int do_mmio(struct vcpu *v)
{
    struct kvm_run *run = v->kvm->run;
    const struct machine_ops *ops = v->vm->ops;
    unsigned len = run->mmio.len;
    gpa_t gpa = run->mmio.phys_addr;
    uint64_t val = 0;

    if (len == 0 || len > 8)
        return -EINVAL;
    if (run->mmio.is_write) {
        memcpy(&val, run->mmio.data, len);
        ops->mmio_write(v->vm->machine, gpa, len, val);
        v->stats.mmio_writes++;
        if (gpa - IOAPIC_BASE < PAGE_SIZE)
            kvm_irq_ioapic_written(v->vm);
    } else {
        val = ops->mmio_read(v->vm->machine, gpa, len);
        memcpy(run->mmio.data, &val, len);
        v->stats.mmio_reads++;
    }
    v->stats.exits[EXIT_MMIO]++;
    return 0;
}

/* 0: handled, enter again. 1: *out says why run() returns. */
static int handle_exit(struct vcpu *v, enum exit_reason *out)
{
    struct kvm_run *run = v->kvm->run;
    uint32_t why = run->exit_reason;

    v->stats.kvm_exits[why < 64 ? why : 63]++;
    switch (why) {
    case KVM_EXIT_IO:
        if (!do_pio(v))
            return 0;
        *out = fail(v, "KVM_EXIT_IO of an impossible size", 0);
        return 1;
    case KVM_EXIT_MMIO:
        if (!do_mmio(v))
            return 0;
        *out = fail(v, "KVM_EXIT_MMIO of an impossible size", 0);
        return 1;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN: /* kvm_irq_before_run() does the rest */
        return 0;
    case KVM_EXIT_IOAPIC_EOI:
        ioapic_eoi(&v->vm->irqchip, run->eoi.vector);
        return 0;
    case KVM_EXIT_DEBUG:
        if (!v->vm->debug || !kvm_debug_exit(v))
            return 0;
        v->exit = (struct vcpu_exit){.reason = EXIT_DEBUG};
        *out = EXIT_DEBUG;
        return 1;
    case KVM_EXIT_SHUTDOWN:
        v->exit = (struct vcpu_exit){.reason = EXIT_SHUTDOWN};
        *out = EXIT_SHUTDOWN;
        return 1;
    case KVM_EXIT_HLT: /* not with the in-kernel APIC */
        v->exit = (struct vcpu_exit){.reason = EXIT_HLT};
        *out = EXIT_HLT;
        return 1;
    case KVM_EXIT_INTERNAL_ERROR:
        v->kvm->emulate = run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION;
        *out = fail(v, internal_error(run->internal.suberror), 0);
        note_bytes(v);
        return 1;
    case KVM_EXIT_FAIL_ENTRY:
        /* SDM 3D appendix C, or SVM's EXITCODE */
        *out = fail_with(
            v, "KVM_EXIT_FAIL_ENTRY: the processor refused the guest's state, reason %#llx",
            run->fail_entry.hardware_entry_failure_reason);
        return 1;
    }
    *out = fail_with(v, "KVM_RUN returned exit reason %llu, which mayfly does not know", why);
    return 1;
}

/* --- running --- */

/* An instruction that left for a port or a device is finished by the next KVM_RUN only; a REP OUTS
 * goes on for at most 1024 elements before KVM looks at immediate_exit. */
#define MAX_COMPLETIONS 65536u

/* Signals blocked while KVM_RUN is inside; NULL: as outside of it. */
static long set_run_mask(struct vcpu *v, const uint64_t *blocked)
{
    struct {
        struct kvm_signal_mask head;
        uint8_t set[8];
    } m = {.head.len = 8};

    if (blocked)
        memcpy(m.set, blocked, 8);
    return kvm_ioctl(v->kvm->fd, KVM_SET_SIGNAL_MASK, blocked ? &m : NULL);
}

/*
 * Enter the kernel without running guest code. immediate_exit returns before events are looked at,
 * and what KVM_INTERRUPT has handed over is in no register that KVM shows until they are: then a
 * signal is used that is pending inside KVM_RUN only. With it KVM injects, sees the signal, takes
 * the injection back and shows it as an event.
 */
static long enter_and_return(struct vcpu *v)
{
    struct kvm_vcpu *k = v->kvm;
    const uint64_t none = 0;
    sigset_t kick, old;
    long r;

    if (!k->ext_injected || set_run_mask(v, &none)) {
        __atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        return kvm_ioctl(k->fd, KVM_RUN, NULL);
    }
    sigemptyset(&kick);
    sigaddset(&kick, KICK_SIGNAL);
    pthread_sigmask(SIG_BLOCK, &kick, &old);
    __atomic_store_n(&k->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    syscall(SYS_tgkill, getpid(), k->tid, KICK_SIGNAL);
    r = kvm_ioctl(k->fd, KVM_RUN, NULL);
    if (r == -EINTR ||
        r == -EAGAIN) /* a halted CPU was woken by the first, injects in the second */
        r = kvm_ioctl(k->fd, KVM_RUN, NULL);
    set_run_mask(v, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return r;
}

/*
 * Finish the instruction that is under way and fetch regs, sregs and events in the same call.
 * Synchronised registers are asked for here only: an exit that is handled inside run() does not pay
 * for them. Returns the reason, changed when finishing ended the guest.
 */
static enum exit_reason complete(struct vcpu *v, enum exit_reason reason)
{
    struct kvm_run *run = v->kvm->run;

    run->request_interrupt_window = 0;
    run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
    for (unsigned i = 0;; i++) {
        long r = enter_and_return(v);

        if (r == -EINTR || r == -EAGAIN)
            break;
        if (r < 0) {
            reason = fail(v, "KVM_RUN (finishing an instruction)", (int)-r);
            break;
        }
        if (reason == EXIT_ERROR || reason == EXIT_SHUTDOWN || i == MAX_COMPLETIONS ||
            handle_exit(v, &reason))
            break;
    }
    run->kvm_valid_regs = 0;
    v->kvm->ext_injected = false;
    return reason;
}

/* For the report: where, and the code there when KVM did not give it. */
static void note_place(struct vcpu *v)
{
    struct vcpu_exit *e = &v->exit;
    unsigned got = 0;

    e->rip = v->cpu.rip;
    if (e->reason != EXIT_ERROR || e->nbytes)
        return;
    if (!mem_fetch(v, v->cpu.seg[SEG_CS].base + v->cpu.rip, e->bytes, sizeof e->bytes, &got))
        e->nbytes = (uint8_t)got;
}

/* struct cpu becomes the truth. */
static enum exit_reason leave(struct vcpu *v, enum exit_reason reason)
{
    const char *what = NULL;

    if (reason == EXIT_STOP && atomic_load(&v->vm->last) && !v->vm->debug)
        return reason; /* ten ioctls less */
    reason = complete(v, reason);
    /* After a crash the event that led to it is no news; the state at RIP is. */
    int r =
        kvm_export(v, v->kvm->emulate || (reason != EXIT_ERROR && reason != EXIT_SHUTDOWN), &what);

    if (r)
        v->kvm->emulate = false;
    if (r > 0)
        reason = EXIT_SHUTDOWN;
    else if (r < 0 && reason != EXIT_ERROR)
        reason = fail(v, what, -r);
    v->exit.reason = reason;
    note_place(v);
    return reason;
}

/* Kicked or told to stop? */
static bool must_leave(struct vcpu *v, enum exit_reason *reason)
{
    bool kicked = vcpu_take_kick(v);

    if (atomic_load(&v->vm->stop))
        *reason = EXIT_STOP;
    else if (kicked)
        *reason = EXIT_KICKED;
    else
        return false;
    v->exit = (struct vcpu_exit){.reason = *reason};
    return true;
}

/* From struct cpu to struct cpu. */
static enum exit_reason run_once(struct vcpu *v)
{
    struct kvm_vcpu *k = v->kvm;
    struct kvm_run *run = k->run;
    enum exit_reason reason;
    const char *what = NULL;
    int err;

    if (kvm_stale(v) && (err = kvm_import(v, &what))) {
        reason = fail(v, what, -err);
        vcpu_note_paging(v); /* the report looks at code */
        k->tlb_used = true;
        v->exit.rip = v->cpu.rip;
        return reason;
    }
    if (v->vm->debug && (err = kvm_debug_apply(v))) {
        reason = fail(v, "KVM_SET_GUEST_DEBUG", -err);
        v->exit.rip = v->cpu.rip;
        return reason;
    }
    for (;;) {
        __atomic_store_n(&run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        if (must_leave(v, &reason))
            break;
        err = kvm_irq_before_run(v, &what);
        if (err) {
            reason = fail(v, what, -err);
            break;
        }
        atomic_store(&k->in_run, true);
        err = (int)kvm_ioctl(k->fd, KVM_RUN, NULL);
        atomic_store_explicit(&k->in_run, false, memory_order_release);
        if (err == -EINTR || err == -EAGAIN) {
            v->stats.kvm_exits[KVM_EXIT_INTR]++;
            continue;
        }
        if (err < 0) {
            reason = fail(v,
                          err == -EFAULT ? "access that guest memory does not permit (read-only?)"
                                         : "KVM_RUN",
                          -err);
            break;
        }
        if (handle_exit(v, &reason))
            break;
    }
    return leave(v, reason);
}

enum exit_reason kvm_vcpu_run(struct vcpu *v)
{
    enum exit_reason reason;

    do {
        v->kvm->emulate = false;
        reason = run_once(v);
    } while (reason == EXIT_ERROR && v->kvm->emulate && kvm_emulate(v));
    return v->exit.reason;
}
