/*
 * The LAPIC timer (SDM 3A 11.5.4): one-shot, periodic, TSC-deadline, counted on the TSC.
 *
 * next_tsc is the host TSC of the next expiry whether or not the LVT entry is masked, so that the
 * current count is right; ops->arm_timer() hears of unmasked ones only.
 */
#include "vcpu/lapic_regs.h"
#include "vcpu/scale.h"

enum { MODE_ONESHOT, MODE_PERIODIC, MODE_DEADLINE };

/* A periodic timer does not wake us more often than this: a period of some ticks would keep the
 * vCPU in its timer for good. The count that the guest reads stays true to what it programmed. */
#define MIN_PERIOD_NS 20000u

static uint64_t host_tsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}

static unsigned mode(const struct lapic *l)
{
    return l->lvt_timer >> 17 & 3;
}

/* Bus clocks a tick: divide configuration bits 3,1,0 (SDM 3A figure 11-10). */
static uint64_t divisor(const struct lapic *l)
{
    unsigned d = (l->timer_divide & 3) | (l->timer_divide >> 1 & 4);

    return 1u << ((d + 1) & 7);
}

/* TSC cycles of that many ticks. */
static uint64_t ticks_tsc(const struct vcpu *v, uint64_t ticks)
{
    return mul_div(ticks * divisor(&v->lapic), v->vm->tsc_hz, LAPIC_TIMER_HZ);
}

static uint64_t add_sat(uint64_t a, uint64_t b)
{
    return a + b < a ? UINT64_MAX : a + b;
}

uint64_t lapic_next_deadline(const struct vcpu *v)
{
    return v->lapic.lvt_timer & APIC_LVT_MASKED ? 0 : v->lapic.next_tsc;
}

/* Tell the machine of a new deadline. One that has gone by itself needs no disarming. */
static void arm(struct vcpu *v, bool fired)
{
    struct lapic *l = &v->lapic;
    uint64_t next = lapic_next_deadline(v);

    if (next == l->armed_tsc)
        return;
    l->armed_tsc = next;
    if ((!next && fired) || !v->vm->ops || !v->vm->ops->arm_timer)
        return;
    fpu_put(v);
    v->vm->ops->arm_timer(v->vm->machine, v->index, next);
}

static bool post(struct vcpu *v)
{
    uint32_t lvt = v->lapic.lvt_timer;

    if (lvt & APIC_LVT_MASKED)
        return false;
    if ((lvt & 0xff) < 16) {
        lapic_error(v, APIC_ESR_RECV_VECTOR);
        return false;
    }
    return lapic_irr_post(v, (uint8_t)lvt, false);
}

/* True when the interrupt became pending just now. */
static bool expire(struct vcpu *v)
{
    struct lapic *l = &v->lapic;

    if (!l->next_tsc)
        return false;
    uint64_t now = host_tsc();

    if (now < l->next_tsc)
        return false;
    bool posted = post(v);

    if (mode(l) == MODE_PERIODIC && l->timer_icr) {
        /* Periods missed are one interrupt; the phase stays. */
        uint64_t guest = now + v->cpu.tsc_offset, period = ticks_tsc(v, l->timer_icr);
        uint64_t floor_ = mul_div(MIN_PERIOD_NS, v->vm->tsc_hz, 1000000000u);

        if (!period)
            period = 1;
        l->timer_start += (guest - l->timer_start) / period * period;
        uint64_t left = period - (guest - l->timer_start);

        l->next_tsc = add_sat(now, left < floor_ && period < floor_ ? floor_ : left);
    } else {
        l->next_tsc = 0;
        l->tsc_deadline = 0;
    }
    arm(v, true);
    return posted;
}

void lapic_timer_poll(struct vcpu *v)
{
    expire(v);
}

/* From a register access: nobody looks at the IRR after it unless told. */
static void catch_up(struct vcpu *v)
{
    if (expire(v))
        vcpu_kick(v);
}

