/*
 * x87: opcodes D8-DF (SDM 2D tables ). Memory forms by modrm.reg, register forms by
 * modrm.reg and, where these differ, modrm.rm. The undocumented aliases that every CPU executes are
 * here too (FCOM at DC D0, FXCH at DD C8, FSTPNCE at D9 D8...).
 */
#include "vcpu/decode_table.h"

#define FPU(name)          OP(name, IC_X87, 0, FLG_NONE, MRM, SZ_D, 0, IM_NONE)
#define FPFL(name, fl)     OP(name, IC_X87, 0, fl, MRM, SZ_D, 0, IM_NONE)
#define FPM(name, acc, ms) OP(name, IC_X87, 0, FLG_NONE, MRM | (acc), SZ_D, ms, IM_NONE)
#define ENV(name, acc)     OP(name, IC_VECSYS, 0, FLG_NONE, MRM | (acc), SZ_D, 0, IM_NONE)

/* D8, DA, DC, DE memory: the eight operations on one source. */
#define ARITH_MEM(i, ms)                                                                       \
    {                                                                                          \
        FPM("f" i "add", MEM_R, ms), FPM("f" i "mul", MEM_R, ms), FPM("f" i "com", MEM_R, ms), \
            FPM("f" i "comp", MEM_R, ms), FPM("f" i "sub", MEM_R, ms),                         \
            FPM("f" i "subr", MEM_R, ms), FPM("f" i "div", MEM_R, ms),                         \
            FPM("f" i "divr", MEM_R, ms),                                                      \
    }

static const struct oprow d8_mem[8] = ARITH_MEM("", 4);
static const struct oprow d8_reg[8] = {FPU("fadd"), FPU("fmul"),  FPU("fcom"), FPU("fcomp"),
                                       FPU("fsub"), FPU("fsubr"), FPU("fdiv"), FPU("fdivr")};

static const struct oprow d9_mem[8] = {
    FPM("fld", MEM_R, 4),  BAD,
    FPM("fst", MEM_W, 4),  FPM("fstp", MEM_W, 4),
    ENV("fldenv", MEM_R),  FPM("fldcw", MEM_R, 2),
    ENV("fnstenv", MEM_W), FPM("fnstcw", MEM_W, 2),
};
static const struct oprow d9_d0[8] = {FPU("fnop")};
static const struct oprow d9_e0[8] = {FPU("fchs"), FPU("fabs"), BAD, BAD, FPU("ftst"), FPU("fxam")};
static const struct oprow d9_e8[8] = {FPU("fld1"),   FPU("fldl2t"), FPU("fldl2e"), FPU("fldpi"),
                                      FPU("fldlg2"), FPU("fldln2"), FPU("fldz")};
static const struct oprow d9_f0[8] = {FPU("f2xm1"),   FPU("fyl2x"),   FPU("fptan"),
                                      FPU("fpatan"),  FPU("fxtract"), FPU("fprem1"),
                                      FPU("fdecstp"), FPU("fincstp")};
static const struct oprow d9_f8[8] = {FPU("fprem"),   FPU("fyl2xp1"), FPU("fsqrt"), FPU("fsincos"),
                                      FPU("frndint"), FPU("fscale"),  FPU("fsin"),  FPU("fcos")};
static const struct oprow d9_reg[8] = {
    FPU("fld"),          FPU("fxch"),         PICK(ROW_RM, d9_d0), FPU("fstpnce"),
    PICK(ROW_RM, d9_e0), PICK(ROW_RM, d9_e8), PICK(ROW_RM, d9_f0), PICK(ROW_RM, d9_f8),
};

static const struct oprow da_mem[8] = ARITH_MEM("i", 4);
static const struct oprow da_e8[8] = {[1] = FPU("fucompp")};
static const struct oprow da_reg[8] = {
    FPFL("fcmovb", FLG(FL_CF, 0, 0)),
    FPFL("fcmove", FLG(FL_ZF, 0, 0)),
    FPFL("fcmovbe", FLG(FL_CF | FL_ZF, 0, 0)),
    FPFL("fcmovu", FLG(FL_PF, 0, 0)),
    BAD,
    PICK(ROW_RM, da_e8),
};

