/*
 * Interrupts and timers: self-IPI, priorities and TPR, NMI, LAPIC timer (one-shot, periodic,
 * TSC-deadline), PIT through IOAPIC and through the 8259, the serial line's interrupt, HLT, x2APIC.
 * No check is about how late something comes, only that it comes, in which order, and never early.
 */
#include "guests/timer/timer.h"

enum {
    ID = 0x20,
    TPR = 0x80,
    PPR = 0xa0,
    EOI = 0xb0,
    SVR = 0xf0,
    ISR = 0x100,
    IRR = 0x200,
    ICR_LOW = 0x300,
    ICR_HIGH = 0x310,
    LVT_TIMER = 0x320,
    LVT_LINT0 = 0x350,
    TIMER_INITIAL = 0x380,
    TIMER_CURRENT = 0x390,
    TIMER_DIVIDE = 0x3e0
};
enum { MASKED = 1 << 16, PERIODIC = 1 << 17, DEADLINE = 2 << 17, EXTINT = 7 << 8 };
#define MSR_DEADLINE 0x6e0u

static bool x2apic;
static volatile unsigned count[256];
static volatile uint8_t order[64];
static volatile unsigned norder;
static volatile uint64_t fired_tsc;

static uint32_t apic_read(uint32_t reg)
{
    return x2apic ? (uint32_t)rdmsr(0x800 + (reg >> 4))
                  : *(volatile uint32_t *)(uintptr_t)(0xfee00000 + reg);
}

static void apic_write(uint32_t reg, uint32_t v)
{
    if (x2apic)
        wrmsr(0x800 + (reg >> 4), v);
    else
        *(volatile uint32_t *)(uintptr_t)(0xfee00000 + reg) = v;
}

static bool apic_bit(uint32_t base, unsigned vector)
{
    return apic_read(base + vector / 32 * 16) >> (vector & 31) & 1;
}

static void ioapic_write(uint32_t reg, uint32_t v)
{
    *(volatile uint32_t *)0xfec00000 = reg;
    *(volatile uint32_t *)0xfec00010 = v;
}

static void route(unsigned pin, uint32_t low)
{
    ioapic_write(0x11 + pin * 2, apic_read(ID) & 0xff000000);
    ioapic_write(0x10 + pin * 2, low);
}

static void note(struct frame *f)
{
    fired_tsc = rdtsc();
    count[f->vector]++;
    if (norder < sizeof(order))
        order[norder++] = (uint8_t)f->vector;
}

static void on_apic(struct frame *f)
{
    note(f);
    apic_write(EOI, 0);
}

static void on_pic(struct frame *f)
{
    note(f);
    outb(0x20, 0x20);
}

static void cli(void)
{
    __asm__ volatile("cli" : : : "memory");
}
/* Interrupts open for one instruction after STI's shadow. */
static void window(void)
{
    __asm__ volatile("sti\n\tnop\n\tnop\n\tcli" : : : "memory");
}
static void halt_until(unsigned vector, unsigned n)
{
    while (count[vector] < n)
        __asm__ volatile("sti\n\thlt\n\tcli" : : : "memory");
}
/* For what must not come: a few milliseconds with interrupts open. */
static void idle(void)
{
    uint64_t end = rdtsc() + 10000000;

    __asm__ volatile("sti" : : : "memory");
    while (rdtsc() < end)
        __asm__ volatile("pause");
    cli();
}

static void self_ipi(uint8_t vector)
{
    apic_write(ICR_LOW, 1 << 18 | 1 << 14 | vector);
}

static void forget(void)
{
    norder = 0;
    for (unsigned i = 0; i < 256; i++)
        count[i] = 0;
}

static void test_ipi(void)
{
    forget();
    self_ipi(0x50);
    check(apic_bit(IRR, 0x50), "self-IPI waits in IRR while IF is clear");
    check_equal(count[0x50], 0, "and is not delivered");
    window();
    check_equal(count[0x50], 1, "delivered when IF is set");
    check(!apic_bit(IRR, 0x50) && !apic_bit(ISR, 0x50), "IRR and ISR clear after EOI");

    self_ipi(0x51);
    self_ipi(0x62);
    self_ipi(0x51);
    forget();
    window();
    check(norder == 2 && order[0] == 0x62 && order[1] == 0x51,
          "the higher vector first, each once");

    forget();
    self_ipi(0x50);
    halt_until(0x50, 1);
    check_equal(count[0x50], 1, "HLT ends at once for a pending interrupt");
}

static void on_nested(struct frame *f)
{
    note(f);
    self_ipi(0x55);
    self_ipi(0x75);
    window(); /* 0x75 may come in, 0x55 may not */
    check_equal(apic_read(PPR) & 0xf0, 0x60, "PPR is the class in service");
    check(apic_bit(ISR, 0x65), "ISR bit while in service");
    apic_write(EOI, 0);
}

