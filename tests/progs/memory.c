/* Memory calls: protections, remapping, guards, what is too much. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void check(int good, const char *name)
{
    printf("%s %s\n", good ? "PASS" : "FAIL", name);
}

#define RW   (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "forever")) { /* allocate until the end */
        size_t n = 0;
        char *p;

        while ((p = malloc(1 << 20))) {
            memset(p, 1, 1 << 20);
            n++;
        }
        printf("%s after more than 10: %d\n", strerror(errno), n > 10);
        return 3;
    }
    char *a = mmap(NULL, 64 << 12, RW, ANON, -1, 0);

    check(a != MAP_FAILED && !a[0] && !a[(64 << 12) - 1], "fresh memory is zero");
    memset(a, 7, 64 << 12);
    check(!munmap(a + 8192, 4096) && a[8191] == 7 && a[12288] == 7, "a hole");
    check(mmap(a + 8192, 4096, RW, ANON | MAP_FIXED, -1, 0) == a + 8192 && !a[8192], "filled");
    check(mmap(a, 4096, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED && errno == EEXIST,
          "MAP_FIXED_NOREPLACE");
    check(!madvise(a, 4096, MADV_DONTNEED) && !a[0] && a[4096] == 7, "MADV_DONTNEED");
    char *b = mremap(a, 64 << 12, 200 << 12, MREMAP_MAYMOVE);

    check(b != MAP_FAILED && b[4096] == 7 && b[(64 << 12) - 1] == 7 && !b[(200 << 12) - 1],
          "mremap");
    check(mremap(b, 200 << 12, 10 << 12, 0) == b && b[4096] == 7, "mremap: shrink");
    char *r = mmap(NULL, 1ull << 40, PROT_NONE, ANON | MAP_NORESERVE, -1, 0);

    check(r != MAP_FAILED, "1 TiB of address space");
    check(!mprotect(r + (1ull << 39), 4096, RW), "a page of it");
    r[1ull << 39] = 1;
    check(!munmap(r, 1ull << 40), "given back");
    check(mmap(NULL, 1ull << 50, RW, ANON, -1, 0) == MAP_FAILED && errno == ENOMEM, "ENOMEM");
    check(mmap((void *)1, 4096, RW, ANON | MAP_FIXED, -1, 0) == MAP_FAILED && errno == EINVAL,
          "EINVAL");
    check(munmap(b + 1, 4096) == -1 && errno == EINVAL, "munmap: EINVAL");
    check(mprotect((void *)0x1000000, 4096, RW) == -1 && errno == ENOMEM, "mprotect: ENOMEM");
#ifdef __GLIBC__ /* musl has no sbrk */
    char *top = sbrk(0);

    check(sbrk(100000) == top && !top[99999], "sbrk");
    memset(top, 9, 100000);
    sbrk(-100000);
    check(sbrk(100000) == top && !top[50000], "given again, it is zero");
#endif
    uint32_t state = 1;
    static struct {
        uint8_t *p;
        size_t n;
    } slot[200];
    int wrong = 0;

    for (int i = 0; i < 20000; i++) {
        state = state * 1664525 + 1013904223;
        unsigned k = (state >> 8) % 200;
        size_t n = (state >> 16) % (i % 50 ? 2000 : 300000) + 1;

        for (size_t j = 0; j < slot[k].n; j += 97)
            wrong += slot[k].p[j] != (k & 255);
        free(slot[k].p);
        slot[k].p = malloc(n);
        slot[k].n = n;
        memset(slot[k].p, (int)(k & 255), n);
    }
    check(!wrong, "malloc keeps what is written");
    return 0;
}
