/* Interrupts and code that a translator runs in long stretches: the shadow of STI, flags across it,
 * code that takes for ever without a loop. */
#include "guests/timer/timer.h"

static volatile uint64_t shadow_rip;

static void in_shadow(struct frame *f)
{
    shadow_rip = f->rip;
    *(volatile uint32_t *)LAPIC_EOI = 0;
}

/* An interrupt is made to wait, then STI, then an access that is in no linear stretch of memory. */
static uint64_t open_before_access(void)
{
    uint64_t after, v;

    __asm__ volatile("leaq 1f(%%rip), %0\n\tmovl %3, (%2)\n\tsti\n\tmovq (%4), %1\n1:\tnop\n\tcli"
                     : "=&r"(after), "=&r"(v)
                     : "r"(LAPIC_ICR), "r"(1 << 18 | 1 << 14 | 0x5a), "r"(REGION)
                     : "memory");
    return after;
}

/* FLAGS after STI and one more instruction, of v AND v: ZF. */
#define ZF_BEYOND_STI(v)                                                                          \
    __extension__({                                                                               \
        uint8_t z;                                                                                \
        __asm__ volatile("cmpq %1, %2\n\ttestq %1, %1\n\tsti\n\tmovq %1, %%rcx\n\tsetz %0\n\tcli" \
                         : "=r"(z)                                                                \
                         : "r"((uint64_t)(v)), "r"((uint64_t)((v) ? (v) : 1))                     \
                         : "rcx", "cc");                                                          \
        z;                                                                                        \
    })

static void test_sti(void)
{
    unsigned bad = 0;

    region_init();
    region_map(0, 0, P | W);
    bare_on(0x5a, in_shadow);
    for (unsigned i = 0; i < 64; i++) {
        shadow_rip = 0;
        bad += open_before_access() != shadow_rip;
    }
    check_equal(bad, 0, "the instruction after STI comes before the interrupt, wherever it reads");
    bad = 0;
    for (unsigned i = 0; i < 64; i++) {
        bad += ZF_BEYOND_STI(0) != 1;
        bad += ZF_BEYOND_STI(7) != 0;
        bad += ZF_BEYOND_STI(i & 1) != !(i & 1);
        bad += ZF_BEYOND_STI(~i & 1) != (i & 1);
    }
    check_equal(bad, 0, "flags live across STI");
}

/* 40 functions, each of which calls the next one twice if ESI is 0: no branch backwards but RET. */
extern const uint8_t tree[40][16];
__asm__(
    ".balign 16\ntree:\n\t.rept 40\n\ttestl %esi, %esi\n\tjnz 2f\n\tcall 1f\n\tcall 1f\n2:\tret\n\t"
    ".balign 16\n1:\n\t.endr\n\tret");

static void enter_tree(const uint8_t *at, unsigned no)
{
    __asm__ volatile("call *%1" : "+S"(no) : "r"(at) : "memory", "cc");
}

static void do_tree(void *p)
{
    (void)p;
    *(volatile uint32_t *)LAPIC_TIMER_INITIAL = 100000;
    __asm__ volatile("sti");
    enter_tree(tree[0], 0);
    __asm__ volatile("cli");
}

static void test_tree(void)
{
    struct frame f;

    /* All of it is known before it is run. */
    for (unsigned i = 0; i < 100; i++)
        for (unsigned k = 0; k < 40; k++)
            enter_tree(tree[k], 1);
    *(volatile uint32_t *)LAPIC_TIMER = 0x85;
    check_equal(bare_try(do_tree, NULL, &f), 1 + 0x85, "an interrupt amid calls without a loop");
    __asm__ volatile("cli");
    *(volatile uint32_t *)LAPIC_EOI = 0;
}

void test_blocks(void)
{
    test_sti();
    test_tree();
}
