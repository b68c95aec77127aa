/* The store: see store.h. */
#include "guests/kv/store.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAGIC    "mayflykv"
#define SECTOR   512
#define LOG      4096
#define SMALLEST (64 << 10)

struct header {
    char magic[8];
    uint32_t crc, epoch;         /* crc: of what follows it */
    uint64_t generation, number; /* the highest generation wins; number of the log's first record */
    uint32_t half, zero;
};

enum { PUT = 1, DELETE = 2 };
struct record {          /* then the key and the value */
    uint32_t crc, epoch; /* crc: of what follows it, key and value */
    uint64_t number;
    uint16_t type, key;
    uint32_t value;
};
#define RECORD_MAX (sizeof(struct record) + KEY_MAX + VALUE_MAX)

struct item {
    uint64_t at;  /* of its record, on the disk */
    uint32_t len; /* of the value */
    char key[];
};

struct store {
    int fd;
    uint32_t half, epoch;
    uint64_t half_size, generation;
    uint64_t end, number; /* where the next record goes, its number */
    struct item **items;  /* the index, by key */
    size_t count, room;
    char buf[RECORD_MAX];
};

/* CRC-32C, reflected (RFC 3720, appendix B.4), by half bytes. */
static uint32_t crc32c(const void *data, size_t n)
{
    static uint32_t table[16];
    const uint8_t *p = data;
    uint32_t crc = ~0u;

    for (uint32_t i = 1; !table[15] && i < 16; i++) {
        table[i] = i;
        for (unsigned k = 0; k < 4; k++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78 : 0);
    }
    for (; n--; p++) {
        crc = crc >> 4 ^ table[(crc ^ *p) & 15];
        crc = crc >> 4 ^ table[(crc ^ *p >> 4) & 15];
    }
    return ~crc;
}

/* What a checksum covers. */
#define REST(p, size) (const char *)&(p)->epoch, (size)-offsetof(__typeof__(*(p)), epoch)

static uint64_t half_at(const struct store *s, uint32_t half)
{
    return LOG + half * s->half_size;
}

static size_t record_size(size_t key, size_t value)
{
    return sizeof(struct record) + key + value;
}

