/*
 * Memory balloon (VIRTIO 1.2 §5.5): pages that the guest gives up, or reports as free, go back to
 * the host, and read as zero when the guest takes them again.
 *
 * Numbers of pages outside RAM are ignored and counted. A request may list any number of pages: a
 * pass of the I/O thread works through some of it, and goes on in the next one.
 */
#include "virtio/virtio.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Feature bits, §5.5.3. Free page hints (bit 3) serve live migration only. */
#define F_STATS_VQ       (1ull << 1)
#define F_DEFLATE_ON_OOM (1ull << 2)
#define F_PAGE_POISON    (1ull << 4)
#define F_REPORTING      (1ull << 5)

enum { INFLATE, DEFLATE, STATS, REPORT, ROLES };
#define QUEUES      5u /* §5.5.2 */
#define QUEUE_SIZE  128u
#define PAGES_BATCH 256u
/* Of one pass: page numbers looked at, bytes given back, chains. */
#define PASS_PFNS   4096u
#define PASS_BYTES  (64u << 20)
#define PASS_CHAINS QUEUE_SIZE

/* §5.5.4 */
struct config {
    uint32_t num_pages, actual, free_page_hint_cmd_id, poison_val;
};

/* §5.5.6.3.1; what the guest counts, by tag */
struct stat {
    uint16_t tag;
    uint64_t val;
} __attribute__((packed));
enum { TAG_FREE = 4, TAG_TOTAL = 5, TAG_AVAILABLE = 6, TAGS = 16 };

enum {
    C_TARGET,
    C_ACTUAL, /* as the driver said last: Linux resets its devices as it powers off */
    C_INFLATED,
    C_DEFLATED,
    C_REPORTED,
    C_IGNORED,
    C_REFUSED,
    C_FREE,
    C_TOTAL,
    C_AVAILABLE,
    COUNTERS
};

struct balloon {
    struct virtio_dev dev;
    struct config config;
    uint64_t bytes;    /* the size asked for by the user */
    uint64_t every_ns; /* statistics; 0: only what the guest sends by itself */
    struct io_timer timer;
    bool has_stats; /* the guest's buffer is here: giving it back asks for new numbers */
    struct job {
        bool pending;
        uint64_t done; /* bytes of the chain */
        struct virtq_chain c;
        struct iovec iov[QUEUE_SIZE];
    } job[QUEUES];
    struct virtio_counter counter[COUNTERS + 1];
};

/* The standard numbers the queues with gaps for those not negotiated; Linux and QEMU without. Only
 * one can follow the statistics here, whatever its number. */
static unsigned role(const struct balloon *b, unsigned q)
{
    if (q < STATS)
        return q;
    return q == STATS && virtio_has(&b->dev, F_STATS_VQ) ? STATS : REPORT;
}

static void count(struct balloon *b, unsigned which, uint64_t n)
{
    b->counter[which].value += n;
}

static void discard(struct balloon *b, unsigned which, gpa_t gpa, uint64_t len)
{
    if (!len)
        return;
    if (ram_discard(b->dev.ram, gpa, len))
        which = C_REFUSED;
    count(b, which, len / PAGE_SIZE);
}

/* --- what each queue's chain wants; true: all of it is done --- */

static bool inflate(struct balloon *b, struct job *j, uint32_t *budget)
{
    uint32_t pfn[PAGES_BATCH];
    uint64_t first = 0, n = 0; /* a run of adjoining pages, either way */

    for (;;) {
        uint32_t want = *budget < PAGES_BATCH ? *budget : PAGES_BATCH;
        size_t got =
            virtq_gather(pfn, want * sizeof pfn[0], j->c.iov, j->c.nout, j->done) / sizeof pfn[0];

        for (size_t i = 0; i < got; i++) {
            uint64_t p = le32toh(pfn[i]);

            if (!ram_has(b->dev.ram, p << PAGE_SHIFT, PAGE_SIZE)) {
                count(b, C_IGNORED, 1);
            } else if (n && p == first + n) {
                n++;
            } else if (n && p + 1 == first) {
                first--;
                n++;
            } else {
                discard(b, C_INFLATED, first << PAGE_SHIFT, n << PAGE_SHIFT);
                first = p;
                n = 1;
            }
        }
        *budget -= (uint32_t)got;
        j->done += got * sizeof pfn[0];
        if (got < PAGES_BATCH)
            break;
    }
    discard(b, C_INFLATED, first << PAGE_SHIFT, n << PAGE_SHIFT);
    return j->c.out_len - j->done < sizeof pfn[0];
}

