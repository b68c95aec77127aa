/* IC_SYS of the 0F maps: system registers, descriptor tables, MSRs, time, fast system calls. */
#include "vcpu/interp_ops.h"

static int ud(struct vcpu *v)
{
    return cpu_raise(&v->cpu, VEC_UD);
}

/* Above CPL 0; real mode is CPL 0. */
static bool privileged(const struct vcpu *v)
{
    return v->cpu.cpl != 0;
}

static bool no_selectors(const struct cpu *c)
{
    return cpu_real_mode(c) || cpu_v86(c);
}

static bool umip(const struct cpu *c)
{
    return (c->cr4 & CR4_UMIP) && c->cpl != 0;
}

static uint64_t pair(const struct vcpu *v)
{
    return (v->cpu.gpr[RDX] << 32) | (uint32_t)v->cpu.gpr[RAX];
}

static int done_pair(struct vcpu *v, const struct insn *in, uint64_t val)
{
    v->cpu.gpr[RAX] = (uint32_t)val;
    v->cpu.gpr[RDX] = val >> 32;
    return op_done(v, in);
}

/* SLDT STR LLDT LTR VERR VERW */
static int group6(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    unsigned op = in->modrm >> 3 & 7;
    uint64_t sel;
    bool ok;

    if (no_selectors(c))
        return ud(v);
    if (op < 2) {
        if (umip(c))
            return cpu_gp0(c);
        sel = op ? c->tr.sel : c->ldtr.sel;
        if (op_write(v, in, in->has_mem ? 2 : op_size(in), sel) != CPU_OK)
            return CPU_FAULT;
        return op_done(v, in);
    }
    if (op < 4 && privileged(v))
        return cpu_gp0(c);
    if (op_read(v, in, 2, &sel) != CPU_OK)
        return CPU_FAULT;
    if (op < 4) {
        if ((op == 2 ? seg_load_ldtr : seg_load_tr)(v, (uint16_t)sel) != CPU_OK)
            return CPU_FAULT;
        return op_done(v, in);
    }
    if (seg_verify(v, (uint16_t)sel, op == 5, &ok) != CPU_OK)
        return CPU_FAULT;
    return op_done_flags(v, in, (c->rflags & ~(uint64_t)FL_ZF) | (ok ? FL_ZF : 0));
}

static int lar_lsl(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    uint64_t sel;
    uint32_t out;
    bool ok;

    if (no_selectors(c))
        return ud(v);
    if (op_read(v, in, 2, &sel) != CPU_OK ||
        (in->opcode == 2 ? seg_lar : seg_lsl)(v, (uint16_t)sel, &out, &ok) != CPU_OK)
        return CPU_FAULT;
    if (ok)
        op_set_gpr(v, in, in->reg, op_size(in), out);
    return op_done_flags(v, in, (c->rflags & ~(uint64_t)FL_ZF) | (ok ? FL_ZF : 0));
}

/* SGDT SIDT: all of the base is stored whatever the operand size, as processors do. */
static int store_table(struct vcpu *v, const struct insn *in, const struct dtr *t)
{
    unsigned bytes = in->mode == 8 ? 8 : 4;
    uint8_t image[10];
    gva_t lin;

    if (umip(&v->cpu))
        return cpu_gp0(&v->cpu);
    __builtin_memcpy(image, &t->limit, 2);
    __builtin_memcpy(image + 2, &t->base, 8);
    if (op_lin(v, in, 2 + bytes, ACC_WRITE, &lin) != CPU_OK ||
        mem_write(v, lin, image, 2 + bytes, ACC_WRITE) != CPU_OK)
        return CPU_FAULT;
    return op_done(v, in);
}

