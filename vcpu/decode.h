/*
 * The instruction decoder, shared by the interpreter and the translator: table-driven, no state, no
 * allocation, 15-40 ns an instruction. It knows every opcode we advertise in CPUID and a little
 * more (so that what we do not offer decodes to #UD knowingly); the tests hold it against Zydis.
 *
 * Where bytes run out the decoder says so (DEC_MORE), so that a caller fetches the next page only
 * when the instruction really needs it.
 */
#ifndef VCPU_DECODE_H
#define VCPU_DECODE_H

#include "vcpu/cpu.h"

#define INSN_MAX 15

/* What must be done with an instruction. */
enum insn_class {
    IC_UD,    /* undefined, or not offered: #UD */
    IC_ALU,   /* user-level integer work on registers and at most one explicit ModRM memory operand,
                 no stack, no control flow, no implicit memory, no machine state: a translator may
                 copy it with its operands renamed (includes SETcc, CMOVcc, BMI, BSWAP, CMPXCHG, XADD,
                 MOVBE, CRC32, MUL/DIV, NOP, PAUSE, LFENCE, PREFETCH, CLFLUSH, LEA, shifts, MOV,
                 and XCHG; CMPXCHG16B too) */
    IC_VEC,   /* the same for MMX, SSE, AVX: at most one explicit memory operand and GPRs */
    IC_X87,   /* x87, except those that store or load the environment (those are IC_VECSYS) */
    IC_STACK, /* PUSH POP PUSHA POPA ENTER LEAVE (PUSHF/POPF too) */
    IC_BRANCH, /* near JMP Jcc CALL RET LOOP JCXZ */
    IC_STRING, /* MOVS STOS LODS CMPS SCAS with and without REP */
    IC_MOFFS,  /* MOV AL/rAX <-> moffs (address in .disp, zero-extended, has_mem set, base none) and
                  XLAT (has_mem clear: one byte read at seg:[base=RBX + AL], no ModRM) */
    IC_VECSYS, /* FXSAVE FXRSTOR XSAVE* XRSTOR* LDMXCSR? no: that is IC_VEC; FNSTENV FLDENV FNSAVE
                  FRSTOR, MASKMOVQ/MASKMOVDQU (implicit rDI), VGATHER* (VSIB), VMASKMOV/VPMASKMOV */
    IC_SYS, /* everything else: privileged, sensitive (CPUID RDTSC RDTSCP SGDT SMSW LAR XGETBV...),
               far transfers, segment loads, INT n, IN/OUT/INS/OUTS, CLI STI HLT SYSCALL... */
};

/* Per-opcode facts, one const row each (decode_table.c). */
struct opinfo {
    const char *name; /* mnemonic, lower case, as the manuals write it ("add", "jcc", "movups") */
    uint8_t class_;
    uint8_t flags; /* OF_* */
    uint16_t fl_read, fl_write,
        fl_undef; /* FL_ARITH bits (and FL_DF) read, written (undefined ones
                     included), left undefined. Conditional writers (shifts by
                     CL: may leave flags alone) list the same bits in fl_read. */
};
enum {
    OF_LOCKABLE = 1, /* LOCK allowed with a memory destination */
    OF_ALIGN16 = 2,  /* memory operand must be aligned to mem_size (16; VEX.L: 32), else #GP:
                        legacy SSE, VMOVAPS and its like, CMPXCHG16B */
    OF_IMPL_GPR =
        4, /* uses GPRs not named by ModRM/opcode/VEX.vvvv: in insn.gpr_read/write anyway */
    OF_NEED_AVX = 8, /* VEX vector: CR4.OSXSAVE and XCR0.AVX, else #UD */
    OF_CPL0 = 16,    /* #GP(0) above CPL 0 (interpreter still checks each case itself) */
    OF_BITMEM = 32   /* BT BTS BTR BTC r/m,r: a memory form addresses memory beyond the operand */
};

#define REG_NONE 0xff
#define BASE_RIP 0xfe

