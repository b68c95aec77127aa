/* The runtime guest's hypercall port (guests/runtime/bootblock.h): console, stdin, exit. */
#ifndef MONITOR_HYPERCALL_H
#define MONITOR_HYPERCALL_H

#include "monitor/machine.h"

/* A write to MAYFLY_PORT: val is the gpa of a struct mayfly_call. A row of the bus table; called
 * with machine.lock held. Anything malformed is ignored (the guest sees its own block unchanged).
 */
void hypercall_write(struct machine *m, uint16_t port, unsigned size, uint64_t val);

#endif
