#include "vcpu/kvm/kvm.h"

#include <errno.h>
#include "paging/copy.h"
#include "vcpu/except.h"

#define MSR_TSC_DEADLINE 0x6e0u

static bool same(const void *a, const void *b, size_t n)
{
    const uint64_t *x = a, *y = b;

    for (size_t i = 0; i < n / 8; i++)
        if (x[i] != y[i])
            return false;
    return true;
}
_Static_assert(sizeof(struct cpu) % 8 == 0 && sizeof(struct lapic) % 8 == 0,
               "compared by quadwords");

/* What KVM holds of this already, from the last import or export, need not be set again. */
#define HELD(v, field) \
    ((v)->kvm->held && same(&(v)->cpu.field, &(v)->kvm->cpu.field, sizeof(v)->cpu.field))

/* --- x87, SSE, AVX; XCR0; debug registers; events --- */

/* XSTATE_BV is the first quadword of the XSAVE header (SDM 1 13.4.2). */
static uint64_t *xstate_bv(void *area)
{
    return (uint64_t *)(void *)((uint8_t *)area + 512);
}

/* As FNINIT leaves it, with MXCSR's reset value: what cpu_reset() makes and KVM has given every new
 * vCPU since there is KVM. (Quadword 0 has FCW, 3 MXCSR and its mask, 64 XSTATE_BV.) */
static bool fpu_is_reset(const struct cpu *c)
{
    const uint64_t *x = (const uint64_t *)(const void *)c->xsave;

    for (unsigned i = 1; i < XSAVE_AREA_SIZE / 8; i++)
        if (x[i] && i != 3 && i != 64)
            return false;
    return x[0] == 0x37f && (uint32_t)x[3] == 0x1f80 && c->xcr0 == 1;
}

static int set_fpu(struct vcpu *v, const char **what)
{
    struct kvm_vcpu *k = v->kvm;
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = v->cpu.xcr0}}};

    if ((HELD(v, xsave) && HELD(v, xcr0)) || (k->fresh && fpu_is_reset(&v->cpu)))
        return 0;
    zero_bytes(&k->xsave, sizeof k->xsave);
    copy_bytes(&k->xsave, v->cpu.xsave, sizeof v->cpu.xsave);
    *xstate_bv(&k->xsave) &= k->xstate_mask;
    *what = "KVM_SET_XSAVE";
    long r = kvm_ioctl(k->fd, KVM_SET_XSAVE, &k->xsave);

    /* XCR0 is 1 from reset on and cannot change without CPUID's XSAVE bit. */
    if (!r && ((k->xstate_mask & 4 && !k->fresh) || v->cpu.xcr0 != 1)) {
        *what = "KVM_SET_XCRS";
        r = kvm_ioctl(k->fd, KVM_SET_XCRS, &xcrs);
    }
    return (int)r;
}

static int get_fpu(struct vcpu *v, const char **what)
{
    struct kvm_vcpu *k = v->kvm;
    struct kvm_xcrs xcrs;

    *what = "KVM_GET_XSAVE";
    long r = kvm_ioctl(k->fd, KVM_GET_XSAVE, &k->xsave);

    if (r)
        return (int)r;
    copy_bytes(v->cpu.xsave, &k->xsave, sizeof v->cpu.xsave);
    /* KVM wrote the initial values of components that are in their initial state, so all are
     * valid; the rest of the header is zero in the standard form. */
    *xstate_bv(v->cpu.xsave) = k->xstate_mask;
    *what = "KVM_GET_XCRS";
    r = kvm_ioctl(k->fd, KVM_GET_XCRS, &xcrs);
    if (!r)
        for (unsigned i = 0; i < xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++)
            if (xcrs.xcrs[i].xcr == 0)
                v->cpu.xcr0 = xcrs.xcrs[i].value;
    return (int)r;
}

static int set_debugregs(struct vcpu *v)
{
    const uint64_t *dr = v->cpu.dr;

    if (HELD(v, dr) || (v->kvm->fresh && !(dr[0] | dr[1] | dr[2] | dr[3]) && dr[6] == 0xffff0ff0 &&
                        dr[7] == 0x400))
        return 0;
    struct kvm_debugregs d = {.db = {dr[0], dr[1], dr[2], dr[3]}, .dr6 = dr[6], .dr7 = dr[7]};

    return (int)kvm_ioctl(v->kvm->fd, KVM_SET_DEBUGREGS, &d);
}

static int get_debugregs(struct vcpu *v)
{
    struct kvm_debugregs d;
    long r = kvm_ioctl(v->kvm->fd, KVM_GET_DEBUGREGS, &d);

    if (r)
        return (int)r;
    for (unsigned i = 0; i < 4; i++)
        v->cpu.dr[i] = d.db[i];
    v->cpu.dr[6] = d.dr6;
    v->cpu.dr[7] = d.dr7;
    return 0;
}

