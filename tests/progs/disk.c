/*
 * disk PATH SEED: a block device, or a file as large, against a copy in memory: reads and writes of
 * any place and length, in and out of sectors, its end, what it says of itself. What it leaves is
 * the same wherever it ran.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST (1u << 20)
static uint8_t copy[MOST], data[MOST];
static uint32_t state;

static uint32_t any(uint32_t below)
{
    state = state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)state * below >> 32);
}

static void check(const char *what, int ok)
{
    if (!ok)
        printf("FAIL %s (%s)\n", what, strerror(errno));
}

int main(int argc, char **argv)
{
    int fd = argc > 2 ? open(argv[1], O_RDWR) : -1;
    off_t size = lseek(fd, 0, SEEK_END);
    struct stat st;
    uint64_t told;

    if (fd < 0 || size <= 0 || size > MOST) {
        printf("FAIL open: %s\n", strerror(errno));
        return 1;
    }
    state = (uint32_t)atoi(argv[2]);
    check("read all", pread(fd, copy, (size_t)size, 0) == size);
    for (unsigned i = 0; i < 400; i++) {
        /* Near a sector's ends more often than not. */
        off_t at = any(2) ? any((uint32_t)size) : any((uint32_t)size / 512) * 512 + any(3) * 255;
        size_t len = any(4) ? any(1500) : any(70000);

        if (at + (off_t)len > size)
            len = (size_t)(size - at);
        if (any(2)) {
            for (size_t k = 0; k < len; k++)
                copy[at + (off_t)k] = data[k] = (uint8_t)any(256);
            check("pwrite", pwrite(fd, data, len, at) == (ssize_t)len);
        } else {
            check("pread", pread(fd, data, len, at) == (ssize_t)len);
            check("what was read", !memcmp(data, copy + at, len));
        }
    }
    check("fsync", !fsync(fd) && !fdatasync(fd));
    check("at the end", pread(fd, data, 10, size) == 0 && pread(fd, data, 10, size - 4) == 4);
    lseek(fd, 100, SEEK_SET);
    struct iovec v[2] = {{data, 700}, {data + 700, 30}};
    check("readv", readv(fd, v, 2) == 730 && !memcmp(data, copy + 100, 730));
    check("its position", lseek(fd, 0, SEEK_CUR) == 830);
    check("a bad address", pread(fd, (void *)8, 600, 0) == -1 && errno == EFAULT);
    check("a bad address to write", pwrite(fd, (void *)8, 600, 0) == -1 && errno == EFAULT);
    check("fstat", !fstat(fd, &st));
    if (S_ISBLK(st.st_mode)) {
        errno = 0;
        check("write past the end", pwrite(fd, data, 1, size) == -1 && errno == ENOSPC);
        check("BLKGETSIZE64", !ioctl(fd, BLKGETSIZE64, &told) && told == (uint64_t)size);
        check("O_SYNC", (fd = open(argv[1], O_RDWR | O_SYNC)) >= 0 && pwrite(fd, copy, 9, 0) == 9);
        fd = open(argv[1], O_WRONLY | O_TRUNC | O_CREAT, 0600);
        check("O_TRUNC leaves it", lseek(fd, 0, SEEK_END) == size);
    }
    printf("done %lld\n", (long long)size);
    return 0;
}
