/* struct cpu and struct lapic through KVM and back. */
#include "tests/kvm_machine.h"

#define DISTINCT(i) (0x1111111111111111u * (i) ^ 0x0123456789abcdefu)

/* 64-bit user code with a value of its own in every register that has one. */
static void distinct_state(struct cpu *c)
{
    for (unsigned i = 0; i < NGPR; i++)
        c->gpr[i] = DISTINCT(i + 1);
    for (unsigned i = 0; i < NSEG; i++)
        c->seg[i] = (struct seg){.sel = 0x23, .limit = 0xffffffff, .attr = 0xc0f3};
    c->seg[SEG_CS] = (struct seg){.sel = 0x2b, .limit = 0xffffffff, .attr = 0xa0fb};
    c->seg[SEG_FS].base = 0x7f0011223344;
    c->seg[SEG_GS].base = 0xffff888011223344;
    c->seg[SEG_DS] = (struct seg){.attr = SEG_NULL};
    c->ldtr = (struct seg){.attr = SEG_NULL};
    c->tr = (struct seg){.sel = 0x40, .base = 0xfffffe0000003000, .limit = 0x206f, .attr = 0x8b};
    c->gdtr = (struct dtr){.base = 0xfffffe0000001000, .limit = 0x7f};
    c->idtr = (struct dtr){.base = 0xfffffe0000000000, .limit = 0xfff};
    c->cpl = 3;
    c->rip = 0x401234;
    c->rflags = FL_R1 | FL_IF | FL_CF | FL_OF | FL_AC | FL_ID;
    c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    c->cr2 = 0x7fffdeadb000;
    c->cr3 = 0x3000;
    c->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    c->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    c->dr[0] = 0x401000;
    c->dr[3] = 0xffff888000001000;
    c->dr[7] = 0x400;
    c->star = 0x0023001000000000;
    c->lstar = 0xffffffff81000080;
    c->cstar = 0xffffffff81000100;
    c->sfmask = 0x257fd5;
    c->kernel_gs_base = 0xffff888000112233;
    c->sysenter_cs = 0x10;
    c->sysenter_esp = 0xfffffe0000004000;
    c->sysenter_eip = 0xffffffff81000200;
    c->pat = 0x0407050600070106;
    c->mtrr_phys[0] = 0xc0000000;
    c->mtrr_phys[1] = 0xffc0000800;
    c->tsc_offset = (uint64_t)-123456789012;
    c->nmi_blocked = true;
    for (unsigned i = 0; i < 16 * 16; i++) /* ST and XMM registers */
        c->xsave[i < 128 ? 32 + i / 16 * 16 + i % 10 : 32 + i] = (uint8_t)(i * 7 + 1);
}

#define SAME(field)                                                    \
    cr_assert_eq(got->field, want->field, #field ": %#llx, was %#llx", \
                 (unsigned long long)got->field, (unsigned long long)want->field)

static void same_segment(const struct seg *a, const struct seg *b, unsigned i)
{
    cr_assert_eq(a->attr, b->attr, "segment %u: attr %#x, was %#x", i, a->attr, b->attr);
    if (a->attr & SEG_NULL)
        return;
    cr_assert_eq(a->sel, b->sel, "segment %u", i);
    cr_assert_eq(a->base, b->base, "segment %u", i);
    cr_assert_eq(a->limit, b->limit, "segment %u", i);
}

