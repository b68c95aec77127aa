/* The virtual CPU: descriptor tables, SYSCALL, vector state, the local APIC's timer, traps. */
#include "guests/runtime/net.h"
#include "guests/runtime/process.h"
#include "guests/runtime/standalone.h"
#include "guests/runtime/vm.h"

enum { SEL_KCODE = 0x08, SEL_TSS = 0x38, SEL_SYSRET = 0x23 };

#define MSR_EFER         0xc0000080u
#define MSR_STAR         0xc0000081u
#define MSR_LSTAR        0xc0000082u
#define MSR_FMASK        0xc0000084u
#define MSR_FS_BASE      0xc0000100u
#define MSR_GS_BASE      0xc0000101u
#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define X2APIC_EOI       0x80bu
#define X2APIC_SVR       0x80fu
#define X2APIC_LVT_TIMER 0x832u

#define CR4_WANTED  0x600ull   /* OSFXSR, OSXMMEXCPT */
#define CR4_OSXSAVE 0x40000ull /* SDM 3A 2.5 */
#define XCR0_WANTED 0xe7ull    /* x87, SSE, AVX, AVX-512 */
#define FMASK       0x47700ull /* TF IF DF IOPL NT AC cleared on entry */

struct table_pointer {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

/* Linux's numbers for the program: 0x33 code, 0x2b data. */
static uint64_t gdt[9] = {0,
                          0x00af9b000000ffff,
                          0x00cf93000000ffff,
                          0,
                          0x00cffb000000ffff,
                          0x00cff3000000ffff,
                          0x00affb000000ffff,
                          0,
                          0};
static struct {
    uint32_t reserved0;
    uint64_t rsp[3], reserved1, ist[7], reserved2;
    uint16_t reserved3, io_map;
} __attribute__((packed)) tss = {.io_map = 104};
extern const char idt[], idt_end[];
static char fault_stack[4096] __attribute__((aligned(16)));

uint32_t fpu_bytes = 512;
uint64_t fpu_mask;
static uint64_t armed = NEVER;
static bool xapic; /* xapic.c has the timer */

static inline void wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;

    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (uint64_t)hi << 32 | lo;
}

static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    __asm__("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}

void cpu_set_kernel_stack(uint64_t top)
{
    kernel_sp = tss.rsp[0] = top;
}

void cpu_set_fs(uint64_t base)
{
    wrmsr(MSR_FS_BASE, base);
}

void cpu_set_gs(uint64_t base)
{
    wrmsr(MSR_GS_BASE, base);
}

static void load_tables(void)
{
    uint64_t t = (uintptr_t)&tss;

    tss.ist[0] = (uintptr_t)fault_stack + sizeof(fault_stack);
    gdt[7] = (sizeof(tss) - 1) | (t & 0xffffff) << 16 | 0x89ull << 40 | (t >> 24 & 0xff) << 56;
    gdt[8] = t >> 32;
    struct table_pointer gp = {sizeof(gdt) - 1, (uintptr_t)gdt};
    struct table_pointer ip = {(uint16_t)(idt_end - idt - 1), (uintptr_t)idt};

    __asm__ volatile("lgdt %0\n\t"
                     "pushq %2\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\txorl %%eax, %%eax\n\t"
                     "movl %%eax, %%ds\n\t"
                     "movl %%eax, %%es\n\t"
                     "movl %%eax, %%fs\n\t"
                     "movl %%eax, %%gs\n\t"
                     "movl $0x10, %%eax\n\t"
                     "movl %%eax, %%ss\n\t"
                     "lidt %1\n\t"
                     "ltr %w3"
                     :
                     : "m"(gp), "m"(ip), "i"(SEL_KCODE), "r"(SEL_TSS)
                     : "rax", "memory");
}

static void enable_vectors(void)
{
    uint64_t cr4;
    uint32_t r[4], mask;

    __asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
    cr4 |= CR4_WANTED;
    cpuid(1, 0, r);
    if (r[2] & 1u << 26) {
        __asm__ volatile("movq %0, %%cr4" : : "r"(cr4 | CR4_OSXSAVE));
        cpuid(0xd, 0, r);
        mask = r[0] & XCR0_WANTED;
        if ((mask & 0xe0) != 0xe0)
            mask &= 7;
        __asm__ volatile("xsetbv" : : "c"(0), "a"(mask), "d"(0));
        cpuid(0xd, 0, r);
        fpu_bytes = r[1];
        fpu_mask = mask;
    } else {
        __asm__ volatile("movq %0, %%cr4" : : "r"(cr4));
    }
    __asm__ volatile("fninit");
}

static bool ring3(void)
{
    return boot.flags & MAYFLY_BOOT_RING3;
}

void fpu_save(void *area)
{
    if (ring3())
        ring3_fpu_save(area, (char *)&tss + 4);
    else if (fpu_mask)
        __asm__ volatile("xsave64 (%0)" : : "r"(area), "a"((uint32_t)fpu_mask), "d"(0) : "memory");
    else
        __asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
}

void fpu_load(const void *area)
{
    if (ring3())
        ring3_fpu_load(area, (char *)&tss + 4);
    else if (fpu_mask)
        __asm__ volatile("xrstor64 (%0)" : : "r"(area), "a"((uint32_t)fpu_mask), "d"(0) : "memory");
    else
        __asm__ volatile("fxrstor64 (%0)" : : "r"(area) : "memory");
}

/* The state after FNINIT: control word 0x37f, MXCSR 0x1f80, the rest initial (XSTATE_BV 0). */
void fpu_fresh(void *area)
{
    fill(area, 0, fpu_mask ? 576 : 512);
    *(uint16_t *)area = 0x37f;
    *(uint32_t *)((char *)area + 24) = 0x1f80;
}

void cpu_init(void)
{
    load_tables();
    enable_vectors();
    wrmsr(MSR_STAR, (uint64_t)SEL_SYSRET << 48 | (uint64_t)SEL_KCODE << 32);
    wrmsr(MSR_LSTAR, (uintptr_t)syscall_entry);
    wrmsr(MSR_FMASK, FMASK);
    xapic = xapic_init && !boot.hypercall_port && xapic_init();
    if (xapic)
        return;
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xc00); /* x2APIC */
    wrmsr(X2APIC_SVR, 0x100 | VECTOR_SPURIOUS);
    wrmsr(X2APIC_LVT_TIMER, 2u << 17 | VECTOR_TIMER); /* TSC deadline */
}

