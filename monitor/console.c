/*
 * The guest's console on stdin and stdout.
 *
 * Output is batched: the first line (of a program: the first write) after a quiet millisecond is
 * written at once, what follows within the millisecond together with it later: by the next line,
 * when half the buffer is full, before the CPU sleeps, by the I/O thread after a millisecond, and
 * at the end. The first few are written as they come if there is no I/O thread yet: many programs
 * have no more, and the thread would be made for them. A slow reader slows the guest down once the
 * buffer is full; it never holds up the I/O thread.
 *
 * Input is read only when somebody wants it: the guest's receiver is on, or stdin is a terminal,
 * whose Ctrl-A keys are ours.
 */
#include "monitor/core.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define QUIET_NS     1000000u
#define EARLY_WRITES 64
#define PIPE_UNIT    4096u /* PIPE_BUF: a pipe that polls writable takes that much at once */
#define CTRL_A       1

static struct termios saved; /* of saved_fd */
static int saved_fd;
static atomic_bool raw;
static volatile sig_atomic_t background; /* SIGTTOU came */
static atomic_bool stopped;              /* for it */

void console_init(struct machine *m, struct console *c)
{
    struct stat st, err;
    bool known = !fstat(1, &st);

    /* The buffers are not cleared: they are static, and a touched page costs the launch. */
    c->m = m;
    m->console = c;
    pthread_mutex_init(&c->lock, NULL);
    c->poll_out = !known || !S_ISREG(st.st_mode);
    c->with_errors = known && !fstat(2, &err) && st.st_dev == err.st_dev && st.st_ino == err.st_ino;
}

