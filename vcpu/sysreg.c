/* Control and debug registers, XCR0, and the fast system calls. SDM 3A chapter 2, 4.1, 9.8.5;
 * SDM 2A-2D the instructions. */
#include "vcpu/system.h"
#include "vcpu/watch.h"

#define CR0_KNOWN                                                                              \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | \
     CR0_PG)

int cpu_read_cr(struct vcpu *v, unsigned cr, uint64_t *val)
{
    struct cpu *c = &v->cpu;

    switch (cr) {
    case 0:
        *val = c->cr0;
        return CPU_OK;
    case 2:
        *val = c->cr2;
        return CPU_OK;
    case 3:
        *val = c->cr3;
        return CPU_OK;
    case 4:
        *val = c->cr4;
        return CPU_OK;
    case 8:
        *val = lapic_get_cr8(v);
        return CPU_OK;
    default:
        return cpu_raise(c, VEC_UD);
    }
}

int cpu_load_pdptes(struct vcpu *v, uint64_t cr3, uint64_t out[4])
{
    uint64_t reserved = ~(((uint64_t)1 << v->vm->maxphyaddr) - 1) | 0x1e6;

    /* A table outside RAM reads as not present, as in walk(). */
    if (ram_read(v->vm->ram, cr3 & 0xffffffe0u, out, 32))
        out[0] = out[1] = out[2] = out[3] = 0;
    for (unsigned i = 0; i < 4; i++)
        if ((out[i] & 1) && (out[i] & reserved))
            return cpu_gp0(&v->cpu);
    return CPU_OK;
}

/* Load the PDPTEs for the control registers about to be in force, when they are used. */
static int reload_pdptes(struct vcpu *v, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer)
{
    struct cpu *c = &v->cpu;
    uint64_t p[4];

    if (!pae_paging(cr0, cr4, efer))
        return CPU_OK;
    if (cpu_load_pdptes(v, cr3, p))
        return CPU_FAULT;
    for (unsigned i = 0; i < 4; i++)
        c->pdpte[i] = p[i];
    return CPU_OK;
}

static int write_cr0(struct vcpu *v, uint64_t val)
{
    struct cpu *c = &v->cpu;
    uint64_t efer = c->efer, changed;

    if (val >> 32)
        return cpu_gp0(c);
    val = (val & CR0_KNOWN) | CR0_ET;
    changed = c->cr0 ^ val;
    if ((val & CR0_PG) && !(val & CR0_PE))
        return cpu_gp0(c);
    if ((val & CR0_NW) && !(val & CR0_CD))
        return cpu_gp0(c);
    if (changed & CR0_PG) {
        if (val & CR0_PG) {
            if (efer & EFER_LME) {
                unsigned tss = SEG_TYPE(c->tr.attr);

                /* SDM 3A 9.8.5.1, 9.8.5.4 */
                if (!(c->cr4 & CR4_PAE) || (c->seg[SEG_CS].attr & SEG_L))
                    return cpu_gp0(c);
                if (!(c->tr.attr & SEG_NULL) && (tss == SYS_TSS16 || tss == SYS_TSS16_BUSY))
                    return cpu_gp0(c);
                efer |= EFER_LMA;
            }
        } else {
            if (cpu_code64(c) || (c->cr4 & CR4_PCIDE))
                return cpu_gp0(c);
            efer &= ~(uint64_t)EFER_LMA;
        }
    }
    /* SDM 3A 4.4.1 */
    if ((changed & (CR0_PG | CR0_CD | CR0_NW)) && reload_pdptes(v, val, c->cr3, c->cr4, efer))
        return CPU_FAULT;
    c->cr0 = val;
    c->efer = efer;
    if (changed & CR0_PE)
        c->cpl = 0;
    if (changed & (CR0_PE | CR0_PG | CR0_WP))
        vcpu_note_paging(v);
    return CPU_OK;
}

