/*
 * A case in a guest at CPL 3, 64-bit code or compatibility mode: the arena mapped at its addresses
 * with its permissions, the kernel's side (descriptor tables, handlers, stack) in the upper half.
 * Every handler is a HLT; where a run ends there is an INT3.
 */
#include "tests/fuzz.h"
#include "tests/vmfix.h"
#include "vcpu/bt/tr.h"
#include "vcpu/engine.h"
#include "vcpu/hostexec.h"
#include "vcpu/interp.h"
#include <errno.h>
#include <signal.h>
#include <time.h>

#define KERNEL 0xffff800000000000u /* linear address of gpa 0 */
#define STEPS  20000
/* That much further up is all of it again, and once more: where no sum of what a case has in its
 * registers leads. */
#define ELSEWHERE ((uint64_t)77 << 39)

/* Guest-physical. Neighbours in linear space are not neighbours here. */
enum {
    P_PDPT = 0x100000,
    P_PD = 0x101000,
    P_PT = 0x102000,
    P_CODE0 = 0x113000,
    P_CODE1 = 0x110000,
    P_DATA0 = 0x121000,
    P_DATA1 = 0x11e000,
    P_RO = 0x130000,
    P_SUPER = 0x132000,
    P_PT_WIN = 0x140000, /* in place of P_PT: the data pages at the end of a long stretch */
    P_WIN = 0x200000,
    HANDLERS = 0x18000 /* 16 bytes a vector */
};

/* Selectors of 32-bit code, which may push them: as natively. */
enum { LINUX_CS32 = 0x23, LINUX_DS = 0x2b, LINUX_CS64 = 0x33 };

static struct vmfix ivm, bvm;
static struct cpu start; /* what every run begins with */

static bool windows; /* bvm has P_PT_WIN */
static uint64_t windowed, bt_runs;

static void pte(struct vmfix *f, uint64_t va, uint64_t val)
{
    vmf_poke64(f, P_PT + (va >> 12 & 511) * 8, val);
    if (va - FZ_WIN >= FZ_DATA + 0x2000 - FZ_WIN)
        vmf_poke64(f, P_PT_WIN + (va >> 12 & 511) * 8, val);
}

static void build(struct vmfix *f)
{
    const uint64_t nx = (uint64_t)1 << 63, rw = 0x67, ro = 0x65, super = 0x63;
    struct cpu *c;

    vmf_create(f, VMFIX_LONG);
    c = &f->v->cpu;
    /* The fixture's identity map moves to the upper half, for the supervisor. */
    vmf_poke64(f, VMF_PML4 + 256 * 8, (VMF_PML4 + 0x1000) | 0x63);
    vmf_poke64(f, VMF_PML4, P_PDPT | rw);
    vmf_poke64(f, P_PDPT, P_PD | rw);
    vmf_poke64(f, P_PD + (FZ_CODE >> 21) * 8, P_PT | rw);
    for (unsigned k = 1; k < 3; k++) /* twice more, ELSEWHERE */
        vmf_poke64(f, VMF_PML4 + (ELSEWHERE >> 39) * k * 8, P_PDPT | rw);
    pte(f, FZ_CODE, P_CODE0 | rw);
    pte(f, FZ_CODE + 0x1000, P_CODE1 | rw);
    pte(f, FZ_DATA, P_DATA0 | rw);
    pte(f, FZ_DATA + 0x1000, P_DATA1 | rw);
    pte(f, FZ_RO, P_RO | ro | nx);
    pte(f, FZ_SUPER, P_SUPER | super | nx);
    for (uint64_t va = FZ_WIN; va < FZ_DATA + 0x2000; va += PAGE_SIZE)
        vmf_poke64(f, P_PT_WIN + (va >> 12 & 511) * 8, (P_WIN + va - FZ_WIN) | rw);
    for (unsigned i = 0; i < 32; i++) {
        uint8_t hlt = 0xf4;

        vmf_gate64(f, i, i == VEC_BP ? 0xee : 0x8e, VMS_CODE64, KERNEL + HANDLERS + i * 16, 0);
        vmf_poke(f, HANDLERS + i * 16, &hlt, 1);
    }
    vmf_poke64(f, VMF_TSS + 4, KERNEL + VMF_RSP0);
    vmf_poke16(f, VMF_TSS + 102, 0x68); /* no I/O bitmap: no ports, as natively */
    if (fz_mode != 8) {
        vmf_gdt(f, LINUX_CS32, vmf_desc(0, 0xffffffff, 0xc0fb));
        vmf_gdt(f, LINUX_DS, vmf_desc(0, 0xffffffff, 0xc0f3));
        vmf_gdt(f, LINUX_CS64, vmf_desc(0, 0xffffffff, 0xa0fb));
    }
    memset(ram_ptr(&f->ram, P_CODE0, PAGE_SIZE), FZ_INT3, PAGE_SIZE);
    memset(ram_ptr(&f->ram, P_CODE1, PAGE_SIZE), FZ_INT3, PAGE_SIZE);
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        f->ram.base[P_RO + i] = (uint8_t)(i * 37);
    vmf_user(f);
    c->gdtr.base += KERNEL;
    c->idtr.base += KERNEL;
    c->tr.base += KERNEL;
    c->cr0 |= CR0_MP;
    c->cr4 |= CR4_OSXSAVE | CR4_FSGSBASE;
    c->xcr0 = XCR0_SUPPORTED;
    c->ldtr.attr = SEG_NULL; /* as natively */
}

