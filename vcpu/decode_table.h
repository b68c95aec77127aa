/*
 * The decoder's tables, private to vcpu/decode*.c. A row is either an instruction or a choice: a
 * kind says which bits of what was read so far pick the row of sub[] to go on with. A row that is
 * all zero is an undefined opcode.
 */
#ifndef VCPU_DECODE_TABLE_H
#define VCPU_DECODE_TABLE_H

#include <stddef.h>
#include "vcpu/decode.h"

/* What picks the next row. */
enum row_kind {
    ROW_LEAF,
    ROW_PP,   /* 4 rows: mandatory prefix none, 66, F3, F2 */
    ROW_F3,   /* 2 rows: [1] with F3, [0] otherwise (66 and F2 keep their ordinary meaning) */
    ROW_MODE, /* 2 rows: [0] 16- and 32-bit code, [1] 64-bit code */
    ROW_W,    /* 2 rows: REX.W, or VEX.W (which counts in any mode) */
    ROW_L,    /* 2 rows: VEX.L */
    ROW_REXB, /* 2 rows: REX.B (opcode 90 is XCHG r8,rAX with it) */
    ROW_REG,  /* 8 rows: modrm.reg. This kind and those after it need the ModRM byte */
    ROW_MOD,  /* 2 rows: [0] memory, [1] register */
    ROW_RM    /* 8 rows: modrm.rm */
};

/* How the row's operands are found and used. */
#define MRM    0x1u /* has a ModRM byte (choices by reg, mod, rm imply it) */
#define MEM_R  0x2u /* memory form is read */
#define MEM_W  0x4u /* memory form is written */
#define RM_R   0x8u /* modrm.rm names a GPR in the register form */
#define RM_W   0x10u
#define REG_R  0x20u /* modrm.reg names a GPR */
#define REG_W  0x40u
#define VV_R   0x80u /* VEX.vvvv names a GPR */
#define VV_W   0x100u
#define OPR_R  0x200u /* low three opcode bits (and REX.B) name a GPR */
#define OPR_W  0x400u
#define RM8    0x800u      /* rm is a byte register though opsize is not 1 (MOVZX) */
#define NOMEM  0x1000u     /* modrm.mod must be 3 */
#define NOREG  0x2000u     /* modrm.mod must not be 3 */
#define NO64   0x4000u     /* #UD in 64-bit code */
#define ONLY64 0x8000u     /* #UD elsewhere */
#define VL0    0x10000u    /* VEX.L must be 0 */
#define VL1    0x20000u    /* VEX.L must be 1 */
#define VW0    0x40000u    /* VEX.W must be 0 */
#define VW1    0x80000u    /* VEX.W must be 1 */
#define NOVV   0x100000u   /* VEX.vvvv unused: must be 1111b */
#define SREG   0x200000u   /* modrm.reg is a segment register: REX.R ignored, above 5 is #UD */
#define NOCS   0x400000u   /* ... and CS too */
#define CREG   0x800000u   /* MOV CR: 0 2 3 4 8 only; modrm.mod is ignored */
#define DREG   0x1000000u  /* MOV DR: 0-7 only; modrm.mod is ignored */
#define COUNT  0x2000000u  /* shift by imm8: a count of 0 leaves the flags alone */
#define VSIB   0x4000000u  /* SIB with a vector index is required */
#define PART   0x8000000u  /* the destination is only conditionally written: reads it as well */
#define OPN    0x10000000u /* low opcode bits name a register that is not used (NOP 90) */
#define NOPFX  0x20000000u /* 66, F2 and F3 are not accepted */
#define STRG   0x80000000u /* string instruction: REP counts */

#define ER  (MRM | MEM_R | RM_R)
#define EW  (MRM | MEM_W | RM_W)
#define ERW (ER | EW)
#define GR  REG_R
#define GW  REG_W
#define GRW (REG_R | REG_W)
#define WR  (MRM | MEM_R) /* vector register or memory, read */
#define WW  (MRM | MEM_W)

/* Operand size. */
enum {
    SZ_Y,   /* 4, 8 with W in 64-bit code */
    SZ_B,   /* 1 */
    SZ_V,   /* 2, 4, 8 */
    SZ_Z,   /* 2, 4: W ignored */
    SZ_D64, /* 64-bit code: 8, 2 with 66; else 2, 4 */
    SZ_F64, /* 64-bit code: 8 whatever the prefixes; else 2, 4 */
    SZ_N,   /* 8 in 64-bit code, else 4: MOV CR, MOV DR, INVPCID */
    SZ_W,   /* 2 */
    SZ_D,   /* 4 */
};

