/* How guests are told of the virtio devices: in the DSDT, and on the command line. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "monitor/core.h"

static struct machine m;

static const char *with(unsigned ndev, const char *cmdline)
{
    static const char *last;

    if (last)
        free((void *)last);
    m.virtio.ndev = ndev;
    const char *s = devices_cmdline(&m, cmdline);

    last = s == cmdline ? NULL : s;
    return s;
}

#define A "virtio_mmio.device=4K@0xd0000000:5"
#define B "virtio_mmio.device=4K@0xd0001000:6"

Test(devices, command_line)
{
    cr_assert_str_eq(with(0, "a b -- c"), "a b -- c");
    cr_assert_str_eq(with(1, ""), " " A);
    cr_assert_str_eq(with(1, "a b"), "a b " A);
    cr_assert_str_eq(with(2, "a b"), "a b " A " " B);
    cr_assert_str_eq(with(2, "a -- b -- c"), "a " A " " B " -- b -- c");
    cr_assert_str_eq(with(1, "-- c"), " " A " -- c");
    cr_assert_str_eq(with(1, "a--b --c"), "a--b --c " A);
    const char *all = with(VIRTIO_SLOTS, "x");

    cr_assert(strstr(all, " virtio_mmio.device=4K@0xd0010000:23"));
    cr_assert(strstr(all, ":10 ") && !strstr(all, ":8 ") && !strstr(all, ":9 "));
    with(0, "");
}

/* Every LNRO0005 of the DSDT, with what follows it in its _CRS. */
static unsigned in_dsdt(unsigned nvirtio)
{
    struct ram ram;
    unsigned found = 0;

    cr_assert_eq(ram_create(&ram, 2 * MIB), 0);
    acpi_build(&ram, 1, nvirtio);
    const uint8_t *p = ram.base + BOOT_ACPI, *end = ram.base + 0xf0000;

    while ((p = memmem(p, (size_t)(end - p), "LNRO0005", 8))) {
        /* Memory32Fixed: tag 0x86, length 9, read-write, base, length; Extended Interrupt: tag
         * 0x89, length 6, consumer and edge, one, GSI (ACPI 6.4 6.4.3.4, 6.4.3.6). */
        static const uint8_t mem[] = {0x86, 9, 0, 1}, irq[] = {0x89, 6, 0, 3, 1};
        uint32_t base, len, gsi;

        p = memmem(p, (size_t)(end - p), mem, sizeof mem);
        cr_assert(p);
        memcpy(&base, p + 4, 4);
        memcpy(&len, p + 8, 4);
        cr_assert(!memcmp(p + 12, irq, sizeof irq));
        memcpy(&gsi, p + 17, 4);
        cr_assert_eq(base, virtio_slot_base(found));
        cr_assert_eq(len, 0x1000);
        cr_assert_eq(gsi, virtio_slot_gsi(found));
        found++;
    }
    ram_destroy(&ram);
    return found;
}

Test(devices, dsdt)
{
    cr_assert_eq(in_dsdt(0), 0);
    cr_assert_eq(in_dsdt(1), 1);
    cr_assert_eq(in_dsdt(VIRTIO_SLOTS), VIRTIO_SLOTS);
}

Test(devices, linux_by_its_bytes)
{
    static uint8_t elf[256];
    struct boot_image k = {"x", elf, sizeof elf};

    cr_assert(!boot_is_linux(&k));
    /* A 64-bit ELF with one PT_NOTE at 0x80, its name in it. */
    static const uint8_t head[] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
    static const uint16_t exec[] = {2, 62};
    uint64_t phoff = 64, at = 0x80, size = 20;
    uint32_t type = 4, one = 1, note[] = {6, 0, 1};

    memcpy(elf, head, sizeof head);
    memcpy(elf + 16, exec, 4);
    memcpy(elf + 20, &one, 4);
    memcpy(elf + 32, &phoff, 8);
    elf[52] = 64, elf[54] = 56, elf[56] = 1;
    memcpy(elf + 64, &type, 4);
    memcpy(elf + 72, &at, 8);
    memcpy(elf + 96, &size, 8);
    memcpy(elf + 104, &size, 8);
    memcpy(elf + at, note, 12);
    memcpy(elf + at + 12, "Linux", 6);
    cr_assert(boot_is_linux(&k));
    memcpy(elf + at + 12, "Nanos", 6);
    cr_assert(!boot_is_linux(&k));
}
