#include "vcpu/bt/tr.h"

bool tr_ends(const struct insn *in)
{
    unsigned op = in->opcode;

    switch (insn_class(in)) {
    case IC_BRANCH:
    case IC_UD:
        return true;
    case IC_SYS:
        break;
    default:
        return false;
    }
    if (in->map == 0)
        return op == 0x9a || op == 0xea || (op >= 0xca && op <= 0xcf) || op == 0xf1 || op == 0xf4 ||
               op == 0xff;
    /* SYSCALL SYSRET SYSENTER SYSEXIT RSM UDx */
    return in->map == 1 && (op == 0x05 || op == 0x07 || op == 0x34 || op == 0x35 || op == 0xaa ||
                            op == 0x0b || op == 0xb9 || op == 0xff);
}

bool tr_is_jcc(const struct insn *in)
{
    return insn_class(in) == IC_BRANCH && ((in->map == 1 && (in->opcode & 0xf0) == 0x80) ||
                                           (in->map == 0 && (in->opcode & 0xf0) == 0x70));
}

/* A load that faults after a kick. Flags stay as they are. Returns 1 + its index in the map. */
static unsigned poll(struct tr *t, int32_t ptr)
{
    struct emit *e = &t->e;

    e_gs_load(e, H_B, ptr);
    tr_mark(t)->poll = true;
    e8(e, 0x45); /* mov r11d, [r11] */
    e8(e, 0x8b);
    e8(e, 0x1b);
    return t->nmap;
}

static bool closes_loop(const struct tr *t, unsigned i)
{
    const struct insn *in = &t->in[i];
    unsigned op = in->opcode;

    if (insn_class(in) != IC_BRANCH)
        return false;
    if (in->map == 0 && (op == 0xc2 || op == 0xc3))
        return false; /* the glue does, should it miss */
    if (in->map == 0 && (op == 0xff || op == 0xe8))
        return true;
    return tr_wide(t) ? (int64_t)in->imm < 0 : tr_target(t, i) <= t->rip[i];
}

/* Every loop has a branch backwards, or an indirect one, and a block with one polls, by a
 * comparison with a window on the way there or else by itself. (A RET into the middle of a block
 * pairs with a CALL there, which came by the start.) CALLs poll whichever way they go: functions
 * that each call the next one twice are no loop, and yet do not end. */
void tr_poll_start(struct tr *t)
{
    unsigned i = 0;

    t->i = 0;
    t->poll = 0;
    while (i < t->n && !closes_loop(t, i))
        i++;
    if (i < t->n && !(bt_debug & BT_DBG_NO_INLINE) && !tr_checks_by(t, i))
        t->poll = poll(t, VOFF(poll_ptr));
}

static struct pending *new_direct(struct tr *t, uint64_t target)
{
    struct pending *p = &t->pend[t->npend++];
    struct bt_link *l = bt_meta_alloc(t->bt, sizeof(*l));

    tr_sp_settle(t);

    *l = (struct bt_link){
        .from = t->b, .next_out = t->b->out, .target = target, .flags_saved = t->saved};
    t->b->out = l;
    /* What may straddle into the next page is not linked in user code either. */
    l->cross_page = (target ^ t->b->rip) >> PAGE_SHIFT != 0 ||
                    (target & (PAGE_SIZE - 1)) > PAGE_SIZE - INSN_MAX;
    *p = (struct pending){.link = l, .saved = t->saved, .dead = t->out[t->i] == 0};
    return p;
}

void tr_exit_direct(struct tr *t, uint64_t target)
{
    struct pending *p = new_direct(t, target);

    e_align_rel32(&t->e, 1);
    p->site = e_jmp(&t->e);
    t->ended = true;
}

void tr_exit_sti(struct tr *t, uint64_t target)
{
    struct pending *p = new_direct(t, target);

    p->poll = poll(t, VOFF(hot.sti_ptr));
    e_align_rel32(&t->e, 1);
    p->site = e_jmp(&t->e);
    t->ended = true;
}

/* Where the callee's RET comes back to, if the address it took from the guest's stack, in H_A, is
 * this one. Flags are in hot.flags. */
static void landing(struct tr *t, uint64_t next)
{
    struct emit *e = &t->e;

    if (!tr_wide(t) || (t->fixed && (uint64_t)(int64_t)(int32_t)next == next)) {
        e8(e, tr_wide(t) ? 0x49 : 0x41); /* cmp r10, imm32 */
        e8(e, 0x81);
        e8(e, 0xfa);
        e32(e, (uint32_t)next);
    } else {
        e8(e, 0x4c); /* cmp r10, [rip + its place] */
        e8(e, 0x3b);
        e8(e, 0x15);
        e32(e, 0);
        t->lit[t->nlit].site = e->at - 4;
        t->lit[t->nlit++].value = next;
    }
    e_jcc_to(e, 5, t->bt->g_ret_miss[tr_ctx(t)]);
    tr_reloc(t, RELOC_GLUE);
    t->saved = true;
    if (t->i + 1 == t->n)
        tr_exit_direct(t, next);
}

