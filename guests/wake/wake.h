/* What the parts of the guest "wake" share. */
#ifndef GUESTS_WAKE_WAKE_H
#define GUESTS_WAKE_WAKE_H

#define AP_PAGE  8    /* the start-up vector: 0x8000 */
#define AP_STACK 8192 /* bytes */
#define MAX_CPUS 32

#define VECTOR_TIMER 0x60u

#ifndef __ASSEMBLER__
#include "guests/bare/bare.h"

enum reg {
    REG_ID = 0x02,
    REG_EOI = 0x0b,
    REG_SVR = 0x0f,
    REG_ICR = 0x30,
    REG_ICR_HIGH = 0x31,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_LVT_TIMER = 0x32,
    REG_TIMER_INITIAL = 0x38,
    REG_TIMER_DIVIDE = 0x3e
};
enum { ICR_LOGICAL = 1 << 11, ICR_ASSERT = 1 << 14, ICR_ALL = 2 << 18, ICR_OTHERS = 3 << 18 };
enum { ICR_NMI = 4 << 8, ICR_INIT = 5 << 8, ICR_STARTUP = 6 << 8 };
enum { TIMER_DEADLINE = 2 << 17 };

struct cpu {
    struct cpu *self; /* at GS:0 */
    unsigned id;      /* APIC id, and index */
    uint32_t random;
    bool x2apic, deadline;
    volatile bool in_handlers;                          /* tokens are taken by the handlers */
    volatile unsigned handled;                          /* interrupts */
    volatile uint32_t parked;                           /* tokens that wait for this CPU's timer */
    volatile uint32_t box __attribute__((aligned(64))); /* tokens that are here */
} __attribute__((aligned(64)));

static inline struct cpu *this_cpu(void)
{
    struct cpu *c;

    __asm__ volatile("movq %%gs:0, %0" : "=r"(c));
    return c;
}

/* apic.c: this CPU's local APIC, in the mode it is in. */
void apic_write(struct cpu *c, enum reg reg, uint32_t v);
void apic_send(struct cpu *c, uint32_t to, uint32_t low);
void apic_setup(struct cpu *c);
void apic_to_x2(struct cpu *c);
void apic_timer(struct cpu *c, uint32_t cycles);
#endif
#endif
