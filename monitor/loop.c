/*
 * The I/O thread: timers, stdin, console output, signals, --timeout, and all work of the virtio
 * devices. It sleeps in one io_wait() (virtio/io.h), in ppoll() where there is no device, with no
 * period of its own: an idle guest costs it nothing.
 *
 * Its descriptors are made on the thread itself, beside the guest's first instructions; what other
 * threads ask before that is kept in the flags and timers and seen when the loop begins. Where
 * nothing is to be watched from the start, the thread is not even made before somebody asks: the
 * only vCPU, whose filter allows just that (SECCOMP_ALONE), or a signal. To wake a second CPU of
 * the host and to end a second thread costs a guest that prints a line and ends a tenth of its
 * time.
 */
#include "monitor/hvt.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include "seccomp/seccomp.h"
#include "vcpu/hostexec.h"

#define STOP_PATIENCE_NS 250000000u /* for vCPUs to leave what they do */
#define LOCK_PATIENCE_NS 10000000   /* for a device that waits for stdout */
#define TIMER_MAX_NS     3600000000000u

/* A deadline in host TSC; 0 is none. The descriptor is set when a deadline comes closer; when one
 * moves away it is left to fire early, and set again then. */
struct timer {
    pthread_mutex_t lock;
    int fd; /* -1: not made yet */
    uint64_t want, armed;
};

struct loop {
    struct machine *m;
    pthread_t thread;
    struct io *_Atomic io; /* NULL until the thread has made it */
    atomic_bool look;      /* loop_wake() was called */
    atomic_bool alone;     /* there is no thread yet: the vCPU's makes it */
    atomic_bool called;    /* ... because a signal came */
    atomic_bool pit_dirty, finish, dying;
    uint64_t pit_next; /* ns */
    uint64_t stop_by;  /* ns, once the machine has stopped */
    bool timed_out;
    struct timer timer[MAX_VCPUS];
    struct timer flush;
    struct io_op flush_op, timer_op[MAX_VCPUS];
    struct std {
        struct io_op op;
        int file;
        bool ready;
    } in, out;
};

static struct loop the_loop;

static void *loop_thread(void *arg);

/* 0, -errno. */
static int make_thread(struct loop *l)
{
    signals_block();
    return -pthread_create(&l->thread, NULL, loop_thread, l->m);
}

/* The thread is wanted. Without one, the caller is the vCPU's. */
static void rouse(struct loop *l)
{
    if (!atomic_load_explicit(&l->alone, memory_order_relaxed))
        return;
    atomic_store(&l->alone, false);
    int err = make_thread(l);

    if (!err && this_vcpu && l->m->cfg->seccomp)
        err = seccomp_install(machine_vcpu_filter(l->m));
    if (!err)
        return;
    msg_error("cannot start the I/O thread: %s%s", strerror(-err),
              err == -EAGAIN ? "; allow more of them (ulimit -u)" : "");
    loop_end_now(STATUS_FAILURE);
}

bool loop_alone(const struct machine *m)
{
    return atomic_load(&m->loop->alone);
}

void loop_attend(struct machine *m)
{
    if (!atomic_load_explicit(&m->loop->called, memory_order_relaxed))
        return;
    rouse(m->loop);
    /* No signal sets these any more. */
    atomic_store(&m->loop->called, false);
    atomic_store(&m->cpus.vcpu[0]->pause, false);
}

void loop_need(const struct machine *m)
{
    rouse(m->loop);
}

void loop_before_write(int fd, size_t len)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    if (atomic_load_explicit(&the_loop.alone, memory_order_relaxed) &&
        (len > PIPE_BUF || poll(&p, 1, 0) <= 0))
        rouse(&the_loop);
}

bool loop_signalled(void)
{
    struct loop *l = &the_loop;
    struct io *io = atomic_load(&l->io);

    if (atomic_load(&l->alone)) {
        if (l->m->cpus.stop) /* the thread is past looking */
            return false;
        atomic_store(&l->called, true);
        atomic_store(&l->m->cpus.vcpu[0]->pause, true);
        vcpu_kick(l->m->cpus.vcpu[0]);
    } else if (io) { /* wherever it sleeps: io_uring's wait is entered again after a signal */
        atomic_store(&l->look, true);
        io_wake(io);
    }
    return true;
}

/* --- timers --- */

static void timer_set(struct timer *t, uint64_t hz)
{
    if (t->fd < 0) { /* it will be set when the thread makes it */
        rouse(&the_loop);
        return;
    }
    uint64_t now = __builtin_ia32_rdtsc(), ns = 1;

    if (t->want > now) {
        unsigned __int128 d = (unsigned __int128)(t->want - now) * 1000000000u / hz + 1;

        ns = d < TIMER_MAX_NS ? (uint64_t)d : TIMER_MAX_NS;
    }
    struct itimerspec its = {
        .it_value = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)}};

    t->armed = t->want;
    timerfd_settime(t->fd, 0, &its, NULL);
}

