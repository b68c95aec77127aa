/*
 * The 0F 38 and 0F 3A maps without VEX (SDM 2D tables ): SSSE3, SSE4, AES, PCLMULQDQ, SHA,
 * GFNI, MOVBE, CRC32, ADX, INVPCID.
 */
#include "vcpu/decode_table.h"

#define VX(name, fl, f, ms, im) \
    OP(name, IC_VEC, (ms) == 16 ? OF_ALIGN16 : 0, fl, MRM | (f), SZ_Y, ms, im)
#define V(name, ms)       VX(name, FLG_NONE, WR, ms, IM_NONE)
#define VI(name, f, ms)   VX(name, FLG_NONE, f, ms, IM_UB)
#define MX(name)          PP(V(name, 8), V(name, 16))
#define X66(name, ms)     PP(BAD, V(name, ms))
#define X66I(name, f, ms) PP(BAD, VI(name, f, ms))
#define NP(name)          PP(V(name, 16))

/* The string compares take unaligned operands. */
#define PCMPSTR(name, rd, wr)                                                \
    PP(BAD, {{name, IC_VEC, (rd) || (wr) ? OF_IMPL_GPR : 0, 0, FL_ARITH, 0}, \
             WR,                                                             \
             ROW_LEAF,                                                       \
             SZ_Y,                                                           \
             16,                                                             \
             IM_UB,                                                          \
             rd,                                                             \
             wr,                                                             \
             NULL})

#define CRC(f, sz) OP("crc32", IC_ALU, 0, FLG_NONE, ER | GRW | (f), sz, MS_OP, IM_NONE)

const struct oprow op_0f38[256] = {
    [0x00] = MX("pshufb"),
    [0x01] = MX("phaddw"),
    [0x02] = MX("phaddd"),
    [0x03] = MX("phaddsw"),
    [0x04] = MX("pmaddubsw"),
    [0x05] = MX("phsubw"),
    [0x06] = MX("phsubd"),
    [0x07] = MX("phsubsw"),
    [0x08] = MX("psignb"),
    [0x09] = MX("psignw"),
    [0x0a] = MX("psignd"),
    [0x0b] = MX("pmulhrsw"),
    [0x10] = X66("pblendvb", 16),
    [0x14] = X66("blendvps", 16),
    [0x15] = X66("blendvpd", 16),
    [0x17] = PP(BAD, VX("ptest", (0, FL_ARITH, 0), WR, 16, IM_NONE)),
    [0x1c] = MX("pabsb"),
    [0x1d] = MX("pabsw"),
    [0x1e] = MX("pabsd"),
    [0x20] = X66("pmovsxbw", 8),
    [0x21] = X66("pmovsxbd", 4),
    [0x22] = X66("pmovsxbq", 2),
    [0x23] = X66("pmovsxwd", 8),
    [0x24] = X66("pmovsxwq", 4),
    [0x25] = X66("pmovsxdq", 8),
    [0x28] = X66("pmuldq", 16),
    [0x29] = X66("pcmpeqq", 16),
    [0x2a] = PP(BAD, VX("movntdqa", FLG_NONE, WR | NOREG, 16, IM_NONE)),
    [0x2b] = X66("packusdw", 16),
    [0x30] = X66("pmovzxbw", 8),
    [0x31] = X66("pmovzxbd", 4),
    [0x32] = X66("pmovzxbq", 2),
    [0x33] = X66("pmovzxwd", 8),
    [0x34] = X66("pmovzxwq", 4),
    [0x35] = X66("pmovzxdq", 8),
    [0x37] = X66("pcmpgtq", 16),
    [0x38] = X66("pminsb", 16),
    [0x39] = X66("pminsd", 16),
    [0x3a] = X66("pminuw", 16),
    [0x3b] = X66("pminud", 16),
    [0x3c] = X66("pmaxsb", 16),
    [0x3d] = X66("pmaxsd", 16),
    [0x3e] = X66("pmaxuw", 16),
    [0x3f] = X66("pmaxud", 16),
    [0x40] = X66("pmulld", 16),
    [0x41] = X66("phminposuw", 16),
    [0x82] = PP(BAD, OP("invpcid", IC_SYS, OF_CPL0, FLG_NONE, WR | GR | NOREG, SZ_N, 16, IM_NONE)),
    [0xc8] = NP("sha1nexte"),
    [0xc9] = NP("sha1msg1"),
    [0xca] = NP("sha1msg2"),
    [0xcb] = NP("sha256rnds2"),
    [0xcc] = NP("sha256msg1"),
    [0xcd] = NP("sha256msg2"),
    [0xcf] = X66("gf2p8mulb", 16),
    [0xdb] = X66("aesimc", 16),
    [0xdc] = X66("aesenc", 16),
    [0xdd] = X66("aesenclast", 16),
    [0xde] = X66("aesdec", 16),
    [0xdf] = X66("aesdeclast", 16),
    [0xf0] = PP(OP("movbe", IC_ALU, 0, FLG_NONE, WR | GW | NOREG, SZ_V, MS_OP, IM_NONE),
                OP("movbe", IC_ALU, 0, FLG_NONE, WR | GW | NOREG, SZ_V, MS_OP, IM_NONE), BAD,
                OP("crc32", IC_ALU, 0, FLG_NONE, ER | RM8 | GRW, SZ_Y, 1, IM_NONE)),
    [0xf1] = PP(OP("movbe", IC_ALU, 0, FLG_NONE, WW | GR | NOREG, SZ_V, MS_OP, IM_NONE),
                OP("movbe", IC_ALU, 0, FLG_NONE, WW | GR | NOREG, SZ_V, MS_OP, IM_NONE), BAD,
                OP("crc32", IC_ALU, 0, FLG_NONE, ER | GRW, SZ_V, MS_OP, IM_NONE)),
    [0xf6] = PP(BAD, OP("adcx", IC_ALU, 0, FLG(FL_CF, FL_CF, 0), ER | GRW, SZ_Y, MS_OP, IM_NONE),
                OP("adox", IC_ALU, 0, FLG(FL_OF, FL_OF, 0), ER | GRW, SZ_Y, MS_OP, IM_NONE)),
};

