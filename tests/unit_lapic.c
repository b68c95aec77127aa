/* The local APIC: priorities, modes, messages, timer. */
#include "tests/machine_fake.h"

#define R(v, off)      lapic_mmio_read(v, off)
#define W(v, off, val) lapic_mmio_write(v, off, val)
enum {
    ID = 0x20,
    VER = 0x30,
    TPR = 0x80,
    PPR = 0xa0,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SVR = 0xf0,
    ISR = 0x100,
    TMR = 0x180,
    IRR = 0x200,
    ESR = 0x280,
    ICR = 0x300,
    ICR2 = 0x310,
    LVT_TIMER = 0x320,
    LVT_LINT0 = 0x350,
    LVT_ERROR = 0x370,
    TICR = 0x380,
    TCUR = 0x390,
    TDIV = 0x3e0
};
#define X2(off)   (0x800 + ((off) >> 4))
#define DEADLINE  0x6e0
#define APIC_BASE 0x1b

static void setup(void)
{
    fake_machine();
    for (int i = 0; i < NCPU; i++)
        W(cpu[i], SVR, 0x1ff);
}
TestSuite(lapic, .init = setup);

static int rd(struct vcpu *v, uint32_t msr, uint64_t *val)
{
    v->cpu.exc.vector = 0;
    int r = lapic_msr_read(v, msr, val);

    if (r == CPU_FAULT)
        cr_assert_eq(v->cpu.exc.vector, VEC_GP);
    return r;
}
static int wr(struct vcpu *v, uint32_t msr, uint64_t val)
{
    v->cpu.exc.vector = 0;
    int r = lapic_msr_write(v, msr, val);

    if (r == CPU_FAULT)
        cr_assert_eq(v->cpu.exc.vector, VEC_GP);
    return r;
}
static void x2(struct vcpu *v)
{
    uint64_t b;

    cr_assert_eq(rd(v, APIC_BASE, &b), CPU_OK);
    cr_assert_eq(wr(v, APIC_BASE, b | 0x400), CPU_OK);
}
static uint64_t tsc(void)
{
    return __builtin_ia32_rdtsc();
}
/* n TSC cycles go by at once. */
static void pass(struct vcpu *v, uint64_t n)
{
    v->cpu.tsc_offset += n;
    if (v->lapic.next_tsc)
        v->lapic.next_tsc = v->lapic.next_tsc > n ? v->lapic.next_tsc - n : 1;
}

Test(lapic, reset_state)
{
    struct vcpu *v = cpu[0];

    memset(&v->lapic, 0, sizeof v->lapic);
    lapic_reset(v);
    cr_expect_eq(v->lapic.base_msr, 0xfee00900u);
    cr_expect_eq(cpu[1]->lapic.base_msr, 0xfee00800u);
    cr_expect_eq(R(v, VER), 0x50014u);
    cr_expect_eq(R(v, SVR), 0xffu);
    cr_expect_eq(R(v, DFR), 0xffffffffu);
    cr_expect_eq(R(v, LVT_TIMER), 0x10000u);
    cr_expect_eq(R(v, LVT_LINT0), 0x700u);
    cr_expect_eq(R(cpu[2], ID), 2u << 24);
}

Test(lapic, priority_order_and_nesting)
{
    struct vcpu *v = cpu[0];

    lapic_irr_set(v, 0x31, false);
    lapic_irr_set(v, 0x52, false);
    lapic_irr_set(v, 0x55, false);
    cr_expect_eq(kicks[0], 3);
    lapic_irr_set(v, 0x55, false);
    cr_expect_eq(kicks[0], 3, "already pending");
    cr_expect_eq(R(v, IRR + 0x20), 1u << 0x12 | 1u << 0x15);
    cr_expect_eq(take(v), 0x55);
    cr_expect_eq(R(v, PPR), 0x50u);
    cr_expect_eq(take(v), -1, "0x52 is of the same class");
    lapic_irr_set(v, 0x61, false);
    cr_expect_eq(take(v), 0x61);
    cr_expect_eq(R(v, ISR + 0x30), 2u);
    W(v, EOI, 0);
    cr_expect_eq(take(v), -1);
    kicks[0] = 0;
    W(v, EOI, 0);
    cr_expect_eq(kicks[0], 1, "EOI lets 0x52 through");
    cr_expect_eq(take(v), 0x52);
    W(v, EOI, 0);
    cr_expect_eq(take(v), 0x31);
    W(v, EOI, 0);
    W(v, EOI, 0);
    cr_expect_eq(R(v, PPR), 0u);
}

