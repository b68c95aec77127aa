/* Segments: access checks, descriptor reads, loads of data segments, LDTR and TR, LAR and its kin.
 * SDM 3A chapters 3 and 5; SDM 2A/2B the instructions. */
#include "vcpu/system.h"

bool seg_within_limit(const struct seg *s, uint32_t ea, unsigned size)
{
    uint32_t last = size ? size - 1 : 0;

    if ((s->attr & SEG_S) && (s->attr & 0xc) == 4) { /* expand-down data */
        uint32_t top = s->attr & SEG_DB ? 0xffffffffu : 0xffffu;

        return ea > s->limit && ea <= top && last <= top - ea;
    }
    return ea <= s->limit && last <= s->limit - ea;
}

int seg_linear(struct vcpu *v, unsigned seg, uint64_t ea, unsigned size, unsigned acc, gva_t *lin)
{
    struct cpu *c = &v->cpu;
    const struct seg *s = &c->seg[seg];

    if (cpu_code64(c)) {
        uint64_t l = seg >= SEG_FS ? ea + s->base : ea;

        if (canonical(l) && (size < 2 || canonical(l + size - 1))) {
            *lin = l;
            return CPU_OK;
        }
        goto fault;
    }
    if (c->cr0 & CR0_PE) {
        if (s->attr & SEG_NULL)
            goto fault;
        /* Data segments are always readable, code segments never writable (SDM 3A 5.5). */
        if ((acc & ACC_WRITE) && (s->attr & 0xa) != 2)
            goto fault;
        if (!(acc & (ACC_WRITE | ACC_FETCH)) && (s->attr & 0xa) == 8)
            goto fault;
    }
    if (!seg_within_limit(s, (uint32_t)ea, size))
        goto fault;
    *lin = (uint32_t)(s->base + ea);
    return CPU_OK;
fault:
    return cpu_raise_error(c, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
}

/* Outside long mode linear addresses are 32 bits wide and wrap. */
static bool wraps32(const struct cpu *c, gva_t lin, unsigned size)
{
    return !cpu_long_mode(c) && (uint32_t)lin > 0xffffffffu - (size - 1);
}

int sys_read(struct vcpu *v, gva_t lin, void *dst, unsigned size)
{
    struct cpu *c = &v->cpu;

    if (wraps32(c, lin, size)) {
        for (unsigned i = 0; i < size; i++)
            if (mem_read(v, (uint32_t)(lin + i), (uint8_t *)dst + i, 1, ACC_IMPLICIT))
                return CPU_FAULT;
        return CPU_OK;
    }
    if (!cpu_long_mode(c))
        lin = (uint32_t)lin;
    else if (!canonical(lin) || !canonical(lin + size - 1))
        return cpu_gp0(c);
    return mem_read(v, lin, dst, size, ACC_READ | ACC_IMPLICIT);
}

int sys_write(struct vcpu *v, gva_t lin, const void *src, unsigned size)
{
    struct cpu *c = &v->cpu;

    if (wraps32(c, lin, size)) {
        for (unsigned i = 0; i < size; i++)
            if (mem_write(v, (uint32_t)(lin + i), (const uint8_t *)src + i, 1,
                          ACC_WRITE | ACC_IMPLICIT))
                return CPU_FAULT;
        return CPU_OK;
    }
    if (!cpu_long_mode(c))
        lin = (uint32_t)lin;
    else if (!canonical(lin) || !canonical(lin + size - 1))
        return cpu_gp0(c);
    return mem_write(v, lin, src, size, ACC_WRITE | ACC_IMPLICIT);
}

/* Linear address of sel's descriptor; false: bytes from it on do not all lie in the table. */
static bool desc_address(const struct cpu *c, uint16_t sel, unsigned bytes, gva_t *lin)
{
    uint64_t base = c->gdtr.base;
    uint32_t limit = c->gdtr.limit, off = sel & 0xfff8u;

    if (sel & 4) {
        if (c->ldtr.attr & SEG_NULL)
            return false;
        base = c->ldtr.base;
        limit = c->ldtr.limit;
    }
    if (off + bytes - 1 > limit)
        return false;
    *lin = base + off;
    return true;
}

/* 0, 1: outside the table, CPU_FAULT: #PF. */
static int desc_read(struct vcpu *v, uint16_t sel, uint64_t *desc)
{
    gva_t lin;

    if (!desc_address(&v->cpu, sel, 8, &lin))
        return 1;
    return sys_read(v, lin, desc, 8);
}

int seg_read_descriptor(struct vcpu *v, uint16_t sel, uint8_t fault_vector, uint64_t *desc)
{
    int rc = desc_read(v, sel, desc);

    return rc == 1 ? cpu_raise_error(&v->cpu, fault_vector, sel & 0xfffcu) : rc;
}

int seg_read_high(struct vcpu *v, uint16_t sel, uint8_t fault_vector, uint64_t *high)
{
    gva_t lin;

    if (!desc_address(&v->cpu, sel, 16, &lin))
        return cpu_raise_error(&v->cpu, fault_vector, sel & 0xfffcu);
    return sys_read(v, lin + 8, high, 8);
}

/* Change the access byte of a descriptor: locked, as other CPUs share the table (SDM 3A 9.1.2.1).
 */
static int desc_change(struct vcpu *v, uint16_t sel, uint64_t bits, bool set)
{
    uint8_t b, mask = (uint8_t)(bits >> 40);
    bool traced = false;
    void *host;
    gva_t lin;

    if (!desc_address(&v->cpu, sel, 8, &lin))
        return CPU_OK; /* the caller has read it: only a racing LGDT could bring us here */
    lin += 5;
    if (!cpu_long_mode(&v->cpu))
        lin = (uint32_t)lin;
    if (mem_host(v, lin, 1, ACC_WRITE | ACC_IMPLICIT, &host, &traced))
        return CPU_FAULT;
    if (host) {
        if (set)
            __atomic_fetch_or((uint8_t *)host, mask, __ATOMIC_SEQ_CST);
        else
            __atomic_fetch_and((uint8_t *)host, (uint8_t)~mask, __ATOMIC_SEQ_CST);
        if (traced)
            ram_written(v->vm->ram, (gpa_t)((uint8_t *)host - v->vm->ram->base), 1);
        return CPU_OK;
    }
    if (sys_read(v, lin, &b, 1))
        return CPU_FAULT;
    b = set ? b | mask : b & (uint8_t)~mask;
    return sys_write(v, lin, &b, 1);
}

int desc_set_bits(struct vcpu *v, uint16_t sel, uint64_t bits)
{
    return desc_change(v, sel, bits, true);
}

int desc_clear_bits(struct vcpu *v, uint16_t sel, uint64_t bits)
{
    return desc_change(v, sel, bits, false);
}

int desc_access(struct vcpu *v, uint16_t sel, uint64_t *desc)
{
    if (*desc & DESC_ACCESSED)
        return CPU_OK;
    if (desc_set_bits(v, sel, DESC_ACCESSED))
        return CPU_FAULT;
    *desc |= DESC_ACCESSED;
    return CPU_OK;
}

void seg_from_descriptor(struct seg *s, uint16_t sel, uint64_t desc)
{
    *s = (struct seg){.sel = sel,
                      .base = desc_base(desc),
                      .limit = desc_limit(desc),
                      .attr = (uint32_t)(desc >> 40) & 0xf0ff};
}

void seg_set_null(struct seg *s, uint16_t sel)
{
    *s = (struct seg){.sel = sel, .attr = SEG_NULL};
}

void seg_load_real(struct cpu *c, unsigned seg, uint16_t sel)
{
    struct seg *s = &c->seg[seg];

    s->sel = sel;
    s->base = (uint32_t)sel << 4;
    if (cpu_v86(c)) {
        s->limit = 0xffff;
        s->attr = 0xf3;
    } else if (s->attr & SEG_NULL) {
        /* Real mode keeps limit and attributes ("big real mode"), but null is no state of it. */
        s->limit = 0xffff;
        s->attr = 0x93;
    }
}

int seg_check_ss(struct vcpu *v, uint16_t sel, unsigned cpl, uint8_t vector, struct seg *out)
{
    struct cpu *c = &v->cpu;
    uint32_t err = sel & 0xfffcu;
    uint64_t desc;

    if (seg_read_descriptor(v, sel, vector, &desc))
        return CPU_FAULT;
    if ((sel & 3u) != cpl || desc_dpl(desc) != cpl || !desc_writable_data(desc))
        return cpu_raise_error(c, vector, err);
    if (!desc_p(desc))
        return cpu_raise_error(c, VEC_SS, err);
    if (desc_access(v, sel, &desc))
        return CPU_FAULT;
    seg_from_descriptor(out, sel, desc);
    return CPU_OK;
}

int seg_check_rip(struct vcpu *v, uint64_t desc, uint64_t off, bool *new64)
{
    struct cpu *c = &v->cpu;

    *new64 = cpu_long_mode(c) && desc_l(desc);
    if (*new64 ? !canonical(off) : off > desc_limit(desc))
        return cpu_gp0(c);
    return CPU_OK;
}

static int load_ss(struct vcpu *v, uint16_t sel)
{
    struct cpu *c = &v->cpu;
    struct seg s;

    if (sel_null(sel)) {
        /* SDM 2B MOV: 64-bit mode takes a null SS below CPL 3 when RPL = CPL. */
        if (!cpu_code64(c) || c->cpl == 3 || (sel & 3u) != c->cpl)
            return cpu_gp0(c);
        seg_set_null(&c->seg[SEG_SS], sel);
        c->seg[SEG_SS].attr |= (uint32_t)c->cpl << 5;
        return CPU_OK;
    }
    if (seg_check_ss(v, sel, c->cpl, VEC_GP, &s))
        return CPU_FAULT;
    c->seg[SEG_SS] = s;
    return CPU_OK;
}

int seg_load(struct vcpu *v, unsigned seg, uint16_t sel)
{
    struct cpu *c = &v->cpu;
    uint64_t desc;

    if (cpu_real_mode(c) || cpu_v86(c)) {
        seg_load_real(c, seg, sel);
        return CPU_OK;
    }
    if (seg == SEG_SS)
        return load_ss(v, sel);
    if (sel_null(sel)) {
        /* A null selector clears the base on Intel; AMD leaves the hidden base (APM 2 4.5.3). */
        uint64_t base = cpu_is_amd(v) ? c->seg[seg].base : 0;

        seg_set_null(&c->seg[seg], sel);
        c->seg[seg].base = base;
        return CPU_OK;
    }
    if (seg_read_descriptor(v, sel, VEC_GP, &desc))
        return CPU_FAULT;
    if (!desc_s(desc) || (desc_type(desc) & 0xa) == 8 /* execute-only */)
        return cpu_raise_error(c, VEC_GP, sel & 0xfffcu);
    if ((desc_type(desc) & 0xc) != 0xc && ((sel & 3u) > desc_dpl(desc) || c->cpl > desc_dpl(desc)))
        return cpu_raise_error(c, VEC_GP, sel & 0xfffcu);
    if (!desc_p(desc))
        return cpu_raise_error(c, VEC_NP, sel & 0xfffcu);
    if (desc_access(v, sel, &desc))
        return CPU_FAULT;
    seg_from_descriptor(&c->seg[seg], sel, desc);
    return CPU_OK;
}

/* LLDT and LTR: a system descriptor of the GDT, 16 bytes long in long mode (SDM 3A 8.2.3). */
static int load_system(struct vcpu *v, uint16_t sel, bool tss, struct seg *out)
{
    struct cpu *c = &v->cpu;
    uint32_t err = sel & 0xfffcu;
    uint64_t desc, high = 0;
    unsigned type;

    if (sel & 4)
        return cpu_raise_error(c, VEC_GP, err);
    if (seg_read_descriptor(v, sel, VEC_GP, &desc))
        return CPU_FAULT;
    type = desc_type(desc);
    if (desc_s(desc) ||
        (tss ? type != SYS_TSS32 && (type != SYS_TSS16 || cpu_long_mode(c)) : type != SYS_LDT))
        return cpu_raise_error(c, VEC_GP, err);
    if (!desc_p(desc))
        return cpu_raise_error(c, VEC_NP, err);
    if (cpu_long_mode(c)) {
        if (seg_read_high(v, sel, VEC_GP, &high))
            return CPU_FAULT;
        if (high >> 40 & 0x1f)
            return cpu_raise_error(c, VEC_GP, err);
        high <<= 32;
        if (!canonical(high | desc_base(desc)))
            return cpu_raise_error(c, VEC_GP, err);
    }
    if (tss) {
        if (desc_set_bits(v, sel, DESC_BUSY))
            return CPU_FAULT;
        desc |= DESC_BUSY;
    }
    seg_from_descriptor(out, sel, desc);
    out->base |= high;
    return CPU_OK;
}

int seg_load_ldtr(struct vcpu *v, uint16_t sel)
{
    struct seg s;

    if (sel_null(sel)) {
        seg_set_null(&v->cpu.ldtr, sel);
        return CPU_OK;
    }
    if (load_system(v, sel, false, &s))
        return CPU_FAULT;
    v->cpu.ldtr = s;
    return CPU_OK;
}

int seg_load_tr(struct vcpu *v, uint16_t sel)
{
    struct seg s;

    if (sel_null(sel))
        return cpu_gp0(&v->cpu);
    if (load_system(v, sel, true, &s))
        return CPU_FAULT;
    v->cpu.tr = s;
    return CPU_OK;
}

/* System types LAR and LSL know, as bit sets; long mode knows no 16-bit ones (SDM 2A LAR). */
#define LAR_LEGACY 0x1a3eu /* 1-5, 9, B, C */
#define LAR_LONG   0x1a04u /* 2, 9, B, C */
#define LSL_LEGACY 0x0a0eu /* 1-3, 9, B */
#define LSL_LONG   0x0a04u /* 2, 9, B */

/* Is sel visible to the program, for LAR/LSL with the system types named? Only #PF is a fault. */
static int visible(struct vcpu *v, uint16_t sel, unsigned types, uint64_t *desc, bool *ok)
{
    struct cpu *c = &v->cpu;
    int rc;

    *ok = false;
    if (sel_null(sel))
        return CPU_OK;
    rc = desc_read(v, sel, desc);
    if (rc)
        return rc == 1 ? CPU_OK : CPU_FAULT;
    if (!desc_s(*desc) && !(types >> desc_type(*desc) & 1))
        return CPU_OK;
    if (!(desc_code(*desc) && desc_conforming(*desc)) &&
        (c->cpl > desc_dpl(*desc) || (sel & 3u) > desc_dpl(*desc)))
        return CPU_OK;
    *ok = true;
    return CPU_OK;
}

int seg_lar(struct vcpu *v, uint16_t sel, uint32_t *out, bool *ok)
{
    uint64_t desc;

    if (visible(v, sel, cpu_long_mode(&v->cpu) ? LAR_LONG : LAR_LEGACY, &desc, ok))
        return CPU_FAULT;
    if (*ok)
        *out = (uint32_t)(desc >> 32) & 0xf0ff00u;
    return CPU_OK;
}

int seg_lsl(struct vcpu *v, uint16_t sel, uint32_t *out, bool *ok)
{
    uint64_t desc;

    if (visible(v, sel, cpu_long_mode(&v->cpu) ? LSL_LONG : LSL_LEGACY, &desc, ok))
        return CPU_FAULT;
    if (*ok)
        *out = desc_limit(desc);
    return CPU_OK;
}

int seg_verify(struct vcpu *v, uint16_t sel, bool write, bool *ok)
{
    uint64_t desc;

    if (visible(v, sel, 0, &desc, ok))
        return CPU_FAULT;
    if (*ok)
        *ok = write ? desc_writable_data(desc) : (desc_type(desc) & 0xa) != 8;
    return CPU_OK;
}
