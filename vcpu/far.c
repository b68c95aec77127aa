/* Far JMP and CALL: direct, through call gates, and into tasks (SDM 2A JMP, CALL; 3A 5.8). */
#include "vcpu/system.h"

static uint64_t by_opsize(uint64_t off, unsigned opsize)
{
    return opsize == 2 ? off & 0xffff : opsize == 4 ? off & 0xffffffff : off;
}

/* Checks of a code segment reached without a change of ring. */
static int check_direct(struct vcpu *v, uint16_t sel, uint64_t desc)
{
    struct cpu *c = &v->cpu;
    uint32_t err = sel & 0xfffcu;

    if (desc_conforming(desc) ? desc_dpl(desc) > c->cpl
                              : (sel & 3u) > c->cpl || desc_dpl(desc) != c->cpl)
        return cpu_raise_error(c, VEC_GP, err);
    if (cpu_long_mode(c) && desc_l(desc) && desc_db(desc))
        return cpu_raise_error(c, VEC_GP, err);
    if (!desc_p(desc))
        return cpu_raise_error(c, VEC_NP, err);
    return CPU_OK;
}

struct gate {
    uint16_t sel;
    uint64_t off, desc; /* target */
    unsigned size;      /* of the values it pushes */
    unsigned params;
};

/* Read and check call gate sel, whose first half is lo, and the code segment it names. */
static int read_gate(struct vcpu *v, uint16_t sel, uint64_t lo, struct gate *g)
{
    struct cpu *c = &v->cpu;
    bool lng = cpu_long_mode(c);
    uint64_t hi = 0;

    if (desc_dpl(lo) < c->cpl || desc_dpl(lo) < (sel & 3u))
        return cpu_raise_error(c, VEC_GP, sel & 0xfffcu);
    if (lng) {
        if (seg_read_high(v, sel, VEC_GP, &hi))
            return CPU_FAULT;
        if (hi >> 40 & 0x1f) /* SDM 3A 5.8.3.1 */
            return cpu_raise_error(c, VEC_GP, sel & 0xfffcu);
    }
    if (!desc_p(lo))
        return cpu_raise_error(c, VEC_NP, sel & 0xfffcu);
    *g = (struct gate){.sel = (uint16_t)(lo >> 16), .off = lo & 0xffff};
    g->size = lng ? 8 : desc_type(lo) == SYS_CALL32 ? 4 : 2;
    if (g->size >= 4)
        g->off |= (lo >> 32 & 0xffff0000) | hi << 32;
    if (!lng)
        g->params = (unsigned)(lo >> 32) & 31;
    if (sel_null(g->sel))
        return cpu_gp0(c);
    if (seg_read_descriptor(v, g->sel, VEC_GP, &g->desc))
        return CPU_FAULT;
    if (!desc_code(g->desc) || desc_dpl(g->desc) > c->cpl ||
        (lng && (!desc_l(g->desc) || desc_db(g->desc))))
        return cpu_raise_error(c, VEC_GP, g->sel & 0xfffcu);
    if (!desc_p(g->desc))
        return cpu_raise_error(c, VEC_NP, g->sel & 0xfffcu);
    return CPU_OK;
}

static bool is_call_gate(const struct cpu *c, uint64_t desc)
{
    return desc_type(desc) == SYS_CALL32 || (desc_type(desc) == SYS_CALL16 && !cpu_long_mode(c));
}

/* A TSS or task gate: switch tasks (legacy mode only). */
static int far_task(struct vcpu *v, uint16_t sel, uint64_t desc, enum task_how how,
                    uint64_t next_rip)
{
    struct cpu *c = &v->cpu;
    unsigned type = desc_type(desc);
    uint32_t err = sel & 0xfffcu;

    if (cpu_long_mode(c) || (type != SYS_TASK_GATE && type != SYS_TSS16 && type != SYS_TSS32))
        return cpu_raise_error(c, VEC_GP, err);
    if (desc_dpl(desc) < c->cpl || desc_dpl(desc) < (sel & 3u))
        return cpu_raise_error(c, VEC_GP, err);
    if (!desc_p(desc))
        return cpu_raise_error(c, VEC_NP, err);
    if (type == SYS_TASK_GATE)
        sel = (uint16_t)(desc >> 16);
    return task_switch(v, sel, how, next_rip, c->rflags & ~(uint64_t)FL_RF, NULL);
}