const struct oprow op_0f3a[256] = {
    [0x08] = X66I("roundps", WR, 16),
    [0x09] = X66I("roundpd", WR, 16),
    [0x0a] = X66I("roundss", WR, 4),
    [0x0b] = X66I("roundsd", WR, 8),
    [0x0c] = X66I("blendps", WR, 16),
    [0x0d] = X66I("blendpd", WR, 16),
    [0x0e] = X66I("pblendw", WR, 16),
    [0x0f] = PP(VI("palignr", WR, 8), VI("palignr", WR, 16)),
    [0x14] = X66I("pextrb", EW, 1),
    [0x15] = X66I("pextrw", EW, 2),
    [0x16] = X66I("pextrd", EW, MS_OP),
    [0x17] = X66I("extractps", EW, 4),
    [0x20] = X66I("pinsrb", ER, 1),
    [0x21] = X66I("insertps", WR, 4),
    [0x22] = X66I("pinsrd", ER, MS_OP),
    [0x40] = X66I("dpps", WR, 16),
    [0x41] = X66I("dppd", WR, 16),
    [0x42] = X66I("mpsadbw", WR, 16),
    [0x44] = X66I("pclmulqdq", WR, 16),
    [0x60] = PCMPSTR("pcmpestrm", R_A | R_D, 0),
    [0x61] = PCMPSTR("pcmpestri", R_A | R_D, R_C),
    [0x62] = PCMPSTR("pcmpistrm", 0, 0),
    [0x63] = PCMPSTR("pcmpistri", 0, R_C),
    [0xcc] = PP(VI("sha1rnds4", WR, 16)),
    [0xce] = X66I("gf2p8affineqb", WR, 16),
    [0xcf] = X66I("gf2p8affineinvqb", WR, 16),
    [0xdf] = X66I("aeskeygenassist", WR, 16),
};
