/*
 * Local APIC registers by number: x2APIC MSR minus 0x800, xAPIC offset divided by 16 (SDM 3A table
 * 11-6), and what lapic.c, lapic_timer.c and apic_bus.c share.
 */
#ifndef VCPU_LAPIC_REGS_H
#define VCPU_LAPIC_REGS_H

#include "vcpu/vcpu.h"

enum {
    APIC_ID = 0x02,
    APIC_VERSION = 0x03,
    APIC_TPR = 0x08,
    APIC_APR = 0x09,
    APIC_PPR = 0x0a,
    APIC_EOI = 0x0b,
    APIC_RRD = 0x0c,
    APIC_LDR = 0x0d,
    APIC_DFR = 0x0e,
    APIC_SVR = 0x0f,
    APIC_ISR = 0x10, /* 8 each */
    APIC_TMR = 0x18,
    APIC_IRR = 0x20,
    APIC_ESR = 0x28,
    APIC_ICR = 0x30,
    APIC_ICR2 = 0x31,
    APIC_LVT_TIMER = 0x32,
    APIC_LVT_THERMAL,
    APIC_LVT_PERF,
    APIC_LVT_LINT0,
    APIC_LVT_LINT1,
    APIC_LVT_ERROR,
    APIC_TIMER_INITIAL = 0x38,
    APIC_TIMER_CURRENT = 0x39,
    APIC_TIMER_DIVIDE = 0x3e,
    APIC_SELF_IPI = 0x3f,
    APIC_REGS = 0x40
};

#define APIC_BASE_BSP    0x100u
#define APIC_BASE_EXTD   0x400u
#define APIC_BASE_ENABLE 0x800u

#define APIC_SVR_ENABLE 0x100u
#define APIC_LVT_MASKED 0x10000u

/* Delivery modes, bits 8-10 of ICR, LVT and redirection entries. */
enum {
    APIC_DM_FIXED,
    APIC_DM_LOWEST,
    APIC_DM_SMI,
    APIC_DM_RESERVED,
    APIC_DM_NMI,
    APIC_DM_INIT,
    APIC_DM_STARTUP,
    APIC_DM_EXTINT
};
#define APIC_DM(reg) ((reg) >> 8 & 7)

/* ESR (SDM 3A 11.5.3) */
#define APIC_ESR_SEND_VECTOR 0x20u
#define APIC_ESR_RECV_VECTOR 0x40u
#define APIC_ESR_REGISTER    0x80u

/* A plain field that only its own thread writes but the bus of any thread reads. */
#define APIC_LOAD(field)       __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define APIC_STORE(field, val) __atomic_store_n(&(field), (val), __ATOMIC_RELAXED)

static inline bool lapic_on(const struct lapic *l)
{
    return APIC_LOAD(l->base_msr) & APIC_BASE_ENABLE;
}

static inline bool lapic_x2(const struct lapic *l)
{
    return APIC_LOAD(l->base_msr) & APIC_BASE_EXTD;
}

/* x2APIC logical ID: derived, read-only (SDM 3A 11.12.10.2). */
static inline uint32_t lapic_x2_ldr(uint32_t id)
{
    return (id >> 4) << 16 | 1u << (id & 15);
}

/* Any thread: note an error and raise the LVT error interrupt (once until ESR is written). */
void lapic_error(struct vcpu *v, uint32_t bit);

/* Any thread: the interrupt of a local source through its LVT entry: fixed, NMI. */
void lapic_lvt_fire(struct vcpu *v, uint32_t lvt);

/* Set the IRR bit of a legal vector without a kick. True when it was not set already. */
bool lapic_irr_post(struct vcpu *v, uint8_t vector, bool level);

/* Own thread: a write of ICR; the registers hold it. */
void lapic_icr_send(struct vcpu *v);
void lapic_self_ipi(struct vcpu *v, uint8_t vector);

/* --- lapic_timer.c; own thread --- */
uint32_t lapic_timer_current(struct vcpu *v);
void lapic_timer_set_initial(struct vcpu *v, uint32_t val);
void lapic_timer_set_divide(struct vcpu *v, uint32_t val);
void lapic_timer_set_lvt(struct vcpu *v, uint32_t val); /* val is masked to the legal bits */
uint64_t lapic_timer_get_deadline(struct vcpu *v);
void lapic_timer_set_deadline(struct vcpu *v, uint64_t tsc);
void lapic_timer_stop(struct vcpu *v);

#endif
