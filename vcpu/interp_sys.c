/* IC_SYS of the one-byte map: flags, port I/O, segment registers, far transfers, software
 * interrupts. What they do is in except.h's functions; here are their operands and privileges. */
#include "vcpu/interp_ops.h"
#include "vcpu/watch.h"

static unsigned iopl(const struct cpu *c)
{
    return (unsigned)(c->rflags & FL_IOPL) >> 12;
}

/* ---- port I/O ---- */

/* SDM 1 19.5.2: the bitmap's bits of every byte of the access must be clear. The processor reads
 * two bytes, which the TSS must hold. */
static int bitmap_allows(struct vcpu *v, uint16_t port, unsigned size)
{
    struct cpu *c = &v->cpu;
    uint16_t base = 0, bits = 0;
    uint32_t off;

    if ((c->tr.attr & SEG_NULL) || (SEG_TYPE(c->tr.attr) & 0xd) != 9 || c->tr.limit < 103)
        return cpu_gp0(c);
    if (mem_read(v, c->tr.base + 102, &base, 2, ACC_IMPLICIT) != CPU_OK)
        return CPU_FAULT;
    off = base + port / 8u;
    if (off + 1 > c->tr.limit)
        return cpu_gp0(c);
    if (mem_read(v, c->tr.base + off, &bits, 2, ACC_IMPLICIT) != CPU_OK)
        return CPU_FAULT;
    if (bits >> (port & 7) & ((1u << size) - 1))
        return cpu_gp0(c);
    return CPU_OK;
}

int interp_io_allowed(struct vcpu *v, uint16_t port, unsigned size)
{
    struct cpu *c = &v->cpu;

    if (cpu_real_mode(c) || (!cpu_v86(c) && c->cpl <= iopl(c)))
        return CPU_OK;
    return bitmap_allows(v, port, size);
}

/* Before the bus: putting the vector state away costs more than most accesses. */
static void leave_fpu(struct vcpu *v, uint16_t port, unsigned size)
{
    const struct machine_ops *ops = v->vm->ops;

    if (v->fpu_live && !(ops->pio_plain && ops->pio_plain(v->vm->machine, port, size)))
        fpu_put(v);
}

uint64_t interp_pio_read(struct vcpu *v, uint16_t port, unsigned size)
{
    if (watch_any(v))
        watch_io(v, port, size);
    leave_fpu(v, port, size);
    v->stats.pio_reads++;
    return v->vm->ops->pio_read(v->vm->machine, port, size);
}

void interp_pio_write(struct vcpu *v, uint16_t port, unsigned size, uint64_t val)
{
    if (watch_any(v))
        watch_io(v, port, size);
    leave_fpu(v, port, size);
    v->stats.pio_writes++;
    v->vm->ops->pio_write(v->vm->machine, port, size, val & alu_mask(size));
}

static int in_out(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    unsigned size = in->opsize > 4 ? 4 : in->opsize;
    uint16_t port = in->opcode & 8 ? (uint16_t)c->gpr[RDX] : (uint8_t)in->imm;

    if (interp_io_allowed(v, port, size) != CPU_OK)
        return CPU_FAULT;
    if (in->opcode & 2)
        interp_pio_write(v, port, size, c->gpr[RAX]);
    else
        op_set_gpr(v, in, RAX, size, interp_pio_read(v, port, size));
    return op_done(v, in);
}

/* ---- interrupt flag, HLT ---- */

static int cli_sti(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;

    /* VME and PVI are not offered: IOPL alone decides. */
    if (!cpu_real_mode(c) && (cpu_v86(c) ? 3 : c->cpl) > iopl(c))
        return cpu_gp0(c);
    if (in->opcode == 0xfa) {
        c->rflags &= ~(uint64_t)FL_IF;
    } else if (!(c->rflags & FL_IF)) {
        c->rflags |= FL_IF;
        c->int_shadow = SHADOW_STI;
    }
    return op_done(v, in);
}

static int hlt(struct vcpu *v, const struct insn *in)
{
    if (v->cpu.cpl)
        return cpu_gp0(&v->cpu);
    v->cpu.halted = true;
    return op_done(v, in);
}

/* ---- segment registers ---- */

static int mov_from_seg(struct vcpu *v, const struct insn *in)
{
    uint16_t sel = v->cpu.seg[in->modrm >> 3 & 7].sel;

    if (op_write(v, in, in->has_mem ? 2 : op_size(in), sel) != CPU_OK)
        return CPU_FAULT;
    return op_done(v, in);
}

