/*
 * The translator as an engine: the loop between blocks, host faults.
 */
#include "vcpu/engine.h"

#include <errno.h>
#include <sys/mman.h>
#include "vcpu/bt/glue.h"
#include "vcpu/bt/tr.h"
#include "vcpu/bt/world.h"

unsigned bt_debug;
uint64_t bt_cache_size = BT_CACHE_DEFAULT;

/* --- host faults in translated code --- */

/* Is what lies at off the CALL of a callout, after the PUSH of its argument? */
static bool is_callout(const struct bt *bt, uint32_t off)
{
    const uint8_t *p = bt->rw + off;
    uint32_t rel;

    __builtin_memcpy(&rel, p + 1, 4);
    return *p == 0xe8 && (off + 5 + rel == bt->g_mem || off + 5 + rel == bt->g_insn);
}

static uintptr_t host_fault(struct vcpu *v, uintptr_t pc, unsigned trapno, uintptr_t addr,
                            void *ctx)
{
    struct bt *bt = v->vm->bt;
    uint32_t off = (uint32_t)(pc - (uintptr_t)bt->rx);
    const struct bt_block *b = bt_block_at(bt, off);
    const struct bt_map *m = NULL;

    if (!b)
        return 0;
    if (trapno == VEC_PF && addr - (uintptr_t)v->bt->ras < PAGE_SIZE) {
        /* The return stack is full: start it anew, at the same push; a callout's CALL (glue.c) has
         * another before it. */
        hostfault_set_gpr(ctx, RSP, v->hot.ras_base);
        return is_callout(bt, off) ? pc - 5 : pc;
    }
    for (unsigned k = 0; k < b->nmap && b->map[k].host <= off - b->code; k++)
        m = &b->map[k];
    if (!m)
        return 0;
    if (trapno == VEC_PF) {
        if (!m->poll || m->host != off - b->code || addr >= PAGE_SIZE)
            return 0;
        v->stats.bt_polls++;
        atomic_store(&v->kicked,
                     1); /* after STI it is no kick that waits, but look_up() must look */
        return (uintptr_t)bt->rx + m->stub;
    }
    hostfault_set_gpr(ctx, R10, b->rip + m->guest);
    hostfault_set_gpr(ctx, R11, BTX_FAULT);
    return (uintptr_t)bt->rx + (m->saved ? bt->g_exit_slot : bt->g_exit_live);
}

/* --- the engine --- */

static int vm_init(struct vm_cpus *vm, const char **what)
{
    static struct bt the_bt;
    struct bt *bt = &the_bt;

    *bt = (struct bt){.ram = vm->ram, .vm = vm};
    *what = "memory for code (memfd_create)";
    int err = hostexec_init();

    if (err)
        return err;
    *what = "the code cache";
    err = bt_cache_init(bt);
    if (err)
        return err;
    bt_glue_init(bt);
    hostfault_register(bt->rx, bt->code_size, host_fault);
    vm->bt = bt;
    vm->ram->code_written = bt_code_written;
    vm->ram->opaque = bt;
    return 0;
}

static void vm_fini(struct vm_cpus *vm)
{
    vm->ram->code_written = NULL;
    bt_cache_fini(vm->bt);
    vm->bt = NULL;
}

