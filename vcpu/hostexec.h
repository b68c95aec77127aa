/*
 * Running one guest instruction on the host's own vector unit.
 *
 * The interpreter does not emulate x87, MMX, SSE and AVX: guest and host are one ISA, so the
 * instruction is re-encoded with its memory operand replaced by a host pointer (guest RAM, or a
 * bounce buffer) and executed on the guest's live vector state. The stub area is a small W^X pair
 * of mappings. Host faults inside the stub (#XM, #MF, alignment #GP) come back as guest exceptions
 * through the handlers of hostfault.c.
 */
#ifndef VCPU_HOSTEXEC_H
#define VCPU_HOSTEXEC_H

#include "vcpu/decode.h"
#include "vcpu/vcpu.h"

/* Once per process, before any vCPU runs: map the stub area, install SIGSEGV/SIGBUS/SIGFPE/SIGILL
 * handlers. 0 or -errno. */
int hostexec_init(void);

/* Execute in on v's vector state (fpu_take()n first) with mem as the host address of its memory
 * operand (ignored when it has none); GPRs named by the instruction come from and go to v->cpu.gpr,
 * arithmetic flags from and to v->cpu.rflags. CPU_OK, or CPU_FAULT with cpu->exc set (vector by the
 * host's trap number; nothing changed). */
int hostexec_run(struct vcpu *v, const struct insn *in, void *mem);

/*
 * Host faults in generated code (hostfault.c). A range owner is asked, in the signal handler, with
 * the host PC and the fault; it returns the PC to go on at (and may edit the registers through uc,
 * a ucontext_t *), or 0: then the fault is the monitor's own bug and it dies loudly.
 */
typedef uintptr_t (*hostfault_fn)(struct vcpu *v, uintptr_t pc, unsigned trapno, uintptr_t addr,
                                  void *uc);
/* Install the handlers (hostexec_init() does). 0 or -errno. */
int hostfault_init(void);
/* Set guest register number r (enum RAX..) in a handler's context. */
void hostfault_set_gpr(void *uc, unsigned r, uint64_t val);
void hostfault_register(const void *start, size_t len, hostfault_fn fn);
/* What else to do before a fault of the monitor's own ends it, or NULL. Async-signal-safe. */
extern void (*hostfault_dying)(void);
/* Each vCPU thread: sigaltstack and the thread's struct vcpu (also sets the host GS base to v). */
int hostfault_thread_init(struct vcpu *v);

#endif
