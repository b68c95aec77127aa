/*
 * Vector and x87 state stays in the host's registers while the guest runs. Here it is filled, then
 * something happens that takes the engine out of the guest's code, or through another way of it,
 * and every register, MXCSR and x87's words must be what they were. Nothing else in this guest
 * uses them: it is compiled for the general registers only.
 */
#include "guests/selftest/selftest.h"

struct state {
    uint8_t ymm[16][32];
    uint8_t st[8][16];
    uint32_t mxcsr;
    uint16_t fcw, fsw;
    uint16_t env[14];
};
static struct state before, after;
static bool avx;
static volatile unsigned interrupts;

#define LAPIC(reg) (*(volatile uint32_t *)(0xfee00000ul + (reg)))

static void fill(uint64_t seed)
{
    uint8_t *b = (uint8_t *)&before;
    uint64_t x = seed * 0x9e3779b97f4a7c15 + 1;

    for (unsigned i = 0; i < sizeof(before); i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        b[i] = (uint8_t)x;
    }
    for (unsigned i = 0; i < 8; i++) { /* normal numbers: FLD changes no other */
        before.st[i][7] |= 0x80;
        before.st[i][9] = (uint8_t)(0x3f | (i & 1) << 7);
    }
    before.mxcsr = 0x1f80 | 0xa03f; /* all masked, flags set, FTZ, round down */
    before.fcw = 0x0e7f;            /* all masked, 53 bits, round to zero... */
}

#define EACH(n) \
    n(0) n(1) n(2) n(3) n(4) n(5) n(6) n(7) n(8) n(9) n(10) n(11) n(12) n(13) n(14) n(15)
#define LOAD_XMM(n)  "movups 32*" #n "(%0), %%xmm" #n "\n\t"
#define LOAD_YMM(n)  "vmovups 32*" #n "(%0), %%ymm" #n "\n\t"
#define STORE_XMM(n) "movups %%xmm" #n ", 32*" #n "(%0)\n\t"
#define STORE_YMM(n) "vmovups %%ymm" #n ", 32*" #n "(%0)\n\t"
#define EACH_ST(n)   n(0) n(1) n(2) n(3) n(4) n(5) n(6) n(7)
#define LOAD_ST(n)   "fldt 16*" #n "(%0)\n\t"
#define STORE_ST(n)  "fstpt 16*(7-" #n ")(%0)\n\t"

static void load(const struct state *s)
{
    __asm__ volatile("fninit\n\tfldcw %1\n\tldmxcsr %2\n\t" EACH_ST(LOAD_ST)
                     :
                     : "r"(s->st), "m"(s->fcw), "m"(s->mxcsr));
    if (avx)
        __asm__ volatile(EACH(LOAD_YMM) : : "r"(s->ymm));
    else
        __asm__ volatile(EACH(LOAD_XMM) : : "r"(s->ymm));
}

static void store(struct state *s)
{
    if (avx)
        __asm__ volatile(EACH(STORE_YMM) : : "r"(s->ymm) : "memory");
    else
        __asm__ volatile(EACH(STORE_XMM) : : "r"(s->ymm) : "memory");
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1\n\tfnstsw %2"
                     : "=m"(s->mxcsr), "=m"(s->fcw), "=m"(s->fsw));
    __asm__ volatile("fnstenv %0\n\tfldenv %0" : "+m"(s->env));
    __asm__ volatile(EACH_ST(STORE_ST) "fninit" : : "r"(s->st) : "memory");
}

static bool same(const void *a, const void *b, unsigned n)
{
    const uint8_t *x = a, *y = b;

    while (n && *x == *y)
        n--, x++, y++;
    return !n;
}

static bool intact(void)
{
    bool ok = before.mxcsr == after.mxcsr && before.fcw == after.fcw && after.fsw == 0;

    for (unsigned i = 0; i < 16; i++)
        ok &= same(before.ymm[i], after.ymm[i], avx ? 32 : 16);
    for (unsigned i = 0; i < 8; i++)
        ok &= same(before.st[i], after.st[i], 10);
    return ok && after.env[4] == 0; /* the tag word: eight numbers */
}

/* --- what happens meanwhile --- */