/* Size of the memory operand. Values up to 32 are bytes. */
enum {
    MS_NONE = 0,
    MS_OP = 64, /* opsize */
    MS_2OP,     /* twice opsize: BOUND, CMPXCHG8B/16B */
    MS_VEC,     /* 16, 32 with VEX.L */
    MS_HALF,    /* 8, 16 */
    MS_QUARTER, /* 4, 8 */
    MS_EIGHTH,  /* 2, 4 */
    MS_DUP,     /* VMOVDDUP: 8, 32 */
    MS_SXD      /* MOVSXD: 2 with a 2-byte destination, else 4 */
};

/* Immediate. */
enum {
    IM_NONE,
    IM_SB,    /* imm8, sign-extended */
    IM_UB,    /* imm8 */
    IM_UW,    /* imm16 */
    IM_Z,     /* imm16 or imm32, sign-extended */
    IM_V,     /* MOV r,imm: 2, 4, 8 bytes */
    IM_JB,    /* rel8 */
    IM_JZ,    /* rel16, rel32 */
    IM_ENTER, /* imm16, imm8 */
    IM_FAR,   /* offset, selector */
    IM_MOFFS, /* address */
    IM_XLAT   /* none: memory at rBX + AL */
};

struct oprow {
    struct opinfo info; /* first: insn.info points here */
    uint32_t f;
    uint8_t kind, opsz, msz, imm;
    uint16_t ir, iw; /* GPRs read and written without being named by the encoding */
    const struct oprow *sub;
};

/* One instruction. fl: a triple of flags read, written, undefined (the FLG_ macros). */
#define OP(name, cls, of, fl, f, sz, ms, im)                            \
    {                                                                   \
        {name, cls, of, UNPACK fl}, f, ROW_LEAF, sz, ms, im, 0, 0, NULL \
    }
#define OPI(name, cls, of, fl, f, sz, ms, im, ir, iw)                                     \
    {                                                                                     \
        {name, cls, (of) | OF_IMPL_GPR, UNPACK fl}, f, ROW_LEAF, sz, ms, im, ir, iw, NULL \
    }
/* A choice: between the rows of an array, or of those written out. */
#define PICK(kind, rows)                                    \
    {                                                       \
        {NULL, 0, 0, 0, 0, 0}, 0, kind, 0, 0, 0, 0, 0, rows \
    }
#define PICK_OF(kind, n, ...)                                                  \
    {                                                                          \
        {NULL, 0, 0, 0, 0, 0}, 0, kind, 0, 0, 0, 0, 0, (const struct oprow[n]) \
        {                                                                      \
            __VA_ARGS__                                                        \
        }                                                                      \
    }
#define PP(...)         PICK_OF(ROW_PP, 4, __VA_ARGS__)
#define MEM_OR_REG(...) PICK_OF(ROW_MOD, 2, __VA_ARGS__)
#define BY_W(...)       PICK_OF(ROW_W, 2, __VA_ARGS__)
#define BAD                                                     \
    {                                                           \
        {NULL, 0, 0, 0, 0, 0}, 0, ROW_LEAF, 0, 0, 0, 0, 0, NULL \
    }

#define FL_SZAPO     (FL_ARITH & ~FL_CF)
#define FLG(r, w, u) (r, w, u)
#define UNPACK(...)  __VA_ARGS__
#define FLG_NONE     FLG(0, 0, 0)
#define FLG_ALL      FLG(0, FL_ARITH, 0)
#define FLG_CARRY    FLG(FL_CF, FL_ARITH, 0)
#define FLG_LOGIC    FLG(0, FL_ARITH, FL_AF)
#define FLG_INC      FLG(0, FL_SZAPO, 0)
#define FLG_ALLALL   FLG(FL_ARITH | FL_DF, FL_ARITH | FL_DF, 0)
#define FLG_RDALL    FLG(FL_ARITH | FL_DF, 0, 0)

/* Register bits for ir, iw. */
#define R_A  (1u << RAX)
#define R_C  (1u << RCX)
#define R_D  (1u << RDX)
#define R_B  (1u << RBX)
#define R_SP (1u << RSP)
#define R_BP (1u << RBP)
#define R_SI (1u << RSI)
#define R_DI (1u << RDI)

extern const struct oprow op_one[256], op_0f[256], op_0f38[256], op_0f3a[256];
extern const struct oprow op_vex0f[256], op_vex0f38[256], op_vex0f3a[256];
extern const struct oprow op_x87[16];  /* D8-DF: memory and register choice of each */
extern const struct oprow op_sse[256]; /* 0F map: the opcodes with mandatory prefixes */
extern const struct oprow op_grp_0f01, op_grp_0fae, op_grp_0fc7;

/* Fill mem_size, mem_read, mem_write, gpr_read, gpr_write, high8 (decode_regs.c). */
void decode_regs(struct insn *in, const struct oprow *row);

#endif
