/* Delivery of exceptions and interrupts, and the returns from them, in every mode. */
#include <criterion/criterion.h>
#include "tests/vmfix.h"

#define HANDLER   0x11000u
#define NONCANON  0x800000000000u
#define FLAGS_ALL (FL_R1 | FL_IF | FL_TF | FL_NT | FL_CF | FL_AC)

static struct vmfix f;

static void down(void)
{
    vmf_destroy(&f);
}

static int raise_exc(uint8_t vector, bool has_error, uint32_t error, uint64_t cr2)
{
    f.v->cpu.exc =
        (struct exception){.vector = vector, .has_error = has_error, .error = error, .cr2 = cr2};
    return cpu_deliver_exception(f.v);
}

/* --- long mode: where the frame goes and what is in it --- */

enum how { EXC, EXC_ERR, IRQ, SOFT };

static const struct long_case {
    const char *name;
    enum how how;
    uint8_t vector, access, ist;
    bool user;
    uint16_t target;
    uint64_t rsp_in, rsp_top; /* RSP before; where the frame starts (its top) */
    bool rf, if_after;
} long_cases[] = {
    {"fault, same ring", EXC, VEC_UD, 0x8e, 0, false, VMS_CODE64, 0x20000, 0x20000, true, false},
    {"unaligned stack", EXC, VEC_UD, 0x8e, 0, false, VMS_CODE64, 0x20009, 0x20000, true, false},
    {"error code", EXC_ERR, VEC_GP, 0x8e, 0, false, VMS_CODE64, 0x20000, 0x20000, true, false},
    {"trap gate keeps IF", EXC, VEC_UD, 0x8f, 0, false, VMS_CODE64, 0x20000, 0x20000, true, true},
    {"#DB pushes RF as it is", EXC, VEC_DB, 0x8e, 0, false, VMS_CODE64, 0x20000, 0x20000, false,
     false},
    {"interrupt", IRQ, 0x30, 0x8e, 0, false, VMS_CODE64, 0x20000, 0x20000, false, false},
    {"IST", IRQ, 0x30, 0x8e, 1, false, VMS_CODE64, 0x20000, VMF_IST1, false, false},
    {"from user: RSP0", IRQ, 0x30, 0x8e, 0, true, VMS_CODE64, 0x30008, VMF_RSP0, false, false},
    {"from user: IST", EXC_ERR, VEC_PF, 0x8e, 1, true, VMS_CODE64, 0x30008, VMF_IST1, true, false},
    {"from user to ring 1", IRQ, 0x30, 0x8e, 0, true, VMS_CODE1, 0x30000, VMF_RSP0 + 0x1000, false,
     false},
    {"INT n", SOFT, 0x80, 0xee, 0, true, VMS_CODE64, 0x30000, VMF_RSP0, false, false},
};

