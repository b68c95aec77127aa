/* The command line of `mayfly run`. Its options and statuses are fixed: scripts depend on them. */
#include "monitor/core.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "vcpu/bt/bt.h"

const char cli_help[] =
    "mayfly runs a kernel or unikernel in a virtual machine, with or without /dev/kvm.\n"
    "\n"
    "  mayfly run [OPTIONS] GUEST [ARG...]   boot GUEST with the ARGs, or as its command line\n"
    "  mayfly hvt [OPTIONS] IMAGE [ARG...]   the same for a Solo5 unikernel, with the options of\n"
    "                                        Solo5's own hvt tender\n"
    "  mayfly check                          what this host offers, and which engine auto takes\n"
    "  mayfly --help | --version\n"
    "\n"
    "GUEST is a file: a Linux bzImage or vmlinux, an ELF with a PVH note, a multiboot image, a\n"
    "Solo5 unikernel for hvt, or a static Linux program, which runs alone on mayfly's own "
    "runtime.\n"
    "The word hello means the guest built into mayfly, if no file has that name. Options end at "
    "GUEST.\n"
    "\n"
    "  -m, --memory SIZE     guest RAM: 512K, 128M, 3G; a plain number is MiB (default 128M)\n"
    "  -c, --cpus N          virtual CPUs, 1 to 16 (default 1)\n"
    "      --engine NAME     auto, kvm, bt (binary translation), interp (default auto)\n"
    "      --boot NAME       auto, linux, pvh, multiboot, elf, hvt (default auto: by the image)\n"
    "      --initrd FILE     initial RAM disk, or a multiboot module, of which there may be more\n"
    "      --disk FILE[,ro][,direct][,serial=S]   a disk from an image file or block device\n"
    "      --net tap=NAME|user[,...]|lo           a network card, see README\n"
    "                        (a Solo5 unikernel's: --disk NAME=FILE[,ro][,sector=N],\n"
    "                        --net NAME=tap=TAP|user[,...])\n"
    "      --vsock CID,uds=PATH  sockets between guest and host, under PATH\n"
    "      --share DIR[:TAG][,ro]                 a host directory, for mount -t virtiofs TAG;\n"
    "                                             a program finds it at /host, or with\n"
    "                                             DIR:/PATH at PATH\n"
    "      --console             a virtio console (hvc0), beside the serial port\n"
    "      --rng                 random numbers of the host\n"
    "      --balloon[=SIZE[,stats=SECONDS]]       free guest memory goes back to the host, SIZE "
    "of\n"
    "                                             it at once; its statistics every SECONDS\n"
    "      --env NAME[=VALUE]    for a program: in its environment; without VALUE: as it is here\n"
    "      --cwd DIR         for a program: where it starts, in its own tree (default /)\n"
    "      --gdb PORT|unix:PATH[,nowait][,i386]   let GDB connect; the guest waits for it\n"
    "      --dumpcore DIR    for a Solo5 unikernel: its core there when it aborts\n"
    "                        (mayfly hvt also: --mem=MIB, --block:NAME=FILE,\n"
    "                        --block-sector-size:NAME=N, --net:NAME=TAP|@FD, --net-mac:NAME=MAC)\n"
    "      --testdev         ports and memory that test suites expect of QEMU's pc-testdev\n"
    "      --bt-cache SIZE   bt: at most so much for translations, 1M to 1G (default 116M)\n"
    "      --timeout SECONDS stop the guest after this time (fractions allowed), status 124\n"
    "      --stats           a table on stderr at the end: launch steps, exits, translation\n"
    "      --stats=FILE      the same as JSON in FILE\n"
    "      --seccomp on|off  filter mayfly's own system calls (default on; off is for debuggers)\n"
    "  -v, --verbose         say what is chosen and why\n"
    "  -h, --help            this text\n"
    "      --version         mayfly's version\n"
    "\n"
    "stdin is the guest's console. When it is a terminal, a kernel gets all keys but Ctrl-A:\n"
    "Ctrl-A x quits (status 130), Ctrl-A Ctrl-A sends one Ctrl-A, Ctrl-A h lists these keys.\n"
    "A program has the terminal as on the host: Ctrl-C ends it.\n"
    "\n"
    "Exit status: the guest's own when it states one, 0 for an orderly power-off or reset;\n"
    "  123  halted, nothing can wake it    126  an image that cannot be loaded\n"
    "  124  --timeout passed               127  no such image\n"
    "  125  mayfly's failure, wrong usage  134  the guest crashed\n"
    "                                      128+N  stopped by signal N\n";

