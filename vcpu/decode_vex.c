/*
 * VEX map 1 (0F): AVX's forms of SSE and SSE2 (SDM 2B-2D, by instruction). vvvv names the first
 * source unless NOVV. Memory operands need no alignment but for the MOVAPS family and the
 * non-temporal ones.
 */
#include "vcpu/decode_table.h"

#define VX(name, of, fl, f, ms, im) \
    OP(name, IC_VEC, OF_NEED_AVX | (of), fl, MRM | (f), SZ_Y, ms, im)
#define V(name, f, ms)  VX(name, 0, FLG_NONE, f, ms, IM_NONE)
#define VI(name, f, ms) VX(name, 0, FLG_NONE, f, ms, IM_UB)

#define VA(name, f) VX(name, OF_ALIGN16, FLG_NONE, (f) | NOVV, MS_VEC, IM_NONE)

#define PSPD(name) PP(V(name "ps", WR, MS_VEC), V(name "pd", WR, MS_VEC))
#define PSPDSS(name) \
    PP(V(name "ps", WR, MS_VEC), V(name "pd", WR, MS_VEC), V(name "ss", WR, 4), V(name "sd", WR, 8))
#define X66(name)      PP(BAD, V(name, WR, MS_VEC))
#define SHIFT(name)    PP(BAD, V(name, WR, 16)) /* the count is 128 bits also with VEX.L */
#define SHI(name)      PP(BAD, VI(name, NOMEM, 0))
#define COMI(name, ms) VX(name, 0, (0, FL_ARITH, 0), WR | NOVV, ms, IM_NONE)

static const struct oprow grp12[8] = {BAD,           BAD, SHI("vpsrlw"), BAD,
                                      SHI("vpsraw"), BAD, SHI("vpsllw")};
static const struct oprow grp13[8] = {BAD,           BAD, SHI("vpsrld"), BAD,
                                      SHI("vpsrad"), BAD, SHI("vpslld")};
static const struct oprow grp14[8] = {BAD, BAD, SHI("vpsrlq"), SHI("vpsrldq"),
                                      BAD, BAD, SHI("vpsllq"), SHI("vpslldq")};
static const struct oprow grp15[8] = {
    BAD,
    BAD,
    PP(OP("vldmxcsr", IC_VEC, OF_NEED_AVX, FLG_NONE, WR | NOREG | VL0 | NOVV, SZ_D, 4, IM_NONE)),
    PP(OP("vstmxcsr", IC_VEC, OF_NEED_AVX, FLG_NONE, WW | NOREG | VL0 | NOVV, SZ_D, 4, IM_NONE)),
};
static const struct oprow zero[2] = {
    OP("vzeroupper", IC_VEC, OF_NEED_AVX, FLG_NONE, NOVV, SZ_Y, 0, IM_NONE),
    OP("vzeroall", IC_VEC, OF_NEED_AVX, FLG_NONE, NOVV, SZ_Y, 0, IM_NONE),
};

