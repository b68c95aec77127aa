/*
 * Interrupt controllers: local APIC (one per vCPU, xAPIC and x2APIC), IOAPIC, the 8259 pair and the
 * 8254. Used by bt and interp in full; under kvm the local APIC is the kernel's (split irqchip) and
 * the rest stays here, delivering through struct irqchip.msi.
 *
 * Threads: lapic_irr_set() and lapic pending flags from any thread (atomics + vcpu_kick). The rest
 * of struct lapic belongs to the vCPU's own thread. struct irqchip is under its own lock, taken
 * inside these functions; they may be called from vCPU threads and the I/O thread.
 */
#ifndef VCPU_IRQ_H
#define VCPU_IRQ_H

#include <pthread.h>
#include <stdatomic.h>
#include "paging/types.h"

#define IOAPIC_BASE 0xfec00000u
#define LAPIC_BASE  0xfee00000u
#define IOAPIC_PINS 24
#define PIT_HZ      1193182u
/* The clock that the LAPIC timer's divider divides (KVM's default too; CPUID 0x15's crystal and
 * 0x40000010 must say the same). */
#define LAPIC_TIMER_HZ 1000000000u

struct vcpu;
struct vm_cpus;

struct lapic {
    uint32_t id;
    uint64_t base_msr; /* IA32_APIC_BASE: BSP, x2APIC enable, global enable */
    uint32_t svr, tpr, ldr, dfr, esr, esr_pending, icr_low, icr_high;
    uint32_t lvt_timer, lvt_thermal, lvt_perf, lvt_lint0, lvt_lint1, lvt_error, lvt_cmci;
    uint32_t isr[8], tmr[8];
    _Atomic uint32_t irr[8]; /* set by any thread */
    _Atomic uint32_t
        irr_level[8];        /* trigger mode that came with the IRR bit, copied to TMR on ack */
    _Atomic uint32_t events; /* LAPIC_EV_*: NMI, INIT, SIPI, ExtINT, from any thread */
    _Atomic uint8_t sipi_vector;
    /* timer */
    uint32_t timer_icr, timer_divide;
    uint64_t timer_start;  /* guest TSC when the count began */
    uint64_t tsc_deadline; /* guest TSC, MSR 0x6e0 */
    uint64_t next_tsc;     /* host TSC of the next expiry, 0 = none */
    uint64_t armed_tsc;    /* what ops->arm_timer() was last told */
};
enum {
    LAPIC_EV_NMI = 1,
    LAPIC_EV_INIT = 2,
    LAPIC_EV_SIPI = 4,
    LAPIC_EV_EXTINT = 8,      /* level of the 8259's INTR pin (vCPU 0): through LINT0 */
    LAPIC_EV_EXTINT_BUS = 16, /* an ExtINT message from the IOAPIC: LINT0 has no say */
    LAPIC_EV_NMI_MORE = 32,   /* a second NMI before the first was taken */
};

/* Power-up when base_msr is 0 (never initialised), else INIT: IA32_APIC_BASE and pending events
 * stay (SDM 3A 11.4.7). Own thread, or before it runs. */
void lapic_reset(struct vcpu *v);

/* xAPIC page, offset < 4096. Aligned 32-bit accesses only have an effect. */
uint32_t lapic_mmio_read(struct vcpu *v, uint32_t offset);
void lapic_mmio_write(struct vcpu *v, uint32_t offset, uint32_t val);

/* x2APIC MSRs 0x800-0x83f and 0x6e0 (TSC deadline), 0x1b (APIC_BASE). CPU_OK or CPU_FAULT (#GP). */
int lapic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val);
int lapic_msr_write(struct vcpu *v, uint32_t msr, uint64_t val);

/* CR8 is TPR bits 7:4. */
uint64_t lapic_get_cr8(const struct vcpu *v);
void lapic_set_cr8(struct vcpu *v, uint64_t cr8);

/* Fixed-mode message to one vCPU: sets IRR and kicks. Any thread. */
void lapic_irr_set(struct vcpu *v, uint8_t vector, bool level);

/* A non-maskable interrupt for v. Any thread. */
void lapic_nmi(struct vcpu *v);
/* Move those that arrived to cpu.nmi_pending. Own thread. */
void lapic_take_nmis(struct vcpu *v);

/* Own thread, after cpu.tsc_offset grew by delta (WRMSR to IA32_TSC, IA32_TSC_ADJUST): the deadline
 * is compared with the new TSC, the counting modes go on undisturbed. */
void lapic_tsc_changed(struct vcpu *v, uint64_t delta);

