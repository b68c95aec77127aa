/*
 * The machine: RAM, CPUs, the fixed devices and the bus between them, for one run.
 *
 * Threads: one per vCPU (machine_vcpu_thread), and the I/O thread (event loop: timers, stdin,
 * console output, signals, --timeout). Devices are called with machine.lock held; irq_set() takes
 * its own.
 */
#ifndef MONITOR_MACHINE_H
#define MONITOR_MACHINE_H

#include <pthread.h>
#include "monitor/boot.h"
#include "monitor/config.h"
#include "vcpu/engine.h"
#include "vcpu/except.h"
#include "virtio/virtio.h"

struct machine;

/* --- bus.c: PIO and MMIO dispatch; fixed tables, one row a device --- */
struct pio_device {
    uint16_t first, last;
    const char *name;
    uint64_t (*read)(struct machine *m, uint16_t port, unsigned size);
    void (*write)(struct machine *m, uint16_t port, unsigned size, uint64_t val);
    uint8_t width; /* of its registers: wider accesses are split, as on the ISA bus */
    bool own_lock; /* called without machine.lock */
};
extern const struct machine_ops machine_bus_ops;
/* --- testdev.c: the same behind QEMU's pc-testdev --- */
extern const struct machine_ops testdev_bus_ops;
void testdev_init(struct machine *m);
/* Name of a row of the device table, for machine.pio_count; NULL past its end. */
const char *pio_device_name(unsigned row);

/* --- serial.c: 16550A with FIFOs (IRQ 4 at 0x3f8) --- */
struct serial {
    uint8_t ier, iir, lcr, mcr, lsr, msr, scr, dll, dlm, fcr;
    uint8_t rx[64];
    unsigned rx_head,
        rx_count; /* FIFO depth 16 as the guest sees it; more is kept back in console */
    bool thr_empty_irq, irq_line;
    uint8_t lsr_polls; /* reads of LSR since the last byte was sent */
};
void serial_init(struct machine *m);
uint64_t serial_read(struct machine *m, uint16_t port, unsigned size);
void serial_write(struct machine *m, uint16_t port, unsigned size, uint64_t val);
/* Bytes from stdin; returns how many were taken (room in the FIFO). Lock held. */
unsigned serial_receive(struct machine *m, const uint8_t *buf, unsigned len);

/* --- console.c: stdout with batching, stdin, terminal raw mode, Ctrl-A escape --- */
void console_write(struct machine *m, const void *buf, size_t len); /* any thread, lock held */
/* The serial port's receive FIFO has room again (the guest read a byte, or enabled reception): what
 * is kept back from stdin may go on. Any thread, lock held; cheap. */
void console_rx_space(struct machine *m);
/* For a guest that reads stdin by hypercall: the bytes that are here, 0 at the end of input, an
 * -errno, -EAGAIN when none is here yet (and from then on stdin is being read). Lock held. */
int console_read(struct machine *m, uint8_t *buf, unsigned len);
/* Would it give something, or the end? If not, stdin is being read from then on. */
int console_ready(struct machine *m);

/* --- loop.c: the I/O thread --- */
/* machine_bus_ops.arm_timer: kick vCPU index at host TSC value tsc, 0 disarms. Any thread. */
void loop_arm_timer(void *m, unsigned index, uint64_t tsc);

/* --- legacy.c: RTC/CMOS, i8042, POST port, debug console 0xe9, exit ports, ACPI PM --- */
struct rtc {
    uint8_t index, ram[128];
    int64_t offset; /* seconds the guest set it ahead of UTC */
    int64_t seen;   /* UTC second of the last read of register C */
};

struct i8042 {
    uint8_t command; /* waits for its data byte, 0 none */
    uint8_t config, outport;
    uint8_t out, status; /* output buffer; status bits OBF, SYS, A2, timeout */
    bool irq_line;
};

struct crtc {
    uint8_t index, reg[32];
};

struct acpi_pm {
    uint16_t sts, en, cnt;
};

/* End the machine: first caller wins. status 0-255 as in config.h. what: static text for -v/--stats
 * ("exit port 0xf4", "i8042 reset", "ACPI S5", ...). Any thread. */
void machine_stop(struct machine *m, int status, const char *what);

struct machine {
    const struct config *cfg;
    const struct engine *engine;
    struct ram ram;
    struct vm_cpus cpus;
    struct cpuid_table cpuid;
    pthread_mutex_t lock;
    struct serial serial;
    struct rtc rtc;
    struct i8042 i8042;
    struct acpi_pm pm;
    struct crtc crtc;
    uint8_t port92, port_cf9, shutdown_matched; /* bytes of "Shutdown" seen */
    struct boot_result boot;
    struct console *console;
    struct loop *loop;    /* event loop (loop.c) */
    uint8_t input_vector; /* a runtime guest wants this interrupt when stdin has something */
    uint64_t signals;     /* that came for a program and that it has not asked for yet: bit N-1 */
    struct virtio_bus virtio;
    bool loopback;   /* --net lo: a program's sockets among themselves */
    struct gdb *gdb; /* --gdb, or NULL */
    struct hvt *hvt; /* a Solo5 unikernel's machine (hvt.h), or NULL */
    uint64_t unclaimed_reads, unclaimed_writes;
    uint64_t pio_count[64]; /* by row of the device table: accesses */

    _Atomic bool stopping;
    int status;
    const char *stop_reason;

    /* launch steps, CLOCK_MONOTONIC ns; exec from /proc/self/stat or the auxv-time where it can be
     * had */
    struct {
        uint64_t exec, main, loaded, vm_ready, first_insn, guest_up, exit;
    } t;
};

/* Run cfg to its end; returns the process's exit status. */
int machine_run(const struct config *cfg);

#endif
