/*
 * General, segment and control registers: struct cpu <-> KVM. They go in with the next KVM_RUN
 * where nothing has to be looked at afterwards, and come out with one (synchronised registers): an
 * ioctl less each.
 */
#include "vcpu/kvm/kvm.h"

#include <errno.h>
#include <string.h>
#include "paging/copy.h"
#include "vcpu/except.h"

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

/* Not before the LAPIC page when its form or the TPR changes, half of which CR8 is; not for a CPU
 * that KVM_RUN may leave asleep before it takes them; not where KVM_SET_GUEST_DEBUG goes by them.
 */
static bool with_run(const struct vcpu *v)
{
    const struct kvm_vcpu *k = v->kvm;

    if (v->vm->debug || v->cpu.wait_for_sipi || v->lapic.tpr != k->lapic.tpr ||
        ((v->cpu.cr0 & CR0_PG) && !(v->cpu.efer & EFER_LMA)))
        return false;
    return k->fresh ? v->index == 0 && kvm_lapic_is_reset(v)
                    : k->held && v->lapic.base_msr == k->lapic.base_msr;
}

static int set_sregs(struct vcpu *v, const char **what)
{
    long r;

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

/* Has KVM all of SREGS_TO_KVM as it is? Setting CR8 costs the TPR its lower half, so this is not
 * only quicker. */
static bool sregs_held(const struct vcpu *v)
{
    const struct kvm_vcpu *k = v->kvm;
    const size_t from = offsetof(struct cpu, seg), to = offsetof(struct cpu, xcr0);

    return k->held && v->cpu.cpl == k->cpu.cpl && v->lapic.base_msr == k->lapic.base_msr &&
           v->lapic.tpr == k->lapic.tpr &&
           !memcmp((const uint8_t *)&v->cpu + from, (const uint8_t *)&k->cpu + from, to - from);
}

int kvm_set_regs(struct vcpu *v, const char **what)
{
    struct kvm_regs regs = regs_to_kvm(&v->cpu);
    struct kvm_run *run = v->kvm->run;

    run->kvm_dirty_regs = 0;
    if (with_run(v) && sregs_held(v)) {
        run->s.regs.regs = regs;
        run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
        return 0;
    }
    if (with_run(v)) {
        zero_bytes(&run->s.regs.sregs, sizeof run->s.regs.sregs);
        SREGS_TO_KVM(&run->s.regs.sregs, v);
        run->s.regs.regs = regs;
        run->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
        return 0;
    }
    int r = set_sregs(v, what);

    if (r)
        return r;
    *what = "KVM_SET_REGS";
    return (int)kvm_ioctl(v->kvm->fd, KVM_SET_REGS, &regs);
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
    if (v->lapic.tpr >> 4 != s->cr8)
        v->lapic.tpr = (uint32_t)s->cr8 << 4;
}

static void regs_from_kvm(struct cpu *c, const struct kvm_regs *r)
{
    const uint64_t g[NGPR] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
                              r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};

    __builtin_memcpy(c->gpr, g, sizeof g);
    c->rip = r->rip;
    c->rflags = r->rflags | FL_R1;
}

int kvm_get_regs(struct vcpu *v, const char **what)
{
    const struct kvm_sync_regs *s = &v->kvm->run->s.regs;

    regs_from_kvm(&v->cpu, &s->regs);
    sregs_from_kvm(v, &s->sregs);
    return get_pdptes(v, what);
}
