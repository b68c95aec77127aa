/*
 * The hypercalls of a Solo5 unikernel, on its vCPU's thread. Blocks and buffers are anywhere in
 * guest memory, of any alignment; a pointer outside of it, or to memory that the image made
 * read-only where something is to be stored, ends the run, as it does under Solo5's own tender.
 * What is merely wrong (a handle, an offset) is the guest's own error, ret.
 */
#include "monitor/hvt.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ETH_HEADER 14u

static const char *const call_name[HVT_CALLS] = {
    "?", "walltime", "puts", "poll", "block write", "block read", "net write", "net read", "halt"};

static void bad_pointer(struct machine *m, unsigned nr, uint64_t gpa, uint64_t len)
{
    hvt_violation(m, "gave the hypercall '%s' a buffer of 0x%llx bytes at 0x%llx, which it has not",
                  call_name[nr], (unsigned long long)len, (unsigned long long)gpa);
}

/* The block of a call: copied in once; its results are copied back from out bytes on. */
static bool take(struct machine *m, unsigned nr, gpa_t gpa, void *block, size_t size)
{
    /* One that cannot take the results is refused before anything is done. */
    bool writes = nr != HVT_PUTS && nr != HVT_HALT;

    if (!(writes ? ram_ptr_out(&m->ram, gpa, size) : ram_ptr(&m->ram, gpa, size)) ||
        ram_read(&m->ram, gpa, block, size)) {
        bad_pointer(m, nr, gpa, size);
        return false;
    }
    return true;
}

#define GIVE(m, gpa, block, field)                                                   \
    ram_write(&(m)->ram, (gpa) + offsetof(__typeof__(block), field), &(block).field, \
              sizeof(block).field)

static void walltime(struct machine *m, gpa_t gpa)
{
    struct hvt_walltime t;
    struct timespec ts;

    if (!take(m, HVT_WALLTIME, gpa, &t, sizeof t))
        return;
    clock_gettime(CLOCK_REALTIME, &ts);
    t.ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    GIVE(m, gpa, t, ns);
}

static void puts_call(struct machine *m, gpa_t gpa)
{
    struct hvt_puts p;

    if (!take(m, HVT_PUTS, gpa, &p, sizeof p))
        return;
    const void *data = ram_ptr(&m->ram, p.data, p.len);

    if (data)
        console_write(m, data, p.len);
    else
        bad_pointer(m, HVT_PUTS, p.data, p.len);
}

/* --- waiting --- */

/* Until deadline at the most; the handles whose networks have something, 0 when time is up, the
 * machine stops or a debugger stops the CPU (guests look at the clock again). */
static uint64_t wait_for(struct machine *m, uint64_t deadline)
{
    struct hvt *h = m->hvt;
    struct pollfd p[HVT_MFT_ENTRIES + 1];
    uint64_t ready = 0, kicks;

    atomic_store(&h->waiting, true);
    while (!atomic_load(&m->stopping) && !atomic_load(&m->cpus.vcpu[0]->pause)) {
        for (unsigned i = 0; i < h->nets; i++) {
            const struct hvt_host *net = &h->host[h->net[i]];

            p[i] = (struct pollfd){.fd = net->fd, .events = POLLIN};
            ready |= (uint64_t)hvt_net_pending(net) << h->net[i];
        }
        p[h->nets] = (struct pollfd){.fd = h->wake_fd, .events = POLLIN};
        uint64_t now = clock_ns(), left = deadline > now && !ready ? deadline - now : 0;
        struct timespec ts = {.tv_sec = (time_t)(left / 1000000000u),
                              .tv_nsec = (long)(left % 1000000000u)};

        if (left)
            console_flush(m, FLUSH_TRY);
        int n = ppoll(p, h->nets + 1, &ts, NULL);

        if (n > 0 && p[h->nets].revents)
            (void)!read(h->wake_fd, &kicks, sizeof kicks);
        for (unsigned i = 0; n > 0 && i < h->nets; i++)
            if (p[i].revents && hvt_net_ready(&h->host[h->net[i]]))
                ready |= (uint64_t)1 << h->net[i];
        if (ready || deadline <= clock_ns())
            break;
    }
    atomic_store(&h->waiting, false);
    return ready;
}

static void poll_call(struct machine *m, gpa_t gpa)
{
    struct hvt_poll p;
    uint64_t deadline;

    if (!take(m, HVT_POLL, gpa, &p, sizeof p))
        return;
    if (__builtin_add_overflow(clock_ns(), p.timeout_ns, &deadline))
        deadline = UINT64_MAX;
    p.ready = wait_for(m, deadline);
    p.ret = __builtin_popcountll(p.ready);
    GIVE(m, gpa, p, ready);
    GIVE(m, gpa, p, ret);
}

/* --- disks --- */

static const struct hvt_device *device(const struct machine *m, uint64_t handle, uint32_t type)
{
    const struct hvt_mft *mft = &m->hvt->mft;

    return handle < mft->entries && mft->device[handle].type == type ? &mft->device[handle] : NULL;
}

