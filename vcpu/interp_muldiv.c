/* MUL IMUL DIV IDIV (SDM 2A, 2B). */
#include "vcpu/interp_ops.h"

/* CF = OF = the upper half is significant. SF and PF follow the low half as on Intel, ZF and AF are
 * cleared (all four undefined in the manual). */
static void mul_flags(uint64_t *fl, uint64_t low, unsigned size, bool over)
{
    alu_set(fl, FL_ARITH, (alu_szp(low, size) & ~FL_ZF) | (over ? FL_CF | FL_OF : 0));
}

/* The double-width accumulator: AX, or rDX:rAX. */
static void set_wide(struct vcpu *v, const struct insn *in, unsigned size, uint64_t lo, uint64_t hi)
{
    if (size == 1) {
        op_set_gpr(v, in, RAX, 2, (lo & 0xff) | (hi & 0xff) << 8);
    } else {
        op_set_gpr(v, in, RAX, size, lo);
        op_set_gpr(v, in, RDX, size, hi);
    }
}

static int mul(struct vcpu *v, const struct insn *in, uint64_t src, bool is_signed)
{
    unsigned size = in->opsize, bits = 8 * size;
    uint64_t a = v->cpu.gpr[RAX] & alu_mask(size), lo, hi, fl = v->cpu.rflags;
    bool over;

    if (is_signed) {
        __int128 p = (__int128)(int64_t)alu_sext(a, size) * (int64_t)alu_sext(src, size);

        lo = (uint64_t)p & alu_mask(size);
        hi = (uint64_t)(p >> bits) & alu_mask(size);
        over = p != (int64_t)alu_sext(lo, size);
    } else {
        unsigned __int128 p = (unsigned __int128)a * src;

        lo = (uint64_t)p & alu_mask(size);
        hi = (uint64_t)(p >> bits) & alu_mask(size);
        over = hi;
    }
    mul_flags(&fl, lo, size, over);
    set_wide(v, in, size, lo, hi);
    return op_done_flags(v, in, fl);
}

static int div_unsigned(struct vcpu *v, const struct insn *in, uint64_t src)
{
    unsigned size = in->opsize, bits = 8 * size;
    uint64_t lo = v->cpu.gpr[RAX] & alu_mask(size);
    uint64_t hi = size == 1 ? (v->cpu.gpr[RAX] >> 8) & 0xff : v->cpu.gpr[RDX] & alu_mask(size);

    /* Covers division by zero and a quotient that does not fit alike. */
    if (hi >= src)
        return cpu_raise(&v->cpu, VEC_DE);
    if (size == 8) {
        unsigned __int128 n = (unsigned __int128)hi << 64 | lo;

        set_wide(v, in, size, (uint64_t)(n / src), (uint64_t)(n % src));
    } else {
        uint64_t n = hi << bits | lo;

        set_wide(v, in, size, n / src, n % src);
    }
    return op_done(v, in);
}

static int div_signed(struct vcpu *v, const struct insn *in, uint64_t src)
{
    unsigned size = in->opsize, bits = 8 * size;
    uint64_t lo = v->cpu.gpr[RAX] & alu_mask(size);
    uint64_t hi = size == 1 ? (v->cpu.gpr[RAX] >> 8) & 0xff : v->cpu.gpr[RDX] & alu_mask(size);
    __int128 n = (__int128)((unsigned __int128)alu_sext(hi, size) << bits | lo);
    __int128 d = (int64_t)alu_sext(src, size), q, r, max = (__int128)1 << (bits - 1);
    unsigned __int128 un, ud, uq;

    if (size < 8) /* the shift above left the sign in bit 64 and up only for size 8 */
        n = (int64_t)(alu_sext(hi, size) << bits | lo);
    if (!d)
        return cpu_raise(&v->cpu, VEC_DE);
    un = n < 0 ? -(unsigned __int128)n : (unsigned __int128)n;
    ud = d < 0 ? -(unsigned __int128)d : (unsigned __int128)d;
    uq = un / ud;
    if (uq > (unsigned __int128)max)
        return cpu_raise(&v->cpu, VEC_DE);
    q = (n < 0) != (d < 0) ? -(__int128)uq : (__int128)uq;
    if (q >= max)
        return cpu_raise(&v->cpu, VEC_DE);
    r = n - q * d;
    set_wide(v, in, size, (uint64_t)q & alu_mask(size), (uint64_t)r & alu_mask(size));
    return op_done(v, in);
}

/* IMUL r, r/m and IMUL r, r/m, imm. */
static int imul_reg(struct vcpu *v, const struct insn *in, uint64_t a, uint64_t b)
{
    unsigned size = in->opsize;
    uint64_t fl = v->cpu.rflags, lo;
    __int128 p = (__int128)(int64_t)alu_sext(a, size) * (int64_t)alu_sext(b, size);

    lo = (uint64_t)p & alu_mask(size);
    mul_flags(&fl, lo, size, p != (int64_t)alu_sext(lo, size));
    op_set_gpr(v, in, in->reg, size, lo);
    return op_done_flags(v, in, fl);
}

int interp_muldiv(struct vcpu *v, const struct insn *in)
{
    uint64_t src;

    if (op_read(v, in, in->opsize, &src) != CPU_OK)
        return CPU_FAULT;
    if (in->map == 1)
        return imul_reg(v, in, op_gpr(v, in, in->reg, in->opsize), src);
    if (in->opcode == 0x69 || in->opcode == 0x6b)
        return imul_reg(v, in, src, in->imm & alu_mask(in->opsize));
    switch (in->modrm >> 3 & 7) {
    case 4:
        return mul(v, in, src, false);
    case 5:
        return mul(v, in, src, true);
    case 6:
        return div_unsigned(v, in, src);
    default:
        return div_signed(v, in, src);
    }
}
