/* The bus and the small devices behind it, through machine_bus_ops as a CPU reaches them. */
#include <time.h>
#include "monitor/ports.h"
#include "tests/machine_fake.h"

static uint64_t in(unsigned port, unsigned size)
{
    return machine_bus_ops.pio_read(&fake, (uint16_t)port, size);
}
static void outp(unsigned port, unsigned size, uint64_t val)
{
    machine_bus_ops.pio_write(&fake, (uint16_t)port, size, val);
}
static uint8_t cmos(uint8_t reg)
{
    outp(0x70, 1, reg);
    return (uint8_t)in(0x71, 1);
}
static void cmos_set(uint8_t reg, uint8_t val)
{
    outp(0x70, 1, reg);
    outp(0x71, 1, val);
}
static void setup(void)
{
    fake_machine();
    vm->ops = &machine_bus_ops;
    serial_init(&fake);
    fake.ram.low = 256 * MIB;
}
TestSuite(legacy, .init = setup);

Test(legacy, the_table_is_sorted_and_named)
{
    /* A row out of order could not be found: each device's first port must count in its own row. */
    static const uint16_t ports[] = {0x20,  0x40,  0x60,  0x61,  0x64,  0x70,  0x80,  0x92,
                                     0xa0,  0xe9,  0xf4,  0x3d4, 0x3f8, 0x4d0, 0x501, 0x505,
                                     0x600, 0x6d0, 0xcf8, 0xcf9, 0xcfa, 0x8900};
    for (unsigned i = 0; i < sizeof ports / sizeof ports[0]; i++) {
        in(ports[i], 1);
        cr_expect_eq(fake.pio_count[i], 1u, "%x", ports[i]);
        cr_expect_not_null(pio_device_name(i));
    }
    cr_expect_null(pio_device_name(sizeof ports / sizeof ports[0]));
    cr_expect_null(pio_device_name(~0u));
    cr_expect_eq(fake.unclaimed_reads, 0u);
}

Test(legacy, unclaimed)
{
    cr_expect_eq(in(0x1234, 1), 0xffu);
    cr_expect_eq(in(0x1234, 2), 0xffffu);
    cr_expect_eq(in(0xfffe, 4), 0xffffffffu, "past the last port");
    outp(0x1234, 4, 0);
    cr_expect_eq(fake.unclaimed_reads, 3u);
    cr_expect_eq(fake.unclaimed_writes, 1u);
    cr_expect_eq(machine_bus_ops.mmio_read(&fake, 0xd0000000, 8), ~0ull);
    cr_expect_eq(machine_bus_ops.mmio_read(&fake, 0xd0000000, 2), 0xffffu);
    machine_bus_ops.mmio_write(&fake, 0xd0000000, 8, 0);
    cr_expect_eq(fake.unclaimed_reads, 5u);
    cr_expect_eq(fake.unclaimed_writes, 2u);
}

Test(legacy, wide_accesses_are_split)
{
    outp(0x3f8, 2, 0x0141); /* THR, IER */
    cr_expect_str_eq(out, "A");
    cr_expect_eq(fake.serial.ier, 1);
    cr_expect_eq(in(0x3fe, 2) >> 8, 0x00u, "MSR, SCR");
    cr_expect_eq(in(0x3ff, 2), 0xff00u, "SCR and nobody");
    cr_expect_eq(in(0x3ff, 4), 0xffffff00u);
    cr_expect_eq(fake.unclaimed_reads, 0u, "somebody answered");
    outp(0xcf8, 4, 0x80000600); /* not the reset port */
    cr_expect_eq(stops, 0u);
    outp(0xe9, 1, '!');
    cr_expect_str_eq(out, "A!");
    cr_expect_eq(in(0xe9, 1), 0xe9u);
}