/* Whole pages of what is left of the free ranges (§5.5.6.7), which are RAM as all elements are. */
static bool report(struct balloon *b, struct job *j, uint32_t *budget)
{
    uint64_t skip = j->done;

    /* §5.5.6.7.2: a guest that poisons wants its pattern in them, not zeroes. */
    if (!virtio_has(&b->dev, F_REPORTING) ||
        (virtio_has(&b->dev, F_PAGE_POISON) && b->config.poison_val))
        return true;
    for (unsigned i = j->c.nout; i < (unsigned)j->c.nout + j->c.nin; i++) {
        const struct iovec *e = &j->c.iov[i];

        if (skip >= e->iov_len) {
            skip -= e->iov_len;
            continue;
        }
        gpa_t from = (gpa_t)((const uint8_t *)e->iov_base - b->dev.ram->base) + skip;
        gpa_t first = (from + PAGE_SIZE - 1) & PAGE_MASK;
        gpa_t last = (from + e->iov_len - skip) & PAGE_MASK;
        bool all = last <= first || last - first <= *budget;

        if (!all) /* the rest is the next pass's */
            last = first + (*budget & PAGE_MASK);
        if (last > first) {
            discard(b, C_REPORTED, first, last - first);
            *budget -= (uint32_t)(last - first);
        }
        j->done += all ? e->iov_len - skip : last - from;
        if (!all)
            return false;
        skip = 0;
    }
    return true;
}

static void keep_stats(struct balloon *b, const struct virtq_chain *c)
{
    static const struct {
        uint16_t tag;
        uint8_t counter;
    } map[] = {{TAG_FREE, C_FREE}, {TAG_TOTAL, C_TOTAL}, {TAG_AVAILABLE, C_AVAILABLE}};
    struct stat s[2 * TAGS];
    size_t n = virtq_gather(s, sizeof s, c->iov, c->nout, 0) / sizeof s[0];

    for (size_t i = 0; i < n; i++)
        for (unsigned k = 0; k < sizeof map / sizeof map[0]; k++)
            if (le16toh(s[i].tag) == map[k].tag)
                b->counter[map[k].counter].value = le64toh(s[i].val);
}

/* --- queues --- */

/* The statistics buffer stays here until new numbers are wanted (§5.5.6.3). */
static void take_stats(struct balloon *b, struct virtq *vq)
{
    struct job *j = &b->job[vq->index];

    for (unsigned k = 0; k < PASS_CHAINS; k++) {
        struct virtq_chain c = {.iov = j->iov, .cap = QUEUE_SIZE};

        if (virtq_pop(vq, &c) <= 0)
            return;
        keep_stats(b, &c);
        if (b->has_stats) /* a second one is of no use */
            virtq_push_raw(vq, j->c.head, 0);
        b->has_stats = true;
        j->c.head = c.head;
    }
    virtio_look_again(&b->dev, vq->index);
}

static void ask_stats(struct io_timer *t)
{
    struct balloon *b = (struct balloon *)((char *)t - offsetof(struct balloon, timer));

    if (b->has_stats) {
        b->has_stats = false;
        virtq_push_raw(&b->dev.vq[STATS], b->job[STATS].c.head, 0);
    }
    io_timer_set(b->dev.io, t, io_now() + b->every_ns);
}

static void notify(struct virtio_dev *dev, unsigned q)
{
    struct balloon *b = (struct balloon *)dev;
    struct virtq *vq = &dev->vq[q];
    struct job *j = &b->job[q];
    unsigned what = role(b, q);
    uint32_t pfns = PASS_PFNS, bytes = PASS_BYTES;

    if (what == STATS) {
        take_stats(b, vq);
        return;
    }
    for (unsigned k = 0; k < PASS_CHAINS; k++) {
        if (!j->pending) {
            j->c = (struct virtq_chain){.iov = j->iov, .cap = QUEUE_SIZE};
            if (virtq_pop(vq, &j->c) <= 0)
                return;
            j->pending = true;
            j->done = 0;
        }
        if (what == DEFLATE)
            count(b, C_DEFLATED, j->c.out_len / 4);
        else if (what == INFLATE ? !inflate(b, j, &pfns) : !report(b, j, &bytes))
            break;
        j->pending = false;
        virtq_push(vq, &j->c, 0);
    }
    virtio_look_again(dev, q);
}

/* --- the rest --- */

uint64_t balloon_size(const struct virtio_dev *dev)
{
    return ((const struct balloon *)dev)->bytes;
}

static void start(struct virtio_dev *dev)
{
    struct balloon *b = (struct balloon *)dev;

    if (b->every_ns && virtio_has(dev, F_STATS_VQ))
        io_timer_set(dev->io, &b->timer, io_now() + b->every_ns);
}

