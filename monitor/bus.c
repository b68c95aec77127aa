/* The machine's bus: which device answers a port or an address, and access splitting. */
#include "monitor/hypercall.h"
#include "monitor/legacy.h"
#include "monitor/ports.h"

/* The interrupt controllers and the 8254 have the irqchip's own lock. */
static uint64_t bus_pic_read(struct machine *m, uint16_t port, unsigned size)
{
    (void)size;
    return pic_read(&m->cpus.irqchip, port);
}

static void bus_pic_write(struct machine *m, uint16_t port, unsigned size, uint64_t val)
{
    (void)size;
    pic_write(&m->cpus.irqchip, port, (uint8_t)val);
}

static uint64_t bus_pit_read(struct machine *m, uint16_t port, unsigned size)
{
    (void)size;
    return pit_read(&m->cpus.irqchip, port);
}

static void bus_pit_write(struct machine *m, uint16_t port, unsigned size, uint64_t val)
{
    (void)size;
    pit_write(&m->cpus.irqchip, port, (uint8_t)val);
}

/* Ports where nothing happens. */
static uint64_t ones_read(struct machine *m, uint16_t port, unsigned size)
{
    (void)m, (void)port, (void)size;
    return ~(uint64_t)0;
}

static void ignore_write(struct machine *m, uint16_t port, unsigned size, uint64_t val)
{
    (void)m, (void)port, (void)size, (void)val;
}

/* Sorted by port, no overlap. */
static const struct pio_device devices[] = {
    {0x20, 0x21, "pic", bus_pic_read, bus_pic_write, 1, true},
    {0x40, 0x43, "pit", bus_pit_read, bus_pit_write, 1, true},
    {0x60, 0x60, "i8042", i8042_read, i8042_write, 1, false},
    {0x61, 0x61, "speaker", bus_pit_read, bus_pit_write, 1, true},
    {0x64, 0x64, "i8042 command", i8042_read, i8042_write, 1, false},
    {0x70, 0x71, "rtc", rtc_read, rtc_write, 1, false},
    {0x80, 0x80, "post", ones_read, ignore_write, 1, true},
    {0x92, 0x92, "port 92", port92_read, port92_write, 1, false},
    {0xa0, 0xa1, "pic slave", bus_pic_read, bus_pic_write, 1, true},
    {PORT_DEBUG, PORT_DEBUG, "debug console", debug_read, debug_write, 1, false},
    {PORT_EXIT, PORT_EXIT, "exit", ones_read, exit_write, 4, false},
    {0x3d4, 0x3d5, "crt controller", crtc_read, crtc_write, 1, false},
    {PORT_SERIAL, PORT_SERIAL + 7, "serial", serial_read, serial_write, 1, false},
    {0x4d0, 0x4d1, "elcr", bus_pic_read, bus_pic_write, 1, true},
    {PORT_EXIT_BIS, PORT_EXIT_BIS, "exit 501", ones_read, exit_write, 4, false},
    {PORT_PVPANIC, PORT_PVPANIC, "pvpanic", pvpanic_read, pvpanic_write, 1, false},
    {ACPI_PM1_EVT, ACPI_PM_TMR + 3, "acpi pm", acpi_pm_read, acpi_pm_write, 4, false},
    {MAYFLY_PORT, MAYFLY_PORT, "hypercall", ones_read, hypercall_write, 4, false},
    {0xcf8, 0xcf8, "pci address", ones_read, ignore_write, 4, true},
    {PORT_RESET, PORT_RESET, "reset", reset_read, reset_write, 1, false},
    {0xcfa, 0xcff, "pci data", ones_read, ignore_write, 4, true},
    {PORT_SHUTDOWN, PORT_SHUTDOWN, "shutdown", ones_read, shutdown_write, 1, false},
};
#define NDEVICES (sizeof(devices) / sizeof(devices[0]))
_Static_assert(NDEVICES <= sizeof(((struct machine *)0)->pio_count) / sizeof(uint64_t),
               "one counter a row");

const char *pio_device_name(unsigned row)
{
    return row < NDEVICES ? devices[row].name : NULL;
}

static const struct pio_device *find(uint16_t port)
{
    unsigned lo = 0, hi = NDEVICES;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;

        if (port < devices[mid].first)
            hi = mid;
        else if (port > devices[mid].last)
            lo = mid + 1;
        else
            return &devices[mid];
    }
    return NULL;
}

static void count(uint64_t *n)
{
    __atomic_fetch_add(n, 1, __ATOMIC_RELAXED);
}

