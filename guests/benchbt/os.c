/* What an operating system is asked for: these need one below. And programs as a whole. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "guests/benchbt/bench.h"

static uint64_t system_calls(unsigned n)
{
    uint64_t same = 0;
    long first = syscall(SYS_getppid);

    for (unsigned i = 0; i < n; i++)
        same += syscall(SYS_getppid) == first;
    return same;
}

#define SPAN (4u << 20)
static uint64_t page_faults(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned r = 0; r < n; r++) {
        volatile unsigned char *p =
            mmap(NULL, SPAN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
            return 0;
        for (unsigned i = 0; i < SPAN; i += 4096)
            sum += ++p[i + i / 4096 % 4096];
        munmap((void *)p, SPAN);
    }
    return sum;
}

static uint64_t wait_status(pid_t child)
{
    int status;

    if (child < 0 || waitpid(child, &status, 0) != child)
        return 1u << 20;
    return (uint64_t)status;
}
static uint64_t forks(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        pid_t child = fork();

        if (!child)
            _exit((int)(i & 7));
        sum += wait_status(child);
    }
    return sum;
}
static uint64_t executes(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        pid_t child = fork();

        if (!child) {
            execl("/proc/self/exe", "benchbt", "nothing", (char *)NULL);
            _exit(9);
        }
        sum += 1 + wait_status(child);
    }
    return sum;
}

static uint64_t ping_pong(unsigned n)
{
    int there[2], back[2];
    unsigned char c = 0;
    uint64_t sum = 0;
    pid_t child;

    if (pipe(there) || pipe(back))
        return 0;
    child = fork();
    if (!child) {
        close(there[1]);
        close(back[0]);
        while (read(there[0], &c, 1) == 1) {
            c++;
            if (write(back[1], &c, 1) != 1)
                break;
        }
        _exit(0);
    }
    close(there[0]);
    close(back[1]);
    for (unsigned i = 0; i < n; i++) {
        if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1)
            break;
        sum += c;
    }
    close(there[1]);
    close(back[0]);
    return sum + wait_status(child);
}

static uint64_t maps(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        unsigned char *p =
            mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
            return 0;
        p[0] = (unsigned char)i;
        sum += p[0] + p[0];
        munmap(p, 16384);
    }
    return sum;
}

int run_program(const char *name, unsigned reps, char **argv)
{
    uint64_t ns[64], sum = 0;

    if (!reps || reps > 64)
        return 2;
    for (unsigned i = 0; i < reps; i++) {
        int out = memfd_create("out", 0), status;
        uint64_t start = now_ns(), h = HASH_START;
        char buf[16384];
        ssize_t got;
        pid_t child = fork();

        if (!child) {
            int null = open("/dev/null", O_RDWR);

            dup2(null, 0);
            dup2(out, 1);
            execvp(argv[0], argv);
            _exit(127);
        }
        status = (int)wait_status(child);
        ns[i] = now_ns() - start;
        if (status || out < 0 || lseek(out, 0, SEEK_SET)) {
            printf("fail %s: status %#x\n", name, (unsigned)status);
            return 1;
        }
        while ((got = read(out, buf, sizeof(buf))) > 0)
            h = hash_bytes(h, buf, (size_t)got);
        close(out);
        if (i && h != sum) {
            printf("fail %s: its output changes\n", name);
            return 1;
        }
        sum = h;
    }
    print_row(name, sum, ns, reps);
    return 0;
}

const struct kernel os_kernels[] = {
    {"syscall", system_calls, NULL, 50000, NEEDS_OS},
    {"page-fault", page_faults, NULL, 4, NEEDS_OS},
    {"fork-wait", forks, NULL, 60, NEEDS_OS},
    {"fork-exec-wait", executes, NULL, 30, NEEDS_OS},
    {"pipe-ping-pong", ping_pong, NULL, 2000, NEEDS_OS},
    {"mmap-munmap", maps, NULL, 4000, NEEDS_OS},
    {0},
};
