#include "vcpu/bt/tr.h"

/* Which fields of an instruction name general registers. */
enum { F_REG = 1, F_RM = 2, F_VVVV = 4 };

static unsigned fields_map0(unsigned op)
{
    if (op < 0x40)
        return (op & 7) < 4 ? F_REG | F_RM : 0;
    if (op == 0x63 || op == 0x69 || op == 0x6b || (op >= 0x84 && op <= 0x8b))
        return F_REG | F_RM;
    if (op == 0x8d)
        return F_REG;
    if ((op >= 0x80 && op <= 0x83) || (op >= 0x90 && op <= 0x97) || (op >= 0xb0 && op <= 0xc1) ||
        op == 0xc6 || op == 0xc7 || (op >= 0xd0 && op <= 0xd3) || op == 0xf6 || op == 0xf7 ||
        op == 0xfe || op == 0xff)
        return F_RM;
    return 0;
}

static unsigned fields_map1(unsigned op)
{
    switch (op) {
    case 0xc3: /* MOVNTI */
        return F_REG;
    case 0xba:
    case 0xc7:
        return F_RM;
    case 0xae:
    case 0x0d:
        return 0;
    }
    if ((op >= 0x90 && op <= 0x9f) || (op >= 0xc8 && op <= 0xcf))
        return F_RM;
    return op < 0x20 ? 0 : F_REG | F_RM;
}

static unsigned fields_vec(const struct insn *in)
{
    unsigned op = in->opcode;

    if (in->map == 1) {
        if (op == 0x2a)
            return in->pp >= 2 ? F_RM : 0;
        if (op == 0x2c || op == 0x2d)
            return in->pp >= 2 ? F_REG : 0;
        if (op == 0x50 || op == 0xc5 || op == 0xd7)
            return F_REG;
        if (op == 0x6e || op == 0xc4 || (op == 0x7e && in->pp != 2))
            return F_RM;
    } else if (in->map == 3 && ((op >= 0x14 && op <= 0x17) || op == 0x20 || op == 0x22)) {
        return F_RM;
    }
    return 0;
}

static unsigned fields(const struct insn *in)
{
    switch (insn_class(in)) {
    case IC_VEC:
        return fields_vec(in);
    case IC_ALU:
        if (in->map == 0)
            return fields_map0(in->opcode);
        if (in->map == 1)
            return fields_map1(in->opcode);
        if (in->map == 3)
            return F_REG | F_RM; /* RORX */
        if (!in->vex)
            return F_REG | F_RM;
        return in->opcode == 0xf3 ? F_RM | F_VVVV : F_REG | F_RM | F_VVVV;
    default:
        return 0;
    }
}

/* An instruction's operands as the host sees them. */
struct rename {
    unsigned reg, rm, vvvv;
    struct {
        unsigned guest, host;
        bool load, store;
    } spill[2];
    unsigned n;
    unsigned h_a; /* guest register in H_A when the instruction runs; REG_NONE; BASE_RIP: else */
    bool address; /* H_A is needed for the address */
};

static bool taken(const struct rename *rn, unsigned host)
{
    for (unsigned k = 0; k < rn->n; k++)
        if (rn->spill[k].host == host)
            return true;
    return false;
}

/* Host register for guest register guest in a field; false when the two scratch registers are used
 * up. Where H_A holds the address, only a pure result may go there. */
static bool rename_field(const struct insn *in, struct rename *rn, unsigned guest, unsigned *host)
{
    if (guest == RSP) {
        *host = H_SP;
        return true;
    }
    *host = guest;
    if (!tr_spilled(guest))
        return true;
    for (unsigned k = 0; k < rn->n; k++)
        if (rn->spill[k].guest == guest) {
            *host = rn->spill[k].host;
            return true;
        }
    bool load = in->gpr_read >> guest & 1, store = in->gpr_write >> guest & 1;

    if (rn->h_a == guest && !taken(rn, H_A)) {
        *host = H_A;
        load = false;
    } else if (!rn->address && !taken(rn, H_A) && (rn->h_a < HELD_PAGE || taken(rn, H_B))) {
        *host = H_A;
    } else if (!taken(rn, H_B)) {
        *host = H_B;
    } else if (!taken(rn, H_A) && !load) {
        *host = H_A;
    } else {
        return false;
    }
    if (*host == H_A)
        rn->h_a = guest;
    rn->spill[rn->n].guest = guest;
    rn->spill[rn->n].host = *host;
    rn->spill[rn->n].load = load;
    rn->spill[rn->n].store = store;
    rn->n++;
    return true;
}

