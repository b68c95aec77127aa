/* IC_ALU of the one-byte map, IC_MOFFS, and the shifts. */
#include "vcpu/interp_ops.h"

/* ---- shifts and rotates (SDM 2B, SAL/SAR/SHL/SHR and RCL/RCR/ROL/ROR) ---- */

/* OF is defined for a count of 1 only; Intel computes it from the operand as if the count were 1,
 * whatever it is. */
static unsigned shift_of(unsigned op, uint64_t a, unsigned size, unsigned cf)
{
    unsigned msb = alu_msb(a, size);

    switch (op) {
    case 1:
        return msb ^ ((unsigned)a & 1);
    case 3:
        return msb ^ cf;
    case 5:
        return msb;
    case 7:
        return 0;
    default:
        return msb ^ ((unsigned)(a >> (8 * size - 2)) & 1);
    }
}

static uint64_t rotate(unsigned op, uint64_t a, unsigned count, unsigned size, uint64_t *fl)
{
    unsigned bits = 8 * size, c = count & (bits - 1);
    uint64_t r = a;

    if (c && op == 0)
        r = ((a << c) | (a >> (bits - c))) & alu_mask(size);
    else if (c)
        r = ((a >> c) | (a << (bits - c))) & alu_mask(size);
    alu_set(fl, FL_CF | FL_OF,
            (op == 0 ? (unsigned)r & 1 : alu_msb(r, size)) | shift_of(op, a, size, 0) << 11);
    return r;
}

/* Through carry: a rotation of bits + 1 positions. */
static uint64_t rotate_carry(unsigned op, uint64_t a, unsigned count, unsigned size, uint64_t *fl)
{
    unsigned bits = 8 * size, c = count % (bits + 1), cf = *fl & FL_CF;
    unsigned __int128 wide = (unsigned __int128)cf << bits | a;
    unsigned __int128 all = ((unsigned __int128)1 << (bits + 1)) - 1;

    if (!c) /* all the way round: no flag moves */
        return a;
    if (op == 2)
        wide = ((wide << c) | (wide >> (bits + 1 - c))) & all;
    else
        wide = ((wide >> c) | (wide << (bits + 1 - c))) & all;
    alu_set(fl, FL_CF | FL_OF, ((unsigned)(wide >> bits) & 1) | shift_of(op, a, size, cf) << 11);
    return (uint64_t)wide & alu_mask(size);
}

uint64_t alu_shift(unsigned op, uint64_t a, unsigned count, unsigned size, uint64_t *fl)
{
    unsigned bits = 8 * size, cf;
    uint64_t r;

    count &= size == 8 ? 63 : 31;
    if (!count)
        return a;
    switch (op) {
    case 0:
    case 1:
        return rotate(op, a, count, size, fl);
    case 2:
    case 3:
        return rotate_carry(op, a, count, size, fl);
    case 5:
        r = count < bits ? a >> count : 0;
        cf = count <= bits ? (unsigned)(a >> (count - 1)) & 1 : 0;
        break;
    case 7:
        r = (uint64_t)((int64_t)alu_sext(a, size) >> (count < bits ? count : bits - 1)) &
            alu_mask(size);
        cf = (unsigned)((int64_t)alu_sext(a, size) >> (count <= bits ? count - 1 : bits - 1)) & 1;
        break;
    default:
        r = count < bits ? (a << count) & alu_mask(size) : 0;
        cf = count <= bits ? (unsigned)(a >> (bits - count)) & 1 : 0;
        break;
    }
    alu_set(fl, FL_ARITH, alu_szp(r, size) | cf | shift_of(op, a, size, 0) << 11);
    return r;
}

/* ---- decimal adjustments (SDM 2A; not in 64-bit mode) ---- */

