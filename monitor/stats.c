/*
 * What a run counted: one walk over tables of names, shown twice, as a table and as JSON.
 */
#include "monitor/core.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "vcpu/bt/bt.h"

#define TOP_FALLBACKS 10

static const char *const exit_name[EXIT_REASONS] = {
    [EXIT_KICKED] = "kicked", [EXIT_HLT] = "hlt",           [EXIT_PIO] = "pio",
    [EXIT_MMIO] = "mmio",     [EXIT_SHUTDOWN] = "shutdown", [EXIT_ERROR] = "error",
    [EXIT_STOP] = "stop",     [EXIT_DEBUG] = "debug",
};

static const char *const kvm_exit_name[64] = {
    [KVM_EXIT_UNKNOWN] = "unknown",
    [KVM_EXIT_EXCEPTION] = "exception",
    [KVM_EXIT_IO] = "io",
    [KVM_EXIT_HYPERCALL] = "hypercall",
    [KVM_EXIT_DEBUG] = "debug",
    [KVM_EXIT_HLT] = "hlt",
    [KVM_EXIT_MMIO] = "mmio",
    [KVM_EXIT_IRQ_WINDOW_OPEN] = "irq_window",
    [KVM_EXIT_SHUTDOWN] = "shutdown",
    [KVM_EXIT_FAIL_ENTRY] = "fail_entry",
    [KVM_EXIT_INTR] = "intr",
    [KVM_EXIT_SET_TPR] = "set_tpr",
    [KVM_EXIT_TPR_ACCESS] = "tpr_access",
    [KVM_EXIT_NMI] = "nmi",
    [KVM_EXIT_INTERNAL_ERROR] = "internal_error",
    [KVM_EXIT_SYSTEM_EVENT] = "system_event",
    [KVM_EXIT_IOAPIC_EOI] = "ioapic_eoi",
    [KVM_EXIT_HYPERV] = "hyperv",
    [KVM_EXIT_X86_RDMSR] = "rdmsr",
    [KVM_EXIT_X86_WRMSR] = "wrmsr",
    [KVM_EXIT_X86_BUS_LOCK] = "bus_lock",
};

static const char *const exception_name[32] = {
    "DE", "DB", "NMI", "BP", "OF", "BR", "UD", "NM", "DF", "9",  "TS",
    "NP", "SS", "GP",  "PF", "15", "MF", "AC", "MC", "XM", "VE", "CP",
};

static const struct counter {
    const char *section, *name;
    size_t offset; /* in struct vcpu_stats */
} counters[] = {
#define C(section, field)                                   \
    {                                                       \
        section, #field, offsetof(struct vcpu_stats, field) \
    }
    C("bus", pio_reads),        C("bus", pio_writes),      C("bus", mmio_reads),
    C("bus", mmio_writes),      C("events", irqs),         C("events", nmis),
    C("events", hlts),          C("events", kicks),        C("events", spins),
    C("interp", insns),         C("bt", bt_blocks),        C("bt", bt_guest_insns),
    C("bt", bt_guest_bytes),    C("bt", bt_host_bytes),    C("bt", bt_translate_ns),
    C("bt", bt_retranslations), C("bt", bt_flushes),       C("bt", bt_chains),
    C("bt", bt_lookups),        C("bt", bt_jc_misses),     C("bt", bt_tlb_refills),
    C("bt", bt_slow_mem),       C("bt", bt_crossings),     C("bt", bt_callouts),
    C("bt", bt_fallbacks),      C("bt", bt_smc),           C("bt", bt_polls),
    C("bt", bt_cold_runs),      C("bt", bt_window_misses), C("bt", bt_copied),
    C("bt", bt_moved),
#undef C
};

/* A counter's sum over the vCPUs. */
static uint64_t sum(const struct machine *m, size_t offset)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < m->cpus.nvcpu; i++) {
        uint64_t v;

        memcpy(&v, (const char *)&m->cpus.vcpu[i]->stats + offset, sizeof v);
        n += v;
    }
    return n;
}

