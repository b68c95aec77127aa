/*
 * Disks and networks of a Solo5 unikernel: --disk NAME=FILE[,ro][,sector=N] and --net NAME=tap=TAP
 * [,mac=M], NAME=user[,...] or NAME=fd=N, where NAME is one of the image's manifest.
 */
#include "monitor/hvt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "virtio/blk.h"
#include "virtio/net.h"

#define ARG_MAX_LEN 4096u

struct wanted {
    const char *option; /* "disk", "net" */
    const char *arg;    /* all of it */
    const char *rest;   /* after NAME= */
    unsigned handle;
    struct hvt_device *dev;
    struct hvt_host *host;
};

static int say(const struct wanted *w, const char *what)
{
    msg_error("--%s %s: %s", w->option, w->arg, what);
    return STATUS_FAILURE;
}

static const char *type_name(uint32_t type)
{
    return type == HVT_DEV_BLOCK ? "disk" : "network";
}

/* What the image has of that type: "'a', 'b'". */
static const char *list_names(const struct hvt_mft *mft, uint32_t type, char *buf, size_t len)
{
    struct text t = {buf, 0, len};
    char name[HVT_NAME_SIZE];

    *buf = 0;
    for (unsigned i = 1; i < mft->entries && t.len < 120; i++)
        if (mft->device[i].type == type)
            text_add(&t, "%s'%s'", t.len ? ", " : "", hvt_name(mft->device[i].name, name));
    return buf;
}

/* Find the device that NAME in "NAME=..." means. */
static int find(struct hvt *h, uint32_t type, struct wanted *w)
{
    const char *eq = strchr(w->arg, '=');
    size_t n = eq ? (size_t)(eq - w->arg) : 0;
    char names[256], why[400];

    if (!eq)
        return say(w, type == HVT_DEV_BLOCK
                          ? "no name; a Solo5 unikernel's disks have one: --disk NAME=FILE"
                          : "no name; a Solo5 unikernel's networks have one: --net NAME=tap=TAP");
    for (unsigned i = 1; i < h->mft.entries; i++) {
        struct hvt_device *d = &h->mft.device[i];

        if (d->type != type || n >= HVT_NAME_SIZE || strlen(d->name) != n ||
            memcmp(d->name, w->arg, n))
            continue;
        if (d->attached)
            return say(w, "this name was given before; leave one out");
        *w = (struct wanted){.option = w->option,
                             .arg = w->arg,
                             .rest = eq + 1,
                             .handle = i,
                             .dev = d,
                             .host = &h->host[i]};
        return 0;
    }
    list_names(&h->mft, type, names, sizeof names);
    snprintf(why, sizeof why, "the image has no %s of that name; %s%s", type_name(type),
             *names ? "it has " : "it has none at all", names);
    return say(w, why);
}

/* --- disks --- */

/* Take ",sector=N" out of the words after the file name. 0: there is none; -1: not a size. */
static long take_sector(char *words)
{
    char *s = words, *end;

    while ((s = strstr(s, ",sector=")) && s > words && s[-1] == ',')
        s++;
    if (!s)
        return 0;
    long n = strtol(s + 8, &end, 10);

    if ((*end && *end != ',') || end == s + 8 || n < 512 || n > 32768 || n & (n - 1))
        return -1;
    memmove(s, end, strlen(end) + 1);
    return n;
}

static int attach_disk(struct wanted *w)
{
    char words[ARG_MAX_LEN], err[256];
    struct blk_file f;

    if (strlen(w->rest) >= sizeof words)
        return say(w, "the file name is too long");
    strcpy(words, w->rest);
    long sector = take_sector(words);

    if (sector < 0)
        return say(w, "a sector size is a power of two from 512 to 32768");
    if (!sector)
        sector = 512;
    if (blk_file_open(words, &f, err, sizeof err))
        return say(w, err);
    if (f.direct)
        return say(w, "a Solo5 unikernel's buffers are not aligned for direct I/O; leave ,direct "
                      "out");
    if (f.size % (uint64_t)sector) {
        snprintf(err, sizeof err,
                 "its size, %llu bytes, is not a multiple of its sector size of %ld; round it up "
                 "with truncate -s %%%ld",
                 (unsigned long long)f.size, sector, sector);
        return say(w, err);
    }
    w->dev->block.capacity = f.size;
    w->dev->block.block_size = (uint16_t)sector;
    *w->host = (struct hvt_host){.fd = f.fd, .read_only = f.read_only};
    msg_verbose("device: %s as '%.67s', %llu bytes, sectors of %ld", f.label, w->dev->name,
                (unsigned long long)f.size, sector);
    return 0;
}

