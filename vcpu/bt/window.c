/*
 * Linear windows: stretches of guest-linear space that the guest's page tables map with one offset
 * and uniform rights, so that an access needs one comparison instead of a TLB probe. A unikernel's
 * identity map is the case in point; it is taken where the host address of linear x is x plus a
 * 32-bit constant, which is baked into translated code.
 *
 * What code bakes in (start, offset) is the machine's (bt->win); how far the window reaches now is
 * each vCPU's own (hot.win_limit), 0 while it must not be used, or until a kick has been noticed:
 * that is how blocks that compare with a window poll. A window is a TLB entry in the
 * architecture's sense: A and, for writing, D are set in every entry it was made from, and it goes
 * when such an entry would (vcpu_note_*). No page of translated code lies in a window for writing.
 */
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "vcpu/bt/tr.h"
#include "vcpu/bt/world.h"
#include "vcpu/watch.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid /* glibc has no name for it before 2.38 */
#endif

#define WAIT_REFILLS 64   /* TLB refills between two attempts */
#define MAX_ATTEMPTS 64   /* that change nothing for the better */
#define MAX_MOVES    4    /* of a window's start or offset: each costs all translations */
#define REDO_BUDGET  1000 /* windows looked for again at once after a change of mappings */
#define CROSSINGS                                                                                 \
    16                /* of one page's end by accesses that share a look into the TLB (tr_page.c) \
                       */
#define MISSES      6 /* of one group, until it is translated otherwise */
#define MIN_LEN     (256 * 1024u)
#define TICK_NS     3000000  /* of CPU time, to the first look */
#define TICKS_NS    50000000 /* from look to look */
#define TICK_SIGNAL (SIGRTMIN + 2)

unsigned bt_window_class(unsigned size)
{
    unsigned c = 0;

    if (size > 64)
        return (size + 63) / 64 + 5;
    while ((1u << c) < size)
        c++;
    return c;
}

static unsigned class_size(unsigned c)
{
    return c <= 6 ? 1u << c : (c - 5) * 64;
}

static void write_limits(struct vcpu *v, unsigned ctx, unsigned kind)
{
    uint64_t len = v->bt->win_len[ctx][kind];

    for (unsigned c = 0; c < WIN_CLASSES; c++)
        __atomic_store_n(&v->hot.win_limit[ctx][kind][c], len ? len - class_size(c) + 1 : 0,
                         __ATOMIC_RELAXED);
}

/* Limits were written: a kick that came before, and found them closed or half open, counts. The
 * kicker sets kicked, then reads windows; here it is the other way round. */
static void opened(struct vcpu *v)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&v->kicked))
        vcpu_close_windows(v);
}

static void set_limits(struct vcpu *v, unsigned ctx, unsigned kind, uint64_t len, bool global)
{
    v->bt->win_len[ctx][kind] = len;
    v->bt->win_global[ctx][kind] = global;
    if (len)
        atomic_store(&v->windows, true);
    write_limits(v, ctx, kind);
    opened(v);
}

void bt_window_open(struct vcpu *v)
{
    if (!atomic_load_explicit(&v->windows, memory_order_relaxed))
        return;
    for (unsigned ctx = 0; ctx < TLB_CTXS; ctx++)
        for (unsigned kind = 0; kind < WIN_KINDS; kind++)
            if (v->bt->win_len[ctx][kind])
                write_limits(v, ctx, kind);
    opened(v);
}

/* Is what was compared in the window after all? Then the limit was one that a kick has closed. */
static bool within(const struct vcpu *v, unsigned ctx, unsigned kind, gva_t lin, unsigned class)
{
    uint64_t len = v->bt->win_len[ctx][kind];

    return len && lin - v->vm->bt->win[ctx][kind].lo < len - class_size(class) + 1;
}

/* The stretch around lin: linear start, end, offset to guest-physical. */
struct stretch {
    gva_t lo, hi;
    uint64_t delta, page; /* largest page */
    bool global;
};

