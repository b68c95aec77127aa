/* The IOAPIC: entries, edge and level, remote IRR, polarity, wiring, MSI hook. */
#include "tests/machine_fake.h"

static void reg_write(unsigned reg, uint32_t val)
{
    ioapic_write(chip, 0, reg);
    ioapic_write(chip, 0x10, val);
}
static uint32_t reg_read(unsigned reg)
{
    ioapic_write(chip, 0, reg);
    return ioapic_read(chip, 0x10);
}
static void entry(unsigned pin, uint32_t low, uint8_t dest)
{
    reg_write(0x11 + 2 * pin, (uint32_t)dest << 24);
    reg_write(0x10 + 2 * pin, low);
}
static void setup(void)
{
    fake_machine();
    for (int i = 0; i < NCPU; i++)
        lapic_mmio_write(cpu[i], 0xf0, 0x1ff);
}
TestSuite(ioapic, .init = setup);

Test(ioapic, registers)
{
    cr_expect_eq(reg_read(1), 0x170011u);
    reg_write(0, 0xffffffff);
    cr_expect_eq(reg_read(0), 0x0f000000u);
    cr_expect_eq(reg_read(2), 0x0f000000u);
    cr_expect_eq(reg_read(0x10 + 2 * 23), 0x10000u);
    reg_write(0x10, 0xffffffff);
    reg_write(0x11, 0xffffffff);
    cr_expect_eq(reg_read(0x10), 0x1afffu, "status and remote IRR are read-only");
    cr_expect_eq(reg_read(0x11), 0xff000000u);
    reg_write(0x40, 0x1234); /* past the last entry */
    cr_expect_eq(reg_read(0x40), 0u);
    reg_write(0xff, 1);
    cr_expect_eq(reg_read(0xff), 0u);
    cr_expect_eq(ioapic_read(chip, 0x20), 0u);
}

Test(ioapic, edge)
{
    entry(5, 0x45, 1);
    irq_set(vm, 5, true);
    irq_set(vm, 5, true);
    cr_expect_eq(take(cpu[1]), 0x45);
    cr_expect_eq(take(cpu[1]), -1);
    lapic_mmio_write(cpu[1], 0xb0, 0);
    cr_expect_eq(take(cpu[1]), -1, "no edge, no interrupt");
    irq_set(vm, 5, false);
    irq_pulse(vm, 5);
    cr_expect_eq(take(cpu[1]), 0x45);
    lapic_mmio_write(cpu[1], 0xb0, 0);
    entry(5, 0x10045, 1);
    irq_pulse(vm, 5);
    entry(5, 0x45, 1);
    cr_expect_eq(take(cpu[1]), -1, "an edge on a masked pin is lost");
    irq_set(vm, 24, true);
    irq_set(vm, 1000, true);
}

Test(ioapic, level_and_remote_irr)
{
    entry(10, 0x8051, 0);
    irq_set(vm, 10, true);
    cr_expect_eq(reg_read(0x10 + 20), 0xc051u);
    cr_expect_eq(take(cpu[0]), 0x51);
    irq_set(vm, 10, false);
    irq_set(vm, 10, true);
    cr_expect_eq(take(cpu[0]), -1, "remote IRR holds it");
    lapic_mmio_write(cpu[0], 0xb0, 0);
    cr_expect_eq(take(cpu[0]), 0x51, "again after EOI");
    irq_set(vm, 10, false);
    lapic_mmio_write(cpu[0], 0xb0, 0);
    cr_expect_eq(reg_read(0x10 + 20), 0x8051u);
    cr_expect_eq(take(cpu[0]), -1);
    entry(10, 0x18051, 0);
    irq_set(vm, 10, true);
    cr_expect_eq(take(cpu[0]), -1);
    entry(10, 0x8051, 0);
    cr_expect_eq(take(cpu[0]), 0x51, "unmasked while high");
    ioapic_eoi(chip, 0x52);
    cr_expect_eq(reg_read(0x10 + 20) & 0x4000, 0x4000u, "somebody else's vector");
    /* Masked and edge, then back: how Linux drops a stuck remote IRR. */
    reg_write(0x10 + 20, 0x10051);
    cr_expect_eq(reg_read(0x10 + 20), 0x10051u);
}

Test(ioapic, two_pins_share_a_vector)
{
    entry(10, 0x8051, 0);
    entry(11, 0x8051, 0);
    irq_set(vm, 10, true);
    irq_set(vm, 11, true);
    cr_expect_eq(take(cpu[0]), 0x51);
    irq_set(vm, 10, false);
    lapic_mmio_write(cpu[0], 0xb0, 0);
    cr_expect_eq(take(cpu[0]), 0x51, "pin 11 is still high");
    irq_set(vm, 11, false);
    lapic_mmio_write(cpu[0], 0xb0, 0);
    cr_expect_eq(take(cpu[0]), -1);
}

Test(ioapic, active_low)
{
    irq_set(vm, 12, true);
    entry(12, 0xa060, 0);
    cr_expect_eq(take(cpu[0]), -1);
    irq_set(vm, 12, false);
    cr_expect_eq(take(cpu[0]), 0x60);
    irq_set(vm, 12, true);
    lapic_mmio_write(cpu[0], 0xb0, 0);
    cr_expect_eq(take(cpu[0]), -1);
}

Test(ioapic, delivery_modes)
{
    entry(6, 0x0400, 3);
    irq_pulse(vm, 6);
    cr_expect_eq(cpu[3]->lapic.events, LAPIC_EV_NMI);
    entry(6, 0x8400, 3); /* NMI is an edge whatever the entry says */
    irq_set(vm, 6, true);
    cr_expect_eq(reg_read(0x10 + 12) & 0x4000, 0u);
    entry(7, 0x0500, 3);
    irq_pulse(vm, 7);
    cr_expect(cpu[3]->lapic.events & LAPIC_EV_INIT);
}

Test(ioapic, irq0_is_pin_2)
{
    entry(0, 0x70, 0);
    entry(2, 0x72, 0);
    irq_pulse(vm, 0);
    cr_expect_eq(take(cpu[0]), 0x72);
    lapic_mmio_write(cpu[0], 0xb0, 0);
    irq_pulse(vm, 2);
    cr_expect_eq(take(cpu[0]), 0x72);
}

Test(ioapic, extint_from_the_8259_by_pin_0)
{
    lapic_mmio_write(cpu[0], 0x350, 0x10000);
    entry(0, 0x700, 2);
    pic_write(chip, 0x21, 0xfd);
    irq_pulse(vm, 1);
    cr_expect(!lapic_extint_pending(cpu[0]), "LINT0 is masked");
    cr_expect_eq(take(cpu[2]), 9);
    cr_expect(!lapic_extint_pending(cpu[2]));
}

static uint64_t msi_addr;
static uint32_t msi_data;
static void msi(struct vm_cpus *m, uint64_t addr, uint32_t data)
{
    (void)m;
    msi_addr = addr;
    msi_data = data;
}

Test(ioapic, msi_hook)
{
    chip->msi = msi;
    entry(5, 0x8945, 0x12);
    irq_set(vm, 5, true);
    cr_expect_eq(msi_addr, 0xfee1200cu, "logical, redirection hint");
    cr_expect_eq(msi_data, 0xc145u);
    entry(6, 0x46, 1);
    irq_pulse(vm, 6);
    cr_expect_eq(msi_addr, 0xfee01000u);
    cr_expect_eq(msi_data, 0x46u);
    cr_expect_eq(take(cpu[1]), -1);
}
