#define _GNU_SOURCE
/* Signals to oneself: handlers, faults with their address, alternate stacks, masks, timers. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile sig_atomic_t count, last, code;
static void *volatile where;

static void note(int sig)
{
    count++;
    last = sig;
}

static void fault(int sig, siginfo_t *si, void *uc)
{
    (void)uc;
    last = sig;
    code = si->si_code;
    where = si->si_addr;
    siglongjmp(back, 1);
}

static void skip(int sig, siginfo_t *si, void *uc)
{
    ucontext_t *c = uc;

    (void)sig, (void)si;
    count++;
    c->uc_mcontext.gregs[REG_RIP] += 2; /* over the ud2 */
    c->uc_mcontext.gregs[REG_R12] = 42;
}

static void on(int sig, void (*f)(int, siginfo_t *, void *), int flags)
{
    struct sigaction sa;

    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = f;
    sa.sa_flags = SA_SIGINFO | flags;
    sigaction(sig, &sa, NULL);
}

static volatile int depth;
static int deep(int n)
{
    volatile char room[1024];

    room[0] = (char)n;
    depth = n;
    return deep(n + 1) + room[0];
}

int main(void)
{
    signal(SIGUSR1, note);
    raise(SIGUSR1);
    printf("raise: %d %d\n", count, last == SIGUSR1);

    sigset_t set, old, pend;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    kill(getpid(), SIGUSR1);
    sigpending(&pend);
    printf("blocked: %d, pending %d\n", count, sigismember(&pend, SIGUSR1));
    sigprocmask(SIG_SETMASK, &old, NULL);
    printf("unblocked: %d\n", count);

    on(SIGSEGV, fault, 0);
    on(SIGFPE, fault, 0);
    on(SIGBUS, fault, 0);
    if (!sigsetjmp(back, 1))
        *(volatile int *)(uintptr_t)16 = 1;
    printf("null: %d maperr %d at %p\n", last == SIGSEGV, code == SEGV_MAPERR, where);
    char *p = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (!sigsetjmp(back, 1))
        p[5000] = 1;
    printf("read-only: %d accerr %d right place %d\n", last == SIGSEGV, code == SEGV_ACCERR,
           where == p + 5000);
    mprotect(p, 8192, PROT_READ | PROT_WRITE);
    p[5000] = (char)0xc3;
    if (!sigsetjmp(back, 1))
        ((void (*)(void))(void *)(p + 5000))();
    printf("no execute: %d accerr %d\n", where == p + 5000, code == SEGV_ACCERR);
    mprotect(p, 8192, PROT_READ | PROT_EXEC);
    ((void (*)(void))(void *)(p + 5000))();
    printf("execute\n");
    volatile int zero = 0;

    if (!sigsetjmp(back, 1))
        zero = 1 / zero;
    printf("divide: %d intdiv %d\n", last == SIGFPE, code == FPE_INTDIV);

    on(SIGILL, skip, 0);
    count = 0;
    register long r12 __asm__("r12") = 1;

    __asm__ volatile("ud2" : "+r"(r12));
    printf("illegal: %d, register changed: %ld\n", count, r12);

    stack_t ss = {.ss_sp = malloc(65536), .ss_size = 65536};

    sigaltstack(&ss, NULL);
    on(SIGSEGV, fault, SA_ONSTACK);
    if (!sigsetjmp(back, 1))
        deep(1);
    printf("stack overflow caught: %d %d\n", last == SIGSEGV, depth > 5000);

    struct itimerval it = {{0, 5000}, {0, 5000}};

    signal(SIGALRM, note);
    count = 0;
    setitimer(ITIMER_REAL, &it, NULL);
    while (count < 3)
        ;
    printf("timer ticks while spinning\n");
    memset(&it, 0, sizeof it);
    setitimer(ITIMER_REAL, &it, NULL);
    alarm(1);
    count = 0;
    struct timespec ts = {5, 0};
    int err = nanosleep(&ts, &ts);

    printf("sleep cut short: %d %d, time left: %d\n", err, errno == EINTR, ts.tv_sec >= 2);

    int fd[2];

    if (pipe(fd))
        return 1;
    close(fd[0]);
    signal(SIGPIPE, SIG_IGN);
    err = (int)write(fd[1], "x", 1);
    printf("EPIPE: %d %d\n", err, errno == EPIPE);
    signal(SIGPIPE, note);
    count = 0;
    err = (int)write(fd[1], "x", 1);
    printf("SIGPIPE: %d\n", count);
    volatile double d = 1.5;

    signal(SIGUSR2, note);
    for (int i = 0; i < 100; i++) {
        raise(SIGUSR2);
        d = d * 1.25;
        d = d / 1.25;
    }
    printf("floating point kept: %d\n", d == 1.5);
    fflush(stdout);
    abort();
}