/* May the page at lin (of page_size, its first linear address in *start) be part of it? */
static bool page_ok(struct vcpu *v, const struct walk_ctx *w, gva_t lin, unsigned acc, bool write,
                    struct walk_result *r)
{
    struct ram *ram = v->vm->ram;
    uint32_t error;

    if (!canonical(lin) || walk(ram, w, lin, acc, false, r, &error) || !r->accessed ||
        (write && !r->write_ok))
        return false;
    gpa_t page = r->gpa & ~(r->page_size - 1);

    return ram_has(ram, page, r->page_size);
}

/* Pages that no window for writing takes in. */
#define NO_WINDOW (RAM_ATTR_CODE | RAM_ATTR_RO)

static bool has_code(const struct ram *ram, gpa_t gpa, uint64_t len)
{
    uint64_t pfn = gpa >> PAGE_SHIFT, end = (gpa + len) >> PAGE_SHIFT, eight;

    /* Eight pages at a time. */
    for (; pfn + 8 <= end; pfn += 8) {
        __builtin_memcpy(&eight, ram->attr + pfn, 8);
        if (eight & NO_WINDOW * 0x0101010101010101u)
            return true;
    }
    for (; pfn < end; pfn++)
        if (ram->attr[pfn] & NO_WINDOW)
            return true;
    return false;
}

/* Of a page that is part of the map: how much of [at, end) from its start, or up to its end, holds
 * no code. Pages without code count whole. */
static bool extend(struct vcpu *v, const struct walk_ctx *w, unsigned acc, bool write, bool up,
                   struct stretch *s)
{
    struct ram *ram = v->vm->ram;
    gva_t at = up ? s->hi : s->lo - 1;
    struct walk_result r;

    if ((up && at == 0) || (!up && s->lo == 0) || !page_ok(v, w, at, acc, write, &r) ||
        r.gpa - at != s->delta)
        return false;
    gva_t start = at & ~(r.page_size - 1), end = start + r.page_size;

    if (write && has_code(ram, start + s->delta, r.page_size)) {
        /* Up to the first page of code on the way. */
        if (s->page < r.page_size)
            s->page = r.page_size;
        gva_t p = up ? start : end - PAGE_SIZE;

        for (; p >= start && p < end && !has_code(ram, p + s->delta, PAGE_SIZE);
             p = up ? p + PAGE_SIZE : p - PAGE_SIZE)
            continue;
        if (up && p > s->hi)
            s->hi = p;
        if (!up && p + PAGE_SIZE < s->lo)
            s->lo = p + PAGE_SIZE;
        return false;
    }
    s->global = s->global && r.global;
    if (s->page < r.page_size)
        s->page = r.page_size;
    if (up)
        s->hi = end;
    else
        s->lo = start;
    return s->hi - s->lo < 4 * GIB;
}

static bool find(struct vcpu *v, gva_t lin, unsigned ctx, bool write, struct stretch *s)
{
    unsigned acc = (write ? ACC_WRITE : 0) | (ctx == TLB_USER ? ACC_USER : 0);
    struct walk_ctx w;
    struct walk_result r;

    mem_walk_ctx(v, &w);
    lin &= PAGE_MASK;
    if (!page_ok(v, &w, lin, acc, write, &r) ||
        (write && has_code(v->vm->ram, r.gpa & PAGE_MASK, PAGE_SIZE)))
        return false;
    *s = (struct stretch){.lo = lin,
                          .hi = lin + PAGE_SIZE,
                          .delta = r.gpa - lin,
                          .page = r.page_size,
                          .global = r.global};
    while (extend(v, &w, acc, write, true, s))
        continue;
    while (extend(v, &w, acc, write, false, s))
        continue;
    return s->hi - s->lo >= MIN_LEN;
}

/* What is read may be constants; the data to be written lies behind them as a rule, up to the end
 * of the same stretch. */
static bool find_for(struct vcpu *v, gva_t lin, unsigned ctx, bool write, struct stretch *s)
{
    if (find(v, lin, ctx, write, s))
        return true;
    return write && find(v, lin, ctx, false, s) && find(v, s->hi - PAGE_SIZE, ctx, true, s);
}

