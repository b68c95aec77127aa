/* Threads: turns, stacks, thread-local data, and the locks that the kernel has a part in. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "guests/check/check.h"

/* futex(2); musl has no header for them. */
enum {
    FUTEX_WAIT = 0,
    FUTEX_WAKE = 1,
    FUTEX_CMP_REQUEUE = 4,
    FUTEX_WAIT_BITSET = 9,
    FUTEX_WAKE_BITSET = 10
};

static atomic_int go_on, spun;
static _Thread_local long mine;

static void *spin(void *arg)
{
    while (go_on)
        spun = 1;
    return arg;
}

static void *count_up(void *arg)
{
    mine = (long)(intptr_t)arg;
    for (int i = 0; i < 100; i++)
        mine += i % 2 ? 1 : -1;
    return (void *)(intptr_t)mine;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int stage;

static void *wait_for_stage(void *arg)
{
    pthread_mutex_lock(&lock);
    while (!stage)
        pthread_cond_wait(&cond, &lock);
    stage++;
    pthread_mutex_unlock(&lock);
    return arg;
}

static void *small_stack(void *arg)
{
    volatile char room[8192];

    for (size_t i = 0; i < sizeof room; i += 512)
        room[i] = (char)i;
    return (char *)arg + room[0];
}

void check_threads(void)
{
    enum { MANY = 200 };
    static pthread_t t[MANY];
    pthread_attr_t a;
    long wrong = 0;
    void *r;

    go_on = 1;
    pthread_create(&t[0], NULL, spin, NULL);
    pthread_create(&t[1], NULL, spin, NULL);
    while (!spun)
        ;
    struct timespec ms = {0, 10000000};

    check(!nanosleep(&ms, NULL), "two spinning threads hold nobody up");
    go_on = 0;
    pthread_join(t[0], NULL);
    pthread_join(t[1], NULL);
    for (long i = 0; i < MANY; i++)
        if (pthread_create(&t[i], NULL, count_up, (void *)i))
            wrong += 1000;
    for (long i = 0; i < MANY; i++) {
        pthread_join(t[i], &r);
        wrong += (long)(intptr_t)r != i;
    }
    check(!wrong, "200 threads, each with its own data");
    for (int i = 0; i < 10; i++)
        pthread_create(&t[i], NULL, wait_for_stage, NULL);
    pthread_mutex_lock(&lock);
    stage = 1;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < 10; i++)
        pthread_join(t[i], NULL);
    check(stage == 11, "a broadcast wakes ten");
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 32768);
    wrong = 0;
    for (int i = 0; i < 3000; i++) {
        wrong += pthread_create(&t[0], &a, small_stack, NULL) != 0;
        pthread_join(t[0], NULL);
    }
    check(!wrong, "3000 threads, one after another");
    check(syscall(SYS_gettid) == getpid(), "the first thread has the number of the process");
}

/* --- locks --- */

static pthread_mutex_t robust, inherit;

static void *die_with_it(void *arg)
{
    pthread_mutex_lock(&robust);
    return arg;
}

static void *try_it(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)pthread_mutex_trylock(&inherit);
}

static long sum;
static void *add(void *arg)
{
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&inherit);
        long v = sum;

        if (i % 100 == 0)
            sched_yield();
        sum = v + 1;
        pthread_mutex_unlock(&inherit);
    }
    return arg;
}

static long futex(uint32_t *at, int op, uint32_t v, const struct timespec *t, uint32_t *at2,
                  uint32_t v3)
{
    return syscall(SYS_futex, at, op, v, t, at2, v3);
}

static uint32_t word, word2;
static atomic_int waiting;
static void *wait_word(void *arg)
{
    waiting++;
    return (void *)(intptr_t)futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL,
                                   (uint32_t)(uintptr_t)arg);
}

static void raw(void)
{
    struct timespec ms = {0, 5000000};
    pthread_t t[3];

    check(futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0) == -1 && errno == EAGAIN, "another value");
    check(futex(&word, FUTEX_WAIT, 0, &ms, NULL, 0) == -1 && errno == ETIMEDOUT, "a time limit");
    for (uintptr_t i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, wait_word, (void *)((uintptr_t)1 << i));
    while (waiting < 3 || nanosleep(&ms, NULL))
        sched_yield();
    check(futex(&word, FUTEX_WAKE_BITSET, 10, NULL, NULL, 2) == 1, "a wake by bits");
    check(futex(&word, FUTEX_CMP_REQUEUE, 0, (struct timespec *)(uintptr_t)10, &word2, 0) == 2,
          "two are moved to another word");
    check(futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0) == 0, "nobody is left");
    check(futex(&word2, FUTEX_WAKE, 10, NULL, NULL, 0) == 2, "they are there");
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    check(futex((uint32_t *)8, FUTEX_WAIT, 0, NULL, NULL, 0) == -1 && errno == EFAULT,
          "a word that is not there: EFAULT");
}

void check_futex(void)
{
    pthread_mutexattr_t a;
    pthread_t t[4];
    void *r;

    raw();
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &a);
    pthread_create(&t[0], NULL, die_with_it, NULL);
    pthread_join(t[0], NULL);
    check(pthread_mutex_lock(&robust) == EOWNERDEAD, "a robust lock tells that its owner ended");
    check(!pthread_mutex_consistent(&robust) && !pthread_mutex_unlock(&robust) &&
              !pthread_mutex_lock(&robust) && !pthread_mutex_unlock(&robust),
          "and can be mended");
    pthread_mutexattr_init(&a);
    check(!pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT), "priority inheritance");
    pthread_mutex_init(&inherit, &a);
    pthread_mutex_lock(&inherit);
    pthread_create(&t[0], NULL, try_it, NULL);
    pthread_join(t[0], &r);
    check((intptr_t)r == EBUSY, "a PI lock that is held");
    pthread_mutex_unlock(&inherit);
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, add, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    check(sum == 8000, "a PI lock that four want");
}
