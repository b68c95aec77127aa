/* The virtio-fs device behind a ring that the test drives: data in flight, resets, odd chains. */
#include "tests/virtio_fix.h"

#include <sys/file.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <sys/stat.h>

#define QUEUE   1u
#define REQUEST BUFFERS
#define REPLY   (BUFFERS + 0x1000000u)
#define DATA    (1u << 20)

static char top[32], arg[64], err[256];

enum { POLL, URING, THREADS };

static struct fix *start(int backend)
{
    struct virtio_dev *dev = NULL;

    if (backend == THREADS)
        setenv("MAYFLY_NO_IO_URING", "1", 1);

    strcpy(top, "/tmp/unit_vfs.XXXXXX");
    cr_assert(mkdtemp(top));
    snprintf(arg, sizeof arg, "%s:tag", top);
    cr_assert_eq(fs_create(arg, &dev, err, sizeof err), 0, "%s", err);
    struct fix *f = fix_new(dev, 64 * MIB, backend != POLL);

    go(f, 0);
    return f;
}

static void end(struct fix *f)
{
    fix_free(f);
    char cmd[64];

    snprintf(cmd, sizeof cmd, "rm -r %s", top);
    cr_assert_eq(system(cmd), 0);
}

/* Request n of those in flight: its own buffers of size bytes each. */
static uint8_t *request_at(struct fix *f, unsigned n, uint32_t size)
{
    return f->ram.base + REQUEST + n * size;
}

static uint8_t *reply_at(struct fix *f, unsigned n, uint32_t size)
{
    return f->ram.base + REPLY + n * size;
}

/* Put request n into the ring: header, args, rlen bytes of data; in buffers of size bytes. */
static void ask(struct fix *f, unsigned n, uint32_t size, uint32_t op, uint64_t node,
                const void *args, uint32_t alen, const void *rest, uint32_t rlen)
{
    struct fuse_in_header h = {
        .len = (uint32_t)sizeof h + alen + rlen, .opcode = op, .unique = n, .nodeid = node};
    uint8_t *p = request_at(f, n, size);

    memcpy(p, &h, sizeof h);
    if (alen)
        memcpy(p + sizeof h, args, alen);
    if (rlen)
        memcpy(p + sizeof h + alen, rest, rlen);
    put_desc(f, RING_DESC + RING_STRIDE, 2 * n, REQUEST + n * size, h.len, D_NEXT,
             (uint16_t)(2 * n + 1));
    put_desc(f, RING_DESC + RING_STRIDE, 2 * n + 1, REPLY + n * size, size, D_WRITE, 0);
    offer(f, QUEUE, (uint16_t)(2 * n));
}

/* Wait for one of those in flight: its number, with *len bytes of reply. */
static unsigned answer(struct fix *f, uint32_t *len)
{
    uint32_t head = 0;
    bool got = false;

    for (unsigned i = 0; i < 30 && !got; i++)
        got = take_used(f, QUEUE, &head, len);
    cr_assert(got, "no answer");
    return head / 2;
}

#define BIG (DATA + 4096u)

/* One request and its answer: the error. The reply's body is at reply_at(f, 0, BIG) + 16. */
static int call(struct fix *f, uint32_t op, uint64_t node, const void *args, uint32_t alen,
                const void *rest, uint32_t rlen)
{
    struct fuse_out_header h;
    uint32_t len;

    ask(f, 0, BIG, op, node, args, alen, rest, rlen);
    notify(f, QUEUE);
    cr_assert_eq(answer(f, &len), 0);
    memcpy(&h, reply_at(f, 0, BIG), sizeof h);
    cr_assert_eq(h.len, len);
    return h.error;
}
#define CALL(f, op, node, args, rest, rlen) call(f, op, node, &(args), sizeof(args), rest, rlen)

static void mount_it(struct fix *f)
{
    struct fuse_init_in in = {.major = 7, .minor = 36, .flags = ~0u};

    cr_assert_eq(CALL(f, FUSE_INIT, 0, in, NULL, 0), 0);
}

static uint64_t create(struct fix *f, const char *name)
{
    struct fuse_create_in in = {.flags = O_RDWR, .mode = 0600};
    struct fuse_open_out out;

    cr_assert_eq(CALL(f, FUSE_CREATE, 1, in, name, (uint32_t)strlen(name) + 1), 0);
    memcpy(&out, reply_at(f, 0, BIG) + 16 + sizeof(struct fuse_entry_out), sizeof out);
    return out.fh;
}