/* --- networks --- */

/* "fd=N[,mac=M]": a tap that whoever started us has opened. */
static int inherited(struct wanted *w, struct net_options *o, uint16_t *mtu)
{
    char *end, as_tap[64], err[256];
    long fd = strtol(w->rest + 3, &end, 10);

    if (end == w->rest + 3 || (*end && *end != ',') || fd < 3 || fd > INT32_MAX)
        return say(w, "not the number of an open descriptor above 2");
    snprintf(as_tap, sizeof as_tap, "tap=tap%s", end);
    if (net_options_parse(as_tap, o, err, sizeof err))
        return say(w, err);
    int flags = fcntl((int)fd, F_GETFL);

    if (flags < 0 || fcntl((int)fd, F_SETFL, flags | O_NONBLOCK) ||
        fcntl((int)fd, F_SETFD, FD_CLOEXEC))
        return say(w, strerror(errno));
    w->host->fd = (int)fd;
    *mtu = net_tap_mtu((int)fd);
    return 0;
}

static int attach_net(struct hvt *h, struct wanted *w)
{
    struct net_options o = {0};
    char err[256];
    uint16_t mtu = 1500;

    if (!strncmp(w->rest, "fd=", 3)) {
        int status = inherited(w, &o, &mtu);

        if (status)
            return status;
    } else {
        if (net_options_parse(w->rest, &o, err, sizeof err))
            return say(w, err);
        if (o.user) {
            int fd;

            if (net_passt_start(&o, &fd, err, sizeof err))
                return say(w, err);
            if (hvt_stream_open(w->host, fd, o.restricted))
                return say(w, "no memory");
        } else {
            w->host->fd = net_tap_frames(o.tap, &mtu, err, sizeof err);
            if (w->host->fd < 0)
                return say(w, err);
        }
    }
    if (o.has_mac)
        memcpy(w->dev->net.mac, o.mac, sizeof o.mac);
    else if (getrandom(w->dev->net.mac, 6, GRND_NONBLOCK) != 6)
        return say(w, "no random numbers for its address yet; give one with ,mac=");
    /* Locally administered, not a group's. */
    if (!o.has_mac)
        w->dev->net.mac[0] = (uint8_t)((w->dev->net.mac[0] & 0xfc) | 2);
    w->dev->net.mtu = mtu;
    h->net[h->nets++] = (uint8_t)w->handle;
    msg_verbose("device: network '%.67s', MTU %u", w->dev->name, mtu);
    return 0;
}

/* All that the image declares must be there: it asks for nothing that it could do without. */
static int complete(const struct machine *m)
{
    const struct hvt_mft *mft = &m->hvt->mft;
    int status = 0;

    for (unsigned i = 1; i < mft->entries; i++) {
        const struct hvt_device *d = &mft->device[i];
        char name[HVT_NAME_SIZE];

        if (d->type >= HVT_DEV_RESERVED || d->attached)
            continue;
        hvt_name(d->name, name);
        msg_error("image '%s': it wants a %s '%s': give --%s %s=%s", m->cfg->guest,
                  type_name(d->type), name, d->type == HVT_DEV_BLOCK ? "disk" : "net", name,
                  d->type == HVT_DEV_BLOCK ? "FILE" : "tap=TAP");
        status = STATUS_FAILURE;
    }
    return status;
}

int hvt_attach(struct machine *m)
{
    for (unsigned i = 0; i < m->cfg->ndevice; i++) {
        const struct config_device *c = &m->cfg->device[i];
        bool disk = c->kind == DEVICE_DISK;
        struct wanted w = {.option = disk ? "disk" : "net", .arg = c->arg};
        int status = find(m->hvt, disk ? HVT_DEV_BLOCK : HVT_DEV_NET, &w);

        if (!status)
            status = disk ? attach_disk(&w) : attach_net(m->hvt, &w);
        if (status)
            return status;
        w.dev->attached = 1;
    }
    return complete(m);
}