/* H_A is the target. undo: bytes to give back to RSP if it is not canonical. next: of a CALL. */
static void exit_indirect(struct tr *t, int32_t undo, bool call, uint64_t next)
{
    struct emit *e = &t->e;
    struct pending *p = &t->pend[t->npend++];

    tr_sp_settle(t);
    if (!t->saved)
        e_flags_save(e, true);
    t->saved = true;
    *p = (struct pending){.i = t->i, .saved = true, .undo = undo};
    p->site = bt_jc_probe(e, tr_ctx(t));
    bt_jc_go(e, tr_ctx(t), call);
    if (call)
        landing(t, next);
    else
        t->ended = true;
}

/* RET, its target in H_A, pop bytes off the stack. No poll: a RET that hits pairs with a CALL, and
 * to come round to that again takes a branch backwards or an indirect one. H_B says which RET it
 * was. */
static void exit_ret(struct tr *t, int32_t pop)
{
    struct emit *e = &t->e;

    tr_sp_settle(t);
    if (!t->saved)
        e_flags_save(e, true);
    tr_mark(t)->stub = (uint32_t)pop;
    e_mov_imm(e, H_B, e->at);
    tr_reloc(t, RELOC_SITE);
    e8(e, 0xc3);
    t->ended = true;
}

/* A direct CALL, its return address already on the guest's stack. */
static void exit_call(struct tr *t, uint64_t target, uint64_t next)
{
    struct pending *p = new_direct(t, target);
    struct emit *e = &t->e;

    e_align_rel32(e, 1);
    e8(e, 0xe8);
    e32(e, 0);
    p->site = e->at - 4;
    landing(t, next);
}

static enum bt_exit exit_kind(const struct insn *in)
{
    if (insn_class(in) != IC_SYS)
        return BTX_INTERP;
    if (in->map == 1 && in->opcode == 0x05 && in->len == 2)
        return BTX_SYSCALL;
    if (in->map == 1 && in->opcode == 0x07 && in->opsize == 8)
        return BTX_SYSRET;
    if (in->map == 0 && in->opcode == 0xcf && in->opsize == in->mode)
        return BTX_IRET;
    return BTX_INTERP;
}

void tr_exit_interp(struct tr *t, uint64_t rip)
{
    struct emit *e = &t->e;

    tr_sp_settle(t);
    tr_mov_addr(t, H_A, rip);
    e_mov_imm(e, H_B, exit_kind(&t->in[t->i]));
    tr_jmp_glue(t, t->saved || !t->live[t->i] ? t->bt->g_exit_slot : t->bt->g_exit_live);
    t->ended = true;
}

static void stub_direct(struct tr *t, const struct pending *p)
{
    struct emit *e = &t->e;
    struct bt_link *l = p->link;
    unsigned ctx = tr_ctx(t);
    bool slot = p->saved || p->dead;

    l->site = p->site;
    l->stub = e->at;
    if (p->poll)
        t->map[p->poll - 1].stub = e->at;
    if (l->cross_page && !(bt_debug & BT_DBG_NO_CHAIN)) {
        int32_t jc = (int32_t)offsetof(struct vcpu, jc) +
                     (int32_t)(sizeof(struct jc_entry) * (JC_ENTRIES * ctx + jc_slot(l->target)));

        if (!slot)
            e_flags_save(e, true);
        slot = true;
        tr_mov_addr(t, H_A, l->target);
        e_gs(e, 0x3b, H_A, jc, true);
        tr_reloc(t, RELOC_JC);
        uint32_t other = e_jcc(e, 5);
        e_gs_jmp(e, jc + 8);
        tr_reloc(t, RELOC_JC);
        e_patch(e->rw, other, e->at);
    } else {
        tr_mov_addr(t, H_A, l->target);
    }
    e_mov_imm64(e, H_B, (uintptr_t)l);
    tr_reloc(t, RELOC_LINK);
    tr_jmp_glue(t, slot ? t->bt->g_exit_slot : t->bt->g_exit_live);
}

static void stub_indirect(struct tr *t, const struct pending *p)
{
    struct emit *e = &t->e;

    tr_mov_addr(t, H_B, t->rip[p->i]);
    e_gs_store(e, H_B, VOFF(hot.tmp2));
    e_mov_imm(e, H_B, (uint32_t)(BTX_JUMP | BTX_UNDO(p->undo)));
    tr_jmp_glue(t, t->bt->g_exit_slot);
}

void tr_stubs(struct tr *t)
{
    for (unsigned k = 0; k < t->npend; k++) {
        struct pending *p = &t->pend[k];

        e_patch(t->e.rw, p->site, t->e.at);
        if (p->link)
            stub_direct(t, p);
        else
            stub_indirect(t, p);
    }
    for (unsigned k = 0; k < t->nlit; k++) {
        e_patch(t->e.rw, t->lit[k].site, t->e.at);
        e64(&t->e, t->lit[k].value);
        tr_reloc(t, RELOC_ADDR);
    }
    if (t->poll) {
        t->map[t->poll - 1].stub = t->e.at;
        tr_mov_addr(t, H_A, t->b->rip);
        e_mov_imm(&t->e, H_B, BTX_POLL);
        tr_jmp_glue(t, t->live[0] ? t->bt->g_exit_live : t->bt->g_exit_slot);
    }
}

