/* The local APIC's registers and priorities (SDM 3A chapter 11). */
#include "vcpu/lapic_regs.h"

/* Version 0x14 (integrated xAPIC), six LVT entries, no directed EOI. */
#define VERSION_VALUE 0x50014u

static const struct {
    uint16_t off;   /* in struct lapic */
    uint32_t write; /* writable bits; the rest are read-only or reserved */
    uint32_t ro;    /* read-only: delivery status, remote IRR */
} lvt_table[] = {
    [0] = {offsetof(struct lapic, lvt_timer), 0x700ff, 0x1000},
    [1] = {offsetof(struct lapic, lvt_thermal), 0x107ff, 0x1000},
    [2] = {offsetof(struct lapic, lvt_perf), 0x107ff, 0x1000},
    [3] = {offsetof(struct lapic, lvt_lint0), 0x1a7ff, 0x5000},
    [4] = {offsetof(struct lapic, lvt_lint1), 0x1a7ff, 0x5000},
    [5] = {offsetof(struct lapic, lvt_error), 0x100ff, 0x1000},
};
#define NLVT (sizeof(lvt_table) / sizeof(lvt_table[0]))

static uint32_t *lvt_field(struct lapic *l, unsigned i)
{
    return (uint32_t *)((char *)l + lvt_table[i].off);
}

/* Registers as INIT leaves them (SDM 3A 11.4.7.1); the mode is base_msr's. */
static void reset_registers(struct vcpu *v)
{
    struct lapic *l = &v->lapic;

    lapic_timer_stop(v);
    APIC_STORE(l->svr, 0xffu);
    APIC_STORE(l->tpr, 0u);
    v->cpu.cr8 = 0;
    APIC_STORE(l->ldr, 0u);
    APIC_STORE(l->dfr, 0xffffffffu);
    l->esr = 0;
    APIC_STORE(l->esr_pending, 0u);
    l->icr_low = l->icr_high = 0;
    for (unsigned i = 0; i < NLVT; i++)
        APIC_STORE(*lvt_field(l, i), APIC_LVT_MASKED);
    /* There is no BIOS to set up virtual-wire mode (MP specification 3.6.2.2): the boot processor
     * takes the 8259 through LINT0 from the start. */
    if (v->index == 0)
        APIC_STORE(l->lvt_lint0, (uint32_t)APIC_DM_EXTINT << 8);
    for (int i = 0; i < 8; i++) {
        l->isr[i] = l->tmr[i] = 0;
        atomic_store(&l->irr[i], 0);
        atomic_store(&l->irr_level[i], 0);
    }
    l->timer_icr = 0;
    l->timer_divide = 0;
}

void lapic_reset(struct vcpu *v)
{
    struct lapic *l = &v->lapic;

    if (!l->base_msr) {
        APIC_STORE(l->id, v->index);
        APIC_STORE(l->base_msr,
                   (uint64_t)LAPIC_BASE | APIC_BASE_ENABLE | (v->index ? 0 : APIC_BASE_BSP));
    }
    reset_registers(v);
}

/* --- priorities (SDM 3A 11.8.3) --- */

static int highest(const uint32_t r[8])
{
    for (int i = 7; i >= 0; i--)
        if (r[i])
            return i * 32 + 31 - __builtin_clz(r[i]);
    return -1;
}

static int highest_irr(const struct lapic *l)
{
    for (int i = 7; i >= 0; i--) {
        uint32_t r = atomic_load_explicit(&l->irr[i], memory_order_relaxed);

        if (r)
            return i * 32 + 31 - __builtin_clz(r);
    }
    return -1;
}

static uint32_t ppr(const struct lapic *l)
{
    int isr = highest(l->isr);
    uint32_t class_ = isr < 0 ? 0 : (uint32_t)isr & 0xf0;

    return (l->tpr & 0xf0) >= class_ ? l->tpr : class_;
}

int lapic_pending(struct vcpu *v)
{
    struct lapic *l = &v->lapic;
    int vector = highest_irr(l);

    if (vector < 0 || !lapic_on(l))
        return -1;
    return ((uint32_t)vector & 0xf0) > (ppr(l) & 0xf0) ? vector : -1;
}

bool lapic_extint_pending(struct vcpu *v)
{
    const struct lapic *l = &v->lapic;
    uint32_t ev = atomic_load_explicit(&l->events, memory_order_relaxed);

    if (ev & LAPIC_EV_EXTINT_BUS)
        return true;
    if (!(ev & LAPIC_EV_EXTINT))
        return false;
    /* Globally disabled, LINT0 is the processor's INTR pin (SDM 3A 11.4.3). */
    return !lapic_on(l) ||
           (!(l->lvt_lint0 & APIC_LVT_MASKED) && APIC_DM(l->lvt_lint0) == APIC_DM_EXTINT);
}

