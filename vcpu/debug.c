#include "vcpu/debug.h"

#include <errno.h>
#include "vcpu/bt/bt.h"
#include "vcpu/kvm/kvm.h"

static bool same(const struct debug_point *a, const struct debug_point *b)
{
    return a->at == b->at && a->kind == b->kind && a->len == b->len;
}

static void take_filter(struct debug *d)
{
    d->filter = 0;
    for (unsigned i = 0; i < d->ncode; i++)
        d->filter |= (uint64_t)1 << (d->code[i].at & 63);
    d->gen++;
}

/* Pages with watchpoints leave the TLBs. */
static void flush_all(struct vm_cpus *vm)
{
    for (unsigned i = 0; i < vm->nvcpu; i++)
        vcpu_note_paging(vm->vcpu[i]);
}

static int add_data(struct vm_cpus *vm, const struct debug_point *p)
{
    struct debug *d = vm->debug;

    if (!p->len || p->len > PAGE_SIZE || p->at + p->len - 1 < p->at)
        return -EINVAL;
    for (unsigned i = 0; i < d->ndata; i++)
        if (same(&d->data[i], p))
            return 0;
    if (d->ndata == DEBUG_DATA_MAX || (vm->kvm && !kvm_debug_takes(vm, p)))
        return -ENOSPC;
    d->data[d->ndata++] = *p;
    d->gen++;
    flush_all(vm);
    return 0;
}

int debug_add(struct vm_cpus *vm, struct debug_point p)
{
    struct debug *d = vm->debug;

    if (p.kind >= DEBUG_WRITE)
        return add_data(vm, &p);
    p.len = 0;
    for (unsigned i = 0; i < d->ncode; i++)
        if (same(&d->code[i], &p))
            return 0;
    if (d->ncode == DEBUG_CODE_MAX || (vm->kvm && !kvm_debug_takes(vm, &p)))
        return -ENOSPC;
    d->code[d->ncode++] = p;
    take_filter(d);
    if (vm->bt)
        bt_note_breakpoint(vm, p.at);
    return 0;
}

void debug_remove(struct vm_cpus *vm, struct debug_point p)
{
    struct debug *d = vm->debug;
    bool code = p.kind < DEBUG_WRITE;
    struct debug_point *list = code ? d->code : d->data;
    unsigned *n = code ? &d->ncode : &d->ndata;

    if (code)
        p.len = 0;
    for (unsigned i = 0; i < *n; i++)
        if (same(&list[i], &p)) {
            list[i] = list[--*n];
            break;
        }
    take_filter(d);
}

void debug_clear(struct vm_cpus *vm)
{
    vm->debug->ncode = vm->debug->ndata = 0;
    take_filter(vm->debug);
}

const struct debug_point *debug_code(const struct debug *d, gva_t lin)
{
    if (!(d->filter >> (lin & 63) & 1))
        return NULL;
    for (unsigned i = 0; i < d->ncode; i++)
        if (d->code[i].at == lin)
            return &d->code[i];
    return NULL;
}

bool debug_page(const struct debug *d, gva_t lin)
{
    lin &= PAGE_MASK;
    for (unsigned i = 0; i < d->ndata; i++)
        if (lin - (d->data[i].at & PAGE_MASK) <=
            ((d->data[i].at + d->data[i].len - 1) & PAGE_MASK) - (d->data[i].at & PAGE_MASK))
            return true;
    return false;
}

void debug_access(struct vcpu *v, gva_t lin, unsigned size, bool write)
{
    const struct debug *d = v->vm->debug;

    for (unsigned i = 0; i < d->ndata && v->debug_stop.why == DEBUG_NOTHING; i++) {
        const struct debug_point *p = &d->data[i];

        if ((p->kind == DEBUG_ACCESS || write == (p->kind == DEBUG_WRITE)) &&
            (lin - p->at < p->len || p->at - lin < size))
            v->debug_stop = (struct debug_stop){DEBUG_AT_WATCH, p->kind, p->at};
    }
}
