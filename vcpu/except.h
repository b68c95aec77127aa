/*
 * Exceptions, interrupts and returns from them (SDM 3A chapter 6): real mode, protected mode, long
 * mode with IST. Segment loads and far transfers (SDM 3A chapters 3, 5). System registers.
 * One definition each, used by the interpreter, the translator's callouts and vcpu_inject().
 */
#ifndef VCPU_EXCEPT_H
#define VCPU_EXCEPT_H

#include "vcpu/decode.h"
#include "vcpu/vcpu.h"

/* --- except.c --- */

/* Deliver cpu->exc, raised by the instruction at cpu->rip (is_soft: cpu->rip already past it).
 * Contributory and page faults during delivery become #DF, then shutdown (SDM 3A table 6-5).
 * CPU_OK, or CPU_FAULT with v->exit = EXIT_SHUTDOWN (EXIT_ERROR: ram_protect()). Sets CR2,
 * clears/sets RF, TF, NT, IF. */
int cpu_deliver_exception(struct vcpu *v);

/* External interrupt or NMI (vector 2). Same results. */
int cpu_deliver_interrupt(struct vcpu *v, uint8_t vector);

/* INT n, INT3, INTO, ICEBP: next_rip is pushed. CPU_FAULT: cpu->exc is the fault found. */
int cpu_soft_int(struct vcpu *v, uint8_t vector, uint64_t next_rip, bool dpl_check);

int cpu_iret(struct vcpu *v, unsigned opsize);

/* --- segment.c --- */

/* Segment checks of an access [ea, ea+size) through segment seg: canonical form in 64-bit code
 * (#GP, or #SS for SS), limit, type and null in other modes. *lin = base + ea (wrapped to 32 bits
 * outside 64-bit code). */
int seg_linear(struct vcpu *v, unsigned seg, uint64_t ea, unsigned size, unsigned acc, gva_t *lin);

/* MOV/POP to ES SS DS FS GS (not CS), LSS etc. */
int seg_load(struct vcpu *v, unsigned seg, uint16_t sel);
/* Real and virtual-8086 mode: base = sel << 4. */
void seg_load_real(struct cpu *c, unsigned seg, uint16_t sel);
int seg_load_ldtr(struct vcpu *v, uint16_t sel);
int seg_load_tr(struct vcpu *v, uint16_t sel);
/* LAR LSL VERR VERW: *ok false clears ZF. */
int seg_lar(struct vcpu *v, uint16_t sel, uint32_t *out, bool *ok);
int seg_lsl(struct vcpu *v, uint16_t sel, uint32_t *out, bool *ok);
int seg_verify(struct vcpu *v, uint16_t sel, bool write, bool *ok);

/* Read an 8-byte descriptor with the table limit check; error code on CPU_FAULT is sel & ~3, vector
 * as given. */
int seg_read_descriptor(struct vcpu *v, uint16_t sel, uint8_t fault_vector, uint64_t *desc);
void seg_from_descriptor(struct seg *s, uint16_t sel, uint64_t desc);

/* --- far.c: JMP/CALL far (direct, indirect, call gates, task switches in legacy mode), RETF --- */
int cpu_far_jump(struct vcpu *v, uint16_t sel, uint64_t off, unsigned opsize, uint64_t next_rip);
int cpu_far_call(struct vcpu *v, uint16_t sel, uint64_t off, unsigned opsize, uint64_t next_rip);
int cpu_far_ret(struct vcpu *v, unsigned opsize, unsigned pop_bytes);

/* --- sysreg.c --- */
int cpu_read_cr(struct vcpu *v, unsigned cr, uint64_t *val); /* #UD for cr not 0 2 3 4 8 */
int cpu_write_cr(struct vcpu *v, unsigned cr, uint64_t val); /* all reserved-bit rules; flushes */
int cpu_read_dr(struct vcpu *v, unsigned dr, uint64_t *val);
int cpu_write_dr(struct vcpu *v, unsigned dr, uint64_t val);
int cpu_xsetbv(struct vcpu *v, uint32_t idx, uint64_t val);
int cpu_syscall(struct vcpu *v, uint64_t next_rip);
int cpu_sysret(struct vcpu *v, unsigned opsize);
int cpu_sysenter(struct vcpu *v);
int cpu_sysexit(struct vcpu *v, unsigned opsize);
int cpu_swapgs(struct vcpu *v);

/* --- msr.c: one const table --- */
int cpu_rdmsr(struct vcpu *v, uint32_t msr, uint64_t *val);
int cpu_wrmsr(struct vcpu *v, uint32_t msr, uint64_t val);

/* --- cpuid.c: one const table of masks over the host's leaves --- */
struct cpuid_leaf {
    uint32_t leaf, sub, eax, ebx, ecx, edx;
};
struct cpuid_table {
    unsigned n;
    struct cpuid_leaf leaf[64];
};
/* Build what the machine's CPUs report (dynamic bits: APIC id, OSXSAVE, XCR0 sizes are patched in
 * cpu_cpuid). Host leaves are read once. hw_virt: for the kvm engine (kvm's own filter applied
 * too). */
void cpuid_build(struct cpuid_table *t, const struct vm_cpus *vm);
void cpu_cpuid(const struct vcpu *v, uint32_t leaf, uint32_t sub, uint32_t out[4]);
/* Does the guest see feature bit (register index 0-3 = eax..edx) of leaf.sub? */
bool cpuid_has(const struct cpuid_table *t, uint32_t leaf, uint32_t sub, unsigned reg,
               unsigned bit);

/* --- pvclock.c: KVM_SYSTEM_TIME_NEW / WALL_CLOCK (Linux Documentation/virt/kvm/x86/msr.rst) --- */
int pvclock_write_wall(struct vcpu *v, gpa_t gpa);
int pvclock_enable(struct vcpu *v, uint64_t msr_value);

#endif
