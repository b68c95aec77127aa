/*
 * The 0F opcode map (SDM 2D table A-3): integer and system instructions. Rows that are zero here
 * are looked up in op_sse.
 */
#include "vcpu/decode_table.h"

#define LK                       OF_LOCKABLE
#define SYS(name, of, f, sz, ms) OP(name, IC_SYS, of, FLG_NONE, f, sz, ms, IM_NONE)
#define SYSI(name, of, rd, wr)   OPI(name, IC_SYS, of, FLG_NONE, 0, SZ_V, 0, IM_NONE, rd, wr)
#define NOPE                     OP("nop", IC_ALU, 0, FLG_NONE, MRM, SZ_V, 0, IM_NONE)

static const struct oprow grp6[8] = {
    SYS("sldt", 0, EW, SZ_V, 2),
    SYS("str", 0, EW, SZ_V, 2),
    SYS("lldt", OF_CPL0, ER, SZ_W, 2),
    SYS("ltr", OF_CPL0, ER, SZ_W, 2),
    OP("verr", IC_SYS, 0, FLG(0, FL_ZF, 0), ER, SZ_W, 2, IM_NONE),
    OP("verw", IC_SYS, 0, FLG(0, FL_ZF, 0), ER, SZ_W, 2, IM_NONE),
};

/* 0F 01: memory forms by reg, register forms by reg and rm. */
static const struct oprow grp7_mem[8] = {
    SYS("sgdt", 0, WW, SZ_N, 0),       SYS("sidt", 0, WW, SZ_N, 0),
    SYS("lgdt", OF_CPL0, WR, SZ_N, 0), SYS("lidt", OF_CPL0, WR, SZ_N, 0),
    SYS("smsw", 0, EW, SZ_V, 2),       BAD,
    SYS("lmsw", OF_CPL0, ER, SZ_W, 2), SYS("invlpg", OF_CPL0, MRM, SZ_Y, 0),
};
static const struct oprow grp7_c0[8] = {[1] = OPI("vmcall", IC_SYS, 0, FLG_NONE, NOPFX, SZ_Y, 0,
                                                  IM_NONE, R_A | R_B | R_C | R_D | R_SI, R_A)};
static const struct oprow grp7_c8[8] = {
    OPI("monitor", IC_SYS, OF_CPL0, FLG_NONE, NOPFX, SZ_Y, 0, IM_NONE, R_A | R_C | R_D, 0),
    OPI("mwait", IC_SYS, OF_CPL0, FLG_NONE, NOPFX, SZ_Y, 0, IM_NONE, R_A | R_C, 0),
    OP("clac", IC_SYS, OF_CPL0, FLG_NONE, NOPFX, SZ_Y, 0, IM_NONE),
    OP("stac", IC_SYS, OF_CPL0, FLG_NONE, NOPFX, SZ_Y, 0, IM_NONE),
};
static const struct oprow grp7_d0[8] = {
    OPI("xgetbv", IC_SYS, 0, FLG_NONE, NOPFX, SZ_Y, 0, IM_NONE, R_C, R_A | R_D),
    OPI("xsetbv", IC_SYS, OF_CPL0, FLG_NONE, NOPFX, SZ_Y, 0, IM_NONE, R_A | R_C | R_D, 0),
};
static const struct oprow grp7_d8[8] = {[1] =
                                            SYSI("vmmcall", 0, R_A | R_B | R_C | R_D | R_SI, R_A)};
static const struct oprow grp7_f8[8] = {
    OP("swapgs", IC_SYS, OF_CPL0, FLG_NONE, ONLY64, SZ_Y, 0, IM_NONE),
    SYSI("rdtscp", 0, 0, R_A | R_C | R_D),
};
static const struct oprow grp7_reg[8] = {
    PICK(ROW_RM, grp7_c0),
    PICK(ROW_RM, grp7_c8),
    PICK(ROW_RM, grp7_d0),
    PICK(ROW_RM, grp7_d8),
    SYS("smsw", 0, EW, SZ_V, 2),
    BAD,
    SYS("lmsw", OF_CPL0, ER, SZ_W, 2),
    PICK(ROW_RM, grp7_f8),
};
static const struct oprow grp7[2] = {PICK(ROW_REG, grp7_mem), PICK(ROW_REG, grp7_reg)};

#define BTX(name, of, e, f, im, fl) OP(name, IC_ALU, of, fl, (e) | (f), SZ_V, MS_OP, im)
#define FLG_BT                      FLG(0, FL_ARITH & ~FL_ZF, FL_ARITH & ~FL_ZF & ~FL_CF)
static const struct oprow grp8[8] = {
    [4] = BTX("bt", 0, ER, 0, IM_UB, FLG_BT),
    BTX("bts", LK, ERW, 0, IM_UB, FLG_BT),
    BTX("btr", LK, ERW, 0, IM_UB, FLG_BT),
    BTX("btc", LK, ERW, 0, IM_UB, FLG_BT),
};