static int ascii_adjust(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    unsigned ax = (uint16_t)c->gpr[RAX];
    uint64_t fl = c->rflags;
    bool adjust = (ax & 15) > 9 || (fl & FL_AF);

    if (adjust)
        ax = in->opcode == 0x37 ? ax + 0x106 : ax - 0x106;
    ax &= 0xff0f;
    op_set_gpr(v, in, RAX, 2, ax);
    alu_set(&fl, FL_ARITH, alu_szp(ax & 0xff, 1) | (adjust ? FL_AF | FL_CF : 0));
    return op_done_flags(v, in, fl);
}

static int decimal_adjust(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    bool add = in->opcode == 0x27;
    unsigned old = (uint8_t)c->gpr[RAX], al = old;
    uint64_t fl = c->rflags;
    bool cf = fl & FL_CF, af = (old & 15) > 9 || (fl & FL_AF), new_cf = false;

    if (af) {
        new_cf = cf || (add ? al + 6 > 0xff : al < 6);
        al = (add ? al + 6 : al - 6) & 0xff;
    }
    if (old > 0x99 || cf) {
        al = (add ? al + 0x60 : al - 0x60) & 0xff;
        new_cf = true;
    }
    c->gpr[RAX] = (c->gpr[RAX] & ~(uint64_t)0xff) | al;
    alu_set(&fl, FL_ARITH, alu_szp(al, 1) | (af ? FL_AF : 0) | (new_cf ? FL_CF : 0));
    return op_done_flags(v, in, fl);
}

static int aam_aad(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    unsigned base = (uint8_t)in->imm, al = (uint8_t)c->gpr[RAX];
    unsigned ah = (uint8_t)(c->gpr[RAX] >> 8);
    uint64_t fl = c->rflags;

    if (in->opcode == 0xd4) {
        if (!base)
            return cpu_raise(c, VEC_DE);
        ah = al / base;
        al = al % base;
        alu_set(&fl, FL_ARITH, alu_szp(al, 1));
    } else { /* CF, AF, OF (undefined) are those of the addition */
        al = (unsigned)alu_adc(al, ah * base & 0xff, 0, 1, &fl);
        ah = 0;
    }
    op_set_gpr(v, in, RAX, 2, ah << 8 | al);
    return op_done_flags(v, in, fl);
}

/* ---- one-byte map ---- */

/* ADD OR ADC SBB AND SUB XOR CMP with an r/m destination. */
static int group1_rm(struct vcpu *v, const struct insn *in, unsigned op, uint64_t src)
{
    struct dst d;
    uint64_t fl, r;
    int rc;

    if (op == 7) {
        fl = v->cpu.rflags;
        if (op_read(v, in, in->opsize, &r) != CPU_OK)
            return CPU_FAULT;
        alu_sbb(r, src, 0, in->opsize, &fl);
        return op_done_flags(v, in, fl);
    }
    if (dst_open(v, in, in->opsize, &d) != CPU_OK)
        return CPU_FAULT;
    do {
        fl = v->cpu.rflags;
        r = alu_group1(op, d.old, src, in->opsize, &fl);
        rc = dst_commit(v, in, &d, r);
    } while (rc == DST_RETRY);
    if (rc != CPU_OK)
        return rc;
    return op_done_flags(v, in, fl);
}

static int group1(struct vcpu *v, const struct insn *in)
{
    unsigned op = in->opcode >> 3, size = in->opsize;
    uint64_t a, b, fl = v->cpu.rflags;

    switch (in->opcode & 7) {
    case 0:
    case 1:
        return group1_rm(v, in, op, op_gpr(v, in, in->reg, size));
    case 2:
    case 3:
        if (op_read(v, in, size, &b) != CPU_OK)
            return CPU_FAULT;
        a = alu_group1(op, op_gpr(v, in, in->reg, size), b, size, &fl);
        if (op != 7)
            op_set_gpr(v, in, in->reg, size, a);
        return op_done_flags(v, in, fl);
    default:
        a = alu_group1(op, v->cpu.gpr[RAX] & alu_mask(size), in->imm & alu_mask(size), size, &fl);
        if (op != 7)
            op_set_gpr(v, in, RAX, size, a);
        return op_done_flags(v, in, fl);
    }
}