Test(long_mode, frames, .fini = down)
{
    for (size_t i = 0; i < sizeof(long_cases) / sizeof(long_cases[0]); i++) {
        const struct long_case *t = &long_cases[i];
        unsigned dpl = (t->target >> 0) & 3, err = t->how == EXC_ERR;
        uint64_t want[6], rsp;
        struct cpu *c;

        if (i)
            down();
        vmf_create(&f, VMFIX_LONG);
        c = &f.v->cpu;
        if (t->user)
            vmf_user(&f);
        c->gpr[RSP] = t->rsp_in;
        c->rflags = FLAGS_ALL;
        vmf_gate64(&f, t->vector, t->access, t->target, 0xffffffff80011000, t->ist);
        want[5] = c->seg[SEG_SS].sel;
        want[4] = t->rsp_in;
        want[3] = FLAGS_ALL | (t->rf ? FL_RF : 0);
        want[2] = c->seg[SEG_CS].sel;
        want[1] = t->how == SOFT ? c->rip + 2 : c->rip;
        want[0] = 0x1234;
        if (t->how == IRQ)
            cr_assert_eq(cpu_deliver_interrupt(f.v, t->vector), CPU_OK, "%s", t->name);
        else if (t->how == SOFT)
            cr_assert_eq(cpu_soft_int(f.v, t->vector, c->rip + 2, true), CPU_OK, "%s", t->name);
        else
            cr_assert_eq(raise_exc(t->vector, err, 0x1234, 0x5000), CPU_OK, "%s", t->name);

        rsp = t->rsp_top - 40 - (err ? 8 : 0);
        cr_assert_eq(c->gpr[RSP], rsp, "%s: rsp %lx", t->name, c->gpr[RSP]);
        for (unsigned k = err ? 0 : 1; k < 6; k++, rsp += 8)
            cr_assert_eq(vmf_peek(&f, rsp, 8), want[k], "%s: slot %u: %lx", t->name, k,
                         vmf_peek(&f, rsp, 8));
        cr_assert_eq(c->rip, 0xffffffff80011000, "%s", t->name);
        cr_assert_eq(c->cpl, dpl, "%s", t->name);
        cr_assert_eq(c->seg[SEG_CS].sel, t->target, "%s", t->name);
        cr_assert_eq(c->rflags,
                     (FLAGS_ALL & ~(uint64_t)(FL_TF | FL_NT | (t->if_after ? 0 : FL_IF))), "%s",
                     t->name);
        if (t->user) { /* SS: null with the new CPL */
            cr_assert_eq(c->seg[SEG_SS].sel, dpl, "%s", t->name);
            cr_assert_eq(c->seg[SEG_SS].attr, SEG_NULL | dpl << 5);
        } else {
            cr_assert_eq(c->seg[SEG_SS].sel, VMS_DATA, "%s", t->name);
        }
        if (t->vector == VEC_PF)
            cr_assert_eq(c->cr2, 0x5000);
        cr_assert_eq(f.v->stats.irqs, t->how == IRQ);
        cr_assert_eq(t->vector < 32 ? f.v->stats.exceptions[t->vector] : 1, 1);
    }
}

/* From compatibility mode: the whole of RSP is pushed to, 8 bytes a slot. */
Test(long_mode, from_compat, .fini = down)
{
    vmf_create(&f, VMFIX_COMPAT);
    vmf_gate64(&f, 0x30, 0x8e, VMS_CODE64, HANDLER, 0);
    f.v->cpu.gpr[RSP] = 0x20004;
    cr_assert_eq(cpu_deliver_interrupt(f.v, 0x30), CPU_OK);
    cr_assert(cpu_code64(&f.v->cpu));
    cr_assert_eq(f.v->cpu.gpr[RSP], 0x20000 - 40);
    cr_assert_eq(vmf_peek(&f, 0x20000 - 32, 8), VMS_CODE32);
}

/* --- what goes wrong on the way: INT n, whose faults come back to the caller --- */

static const struct gate_fault {
    const char *name;
    uint8_t access;
    uint16_t sel;
    uint64_t off;
    uint8_t ist, vector;
    uint32_t error;
} gate_faults[] = {
    {"not a gate", 0x8c, VMS_CODE64, HANDLER, 0, VEC_GP, 0x80 * 8 + 2},
    {"32-bit task gate", 0x85, VMS_CODE64, HANDLER, 0, VEC_GP, 0x80 * 8 + 2},
    {"DPL below CPL", 0x8e, VMS_CODE64, HANDLER, 0, VEC_GP, 0x80 * 8 + 2},
    {"not present", 0x6e, VMS_CODE64, HANDLER, 0, VEC_NP, 0x80 * 8 + 2},
    {"null CS", 0xee, 3, HANDLER, 0, VEC_GP, 0},
    {"CS beyond the GDT", 0xee, 0x1000, HANDLER, 0, VEC_GP, 0x1000},
    {"CS in no LDT", 0xee, 0x0c, HANDLER, 0, VEC_GP, 0x0c},
    {"data for CS", 0xee, VMS_DATA, HANDLER, 0, VEC_GP, VMS_DATA},
    {"32-bit code", 0xee, VMS_CODE32, HANDLER, 0, VEC_GP, VMS_CODE32},
    {"absent code", 0xee, VMS_NP_CODE, HANDLER, 0, VEC_NP, VMS_NP_CODE},
    {"non-canonical RIP", 0xee, VMS_CODE64, NONCANON, 0, VEC_GP, 0},
    {"non-canonical IST", 0xee, VMS_CODE64, HANDLER, 2, VEC_SS, 0},
    {"unmapped IST", 0xee, VMS_CODE64, HANDLER, 3, VEC_PF, PF_W},
};