const char cli_version[] = "mayfly " MAYFLY_VERSION "\n";

#define MAX_ENV 256

struct word {
    const char *name;
    int value;
};

static const struct word engine_words[] = {{"auto", ENGINE_AUTO},
                                           {"kvm", ENGINE_KVM},
                                           {"bt", ENGINE_BT},
                                           {"interp", ENGINE_INTERP},
                                           {NULL, 0}};
static const struct word boot_words[] = {
    {"auto", BOOT_AUTO},           {"linux", BOOT_LINUX}, {"pvh", BOOT_PVH}, {"elf", BOOT_ELF},
    {"multiboot", BOOT_MULTIBOOT}, {"hvt", BOOT_HVT},     {NULL, 0}};
static const struct word switch_words[] = {{"on", 1}, {"off", 0}, {NULL, 0}};

enum {
    OPT_ENGINE = 256,
    OPT_BOOT,
    OPT_INITRD,
    OPT_TIMEOUT,
    OPT_STATS,
    OPT_SECCOMP,
    OPT_ENV,
    OPT_CWD,
    OPT_GDB,
    OPT_DUMPCORE,
    OPT_BT_CACHE,
    OPT_TESTDEV,
    OPT_VERSION,
    OPT_DEVICE,                        /* enum device_kind is added */
    OPT_BT = OPT_DEVICE + DEVICE_KINDS /* the bit is added */
};

static const struct option options[] = {
    {"memory", required_argument, NULL, 'm'},
    {"cpus", required_argument, NULL, 'c'},
    {"engine", required_argument, NULL, OPT_ENGINE},
    {"boot", required_argument, NULL, OPT_BOOT},
    {"initrd", required_argument, NULL, OPT_INITRD},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"stats", optional_argument, NULL, OPT_STATS},
    {"seccomp", required_argument, NULL, OPT_SECCOMP},
    {"env", required_argument, NULL, OPT_ENV},
    {"cwd", required_argument, NULL, OPT_CWD},
    {"gdb", required_argument, NULL, OPT_GDB},
    {"dumpcore", required_argument, NULL, OPT_DUMPCORE},
    {"disk", required_argument, NULL, OPT_DEVICE + DEVICE_DISK},
    {"net", required_argument, NULL, OPT_DEVICE + DEVICE_NET},
    {"vsock", required_argument, NULL, OPT_DEVICE + DEVICE_VSOCK},
    {"share", required_argument, NULL, OPT_DEVICE + DEVICE_SHARE},
    {"console", optional_argument, NULL, OPT_DEVICE + DEVICE_CONSOLE},
    {"rng", optional_argument, NULL, OPT_DEVICE + DEVICE_RNG},
    {"balloon", optional_argument, NULL, OPT_DEVICE + DEVICE_BALLOON},
    {"bt-cache", required_argument, NULL, OPT_BT_CACHE},
    {"testdev", no_argument, NULL, OPT_TESTDEV},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPT_VERSION},
    /* For bisecting the translator; not in --help. */
    {"bt-no-chain", no_argument, NULL, OPT_BT + BT_DBG_NO_CHAIN},
    {"bt-no-liveness", no_argument, NULL, OPT_BT + BT_DBG_NO_LIVENESS},
    {"bt-no-inline", no_argument, NULL, OPT_BT + BT_DBG_NO_INLINE},
    {"bt-no-window", no_argument, NULL, OPT_BT + BT_DBG_NO_WINDOW},
    {"bt-no-trace", no_argument, NULL, OPT_BT + BT_DBG_NO_TRACE},
    {"bt-no-low", no_argument, NULL, OPT_BT + BT_DBG_NO_LOW},
    {"bt-no-move", no_argument, NULL, OPT_BT + BT_DBG_NO_MOVE},
    {"bt-no-pcid", no_argument, NULL, OPT_BT + BT_DBG_NO_PCID},
    {"bt-move-low", no_argument, NULL, OPT_BT + BT_DBG_MOVE_LOW},
    {"bt-eager", no_argument, NULL, OPT_BT + BT_DBG_EAGER},
    {"bt-one-insn", no_argument, NULL, OPT_BT + BT_DBG_ONE_INSN},
    {NULL, 0, NULL, 0},
};