const struct oprow op_vex0f[256] = {
    [0x10] = PP(V("vmovups", WR | NOVV, MS_VEC), V("vmovupd", WR | NOVV, MS_VEC),
                MEM_OR_REG(V("vmovss", WR | NOVV, 4), V("vmovss", 0, 0)),
                MEM_OR_REG(V("vmovsd", WR | NOVV, 8), V("vmovsd", 0, 0))),
    [0x11] = PP(V("vmovups", WW | NOVV, MS_VEC), V("vmovupd", WW | NOVV, MS_VEC),
                MEM_OR_REG(V("vmovss", WW | NOVV, 4), V("vmovss", 0, 0)),
                MEM_OR_REG(V("vmovsd", WW | NOVV, 8), V("vmovsd", 0, 0))),
    [0x12] = PP(MEM_OR_REG(V("vmovlps", WR | VL0, 8), V("vmovhlps", VL0, 0)),
                V("vmovlpd", WR | VL0 | NOREG, 8), V("vmovsldup", WR | NOVV, MS_VEC),
                V("vmovddup", WR | NOVV, MS_DUP)),
    [0x13] = PP(V("vmovlps", WW | NOREG | VL0 | NOVV, 8), V("vmovlpd", WW | NOREG | VL0 | NOVV, 8)),
    [0x14] = PSPD("vunpckl"),
    [0x15] = PSPD("vunpckh"),
    [0x16] = PP(MEM_OR_REG(V("vmovhps", WR | VL0, 8), V("vmovlhps", VL0, 0)),
                V("vmovhpd", WR | VL0 | NOREG, 8), V("vmovshdup", WR | NOVV, MS_VEC)),
    [0x17] = PP(V("vmovhps", WW | NOREG | VL0 | NOVV, 8), V("vmovhpd", WW | NOREG | VL0 | NOVV, 8)),
    [0x28] = PP(VA("vmovaps", WR), VA("vmovapd", WR)),
    [0x29] = PP(VA("vmovaps", WW), VA("vmovapd", WW)),
    [0x2a] = PP(BAD, BAD, V("vcvtsi2ss", ER, MS_OP), V("vcvtsi2sd", ER, MS_OP)),
    [0x2b] = PP(VA("vmovntps", WW | NOREG), VA("vmovntpd", WW | NOREG)),
    [0x2c] = PP(BAD, BAD, V("vcvttss2si", WR | GW | NOVV, 4), V("vcvttsd2si", WR | GW | NOVV, 8)),
    [0x2d] = PP(BAD, BAD, V("vcvtss2si", WR | GW | NOVV, 4), V("vcvtsd2si", WR | GW | NOVV, 8)),
    [0x2e] = PP(COMI("vucomiss", 4), COMI("vucomisd", 8)),
    [0x2f] = PP(COMI("vcomiss", 4), COMI("vcomisd", 8)),

    [0x50] = PP(V("vmovmskps", GW | NOMEM | NOVV, 0), V("vmovmskpd", GW | NOMEM | NOVV, 0)),
    [0x51] = PP(V("vsqrtps", WR | NOVV, MS_VEC), V("vsqrtpd", WR | NOVV, MS_VEC),
                V("vsqrtss", WR, 4), V("vsqrtsd", WR, 8)),
    [0x52] = PP(V("vrsqrtps", WR | NOVV, MS_VEC), BAD, V("vrsqrtss", WR, 4)),
    [0x53] = PP(V("vrcpps", WR | NOVV, MS_VEC), BAD, V("vrcpss", WR, 4)),
    [0x54] = PSPD("vand"),
    [0x55] = PSPD("vandn"),
    [0x56] = PSPD("vor"),
    [0x57] = PSPD("vxor"),
    [0x58] = PSPDSS("vadd"),
    [0x59] = PSPDSS("vmul"),
    [0x5a] = PP(V("vcvtps2pd", WR | NOVV, MS_HALF), V("vcvtpd2ps", WR | NOVV, MS_VEC),
                V("vcvtss2sd", WR, 4), V("vcvtsd2ss", WR, 8)),
    [0x5b] = PP(V("vcvtdq2ps", WR | NOVV, MS_VEC), V("vcvtps2dq", WR | NOVV, MS_VEC),
                V("vcvttps2dq", WR | NOVV, MS_VEC)),
    [0x5c] = PSPDSS("vsub"),
    [0x5d] = PSPDSS("vmin"),
    [0x5e] = PSPDSS("vdiv"),
    [0x5f] = PSPDSS("vmax"),

    [0x60] = X66("vpunpcklbw"),
    [0x61] = X66("vpunpcklwd"),
    [0x62] = X66("vpunpckldq"),
    [0x63] = X66("vpacksswb"),
    [0x64] = X66("vpcmpgtb"),
    [0x65] = X66("vpcmpgtw"),
    [0x66] = X66("vpcmpgtd"),
    [0x67] = X66("vpackuswb"),
    [0x68] = X66("vpunpckhbw"),
    [0x69] = X66("vpunpckhwd"),
    [0x6a] = X66("vpunpckhdq"),
    [0x6b] = X66("vpackssdw"),
    [0x6c] = X66("vpunpcklqdq"),
    [0x6d] = X66("vpunpckhqdq"),
    [0x6e] = PP(BAD, V("vmovd", ER | VL0 | NOVV, MS_OP)),
    [0x6f] = PP(BAD, VA("vmovdqa", WR), V("vmovdqu", WR | NOVV, MS_VEC)),

    [0x70] = PP(BAD, VI("vpshufd", WR | NOVV, MS_VEC), VI("vpshufhw", WR | NOVV, MS_VEC),
                VI("vpshuflw", WR | NOVV, MS_VEC)),
    [0x71] = PICK(ROW_REG, grp12),
    [0x72] = PICK(ROW_REG, grp13),
    [0x73] = PICK(ROW_REG, grp14),
    [0x74] = X66("vpcmpeqb"),
    [0x75] = X66("vpcmpeqw"),
    [0x76] = X66("vpcmpeqd"),
    [0x77] = PP(PICK(ROW_L, zero)),
    [0x7c] = PP(BAD, V("vhaddpd", WR, MS_VEC), BAD, V("vhaddps", WR, MS_VEC)),
    [0x7d] = PP(BAD, V("vhsubpd", WR, MS_VEC), BAD, V("vhsubps", WR, MS_VEC)),
    [0x7e] = PP(BAD, V("vmovd", EW | VL0 | NOVV, MS_OP), V("vmovq", WR | VL0 | NOVV, 8)),
    [0x7f] = PP(BAD, VA("vmovdqa", WW), V("vmovdqu", WW | NOVV, MS_VEC)),
    [0xae] = PICK(ROW_REG, grp15),

    [0xc2] = PP(VI("vcmpps", WR, MS_VEC), VI("vcmppd", WR, MS_VEC), VI("vcmpss", WR, 4),
                VI("vcmpsd", WR, 8)),
    [0xc4] = PP(BAD, VI("vpinsrw", ER | VL0, 2)),
    [0xc5] = PP(BAD, VI("vpextrw", GW | NOMEM | VL0 | NOVV, 0)),
    [0xc6] = PP(VI("vshufps", WR, MS_VEC), VI("vshufpd", WR, MS_VEC)),

    [0xd0] = PP(BAD, V("vaddsubpd", WR, MS_VEC), BAD, V("vaddsubps", WR, MS_VEC)),
    [0xd1] = SHIFT("vpsrlw"),
    [0xd2] = SHIFT("vpsrld"),
    [0xd3] = SHIFT("vpsrlq"),
    [0xd4] = X66("vpaddq"),
    [0xd5] = X66("vpmullw"),
    [0xd6] = PP(BAD, V("vmovq", WW | VL0 | NOVV, 8)),
    [0xd7] = PP(BAD, V("vpmovmskb", GW | NOMEM | NOVV, 0)),
    [0xd8] = X66("vpsubusb"),
    [0xd9] = X66("vpsubusw"),
    [0xda] = X66("vpminub"),
    [0xdb] = X66("vpand"),
    [0xdc] = X66("vpaddusb"),
    [0xdd] = X66("vpaddusw"),
    [0xde] = X66("vpmaxub"),
    [0xdf] = X66("vpandn"),
    [0xe0] = X66("vpavgb"),
    [0xe1] = SHIFT("vpsraw"),
    [0xe2] = SHIFT("vpsrad"),
    [0xe3] = X66("vpavgw"),
    [0xe4] = X66("vpmulhuw"),
    [0xe5] = X66("vpmulhw"),
    [0xe6] = PP(BAD, V("vcvttpd2dq", WR | NOVV, MS_VEC), V("vcvtdq2pd", WR | NOVV, MS_HALF),
                V("vcvtpd2dq", WR | NOVV, MS_VEC)),
    [0xe7] = PP(BAD, VA("vmovntdq", WW | NOREG)),
    [0xe8] = X66("vpsubsb"),
    [0xe9] = X66("vpsubsw"),
    [0xea] = X66("vpminsw"),
    [0xeb] = X66("vpor"),
    [0xec] = X66("vpaddsb"),
    [0xed] = X66("vpaddsw"),
    [0xee] = X66("vpmaxsw"),
    [0xef] = X66("vpxor"),
    [0xf0] = PP(BAD, BAD, BAD, V("vlddqu", WR | NOREG | NOVV, MS_VEC)),
    [0xf1] = SHIFT("vpsllw"),
    [0xf2] = SHIFT("vpslld"),
    [0xf3] = SHIFT("vpsllq"),
    [0xf4] = X66("vpmuludq"),
    [0xf5] = X66("vpmaddwd"),
    [0xf6] = X66("vpsadbw"),
    [0xf7] = PP(BAD, OPI("vmaskmovdqu", IC_VECSYS, OF_NEED_AVX, FLG_NONE, MRM | NOMEM | VL0 | NOVV,
                         SZ_Y, 0, IM_NONE, R_DI, 0)),
    [0xf8] = X66("vpsubb"),
    [0xf9] = X66("vpsubw"),
    [0xfa] = X66("vpsubd"),
    [0xfb] = X66("vpsubq"),
    [0xfc] = X66("vpaddb"),
    [0xfd] = X66("vpaddw"),
    [0xfe] = X66("vpaddd"),
};