static unsigned open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void data(int backend)
{
    static uint8_t bytes[DATA];
    struct fix *f = start(backend);

    for (unsigned i = 0; i < DATA; i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 12));
    mount_it(f);
    uint64_t fh = create(f, "file");
    struct fuse_write_in w = {.fh = fh, .offset = 100, .size = DATA};
    struct fuse_read_in r = {.fh = fh, .offset = 100, .size = DATA};
    struct fuse_fsync_in s = {.fh = fh};
    struct fuse_release_in rel = {.fh = fh};

    cr_assert_eq(CALL(f, FUSE_WRITE, 1, w, bytes, DATA), 0);
    cr_assert_eq(CALL(f, FUSE_FSYNC, 1, s, NULL, 0), 0);
    cr_assert_eq(CALL(f, FUSE_READ, 1, r, NULL, 0), 0);
    cr_assert_eq(memcmp(reply_at(f, 0, BIG) + 16, bytes, DATA), 0);
    r.offset = DATA; /* the last 100, and the end */
    cr_assert_eq(CALL(f, FUSE_READ, 1, r, NULL, 0), 0);
    cr_assert_eq(((struct fuse_out_header *)reply_at(f, 0, BIG))->len, 16 + 100);
    cr_assert_eq(CALL(f, FUSE_RELEASE, 1, rel, NULL, 0), 0);
    cr_assert_eq(CALL(f, FUSE_READ, 1, r, NULL, 0), -EBADF);
    end(f);
}

Test(virtio_fs, data_over_io_uring)
{
    data(URING);
}

Test(virtio_fs, data_over_threads)
{
    data(THREADS);
}

Test(virtio_fs, data_without_either)
{
    data(POLL);
}

Test(virtio_fs, config)
{
    struct fix *f = start(POLL);

    cr_assert_eq(reg(f, 8), VIRTIO_ID_FS);
    cr_assert_eq(reg(f, 0x100), 't' | 'a' << 8 | 'g' << 16);
    cr_assert_eq(reg(f, 0x100 + 36), 1, "request queues");
    end(f);
}

/* More at a time than there are places for: the rest is done at once. */
static void many(int backend)
{
    struct fix *f = start(backend);
    enum { N = 32, SIZE = 200 * 1024, LEN = 150 * 1024 };
    static uint8_t bytes[LEN];
    uint64_t fh[N];
    uint32_t len;

    f->size = 64;
    mount_it(f);
    for (unsigned i = 0; i < N; i++) {
        char name[8];

        snprintf(name, sizeof name, "f%u", i);
        fh[i] = create(f, name);
    }
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < N; i++) {
            struct fuse_write_in w = {.fh = fh[i], .size = LEN};
            struct fuse_read_in r = {.fh = fh[i], .size = LEN};
            struct fuse_fsync_in s = {.fh = fh[i]};

            memset(bytes, (int)i + 1, sizeof bytes);
            if (round == 0)
                ask(f, i, SIZE, FUSE_WRITE, 1, &w, sizeof w, bytes, LEN);
            else if (round == 1)
                ask(f, i, SIZE, FUSE_FSYNC, 1, &s, sizeof s, NULL, 0);
            else
                ask(f, i, SIZE, FUSE_READ, 1, &r, sizeof r, NULL, 0);
        }
        notify(f, QUEUE);
        for (unsigned k = 0; k < N; k++) {
            unsigned n = answer(f, &len);
            struct fuse_out_header *h = (void *)reply_at(f, n, SIZE);

            cr_assert_eq(h->error, 0);
            cr_assert_eq(h->unique, n);
            if (round == 2) {
                cr_assert_eq(len, 16 + LEN);
                cr_assert_eq(reply_at(f, n, SIZE)[16], n + 1);
                cr_assert_eq(reply_at(f, n, SIZE)[16 + LEN - 1], n + 1);
            }
        }
    }
    end(f);
}

Test(virtio_fs, many_over_io_uring)
{
    many(URING);
}

Test(virtio_fs, many_over_threads)
{
    many(THREADS);
}

static void reset_in_flight(int backend)
{
    struct fix *f = start(backend);
    enum { N = 4 };
    unsigned before = open_fds();

    mount_it(f);
    for (unsigned round = 0; round < 20; round++) {
        uint64_t fh = create(f, "file");
        static uint8_t bytes[DATA];
        struct fuse_write_in w = {.fh = fh, .size = DATA};
        struct fuse_read_in r = {.fh = fh, .size = DATA};

        memset(bytes, 0x5a, sizeof bytes);
        cr_assert_eq(CALL(f, FUSE_WRITE, 1, w, bytes, DATA), 0);
        memset(f->ram.base + REPLY, 0, (size_t)N * BIG);
        for (unsigned i = 0; i < N - 1; i++)
            ask(f, i, BIG, FUSE_READ, 1, &r, sizeof r, NULL, 0);
        notify(f, QUEUE);
        go(f, 0); /* returns when nothing touches memory any more */
        memset(f->ram.base + REPLY, 0, (size_t)N * BIG);
        usleep(2000);
        for (size_t i = 0; i < (size_t)N * BIG; i += 512)
            cr_assert_eq(f->ram.base[REPLY + i], 0, "written to after a reset");
        cr_assert_eq(CALL(f, FUSE_READ, 1, r, NULL, 0), -EIO, "another mount begins with INIT");
        mount_it(f);
    }
    struct fuse_read_in none = {0};

    cr_assert_eq(CALL(f, FUSE_READ, 1, none, NULL, 0), -EBADF);
    cr_assert_leq(open_fds(), before, "descriptors are lost");
    end(f);
}