static bool rename_all(const struct tr *t, const struct insn *in, struct rename *rn)
{
    unsigned f = fields(in);

    *rn = (struct rename){.reg = in->reg, .vvvv = in->vex_vvvv, .h_a = t->held};
    if (in->has_mem) {
        unsigned h_a = tr_window_operand(t) ? tr_window_h_a(t) : BASE_RIP;

        rn->address = h_a != REG_NONE;
        if (rn->address)
            rn->h_a = h_a;
    }
    rn->rm = in->has_modrm ? in->rm : in->opcode & 7;
    /* AH..BH allow no REX, so no other operand can be renamed; ESP (MOVZX ESP, AH) would have to.
     */
    if (in->high8)
        return in->has_mem || !((in->gpr_read | in->gpr_write) >> RSP & 1);
    if ((f & F_REG) && !rename_field(in, rn, in->reg, &rn->reg))
        return false;
    if ((f & F_VVVV) && !rename_field(in, rn, in->vex_vvvv, &rn->vvvv))
        return false;
    return !(f & F_RM) || in->has_mem || rename_field(in, rn, in->rm, &rn->rm);
}

struct cold_rep *tr_cold_rep(struct tr *t)
{
    if (t->nrep == sizeof(t->rep) / sizeof(t->rep[0]))
        return NULL;
    struct cold_rep *c = &t->rep[t->nrep++];

    *c = (struct cold_rep){.i = t->i};
    tr_sp_settle(t);
    tr_flags_clobber(t);
    return c;
}

void tr_callout_at(struct tr *t, uint32_t more)
{
    const struct insn *in = &t->in[t->i];
    struct emit *e = &t->e;
    bool string = insn_class(in) == IC_STRING;
    uint32_t info = SITE_ARG(in->len) | SITE_OP(in->map, in->opcode) | more;

    if (string && (in->rep || in->repne))
        info |= in->repne ? SITE_REP | SITE_REPNE : SITE_REP;
    if (string && tr_flat_string(in) && !(t->b->key & KEY_ODD))
        info |= SITE_STRING | in->opsize;
    tr_sp_settle(t);
    tr_mov_addr(t, H_A, t->rip[t->i]);
    e8(e, 0x68);
    e32(e, info);
    tr_call_glue(t, t->bt->g_insn);
}

void tr_callout(struct tr *t)
{
    tr_flags_clobber(t);
    tr_callout_at(t, 0);
    t->saved = true;
}

static void lea(struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    struct emit *e = &t->e;
    unsigned dst = in->reg, base = in->base, index = in->index;

    if (dst == RSP)
        dst = H_SP;
    else if (tr_spilled(dst))
        dst = H_A;
    if (base == BASE_RIP || (base == REG_NONE && index == REG_NONE)) {
        uint64_t a = (uint64_t)in->disp + (base == BASE_RIP ? t->rip[t->i] + in->len : 0);

        if (in->addrsize == 4 || in->opsize == 4) {
            a = (uint32_t)a;
            t->fixed |= base == BASE_RIP;
        }
        if (base == BASE_RIP)
            tr_mov_addr(t, dst, a);
        else
            e_mov_imm(e, dst, a);
    } else {
        if (base != REG_NONE)
            base = tr_use(t, base, H_A);
        if (index != REG_NONE)
            index = tr_use(t, index, H_B);
        /* A result of 4 bytes has no need of an address cut off at that. */
        e_lea(e, dst, base, index, in->scale, (int32_t)in->disp, in->opsize,
              in->opsize == 4 ? 8 : in->addrsize);
    }
    if (tr_spilled(in->reg)) {
        e_gs_store(e, H_A, GPR_OFF(in->reg));
        t->held = in->reg;
    }
    t->keep = true;
}

