/* The 16550A as Linux's 8250 driver probes and uses it. */
#include "tests/machine_fake.h"

enum { THR, IER, IIR, LCR, MCR, LSR, MSR, SCR };

static void w(unsigned reg, uint8_t val)
{
    serial_write(&fake, (uint16_t)(0x3f8 + reg), 1, val);
}
static uint8_t r(unsigned reg)
{
    return (uint8_t)serial_read(&fake, (uint16_t)(0x3f8 + reg), 1);
}
static bool irq(void)
{
    return chip->ioapic.level >> 4 & 1;
}
static void setup(void)
{
    fake_machine();
    serial_init(&fake);
}
TestSuite(serial, .init = setup);

Test(serial, transmit)
{
    cr_expect_eq(r(LSR), 0x60);
    for (const char *s = "hi\n"; *s; s++)
        w(THR, (uint8_t)*s);
    cr_expect_str_eq(out, "hi\n");
    w(LCR, 0x83);
    w(THR, 0x0c);
    w(IER, 0x01);
    cr_expect_eq(r(THR), 0x0c);
    cr_expect_eq(r(IER), 0x01);
    w(LCR, 0x03);
    cr_expect_eq(r(IER), 0x00, "the divisor is not IER");
    cr_expect_str_eq(out, "hi\n", "the divisor is not data");
}

/* drivers/tty/serial/8250/8250_port.c, autoconfig(): what it asks, in its order. */
Test(serial, looks_like_a_16550a)
{
    w(IER, 0);
    cr_expect_eq(r(IER), 0);
    w(IER, 0x0f);
    cr_expect_eq(r(IER), 0x0f);
    w(IER, 0xff);
    cr_expect_eq(r(IER), 0x0f, "no XScale, no TI");
    w(IER, 0);
    w(MCR, 0x1a);
    cr_expect_eq(r(MSR) & 0xf0, 0x90, "loop-back");
    w(MCR, 0x0b);
    cr_expect_eq(r(MSR) & 0xf0, 0xb0);
    w(LCR, 0xbf);
    w(IIR, 0);
    w(LCR, 0);
    w(IIR, 1);
    cr_expect_eq(r(IIR) >> 6, 3, "FIFO");
    w(LCR, 0x80);
    cr_expect_neq(r(IIR), 0, "no EFR");
    w(LCR, 0xbf);
    cr_expect_neq(r(IIR), 0);
    w(LCR, 0);
    w(IIR, 1);
    cr_expect_eq(r(IIR) >> 5, 6);
    w(LCR, 0x80);
    w(IIR, 0x21);
    cr_expect_eq(r(IIR) >> 5, 6, "no 64-byte FIFO");
    w(LCR, 0);
    w(SCR, 0xa5);
    cr_expect_eq(r(SCR), 0xa5);
    w(IIR, 0);
    cr_expect_eq(r(IIR), 0x01);
}

Test(serial, thr_empty_interrupt)
{
    w(IER, 2);
    cr_expect(irq(), "enabling raises it");
    cr_expect_eq(r(IIR), 0x02);
    cr_expect(!irq(), "reading IIR takes it back");
    cr_expect_eq(r(IIR), 0x01);
    /* serial8250_do_startup()'s test: off and on again must raise it again. */
    w(IER, 0);
    w(IER, 2);
    cr_expect_eq(r(IIR), 0x02);
    w(IER, 2);
    cr_expect_eq(r(IIR), 0x01, "written as it was: nothing");
    w(THR, 'x');
    cr_expect(irq(), "sent, empty again");
    w(IER, 0);
    cr_expect(!irq());
    w(IER, 2);
    cr_expect_eq(r(IIR), 0x02);
}

Test(serial, each_byte_is_an_edge)
{
    ioapic_write(chip, 0, 0x18);
    ioapic_write(chip, 0x10, 0x34);
    lapic_mmio_write(cpu[0], 0xf0, 0x1ff);
    w(IER, 2);
    cr_expect_eq(take(cpu[0]), 0x34);
    lapic_mmio_write(cpu[0], 0xb0, 0);
    w(THR, 'a'); /* without reading IIR */
    cr_expect_eq(take(cpu[0]), 0x34);
}