static int load_table(struct vcpu *v, const struct insn *in, struct dtr *t)
{
    unsigned bytes = in->mode == 8 ? 8 : 4;
    uint8_t image[10] = {0};
    uint64_t base;
    gva_t lin;

    if (privileged(v))
        return cpu_gp0(&v->cpu);
    if (op_lin(v, in, 2 + bytes, ACC_READ, &lin) != CPU_OK ||
        mem_read(v, lin, image, 2 + bytes, ACC_READ) != CPU_OK)
        return CPU_FAULT;
    __builtin_memcpy(&base, image + 2, 8);
    if (in->mode != 8 && op_size(in) == 2)
        base &= 0xffffff;
    if (in->mode == 8 && !canonical(base))
        return cpu_gp0(&v->cpu);
    t->base = base;
    __builtin_memcpy(&t->limit, image, 2);
    return op_done(v, in);
}

static int smsw(struct vcpu *v, const struct insn *in)
{
    if (umip(&v->cpu))
        return cpu_gp0(&v->cpu);
    if (op_write(v, in, in->has_mem ? 2 : op_size(in), v->cpu.cr0) != CPU_OK)
        return CPU_FAULT;
    return op_done(v, in);
}

/* LMSW writes PE MP EM TS and cannot clear PE. */
static int lmsw(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    uint64_t val;

    if (privileged(v))
        return cpu_gp0(c);
    if (op_read(v, in, 2, &val) != CPU_OK ||
        cpu_write_cr(v, 0, (c->cr0 & ~(uint64_t)0xe) | (val & 0xf)) != CPU_OK)
        return CPU_FAULT;
    return op_done(v, in);
}

static int invlpg(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    gva_t lin;

    if (privileged(v))
        return cpu_gp0(c);
    /* No segment check faults it; a non-canonical address is a no-op (SDM 2A INVLPG). */
    lin = op_ea(v, in);
    if (in->mode != 8)
        lin = (uint32_t)(lin + c->seg[in->seg].base);
    else if (in->seg >= SEG_FS)
        lin += c->seg[in->seg].base;
    if (canonical(lin))
        vcpu_note_invlpg(v, lin);
    return op_done(v, in);
}

/* INVPCID, where CPUID offers it: types 0-3 (SDM 2A). Of a PCID that is not the current one all
 * goes, which is more than type 0 asks for. */
static int invpcid(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    uint64_t type = op_gpr(v, in, in->reg, in->mode == 8 ? 8 : 4), d[2];
    gva_t lin;

    if (!cpuid_has(v->vm->cpuid, 7, 0, 1, 10))
        return ud(v);
    if (privileged(v))
        return cpu_gp0(c);
    if (op_lin(v, in, 16, ACC_READ, &lin) != CPU_OK || mem_read(v, lin, d, 16, ACC_READ) != CPU_OK)
        return CPU_FAULT;
    if (type > 3 || d[0] >> 12)
        return cpu_gp0(c);
    if (type < 2 && !(c->cr4 & CR4_PCIDE) && d[0])
        return cpu_gp0(c);
    if (type == 0) {
        if (!canonical(d[1]))
            return cpu_gp0(c);
        if (d[0] == v->tlb.pcid)
            vcpu_note_invlpg(v, d[1]);
        else
            vcpu_note_forget(v, (uint16_t)d[0]);
    } else if (type == 1 && d[0] != v->tlb.pcid) {
        vcpu_note_forget(v, (uint16_t)d[0]);
    } else if (type == 2) {
        vcpu_note_paging(v);
    } else {
        if (type == 3)
            vcpu_note_forget_all(v);
        vcpu_note_cr3(v);
    }
    return op_done(v, in);
}

static int xgetbv(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    uint32_t idx = (uint32_t)c->gpr[RCX];

    if (!(c->cr4 & CR4_OSXSAVE))
        return ud(v);
    if (idx == 0)
        return done_pair(v, in, c->xcr0);
    /* XINUSE: every enabled component may be in use. */
    if (idx == 1 && cpuid_has(v->vm->cpuid, 0xd, 1, 0, 2))
        return done_pair(v, in, c->xcr0 & XCR0_SUPPORTED);
    return cpu_gp0(c);
}

static int xsetbv(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;

    if (!(c->cr4 & CR4_OSXSAVE))
        return ud(v);
    if (privileged(v))
        return cpu_gp0(c);
    if (cpu_xsetbv(v, (uint32_t)c->gpr[RCX], pair(v)) != CPU_OK)
        return CPU_FAULT;
    return op_done(v, in);
}

