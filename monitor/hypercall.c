/* The runtime's hypercalls (contract: guests/runtime/bootblock.h). */
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include "guests/runtime/bootblock.h"
#include "monitor/core.h"
#include "monitor/hypercall.h"

/* One call moves at most this much, so a guest cannot hold the machine's lock for long; the guest's
 * write() sees a short count and goes on. */
#define CHUNK (64u << 10)
/* How long a read with nothing to read keeps its vCPU. */
#define READ_PACE_NS 1000000

static uint64_t clock_now(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int64_t call_write(struct machine *m, uint32_t fd, gpa_t gpa, uint64_t len)
{
    const void *p = ram_ptr(&m->ram, gpa, len);

    if (!p)
        return -EFAULT;
    if (len > CHUNK)
        len = CHUNK;
    if ((fd & ~MAYFLY_WRITE_THROUGH) == 1) {
        int err = console_write_program(m, p, len, fd & MAYFLY_WRITE_THROUGH);

        return err ? err : (int64_t)len;
    }
    if (fd != 2)
        return -EBADF;
    console_before_errors(m);
    loop_before_write(STDERR_FILENO, len);
    ssize_t n = write(STDERR_FILENO, p, len);

    /* Interrupted: nothing is written, and the program comes again, unless that was its end. */
    return n >= 0 ? n : errno == EINTR ? 0 : -errno;
}

/* fd 0, or the vector of the interrupt that says there is input. */
static bool takes_input(uint32_t fd)
{
    return !fd || (fd >= 32 && fd < 255);
}

static int64_t call_input(struct machine *m, uint32_t fd)
{
    if (!takes_input(fd))
        return -EBADF;
    if (console_ready(m))
        return 1;
    m->input_vector = (uint8_t)fd;
    return 0;
}

static int64_t call_read(struct machine *m, uint32_t fd, gpa_t gpa, uint64_t len)
{
    uint8_t *p = ram_ptr(&m->ram, gpa, len);
    int n;

    if (!takes_input(fd))
        return -EBADF;
    if (!p)
        return -EFAULT;
    n = console_read(m, p, (unsigned)(len < CHUNK ? len : CHUNK));
    if (n > 0)
        ram_written(&m->ram, gpa, (uint64_t)n);
    if (n == -EAGAIN && fd) {
        m->input_vector = (uint8_t)fd;
    } else if (n == -EAGAIN) {
        /* The guest will ask again at once: let it wait here a little, not spin, with the lock
         * free for who brings the input. */
        pthread_mutex_unlock(&m->lock);
        nanosleep(&(struct timespec){.tv_nsec = READ_PACE_NS}, NULL);
        pthread_mutex_lock(&m->lock);
    }
    return n;
}

static const char *call_name(unsigned nr)
{
    static const char *const names[] = {
#include "syscall_names.h"
    };
    const char *name = nr < sizeof names / sizeof names[0] ? names[nr] : NULL;

    return name ? name : "?";
}

/* "read 12, write 3", in lines of a readable length. */
static void tell_calls(const struct mayfly_asked *a, uint64_t n, bool lacking, const char *what)
{
    char line[160];
    struct text t = {line, 0, sizeof line};

    for (uint64_t i = 0; i < n; i++) {
        /* Asked for by every C library's start and done without: not worth a word. */
        if (a[i].lacking != lacking || (lacking && a[i].number == SYS_rseq))
            continue;
        if (t.len > sizeof line - 48) {
            msg_verbose("%s: %s", what, line);
            t.len = 0;
        }
        text_add(&t, "%s%s %u", t.len ? ", " : "", call_name(a[i].number), a[i].times);
    }
    if (t.len)
        msg_verbose("%s: %s", what, line);
}

/* What an ioctl of a terminal takes or gives (asm-generic/termbits.h: four words, the line's
 * number, 19 characters). */
static const struct tty_call {
    unsigned long number;
    unsigned size;
    bool sets;
} tty_calls[] = {{TCGETS, 36, false},
                 {TCSETS, 36, true},
                 {TCSETSW, 36, true},
                 {TCSETSF, 36, true},
                 {TIOCGWINSZ, 8, false}};

static int64_t call_tty(struct machine *m, uint32_t fd, gpa_t gpa, uint64_t len)
{
    uint8_t data[64] = {0};

    for (unsigned i = 0; i < sizeof tty_calls / sizeof tty_calls[0]; i++) {
        const struct tty_call *t = &tty_calls[i];

        if (t->number != fd >> 2 || len < t->size || (fd & 3) > 2)
            continue;
        if (t->sets && ram_read(&m->ram, gpa, data, t->size))
            return -EFAULT;
        if (t->sets)
            return console_set(m, (int)(fd & 3), t->number, data);
        if (ioctl((int)(fd & 3), (int)t->number, data))
            return -errno;
        return ram_write(&m->ram, gpa, data, t->size) ? -EFAULT : 0;
    }
    return -EINVAL;
}

static int64_t call_asked(struct machine *m, gpa_t gpa, uint64_t len)
{
    struct mayfly_asked a[MAYFLY_ASKED_MAX];

    if (len > sizeof a)
        return -EINVAL;
    if (ram_read(&m->ram, gpa, a, len))
        return -EFAULT;
    tell_calls(a, len / sizeof a[0], false, "system calls");
    tell_calls(a, len / sizeof a[0], true, "system calls that are not there");
    for (uint64_t i = 0; i < len / sizeof a[0]; i++)
        if (a[i].lacking && (a[i].number == SYS_socket || a[i].number == SYS_socketpair))
            msg_verbose("sockets need a network: give --net, or --net lo for those of the program "
                        "among themselves");
    return 0;
}

void hypercall_write(struct machine *m, uint16_t port, unsigned size, uint64_t val)
{
    struct mayfly_call c;

    (void)port;
    if (size != 4 || val % 8 || ram_read(&m->ram, val, &c, sizeof(c)))
        return;
    if (!m->t.guest_up)
        m->t.guest_up = clock_now(CLOCK_MONOTONIC);
    switch (c.op) {
    case MAYFLY_CALL_WRITE:
        c.ret = call_write(m, c.fd, c.gpa, c.len);
        break;
    case MAYFLY_CALL_READ:
        c.ret = call_read(m, c.fd, c.gpa, c.len);
        break;
    case MAYFLY_CALL_EXIT:
        c.ret = 0;
        machine_stop(m, (int)(c.len & 255), "runtime exit");
        break;
    case MAYFLY_CALL_WALLTIME:
        c.ret = (int64_t)clock_now(CLOCK_REALTIME);
        break;
    case MAYFLY_CALL_INPUT:
        c.ret = call_input(m, c.fd);
        break;
    case MAYFLY_CALL_TTY:
        c.ret = call_tty(m, c.fd, c.gpa, c.len);
        break;
    case MAYFLY_CALL_ASKED:
        c.ret = call_asked(m, c.gpa, c.len);
        break;
    case MAYFLY_CALL_SIGNALS:
        c.ret = signals_asked(m);
        break;
    default:
        c.ret = -ENOSYS;
    }
    ram_write(&m->ram, val + offsetof(struct mayfly_call, ret), &c.ret, sizeof(c.ret));
}
