/* The virtio devices of a run: from options to slots, and how guests are told of them. */
#include "monitor/hvt.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "vcpu/kvm/kvm.h"

/* A build without one of them refuses its option. */
#pragma weak net_create
#pragma weak vsock_create
#pragma weak fs_create
#pragma weak fs_path
#pragma weak console_create
#pragma weak rng_create
#pragma weak balloon_create
#pragma weak balloon_size

static const struct device_row {
    const char *option;
    unsigned max;
    int (*create)(const char *arg, struct virtio_dev **dev, char *err, size_t len);
    bool value_optional;
} rows[DEVICE_KINDS] = {
    [DEVICE_DISK] = {"disk", 8, blk_create},
    [DEVICE_NET] = {"net", 4, net_create},
    [DEVICE_VSOCK] = {"vsock", 1, vsock_create},
    [DEVICE_SHARE] = {"share", 8, fs_create},
    [DEVICE_CONSOLE] = {"console", 1, console_create, true},
    [DEVICE_RNG] = {"rng", 1, rng_create, true},
    [DEVICE_BALLOON] = {"balloon", 1, balloon_create, true},
};

static void warn(const char *label, const char *why)
{
    msg_verbose("%s: the guest's driver broke it: %s", label ? label : "virtio", why);
}

/* "--disk x.img", "--balloon=64M", as the user wrote it. */
static const char *name_of(const struct config_device *d, char *buf, size_t len)
{
    struct text t = {buf, 0, len};

    const char *between = rows[d->kind].value_optional ? "=" : " ";

    text_add(&t, "--%s%s%s", rows[d->kind].option, d->arg ? between : "", d->arg ? d->arg : "");
    return buf;
}

static int create(struct machine *m, const struct config_device *d)
{
    const struct device_row *r = &rows[d->kind];
    char err[256] = "this build has no such device", name[512];
    struct virtio_dev *dev = NULL;

    if (d->kind == DEVICE_NET && !strcmp(d->arg, "lo")) {
        m->loopback = true; /* no card: the runtime's own */
        return 0;
    }
    int status = r->create ? r->create(d->arg, &dev, err, sizeof err) : -1;

    if (status) {
        msg_error("%s: %s", name_of(d, name, sizeof name), err);
        return STATUS_FAILURE;
    }
    if (d->kind == DEVICE_BALLOON && balloon_size(dev) > m->cfg->memory) {
        msg_error("%s: more than the guest's memory, %llu MiB; give less, or more memory with -m",
                  name_of(d, name, sizeof name), (unsigned long long)(m->cfg->memory >> 20));
        return STATUS_FAILURE;
    }
    if (dev->label)
        msg_verbose("device: %s", dev->label);
    status = virtio_bus_add(&m->virtio, dev);
    if (status == -ENOSPC)
        msg_error("%s: more than %u devices; leave some out", name_of(d, name, sizeof name),
                  VIRTIO_SLOTS);
    else if (status)
        msg_error("%s: %s", name_of(d, name, sizeof name), strerror(-status));
    else if (d->kind == DEVICE_CONSOLE)
        hvc_connect(m, dev);
    return status ? STATUS_FAILURE : 0;
}

int devices_create(struct machine *m)
{
    unsigned count[DEVICE_KINDS] = {0};

    m->virtio.vm = &m->cpus;
    m->virtio.ram = &m->ram;
    m->virtio.warn = warn;
    if (m->cpus.kvm)
        m->virtio.ioeventfd = kvm_ioeventfd;
    for (unsigned i = 0; i < m->cfg->ndevice; i++) {
        const struct config_device *d = &m->cfg->device[i];

        if (++count[d->kind] > rows[d->kind].max) {
            char name[512];

            msg_error("%s: --%s is given more than %u time%s; leave this one out",
                      name_of(d, name, sizeof name), rows[d->kind].option, rows[d->kind].max,
                      rows[d->kind].max > 1 ? "s" : "");
            return STATUS_FAILURE;
        }
        int status = create(m, d);

        if (status)
            return status;
    }
    return 0;
}

const char *const *devices_mounts(const struct machine *m)
{
    static const char *list[VIRTIO_SLOTS + 1];
    unsigned n = 0;
    bool any = false;

    for (unsigned i = 0; i < m->virtio.ndev; i++) {
        if (m->virtio.dev[i]->ops->id != VIRTIO_ID_FS)
            continue;
        const char *path = fs_path(m->virtio.dev[i]);

        any |= path != NULL;
        list[n++] = path ? path : "";
    }
    return any ? list : NULL;
}

int devices_attach(struct machine *m, struct io *io)
{
    const struct virtio_dev *which = NULL;
    int err = m->virtio.ndev ? virtio_bus_attach(&m->virtio, io, &which) : 0;

    if (err)
        msg_error("%s: %s", which->label ? which->label : which->ops->name, strerror(-err));
    return err;
}

