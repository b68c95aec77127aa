/*
 * The step: fetch, decode, execute by class, deliver; and the engine made of it.
 *
 * Decoded instructions are kept in a small direct-mapped cache per thread, found by the host
 * address of their bytes and trusted only after the bytes compare equal, so code that changes under
 * it needs no invalidation.
 */
#include <errno.h>
#include <sys/mman.h>
#include "vcpu/engine.h"
#include "vcpu/hostexec.h"
#include "vcpu/interp_ops.h"
#include "vcpu/watch.h"

typedef int (*exec_fn)(struct vcpu *, const struct insn *);

struct cached {
    uint64_t key;     /* host address << 2 | mode */
    uint64_t byte[2]; /* its bytes, the rest zero */
    uint64_t mask[2]; /* which count */
    exec_fn exec;
    struct insn insn;
};

#define CACHE_BITS 11
static _Thread_local struct cached *cache;

int interp_thread_init(void)
{
    void *p;

    if (cache)
        return 0;
    p = mmap(NULL, sizeof(*cache) << CACHE_BITS, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -errno;
    cache = p;
    return 0;
}

static struct cached *cache_slot(uint64_t key)
{
    return &cache[(key >> 2 ^ key >> (2 + CACHE_BITS)) & ((1u << CACHE_BITS) - 1)];
}

static int undefined(struct vcpu *v, const struct insn *in)
{
    (void)in;
    return cpu_raise(&v->cpu, VEC_UD);
}

static exec_fn exec_of(const struct insn *in)
{
    static const exec_fn table[] = {
        [IC_UD] = undefined,         [IC_ALU] = interp_alu,     [IC_VEC] = interp_vec,
        [IC_X87] = interp_vec,       [IC_STACK] = interp_stack, [IC_BRANCH] = interp_branch,
        [IC_STRING] = interp_string, [IC_MOFFS] = interp_alu,   [IC_VECSYS] = interp_vec,
        [IC_SYS] = interp_sys,
    };

    return in->info ? table[insn_class(in)] : undefined;
}

/* Where code is, and how many of the 15 bytes the CS limit lets it have. */
static int fetch_window(struct vcpu *v, gva_t *lin, unsigned *room)
{
    struct cpu *c = &v->cpu;
    uint64_t left;

    *room = INSN_MAX;
    if (cpu_code64(c)) {
        if (!canonical(c->rip))
            return cpu_gp0(c);
        *lin = c->rip;
        return CPU_OK;
    }
    if (c->rip > c->seg[SEG_CS].limit)
        return cpu_gp0(c);
    left = (uint64_t)c->seg[SEG_CS].limit - c->rip + 1;
    if (left < INSN_MAX)
        *room = (unsigned)left;
    *lin = (uint32_t)(c->seg[SEG_CS].base + c->rip);
    return CPU_OK;
}

static int decode_slow(struct vcpu *v, struct insn *in, gva_t lin, unsigned room, unsigned mode)
{
    struct cpu *c = &v->cpu;
    uint8_t buf[INSN_MAX];
    unsigned in_page = PAGE_SIZE - (unsigned)(lin & (PAGE_SIZE - 1)), got, more;
    enum decode_status st;

    if (mem_fetch(v, lin, buf, in_page < room ? in_page : room, &got) != CPU_OK)
        return CPU_FAULT;
    st = decode(in, buf, got, mode);
    if (st == DEC_MORE && got < room) {
        lin += got;
        if (!cpu_long_mode(c))
            lin = (uint32_t)lin;
        else if (!canonical(lin))
            return cpu_gp0(c);
        if (mem_fetch(v, lin, buf + got, room - got, &more) != CPU_OK)
            return CPU_FAULT;
        st = decode(in, buf, got + more, mode);
    }
    switch (st) {
    case DEC_OK:
        break;
    case DEC_UD:
        return cpu_raise(c, VEC_UD);
    default: /* more than 15 bytes, or beyond the CS limit */
        return cpu_gp0(c);
    }
    /* VEX exists in protected mode only. */
    if (in->vex && (cpu_real_mode(c) || cpu_v86(c)))
        return cpu_raise(c, VEC_UD);
    return CPU_OK;
}

/* The bytes at p, when they are all in one page: nearly always. What is no plain instruction is
 * decode_slow()'s, which knows why. */
static int decode_at(struct vcpu *v, struct insn *in, const uint8_t *p, gva_t lin, unsigned room,
                     unsigned mode)
{
    if (p) {
        uint8_t buf[16]; /* other CPUs may write there */

        __builtin_memcpy(buf, p, 16);
        if (decode(in, buf, room, mode) == DEC_OK && !in->vex)
            return CPU_OK;
    }
    return decode_slow(v, in, lin, room, mode);
}

static bool same_bytes(const struct cached *e, const uint8_t *p)
{
    uint64_t a[2];

    __builtin_memcpy(a, p, 16);
    return !(((a[0] ^ e->byte[0]) & e->mask[0]) | ((a[1] ^ e->byte[1]) & e->mask[1]));
}

static void cache_fill(struct cached *e, uint64_t key)
{
    uint8_t byte[16] = {0}, mask[16] = {0};

    for (unsigned i = 0; i < e->insn.len && i < INSN_MAX; i++) {
        byte[i] = e->insn.bytes[i];
        mask[i] = 0xff;
    }
    __builtin_memcpy(e->byte, byte, 16);
    __builtin_memcpy(e->mask, mask, 16);
    e->exec = exec_of(&e->insn);
    e->key = key;
}

/* The decoded instruction at RIP, in the cache or in *tmp. */
static int fetch(struct vcpu *v, struct insn *tmp, const struct insn **out, exec_fn *exec)
{
    unsigned mode = cpu_code_size(&v->cpu), room;
    enum tlb_ctx ctx = op_ctx(v);
    const uint8_t *p;
    struct cached *e;
    uint64_t key;
    gva_t lin;

    if (fetch_window(v, &lin, &room) != CPU_OK)
        return CPU_FAULT;
    if (v->cpu.rflags & FL_AC)
        ctx = mem_tlb_ctx(v, v->cpu.cpl == 3 ? ACC_USER : 0);
    p = tlb_lookup(&v->tlb, ctx, TLB_X, lin, 16);
    if (!p || !cache || v->cold) {
        *out = tmp;
        if (decode_at(v, tmp, p, lin, room, mode) != CPU_OK)
            return CPU_FAULT;
        *exec = exec_of(tmp);
        return CPU_OK;
    }
    key = (uint64_t)(uintptr_t)p << 2 | mode >> 2; /* mode 2, 4, 8: 0, 1, 2 */
    e = cache_slot(key);
    if (e->key != key || !same_bytes(e, p) || e->insn.len > room) {
        e->key = 0;
        if (decode_at(v, &e->insn, p, lin, room, mode) != CPU_OK)
            return CPU_FAULT;
        cache_fill(e, key);
    } else if (e->insn.vex && (cpu_real_mode(&v->cpu) || cpu_v86(&v->cpu))) {
        return cpu_raise(&v->cpu, VEC_UD);
    }
    *out = &e->insn;
    *exec = e->exec;
    return CPU_OK;
}

static enum step deliver(struct vcpu *v)
{
    return cpu_deliver_exception(v) == CPU_OK ? STEP_OK : STEP_EXIT;
}

/* Breakpoints of DR0-DR3 on the instruction about to run: a fault, but RF is pushed as it is (SDM
 * 3B 17.3.1.1). RF and a load of SS just before hold them off (6.8.3). */
static bool breakpoint(struct vcpu *v)
{
    struct cpu *c = &v->cpu;
    uint64_t lin = cpu_code64(c) ? c->rip : (uint32_t)(c->seg[SEG_CS].base + c->rip), hit;

    /* Data breakpoints that the load of SS met are waiting, any others are of the past. */
    if (c->int_shadow == SHADOW_SS)
        return false;
    v->watch_hits = 0;
    hit = c->rflags & FL_RF ? 0 : watch_code(c, lin);
    if (!hit)
        return false;
    c->dr[6] = (c->dr[6] & ~DR6_HITS) | hit;
    c->dr[7] &= ~DR7_GD;
    cpu_raise(c, VEC_DB);
    return true;
}

/* Does the instruction swallow the single-step trap? INT and SYSCALL have already taken TF away
 * from what follows. */
static bool no_trap(const struct vcpu *v, const struct insn *in)
{
    if (in->map == 0 && ((in->opcode >= 0xcc && in->opcode <= 0xce) || in->opcode == 0xf1))
        return !(v->cpu.rflags & FL_TF);
    return in->map == 1 && in->opcode == 0x05 && !(v->cpu.rflags & FL_TF);
}

/* After an instruction that began with TF or RF set or in an interrupt shadow, or met a breakpoint:
 * the traps. A load of SS holds them off until the next instruction is through (SDM 3A 6.8.3): the
 * single step is lost, data breakpoints wait. */
static enum step finish(struct vcpu *v, const struct insn *in, uint64_t rip, uint64_t flags,
                        bool shadow)
{
    struct cpu *c = &v->cpu;
    bool iret = in->map == 0 && in->opcode == 0xcf, icebp = in->map == 0 && in->opcode == 0xf1;
    bool midway = c->rip == rip && (in->rep || in->repne), step, hits;

    if (shadow)
        c->int_shadow = 0;
    /* RF lasts for one instruction; REP keeps it until its last element. */
    if ((flags & FL_RF) && !iret && !midway)
        c->rflags &= ~(uint64_t)FL_RF;
    if (c->int_shadow == SHADOW_SS)
        return STEP_OK;
    step = (flags & FL_TF) && !no_trap(v, in);
    hits = v->watch_hits && !icebp; /* INT1 is a #DB already */
    if (v->watch_hits)
        c->dr[6] = (c->dr[6] & ~DR6_HITS) | v->watch_hits;
    v->watch_hits = 0;
    if (!step && !hits)
        return STEP_OK;
    if (step)
        c->dr[6] |= DR6_BS;
    c->dr[7] &= ~DR7_GD;
    c->halted = false;
    cpu_raise(c, VEC_DB);
    return deliver(v);
}

static inline enum step plain_step(struct vcpu *v, exec_fn *which)
{
    struct cpu *c = &v->cpu;
    uint64_t flags = c->rflags, rip = c->rip;
    bool shadow = c->int_shadow;
    const struct insn *in;
    struct insn tmp;
    exec_fn exec = NULL;

    v->stats.insns++;
    if ((watch_any(v) && breakpoint(v)) || fetch(v, &tmp, &in, &exec) != CPU_OK ||
        exec(v, in) != CPU_OK) {
        if (shadow)
            c->int_shadow = 0;
        return deliver(v);
    }
    *which = exec;
    if (((flags & (FL_TF | FL_RF)) || shadow || v->watch_hits) &&
        finish(v, in, rip, flags, shadow) != STEP_OK)
        return STEP_EXIT;
    if (exec == interp_sys) {
        if (c->halted)
            return STEP_HLT;
        if (atomic_load_explicit(&v->vm->stop, memory_order_relaxed)) {
            v->exit.reason = EXIT_STOP;
            return STEP_EXIT;
        }
    }
    return STEP_OK;
}

/* With a debugger that wants something of this CPU. A fault's delivery is a step too. */
static __attribute__((noinline)) enum step debug_step(struct vcpu *v, exec_fn *which)
{
    struct cpu *c = &v->cpu;
    uint64_t lin = cpu_code64(c) ? c->rip : (uint32_t)(c->seg[SEG_CS].base + c->rip);
    const struct debug_point *p = v->debug & DEBUG_CODE ? debug_code(v->vm->debug, lin) : NULL;
    enum step s = STEP_EXIT;

    v->debug_stop.why = DEBUG_NOTHING;
    if (p) {
        v->debug_stop = (struct debug_stop){DEBUG_AT_BREAK, p->kind, p->at};
        v->exit.reason = EXIT_DEBUG;
        return STEP_EXIT;
    }
    s = plain_step(v, which);
    if (s == STEP_EXIT)
        return s;
    if (v->debug_stop.why == DEBUG_NOTHING && (v->debug & DEBUG_STEP) &&
        (c->halted || c->rip - v->step_from >= v->step_to - v->step_from))
        v->debug_stop.why = DEBUG_STEPPED;
    if (v->debug_stop.why == DEBUG_NOTHING)
        return s;
    v->exit.reason = EXIT_DEBUG;
    return STEP_EXIT;
}

static inline enum step step(struct vcpu *v, exec_fn *which)
{
    return __builtin_expect(v->debug, 0) ? debug_step(v, which) : plain_step(v, which);
}

enum step interp_step(struct vcpu *v)
{
    exec_fn which = NULL;

    return step(v, &which);
}

/* Interrupts are looked for after whatever may have opened the window for one or raised one on this
 * CPU: system instructions, POPF, device registers. What comes from other threads kicks. */
enum step interp_run(struct vcpu *v, unsigned max)
{
    struct cpu *c = &v->cpu;
    enum step s = STEP_OK;

    for (unsigned n = 0; n < max; n++) {
        uint64_t flags = c->int_shadow ? 0 : c->rflags, mmio = v->stats.mmio_writes, at = c->rip;
        exec_fn which = NULL;

        s = step(v, &which);
        if (s != STEP_OK || which == interp_sys || c->rip - at > INSN_MAX ||
            (c->rflags & ~flags & FL_IF) || mmio != v->stats.mmio_writes ||
            atomic_load_explicit(&v->kicked, memory_order_relaxed))
            break;
    }
    return s;
}

/* An exception leaves which as it is. */
enum step interp_on(struct vcpu *v)
{
    struct cpu *c = &v->cpu;
    uint64_t flags, mmio;
    enum step s;
    exec_fn which;

    do {
        flags = c->int_shadow ? 0 : c->rflags;
        mmio = v->stats.mmio_writes;
        which = NULL;
        s = step(v, &which);
    } while (s == STEP_OK && which && which != interp_sys && !(c->rflags & ~flags & FL_IF) &&
             mmio == v->stats.mmio_writes &&
             !atomic_load_explicit(&v->kicked, memory_order_relaxed));
    return s;
}

/* ---- the engine ---- */

static int vm_init(struct vm_cpus *vm, const char **what)
{
    (void)vm;
    *what = "mapping the interpreter's stub area";
    return hostexec_init();
}

static void vm_fini(struct vm_cpus *vm)
{
    (void)vm;
}

static int vcpu_init(struct vcpu *v, const char **what)
{
    *what = "setting up a vCPU thread's signal stack";
    return hostfault_thread_init(v);
}

static void vcpu_fini(struct vcpu *v)
{
    (void)v;
}

static enum exit_reason leave(struct vcpu *v, enum exit_reason reason)
{
    fpu_put(v);
    v->exit.reason = reason;
    v->exit.rip = v->cpu.rip;
    return reason;
}

/* When interrupts are looked for: as in interp_run(). */
static enum exit_reason run(struct vcpu *v)
{
    struct cpu *c = &v->cpu;
    enum exit_reason r;

    for (;;) {
        if (vcpu_take_kick(v) && vcpu_must_leave(v, &r))
            return leave(v, r);
        if (!vcpu_holds_irqs(v) && vcpu_inject(v) == CPU_FAULT)
            return leave(v, v->exit.reason);
        if (c->halted || c->wait_for_sipi)
            return leave(v, EXIT_HLT);
        if (interp_on(v) == STEP_EXIT)
            return leave(v, v->exit.reason);
    }
}

const struct engine engine_interp = {
    .name = "interp",
    .vm_init = vm_init,
    .vm_fini = vm_fini,
    .vcpu_init = vcpu_init,
    .vcpu_fini = vcpu_fini,
    .run = run,
};
