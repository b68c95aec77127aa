/* What the packets of a client ask for ("Packets", GDB's manual, appendix E). */
#include <stdio.h>
#include <string.h>
#include "monitor/core.h"
#include "monitor/gdb.h"
#include "monitor/gdb_regs.h"

enum { SIG_INT = 2, SIG_TRAP = 5, SIG_ABORT = 6, SIG_KILL = 9 };

void gdb_error(struct gdb *g, unsigned code)
{
    gdb_begin(&g->out);
    gdb_put(&g->out, "E%02x", code);
}

void gdb_ok(struct gdb *g)
{
    gdb_put(&g->out, "OK");
}

/* --- threads: vCPU n is thread n + 1 --- */

bool gdb_thread_id(const struct gdb *g, const char **s, unsigned *n)
{
    uint64_t id;

    if (gdb_word(s, "-1")) {
        *n = ALL_CPUS;
        return true;
    }
    if (!gdb_number(s, &id) || id > g->m->cpus.nvcpu)
        return false;
    *n = id ? (unsigned)id - 1 : g->cpu;
    return true;
}

static void select_thread(struct gdb *g, const char *s)
{
    char what = *s;
    unsigned n;

    if ((what != 'g' && what != 'c') || (s++, !gdb_thread_id(g, &s, &n)) || *s) {
        gdb_error(g, GDB_E_ARGUMENT);
        return;
    }
    if (what == 'c')
        g->cpu_cont = n;
    else if (n != ALL_CPUS)
        g->cpu = n;
    gdb_ok(g);
}

static void is_alive(struct gdb *g, const char *s)
{
    unsigned n;

    if (gdb_thread_id(g, &s, &n) && !*s && n != ALL_CPUS)
        gdb_ok(g);
    else
        gdb_error(g, GDB_E_ARGUMENT);
}

/* --- registers --- */

static void read_registers(struct gdb *g)
{
    uint8_t val[GDB_REG_SIZE];

    for (unsigned n = 0; n < gdb_regs(g->layout); n++) {
        gdb_reg_read(gdb_cpu(g, g->cpu), g->layout, n, val);
        gdb_put_hex(&g->out, val, gdb_reg_size(g->layout, n));
    }
}

/* What cannot be changed is left as it is: the client writes all it knows. */
static void write_registers(struct gdb *g, const char *s)
{
    uint8_t val[GDB_REG_SIZE];

    for (unsigned n = 0; n < gdb_regs(g->layout) && *s; n++) {
        if (!gdb_bytes(&s, val, gdb_reg_size(g->layout, n))) {
            gdb_error(g, GDB_E_ARGUMENT);
            return;
        }
        gdb_reg_write(gdb_cpu(g, g->cpu), g->layout, n, val);
    }
    gdb_ok(g);
}

static void read_register(struct gdb *g, const char *s)
{
    uint8_t val[GDB_REG_SIZE];
    uint64_t n;

    if (!gdb_number(&s, &n) || *s || n >= gdb_regs(g->layout)) {
        gdb_error(g, GDB_E_ARGUMENT);
        return;
    }
    gdb_reg_read(gdb_cpu(g, g->cpu), g->layout, (unsigned)n, val);
    gdb_put_hex(&g->out, val, gdb_reg_size(g->layout, (unsigned)n));
}

static void write_register(struct gdb *g, const char *s)
{
    uint8_t val[GDB_REG_SIZE] = {0};
    uint64_t n;

    if (gdb_number(&s, &n) && gdb_char(&s, '=') && n < gdb_regs(g->layout) &&
        gdb_bytes(&s, val, gdb_reg_size(g->layout, (unsigned)n)) && !*s &&
        gdb_reg_write(gdb_cpu(g, g->cpu), g->layout, (unsigned)n, val))
        gdb_ok(g);
    else
        gdb_error(g, GDB_E_ARGUMENT);
}

/* --- memory --- */

static void read_memory(struct gdb *g, const char *s)
{
    static uint8_t buf[GDB_MEMORY_MAX];
    uint64_t at, len;

    if (!gdb_range(&s, &at, &len) || *s) {
        gdb_error(g, GDB_E_ARGUMENT);
        return;
    }
    size_t n = debugger_read(gdb_cpu(g, g->cpu), at, buf, len < sizeof buf ? len : sizeof buf);

    if (!n && len)
        gdb_error(g, GDB_E_FAULT);
    else
        gdb_put_hex(&g->out, buf, n);
}