int cli_say(const char *text)
{
    size_t len = strlen(text);

    while (len) {
        ssize_t n = write(1, text, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            msg_error("stdout: %s", strerror(errno));
            return STATUS_FAILURE;
        }
        text += n;
        len -= (size_t)n;
    }
    return STATUS_OK;
}

int cli_parse_size(const char *s, uint64_t *bytes)
{
    uint64_t n = 0;
    unsigned shift = 20;

    if (*s < '0' || *s > '9')
        return -EINVAL;
    for (; *s >= '0' && *s <= '9'; s++)
        if (__builtin_mul_overflow(n, 10u, &n) || __builtin_add_overflow(n, *s - '0', &n))
            return -ERANGE;
    switch (*s) {
    case 'k':
    case 'K':
        shift = 10;
        s++;
        break;
    case 'm':
    case 'M':
        s++;
        break;
    case 'g':
    case 'G':
        shift = 30;
        s++;
        break;
    case 't':
    case 'T':
        shift = 40;
        s++;
        break;
    }
    /* 128MiB and 128MB are what people write too. */
    if (shift && *s == 'i' && s[1] == 'B')
        s += 2;
    else if (*s == 'B')
        s++;
    if (*s)
        return -EINVAL;
    if (n >> (63 - shift))
        return -ERANGE;
    *bytes = n << shift;
    return 0;
}

int cli_parse_seconds(const char *s, uint64_t *ns)
{
    uint64_t v = 0, unit = 1000000000u;
    bool digits = false;

    for (; *s >= '0' && *s <= '9'; s++) {
        digits = true;
        v = v * 10 + (uint64_t)(*s - '0') * unit;
        if (v > 1000000000u * unit)
            return -EOVERFLOW;
    }
    if (*s == '.')
        for (s++; *s >= '0' && *s <= '9'; s++) {
            digits = true;
            unit /= 10; /* past the nanosecond it is 0 */
            v += (uint64_t)(*s - '0') * unit;
        }
    if (*s == 's' && digits)
        s++;
    if (*s || !digits)
        return -EINVAL;
    if (!v)
        return -ERANGE;
    *ns = v;
    return 0;
}

/* The value of word s, or -1 with a line that lists the words. */
static int choose(const char *option, const char *s, const struct word *w)
{
    char list[128] = "";
    struct text t = {list, 0, sizeof list};

    for (unsigned i = 0; w[i].name; i++) {
        if (!strcmp(s, w[i].name))
            return w[i].value;
        text_add(&t, "%s%s", i ? ", " : "", w[i].name);
    }
    msg_error("--%s %s: not known; it takes one of %s", option, s, list);
    return -1;
}

static int take_initrd(const char *arg, struct config *cfg)
{
    if (!cfg->initrd) {
        cfg->initrd = arg;
        return 0;
    }
    if (cfg->nmodule == sizeof cfg->module / sizeof cfg->module[0]) {
        msg_error("--initrd %s: the ninth; there may be 8", arg);
        return -1;
    }
    cfg->module[cfg->nmodule++] = arg;
    return 0;
}

