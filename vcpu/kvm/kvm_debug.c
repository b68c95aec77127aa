/*
 * The debugger's points by KVM_SET_GUEST_DEBUG: four debug registers, which the guest does not see
 * and whose own it cannot use meanwhile. Watchpoints and hardware breakpoints have to fit into
 * them; other breakpoints take those that are left, and past that are INT3 in guest memory while
 * the guest runs.
 */
#include "vcpu/kvm/kvm.h"

#include <errno.h>
#include "vcpu/mem.h"

#ifndef KVM_GUESTDBG_BLOCKIRQ
#define KVM_GUESTDBG_BLOCKIRQ 0x00100000
#endif

#define SLOTS 4
#define INT3  0xccu

static struct patch {
    gpa_t gpa;
    uint8_t byte;
} patches[DEBUG_CODE_MAX];
static unsigned npatches;

/* --- which point is where --- */

static unsigned hw_breaks(const struct debug *d)
{
    unsigned n = 0;

    for (unsigned i = 0; i < d->ncode; i++)
        n += d->code[i].kind == DEBUG_HW_BREAK;
    return n;
}

static bool aligned(const struct debug_point *p)
{
    return (p->len == 1 || p->len == 2 || p->len == 4 || p->len == 8) && !(p->at & (p->len - 1));
}

bool kvm_debug_takes(const struct vm_cpus *vm, const struct debug_point *p)
{
    const struct debug *d = vm->debug;

    if (p->kind == DEBUG_BREAK)
        return true;
    return (p->kind == DEBUG_HW_BREAK || aligned(p)) && d->ndata + hw_breaks(d) < SLOTS;
}

/* The points in the debug registers, those that must be there first; returns how many. With rest:
 * all of the others too. */
static unsigned place(const struct debug *d, const struct debug_point *slot[SLOTS],
                      const struct debug_point *rest[DEBUG_CODE_MAX], unsigned *nrest)
{
    unsigned n = 0;

    *nrest = 0;
    for (unsigned i = 0; i < d->ndata && n < SLOTS; i++)
        slot[n++] = &d->data[i];
    for (unsigned i = 0; i < d->ncode && n < SLOTS; i++)
        if (d->code[i].kind == DEBUG_HW_BREAK)
            slot[n++] = &d->code[i];
    for (unsigned i = 0; i < d->ncode; i++) {
        if (d->code[i].kind != DEBUG_BREAK)
            continue;
        if (n < SLOTS)
            slot[n++] = &d->code[i];
        else
            rest[(*nrest)++] = &d->code[i];
    }
    return n;
}

/* --- INT3 --- */

static bool translate(struct vcpu *v, gva_t at, gpa_t *gpa)
{
    struct walk_ctx w;
    struct walk_result r;
    uint32_t error;

    if (cpu_long_mode(&v->cpu) ? !canonical(at) : at >> 32 != 0)
        return false;
    mem_walk_ctx(v, &w);
    w.ac = true;
    if (walk(v->vm->ram, &w, at, ACC_READ, false, &r, &error))
        return false;
    *gpa = r.gpa;
    return true;
}

void kvm_debug_insert(struct vm_cpus *vm)
{
    const struct debug_point *slot[SLOTS], *rest[DEBUG_CODE_MAX];
    unsigned n;

    place(vm->debug, slot, rest, &n);
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < vm->nvcpu; k++) {
            struct patch *p = &patches[npatches];
            uint8_t *host;

            if (!translate(vm->vcpu[k], rest[i]->at, &p->gpa) ||
                !(host = ram_ptr(vm->ram, p->gpa, 1)))
                continue;
            p->byte = *host;
            *host = INT3;
            npatches++;
            break; /* not mapped anywhere: tried again when the guest goes on the next time */
        }
}

