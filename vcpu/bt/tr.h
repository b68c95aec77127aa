/*
 * Translating one block: the state that the translator's files share.
 *
 *   translate.c  gathers the block, computes flag liveness, drives
 *   tr_plan.c    what is accessed, as far as can be said
 *   tr_group.c   accesses checked against a window
 *   tr_page.c    accesses that share a look into the TLB
 *   tr_mem.c     effective addresses, the inline TLB probe, its cold path
 *   tr_insn.c    integer, vector and x87 instructions with their operands renamed
 *   tr_stack.c   stack instructions
 *   tr_flow.c    branches, block exits
 *   move.c       a block once more, at another address
 */
#ifndef VCPU_BT_TR_H
#define VCPU_BT_TR_H

#include "vcpu/bt/emit.h"

/* Where an access goes: [base + add], base a host register; or, base REG_NONE, the ModRM operand of
 * the instruction and add, with bits the word that a bit string instruction chooses. */
struct tr_linear {
    uint8_t base;
    bool bits, fixed; /* fixed: a constant, lin */
    uint8_t size;     /* bytes accessed there */
    int32_t add;
    uint64_t lin;
};

/* The out-of-line part of one TLB probe. */
struct cold {
    uint32_t jcc;  /* rel32 of the probe's ja */
    uint32_t hit;  /* where the probe goes on */
    uint32_t next; /* the next instruction */
    uint64_t rip;
    unsigned i;
    struct tr_linear lin;
    uint32_t info;
    bool restore; /* flags must be in EFLAGS at next */
    bool indexed; /* the access adds register index to H_A */
    uint8_t index;
};

/* An instruction done in the cache, or out of line by a callout should one of the jumps be taken.
 */
struct cold_rep {
    unsigned i, n;
    bool restore; /* flags must be in EFLAGS at next */
    bool end;     /* the block does not go on at next, whatever the instruction does */
    uint32_t jcc[3], next;
    unsigned nop; /* operands of a REP string instruction */
    struct {
        uint32_t miss[2], back; /* of the first window asked */
        uint8_t reg, kind;
    } op[2];
};

/* What the general registers and the bases of FS and GS hold: symbol + add (tr_group.c). */
struct tr_syms {
    uint8_t sym[NGPR + 2];
    int32_t add[NGPR + 2];
    uint8_t epoch; /* how many calls ago the block began */
};

/* Symbols 0 to 15 are the registers on entry, then the segment bases; new ones count on. */
enum { SYM_FS = NGPR, SYM_GS, SYM_NONE, SYM_NEW, SYM_LAST = 255 };
#define HELD_PAGE 0x100

/* An access of one instruction: symbolic address base + (index << scale) + off. */
struct tr_access {
    bool used, write, stack; /* stack: what RSP points to */
    uint8_t base, index, scale, size;
    uint8_t epoch;
    uint8_t group; /* 1 + index of the group that checks it; 0: the TLB does */
    int64_t off;
    int64_t disp; /* of the instruction; with the window's offset once in a group */
};

/* How the access at a RIP is best checked, as far as is known. HINT_OTHER: by the other window than
 * that which its base suggests, of the stack or not. */
enum bt_hint { HINT_NONE, HINT_OTHER, HINT_TLB };

/* Accesses checked by one comparison, in front of instruction at. */
struct tr_group {
    uint8_t base, index, scale, kind;
    bool stack, write, dead, done;
    uint8_t epoch;
    enum bt_hint hint;
    uint8_t members;
    uint8_t save;      /* 1 + index in hot.page for its host address, 0 none (tr_page.c) */
    bool kept;         /* it is there */
    uint8_t first, at; /* first: of its accesses */
    uint32_t miss;     /* rel32 of the comparison's jump */
    uint32_t back;     /* where it goes on */
    int64_t lo, hi;    /* of off */
};

/* An exit whose stub is still to come. */
struct pending {
    struct bt_link *link; /* NULL: indirect */
    uint32_t site;        /* rel32 to set to the stub */
    unsigned i;           /* indirect: the branch */
    uint32_t poll;        /* 1 + index in map of its poll, 0 none */
    bool saved, dead;     /* flags at the exit: in hot.flags; or nobody will read them */
    int32_t undo;         /* indirect */
};

#define RELOC_MAX 512

