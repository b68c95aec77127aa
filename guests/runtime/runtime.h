/*
 * The guest runtime: a small kernel for one Linux process, which the program never leaves.
 *
 * The program runs at CPL3 in the lower half under its own page tables, the runtime at CPL0 in the
 * upper half: its image at KIMAGE, all RAM at KMAP (never executable). One CPU. The runtime is not
 * interrupted (IF=0) except where it idles, so nothing here takes a lock; a thread that waits
 * switches to another kernel stack. Compiled with -mgeneral-regs-only: the program's vector state
 * stays in the registers and is put away only when another thread runs.
 *
 * Program memory is reached with copy_in(), copy_out() and str_in() alone: they take page faults.
 * Errors are negative errnos.
 */
#ifndef GUESTS_RUNTIME_RUNTIME_H
#define GUESTS_RUNTIME_RUNTIME_H

#include <asm/errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "guests/runtime/bootblock.h"

#define PAGE     4096ull
#define KMAP     0xffff800000000000ull
#define KIMAGE   0xffffffff80000000ull
#define USER_TOP 0x7ffffffff000ull
#define NEVER    UINT64_MAX
#define NS       1000000000ull

extern struct mayfly_boot boot; /* a copy of the boot block, seed included */

static inline void *kva(uint64_t pa)
{
    return (void *)(KMAP + pa);
}
static inline uint64_t kpa(const void *p)
{
    uint64_t v = (uintptr_t)p;

    return v >= KIMAGE ? v - KIMAGE : v - KMAP;
}
static inline uint64_t page_up(uint64_t v)
{
    return (v + PAGE - 1) & ~(PAGE - 1);
}
static inline uint64_t page_down(uint64_t v)
{
    return v & ~(PAGE - 1);
}
static inline uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What the program had in its registers, as the entries in start.S push it. */
struct regs {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint64_t vector; /* SYSCALL: -1 */
    uint64_t error;  /* SYSCALL: the number */
    uint64_t rip, cs, rflags, rsp, ss;
};

/* --- start.S --- */
extern char syscall_entry[], thread_begin[];
/* The IDT has gates for exceptions and for vectors 0x40-0x4f. */
enum {
    VECTOR_TIMER = 0x40,
    VECTOR_INPUT = 0x41,
    VECTOR_NET = 0x42,
    VECTOR_SIGNAL = MAYFLY_VECTOR_SIGNAL,
    VECTOR_REQUEST = 0x44, /* of devices whose answers are waited for: ends the halt */
    VECTOR_SPURIOUS = 0x4f
};
extern uint64_t kernel_sp; /* where the running thread's kernel stack begins */
void switch_stacks(uint64_t *save, uint64_t load);
/* 0, or -EFAULT: part may have been copied. */
int copy_user(void *dst, const void *src, size_t n);
int clear_user(void *dst, size_t n);
extern char user_access_begin[], user_access_end[], user_access_failed[];

/* --- cpu.c --- */
void cpu_init(void);
void cpu_set_kernel_stack(uint64_t top);
void cpu_set_fs(uint64_t base);
void cpu_set_gs(uint64_t base);
void fpu_save(void *area);
void fpu_load(const void *area);
extern uint32_t fpu_bytes; /* of an XSAVE area, at most a page */
extern uint64_t fpu_mask;
void fpu_fresh(void *area);
void timer_arm(uint64_t ns); /* NEVER: off */
void cpu_idle(void);         /* wait for an interrupt; returns after one was handled */
void trap(struct regs *r);

/* --- ring3.c: where only CPL 3 is the processor's own --- */
/* The same as fpu_save() and fpu_load(); rsp0: the TSS's. */
void ring3_fpu_save(void *area, void *rsp0);
void ring3_fpu_load(const void *area, void *rsp0);
/* A page fault at CPL 3: true, it was a system call and has been served. */
bool ring3_syscall(struct regs *r, uint64_t fault);

/* --- call.c: the monitor --- */
int64_t monitor_call(uint32_t op, uint32_t fd, const void *buf, uint64_t len);
_Noreturn void machine_exit(int status);
void say(const char *fmt, ...); /* a line on stderr: %s %x %d */
_Noreturn void panic(const char *fmt, ...);
void format(char *out, size_t size, const char *fmt, ...);
#define BOUNCE (16u << 10)
extern char bounce[BOUNCE]; /* for calls with program data */

