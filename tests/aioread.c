/*
 * In the guest: reads or writes BLOCK bytes at a time at queue depth DEPTH with Linux's native AIO
 * and O_DIRECT, COUNT requests from the file's start, and says how long it took.
 * aioread FILE read|write DEPTH COUNT [BLOCK]
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DEPTH_MAX 256

int main(int argc, char **argv)
{
    static struct iocb cb[DEPTH_MAX];
    static struct io_event ev[DEPTH_MAX];
    aio_context_t ctx = 0;

    if (argc < 5)
        return 2;
    int write = !strcmp(argv[2], "write");
    long depth = atol(argv[3]), count = atol(argv[4]), block = argc > 5 ? atol(argv[5]) : 4096;
    int fd = open(argv[1], (write ? O_RDWR : O_RDONLY) | O_DIRECT);
    char *buf;
    long started = 0, done = 0;
    struct timespec a, b;

    if (fd < 0 || depth < 1 || depth > DEPTH_MAX ||
        posix_memalign((void **)&buf, 4096, (size_t)(block * depth)) ||
        syscall(SYS_io_setup, depth, &ctx)) {
        perror(argv[1]);
        return 1;
    }
    memset(buf, 0x5a, (size_t)(block * depth));
    clock_gettime(CLOCK_MONOTONIC, &a);
    long slot[DEPTH_MAX], nfree = depth;
    for (long i = 0; i < depth; i++)
        slot[i] = i;
    while (done < count) {
        while (nfree && started < count) {
            struct iocb *p = &cb[slot[--nfree]];

            *p = (struct iocb){.aio_fildes = (unsigned)fd,
                               .aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
                               .aio_data = (unsigned long)(p - cb),
                               .aio_buf = (unsigned long)(buf + block * (p - cb)),
                               .aio_nbytes = (unsigned long)block,
                               .aio_offset = started * block};
            if (syscall(SYS_io_submit, ctx, 1, &p) != 1) {
                perror("io_submit");
                return 1;
            }
            started++;
        }
        long n = syscall(SYS_io_getevents, ctx, 1, depth, ev, NULL);

        if (n < 1) {
            perror("io_getevents");
            return 1;
        }
        for (long i = 0; i < n; i++) {
            if (ev[i].res != block) {
                fprintf(stderr, "request: %lld\n", (long long)ev[i].res);
                return 1;
            }
            slot[nfree++] = (long)ev[i].data;
        }
        done += n;
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%ld requests, %.3f s\n", count,
           (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
    return 0;
}
