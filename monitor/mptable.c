/* The MP table (Intel MultiProcessor Specification 1.4), for guests that look for CPUs and the
 * IOAPIC there: OSv without ACPI, older Unikraft. */
#include <string.h>
#include "monitor/boot.h"
#include "vcpu/irq.h"

/* From the EBDA's start to the end of conventional memory, where guests search, is 1 KiB; a table
 * of more CPUs than fit goes up here, past the ACPI tables. */
#define MP_LARGE     0xf0000u
#define MP_ROOM      (0xa0000u - BOOT_MPTABLE)
#define MP_MAX_CPUS  254u
#define BDA_EBDA_SEG 0x40eu
#define BDA_BASE_KB  0x413u

#define IOAPIC_ID 0u /* as after reset; the MADT says the same */

struct mp_float {
    char sig[4];
    uint32_t table;
    uint8_t paragraphs, spec, checksum, feature[5];
} __attribute__((packed));
struct mp_config {
    char sig[4];
    uint16_t length;
    uint8_t spec, checksum;
    char oem[8], product[12];
    uint32_t oem_table;
    uint16_t oem_size, count;
    uint32_t lapic;
    uint16_t ext_length;
    uint8_t ext_checksum, reserved;
} __attribute__((packed));
struct mp_cpu {
    uint8_t type, apic_id, apic_version, flags;
    uint32_t signature, features, reserved[2];
} __attribute__((packed));
struct mp_bus {
    uint8_t type, id;
    char name[6];
} __attribute__((packed));
struct mp_ioapic {
    uint8_t type, id, version, flags;
    uint32_t addr;
} __attribute__((packed));
struct mp_int { /* types 3 (I/O) and 4 (local) */
    uint8_t type, kind;
    uint16_t flags;
    uint8_t bus, irq, dest_apic, dest_pin;
} __attribute__((packed));

enum { MP_CPU, MP_BUS, MP_IOAPIC, MP_IOINT, MP_LINT };
enum { INT_INT = 0, INT_NMI = 1, INT_EXTINT = 3 };
#define CPU_ENABLED      1u
#define CPU_BOOT         2u
#define LEVEL_HIGH       0xdu
#define FIXED_ENTRIES    (1 + 1 + (IOAPIC_PINS - 1) + 2)
#define FIXED_BYTES      (sizeof(struct mp_config) + FIXED_ENTRIES * 8)
#define CPUID_1_EDX_BITS 0x201u /* FPU, APIC: all that a reader may want to see */

static uint8_t *append(uint8_t *at, const void *entry, size_t len)
{
    memcpy(at, entry, len);
    return at + len;
}

static uint8_t *put_cpus(uint8_t *at, unsigned ncpu)
{
    for (unsigned i = 0; i < ncpu; i++) {
        struct mp_cpu c = {
            .type = MP_CPU,
            .apic_id = (uint8_t)i,
            .apic_version = 0x14,
            .flags = (uint8_t)(CPU_ENABLED | (i ? 0 : CPU_BOOT)),
            .signature = 0x600,
            .features = CPUID_1_EDX_BITS,
        };
        at = append(at, &c, sizeof c);
    }
    return at;
}

/* ISA interrupts by number, the timer on pin 2, the SCI level; pins 16 and up belong to
 * virtio-mmio devices, which have no bus of their own here. */
static uint8_t *put_interrupts(uint8_t *at)
{
    for (unsigned irq = 0; irq < IOAPIC_PINS; irq++) {
        struct mp_int i = {
            .type = MP_IOINT,
            .kind = INT_INT,
            .flags = irq == 9 ? LEVEL_HIGH : 0,
            .irq = (uint8_t)irq,
            .dest_apic = IOAPIC_ID,
            .dest_pin = (uint8_t)(irq ? irq : 2),
        };
        if (irq != 2)
            at = append(at, &i, sizeof i);
    }
    at = append(at, &(struct mp_int){.type = MP_LINT, .kind = INT_EXTINT}, sizeof(struct mp_int));
    return append(
        at, &(struct mp_int){.type = MP_LINT, .kind = INT_NMI, .dest_apic = 0xff, .dest_pin = 1},
        sizeof(struct mp_int));
}

void mptable_build(struct ram *ram, unsigned ncpu)
{
    struct mp_float fp = {.sig = "_MP_", .paragraphs = 1, .spec = 4};
    struct mp_config head = {.sig = "PCMP", .spec = 4, .lapic = LAPIC_BASE};
    uint32_t table = BOOT_MPTABLE + sizeof fp;
    const uint16_t ebda = BOOT_EBDA >> 4, base_kb = BOOT_EBDA / 1024;
    uint32_t len;
    uint8_t *p, *at;

    if (ncpu > MP_MAX_CPUS)
        ncpu = MP_MAX_CPUS;
    len = (uint32_t)(FIXED_BYTES + ncpu * sizeof(struct mp_cpu));
    if (len > MP_ROOM - sizeof fp)
        table = MP_LARGE;
    p = ram_ptr(ram, table, len);
    if (!p || ram_write(ram, BDA_EBDA_SEG, &ebda, 2) || ram_write(ram, BDA_BASE_KB, &base_kb, 2))
        return;
    head.length = (uint16_t)len;
    head.count = (uint16_t)(FIXED_ENTRIES + ncpu);
    memcpy(head.oem, "MAYFLY  ", sizeof head.oem);
    memcpy(head.product, "MAYFLY      ", sizeof head.product);
    at = append(p, &head, sizeof head);
    at = put_cpus(at, ncpu);
    at = append(at, &(struct mp_bus){MP_BUS, 0, "ISA   "}, sizeof(struct mp_bus));
    at = append(at, &(struct mp_ioapic){MP_IOAPIC, IOAPIC_ID, 0x11, 1, IOAPIC_BASE},
                sizeof(struct mp_ioapic));
    at = put_interrupts(at);
    p[offsetof(struct mp_config, checksum)] = table_checksum(p, len);

    fp.table = table;
    fp.checksum = table_checksum(&fp, sizeof fp);
    ram_write(ram, BOOT_MPTABLE, &fp, sizeof fp);
}