Test(lapic, tpr_and_cr8)
{
    struct vcpu *v = cpu[0];

    W(v, TPR, 0x57);
    cr_expect_eq(lapic_get_cr8(v), 5u);
    cr_expect_eq(v->cpu.cr8, 5u);
    cr_expect_eq(R(v, PPR), 0x57u);
    lapic_irr_set(v, 0x5f, false);
    cr_expect_eq(take(v), -1);
    kicks[0] = 0;
    lapic_set_cr8(v, 4);
    cr_expect_eq(R(v, TPR), 0x40u);
    cr_expect_eq(kicks[0], 1);
    cr_expect_eq(take(v), 0x5f);
    cr_expect_eq(R(v, PPR), 0x50u);
    lapic_set_cr8(v, 15);
    lapic_irr_set(v, 0xff, false);
    cr_expect_eq(take(v), -1);
}

Test(lapic, illegal_vectors_and_registers_set_esr)
{
    struct vcpu *v = cpu[0];

    W(v, LVT_ERROR, 0x33);
    lapic_irr_set(v, 15, false);
    cr_expect_eq(R(v, ESR), 0u, "not before it is written");
    cr_expect_eq(take(v), 0x33);
    W(v, EOI, 0);
    W(v, ICR, 0x40000 | 5);
    cr_expect_eq(take(v), -1, "one interrupt until ESR is written");
    W(v, ESR, 0);
    cr_expect_eq(R(v, ESR), 0x60u);
    R(v, 0x2f0);
    cr_expect_eq(take(v), 0x33);
    W(v, ESR, 0);
    cr_expect_eq(R(v, ESR), 0x80u);
    W(v, ESR, 0);
    cr_expect_eq(R(v, ESR), 0u);
    W(v, LVT_ERROR, 0x3); /* its own vector is illegal: no endless story */
    lapic_irr_set(v, 1, false);
    W(v, ESR, 0);
    cr_expect_eq(R(v, ESR), 0x40u);
    cr_expect_eq(R(v, 0x408), 0u);
    W(v, 0xff0, 1);
    W(v, 0x321, 0x55);
    cr_expect_eq(R(v, LVT_TIMER), 0x10000u);
}

Test(lapic, software_disable_masks_the_lvt)
{
    struct vcpu *v = cpu[0];

    W(v, LVT_LINT0, 0x700);
    W(v, LVT_TIMER, 0x40);
    W(v, SVR, 0x0ff);
    cr_expect_eq(R(v, LVT_LINT0), 0x10700u);
    cr_expect_eq(R(v, LVT_TIMER), 0x10040u);
    W(v, LVT_TIMER, 0x41);
    cr_expect_eq(R(v, LVT_TIMER), 0x10041u);
    apic_deliver(vm, 0, false, 0, 0x50, false, NULL);
    cr_expect_eq(take(v), -1, "messages are not accepted");
    apic_deliver(vm, 0, false, 4, 0, false, NULL);
    cr_expect_eq(v->lapic.events, LAPIC_EV_NMI);
    W(v, SVR, 0x1ff);
    cr_expect_eq(R(v, LVT_TIMER), 0x10041u, "masks stay");
    W(v, LVT_TIMER, 0xffffffff);
    cr_expect_eq(R(v, LVT_TIMER), 0x700ffu);
}

