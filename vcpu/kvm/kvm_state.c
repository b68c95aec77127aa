#include "vcpu/kvm/kvm.h"

#include <errno.h>
#include "paging/copy.h"
#include "vcpu/except.h"

#define MSR_TSC_DEADLINE 0x6e0u

/* --- segments and control registers --- */

static struct kvm_segment seg_to_kvm(const struct seg *s)
{
    uint32_t a = s->attr;

    return (struct kvm_segment){
        .base = s->base,
        .limit = s->limit,
        .selector = s->sel,
        .type = (uint8_t)SEG_TYPE(a),
        .s = !!(a & SEG_S),
        .dpl = (uint8_t)SEG_DPL(a),
        .present = !!(a & SEG_P),
        .avl = !!(a & SEG_AVL),
        .l = !!(a & SEG_L),
        .db = !!(a & SEG_DB),
        .g = !!(a & SEG_G),
        .unusable = !!(a & SEG_NULL),
    };
}

static struct seg seg_from_kvm(const struct kvm_segment *k)
{
    return (struct seg){
        .base = k->base,
        .limit = k->limit,
        .sel = k->selector,
        .attr = k->unusable ? SEG_NULL | (uint32_t)(k->dpl & 3) << 5
                            : (k->type & 0xfu) | (k->s ? SEG_S : 0) | (uint32_t)(k->dpl & 3) << 5 |
                                  (k->present ? SEG_P : 0) | (k->avl ? SEG_AVL : 0) |
                                  (k->l ? SEG_L : 0) | (k->db ? SEG_DB : 0) | (k->g ? SEG_G : 0),
    };
}

static bool pae_paging(const struct cpu *c)
{
    return (c->cr0 & CR0_PG) && (c->cr4 & CR4_PAE) && !(c->efer & EFER_LMA);
}

/* struct kvm_sregs and kvm_sregs2 begin alike. */
#define SREGS_TO_KVM(s, v)                                     \
    do {                                                       \
        const struct cpu *c_ = &(v)->cpu;                      \
        (s)->cs = seg_to_kvm(&c_->seg[SEG_CS]);                \
        (s)->ds = seg_to_kvm(&c_->seg[SEG_DS]);                \
        (s)->es = seg_to_kvm(&c_->seg[SEG_ES]);                \
        (s)->fs = seg_to_kvm(&c_->seg[SEG_FS]);                \
        (s)->gs = seg_to_kvm(&c_->seg[SEG_GS]);                \
        (s)->ss = seg_to_kvm(&c_->seg[SEG_SS]);                \
        (s)->ss.dpl = c_->cpl; /* where VMX and SVM keep it */ \
        (s)->tr = seg_to_kvm(&c_->tr);                         \
        (s)->ldt = seg_to_kvm(&c_->ldtr);                      \
        (s)->gdt.base = c_->gdtr.base;                         \
        (s)->gdt.limit = c_->gdtr.limit;                       \
        (s)->idt.base = c_->idtr.base;                         \
        (s)->idt.limit = c_->idtr.limit;                       \
        (s)->cr0 = c_->cr0;                                    \
        (s)->cr2 = c_->cr2;                                    \
        (s)->cr3 = c_->cr3;                                    \
        (s)->cr4 = c_->cr4;                                    \
        (s)->cr8 = lapic_get_cr8(v);                           \
        (s)->efer = c_->efer;                                  \
        (s)->apic_base = (v)->lapic.base_msr;                  \
    } while (0)

static struct kvm_regs regs_to_kvm(const struct cpu *c)
{
    const uint64_t *g = c->gpr;

    return (struct kvm_regs){
        .rax = g[RAX],
        .rbx = g[RBX],
        .rcx = g[RCX],
        .rdx = g[RDX],
        .rsi = g[RSI],
        .rdi = g[RDI],
        .rsp = g[RSP],
        .rbp = g[RBP],
        .r8 = g[R8],
        .r9 = g[R9],
        .r10 = g[R10],
        .r11 = g[R11],
        .r12 = g[R12],
        .r13 = g[R13],
        .r14 = g[R14],
        .r15 = g[R15],
        .rip = c->rip,
        .rflags = c->rflags,
    };
}

