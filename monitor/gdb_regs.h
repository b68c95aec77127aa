/* The registers as GDB numbers them: the order of the target description, which names them. */
#ifndef MONITOR_GDB_REGS_H
#define MONITOR_GDB_REGS_H

#include "vcpu/vcpu.h"

#define GDB_REG_SIZE 16 /* bytes of the largest one */

struct gdb_layout {
    bool i386; /* the registers of 32-bit mode: for a GDB with a 32-bit symbol file */
    bool avx;  /* the guest's CPUID offers them */
};

/* The description, in target description XML; *len without the final 0. */
const char *gdb_description(struct gdb_layout l, size_t *len);
/* How many there are. */
unsigned gdb_regs(struct gdb_layout l);
/* The bytes of register n; 0 when there is none. */
unsigned gdb_reg_size(struct gdb_layout l, unsigned n);
/* struct cpu is the truth: v is not in run(). */
void gdb_reg_read(const struct vcpu *v, struct gdb_layout l, unsigned n, uint8_t to[GDB_REG_SIZE]);
/* False: it is not for the debugger to change, or not to that value. Bits that the architecture
 * reserves are left out. */
bool gdb_reg_write(struct vcpu *v, struct gdb_layout l, unsigned n,
                   const uint8_t from[GDB_REG_SIZE]);

/* The same for RIP alone. */
bool gdb_set_rip(struct vcpu *v, uint64_t rip);

#endif
