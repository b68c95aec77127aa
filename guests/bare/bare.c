/* Output, traps, checks and the exit of the bare guests. */
#include "guests/bare/bare.h"
#include <stdarg.h>

extern const char bare_stubs[];
extern uint64_t bare_gdt[8];
void bare_start(void);
void bare_trap(struct frame *f);

struct tss bare_tss = {.io_map = sizeof(struct tss)};
static struct gate {
    uint16_t offset0, sel;
    uint8_t ist, type;
    uint16_t offset1;
    uint32_t offset2, zero;
} idt[256] __attribute__((aligned(16)));
static trap_handler handlers[256];
static unsigned passed, failed;

/* bare_try(): where to go on after a trap. */
static struct {
    bool armed;
    uint64_t rip, rsp, rbp;
    struct frame *out;
} attempt;

static void put(char c)
{
    while (!(inb(0x3fd) & 0x20))
        ;
    outb(0x3f8, (uint8_t)c);
}

static void put_number(uint64_t v, unsigned base)
{
    char buf[24];
    unsigned n = 0;

    do
        buf[n++] = "0123456789abcdef"[v % base];
    while (v /= base);
    while (n)
        put(buf[--n]);
}

void bare_print(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    for (; *fmt; fmt++) {
        bool wide = false;

        if (*fmt != '%') {
            if (*fmt == '\n')
                put('\r');
            put(*fmt);
            continue;
        }
        if (*++fmt == 'l') {
            wide = true;
            fmt++;
        }
        switch (*fmt) {
        case 's':
            for (const char *s = va_arg(ap, const char *); *s; s++)
                put(*s);
            break;
        case 'd': {
            int64_t v = wide ? va_arg(ap, int64_t) : va_arg(ap, int);

            if (v < 0)
                put('-');
            put_number(v < 0 ? -(uint64_t)v : (uint64_t)v, 10);
            break;
        }
        case 'u':
            put_number(wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned), 10);
            break;
        case 'x':
            put_number(wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned), 16);
            break;
        default:
            put(*fmt);
        }
    }
    va_end(ap);
}

void check(bool good, const char *name)
{
    bare_print("%s %s\n", good ? "PASS" : "FAIL", name);
    *(good ? &passed : &failed) += 1;
}

void check_equal(uint64_t got, uint64_t want, const char *name)
{
    if (got == want) {
        check(true, name);
        return;
    }
    bare_print("FAIL %s: got 0x%lx, want 0x%lx\n", name, got, want);
    failed++;
}

_Noreturn void bare_exit(unsigned status)
{
    outl(0xf4, status);
    for (;;)
        __asm__ volatile("cli; hlt");
}

void bare_on(unsigned vector, trap_handler fn)
{
    handlers[vector & 255] = fn;
}

void bare_gate(unsigned vector, unsigned ist, unsigned dpl)
{
    idt[vector & 255].ist = (uint8_t)(ist & 7);
    idt[vector & 255].type = (uint8_t)(0x8e | (dpl & 3) << 5);
}

void bare_trap(struct frame *f)
{
    if (handlers[f->vector]) {
        handlers[f->vector](f);
        return;
    }
    if (attempt.armed) {
        attempt.armed = false;
        *attempt.out = *f;
        f->rip = attempt.rip;
        f->rsp = attempt.rsp;
        f->rbp = attempt.rbp;
        f->cs = SEL_CODE;
        f->ss = SEL_DATA;
        f->rflags = 2;
        f->rax = 1 + f->vector;
        return;
    }
    bare_print("FAIL unexpected trap %lu error 0x%lx at 0x%lx cs 0x%lx rsp 0x%lx cr2 0x%lx\n",
               f->vector, f->error, f->rip, f->cs, f->rsp, read_cr2());
    bare_exit(99);
}

unsigned bare_try(void (*fn)(void *), void *arg, struct frame *out)
{
    uint64_t result;

    attempt.out = out;
    attempt.armed = true;
    __asm__ volatile(
        "movq %%rsp, %[rsp]\n\t"
        "movq %%rbp, %[rbp]\n\t"
        "leaq 1f(%%rip), %%rax\n\t"
        "movq %%rax, %[rip]\n\t"
        "call *%[fn]\n\t"
        "xorl %%eax, %%eax\n"
        "1:"
        : "=&a"(result),
          "+D"(arg), [rsp] "=m"(attempt.rsp), [rbp] "=m"(attempt.rbp), [rip] "=m"(attempt.rip)
        : [fn] "r"(fn)
        : "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
          "memory", "cc");
    attempt.armed = false;
    return (unsigned)result;
}

void bare_start(void)
{
    uint64_t t = (uintptr_t)&bare_tss;
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) ip = {sizeof(idt) - 1, (uintptr_t)idt};

    for (unsigned i = 0; i < 256; i++) {
        uint64_t h = (uintptr_t)bare_stubs + i * 16;

        idt[i].offset0 = (uint16_t)h;
        idt[i].sel = SEL_CODE;
        idt[i].type = 0x8e;
        idt[i].offset1 = (uint16_t)(h >> 16);
        idt[i].offset2 = (uint32_t)(h >> 32);
    }
    bare_gdt[6] =
        (sizeof(bare_tss) - 1) | (t & 0xffffff) << 16 | 0x89ull << 40 | (t >> 24 & 0xff) << 56;
    bare_gdt[7] = t >> 32;
    __asm__ volatile("lidt %0\n\tltr %w1" : : "m"(ip), "r"(SEL_TSS) : "memory");
    bare_main();
    bare_print("verdict: %u passed, %u failed\n", passed, failed);
    bare_exit(failed < 99 ? failed : 98);
}
