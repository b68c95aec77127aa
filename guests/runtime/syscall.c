/* The Linux system calls that a static musl program makes, answered here or by a hypercall.
 * What is not here is -ENOSYS: the program is told, never silently misled. */
#include "guests/runtime/runtime.h"

enum {
    NR_READ = 0,
    NR_WRITE = 1,
    NR_CLOSE = 3,
    NR_FSTAT = 5,
    NR_LSEEK = 8,
    NR_MMAP = 9,
    NR_MPROTECT = 10,
    NR_MUNMAP = 11,
    NR_BRK = 12,
    NR_RT_SIGPROCMASK = 14,
    NR_IOCTL = 16,
    NR_READV = 19,
    NR_WRITEV = 20,
    NR_SCHED_YIELD = 24,
    NR_MADVISE = 28,
    NR_NANOSLEEP = 35,
    NR_GETPID = 39,
    NR_EXIT = 60,
    NR_KILL = 62,
    NR_GETTIMEOFDAY = 96,
    NR_GETUID = 102,
    NR_GETGID = 104,
    NR_GETEUID = 107,
    NR_GETEGID = 108,
    NR_ARCH_PRCTL = 158,
    NR_GETTID = 186,
    NR_TKILL = 200,
    NR_SET_TID_ADDRESS = 218,
    NR_CLOCK_GETTIME = 228,
    NR_CLOCK_GETRES = 229,
    NR_CLOCK_NANOSLEEP = 230,
    NR_EXIT_GROUP = 231,
    NR_TGKILL = 234,
    NR_NEWFSTATAT = 262,
    NR_GETRANDOM = 318
};

enum { ARCH_SET_FS = 0x1002, ARCH_GET_FS = 0x1003, MSR_FS_BASE = 0xc0000100 };

struct iovec {
    uint64_t base, len;
};

#define IOV_LIMIT 1024

static int64_t do_write(uint64_t fd, uint64_t buf, uint64_t len)
{
    if (fd != 1 && fd != 2)
        return -E_BADF;
    return len ? runtime_call(MAYFLY_CALL_WRITE, (uint32_t)fd, (const void *)buf, len) : 0;
}

/* The monitor has nothing yet: ask again, it paces us. */
static int64_t do_read(uint64_t fd, uint64_t buf, uint64_t len)
{
    int64_t n;

    if (fd != 0)
        return -E_BADF;
    if (!len)
        return 0;
    while ((n = runtime_call(MAYFLY_CALL_READ, 0, (const void *)buf, len)) == -E_AGAIN)
        __asm__ volatile("pause");
    return n;
}

static int64_t do_vector(uint64_t nr, uint64_t fd, uint64_t iov, uint64_t count)
{
    const struct iovec *v = (const struct iovec *)iov;
    int64_t total = 0;

    if (count > IOV_LIMIT)
        return -E_INVAL;
    for (uint64_t i = 0; i < count; i++) {
        if (!v[i].len)
            continue;
        int64_t n =
            nr == NR_WRITEV ? do_write(fd, v[i].base, v[i].len) : do_read(fd, v[i].base, v[i].len);

        if (n < 0)
            return total ? total : n;
        total += n;
        if ((uint64_t)n < v[i].len)
            break;
    }
    return total;
}

static int64_t do_arch_prctl(uint64_t code, uint64_t addr)
{
    uint32_t lo, hi;

    switch (code) {
    case ARCH_SET_FS:
        if ((uint64_t)((int64_t)(addr << 16) >> 16) != addr)
            return -1; /* EPERM, as the kernel says */
        __asm__ volatile("wrmsr"
                         :
                         : "c"(MSR_FS_BASE), "a"((uint32_t)addr), "d"((uint32_t)(addr >> 32)));
        return 0;
    case ARCH_GET_FS:
        __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(MSR_FS_BASE));
        *(uint64_t *)addr = (uint64_t)hi << 32 | lo;
        return 0;
    default:
        return -E_INVAL;
    }
}

/* struct stat of stdin, stdout, stderr: a character device (st_mode at 24, st_blksize at 56). */
static int64_t do_fstat(uint64_t fd, uint64_t st)
{
    if (fd > 2)
        return -E_BADF;
    fill_bytes((void *)st, 0, 144);
    *(uint64_t *)(st + 16) = 1;       /* st_nlink */
    *(uint32_t *)(st + 24) = 0020620; /* S_IFCHR */
    *(uint64_t *)(st + 56) = 4096;
    return 0;
}

