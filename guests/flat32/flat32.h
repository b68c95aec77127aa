/*
 * Flat 32-bit code and what breaks it: a guest that tests itself, with paging off, with 32-bit, PAE
 * and 4-level paging, at CPL 0 and 3, and across switches of mode and segments. Every part runs
 * many times, first cold, then hot, and must do the same.
 *
 *   start.S    entry, descriptor tables, exceptions, ways into other modes
 *   main.c     rounds, verdict
 *   insns.c    instructions that differ from 64-bit code's, addresses, stack, strings
 *   segs.c     segments that are not flat, FS and GS
 *   paging.c   page faults, code that changes, the end of the 4 GiB
 *   modes.c    CPL 3, long mode and back
 */
#ifndef GUESTS_FLAT32_FLAT32_H
#define GUESTS_FLAT32_FLAT32_H

#include <stdbool.h>
#include <stdint.h>

enum { VEC_DE = 0, VEC_BP = 3, VEC_OF, VEC_BR, VEC_UD, VEC_GP = 13, VEC_PF };
enum { NONE = -1 };

/* Selectors (start.S). */
enum {
    CODE32 = 0x08,
    DATA = 0x10,
    SMALL = 0x18, /* limit 0xfff */
    BASED = 0x20, /* base BASE, limit 4 GiB */
    UCODE32 = 0x2b,
    UDATA = 0x33,
    CODE64 = 0x38,
    TSS = 0x40,
    RODATA = 0x50, /* not writable */
    BASE = 0x600000
};

/* Of the exception that ended the last try(). */
extern volatile uint32_t last_error, last_eip, last_cr2;

/* f(arg): the vector of the exception it raised, or NONE. */
int try(void (*f)(void *), void *arg);
/* The same at CPL 3, on a stack of its own: f ends by user_done() or an exception. */
int try_user(void (*f)(void *), void *arg);
void user_done(void);
void load_tables(void);
/* To long mode, compatibility mode; the tables are at cr3. And out of it again. */
void enter_long(void *cr3);
void leave_long(void);
/* From compatibility mode: f of 64-bit code is called with arg in RDI. Its EAX. On return the
 * upper halves of registers are rubbish, and *EBX, which is probe, goes to probed. */
uint32_t call64(const void *f, uint32_t arg);
extern volatile uint32_t probe, probed;

/* Code that means something else in each mode: EAX less 2, RAX less 1. */
extern const uint8_t dual[], sum64[];

/* SYSENTER's entry, how often it was used, and 50 uses of it at CPL 3. */
void sysenter_here(void);
extern volatile uint32_t syscalls;
void user_sysenter(void *arg);

void check(bool good, const char *what);

static inline uint32_t flags(void)
{
    uint32_t f;

    __asm__ volatile("pushf; pop %0" : "=r"(f));
    return f;
}

void *memset(void *p, int c, unsigned n);

/* Memory for tests: pages of their own, identity-mapped. */
extern uint8_t scratch[8][4096];

void plain_tests(void); /* those of any mode */
void test_insns(void);
void test_stack(void);
void test_strings(void);
void test_segments(void);
void test_faults(void);
void test_code(void);
void paging_on(void);
void test_paging(void);
void test_wrap(void);
void test_user(void);
void test_pae(void);
void test_long(void);

#endif