/* The count begins, or goes on, at guest TSC timer_start. */
static void schedule(struct vcpu *v)
{
    struct lapic *l = &v->lapic;

    l->next_tsc = 0;
    if (l->timer_icr)
        l->next_tsc = add_sat(l->timer_start - v->cpu.tsc_offset, ticks_tsc(v, l->timer_icr));
    arm(v, false);
    catch_up(v);
}

static void schedule_deadline(struct vcpu *v)
{
    struct lapic *l = &v->lapic;
    uint64_t now = host_tsc(), guest = now + v->cpu.tsc_offset;

    l->next_tsc = 0;
    if (l->tsc_deadline)
        l->next_tsc = l->tsc_deadline > guest ? add_sat(now, l->tsc_deadline - guest) : now;
    /* One in the past fires here and needs no timer. */
    if (l->next_tsc != now)
        arm(v, false);
    catch_up(v);
}

void lapic_timer_stop(struct vcpu *v)
{
    struct lapic *l = &v->lapic;

    l->timer_icr = 0;
    l->tsc_deadline = 0;
    l->next_tsc = 0;
    arm(v, false);
}

uint32_t lapic_timer_current(struct vcpu *v)
{
    struct lapic *l = &v->lapic;

    catch_up(v);
    if (!l->next_tsc || !l->timer_icr || mode(l) == MODE_DEADLINE)
        return 0;
    uint64_t run = host_tsc() + v->cpu.tsc_offset - l->timer_start;
    uint64_t ticks = mul_div(run, LAPIC_TIMER_HZ, v->vm->tsc_hz) / divisor(l);

    if (mode(l) == MODE_PERIODIC)
        return l->timer_icr - (uint32_t)(ticks % l->timer_icr);
    return ticks < l->timer_icr ? l->timer_icr - (uint32_t)ticks : 0;
}

void lapic_timer_set_initial(struct vcpu *v, uint32_t val)
{
    struct lapic *l = &v->lapic;

    catch_up(v);
    if (mode(l) == MODE_DEADLINE)
        return;
    l->timer_icr = val;
    l->timer_start = host_tsc() + v->cpu.tsc_offset;
    schedule(v);
}

void lapic_timer_set_divide(struct vcpu *v, uint32_t val)
{
    struct lapic *l = &v->lapic;
    uint32_t left = lapic_timer_current(v);

    l->timer_divide = val;
    if (!left)
        return;
    /* What is left is counted at the new rate. */
    l->timer_start = host_tsc() + v->cpu.tsc_offset - ticks_tsc(v, (uint64_t)l->timer_icr - left);
    schedule(v);
}

void lapic_timer_set_lvt(struct vcpu *v, uint32_t val)
{
    struct lapic *l = &v->lapic;
    unsigned was = mode(l);

    catch_up(v); /* what expired before is the old entry's */
    l->lvt_timer = val;
    /* To and from TSC-deadline mode disarms (SDM 3A 11.5.4.1); the reserved mode counts nothing. */
    if (was != mode(l) && (was >= MODE_DEADLINE || mode(l) >= MODE_DEADLINE))
        lapic_timer_stop(v);
    else
        arm(v, false);
}

uint64_t lapic_timer_get_deadline(struct vcpu *v)
{
    catch_up(v);
    return mode(&v->lapic) == MODE_DEADLINE ? v->lapic.tsc_deadline : 0;
}

void lapic_timer_set_deadline(struct vcpu *v, uint64_t tsc)
{
    if (mode(&v->lapic) != MODE_DEADLINE)
        return;
    v->lapic.tsc_deadline = tsc;
    schedule_deadline(v);
}

void lapic_tsc_changed(struct vcpu *v, uint64_t delta)
{
    v->lapic.timer_start += delta;
    if (mode(&v->lapic) == MODE_DEADLINE)
        schedule_deadline(v);
}
