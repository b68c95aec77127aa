/*
 * timeit N COMMAND [ARG...]: run COMMAND N times (after one run that is not counted), its output to
 * /dev/null, and print "median min max" of the wall time from fork to wait, in microseconds.
 * A run that ends with another status than the first stops everything, with status 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    posix_spawn_file_actions_t io;
    long n = argc > 2 ? strtol(argv[1], NULL, 10) : 0;
    int first = 0;

    if (n < 1 || n > 1000000) {
        fprintf(stderr, "usage: timeit N COMMAND [ARG...]\n");
        return 2;
    }
    double *t = calloc((size_t)n, sizeof(*t));

    if (!t)
        return 1;
    posix_spawn_file_actions_init(&io);
    posix_spawn_file_actions_addopen(&io, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&io, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&io, 2, "/dev/null", O_WRONLY, 0);
    for (long i = -1; i < n; i++) {
        double start = now_us();
        int status;
        pid_t pid;
        int err = posix_spawnp(&pid, argv[2], &io, NULL, argv + 2, environ);

        if (err) {
            fprintf(stderr, "timeit: %s: %s\n", argv[2], strerror(err));
            return 1;
        }
        while (waitpid(pid, &status, 0) < 0)
            if (errno != EINTR)
                return 1;
        if (i < 0) {
            first = status;
        } else if (status != first) {
            fprintf(stderr, "timeit: %s: status %#x, then %#x\n", argv[2], (unsigned)first,
                    (unsigned)status);
            return 1;
        } else {
            t[i] = now_us() - start;
        }
    }
    qsort(t, (size_t)n, sizeof(*t), compare);
    printf("%.0f %.0f %.0f\n", n & 1 ? t[n / 2] : (t[n / 2 - 1] + t[n / 2]) / 2, t[0], t[n - 1]);
    return 0;
}