/* All of it, or HVT_EUNSPEC: the file shrank, or its disk fails. */
static int32_t transfer(int fd, bool write, uint8_t *p, uint64_t len, uint64_t offset)
{
    while (len) {
        ssize_t n = write ? pwrite(fd, p, len, (off_t)offset) : pread(fd, p, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return HVT_EUNSPEC;
        p += n;
        len -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return HVT_OK;
}

static void block_call(struct machine *m, unsigned nr, gpa_t gpa)
{
    bool write = nr == HVT_BLOCK_WRITE;
    struct hvt_block_io b;
    uint64_t end;

    if (!take(m, nr, gpa, &b, sizeof b))
        return;
    const struct hvt_device *d = device(m, b.handle, HVT_DEV_BLOCK);

    b.ret = HVT_EINVAL;
    if (d && b.offset < d->block.capacity && !__builtin_add_overflow(b.offset, b.len, &end) &&
        end <= d->block.capacity) {
        const struct hvt_host *host = &m->hvt->host[b.handle];
        uint8_t *p = write ? ram_ptr(&m->ram, b.data, b.len) : ram_ptr_out(&m->ram, b.data, b.len);

        if (!p) {
            bad_pointer(m, nr, b.data, b.len);
            return;
        }
        b.ret = transfer(host->fd, write, p, b.len, b.offset);
        if (!write)
            ram_written(&m->ram, b.data, b.len);
        *(write ? &m->hvt->bytes_out : &m->hvt->bytes_in) += b.len;
    }
    GIVE(m, gpa, b, ret);
}

/* --- networks --- */

static void net_write(struct machine *m, gpa_t gpa)
{
    struct hvt_net_io n;

    if (!take(m, HVT_NET_WRITE, gpa, &n, sizeof n))
        return;
    const struct hvt_device *d = device(m, n.handle, HVT_DEV_NET);
    const void *p = ram_ptr(&m->ram, n.data, n.len);

    n.ret = HVT_EINVAL;
    if (d && !p) {
        bad_pointer(m, HVT_NET_WRITE, n.data, n.len);
        return;
    }
    if (d && n.len >= ETH_HEADER && n.len <= 65535) {
        hvt_net_write(m, &m->hvt->host[n.handle], p, n.len);
        n.ret = HVT_OK;
        m->hvt->bytes_out += n.len;
    }
    GIVE(m, gpa, n, ret);
}

static void net_read(struct machine *m, gpa_t gpa)
{
    struct hvt_net_io n;

    if (!take(m, HVT_NET_READ, gpa, &n, sizeof n))
        return;
    const struct hvt_device *d = device(m, n.handle, HVT_DEV_NET);
    void *p = ram_ptr_out(&m->ram, n.data, n.len);

    n.ret = HVT_EINVAL;
    if (d && !p) {
        bad_pointer(m, HVT_NET_READ, n.data, n.len);
        return;
    }
    if (d) {
        ssize_t got = hvt_net_read(&m->hvt->host[n.handle], p, n.len);

        n.ret = HVT_AGAIN;
        if (got > 0) {
            ram_written(&m->ram, n.data, (uint64_t)got);
            m->hvt->bytes_in += (uint64_t)got;
            n.len = (uint64_t)got;
            n.ret = HVT_OK;
            GIVE(m, gpa, n, len);
        }
    }
    GIVE(m, gpa, n, ret);
}

static void halt(struct machine *m, gpa_t gpa)
{
    struct hvt_halt h;

    if (!take(m, HVT_HALT, gpa, &h, sizeof h))
        return;
    if (h.cookie && !ram_has(&m->ram, h.cookie, HVT_COOKIE)) {
        bad_pointer(m, HVT_HALT, h.cookie, HVT_COOKIE);
        return;
    }
    m->hvt->trap = h.cookie;
    m->hvt->dump = m->hvt->dump_fd >= 0 && h.status == HVT_STATUS_ABORT;
    machine_stop(m, h.status & 255, "hvt halt");
}

void hvt_call(struct machine *m, unsigned nr, gpa_t gpa)
{
    if (!m->t.guest_up)
        m->t.guest_up = clock_ns();
    m->hvt->calls[nr]++;
    switch (nr) {
    case HVT_WALLTIME:
        walltime(m, gpa);
        break;
    case HVT_PUTS:
        puts_call(m, gpa);
        break;
    case HVT_POLL:
        poll_call(m, gpa);
        break;
    case HVT_BLOCK_WRITE:
    case HVT_BLOCK_READ:
        block_call(m, nr, gpa);
        break;
    case HVT_NET_WRITE:
        net_write(m, gpa);
        break;
    case HVT_NET_READ:
        net_read(m, gpa);
        break;
    case HVT_HALT:
        halt(m, gpa);
        break;
    }
}
