/* IC_BRANCH: near jumps, calls, returns. The target is checked before anything is pushed. */
#include "vcpu/interp_ops.h"

/* Targets have the operand's width; in 64-bit code near branches are 64-bit on Intel, 66 or not. */
static unsigned branch_size(const struct insn *in)
{
    return in->mode == 8 ? 8 : in->opsize;
}

static uint64_t relative(const struct vcpu *v, const struct insn *in)
{
    return (v->cpu.rip + in->len + in->imm) & alu_mask(branch_size(in));
}

static int jump_if(struct vcpu *v, const struct insn *in, bool taken)
{
    return taken ? interp_branch_to(v, relative(v, in)) : op_done(v, in);
}

static int call(struct vcpu *v, const struct insn *in, uint64_t target)
{
    uint64_t here = v->cpu.rip, next = op_next(v, in);

    if (interp_branch_to(v, target) != CPU_OK)
        return CPU_FAULT;
    if (interp_push(v, next, branch_size(in)) != CPU_OK) {
        v->cpu.rip = here;
        return CPU_FAULT;
    }
    return CPU_OK;
}

static int ret(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    uint64_t target, old = c->gpr[RSP];
    unsigned ss = in->mode == 8 ? 8 : c->seg[SEG_SS].attr & SEG_DB ? 4 : 2;

    if (interp_pop(v, &target, branch_size(in)) != CPU_OK)
        return CPU_FAULT;
    if (interp_branch_to(v, target) != CPU_OK) {
        c->gpr[RSP] = old;
        return CPU_FAULT;
    }
    if (in->opcode == 0xc2)
        op_set_addr(v, RSP, ss, c->gpr[RSP] + (uint16_t)in->imm);
    return CPU_OK;
}

/* LOOPNE LOOPE LOOP JrCXZ: the count register has the address size. A target that faults leaves it
 * as it was. */
static int loop(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    uint64_t count = (c->gpr[RCX] - (in->opcode != 0xe3)) & alu_mask(in->addrsize);
    bool taken, zf = c->rflags & FL_ZF;

    switch (in->opcode) {
    case 0xe0:
        taken = count && !zf;
        break;
    case 0xe1:
        taken = count && zf;
        break;
    case 0xe2:
        taken = count;
        break;
    default:
        return jump_if(v, in, !count);
    }
    if (jump_if(v, in, taken) != CPU_OK)
        return CPU_FAULT;
    op_set_addr(v, RCX, in->addrsize, count);
    return CPU_OK;
}

int interp_branch(struct vcpu *v, const struct insn *in)
{
    uint64_t target;

    if (in->map == 1)
        return jump_if(v, in, alu_cond(in->opcode, v->cpu.rflags));
    switch (in->opcode) {
    case 0x70 ... 0x7f:
        return jump_if(v, in, alu_cond(in->opcode, v->cpu.rflags));
    case 0xc2:
    case 0xc3:
        return ret(v, in);
    case 0xe0 ... 0xe3:
        return loop(v, in);
    case 0xe8:
        return call(v, in, relative(v, in));
    case 0xe9:
    case 0xeb:
        return interp_branch_to(v, relative(v, in));
    default: /* FF /2, FF /4 */
        if (op_read(v, in, branch_size(in), &target) != CPU_OK)
            return CPU_FAULT;
        if ((in->modrm >> 3 & 7) == 2)
            return call(v, in, target);
        return interp_branch_to(v, target);
    }
}
