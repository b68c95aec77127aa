/*
 * The benchmark of the bt engine: kernels that one compilation turns into objects, linked as a
 * Linux program and as a guest on the runtime. Each returns a checksum of what it computed, so that
 * two places that ran the same kernel can be held to the same answer. tests/bench_bt.sh runs them.
 */
#ifndef GUESTS_BENCHBT_BENCH_H
#define GUESTS_BENCHBT_BENCH_H

#include <stddef.h>
#include <stdint.h>

enum { NEEDS_OS = 1, NEEDS_AVX2 = 2, NEEDS_SSE42 = 4 };

struct kernel {
    const char *name;
    uint64_t (*run)(unsigned n); /* n rounds; the same n gives the same result everywhere */
    void (*prepare)(void);       /* once before, not timed; may be NULL */
    unsigned rounds;             /* some milliseconds on a CPU of 2020 */
    unsigned needs;
};

/* Each ends with a kernel without a name. */
extern const struct kernel memory_kernels[], compute_kernels[], flow_kernels[], vector_kernels[],
    string_kernels[], os_kernels[];

/* "exec": run a program REPS times; its standard output is what is compared. */
int run_program(const char *name, unsigned reps, char **argv);

/* One line: "row NAME CHECKSUM NANOSECONDS..." */
void print_row(const char *name, uint64_t sum, const uint64_t *ns, unsigned count);
uint64_t now_ns(void);

#define HASH_START 0xcbf29ce484222325ull
static inline uint64_t hash_bytes(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = data;

    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3ull;
    return h;
}
static inline uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15ull;
    return h ^ h >> 29;
}
/* The compiler may not carry a loop's result over this, nor leave the loop out. */
static inline void barrier(void)
{
    __asm__ volatile("" : : : "memory");
}

#endif
