/* IRET, far transfers, segment loads. */
#include <criterion/criterion.h>
#include "tests/vmfix.h"

#define NONCANON 0x800000000000u
#define TARGET   0x12340u

static struct vmfix f;

static void down(void)
{
    vmf_destroy(&f);
}

static void push_frame(const uint64_t *w, unsigned n, unsigned size)
{
    struct cpu *c = &f.v->cpu;

    for (unsigned i = 0; i < n; i++)
        vmf_poke(&f, c->gpr[RSP] + i * size, &w[i], size);
}

/* --- IRETQ from 64-bit code --- */

static const struct iret_case {
    const char *name;
    bool user; /* start at CPL 3 */
    uint16_t cs, ss;
    uint64_t rip, rsp;
    int vector; /* -1: succeeds */
    uint32_t error;
} iret_cases[] = {
    {"to itself", false, VMS_CODE64, VMS_DATA, TARGET, 0x5000, -1, 0},
    {"to itself, null SS", false, VMS_CODE64, 0, TARGET, 0x5000, -1, 0},
    {"to user", false, VMS_UCODE64, VMS_UDATA, TARGET, 0x7fffffff8, -1, 0},
    {"to compatibility", false, VMS_UCODE32, VMS_UDATA, TARGET, 0x5000, -1, 0},
    {"to 32-bit ring 0", false, VMS_CODE32, VMS_DATA, TARGET, 0x5000, -1, 0},
    {"non-canonical RSP is loaded", false, VMS_CODE64, VMS_DATA, TARGET, NONCANON, -1, 0},
    {"user to user", true, VMS_UCODE64, VMS_UDATA, TARGET, 0x5000, -1, 0},
    {"user to kernel", true, VMS_CODE64, VMS_DATA, TARGET, 0x5000, VEC_GP, VMS_CODE64},
    {"null CS", false, 0, VMS_DATA, TARGET, 0x5000, VEC_GP, 0},
    {"data for CS", false, VMS_DATA, VMS_DATA, TARGET, 0x5000, VEC_GP, VMS_DATA},
    {"CS beyond the GDT", false, 0x1000, VMS_DATA, TARGET, 0x5000, VEC_GP, 0x1000},
    {"DPL and RPL differ", false, VMS_CODE64 | 3, VMS_UDATA, TARGET, 0x5000, VEC_GP, VMS_CODE64},
    {"absent CS", false, VMS_NP_CODE, VMS_DATA, TARGET, 0x5000, VEC_NP, VMS_NP_CODE},
    {"L and D", false, VMS_ROVER, VMS_DATA, TARGET, 0x5000, VEC_GP, VMS_ROVER},
    {"non-canonical RIP", false, VMS_UCODE64, VMS_UDATA, NONCANON, 0x5000, VEC_GP, 0},
    {"RIP beyond 4 GiB, 32-bit", false, VMS_UCODE32, VMS_UDATA, 0x100000000, 0x5000, VEC_GP, 0},
    {"null SS to user", false, VMS_UCODE64, 3, TARGET, 0x5000, VEC_GP, 0},
    {"null SS to 32-bit", false, VMS_CODE32, 0, TARGET, 0x5000, VEC_GP, 0},
    {"null SS, wrong RPL", false, VMS_CODE64, 1, TARGET, 0x5000, VEC_GP, 0},
    {"SS of the wrong ring", false, VMS_UCODE64, VMS_DATA | 3, TARGET, 0x5000, VEC_GP, VMS_DATA},
    {"SS RPL", false, VMS_UCODE64, VMS_UDATA & ~3, TARGET, 0x5000, VEC_GP, VMS_UDATA & ~3},
    {"code for SS", false, VMS_CODE64, VMS_CODE32, TARGET, 0x5000, VEC_GP, VMS_CODE32},
    {"absent SS", false, VMS_CODE64, VMS_ROVER + 8, TARGET, 0x5000, VEC_SS, VMS_ROVER + 8},
};