Test(long_mode, gate_faults, .fini = down)
{
    vmf_create(&f, VMFIX_LONG);
    vmf_user(&f);
    vmf_poke64(&f, VMF_TSS + 44, NONCANON);
    vmf_poke64(&f, VMF_TSS + 52, 0x4000000000);
    for (size_t i = 0; i < sizeof(gate_faults) / sizeof(gate_faults[0]); i++) {
        const struct gate_fault *t = &gate_faults[i];
        struct cpu before;

        vmf_gate64(&f, 0x80, t->access, t->sel, t->off, t->ist);
        f.v->cpu.exc = (struct exception){0};
        before = f.v->cpu;
        cr_assert_eq(cpu_soft_int(f.v, 0x80, VMF_CODE + 2, true), CPU_FAULT, "%s", t->name);
        cr_assert_eq(f.v->cpu.exc.vector, t->vector, "%s: %u", t->name, f.v->cpu.exc.vector);
        cr_assert_eq(f.v->cpu.exc.error, t->error, "%s: %x", t->name, f.v->cpu.exc.error);
        before.exc = f.v->cpu.exc;
        cr_assert_eq(memcmp(&before, &f.v->cpu, sizeof(before)), 0, "%s: state changed", t->name);
    }
    /* The IDT's and the TSS's limits. */
    vmf_gate64(&f, 0x80, 0xee, VMS_CODE64, HANDLER, 0);
    f.v->cpu.idtr.limit = 0x80 * 16 + 14;
    cr_assert_eq(cpu_soft_int(f.v, 0x80, VMF_CODE + 2, true), CPU_FAULT);
    cr_assert_eq(f.v->cpu.exc.error, 0x80 * 8 + 2);
    f.v->cpu.idtr.limit = 0xfff;
    f.v->cpu.tr.limit = 10;
    cr_assert_eq(cpu_soft_int(f.v, 0x80, VMF_CODE + 2, true), CPU_FAULT);
    cr_assert_eq(f.v->cpu.exc.vector, VEC_TS);
    cr_assert_eq(f.v->cpu.exc.error, VMS_TSS);
}

/* The accessed bit of the handler's code segment is set in memory. */
Test(long_mode, accessed_bit, .fini = down)
{
    vmf_create(&f, VMFIX_LONG);
    vmf_gdt(&f, VMS_ROVER, vmf_desc(0, 0xffffffff, 0xa09a));
    vmf_gate64(&f, 0x30, 0x8e, VMS_ROVER, HANDLER, 0);
    cr_assert_eq(cpu_deliver_interrupt(f.v, 0x30), CPU_OK);
    cr_assert_eq(vmf_peek(&f, VMF_GDT + VMS_ROVER + 5, 1), 0x9b);
    cr_assert_eq(f.v->cpu.seg[SEG_CS].attr, 0xa09bu);
}

/* --- nested faults: SDM 3A table 6-5 --- */

static const struct nested {
    const char *name;
    uint8_t first;
    bool irq;
    uint8_t absent[4]; /* gates that are not there */
    int delivered;     /* vector whose handler runs; -1: shutdown */
    uint32_t error;
} nested_cases[] = {
    {"benign then #NP", VEC_UD, false, {VEC_UD}, VEC_NP, VEC_UD * 8 + 3},
    {"interrupt then #NP", 0x30, true, {0x30}, VEC_NP, 0x30 * 8 + 3},
    {"interrupt, #NP, #DF", 0x30, true, {0x30, VEC_NP}, VEC_DF, 0},
    {"contributory twice", VEC_GP, false, {VEC_GP}, VEC_DF, 0},
    {"#PF then contributory", VEC_PF, false, {VEC_PF}, VEC_DF, 0},
    {"#DF fails", VEC_GP, false, {VEC_GP, VEC_DF}, -1, 0},
    {"#DE then #NP", VEC_DE, false, {VEC_DE + 32}, VEC_DE, 0},
};