int fz_engine_init(const char **what)
{
    int err;

    build(&bvm); /* first: windows want its RAM at a low host address */
    build(&ivm);
    if (fz_mode != 8)
        for (unsigned i = 0; i < NSEG; i++)
            vmf_set_seg(&ivm, i, i == SEG_CS ? LINUX_CS32 : LINUX_DS);
    start = ivm.v->cpu;
    err = engine_interp.vm_init(&ivm.vm, what);
    if (!err)
        err = engine_bt.vm_init(&bvm.vm, what);
    if (!err)
        err = engine_interp.vcpu_init(ivm.v, what);
    if (!err) /* last: GS stays at bt's */
        err = engine_bt.vcpu_init(bvm.v, what);
    return err;
}

bool fz_guest_xsavec(void)
{
    return cpuid_has(&ivm.cpuid, 0xd, 1, 0, 1);
}

static uint8_t *page_ptr(struct vmfix *f, uint64_t va)
{
    static const gpa_t gpa[4] = {P_CODE0, P_CODE1, P_DATA0, P_DATA1};
    unsigned i = va >= FZ_DATA ? 2 : 0;

    if (i && windows && f == &bvm)
        return f->ram.base + P_WIN + (va & PAGE_MASK) - FZ_WIN;
    return f->ram.base + gpa[i + (va >> 12 & 1)];
}

/* To linear address va on, over the pages' ends; what has no page is left out. */
static void put(struct vmfix *f, uint64_t va, const void *src, unsigned n, bool fill)
{
    uint64_t limit = (va >= FZ_DATA ? FZ_DATA : FZ_CODE) + 0x2000u;
    const uint8_t *from = src;

    while (n && va < limit) {
        unsigned m = PAGE_SIZE - (unsigned)(va & (PAGE_SIZE - 1));
        uint8_t *to = page_ptr(f, va) + (va & (PAGE_SIZE - 1));

        m = m < n ? m : n;
        if (fill)
            memset(to, FZ_INT3, m);
        else
            memcpy(to, from, m);
        va += m;
        from += m;
        n -= m;
    }
}

