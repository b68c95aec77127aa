/* anycall SEED COUNT [DIR]: system calls with arguments that mean something, or nothing. The
 * runtime has to refuse them or do them; what it must not do is fail itself. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AREA                                                                            \
    ((char *)0x100000000000) /* ours to be written, mapped and unmapped; nothing around \
                              */
#define BYTES (1ull << 20)

/* These end the run, wait for good, or take the program's own memory and descriptors. */
static const int never[] = {SYS_exit,
                            SYS_exit_group,
                            SYS_pause,
                            SYS_kill,
                            SYS_tkill,
                            SYS_tgkill,
                            SYS_clone,
                            SYS_fork,
                            SYS_vfork,
                            SYS_clone3,
                            SYS_execve,
                            SYS_execveat,
                            SYS_futex,
                            SYS_rt_sigsuspend,
                            SYS_rt_sigtimedwait,
                            SYS_rt_sigreturn,
                            SYS_rt_sigaction,
                            SYS_sigaltstack,
                            SYS_rt_sigqueueinfo,
                            SYS_rt_tgsigqueueinfo,
                            SYS_setitimer,
                            SYS_alarm,
                            SYS_timer_create,
                            SYS_timer_settime,
                            SYS_nanosleep,
                            SYS_clock_nanosleep,
                            SYS_poll,
                            SYS_ppoll,
                            SYS_select,
                            SYS_pselect6,
                            SYS_epoll_wait,
                            SYS_epoll_pwait,
                            SYS_epoll_pwait2,
                            SYS_arch_prctl,
                            SYS_set_robust_list,
                            SYS_set_tid_address,
                            SYS_brk,
                            SYS_mmap,
                            SYS_munmap,
                            SYS_mprotect,
                            SYS_mremap,
                            SYS_madvise,
                            SYS_close_range,
                            SYS_accept,
                            SYS_connect};
static const int memory[] = {SYS_mmap,    SYS_mmap,  SYS_munmap,  SYS_mprotect, SYS_mremap,
                             SYS_madvise, SYS_msync, SYS_mincore, SYS_mlock};
static const char *const paths[] = {"/tmp/a",
                                    "/tmp/b",
                                    "/tmp/d/e",
                                    "/tmp",
                                    "a/../b",
                                    "..",
                                    "/",
                                    "",
                                    "/dev/null",
                                    "/dev/zero",
                                    "/dev/urandom",
                                    "/proc/self/maps",
                                    "/proc/self/fd",
                                    "/proc/self/exe",
                                    "/proc/1/fd/3",
                                    "share",
                                    "share/a",
                                    "share/b"};

static uint64_t state;
static sigjmp_buf back;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void caught(int sig)
{
    (void)sig;
    siglongjmp(back, 1);
}

static uint64_t any(void)
{
    switch (next() % 14) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return next() % 16;
    case 3:
        return next() % 64;
    case 4:
    case 5:
        return (uintptr_t)AREA + next() % BYTES;
    case 6:
    case 7:
        return (uintptr_t)paths[next() % (sizeof paths / sizeof paths[0])];
    case 8:
        return next() % 5000;
    case 9:
        return 1ull << next() % 64;
    case 10:
        return (uint64_t)AT_FDCWD;
    case 11:
        return next();
    default:
        return 3 + next() % 32;
    }
}

/* Addresses and lengths within the area, or lengths that fit nowhere. */
static void memory_call(int nr, uint64_t a[6])
{
    uint64_t page = next() % (BYTES / 4096), pages = BYTES / 4096 - page;

    a[0] = (uintptr_t)AREA + page * 4096;
    a[1] = next() % 8 || nr != SYS_mmap ? next() % (pages + 1) * 4096 : next() >> next() % 64;
    a[2] = next() % 8;
    if (nr == SYS_mmap) {
        a[3] = next() % 3 ? MAP_PRIVATE | MAP_ANONYMOUS : 1 + next() % 2;
        if (a[1] <= pages * 4096 && next() % 2)
            a[3] |= MAP_FIXED;
        else
            a[1] = a[1] > BYTES ? a[1] : a[1] % 16384;
        a[4] = next() % 40;
        a[5] = next() % 16 * 4096;
    } else if (nr == SYS_mremap) {
        a[2] = next() % 16 * 4096;
        a[3] = next() % 4;
        a[4] = (uintptr_t)AREA + next() % (BYTES / 4096 - 16) * 4096;
    } else if (nr == SYS_madvise) {
        a[2] = next() % 24;
    } else if (nr == SYS_mincore) {
        a[2] = (uintptr_t)AREA + next() % BYTES;
    }
}

static int choose(uint64_t a[6])
{
    int nr;

    for (int i = 0; i < 6; i++)
        a[i] = any();
    if (next() % 3 == 0) {
        nr = memory[next() % (sizeof memory / sizeof memory[0])];
        memory_call(nr, a);
        return nr;
    }
again:
    nr = (int)(next() % 460);
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        if (nr == never[i])
            goto again;
    if (a[0] < 3) /* not our own standard descriptors */
        a[0] = 50;
    if (a[1] < 3 && (nr == SYS_dup2 || nr == SYS_dup3))
        a[1] = 50;
    return nr;
}

int main(int argc, char **argv)
{
    static char other[32768];
    struct sigaction sa = {.sa_handler = caught, .sa_flags = SA_NODEFER | SA_ONSTACK};
    stack_t ss = {.ss_sp = other, .ss_size = sizeof other};
    volatile long left = argc > 2 ? atol(argv[2]) : 1000;
    sigset_t none;

    state = (argc > 1 ? strtoull(argv[1], NULL, 0) : 1) * 0x9e3779b97f4a7c15 + 1;
    if (argc > 3 && chdir(argv[3]))
        return 1;
    mmap(AREA, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    sigaltstack(&ss, NULL);
    sigemptyset(&none);
    for (; left > 0; left--) {
        uint64_t a[6];
        int nr = choose(a);

        for (int sig = 1; left % 64 == 0 && sig < 32; sig++)
            sigaction(sig, &sa, NULL);
        sigprocmask(SIG_SETMASK, &none, NULL);
        alarm(1); /* what waits is woken */
        if (!sigsetjmp(back, 1))
            syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    static const char over[] = "over\n";

    return write(2, over, 5) == 5 ? 7 : 8;
}