static int64_t do_time(uint64_t id, uint64_t out, int micro)
{
    struct runtime_timespec ts;
    int err = clock_read((int)id, &ts);

    if (err || !out)
        return err;
    if (micro)
        ts.nsec /= 1000;
    *(struct runtime_timespec *)out = ts;
    return 0;
}

/* Nobody else runs here, so waiting is watching the TSC. */
static int64_t do_sleep(uint64_t id, uint64_t absolute, uint64_t req)
{
    const struct runtime_timespec *t = (const struct runtime_timespec *)req;
    struct runtime_timespec now = {0, 0}, end;

    if (t->nsec < 0 || t->nsec > 999999999 || t->sec < 0)
        return -E_INVAL;
    if (clock_read((int)id, &now))
        return -E_INVAL;
    end = *t;
    if (!absolute) {
        end.sec += now.sec;
        end.nsec += now.nsec;
        if (end.nsec > 999999999) {
            end.nsec -= 1000000000;
            end.sec++;
        }
    }
    while (now.sec < end.sec || (now.sec == end.sec && now.nsec < end.nsec)) {
        __asm__ volatile("pause");
        clock_read((int)id, &now);
    }
    return 0;
}

static int64_t do_kill(uint64_t sig)
{
    if (sig > 64)
        return -E_INVAL;
    if (sig)
        runtime_exit(128 + (int)sig); /* no handlers here: every signal is the end */
    return 0;
}

int64_t runtime_syscall(uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                        uint64_t a5, uint64_t nr)
{
    (void)a4;
    (void)a5;
    switch (nr) {
    case NR_READ:
        return do_read(a0, a1, a2);
    case NR_WRITE:
        return do_write(a0, a1, a2);
    case NR_READV:
    case NR_WRITEV:
        return do_vector(nr, a0, a1, a2);
    case NR_CLOSE:
        return a0 <= 2 ? 0 : -E_BADF;
    case NR_FSTAT:
        return do_fstat(a0, a1);
    case NR_NEWFSTATAT: /* musl's fstat(): an empty path */
        return *(const char *)a1 ? -E_NOENT : do_fstat(a0, a2);
    case NR_LSEEK:
        return a0 <= 2 ? -E_SPIPE : -E_BADF;
    case NR_IOCTL:
        return a0 <= 2 ? -E_NOTTY : -E_BADF;
    case NR_MMAP:
        return memory_map(a0, a1, (int)a3);
    case NR_MUNMAP:
        return memory_unmap(a0, a1);
    case NR_BRK:
        return (int64_t)memory_brk(a0);
    case NR_MADVISE:
        return memory_advise(a0, a1, (int)a2);
    case NR_MPROTECT: /* everything is writable and executable here */
    case NR_RT_SIGPROCMASK:
    case NR_SCHED_YIELD:
    case NR_GETUID:
    case NR_GETGID:
    case NR_GETEUID:
    case NR_GETEGID:
        return 0;
    case NR_GETPID:
    case NR_GETTID:
    case NR_SET_TID_ADDRESS:
        return 1;
    case NR_ARCH_PRCTL:
        return do_arch_prctl(a0, a1);
    case NR_CLOCK_GETTIME:
        return do_time(a0, a1, 0);
    case NR_GETTIMEOFDAY:
        return do_time(0, a0, 1);
    case NR_CLOCK_GETRES:
        if (a1)
            *(struct runtime_timespec *)a1 = (struct runtime_timespec){0, 1};
        return a0 < 8 ? 0 : -E_INVAL;
    case NR_NANOSLEEP:
        return do_sleep(1, 0, a0);
    case NR_CLOCK_NANOSLEEP:
        return do_sleep(a0, a1 & 1, a2);
    case NR_GETRANDOM:
        random_bytes((void *)a0, a1);
        return (int64_t)a1;
    case NR_KILL:
    case NR_TKILL:
        return do_kill(a1);
    case NR_TGKILL:
        return do_kill(a2);
    case NR_EXIT:
    case NR_EXIT_GROUP:
        runtime_exit((int)(a0 & 255));
    default:
        return -E_NOSYS;
    }
}
