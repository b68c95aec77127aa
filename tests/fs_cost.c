/* What a file call costs, in ns: bench_fs.sh runs it natively and in the runtime. In the current
 * directory; a line a row, "NAME MEDIAN", the median of ROUNDS rounds. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 15
#define MIB    (1u << 20)

#define OK(x)                                                             \
    do {                                                                  \
        if (!(x)) {                                                       \
            printf("failed: %s: %s\n", #x, errno ? strerror(errno) : ""); \
            exit(1);                                                      \
        }                                                                 \
    } while (0)

static char block[MIB], name[64];
static unsigned turn;

static void stat_deep(void)
{
    struct stat s;

    OK(!stat("a/b/c/small", &s) && s.st_size == 4096);
}

static void stat_one(void)
{
    struct stat s;

    OK(!stat("small", &s));
}

static void stat_many(void) /* another file each time */
{
    struct stat s;

    snprintf(name, sizeof name, "many/entry%u", turn++ % 1000);
    OK(!stat(name, &s));
}

static void stat_missing(void)
{
    struct stat s;

    OK(lstat("a/b/none", &s) < 0 && errno == ENOENT);
}

static void fstat_open(void)
{
    static int fd;
    struct stat s;

    if (!fd)
        fd = open("small", O_RDONLY);
    OK(!fstat(fd, &s));
}

static void open_close(void)
{
    int fd = open("small", O_RDONLY);

    OK(fd >= 0 && !close(fd));
}

static void open_read(void)
{
    int fd = open("small", O_RDONLY);

    OK(fd >= 0 && read(fd, block, 4096) == 4096 && !close(fd));
}

static void read_again(void)
{
    static int fd;

    if (!fd)
        fd = open("small", O_RDONLY);
    OK(pread(fd, block, 4096, 0) == 4096);
}

static void read_bytes(void)
{
    static int fd;

    if (!fd)
        fd = open("small", O_RDONLY);
    OK(pread(fd, block, 100, 0) == 100);
}

static void create_unlink(void)
{
    int fd = open("new", O_RDWR | O_CREAT | O_EXCL, 0644);

    OK(fd >= 0 && write(fd, block, 4096) == 4096 && !close(fd) && !unlink("new"));
}

static void write_one(void)
{
    static int fd;

    if (!fd)
        fd = open("written", O_RDWR | O_CREAT, 0644);
    OK(pwrite(fd, block, 4096, 0) == 4096);
}

static void append_one(void)
{
    static int fd;

    if (!fd)
        fd = open("log", O_WRONLY | O_CREAT | O_APPEND | O_TRUNC, 0644);
    OK(write(fd, block, 64) == 64);
}

static void list(void)
{
    DIR *d = opendir("many");
    unsigned n = 0;

    OK(d);
    while (readdir(d))
        n++;
    OK(n == 1002 && !closedir(d));
}

static void list_stat(void)
{
    DIR *d = opendir("many");
    struct dirent *e;
    struct stat s;

    OK(d);
    while ((e = readdir(d)))
        OK(!fstatat(dirfd(d), e->d_name, &s, AT_SYMLINK_NOFOLLOW));
    closedir(d);
}

static void read_link(void)
{
    OK(readlink("link", block, 64) == 5);
}

static void through_link(void)
{
    struct stat s;

    OK(!stat("link", &s) && S_ISREG(s.st_mode));
}

static void move(void)
{
    OK(!rename(turn & 1 ? "moved" : "mover", turn & 1 ? "mover" : "moved"));
    turn++;
}

static void make_dir(void)
{
    OK(!mkdir("dir", 0755) && !rmdir("dir"));
}

static void change(void)
{
    turn++;
    OK(!chmod("small", turn & 1 ? 0644 : 0600));
}

static void write_large(void)
{
    static int fd;

    if (!fd)
        fd = open("large", O_RDWR | O_CREAT, 0644);
    OK(pwrite(fd, block, MIB, 0) == MIB);
}

static void read_large(void)
{
    static int fd;

    if (!fd)
        fd = open("large", O_RDONLY);
    OK(pread(fd, block, MIB, 0) == MIB);
}

static void map_small(void)
{
    int fd = open("small", O_RDONLY);
    volatile char *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);

    OK(p != MAP_FAILED && p[4095] == 0);
    OK(!munmap((void *)p, 4096) && !close(fd));
}

static void map_large(void)
{
    int fd = open("large", O_RDONLY);
    volatile char *p = mmap(NULL, MIB, PROT_READ, MAP_PRIVATE, fd, 0);
    unsigned sum = 0;

    OK(p != MAP_FAILED);
    for (unsigned i = 0; i < MIB; i += 4096)
        sum += (unsigned char)p[i];
    OK(!sum && !munmap((void *)p, MIB) && !close(fd));
}

static const struct row {
    const char *name;
    void (*call)(void);
    unsigned calls; /* a round */
} rows[] = {
    {"stat", stat_one, 200},
    {"stat, four names deep", stat_deep, 200},
    {"stat, a thousand in turn", stat_many, 1000},
    {"lstat, missing", stat_missing, 200},
    {"stat through a link", through_link, 200},
    {"readlink", read_link, 200},
    {"fstat", fstat_open, 200},
    {"open, close", open_close, 200},
    {"open, read 4 KiB, close", open_read, 200},
    {"pread 100 bytes", read_bytes, 200},
    {"pread 4 KiB", read_again, 200},
    {"pwrite 4 KiB", write_one, 200},
    {"append 64 bytes", append_one, 200},
    {"create, write, close, unlink", create_unlink, 100},
    {"rename", move, 100},
    {"mkdir, rmdir", make_dir, 100},
    {"chmod", change, 100},
    {"list 1000", list, 4},
    {"list 1000, stat each", list_stat, 2},
    {"pwrite 1 MiB", write_large, 8},
    {"pread 1 MiB", read_large, 8},
    {"mmap, touch a page", map_small, 50},
    {"mmap, touch 256 pages", map_large, 4},
};

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int lower(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static void put(const char *path, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    OK(fd >= 0 && write(fd, block, n) == (ssize_t)n && !close(fd));
}

static void prepare(void)
{
    if (!mkdir("many", 0755)) {
        for (unsigned i = 0; i < 1000; i++) {
            snprintf(name, sizeof name, "many/entry%u", i);
            put(name, 10);
        }
        OK(!mkdir("a", 0755) && !mkdir("a/b", 0755) && !mkdir("a/b/c", 0755));
    }
    put("a/b/c/small", 4096);
    put("small", 4096);
    put("large", MIB);
    put("mover", 1);
    unlink("link");
    OK(!symlink("small", "link"));
}

int main(int argc, char **argv)
{
    prepare();
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        double t[ROUNDS];

        if (argc > 1 && !strstr(r->name, argv[1]))
            continue;
        turn = 0;
        for (unsigned round = 0; round < ROUNDS; round++) {
            uint64_t from = now();

            for (unsigned k = 0; k < r->calls; k++)
                r->call();
            t[round] = (double)(now() - from) / r->calls;
        }
        qsort(t, ROUNDS, sizeof t[0], lower);
        printf("%s\t%.0f\n", r->name, t[ROUNDS / 2]);
    }
    return 0;
}
