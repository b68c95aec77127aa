/*
 * What only an image has that something else than mayfly boots (mayfly-cc links it in; in the
 * runtime inside mayfly these are not there, and their addresses are 0).
 */
#ifndef GUESTS_RUNTIME_STANDALONE_H
#define GUESTS_RUNTIME_STANDALONE_H

#include "guests/runtime/runtime.h"

#define IN_IMAGES __attribute__((weak))

#define PVH_MAGIC 0x336ec578u

/* boot is made of PVH's start info, which is at info. */
IN_IMAGES void standalone_boot(uint64_t info);
/* What monitor_call() does where boot.hypercall_port is 0. */
IN_IMAGES int64_t standalone_call(uint32_t op, uint32_t fd, const void *buf, uint64_t len);

/* Where the command line's ith device is, from boot.virtio_base on. */
IN_IMAGES uint32_t standalone_device(unsigned i);

/* --- xapic.c --- */
/* Is this a CPU without x2APIC or TSC deadline? Then its APIC is set up, to be used by these. */
IN_IMAGES bool xapic_init(void);
IN_IMAGES void xapic_arm(uint64_t ns);
IN_IMAGES void xapic_eoi(void);

#endif