Test(iret, long_mode, .fini = down)
{
    for (size_t i = 0; i < sizeof(iret_cases) / sizeof(iret_cases[0]); i++) {
        const struct iret_case *t = &iret_cases[i];
        struct cpu *c, before;
        int rc;

        if (i)
            down();
        vmf_create(&f, VMFIX_LONG);
        c = &f.v->cpu;
        vmf_gdt(&f, VMS_ROVER, vmf_desc(0, 0xffffffff, 0xe09b));
        vmf_gdt(&f, VMS_ROVER + 8, vmf_desc(0, 0xffffffff, 0xc013));
        if (t->user)
            vmf_user(&f);
        uint64_t w[5] = {t->rip, t->cs, FL_R1 | FL_IF | FL_CF, t->rsp, t->ss};

        push_frame(w, 5, 8);
        c->exc = (struct exception){0};
        before = *c;
        rc = cpu_iret(f.v, 8);
        if (t->vector >= 0) {
            cr_assert_eq(rc, CPU_FAULT, "%s", t->name);
            cr_assert_eq(c->exc.vector, t->vector, "%s: %u", t->name, c->exc.vector);
            cr_assert_eq(c->exc.error, t->error, "%s: %x", t->name, c->exc.error);
            before.exc = c->exc;
            cr_assert_eq(memcmp(&before, c, sizeof(before)), 0, "%s: state changed", t->name);
            continue;
        }
        cr_assert_eq(rc, CPU_OK, "%s: #%u(%x)", t->name, c->exc.vector, c->exc.error);
        cr_assert_eq(c->rip, t->rip);
        cr_assert_eq(c->gpr[RSP], t->rsp, "%s: %lx", t->name, c->gpr[RSP]);
        cr_assert_eq(c->cpl, t->cs & 3);
        cr_assert_eq(c->seg[SEG_CS].sel, t->cs);
        cr_assert_eq(c->seg[SEG_SS].sel, t->ss);
        cr_assert_eq(c->rflags & (FL_IF | FL_CF), t->user ? FL_CF : FL_IF | FL_CF, "%s", t->name);
        /* Ring 0 data segments do not survive into ring 3. */
        if ((t->cs & 3) && !t->user)
            cr_assert(c->seg[SEG_DS].attr & SEG_NULL && !c->seg[SEG_DS].sel);
        else
            cr_assert_not(c->seg[SEG_DS].attr & SEG_NULL);
    }
}

/* The FS and GS bases of null selectors survive a return to user: how 64-bit kernels use them. */
Test(iret, keeps_null_gs_base, .fini = down)
{
    uint64_t w[5] = {TARGET, VMS_UCODE64, FL_R1, 0x5000, VMS_UDATA};

    vmf_create(&f, VMFIX_LONG);
    seg_load(f.v, SEG_GS, 0);
    f.v->cpu.seg[SEG_GS].base = 0xffff888000000000;
    push_frame(w, 5, 8);
    cr_assert_eq(cpu_iret(f.v, 8), CPU_OK);
    cr_assert_eq(f.v->cpu.seg[SEG_GS].base, 0xffff888000000000);
}

/* Which flags a return may change, by CPL and IOPL and operand size. */
Test(iret, flags, .fini = down)
{
    static const struct {
        unsigned cpl, iopl, opsize;
        uint64_t gained, kept; /* out of all ones popped; out of zero popped from all ones */
    } cases[] = {
        {0, 0, 4, FL_IF | FL_IOPL | FL_VIF | FL_VIP | FL_RF | FL_AC | FL_ID, 0},
        {0, 0, 2, FL_IF | FL_IOPL, FL_RF | FL_AC | FL_ID | FL_VIF | FL_VIP},
        {3, 0, 4, FL_RF | FL_AC | FL_ID, FL_IF | FL_VIF | FL_VIP},
        {3, 3, 4, FL_IF | FL_RF | FL_AC | FL_ID, FL_IOPL | FL_VIF | FL_VIP},
    };
    const uint64_t common = FL_ARITH | FL_TF | FL_DF, all = FL_DEFINED & ~(uint64_t)FL_VM;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (unsigned ones = 0; ones < 2; ones++) {
            uint64_t w[3] = {TARGET & 0xffff, 0, ones ? all : 0}, old, want;
            struct cpu *c;

            if (i || ones)
                down();
            vmf_create(&f, VMFIX_PROT32);
            c = &f.v->cpu;
            if (cases[i].cpl)
                vmf_user(&f);
            w[1] = c->seg[SEG_CS].sel;
            old = FL_R1 | cases[i].iopl << 12;
            if (!ones)
                old |= all & ~(uint64_t)(FL_NT | FL_IOPL);
            c->rflags = old;
            push_frame(w, 3, cases[i].opsize);
            cr_assert_eq(cpu_iret(f.v, cases[i].opsize), CPU_OK);
            want = ones ? common | FL_NT | cases[i].gained | old : (old & cases[i].kept) | FL_R1;
            cr_assert_eq(c->rflags, want, "%zu/%u: %lx, not %lx", i, ones, c->rflags, want);
        }
    }
}

