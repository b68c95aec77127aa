/*
 * One run: assemble the machine, start it, wait for its end.
 *
 * Order matters for the launch: nothing before it is needed, no page of guest RAM before the loader
 * touches it, the I/O thread beside the guest's first instructions.
 */
#include "monitor/gdb.h"
#include "monitor/hvt.h"

#include <errno.h>
#include <sched.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>
#include "guests/runtime/bootblock.h"
#include "vcpu/bt/bt.h"
#include "vcpu/hostcpu.h"
#include "vcpu/mem.h"

_Thread_local struct vcpu *this_vcpu;
atomic_bool machine_finishing;

static struct machine the_machine;
static struct console the_console;
static int stats_fd = -1;
/* By a signal, a key or --timeout, not by the guest of its own: then nobody waits for a reader. */
static bool stopped_from_outside;

/* --- stopping --- */

void machine_stop(struct machine *m, int status, const char *what)
{
    if (atomic_exchange(&m->stopping, true))
        return;
    m->status = status;
    m->stop_reason = what;
    stopped_from_outside = !this_vcpu || signals_ended(status);
    m->cpus.last = true;
    m->cpus.stop = true;
    for (unsigned i = 0; i < m->cpus.nvcpu; i++)
        vcpu_kick(m->cpus.vcpu[i]);
    hvt_wake(m);
    /* The only vCPU, stopping itself, needs nobody to see to it that it does. */
    if (!this_vcpu || m->cpus.nvcpu > 1)
        loop_wake(m);
}

int machine_last_words(struct machine *m)
{
    console_settle_error(m->console);

    int status = m->console->fail_status ? m->console->fail_status : m->status;

    m->t.exit = clock_ns();
    m->status = status;
    console_restore();
    if (m->hvt && m->hvt->dump)
        hvt_core_write(m);
    gdb_end(m, status);
    virtio_bus_stop(&m->virtio); /* without devices any thread may be here */
    if (m->cfg->stats)
        stats_print(m);
    if (stats_fd >= 0) {
        int err = stats_write_json(m, stats_fd);

        if (err)
            msg_error("stats file '%s': %s", m->cfg->stats_file, strerror(-err));
    }
    msg_verbose("stopped: %s, status %d", m->stop_reason ? m->stop_reason : "?", status);
    return status;
}

/* The main thread's end of the run. Its filter lets it write, and no more. */
static int finish(struct machine *m)
{
    if (atomic_exchange(&machine_finishing, true))
        wait_forever(); /* the I/O thread is at it, and ends the process */
    console_flush(m, stopped_from_outside ? FLUSH_TRY : FLUSH_LAST);
    if (m->console->tty || stats_fd >= 0 || m->virtio.ndev || (m->hvt && m->hvt->dump))
        loop_finish(m);
    return machine_last_words(m);
}

/* --- running --- */

static void crashed(struct machine *m, struct vcpu *v, const char *what)
{
    struct vcpu_exit *x = &v->exit;

    if (atomic_load(&m->stopping)) /* another CPU's end is the machine's */
        return;
    if (m->gdb && gdb_sees_crash(m, v))
        return;
    if (!x->nbytes) {
        unsigned got = 0;

        x->rip = v->cpu.rip;
        if (!mem_fetch(v, v->cpu.seg[SEG_CS].base + x->rip, x->bytes, sizeof x->bytes, &got))
            x->nbytes = (uint8_t)got;
    }
    loop_need(m);
    console_flush(m, FLUSH_WAIT);
    crash_report(v, what, x->err);
    if (m->hvt)
        m->hvt->dump = m->hvt->dump_fd >= 0;
    machine_stop(m, status_own(STATUS_CRASH), what);
}

/* Many guests end so when they have no way to say more. */
static void halted(struct machine *m, const struct vcpu *v)
{
    if (atomic_load(&m->stopping))
        return;
    console_flush(m, FLUSH_WAIT);
    msg_error("the guest halted with interrupts off, at %04x:%016llx", v->cpu.seg[SEG_CS].sel,
              (unsigned long long)v->cpu.rip);
    machine_stop(m, status_own(STATUS_HALTED), "halted with interrupts off");
}