static uint64_t handler_of(unsigned vec)
{
    return HANDLER + vec * 16;
}

Test(nested, table, .fini = down)
{
    for (size_t i = 0; i < sizeof(nested_cases) / sizeof(nested_cases[0]); i++) {
        const struct nested *t = &nested_cases[i];
        uint64_t ud2 = 0x0b0f;
        int rc;

        if (i)
            down();
        vmf_create(&f, VMFIX_LONG);
        vmf_poke64(&f, VMF_CODE, ud2);
        for (unsigned vec = 0; vec < 0x40; vec++)
            vmf_gate64(&f, vec, 0x8e, VMS_CODE64, handler_of(vec), 0);
        for (unsigned k = 0; k < 4 && t->absent[k]; k++)
            vmf_gate64(&f, t->absent[k], 0x0e, VMS_CODE64, 0, 0);
        rc = t->irq ? cpu_deliver_interrupt(f.v, t->first)
                    : raise_exc(t->first, t->first >= VEC_TS, 0, 0x7000);
        if (t->delivered < 0) {
            cr_assert_eq(rc, CPU_FAULT, "%s", t->name);
            cr_assert_eq(f.v->exit.reason, EXIT_SHUTDOWN);
            cr_assert_eq(f.v->exit.rip, VMF_CODE);
            cr_assert_eq(f.v->exit.nbytes, 15);
            cr_assert_eq(memcmp(f.v->exit.bytes, &ud2, 8), 0);
            continue;
        }
        cr_assert_eq(rc, CPU_OK, "%s", t->name);
        cr_assert_eq(f.v->cpu.rip, handler_of((unsigned)t->delivered), "%s: %lx", t->name,
                     f.v->cpu.rip);
        if (t->delivered != VEC_DE)
            cr_assert_eq(vmf_peek(&f, f.v->cpu.gpr[RSP], 8), t->error, "%s", t->name);
        if (t->first == VEC_PF)
            cr_assert_eq(f.v->cpu.cr2, 0x7000);
    }
}

/* Contributory then #PF is served as the #PF; #PF then #PF is #DF, with the second address. */
Test(nested, page_faults, .fini = down)
{
    vmf_create(&f, VMFIX_LONG);
    for (unsigned vec = 0; vec < 0x40; vec++)
        vmf_gate64(&f, vec, 0x8e, VMS_CODE64, handler_of(vec), 0);
    vmf_gate64(&f, VEC_GP, 0x8e, VMS_CODE64, handler_of(VEC_GP), 3);
    vmf_poke64(&f, VMF_TSS + 52, 0x4000000000);
    cr_assert_eq(raise_exc(VEC_GP, true, 0, 0), CPU_OK);
    cr_assert_eq(f.v->cpu.rip, handler_of(VEC_PF));
    cr_assert_eq(f.v->cpu.cr2, 0x4000000000 - 48);

    f.v->cpu.rip = VMF_CODE;
    vmf_gate64(&f, VEC_PF, 0x8e, VMS_CODE64, handler_of(VEC_PF), 3);
    cr_assert_eq(raise_exc(VEC_PF, true, 2, 0x1234), CPU_OK);
    cr_assert_eq(f.v->cpu.rip, handler_of(VEC_DF));
    cr_assert_eq(f.v->cpu.cr2, 0x4000000000 - 48);
}

Test(nmi, blocked_until_iret, .fini = down)
{
    vmf_create(&f, VMFIX_LONG);
    vmf_gate64(&f, VEC_NMI, 0x8e, VMS_CODE64, HANDLER, 1);
    f.v->cpu.int_shadow = 1;
    f.v->cpu.halted = true;
    cr_assert_eq(cpu_deliver_interrupt(f.v, VEC_NMI), CPU_OK);
    cr_assert(f.v->cpu.nmi_blocked);
    cr_assert_not(f.v->cpu.halted);
    cr_assert_eq(f.v->cpu.int_shadow, 0);
    cr_assert_eq(cpu_iret(f.v, 8), CPU_OK);
    cr_assert_not(f.v->cpu.nmi_blocked);
    cr_assert_eq(f.v->cpu.rip, VMF_CODE);
    cr_assert_eq(f.v->cpu.gpr[RSP], VMF_STACK);
    /* Also when it faults (SDM 3A 6.7.1). */
    f.v->cpu.nmi_blocked = true;
    f.v->cpu.rflags |= FL_NT;
    cr_assert_eq(cpu_iret(f.v, 8), CPU_FAULT);
    cr_assert_eq(f.v->cpu.exc.vector, VEC_GP);
    cr_assert_not(f.v->cpu.nmi_blocked);
}