/* A 16-bit stack segment takes SP alone; the rest of RSP stays. */
Test(iret, to_16bit_stack, .fini = down)
{
    uint64_t w[5] = {TARGET, VMS_UCODE32, FL_R1, 0xabcd1234, VMS_ROVER | 3};

    vmf_create(&f, VMFIX_LONG);
    vmf_gdt(&f, VMS_ROVER, vmf_desc(0, 0xffff, 0x00f3));
    push_frame(w, 5, 8);
    cr_assert_eq(cpu_iret(f.v, 8), CPU_OK);
    cr_assert_eq(f.v->cpu.gpr[RSP], (VMF_STACK & ~0xffffu) | 0x1234);
}

/* --- far transfers --- */

static const struct far_case {
    const char *name;
    enum vmfix_mode mode;
    bool user;
    uint16_t sel;
    uint64_t off;
    int vector;
    uint32_t error;
} jump_cases[] = {
    {"64 to 64", VMFIX_LONG, false, VMS_CODE64, 0xffffffff80000000, -1, 0},
    {"64 to 32", VMFIX_LONG, false, VMS_CODE32, TARGET, -1, 0},
    {"RPL is dropped", VMFIX_PROT32, false, VMS_CODE32, TARGET, -1, 0},
    {"user to conforming", VMFIX_PROT32, true, VMS_CONF32, TARGET, -1, 0},
    {"user to kernel", VMFIX_PROT32, true, VMS_CODE32, TARGET, VEC_GP, VMS_CODE32},
    {"RPL above CPL", VMFIX_PROT32, false, VMS_CODE32 | 3, TARGET, VEC_GP, VMS_CODE32},
    {"null", VMFIX_PROT32, false, 3, TARGET, VEC_GP, 0},
    {"data", VMFIX_PROT32, false, VMS_DATA, TARGET, VEC_GP, VMS_DATA},
    {"absent", VMFIX_PROT32, false, VMS_NP_CODE, TARGET, VEC_NP, VMS_NP_CODE},
    {"beyond the limit", VMFIX_PROT32, false, VMS_CODE16, 0x10000, VEC_GP, 0},
    {"non-canonical", VMFIX_LONG, false, VMS_CODE64, NONCANON, VEC_GP, 0},
    {"TSS in long mode", VMFIX_LONG, false, VMS_TSS, 0, VEC_GP, VMS_TSS},
    {"LDT", VMFIX_PROT32, false, VMS_LDT, 0, VEC_GP, VMS_LDT},
};

Test(far, jump, .fini = down)
{
    for (size_t i = 0; i < sizeof(jump_cases) / sizeof(jump_cases[0]); i++) {
        const struct far_case *t = &jump_cases[i];
        struct cpu *c;
        int rc;

        if (i)
            down();
        vmf_create(&f, t->mode);
        c = &f.v->cpu;
        if (t->user)
            vmf_user(&f);
        rc = cpu_far_jump(f.v, t->sel, t->off, t->mode == VMFIX_LONG ? 8 : 4, 0);
        if (t->vector >= 0) {
            cr_assert_eq(rc, CPU_FAULT, "%s", t->name);
            cr_assert_eq(c->exc.vector, t->vector, "%s: %u", t->name, c->exc.vector);
            cr_assert_eq(c->exc.error, t->error, "%s: %x", t->name, c->exc.error);
            cr_assert_eq(c->rip, VMF_CODE);
        } else {
            cr_assert_eq(rc, CPU_OK, "%s", t->name);
            cr_assert_eq(c->rip, t->off);
            cr_assert_eq(c->seg[SEG_CS].sel, (t->sel & ~3) | c->cpl);
        }
    }
}

