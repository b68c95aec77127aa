/*
 * Operands, for the interpreter's own files: registers, effective addresses, loads and stores with
 * the TLB probed in line, and the read-modify-write protocol that keeps faults ahead of changes.
 */
#ifndef VCPU_INTERP_OPS_H
#define VCPU_INTERP_OPS_H

#include "vcpu/alu.h"
#include "vcpu/except.h"
#include "vcpu/interp.h"
#include "vcpu/mem.h"

/* A ModRM destination being modified. dst_open() has the old value and knows that the store will
 * not fault; dst_commit() stores. */
struct dst {
    uint64_t old;
    void *host;
    gva_t lin;
    uint8_t size, reg;
    bool mem, lock, traced, bus_lock;
};
enum { DST_RETRY = 1 }; /* dst_commit(): a locked operand changed, .old is fresh: compute again */

int dst_open(struct vcpu *v, const struct insn *in, unsigned size, struct dst *d);
int dst_open_at(struct vcpu *v, gva_t lin, unsigned size, bool lock, struct dst *d);
int dst_commit(struct vcpu *v, const struct insn *in, struct dst *d, uint64_t val);

/* The lock that stands for the bus lock where the host's LOCK cannot reach: MMIO, page crossing. */
void interp_bus_lock(void);
void interp_bus_unlock(void);

int interp_ld_slow(struct vcpu *v, gva_t lin, unsigned size, uint64_t *val);
int interp_st_slow(struct vcpu *v, gva_t lin, unsigned size, uint64_t val);
/* #AC (SDM 3A 6.15): CR0.AM, EFLAGS.AC, CPL 3 and an operand off its natural boundary. */
bool interp_misaligned(const struct vcpu *v, gva_t lin, unsigned align);
/* Tell the write traces about bytes stored through a host pointer. */
void interp_traced(struct vcpu *v, const void *host, unsigned len);
/* I/O permission (IOPL, then the TSS bitmap): #GP(0). */
int interp_io_allowed(struct vcpu *v, uint16_t port, unsigned size);
uint64_t interp_pio_read(struct vcpu *v, uint16_t port, unsigned size);
void interp_pio_write(struct vcpu *v, uint16_t port, unsigned size, uint64_t val);
/* What each file of the ALU offers to the next. */
int interp_alu_0f(struct vcpu *v, const struct insn *in);
int interp_alu_38(struct vcpu *v, const struct insn *in);
int interp_muldiv(struct vcpu *v, const struct insn *in);
int interp_sys_0f(struct vcpu *v, const struct insn *in);
/* PUSH/POP sreg, LDS and its kin: both maps have them. */
int interp_push_seg(struct vcpu *v, const struct insn *in, unsigned seg);
int interp_pop_seg(struct vcpu *v, const struct insn *in, unsigned seg);
int interp_load_far(struct vcpu *v, const struct insn *in, unsigned seg);
int interp_vec_enabled(struct vcpu *v, const struct insn *in);
int interp_vecsys(struct vcpu *v, const struct insn *in);
int interp_vecmask(struct vcpu *v, const struct insn *in);
/* Per-thread decode cache: called by hostfault_thread_init(); without it every step decodes. */
int interp_thread_init(void);

static inline uint64_t op_gpr(const struct vcpu *v, const struct insn *in, unsigned reg,
                              unsigned size)
{
    const uint64_t *g = v->cpu.gpr;

    switch (size) {
    case 1:
        return !in->rex && !in->vex && reg >= 4 ? (g[(reg - 4) & 15] >> 8) & 0xff
                                                : (uint8_t)g[reg & 15];
    case 2:
        return (uint16_t)g[reg & 15];
    case 4:
        return (uint32_t)g[reg & 15];
    default:
        return g[reg & 15];
    }
}

static inline void op_set_gpr(struct vcpu *v, const struct insn *in, unsigned reg, unsigned size,
                              uint64_t val)
{
    uint64_t *g = v->cpu.gpr;

    switch (size) {
    case 1:
        if (!in->rex && !in->vex && reg >= 4) {
            g[(reg - 4) & 15] = (g[(reg - 4) & 15] & ~(uint64_t)0xff00) | (val & 0xff) << 8;
        } else {
            g[reg & 15] = (g[reg & 15] & ~(uint64_t)0xff) | (val & 0xff);
        }
        break;
    case 2:
        g[reg & 15] = (g[reg & 15] & ~(uint64_t)0xffff) | (val & 0xffff);
        break;
    case 4:
        g[reg & 15] = (uint32_t)val;
        break;
    default:
        g[reg & 15] = val;
        break;
    }
}

/* A register written with the width of an address (string operations, RSP, RCX of LOOP). */
static inline void op_set_addr(struct vcpu *v, unsigned reg, unsigned size, uint64_t val)
{
    uint64_t *g = &v->cpu.gpr[reg & 15];

    *g = size == 8 ? val : size == 4 ? (uint32_t)val : (*g & ~(uint64_t)0xffff) | (uint16_t)val;
}

