/* The interpreter, case by case: bytes and state in, state out. What matters is where processors
 * differ from what one would guess; the expectations are the manual's, checked on a CPU. */
#include <criterion/criterion.h>
#include "tests/interp_fix.h"

#define RW VMF_DATA /* scratch memory */

struct reg {
    uint8_t r; /* number + 1 */
    uint64_t val;
};
#define R(n) ((n) + 1)
struct mem {
    gpa_t gpa;
    unsigned size;
    uint64_t val;
};

/* A case is a line or two. */
/* clang-format off */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
static const struct icase {
    const char *name;
    enum vmfix_mode mode;
    const char *code;                /* hex */
    struct reg in[6], out[6];        /* a register not in out keeps its value */
    uint64_t fl_in, fl_out, fl_mask; /* mask 0: flags must not change */
    struct mem m_in[3], m_out[3];
    int vec;      /* vector + 1 */
    uint64_t rip; /* expected, 0: the next instruction */
    bool user;
} cases[] = {
    /* --- registers --- */
    {"mov ah keeps the rest", VMFIX_LONG, "b455", {{R(RAX), 0x1122334455667788}},
     {{R(RAX), 0x1122334455665588}}},
    {"mov spl with REX", VMFIX_LONG, "40b455", {{R(RSP), 0x1122334455667788}},
     {{R(RSP), 0x1122334455667755}}},
    {"32-bit destination zero-extends", VMFIX_LONG, "89c8", {{R(RAX), ~0ull}, {R(RCX), 0x80000001}},
     {{R(RAX), 0x80000001}}},
    {"16-bit destination does not", VMFIX_LONG, "6689c8", {{R(RAX), ~0ull}, {R(RCX), 0}},
     {{R(RAX), 0xffffffffffff0000}}},
    {"cmov false zeroes the upper half", VMFIX_LONG, "0f44c1", {{R(RAX), ~0ull}, {R(RCX), 1}},
     {{R(RAX), 0xffffffff}}},
    {"movsxd", VMFIX_LONG, "4863c1", {{R(RCX), 0x80000000}}, {{R(RAX), 0xffffffff80000000}}},
    {"xchg r8d, eax by REX.B", VMFIX_LONG, "4190", {{R(RAX), 1}, {R(R8), 2}}, {{R(RAX), 2},
     {R(R8), 1}}},
    {"nop keeps the upper half", VMFIX_LONG, "90", {{R(RAX), ~0ull}}, {{R(RAX), ~0ull}}},
    {"lea 32-bit address", VMFIX_LONG, "67488d0408", {{R(RAX), 0xffffffff}, {R(RCX), 2}},
     {{R(RAX), 1}}},
    {"lea 16-bit operand", VMFIX_LONG, "668d0408", {{R(RAX), 0x1ffff}, {R(RCX), 2}},
     {{R(RAX), 0x10001}}},
    {"lea rip-relative", VMFIX_LONG, "488d0510000000", {{0}}, {{R(RAX), VMF_CODE + 7 + 16}}},
    {"lea 16-bit addressing wraps", VMFIX_PROT32, "678d00", {{R(RBX), 0xffff}, {R(RSI), 2},
     {R(RAX), 5}}, {{R(RAX), 1}}},
    {"bswap 32", VMFIX_LONG, "0fc8", {{R(RAX), 0xff11223344}}, {{R(RAX), 0x44332211}}},
    {"cdqe", VMFIX_LONG, "4898", {{R(RAX), 0x80000000}}, {{R(RAX), 0xffffffff80000000}}},
    {"cwd", VMFIX_LONG, "6699", {{R(RAX), 0x8000}, {R(RDX), 0x112233}}, {{R(RDX), 0x11ffff}}},
    /* --- flags --- */
    {"add carry and overflow", VMFIX_LONG, "00c8", {{R(RAX), 0x80}, {R(RCX), 0x80}}, {{R(RAX), 0}},
     0, FL_CF | FL_ZF | FL_PF | FL_OF, FL_ARITH},
    {"sbb borrows through equal operands", VMFIX_LONG, "19c8", {{R(RAX), 5}, {R(RCX), 5}},
     {{R(RAX), 0xffffffff}}, FL_CF, FL_CF | FL_AF | FL_SF | FL_PF, FL_ARITH},
    {"inc leaves CF", VMFIX_LONG, "ffc0", {{R(RAX), 0x7fffffff}}, {{R(RAX), 0x80000000}}, FL_CF,
     FL_CF | FL_OF | FL_SF | FL_AF | FL_PF, FL_ARITH},
    {"neg of the least integer", VMFIX_LONG, "f7d8", {{R(RAX), 0x80000000}}, {{R(RAX), 0x80000000}},
     0, FL_CF | FL_OF | FL_SF | FL_PF, FL_ARITH},
    {"shl by 32 is by 0: no flags", VMFIX_LONG, "c1e020", {{R(RAX), 0xff00000003}}, {{R(RAX), 3}},
     FL_CF | FL_OF},
    {"shl 64 by 64 is by 0", VMFIX_LONG, "48c1e040", {{R(RAX), 3}}, {{R(RAX), 3}}, FL_CF},
    {"shr 8-bit by 9 clears CF", VMFIX_LONG, "c0e809", {{R(RAX), 0xff}}, {{R(RAX), 0}}, FL_CF, FL_ZF
     | FL_PF, FL_CF | FL_ZF | FL_PF | FL_SF},
    {"sar 8-bit by 31", VMFIX_LONG, "c0f81f", {{R(RAX), 0x80}}, {{R(RAX), 0xff}}, 0, FL_CF | FL_SF |
     FL_PF, FL_CF | FL_SF | FL_ZF | FL_PF},
    {"rol 8-bit by 8 sets CF alone", VMFIX_LONG, "c0c008", {{R(RAX), 0x81}}, {{R(RAX), 0x81}},
     FL_ZF, FL_CF | FL_ZF, FL_CF | FL_ZF | FL_SF},
    {"rcl 8-bit by 9 is nothing", VMFIX_LONG, "c0d009", {{R(RAX), 0x81}}, {{R(RAX), 0x81}}, FL_CF},
    {"rcl 8-bit by 10 is by 1", VMFIX_LONG, "c0d00a", {{R(RAX), 0x81}}, {{R(RAX), 3}}, FL_CF, FL_CF,
     FL_CF},
    {"rcr 16-bit by 17 is nothing", VMFIX_LONG, "66c1d811", {{R(RAX), 0x1234}}, {{R(RAX), 0x1234}},
     FL_CF},
    {"rcr 64 by 1", VMFIX_LONG, "48d1d8", {{R(RAX), 1}}, {{R(RAX), 1ull << 63}}, FL_CF, FL_CF |
     FL_OF, FL_CF | FL_OF},
    {"shld 16 by 20", VMFIX_LONG, "660fa4c814", {{R(RAX), 0x1234}, {R(RCX), 0x5678}},
     {{R(RAX), 0x6781}}, 0, FL_CF, FL_CF},
    {"bsf of zero leaves 64 bits alone", VMFIX_LONG, "0fbcc1", {{R(RAX), ~0ull}, {R(RCX), 0}},
     {{R(RAX), ~0ull}}, 0, FL_ZF, FL_ZF},
    {"tzcnt of zero", VMFIX_LONG, "f30fbcc1", {{R(RAX), ~0ull}}, {{R(RAX), 32}}, 0, FL_CF, FL_CF |
     FL_ZF},
    {"lzcnt 16", VMFIX_LONG, "66f30fbdc1", {{R(RCX), 1}}, {{R(RAX), 15}}, 0, 0, FL_CF | FL_ZF},
    {"bt register wraps", VMFIX_LONG, "0fa3c8", {{R(RAX), 2}, {R(RCX), 33}}, {{R(RAX), 2}}, FL_ZF,
     FL_CF | FL_ZF, FL_CF | FL_ZF},
    {"bts memory, negative offset", VMFIX_LONG, "480fab0b", {{R(RBX), RW + 64}, {R(RCX), -65ull}},
     {{0}}, 0, 0, FL_CF, {{0}}, {{RW + 48, 8, 1ull << 63}}},
    {"btr memory, far offset, 32-bit address", VMFIX_PROT32, "0fb30b", {{R(RBX), RW},
     {R(RCX), 0x105}}, {{0}}, 0, FL_CF, FL_CF, {{RW + 32, 4, 0xff}}, {{RW + 32, 4, 0xdf}}},
    {"bt immediate stays in the operand", VMFIX_LONG, "0fba2325", {{R(RBX), RW}}, {{0}}, 0, FL_CF,
     FL_CF, {{RW, 4, 0x20}, {RW + 4, 4, 0}}},
    /* --- multiplication, division --- */
    {"mul 64", VMFIX_LONG, "48f7e1", {{R(RAX), ~0ull}, {R(RCX), ~0ull}}, {{R(RAX), 1},
     {R(RDX), ~0ull - 1}}, 0, FL_CF | FL_OF, FL_CF | FL_OF},
    {"imul 8 fits", VMFIX_LONG, "f6e9", {{R(RAX), 0xfe}, {R(RCX), 3}}, {{R(RAX), 0xfffa}}, FL_CF |
     FL_OF, 0, FL_CF | FL_OF},
    {"div 128 by 64", VMFIX_LONG, "48f7f1", {{R(RAX), 5}, {R(RDX), 1}, {R(RCX), 1ull << 63}},
     {{R(RAX), 2}, {R(RDX), 5}}, 0, 0, 1},
    {"div overflow", VMFIX_LONG, "48f7f1", {{R(RDX), 2}, {R(RCX), 2}}, {{0}}, .vec = VEC_DE + 1},
    {"div by zero, 8-bit", VMFIX_LONG, "f6f1", {{R(RAX), 1}}, {{0}}, .vec = VEC_DE + 1},
    {"idiv least by -1", VMFIX_LONG, "48f7f9", {{R(RAX), 1ull << 63}, {R(RDX), ~0ull},
     {R(RCX), ~0ull}}, {{0}}, .vec = VEC_DE + 1},
    {"idiv 64 to the least integer", VMFIX_LONG, "48f7f9", {{R(RAX), 1ull << 63}, {R(RDX), ~0ull},
     {R(RCX), 1}}, {{R(RAX), 1ull << 63}, {R(RDX), 0}}, 0, 0, 1},
    {"idiv 32 truncates toward zero", VMFIX_LONG, "f7f9", {{R(RAX), -7u}, {R(RDX), -1u},
     {R(RCX), 2}}, {{R(RAX), -3u}, {R(RDX), -1u}}, 0, 0, 1},
    {"idiv 16 overflow", VMFIX_LONG, "66f7f9", {{R(RAX), 0x8000}, {R(RDX), 0xffff},
     {R(RCX), 0xffff}}, {{0}}, .vec = VEC_DE + 1},
    {"aam by zero", VMFIX_PROT32, "d400", {{R(RAX), 5}}, {{0}}, .vec = VEC_DE + 1},
    {"aad", VMFIX_PROT32, "d50a", {{R(RAX), 0x0307}}, {{R(RAX), 37}}, 0, 0, FL_ZF | FL_SF},
    {"daa", VMFIX_PROT32, "27", {{R(RAX), 0x9a}}, {{R(RAX), 0}}, 0, FL_CF | FL_AF | FL_ZF | FL_PF,
     FL_CF | FL_AF | FL_ZF | FL_PF | FL_SF},
    {"das", VMFIX_PROT32, "2f", {{R(RAX), 0x05}}, {{R(RAX), 0x9f}}, FL_AF | FL_CF, FL_CF | FL_AF |
     FL_SF | FL_PF, FL_CF | FL_AF | FL_ZF | FL_PF | FL_SF},
    {"aaa", VMFIX_PROT32, "37", {{R(RAX), 0x00ff}}, {{R(RAX), 0x0205}}, 0, FL_CF | FL_AF, FL_CF |
     FL_AF},
    /* --- compare and exchange --- */
    {"cmpxchg equal", VMFIX_LONG, "0fb10b", {{R(RAX), 0xff00000005}, {R(RBX), RW}, {R(RCX), 9}},
     {{R(RAX), 0xff00000005}}, 0, FL_ZF | FL_PF, FL_ARITH, {{RW, 4, 5}}, {{RW, 4, 9}}},
    {"cmpxchg different loads the accumulator", VMFIX_LONG, "0fb10b", {{R(RAX), 0xff00000005},
     {R(RBX), RW}, {R(RCX), 9}}, {{R(RAX), 4}}, 0, 0, FL_ZF | FL_CF, {{RW, 4, 4}}, {{RW, 4, 4}}},
    {"cmpxchg register, different, leaves it", VMFIX_LONG, "0fb1ca", {{R(RAX), 1},
     {R(RDX), 0xff00000005}, {R(RCX), 9}}, {{R(RAX), 5}}, 0, FL_CF, FL_ZF | FL_CF},
    {"cmpxchg8b", VMFIX_LONG, "f00fc70e", {{R(RAX), 0xff00000001}, {R(RDX), 2}, {R(RBX), 3},
     {R(RCX), 4}, {R(RSI), RW}}, {{0}}, 0, FL_ZF, FL_ZF, {{RW, 8, 0x200000001}}, {{RW, 8,
     0x400000003}}},
    {"cmpxchg8b across a page", VMFIX_LONG, "f00fc70e", {{R(RAX), 1}, {R(RDX), 2}, {R(RBX), 3},
     {R(RCX), 4}, {R(RSI), RW + 0xffc}}, {{0}}, 0, FL_ZF, FL_ZF, {{RW + 0xffc, 8, 0x200000001}},
     {{RW + 0xffc, 8, 0x400000003}}},
    {"cmpxchg16b different", VMFIX_LONG, "480fc70e", {{R(RAX), 1}, {R(RDX), 2}, {R(RSI), RW}},
     {{R(RAX), 7}, {R(RDX), 8}}, FL_ZF, 0, FL_ZF, {{RW, 8, 7}, {RW + 8, 8, 8}}},
    {"cmpxchg16b misaligned", VMFIX_LONG, "480fc70e", {{R(RSI), RW + 8}}, {{0}}, .vec = VEC_GP + 1},
    {"xadd of one register", VMFIX_LONG, "0fc1c0", {{R(RAX), 3}}, {{R(RAX), 6}}, 0, FL_PF,
     FL_ARITH},
    {"xadd memory", VMFIX_LONG, "f00fc10b", {{R(RBX), RW}, {R(RCX), 3}}, {{R(RCX), 7}}, 0, 0, FL_CF,
     {{RW, 4, 7}}, {{RW, 4, 10}}},
    {"lock inc across a page", VMFIX_LONG, "f0ff03", {{R(RBX), RW + 0xffe}}, {{0}}, 0, 0, FL_ZF,
     {{RW + 0xffe, 4, 0xffff}}, {{RW + 0xffe, 4, 0x10000}}},
    {"add memory on a read-only page is a write fault", VMFIX_LONG, "0103", {{R(RBX), IFX_RO}},
     {{0}}, .vec = VEC_PF + 1, .user = true},
    {"lock on a register", VMFIX_LONG, "f001c8", {{0}}, {{0}}, .vec = VEC_UD + 1},
    /* --- BMI and others --- */
    {"andn", VMFIX_LONG, "c4e270f2c2", {{R(RCX), 0x0f}, {R(RDX), 0xff}}, {{R(RAX), 0xf0}}, FL_CF, 0,
     FL_CF | FL_ZF | FL_SF | FL_OF},
    {"mulx to one register is the high half", VMFIX_LONG, "c4e2fbf6c1", {{R(RDX), ~0ull},
     {R(RCX), 16}}, {{R(RAX), 15}}},
    {"pdep", VMFIX_LONG, "c4e2f3f5c2", {{R(RCX), 5}, {R(RDX), 0xf0f0}}, {{R(RAX), 0x50}}},
    {"pext", VMFIX_LONG, "c4e2f2f5c2", {{R(RCX), 0x5050}, {R(RDX), 0xf0f0}}, {{R(RAX), 0x55}}},
    {"bextr past the end", VMFIX_LONG, "c4e270f7c2", {{R(RCX), 0x0840}, {R(RDX), ~0ull}},
     {{R(RAX), 0}}, 0, FL_ZF, FL_ZF | FL_CF | FL_OF},
    {"adcx touches CF alone", VMFIX_LONG, "660f38f6c1", {{R(RAX), 0xffffffff}, {R(RCX), 0}},
     {{R(RAX), 0}}, FL_CF | FL_OF | FL_SF, FL_CF | FL_OF | FL_SF, FL_ARITH},
    {"crc32 of a byte", VMFIX_LONG, "f20f38f0c1", {{R(RAX), 0xff00000000}, {R(RCX), 1}},
     {{R(RAX), 0xf26b8303}}},
    {"movbe", VMFIX_LONG, "0f38f003", {{R(RBX), RW}}, {{R(RAX), 0x11223344}}, .m_in = {{RW, 4,
     0x44332211}}},
    {"popcnt", VMFIX_LONG, "f30fb8c1", {{R(RCX), 0xf0f}}, {{R(RAX), 8}}, FL_ARITH, 0, FL_ARITH},
    {"xlat", VMFIX_LONG, "d7", {{R(RBX), RW}, {R(RAX), 0x1105}}, {{R(RAX), 0x1177}}, .m_in = {{RW +
     5, 1, 0x77}}},
    {"moffs", VMFIX_LONG, "48a10000040000000000", {{0}}, {{R(RAX), 0x1122334455667788}}, .m_in =
     {{RW, 8, 0x1122334455667788}}},
    {"setcc r/m8 ah", VMFIX_LONG, "0f94c4", {{R(RAX), 0xffff}}, {{R(RAX), 0x1ff}}, FL_ZF},
    /* --- stack --- */
    {"push rsp pushes the old value", VMFIX_LONG, "54", {{R(RSP), RW + 64}}, {{R(RSP), RW + 56}},
     .m_out = {{RW + 56, 8, RW + 64}}},
    {"pop rsp", VMFIX_LONG, "5c", {{R(RSP), RW}}, {{R(RSP), 0x1234}}, .m_in = {{RW, 8, 0x1234}}},
    {"pop [rsp] uses the new rsp", VMFIX_LONG, "8f0424", {{R(RSP), RW}}, {{R(RSP), RW + 8}}, .m_in =
     {{RW, 8, 77}}, .m_out = {{RW + 8, 8, 77}}},
    {"push [rsp] uses the old rsp", VMFIX_LONG, "ff3424", {{R(RSP), RW + 8}}, {{R(RSP), RW}}, .m_in
     = {{RW + 8, 8, 77}}, .m_out = {{RW, 8, 77}}},
    {"push imm8 sign-extends", VMFIX_LONG, "6aff", {{R(RSP), RW + 8}}, {{R(RSP), RW}}, .m_out =
     {{RW, 8, ~0ull}}},
    {"pop faults on its destination: rsp stays", VMFIX_LONG, "8f03", {{R(RSP), RW},
     {R(RBX), IFX_NP}}, {{0}}, .vec = VEC_PF + 1},
    {"16-bit push in 32-bit code", VMFIX_PROT32, "6650", {{R(RSP), RW + 8}, {R(RAX), 0x11112222}},
     {{R(RSP), RW + 6}}, .m_out = {{RW + 6, 2, 0x2222}}},
    {"pusha", VMFIX_PROT32, "60", {{R(RSP), RW + 64}, {R(RAX), 1}, {R(RDI), 8}}, {{R(RSP), RW +
     32}}, .m_out = {{RW + 60, 4, 1}, {RW + 44, 4, RW + 64}, {RW + 32, 4, 8}}},
    {"popa skips esp", VMFIX_PROT32, "61", {{R(RSP), RW}}, {{R(RSP), RW + 32}, {R(RDI), 5},
     {R(RAX), 6}, {R(RDX), 0}}, .m_in = {{RW, 4, 5}, {RW + 12, 4, 99}, {RW + 28, 4, 6}}},
    {"enter level 2", VMFIX_LONG, "c8100002", {{R(RSP), RW + 64}, {R(RBP), RW + 128}}, {{R(RSP), RW
     + 64 - 24 - 16}, {R(RBP), RW + 56}}, .m_in = {{RW + 120, 8, 0x55}}, .m_out = {{RW + 56, 8, RW +
     128}, {RW + 48, 8, 0x55}, {RW + 40, 8, RW + 56}}},
    {"enter faults before it changes anything", VMFIX_LONG, "c8000801", {{R(RSP), IFX_NP + 0x1100},
     {R(RBP), 5}}, {{0}}, .vec = VEC_PF + 1},
    {"leave", VMFIX_LONG, "c9", {{R(RBP), RW}}, {{R(RSP), RW + 8}, {R(RBP), 7}}, .m_in = {{RW, 8,
     7}}},
    {"popf at CPL 3 keeps IF and IOPL", VMFIX_LONG, "9d", {{R(RSP), RW}}, {{R(RSP), RW + 8}}, FL_IF,
     FL_IF | FL_CF | FL_ID, FL_IF | FL_IOPL | FL_CF | FL_ID, {{RW, 8, FL_IOPL | FL_CF | FL_ID}},
     .user = true},
    {"popf at CPL 0 sets IOPL, not VM", VMFIX_LONG, "9d", {{R(RSP), RW}}, {{R(RSP), RW + 8}}, 0,
     FL_IOPL, FL_IOPL | FL_VM | FL_RF, {{RW, 8, FL_IOPL | FL_VM | FL_RF}}},
    {"push to a non-canonical stack", VMFIX_LONG, "50", {{R(RSP), 0x800000000004}}, {{0}}, .vec =
     VEC_SS + 1},
    /* --- branches --- */
    {"jz taken", VMFIX_LONG, "7410", {{0}}, {{0}}, FL_ZF, .rip = VMF_CODE + 0x12},
    {"jmp 16-bit operand truncates", VMFIX_PROT32, "66e9fdff", {{0}}, {{0}}, .rip = 1},
    {"loop counts ecx with 67", VMFIX_LONG, "67e2fe", {{R(RCX), 0x100000001}}, {{R(RCX), 0}}},
    {"jrcxz", VMFIX_LONG, "e310", {{0}}, {{0}}, .rip = VMF_CODE + 0x12},
    {"jecxz looks at ecx", VMFIX_LONG, "67e310", {{R(RCX), 1ull << 32}}, {{0}}, .rip = VMF_CODE +
     0x13},
    {"call to a non-canonical target pushes nothing", VMFIX_LONG, "ffd0", {{R(RAX), 0x800000000000},
     {R(RSP), RW + 8}}, {{0}}, .m_in = {{RW, 8, 5}}, .m_out = {{RW, 8, 5}}, .vec = VEC_GP + 1},
    {"call with a faulting stack", VMFIX_LONG, "e800000000", {{R(RSP), IFX_NP + 8}}, {{0}}, .vec =
     VEC_PF + 1},
    {"ret imm16", VMFIX_LONG, "c21000", {{R(RSP), RW}}, {{R(RSP), RW + 24}}, .m_in = {{RW, 8,
     0x12345}}, .rip = 0x12345},
    {"ret to a non-canonical address keeps rsp", VMFIX_LONG, "c3", {{R(RSP), RW}}, {{0}}, .m_in =
     {{RW, 8, 1ull << 47}}, .vec = VEC_GP + 1},
    {"call through memory at rsp", VMFIX_LONG, "ff1424", {{R(RSP), RW + 8}}, {{R(RSP), RW}}, .m_in =
     {{RW + 8, 8, 0x4444}}, .m_out = {{RW, 8, VMF_CODE + 3}}, .rip = 0x4444},
    /* --- strings --- */
    {"rep movsb propagates forward", VMFIX_LONG, "f3a4", {{R(RSI), RW}, {R(RDI), RW + 1},
     {R(RCX), 7}}, {{R(RSI), RW + 7}, {R(RDI), RW + 8}, {R(RCX), 0}}, .m_in = {{RW, 8, 0xaa}},
     .m_out = {{RW, 8, 0xaaaaaaaaaaaaaaaa}}},
    {"rep movsq overlapping by bytes", VMFIX_LONG, "f348a5", {{R(RSI), RW}, {R(RDI), RW + 4},
     {R(RCX), 4}}, {{R(RSI), RW + 32}, {R(RDI), RW + 36}, {R(RCX), 0}}, .m_in = {{RW, 8,
     0x2222222211111111}, {RW + 8, 8, 0}}, .m_out = {{RW, 8, 0x1111111111111111}, {RW + 8, 8,
     0x2222222222222222}}},
    {"std movsw", VMFIX_LONG, "f366a5", {{R(RSI), RW + 6}, {R(RDI), RW + 14}, {R(RCX), 4}},
     {{R(RSI), RW - 2}, {R(RDI), RW + 6}, {R(RCX), 0}}, .fl_in = FL_DF, .m_in = {{RW, 8,
     0x4444333322221111}}, .m_out = {{RW + 8, 8, 0x4444333322221111}}},
    {"rep stos with count 0", VMFIX_LONG, "f3ab", {{R(RDI), IFX_NP}, {R(RCX), 0}}, {{0}}},
    {"67 rep stosd counts ecx", VMFIX_LONG, "67f3ab", {{R(RAX), 0x55}, {R(RDI), RW},
     {R(RCX), 0x700000002}}, {{R(RDI), RW + 8}, {R(RCX), 0}}, .m_out = {{RW, 8, 0x5500000055}}},
    {"repe cmpsb stops at the difference", VMFIX_LONG, "f3a6", {{R(RSI), RW}, {R(RDI), RW + 16},
     {R(RCX), 8}}, {{R(RSI), RW + 3}, {R(RDI), RW + 19}, {R(RCX), 5}}, 0, 0, FL_ZF | FL_CF, {{RW, 8,
     0x55332211}, {RW + 16, 8, 0x44222211}}},
    {"repne scasb", VMFIX_LONG, "f2ae", {{R(RAX), 0x33}, {R(RDI), RW}, {R(RCX), 8}}, {{R(RDI), RW +
     3}, {R(RCX), 5}}, 0, FL_ZF, FL_ZF, {{RW, 8, 0x332211}}},
    {"lodsb", VMFIX_LONG, "ac", {{R(RSI), RW}, {R(RAX), ~0ull}}, {{R(RSI), RW + 1},
     {R(RAX), 0xffffffffffffff42}}, .m_in = {{RW, 1, 0x42}}},
    {"rep movsb stops exactly at the bad page", VMFIX_LONG, "f3a4", {{R(RSI), RW}, {R(RDI), IFX_NP -
     5}, {R(RCX), 64}}, {{R(RSI), RW + 5}, {R(RDI), IFX_NP}, {R(RCX), 59}}, .vec = VEC_PF + 1},
    {"rep cmpsb fault restores the flags", VMFIX_LONG, "f3a6", {{R(RSI), RW}, {R(RDI), IFX_NP - 2},
     {R(RCX), 9}}, {{R(RSI), RW + 2}, {R(RDI), IFX_NP}, {R(RCX), 7}}, .fl_in = FL_CF, .vec = VEC_PF
     + 1},
    /* --- modes --- */
    {"real mode: 16-bit push", VMFIX_REAL, "50", {{R(RSP), 0x9008}, {R(RAX), 0x1234}},
     {{R(RSP), 0x9006}}, .m_out = {{0x9006, 2, 0x1234}}},
    {"real mode: sp wraps", VMFIX_REAL, "50", {{R(RSP), 0x11110000}, {R(RAX), 0x1234}},
     {{R(RSP), 0x1111fffe}}, .m_out = {{0xfffe, 2, 0x1234}}},
    {"real mode: bx+si", VMFIX_REAL, "8a00", {{R(RBX), 0x8fff}, {R(RSI), 2}}, {{R(RAX), 0x42}},
     .m_in = {{0x9001, 1, 0x42}}},
    {"real mode: word at ffff is #GP", VMFIX_REAL, "8b07", {{R(RBX), 0xffff}}, {{0}}, .vec = VEC_GP
     + 1},
    {"real mode: lds", VMFIX_REAL, "c50f", {{R(RBX), 0x9000}}, {{R(RCX), 0x1111}}, .m_in = {{0x9000,
     4, 0x22221111}}},
    {"real mode: VEX is #UD", VMFIX_REAL, "c4e270f2c2", {{0}}, {{0}}, .vec = VEC_UD + 1},
    {"arpl", VMFIX_PROT32, "63c8", {{R(RAX), 0x10}, {R(RCX), 0x1b}}, {{R(RAX), 0x13}}, 0, FL_ZF,
     FL_ZF},
    {"bound", VMFIX_PROT32, "6203", {{R(RAX), 5}, {R(RBX), RW}}, {{0}}, .m_in = {{RW, 4, -1u}, {RW +
     4, 4, 4}}, .vec = VEC_BR + 1},
    {"into", VMFIX_PROT32, "ce", {{0}}, {{0}}, .fl_in = FL_OF, .vec = VEC_OF + 1},
    {"compatibility: inc eax is 40", VMFIX_COMPAT, "40", {{R(RAX), 0xffffffff}}, {{R(RAX), 0}}, 0,
     FL_ZF | FL_PF | FL_AF, FL_ARITH},
    /* --- undefined and privileged --- */
    {"ud2", VMFIX_LONG, "0f0b", {{0}}, {{0}}, .vec = VEC_UD + 1},
    {"too long", VMFIX_LONG, "66666666666666666666666666666690", {{0}}, {{0}}, .vec = VEC_GP + 1},
    {"hlt at CPL 3", VMFIX_LONG, "f4", {{0}}, {{0}}, .vec = VEC_GP + 1, .user = true},
    {"cli at CPL 3", VMFIX_LONG, "fa", {{0}}, {{0}}, .vec = VEC_GP + 1, .user = true},
    {"in at CPL 3 without a bitmap", VMFIX_LONG, "e480", {{0}}, {{0}}, .m_in = {{VMF_TSS + 102, 2,
     0x68}}, .vec = VEC_GP + 1, .user = true},
    {"in at CPL 3, bitmap allows", VMFIX_LONG, "e480", {{0}}, {{R(RAX), 0xff}}, .m_in = {{VMF_TSS +
     102, 2, 0x40}, {VMF_TSS + 0x50, 2, 0xfefe}}, .user = true},
    {"in at CPL 3, bitmap forbids a byte of it", VMFIX_LONG, "e580", {{0}}, {{0}}, .m_in = {{VMF_TSS
     + 102, 2, 0x40}, {VMF_TSS + 0x50, 2, 8}}, .vec = VEC_GP + 1, .user = true},
    {"mov cr at CPL 3", VMFIX_LONG, "0f20c0", {{0}}, {{0}}, .vec = VEC_GP + 1, .user = true},
    {"rdpmc", VMFIX_LONG, "0f33", {{0}}, {{0}}, .vec = VEC_GP + 1},
    {"vmcall: KVM knows no such hypercall", VMFIX_LONG, "0f01c1", {{R(RAX), 5}}, {{R(RAX),
     (uint64_t)-1000}}},
    {"vmmcall, 32-bit", VMFIX_PROT32, "0f01d9", {{R(RAX), 5}}, {{R(RAX), 0xfffffc18}}},
    {"vmcall at CPL 3", VMFIX_LONG, "0f01c1", {{R(RAX), 5}}, {{R(RAX), (uint64_t)-1}},
     .user = true},
    {"vmlaunch", VMFIX_LONG, "0f01c2", {{0}}, {{0}}, .vec = VEC_UD + 1},
    {"mov cs", VMFIX_LONG, "8ec8", {{0}}, {{0}}, .vec = VEC_UD + 1},
    {"rdfsbase without CR4.FSGSBASE", VMFIX_LONG, "f30faec0", {{0}}, {{0}}, .vec = VEC_UD + 1},
    {"avx without OSXSAVE", VMFIX_LONG, "c5f857c0", {{0}}, {{0}}, .vec = VEC_UD + 1},
    {"movaps misaligned", VMFIX_LONG, "0f2803", {{R(RBX), RW + 8}}, {{0}}, .vec = VEC_GP + 1},
};
/* clang-format on */

