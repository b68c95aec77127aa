/* The block device request by request: what each type does, and every way to get one wrong. */
#include "tests/virtio_fix.h"

#include <fcntl.h>
#include <sys/stat.h>

#define SECTORS 2048u
#define F_FLUSH (1ull << 9)
enum { T_IN, T_OUT, T_FLUSH = 4, T_ID = 8, T_DISCARD = 11, T_ZEROES = 13 };
enum { OK, IOERR, UNSUPP, NONE = 0xee };

static struct fix *f;
static struct virtio_dev *dev;
static char name[32];
static int image; /* the same file, from outside */

static void make(const char *words)
{
    char err[256] = "", arg[128];

    strcpy(name, "/tmp/mayfly-blk-XXXXXX");
    image = mkstemp(name);
    cr_assert(image >= 0);
    cr_assert_eq(ftruncate(image, SECTORS * 512), 0);
    for (unsigned i = 0; i < SECTORS; i++) {
        uint8_t b = (uint8_t)(i * 7 + 1);

        cr_assert_eq(pwrite(image, &b, 1, i * 512), 1);
    }
    snprintf(arg, sizeof arg, "%s%s", name, words);
    cr_assert_eq(blk_create(arg, &dev, err, sizeof err), 0, "%s", err);
    f = fix_new(dev, 8 * MIB, true);
    go(f, VIRTIO_F_EVENT_IDX | (dev->features & F_FLUSH));
}

static void drop(void)
{
    fix_free(f);
    free(dev);
    close(image);
    unlink(name);
}

#define DATA   (BUFFERS + 0x1000)
#define STATUS (BUFFERS + 0x800)

/* One request with len bytes of data at DATA; its status, or NONE when it was not answered. */
static unsigned ask(uint32_t type, uint64_t sector, uint32_t len)
{
    bool in = type == T_IN || type == T_ID;
    uint32_t head, used;

    memset(f->ram.base + BUFFERS, 0, 16);
    memcpy(f->ram.base + BUFFERS, &type, 4);
    memcpy(f->ram.base + BUFFERS + 8, &sector, 8);
    f->ram.base[STATUS] = NONE;
    put_desc(f, RING_DESC, 0, BUFFERS, 16, D_NEXT, len ? 1 : 2);
    put_desc(f, RING_DESC, 1, DATA, len, in ? D_NEXT | D_WRITE : D_NEXT, 2);
    put_desc(f, RING_DESC, 2, STATUS, 1, D_WRITE, 0);
    offer(f, 0, 0);
    notify(f, 0);
    if (!take_used(f, 0, &head, &used))
        return NONE;
    cr_assert_eq(used, in ? len + 1 : 1);
    return f->ram.base[STATUS];
}

static unsigned range(uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
    uint8_t *p = f->ram.base + DATA;

    memcpy(p, &sector, 8);
    memcpy(p + 8, &sectors, 4);
    memcpy(p + 12, &flags, 4);
    return ask(type, 0, 16);
}

static uint8_t first_byte(unsigned sector)
{
    uint8_t b = 0;

    cr_assert_eq(pread(image, &b, 1, sector * 512), 1);
    return b;
}

/* Over io_uring, over the threads, and each with direct I/O. */
#define EACH_WAY                                                                             \
    for (int way = 0; way < 4; way++, drop())                                                \
        if (way & 1 ? setenv("MAYFLY_NO_IO_URING", "1", 1) : unsetenv("MAYFLY_NO_IO_URING"), \
            make(way & 2 ? ",direct,serial=abc" : ",serial=abc"), 1)

Test(blk, reads, .timeout = 60)
{
    EACH_WAY
    {
        cr_assert_eq(ask(T_IN, 5, 1024), OK);
        cr_assert_eq(f->ram.base[DATA], 5 * 7 + 1);
        cr_assert_eq(f->ram.base[DATA + 512], 6 * 7 + 1);
        cr_assert_eq(ask(T_IN, SECTORS - 2, 1024), OK);
        cr_assert_eq(ask(T_IN, SECTORS - 1, 1024), IOERR, "over the end");
        cr_assert_eq(ask(T_IN, SECTORS, 512), IOERR);
        cr_assert_eq(ask(T_IN, SECTORS, 0), OK, "nothing, at the end");
        cr_assert_eq(ask(T_IN, SECTORS + 1, 0), IOERR);
        cr_assert_eq(ask(T_IN, UINT64_MAX, 512), IOERR);
        cr_assert_eq(ask(T_IN, (uint64_t)1 << 55, 512), IOERR, "times 512 it is 0 again");
        cr_assert_eq(ask(T_IN, 0, 511), IOERR);
        cr_assert_eq(ask(T_IN, 0, 513), IOERR);
        cr_assert_eq(reg(f, R_STATUS), 15);
    }
}