static void timer_arm(struct timer *t, uint64_t tsc, uint64_t hz)
{
    pthread_mutex_lock(&t->lock);
    t->want = tsc;
    if (tsc && (!t->armed || tsc < t->armed))
        timer_set(t, hz);
    pthread_mutex_unlock(&t->lock);
}

/* The descriptor fired: is the deadline there, or is there a later one to set? */
static bool timer_fired(struct timer *t, uint64_t hz)
{
    uint64_t count;
    bool due = false;

    pthread_mutex_lock(&t->lock);
    if (read(t->fd, &count, sizeof count) == sizeof count) {
        t->armed = 0;
        due = t->want && t->want <= __builtin_ia32_rdtsc();
        if (due)
            t->want = 0;
        else if (t->want)
            timer_set(t, hz);
    }
    pthread_mutex_unlock(&t->lock);
    return due;
}

static int timer_open(struct timer *t, uint64_t hz)
{
    pthread_mutex_lock(&t->lock);
    t->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int err = t->fd < 0 ? -errno : 0;

    if (t->want)
        timer_set(t, hz);
    pthread_mutex_unlock(&t->lock);
    return err;
}

void loop_arm_timer(void *opaque, unsigned index, uint64_t tsc)
{
    struct machine *m = opaque;

    timer_arm(&m->loop->timer[index], tsc, m->cpus.tsc_hz);
}

void loop_timer_idle(struct machine *m, unsigned index, bool idle)
{
    static const struct itimerspec off;
    struct timer *t = &m->loop->timer[index];

    pthread_mutex_lock(&t->lock);
    if (idle && t->armed) {
        t->armed = 0;
        timerfd_settime(t->fd, 0, &off, NULL);
    } else if (!idle && !t->armed) {
        /* A deadline that has passed is seen by run() itself. */
        if (t->want > __builtin_ia32_rdtsc())
            timer_set(t, m->cpus.tsc_hz);
        else
            t->want = 0;
    }
    pthread_mutex_unlock(&t->lock);
}

void loop_flush_soon(struct machine *m)
{
    struct timer *t = &m->loop->flush;

    pthread_mutex_lock(&t->lock);
    if (!t->want) {
        t->want = __builtin_ia32_rdtsc() + m->cpus.tsc_hz / 1000;
        if (!t->armed)
            timer_set(t, m->cpus.tsc_hz);
    }
    pthread_mutex_unlock(&t->lock);
}

/* --- the rest of what other threads call --- */

void loop_wake(struct machine *m)
{
    atomic_store(&m->loop->look, true);
    rouse(m->loop);
    struct io *io = atomic_load(&m->loop->io);

    if (io)
        io_wake(io);
}

static void pit_written(struct vm_cpus *vm)
{
    struct machine *m = vm->machine;

    atomic_store(&m->loop->pit_dirty, true);
    loop_wake(m);
}

