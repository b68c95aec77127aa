/* Port numbers that more than one file must agree on (GUEST_ABI.md §1). */
#ifndef MONITOR_PORTS_H
#define MONITOR_PORTS_H

/* ACPI fixed hardware (ACPI 6.4 §4.8.3): PM1 event block (status, enable: 4 bytes), PM1 control (2
 * bytes; no SMI command port, SCI_EN always set), PM timer (32 bits, 3.579545 MHz). No GPEs. */
#define ACPI_PM1_EVT 0x600u
#define ACPI_PM1_CNT 0x604u
#define ACPI_PM_TMR  0x608u
/* SLP_TYP of S5. Type 0 powers off too: unikernels write outw(0x604, 0x2000) blindly. */
#define ACPI_S5_TYPE 5u

#define PORT_SERIAL   0x3f8u /* IRQ 4 */
#define PORT_RESET    0xcf9u /* FADT's RESET_REG: write 0x06 */
#define PORT_EXIT     0xf4u  /* the value written, & 0xff, is the exit status */
#define PORT_EXIT_BIS 0x501u /* the same (Nanos, Solo5-virtio) */
#define PORT_PVPANIC  0x505u
#define PORT_DEBUG    0xe9u
#define PORT_SHUTDOWN 0x8900u /* the bytes of "Shutdown" (Bochs) */

/* Runtime guests: a 32-bit OUT of the gpa of a struct mayfly_call (guests/runtime/bootblock.h). */
#define MAYFLY_PORT 0x6d0u

#endif
