/* CPUID, MSRs, control registers, segment bases, the TSC. */
#include "guests/selftest/selftest.h"

static uint32_t msr_index;
static uint64_t msr_value;

static void do_rdmsr(void *p)
{
    (void)p;
    msr_value = rdmsr(msr_index);
}
static void do_wrmsr(void *p)
{
    (void)p;
    wrmsr(msr_index, msr_value);
}
static void do_cr0(void *p)
{
    write_cr0((uintptr_t)p);
}
static void do_cr4(void *p)
{
    write_cr4((uintptr_t)p);
}
static void do_sse(void *p)
{
    (void)p;
    __asm__ volatile("xorps %xmm0, %xmm0");
}
static void do_x87(void *p)
{
    (void)p;
    __asm__ volatile("fnop");
}

static void test_cpuid(void)
{
    uint32_t r[4];
    uint64_t a = ~0ull, b = ~0ull, c = 0, d = ~0ull;

    cpuid(0, 0, r);
    check(r[0] >= 7, "CPUID goes to leaf 7");
    __asm__ volatile("cpuid" : "+a"(a), "+b"(b), "+c"(c), "+d"(d)); /* leaf 0xffffffff */
    check(!(a >> 32 | b >> 32 | c >> 32 | d >> 32), "CPUID clears the upper halves");
    check(has_cpuid(1, 3, 9), "CPUID: APIC");
    check(has_cpuid(0x80000001, 3, 29) && has_cpuid(0x80000001, 3, 20), "CPUID: long mode, NX");
    check(has_cpuid(0x80000001, 3, 11), "CPUID: SYSCALL");
    check_equal(has_cpuid(1, 2, 27), read_cr4() >> 18 & 1, "CPUID: OSXSAVE follows CR4");
}

static void test_msrs(void)
{
    struct frame f;
    static const uint32_t kept[] = {0xc0000081, 0xc0000082, 0xc0000084, 0xc0000102, 0x175, 0x176};

    check(rdmsr(0xc0000080) & 0x400, "EFER.LMA");
    for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        uint64_t old = rdmsr(kept[i]);

        wrmsr(kept[i], 0x12345670);
        check_equal(rdmsr(kept[i]), 0x12345670, "MSR keeps what is written");
        wrmsr(kept[i], old);
    }
    msr_index = 0x12345678;
    check_equal(bare_try(do_rdmsr, NULL, &f), 1 + 13, "#GP unknown MSR read");
    check_equal(bare_try(do_wrmsr, NULL, &f), 1 + 13, "#GP unknown MSR write");
    msr_index = 0xc0000082;
    msr_value = 0x8000000000000000;
    check_equal(bare_try(do_wrmsr, NULL, &f), 1 + 13, "#GP non-canonical LSTAR");
    msr_index = 0xc0000080;
    msr_value = rdmsr(0xc0000080) | 0x10000000;
    check_equal(bare_try(do_wrmsr, NULL, &f), 1 + 13, "#GP EFER reserved bit");
    msr_index = 0x277;
    msr_value = 0x0707070707070702; /* 2 is no memory type */
    check_equal(bare_try(do_wrmsr, NULL, &f), 1 + 13, "#GP PAT type 2");
}

static void test_control(void)
{
    struct frame f;
    uint64_t cr0 = read_cr0(), cr4 = read_cr4(), v;

    check_equal(bare_try(do_cr0, (void *)(cr0 & ~0x80000000ull), &f), 1 + 13,
                "#GP paging off in 64-bit mode");
    check_equal(bare_try(do_cr0, (void *)(cr0 | 0x20000000), &f), 1 + 13, "#GP NW without CD");
    check_equal(bare_try(do_cr0, (void *)(cr0 | 1ull << 40), &f), 1 + 13, "#GP CR0 upper half");
    check_equal(bare_try(do_cr4, (void *)(cr4 & ~0x20ull), &f), 1 + 13, "#GP PAE off");
    check_equal(bare_try(do_cr4, (void *)(cr4 | 1ull << 31), &f), 1 + 13, "#GP CR4 reserved bit");
    check(read_cr0() == cr0 && read_cr4() == cr4, "refused writes change nothing");

    write_cr0(cr0 | 8); /* TS */
    check_equal(bare_try(do_sse, NULL, &f), 1 + 7, "#NM SSE under TS");
    check_equal(bare_try(do_x87, NULL, &f), 1 + 7, "#NM x87 under TS");
    __asm__ volatile("clts");
    check_equal(read_cr0(), cr0, "CLTS");
    write_cr0(cr0 | 4); /* EM */
    check_equal(bare_try(do_sse, NULL, &f), 1 + 6, "#UD SSE under EM");
    check_equal(bare_try(do_x87, NULL, &f), 1 + 7, "#NM x87 under EM");
    write_cr0(cr0);
    write_cr4(cr4 & ~0x200ull); /* OSFXSR */
    check_equal(bare_try(do_sse, NULL, &f), 1 + 6, "#UD SSE without OSFXSR");
    write_cr4(cr4);
    check_equal(bare_try(do_sse, NULL, &f), 0, "SSE again");

    __asm__ volatile("movq %1, %%cr8\n\tmovq %%cr8, %0" : "=r"(v) : "r"(9ull));
    check_equal(v, 9, "CR8");
    __asm__ volatile("movq %0, %%cr8" : : "r"(0ull));
    __asm__ volatile("movq %1, %%cr2\n\tmovq %%cr2, %0" : "=r"(v) : "r"(0x123456789abcull));
    check_equal(v, 0x123456789abc, "CR2");
    __asm__ volatile("smsw %0" : "=r"(v));
    check_equal(v & 0xffff, cr0 & 0xffff, "SMSW");
}