static void put_memory(struct vmfix *f, const struct fz_case *c)
{
    /* A stray store may have been anywhere in them. */
    memset(page_ptr(f, FZ_CODE), FZ_INT3, PAGE_SIZE);
    memset(page_ptr(f, FZ_CODE + 0x1000), FZ_INT3, PAGE_SIZE);
    memcpy(page_ptr(f, FZ_DATA), c->data[0], PAGE_SIZE);
    memcpy(page_ptr(f, FZ_DATA + 0x1000), c->data[1], PAGE_SIZE);
    put(f, c->code_va, c->code, c->len, false);
    if (c->code_in_data) {
        put(f, c->code_va + c->len, NULL, 1, true);
        if (c->pad_va)
            put(f, c->pad_va, NULL, 1, true);
    }
    /* All at once: a real guest's stores would say so one by one. */
    ram_written(&f->ram, P_CODE0, PAGE_SIZE);
    ram_written(&f->ram, P_CODE1, PAGE_SIZE);
    ram_written(&f->ram, P_DATA0, PAGE_SIZE);
    ram_written(&f->ram, P_DATA1, PAGE_SIZE);
    ram_written(&f->ram, P_WIN + FZ_DATA - FZ_WIN, 2 * PAGE_SIZE);
}

static void put_state(struct vmfix *f, const struct fz_case *c)
{
    struct cpu *cpu = &f->v->cpu;

    memcpy(cpu, &start, offsetof(struct cpu, xsave));
    memcpy(cpu->xsave, c->st.xsave, sizeof(cpu->xsave));
    memcpy(cpu->gpr, c->st.gpr, sizeof(cpu->gpr));
    cpu->rip = c->st.rip;
    cpu->rflags = c->st.rflags;
    cpu->seg[SEG_FS].base = c->st.fs_base;
    cpu->seg[SEG_GS].base = c->st.gs_base;
    f->v->fpu_live = false;
}

static uint64_t frame(const struct vmfix *f, unsigned below)
{
    return vmf_peek(f, VMF_RSP0 - below, 8);
}

/* The CPU stands after a handler's HLT: what brought it there. */
static void collect(struct vmfix *f, const struct fz_case *c, struct fz_result *out)
{
    struct cpu *cpu = &f->v->cpu;
    uint64_t at = cpu->rip - 1 - (KERNEL + HANDLERS), rip;

    fpu_put(f->v);
    memcpy(out->st.gpr, cpu->gpr, sizeof(out->st.gpr));
    memcpy(out->st.xsave, cpu->xsave, sizeof(out->st.xsave));
    fz_normalize(out->st.xsave);
    out->page[0] = page_ptr(f, FZ_DATA);
    out->page[1] = page_ptr(f, FZ_DATA + 0x1000);
    out->page[2] = page_ptr(f, FZ_CODE);
    out->page[3] = page_ptr(f, FZ_CODE + 0x1000);
    out->cr2 = cpu->cr2;
    out->error = 0;
    out->vector = FZ_LOST;
    if (!cpu->halted || at >= 32 * 16 || at % 16) {
        out->st.rip = cpu->rip;
        out->st.rflags = cpu->rflags;
        return;
    }
    out->vector = (int)(at / 16);
    out->st.gpr[RSP] = frame(f, 16);
    out->st.rflags = frame(f, 24);
    rip = out->st.rip = frame(f, 40);
    if (cpu->gpr[RSP] == KERNEL + VMF_RSP0 - 48)
        out->error = (uint32_t)frame(f, 48);
    if (out->vector == VEC_BP && rip - 1 - c->code_va >= c->len) {
        out->vector = FZ_END;
        out->st.rip = rip - 1;
    }
    out->st.fs_base = cpu->seg[SEG_FS].base;
    out->st.gs_base = cpu->seg[SEG_GS].base;
}

void fz_interp_run(const struct fz_case *c, struct fz_result *out)
{
    enum step s = STEP_OK;

    put_memory(&ivm, c);
    put_state(&ivm, c);
    out->astray = false;
    for (unsigned n = 0; n < STEPS && s == STEP_OK; n++) {
        bool inside = ivm.v->cpu.rip - c->code_va < c->len;

        s = interp_step(ivm.v);
        out->astray |= !inside && ivm.v->cpu.cpl == 3;
    }
    collect(&ivm, c, out);
}