_Noreturn void wait_forever(void)
{
    static uint32_t never;

    for (;;)
        syscall(SYS_futex, &never, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

_Noreturn void loop_finish(struct machine *m)
{
    atomic_store(&m->loop->finish, true);
    loop_wake(m);
    wait_forever();
}

/* The thread that called is about to die of a fault. A vCPU's filter does not let it at the
 * terminal: this thread puts it back, if it can within a moment. */
static void on_dying(void)
{
    static const struct timespec tick = {.tv_nsec = 10000000};
    static uint32_t never;

    if (!this_vcpu) {
        console_restore();
        return;
    }
    struct machine *m = this_vcpu->vm->machine;

    atomic_store(&m->loop->dying, true);
    loop_wake(m);
    for (unsigned i = 0; i < 20 && console_is_raw(); i++)
        syscall(SYS_futex, &never, FUTEX_WAIT_PRIVATE, 0, &tick, NULL, 0);
}

/* --- the thread --- */

_Noreturn void loop_end_now(int status)
{
    console_restore();
    _exit(status);
}

bool loop_lock(struct machine *m)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += LOCK_PATIENCE_NS;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    if (!pthread_mutex_timedlock(&m->lock, &t))
        return true;
    loop_wake(m);
    return false;
}

static bool take_input(struct machine *m, void (*take)(struct console *))
{
    if (!loop_lock(m))
        return false;
    take(m->console);
    pthread_mutex_unlock(&m->lock);
    return true;
}

/* What is due now; returns when the loop has to look again, in ns, 0 = never. */
static uint64_t take_deadlines(struct machine *m, struct loop *l)
{
    uint64_t now = clock_ns(), next = 0, end = m->t.main + m->cfg->timeout_ns;

    if (atomic_exchange(&l->pit_dirty, false) || (l->pit_next && now >= l->pit_next))
        l->pit_next = pit_poll(&m->cpus.irqchip, now);
    next = l->pit_next;
    if (m->cfg->timeout_ns && !l->timed_out) {
        if (now >= end) {
            l->timed_out = true;
            /* Stopped before that, but nobody reads the last of the output: no more waiting. */
            if (m->cpus.stop)
                loop_end_now(STATUS_TIMEOUT);
            machine_stop(m, STATUS_TIMEOUT, "timeout");
        } else if (!next || end < next) {
            next = end;
        }
    }
    if (m->cpus.stop) {
        if (!l->stop_by)
            l->stop_by = now + STOP_PATIENCE_NS;
        if (atomic_load(&l->finish))
            loop_end_now(machine_last_words(m));
        if (!atomic_load(&machine_finishing)) {
            /* A vCPU that does not come back in time is left where it is. */
            if (now >= l->stop_by && !atomic_exchange(&machine_finishing, true)) {
                console_flush(m, FLUSH_TRY);
                loop_end_now(machine_last_words(m));
            }
            if (!next || l->stop_by < next)
                next = l->stop_by;
        }
    }
    return next;
}

/* --- descriptors --- */

static void on_timer(struct io_op *op, int res)
{
    struct machine *m = the_loop.m;
    unsigned i = (unsigned)(op - the_loop.timer_op);

    if (res > 0 && timer_fired(&the_loop.timer[i], m->cpus.tsc_hz))
        vcpu_kick(m->cpus.vcpu[i]);
}

static void on_flush(struct io_op *op, int res)
{
    struct machine *m = the_loop.m;

    (void)op;
    if (res > 0 && timer_fired(&the_loop.flush, m->cpus.tsc_hz))
        console_flush(m, FLUSH_TRY);
}

static void on_std(struct io_op *op, int res)
{
    struct std *s = (struct std *)((char *)op - offsetof(struct std, op));

    (void)res; /* an error shows when it is read or written */
    s->ready = true;
}

/* Poll stdin or stdout while somebody waits for it; is it ready? */
static bool std_ready(struct loop *l, struct std *s, bool wanted, unsigned events)
{
    bool ready = wanted && s->ready;

    s->ready = false;
    if (ready)
        return true;
    if (wanted && !s->op.busy) {
        if (s->file < 0)
            return true; /* closed, or a kind that cannot be polled */
        io_poll(l->io, &s->op, s->file, events, false);
    }
    return false;
}

static int watch(struct io *io, struct io_op *op, io_done *done, int fd)
{
    int file = io_file_add(io, fd, IO_POLL_ONLY);

    if (file < 0)
        return file;
    op->done = done;
    io_poll(io, op, file, POLLIN, true);
    return 0;
}

/* The filter that lets this run's devices work. */
static enum seccomp_kind io_kind(const struct machine *m)
{
    unsigned with = 0;

    for (unsigned i = 0; i < m->virtio.ndev; i++) {
        if (m->virtio.dev[i]->ops->id == VIRTIO_ID_VSOCK)
            with |= SECCOMP_WITH_VSOCK;
        if (m->virtio.dev[i]->ops->id == VIRTIO_ID_FS)
            with |= SECCOMP_WITH_FS;
    }
    if (m->hvt && m->hvt->dump_fd >= 0)
        with |= SECCOMP_WITH_FS;
    return SECCOMP_IO + with;
}

static int confine(void)
{
    return seccomp_install(io_kind(the_loop.m));
}

/* With shared directories: no other file from here on, for this thread and its helpers. */
static int fence(const struct machine *m)
{
    struct seccomp_dir dir[VIRTIO_SLOTS];
    unsigned n = 0;
    bool vsock = false;

    for (unsigned i = 0; i < m->virtio.ndev; i++) {
        const struct virtio_dev *dev = m->virtio.dev[i];

        vsock |= dev->ops->id == VIRTIO_ID_VSOCK; /* removes its socket at the end */
        if (dev->ops->id == VIRTIO_ID_FS) {
            dir[n].fd = fs_directory(dev, &dir[n].read_only);
            n++;
        }
    }
    if (m->hvt && m->hvt->dump_fd >= 0)
        dir[n++] = (struct seccomp_dir){.fd = m->hvt->dump_fd};
    int err = n ? seccomp_beneath(dir, n, vsock) : 0;

    if (err == -EOPNOTSUPP)
        msg_verbose("shares: this kernel has no Landlock, mayfly's own confinement stands alone");
    else if (err)
        msg_error("Landlock: %s; --seccomp off runs without it", strerror(-err));
    return err == -EOPNOTSUPP ? 0 : err;
}

static int open_all(struct machine *m, struct loop *l)
{
    uint64_t hz = m->cpus.tsc_hz;
    struct io *io;
    int err = timer_open(&l->flush, hz);

    for (unsigned i = 0; i < m->cpus.nvcpu && !err; i++)
        err = timer_open(&l->timer[i], hz);
    if (!err)
        err = io_create(&io, m->virtio.ndev ? IO_BACKEND_URING : IO_BACKEND_POLL);
    /* Devices under load sleep for tens of microseconds at a time. */
    if (m->virtio.ndev)
        prctl(PR_SET_TIMERSLACK, 1000);
    if (!err)
        err = watch(io, &l->flush_op, on_flush, l->flush.fd);
    for (unsigned i = 0; i < m->cpus.nvcpu && !err; i++)
        err = watch(io, &l->timer_op[i], on_timer, l->timer[i].fd);
    if (err)
        return err;
    l->in.op.done = l->out.op.done = on_std;
    l->in.file = io_file_add(io, 0, IO_POLL_ONLY);
    l->out.file = io_file_add(io, 1, IO_POLL_ONLY);
    if (m->cfg->seccomp)
        io_pool_confine = confine;
    err = devices_attach(m, io);
    if (!err && m->cfg->seccomp)
        err = fence(m);
    if (!err)
        err = io_enable(io);
    if (err)
        return err;
    if (io_refused(io))
        msg_error("io_uring is not used: %s; disks and the like go through threads instead",
                  io_refused(io));
    atomic_store(&l->io, io);
    return m->cfg->seccomp ? confine() : 0;
}

static void wait_and_take(struct machine *m, struct loop *l, const sigset_t *mask)
{
    uint64_t answer = signals_take(m), next = take_deadlines(m, l), t;

    if (answer && (!next || answer < next))
        next = answer;
    /* The receiver was switched on: stdin flows once it has been on for a moment. */
    t = console_settles_at(m->console);
    if (t && clock_ns() >= t)
        take_input(m, console_settle);
    else if (t && (!next || t < next))
        next = t;
    if (std_ready(l, &l->in, console_wants_input(m->console), POLLIN))
        take_input(m, console_input);
    if (std_ready(l, &l->out, console_output_waits(m->console), POLLOUT)) {
        console_flush(m, FLUSH_TRY);
        hvc_room(m->console);
    }
    if (m->virtio.ndev) {
        t = virtio_bus_run(&m->virtio);
        if (t && (!next || t < next))
            next = t;
    }
    /* From here on whoever sets a flag wakes us. */
    io_doze(l->io);
    if (atomic_load(&l->look) || atomic_load(&m->virtio.bells))
        next = 1;
    io_wait(l->io, next, mask);
    if (atomic_load(&l->dying))
        console_restore();
    if (atomic_exchange(&l->look, false) && m->console->rx_count)
        take_input(m, console_pump);
}

/* Is there nothing to watch before somebody asks, and one vCPU to ask? What a thread that is made
 * late may do, the vCPU may do until then: no statistics file. */
static bool may_begin_alone(const struct machine *m)
{
    return m->cpus.nvcpu == 1 && !m->virtio.ndev && !m->cfg->timeout_ns && !m->console->tty &&
           !m->gdb && !m->hvt && !m->cfg->stats_file;
}

static void *loop_thread(void *arg)
{
    struct machine *m = arg;
    struct loop *l = m->loop;
    sigset_t mask;

    sigprocmask(SIG_SETMASK, NULL, &mask);
    signals_open(&mask);
    int err = open_all(m, l);

    if (err) {
        msg_error("the I/O thread cannot start: %s%s", strerror(-err),
                  err == -EMFILE ? "; allow more of them (ulimit -n)" : "");
        loop_end_now(STATUS_FAILURE);
    }
    hostfault_dying = on_dying;
    for (;;)
        wait_and_take(m, l, &mask);
    return NULL;
}

void loop_init(struct machine *m)
{
    struct loop *l = &the_loop;

    l->m = m;
    m->loop = l;
    for (unsigned i = 0; i < MAX_VCPUS; i++)
        l->timer[i] = (struct timer){.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};
    l->flush = (struct timer){.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};
    pit_changed = pit_written;
}

int loop_start(struct machine *m)
{
    bool alone = may_begin_alone(m);

    /* In this order: a signal that is taken finds who is to look after it. */
    atomic_store(&m->loop->alone, alone);
    signals_begin(m);
    if (!alone)
        return make_thread(m->loop);
    signals_unblock();
    return 0;
}
