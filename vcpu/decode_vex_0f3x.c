/*
 * VEX maps 2 and 3 (0F 38, 0F 3A): AVX, AVX2, FMA, F16C, BMI1, BMI2, VAES, VPCLMULQDQ, GFNI.
 */
#include "vcpu/decode_table.h"

#define VX(name, cls, fl, f, ms, im) OP(name, cls, OF_NEED_AVX, fl, MRM | (f), SZ_Y, ms, im)
#define V(name, f, ms)               PP(BAD, VX(name, IC_VEC, FLG_NONE, f, ms, IM_NONE))
#define VI(name, f, ms)              PP(BAD, VX(name, IC_VEC, FLG_NONE, f, ms, IM_UB))
#define VV(name)                     V(name, WR, MS_VEC)
#define TEST(name, f)                PP(BAD, VX(name, IC_VEC, (0, FL_ARITH, 0), WR | NOVV | (f), MS_VEC, IM_NONE))
#define EXT(name, ms)                V(name, WR | NOVV, ms) /* PMOVSX, PMOVZX */

/* W tells dword from qword, or single from double. */
#define VW(nd, nq, f, ms) \
    PP(BAD,               \
       BY_W(VX(nd, IC_VEC, FLG_NONE, f, ms, IM_NONE), VX(nq, IC_VEC, FLG_NONE, f, ms, IM_NONE)))
#define MASK(name, f) PP(BAD, VX(name, IC_VECSYS, FLG_NONE, NOREG | (f), 0, IM_NONE))
#define GATHER(nd, nq)                                                       \
    PP(BAD, BY_W(VX(nd, IC_VECSYS, FLG_NONE, WR | VSIB | NOREG, 0, IM_NONE), \
                 VX(nq, IC_VECSYS, FLG_NONE, WR | VSIB | NOREG, 0, IM_NONE)))

/* FMA: ten opcodes for each operand order. Scalars are 4 or 8 bytes by W. */
#define FMAP(name)                                                     \
    PP(BAD, BY_W(VX(name "ps", IC_VEC, FLG_NONE, WR, MS_VEC, IM_NONE), \
                 VX(name "pd", IC_VEC, FLG_NONE, WR, MS_VEC, IM_NONE)))
#define FMAS(name)                                                \
    PP(BAD, BY_W(VX(name "ss", IC_VEC, FLG_NONE, WR, 4, IM_NONE), \
                 VX(name "sd", IC_VEC, FLG_NONE, WR, 8, IM_NONE)))
#define FMA(order)                                                                                \
    FMAP("vfmaddsub" order), FMAP("vfmsubadd" order), FMAP("vfmadd" order), FMAS("vfmadd" order), \
        FMAP("vfmsub" order), FMAS("vfmsub" order), FMAP("vfnmadd" order), FMAS("vfnmadd" order), \
        FMAP("vfnmsub" order), FMAS("vfnmsub" order)

/* BMI. */
#define BMI(name, fl, f) OP(name, IC_ALU, 0, fl, MRM | VL0 | (f), SZ_Y, MS_OP, IM_NONE)
#define FLG_ANDN         FLG(0, FL_ARITH, FL_AF | FL_PF)
#define FLG_BEXTR        FLG(0, FL_ARITH, FL_AF | FL_PF | FL_SF)
static const struct oprow grp17[8] = {
    BAD,
    PP(BMI("blsr", FLG_ANDN, ER | VV_W)),
    PP(BMI("blsmsk", FLG_ANDN, ER | VV_W)),
    PP(BMI("blsi", FLG_ANDN, ER | VV_W)),
};

