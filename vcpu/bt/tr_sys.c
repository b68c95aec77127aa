/*
 * Privileged and sensitive instructions emulated in the cache, without a callout: the ones that a
 * kernel executes all the time (CLI STI STAC CLAC SWAPGS RDTSC RDTSCP PUSHF, MOV from segment and
 * control registers and to CR8, PUSH of segment registers, the bases of FS and GS).
 */
#include "vcpu/bt/tr.h"

/* Of byte 1 of RFLAGS only IF can be set when the key has no KEY_ODD; TF never is in the cache. */
static void set_if(struct tr *t, bool on)
{
    e_gs_store8_imm(&t->e, VOFF(cpu.rflags) + 1, on ? FL_IF >> 8 : 0);
}

/* Interrupts are let in after the next instruction, which must be there and an ordinary one. */
static bool sti(struct tr *t)
{
    if (t->i + 1 >= t->n || tr_ends(&t->in[t->i + 1]) || insn_class(&t->in[t->i + 1]) == IC_SYS)
        return false;
    set_if(t, true);
    t->sti = t->i + 1;
    return true;
}

/* STAC, CLAC: the next instruction uses another set of the TLB, so it begins a block of its own. */
static bool set_ac(struct tr *t, bool on)
{
    uint64_t next = t->rip[t->i + 1];

    if ((next ^ t->b->rip) >> PAGE_SHIFT)
        return false;
    tr_flags_clobber(t);
    /* or / and byte gs:[rflags + 2], imm */
    e_gs(&t->e, 0x80, on ? 1 : 4, VOFF(cpu.rflags) + 2, false);
    e8(&t->e, on ? FL_AC >> 16 : ~(FL_AC >> 16) & 0xff);
    /* Returns that cross the change must not find what was called before it. */
    unsigned ctx = on && (t->v->cpu.cr4 & CR4_SMAP) ? TLB_SUPER_AC : TLB_SUPER;

    e_gs_load(&t->e, RSP, VOFF(hot.ras_base));
    e_mov_imm(&t->e, H_B, (uintptr_t)t->bt->rx + t->bt->g_ras_empty[ctx]);
    e_mem(&t->e, 0x89, H_B, RSP, 0);
    t->n = t->i + 1;
    t->b->len = (uint16_t)(next - t->b->rip);
    tr_exit_direct(t, next);
    return true;
}

static void swapgs(struct tr *t)
{
    int32_t gs = (int32_t)offsetof(struct vcpu, cpu.seg[SEG_GS].base);

    e_gs_load(&t->e, H_A, gs);
    e_gs_load(&t->e, H_B, VOFF(cpu.kernel_gs_base));
    e_gs_store(&t->e, H_B, gs);
    e_gs_store(&t->e, H_A, VOFF(cpu.kernel_gs_base));
}

/* reg = word gs:[selector of segment seg], zero-extended */
static void load_selector(struct tr *t, unsigned reg, unsigned seg)
{
    int32_t sel = (int32_t)(offsetof(struct vcpu, cpu.seg[0].sel) + sizeof(struct seg) * seg);

    e_self(&t->e); /* movzx reg, word gs:[sel] */
    if (reg & 8)
        e8(&t->e, 0x44);
    e8(&t->e, 0x0f);
    e8(&t->e, 0xb7);
    e8(&t->e, (reg & 7) << 3 | 4);
    e8(&t->e, 0x25);
    e_self_disp(&t->e, sel);
}

/* The host register that stands for guest register r as a result; done() puts H_A away. */
static unsigned result(unsigned r)
{
    return r == RSP ? H_SP : tr_spilled(r) ? H_A : r;
}

static void done(struct tr *t, unsigned r)
{
    if (tr_spilled(r))
        e_gs_store(&t->e, H_A, GPR_OFF(r));
}

