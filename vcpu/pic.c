/*
 * The pair of 8259A interrupt controllers (Intel 231468) with ELCR. The slave's INT is the master's
 * line 2, which follows it as a level.
 */
#include "vcpu/irqchip.h"
#include "vcpu/lapic_regs.h"

#define CASCADE 2
/* Lines that cannot be level-triggered: 0, 1, 2, 8, 13 (ISA's timer, keyboard, cascade, RTC, FPU).
 */
static const uint8_t elcr_mask[2] = {0xf8, 0xde};

static bool is_master(const struct irqchip *c, const struct pic *p)
{
    return p == &c->pic[0];
}

void pic_reset(struct irqchip *c)
{
    /* As a PC's firmware leaves them, but for the masks: nobody is home before the guest is. */
    for (int i = 0; i < 2; i++) {
        c->pic[i].imr = 0xff;
        c->pic[i].base = i ? 0x70 : 0x08;
    }
}

/* Place of the highest-priority bit of set, 8 when empty: 0 is the highest (rotation, 231468
 * "automatic rotation"). */
static unsigned place(const struct pic *p, uint8_t set)
{
    unsigned i;

    for (i = 0; i < 8; i++)
        if (set >> ((i + p->priority_add) & 7) & 1)
            break;
    return i;
}

static unsigned line_at(const struct pic *p, unsigned where)
{
    return (where + p->priority_add) & 7;
}

/* The line that would be served now, or -1. */
static int request(const struct irqchip *c, const struct pic *p)
{
    uint8_t busy = p->isr;
    unsigned want = place(p, p->irr & (uint8_t)~p->imr);

    if (p->special_mask) /* masked lines in service hold nobody back */
        busy &= (uint8_t)~p->imr;
    if (p->sfnm && is_master(c, p)) /* the slave may interrupt its own service */
        busy &= (uint8_t) ~(1 << CASCADE);
    return want < place(p, busy) ? (int)line_at(p, want) : -1;
}

static void set_input(struct pic *p, unsigned line, bool level, bool follow)
{
    uint8_t bit = (uint8_t)(1 << line);

    if (follow || (p->elcr & bit)) {
        p->irr = level ? p->irr | bit : p->irr & (uint8_t)~bit;
    } else if (level && !(p->lines & bit)) {
        /* The request stays latched when the line falls: irq_pulse() is a short one. */
        p->irr |= bit;
    }
    p->lines = level ? p->lines | bit : p->lines & (uint8_t)~bit;
}

/* Tell vCPU 0 (or KVM) what the INTR pin is now. */
static void update_pin(struct irqchip *c)
{
    struct vm_cpus *vm = c->vm;

    set_input(&c->pic[0], CASCADE, request(c, &c->pic[1]) >= 0, true);
    bool intr = request(c, &c->pic[0]) >= 0;

    if (intr == c->pic_intr)
        return;
    c->pic_intr = intr;
    ioapic_set_pin(c, IOAPIC_PIN_INTR, intr);
    if (c->extint) {
        c->extint(vm, intr);
        return;
    }
    if (!vm->nvcpu)
        return;
    if (!intr) {
        for (unsigned i = 0; i < vm->nvcpu; i++)
            atomic_fetch_and(&vm->vcpu[i]->lapic.events,
                             ~(uint32_t)(LAPIC_EV_EXTINT | LAPIC_EV_EXTINT_BUS));
        return;
    }
    struct vcpu *v = vm->vcpu[0];
    uint32_t lint0 = APIC_LOAD(v->lapic.lvt_lint0);

    atomic_fetch_or(&v->lapic.events, LAPIC_EV_EXTINT);
    if (lapic_on(&v->lapic) && APIC_DM(lint0) != APIC_DM_EXTINT)
        lapic_lvt_fire(v, lint0);
    else
        vcpu_kick(v);
}

void pic_set_line(struct irqchip *c, unsigned irq, bool level)
{
    set_input(&c->pic[irq >> 3], irq & 7, level, false);
    update_pin(c);
}

bool pic_output(struct irqchip *c)
{
    pthread_mutex_lock(&c->lock);
    bool out = c->pic_intr;

    pthread_mutex_unlock(&c->lock);
    return out;
}

/* One controller's part of an INTA cycle. A request that is gone is answered as line 7, with no bit
 * in service (231468 "spurious"). */
static unsigned acknowledge(const struct irqchip *c, struct pic *p)
{
    int line = request(c, p);

    if (line < 0)
        return 7;
    uint8_t bit = (uint8_t)(1 << line);

    if (!p->auto_eoi)
        p->isr |= bit;
    else if (p->rotate_on_aeoi)
        p->priority_add = (line + 1) & 7;
    if (!(p->elcr & bit) && !(is_master(c, p) && line == CASCADE))
        p->irr &= (uint8_t)~bit;
    return (unsigned)line;
}

