#include "monitor/debugger.h"

#include <string.h>
#include <unistd.h>
#include "vcpu/kvm/kvm.h"
#include "vcpu/mem.h"

static struct debug points;
static int event_fd = -1;
/* Orders are given and taken one at a time: a CPU that stops as soon as it goes on must not stop
 * the others before they were told to go, nor one that looks around at its gate count as standing
 * after. */
static pthread_mutex_t order_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint32_t parked; /* bit per vCPU: stands at its gate, and will not leave unasked */

/* --- stopping and going on --- */

void debugger_init(struct machine *m, int fd, bool stand)
{
    event_fd = fd;
    m->cpus.debug = &points;
    for (unsigned i = 0; i < m->cpus.nvcpu; i++)
        atomic_store(&m->cpus.vcpu[i]->pause, stand);
}

void debugger_pause(struct machine *m)
{
    pthread_mutex_lock(&order_lock);
    for (unsigned i = 0; i < m->cpus.nvcpu; i++) {
        atomic_store(&m->cpus.vcpu[i]->pause, true);
        vcpu_kick(m->cpus.vcpu[i]);
    }
    pthread_mutex_unlock(&order_lock);
}

bool debugger_paused(struct machine *m)
{
    if (atomic_load(&parked) != ((uint64_t)1 << m->cpus.nvcpu) - 1)
        return false;
    if (m->cpus.kvm)
        kvm_debug_remove(&m->cpus);
    return true;
}

static uint8_t wants(const struct debugger_order *o)
{
    unsigned code = points.ncode ? DEBUG_CODE : 0, data = points.ndata ? DEBUG_DATA : 0;

    return (uint8_t)(code | data | (o->action == DEBUGGER_STEP ? DEBUG_STEP : 0));
}

void debugger_resume(struct machine *m, const struct debugger_order *order)
{
    if (m->cpus.kvm)
        kvm_debug_insert(&m->cpus);
    pthread_mutex_lock(&order_lock);
    for (unsigned i = 0; i < m->cpus.nvcpu; i++) {
        struct vcpu *v = m->cpus.vcpu[i];

        v->debug = wants(&order[i]);
        v->step_from = order[i].from;
        v->step_to = order[i].to;
        if (order[i].action == DEBUGGER_STAY)
            continue;
        v->debug_stop.why = DEBUG_NOTHING;
        /* In this order: once pause is false the vCPU may be gone at any time. */
        atomic_fetch_and(&parked, ~(1u << i));
        atomic_store(&v->pause, false);
        vcpu_kick(v);
    }
    pthread_mutex_unlock(&order_lock);
}

int debugger_report(struct machine *m, unsigned from)
{
    for (unsigned i = 0; i < m->cpus.nvcpu; i++) {
        unsigned n = (from + i) % m->cpus.nvcpu;

        if (m->cpus.vcpu[n]->debug_stop.why != DEBUG_NOTHING)
            return (int)n;
    }
    return -1;
}

/* Shall v stand here? Then it counts as standing until it is told to go. */
static bool stands(struct machine *m, struct vcpu *v)
{
    uint32_t bit = 1u << v->index;

    pthread_mutex_lock(&order_lock);
    bool stand = atomic_load(&v->pause) && !atomic_load(&m->cpus.stop);

    if (stand && !(atomic_fetch_or(&parked, bit) & bit))
        (void)!write(event_fd, &(uint64_t){1}, 8);
    pthread_mutex_unlock(&order_lock);
    return stand;
}

bool debugger_gate(struct machine *m, struct vcpu *v)
{
    bool stood = false;

    while (stands(m, v)) {
        vcpu_park(v);
        vcpu_take_kick(v);
        stood = true;
    }
    /* What those kicks were about has still to be looked at. */
    if (stood)
        vcpu_kick(v);
    return atomic_load(&m->cpus.stop);
}

/* --- memory --- */

bool debugger_translate(struct vcpu *v, gva_t at, struct walk_result *out)
{
    struct walk_ctx w;
    uint32_t error;

    if (cpu_long_mode(&v->cpu) ? !canonical(at) : at >> 32 != 0)
        return false;
    mem_walk_ctx(v, &w);
    w.ac = true; /* a supervisor's read that SMAP does not mind */
    return !walk(v->vm->ram, &w, at, ACC_READ, false, out, &error);
}

/* Host memory of [at, at + *n), with *n cut at the end of the page. */
static uint8_t *host(struct vcpu *v, gva_t at, size_t *n, gpa_t *gpa)
{
    size_t room = PAGE_SIZE - (at & (PAGE_SIZE - 1));
    struct walk_result r;

    if (*n > room)
        *n = room;
    if (!debugger_translate(v, at, &r))
        return NULL;
    *gpa = r.gpa;
    return ram_ptr(v->vm->ram, r.gpa, *n);
}

size_t debugger_read(struct vcpu *v, gva_t at, void *to, size_t len)
{
    size_t done = 0, n;
    gpa_t gpa;

    for (; done < len; done += n) {
        n = len - done;
        const uint8_t *p = host(v, at + done, &n, &gpa);

        if (!p)
            break;
        memcpy((uint8_t *)to + done, p, n);
    }
    return done;
}

size_t debugger_write(struct vcpu *v, gva_t at, const void *from, size_t len)
{
    size_t done = 0, n;
    gpa_t gpa;

    for (; done < len; done += n) {
        n = len - done;
        uint8_t *p = host(v, at + done, &n, &gpa);

        if (!p)
            break;
        memcpy(p, (const uint8_t *)from + done, n);
        ram_written(v->vm->ram, gpa, n);
    }
    return done;
}