static int write_at(struct store *s, const void *data, size_t len, uint64_t at)
{
    const char *p = data;

    while (len) {
        ssize_t n = pwrite(s->fd, p, len, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -EIO;
        p += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

/* Bytes read, fewer only at the end of the disk; or -errno. */
static ssize_t read_at(const struct store *s, void *data, size_t len, uint64_t at)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pread(s->fd, (char *)data + done, len - done, (off_t)(at + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (!n)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* --- the index --- */

/* Where the key is or would be. */
static size_t place(const struct store *s, const char *key, bool *there)
{
    size_t low = 0, high = s->count;

    *there = false;
    while (low < high && !*there) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(key, s->items[mid]->key);

        *there = !order;
        if (order > 0)
            low = mid + 1;
        else
            high = mid;
    }
    return *there ? high : low;
}

static int remember(struct store *s, const char *key, uint64_t at, uint32_t len)
{
    bool there;
    size_t i = place(s, key, &there);

    if (!there) {
        if (s->count == s->room) {
            size_t room = s->room ? 2 * s->room : 64;
            struct item **more = realloc(s->items, room * sizeof *more);

            if (!more)
                return -ENOMEM;
            s->items = more;
            s->room = room;
        }
        struct item *new = malloc(sizeof *new + strlen(key) + 1);

        if (!new)
            return -ENOMEM;
        strcpy(new->key, key);
        memmove(s->items + i + 1, s->items + i, (s->count++ - i) * sizeof *s->items);
        s->items[i] = new;
    }
    s->items[i]->at = at;
    s->items[i]->len = len;
    return 0;
}

static void forget(struct store *s, const char *key)
{
    bool there;
    size_t i = place(s, key, &there);

    if (!there)
        return;
    free(s->items[i]);
    memmove(s->items + i, s->items + i + 1, (--s->count - i) * sizeof *s->items);
}

/* --- records --- */

/* Is there a whole record at `at`, in the half that ends at limit? It is in s->buf then. */
static bool read_record(struct store *s, uint64_t at, uint64_t limit)
{
    struct record *r = (struct record *)s->buf;

    if (limit - at < sizeof *r || read_at(s, r, sizeof *r, at) != sizeof *r)
        return false;
    if (!r->key || r->key > KEY_MAX || r->value > VALUE_MAX ||
        (r->type != PUT && r->type != DELETE))
        return false;
    size_t size = record_size(r->key, r->value), rest = size - sizeof *r;

    return size <= limit - at && read_at(s, r + 1, rest, at + sizeof *r) == (ssize_t)rest &&
           r->crc == crc32c(REST(r, size));
}

/* Write a record at s->end. The caller flushes. */
static int append(struct store *s, uint16_t type, const char *key, const void *value, uint32_t len)
{
    struct record *r = (struct record *)s->buf;
    size_t n = strlen(key), size = record_size(n, len);
    int err;

    *r = (struct record){
        .epoch = s->epoch, .number = s->number, .type = type, .key = (uint16_t)n, .value = len};
    memcpy(r + 1, key, n);
    if (len)
        memmove((char *)(r + 1) + n, value, len);
    r->crc = crc32c(REST(r, size));
    err = write_at(s, r, size, s->end);
    if (err)
        return err;
    s->end += size;
    s->number++;
    return 0;
}

static int flush(struct store *s)
{
    return fdatasync(s->fd) ? -errno : 0;
}

static int write_header(struct store *s, uint64_t first)
{
    struct header h = {.magic = MAGIC,
                       .epoch = s->epoch,
                       .generation = ++s->generation,
                       .number = first,
                       .half = s->half};

    h.crc = crc32c(REST(&h, sizeof h));
    int err = write_at(s, &h, sizeof h, s->generation % 2 * SECTOR);

    return err ? err : flush(s);
}

/* --- compaction --- */

static uint64_t limit(const struct store *s)
{
    return half_at(s, s->half) + s->half_size;
}

/* The live records to the other half, as the start of a new log. What is here is not touched, and
 * stays the store until the header says otherwise. */
static int compact(struct store *s)
{
    uint64_t end = s->end, number = s->number, first = number;
    uint64_t *at = calloc(s->count + 1, sizeof *at);
    int err = at ? 0 : -ENOMEM;

    s->half ^= 1;
    s->end = half_at(s, s->half);
    for (size_t i = 0; !err && i < s->count; i++) {
        const struct item *item = s->items[i];

        at[i] = s->end;
        if (!read_record(s, item->at, UINT64_MAX))
            err = -EIO;
        else
            err = append(s, PUT, item->key, s->buf + record_size(strlen(item->key), 0), item->len);
    }
    if (!err)
        err = flush(s);
    if (!err)
        err = write_header(s, first);
    for (size_t i = 0; !err && i < s->count; i++)
        s->items[i]->at = at[i];
    free(at);
    if (err) {
        s->half ^= 1;
        s->end = end;
        s->number = number;
    }
    return err;
}

static uint64_t live_bytes(const struct store *s)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < s->count; i++)
        sum += record_size(strlen(s->items[i]->key), s->items[i]->len);
    return sum;
}

static int log_it(struct store *s, uint16_t type, const char *key, const void *value, uint32_t len)
{
    size_t size = record_size(strlen(key), len);
    /* A full store must still be able to delete. */
    size_t reserve = type == PUT ? record_size(KEY_MAX, 0) : 0;
    int err = 0;

    if (size + reserve > limit(s) - s->end) {
        /* The old record of this key goes along, as long as the new one is not there. */
        if (live_bytes(s) + size + reserve > s->half_size)
            return -ENOSPC;
        err = compact(s);
    }
    uint64_t end = s->end, number = s->number;

    if (!err)
        err = append(s, type, key, value, len);
    if (!err)
        err = flush(s);
    if (err) { /* whatever of it is there, the next record takes its place */
        s->end = end;
        s->number = number;
    }
    return err;
}

int store_put(struct store *s, const char *key, const void *value, uint32_t len)
{
    uint64_t at;
    int err;

    if (!*key || strlen(key) > KEY_MAX || len > VALUE_MAX)
        return -EINVAL;
    err = log_it(s, PUT, key, value, len);
    at = s->end - record_size(strlen(key), len);
    return err ? err : remember(s, key, at, len);
}

int store_get(struct store *s, const char *key, void *value)
{
    bool there;
    size_t i = place(s, key, &there);

    if (!there)
        return -ENOENT;
    if (!read_record(s, s->items[i]->at, UINT64_MAX))
        return -EIO;
    memcpy(value, s->buf + record_size(strlen(key), 0), s->items[i]->len);
    return (int)s->items[i]->len;
}

int store_delete(struct store *s, const char *key)
{
    bool there;
    int err;

    place(s, key, &there);
    if (!there)
        return -ENOENT;
    err = log_it(s, DELETE, key, NULL, 0);
    if (!err)
        forget(s, key);
    return err;
}

void store_list(struct store *s, void (*each)(const char *key, uint32_t len, void *to), void *to)
{
    for (size_t i = 0; i < s->count; i++)
        each(s->items[i]->key, s->items[i]->len, to);
}

size_t store_count(const struct store *s)
{
    return s->count;
}

/* --- opening --- */

static bool read_header(const struct store *s, unsigned slot, struct header *h)
{
    return read_at(s, h, sizeof *h, slot * SECTOR) == sizeof *h &&
           !memcmp(h->magic, MAGIC, sizeof h->magic) && h->crc == crc32c(REST(h, sizeof *h)) &&
           h->half < 2;
}

static bool blank(const struct store *s)
{
    char sector[2 * SECTOR];

    if (read_at(s, sector, sizeof sector, 0) != sizeof sector)
        return false;
    for (size_t i = 0; i < sizeof sector; i++)
        if (sector[i])
            return false;
    return true;
}

/* The log from its start as far as it is whole. */
static int recover(struct store *s, const struct header *h)
{
    const struct record *r = (const struct record *)s->buf;
    int err = 0;

    s->half = h->half;
    s->epoch = h->epoch;
    s->number = h->number;
    s->generation = h->generation;
    s->end = half_at(s, s->half);
    while (!err && read_record(s, s->end, limit(s)) && r->number == s->number &&
           r->epoch >= s->epoch) {
        char key[KEY_MAX + 1] = "";

        memcpy(key, r + 1, r->key);
        if (r->type == PUT)
            err = remember(s, key, s->end, r->value);
        else
            forget(s, key);
        s->end += record_size(r->key, r->value);
        s->epoch = r->epoch;
        s->number++;
    }
    s->epoch++;
    return err;
}

static int start(struct store *s, bool format)
{
    struct header h[2];
    bool valid[2];
    off_t size = lseek(s->fd, 0, SEEK_END);

    if (size < 0)
        return -errno;
    if (size < SMALLEST)
        return -EINVAL;
    s->half_size = ((uint64_t)size - LOG) / 2 / SECTOR * SECTOR;
    for (unsigned i = 0; i < 2; i++)
        valid[i] = !format && read_header(s, i, &h[i]);
    if (valid[0] || valid[1])
        return recover(s, &h[!valid[0] || (valid[1] && h[1].generation > h[0].generation)]);
    if (!format && !blank(s))
        return -EEXIST;
    /* An old log must not be read on from here. */
    s->epoch = 1;
    s->number = ((uint64_t)time(NULL) << 32) + 1;
    s->end = half_at(s, 0);
    char zero[2 * SECTOR] = "";
    int err = write_at(s, zero, sizeof zero, 0);

    return err ? err : write_header(s, s->number);
}

int store_open(const char *path, bool format, struct store **out)
{
    struct store *s = calloc(1, sizeof *s);
    int err;

    if (!s)
        return -ENOMEM;
    s->fd = open(path, O_RDWR | O_CLOEXEC);
    err = s->fd < 0 ? -errno : start(s, format);
    if (err) {
        store_close(s);
        s = NULL;
    }
    *out = s;
    return err;
}

void store_close(struct store *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->items[i]);
    free(s->items);
    if (s->fd >= 0)
        close(s->fd);
    free(s);
}
