/* The local APIC as this guest uses it, by its page or as an x2APIC. */
#include "guests/wake/wake.h"

#define MSR_APIC_BASE 0x1bu
#define MSR_DEADLINE  0x6e0u

void apic_write(struct cpu *c, enum reg reg, uint32_t v)
{
    if (c->x2apic)
        wrmsr(0x800 + reg, v);
    else
        *(volatile uint32_t *)(0xfee00000ul + (uintptr_t)reg * 16) = v;
}

/* With IF clear: by the page it is two writes. */
void apic_send(struct cpu *c, uint32_t to, uint32_t low)
{
    if (c->x2apic) {
        __asm__ volatile("mfence" : : : "memory"); /* SDM 3A 11.12.3: no order of its own */
        wrmsr(0x800 + REG_ICR, (uint64_t)to << 32 | low | ICR_ASSERT);
        return;
    }
    apic_write(c, REG_ICR_HIGH, to << 24);
    apic_write(c, REG_ICR, low | ICR_ASSERT);
}

static bool has_deadline(void)
{
    uint32_t r[4];

    cpuid(1, 0, r);
    return r[2] >> 24 & 1;
}

void apic_setup(struct cpu *c)
{
    apic_write(c, REG_SVR, 0x1ff);
    if (!c->x2apic && c->id < 8) {
        apic_write(c, REG_DFR, 0xffffffff);
        apic_write(c, REG_LDR, 1u << (24 + c->id));
    }
    apic_write(c, REG_TIMER_DIVIDE, 0xb); /* by 1 */
    c->deadline = (c->id & 1) && has_deadline();
    apic_write(c, REG_LVT_TIMER, VECTOR_TIMER | (c->deadline ? TIMER_DEADLINE : 0));
    __asm__ volatile("mfence" : : : "memory");
}

void apic_to_x2(struct cpu *c)
{
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0x400);
    c->x2apic = true;
    apic_setup(c);
}

/* Once, in so many cycles of the TSC or, without deadlines, about that. 0 is now, or as good as.
 * What was set before is void; every other time it is set far away first, or taken back. */
void apic_timer(struct cpu *c, uint32_t cycles)
{
    if (c->deadline) {
        if (cycles & 1)
            wrmsr(MSR_DEADLINE, cycles & 2 ? 0 : rdtsc() + (1u << 30));
        wrmsr(MSR_DEADLINE, rdtsc() + cycles);
    } else {
        if (cycles & 1)
            apic_write(c, REG_TIMER_INITIAL, cycles & 2 ? 0 : 1u << 30);
        apic_write(c, REG_TIMER_INITIAL, cycles / 4 + 1);
    }
}