const struct oprow op_vex0f38[256] = {
    [0x00] = VV("vpshufb"),
    [0x01] = VV("vphaddw"),
    [0x02] = VV("vphaddd"),
    [0x03] = VV("vphaddsw"),
    [0x04] = VV("vpmaddubsw"),
    [0x05] = VV("vphsubw"),
    [0x06] = VV("vphsubd"),
    [0x07] = VV("vphsubsw"),
    [0x08] = VV("vpsignb"),
    [0x09] = VV("vpsignw"),
    [0x0a] = VV("vpsignd"),
    [0x0b] = VV("vpmulhrsw"),
    [0x0c] = V("vpermilps", WR | VW0, MS_VEC),
    [0x0d] = V("vpermilpd", WR | VW0, MS_VEC),
    [0x0e] = TEST("vtestps", VW0),
    [0x0f] = TEST("vtestpd", VW0),
    [0x13] = V("vcvtph2ps", WR | NOVV | VW0, MS_HALF),
    [0x16] = V("vpermps", WR | VL1 | VW0, 32),
    [0x17] = TEST("vptest", 0),
    [0x18] = V("vbroadcastss", WR | NOVV | VW0, 4),
    [0x19] = V("vbroadcastsd", WR | NOVV | VW0 | VL1, 8),
    [0x1a] = V("vbroadcastf128", WR | NOVV | VW0 | VL1 | NOREG, 16),
    [0x1c] = EXT("vpabsb", MS_VEC),
    [0x1d] = EXT("vpabsw", MS_VEC),
    [0x1e] = EXT("vpabsd", MS_VEC),
    [0x20] = EXT("vpmovsxbw", MS_HALF),
    [0x21] = EXT("vpmovsxbd", MS_QUARTER),
    [0x22] = EXT("vpmovsxbq", MS_EIGHTH),
    [0x23] = EXT("vpmovsxwd", MS_HALF),
    [0x24] = EXT("vpmovsxwq", MS_QUARTER),
    [0x25] = EXT("vpmovsxdq", MS_HALF),
    [0x28] = VV("vpmuldq"),
    [0x29] = VV("vpcmpeqq"),
    [0x2a] = PP(BAD, OP("vmovntdqa", IC_VEC, OF_NEED_AVX | OF_ALIGN16, FLG_NONE, WR | NOREG | NOVV,
                        SZ_Y, MS_VEC, IM_NONE)),
    [0x2b] = VV("vpackusdw"),
    [0x2c] = MASK("vmaskmovps", WR | VW0),
    [0x2d] = MASK("vmaskmovpd", WR | VW0),
    [0x2e] = MASK("vmaskmovps", WW | VW0),
    [0x2f] = MASK("vmaskmovpd", WW | VW0),
    [0x30] = EXT("vpmovzxbw", MS_HALF),
    [0x31] = EXT("vpmovzxbd", MS_QUARTER),
    [0x32] = EXT("vpmovzxbq", MS_EIGHTH),
    [0x33] = EXT("vpmovzxwd", MS_HALF),
    [0x34] = EXT("vpmovzxwq", MS_QUARTER),
    [0x35] = EXT("vpmovzxdq", MS_HALF),
    [0x36] = V("vpermd", WR | VL1 | VW0, 32),
    [0x37] = VV("vpcmpgtq"),
    [0x38] = VV("vpminsb"),
    [0x39] = VV("vpminsd"),
    [0x3a] = VV("vpminuw"),
    [0x3b] = VV("vpminud"),
    [0x3c] = VV("vpmaxsb"),
    [0x3d] = VV("vpmaxsd"),
    [0x3e] = VV("vpmaxuw"),
    [0x3f] = VV("vpmaxud"),
    [0x40] = VV("vpmulld"),
    [0x41] = V("vphminposuw", WR | NOVV | VL0, 16),
    [0x45] = VW("vpsrlvd", "vpsrlvq", WR, MS_VEC),
    [0x46] = V("vpsravd", WR | VW0, MS_VEC),
    [0x47] = VW("vpsllvd", "vpsllvq", WR, MS_VEC),
    [0x58] = V("vpbroadcastd", WR | NOVV | VW0, 4),
    [0x59] = V("vpbroadcastq", WR | NOVV | VW0, 8),
    [0x5a] = V("vbroadcasti128", WR | NOVV | VW0 | VL1 | NOREG, 16),
    [0x78] = V("vpbroadcastb", WR | NOVV | VW0, 1),
    [0x79] = V("vpbroadcastw", WR | NOVV | VW0, 2),
    [0x8c] = MASK("vpmaskmov", WR),
    [0x8e] = MASK("vpmaskmov", WW),
    [0x90] = GATHER("vpgatherdd", "vpgatherdq"),
    [0x91] = GATHER("vpgatherqd", "vpgatherqq"),
    [0x92] = GATHER("vgatherdps", "vgatherdpd"),
    [0x93] = GATHER("vgatherqps", "vgatherqpd"),
    [0x96] = FMA("132"),
    [0xa6] = FMA("213"),
    [0xb6] = FMA("231"),
    [0xcf] = V("vgf2p8mulb", WR | VW0, MS_VEC),
    [0xdb] = V("vaesimc", WR | NOVV | VL0, 16),
    [0xdc] = VV("vaesenc"),
    [0xdd] = VV("vaesenclast"),
    [0xde] = VV("vaesdec"),
    [0xdf] = VV("vaesdeclast"),
    [0xf2] = PP(BMI("andn", FLG_ANDN, ER | VV_R | GW)),
    [0xf3] = PICK(ROW_REG, grp17),
    [0xf5] = PP(BMI("bzhi", FLG_ANDN, ER | VV_R | GW), BAD, BMI("pext", FLG_NONE, ER | VV_R | GW),
                BMI("pdep", FLG_NONE, ER | VV_R | GW)),
    [0xf6] =
        PP(BAD, BAD, BAD,
           OPI("mulx", IC_ALU, 0, FLG_NONE, ER | VV_W | GW | VL0, SZ_Y, MS_OP, IM_NONE, R_D, 0)),
    [0xf7] = PP(BMI("bextr", FLG_BEXTR, ER | VV_R | GW), BMI("shlx", FLG_NONE, ER | VV_R | GW),
                BMI("sarx", FLG_NONE, ER | VV_R | GW), BMI("shrx", FLG_NONE, ER | VV_R | GW)),
};