static int clac_stac(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;

    if (privileged(v) || !cpuid_has(v->vm->cpuid, 7, 0, 1, 20))
        return ud(v);
    if (in->modrm & 1)
        c->rflags |= FL_AC;
    else
        c->rflags &= ~(uint64_t)FL_AC;
    return op_done(v, in);
}

static int rdtsc(struct vcpu *v, const struct insn *in, bool with_aux)
{
    struct cpu *c = &v->cpu;

    if (with_aux && !cpuid_has(v->vm->cpuid, 0x80000001, 0, 3, 27))
        return ud(v);
    if ((c->cr4 & CR4_TSD) && privileged(v))
        return cpu_gp0(c);
    if (with_aux)
        c->gpr[RCX] = (uint32_t)c->tsc_aux;
    return done_pair(v, in, vcpu_tsc(v));
}

/* VMCALL, VMMCALL: CPUID says KVM (cpuid.c), and KVM answers either, at CPL 0 with -KVM_ENOSYS what
 * it does not know and elsewhere with -KVM_EPERM (Linux,
 * Documentation/virt/kvm/x86/hypercalls.rst). */
static int hypercall(struct vcpu *v, const struct insn *in)
{
    int64_t result = privileged(v) ? -1 : -1000;

    op_set_gpr(v, in, RAX, in->mode == 8 ? 8 : 4, (uint64_t)result);
    return op_done(v, in);
}

/* 0F 01 */
static int group7(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;

    switch (in->modrm >> 3 & 7) {
    case 0:
        if (in->has_mem)
            return store_table(v, in, &c->gdtr);
        return in->modrm == 0xc1 ? hypercall(v, in) : ud(v); /* VMLAUNCH and kin: no VMX */
    case 1:
        if (in->has_mem)
            return store_table(v, in, &c->idtr);
        if (in->modrm == 0xca || in->modrm == 0xcb)
            return clac_stac(v, in);
        return ud(v); /* MONITOR, MWAIT: not offered */
    case 2:
        if (in->has_mem)
            return load_table(v, in, &c->gdtr);
        if (in->modrm == 0xd0)
            return xgetbv(v, in);
        return in->modrm == 0xd1 ? xsetbv(v, in) : ud(v);
    case 3:
        if (in->has_mem)
            return load_table(v, in, &c->idtr);
        return in->modrm == 0xd9 ? hypercall(v, in) : ud(v); /* VMRUN and kin: no SVM */
    case 4:
        return smsw(v, in);
    case 6:
        return lmsw(v, in);
    case 7:
        if (in->has_mem)
            return invlpg(v, in);
        if (in->modrm == 0xf8) {
            if (in->mode != 8)
                return ud(v);
            if (cpu_swapgs(v) != CPU_OK)
                return CPU_FAULT;
            return op_done(v, in);
        }
        return in->modrm == 0xf9 ? rdtsc(v, in, true) : ud(v);
    default:
        return ud(v);
    }
}

/* MOV to and from CR and DR: ModRM.mod is not looked at, the width is that of the mode. */
static int mov_cr_dr(struct vcpu *v, const struct insn *in)
{
    bool dr = in->opcode & 1, write = in->opcode & 2;
    unsigned size = in->mode == 8 ? 8 : 4;
    uint64_t val = op_gpr(v, in, in->rm, size);
    int rc;

    if (privileged(v))
        return cpu_gp0(&v->cpu);
    if (write)
        rc = dr ? cpu_write_dr(v, in->reg, val) : cpu_write_cr(v, in->reg, val);
    else
        rc = dr ? cpu_read_dr(v, in->reg, &val) : cpu_read_cr(v, in->reg, &val);
    if (rc != CPU_OK)
        return rc;
    if (!write)
        op_set_gpr(v, in, in->rm, size, val);
    return op_done(v, in);
}