struct tr {
    struct vcpu *v;
    struct bt *bt;
    struct bt_block *b;
    struct emit e;
    unsigned mode; /* bt_mode() of the key */
    unsigned n;    /* instructions */
    unsigned i;    /* the one being translated */
    struct insn in[BT_MAX_INSNS];
    uint64_t rip[BT_MAX_INSNS + 1];
    uint16_t live[BT_MAX_INSNS + 1]; /* flags live before instruction i */
    uint16_t out[BT_MAX_INSNS + 1];  /* flags live where instruction i, if it does, leaves to */
    bool again[BT_MAX_INSNS];        /* a branch to the block's start, which is what follows here */
    struct opnd m;                   /* the operand being made, as the host sees it */
    enum { PLAN_NONE, PLAN_WINDOW, PLAN_PAGE } plan; /* what acc and group are for */
    struct tr_syms syms[BT_MAX_INSNS + 1];           /* before instruction i */
    struct tr_access acc[BT_MAX_INSNS][2]; /* the operand, or what is popped; what is pushed */
    struct tr_group group[2 * BT_MAX_INSNS];
    unsigned ngroup;
    unsigned nsaved; /* slots of hot.page in use */
    /* What H_A holds just now: a guest register without a host's, REG_NONE, or HELD_PAGE + n, the
     * host address of the start of group n - 1. */
    uint16_t held;
    int32_t sp;    /* what RSP is beyond H_SP just now */
    bool lag;      /* it may be, after this instruction */
    bool keep;     /* the instruction just emitted left H_A to held */
    bool saved;    /* the guest's flags are in hot.flags, EFLAGS is scratch */
    unsigned poll; /* 1 + index in map of the poll at the start, 0 none */
    unsigned sti;  /* 1 + index of an STI just translated */
    bool ended;    /* the last instruction has emitted its exits */
    struct cold cold[2 * BT_MAX_INSNS];
    unsigned ncold;
    struct cold_rep rep[BT_MAX_INSNS];
    unsigned nrep;
    struct bt_map map[3 * BT_MAX_INSNS];
    unsigned nmap;
    struct pending pend[BT_MAX_SIDES + 4];
    unsigned npend;
    struct {
        uint32_t site; /* rel32 to set to where value lies */
        uint64_t value;
    } lit[BT_MAX_SIDES + 4];
    unsigned nlit;
    bool fixed; /* not to be moved */
    uint32_t reloc[RELOC_MAX];
    unsigned nreloc;
};

/* Jump cache slots filled since they were last emptied, ctx << JC_BITS | slot; n beyond the array:
 * more than are listed. */
struct jc_list {
    uint32_t n, slot[16384];
};

/* Of a PCID that is not the current one: what it had in the jump cache (paging/tlb.h, tlb_kept). */
#define JC_KEPT 192
struct jc_kept {
    uint32_t n;
    uint64_t gen; /* bt's when it was kept */
    uint32_t slot[JC_KEPT];
    struct jc_entry entry[JC_KEPT];
};

/* The translator's own part of a vCPU. */
struct bt_vcpu {
    uint16_t jc_key[2];        /* but for the set, last used in the jump cache; [1]: the user's */
    struct jc_list jc_list[2]; /* of entries that a CR3 write drops; of global ones */
    uint8_t jc_pages[4096];    /* bitmap: hash of linear pages that have jump cache entries */
    struct pcids pcids;        /* those with a jc_kept */
    struct jc_kept jc_kept[PCIDS];
    bool low_globals;         /* the jump cache has had global entries of the lower half */
    _Atomic uint32_t running; /* in guest code, or on the way (world.c) */
    uint64_t win_len[TLB_CTXS][WIN_KINDS];  /* 0: not in use */
    uint64_t win_page[TLB_CTXS][WIN_KINDS]; /* largest page a window is made of */
    bool win_global[TLB_CTXS][WIN_KINDS];
    unsigned win_wait, win_attempts;
    int win_timer;            /* the host's, -1 none */
    gva_t win_last[TLB_CTXS]; /* refilled last, beyond the stack */
    _Atomic bool win_tick;
    uint8_t heat[BT_HEAT_SIZE]; /* by hash of RIP: how often it was come to, up to BT_HOT */
    bool win_redo;              /* a window was dropped */
    unsigned win_budget;
    _Alignas(64) uint8_t bounce[128]; /* of a read that crosses pages (run.c) */
    uint8_t *ras;                     /* mapping of the return stack, a guard page first */
    uint64_t ras_gen, ras_flushes;
    uint16_t ras_key;
    enum step last_step; /* of the interpreter, when a callout left the cache for it */
    struct tr tr;        /* the block being translated */
};

