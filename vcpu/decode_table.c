/*
 * The one-byte opcode map (SDM 2D table A-2) with its groups (table A-6).
 */
#include "vcpu/decode_table.h"

#define LK OF_LOCKABLE

/* The eight arithmetic operations come as six rows each. */
#define ARITH6(op, name, of, fl, ew)                                                              \
    [(op) +                                                                                       \
        0] = OP(name, IC_ALU, of, fl, (ew) | GR, SZ_B, MS_OP, IM_NONE),                           \
        [(op) + 1] = OP(name, IC_ALU, of, fl, (ew) | GR, SZ_V, MS_OP, IM_NONE),                   \
        [(op) + 2] = OP(name, IC_ALU, 0, fl, ER | ((ew) == ER ? GR : GRW), SZ_B, MS_OP, IM_NONE), \
        [(op) + 3] = OP(name, IC_ALU, 0, fl, ER | ((ew) == ER ? GR : GRW), SZ_V, MS_OP, IM_NONE), \
        [(op) + 4] = OPI(name, IC_ALU, 0, fl, 0, SZ_B, 0, IM_SB, R_A, (ew) == ER ? 0 : R_A),      \
        [(op) + 5] = OPI(name, IC_ALU, 0, fl, 0, SZ_V, 0, IM_Z, R_A, (ew) == ER ? 0 : R_A)

#define GRP1(arr, extra, sz, im)                                        \
    static const struct oprow arr[8] = {                                \
        OP("add", IC_ALU, LK, FLG_ALL, ERW | (extra), sz, MS_OP, im),   \
        OP("or", IC_ALU, LK, FLG_LOGIC, ERW | (extra), sz, MS_OP, im),  \
        OP("adc", IC_ALU, LK, FLG_CARRY, ERW | (extra), sz, MS_OP, im), \
        OP("sbb", IC_ALU, LK, FLG_CARRY, ERW | (extra), sz, MS_OP, im), \
        OP("and", IC_ALU, LK, FLG_LOGIC, ERW | (extra), sz, MS_OP, im), \
        OP("sub", IC_ALU, LK, FLG_ALL, ERW | (extra), sz, MS_OP, im),   \
        OP("xor", IC_ALU, LK, FLG_LOGIC, ERW | (extra), sz, MS_OP, im), \
        OP("cmp", IC_ALU, 0, FLG_ALL, ER | (extra), sz, MS_OP, im),     \
    }
GRP1(grp1_80, 0, SZ_B, IM_SB);
GRP1(grp1_81, 0, SZ_V, IM_Z);
GRP1(grp1_82, NO64, SZ_B, IM_SB);
GRP1(grp1_83, 0, SZ_V, IM_SB);

static const struct oprow grp1a_8f[8] = {
    OPI("pop", IC_STACK, 0, FLG_NONE, EW, SZ_D64, MS_OP, IM_NONE, R_SP, R_SP),
};

/* Shifts. rd: flags that are read because a count of zero leaves them alone. */
#define GRP2(arr, extra, sz, im, lazy, uo, ic)                                        \
    static const struct oprow arr[8] = {                                              \
        SH("rol", FLG(lazy & (FL_CF | FL_OF), FL_CF | FL_OF, uo), extra, sz, im, ic), \
        SH("ror", FLG(lazy & (FL_CF | FL_OF), FL_CF | FL_OF, uo), extra, sz, im, ic), \
        SH("rcl", FLG(FL_CF | (lazy & FL_OF), FL_CF | FL_OF, uo), extra, sz, im, ic), \
        SH("rcr", FLG(FL_CF | (lazy & FL_OF), FL_CF | FL_OF, uo), extra, sz, im, ic), \
        SH("shl", FLG(lazy, FL_ARITH, uo | FL_AF), extra, sz, im, ic),                \
        SH("shr", FLG(lazy, FL_ARITH, uo | FL_AF), extra, sz, im, ic),                \
        SH("sal", FLG(lazy, FL_ARITH, uo | FL_AF), extra, sz, im, ic),                \
        SH("sar", FLG(lazy, FL_ARITH, uo | FL_AF), extra, sz, im, ic),                \
    }