Test(legacy, cursor_of_no_screen)
{
    outp(0x3d4, 2, 0x050e);
    outp(0x3d4, 2, 0x390f);
    outp(0x3d4, 1, 14);
    cr_expect_eq(in(0x3d5, 1), 5u);
    outp(0x3d4, 1, 15);
    cr_expect_eq(in(0x3d4, 2), 0x390fu);
    outp(0x3d4, 1, 0xff);
    outp(0x3d5, 1, 1);
    cr_expect_eq(in(0x3d4, 1), 0x1fu, "an index of five bits");
}

Test(legacy, no_pci)
{
    outp(0xcfb, 1, 1);
    outp(0xcf8, 4, 0x80000000);
    cr_expect_eq(in(0xcf8, 4), 0xffffffffu);
    cr_expect_eq(in(0xcfc, 4), 0xffffffffu);
    cr_expect_eq(in(0xcfe, 2), 0xffffu);
    cr_expect_eq(in(0xcfa, 1), 0xffu);
}

Test(legacy, ways_to_end)
{
    static const struct {
        uint16_t port;
        uint8_t size;
        uint32_t val;
        int status;
    } t[] = {
        {0xf4, 4, 0, 0},       {0xf4, 4, 7, 7},     {0xf4, 1, 255, 255},
        {0xf4, 4, 0x103, 3},   {0x501, 1, 42, 42},  {0x501, 2, 0x0142, 0x42},
        {0x64, 1, 0xfe, 0},    {0x64, 1, 0xf0, 0},  {0x92, 1, 1, 0},
        {0xcf9, 1, 6, 0},      {0xcf9, 1, 0x0e, 0}, {0x604, 2, 0x2000, 0},
        {0x604, 2, 0x3400, 0}, {0x605, 1, 0x34, 0}, {0x505, 1, 1, STATUS_CRASH},
    };
    for (unsigned i = 0; i < sizeof t / sizeof t[0]; i++) {
        setup();
        outp(t[i].port, t[i].size, t[i].val);
        cr_expect_eq(stops, 1u, "row %u", i);
        cr_expect_eq(fake.status, t[i].status, "row %u", i);
        cr_expect_not_null(fake.stop_reason);
    }
    for (uint32_t val = 0; val < 3; val++) {
        setup();
        fake.boot.hermit = true;
        outp(0xf4, 4, val);
        cr_expect_eq(fake.status, val == 2 ? 2 : !val, "Hermit's %u", val);
        outp(0x501, 1, val);
        cr_expect_eq(fake.status, (int)val);
    }
}

Test(legacy, ways_not_to_end)
{
    outp(0x64, 1, 0xff);
    outp(0x92, 1, 2);
    outp(0xcf9, 1, 2);
    outp(0x604, 2, 0x1400); /* SLP_TYP without SLP_EN */
    outp(0x604, 2, 0x2400); /* S1 is not offered */
    outp(0x505, 1, 2);
    outp(0x80, 1, 0xaa);
    outp(0x600, 4, 0xffffffff);
    outp(0x608, 4, 0xffffffff);
    outp(0x500, 1, 1);
    for (const char *s = "ShutShutdow"; *s; s++)
        outp(0x8900, 1, (uint8_t)*s);
    cr_expect_eq(stops, 0u);
    outp(0x8900, 1, 'n');
    cr_expect_eq(stops, 1u);
    cr_expect_eq(fake.status, 0);
    /* The hard way of Linux's reboot=pci. */
    cr_expect_eq(in(0xcf9, 1), 2u);
    outp(0xcf9, 1, 6);
    cr_expect_eq(stops, 2u);
}

