/* What KVM does not do and the engine must: instructions that KVM cannot emulate, state that a new
 * vCPU is trusted to have, events that come while the state is out. */
#include "tests/kvm_machine.h"

__asm__(".section .rodata\n"
        ".code32\n"
        "vector_begin:\n"
        " mov $42, %eax; movd %eax, %xmm0; paddd %xmm0, %xmm0; movd %xmm0, %eax\n" /* 84 */
        " popcnt %eax, %ecx; add %ecx, %eax\n"                                     /* + 3 */
        " movd %xmm0, 0xd0000010\n"
        " mov $0xf4, %edx; out %al, %dx\n"
        "1: jmp 1b\n"
        "vector_end:\n"
        "undefined_begin:\n"
        " ud2\n"
        "undefined_end:\n"
        "loop_begin:\n"
        "1: jmp 1b\n"
        "loop_end:\n"
        ".code64\n"
        ".text\n");
extern const uint8_t vector_begin[], vector_end[], undefined_begin[], undefined_end[], loop_begin[],
    loop_end[];

Test(kvm_emulate, vector_registers_and_devices, .timeout = 20)
{
    NEED_KVM();
    struct machine_ *m = make();

    m->v->cpu.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    load_code(m, vector_begin, vector_end);
    start(m, &engine_kvm);
    expect_stop(m, run(m, false));
    cr_assert_eq(m->status, 87);
    cr_assert_eq(m->mmio_writes, 1);
    destroy(m);
}

/* What nobody can execute is the guest's #UD, here without a gate for it. */
Test(kvm_emulate, undefined, .timeout = 20)
{
    NEED_KVM();
    struct machine_ *m = make();

    m->v->cpu.idtr = (struct dtr){.base = 0, .limit = 0};
    load_code(m, undefined_begin, undefined_end);
    start(m, &engine_kvm);
    cr_assert_eq(run(m, false), EXIT_SHUTDOWN);
    destroy(m);
}

static struct machine_ *looping(void)
{
    struct machine_ *m = make();

    load_code(m, loop_begin, loop_end);
    start(m, &engine_kvm);
    vcpu_kick(m->v);
    cr_assert_eq(run(m, true), EXIT_KICKED);
    return m;
}

static struct machine_ *again(struct machine_ *m)
{
    vcpu_kick(m->v);
    cr_assert_eq(run(m, true), EXIT_KICKED);
    return m;
}

/* kvm_import() leaves out what RESET gives a new vCPU: it has it. */
Test(kvm_import, a_new_vcpu, .timeout = 20)
{
    NEED_KVM();
    struct machine_ *m = make();
    struct cpu want = m->v->cpu;

    cr_assert(kvm_lapic_is_reset(m->v));
    destroy(m);
    m = looping();
    cr_assert(kvm_lapic_is_reset(m->v), "LINT0 %#x, SVR %#x", m->v->lapic.lvt_lint0,
              m->v->lapic.svr);
    struct cpu *got = &m->v->cpu;

    cr_assert_eq(got->xcr0, want.xcr0);
    cr_assert(!memcmp(got->xsave, want.xsave, 28), "x87 control, MXCSR");
    for (unsigned i = 32; i < 416; i++)
        cr_assert_eq(got->xsave[i], 0, "x87 and SSE registers: byte %u", i);
    cr_assert_eq(got->tsc_offset, want.tsc_offset);
    for (unsigned i = 0; i < 8; i++)
        cr_assert_eq(got->dr[i], want.dr[i], "DR%u", i);
    /* From the first MSR on to the last. */
    cr_assert(
        !memcmp(&got->star, &want.star, offsetof(struct cpu, cpl) - offsetof(struct cpu, star)));
    destroy(m);
}

/* The debugger writes a register while the CPU stands; meanwhile somebody sends an interrupt. */
Test(kvm_import, keeps_interrupts_that_came_meanwhile, .timeout = 20)
{
    NEED_KVM();
    struct machine_ *m = looping();

    m->v->lapic.svr = 0x1ff; /* on */
    m->v->lapic.tpr = 0x35;
    m->v->cpu.cr8 = 3;
    again(m);
    m->cpus.irqchip.msi(&m->cpus, LAPIC_BASE, 0x51);
    m->v->cpu.gpr[RBX] = 0x12345678;
    again(m);
    cr_assert_eq(m->v->cpu.gpr[RBX], 0x12345678);
    cr_assert_eq(m->v->lapic.irr[2], 1u << 0x11, "the interrupt was lost");
    cr_assert_eq(m->v->lapic.tpr, 0x35, "CR8 is half of it");
    m->v->cpu.gpr[RBX]++;
    again(m);
    cr_assert_eq(m->v->lapic.irr[2], 1u << 0x11);
    /* Ours to change all the same. */
    m->v->lapic.irr[2] = 0;
    m->v->cpu.star = 0x0023001000000000;
    again(m);
    cr_assert_eq(m->v->lapic.irr[2], 0);
    cr_assert_eq(m->v->cpu.star, 0x0023001000000000);
    destroy(m);
}
