/* The IOAPIC (Intel 82093AA): 24 pins, each with a redirection entry that makes it an APIC message.
 */
#include "vcpu/irqchip.h"
#include "vcpu/lapic_regs.h"

/* Version 0x11: EOI by broadcast only; highest entry in bits 23:16. */
#define VERSION_VALUE (0x11u | (IOAPIC_PINS - 1) << 16)

#define REDIR_STATUS     0x1000u
#define REDIR_ACTIVE_LOW 0x2000u
#define REDIR_REMOTE_IRR 0x4000u
#define REDIR_LEVEL      0x8000u
#define REDIR_MASKED     0x10000u
#define REDIR_READONLY   (uint64_t)(REDIR_STATUS | REDIR_REMOTE_IRR)
#define REDIR_RESERVED   0x00fffffffffe0000u

void ioapic_reset(struct irqchip *c)
{
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        c->ioapic.redir[i] = REDIR_MASKED;
}

static bool asserted(const struct ioapic *io, unsigned pin)
{
    return (io->level >> pin & 1) != !!(io->redir[pin] & REDIR_ACTIVE_LOW);
}

/* Send pin's message if its entry lets it. */
static void service(struct irqchip *c, unsigned pin)
{
    uint64_t r = c->ioapic.redir[pin];
    unsigned mode = APIC_DM(r);
    bool level = (r & REDIR_LEVEL) && (mode == APIC_DM_FIXED || mode == APIC_DM_LOWEST);

    if ((r & REDIR_MASKED) || (level && (r & REDIR_REMOTE_IRR)))
        return;
    if (level)
        c->ioapic.redir[pin] |= REDIR_REMOTE_IRR;
    apic_deliver(c->vm, (uint32_t)(r >> 56), r & 0x800, mode, (uint8_t)r, level, NULL);
}

void ioapic_set_pin(struct irqchip *c, unsigned pin, bool level)
{
    struct ioapic *io = &c->ioapic;
    bool was = asserted(io, pin);

    io->level = (io->level & ~(1u << pin)) | (uint32_t)level << pin;
    /* An edge on a masked pin is lost (82093AA 3.2.4, interrupt mask). */
    if (asserted(io, pin) && ((io->redir[pin] & REDIR_LEVEL) || !was))
        service(c, pin);
}

static void write_redir(struct irqchip *c, unsigned pin, bool high, uint32_t val)
{
    struct ioapic *io = &c->ioapic;
    uint64_t r = io->redir[pin];

    if (high)
        r = (r & 0xffffffff) | (uint64_t)val << 32;
    else
        r = (r & 0xffffffff00000000) | (val & ~REDIR_READONLY) | (r & REDIR_READONLY);
    r &= ~REDIR_RESERVED;
    /* Remote IRR is a level-triggered entry's: turning one into edge and back is how systems
     * without a directed EOI register drop it. */
    if (!(r & REDIR_LEVEL))
        r &= ~(uint64_t)REDIR_REMOTE_IRR;
    io->redir[pin] = r;
    if ((r & REDIR_LEVEL) && asserted(io, pin))
        service(c, pin);
}

bool ioapic_sends_nmi(struct irqchip *c)
{
    bool any = false;

    pthread_mutex_lock(&c->lock);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        any = any || (!(c->ioapic.redir[pin] & REDIR_MASKED) &&
                      APIC_DM(c->ioapic.redir[pin]) == APIC_DM_NMI);
    pthread_mutex_unlock(&c->lock);
    return any;
}

void ioapic_eoi(struct irqchip *c, uint8_t vector)
{
    struct ioapic *io = &c->ioapic;

    pthread_mutex_lock(&c->lock);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t r = io->redir[pin];

        if ((uint8_t)r != vector || !(r & REDIR_LEVEL) || !(r & REDIR_REMOTE_IRR))
            continue;
        io->redir[pin] &= ~(uint64_t)REDIR_REMOTE_IRR;
        if (asserted(io, pin)) /* not served yet: again */
            service(c, pin);
    }
    pthread_mutex_unlock(&c->lock);
}

static uint32_t read_window(const struct ioapic *io)
{
    unsigned i = io->select - 0x10;

    switch (io->select) {
    case 0: /* ID */
    case 2: /* arbitration ID: loaded from it */
        return io->id;
    case 1:
        return VERSION_VALUE;
    }
    if (i >= 2 * IOAPIC_PINS)
        return 0;
    return (uint32_t)(io->redir[i / 2] >> (i & 1) * 32);
}

uint32_t ioapic_read(struct irqchip *c, uint32_t offset)
{
    uint32_t val = 0;

    pthread_mutex_lock(&c->lock);
    if (offset == 0)
        val = c->ioapic.select;
    else if (offset == 0x10)
        val = read_window(&c->ioapic);
    pthread_mutex_unlock(&c->lock);
    return val;
}

void ioapic_write(struct irqchip *c, uint32_t offset, uint32_t val)
{
    struct ioapic *io = &c->ioapic;

    pthread_mutex_lock(&c->lock);
    if (offset == 0) {
        io->select = val & 0xff;
    } else if (offset == 0x10) {
        unsigned i = io->select - 0x10;

        if (io->select == 0)
            io->id = val & 0x0f000000;
        else if (i < 2 * IOAPIC_PINS)
            write_redir(c, i / 2, i & 1, val);
    }
    pthread_mutex_unlock(&c->lock);
}
