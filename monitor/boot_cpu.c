/*
 * The two states a boot protocol may start a CPU in. The selectors in 64-bit mode are Linux's
 * (boot.rst: __BOOT_CS 0x10, __BOOT_DS 0x18). The 32-bit protocols leave them open; GRUB, QEMU and
 * Firecracker have code at 0x08 and data at 0x10, and xv6 goes on with these values after it has
 * loaded a GDT of its own.
 */
#include <string.h>
#include "monitor/loader.h"

#define SEL_CODE32  0x08u
#define SEL_BOOT_CS 0x10u
#define SEL_DATA32  0x10u
#define SEL_BOOT_DS 0x18u
#define SEL_TSS     0x20u

#define ATTR_CODE32 (0xbu | SEG_S | SEG_P | SEG_DB | SEG_G)
#define ATTR_CODE64 (0xbu | SEG_S | SEG_P | SEG_L | SEG_G)
#define ATTR_DATA   (0x3u | SEG_S | SEG_P | SEG_DB | SEG_G)
#define ATTR_TSS    (0xbu | SEG_P) /* busy, as VM entry wants it (SDM 3C 27.3.1.2) */
#define ATTR_LDT    (0x2u | SEG_P | SEG_NULL)

#define PTE_P  0x1u
#define PTE_W  0x2u
#define PTE_AD 0x60u /* accessed and dirty already: nobody need note it */
#define PTE_PS 0x80u

#define MTRR_DEF_ENABLE  0x800u
#define MTRR_DEF_WB      0x6u
#define MISC_FAST_STRING 0x1u

/* A descriptor with base 0 (SDM 3A 3.4.5): attr's two halves go to bits 40-47 and 52-55. */
static uint64_t descriptor(uint32_t attr, uint32_t limit20)
{
    uint64_t d = limit20 & 0xffffu;

    d |= (uint64_t)(attr & 0xffu) << 40;
    d |= (uint64_t)((limit20 >> 16) & 0xfu) << 48;
    d |= (uint64_t)((attr >> 12) & 0xfu) << 52;
    return d;
}

/* boot: attributes of the descriptor at __BOOT_CS */
static void put_gdt(struct ram *ram, struct cpu *cpu, uint64_t gpa, uint32_t boot)
{
    const uint64_t gdt[BOOT_GDT_BYTES / 8] = {
        [SEL_CODE32 / 8] = descriptor(ATTR_CODE32, 0xfffff),
        [SEL_BOOT_CS / 8] = descriptor(boot, 0xfffff),
        [SEL_BOOT_DS / 8] = descriptor(ATTR_DATA, 0xfffff),
        [SEL_TSS / 8] = descriptor(ATTR_TSS, 0x67),
    };
    void *p = ram_ptr(ram, gpa, sizeof gdt);

    if (p)
        memcpy(p, gdt, sizeof gdt);
    cpu->gdtr = (struct dtr){.base = gpa, .limit = sizeof gdt - 1};
}

static void put_page_tables(struct ram *ram, uint64_t bytes)
{
    uint64_t pages = (bytes + 2 * MIB - 1) / (2 * MIB);
    uint64_t dirs = (pages + 511) / 512;
    uint64_t *table = ram_ptr(ram, BOOT_PML4, (2 + dirs) * PAGE_SIZE);

    if (!table || dirs > 4)
        return;
    table[0] = (BOOT_PML4 + PAGE_SIZE) | PTE_P | PTE_W | PTE_AD;
    for (uint64_t i = 0; i < dirs; i++)
        table[512 + i] = (BOOT_PML4 + (2 + i) * PAGE_SIZE) | PTE_P | PTE_W | PTE_AD;
    for (uint64_t i = 0; i < pages; i++)
        table[1024 + i] = (i * 2 * MIB) | PTE_P | PTE_W | PTE_AD | PTE_PS;
}

static void put_segments(struct cpu *cpu, uint16_t cs, uint32_t cs_attr, uint16_t ds)
{
    for (unsigned i = 0; i < NSEG; i++)
        cpu->seg[i] = (struct seg){.limit = 0xffffffff, .attr = ATTR_DATA, .sel = ds};
    cpu->seg[SEG_CS] = (struct seg){.limit = 0xffffffff, .attr = cs_attr, .sel = cs};
    cpu->tr = (struct seg){.limit = 0x67, .attr = ATTR_TSS, .sel = SEL_TSS};
    cpu->ldtr = (struct seg){.attr = ATTR_LDT};
    cpu->idtr = (struct dtr){0};
}

/* What firmware does before it hands over: memory write-back, fast strings on (Linux drops ERMS
 * without the bit). */
static void firmware_msrs(struct cpu *cpu)
{
    cpu->mtrr_def_type = MTRR_DEF_ENABLE | MTRR_DEF_WB;
    cpu->misc_enable |= MISC_FAST_STRING;
}

static void start(struct cpu *cpu, uint64_t rip)
{
    cpu_reset(cpu);
    memset(cpu->gpr, 0, sizeof cpu->gpr);
    cpu->rip = rip;
    cpu->rflags = FL_R1;
    cpu->cpl = 0;
    cpu->halted = false;
    cpu->wait_for_sipi = false;
    firmware_msrs(cpu);
}

void boot_cpu_long_sized(struct ram *ram, struct cpu *cpu, uint64_t rip, uint64_t bytes,
                         uint64_t gdt)
{
    start(cpu, rip);
    put_gdt(ram, cpu, gdt, ATTR_CODE64);
    put_page_tables(ram, bytes);
    put_segments(cpu, SEL_BOOT_CS, ATTR_CODE64, SEL_BOOT_DS);
    cpu->gpr[RSP] = BOOT_STACK;
    cpu->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_PG;
    cpu->cr3 = BOOT_PML4;
    cpu->cr4 = CR4_PAE;
    cpu->efer = EFER_LME | EFER_LMA;
}

/* The kernel and what is in low memory must be mapped (boot.rst, 64-bit boot protocol). No more
 * than the 1 GiB that Firecracker maps: a guest that goes on with these tables (Nanos) clears that
 * much of them, and takes the addresses above for free. */
void boot_cpu_long(struct ram *ram, struct cpu *cpu, uint64_t rip, uint64_t kernel_end)
{
    uint64_t bytes = (kernel_end + GIB - 1) / GIB * GIB;

    boot_cpu_long_sized(ram, cpu, rip, bytes < GIB ? GIB : bytes, BOOT_GDT_GPA);
}

static void flat32(struct ram *ram, struct cpu *cpu, uint32_t rip, uint16_t cs, uint16_t ds,
                   uint32_t boot)
{
    start(cpu, rip);
    put_gdt(ram, cpu, BOOT_GDT_GPA, boot);
    put_segments(cpu, cs, ATTR_CODE32, ds);
    cpu->gpr[RSP] = BOOT_STACK; /* left open by the protocols; Nanos calls before it sets its own */
    cpu->cr0 = CR0_PE | CR0_ET;
    cpu->cr3 = 0;
    cpu->cr4 = 0;
    cpu->efer = 0;
}

void boot_cpu_flat32(struct ram *ram, struct cpu *cpu, uint32_t rip)
{
    flat32(ram, cpu, rip, SEL_CODE32, SEL_DATA32, ATTR_DATA);
}

/* boot.rst, 32-bit boot protocol: CS is __BOOT_CS, and the kernel may load it again. */
void boot_cpu_linux32(struct ram *ram, struct cpu *cpu, uint32_t rip)
{
    flat32(ram, cpu, rip, SEL_BOOT_CS, SEL_BOOT_DS, ATTR_CODE32);
}
