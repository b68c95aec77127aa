/* Memory: latency, streams, a copy whose two sides share the low bits of their page numbers,
 * tables. */
#include <string.h>
#include "guests/benchbt/bench.h"

#define MIB     (1u << 20)
#define LINKS   (8 * MIB / sizeof(void *))
#define NEAR    (256 * 1024 / sizeof(void *))
#define SLOTS   65536u
#define NUMBERS 1000000u

static struct {
    uint64_t a[MIB / 8], b[MIB / 8]; /* b begins exactly 1 MiB behind a */
} pair __attribute__((aligned(4096)));
static void *links[LINKS];
static struct {
    uint64_t key, count;
} slots[SLOTS];
static uint8_t composite[NUMBERS];

static uint32_t seed;
static uint32_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    return seed ^= seed << 5;
}

/* One cycle through all of them in random order (Sattolo's shuffle). */
static void link_up(size_t count)
{
    seed = 2463534242u;
    for (size_t i = 0; i < count; i++)
        links[i] = &links[i];
    for (size_t i = count - 1; i; i--) {
        size_t j = next_random() % i;
        void *t = links[i];

        links[i] = links[j];
        links[j] = t;
    }
}

static void prepare_far(void)
{
    link_up(LINKS);
}
static void prepare_near(void)
{
    link_up(NEAR);
}
static uint64_t chase(unsigned n)
{
    void **p = links[0];

    for (unsigned i = 0; i < n; i++)
        p = *p;
    return (uint64_t)(p - links);
}

static void prepare_pair(void)
{
    seed = 77;
    for (size_t i = 0; i < MIB / 8; i++)
        pair.a[i] = (uint64_t)next_random() << 32 | next_random();
}
static uint64_t stream_sum(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned r = 0; r < n; r++) {
        for (size_t i = 0; i < MIB / 8; i++)
            sum += pair.a[i] ^ r;
        barrier();
    }
    return sum;
}
/* Word by word: a libc's memcpy would be one REP MOVS. */
static uint64_t copy(unsigned n)
{
    for (unsigned r = 0; r < n; r++) {
        for (size_t i = 0; i < MIB / 8; i++) {
            pair.b[i] = pair.a[i];
            __asm__ volatile("");
        }
        barrier();
    }
    return hash_bytes(HASH_START, pair.b + 1000, 4096);
}
static uint64_t copy_libc(unsigned n)
{
    for (unsigned r = 0; r < n; r++) {
        memcpy(pair.b, pair.a, sizeof(pair.b));
        barrier();
    }
    return hash_bytes(HASH_START, pair.b + 2000, 4096);
}

static uint64_t hash_table(unsigned n)
{
    uint64_t sum = 0;

    memset(slots, 0, sizeof(slots));
    for (uint64_t i = 1; i <= n; i++) {
        uint64_t key = (i * 0x9e3779b97f4a7c15ull >> 20) % 40000 + 1;
        unsigned h = (unsigned)(key * 0x9e3779b1u >> 7) % SLOTS;

        while (slots[h].key && slots[h].key != key)
            h = (h + 1) % SLOTS;
        slots[h].key = key;
        sum += ++slots[h].count;
    }
    return sum;
}

static uint64_t sieve(unsigned n)
{
    uint64_t primes = 0;

    for (unsigned r = 0; r < n; r++) {
        memset(composite, 0, sizeof(composite));
        for (unsigned i = 2; i < NUMBERS; i++) {
            if (composite[i])
                continue;
            primes += i;
            for (unsigned j = 2 * i; j < NUMBERS; j += i)
                composite[j] = 1;
        }
    }
    return primes;
}

const struct kernel memory_kernels[] = {
    {"chase-8M", chase, prepare_far, 150000, 0},
    {"chase-256K", chase, prepare_near, 1500000, 0},
    {"stream-sum", stream_sum, prepare_pair, 120, 0},
    {"copy-1M-apart", copy, prepare_pair, 100, 0},
    {"memcpy", copy_libc, prepare_pair, 100, 0},
    {"hash-table", hash_table, NULL, 600000, 0},
    {"sieve", sieve, NULL, 3, 0},
    {0},
};
