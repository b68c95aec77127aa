/* ACPI fixed hardware (ACPI 6.4 §4.8.3): PM1 event and control, PM timer. No event ever comes, so
 * there is no SCI. */
#include <time.h>
#include "monitor/legacy.h"
#include "monitor/ports.h"
#include "vcpu/scale.h"

#define PM_TIMER_HZ 3579545u
#define SCI_EN      0x0001u
#define SLP_EN_HIGH 0x20u /* in PM1_CNT's high byte */

static uint32_t pm_timer(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint32_t)mul_div((uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec, PM_TIMER_HZ,
                             1000000000u);
}

uint64_t acpi_pm_read(struct machine *m, uint16_t port, unsigned size)
{
    uint32_t dword;

    (void)size;
    switch (port & ~3u) {
    case ACPI_PM1_EVT:
        dword = m->pm.sts | (uint32_t)m->pm.en << 16;
        break;
    case ACPI_PM1_CNT:
        dword = m->pm.cnt | SCI_EN; /* no SMI command: always in ACPI mode */
        break;
    default:
        dword = pm_timer();
    }
    return dword >> (port & 3) * 8;
}

static void write_byte(struct machine *m, unsigned port, uint8_t val)
{
    unsigned type = val >> 2 & 7, shift = (port & 1) * 8;

    switch (port) {
    case ACPI_PM1_EVT: /* status: written ones clear */
    case ACPI_PM1_EVT + 1:
        m->pm.sts &= (uint16_t) ~(val << shift);
        break;
    case ACPI_PM1_EVT + 2:
    case ACPI_PM1_EVT + 3:
        m->pm.en = (uint16_t)((m->pm.en & ~(0xff << shift)) | val << shift);
        break;
    case ACPI_PM1_CNT:
        m->pm.cnt = (uint16_t)((m->pm.cnt & 0xff00) | val);
        break;
    case ACPI_PM1_CNT + 1:
        if ((val & SLP_EN_HIGH) && (type == ACPI_S5_TYPE || type == 0))
            machine_stop(m, STATUS_OK, "ACPI S5");
        m->pm.cnt = (uint16_t)((m->pm.cnt & 0xff) | (val & ~SLP_EN_HIGH) << 8);
        break;
    default: /* the timer is read-only */
        break;
    }
}

void acpi_pm_write(struct machine *m, uint16_t port, unsigned size, uint64_t val)
{
    for (unsigned i = 0; i < size; i++)
        write_byte(m, port + i, (uint8_t)(val >> i * 8));
}
