/* What a translator that looks ahead and checks accesses together must not lose. */
#include "guests/selftest/selftest.h"

/* Code at the end of a page, and above it the stack that runs into it. */
static struct {
    uint8_t code[4096], stack[128][4096];
} area __attribute__((aligned(4096)));
static volatile uint64_t cells[8];

/* Until memory is likely to have been found to be linear. */
static void warm_up(void)
{
    uint64_t end = rdtsc() + 200000000;

    while (rdtsc() < end)
        for (unsigned i = 0; i < 10000; i++)
            cells[i & 7] += i;
}

static uint64_t new_code(unsigned value)
{
    return 0xc300000000b8 | (uint64_t)value << 8; /* mov $value, %eax; ret */
}

static unsigned call_code(void)
{
    unsigned v;

    __asm__ volatile("call *%1" : "=a"(v) : "r"(area.stack[0] - 24) : "memory");
    return v;
}

/* RSP goes so far that following it (by 16 MiB) ends after the third push: the others, to the code,
 * are still accesses of their own. */
static void far_pushes(uint64_t code)
{
    uint64_t from = (uintptr_t)area.stack + 24 + 0xffffe8;

    __asm__ volatile("movq %%rsp, %%rbx\n\tmovq %0, %%rsp\n\tleaq -0xffffe8(%%rsp), %%rsp\n\t"
                     "pushq %%rax\n\tpushq %%rax\n\tpushq %%rax\n\t"
                     "pushq %%rax\n\tpushq %%rax\n\tpushq %1\n\tmovq %%rbx, %%rsp"
                     :
                     : "r"(from), "r"(code)
                     : "rbx", "memory");
}

static uint64_t bad;

static void far_stack(void)
{
    far_pushes(new_code(0));
    for (unsigned i = 0; i < 100; i++)
        bad += call_code();
    warm_up();
    for (unsigned i = 1; i < 64; i++) {
        far_pushes(new_code(i));
        for (unsigned j = 0; j < 4; j++)
            bad += call_code() != i;
    }
}

/* Deeper than any stack of return addresses that a translator keeps beside the guest's, with an
 * instruction at every depth that it is likely to leave to others. */
#define DEPTH 20000
__asm__(".pushsection .text\n"
        "descend:\n\t"
        "xlatb\n\taddq %rax, %rdx\n\tsubl $1, %ecx\n\tjz 1f\n\t"
        "call descend\n"
        "1:\taddq $1, %rsi\n\tret\n"
        ".popsection");

static void deep(void)
{
    static const uint8_t table[2] = {1, 1};
    uint64_t sum = 0, back = 0;

    __asm__ volatile("movq %%rsp, %%rdi\n\tmovq %3, %%rsp\n\tcall descend\n\tmovq %%rdi, %%rsp"
                     : "+d"(sum), "+S"(back)
                     : "a"(0ull), "r"(area.stack[127]), "b"(table), "c"(DEPTH)
                     : "rdi", "memory", "cc");
    check_equal(sum, DEPTH, "calls, very deep");
    check_equal(back, DEPTH, "returns from very deep");
}

/* PUSH of what no memory answers for: somebody else does all of it, and the slot is looked for in
 * vain by what comes back to it past another access. */
static void push_device(void)
{
    uint64_t wrong = 0, seen, other;

    for (unsigned i = 0; i < 200; i++) {
        __asm__ volatile("movq %4, %1\n\tmovq %1, 256(%3)\n\tmovq 264(%3), %1\n\t"
                         "pushq (%2)\n\tmovq (%3), %1\n\tmovq (%%rsp), %0\n\t"
                         "movq 512(%3), %1\n\tmovq %%rcx, (%%rsp)\n\taddq $8, %%rsp"
                         : "=&r"(seen), "=&r"(other)
                         : "r"(0xf0000000ul), "r"(area.stack[3]), "i"(7)
                         : "memory", "cc");
        wrong += seen != ~0ul;
    }
    check_equal(wrong, 0, "PUSH from a device, then the stack");
}

void test_blocks(void)
{
    uint64_t gs = rdmsr(0xc0000101);

    deep();
    push_device();
    wrmsr(0xc0000101, (uintptr_t)area.stack[1]);
    __asm__ volatile("movq %%rsp, %%rbx\n\tmovq %0, %%rsp\n\tcall *%1\n\tmovq %%rbx, %%rsp"
                     :
                     : "r"(area.stack[127]), "r"(far_stack)
                     : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory",
                       "cc");
    check_equal(bad, 0, "pushes into code, far from where RSP was");
    wrmsr(0xc0000101, gs);
}
