/*
 * Wake-ups: `wake CPUS [HOPS]`. Tokens go from CPU to CPU, each hop announced by an interrupt, and
 * every CPU that has none sleeps in HLT. A sender puts the token where it is looked for before it
 * sends; a CPU looks with interrupts off and opens them in the one instruction before HLT, whose
 * shadow HLT is in (SDM 2B, STI). So no wake-up is lost in here, and there is no clock that would
 * set things going again: if all stands still, the machine has lost an interrupt.
 */
#include "guests/wake/wake.h"

#define TOKENS  24
#define VECTORS 0x40u /* and 15 above: a token was sent */
#define VECTOR  0x50u /* the phase has changed */
/* The tokens of vector VECTORS + no. */
#define ANNOUNCED(no) ((no) < 16 ? 0x10001u << (no) : 0)
#define ALL           UINT32_MAX

extern const uint8_t ap_begin[], ap_end[];
extern const uint32_t bare_info;
_Noreturn void ap_main(uint32_t id);
uint8_t ap_stacks[MAX_CPUS * AP_STACK] __attribute__((aligned(64)));
struct {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed)) ap_idtr;

/* How tokens travel in a phase, and how they are looked for. */
enum {
    BY_GROUP = 1,    /* some to a logical destination, or announced to all others */
    BY_TIMER = 2,    /* some wait where they are for the timer */
    BY_NMI = 4,      /* some are announced by NMI; for x2APICs, where to send is one write */
    BY_CODE = 8,     /* code is changed on the way */
    IN_HANDLER = 16, /* the handlers take them */
    IN_TPR = 32,     /* they are waited for with interrupts open and the priority shut, too */
    SPINNING = 64,   /* ... and are waited for without HLT, too */
    TO_X2APIC = 128  /* no tokens: all change over */
};

static struct cpu cpus[MAX_CPUS];
static unsigned ncpus, total;
static volatile unsigned arrived, phase, how, done, bad_code;
static volatile int live; /* tokens with hops left */
static volatile unsigned hops[TOKENS];

static uint32_t draw(struct cpu *c)
{
    c->random = c->random * 1664525 + 1013904223;
    return c->random >> 8;
}

static void add(volatile unsigned *p, unsigned n)
{
    __atomic_fetch_add(p, n, __ATOMIC_SEQ_CST);
}

/* Called with interrupts off, after a look that found nothing. */
static void nap(void)
{
    __asm__ volatile("sti\n\thlt\n\tcli" : : : "memory");
}

static void set_cr8(uint64_t v)
{
    __asm__ volatile("movq %0, %%cr8" : : "r"(v) : "memory");
}

/* MOV EAX, v; RET, on a page of each CPU's own: a translator has to look after it anew. */
static void change_code(struct cpu *c)
{
    static uint8_t code[MAX_CPUS][4096] __attribute__((aligned(4096)));
    uint8_t *f = code[c->id];
    uint32_t v = draw(c), got;

    f[0] = 0xb8;
    __builtin_memcpy(f + 1, &v, 4);
    f[5] = 0xc3;
    __asm__ volatile("call *%1" : "=a"(got) : "r"(f) : "memory", "cc");
    if (got != v && !(how & BY_NMI)) /* whose handler comes by here too */
        add(&bad_code, 1);
}

/* With interrupts off, but for NMIs. */
static void pass_on(struct cpu *c, unsigned token)
{
    uint32_t bit = 1u << token, r = draw(c);
    unsigned to = draw(c) % ncpus, vector = VECTORS + (token & 15);

    add(&done, 1);
    if (!--hops[token]) {
        if (!__atomic_sub_fetch(&live, 1, __ATOMIC_SEQ_CST))
            apic_send(c, 0, ICR_ALL | vector);
        return;
    }
    if ((how & BY_CODE) && !(r & 0x30))
        change_code(c);
    if ((how & BY_TIMER) && (r & 0xc0) == 0xc0) {
        __atomic_fetch_or(&c->parked, bit, __ATOMIC_SEQ_CST);
        apic_timer(c, draw(c) % 100000);
        return;
    }
    __atomic_fetch_or(&cpus[to].box, bit, __ATOMIC_SEQ_CST);
    if ((how & BY_NMI) && (r & 0x300) == 0x300)
        apic_send(c, to, ICR_NMI);
    else if ((how & BY_GROUP) && to != c->id && (r & 0x300) == 0x100)
        apic_send(c, 0, ICR_OTHERS | vector);
    else if ((how & BY_GROUP) && to < 8 && (r & 0x300) == 0x200)
        apic_send(c, 1u << to, ICR_LOGICAL | vector);
    else
        apic_send(c, to, vector);
}