Test(lapic, level_eoi_reaches_the_ioapic_and_tmr)
{
    struct vcpu *v = cpu[0];

    ioapic_write(chip, 0, 0x10 + 2 * 9);
    ioapic_write(chip, 0x10, 0x8044);
    irq_set(vm, 9, true);
    cr_expect_eq(R(v, TMR + 0x20), 1u << 4, "set when IRR accepts it");
    cr_expect_eq(take(v), 0x44);
    cr_expect_eq(R(v, TMR + 0x20), 1u << 4);
    cr_expect_eq(take(v), -1);
    W(v, EOI, 0);
    cr_expect_eq(take(v), 0x44, "the line is still high");
    irq_set(vm, 9, false);
    W(v, EOI, 0);
    cr_expect_eq(take(v), -1);
    lapic_irr_set(v, 0x44, false);
    cr_expect_eq(R(v, TMR + 0x20), 0u);
    cr_expect_eq(take(v), 0x44);
    cr_expect_eq(R(v, TMR + 0x20), 0u);
}

/* --- modes --- */

Test(lapic, apic_base_transitions)
{
    struct vcpu *v = cpu[1];
    const uint64_t b = 0xfee00000;

    cr_expect_eq(wr(v, APIC_BASE, b | 0x400), CPU_FAULT, "EXTD without EN");
    cr_expect_eq(wr(v, APIC_BASE, b | 0x801), CPU_FAULT, "reserved");
    cr_expect_eq(wr(v, APIC_BASE, b | 0xa00), CPU_FAULT, "reserved");
    cr_expect_eq(wr(v, APIC_BASE, b | 0x800 | 1ull << 40), CPU_FAULT, "above MAXPHYADDR");
    cr_expect_eq(v->lapic.base_msr, b | 0x800);
    cr_expect_eq(wr(v, APIC_BASE, b | 0xc00), CPU_OK, "xAPIC to x2APIC");
    cr_expect_eq(wr(v, APIC_BASE, b | 0x800), CPU_FAULT, "and not back");
    cr_expect_eq(wr(v, APIC_BASE, b), CPU_OK, "off");
    cr_expect_eq(wr(v, APIC_BASE, b | 0xc00), CPU_FAULT, "off to x2APIC");
    apic_deliver(vm, 1, false, 0, 0x50, false, NULL);
    cr_expect_eq(lapic_pending(v), -1);
    cr_expect_eq(wr(v, APIC_BASE, b | 0x800), CPU_OK);
    cr_expect_eq(R(v, SVR), 0xffu, "as after reset");
}

Test(lapic, init_keeps_the_mode)
{
    struct vcpu *v = cpu[1];

    x2(v);
    wr(v, X2(TPR), 0x30);
    atomic_store(&v->lapic.events, LAPIC_EV_SIPI);
    lapic_irr_set(v, 0x99, false);
    lapic_reset(v);
    cr_expect_eq(v->lapic.base_msr, 0xfee00c00u);
    cr_expect_eq(v->lapic.tpr, 0u);
    cr_expect_eq(lapic_pending(v), -1);
    cr_expect_eq(v->lapic.events, LAPIC_EV_SIPI, "a SIPI on its way is not lost");
}

