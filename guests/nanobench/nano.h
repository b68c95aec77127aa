/* The nanobenchmarks' routines (ops.S) and how they are timed; for the guest and the host program.
 */
#ifndef GUESTS_NANOBENCH_NANO_H
#define GUESTS_NANOBENCH_NANO_H

#include <stdint.h>

typedef void nano_fn(uint64_t arg, uint64_t rounds);
nano_fn nano_nothing, nano_syscalls, nano_ins, nano_cr8_writes, nano_calls, nano_page_faults,
    nano_divides, nano_pte_stores, nano_pte_changes;
extern const char nano_user[], nano_user_end[];

struct nano_row {
    const char *name;
    nano_fn *fn;
    unsigned per_round; /* operations */
    uint64_t arg;
    int at_cpl3;
};
struct nano_result {
    uint64_t least, median; /* tenths of a TSC cycle an operation */
    uint64_t operations;    /* in one batch */
};

enum { NANO_BATCHES = 25 };
#define NANO_BATCH_CYCLES  2000000ull /* what a batch should last */
#define NANO_BATCH_ROUNDS  65536ull   /* and when it is long enough anyway */
#define NANO_BUDGET_CYCLES 20000000000ull

static inline uint64_t nano_tsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
    return (uint64_t)hi << 32 | lo;
}

/* One batch: TSC cycles of so many rounds. Each side has its own. */
uint64_t nano_batch(const struct nano_row *row, uint64_t rounds);

static inline struct nano_result nano_measure(const struct nano_row *row)
{
    uint64_t t[NANO_BATCHES], rounds = 8, cycles, start = nano_tsc();
    unsigned n = 0;

    do { /* the better of two: the first may meet cold code or another process */
        uint64_t again;

        rounds *= 2;
        cycles = nano_batch(row, rounds);
        again = nano_batch(row, rounds);
        cycles = again < cycles ? again : cycles;
    } while (cycles < NANO_BATCH_CYCLES && rounds < NANO_BATCH_ROUNDS);
    while (n < NANO_BATCHES && (!n || nano_tsc() - start < NANO_BUDGET_CYCLES)) {
        unsigned i = n++;

        cycles = nano_batch(row, rounds);
        for (; i && t[i - 1] > cycles; i--)
            t[i] = t[i - 1];
        t[i] = cycles;
    }
    rounds *= row->per_round;
    return (struct nano_result){t[0] * 10 / rounds, t[n / 2] * 10 / rounds, rounds};
}

#endif