#define SH(name, fl, extra, sz, im, ic)                                                            \
    {                                                                                              \
        {name, IC_ALU, (ic) ? OF_IMPL_GPR : 0, UNPACK fl}, ERW | (extra), ROW_LEAF, sz, MS_OP, im, \
            ic, 0, NULL                                                                            \
    }
GRP2(grp2_c0, COUNT, SZ_B, IM_UB, 0, FL_OF, 0);
GRP2(grp2_c1, COUNT, SZ_V, IM_UB, 0, FL_OF, 0);
GRP2(grp2_d0, 0, SZ_B, IM_NONE, 0, 0, 0);
GRP2(grp2_d1, 0, SZ_V, IM_NONE, 0, 0, 0);
GRP2(grp2_d2, 0, SZ_B, IM_NONE, FL_ARITH, FL_OF, R_C);
GRP2(grp2_d3, 0, SZ_V, IM_NONE, FL_ARITH, FL_OF, R_C);

#define FLG_MUL FLG(0, FL_ARITH, FL_SF | FL_ZF | FL_AF | FL_PF)
#define FLG_DIV FLG(0, FL_ARITH, FL_ARITH)
static const struct oprow grp3_f6[8] = {
    OP("test", IC_ALU, 0, FLG_LOGIC, ER, SZ_B, MS_OP, IM_SB),
    OP("test", IC_ALU, 0, FLG_LOGIC, ER, SZ_B, MS_OP, IM_SB),
    OP("not", IC_ALU, LK, FLG_NONE, ERW, SZ_B, MS_OP, IM_NONE),
    OP("neg", IC_ALU, LK, FLG_ALL, ERW, SZ_B, MS_OP, IM_NONE),
    OPI("mul", IC_ALU, 0, FLG_MUL, ER, SZ_B, MS_OP, IM_NONE, R_A, R_A),
    OPI("imul", IC_ALU, 0, FLG_MUL, ER, SZ_B, MS_OP, IM_NONE, R_A, R_A),
    OPI("div", IC_ALU, 0, FLG_DIV, ER, SZ_B, MS_OP, IM_NONE, R_A, R_A),
    OPI("idiv", IC_ALU, 0, FLG_DIV, ER, SZ_B, MS_OP, IM_NONE, R_A, R_A),
};
static const struct oprow grp3_f7[8] = {
    OP("test", IC_ALU, 0, FLG_LOGIC, ER, SZ_V, MS_OP, IM_Z),
    OP("test", IC_ALU, 0, FLG_LOGIC, ER, SZ_V, MS_OP, IM_Z),
    OP("not", IC_ALU, LK, FLG_NONE, ERW, SZ_V, MS_OP, IM_NONE),
    OP("neg", IC_ALU, LK, FLG_ALL, ERW, SZ_V, MS_OP, IM_NONE),
    OPI("mul", IC_ALU, 0, FLG_MUL, ER, SZ_V, MS_OP, IM_NONE, R_A, R_A | R_D),
    OPI("imul", IC_ALU, 0, FLG_MUL, ER, SZ_V, MS_OP, IM_NONE, R_A, R_A | R_D),
    OPI("div", IC_ALU, 0, FLG_DIV, ER, SZ_V, MS_OP, IM_NONE, R_A | R_D, R_A | R_D),
    OPI("idiv", IC_ALU, 0, FLG_DIV, ER, SZ_V, MS_OP, IM_NONE, R_A | R_D, R_A | R_D),
};
static const struct oprow grp4_fe[8] = {
    OP("inc", IC_ALU, LK, FLG_INC, ERW, SZ_B, MS_OP, IM_NONE),
    OP("dec", IC_ALU, LK, FLG_INC, ERW, SZ_B, MS_OP, IM_NONE),
};
static const struct oprow grp5_ff[8] = {
    OP("inc", IC_ALU, LK, FLG_INC, ERW, SZ_V, MS_OP, IM_NONE),
    OP("dec", IC_ALU, LK, FLG_INC, ERW, SZ_V, MS_OP, IM_NONE),
    OPI("call", IC_BRANCH, 0, FLG_NONE, ER, SZ_F64, MS_OP, IM_NONE, R_SP, R_SP),
    OPI("callf", IC_SYS, 0, FLG_NONE, ER | NOREG, SZ_V, 0, IM_NONE, R_SP, R_SP),
    OP("jmp", IC_BRANCH, 0, FLG_NONE, ER, SZ_F64, MS_OP, IM_NONE),
    OP("jmpf", IC_SYS, 0, FLG_NONE, ER | NOREG, SZ_V, 0, IM_NONE),
    OPI("push", IC_STACK, 0, FLG_NONE, ER, SZ_D64, MS_OP, IM_NONE, R_SP, R_SP),
    BAD,
};
/* With TSX absent C6 F8 and C7 F8 (XABORT, XBEGIN) are undefined: modrm.reg is 7. */
static const struct oprow grp11_c6[8] = {
    OP("mov", IC_ALU, 0, FLG_NONE, EW, SZ_B, MS_OP, IM_SB),
};
static const struct oprow grp11_c7[8] = {
    OP("mov", IC_ALU, 0, FLG_NONE, EW, SZ_V, MS_OP, IM_Z),
};

