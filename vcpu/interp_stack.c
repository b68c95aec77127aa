/* IC_STACK: PUSH POP PUSHA POPA ENTER LEAVE PUSHF POPF. */
#include "vcpu/interp_ops.h"

static unsigned stack_addr(const struct vcpu *v, const struct insn *in)
{
    if (in->mode == 8)
        return 8;
    return v->cpu.seg[SEG_SS].attr & SEG_DB ? 4 : 2;
}

static int push(struct vcpu *v, const struct insn *in, uint64_t val)
{
    if (interp_push(v, val, in->opsize) != CPU_OK)
        return CPU_FAULT;
    return op_done(v, in);
}

static int pop_reg(struct vcpu *v, const struct insn *in)
{
    uint64_t val;

    if (interp_pop(v, &val, in->opsize) != CPU_OK)
        return CPU_FAULT;
    op_set_gpr(v, in, in->rm, in->opsize, val); /* POP rSP: the value wins over the increment */
    return op_done(v, in);
}

/* POP r/m: an rSP-based address is computed with rSP already incremented. */
static int pop_rm(struct vcpu *v, const struct insn *in)
{
    uint64_t old = v->cpu.gpr[RSP], val;
    gva_t lin;

    if (!in->has_mem)
        return pop_reg(v, in);
    if (interp_pop(v, &val, in->opsize) != CPU_OK)
        return CPU_FAULT;
    if (op_lin(v, in, in->opsize, ACC_WRITE, &lin) != CPU_OK ||
        op_store(v, lin, in->opsize, val) != CPU_OK) {
        v->cpu.gpr[RSP] = old;
        return CPU_FAULT;
    }
    return op_done(v, in);
}

static int pusha(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    unsigned size = in->opsize, ss = stack_addr(v, in);
    uint64_t sp = c->gpr[RSP];
    gva_t lin[8];

    for (unsigned i = 0; i < 8; i++)
        if (seg_linear(v, SEG_SS, (sp - (i + 1) * size) & alu_mask(ss), size, ACC_WRITE, &lin[i]) !=
                CPU_OK ||
            mem_probe_write(v, lin[i], size, ACC_WRITE) != CPU_OK)
            return CPU_FAULT;
    for (unsigned i = 0; i < 8; i++)
        if (op_store(v, lin[i], size, c->gpr[i]) != CPU_OK)
            return CPU_FAULT;
    op_set_addr(v, RSP, ss, sp - 8 * size);
    return op_done(v, in);
}

static int popa(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    unsigned size = in->opsize, ss = stack_addr(v, in);
    uint64_t sp = c->gpr[RSP], val[8];
    gva_t lin;

    for (unsigned i = 0; i < 8; i++)
        if (seg_linear(v, SEG_SS, (sp + i * size) & alu_mask(ss), size, ACC_READ, &lin) != CPU_OK ||
            op_load(v, lin, size, &val[i]) != CPU_OK)
            return CPU_FAULT;
    for (unsigned i = 0; i < 8; i++)
        if (7 - i != RSP)
            op_set_gpr(v, in, 7 - i, size, val[i]);
    op_set_addr(v, RSP, ss, sp + 8 * size);
    return op_done(v, in);
}

/*
 * ENTER (SDM 2A): push rBP, copy level - 1 frame pointers, push the new one, then make room. All
 * loads and write checks come first: the frame may fault in any of its pages.
 */