Test(legacy, acpi_pm)
{
    cr_expect_eq(in(ACPI_PM1_CNT, 2) & 1, 1u, "SCI_EN");
    outp(ACPI_PM1_CNT, 2, 0x1401);
    cr_expect_eq(in(ACPI_PM1_CNT, 2), 0x1401u);
    outp(ACPI_PM1_EVT + 2, 2, 0x0120);
    cr_expect_eq(in(ACPI_PM1_EVT, 4), 0x01200000u);
    cr_expect_eq(in(ACPI_PM1_EVT + 3, 1), 0x01u);
    cr_expect_eq(in(ACPI_PM1_EVT + 2, 4), 0x14010120u, "two registers");
    cr_expect_eq(in(ACPI_PM1_EVT - 2, 4), 0xffffu, "nobody, then the status");
    cr_expect_eq(in(ACPI_PM_TMR + 3, 2) >> 8, 0xffu, "the timer's last byte, then nobody");
    outp(ACPI_PM1_EVT, 2, 0xffff);
    cr_expect_eq(in(ACPI_PM1_EVT, 2), 0u);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    uint32_t v = (uint32_t)in(ACPI_PM_TMR, 4);
    clock_gettime(CLOCK_MONOTONIC, &b);
    uint64_t na = (uint64_t)a.tv_sec * 1000000000 + (uint64_t)a.tv_nsec;
    uint64_t nb = (uint64_t)b.tv_sec * 1000000000 + (uint64_t)b.tv_nsec;
    uint32_t ta = (uint32_t)((unsigned __int128)na * 3579545 / 1000000000);
    uint32_t tb = (uint32_t)((unsigned __int128)nb * 3579545 / 1000000000);
    cr_expect(v - ta <= tb - ta);
}

/* --- RTC --- */

static int bcd(uint8_t v)
{
    return (v >> 4) * 10 + (v & 15);
}
static int64_t rtc_time(bool binary)
{
    struct tm tm = {0};
    uint8_t s, again;

    do { /* as every reader does: twice the same second */
        s = cmos(0);
        uint8_t r[] = {cmos(2), cmos(4), cmos(7), cmos(8), cmos(9), cmos(0x32)};
        int v[6];

        for (int i = 0; i < 6; i++)
            v[i] = binary ? r[i] : bcd(r[i]);
        tm = (struct tm){.tm_sec = binary ? s : bcd(s),
                         .tm_min = v[0],
                         .tm_hour = v[1],
                         .tm_mday = v[2],
                         .tm_mon = v[3] - 1,
                         .tm_year = v[4] + v[5] * 100 - 1900};
        again = cmos(0);
    } while (s != again);
    return timegm(&tm);
}

Test(legacy, rtc_time_is_utc)
{
    for (int binary = 0; binary < 2; binary++) {
        cmos_set(0xb, binary ? 0x06 : 0x02);
        int64_t a = time(NULL), t = rtc_time(binary), b = time(NULL);
        cr_expect(a <= t && t <= b, "%d", binary);
    }
    int64_t before = time(NULL) / 86400;
    uint8_t wday = cmos(6);
    int64_t after = time(NULL) / 86400;
    cr_expect(wday == (before + 4) % 7 + 1 || wday == (after + 4) % 7 + 1);
    cr_expect_eq(cmos(0xa) & 0x7f, 0x26);
    cr_expect_eq(cmos(0xd), 0x80);
    cr_expect_eq(in(0x70, 1), 0xffu);
}

Test(legacy, rtc_is_set)
{
    cmos_set(0xb, 0x82);
    static const uint8_t regs[] = {0, 2, 4, 6, 7, 8, 9, 0x32};
    static const uint8_t vals[] = {0x56, 0x34, 0x12, 3, 0x29, 0x02, 0x00, 0x20};
    for (unsigned i = 0; i < sizeof regs; i++)
        cmos_set(regs[i], vals[i]);
    for (unsigned i = 0; i < sizeof regs; i++)
        cr_expect_eq(cmos(regs[i]), vals[i], "held");
    int64_t a = time(NULL);
    cmos_set(0xb, 0x02);
    int64_t t = rtc_time(false), c = time(NULL);
    const int64_t base = 951827696; /* 2000-02-29 12:34:56 */
    cr_expect(t >= base && t <= base + (c - a));
    /* 12-hour mode. */
    cmos_set(0xb, 0x00);
    cr_expect_eq(cmos(4) & 0x80, 0x80, "PM");
    cmos_set(0xb, 0x80);
    for (unsigned i = 0; i < sizeof regs; i++) /* nonsense does no harm */
        cmos_set(regs[i], 0xff);
    cmos_set(0xb, 0x00);
    cmos(0);
    cmos(9);
}