/* --- real mode --- */

Test(real_mode, ivt, .fini = down)
{
    struct cpu *c;

    vmf_create(&f, VMFIX_REAL);
    c = &f.v->cpu;
    c->rflags = FL_R1 | FL_IF | FL_TF | FL_AC;
    vmf_poke16(&f, 0x10 * 4, 0x1234);
    vmf_poke16(&f, 0x10 * 4 + 2, 0x0700);
    cr_assert_eq(cpu_soft_int(f.v, 0x10, 0x8002, true), CPU_OK);
    cr_assert_eq(c->rip, 0x1234);
    cr_assert_eq(c->seg[SEG_CS].base, 0x7000);
    cr_assert_eq(c->gpr[RSP], 0xf000 - 6);
    cr_assert_eq(vmf_peek(&f, 0xf000 - 6, 2), 0x8002);
    cr_assert_eq(vmf_peek(&f, 0xf000 - 4, 2), 0);
    cr_assert_eq(vmf_peek(&f, 0xf000 - 2, 2), FL_R1 | FL_IF | FL_TF);
    cr_assert_eq(c->rflags, FL_R1);
    cr_assert_eq(cpu_iret(f.v, 2), CPU_OK);
    cr_assert_eq(c->rip, 0x8002);
    cr_assert_eq(c->gpr[RSP], 0xf000);
    cr_assert_eq(c->rflags, FL_R1 | FL_IF | FL_TF);

    /* Beyond the IDT's limit: #GP, then #DF, whose vectors are beyond it too. */
    c->idtr.limit = 0x1f;
    cr_assert_eq(raise_exc(0x20, false, 0, 0), CPU_FAULT);
    cr_assert_eq(f.v->exit.reason, EXIT_SHUTDOWN);

    /* SP wraps between words. */
    c->idtr.limit = 0x3ff;
    c->gpr[RSP] = 0xabc0002;
    cr_assert_eq(cpu_soft_int(f.v, 0x10, 0x8002, true), CPU_OK);
    cr_assert_eq(c->gpr[RSP], 0xabcfffc);
    cr_assert_eq(vmf_peek(&f, 0xfffc, 2), 0x8002);
}

/* --- legacy protected mode --- */

static const struct legacy_case {
    const char *name;
    enum how how;
    uint8_t access;
    uint16_t target;
    bool user;
    unsigned size, slots;
    uint64_t top;
} legacy_cases[] = {
    {"32-bit, same ring", EXC, 0x8e, VMS_CODE32, false, 4, 3, VMF_STACK},
    {"32-bit, error code", EXC_ERR, 0x8e, VMS_CODE32, false, 4, 4, VMF_STACK},
    {"16-bit gate", EXC_ERR, 0x86, VMS_CODE32, false, 2, 4, VMF_STACK},
    {"from user", EXC_ERR, 0x8e, VMS_CODE32, true, 4, 6, VMF_RSP0},
    {"from user, 16-bit gate", EXC, 0x86, VMS_CODE32, true, 2, 5, VMF_RSP0},
    {"to ring 1", EXC, 0x8e, VMS_CODE1, true, 4, 5, VMF_RSP0 + 0x1000},
    {"conforming handler stays", EXC, 0x8e, VMS_CONF32, true, 4, 3, VMF_USTACK},
};