/* MOV r32/r64, Sreg zero-extends; memory and r16 get 16 bits. */
static void mov_from_seg(struct tr *t)
{
    const struct insn *in = &t->in[t->i];

    if (in->has_mem) {
        tr_operand(t, true, 2, 0);
        load_selector(t, H_B, in->reg);
        e8(&t->e, 0x66);
        e_op(&t->e, 0x89, H_B, &t->m, false);
        return;
    }
    if (in->opsize == 2) {
        unsigned dst = tr_use(t, in->rm, H_A);

        load_selector(t, H_B, in->reg);
        e8(&t->e, 0x66);
        e_rr(&t->e, 0x89, H_B, dst, false);
    } else {
        load_selector(t, result(in->rm), in->reg);
    }
    done(t, in->rm);
}

/* The segment that a PUSH of 32-bit code pushes; REG_NONE: it is no such thing. */
static unsigned pushed_seg(const struct insn *in)
{
    unsigned op = in->opcode;

    if (in->mode != 4 || in->opsize != 4)
        return REG_NONE;
    if (in->map == 0 && (op & 0xe7) == 0x06) /* ES CS SS DS */
        return op >> 3 & 3;
    return in->map == 1 && (op & 0xf7) == 0xa0 ? op >> 3 & 7 : REG_NONE; /* FS GS */
}

/* It moves ESP by four and writes two bytes, as in the interpreter. */
static void push_seg(struct tr *t, unsigned seg)
{
    tr_access(t, 1, H_SP, -4, 2, true, 0);
    load_selector(t, H_B, seg);
    e8(&t->e, 0x66);
    e_op(&t->e, 0x89, H_B, &t->m, false);
    tr_push_done(t);
}

/* MOV r, CRn */
static bool get_cr(struct tr *t)
{
    static const int32_t slot[9] = {[0] = VOFF(cpu.cr0),
                                    [2] = VOFF(cpu.cr2),
                                    [3] = VOFF(cpu.cr3),
                                    [4] = VOFF(cpu.cr4),
                                    [8] = VOFF(cpu.cr8)};
    const struct insn *in = &t->in[t->i];

    if (in->reg > 8 || !slot[in->reg])
        return false;
    e_gs(&t->e, 0x8b, result(in->rm), slot[in->reg], tr_wide(t));
    done(t, in->rm);
    return true;
}

/* What tr_use() gives, but not in H_A. */
static unsigned source(struct tr *t, unsigned r)
{
    unsigned src = tr_use(t, r, H_B);

    if (src == H_A) {
        e_mov(&t->e, H_B, H_A);
        src = H_B;
    }
    return src;
}

/* RDFSBASE RDGSBASE WRFSBASE WRGSBASE; writing what is not canonical faults. */
static bool fsgsbase(struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    struct emit *e = &t->e;
    bool wide = in->opsize == 8;
    int32_t base = (int32_t)(offsetof(struct vcpu, cpu.seg[0].base) +
                             sizeof(struct seg) * (in->reg & 1 ? SEG_GS : SEG_FS));

    if ((in->reg & 7) < 2) {
        e_gs(e, 0x8b, result(in->rm), base, wide);
        done(t, in->rm);
        return true;
    }
    struct cold_rep *c = wide ? tr_cold_rep(t) : NULL;

    if (wide && !c)
        return false;
    unsigned src = source(t, in->rm);

    if (!wide) {
        e_rr(e, 0x89, src, H_A, false); /* mov r10d, src: zero-extends */
        e_gs_store(e, H_A, base);
        return true;
    }
    e_mov(e, H_A, src);
    for (unsigned digit = 4; digit <= 7; digit += 3) { /* shl r10, 16; sar r10, 16 */
        e8(e, 0x49);
        e8(e, 0xc1);
        e8(e, 0xc2 | digit << 3);
        e8(e, 16);
    }
    e_rr(e, 0x39, src, H_A, true); /* cmp r10, src */
    c->jcc[c->n++] = e_jcc(e, 5);
    e_gs_store(e, H_A, base);
    c->next = e->at;
    return true;
}

static void rdtscp(struct tr *t)
{
    e8(&t->e, 0x0f);
    e8(&t->e, 0x01);
    e8(&t->e, 0xf9);
    e_gs(&t->e, 0x8b, RCX, VOFF(cpu.tsc_aux), false);
}

/* MOV CR8, r: the task priority. With an interrupt waiting, or a value that faults, the interpreter
 * does it; a new one kicks. */
