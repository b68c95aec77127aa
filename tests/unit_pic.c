/* The 8259 pair: priorities, rotation, special modes, cascade, poll, spurious, ELCR, INTR. */
#include "tests/machine_fake.h"

enum { M0 = 0x20, M1 = 0x21, S0 = 0xa0, S1 = 0xa1 };

static void w(uint16_t port, uint8_t val)
{
    pic_write(chip, port, val);
}
static uint8_t isr(uint16_t port)
{
    w(port, 0x0b);
    return pic_read(chip, port);
}
static uint8_t irr(uint16_t port)
{
    w(port, 0x0a);
    return pic_read(chip, port);
}
static void init(uint8_t icw4)
{
    w(M0, 0x11);
    w(M1, 0x20);
    w(M1, 0x04);
    w(M1, icw4);
    w(S0, 0x11);
    w(S1, 0x28);
    w(S1, 0x02);
    w(S1, icw4);
}
static void setup(void)
{
    fake_machine();
    init(1);
}
TestSuite(pic, .init = setup);

Test(pic, masked_before_the_guest_programs_it)
{
    fake_machine();
    cr_expect_eq(pic_read(chip, M1), 0xff);
    irq_pulse(vm, 0);
    cr_expect(!pic_output(chip));
}

Test(pic, init_and_mask)
{
    w(M1, 0x5a);
    cr_expect_eq(pic_read(chip, M1), 0x5a);
    w(M0, 0x11);
    w(M1, 0xf7); /* ICW2: only the high five bits */
    w(M1, 0x04);
    w(M1, 0x01);
    cr_expect_eq(pic_read(chip, M1), 0, "ICW1 clears the mask");
    irq_pulse(vm, 3);
    cr_expect_eq(pic_ack(chip), 0xf3);
    /* Single, without ICW4: no ICW3 either. */
    w(M0, 0x12);
    w(M1, 0x40);
    w(M1, 0xf0);
    cr_expect_eq(pic_read(chip, M1), 0xf0);
    irq_pulse(vm, 1);
    cr_expect_eq(pic_ack(chip), 0x41);
}

Test(pic, priority_nesting_and_eoi)
{
    irq_pulse(vm, 5);
    irq_pulse(vm, 3);
    cr_expect_eq(irr(M0), 0x28);
    cr_expect_eq(pic_ack(chip), 0x23);
    cr_expect(!pic_output(chip), "5 is below what is in service");
    irq_pulse(vm, 1);
    cr_expect_eq(pic_ack(chip), 0x21);
    cr_expect_eq(isr(M0), 0x0a);
    w(M0, 0x20);
    cr_expect_eq(isr(M0), 0x08, "non-specific EOI ends the highest");
    w(M0, 0x63);
    cr_expect_eq(isr(M0), 0, "specific");
    cr_expect_eq(pic_ack(chip), 0x25);
}

Test(pic, edge_and_level)
{
    w(0x4d0, 0xff);
    w(0x4d1, 0xff);
    cr_expect_eq(pic_read(chip, 0x4d0), 0xf8);
    cr_expect_eq(pic_read(chip, 0x4d1), 0xde);
    w(0x4d0, 0x20);
    irq_set(vm, 4, true);
    cr_expect_eq(pic_ack(chip), 0x24);
    w(M0, 0x20);
    cr_expect(!pic_output(chip), "edge: once");
    irq_set(vm, 4, false);
    irq_set(vm, 5, true);
    cr_expect_eq(pic_ack(chip), 0x25);
    w(M0, 0x20);
    cr_expect(pic_output(chip), "level: still high");
    irq_set(vm, 5, false);
    cr_expect(!pic_output(chip));
}

Test(pic, spurious)
{
    w(0x4d0, 0x20);
    irq_set(vm, 5, true);
    irq_set(vm, 5, false);
    cr_expect_eq(pic_ack(chip), 0x27);
    cr_expect_eq(isr(M0), 0);
    /* The slave's: its line goes between the master's choice and its own. */
    w(0x4d1, 0x02);
    irq_set(vm, 9, true);
    irq_pulse(vm, 12);
    w(S1, 0x10);
    irq_set(vm, 9, false);
    cr_expect(!pic_output(chip), "12 is masked, 9 is gone");
    cr_expect_eq(pic_ack(chip), 0x27);
}

Test(pic, cascade)
{
    irq_pulse(vm, 10);
    irq_pulse(vm, 8);
    irq_pulse(vm, 4);
    cr_expect_eq(pic_ack(chip), 0x28, "the slave is at 2: above 4");
    cr_expect_eq(isr(M0), 0x04);
    cr_expect_eq(isr(S0), 0x01);
    cr_expect(!pic_output(chip));
    w(S0, 0x20);
    cr_expect(!pic_output(chip), "the master still serves line 2");
    w(M0, 0x20);
    cr_expect_eq(pic_ack(chip), 0x2a);
    w(S0, 0x20);
    w(M0, 0x20);
    cr_expect_eq(pic_ack(chip), 0x24);
    w(M1, 0x04);
    irq_pulse(vm, 15);
    w(M0, 0x20);
    cr_expect(!pic_output(chip), "cascade masked");
    w(M1, 0);
    cr_expect_eq(pic_ack(chip), 0x2f);
}

