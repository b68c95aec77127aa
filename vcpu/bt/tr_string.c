/*
 * MOVS, STOS and LODS without REP, which libc's short copies are made of, in the cache: forward,
 * with flat 64-bit addresses. Both operands are checked before anything changes.
 */
#include "vcpu/bt/tr.h"

/* mov between reg and t->m in the size of the element; store or load. A 4-byte load zero-extends;
 * shorter ones merge, as LODS does. RAX or H_B as reg, so byte registers need no thought. */
static void move(struct tr *t, unsigned size, unsigned reg, bool store)
{
    if (size == 2)
        e8(&t->e, 0x66);
    e_op(&t->e, (store ? 0x88u : 0x8au) | (size > 1), reg, &t->m, size == 8);
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
        tr_access(t, 0, RSI, 0, size, false, 0);
        move(t, size, H_B, false);
        e_gs_store(e, H_B, VOFF(hot.tmp));
    }
    tr_access(t, !lods, lods ? RSI : RDI, 0, size, !lods, 0);
    if (movs)
        e_gs_load(e, H_B, VOFF(hot.tmp));
    move(t, size, movs ? H_B : RAX, !lods);
    if (!stos)
        e_lea(e, RSI, RSI, REG_NONE, 0, (int32_t)size, 8, 8);
    if (!lods)
        e_lea(e, RDI, RDI, REG_NONE, 0, (int32_t)size, 8, 8);
    return true;
}
