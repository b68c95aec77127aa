/*
 * The 0F map's MMX and SSE to SSE3 rows (SDM 2D table A-3): each has a row per mandatory prefix
 * (none, 66, F3, F2), and what has none is undefined.
 */
#include "vcpu/decode_table.h"

/* Legacy SSE wants its 16-byte operands aligned, but for those marked U. */
#define VX(name, f, ms, im) \
    OP(name, IC_VEC, (ms) == 16 ? OF_ALIGN16 : 0, FLG_NONE, MRM | (f), SZ_Y, ms, im)
#define V(name, f, ms)  VX(name, f, ms, IM_NONE)
#define VI(name, f, ms) VX(name, f, ms, IM_UB)
#define U(name, f)      OP(name, IC_VEC, 0, FLG_NONE, MRM | (f), SZ_Y, 16, IM_NONE)
#define VFL(name, ms)   OP(name, IC_VEC, 0, (0, FL_ARITH, 0), WR, SZ_Y, ms, IM_NONE)

/* MMX and its SSE2 form. */
#define MX(name)    PP(V(name, WR, 8), V(name, WR, 16))
#define MXLOW(name) PP(V(name, WR, 4), V(name, WR, 16))
#define X66(name)   PP(BAD, V(name, WR, 16))
#define PSPD(name)  PP(V(name "ps", WR, 16), V(name "pd", WR, 16))
#define PSPDSS(name) \
    PP(V(name "ps", WR, 16), V(name "pd", WR, 16), V(name "ss", WR, 4), V(name "sd", WR, 8))

/* Shifts by an immediate: register forms only. */
#define SHI(name)   PP(VI(name, NOMEM, 0), VI(name, NOMEM, 0))
#define SHI66(name) PP(BAD, VI(name, NOMEM, 0))
static const struct oprow grp12[8] = {BAD, BAD, SHI("psrlw"), BAD, SHI("psraw"), BAD, SHI("psllw")};
static const struct oprow grp13[8] = {BAD, BAD, SHI("psrld"), BAD, SHI("psrad"), BAD, SHI("pslld")};
static const struct oprow grp14[8] = {BAD, BAD, SHI("psrlq"), SHI66("psrldq"),
                                      BAD, BAD, SHI("psllq"), SHI66("pslldq")};

#define MASKMOV(name) OPI(name, IC_VECSYS, 0, FLG_NONE, MRM | NOMEM, SZ_Y, 0, IM_NONE, R_DI, 0)

