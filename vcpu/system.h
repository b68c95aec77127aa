/*
 * The system side's own helpers: descriptors, stacks of deliveries and far transfers. Private to
 * segment.c, stack.c, except.c, iret.c, far.c, task.c, sysreg.c, msr.c, cpuid.c and pvclock.c.
 */
#ifndef VCPU_SYSTEM_H
#define VCPU_SYSTEM_H

#include "vcpu/except.h"
#include "vcpu/mem.h"

/* --- descriptors as they lie in memory (SDM 3A 3.4.5) --- */
enum {
    SYS_TSS16 = 1,
    SYS_LDT = 2,
    SYS_TSS16_BUSY = 3,
    SYS_CALL16 = 4,
    SYS_TASK_GATE = 5,
    SYS_INT16 = 6,
    SYS_TRAP16 = 7,
    SYS_TSS32 = 9,
    SYS_TSS32_BUSY = 11,
    SYS_CALL32 = 12,
    SYS_INT32 = 14,
    SYS_TRAP32 = 15
};
#define DESC_ACCESSED ((uint64_t)1 << 40)
#define DESC_BUSY     ((uint64_t)2 << 40)

static inline unsigned desc_type(uint64_t d)
{
    return (unsigned)(d >> 40) & 0xf;
}

static inline bool desc_s(uint64_t d)
{
    return d >> 44 & 1;
}

static inline unsigned desc_dpl(uint64_t d)
{
    return (unsigned)(d >> 45) & 3;
}

static inline bool desc_p(uint64_t d)
{
    return d >> 47 & 1;
}

static inline bool desc_l(uint64_t d)
{
    return d >> 53 & 1;
}

static inline bool desc_db(uint64_t d)
{
    return d >> 54 & 1;
}

static inline bool desc_code(uint64_t d)
{
    return desc_s(d) && (desc_type(d) & 8);
}

static inline bool desc_conforming(uint64_t d)
{
    return desc_type(d) & 4;
}

static inline bool desc_writable_data(uint64_t d)
{
    return desc_s(d) && (desc_type(d) & 0xa) == 2;
}

static inline uint32_t desc_base(uint64_t d)
{
    return (uint32_t)(d >> 16 & 0xffffff) | (uint32_t)(d >> 56) << 24;
}

static inline uint32_t desc_limit(uint64_t d)
{
    uint32_t limit = (uint32_t)(d & 0xffff) | (uint32_t)(d >> 32 & 0xf0000);

    return d >> 55 & 1 ? limit << 12 | 0xfff : limit;
}

static inline bool sel_null(uint16_t sel)
{
    return !(sel & ~3u);
}

/* --- segment.c --- */

/* Accesses to the descriptor tables and the TSS: supervisor whatever the CPL (SDM 3A 4.6.1). */
int sys_read(struct vcpu *v, gva_t lin, void *dst, unsigned size);
int sys_write(struct vcpu *v, gva_t lin, const void *src, unsigned size);

/* The second half of a 16-byte system descriptor; fault as seg_read_descriptor. */
int seg_read_high(struct vcpu *v, uint16_t sel, uint8_t fault_vector, uint64_t *high);

/* Locked OR / AND-NOT of bits (DESC_ACCESSED, DESC_BUSY) into sel's descriptor in memory. */
int desc_set_bits(struct vcpu *v, uint16_t sel, uint64_t bits);
int desc_clear_bits(struct vcpu *v, uint16_t sel, uint64_t bits);
/* Set the accessed bit in memory when *desc has it clear, and in *desc. */
int desc_access(struct vcpu *v, uint16_t sel, uint64_t *desc);

bool seg_within_limit(const struct seg *s, uint32_t ea, unsigned size);
void seg_set_null(struct seg *s, uint16_t sel);

/* The checks that every load of SS shares; *out on CPU_OK. Faults are #vector(sel), #SS(sel) when
 * not present: vector is #GP for MOV/IRET/RET, #TS for a stack that a TSS names. */
int seg_check_ss(struct vcpu *v, uint16_t sel, unsigned cpl, uint8_t vector, struct seg *out);

/* Is off a legal RIP in the code segment desc (#GP(0))? *new64: it is 64-bit code. */
int seg_check_rip(struct vcpu *v, uint64_t desc, uint64_t off, bool *new64);

/* CS as a transfer leaves it, and CPL. */
static inline void seg_commit_cs(struct cpu *c, uint16_t sel, uint64_t desc, unsigned cpl)
{
    seg_from_descriptor(&c->seg[SEG_CS], (uint16_t)((sel & ~3u) | cpl), desc);
    c->cpl = (uint8_t)cpl;
}

/* --- stack.c --- */

/* A stack that is being pushed to or popped from before it becomes (or ceases to be) SS:RSP. */
struct stack {
    struct seg ss;
    uint64_t sp;
    bool is64;      /* the code that will use it is 64-bit: flat, canonical addresses */
    uint8_t cpl;    /* privilege of the accesses */
    uint32_t error; /* of the #SS a bad address raises */
};

/* SS:RSP as it is. */
void stack_current(const struct cpu *c, struct stack *s);

/* Push n values of size bytes, val[0] first (n <= 35); all or nothing, sp moves. */
int stack_push(struct vcpu *v, struct stack *s, const uint64_t *val, unsigned n, unsigned size);

/* Read n (<= 9) values of size bytes from skip bytes above sp, lowest address first; sp stays. */
int stack_peek(struct vcpu *v, const struct stack *s, unsigned skip, uint64_t *val, unsigned n,
               unsigned size);

/* RSP after the stack pointer of segment ss becomes val: a 16-bit stack keeps the upper bits. */
uint64_t stack_merge_sp(uint64_t old, uint64_t val, bool is64, const struct seg *ss);

/* The inner stack for privilege level dpl out of the TSS (SDM 3A 5.8.5), checked; legacy mode.
 * s->error is the new SS. */
int stack_inner(struct vcpu *v, unsigned dpl, struct stack *s);
/* Long mode: RSPn for privilege dpl, or IST slot ist when that is not 0; SS is null. */
int stack_inner64(struct vcpu *v, unsigned dpl, unsigned ist, struct stack *s);

/* --- task.c: task switches, legacy mode only --- */
enum task_how { TASK_JUMP, TASK_CALL, TASK_IRET, TASK_EVENT };

/* Switch to the TSS sel, whose descriptor the caller has not read yet. next_rip and rflags are what
 * the old task resumes with. error: pushed on the new stack, NULL for none. Faults found before the
 * commit leave the state as it was; later ones are raised in the new task (SDM 3A 7.3). */
int task_switch(struct vcpu *v, uint16_t sel, enum task_how how, uint64_t next_rip, uint64_t rflags,
                const uint32_t *error);
/* IRET with NT set: back to the link of the current TSS. */
int task_return(struct vcpu *v);

/* --- cpuid.c --- */
bool cpu_is_amd(const struct vcpu *v);

/* --- sysreg.c --- */

/* PAE paging: read and check the four PDPTEs at cr3 (SDM 3A 4.4.1); #GP(0) leaves out unread. */
int cpu_load_pdptes(struct vcpu *v, uint64_t cr3, uint64_t out[4]);
/* PAE paging in force with these control registers? */
static inline bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

/* --- pvclock.c --- */

/* The guest TSC was moved: the published clock must follow. */
void pvclock_refresh(struct vcpu *v);

#endif