/* After a register change that may have let something through. */
static void look(struct vcpu *v)
{
    if (lapic_pending(v) >= 0 || lapic_extint_pending(v))
        vcpu_kick(v);
}

void lapic_ack(struct vcpu *v, uint8_t vector)
{
    struct lapic *l = &v->lapic;
    uint32_t bit = 1u << (vector & 31);
    unsigned i = vector >> 5;

    /* The level must be read before the IRR bit is given up: the next message may change it. */
    if (atomic_load(&l->irr_level[i]) & bit)
        l->tmr[i] |= bit;
    else
        l->tmr[i] &= ~bit;
    l->isr[i] |= bit;
    atomic_fetch_and(&l->irr[i], ~bit);
}

static void eoi(struct vcpu *v)
{
    struct lapic *l = &v->lapic;
    int vector = highest(l->isr);

    if (vector < 0)
        return;
    uint32_t bit = 1u << (vector & 31);

    l->isr[vector >> 5] &= ~bit;
    if (l->tmr[vector >> 5] & bit) {
        fpu_put(v); /* the irqchip's lock is libc's */
        ioapic_eoi(&v->vm->irqchip, (uint8_t)vector);
    }
    look(v);
}

/* --- sources --- */

bool lapic_irr_post(struct vcpu *v, uint8_t vector, bool level)
{
    struct lapic *l = &v->lapic;
    uint32_t bit = 1u << (vector & 31);
    unsigned i = vector >> 5;

    if (level)
        atomic_fetch_or(&l->irr_level[i], bit);
    else if (atomic_load_explicit(&l->irr_level[i], memory_order_relaxed) & bit)
        atomic_fetch_and(&l->irr_level[i], ~bit);
    return !(atomic_fetch_or(&l->irr[i], bit) & bit);
}

void lapic_irr_set(struct vcpu *v, uint8_t vector, bool level)
{
    if (vector < 16)
        lapic_error(v, APIC_ESR_RECV_VECTOR);
    else if (lapic_irr_post(v, vector, level))
        vcpu_kick(v);
}

void lapic_error(struct vcpu *v, uint32_t bit)
{
    struct lapic *l = &v->lapic;

    if (__atomic_fetch_or(&l->esr_pending, bit, __ATOMIC_RELAXED))
        return;
    uint32_t lvt = APIC_LOAD(l->lvt_error);

    if (lvt & APIC_LVT_MASKED)
        return;
    if ((lvt & 0xff) < 16)
        __atomic_fetch_or(&l->esr_pending, APIC_ESR_RECV_VECTOR, __ATOMIC_RELAXED);
    else
        lapic_irr_set(v, (uint8_t)lvt, false);
}

void lapic_nmi(struct vcpu *v)
{
    if (atomic_fetch_or(&v->lapic.events, LAPIC_EV_NMI) & LAPIC_EV_NMI)
        atomic_fetch_or(&v->lapic.events, LAPIC_EV_NMI_MORE);
    vcpu_kick(v);
}

/* One NMI waits while they are blocked (SDM 3A 6.7.1). A CPU that is free begins with the first at
 * once and so has room for another: both of two senders' arrive, however late this thread looks. */
void lapic_take_nmis(struct vcpu *v)
{
    const uint32_t both = LAPIC_EV_NMI | LAPIC_EV_NMI_MORE;
    struct cpu *c = &v->cpu;
    uint32_t ev = atomic_load_explicit(&v->lapic.events, memory_order_relaxed) & both;

    if (!ev)
        return;
    ev = atomic_fetch_and(&v->lapic.events, ~both);
    unsigned n = c->nmi_pending + !!(ev & LAPIC_EV_NMI) + !!(ev & LAPIC_EV_NMI_MORE);
    unsigned room = c->nmi_blocked ? 1 : 2;

    c->nmi_pending = (uint8_t)(n < room ? n : room);
}

void lapic_lvt_fire(struct vcpu *v, uint32_t lvt)
{
    if (lvt & APIC_LVT_MASKED)
        return;
    if (APIC_DM(lvt) == APIC_DM_FIXED) {
        lapic_irr_set(v, (uint8_t)lvt, false);
    } else if (APIC_DM(lvt) == APIC_DM_NMI) {
        lapic_nmi(v);
    }
}

/* --- registers --- */

static void set_tpr(struct vcpu *v, uint32_t tpr)
{
    APIC_STORE(v->lapic.tpr, tpr & 0xff);
    v->cpu.cr8 = (tpr & 0xff) >> 4;
    look(v);
}

uint64_t lapic_get_cr8(const struct vcpu *v)
{
    return v->lapic.tpr >> 4;
}