static void test_priority(void)
{
    uint64_t cr8;

    forget();
    apic_write(TPR, 0x60);
    __asm__ volatile("movq %%cr8, %0" : "=r"(cr8));
    check_equal(cr8, 6, "CR8 shows TPR");
    self_ipi(0x50);
    self_ipi(0x6f);
    idle();
    check_equal(norder, 0, "TPR holds its own class and those below");
    self_ipi(0x70);
    window();
    check(norder == 1 && order[0] == 0x70, "but not those above");
    __asm__ volatile("movq %0, %%cr8" : : "r"(5ull));
    check_equal(apic_read(TPR), 0x50, "TPR shows CR8");
    window();
    check(norder == 2 && order[1] == 0x6f, "lowering CR8 lets 0x6f in");
    apic_write(TPR, 0);
    window();
    check(norder == 3 && order[2] == 0x50, "TPR 0 lets 0x50 in");

    forget();
    bare_on(0x65, on_nested);
    self_ipi(0x65);
    window();
    check(norder == 3 && order[0] == 0x65 && order[1] == 0x75 && order[2] == 0x55,
          "nesting: above comes in, below waits for EOI");
}

static void test_nmi(void)
{
    forget();
    apic_write(ICR_HIGH, apic_read(ID));
    apic_write(ICR_LOW, 4 << 8 | 1 << 14);
    for (unsigned i = 0; i < 1000 && !count[2]; i++)
        __asm__ volatile("pause");
    check_equal(count[2], 1, "NMI comes with IF clear");
}

/* The instruction after STI is still shielded (SDM 2, STI). */
static void on_shadow(struct frame *f)
{
    note(f);
    f->rbx = f->rip;
    apic_write(EOI, 0);
}

static void test_shadow(void)
{
    uint64_t where, expect;

    forget();
    bare_on(0x52, on_shadow);
    self_ipi(0x52);
    __asm__ volatile("leaq 1f(%%rip), %1\n\tsti\n\tnop\n1:\tnop\n\tnop\n\tcli"
                     : "=&b"(where), "=&r"(expect)
                     :
                     : "memory");
    check_equal(where, expect, "STI shields one instruction");
    bare_on(0x52, on_apic);
}

static void test_lapic_timer(void)
{
    uint64_t start;

    forget();
    apic_write(TIMER_DIVIDE, 3); /* by 16 */
    apic_write(LVT_TIMER, MASKED | 0x40);
    apic_write(TIMER_INITIAL, 1000);
    idle();
    check_equal(count[0x40], 0, "a masked timer does not fire");

    apic_write(LVT_TIMER, 0x40);
    apic_write(TIMER_INITIAL, 0x7fffffff);
    start = apic_read(TIMER_CURRENT);
    for (unsigned i = 0; i < 1000; i++)
        __asm__ volatile("pause");
    check(start && apic_read(TIMER_CURRENT) < start, "the count goes down");
    apic_write(TIMER_INITIAL, 0);
    check_equal(apic_read(TIMER_CURRENT), 0, "initial count 0 stops it");

    forget();
    apic_write(TIMER_INITIAL, 20000);
    halt_until(0x40, 1);
    idle();
    check_equal(count[0x40], 1, "one-shot fires once, out of HLT");
    check_equal(apic_read(TIMER_CURRENT), 0, "and stays at 0");

    apic_write(LVT_TIMER, PERIODIC | 0x41);
    apic_write(TIMER_INITIAL, 50000);
    halt_until(0x41, 5);
    check(count[0x41] >= 5, "periodic fires again and again");
    apic_write(TIMER_INITIAL, 0);
    apic_write(LVT_TIMER, MASKED);
    window();
}

static void test_deadline(void)
{
    uint64_t deadline;
    uint32_t r[4];

    cpuid(1, 0, r);
    if (!(r[2] >> 24 & 1)) {
        bare_print("SKIP TSC-deadline: the CPU has it not\n");
        return;
    }
    forget();
    apic_write(LVT_TIMER, DEADLINE | 0x42);
    __asm__ volatile("mfence");
    for (unsigned i = 1; i <= 5; i++) {
        deadline = rdtsc() + 1000000;
        wrmsr(MSR_DEADLINE, deadline);
        check_equal(rdmsr(MSR_DEADLINE), deadline, "deadline reads back while armed");
        halt_until(0x42, i);
        check(fired_tsc >= deadline, "never early");
    }
    check_equal(rdmsr(MSR_DEADLINE), 0, "deadline reads 0 once fired");
    wrmsr(MSR_DEADLINE, rdtsc() - 1000);
    window();
    check_equal(count[0x42], 6, "a deadline in the past fires at once");
    wrmsr(MSR_DEADLINE, rdtsc() + 5000000);
    wrmsr(MSR_DEADLINE, 0);
    idle();
    check_equal(count[0x42], 6, "writing 0 disarms");
    apic_write(LVT_TIMER, MASKED);
}