/* The same KVM has 64-bit paging only and drops CR0.PG of the others without a word. */
static int check_paging(struct vcpu *v, const char **what)
{
    struct kvm_sregs s;

    if (!(v->cpu.cr0 & CR0_PG) || (v->cpu.efer & EFER_LMA))
        return 0;
    *what = "KVM_SET_SREGS (32-bit and PAE paging)";
    long r = kvm_ioctl(v->kvm->fd, KVM_GET_SREGS, &s);

    return r ? (int)r : s.cr0 & CR0_PG ? 0 : -ENOTSUP;
}

/* A new boot processor's first registers go in with its first KVM_RUN, which saves two ioctls. Not
 * what needs a look afterwards, or has a state that depends on them already. */
static bool sregs_with_run(const struct vcpu *v)
{
    return v->kvm->fresh && v->index == 0 && !v->vm->debug && kvm_lapic_is_reset(v) &&
           (!(v->cpu.cr0 & CR0_PG) || (v->cpu.efer & EFER_LMA));
}

static int set_sregs(struct vcpu *v, const char **what)
{
    long r;

    if (sregs_with_run(v)) {
        struct kvm_sregs *s = &v->kvm->run->s.regs.sregs;

        zero_bytes(s, sizeof *s);
        SREGS_TO_KVM(s, v);
        v->kvm->run->s.regs.regs = regs_to_kvm(&v->cpu);
        v->kvm->run->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
        return 0;
    }
    if (v->vm->kvm->sregs2) {
        struct kvm_sregs2 s = {0};

        SREGS_TO_KVM(&s, v);
        if (pae_paging(&v->cpu)) {
            s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
            for (unsigned i = 0; i < 4; i++)
                s.pdptrs[i] = v->cpu.pdpte[i];
        }
        *what = "KVM_SET_SREGS2";
        r = kvm_ioctl(v->kvm->fd, KVM_SET_SREGS2, &s);
    } else {
        /* PDPTEs are then reloaded from memory, as a MOV CR3 would. */
        struct kvm_sregs s = {0};

        SREGS_TO_KVM(&s, v);
        *what = "KVM_SET_SREGS";
        r = kvm_ioctl(v->kvm->fd, KVM_SET_SREGS, &s);
    }
    return r ? (int)r : check_paging(v, what);
}

static int get_pdptes(struct vcpu *v, const char **what)
{
    struct cpu *c = &v->cpu;

    if (!pae_paging(c))
        return 0;
    if (v->vm->kvm->sregs2) {
        struct kvm_sregs2 s;

        *what = "KVM_GET_SREGS2";
        long r = kvm_ioctl(v->kvm->fd, KVM_GET_SREGS2, &s);

        if (r)
            return (int)r;
        for (unsigned i = 0; i < 4; i++)
            c->pdpte[i] = s.pdptrs[i];
        return 0;
    }
    uint64_t pdpte[4];

    if (!ram_read(v->vm->ram, c->cr3 & 0xffffffe0u, pdpte, sizeof pdpte))
        __builtin_memcpy(c->pdpte, pdpte, sizeof pdpte);
    return 0;
}

static void sregs_from_kvm(struct vcpu *v, const struct kvm_sregs *s)
{
    struct cpu *c = &v->cpu;

    c->seg[SEG_CS] = seg_from_kvm(&s->cs);
    c->seg[SEG_DS] = seg_from_kvm(&s->ds);
    c->seg[SEG_ES] = seg_from_kvm(&s->es);
    c->seg[SEG_FS] = seg_from_kvm(&s->fs);
    c->seg[SEG_GS] = seg_from_kvm(&s->gs);
    c->seg[SEG_SS] = seg_from_kvm(&s->ss);
    c->tr = seg_from_kvm(&s->tr);
    c->ldtr = seg_from_kvm(&s->ldt);
    c->gdtr = (struct dtr){.base = s->gdt.base, .limit = s->gdt.limit};
    c->idtr = (struct dtr){.base = s->idt.base, .limit = s->idt.limit};
    c->cr0 = s->cr0;
    c->cr2 = s->cr2;
    c->cr3 = s->cr3;
    c->cr4 = s->cr4;
    c->cr8 = s->cr8;
    c->efer = s->efer;
    c->cpl = s->ss.dpl & 3;
    v->lapic.base_msr = s->apic_base;
}