static void pass_all(struct cpu *c, uint32_t tokens)
{
    for (; tokens; tokens &= tokens - 1)
        pass_on(c, (unsigned)__builtin_ctz(tokens));
}

/* Those of which are here, and pass them on. */
static bool take(struct cpu *c, uint32_t of)
{
    uint32_t mine = __atomic_fetch_and(&c->box, ~of, __ATOMIC_SEQ_CST) & of;

    pass_all(c, mine);
    return mine;
}

/* The odd vectors are done with before what they announce is looked at, the even ones after it:
 * what comes meanwhile then waits for the EOI. A handler takes what its own vector announces. */
static void on_ipi(struct frame *f)
{
    struct cpu *c = this_cpu();
    unsigned no = f->vector - VECTORS;

    c->handled++;
    if (no & 1)
        apic_write(c, REG_EOI, 0);
    if (c->in_handlers)
        take(c, ANNOUNCED(no));
    if (!(no & 1))
        apic_write(c, REG_EOI, 0);
}

static void on_timer(struct frame *f)
{
    struct cpu *c = this_cpu();
    uint32_t due = __atomic_exchange_n(&c->parked, 0, __ATOMIC_SEQ_CST);

    (void)f;
    c->handled++;
    if (c->in_handlers)
        pass_all(c, due);
    else
        __atomic_fetch_or(&c->box, due, __ATOMIC_SEQ_CST);
    apic_write(c, REG_EOI, 0);
}

/* May come between a look and HLT: so it takes them itself. */
static void on_nmi(struct frame *f)
{
    (void)f;
    take(this_cpu(), ALL);
}

/* Called with interrupts off: what was sent before and is not handled yet ends it, too. */
static void spin(struct cpu *c)
{
    unsigned n = c->handled;

    __asm__ volatile("sti" : : : "memory");
    while (c->handled == n && live > 0)
        __asm__ volatile("pause" : : : "memory");
    __asm__ volatile("cli" : : : "memory");
}

static void work(struct cpu *c)
{
    c->in_handlers = how & IN_HANDLER;
    take(c, ALL);
    while (live > 0) {
        if (!c->in_handlers && take(c, ALL))
            continue;
        if (how & IN_TPR) {
            set_cr8(15);
            __asm__ volatile("sti" : : : "memory");
            for (volatile unsigned n = draw(c) & 255; n; n--)
                ;
            __asm__ volatile("cli" : : : "memory");
        }
        bool wait = live > 0 && (c->in_handlers || !c->box);

        for (volatile unsigned n = draw(c) & 63; n; n--)
            ;
        if (how & IN_TPR)
            set_cr8(0);
        if (wait && (how & SPINNING) && (draw(c) & 1))
            spin(c);
        else if (wait)
            nap();
    }
    c->in_handlers = false;
}

/* Of each CPU, with everything that may wake it set up. */
static void do_phase(struct cpu *c)
{
    if (how & TO_X2APIC)
        apic_to_x2(c);
    else
        work(c);
}

static struct cpu *set_up(uint32_t id)
{
    struct cpu *c = &cpus[id];

    c->self = c;
    c->id = id;
    c->random = id * 7919 + 1;
    wrmsr(0xc0000101, (uintptr_t)c);
    apic_setup(c);
    return c;
}

_Noreturn void ap_main(uint32_t id)
{
    struct cpu *c = set_up(id);

    for (unsigned mine = 0;; mine++) {
        add(&arrived, 1);
        apic_send(c, 0, VECTOR);
        while (phase == mine)
            nap();
        do_phase(c);
    }
}