static void reset(struct virtio_dev *dev)
{
    struct balloon *b = (struct balloon *)dev;

    io_timer_set(dev->io, &b->timer, 0);
    b->has_stats = false;
    for (unsigned q = 0; q < QUEUES; q++)
        b->job[q].pending = false;
    pthread_mutex_lock(&dev->lock);
    b->config.actual = b->config.poison_val = 0;
    pthread_mutex_unlock(&dev->lock);
}

/* The driver's own fields change without an interrupt to the driver: past virtio_config_set(). */
static void config_write(struct virtio_dev *dev, uint32_t off, unsigned size, uint32_t val)
{
    struct balloon *b = (struct balloon *)dev;
    uint32_t le = htole32(val);

    if (size != 4 ||
        (off != offsetof(struct config, actual) && off != offsetof(struct config, poison_val)))
        return;
    pthread_mutex_lock(&dev->lock);
    memcpy(dev->config + off, &le, sizeof le);
    pthread_mutex_unlock(&dev->lock);
    b->counter[C_ACTUAL].value = le32toh(b->config.actual);
}

static const struct virtio_ops ops = {
    .name = "balloon",
    .id = VIRTIO_ID_BALLOON,
    .start = start,
    .notify = notify,
    .reset = reset,
    .config_write = config_write,
};

/* --- --balloon[=SIZE][,stats=SECONDS] --- */

/* The digits at *s, which moves past them. false: none, or more than max. */
static bool take_number(const char **s, uint64_t max, uint64_t *n)
{
    const char *begin = *s;

    for (*n = 0; **s >= '0' && **s <= '9'; ++*s) {
        *n = *n * 10 + (unsigned)(**s - '0');
        if (*n > max)
            return false;
    }
    return *s > begin;
}

/* As for -m: K, M, G, T, a plain number is MiB. */
static bool take_size(const char **s, uint64_t *bytes)
{
    static const char units[] = "KkMmGgTt";
    unsigned shift = 20;
    uint64_t n;

    if (!take_number(s, UINT32_MAX, &n))
        return false;
    const char *u = **s ? strchr(units, **s) : NULL;

    if (u) {
        shift = 10 * (unsigned)((u - units) / 2 + 1);
        ++*s;
    }
    *bytes = n << shift;
    /* config.num_pages has 32 bits */
    return n <= UINT64_MAX >> shift && *bytes >> PAGE_SHIFT <= UINT32_MAX;
}

static bool parse(const char *s, struct balloon *b)
{
    uint64_t seconds = 0;

    for (;; s++) {
        if (!strncmp(s, "stats=", 6)) {
            s += 6;
            if (!take_number(&s, 86400, &seconds) || !seconds)
                return false;
            b->every_ns = seconds * 1000000000u;
        } else if (!take_size(&s, &b->bytes)) {
            return false;
        }
        if (*s != ',')
            return !*s;
    }
}

int balloon_create(const char *arg, struct virtio_dev **dev, char *err, size_t len)
{
    static const char *const names[COUNTERS] = {
        [C_TARGET] = "target_pages",     [C_ACTUAL] = "actual_pages",
        [C_INFLATED] = "inflated_pages", [C_DEFLATED] = "deflated_pages",
        [C_REPORTED] = "reported_pages", [C_IGNORED] = "ignored_pages",
        [C_REFUSED] = "refused_pages",   [C_FREE] = "guest_free_bytes",
        [C_TOTAL] = "guest_total_bytes", [C_AVAILABLE] = "guest_available_bytes"};
    struct balloon *b = calloc(1, sizeof *b);

    if (!b) {
        snprintf(err, len, "out of memory");
        return -ENOMEM;
    }
    if (arg && !parse(arg, b)) {
        free(b);
        snprintf(err, len,
                 "'%s' is not SIZE[,stats=SECONDS]; as in --balloon, --balloon=64M or "
                 "--balloon=64M,stats=5",
                 arg);
        return -EINVAL;
    }
    for (unsigned i = 0; i < COUNTERS; i++)
        b->counter[i].name = names[i];
    b->counter[C_TARGET].value = b->bytes >> PAGE_SHIFT;
    b->config.num_pages = htole32((uint32_t)(b->bytes >> PAGE_SHIFT));
    b->timer.fire = ask_stats;
    b->dev.ops = &ops;
    b->dev.features = F_STATS_VQ | F_DEFLATE_ON_OOM | F_PAGE_POISON | F_REPORTING;
    b->dev.nqueues = QUEUES;
    for (unsigned q = 0; q < QUEUES; q++)
        b->dev.vq[q].size_max = QUEUE_SIZE;
    b->dev.config = (uint8_t *)&b->config;
    b->dev.config_len = sizeof b->config;
    b->dev.counters = b->counter;
    b->dev.label = "balloon";
    *dev = &b->dev;
    return 0;
}
