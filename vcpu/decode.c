/*
 * The decoder proper: prefixes, opcode maps, VEX, ModRM, displacement, immediate, in one pass over
 * the bytes. What the bytes mean is in the tables (decode_table*.c); what the instruction touches
 * is worked out at the end (decode_regs.c).
 */
#include "vcpu/decode_table.h"

/* What a byte is as a prefix. REX is told apart by mode. */
enum { PFX_NONE, PFX_OPSIZE, PFX_ADDRSIZE, PFX_LOCK, PFX_REPNE, PFX_REP, PFX_REX, PFX_SEG = 8 };

static const uint8_t prefix_kind[256] = {
    [0x26] = PFX_SEG + SEG_ES, [0x2e] = PFX_SEG + SEG_CS, [0x36] = PFX_SEG + SEG_SS,
    [0x3e] = PFX_SEG + SEG_DS, [0x64] = PFX_SEG + SEG_FS, [0x65] = PFX_SEG + SEG_GS,
    [0x66] = PFX_OPSIZE,       [0x67] = PFX_ADDRSIZE,     [0xf0] = PFX_LOCK,
    [0xf2] = PFX_REPNE,        [0xf3] = PFX_REP,          [0x40 ... 0x4f] = PFX_REX,
};

/* Undefined opcodes have this for insn.info. */
static const struct opinfo info_ud = {.name = "ud", .class_ = IC_UD};

/* Where we are in the bytes. limit is the bytes at hand, at most 15. */
struct cursor {
    const uint8_t *p;
    unsigned pos, limit;
};

static inline bool have(const struct cursor *c, unsigned n)
{
    return c->pos + n <= c->limit;
}

/* n more bytes were needed and are not there. */
static enum decode_status ran_out(struct insn *in, const struct cursor *c, unsigned n)
{
    in->len = (uint8_t)c->pos;
    return c->pos + n > INSN_MAX ? DEC_TOO_LONG : DEC_MORE;
}

static enum decode_status undefined(struct insn *in, const struct cursor *c)
{
    in->len = (uint8_t)c->pos;
    return DEC_UD;
}

/* Little-endian, sign-extended; the caller has checked that they are there. */
static inline int64_t take(struct cursor *c, unsigned n)
{
    const uint8_t *p = c->p + c->pos;
    uint64_t u;
    uint32_t d;
    uint16_t w;

    c->pos += n;
    switch (n) {
    case 1:
        return (int8_t)*p;
    case 2:
        __builtin_memcpy(&w, p, 2);
        return (int16_t)w;
    case 4:
        __builtin_memcpy(&d, p, 4);
        return (int32_t)d;
    default:
        __builtin_memcpy(&u, p, 8);
        return (int64_t)u;
    }
}

static inline void clear(struct insn *in)
{
    uint64_t *w = (uint64_t *)in;

    _Static_assert(sizeof *in % 8 == 0, "whole words");
#pragma GCC unroll 32
    for (unsigned i = 0; i < sizeof *in / 8; i++)
        w[i] = 0;
}

/* Legacy prefixes and REX. False when the bytes ran out. The opcode byte is left to be read. */
static inline bool prefixes(struct insn *in, struct cursor *c)
{
    for (;;) {
        if (!have(c, 1))
            return false;
        unsigned kind = prefix_kind[c->p[c->pos]];

        if (kind == PFX_NONE)
            return true;
        if (kind == PFX_REX) {
            if (in->mode != 8)
                return true;
            in->rex = c->p[c->pos++];
            continue;
        }
        in->rex = 0; /* REX counts directly before the opcode only (SDM 2A 2.2.1) */
        c->pos++;
        switch (kind) {
        case PFX_OPSIZE:
            in->opsize66 = true;
            break;
        case PFX_ADDRSIZE:
            in->addrsize67 = true;
            break;
        case PFX_LOCK:
            in->lock = true;
            break;
        case PFX_REPNE:
            in->repne = true;
            in->rep = false;
            break;
        case PFX_REP:
            in->rep = true;
            in->repne = false;
            break;
        default: /* ES CS SS DS have no effect in 64-bit code, also not on an FS or GS before */
            if (in->mode != 8 || kind - PFX_SEG >= SEG_FS)
                in->seg_override = (uint8_t)(kind - PFX_SEG);
        }
    }
}