void lapic_set_cr8(struct vcpu *v, uint64_t cr8)
{
    set_tpr(v, (uint32_t)(cr8 & 15) << 4);
}

static void set_lvt(struct vcpu *v, unsigned i, uint32_t val)
{
    struct lapic *l = &v->lapic;

    val &= lvt_table[i].write;
    if (!(l->svr & APIC_SVR_ENABLE))
        val |= APIC_LVT_MASKED;
    if (i == 0) {
        lapic_timer_set_lvt(v, val);
    } else {
        APIC_STORE(*lvt_field(l, i), val);
        look(v);
    }
}

static void set_svr(struct vcpu *v, uint32_t val)
{
    struct lapic *l = &v->lapic;

    APIC_STORE(l->svr, val & 0x1ff);
    if (!(val & APIC_SVR_ENABLE)) /* SDM 3A 11.4.7.2: masks are set and stay so */
        for (unsigned i = 0; i < NLVT; i++)
            set_lvt(v, i, *lvt_field(l, i));
}

/* A register both modes have. False: there is none of that number that can be read. */
static bool reg_read(struct vcpu *v, unsigned reg, uint32_t *val)
{
    struct lapic *l = &v->lapic;

    switch (reg) {
    case APIC_VERSION:
        *val = VERSION_VALUE;
        break;
    case APIC_TPR:
        *val = l->tpr;
        break;
    case APIC_PPR:
        *val = ppr(l);
        break;
    case APIC_SVR:
        *val = l->svr;
        break;
    case APIC_ISR ... APIC_ISR + 7:
        *val = l->isr[reg - APIC_ISR];
        break;
    case APIC_TMR ... APIC_TMR + 7: {
        /* The architecture sets TMR when IRR accepts the vector, we when it is acknowledged. */
        uint32_t irr = atomic_load(&l->irr[reg - APIC_TMR]);

        *val = (l->tmr[reg - APIC_TMR] & ~irr) | (atomic_load(&l->irr_level[reg - APIC_TMR]) & irr);
        break;
    }
    case APIC_IRR ... APIC_IRR + 7:
        *val = atomic_load(&l->irr[reg - APIC_IRR]);
        break;
    case APIC_ESR:
        *val = l->esr;
        break;
    case APIC_ICR:
        *val = l->icr_low;
        break;
    case APIC_LVT_TIMER ... APIC_LVT_ERROR:
        *val = *lvt_field(l, reg - APIC_LVT_TIMER);
        break;
    case APIC_TIMER_INITIAL:
        *val = l->timer_icr;
        break;
    case APIC_TIMER_CURRENT:
        *val = lapic_timer_current(v);
        break;
    case APIC_TIMER_DIVIDE:
        *val = l->timer_divide;
        break;
    default:
        return false;
    }
    return true;
}

/* False: there is none of that number that can be written. */
static bool reg_write(struct vcpu *v, unsigned reg, uint32_t val)
{
    struct lapic *l = &v->lapic;

    switch (reg) {
    case APIC_TPR:
        set_tpr(v, val);
        break;
    case APIC_EOI:
        eoi(v);
        break;
    case APIC_SVR:
        set_svr(v, val);
        break;
    case APIC_ESR:
        l->esr = __atomic_exchange_n(&l->esr_pending, 0, __ATOMIC_RELAXED);
        break;
    case APIC_ICR:
        l->icr_low = val & 0xccfff;
        lapic_icr_send(v);
        break;
    case APIC_LVT_TIMER ... APIC_LVT_ERROR:
        set_lvt(v, reg - APIC_LVT_TIMER, val);
        break;
    case APIC_TIMER_INITIAL:
        lapic_timer_set_initial(v, val);
        break;
    case APIC_TIMER_DIVIDE:
        lapic_timer_set_divide(v, val & 0xb);
        break;
    default:
        return false;
    }
    return true;
}

/* --- xAPIC page (SDM 3A table 11-1) --- */

uint32_t lapic_mmio_read(struct vcpu *v, uint32_t offset)
{
    struct lapic *l = &v->lapic;
    uint32_t val = 0;

    if (offset & 15)
        return 0;
    switch (offset >> 4) {
    case APIC_ID:
        return l->id << 24;
    case APIC_LDR:
        return l->ldr;
    case APIC_DFR:
        return l->dfr;
    case APIC_ICR2:
        return l->icr_high;
    case APIC_APR: /* P6's arbitration: no more than a number that reads 0 */
    case APIC_RRD:
    case APIC_EOI:
        return 0;
    }
    if (offset >> 4 >= APIC_REGS || !reg_read(v, offset >> 4, &val))
        lapic_error(v, APIC_ESR_REGISTER);
    return val;
}