Test(virtio_fs, reset_in_flight_over_io_uring)
{
    reset_in_flight(URING);
}

Test(virtio_fs, reset_in_flight_over_threads)
{
    reset_in_flight(THREADS);
}

/* A request, notified of only where the device asks for it (VIRTIO 1.2 2.7.7, 2.7.10). */
static bool ask_root(struct fix *f, bool event_idx)
{
    struct fuse_getattr_in in = {0};
    uint64_t from = io_now();
    uint32_t len;

    ask(f, 0, BIG, FUSE_GETATTR, 1, &in, sizeof in, NULL, 0);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    bool wanted = event_idx ? *used16(f, QUEUE, 4 + 8 * f->size) == (uint16_t)(f->avail[QUEUE] - 1)
                            : !(*used16(f, QUEUE, 0) & 1);

    if (wanted)
        notify(f, QUEUE);
    while (used_idx(f, QUEUE) == f->seen_used[QUEUE] && io_now() - from < 1000000000u)
        ;
    cr_assert_eq(answer(f, &len), 0);
    return wanted;
}

/* At all distances, around those at which the device gives up waiting awake: none is forgotten.
 * Where there is a second CPU, some that come one after another need no notification. */
static void one_after_another(bool event_idx)
{
    struct fix *f = start(URING);
    uint64_t s = 88172645463325252u, from;
    cpu_set_t host;
    int turn = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    /* In turn: side by side the two would take each other's CPU. */
    cr_assert(turn >= 0 && !flock(turn, LOCK_EX));
    go(f, event_idx ? VIRTIO_F_EVENT_IDX : 0);
    mount_it(f);
    for (unsigned i = 0; i < 20000; i++) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        for (from = io_now(); io_now() - from < s % 120000;)
            ;
        ask_root(f, event_idx);
    }
    if (!sched_getaffinity(0, sizeof host, &host) && CPU_COUNT(&host) > 1)
        for (from = io_now(); ask_root(f, event_idx);)
            if (io_now() - from >
                10000000000u) { /* the thread looks ahead on a CPU of its own only */
                printf("skipped %s: every request needed its notification, as on a busy host\n",
                       event_idx ? "one_after_another_by_event_index" : "one_after_another");
                break;
            }
    close(turn);
    end(f);
}

Test(virtio_fs, one_after_another, .timeout = 120)
{
    one_after_another(false);
}

Test(virtio_fs, one_after_another_by_event_index, .timeout = 120)
{
    one_after_another(true);
}

Test(virtio_fs, odd_chains, .timeout = 100)
{
    struct fix *f = start(URING);
    uint64_t s = 88172645463325252u;
    uint64_t table = RING_DESC + RING_STRIDE;
    uint32_t head, len;

    mount_it(f);
    uint64_t fh = create(f, "file");

    for (unsigned i = 0; i < 20000; i++) {
        unsigned nin = 0, nout = 0, n = 0;
        struct fuse_in_header h = {.nodeid = 1};
        struct fuse_write_in w = {.fh = fh};

        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        h.opcode = (s & 3) == 0 ? FUSE_WRITE : (s & 3) == 1 ? FUSE_READ : (uint32_t)(s >> 8 & 63);
        if (h.opcode == FUSE_DESTROY)
            continue;
        h.len = s >> 16 & 1 ? 80 + (s >> 20 & 4095) : (uint32_t)(s >> 32);
        w.size = (uint32_t)(s >> 40 & 8191);
        memcpy(f->ram.base + REQUEST, &h, sizeof h);
        memcpy(f->ram.base + REQUEST + sizeof h, &w, sizeof w);
        uint64_t at = REQUEST;

        for (nin = 0; nin < (s >> 50 & 3) + 1; nin++, n++) {
            uint32_t part = nin ? (uint32_t)(s >> (nin * 8) & 2047) : (uint32_t)(s >> 5 & 127);

            put_desc(f, table, n, at, part, D_NEXT, (uint16_t)(n + 1));
            at += part;
        }
        at = REPLY;
        for (nout = 0; nout < (s >> 53 & 3); nout++, n++) {
            uint32_t part = (uint32_t)(s >> (nout * 11) & 4095) >> (s >> 58 & 7);

            put_desc(f, table, n, at, part, D_WRITE | D_NEXT, (uint16_t)(n + 1));
            at += part + (s & 64);
        }
        uint16_t flags = (uint16_t)(nout ? D_WRITE : 0);

        put_desc(f, table, n, nout ? at : REQUEST, 8, flags, 0);
        offer(f, QUEUE, 0);
        notify(f, QUEUE);
        cr_assert(take_used(f, QUEUE, &head, &len), "request %u is not answered", i);
        cr_assert_leq(len, 1 << 16);
    }
    cr_assert_not(reg(f, R_STATUS) & ST_NEEDS_RESET);
    mount_it(f);
    end(f);
}
