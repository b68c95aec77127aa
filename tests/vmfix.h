/*
 * A machine of one CPU for unit tests: RAM, a GDT, an IDT, a TSS, identity page tables, and the CPU
 * in the mode asked for at CPL 0. Everything static: include it, add to it, break nothing.
 */
#ifndef TESTS_VMFIX_H
#define TESTS_VMFIX_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "paging/ram.h"
#include "vcpu/except.h"
#include "vcpu/mem.h"

enum vmfix_mode {
    VMFIX_REAL,
    VMFIX_PROT32, /* flat 32-bit, paging off */
    VMFIX_PAGE32, /* flat 32-bit, 4 MiB pages */
    VMFIX_COMPAT, /* long mode, 32-bit code */
    VMFIX_LONG
};

/* Where things lie. */
enum {
    VMF_GDT = 0x1000,
    VMF_IDT = 0x2000, /* 4 KiB: 256 long-mode gates */
    VMF_TSS = 0x3000,
    VMF_TSS2 = 0x3400,
    VMF_LDT = 0x3800,
    VMF_PML4 = 0x4000, /* PML4, PDPT, PD: 1 GiB in 2 MiB pages, user and writable */
    VMF_PD32 = 0x7000, /* 32-bit page directory */
    VMF_CODE = 0x10000,
    VMF_STACK = 0x20000,  /* top of the CPL 0 stack */
    VMF_USTACK = 0x30000, /* of the CPL 3 stack */
    VMF_RSP0 = 0x28000,   /* in the TSS */
    VMF_IST1 = 0x2c000,
    VMF_DATA = 0x40000,
    VMF_RAM = 0x400000
};

/* Selectors. */
enum {
    VMS_CODE64 = 0x08,
    VMS_DATA = 0x10,
    VMS_CODE32 = 0x18,
    VMS_CODE16 = 0x20,
    VMS_UCODE32 = 0x2b,
    VMS_UDATA = 0x33,
    VMS_UCODE64 = 0x3b,
    VMS_DATA16 = 0x40,
    VMS_CONF32 = 0x48, /* conforming, DPL 0 */
    VMS_TSS = 0x50,
    VMS_LDT = 0x60,
    VMS_CODE1 = 0x71, /* DPL 1, 32-bit */
    VMS_DATA1 = 0x79,
    VMS_NP_CODE = 0x80, /* not present, 32-bit or 64-bit code */
    VMS_TSS2 = 0x88,    /* legacy modes */
    VMS_ROVER = 0x98,   /* free for a test: 16 bytes */
    VMS_LAST = 0xaf     /* GDT limit */
};

struct vmfix {
    struct ram ram;
    struct vm_cpus vm;
    struct cpuid_table cpuid;
    struct vcpu *v, *list[1];
};

static inline uint64_t vmf_mmio_read(void *m, gpa_t gpa, unsigned size)
{
    (void)m, (void)gpa, (void)size;
    return ~(uint64_t)0;
}

static inline void vmf_mmio_write(void *m, gpa_t gpa, unsigned size, uint64_t val)
{
    (void)m, (void)gpa, (void)size, (void)val;
}

static inline uint64_t vmf_pio_read(void *m, uint16_t port, unsigned size)
{
    (void)m, (void)port, (void)size;
    return ~(uint64_t)0;
}

static inline void vmf_pio_write(void *m, uint16_t port, unsigned size, uint64_t val)
{
    (void)m, (void)port, (void)size, (void)val;
}

static inline void vmf_arm_timer(void *m, unsigned index, uint64_t tsc)
{
    (void)m, (void)index, (void)tsc;
}

static const struct machine_ops vmf_ops = {.pio_read = vmf_pio_read,
                                           .pio_write = vmf_pio_write,
                                           .mmio_read = vmf_mmio_read,
                                           .mmio_write = vmf_mmio_write,
                                           .arm_timer = vmf_arm_timer};

static inline void vmf_poke(struct vmfix *f, gpa_t gpa, const void *src, size_t n)
{
    if (ram_write(&f->ram, gpa, src, n))
        abort();
}

static inline void vmf_poke64(struct vmfix *f, gpa_t gpa, uint64_t val)
{
    vmf_poke(f, gpa, &val, 8);
}

static inline void vmf_poke32(struct vmfix *f, gpa_t gpa, uint32_t val)
{
    vmf_poke(f, gpa, &val, 4);
}