static void pit_periodic(uint16_t divisor)
{
    outb(0x43, 0x34); /* channel 0, low and high byte, mode 2 */
    outb(0x40, (uint8_t)divisor);
    outb(0x40, (uint8_t)(divisor >> 8));
}

static void test_pit_ioapic(void)
{
    unsigned last;

    forget();
    route(2, 0x30); /* ISA 0 is GSI 2 */
    pit_periodic(11932);
    halt_until(0x30, 5);
    check(count[0x30] >= 5, "PIT through the IOAPIC");
    route(2, MASKED | 0x30);
    window();
    last = count[0x30];
    idle();
    idle();
    check_equal(count[0x30], last, "a masked pin is silent");

    /* Latch: the count moves between two looks. */
    outb(0x43, 0);
    uint16_t a = inb(0x40);
    a |= (uint16_t)(inb(0x40) << 8);
    idle();
    outb(0x43, 0);
    uint16_t b = inb(0x40);
    b |= (uint16_t)(inb(0x40) << 8);
    check(a && b && a <= 11932 && b <= 11932, "PIT count within its divisor");
}

static void test_pit_pic(void)
{
    forget();
    outb(0x20, 0x11);
    outb(0x21, 0x20);
    outb(0x21, 4);
    outb(0x21, 1);
    outb(0xa0, 0x11);
    outb(0xa1, 0x28);
    outb(0xa1, 2);
    outb(0xa1, 1);
    outb(0xa1, 0xff);
    outb(0x21, 0xfe);
    apic_write(LVT_LINT0, EXTINT);
    halt_until(0x20, 4);
    check(count[0x20] >= 4, "PIT through the 8259 and LINT0");
    outb(0x21, 0xff);
    window();
    apic_write(LVT_LINT0, MASKED);
    outb(0x43, 0x30); /* mode 0: no more ticks */
    outb(0x40, 0);
    outb(0x40, 0);
}

static void test_serial(void)
{
    forget();
    route(4, 0x34);
    while (!(inb(0x3fd) & 0x40))
        ;
    outb(0x3f9, 2); /* transmitter empty */
    for (unsigned i = 0; i < 1000 && !count[0x34]; i++)
        window();
    uint8_t iir = inb(0x3fa);

    outb(0x3f9, 0); /* before anything is printed */
    check(count[0x34] >= 1, "serial: transmitter-empty interrupt");
    check_equal(iir & 7, 1, "serial: reading IIR took it back");
    route(4, MASKED);
}

static void on_serial(struct frame *f)
{
    note(f);
    inb(0x3fa);
    apic_write(EOI, 0);
}

static void test_x2apic(void)
{
    uint32_t r[4];

    cpuid(1, 0, r);
    if (!(r[2] >> 21 & 1)) {
        bare_print("SKIP x2APIC: the CPU has it not\n");
        return;
    }
    uint32_t id = apic_read(ID) >> 24;

    wrmsr(0x1b, rdmsr(0x1b) | 0x400);
    x2apic = true;
    check_equal(apic_read(ID), id, "x2APIC: id");
    forget();
    wrmsr(0x83f, 0x58);
    window();
    check_equal(count[0x58], 1, "x2APIC: self-IPI register");
    wrmsr(0x830, (uint64_t)id << 32 | 0x59);
    window();
    check_equal(count[0x59], 1, "x2APIC: ICR");
    apic_write(TIMER_DIVIDE, 3);
    apic_write(LVT_TIMER, 0x43);
    apic_write(TIMER_INITIAL, 20000);
    halt_until(0x43, 1);
    check_equal(count[0x43], 1, "x2APIC: timer");
}

void bare_main(void)
{
    for (unsigned v = 0x30; v < 0x80; v++)
        bare_on(v, on_apic);
    for (unsigned v = 0x20; v < 0x30; v++)
        bare_on(v, on_pic);
    bare_on(2, note);
    bare_on(0x34, on_serial);
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    apic_write(SVR, 0x1ff);
    apic_write(LVT_LINT0, MASKED);
    check(apic_read(SVR) == 0x1ff, "LAPIC answers");
    test_ipi();
    test_priority();
    test_nmi();
    test_shadow();
    test_lapic_timer();
    test_deadline();
    test_pit_ioapic();
    test_pit_pic();
    test_serial();
    test_blocks();
    test_x2apic();
}