Test(legacy, frames, .fini = down)
{
    for (size_t i = 0; i < 2 * sizeof(legacy_cases) / sizeof(legacy_cases[0]); i++) {
        const struct legacy_case *t = &legacy_cases[i / 2];
        uint32_t flags = FL_R1 | FL_IF | FL_TF, mask = t->size == 2 ? 0xffff : 0xffffffff;
        uint64_t want[6], sp;
        unsigned n = 0;
        struct cpu *c;

        if (i)
            down();
        vmf_create(&f, i & 1 ? VMFIX_PAGE32 : VMFIX_PROT32);
        c = &f.v->cpu;
        if (t->user)
            vmf_user(&f);
        c->rflags = flags;
        vmf_gate32(&f, VEC_GP, t->access, t->target, HANDLER & mask);
        if (t->how == EXC_ERR)
            want[n++] = 0x48;
        want[n++] = c->rip & mask;
        want[n++] = c->seg[SEG_CS].sel;
        want[n++] = (flags | FL_RF) & mask;
        want[n++] = c->gpr[RSP] & mask;
        want[n++] = c->seg[SEG_SS].sel;
        cr_assert_eq(raise_exc(VEC_GP, t->how == EXC_ERR, 0x48, 0), CPU_OK, "%s", t->name);
        sp = t->top - t->slots * t->size;
        cr_assert_eq(c->gpr[RSP], sp, "%s: %lx", t->name, c->gpr[RSP]);
        for (unsigned k = 0; k < t->slots; k++, sp += t->size)
            cr_assert_eq(vmf_peek(&f, sp, t->size), want[k], "%s: slot %u: %lx", t->name, k,
                         vmf_peek(&f, sp, t->size));
        cr_assert_eq(c->rip, HANDLER & mask, "%s", t->name);
        cr_assert_eq(c->rflags, FL_R1, "%s", t->name);
        if (t->target == VMS_CODE1) {
            cr_assert_eq(c->seg[SEG_SS].sel, VMS_DATA1);
            cr_assert_eq(c->cpl, 1);
        }
        if (t->target == VMS_CONF32)
            cr_assert_eq(c->cpl, 3);
    }
}

Test(legacy, bad_inner_stacks, .fini = down)
{
    static const struct {
        uint16_t ss;
        uint8_t vector;
        uint32_t error;
    } cases[] = {
        {0, VEC_TS, 0},
        {VMS_UDATA, VEC_TS, VMS_UDATA & ~3},
        {VMS_DATA | 1, VEC_TS, VMS_DATA},
        {VMS_CODE32, VEC_TS, VMS_CODE32},
        {0x1000, VEC_TS, 0x1000},
        {VMS_ROVER, VEC_SS, VMS_ROVER},         /* not present */
        {VMS_ROVER + 8, VEC_SS, VMS_ROVER + 8}, /* no room */
    };

    vmf_create(&f, VMFIX_PROT32);
    vmf_user(&f);
    vmf_gate32(&f, 0x80, 0xee, VMS_CODE32, HANDLER);
    vmf_gdt(&f, VMS_ROVER, vmf_desc(0, 0xffffffff, 0xc013));
    vmf_gdt(&f, VMS_ROVER + 8, vmf_desc(0, 0x1000, 0x4093));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        vmf_poke32(&f, VMF_TSS + 8, cases[i].ss);
        cr_assert_eq(cpu_soft_int(f.v, 0x80, VMF_CODE + 2, true), CPU_FAULT, "%zu", i);
        cr_assert_eq(f.v->cpu.exc.vector, cases[i].vector, "%zu: %u", i, f.v->cpu.exc.vector);
        cr_assert_eq(f.v->cpu.exc.error, cases[i].error, "%zu: %x", i, f.v->cpu.exc.error);
        cr_assert_eq(f.v->cpu.gpr[RSP], VMF_USTACK);
        cr_assert_eq(f.v->cpu.cpl, 3);
    }
}