static void test_segments(void)
{
    static uint64_t cells[4] = {0x1111, 0x2222, 0x3333, 0x4444};
    uint64_t v, lar = 0, lsl = 0;
    uint16_t sel;
    uint8_t ok;

    wrmsr(0xc0000100, (uintptr_t)cells);
    wrmsr(0xc0000101, (uintptr_t)(cells + 1));
    wrmsr(0xc0000102, (uintptr_t)(cells + 2));
    __asm__ volatile("movq %%fs:0, %0" : "=r"(v));
    check_equal(v, 0x1111, "FS base");
    __asm__ volatile("movq %%gs:0, %0" : "=r"(v));
    check_equal(v, 0x2222, "GS base");
    __asm__ volatile("swapgs\n\tmovq %%gs:8, %0\n\tswapgs" : "=r"(v));
    check_equal(v, 0x4444, "SWAPGS");
    __asm__ volatile("movq %%gs:8, %0" : "=r"(v));
    check_equal(v, 0x3333, "SWAPGS back");
    __asm__ volatile("str %0" : "=r"(sel));
    check_equal(sel, SEL_TSS, "STR");
    __asm__ volatile("larl %2, %k0\n\tsetz %1" : "+r"(lar), "=r"(ok) : "r"(SEL_CODE));
    check(ok && (lar & 0xff00) == 0x9b00, "LAR");
    __asm__ volatile("lsll %2, %k0\n\tsetz %1" : "+r"(lsl), "=r"(ok) : "r"(SEL_DATA));
    check(ok && lsl == 0xffffffff, "LSL");
    __asm__ volatile("larl %1, %%ecx\n\tsetz %0" : "=r"(ok) : "r"(0x1000) : "rcx");
    check(!ok, "LAR beyond the GDT");
    __asm__ volatile("verw %1\n\tsetz %0" : "=r"(ok) : "r"((uint16_t)SEL_CODE));
    check(!ok, "VERW of code");
}

static void test_tsc(void)
{
    uint64_t t = rdtsc(), last = t, start = t;
    bool back = false;
    uint32_t lo, hi, aux;

    for (unsigned i = 0; i < 20000; i++) {
        t = rdtsc();
        back |= t < last;
        last = t;
    }
    check(!back, "TSC never goes back");
    check(last > start, "TSC moves");
    if (has_cpuid(0x80000001, 3, 27)) {
        wrmsr(0xc0000103, 0x1234);
        __asm__ volatile("rdtscp" : "=a"(lo), "=d"(hi), "=c"(aux));
        check(aux == 0x1234 && ((uint64_t)hi << 32 | lo) >= last, "RDTSCP");
    }
}

/* The instruction in STI's shadow is one that RAM cannot answer. */
static void test_sti(void)
{
    uint64_t flags;

    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    for (unsigned i = 0; i < 3; i++) {
        __asm__ volatile("sti\n\tcmpb $0, 0xb0(%1)\n\tpushfq\n\tcli\n\tpopq %0"
                         : "=r"(flags)
                         : "r"(0xfee00000ull)
                         : "memory", "cc");
        check_equal(flags & 0x200, 0x200, "a device access after STI");
    }
}

void test_system(void)
{
    test_cpuid();
    test_msrs();
    test_control();
    test_segments();
    test_tsc();
    test_sti();
}
