/* Model-specific registers: one row each (SDM 4; AMD APM 2 appendix A). What has no row is #GP. */
#include "vcpu/system.h"

enum {
    M_CANON = 1, /* holds a linear address: non-canonical is #GP */
    M_RO = 2,    /* writes are #GP */
    M_DROP = 4,  /* writes are taken and have no effect */
    M_INTEL = 8, /* exists where the guest sees that vendor */
    M_AMD = 16
};

struct msr_row {
    uint32_t first, last; /* numbers, inclusive */
    const char *name;
    uint16_t field; /* offset in struct cpu, 8 bytes a register; 0: none */
    uint8_t flags;
    uint8_t reg, bit; /* with leaf: the CPUID feature it comes with */
    uint32_t leaf;
    uint64_t reserved; /* bits that are #GP when set */
    uint64_t value;    /* what reads give where there is neither reader nor field */
    int (*read)(struct vcpu *v, uint32_t msr, uint64_t *val);
    int (*write)(struct vcpu *v, uint32_t msr, uint64_t val);
};

#define FIELD(f) .field = (uint16_t) __builtin_offsetof(struct cpu, f)
#define HIGH32   0xffffffff00000000u

/* ARCH_CAPABILITIES: immune to what mitigations in the guest could do nothing about here anyway:
 * RDCL, L1D flush on entry, SSB, MDS, page-size change, TAA, SBDR/SSDP, FBSDP, PSDP, BHI, PBRSB,
 * GDS, RFDS, ITS. */
#define ARCH_CAP                                                                                  \
    (1u << 0 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 8 | 1u << 13 | 1u << 14 | 1u << 15 | \
     1u << 20 | 1u << 24 | 1u << 26 | 1u << 27 | (uint64_t)1 << 62)

static int rd_tsc(struct vcpu *v, uint32_t msr, uint64_t *val)
{
    (void)msr;
    *val = vcpu_tsc(v);
    return CPU_OK;
}

/* Move this CPU's TSC by delta; TSC_ADJUST follows (SDM 3B 17.17.3), so do the deadline timer,
 * whose expiry is a value of it, and the paravirtual clock. */
static void move_tsc(struct vcpu *v, uint64_t delta)
{
    v->cpu.tsc_offset += delta;
    v->cpu.tsc_adjust += delta;
    lapic_tsc_changed(v, delta);
    pvclock_refresh(v);
}

static int wr_tsc(struct vcpu *v, uint32_t msr, uint64_t val)
{
    (void)msr;
    move_tsc(v, val - vcpu_tsc(v));
    return CPU_OK;
}

static int wr_tsc_adjust(struct vcpu *v, uint32_t msr, uint64_t val)
{
    (void)msr;
    move_tsc(v, val - v->cpu.tsc_adjust);
    return CPU_OK;
}

static int wr_efer(struct vcpu *v, uint32_t msr, uint64_t val)
{
    struct cpu *c = &v->cpu;
    uint64_t known = EFER_SCE | EFER_LME | EFER_LMA, changed;

    (void)msr;
    if (cpuid_has(v->vm->cpuid, 0x80000001, 0, 3, 20))
        known |= EFER_NXE;
    if (val & ~known)
        return cpu_gp0(c);
    /* LMA is the processor's own: what is written to it is ignored. */
    val = (val & ~(uint64_t)EFER_LMA) | (c->efer & EFER_LMA);
    changed = val ^ c->efer;
    if ((changed & EFER_LME) && (c->cr0 & CR0_PG))
        return cpu_gp0(c);
    c->efer = val;
    if (changed & EFER_NXE)
        vcpu_note_paging(v);
    return CPU_OK;
}

/* Memory types of MTRRs: UC WC WT WP WB; of PAT: UC- (7) too (SDM 3A 11.11.1, 11.12.2). */
static bool type_ok(uint8_t type, bool pat)
{
    return type == 0 || type == 1 || (type >= 4 && type <= 6) || (pat && type == 7);
}

static bool types_ok(uint64_t val, bool pat)
{
    for (unsigned i = 0; i < 64; i += 8)
        if (!type_ok((uint8_t)(val >> i), pat))
            return false;
    return true;
}

static int wr_pat(struct vcpu *v, uint32_t msr, uint64_t val)
{
    (void)msr;
    if (!types_ok(val, true))
        return cpu_gp0(&v->cpu);
    v->cpu.pat = val;
    return CPU_OK;
}

static int wr_mtrr_phys(struct vcpu *v, uint32_t msr, uint64_t val)
{
    bool mask = msr & 1;

    if (val >> v->vm->maxphyaddr || (val & (mask ? 0x7ff : 0xf00)) ||
        (!mask && !type_ok((uint8_t)val, false)))
        return cpu_gp0(&v->cpu);
    v->cpu.mtrr_phys[msr - 0x200] = val;
    return CPU_OK;
}