/* 0F C7. CMPXCHG8B takes its registers as pairs of 4 bytes, 16B of 8. */
#define XS(name, cls, of, acc) \
    OPI(name, cls, of, FLG_NONE, MRM | (acc), SZ_Y, 0, IM_NONE, R_A | R_D, 0)
#define CX(name, of)                                                                           \
    OPI(name, IC_ALU, LK | (of), FLG(0, FL_ZF, 0), MRM | MEM_R | MEM_W, SZ_Y, MS_2OP, IM_NONE, \
        R_A | R_B | R_C | R_D, R_A | R_D)
static const struct oprow grp9_mem[8] = {
    [1] = BY_W(CX("cmpxchg8b", 0), CX("cmpxchg16b", OF_ALIGN16)),
    [3] = XS("xrstors", IC_VECSYS, OF_CPL0, MEM_R | NOPFX),
    [4] = XS("xsavec", IC_VECSYS, 0, MEM_W | NOPFX),
    [5] = XS("xsaves", IC_VECSYS, OF_CPL0, MEM_W | NOPFX),
};
#define FLG_RND   FLG(0, FL_ARITH, 0)
#define RND(name) OP(name, IC_ALU, 0, FLG_RND, MRM | RM_W, SZ_V, 0, IM_NONE)
static const struct oprow grp9_reg[8] = {
    [6] = PP(RND("rdrand"), RND("rdrand")),
    PP(RND("rdseed"), RND("rdseed"),
       OP("rdpid", IC_SYS, 0, FLG_NONE, MRM | RM_W, SZ_N, 0, IM_NONE)),
};
static const struct oprow grp9[2] = {PICK(ROW_REG, grp9_mem), PICK(ROW_REG, grp9_reg)};

/* 0F AE. CLFLUSH and its like are checked as a load of a byte (SDM 2A CLFLUSH). */
#define FX(name, acc) OP(name, IC_VECSYS, 0, FLG_NONE, MRM | (acc), SZ_Y, 0, IM_NONE)
static const struct oprow grp15_mem_np[8] = {
    FX("fxsave", MEM_W),
    FX("fxrstor", MEM_R),
    OP("ldmxcsr", IC_VEC, 0, FLG_NONE, WR, SZ_D, 4, IM_NONE),
    OP("stmxcsr", IC_VEC, 0, FLG_NONE, WW, SZ_D, 4, IM_NONE),
    XS("xsave", IC_VECSYS, 0, MEM_W),
    XS("xrstor", IC_VECSYS, 0, MEM_R),
    XS("xsaveopt", IC_VECSYS, 0, MEM_W),
    OP("clflush", IC_ALU, 0, FLG_NONE, MRM | MEM_R, SZ_Y, 1, IM_NONE),
};
static const struct oprow grp15_mem_66[8] = {
    [6] = OP("clwb", IC_ALU, 0, FLG_NONE, MRM | MEM_R, SZ_Y, 1, IM_NONE),
    [7] = OP("clflushopt", IC_ALU, 0, FLG_NONE, MRM | MEM_R, SZ_Y, 1, IM_NONE),
};
static const struct oprow grp15_mem[4] = {PICK(ROW_REG, grp15_mem_np), PICK(ROW_REG, grp15_mem_66)};
#define FENCE(name) OP(name, IC_ALU, 0, FLG_NONE, MRM, SZ_Y, 0, IM_NONE)
static const struct oprow grp15_reg_np[8] = {
    [5] = FENCE("lfence"), FENCE("mfence"), FENCE("sfence")};
static const struct oprow grp15_reg_f3[8] = {
    SYS("rdfsbase", 0, MRM | RM_W | ONLY64, SZ_Y, 0),
    SYS("rdgsbase", 0, MRM | RM_W | ONLY64, SZ_Y, 0),
    SYS("wrfsbase", 0, MRM | RM_R | ONLY64, SZ_Y, 0),
    SYS("wrgsbase", 0, MRM | RM_R | ONLY64, SZ_Y, 0),
};
static const struct oprow grp15_reg[4] = {PICK(ROW_REG, grp15_reg_np), BAD,
                                          PICK(ROW_REG, grp15_reg_f3)};
static const struct oprow grp15_np[2] = {PICK(ROW_PP, grp15_mem), PICK(ROW_PP, grp15_reg)};

static const struct oprow op0f_b8[4] = {
    [2] = OP("popcnt", IC_ALU, 0, FLG_ALL, ER | GW, SZ_V, MS_OP, IM_NONE)};
