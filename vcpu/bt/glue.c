/*
 * The few host sequences between C and translated code, made once at the start of the cache.
 *
 * In the cache RSP is 16-byte aligned; guest registers are as bt_int.h says. Exits come by jump
 * with R10 = guest RIP and R11 = exit information; callouts come by call.
 */
#include "vcpu/bt/emit.h"
#include "vcpu/bt/glue.h"
#include "vcpu/bt/tr.h"

static const uint8_t saved[] = {RBX, RBP, R12, R13, R14, R15};

/* Guest registers that live in the host register of the same name. */
static bool same_name(unsigned r)
{
    return r != RSP && r != R10 && r != R11 && r != R15;
}

static void store_guest(struct emit *e)
{
    for (unsigned r = 0; r < NGPR; r++)
        if (same_name(r))
            e_gs_store(e, r, GPR_OFF(r));
    e_gs_store(e, H_SP, GPR_OFF(RSP));
}

static void load_guest(struct emit *e)
{
    for (unsigned r = 0; r < NGPR; r++)
        if (same_name(r))
            e_gs_load(e, r, GPR_OFF(r));
    e_gs_load(e, H_SP, GPR_OFF(RSP));
}

static void push(struct emit *e, unsigned r)
{
    if (r & 8)
        e8(e, 0x41);
    e8(e, 0x50 | (r & 7));
}

static void pop(struct emit *e, unsigned r)
{
    if (r & 8)
        e8(e, 0x41);
    e8(e, 0x58 | (r & 7));
}

static void add_rsp(struct emit *e, unsigned imm)
{
    e8(e, 0x48);
    e8(e, 0x83);
    e8(e, 0xc4);
    e8(e, imm);
}

static void to_c_stack(struct emit *e)
{
    e_gs_store(e, RSP, VOFF(hot.ras_rsp));
    e_gs_load(e, RSP, VOFF(hot.host_rsp));
}

static void leave(struct emit *e)
{
    add_rsp(e, 8);
    for (unsigned i = sizeof(saved); i-- > 0;)
        pop(e, saved[i]);
    e8(e, 0xc3);
}

/* void enter(uint64_t host_pc) */
static void make_enter(struct bt *bt, struct emit *e)
{
    bt->g_enter = e->at;
    for (unsigned i = 0; i < sizeof(saved); i++)
        push(e, saved[i]);
    add_rsp(e, 0xf8); /* -8 */
    e_gs_store(e, RDI, VOFF(hot.tmp));
    e_gs_store(e, RSP, VOFF(hot.host_rsp));
    e_gs_load(e, RSP, VOFF(hot.ras_rsp));
    load_guest(e);
    e_gs_jmp(e, VOFF(hot.tmp));
}

static void make_exits(struct bt *bt, struct emit *e)
{
    bt->g_exit_live = e->at;
    e_flags_save(e, false); /* H_B says why */
    bt->g_exit_slot = e->at;
    e_gs_store(e, H_A, VOFF(cpu.rip));
    e_gs_store(e, H_B, VOFF(hot.exit_info));
    store_guest(e);
    to_c_stack(e);
    leave(e);
}

/* A callout asked to leave: struct cpu is complete, drop the frames below. */
static void leave_again(struct emit *e, unsigned drop)
{
    e_mov_imm(e, RAX, BTX_AGAIN);
    e_gs_store(e, RAX, VOFF(hot.exit_info));
    e_gs(e, 0x83, 0, VOFF(hot.ras_rsp), true); /* add qword gs:[ras_rsp], drop */
    e8(e, drop);
    leave(e);
}

/* test rax, rax; then jcc over what follows; returns the rel32 to patch. */
static uint32_t test_rax(struct emit *e, unsigned cc)
{
    e_rr(e, 0x85, RAX, RAX, true);
    return e_jcc(e, cc);
}

/*
 * TLB miss: stack [return][info]; R10 = linear address, R11 = guest RIP. Returns with R10 = host
 * address; or 5 bytes further on when the instruction was executed by the interpreter (flags are
 * then in hot.flags).
 */
