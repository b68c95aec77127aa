/* The registers as GDB numbers them: the order of the target description, which names them. */
#ifndef MONITOR_GDB_REGS_H
#define MONITOR_GDB_REGS_H

#include "vcpu/vcpu.h"

#define GDB_REG_SIZE 16 /* bytes of the largest one */

/* The description, in target description XML; *len without the final 0. With the AVX registers
 * where the guest's CPUID offers them: avx of all calls must be the same. */
const char *gdb_description(bool avx, size_t *len);
/* How many there are. */
unsigned gdb_regs(bool avx);
/* The bytes of register n; 0 when there is none. */
unsigned gdb_reg_size(unsigned n);
/* struct cpu is the truth: v is not in run(). */
void gdb_reg_read(const struct vcpu *v, unsigned n, uint8_t to[GDB_REG_SIZE]);
/* False: it is not for the debugger to change, or not to that value. Bits that the architecture
 * reserves are left out. */
bool gdb_reg_write(struct vcpu *v, unsigned n, const uint8_t from[GDB_REG_SIZE]);

/* The same for RIP alone. */
bool gdb_set_rip(struct vcpu *v, uint64_t rip);

#endif
