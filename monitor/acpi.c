/*
 * ACPI tables (ACPI 6.4 chapter 5): RSDP, RSDT and XSDT, FADT, FACS, MADT, DSDT. Static: no AML
 * method, no SMI, the machine is in ACPI mode from the start. All of it lies in the reserved memory
 * from BOOT_ACPI to 0xf0000.
 */
#include <string.h>
#include "monitor/aml.h"
#include "monitor/boot.h"
#include "monitor/ports.h"
#include "vcpu/irq.h"
#include "virtio/virtio.h"

#define ACPI_END   0xf0000u
#define ACPI_ALIGN 64u /* the FACS wants it (5.2.10) */
/* What the area can describe: 16 bytes each at most, with room for the other tables. */
#define ACPI_MAX_CPUS 2048u

#define SCI_IRQ        9u
#define XAPIC_IDS      255u /* 0-254: 255 is the broadcast */
#define CPU_ENABLED    1u
#define PCAT_COMPAT    1u
#define LEVEL_HIGH     0xdu
#define GAS_IO         1u
#define LATENCY_NO_C2  101u
#define LATENCY_NO_C3  1001u
#define PROFILE_SERVER 4u

/* FADT flags, table 5.10 */
#define FADT_WBINVD        (1u << 0)
#define FADT_PROC_C1       (1u << 2)
#define FADT_NO_PWR_BUTTON (1u << 4)
#define FADT_NO_SLP_BUTTON (1u << 5)
#define FADT_NO_FIX_RTC    (1u << 6)
#define FADT_TMR_32        (1u << 8)
#define FADT_RESET_REG     (1u << 10)
/* IAPC_BOOT_ARCH, table 5.11. Not set: the 8042, so that Linux does not probe for a keyboard; it
 * resets through RESET_REG, or port 0x64 all the same. */
#define ARCH_LEGACY  (1u << 0)
#define ARCH_NO_VGA  (1u << 2)
#define ARCH_NO_ASPM (1u << 4)

struct acpi_header {
    char sig[4];
    uint32_t length;
    uint8_t revision, checksum;
    char oem[6], oem_table[8];
    uint32_t oem_revision;
    char creator[4];
    uint32_t creator_revision;
} __attribute__((packed));
struct acpi_gas {
    uint8_t space, width, offset, access;
    uint64_t addr;
} __attribute__((packed));
struct acpi_rsdp {
    char sig[8];
    uint8_t checksum;
    char oem[6];
    uint8_t revision;
    uint32_t rsdt, length;
    uint64_t xsdt;
    uint8_t checksum_all, reserved[3];
} __attribute__((packed));
struct acpi_facs {
    char sig[4];
    uint32_t length, hardware, waking, global_lock, flags;
    uint64_t x_waking;
    uint8_t version, reserved[31];
} __attribute__((packed));
struct acpi_fadt {
    struct acpi_header h;
    uint32_t facs, dsdt;
    uint8_t reserved0, profile;
    uint16_t sci;
    uint32_t smi_cmd;
    uint8_t acpi_enable, acpi_disable, s4bios, pstate;
    uint32_t pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr, gpe0, gpe1;
    uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_len, gpe1_len, gpe1_base, cst;
    uint16_t c2_latency, c3_latency, flush_size, flush_stride;
    uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
    uint16_t boot_arch;
    uint8_t reserved1;
    uint32_t flags;
    struct acpi_gas reset;
    uint8_t reset_value;
    uint16_t arm_arch;
    uint8_t minor;
    uint64_t x_facs, x_dsdt;
    struct acpi_gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr, x_gpe0,
        x_gpe1, sleep_control, sleep_status;
    uint64_t hypervisor;
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_fadt) == 276, "ACPI 6.4 table 5.9");
_Static_assert(sizeof(struct acpi_facs) == 64, "ACPI 6.4 table 5.14");

struct madt_lapic {
    uint8_t type, len, uid, apic_id;
    uint32_t flags;
} __attribute__((packed));
struct madt_ioapic {
    uint8_t type, len, id, reserved;
    uint32_t addr, gsi_base;
} __attribute__((packed));
struct madt_override {
    uint8_t type, len, bus, source;
    uint32_t gsi;
    uint16_t flags;
} __attribute__((packed));
struct madt_nmi {
    uint8_t type, len, uid;
    uint16_t flags;
    uint8_t lint;
} __attribute__((packed));
struct madt_x2apic {
    uint8_t type, len;
    uint16_t reserved;
    uint32_t apic_id, flags, uid;
} __attribute__((packed));
struct madt_x2nmi {
    uint8_t type, len;
    uint16_t flags;
    uint32_t uid;
    uint8_t lint, reserved[3];
} __attribute__((packed));