static inline unsigned tr_ctx(const struct tr *t)
{
    return t->b->key & KEY_CTX;
}

/* Are general registers 8 bytes wide? */
static inline bool tr_wide(const struct tr *t)
{
    return t->mode == 8;
}

/* Are the addresses of a string instruction the registers as they are? */
static inline bool tr_flat_string(const struct insn *in)
{
    return in->addrsize == in->mode && in->seg != SEG_FS && in->seg != SEG_GS && in->seg != SEG_CS;
}

/* Linear addresses and RIP wrap where the mode has it. */
static inline uint64_t tr_wrap(const struct tr *t, uint64_t a)
{
    return tr_wide(t) ? a : (uint32_t)a;
}

/* Where the direct branch i goes to if it is taken. */
static inline uint64_t tr_target(const struct tr *t, unsigned i)
{
    return tr_wrap(t, t->rip[i] + t->in[i].len + t->in[i].imm);
}

/* Is the memory operand, if there is one, for the interpreter? In 32-bit code with 16-bit
 * addresses, or through CS, which is not to be written to. */
static inline bool tr_odd_operand(const struct insn *in)
{
    return in->mode == 4 && in->has_mem && (in->addrsize != 4 || in->seg == SEG_CS);
}

/* --- flags (translate.c) --- */
/* EFLAGS is about to be clobbered: put live flags away. */
void tr_flags_clobber(struct tr *t);
/* Instruction i is about to run: EFLAGS must hold what it reads or leaves alone. Afterwards the
 * state is what the instruction leaves. h_b: that register is free. */
void tr_flags_use(struct tr *t, bool h_b);
/* Record that the host code here belongs to instruction i; returns the entry. */
struct bt_map *tr_mark(struct tr *t);

/* What ends here, of the size that kind has, depends on RIP or on where the block lies. */
void tr_reloc(struct tr *t, enum bt_reloc kind);
/* reg = addr, an address that moves with the block. */
void tr_mov_addr(struct tr *t, unsigned reg, uint64_t addr);
/* jmp, call to the glue */
void tr_jmp_glue(struct tr *t, uint32_t target);
void tr_call_glue(struct tr *t, uint32_t target);

/* --- tr_plan.c --- */
void tr_plan(struct tr *t);
/* Is access k of instruction i in a group? */
bool tr_grouped(const struct tr *t, unsigned i, unsigned k);

/* --- tr_page.c --- */
void tr_plan_pages(struct tr *t);
/* Of access k of i, which is in a group: does H_A hold the group's address? Then t->m is the
 * access. *adjust: from its address to that of the group. */
bool tr_page_held(struct tr *t, unsigned k, int32_t *adjust);
/* l is the group's linear address: look for all of it in the TLB; t->m is the access. */
void tr_page_probe(struct tr *t, unsigned k, struct tr_linear l, uint32_t more);

/* --- tr_group.c --- */
void tr_plan_windows(struct tr *t);
/* Is there any window for the block? */
bool tr_windows(const struct tr *t);
/* What is added to a linear address in window kind to make it a host address; false: there is no
 * such window. */
bool tr_window_bias(const struct tr *t, unsigned kind, int64_t *bias);
/* The comparisons that belong in front of instruction i. */
void tr_checks(struct tr *t);
/* Does every way from the start to the branch at i pass a comparison? Then it polls (window.c). */
bool tr_checks_by(const struct tr *t, unsigned i);
/* Likewise when n instructions from i on are emitted as one. */
void tr_checks_run(struct tr *t, unsigned n);
void tr_misses(struct tr *t);
/* Access k of i is [base + its displacement], base a host register, and checked: t->m is it. */
bool tr_window_simple(struct tr *t, unsigned k, unsigned base);
/* The ModRM operand of i is checked; */
bool tr_window_operand(const struct tr *t);
/* and this makes t->m of it, loading what it needs into H_A (and, on the way, H_B). */
void tr_window_registers(struct tr *t);
/* What that leaves in H_A: a guest register, REG_NONE when it does not touch it, else BASE_RIP. */
unsigned tr_window_h_a(const struct tr *t);