static void regs_from_kvm(struct cpu *c, const struct kvm_regs *r)
{
    const uint64_t g[NGPR] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
                              r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};

    __builtin_memcpy(c->gpr, g, sizeof g);
    c->rip = r->rip;
    c->rflags = r->rflags | FL_R1;
}

/* --- x87, SSE, AVX; XCR0; debug registers; events --- */

/* XSTATE_BV is the first quadword of the XSAVE header (SDM 1 13.4.2). */
static uint64_t *xstate_bv(void *area)
{
    return (uint64_t *)(void *)((uint8_t *)area + 512);
}

static int set_fpu(struct vcpu *v, const char **what)
{
    struct kvm_vcpu *k = v->kvm;
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = v->cpu.xcr0}}};

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

    if (v->kvm->fresh && !(dr[0] | dr[1] | dr[2] | dr[3]) && dr[6] == 0xffff0ff0 && dr[7] == 0x400)
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
    const struct cpu *c = &v->cpu;
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
    return (int)kvm_ioctl(v->kvm->fd, KVM_SET_VCPU_EVENTS, &e);
}

static int set_mp_state(struct vcpu *v)
{
    struct kvm_mp_state s = {.mp_state = v->cpu.wait_for_sipi ? KVM_MP_STATE_INIT_RECEIVED
                                         : v->cpu.halted      ? KVM_MP_STATE_HALTED
                                                              : KVM_MP_STATE_RUNNABLE};

    if (v->kvm->fresh && v->index == 0 && s.mp_state == KVM_MP_STATE_RUNNABLE)
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
    kvm_lapic_to_page(v, &page);
    long r = kvm_ioctl(v->kvm->fd, KVM_SET_LAPIC, &page);

    /* After the page: KVM takes it only when the LVT says TSC-deadline. */
    if (!r && deadline)
        r = kvm_one_msr(v, true, MSR_TSC_DEADLINE, &deadline);
    return (int)r;
}

/* The first time, what equals the state after RESET is there already and is not set: an ioctl on a
 * vCPU is 6.5 us here.
 *
 * Order: CPUID (vcpu_init) before everything that it gates; APIC_BASE (sregs) before the LAPIC
 * page, whose form depends on it; the TSC before the timer; the MSRs before events. */
int kvm_import(struct vcpu *v, const char **what)
{
    struct kvm_regs regs = regs_to_kvm(&v->cpu);
    int fd = v->kvm->fd, r;

    v->kvm->held = false;
    if ((r = set_sregs(v, what)))
        return r;
    *what = "KVM_SET_REGS";
    if (!v->kvm->run->kvm_dirty_regs && (r = (int)kvm_ioctl(fd, KVM_SET_REGS, &regs)))
        return r;
    if ((r = set_fpu(v, what)))
        return r;
    *what = "KVM_SET_DEVICE_ATTR (KVM_VCPU_TSC_OFFSET)";
    if ((r = kvm_set_tsc(v)))
        return r;
    *what = "KVM_SET_MSRS";
    if ((r = kvm_move_msrs(v, true)))
        return r;
    *what = "KVM_SET_DEBUGREGS";
    if ((r = set_debugregs(v)))
        return r;
    *what = "KVM_SET_LAPIC";
    if ((r = set_lapic(v)))
        return r;
    *what = "KVM_SET_MP_STATE";
    if ((r = set_mp_state(v)))
        return r;
    *what = "KVM_SET_VCPU_EVENTS";
    if ((r = set_events(v)))
        return r;
    v->kvm->fresh = false;
    remember(v);
    return 0;
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
    if (v->tlb.fills != k->tlb_fills) {
        vcpu_note_paging(v);
        k->tlb_fills = v->tlb.fills;
    }
    regs_from_kvm(c, &s->regs);
    sregs_from_kvm(v, &s->sregs);
    c->int_shadow = s->events.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? SHADOW_SS
                    : s->events.interrupt.shadow                           ? SHADOW_STI
                                                                           : 0;
    c->nmi_pending = s->events.nmi.pending || s->events.nmi.injected;
    c->nmi_blocked = s->events.nmi.masked && !s->events.nmi.injected;
    if ((r = get_pdptes(v, what)))
        return r;
    if ((r = get_fpu(v, what)))
        return r;
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