Test(legacy, cmos_memory)
{
    cr_expect_eq(cmos(0x15) | cmos(0x16) << 8, 640);
    cr_expect_eq(cmos(0x17) | cmos(0x18) << 8, 63 * 1024);
    cr_expect_eq(cmos(0x30) | cmos(0x31) << 8, 63 * 1024);
    cr_expect_eq(cmos(0x34) | cmos(0x35) << 8, 240 * 16);
    fake.ram.low = 8 * MIB;
    cr_expect_eq(cmos(0x17) | cmos(0x18) << 8, 7 * 1024);
    cr_expect_eq(cmos(0x34) | cmos(0x35) << 8, 0);
    fake.ram.low = 3 * GIB;
    fake.ram.high = 5 * GIB;
    cr_expect_eq(cmos(0x34) | cmos(0x35) << 8, (3 * 1024 - 16) * 16);
    cr_expect_eq(cmos(0x5b) | cmos(0x5c) << 8 | cmos(0x5d) << 16, 5 * 16384);
    cmos_set(0x0f, 0x5a);
    cr_expect_eq(cmos(0x8f), 0x5a, "bit 7 is the NMI mask");
    cmos_set(0xff, 0x77);
    cr_expect_eq(cmos(0x7f), 0x77);
}

/* --- i8042, PIC, PIT, IOAPIC through the bus --- */

Test(legacy, i8042)
{
    cr_expect_eq(in(0x64, 1) & 3, 0u, "kb_wait() ends at once");
    outp(0x64, 1, 0xaa);
    cr_expect_eq(in(0x64, 1) & 1, 1u);
    cr_expect_eq(in(0x60, 1), 0x55u);
    cr_expect_eq(in(0x64, 1) & 1, 0u);
    outp(0x64, 1, 0x60);
    outp(0x60, 1, 0x45);
    outp(0x64, 1, 0x20);
    cr_expect_eq(chip->ioapic.level >> 1 & 1, 1u, "IRQ 1");
    cr_expect_eq(in(0x60, 1), 0x45u);
    cr_expect_eq(chip->ioapic.level >> 1 & 1, 0u);
    outp(0x60, 1, 0xff); /* to the keyboard */
    cr_expect_eq(in(0x64, 1) & 0x41, 0x41u, "timeout");
    cr_expect_eq(in(0x60, 1), 0xfeu);
    outp(0x64, 1, 0xa9);
    cr_expect_neq(in(0x60, 1), 0u, "no mouse");
    cr_expect_eq(stops, 0u);
    outp(0x64, 1, 0xd1);
    outp(0x60, 1, 0xfe);
    cr_expect_eq(stops, 1u);
}

Test(legacy, controllers_on_the_bus)
{
    outp(0x21, 1, 0xfb);
    cr_expect_eq(in(0x21, 1), 0xfbu);
    cr_expect_eq(in(0xa1, 1), 0xffu);
    outp(0x4d0, 2, 0xffff);
    cr_expect_eq(in(0x4d0, 2), 0xdef8u);
    outp(0x61, 1, 1);
    cr_expect_eq(in(0x61, 1) & 3, 1u);
    machine_bus_ops.mmio_write(&fake, IOAPIC_BASE, 4, 1);
    cr_expect_eq(machine_bus_ops.mmio_read(&fake, IOAPIC_BASE + 0x10, 4), 0x170011u);
    cr_expect_eq(machine_bus_ops.mmio_read(&fake, IOAPIC_BASE + 0x10, 8), 0x170011u);
    cr_expect_eq(machine_bus_ops.mmio_read(&fake, IOAPIC_BASE + 0x12, 1), 0x17u);
    machine_bus_ops.mmio_write(&fake, IOAPIC_BASE, 1, 0x10);
    cr_expect_eq(machine_bus_ops.mmio_read(&fake, IOAPIC_BASE, 4), 0x10u);
    machine_bus_ops.mmio_write(&fake, IOAPIC_BASE + 2, 2, 0xffff);
    cr_expect_eq(machine_bus_ops.mmio_read(&fake, IOAPIC_BASE, 4), 0x10u);
}

