/* Control and debug registers, XCR0, fast system calls, MSRs, the paravirtual clock, RESET. */
#include <criterion/criterion.h>
#include "tests/vmfix.h"

#define NONCANON 0x800000000000u

static struct vmfix f;

static void down(void)
{
    vmf_destroy(&f);
}

static void expect_gp(int rc, const char *name)
{
    cr_assert_eq(rc, CPU_FAULT, "%s", name);
    cr_assert_eq(f.v->cpu.exc.vector, VEC_GP, "%s: %u", name, f.v->cpu.exc.vector);
    cr_assert_eq(f.v->cpu.exc.error, 0, "%s", name);
}

/* Every CR4 and EFER bit a 64-bit Linux sets, in the order it goes into long mode and out again. */
Test(cr, into_long_mode_and_out, .fini = down)
{
    struct cpu *c;

    vmf_create(&f, VMFIX_PROT32);
    c = &f.v->cpu;
    cr_assert_eq(cpu_write_cr(f.v, 3, VMF_PML4), CPU_OK);
    cr_assert_eq(cpu_wrmsr(f.v, 0xc0000080, EFER_LME), CPU_OK);
    expect_gp(cpu_write_cr(f.v, 0, c->cr0 | CR0_PG), "LME without PAE");
    cr_assert_eq(cpu_write_cr(f.v, 4, CR4_PAE), CPU_OK);
    c->seg[SEG_CS].attr |= SEG_L;
    expect_gp(cpu_write_cr(f.v, 0, c->cr0 | CR0_PG), "CS.L");
    c->seg[SEG_CS].attr &= ~SEG_L;
    c->tr.attr = 0x83;
    expect_gp(cpu_write_cr(f.v, 0, c->cr0 | CR0_PG), "16-bit TSS");
    c->tr.attr = 0x8b;
    cr_assert_eq(c->efer, EFER_LME);
    cr_assert_eq(cpu_write_cr(f.v, 0, c->cr0 | CR0_PG), CPU_OK);
    cr_assert_eq(c->efer, EFER_LME | EFER_LMA);

    expect_gp(cpu_write_cr(f.v, 4, 0), "PAE off in long mode");
    expect_gp(cpu_wrmsr(f.v, 0xc0000080, EFER_LMA), "LME off with paging");
    cr_assert_eq(cpu_wrmsr(f.v, 0xc0000080, EFER_LME | EFER_SCE | EFER_NXE), CPU_OK);
    cr_assert_eq(c->efer, EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE);
    c->seg[SEG_CS].attr |= SEG_L;
    expect_gp(cpu_write_cr(f.v, 0, c->cr0 & ~(uint64_t)CR0_PG), "PG off in 64-bit code");
    c->seg[SEG_CS].attr &= ~SEG_L;
    cr_assert_eq(cpu_write_cr(f.v, 0, c->cr0 & ~(uint64_t)CR0_PG), CPU_OK);
    cr_assert_eq(c->efer & EFER_LMA, 0);
}