int pic_ack(struct irqchip *c)
{
    pthread_mutex_lock(&c->lock);
    /* The master answers for the cascade only when it has that request, not for a spurious one. */
    bool cascade = request(c, &c->pic[0]) == CASCADE;
    unsigned line = acknowledge(c, &c->pic[0]);
    int vector = c->pic[0].base + (int)line;

    if (cascade)
        vector = c->pic[1].base + (int)acknowledge(c, &c->pic[1]);
    update_pin(c);
    pthread_mutex_unlock(&c->lock);
    return vector;
}

static void icw1(struct pic *p, uint8_t val)
{
    p->imr = 0;
    p->isr = 0;
    p->irr = p->lines & p->elcr; /* the edge sense is reset: a line has to rise again */
    p->priority_add = 0;
    p->special_mask = 0;
    p->read_isr = 0;
    p->poll = 0;
    p->single = val >> 1 & 1;
    p->icw4_needed = val & 1;
    if (!p->icw4_needed)
        p->auto_eoi = p->sfnm = p->rotate_on_aeoi = 0;
    p->icw_step = 2;
}

static void ocw2(struct pic *p, uint8_t val)
{
    uint8_t level = val & 7, in_service = p->isr;

    /* In special mask mode a non-specific EOI leaves masked levels alone. */
    if (p->special_mask)
        in_service &= (uint8_t)~p->imr;
    unsigned where = place(p, in_service);
    unsigned line = line_at(p, where);

    switch (val >> 5) {
    case 0: /* rotate in automatic EOI mode: clear, set */
    case 4:
        p->rotate_on_aeoi = val >> 7;
        break;
    case 1: /* non-specific EOI */
    case 5: /* with rotation */
        if (where == 8)
            break;
        p->isr &= (uint8_t) ~(1 << line);
        if (val >> 7)
            p->priority_add = (line + 1) & 7;
        break;
    case 3: /* specific EOI */
    case 7: /* with rotation */
        p->isr &= (uint8_t) ~(1 << level);
        if (val >> 7)
            p->priority_add = (level + 1) & 7;
        break;
    case 6: /* set priority */
        p->priority_add = (level + 1) & 7;
        break;
    default:
        break;
    }
}

static void ocw3(struct pic *p, uint8_t val)
{
    if (val & 4)
        p->poll = 1;
    if (val & 2)
        p->read_isr = val & 1;
    if (val & 0x40)
        p->special_mask = val >> 5 & 1;
}

static void write_data(struct pic *p, uint8_t val)
{
    switch (p->icw_step) {
    case 2:
        p->base = val & 0xf8;
        p->icw_step = p->single ? (p->icw4_needed ? 4 : 0) : 3;
        break;
    case 3: /* which line the slave is at: fixed */
        p->icw_step = p->icw4_needed ? 4 : 0;
        break;
    case 4:
        p->sfnm = val >> 4 & 1;
        p->auto_eoi = val >> 1 & 1;
        p->icw_step = 0;
        break;
    default:
        p->imr = val;
    }
}

void pic_write(struct irqchip *c, uint16_t port, uint8_t val)
{
    pthread_mutex_lock(&c->lock);
    struct pic *p = &c->pic[port == 0x4d0 || port == 0x4d1 ? port & 1 : port >> 7 & 1];

    if (port >= 0x4d0)
        p->elcr = val & elcr_mask[port & 1];
    else if (port & 1)
        write_data(p, val);
    else if (val & 0x10)
        icw1(p, val);
    else if (val & 8)
        ocw3(p, val);
    else
        ocw2(p, val);
    update_pin(c);
    pthread_mutex_unlock(&c->lock);
}

uint8_t pic_read(struct irqchip *c, uint16_t port)
{
    uint8_t val;

    pthread_mutex_lock(&c->lock);
    struct pic *p = &c->pic[port == 0x4d0 || port == 0x4d1 ? port & 1 : port >> 7 & 1];

    if (port >= 0x4d0) {
        val = p->elcr;
    } else if (p->poll) { /* the read is the INTA pulse */
        p->poll = 0;
        val = request(c, p) >= 0 ? (uint8_t)(0x80 | acknowledge(c, p)) : 0;
        update_pin(c);
    } else if (port & 1) {
        val = p->imr;
    } else {
        val = p->read_isr ? p->isr : p->irr;
    }
    pthread_mutex_unlock(&c->lock);
    return val;
}