struct insn {
    uint8_t len;
    /* prefixes */
    bool lock, rep, repne, opsize66, addrsize67;
    uint8_t rex; /* whole REX byte, 0 none (a REX not directly before the opcode is ignored) */
    uint8_t seg_override; /* SEG_* or REG_NONE; in 64-bit mode ES/CS/SS/DS overrides are REG_NONE */
    /* VEX: 0 none, 2 or 3 its length in bytes */
    uint8_t vex, vex_l, vex_w, vex_vvvv /* already complemented */;
    uint8_t pp;  /* 0 none, 1 = 66, 2 = F3, 3 = F2: mandatory prefix as the opcode map uses it; for
                    legacy integer opcodes where 66/F2/F3 are not mandatory, 0 */
    uint8_t map; /* 0 one-byte, 1 0F, 2 0F38, 3 0F3A */
    uint8_t opcode;
    /* sizes in bytes */
    uint8_t mode;     /* code segment: 2, 4, 8 */
    uint8_t opsize;   /* effective operand size 1, 2, 4, 8 of integer instructions (1 for the byte
                         forms);   near branches and PUSH/POP in 64-bit mode: 8 (or 2) */
    uint8_t addrsize; /* 2, 4, 8 */
    /* ModRM */
    bool has_modrm, has_mem /* ModRM memory operand, or moffs */, has_sib;
    uint8_t modrm, mod;
    uint8_t reg, rm; /* with REX/VEX.R, .B: 0-15. For opcodes with a register in the low three
                        bits (PUSH r, MOV r,imm, BSWAP, XCHG rAX) rm holds it, with REX.B */
    uint8_t base, index, scale; /* base: GPR, BASE_RIP or REG_NONE; index: GPR or REG_NONE;
                                   scale 0-3 (shift). 16-bit addressing: base and index too. VSIB:
                                   index is the vector register */
    uint8_t seg;                /* effective segment of the memory operand: override, else SS for
                                   rSP/rBP-based, else DS; of a string instruction's source */
    int64_t disp;  /* sign-extended; RIP-relative: relative to the end of the instruction */
    uint64_t imm;  /* immediate, sign-extended to 64 bits where the instruction does so;
                      branch displacement; the selector of a far pointer is in imm2 */
    uint16_t imm2; /* ENTER's second, far pointer's selector */
    /* layout, for re-encoding: offsets from the first byte, 0 = absent */
    uint8_t op_off; /* last opcode byte */
    uint8_t modrm_off, disp_off, disp_len, imm_off, imm_len;
    /* what it touches */
    uint8_t mem_size; /* bytes of the ModRM memory operand; 0: no access is made (LEA, NOP, INVLPG)
                         or it varies (IC_SYS, IC_VECSYS) */
    bool mem_read, mem_write;
    uint16_t gpr_read, gpr_write; /* masks, implicit ones and address registers included; partial
                                     (8/16-bit) writes are also reads */
    bool high8;                   /* some operand is AH CH DH BH (no REX) */
    uint16_t fl_read, fl_write;   /* as opinfo, refined (count 0, REP) */
    const struct opinfo *info;
    uint8_t bytes[INSN_MAX];
};

enum decode_status {
    DEC_OK,
    DEC_MORE,     /* avail bytes were not enough */
    DEC_TOO_LONG, /* > 15 bytes: #GP(0) */
    DEC_UD        /* undefined: in->len is what was consumed, in->info may be set; #UD */
};

/*
 * Decode one instruction from buf[0..avail). mode: 2, 4 or 8 (cpu_code_size). Never reads past
 * avail. DEC_UD covers illegal LOCK, VEX with 66/F2/F3/LOCK/REX before it, register forms of
 * memory-only instructions and the reverse, and opcodes invalid in the mode; VEX in real mode is
 * the caller's.
 */
enum decode_status decode(struct insn *in, const uint8_t *buf, unsigned avail, unsigned mode);

/* Class of the decoded instruction: info->class_ refined by ModRM (groups) and prefixes. */
static inline enum insn_class insn_class(const struct insn *in)
{
    return (enum insn_class)in->info->class_;
}

#endif