static void use(struct vcpu *v, unsigned ctx, unsigned kind, const struct stretch *s)
{
    v->bt->win_page[ctx][kind] = s->page;
    set_limits(v, ctx, kind, s->hi - v->vm->bt->win[ctx][kind].lo, s->global);
}

static void try_one(struct vcpu *v, gva_t lin, unsigned ctx, unsigned kind)
{
    struct bt *bt = v->vm->bt;
    struct bt_window *win = &bt->win[ctx][kind];
    struct stretch s;

    /* A debugger's watchpoints keep pages out of the TLB; a window would have to go round them. */
    if (lin > INT32_MAX || watch_any(v) || !find_for(v, lin, ctx, kind & WIN_WRITE, &s))
        return;
    uint64_t host = (uintptr_t)v->vm->ram->base + s.lo + s.delta;

    if (s.lo > INT32_MAX || host > INT32_MAX)
        return;
    if (win->on && win->delta == s.delta && win->lo >= s.lo && win->lo < s.hi) {
        use(v, ctx, kind, &s);
        return;
    }
    if (win->moves >= MAX_MOVES || v->bt->win_len[ctx][kind] >= s.hi - s.lo)
        return;
    /* Another start: no vCPU may use the old one, and what was translated for it goes. */
    bt_world_stop(v);
    /* Others had the world until now: there may be code in it that was not before. */
    if ((kind & WIN_WRITE) && has_code(v->vm->ram, s.lo + s.delta, s.hi - s.lo)) {
        bt_world_start(v);
        return;
    }
    for (unsigned i = 0; i < v->vm->nvcpu; i++)
        if (v->vm->vcpu[i]->bt) /* its thread has begun; until then its limits are zero */
            set_limits(v->vm->vcpu[i], ctx, kind, 0, false);
    *win = (struct bt_window){
        .on = true, .lo = s.lo, .delta = s.delta, .off = (int32_t)host, .moves = win->moves + 1};
    use(v, ctx, kind, &s);
    /* Before another vCPU can find limits for the new one and run what was made for the old. */
    atomic_store(&bt->flush_wanted, true);
    bt_world_start(v);
    vcpu_kick(v);
}

static uint64_t reach(const struct vcpu *v, unsigned ctx)
{
    uint64_t sum = 0;

    for (unsigned kind = 0; kind < WIN_KINDS; kind++)
        sum += v->bt->win_len[ctx][kind];
    return sum;
}

static void try_all(struct vcpu *v, unsigned ctx)
{
    struct bt_vcpu *bv = v->bt;
    uint64_t had = reach(v, ctx), sp = v->cpu.gpr[RSP], lin = bv->win_last[ctx];
    /* No refill was seen yet: a program's code and data are neighbours. */
    if (!lin)
        lin = v->cpu.rip;
    bool stack = lin - sp + PAGE_SIZE < 16 * PAGE_SIZE;

    for (unsigned write = 0; write < 2; write++) {
        try_one(v, sp, ctx, WIN_STACK | write);
        if (!stack)
            try_one(v, lin, ctx, write);
    }
    if (reach(v, ctx) <= had)
        bv->win_attempts++;
}

void bt_window_refill(struct vcpu *v, gva_t lin, unsigned ctx)
{
    struct bt_vcpu *bv = v->bt;

    if (lin - v->cpu.gpr[RSP] + PAGE_SIZE >= 16 * PAGE_SIZE)
        bv->win_last[ctx] = lin;
    if (++bv->win_wait < WAIT_REFILLS || bv->win_attempts >= MAX_ATTEMPTS ||
        (bt_debug & BT_DBG_NO_WINDOW))
        return;
    bv->win_wait = 0;
    /* Not here: stopping the world lets others empty the cache that this callout returns into. */
    bv->win_tick = true;
    vcpu_kick(v);
}