void console_raw(struct console *c)
{
    struct termios t;

    if (tcgetattr(0, &saved))
        return;
    /* A background job may not touch the terminal; it runs without input. */
    if (tcgetpgrp(0) != getpgrp()) {
        c->eof = true;
        return;
    }
    c->tty = true;
    t = saved;
    /* Output processing stays on: a guest that ends its lines with LF alone reads well. */
    t.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    t.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    t.c_cflag = (t.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    atomic_store(&raw, true);
    tcsetattr(0, TCSANOW, &t);
}

static void on_background(int sig)
{
    (void)sig;
    background = 1;
}

/* A handler, so that the call comes back: with the default action a stopped thread makes it again
 * at each SIGCONT, and a SIGTERM that came with that is never seen. */
static void catch_background(void)
{
    struct sigaction sa = {.sa_handler = on_background}, old;

    if (!sigaction(SIGTTOU, &sa, &old) && old.sa_handler == SIG_IGN)
        sigaction(SIGTTOU, &old, NULL);
}

int console_set(const struct machine *m, int fd, unsigned long call, const void *data)
{
    const struct timespec pause = {.tv_nsec = 20000000};

    /* This may wait for the terminal's output, or stop for the foreground: a signal is then not
     * looked at by this thread. */
    loop_need(m);

    bool first = !atomic_load(&raw) && !tcgetattr(fd, &saved);

    if (first) {
        saved_fd = fd;
        catch_background();
        atomic_store(&raw, true);
    }
    background = 0;
    while (ioctl(fd, (int)call, data)) {
        int err = errno;

        if (first)
            atomic_store(&raw, false); /* nothing to put back */
        if (err != EINTR || !background)
            return -err;
        /* A background job stops until it is brought to the front. */
        background = 0;
        atomic_store(&stopped, true);
        raise(SIGSTOP);
        nanosleep(&pause, NULL); /* a signal that came meanwhile is the I/O thread's */
        atomic_store(&stopped, false);
        if (atomic_load(&m->stopping))
            return -EINTR;
        if (first)
            atomic_store(&raw, true);
    }
    return 0;
}

bool console_is_stopped(void)
{
    return atomic_load(&stopped);
}

void console_restore(void)
{
    sigset_t set, was;

    if (!atomic_exchange(&raw, false))
        return;
    /* From the background too: the end must not be stopped. */
    sigemptyset(&set);
    sigaddset(&set, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &set, &was);
    tcsetattr(saved_fd, TCSANOW, &saved);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
}

bool console_is_raw(void)
{
    return atomic_load(&raw);
}

/* --- output: with c->lock held --- */

static void fail(struct console *c, int err)
{
    c->out_len = 0;
    if (c->m->boot.runtime && !c->m->cpus.stop && (c->through || err != EPIPE)) {
        c->error = err; /* for the program to know */
        return;
    }
    c->dead = true;
    if (err == EPIPE) {
        c->fail_status = STATUS_SIGNAL + SIGPIPE;
    } else {
        c->fail_status = STATUS_FAILURE;
        msg_error("stdout: cannot write the guest's console: %s", strerror(err));
    }
    machine_stop(c->m, c->fail_status, "stdout failed");
}

/* May a chunk be written now without blocking? */
static bool writable(struct console *c, enum flush how)
{
    for (;;) {
        struct pollfd p = {.fd = 1, .events = POLLOUT};

        if (poll(&p, 1, how == FLUSH_TRY ? 0 : 50) > 0)
            return true;
        if (how == FLUSH_TRY || (how == FLUSH_WAIT && c->m->cpus.stop))
            return false;
        loop_need(c->m);
    }
}

/* The I/O thread takes over when stdout has room. */
static void leave_to_loop(struct console *c)
{
    if (!c->out_wait) {
        c->out_wait = true;
        loop_wake(c->m);
    }
}

static void flush_locked(struct console *c, enum flush how)
{
    c->last_flush = clock_ns();
    while (c->out_len) {
        size_t n = c->out_len;

        if (c->poll_out) {
            if (!writable(c, how)) {
                leave_to_loop(c);
                return;
            }
            n = n < PIPE_UNIT ? n : PIPE_UNIT;
        }
        ssize_t w = write(1, c->out + c->out_start, n);

        if (w > 0) {
            c->out_start += (uint32_t)w;
            c->out_len -= (uint32_t)w;
        } else if (w < 0 && errno == EAGAIN) {
            /* A non-blocking stdout that is fuller than it seemed. */
            c->poll_out = true;
            if (how == FLUSH_TRY) {
                leave_to_loop(c);
                return;
            }
            poll(NULL, 0, 1);
        } else if (w < 0 && errno != EINTR) {
            fail(c, errno);
        }
    }
    c->out_start = 0;
    c->out_wait = false;
    c->flush_armed = false;
}

void console_flush(struct machine *m, enum flush how)
{
    struct console *c = m->console;

    /* Somebody else is at it: he writes all there is. */
    if (how == FLUSH_TRY ? pthread_mutex_trylock(&c->lock) : pthread_mutex_lock(&c->lock))
        return;
    if (c->out_len)
        flush_locked(c, how);
    pthread_mutex_unlock(&c->lock);
}

bool console_output_waits(struct console *c)
{
    return c->out_wait || c->hvc_stalled;
}

/* Into the buffer; the bytes taken: all, unless stdout stands still and how is FLUSH_TRY, or the
 * machine has stopped. */
static size_t put_output(struct console *c, const char *p, size_t len, enum flush how)
{
    bool line = memchr(p, '\n', len) != NULL;
    size_t left = len;

    while (left && !c->dead) {
        size_t end = c->out_start + c->out_len, room = sizeof c->out - end;

        if (!room && c->out_start) {
            memmove(c->out, c->out + c->out_start, c->out_len);
            c->out_start = 0;
            continue;
        }
        if (!room) {
            flush_locked(c, how);
            if (c->out_len == sizeof c->out)
                break; /* nobody reads */
            continue;
        }
        size_t n = left < room ? left : room;

        memcpy(c->out + end, p, n);
        c->out_len += (uint32_t)n;
        p += n;
        left -= n;
    }
    bool whole = line || c->m->boot.runtime;

    if (c->out_len >= sizeof c->out / 2 || (whole && clock_ns() - c->last_flush > QUIET_NS))
        flush_locked(c, FLUSH_TRY);
    else if (whole && c->early < EARLY_WRITES && loop_alone(c->m)) {
        c->early++;
        flush_locked(c, FLUSH_TRY);
    }
    if (c->out_len && !c->flush_armed && !c->out_wait) {
        c->flush_armed = true;
        loop_flush_soon(c->m);
    }
    return c->dead ? len : len - left;
}

void console_write(struct machine *m, const void *buf, size_t len)
{
    struct console *c = m->console;

    pthread_mutex_lock(&c->lock);
    put_output(c, buf, len, FLUSH_WAIT);
    pthread_mutex_unlock(&c->lock);
}

void console_before_errors(struct machine *m)
{
    struct console *c = m->console;

    if (c->with_errors)
        console_flush(m, FLUSH_WAIT);
}

int console_write_program(struct machine *m, const void *buf, size_t len, bool through)
{
    struct console *c = m->console;

    pthread_mutex_lock(&c->lock);
    c->through = through;
    put_output(c, buf, len, FLUSH_WAIT);
    if (through)
        flush_locked(c, FLUSH_WAIT);
    int err = c->error;

    c->error = 0;
    if (err) /* it is told that nothing of this was written: so it is */
        c->out_start = c->out_len = 0;
    pthread_mutex_unlock(&c->lock);
    return -err;
}

void console_settle_error(struct console *c)
{
    pthread_mutex_lock(&c->lock);
    if (c->error && !c->dead)
        fail(c, c->error);
    pthread_mutex_unlock(&c->lock);
}

size_t console_write_some(struct machine *m, const void *buf, size_t len)
{
    struct console *c = m->console;

    /* Somebody who waits for stdout to move may have it for long. */
    if (pthread_mutex_trylock(&c->lock))
        return 0;
    size_t n = put_output(c, buf, len, FLUSH_TRY);

    pthread_mutex_unlock(&c->lock);
    return n;
}

/* --- input: with machine.lock held, but for the looks that decide what to poll --- */

bool console_wants_input(struct console *c)
{
    if (c->eof)
        return false;
    /* From a terminal the escape keys must always come through. */
    return c->tty || ((c->wanted || c->hvc_reads) && c->rx_count == 0);
}

static void put(struct console *c, uint8_t byte)
{
    /* Only a terminal gets here with a full queue: more type-ahead is dropped, as ttys do. */
    if (c->rx_count == sizeof c->rx)
        return;
    c->rx[(c->rx_head + c->rx_count++) % sizeof c->rx] = byte;
}

/* A runtime guest waits for input, or for its end. */
static void tell_runtime(struct console *c)
{
    uint8_t vector = c->m->input_vector;

    c->m->input_vector = 0;
    if (vector)
        apic_deliver(&c->m->cpus, 0, false, 0, vector, false, NULL);
}

/* A byte after Ctrl-A. */
static void escape_key(struct console *c, uint8_t byte)
{
    switch (byte) {
    case 'x':
    case 'X':
        machine_stop(c->m, STATUS_SIGNAL + SIGINT, "Ctrl-A x");
        break;
    case 'h':
    case '?':
        msg_error("Ctrl-A x quits, Ctrl-A Ctrl-A sends one Ctrl-A, Ctrl-A c is reserved");
        break;
    case 'c':
        msg_error("Ctrl-A c is reserved and does nothing yet");
        break;
    case CTRL_A:
        put(c, byte);
        break;
    default: /* not ours: both keys were meant for the guest */
        put(c, CTRL_A);
        put(c, byte);
    }
}

void console_input(struct console *c)
{
    uint8_t buf[sizeof c->rx];
    ssize_t n = read(0, buf, c->tty ? 256 : sizeof buf - c->rx_count);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        c->in_error = n < 0 ? errno : 0;
        c->eof = true; /* after an error too nothing more comes */
        /* A program is told as it would be on the host; EIO is a terminal's hang-up. */
        if (c->in_error && c->in_error != EIO && !c->m->boot.runtime)
            msg_error("stdin: cannot read the guest's input: %s", strerror(c->in_error));
        tell_runtime(c);
        return;
    }
    if (!c->tty) { /* there is room for n */
        uint32_t at = (c->rx_head + c->rx_count) % sizeof c->rx;
        uint32_t run = (uint32_t)sizeof c->rx - at;

        run = run < (uint32_t)n ? run : (uint32_t)n;
        memcpy(c->rx + at, buf, run);
        memcpy(c->rx, buf + run, (uint32_t)n - run);
        c->rx_count += (uint32_t)n;
    }
    for (ssize_t i = 0; c->tty && i < n; i++) {
        if (c->escape) {
            c->escape = false;
            escape_key(c, buf[i]);
        } else if (buf[i] == CTRL_A) {
            c->escape = true;
        } else {
            put(c, buf[i]);
        }
    }
    if (c->hvc_reads)
        vconsole_look(c->hvc);
    else
        console_pump(c);
}

