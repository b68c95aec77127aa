/* Task switches through 32-bit and 16-bit TSSs (SDM 3A chapter 7). Legacy mode only: long mode has
 * none. */
#include "vcpu/system.h"

/* Where a TSS keeps things; values are size bytes each (SDM 3A figures 7-2, 7-10). */
struct tss_layout {
    uint8_t size, ip, nseg, ldt; /* ip, flags, 8 GPRs and nseg segments follow each other */
    uint32_t min_limit;
};
static const struct tss_layout tss32 = {4, 0x20, 6, 0x60, 0x67};
static const struct tss_layout tss16 = {2, 0x0e, 4, 0x2a, 0x2b};
#define TSS_CR3  0x1c
#define TSS_TRAP 0x64

/* The part of a TSS that a switch saves and loads. */
struct task {
    uint32_t ip, flags, gpr[8];
    uint16_t seg[NSEG], ldt, trap;
    uint32_t cr3;
};

static const struct tss_layout *layout(uint32_t attr)
{
    return attr & 8 ? &tss32 : &tss16;
}

static uint32_t get(const uint8_t *p, unsigned size)
{
    uint32_t val = p[0] | (uint32_t)p[1] << 8;

    return size == 4 ? val | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24 : val;
}

static void put(uint8_t *p, unsigned size, uint64_t val)
{
    for (unsigned i = 0; i < size; i++)
        p[i] = (uint8_t)(val >> (8 * i));
}

static int read_task(struct vcpu *v, const struct tss_layout *l, gva_t base, struct task *t)
{
    unsigned n = (10u + l->nseg) * l->size;
    uint8_t raw[64], two[4];

    *t = (struct task){0};
    if (sys_read(v, base + l->ip, raw, n) || sys_read(v, base + l->ldt, two, 2))
        return CPU_FAULT;
    t->ldt = (uint16_t)get(two, 2);
    t->ip = get(raw, l->size);
    t->flags = get(raw + l->size, l->size);
    for (unsigned i = 0; i < 8; i++)
        t->gpr[i] = get(raw + (2 + i) * l->size, l->size);
    for (unsigned i = 0; i < l->nseg; i++)
        t->seg[i] = (uint16_t)get(raw + (10 + i) * l->size, 2);
    if (l->size == 2) {
        /* The upper halves of the registers read as ones (SDM 3A 7.6). */
        for (unsigned i = 0; i < 8; i++)
            t->gpr[i] |= 0xffff0000u;
        return CPU_OK;
    }
    if (sys_read(v, base + TSS_CR3, two, 4))
        return CPU_FAULT;
    t->cr3 = get(two, 4);
    if (sys_read(v, base + TSS_TRAP, two, 2))
        return CPU_FAULT;
    t->trap = two[0] & 1;
    return CPU_OK;
}

static unsigned pack_state(const struct cpu *c, const struct tss_layout *l, uint64_t rip,
                           uint64_t flags, uint8_t raw[64])
{
    put(raw, l->size, rip);
    put(raw + l->size, l->size, flags);
    for (unsigned i = 0; i < 8; i++)
        put(raw + (2 + i) * l->size, l->size, c->gpr[i]);
    for (unsigned i = 0; i < l->nseg; i++)
        put(raw + (10 + i) * l->size, l->size, c->seg[i].sel);
    return (10u + l->nseg) * l->size;
}

/* Probe that [lin, lin+size) of a TSS can be written. */
static int probe(struct vcpu *v, gva_t lin, unsigned size)
{
    return mem_probe_write(v, (uint32_t)lin, size, ACC_WRITE | ACC_IMPLICIT);
}

/* LDTR, then the segments, of the new task; faults are the new task's own (SDM 3A table 7-1). */
static int load_segments(struct vcpu *v, const struct task *t)
{
    static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    struct cpu *c = &v->cpu;
    unsigned rpl = t->seg[SEG_CS] & 3u;
    uint64_t desc;
    struct seg ss;

    if (t->ldt & 4)
        return cpu_raise_error(c, VEC_TS, t->ldt & 0xfffcu);
    if (!sel_null(t->ldt)) {
        if (seg_read_descriptor(v, t->ldt, VEC_TS, &desc))
            return CPU_FAULT;
        if (desc_s(desc) || desc_type(desc) != SYS_LDT || !desc_p(desc))
            return cpu_raise_error(c, VEC_TS, t->ldt & 0xfffcu);
        seg_from_descriptor(&c->ldtr, t->ldt, desc);
    }
    if (cpu_v86(c)) {
        c->cpl = 3;
        for (unsigned i = 0; i < NSEG; i++)
            seg_load_real(c, i, t->seg[i]);
        return CPU_OK;
    }
    if (sel_null(t->seg[SEG_CS]))
        return cpu_raise_error(c, VEC_TS, 0);
    if (seg_read_descriptor(v, t->seg[SEG_CS], VEC_TS, &desc))
        return CPU_FAULT;
    if (!desc_code(desc) || (desc_conforming(desc) ? desc_dpl(desc) > rpl : desc_dpl(desc) != rpl))
        return cpu_raise_error(c, VEC_TS, t->seg[SEG_CS] & 0xfffcu);
    if (!desc_p(desc))
        return cpu_raise_error(c, VEC_NP, t->seg[SEG_CS] & 0xfffcu);
    if (desc_access(v, t->seg[SEG_CS], &desc))
        return CPU_FAULT;
    seg_commit_cs(c, t->seg[SEG_CS], desc, rpl);
    if (sel_null(t->seg[SEG_SS]))
        return cpu_raise_error(c, VEC_TS, 0);
    if (seg_check_ss(v, t->seg[SEG_SS], rpl, VEC_TS, &ss))
        return CPU_FAULT;
    c->seg[SEG_SS] = ss;
    for (unsigned i = 0; i < sizeof(data); i++) {
        if (seg_load(v, data[i], t->seg[data[i]])) {
            if (c->exc.vector == VEC_GP)
                c->exc.vector = VEC_TS;
            return CPU_FAULT;
        }
    }
    return CPU_OK;
}

