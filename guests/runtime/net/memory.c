/* What lwIP wants of a C library: memory, a few string functions, time, random numbers, sums. */
#include "guests/runtime/socket.h"

#include "lwip/opt.h"
#include "lwip/ip4_addr.h"
#include "lwip/sys.h"

#include LWIP_HOOK_FILENAME

void *memcpy(void *dst, const void *src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strncmp(const char *a, const char *b, size_t n);
long strtol(const char *s, char **end, int base);

void *memcpy(void *dst, const void *src, size_t n)
{
    copy(dst, src, n);
    return dst;
}

void *memmove(void *dst, const void *src, size_t n)
{
    char *d = dst;
    const char *s = src;

    if (d - s < 0 || (size_t)(d - s) >= n)
        copy(dst, src, n);
    else
        while (n--)
            d[n] = s[n];
    return dst;
}

void *memset(void *dst, int c, size_t n)
{
    fill(dst, c, n);
    return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;

    for (; n; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

size_t strlen(const char *s)
{
    return length(s);
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n && *a && *a == *b; n--)
        a++, b++;
    return n ? (uint8_t)*a - (uint8_t)*b : 0;
}

/* netif.c's names of interfaces: one digit. */
long strtol(const char *s, char **end, int base)
{
    (void)end, (void)base;
    return *s >= '0' && *s <= '9' ? *s - '0' : 0;
}

/* Connections and headers: these are needed to give memory back, and come from blocks that have
 * been theirs before. */
#define SMALL 512u

/* Blocks know their size; those past a page are pages in a row. */
struct block {
    uint64_t size, unused; /* 16 bytes: what follows is aligned as malloc()'s */
};

/* The program's own memory comes first. */
bool net_short_of_memory(unsigned part)
{
    return frames_free() < frames_total() / part;
}

void *net_malloc(size_t n)
{
    struct block *b;

    if (n > 1u << 20 || (n > SMALL && net_short_of_memory(32)))
        return NULL;
    n += sizeof *b;
    if (n <= PAGE) {
        b = kalloc(n);
    } else {
        uint64_t pa = frames_row((unsigned)(page_up(n) / PAGE));

        b = pa ? kva(pa) : NULL;
    }
    if (!b)
        return NULL;
    b->size = n;
    return b + 1;
}

void *net_calloc(size_t n, size_t size)
{
    return net_malloc(n * size); /* which is zeroed; lwIP's own sizes */
}

void net_free(void *p)
{
    if (!p)
        return;
    struct block *b = (struct block *)p - 1;

    if (b->size <= PAGE) {
        kfree(b, b->size);
        return;
    }
    for (uint64_t pa = kpa(b), end = pa + page_up(b->size); pa < end; pa += PAGE)
        frame_free(pa);
}

uint32_t sys_now(void)
{
    return (uint32_t)(clock_ns() / 1000000);
}

_Noreturn void net_assert_failed(const char *what)
{
    panic("runtime: lwIP: %s", what);
}

uint32_t net_random(void)
{
    uint32_t v;

    random_bytes(&v, sizeof v);
    return v;
}

static uint64_t left(uint64_t v, unsigned n)
{
    return v << n | v >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1], v[1] = left(v[1], 13) ^ v[0], v[0] = left(v[0], 32);
    v[2] += v[3], v[3] = left(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = left(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = left(v[1], 17) ^ v[2], v[2] = left(v[2], 32);
}

/* RFC 6528: a clock of 4 us, and SipHash-2-4 of the connection's ends under a secret. */
uint32_t net_initial_sequence(const struct ip4_addr *local, uint16_t local_port,
                              const struct ip4_addr *remote, uint16_t remote_port)
{
    static uint64_t key[2];
    uint64_t word[3] = {(uint64_t)local->addr << 32 | remote->addr,
                        (uint64_t)local_port << 16 | remote_port, 16ull << 56};

    if (!key[0])
        random_bytes(key, sizeof key);
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
                     key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};

    for (unsigned i = 0; i < 3; i++) {
        v[3] ^= word[i];
        sip_round(v);
        sip_round(v);
        v[0] ^= word[i];
    }
    v[2] ^= 0xff;
    for (unsigned i = 0; i < 4; i++)
        sip_round(v);
    return (uint32_t)(v[0] ^ v[1] ^ v[2] ^ v[3]) + (uint32_t)(clock_ns() / 4000);
}

/* With the carry at the other end. */
static uint64_t plus(uint64_t a, uint64_t b)
{
    uint64_t sum;

    return __builtin_add_overflow(a, b, &sum) ? sum + 1 : sum;
}

/* RFC 1071, eight bytes at a time; a sum of bytes that begin at an odd place of the packet is
 * lwIP's to turn. */
uint16_t net_checksum(const void *data, int len)
{
    typedef uint64_t unaligned __attribute__((aligned(1), may_alias));
    const uint8_t *p = data;
    uint64_t sum = 0, tail = 0;
    size_t n = len > 0 ? (size_t)len : 0;

    for (; n >= 32; n -= 32, p += 32)
        __asm__("addq (%1), %0\n\t"
                "adcq 8(%1), %0\n\t"
                "adcq 16(%1), %0\n\t"
                "adcq 24(%1), %0\n\t"
                "adcq $0, %0"
                : "+r"(sum)
                : "r"(p), "m"(*(const char(*)[32])p)
                : "cc");
    for (; n >= 8; n -= 8, p += 8)
        sum = plus(sum, *(const unaligned *)p);
    for (size_t i = 0; i < n; i++)
        tail |= (uint64_t)p[i] << 8 * i;
    sum = plus(sum, tail);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}