static int write_cr3(struct vcpu *v, uint64_t val)
{
    struct cpu *c = &v->cpu;
    bool pcide = c->cr4 & CR4_PCIDE, keep = pcide && val >> 63;

    if (keep)
        val &= ~(uint64_t)0 >> 1;
    if (cpu_long_mode(c)) {
        if (val >> v->vm->maxphyaddr)
            return cpu_gp0(c);
    } else if (reload_pdptes(v, c->cr0, val, c->cr4, c->efer)) {
        return CPU_FAULT;
    }
    c->cr3 = val;
    if (pcide)
        vcpu_note_pcid(v, val & 0xfff, keep);
    else
        vcpu_note_cr3(v);
    return CPU_OK;
}

/* CR4 bits with the CPUID feature that offers each; a bit without one is always there. */
static const struct {
    uint32_t bits, leaf;
    uint8_t reg, bit;
} cr4_rows[] = {
    {CR4_TSD | CR4_PCE | CR4_OSXMMEXCPT, 0, 0, 0},
    {CR4_DE, 1, 3, 2},
    {CR4_PSE, 1, 3, 3},
    {CR4_PAE, 1, 3, 6},
    {CR4_MCE, 1, 3, 7},
    {CR4_PGE, 1, 3, 13},
    {CR4_OSFXSR, 1, 3, 24},
    {CR4_UMIP, 7, 2, 2},
    {CR4_FSGSBASE, 7, 1, 0},
    {CR4_PCIDE, 1, 2, 17},
    {CR4_OSXSAVE, 1, 2, 26},
    {CR4_SMEP, 7, 1, 7},
    {CR4_SMAP, 7, 1, 20},
};

static uint64_t cr4_offered(const struct vcpu *v)
{
    uint64_t bits = 0;

    for (unsigned i = 0; i < sizeof(cr4_rows) / sizeof(cr4_rows[0]); i++)
        if (!cr4_rows[i].leaf ||
            cpuid_has(v->vm->cpuid, cr4_rows[i].leaf, 0, cr4_rows[i].reg, cr4_rows[i].bit))
            bits |= cr4_rows[i].bits;
    return bits;
}

static int write_cr4(struct vcpu *v, uint64_t val)
{
    struct cpu *c = &v->cpu;
    uint64_t changed = c->cr4 ^ val;

    /* Only bits being set need the look at the feature table: what is set was offered. */
    if ((changed & val) && (changed & val & ~cr4_offered(v)))
        return cpu_gp0(c);
    if (cpu_long_mode(c) && !(val & CR4_PAE))
        return cpu_gp0(c);
    if ((changed & val & CR4_PCIDE) && (!cpu_long_mode(c) || (c->cr3 & 0xfff)))
        return cpu_gp0(c);
    if ((changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)) &&
        reload_pdptes(v, c->cr0, c->cr3, val, c->efer))
        return CPU_FAULT;
    c->cr4 = val;
    if (changed)
        vcpu_note_paging(v);
    return CPU_OK;
}

int cpu_write_cr(struct vcpu *v, unsigned cr, uint64_t val)
{
    struct cpu *c = &v->cpu;

    switch (cr) {
    case 0:
        return write_cr0(v, val);
    case 2:
        c->cr2 = val;
        return CPU_OK;
    case 3:
        return write_cr3(v, val);
    case 4:
        return write_cr4(v, val);
    case 8:
        if (val > 15)
            return cpu_gp0(c);
        c->cr8 = val;
        lapic_set_cr8(v, val);
        return CPU_OK;
    default:
        return cpu_raise(c, VEC_UD);
    }
}

/* DR4 and DR5 are DR6 and DR7 without CR4.DE (SDM 3B 17.2.2); DR7.GD makes any access a #DB. */
static int dr_number(struct vcpu *v, unsigned *dr)
{
    struct cpu *c = &v->cpu;

    if (*dr > 7)
        return cpu_raise(c, VEC_UD);
    if (*dr == 4 || *dr == 5) {
        if (c->cr4 & CR4_DE)
            return cpu_raise(c, VEC_UD);
        *dr += 2;
    }
    if (c->dr[7] & 0x2000) {
        c->dr[6] |= 0x2000; /* BD */
        c->rflags |= FL_RF; /* a fault, though a #DB (SDM 3B 17.3.1.1) */
        return cpu_raise(c, VEC_DB);
    }
    return CPU_OK;
}