void console_pump(struct console *c)
{
    /* A runtime guest reads by hypercall; a driver of hvc0 gets all there is. */
    if (c->m->boot.runtime || c->hvc_reads) {
        if (c->rx_count)
            tell_runtime(c);
        return;
    }
    if (!(c->m->serial.ier & 1))
        c->flowing = false;
    while (c->flowing && c->rx_count) {
        uint32_t run = sizeof c->rx - c->rx_head;
        unsigned n =
            serial_receive(c->m, c->rx + c->rx_head, run < c->rx_count ? run : c->rx_count);

        if (!n)
            break;
        c->rx_head = (uint32_t)((c->rx_head + n) % sizeof c->rx);
        c->rx_count -= n;
    }
}

/*
 * The guest can take input. A driver that probes the port turns the receiver's interrupt on for an
 * instant, and clears the FIFO later: what came early would be lost. So nothing flows before the
 * interrupt has been on for a millisecond; from then on at once.
 */
void console_rx_space(struct machine *m)
{
    struct console *c = m->console;

    if (c->eof && !c->rx_count)
        return;
    if (!c->flowing) {
        /* A guest that polls comes here all the time: the moment began with the first. */
        if (c->settling)
            return;
        c->on_since = clock_ns();
        c->settling = true;
        loop_wake(m);
    } else if (c->rx_count) {
        console_pump(c);
        if (!c->rx_count)
            loop_wake(m);
    }
}

