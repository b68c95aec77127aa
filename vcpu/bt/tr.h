/*
 * Translating one block: the state that the translator's files share.
 *
 *   translate.c  gathers the block, computes flag liveness, drives
 *   tr_mem.c     effective addresses, the inline TLB probe, its cold path
 *   tr_insn.c    integer, vector and x87 instructions with their operands renamed
 *   tr_flow.c    stack instructions, branches, block exits
 */
#ifndef VCPU_BT_TR_H
#define VCPU_BT_TR_H

#include "vcpu/bt/emit.h"

/* The out-of-line part of one TLB probe. */
struct cold {
    uint32_t jcc;  /* rel32 of the probe's ja */
    uint32_t hit;  /* where the probe goes on */
    uint32_t next; /* the next instruction */
    uint64_t rip;
    uint64_t lin; /* fixed address, when fixed */
    uint32_t info;
    int32_t tag_off; /* of the set's tags, from GS */
    bool fixed;
    const struct bt_window *win; /* of the probe, or NULL */
    int32_t miss;                /* of win's counter, from hot.win_miss */
    bool restore;                /* flags must be in EFLAGS at next */
};

/* An exit whose stub is still to come. */
struct pending {
    struct bt_link *link; /* NULL: indirect */
    uint32_t site;        /* rel32 to set to the stub */
    uint32_t poll;        /* 1 + index in map of its poll, 0 none */
    bool saved, dead;     /* flags at the exit: in hot.flags; or nobody will read them */
    int32_t undo;         /* indirect */
    enum { BR_JUMP, BR_CALL, BR_RET } how; /* indirect */
};

struct tr {
    struct vcpu *v;
    struct bt *bt;
    struct bt_block *b;
    struct emit e;
    unsigned n; /* instructions */
    unsigned i; /* the one being translated */
    struct insn in[BT_MAX_INSNS];
    uint64_t rip[BT_MAX_INSNS + 1];
    uint16_t live[BT_MAX_INSNS + 1]; /* flags live before instruction i */
    const struct bt_window *win;     /* for the address being made: H_A will count from win->lo */
    unsigned kind;                   /* of win: enum win_kind */
    int32_t disp;                    /* of the host address from H_A after a probe */
    bool saved;                      /* the guest's flags are in hot.flags, EFLAGS is scratch */
    unsigned sti;                    /* 1 + index of an STI just translated */
    bool ended;                      /* the last instruction has emitted its exits */
    struct cold cold[2 * BT_MAX_INSNS];
    unsigned ncold;
    struct bt_map map[3 * BT_MAX_INSNS];
    unsigned nmap;
    struct pending pend[3];
    unsigned npend;
};

/* Jump cache slots filled since they were last emptied, ctx << JC_BITS | slot; n beyond the array:
 * more than are listed. */
struct jc_list {
    uint32_t n, slot[4096];
};

/* The translator's own part of a vCPU. */
struct bt_vcpu {
    uint8_t ctx_key[TLB_CTXS]; /* key last used in each set of the jump cache */
    struct jc_list jc_list[2]; /* of entries that a CR3 write drops; of global ones */
    uint8_t jc_pages[4096];    /* bitmap: hash of linear pages that have jump cache entries */
    _Atomic uint32_t running;  /* in guest code, or on the way (world.c) */
    uint64_t win_len[TLB_CTXS][WIN_KINDS];  /* 0: not in use */
    uint64_t win_page[TLB_CTXS][WIN_KINDS]; /* largest page a window is made of */
    bool win_global[TLB_CTXS][WIN_KINDS];
    uint64_t win_missed[TLB_CTXS][WIN_KINDS],
        win_checked; /* hot.win_miss and TSC, last looked at */
    unsigned win_wait, win_attempts;
    int win_timer;            /* the host's, -1 none */
    gva_t win_last[TLB_CTXS]; /* refilled last, beyond the stack */
    _Atomic bool win_tick;
    uint8_t heat[BT_HEAT_SIZE]; /* by hash of RIP: how often it was come to, up to BT_HOT */
    bool win_redo;              /* a window was dropped */
    unsigned win_budget;
    uint8_t *ras; /* mapping of the return stack, a guard page first */
    uint64_t ras_gen, ras_flushes;
    uint8_t ras_key;
    enum step last_step; /* of the interpreter, when a callout left the cache for it */
    struct tr tr;        /* the block being translated */
};