/* --- tr_mem.c --- */
/* H_A = base of a segment. */
void tr_segment_base(struct tr *t, unsigned seg);
/* Access k of i, [base + disp], base a host register: checked by window or TLB; t->m is it. */
void tr_access(struct tr *t, unsigned k, unsigned base, int32_t disp, unsigned size, bool write,
               uint32_t more);
/* The ModRM operand of i by the TLB: t->m is in [H_A], or in [H_A + a guest register's]. Clobbers
 * H_B and EFLAGS. */
void tr_operand(struct tr *t, bool write, unsigned size, uint32_t more);
/* H_A = host address of l, which is t->m; clobbers H_B and EFLAGS. */
void tr_probe(struct tr *t, struct tr_linear l, bool write, unsigned size, uint32_t more);
/* H_B = where in its table the TLB entry of the linear address in reg lies. */
void tr_tlb_index(struct tr *t, unsigned reg);
void tr_cold_all(struct tr *t);
/* Where guest register r is: its host register, H_A if that holds it, or scratch h after loading it
 * there. */
unsigned tr_use(struct tr *t, unsigned r, unsigned h);
static inline bool tr_spilled(unsigned r)
{
    return r == R10 || r == R11 || r == R15;
}

/* --- jumpcache.c, what is emitted --- */
/* Look H_A up in the jump cache; returns the rel32 taken when it is not there. H_B is its index. */
uint32_t bt_jc_probe(struct emit *e, unsigned ctx);
/* Then: jump there, or call. */
void bt_jc_go(struct emit *e, unsigned ctx, bool call);

/* --- ras.c --- */
#define RAS_SIZE (16 * PAGE_SIZE) /* after a guard page */
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
enum bt_hint bt_window_hint(const struct bt *bt, uint64_t rip);
/* The first of several accesses, at rip, could not be had together with the others, in a callout.
 */
void bt_page_missed(struct vcpu *v, uint64_t rip, gva_t lin);
/* A kick was taken: the windows it closed are good again. */
void bt_window_open(struct vcpu *v);
/* A group was not in its window, off bytes beyond its start. False: it was, but for a kick. */
bool bt_window_missed(struct vcpu *v, struct bt_miss *m, uint64_t off);

/* --- tr_insn.c --- */
/* An instruction of 32-bit code that the host has by another opcode. */
void tr_as64(struct insn *in);
void tr_operate(struct tr *t); /* IC_ALU, IC_VEC, IC_X87, IC_MOFFS */
bool tr_system(struct tr *t);  /* IC_SYS done inline (tr_sys.c); false: not one of those */
void tr_pushf(struct tr *t);
bool tr_string(struct tr *t); /* likewise, of IC_STRING (tr_string.c) */
/* A new one for instruction i, with the flags put away; NULL: no more in this block. */
struct cold_rep *tr_cold_rep(struct tr *t);
void tr_cold_reps(struct tr *t);
void tr_callout(struct tr *t); /* anything, by the interpreter, within the block */
/* The same, with the flags put away already; more: of info. */
void tr_callout_at(struct tr *t, uint32_t more);

/* --- tr_stack.c --- */
void tr_stack(struct tr *t);
/* The 8 bytes of i's memory operand into hot.tmp. */
void tr_load_operand(struct tr *t, uint32_t more);
void tr_store_imm32(struct tr *t, uint64_t imm); /* to t->m */
/* Instruction i comes: is H_SP to have caught up, or to lag? True: it does nothing but move RSP,
 * and is done. */
bool tr_sp_follow(struct tr *t);
/* RSP += add, perhaps not yet in H_SP. */
void tr_sp_add(struct tr *t, int32_t add);
/* H_SP = RSP. Flags stay as they are. */
void tr_sp_settle(struct tr *t);
/* t->m = the slot that a push of 8 bytes writes; then RSP. */
void tr_push_slot(struct tr *t, uint32_t more);
void tr_push_done(struct tr *t);

/* --- tr_flow.c --- */
void tr_branch(struct tr *t);
void tr_exit_direct(struct tr *t, uint64_t target);
/* At the start of the block: the poll of a kick, if it may close a loop. */
void tr_poll_start(struct tr *t);
/* After the instruction that follows STI: go on at target, but look at what waits for IF first. */
void tr_exit_sti(struct tr *t, uint64_t target);
void tr_exit_interp(struct tr *t, uint64_t rip);
void tr_stubs(struct tr *t);
/* Does the instruction end a straight run of code? */
bool tr_ends(const struct insn *in);
bool tr_is_jcc(const struct insn *in);

#endif
