/* ends WHAT: takes more and more of something, until there is no more. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RW   (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static void *wait_forever(void *arg)
{
    pause();
    return arg;
}

static void over(int err, int n, int enough)
{
    printf("%s after more than %d: %d", strerror(err), enough, n > enough);
}

static void threads(void)
{
    pthread_t t;
    int n = 0, err;

    while (!(err = pthread_create(&t, NULL, wait_forever, NULL)))
        n++;
    over(err, n, 100);
}

static void files(void)
{
    int n = 0;

    while (dup(0) >= 0)
        n++;
    over(errno, n, 100);
}

static void disk(void)
{
    static char block[1 << 20];
    int fd = open("/tmp/ends", O_RDWR | O_CREAT, 0600), n = 0;

    memset(block, 1, sizeof block);
    while (write(fd, block, sizeof block) > 0)
        n++;
    over(errno, n, 10);
    unlink("/tmp/ends");
    close(fd);
    char *p = malloc(1 << 24);

    if (p)
        memset(p, 1, 1 << 24);
    printf(", room again %d", p && p[1 << 20] == 1);
}

static void maps(void)
{
    int n = 0;

    while (mmap(NULL, 4096, n & 1 ? RW : PROT_READ, ANON, -1, 0) != MAP_FAILED)
        n++;
    over(errno, n, 1000);
}

static void touch(void)
{
    char *p = mmap(NULL, 1ull << 32, RW, ANON | MAP_NORESERVE, -1, 0);

    for (size_t i = 0; p != MAP_FAILED && i < 1ull << 32; i += 4096)
        p[i] = 1;
}

static int recursion(int n)
{
    volatile char room[1000];

    room[n % 1000] = (char)n;
    return n < 0 ? 0 : recursion(n + 1) + room[n % 1000];
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (!strcmp(what, "threads"))
        threads();
    else if (!strcmp(what, "files"))
        files();
    else if (!strcmp(what, "disk"))
        disk();
    else if (!strcmp(what, "maps"))
        maps();
    else if (!strcmp(what, "touch"))
        touch();
    else if (!strcmp(what, "recursion"))
        return recursion(1) == 0;
    puts("");
    return 0;
}