static void port_in(void *p)
{
    uint32_t v;

    (void)p;
    for (uint16_t port = 0x20; port < 0x100; port++) /* 8259, 8254, i8042, RTC, and nothing */
        if (port != 0x60 && port != 0xe0)
            inb(port);
    inb(0x3fd);
    __asm__ volatile("inw %1, %w0" : "=a"(v) : "d"((uint16_t)0x1234));
    __asm__ volatile("inl %1, %0" : "=a"(v) : "d"((uint16_t)0xcfc));
}

static void port_out(void *p)
{
    (void)p;
    for (unsigned i = 0; i < 64; i++) {
        outb(0x80, (uint8_t)i);
        outb(0x3ff, (uint8_t)i); /* the serial port's scratch register */
    }
    bare_print("written meanwhile\n");
}

static void port_string(void *p)
{
    void *d = frames[6];
    const void *s = frames[6];
    uint64_t n = 100, m = 100;

    (void)p;
    __asm__ volatile("rep insb" : "+D"(d), "+c"(n) : "d"(0x3ff) : "memory");
    __asm__ volatile("rep outsb" : "+S"(s), "+c"(m) : "d"(0x80) : "memory");
}

static void mmio(void *p)
{
    (void)p;
    for (unsigned i = 0; i < 16; i++) {
        LAPIC(0x80) = LAPIC(0x80);
        *(volatile uint32_t *)0xfec00000 = i;
        (void)*(volatile uint32_t *)0xfec00010;
        (void)*(volatile uint64_t *)(0xf0000000ul + i * 4096); /* nothing there */
        *(volatile uint8_t *)(0xf0000000ul + i * 4096) = 0;
    }
}

/* Without a hypervisor that knows it, #UD. */
static void vmcall(void *p)
{
    uint64_t ignored;

    (void)p;
    __asm__ volatile("vmcall" : "=a"(ignored) : "a"(99) : "rbx", "rcx", "rdx", "rsi", "memory");
}

static void system_instructions(void *p)
{
    struct frame f;
    uint32_t r[4];
    uint64_t cr3;

    (void)p;
    for (unsigned leaf = 0; leaf < 16; leaf++)
        cpuid(leaf, 0, r);
    wrmsr(0xc0000102, rdmsr(0xc0000102));
    rdtsc();
    __asm__ volatile("movq %%cr3, %0\n\tmovq %0, %%cr3" : "=r"(cr3) : : "memory");
    write_cr4(read_cr4() ^ 1 << 7);
    write_cr4(read_cr4() ^ 1 << 7);
    invlpg(frames);
    __asm__ volatile("wbinvd\n\tpause\n\tsgdt (%0)" : : "r"(frames[6]) : "memory");
    bare_try(vmcall, NULL, &f);
}

static void task_switched(void *p)
{
    (void)p;
    write_cr0(read_cr0() | 8); /* TS: whoever uses them now traps */
    bare_print("written with CR0.TS\n");
    __asm__ volatile("clts");
}

static void do_ud2(void *p)
{
    (void)p;
    __asm__ volatile("ud2");
}
static void do_divide(void *p)
{
    (void)p;
    __asm__ volatile("xorl %%ecx, %%ecx\n\tdivl %%ecx" : : "a"(1), "d"(0) : "rcx", "cc");
}
static void do_int3(void *p)
{
    (void)p;
    __asm__ volatile("int3");
}

static void exceptions(void *p)
{
    struct frame f;

    (void)p;
    for (unsigned i = 0; i < 8; i++) {
        bare_try(do_ud2, NULL, &f);
        bare_try(do_divide, NULL, &f);
        bare_try(do_int3, NULL, &f);
        bare_try(try_read, (void *)0x300000123, &f);
        bare_try(try_write, (void *)0x8000000000000000, &f);
    }
}

static void on_fault(struct frame *f)
{
    (void)f;
    region_map((unsigned)((read_cr2() - REGION) / 4096), 1, P | W);
}

/* Page faults whose handler maps the page: the access is done then. */
static void demand_paging(void *p)
{
    (void)p;
    bare_on(14, on_fault);
    for (unsigned i = 0; i < 64; i++)
        *(volatile uint8_t *)(REGION + (uint64_t)i * 4096 + 5) = (uint8_t)i;
    bare_on(14, NULL);
    for (unsigned i = 0; i < 64; i++)
        region_unmap(i);
}