static int shift_rm(struct vcpu *v, const struct insn *in, unsigned count)
{
    unsigned op = in->modrm >> 3 & 7;
    struct dst d;
    uint64_t fl, r;
    int rc;

    if (dst_open(v, in, in->opsize, &d) != CPU_OK)
        return CPU_FAULT;
    fl = v->cpu.rflags;
    r = alu_shift(op, d.old, count, in->opsize, &fl);
    /* ROL, ROR of a register by an immediate other than 1: OF, undefined, stays. */
    if (op < 2 && !in->has_mem && (in->opcode & 0xfe) == 0xc0 &&
        (count & (in->opsize == 8 ? 63 : 31)) != 1)
        alu_set(&fl, FL_OF, (uint32_t)v->cpu.rflags & FL_OF);
    rc = dst_commit(v, in, &d, r);
    if (rc != CPU_OK)
        return rc;
    return op_done_flags(v, in, fl);
}

/* NOT NEG INC DEC with an r/m destination. */
enum unary { UN_NOT, UN_NEG, UN_INC, UN_DEC };

static int unary_rm(struct vcpu *v, const struct insn *in, enum unary op)
{
    unsigned size = in->opsize;
    struct dst d;
    uint64_t fl, r;
    int rc;

    if (dst_open(v, in, size, &d) != CPU_OK)
        return CPU_FAULT;
    do {
        fl = v->cpu.rflags;
        switch (op) {
        case UN_NOT:
            r = ~d.old & alu_mask(size);
            break;
        case UN_NEG:
            r = alu_sbb(0, d.old, 0, size, &fl);
            break;
        case UN_INC:
            r = alu_inc(d.old, size, &fl);
            break;
        default:
            r = alu_dec(d.old, size, &fl);
            break;
        }
        rc = dst_commit(v, in, &d, r);
    } while (rc == DST_RETRY);
    if (rc != CPU_OK)
        return rc;
    return op_done_flags(v, in, fl);
}

static int test(struct vcpu *v, const struct insn *in, uint64_t src)
{
    uint64_t a, fl = v->cpu.rflags;

    if (op_read(v, in, in->opsize, &a) != CPU_OK)
        return CPU_FAULT;
    alu_logic(a & src & alu_mask(in->opsize), in->opsize, &fl);
    return op_done_flags(v, in, fl);
}

/* XCHG with memory is locked with or without the prefix. */
static int xchg(struct vcpu *v, const struct insn *in)
{
    struct dst d;
    uint64_t val = op_gpr(v, in, in->reg, in->opsize);
    gva_t lin;
    int rc;

    if (!in->has_mem) {
        uint64_t other = op_gpr(v, in, in->rm, in->opsize);

        op_set_gpr(v, in, in->rm, in->opsize, val);
        op_set_gpr(v, in, in->reg, in->opsize, other);
        return op_done(v, in);
    }
    if (op_lin(v, in, in->opsize, ACC_WRITE, &lin) != CPU_OK ||
        dst_open_at(v, lin, in->opsize, true, &d) != CPU_OK)
        return CPU_FAULT;
    do
        rc = dst_commit(v, in, &d, val);
    while (rc == DST_RETRY);
    if (rc != CPU_OK)
        return rc;
    op_set_gpr(v, in, in->reg, in->opsize, d.old);
    return op_done(v, in);
}