/* A guest that computes in few pages refills the TLB too seldom to get windows that way, so they
 * are looked for after a moment of CPU time, late enough that short-lived guests never pay, and
 * then now and then, in whichever context it is.
 */
static void on_tick(int sig, siginfo_t *si, void *uc)
{
    struct vcpu *v = si->si_value.sival_ptr;

    (void)sig;
    (void)uc;
    /* No thread-local variable: in tests FS is not the host's everywhere. */
    if (si->si_code == SI_TIMER && v->bt) {
        v->bt->win_tick = true;
        vcpu_kick(v);
    }
}

int bt_window_timer(struct vcpu *v)
{
    struct sigaction sa = {.sa_sigaction = on_tick,
                           .sa_flags = SA_RESTART | SA_ONSTACK | SA_SIGINFO};
    struct sigevent ev = {
        .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TICK_SIGNAL, .sigev_value.sival_ptr = v};
    struct itimerspec in = {.it_value.tv_nsec = TICK_NS, .it_interval.tv_nsec = TICKS_NS};

    v->bt->win_timer = -1;
    if (bt_debug & BT_DBG_NO_WINDOW)
        return 0;
    v->bt->win_budget = REDO_BUDGET;
    sigemptyset(&sa.sa_mask);
    ev.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (sigaction(TICK_SIGNAL, &sa, NULL) ||
        syscall(SYS_timer_create, CLOCK_THREAD_CPUTIME_ID, &ev, &v->bt->win_timer) ||
        syscall(SYS_timer_settime, v->bt->win_timer, 0, &in, NULL))
        return -errno;
    return 0;
}

void bt_window_untimer(struct vcpu *v)
{
    if (v->bt->win_timer >= 0)
        syscall(SYS_timer_delete, v->bt->win_timer);
}

/* Windows are of use to translated code only; and with paging off the map is walked by 4 KiB. */
static bool of_use(const struct vcpu *v)
{
    return cpu_code64(&v->cpu) && (v->cpu.cr0 & CR0_PG);
}

void bt_window_tick(struct vcpu *v)
{
    v->bt->win_tick = false;
    if (v->bt->win_attempts < MAX_ATTEMPTS && of_use(v))
        try_all(v, bt_key(v) & KEY_CTX);
}

void bt_window_redo(struct vcpu *v)
{
    struct bt_vcpu *bv = v->bt;
    unsigned ctx = bt_key(v) & KEY_CTX;

    if (!of_use(v))
        return; /* later */
    bv->win_redo = false;
    if (!bv->win_budget)
        return;
    bv->win_budget--;
    for (unsigned kind = 0; kind < WIN_KINDS; kind++)
        if (v->vm->bt->win[ctx][kind].on && !bv->win_len[ctx][kind])
            try_one(v, v->vm->bt->win[ctx][kind].lo, ctx, kind);
}

/* A window in use is not any more. */
static void drop(struct vcpu *v, unsigned ctx, unsigned kind)
{
    set_limits(v, ctx, kind, 0, false);
    v->bt->win_redo = true;
}

void bt_window_drop(struct vcpu *v, bool global_too)
{
    for (unsigned ctx = 0; ctx < TLB_CTXS; ctx++)
        for (unsigned kind = 0; kind < WIN_KINDS; kind++)
            if (v->bt->win_len[ctx][kind] && (global_too || !v->bt->win_global[ctx][kind]))
                drop(v, ctx, kind);
}

void bt_window_drop_page(struct vcpu *v, gva_t lin)
{
    for (unsigned ctx = 0; ctx < TLB_CTXS; ctx++)
        for (unsigned kind = 0; kind < WIN_KINDS; kind++) {
            /* Any address in a large page drops the whole of it, also the part inside. */
            uint64_t slack = v->bt->win_page[ctx][kind];

            if (lin - v->vm->bt->win[ctx][kind].lo + slack < v->bt->win_len[ctx][kind] + 2 * slack)
                drop(v, ctx, kind);
        }
}