/* M addr,len:hex and X addr,len:binary. */
static void write_memory(struct gdb *g, const char *s, bool binary)
{
    static uint8_t buf[GDB_PACKET_MAX];
    const char *end = g->in.data + g->in.len;
    uint64_t at, len;
    bool ok = gdb_range(&s, &at, &len) && gdb_char(&s, ':') && len <= sizeof buf;

    if (ok && binary && (ok = len == (size_t)(end - s)))
        memcpy(buf, s, len);
    else if (ok)
        ok = gdb_bytes(&s, buf, len) && s == end;
    if (!ok)
        gdb_error(g, GDB_E_ARGUMENT);
    else if (debugger_write(gdb_cpu(g, g->cpu), at, buf, len) == len)
        gdb_ok(g);
    else
        gdb_error(g, GDB_E_FAULT);
}

/* --- breakpoints: Z type,addr,kind and z --- */

static void set_point(struct gdb *g, const char *s, bool add)
{
    uint64_t kind, at, len;

    if (!gdb_number(&s, &kind) || !gdb_char(&s, ',') || !gdb_range(&s, &at, &len) ||
        (*s && *s != ';')) {
        gdb_error(g, GDB_E_ARGUMENT);
        return;
    }
    if (kind > DEBUG_ACCESS)
        return; /* no such kind: an empty reply */
    struct debug_point p = {at, len > UINT32_MAX ? 0 : (uint32_t)len, (uint8_t)kind};

    if (!add)
        debug_remove(&g->m->cpus, p);
    else if (debug_add(&g->m->cpus, p)) {
        gdb_error(g, GDB_E_NOSPACE);
        return;
    }
    gdb_ok(g);
}

/* --- going on --- */

static bool still_watched(const struct gdb *g, const struct debug_stop *stop)
{
    const struct debug *d = g->m->cpus.debug;

    for (unsigned i = 0; i < d->ndata; i++)
        if (d->data[i].at == stop->at && d->data[i].kind == stop->kind)
            return true;
    return false;
}

/* A watchpoint that another CPU met when the first one stopped is told before anything runs on;
 * breakpoints will be met again. */
static bool waiting_watch(struct gdb *g)
{
    for (unsigned i = 0; i < g->m->cpus.nvcpu; i++) {
        struct debug_stop *stop = &gdb_cpu(g, i)->debug_stop;

        if (stop->why == DEBUG_AT_WATCH && still_watched(g, stop))
            return true;
        if (stop->why != DEBUG_CRASHED)
            stop->why = DEBUG_NOTHING;
    }
    return false;
}

static bool resume(struct gdb *g, const struct debugger_order *order)
{
    bool any = false;

    for (unsigned i = 0; i < g->m->cpus.nvcpu; i++)
        any |= order[i].action != DEBUGGER_STAY;
    if (!any) {
        gdb_error(g, GDB_E_ARGUMENT);
        return true;
    }
    if (waiting_watch(g)) {
        gdb_stop_reply(g);
        return true;
    }
    g->state = GDB_RUNNING;
    g->interrupted = false;
    debugger_resume(g->m, order);
    return false;
}

/* c, s, C sig, S sig, each with [;]addr: signals mean nothing to a CPU. */
static bool go(struct gdb *g, enum debugger_action how, const char *s, bool signal)
{
    struct debugger_order order[MAX_VCPUS] = {0};
    unsigned stepper = g->cpu_cont == ALL_CPUS ? g->cpu : g->cpu_cont;
    uint64_t x = 0;
    bool ok = !signal || gdb_number(&s, &x);

    if (signal && ok)
        gdb_char(&s, ';');
    if (ok && *s)
        ok = gdb_number(&s, &x) && !*s && gdb_set_rip(gdb_cpu(g, g->cpu), x);
    if (!ok) {
        gdb_error(g, GDB_E_ARGUMENT);
        return true;
    }
    for (unsigned i = 0; i < g->m->cpus.nvcpu; i++)
        if (how == DEBUGGER_CONTINUE || i == stepper)
            order[i].action = how;
    return resume(g, order);
}

/* One action of vCont. */
static bool action(const char **s, struct debugger_order *o)
{
    uint64_t signal;

    *o = (struct debugger_order){DEBUGGER_CONTINUE, 0, 0};
    if (gdb_char(s, 'c'))
        return true;
    if (gdb_char(s, 'C'))
        return gdb_number(s, &signal);
    o->action = DEBUGGER_STEP;
    if (gdb_char(s, 's'))
        return true;
    if (gdb_char(s, 'S'))
        return gdb_number(s, &signal);
    return gdb_char(s, 'r') && gdb_range(s, &o->from, &o->to);
}

