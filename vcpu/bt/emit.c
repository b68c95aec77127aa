#include "vcpu/bt/emit.h"

/* REX.W, .R for reg, .X for index, .B for base. */
static unsigned rex(bool w, unsigned reg, unsigned index, unsigned base)
{
    return 0x40u | (w ? 8u : 0) | (reg & 8 ? 4u : 0) | (index & 8 ? 2u : 0) | (base & 8 ? 1u : 0);
}

static unsigned modrm(unsigned mod, unsigned reg, unsigned rm)
{
    return mod << 6 | (reg & 7) << 3 | (rm & 7);
}

void e_gs(struct emit *e, unsigned op, unsigned reg, int32_t disp, bool wide)
{
    unsigned r = rex(wide, reg, 0, 0);

    e_self(e);
    if (r != 0x40)
        e8(e, r);
    e8(e, op);
    e8(e, modrm(0, reg, 4));
    e8(e, 0x25);
    e_self_disp(e, disp);
}

void e_gs_index(struct emit *e, unsigned op, unsigned reg, unsigned index, unsigned scale,
                int32_t disp)
{
    e_self(e);
    e8(e, rex(true, reg, index, 0));
    e8(e, op);
    e8(e, modrm(0, reg, 4));
    e8(e, scale << 6 | (index & 7) << 3 | 5);
    e_self_disp(e, disp);
}

void e_gs_store8_imm(struct emit *e, int32_t disp, uint8_t imm)
{
    e_gs(e, 0xc6, 0, disp, false);
    e8(e, imm);
}

void e_gs_call(struct emit *e, int32_t disp)
{
    e_gs(e, 0xff, 2, disp, false);
}

void e_gs_jmp(struct emit *e, int32_t disp)
{
    e_gs(e, 0xff, 4, disp, false);
}

void e_rr(struct emit *e, unsigned op, unsigned reg, unsigned rm, bool wide)
{
    unsigned r = rex(wide, reg, 0, rm);

    if (r != 0x40)
        e8(e, r);
    e8(e, op);
    e8(e, modrm(3, reg, rm));
}

void e_mov(struct emit *e, unsigned dst, unsigned src)
{
    e_rr(e, 0x89, src, dst, true);
}

void e_mov_imm(struct emit *e, unsigned dst, uint64_t imm)
{
    if (imm <= 0xffffffffu) {
        if (dst & 8)
            e8(e, 0x41);
        e8(e, 0xb8 | (dst & 7));
        e32(e, (uint32_t)imm);
    } else if ((uint64_t)(int64_t)(int32_t)imm == imm) {
        e8(e, rex(true, 0, 0, dst));
        e8(e, 0xc7);
        e8(e, modrm(3, 0, dst));
        e32(e, (uint32_t)imm);
    } else {
        e_mov_imm64(e, dst, imm);
    }
}

void e_mov_imm64(struct emit *e, unsigned dst, uint64_t imm)
{
    e8(e, rex(true, 0, 0, dst));
    e8(e, 0xb8 | (dst & 7));
    e64(e, imm);
}

/* ModRM, SIB and displacement of [base + index << scale + disp]. */
static void mem_operand(struct emit *e, unsigned reg, unsigned base, unsigned index, unsigned scale,
                        int32_t disp)
{
    if (base == REG_NONE) {
        e8(e, modrm(0, reg, 4));
        e8(e, scale << 6 | (index == REG_NONE ? 4 : index & 7) << 3 | 5);
        e32(e, (uint32_t)disp);
        return;
    }
    /* Base RBP/R13 always needs a displacement, RSP/R12 a SIB byte (SDM 2A table 2-2). */
    unsigned mod = disp == 0 && (base & 7) != 5 ? 0 : disp == (int8_t)disp ? 1 : 2;

    if (index != REG_NONE || (base & 7) == 4) {
        e8(e, modrm(mod, reg, 4));
        e8(e, scale << 6 | (index == REG_NONE ? 4 : index & 7) << 3 | (base & 7));
    } else {
        e8(e, modrm(mod, reg, base));
    }
    if (mod == 1)
        e8(e, (uint8_t)disp);
    else if (mod == 2)
        e32(e, (uint32_t)disp);
}

static unsigned rex_of(bool w, unsigned reg, unsigned index, unsigned base)
{
    return rex(w, reg, index == REG_NONE ? 0 : index, base == REG_NONE ? 0 : base);
}

void e_op(struct emit *e, unsigned op, unsigned reg, const struct opnd *m, bool wide)
{
    unsigned r = rex_of(wide, reg, m->index, m->base);

    if (r != 0x40)
        e8(e, r);
    e8(e, op);
    mem_operand(e, reg, m->base, m->index, m->scale, m->disp);
}

void e_mem(struct emit *e, unsigned op, unsigned reg, unsigned base, int32_t disp)
{
    e8(e, rex_of(true, reg, REG_NONE, base));
    e8(e, op);
    mem_operand(e, reg, base, REG_NONE, 0, disp);
}

void e_lea(struct emit *e, unsigned dst, unsigned base, unsigned index, unsigned scale,
           int32_t disp, unsigned size, unsigned addr)
{
    unsigned r = rex_of(size == 8, dst, index, base);

    if (addr == 4)
        e8(e, 0x67);
    if (size == 2)
        e8(e, 0x66);
    if (r != 0x40)
        e8(e, r);
    e8(e, 0x8d);
    mem_operand(e, dst, base, index, scale, disp);
}