/* The bytes after C4 or C5 (SDM 2A 2.3.5). The opcode's row, NULL when undefined. */
static const struct oprow *vex_row(struct insn *in, struct cursor *c)
{
    unsigned b = c->p[c->pos], rxb = b >> 5, mm = 1;

    if (in->vex == 3) {
        mm = b & 0x1f;
        b = c->p[c->pos + 1];
        in->vex_w = b >> 7;
    } else {
        rxb |= 3; /* X and B clear */
    }
    in->vex_vvvv = ~(b >> 3) & 0xf;
    if (in->mode != 8)
        rxb = 7;
    in->vex_l = b >> 2 & 1;
    in->pp = b & 3;
    c->pos += in->vex - 1;
    in->opcode = c->p[c->pos];
    in->op_off = (uint8_t)c->pos++;
    in->map = (uint8_t)mm;
    if (in->rex || in->lock || in->rep || in->repne || in->opsize66 || mm - 1 > 2)
        return NULL;
    /* As a REX byte, only for the register fields: insn.rex stays 0. */
    in->scale = ~rxb & 7;
    switch (mm) {
    case 1:
        return &op_vex0f[in->opcode];
    case 2:
        return &op_vex0f38[in->opcode];
    default:
        return &op_vex0f3a[in->opcode];
    }
}

/* By rule; then without and with 66, without and with W. */
static const uint8_t opsize64[][4] = {
    [SZ_Y] = {4, 4, 8, 8}, [SZ_B] = {1, 1, 1, 1},   [SZ_V] = {4, 2, 8, 8},
    [SZ_Z] = {4, 2, 4, 2}, [SZ_D64] = {8, 2, 8, 8}, [SZ_F64] = {8, 8, 8, 8},
    [SZ_N] = {8, 8, 8, 8}, [SZ_W] = {2, 2, 2, 2},   [SZ_D] = {4, 4, 4, 4},
};
/* Other modes: 2 bytes, 4 bytes. */
static const uint8_t opsize32[][2] = {
    [SZ_Y] = {4, 4},   [SZ_B] = {1, 1}, [SZ_V] = {2, 4}, [SZ_Z] = {2, 4}, [SZ_D64] = {2, 4},
    [SZ_F64] = {2, 4}, [SZ_N] = {4, 4}, [SZ_W] = {2, 2}, [SZ_D] = {4, 4},
};

static inline void operand_size(struct insn *in, unsigned rule)
{
    unsigned wide = (in->rex >> 3 & 1) | in->vex_w;

    in->opsize = in->mode == 8 ? opsize64[rule][wide << 1 | in->opsize66]
                               : opsize32[rule][(in->mode == 2) == in->opsize66];
}

/* 16-bit addressing (SDM 2A table 2-1). */
static const uint8_t base16[8] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX};
static const uint8_t index16[8] = {RSI, RDI, RSI, RDI, REG_NONE, REG_NONE, REG_NONE, REG_NONE};