static int take_bt_cache(const char *s, struct config *cfg)
{
    int err = cli_parse_size(s, &cfg->bt_cache);

    if (err && err != -ERANGE) {
        msg_error("--bt-cache %s: not a size; give a number with K, M or G, as in 16M", s);
    } else if (err || cfg->bt_cache < BT_CACHE_MIN || cfg->bt_cache > BT_CACHE_MAX) {
        msg_error("--bt-cache %s: give %uM to %uM", s, (unsigned)(BT_CACHE_MIN / MIB),
                  (unsigned)(BT_CACHE_MAX / MIB));
        err = -1;
    }
    return err ? -1 : 0;
}

static int take_memory(const char *s, struct config *cfg)
{
    int err = cli_parse_size(s, &cfg->memory);

    if (err == -ERANGE)
        msg_error("-m %s: more than any machine has; give a smaller size", s);
    else if (err)
        msg_error("-m %s: not a size; give a number with K, M, G or T, as in -m 128M", s);
    else if (cfg->memory < 2 * MIB)
        msg_error("-m %s: too little; a guest gets at least 2M", s), err = -ERANGE;
    /* Whole pages. */
    cfg->memory = (cfg->memory + PAGE_SIZE - 1) & PAGE_MASK;
    return err ? -1 : 0;
}

static int take_timeout(const char *s, struct config *cfg)
{
    int err = cli_parse_seconds(s, &cfg->timeout_ns);

    if (err == -EOVERFLOW)
        msg_error("--timeout %s: longer than 30 years; leave it out for no limit", s);
    else if (err)
        msg_error("--timeout %s: not a time above 0 in seconds, as in --timeout 2.5", s);
    return err ? -1 : 0;
}

static int take_cpus(const char *s, struct config *cfg)
{
    char *end;

    errno = 0;
    unsigned long n = *s >= '0' && *s <= '9' ? strtoul(s, &end, 10) : 0;

    if (!n || *end || errno || n > MAX_VCPUS) {
        msg_error("--cpus %s: not a number from 1 to %d", s, MAX_VCPUS);
        return -1;
    }
    cfg->cpus = (unsigned)n;
    return 0;
}

static int take_device(enum device_kind kind, const char *arg, struct config *cfg)
{
    if (cfg->ndevice == CONFIG_DEVICES) {
        msg_error("more than %d devices; leave some out", CONFIG_DEVICES);
        return -1;
    }
    cfg->device[cfg->ndevice++] = (struct config_device){kind, arg};
    return 0;
}

/* --env K=V, or --env K for the value we have ourselves. */
static int take_env(char *arg, struct config *cfg)
{
    static char *list[MAX_ENV + 1];
    static unsigned n;
    char *value = strchr(arg, '=') ? NULL : getenv(arg);

    if (*arg == '=' || !*arg) {
        msg_error("--env %s: no name; give NAME=VALUE", arg);
        return -1;
    }
    if (!strchr(arg, '=') && !value)
        return 0; /* we have none either */
    if (n == MAX_ENV) {
        msg_error("--env %s: more than %d; leave some out", arg, MAX_ENV);
        return -1;
    }
    /* NAME=VALUE is how it stands in our own environment, just before the value. */
    list[n++] = value ? value - strlen(arg) - 1 : arg;
    cfg->env = list;
    return 0;
}

