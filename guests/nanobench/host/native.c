/*
 * The nanobenchmarks that a Linux process can do: `native`, rows as the guest prints them. A
 * fault's way goes through a signal handler here, which says something about the host's kernel, not
 * about the CPU alone; `in` is tried where ioperm() allows it, and leaves a virtual machine if this
 * host is one.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include "guests/nanobench/nano.h"

uint64_t nano_batch(const struct nano_row *row, uint64_t rounds)
{
    uint64_t start = nano_tsc();

    row->fn(row->arg, rounds);
    return nano_tsc() - start;
}

static void skip_instruction(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)info;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

int main(void)
{
    struct sigaction sa = {.sa_sigaction = skip_instruction, .sa_flags = SA_SIGINFO};
    void *hole = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const struct nano_row rows[] = {
        {"loop", nano_nothing, 1, 0, 1},
        {"syscall", nano_syscalls, 1, SYS_getppid, 1},
        {"in", nano_ins, 8, 0, 1},
        {"callret", nano_calls, 8, 0, 1},
        {"callret-user", nano_calls, 8, 0, 1},
        {"pgfault-user", nano_page_faults, 1, (uintptr_t)hole, 1},
        {"divzero-user", nano_divides, 1, 0, 1},
    };

    if (hole == MAP_FAILED)
        return 1;
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGFPE, &sa, NULL);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        if (rows[i].fn == nano_ins && ioperm(0x80, 1, 1))
            continue;
        struct nano_result r = nano_measure(&rows[i]);

        printf("nano %s %.1f %.1f %llu\n", rows[i].name, (double)r.least / 10,
               (double)r.median / 10, (unsigned long long)r.operations);
        fflush(stdout);
    }
    return 0;
}
