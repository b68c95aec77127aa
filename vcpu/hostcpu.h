/*
 * The host's CPUID, each leaf asked once: under a hypervisor every CPUID is an exit, microseconds
 * of a launch that takes some hundred.
 */
#ifndef VCPU_HOSTCPU_H
#define VCPU_HOSTCPU_H

#include <stdbool.h>
#include <stdint.h>

/* EAX, EBX, ECX, EDX. From any thread. Leaf 1's EBX has the APIC id of whichever CPU was asked. */
struct host_leaf {
    uint32_t r[4];
};
struct host_leaf host_cpuid(uint32_t leaf, uint32_t sub);

/* What was asked so far, for who keeps it from one process to the next on the same CPU; and to have
 * it known without asking, before anything else asks. */
#define HOST_LEAVES 12
struct host_known {
    uint32_t leaf, sub;
    struct host_leaf h;
};
unsigned host_cpuid_known(struct host_known k[HOST_LEAVES]);
void host_cpuid_know(const struct host_known *k);

/* Can this CPU run guests by itself: VMX or SVM? */
bool host_virtualizes(void);
#endif