static inline unsigned tr_ctx(const struct tr *t)
{
    return t->b->key & KEY_CTX;
}

/* --- flags (translate.c) --- */
/* EFLAGS is about to be clobbered: put live flags away. */
void tr_flags_clobber(struct tr *t);
/* Instruction i is about to run: EFLAGS must hold what it reads or leaves alone. Afterwards the
 * state is what the instruction leaves. */
void tr_flags_use(struct tr *t);
/* Record that the host code here belongs to instruction i; returns the entry. */
struct bt_map *tr_mark(struct tr *t);

/* --- tr_mem.c --- */
/* Choose how the next operand is checked; before its address is made. */
void tr_choose(struct tr *t, bool write, unsigned base);
/* H_A = base + disp, linear (less the window's start): stack slots. */
void tr_stack_address(struct tr *t, unsigned base, int32_t disp);
/* Linear address of i's memory operand into H_A; *fixed true when it is a constant, in *lin. May
 * use H_B. */
void tr_address(struct tr *t, bool *fixed, uint64_t *lin);
/* H_A linear -> H_A + t->disp host; clobbers H_B and EFLAGS. */
void tr_probe(struct tr *t, bool write, unsigned size, bool fixed, uint64_t lin, uint32_t more);
void tr_cold_all(struct tr *t);
/* Where guest register r is: its host register, or scratch h after loading it there. */
unsigned tr_use(struct tr *t, unsigned r, unsigned h);
static inline bool tr_spilled(unsigned r)
{
    return r == R10 || r == R11 || r == R15;
}

/* --- ras.c --- */
int bt_ras_init(struct vcpu *v);
void bt_ras_fini(struct vcpu *v);
/* About to enter the cache: forget the return stack if what it was made under has changed. */
void bt_ras_settle(struct vcpu *v);

/* --- window.c --- */
unsigned bt_window_class(unsigned size);
/* The TLB was refilled for lin: perhaps a window would have saved it; bt_window_tick() will see.
 * Within a callout. */
void bt_window_refill(struct vcpu *v, gva_t lin, unsigned ctx);
/* On the vCPU's own thread: have bt_window_tick() called soon, then now and then. 0 or -errno. */
int bt_window_timer(struct vcpu *v);
void bt_window_untimer(struct vcpu *v);
void bt_window_tick(struct vcpu *v);
/* Mappings changed: the windows dropped for it may be as they were. At the top of the run loop. */
void bt_window_redo(struct vcpu *v);
void bt_window_drop(struct vcpu *v, bool global_too);
void bt_window_drop_page(struct vcpu *v, gva_t lin);
/* A page now holds translated code. The world stands still. */
void bt_window_traced(struct vm_cpus *vm, gpa_t page);

/* --- tr_insn.c --- */
void tr_operate(struct tr *t); /* IC_ALU, IC_VEC, IC_X87, IC_MOFFS */
bool tr_system(struct tr *t);  /* IC_SYS done inline (tr_sys.c); false: not one of those */
void tr_pushf(struct tr *t);
bool tr_string(struct tr *t);  /* likewise, of IC_STRING (tr_string.c) */
void tr_callout(struct tr *t); /* anything, by the interpreter, within the block */

/* --- tr_flow.c --- */
void tr_stack(struct tr *t);
void tr_branch(struct tr *t);
void tr_exit_direct(struct tr *t, uint64_t target, bool poll);
/* After the instruction that follows STI: go on at target, but look at what waits for IF first. */
void tr_exit_sti(struct tr *t, uint64_t target);
/* H_A = host address of the slot that a push of 8 bytes writes; then RSP. */
void tr_push_slot(struct tr *t, uint32_t more);
void tr_push_done(struct tr *t);
void tr_exit_interp(struct tr *t, uint64_t rip);
void tr_stubs(struct tr *t);
/* Does the instruction end a block? */
bool tr_ends(const struct insn *in);

#endif
