/* 32-bit paging: faults, pages that change, code that changes, the end of the 4 GiB. */
#include "guests/flat32/flat32.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80 };
/* Linear pages that tests map as they like. */
enum { VA = 0x5000, VA2 = 0x6000, CODE = 0x7000, CODE2 = 0x8000, TOP = 0xfffff000 };

static uint32_t directory[1024] __attribute__((aligned(4096)));
static uint32_t table0[1024] __attribute__((aligned(4096)));
static uint32_t table_top[1024] __attribute__((aligned(4096)));

static void set_page(uint32_t va, const void *frame, uint32_t rights)
{
    (va >> 22 ? table_top : table0)[va >> 12 & 1023] = (uint32_t)frame | rights;
    __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}

static uint32_t entry(uint32_t va)
{
    return table0[va >> 12 & 1023];
}

static void set_cr0(uint32_t clear, uint32_t set)
{
    uint32_t cr0;

    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    cr0 = (cr0 & ~clear) | set;
    __asm__ volatile("mov %0, %%cr0" : : "r"(cr0) : "memory");
}

/* 4 MiB pages as they are, the first and the last 4 MiB by 4 KiB; all of it the user's too. */
void paging_on(void)
{
    uint32_t cr4;

    for (uint32_t i = 0; i < 1024; i++) {
        directory[i] = i << 22 | PS | U | W | P;
        table0[i] = i << 12 | U | W | P;
    }
    directory[0] = (uint32_t)table0 | U | W | P;
    directory[1023] = (uint32_t)table_top | U | W | P;
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("mov %0, %%cr4; mov %1, %%cr3" : : "r"(cr4 | 0x10), "r"(directory));
    set_cr0(0, 0x80010000); /* PG, WP */
}

static void load(void *p)
{
    (void)*(volatile uint32_t *)p;
}

static void store(void *p)
{
    *(volatile uint32_t *)p = 0x11223344;
}

static void add(void *p)
{
    __asm__ volatile("addl $1, (%0)" : : "r"(p) : "memory");
}

static void call(void *p)
{
    ((void (*)(void))p)();
}

/* f(at): #PF with this error code at this address? */
static void expect_pf(void (*f)(void *), uint32_t at, uint32_t error, uint32_t cr2,
                      const char *what)
{
    int vector = try(f, (void *)at);

    check(vector == VEC_PF && last_error == error && last_cr2 == cr2, what);
}

static void rights(void)
{
    volatile uint32_t *p = (uint32_t *)VA;

    set_page(VA, 0, 0);
    expect_pf(load, VA + 8, 0, VA + 8, "read of an absent page");
    expect_pf(store, VA + 8, 2, VA + 8, "write to an absent page");
    set_page(VA, scratch[0], P);
    expect_pf(store, VA + 8, 3, VA + 8, "write to a read-only page");
    expect_pf(add, VA + 8, 3, VA + 8, "add to a read-only page");
    check(try(load, (void *)VA) == NONE, "read of a read-only page");
    set_cr0(0x10000, 0);
    p[2] = 0;
    check(try(store, (void *)(VA + 8)) == NONE && p[2] == 0x11223344, "write without CR0.WP");
    set_cr0(0, 0x10000);
    expect_pf(store, VA + 8, 3, VA + 8, "write with CR0.WP again");
    set_page(VA, scratch[0], W | P);
    check(!(entry(VA) & (A | D)), "A and D not yet");
    load((void *)VA);
    check((entry(VA) & (A | D)) == A, "A");
    store((void *)VA);
    check((entry(VA) & (A | D)) == (A | D), "D");
}

static void crossing(void)
{
    volatile uint8_t *p = (uint8_t *)VA;

    set_page(VA, scratch[0], W | P);
    set_page(VA2, 0, 0);
    p[0xffe] = p[0xfff] = 7;
    expect_pf(load, VA + 0xffe, 0, VA2, "read into an absent page");
    expect_pf(store, VA + 0xffe, 2, VA2, "write into an absent page");
    expect_pf(add, VA + 0xffd, 2, VA2, "add into an absent page");
    check(p[0xffe] == 7 && p[0xfff] == 7, "nothing written by then");
    set_page(VA2, scratch[2], W | P);
    store((void *)(VA + 0xffe));
    check(p[0xffe] == 0x44 && p[0xfff] == 0x33 && scratch[2][0] == 0x22 && scratch[2][1] == 0x11,
          "write over two pages");
    add((void *)(VA + 0xffe));
    check(*(volatile uint32_t *)(VA + 0xffe) == 0x11223345, "add over two pages");
    set_page(VA2, scratch[3], W | P);
    scratch[3][0] = 0x99;
    check(p[0x1000] == 0x99, "another page after INVLPG");
}

/* --- code --- */

static uint32_t run(uint32_t at)
{
    return ((uint32_t(*)(void))at)();
}

