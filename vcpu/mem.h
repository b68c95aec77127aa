/*
 * Guest-linear memory for the interpreter and for every callout: the TLB, then the walk, then RAM
 * or the bus. One definition of the access rules; all return CPU_OK or CPU_FAULT with cpu->exc
 * filled.
 *
 * lin already holds the segment base, and segment limits and canonical form were checked by
 * seg_linear(). acc: ACC_WRITE, ACC_IMPLICIT... ACC_USER is added from CPL unless ACC_IMPLICIT.
 */
#ifndef VCPU_MEM_H
#define VCPU_MEM_H

#include "vcpu/vcpu.h"

/* size 1..64. Aligned accesses of 1, 2, 4, 8 bytes to RAM are single host accesses. Both pages of a
 * crossing access are checked before a byte moves. MMIO is split into naturally aligned pieces
 * <= 8. */
int mem_read(struct vcpu *v, gva_t lin, void *dst, unsigned size, unsigned acc);
int mem_write(struct vcpu *v, gva_t lin, const void *src, unsigned size, unsigned acc);

/* Check that a write would be allowed, changing nothing but A/D. */
int mem_probe_write(struct vcpu *v, gva_t lin, unsigned size, unsigned acc);

/*
 * Host pointer for a direct access of size bytes, for locked operations, bulk string moves and
 * vector instructions. CPU_OK with *host NULL means: not plain RAM within one page (MMIO,
 * crossing), use mem_read/mem_write. acc ACC_WRITE checks write permission, sets D, and for a page
 * with translated code returns the pointer with *traced set: the caller calls ram_written() after
 * storing.
 */
int mem_host(struct vcpu *v, gva_t lin, unsigned size, unsigned acc, void **host, bool *traced);

/* Fetch up to want (<= 15) code bytes at cs.base + rip as the fetch of one instruction does:
 * *got < want when the next page faults; CPU_FAULT only when not even one byte can be had. */
int mem_fetch(struct vcpu *v, gva_t lin, uint8_t *buf, unsigned want, unsigned *got);

/* Translate for the translator and the debugger: fetch translation of lin, CPU_FAULT with #PF set.
 */
int mem_translate_fetch(struct vcpu *v, gva_t lin, gpa_t *gpa, bool *global);

/* Which set of the TLB accesses of kind acc use now (ACC_USER, ACC_IMPLICIT count). */
enum tlb_ctx mem_tlb_ctx(const struct vcpu *v, unsigned acc);

/* The walk context of the CPU as it is now. */
void mem_walk_ctx(const struct vcpu *v, struct walk_ctx *ctx);

#endif
