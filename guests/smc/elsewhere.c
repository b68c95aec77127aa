/*
 * The same pages at many linear addresses: what runs must be right for the address it is seen at
 * now, whatever was made of it for another; and rights are those of the mapping, not of the page.
 */
#include "guests/smc/smc.h"

enum {
    CODE = 2,        /* frame of the code */
    NEXT = 5,        /* frames that come behind it, in turn 5 and 6 */
    STACK_PAGE = 20, /* of the region, its frame 3 */
    PLACE = 32,      /* pages of the region: two for each place */
    PLACES = 32,
    AT = 0x40
};

/* The sum of where it is, what the next page holds, the turns of a loop, where a call returns to,
 * and what code of the next page adds. */
extern const uint8_t moving[], moving_turns[], moving_back[], moving_end[];
__asm__(".pushsection .rodata\n"
        "moving: leaq moving(%rip), %rax\n\t"
        "addq moving + 0x1000(%rip), %rax\n\t"
        "movl $5, %ecx\n"
        "moving_turns: incq %rax\n\t"
        "decl %ecx\n\t"
        "jnz moving_turns\n\t"
        "incq moving + 0x1008(%rip)\n\t"
        "call 2f\n"
        "moving_back: jmp moving + 0x1080\n"
        "2: addq (%rsp), %rax\n\t"
        "ret\n"
        "moving_end:\n"
        ".popsection");

static uint32_t turns = 5;

static void make(void)
{
    for (unsigned i = 0; moving + i < moving_end; i++)
        frames[CODE][AT + i] = moving[i];
    frames[CODE][0xf00] = 0xcd; /* int $0x80: what user code returns to */
    frames[CODE][0xf01] = 0x80;
    for (unsigned k = 0; k < 2; k++) {
        uint8_t *f = frames[NEXT + k];

        *(volatile uint64_t *)(f + AT) = 0x1111 * (k + 1);
        *(volatile uint64_t *)(f + AT + 8) = 0;
        put32(f + AT + 0x80, 0x00c08348 + ((k + 7) << 24)); /* add $7 or $8, %rax */
        *(volatile uint8_t *)(f + AT + 0x84) = 0xc3;
    }
    /* mov $imm, %eax across the end of the page; its upper half and the ret are the next page's. */
    frames[CODE][0xffd] = 0xb8;
    frames[CODE][0xffe] = 0x34;
    frames[CODE][0xfff] = 0x12;
    for (unsigned k = 0; k < 2; k++) {
        frames[NEXT + k][0] = frames[NEXT + k][1] = (uint8_t)(0x55 + k);
        frames[NEXT + k][2] = 0xc3;
    }
    turns = 5;
    serialize();
}

static uint8_t *place(unsigned n, uint64_t code_bits)
{
    uint8_t *p = region_map(PLACE + 2 * n, CODE, code_bits);

    region_map(PLACE + 2 * n + 1, NEXT + n % 2, P | W | (code_bits & U));
    return p;
}

static uint64_t want(const uint8_t *p, unsigned n)
{
    uint64_t at = (uintptr_t)p + AT;

    return at + 0x1111 * (n % 2 + 1) + turns + at + (uint64_t)(moving_back - moving) + 7 + n % 2;
}

static uint64_t straddler(unsigned n)
{
    return n % 2 ? 0x56561234 : 0x55551234;
}

/* Where it is mapped already: without INVLPG. */
static void visit(unsigned n, unsigned times, uint64_t *bad)
{
    const uint8_t *p = (uint8_t *)REGION + (PLACE + 2 * n) * 4096ull;

    while (times--) {
        expect_run(p + AT, want(p, n), bad);
        expect_run(p + 0xffd, straddler(n), bad);
    }
}

/* Set the turns through the page's identity mapping: the loop's count is an immediate. */
static void set_turns(uint32_t n)
{
    turns = n;
    put32(frames[CODE] + AT + (moving_turns - moving) - 4, n);
    serialize();
}

static void test_places(void)
{
    uint64_t bad = ~0ull;

    for (unsigned n = 0; n < PLACES; n++)
        place(n, P | U);
    for (unsigned n = 0; n < PLACES; n++)
        visit(n, 20, &bad);
    check_equal(bad, ~0ull, "one function at 32 addresses, one after the other");
    bad = ~0ull;
    for (unsigned i = 0; i < 2000; i++)
        visit(i * 7 % PLACES, 1, &bad);
    check_equal(bad, ~0ull, "at each of them in turn");
    bad = ~0ull;
    for (unsigned i = 0; i < 2000; i++)
        visit(i & 2 ? i % 3 : 5, 2, &bad);
    check_equal(bad, ~0ull, "at few of them");
    bad = ~0ull;
    for (unsigned i = 0; i < 600; i++) {
        visit(i % 5, 1, &bad);
        set_turns(1 + i % 9);
        visit(i % 5, 1, &bad);
        visit(i % 11, 1, &bad);
    }
    check_equal(bad, ~0ull, "and changed meanwhile through another address");
    set_turns(5);
}