static void run_vcpu(struct machine *m, struct vcpu *v)
{
    while (!m->cpus.stop) {
        if (m->gdb && debugger_gate(m, v))
            break;
        loop_attend(m);
        enum exit_reason why = m->engine->run(v);

        if (why < EXIT_REASONS)
            v->stats.exits[why]++;
        switch (why) {
        case EXIT_HLT:
            console_flush(m, FLUSH_TRY);
            if (m->engine != &engine_kvm && vcpu_never_wakes(v)) {
                halted(m, v);
                return;
            }
            loop_timer_idle(m, v->index, true);
            vcpu_wait(v);
            loop_timer_idle(m, v->index, false);
            break;
        case EXIT_DEBUG:
            debugger_pause(m);
            break;
        case EXIT_SHUTDOWN:
            crashed(m, v, "triple fault");
            return;
        case EXIT_ERROR:
            crashed(m, v, v->exit.what ? v->exit.what : "the engine cannot go on");
            return;
        case EXIT_STOP:
            return;
        default: /* kicked: what for is seen in run() */
            break;
        }
    }
}

enum seccomp_kind machine_vcpu_filter(const struct machine *m)
{
    if (m->engine == &engine_kvm)
        return m->hvt ? SECCOMP_VCPU_KVM_HVT : SECCOMP_VCPU_KVM;
    return m->hvt ? SECCOMP_VCPU_HVT : SECCOMP_VCPU;
}

static enum seccomp_kind first_filter(const struct machine *m)
{
    if (loop_alone(m))
        return m->engine == &engine_kvm ? SECCOMP_ALONE_KVM : SECCOMP_ALONE;
    return machine_vcpu_filter(m);
}

static bool limited(int what)
{
    struct rlimit r;

    return !getrlimit(what, &r) && r.rlim_cur != RLIM_INFINITY;
}

/* Why mapping, or making a timer, fails, in the user's terms. */
static const char *limit_hint(int err)
{
    if (err == -EAGAIN)
        return " (too few threads or signals are allowed: ulimit -u, ulimit -i)";
    if (err != -ENOMEM)
        return "";
    if (limited(RLIMIT_AS))
        return " (ulimit -v is set: raise it, or ask for less with -m)";
    if (limited(RLIMIT_DATA))
        return " (ulimit -d is set: raise it, or ask for less with -m)";
    return " (ask for less with -m)";
}

/* Confine the calling thread and run v to the machine's end. */
static int enter_vcpu(struct machine *m, struct vcpu *v)
{
    const char *what = "?";
    int err = m->engine->vcpu_init(v, &what);

    if (err) {
        msg_error("engine %s: %s: %s%s", m->engine->name, what, strerror(-err), limit_hint(err));
        return err;
    }
    this_vcpu = v;
    if (m->cfg->seccomp) {
        err = seccomp_install(first_filter(m));
        if (err) {
            msg_error("seccomp: %s; --seccomp off runs without the filter", strerror(-err));
            return err;
        }
    }
    if (v->index == 0)
        m->t.first_insn = clock_ns();
    run_vcpu(m, v);
    return 0;
}

static void *vcpu_thread(void *arg)
{
    struct vcpu *v = arg;
    struct machine *m = v->vm->machine;

    if (enter_vcpu(m, v))
        machine_stop(m, STATUS_FAILURE, "engine");
    return NULL;
}

/* --- assembling --- */

/* "8 GiB", "3 MiB". */
static const char *size_text(uint64_t bytes, char buf[32])
{
    struct text t = {buf, 0, 32};

    if (bytes >= 10 * GIB)
        text_add(&t, "%llu GiB", (unsigned long long)(bytes / GIB));
    else
        text_add(&t, "%llu MiB", (unsigned long long)(bytes / MIB));
    return buf;
}

static int make_ram(struct machine *m)
{
    uint64_t want = m->hvt ? hvt_memory(m->cfg) : m->cfg->memory;
    char a[32], b[32];

    /* More than the host has can only end in its OOM killer. */
    if (want > 128 * MIB) {
        struct sysinfo si;
        uint64_t have = UINT64_MAX;

        if (!sysinfo(&si))
            have = ((uint64_t)si.totalram + si.totalswap) * si.mem_unit;
        if (want > have) {
            msg_error("-m: %s do not fit: this host has %s with swap; ask for less",
                      size_text(want, a), size_text(have, b));
            return STATUS_FAILURE;
        }
    }
    int err = m->hvt ? ram_create_flat(&m->ram, want) : ram_create(&m->ram, want);

    if (!err)
        return 0;
    msg_error("cannot map %s of guest memory: %s%s", size_text(want, a), strerror(-err),
              limit_hint(err));
    return STATUS_FAILURE;
}

