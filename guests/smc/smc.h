/* What the files of this guest share. */
#ifndef GUESTS_SMC_SMC_H
#define GUESTS_SMC_SMC_H

#include "guests/bare/bare.h"

typedef uint64_t (*code_fn)(void);

static inline void put32(uint8_t *p, uint32_t v)
{
    *(volatile uint32_t *)p = v;
}

static inline uint64_t run(const void *p)
{
    return ((code_fn)(uintptr_t)p)();
}

static inline void serialize(void)
{
    uint32_t r[4];

    cpuid(0, 0, r);
}

/* Many rounds; the first wrong result is the one reported. */
static inline void expect_run(const void *p, uint64_t want, uint64_t *bad)
{
    uint64_t got = run(p);

    if (got != want && *bad == ~0ull)
        *bad = got << 32 | want;
}

void test_elsewhere(void);
void test_stale(void);

#endif