/* mov eax, val; ret */
static void put_code(uint8_t *p, uint32_t val)
{
    p[0] = 0xb8;
    *(volatile uint32_t *)(p + 1) = val;
    p[5] = 0xc3;
}

/* Without paging too. */
void test_code(void)
{
    uint8_t *p = scratch[7];
    uint32_t a = 0;

    put_code(p, 1);
    for (uint32_t i = 1; i < 20; i++) {
        put_code(p, i);
        check(run((uint32_t)p) == i, "code that was changed");
    }
    for (uint32_t i = 0; i < 20; i++) {
        /* The next instruction, of the same block. */
        __asm__ volatile("movl %1, 1f + 1; jmp 1f; 1: mov $0x7777, %0"
                         : "=a"(a)
                         : "r"(i)
                         : "memory");
        check(a == i, "code that changes what follows");
    }
}

static void changed_pages(void)
{
    put_code(scratch[0] + 0x100, 10);
    put_code(scratch[1] + 0x100, 11);
    set_page(CODE, scratch[0], W | P);
    check(run(CODE + 0x100) == 10, "a page of code");
    set_page(CODE, scratch[1], W | P);
    check(run(CODE + 0x100) == 11, "another page of code");
    *(volatile uint32_t *)(scratch[1] + 0x101) = 12;
    check(run(CODE + 0x100) == 12, "code changed by another address");
    /* An instruction over two pages. */
    put_code(scratch[0] + 0xffd, 0x01020304);
    put_code(scratch[2] - 3, 0x05060708);
    put_code(scratch[3] - 3, 0x090a0b0c);
    scratch[0][0xffd] = 0xb8;
    scratch[0][0xffe] = scratch[0][0xfff] = 1;
    set_page(CODE, scratch[0], W | P);
    set_page(CODE2, scratch[2], W | P);
    check(run(CODE + 0xffd) == 0x05060101, "code over two pages");
    set_page(CODE2, scratch[3], W | P);
    check(run(CODE + 0xffd) == 0x090a0101, "code over two pages, the second another");
    set_page(CODE2, 0, 0);
    check(try(call, (void *)(CODE + 0xffd)) == VEC_PF && last_cr2 == CODE2 && last_error == 0 &&
              last_eip == CODE + 0xffd,
          "code into an absent page");
    set_page(CODE2, scratch[3], W | P);
}

void test_paging(void)
{
    rights();
    crossing();
    changed_pages();
}

/* --- the end of the 4 GiB --- */

void test_wrap(void)
{
    uint8_t *p = scratch[6], *low = scratch[7];
    uint32_t n = 300, sum = 0, target = CODE;

    set_page(TOP, p, W | P);
    put_code(p + 0xff0, 5);
    check(run(TOP + 0xff0) == 5, "code in the last page");
    put_code(p + 0xffa, 6); /* its RET is the last byte */
    check(run(TOP + 0xffa) == 6, "code in the last bytes");
    p[0xfff] = 0x90;
    set_page(0, scratch[4], W | P);
    put_code(scratch[4], 7);
    check(run(TOP + 0xfff) == 7, "code over the end");
    set_page(0, 0, 0);
    *(volatile uint32_t *)(TOP + 0xffc) = 0x66;
    __asm__ volatile("mov %%esp, %%esi; mov $0xfffffffc, %%esp; pop %0; mov %%esp, %%ecx\n"
                     "push $0x77; mov %%esi, %%esp"
                     : "=&a"(sum), "=&c"(n)
                     :
                     : "esi", "memory");
    check(sum == 0x66 && n == 0 && *(volatile uint32_t *)(TOP + 0xffc) == 0x77,
          "a stack over the end");
    n = 300;
    sum = 0;
    /* A loop of two jumps, one of them forwards over the end: add 3 there, count here. */
    set_page(TOP - 0x1000, scratch[5], W | P);
    set_page(CODE, low, W | P);
    static const uint8_t up[] = {0x83, 0xc0, 0x03, 0xe9}, down[] = {0x49, 0x74, 0x05, 0xe9};
    for (unsigned i = 0; i < 4; i++) {
        scratch[5][i] = up[i]; /* add eax, 3; jmp CODE */
        low[i] = down[i];      /* dec ecx; jz 1f; jmp there; 1: ret */
    }
    *(volatile uint32_t *)(scratch[5] + 4) = CODE - (TOP - 0x1000 + 8);
    *(volatile uint32_t *)(low + 4) = TOP - 0x1000 - (CODE + 8);
    low[8] = 0xc3;
    __asm__ volatile("call *%2" : "+a"(sum), "+c"(n) : "r"(target) : "memory");
    check(sum == 299 * 3 && n == 0, "a loop over the end");
    set_page(TOP, 0, 0);
    expect_pf(load, TOP + 0xff0, 0, TOP + 0xff0, "read of the last page, absent");
}
