/* What the CPU is like after a boot protocol, for the tests of the loaders. */
#ifndef TESTS_BOOT_CHECK_H
#define TESTS_BOOT_CHECK_H

#include <criterion/criterion.h>
#include "tests/boot_run.h"

/* Walk the tables as a CPU would: the physical address of lin, or UINT64_MAX. */
static inline uint64_t translate(const struct run *r, uint64_t lin)
{
    uint64_t table = r->cpu.cr3;

    for (int shift = 39; shift >= 21; shift -= 9) {
        uint64_t e = AT(r, uint64_t, table)[(lin >> shift) & 511];

        if (!(e & 1) || !(e & 2))
            return UINT64_MAX;
        if (shift == 21)
            return e & 0x80 ? (e & 0xfffffffe00000) + (lin & 0x1fffff) : UINT64_MAX;
        table = e & 0xffffffffff000;
    }
    return UINT64_MAX;
}

/* The hidden part of s is what its descriptor in the GDT says. */
static inline void check_seg(const struct run *r, const struct seg *s)
{
    uint64_t d = AT(r, uint64_t, r->cpu.gdtr.base)[s->sel / 8];
    uint32_t limit = (uint32_t)((d & 0xffff) | (d >> 32 & 0xf0000));
    uint32_t attr = (uint32_t)((d >> 40 & 0xff) | (d >> 40 & 0xf000));

    cr_assert(s->sel && s->sel + 7u <= r->cpu.gdtr.limit);
    cr_assert_eq(attr, s->attr, "selector 0x%x: 0x%x, GDT has 0x%x", s->sel, s->attr, attr);
    cr_assert_eq(s->limit, attr & SEG_G ? limit << 12 | 0xfff : limit);
    cr_assert_eq(s->base, 0);
}

static inline void check_segs(const struct run *r)
{
    for (unsigned i = 0; i < NSEG; i++)
        check_seg(r, &r->cpu.seg[i]);
    check_seg(r, &r->cpu.tr);
    cr_assert(!(r->cpu.tr.attr & SEG_NULL));
}

static inline void check_long(const struct run *r, uint64_t rip)
{
    cr_assert_eq(r->cpu.rip, rip, "rip 0x%llx", (unsigned long long)r->cpu.rip);
    cr_assert_eq(r->cpu.rflags, FL_R1);
    cr_assert_eq(r->cpu.cr0 & (CR0_PE | CR0_PG | CR0_CD | CR0_NW), CR0_PE | CR0_PG);
    cr_assert(r->cpu.cr4 & CR4_PAE);
    cr_assert_eq(r->cpu.efer, EFER_LME | EFER_LMA);
    cr_assert(cpu_code64(&r->cpu));
    cr_assert_eq(r->cpu.cpl, 0);
    cr_assert_eq(r->cpu.gpr[RSP], 0x8ff0);
    cr_assert(r->cpu.mtrr_def_type & 0x800, "memory is not write-back: MTRRs are off");
    check_segs(r);
}

static inline void check_flat32_in(const struct run *r, uint64_t rip, uint16_t cs, uint16_t ds)
{
    cr_assert_eq(r->cpu.rip, rip, "rip 0x%llx", (unsigned long long)r->cpu.rip);
    cr_assert_eq(r->cpu.rflags, FL_R1);
    cr_assert_eq(r->cpu.cr0, CR0_PE | CR0_ET);
    cr_assert_eq(r->cpu.cr4, 0);
    cr_assert_eq(r->cpu.efer, 0);
    cr_assert_eq(cpu_code_size(&r->cpu), 4);
    cr_assert_eq(r->cpu.gpr[RSP], 0x8ff0, "a guest may call before it sets its own stack");
    cr_assert_eq(r->cpu.seg[SEG_CS].sel, cs, "where every loader has it");
    for (unsigned i = 0; i < NSEG; i++)
        cr_assert(i == SEG_CS || r->cpu.seg[i].sel == ds, "segment %u", i);
    check_segs(r);
}

static inline void check_flat32(const struct run *r, uint64_t rip)
{
    check_flat32_in(r, rip, 0x08, 0x10);
}

static inline void check_elf_bytes(const struct run *r, uint64_t base)
{
    for (unsigned i = 0; i < ELF_TEXT; i++)
        cr_assert(AT(r, uint8_t, base)[i] == (uint8_t)(i + 1) || i < 12, "text byte %u", i);
    for (unsigned i = 0; i < ELF_BSS; i++)
        cr_assert_eq(AT(r, uint8_t, base + 0x1000)[i], i < ELF_DATA ? (uint8_t)(0x80 | i) : 0);
}

#endif