static int load_seg(struct vcpu *v, const struct insn *in, unsigned seg, uint16_t sel)
{
    if (seg_load(v, seg, sel) != CPU_OK)
        return CPU_FAULT;
    return op_done(v, in);
}

/* A load of SS holds interrupts and debug traps off for one instruction, so that RSP can follow. */
static int mov_to_seg(struct vcpu *v, const struct insn *in)
{
    unsigned seg = in->modrm >> 3 & 7;
    uint64_t sel;

    if (seg == SEG_CS || seg >= NSEG)
        return cpu_raise(&v->cpu, VEC_UD);
    if (op_read(v, in, 2, &sel) != CPU_OK || load_seg(v, in, seg, (uint16_t)sel) != CPU_OK)
        return CPU_FAULT;
    if (seg == SEG_SS)
        v->cpu.int_shadow = SHADOW_SS;
    return CPU_OK;
}

int interp_push_seg(struct vcpu *v, const struct insn *in, unsigned seg)
{
    struct cpu *c = &v->cpu;
    uint64_t old = c->gpr[RSP], val = c->seg[seg].sel;
    unsigned ss = in->mode == 8 ? 8 : c->seg[SEG_SS].attr & SEG_DB ? 4 : 2;

    /* A 32-bit push moves ESP by four and writes two bytes (SDM 2B PUSH; Intel since P6). */
    if (in->opsize == 4) {
        uint64_t sp = (old - 4) & alu_mask(ss);
        gva_t lin;

        if (seg_linear(v, SEG_SS, sp, 2, ACC_WRITE, &lin) != CPU_OK ||
            op_store(v, lin, 2, val) != CPU_OK)
            return CPU_FAULT;
        op_set_addr(v, RSP, ss, sp);
        return op_done(v, in);
    }
    if (interp_push(v, val, in->opsize) != CPU_OK)
        return CPU_FAULT;
    return op_done(v, in);
}

int interp_pop_seg(struct vcpu *v, const struct insn *in, unsigned seg)
{
    struct cpu *c = &v->cpu;
    unsigned ss = in->mode == 8 ? 8 : c->seg[SEG_SS].attr & SEG_DB ? 4 : 2;
    uint64_t sp = c->gpr[RSP] & alu_mask(ss), sel;
    gva_t lin;

    if (seg_linear(v, SEG_SS, sp, 2, ACC_READ, &lin) != CPU_OK ||
        op_load(v, lin, 2, &sel) != CPU_OK || seg_load(v, seg, (uint16_t)sel) != CPU_OK)
        return CPU_FAULT;
    op_set_addr(v, RSP, ss, sp + in->opsize);
    if (seg == SEG_SS)
        c->int_shadow = SHADOW_SS;
    return op_done(v, in);
}

/* The far pointer m16:16, m16:32, m16:64 at the ModRM operand. */
static int read_far(struct vcpu *v, const struct insn *in, uint64_t *off, uint16_t *sel)
{
    unsigned size = op_size(in);
    uint64_t ea = op_ea(v, in), s;
    gva_t lin;

    if (op_linear(v, in, in->seg, ea, size + 2, ACC_READ, &lin) != CPU_OK ||
        op_load(v, lin, size, off) != CPU_OK ||
        op_linear(v, in, in->seg, (ea + size) & alu_mask(in->addrsize), 2, ACC_READ, &lin) !=
            CPU_OK ||
        op_load(v, lin, 2, &s) != CPU_OK)
        return CPU_FAULT;
    *sel = (uint16_t)s;
    return CPU_OK;
}

int interp_load_far(struct vcpu *v, const struct insn *in, unsigned seg)
{
    uint64_t off;
    uint16_t sel;

    if (read_far(v, in, &off, &sel) != CPU_OK || seg_load(v, seg, sel) != CPU_OK)
        return CPU_FAULT;
    op_set_gpr(v, in, in->reg, op_size(in), off);
    return op_done(v, in);
}

/* ---- far transfers, software interrupts ---- */

static int far_indirect(struct vcpu *v, const struct insn *in)
{
    uint64_t off;
    uint16_t sel;

    if (read_far(v, in, &off, &sel) != CPU_OK)
        return CPU_FAULT;
    if ((in->modrm >> 3 & 7) == 3)
        return cpu_far_call(v, sel, off, op_size(in), op_next(v, in));
    return cpu_far_jump(v, sel, off, op_size(in), op_next(v, in));
}

