/* x87, MMX, SSE and AVX through the interpreter: enabling, operands, faults, and the instructions
 * that save and restore the state. */
#include <criterion/criterion.h>
#include "tests/interp_fix.h"

enum { FCW = 0, FSW = 2, FTW = 4, MXCSR = 24, ST0 = 32, XMM0 = 160, BV = 512, YMMH0 = 576 };
#define AREA (VMF_DATA + 0x1000)

static struct cpu *c;

static void begin(enum vmfix_mode mode)
{
    ifx_create(mode);
    c = &ifx.v->cpu;
    c->rflags = FL_R1;
    c->cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    c->xcr0 = 7;
    memset(c->xsave, 0, sizeof(c->xsave));
    c->xsave[FCW] = 0x7f, c->xsave[FCW + 1] = 3;
    c->xsave[MXCSR] = 0x80, c->xsave[MXCSR + 1] = 0x1f;
    c->xsave[BV] = 7;
}

/* Run one instruction at the usual place; the vector of its fault or -1. */
static int run(const char *hex)
{
    unsigned len;

    c->rip = VMF_CODE;
    len = ifx_code(hex);
    cr_assert_eq(interp_step(ifx.v), STEP_OK, "%s", hex);
    fpu_put(ifx.v);
    if (c->rip == VMF_CODE + len)
        return -1;
    cr_assert_neq(ifx_vector(), -1, "%s: rip %#lx", hex, c->rip);
    return ifx_vector();
}

static void set(unsigned off, uint64_t val)
{
    memcpy(c->xsave + off, &val, 8);
}

static uint64_t get(unsigned off)
{
    uint64_t val;

    memcpy(&val, c->xsave + off, 8);
    return val;
}

TestSuite(vec, .fini = ifx_destroy);

Test(vec, enabling)
{
    static const struct {
        const char *name, *code;
        uint64_t cr0, cr4_clear, xcr0;
        int vec;
    } t[] = {
        {"x87", "d9e8", 0, ~0ull, 1, -1},
        {"x87, TS", "d9e8", CR0_TS, 0, 7, VEC_NM},
        {"x87, EM", "d9e8", CR0_EM, 0, 7, VEC_NM},
        {"fwait, TS without MP", "9b", CR0_TS, 0, 7, -1},
        {"fwait, TS and MP", "9b", CR0_TS | CR0_MP, 0, 7, VEC_NM},
        {"mmx needs no OSFXSR", "0fefc0", 0, CR4_OSFXSR, 7, -1},
        {"mmx, EM", "0fefc0", CR0_EM, 0, 7, VEC_UD},
        {"mmx, TS", "0fefc0", CR0_TS, 0, 7, VEC_NM},
        {"sse", "0f57c0", 0, 0, 7, -1},
        {"sse, no OSFXSR", "0f57c0", 0, CR4_OSFXSR, 7, VEC_UD},
        {"sse, EM", "0f57c0", CR0_EM, 0, 7, VEC_UD},
        {"sse, TS", "0f57c0", CR0_TS, 0, 7, VEC_NM},
        {"avx", "c5f857c0", 0, CR4_OSFXSR, 7, -1},
        {"avx, no OSXSAVE", "c5f857c0", 0, CR4_OSXSAVE, 7, VEC_UD},
        {"avx, XCR0 without AVX", "c5f857c0", 0, 0, 3, VEC_UD},
        {"avx, TS", "c5f857c0", CR0_TS, 0, 7, VEC_NM},
        {"movnti needs nothing", "0fc303", CR0_TS | CR0_EM, CR4_OSFXSR, 7, -1},
        {"xsave, no OSXSAVE", "0fae23", 0, CR4_OSXSAVE, 7, VEC_UD},
        {"fxsave, TS", "0fae03", CR0_TS, 0, 7, VEC_NM},
        {"fnstenv, EM", "d933", CR0_EM, 0, 7, VEC_NM},
        {"vgather, TS", "c4e259900c13", CR0_TS, 0, 7, VEC_NM},
    };

    for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
        begin(VMFIX_LONG);
        c->gpr[RBX] = AREA;
        c->cr0 |= t[i].cr0;
        c->cr4 &= ~(t[i].cr4_clear & (CR4_OSFXSR | CR4_OSXSAVE));
        c->xcr0 = t[i].xcr0;
        int got = run(t[i].code);

        cr_expect_eq(got, t[i].vec, "%s: vector %d", t[i].name, got);
        if (i + 1 < sizeof(t) / sizeof(*t))
            ifx_destroy();
    }
}

