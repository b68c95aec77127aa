/* CPL 3; PAE and 4-level paging; compatibility mode and 64-bit code. */
#include "guests/flat32/flat32.h"

enum { P = 1, W = 2, U = 4, PS = 0x80 };

static void wrmsr(uint32_t msr, uint32_t lo)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"(lo), "d"(0));
}

static uint64_t rdmsr(uint32_t msr)
{
    uint64_t val;

    __asm__ volatile("rdmsr" : "=A"(val) : "c"(msr));
    return val;
}

static void user_sum(void *p)
{
    volatile uint32_t *w = p;

    w[1] = 0;
    for (uint32_t i = 0; i < 100; i++)
        w[1] += i * w[0];
    user_done();
}

static void user_cli(void *p)
{
    (void)p;
    __asm__ volatile("cli");
}

static void user_out(void *p)
{
    (void)p;
    __asm__ volatile("outb %%al, $0x80" : :);
}

static void user_break(void *p)
{
    (void)p;
    __asm__ volatile("int3");
}

static void user_load(void *p)
{
    (void)*(volatile uint32_t *)p;
    user_done();
}

static void user_store(void *p)
{
    *(volatile uint32_t *)p = 1;
    user_done();
}

static void user_gs(void *p)
{
    (void)p;
    __asm__ volatile("mov %%gs:0, %%eax" : : : "eax"); /* null since IRET */
}

static void at_cpl3(void)
{
    uint32_t *w = (uint32_t *)scratch[1];

    w[0] = 3;
    check(try_user(user_sum, w) == 0x80 && w[1] == 4950 * 3, "a sum at CPL 3");
    check(try_user(user_cli, 0) == VEC_GP && last_error == 0, "cli at CPL 3");
    check(try_user(user_out, 0) == VEC_GP, "out at CPL 3");
    check(try_user(user_break, 0) == VEC_BP, "int3 at CPL 3");
    check(try_user(user_gs, 0) == VEC_GP, "null GS at CPL 3");
}

void test_user(void)
{
    at_cpl3();
    /* The first 4 MiB have pages that test_paging() left to the supervisor. */
    check(try_user(user_load, (void *)0x5010) == VEC_PF && last_error == 5 && last_cr2 == 0x5010,
          "CPL 3 reads the supervisor's page");
    check(try_user(user_store, (void *)0x5010) == VEC_PF && last_error == 7,
          "CPL 3 writes the supervisor's page");
    wrmsr(0x174, CODE32);
    wrmsr(0x175, (uint32_t)scratch[2]);
    wrmsr(0x176, (uint32_t)sysenter_here);
    syscalls = 0;
    check(try_user(user_sysenter, 0) == 0x80 && syscalls == 50, "sysenter, sysexit");
}

/* --- PAE, 4 levels: 2 MiB pages, the first 4 GiB as they are --- */

static uint64_t pml4[512] __attribute__((aligned(4096)));
static uint64_t pdpt[512] __attribute__((aligned(4096)));
static uint64_t pae_pdpt[4] __attribute__((aligned(4096)));
static uint64_t pd[4][512] __attribute__((aligned(4096)));

static void make_tables(void)
{
    for (uint32_t i = 0; i < 4 * 512; i++)
        pd[i / 512][i % 512] = (uint64_t)i << 21 | PS | U | W | P;
    for (unsigned i = 0; i < 4; i++) {
        pae_pdpt[i] = (uint32_t)pd[i] | P;
        pdpt[i] = (uint32_t)pd[i] | U | W | P;
    }
    pml4[0] = (uint32_t)pdpt | U | W | P;
}

static void set_paging(bool on, void *cr3)
{
    uint32_t cr0, cr4;

    __asm__ volatile("mov %%cr0, %0; mov %%cr4, %1" : "=r"(cr0), "=r"(cr4));
    __asm__ volatile("mov %0, %%cr0" : : "r"(cr0 & 0x7fffffff) : "memory");
    cr4 = on ? cr4 | 0x20 : cr4 & ~0x20u;
    __asm__ volatile("mov %0, %%cr4; mov %1, %%cr3" : : "r"(cr4), "r"(cr3) : "memory");
    if (on)
        __asm__ volatile("mov %0, %%cr0" : : "r"(cr0 | 0x80010000) : "memory");
}

static void call(void *p)
{
    ((void (*)(void))p)();
}

static bool has_nx(void)
{
    uint32_t a = 0x80000001, d;

    __asm__ volatile("cpuid" : "+a"(a), "=d"(d) : : "ebx", "ecx");
    return d >> 20 & 1;
}

/* 1 GiB up is the image again, to run and then not to run. */
void test_pae(void)
{
    uint8_t *code = scratch[4] + 0x20;
    uint32_t at = (uint32_t)code + 0x40000000;
    void *up = (void *)at;

    make_tables();
    wrmsr(0xc0000080, (uint32_t)rdmsr(0xc0000080) | (has_nx() ? 0x800 : 0));
    pd[1][2] = 0x400000 | PS | U | W | P;
    set_paging(true, pae_pdpt);
    code[0] = 0xc3;
    check(try(call, up) == NONE, "code by PAE");
    if (has_nx()) {
        pd[1][2] |= (uint64_t)1 << 63;
        __asm__ volatile("invlpg (%0)" : : "r"(at) : "memory");
        check(try(call, up) == VEC_PF && last_error == 0x11 && last_cr2 == at, "no execute");
    }
    pd[1][2] = 0;
    __asm__ volatile("invlpg (%0)" : : "r"(at) : "memory");
    check(try(call, up) == VEC_PF && last_error == (has_nx() ? 0x10 : 0), "absent by PAE");
    test_insns();
    test_segments();
    set_paging(false, 0);
    wrmsr(0xc0000080, (uint32_t)rdmsr(0xc0000080) & ~0x800u);
}

/* --- long mode --- */

static uint32_t dual32(uint32_t a)
{
    __asm__ volatile("call dual" : "+a"(a));
    return a;
}

void test_long(void)
{
    make_tables();
    enter_long(pml4);
    for (uint32_t i = 1; i < 30; i++) {
        check(call64(sum64, i) == i * (i + 1) * (2 * i + 1) / 6, "64-bit code");
        /* The same bytes at the same address. */
        check(dual32(i) == i - 2, "bytes as 32-bit code");
        check(call64(dual, 0) == (uint32_t)dual - 1, "bytes as 64-bit code");
        /* Its registers' upper halves are not these addresses'. */
        check(probed == probe, "32-bit code after that");
        probe++;
    }
    plain_tests();
    at_cpl3();
    leave_long();
    check(dual32(5) == 3, "long mode left");
}
