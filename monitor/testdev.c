/*
 * --testdev: what test suites expect of QEMU's pc-testdev, in front of the machine's own bus: a
 * latch at ports 0xe0-0xe3, a port to write before code is changed (0xe4: nothing to do here),
 * interrupt lines by hand (a byte to 0x2000 + GSI is the level of the line), and 64 KiB of memory
 * that is reached by MMIO exits only (0xff000000). The exit port of those suites, 0xf4, is always
 * there.
 */
#include <string.h>
#include "monitor/machine.h"

#define LATCH      0xe0u
#define LATCH_LAST 0xe3u
#define FLUSH_LAST 0xe7u
#define IRQ_LINES  0x2000u
#define IOMEM      0xff000000u
#define IOMEM_SIZE 0x10000u

static uint8_t latch[LATCH_LAST - LATCH + 1];
static uint8_t iomem[IOMEM_SIZE];

/* The bytes behind an access that lies wholly in the latch or the memory, else NULL. */
static uint8_t *bytes_at(uint8_t *bytes, uint64_t first, uint64_t len, uint64_t at, unsigned size)
{
    return at >= first && at - first <= len - size ? bytes + (at - first) : NULL;
}

static uint64_t get(struct machine *m, const uint8_t *p, unsigned size)
{
    uint64_t val = 0;

    pthread_mutex_lock(&m->lock);
    memcpy(&val, p, size);
    pthread_mutex_unlock(&m->lock);
    return val;
}

static void put(struct machine *m, uint8_t *p, unsigned size, uint64_t val)
{
    pthread_mutex_lock(&m->lock);
    memcpy(p, &val, size);
    pthread_mutex_unlock(&m->lock);
}

static uint64_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    struct machine *m = opaque;
    uint8_t *p = bytes_at(latch, LATCH, sizeof latch, port, size);

    if (port > LATCH_LAST && port <= FLUSH_LAST)
        return 0;
    return p ? get(m, p, size) : machine_bus_ops.pio_read(m, port, size);
}

static void pio_write(void *opaque, uint16_t port, unsigned size, uint64_t val)
{
    struct machine *m = opaque;
    uint8_t *p = bytes_at(latch, LATCH, sizeof latch, port, size);

    if (p)
        put(m, p, size, val);
    else if (port >= IRQ_LINES && port < IRQ_LINES + IOAPIC_PINS)
        irq_set(&m->cpus, port - IRQ_LINES, (uint8_t)val != 0);
    else if (port <= LATCH_LAST || port > FLUSH_LAST)
        machine_bus_ops.pio_write(m, port, size, val);
}

static uint64_t mmio_read(void *opaque, gpa_t gpa, unsigned size)
{
    struct machine *m = opaque;
    uint8_t *p = bytes_at(iomem, IOMEM, IOMEM_SIZE, gpa, size);

    return p ? get(m, p, size) : machine_bus_ops.mmio_read(m, gpa, size);
}

static void mmio_write(void *opaque, gpa_t gpa, unsigned size, uint64_t val)
{
    struct machine *m = opaque;
    uint8_t *p = bytes_at(iomem, IOMEM, IOMEM_SIZE, gpa, size);

    if (p)
        put(m, p, size, val);
    else
        machine_bus_ops.mmio_write(m, gpa, size, val);
}

/* Suites that start in a PC find its 8259s as the BIOS left them; kvm-unit-tests' realmode halts
 * until line 11, or the BIOS's timer, interrupts it. */
void testdev_init(struct machine *m)
{
    pic_write(&m->cpus.irqchip, 0x21, (uint8_t) ~(1u << 2)); /* the cascade */
    pic_write(&m->cpus.irqchip, 0xa1, (uint8_t) ~(1u << 3));
}

const struct machine_ops testdev_bus_ops = {
    .pio_read = pio_read,
    .pio_write = pio_write,
    .mmio_read = mmio_read,
    .mmio_write = mmio_write,
    .arm_timer = loop_arm_timer,
};