Test(far, call_and_return, .fini = down)
{
    struct cpu *c;

    for (unsigned m = VMFIX_PROT32; m <= VMFIX_LONG; m++) {
        if (m != VMFIX_PROT32)
            down();
        vmf_create(&f, (enum vmfix_mode)m);
        c = &f.v->cpu;
        uint16_t cs = c->seg[SEG_CS].sel;

        for (unsigned size = 2; size <= (m == VMFIX_LONG ? 8u : 4u); size *= 2) {
            uint64_t next = size == 2 ? 0x4007 : VMF_CODE + 7;

            cr_assert_eq(cpu_far_call(f.v, cs, TARGET & 0xffff, size, next), CPU_OK);
            cr_assert_eq(c->gpr[RSP], VMF_STACK - 2 * size);
            cr_assert_eq(vmf_peek(&f, c->gpr[RSP], size), next);
            cr_assert_eq(vmf_peek(&f, c->gpr[RSP] + size, size), cs);
            cr_assert_eq(cpu_far_ret(f.v, size, 24), CPU_OK);
            cr_assert_eq(c->rip, next);
            cr_assert_eq(c->gpr[RSP], VMF_STACK + 24);
            c->gpr[RSP] = VMF_STACK;
        }
    }
}

/* A legacy call gate copies its parameters to the inner stack; RETF n drops them from both. */
Test(far, call_gate_legacy, .fini = down)
{
    struct cpu *c;

    vmf_create(&f, VMFIX_PROT32);
    c = &f.v->cpu;
    vmf_user(&f);
    vmf_poke32(&f, VMF_USTACK, 0x11111111);
    vmf_poke32(&f, VMF_USTACK + 4, 0x22222222);
    vmf_gdt(&f, VMS_ROVER, vmf_gate_desc(0xec, VMS_CODE32, TARGET, 2));
    cr_assert_eq(cpu_far_call(f.v, VMS_ROVER | 3, 0, 4, VMF_CODE + 7), CPU_OK);
    cr_assert_eq(c->cpl, 0);
    cr_assert_eq(c->rip, TARGET);
    cr_assert_eq(c->seg[SEG_SS].sel, VMS_DATA);
    cr_assert_eq(c->gpr[RSP], VMF_RSP0 - 24);
    const uint32_t want[6] = {VMF_CODE + 7, VMS_UCODE32, 0x11111111,
                              0x22222222,   VMF_USTACK,  VMS_UDATA};

    for (unsigned i = 0; i < 6; i++)
        cr_assert_eq(vmf_peek(&f, VMF_RSP0 - 24 + 4 * i, 4), want[i], "slot %u", i);
    cr_assert_eq(cpu_far_ret(f.v, 4, 8), CPU_OK);
    cr_assert_eq(c->cpl, 3);
    cr_assert_eq(c->rip, VMF_CODE + 7);
    cr_assert_eq(c->gpr[RSP], VMF_USTACK + 8);
    cr_assert_eq(c->seg[SEG_SS].sel, VMS_UDATA);

    /* A jump through it cannot change the ring; a gate above us is closed. */
    cr_assert_eq(cpu_far_jump(f.v, VMS_ROVER | 3, 0, 4, 0), CPU_FAULT);
    cr_assert_eq(c->exc.error, VMS_CODE32);
    vmf_gdt(&f, VMS_ROVER, vmf_gate_desc(0x8c, VMS_CODE32, TARGET, 0));
    for (unsigned rpl = 0; rpl < 4; rpl += 3) {
        cr_assert_eq(cpu_far_call(f.v, (uint16_t)(VMS_ROVER | rpl), 0, 4, VMF_CODE + 7), CPU_FAULT);
        cr_assert_eq(c->exc.error, VMS_ROVER);
    }
}

Test(far, real_mode, .fini = down)
{
    struct cpu *c;

    vmf_create(&f, VMFIX_REAL);
    c = &f.v->cpu;
    cr_assert_eq(cpu_far_call(f.v, 0x1234, 0x10, 2, 0x8005), CPU_OK);
    cr_assert_eq(c->seg[SEG_CS].base, 0x12340);
    cr_assert_eq(vmf_peek(&f, 0xf000 - 4, 4), 0x8005);
    cr_assert_eq(cpu_far_jump(f.v, 0x100, 0x10000, 4, 0), CPU_FAULT);
    cr_assert_eq(c->exc.vector, VEC_GP);
    cr_assert_eq(cpu_far_call(f.v, 0x100, 0x10000, 4, 0), CPU_FAULT);
    cr_assert_eq(cpu_far_ret(f.v, 2, 2), CPU_OK);
    cr_assert_eq(c->rip, 0x8005);
    cr_assert_eq(c->seg[SEG_CS].sel, 0);
    cr_assert_eq(c->gpr[RSP], 0xf002);
}