static int wr_mtrr_fixed(struct vcpu *v, uint32_t msr, uint64_t val)
{
    if (!types_ok(val, false))
        return cpu_gp0(&v->cpu);
    v->cpu.mtrr_fixed[msr == 0x250 ? 0 : msr < 0x268 ? msr - 0x257 : msr - 0x265] = val;
    return CPU_OK;
}

static int wr_mtrr_def(struct vcpu *v, uint32_t msr, uint64_t val)
{
    (void)msr;
    if ((val & ~(uint64_t)0xcff) || !type_ok((uint8_t)val, false))
        return cpu_gp0(&v->cpu);
    v->cpu.mtrr_def_type = val;
    return CPU_OK;
}

static int wr_misc_enable(struct vcpu *v, uint32_t msr, uint64_t val)
{
    /* SDM 4 table 2-2: these can be read back as written, whether or not there is something here
     * that they switch; 7, 11 and 12 only read: no performance monitoring, no BTS, no PEBS. */
    const uint64_t writable = 0x400c50009, fixed = 0x1880;

    (void)msr;
    if (val & ~(writable | fixed))
        return cpu_gp0(&v->cpu);
    v->cpu.misc_enable = (v->cpu.misc_enable & fixed) | (val & writable);
    return CPU_OK;
}

static int wr_wall_clock(struct vcpu *v, uint32_t msr, uint64_t val)
{
    (void)msr;
    return pvclock_write_wall(v, val);
}

static int wr_system_time(struct vcpu *v, uint32_t msr, uint64_t val)
{
    (void)msr;
    return pvclock_enable(v, val);
}

/* Sorted by number. */
static const struct msr_row rows[] = {
    {0x10, 0x10, "TSC", .read = rd_tsc, .write = wr_tsc},
    {0x11, 0x11, "KVM_WALL_CLOCK", FIELD(kvm_wall_clock), .write = wr_wall_clock},
    {0x12, 0x12, "KVM_SYSTEM_TIME", FIELD(kvm_system_time), .write = wr_system_time},
    {0x17, 0x17, "PLATFORM_ID", .flags = M_INTEL | M_RO},
    {0x1b, 0x1b, "APIC_BASE", .read = lapic_msr_read, .write = lapic_msr_write},
    {0x34, 0x34, "SMI_COUNT", .flags = M_INTEL | M_RO},
    {0x3a, 0x3a, "FEATURE_CONTROL", .flags = M_INTEL | M_RO, .value = 1}, /* locked, no VMX */
    {0x3b, 0x3b, "TSC_ADJUST", FIELD(tsc_adjust), .leaf = 7, .reg = 1, .bit = 1,
     .write = wr_tsc_adjust},
    {0x79, 0x79, "BIOS_UPDT_TRIG", .flags = M_INTEL | M_DROP},
    /* A revision no kernel takes for an old one. */
    {0x8b, 0x8b, "BIOS_SIGN_ID", .flags = M_DROP, .value = 0x0fffffff0fffffff},
    {0xce, 0xce, "PLATFORM_INFO", .flags = M_INTEL | M_RO},
    {0xfe, 0xfe, "MTRRCAP", .flags = M_RO, .value = 0x508}, /* WC, fixed, 8 variable */
    {0x10a, 0x10a, "ARCH_CAPABILITIES", .leaf = 7, .reg = 3, .bit = 29, .flags = M_RO,
     .value = ARCH_CAP},
    {0x140, 0x140, "MISC_FEATURES_ENABLES", .flags = M_INTEL | M_DROP, .reserved = ~(uint64_t)0},
    {0x174, 0x174, "SYSENTER_CS", FIELD(sysenter_cs)},
    {0x175, 0x175, "SYSENTER_ESP", FIELD(sysenter_esp), .flags = M_CANON},
    {0x176, 0x176, "SYSENTER_EIP", FIELD(sysenter_eip), .flags = M_CANON},
    {0x179, 0x179, "MCG_CAP", .flags = M_RO}, /* no banks */
    {0x17a, 0x17a, "MCG_STATUS", FIELD(mcg_status), .reserved = ~(uint64_t)7},
    {0x1a0, 0x1a0, "MISC_ENABLE", FIELD(misc_enable), .flags = M_INTEL, .write = wr_misc_enable},
    {0x1d9, 0x1d9, "DEBUGCTL", .flags = M_DROP, .reserved = ~(uint64_t)0},
    {0x200, 0x20f, "MTRR_PHYS", FIELD(mtrr_phys), .write = wr_mtrr_phys},
    {0x250, 0x250, "MTRR_FIX64K", FIELD(mtrr_fixed[0]), .write = wr_mtrr_fixed},
    {0x258, 0x259, "MTRR_FIX16K", FIELD(mtrr_fixed[1]), .write = wr_mtrr_fixed},
    {0x268, 0x26f, "MTRR_FIX4K", FIELD(mtrr_fixed[3]), .write = wr_mtrr_fixed},
    {0x277, 0x277, "PAT", FIELD(pat), .write = wr_pat},
    {0x2ff, 0x2ff, "MTRR_DEF_TYPE", FIELD(mtrr_def_type), .write = wr_mtrr_def},
    {0x6e0, 0x6e0, "TSC_DEADLINE", .leaf = 1, .reg = 2, .bit = 24, .read = lapic_msr_read,
     .write = lapic_msr_write},
    {0x800, 0x83f, "X2APIC", .leaf = 1, .reg = 2, .bit = 21, .read = lapic_msr_read,
     .write = lapic_msr_write},
    {0x4b564d00, 0x4b564d00, "KVM_WALL_CLOCK_NEW", FIELD(kvm_wall_clock), .write = wr_wall_clock},
    {0x4b564d01, 0x4b564d01, "KVM_SYSTEM_TIME_NEW", FIELD(kvm_system_time),
     .write = wr_system_time},
    {0xc0000080, 0xc0000080, "EFER", FIELD(efer), .write = wr_efer},
    {0xc0000081, 0xc0000081, "STAR", FIELD(star)},
    {0xc0000082, 0xc0000082, "LSTAR", FIELD(lstar), .flags = M_CANON},
    {0xc0000083, 0xc0000083, "CSTAR", FIELD(cstar), .flags = M_CANON},
    {0xc0000084, 0xc0000084, "FMASK", FIELD(sfmask), .reserved = HIGH32},
    {0xc0000100, 0xc0000100, "FS_BASE", FIELD(seg[SEG_FS].base), .flags = M_CANON},
    {0xc0000101, 0xc0000101, "GS_BASE", FIELD(seg[SEG_GS].base), .flags = M_CANON},
    {0xc0000102, 0xc0000102, "KERNEL_GS_BASE", FIELD(kernel_gs_base), .flags = M_CANON},
    {0xc0000103, 0xc0000103, "TSC_AUX", FIELD(tsc_aux), .leaf = 0x80000001, .reg = 3, .bit = 27,
     .reserved = HIGH32},
    {0xc0010010, 0xc0010010, "SYSCFG", .flags = M_AMD | M_DROP},
    /* TscFreqSel: the TSC counts at the P0 frequency. Linux toggles bits 3, 6, 8. */
    {0xc0010015, 0xc0010015, "HWCR", .flags = M_AMD | M_DROP, .value = 1u << 24,
     .reserved = ~(uint64_t)0x1000149},
    {0xc001001f, 0xc001001f, "NB_CFG", .flags = M_AMD | M_DROP},
    {0xc0010055, 0xc0010055, "INT_PENDING", .flags = M_AMD | M_DROP},
    {0xc0011029, 0xc0011029, "DE_CFG", .flags = M_AMD | M_DROP, .value = 2}, /* LFENCE serialises */
};