static void same_cpu(const struct cpu *got, const struct cpu *want)
{
    for (unsigned i = 0; i < NGPR; i++)
        SAME(gpr[i]);
    for (unsigned i = 0; i < NSEG; i++)
        same_segment(&got->seg[i], &want->seg[i], i);
    same_segment(&got->ldtr, &want->ldtr, 6);
    same_segment(&got->tr, &want->tr, 7);
    SAME(rip);
    SAME(rflags);
    SAME(gdtr.base);
    SAME(gdtr.limit);
    SAME(idtr.base);
    SAME(idtr.limit);
    SAME(cr0);
    SAME(cr2);
    SAME(cr3);
    SAME(cr4);
    SAME(cr8);
    SAME(efer);
    SAME(xcr0);
    for (unsigned i = 0; i < 8; i++)
        if (i != 4 && i != 5)
            SAME(dr[i]);
    SAME(star);
    SAME(lstar);
    SAME(cstar);
    SAME(sfmask);
    SAME(kernel_gs_base);
    SAME(sysenter_cs);
    SAME(sysenter_esp);
    SAME(sysenter_eip);
    SAME(pat);
    SAME(misc_enable);
    SAME(mtrr_def_type);
    for (unsigned i = 0; i < 11; i++)
        SAME(mtrr_fixed[i]);
    for (unsigned i = 0; i < 16; i++)
        SAME(mtrr_phys[i]);
    SAME(tsc_offset);
    SAME(tsc_adjust);
    SAME(mcg_status);
    SAME(cpl);
    SAME(int_shadow);
    SAME(nmi_blocked);
    SAME(nmi_pending);
    SAME(halted);
    SAME(wait_for_sipi);
    cr_assert_arr_eq(got->xsave, want->xsave, 28);
    cr_assert_arr_eq(got->xsave + 32, want->xsave + 32, 416 - 32);
}

/* Import and export with no guest instruction between: the same. What KVM has no MSR for, or
 * rounds, would show here. */
static void round_trip(struct machine_ *m, struct cpu *want)
{
    const char *what = "?";
    int r = kvm_import(m->v, &what);

    /* KVM without VMX and SVM says so, rather than run something else. */
    if (r == -ENOTSUP && strstr(what, "TSC")) {
        m->v->cpu.tsc_offset = want->tsc_offset = 0;
        r = kvm_import(m->v, &what);
    }
    if (r == -ENOTSUP && strstr(what, "paging"))
        cr_skip_test("no 32-bit paging here");
    cr_assert_eq(r, 0, "%s: %s", what, strerror(-r));
    cr_assert(!kvm_stale(m->v));
    struct kvm_run *run = m->v->kvm->run;

    run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
    run->immediate_exit = 1;
    cr_assert_eq(kvm_ioctl(m->v->kvm->fd, KVM_RUN, NULL), -EINTR);
    memset(m->v->cpu.gpr, 0xee, sizeof m->v->cpu.gpr);
    m->v->cpu.lstar = m->v->cpu.cr2 = m->v->cpu.dr[0] = m->v->cpu.rip = 0xee;
    memset(m->v->cpu.xsave, 0xee, 512);
    cr_assert(kvm_stale(m->v));
    r = kvm_export(m->v, true, &what);
    cr_assert_eq(r, 0, "%s: %s", what, strerror(-r));
    cr_assert(!kvm_stale(m->v));
    same_cpu(&m->v->cpu, want);
}

Test(kvm_state, long_mode_user)
{
    NEED_KVM();
    struct machine_ *m = make();
    struct cpu want;

    start(m, &engine_kvm);
    distinct_state(&m->v->cpu);
    want = m->v->cpu;
    round_trip(m, &want);
    destroy(m);
}

Test(kvm_state, pae_pdptes_come_from_the_state_not_from_memory)
{
    NEED_KVM();
    struct machine_ *m = make();
    struct cpu want;

    start(m, &engine_kvm);
    if (!m->cpus.kvm->sregs2)
        cr_skip_test("no KVM_CAP_SREGS2");
    m->v->cpu.cr3 = 0x5000; /* zero there */
    m->v->cpu.cr4 = CR4_PAE;
    m->v->cpu.cr0 |= CR0_PG;
    for (unsigned i = 0; i < 4; i++)
        m->v->cpu.pdpte[i] = 0x6001 + 0x1000 * i;
    want = m->v->cpu;
    round_trip(m, &want);
    cr_assert_arr_eq(m->v->cpu.pdpte, want.pdpte, sizeof want.pdpte);
    destroy(m);
}