Test(lapic, x2apic_reserved_bits)
{
    struct vcpu *v = cpu[3];
    uint64_t val;

    cr_expect_eq(rd(v, X2(ID), &val), CPU_FAULT, "not in xAPIC mode");
    cr_expect_eq(wr(v, X2(TPR), 0), CPU_FAULT);
    x2(v);
    static const struct {
        uint32_t reg;
        uint64_t good, bad;
    } writes[] = {
        {X2(TPR), 0xff, 0x100},
        {X2(EOI), 0, 1},
        {X2(SVR), 0x1ff, 0x1000},
        {X2(ESR), 0, 1},
        {X2(ICR), 0x4000 | 0x50, 0x2000},
        {X2(ICR), 0x4000 | 0x50 | 7ull << 32, 0x100000},
        {X2(LVT_TIMER), 0x700ff | 0x1000, 0x100},
        {X2(0x330), 0x107ff, 0x8000},
        {X2(0x340), 0x107ff, 0x20000},
        {X2(LVT_LINT0), 0x1b7ff, 0x800},
        {X2(0x360), 0x1b7ff, 1ull << 32},
        {X2(LVT_ERROR), 0x100ff, 0x400},
        {X2(TICR), 0xffffffff, 1ull << 32},
        {X2(TDIV), 0xb, 4},
        {0x83f, 0xff, 0x100},
    };
    for (unsigned i = 0; i < sizeof writes / sizeof writes[0]; i++) {
        cr_expect_eq(wr(v, writes[i].reg, writes[i].good), CPU_OK, "row %u", i);
        cr_expect_eq(wr(v, writes[i].reg, writes[i].bad), CPU_FAULT, "row %u", i);
    }
    static const uint32_t absent[] = {0x800, 0x801, 0x804, 0x809, 0x80c, 0x80e,
                                      0x829, 0x82f, 0x831, 0x83a, 0x840};
    for (unsigned i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        cr_expect_eq(rd(v, absent[i], &val), CPU_FAULT, "%x", absent[i]);
        cr_expect_eq(wr(v, absent[i], 0), CPU_FAULT, "%x", absent[i]);
    }
    static const uint32_t readonly[] = {X2(ID), X2(VER), X2(PPR), X2(LDR), X2(ISR), X2(TCUR)};
    for (unsigned i = 0; i < sizeof readonly / sizeof readonly[0]; i++) {
        cr_expect_eq(rd(v, readonly[i], &val), CPU_OK, "%x", readonly[i]);
        cr_expect_eq(wr(v, readonly[i], 0), CPU_FAULT, "%x", readonly[i]);
    }
    cr_expect_eq(rd(v, X2(EOI), &val), CPU_FAULT, "write-only");
    cr_expect_eq(rd(v, 0x83f, &val), CPU_FAULT, "write-only");
    rd(v, X2(ID), &val);
    cr_expect_eq(val, 3u);
    rd(v, X2(LDR), &val);
    cr_expect_eq(val, 8u);
}

/* --- messages --- */

static unsigned who(uint8_t vector)
{
    unsigned got = 0;

    for (unsigned i = 0; i < NCPU; i++) {
        got |= (unsigned)(take(cpu[i]) == vector) << i;
        W(cpu[i], EOI, 0);
    }
    return got;
}

Test(lapic, destinations)
{
    for (unsigned i = 0; i < NCPU; i++)
        W(cpu[i], LDR, 1u << (24 + i));
    apic_deliver(vm, 2, false, 0, 0x40, false, NULL);
    cr_expect_eq(who(0x40), 4u);
    apic_deliver(vm, 0xff, false, 0, 0x41, false, cpu[1]);
    cr_expect_eq(who(0x41), 0xdu);
    apic_deliver(vm, 9, true, 0, 0x42, false, NULL);
    cr_expect_eq(who(0x42), 9u, "flat");
    for (unsigned i = 0; i < NCPU; i++) {
        W(cpu[i], DFR, 0);
        W(cpu[i], LDR, (i / 2) << 28 | 1u << (24 + i % 2));
    }
    apic_deliver(vm, 0x12, true, 0, 0x43, false, NULL);
    cr_expect_eq(who(0x43), 8u, "cluster 1, second");
    apic_deliver(vm, 0x03, true, 0, 0x44, false, NULL);
    cr_expect_eq(who(0x44), 3u);
    apic_deliver(vm, 0xff, true, 0, 0x45, false, NULL);
    cr_expect_eq(who(0x45), 0xfu);
    apic_deliver(vm, 77, false, 0, 0x46, false, NULL);
    cr_expect_eq(who(0x46), 0u);
}