static inline void vmf_poke16(struct vmfix *f, gpa_t gpa, uint16_t val)
{
    vmf_poke(f, gpa, &val, 2);
}

static inline uint64_t vmf_peek(const struct vmfix *f, gpa_t gpa, unsigned size)
{
    uint64_t val = 0;

    if (ram_read(&f->ram, gpa, &val, size))
        abort();
    return val;
}

static inline uint64_t vmf_desc(uint32_t base, uint32_t limit, uint32_t attr)
{
    if (attr & SEG_G)
        limit >>= 12;
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xf0ff) << 40 |
           (uint64_t)(limit & 0xf0000) << 32 | (uint64_t)(base >> 24) << 56;
}

static inline void vmf_gdt(struct vmfix *f, uint16_t sel, uint64_t desc)
{
    vmf_poke64(f, VMF_GDT + (sel & ~7u), desc);
}

/* A gate: type with its DPL and P bits (0x8e: present interrupt gate, DPL 0). */
static inline void vmf_gate64(struct vmfix *f, unsigned vec, uint8_t access, uint16_t sel,
                              uint64_t off, unsigned ist)
{
    vmf_poke64(f, VMF_IDT + vec * 16,
               (off & 0xffff) | (uint64_t)sel << 16 | (uint64_t)ist << 32 | (uint64_t)access << 40 |
                   (off & 0xffff0000) << 32);
    vmf_poke64(f, VMF_IDT + vec * 16 + 8, off >> 32);
}

static inline uint64_t vmf_gate_desc(uint8_t access, uint16_t sel, uint32_t off, unsigned params)
{
    return (off & 0xffff) | (uint64_t)sel << 16 | (uint64_t)params << 32 | (uint64_t)access << 40 |
           (uint64_t)(off & 0xffff0000) << 32;
}

static inline void vmf_gate32(struct vmfix *f, unsigned vec, uint8_t access, uint16_t sel,
                              uint32_t off)
{
    vmf_poke64(f, VMF_IDT + vec * 8, vmf_gate_desc(access, sel, off, 0));
}

static inline void vmf_tables(struct vmfix *f, enum vmfix_mode mode)
{
    bool lng = mode >= VMFIX_COMPAT;

    vmf_gdt(f, VMS_CODE64, vmf_desc(0, 0xffffffff, 0xa09b));
    vmf_gdt(f, VMS_DATA, vmf_desc(0, 0xffffffff, 0xc093));
    vmf_gdt(f, VMS_CODE32, vmf_desc(0, 0xffffffff, 0xc09b));
    vmf_gdt(f, VMS_CODE16, vmf_desc(0, 0xffff, 0x009b));
    vmf_gdt(f, VMS_UCODE32, vmf_desc(0, 0xffffffff, 0xc0fb));
    vmf_gdt(f, VMS_UDATA, vmf_desc(0, 0xffffffff, 0xc0f3));
    vmf_gdt(f, VMS_UCODE64, vmf_desc(0, 0xffffffff, 0xa0fb));
    vmf_gdt(f, VMS_DATA16, vmf_desc(0, 0xffff, 0x0093));
    vmf_gdt(f, VMS_CONF32, vmf_desc(0, 0xffffffff, 0xc09f));
    vmf_gdt(f, VMS_TSS, vmf_desc(VMF_TSS, 0x67, 0x0089));
    vmf_gdt(f, VMS_LDT, vmf_desc(VMF_LDT, 0x3f, 0x0082));
    vmf_gdt(f, VMS_CODE1, vmf_desc(0, 0xffffffff, lng ? 0xa0bb : 0xc0bb));
    vmf_gdt(f, VMS_DATA1, vmf_desc(0, 0xffffffff, 0xc0b3));
    vmf_gdt(f, VMS_NP_CODE, vmf_desc(0, 0xffffffff, lng ? 0xa01b : 0xc01b));
    if (!lng)
        vmf_gdt(f, VMS_TSS2, vmf_desc(VMF_TSS2, 0x67, 0x0089));

    if (lng) {
        vmf_poke64(f, VMF_TSS + 4, VMF_RSP0);
        vmf_poke64(f, VMF_TSS + 12, VMF_RSP0 + 0x1000);
        vmf_poke64(f, VMF_TSS + 36, VMF_IST1);
    } else {
        vmf_poke32(f, VMF_TSS + 4, VMF_RSP0);
        vmf_poke32(f, VMF_TSS + 8, VMS_DATA);
        vmf_poke32(f, VMF_TSS + 12, VMF_RSP0 + 0x1000);
        vmf_poke32(f, VMF_TSS + 16, VMS_DATA1);
    }

    vmf_poke64(f, VMF_PML4, (VMF_PML4 + 0x1000) | 7);
    vmf_poke64(f, VMF_PML4 + 0x1000, (VMF_PML4 + 0x2000) | 7);
    for (uint64_t i = 0; i < 512; i++)
        vmf_poke64(f, VMF_PML4 + 0x2000 + i * 8, i << 21 | 0xe7);
    for (uint32_t i = 0; i < 1024; i++)
        vmf_poke32(f, VMF_PD32 + i * 4, i << 22 | 0xe7);
}

