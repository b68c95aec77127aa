/* Debug registers: breakpoints on code, data and ports, and what holds them off (SDM 3B 17.2,
 * 17.3). Single steps are in except.c. */
#include "guests/selftest/selftest.h"

enum { DB = 1, EXECUTE = 0, WRITE = 1, IO = 2, ACCESS = 3, LEN1 = 0, LEN4 = 3, LEN8 = 2 };
#define RF 0x10000ull

static volatile struct {
    unsigned count;
    uint64_t rip, dr6, rflags, rcx;
} last;

static void on_debug(struct frame *f)
{
    uint64_t dr6;

    __asm__ volatile("movq %%dr6, %0" : "=r"(dr6));
    last.count++;
    last.rip = f->rip;
    last.dr6 = dr6 & 0xf00f;
    last.rflags = f->rflags;
    last.rcx = f->rcx;
    if ((dr6 & 1) && !(f->rflags & RF))
        f->rflags |= RF; /* past an instruction breakpoint */
    __asm__ volatile("movq %0, %%dr6" : : "r"(0xffff0ff0ull));
}

/* Breakpoint n at p; the others off. */
static void arm(unsigned n, const volatile void *p, unsigned kind, unsigned len)
{
    last.count = 0;
    switch (n) {
    case 0:
        __asm__ volatile("movq %0, %%dr0" : : "r"(p));
        break;
    default:
        __asm__ volatile("movq %0, %%dr3" : : "r"(p));
        break;
    }
    __asm__ volatile("movq %0, %%dr7"
                     :
                     : "r"(0x400ull | 2ull << (2 * n) | (uint64_t)(kind | len << 2) << (16 + 4 * n))
                     : "memory");
}

static void disarm(void)
{
    __asm__ volatile("movq %0, %%dr7" : : "r"(0x400ull) : "memory");
}

static void test_data(void)
{
    static volatile uint32_t cell[8] __attribute__((aligned(64)));
    uint64_t after;

    cell[0] = cell[1] = cell[2] = 1; /* known to the TLB */
    arm(3, &cell[1], WRITE, LEN4);
    __asm__ volatile("movl $2, %1\n1:\tleaq 1b(%%rip), %0" : "=r"(after), "=m"(cell[1]));
    check_equal(last.count, 1, "write breakpoint");
    check_equal(last.rip, after, "write breakpoint: a trap");
    check_equal(last.dr6, 8, "write breakpoint: DR6");
    cell[0] = cell[1];
    cell[2] = 3;
    check_equal(last.count, 1, "write breakpoint: neither reads nor neighbours");
    __asm__ volatile("movb $4, 3+%0" : "+m"(cell[1]));
    check_equal(last.count, 2, "write breakpoint: one byte of it");
    __asm__ volatile("movq $5, 0+%0" : "=m"(cell[0]));
    check_equal(last.count, 3, "write breakpoint: by an access from below");
    __asm__ volatile("lock incl %0" : "+m"(cell[1]));
    __asm__ volatile("movups %%xmm0, %0" : "=m"(cell[0]));
    check_equal(last.count, 5, "write breakpoint: locked, vector");
    arm(0, &cell[1], ACCESS, LEN4);
    cell[0] = cell[1];
    check_equal(last.count, 1, "access breakpoint: read");
    cell[1] = 1;
    check_equal(last.count, 2, "access breakpoint: write");
    disarm();
    cell[1] = 2;
    check_equal(last.count, 2, "no breakpoint once it is off");
}

static void test_data_string(void)
{
    static volatile uint8_t bytes[16] __attribute__((aligned(16)));
    volatile void *p = bytes;
    uint64_t n = sizeof(bytes);

    arm(3, bytes + 8, WRITE, LEN1);
    __asm__ volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(0) : "memory");
    disarm();
    check_equal(last.count, 1, "breakpoint amid REP STOS");
    check_equal(last.rcx, 7, "breakpoint amid REP STOS: after its element");
    check_equal(last.rflags & RF, RF, "breakpoint amid REP STOS: RF");
}

static void test_code(void)
{
    extern const uint8_t debug_stop[];
    uint64_t x = 1;

    arm(0, debug_stop, EXECUTE, LEN1);
    __asm__ volatile("debug_stop: incq %0" : "+r"(x));
    check_equal(last.count, 1, "instruction breakpoint, once past it by RF");
    check_equal(last.rip, (uintptr_t)debug_stop, "instruction breakpoint: a fault");
    check_equal(last.rflags & RF, 0, "instruction breakpoint: RF is pushed clear");
    check_equal(x, 2, "the instruction runs once");
    disarm();
}

/* A load of SS holds breakpoints off (SDM 3A 6.8.3). */
static void test_stack_switch(void)
{
    static volatile uint32_t cell;
    extern const uint8_t debug_after_ss[];
    uint64_t after;

    cell = SEL_DATA;
    arm(0, debug_after_ss, EXECUTE, LEN1);
    __asm__ volatile("movw %w0, %%ss\ndebug_after_ss: nop" : : "r"(SEL_DATA));
    check_equal(last.count, 0, "no instruction breakpoint after MOV SS");
    arm(3, &cell, ACCESS, LEN4);
    __asm__ volatile("movw %1, %%ss\n\tnop\n1:\tleaq 1b(%%rip), %0" : "=r"(after) : "m"(cell));
    check_equal(last.count, 1, "data breakpoint of MOV SS");
    check_equal(last.rip, after, "data breakpoint of MOV SS: an instruction later");
    disarm();
}

static void test_io(void)
{
    uint64_t cr4 = read_cr4();

    write_cr4(cr4 | 8);
    arm(0, (void *)0x80, IO, LEN1);
    outb(0x80, 0);
    check_equal(last.count, 1, "I/O breakpoint");
    outb(0x21, 0xff);
    check_equal(last.count, 1, "I/O breakpoint: that port only");
    disarm();
    write_cr4(cr4);
}

void test_debug(void)
{
    bare_on(DB, on_debug);
    __asm__ volatile("movq %0, %%dr6" : : "r"(0xffff0ff0ull)); /* single steps have left BS */
    test_data();
    test_data_string();
    test_code();
    test_stack_switch();
    test_io();
    bare_on(DB, NULL);
}