#define PUSH_SEG(op) [op] = OPI("push", IC_SYS, 0, FLG_NONE, NO64, SZ_D64, 0, IM_NONE, R_SP, R_SP)
#define POP_SEG(op)  [op] = OPI("pop", IC_SYS, 0, FLG_NONE, NO64, SZ_D64, 0, IM_NONE, R_SP, R_SP)

static const struct oprow op63[2] = {
    OP("arpl", IC_SYS, 0, FLG(0, FL_ZF, 0), ERW | GR | NO64, SZ_W, MS_OP, IM_NONE),
    OP("movsxd", IC_ALU, 0, FLG_NONE, ER | GW, SZ_V, MS_SXD, IM_NONE),
};

#define XCHG_A OPI("xchg", IC_ALU, 0, FLG_NONE, OPR_R | OPR_W, SZ_V, 0, IM_NONE, R_A, R_A)
static const struct oprow op90_rexb[2] = {
    OP("nop", IC_ALU, 0, FLG_NONE, OPN, SZ_V, 0, IM_NONE),
    XCHG_A,
};
/* F3 makes it PAUSE also with REX.B: measured, and as Zydis has it. */
static const struct oprow op90[2] = {
    PICK(ROW_REXB, op90_rexb),
    OP("pause", IC_ALU, 0, FLG_NONE, OPN, SZ_V, 0, IM_NONE),
};

#define PUSH_R OPI("push", IC_STACK, 0, FLG_NONE, OPR_R, SZ_D64, 0, IM_NONE, R_SP, R_SP)
#define POP_R  OPI("pop", IC_STACK, 0, FLG_NONE, OPR_W, SZ_D64, 0, IM_NONE, R_SP, R_SP)
#define INC_R  OP("inc", IC_ALU, 0, FLG_INC, OPR_R | OPR_W | NO64, SZ_V, 0, IM_NONE)
#define DEC_R  OP("dec", IC_ALU, 0, FLG_INC, OPR_R | OPR_W | NO64, SZ_V, 0, IM_NONE)
#define MOV_R8 OP("mov", IC_ALU, 0, FLG_NONE, OPR_W, SZ_B, 0, IM_SB)
#define MOV_RV OP("mov", IC_ALU, 0, FLG_NONE, OPR_W, SZ_V, 0, IM_V)

/* Condition codes, in the order of the low opcode bits. */
#define JCC(op, rd) [op] = OP("jcc", IC_BRANCH, 0, FLG(rd, 0, 0), 0, SZ_F64, 0, IM_JB)
#define FL_BE       (FL_CF | FL_ZF)
#define FL_L        (FL_SF | FL_OF)
#define FL_LE       (FL_SF | FL_OF | FL_ZF)

#define FLG_STR   FLG(FL_DF, 0, 0)
#define FLG_STRWR FLG(FL_DF, FL_ARITH, 0)
#define STR(op, name, cls, fl, rd, wr, szv)                       \
    [op] = OPI(name, cls, 0, fl, STRG, SZ_B, 0, IM_NONE, rd, wr), \
    [(op) + 1] = OPI(name, cls, 0, fl, STRG, szv, 0, IM_NONE, rd, wr)

#define INOUT(op, name, sz, im, rd, wr) [op] = OPI(name, IC_SYS, 0, FLG_NONE, 0, sz, 0, im, rd, wr)