/* Keep the part of a window for writing that lies below page, if that is the larger one. */
static void cut(struct vcpu *v, unsigned ctx, unsigned kind, gpa_t page)
{
    const struct bt_window *win = &v->vm->bt->win[ctx][kind];
    uint64_t at = page - win->delta - win->lo, len = v->bt->win_len[ctx][kind];

    if (at < len)
        set_limits(v, ctx, kind, at >= len / 2 && at >= PAGE_SIZE ? at : 0,
                   v->bt->win_global[ctx][kind]);
}

/* --- hints --- */

static uint8_t *hint_of(struct bt *bt, uint64_t rip)
{
    return &bt->hint[(rip ^ rip >> 12) & (sizeof(bt->hint) - 1)];
}

enum bt_hint bt_window_hint(const struct bt *bt, uint64_t rip)
{
    return (enum bt_hint) * hint_of((struct bt *)(uintptr_t)bt, rip);
}

void bt_page_missed(struct vcpu *v, uint64_t rip, gva_t lin)
{
    struct bt *bt = v->vm->bt;
    struct bt_cross *c = &bt->cross[(rip ^ rip >> 8) % BT_CROSS];
    const uint64_t *frame = (const uint64_t *)(uintptr_t)v->hot.ras_rsp;
    gva_t page = lin & PAGE_MASK;

    /* What walks through memory comes to the end of every page once. */
    if (c->rip != rip || c->page != page)
        *c = (struct bt_cross){.rip = rip, .page = page};
    if (++c->count < CROSSINGS)
        return;
    c->count = 0;
    *hint_of(bt, rip) = HINT_TLB;
    bt_lock(bt);
    struct bt_block *b = bt_block_at(bt, (uint32_t)(*frame - (uintptr_t)bt->rx));

    /* At other addresses too: what is needed here would be made of one of them (move.c). */
    if (b && b->valid) {
        struct bt_block *other = bt_block_first(bt, b->gpa, b->key), *next;

        for (; other; other = next) {
            next = other->hash_next;
            if (other->gpa == b->gpa && other->key == b->key)
                bt_block_kill(bt, other);
        }
    }
    bt_unlock(bt);
}

bool bt_window_missed(struct vcpu *v, struct bt_miss *m, uint64_t off)
{
    struct bt *bt = v->vm->bt;
    unsigned ctx = bt_key(v) & KEY_CTX, other = m->kind ^ WIN_STACK;
    uint64_t lin = off + bt->win[ctx][m->kind].lo;
    uint8_t *hint = hint_of(bt, m->rip);

    /* The instruction is still to come, and no interrupt before it (SDM 2B STI). */
    if (m->shadow)
        v->cpu.int_shadow = SHADOW_STI;
    if (atomic_load(&v->kicked) || within(v, ctx, m->kind, lin, m->class_) ||
        (m->both && within(v, ctx, other, lin, m->class_))) {
        /* Closed, perhaps in part, later than the kick was taken: that is over. */
        v->stats.bt_polls++;
        if (!atomic_load(&v->kicked))
            bt_window_open(v);
        return false;
    }
    v->stats.bt_window_misses++;
    if (++m->count < MISSES)
        return true;
    /* Another block with the same instruction may have been quicker: try first what it learnt. */
    if (*hint == m->hint)
        *hint = *hint == HINT_NONE && lin - bt->win[ctx][other].lo < v->bt->win_len[ctx][other]
                    ? HINT_OTHER
                    : HINT_TLB;
    bt_lock(bt);
    if (m->block->valid)
        bt_block_kill(bt, m->block);
    bt_unlock(bt);
    return true;
}

void bt_window_traced(struct vm_cpus *vm, gpa_t page)
{
    for (unsigned i = 0; i < vm->nvcpu; i++)
        for (unsigned ctx = 0; vm->vcpu[i]->bt && ctx < TLB_CTXS; ctx++) {
            cut(vm->vcpu[i], ctx, WIN_WRITE, page);
            cut(vm->vcpu[i], ctx, WIN_WRITE | WIN_STACK, page);
        }
}
