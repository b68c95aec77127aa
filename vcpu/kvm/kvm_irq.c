/*
 * Interrupts with the split irqchip: messages by KVM_SIGNAL_MSI, the 8259 by KVM_INTERRUPT, and the
 * routes by which KVM knows whose EOI is the IOAPIC's.
 */
#include "vcpu/kvm/kvm.h"

#include <errno.h>

/* Redirection entry (82093AA 3.2.4). */
#define REDIR_LEVEL  (1u << 15)
#define REDIR_MASKED (1u << 16)

static void signal_msi(struct vm_cpus *vm, uint64_t addr, uint32_t data)
{
    struct kvm_msi m = {
        .address_lo = (uint32_t)addr, .address_hi = (uint32_t)(addr >> 32), .data = data};

    /* 0: the guest blocks it, or no APIC has that ID. Nothing to report: so is the bus. */
    kvm_ioctl(vm->kvm_fd, KVM_SIGNAL_MSI, &m);
}

/* Called under the irqchip's lock, so it only notes the pin and makes the boot processor look. */
static void set_intr(struct vm_cpus *vm, bool level)
{
    if (atomic_exchange(&vm->kvm->intr, level) != level && level && vm->nvcpu)
        kvm_vcpu_kick(vm->vcpu[0]);
}

/*
 * The INTA cycle is made when the interrupt can be taken, not earlier: priorities and masks may
 * change until then. KVM then holds it for its next VM entry.
 */
int kvm_irq_before_run(struct vcpu *v, const char **what)
{
    struct kvm_run *run = v->kvm->run;
    struct irqchip *chip = &v->vm->irqchip;

    run->request_interrupt_window = 0;
    if (v->index != 0 || !atomic_load(&v->vm->kvm->intr))
        return 0;
    if (run->ready_for_interrupt_injection && pic_output(chip)) {
        int vector = pic_ack(chip);

        if (vector >= 0) {
            struct kvm_interrupt irq = {.irq = (uint32_t)vector};
            long r = kvm_ioctl(v->kvm->fd, KVM_INTERRUPT, &irq);

            if (r) {
                *what = "KVM_INTERRUPT";
                return (int)r;
            }
            run->ready_for_interrupt_injection = 0;
            v->kvm->ext_injected = true;
            v->stats.irqs++;
        }
    }
    run->request_interrupt_window = atomic_load(&v->vm->kvm->intr);
    return 0;
}

/* --- routes ---
 * Our devices' interrupts go by KVM_SIGNAL_MSI and need none. A level pin has one so that the EOI
 * of its vector leaves the kernel (KVM_EXIT_IOAPIC_EOI). A masked pin keeps the route it had: its
 * last interrupt may still be in service.
 */

/* SDM 3A 11.11 from 82093AA 3.2.4. */
static void route_of(uint64_t redir, struct kvm_irq_routing_msi *msi)
{
    uint32_t dest = (uint32_t)(redir >> 56), mode = redir >> 8 & 7;

    *msi = (struct kvm_irq_routing_msi){
        .address_lo = LAPIC_BASE | dest << 12 | (redir >> 11 & 1) << 2 | (mode == 1 ? 8u : 0u),
        .data = (uint32_t)(redir & 0xff) | mode << 8 | (redir & REDIR_LEVEL ? 0xc000u : 0),
    };
}

static int set_routes(struct vm_cpus *vm)
{
    struct kvm_vm *k = vm->kvm;
    struct {
        struct kvm_irq_routing head;
        struct kvm_irq_routing_entry e[IOAPIC_PINS];
    } t = {0};

    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        struct kvm_irq_routing_entry *e = &t.e[t.head.nr];

        if (!(k->routed >> pin & 1))
            continue;
        e->gsi = pin;
        e->type = KVM_IRQ_ROUTING_MSI;
        route_of(k->route[pin], &e->u.msi);
        t.head.nr++;
    }
    return (int)kvm_ioctl(k->fd, KVM_SET_GSI_ROUTING, &t);
}

/* Bring the kernel's routes up to the redirection table. The irqchip's lock is held. */
static int sync_routes(struct vm_cpus *vm)
{
    /* Without delivery status and remote IRR, which change with every interrupt. */
    const uint64_t live = ~(uint64_t)0x15000;
    struct kvm_vm *k = vm->kvm;
    bool changed = false;

    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t redir = vm->irqchip.ioapic.redir[pin];

        if (redir & REDIR_MASKED || !(redir & REDIR_LEVEL))
            continue;
        if ((k->routed >> pin & 1) && k->route[pin] == (redir & live))
            continue;
        k->routed |= 1u << pin;
        k->route[pin] = redir & live;
        changed = true;
    }
    return changed ? set_routes(vm) : 0;
}

void kvm_irq_ioapic_written(struct vm_cpus *vm)
{
    pthread_mutex_lock(&vm->irqchip.lock);
    sync_routes(vm);
    pthread_mutex_unlock(&vm->irqchip.lock);
}

int kvm_ioeventfd(struct vm_cpus *vm, gpa_t addr, unsigned len, int fd, bool remove)
{
    struct kvm_ioeventfd f = {
        .addr = addr,
        .len = len,
        .fd = fd,
        .flags = remove ? KVM_IOEVENTFD_FLAG_DEASSIGN : 0,
    };

    if (!vm->kvm || fd < 0)
        return -EINVAL;
    return (int)kvm_ioctl(vm->kvm->fd, KVM_IOEVENTFD, &f);
}

void kvm_irq_init(struct vm_cpus *vm)
{
    atomic_store(&vm->kvm->intr, vm->irqchip.pic_intr);
    vm->irqchip.msi = signal_msi;
    vm->irqchip.extint = set_intr;
    kvm_irq_ioapic_written(vm); /* another engine's guest may have programmed it */
}