static const struct msr_row *find(const struct vcpu *v, uint32_t msr)
{
    unsigned lo = 0, hi = sizeof(rows) / sizeof(rows[0]);

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const struct msr_row *r = &rows[mid];

        if (msr < r->first) {
            hi = mid;
        } else if (msr > r->last) {
            lo = mid + 1;
        } else {
            if (r->flags & (M_INTEL | M_AMD) && !(r->flags & (cpu_is_amd(v) ? M_AMD : M_INTEL)))
                return NULL;
            if (r->leaf && !cpuid_has(v->vm->cpuid, r->leaf, 0, r->reg, r->bit))
                return NULL;
            return r;
        }
    }
    return NULL;
}

static uint64_t *field(struct cpu *c, const struct msr_row *r, uint32_t msr)
{
    return (uint64_t *)(void *)((uint8_t *)c + r->field) + (msr - r->first);
}

int cpu_rdmsr(struct vcpu *v, uint32_t msr, uint64_t *val)
{
    const struct msr_row *r = find(v, msr);

    if (!r)
        return cpu_gp0(&v->cpu);
    if (r->read)
        return r->read(v, msr, val);
    *val = r->field ? *field(&v->cpu, r, msr) : r->value;
    return CPU_OK;
}

int cpu_wrmsr(struct vcpu *v, uint32_t msr, uint64_t val)
{
    const struct msr_row *r = find(v, msr);

    if (!r || (r->flags & M_RO) || (val & r->reserved) || ((r->flags & M_CANON) && !canonical(val)))
        return cpu_gp0(&v->cpu);
    if (r->write)
        return r->write(v, msr, val);
    if (!(r->flags & M_DROP))
        *field(&v->cpu, r, msr) = val;
    return CPU_OK;
}
