/* The address space: brk, mremap, protections, guard pages, what may not be touched. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include "guests/check/check.h"

#define RW   (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static sigjmp_buf back;
static volatile int code;
static void *volatile where;

static void caught(int sig, siginfo_t *si, void *uc)
{
    (void)sig, (void)uc;
    code = si->si_code;
    where = si->si_addr;
    siglongjmp(back, 1);
}

/* What a write (or, read only, a read) to at ends in: 0, or the code of SIGSEGV. */
static int touch(volatile char *at, int write)
{
    code = 0;
    if (!sigsetjmp(back, 1)) {
        if (write)
            *at = *at;
        else
            (void)*at;
    }
    return code;
}

static int run(void *at)
{
    void (*f)(void);

    memcpy(&f, &at, sizeof f);
    code = 0;
    if (!sigsetjmp(back, 1))
        f();
    return code;
}

static char data[4096] = {(char)0xc3};
static const char text_constant[64] = "constant";

static void segments(void)
{
    char *code_at;
    void (*self)(void) = segments;

    memcpy(&code_at, &self, sizeof self);
    check(touch(NULL, 0) == SEGV_MAPERR && touch(NULL, 1) == SEGV_MAPERR, "NULL faults");
    check(touch((char *)(uintptr_t)0xffff, 0) == SEGV_MAPERR, "so do the first 64 KiB");
    check(touch(code_at, 0) == 0 && touch(code_at, 1) == SEGV_ACCERR, "code is not writable");
    check(touch((char *)(uintptr_t)text_constant, 1) == SEGV_ACCERR, "nor are constants");
    check(run(data) == SEGV_ACCERR && where == (void *)data, "data is not executable");
    char on_stack = (char)0xc3;

    check(run(&on_stack) == SEGV_ACCERR, "nor is the stack");
    check(touch((char *)(uintptr_t)0xffff800000000000, 0) != 0, "the upper half is not ours");
}

static void protections(void)
{
    char *p = mmap(NULL, 4 * 4096, RW, ANON, -1, 0);

    p[4096] = (char)0xc3;
    check(run(p + 4096) == SEGV_ACCERR, "a fresh mapping is not executable");
    check(!mprotect(p, 8192, PROT_READ | PROT_EXEC) && run(p + 4096) == 0, "PROT_EXEC");
    check(touch(p, 1) == SEGV_ACCERR && touch(p + 8192, 1) == 0, "read-only in part");
    check(!mprotect(p, 4096, PROT_NONE) && touch(p, 0) == SEGV_ACCERR, "PROT_NONE");
    check(!mprotect(p, 4096, RW) && touch(p, 1) == 0, "and back");
    check(!munmap(p + 4096, 4096) && touch(p + 4096, 0) == SEGV_MAPERR, "unmapped");
    check(mprotect(p, 4 * 4096, RW) == -1 && errno == ENOMEM, "mprotect over a hole: ENOMEM");
    munmap(p, 4 * 4096);
}

static void heap(void)
{
    char *top = (char *)syscall(SYS_brk, 0L);

    check((char *)syscall(SYS_brk, top + 300000) == top + 300000 && !top[299999], "brk grows");
    memset(top, 3, 300000);
    check((char *)syscall(SYS_brk, top) == top, "and shrinks");
    check((char *)syscall(SYS_brk, top + 300000) == top + 300000 && !top[200000],
          "what comes back is zero");
    syscall(SYS_brk, top);
    check((char *)syscall(SYS_brk, top + (1ull << 45)) == top, "too much: it stays");
}

