/* The runtime's start: descriptor tables, the program's stack and arguments, crash reports. */
#include "guests/runtime/runtime.h"

struct mayfly_boot runtime_boot;

int main(int argc, char **argv, char **envp);
_Noreturn void runtime_enter(uint64_t sp, int (*program)(int, char **, char **), int argc,
                             char **argv);
_Noreturn void runtime_main(const struct mayfly_boot *boot);
_Noreturn void runtime_crash(uint64_t vector, uint64_t error, const uint64_t *frame);

enum { SEL_CODE = 0x08, SEL_DATA = 0x10, SEL_TSS = 0x18 };

#define MSR_EFER  0xc0000080u
#define MSR_STAR  0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_FMASK 0xc0000084u

#define CPUID_XSAVE     (1u << 26) /* CPUID.1:ECX */
#define CPUID_XSAVE_AVX (CPUID_XSAVE | 1u << 28)

struct table_pointer {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

static uint64_t gdt[5] = {0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0, 0};
static struct {
    uint32_t reserved0;
    uint64_t rsp[3], reserved1, ist[7], reserved2;
    uint16_t reserved3, io_map;
} __attribute__((packed)) tss = {.io_map = 104};
static struct {
    uint16_t offset0, sel;
    uint8_t ist, type;
    uint16_t offset1;
    uint32_t offset2, zero;
} idt[32];
static char crash_stack[4096] __attribute__((aligned(16)));

static inline void wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)));
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;

    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (uint64_t)hi << 32 | lo;
}

int64_t runtime_call(uint32_t op, uint32_t fd, const void *buf, uint64_t len)
{
    struct mayfly_call c __attribute__((aligned(8))) = {
        .op = op, .fd = fd, .gpa = (uintptr_t)buf, .len = len, .ret = -E_NOSYS};

    __asm__ volatile("outl %0, %1"
                     :
                     : "a"((uint32_t)(uintptr_t)&c), "d"((uint16_t)runtime_boot.hypercall_port)
                     : "memory");
    return c.ret;
}

_Noreturn void runtime_exit(int status)
{
    runtime_call(MAYFLY_CALL_EXIT, 0, NULL, (uint8_t)status);
    for (;;)
        __asm__ volatile("cli; hlt");
}

static void load_tables(void)
{
    uint64_t t = (uintptr_t)&tss;

    tss.ist[0] = (uintptr_t)crash_stack + sizeof(crash_stack);
    gdt[3] = (sizeof(tss) - 1) | (t & 0xffffff) << 16 | 0x89ull << 40 | (t >> 24 & 0xff) << 56;
    gdt[4] = t >> 32;
    for (unsigned i = 0; i < 32; i++) {
        uint64_t h = (uintptr_t)exception_stubs + i * EXCEPTION_STUB;

        idt[i].offset0 = (uint16_t)h;
        idt[i].sel = SEL_CODE;
        idt[i].ist = 1;
        idt[i].type = 0x8e;
        idt[i].offset1 = (uint16_t)(h >> 16);
        idt[i].offset2 = (uint32_t)(h >> 32);
    }
    struct table_pointer gp = {sizeof(gdt) - 1, (uintptr_t)gdt};
    struct table_pointer ip = {sizeof(idt) - 1, (uintptr_t)idt};

    __asm__ volatile("lgdt %0\n\t"
                     "pushq %2\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\tmovl %3, %%eax\n\t"
                     "movl %%eax, %%ds\n\t"
                     "movl %%eax, %%es\n\t"
                     "movl %%eax, %%ss\n\t"
                     "lidt %1\n\t"
                     "ltr %w4"
                     :
                     : "m"(gp), "m"(ip), "i"(SEL_CODE), "i"(SEL_DATA), "r"(SEL_TSS)
                     : "rax", "memory");
}

/* SSE for every program, AVX where the CPU has it; SYSCALL to syscall_entry with IF, DF, TF, AC
 * cleared. STAR: the CPU loads CS from bits 47:32 and SS from the next selector. */
static void enable_cpu(void)
{
    uint64_t cr0, cr4;
    uint32_t a = 1, b, c = 0, d;

    __asm__ volatile("movq %%cr0, %0" : "=r"(cr0));
    __asm__ volatile("movq %0, %%cr0" : : "r"((cr0 & ~0xcull) | 0x22)); /* EM, TS off; MP, NE on */
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    __asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
    cr4 |= 0x600; /* OSFXSR, OSXMMEXCPT */
    if (c & CPUID_XSAVE)
        cr4 |= 1u << 18; /* OSXSAVE */
    __asm__ volatile("movq %0, %%cr4" : : "r"(cr4));
    if ((c & CPUID_XSAVE_AVX) == CPUID_XSAVE_AVX)
        __asm__ volatile("xsetbv" : : "c"(0), "a"(7), "d"(0));

    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | 1);
    wrmsr(MSR_STAR, (uint64_t)SEL_CODE << 32);
    wrmsr(MSR_LSTAR, (uintptr_t)syscall_entry);
    wrmsr(MSR_FMASK, 0x40700);
}

