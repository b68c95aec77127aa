/* Stacks of deliveries and far transfers: frames checked and written whole, and the inner stacks
 * that a TSS names. */
#include "vcpu/system.h"

void stack_current(const struct cpu *c, struct stack *s)
{
    *s = (struct stack){
        .ss = c->seg[SEG_SS], .sp = c->gpr[RSP], .is64 = cpu_code64(c), .cpl = c->cpl};
}

static uint64_t sp_mask(const struct stack *s)
{
    if (s->is64)
        return ~(uint64_t)0;
    return s->ss.attr & SEG_DB ? 0xffffffffu : 0xffffu;
}

uint64_t stack_merge_sp(uint64_t old, uint64_t val, bool is64, const struct seg *ss)
{
    if (is64)
        return val;
    if (ss->attr & SEG_DB)
        return (uint32_t)val;
    /* SDM 1 6.2.3: a 16-bit stack moves SP alone. */
    return (old & ~(uint64_t)0xffff) | (val & 0xffff);
}

/* Linear address of [ea, ea+size) on the stack, or #SS(s->error). */
static int stack_linear(struct vcpu *v, const struct stack *s, uint64_t ea, unsigned size,
                        unsigned acc, gva_t *lin)
{
    struct cpu *c = &v->cpu;

    if (s->is64) {
        if (!canonical(ea) || !canonical(ea + size - 1))
            return cpu_raise_error(c, VEC_SS, s->error);
        *lin = ea;
        return CPU_OK;
    }
    if ((c->cr0 & CR0_PE) &&
        ((s->ss.attr & SEG_NULL) || ((acc & ACC_WRITE) && (s->ss.attr & 0xa) != 2)))
        return cpu_raise_error(c, VEC_SS, s->error);
    if (!seg_within_limit(&s->ss, (uint32_t)ea, size))
        return cpu_raise_error(c, VEC_SS, s->error);
    *lin = (uint32_t)(s->ss.base + ea);
    return CPU_OK;
}

static void put_value(uint8_t *p, uint64_t val, unsigned size)
{
    if (size == 8)
        __builtin_memcpy(p, &val, 8);
    else if (size == 4)
        __builtin_memcpy(p, &val, 4);
    else
        __builtin_memcpy(p, &val, 2);
}

static uint64_t get_value(const uint8_t *p, unsigned size)
{
    uint64_t val = 0;

    if (size == 8)
        __builtin_memcpy(&val, p, 8);
    else if (size == 4)
        __builtin_memcpy(&val, p, 4);
    else
        __builtin_memcpy(&val, p, 2);
    return val;
}

/* Does [low, low+total) lie in one piece? A stack pointer may wrap between values. */
static bool in_one_piece(const struct stack *s, uint64_t low, unsigned total)
{
    return total <= 64 && (s->is64 || low + total - 1 <= sp_mask(s));
}

/* The values of a frame, val[0] at the top. All checks of all of it come before a byte is written:
 * in one piece mem_write() sees to that. */
static int write_frame(struct vcpu *v, const struct stack *s, const uint64_t *val, unsigned n,
                       unsigned size)
{
    unsigned total = n * size;
    uint64_t mask = sp_mask(s), low = (s->sp - total) & mask;
    bool traced = false;
    uint8_t buf[64];
    uint8_t *host;
    gva_t lin;

    if (in_one_piece(s, low, total)) {
        if (stack_linear(v, s, low, total, ACC_WRITE, &lin) ||
            mem_host(v, lin, total, ACC_WRITE, (void **)&host, &traced))
            return CPU_FAULT;
        for (unsigned i = 0; i < n; i++)
            put_value((host ? host : buf) + (n - 1 - i) * size, val[i], size);
        if (!host)
            return mem_write(v, lin, buf, total, ACC_WRITE);
        if (traced)
            ram_written(v->vm->ram, (gpa_t)(host - v->vm->ram->base), total);
        return CPU_OK;
    }
    for (unsigned i = 0; i < n; i++)
        if (stack_linear(v, s, (low + i * size) & mask, size, ACC_WRITE, &lin) ||
            mem_probe_write(v, lin, size, ACC_WRITE))
            return CPU_FAULT;
    for (unsigned i = 0; i < n; i++)
        if (stack_linear(v, s, (low + i * size) & mask, size, ACC_WRITE, &lin) ||
            mem_write(v, lin, &val[n - 1 - i], size, ACC_WRITE))
            return CPU_FAULT;
    return CPU_OK;
}