Test(vec, general_registers)
{
    begin(VMFIX_LONG);
    set(XMM0, 0x1122334455667788);
    cr_expect_eq(run("66480f7ec4"), -1); /* movq rsp, xmm0 */
    cr_expect_eq(c->gpr[RSP], 0x1122334455667788);
    cr_expect_eq(run("66480f6ecc"), -1); /* movq xmm1, rsp */
    cr_expect_eq(get(XMM0 + 16), 0x1122334455667788);
    cr_expect_eq(run("660f7ec5"), -1); /* movd ebp, xmm0 */
    cr_expect_eq(c->gpr[RBP], 0x55667788);
    cr_expect_eq(run("66450f7ec4"), -1); /* movd r12d, xmm8 */
    cr_expect_eq(c->gpr[R12], 0);
    c->gpr[RSP] = 7;
    cr_expect_eq(run("f2480f2ad4"), -1); /* cvtsi2sd xmm2, rsp */
    cr_expect_eq(get(XMM0 + 32), 0x401c000000000000);
    cr_expect_eq(run("f2480f2de2"), -1); /* cvtsd2si rsp, xmm2 */
    cr_expect_eq(c->gpr[RSP], 7);
    c->gpr[RDI] = VMF_DATA;
    vmf_poke64(&ifx, VMF_DATA, 0x401c000000000000);
    cr_expect_eq(run("f2480f2d3f"), -1); /* cvtsd2si rdi, [rdi] */
    cr_expect_eq(c->gpr[RDI], 7);
    set(XMM0, 0x00ff00ff00ff00ff);
    cr_expect_eq(run("660fd7e0"), -1); /* pmovmskb esp, xmm0 */
    cr_expect_eq(c->gpr[RSP], 0x55);
    cr_expect_eq(run("660fc4e402"), -1); /* pinsrw xmm4, esp, 2 */
    cr_expect_eq(get(XMM0 + 64), 0x5500000000);
    c->rflags |= FL_ARITH;
    cr_expect_eq(run("0f2fc1"), -1); /* comiss: arithmetic flags, no others */
    cr_expect_eq(c->rflags & ~(uint64_t)FL_ARITH, FL_R1);
    cr_expect_neq(c->rflags & FL_ARITH, FL_ARITH);
}

Test(vec, memory_operands)
{
    begin(VMFIX_LONG);
    for (unsigned i = 0; i < 16; i++)
        vmf_poke64(&ifx, VMF_DATA + 0xfc0 + i * 8, 0x0101010101010101 * i);
    c->gpr[RBX] = VMF_DATA + 0xff8;
    cr_expect_eq(run("0f1003"), -1); /* movups across a page */
    cr_expect_eq(get(XMM0), 0x0707070707070707);
    cr_expect_eq(get(XMM0 + 8), 0x0808080808080808);
    c->gpr[RBX] -= 0x10;
    cr_expect_eq(run("0f110b"), -1); /* movups [rbx], xmm1 */
    cr_expect_eq(vmf_peek(&ifx, VMF_DATA + 0xfe8, 8), 0);
    cr_expect_eq(run("0f2803"), VEC_GP); /* movaps, misaligned, inside a page */
    c->gpr[RBX] = VMF_DATA + 0xff8;
    cr_expect_eq(run("0f2803"), VEC_GP);   /* and across */
    cr_expect_eq(run("c5fc2803"), VEC_GP); /* vmovaps ymm */
    c->gpr[RBX] = IFX_NP - 8;
    cr_expect_eq(run("c5fc1003"), VEC_PF); /* vmovups ymm */
    cr_expect_eq(c->cr2, IFX_NP);
    cr_expect_eq(run("c5fc1103"), VEC_PF);
    cr_expect_eq(vmf_peek(&ifx, IFX_NP - 8, 8), 0, "nothing is stored before the fault");
    c->gpr[RBX] = IFX_RO;
    c->cr0 |= CR0_WP;
    cr_expect_eq(run("0f1103"), VEC_PF);
    c->gpr[RBX] = IFX_MMIO; /* reads as ones */
    cr_expect_eq(run("660f6f1b"), -1);
    cr_expect_eq(get(XMM0 + 48), ~0ull);
}

