/* One thread reads stdin to its end, another counts meanwhile. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static atomic_long counted;
static atomic_int done;

static void *count(void *arg)
{
    while (!done)
        counted++;
    return arg;
}

int main(void)
{
    char buf[64];
    size_t n = 0;
    ssize_t got;
    pthread_t t;

    pthread_create(&t, NULL, count, NULL);
    long before = counted;

    while ((got = read(0, buf + n, sizeof buf - 1 - n)) > 0) {
        n += (size_t)got;
        buf[n] = 0;
        if (n == 3)
            printf("%s ", buf);
    }
    long after = counted;

    done = 1;
    pthread_join(t, NULL);
    printf("%s, counted meanwhile: %d\n", buf + 3, after - before > 1000);
    return (int)n;
}
