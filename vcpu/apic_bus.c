/* Messages between APICs (SDM 3A 11.6, 11.11): who is addressed, and what a message does there. */
#include "vcpu/lapic_regs.h"

struct message {
    uint32_t dest;
    bool logical;
    bool wide; /* dest is an x2APIC sender's 32 bits, else 8 (xAPIC, IOAPIC, MSI) */
    bool level;
    uint8_t mode, vector;
};

/* SDM 3A 11.6.2.2 (flat, cluster), 11.12.10 (x2APIC). */
static bool match_logical(const struct lapic *l, const struct message *msg)
{
    if (lapic_x2(l)) {
        uint32_t ldr = lapic_x2_ldr(APIC_LOAD(l->id));

        return ldr >> 16 == msg->dest >> 16 && (ldr & msg->dest & 0xffff);
    }
    if (msg->dest > 0xff)
        return false;
    uint32_t ldr = APIC_LOAD(l->ldr) >> 24;

    switch (APIC_LOAD(l->dfr) >> 28) {
    case 0xf:
        return ldr & msg->dest;
    case 0:
        return ldr >> 4 == msg->dest >> 4 && (ldr & msg->dest & 0xf);
    default:
        return false;
    }
}

static bool match(const struct vcpu *v, const struct message *msg)
{
    const struct lapic *l = &v->lapic;

    if (!lapic_on(l))
        return false;
    if (msg->dest == (msg->wide ? 0xffffffff : 0xff))
        return true;
    return msg->logical ? match_logical(l, msg) : APIC_LOAD(l->id) == msg->dest;
}

static void event(struct vcpu *v, uint32_t ev)
{
    atomic_fetch_or(&v->lapic.events, ev);
    vcpu_kick(v);
}

static bool accepts(const struct vcpu *v)
{
    return APIC_LOAD(v->lapic.svr) & APIC_SVR_ENABLE;
}

static void deliver_one(struct vcpu *v, const struct message *msg)
{
    switch (msg->mode) {
    case APIC_DM_FIXED:
    case APIC_DM_LOWEST:
        if (accepts(v))
            lapic_irr_set(v, msg->vector, msg->level);
        break;
    case APIC_DM_NMI:
        lapic_nmi(v);
        break;
    case APIC_DM_INIT:
        /* A start-up message from before it is void. */
        atomic_fetch_and(&v->lapic.events, ~(uint32_t)LAPIC_EV_SIPI);
        event(v, LAPIC_EV_INIT);
        break;
    case APIC_DM_STARTUP:
        atomic_store(&v->lapic.sipi_vector, msg->vector);
        event(v, LAPIC_EV_SIPI);
        break;
    case APIC_DM_EXTINT:
        event(v, LAPIC_EV_EXTINT_BUS);
        break;
    default: /* there is no SMM; 3 is reserved */
        break;
    }
}

/* The lowest task priority wins; equals take turns. */
static void deliver_lowest(struct vm_cpus *vm, const struct message *msg,
                           const struct vcpu *excluded)
{
    static _Atomic unsigned turn;
    unsigned first = atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed);
    struct vcpu *best = NULL;

    for (unsigned i = 0; i < vm->nvcpu; i++) {
        struct vcpu *v = vm->vcpu[(first + i) % vm->nvcpu];

        if (v == excluded || !match(v, msg) || !accepts(v))
            continue;
        if (!best || APIC_LOAD(v->lapic.tpr) >> 4 < APIC_LOAD(best->lapic.tpr) >> 4)
            best = v;
    }
    if (best)
        deliver_one(best, msg);
}

static void deliver(struct vm_cpus *vm, const struct message *msg, const struct vcpu *excluded)
{
    if (msg->mode == APIC_DM_LOWEST) {
        deliver_lowest(vm, msg, excluded);
        return;
    }
    for (unsigned i = 0; i < vm->nvcpu; i++)
        if (vm->vcpu[i] != excluded && match(vm->vcpu[i], msg))
            deliver_one(vm->vcpu[i], msg);
}

void apic_deliver(struct vm_cpus *vm, uint32_t dest, bool logical, unsigned delivery_mode,
                  uint8_t vector, bool level, struct vcpu *self_excluded)
{
    if (vm->irqchip.msi) { /* SDM 3A 11.11: the same message as an address and data */
        uint64_t addr = LAPIC_BASE | (uint64_t)(dest & 0xff) << 12 | (logical ? 4u : 0u) |
                        (delivery_mode == APIC_DM_LOWEST ? 8u : 0u);
        uint32_t data = vector | (delivery_mode & 7) << 8 | (level ? 0xc000u : 0u);

        vm->irqchip.msi(vm, addr, data);
        return;
    }
    struct message msg = {.dest = dest,
                          .logical = logical,
                          .wide = dest > 0xff,
                          .level = level,
                          .mode = (uint8_t)(delivery_mode & 7),
                          .vector = vector};

    deliver(vm, &msg, self_excluded);
}

void lapic_self_ipi(struct vcpu *v, uint8_t vector)
{
    if (vector < 16)
        lapic_error(v, APIC_ESR_SEND_VECTOR);
    else if (accepts(v))
        lapic_irr_set(v, vector, false);
}

void lapic_icr_send(struct vcpu *v)
{
    struct lapic *l = &v->lapic;
    uint32_t icr = l->icr_low;
    unsigned shorthand = icr >> 18 & 3;
    bool x2 = lapic_x2(l);
    /* The trigger mode means something to INIT alone. */
    struct message msg = {.dest = x2 ? l->icr_high : l->icr_high >> 24,
                          .logical = icr & 0x800,
                          .wide = x2,
                          .mode = (uint8_t)APIC_DM(icr),
                          .vector = (uint8_t)icr};

    switch (msg.mode) {
    case APIC_DM_FIXED:
    case APIC_DM_LOWEST:
        if (msg.vector < 16) {
            lapic_error(v, APIC_ESR_SEND_VECTOR);
            return;
        }
        break;
    case APIC_DM_INIT:
        if ((icr & 0xc000) == 0x8000) /* level de-assert: no effect since the Pentium 4 */
            return;
        /* fall through */
    case APIC_DM_STARTUP:
        if (shorthand == 1 || shorthand == 2) /* SDM 3A table 11-3: invalid */
            return;
        break;
    case APIC_DM_NMI:
        break;
    default:
        return;
    }
    if (shorthand == 1) {
        if (msg.mode == APIC_DM_LOWEST)
            msg.mode = APIC_DM_FIXED;
        deliver_one(v, &msg);
        return;
    }
    if (shorthand) { /* everybody */
        msg.dest = 0xffffffff;
        msg.wide = true;
    }
    deliver(v->vm, &msg, shorthand == 3 ? v : NULL);
}
