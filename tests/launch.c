/*
 * launch N NAME COMMAND [ARG...] [-- NAME COMMAND [ARG...]]...: run the commands N times each, turn
 * by turn so that a busy machine is unfair to all alike, after one turn that does not count.
 * stdin, stdout and stderr are /dev/null. One line a command:
 *
 *   NAME median min p90 max cpu KiB faults
 *
 * wall time from fork to reaped exit in microseconds, and by wait4() the median of CPU time, also
 * in microseconds, the largest resident set and the median of page faults. A run that ends with
 * another status than the command's first stops everything with status 1. spawn, not fork: the time
 * to copy our own page tables is not theirs.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define MAX_COMMANDS 16

struct command {
    const char *name;
    char **argv;
    int status;
    double *us;
    double *cpu;
    double *faults;
    long kib;
};

static double now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static double tv_us(struct timeval t)
{
    return (double)t.tv_sec * 1e6 + (double)t.tv_usec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* 0, or -1 with a line on stderr. turn -1 only learns the status. */
static int run(struct command *c, long turn)
{
    static posix_spawn_file_actions_t io;
    static int ready;
    struct rusage ru;
    int status;
    pid_t pid;

    if (!ready) {
        posix_spawn_file_actions_init(&io);
        posix_spawn_file_actions_addopen(&io, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&io, 1, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_addopen(&io, 2, "/dev/null", O_WRONLY, 0);
        ready = 1;
    }
    double start = now_us();
    int err = posix_spawnp(&pid, c->argv[0], &io, NULL, c->argv, environ);

    if (err) {
        fprintf(stderr, "launch: %s: %s\n", c->argv[0], strerror(err));
        return -1;
    }
    while (wait4(pid, &status, 0, &ru) < 0)
        if (errno != EINTR)
            return -1;
    double us = now_us() - start;

    if (turn < 0) {
        c->status = status;
        return 0;
    }
    if (status != c->status) {
        fprintf(stderr, "launch: %s: status %#x, then %#x in turn %ld\n", c->name,
                (unsigned)c->status, (unsigned)status, turn + 1);
        return -1;
    }
    c->us[turn] = us;
    c->cpu[turn] = tv_us(ru.ru_utime) + tv_us(ru.ru_stime);
    c->faults[turn] = (double)(ru.ru_minflt + ru.ru_majflt);
    if (ru.ru_maxrss > c->kib)
        c->kib = ru.ru_maxrss;
    return 0;
}

static double median(double *v, long n)
{
    qsort(v, (size_t)n, sizeof *v, compare);
    return n & 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* The commands of argv, which is cut into their vectors. */
static int parse(char **argv, struct command *c)
{
    int n = 0;

    while (*argv && n < MAX_COMMANDS) {
        if (!argv[1])
            return 0;
        c[n++] = (struct command){.name = argv[0], .argv = argv + 1};
        for (argv += 2; *argv && strcmp(*argv, "--") != 0;)
            argv++;
        if (*argv)
            *argv++ = NULL;
    }
    return *argv ? 0 : n;
}

int main(int argc, char **argv)
{
    static struct command c[MAX_COMMANDS];
    long turns = argc > 2 ? strtol(argv[1], NULL, 10) : 0;
    int n = turns > 0 && turns <= 1000000 ? parse(argv + 2, c) : 0;

    if (!n) {
        fprintf(stderr, "usage: launch N NAME COMMAND [ARG...] [-- NAME COMMAND [ARG...]]...\n");
        return 2;
    }
    for (int i = 0; i < n; i++) {
        c[i].us = calloc((size_t)turns, sizeof(double));
        c[i].cpu = calloc((size_t)turns, sizeof(double));
        c[i].faults = calloc((size_t)turns, sizeof(double));
        if (!c[i].us || !c[i].cpu || !c[i].faults)
            return 1;
    }
    for (long t = -1; t < turns; t++)
        for (int i = 0; i < n; i++)
            if (run(&c[i], t))
                return 1;
    for (int i = 0; i < n; i++) {
        double m = median(c[i].us, turns);

        printf("%s %.0f %.0f %.0f %.0f %.0f %ld %.0f\n", c[i].name, m, c[i].us[0],
               c[i].us[turns * 9 / 10], c[i].us[turns - 1], median(c[i].cpu, turns), c[i].kib,
               median(c[i].faults, turns));
    }
    return 0;
}