static void make_mem(struct bt *bt, struct emit *e)
{
    bt->g_mem = e->at;
    e_gs_store(e, H_A, VOFF(hot.tmp2));
    e_gs_store(e, H_B, VOFF(hot.exit_info));
    store_guest(e);
    e_gs_load(e, RDI, VOFF(hot.self));
    e_gs_load(e, RSI, VOFF(hot.tmp2));
    e_mem(e, 0x8b, RDX, RSP, 8);
    e_gs_load(e, RCX, VOFF(hot.exit_info));
    to_c_stack(e);
    e_gs_call(e, VOFF(hot.fn_mem));
    e_mov(e, H_A, RAX);
    /* 0: executed; 1: leave; else a host pointer */
    e8(e, 0x48); /* cmp rax, 1 */
    e8(e, 0x83);
    e8(e, 0xf8);
    e8(e, 1);
    uint32_t below = e_jcc(e, 2); /* jb */
    uint32_t equal = e_jcc(e, 4); /* je */

    e_gs_load(e, RSP, VOFF(hot.ras_rsp));
    load_guest(e);
    e8(e, 0xc2); /* ret 8 */
    e8(e, 8);
    e8(e, 0);
    e_patch(e->rw, below, e->at);
    e_gs_load(e, RSP, VOFF(hot.ras_rsp));
    load_guest(e);
    e8(e, 0x48); /* add qword [rsp], 5 */
    e8(e, 0x83);
    e8(e, 0x04);
    e8(e, 0x24);
    e8(e, 5);
    e8(e, 0xc2);
    e8(e, 8);
    e8(e, 0);
    e_patch(e->rw, equal, e->at);
    leave_again(e, 16);
}

/* One instruction by the interpreter: stack [return][info]; R10 = guest RIP. Flags in hot.flags. */
static void make_insn(struct bt *bt, struct emit *e)
{
    bt->g_insn = e->at;
    e_gs_store(e, H_A, VOFF(hot.exit_info));
    store_guest(e);
    e_gs_load(e, RDI, VOFF(hot.self));
    e_gs_load(e, RSI, VOFF(hot.exit_info));
    e_mem(e, 0x8b, RDX, RSP, 8);
    to_c_stack(e);
    e_gs_call(e, VOFF(hot.fn_insn));
    uint32_t nonzero = test_rax(e, 5);

    e_gs_load(e, RSP, VOFF(hot.ras_rsp));
    load_guest(e);
    e8(e, 0xc2);
    e8(e, 8);
    e8(e, 0);
    e_patch(e->rw, nonzero, e->at);
    leave_again(e, 16);
}

/*
 * A RET came to where the last CALL was made and not to its own target, H_A: by the jump cache
 * then. H_B is its site, flags are in hot.flags. The CALL's entry is gone with that: a return
 * address changed on the stack, as retpolines do, leaves the callers' entries good. The bottom of
 * the stack comes here too and stays.
 */
static void make_ret_miss(struct bt *bt, struct emit *e, unsigned ctx)
{
    bt->g_ras_empty[ctx] = e->at;
    e_lea(e, RSP, RSP, REG_NONE, 0, -8, 8, 8);
    bt->g_ret_miss[ctx] = e->at;
    e_gs_store(e, H_B, VOFF(hot.tmp2));
    e_gs(e, 0x83, 7, VOFF(kicked), false); /* cmp dword gs:[kicked], 0 */
    e8(e, 0);
    uint32_t kicked = e_jcc(e, 5), miss = bt_jc_probe(e, ctx);

    bt_jc_go(e, ctx, false);
    e_patch(e->rw, kicked, e->at);
    e_patch(e->rw, miss, e->at);
    e_mov_imm(e, H_B, BTX_RET);
    e_jmp_to(e, bt->g_exit_slot);
}

void bt_glue_init(struct bt *bt)
{
    struct emit e = {.rw = bt->rw, .at = 0};

    make_enter(bt, &e);
    make_exits(bt, &e);
    make_mem(bt, &e);
    make_insn(bt, &e);
    for (unsigned ctx = 0; ctx < TLB_CTXS; ctx++)
        make_ret_miss(bt, &e, ctx);
    bt->start = (e.at + 63) & ~63u;
    bt->used = bt->start;
}