static int vcpu_init(struct vcpu *v, const char **what)
{
    *what = "the translator's tables";
    v->bt = mmap(NULL, sizeof(*v->bt), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (v->bt == MAP_FAILED) {
        v->bt = NULL;
        return -ENOMEM;
    }
    v->hot.self = (uintptr_t)v;
    v->hot.sti_ptr = (uintptr_t)&v->poll_word;
    v->hot.fn_mem = (uintptr_t)bt_callout_mem;
    v->hot.fn_insn = (uintptr_t)bt_callout_insn;
    atomic_store(&v->poll_ptr, &v->poll_word);
    tlb_init(&v->tlb);
    bt_jc_flush(v);
    /* What the guest is offered the host has. */
    v->vm->bt->bmi2 = v->vm->cpuid && cpuid_has(v->vm->cpuid, 7, 0, 1, 8);
    *what = "the return stack";
    if (bt_ras_init(v))
        return -ENOMEM;
    *what = "timer_create";
    int err = bt_window_timer(v);

    if (err)
        return err;
    *what = "hostfault_thread_init";
    return hostfault_thread_init(v);
}

static void vcpu_fini(struct vcpu *v)
{
    bt_window_untimer(v);
    bt_ras_fini(v);
    munmap(v->bt, sizeof(*v->bt));
    v->bt = NULL;
}

/* Bits of the key beside the set must be one per set of the jump cache; the supervisor's two are
 * one here, for STAC and CLAC go from one to the other without coming by. */
static uint16_t *jc_key(const struct vcpu *v, uint16_t key)
{
    return &v->bt->jc_key[(key & KEY_CTX) == TLB_USER];
}

static void settle_key(struct vcpu *v, uint16_t key)
{
    uint16_t *last = jc_key(v, key);

    key &= (uint16_t)~KEY_CTX;
    if (*last != key) {
        *last = key;
        bt_jc_flush(v);
    }
}

/* Where cpu.rip's code lies, with its pages traced. 0; 1: interpret; CPU_FAULT: deliver cpu.exc. */
struct where {
    gpa_t gpa;
    bool global;
};

static int locate(struct vcpu *v, struct where *w)
{
    struct bt *bt = v->vm->bt;

    if (!canonical(v->cpu.rip))
        return cpu_gp0(&v->cpu);
    /* At the end of the 4 GiB what runs on wraps. */
    if (v->cpu.rip >= UINT32_MAX - PAGE_SIZE + 1 && !cpu_code64(&v->cpu))
        return 1;
    if (mem_translate_fetch(v, v->cpu.rip, &w->gpa, &w->global))
        return CPU_FAULT;
    if (!ram_has(v->vm->ram, w->gpa & PAGE_MASK, PAGE_SIZE))
        return 1;
    if (!bt_cache_room(bt) || atomic_load_explicit(&bt->flush_wanted, memory_order_relaxed)) {
        bt_world_stop(v);
        bt_lock(bt);
        bt_cache_flush(bt);
        atomic_store(&bt->flush_wanted, false);
        for (unsigned i = 0; i < v->vm->nvcpu; i++)
            if (v->vm->vcpu[i]->bt) /* its thread has begun */
                bt_jc_flush(v->vm->vcpu[i]);
        bt_unlock(bt);
        bt_world_start(v);
        v->stats.bt_flushes++;
    }
    bt_trace_page(v, w->gpa);
    /* The first instruction may straddle: its second page must be traced too before it is read, and
     * later bt->lock is held. */
    gpa_t gpa2;
    bool global2;

    if ((v->cpu.rip & (PAGE_SIZE - 1)) > PAGE_SIZE - INSN_MAX &&
        mem_translate_fetch(v, (v->cpu.rip & PAGE_MASK) + PAGE_SIZE, &gpa2, &global2) == CPU_OK &&
        ram_has(v->vm->ram, gpa2 & PAGE_MASK, PAGE_SIZE))
        bt_trace_page(v, gpa2);
    return 0;
}

/* For a block whose last instruction straddles: is its second page still the one mapped there? */
static int straddle(struct vcpu *v, const struct bt_block *b, struct where *w)
{
    gpa_t gpa2;
    bool global2;

    if (b->page2 == ~(gpa_t)0)
        return 0;
    if (mem_translate_fetch(v, (b->rip & PAGE_MASK) + PAGE_SIZE, &gpa2, &global2))
        return CPU_FAULT;
    w->global = w->global && global2;
    return (gpa2 & PAGE_MASK) == b->page2 ? 0 : 1;
}

static struct bt_block *translate(struct vcpu *v, gpa_t gpa, uint16_t key, bool *fault)
{
    uint64_t t0 = vcpu_tsc(v);
    struct bt_block *b = bt_translate(v, gpa, key, fault);

    v->stats.bt_translate_ns += (vcpu_tsc(v) - t0) * 1000 / (v->vm->tsc_hz / 1000000);
    return b;
}

/* The block at cpu.rip, translated if need be; bt->lock is held. NULL: interpret, or (*fault)
 * deliver cpu.exc. */
static struct bt_block *block_here(struct vcpu *v, struct where *w, bool plain, bool *fault)
{
    struct bt *bt = v->vm->bt;
    uint16_t key = bt_key(v);
    struct bt_block *b;
    int r;

    v->stats.bt_lookups++;
    settle_key(v, key);
    if (plain)
        key |= KEY_PLAIN;
    b = bt_block_find(bt, w->gpa, v->cpu.rip, key);
    if (!b)
        b = bt_move(v, w->gpa, v->cpu.rip, key);
    if (!b)
        b = translate(v, w->gpa, key, fault);
    if (!b)
        return NULL;
    b->asked = ++bt->asked;
    r = straddle(v, b, w);
    if (r > 0) {
        bt_block_kill(bt, b);
        v->stats.bt_retranslations++;
        b = translate(v, w->gpa, key, fault);
        r = b ? straddle(v, b, w) : 1;
    }
    *fault = *fault || r < 0;
    return r ? NULL : b;
}

/* The RET at cache offset hot.tmp2 went to a non-canonical address. */
static void undo_ret(struct vcpu *v)
{
    const struct bt_block *b = bt_block_at(v->vm->bt, (uint32_t)v->hot.tmp2);

    for (unsigned k = 0; b && k < b->nmap; k++)
        if (b->code + b->map[k].host == (uint32_t)v->hot.tmp2) {
            v->cpu.gpr[RSP] -= b->map[k].stub;
            v->cpu.rip = b->rip + b->map[k].guest;
        }
    cpu_gp0(&v->cpu);
}

/* The branch at hot.tmp2 went to a non-canonical address: it faults itself (SDM 2A JMP, CALL, RET).
 */
static void undo_branch(struct vcpu *v, uint64_t info)
{
    v->cpu.gpr[RSP] += (uint64_t)BTX_GET_UNDO(info);
    v->cpu.rip = v->hot.tmp2;
    cpu_gp0(&v->cpu);
}

static void link_up(struct vcpu *v, struct bt_link *l, struct bt_block *b, bool global)
{
    /* The same linear page, seen in another frame since: that mapping may go without a word. */
    bool near =
        !l->cross_page && b->page2 == ~(gpa_t)0 && (l->from->gpa ^ b->gpa) >> PAGE_SHIFT == 0;

    if (l->to || (bt_debug & BT_DBG_NO_CHAIN))
        return;
    /* Across pages only where the target's mapping outlives CR3 changes; jumpcache.c undoes these
     * links whenever such a mapping may have changed. */
    if (!near && !(global && b->rip >> 63 && (b->key & KEY_CTX) != TLB_USER))
        return;
    l->cross_page = !near;
    bt_link_to(v->vm->bt, l, b);
    v->stats.bt_chains++;
}

/* Leave run(): struct cpu whole. */
static enum exit_reason out(struct vcpu *v, enum exit_reason r)
{
    fpu_put(v);
    bt_world_leave(v);
    v->exit.reason = r;
    return r;
}

/* The outcome of an interpreter step: goes on, or leaves run(). */
static bool step_leaves(struct vcpu *v, enum step s, enum exit_reason *r)
{
    if (s != STEP_EXIT)
        return false;
    *r = v->exit.reason;
    return true;
}

/* Enter translated code at a block's entry_slot; returns the exit information. */
static uint64_t enter(struct vcpu *v, uint64_t code)
{
    struct bt *bt = v->vm->bt;

    bt_flags_in(v);
    fpu_take(v);
    bt_ras_settle(v);
    if (!cpu_code64(&v->cpu))
        bt_settle32(v);
    ((void (*)(uint64_t))(uintptr_t)(bt->rx + bt->g_enter))(code);
    uint64_t info = v->hot.exit_info;

    if (info != BTX_AGAIN)
        bt_flags_out(v);
    return info;
}

/* Instead of a code address: interpret up to the next branch. */
#define COLD 1u

/* What the jump cache has for cpu.rip, as translated code would find it; 0: nothing. */
static uint64_t cached_code(const struct vcpu *v)
{
    uint16_t key = bt_key(v);
    const struct jc_entry *e = &v->jc[key & KEY_CTX][jc_slot(v->cpu.rip)];

    return e->rip == v->cpu.rip && *jc_key(v, key) == (key & ~KEY_CTX) ? e->code : 0;
}

/* Most code of a boot runs once or twice: translating that costs more than interpreting it. Counts
 * how often RIP was come to; collisions only make a block seem warmer than it is. */
static bool is_cold(struct vcpu *v)
{
    uint64_t rip = v->cpu.rip;
    uint8_t *heat = &v->bt->heat[(rip >> 1 ^ rip >> 14) & (BT_HEAT_SIZE - 1)];

    unsigned hot = v->stats.bt_cold_runs < BT_EARLY_RUNS ? BT_HOT_EARLY : BT_HOT;

    if (*heat >= hot || (bt_debug & BT_DBG_EAGER))
        return false;
    if (bt_known(v)) {
        *heat = (uint8_t)hot;
        return false;
    }
    ++*heat;
    return true;
}

/* Interpret from cpu.rip to the next branch, or so. True: leave run() with *r. */
static bool interpret_run(struct vcpu *v, enum exit_reason *r)
{
    v->stats.bt_cold_runs++;
    v->cold = true; /* to keep what is decoded costs more than it saves, even at 12 runs */
    enum step s = interp_run(v, BT_MAX_INSNS);

    v->cold = false;
    return step_leaves(v, s, r);
}

/* The code to enter next, linked from where we came; plain: without windows. 0: interpret, or
 * (*fault) deliver; COLD. */
static uint64_t next_code(struct vcpu *v, struct bt_link *link, uint64_t link_gen, bool plain,
                          bool *fault)
{
    struct bt *bt = v->vm->bt;
    struct where w;

    if (!plain && is_cold(v))
        return COLD;
    uint64_t code = link || plain || atomic_load_explicit(&bt->flush_wanted, memory_order_relaxed)
                        ? 0
                        : cached_code(v);

    if (code)
        return code;
    int r = locate(v, &w);

    *fault = r < 0;
    if (r)
        return 0;
    bt_lock(bt);
    /* A write may have freed the page of its last block, and of its trace, just now. */
    while (!(v->vm->ram->attr[w.gpa >> PAGE_SHIFT] & RAM_ATTR_CODE)) {
        bt_unlock(bt);
        bt_trace_page(v, w.gpa);
        bt_lock(bt);
    }
    /* Others may have used up the room while the lock was waited for: interpreted once, then
     * locate() makes room. */
    struct bt_block *b = bt_cache_room(bt) ? block_here(v, &w, plain, fault) : NULL;

    if (b && link && link_gen == bt->gen)
        link_up(v, link, b, w.global);
    if (b && !plain && !(bt_debug & BT_DBG_NO_CHAIN))
        bt_jc_fill(v, b->rip, b, w.global);
    bt_unlock(bt);
    return b ? (uintptr_t)bt->rx + b->entry_slot : 0;
}

/* Take note of kicks and interrupts. 0 go on; 1 go on somewhere else; CPU_FAULT leave with *r. */
static int look_up(struct vcpu *v, bool look, enum exit_reason *r)
{
    int n = 0;
    /* First: a kick that is to stop the world must not be taken between the look at that and the
     * way into the cache. */
    bool kicked = vcpu_take_kick(v);

    bt_world_enter(v);
    if (kicked) {
        bt_window_open(v);
        if (vcpu_must_leave(v, r))
            return CPU_FAULT;
        look = true;
        if (atomic_load_explicit(&v->bt->win_tick, memory_order_relaxed))
            bt_window_tick(v);
    }
    if (v->bt->win_redo)
        bt_window_redo(v);
    if (look && !vcpu_holds_irqs(v)) {
        n = vcpu_inject(v);
        /* Something waits for IF: the next STI must notice. */
        v->hot.sti_ptr = bt_irq_masked(v) ? 0 : (uintptr_t)&v->poll_word;
    }
    *r = n < 0 ? v->exit.reason : EXIT_HLT;
    return n < 0 || v->cpu.halted ? CPU_FAULT : n;
}

/* Deliver cpu.exc; true: it ends the run, with *r. */
static bool cannot_deliver(struct vcpu *v, enum exit_reason *r)
{
    if (cpu_deliver_exception(v) == CPU_OK)
        return false;
    *r = v->exit.reason;
    return true;
}

/* What a return from translated code asks for. True: leave run() with *r. *look: an interrupt may
 * have become deliverable. */
static bool after(struct vcpu *v, uint64_t info, bool *look, enum exit_reason *r)
{
    int err;

    *look = true;
    switch (BTX_KIND(info)) {
    case BTX_SYSCALL:
    case BTX_SYSRET:
    case BTX_IRET:
        err = BTX_KIND(info) == BTX_SYSCALL  ? cpu_syscall(v, v->cpu.rip + 2)
              : BTX_KIND(info) == BTX_SYSRET ? cpu_sysret(v, 8)
                                             : cpu_iret(v, bt_mode(bt_key(v)));
        /* Only what waited for IF, or an NMI for IRET, can have become deliverable. */
        *look = v->hot.sti_ptr == 0 || v->cpu.nmi_pending;
        return err && cannot_deliver(v, r);
    case BTX_JUMP:
    case BTX_RET:
        *look = false;
        v->stats.bt_jc_misses++;
        if (canonical(v->cpu.rip))
            return false;
        if (BTX_KIND(info) == BTX_RET)
            undo_ret(v);
        else
            undo_branch(v, info);
        return cannot_deliver(v, r);
    case BTX_POLL:
        *look = false;
        return false;
    case BTX_AGAIN:
        return step_leaves(v, v->bt->last_step, r);
    default: /* BTX_INTERP, BTX_FAULT */
        v->stats.bt_fallbacks++;
        return step_leaves(v, interp_step(v), r);
    }
}

static enum exit_reason run(struct vcpu *v)
{
    struct bt_link *link = NULL;
    uint64_t link_gen = 0, info;
    bool look = true, plain = false, fault;
    enum exit_reason r;

    for (;;) {
        int n = look_up(v, look, &r);

        if (n < 0)
            return out(v, r);
        if (n)
            link = NULL;
        look = false;
        fault = false;
        uint64_t code = bt_wants_interp(v) ? 0 : next_code(v, link, link_gen, plain && !n, &fault);

        link = NULL;
        plain = false;
        if (fault) {
            if (cannot_deliver(v, &r))
                return out(v, r);
            continue;
        }
        if (code == COLD) {
            if (interpret_run(v, &r))
                return out(v, r);
            look = true;
            continue;
        }
        if (!code) {
            v->stats.bt_fallbacks++;
            /* What is neither 64-bit nor flat code goes on being interpreted. */
            bool other = !cpu_code64(&v->cpu) && !bt_flat32(&v->cpu);

            if (step_leaves(v, other ? interp_on(v) : interp_step(v), &r))
                return out(v, r);
            look = true;
            continue;
        }
        link_gen = __atomic_load_n(&v->vm->bt->gen, __ATOMIC_RELAXED);
        info = enter(v, code);
        if (info > UINT32_MAX && (info & BTX_MISS_TAG)) {
            plain = bt_window_missed(
                v, (struct bt_miss *)(uintptr_t)(info & ~(uint64_t)BTX_MISS_TAG), v->hot.tmp2);
            continue;
        }
        if (info > UINT32_MAX) {
            link = (struct bt_link *)(uintptr_t)info;
            continue;
        }
        if (after(v, info, &look, &r))
            return out(v, r);
    }
}

const struct engine engine_bt = {
    .name = "bt",
    .vm_init = vm_init,
    .vm_fini = vm_fini,
    .vcpu_init = vcpu_init,
    .vcpu_fini = vcpu_fini,
    .run = run,
};