static void launch_steps(const struct machine *m, stats_sink *put, void *to)
{
    const struct {
        const char *name;
        uint64_t from, to;
    } step[] = {
        {"exec_to_main", m->t.exec, m->t.main},
        {"main_to_vm", m->t.main, m->t.vm_ready},
        {"vm_to_loaded", m->t.vm_ready, m->t.loaded},
        {"loaded_to_first_insn", m->t.loaded, m->t.first_insn},
        {"first_insn_to_guest_up", m->t.first_insn, m->t.guest_up},
        {"first_insn_to_exit", m->t.first_insn, m->t.exit},
        {"exec_to_exit", m->t.exec, m->t.exit},
    };

    for (unsigned i = 0; i < sizeof step / sizeof step[0]; i++)
        if (step[i].from && step[i].to >= step[i].from)
            put(to, "launch_ns", step[i].name, step[i].to - step[i].from);
}

static void fallbacks(const struct machine *m, stats_sink *put, void *to)
{
    static const char *const map[4] = {"", "0f ", "0f38 ", "0f3a "};
    bool done[1024] = {false};

    for (unsigned k = 0; k < TOP_FALLBACKS; k++) {
        uint64_t best = 0;
        unsigned at = 0;
        char name[32];

        for (unsigned op = 0; op < 1024; op++) {
            uint64_t n = sum(m, offsetof(struct vcpu_stats, bt_fallback_op) + op * 8);

            if (!done[op] && n > best) {
                best = n;
                at = op;
            }
        }
        if (!best)
            return;
        done[at] = true;
        snprintf(name, sizeof name, "%s%02x", map[at >> 8], at & 0xff);
        put(to, "bt_fallback_opcodes", name, best);
    }
}

static void memory(const struct machine *m, stats_sink *put, void *to)
{
    struct bt_memory b;

    bt_memory(&m->cpus, &b);
    put(to, "memory_bytes", "bt_code", b.code);
    put(to, "memory_bytes", "bt_tables", b.tables);
    put(to, "memory_bytes", "bt_cpus", b.cpus);
    put(to, "memory_bytes", "bt_all", b.code + b.tables + b.cpus);
    put(to, "memory_bytes", "guest_ram", b.ram);
}

static void each(const struct machine *m, stats_sink *put, void *to)
{
    const char *name;

    launch_steps(m, put, to);
    for (unsigned i = 0; i < EXIT_REASONS; i++)
        put(to, "exits", exit_name[i], sum(m, offsetof(struct vcpu_stats, exits) + i * 8));
    for (unsigned i = 0; i < 64; i++) {
        uint64_t n = sum(m, offsetof(struct vcpu_stats, kvm_exits) + i * 8);
        char number[16];

        snprintf(number, sizeof number, "%u", i);
        if (n)
            put(to, "kvm_exits", kvm_exit_name[i] ? kvm_exit_name[i] : number, n);
    }
    for (unsigned i = 0; i < sizeof counters / sizeof counters[0]; i++)
        put(to, counters[i].section, counters[i].name, sum(m, counters[i].offset));
    for (unsigned i = 0; i < 32; i++) {
        uint64_t n = sum(m, offsetof(struct vcpu_stats, exceptions) + i * 8);
        char number[16];

        snprintf(number, sizeof number, "%u", i);
        if (n)
            put(to, "exceptions", exception_name[i] ? exception_name[i] : number, n);
    }
    fallbacks(m, put, to);
    for (unsigned i = 0; i < sizeof m->pio_count / sizeof m->pio_count[0]; i++) {
        name = pio_device_name(i);
        if (!name)
            break;
        if (m->pio_count[i])
            put(to, "devices", name, m->pio_count[i]);
    }
    devices_statistics(m, put, to);
    memory(m, put, to);
    put(to, "unclaimed", "reads", m->unclaimed_reads);
    put(to, "unclaimed", "writes", m->unclaimed_writes);
}

/* --- the table --- */

struct table {
    struct text t;
    char section[32]; /* the caller's text may not last */
    uint64_t run_ns;
};

