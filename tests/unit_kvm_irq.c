/* Interrupts with the split irqchip, doorbells, and the probe. */
#include "tests/kvm_machine.h"
#include <sys/eventfd.h>

#define DOORBELL 0xd0000000u

/* Each handler asks for the next interrupt by a byte on the serial port and halts; none returns
 * (not every KVM emulates IRET at CPL 0). 0x20: the 8259 by ExtINT. 0x40: a message. 0x41: IOAPIC
 * pin 9, level. 0x42: pin 10, edge. */
__asm__(".section .rodata\n"
        ".code32\n"
        ".macro say c\n mov $\\c, %al\n out %al, %dx\n .endm\n"
        ".macro wait_\n mov $0x20000, %esp\n sti\n 1: hlt\n jmp 1b\n .endm\n"
        ".macro pic port, val\n mov $\\val, %al\n out %al, $\\port\n .endm\n"
        "irq_begin:\n"
        " pic 0x20, 0x11\n pic 0x21, 0x20\n pic 0x21, 4\n pic 0x21, 1\n pic 0x21, 0xfe\n"
        " mov $0x3f8, %edx\n say 'r'\n wait_\n"
        "irq_20: say 'p'\n pic 0x20, 0x20\n movl $0x1ff, 0xfee000f0\n say 'm'\n wait_\n"
        "irq_40: say 'M'\n movl $0, 0xfee000b0\n"
        " movl $0x23, 0xfec00000\n movl $0, 0xfec00010\n"
        " movl $0x22, 0xfec00000\n movl $0x8041, 0xfec00010\n say 'l'\n wait_\n"
        "irq_41: say 'L'\n movl $0, 0xfee000b0\n"
        " movl $0x25, 0xfec00000\n movl $0, 0xfec00010\n"
        " movl $0x24, 0xfec00000\n movl $0x42, 0xfec00010\n say 'f'\n wait_\n"
        "irq_42: say 'F'\n movl $0, 0xfee000b0\n"
        " movl $1, 0xd0000000\n"
        " xor %eax, %eax\n out %al, $0xf4\n 1: jmp 1b\n"
        "irq_end:\n"
        ".code64\n"
        ".text\n");
extern const uint8_t irq_begin[], irq_20[], irq_40[], irq_41[], irq_42[], irq_end[];

static void raise_for(struct machine_ *m, char c)
{
    struct vm_cpus *vm = &m->cpus;

    switch (c) {
    case 'r':
        irq_pulse(vm, 0);
        break;
    case 'm':
        apic_deliver(vm, 0, false, 0, 0x40, false, NULL);
        break;
    case 'l':
        irq_set(vm, 9, true);
        break;
    case 'f':
        irq_pulse(vm, 10);
    }
}

struct raiser {
    struct machine_ *m;
    char c;
};

static void *raiser_thread(void *arg)
{
    struct raiser *r = arg;

    usleep(3000); /* likely in HLT by then; right in either case */
    raise_for(r->m, r->c);
    free(r);
    return NULL;
}

static void raise_at_once(struct machine_ *m, char c)
{
    raise_for(m, c);
    if (c == 'L') /* the device is served: the pin goes low before the EOI */
        irq_set(&m->cpus, 9, false);
}

static void raise_later(struct machine_ *m, char c)
{
    pthread_t t;

    if (c == 'L')
        irq_set(&m->cpus, 9, false);
    if (!strchr("rmlf", c))
        return;
    struct raiser *r = malloc(sizeof *r);

    *r = (struct raiser){m, c};
    cr_assert_eq(pthread_create(&t, NULL, raiser_thread, r), 0);
    pthread_detach(t);
}

static void gate(struct machine_ *m, unsigned vector, const uint8_t *handler)
{
    uint32_t at = CODE + (uint32_t)(handler - irq_begin);
    uint64_t d = (at & 0xffff) | 8u << 16 | 0x8e00ull << 32 | (uint64_t)(at >> 16) << 48;

    ram_write(&m->ram, 0x30000 + vector * 8, &d, 8);
}

static struct machine_ *irq_machine(void)
{
    static const uint64_t gdt[3] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
    struct machine_ *m = make();

    load_code(m, irq_begin, irq_end);
    gate(m, 0x20, irq_20);
    gate(m, 0x40, irq_40);
    gate(m, 0x41, irq_41);
    gate(m, 0x42, irq_42);
    ram_write(&m->ram, 0x31000, gdt, sizeof gdt);
    m->v->cpu.idtr = (struct dtr){.base = 0x30000, .limit = 0x7ff};
    m->v->cpu.gdtr = (struct dtr){.base = 0x31000, .limit = sizeof gdt - 1};
    return m;
}