int cpu_read_dr(struct vcpu *v, unsigned dr, uint64_t *val)
{
    if (dr_number(v, &dr))
        return CPU_FAULT;
    *val = v->cpu.dr[dr];
    return CPU_OK;
}

int cpu_write_dr(struct vcpu *v, unsigned dr, uint64_t val)
{
    struct cpu *c = &v->cpu;

    if (dr_number(v, &dr))
        return CPU_FAULT;
    if (dr >= 6 && val >> 32)
        return cpu_gp0(c);
    if (dr == 6)
        val = (val & 0xe00f) | 0xffff0ff0; /* no RTM, no bus-lock detection */
    else if (dr == 7)
        val = (val & 0xffff23ff) | 0x400;
    c->dr[dr] = val;
    if (watch_any(v))
        vcpu_note_paging(v); /* watched pages leave the TLB */
    return CPU_OK;
}

int cpu_xsetbv(struct vcpu *v, uint32_t idx, uint64_t val)
{
    struct cpu *c = &v->cpu;
    uint64_t offered = 3;

    if (!(c->cr4 & CR4_OSXSAVE))
        return cpu_raise(c, VEC_UD);
    if (cpuid_has(v->vm->cpuid, 1, 0, 2, 28))
        offered |= 4;
    if (c->cpl || idx || !(val & 1) || (val & ~offered) || (val & 6) == 4)
        return cpu_gp0(c);
    c->xcr0 = val;
    return CPU_OK;
}

/* Flat segments as the fast system calls load them, without a look at the tables. */
enum { FLAT_CODE64 = 0xa09b, FLAT_CODE32 = 0xc09b, FLAT_DATA = 0xc093, FLAT_DPL3 = 0x60 };

static void load_flat(struct cpu *c, uint16_t cs, uint32_t cs_attr, uint16_t ss, unsigned cpl)
{
    uint32_t dpl = cpl ? FLAT_DPL3 : 0;

    c->seg[SEG_CS] = (struct seg){.sel = cs, .limit = 0xffffffff, .attr = cs_attr | dpl};
    c->seg[SEG_SS] = (struct seg){.sel = ss, .limit = 0xffffffff, .attr = FLAT_DATA | dpl};
    c->cpl = (uint8_t)cpl;
}

/* AMD takes SYSCALL in legacy and compatibility mode too (APM 3 SYSCALL). */
static int syscall_amd32(struct vcpu *v, uint64_t next_rip)
{
    struct cpu *c = &v->cpu;
    bool lng = cpu_long_mode(c);
    uint16_t cs = (uint16_t)(c->star >> 32);

    if (cpu_real_mode(c) || cpu_v86(c))
        return cpu_raise(c, VEC_UD);
    c->gpr[RCX] = (uint32_t)next_rip;
    if (lng) {
        c->gpr[R11] = c->rflags & ~(uint64_t)FL_RF;
        c->rflags &= ~c->sfmask;
    } else {
        c->rflags &= ~(uint64_t)FL_IF;
    }
    c->rflags = (c->rflags & ~(uint64_t)(FL_RF | FL_VM)) | FL_R1;
    c->rip = lng ? c->cstar : (uint32_t)c->star;
    load_flat(c, cs & 0xfffc, lng ? FLAT_CODE64 : FLAT_CODE32, (uint16_t)(cs + 8), 0);
    return CPU_OK;
}

int cpu_syscall(struct vcpu *v, uint64_t next_rip)
{
    struct cpu *c = &v->cpu;
    uint16_t cs = (uint16_t)(c->star >> 32);

    if (!(c->efer & EFER_SCE))
        return cpu_raise(c, VEC_UD);
    if (!cpu_code64(c))
        return cpu_is_amd(v) ? syscall_amd32(v, next_rip) : cpu_raise(c, VEC_UD);
    c->gpr[RCX] = next_rip;
    c->gpr[R11] = c->rflags & ~(uint64_t)FL_RF;
    c->rflags = (c->rflags & ~(c->sfmask | FL_RF)) | FL_R1;
    c->rip = c->lstar;
    load_flat(c, cs & 0xfffc, FLAT_CODE64, (uint16_t)(cs + 8), 0);
    return CPU_OK;
}