Test(cr, reserved_bits, .fini = down)
{
    static const struct {
        const char *name;
        unsigned cr;
        uint64_t set, clear;
        bool ok;
    } cases[] = {
        {"CR0 high half", 0, (uint64_t)1 << 32, 0, false},
        {"CR0 unknown low bits are ignored", 0, 0x40, 0, true},
        {"NW without CD", 0, CR0_NW, 0, false},
        {"NW with CD", 0, CR0_NW | CR0_CD, 0, true},
        {"PG without PE", 0, 0, CR0_PE, false},
        {"TS", 0, CR0_TS, 0, true},
        {"CR3 above MAXPHYADDR", 3, (uint64_t)1 << 46, 0, false},
        {"CR3 bit 63", 3, (uint64_t)1 << 63, 0, false},
        {"CR3 low bits", 3, 0xfff, 0, true},
        {"CR3 top of MAXPHYADDR", 3, (uint64_t)1 << 45, 0, true},
        {"VME", 4, CR4_VME, 0, false},
        {"LA57", 4, CR4_LA57, 0, false},
        {"PCIDE", 4, CR4_PCIDE, 0, true},
        {"PKE", 4, CR4_PKE, 0, false},
        {"VMXE", 4, 0x2000, 0, false},
        {"CR4 high half", 4, (uint64_t)1 << 32, 0, false},
        {"the usual", 4, CR4_TSD | CR4_DE | CR4_PSE | CR4_PGE | CR4_PCE | CR4_MCE, 0, true},
        {"CR8", 8, 15, ~(uint64_t)0, true},
        {"CR8 too high", 8, 16, ~(uint64_t)0, false},
        {"CR2 takes anything", 2, NONCANON, 0, true},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t old, val;
        int rc;

        if (i)
            down();
        vmf_create(&f, VMFIX_LONG);
        cr_assert_eq(cpu_read_cr(f.v, cases[i].cr, &old), CPU_OK);
        val = (old & ~cases[i].clear) | cases[i].set;
        rc = cpu_write_cr(f.v, cases[i].cr, val);
        if (!cases[i].ok) {
            expect_gp(rc, cases[i].name);
            val = old;
        }
        cr_assert_eq(cpu_read_cr(f.v, cases[i].cr, &old), CPU_OK);
        if (cases[i].cr == 0)
            val &= ~(uint64_t)0x40;
        cr_assert_eq(old, val, "%s: %lx", cases[i].name, old);
    }
    cr_assert_eq(cpu_write_cr(f.v, 5, 0), CPU_FAULT);
    cr_assert_eq(f.v->cpu.exc.vector, VEC_UD);
}

/* SDM 3A 4.10.1; without long mode, and with a PCID in CR3 already, there is no CR4.PCIDE. */
Test(cr, pcide, .fini = down)
{
    struct cpu *c;

    vmf_create(&f, VMFIX_PAGE32);
    expect_gp(cpu_write_cr(f.v, 4, f.v->cpu.cr4 | CR4_PCIDE), "PCIDE outside long mode");
    down();
    vmf_create(&f, VMFIX_LONG);
    c = &f.v->cpu;
    expect_gp(cpu_write_cr(f.v, 3, c->cr3 | (uint64_t)1 << 63), "bit 63 without PCIDE");
    c->cr3 |= 8;
    expect_gp(cpu_write_cr(f.v, 4, c->cr4 | CR4_PCIDE), "PCIDE with bits in CR3");
    c->cr3 &= ~(uint64_t)8;
    cr_assert_eq(cpu_write_cr(f.v, 4, c->cr4 | CR4_PCIDE), CPU_OK);
    cr_assert_eq(cpu_write_cr(f.v, 3, c->cr3 | 5 | (uint64_t)1 << 63), CPU_OK);
    cr_assert_eq(c->cr3, VMF_PML4 | 5, "bit 63 is not kept");
    cr_assert_eq(f.v->tlb.pcid, 5);
    expect_gp(cpu_write_cr(f.v, 3, c->cr3 | (uint64_t)1 << 62), "bit 62");
    c->seg[SEG_CS].attr &= ~SEG_L;
    expect_gp(cpu_write_cr(f.v, 0, c->cr0 & ~(uint64_t)CR0_PG), "PG off with PCIDE");
    cr_assert_eq(cpu_write_cr(f.v, 4, c->cr4 & ~(uint64_t)CR4_PCIDE), CPU_OK);
    cr_assert_eq(f.v->tlb.pcid, 0);
    cr_assert_eq(cpu_write_cr(f.v, 0, c->cr0 & ~(uint64_t)CR0_PG), CPU_OK);
}

