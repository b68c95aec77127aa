/*
 * Zydis as the decoder's oracle: decode the same bytes with both and compare every field that has a
 * counterpart. Differences are tallied by mnemonic and field; those that are meant are in tables
 * here, with the reason.
 */
#ifndef TESTS_DECODE_ORACLE_H
#define TESTS_DECODE_ORACLE_H

#include <Zydis/Zydis.h>
#include <stdio.h>
#include <string.h>
#include "vcpu/decode.h"

/* The fields compared. */
enum {
    F_ACCEPT = 1,
    F_LEN = 2,
    F_MEM = 4, /* has_mem, base, index, scale, disp, seg */
    F_MEMSIZE = 8,
    F_MEMRW = 16,
    F_IMM = 32,
    F_OPSIZE = 64,
    F_GPR_READ = 128,
    F_GPR_WRITE = 256,
    F_FL_READ = 512,
    F_FL_WRITE = 1024,
    F_FL_UNDEF = 2048,
    F_LAYOUT = 4096,
    F_HIGH8 = 8192,
    F_REGS = 16384, /* reg, rm, vex_vvvv, pp, map */
    F_CLASS = 32768,
    F_GPR = F_GPR_READ | F_GPR_WRITE,
};

static const char *const field_names[] = {
    "accept",    "len",     "mem",      "mem_size", "mem_rw", "imm",   "opsize", "gpr_read",
    "gpr_write", "fl_read", "fl_write", "fl_undef", "layout", "high8", "regs",   "class",
};

/* Extensions that are not offered: undefined opcodes to us. */
static bool not_offered(const ZydisDecodedInstruction *z, const struct insn *in)
{
    switch (z->meta.isa_ext) {
    case ZYDIS_ISA_EXT_AMD3DNOW:
    case ZYDIS_ISA_EXT_AMD_INVLPGB:
    case ZYDIS_ISA_EXT_AMX_BF16:
    case ZYDIS_ISA_EXT_AMX_INT8:
    case ZYDIS_ISA_EXT_AMX_TILE:
    case ZYDIS_ISA_EXT_AVX512EVEX:
    case ZYDIS_ISA_EXT_AVX512VEX:
    case ZYDIS_ISA_EXT_AVX_VNNI:
    case ZYDIS_ISA_EXT_CET:
    case ZYDIS_ISA_EXT_CLZERO:
    case ZYDIS_ISA_EXT_ENQCMD:
    case ZYDIS_ISA_EXT_FMA4:
    case ZYDIS_ISA_EXT_HRESET:
    case ZYDIS_ISA_EXT_KEYLOCKER:
    case ZYDIS_ISA_EXT_KEYLOCKER_WIDE:
    case ZYDIS_ISA_EXT_KNC:
    case ZYDIS_ISA_EXT_KNCE:
    case ZYDIS_ISA_EXT_KNCV:
    case ZYDIS_ISA_EXT_MCOMMIT:
    case ZYDIS_ISA_EXT_MONITORX:
    case ZYDIS_ISA_EXT_MOVDIR:
    case ZYDIS_ISA_EXT_PADLOCK:
    case ZYDIS_ISA_EXT_PCONFIG:
    case ZYDIS_ISA_EXT_PKU:
    case ZYDIS_ISA_EXT_PT:
    case ZYDIS_ISA_EXT_RDPRU:
    case ZYDIS_ISA_EXT_RTM:
    case ZYDIS_ISA_EXT_SERIALIZE:
    case ZYDIS_ISA_EXT_SGX:
    case ZYDIS_ISA_EXT_SGX_ENCLV:
    case ZYDIS_ISA_EXT_SMX:
    case ZYDIS_ISA_EXT_SNP:
    case ZYDIS_ISA_EXT_SSE4A:
    case ZYDIS_ISA_EXT_TBM:
    case ZYDIS_ISA_EXT_TDX:
    case ZYDIS_ISA_EXT_TSX_LDTRK:
    case ZYDIS_ISA_EXT_UINTR:
    case ZYDIS_ISA_EXT_VMFUNC:
    case ZYDIS_ISA_EXT_WAITPKG:
    case ZYDIS_ISA_EXT_XOP:
        return true;
    case ZYDIS_ISA_EXT_SVM: /* VMMCALL is decoded: guests probe with it */
        return z->mnemonic != ZYDIS_MNEMONIC_VMMCALL;
    case ZYDIS_ISA_EXT_VTX:
        return z->mnemonic != ZYDIS_MNEMONIC_VMCALL;
    default:
        break;
    }
    /* NFx in the SDM: F2 and F3 are #UD there, and on the CPU. */
    if (z->mnemonic == ZYDIS_MNEMONIC_RDRAND || z->mnemonic == ZYDIS_MNEMONIC_RDSEED)
        return in->rep || in->repne;
    return z->mnemonic == ZYDIS_MNEMONIC_UD0 || z->mnemonic == ZYDIS_MNEMONIC_UD1 ||
           z->mnemonic == ZYDIS_MNEMONIC_UD2 || z->mnemonic == ZYDIS_MNEMONIC_RSM /* no SMM */;
}