Test(legacy, limits, .fini = down)
{
    vmf_create(&f, VMFIX_PROT32);
    vmf_user(&f);
    vmf_gate32(&f, 0x80, 0xee, VMS_CODE32, HANDLER);
    f.v->cpu.idtr.limit = 0x80 * 8 + 6;
    cr_assert_eq(cpu_soft_int(f.v, 0x80, VMF_CODE + 2, true), CPU_FAULT);
    cr_assert_eq(f.v->cpu.exc.vector, VEC_GP);
    cr_assert_eq(f.v->cpu.exc.error, 0x80 * 8 + 2);
    f.v->cpu.idtr.limit++;
    f.v->cpu.tr.limit = 8; /* ESP0 fits, SS0 does not */
    cr_assert_eq(cpu_soft_int(f.v, 0x80, VMF_CODE + 2, true), CPU_FAULT);
    cr_assert_eq(f.v->cpu.exc.vector, VEC_TS);
    cr_assert_eq(f.v->cpu.exc.error, VMS_TSS);
    f.v->cpu.tr.limit = 9;
    vmf_gate32(&f, 0x80, 0xee, VMS_CODE16, 0x10000);
    cr_assert_eq(cpu_soft_int(f.v, 0x80, VMF_CODE + 2, true), CPU_FAULT);
    cr_assert_eq(f.v->cpu.exc.vector, VEC_GP);
    cr_assert_eq(f.v->cpu.exc.error, 0);
    vmf_gate32(&f, 0x80, 0xee, VMS_CODE16, 0xffff);
    cr_assert_eq(cpu_soft_int(f.v, 0x80, VMF_CODE + 2, true), CPU_OK);
}

/* Virtual-8086 mode: ten slots on the ring 0 stack, null data segments; IRET goes back. */
Test(legacy, v86, .fini = down)
{
    struct cpu *c, before;

    vmf_create(&f, VMFIX_PROT32);
    c = &f.v->cpu;
    c->rflags = FL_R1 | FL_IF | FL_VM;
    c->cpl = 3;
    for (unsigned i = 0; i < NSEG; i++)
        seg_load_real(c, i, (uint16_t)(0x100 + i));
    c->rip = 0x42;
    c->gpr[RSP] = 0x800;
    vmf_gate32(&f, 0x30, 0x8e, VMS_CODE32, HANDLER);
    before = *c;
    cr_assert_eq(cpu_deliver_interrupt(f.v, 0x30), CPU_OK);
    cr_assert_eq(c->cpl, 0);
    cr_assert_not(c->rflags & FL_VM);
    cr_assert_eq(c->gpr[RSP], VMF_RSP0 - 36);
    cr_assert_eq(vmf_peek(&f, VMF_RSP0 - 36, 4), 0x42);
    cr_assert_eq(vmf_peek(&f, VMF_RSP0 - 28, 4), FL_R1 | FL_IF | FL_VM);
    cr_assert_eq(vmf_peek(&f, VMF_RSP0 - 16, 4), 0x100 + SEG_ES);
    cr_assert_eq(vmf_peek(&f, VMF_RSP0 - 4, 4), 0x100 + SEG_GS);
    cr_assert(c->seg[SEG_DS].attr & SEG_NULL);
    cr_assert_eq(cpu_iret(f.v, 4), CPU_OK);
    cr_assert_eq(memcmp(&before, c, sizeof(before)), 0);

    /* IRET in virtual-8086 mode needs IOPL 3. */
    cr_assert_eq(cpu_iret(f.v, 2), CPU_FAULT);
    cr_assert_eq(c->exc.vector, VEC_GP);
    c->rflags |= FL_IOPL;
    cr_assert_eq(cpu_iret(f.v, 2), CPU_OK);
    cr_assert_eq(c->rflags & (FL_IOPL | FL_VM), FL_IOPL | FL_VM);
    /* A handler that is not ring 0 is #GP. */
    vmf_gate32(&f, 0x80, 0xee, VMS_CODE1, HANDLER);
    cr_assert_eq(cpu_soft_int(f.v, 0x80, 2, true), CPU_FAULT);
    cr_assert_eq(c->exc.error, VMS_CODE1 & ~3);
}