/* The memory operand: SIB and displacement. rexb: 1 B, 2 X. Bytes needed but absent, or 0. */
static inline unsigned memory(struct insn *in, struct cursor *c, unsigned rxb, bool vsib)
{
    unsigned rm = in->modrm & 7, mod = in->mod, disp_len = 0;

    in->has_mem = true;
    if (in->addrsize == 2) {
        in->base = base16[rm];
        in->index = index16[rm];
        disp_len = mod;
        if (mod == 0 && rm == 6) {
            in->base = REG_NONE;
            disp_len = 2;
        }
    } else if (rm == 4) {
        if (!have(c, 1))
            return 1;
        unsigned sib = c->p[c->pos++], base = sib & 7;
        unsigned index = (sib >> 3 & 7) | (rxb & 2) << 2;

        in->has_sib = true;
        in->index = REG_NONE;
        if (index != 4 || vsib) {
            in->index = (uint8_t)index;
            in->scale = (uint8_t)(sib >> 6);
        }
        in->base = (uint8_t)(base | (rxb & 1) << 3);
        disp_len = mod == 2 ? 4 : mod;
        if (mod == 0 && base == 5) {
            in->base = REG_NONE;
            disp_len = 4;
        }
    } else {
        in->base = (uint8_t)(rm | (rxb & 1) << 3);
        disp_len = mod == 2 ? 4 : mod;
        if (mod == 0 && rm == 5) {
            in->base = in->mode == 8 ? BASE_RIP : REG_NONE;
            disp_len = 4;
        }
    }
    if (disp_len) {
        if (!have(c, disp_len))
            return disp_len;
        in->disp_off = (uint8_t)c->pos;
        in->disp_len = (uint8_t)disp_len;
        in->disp = take(c, disp_len);
    }
    if (in->seg_override != REG_NONE)
        in->seg = in->seg_override;
    else
        in->seg = in->base == RSP || in->base == RBP ? SEG_SS : SEG_DS;
    return 0;
}

static void no_modrm_memory(struct insn *in)
{
    in->seg = in->seg_override != REG_NONE ? in->seg_override : SEG_DS;
}

/* Bytes needed but absent, or 0. */
static inline unsigned immediate(struct insn *in, struct cursor *c, unsigned kind)
{
    unsigned n = 1, n2 = 0;

    /* The usual ones: sign-extended, of 1 byte, or of 4 and 2. */
    if (1u << kind & (1u << IM_SB | 1u << IM_JB | 1u << IM_Z | 1u << IM_JZ)) {
        if (1u << kind & (1u << IM_Z | 1u << IM_JZ))
            n = in->opsize == 2 ? 2 : 4;
        if (!have(c, n))
            return n;
        in->imm_off = (uint8_t)c->pos;
        in->imm_len = (uint8_t)n;
        in->imm = (uint64_t)take(c, n);
        return 0;
    }
    switch (kind) {
    case IM_UW:
        n = 2;
        break;
    case IM_V:
        n = in->opsize;
        break;
    case IM_ENTER:
        n = 2;
        n2 = 1;
        break;
    case IM_FAR:
        n = in->opsize;
        n2 = 2;
        break;
    case IM_MOFFS:
        n = in->addrsize;
        break;
    case IM_XLAT:
        in->base = RBX;
        no_modrm_memory(in);
        return 0;
    }
    if (!have(c, n + n2))
        return n + n2;
    if (kind == IM_MOFFS) {
        in->has_mem = true;
        no_modrm_memory(in);
        in->disp_off = (uint8_t)c->pos;
        in->disp_len = (uint8_t)n;
        in->disp = take(c, n);
        if (n < 8)
            in->disp &= (1LL << 8 * n) - 1;
        return 0;
    }
    in->imm_off = (uint8_t)c->pos;
    in->imm_len = (uint8_t)(n + n2);
    in->imm = (uint64_t)take(c, n);
    switch (kind) {
    case IM_UB:
        in->imm &= 0xff;
        break;
    case IM_UW:
        in->imm &= 0xffff;
        break;
    case IM_V:
    case IM_FAR:
        if (n < 8)
            in->imm &= (1ULL << 8 * n) - 1;
        if (n2)
            in->imm2 = (uint16_t)take(c, 2);
        break;
    case IM_ENTER:
        in->imm &= 0xffff;
        in->imm2 = (uint8_t)take(c, 1);
        break;
    }
    return 0;
}

