/*
 * The paravirtual clock (Linux Documentation/virt/kvm/x86/msr.rst): a guest reads its time as a
 * linear function of its TSC, without an exit.
 *
 * Every CPU gets the same function: time is nanoseconds of the machine's TSC, the guest TSC less
 * what the guest itself added to it (TSC_ADJUST). So it is the same on all CPUs and never needs an
 * update but when the guest moves its TSC.
 */
#include <sys/syscall.h>
#include <time.h>
#include "vcpu/system.h"

struct pvclock_time {
    uint32_t version, pad0;
    uint64_t tsc_timestamp, system_time;
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
    uint8_t flags, pad[2];
} __attribute__((packed, aligned(4)));
struct pvclock_wall {
    uint32_t version, sec, nsec;
};
#define PVCLOCK_TSC_STABLE 1
#define PVCLOCK_START_NS   1 /* at TSC 0; a guest may take 0 for a clock never filled in (Nanos) */

#define NS_PER_S 1000000000u

/* ns = ((tsc << shift) * mul) >> 32, with mul as large as 32 bits hold for clocks below 2 GHz. */
static void scale_for(uint64_t hz, uint32_t *mul, int8_t *shift)
{
    int8_t s = 0;

    while (hz && hz <= NS_PER_S) {
        hz <<= 1;
        s++;
    }
    *shift = s;
    *mul = hz ? (uint32_t)((((uint64_t)NS_PER_S << 32) + hz / 2) / hz) : 0;
}

static uint64_t system_time(const struct vcpu *v)
{
    uint64_t tsc = vcpu_tsc(v) - v->cpu.tsc_adjust;
    uint32_t mul;
    int8_t shift;

    scale_for(v->vm->tsc_hz, &mul, &shift);
    return PVCLOCK_START_NS + (uint64_t)(((unsigned __int128)(tsc << shift) * mul) >> 32);
}

static void publish(struct vcpu *v, gpa_t gpa)
{
    struct pvclock_time *t = ram_ptr(v->vm->ram, gpa, sizeof(*t));
    uint32_t version, mul;
    int8_t shift;

    if (!t)
        return;
    scale_for(v->vm->tsc_hz, &mul, &shift);
    version = __atomic_load_n(&t->version, __ATOMIC_RELAXED) | 1;
    /* Odd while it changes: other CPUs may be reading. */
    __atomic_store_n(&t->version, version, __ATOMIC_SEQ_CST);
    t->tsc_timestamp = v->cpu.tsc_adjust;
    t->system_time = PVCLOCK_START_NS;
    t->tsc_to_system_mul = mul;
    t->tsc_shift = shift;
    t->flags = PVCLOCK_TSC_STABLE;
    __atomic_store_n(&t->version, version + 1, __ATOMIC_SEQ_CST);
    ram_written(v->vm->ram, gpa, sizeof(*t));
}

int pvclock_enable(struct vcpu *v, uint64_t msr_value)
{
    v->cpu.kvm_system_time = msr_value;
    if (msr_value & 1)
        publish(v, msr_value & ~(uint64_t)3);
    return CPU_OK;
}

void pvclock_refresh(struct vcpu *v)
{
    if (v->cpu.kvm_system_time & 1)
        publish(v, v->cpu.kvm_system_time & ~(uint64_t)3);
}

int pvclock_write_wall(struct vcpu *v, gpa_t gpa)
{
    struct pvclock_wall *w = ram_ptr(v->vm->ram, gpa & ~(gpa_t)3, sizeof(*w));
    struct timespec now = {0};
    uint64_t boot;
    long rc = SYS_clock_gettime;

    v->cpu.kvm_wall_clock = gpa;
    if (!w)
        return CPU_OK;
    /* The bare system call: libc's goes through code that may use vector registers. */
    __asm__ volatile("syscall"
                     : "+a"(rc)
                     : "D"((long)CLOCK_REALTIME), "S"(&now)
                     : "rcx", "r11", "memory");
    if (rc)
        return CPU_OK;
    boot = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec - system_time(v);
    uint32_t version = __atomic_load_n(&w->version, __ATOMIC_RELAXED) | 1;

    __atomic_store_n(&w->version, version, __ATOMIC_SEQ_CST);
    w->sec = (uint32_t)(boot / NS_PER_S);
    w->nsec = (uint32_t)(boot % NS_PER_S);
    __atomic_store_n(&w->version, version + 1, __ATOMIC_SEQ_CST);
    ram_written(v->vm->ram, gpa & ~(gpa_t)3, sizeof(*w));
    return CPU_OK;
}