static int start_engine(struct machine *m)
{
    const char *what = "?";
    int err = m->engine->vm_init(&m->cpus, &what);

    if (err && m->cfg->engine == ENGINE_AUTO && m->engine == &engine_kvm) {
        msg_verbose("engine: bt; kvm failed: %s: %s", what, strerror(-err));
        m->engine = &engine_bt;
        err = m->engine->vm_init(&m->cpus, &what);
    }
    m->cpus.engine_kick = m->engine->kick;
    if (m->hvt && m->cfg->gdb)
        hvt_take_kicks(m);
    /* kvm does it when it first needs one: it is eleven pages to touch. */
    for (unsigned i = 0; i < m->cpus.nvcpu && (m->engine != &engine_kvm || m->cfg->gdb); i++)
        tlb_init(&m->cpus.vcpu[i]->tlb);
    if (!err)
        return 0;
    msg_error("engine %s: %s: %s%s%s", m->engine->name, what, strerror(-err), limit_hint(err),
              m->engine == &engine_kvm ? "; --engine bt does without KVM" : "");
    return STATUS_FAILURE;
}

#define VCPU_LOW   0x08000000u
#define VCPU_PAGES 0x8000u

/* struct vcpu is large and mostly zero: straight from the kernel. Low, where the translator can
 * address it as it is; where exactly is the kernel's secret of this process. */