uint32_t e_jmp(struct emit *e)
{
    e8(e, 0xe9);
    e32(e, 0);
    return e->at - 4;
}

uint32_t e_jcc(struct emit *e, unsigned cc)
{
    e8(e, 0x0f);
    e8(e, 0x80 | cc);
    e32(e, 0);
    return e->at - 4;
}

void e_patch(uint8_t *rw, uint32_t site, uint32_t target)
{
    uint32_t rel = target - (site + 4);

    __atomic_store_n((uint32_t *)(void *)(rw + site), rel, __ATOMIC_RELEASE);
}

void e_jcc_to(struct emit *e, unsigned cc, uint32_t target)
{
    e_patch(e->rw, e_jcc(e, cc), target);
}

void e_jmp_to(struct emit *e, uint32_t target)
{
    e_patch(e->rw, e_jmp(e), target);
}

void e_call_to(struct emit *e, uint32_t target)
{
    e8(e, 0xe8);
    e32(e, target - (e->at + 4));
}

/* One instruction of n bytes, 1 to 7, that does nothing (SDM 2B, NOP). */
static void nop(struct emit *e, unsigned n)
{
    static const uint8_t bytes[7][7] = {{0x90},
                                        {0x66, 0x90},
                                        {0x0f, 0x1f, 0x00},
                                        {0x0f, 0x1f, 0x40, 0},
                                        {0x0f, 0x1f, 0x44, 0, 0},
                                        {0x66, 0x0f, 0x1f, 0x44, 0, 0},
                                        {0x0f, 0x1f, 0x80, 0, 0, 0, 0}};

    for (unsigned i = 0; i < n; i++)
        e8(e, bytes[n - 1][i]);
}

void e_align_rel32(struct emit *e, unsigned skip)
{
    unsigned at = (e->at + skip) & 7;

    if (at > 4)
        nop(e, 8 - at);
}

void e_flags_save(struct emit *e, bool h_b)
{
    if (h_b)
        e_mov(e, H_B, RAX);
    else
        e_gs_store(e, RAX, VOFF(hot.rax));
    e8(e, 0x9f); /* lahf */
    e8(e, 0x0f); /* seto al */
    e8(e, 0x90);
    e8(e, 0xc0);
    e8(e, 0x66); /* mov gs:[flags], ax */
    e_gs(e, 0x89, RAX, VOFF(hot.flags), false);
    if (h_b)
        e_mov(e, RAX, H_B);
    else
        e_gs_load(e, RAX, VOFF(hot.rax));
}

void e_flags_restore(struct emit *e, bool h_b)
{
    if (h_b)
        e_mov(e, H_B, RAX);
    else
        e_gs_store(e, RAX, VOFF(hot.rax));
    e_self(e); /* movzx eax, word gs:[flags] */
    e8(e, 0x0f);
    e8(e, 0xb7);
    e8(e, modrm(0, RAX, 4));
    e8(e, 0x25);
    e_self_disp(e, VOFF(hot.flags));
    e8(e, 0x04); /* add al, 0x7f: OF from al */
    e8(e, 0x7f);
    e8(e, 0x9e); /* sahf */
    if (h_b)
        e_mov(e, RAX, H_B);
    else
        e_gs_load(e, RAX, VOFF(hot.rax));
}

static void insn_vex(struct emit *e, const struct insn *in, unsigned reg, unsigned index,
                     unsigned rm, unsigned vvvv)
{
    e8(e, 0xc4);
    e8(e, (reg & 8 ? 0 : 0x80u) | (index & 8 ? 0 : 0x40u) | (rm & 8 ? 0 : 0x20u) | in->map);
    e8(e, (in->vex_w ? 0x80u : 0) | (~vvvv & 15) << 3 | (in->vex_l ? 4u : 0) | in->pp);
    e8(e, in->opcode);
}

static void insn_legacy(struct emit *e, const struct insn *in, unsigned reg, unsigned index,
                        unsigned rm)
{
    unsigned r = rex(in->rex & 8, in->has_modrm ? reg : 0, index, rm);
    unsigned op = in->has_modrm ? in->opcode : (in->opcode & ~7u) | (rm & 7);

    if (in->lock)
        e8(e, 0xf0);
    if (in->opsize66)
        e8(e, 0x66);
    if (in->rep)
        e8(e, 0xf3);
    else if (in->repne)
        e8(e, 0xf2);
    if (r != 0x40 || (in->rex && !in->high8))
        e8(e, r);
    if (in->map)
        e8(e, 0x0f);
    if (in->map == 2)
        e8(e, 0x38);
    else if (in->map == 3)
        e8(e, 0x3a);
    e8(e, op);
}

void e_insn(struct emit *e, const struct insn *in, unsigned reg, unsigned rm, unsigned vvvv,
            const struct opnd *mem)
{
    unsigned index = 0;

    if (mem) {
        rm = mem->base == REG_NONE ? 0 : mem->base;
        index = mem->index == REG_NONE ? 0 : mem->index;
    }
    if (in->vex)
        insn_vex(e, in, reg, index, rm, vvvv);
    else
        insn_legacy(e, in, reg, index, rm);
    if (mem)
        mem_operand(e, reg, mem->base, mem->index, mem->scale, mem->disp);
    else if (in->has_modrm)
        e8(e, modrm(3, reg, rm));
    for (unsigned i = 0; i < in->imm_len; i++)
        e8(e, in->bytes[in->imm_off + i]);
}
