/* The hypercalls with blocks that a hostile guest would make up: nothing outside of guest memory is
 * read or written, what is read-only stays as it is, and every call has an answer or ends the run.
 */
#include "tests/machine_fake.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "monitor/hvt.h"

#define MEMORY    (4 * MIB)
#define CONSTANTS 0x200000u /* a page that is read-only */
#define DISK      (64 * 1024u)

static struct hvt hvt;
static unsigned violations;

void hvt_violation(struct machine *m, const char *fmt, ...)
{
    char text[200];
    va_list ap;

    (void)m;
    va_start(ap, fmt);
    cr_assert_gt(vsnprintf(text, sizeof text, fmt, ap), 0);
    va_end(ap);
    violations++;
}
void console_flush(struct machine *m, enum flush how)
{
    (void)m, (void)how;
}

static int wire; /* the other end of the network */

static void set_up(void)
{
    int s[2];

    fake_machine();
    cr_assert_eq(ram_create_flat(&fake.ram, MEMORY), 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, s), 0);
    wire = s[1];
    hvt = (struct hvt){.mft = {.version = 1, .entries = 3}, .nets = 1, .net = {2}, .dump_fd = -1};
    hvt.mft.device[0].type = HVT_DEV_RESERVED;
    hvt.mft.device[1] = (struct hvt_device){.name = "d", .type = HVT_DEV_BLOCK, .attached = 1};
    hvt.mft.device[1].block.capacity = DISK;
    hvt.mft.device[1].block.block_size = 512;
    hvt.mft.device[2] = (struct hvt_device){.name = "n", .type = HVT_DEV_NET, .attached = 1};
    hvt.host[1].fd = memfd_create("disk", 0);
    cr_assert_eq(ftruncate(hvt.host[1].fd, DISK), 0);
    hvt.host[2].fd = s[0];
    hvt.wake_fd = eventfd(0, EFD_NONBLOCK);
    fake.hvt = &hvt;
    memset(fake.ram.base + CONSTANTS, 0x5a, PAGE_SIZE);
    cr_assert_eq(ram_protect(&fake.ram, CONSTANTS, PAGE_SIZE, RAM_ATTR_RO), 0);
    violations = 0;
}

static uint32_t put(gpa_t at, const void *block, size_t size)
{
    cr_assert_eq(ram_write(&fake.ram, at, block, size), 0);
    return (uint32_t)at;
}

static int32_t result(gpa_t at)
{
    int32_t r = -1;

    cr_assert_eq(ram_read(&fake.ram, at, &r, sizeof r), 0);
    return r;
}

Test(hvt_calls, edges, .init = set_up)
{
    static const struct {
        bool write;
        uint64_t handle, offset, data, len;
        int32_t ret; /* -1: a violation */
    } t[] = {
        {true, 1, 0, 0x1000, 512, HVT_OK},
        {false, 1, 0, 0x3000, 512, HVT_OK},
        {false, 1, DISK - 1, 0x3000, 1, HVT_OK},
        {false, 1, DISK, 0x3000, 0, HVT_EINVAL},
        {false, 1, DISK - 1, 0x3000, 2, HVT_EINVAL},
        {false, 1, ~0ull, 0x3000, 1, HVT_EINVAL},
        {false, 1, 1, 0x3000, ~0ull, HVT_EINVAL},
        {false, 2, 0, 0x3000, 512, HVT_EINVAL},
        {false, 3, 0, 0x3000, 512, HVT_EINVAL},
        {false, 64, 0, 0x3000, 512, HVT_EINVAL},
        {false, 0, 0, 0x3000, 512, HVT_EINVAL},
        {false, ~0ull, 0, 0x3000, 512, HVT_EINVAL},
        {true, 1, 0, MEMORY - 512, 512, HVT_OK},
        {true, 1, 0, MEMORY - 511, 512, -1},
        {true, 1, 0, MEMORY, 0, -1},
        {true, 1, 0, ~0ull, 512, -1},
        {true, 1, 0, ~0ull - 511, 512, -1},
        {false, 1, 0, CONSTANTS - 512, 512, HVT_OK},
        {false, 1, 0, CONSTANTS - 511, 512, -1},
        {false, 1, 0, CONSTANTS + PAGE_SIZE - 1, 512, -1},
        {false, 1, 0, CONSTANTS + PAGE_SIZE, 512, HVT_OK},
        {false, 1, 0, CONSTANTS - 512, PAGE_SIZE + 1024, -1},
        {true, 1, 0, CONSTANTS, 512, HVT_OK},
    };
    for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
        struct hvt_block_io b = {t[i].handle, t[i].offset, t[i].data, t[i].len, -1};
        unsigned before = violations;

        hvt_call(&fake, t[i].write ? HVT_BLOCK_WRITE : HVT_BLOCK_READ, put(0x100, &b, sizeof b));
        cr_expect_eq(result(0x100 + offsetof(struct hvt_block_io, ret)), t[i].ret, "case %u", i);
        cr_expect_eq(violations - before, t[i].ret < 0, "case %u", i);
    }
}

