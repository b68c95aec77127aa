/*
 * What the bare guests stand on: COM1 output, traps, checks with a verdict, the exit port.
 * 64-bit, CPL0, identity map of 4 GiB, interrupts off, SSE on. One CPU.
 */
#ifndef GUESTS_BARE_BARE_H
#define GUESTS_BARE_BARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SEL_CODE = 0x08,
    SEL_DATA = 0x10,
    SEL_UCODE32 = 0x1b,
    SEL_UDATA = 0x23,
    SEL_UCODE = 0x2b,
    SEL_TSS = 0x30
};

struct frame {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

struct tss {
    uint32_t reserved0;
    uint64_t rsp[3], reserved1, ist[7], reserved2;
    uint16_t reserved3, io_map;
} __attribute__((packed));

extern uint64_t bare_pml4[512], bare_pdpt[512], bare_pd[4][512];
extern struct tss bare_tss;

/* The guest's own part; returns nothing: the verdict is the count of failed checks. */
void bare_main(void);

/* Called for every trap that no handler is set for: reports it and ends the guest. */
typedef void (*trap_handler)(struct frame *f);
void bare_on(unsigned vector, trap_handler fn);
void bare_gate(unsigned vector, unsigned ist, unsigned dpl); /* interrupt gate's IST and DPL */

void bare_print(const char *fmt, ...)
    __attribute__((format(printf, 1, 2))); /* %s %d %u %x %lx %% */
/* "PASS name" or "FAIL name: got x, want y". */
void check(bool good, const char *name);
void check_equal(uint64_t got, uint64_t want, const char *name);
_Noreturn void bare_exit(unsigned status); /* 32-bit OUT to 0xf4 */

/* Run up to the next trap: returns 0 when fn came back, else 1 + vector, with *out the frame. The
 * registers and stack of the caller are intact. */
unsigned bare_try(void (*fn)(void *), void *arg, struct frame *out);

/* region.c: a 2 MiB linear range whose page table is the guest's to fill, at REGION and again at
 * REGION32 for 32-bit code. Nothing is mapped in it at first. INVLPG is done for REGION only. */
#define REGION   0x200000000ull
#define REGION32 0xc0000000ull
enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40 };
#define NX (1ull << 63)

extern uint8_t frames[8][4096];
extern uint64_t region_table[512], region_directory[512];

void region_init(void);
/* Page page of the region shows frame frame (0-7) with these entry bits; its address. */
uint8_t *region_map(unsigned page, unsigned frame, uint64_t bits);
void region_unmap(unsigned page);

static inline void outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}
static inline void outl(uint16_t port, uint32_t v)
{
    __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
    uint8_t v;

    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;

    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (uint64_t)hi << 32 | lo;
}
static inline void wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
    return (uint64_t)hi << 32 | lo;
}
static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
                     : "a"(leaf), "c"(sub));
}
static inline uint64_t read_cr0(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr0, %0" : "=r"(v));
    return v;
}
static inline void write_cr0(uint64_t v)
{
    __asm__ volatile("movq %0, %%cr0" : : "r"(v) : "memory");
}
static inline uint64_t read_cr2(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr2, %0" : "=r"(v));
    return v;
}
static inline uint64_t read_cr4(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr4, %0" : "=r"(v));
    return v;
}
static inline void write_cr4(uint64_t v)
{
    __asm__ volatile("movq %0, %%cr4" : : "r"(v) : "memory");
}
static inline void invlpg(const void *p)
{
    __asm__ volatile("invlpg (%0)" : : "r"(p) : "memory");
}

#endif