/* A stale translation does not outlive a change of CR0.WP, CR4.PGE or CR3. */
Test(cr, flushes, .fini = down)
{
    uint8_t byte = 0;

    vmf_create(&f, VMFIX_PAGE32);
    vmf_poke32(&f, VMF_PD32, 0xe1); /* read-only */
    cr_assert_eq(mem_write(f.v, VMF_DATA, &byte, 1, ACC_WRITE), CPU_FAULT);
    cr_assert_eq(cpu_write_cr(f.v, 0, f.v->cpu.cr0 & ~(uint64_t)CR0_WP), CPU_OK);
    cr_assert_eq(mem_write(f.v, VMF_DATA, &byte, 1, ACC_WRITE), CPU_OK);
    cr_assert_eq(cpu_write_cr(f.v, 0, f.v->cpu.cr0 | CR0_WP), CPU_OK);
    cr_assert_eq(mem_write(f.v, VMF_DATA, &byte, 1, ACC_WRITE), CPU_FAULT);
    cr_assert_eq(mem_read(f.v, VMF_DATA, &byte, 1, ACC_READ), CPU_OK);
    vmf_poke32(&f, VMF_PD32, 0);
    cr_assert_eq(cpu_write_cr(f.v, 3, VMF_PD32), CPU_OK);
    cr_assert_eq(mem_read(f.v, VMF_DATA, &byte, 1, ACC_READ), CPU_FAULT);
}

Test(cr, pdptes, .fini = down)
{
    struct cpu *c;

    vmf_create(&f, VMFIX_PROT32);
    c = &f.v->cpu;
    cr_assert_eq(cpu_write_cr(f.v, 4, CR4_PAE), CPU_OK);
    cr_assert_eq(cpu_write_cr(f.v, 3, VMF_DATA), CPU_OK);
    vmf_poke64(&f, VMF_DATA, VMF_PML4 + 0x2000 + 1);
    vmf_poke64(&f, VMF_DATA + 8, 0x1e6); /* not present: anything goes */
    vmf_poke64(&f, VMF_DATA + 16, 3);    /* reserved bit 1 */
    expect_gp(cpu_write_cr(f.v, 0, c->cr0 | CR0_PG), "reserved PDPTE bit");
    vmf_poke64(&f, VMF_DATA + 16, ((uint64_t)1 << 46) + 1);
    expect_gp(cpu_write_cr(f.v, 0, c->cr0 | CR0_PG), "above MAXPHYADDR");
    vmf_poke64(&f, VMF_DATA + 16, 0);
    cr_assert_eq(cpu_write_cr(f.v, 0, c->cr0 | CR0_PG), CPU_OK);
    cr_assert_eq(c->pdpte[0], (uint64_t)VMF_PML4 + 0x2001);
    /* Loaded at MOV CR3, not walked. */
    vmf_poke64(&f, VMF_DATA + 24, 5 | 0x1000);
    expect_gp(cpu_write_cr(f.v, 3, VMF_DATA), "reserved bit at MOV CR3");
    vmf_poke64(&f, VMF_DATA + 24, 1 | 0x1000);
    cr_assert_eq(cpu_write_cr(f.v, 3, VMF_DATA), CPU_OK);
    cr_assert_eq(c->pdpte[3], 0x1001u);
}

