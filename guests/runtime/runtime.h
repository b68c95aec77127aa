/*
 * The guest runtime: what a static musl program needs below it to run alone on a virtual CPU.
 *
 * One CPU, CPL0, one address space (identity), no interrupts: musl's SYSCALL instructions land in
 * start.S, which calls runtime_syscall(). Compiled with -mgeneral-regs-only, so the program's
 * vector state survives a system call untouched. No libc here: musl belongs to the program.
 */
#ifndef GUESTS_RUNTIME_RUNTIME_H
#define GUESTS_RUNTIME_RUNTIME_H

#include <stddef.h>
#include <stdint.h>
#include "guests/runtime/bootblock.h"

extern struct mayfly_boot runtime_boot; /* a copy of the boot block, seed included */

/* One hypercall: its ret. */
int64_t runtime_call(uint32_t op, uint32_t fd, const void *buf, uint64_t len);
_Noreturn void runtime_exit(int status);

/* --- start.S --- */
extern char syscall_entry[];
extern char exception_stubs[]; /* 32 of them, EXCEPTION_STUB bytes apart */
#define EXCEPTION_STUB 16

/* --- memory.c: errors are negative errnos in the return value, as the kernel's are --- */
void memory_init(uint64_t stack_bytes, uint64_t *stack_top);
uint64_t memory_brk(uint64_t want);
int64_t memory_map(uint64_t addr, uint64_t len, int flags);
int64_t memory_unmap(uint64_t addr, uint64_t len);
int64_t memory_advise(uint64_t addr, uint64_t len, int advice);

/* --- clock.c --- */
struct runtime_timespec {
    int64_t sec, nsec;
};
void clock_init(void);
int clock_read(int id, struct runtime_timespec *ts); /* 0 or -EINVAL */
uint64_t clock_ns(void);                             /* since the TSC was 0 */

/* --- random.c: ChaCha20 under the boot seed --- */
void random_bytes(void *buf, size_t len);

/* --- syscall.c --- */
int64_t runtime_syscall(uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                        uint64_t a5, uint64_t nr);

static inline void fill_bytes(void *dst, int c, size_t n)
{
    __asm__ volatile("rep stosb" : "+D"(dst), "+c"(n) : "a"(c) : "memory");
}
static inline void move_bytes(void *dst, const void *src, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}

/* Linux errnos (asm-generic/errno-base.h) */
enum {
    E_NOENT = 2,
    E_BADF = 9,
    E_AGAIN = 11,
    E_NOMEM = 12,
    E_FAULT = 14,
    E_INVAL = 22,
    E_NOTTY = 25,
    E_SPIPE = 29,
    E_NOSYS = 38
};

#endif