/* Split the command line in place: spaces separate, '...' and "..." keep them. */
static int split(char *s, char **argv, int max)
{
    int n = 0;

    for (;;) {
        while (*s == ' ')
            s++;
        if (!*s || n == max)
            return n;
        char *out = s, quote = 0;

        argv[n++] = out;
        while (*s && (quote || *s != ' ')) {
            if (quote ? *s == quote : *s == '\'' || *s == '"')
                quote = quote ? 0 : *s;
            else
                *out++ = *s;
            s++;
        }
        char end = *s;

        *out = 0;
        if (!end)
            return n;
        s++;
    }
}

extern const char __ehdr_start[]; /* the linker's: our ELF header is loaded with the text */

#define MAX_ARGS 1024

_Noreturn void runtime_main(const struct mayfly_boot *boot)
{
    static char *argv[MAX_ARGS + 2];
    uint64_t top, *sp;
    int argc;

    move_bytes(&runtime_boot, boot, sizeof(runtime_boot));
    load_tables();
    enable_cpu();
    clock_init();

    memory_init(8u << 20, &top);
    /* The strings: split where the monitor put them (low memory, ours alone from here on). */
    argv[0] = (char *)"guest";
    argc = 1 + split((char *)(uintptr_t)runtime_boot.cmdline_gpa, argv + 1, MAX_ARGS);

    /* The System V start frame: argc, argv, NULL, envp NULL, auxiliary vector, on a 16-aligned
     * stack (psABI 3.4.1). */
    const uint16_t *half = (const uint16_t *)__ehdr_start;
    const uint64_t *quad = (const uint64_t *)__ehdr_start;
    uint8_t *secret = (uint8_t *)(top -= 16);

    random_bytes(secret, 16);
    const uint64_t aux[] = {
        3 /* AT_PHDR */,
        (uintptr_t)__ehdr_start + quad[4],
        4 /* AT_PHENT */,
        half[27],
        5 /* AT_PHNUM */,
        half[28],
        6 /* AT_PAGESZ */,
        4096,
        17 /* AT_CLKTCK */,
        100,
        25 /* AT_RANDOM */,
        (uintptr_t)secret,
        0,
        0,
    };
    const unsigned naux = sizeof(aux) / sizeof(aux[0]);

    sp = (uint64_t *)((top - 8 * (1 + (uint64_t)argc + 1 + 1 + naux)) & ~15ull);
    sp[0] = (uint64_t)argc;
    for (int i = 0; i <= argc; i++)
        sp[1 + i] = (uintptr_t)argv[i];
    sp[1 + argc + 1] = 0;
    for (unsigned i = 0; i < naux; i++)
        sp[1 + argc + 2 + i] = aux[i];
    runtime_enter((uintptr_t)sp, main, argc, (char **)(sp + 1));
}

static char *put_hex(char *p, const char *name, uint64_t v)
{
    while (*name)
        *p++ = *name++;
    *p++ = '0';
    *p++ = 'x';
    int shift = 60;

    while (shift && !(v >> shift))
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        *p++ = "0123456789abcdef"[v >> shift & 15];
    return p;
}

/* frame: RIP, CS, RFLAGS, RSP, SS as the CPU pushed them. */
_Noreturn void runtime_crash(uint64_t vector, uint64_t error, const uint64_t *frame)
{
    enum { ILL = 4, TRAP = 5, BUS = 7, FPE = 8, SEGV = 11 };
    static const uint8_t signal[32] = {
        [0] = FPE, [1] = TRAP, [3] = TRAP, [6] = ILL, [16] = FPE, [17] = BUS, [19] = FPE};
    uint64_t cr2;
    char line[192], *p = line;

    __asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
    p = put_hex(p, "guest: exception ", vector);
    p = put_hex(p, " error ", error);
    p = put_hex(p, " at rip ", frame[0]);
    p = put_hex(p, " rsp ", frame[3]);
    if (vector == 14)
        p = put_hex(p, " address ", cr2);
    *p++ = '\n';
    runtime_call(MAYFLY_CALL_WRITE, 2, line, (uint64_t)(p - line));
    runtime_exit(128 + (signal[vector & 31] ? signal[vector & 31] : SEGV));
}