static const struct oprow db_mem[8] = {
    FPM("fild", MEM_R, 4),
    FPM("fisttp", MEM_W, 4),
    FPM("fist", MEM_W, 4),
    FPM("fistp", MEM_W, 4),
    BAD,
    FPM("fld", MEM_R, 10),
    BAD,
    FPM("fstp", MEM_W, 10),
};
/* FENI, FDISI and FSETPM of the 8087 and 80287 do nothing. */
static const struct oprow db_e0[8] = {FPU("fneni"), FPU("fndisi"), FPU("fnclex"), FPU("fninit"),
                                      FPU("fnsetpm")};
#define FLG_FCOMI FLG(0, FL_ARITH, 0)
static const struct oprow db_reg[8] = {
    FPFL("fcmovnb", FLG(FL_CF, 0, 0)),
    FPFL("fcmovne", FLG(FL_ZF, 0, 0)),
    FPFL("fcmovnbe", FLG(FL_CF | FL_ZF, 0, 0)),
    FPFL("fcmovnu", FLG(FL_PF, 0, 0)),
    PICK(ROW_RM, db_e0),
    FPFL("fucomi", FLG_FCOMI),
    FPFL("fcomi", FLG_FCOMI),
};

static const struct oprow dc_mem[8] = ARITH_MEM("", 8);
static const struct oprow dc_reg[8] = {FPU("fadd"),  FPU("fmul"), FPU("fcom"),  FPU("fcomp"),
                                       FPU("fsubr"), FPU("fsub"), FPU("fdivr"), FPU("fdiv")};

static const struct oprow dd_mem[8] = {
    FPM("fld", MEM_R, 8),  FPM("fisttp", MEM_W, 8), FPM("fst", MEM_W, 8),
    FPM("fstp", MEM_W, 8), ENV("frstor", MEM_R),    BAD,
    ENV("fnsave", MEM_W),  FPM("fnstsw", MEM_W, 2),
};
static const struct oprow dd_reg[8] = {FPU("ffree"), FPU("fxch"),  FPU("fst"),
                                       FPU("fstp"),  FPU("fucom"), FPU("fucomp")};

static const struct oprow de_mem[8] = ARITH_MEM("i", 2);
static const struct oprow de_d8[8] = {[1] = FPU("fcompp")};
static const struct oprow de_reg[8] = {
    FPU("faddp"),  FPU("fmulp"), FPU("fcomp"),  PICK(ROW_RM, de_d8),
    FPU("fsubrp"), FPU("fsubp"), FPU("fdivrp"), FPU("fdivp"),
};

static const struct oprow df_mem[8] = {
    FPM("fild", MEM_R, 2),   FPM("fisttp", MEM_W, 2), FPM("fist", MEM_W, 2),
    FPM("fistp", MEM_W, 2),  FPM("fbld", MEM_R, 10),  FPM("fild", MEM_R, 8),
    FPM("fbstp", MEM_W, 10), FPM("fistp", MEM_W, 8),
};
static const struct oprow df_e0[8] = {
    OPI("fnstsw", IC_X87, 0, FLG_NONE, MRM, SZ_W, 0, IM_NONE, 0, R_A),
};
static const struct oprow df_reg[8] = {
    FPU("ffreep"),
    FPU("fxch"),
    FPU("fstp"),
    FPU("fstp"),
    PICK(ROW_RM, df_e0),
    FPFL("fucomip", FLG_FCOMI),
    FPFL("fcomip", FLG_FCOMI),
};

const struct oprow op_x87[16] = {
    PICK(ROW_REG, d8_mem), PICK(ROW_REG, d8_reg), PICK(ROW_REG, d9_mem), PICK(ROW_REG, d9_reg),
    PICK(ROW_REG, da_mem), PICK(ROW_REG, da_reg), PICK(ROW_REG, db_mem), PICK(ROW_REG, db_reg),
    PICK(ROW_REG, dc_mem), PICK(ROW_REG, dc_reg), PICK(ROW_REG, dd_mem), PICK(ROW_REG, dd_reg),
    PICK(ROW_REG, de_mem), PICK(ROW_REG, de_reg), PICK(ROW_REG, df_mem), PICK(ROW_REG, df_reg),
};