Test(pic, special_fully_nested)
{
    init(0x11);
    irq_pulse(vm, 10);
    cr_expect_eq(pic_ack(chip), 0x2a);
    irq_pulse(vm, 8);
    cr_expect_eq(pic_ack(chip), 0x28, "a better line of the slave in service gets through");
    cr_expect_eq(isr(S0), 0x05);
}

Test(pic, rotation)
{
    irq_pulse(vm, 0);
    cr_expect_eq(pic_ack(chip), 0x20);
    w(M0, 0xa0); /* rotate on non-specific EOI: 0 becomes the lowest */
    irq_pulse(vm, 0);
    irq_pulse(vm, 7);
    cr_expect_eq(pic_ack(chip), 0x27);
    w(M0, 0xe7); /* rotate on specific EOI */
    irq_pulse(vm, 7);
    cr_expect_eq(pic_ack(chip), 0x20);
    w(M0, 0x20);
    w(M0, 0xc3); /* 3 is the lowest, 4 the highest */
    irq_pulse(vm, 4);
    cr_expect_eq(pic_ack(chip), 0x24);
    cr_expect(!pic_output(chip), "7 comes after 4");
    w(M0, 0x20);
    cr_expect_eq(pic_ack(chip), 0x27);
}

Test(pic, automatic_eoi)
{
    init(0x03);
    irq_pulse(vm, 2 + 1);
    cr_expect_eq(pic_ack(chip), 0x23);
    cr_expect_eq(isr(M0), 0);
    w(M0, 0x80); /* rotate in AEOI mode */
    irq_pulse(vm, 3);
    cr_expect_eq(pic_ack(chip), 0x23);
    irq_pulse(vm, 3);
    irq_pulse(vm, 5);
    cr_expect_eq(pic_ack(chip), 0x25, "3 went to the end");
    w(M0, 0x00);
    irq_pulse(vm, 1);
    cr_expect_eq(pic_ack(chip), 0x21);
}

Test(pic, special_mask)
{
    irq_pulse(vm, 2 + 1);
    cr_expect_eq(pic_ack(chip), 0x23);
    irq_pulse(vm, 6);
    w(M1, 0x08);
    cr_expect(!pic_output(chip));
    w(M0, 0x68);
    cr_expect(pic_output(chip), "3 is masked: it holds nobody back");
    cr_expect_eq(pic_ack(chip), 0x26);
    w(M0, 0x20);
    cr_expect_eq(isr(M0), 0x08, "the masked level is left alone");
    w(M0, 0x48);
    irq_pulse(vm, 6);
    cr_expect(!pic_output(chip));
}

Test(pic, poll)
{
    w(M0, 0x0c);
    cr_expect_eq(pic_read(chip, M0), 0);
    irq_pulse(vm, 6);
    w(M0, 0x0c);
    cr_expect_eq(pic_read(chip, M0), 0x86);
    cr_expect_eq(isr(M0), 0x40, "the read was the acknowledge");
    cr_expect(!pic_output(chip));
}

Test(pic, intr_reaches_the_boot_processor)
{
    kicks[0] = 0;
    irq_pulse(vm, 1);
    cr_expect_eq(kicks[0], 1);
    cr_expect(lapic_extint_pending(cpu[0]), "virtual wire from the start");
    cr_expect(!lapic_extint_pending(cpu[1]));
    cr_expect_eq(take(cpu[0]), 0x21);
    cr_expect(!lapic_extint_pending(cpu[0]));
    lapic_mmio_write(cpu[0], 0xf0, 0x1ff);
    lapic_mmio_write(cpu[0], 0x350, 0x10700);
    irq_pulse(vm, 0);
    cr_expect(!lapic_extint_pending(cpu[0]));
    kicks[0] = 0;
    lapic_mmio_write(cpu[0], 0x350, 0x700);
    cr_expect_eq(kicks[0], 1, "unmasked while it waits");
    cr_expect(lapic_extint_pending(cpu[0]));
    lapic_mmio_write(cpu[0], 0x350, 0x10700);
    cr_assert_eq(lapic_msr_write(cpu[0], 0x1b, 0xfee00100), CPU_OK);
    cr_expect(lapic_extint_pending(cpu[0]), "without an APIC, INTR is the pin");
}

Test(pic, lint0_fixed)
{
    lapic_mmio_write(cpu[0], 0xf0, 0x1ff);
    lapic_mmio_write(cpu[0], 0x350, 0x31);
    irq_pulse(vm, 0);
    cr_expect(!lapic_extint_pending(cpu[0]));
    cr_expect_eq(take(cpu[0]), 0x31);
}

static int level = -1;
static void extint(struct vm_cpus *m, bool l)
{
    (void)m;
    level = l;
}
Test(pic, extint_hook)
{
    chip->extint = extint;
    irq_pulse(vm, 1);
    cr_expect_eq(level, 1);
    cr_expect_eq(kicks[0], 0);
    cr_expect_eq(pic_ack(chip), 0x21);
    cr_expect_eq(level, 0);
}
