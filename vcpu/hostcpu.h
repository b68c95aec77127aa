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

/* Can this CPU run guests by itself: VMX or SVM? */
bool host_virtualizes(void);
#endif