static inline void vmf_set_seg(struct vmfix *f, unsigned seg, uint16_t sel)
{
    seg_from_descriptor(&f->v->cpu.seg[seg], sel, vmf_peek(f, VMF_GDT + (sel & ~7u), 8));
}

/* Put the CPU at CPL 3 (protected and long mode) with the user's segments and stack. */
static inline void vmf_user(struct vmfix *f)
{
    struct cpu *c = &f->v->cpu;

    vmf_set_seg(f, SEG_CS, cpu_code64(c) ? VMS_UCODE64 : VMS_UCODE32);
    vmf_set_seg(f, SEG_SS, VMS_UDATA);
    vmf_set_seg(f, SEG_DS, VMS_UDATA);
    vmf_set_seg(f, SEG_ES, VMS_UDATA);
    c->gpr[RSP] = VMF_USTACK;
    c->cpl = 3;
}

static inline void vmf_mode(struct vmfix *f, enum vmfix_mode mode)
{
    struct cpu *c = &f->v->cpu;

    c->rip = VMF_CODE;
    c->gpr[RSP] = VMF_STACK;
    c->gdtr = (struct dtr){VMF_GDT, VMS_LAST};
    c->idtr = (struct dtr){VMF_IDT, 0xfff};
    c->cr0 = CR0_ET | CR0_NE;
    c->tr = (struct seg){.sel = VMS_TSS, .base = VMF_TSS, .limit = 0x67, .attr = 0x8b};
    seg_load_real(c, SEG_CS, 0);
    c->seg[SEG_CS].base = 0;
    if (mode == VMFIX_REAL) {
        c->idtr = (struct dtr){0, 0x3ff};
        c->rip = 0x8000;
        c->gpr[RSP] = 0xf000;
        return;
    }
    c->cr0 |= CR0_PE | CR0_WP;
    for (unsigned i = 0; i < NSEG; i++)
        vmf_set_seg(f, i, i == SEG_CS ? mode == VMFIX_LONG ? VMS_CODE64 : VMS_CODE32 : VMS_DATA);
    if (mode == VMFIX_PAGE32) {
        c->cr3 = VMF_PD32;
        c->cr4 = CR4_PSE;
        c->cr0 |= CR0_PG;
    } else if (mode >= VMFIX_COMPAT) {
        c->cr3 = VMF_PML4;
        c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
        c->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
        c->cr0 |= CR0_PG;
    }
}

static inline void vmf_create(struct vmfix *f, enum vmfix_mode mode)
{
    memset(f, 0, sizeof(*f));
    if (ram_create(&f->ram, VMF_RAM))
        abort();
    /* Low, as the monitor has it. */
    f->v = mmap((void *)(uintptr_t)0x08000000, sizeof(*f->v), PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (f->v == MAP_FAILED)
        abort();
    f->list[0] = f->v;
    f->vm = (struct vm_cpus){.ram = &f->ram,
                             .ops = &vmf_ops,
                             .vcpu = f->list,
                             .nvcpu = 1,
                             .tsc_hz = 2600000000u,
                             .maxphyaddr = 46,
                             .kvm_fd = -1};
    irqchip_init(&f->vm.irqchip, &f->vm);
    cpuid_build(&f->cpuid, &f->vm);
    f->vm.cpuid = &f->cpuid;
    f->v->vm = &f->vm;
    atomic_store(&f->v->poll_ptr, &f->v->poll_word);
    tlb_init(&f->v->tlb);
    cpu_reset(&f->v->cpu);
    lapic_reset(f->v);
    vmf_tables(f, mode);
    vmf_mode(f, mode);
}

static inline void vmf_destroy(struct vmfix *f)
{
    munmap(f->v, sizeof(*f->v));
    ram_destroy(&f->ram);
}

#endif