Test(dr, rules, .fini = down)
{
    uint64_t val;

    vmf_create(&f, VMFIX_LONG);
    cr_assert_eq(cpu_write_dr(f.v, 6, 0), CPU_OK);
    cr_assert_eq(f.v->cpu.dr[6], 0xffff0ff0u);
    cr_assert_eq(cpu_write_dr(f.v, 4, 0xffffffff), CPU_OK); /* alias of DR6 */
    cr_assert_eq(f.v->cpu.dr[6], 0xffffefffu);
    expect_gp(cpu_write_dr(f.v, 6, (uint64_t)1 << 32), "DR6 high half");
    expect_gp(cpu_write_dr(f.v, 7, (uint64_t)1 << 63), "DR7 high half");
    cr_assert_eq(cpu_write_dr(f.v, 0, 0xffff888000000000), CPU_OK);
    cr_assert_eq(cpu_write_dr(f.v, 7, 0xffffffff & ~0x2000u), CPU_OK);
    cr_assert_eq(cpu_read_dr(f.v, 5, &val), CPU_OK);
    cr_assert_eq(val, 0xffff07ffu);
    f.v->cpu.cr4 |= CR4_DE;
    cr_assert_eq(cpu_read_dr(f.v, 5, &val), CPU_FAULT);
    cr_assert_eq(f.v->cpu.exc.vector, VEC_UD);
    cr_assert_eq(cpu_write_dr(f.v, 7, 0x2000), CPU_OK); /* GD */
    cr_assert_eq(cpu_read_dr(f.v, 0, &val), CPU_FAULT);
    cr_assert_eq(f.v->cpu.exc.vector, VEC_DB);
    cr_assert(f.v->cpu.dr[6] & 0x2000);
    vmf_gate64(&f, VEC_DB, 0x8e, VMS_CODE64, 0x11000, 0);
    cr_assert_eq(cpu_deliver_exception(f.v), CPU_OK);
    cr_assert_eq(cpu_read_dr(f.v, 0, &val), CPU_OK); /* GD is off in the handler */
}

Test(xcr0, rules, .fini = down)
{
    bool avx;

    vmf_create(&f, VMFIX_LONG);
    avx = cpuid_has(&f.cpuid, 1, 0, 2, 28);
    cr_assert_eq(cpu_xsetbv(f.v, 0, 3), CPU_FAULT);
    cr_assert_eq(f.v->cpu.exc.vector, VEC_UD);
    if (!cpuid_has(&f.cpuid, 1, 0, 2, 26))
        return;
    cr_assert_eq(cpu_write_cr(f.v, 4, f.v->cpu.cr4 | CR4_OSXSAVE), CPU_OK);
    expect_gp(cpu_xsetbv(f.v, 0, 2), "without x87");
    expect_gp(cpu_xsetbv(f.v, 0, 5), "AVX without SSE");
    expect_gp(cpu_xsetbv(f.v, 0, 0xe7), "AVX-512");
    expect_gp(cpu_xsetbv(f.v, 1, 3), "XCR1");
    cr_assert_eq(cpu_xsetbv(f.v, 0, 3), CPU_OK);
    cr_assert_eq(cpu_xsetbv(f.v, 0, 7), avx ? CPU_OK : CPU_FAULT);
    vmf_user(&f);
    expect_gp(cpu_xsetbv(f.v, 0, 3), "CPL 3");
}

/* --- SYSCALL, SYSENTER and their returns: the rules of Intel unless the host is AMD --- */

static void fast_msrs(void)
{
    const struct {
        uint32_t msr;
        uint64_t val;
    } set[] = {{0xc0000081, (uint64_t)VMS_CODE64 << 32 | (uint64_t)(VMS_UCODE32 & ~3) << 48},
               {0xc0000082, 0xffffffff81000000},
               {0xc0000084, FL_IF | FL_TF | FL_DF},
               {0x174, VMS_CODE64},
               {0x175, 0xffffc90000001000},
               {0x176, 0xffffffff82000000}};

    for (size_t i = 0; i < sizeof(set) / sizeof(set[0]); i++)
        cr_assert_eq(cpu_wrmsr(f.v, set[i].msr, set[i].val), CPU_OK, "%x", set[i].msr);
}