Test(hvt_calls, a_file_that_shrank, .init = set_up)
{
    struct hvt_block_io b = {1, 4096, 0x3000, 4096, -1};

    cr_assert_eq(ftruncate(hvt.host[1].fd, 4096 + 100), 0);
    hvt_call(&fake, HVT_BLOCK_READ, put(0x100, &b, sizeof b));
    cr_expect_eq(result(0x100 + offsetof(struct hvt_block_io, ret)), HVT_EUNSPEC);
    cr_expect_eq(violations, 0);
}

Test(hvt_calls, frames, .init = set_up)
{
    struct hvt_net_io n = {2, 0x3000, 1000, -1};
    struct hvt_poll p = {.timeout_ns = 60000000000u};
    uint64_t len;

    hvt_call(&fake, HVT_NET_READ, put(0x100, &n, sizeof n));
    cr_expect_eq(result(0x100 + offsetof(struct hvt_net_io, ret)), HVT_AGAIN);
    cr_assert_eq(send(wire, "0123456789abcdefgh", 18, 0), 18);
    hvt_call(&fake, HVT_POLL, put(0x200, &p, sizeof p));
    ram_read(&fake.ram, 0x200 + offsetof(struct hvt_poll, ready), &len, 8);
    cr_expect_eq(len, 4);
    cr_expect_eq(result(0x200 + offsetof(struct hvt_poll, ret)), 1);
    hvt_call(&fake, HVT_NET_READ, put(0x100, &n, sizeof n));
    cr_expect_eq(result(0x100 + offsetof(struct hvt_net_io, ret)), HVT_OK);
    ram_read(&fake.ram, 0x100 + offsetof(struct hvt_net_io, len), &len, 8);
    cr_expect_eq(len, 18);
    cr_expect_arr_eq(ram_ptr(&fake.ram, 0x3000, 18), "0123456789abcdefgh", 18);
    n.len = 13;
    hvt_call(&fake, HVT_NET_WRITE, put(0x100, &n, sizeof n));
    cr_expect_eq(result(0x100 + offsetof(struct hvt_net_io, ret)), HVT_EINVAL);
    n.len = 65536;
    hvt_call(&fake, HVT_NET_WRITE, put(0x100, &n, sizeof n));
    cr_expect_eq(result(0x100 + offsetof(struct hvt_net_io, ret)), HVT_EINVAL);
    cr_expect_eq(violations, 0);
}

/* A stop while the guest waits for ever. */
static void *stopper(void *unused)
{
    uint64_t one = 1;

    (void)unused;
    usleep(20000);
    atomic_store(&fake.stopping, true);
    cr_assert_eq(write(hvt.wake_fd, &one, 8), 8);
    return NULL;
}