/* Fields in which we differ from Zydis on purpose. */
static const struct {
    ZydisMnemonic mnemonic;
    unsigned fields;
    const char *why;
} intended[] = {
    {ZYDIS_MNEMONIC_NOP, F_MEMSIZE | F_MEMRW | F_GPR_READ | F_OPSIZE, "touches nothing"},
    {ZYDIS_MNEMONIC_PREFETCH, F_MEMSIZE | F_MEMRW, "a hint makes no access"},
    {ZYDIS_MNEMONIC_PREFETCHW, F_MEMSIZE | F_MEMRW, "a hint makes no access"},
    {ZYDIS_MNEMONIC_PREFETCHWT1, F_MEMSIZE | F_MEMRW, "a hint makes no access"},
    {ZYDIS_MNEMONIC_PREFETCHNTA, F_MEMSIZE | F_MEMRW, "a hint makes no access"},
    {ZYDIS_MNEMONIC_PREFETCHT0, F_MEMSIZE | F_MEMRW, "a hint makes no access"},
    {ZYDIS_MNEMONIC_PREFETCHT1, F_MEMSIZE | F_MEMRW, "a hint makes no access"},
    {ZYDIS_MNEMONIC_PREFETCHT2, F_MEMSIZE | F_MEMRW, "a hint makes no access"},
    {ZYDIS_MNEMONIC_SHL, F_FL_READ | F_FL_UNDEF, "count 0; OF defined for count 1"},
    {ZYDIS_MNEMONIC_SHR, F_FL_READ | F_FL_UNDEF, "count 0; OF defined for count 1"},
    {ZYDIS_MNEMONIC_SAR, F_FL_READ | F_FL_UNDEF, "count 0; OF defined for count 1"},
    {ZYDIS_MNEMONIC_ROL, F_FL_READ | F_FL_UNDEF, "count 0; OF defined for count 1"},
    {ZYDIS_MNEMONIC_ROR, F_FL_READ | F_FL_UNDEF, "count 0; OF defined for count 1"},
    {ZYDIS_MNEMONIC_RCL, F_FL_READ | F_FL_UNDEF, "count 0; OF defined for count 1"},
    {ZYDIS_MNEMONIC_RCR, F_FL_READ | F_FL_UNDEF, "count 0; OF defined for count 1"},
    {ZYDIS_MNEMONIC_SHLD, F_FL_READ, "count 0 leaves the flags"},
    {ZYDIS_MNEMONIC_SHRD, F_FL_READ, "count 0 leaves the flags"},
    {ZYDIS_MNEMONIC_BSF, F_GPR_READ, "source 0 leaves the destination"},
    {ZYDIS_MNEMONIC_BSR, F_GPR_READ, "source 0 leaves the destination"},
    {ZYDIS_MNEMONIC_SBB, F_FL_UNDEF, "AF is defined (SDM 2B SBB)"},
    {ZYDIS_MNEMONIC_CMPSB, F_GPR_WRITE, "moves rSI and rDI"},
    {ZYDIS_MNEMONIC_CMPSW, F_GPR_WRITE, "moves rSI and rDI"},
    {ZYDIS_MNEMONIC_CMPSD, F_GPR_WRITE, "moves rSI and rDI"},
    {ZYDIS_MNEMONIC_CMPSQ, F_GPR_WRITE, "moves rSI and rDI"},
    {ZYDIS_MNEMONIC_SCASB, F_GPR_WRITE, "moves rDI"},
    {ZYDIS_MNEMONIC_SCASW, F_GPR_WRITE, "moves rDI"},
    {ZYDIS_MNEMONIC_SCASD, F_GPR_WRITE, "moves rDI"},
    {ZYDIS_MNEMONIC_SCASQ, F_GPR_WRITE, "moves rDI"},
    {ZYDIS_MNEMONIC_CLFLUSH, F_MEMSIZE, "checked as the load of a byte"},
    {ZYDIS_MNEMONIC_CLFLUSHOPT, F_MEMSIZE, "checked as the load of a byte"},
    {ZYDIS_MNEMONIC_CLWB, F_MEMSIZE, "checked as the load of a byte"},
    {ZYDIS_MNEMONIC_CRC32, F_OPSIZE, "66 with the byte source: the destination is 4 bytes"},
    {ZYDIS_MNEMONIC_DAA, F_OPSIZE, "works on AL, AH"},
    {ZYDIS_MNEMONIC_DAS, F_OPSIZE, "works on AL, AH"},
    {ZYDIS_MNEMONIC_AAA, F_OPSIZE, "works on AL, AH"},
    {ZYDIS_MNEMONIC_AAS, F_OPSIZE, "works on AL, AH"},
    {ZYDIS_MNEMONIC_AAM, F_OPSIZE, "works on AL, AH"},
    {ZYDIS_MNEMONIC_AAD, F_OPSIZE, "works on AL, AH"},
    {ZYDIS_MNEMONIC_SALC, F_OPSIZE, "works on AL, AH"},
    {ZYDIS_MNEMONIC_VTESTPS, F_FL_WRITE, "clears the other flags (SDM 2C PTEST)"},
    {ZYDIS_MNEMONIC_VTESTPD, F_FL_WRITE, "clears the other flags (SDM 2C PTEST)"},
    {ZYDIS_MNEMONIC_VPTEST, F_FL_WRITE, "clears the other flags (SDM 2C PTEST)"},
    {ZYDIS_MNEMONIC_BEXTR, F_FL_UNDEF, "CF and OF are cleared (SDM 2A BEXTR)"},
    {ZYDIS_MNEMONIC_MOVSXD, F_MEMSIZE, "r16 takes r/m16 (SDM 2B MOVSXD), as the CPU does"},
    {ZYDIS_MNEMONIC_LEAVE, F_GPR_READ, "the old rSP is not looked at"},
};