/* XCHG rAX, r: 90 itself is NOP, or XCHG r8 by REX.B; with F3 it is PAUSE either way. */
static int xchg_rax(struct vcpu *v, const struct insn *in)
{
    uint64_t a, b;

    if (in->opcode == 0x90 && (in->rm == RAX || in->rep)) {
        if (in->rep)
            vcpu_spin(v);
        return op_done(v, in);
    }
    a = op_gpr(v, in, RAX, in->opsize);
    b = op_gpr(v, in, in->rm, in->opsize);
    op_set_gpr(v, in, RAX, in->opsize, b);
    op_set_gpr(v, in, in->rm, in->opsize, a);
    return op_done(v, in);
}

static int mov_load(struct vcpu *v, const struct insn *in)
{
    uint64_t val;

    if (op_read(v, in, in->opsize, &val) != CPU_OK)
        return CPU_FAULT;
    op_set_gpr(v, in, in->reg, in->opsize, val);
    return op_done(v, in);
}

static int mov_store(struct vcpu *v, const struct insn *in, uint64_t val)
{
    if (op_write(v, in, in->opsize, val) != CPU_OK)
        return CPU_FAULT;
    return op_done(v, in);
}

/* MOV between AL/rAX and an absolute offset, XLAT. */
static int moffs(struct vcpu *v, const struct insn *in)
{
    bool store = in->opcode == 0xa2 || in->opcode == 0xa3;
    unsigned size = in->opcode == 0xd7 ? 1 : in->opsize;
    uint64_t val, ea;
    gva_t lin;

    if (in->opcode == 0xd7) {
        ea = (v->cpu.gpr[RBX] + (uint8_t)v->cpu.gpr[RAX]) & alu_mask(in->addrsize);
        if (op_linear(v, in, in->seg_override == REG_NONE ? SEG_DS : in->seg_override, ea, 1,
                      ACC_READ, &lin) != CPU_OK)
            return CPU_FAULT;
    } else if (op_lin(v, in, size, store ? ACC_WRITE : ACC_READ, &lin) != CPU_OK) {
        return CPU_FAULT;
    }
    if (store) {
        if (op_store(v, lin, size, v->cpu.gpr[RAX]) != CPU_OK)
            return CPU_FAULT;
    } else {
        if (op_load(v, lin, size, &val) != CPU_OK)
            return CPU_FAULT;
        op_set_gpr(v, in, RAX, size, val);
    }
    return op_done(v, in);
}

/* CBW CWDE CDQE, CWD CDQ CQO */
static int widen(struct vcpu *v, const struct insn *in)
{
    unsigned size = op_size(in);
    uint64_t a = v->cpu.gpr[RAX];

    if (in->opcode == 0x98)
        op_set_gpr(v, in, RAX, size, alu_sext(a & alu_mask(size / 2), size / 2));
    else
        op_set_gpr(v, in, RDX, size, alu_msb(a & alu_mask(size), size) ? ~(uint64_t)0 : 0);
    return op_done(v, in);
}

static int flag_op(struct vcpu *v, const struct insn *in)
{
    uint64_t fl = v->cpu.rflags;

    switch (in->opcode) {
    case 0x9e: /* SAHF */
        alu_set(&fl, 0xd5, (uint32_t)(v->cpu.gpr[RAX] >> 8) & 0xd5);
        break;
    case 0x9f: /* LAHF */
        v->cpu.gpr[RAX] = (v->cpu.gpr[RAX] & ~(uint64_t)0xff00) | ((fl & 0xd5) | 2) << 8;
        break;
    case 0xd6: /* SALC */
        v->cpu.gpr[RAX] = (v->cpu.gpr[RAX] & ~(uint64_t)0xff) | (fl & FL_CF ? 0xff : 0);
        break;
    case 0xf5:
        fl ^= FL_CF;
        break;
    case 0xf8:
        fl &= ~(uint64_t)FL_CF;
        break;
    case 0xf9:
        fl |= FL_CF;
        break;
    case 0xfc:
        fl &= ~(uint64_t)FL_DF;
        break;
    case 0xfd:
        fl |= FL_DF;
        break;
    default:
        return cpu_raise(&v->cpu, VEC_UD);
    }
    return op_done_flags(v, in, fl);
}

