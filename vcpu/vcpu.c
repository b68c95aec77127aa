#include "vcpu/vcpu.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "vcpu/bt/bt.h"
#include "vcpu/except.h"
#include "vcpu/hostcpu.h"

/* The longest a waiting CPU sleeps without looking again. */
#define WAIT_MAX_NS 3600000000000u

static uint64_t rdtsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}

uint64_t vcpu_tsc(const struct vcpu *v)
{
    return rdtsc() + v->cpu.tsc_offset;
}

void vcpu_close_windows(struct vcpu *v)
{
    uint64_t *limit = &v->hot.win_limit[0][0][0];

    for (unsigned i = 0; i < sizeof(v->hot.win_limit) / sizeof(*limit); i++)
        __atomic_store_n(&limit[i], 0, __ATOMIC_RELAXED);
}

void vcpu_kick(struct vcpu *v)
{
    /* kicked before the rest: see vcpu_take_kick(). */
    bool was = atomic_exchange(&v->kicked, 1);

    atomic_store(&v->poll_ptr, NULL);
    if (!was && atomic_load(&v->windows))
        vcpu_close_windows(v);
    if (v->vm->engine_kick)
        v->vm->engine_kick(v);
    if (atomic_exchange(&v->futex, 0) == 1)
        syscall(SYS_futex, &v->futex, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

bool vcpu_take_kick(struct vcpu *v)
{
    if (!atomic_load_explicit(&v->kicked, memory_order_relaxed))
        return false;
    /* poll_ptr first: a kick that comes between the two leaves at worst one idle poll fault; the
     * other order could lose it. */
    atomic_store(&v->poll_ptr, &v->poll_word);
    bool was = atomic_exchange(&v->kicked, 0);

    v->stats.kicks += was;
    return was;
}

bool vcpu_never_wakes(struct vcpu *v)
{
    struct vm_cpus *vm = v->vm;
    uint32_t all = (uint32_t)(((uint64_t)1 << vm->nvcpu) - 1);

    if (v->cpu.rflags & FL_IF)
        return false;
    atomic_fetch_or(&vm->deaf, 1u << v->index);
    /* The messages first: who took one has left the mask before. */
    for (unsigned i = 0; i < vm->nvcpu; i++)
        if (atomic_load(&vm->vcpu[i]->lapic.events) &
            (LAPIC_EV_NMI | LAPIC_EV_INIT | LAPIC_EV_SIPI))
            return false;
    return atomic_load(&vm->deaf) == all && !ioapic_sends_nmi(&vm->irqchip);
}

static void wait(struct vcpu *v)
{
    uint64_t ns = WAIT_MAX_NS, due = lapic_next_deadline(v);

    if (due) {
        uint64_t now = rdtsc();

        if (due <= now)
            return;
        unsigned __int128 d = (unsigned __int128)(due - now) * 1000000000u / v->vm->tsc_hz;

        ns = d < WAIT_MAX_NS ? (uint64_t)d : WAIT_MAX_NS;
    }
    struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000u),
                          .tv_nsec = (long)(ns % 1000000000u)};

    v->stats.hlts++;
    atomic_store(&v->futex, 1);
    if (!atomic_load(&v->kicked))
        syscall(SYS_futex, &v->futex, FUTEX_WAIT_PRIVATE, 1, &ts, NULL, 0);
    atomic_store(&v->futex, 0);
}

void vcpu_wait(struct vcpu *v)
{
    wait(v);
    if (atomic_load_explicit(&v->vm->deaf, memory_order_relaxed) >> v->index & 1)
        atomic_fetch_and(&v->vm->deaf, ~(1u << v->index));
}