/* Rules that no single field tells. True: undefined. */
static inline bool forbidden(const struct insn *in, const struct oprow *row)
{
    uint32_t f = row->f;

    if (in->lock && !((row->info.flags & OF_LOCKABLE) && in->has_mem))
        return true;
    if (!(f & (NOMEM | NOREG | VL0 | VL1 | VW0 | VW1 | SREG | CREG | DREG | VSIB | NOPFX)))
        return false;
    if (in->has_mem ? f & NOMEM : f & NOREG)
        return true;
    if ((f & VL0) && in->vex_l)
        return true;
    if ((f & VL1) && !in->vex_l)
        return true;
    if (((f & VW0) && in->vex_w) || ((f & VW1) && !in->vex_w))
        return true;
    if ((f & SREG) && (in->reg > SEG_GS || ((f & NOCS) && in->reg == SEG_CS)))
        return true;
    if ((f & CREG) && !(0x11du >> in->reg & 1))
        return true;
    if ((f & DREG) && in->reg > 7)
        return true;
    if ((f & NOPFX) && (in->opsize66 || in->rep || in->repne))
        return true;
    /* Gathers: destination, index and mask must be three registers (SDM 2C VGATHERDPS). */
    if ((f & VSIB) && (!in->has_sib || in->reg == in->index || in->reg == in->vex_vvvv ||
                       in->index == in->vex_vvvv))
        return true;
    return false;
}

static inline const struct oprow *map_row(struct insn *in, struct cursor *c, enum decode_status *st)
{
    const struct oprow *row;
    unsigned b = c->p[c->pos];

    in->op_off = (uint8_t)c->pos++;
    in->opcode = (uint8_t)b;
    if (b != 0x0f) {
        if ((b & 0xfe) != 0xc4)
            return &op_one[b];
        if (in->mode != 8) {
            /* LES, LDS unless the next byte could not be a memory operand's ModRM. */
            if (!have(c, 1)) {
                *st = ran_out(in, c, 1);
                return NULL;
            }
            if (c->p[c->pos] < 0xc0)
                return &op_one[b];
        }
        in->vex = b == 0xc5 ? 2 : 3;
        if (!have(c, in->vex)) {
            *st = ran_out(in, c, in->vex);
            return NULL;
        }
        return vex_row(in, c);
    }
    if (!have(c, 1)) {
        *st = ran_out(in, c, 1);
        return NULL;
    }
    b = c->p[c->pos];
    in->op_off = (uint8_t)c->pos++;
    in->opcode = (uint8_t)b;
    in->map = 1;
    if (b != 0x38 && b != 0x3a) {
        row = &op_0f[b];
        if (!row->info.name && row->kind == ROW_LEAF)
            row = &op_sse[b];
        return row;
    }
    if (!have(c, 1)) {
        *st = ran_out(in, c, 1);
        return NULL;
    }
    in->map = b == 0x38 ? 2 : 3;
    b = c->p[c->pos];
    in->op_off = (uint8_t)c->pos++;
    in->opcode = (uint8_t)b;
    return in->map == 2 ? &op_0f38[b] : &op_0f3a[b];
}

/* Follow the choices down to an instruction. NULL when a ModRM byte is needed and absent. */
static inline const struct oprow *resolve(struct insn *in, struct cursor *c,
                                          const struct oprow *row)
{
    while (row->kind != ROW_LEAF) {
        unsigned i;

        if (row->kind >= ROW_REG && !in->has_modrm) {
            if (!have(c, 1))
                return NULL;
            in->has_modrm = true;
            in->modrm_off = (uint8_t)c->pos;
            in->modrm = c->p[c->pos++];
        }
        switch (row->kind) {
        case ROW_PP:
            if (!in->vex)
                in->pp = in->rep ? 2 : in->repne ? 3 : in->opsize66;
            i = in->pp;
            break;
        case ROW_F3:
            in->pp = in->rep ? 2 : 0;
            i = in->rep;
            break;
        case ROW_MODE:
            i = in->mode == 8;
            break;
        case ROW_W:
            i = in->vex_w | (in->rex >> 3 & 1);
            break;
        case ROW_L:
            i = in->vex_l;
            break;
        case ROW_REXB:
            i = in->rex & 1;
            break;
        case ROW_REG:
            i = in->modrm >> 3 & 7;
            break;
        case ROW_MOD:
            i = in->modrm >= 0xc0;
            break;
        default: /* ROW_RM */
            i = in->modrm & 7;
        }
        row = &row->sub[i];
    }
    return row;
}