static int set_events(struct vcpu *v)
{
    const struct cpu *c = &v->cpu, *had = &v->kvm->cpu;
    struct kvm_vcpu_events e = {
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
        .nmi = {.pending = c->nmi_pending != 0, .masked = c->nmi_blocked},
        /* VM entry refuses blocking by STI with IF clear (SDM 3C 27.3.1.5): it was MOV SS. */
        .interrupt.shadow = !c->int_shadow ? 0
                            : c->int_shadow == SHADOW_STI && (c->rflags & FL_IF)
                                ? KVM_X86_SHADOW_INT_STI
                                : KVM_X86_SHADOW_INT_MOV_SS,
    };

    if (atomic_fetch_and(&v->lapic.events, ~(uint32_t)(LAPIC_EV_NMI | LAPIC_EV_NMI_MORE)) &
        LAPIC_EV_NMI)
        e.nmi.pending = 1;
    if (v->kvm->fresh && !e.nmi.pending && !e.nmi.masked && !e.interrupt.shadow)
        return 0;
    /* An NMI that came meanwhile would be lost with what is set for nothing. */
    if (v->kvm->held && !v->kvm->in_flight && c->int_shadow == had->int_shadow &&
        c->nmi_blocked == had->nmi_blocked && !!c->nmi_pending == !!had->nmi_pending &&
        !(e.nmi.pending && !c->nmi_pending))
        return 0;
    v->kvm->in_flight = false;
    return (int)kvm_ioctl(v->kvm->fd, KVM_SET_VCPU_EVENTS, &e);
}

static int set_mp_state(struct vcpu *v)
{
    struct kvm_mp_state s = {.mp_state = v->cpu.wait_for_sipi ? KVM_MP_STATE_INIT_RECEIVED
                                         : v->cpu.halted      ? KVM_MP_STATE_HALTED
                                                              : KVM_MP_STATE_RUNNABLE};

    if (v->kvm->fresh && v->index == 0 && s.mp_state == KVM_MP_STATE_RUNNABLE)
        return 0;
    /* Nor may an INIT or a start-up IPI that came meanwhile be undone. */
    if (v->kvm->held && v->cpu.halted == v->kvm->cpu.halted &&
        v->cpu.wait_for_sipi == v->kvm->cpu.wait_for_sipi)
        return 0;
    return (int)kvm_ioctl(v->kvm->fd, KVM_SET_MP_STATE, &s);
}

static int get_mp_state(struct vcpu *v)
{
    struct kvm_mp_state s;
    long r = kvm_ioctl(v->kvm->fd, KVM_GET_MP_STATE, &s);

    if (r)
        return (int)r;
    v->cpu.wait_for_sipi = s.mp_state == KVM_MP_STATE_UNINITIALIZED ||
                           s.mp_state == KVM_MP_STATE_INIT_RECEIVED ||
                           s.mp_state == KVM_MP_STATE_SIPI_RECEIVED;
    v->cpu.halted = s.mp_state == KVM_MP_STATE_HALTED || v->cpu.wait_for_sipi;
    return 0;
}

/* --- whole --- */

bool kvm_stale(const struct vcpu *v)
{
    const struct kvm_vcpu *k = v->kvm;

    return !k->held || !same(&v->cpu, &k->cpu, sizeof v->cpu) ||
           !same(&v->lapic, &k->lapic, sizeof v->lapic);
}

static void remember(struct vcpu *v)
{
    struct kvm_vcpu *k = v->kvm;

    copy_bytes(&k->cpu, &v->cpu, sizeof v->cpu);
    copy_bytes(&k->lapic, (const void *)&v->lapic, sizeof v->lapic);
    k->held = true;
}

static int set_lapic(struct vcpu *v)
{
    struct kvm_lapic_state page = {0};
    uint64_t deadline = v->lapic.tsc_deadline;

    if (v->kvm->fresh && kvm_lapic_is_reset(v))
        return 0;
    /* Interrupts that came since it was read are in KVM's and not in ours. */
    if (v->kvm->held && same(&v->lapic, &v->kvm->lapic, sizeof v->lapic))
        return 0;
    kvm_lapic_to_page(v, &page);
    long r = kvm_ioctl(v->kvm->fd, KVM_SET_LAPIC, &page);

    /* After the page: KVM takes it only when the LVT says TSC-deadline. */
    if (!r && deadline)
        r = kvm_one_msr(v, true, MSR_TSC_DEADLINE, &deadline);
    return (int)r;
}

/* The first time, what equals the state after RESET is there already and is not set, later what KVM
 * holds: an ioctl on a vCPU is 6.5 us here, and what came to KVM since the state was read (from
 * other CPUs, from devices) must not be overwritten.
 *
 * Order: CPUID (vcpu_init) before everything that it gates; APIC_BASE (sregs) before the LAPIC
 * page, whose form depends on it; the TSC before the timer; the MSRs before events. */