Test(lapic, x2apic_destinations)
{
    for (unsigned i = 0; i < NCPU; i++)
        x2(cpu[i]);
#define SEND(dest, low) wr(cpu[0], X2(ICR), (uint64_t)(dest) << 32 | (low))
    unsigned got;
    SEND(0x5, 0x4840);
    got = 0;
    for (unsigned i = 0; i < NCPU; i++)
        got |= (unsigned)(take(cpu[i]) == 0x40) << i;
    cr_expect_eq(got, 5u, "logical, cluster 0");
    SEND(0xff, 0x4071);
    SEND(0x10001, 0x4871);
    for (unsigned i = 0; i < NCPU; i++)
        cr_expect_eq(take(cpu[i]), -1, "0xff is an id, not the broadcast; cluster 1 is empty");
    SEND(0xffffffff, 0x4072);
    got = 0;
    for (unsigned i = 0; i < NCPU; i++)
        got |= (unsigned)(take(cpu[i]) == 0x72) << i;
    cr_expect_eq(got, 0xfu);
    apic_deliver(vm, 0xff, true, 0, 0x83, false, NULL);
    for (unsigned i = 0; i < NCPU; i++)
        cr_expect_eq(take(cpu[i]), 0x83, "the IOAPIC's 8-bit broadcast");
    wr(cpu[2], 0x83f, 0x94);
    cr_expect_eq(take(cpu[2]), 0x94, "self IPI");
    wr(cpu[2], 0x83f, 0x04);
    wr(cpu[2], X2(ESR), 0);
    uint64_t esr;
    rd(cpu[2], X2(ESR), &esr);
    cr_expect_eq(esr, 0x20u);
}

Test(lapic, lowest_priority)
{
    W(cpu[0], TPR, 0x20);
    W(cpu[1], TPR, 0x10);
    W(cpu[2], TPR, 0x30);
    W(cpu[3], SVR, 0xff); /* would win, but is off */
    apic_deliver(vm, 0xff, false, 1, 0x60, false, NULL);
    cr_expect_eq(who(0x60), 2u);
    W(cpu[0], TPR, 0x10);
    unsigned seen = 0;
    for (int i = 0; i < 8; i++) {
        apic_deliver(vm, 0xff, false, 1, 0x61, false, NULL);
        unsigned one = who(0x61);

        cr_expect(one == 1 || one == 2, "exactly one: %x", one);
        seen |= one;
    }
    cr_expect_eq(seen, 3u, "equals take turns");
}

Test(lapic, icr)
{
    struct vcpu *v = cpu[1];

    W(v, ICR2, 2u << 24);
    W(v, ICR, 0x4050);
    cr_expect_eq(R(v, ICR), 0x4050u, "delivery status is idle");
    cr_expect_eq(who(0x50), 4u);
    W(v, ICR, 0x44051);
    cr_expect_eq(who(0x51), 2u, "self");
    W(v, ICR, 0x84052);
    cr_expect_eq(who(0x52), 0xfu, "all");
    W(v, ICR, 0xc4053);
    cr_expect_eq(who(0x53), 0xdu, "all but self");
    W(v, ICR, 0xc4400);
    cr_expect_eq(cpu[0]->lapic.events, LAPIC_EV_NMI);
    cr_expect_eq(v->lapic.events, 0u);
    W(v, ICR, 0xc500); /* INIT, assert */
    cr_expect_eq(cpu[2]->lapic.events, LAPIC_EV_NMI | LAPIC_EV_INIT);
    W(v, ICR, 0x4600 | 0x9a);
    cr_expect_eq(cpu[2]->lapic.events, LAPIC_EV_NMI | LAPIC_EV_INIT | LAPIC_EV_SIPI);
    cr_expect_eq(cpu[2]->lapic.sipi_vector, 0x9a);
    W(v, ICR, 0x8500); /* de-assert */
    cr_expect_eq(cpu[2]->lapic.events, LAPIC_EV_NMI | LAPIC_EV_INIT | LAPIC_EV_SIPI);
    W(v, ICR, 0xc500);
    cr_expect_eq(cpu[2]->lapic.events, LAPIC_EV_NMI | LAPIC_EV_INIT, "voids the SIPI");
    W(v, ICR, 0x84500);
    cr_expect_eq(v->lapic.events, 0u, "INIT to all with self is no message");
}