#define FLG_BSF FLG(0, FL_ARITH, FL_ARITH & ~FL_ZF)
#define FLG_CNT FLG(0, FL_ARITH, FL_ARITH & ~FL_ZF & ~FL_CF)
static const struct oprow op0f_bc[2] = {
    OP("bsf", IC_ALU, 0, FLG_BSF, ER | GW | PART, SZ_V, MS_OP, IM_NONE),
    OP("tzcnt", IC_ALU, 0, FLG_CNT, ER | GW, SZ_V, MS_OP, IM_NONE),
};
static const struct oprow op0f_bd[2] = {
    OP("bsr", IC_ALU, 0, FLG_BSF, ER | GW | PART, SZ_V, MS_OP, IM_NONE),
    OP("lzcnt", IC_ALU, 0, FLG_CNT, ER | GW, SZ_V, MS_OP, IM_NONE),
};

static const struct oprow op0f_c3[4] = {
    OP("movnti", IC_ALU, 0, FLG_NONE, WW | GR | NOREG, SZ_Y, MS_OP, IM_NONE)};

/* Condition codes, in the order of the low opcode bits. */
#define FL_BE (FL_CF | FL_ZF)
#define FL_L  (FL_SF | FL_OF)
#define FL_LE (FL_SF | FL_OF | FL_ZF)
#define CC(base, ROW_)                                                                        \
    [(base)] = ROW_(FL_OF), ROW_(FL_OF), ROW_(FL_CF), ROW_(FL_CF), ROW_(FL_ZF), ROW_(FL_ZF),  \
    ROW_(FL_BE), ROW_(FL_BE), ROW_(FL_SF), ROW_(FL_SF), ROW_(FL_PF), ROW_(FL_PF), ROW_(FL_L), \
    ROW_(FL_L), ROW_(FL_LE), ROW_(FL_LE)
#define CMOV(rd) OP("cmovcc", IC_ALU, 0, FLG(rd, 0, 0), ER | GW | PART, SZ_V, MS_OP, IM_NONE)
#define JCC(rd)  OP("jcc", IC_BRANCH, 0, FLG(rd, 0, 0), 0, SZ_F64, 0, IM_JZ)
#define SETC(rd) OP("setcc", IC_ALU, 0, FLG(rd, 0, 0), EW, SZ_B, MS_OP, IM_NONE)

#define FLG_SHD(lazy) FLG(lazy, FL_ARITH, FL_OF | FL_AF)
#define BSWAP_R       OP("bswap", IC_ALU, 0, FLG_NONE, OPR_R | OPR_W, SZ_V, 0, IM_NONE)
#define LSEG(name)    OP(name, IC_SYS, 0, FLG_NONE, WR | GW | NOREG, SZ_V, 0, IM_NONE)
#define MOVCR(f)      OP("mov", IC_SYS, OF_CPL0, FLG_NONE, MRM | (f), SZ_N, 0, IM_NONE)
#define FLG_CX        FLG(0, FL_ARITH, 0)

