/*
 * The decoder's facts by hand: the oddities of prefixes, and what no oracle says (classes, flags of
 * shifts, VEX against LES). One row per fact.
 */
#include <criterion/criterion.h>
#include <string.h>
#include "vcpu/decode.h"

#define B(...) {__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__})

static const struct {
    uint8_t b[16];
    unsigned n, mode;
    enum decode_status st;
    unsigned len;
    const char *name; /* NULL: not looked at */
    enum insn_class cls;
    unsigned opsize;
} cases[] = {
    /* prefixes: order, repetition, REX not next to the opcode */
    {B(0x66, 0x66, 0x66, 0x90), 8, DEC_OK, 4, "nop", IC_ALU, 2},
    {B(0x48, 0x66, 0x89, 0xc8), 8, DEC_OK, 4, "mov", IC_ALU, 2},
    {B(0x66, 0x48, 0x89, 0xc8), 8, DEC_OK, 4, "mov", IC_ALU, 8},
    {B(0x48, 0x4c, 0x89, 0xc8), 8, DEC_OK, 4, "mov", IC_ALU, 8},
    {B(0xf2, 0xf3, 0x0f, 0x58, 0xc1), 8, DEC_OK, 5, "addss", IC_VEC, 4},
    {B(0xf3, 0xf2, 0x0f, 0x58, 0xc1), 8, DEC_OK, 5, "addsd", IC_VEC, 4},
    {B(0x66, 0xf3, 0x0f, 0x58, 0xc1), 8, DEC_OK, 5, "addss", IC_VEC, 4},
    {B(0xf3, 0x66, 0x0f, 0xb8, 0xc1), 8, DEC_OK, 5, "popcnt", IC_ALU, 2},
    {B(0x66, 0xf2, 0x0f, 0x38, 0xf1, 0xc1), 8, DEC_OK, 6, "crc32", IC_ALU, 2},
    {B(0x66, 0x0f, 0x38, 0xf0, 0x01), 8, DEC_OK, 5, "movbe", IC_ALU, 2},
    {B(0xf3, 0x0f, 0x28, 0xc1), 8, DEC_UD, 3, NULL, IC_UD, 0},
    {B(0xf3, 0x90), 8, DEC_OK, 2, "pause", IC_ALU, 4},
    {B(0x41, 0x90), 8, DEC_OK, 2, "xchg", IC_ALU, 4},
    {B(0xf3, 0x0f, 0x1e, 0xfa), 8, DEC_OK, 4, "nop", IC_ALU, 4}, /* ENDBR64 */
    {B(0x3e, 0xff, 0xe0), 8, DEC_OK, 3, "jmp", IC_BRANCH, 8},    /* NOTRACK */
    {B(0x2e, 0x74, 0x05), 8, DEC_OK, 3, "jcc", IC_BRANCH, 8},
    {B(0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0), 8, DEC_OK, 8, "nop", IC_ALU, 4},

    /* LOCK */
    {B(0xf0, 0x01, 0x01), 8, DEC_OK, 3, "add", IC_ALU, 4},
    {B(0xf0, 0x01, 0xc1), 8, DEC_UD, 3, NULL, IC_ALU, 4},
    {B(0xf0, 0x03, 0x01), 8, DEC_UD, 3, NULL, IC_ALU, 4},
    {B(0xf0, 0x39, 0x01), 8, DEC_UD, 3, NULL, IC_ALU, 4},
    {B(0xf0, 0x87, 0x01), 8, DEC_OK, 3, "xchg", IC_ALU, 4},
    {B(0xf0, 0x0f, 0xc7, 0x09), 8, DEC_OK, 4, "cmpxchg8b", IC_ALU, 4},
    {B(0xf0, 0x48, 0x0f, 0xc7, 0x09), 8, DEC_OK, 5, "cmpxchg16b", IC_ALU, 8},
    {B(0xf0, 0x0f, 0xa3, 0x01), 8, DEC_UD, 4, NULL, IC_ALU, 4},
    {B(0xf0, 0x0f, 0xab, 0x01), 8, DEC_OK, 4, "bts", IC_ALU, 4},
    {B(0xf0, 0x0f, 0x20, 0xc0), 4, DEC_UD, 4, NULL, IC_SYS, 4},

    /* branches and the stack */
    {B(0x66, 0xe9, 1, 2, 3, 4), 8, DEC_OK, 6, "jmp", IC_BRANCH, 8},
    {B(0x66, 0xe9, 1, 2), 4, DEC_OK, 4, "jmp", IC_BRANCH, 2},
    {B(0xe8, 1, 2), 2, DEC_OK, 3, "call", IC_BRANCH, 2},
    {B(0x66, 0xc3), 8, DEC_OK, 2, "ret", IC_BRANCH, 8},
    {B(0x66, 0x50), 8, DEC_OK, 2, "push", IC_STACK, 2},
    {B(0x66, 0x68, 1, 2), 8, DEC_OK, 4, "push", IC_STACK, 2},
    {B(0x68, 1, 2, 3, 4), 8, DEC_OK, 5, "push", IC_STACK, 8},
    {B(0x06), 8, DEC_UD, 1, NULL, IC_SYS, 0},
    {B(0x06), 4, DEC_OK, 1, "push", IC_SYS, 4},
    {B(0x0f, 0xa0), 8, DEC_OK, 2, "push", IC_SYS, 8},
    {B(0x40), 4, DEC_OK, 1, "inc", IC_ALU, 4},
    {B(0x9a, 1, 2, 3, 4, 5, 6), 4, DEC_OK, 7, "callf", IC_SYS, 4},
    {B(0x9a), 8, DEC_UD, 1, NULL, IC_SYS, 0},
    {B(0xc8, 1, 2, 3), 8, DEC_OK, 4, "enter", IC_STACK, 8},

    /* VEX, EVEX, XOP against LDS, LES, BOUND, POP */
    {B(0xc5, 0xf8, 0x77), 8, DEC_OK, 3, "vzeroupper", IC_VEC, 4},
    {B(0xc5, 0xf8, 0x77), 4, DEC_OK, 3, "vzeroupper", IC_VEC, 4},
    {B(0xc5, 0x38), 4, DEC_OK, 2, "lds", IC_SYS, 4},
    {B(0xc4, 0x38), 4, DEC_OK, 2, "les", IC_SYS, 4},
    {B(0x62, 0x38), 4, DEC_OK, 2, "bound", IC_SYS, 4},
    {B(0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1), 8, DEC_UD, 1, NULL, IC_SYS, 0},
    {B(0x62, 0xf1), 4, DEC_UD, 2, NULL, IC_SYS, 0},
    {B(0x8f, 0xe8, 0x78, 0xc0, 0xc1, 1), 8, DEC_UD, 2, NULL, IC_UD, 0},
    {B(0x66, 0xc5, 0xf8, 0x58, 0xc1), 8, DEC_UD, 4, NULL, IC_UD, 0},
    {B(0x48, 0xc5, 0xf8, 0x58, 0xc1), 8, DEC_UD, 4, NULL, IC_UD, 0},
    {B(0x65, 0xc5, 0xf8, 0x58, 0x01), 8, DEC_OK, 5, "vaddps", IC_VEC, 4},
    {B(0xc5, 0xb0, 0x10, 0x01), 8, DEC_UD, 3, NULL, IC_VEC, 0}, /* vvvv unused: must be 1111 */
    {B(0xc4, 0xe2, 0x7b, 0xf7, 0xc1), 8, DEC_OK, 5, "shrx", IC_ALU, 4},

    /* classes */
    {B(0x0f, 0xae, 0x10), 8, DEC_OK, 3, "ldmxcsr", IC_VEC, 4},
    {B(0x0f, 0xae, 0x00), 8, DEC_OK, 3, "fxsave", IC_VECSYS, 4},
    {B(0x0f, 0xae, 0x20), 8, DEC_OK, 3, "xsave", IC_VECSYS, 4},
    {B(0x0f, 0xae, 0xe8), 8, DEC_OK, 3, "lfence", IC_ALU, 4},
    {B(0x66, 0x0f, 0xf7, 0xc1), 8, DEC_OK, 4, "maskmovdqu", IC_VECSYS, 4},
    {B(0xd9, 0x20), 8, DEC_OK, 2, "fldenv", IC_VECSYS, 4},
    {B(0xdd, 0x30), 8, DEC_OK, 2, "fnsave", IC_VECSYS, 4},
    {B(0xd9, 0x28), 8, DEC_OK, 2, "fldcw", IC_X87, 4},
    {B(0x9b), 8, DEC_OK, 1, "fwait", IC_X87, 4},
    {B(0x0f, 0x77), 8, DEC_OK, 2, "emms", IC_VEC, 4},
    {B(0x0f, 0xc3, 0x01), 8, DEC_OK, 3, "movnti", IC_ALU, 4},
    {B(0x0f, 0xc7, 0xf0), 8, DEC_OK, 3, "rdrand", IC_ALU, 4},
    {B(0xf3, 0x0f, 0xc7, 0xf8), 8, DEC_OK, 4, "rdpid", IC_SYS, 8},
    {B(0xf3, 0x0f, 0xae, 0xc0), 8, DEC_OK, 4, "rdfsbase", IC_SYS, 4},
    {B(0xf3, 0x0f, 0xae, 0xc0), 4, DEC_UD, 4, NULL, IC_SYS, 4},
    {B(0x0f, 0x01, 0xf8), 8, DEC_OK, 3, "swapgs", IC_SYS, 4},
    {B(0x0f, 0x01, 0xca), 8, DEC_OK, 3, "clac", IC_SYS, 4},
    {B(0x0f, 0xa2), 8, DEC_OK, 2, "cpuid", IC_SYS, 4},
    {B(0x0f, 0x20, 0xc0), 8, DEC_OK, 3, "mov", IC_SYS, 8},
    {B(0x0f, 0x20, 0x04), 8, DEC_OK, 3, "mov", IC_SYS, 8},       /* mod ignored: no SIB */
    {B(0x0f, 0x20, 0xc8), 8, DEC_UD, 3, NULL, IC_SYS, 8},        /* CR1 */
    {B(0x44, 0x0f, 0x20, 0xc0), 8, DEC_OK, 4, "mov", IC_SYS, 8}, /* CR8 */
    {B(0x8e, 0xc8), 8, DEC_UD, 2, NULL, IC_SYS, 4},              /* MOV CS */
    {B(0xd7), 8, DEC_OK, 1, "xlat", IC_MOFFS, 1},
    {B(0x37), 4, DEC_OK, 1, "aaa", IC_ALU, 1},
    {B(0x37), 8, DEC_UD, 1, NULL, IC_ALU, 1},
    {B(0x0f, 0x0b), 8, DEC_UD, 2, "ud2", IC_UD, 4},
    {B(0x0f, 0xff, 0x05, 1, 2, 3, 4), 8, DEC_UD, 7, "ud0", IC_UD, 4},
    {B(0x0f, 0x0f, 0xc1, 0x9e), 8, DEC_UD, 2, NULL, IC_UD, 0}, /* 3DNow */
    {B(0x0f, 0x0d, 0x08), 8, DEC_OK, 3, "nop", IC_ALU, 4},

    /* length */
    {B(0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90), 8,
     DEC_OK, 15, "nop", IC_ALU, 2},
    {B(0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
       0x90),
     8, DEC_TOO_LONG, 15, NULL, IC_UD, 0},
    {B(0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x89,
       0xc0),
     8, DEC_TOO_LONG, 15, NULL, IC_UD, 0},
    {B(0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0xc7, 0x84, 0x24, 1, 2, 3, 4, 5, 6, 7), 8, DEC_TOO_LONG,
     13, NULL, IC_UD, 0},
    {B(0x66), 8, DEC_MORE, 1, NULL, IC_UD, 0},
    {B(0x81, 0xc0, 1, 2, 3), 8, DEC_MORE, 2, NULL, IC_UD, 0},
    {B(0xc5), 4, DEC_MORE, 1, NULL, IC_UD, 0},
    {B(0xc4, 0xe2), 8, DEC_MORE, 1, NULL, IC_UD, 0},
};

