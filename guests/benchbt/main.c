/*
 * benchbt [-r REPS] [-d DIVISOR] [-o] [NAME...]: the kernels, or those named; -o: also those that
 * need a kernel below. DIVISOR shortens every one.
 * benchbt exec NAME REPS PROGRAM [ARG...]: a program's wall times and a hash of its output.
 */
#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "guests/benchbt/bench.h"

#define MAX_REPS 64

uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void print_row(const char *name, uint64_t sum, const uint64_t *ns, unsigned count)
{
    printf("row %s %016llx", name, (unsigned long long)sum);
    for (unsigned i = 0; i < count; i++)
        printf(" %llu", (unsigned long long)ns[i]);
    printf("\n");
    fflush(stdout);
}

/* AVX2 takes the CPU's word and the system's (SDM 1, 14.3: OSXSAVE, then XCR0 bits 1 and 2). */
static unsigned cpu_has(void)
{
    unsigned a, b, c, d, has = 0, xcr0;

    if (!__get_cpuid(1, &a, &b, &c, &d))
        return 0;
    if (c & bit_SSE4_2)
        has |= NEEDS_SSE42;
    if (c & bit_OSXSAVE) {
        __asm__("xgetbv" : "=a"(xcr0), "=d"(d) : "c"(0));
        if ((xcr0 & 6) == 6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_AVX2)
            has |= NEEDS_AVX2;
    }
    return has;
}

static int wanted(const char *name, char **names)
{
    if (!*names)
        return 1;
    for (; *names; names++)
        if (!strcmp(*names, name))
            return 1;
    return 0;
}

static int run_kernel(const struct kernel *k, unsigned reps, unsigned divisor)
{
    unsigned n = k->rounds / divisor ? k->rounds / divisor : 1;
    uint64_t ns[MAX_REPS], sum = 0;

    if (k->prepare)
        k->prepare();
    for (unsigned i = 0; i < reps; i++) {
        uint64_t start = now_ns(), got = k->run(n);

        ns[i] = now_ns() - start;
        if (i && got != sum) {
            printf("fail %s: %016llx, then %016llx\n", k->name, (unsigned long long)sum,
                   (unsigned long long)got);
            return 1;
        }
        sum = got;
    }
    print_row(k->name, sum, ns, reps);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct kernel *const sets[] = {memory_kernels, compute_kernels, flow_kernels,
                                                vector_kernels, string_kernels,  os_kernels};
    unsigned reps = 5, divisor = 1, has = cpu_has();
    int opt, failed = 0;

    if (argc == 2 && !strcmp(argv[1], "nothing")) /* what the fork/exec/wait kernel executes */
        return 0;
    if (argc > 4 && !strcmp(argv[1], "exec"))
        return run_program(argv[2], (unsigned)atoi(argv[3]), argv + 4);
    while ((opt = getopt(argc, argv, "r:d:o")) != -1) {
        if (opt == 'r')
            reps = (unsigned)atoi(optarg);
        else if (opt == 'd')
            divisor = (unsigned)atoi(optarg);
        else if (opt == 'o')
            has |= NEEDS_OS;
        else
            return 2;
    }
    if (!reps || reps > MAX_REPS || !divisor)
        return 2;
    for (unsigned s = 0; s < sizeof(sets) / sizeof(*sets); s++)
        for (const struct kernel *k = sets[s]; k->name; k++)
            if (!(k->needs & ~has) && wanted(k->name, argv + optind))
                failed |= run_kernel(k, reps, divisor);
    printf("end\n");
    return failed;
}
