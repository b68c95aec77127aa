/* What ioapic.c, pic.c, pit.c and irqchip.c share. Everything here is called with irqchip.lock held
 * unless it says otherwise. */
#ifndef VCPU_IRQCHIP_H
#define VCPU_IRQCHIP_H

#include "vcpu/irq.h"

/* IOAPIC pin 0 is the 8259's INTR, ISA IRQ 0 is pin 2 (the MADT's override). */
#define IOAPIC_PIN_INTR 0
#define IOAPIC_PIN_IRQ0 2

void ioapic_reset(struct irqchip *c);
void ioapic_set_pin(struct irqchip *c, unsigned pin, bool level);

void pic_reset(struct irqchip *c);
/* ISA line 0-15 but 2 (the cascade). */
void pic_set_line(struct irqchip *c, unsigned irq, bool level);

void pit_reset(struct irqchip *c);

void irqchip_line(struct irqchip *c, unsigned gsi, bool level);

#endif