/* Own thread: fire the timer if due (without a kick: the caller looks at lapic_pending()); highest
 * deliverable vector above PPR, or -1; whether an ExtINT from the 8259 is waiting and accepted by
 * LINT0 (or the APIC is disabled). */
void lapic_timer_poll(struct vcpu *v);
int lapic_pending(struct vcpu *v);
bool lapic_extint_pending(struct vcpu *v);
/* Take vector: IRR -> ISR, TMR. */
void lapic_ack(struct vcpu *v, uint8_t vector);
/* Host TSC of the next timer expiry, 0 = none armed. */
uint64_t lapic_next_deadline(const struct vcpu *v);

/* Send a message on the APIC bus as IOAPIC, MSI and ICR do (SDM 3A 11.6, 11.11). Any thread. */
void apic_deliver(struct vm_cpus *vm, uint32_t dest, bool logical, unsigned delivery_mode,
                  uint8_t vector, bool level, struct vcpu *self_excluded);

struct ioapic {
    uint32_t id, select;
    uint64_t redir[IOAPIC_PINS]; /* bit 14 remote IRR, bit 12 delivery status */
    uint32_t level;              /* input pin states */
};

struct pic {
    uint8_t irr, imr, isr, elcr, lines;
    uint8_t icw_step, icw4_needed, base, priority_add, read_isr, poll;
    uint8_t auto_eoi, rotate_on_aeoi, special_mask, sfnm, single;
};

struct pit_channel {
    uint32_t count; /* 0 means 65536 */
    uint16_t latched;
    uint8_t count_latched, status_latched, status;
    uint8_t read_state, write_state, write_latch, rw_mode, mode, bcd, gate;
    bool loaded;     /* a count is being counted (or held by the gate) */
    bool null_count; /* reload was written and waits for its trigger or the period's end */
    uint32_t reload;
    uint64_t start_ns; /* CLOCK_MONOTONIC when the count was loaded */
    uint64_t held_ns;  /* gate low: how long it had counted */
};

struct pit {
    struct pit_channel ch[3];
    uint8_t speaker;  /* port 0x61 bits written */
    uint64_t next_ns; /* channel 0: next IRQ 0 edge, 0 = none */
};

struct irqchip {
    pthread_mutex_t lock;
    struct vm_cpus *vm;
    struct ioapic ioapic;
    struct pic pic[2];
    struct pit pit;
    bool pic_intr; /* INTR pin of the master as last told to vCPU 0 */
    /* kvm's split irqchip: deliver by KVM_SIGNAL_MSI / KVM_INTERRUPT instead of struct lapic. NULL
     * otherwise. */
    void (*msi)(struct vm_cpus *vm, uint64_t addr, uint32_t data);
    void (*extint)(struct vm_cpus *vm, bool level);
};

void irqchip_init(struct irqchip *c, struct vm_cpus *vm);

/* An interrupt line (GSI 0-23; ISA 0-15 also go to the 8259; GSI 2 is ISA 0). Any thread. */
void irq_set(struct vm_cpus *vm, unsigned gsi, bool level);
/* Raise and lower: an edge. */
void irq_pulse(struct vm_cpus *vm, unsigned gsi);

uint32_t ioapic_read(struct irqchip *c, uint32_t offset);
void ioapic_write(struct irqchip *c, uint32_t offset, uint32_t val);
/* Is there a pin that is not masked and sends NMIs? */
bool ioapic_sends_nmi(struct irqchip *c);
void ioapic_eoi(struct irqchip *c, uint8_t vector); /* broadcast by a level EOI */

uint8_t pic_read(struct irqchip *c, uint16_t port); /* 0x20 0x21 0xa0 0xa1 0x4d0 0x4d1 */
void pic_write(struct irqchip *c, uint16_t port, uint8_t val);
bool pic_output(struct irqchip *c); /* INTR pin of the master */
int pic_ack(struct irqchip *c);     /* the INTA cycle: the vector (spurious: base+7) */

uint8_t pit_read(struct irqchip *c, uint16_t port); /* 0x40-0x43, 0x61 */
void pit_write(struct irqchip *c, uint16_t port, uint8_t val);
/* Raise IRQ 0 for every edge that is due at now_ns (at most one is pending); returns the
 * CLOCK_MONOTONIC time of the next one, or 0. The I/O thread calls it, and again after writes
 * (pit_changed is called by pit_write so that the I/O thread can rearm; set by the machine). */
uint64_t pit_poll(struct irqchip *c, uint64_t now_ns);
extern void (*pit_changed)(struct vm_cpus *vm);

#endif