void lapic_mmio_write(struct vcpu *v, uint32_t offset, uint32_t val)
{
    struct lapic *l = &v->lapic;
    uint32_t reg = offset >> 4;

    if (offset & 15)
        return;
    switch (reg) {
    case APIC_ID:
        APIC_STORE(l->id, val >> 24);
        return;
    case APIC_LDR:
        APIC_STORE(l->ldr, val & 0xff000000);
        return;
    case APIC_DFR: /* bits 27:0 read as ones (SDM 3A figure 11-14) */
        APIC_STORE(l->dfr, val | 0x0fffffff);
        return;
    case APIC_ICR2:
        l->icr_high = val & 0xff000000;
        return;
    case APIC_VERSION: /* read-only ones: no error, no effect */
    case APIC_APR ... APIC_PPR:
    case APIC_RRD:
    case APIC_ISR ... APIC_IRR + 7:
    case APIC_TIMER_CURRENT:
        return;
    }
    if (reg >= APIC_REGS || !reg_write(v, reg, val))
        lapic_error(v, APIC_ESR_REGISTER);
}

/* --- MSRs --- */

/* Bits of an x2APIC register that may be written as 1; the others #GP (SDM 3A 11.12.1.3). */
static uint64_t x2_writable(unsigned reg)
{
    switch (reg) {
    case APIC_TPR:
    case APIC_SELF_IPI:
        return 0xff;
    case APIC_SVR:
        return 0x1ff;
    case APIC_ICR: /* delivery status is gone, but is not worth a fault */
        return 0xffffffff000cdfff;
    case APIC_LVT_TIMER ... APIC_LVT_ERROR:
        return lvt_table[reg - APIC_LVT_TIMER].write | lvt_table[reg - APIC_LVT_TIMER].ro;
    case APIC_TIMER_INITIAL:
        return 0xffffffff;
    case APIC_TIMER_DIVIDE:
        return 0xb;
    default: /* EOI, ESR: zero only */
        return 0;
    }
}

/* Modes and the transitions between them (SDM 3A figure 11-27). */
static int write_base(struct vcpu *v, uint64_t val)
{
    struct lapic *l = &v->lapic;
    const uint64_t mode = APIC_BASE_ENABLE | APIC_BASE_EXTD;
    uint64_t limit = v->vm->maxphyaddr ? 1ull << v->vm->maxphyaddr : 1ull << 36;
    uint64_t was = l->base_msr & mode, now = val & mode;

    if (val >= limit || (val & 0x2ff))
        return cpu_gp0(&v->cpu);
    if (now == APIC_BASE_EXTD || (was == mode && now == APIC_BASE_ENABLE) || (!was && now == mode))
        return cpu_gp0(&v->cpu);
    APIC_STORE(l->base_msr, val);
    if (now == mode && was != mode) {
        APIC_STORE(l->id, v->index);
        l->icr_high = 0;
    } else if (!now && was) { /* on again, it is as after RESET (SDM 3A 11.4.3) */
        APIC_STORE(l->id, v->index);
        reset_registers(v);
    }
    look(v);
    return CPU_OK;
}

int lapic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
    struct lapic *l = &v->lapic;
    unsigned reg = msr - 0x800;
    uint32_t low;

    if (msr == 0x1b) {
        *val = l->base_msr;
        return CPU_OK;
    }
    if (msr == 0x6e0) {
        *val = lapic_timer_get_deadline(v);
        return CPU_OK;
    }
    if (reg >= APIC_REGS || !lapic_x2(l))
        return cpu_gp0(&v->cpu);
    switch (reg) {
    case APIC_ID:
        *val = l->id;
        return CPU_OK;
    case APIC_LDR:
        *val = lapic_x2_ldr(l->id);
        return CPU_OK;
    case APIC_ICR:
        *val = (uint64_t)l->icr_high << 32 | l->icr_low;
        return CPU_OK;
    }
    if (!reg_read(v, reg, &low))
        return cpu_gp0(&v->cpu);
    *val = low;
    return CPU_OK;
}

int lapic_msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
    struct lapic *l = &v->lapic;
    unsigned reg = msr - 0x800;

    if (msr == 0x1b)
        return write_base(v, val);
    if (msr == 0x6e0) {
        lapic_timer_set_deadline(v, val);
        return CPU_OK;
    }
    if (reg >= APIC_REGS || !lapic_x2(l) || (val & ~x2_writable(reg)))
        return cpu_gp0(&v->cpu);
    if (reg == APIC_SELF_IPI) {
        lapic_self_ipi(v, (uint8_t)val);
        return CPU_OK;
    }
    if (reg == APIC_ICR)
        l->icr_high = (uint32_t)(val >> 32);
    return reg_write(v, reg, (uint32_t)val) ? CPU_OK : cpu_gp0(&v->cpu);
}