/* AH..BH cannot be named beside what needs REX: borrow RSI, which no such operand names. */
static void high8_mem(struct tr *t, const struct rename *rn)
{
    static const struct opnd at_rsi = {.base = RSI, .index = REG_NONE};

    if (t->m.base != H_A || t->m.index != REG_NONE || t->m.disp)
        e_lea(&t->e, H_A, t->m.base, t->m.index, t->m.scale, t->m.disp, 8, 8);
    e_rr(&t->e, 0x87, H_A, RSI, true);
    e_insn(&t->e, &t->in[t->i], rn->reg, 0, rn->vvvv, &at_rsi);
    e_rr(&t->e, 0x87, H_A, RSI, true);
}

void tr_as64(struct insn *in)
{
    unsigned op = in->opcode;

    if (in->map != 0)
        return;
    if (op >= 0x40 && op <= 0x4f) { /* INC, DEC */
        in->has_modrm = true;
        in->mod = 3;
        in->reg = op >> 3 & 1;
        in->opcode = 0xff;
    } else if (op == 0x82) {
        in->opcode = 0x80;
    }
}

/* Is it something else, or nothing, to the host, which runs 64-bit code? */
static bool only32(const struct insn *in)
{
    unsigned op = in->opcode;

    if (in->vex) /* W that is ignored here, a register of three bits in an immediate, VZEROUPPER */
        return (in->vex_w && (fields(in) || (in->info->flags & OF_IMPL_GPR))) ||
               (in->map == 3 && op >= 0x4a && op <= 0x4f && (in->imm & 0x80)) ||
               (in->map == 1 && op == 0x77);
    return in->map == 0 && (op == 0x27 || op == 0x2f || op == 0x37 || op == 0x3f ||
                            (op >= 0xd4 && op <= 0xd6)); /* DAA DAS AAA AAS AAM AAD SALC */
}

static bool no_access(const struct insn *in)
{
    return in->map == 1 && (in->opcode == 0x0d || (in->opcode >= 0x18 && in->opcode <= 0x1f));
}

/* Instructions of these classes that are the interpreter's all the same. */
static bool odd(const struct tr *t, const struct insn *in)
{
    if ((insn_class(in) == IC_VEC || insn_class(in) == IC_X87) &&
        !(t->b->key & (in->vex ? KEY_AVX : KEY_FPU)))
        return true;
    if (in->mode == 4 && (only32(in) || tr_odd_operand(in)))
        return true;
    return (in->has_mem && in->mem_size == 0) || in->mem_size > 64 || (bt_debug & BT_DBG_NO_INLINE);
}

/* BT and its kin with a register bit index: the probe finds the word, and the instruction is left
 * with the index within it. */
static void bit_string(struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    struct tr_linear l = {.base = REG_NONE, .bits = true};
    struct emit *e = &t->e;

    tr_probe(t, l, in->mem_write, in->opsize, 0);
    if (tr_spilled(in->reg))
        e_gs_load(e, H_B, GPR_OFF(in->reg));
    else
        e_mov(e, H_B, in->reg == RSP ? H_SP : in->reg);
    e8(e, 0x41); /* and r11d, bits - 1 */
    e8(e, 0x83);
    e8(e, 0xe3);
    e8(e, in->opsize * 8u - 1);
    tr_flags_use(t, false);
    e_insn(e, in, H_B, 0, 0, &t->m);
}

/* Those that are the interpreter's all the same. */
static bool bit_string_odd(const struct insn *in)
{
    return (in->info->flags & OF_BITMEM) &&
           (in->opsize == 2 || in->addrsize != in->mode ||
            (in->mode == 4 && (in->seg == SEG_FS || in->seg == SEG_GS)));
}

/* MOV between rAX and a fixed address: as its ModRM sister. */
static void as_modrm(struct insn *in)
{
    static const uint8_t sister[4] = {0x8a, 0x8b, 0x88, 0x89};

    in->mem_write = in->opcode & 2;
    in->mem_read = !in->mem_write;
    in->mem_size = in->opsize;
    in->opcode = sister[in->opcode & 3];
    in->has_modrm = true;
    in->reg = RAX;
    in->imm_len = 0;
    in->opsize66 = in->opsize == 2;
}

/* DIV and IDIV by zero, and a quotient of DIV that does not fit, go to the interpreter: #DE by the
 * host's signal costs thousands of cycles. What remains (IDIV's other overflow, bytes) takes that
 * way. */