Test(fast, syscall_and_sysret, .fini = down)
{
    uint64_t flags = FL_R1 | FL_IF | FL_TF | FL_CF;
    struct cpu *c;

    vmf_create(&f, VMFIX_LONG);
    c = &f.v->cpu;
    fast_msrs();
    vmf_user(&f);
    c->rflags = flags | FL_RF;
    cr_assert_eq(cpu_syscall(f.v, VMF_CODE + 2), CPU_OK);
    cr_assert_eq(c->rip, 0xffffffff81000000);
    cr_assert_eq(c->gpr[RCX], VMF_CODE + 2);
    cr_assert_eq(c->gpr[R11], flags);
    cr_assert_eq(c->rflags, FL_R1 | FL_CF);
    cr_assert_eq(c->cpl, 0);
    cr_assert_eq(c->seg[SEG_CS].sel, VMS_CODE64);
    cr_assert_eq(c->seg[SEG_SS].sel, VMS_CODE64 + 8);
    cr_assert_eq(c->seg[SEG_CS].attr, 0xa09bu);
    cr_assert_eq(c->gpr[RSP], VMF_USTACK);

    c->gpr[R11] |= FL_VM | FL_RF | (uint64_t)1 << 40;
    cr_assert_eq(cpu_sysret(f.v, 8), CPU_OK);
    cr_assert_eq(c->rip, VMF_CODE + 2);
    cr_assert_eq(c->rflags, flags);
    cr_assert_eq(c->cpl, 3);
    cr_assert_eq(c->seg[SEG_CS].sel, VMS_UCODE64);
    cr_assert_eq(c->seg[SEG_SS].sel, VMS_UDATA);
    cr_assert_eq(c->seg[SEG_CS].attr, 0xa0fbu);
    cr_assert_eq(c->seg[SEG_SS].attr, 0xc0f3u);
    expect_gp(cpu_sysret(f.v, 8), "SYSRET at CPL 3");

    c->cpl = 0;
    c->gpr[RCX] = 0xffffffff80001000;
    cr_assert_eq(cpu_sysret(f.v, 4), CPU_OK);
    cr_assert_eq(c->rip, 0x80001000);
    cr_assert_eq(c->seg[SEG_CS].sel, VMS_UCODE32);
    cr_assert_eq(c->seg[SEG_CS].attr, 0xc0fbu);
}

Test(fast, syscall_faults, .fini = down)
{
    struct cpu *c;

    vmf_create(&f, VMFIX_LONG);
    c = &f.v->cpu;
    f.cpuid.leaf[0].ebx = 0x756e6547; /* Genu */
    fast_msrs();
    c->gpr[RCX] = NONCANON;
    expect_gp(cpu_sysret(f.v, 8), "non-canonical RCX");
    cr_assert_eq(c->cpl, 0);
    cr_assert_eq(c->rip, VMF_CODE);
    c->efer &= ~(uint64_t)EFER_SCE;
    cr_assert_eq(cpu_syscall(f.v, 0), CPU_FAULT);
    cr_assert_eq(c->exc.vector, VEC_UD);
    cr_assert_eq(cpu_sysret(f.v, 8), CPU_FAULT);
    cr_assert_eq(c->exc.vector, VEC_UD);
    c->efer |= EFER_SCE;
    vmf_set_seg(&f, SEG_CS, VMS_CODE32);
    cr_assert_eq(cpu_syscall(f.v, 0), CPU_FAULT);
    cr_assert_eq(c->exc.vector, VEC_UD);
    /* AMD takes it from compatibility mode, to CSTAR. */
    f.cpuid.leaf[0].ebx = 0x68747541; /* Auth */
    cr_assert_eq(cpu_wrmsr(f.v, 0xc0000083, 0xffffffff83000000), CPU_OK);
    cr_assert_eq(cpu_syscall(f.v, VMF_CODE + 2), CPU_OK);
    cr_assert_eq(c->rip, 0xffffffff83000000);
    cr_assert_eq(cpu_sysenter(f.v), CPU_FAULT);
    cr_assert_eq(c->exc.vector, VEC_UD);
}