const struct oprow op_one[256] = {
    ARITH6(0x00, "add", LK, FLG_ALL, ERW),
    ARITH6(0x08, "or", LK, FLG_LOGIC, ERW),
    ARITH6(0x10, "adc", LK, FLG_CARRY, ERW),
    ARITH6(0x18, "sbb", LK, FLG_CARRY, ERW),
    ARITH6(0x20, "and", LK, FLG_LOGIC, ERW),
    ARITH6(0x28, "sub", LK, FLG_ALL, ERW),
    ARITH6(0x30, "xor", LK, FLG_LOGIC, ERW),
    ARITH6(0x38, "cmp", 0, FLG_ALL, ER),
    PUSH_SEG(0x06),
    POP_SEG(0x07),
    PUSH_SEG(0x0e),
    PUSH_SEG(0x16),
    POP_SEG(0x17),
    PUSH_SEG(0x1e),
    POP_SEG(0x1f),
    [0x27] = OPI("daa", IC_ALU, 0, FLG(FL_AF | FL_CF, FL_ARITH, FL_OF), NO64, SZ_B, 0, IM_NONE, R_A,
                 R_A),
    [0x2f] = OPI("das", IC_ALU, 0, FLG(FL_AF | FL_CF, FL_ARITH, FL_OF), NO64, SZ_B, 0, IM_NONE, R_A,
                 R_A),
    [0x37] = OPI("aaa", IC_ALU, 0, FLG(FL_AF, FL_ARITH, FL_OF | FL_SF | FL_ZF | FL_PF), NO64, SZ_B,
                 0, IM_NONE, R_A, R_A),
    [0x3f] = OPI("aas", IC_ALU, 0, FLG(FL_AF, FL_ARITH, FL_OF | FL_SF | FL_ZF | FL_PF), NO64, SZ_B,
                 0, IM_NONE, R_A, R_A),

    [0x40 ... 0x47] = INC_R,
    [0x48 ... 0x4f] = DEC_R,
    [0x50 ... 0x57] = PUSH_R,
    [0x58 ... 0x5f] = POP_R,
    [0x60] = OPI("pusha", IC_STACK, 0, FLG_NONE, NO64, SZ_V, 0, IM_NONE, 0xff, R_SP),
    [0x61] = OPI("popa", IC_STACK, 0, FLG_NONE, NO64, SZ_V, 0, IM_NONE, R_SP, 0xff),
    [0x62] =
        OP("bound", IC_SYS, 0, FLG_NONE, MRM | MEM_R | REG_R | NOREG | NO64, SZ_V, MS_2OP, IM_NONE),
    [0x63] = PICK(ROW_MODE, op63),
    [0x68] = OPI("push", IC_STACK, 0, FLG_NONE, 0, SZ_D64, 0, IM_Z, R_SP, R_SP),
    [0x69] = OP("imul", IC_ALU, 0, FLG_MUL, ER | GW, SZ_V, MS_OP, IM_Z),
    [0x6a] = OPI("push", IC_STACK, 0, FLG_NONE, 0, SZ_D64, 0, IM_SB, R_SP, R_SP),
    [0x6b] = OP("imul", IC_ALU, 0, FLG_MUL, ER | GW, SZ_V, MS_OP, IM_SB),
    STR(0x6c, "ins", IC_SYS, FLG_STR, R_D | R_DI, R_DI, SZ_Z),
    STR(0x6e, "outs", IC_SYS, FLG_STR, R_D | R_SI, R_SI, SZ_Z),

    JCC(0x70, FL_OF),
    JCC(0x71, FL_OF),
    JCC(0x72, FL_CF),
    JCC(0x73, FL_CF),
    JCC(0x74, FL_ZF),
    JCC(0x75, FL_ZF),
    JCC(0x76, FL_BE),
    JCC(0x77, FL_BE),
    JCC(0x78, FL_SF),
    JCC(0x79, FL_SF),
    JCC(0x7a, FL_PF),
    JCC(0x7b, FL_PF),
    JCC(0x7c, FL_L),
    JCC(0x7d, FL_L),
    JCC(0x7e, FL_LE),
    JCC(0x7f, FL_LE),

    [0x80] = PICK(ROW_REG, grp1_80),
    [0x81] = PICK(ROW_REG, grp1_81),
    [0x82] = PICK(ROW_REG, grp1_82),
    [0x83] = PICK(ROW_REG, grp1_83),
    [0x84] = OP("test", IC_ALU, 0, FLG_LOGIC, ER | GR, SZ_B, MS_OP, IM_NONE),
    [0x85] = OP("test", IC_ALU, 0, FLG_LOGIC, ER | GR, SZ_V, MS_OP, IM_NONE),
    [0x86] = OP("xchg", IC_ALU, LK, FLG_NONE, ERW | GRW, SZ_B, MS_OP, IM_NONE),
    [0x87] = OP("xchg", IC_ALU, LK, FLG_NONE, ERW | GRW, SZ_V, MS_OP, IM_NONE),
    [0x88] = OP("mov", IC_ALU, 0, FLG_NONE, EW | GR, SZ_B, MS_OP, IM_NONE),
    [0x89] = OP("mov", IC_ALU, 0, FLG_NONE, EW | GR, SZ_V, MS_OP, IM_NONE),
    [0x8a] = OP("mov", IC_ALU, 0, FLG_NONE, ER | GW, SZ_B, MS_OP, IM_NONE),
    [0x8b] = OP("mov", IC_ALU, 0, FLG_NONE, ER | GW, SZ_V, MS_OP, IM_NONE),
    [0x8c] = OP("mov", IC_SYS, 0, FLG_NONE, EW | SREG, SZ_V, 2, IM_NONE),
    [0x8d] = OP("lea", IC_ALU, 0, FLG_NONE, MRM | GW | NOREG, SZ_V, 0, IM_NONE),
    [0x8e] = OP("mov", IC_SYS, 0, FLG_NONE, ER | SREG | NOCS, SZ_V, 2, IM_NONE),
    [0x8f] = PICK(ROW_REG, grp1a_8f),

    [0x90] = PICK(ROW_F3, op90),
    [0x91 ... 0x97] = XCHG_A,
    [0x98] = OPI("cbw", IC_ALU, 0, FLG_NONE, 0, SZ_V, 0, IM_NONE, R_A, R_A),
    [0x99] = OPI("cwd", IC_ALU, 0, FLG_NONE, 0, SZ_V, 0, IM_NONE, R_A, R_D),
    [0x9a] = OPI("callf", IC_SYS, 0, FLG_NONE, NO64, SZ_V, 0, IM_FAR, R_SP, R_SP),
    [0x9b] = OP("fwait", IC_X87, 0, FLG_NONE, 0, SZ_Y, 0, IM_NONE),
    [0x9c] = OPI("pushf", IC_STACK, 0, FLG_RDALL, 0, SZ_D64, 0, IM_NONE, R_SP, R_SP),
    [0x9d] =
        OPI("popf", IC_STACK, 0, FLG(0, FL_ARITH | FL_DF, 0), 0, SZ_D64, 0, IM_NONE, R_SP, R_SP),
    [0x9e] = OPI("sahf", IC_ALU, 0, FLG(0, FL_ARITH & ~FL_OF, 0), 0, SZ_V, 0, IM_NONE, R_A, 0),
    [0x9f] = OPI("lahf", IC_ALU, 0, FLG(FL_ARITH & ~FL_OF, 0, 0), 0, SZ_V, 0, IM_NONE, R_A, R_A),

    [0xa0] = OPI("mov", IC_MOFFS, 0, FLG_NONE, MEM_R, SZ_B, MS_OP, IM_MOFFS, 0, R_A),
    [0xa1] = OPI("mov", IC_MOFFS, 0, FLG_NONE, MEM_R, SZ_V, MS_OP, IM_MOFFS, 0, R_A),
    [0xa2] = OPI("mov", IC_MOFFS, 0, FLG_NONE, MEM_W, SZ_B, MS_OP, IM_MOFFS, R_A, 0),
    [0xa3] = OPI("mov", IC_MOFFS, 0, FLG_NONE, MEM_W, SZ_V, MS_OP, IM_MOFFS, R_A, 0),
    STR(0xa4, "movs", IC_STRING, FLG_STR, R_SI | R_DI, R_SI | R_DI, SZ_V),
    STR(0xa6, "cmps", IC_STRING, FLG_STRWR, R_SI | R_DI, R_SI | R_DI, SZ_V),
    [0xa8] = OPI("test", IC_ALU, 0, FLG_LOGIC, 0, SZ_B, 0, IM_SB, R_A, 0),
    [0xa9] = OPI("test", IC_ALU, 0, FLG_LOGIC, 0, SZ_V, 0, IM_Z, R_A, 0),
    STR(0xaa, "stos", IC_STRING, FLG_STR, R_A | R_DI, R_DI, SZ_V),
    STR(0xac, "lods", IC_STRING, FLG_STR, R_SI, R_A | R_SI, SZ_V),
    STR(0xae, "scas", IC_STRING, FLG_STRWR, R_A | R_DI, R_DI, SZ_V),
    [0xb0 ... 0xb7] = MOV_R8,
    [0xb8 ... 0xbf] = MOV_RV,

    [0xc0] = PICK(ROW_REG, grp2_c0),
    [0xc1] = PICK(ROW_REG, grp2_c1),
    [0xc2] = OPI("ret", IC_BRANCH, 0, FLG_NONE, 0, SZ_F64, 0, IM_UW, R_SP, R_SP),
    [0xc3] = OPI("ret", IC_BRANCH, 0, FLG_NONE, 0, SZ_F64, 0, IM_NONE, R_SP, R_SP),
    [0xc4] = OP("les", IC_SYS, 0, FLG_NONE, WR | GW | NOREG | NO64, SZ_V, 0, IM_NONE),
    [0xc5] = OP("lds", IC_SYS, 0, FLG_NONE, WR | GW | NOREG | NO64, SZ_V, 0, IM_NONE),
    [0xc6] = PICK(ROW_REG, grp11_c6),
    [0xc7] = PICK(ROW_REG, grp11_c7),
    [0xc8] = OPI("enter", IC_STACK, 0, FLG_NONE, 0, SZ_D64, 0, IM_ENTER, R_SP | R_BP, R_SP | R_BP),
    [0xc9] = OPI("leave", IC_STACK, 0, FLG_NONE, 0, SZ_D64, 0, IM_NONE, R_BP, R_SP | R_BP),
    [0xca] = OPI("retf", IC_SYS, 0, FLG_NONE, 0, SZ_V, 0, IM_UW, R_SP, R_SP),
    [0xcb] = OPI("retf", IC_SYS, 0, FLG_NONE, 0, SZ_V, 0, IM_NONE, R_SP, R_SP),
    [0xcc] = OPI("int3", IC_SYS, 0, FLG_RDALL, 0, SZ_V, 0, IM_NONE, R_SP, R_SP),
    [0xcd] = OPI("int", IC_SYS, 0, FLG_RDALL, 0, SZ_V, 0, IM_UB, R_SP, R_SP),
    [0xce] = OPI("into", IC_SYS, 0, FLG_RDALL, NO64, SZ_V, 0, IM_NONE, R_SP, R_SP),
    [0xcf] = OPI("iret", IC_SYS, 0, FLG_ALLALL, 0, SZ_V, 0, IM_NONE, R_SP, R_SP),

    [0xd0] = PICK(ROW_REG, grp2_d0),
    [0xd1] = PICK(ROW_REG, grp2_d1),
    [0xd2] = PICK(ROW_REG, grp2_d2),
    [0xd3] = PICK(ROW_REG, grp2_d3),
    [0xd4] = OPI("aam", IC_ALU, 0, FLG(0, FL_ARITH, FL_OF | FL_AF | FL_CF), NO64, SZ_B, 0, IM_UB,
                 R_A, R_A),
    [0xd5] = OPI("aad", IC_ALU, 0, FLG(0, FL_ARITH, FL_OF | FL_AF | FL_CF), NO64, SZ_B, 0, IM_UB,
                 R_A, R_A),
    [0xd6] = OPI("salc", IC_ALU, 0, FLG(FL_CF, 0, 0), NO64, SZ_B, 0, IM_NONE, 0, R_A),
    [0xd7] = OPI("xlat", IC_MOFFS, 0, FLG_NONE, MEM_R, SZ_B, 1, IM_XLAT, R_A | R_B, R_A),
    [0xd8] = PICK(ROW_MOD, &op_x87[0]),
    [0xd9] = PICK(ROW_MOD, &op_x87[2]),
    [0xda] = PICK(ROW_MOD, &op_x87[4]),
    [0xdb] = PICK(ROW_MOD, &op_x87[6]),
    [0xdc] = PICK(ROW_MOD, &op_x87[8]),
    [0xdd] = PICK(ROW_MOD, &op_x87[10]),
    [0xde] = PICK(ROW_MOD, &op_x87[12]),
    [0xdf] = PICK(ROW_MOD, &op_x87[14]),

    [0xe0] = OPI("loopne", IC_BRANCH, 0, FLG(FL_ZF, 0, 0), 0, SZ_F64, 0, IM_JB, R_C, R_C),
    [0xe1] = OPI("loope", IC_BRANCH, 0, FLG(FL_ZF, 0, 0), 0, SZ_F64, 0, IM_JB, R_C, R_C),
    [0xe2] = OPI("loop", IC_BRANCH, 0, FLG_NONE, 0, SZ_F64, 0, IM_JB, R_C, R_C),
    [0xe3] = OPI("jrcxz", IC_BRANCH, 0, FLG_NONE, 0, SZ_F64, 0, IM_JB, R_C, 0),
    INOUT(0xe4, "in", SZ_B, IM_UB, 0, R_A),
    INOUT(0xe5, "in", SZ_Z, IM_UB, 0, R_A),
    INOUT(0xe6, "out", SZ_B, IM_UB, R_A, 0),
    INOUT(0xe7, "out", SZ_Z, IM_UB, R_A, 0),
    [0xe8] = OPI("call", IC_BRANCH, 0, FLG_NONE, 0, SZ_F64, 0, IM_JZ, R_SP, R_SP),
    [0xe9] = OP("jmp", IC_BRANCH, 0, FLG_NONE, 0, SZ_F64, 0, IM_JZ),
    [0xea] = OP("jmpf", IC_SYS, 0, FLG_NONE, NO64, SZ_V, 0, IM_FAR),
    [0xeb] = OP("jmp", IC_BRANCH, 0, FLG_NONE, 0, SZ_F64, 0, IM_JB),
    INOUT(0xec, "in", SZ_B, IM_NONE, R_D, R_A),
    INOUT(0xed, "in", SZ_Z, IM_NONE, R_D, R_A),
    INOUT(0xee, "out", SZ_B, IM_NONE, R_A | R_D, 0),
    INOUT(0xef, "out", SZ_Z, IM_NONE, R_A | R_D, 0),

    [0xf1] = OPI("int1", IC_SYS, 0, FLG_RDALL, 0, SZ_V, 0, IM_NONE, R_SP, R_SP),
    [0xf4] = OP("hlt", IC_SYS, OF_CPL0, FLG_NONE, 0, SZ_Y, 0, IM_NONE),
    [0xf5] = OP("cmc", IC_ALU, 0, FLG(FL_CF, FL_CF, 0), 0, SZ_V, 0, IM_NONE),
    [0xf6] = PICK(ROW_REG, grp3_f6),
    [0xf7] = PICK(ROW_REG, grp3_f7),
    [0xf8] = OP("clc", IC_ALU, 0, FLG(0, FL_CF, 0), 0, SZ_V, 0, IM_NONE),
    [0xf9] = OP("stc", IC_ALU, 0, FLG(0, FL_CF, 0), 0, SZ_V, 0, IM_NONE),
    [0xfa] = OP("cli", IC_SYS, 0, FLG_NONE, 0, SZ_Y, 0, IM_NONE),
    [0xfb] = OP("sti", IC_SYS, 0, FLG_NONE, 0, SZ_Y, 0, IM_NONE),
    [0xfc] = OP("cld", IC_ALU, 0, FLG(0, FL_DF, 0), 0, SZ_V, 0, IM_NONE),
    [0xfd] = OP("std", IC_ALU, 0, FLG(0, FL_DF, 0), 0, SZ_V, 0, IM_NONE),
    [0xfe] = PICK(ROW_REG, grp4_fe),
    [0xff] = PICK(ROW_REG, grp5_ff),
};
