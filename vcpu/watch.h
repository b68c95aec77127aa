/*
 * Breakpoints of DR0-DR3 (SDM 3B 17.2). Pages with a data breakpoint stay out of the software TLB,
 * so that every access to one comes by mem.c's slow path, which tells here; what it hit becomes a
 * #DB once the instruction is through. A debugger's watchpoints (debug.h) are seen the same way.
 */
#ifndef VCPU_WATCH_H
#define VCPU_WATCH_H

#include "vcpu/vcpu.h"

#define DR6_HITS   ((uint64_t)0xf)
#define DR6_BS     ((uint64_t)1 << 14)
#define DR7_ENABLE ((uint64_t)0xff)
#define DR7_GD     ((uint64_t)1 << 13)

/* Is any breakpoint on, or any watchpoint of the debugger? */
static inline bool watch_any(const struct vcpu *v)
{
    return (v->cpu.dr[7] & DR7_ENABLE) || (v->debug & DEBUG_DATA);
}

/* Has the page of lin a data breakpoint or a watchpoint? */
bool watch_page(const struct vcpu *v, gva_t lin);
/* An access was made, or will be unless the instruction faults. */
void watch_access(struct vcpu *v, gva_t lin, unsigned size, bool write);
void watch_io(struct vcpu *v, uint16_t port, unsigned size);
/* The instruction breakpoints at linear address lin, bit n for DRn. */
unsigned watch_code(const struct cpu *c, gva_t lin);

#endif