Test(far, call_gate_long, .fini = down)
{
    struct cpu *c;

    vmf_create(&f, VMFIX_LONG);
    c = &f.v->cpu;
    vmf_user(&f);
    vmf_gdt(&f, VMS_ROVER, vmf_gate_desc(0xec, VMS_CODE64, 0x80000000, 2));
    vmf_gdt(&f, VMS_ROVER + 8, 0xffffffff);
    cr_assert_eq(cpu_far_call(f.v, VMS_ROVER | 3, 0, 8, VMF_CODE + 7), CPU_OK);
    cr_assert_eq(c->rip, 0xffffffff80000000);
    cr_assert_eq(c->gpr[RSP], VMF_RSP0 - 32);
    cr_assert_eq(vmf_peek(&f, VMF_RSP0 - 8, 8), VMS_UDATA);
    cr_assert_eq(vmf_peek(&f, VMF_RSP0 - 16, 8), VMF_USTACK);
    cr_assert_eq(vmf_peek(&f, VMF_RSP0 - 32, 8), VMF_CODE + 7);
    cr_assert_eq(c->seg[SEG_SS].sel, 0);
    cr_assert_eq(cpu_far_ret(f.v, 8, 0), CPU_OK);
    cr_assert_eq(c->gpr[RSP], VMF_USTACK);
    cr_assert_eq(c->cpl, 3);
    /* The type bits of the upper half must be 0; the target must be 64-bit code. */
    vmf_gdt(&f, VMS_ROVER + 8, 0xffffffff | (uint64_t)1 << 40);
    cr_assert_eq(cpu_far_call(f.v, VMS_ROVER | 3, 0, 8, 0), CPU_FAULT);
    cr_assert_eq(c->exc.error, VMS_ROVER);
    vmf_gdt(&f, VMS_ROVER + 8, 0);
    vmf_gdt(&f, VMS_ROVER, vmf_gate_desc(0xec, VMS_CODE32, 0x1000, 0));
    cr_assert_eq(cpu_far_call(f.v, VMS_ROVER | 3, 0, 8, 0), CPU_FAULT);
    cr_assert_eq(c->exc.error, VMS_CODE32);
}

/* --- segment loads and accesses --- */

Test(seg, load, .fini = down)
{
    static const struct {
        const char *name;
        enum vmfix_mode mode;
        bool user;
        unsigned seg;
        uint16_t sel;
        int vector;
        uint32_t error;
    } cases[] = {
        {"data", VMFIX_PROT32, false, SEG_DS, VMS_DATA, -1, 0},
        {"readable code", VMFIX_PROT32, false, SEG_ES, VMS_CODE32, -1, 0},
        {"null", VMFIX_PROT32, false, SEG_DS, 0, -1, 0},
        {"conforming code from ring 3", VMFIX_PROT32, true, SEG_DS, VMS_CONF32, -1, 0},
        {"kernel data from ring 3", VMFIX_PROT32, true, SEG_DS, VMS_DATA, VEC_GP, VMS_DATA},
        {"RPL above DPL", VMFIX_PROT32, false, SEG_DS, VMS_DATA | 3, VEC_GP, VMS_DATA},
        {"TSS", VMFIX_PROT32, false, SEG_DS, VMS_TSS, VEC_GP, VMS_TSS},
        {"absent", VMFIX_PROT32, false, SEG_DS, VMS_NP_CODE, VEC_NP, VMS_NP_CODE},
        {"execute-only", VMFIX_PROT32, false, SEG_DS, VMS_ROVER, VEC_GP, VMS_ROVER},
        {"no LDT", VMFIX_PROT32, false, SEG_DS, 4, VEC_GP, 4},
        {"SS", VMFIX_PROT32, false, SEG_SS, VMS_DATA, -1, 0},
        {"SS of another ring", VMFIX_PROT32, false, SEG_SS, VMS_UDATA, VEC_GP, VMS_UDATA & ~3},
        {"SS null, 32-bit", VMFIX_PROT32, false, SEG_SS, 0, VEC_GP, 0},
        {"SS null, 64-bit", VMFIX_LONG, false, SEG_SS, 0, -1, 0},
        {"SS null, ring 3", VMFIX_LONG, true, SEG_SS, 3, VEC_GP, 0},
        {"SS absent", VMFIX_LONG, false, SEG_SS, VMS_ROVER + 8, VEC_SS, VMS_ROVER + 8},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int rc;

        if (i)
            down();
        vmf_create(&f, cases[i].mode);
        f.v->cpu.ldtr.attr = SEG_NULL;
        vmf_gdt(&f, VMS_ROVER, vmf_desc(0, 0xffffffff, 0xc099));
        vmf_gdt(&f, VMS_ROVER + 8, vmf_desc(0, 0xffffffff, 0xc013));
        if (cases[i].user)
            vmf_user(&f);
        rc = seg_load(f.v, cases[i].seg, cases[i].sel);
        cr_assert_eq(rc, cases[i].vector < 0 ? CPU_OK : CPU_FAULT, "%s", cases[i].name);
        if (rc) {
            cr_assert_eq(f.v->cpu.exc.vector, cases[i].vector, "%s", cases[i].name);
            cr_assert_eq(f.v->cpu.exc.error, cases[i].error, "%s", cases[i].name);
        } else {
            cr_assert_eq(f.v->cpu.seg[cases[i].seg].sel, cases[i].sel);
        }
    }
}