void timer_arm(uint64_t ns)
{
    if (ns == armed)
        return;
    armed = ns;
    if (xapic)
        xapic_arm(ns);
    else
        wrmsr(MSR_TSC_DEADLINE, ns == NEVER ? 0 : clock_tsc(ns));
}

void cpu_idle(void)
{
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}

static uint64_t fault_address(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr2, %0" : "=r"(v));
    return v;
}

static bool in_user_access(const struct regs *r)
{
    return r->rip >= (uintptr_t)user_access_begin && r->rip < (uintptr_t)user_access_end;
}

/* SDM 3A 4.7: error code bits 1 write, 4 fetch. */
static void page_fault(struct regs *r)
{
    uint64_t at = fault_address();
    bool user = r->cs & 3;
    struct fault f = {.signal = SIGSEGV, .code = SEGV_MAPERR, .address = at};

    /* mayfly says whether the host is of that kind; another monitor's shows by the first call. */
    if (user && (ring3() || !boot.hypercall_port) && ring3_syscall(r, at))
        return;
    if (at < USER_TOP && (user || in_user_access(r))) {
        if (!vm_fault(at, r->error & 2, r->error & 16, &f))
            return;
    }
    if (user)
        signal_fault(r, &f);
    else if (in_user_access(r))
        r->rip = (uintptr_t)user_access_failed;
    else
        panic("runtime: page fault at %x, rip %x", at, r->rip);
}

static const struct {
    uint8_t signal, code;
} exceptions[32] = {
    [0] = {SIGFPE, FPE_INTDIV},  [1] = {SIGTRAP, TRAP_TRACE}, [3] = {SIGTRAP, 0x80},
    [4] = {SIGSEGV, 0x80},       [5] = {SIGSEGV, 0x80},       [6] = {SIGILL, ILL_ILLOPN},
    [11] = {SIGBUS, 0x80},       [12] = {SIGBUS, 0x80},       [13] = {SIGSEGV, 0x80},
    [16] = {SIGFPE, FPE_FLTINV}, [17] = {SIGBUS, BUS_ADRALN}, [19] = {SIGFPE, FPE_FLTINV},
};

void trap(struct regs *r)
{
    bool user = r->cs & 3;

    if (r->vector == 14) {
        page_fault(r);
    } else if (r->vector < 32) {
        if (!user)
            panic("runtime: exception %d (%x) at %x", r->vector, r->error, r->rip);
        struct fault f = {.signal = exceptions[r->vector].signal,
                          .code = exceptions[r->vector].code,
                          .address = r->vector == 0 || r->vector == 6 ? r->rip : 0};

        if (!f.signal)
            f.signal = SIGSEGV;
        signal_fault(r, &f);
    } else if (r->vector >= VECTOR_TIMER && r->vector <= VECTOR_REQUEST) {
        if (xapic)
            xapic_eoi();
        else
            wrmsr(X2APIC_EOI, 0);
        if (r->vector == VECTOR_NET)
            net_interrupt();
        if (r->vector == VECTOR_TIMER)
            armed = NEVER;
        if (r->vector == VECTOR_SIGNAL)
            signals_from_host();
        if (r->vector != VECTOR_REQUEST)
            thread_interrupt(r->vector == VECTOR_INPUT);
    }
    if (user)
        thread_leave(r);
}
