/*
 * Counters that are always on: one increment each, by the owning vCPU thread, read at the end.
 */
#ifndef VCPU_STATS_H
#define VCPU_STATS_H

#include <stdint.h>

struct vcpu_stats {
    uint64_t exits[16]; /* by enum exit_reason */
    uint64_t pio_reads, pio_writes, mmio_reads, mmio_writes;
    uint64_t irqs, nmis, exceptions[32];
    uint64_t insns;              /* interpreter: instructions executed */
    uint64_t hlts, kicks, spins; /* spins: PAUSEs that gave the host CPU away */
    /* bt */
    uint64_t bt_blocks, bt_guest_insns, bt_guest_bytes, bt_host_bytes, bt_translate_ns;
    uint64_t bt_retranslations, bt_flushes, bt_chains, bt_lookups, bt_jc_misses;
    uint64_t bt_window_misses, bt_copied, bt_moved;
    uint64_t bt_tlb_refills, bt_slow_mem, bt_crossings, bt_callouts, bt_fallbacks, bt_smc, bt_polls,
        bt_cold_runs;
    uint64_t bt_fallback_op[1024]; /* by map << 8 | opcode (map 0-3) */
    /* kvm */
    uint64_t kvm_exits[64]; /* by KVM_EXIT_* */
};

#endif
