/* Vector instructions with an address per element: MASKMOVQ, MASKMOVDQU, VMASKMOV*, VPMASKMOV*,
 * VGATHER*, VPGATHER*. What a mask leaves out is not accessed. */
#include "vcpu/interp_xstate.h"

/*
 * The first MMX instruction after x87 code makes TOP zero and all registers valid (SDM 1 9.6.2).
 * The image holds registers relative to TOP: turn it until ST(i) is R(i) is MM(i).
 */
static void mmx_enter(uint8_t *x)
{
    unsigned top = xs_get16(x, XS_FSW) >> 11 & 7;
    uint8_t reg[8][16];

    for (unsigned i = 0; i < 8; i++)
        __builtin_memcpy(reg[(i + top) & 7], x + XS_ST + 16 * i, 16);
    for (unsigned i = 0; i < 8; i++)
        __builtin_memcpy(x + XS_ST + 16 * i, reg[i], 16);
    xs_put16(x, XS_FSW, xs_get16(x, XS_FSW) & ~0x3800u);
    x[XS_FTW] = 0xff;
}

/* MASKMOVQ, MASKMOVDQU: bytes of reg whose mask byte in rm has bit 7 set go to [rDI]. */
static int maskmov(struct vcpu *v, const struct insn *in)
{
    bool mmx = !in->vex && in->pp == 0;
    unsigned n = mmx ? 8 : 16;
    unsigned seg = in->seg_override == REG_NONE ? SEG_DS : in->seg_override;
    uint64_t ea = v->cpu.gpr[RDI];
    uint8_t src[16], mask[16], *x = xstate_open(v);
    gva_t lin[16];

    if (mmx) {
        if (xs_get16(x, XS_FSW) & 0x80)
            return cpu_raise(&v->cpu, VEC_MF);
        mmx_enter(x);
        copy_bytes(src, x + XS_ST + 16 * (in->reg & 7), 8);
        copy_bytes(mask, x + XS_ST + 16 * (in->rm & 7), 8);
    } else {
        copy_bytes(src, x + XS_XMM + 16 * (in->reg & 15), 16);
        copy_bytes(mask, x + XS_XMM + 16 * (in->rm & 15), 16);
    }
    for (unsigned i = 0; i < n; i++)
        if ((mask[i] & 0x80) && (op_linear(v, in, seg, (ea + i) & alu_mask(in->addrsize), 1,
                                           ACC_WRITE, &lin[i]) != CPU_OK ||
                                 mem_probe_write(v, lin[i], 1, ACC_WRITE) != CPU_OK))
            return CPU_FAULT;
    for (unsigned i = 0; i < n; i++)
        if ((mask[i] & 0x80) && mem_write(v, lin[i], &src[i], 1, ACC_WRITE) != CPU_OK)
            return CPU_FAULT;
    return op_done(v, in);
}

static bool selected(const uint8_t *mask, unsigned i, unsigned size)
{
    return mask[(i + 1) * size - 1] & 0x80;
}

/* VMASKMOVPS/PD 2C-2F, VPMASKMOVD/Q 8C, 8E */
static int vmaskmov(struct vcpu *v, const struct insn *in)
{
    bool store = in->opcode == 0x2e || in->opcode == 0x2f || in->opcode == 0x8e;
    unsigned size = in->opcode & 0x80 ? (in->vex_w ? 8 : 4) : (in->opcode & 1 ? 8 : 4);
    unsigned n = (in->vex_l ? 32 : 16) / size;
    uint64_t ea = op_ea(v, in), val;
    uint8_t mask[32], data[32] = {0}, *x;
    gva_t lin[8];

    if (interp_vec_enabled(v, in) != CPU_OK)
        return CPU_FAULT;
    x = xstate_open(v);
    xs_get_ymm(x, in->vex_vvvv, mask);
    if (store)
        xs_get_ymm(x, in->reg, data);
    for (unsigned i = 0; i < n; i++) {
        if (!selected(mask, i, size))
            continue;
        if (op_linear(v, in, in->seg, (ea + i * size) & alu_mask(in->addrsize), size,
                      store ? ACC_WRITE : ACC_READ, &lin[i]) != CPU_OK)
            return CPU_FAULT;
        if (store) {
            if (mem_probe_write(v, lin[i], size, ACC_WRITE) != CPU_OK)
                return CPU_FAULT;
        } else {
            if (op_load(v, lin[i], size, &val) != CPU_OK)
                return CPU_FAULT;
            __builtin_memcpy(data + i * size, &val, size == 8 ? 8 : 4);
        }
    }
    if (!store) {
        xs_put_ymm(x, in->reg, data);
        return op_done(v, in);
    }
    for (unsigned i = 0; i < n; i++) {
        if (!selected(mask, i, size))
            continue;
        if (mem_write(v, lin[i], data + i * size, size, ACC_WRITE) != CPU_OK)
            return CPU_FAULT;
    }
    return op_done(v, in);
}