static int msr(struct vcpu *v, const struct insn *in)
{
    uint32_t idx = (uint32_t)v->cpu.gpr[RCX];
    uint64_t val;

    if (privileged(v))
        return cpu_gp0(&v->cpu);
    if (in->opcode == 0x30) {
        if (cpu_wrmsr(v, idx, pair(v)) != CPU_OK)
            return CPU_FAULT;
        return op_done(v, in);
    }
    if (cpu_rdmsr(v, idx, &val) != CPU_OK)
        return CPU_FAULT;
    return done_pair(v, in, val);
}

static int cpuid(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    uint32_t out[4];

    cpu_cpuid(v, (uint32_t)c->gpr[RAX], (uint32_t)c->gpr[RCX], out);
    c->gpr[RAX] = out[0];
    c->gpr[RBX] = out[1];
    c->gpr[RCX] = out[2];
    c->gpr[RDX] = out[3];
    return op_done(v, in);
}

/* RDFSBASE RDGSBASE WRFSBASE WRGSBASE */
static int fsgsbase(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    unsigned op = in->modrm >> 3 & 7, size = op_size(in) == 8 ? 8 : 4;
    struct seg *s = &c->seg[op & 1 ? SEG_GS : SEG_FS];
    uint64_t val;

    if (in->mode != 8 || in->has_mem || op > 3 || !(c->cr4 & CR4_FSGSBASE))
        return ud(v);
    if (op < 2) {
        op_set_gpr(v, in, in->rm, size, s->base);
        return op_done(v, in);
    }
    val = op_gpr(v, in, in->rm, size);
    if (!canonical(val))
        return cpu_gp0(c);
    s->base = val;
    return op_done(v, in);
}

static int rdpid(struct vcpu *v, const struct insn *in)
{
    if (in->has_mem || !in->rep || !cpuid_has(v->vm->cpuid, 7, 0, 2, 22))
        return ud(v);
    op_set_gpr(v, in, in->rm, in->mode == 8 ? 8 : 4, (uint32_t)v->cpu.tsc_aux);
    return op_done(v, in);
}

static int cpl0_nop(struct vcpu *v, const struct insn *in)
{
    if (privileged(v))
        return cpu_gp0(&v->cpu);
    return op_done(v, in);
}

int interp_sys_0f(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;

    if (in->map == 2)
        return in->opcode == 0x82 ? invpcid(v, in) : ud(v);
    if (in->map != 1)
        return ud(v);
    switch (in->opcode) {
    case 0x00:
        return group6(v, in);
    case 0x01:
        return group7(v, in);
    case 0x02:
    case 0x03:
        return lar_lsl(v, in);
    case 0x05:
        return cpu_syscall(v, op_next(v, in));
    case 0x06:
        if (privileged(v))
            return cpu_gp0(c);
        if (cpu_write_cr(v, 0, c->cr0 & ~(uint64_t)CR0_TS) != CPU_OK)
            return CPU_FAULT;
        return op_done(v, in);
    case 0x07:
        return cpu_sysret(v, op_size(in));
    case 0x08:
    case 0x09:
        return cpl0_nop(v, in); /* INVD, WBINVD: caches are coherent with everything there is */
    case 0x20 ... 0x23:
        return mov_cr_dr(v, in);
    case 0x30:
    case 0x32:
        return msr(v, in);
    case 0x31:
        return rdtsc(v, in, false);
    case 0x33:
        return cpu_gp0(c); /* RDPMC: no counter exists */
    case 0x34:
        return cpu_sysenter(v);
    case 0x35:
        return cpu_sysexit(v, op_size(in));
    case 0xa0:
        return interp_push_seg(v, in, SEG_FS);
    case 0xa8:
        return interp_push_seg(v, in, SEG_GS);
    case 0xa1:
        return interp_pop_seg(v, in, SEG_FS);
    case 0xa9:
        return interp_pop_seg(v, in, SEG_GS);
    case 0xa2:
        return cpuid(v, in);
    case 0xae:
        return fsgsbase(v, in);
    case 0xb2:
        return interp_load_far(v, in, SEG_SS);
    case 0xb4:
        return interp_load_far(v, in, SEG_FS);
    case 0xb5:
        return interp_load_far(v, in, SEG_GS);
    case 0xc7:
        return rdpid(v, in);
    default:
        return ud(v);
    }
}