/* vCont;action[:thread];...: for every CPU the leftmost that names it. */
static bool vcont(struct gdb *g, const char *s)
{
    struct debugger_order order[MAX_VCPUS] = {0}, o;
    bool named[MAX_VCPUS] = {false};
    unsigned n;

    while (gdb_char(&s, ';')) {
        if (!action(&s, &o)) {
            gdb_error(g, GDB_E_ARGUMENT);
            return true;
        }
        n = ALL_CPUS;
        if (gdb_char(&s, ':') && !gdb_thread_id(g, &s, &n)) {
            gdb_error(g, GDB_E_ARGUMENT);
            return true;
        }
        for (unsigned i = 0; i < g->m->cpus.nvcpu; i++)
            if (!named[i] && (n == ALL_CPUS || n == i)) {
                named[i] = true;
                order[i] = o;
            }
    }
    if (*s) {
        gdb_error(g, GDB_E_ARGUMENT);
        return true;
    }
    return resume(g, order);
}

void gdb_let_go(struct gdb *g)
{
    struct debugger_order order[MAX_VCPUS];

    for (unsigned i = 0; i < MAX_VCPUS; i++)
        order[i] = (struct debugger_order){DEBUGGER_CONTINUE, 0, 0};
    debug_clear(&g->m->cpus);
    debugger_resume(g->m, order);
}

void gdb_stop_reply(struct gdb *g)
{
    static const char *const watch[] = {
        [DEBUG_WRITE] = "watch", [DEBUG_READ] = "rwatch", [DEBUG_ACCESS] = "awatch"};
    int n = debugger_report(g->m, g->cpu);
    const struct debug_stop *stop = n < 0 ? NULL : &gdb_cpu(g, (unsigned)n)->debug_stop;

    g->state = GDB_STOPPED;
    if (n >= 0)
        g->cpu = (unsigned)n;
    gdb_begin(&g->out);
    gdb_put(&g->out, "T%02xthread:%x;",
            !stop                        ? (g->interrupted ? SIG_INT : SIG_TRAP)
            : stop->why == DEBUG_CRASHED ? SIG_ABORT
                                         : SIG_TRAP,
            g->cpu + 1);
    if (!stop)
        return;
    if (stop->why == DEBUG_AT_WATCH)
        gdb_put(&g->out, "%s:%llx;", watch[stop->kind], (unsigned long long)stop->at);
    else if (stop->why == DEBUG_AT_BREAK && stop->kind == DEBUG_BREAK && g->swbreak)
        gdb_put(&g->out, "swbreak:;");
    else if (stop->why == DEBUG_AT_BREAK && stop->kind == DEBUG_HW_BREAK && g->hwbreak)
        gdb_put(&g->out, "hwbreak:;");
    if (stop->why != DEBUG_CRASHED)
        gdb_cpu(g, (unsigned)n)->debug_stop.why = DEBUG_NOTHING; /* told */
}

static bool kill_guest(struct gdb *g)
{
    machine_stop(g->m, STATUS_SIGNAL + SIG_KILL, "killed from GDB");
    return false;
}

static bool v_packet(struct gdb *g, const char *s)
{
    if (!strcmp(s, "Cont?"))
        gdb_put(&g->out, "vCont;c;C;s;S;r");
    else if (gdb_word(&s, "Cont"))
        return vcont(g, s);
    else if (gdb_word(&s, "Kill")) {
        kill_guest(g);
        gdb_ok(g);
    }
    return true;
}

bool gdb_command(struct gdb *g)
{
    const char *s = g->in.data;

    gdb_begin(&g->out);
    switch (*s ? *s++ : 0) {
    case '?':
        gdb_stop_reply(g);
        break;
    case 'g':
        read_registers(g);
        break;
    case 'G':
        write_registers(g, s);
        break;
    case 'p':
        read_register(g, s);
        break;
    case 'P':
        write_register(g, s);
        break;
    case 'm':
        read_memory(g, s);
        break;
    case 'M':
    case 'X':
        write_memory(g, s, s[-1] == 'X');
        break;
    case 'Z':
    case 'z':
        set_point(g, s, s[-1] == 'Z');
        break;
    case 'c':
    case 's':
        return go(g, s[-1] == 'c' ? DEBUGGER_CONTINUE : DEBUGGER_STEP, s, false);
    case 'C':
    case 'S':
        return go(g, s[-1] == 'C' ? DEBUGGER_CONTINUE : DEBUGGER_STEP, s, true);
    case 'H':
        select_thread(g, s);
        break;
    case 'T':
        is_alive(g, s);
        break;
    case 'D':
        gdb_ok(g); /* gdb.c drops the client */
        break;
    case 'k':
        return kill_guest(g);
    case 'q':
        gdb_query(g, s);
        break;
    case 'Q':
        if (!strcmp(s, "StartNoAckMode")) {
            g->no_ack = true;
            gdb_ok(g);
        }
        break;
    case 'v':
        return v_packet(g, s);
    default: /* an empty reply: unknown */
        break;
    }
    if (g->out.full)
        gdb_error(g, GDB_E_NOSPACE);
    return true;
}
