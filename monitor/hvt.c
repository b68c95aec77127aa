/* The machine of a Solo5 unikernel: made when its image is, and its bus. */
#include "monitor/hvt.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

static struct hvt the_hvt;

/* What the configuration must not ask for. */
static int check_config(const struct config *cfg)
{
    const char *what = NULL;

    for (unsigned i = 0; i < cfg->ndevice && !what; i++)
        if (cfg->device[i].kind != DEVICE_DISK && cfg->device[i].kind != DEVICE_NET)
            what = "has disks (--disk NAME=FILE) and networks (--net NAME=tap=TAP) only; leave the "
                   "other devices out";
    if (cfg->cpus > 1)
        what = "has one CPU; leave --cpus out";
    else if (cfg->initrd)
        what = "takes no initrd; leave --initrd out";
    else if (cfg->memory > HVT_MEMORY_MAX)
        what = "takes 4 GiB of memory at most; ask for less with -m";
    if (what)
        msg_error("image '%s': a Solo5 unikernel %s", cfg->guest, what);
    return what ? STATUS_FAILURE : 0;
}

int hvt_begin(struct machine *m, const struct boot_image *k)
{
    const struct config *cfg = m->cfg;
    struct hvt *h = &the_hvt;
    struct boot_result res;

    if ((cfg->boot != BOOT_AUTO && cfg->boot != BOOT_HVT) || !hvt_probe(k)) {
        if (cfg->dumpcore)
            msg_error("--dumpcore is for Solo5 unikernels; leave it out");
        return cfg->dumpcore ? STATUS_FAILURE : 0;
    }
    if (hvt_read_notes(k, &h->mft, &res)) {
        msg_error("image '%s': %s", k->path, res.error);
        return STATUS_BAD_IMAGE;
    }
    int status = check_config(cfg);

    if (status)
        return status;
    h->dump_fd = -1;
    h->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->wake_fd < 0) {
        msg_error("eventfd: %s", strerror(errno));
        return STATUS_FAILURE;
    }
    /* This thread is the vCPU's and sleeps to the nanosecond. */
    prctl(PR_SET_TIMERSLACK, 1);
    m->hvt = h;
    return cfg->dumpcore ? hvt_core_open(m) : 0;
}

uint64_t hvt_memory(const struct config *cfg)
{
    uint64_t size = cfg->memory & ~(uint64_t)(HVT_PAGE - 1);

    if (size != cfg->memory)
        msg_verbose("memory: %llu MiB, a multiple of 2 MiB", (unsigned long long)(size / MIB));
    return size;
}

/* KVM keeps pages of its own, and the local APIC, at the top of the first 4 GiB. */
#define KVM_MEMORY_MAX 0xfec00000u

int hvt_engine(struct machine *m)
{
    if (!m->hvt || m->engine != &engine_kvm || hvt_memory(m->cfg) <= KVM_MEMORY_MAX)
        return 0;
    if (m->cfg->engine == ENGINE_AUTO) {
        msg_verbose("engine: bt; kvm gives a Solo5 unikernel 4076 MiB of memory at most");
        m->engine = &engine_bt;
        return 0;
    }
    msg_error("-m: engine kvm gives a Solo5 unikernel 4076 MiB of memory at most; ask for less, or "
              "take --engine bt");
    return STATUS_FAILURE;
}

/* Async-signal-safe, as vcpu_kick() is. */
static void kick(struct vcpu *v)
{
    struct machine *m = v->vm->machine;

    if (atomic_load(&m->hvt->waiting))
        hvt_wake(m);
    if (m->hvt->kick)
        m->hvt->kick(v);
}

void hvt_take_kicks(struct machine *m)
{
    m->hvt->kick = m->cpus.engine_kick;
    m->cpus.engine_kick = kick;
}

void hvt_wake(struct machine *m)
{
    uint64_t one = 1;

    if (m->hvt)
        (void)!write(m->hvt->wake_fd, &one, sizeof one);
}

void hvt_violation(struct machine *m, const char *fmt, ...)
{
    char what[200];
    va_list ap;

    if (atomic_load(&m->stopping))
        return;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    console_flush(m, FLUSH_WAIT);
    /* kvm has not said where yet. */
    if (m->engine == &engine_kvm)
        msg_error("the guest %s", what);
    else
        msg_error("the guest %s, at 0x%llx", what, (unsigned long long)m->cpus.vcpu[0]->cpu.rip);
    m->hvt->dump = m->hvt->dump_fd >= 0;
    machine_stop(m, status_own(STATUS_CRASH), "stopped: it broke the rules of its interface");
}

void hvt_statistics(const struct machine *m, stats_sink *put, void *to)
{
    static const char *const name[HVT_CALLS] = {[HVT_WALLTIME] = "walltime",
                                                [HVT_PUTS] = "puts",
                                                [HVT_POLL] = "poll",
                                                [HVT_BLOCK_WRITE] = "block_write",
                                                [HVT_BLOCK_READ] = "block_read",
                                                [HVT_NET_WRITE] = "net_write",
                                                [HVT_NET_READ] = "net_read",
                                                [HVT_HALT] = "halt"};

    for (unsigned i = 1; i < HVT_CALLS; i++)
        put(to, "hvt", name[i], m->hvt->calls[i]);
    put(to, "hvt", "bytes_in", m->hvt->bytes_in);
    put(to, "hvt", "bytes_out", m->hvt->bytes_out);
}

/* --- the bus --- */

static uint64_t pio_read(void *m, uint16_t port, unsigned size)
{
    hvt_violation(m, "read port 0x%x (%u bytes), where it has no device", port, size);
    return ~(uint64_t)0;
}

static void pio_write(void *m, uint16_t port, unsigned size, uint64_t val)
{
    unsigned nr = port - HVT_PORT;

    if (size == 4 && nr > 0 && nr < HVT_CALLS)
        hvt_call(m, nr, (uint32_t)val);
    else
        hvt_violation(m, "wrote to port 0x%x (%u bytes), which is no hypercall", port, size);
}

static uint64_t mmio_read(void *m, gpa_t gpa, unsigned size)
{
    hvt_violation(m, "read %u bytes at physical 0x%llx, where it has no memory", size,
                  (unsigned long long)gpa);
    return ~(uint64_t)0;
}

static void mmio_write(void *m, gpa_t gpa, unsigned size, uint64_t val)
{
    const struct machine *machine = m;

    (void)val;
    /* What is read-only to the host comes here as a device's registers do, under some KVMs. */
    hvt_violation(m, "wrote %u bytes at physical 0x%llx, %s", size, (unsigned long long)gpa,
                  ram_has(&machine->ram, gpa, size) ? "which is read-only to it"
                                                    : "where it has no memory");
}

const struct machine_ops hvt_bus_ops = {
    .pio_read = pio_read,
    .pio_write = pio_write,
    .mmio_read = mmio_read,
    .mmio_write = mmio_write,
    .arm_timer = loop_arm_timer,
};