static void remapping(void)
{
    char *p = mmap(NULL, 16 * 4096, RW, ANON, -1, 0);
    char *wall = mmap(p + 16 * 4096, 4096, PROT_READ, ANON | MAP_FIXED, -1, 0);

    memset(p, 5, 16 * 4096);
    check(mremap(p, 16 * 4096, 32 * 4096, 0) == MAP_FAILED && errno == ENOMEM,
          "mremap against a wall: ENOMEM");
    char *q = mremap(p, 16 * 4096, 32 * 4096, MREMAP_MAYMOVE);

    check(q != MAP_FAILED && q != p && q[0] == 5 && q[16 * 4096 - 1] == 5 && !q[16 * 4096],
          "mremap moves");
    check(touch(p, 0) == SEGV_MAPERR, "where it was is nothing");
    char *to = mmap(NULL, 8 * 4096, RW, ANON, -1, 0);

    check(mremap(q, 8 * 4096, 8 * 4096, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to && to[0] == 5,
          "MREMAP_FIXED");
    check(touch(q, 0) == SEGV_MAPERR && q[8 * 4096] == 5, "of the first half only");
    munmap(to, 8 * 4096);
    munmap(q + 8 * 4096, 24 * 4096);
    munmap(wall, 4096);
}

static void advice(void)
{
    char *p = mmap(NULL, 64 * 4096, RW, ANON, -1, 0);
    unsigned char here[64];

    memset(p, 6, 64 * 4096);
    check(!madvise(p, 32 * 4096, MADV_DONTNEED) && !p[0] && p[32 * 4096] == 6, "MADV_DONTNEED");
    check(!madvise(p, 4096, MADV_WILLNEED) && !madvise(p, 4096, MADV_HUGEPAGE), "other advice");
    check(!mincore(p + 32 * 4096, 32 * 4096, here) && here[0] & 1 && here[31] & 1, "mincore");
    char *shared = mmap(NULL, 8192, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    check(shared != MAP_FAILED, "shared memory without a file");
    shared[5000] = 1;
    check(!madvise(shared, 8192, MADV_DONTNEED) && shared[5000] == 1, "which stays");
    munmap(shared, 8192);
    munmap(p, 64 * 4096);
}

static void *look_below(void *arg)
{
    pthread_attr_t a;
    void *at = NULL;
    size_t size = 0;

    pthread_getattr_np(pthread_self(), &a);
    pthread_attr_getstack(&a, &at, &size);
    pthread_attr_destroy(&a);
    *(int *)arg = touch(at, 1) == 0 && touch((char *)at - 1, 0) == SEGV_ACCERR;
    return arg;
}

static void guards(void)
{
    pthread_t t;
    char here, *top = (char *)((uintptr_t)&here & ~4095ull);
    int guarded = 0;

    pthread_create(&t, NULL, look_below, &guarded);
    pthread_join(t, NULL);
    check(guarded, "a guard page below a thread's stack");
    check(touch(top - 4 * 1024 * 1024, 1) == 0, "the stack reaches 4 MiB down");
    check(touch(top - 9 * 1024 * 1024, 1) == SEGV_MAPERR, "9 MiB down there is nothing");
}

void check_vm(void)
{
    struct sigaction sa = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_NODEFER};

    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
    segments();
    protections();
    heap();
    remapping();
    advice();
    guards();
    check(mmap(NULL, 1ull << 46, RW, ANON, -1, 0) == MAP_FAILED && errno == ENOMEM,
          "64 TiB: ENOMEM");
    void *hole = mmap(NULL, 1ull << 40, PROT_NONE, ANON | MAP_NORESERVE, -1, 0);

    check(hole != MAP_FAILED && !munmap(hole, 1ull << 40), "1 TiB of reserved addresses");
    check(mmap(NULL, 4096, PROT_READ, ANON | MAP_FIXED, -1, 0) == MAP_FAILED && errno == EPERM,
          "nothing maps at 0");
}

/* More than is below 4 GiB of RAM: -m 5G. */
void check_high(void)
{
    const size_t size = 3400ull << 20, step = 64 << 10;
    struct sysinfo s;
    size_t wrong = 0;

    check(!sysinfo(&s) && s.totalram > 4ull << 30, "over 4 GiB of memory");
    char *p = mmap(NULL, size, RW, ANON, -1, 0);

    check(p != MAP_FAILED, "3.4 GiB in one piece");
    if (p == MAP_FAILED)
        return;
    for (size_t i = 0; i < size; i += step) {
        uint64_t v = i * 0x9e3779b97f4a7c15;

        memcpy(p + i, &v, sizeof v);
    }
    for (size_t i = 0; i < size; i += step) {
        uint64_t v = i * 0x9e3779b97f4a7c15;

        wrong += memcmp(p + i, &v, sizeof v) != 0;
    }
    check(!wrong, "keep what is written");
    munmap(p, size);
    p = mmap(NULL, size, RW, ANON, -1, 0);
    for (size_t i = 0; p != MAP_FAILED && i < size; i += step)
        wrong += p[i] != 0;
    check(p != MAP_FAILED && !wrong, "and are zero when they are given again");
}
