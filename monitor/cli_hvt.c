/*
 * `mayfly hvt`: the command line of Solo5's own tender, for tools that know that one. It is turned
 * into one of `mayfly run`, whose other options are taken as well (as --NAME=VALUE: a VALUE apart
 * from its option would be taken for the image by those tools).
 */
#include "monitor/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NAMED CONFIG_DEVICES

/* What was said of one device, in any order. */
struct named {
    const char *name;
    size_t len;
    const char *file, *sector, *tap, *mac;
};

struct spelling {
    struct named dev[MAX_NAMED];
    unsigned n;
    bool gdb;
    const char *gdb_port;
};

static struct named *named(struct spelling *s, const char *name, size_t len, bool disk)
{
    for (unsigned i = 0; i < s->n; i++) {
        struct named *d = &s->dev[i];

        if (d->len == len && !memcmp(d->name, name, len) && disk == (d->file || d->sector))
            return d;
    }
    if (s->n == MAX_NAMED)
        return NULL;
    s->dev[s->n] = (struct named){.name = name, .len = len};
    return &s->dev[s->n++];
}

/* "--block:NAME=FILE" and its like. 1: taken; 0: another option; -1: refused, said. */
static int take_named(struct spelling *s, const char *arg)
{
    static const struct {
        const char *prefix;
        size_t field;
        bool disk;
    } options[] = {{"--block:", offsetof(struct named, file), true},
                   {"--block-sector-size:", offsetof(struct named, sector), true},
                   {"--net:", offsetof(struct named, tap), false},
                   {"--net-mac:", offsetof(struct named, mac), false}};

    for (unsigned i = 0; i < sizeof options / sizeof *options; i++) {
        size_t len = strlen(options[i].prefix);
        const char *name = arg + len, *eq;

        if (strncmp(arg, options[i].prefix, len))
            continue;
        eq = strchr(name, '=');
        if (!eq || eq == name || !eq[1]) {
            msg_error("option '%s': it is %sNAME=...", arg, options[i].prefix);
            return -1;
        }
        struct named *d = named(s, name, (size_t)(eq - name), options[i].disk);

        if (!d) {
            msg_error("more than %d devices; leave some out", MAX_NAMED);
            return -1;
        }
        const char **field = (const char **)((char *)d + options[i].field);

        if (*field) {
            msg_error("option '%s': given before for this name; leave one out", arg);
            return -1;
        }
        *field = eq + 1;
        return 1;
    }
    return 0;
}

/* The argument of --disk: commas in the file's name doubled. */
static char *disk_argument(const struct named *d)
{
    size_t size = d->len + 2 * strlen(d->file) + 32 + (d->sector ? strlen(d->sector) : 0);
    char *s = malloc(size), *p = s;

    if (!s)
        return NULL;
    p += sprintf(p, "%.*s=", (int)d->len, d->name);
    for (const char *f = d->file; *f; f++) {
        *p++ = *f;
        if (*f == ',')
            *p++ = ',';
    }
    *p = 0;
    if (d->sector)
        sprintf(p, ",sector=%s", d->sector);
    return s;
}

static char *net_argument(const struct named *d)
{
    bool fd = d->tap[0] == '@';
    char *s = NULL;

    if (asprintf(&s, "%.*s=%s=%s%s%s", (int)d->len, d->name, fd ? "fd" : "tap", d->tap + fd,
                 d->mac ? ",mac=" : "", d->mac ? d->mac : "") < 0)
        return NULL;
    return s;
}

/* --disk and --net for what was said; false: said why not. */
static bool put_devices(const struct spelling *s, char **out, int *n)
{
    for (unsigned i = 0; i < s->n; i++) {
        const struct named *d = &s->dev[i];

        if (!d->file && !d->tap) {
            msg_error("--%s:%.*s=%s: nothing is attached as that; give --%s:%.*s=... too",
                      d->sector ? "block-sector-size" : "net-mac", (int)d->len, d->name,
                      d->sector ? d->sector : d->mac, d->sector ? "block" : "net", (int)d->len,
                      d->name);
            return false;
        }
        out[(*n)++] = d->file ? "--disk" : "--net";
        out[*n] = d->file ? disk_argument(d) : net_argument(d);
        if (!out[(*n)++]) {
            msg_error("no memory for the command line");
            return false;
        }
    }
    return true;
}

/* One option; false: said why not. */
static bool put_option(struct spelling *s, char *arg, char **out, int *n)
{
    static char memory[32];
    int r = take_named(s, arg);

    if (r < 0)
        return false;
    if (r)
        return true;
    if (!strcmp(arg, "--gdb")) {
        s->gdb = true;
        return true;
    }
    if (!strncmp(arg, "--gdb-port=", 11)) {
        s->gdb_port = arg + 11;
        return true;
    }
    if (strncmp(arg, "--mem=", 6)) {
        out[(*n)++] = arg;
        return true;
    }
    if (!arg[6] || strspn(arg + 6, "0123456789") != strlen(arg + 6) || strlen(arg) > 20) {
        msg_error("option '%s': not a number of MiB, as in --mem=512", arg);
        return false;
    }
    snprintf(memory, sizeof memory, "%sM", arg + 6);
    out[(*n)++] = "-m";
    out[(*n)++] = memory;
    return true;
}

int cli_hvt_options(int argc, char **argv, struct config *cfg)
{
    static char *const always[] = {"run", "--boot", "hvt", "-m", "512M"};
    size_t most = sizeof always / sizeof *always + 3 * (size_t)argc + 2 * MAX_NAMED + 4;
    char **out = calloc(most + 2 * (size_t)argc, sizeof *out), **other;
    static struct spelling s;
    int n = 0, at = 1, others = 0;

    if (!out) {
        msg_error("no memory for the command line");
        return STATUS_FAILURE;
    }
    other = out + most;
    for (; n < (int)(sizeof always / sizeof *always); n++)
        out[n] = always[n];
    for (; at < argc && argv[at][0] == '-' && strcmp(argv[at], "--"); at++)
        if (!put_option(&s, argv[at], other, &others))
            return STATUS_FAILURE;
    if (!put_devices(&s, out, &n))
        return STATUS_FAILURE;
    if (s.gdb) {
        out[n++] = "--gdb";
        out[n++] = (char *)(uintptr_t)(s.gdb_port ? s.gdb_port : "1234");
    }
    for (int i = 0; i < others; i++)
        out[n++] = other[i];
    for (; at < argc; at++)
        out[n++] = argv[at];
    return cli_run_options(n, out, cfg);
}