Test(blk, writes, .timeout = 60)
{
    EACH_WAY
    {
        struct stat st;

        memset(f->ram.base + DATA, 0x99, 2048);
        cr_assert_eq(ask(T_OUT, 9, 1024), OK);
        cr_assert(first_byte(9) == 0x99 && first_byte(10) == 0x99);
        cr_assert(first_byte(8) == 57 && first_byte(11) == 78);
        cr_assert_eq(ask(T_OUT, SECTORS - 1, 1024), IOERR);
        cr_assert_eq(first_byte(SECTORS - 1), (uint8_t)((SECTORS - 1) * 7 + 1));
        cr_assert_eq(ask(T_OUT, SECTORS, 512), IOERR);
        cr_assert_eq(ask(T_OUT, (uint64_t)1 << 55, 512), IOERR);
        cr_assert_eq(ask(T_OUT, 0, 100), IOERR);
        cr_assert_eq(ask(T_FLUSH, 0, 0), OK);
        cr_assert(!fstat(image, &st) && st.st_size == SECTORS * 512);
    }
}

/* Direct I/O with memory that is not aligned goes by a copy. */
Test(blk, any_alignment, .timeout = 60)
{
    EACH_WAY
    {
        uint32_t head, len, type = T_IN;
        uint64_t sector = 3;

        for (unsigned write = 0; write < 2; write++) {
            type = write ? T_OUT : T_IN;
            memcpy(f->ram.base + BUFFERS, &type, 4);
            memcpy(f->ram.base + BUFFERS + 8, &sector, 8);
            f->ram.base[STATUS] = NONE;
            f->ram.base[DATA + 1] = 0x42 * (uint8_t)write;
            uint16_t flags = write ? D_NEXT : D_NEXT | D_WRITE;

            put_desc(f, RING_DESC, 0, BUFFERS, 16, D_NEXT, 1);
            put_desc(f, RING_DESC, 1, DATA + 1, 100, flags, 2);
            put_desc(f, RING_DESC, 2, DATA + 0x1003, 412, flags, 3);
            put_desc(f, RING_DESC, 3, STATUS, 1, D_WRITE, 0);
            offer(f, 0, 0);
            notify(f, 0);
            cr_assert(take_used(f, 0, &head, &len));
            cr_assert_eq(f->ram.base[STATUS], OK);
            if (!write)
                cr_assert_eq(f->ram.base[DATA + 1], 3 * 7 + 1);
        }
        cr_assert_eq(first_byte(3), 0x42);
    }
}

Test(blk, identity, .timeout = 60)
{
    EACH_WAY
    {
        memset(f->ram.base + DATA, 0xff, 32);
        cr_assert_eq(ask(T_ID, 0, 20), OK);
        cr_assert(!memcmp(f->ram.base + DATA, "abc\0\0", 5));
        cr_assert_eq(ask(T_ID, 0, 2), OK);
        cr_assert_eq(ask(2, 0, 0), UNSUPP);
        cr_assert_eq(ask(0xffffffff, 0, 0), UNSUPP);
    }
}

Test(blk, ranges, .timeout = 60)
{
    EACH_WAY
    {
        cr_assert_eq(range(T_ZEROES, 16, 8, 0), OK);
        cr_assert(first_byte(15) == 106 && !first_byte(16) && !first_byte(23) &&
                  first_byte(24) == 169);
        cr_assert_eq(range(T_ZEROES, 32, 8, 1), OK, "by giving the blocks back");
        cr_assert(!first_byte(32) && !first_byte(39) && first_byte(40));
        cr_assert_eq(range(T_DISCARD, 48, 8, 0), OK);
        cr_assert(first_byte(47) && first_byte(56));
        cr_assert_eq(range(T_DISCARD, SECTORS - 8, 8, 0), OK);
        cr_assert_eq(range(T_DISCARD, SECTORS - 8, 9, 0), IOERR);
        cr_assert_eq(range(T_ZEROES, SECTORS - 8, 9, 0), IOERR);
        cr_assert_eq(range(T_ZEROES, UINT64_MAX, 9, 0), IOERR);
        cr_assert_eq(range(T_ZEROES, 0, 0xffffffff, 0), IOERR);
        cr_assert_eq(range(T_DISCARD, 0, 8, 1), UNSUPP, "unmap is for zeroes");
        cr_assert_eq(range(T_ZEROES, 0, 8, 2), UNSUPP);
        cr_assert_eq(ask(T_ZEROES, 0, 0), IOERR);
        cr_assert_eq(ask(T_ZEROES, 0, 15), IOERR);
        cr_assert_eq(ask(T_ZEROES, 0, 17 * 16), IOERR, "more than it says it takes");
        cr_assert(first_byte(0));
        memset(f->ram.base + DATA, 0, 32);
        cr_assert_eq(ask(T_ZEROES, 0, 32), OK, "empty ranges");
    }
}