static void put_row(void *to, const char *section, const char *name, uint64_t value)
{
    struct table *tab = to;
    bool launch = !strcmp(section, "launch_ns");

    if (!value)
        return;
    if (strcmp(section, tab->section) != 0)
        text_add(&tab->t, "  %s\n", launch ? "launch, us" : section);
    snprintf(tab->section, sizeof tab->section, "%s", section);
    if (launch)
        text_add(&tab->t, "    %-24s %11llu.%03llu%s\n", name, (unsigned long long)(value / 1000),
                 (unsigned long long)(value % 1000),
                 !strcmp(name, "exec_to_main") ? "  (process CPU time at main)" : "");
    else if (strstr(name, STATS_PER_MILLE))
        text_add(&tab->t, "    %-24s %15.3f\n", name, (double)value / 1000);
    else if (!strcmp(section, "memory_bytes"))
        text_add(&tab->t, "    %-24s %15llu\n", name, (unsigned long long)value);
    else
        text_add(&tab->t, "    %-24s %15llu %12.0f/s\n", name, (unsigned long long)value,
                 tab->run_ns ? (double)value * 1e9 / (double)tab->run_ns : 0.0);
}

void stats_print(const struct machine *m)
{
    static char buf[32768];
    struct table tab = {.t = {buf, 0, sizeof buf}, .run_ns = m->t.exit - m->t.first_insn};

    text_add(&tab.t, "mayfly statistics: engine %s, %s boot, %u CPU, status %d (%s)\n",
             m->engine->name, m->boot.protocol, m->cpus.nvcpu, m->status,
             m->stop_reason ? m->stop_reason : "?");
    each(m, put_row, &tab);
    msg_write_all(2, tab.t.buf, tab.t.len);
}

/* --- JSON --- */

static void put_json(void *to, const char *section, const char *name, uint64_t value)
{
    json_t *root = to, *o = json_object_get(root, section), *old;

    if (!o) {
        o = json_object();
        json_object_set_new(root, section, o);
    }
    /* Rows of one device (two ports of the 8259) are one number. */
    if (strstr(name, STATS_PER_MILLE)) {
        json_object_set_new(o, name, json_real((double)value / 1000));
        return;
    }
    old = json_object_get(o, name);
    json_object_set_new(o, name, json_integer((json_int_t)value + json_integer_value(old)));
}

int stats_open(const char *path, bool *created)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY | O_CREAT | O_EXCL, 0666);

    *created = fd >= 0;
    if (fd < 0 && errno == EEXIST)
        fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    return fd < 0 ? -errno : fd;
}

/* A name that is no UTF-8 has no place in JSON. */
static json_t *string(const char *s)
{
    json_t *j = s ? json_string(s) : NULL;

    return j ? j : json_string("?");
}

int stats_write_json(const struct machine *m, int fd)
{
    /* A fixed seed: jansson would open /dev/urandom for one, which the filter forbids. The keys are
     * ours. */
    json_object_seed(1);
    json_t *root = json_object();
    int err = 0;

    json_object_set_new(root, "version", json_string(MAYFLY_VERSION));
    json_object_set_new(root, "guest", string(m->cfg->guest));
    json_object_set_new(root, "engine", json_string(m->engine->name));
    json_object_set_new(root, "boot", string(m->boot.protocol));
    json_object_set_new(root, "cpus", json_integer(m->cpus.nvcpu));
    json_object_set_new(root, "memory", json_integer((json_int_t)m->cfg->memory));
    json_object_set_new(root, "tsc_hz", json_integer((json_int_t)m->cpus.tsc_hz));
    json_object_set_new(root, "status", json_integer(m->status));
    json_object_set_new(root, "reason", string(m->stop_reason));
    each(m, put_json, root);
    char *s = json_dumps(root, JSON_INDENT(2));

    if (!s)
        return -ENOMEM;
    /* The old content goes now, when there is new. A pipe or a device has none. */
    if (ftruncate(fd, 0) && errno != EINVAL)
        err = -errno;
    size_t len = strlen(s);

    s[len++] = '\n'; /* for its NUL */
    for (size_t done = 0; done < len && !err;) {
        ssize_t n = write(fd, s + done, len - done);

        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            err = n == 0 ? -EIO : -errno;
    }
    return err;
}