int cpu_sysret(struct vcpu *v, unsigned opsize)
{
    struct cpu *c = &v->cpu;
    uint16_t sel = (uint16_t)(c->star >> 48);
    bool amd = cpu_is_amd(v);

    if (!(c->efer & EFER_SCE) || cpu_real_mode(c) || (!cpu_code64(c) && !amd))
        return cpu_raise(c, VEC_UD);
    if (c->cpl || cpu_v86(c))
        return cpu_gp0(c);
    if (opsize == 8) {
        /* Intel faults here, still at CPL 0; AMD at the target's fetch. */
        if (!amd && !canonical(c->gpr[RCX]))
            return cpu_gp0(c);
        c->rip = c->gpr[RCX];
    } else {
        c->rip = (uint32_t)c->gpr[RCX];
    }
    if (cpu_long_mode(c))
        c->rflags = (c->gpr[R11] & 0x3c7fd7) | FL_R1;
    else
        c->rflags |= FL_IF;
    /* SS gets whole fresh attributes, as on Intel; AMD keeps the old ones, which no system may
     * rely on. */
    if (opsize == 8)
        load_flat(c, (uint16_t)(sel + 16) | 3, FLAT_CODE64, (uint16_t)(sel + 8) | 3, 3);
    else
        load_flat(c, sel | 3, FLAT_CODE32, (uint16_t)(sel + 8) | 3, 3);
    return CPU_OK;
}

int cpu_sysenter(struct vcpu *v)
{
    struct cpu *c = &v->cpu;
    uint16_t cs = (uint16_t)(c->sysenter_cs & 0xfffc);
    bool lng = cpu_long_mode(c);

    if (lng && cpu_is_amd(v)) /* APM 3 SYSENTER: legacy mode only */
        return cpu_raise(c, VEC_UD);
    if (cpu_real_mode(c) || !cs)
        return cpu_gp0(c);
    c->rflags &= ~(uint64_t)(FL_VM | FL_IF | FL_RF);
    c->gpr[RSP] = lng ? c->sysenter_esp : (uint32_t)c->sysenter_esp;
    c->rip = lng ? c->sysenter_eip : (uint32_t)c->sysenter_eip;
    load_flat(c, cs, lng ? FLAT_CODE64 : FLAT_CODE32, (uint16_t)(cs + 8), 0);
    return CPU_OK;
}

int cpu_sysexit(struct vcpu *v, unsigned opsize)
{
    struct cpu *c = &v->cpu;
    uint16_t cs = (uint16_t)(c->sysenter_cs & 0xfffc);

    if (cpu_long_mode(c) && cpu_is_amd(v))
        return cpu_raise(c, VEC_UD);
    if (cpu_real_mode(c) || !cs || c->cpl)
        return cpu_gp0(c);
    if (opsize == 8) {
        if (!canonical(c->gpr[RCX]) || !canonical(c->gpr[RDX]))
            return cpu_gp0(c);
        c->gpr[RSP] = c->gpr[RCX];
        c->rip = c->gpr[RDX];
        load_flat(c, (uint16_t)(cs + 32) | 3, FLAT_CODE64, (uint16_t)(cs + 40) | 3, 3);
    } else {
        c->gpr[RSP] = (uint32_t)c->gpr[RCX];
        c->rip = (uint32_t)c->gpr[RDX];
        load_flat(c, (uint16_t)(cs + 16) | 3, FLAT_CODE32, (uint16_t)(cs + 24) | 3, 3);
    }
    return CPU_OK;
}

int cpu_swapgs(struct vcpu *v)
{
    struct cpu *c = &v->cpu;
    uint64_t base = c->seg[SEG_GS].base;

    if (!cpu_code64(c))
        return cpu_raise(c, VEC_UD);
    if (c->cpl)
        return cpu_gp0(c);
    c->seg[SEG_GS].base = c->kernel_gs_base;
    c->kernel_gs_base = base;
    return CPU_OK;
}
