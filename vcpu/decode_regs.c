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
    switch (rule) {
    case MS_OP:
        return in->opsize;
    case MS_2OP:
        return 2u * in->opsize;
    case MS_VEC:
        return 16u << in->vex_l;
    case MS_HALF:
        return 8u << in->vex_l;
    case MS_QUARTER:
        return 4u << in->vex_l;
    case MS_EIGHTH:
        return 2u << in->vex_l;
    case MS_DUP:
        return in->vex_l ? 32 : 8;
    case MS_SXD:
        return in->opsize == 2 ? 2 : 4;
    default:
        return rule;
    }
}

void decode_regs(struct insn *in, const struct oprow *row)
{
    unsigned rd = row->ir, wr = row->iw, f = row->f, bit;
    bool byte = in->opsize == 1;

    if (in->has_mem) {
        if (in->base < NGPR)
            rd |= 1u << in->base;
        if (in->index < NGPR && !(f & VSIB))
            rd |= 1u << in->index;
    } else if (f & (RM_R | RM_W)) {
        bit = gpr_bit(in, in->rm, byte || (f & RM8));
        if (f & RM_R)
            rd |= bit;
        if (f & RM_W)
            wr |= bit;
    }
    if (in->has_mem || row->imm == IM_XLAT) {
        in->mem_read = f & MEM_R;
        in->mem_write = f & MEM_W;
        in->mem_size = (uint8_t)memory_size(in, row->msz);
    }
    if (f & (REG_R | REG_W)) {
        bit = gpr_bit(in, in->reg, byte);
        if (f & REG_R)
            rd |= bit;
        if (f & REG_W)
            wr |= bit;
    }
    if (f & (OPR_R | OPR_W)) {
        bit = gpr_bit(in, in->rm, byte);
        if (f & OPR_R)
            rd |= bit;
        if (f & OPR_W)
            wr |= bit;
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
