/*
 * The interpreter: the reference for every instruction and mode, the slow path of the translator,
 * the single-stepper, and an engine of its own. One instruction at a time; every fault precise.
 */
#ifndef VCPU_INTERP_H
#define VCPU_INTERP_H

#include "vcpu/decode.h"
#include "vcpu/vcpu.h"

enum step {
    STEP_OK,   /* executed, or a fault was delivered: cpu->rip is where to go on */
    STEP_HLT,  /* HLT executed, cpu->halted set, rip past it */
    STEP_EXIT, /* v->exit is filled: shutdown, error, stop */
};

/* Execute the instruction at CS:RIP, delivering whatever it raises (faults, INT n, single-step
 * trap). Handles int_shadow: it is cleared after the instruction that follows the one that set it.
 * Pending interrupts are the caller's (vcpu_inject). */
enum step interp_step(struct vcpu *v);

/* The same up to a branch that is taken, an exception, or an instruction after which an interrupt
 * may be deliverable; at most max instructions. */
enum step interp_run(struct vcpu *v, unsigned max);

/* The same beyond branches, for as long as nothing but a kick can ask for the caller. */
enum step interp_on(struct vcpu *v);

/* --- for the interpreter's own files (interp_*.c), each returning CPU_OK or CPU_FAULT --- */

/* Execute a decoded instruction by class. On CPU_OK cpu->rip is already the next instruction (or
 * the branch target); on CPU_FAULT nothing has changed but what the architecture says (REP
 * progress). */
int interp_alu(struct vcpu *v,
               const struct insn *in); /* IC_ALU, IC_MOFFS: interp_alu.c, interp_alu2.c */
int interp_stack(struct vcpu *v, const struct insn *in);  /* IC_STACK */
int interp_branch(struct vcpu *v, const struct insn *in); /* IC_BRANCH */
int interp_string(struct vcpu *v, const struct insn *in); /* IC_STRING and INS/OUTS */
int interp_vec(struct vcpu *v, const struct insn *in); /* IC_VEC, IC_X87, IC_VECSYS: interp_vec.c */
int interp_sys(struct vcpu *v, const struct insn *in); /* IC_SYS but INS/OUTS: interp_sys.c */

/* Does the instruction report a pending x87 exception (#MF) before it looks at its operand? */
bool interp_mf_first(const struct insn *in);

/* Push/pop of size 2, 4, 8 through SS with the stack address size; push does all checks before RSP
 * changes. pop leaves RSP to the caller when peek. */
int interp_push(struct vcpu *v, uint64_t val, unsigned size);
int interp_pop(struct vcpu *v, uint64_t *val, unsigned size);

/* Near branch target check: canonical in 64-bit code, within the CS limit otherwise. */
int interp_branch_to(struct vcpu *v, uint64_t target);

#endif