Test(seg, tr_and_ldtr, .fini = down)
{
    struct cpu *c;

    vmf_create(&f, VMFIX_LONG);
    c = &f.v->cpu;
    vmf_poke64(&f, VMF_GDT + VMS_TSS + 8, 0xffff8880);
    vmf_poke64(&f, VMF_GDT + VMS_TSS + 8, 0xffff8880 | (uint64_t)1 << 40);
    cr_assert_eq(seg_load_tr(f.v, VMS_TSS), CPU_FAULT); /* a type in the upper half */
    cr_assert_eq(c->exc.error, VMS_TSS);
    vmf_poke64(&f, VMF_GDT + VMS_TSS + 8, 0xffff8880);
    c->gdtr.limit = VMS_TSS + 14; /* half a descriptor */
    cr_assert_eq(seg_load_tr(f.v, VMS_TSS), CPU_FAULT);
    cr_assert_eq(c->exc.error, VMS_TSS);
    c->gdtr.limit = VMS_LAST;
    cr_assert_eq(seg_load_tr(f.v, VMS_TSS), CPU_OK);
    cr_assert_eq(c->tr.base, 0xffff888000000000 | VMF_TSS);
    cr_assert_eq(c->tr.attr & 0xff, 0x8b);
    cr_assert_eq(vmf_peek(&f, VMF_GDT + VMS_TSS + 5, 1), 0x8b);
    cr_assert_eq(seg_load_tr(f.v, VMS_TSS), CPU_FAULT); /* busy now */
    cr_assert_eq(c->exc.error, VMS_TSS);
    vmf_poke64(&f, VMF_GDT + VMS_LDT + 8, 0x00008000); /* not canonical */
    cr_assert_eq(seg_load_ldtr(f.v, VMS_LDT), CPU_FAULT);
    vmf_poke64(&f, VMF_GDT + VMS_LDT + 8, 0);
    cr_assert_eq(seg_load_ldtr(f.v, VMS_LDT), CPU_OK);
    vmf_poke64(&f, VMF_LDT + 8, vmf_desc(0x1000, 0xffff, 0x4093));
    cr_assert_eq(seg_load(f.v, SEG_FS, 0x0c), CPU_OK);
    cr_assert_eq(c->seg[SEG_FS].base, 0x1000);
    cr_assert_eq(seg_load_ldtr(f.v, 0), CPU_OK);
    cr_assert_eq(seg_load(f.v, SEG_FS, 0x0c), CPU_FAULT);
    cr_assert_eq(c->exc.error, 0x0c);
}