static bool checks_divisor(const struct tr *t, const struct insn *in)
{
    return insn_class(in) == IC_ALU && in->map == 0 && in->opcode == 0xf7 && (in->reg & 7) >= 6 &&
           (in->fl_write & FL_ARITH) == FL_ARITH && t->nrep < sizeof(t->rep) / sizeof(t->rep[0]);
}

static void check_divisor(struct tr *t, unsigned rm)
{
    const struct insn *in = &t->in[t->i];
    struct emit *e = &t->e;
    bool wide = in->opsize == 8, idiv = in->reg & 1;

    if (!checks_divisor(t, in))
        return;
    struct cold_rep *c = &t->rep[t->nrep++];

    /* next is the division: it must not be done twice, should the divisor change meanwhile. */
    *c = (struct cold_rep){.i = t->i, .end = true};
    if (in->opsize == 2)
        e8(e, 0x66);
    if (!idiv && in->has_mem) {
        e_op(e, 0x3b, RDX, &t->m, wide);
    } else if (!idiv) {
        e_rr(e, 0x3b, RDX, rm, wide);
    } else if (in->has_mem) {
        e_op(e, 0x83, 7, &t->m, wide);
        e8(e, 0);
    } else {
        e_rr(e, 0x85, rm, rm, wide);
    }
    c->jcc[c->n++] = e_jcc(e, idiv ? 4 : 3);
    c->next = e->at;
}

void tr_operate(struct tr *t)
{
    struct insn *in = &t->in[t->i];
    struct emit *e = &t->e;
    struct rename rn;

    if (insn_class(in) == IC_MOFFS) {
        if (in->opcode == 0xd7 || tr_odd_operand(in) || (bt_debug & BT_DBG_NO_INLINE)) {
            tr_callout(t);
            return;
        }
        as_modrm(in);
    }
    if (insn_class(in) == IC_ALU && in->map == 0 && in->opcode == 0x8d) {
        if (in->opsize == 2 || in->addrsize == 2) {
            tr_callout(t);
            return;
        }
        lea(t);
        return;
    }
    if (insn_class(in) == IC_ALU && no_access(in))
        return;
    if (in->map == 0 && (in->opcode == 0xfc || in->opcode == 0xfd)) {
        /* DF is 0 wherever KEY_ODD is not set, so CLD has nothing to do there. */
        if (in->opcode == 0xfd || (t->b->key & KEY_ODD))
            tr_callout(t);
        return;
    }
    if (odd(t, in) || !rename_all(t, in, &rn) || (in->has_mem && bit_string_odd(in))) {
        tr_callout(t);
        return;
    }
    bool window = in->has_mem && tr_window_operand(t);

    if (in->has_mem && (in->info->flags & OF_BITMEM)) {
        bit_string(t);
        return;
    }
    if (in->has_mem && !window)
        tr_operand(t, in->mem_write, in->mem_size, 0);
    if (checks_divisor(t, in))
        tr_flags_clobber(t);
    /* Should it fault, hot.flags still holds what was put away, be it restored or given up. */
    bool saved = t->saved;

    tr_flags_use(t, true);
    if (window)
        tr_window_registers(t);
    for (unsigned k = 0; k < rn.n; k++)
        if (rn.spill[k].load)
            e_gs_load(e, rn.spill[k].host, GPR_OFF(rn.spill[k].guest));
    tr_mark(t)->saved |= saved;
    check_divisor(t, rn.rm);
    if (in->has_mem && in->high8)
        high8_mem(t, &rn);
    else
        e_insn(e, in, rn.reg, rn.rm, rn.vvvv, in->has_mem ? &t->m : NULL);
    for (unsigned k = 0; k < rn.n; k++)
        if (rn.spill[k].store)
            e_gs_store(e, rn.spill[k].host, GPR_OFF(rn.spill[k].guest));
    for (unsigned k = 0; k < rn.n; k++)
        if (rn.spill[k].host == H_A)
            t->held = (uint16_t)rn.spill[k].guest;
    /* After the cold path of a probe H_A may hold anything, unless that ends the block. */
    t->keep = !in->has_mem || (!in->high8 && tr_grouped(t, t->i, 0));
}