/* From here on the new task is the current one. */
static int enter_task(struct vcpu *v, const struct task *t, const struct tss_layout *l, bool nested,
                      const uint32_t *error)
{
    struct cpu *c = &v->cpu;
    uint64_t code = error ? *error : 0;
    struct stack s;

    c->cr0 |= CR0_TS;
    c->rip = t->ip;
    c->rflags = (t->flags & FL_DEFINED) | FL_R1 | (nested ? FL_NT : 0);
    for (unsigned i = 0; i < 8; i++)
        c->gpr[i] = t->gpr[i];
    /* Selectors are loaded with the parts behind them invalid until each has been checked; CPL 0
     * meanwhile, so that a fault here is delivered at all. */
    c->cpl = 0;
    for (unsigned i = 0; i < NSEG; i++) {
        c->seg[i].sel = t->seg[i];
        if (i != SEG_CS)
            c->seg[i].attr = SEG_NULL;
    }
    seg_set_null(&c->ldtr, t->ldt);
    c->dr[7] &= ~(uint64_t)0x155; /* local breakpoints, SDM 3B 17.2.4 */
    if (l->size == 4 && (c->cr0 & CR0_PG)) {
        if (pae_paging(c->cr0, c->cr4, c->efer)) {
            uint64_t p[4];

            if (cpu_load_pdptes(v, t->cr3, p))
                return CPU_FAULT;
            for (unsigned i = 0; i < 4; i++)
                c->pdpte[i] = p[i];
        }
        c->cr3 = t->cr3;
        vcpu_note_cr3(v);
    }
    if (load_segments(v, t))
        return CPU_FAULT;
    if (error) {
        stack_current(c, &s);
        if (stack_push(v, &s, &code, 1, l->size))
            return CPU_FAULT;
        c->gpr[RSP] = s.sp;
    }
    if (t->trap) {
        c->dr[6] |= 0x8000; /* BT */
        return cpu_raise(c, VEC_DB);
    }
    return CPU_OK;
}

int task_switch(struct vcpu *v, uint16_t sel, enum task_how how, uint64_t next_rip, uint64_t rflags,
                const uint32_t *error)
{
    struct cpu *c = &v->cpu;
    uint8_t vector = how == TASK_IRET ? VEC_TS : VEC_GP, raw[64], link[2];
    const struct tss_layout *from = layout(c->tr.attr), *to;
    bool nested = how == TASK_CALL || how == TASK_EVENT;
    uint32_t err = sel & 0xfffcu;
    uint16_t old_sel = c->tr.sel;
    struct seg tr;
    struct task t;
    uint64_t desc;
    unsigned n;

    /* 1: the new TSS, all reads first (SDM 3A 7.3 steps 1-7). */
    if ((sel & 4) || sel_null(sel))
        return cpu_raise_error(c, vector, err);
    if (seg_read_descriptor(v, sel, vector, &desc))
        return CPU_FAULT;
    if (desc_s(desc) || (desc_type(desc) & ~8u) != (how == TASK_IRET ? SYS_TSS16_BUSY : SYS_TSS16))
        return cpu_raise_error(c, vector, err);
    if (!desc_p(desc))
        return cpu_raise_error(c, VEC_NP, err);
    seg_from_descriptor(&tr, sel, desc | DESC_BUSY);
    to = layout(tr.attr);
    if (tr.limit < to->min_limit)
        return cpu_raise_error(c, VEC_TS, err);
    if ((c->tr.attr & SEG_NULL) || c->tr.limit < from->min_limit)
        return cpu_raise_error(c, VEC_TS, old_sel & 0xfffcu);
    n = pack_state(c, from, next_rip, how == TASK_IRET ? rflags & ~(uint64_t)FL_NT : rflags, raw);
    if (probe(v, c->tr.base + from->ip, n) || (nested && probe(v, tr.base, 2)) ||
        read_task(v, to, tr.base, &t))
        return CPU_FAULT;

    /* 2: memory. */
    if (how != TASK_IRET && desc_set_bits(v, sel, DESC_BUSY))
        return CPU_FAULT;
    if (!nested && desc_clear_bits(v, old_sel, DESC_BUSY))
        return CPU_FAULT;
    put(link, 2, old_sel);
    if (sys_write(v, c->tr.base + from->ip, raw, n) || (nested && sys_write(v, tr.base, link, 2)))
        return CPU_FAULT;

    /* 3: the new task. */
    c->tr = tr;
    return enter_task(v, &t, to, nested, error);
}

/* The address after the IRET at CS:RIP: prefixes, then CF. */
static uint64_t after_iret(struct vcpu *v)
{
    struct cpu *c = &v->cpu;
    uint8_t bytes[INSN_MAX];
    unsigned got = 0, n = 0;

    if (mem_fetch(v, (uint32_t)(c->seg[SEG_CS].base + c->rip), bytes, sizeof(bytes), &got))
        return c->rip + 1;
    while (n < got && bytes[n] != 0xcf)
        n++;
    return c->rip + n + 1;
}

int task_return(struct vcpu *v)
{
    struct cpu *c = &v->cpu;
    uint16_t link;

    if ((c->tr.attr & SEG_NULL) || c->tr.limit < 1)
        return cpu_raise_error(c, VEC_TS, c->tr.sel & 0xfffcu);
    if (sys_read(v, c->tr.base, &link, 2))
        return CPU_FAULT;
    return task_switch(v, link, TASK_IRET, after_iret(v), c->rflags, NULL);
}