void devices_describe(const struct machine *m, struct boot_request *req)
{
    bool has_net = false;

    req->network = m->loopback;
    req->ndevice = m->virtio.ndev;
    req->virtio_base = VIRTIO_BASE;
    for (unsigned i = 0; i < m->virtio.ndev; i++) {
        req->virtio_gsi[i] = (uint8_t)virtio_slot_gsi(i);
        unsigned id = m->virtio.dev[i]->ops->id;

        if (id == VIRTIO_ID_NET && !has_net) {
            has_net = true;
            req->net = *net_address_of(m->virtio.dev[i]);
        }
        req->network |= id == VIRTIO_ID_NET || id == VIRTIO_ID_VSOCK;
    }
}

unsigned devices_addressed(const struct machine *m, bool *first)
{
    unsigned cards = 0, n = 0;

    *first = false;
    for (unsigned i = 0; i < m->virtio.ndev; i++) {
        if (m->virtio.dev[i]->ops->id != VIRTIO_ID_NET)
            continue;
        bool has = net_address_of(m->virtio.dev[i])->address;

        *first |= has && !cards;
        cards++;
        n += has;
    }
    return n;
}

const char *devices_cmdline(const struct machine *m, const char *cmdline)
{
    unsigned n = m->virtio.ndev;
    char list[VIRTIO_SLOTS * 48] = "";
    struct text t = {list, 0, sizeof list};

    if (!n)
        return cmdline;
    for (unsigned i = 0; i < n; i++)
        text_add(&t, " virtio_mmio.device=4K@0x%llx:%u", (unsigned long long)virtio_slot_base(i),
                 virtio_slot_gsi(i));
    const char *rest = strncmp(cmdline, "-- ", 3) ? strstr(cmdline, " -- ") : cmdline;
    size_t head = rest ? (size_t)(rest - cmdline) : strlen(cmdline);
    size_t len = strlen(cmdline) + t.len + 2;
    char *s = malloc(len);

    if (s)
        snprintf(s, len, "%.*s%s%s%s", (int)head, cmdline, list, rest && !head ? " " : "",
                 rest ? rest : "");
    return s;
}

static uint64_t per_mille(uint64_t n, uint64_t of)
{
    return of ? (n * 1000 + of / 2) / of : 0;
}

static void one_device(const struct virtio_dev *dev, stats_sink *put, void *to)
{
    uint64_t requests = 0, bytes = 0, notifications = 0, looks = 0;
    char section[32];

    for (unsigned q = 0; q < dev->nqueues; q++) {
        requests += dev->vq[q].count.requests;
        bytes += dev->vq[q].count.bytes;
        notifications += dev->vq[q].count.notifications;
        looks += dev->vq[q].count.looks;
    }
    uint64_t interrupts = dev->count.interrupts;
    uint64_t exits = notifications + dev->count.mmio_reads + dev->count.mmio_writes;
    const struct {
        const char *name;
        uint64_t value;
    } row[] = {
        {"requests", requests},
        {"bytes", bytes},
        {"notifications", notifications},
        {"suppressed", requests > notifications ? requests - notifications : 0},
        {"interrupts", interrupts},
        {"config_interrupts", dev->count.config_interrupts},
        {"exits", exits},
        {"looks", looks},
        {"resets", dev->count.resets},
        {"broken", dev->count.broken},
        {"notifications_per_request", per_mille(notifications, requests)},
        {"interrupts_per_request", per_mille(interrupts, requests)},
        {"exits_per_request", per_mille(exits, requests)},
    };

    snprintf(section, sizeof section, "%s%u", dev->ops->name, dev->instance);
    for (unsigned i = 0; i < sizeof row / sizeof row[0]; i++)
        put(to, section, row[i].name, row[i].value);
    for (const struct virtio_counter *c = dev->counters; c && c->name; c++) {
        char name[64];

        put(to, section, c->name, c->value);
        if (!c->each)
            continue;
        snprintf(name, sizeof name, "notifications" STATS_PER_MILLE "%s", c->each);
        put(to, section, name, per_mille(notifications, c->value));
        snprintf(name, sizeof name, "interrupts" STATS_PER_MILLE "%s", c->each);
        put(to, section, name, per_mille(interrupts, c->value));
    }
}

void devices_statistics(const struct machine *m, stats_sink *put, void *to)
{
    struct io *io = m->virtio.io;

    if (m->hvt)
        hvt_statistics(m, put, to);
    for (unsigned i = 0; i < m->virtio.ndev; i++)
        one_device(m->virtio.dev[i], put, to);
    if (!m->virtio.ndev || !io)
        return;
    const struct io_stats *s = io_statistics(io);

    put(to, "io", "io_uring", io_is_uring(io));
    put(to, "io", "operations", s->ops);
    put(to, "io", "passes", s->waits);
    put(to, "io", "system_calls", s->enters);
    put(to, "io", "wakes", s->wakes);
}
