/* Delivery of exceptions, interrupts and software interrupts (SDM 3A chapter 6). */
#include "vcpu/system.h"

/* What is being delivered. */
struct event {
    uint8_t vector;
    bool dpl_check; /* INT n, INT3, INTO: the gate's DPL guards it */
    bool has_error;
    uint32_t error;
    uint32_t ext;         /* EXT bit of error codes of faults met on the way (SDM 3A 6.13) */
    uint64_t rip, rflags; /* as pushed */
};

/* SDM 3A table 6-4. */
enum fault_class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum fault_class fault_class(uint8_t vector)
{
    switch (vector) {
    case VEC_DE:
    case VEC_TS:
    case VEC_NP:
    case VEC_SS:
    case VEC_GP:
        return CONTRIBUTORY;
    case VEC_PF:
        return PAGE_FAULT;
    case VEC_DF:
        return DOUBLE_FAULT;
    default:
        return BENIGN;
    }
}

static int deliver_real(struct vcpu *v, const struct event *ev)
{
    struct cpu *c = &v->cpu;
    uint64_t frame[3] = {ev->rflags, c->seg[SEG_CS].sel, ev->rip};
    uint32_t off = ev->vector * 4u;
    uint16_t ivt[2];
    struct stack s;

    if (off + 3 > c->idtr.limit)
        return cpu_raise_error(c, VEC_GP, off * 2 + 2);
    if (sys_read(v, c->idtr.base + off, ivt, 4))
        return CPU_FAULT;
    stack_current(c, &s);
    if (stack_push(v, &s, frame, 3, 2))
        return CPU_FAULT;
    c->gpr[RSP] = s.sp;
    seg_load_real(c, SEG_CS, ivt[1]);
    c->rip = ivt[0];
    c->rflags &= ~(uint64_t)(FL_IF | FL_TF | FL_AC | FL_RF);
    return CPU_OK;
}

/* The checks of a gate's target code segment that both modes share; EXT is added by the caller. */
static int check_target(struct vcpu *v, uint16_t sel, uint64_t *desc, unsigned *cpl)
{
    struct cpu *c = &v->cpu;

    if (sel_null(sel))
        return cpu_gp0(c);
    if (seg_read_descriptor(v, sel, VEC_GP, desc))
        return CPU_FAULT;
    if (!desc_code(*desc) || desc_dpl(*desc) > c->cpl)
        return cpu_raise_error(c, VEC_GP, sel & 0xfffcu);
    if (!desc_p(*desc))
        return cpu_raise_error(c, VEC_NP, sel & 0xfffcu);
    *cpl = desc_conforming(*desc) ? c->cpl : desc_dpl(*desc);
    return CPU_OK;
}

static void enter_handler(struct cpu *c, uint16_t sel, uint64_t desc, unsigned cpl, uint64_t rip,
                          bool interrupt_gate)
{
    seg_commit_cs(c, sel, desc, cpl);
    c->rip = rip;
    c->rflags &= ~(uint64_t)(FL_TF | FL_NT | FL_RF | FL_VM | (interrupt_gate ? FL_IF : 0));
}

/* SDM 3A 6.14. */
static int deliver_long(struct vcpu *v, const struct event *ev)
{
    struct cpu *c = &v->cpu;
    uint64_t gate[2], desc, rip, frame[6];
    uint32_t off = ev->vector * 16u, idt_error = ev->vector * 8u + 2;
    unsigned type, cpl, ist;
    struct stack s;
    uint16_t sel;

    if (off + 15 > c->idtr.limit)
        return cpu_raise_error(c, VEC_GP, idt_error);
    if (sys_read(v, c->idtr.base + off, &gate[0], 8) ||
        sys_read(v, c->idtr.base + off + 8, &gate[1], 8))
        return CPU_FAULT;
    type = (unsigned)(gate[0] >> 40) & 0x1f;
    if ((type != SYS_INT32 && type != SYS_TRAP32) || (ev->dpl_check && desc_dpl(gate[0]) < c->cpl))
        return cpu_raise_error(c, VEC_GP, idt_error);
    if (!desc_p(gate[0]))
        return cpu_raise_error(c, VEC_NP, idt_error);
    sel = (uint16_t)(gate[0] >> 16);
    rip = (gate[0] & 0xffff) | (gate[0] >> 32 & 0xffff0000) | gate[1] << 32;
    if (check_target(v, sel, &desc, &cpl))
        return CPU_FAULT;
    if (!desc_l(desc) || desc_db(desc))
        return cpu_raise_error(c, VEC_GP, sel & 0xfffcu);

    ist = (unsigned)(gate[0] >> 32) & 7;
    if (ist || cpl != c->cpl) {
        if (stack_inner64(v, cpl, ist, &s))
            return CPU_FAULT;
    } else {
        stack_current(c, &s);
        s.is64 = true;
    }
    s.sp &= ~(uint64_t)15; /* SDM 3A 6.14.2 */
    if (!canonical(rip))
        return cpu_gp0(c);
    if (desc_access(v, sel, &desc))
        return CPU_FAULT;
    frame[0] = c->seg[SEG_SS].sel;
    frame[1] = c->gpr[RSP];
    frame[2] = ev->rflags;
    frame[3] = c->seg[SEG_CS].sel;
    frame[4] = ev->rip;
    frame[5] = ev->error;
    if (stack_push(v, &s, frame, ev->has_error ? 6 : 5, 8))
        return CPU_FAULT;

    c->gpr[RSP] = s.sp;
    if (cpl != c->cpl)
        c->seg[SEG_SS] = s.ss;
    enter_handler(c, sel, desc, cpl, rip, type == SYS_INT32);
    return CPU_OK;
}