/* --- timer --- */

/* Counts in the tests that look at time last for minutes, so that no pause of ours matters. */
Test(lapic, timer_one_shot_count)
{
    const uint64_t second = 2000000000; /* cycles */
    struct vcpu *v = cpu[0];

    W(v, LVT_TIMER, 0x40);
    W(v, TDIV, 0xa); /* by 128: 7.8125 MHz */
    uint64_t a = tsc();
    W(v, TICR, 7812500 * 400u);
    uint64_t b = tsc();
    cr_expect(armed >= a + 400 * second && armed <= b + 400 * second);
    pass(v, 100 * second);
    uint64_t c = tsc();
    uint32_t cur = R(v, TCUR);
    uint64_t d = tsc();
    cr_expect_geq(cur, 7812500 * 300u - (d - a) / 256 - 1);
    cr_expect_leq(cur, 7812500 * 300u - (c - b) / 256 + 1);
    cr_expect_eq(take(v), -1);
    pass(v, 300 * second);
    cr_expect_eq(R(v, TCUR), 0u);
    cr_expect_eq(take(v), 0x40);
    W(v, EOI, 0);
    pass(v, 900 * second);
    cr_expect_eq(take(v), -1);
    cr_expect_eq(lapic_next_deadline(v), 0u);
}

Test(lapic, timer_divide)
{
    static const struct {
        uint8_t conf;
        unsigned by;
    } t[] = {{0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {10, 128}, {11, 1}};
    struct vcpu *v = cpu[0];

    W(v, LVT_TIMER, 0x40);
    for (unsigned i = 0; i < 8; i++) {
        W(v, TDIV, t[i].conf);
        uint64_t a = tsc();
        W(v, TICR, 0x10000000);
        uint64_t b = tsc(), want = 2ull * t[i].by * 0x10000000;

        cr_expect(armed >= a + want && armed <= b + want, "by %u", t[i].by);
    }
}

Test(lapic, timer_periodic_keeps_phase)
{
    const uint64_t second = 2000000000;
    struct vcpu *v = cpu[0];

    W(v, LVT_TIMER, 0x20040);
    W(v, TDIV, 0xa);
    W(v, TICR, 7812500 * 100u);
    uint64_t start = v->lapic.timer_start;
    pass(v, 350 * second); /* 3.5 periods: one interrupt, the next at 4 */
    uint64_t a = tsc();
    cr_expect_eq(take(v), 0x40);
    cr_expect_eq(v->lapic.timer_start, start + 300 * second);
    cr_expect(lapic_next_deadline(v) > a && lapic_next_deadline(v) <= a + 50 * second);
    W(v, EOI, 0);
    cr_expect_eq(take(v), -1);
    cr_expect_leq(R(v, TCUR), 7812500 * 50u);
    cr_expect_gt(R(v, TCUR), 0u);
    pass(v, 50 * second);
    cr_expect_eq(take(v), 0x40);
    W(v, EOI, 0);
    W(v, TICR, 0);
    cr_expect_eq(armed, 0u, "count 0 stops it");
    cr_expect_eq(R(v, TCUR), 0u);
    /* A period of one tick must not hang us. */
    W(v, TICR, 1);
    pass(v, 1000);
    lapic_timer_poll(v);
    cr_expect_neq(lapic_next_deadline(v), 0u);
}

Test(lapic, timer_masked_counts_but_is_silent)
{
    struct vcpu *v = cpu[0];

    W(v, TDIV, 0xa);
    W(v, LVT_TIMER, 0x10040);
    W(v, TICR, 0xffffffff); /* 9 minutes */
    cr_expect_eq(arms, 0u);
    cr_expect_gt(R(v, TCUR), 0u);
    pass(v, 2000000000000);
    W(v, LVT_TIMER, 0x40);
    cr_expect_eq(take(v), -1, "what expired while masked is gone");
    W(v, LVT_TIMER, 0x10040);
    W(v, TICR, 0xffffffff);
    cr_expect_eq(arms, 0u);
    W(v, LVT_TIMER, 0x40);
    cr_expect_eq(arms, 1u, "unmasked while it runs");
    cr_expect_eq(armed, v->lapic.next_tsc);
}

Test(lapic, timer_deadline)
{
    struct vcpu *v = cpu[0];
    uint64_t val;

    v->cpu.tsc_offset = -tsc(); /* the guest began now */
    cr_expect_eq(wr(v, DEADLINE, 12345), CPU_OK);
    rd(v, DEADLINE, &val);
    cr_expect_eq(val, 0u, "ignored in the other modes");
    W(v, LVT_TIMER, 0x40041);
    W(v, TICR, 1000);
    cr_expect_eq(R(v, TICR), 0u);
    kicks[0] = 0;
    wr(v, DEADLINE, 1);
    cr_expect_eq(arms, 0u, "in the past: at once");
    cr_expect_eq(kicks[0], 1u);
    cr_expect_eq(take(v), 0x41);
    W(v, EOI, 0);
    rd(v, DEADLINE, &val);
    cr_expect_eq(val, 0u);
    uint64_t guest = tsc() + v->cpu.tsc_offset + 5000000000000u;
    wr(v, DEADLINE, guest);
    rd(v, DEADLINE, &val);
    cr_expect_eq(val, guest);
    cr_expect_eq(armed, guest - v->cpu.tsc_offset);
    cr_expect_eq(take(v), -1);
    /* The guest moves its TSC past the deadline. */
    v->cpu.tsc_offset += 6000000000000u;
    lapic_tsc_changed(v, 6000000000000u);
    cr_expect_eq(take(v), 0x41);
    W(v, EOI, 0);
    wr(v, DEADLINE, ~0ull);
    cr_expect_eq(take(v), -1, "far away, whatever the offset");
    wr(v, DEADLINE, 0);
    cr_expect_eq(armed, 0u);
    wr(v, DEADLINE, ~0ull);
    W(v, LVT_TIMER, 0x41);
    cr_expect_eq(lapic_next_deadline(v), 0u, "leaving the mode disarms");
}

Test(lapic, timer_with_an_illegal_vector)
{
    struct vcpu *v = cpu[0];

    W(v, LVT_TIMER, 0x4000f);
    wr(v, DEADLINE, 1);
    cr_expect_eq(take(v), -1);
    W(v, ESR, 0);
    cr_expect_eq(R(v, ESR), 0x40u);
}

/* SDM 3A 6.7.1: one NMI waits while they are blocked; a CPU that is free takes the first at once.
 */
Test(lapic, nmis_that_wait)
{
    struct vcpu *v = cpu[0];

    for (int i = 0; i < 3; i++)
        lapic_nmi(v);
    lapic_take_nmis(v);
    cr_expect_eq(v->cpu.nmi_pending, 2);
    cr_expect_eq(v->lapic.events, 0);
    v->cpu.nmi_pending = 0;
    v->cpu.nmi_blocked = true;
    for (int i = 0; i < 3; i++)
        lapic_nmi(v);
    lapic_take_nmis(v);
    cr_expect_eq(v->cpu.nmi_pending, 1);
    lapic_nmi(v);
    lapic_take_nmis(v);
    cr_expect_eq(v->cpu.nmi_pending, 1);
}