static unsigned skip_fields(ZydisMnemonic m)
{
    unsigned skip = 0;

    for (size_t i = 0; i < sizeof intended / sizeof *intended; i++)
        if (intended[i].mnemonic == m)
            skip |= intended[i].fields;
    return skip;
}

/* --- tally of differences --- */

struct tally {
    ZydisMnemonic mnemonic;
    unsigned field, mode, n;
    uint64_t count;
    uint8_t bytes[INSN_MAX];
    char detail[96];
};
static struct tally tallies[400];
static unsigned ntallies;
static uint64_t ndiffs, ncompared, naccepted;

static void differ(unsigned field, unsigned mode, ZydisMnemonic m, const uint8_t *b,
                   const char *detail)
{
    struct tally *t;

    ndiffs++;
    for (t = tallies; t < tallies + ntallies; t++)
        if (t->mnemonic == m && t->field == field && t->mode == mode) {
            t->count++;
            return;
        }
    if (ntallies == sizeof tallies / sizeof *tallies)
        return;
    ntallies++;
    *t = (struct tally){m, field, mode, 15, 1, {0}, ""};
    memcpy(t->bytes, b, INSN_MAX);
    snprintf(t->detail, sizeof t->detail, "%s", detail);
}

static void print_tallies(void)
{
    for (struct tally *t = tallies; t < tallies + ntallies; t++) {
        printf("  mode %u %-14s %-10s %8llu", t->mode,
               t->mnemonic ? ZydisMnemonicGetString(t->mnemonic) : "(bad)", field_names[t->field],
               (unsigned long long)t->count);
        for (unsigned i = 0; i < t->n; i++)
            printf(" %02x", t->bytes[i]);
        printf("  %s\n", t->detail);
    }
}

/* --- the oracle --- */

static ZydisDecoder zdec[9]; /* by mode */
static uint8_t reg_gpr[ZYDIS_REGISTER_MAX_VALUE + 1];
static bool reg_high8[ZYDIS_REGISTER_MAX_VALUE + 1];

