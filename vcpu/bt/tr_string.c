/*
 * MOVS, STOS and LODS without REP, which libc's short copies are made of, in the cache: forward,
 * with flat 64-bit addresses. Both operands are checked before anything changes.
 */
#include "vcpu/bt/tr.h"

/* mov between reg and [H_A] in the size of the element; store or load. A 4-byte load zero-extends;
 * shorter ones merge, as LODS does. */
static void move(struct tr *t, unsigned size, unsigned reg, bool store)
{
    struct emit *e = &t->e;

    if (size == 2)
        e8(e, 0x66);
    e8(e, (size == 8 ? 0x49u : 0x41u) | (reg & 8 ? 4u : 0));
    e8(e, (store ? 0x88u : 0x8au) | (size > 1));
    e8(e, 0x80 | (reg & 7) << 3 | (H_A & 7));
    e32(e, (uint32_t)t->disp);
}

static void operand(struct tr *t, unsigned reg, bool write, unsigned size)
{
    tr_flags_clobber(t);
    tr_choose(t, write, reg);
    tr_stack_address(t, reg, 0);
    tr_probe(t, write, size, false, 0, 0);
}

bool tr_string(struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    struct emit *e = &t->e;
    unsigned op = in->opcode & 0xfe, size = in->opsize;
    bool movs = op == 0xa4, stos = op == 0xaa, lods = op == 0xac;

    if (in->rep || in->repne || !(movs || stos || lods) || in->addrsize != 8 || in->seg == SEG_FS ||
        in->seg == SEG_GS || (t->b->key & KEY_ODD) || (bt_debug & BT_DBG_NO_INLINE))
        return false;
    if (movs) {
        operand(t, RSI, false, size);
        move(t, size, H_B, false);
        e_gs_store(e, H_B, VOFF(hot.tmp));
    }
    operand(t, lods ? RSI : RDI, !lods, size);
    if (movs)
        e_gs_load(e, H_B, VOFF(hot.tmp));
    move(t, size, movs ? H_B : RAX, !lods);
    if (!stos)
        e_lea(e, RSI, RSI, REG_NONE, 0, (int32_t)size, 8, 8);
    if (!lods)
        e_lea(e, RDI, RDI, REG_NONE, 0, (int32_t)size, 8, 8);
    return true;
}