Test(seg, linear, .fini = down)
{
    static const struct {
        enum vmfix_mode mode;
        unsigned seg, size, acc;
        uint64_t ea, lin;
        int vector;
    } cases[] = {
        {VMFIX_LONG, SEG_DS, 8, ACC_READ, 0x1234, 0x1234, -1},
        {VMFIX_LONG, SEG_FS, 8, ACC_READ, 0x1234, 0x101234, -1},
        {VMFIX_LONG, SEG_DS, 8, ACC_READ, NONCANON, 0, VEC_GP},
        {VMFIX_LONG, SEG_SS, 8, ACC_READ, NONCANON, 0, VEC_SS},
        {VMFIX_LONG, SEG_DS, 8, ACC_READ, NONCANON - 8, NONCANON - 8, -1},
        {VMFIX_LONG, SEG_DS, 8, ACC_READ, NONCANON - 7, 0, VEC_GP},
        {VMFIX_PROT32, SEG_DS, 4, ACC_READ, 0xfffffffc, 0xfffffffc, -1},
        {VMFIX_PROT32, SEG_CS, 4, ACC_WRITE, 0, 0, VEC_GP},
        {VMFIX_PROT32, SEG_CS, 4, ACC_READ, 0, 0, -1},
        {VMFIX_PROT32, SEG_FS, 2, ACC_READ, 0xffe, 0x100ffe, -1},
        {VMFIX_PROT32, SEG_FS, 2, ACC_READ, 0xfff, 0, VEC_GP},
        {VMFIX_PROT32, SEG_GS, 2, ACC_READ, 0xfff, 0, VEC_GP}, /* expand-down */
        {VMFIX_PROT32, SEG_GS, 2, ACC_READ, 0x1000, 0x101000, -1},
        {VMFIX_PROT32, SEG_GS, 2, ACC_READ, 0xffff, 0, VEC_GP},
        {VMFIX_PROT32, SEG_ES, 1, ACC_READ, 0, 0, VEC_GP}, /* null */
        {VMFIX_REAL, SEG_DS, 2, ACC_READ, 0xfffe, 0xfffe, -1},
        {VMFIX_REAL, SEG_DS, 2, ACC_READ, 0xffff, 0, VEC_GP},
        {VMFIX_REAL, SEG_SS, 2, ACC_READ, 0xffff, 0, VEC_SS},
        {VMFIX_REAL, SEG_CS, 2, ACC_WRITE, 0x10, 0x10, -1},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        gva_t lin = 0;
        int rc;

        if (i)
            down();
        vmf_create(&f, cases[i].mode);
        if (cases[i].mode != VMFIX_REAL) {
            seg_from_descriptor(&f.v->cpu.seg[SEG_FS], 8, vmf_desc(0x100000, 0xfff, 0x4093));
            seg_from_descriptor(&f.v->cpu.seg[SEG_GS], 8, vmf_desc(0x100000, 0xfff, 0x0097));
            seg_load(f.v, SEG_ES, 0);
        }
        rc = seg_linear(f.v, cases[i].seg, cases[i].ea, cases[i].size, cases[i].acc, &lin);
        cr_assert_eq(rc, cases[i].vector < 0 ? CPU_OK : CPU_FAULT, "%zu", i);
        if (rc)
            cr_assert_eq(f.v->cpu.exc.vector, cases[i].vector, "%zu", i);
        else
            cr_assert_eq(lin, cases[i].lin, "%zu: %lx", i, lin);
    }
}

Test(seg, lar_lsl_verr, .fini = down)
{
    uint32_t out = 0;
    bool ok;

    vmf_create(&f, VMFIX_LONG);
    vmf_user(&f);
    cr_assert_eq(seg_lar(f.v, VMS_UDATA, &out, &ok), CPU_OK);
    cr_assert(ok);
    cr_assert_eq(out, 0xc0f300u);
    cr_assert_eq(seg_lsl(f.v, VMS_UDATA, &out, &ok), CPU_OK);
    cr_assert(ok);
    cr_assert_eq(out, 0xffffffffu);
    const uint16_t hidden[] = {0, VMS_DATA, VMS_TSS, 0x1000, 0x0c};

    for (unsigned i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
        seg_lar(f.v, hidden[i], &out, &ok);
        cr_assert_not(ok, "%x", hidden[i]);
        seg_lsl(f.v, hidden[i], &out, &ok);
        cr_assert_not(ok, "%x", hidden[i]);
        seg_verify(f.v, hidden[i], false, &ok);
        cr_assert_not(ok, "%x", hidden[i]);
    }
    seg_verify(f.v, VMS_UDATA, true, &ok);
    cr_assert(ok);
    seg_verify(f.v, VMS_UCODE64, true, &ok);
    cr_assert_not(ok);
    seg_verify(f.v, VMS_UCODE64, false, &ok);
    cr_assert(ok);
    f.v->cpu.cpl = 0;
    seg_lsl(f.v, VMS_TSS, &out, &ok);
    cr_assert(ok);
    cr_assert_eq(out, 0x67);
}