static uint64_t mask(unsigned size)
{
    return size >= 8 ? ~(uint64_t)0 : ((uint64_t)1 << size * 8) - 1;
}

/* The device for the next piece of an access of left bytes at port, and that piece's size: what is
 * wider than the device's registers comes as several accesses to successive ports. */
static const struct pio_device *piece(uint16_t port, unsigned left, unsigned *size)
{
    const struct pio_device *d = find(port);
    unsigned n = d && d->width < left ? d->width : left;

    if (n == 3)
        n = 2;
    /* Naturally aligned pieces that end at the device's last port; a single wide register takes
     * what it gets. */
    if (d && d->first != d->last)
        while (n > 1 && ((port & (n - 1)) || port + n - 1u > d->last))
            n /= 2;
    *size = d ? n : 1;
    return d;
}

static uint64_t device_read(struct machine *m, const struct pio_device *d, uint16_t port,
                            unsigned size)
{
    uint64_t val;

    count(&m->pio_count[d - devices]);
    if (d->own_lock)
        return d->read(m, port, size) & mask(size);
    pthread_mutex_lock(&m->lock);
    val = d->read(m, port, size);
    pthread_mutex_unlock(&m->lock);
    return val & mask(size);
}

static void device_write(struct machine *m, const struct pio_device *d, uint16_t port,
                         unsigned size, uint64_t val)
{
    count(&m->pio_count[d - devices]);
    val &= mask(size);
    if (d->own_lock) {
        d->write(m, port, size, val);
        return;
    }
    pthread_mutex_lock(&m->lock);
    d->write(m, port, size, val);
    pthread_mutex_unlock(&m->lock);
}

/* This file is compiled for general registers alone (Makefile): the accesses that stay in it. */
static bool pio_plain(void *opaque, uint16_t port, unsigned size)
{
    const struct pio_device *d = find(port);

    (void)opaque;
    return d && d->read == ones_read && d->write == ignore_write && size <= d->width;
}

static uint64_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    struct machine *m = opaque;
    uint64_t val = 0;
    bool claimed = false;

    for (unsigned i = 0, n; i < size; i += n) {
        const struct pio_device *d = piece((uint16_t)(port + i), size - i, &n);
        uint64_t part = d ? device_read(m, d, (uint16_t)(port + i), n) : mask(n);

        val |= part << i * 8;
        claimed |= d != NULL;
    }
    if (!claimed)
        count(&m->unclaimed_reads);
    return val;
}

static void pio_write(void *opaque, uint16_t port, unsigned size, uint64_t val)
{
    struct machine *m = opaque;
    bool claimed = false;

    for (unsigned i = 0, n; i < size; i += n) {
        const struct pio_device *d = piece((uint16_t)(port + i), size - i, &n);

        if (d)
            device_write(m, d, (uint16_t)(port + i), n, val >> i * 8);
        claimed |= d != NULL;
    }
    if (!claimed)
        count(&m->unclaimed_writes);
}

/* The local APIC's page is the vCPU's own and never comes here. */
static bool is_ioapic(gpa_t gpa)
{
    return (gpa & PAGE_MASK) == IOAPIC_BASE;
}

static uint64_t mmio_read(void *opaque, gpa_t gpa, unsigned size)
{
    struct machine *m = opaque;

    if (is_ioapic(gpa)) {
        uint32_t val = ioapic_read(&m->cpus.irqchip, (uint32_t)gpa & 0xffc);

        return (uint64_t)(val >> (gpa & 3) * 8) & mask(size);
    }
    uint64_t val;

    if (virtio_mmio_read(&m->virtio, gpa, size, &val))
        return val & mask(size);
    count(&m->unclaimed_reads);
    return mask(size);
}

static void mmio_write(void *opaque, gpa_t gpa, unsigned size, uint64_t val)
{
    struct machine *m = opaque;

    if (!is_ioapic(gpa)) {
        if (!virtio_mmio_write(&m->virtio, gpa, size, val & mask(size)))
            count(&m->unclaimed_writes);
    } else if (!(gpa & 3)) /* registers are dwords: the low bytes of one may be written alone */
        ioapic_write(&m->cpus.irqchip, (uint32_t)gpa & 0xfff, (uint32_t)(val & mask(size)));
}

const struct machine_ops machine_bus_ops = {
    .pio_plain = pio_plain,
    .pio_read = pio_read,
    .pio_write = pio_write,
    .mmio_read = mmio_read,
    .mmio_write = mmio_write,
    .arm_timer = loop_arm_timer,
};