Test(vec, simd_exceptions)
{
    begin(VMFIX_LONG);
    c->xsave[MXCSR] = 0x80, c->xsave[MXCSR + 1] = 0x1d; /* divide by zero unmasked */
    set(XMM0, 0x3f800000);
    cr_expect_eq(run("f30f5ec1"), VEC_XM); /* divss xmm0, xmm1 = 0 */
    cr_expect_eq(get(XMM0), 0x3f800000);
    cr_expect(c->xsave[MXCSR] & 4);
    c->cr4 &= ~(uint64_t)CR4_OSXMMEXCPT;
    cr_expect_eq(run("f30f5ec1"), VEC_UD);
    c->gpr[RBX] = VMF_DATA;
    vmf_poke32(&ifx, VMF_DATA, 0x10000);
    cr_expect_eq(run("0fae13"), VEC_GP); /* ldmxcsr with a reserved bit */
    vmf_poke32(&ifx, VMF_DATA, 0x1f80);
    cr_expect_eq(run("0fae13"), -1);
    cr_expect_eq(run("f30f5ec1"), -1);
    cr_expect_eq((uint32_t)get(XMM0), 0x7f800000);
}

Test(vec, x87_exceptions_surface_in_the_next_instruction)
{
    begin(VMFIX_LONG);
    c->xsave[FCW] = 0x7b;          /* divide by zero unmasked */
    cr_expect_eq(run("d9e8"), -1); /* fld1 */
    cr_expect_eq(run("d9ee"), -1); /* fldz */
    cr_expect_eq(run("def9"), -1); /* fdivp */
    c->gpr[RBX] = VMF_DATA;
    cr_expect_eq(run("9b"), VEC_MF);
    cr_expect_eq(run("d9e8"), VEC_MF);
    cr_expect_eq(run("0fefc0"), VEC_MF); /* MMX too */
    cr_expect_eq(run("d923"), VEC_MF);   /* fldenv waits */
    cr_expect_eq(run("dfe0"), -1);       /* fnstsw ax does not */
    cr_expect(c->gpr[RAX] & 0x84);
    cr_expect_eq(run("d933"), -1); /* fnstenv masks everything */
    cr_expect_eq(run("9b"), -1);
    cr_expect_eq(run("d923"), -1); /* and fldenv brings it back */
    cr_expect_eq(run("9b"), VEC_MF);
    cr_expect_eq(run("dbe2"), -1); /* fnclex */
    cr_expect_eq(run("9b"), -1);
}

/* --- state in memory --- */

Test(vec, fxsave)
{
    begin(VMFIX_LONG);
    c->gpr[RBX] = AREA;
    set(XMM0 + 15 * 16, 0x1234);
    run("d9e8");
    vmf_poke64(&ifx, AREA + 464, 0x5a5a);
    vmf_poke64(&ifx, AREA + 8, ~0ull);
    cr_expect_eq(run("0fae03"), -1);
    cr_expect_eq(vmf_peek(&ifx, AREA, 2), 0x37f);
    cr_expect_eq(vmf_peek(&ifx, AREA + 2, 2), 0x3800);
    cr_expect_eq(vmf_peek(&ifx, AREA + 4, 1), 0x80);
    cr_expect_eq(vmf_peek(&ifx, AREA + 8, 8), 0, "no host address");
    cr_expect_eq(vmf_peek(&ifx, AREA + 24, 4), 0x1f80);
    cr_expect_neq(vmf_peek(&ifx, AREA + 28, 4), 0, "MXCSR_MASK");
    cr_expect_eq(vmf_peek(&ifx, AREA + 40, 2), 0x3fff);
    cr_expect_eq(vmf_peek(&ifx, AREA + XMM0 + 15 * 16, 8), 0x1234);
    cr_expect_eq(vmf_peek(&ifx, AREA + 464, 8), 0x5a5a, "software's bytes stay");
    vmf_poke64(&ifx, AREA + XMM0, 0x77);
    vmf_poke16(&ifx, AREA, 0x27f);
    cr_expect_eq(run("0fae0b"), -1);
    cr_expect_eq(get(XMM0), 0x77);
    cr_expect_eq(run("d9fa"), -1); /* fsqrt: the state is live and right */
    cr_expect_eq(get(FCW) & 0xffff, 0x27f);
    vmf_poke32(&ifx, AREA + 24, 0x80000000);
    cr_expect_eq(run("0fae0b"), VEC_GP);
    c->gpr[RBX] = AREA + 8;
    cr_expect_eq(run("0fae03"), VEC_GP);
    c->gpr[RBX] = IFX_NP - 0x100;
    cr_expect_eq(run("0fae03"), VEC_PF);
    cr_expect_eq(vmf_peek(&ifx, IFX_NP - 0x100, 8), 0, "nothing is stored before the fault");
}