/* --- branches --- */

static void push_return(struct tr *t, uint64_t next)
{
    tr_push_slot(t, SITE_END);
    if (!tr_wide(t) || (t->fixed && (uint64_t)(int64_t)(int32_t)next == next)) {
        tr_store_imm32(t, next);
    } else {
        tr_mov_addr(t, H_B, next);
        e_op(&t->e, 0x89, H_B, &t->m, true);
    }
    tr_push_done(t);
}

static void indirect(struct tr *t, bool call)
{
    const struct insn *in = &t->in[t->i];
    struct emit *e = &t->e;

    if (in->has_mem) {
        tr_load_operand(t, SITE_END);
    } else if (call) {
        /* The target may be RSP or a scratch-resident register: fetch it before the push. */
        e_gs_store(e, tr_use(t, in->rm, H_A), VOFF(hot.tmp));
    } else {
        unsigned r = tr_use(t, in->rm, H_A);

        if (r != H_A)
            e_mov(e, H_A, r);
        exit_indirect(t, 0, false, 0);
        return;
    }
    if (call)
        push_return(t, t->rip[t->i] + in->len);
    e_gs_load(e, H_A, VOFF(hot.tmp));
    exit_indirect(t, call ? 8 : 0, call, t->rip[t->i] + in->len);
}

static void ret(struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    int32_t pop = (int32_t)t->mode + (in->opcode == 0xc2 ? (int32_t)(uint16_t)in->imm : 0);

    tr_access(t, 0, H_SP, 0, t->mode, false, SITE_END);
    e_op(&t->e, 0x8b, H_A, &t->m, tr_wide(t));
    tr_sp_add(t, pop);
    exit_ret(t, pop);
}

static void jcc(struct tr *t, uint64_t target, uint64_t next)
{
    unsigned cc = t->in[t->i].opcode & 15;
    bool again = t->again[t->i];
    struct pending *p = new_direct(t, again ? next : target);

    e_align_rel32(&t->e, 2);
    p->site = e_jcc(&t->e, again ? cc ^ 1 : cc);
    t->keep = true;
    if (t->i + 1 == t->n)
        tr_exit_direct(t, next);
}

/* LOOP, LOOPE, LOOPNE, JRCXZ: the host has only rel8 forms of the last. */
static void loop(struct tr *t, uint64_t target, uint64_t next)
{
    const struct insn *in = &t->in[t->i];
    struct emit *e = &t->e;
    bool narrow = in->addrsize == 4, jrcxz = in->opcode == 0xe3;
    uint32_t zero, other = 0;

    if (!jrcxz)
        e_lea(e, RCX, RCX, REG_NONE, 0, -1, narrow ? 4 : 8, 8);
    if (narrow)
        e8(e, 0x67);
    e8(e, 0xe3);
    e8(e, 0);
    zero = e->at;
    if (in->opcode < 0xe2)
        other = e_jcc(e, in->opcode == 0xe1 ? 5 : 4); /* LOOPE ends on NZ, LOOPNE on Z */
    /* Here: RCX is not zero (and the condition holds). */
    tr_exit_direct(t, jrcxz ? next : target);
    if (other)
        e_patch(e->rw, other, e->at);
    e->rw[zero - 1] = (uint8_t)(e->at - zero);
    tr_exit_direct(t, jrcxz ? target : next);
}

void tr_branch(struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    uint64_t next = t->rip[t->i] + in->len, target = tr_target(t, t->i);
    unsigned op = in->opcode;

    /* In 32-bit code an operand size of 2 bytes cuts off EIP. */
    if ((bt_debug & BT_DBG_NO_INLINE) || in->opsize != t->mode || tr_odd_operand(in) ||
        (op >= 0xe0 && op <= 0xe3 && in->map == 0 && in->addrsize == 2)) {
        tr_exit_interp(t, t->rip[t->i]);
        return;
    }
    tr_flags_use(t, true);
    if (in->map == 1 || (op & 0xf0) == 0x70) {
        jcc(t, target, next);
    } else if (op >= 0xe0 && op <= 0xe3) {
        loop(t, target, next);
    } else if (op == 0xe8) {
        push_return(t, next);
        exit_call(t, target, next);
    } else if (op == 0xe9 || op == 0xeb) {
        tr_exit_direct(t, target);
    } else if (op == 0xc3 || op == 0xc2) {
        ret(t);
    } else if (op == 0xff && (in->reg & 7) == 2) {
        indirect(t, true);
    } else if (op == 0xff && (in->reg & 7) == 4) {
        indirect(t, false);
    } else {
        tr_exit_interp(t, t->rip[t->i]);
    }
}