/* --- frames.c: physical pages, and small blocks made of them --- */
void frames_init(uint64_t first);
/* Bytes of RAM from 4 GiB on; they may be used once they are mapped. */
uint64_t frames_high(void);
void frames_add_high(void);
uint64_t frame_alloc(void);       /* zeroed; 0: none left */
uint64_t frame_alloc_dirty(void); /* with what was in it */
void frame_free(uint64_t pa);
uint64_t frames_row(unsigned n); /* n in a row, zeroed, to be freed one by one; 0: not there */
/* Program memory has addresses of its own in RAM from LINEAR_LOW to linear_high(). The page of one,
 * zeroed, or any other: 0: none left. frames_map(): the n pages from at on
 * that nobody ever had, into the empty ones of n page table entries; how many. frames_run(): all n
 * of them or none; the first's address, or 0. */
#define LINEAR_LOW MAYFLY_PIE_BASE
uint64_t linear_high(void);
uint64_t frame_for(uint64_t at);
uint64_t frames_run(uint64_t at, uint64_t n, uint64_t *entry, uint64_t bits);
uint64_t frames_map(uint64_t at, uint64_t n, uint64_t *entry, uint64_t bits);
uint64_t frames_free(void);  /* how many */
uint64_t frames_total(void); /* there ever were */
void *stack_alloc(void);     /* a kernel stack; its top, NULL: no memory */
void stack_free(void *top);
#define STACK_BYTES (4 * PAGE)
/* Blocks of a power of two, from 32 bytes; most sizes are known when this is compiled. */
#define KALLOC_SHIFT 5u
static inline unsigned kalloc_class(size_t n)
{
    return n <= (size_t)1 << KALLOC_SHIFT ? 0 : 64 - KALLOC_SHIFT - (unsigned)__builtin_clzl(n - 1);
}
void *kalloc_block(unsigned shift);
static inline void *kalloc(size_t n) /* zeroed, n <= PAGE; NULL: no memory */
{
    return kalloc_block(kalloc_class(n));
}
void kfree(void *p, size_t n);

/* --- string.c --- */
/* By eights where it is much: a KVM that interprets CPL 0 takes a microsecond for each. */
static inline void fill(void *dst, int c, size_t n)
{
    size_t eights = n / 8, rest = n % 8;

    if (eights > 8)
        __asm__ volatile("rep stosq"
                         : "+D"(dst), "+c"(eights)
                         : "a"((uint8_t)c * 0x0101010101010101u)
                         : "memory");
    else
        rest = n;
    __asm__ volatile("rep stosb" : "+D"(dst), "+c"(rest) : "a"(c) : "memory");
}
static inline void copy(void *dst, const void *src, size_t n)
{
    size_t eights = n / 8, rest = n % 8;

    if (eights > 8)
        __asm__ volatile("rep movsq" : "+D"(dst), "+S"(src), "+c"(eights) : : "memory");
    else
        rest = n;
    __asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(rest) : : "memory");
}
size_t length(const char *s);
bool same(const char *a, const char *b);

/* --- user.c --- */
static inline bool user_range(uint64_t at, uint64_t len)
{
    return len <= USER_TOP && at <= USER_TOP - len;
}
int copy_in(void *dst, uint64_t src, size_t n);
int copy_out(uint64_t dst, const void *src, size_t n);
int clear_out(uint64_t dst, size_t n);
/* The string's length, -EFAULT, or -ENAMETOOLONG where it has no NUL in size bytes. */
int64_t str_in(char *dst, uint64_t src, size_t size);

/* --- random.c: ChaCha20 under the boot seed --- */
void random_bytes(void *buf, size_t len);

/* --- clock.c --- */
static inline uint64_t tsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}
struct timespec64 {
    int64_t sec, nsec;
};
void clock_init(void);
uint64_t clock_ns(void);         /* monotonic, from the runtime's start */
uint64_t clock_tsc(uint64_t ns); /* the TSC at that time */
int64_t clock_wall(void);        /* ns to be added for CLOCK_REALTIME */
int timespec_in(uint64_t src, uint64_t *ns);

/* --- system calls (syscall.c): up to six arguments, result or -errno --- */
typedef int64_t syscall_fn(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f);
void syscalls_report(void);
void syscall_enter(struct regs *r);
extern struct regs *syscall_regs; /* of the call being served; valid until it waits */

#include "guests/runtime/calls.h"

#endif