const struct oprow op_sse[256] = {
    [0x10] = PP(U("movups", WR), U("movupd", WR), V("movss", WR, 4), V("movsd", WR, 8)),
    [0x11] = PP(U("movups", WW), U("movupd", WW), V("movss", WW, 4), V("movsd", WW, 8)),
    [0x12] = PP(MEM_OR_REG(V("movlps", WR, 8), V("movhlps", 0, 0)), V("movlpd", WR | NOREG, 8),
                V("movsldup", WR, 16), V("movddup", WR, 8)),
    [0x13] = PP(V("movlps", WW | NOREG, 8), V("movlpd", WW | NOREG, 8)),
    [0x14] = PSPD("unpckl"),
    [0x15] = PSPD("unpckh"),
    [0x16] = PP(MEM_OR_REG(V("movhps", WR, 8), V("movlhps", 0, 0)), V("movhpd", WR | NOREG, 8),
                V("movshdup", WR, 16)),
    [0x17] = PP(V("movhps", WW | NOREG, 8), V("movhpd", WW | NOREG, 8)),
    [0x28] = PP(V("movaps", WR, 16), V("movapd", WR, 16)),
    [0x29] = PP(V("movaps", WW, 16), V("movapd", WW, 16)),
    [0x2a] = PP(V("cvtpi2ps", WR, 8), V("cvtpi2pd", WR, 8), V("cvtsi2ss", ER, MS_OP),
                V("cvtsi2sd", ER, MS_OP)),
    [0x2b] = PP(V("movntps", WW | NOREG, 16), V("movntpd", WW | NOREG, 16)),
    [0x2c] = PP(V("cvttps2pi", WR, 8), V("cvttpd2pi", WR, 16), V("cvttss2si", WR | GW, 4),
                V("cvttsd2si", WR | GW, 8)),
    [0x2d] = PP(V("cvtps2pi", WR, 8), V("cvtpd2pi", WR, 16), V("cvtss2si", WR | GW, 4),
                V("cvtsd2si", WR | GW, 8)),
    [0x2e] = PP(VFL("ucomiss", 4), VFL("ucomisd", 8)),
    [0x2f] = PP(VFL("comiss", 4), VFL("comisd", 8)),

    [0x50] = PP(V("movmskps", GW | NOMEM, 0), V("movmskpd", GW | NOMEM, 0)),
    [0x51] = PSPDSS("sqrt"),
    [0x52] = PP(V("rsqrtps", WR, 16), BAD, V("rsqrtss", WR, 4)),
    [0x53] = PP(V("rcpps", WR, 16), BAD, V("rcpss", WR, 4)),
    [0x54] = PSPD("and"),
    [0x55] = PSPD("andn"),
    [0x56] = PSPD("or"),
    [0x57] = PSPD("xor"),
    [0x58] = PSPDSS("add"),
    [0x59] = PSPDSS("mul"),
    [0x5a] =
        PP(V("cvtps2pd", WR, 8), V("cvtpd2ps", WR, 16), V("cvtss2sd", WR, 4), V("cvtsd2ss", WR, 8)),
    [0x5b] = PP(V("cvtdq2ps", WR, 16), V("cvtps2dq", WR, 16), V("cvttps2dq", WR, 16)),
    [0x5c] = PSPDSS("sub"),
    [0x5d] = PSPDSS("min"),
    [0x5e] = PSPDSS("div"),
    [0x5f] = PSPDSS("max"),

    [0x60] = MXLOW("punpcklbw"),
    [0x61] = MXLOW("punpcklwd"),
    [0x62] = MXLOW("punpckldq"),
    [0x63] = MX("packsswb"),
    [0x64] = MX("pcmpgtb"),
    [0x65] = MX("pcmpgtw"),
    [0x66] = MX("pcmpgtd"),
    [0x67] = MX("packuswb"),
    [0x68] = MX("punpckhbw"),
    [0x69] = MX("punpckhwd"),
    [0x6a] = MX("punpckhdq"),
    [0x6b] = MX("packssdw"),
    [0x6c] = X66("punpcklqdq"),
    [0x6d] = X66("punpckhqdq"),
    [0x6e] = PP(V("movd", ER, MS_OP), V("movd", ER, MS_OP)),
    [0x6f] = PP(V("movq", WR, 8), V("movdqa", WR, 16), U("movdqu", WR)),

    [0x70] =
        PP(VI("pshufw", WR, 8), VI("pshufd", WR, 16), VI("pshufhw", WR, 16), VI("pshuflw", WR, 16)),
    [0x71] = PICK(ROW_REG, grp12),
    [0x72] = PICK(ROW_REG, grp13),
    [0x73] = PICK(ROW_REG, grp14),
    [0x74] = MX("pcmpeqb"),
    [0x75] = MX("pcmpeqw"),
    [0x76] = MX("pcmpeqd"),
    [0x77] = PP(OP("emms", IC_VEC, 0, FLG_NONE, 0, SZ_Y, 0, IM_NONE)),
    [0x7c] = PP(BAD, V("haddpd", WR, 16), BAD, V("haddps", WR, 16)),
    [0x7d] = PP(BAD, V("hsubpd", WR, 16), BAD, V("hsubps", WR, 16)),
    [0x7e] = PP(V("movd", EW, MS_OP), V("movd", EW, MS_OP), V("movq", WR, 8)),
    [0x7f] = PP(V("movq", WW, 8), V("movdqa", WW, 16), U("movdqu", WW)),

    [0xc2] = PP(VI("cmpps", WR, 16), VI("cmppd", WR, 16), VI("cmpss", WR, 4), VI("cmpsd", WR, 8)),
    [0xc4] = PP(VI("pinsrw", ER, 2), VI("pinsrw", ER, 2)),
    [0xc5] = PP(VI("pextrw", GW | NOMEM, 0), VI("pextrw", GW | NOMEM, 0)),
    [0xc6] = PP(VI("shufps", WR, 16), VI("shufpd", WR, 16)),

    [0xd0] = PP(BAD, V("addsubpd", WR, 16), BAD, V("addsubps", WR, 16)),
    [0xd1] = MX("psrlw"),
    [0xd2] = MX("psrld"),
    [0xd3] = MX("psrlq"),
    [0xd4] = MX("paddq"),
    [0xd5] = MX("pmullw"),
    [0xd6] = PP(BAD, V("movq", WW, 8), V("movq2dq", NOMEM, 0), V("movdq2q", NOMEM, 0)),
    [0xd7] = PP(V("pmovmskb", GW | NOMEM, 0), V("pmovmskb", GW | NOMEM, 0)),
    [0xd8] = MX("psubusb"),
    [0xd9] = MX("psubusw"),
    [0xda] = MX("pminub"),
    [0xdb] = MX("pand"),
    [0xdc] = MX("paddusb"),
    [0xdd] = MX("paddusw"),
    [0xde] = MX("pmaxub"),
    [0xdf] = MX("pandn"),
    [0xe0] = MX("pavgb"),
    [0xe1] = MX("psraw"),
    [0xe2] = MX("psrad"),
    [0xe3] = MX("pavgw"),
    [0xe4] = MX("pmulhuw"),
    [0xe5] = MX("pmulhw"),
    [0xe6] = PP(BAD, V("cvttpd2dq", WR, 16), V("cvtdq2pd", WR, 8), V("cvtpd2dq", WR, 16)),
    [0xe7] = PP(V("movntq", WW | NOREG, 8), V("movntdq", WW | NOREG, 16)),
    [0xe8] = MX("psubsb"),
    [0xe9] = MX("psubsw"),
    [0xea] = MX("pminsw"),
    [0xeb] = MX("por"),
    [0xec] = MX("paddsb"),
    [0xed] = MX("paddsw"),
    [0xee] = MX("pmaxsw"),
    [0xef] = MX("pxor"),
    [0xf0] = PP(BAD, BAD, BAD, U("lddqu", WR | NOREG)),
    [0xf1] = MX("psllw"),
    [0xf2] = MX("pslld"),
    [0xf3] = MX("psllq"),
    [0xf4] = MX("pmuludq"),
    [0xf5] = MX("pmaddwd"),
    [0xf6] = MX("psadbw"),
    [0xf7] = PP(MASKMOV("maskmovq"), MASKMOV("maskmovdqu")),
    [0xf8] = MX("psubb"),
    [0xf9] = MX("psubw"),
    [0xfa] = MX("psubd"),
    [0xfb] = MX("psubq"),
    [0xfc] = MX("paddb"),
    [0xfd] = MX("paddw"),
    [0xfe] = MX("paddd"),
};