static void check_case(const struct icase *t)
{
    struct cpu *c;
    uint64_t want[NGPR], start;
    unsigned len;

    ifx_create(t->mode);
    c = &ifx.v->cpu;
    if (t->user)
        vmf_user(&ifx);
    start = c->rip;
    len = ifx_code(t->code);
    for (unsigned i = 0; i < 6; i++)
        if (t->in[i].r)
            c->gpr[t->in[i].r - 1] = t->in[i].val;
    memcpy(want, c->gpr, sizeof(want));
    for (unsigned i = 0; i < 6; i++)
        if (t->out[i].r)
            want[t->out[i].r - 1] = t->out[i].val;
    for (unsigned i = 0; i < 3; i++)
        if (t->m_in[i].size)
            vmf_poke(&ifx, t->m_in[i].gpa, &t->m_in[i].val, t->m_in[i].size);
    c->rflags = FL_R1 | t->fl_in;
    cr_assert_eq(interp_step(ifx.v), STEP_OK, "%s: not STEP_OK", t->name);
    cr_expect_eq(ifx_vector(), t->vec - 1, "%s: vector %d, not %d", t->name, ifx_vector(),
                 t->vec - 1);
    if (t->vec)
        want[RSP] = c->gpr[RSP]; /* the delivery's; ifx_saved() has the program's */
    else
        cr_expect_eq(c->rip, t->rip ? t->rip : start + len, "%s: rip %#lx", t->name, c->rip);
    if (t->vec && t->mode == VMFIX_LONG) {
        uint64_t rsp = ifx_saved(3);

        for (unsigned i = 0; i < 6; i++)
            if (t->in[i].r == R(RSP))
                cr_expect_eq(rsp, t->in[i].val, "%s: rsp moved to %#lx", t->name, rsp);
        cr_expect_eq(ifx_saved(2) & FL_ARITH, t->fl_in & FL_ARITH, "%s: flags in the frame",
                     t->name);
    }
    for (unsigned r = 0; r < NGPR; r++)
        cr_expect_eq(c->gpr[r], want[r], "%s: r%u is %#lx, not %#lx", t->name, r, c->gpr[r],
                     want[r]);
    if (!t->vec && !t->fl_mask)
        cr_expect_eq(c->rflags, FL_R1 | t->fl_in, "%s: flags %#lx", t->name, c->rflags);
    if (!t->vec)
        cr_expect_eq(c->rflags & t->fl_mask, t->fl_out & t->fl_mask, "%s: flags %#lx", t->name,
                     c->rflags);
    for (unsigned i = 0; i < 3; i++)
        if (t->m_out[i].size)
            cr_expect_eq(vmf_peek(&ifx, t->m_out[i].gpa, t->m_out[i].size), t->m_out[i].val,
                         "%s: memory %#lx holds %#lx", t->name, t->m_out[i].gpa,
                         vmf_peek(&ifx, t->m_out[i].gpa, t->m_out[i].size));
    ifx_destroy();
}

Test(interp, cases)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        check_case(&cases[i]);
}