Test(blk, read_only, .timeout = 60)
{
    make(",ro");
    cr_assert(dev->features & 1 << 5);
    cr_assert_eq(ask(T_IN, 1, 512), OK);
    cr_assert_eq(ask(T_OUT, 1, 512), IOERR);
    cr_assert_eq(range(T_ZEROES, 1, 1, 0), IOERR);
    cr_assert_eq(range(T_DISCARD, 1, 1, 0), IOERR);
    cr_assert_eq(first_byte(1), 8);
    drop();
}

Test(blk, chains_that_are_no_requests, .timeout = 60)
{
    uint32_t head, len;

    make("");
    /* Half a header: an error that can be told. */
    f->ram.base[STATUS] = NONE;
    memcpy(f->ram.base + BUFFERS, &(uint32_t){T_FLUSH}, 4); /* what could be done, were it whole */
    put_desc(f, RING_DESC, 0, BUFFERS, 8, D_NEXT, 1);
    put_desc(f, RING_DESC, 1, STATUS, 1, D_WRITE, 0);
    offer(f, 0, 0);
    notify(f, 0);
    cr_assert(take_used(f, 0, &head, &len));
    cr_assert_eq(f->ram.base[STATUS], IOERR);
    /* No room for the status: one that cannot. */
    put_desc(f, RING_DESC, 0, BUFFERS, 16, 0, 0);
    offer(f, 0, 0);
    notify(f, 0);
    cr_assert(status_gets(f, ST_NEEDS_RESET));
    go(f, 0);
    cr_assert_eq(ask(T_IN, 0, 512), OK);
    drop();
}

Test(blk, file_shrinks, .timeout = 60)
{
    EACH_WAY
    {
        cr_assert_eq(ftruncate(image, 512 * 4), 0);
        cr_assert_eq(ask(T_IN, 100, 512), IOERR);
        cr_assert_eq(ask(T_IN, 2, 512 * 4), IOERR, "its second half is not there");
        cr_assert_eq(ask(T_IN, 0, 512), OK);
    }
}

/* A driver without FLUSH has a write-through disk: all the same to it. */
Test(blk, write_through, .timeout = 60)
{
    make("");
    go(f, 0);
    memset(f->ram.base + DATA, 0x31, 512);
    cr_assert_eq(ask(T_OUT, 2, 512), OK);
    cr_assert_eq(first_byte(2), 0x31);
    cr_assert_eq(range(T_ZEROES, 2, 1, 0), OK);
    cr_assert_eq(first_byte(2), 0);
    drop();
}

Test(blk, every_request_at_once, .timeout = 60)
{
    EACH_WAY
    {
        uint32_t head, len;
        bool seen[64] = {false};

        for (uint16_t i = 0; i < 21; i++) {
            uint64_t h = BUFFERS + 0x100000 + i * 0x1000u, sector = i;
            uint32_t type = T_IN;

            memcpy(f->ram.base + h, &type, 4);
            memcpy(f->ram.base + h + 8, &sector, 8);
            put_desc(f, RING_DESC, i * 3u, h, 16, D_NEXT, (uint16_t)(i * 3 + 1));
            put_desc(f, RING_DESC, i * 3u + 1, h + 512, 512, D_NEXT | D_WRITE,
                     (uint16_t)(i * 3 + 2));
            put_desc(f, RING_DESC, i * 3u + 2, h + 100, 1, D_WRITE, 0);
            offer(f, 0, (uint16_t)(i * 3));
        }
        notify(f, 0);
        for (unsigned i = 0; i < 21; i++) {
            cr_assert(take_used(f, 0, &head, &len) && len == 513 && !seen[head]);
            seen[head] = true;
            cr_assert_eq(f->ram.base[BUFFERS + 0x100000 + head / 3 * 0x1000 + 512],
                         (uint8_t)(head / 3 * 7 + 1));
        }
    }
}
