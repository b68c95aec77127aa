/* Control flow: calls and returns, indirect jumps of a bytecode interpreter, indirect calls. */
#include "guests/benchbt/bench.h"

__attribute__((noinline, noipa)) static unsigned fib(unsigned n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}
static uint64_t recursion(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++)
        sum += fib(20 + (i & 1));
    return sum;
}

/* A register machine of ten instructions, each ending in its own jump to the next one. */
enum op { SET, ADD, SUB, MUL, XOR, SHIFT, AND, MOVE, LOOP, STOP };
struct word {
    uint8_t op, d, s;
    int8_t imm;
};
static uint64_t interpret(const struct word *code, uint64_t rounds)
{
    static const void *const table[] = {&&set,   &&add, &&sub,  &&mul,  &&xor,
                                        &&shift, &&and, &&move, &&loop, &&stop};
    uint64_t r[8] = {rounds, 1, 2, 3, 4, 5, 6, 7};
    const struct word *pc = code;

#define NEXT goto *table[(++pc)->op]
    goto *table[pc->op];
set:
    r[pc->d] = (uint64_t)(int64_t)pc->imm;
    NEXT;
add:
    r[pc->d] += r[pc->s];
    NEXT;
sub:
    r[pc->d] -= r[pc->s];
    NEXT;
mul:
    r[pc->d] *= r[pc->s];
    NEXT;
    xor : r[pc->d] ^= r[pc->s];
    NEXT;
shift:
    r[pc->d] = r[pc->d] << pc->imm | r[pc->d] >> (64 - pc->imm);
    NEXT;
    and : r[pc->d] &= r[pc->s];
    NEXT;
move:
    r[pc->d] = r[pc->s];
    NEXT;
loop:
    if (--r[pc->d])
        pc += pc->imm;
    NEXT;
stop:
    return r[1] ^ r[2] ^ r[5];
#undef NEXT
}
static uint64_t bytecode(unsigned n)
{
    static const struct word code[] = {
        {SET, 6, 0, 9},   {SET, 3, 0, 11},   {ADD, 1, 0, 0},  {MUL, 1, 3, 0}, {XOR, 2, 1, 0},
        {SHIFT, 2, 0, 7}, {MOVE, 4, 2, 0},   {AND, 4, 6, 0},  {ADD, 5, 4, 0}, {SUB, 5, 1, 0},
        {SHIFT, 5, 0, 3}, {LOOP, 0, 0, -10}, {STOP, 0, 0, 0},
    };

    return interpret(code, n);
}

static uint64_t f0(uint64_t x)
{
    return x + 1;
}
static uint64_t f1(uint64_t x)
{
    return x * 3;
}
static uint64_t f2(uint64_t x)
{
    return x ^ 0x55;
}
static uint64_t f3(uint64_t x)
{
    return x - 7;
}
static uint64_t f4(uint64_t x)
{
    return x << 1 | x >> 63;
}
static uint64_t f5(uint64_t x)
{
    return x | 3;
}
static uint64_t f6(uint64_t x)
{
    return ~x;
}
static uint64_t f7(uint64_t x)
{
    return x >> 1;
}
static uint64_t (*const volatile functions[])(uint64_t) = {f0, f1, f2, f3, f4, f5, f6, f7};

/* Which of eight is called follows a pattern of 48 that a CPU's predictor can learn. */
static uint64_t calls(unsigned n)
{
    static const char pattern[] = "012345670246135770071122334455660123012345674567";
    uint64_t x = 1;

    for (unsigned i = 0, p = 0; i < n; i++) {
        x = functions[pattern[p] - '0'](x);
        p = p == 47 ? 0 : p + 1;
    }
    return x;
}

const struct kernel flow_kernels[] = {
    {"fib", recursion, NULL, 300, 0},
    {"bytecode", bytecode, NULL, 600000, 0},
    {"indirect-calls", calls, NULL, 4000000, 0},
    {0},
};