int kvm_import(struct vcpu *v, const char **what)
{
    int r;

    if ((r = kvm_set_regs(v, what)))
        goto fail;
    if ((r = set_fpu(v, what)))
        goto fail;
    *what = "KVM_SET_DEVICE_ATTR (KVM_VCPU_TSC_OFFSET)";
    if (!HELD(v, tsc_offset) && (r = kvm_set_tsc(v)))
        goto fail;
    *what = "KVM_SET_MSRS";
    if ((r = kvm_move_msrs(v, true)))
        goto fail;
    *what = "KVM_SET_DEBUGREGS";
    if ((r = set_debugregs(v)))
        goto fail;
    *what = "KVM_SET_LAPIC";
    if ((r = set_lapic(v)))
        goto fail;
    *what = "KVM_SET_MP_STATE";
    if ((r = set_mp_state(v)))
        goto fail;
    *what = "KVM_SET_VCPU_EVENTS";
    if ((r = set_events(v)))
        goto fail;
    v->kvm->fresh = false;
    remember(v);
    return 0;
fail:
    v->kvm->held = false; /* some of it at most */
    return r;
}

static int get_lapic(struct vcpu *v)
{
    struct kvm_lapic_state page;
    long r = kvm_ioctl(v->kvm->fd, KVM_GET_LAPIC, &page);

    if (r)
        return (int)r;
    v->lapic.tsc_deadline = 0;
    r = kvm_one_msr(v, false, MSR_TSC_DEADLINE, &v->lapic.tsc_deadline);
    if (r && r != -EINVAL) /* a CPU without the TSC-deadline timer has none */
        return (int)r;
    kvm_lapic_from_page(v, &page);
    return 0;
}

/* #PF's address travels with a pending exception and reaches CR2 only when KVM is asked for the
 * events, which may be after the sregs were copied. */
static int refresh_cr2(struct vcpu *v)
{
    struct kvm_sregs s;
    long r = kvm_ioctl(v->kvm->fd, KVM_GET_SREGS, &s);

    if (!r)
        v->cpu.cr2 = s.cr2;
    return (int)r;
}

/* struct cpu has no place for an event between its recognition and its delivery, so what KVM was
 * about to inject is delivered here, in software. */
static int deliver_in_flight(struct vcpu *v, const struct kvm_vcpu_events *e, const char **what)
{
    struct cpu *c = &v->cpu;

    *what = "KVM_GET_SREGS";
    /* KVM's verdict on an instruction of kernel code that it cannot emulate, where it could not be
     * told to give none (Linux before 5.14): the interpreter's counts. */
    if (v->kvm->emulate && e->exception.nr == VEC_UD)
        return 0;
    if (e->exception.injected || e->exception.pending) {
        int r = e->exception.nr == VEC_PF ? refresh_cr2(v) : 0;

        if (r)
            return r;
        c->exc =
            (struct exception){.vector = e->exception.nr,
                               .has_error = e->exception.has_error_code,
                               .error = e->exception.error_code,
                               .cr2 = c->cr2,
                               .is_soft = e->exception.nr == VEC_BP || e->exception.nr == VEC_OF};
        return cpu_deliver_exception(v) ? 1 : 0;
    }
    if (!e->interrupt.injected)
        return 0;
    c->halted = false;
    if (e->interrupt.soft) /* INT n goes to its gate again when the instruction is run again */
        return 0;
    return cpu_deliver_interrupt(v, e->interrupt.nr) ? 1 : 0;
}

int kvm_export(struct vcpu *v, bool deliver, const char **what)
{
    struct kvm_vcpu *k = v->kvm;
    struct cpu *c = &v->cpu;
    const struct kvm_sync_regs *s = &k->run->s.regs;
    int r;

    /* Translations that another engine left are of another time. */
    if (v->tlb.fills != k->tlb_fills || !k->tlb_used) {
        k->tlb_used = true;
        vcpu_note_paging(v);
        k->tlb_fills = v->tlb.fills;
    }
    if ((r = kvm_get_regs(v, what)))
        return r;
    c->int_shadow = s->events.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? SHADOW_SS
                    : s->events.interrupt.shadow                           ? SHADOW_STI
                                                                           : 0;
    c->nmi_pending = s->events.nmi.pending || s->events.nmi.injected;
    c->nmi_blocked = s->events.nmi.masked && !s->events.nmi.injected;
    k->in_flight = s->events.exception.injected || s->events.exception.pending ||
                   s->events.interrupt.injected || s->events.nmi.injected;
    if ((r = get_fpu(v, what)))
        return r;
    /* The interpreter needs no more for most instructions; the rest is as it was on both sides. */
    if (k->emulate && k->held && kvm_emulate_by_registers(v)) {
        remember(v);
        return deliver ? deliver_in_flight(v, &s->events, what) : 0;
    }
    *what = "KVM_GET_DEVICE_ATTR (KVM_VCPU_TSC_OFFSET)";
    if ((r = kvm_get_tsc(v)))
        return r;
    *what = "KVM_GET_MSRS";
    if ((r = kvm_move_msrs(v, false)))
        return r;
    *what = "KVM_GET_DEBUGREGS";
    if ((r = get_debugregs(v)))
        return r;
    *what = "KVM_GET_LAPIC";
    if ((r = get_lapic(v)))
        return r;
    *what = "KVM_GET_MP_STATE";
    if ((r = get_mp_state(v)))
        return r;
    remember(v);
    /* Done in software, it is no longer what KVM holds: the next run() imports. */
    return deliver ? deliver_in_flight(v, &s->events, what) : 0;
}