Test(decode, facts)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct insn in;
        enum decode_status st = decode(&in, cases[i].b, cases[i].n, cases[i].mode);

        cr_expect_eq(st, cases[i].st, "row %zu: status %d", i, (int)st);
        cr_expect_eq(in.len, cases[i].len, "row %zu: length %u", i, in.len);
        cr_expect_not_null(in.info, "row %zu", i);
        if (cases[i].name)
            cr_expect_str_eq(in.info->name, cases[i].name, "row %zu", i);
        if (st != DEC_OK)
            continue;
        cr_expect_eq(insn_class(&in), cases[i].cls, "row %zu: class %d", i, (int)insn_class(&in));
        cr_expect_eq(in.opsize, cases[i].opsize, "row %zu: opsize %u", i, in.opsize);
    }
}

static struct insn ok(unsigned mode, const char *hex)
{
    uint8_t b[16];
    unsigned n = 0;
    struct insn in;

    for (; hex[0]; hex += hex[2] ? 3 : 2)
        b[n++] = (uint8_t)strtoul((char[]){hex[0], hex[1], 0}, NULL, 16);
    cr_assert_eq(decode(&in, b, n, mode), DEC_OK, "%s", hex);
    cr_assert_eq(in.len, n);
    return in;
}

/* Flags: a count of zero, by one, by CL; INC keeps CF; REP may do nothing. */
Test(decode, flags)
{
    struct insn in = ok(8, "c1 e0 00");

    cr_expect(in.fl_read == 0 && in.fl_write == 0);
    in = ok(8, "c1 e0 20"); /* masked to 0 */
    cr_expect(in.fl_write == 0);
    in = ok(8, "48 c1 e0 20");
    cr_expect(in.fl_read == 0 && in.fl_write == FL_ARITH);
    in = ok(8, "c1 d0 05"); /* RCL */
    cr_expect(in.fl_read == FL_CF && in.fl_write == (FL_CF | FL_OF));
    in = ok(8, "d3 e0");
    cr_expect(in.fl_read == FL_ARITH && in.fl_write == FL_ARITH);
    cr_expect(in.gpr_read == (1 << RAX | 1 << RCX) && in.gpr_write == 1 << RAX);
    cr_expect(in.info->flags & OF_IMPL_GPR);
    in = ok(8, "d3 c0"); /* ROL: CF and OF only */
    cr_expect(in.fl_read == (FL_CF | FL_OF) && in.fl_write == (FL_CF | FL_OF));
    in = ok(8, "d1 e0");
    cr_expect(in.fl_read == 0 && in.info->fl_undef == FL_AF);
    in = ok(8, "c1 e0 05");
    cr_expect(in.info->fl_undef == (FL_AF | FL_OF));
    in = ok(8, "ff c0");
    cr_expect(in.fl_write == (FL_ARITH & ~FL_CF));
    in = ok(8, "f3 a6");
    cr_expect(in.fl_read == (FL_ARITH | FL_DF) && in.fl_write == FL_ARITH);
    cr_expect(in.gpr_read == (1 << RCX | 1 << RSI | 1 << RDI) && in.gpr_write == in.gpr_read);
    in = ok(8, "a6");
    cr_expect(in.fl_read == FL_DF && !(in.gpr_read & 1 << RCX));
    in = ok(8, "f3 ae"); /* SCASB */
    cr_expect(in.gpr_read == (1 << RAX | 1 << RCX | 1 << RDI));
    cr_expect(in.gpr_write == (1 << RCX | 1 << RDI));
    in = ok(8, "0f bc c1"); /* BSF keeps its destination when the source is 0; TZCNT does not */
    cr_expect(in.gpr_read == (1 << RAX | 1 << RCX));
    in = ok(8, "f3 0f bc c1");
    cr_expect(in.gpr_read == 1 << RCX && in.fl_write == FL_ARITH);
    in = ok(8, "0f 42 c1"); /* CMOVB keeps its destination */
    cr_expect(in.fl_read == FL_CF && in.gpr_read == (1 << RAX | 1 << RCX));
}

