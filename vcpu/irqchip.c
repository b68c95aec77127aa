/* The wires: which controller pins an interrupt line ends at. */
#include "vcpu/irqchip.h"

#include "paging/copy.h"
#include "vcpu/vcpu.h"

void irqchip_init(struct irqchip *c, struct vm_cpus *vm)
{
    zero_bytes(c, sizeof(*c));
    pthread_mutex_init(&c->lock, NULL);
    c->vm = vm;
    ioapic_reset(c);
    pic_reset(c);
    pit_reset(c);
}

void irqchip_line(struct irqchip *c, unsigned gsi, bool level)
{
    if (gsi >= IOAPIC_PINS)
        return;
    if (gsi == 2) /* the 8259s' cascade has no line of its own */
        gsi = 0;
    if (gsi < 16)
        pic_set_line(c, gsi, level);
    ioapic_set_pin(c, gsi ? gsi : IOAPIC_PIN_IRQ0, level);
}

void irq_set(struct vm_cpus *vm, unsigned gsi, bool level)
{
    struct irqchip *c = &vm->irqchip;

    pthread_mutex_lock(&c->lock);
    irqchip_line(c, gsi, level);
    pthread_mutex_unlock(&c->lock);
}

void irq_pulse(struct vm_cpus *vm, unsigned gsi)
{
    struct irqchip *c = &vm->irqchip;

    pthread_mutex_lock(&c->lock);
    irqchip_line(c, gsi, true);
    irqchip_line(c, gsi, false);
    pthread_mutex_unlock(&c->lock);
}
