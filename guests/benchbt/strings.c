/* String functions of libc, REP-prefixed instructions, formatted output and number parsing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "guests/benchbt/bench.h"

#define LEN 4096
static char text[LEN], other[LEN];

static void prepare(void)
{
    for (unsigned i = 0; i < LEN - 1; i++)
        text[i] = (char)('a' + i * 7 % 23);
    text[LEN - 1] = 0;
    memcpy(other, text, LEN);
}

static uint64_t functions(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        unsigned at = i * 61 % (LEN - 8);
        char kept = text[at];

        text[at] = 'z';
        sum += strlen(text) + (uint64_t)(strchr(text, 'z') - text);
        sum += strcmp(text, other) > 0 ? 3 : 5;
        sum += memcmp(text, other, LEN) > 0 ? 7 : 11;
        sum += (uint64_t)(strrchr(text, 'c') - text);
        sum += strspn(text, "abcdefghijklmnopqrstuvw");
        sum += strstr(text, "zz") ? 1 : 2;
        text[at] = kept;
    }
    return sum;
}

static void rep_movsb(void *d, const void *s, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
}
static void rep_stosq(void *d, uint64_t v, size_t n)
{
    __asm__ volatile("rep stosq" : "+D"(d), "+c"(n) : "a"(v) : "memory");
}
static size_t repne_scasb(const void *s, char c, size_t n)
{
    size_t left = n;

    __asm__ volatile("repne scasb" : "+D"(s), "+c"(left) : "a"(c) : "memory", "cc");
    return n - left;
}
static size_t repe_cmpsb(const void *a, const void *b, size_t n)
{
    size_t left = n;

    __asm__ volatile("repe cmpsb" : "+D"(a), "+S"(b), "+c"(left) : : "memory", "cc");
    return n - left;
}
static uint64_t rep(unsigned n)
{
    static char to[LEN];
    static uint64_t words[LEN / 8];
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        rep_movsb(to, text, LEN);
        rep_movsb(to + i % 64, text + i % 32, 16 + i % 100);
        rep_movsb(to + 512 + i % 64, text, 200);
        rep_stosq(words, i, LEN / 8);
        rep_stosq(words, i + 1, i % 16);
        sum += repne_scasb(text + i % 16, 'w', 64);
        sum += repe_cmpsb(text + 23, text + 46, 40 + i % 50);
        sum += words[i % 512] + (unsigned char)to[i % LEN];
    }
    return sum;
}

static uint64_t format(unsigned n)
{
    uint64_t h = HASH_START;
    char line[160];

    for (unsigned i = 0; i < n; i++) {
        int len =
            snprintf(line, sizeof(line), "%s %d %08x %.6f %lld|%-12s|%5.1e", "row", (int)i * 7919,
                     i * 2654435761u, (double)i / 7, (long long)i * i * i, "left", i * 1.5);

        h = hash_bytes(h, line, (size_t)len);
        h = mix(h, strtoul(line + 4, NULL, 10) + (uint64_t)(strtod("2.718281828", NULL) * i));
    }
    return h;
}

const struct kernel string_kernels[] = {
    {"strings", functions, prepare, 1200, 0},
    {"rep", rep, prepare, 60000, 0},
    {"printf", format, NULL, 3000, 0},
    {0},
};