static int bound(struct vcpu *v, const struct insn *in)
{
    unsigned size = in->opsize;
    uint64_t ea = op_ea(v, in), lo, hi;
    int64_t idx = (int64_t)alu_sext(op_gpr(v, in, in->reg, size), size);
    gva_t lin;

    if (op_linear(v, in, in->seg, ea, 2 * size, ACC_READ, &lin) != CPU_OK ||
        op_load(v, lin, size, &lo) != CPU_OK || op_load(v, lin + size, size, &hi) != CPU_OK)
        return CPU_FAULT;
    if (idx < (int64_t)alu_sext(lo, size) || idx > (int64_t)alu_sext(hi, size))
        return cpu_raise(&v->cpu, VEC_BR);
    return op_done(v, in);
}

static int soft_int(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    uint64_t next = op_next(v, in);

    switch (in->opcode) {
    case 0xcc:
        return cpu_soft_int(v, VEC_BP, next, true);
    case 0xcd:
        if (cpu_v86(c) && iopl(c) < 3)
            return cpu_gp0(c);
        return cpu_soft_int(v, (uint8_t)in->imm, next, true);
    case 0xce:
        if (!(c->rflags & FL_OF))
            return op_done(v, in);
        return cpu_soft_int(v, VEC_OF, next, true);
    default: /* ICEBP: a #DB that no DPL guards */
        return cpu_soft_int(v, VEC_DB, next, false);
    }
}

static int arpl(struct vcpu *v, const struct insn *in)
{
    uint64_t src = op_gpr(v, in, in->reg, 2), fl;
    struct dst d;

    if (cpu_real_mode(&v->cpu) || cpu_v86(&v->cpu))
        return cpu_raise(&v->cpu, VEC_UD);
    if (dst_open(v, in, 2, &d) != CPU_OK)
        return CPU_FAULT;
    fl = v->cpu.rflags & ~(uint64_t)FL_ZF;
    if ((d.old & 3) < (src & 3)) {
        fl |= FL_ZF;
        if (dst_commit(v, in, &d, (d.old & ~(uint64_t)3) | (src & 3)) != CPU_OK)
            return CPU_FAULT;
    }
    return op_done_flags(v, in, fl);
}

static int iret(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;

    if (cpu_v86(c) && iopl(c) < 3)
        return cpu_gp0(c);
    return cpu_iret(v, op_size(in));
}

int interp_sys(struct vcpu *v, const struct insn *in)
{
    if (in->map)
        return interp_sys_0f(v, in);
    switch (in->opcode) {
    case 0x06:
    case 0x0e:
    case 0x16:
    case 0x1e:
        return interp_push_seg(v, in, in->opcode >> 3);
    case 0x07:
    case 0x17:
    case 0x1f:
        return interp_pop_seg(v, in, in->opcode >> 3);
    case 0x62:
        return bound(v, in);
    case 0x63:
        return arpl(v, in);
    case 0x6c ... 0x6f:
        return interp_string(v, in);
    case 0x8c:
        return mov_from_seg(v, in);
    case 0x8e:
        return mov_to_seg(v, in);
    case 0x9a:
        return cpu_far_call(v, in->imm2, in->imm & alu_mask(op_size(in)), op_size(in),
                            op_next(v, in));
    case 0xea:
        return cpu_far_jump(v, in->imm2, in->imm & alu_mask(op_size(in)), op_size(in),
                            op_next(v, in));
    case 0xc4:
        return interp_load_far(v, in, SEG_ES);
    case 0xc5:
        return interp_load_far(v, in, SEG_DS);
    case 0xca:
        return cpu_far_ret(v, op_size(in), (uint16_t)in->imm);
    case 0xcb:
        return cpu_far_ret(v, op_size(in), 0);
    case 0xcc ... 0xce:
    case 0xf1:
        return soft_int(v, in);
    case 0xcf:
        return iret(v, in);
    case 0xe4 ... 0xe7:
    case 0xec ... 0xef:
        return in_out(v, in);
    case 0xf4:
        return hlt(v, in);
    case 0xfa:
    case 0xfb:
        return cli_sti(v, in);
    case 0xff:
        return far_indirect(v, in);
    default:
        return cpu_raise(&v->cpu, VEC_UD);
    }
}