Test(vec, fxsave_outside_64_bit_code)
{
    begin(VMFIX_PROT32);
    c->gpr[RBX] = AREA;
    memset(c->xsave + XMM0, 0x33, 256);
    cr_expect_eq(run("0fae03"), -1);
    cr_expect_eq(vmf_peek(&ifx, AREA + XMM0 + 7 * 16, 8), 0x3333333333333333);
    cr_expect_eq(vmf_peek(&ifx, AREA + XMM0 + 8 * 16, 8), 0);
}

Test(vec, xsave_xrstor)
{
    begin(VMFIX_LONG);
    c->gpr[RBX] = AREA;
    c->gpr[RAX] = 6;
    c->gpr[RDX] = ~0ull; /* bits outside XCR0 are ignored */
    memset(c->xsave + XMM0, 0x11, 256);
    memset(c->xsave + YMMH0, 0x22, 256);
    vmf_poke64(&ifx, AREA + BV, 1);
    vmf_poke64(&ifx, AREA, 0x5555);
    cr_expect_eq(run("0fae23"), -1); /* xsave */
    cr_expect_eq(vmf_peek(&ifx, AREA, 8), 0x5555, "x87 was not asked for");
    cr_expect_eq(vmf_peek(&ifx, AREA + BV, 8), 7, "and its bit stays");
    cr_expect_eq(vmf_peek(&ifx, AREA + 24, 4), 0x1f80);
    cr_expect_eq(vmf_peek(&ifx, AREA + YMMH0 + 8, 8), 0x2222222222222222);

    memset(c->xsave + XMM0, 0, 256);
    memset(c->xsave + YMMH0, 0x44, 256);
    vmf_poke64(&ifx, AREA + BV, 2);  /* AVX in its initial state */
    cr_expect_eq(run("0fae2b"), -1); /* xrstor */
    cr_expect_eq(get(XMM0 + 8), 0x1111111111111111);
    cr_expect_eq(get(YMMH0), 0);

    static const struct {
        unsigned off;
        uint64_t val;
    } bad[] = {{BV, 8}, {BV, 1ull << 63}, {BV + 8, 1}, {BV + 16, 1}, {24, 0x1f80 | 1u << 31}};

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        uint64_t old = vmf_peek(&ifx, AREA + bad[i].off, 8);

        vmf_poke64(&ifx, AREA + bad[i].off, bad[i].val);
        cr_expect_eq(run("0fae2b"), VEC_GP, "header %zu", i);
        vmf_poke64(&ifx, AREA + bad[i].off, old);
    }
    c->gpr[RBX] = AREA + 16;
    cr_expect_eq(run("0fae23"), VEC_GP);
}

Test(vec, x87_environment)
{
    begin(VMFIX_LONG);
    c->gpr[RBX] = AREA;
    run("d9e8"); /* fld1: R7 */
    run("d9ee"); /* fldz: R6 */
    cr_expect_eq(run("d933"), -1);
    cr_expect_eq(vmf_peek(&ifx, AREA, 4), 0xffff037f);
    cr_expect_eq(vmf_peek(&ifx, AREA + 4, 4), 0xffff3000);
    cr_expect_eq(vmf_peek(&ifx, AREA + 8, 4), 0xffff1fff);
    cr_expect_eq(vmf_peek(&ifx, AREA + 12, 4), 0);
    cr_expect_eq(run("66dd33"), -1); /* fnsave, 94 bytes */
    cr_expect_eq(vmf_peek(&ifx, AREA + 4, 2), 0x1fff);
    cr_expect_eq(vmf_peek(&ifx, AREA + 14 + 18, 2), 0x3fff, "ST1 is 1.0");
    cr_expect_eq(get(FSW) & 0xffffff, 0, "empty");
    cr_expect_eq(run("66dd23"), -1); /* frstor */
    cr_expect_eq(get(FSW) & 0xffff, 0x3000);
    cr_expect_eq(c->xsave[FTW], 0xc0);
    cr_expect_eq(get(ST0 + 16), 1ull << 63);
}

