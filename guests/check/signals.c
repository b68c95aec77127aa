/* Signals of a process to itself, and timers. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include "guests/check/check.h"

static volatile int got, code, value, on_other_stack;
static char stack[65536];
static sigjmp_buf back;
static volatile uintptr_t nowhere = 16;

static void note(int sig, siginfo_t *si, void *uc)
{
    char here;

    (void)uc;
    got++;
    code = si->si_code;
    value = sig == SIGRTMIN ? si->si_value.sival_int : value;
    on_other_stack = &here > stack && &here < stack + sizeof stack;
    if (sig == SIGSEGV || sig == SIGABRT)
        siglongjmp(back, 1);
}

static void on(int sig, int flags)
{
    struct sigaction sa;

    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = note;
    sa.sa_flags = SA_SIGINFO | flags;
    sigaction(sig, &sa, NULL);
    got = 0;
}

static sigset_t set_of(int a, int b)
{
    sigset_t s;

    sigemptyset(&s);
    sigaddset(&s, a);
    if (b)
        sigaddset(&s, b);
    return s;
}

static void *kick(void *arg)
{
    struct timespec ms = {0, 20000000};

    nanosleep(&ms, NULL);
    pthread_kill(*(pthread_t *)arg, SIGUSR1);
    return NULL;
}

void check_signals(void)
{
    sigset_t usr = set_of(SIGUSR1, SIGRTMIN), old;
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack};
    pthread_t me = pthread_self(), t;
    char c;
    int fd[2];

    on(SIGUSR1, 0);
    raise(SIGUSR1);
    check(got == 1 && code == SI_TKILL, "raise");
    kill(getpid(), SIGUSR1);
    check(got == 2 && code == SI_USER, "kill");
    on(SIGRTMIN, 0);
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 77});
    check(got == 1 && code == SI_QUEUE && value == 77, "sigqueue brings a value");
    sigprocmask(SIG_BLOCK, &usr, &old);
    got = 0;
    for (int i = 1; i <= 3; i++)
        sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i});
    raise(SIGUSR1);
    raise(SIGUSR1);
    sigprocmask(SIG_SETMASK, &old, NULL);
    check(got == 4 && value == 3, "real-time signals wait in a queue, others do not");
    check(!sigaltstack(&ss, NULL), "sigaltstack");
    on(SIGUSR1, SA_ONSTACK);
    raise(SIGUSR1);
    check(on_other_stack, "a handler on another stack");
    on(SIGSEGV, SA_ONSTACK);
    if (!sigsetjmp(back, 1))
        *(volatile int *)(uintptr_t)nowhere = 1;
    check(got == 1 && code == SEGV_MAPERR && on_other_stack, "a fault is caught");
    on(SIGABRT, 0);
    if (!sigsetjmp(back, 1))
        abort();
    check(got == 1, "abort is caught");
    sigprocmask(SIG_BLOCK, &usr, &old);
    on(SIGUSR1, 0);
    raise(SIGUSR1);
    check(!got, "a blocked signal waits");
    struct timespec zero = {0, 0};
    siginfo_t si;

    check(sigtimedwait(&usr, &si, &zero) == SIGUSR1 && si.si_signo == SIGUSR1, "sigtimedwait");
    check(sigtimedwait(&usr, &si, &zero) == -1 && errno == EAGAIN, "nothing more");
    int sfd = signalfd(-1, &usr, SFD_NONBLOCK);
    struct signalfd_siginfo info;

    check(read(sfd, &info, sizeof info) == -1 && errno == EAGAIN, "an empty signalfd");
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 5});
    check(read(sfd, &info, sizeof info) == sizeof info && (int)info.ssi_signo == SIGRTMIN &&
              info.ssi_int == 5,
          "signalfd");
    close(sfd);
    pthread_create(&t, NULL, kick, &me);
    sigset_t none;

    sigemptyset(&none);
    check(sigsuspend(&none) == -1 && errno == EINTR && got == 1, "sigsuspend");
    pthread_join(t, NULL);
    sigprocmask(SIG_SETMASK, &old, NULL);
    if (pipe(fd))
        return;
    on(SIGUSR1, 0);
    pthread_create(&t, NULL, kick, &me);
    check(read(fd[0], &c, 1) == -1 && errno == EINTR && got == 1, "a read is cut short");
    pthread_join(t, NULL);
    close(fd[0]);
    signal(SIGPIPE, SIG_IGN);
    check(write(fd[1], "x", 1) == -1 && errno == EPIPE, "EPIPE");
    on(SIGPIPE, 0);
    check(write(fd[1], "x", 1) == -1 && got == 1, "SIGPIPE");
    close(fd[1]);
}

static double now(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void check_timers(void)
{
    struct itimerval it = {{0, 2000}, {0, 2000}}, off = {{0, 0}, {0, 0}}, left;
    struct itimerspec spec = {{0, 2000000}, {0, 2000000}}, was;
    struct sigevent ev;
    uint64_t n = 0;
    timer_t id;

    on(SIGALRM, 0);
    setitimer(ITIMER_REAL, &it, NULL);
    while (got < 3)
        ;
    setitimer(ITIMER_REAL, &off, &left);
    check(left.it_interval.tv_usec == 2000, "setitimer ticks in a loop");
    on(SIGPROF, 0);
    setitimer(ITIMER_PROF, &it, NULL);
    while (got < 3)
        ;
    setitimer(ITIMER_PROF, &off, NULL);
    check(1, "ITIMER_PROF counts what is computed");
    on(SIGALRM, 0);
    check(alarm(100) == 0 && alarm(0) == 100, "alarm tells what was left");
    memset(&ev, 0, sizeof ev);
    ev.sigev_notify = SIGEV_SIGNAL;
    ev.sigev_signo = SIGRTMIN;
    ev.sigev_value.sival_int = 9;
    on(SIGRTMIN, 0);
    check(!timer_create(CLOCK_MONOTONIC, &ev, &id) && !timer_settime(id, 0, &spec, NULL),
          "timer_create");
    while (got < 3)
        ;
    check(code == SI_TIMER && value == 9, "its signal says so");
    check(!timer_gettime(id, &was) && was.it_interval.tv_nsec == 2000000 &&
              timer_getoverrun(id) >= 0 && !timer_delete(id) && timer_delete(id) != 0,
          "timer_gettime, timer_delete");
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);

    check(fd >= 0 && read(fd, &n, 8) == -1 && errno == EAGAIN, "a timerfd that is not set");
    double from = now(CLOCK_MONOTONIC);

    spec.it_value.tv_nsec = 10000000;
    spec.it_interval.tv_nsec = 0;
    timerfd_settime(fd, 0, &spec, NULL);
    while (read(fd, &n, 8) != 8)
        ;
    check(n == 1 && now(CLOCK_MONOTONIC) - from >= 0.01, "10 ms of a timerfd take 10 ms");
    clock_gettime(CLOCK_REALTIME, &spec.it_value);
    spec.it_value.tv_sec -= 1;
    close(fd);
    fd = timerfd_create(CLOCK_REALTIME, 0);
    timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL);
    check(read(fd, &n, 8) == 8 && n == 1, "a time that has passed");
    close(fd);
}
