/*
 * What a decoded instruction touches: the memory operand's size and direction, the general
 * registers read and written, the flags.
 */
#include "vcpu/decode_table.h"

/* The bit of a byte register: without REX encodings 4-7 are AH CH DH BH. */
static inline unsigned gpr_bit(struct insn *in, unsigned r, bool byte)
{
    if (byte && !in->rex && r >= 4) {
        in->high8 = true;
        r -= 4;
    }
    return 1u << r;
}

static inline unsigned memory_size(const struct insn *in, unsigned rule)
{
    unsigned l = in->vex_l;

    if (rule < MS_OP)
        return rule;
    if (rule == MS_OP)
        return in->opsize;
    switch (rule) {
    case MS_2OP:
        return 2u * in->opsize;
    case MS_VEC:
        return 16u << l;
    case MS_HALF:
        return 8u << l;
    case MS_QUARTER:
        return 4u << l;
    case MS_EIGHTH:
        return 2u << l;
    case MS_DUP:
        return l ? 32 : 8;
    default: /* MS_SXD */
        return in->opsize == 2 ? 2 : 4;
    }
}

/* bits when flag is set, without a branch. */
static inline unsigned only(unsigned flag, unsigned bits)
{
    return -(unsigned)(flag != 0) & bits;
}

/* The registers of an instruction with byte operands. */
static void byte_regs(struct insn *in, unsigned f, unsigned *rd, unsigned *wr)
{
    bool byte = in->opsize == 1;

    if (f & (RM_R | RM_W | OPR_R | OPR_W)) {
        unsigned bit = gpr_bit(in, in->rm, byte || (f & RM8));

        *rd |= only(f & (RM_R | OPR_R), bit);
        *wr |= only(f & (RM_W | OPR_W), bit);
    }
    if (f & (REG_R | REG_W)) {
        unsigned bit = gpr_bit(in, in->reg, byte);

        *rd |= only(f & REG_R, bit);
        *wr |= only(f & REG_W, bit);
    }
}

void decode_regs(struct insn *in, const struct oprow *row)
{
    unsigned rd = row->ir, wr = row->iw, f = row->f;
    bool byte = in->opsize == 1;

    if (in->has_mem) {
        f &= ~(RM_R | RM_W);
        rd |= in->base < NGPR ? 1u << in->base : 0;
        rd |= in->index < NGPR && !(f & VSIB) ? 1u << in->index : 0;
    }
    if (in->has_mem || row->imm == IM_XLAT) {
        in->mem_read = f & MEM_R;
        in->mem_write = f & MEM_W;
        in->mem_size = (uint8_t)memory_size(in, row->msz);
    }
    if (byte || (f & RM8)) {
        byte_regs(in, f, &rd, &wr);
    } else {
        unsigned rm = 1u << in->rm, reg = 1u << in->reg;

        rd |= only(f & (RM_R | OPR_R), rm) | only(f & REG_R, reg);
        wr |= only(f & (RM_W | OPR_W), rm) | only(f & REG_W, reg);
    }
    if (f & VV_R)
        rd |= 1u << in->vex_vvvv;
    if (f & VV_W)
        wr |= 1u << in->vex_vvvv;
    /* The rest of a register that is written in part, or perhaps, is kept. */
    if (in->opsize < 4 || (f & PART))
        rd |= wr;

    in->fl_read = row->info.fl_read;
    in->fl_write = row->info.fl_write;
    if ((f & COUNT) && !(in->imm & (in->opsize == 8 ? 63 : 31))) {
        in->fl_read = in->fl_write = 0;
    } else if ((f & STRG) && (in->rep || in->repne)) {
        /* REP string: rCX may be 0, and then nothing happens. */
        rd |= wr | R_C;
        wr |= R_C;
        in->fl_read |= in->fl_write;
    }
    in->gpr_read = (uint16_t)rd;
    in->gpr_write = (uint16_t)wr;
}
