/* Returns: IRET and far RET, to the same ring, to an outer one, to virtual-8086 mode.
 * SDM 2A IRET, 2B RET. */
#include "vcpu/system.h"

/* What a return will leave, all checks made. */
struct target {
    uint16_t cs;
    uint64_t desc, rip, rsp;
    unsigned cpl;
    bool load_ss;
    struct seg ss;
};

/* ES DS FS GS lose what the new CPL may not use (SDM 2A RET, RETURN-TO-OUTER-PRIVILEGE-LEVEL). */
static void drop_inner_data(struct cpu *c)
{
    static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

    for (unsigned i = 0; i < sizeof(data); i++) {
        struct seg *s = &c->seg[data[i]];

        /* Already null: FS and GS keep the base that WRMSR gave them. */
        if (s->attr & SEG_NULL || sel_null(s->sel))
            continue;
        if ((s->attr & 0xc) == 0xc /* conforming code */ || SEG_DPL(s->attr) >= c->cpl)
            continue;
        s->sel = 0;
        s->attr = SEG_NULL;
    }
}

static int check_cs(struct vcpu *v, uint16_t sel, uint64_t *desc)
{
    struct cpu *c = &v->cpu;
    uint32_t err = sel & 0xfffcu;
    unsigned rpl = sel & 3u;

    if (sel_null(sel))
        return cpu_gp0(c);
    if (seg_read_descriptor(v, sel, VEC_GP, desc))
        return CPU_FAULT;
    if (!desc_code(*desc) || rpl < c->cpl ||
        (desc_conforming(*desc) ? desc_dpl(*desc) > rpl : desc_dpl(*desc) != rpl))
        return cpu_raise_error(c, VEC_GP, err);
    if (cpu_long_mode(c) && desc_l(*desc) && desc_db(*desc))
        return cpu_raise_error(c, VEC_GP, err);
    if (!desc_p(*desc))
        return cpu_raise_error(c, VEC_NP, err);
    return CPU_OK;
}

static int check_return_ss(struct vcpu *v, uint16_t sel, unsigned rpl, bool new64, struct seg *out)
{
    struct cpu *c = &v->cpu;

    if (sel_null(sel)) {
        if (!new64 || rpl == 3)
            return cpu_gp0(c);
        if ((sel & 3u) != rpl)
            return cpu_raise_error(c, VEC_GP, sel & 0xfffcu);
        seg_set_null(out, sel);
        out->attr |= rpl << 5;
        return CPU_OK;
    }
    return seg_check_ss(v, sel, rpl, VEC_GP, out);
}

/* Check the return to cs:rip that was read from stack s; what it pops in all is used bytes, and
 * RSP and SS lie after that when the ring changes or always_ss says so. */
static int prepare(struct vcpu *v, const struct stack *s, unsigned opsize, uint64_t rip,
                   uint16_t cs, unsigned used, unsigned pop_bytes, bool always_ss, struct target *t)
{
    struct cpu *c = &v->cpu;
    uint64_t w[2];
    bool new64;

    *t = (struct target){.cs = cs, .rip = rip, .cpl = cs & 3u};
    if (check_cs(v, cs, &t->desc))
        return CPU_FAULT;
    if (t->cpl > c->cpl || always_ss) {
        if (stack_peek(v, s, used, w, 2, opsize))
            return CPU_FAULT;
        new64 = cpu_long_mode(c) && desc_l(t->desc);
        t->load_ss = true;
        if (check_return_ss(v, (uint16_t)w[1], t->cpl, new64, &t->ss))
            return CPU_FAULT;
        t->rsp = stack_merge_sp(c->gpr[RSP], w[0] + pop_bytes, new64, &t->ss);
    } else {
        t->rsp = stack_merge_sp(s->sp, s->sp + used, s->is64, &s->ss);
    }
    if (seg_check_rip(v, t->desc, rip, &new64))
        return CPU_FAULT;
    return desc_access(v, cs, &t->desc);
}

static void commit(struct cpu *c, const struct target *t)
{
    bool outer = t->cpl > c->cpl;

    seg_commit_cs(c, t->cs, t->desc, t->cpl);
    c->rip = t->rip;
    c->gpr[RSP] = t->rsp;
    if (t->load_ss)
        c->seg[SEG_SS] = t->ss;
    if (outer)
        drop_inner_data(c);
}

static void set_flags(struct cpu *c, uint64_t val, uint64_t mask)
{
    c->rflags = (c->rflags & ~mask) | (val & mask) | FL_R1;
}

#define FL_IRET (FL_ARITH | FL_TF | FL_DF | FL_NT)