static void *map_vcpus(size_t len)
{
    const uint8_t *secret = (const uint8_t *)getauxval(AT_RANDOM);
    void *p = MAP_FAILED;

    for (unsigned i = 8; i < 16 && (p == MAP_FAILED || (uintptr_t)p > INT32_MAX); i += 2) {
        uintptr_t page = (uintptr_t)(secret[i] | secret[i + 1] << 8) % VCPU_PAGES;

        if (p != MAP_FAILED) /* the heap was in the way */
            munmap(p, len);
        p = mmap((void *)(VCPU_LOW + page * PAGE_SIZE), len, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    return p;
}

static int make_vcpus(struct machine *m)
{
    static struct vcpu *table[MAX_VCPUS];
    size_t each = (sizeof(struct vcpu) + PAGE_SIZE - 1) & PAGE_MASK;
    uint8_t *p = map_vcpus(each * m->cfg->cpus);

    if (p == MAP_FAILED) {
        msg_error("cannot map %u vCPUs: %s%s", m->cfg->cpus, strerror(errno), limit_hint(-errno));
        return STATUS_FAILURE;
    }
    for (unsigned i = 0; i < m->cfg->cpus; i++) {
        struct vcpu *v = (struct vcpu *)(p + each * i);

        table[i] = v;
        v->vm = &m->cpus;
        v->index = i;
        v->poll_ptr = &v->poll_word;
        cpu_reset(&v->cpu);
        lapic_reset(v);
        v->cpu.wait_for_sipi = v->cpu.halted = i > 0;
    }
    m->cpus.vcpu = table;
    m->cpus.nvcpu = m->cfg->cpus;
    cpu_set_t host;

    if (m->cfg->cpus > 1 && !sched_getaffinity(0, sizeof host, &host))
        m->cpus.overcommitted = (unsigned)CPU_COUNT(&host) < m->cfg->cpus;
    return 0;
}

static int make_machine(struct machine *m)
{
    const char *how = "?";
    int status = make_ram(m);

    if (status)
        return status;
    pthread_mutex_init(&m->lock, NULL);
    m->cpus.ram = &m->ram;
    m->cpus.ops = m->hvt ? &hvt_bus_ops : m->cfg->testdev ? &testdev_bus_ops : &machine_bus_ops;
    m->cpus.machine = m;
    m->cpus.kvm_fd = -1;
    m->cpus.cpuid = &m->cpuid;
    m->cpus.maxphyaddr = 46;
    bt_debug = m->cfg->bt_debug;
    if (m->cfg->bt_cache)
        bt_cache_size = m->cfg->bt_cache;
    loop_init(m);
    console_init(m, &the_console);
    irqchip_init(&m->cpus.irqchip, &m->cpus);
    if (m->cfg->testdev)
        testdev_init(m);
    serial_init(m);
    status = make_vcpus(m);
    if (!status)
        status = start_engine(m);
    if (!status)
        status = m->hvt ? hvt_attach(m) : devices_create(m);
    if (status)
        return status;
    /* As late as can be: where the frequency has to be measured, the time since main() counts. */
    m->cpus.tsc_hz = tsc_frequency(&how);
    msg_verbose("TSC: %llu.%03llu MHz (%s)", (unsigned long long)(m->cpus.tsc_hz / 1000000),
                (unsigned long long)(m->cpus.tsc_hz / 1000 % 1000), how);
    cpuid_build(&m->cpuid, &m->cpus);
    return 0;
}

/* What a program may see of our own stdin, stdout and stderr. */
static uint32_t standard_flags(const struct machine *m)
{
    uint32_t flags = m->cfg->verbose ? MAYFLY_BOOT_VERBOSE : 0;

    if (m->engine == &engine_kvm && !host_virtualizes())
        flags |= MAYFLY_BOOT_RING3;

    for (int fd = 0; fd < 3; fd++) {
        int mode = fcntl(fd, F_GETFL) & O_ACCMODE;

        /* main.c puts a /dev/null of the wrong direction where one was closed. */
        if (mode == (fd ? O_RDONLY : O_WRONLY))
            flags |= MAYFLY_BOOT_CLOSED(fd);
        else if (isatty(fd))
            flags |= MAYFLY_BOOT_TTY(fd);
    }
    return flags;
}

/* Options that this kind of guest has no use for (a Solo5 unikernel's: hvt.c). */
static int refuse_unused(const struct machine *m)
{
    const struct config *cfg = m->cfg;
    bool first;

    if (m->hvt)
        return 0;
    if (m->boot.runtime && cfg->initrd) {
        msg_error("--initrd is for kernels, and '%s' is a program; leave it out", cfg->guest);
        return STATUS_FAILURE;
    }
    if (!m->boot.runtime && (cfg->env || cfg->cwd)) {
        msg_error("--%s is for programs, and '%s' is a kernel; leave it out",
                  cfg->env ? "env" : "cwd", cfg->guest);
        return STATUS_FAILURE;
    }
    unsigned cards = devices_addressed(m, &first);

    if (cards && !m->boot.runtime) {
        msg_error(
            "--net ip= is for programs, and '%s' is a kernel: it has to set its address itself; "
            "leave it out",
            cfg->guest);
        return STATUS_FAILURE;
    }
    if (first ? cards > 1 : cards) {
        msg_error("--net ip= is for the first card; leave it out of the others");
        return STATUS_FAILURE;
    }
    return 0;
}

static int load(struct machine *m, struct boot_request *req)
{
    struct vcpu *v = m->cpus.vcpu[0];

    req->argv = m->cfg->argv;
    req->env = m->cfg->env;
    req->cwd = m->cfg->cwd;
    req->std_flags = standard_flags(m);
    devices_describe(m, req);
    req->mounts = devices_mounts(m);
    image_runtime(&req->runtime, req->network);
    /* Linux has ACPI and would find a device of both lists twice. */
    req->cmdline =
        boot_is_linux(&req->kernel) ? m->cfg->cmdline : devices_cmdline(m, m->cfg->cmdline);
    if (!req->cmdline) {
        msg_error("no memory for the command line");
        return STATUS_FAILURE;
    }
    req->boot = m->cfg->boot;
    req->hvt = m->hvt ? &m->hvt->mft : NULL;
    req->tsc_hz = m->cpus.tsc_hz;
    if (getrandom(req->seed, sizeof req->seed, GRND_NONBLOCK) != sizeof req->seed) {
        msg_error("getrandom: %s", strerror(errno));
        return STATUS_FAILURE;
    }
    if (boot_load(req, &m->ram, &v->cpu, &m->boot)) {
        msg_error("image '%s': %s", req->kernel.path, m->boot.error);
        return STATUS_BAD_IMAGE;
    }
    int status = refuse_unused(m);

    if (status)
        return status;
    /* A runtime guest has the boot block and looks for no tables; a Solo5 unikernel has no such. */
    if (!m->boot.runtime && !m->hvt) {
        acpi_build(&m->ram, m->cpus.nvcpu, m->virtio.ndev);
        mptable_build(&m->ram, m->cpus.nvcpu);
    }
    if (m->engine == &engine_kvm && boot_is_linux(&req->kernel) && !host_virtualizes())
        msg_error("engine kvm: this host's KVM interprets kernel code, some 1 us an instruction; "
                  "without --engine kvm it is translated");
    msg_verbose("guest: %s, %s boot, engine %s", req->kernel.path, m->boot.protocol,
                m->engine->name);
    return 0;
}

static int start_threads(struct machine *m)
{
    int err = loop_start(m);

    if (!err && m->gdb)
        err = gdb_start(m);
    for (unsigned i = 1; i < m->cpus.nvcpu && !err; i++) {
        pthread_t t;

        err = -pthread_create(&t, NULL, vcpu_thread, m->cpus.vcpu[i]);
    }
    if (err)
        msg_error("cannot start a thread: %s%s", strerror(-err), limit_hint(err));
    return err ? STATUS_FAILURE : 0;
}

static void bus_error(int sig)
{
    static const char line[] = "mayfly: a file shrank while it was being loaded; try again\n";

    (void)sig;
    (void)!write(2, line, sizeof line - 1);
    _exit(STATUS_BAD_IMAGE);
}

/* Everything up to the guest's first instruction, then its run. */
static int launch(struct machine *m)
{
    struct boot_request req = {0};
    char why[256];
    struct sigaction sa = {.sa_handler = bus_error};
    int status = image_open_guest(m->cfg, &req.kernel);

    if (!status && m->cfg->gdb)
        status = gdb_open(m, m->cfg->gdb);
    if (!status && m->cfg->initrd)
        status = image_open(m->cfg->initrd, "initrd", &req.initrd);
    for (; !status && req.nmodule < m->cfg->nmodule; req.nmodule++)
        status = image_open(m->cfg->module[req.nmodule], "initrd", &req.module[req.nmodule]);
    if (status)
        return status;
    status = hvt_begin(m, &req.kernel);
    if (status)
        return status;
    m->engine = choose_engine(m->cfg->engine, why, sizeof why);
    msg_verbose("engine: %s; %s", m->engine->name, why);
    status = hvt_engine(m);
    if (status)
        return status;
    status = make_machine(m);
    if (status)
        return status;
    m->t.vm_ready = clock_ns();
    /* After the engine has put its own handler in place, for as long as image files are read. */
    struct sigaction engines;

    sigaction(SIGBUS, &sa, &engines);
    status = load(m, &req);
    sigaction(SIGBUS, &engines, NULL);
    if (status)
        return status;
    m->t.loaded = clock_ns();
    /* A program's line discipline is the host's own; a Solo5 unikernel reads no console. */
    if (!m->boot.runtime && !m->hvt && isatty(0))
        console_raw(m->console);
    status = start_threads(m);
    if (!status) {
        if (enter_vcpu(m, m->cpus.vcpu[0]))
            status = STATUS_FAILURE;
    }
    if (!status)
        return finish(m);
    atomic_store(&machine_finishing, true);
    console_restore();
    return status;
}

int machine_run(const struct config *cfg)
{
    struct machine *m = &the_machine;
    bool created = false;
    struct timespec cpu;

    m->cfg = cfg;
    m->t.main = clock_ns();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    m->t.exec = m->t.main - ((uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec);
    signals_early();
    if (!cfg->seccomp)
        msg_error("seccomp is off: mayfly's system calls are not filtered");
    if (cfg->stats_file) {
        stats_fd = stats_open(cfg->stats_file, &created);
        if (stats_fd < 0) {
            msg_error("stats file '%s': cannot write it: %s", cfg->stats_file, strerror(-stats_fd));
            return STATUS_FAILURE;
        }
    }
    int status = launch(m);

    /* Refused before the guest began: no empty file is left behind. */
    if (created && !m->t.first_insn)
        unlink(cfg->stats_file);
    return m->t.first_insn ? status : status_own(status);
}
