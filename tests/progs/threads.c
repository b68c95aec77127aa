/* Threads: mutexes, conditions, a thread that spins, thread-local data, floating point kept across
 * switches, timed waits. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long total;
static _Thread_local int mine;
static atomic_int spinning = 1, started;

static void *add(void *arg)
{
    long n = (long)arg;
    volatile double x = (double)n;

    mine = (int)n;
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&lock);
        total += n;
        pthread_mutex_unlock(&lock);
        x = x * 1.0000001 + 0.5;
    }
    volatile double y = (double)n;

    for (int i = 0; i < 20000; i++)
        y = y * 1.0000001 + 0.5;
    return (void *)(long)(mine == n && x == y);
}

static void *spin(void *arg)
{
    volatile double x = 1;

    started = 1;
    while (spinning)
        x = x + 1;
    return arg;
}

static int turn;
static void *ping(void *arg)
{
    int me = (int)(long)arg;

    for (int i = 0; i < 1000; i++) {
        pthread_mutex_lock(&lock);
        while (turn != me)
            pthread_cond_wait(&cond, &lock);
        turn = !me;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

int main(void)
{
    pthread_t t[8], s;
    long good = 0;
    void *r;

    pthread_create(&s, NULL, spin, NULL);
    while (!started)
        ;
    for (long i = 0; i < 8; i++)
        if (pthread_create(&t[i], NULL, add, (void *)(i + 1)))
            return 1;
    for (int i = 0; i < 8; i++) {
        pthread_join(t[i], &r);
        good += (long)r;
    }
    printf("total %ld good %ld\n", total, good);
    spinning = 0;
    pthread_join(s, NULL);
    for (long i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, ping, (void *)i);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    printf("turns over: %d\n", turn);

    struct timespec a, b;

    clock_gettime(CLOCK_REALTIME, &a);
    b = a;
    b.tv_nsec += 30000000;
    if (b.tv_nsec > 999999999) {
        b.tv_nsec -= 1000000000;
        b.tv_sec++;
    }
    pthread_mutex_lock(&lock);
    int err = pthread_cond_timedwait(&cond, &lock, &b);

    pthread_mutex_unlock(&lock);
    clock_gettime(CLOCK_REALTIME, &b);
    double took = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;

    printf("timed out: %d, took long enough: %d\n", err == ETIMEDOUT, took >= 0.03);
    for (int i = 0; i < 500; i++) { /* stacks come back */
        if (pthread_create(&s, NULL, add, (void *)0L))
            return 2;
        pthread_join(s, NULL);
        if (i > 20)
            break;
    }
    return 0;
}
