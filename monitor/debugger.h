/*
 * Run control for a debugger: every vCPU stands still at its gate, or all that were told to run do
 * (all-stop). The debugger's thread (gdb.c) calls it, but for what is said to be a vCPU's.
 */
#ifndef MONITOR_DEBUGGER_H
#define MONITOR_DEBUGGER_H

#include "monitor/machine.h"

enum debugger_action { DEBUGGER_STAY, DEBUGGER_CONTINUE, DEBUGGER_STEP };

/* What one vCPU is to do; a step goes on while RIP is in [from, to). */
struct debugger_order {
    enum debugger_action action;
    uint64_t from, to;
};

/* Before any vCPU's thread runs: stand: they will stand at their gates. event_fd: an eventfd that
 * is written whenever one has come there. */
void debugger_init(struct machine *m, int event_fd, bool stand);
/* All shall stand still, soon. Also for a vCPU that has stopped, on its own thread. */
void debugger_pause(struct machine *m);
/* Do all stand still? Only then may anything below be called, or struct vcpu be touched. */
bool debugger_paused(struct machine *m);
/* order[i] for vCPU i. */
void debugger_resume(struct machine *m, const struct debugger_order *order);
/* The first of the vCPUs, from on, that has something to report, or -1. */
int debugger_report(struct machine *m, unsigned from);

/* Guest memory at linear addresses, through v's page tables as they are; permissions do not count,
 * device registers are not memory. How many bytes could be had, from the first on. */
size_t debugger_read(struct vcpu *v, gva_t at, void *to, size_t len);
size_t debugger_write(struct vcpu *v, gva_t at, const void *from, size_t len);
/* False: not mapped. */
bool debugger_translate(struct vcpu *v, gva_t at, struct walk_result *out);

/* --- a vCPU's own thread --- */

/* Before run(): stand still here while the debugger wants it. True: the machine has stopped. */
bool debugger_gate(struct machine *m, struct vcpu *v);

#endif