Test(hvt_calls, stopped_while_it_waits, .init = set_up, .timeout = 30)
{
    struct hvt_poll p = {.timeout_ns = ~0ull};
    pthread_t t;

    pthread_create(&t, NULL, stopper, NULL);
    hvt_call(&fake, HVT_POLL, put(0x200, &p, sizeof p));
    pthread_join(t, NULL);
    cr_expect_eq(result(0x200 + offsetof(struct hvt_poll, ret)), 0);
}

/* --- passt's stream: a length before each frame --- */

static void stream(bool restricted)
{
    int s[2];

    free(hvt.host[2].stream);
    set_up();
    close(wire);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    cr_assert_eq(hvt_stream_open(&hvt.host[2], s[0], restricted), 0);
    wire = s[1];
}

static void tear_down(void)
{
    free(hvt.host[2].stream);
}

/* HVT_POLL with no time: which are ready; HVT_NET_READ's ret. */
static uint64_t look(void)
{
    struct hvt_poll p = {.timeout_ns = 0};
    uint64_t ready = 99;

    hvt_call(&fake, HVT_POLL, put(0x200, &p, sizeof p));
    ram_read(&fake.ram, 0x200 + offsetof(struct hvt_poll, ready), &ready, 8);
    return ready;
}

static int32_t take_frame(uint64_t len, uint64_t *got)
{
    struct hvt_net_io n = {2, 0x3000, len, -1};

    hvt_call(&fake, HVT_NET_READ, put(0x100, &n, sizeof n));
    ram_read(&fake.ram, 0x100 + offsetof(struct hvt_net_io, len), got, 8);
    return result(0x100 + offsetof(struct hvt_net_io, ret));
}

Test(hvt_calls, stream_in_pieces, .fini = tear_down)
{
    static const char bytes[] = "\0\0\0\20ABCDEFGHIJKLMNOP\0\0\0\16abcdefghijklmn\0\0";
    uint64_t got;

    stream(false);
    for (unsigned i = 0; i < 19; i++) {
        cr_assert_eq(write(wire, bytes + i, 1), 1);
        cr_assert_eq(look(), 0, "after %u bytes", i + 1);
        cr_assert_eq(take_frame(100, &got), HVT_AGAIN);
    }
    cr_assert_eq(write(wire, bytes + 19, sizeof bytes - 1 - 19), (ssize_t)sizeof bytes - 1 - 19);
    cr_expect_eq(look(), 4);
    cr_expect_eq(look(), 4, "still");
    cr_expect_eq(take_frame(100, &got), HVT_OK);
    cr_expect_eq(got, 16);
    cr_expect_arr_eq(ram_ptr(&fake.ram, 0x3000, 16), "ABCDEFGHIJKLMNOP", 16);
    cr_expect_eq(take_frame(10, &got), HVT_OK);
    cr_expect_eq(got, 10, "cut");
    cr_expect_eq(look(), 0, "half a length");
    cr_expect_eq(violations, 0);
}

Test(hvt_calls, stream_out, .fini = tear_down)
{
    struct hvt_net_io n = {2, 0x3000, 20, -1};
    uint8_t back[64];

    stream(false);
    memset(fake.ram.base + 0x3000, 0x77, 20);
    hvt_call(&fake, HVT_NET_WRITE, put(0x100, &n, sizeof n));
    cr_expect_eq(result(0x100 + offsetof(struct hvt_net_io, ret)), HVT_OK);
    cr_assert_eq(read(wire, back, sizeof back), 24);
    cr_expect_arr_eq(back, "\0\0\0\24\x77\x77\x77", 7);
    /* Restricted: nothing but what the filter lets through. */
    stream(true);
    hvt_call(&fake, HVT_NET_WRITE, put(0x100, &n, sizeof n));
    cr_expect_eq(result(0x100 + offsetof(struct hvt_net_io, ret)), HVT_OK);
    cr_expect_eq(recv(wire, back, sizeof back, MSG_DONTWAIT), -1);
}

static void *slow_reader(void *sum)
{
    uint8_t buf[7000];
    ssize_t n;

    while (*(size_t *)sum < 100 * 60004u && (n = read(wire, buf, sizeof buf)) > 0) {
        *(size_t *)sum += (size_t)n;
        usleep(50);
    }
    return NULL;
}