static void interrupts(void (*printed)(struct machine_ *m, char c))
{
    int bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    uint64_t count = 0;
    struct machine_ *m = irq_machine();

    m->printed = printed;
    start(m, &engine_kvm);
    cr_assert_eq(kvm_ioeventfd(&m->cpus, DOORBELL, 0, bell, false), 0);
    cr_assert_eq(kvm_ioeventfd(&m->cpus, DOORBELL, 0, bell, false), -EEXIST);
    expect_stop(m, run(m, false));
    cr_assert_str_eq(m->out, "rpmMlLfF");
    cr_assert_eq(m->v->stats.kvm_exits[KVM_EXIT_IOAPIC_EOI], 1);
    cr_assert_eq(m->cpus.irqchip.ioapic.redir[9] & 0x4000, 0, "remote IRR went with the EOI");
    cr_assert_eq(read(bell, &count, sizeof count), 8);
    cr_assert_eq(count, 1);
    cr_assert_eq(m->mmio_writes, 8, "the doorbell did not leave the kernel: %u", m->mmio_writes);
    cr_assert_eq(kvm_ioeventfd(&m->cpus, DOORBELL, 0, bell, true), 0);
    destroy(m);
    close(bell);
}

Test(kvm_irq, at_once, .timeout = 20)
{
    NEED_KVM();
    interrupts(raise_at_once);
}

Test(kvm_irq, while_halted, .timeout = 20)
{
    NEED_KVM();
    interrupts(raise_later);
}

/* Interrupts that one engine was sent reach the guest under the other. */
Test(kvm_irq, across_a_change_of_engine, .timeout = 20)
{
    NEED_KVM();
    for (unsigned at = 1; at <= 7; at++) {
        struct machine_ *m = irq_machine();

        m->printed = raise_at_once;
        m->kick_at = at;
        start(m, &engine_kvm);
        cr_assert_eq(run(m, true), EXIT_KICKED);
        finish(m);
        start(m, &engine_interp);
        expect_stop(m, run(m, false));
        cr_assert_str_eq(m->out, "rpmMlLfF", "changed after byte %u: '%s'", at, m->out);
        destroy(m);
    }
}

/* KVM was handed the 8259's vector and is kicked before it could inject it: it is not lost. */
Test(kvm_irq, taken_and_kicked, .timeout = 20)
{
    NEED_KVM();
    for (unsigned again = 0; again < 2; again++) {
        struct machine_ *m = irq_machine();
        struct kicker k;
        const char *what = "?";

        start(m, &engine_kvm);
        kick_later(&k, m->v, 1, 20000);
        cr_assert_eq(run(m, true), EXIT_KICKED);
        pthread_join(k.thread, NULL);
        cr_assert_str_eq(m->out, "r");
        cr_assert(m->v->cpu.halted);
        irq_pulse(&m->cpus, 0);
        cr_assert_eq(kvm_irq_before_run(m->v, &what), 0);
        cr_assert(m->v->kvm->ext_injected);
        vcpu_kick(m->v);
        cr_assert_eq(run(m, true), EXIT_KICKED);
        cr_assert_eq(m->v->cpu.rip, CODE + (uint64_t)(irq_20 - irq_begin), "delivered");
        m->printed = raise_at_once;
        if (again) { /* the same engine takes it up again */
            m->engine->vcpu_fini(m->v);
            m->engine->vm_fini(&m->cpus);
            start(m, &engine_kvm);
        } else {
            finish(m);
            start(m, &engine_interp);
        }
        expect_stop(m, run(m, false));
        cr_assert_str_eq(m->out, "rpmMlLfF");
        destroy(m);
    }
}

/* --- the probe --- */

Test(probe, says_something)
{
    struct probe p;

    kvm_probe(&p);
    cr_assert_not_null(p.step);
    if (p.kind == KVM_NONE)
        cr_assert_neq(p.err, 0, "%s", p.step);
    else
        cr_assert_eq(p.api_version, 12);
}

/* The guest and CPUID's short cut agree. */
Test(probe, guest_agrees)
{
    NEED_KVM();
    struct probe p, g = {0};
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    kvm_probe(&p);
    kvm_probe_guest(fd, &g);
    close(fd);
    printf("probe: %s; guest: %llu.%02llu ns an instruction, %llu us in all\n", p.step,
           (unsigned long long)g.ns_per_insn_x100 / 100,
           (unsigned long long)g.ns_per_insn_x100 % 100, (unsigned long long)g.probe_ns / 1000);
    cr_assert_eq(g.kind, p.kind, "%s", g.step);
    cr_assert_eq(g.err, 0);
    cr_assert_gt(g.probe_ns, 0);
}