const struct oprow op_0f[256] = {
    [0x00] = PICK(ROW_REG, grp6),
    [0x01] = PICK(ROW_MOD, grp7),
    [0x02] = OP("lar", IC_SYS, 0, FLG(0, FL_ZF, 0), ER | GW | PART, SZ_V, 2, IM_NONE),
    [0x03] = OP("lsl", IC_SYS, 0, FLG(0, FL_ZF, 0), ER | GW | PART, SZ_V, 2, IM_NONE),
    [0x05] = OPI("syscall", IC_SYS, 0, FLG_ALLALL, 0, SZ_Y, 0, IM_NONE, R_C | 1u << R11,
                 R_C | 1u << R11),
    [0x06] = SYS("clts", OF_CPL0, 0, SZ_Y, 0),
    [0x07] = OPI("sysret", IC_SYS, OF_CPL0, FLG_ALLALL, 0, SZ_Y, 0, IM_NONE, R_C | 1u << R11, 0),
    [0x08] = SYS("invd", OF_CPL0, 0, SZ_Y, 0),
    [0x09] = SYS("wbinvd", OF_CPL0, 0, SZ_Y, 0),
    [0x0b] = OP("ud2", IC_UD, 0, FLG_NONE, 0, SZ_Y, 0, IM_NONE),
    [0x0d] = NOPE,
    [0x18 ... 0x1f] = NOPE,
    [0x20] = MOVCR(RM_W | CREG),
    [0x21] = MOVCR(RM_W | DREG),
    [0x22] = MOVCR(RM_R | CREG),
    [0x23] = MOVCR(RM_R | DREG),
    [0x30] = SYSI("wrmsr", OF_CPL0, R_A | R_C | R_D, 0),
    [0x31] = SYSI("rdtsc", 0, 0, R_A | R_D),
    [0x32] = SYSI("rdmsr", OF_CPL0, R_C, R_A | R_D),
    [0x33] = SYSI("rdpmc", 0, R_C, R_A | R_D),
    [0x34] = OPI("sysenter", IC_SYS, 0, FLG_NONE, 0, SZ_Y, 0, IM_NONE, 0, R_SP),
    [0x35] = OPI("sysexit", IC_SYS, OF_CPL0, FLG_NONE, 0, SZ_Y, 0, IM_NONE, R_C | R_D, R_SP),
    CC(0x40, CMOV),
    CC(0x80, JCC),
    CC(0x90, SETC),
    [0xa0] = OPI("push", IC_SYS, 0, FLG_NONE, 0, SZ_D64, 0, IM_NONE, R_SP, R_SP),
    [0xa1] = OPI("pop", IC_SYS, 0, FLG_NONE, 0, SZ_D64, 0, IM_NONE, R_SP, R_SP),
    [0xa2] = SYSI("cpuid", 0, R_A | R_C, R_A | R_B | R_C | R_D),
    [0xa3] = BTX("bt", OF_BITMEM, ER, GR, IM_NONE, FLG_BT),
    [0xa4] = OP("shld", IC_ALU, 0, FLG_SHD(0), ERW | GR | COUNT, SZ_V, MS_OP, IM_UB),
    [0xa5] = OPI("shld", IC_ALU, 0, FLG_SHD(FL_ARITH), ERW | GR, SZ_V, MS_OP, IM_NONE, R_C, 0),
    [0xa8] = OPI("push", IC_SYS, 0, FLG_NONE, 0, SZ_D64, 0, IM_NONE, R_SP, R_SP),
    [0xa9] = OPI("pop", IC_SYS, 0, FLG_NONE, 0, SZ_D64, 0, IM_NONE, R_SP, R_SP),
    [0xab] = BTX("bts", OF_BITMEM | LK, ERW, GR, IM_NONE, FLG_BT),
    [0xac] = OP("shrd", IC_ALU, 0, FLG_SHD(0), ERW | GR | COUNT, SZ_V, MS_OP, IM_UB),
    [0xad] = OPI("shrd", IC_ALU, 0, FLG_SHD(FL_ARITH), ERW | GR, SZ_V, MS_OP, IM_NONE, R_C, 0),
    [0xae] = PICK(ROW_MOD, grp15_np),
    [0xaf] = OP("imul", IC_ALU, 0, FLG(0, FL_ARITH, FL_SF | FL_ZF | FL_AF | FL_PF), ER | GRW, SZ_V,
                MS_OP, IM_NONE),
    [0xb0] = OPI("cmpxchg", IC_ALU, LK, FLG_CX, ERW | GR, SZ_B, MS_OP, IM_NONE, R_A, R_A),
    [0xb1] = OPI("cmpxchg", IC_ALU, LK, FLG_CX, ERW | GR, SZ_V, MS_OP, IM_NONE, R_A, R_A),
    [0xb2] = LSEG("lss"),
    [0xb3] = BTX("btr", OF_BITMEM | LK, ERW, GR, IM_NONE, FLG_BT),
    [0xb4] = LSEG("lfs"),
    [0xb5] = LSEG("lgs"),
    [0xb6] = OP("movzx", IC_ALU, 0, FLG_NONE, ER | RM8 | GW, SZ_V, 1, IM_NONE),
    [0xb7] = OP("movzx", IC_ALU, 0, FLG_NONE, ER | GW, SZ_V, 2, IM_NONE),
    [0xb8] = PICK(ROW_PP, op0f_b8),
    [0xb9] = OP("ud1", IC_UD, 0, FLG_NONE, MRM, SZ_V, 0, IM_NONE),
    [0xba] = PICK(ROW_REG, grp8),
    [0xbb] = BTX("btc", OF_BITMEM | LK, ERW, GR, IM_NONE, FLG_BT),
    [0xbc] = PICK(ROW_F3, op0f_bc),
    [0xbd] = PICK(ROW_F3, op0f_bd),
    [0xbe] = OP("movsx", IC_ALU, 0, FLG_NONE, ER | RM8 | GW, SZ_V, 1, IM_NONE),
    [0xbf] = OP("movsx", IC_ALU, 0, FLG_NONE, ER | GW, SZ_V, 2, IM_NONE),
    [0xc0] = OP("xadd", IC_ALU, LK, FLG_ALL, ERW | GRW, SZ_B, MS_OP, IM_NONE),
    [0xc1] = OP("xadd", IC_ALU, LK, FLG_ALL, ERW | GRW, SZ_V, MS_OP, IM_NONE),
    [0xc3] = PICK(ROW_PP, op0f_c3),
    [0xc7] = PICK(ROW_MOD, grp9),
    [0xc8 ... 0xcf] = BSWAP_R,
    [0xff] = OP("ud0", IC_UD, 0, FLG_NONE, MRM, SZ_V, 0, IM_NONE),
};