/* The area, filled upwards. */
struct area {
    uint8_t *base; /* hva of BOOT_ACPI */
    uint32_t used, size;
};

static void put(struct area *a, const void *src, size_t len)
{
    if (len > a->size - a->used)
        return;
    memcpy(a->base + a->used, src, len);
    a->used += (uint32_t)len;
}

/* Begin a table at the next aligned place: its offset. The header is completed by end_table(). */
static uint32_t begin_table(struct area *a, const char *sig, uint8_t revision)
{
    struct acpi_header h = {.revision = revision, .oem_revision = 1, .creator_revision = 1};
    uint32_t at;

    a->used = (a->used + ACPI_ALIGN - 1) & ~(ACPI_ALIGN - 1);
    at = a->used;
    memcpy(h.sig, sig, 4);
    memcpy(h.oem, "MAYFLY", 6);
    memcpy(h.oem_table, "MAYFLY  ", 8);
    memcpy(h.creator, "MFLY", 4);
    put(a, &h, sizeof h);
    return at;
}

static uint64_t end_table(struct area *a, uint32_t at)
{
    uint32_t length = a->used - at;
    uint8_t *p = a->base + at;

    memcpy(p + offsetof(struct acpi_header, length), &length, sizeof length);
    p[offsetof(struct acpi_header, checksum)] = table_checksum(p, length);
    return BOOT_ACPI + at;
}

static uint64_t put_facs(struct area *a)
{
    struct acpi_facs facs = {.sig = "FACS", .length = sizeof facs, .version = 2};
    uint64_t gpa;

    a->used = (a->used + ACPI_ALIGN - 1) & ~(ACPI_ALIGN - 1);
    gpa = BOOT_ACPI + a->used;
    put(a, &facs, sizeof facs);
    return gpa;
}

/* "virtio-mmio" is LNRO0005; _CCA: its DMA is coherent. */
static void put_virtio(struct aml *aml, unsigned slot)
{
    char name[] = {'V', 'R', (char)('0' + slot / 10), (char)('0' + slot % 10), 0};

    aml_device(aml, name);
    aml_name_string(aml, "_HID", "LNRO0005");
    aml_name_int(aml, "_UID", slot);
    aml_name_int(aml, "_CCA", 1);
    aml_crs(aml);
    aml_res_memory32(aml, (uint32_t)virtio_slot_base(slot), VIRTIO_SLOT_SIZE);
    aml_res_interrupt(aml, virtio_slot_gsi(slot));
    aml_crs_end(aml);
    aml_end(aml);
}

static uint64_t put_dsdt(struct area *a, unsigned nvirtio)
{
    uint32_t at = begin_table(a, "DSDT", 2);
    struct aml aml;

    aml_init(&aml, a->base + a->used, a->size - a->used);
    aml_name(&aml, "\\_S5");
    aml_package(&aml, 4);
    for (unsigned i = 0; i < 4; i++)
        aml_int(&aml, i < 2 ? ACPI_S5_TYPE : 0);
    aml_end(&aml);
    aml_scope(&aml, "\\_SB");
    aml_device(&aml, "COM1");
    aml_name_eisa(&aml, "_HID", "PNP0501"); /* 16550A-compatible serial port */
    aml_name_int(&aml, "_UID", 0);
    aml_name_int(&aml, "_STA", 0xf);
    aml_crs(&aml);
    aml_res_io(&aml, 0x3f8, 8);
    aml_res_irq(&aml, 4);
    aml_crs_end(&aml);
    aml_end(&aml);
    for (unsigned i = 0; i < nvirtio; i++)
        put_virtio(&aml, i);
    aml_end(&aml);
    a->used += aml.len;
    return end_table(a, at);
}

static struct acpi_gas gas_io(uint16_t port, uint8_t bytes)
{
    return (struct acpi_gas){
        .space = GAS_IO,
        .width = (uint8_t)(bytes * 8),
        .access = (uint8_t)(bytes == 4 ? 3 : bytes), /* 1 byte, 2 word, 3 dword */
        .addr = port,
    };
}