static inline void keep_bytes(struct insn *in, const uint8_t *buf, unsigned avail)
{
    if (avail >= INSN_MAX) {
        __builtin_memcpy(in->bytes, buf, 8);
        __builtin_memcpy(in->bytes + 7, buf + 7, 8);
    } else {
        for (unsigned i = 0; i < avail; i++)
            in->bytes[i] = buf[i];
    }
}

enum decode_status decode(struct insn *in, const uint8_t *buf, unsigned avail, unsigned mode)
{
    struct cursor c = {buf, 0, avail < INSN_MAX ? avail : INSN_MAX};
    enum decode_status st = DEC_UD;
    const struct oprow *row;
    unsigned rxb, missing;

    clear(in);
    in->mode = (uint8_t)mode;
    in->info = &info_ud;
    in->seg_override = in->base = in->index = REG_NONE;
    keep_bytes(in, buf, avail);

    if (!prefixes(in, &c))
        return ran_out(in, &c, 1);
    if (mode == 8)
        in->addrsize = in->addrsize67 ? 4 : 8;
    else
        in->addrsize = (mode == 2) == in->addrsize67 ? 4 : 2;

    row = map_row(in, &c, &st);
    if (!row)
        return st == DEC_UD ? undefined(in, &c) : st;
    row = resolve(in, &c, row);
    if (!row)
        return ran_out(in, &c, 1);
    if (!row->info.name)
        return undefined(in, &c);
    in->info = &row->info;
    if (row->f & (mode == 8 ? NO64 : ONLY64))
        return undefined(in, &c);
    operand_size(in, row->opsz);

    if (in->vex) {
        rxb = in->scale;
        in->scale = 0;
        if ((row->f & NOVV) && in->vex_vvvv)
            return undefined(in, &c);
        if (mode != 8)
            in->vex_vvvv &= 7;
    } else {
        rxb = in->rex & 7;
    }
    if ((row->f & MRM) && !in->has_modrm) {
        if (!have(&c, 1))
            return ran_out(in, &c, 1);
        in->has_modrm = true;
        in->modrm_off = (uint8_t)c.pos;
        in->modrm = buf[c.pos++];
    }
    if (in->has_modrm) {
        in->mod = row->f & (CREG | DREG) ? 3 : in->modrm >> 6;
        in->reg = (uint8_t)((in->modrm >> 3 & 7) | (row->f & SREG ? 0 : (rxb & 4) << 1));
        in->rm = (uint8_t)((in->modrm & 7) | (rxb & 1) << 3);
        if (in->mod != 3) {
            missing = memory(in, &c, rxb, row->f & VSIB);
            if (missing)
                return ran_out(in, &c, missing);
        }
    } else if (row->f & (OPR_R | OPR_W | OPN)) {
        in->rm = (uint8_t)((in->opcode & 7) | (rxb & 1) << 3);
    }
    if (row->f & STRG)
        no_modrm_memory(in);
    if (row->imm != IM_NONE) {
        missing = immediate(in, &c, row->imm);
        if (missing)
            return ran_out(in, &c, missing);
    }
    in->len = (uint8_t)c.pos;
    if (row->info.class_ == IC_UD || forbidden(in, row))
        return DEC_UD;
    decode_regs(in, row);
    return DEC_OK;
}
