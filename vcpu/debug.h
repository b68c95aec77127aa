/*
 * What a debugger asks of the CPUs, apart from the guest's own debug registers: breakpoints by
 * linear address, watchpoints, single steps. Guest memory is not changed for them, and the guest
 * cannot see them.
 *
 * bt and interp look at the lists themselves: translated code holds no instruction with a
 * breakpoint and reaches no page with a watchpoint, and runs not at all in a step. kvm uses the
 * debug registers (kvm_debug.c).
 *
 * Threads: the debugger's own thread writes everything here, and only while every vCPU stands still
 * outside run() (the monitor's debugger.c); a vCPU reports in its own vcpu.debug_stop.
 */
#ifndef VCPU_DEBUG_H
#define VCPU_DEBUG_H

#include "paging/types.h"

struct vcpu;
struct vm_cpus;

#define DEBUG_CODE_MAX 256
#define DEBUG_DATA_MAX 16

/* vcpu.debug: what this CPU has to look for. */
enum { DEBUG_CODE = 1, DEBUG_DATA = 2, DEBUG_STEP = 4 };

enum debug_kind { DEBUG_BREAK, DEBUG_HW_BREAK, DEBUG_WRITE, DEBUG_READ, DEBUG_ACCESS };

struct debug_point {
    gva_t at;
    uint32_t len; /* of a watchpoint */
    uint8_t kind;
};

struct debug {
    struct debug_point code[DEBUG_CODE_MAX], data[DEBUG_DATA_MAX];
    unsigned ncode, ndata;
    uint64_t filter; /* of code: bit at & 63 */
    uint64_t gen;    /* counts changes */
};

/* Why run() returned EXIT_DEBUG; DEBUG_CRASHED is the machine's, after EXIT_SHUTDOWN or
 * EXIT_ERROR. */
struct debug_stop {
    enum { DEBUG_NOTHING, DEBUG_AT_BREAK, DEBUG_AT_WATCH, DEBUG_STEPPED, DEBUG_CRASHED } why;
    uint8_t kind; /* of the point */
    gva_t at;     /* of the point */
};

/* 0, -ENOSPC, or -EINVAL for a watchpoint of no or too many bytes. What is there already counts as
 * added; what is not there, as removed. */
int debug_add(struct vm_cpus *vm, struct debug_point p);
void debug_remove(struct vm_cpus *vm, struct debug_point p);
void debug_clear(struct vm_cpus *vm);

/* The point of code at lin, or NULL. */
const struct debug_point *debug_code(const struct debug *d, gva_t lin);
/* Is part of a watchpoint in lin's page? */
bool debug_page(const struct debug *d, gva_t lin);
/* v accesses memory: a watchpoint met becomes v's debug_stop. */
void debug_access(struct vcpu *v, gva_t lin, unsigned size, bool write);

#endif