int stack_push(struct vcpu *v, struct stack *s, const uint64_t *val, unsigned n, unsigned size)
{
    struct cpu *c = &v->cpu;
    uint8_t cpl = c->cpl;
    int rc;

    /* Pushes are explicit accesses of the privilege level being entered (SDM 3A 4.6.1). */
    c->cpl = s->cpl;
    rc = write_frame(v, s, val, n, size);
    c->cpl = cpl;
    if (rc == CPU_OK)
        s->sp = stack_merge_sp(s->sp, s->sp - n * size, s->is64, &s->ss);
    return rc;
}

int stack_peek(struct vcpu *v, const struct stack *s, unsigned skip, uint64_t *val, unsigned n,
               unsigned size)
{
    uint64_t mask = sp_mask(s), low = (s->sp + skip) & mask;
    unsigned total = n * size;
    bool traced;
    uint8_t buf[64];
    uint8_t *host;
    gva_t lin;

    if (in_one_piece(s, low, total)) {
        if (stack_linear(v, s, low, total, ACC_READ, &lin) ||
            mem_host(v, lin, total, ACC_READ, (void **)&host, &traced) ||
            (!host && mem_read(v, lin, buf, total, ACC_READ)))
            return CPU_FAULT;
        for (unsigned i = 0; i < n; i++)
            val[i] = get_value((host ? host : buf) + i * size, size);
        return CPU_OK;
    }
    for (unsigned i = 0; i < n; i++) {
        if (stack_linear(v, s, (low + i * size) & mask, size, ACC_READ, &lin) ||
            mem_read(v, lin, buf, size, ACC_READ))
            return CPU_FAULT;
        val[i] = get_value(buf, size);
    }
    return CPU_OK;
}

int stack_inner(struct vcpu *v, unsigned dpl, struct stack *s)
{
    struct cpu *c = &v->cpu;
    bool tss32 = SEG_TYPE(c->tr.attr) & 8;
    uint32_t off = tss32 ? 4 + dpl * 8 : 2 + dpl * 4;
    uint32_t last = off + (tss32 ? 5 : 3);
    uint8_t raw[6] = {0};
    uint16_t sel;

    if ((c->tr.attr & SEG_NULL) || last > c->tr.limit)
        return cpu_raise_error(c, VEC_TS, c->tr.sel & 0xfffcu);
    if (sys_read(v, c->tr.base + off, raw, tss32 ? 6 : 4))
        return CPU_FAULT;
    *s = (struct stack){.cpl = (uint8_t)dpl};
    s->sp = raw[0] | (uint32_t)raw[1] << 8;
    if (tss32)
        s->sp |= (uint32_t)raw[2] << 16 | (uint32_t)raw[3] << 24;
    sel = tss32 ? (uint16_t)(raw[4] | raw[5] << 8) : (uint16_t)(raw[2] | raw[3] << 8);
    s->error = sel & 0xfffcu;
    if (sel_null(sel))
        return cpu_raise_error(c, VEC_TS, 0);
    return seg_check_ss(v, sel, dpl, VEC_TS, &s->ss);
}

int stack_inner64(struct vcpu *v, unsigned dpl, unsigned ist, struct stack *s)
{
    struct cpu *c = &v->cpu;
    uint32_t off = ist ? 36 + (ist - 1) * 8 : 4 + dpl * 8;

    *s = (struct stack){.is64 = true, .cpl = (uint8_t)dpl};
    if ((c->tr.attr & SEG_NULL) || off + 7 > c->tr.limit)
        return cpu_raise_error(c, VEC_TS, c->tr.sel & 0xfffcu);
    if (sys_read(v, c->tr.base + off, &s->sp, 8))
        return CPU_FAULT;
    if (!canonical(s->sp))
        return cpu_raise_error(c, VEC_SS, 0);
    /* SDM 3A 6.14.3: entering an inner ring loads SS with a null selector whose RPL is the CPL. */
    seg_set_null(&s->ss, (uint16_t)dpl);
    s->ss.attr |= dpl << 5;
    return CPU_OK;
}