static inline uint64_t op_ea(const struct vcpu *v, const struct insn *in)
{
    uint64_t ea = (uint64_t)in->disp;

    if (in->base == BASE_RIP)
        ea += v->cpu.rip + in->len;
    else if (in->base != REG_NONE)
        ea += v->cpu.gpr[in->base & 15];
    if (in->index != REG_NONE)
        ea += v->cpu.gpr[in->index & 15] << (in->scale & 3);
    return in->addrsize == 8 ? ea : ea & alu_mask(in->addrsize);
}

/* ea through a segment; 64-bit code in line, the rest is seg_linear()'s. */
static inline int op_linear(struct vcpu *v, const struct insn *in, unsigned seg, uint64_t ea,
                            unsigned size, unsigned acc, gva_t *lin)
{
    if (in->mode == 8) {
        gva_t la = ea + (seg >= SEG_FS ? v->cpu.seg[seg].base : 0);

        if (canonical(la) && canonical(la + size - 1)) {
            *lin = la;
            return CPU_OK;
        }
    }
    return seg_linear(v, seg, ea, size, acc, lin);
}

static inline int op_lin(struct vcpu *v, const struct insn *in, unsigned size, unsigned acc,
                         gva_t *lin)
{
    return op_linear(v, in, in->seg, op_ea(v, in), size, acc, lin);
}

static inline uint64_t host_load(const void *p, unsigned size)
{
    uint64_t q;
    uint32_t d;
    uint16_t w;

    switch (size) {
    case 1:
        return *(const volatile uint8_t *)p;
    case 2:
        __builtin_memcpy(&w, p, 2);
        return w;
    case 4:
        __builtin_memcpy(&d, p, 4);
        return d;
    default:
        __builtin_memcpy(&q, p, 8);
        return q;
    }
}

static inline void host_store(void *p, unsigned size, uint64_t val)
{
    uint32_t d = (uint32_t)val;
    uint16_t w = (uint16_t)val;

    switch (size) {
    case 1:
        *(volatile uint8_t *)p = (uint8_t)val;
        break;
    case 2:
        __builtin_memcpy(p, &w, 2);
        break;
    case 4:
        __builtin_memcpy(p, &d, 4);
        break;
    default:
        __builtin_memcpy(p, &val, 8);
        break;
    }
}

/* The TLB's set for explicit data accesses; with EFLAGS.AC set (SMAP, #AC) the slow paths ask
 * mem.c.
 */
static inline enum tlb_ctx op_ctx(const struct vcpu *v)
{
    return v->cpu.cpl == 3 ? TLB_USER : TLB_SUPER;
}

/* size 1, 2, 4, 8 */
static inline int op_load(struct vcpu *v, gva_t lin, unsigned size, uint64_t *val)
{
    const void *p = tlb_lookup(&v->tlb, op_ctx(v), TLB_R, lin, size);

    if (!p || (v->cpu.rflags & FL_AC))
        return interp_ld_slow(v, lin, size, val);
    *val = host_load(p, size);
    return CPU_OK;
}

static inline int op_store(struct vcpu *v, gva_t lin, unsigned size, uint64_t val)
{
    void *p = tlb_lookup(&v->tlb, op_ctx(v), TLB_W, lin, size);

    if (!p || (v->cpu.rflags & FL_AC))
        return interp_st_slow(v, lin, size, val);
    host_store(p, size, val);
    return CPU_OK;
}

/* The ModRM r/m operand. */
static inline int op_read(struct vcpu *v, const struct insn *in, unsigned size, uint64_t *val)
{
    gva_t lin;

    if (!in->has_mem) {
        *val = op_gpr(v, in, in->rm, size);
        return CPU_OK;
    }
    if (op_lin(v, in, size, ACC_READ, &lin) != CPU_OK)
        return CPU_FAULT;
    return op_load(v, lin, size, val);
}

static inline int op_write(struct vcpu *v, const struct insn *in, unsigned size, uint64_t val)
{
    gva_t lin;

    if (!in->has_mem) {
        op_set_gpr(v, in, in->rm, size, val);
        return CPU_OK;
    }
    if (op_lin(v, in, size, ACC_WRITE, &lin) != CPU_OK)
        return CPU_FAULT;
    return op_store(v, lin, size, val);
}

/* RIP of the following instruction: EIP wraps outside 64-bit code. */
static inline uint64_t op_next(const struct vcpu *v, const struct insn *in)
{
    uint64_t rip = v->cpu.rip + in->len;

    return in->mode == 8 ? rip : (uint32_t)rip;
}

/* Finish an instruction that falls through, with new arithmetic flags. */
static inline int op_done(struct vcpu *v, const struct insn *in)
{
    v->cpu.rip = op_next(v, in);
    return CPU_OK;
}

static inline int op_done_flags(struct vcpu *v, const struct insn *in, uint64_t fl)
{
    v->cpu.rflags = fl;
    return op_done(v, in);
}

/* Operand size of word-and-up instructions from the prefixes: for those whose opsize field says
 * something else (the source's width, say). */
static inline unsigned op_size(const struct insn *in)
{
    if (in->rex & 8)
        return 8;
    if (in->mode == 2)
        return in->opsize66 ? 4 : 2;
    return in->opsize66 ? 2 : 4;
}

#endif