int cpu_far_jump(struct vcpu *v, uint16_t sel, uint64_t off, unsigned opsize, uint64_t next_rip)
{
    struct cpu *c = &v->cpu;
    struct gate g;
    uint64_t desc;
    bool new64;

    off = by_opsize(off, opsize);
    if (cpu_real_mode(c) || cpu_v86(c)) {
        if (off > c->seg[SEG_CS].limit)
            return cpu_gp0(c);
        seg_load_real(c, SEG_CS, sel);
        c->rip = off;
        return CPU_OK;
    }
    if (sel_null(sel))
        return cpu_gp0(c);
    if (seg_read_descriptor(v, sel, VEC_GP, &desc))
        return CPU_FAULT;
    if (!desc_s(desc) && is_call_gate(c, desc)) {
        if (read_gate(v, sel, desc, &g))
            return CPU_FAULT;
        /* A jump never changes the ring. */
        if (!desc_conforming(g.desc) && desc_dpl(g.desc) != c->cpl)
            return cpu_raise_error(c, VEC_GP, g.sel & 0xfffcu);
        sel = g.sel;
        desc = g.desc;
        off = g.off;
    } else if (!desc_s(desc)) {
        return far_task(v, sel, desc, TASK_JUMP, next_rip);
    } else if (!desc_code(desc)) {
        return cpu_raise_error(c, VEC_GP, sel & 0xfffcu);
    } else if (check_direct(v, sel, desc)) {
        return CPU_FAULT;
    }
    if (seg_check_rip(v, desc, off, &new64) || desc_access(v, sel, &desc))
        return CPU_FAULT;
    seg_commit_cs(c, sel, desc, c->cpl);
    c->rip = off;
    return CPU_OK;
}

/* Through a gate to an inner ring, on the stack the TSS gives for it. */
static int call_inner(struct vcpu *v, struct gate *g, uint64_t next_rip)
{
    struct cpu *c = &v->cpu;
    unsigned dpl = desc_dpl(g->desc), n = 0;
    uint64_t frame[4 + 31], param;
    struct stack s, old;
    bool new64;

    stack_current(c, &old);
    if (g->size == 8 ? stack_inner64(v, dpl, 0, &s) : stack_inner(v, dpl, &s))
        return CPU_FAULT;
    frame[n++] = c->seg[SEG_SS].sel;
    frame[n++] = c->gpr[RSP];
    for (unsigned i = g->params; i > 0; i--) {
        if (stack_peek(v, &old, (i - 1) * g->size, &param, 1, g->size))
            return CPU_FAULT;
        frame[n++] = param;
    }
    frame[n++] = c->seg[SEG_CS].sel;
    frame[n++] = next_rip;
    if (seg_check_rip(v, g->desc, g->off, &new64) || desc_access(v, g->sel, &g->desc) ||
        stack_push(v, &s, frame, n, g->size))
        return CPU_FAULT;
    seg_commit_cs(c, g->sel, g->desc, dpl);
    c->seg[SEG_SS] = s.ss;
    c->gpr[RSP] = s.sp;
    c->rip = g->off;
    return CPU_OK;
}

int cpu_far_call(struct vcpu *v, uint16_t sel, uint64_t off, unsigned opsize, uint64_t next_rip)
{
    struct cpu *c = &v->cpu;
    uint64_t frame[2] = {c->seg[SEG_CS].sel, next_rip}, desc;
    struct stack s;
    struct gate g;
    bool new64;

    off = by_opsize(off, opsize);
    stack_current(c, &s);
    if (cpu_real_mode(c) || cpu_v86(c)) {
        if (off > c->seg[SEG_CS].limit)
            return cpu_gp0(c);
        if (stack_push(v, &s, frame, 2, opsize))
            return CPU_FAULT;
        c->gpr[RSP] = s.sp;
        seg_load_real(c, SEG_CS, sel);
        c->rip = off;
        return CPU_OK;
    }
    if (sel_null(sel))
        return cpu_gp0(c);
    if (seg_read_descriptor(v, sel, VEC_GP, &desc))
        return CPU_FAULT;
    if (!desc_s(desc) && is_call_gate(c, desc)) {
        if (read_gate(v, sel, desc, &g))
            return CPU_FAULT;
        if (!desc_conforming(g.desc) && desc_dpl(g.desc) < c->cpl)
            return call_inner(v, &g, next_rip);
        sel = g.sel;
        desc = g.desc;
        off = g.off;
        opsize = g.size;
        s.is64 = s.is64 || opsize == 8; /* the target's pushes are 64-bit */
    } else if (!desc_s(desc)) {
        return far_task(v, sel, desc, TASK_CALL, next_rip);
    } else if (!desc_code(desc)) {
        return cpu_raise_error(c, VEC_GP, sel & 0xfffcu);
    } else if (check_direct(v, sel, desc)) {
        return CPU_FAULT;
    }
    if (seg_check_rip(v, desc, off, &new64) || desc_access(v, sel, &desc) ||
        stack_push(v, &s, frame, 2, opsize))
        return CPU_FAULT;
    seg_commit_cs(c, sel, desc, c->cpl);
    c->gpr[RSP] = s.sp;
    c->rip = off;
    return CPU_OK;
}
