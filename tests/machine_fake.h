/*
 * A machine of the real interrupt controllers and devices, with the engine, the console and the
 * event loop replaced by notes of what they were asked for. Included once by a test program, which
 * so defines what vcpu.c, console.c, loop.c and machine.c would.
 */
#ifndef TESTS_MACHINE_FAKE_H
#define TESTS_MACHINE_FAKE_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "monitor/machine.h"

#define NCPU 4

static struct machine fake;
static struct vm_cpus *vm = &fake.cpus;
static struct irqchip *chip = &fake.cpus.irqchip;
static struct vcpu *cpu[NCPU];
static unsigned kicks[NCPU], arms, rx_space, stops;
static uint64_t armed;
static char out[256];
static unsigned out_len;

void vcpu_kick(struct vcpu *v)
{
    kicks[v->index]++;
}
void fpu_put(struct vcpu *v)
{
    v->fpu_live = false;
}
void loop_arm_timer(void *m, unsigned index, uint64_t tsc)
{
    (void)m, (void)index;
    arms++;
    armed = tsc;
}
void console_write(struct machine *m, const void *buf, size_t len)
{
    (void)m;
    for (size_t i = 0; i < len && out_len < sizeof out - 1; i++)
        out[out_len++] = ((const char *)buf)[i];
    out[out_len] = 0;
}
void console_rx_space(struct machine *m)
{
    (void)m;
    rx_space++;
}
int console_read(struct machine *m, uint8_t *buf, unsigned len)
{
    (void)m, (void)buf, (void)len;
    return 0;
}
void machine_stop(struct machine *m, int status, const char *what)
{
    stops++;
    m->status = status;
    m->stop_reason = what;
}

static const struct machine_ops fake_ops = {.arm_timer = loop_arm_timer};

static void fake_machine(void)
{
    memset(&fake, 0, sizeof fake);
    pthread_mutex_init(&fake.lock, NULL);
    vm->machine = &fake;
    vm->ops = &fake_ops;
    vm->tsc_hz = 2000000000;
    vm->maxphyaddr = 40;
    vm->vcpu = cpu;
    irqchip_init(chip, vm);
    for (unsigned i = 0; i < NCPU; i++) {
        cpu[i] =
            mmap(NULL, sizeof *cpu[i], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        cr_assert(cpu[i] != MAP_FAILED);
        cpu[i]->vm = vm;
        cpu[i]->index = i;
        lapic_reset(cpu[i]);
    }
    vm->nvcpu = NCPU;
    memset(kicks, 0, sizeof kicks);
    arms = rx_space = stops = out_len = 0;
    armed = 0;
}

/* What vcpu_inject() does with interrupts on: the vector taken, or -1. */
__attribute__((unused)) static int take(struct vcpu *v)
{
    lapic_timer_poll(v);
    if (lapic_extint_pending(v))
        return pic_ack(&v->vm->irqchip);
    int vector = lapic_pending(v);

    if (vector >= 0)
        lapic_ack(v, (uint8_t)vector);
    return vector;
}

#endif
