#include "vcpu/kvm/kvm.h"

#include "vcpu/lapic_regs.h"
#include "vcpu/scale.h"

#define LVT_TIMER_MODE(lvt) ((lvt) >> 17 & 3)
enum { TIMER_ONESHOT, TIMER_PERIODIC, TIMER_DEADLINE };

/* The page has a register every 16 bytes, as the xAPIC has. */
static void put(struct kvm_lapic_state *page, unsigned reg, uint32_t val)
{
    __builtin_memcpy(&page->regs[reg * 16], &val, 4);
}

static uint32_t get(const struct kvm_lapic_state *page, unsigned reg)
{
    uint32_t val;

    __builtin_memcpy(&val, &page->regs[reg * 16], 4);
    return val;
}

void kvm_lapic_to_page(struct vcpu *v, struct kvm_lapic_state *page)
{
    struct lapic *l = &v->lapic;

    put(page, APIC_TIMER_CURRENT, lapic_timer_current(v)); /* first: it may expire into the IRR */
    /* Without KVM_CAP_X2APIC_API the ID is in bits 31-24 in either mode. */
    put(page, APIC_ID, l->id << 24);
    put(page, APIC_TPR, l->tpr);
    put(page, APIC_LDR, l->ldr);
    put(page, APIC_DFR, l->dfr);
    put(page, APIC_SVR, l->svr);
    for (unsigned i = 0; i < 8; i++) {
        uint32_t irr = atomic_load(&l->irr[i]);

        put(page, APIC_ISR + i, l->isr[i]);
        put(page, APIC_IRR + i, irr);
        /* KVM's TMR speaks of requested interrupts too. */
        put(page, APIC_TMR + i, (l->tmr[i] & ~irr) | (atomic_load(&l->irr_level[i]) & irr));
    }
    put(page, APIC_ESR, l->esr);
    put(page, APIC_ICR, l->icr_low);
    put(page, APIC_ICR2, l->icr_high);
    put(page, APIC_LVT_TIMER, l->lvt_timer);
    put(page, APIC_LVT_THERMAL, l->lvt_thermal);
    put(page, APIC_LVT_PERF, l->lvt_perf);
    put(page, APIC_LVT_LINT0, l->lvt_lint0);
    put(page, APIC_LVT_LINT1, l->lvt_lint1);
    put(page, APIC_LVT_ERROR, l->lvt_error);
    put(page, APIC_TIMER_INITIAL, l->timer_icr);
    put(page, APIC_TIMER_DIVIDE, l->timer_divide);
}

/* As RESET leaves KVM's, LINT0 of the boot processor included (KVM_X86_QUIRK_LINT0_REENABLED, which
 * only the maker of a VM can switch off). */
bool kvm_lapic_is_reset(const struct vcpu *v)
{
    const struct lapic *l = &v->lapic;
    uint32_t set = 0;

    for (unsigned i = 0; i < 8; i++)
        set |= l->isr[i] | l->tmr[i] | atomic_load(&l->irr[i]) | atomic_load(&l->irr_level[i]);
    return !set && l->id == v->index &&
           l->base_msr ==
               ((uint64_t)LAPIC_BASE | APIC_BASE_ENABLE | (v->index ? 0 : APIC_BASE_BSP)) &&
           !l->tpr && !l->ldr && l->dfr == UINT32_MAX && l->svr == 0xff && !l->esr && !l->icr_low &&
           !l->icr_high && l->lvt_timer == APIC_LVT_MASKED && l->lvt_thermal == APIC_LVT_MASKED &&
           l->lvt_perf == APIC_LVT_MASKED &&
           l->lvt_lint0 == (v->index ? APIC_LVT_MASKED : (uint32_t)APIC_DM_EXTINT << 8) &&
           l->lvt_lint1 == APIC_LVT_MASKED && l->lvt_error == APIC_LVT_MASKED && !l->timer_icr &&
           !l->timer_divide && !l->tsc_deadline;
}

/* SDM 3A figure 11-10: bits 0, 1 and 3; 111 is by 1. */
static unsigned divide_by(uint32_t reg)
{
    unsigned code = (reg & 3) | (reg >> 1 & 4);

    return code == 7 ? 1 : 2u << code;
}

/* Where the count stands, as lapic_timer.c keeps it: when it began and when it ends. */
static void timer_from_count(struct vcpu *v, uint32_t current)
{
    struct lapic *l = &v->lapic;
    uint64_t div = divide_by(l->timer_divide), hz = v->vm->tsc_hz, now = vcpu_tsc(v);
    uint64_t done = mul_div((l->timer_icr - current) * div, hz, LAPIC_TIMER_HZ);
    uint64_t left = mul_div(current * div, hz, LAPIC_TIMER_HZ);

    l->timer_start = now - done;
    if (LVT_TIMER_MODE(l->lvt_timer) == TIMER_DEADLINE)
        l->next_tsc = l->tsc_deadline ? l->tsc_deadline - v->cpu.tsc_offset : 0;
    else
        l->next_tsc = current ? now + left - v->cpu.tsc_offset : 0;
}

void kvm_lapic_from_page(struct vcpu *v, const struct kvm_lapic_state *page)
{
    struct lapic *l = &v->lapic;
    uint32_t current = get(page, APIC_TIMER_CURRENT);

    APIC_STORE(l->tpr, get(page, APIC_TPR));
    APIC_STORE(l->ldr, get(page, APIC_LDR));
    APIC_STORE(l->dfr, get(page, APIC_DFR));
    APIC_STORE(l->svr, get(page, APIC_SVR));
    for (unsigned i = 0; i < 8; i++) {
        uint32_t irr = get(page, APIC_IRR + i), tmr = get(page, APIC_TMR + i);

        l->isr[i] = get(page, APIC_ISR + i);
        l->tmr[i] = tmr;
        atomic_store(&l->irr[i], irr);
        atomic_store(&l->irr_level[i], tmr & irr);
    }
    l->esr = get(page, APIC_ESR);
    l->icr_low = get(page, APIC_ICR);
    l->icr_high = get(page, APIC_ICR2);
    APIC_STORE(l->lvt_timer, get(page, APIC_LVT_TIMER));
    APIC_STORE(l->lvt_thermal, get(page, APIC_LVT_THERMAL));
    APIC_STORE(l->lvt_perf, get(page, APIC_LVT_PERF));
    APIC_STORE(l->lvt_lint0, get(page, APIC_LVT_LINT0));
    APIC_STORE(l->lvt_lint1, get(page, APIC_LVT_LINT1));
    APIC_STORE(l->lvt_error, get(page, APIC_LVT_ERROR));
    l->timer_icr = get(page, APIC_TIMER_INITIAL);
    l->timer_divide = get(page, APIC_TIMER_DIVIDE);
    timer_from_count(v, current > l->timer_icr ? l->timer_icr : current);
}