/* SDM 3A 6.12 and 2A INT n; virtual-8086 mode: 3B 20.3. */
static int deliver_legacy(struct vcpu *v, const struct event *ev)
{
    struct cpu *c = &v->cpu;
    uint32_t off = ev->vector * 8u, idt_error = ev->vector * 8u + 2;
    bool v86 = cpu_v86(c), inner, new64;
    uint64_t gate, desc, rip, frame[10];
    unsigned type, cpl, size, n = 0;
    struct stack s;
    uint16_t sel;

    if (off + 7 > c->idtr.limit)
        return cpu_raise_error(c, VEC_GP, idt_error);
    if (sys_read(v, c->idtr.base + off, &gate, 8))
        return CPU_FAULT;
    type = (unsigned)(gate >> 40) & 0x1f;
    if (type != SYS_TASK_GATE && type != SYS_INT16 && type != SYS_TRAP16 && type != SYS_INT32 &&
        type != SYS_TRAP32)
        return cpu_raise_error(c, VEC_GP, idt_error);
    if (ev->dpl_check && desc_dpl(gate) < c->cpl)
        return cpu_raise_error(c, VEC_GP, idt_error);
    if (!desc_p(gate))
        return cpu_raise_error(c, VEC_NP, idt_error);
    sel = (uint16_t)(gate >> 16);
    if (type == SYS_TASK_GATE)
        return task_switch(v, sel, TASK_EVENT, ev->rip, ev->rflags,
                           ev->has_error ? &ev->error : NULL);

    rip = gate & 0xffff;
    size = type & 8 ? 4 : 2;
    if (size == 4)
        rip |= gate >> 32 & 0xffff0000;
    if (check_target(v, sel, &desc, &cpl))
        return CPU_FAULT;
    if (v86 && cpl != 0)
        return cpu_raise_error(c, VEC_GP, sel & 0xfffcu);
    inner = cpl != c->cpl;
    if (inner) {
        if (stack_inner(v, cpl, &s))
            return CPU_FAULT;
    } else {
        stack_current(c, &s);
    }
    if (seg_check_rip(v, desc, rip, &new64))
        return CPU_FAULT;
    if (desc_access(v, sel, &desc))
        return CPU_FAULT;
    if (v86) {
        frame[n++] = c->seg[SEG_GS].sel;
        frame[n++] = c->seg[SEG_FS].sel;
        frame[n++] = c->seg[SEG_DS].sel;
        frame[n++] = c->seg[SEG_ES].sel;
    }
    if (inner) {
        frame[n++] = c->seg[SEG_SS].sel;
        frame[n++] = c->gpr[RSP];
    }
    frame[n++] = ev->rflags;
    frame[n++] = c->seg[SEG_CS].sel;
    frame[n++] = ev->rip;
    if (ev->has_error)
        frame[n++] = ev->error;
    if (stack_push(v, &s, frame, n, size))
        return CPU_FAULT;

    c->gpr[RSP] = s.sp;
    if (inner)
        c->seg[SEG_SS] = s.ss;
    if (v86) {
        seg_set_null(&c->seg[SEG_GS], 0);
        seg_set_null(&c->seg[SEG_FS], 0);
        seg_set_null(&c->seg[SEG_DS], 0);
        seg_set_null(&c->seg[SEG_ES], 0);
    }
    enter_handler(c, sel, desc, cpl, rip, type == SYS_INT16 || type == SYS_INT32);
    return CPU_OK;
}

static int deliver_once(struct vcpu *v, const struct event *ev)
{
    struct cpu *c = &v->cpu;
    int rc;

    if (cpu_real_mode(c))
        rc = deliver_real(v, ev);
    else if (cpu_long_mode(c))
        rc = deliver_long(v, ev);
    else
        rc = deliver_legacy(v, ev);
    if (rc == CPU_OK) {
        c->int_shadow = 0;
        c->halted = false;
    } else if (c->exc.has_error && c->exc.vector != VEC_PF) {
        c->exc.error |= ev->ext;
    }
    return rc;
}