Test(hvt_calls, stream_without_room, .fini = tear_down, .timeout = 60)
{
    struct hvt_net_io n = {2, 0x3000, 60000, -1};
    size_t sum = 0;
    pthread_t t;

    stream(false);
    pthread_create(&t, NULL, slow_reader, &sum);
    for (unsigned i = 0; i < 100; i++)
        hvt_call(&fake, HVT_NET_WRITE, put(0x100, &n, sizeof n));
    pthread_join(t, NULL);
    cr_expect_eq(sum, 100 * 60004u);
}

/* A peer that ends, or sends lengths that no frame has: the network is silent from then on. */
Test(hvt_calls, stream_that_ends, .fini = tear_down)
{
    static const char *const bad[] = {"", "\0\0\0\0", "\0\0\0\15", "\0\1\0\22", "\377\377\377\377"};
    struct hvt_net_io n = {2, 0x3000, 60, -1};
    uint64_t got;

    signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        stream(false);
        cr_assert_eq(write(wire, bad[i], i ? 4 : 0), i ? 4 : 0);
        if (!i)
            close(wire);
        cr_expect_eq(look(), 0, "%u", i);
        cr_expect_eq(look(), 0, "%u", i);
        cr_expect_eq(take_frame(100, &got), HVT_AGAIN, "%u", i);
        hvt_call(&fake, HVT_NET_WRITE, put(0x100, &n, sizeof n));
        cr_expect_eq(result(0x100 + offsetof(struct hvt_net_io, ret)), HVT_OK, "%u", i);
        cr_expect_lt(hvt.host[2].fd, 0, "%u", i);
    }
}

/* --- anything at all --- */

static uint64_t seed = 88172645463325252u;

static uint64_t random64(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Numbers that are about to be wrong. */
static uint64_t awkward(void)
{
    static const uint64_t base[] = {0,    1,      2,     64,        512,        0x3000,
                                    DISK, MEMORY, ~0ull, CONSTANTS, 1ull << 32, 1ull << 63};
    uint64_t v = base[random64() % (sizeof base / sizeof *base)];

    switch (random64() % 4) {
    case 0:
        return v;
    case 1:
        return v + random64() % 64;
    case 2:
        return v - random64() % 64;
    default:
        return random64() % MEMORY;
    }
}

Test(hvt_calls, awkward_blocks, .init = set_up, .timeout = 120)
{
    unsigned answered = 0;

    for (unsigned i = 0; i < 60000; i++) {
        unsigned nr = 1 + (unsigned)(random64() % (HVT_CALLS - 1));
        gpa_t at = random64() % 4 ? random64() % (MEMORY - 64) : (uint32_t)awkward();
        uint64_t block[5];

        for (unsigned k = 0; k < 5; k++)
            block[k] = awkward();
        if (nr == HVT_POLL)
            block[0] = random64() % 1000;
        else if (nr >= HVT_BLOCK_WRITE && nr <= HVT_NET_READ && random64() % 2)
            block[0] = nr < HVT_NET_WRITE ? 1 : 2;
        if (ram_ptr_out(&fake.ram, at, sizeof block))
            ram_write(&fake.ram, at, block, sizeof block);
        unsigned before = violations;

        out_len = 0;
        hvt_call(&fake, nr, at);
        answered += violations == before;
        fake.stopping = false;
        while (recv(wire, block, sizeof block, 0) > 0)
            continue;
        if (random64() % 16 == 0)
            send(wire, fake.ram.base, 14 + random64() % 3000, 0);
    }
    cr_expect(answered > 5000 && violations > 5000, "%u answered, %u violations", answered,
              violations);
    for (unsigned k = 0; k < PAGE_SIZE; k++)
        cr_assert_eq(fake.ram.base[CONSTANTS + k], 0x5a);
    cr_expect_eq(lseek(hvt.host[1].fd, 0, SEEK_END), DISK);
}