/* Element addresses: base + index * scale + disp, the index sign-extended from its own width. */
static uint64_t gather_ea(const struct vcpu *v, const struct insn *in, int64_t index)
{
    uint64_t ea = (uint64_t)in->disp + ((uint64_t)index << (in->scale & 3));

    if (in->base != REG_NONE)
        ea += v->cpu.gpr[in->base & 15];
    return ea & alu_mask(in->addrsize);
}

/* VPGATHERDD.. 90, QD.. 91, VGATHERDPS.. 92, VGATHERQPS.. 93. A fault leaves the elements before
 * it loaded and their mask bits clear, so that the instruction can be restarted; the mask is by
 * then all ones or zeroes by element, and the registers' upper halves are zero where VEX.L is. */
static int gather(struct vcpu *v, const struct insn *in)
{
    unsigned size = in->vex_w ? 8 : 4, isize = in->opcode & 1 ? 8 : 4;
    unsigned wide = in->vex_l ? 32 : 16, n = wide / (size > isize ? size : isize);
    uint8_t dest[32], mask[32], idx[32], *x;
    uint64_t val;
    int64_t index;
    gva_t lin;
    bool any = false;

    if (in->reg == in->vex_vvvv || in->reg == in->index || in->index == in->vex_vvvv)
        return cpu_raise(&v->cpu, VEC_UD);
    if (interp_vec_enabled(v, in) != CPU_OK)
        return CPU_FAULT;
    x = xstate_open(v);
    xs_get_ymm(x, in->reg, dest);
    xs_get_ymm(x, in->vex_vvvv, mask);
    xs_get_ymm(x, in->index, idx);
    /* A partly done mask is all ones or all zeroes by element. */
    for (unsigned i = 0; i < wide / size; i++)
        for (unsigned b = i * size, on = selected(mask, i, size); b < (i + 1) * size; b++)
            mask[b] = on ? 0xff : 0;
    for (unsigned i = 0; i < n; i++) {
        if (!selected(mask, i, size))
            continue;
        index = isize == 8 ? (int64_t)xs_get64(idx, i * 8) : (int32_t)xs_get32(idx, i * 4);
        if (op_linear(v, in, in->seg, gather_ea(v, in, index), size, ACC_READ, &lin) != CPU_OK ||
            op_load(v, lin, size, &val) != CPU_OK) {
            zero_bytes(mask + wide, 32 - wide);
            if (any) {
                zero_bytes(dest + wide, 32 - wide);
                xs_put_ymm(x, in->reg, dest);
            }
            xs_put_ymm(x, in->vex_vvvv, mask);
            return CPU_FAULT;
        }
        __builtin_memcpy(dest + i * size, &val, size == 8 ? 8 : 4);
        zero_bytes(mask + i * size, size);
        any = true;
    }
    zero_bytes(mask, sizeof(mask));
    if (n * size < 32)
        zero_bytes(dest + n * size, 32 - n * size);
    xs_put_ymm(x, in->reg, dest);
    xs_put_ymm(x, in->vex_vvvv, mask);
    return op_done(v, in);
}

int interp_vecmask(struct vcpu *v, const struct insn *in)
{
    if (in->map == 1 && in->opcode == 0xf7) {
        if (interp_vec_enabled(v, in) != CPU_OK)
            return CPU_FAULT;
        return maskmov(v, in);
    }
    if (in->map != 2 || !in->vex)
        return cpu_raise(&v->cpu, VEC_UD);
    if (in->opcode >= 0x90 && in->opcode <= 0x93)
        return gather(v, in);
    return vmaskmov(v, in);
}