static void oracle_init(void)
{
    static const ZydisMachineMode modes[9] = {[2] = ZYDIS_MACHINE_MODE_LEGACY_16,
                                              [4] = ZYDIS_MACHINE_MODE_LEGACY_32,
                                              [8] = ZYDIS_MACHINE_MODE_LONG_64};
    static const ZydisStackWidth widths[9] = {
        [2] = ZYDIS_STACK_WIDTH_16, [4] = ZYDIS_STACK_WIDTH_32, [8] = ZYDIS_STACK_WIDTH_64};

    for (unsigned m = 2; m <= 8; m *= 2) {
        ZydisDecoderInit(&zdec[m], modes[m], widths[m]);
        ZydisDecoderEnableMode(&zdec[m], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
        ZydisDecoderEnableMode(&zdec[m], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
        ZydisDecoderEnableMode(&zdec[m], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
        ZydisDecoderEnableMode(&zdec[m], ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
    }
    memset(reg_gpr, REG_NONE, sizeof reg_gpr);
    for (unsigned r = 1; r <= ZYDIS_REGISTER_MAX_VALUE; r++) {
        ZydisRegister big =
            ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, (ZydisRegister)r);

        if (ZydisRegisterGetClass(big) == ZYDIS_REGCLASS_GPR64)
            reg_gpr[r] = (uint8_t)ZydisRegisterGetId(big);
        reg_high8[r] = r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
    }
}

/* What Zydis says, in our terms. */
struct expect {
    bool has_mem, mem_read, mem_write, high8;
    uint8_t base, index, scale, seg;
    int64_t disp;
    unsigned mem_size;
    unsigned gpr_read, gpr_write;
};

static void expect_memory(struct expect *e, const ZydisDecodedOperand *op)
{
    bool agen = op->mem.type == ZYDIS_MEMOP_TYPE_AGEN || op->mem.type == ZYDIS_MEMOP_TYPE_MIB;

    if (op->encoding == ZYDIS_OPERAND_ENCODING_NONE)
        return; /* the stack, strings */
    e->has_mem = true;
    e->base = op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_EIP
                  ? BASE_RIP
                  : reg_gpr[op->mem.base];
    e->index = op->mem.type == ZYDIS_MEMOP_TYPE_VSIB ? (uint8_t)ZydisRegisterGetId(op->mem.index)
                                                     : reg_gpr[op->mem.index];
    e->scale = (uint8_t)(op->mem.scale ? __builtin_ctz(op->mem.scale) : 0);
    e->disp = op->mem.disp.value;
    e->seg = (uint8_t)ZydisRegisterGetId(op->mem.segment);
    e->mem_size = agen ? 0 : op->size / 8;
    e->mem_read = !agen && (op->actions & ZYDIS_OPERAND_ACTION_MASK_READ);
    e->mem_write = !agen && (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
}

static void expect_operands(struct expect *e, const ZydisDecodedInstruction *z,
                            const ZydisDecodedOperand *ops)
{
    *e = (struct expect){.base = REG_NONE, .index = REG_NONE};
    for (unsigned i = 0; i < z->operand_count; i++) {
        const ZydisDecodedOperand *op = &ops[i];

        if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            if (reg_gpr[op->mem.base] != REG_NONE)
                e->gpr_read |= 1u << reg_gpr[op->mem.base];
            if (reg_gpr[op->mem.index] != REG_NONE)
                e->gpr_read |= 1u << reg_gpr[op->mem.index];
            expect_memory(e, op);
        }
        if (op->type != ZYDIS_OPERAND_TYPE_REGISTER || reg_gpr[op->reg.value] == REG_NONE)
            continue;
        unsigned bit = 1u << reg_gpr[op->reg.value];

        if (op->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN)
            e->high8 |= reg_high8[op->reg.value];
        if (op->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
            e->gpr_read |= bit;
        if (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) {
            e->gpr_write |= bit;
            if (op->size < 32 || (op->actions & ZYDIS_OPERAND_ACTION_CONDWRITE))
                e->gpr_read |= bit;
        }
    }
}

static bool is_shift(ZydisMnemonic m)
{
    return m == ZYDIS_MNEMONIC_SHL || m == ZYDIS_MNEMONIC_SHR || m == ZYDIS_MNEMONIC_SAR ||
           m == ZYDIS_MNEMONIC_ROL || m == ZYDIS_MNEMONIC_ROR || m == ZYDIS_MNEMONIC_RCL ||
           m == ZYDIS_MNEMONIC_RCR || m == ZYDIS_MNEMONIC_SHLD || m == ZYDIS_MNEMONIC_SHRD;
}

/* The class that Zydis' category and operands make of it. */
static enum insn_class expect_class(const ZydisDecodedInstruction *z,
                                    const ZydisDecodedOperand *ops)
{
    bool vector = false, far = z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;

    for (unsigned i = 0; i < z->operand_count; i++) {
        if (ops[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
            ops[i].visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN)
            continue;
        switch (ZydisRegisterGetClass(ops[i].reg.value)) {
        case ZYDIS_REGCLASS_SEGMENT:
        case ZYDIS_REGCLASS_CONTROL:
        case ZYDIS_REGCLASS_DEBUG:
            return IC_SYS;
        case ZYDIS_REGCLASS_MMX:
        case ZYDIS_REGCLASS_XMM:
        case ZYDIS_REGCLASS_YMM:
            vector = true;
            break;
        default:
            break;
        }
    }
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
        return IC_VECSYS;
    case ZYDIS_MNEMONIC_XGETBV:
    case ZYDIS_MNEMONIC_XSETBV:
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_INVPCID:
    case ZYDIS_MNEMONIC_MONITOR:
    case ZYDIS_MNEMONIC_MWAIT:
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
        return IC_SYS;
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_LEAVE:
        return IC_STACK;
    case ZYDIS_MNEMONIC_XLAT:
        return IC_MOFFS;
    case ZYDIS_MNEMONIC_EMMS:
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_STMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
    case ZYDIS_MNEMONIC_VSTMXCSR:
    case ZYDIS_MNEMONIC_VZEROALL:
    case ZYDIS_MNEMONIC_VZEROUPPER:
        return IC_VEC;
    default:
        break;
    }
    switch (z->meta.category) {
    case ZYDIS_CATEGORY_X87_ALU:
    case ZYDIS_CATEGORY_FCMOV:
        return IC_X87;
    case ZYDIS_CATEGORY_AVX2GATHER:
    case ZYDIS_CATEGORY_XSAVE:
    case ZYDIS_CATEGORY_XSAVEOPT:
        return IC_VECSYS;
    case ZYDIS_CATEGORY_PUSH:
    case ZYDIS_CATEGORY_POP:
        return IC_STACK;
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_UNCOND_BR:
        return far ? IC_SYS : IC_BRANCH;
    case ZYDIS_CATEGORY_CONVERT: /* CBW and CWD name no operand, CVTSS2SI may name no vector */
        return z->operand_count_visible ? IC_VEC : IC_ALU;
    case ZYDIS_CATEGORY_STRINGOP:
        return IC_STRING;
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_RDPID:
    case ZYDIS_CATEGORY_RDWRFSGS:
    case ZYDIS_CATEGORY_SEGOP:
    case ZYDIS_CATEGORY_SMAP:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_VTX:
        return IC_SYS;
    default:
        break;
    }
    if (ops[0].encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64 ||
        ops[1].encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64)
        return IC_MOFFS;
    return vector ? IC_VEC : IC_ALU;
}

/* The register number that the encoding holds for an operand, from ours. */
static bool same_register(const struct insn *in, const ZydisDecodedOperand *op)
{
    ZydisRegister r = op->reg.value;
    ZydisRegisterClass c = ZydisRegisterGetClass(r);
    unsigned ours, theirs, mask = 15;

    switch (op->encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
        ours = in->reg;
        break;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
    case ZYDIS_OPERAND_ENCODING_OPCODE:
        ours = in->rm;
        break;
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
        ours = in->vex_vvvv;
        break;
    case ZYDIS_OPERAND_ENCODING_IS4:
        ours = in->imm >> 4;
        mask = in->mode == 8 ? 15 : 7;
        break;
    default:
        return true;
    }
    theirs =
        reg_gpr[r] != REG_NONE ? reg_gpr[r] + 4u * reg_high8[r] : (unsigned)ZydisRegisterGetId(r);
    if (c == ZYDIS_REGCLASS_MMX || c == ZYDIS_REGCLASS_X87)
        mask = 7; /* REX is ignored there, and left in by us */
    return (ours & mask) == theirs;
}

#define CHECK(f, cond, fmt, ...)                         \
    do {                                                 \
        if (!(skip & (1u << (f))) && !(cond)) {          \
            snprintf(why, sizeof why, fmt, __VA_ARGS__); \
            differ(f, mode, z.mnemonic, b, why);         \
            return false;                                \
        }                                                \
    } while (0)

/* Both decoders on the 15 bytes at b. False: they differ, and it was tallied. *out is ours. */
static bool agree(const uint8_t *b, unsigned mode, struct insn *out)
{
    ZydisDecodedInstruction z = {0};
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    struct insn *in = out;
    struct expect e;
    char why[96];

    enum decode_status st = decode(in, b, INSN_MAX, mode);
    ZyanStatus zst = ZydisDecoderDecodeFull(&zdec[mode], b, INSN_MAX, &z, ops);
    bool zok = ZYAN_SUCCESS(zst) && !not_offered(&z, in);
    unsigned skip = ZYAN_SUCCESS(zst) ? skip_fields(z.mnemonic) : 0;

    ncompared++;
    CHECK(0, zok == (st == DEC_OK), "ours %d (%s), Zydis %#x", (int)st, in->info->name, zst);
    if (!zok || st != DEC_OK)
        return true;
    naccepted++;
    enum insn_class cls = insn_class(in);
    bool plain = cls != IC_SYS && cls != IC_VECSYS;

    CHECK(15, cls == expect_class(&z, ops), "class %d, Zydis %d", (int)cls,
          (int)expect_class(&z, ops));
    CHECK(1, in->len == z.length, "len %u, Zydis %u", in->len, z.length);
    expect_operands(&e, &z, ops);
    /* Zydis takes a SIB base of r13 with 67 and mod 0 for a register; to the CPU it is disp32. */
    if (in->has_sib && in->addrsize == 4 && mode == 8 && in->base == REG_NONE && e.base == R13) {
        e.base = REG_NONE;
        e.disp = in->disp;
        e.gpr_read = in->gpr_read;
    }
    if (cls == IC_MOFFS && in->addrsize < 8) /* ours is an address, Zydis' a signed number */
        e.disp &= (1LL << 8 * in->addrsize) - 1;
    CHECK(2,
          in->has_mem == e.has_mem && (!e.has_mem || (in->base == e.base && in->index == e.index &&
                                                      in->scale == e.scale && in->disp == e.disp)),
          "mem %d base %u index %u scale %u disp %llx, Zydis %d %u %u %u %llx", in->has_mem,
          in->base, in->index, in->scale, (unsigned long long)in->disp, e.has_mem, e.base, e.index,
          e.scale, (unsigned long long)e.disp);
    CHECK(2, !e.has_mem || !e.mem_size || in->seg == e.seg, "seg %u, Zydis %u", in->seg, e.seg);
    if (plain && cls != IC_STRING) {
        CHECK(3, in->mem_size == e.mem_size || cls == IC_MOFFS, "mem_size %u, Zydis %u",
              in->mem_size, e.mem_size);
        CHECK(4, (in->mem_read == e.mem_read && in->mem_write == e.mem_write) || cls == IC_MOFFS,
              "rw %d%d, Zydis %d%d", in->mem_read, in->mem_write, e.mem_read, e.mem_write);
    }
    for (unsigned i = 0; i < z.operand_count; i++)
        CHECK(14, ops[i].type != ZYDIS_OPERAND_TYPE_REGISTER || same_register(in, &ops[i]),
              "operand %u: reg %u rm %u vvvv %u, Zydis %s", i, in->reg, in->rm, in->vex_vvvv,
              ZydisRegisterGetString(ops[i].reg.value));
    CHECK(14,
          in->map == (unsigned)z.opcode_map &&
              (!in->vex ||
               (in->pp == z.raw.vex.pp && in->vex_l == z.raw.vex.L && in->vex_w == z.raw.vex.W)),
          "map %u pp %u, Zydis %u %u", in->map, in->pp, z.opcode_map, z.raw.vex.pp);
    unsigned imm_len = (z.raw.imm[0].size + z.raw.imm[1].size) / 8;

    CHECK(12, in->imm_len == imm_len && (!imm_len || in->imm_off == z.raw.imm[0].offset),
          "imm_len %u off %u, Zydis %u %u", in->imm_len, in->imm_off, imm_len, z.raw.imm[0].offset);
    CHECK(12,
          in->disp_len == z.raw.disp.size / 8 &&
              (!in->disp_len || in->disp_off == z.raw.disp.offset),
          "disp_len %u off %u, Zydis %u %u", in->disp_len, in->disp_off, z.raw.disp.size / 8,
          z.raw.disp.offset);
    CHECK(12, !in->has_modrm || in->modrm_off == z.raw.modrm.offset, "modrm_off %u, Zydis %u",
          in->modrm_off, z.raw.modrm.offset);
    CHECK(12, in->opcode == z.opcode && b[in->op_off] == z.opcode, "opcode %02x, Zydis %02x",
          in->opcode, z.opcode);
    if (z.raw.imm[0].size) {
        uint64_t imm = z.raw.imm[0].value.u, mask = ~0ULL;

        if (!z.raw.imm[0].is_signed && in->opsize < 8) /* ours may be extended further */
            mask = (1ULL << 8 * (in->opsize > imm_len ? in->opsize : imm_len)) - 1;
        if (z.raw.imm[0].is_signed && in->opsize < 8)
            mask = (1ULL << 8 * in->opsize) - 1;
        CHECK(5, ((in->imm ^ imm) & mask) == 0, "imm %llx, Zydis %llx", (unsigned long long)in->imm,
              (unsigned long long)imm);
    }
    if (z.raw.imm[1].size)
        CHECK(5, in->imm2 == (uint16_t)z.raw.imm[1].value.u, "imm2 %x, Zydis %llx", in->imm2,
              (unsigned long long)z.raw.imm[1].value.u);
    /* What has no 16-bit form is 4 bytes wide to us in 16-bit code too. */
    bool no16 = mode == 2 && (in->vex || z.mnemonic == ZYDIS_MNEMONIC_MOVNTI ||
                              (in->map == 1 && in->opcode == 0xae));

    if (!no16 && (cls == IC_ALU || cls == IC_BRANCH || cls == IC_STACK || cls == IC_STRING))
        CHECK(6, in->opsize * 8 == z.operand_width, "opsize %u, Zydis %u", in->opsize,
              z.operand_width / 8);
    if (plain) {
        CHECK(7, in->gpr_read == e.gpr_read, "gpr_read %04x, Zydis %04x", in->gpr_read, e.gpr_read);
        CHECK(8, in->gpr_write == e.gpr_write, "gpr_write %04x, Zydis %04x", in->gpr_write,
              e.gpr_write);
    }
    if (!plain) { /* more than is touched is allowed, less is not */
        CHECK(7, !(e.gpr_read & ~in->gpr_read), "gpr_read %04x, Zydis %04x", in->gpr_read,
              e.gpr_read);
        CHECK(8, !(e.gpr_write & ~in->gpr_write), "gpr_write %04x, Zydis %04x", in->gpr_write,
              e.gpr_write);
    }
    CHECK(13, in->high8 == e.high8, "high8 %d, Zydis %d", in->high8, e.high8);
    if (plain) {
        const ZydisAccessedFlags *f = z.cpu_flags;
        unsigned all = FL_ARITH | FL_DF, wr = 0, un = 0, rd = 0;

        if (f) {
            rd = f->tested & all;
            wr = (f->modified | f->set_0 | f->set_1 | f->undefined) & all;
            un = f->undefined & all;
        }
        if (cls == IC_STRING && (in->rep || in->repne))
            rd |= wr; /* rCX may be 0 */
        if (cls == IC_ALU && in->imm_len && is_shift(z.mnemonic) &&
            !(in->imm & (in->opsize == 8 ? 63 : 31)))
            rd = wr = 0;
        CHECK(9, in->fl_read == rd, "fl_read %x, Zydis %x", in->fl_read, rd);
        CHECK(10, in->fl_write == wr, "fl_write %x, Zydis %x", in->fl_write, wr);
        CHECK(11, in->info->fl_undef == un, "fl_undef %x, Zydis %x", in->info->fl_undef, un);
    }
    return true;
}

#endif
