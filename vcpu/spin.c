/*
 * PAUSE: the guest waits for another of its CPUs in a loop. That one may not be on a host CPU just
 * now, and then the loop only keeps it off. So a loop that goes on gives the host's CPU away; how
 * long, depends on whether there are host CPUs for all.
 */
#include "vcpu/vcpu.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* In microseconds: PAUSEs further apart are of different loops; a lock is mostly free sooner; a
 * CPU that still waits then waits for one that does not run. */
#define GAP_US   20
#define SPIN_US  4
#define YIELD_US 40
#define DOZE_NS  50000
/* A loop may count PAUSEs before it looks again, thousands of them (ticket locks with exponential
 * backoff, as Hermit's): each that waited as long as the last would make milliseconds of it. So
 * time given away counts as some PAUSEs, which come next and cost an eighth of it. */
#define PAUSES_US 2

static uint64_t rdtsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}

/* Until a kick, or for a moment. */
static void doze(struct vcpu *v)
{
    static const struct timespec ts = {.tv_nsec = DOZE_NS};

    atomic_store(&v->futex, 1);
    if (!atomic_load(&v->kicked))
        syscall(SYS_futex, &v->futex, FUTEX_WAIT_PRIVATE, 1, &ts, NULL, 0);
    atomic_store(&v->futex, 0);
}

void vcpu_spin(struct vcpu *v)
{
    uint64_t now = rdtsc(), us = v->vm->tsc_hz / 1000000;

    __asm__ volatile("pause");
    if (v->vm->nvcpu == 1)
        return;
    if (now - v->spin_last > GAP_US * us) {
        v->spin_since = now;
        v->spin_free = 0;
    }
    v->spin_last = now;
    if (now - v->spin_since < SPIN_US * us)
        return;
    if (v->spin_free) {
        v->spin_free--;
        return;
    }
    v->stats.spins++;
    if (v->vm->overcommitted && now - v->spin_since > YIELD_US * us)
        doze(v);
    else
        sched_yield();
    v->spin_last = rdtsc();
    v->spin_free = (v->spin_last - now) * PAUSES_US / us;
}