static uint64_t put_fadt(struct area *a, uint64_t facs, uint64_t dsdt)
{
    uint32_t at = begin_table(a, "FACP", 6);
    struct acpi_fadt f = {
        .facs = (uint32_t)facs,
        .dsdt = (uint32_t)dsdt,
        .profile = PROFILE_SERVER,
        .sci = SCI_IRQ,
        .pm1a_evt = ACPI_PM1_EVT,
        .pm1a_cnt = ACPI_PM1_CNT,
        .pm_tmr = ACPI_PM_TMR,
        .pm1_evt_len = 4,
        .pm1_cnt_len = 2,
        .pm_tmr_len = 4,
        .c2_latency = LATENCY_NO_C2,
        .c3_latency = LATENCY_NO_C3,
        .century = 0x32, /* the RTC's register, where PCs have it */
        .boot_arch = ARCH_LEGACY | ARCH_NO_VGA | ARCH_NO_ASPM,
        .flags = FADT_WBINVD | FADT_PROC_C1 | FADT_NO_PWR_BUTTON | FADT_NO_SLP_BUTTON |
                 FADT_NO_FIX_RTC | FADT_TMR_32 | FADT_RESET_REG,
        .reset = gas_io(PORT_RESET, 1),
        .reset_value = 0x06,
        .minor = 4,
        .x_dsdt = dsdt,
        .x_pm1a_evt = gas_io(ACPI_PM1_EVT, 4),
        .x_pm1a_cnt = gas_io(ACPI_PM1_CNT, 2),
        .x_pm_tmr = gas_io(ACPI_PM_TMR, 4),
    };

    memcpy(&f.hypervisor, "MAYFLY\0\0", 8);
    put(a, &f.facs, sizeof f - offsetof(struct acpi_fadt, facs));
    return end_table(a, at);
}

static void put_madt_cpu(struct area *a, uint32_t id)
{
    if (id < XAPIC_IDS)
        put(a, &(struct madt_lapic){0, 8, (uint8_t)id, (uint8_t)id, CPU_ENABLED}, 8);
    else
        put(a, &(struct madt_x2apic){9, 16, 0, id, CPU_ENABLED, id}, 16);
}

static uint64_t put_madt(struct area *a, unsigned ncpu)
{
    const uint32_t head[2] = {LAPIC_BASE, PCAT_COMPAT};
    uint32_t at = begin_table(a, "APIC", 5);

    put(a, head, sizeof head);
    for (uint32_t i = 0; i < ncpu; i++)
        put_madt_cpu(a, i);
    put(a, &(struct madt_ioapic){1, 12, 0, 0, IOAPIC_BASE, 0}, 12);
    put(a, &(struct madt_override){2, 10, 0, 0, 2, 0}, 10);
    put(a, &(struct madt_override){2, 10, 0, SCI_IRQ, SCI_IRQ, LEVEL_HIGH}, 10);
    put(a, &(struct madt_nmi){4, 6, 0xff, 0, 1}, 6);
    if (ncpu > XAPIC_IDS)
        put(a, &(struct madt_x2nmi){10, 12, 0, 0xffffffff, 1, {0}}, 12);
    return end_table(a, at);
}

/* The list of the others, with pointers of 4 (RSDT) or 8 bytes (XSDT). */
static uint64_t put_root(struct area *a, const char *sig, size_t width, const uint64_t *table,
                         unsigned n)
{
    uint32_t at = begin_table(a, sig, 1);

    for (unsigned i = 0; i < n; i++)
        put(a, &table[i], width);
    return end_table(a, at);
}

void acpi_build(struct ram *ram, unsigned ncpu, unsigned nvirtio)
{
    struct area a = {.size = ACPI_END - BOOT_ACPI, .used = sizeof(struct acpi_rsdp)};
    struct acpi_rsdp rsdp = {.revision = 2, .length = sizeof rsdp};
    uint64_t facs, dsdt, table[2];

    a.base = ram_ptr(ram, BOOT_ACPI, a.size);
    if (!a.base)
        return;
    if (ncpu > ACPI_MAX_CPUS)
        ncpu = ACPI_MAX_CPUS;
    facs = put_facs(&a);
    dsdt = put_dsdt(&a, nvirtio);
    table[0] = put_fadt(&a, facs, dsdt);
    table[1] = put_madt(&a, ncpu);
    rsdp.rsdt = (uint32_t)put_root(&a, "RSDT", 4, table, 2);
    rsdp.xsdt = put_root(&a, "XSDT", 8, table, 2);
    memcpy(rsdp.sig, "RSD PTR ", 8);
    memcpy(rsdp.oem, "MAYFLY", 6);
    rsdp.checksum = table_checksum(&rsdp, 20);
    rsdp.checksum_all = table_checksum(&rsdp, sizeof rsdp);
    memcpy(a.base, &rsdp, sizeof rsdp);
}