static int take_option(int opt, const char *arg, struct config *cfg)
{
    int n = 0;

    switch (opt) {
    case 'm':
        return take_memory(arg, cfg);
    case 'c':
        return take_cpus(arg, cfg);
    case 'v':
        msg_verbosity = ++cfg->verbose;
        return 0;
    case OPT_ENGINE:
        n = choose("engine", arg, engine_words);
        cfg->engine = (enum engine_choice)n;
        return n;
    case OPT_BOOT:
        n = choose("boot", arg, boot_words);
        cfg->boot = (enum boot_choice)n;
        return n;
    case OPT_SECCOMP:
        n = choose("seccomp", arg, switch_words);
        cfg->seccomp = n > 0;
        return n;
    case OPT_ENV:
        return take_env((char *)(uintptr_t)arg, cfg);
    case OPT_CWD:
        if (*arg != '/') {
            msg_error("--cwd %s: not an absolute path", arg);
            return -1;
        }
        cfg->cwd = arg;
        return 0;
    case OPT_BT_CACHE:
        return take_bt_cache(arg, cfg);
    case OPT_TESTDEV:
        cfg->testdev = true;
        return 0;
    case OPT_INITRD:
        return take_initrd(arg, cfg);
    case OPT_GDB:
        cfg->gdb = arg;
        return 0;
    case OPT_DUMPCORE:
        cfg->dumpcore = arg;
        return 0;
    case OPT_STATS:
        if (arg && !*arg) {
            msg_error("--stats=: no file name after =; give one, or --stats alone for a table");
            return -1;
        }
        if (arg)
            cfg->stats_file = arg;
        else
            cfg->stats = true;
        return 0;
    case OPT_TIMEOUT:
        return take_timeout(arg, cfg);
    }
    if (opt < OPT_BT)
        return take_device((enum device_kind)(opt - OPT_DEVICE), arg, cfg);
    cfg->bt_debug |= (unsigned)(opt - OPT_BT);
    return 0;
}

/* getopt's own verdict, in our words. arg is the argument it stopped at. */
static int refuse(int opt, const char *arg)
{
    bool is_long = arg[1] == '-';

    if (opt == ':')
        msg_error("option '%s' needs a value; see mayfly --help", arg);
    else if (is_long && optopt)
        msg_error("option '%s': it takes no value; see mayfly --help", arg);
    else if (is_long)
        msg_error("unknown option '%s'; see mayfly --help (a guest's options follow GUEST)", arg);
    else
        msg_error("unknown option '-%c'; see mayfly --help (a guest's options follow GUEST)",
                  optopt);
    return STATUS_FAILURE;
}

/* The guest's command line: the ARGs with one space between. */
static const char *join(char **arg, int n)
{
    size_t len = 1;

    if (n == 0)
        return "";
    for (int i = 0; i < n; i++)
        len += strlen(arg[i]) + 1;
    char *s = malloc(len), *p = s;

    if (!s)
        return NULL;
    for (int i = 0; i < n; i++) {
        if (i)
            *p++ = ' ';
        p = stpcpy(p, arg[i]);
    }
    *p = 0;
    return s;
}

int cli_run_options(int argc, char **argv, struct config *cfg)
{
    int opt, at = 1;

    *cfg = (struct config){.memory = 128 * MIB, .cpus = 1, .seccomp = true};
    opterr = 0;
    optind = 1;
    for (; (opt = getopt_long(argc, argv, "+:m:c:vh", options, NULL)) != -1; at = optind) {
        switch (opt) {
        case '?':
        case ':':
            return refuse(opt, argv[at]);
        case 'h':
            return cli_say(cli_help);
        case OPT_VERSION:
            return cli_say(cli_version);
        }
        if (take_option(opt, optarg, cfg) < 0)
            return STATUS_FAILURE;
    }
    if (optind >= argc) {
        msg_error(
            status_tender
                ? "no image given; mayfly hvt [OPTIONS] IMAGE [ARG...]"
                : "no guest given; mayfly run [OPTIONS] GUEST [ARG...], as in: mayfly run hello");
        return STATUS_FAILURE;
    }
    cfg->guest = argv[optind];
    if (!*cfg->guest) {
        msg_error("the guest's file name is empty; mayfly run [OPTIONS] GUEST [ARG...]");
        return STATUS_FAILURE;
    }
    cfg->argv = argv + optind;
    cfg->cmdline = join(argv + optind + 1, argc - optind - 1);
    if (!cfg->cmdline) {
        msg_error("no memory for the command line");
        return STATUS_FAILURE;
    }
    return -1;
}