uint64_t console_settles_at(struct console *c)
{
    return atomic_load(&c->settling) ? c->on_since + QUIET_NS : 0;
}

void console_settle(struct console *c)
{
    c->settling = false;
    if (!(c->m->serial.ier & 1))
        return;
    c->flowing = true;
    c->wanted = true;
    console_pump(c);
}

int console_ready(struct machine *m)
{
    struct console *c = m->console;

    if (!c->rx_count && !c->eof && !c->wanted) {
        c->wanted = true;
        loop_wake(m);
    }
    return c->rx_count || c->eof;
}

int console_read(struct machine *m, uint8_t *buf, unsigned len)
{
    struct console *c = m->console;
    unsigned n = 0;

    while (n < len && c->rx_count) {
        uint32_t run = (uint32_t)sizeof c->rx - c->rx_head;

        run = run < c->rx_count ? run : c->rx_count;
        run = run < len - n ? run : len - n;
        memcpy(buf + n, c->rx + c->rx_head, run);
        c->rx_head = (uint32_t)((c->rx_head + run) % sizeof c->rx);
        c->rx_count -= run;
        n += run;
    }
    if (!c->rx_count && !c->eof && (n || !c->wanted)) {
        c->wanted = true;
        loop_wake(m);
    }
    if (n || !len)
        return (int)n;
    return c->eof ? -c->in_error : -EAGAIN;
}