Test(serial, receive_and_back_pressure)
{
    uint8_t in[40];

    for (unsigned i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)('A' + i);
    cr_expect_eq(serial_receive(&fake, in, sizeof in), 1, "no FIFO: one byte");
    cr_expect_eq(serial_receive(&fake, in, sizeof in), 0);
    w(IIR, 0xc7);
    cr_expect_eq(r(LSR), 0x60, "enabling clears it");
    cr_expect_eq(serial_receive(&fake, in, sizeof in), 16);
    cr_expect_eq(serial_receive(&fake, in + 16, 24), 0);
    cr_expect(!irq());
    w(IER, 1);
    cr_expect(irq());
    cr_expect_eq(r(IIR), 0xc4);
    for (unsigned i = 0; i < 16; i++) {
        cr_expect_eq(r(LSR) & 1, 1);
        rx_space = 0;
        cr_expect_eq(r(THR), 'A' + i);
        cr_expect_eq(rx_space, 1u, "room again");
    }
    cr_expect(!irq());
    cr_expect_eq(r(LSR), 0x60);
    cr_expect_eq(r(THR), 0, "empty");
    cr_expect_eq(serial_receive(&fake, in, 3), 3);
    cr_expect(irq(), "below the trigger level too");
    w(IIR, 0xc3);
    cr_expect(!irq(), "FCR's receive reset");
}

Test(serial, wants_input)
{
    w(IER, 1);
    cr_expect_eq(rx_space, 1u, "receiver interrupt enabled");
    rx_space = 0;
    for (int i = 0; i < 100; i++) { /* a polling transmitter does not ask for stdin */
        r(LSR);
        w(THR, '.');
    }
    cr_expect_eq(rx_space, 0u);
    for (int i = 0; i < 10; i++)
        r(LSR);
    cr_expect_gt(rx_space, 0u, "a polling receiver does");
}

Test(serial, loop_back)
{
    w(IIR, 1);
    w(MCR, 0x10);
    r(MSR);
    w(THR, 'q');
    cr_expect_eq(out_len, 0u);
    cr_expect_eq(r(LSR), 0x61);
    cr_expect_eq(r(THR), 'q');
    w(MCR, 0x1f);
    cr_expect_eq(r(MSR), 0xfb, "all inputs rose; RI counts its fall only");
    cr_expect_eq(r(MSR), 0xf0);
    w(MCR, 0x1b);
    cr_expect_eq(r(MSR), 0xb4);
    w(IER, 8);
    cr_expect(!irq());
    w(MCR, 0x1a);
    cr_expect(irq());
    cr_expect_eq(r(IIR) & 0x0f, 0x00);
    r(MSR);
    cr_expect(!irq());
    w(IER, 4);
    for (int i = 0; i < 17; i++)
        w(THR, (uint8_t)i);
    cr_expect_eq(r(IIR) & 0x0f, 0x06, "overrun");
    cr_expect_eq(r(LSR), 0x63);
    cr_expect_eq(r(LSR), 0x61);
    cr_expect(!irq());
    uint8_t byte = 1;
    cr_expect_eq(serial_receive(&fake, &byte, 1), 0, "the line is cut");
}

Test(serial, interrupt_priority)
{
    uint8_t byte = 'z';

    w(MCR, 0x10);
    w(IER, 0x0f);
    w(MCR, 0x0b); /* deltas */
    serial_receive(&fake, &byte, 1);
    cr_expect_eq(r(IIR), 0x04);
    r(THR);
    cr_expect_eq(r(IIR), 0x02);
    cr_expect_eq(r(IIR), 0x00);
    r(MSR);
    cr_expect_eq(r(IIR), 0x01);
    cr_expect(!irq());
}
