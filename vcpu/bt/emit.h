/*
 * Emitting host code: bytes, GS-relative slots, and guest instructions with their operands renamed.
 * Writes go through the RW mapping; positions are cache offsets.
 */
#ifndef VCPU_BT_EMIT_H
#define VCPU_BT_EMIT_H

#include "vcpu/bt/bt_int.h"

struct emit {
    uint8_t *rw; /* of the whole cache */
    uint32_t at; /* offset of the next byte */
    /* Where struct vcpu is, when there is only one and in the low 2 GiB: then it is addressed as it
     * is, which is a cycle faster than from GS. 0: from GS. */
    uint32_t self;
};

enum { H_A = R10, H_B = R11, H_SP = R15 }; /* scratch, scratch, guest RSP */

#define VOFF(field) ((int32_t)offsetof(struct vcpu, field))
#define GPR_OFF(r)  ((int32_t)(offsetof(struct vcpu, cpu.gpr) + 8u * (r)))

static inline void e8(struct emit *e, unsigned b)
{
    e->rw[e->at++] = (uint8_t)b;
}

static inline void e32(struct emit *e, uint32_t x)
{
    __builtin_memcpy(e->rw + e->at, &x, 4);
    e->at += 4;
}

static inline void e64(struct emit *e, uint64_t x)
{
    __builtin_memcpy(e->rw + e->at, &x, 8);
    e->at += 8;
}

/* The prefix and the displacement of an operand in struct vcpu. */
static inline void e_self(struct emit *e)
{
    if (!e->self)
        e8(e, 0x65);
}
static inline void e_self_disp(struct emit *e, int32_t disp)
{
    e32(e, (uint32_t)disp + e->self);
}

/* op reg, gs:[disp] in its 64-bit form (wide) or 32-bit; op one byte. */
void e_gs(struct emit *e, unsigned op, unsigned reg, int32_t disp, bool wide);
static inline void e_gs_load(struct emit *e, unsigned reg, int32_t disp)
{
    e_gs(e, 0x8b, reg, disp, true);
}
static inline void e_gs_store(struct emit *e, unsigned reg, int32_t disp)
{
    e_gs(e, 0x89, reg, disp, true);
}
/* op reg, gs:[index << scale + disp] (64-bit); index not RSP. */
void e_gs_index(struct emit *e, unsigned op, unsigned reg, unsigned index, unsigned scale,
                int32_t disp);
void e_gs_store8_imm(struct emit *e, int32_t disp, uint8_t imm);
void e_gs_call(struct emit *e, int32_t disp); /* call gs:[disp] */
void e_gs_jmp(struct emit *e, int32_t disp);

void e_mov(struct emit *e, unsigned dst, unsigned src);     /* 64-bit */
void e_mov_imm(struct emit *e, unsigned dst, uint64_t imm); /* shortest form */
void e_mov_imm64(struct emit *e, unsigned dst, uint64_t imm);
void e_rr(struct emit *e, unsigned op, unsigned reg, unsigned rm, bool wide);
/* A memory operand: base, index a host register or REG_NONE; scale as in SIB. */
struct opnd {
    uint8_t base, index, scale;
    int32_t disp;
};
void e_op(struct emit *e, unsigned op, unsigned reg, const struct opnd *m, bool wide);
/* op reg, [base + disp] (64-bit); any base. */
void e_mem(struct emit *e, unsigned op, unsigned reg, unsigned base, int32_t disp);
/* lea dst, [base + index << scale + disp]; REG_NONE allowed; size 2, 4, 8 of dst; addr 4 or 8. */
void e_lea(struct emit *e, unsigned dst, unsigned base, unsigned index, unsigned scale,
           int32_t disp, unsigned size, unsigned addr);

/* Branches within the cache: emit with a rel32 to be set, and set it. */
uint32_t e_jmp(struct emit *e); /* returns the offset of the rel32 */
uint32_t e_jcc(struct emit *e, unsigned cc);
void e_jcc_to(struct emit *e, unsigned cc, uint32_t target);
void e_jmp_to(struct emit *e, uint32_t target);
void e_call_to(struct emit *e, uint32_t target);
void e_patch(uint8_t *rw, uint32_t site, uint32_t target); /* one aligned store when site is */
/* NOPs so that a rel32 that starts skip bytes on does not cross an 8-byte boundary. */
void e_align_rel32(struct emit *e, unsigned skip);

/* Flags between EFLAGS and hot.flags. RAX is borrowed, and put away in H_B or else in memory. */
void e_flags_save(struct emit *e, bool h_b);
void e_flags_restore(struct emit *e, bool h_b);

/* The guest instruction with ModRM.reg, ModRM.rm (register form or the opcode's low bits) and
 * VEX.vvvv replaced; a memory operand becomes *mem (NULL: register form). Prefixes: LOCK, 66, F2/F3
 * kept; segment and 67 dropped. Registers are host numbers. */
void e_insn(struct emit *e, const struct insn *in, unsigned reg, unsigned rm, unsigned vvvv,
            const struct opnd *mem);

#endif