Test(fast, sysenter_and_sysexit, .fini = down)
{
    struct cpu *c;

    for (unsigned m = 0; m < 2; m++) {
        bool lng = m;

        if (m)
            down();
        vmf_create(&f, lng ? VMFIX_LONG : VMFIX_PROT32);
        f.cpuid.leaf[0].ebx = 0x756e6547;
        c = &f.v->cpu;
        fast_msrs();
        vmf_user(&f);
        c->rflags = FL_R1 | FL_IF | FL_RF;
        cr_assert_eq(cpu_sysenter(f.v), CPU_OK);
        cr_assert_eq(c->rip, lng ? 0xffffffff82000000 : 0x82000000);
        cr_assert_eq(c->gpr[RSP], lng ? 0xffffc90000001000 : 0x1000);
        cr_assert_eq(c->rflags, FL_R1);
        cr_assert_eq(c->cpl, 0);
        cr_assert_eq(cpu_code64(c), lng);
        c->gpr[RCX] = 0x5000;
        c->gpr[RDX] = 0x6000;
        cr_assert_eq(cpu_sysexit(f.v, 4), CPU_OK);
        cr_assert_eq(c->rip, 0x6000);
        cr_assert_eq(c->gpr[RSP], 0x5000);
        cr_assert_eq(c->seg[SEG_CS].sel, (VMS_CODE64 + 16) | 3);
        cr_assert_eq(c->seg[SEG_SS].sel, (VMS_CODE64 + 24) | 3);
        expect_gp(cpu_sysexit(f.v, 4), "SYSEXIT at CPL 3");
        c->sysenter_cs = 3;
        expect_gp(cpu_sysenter(f.v), "null SYSENTER_CS");
    }
    c->sysenter_cs = VMS_CODE64;
    c->cpl = 0;
    c->gpr[RDX] = NONCANON;
    expect_gp(cpu_sysexit(f.v, 8), "non-canonical RDX");
    c->gpr[RDX] = 0x7fffffff0000;
    cr_assert_eq(cpu_sysexit(f.v, 8), CPU_OK);
    cr_assert_eq(c->seg[SEG_CS].sel, (VMS_CODE64 + 32) | 3);
    cr_assert(cpu_code64(c));
}

Test(fast, swapgs, .fini = down)
{
    struct cpu *c;

    vmf_create(&f, VMFIX_LONG);
    c = &f.v->cpu;
    cr_assert_eq(cpu_wrmsr(f.v, 0xc0000101, 0x1000), CPU_OK);
    cr_assert_eq(cpu_wrmsr(f.v, 0xc0000102, 0xffff888000000000), CPU_OK);
    cr_assert_eq(cpu_swapgs(f.v), CPU_OK);
    cr_assert_eq(c->seg[SEG_GS].base, 0xffff888000000000);
    cr_assert_eq(c->kernel_gs_base, 0x1000);
    vmf_user(&f);
    expect_gp(cpu_swapgs(f.v), "CPL 3");
    vmf_set_seg(&f, SEG_CS, VMS_UCODE32);
    cr_assert_eq(cpu_swapgs(f.v), CPU_FAULT);
    cr_assert_eq(c->exc.vector, VEC_UD);
}

Test(reset, table_9_1, .fini = down)
{
    struct cpu *c;

    vmf_create(&f, VMFIX_REAL);
    c = &f.v->cpu;
    c->tsc_offset = 42;
    cpu_reset(c);
    cr_assert_eq(c->rip, 0xfff0);
    cr_assert_eq(c->rflags, 2);
    cr_assert_eq(c->seg[SEG_CS].base, 0xffff0000);
    cr_assert_eq(c->seg[SEG_CS].sel, 0xf000);
    cr_assert_eq(c->seg[SEG_DS].limit, 0xffff);
    cr_assert_eq(c->cr0, 0x60000010);
    cr_assert_eq(c->dr[6], 0xffff0ff0);
    cr_assert_eq(c->dr[7], 0x400);
    cr_assert_eq(c->idtr.limit, 0xffff);
    cr_assert_eq(c->pat, 0x0007040600070406);
    cr_assert_eq(c->xcr0, 1);
    cr_assert_eq(c->tsc_offset, 42); /* the machine's one clock */
    cr_assert_eq(c->xsave[0] | c->xsave[1] << 8, 0x37f);
    cr_assert_eq(c->xsave[24] | c->xsave[25] << 8, 0x1f80);
}