static int enter(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    unsigned size = in->opsize, ss = stack_addr(v, in), level = in->imm2 & 31, n = 0;
    uint64_t sp = c->gpr[RSP] & alu_mask(ss), bp = c->gpr[RBP], frame, val[33];
    gva_t lin;

    val[n++] = bp;
    frame = (sp - size) & alu_mask(ss);
    for (unsigned i = 1; i < level; i++) {
        bp = (c->gpr[RBP] - (uint64_t)i * size) & alu_mask(ss);
        if (seg_linear(v, SEG_SS, bp, size, ACC_READ, &lin) != CPU_OK ||
            op_load(v, lin, size, &val[n]) != CPU_OK)
            return CPU_FAULT;
        n++;
    }
    if (level)
        val[n++] = frame;
    for (unsigned i = 0; i < n; i++)
        if (seg_linear(v, SEG_SS, (sp - (uint64_t)(i + 1) * size) & alu_mask(ss), size, ACC_WRITE,
                       &lin) != CPU_OK ||
            mem_probe_write(v, lin, size, ACC_WRITE) != CPU_OK)
            return CPU_FAULT;
    /* "The ENTER instruction causes a page fault whenever a write using the final value of the
     * stack pointer would do so." */
    sp = (sp - (uint64_t)n * size - (uint16_t)in->imm) & alu_mask(ss);
    if (seg_linear(v, SEG_SS, sp, size, ACC_WRITE, &lin) != CPU_OK ||
        mem_probe_write(v, lin, size, ACC_WRITE) != CPU_OK)
        return CPU_FAULT;
    sp = c->gpr[RSP];
    for (unsigned i = 0; i < n; i++) {
        /* Frame pointers are copied one by one: a push may be what the next one reads. */
        bp = (c->gpr[RBP] - (uint64_t)i * size) & alu_mask(ss);
        if (i && i < level &&
            (seg_linear(v, SEG_SS, bp, size, ACC_READ, &lin) != CPU_OK ||
             op_load(v, lin, size, &val[i]) != CPU_OK))
            return CPU_FAULT;
        if (seg_linear(v, SEG_SS, (sp - (uint64_t)(i + 1) * size) & alu_mask(ss), size, ACC_WRITE,
                       &lin) != CPU_OK ||
            op_store(v, lin, size, val[i]) != CPU_OK)
            return CPU_FAULT;
    }
    op_set_gpr(v, in, RBP, size, frame);
    op_set_addr(v, RSP, ss, sp - (uint64_t)n * size - (uint16_t)in->imm);
    return op_done(v, in);
}

static int leave(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    unsigned ss = stack_addr(v, in);
    uint64_t old = c->gpr[RSP], val;

    op_set_addr(v, RSP, ss, c->gpr[RBP]);
    if (interp_pop(v, &val, in->opsize) != CPU_OK) {
        c->gpr[RSP] = old;
        return CPU_FAULT;
    }
    op_set_gpr(v, in, RBP, in->opsize, val);
    return op_done(v, in);
}

static bool v86_sensitive(const struct cpu *c)
{
    return cpu_v86(c) && (c->rflags & FL_IOPL) != FL_IOPL;
}

static int pushf(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;

    if (v86_sensitive(c))
        return cpu_gp0(c);
    return push(v, in, c->rflags & ~(uint64_t)(FL_VM | FL_RF));
}

static int popf(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    uint64_t val, mask = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_AC | FL_ID;

    if (v86_sensitive(c))
        return cpu_gp0(c);
    if (interp_pop(v, &val, in->opsize) != CPU_OK)
        return CPU_FAULT;
    if (!cpu_v86(c) && c->cpl == 0)
        mask |= FL_IOPL;
    if (c->cpl <= (c->rflags & FL_IOPL) >> 12)
        mask |= FL_IF;
    if (in->opsize == 2)
        mask &= 0xffff;
    else
        c->rflags &= ~(uint64_t)FL_RF;
    return op_done_flags(v, in, (c->rflags & ~mask) | (val & mask) | FL_R1);
}

int interp_stack(struct vcpu *v, const struct insn *in)
{
    uint64_t val;

    switch (in->opcode) {
    case 0x50 ... 0x57:
        return push(v, in, v->cpu.gpr[in->rm & 15]);
    case 0x58 ... 0x5f:
        return pop_reg(v, in);
    case 0x60:
        return pusha(v, in);
    case 0x61:
        return popa(v, in);
    case 0x68:
    case 0x6a:
        return push(v, in, in->imm);
    case 0x8f:
        return pop_rm(v, in);
    case 0x9c:
        return pushf(v, in);
    case 0x9d:
        return popf(v, in);
    case 0xc8:
        return enter(v, in);
    case 0xc9:
        return leave(v, in);
    default: /* FF /6 */
        if (op_read(v, in, in->opsize, &val) != CPU_OK)
            return CPU_FAULT;
        return push(v, in, val);
    }
}