/* Calls %rdi and %rsi; the sum of what they return and of where it is afterwards. */
extern const uint8_t nested[], nested_back[], nested_end[];
__asm__(".pushsection .rodata\n"
        "nested: pushq %rbx\n\t"
        "pushq %rsi\n\t"
        "call *%rdi\n\t"
        "leaq nested(%rip), %rbx\n\t"
        "addq %rax, %rbx\n\t"
        "popq %rsi\n\t"
        "call *%rsi\n"
        "nested_back: addq %rbx, %rax\n\t"
        "leaq nested_back(%rip), %rdx\n\t"
        "addq %rdx, %rax\n\t"
        "popq %rbx\n\t"
        "ret\n"
        "nested_end:\n"
        ".popsection");

static const uint8_t *volatile called;

/* In between, at an address of its own: what called it is on the return stack when others move. */
static uint64_t through(void)
{
    return run(called);
}

/* It calls others of them, some of which make its own page move: then it is returned to. */
static void test_nested(void)
{
    uint64_t bad = ~0ull;

    for (unsigned i = 0; nested + i < nested_end; i++)
        frames[CODE][0x200 + i] = nested[i];
    serialize();
    for (unsigned i = 0; i < 3000; i++) {
        unsigned a = i % 7, b = i * 3 % 11, c = i * 5 % 13;
        uint8_t *p = (uint8_t *)REGION + PLACE * 4096ull, *pa = p + 2 * 4096 * a;
        const uint8_t *pb = p + 2 * 4096 * b, *pc = p + 2 * 4096 * c;
        uint64_t got;

        called = pb + AT;
        __asm__ volatile("call *%1"
                         : "=a"(got)
                         : "r"(pa + 0x200), "D"(i & 1 ? (uintptr_t)through : (uintptr_t)pb + AT),
                           "S"(pc + AT)
                         : "rcx", "rdx", "memory", "cc");
        if (got != want(pb, b) + want(pc, c) + 2 * (uintptr_t)(pa + 0x200) +
                       (uint64_t)(nested_back - nested) &&
            bad == ~0ull)
            bad = i;
    }
    check_equal(bad, ~0ull, "calls from one of them to others");
}

/* Where it is, by one of two ways. */
extern const uint8_t chooser[], chooser_other[], chooser_end[];
__asm__(".pushsection .rodata\n"
        "chooser: testl %edi, %edi\n\t"
        "jnz chooser_other\n\t"
        "leaq chooser(%rip), %rax\n\t"
        "ret\n"
        "chooser_other: leaq chooser_other(%rip), %rax\n\t"
        "ret\n"
        "chooser_end:\n"
        ".popsection");

static uint64_t choose(const uint8_t *p, unsigned way)
{
    uint64_t got;

    __asm__ volatile("call *%1" : "=a"(got) : "r"(p + 0x300), "D"(way) : "memory", "cc");
    return got - (uintptr_t)(p + 0x300);
}

/* A branch first taken elsewhere leads on from here to here. */
static void test_branch(void)
{
    const uint8_t *p = (uint8_t *)REGION + PLACE * 4096ull;
    uint64_t bad = ~0ull, other = (uint64_t)(chooser_other - chooser);

    for (unsigned i = 0; chooser + i < chooser_end; i++)
        frames[CODE][0x300 + i] = chooser[i];
    serialize();
    for (unsigned i = 0; i < 50; i++)
        if (choose(p, 0) && bad == ~0ull)
            bad = i;
    for (unsigned n = 1; n < 4; n++)
        for (unsigned i = 0; i < 50; i++)
            if ((choose(p + 2 * 4096 * n, i & 1) != (i & 1 ? other : 0) ||
                 choose(p, i == 20) != (i == 20 ? other : 0)) &&
                bad == ~0ull)
                bad = n << 8 | i;
    check_equal(bad, ~0ull, "a branch taken elsewhere first");
}

static void enter(void *p)
{
    const uint64_t *e = p;

    __asm__ volatile("pushq %0\n\tpushq %1\n\tpushq $2\n\tpushq %2\n\tpushq %3\n\tiretq"
                     :
                     : "r"((uint64_t)SEL_UDATA), "r"(e[1]), "r"((uint64_t)SEL_UCODE), "r"(e[0])
                     : "memory");
}