/* Registers and memory operands, as a translator re-encodes them. */
Test(decode, operands)
{
    struct insn in = ok(8, "88 e0"); /* mov al,ah */

    cr_expect(in.high8 && in.reg == 4 && in.gpr_read == 1 << RAX && in.gpr_write == 1 << RAX);
    in = ok(8, "40 88 e0"); /* mov al,spl */
    cr_expect(!in.high8 && in.gpr_read == (1 << RSP | 1 << RAX));
    in = ok(8, "89 c8"); /* a 32-bit write is whole */
    cr_expect(in.gpr_read == 1 << RCX && in.gpr_write == 1 << RAX);
    in = ok(8, "66 89 c8");
    cr_expect(in.gpr_read == (1 << RCX | 1 << RAX));
    in = ok(8, "4a 8b 44 e5 f8"); /* mov rax,[rbp+r12*8-8] */
    cr_expect(in.base == RBP && in.index == R12 && in.scale == 3 && in.disp == -8);
    cr_expect(in.seg == SEG_SS && in.has_sib && in.mem_size == 8 && in.mem_read && !in.mem_write);
    cr_expect(in.modrm_off == 2 && in.disp_off == 4 && in.disp_len == 1 && in.op_off == 1);
    in = ok(8, "41 8b 45 00"); /* [r13]: DS */
    cr_expect(in.base == R13 && in.seg == SEG_DS);
    in = ok(8, "64 2e 8b 00"); /* CS does not undo FS */
    cr_expect(in.seg == SEG_FS && in.seg_override == SEG_FS);
    in = ok(8, "2e 8b 00");
    cr_expect(in.seg == SEG_DS && in.seg_override == REG_NONE);
    in = ok(4, "2e 8b 00");
    cr_expect(in.seg == SEG_CS);
    in = ok(2, "8b 42 fe"); /* [bp+si-2] */
    cr_expect(in.base == RBP && in.index == RSI && in.disp == -2 && in.seg == SEG_SS);
    in = ok(2, "8b 06 34 92");
    cr_expect(in.base == REG_NONE && in.disp == (int16_t)0x9234 && in.disp_len == 2);
    in = ok(8, "8b 05 fc ff ff ff");
    cr_expect(in.base == BASE_RIP && in.disp == -4 && in.gpr_read == 0);
    in = ok(4, "8b 05 fc ff ff ff");
    cr_expect(in.base == REG_NONE && in.seg == SEG_DS);
    in = ok(8, "8d 04 08"); /* LEA: no access */
    cr_expect(in.has_mem && in.mem_size == 0 && !in.mem_read &&
              in.gpr_read == (1 << RAX | 1 << RCX));
    in = ok(8, "67 a1 00 00 00 80"); /* moffs32: an address, not a signed number */
    cr_expect(in.has_mem && in.base == REG_NONE && in.disp == 0x80000000 && in.disp_len == 4);
    in = ok(8, "64 d7");
    cr_expect(in.base == RBX && in.seg == SEG_FS && in.mem_size == 1 && in.mem_read);
    in = ok(8, "c8 34 12 05");
    cr_expect(in.imm == 0x1234 && in.imm2 == 5);
    in = ok(4, "ea 78 56 34 12 08 00");
    cr_expect(in.imm == 0x12345678 && in.imm2 == 8 && in.imm_len == 6);
    in = ok(8, "48 b8 f0 de bc 9a 78 56 34 12");
    cr_expect(in.imm == 0x123456789abcdef0 && in.imm_len == 8 && in.rm == RAX);
    in = ok(8, "48 81 c0 00 00 00 80");
    cr_expect(in.imm == 0xffffffff80000000);
    in = ok(8, "eb fe");
    cr_expect((int64_t)in.imm == -2);
    in = ok(8, "48 0f c7 09");
    cr_expect(in.mem_size == 16 && in.mem_write && in.info->flags & OF_ALIGN16);
    cr_expect((in.gpr_read & 15) == 15 && in.gpr_write == (1 << RAX | 1 << RDX));
    in = ok(8, "0f a3 08"); /* BT [rax],ecx reaches beyond the operand */
    cr_expect(in.info->flags & OF_BITMEM);
    in = ok(8, "0f ba 20 07");
    cr_expect(!(in.info->flags & OF_BITMEM) && in.mem_size == 4);
    in = ok(8, "0f ae 38"); /* CLFLUSH is checked as a load */
    cr_expect(in.mem_read && in.mem_size == 1);
    in = ok(8, "c4 c2 e9 90 04 08"); /* vpgatherdq xmm0,[r8+xmm1],xmm2 */
    cr_expect(in.base == R8 && in.index == 1 && in.gpr_read == 1 << R8);
    in = ok(8, "c4 e2 fb f6 c1"); /* mulx rax,rax,rcx reads rdx */
    cr_expect(in.gpr_read == (1 << RCX | 1 << RDX) && in.gpr_write == 1 << RAX);
}