/* Real mode, and virtual-8086 mode at IOPL 3. */
static int iret_real(struct vcpu *v, unsigned opsize)
{
    struct cpu *c = &v->cpu;
    uint64_t w[3], mask = FL_IRET | FL_IF;
    struct stack s;

    if (cpu_v86(c) && (c->rflags & FL_IOPL) != FL_IOPL)
        return cpu_gp0(c); /* no VME */
    stack_current(c, &s);
    if (stack_peek(v, &s, 0, w, 3, opsize))
        return CPU_FAULT;
    if (w[0] > c->seg[SEG_CS].limit)
        return cpu_gp0(c);
    if (!cpu_v86(c))
        mask |= FL_IOPL;
    if (opsize == 4)
        mask |= FL_RF | FL_AC | FL_ID;
    c->gpr[RSP] = stack_merge_sp(s.sp, s.sp + 3 * opsize, false, &s.ss);
    seg_load_real(c, SEG_CS, (uint16_t)w[1]);
    c->rip = w[0];
    set_flags(c, w[2], mask);
    return CPU_OK;
}

static int iret_to_v86(struct vcpu *v, const struct stack *s, const uint64_t *w)
{
    struct cpu *c = &v->cpu;
    uint64_t r[9];

    if (stack_peek(v, s, 0, r, 9, 4))
        return CPU_FAULT;
    if ((w[0] & 0xffffffff) > 0xffff)
        return cpu_gp0(c);
    c->rflags = (w[2] & FL_DEFINED) | FL_R1;
    c->cpl = 3;
    seg_load_real(c, SEG_CS, (uint16_t)w[1]);
    seg_load_real(c, SEG_SS, (uint16_t)r[4]);
    seg_load_real(c, SEG_ES, (uint16_t)r[5]);
    seg_load_real(c, SEG_DS, (uint16_t)r[6]);
    seg_load_real(c, SEG_FS, (uint16_t)r[7]);
    seg_load_real(c, SEG_GS, (uint16_t)r[8]);
    c->rip = w[0];
    c->gpr[RSP] = r[3];
    return CPU_OK;
}

int cpu_iret(struct vcpu *v, unsigned opsize)
{
    struct cpu *c = &v->cpu;
    uint64_t w[3], mask = FL_IRET;
    struct target t;
    struct stack s;

    /* SDM 3A 6.7.1: IRET unblocks NMIs even when it faults. */
    if (c->nmi_blocked)
        lapic_take_nmis(v);
    c->nmi_blocked = false;
    if (cpu_real_mode(c) || cpu_v86(c))
        return iret_real(v, opsize);
    if (c->rflags & FL_NT)
        return cpu_long_mode(c) ? cpu_gp0(c) : task_return(v);

    stack_current(c, &s);
    if (stack_peek(v, &s, 0, w, 3, opsize))
        return CPU_FAULT;
    if ((w[2] & FL_VM) && opsize == 4 && c->cpl == 0 && !cpu_long_mode(c))
        return iret_to_v86(v, &s, w);
    if (prepare(v, &s, opsize, w[0], (uint16_t)w[1], 3 * opsize, 0, cpu_code64(c), &t))
        return CPU_FAULT;

    if (opsize > 2)
        mask |= FL_RF | FL_AC | FL_ID;
    if (c->cpl <= (c->rflags >> 12 & 3))
        mask |= FL_IF;
    if (c->cpl == 0)
        mask |= FL_IOPL | (opsize > 2 ? FL_VIF | FL_VIP : 0);
    set_flags(c, w[2], mask);
    commit(c, &t);
    return CPU_OK;
}

int cpu_far_ret(struct vcpu *v, unsigned opsize, unsigned pop_bytes)
{
    struct cpu *c = &v->cpu;
    unsigned used = 2 * opsize + pop_bytes;
    struct target t;
    struct stack s;
    uint64_t w[2];

    stack_current(c, &s);
    if (stack_peek(v, &s, 0, w, 2, opsize))
        return CPU_FAULT;
    if (cpu_real_mode(c) || cpu_v86(c)) {
        if (w[0] > c->seg[SEG_CS].limit)
            return cpu_gp0(c);
        c->gpr[RSP] = stack_merge_sp(s.sp, s.sp + used, false, &s.ss);
        seg_load_real(c, SEG_CS, (uint16_t)w[1]);
        c->rip = w[0];
        return CPU_OK;
    }
    if (prepare(v, &s, opsize, w[0], (uint16_t)w[1], used, pop_bytes, false, &t))
        return CPU_FAULT;
    commit(c, &t);
    return CPU_OK;
}