#define PCMPSTR(name, rd, wr)                                                                \
    PP(BAD, {{name, IC_VEC, OF_NEED_AVX | ((rd) || (wr) ? OF_IMPL_GPR : 0), 0, FL_ARITH, 0}, \
             WR | VL0 | NOVV,                                                                \
             ROW_LEAF,                                                                       \
             SZ_Y,                                                                           \
             16,                                                                             \
             IM_UB,                                                                          \
             rd,                                                                             \
             wr,                                                                             \
             NULL})

const struct oprow op_vex0f3a[256] = {
    [0x00] = VI("vpermq", WR | NOVV | VL1 | VW1, 32),
    [0x01] = VI("vpermpd", WR | NOVV | VL1 | VW1, 32),
    [0x02] = VI("vpblendd", WR | VW0, MS_VEC),
    [0x04] = VI("vpermilps", WR | NOVV | VW0, MS_VEC),
    [0x05] = VI("vpermilpd", WR | NOVV | VW0, MS_VEC),
    [0x06] = VI("vperm2f128", WR | VL1 | VW0, 32),
    [0x08] = VI("vroundps", WR | NOVV, MS_VEC),
    [0x09] = VI("vroundpd", WR | NOVV, MS_VEC),
    [0x0a] = VI("vroundss", WR, 4),
    [0x0b] = VI("vroundsd", WR, 8),
    [0x0c] = VI("vblendps", WR, MS_VEC),
    [0x0d] = VI("vblendpd", WR, MS_VEC),
    [0x0e] = VI("vpblendw", WR, MS_VEC),
    [0x0f] = VI("vpalignr", WR, MS_VEC),
    [0x14] = VI("vpextrb", EW | VL0 | NOVV, 1),
    [0x15] = VI("vpextrw", EW | VL0 | NOVV, 2),
    [0x16] = VI("vpextrd", EW | VL0 | NOVV, MS_OP),
    [0x17] = VI("vextractps", EW | VL0 | NOVV, 4),
    [0x18] = VI("vinsertf128", WR | VL1 | VW0, 16),
    [0x19] = VI("vextractf128", WW | NOVV | VL1 | VW0, 16),
    [0x1d] = VI("vcvtps2ph", WW | NOVV | VW0, MS_HALF),
    [0x20] = VI("vpinsrb", ER | VL0, 1),
    [0x21] = VI("vinsertps", WR | VL0, 4),
    [0x22] = VI("vpinsrd", ER | VL0, MS_OP),
    [0x38] = VI("vinserti128", WR | VL1 | VW0, 16),
    [0x39] = VI("vextracti128", WW | NOVV | VL1 | VW0, 16),
    [0x40] = VI("vdpps", WR, MS_VEC),
    [0x41] = VI("vdppd", WR | VL0, 16),
    [0x42] = VI("vmpsadbw", WR, MS_VEC),
    [0x44] = VI("vpclmulqdq", WR, MS_VEC),
    [0x46] = VI("vperm2i128", WR | VL1 | VW0, 32),
    [0x4a] = VI("vblendvps", WR | VW0, MS_VEC),
    [0x4b] = VI("vblendvpd", WR | VW0, MS_VEC),
    [0x4c] = VI("vpblendvb", WR | VW0, MS_VEC),
    [0x60] = PCMPSTR("vpcmpestrm", R_A | R_D, 0),
    [0x61] = PCMPSTR("vpcmpestri", R_A | R_D, R_C),
    [0x62] = PCMPSTR("vpcmpistrm", 0, 0),
    [0x63] = PCMPSTR("vpcmpistri", 0, R_C),
    [0xce] = VI("vgf2p8affineqb", WR | VW1, MS_VEC),
    [0xcf] = VI("vgf2p8affineinvqb", WR | VW1, MS_VEC),
    [0xdf] = VI("vaeskeygenassist", WR | NOVV | VL0, 16),
    [0xf0] = PP(BAD, BAD, BAD,
                OP("rorx", IC_ALU, 0, FLG_NONE, ER | GW | VL0 | NOVV, SZ_Y, MS_OP, IM_UB)),
};