/* Every combination of what an interrupted CPU can be in the middle of. */
Test(kvm_state, events)
{
    NEED_KVM();
    struct machine_ *m = make();

    start(m, &engine_kvm);
    for (unsigned bits = 0; bits < 64; bits++) {
        struct cpu want;

        m->v->cpu.int_shadow = !(bits & 1) ? 0 : bits & 2 ? SHADOW_STI : SHADOW_SS;
        m->v->cpu.rflags = FL_R1 | (bits & 2 ? FL_IF : 0);
        m->v->cpu.nmi_blocked = bits & 4;
        m->v->cpu.nmi_pending = (bits & 8) != 0;
        m->v->cpu.halted = bits & 48;
        m->v->cpu.wait_for_sipi = bits & 32;
        want = m->v->cpu;
        round_trip(m, &want);
    }
    destroy(m);
}

Test(kvm_state, lapic)
{
    NEED_KVM();
    struct machine_ *m = make();
    struct lapic *l = &m->v->lapic;
    struct cpu want = m->v->cpu;

    start(m, &engine_kvm);
    cr_assert_eq(l->lvt_lint0 & 0x10700, 0x700, "the boot processor takes the 8259 through LINT0");
    l->svr = 0x1ff;
    l->tpr = 0x30;
    l->ldr = 0x01000000;
    l->lvt_timer = 0x20000 | 0x10000 | 0xec; /* periodic, masked */
    l->lvt_error = 0xfe;
    l->timer_divide = 0xb; /* by 1 */
    l->timer_icr = 3000000000u;
    l->timer_start = vcpu_tsc(m->v) - m->cpus.tsc_hz; /* a second ago */
    l->next_tsc = __builtin_ia32_rdtsc() + 2 * m->cpus.tsc_hz;
    l->isr[2] = 1u << 5;
    l->irr[1] = 1u << 9;
    l->irr[7] = 1u << 1;
    l->irr_level[7] = 1u << 1;
    m->v->cpu.cr8 = want.cr8 = 3;
    uint64_t start_ = l->timer_start, next = l->next_tsc;

    round_trip(m, &want);
    cr_assert_eq(l->svr, 0x1ff);
    cr_assert_eq(l->tpr, 0x30);
    cr_assert_eq(l->ldr, 0x01000000);
    cr_assert_eq(l->lvt_timer, 0x300ec);
    cr_assert_eq(l->lvt_lint0 & 0x107ff, 0x700);
    cr_assert_eq(l->timer_icr, 3000000000u);
    cr_assert_eq(l->isr[2], 1u << 5);
    cr_assert_eq(l->irr[1], 1u << 9);
    cr_assert_eq(l->irr[7], 1u << 1);
    cr_assert_eq(l->irr_level[7], 1u << 1);
    cr_assert_eq(l->irr_level[1], 0);
    /* The count went on meanwhile, at the same rate: both ends within 50 ms. */
    int64_t d0 = (int64_t)(l->timer_start - start_), d1 = (int64_t)(l->next_tsc - next);
    int64_t tol = (int64_t)m->cpus.tsc_hz / 20;

    cr_assert(d0 > -tol && d0 < tol, "start moved by %lld", (long long)d0);
    cr_assert(d1 > -tol && d1 < tol, "end moved by %lld", (long long)d1);
    destroy(m);
}

Test(kvm_state, x2apic_and_deadline)
{
    NEED_KVM();
    struct machine_ *m = make();
    struct lapic *l = &m->v->lapic;
    struct cpu want = m->v->cpu;

    start(m, &engine_kvm);
    l->base_msr = 0xfee00d00;
    l->svr = 0x1ff;
    l->ldr = 1;
    l->lvt_timer = 0x400ec;
    uint64_t due = vcpu_tsc(m->v) + 10 * m->cpus.tsc_hz;

    l->tsc_deadline = due;
    l->next_tsc = due - m->v->cpu.tsc_offset;
    round_trip(m, &want);
    cr_assert_eq(l->base_msr, 0xfee00d00);
    cr_assert_eq(l->id, 0);
    cr_assert_eq(l->lvt_timer, 0x400ec);
    cr_assert_eq(l->tsc_deadline, due);
    cr_assert_eq(l->next_tsc, due - m->v->cpu.tsc_offset);
    destroy(m);
}
