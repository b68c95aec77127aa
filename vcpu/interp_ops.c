/* Operand access out of line: see interp_ops.h and interp.h. */
#include <pthread.h>
#include "vcpu/interp_ops.h"

static pthread_mutex_t bus = PTHREAD_MUTEX_INITIALIZER;

void interp_bus_lock(void)
{
    pthread_mutex_lock(&bus);
}

void interp_bus_unlock(void)
{
    pthread_mutex_unlock(&bus);
}

bool interp_misaligned(const struct vcpu *v, gva_t lin, unsigned align)
{
    return (lin & (align - 1)) && v->cpu.cpl == 3 && (v->cpu.rflags & FL_AC) &&
           (v->cpu.cr0 & CR0_AM);
}

int interp_ld_slow(struct vcpu *v, gva_t lin, unsigned size, uint64_t *val)
{
    uint64_t q = 0;

    if (interp_misaligned(v, lin, size))
        return cpu_raise_error(&v->cpu, VEC_AC, 0);
    if (mem_read(v, lin, &q, size, ACC_READ) != CPU_OK)
        return CPU_FAULT;
    *val = q;
    return CPU_OK;
}

int interp_st_slow(struct vcpu *v, gva_t lin, unsigned size, uint64_t val)
{
    if (interp_misaligned(v, lin, size))
        return cpu_raise_error(&v->cpu, VEC_AC, 0);
    return mem_write(v, lin, &val, size, ACC_WRITE);
}

void interp_traced(struct vcpu *v, const void *host, unsigned len)
{
    struct ram *ram = v->vm->ram;

    ram_written(ram, (gpa_t)((const uint8_t *)host - ram->base), len);
}

int dst_open_at(struct vcpu *v, gva_t lin, unsigned size, bool lock, struct dst *d)
{
    d->mem = true;
    d->lock = lock;
    d->size = (uint8_t)size;
    d->lin = lin;
    d->traced = false;
    d->bus_lock = false;
    if (interp_misaligned(v, lin, size))
        return cpu_raise_error(&v->cpu, VEC_AC, 0);
    d->host = v->cpu.rflags & FL_AC ? NULL : tlb_lookup(&v->tlb, op_ctx(v), TLB_W, lin, size);
    if (!d->host && mem_host(v, lin, size, ACC_WRITE, &d->host, &d->traced) != CPU_OK)
        return CPU_FAULT;
    if (d->host) {
        d->old = host_load(d->host, size);
        return CPU_OK;
    }
    if (mem_probe_write(v, lin, size, ACC_WRITE) != CPU_OK)
        return CPU_FAULT;
    if (lock) {
        interp_bus_lock();
        d->bus_lock = true;
    }
    d->old = 0;
    if (mem_read(v, lin, &d->old, size, ACC_READ) != CPU_OK) {
        if (lock)
            interp_bus_unlock();
        return CPU_FAULT;
    }
    return CPU_OK;
}

int dst_open(struct vcpu *v, const struct insn *in, unsigned size, struct dst *d)
{
    gva_t lin;

    if (!in->has_mem) {
        d->mem = false;
        d->size = (uint8_t)size;
        d->reg = in->rm;
        d->old = op_gpr(v, in, in->rm, size);
        return CPU_OK;
    }
    if (op_lin(v, in, size, ACC_WRITE, &lin) != CPU_OK)
        return CPU_FAULT;
    return dst_open_at(v, lin, size, in->lock, d);
}

/* LOCK CMPXCHG of any size and alignment inside a page; *old is refreshed on failure. */
static bool host_cas(void *p, unsigned size, uint64_t *old, uint64_t val)
{
    bool ok;
    uint64_t a = *old;

    switch (size) {
    case 1:
        __asm__ volatile("lock cmpxchgb %b3, (%2)"
                         : "=@ccz"(ok), "+a"(a)
                         : "r"(p), "q"(val)
                         : "memory");
        a &= 0xff;
        break;
    case 2:
        __asm__ volatile("lock cmpxchgw %w3, (%2)"
                         : "=@ccz"(ok), "+a"(a)
                         : "r"(p), "r"(val)
                         : "memory");
        a &= 0xffff;
        break;
    case 4:
        __asm__ volatile("lock cmpxchgl %k3, (%2)"
                         : "=@ccz"(ok), "+a"(a)
                         : "r"(p), "r"(val)
                         : "memory");
        a &= 0xffffffff;
        break;
    default:
        __asm__ volatile("lock cmpxchgq %3, (%2)"
                         : "=@ccz"(ok), "+a"(a)
                         : "r"(p), "r"(val)
                         : "memory");
        break;
    }
    *old = a;
    return ok;
}

int dst_commit(struct vcpu *v, const struct insn *in, struct dst *d, uint64_t val)
{
    int rc;

    if (!d->mem) {
        op_set_gpr(v, in, d->reg, d->size, val);
        return CPU_OK;
    }
    if (!d->host) {
        rc = mem_write(v, d->lin, &val, d->size, ACC_WRITE);
        if (d->bus_lock)
            interp_bus_unlock();
        return rc;
    }
    if (!d->lock)
        host_store(d->host, d->size, val);
    else if (!host_cas(d->host, d->size, &d->old, val))
        return DST_RETRY;
    if (d->traced)
        interp_traced(v, d->host, d->size);
    return CPU_OK;
}

/* Bytes of the stack pointer that address the stack: SS.B outside 64-bit code. */
static unsigned stack_size(const struct cpu *c)
{
    if (cpu_code64(c))
        return 8;
    return c->seg[SEG_SS].attr & SEG_DB ? 4 : 2;
}

int interp_push(struct vcpu *v, uint64_t val, unsigned size)
{
    struct cpu *c = &v->cpu;
    unsigned ss = stack_size(c);
    uint64_t sp = (c->gpr[RSP] - size) & alu_mask(ss);
    gva_t lin;

    if (ss == 8 && canonical(sp) && canonical(sp + size - 1))
        lin = sp;
    else if (seg_linear(v, SEG_SS, sp, size, ACC_WRITE, &lin) != CPU_OK)
        return CPU_FAULT;
    if (op_store(v, lin, size, val) != CPU_OK)
        return CPU_FAULT;
    op_set_addr(v, RSP, ss, sp);
    return CPU_OK;
}

int interp_pop(struct vcpu *v, uint64_t *val, unsigned size)
{
    struct cpu *c = &v->cpu;
    unsigned ss = stack_size(c);
    uint64_t sp = c->gpr[RSP] & alu_mask(ss);
    gva_t lin;

    if (ss == 8 && canonical(sp) && canonical(sp + size - 1))
        lin = sp;
    else if (seg_linear(v, SEG_SS, sp, size, ACC_READ, &lin) != CPU_OK)
        return CPU_FAULT;
    if (op_load(v, lin, size, val) != CPU_OK)
        return CPU_FAULT;
    op_set_addr(v, RSP, ss, sp + size);
    return CPU_OK;
}

int interp_branch_to(struct vcpu *v, uint64_t target)
{
    struct cpu *c = &v->cpu;

    if (cpu_code64(c) ? !canonical(target) : target > c->seg[SEG_CS].limit)
        return cpu_gp0(c);
    c->rip = target;
    return CPU_OK;
}
