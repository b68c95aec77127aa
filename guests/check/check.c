/*
 * check COMMAND: a program that asks its libc, and so the runtime, for all it offers.
 *   memory  malloc, calloc, realloc, mmap, brk: contents kept, fresh memory zero
 *   clock   clocks go forward and sleeping takes as long as it says
 *   echo    stdin to stdout, to its end; then the count on stderr
 *   vm, threads, futex, signals, timers, waits, files, process    vm.c and its neighbours
 *   high    more memory than lies below 4 GiB (-m 5G)
 *   share, churn    files of the host in $DIR
 *   sleep N N times a millisecond of sleep
 *   libc    random, TLS, floating point, what stdout is, what there is not
 *   crash null|divide|illegal|abort|stack|exit
 * Prints "PASS ..." or "FAIL ..." lines; exits with the number of FAILs.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "guests/check/check.h"

static int failed;

void check(int good, const char *name)
{
    printf("%s %s\n", good ? "PASS" : "FAIL", name);
    failed += !good;
}

static uint32_t state = 1;
static uint32_t next(void)
{
    return state = state * 1664525 + 1013904223;
}

static void check_memory(void)
{
    enum { SLOTS = 200 };
    static struct {
        uint8_t *p;
        size_t n;
    } slot[SLOTS];
    int wrong = 0, zero = 1;

    for (unsigned round = 0; round < 20000; round++) {
        unsigned i = next() % SLOTS, fill = i & 0xff;
        size_t n = next() % (round % 50 ? 2000 : 400000) + 1;

        for (size_t j = 0; j < slot[i].n; j += 97)
            wrong += slot[i].p[j] != fill;
        if (round & 1) {
            uint8_t *p = realloc(slot[i].p, n);

            if (!p)
                continue;
            for (size_t j = 0; j < slot[i].n && j < n; j += 97)
                wrong += p[j] != fill;
            slot[i].p = p;
        } else {
            free(slot[i].p);
            slot[i].p = calloc(1, n);
            for (size_t j = 0; slot[i].p && j < n; j += 61)
                zero &= !slot[i].p[j];
        }
        slot[i].n = slot[i].p ? n : 0;
        if (slot[i].p)
            memset(slot[i].p, (int)fill, n);
    }
    check(!wrong, "20000 rounds of malloc and realloc keep what is written");
    check(zero, "calloc is zero");

    uint8_t *a = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    check(a != MAP_FAILED, "mmap");
    memset(a, 0x5a, 1 << 20);
    check(!munmap(a + 4096, 8192), "munmap of a middle part");
    check(a[4095] == 0x5a && a[4096 + 8192] == 0x5a, "its neighbours stay");
    uint8_t *b = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    check(b != MAP_FAILED && !b[0] && !b[8191], "what is mapped again is zero");
    check(mmap(NULL, (size_t)1 << 40, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                  MAP_FAILED &&
              errno == ENOMEM,
          "too much: ENOMEM");
    check(!malloc((size_t)1 << 40), "malloc of too much: NULL");
    check(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 5, 0) == MAP_FAILED && errno == EBADF,
          "mmap of a file: EBADF");
}

static double seconds(clockid_t id)
{
    struct timespec ts = {0, 0};

    clock_gettime(id, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void check_clock(void)
{
    struct timespec ms20 = {0, 20000000};
    double a = seconds(CLOCK_MONOTONIC), last = a, wall = seconds(CLOCK_REALTIME);
    int back = 0;

    for (int i = 0; i < 10000; i++) {
        double now = seconds(CLOCK_MONOTONIC);

        back |= now < last;
        last = now;
    }
    check(!back, "the monotonic clock never goes back");
    a = seconds(CLOCK_MONOTONIC);
    check(!nanosleep(&ms20, NULL), "nanosleep");
    check(seconds(CLOCK_MONOTONIC) - a >= 0.02, "20 ms of sleep take 20 ms");
    check(wall > 1.7e9 && wall < 1e10, "the wall clock is in this age");
    check(clock_gettime(99, &ms20) == -1 && errno == EINVAL, "an unknown clock: EINVAL");
}

static int check_echo(void)
{
    char buf[1000];
    ssize_t n;
    size_t total = 0;

    while ((n = read(0, buf, sizeof(buf))) > 0) {
        total += (size_t)n;
        if (fwrite(buf, 1, (size_t)n, stdout) != (size_t)n)
            return 1;
    }
    fflush(stdout);
    fprintf(stderr, "%zu bytes\n", total);
    return n != 0;
}

static _Thread_local int tls = 41;

static void check_libc(void)
{
    uint8_t a[32] = {0}, b[32] = {0};
    struct stat st;
    char text[64];
    jmp_buf env;

    check(getrandom(a, 32, 0) == 32 && getrandom(b, 32, 0) == 32 && memcmp(a, b, 32),
          "two draws of random bytes differ");
    tls++;
    check(tls == 42, "thread-local storage");
    volatile double x = 2.0;

    snprintf(text, sizeof(text), "%.12f %g %.3e", sqrt(x), 1.0 / 3, 12345.678);
    check(!strcmp(text, "1.414213562373 0.333333 1.235e+04"), "floating point");
    check(!fstat(1, &st) && S_ISFIFO(st.st_mode), "fstat of stdout");
    check(!isatty(1) && errno == ENOTTY, "stdout is no terminal");
    check(lseek(1, 0, SEEK_CUR) == -1 && errno == ESPIPE, "stdout cannot seek");
    check(write(7, "x", 1) == -1 && errno == EBADF, "an unknown descriptor: EBADF");
    check(fork() == -1 && errno == ENOSYS, "fork: ENOSYS");
    check(!fopen("/no/such/file", "r") && errno == ENOENT, "a file that is not there");
    if (!setjmp(env))
        longjmp(env, 1);
    check(1, "longjmp");
}

static __attribute__((noinline)) unsigned deep(unsigned n)
{
    volatile char room[4096];

    room[n % 4096] = (char)n;
    return n ? deep(n + 1) + (unsigned)room[0] : 0;
}

static void crash(const char *how)
{
    volatile int zero = 0;

    if (!strcmp(how, "null"))
        *(volatile int *)(uintptr_t)zero = 1;
    if (!strcmp(how, "divide"))
        zero = 1000 / zero;
    if (!strcmp(how, "illegal"))
        __asm__ volatile("ud2");
    if (!strcmp(how, "abort"))
        abort();
    if (!strcmp(how, "stack"))
        zero = (int)deep(1);
    if (!strcmp(how, "exit"))
        _exit(300);
}

static const struct part {
    const char *name;
    void (*check)(void);
} parts[] = {{"memory", check_memory}, {"clock", check_clock},     {"libc", check_libc},
             {"vm", check_vm},         {"high", check_high},       {"threads", check_threads},
             {"futex", check_futex},   {"signals", check_signals}, {"timers", check_timers},
             {"waits", check_waits},   {"files", check_files},     {"process", check_process},
             {"share", check_share},   {"churn", check_churn}};

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (!strcmp(what, parts[i].name)) {
            parts[i].check();
            return failed;
        }
    if (!strcmp(what, "echo"))
        return check_echo();
    if (!strcmp(what, "crash") && argc > 2)
        crash(argv[2]);
    else if (!strcmp(what, "sleep") && argc > 2)
        for (int n = atoi(argv[2]); n > 0; n--)
            nanosleep(&(struct timespec){0, 1000000}, NULL);
    else
        failed = 99;
    return failed;
}