void kvm_debug_remove(struct vm_cpus *vm)
{
    /* Backwards: two linear addresses may be one byte. */
    while (npatches) {
        const struct patch *p = &patches[--npatches];
        uint8_t *host = ram_ptr(vm->ram, p->gpa, 1);

        if (host && *host == INT3) /* else the guest has put something else there */
            *host = p->byte;
    }
}

/* --- a vCPU's own thread --- */

/* own_int3: the guest's own INT3 stopped it, and shall be delivered to it. */
static int set(struct vcpu *v, bool own_int3)
{
    static const uint8_t type[] = {[DEBUG_WRITE] = 1, [DEBUG_READ] = 3, [DEBUG_ACCESS] = 3};
    static const uint8_t len_bits[] = {[1] = 0, [2] = 1, [4] = 3, [8] = 2};
    const struct debug_point *slot[SLOTS], *rest[DEBUG_CODE_MAX];
    struct kvm_guest_debug g = {.arch.debugreg[7] = 0x400};
    unsigned nrest = 0, n = v->debug ? place(v->vm->debug, slot, rest, &nrest) : 0;

    g.control = (v->debug ? KVM_GUESTDBG_ENABLE : 0) | (n ? KVM_GUESTDBG_USE_HW_BP : 0) |
                (nrest ? KVM_GUESTDBG_USE_SW_BP : 0) |
                (v->debug & DEBUG_STEP ? KVM_GUESTDBG_SINGLESTEP : 0) |
                (own_int3 ? KVM_GUESTDBG_INJECT_BP : 0);
    for (unsigned i = 0; i < n; i++) {
        const struct debug_point *p = slot[i];

        g.arch.debugreg[i] = p->at;
        g.arch.debugreg[7] |= (uint64_t)2 << 2 * i;
        if (p->kind >= DEBUG_WRITE)
            g.arch.debugreg[7] |= (uint64_t)(type[p->kind] | len_bits[p->len] << 2) << (16 + 4 * i);
    }
    /* Linux 5.15 and later can hold interrupts off while stepping. */
    struct kvm_guest_debug quiet = g;

    quiet.control |= KVM_GUESTDBG_BLOCKIRQ;
    if ((v->debug & DEBUG_STEP) && !kvm_ioctl(v->kvm->fd, KVM_SET_GUEST_DEBUG, &quiet))
        return 0;
    return (int)kvm_ioctl(v->kvm->fd, KVM_SET_GUEST_DEBUG, &g);
}

int kvm_debug_apply(struct vcpu *v)
{
    struct kvm_vcpu *k = v->kvm;

    if (k->debug_gen == v->vm->debug->gen && k->debug == v->debug)
        return 0;
    int r = set(v, false);

    if (r)
        return r;
    k->debug_gen = v->vm->debug->gen;
    k->debug = v->debug;
    return 0;
}

bool kvm_debug_exit(struct vcpu *v)
{
    const struct debug_point *slot[SLOTS], *rest[DEBUG_CODE_MAX], *p = NULL;
    const struct kvm_debug_exit_arch *e = &v->kvm->run->debug.arch;
    unsigned nrest, n = place(v->vm->debug, slot, rest, &nrest);

    v->debug_stop.why = DEBUG_NOTHING;
    if (e->exception == VEC_BP) {
        for (unsigned i = 0; i < nrest && !p; i++)
            p = rest[i]->at == e->pc ? rest[i] : NULL;
        if (!p && !set(v, true))
            return false;
    } else {
        for (unsigned i = 0; i < n && !p; i++)
            p = e->dr6 >> i & 1 ? slot[i] : NULL;
    }
    if (p)
        v->debug_stop = (struct debug_stop){
            p->kind >= DEBUG_WRITE ? DEBUG_AT_WATCH : DEBUG_AT_BREAK, p->kind, p->at};
    else if ((v->debug & DEBUG_STEP) && e->pc - v->step_from >= v->step_to - v->step_from)
        v->debug_stop.why = DEBUG_STEPPED;
    return v->debug_stop.why != DEBUG_NOTHING;
}