static bool set_cr8(struct tr *t)
{
    struct emit *e = &t->e;

    struct cold_rep *c = tr_cold_rep(t);

    if (!c)
        return false;
    unsigned src = source(t, t->in[t->i].rm);

    e_gs_load(e, H_A, VOFF(lapic.irr));
    for (int32_t off = 8; off < 32; off += 8)
        e_gs(e, 0x0b, H_A, VOFF(lapic.irr) + off, true); /* or */
    c->jcc[c->n++] = e_jcc(e, 5);
    e_rr(e, 0x83, 7, src, true); /* cmp src, 15 */
    e8(e, 15);
    c->jcc[c->n++] = e_jcc(e, 7);
    e_gs_store(e, src, VOFF(cpu.cr8));
    e_rr(e, 0x89, src, H_A, false);
    e8(e, 0x41); /* shl r10d, 4 */
    e8(e, 0xc1);
    e8(e, 0xe2);
    e8(e, 4);
    e_gs(e, 0x89, H_A, VOFF(lapic.tpr), false);
    c->next = e->at;
    return true;
}

bool tr_system(struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    bool kernel = tr_ctx(t) != TLB_USER;

    if ((bt_debug & BT_DBG_NO_INLINE) || tr_odd_operand(in))
        return false;
    if (in->map == 0 && kernel && !(t->b->key & KEY_ODD)) {
        if (in->opcode == 0xfa) {
            set_if(t, false);
            return true;
        }
        if (in->opcode == 0xfb)
            return sti(t);
    }
    if (pushed_seg(in) != REG_NONE) {
        push_seg(t, pushed_seg(in));
        return true;
    }
    if (in->map == 0 && in->opcode == 0x8c && in->reg < NSEG) {
        mov_from_seg(t);
        return true;
    }
    if (in->map != 1)
        return false;
    if (in->opcode == 0x31 && (t->b->key & KEY_TSC)) {
        e8(&t->e, 0x0f);
        e8(&t->e, 0x31);
        return true;
    }
    if (in->opcode == 0x20 && kernel)
        return get_cr(t);
    if (in->opcode == 0x22 && kernel && in->reg == 8)
        return set_cr8(t);
    if (in->opcode == 0xae && (t->b->key & KEY_FSGS))
        return fsgsbase(t);
    if (in->opcode == 0x01 && in->modrm == 0xf9 && (t->b->key & KEY_TSC) &&
        cpuid_has(t->v->vm->cpuid, 0x80000001, 0, 3, 27)) {
        rdtscp(t);
        return true;
    }
    if (in->opcode == 0x01 && kernel) {
        switch (in->modrm) {
        case 0xca:
        case 0xcb:
            return set_ac(t, in->modrm == 0xcb);
        case 0xf8:
            swapgs(t);
            return true;
        }
    }
    return false;
}

/* Byte at hot.flags + off, shifted left, OR-ed into the qword at H_A. */
static void or_flags(struct tr *t, int32_t off, unsigned shift)
{
    struct emit *e = &t->e;

    e_self(e); /* movzx r11d, byte gs:[...] */
    e8(e, 0x44);
    e8(e, 0x0f);
    e8(e, 0xb6);
    e8(e, 0x1c);
    e8(e, 0x25);
    e_self_disp(e, VOFF(hot.flags) + off);
    if (shift) {
        e8(e, 0x41); /* shl r11d, shift */
        e8(e, 0xc1);
        e8(e, 0xe3);
        e8(e, shift);
    }
    e_op(e, 0x09, H_B, &t->m, tr_wide(t));
}

void tr_pushf(struct tr *t)
{
    struct emit *e = &t->e;

    tr_flags_clobber(t);
    tr_push_slot(t, 0);
    e_gs_load(e, H_B, VOFF(cpu.rflags));
    e8(e, 0x49); /* and r11, imm32: RF and VM are pushed as 0 */
    e8(e, 0x81);
    e8(e, 0xe3);
    e32(e, ~(uint32_t)(FL_ARITH | FL_RF | FL_VM));
    e_op(e, 0x89, H_B, &t->m, tr_wide(t));
    or_flags(t, 1, 0);
    or_flags(t, 0, 11);
    tr_push_done(t);
}