Test(legacy, calls_after_wakeups_have_the_lock_free)
{
    /* Every row read and written in every size: nothing hangs, nothing stays locked. */
    for (unsigned port = 0; port < 0x10000; port++)
        for (unsigned size = 1; size <= 4; size *= 2) {
            in(port, size);
            outp(port, size, port * 0x01010101u);
        }
    cr_expect_eq(pthread_mutex_trylock(&fake.lock), 0);
    cr_expect_eq(pthread_mutex_trylock(&chip->lock), 0);
}

/* What kvm-unit-tests finds at its addresses on QEMU (hw/misc/pc-testdev.c). */
Test(legacy, testdev)
{
    const struct machine_ops *ops = &testdev_bus_ops;

    ops->pio_write(&fake, 0xe0, 4, 0x12345678);
    cr_expect_eq(ops->pio_read(&fake, 0xe0, 4), 0x12345678u);
    cr_expect_eq(ops->pio_read(&fake, 0xe2, 2), 0x1234u);
    ops->pio_write(&fake, 0xe1, 1, 0xab);
    cr_expect_eq(ops->pio_read(&fake, 0xe0, 4), 0x1234ab78u);
    cr_expect_eq(ops->pio_read(&fake, 0xe3, 1), 0x12u);
    ops->pio_write(&fake, 0xe4, 4, 1);
    cr_expect_eq(ops->pio_read(&fake, 0xe4, 4), 0u);
    ops->pio_read(&fake, 0xe3, 4); /* across the end: the machine's own, nobody there */
    cr_expect_eq(fake.unclaimed_reads, 1u);

    cr_expect_eq(ops->mmio_read(&fake, 0xff000000, 8), 0u);
    ops->mmio_write(&fake, 0xff00fff8, 8, 0x1122334455667788);
    cr_expect_eq(ops->mmio_read(&fake, 0xff00fffc, 4), 0x11223344u);
    cr_expect_eq(ops->mmio_read(&fake, 0xff00ffff, 2), 0xffffu, "past its end");
    cr_expect_eq(ops->mmio_read(&fake, 0xff010000, 1), 0xffu);
    cr_expect_eq(ops->mmio_read(&fake, 0xfeffffff, 1), 0xffu);
    cr_expect_eq(fake.unclaimed_reads, 4u);

    testdev_init(&fake);
    ops->pio_write(&fake, 0x200b, 4, 1);
    ops->pio_write(&fake, 0x200b, 4, 0);
    cr_expect_eq(take(cpu[0]), 0x73, "unmasked, at the BIOS's vector");
    static const uint16_t icw[][2] = {{0x20, 0x11}, {0x21, 0x20}, {0x21, 4}, {0x21, 1}, {0x21, 0}};
    for (unsigned i = 0; i < sizeof icw / sizeof icw[0]; i++)
        ops->pio_write(&fake, icw[i][0], 1, icw[i][1]);
    ops->pio_write(&fake, 0x2005, 1, 1);
    cr_expect_eq(take(cpu[0]), 0x25);
    ops->pio_write(&fake, 0x2005, 1, 0);
    ops->pio_write(&fake, 0x2018, 1, 1); /* no such line */
    cr_expect_eq(fake.unclaimed_writes, 1u);
    ops->pio_write(&fake, 0x80, 1, 0);
    cr_expect_eq(fake.unclaimed_writes, 1u, "the machine's own ports are behind it");
}