static void all_there(void)
{
    while (arrived != ncpus - 1)
        nap();
    arrived = 0;
}

static void run(const char *name, unsigned flags, unsigned tokens)
{
    struct cpu *c = &cpus[0];
    unsigned each = total / tokens;

    how = flags;
    done = 0;
    live = (int)tokens;
    for (unsigned t = 0; t < tokens && !(flags & TO_X2APIC); t++) {
        hops[t] = each;
        cpus[t % ncpus].box |= 1u << t;
    }
    add(&phase, 1);
    apic_send(c, 0, ICR_OTHERS | VECTOR);
    do_phase(c);
    all_there();
    if (!(flags & TO_X2APIC))
        check_equal(done, each * tokens, name);
}

static void run_all(bool x2apic)
{
    static const uint8_t tokens[] = {1, 3, 7, TOKENS}; /* all CPUs but one asleep ... none */
    static const struct {
        const char *name;
        unsigned flags;
    } phases[] = {
        {"tokens by IPI", 0},
        {"by IPI, in handlers", IN_HANDLER},
        {"by IPI, under TPR", IN_TPR},
        {"to groups", BY_GROUP},
        {"by IPI and timer", BY_TIMER},
        {"by IPI and timer, in handlers", BY_TIMER | IN_HANDLER},
        {"by IPI and timer, spinning", BY_TIMER | IN_HANDLER | SPINNING},
        {"to groups, spinning, while code changes", BY_GROUP | BY_CODE | IN_HANDLER | SPINNING},
        {"while code changes", BY_CODE | BY_TIMER | BY_GROUP},
        {"by NMI too", BY_NMI | BY_TIMER | BY_CODE},
        {"by NMI too, in handlers", BY_NMI | BY_TIMER | BY_GROUP | IN_HANDLER},
        {"by NMI too, under TPR", BY_NMI | BY_TIMER | IN_TPR}};

    for (unsigned i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
        for (unsigned k = 0; k < sizeof(tokens) && (x2apic || !(phases[i].flags & BY_NMI)); k++)
            run(phases[i].name, phases[i].flags, tokens[k]);
}

static void start_others(void)
{
    uint64_t until = rdtsc() + 20000000;
    uint8_t *at = (uint8_t *)(AP_PAGE * 4096ul);

    __asm__ volatile("" : "+r"(at));
    for (const uint8_t *p = ap_begin; p < ap_end; p++)
        *at++ = *p;
    __asm__ volatile("sidt %0" : "=m"(ap_idtr));
    apic_send(&cpus[0], 0, ICR_OTHERS | ICR_INIT);
    while (rdtsc() < until)
        __asm__ volatile("pause");
    apic_send(&cpus[0], 0, ICR_OTHERS | ICR_STARTUP | AP_PAGE);
    all_there();
}

/* Word no of the command line, whose word 0 is the image's own. */
static unsigned number(unsigned no, unsigned otherwise)
{
    const uint32_t *info = (const uint32_t *)(uintptr_t)bare_info;
    const char *p = info[0] & 4 ? (const char *)(uintptr_t)info[4] : "";
    unsigned v = 0;

    for (; no && *p; p++)
        no -= *p == ' ';
    for (; *p >= '0' && *p <= '9' && v < 100000000; p++)
        v = v * 10 + (unsigned)(*p - '0');
    return v ? v : otherwise;
}

void bare_main(void)
{
    uint32_t r[4];

    for (unsigned v = VECTORS; v <= VECTOR; v++)
        bare_on(v, on_ipi);
    bare_on(VECTOR_TIMER, on_timer);
    bare_on(2, on_nmi);
    ncpus = number(1, 1);
    total = number(2, 2400);
    check(ncpus <= MAX_CPUS, "as many CPUs as there is room for");
    if (ncpus > MAX_CPUS)
        return;
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    set_up(0);
    start_others();
    run_all(false);
    cpuid(1, 0, r);
    if (r[2] >> 21 & 1) {
        run("", TO_X2APIC, 1);
        run_all(true);
    } else {
        bare_print("SKIP x2APIC: the CPU has it not\n");
    }
    check_equal(bad_code, 0, "code that was changed was the new one");
}