/* At CPL 3, returning to the INT 0x80 of its own page. */
static void visit_user(unsigned n, uint64_t *bad)
{
    uint8_t *p = place(n, P | U), *stack = region_map(STACK_PAGE, 3, P | W | U);
    uint64_t e[2] = {(uintptr_t)p + AT, (uintptr_t)stack + 0x800};
    struct frame f;

    *(volatile uint64_t *)(stack + 0x800) = (uintptr_t)p + 0xf00;
    unsigned trap = bare_try(enter, e, &f);

    if ((trap != 1 + 0x80 || f.rax != want(p, n) || f.rip != (uintptr_t)p + 0xf02) && *bad == ~0ull)
        *bad = (uint64_t)trap << 32 | n;
}

static void try_run(void *p)
{
    run(p);
}

static void test_rights(void)
{
    uint64_t bad = ~0ull, cr4 = read_cr4(), efer = rdmsr(0xc0000080);
    uint32_t r[4];
    struct frame f;

    for (unsigned n = 0; n < PLACES; n++)
        place(n, P | U);
    for (unsigned i = 0; i < 400; i++) {
        visit_user(i % 3, &bad);
        visit(i % 4, 1, &bad);
    }
    check_equal(bad, ~0ull, "at CPL 3 and at CPL 0, at several addresses");
    place(1, P);
    uint64_t e[2] = {REGION + (PLACE + 2) * 4096 + AT, REGION + STACK_PAGE * 4096 + 0x800};

    check_equal(bare_try(enter, e, &f), 1 + 14,
                "#PF at CPL 3 where the mapping is the supervisor's");
    check_equal(f.rip, e[0], "its RIP");
    place(1, P | U);
    visit(1, 5, &bad);
    region_unmap(PLACE + 4);
    check_equal(bare_try(try_run, (uint8_t *)REGION + (PLACE + 4) * 4096 + AT, &f), 1 + 14,
                "#PF where it is not mapped any more");
    place(2, P | U);
    wrmsr(0xc0000080, efer | 0x800);
    visit(3, 5, &bad);
    check_equal(bare_try(try_run, place(4, P | U | NX) + AT, &f), 1 + 14, "#PF where it is NX");
    place(4, P | U);
    visit(4, 5, &bad);
    place(3, P | U | NX);
    visit(5, 5, &bad);
    check_equal(bare_try(try_run, (uint8_t *)REGION + (PLACE + 6) * 4096 + AT, &f), 1 + 14,
                "#PF where it became NX");
    place(3, P | U);
    wrmsr(0xc0000080, efer);
    cpuid(7, 0, r);
    if (r[1] >> 7 & 1) {
        write_cr4(cr4 | 1 << 20);
        check_equal(bare_try(try_run, place(6, P | U) + AT, &f), 1 + 14, "#PF SMEP, elsewhere too");
        write_cr4(cr4);
    }
    visit(6, 5, &bad);
    check_equal(bad, ~0ull, "and between all that");
}

/* The page behind is the page itself. */
static void test_behind_itself(void)
{
    uint8_t *p = region_map(PLACE, 7, P), *f = frames[7];
    uint64_t bad = ~0ull;

    region_map(PLACE + 1, 7, P);
    f[0xffd] = 0xb8;
    f[0xffe] = 0x21;
    f[0xfff] = 0x43;
    f[1] = 0;
    f[2] = 0xc3;
    for (unsigned i = 0; i < 200; i++) {
        f[0] = (uint8_t)i;
        serialize();
        expect_run(p + 0xffd, 0x4321 | (i & 0xff) << 16, &bad);
        expect_run(p + 0xffd, 0x4321 | (i & 0xff) << 16, &bad);
        if (i % 4)
            continue;
        f[0xfff] = (uint8_t)i;
        serialize();
        expect_run(p + 0xffd, 0x21 | (i & 0xff) << 8 | (i & 0xff) << 16, &bad);
        f[0xfff] = 0x43;
    }
    check_equal(bad, ~0ull, "an instruction across the end of a page mapped behind itself");
}

void test_elsewhere(void)
{
    static uint8_t stack[4096] __attribute__((aligned(16)));

    bare_tss.rsp[0] = (uintptr_t)stack + sizeof(stack);
    bare_gate(0x80, 0, 3);
    make();
    test_places();
    test_nested();
    test_branch();
    test_rights();
    test_behind_itself();
}
