/* The small fixed devices of the port table (bus.c): rtc.c and legacy.c. All are called with
 * machine.lock held. */
#ifndef MONITOR_LEGACY_H
#define MONITOR_LEGACY_H

#include "monitor/machine.h"

/* rtc.c: 0x70, 0x71 */
uint64_t rtc_read(struct machine *m, uint16_t port, unsigned size);
void rtc_write(struct machine *m, uint16_t port, unsigned size, uint64_t val);

/* legacy.c */
uint64_t i8042_read(struct machine *m, uint16_t port, unsigned size); /* 0x60, 0x64 */
void i8042_write(struct machine *m, uint16_t port, unsigned size, uint64_t val);
uint64_t port92_read(struct machine *m, uint16_t port, unsigned size);
void port92_write(struct machine *m, uint16_t port, unsigned size, uint64_t val);
uint64_t reset_read(struct machine *m, uint16_t port, unsigned size); /* 0xcf9 */
void reset_write(struct machine *m, uint16_t port, unsigned size, uint64_t val);
void exit_write(struct machine *m, uint16_t port, unsigned size, uint64_t val); /* 0xf4 0x501 */
uint64_t pvpanic_read(struct machine *m, uint16_t port, unsigned size);
void pvpanic_write(struct machine *m, uint16_t port, unsigned size, uint64_t val);
uint64_t debug_read(struct machine *m, uint16_t port, unsigned size); /* 0xe9 */
void debug_write(struct machine *m, uint16_t port, unsigned size, uint64_t val);
uint64_t crtc_read(struct machine *m, uint16_t port, unsigned size); /* 0x3d4, 0x3d5 */
void crtc_write(struct machine *m, uint16_t port, unsigned size, uint64_t val);
void shutdown_write(struct machine *m, uint16_t port, unsigned size, uint64_t val); /* 0x8900 */

/* acpi_pm.c: PM1 event and control blocks, PM timer */
uint64_t acpi_pm_read(struct machine *m, uint16_t port, unsigned size);
void acpi_pm_write(struct machine *m, uint16_t port, unsigned size, uint64_t val);

#endif
