/*
 * What translated code calls: a memory access that misses the TLB, an instruction for the
 * interpreter.
 */
#include "paging/copy.h"
#include "vcpu/bt/tr.h"
#include "vcpu/watch.h"

void bt_flags_in(struct vcpu *v)
{
    uint64_t f = v->cpu.rflags;

    v->hot.flags = (uint16_t)((f & 0xd5) << 8 | 0x200 | (f >> 11 & 1));
}

void bt_flags_out(struct vcpu *v)
{
    uint64_t f = v->hot.flags;

    v->cpu.rflags = (v->cpu.rflags & ~(uint64_t)FL_ARITH) | (f >> 8 & 0xd5) | (f & 1) << 11;
}

bool bt_irq_waits(struct vcpu *v)
{
    uint32_t ev = atomic_load_explicit(&v->lapic.events, memory_order_relaxed);

    if ((ev & (LAPIC_EV_NMI | LAPIC_EV_INIT | LAPIC_EV_SIPI)) ||
        (v->cpu.nmi_pending && !v->cpu.nmi_blocked)) /* IRET has just let it through */
        return true;
    if (!(v->cpu.rflags & FL_IF))
        return false;
    return lapic_extint_pending(v) || lapic_pending(v) >= 0;
}

bool bt_irq_masked(struct vcpu *v)
{
    return !(v->cpu.rflags & FL_IF) && (lapic_extint_pending(v) || lapic_pending(v) >= 0);
}

/* Run the instruction at rip in the interpreter. True: translated code may go on after it. */
static bool by_interp(struct vcpu *v, uint64_t rip, uint64_t info)
{
    struct bt *bt = v->vm->bt;
    uint16_t key = bt_key(v);
    /* Since the cache was entered: what another CPU has changed in the code ahead must be seen
     * after a serializing instruction (SDM 3A 9.1.3). */
    /* A vCPU in the cache has its bt. NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
    uint64_t gen = v->bt->ras_gen, flushes = v->tlb.flushes;
    enum step s;

    v->cpu.rip = rip;
    bt_flags_out(v);
    do
        s = interp_step(v);
    while (s == STEP_OK && (info & SITE_REP) && v->cpu.rip == rip && v->tlb.flushes == flushes &&
           !atomic_load_explicit(&v->kicked, memory_order_relaxed));
    v->bt->last_step = s;
    if (!cpu_code64(&v->cpu))
        bt_settle32(v);
    if (s != STEP_OK || (info & SITE_END) || v->cpu.rip != rip + SITE_LEN(info) ||
        bt_key(v) != key || bt->gen != gen || v->tlb.flushes != flushes || bt_wants_interp(v) ||
        bt_irq_waits(v))
        return false;
    /* An interrupt that the instruction itself caused is to be seen by the very next STI. */
    if (atomic_load_explicit(&v->kicked, memory_order_relaxed) && !(v->cpu.rflags & FL_IF))
        v->hot.sti_ptr = 0;
    bt_flags_in(v);
    fpu_take(v);
    return true;
}

uint64_t bt_callout_insn(struct vcpu *v, uint64_t rip, uint64_t info)
{
    if (SITE_GET_OP(info) == OP_PAUSE) {
        vcpu_spin(v);
        return 0;
    }
    v->stats.bt_callouts++;
    if ((info & SITE_STRING) && bt_string(v, info))
        return 0;
    v->stats.bt_fallback_op[SITE_GET_OP(info)]++;
    return by_interp(v, rip, info) ? 0 : 1;
}

/* Two pages. Where they are not next to each other in the host, reading goes by a copy, as aligned
 * as the original is, for once; NULL: not plain RAM, a fault, a write, or for several accesses. */
static void *crossing(struct vcpu *v, gva_t lin, unsigned size, unsigned acc, bool once)
{
    unsigned first = PAGE_SIZE - (unsigned)(lin & (PAGE_SIZE - 1));
    void *a, *b;
    bool traced_a, traced_b;

    if (mem_host(v, lin, first, acc, &a, &traced_a) || !a ||
        mem_host(v, lin + first, size - first, acc, &b, &traced_b) || !b ||
        ((acc & ACC_WRITE) && (traced_a || traced_b)))
        return NULL;
    if (b == (void *)((uint8_t *)a + first))
        return a;
    if ((acc & ACC_WRITE) || !once)
        return NULL;
    uint8_t *at = v->bt->bounce + (lin & 63);

    copy_bytes(at, a, first);
    copy_bytes(at + first, b, size - first);
    return at;
}

uint64_t bt_callout_mem(struct vcpu *v, gva_t lin, uint64_t info, uint64_t rip)
{
    unsigned size = SITE_SIZE(info), acc = info & SITE_WRITE ? ACC_WRITE : ACC_READ;
    void *host;
    bool traced;

    if ((bt_key(v) & KEY_CTX) == TLB_USER)
        acc |= ACC_USER;
    /* With a debugger's watchpoints the interpreter sees what is accessed. */
    if (canonical(lin) && canonical(lin + size - 1) && !watch_any(v) &&
        (lin + size - 1 <= UINT32_MAX || cpu_code64(&v->cpu))) {
        int r = mem_host(v, lin, size, acc, &host, &traced);

        if (r == CPU_OK && host && !(traced && (acc & ACC_WRITE))) {
            v->stats.bt_tlb_refills++;
            if (cpu_code64(&v->cpu))
                bt_window_refill(v, lin, bt_key(v) & KEY_CTX);
            return (uintptr_t)host;
        }
        if (r == CPU_FAULT && (info & SITE_PLAIN)) {
            v->cpu.rip = rip;
            bt_flags_out(v);
            v->bt->last_step = cpu_deliver_exception(v) ? STEP_EXIT : STEP_OK;
            return 1;
        }
        if (r == CPU_OK && !host && (lin & (PAGE_SIZE - 1)) > PAGE_SIZE - size &&
            (host = crossing(v, lin, size, acc, !(info & SITE_RUN)))) {
            if (info & SITE_RUN)
                bt_page_missed(v, rip, lin);
            v->stats.bt_crossings++;
            return (uintptr_t)host;
        }
    }
    v->stats.bt_slow_mem++;
    if (info & SITE_RUN)
        bt_page_missed(v, rip, lin);
    return by_interp(v, rip, info) ? 0 : 1;
}