static int shutdown_exit(struct vcpu *v)
{
    struct cpu *c = &v->cpu;
    struct exception exc = c->exc;
    uint64_t lin = c->rip;
    unsigned got = 0;

    if (!cpu_code64(c))
        lin = (uint32_t)(c->seg[SEG_CS].base + c->rip);
    v->exit = (struct vcpu_exit){.reason = EXIT_SHUTDOWN, .what = "triple fault", .rip = c->rip};
    if (canonical(lin) && mem_fetch(v, lin, v->exit.bytes, sizeof(v->exit.bytes), &got) == CPU_OK)
        v->exit.nbytes = (uint8_t)got;
    c->exc = exc;
    return CPU_FAULT;
}

/* cpu.exc is no exception but an access that guest memory does not permit. */
static bool no_exception(const struct exception *x)
{
    return x->vector == VEC_NO_WRITE || x->vector == VEC_NO_EXEC;
}

static int forbidden_exit(struct vcpu *v)
{
    bool write = v->cpu.exc.vector == VEC_NO_WRITE;

    v->exit = (struct vcpu_exit){.reason = EXIT_ERROR,
                                 .what = write ? "write to memory that is read-only to the guest"
                                               : "jump into memory that the guest may not execute",
                                 .rip = v->cpu.rip};
    return CPU_FAULT;
}

/* The event of an exception raised by an instruction. Table 6-1 and 17.3.1.1: faults push RF set,
 * so that an instruction breakpoint does not fire again on return; #DB pushes RF as it is. */
static struct event exception_event(struct vcpu *v)
{
    struct cpu *c = &v->cpu;
    const struct exception *x = &c->exc;
    struct event ev = {.vector = x->vector,
                       .dpl_check = x->is_soft,
                       .has_error = x->has_error,
                       .error = x->error,
                       .ext = !x->is_soft,
                       .rip = c->rip,
                       .rflags = c->rflags};

    if (x->is_soft)
        ev.rflags &= ~(uint64_t)FL_RF;
    else if (x->vector != VEC_DB)
        ev.rflags |= FL_RF;
    if (x->vector == VEC_PF)
        c->cr2 = x->cr2;
    if (x->vector == VEC_DB)
        c->dr[7] &= ~(uint64_t)0x2000; /* GD: SDM 3B 17.2.4 */
    v->stats.exceptions[x->vector & 31]++;
    return ev;
}

/* Deliver ev, then whatever its delivery raises (SDM 3A table 6-5). */
static int deliver(struct vcpu *v, struct event ev, enum fault_class first)
{
    struct cpu *c = &v->cpu;

    while (deliver_once(v, &ev)) {
        enum fault_class second = fault_class(c->exc.vector);

        if (no_exception(&c->exc))
            return forbidden_exit(v);
        if (first == DOUBLE_FAULT)
            return shutdown_exit(v);
        if (c->exc.vector == VEC_PF)
            c->cr2 = c->exc.cr2;
        if ((first == CONTRIBUTORY && second == CONTRIBUTORY) ||
            (first == PAGE_FAULT && (second == CONTRIBUTORY || second == PAGE_FAULT))) {
            cpu_raise_error(c, VEC_DF, 0);
            second = DOUBLE_FAULT;
        }
        first = second;
        ev = exception_event(v);
    }
    return CPU_OK;
}

int cpu_deliver_exception(struct vcpu *v)
{
    enum fault_class first = v->cpu.exc.is_soft ? BENIGN : fault_class(v->cpu.exc.vector);

    if (no_exception(&v->cpu.exc))
        return forbidden_exit(v);
    return deliver(v, exception_event(v), first);
}

int cpu_deliver_interrupt(struct vcpu *v, uint8_t vector)
{
    struct cpu *c = &v->cpu;
    struct event ev = {.vector = vector, .ext = 1, .rip = c->rip, .rflags = c->rflags};

    if (vector == VEC_NMI) {
        c->nmi_blocked = true; /* vcpu_inject() has counted it */
    } else {
        v->stats.irqs++;
    }
    return deliver(v, ev, BENIGN);
}

int cpu_soft_int(struct vcpu *v, uint8_t vector, uint64_t next_rip, bool dpl_check)
{
    struct cpu *c = &v->cpu;
    /* INT1 (ICEBP) is checked by no DPL and counts as external to the program (SDM 2A INT n). */
    struct event ev = {.vector = vector,
                       .dpl_check = dpl_check,
                       .ext = !dpl_check,
                       .rip = next_rip,
                       .rflags = c->rflags & ~(uint64_t)FL_RF};

    if (deliver_once(v, &ev))
        return CPU_FAULT;
    if (vector == VEC_DB)
        c->dr[7] &= ~(uint64_t)0x2000;
    if (vector < 32)
        v->stats.exceptions[vector]++;
    return CPU_OK;
}