static void set_windows(bool on)
{
    if (windows != on) {
        windows = on;
        vmf_poke64(&bvm, P_PD + (FZ_CODE >> 21) * 8, (on ? P_PT_WIN : P_PT) | 0x67);
        vcpu_note_paging(bvm.v);
    }
    if (on) { /* look for them now: what a timer does otherwise */
        bvm.v->cpu.gpr[RSP] = 0;
        bvm.v->bt->win_attempts = 0;
        bt_window_refill(bvm.v, FZ_DATA, TLB_USER);
        atomic_store(&bvm.v->bt->win_tick, true);
        vcpu_kick(bvm.v);
    }
}

/* Take note of what the arena holds, or put it back: only what has changed, so that translations of
 * the rest stay. */
static void keep_memory(bool back)
{
    static const gpa_t gpa[4] = {P_CODE0, P_CODE1, P_DATA0, P_DATA1};
    static uint8_t kept[4][PAGE_SIZE];

    for (unsigned i = 0; i < 4; i++) {
        uint8_t *page = bvm.ram.base + gpa[i];

        if (!back) {
            memcpy(kept[i], page, PAGE_SIZE);
        } else if (memcmp(page, kept[i], PAGE_SIZE)) {
            memcpy(page, kept[i], PAGE_SIZE);
            ram_written(&bvm.ram, gpa[i], PAGE_SIZE);
        }
    }
}

/* The same code at other addresses first, for translations that the run then uses where it is: in
 * turn a copy, and one moved. What becomes of these runs does not matter. */
static void run_elsewhere(const struct fz_case *c)
{
    unsigned places = 1 + (unsigned)(c->index & 1);

    keep_memory(false);
    for (unsigned k = 1; k <= places; k++) {
        put_state(&bvm, c);
        bvm.v->cpu.rip += k * ELSEWHERE;
        bvm.v->cpu.halted = false;
        engine_bt.run(bvm.v);
        fpu_put(bvm.v);
        keep_memory(true);
    }
}

void fz_bt_run(const struct fz_case *c, unsigned debug, struct fz_result *out)
{
    bt_debug = (debug & ~(unsigned)FZ_WINDOWS) | BT_DBG_EAGER;
    /* Now and then nothing is in the TLB. */
    if ((c->index ^ c->seed) % 3 == 0)
        vcpu_note_paging(bvm.v);
    set_windows((debug & FZ_WINDOWS) && !c->code_in_data);
    put_memory(&bvm, c);
    if ((debug & BT_DBG_MOVE_LOW) && fz_mode == 8)
        run_elsewhere(c);
    put_state(&bvm, c);
    bvm.v->cpu.halted = false;
    engine_bt.run(bvm.v);
    bt_runs++;
    windowed += windows && bvm.v->bt->win_len[TLB_USER][WIN_READ];
    collect(&bvm, c, out);
}

/* At any point of a run, natively with FS at the guest's base: touches nothing thread-local. */
static void on_kick(int sig)
{
    (void)sig;
    vcpu_kick(bvm.v);
}

int fz_kicks(unsigned us)
{
    struct sigaction sa = {.sa_handler = on_kick, .sa_flags = SA_RESTART | SA_ONSTACK};
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3};
    struct itimerspec t = {.it_interval.tv_nsec = us * 1000l, .it_value.tv_nsec = us * 1000l};
    timer_t id;

    sigemptyset(&sa.sa_mask);
    if (sigaction(SIGRTMIN + 3, &sa, NULL) || timer_create(CLOCK_MONOTONIC, &ev, &id) ||
        timer_settime(id, 0, &t, NULL))
        return -errno;
    return 0;
}

void fz_engine_tally(void)
{
    const struct vcpu_stats *s = &bvm.v->stats;

    printf(
        "bt: %lu runs, %lu with windows; %lu blocks, %lu chained, %lu TLB refills, %lu slow "
        "accesses, %lu callouts, %lu fallbacks, %lu flushes, %lu kicks at polls, %lu copied, %lu "
        "moved\n",
        bt_runs, windowed, s->bt_blocks, s->bt_chains, s->bt_tlb_refills, s->bt_slow_mem,
        s->bt_callouts, s->bt_fallbacks, s->bt_flushes, s->bt_polls, s->bt_copied, s->bt_moved);
}