void vcpu_park(struct vcpu *v)
{
    atomic_store(&v->futex, 1);
    if (!atomic_load(&v->kicked))
        syscall(SYS_futex, &v->futex, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
    atomic_store(&v->futex, 0);
}

/* What of the vector state the host can save: x87 and SSE always, AVX where it is enabled. */
static uint32_t host_mask(void)
{
    static uint32_t mask;

    if (!mask) {
        uint32_t a, d;

        if (host_cpuid(1, 0).r[2] & (1u << 27)) {
            __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
            mask = a & XCR0_SUPPORTED;
        } else {
            mask = 8; /* FXSAVE only */
        }
    }
    return mask;
}

void fpu_put(struct vcpu *v)
{
    if (!v->fpu_live)
        return;
    uint32_t mask = host_mask();

    if (mask == 8)
        __asm__ volatile("fxsave64 (%0)" : : "r"(v->cpu.xsave) : "memory");
    else
        __asm__ volatile("xsave64 (%0)" : : "r"(v->cpu.xsave), "a"(mask), "d"(0) : "memory");
    /* The guest's rounding, unmasked and pending exceptions are not for the monitor's own code. */
    static const uint32_t mxcsr = 0x1f80;

    __asm__ volatile("fninit; ldmxcsr %0" : : "m"(mxcsr));
    v->fpu_live = false;
}

void fpu_take(struct vcpu *v)
{
    if (v->fpu_live)
        return;
    uint32_t mask = host_mask();

    if (mask == 8)
        __asm__ volatile("fxrstor64 (%0)" : : "r"(v->cpu.xsave) : "memory");
    else
        __asm__ volatile("xrstor64 (%0)" : : "r"(v->cpu.xsave), "a"(mask), "d"(0) : "memory");
    v->fpu_live = true;
}

/* INIT and start-up IPIs (SDM 3A 8.4.3). 1 when the CPU was changed. */
static int take_init_sipi(struct vcpu *v, uint32_t events)
{
    struct cpu *c = &v->cpu;

    if (events & LAPIC_EV_INIT) {
        fpu_put(v);
        cpu_reset(c);
        lapic_reset(v);
        c->halted = true;
        c->wait_for_sipi = true;
        vcpu_note_paging(v);
    }
    if ((events & LAPIC_EV_SIPI) && c->wait_for_sipi) {
        uint8_t vec = atomic_load(&v->lapic.sipi_vector);

        c->wait_for_sipi = false;
        c->halted = false;
        seg_load_real(c, SEG_CS, (uint16_t)(vec << 8));
        c->rip = 0;
        return 1;
    }
    return events & LAPIC_EV_INIT ? 1 : 0;
}

int vcpu_inject(struct vcpu *v)
{
    struct cpu *c = &v->cpu;
    const uint32_t mine = LAPIC_EV_INIT | LAPIC_EV_SIPI;
    uint32_t ev = atomic_load_explicit(&v->lapic.events, memory_order_relaxed) & mine;
    int vector;

    lapic_take_nmis(v);
    if (ev) {
        atomic_fetch_and(&v->lapic.events, ~mine);
        if (take_init_sipi(v, ev))
            return 1;
    }
    if (c->wait_for_sipi)
        return 0;
    lapic_timer_poll(v);
    if (c->int_shadow)
        return 0;
    if (c->nmi_pending && !c->nmi_blocked) {
        c->nmi_pending--;
        c->nmi_blocked = true;
        vector = VEC_NMI;
        v->stats.nmis++;
    } else if (!(c->rflags & FL_IF)) {
        return 0;
    } else if (lapic_extint_pending(v)) {
        vector = pic_ack(&v->vm->irqchip);
        if (vector < 0)
            return 0;
    } else {
        vector = lapic_pending(v);
        if (vector < 0)
            return 0;
        lapic_ack(v, (uint8_t)vector);
    }
    c->halted = false;
    return cpu_deliver_interrupt(v, (uint8_t)vector) ? CPU_FAULT : 1;
}

void vcpu_note_cr3(struct vcpu *v)
{
    tlb_flush_nonglobal(&v->tlb);
    if (v->bt)
        bt_note_cr3(v);
}

void vcpu_note_paging(struct vcpu *v)
{
    tlb_flush_all(&v->tlb);
    v->tlb.pcid = v->cpu.cr4 & CR4_PCIDE ? v->cpu.cr3 & 0xfff : 0;
    if (v->bt)
        bt_note_paging(v);
}

void vcpu_note_pcid(struct vcpu *v, uint16_t pcid, bool keep)
{
    uint16_t old = v->tlb.pcid;

    keep = keep && !(bt_debug & BT_DBG_NO_PCID);
    if (pcid == old) {
        if (!keep)
            vcpu_note_cr3(v);
        return;
    }
    tlb_switch(&v->tlb, pcid, keep);
    if (v->bt)
        bt_note_pcid(v, old, pcid, keep);
}

void vcpu_note_forget(struct vcpu *v, uint16_t pcid)
{
    tlb_forget(&v->tlb, pcid);
    if (v->bt)
        bt_note_forget(v, pcid);
}

void vcpu_note_forget_all(struct vcpu *v)
{
    tlb_forget_all(&v->tlb);
    if (v->bt)
        bt_jc_forget_all(v);
}

void vcpu_note_invlpg(struct vcpu *v, gva_t lin)
{
    bool large = tlb_flush_page(&v->tlb, lin);

    if (v->bt)
        bt_note_invlpg(v, lin, large);
}