static int group3(struct vcpu *v, const struct insn *in)
{
    switch (in->modrm >> 3 & 7) {
    case 0:
    case 1:
        return test(v, in, in->imm);
    case 2:
        return unary_rm(v, in, UN_NOT);
    case 3:
        return unary_rm(v, in, UN_NEG);
    default:
        return interp_muldiv(v, in);
    }
}

static int one_byte(struct vcpu *v, const struct insn *in)
{
    unsigned size = in->opsize;
    uint64_t val, fl;

    if (in->opcode < 0x40 && (in->opcode & 7) < 6)
        return group1(v, in);
    switch (in->opcode) {
    case 0x27:
    case 0x2f:
        return decimal_adjust(v, in);
    case 0x37:
    case 0x3f:
        return ascii_adjust(v, in);
    case 0x40 ... 0x4f:
        fl = v->cpu.rflags;
        val = op_gpr(v, in, in->rm, size);
        val = in->opcode < 0x48 ? alu_inc(val, size, &fl) : alu_dec(val, size, &fl);
        op_set_gpr(v, in, in->rm, size, val);
        return op_done_flags(v, in, fl);
    case 0x63: /* MOVSXD; without REX.W a plain move of the operand size */
        size = op_size(in);
        if (op_read(v, in, size == 2 ? 2 : 4, &val) != CPU_OK)
            return CPU_FAULT;
        op_set_gpr(v, in, in->reg, size, size == 8 ? alu_sext(val, 4) : val);
        return op_done(v, in);
    case 0x69:
    case 0x6b:
        return interp_muldiv(v, in);
    case 0x80 ... 0x83:
        return group1_rm(v, in, in->modrm >> 3 & 7, in->imm & alu_mask(size));
    case 0x84:
    case 0x85:
        return test(v, in, op_gpr(v, in, in->reg, size));
    case 0x86:
    case 0x87:
        return xchg(v, in);
    case 0x88:
    case 0x89:
        return mov_store(v, in, op_gpr(v, in, in->reg, size));
    case 0x8a:
    case 0x8b:
        return mov_load(v, in);
    case 0x8d:
        op_set_gpr(v, in, in->reg, size, op_ea(v, in));
        return op_done(v, in);
    case 0x90 ... 0x97:
        return xchg_rax(v, in);
    case 0x98:
    case 0x99:
        return widen(v, in);
    case 0xa0 ... 0xa3:
    case 0xd7:
        return moffs(v, in);
    case 0xa8:
    case 0xa9:
        fl = v->cpu.rflags;
        alu_logic(v->cpu.gpr[RAX] & in->imm & alu_mask(size), size, &fl);
        return op_done_flags(v, in, fl);
    case 0xb0 ... 0xbf:
        op_set_gpr(v, in, in->rm, size, in->imm);
        return op_done(v, in);
    case 0xc0:
    case 0xc1:
        return shift_rm(v, in, (uint8_t)in->imm);
    case 0xd0:
    case 0xd1:
        return shift_rm(v, in, 1);
    case 0xd2:
    case 0xd3:
        return shift_rm(v, in, (uint8_t)v->cpu.gpr[RCX]);
    case 0xc6:
    case 0xc7:
        return mov_store(v, in, in->imm);
    case 0xd4:
    case 0xd5:
        return aam_aad(v, in);
    case 0xf6:
    case 0xf7:
        return group3(v, in);
    case 0xfe:
    case 0xff:
        return unary_rm(v, in, in->modrm & 8 ? UN_DEC : UN_INC);
    default:
        return flag_op(v, in);
    }
}

int interp_alu(struct vcpu *v, const struct insn *in)
{
    switch (in->map) {
    case 0:
        return one_byte(v, in);
    case 1:
        return interp_alu_0f(v, in);
    default:
        return interp_alu_38(v, in);
    }
}