/* A task gate for #DF, and IRET back (SDM 3A 7.3). */
Test(legacy, task_gate, .fini = down)
{
    struct cpu *c;

    vmf_create(&f, VMFIX_PAGE32);
    c = &f.v->cpu;
    c->gpr[RBX] = 0xb0b;
    vmf_gate32(&f, VEC_DF, 0x85, VMS_TSS2, 0);
    vmf_poke32(&f, VMF_TSS2 + 0x1c, VMF_PD32);
    vmf_poke32(&f, VMF_TSS2 + 0x20, HANDLER);
    vmf_poke32(&f, VMF_TSS2 + 0x24, FL_R1);
    vmf_poke32(&f, VMF_TSS2 + 0x38, VMF_IST1); /* ESP */
    vmf_poke32(&f, VMF_TSS2 + 0x4c, VMS_CODE32);
    vmf_poke32(&f, VMF_TSS2 + 0x50, VMS_DATA);
    vmf_poke32(&f, VMF_TSS2 + 0x54, VMS_DATA);
    vmf_gdt(&f, VMS_TSS, vmf_desc(VMF_TSS, 0x67, 0x008b));
    vmf_poke32(&f, VMF_TSS + 0x1c, VMF_PD32);
    cr_assert_eq(raise_exc(VEC_DF, true, 0, 0), CPU_OK);
    cr_assert_eq(c->rip, HANDLER);
    cr_assert_eq(c->tr.sel, VMS_TSS2);
    cr_assert_eq(c->gpr[RSP], VMF_IST1 - 4); /* the error code */
    cr_assert(c->rflags & FL_NT);
    cr_assert(c->cr0 & CR0_TS);
    cr_assert_eq(vmf_peek(&f, VMF_TSS2, 2), VMS_TSS);
    cr_assert_eq(vmf_peek(&f, VMF_TSS + 0x20, 4), VMF_CODE);
    cr_assert_eq(vmf_peek(&f, VMF_TSS + 0x34, 4), 0xb0b);
    cr_assert_eq(vmf_peek(&f, VMF_GDT + VMS_TSS2 + 5, 1), 0x8b);
    cr_assert_eq(vmf_peek(&f, VMF_GDT + VMS_TSS + 5, 1), 0x8b);

    vmf_poke16(&f, HANDLER, 0xcf66);
    c->gpr[RSP] += 4;
    cr_assert_eq(cpu_iret(f.v, 4), CPU_OK);
    cr_assert_eq(c->rip, VMF_CODE);
    cr_assert_eq(c->tr.sel, VMS_TSS);
    cr_assert_eq(c->gpr[RBX], 0xb0b);
    cr_assert_eq(c->gpr[RSP], VMF_STACK);
    cr_assert_not(c->rflags & FL_NT);
    cr_assert_eq(vmf_peek(&f, VMF_GDT + VMS_TSS2 + 5, 1), 0x89);
    cr_assert_eq(vmf_peek(&f, VMF_TSS2 + 0x20, 4), HANDLER + 2);

    /* Far jump to a TSS; to a busy one #GP; back from the 16-bit world not needed here. */
    cr_assert_eq(cpu_far_jump(f.v, VMS_TSS, 0, 4, VMF_CODE + 7), CPU_FAULT);
    cr_assert_eq(c->exc.vector, VEC_GP);
    cr_assert_eq(c->exc.error, VMS_TSS);
    cr_assert_eq(cpu_far_jump(f.v, VMS_TSS2, 0, 4, VMF_CODE + 7), CPU_OK);
    cr_assert_eq(c->rip, HANDLER + 2);
    cr_assert_eq(vmf_peek(&f, VMF_GDT + VMS_TSS + 5, 1), 0x89);
    cr_assert_eq(vmf_peek(&f, VMF_TSS + 0x20, 4), VMF_CODE + 7);
}

/* SMAP lets a delivery push to a supervisor page only; the pushes are at the new CPL. */
Test(legacy, pushes_at_new_cpl, .fini = down)
{
    vmf_create(&f, VMFIX_PAGE32);
    vmf_user(&f);
    /* A kernel-only page at 4 MiB linear, back to 0. */
    vmf_poke32(&f, VMF_PD32 + 4, 0xe3);
    vmf_poke32(&f, VMF_TSS + 4, 0x400000 + VMF_RSP0);
    vmf_gate32(&f, 0x80, 0xee, VMS_CODE32, HANDLER);
    cr_assert_eq(cpu_soft_int(f.v, 0x80, VMF_CODE + 2, true), CPU_OK);
    cr_assert_eq(vmf_peek(&f, VMF_RSP0 - 20, 4), VMF_CODE + 2);
}
