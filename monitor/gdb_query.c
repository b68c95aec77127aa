/* What a client asks about: features, threads, the words after "monitor". */
#include <stdio.h>
#include <string.h>
#include "monitor/core.h"
#include "monitor/gdb.h"
#include "monitor/gdb_regs.h"

static void list_threads(struct gdb *g)
{
    for (unsigned i = 0; i < g->m->cpus.nvcpu; i++)
        gdb_put(&g->out, "%c%x", i ? ',' : 'm', i + 1);
}

static const char *doing(const struct vcpu *v)
{
    return v->cpu.wait_for_sipi                 ? "waits for its start"
           : v->cpu.halted                      ? "halted"
           : v->debug_stop.why == DEBUG_CRASHED ? "crashed"
           : v->cpu.cpl == 3                    ? "user"
                                                : "kernel";
}

static void describe_thread(struct gdb *g, const char *s)
{
    char text[64];
    unsigned n;

    if (!gdb_thread_id(g, &s, &n) || *s || n == ALL_CPUS) {
        gdb_error(g, GDB_E_ARGUMENT);
        return;
    }
    int len = snprintf(text, sizeof text, "CPU %u [%s]", n, doing(gdb_cpu(g, n)));

    gdb_put_hex(&g->out, text, (size_t)len);
}

static void supported(struct gdb *g, const char *s)
{
    g->swbreak = strstr(s, "swbreak+") != NULL;
    g->hwbreak = strstr(s, "hwbreak+") != NULL;
    gdb_put(&g->out,
            "PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;vContSupported+;swbreak+;hwbreak+",
            GDB_PACKET_MAX);
}

/* A piece of the target description: annex:offset,length. */
static void features(struct gdb *g, const char *s)
{
    uint64_t at, len;
    size_t size;
    const char *text = gdb_description(g->layout, &size);

    if (!gdb_word(&s, "target.xml:") || !gdb_range(&s, &at, &len) || *s || at > size) {
        gdb_error(g, GDB_E_ARGUMENT);
        return;
    }
    size_t left = size - (size_t)at, n = len < GDB_MEMORY_MAX ? (size_t)len : GDB_MEMORY_MAX;

    gdb_put(&g->out, "%c", n < left ? 'm' : 'l');
    gdb_put_binary(&g->out, text + at, n < left ? n : left);
}

static void say(struct gdb *g, const char *text)
{
    gdb_put_hex(&g->out, text, strlen(text));
}

static void monitor_cpus(struct gdb *g)
{
    char line[160];

    for (unsigned i = 0; i < g->m->cpus.nvcpu; i++) {
        const struct cpu *c = &gdb_cpu(g, i)->cpu;

        snprintf(line, sizeof line, "CPU %u: %04x:%016llx cpl %u cr3 %llx, %s\n", i,
                 c->seg[SEG_CS].sel, (unsigned long long)c->rip, c->cpl, (unsigned long long)c->cr3,
                 doing(gdb_cpu(g, i)));
        say(g, line);
    }
}

static void monitor_translate(struct gdb *g, const char *s)
{
    struct walk_result r;
    uint64_t at;
    char line[160];

    if (gdb_word(&s, "0x"), !gdb_number(&s, &at) || *s) {
        say(g, "translate ADDRESS: a hexadecimal number\n");
        return;
    }
    if (!debugger_translate(gdb_cpu(g, g->cpu), at, &r))
        snprintf(line, sizeof line, "%llx is not mapped\n", (unsigned long long)at);
    else
        snprintf(line, sizeof line, "%llx is at %llx, in a page of %llu KiB%s%s%s\n",
                 (unsigned long long)at, (unsigned long long)r.gpa,
                 (unsigned long long)r.page_size / 1024, r.user ? ", user" : "",
                 r.nx ? ", no execute" : "", r.global ? ", global" : "");
    say(g, line);
}

/* monitor WORDS, in hexadecimal. */
static void monitor(struct gdb *g, const char *hex)
{
    char text[128] = "";
    const char *s = text;
    size_t n = strlen(hex) / 2;

    if (n >= sizeof text || !gdb_bytes(&hex, text, n) || *hex) {
        gdb_error(g, GDB_E_ARGUMENT);
        return;
    }
    if (!strcmp(text, "cpus"))
        monitor_cpus(g);
    else if (gdb_word(&s, "translate "))
        monitor_translate(g, s);
    else
        say(g, "cpus               what every CPU does\n"
               "translate ADDRESS  where this CPU's page tables put it\n");
}

void gdb_query(struct gdb *g, const char *s)
{
    if (gdb_word(&s, "Supported"))
        supported(g, s);
    else if (gdb_word(&s, "Xfer:features:read:"))
        features(g, s);
    else if (!strcmp(s, "fThreadInfo"))
        list_threads(g);
    else if (!strcmp(s, "sThreadInfo"))
        gdb_put(&g->out, "l");
    else if (gdb_word(&s, "ThreadExtraInfo,"))
        describe_thread(g, s);
    else if (!strcmp(s, "C"))
        gdb_put(&g->out, "QC%x", g->cpu + 1);
    else if (gdb_word(&s, "Attached"))
        gdb_put(&g->out, "1"); /* quitting GDB leaves the guest running */
    else if (gdb_word(&s, "Rcmd,"))
        monitor(g, s);
    else if (!strcmp(s, "Offsets") && g->m->boot.moved)
        gdb_put(&g->out, "TextSeg=%llx", (unsigned long long)g->m->boot.moved);
    else if (gdb_word(&s, "Symbol:"))
        gdb_ok(g);
}
