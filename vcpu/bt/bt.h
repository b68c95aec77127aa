/*
 * The binary translator's face to the rest of vcpu/. See bt_int.h for how it works.
 */
#ifndef VCPU_BT_BT_H
#define VCPU_BT_BT_H

#include "vcpu/vcpu.h"

/* cfg.bt_debug: each switches one optimisation off, for bisecting (--bt-no-...). */
enum {
    BT_DBG_NO_CHAIN = 1,    /* no direct chaining: every block ends in the dispatcher */
    BT_DBG_NO_LIVENESS = 2, /* flags are taken as live everywhere */
    BT_DBG_NO_INLINE = 4,   /* no inline TLB: every memory operand goes to the interpreter */
    BT_DBG_NO_WINDOW = 16,  /* no linear windows: TLB probes everywhere */
    BT_DBG_NO_TRACE = 64,   /* a block ends at its first branch */
    BT_DBG_NO_LOW = 128,    /* struct vcpu from GS, also where there is only one */
    BT_DBG_EAGER = 32,      /* translate at first sight: nothing is too cold */
    BT_DBG_ONE_INSN = 8,    /* one instruction a block */
    BT_DBG_NO_MOVE = 256,   /* translate anew what is met at another address */
    BT_DBG_NO_PCID = 1024,  /* nothing is kept of a PCID that is left */
    BT_DBG_MOVE_LOW = 512,  /* also code at low addresses can be met at others, for tests */
};
extern unsigned bt_debug;

/* --bt-cache: bytes for translations and the tables that grow with them, before vm_init(). */
#define BT_CACHE_MIN     (1 * MIB)
#define BT_CACHE_MAX     (1024 * MIB)
#define BT_CACHE_DEFAULT (116 * MIB)
extern uint64_t bt_cache_size;

/* Bytes of memory that the engine has touched: code, its tables, the CPUs' own. And the guest's
 * RAM. Only what is there is counted. */
struct bt_memory {
    uint64_t code, tables, cpus, ram;
};
void bt_memory(const struct vm_cpus *vm, struct bt_memory *m);

/* Flushes of translations that the architecture asks for, on the vCPU's own thread. */
void bt_note_cr3(struct vcpu *v);
void bt_note_pcid(struct vcpu *v, uint16_t old, uint16_t pcid, bool keep);
void bt_note_forget(struct vcpu *v, uint16_t pcid);
void bt_jc_forget_all(struct vcpu *v);
void bt_note_paging(struct vcpu *v);
void bt_note_invlpg(struct vcpu *v, gva_t lin, bool large); /* large: more than lin's 4 KiB */

/* The debugger has set a breakpoint at lin: what was translated of it goes. No vCPU is in run(). */
void bt_note_breakpoint(struct vm_cpus *vm, gva_t lin);

#endif