Test(vec, masked_moves_do_not_touch_what_they_leave_out)
{
    begin(VMFIX_LONG);
    c->gpr[RBX] = IFX_NP - 8;
    set(XMM0 + 16, 0x8000000080000000); /* mask ymm1: the two elements before the absent page */
    vmf_poke64(&ifx, IFX_NP - 8, 0x2222222211111111);
    memset(c->xsave + XMM0, 0xff, 16);
    memset(c->xsave + YMMH0, 0xff, 16);
    cr_expect_eq(run("c4e2752c03"), -1); /* vmaskmovps ymm0, ymm1, [rbx] */
    cr_expect_eq(get(XMM0), 0x2222222211111111);
    cr_expect_eq(get(XMM0 + 8), 0);
    cr_expect_eq(get(YMMH0), 0);
    memset(c->xsave + XMM0, 0xaa, 16);
    cr_expect_eq(run("c4e2758e03"), -1); /* vpmaskmovd [rbx], ymm1, ymm0 */
    cr_expect_eq(vmf_peek(&ifx, IFX_NP - 8, 8), 0xaaaaaaaaaaaaaaaa);
    set(XMM0 + 24, 0x80000000);
    vmf_poke64(&ifx, IFX_NP - 8, 5);
    cr_expect_eq(run("c4e2758e03"), VEC_PF);
    cr_expect_eq(vmf_peek(&ifx, IFX_NP - 8, 8), 5);
    /* maskmovdqu xmm0, xmm1: bytes 3 and 7 at rdi */
    set(XMM0 + 24, 0);
    c->gpr[RDI] = IFX_NP - 8;
    cr_expect_eq(run("660ff7c1"), -1);
    cr_expect_eq(vmf_peek(&ifx, IFX_NP - 8, 8), 0xaa000000aa000005);
}

Test(vec, maskmovq_takes_mmx_registers)
{
    begin(VMFIX_LONG);
    run("d9e8"); /* leave TOP at 7 */
    c->gpr[RAX] = 0x1122334455667788;
    run("480f6ec8"); /* movq mm1, rax */
    c->gpr[RAX] = 0x80;
    run("480f6ed0"); /* movq mm2, rax */
    c->gpr[RDI] = VMF_DATA;
    cr_expect_eq(run("0ff7ca"), -1);
    cr_expect_eq(vmf_peek(&ifx, VMF_DATA, 8), 0x88);
}

Test(vec, gather_restarts_where_it_faulted)
{
    begin(VMFIX_LONG);
    c->gpr[RBX] = IFX_NP - 0x100;
    for (unsigned i = 0; i < 4; i++)
        vmf_poke32(&ifx, IFX_NP - 0x100 + i * 4, 100 + i);
    /* xmm2: indices 3, 1, 64 (absent page), 0; xmm4: all on but the second */
    set(XMM0 + 32, 3 | 1ull << 32);
    set(XMM0 + 40, 64);
    set(XMM0 + 64, 0x80000000);
    set(XMM0 + 72, 0x8000000080000000);
    set(XMM0 + 16, 7 | 8ull << 32);
    cr_expect_eq(run("c4e259900c93"), VEC_PF); /* vpgatherdd xmm1, [rbx+xmm2*4], xmm4 */
    cr_expect_eq(c->cr2, IFX_NP);
    cr_expect_eq(get(XMM0 + 16), 103 | 8ull << 32);
    cr_expect_eq(get(XMM0 + 64), 0);
    cr_expect_eq(get(XMM0 + 72), ~0ull);
    set(XMM0 + 40, 2);
    cr_expect_eq(run("c4e259900c93"), -1);
    cr_expect_eq(get(XMM0 + 16), 103 | 8ull << 32);
    cr_expect_eq(get(XMM0 + 24), 102 | 100ull << 32);
    cr_expect_eq(get(XMM0 + 72), 0);
    cr_expect_eq(run("c4e271900c93"), VEC_UD); /* mask and destination the same */
}