/* Code that is written anew before every call. */
static void self_modification(void *p)
{
    static uint8_t code[64] __attribute__((aligned(64))) = {0xb8, 0, 0, 0, 0, 0xc3};
    uint64_t eax;

    (void)p;
    for (unsigned i = 0; i < 200; i++) {
        *(volatile uint32_t *)(code + 1) = i;
        __asm__ volatile("call *%1" : "=a"(eax) : "r"(code) : "memory");
    }
}

static void on_interrupt(struct frame *f)
{
    (void)f;
    interrupts++;
    LAPIC(0xb0) = 0;
}

static void self_ipi(void *p)
{
    (void)p;
    for (unsigned i = 0; i < 32; i++) {
        LAPIC(0x300) = 1 << 18 | 1 << 14 | 0x60;
        __asm__ volatile("sti\n\tnop\n\tcli" : : : "memory");
    }
}

static void timer(unsigned n, bool halt)
{
    uint64_t x = 1;

    interrupts = 0;
    LAPIC(0x3e0) = 0xb;
    LAPIC(0x320) = 1 << 17 | 0x60; /* periodic */
    LAPIC(0x380) = 200000;
    __asm__ volatile("sti" : : : "memory");
    while (interrupts < n)
        if (halt)
            __asm__ volatile("hlt" : : : "memory");
        else
            for (unsigned i = 0; i < 1000; i++)
                __asm__ volatile("imulq $3, %0\n\taddq $1, %0" : "+r"(x) : : "cc");
    __asm__ volatile("cli" : : : "memory");
    LAPIC(0x380) = 0;
    LAPIC(0x320) = 1 << 16;
}
static void timer_spin(void *p)
{
    (void)p;
    timer(20, false);
}
static void timer_halt(void *p)
{
    (void)p;
    timer(20, true);
}

static void single_steps(void *p)
{
    struct frame f;

    (void)p;
    for (unsigned i = 0; i < 8; i++)
        bare_try((void (*)(void *))(uintptr_t)p, NULL, &f);
}
static void do_step(void *p)
{
    (void)p;
    __asm__ volatile("pushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\tnop\n\tnop" : : : "cc", "memory");
}

static void spoil(void *p)
{
    (void)p;
    __asm__ volatile("pxor %xmm11, %xmm11");
}

static bool survives(void (*fn)(void *), void *arg, uint64_t seed)
{
    fill(seed);
    load(&before);
    fn(arg);
    store(&after);
    return intact();
}

void test_survival(void)
{
    static const struct {
        const char *name;
        void (*fn)(void *);
    } happens[] = {
        {"vectors survive IN", port_in},
        {"vectors survive OUT and output", port_out},
        {"vectors survive INS and OUTS", port_string},
        {"vectors survive MMIO", mmio},
        {"vectors survive CPUID, MSRs, control registers, VMCALL", system_instructions},
        {"vectors survive CR0.TS", task_switched},
        {"vectors survive exceptions", exceptions},
        {"vectors survive page faults", demand_paging},
        {"vectors survive self-modification", self_modification},
        {"vectors survive self-IPIs", self_ipi},
        {"vectors survive timer interrupts", timer_spin},
        {"vectors survive HLT until an interrupt", timer_halt},
        {"vectors survive single steps", single_steps},
    };

    avx = has_cpuid(1, 2, 28) && (read_cr4() >> 18 & 1);
    bare_on(0x60, on_interrupt);
    LAPIC(0xf0) = 0x1ff;
    check(!survives(spoil, NULL, 1), "a vector register that changes is noticed");
    for (unsigned i = 0; i < sizeof(happens) / sizeof(*happens); i++) {
        bool ok = true;

        for (unsigned k = 0; k < 4; k++)
            ok &= survives(happens[i].fn, (void *)(uintptr_t)do_step, 16 * i + k + 2);
        check(ok, happens[i].name);
    }
    LAPIC(0xf0) = 0xff;
    bare_on(0x60, NULL);
}
