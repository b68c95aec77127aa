/*
 * What goes off at a time: setitimer and alarm, timer_create, timerfd. All are one list; the
 * scheduler is told of the earliest (timers_next) and calls timers_tick() when it has come. Timers
 * of CPU time are looked at when they could have come at the soonest, and again if they have not.
 */
#include "guests/runtime/timers.h"
#include <asm/fcntl.h>
#include <asm/poll.h>
#include <linux/time.h>
#include <linux/timerfd.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/process.h"

#define MAX_TIMERS 1024
#define SHORTEST   (20 * NS / 1000000)
#define TFD_FLAGS  (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)

struct timer {
    struct timer *next;
    uint64_t deadline, interval; /* ns; NEVER: not set */
    uint64_t expired;            /* since it was read, or since its signal was taken */
    bool cpu;                    /* of process_cpu_ns() rather than clock_ns() */
    bool wall;                   /* absolute times are CLOCK_REALTIME's */
    bool descriptor;             /* a timerfd; else it sends signal */
    int signal, code;
    uint32_t tid; /* to whom, 0: the process */
    int32_t id;   /* of timer_create(); -1: none */
    uint64_t value;
};

uint64_t timers_next = NEVER;
static struct timer *timers;
static unsigned count;
static struct timer itimers[3] = {
    {.deadline = NEVER, .signal = SIGALRM, .code = SI_KERNEL, .id = -1},
    {.deadline = NEVER, .signal = SIGVTALRM, .code = SI_KERNEL, .id = -1, .cpu = true},
    {.deadline = NEVER, .signal = SIGPROF, .code = SI_KERNEL, .id = -1, .cpu = true}};

static uint64_t now_of(const struct timer *t)
{
    return t->cpu ? process_cpu_ns() : clock_ns();
}

static void look_again(void)
{
    uint64_t now = clock_ns();

    timers_next = NEVER;
    for (const struct timer *t = timers; t; t = t->next) {
        uint64_t own = now_of(t), at = t->deadline;

        if (at == NEVER)
            continue;
        at = at > own ? now + (at - own) : now;
        if (at < timers_next)
            timers_next = at;
    }
    thread_timers_changed();
}

static void add(struct timer *t)
{
    for (const struct timer *known = timers; known; known = known->next)
        if (known == t)
            return;
    t->next = timers;
    timers = t;
}

static void take_away(struct timer *t)
{
    struct timer **p = &timers;

    while (*p && *p != t)
        p = &(*p)->next;
    if (*p)
        *p = t->next;
    look_again();
}

static void fire(struct timer *t)
{
    struct thread *to = t->tid ? thread_find(t->tid) : NULL;

    if (t->descriptor) {
        thread_wake(t);
        thread_wake(&poll_key);
    } else if (t->signal && (to || !t->tid)) {
        signal_send(to, t->signal, t->code, t->value);
    }
}

void timers_tick(void)
{
    for (struct timer *t = timers; t; t = t->next) {
        uint64_t now = now_of(t), times;

        if (t->deadline > now)
            continue;
        /* One that is shorter than its signal takes to be handled would be all the program does. */
        if (t->interval && t->interval < SHORTEST)
            now += SHORTEST;
        times = t->interval ? (now - t->deadline) / t->interval + 1 : 1;
        t->deadline = t->interval ? t->deadline + times * t->interval : NEVER;
        t->expired += times;
        fire(t);
    }
    look_again();
}

static void set(struct timer *t, uint64_t deadline, uint64_t interval)
{
    t->deadline = deadline;
    t->interval = interval;
    t->expired = 0;
    add(t);
    look_again();
}

static uint64_t left(const struct timer *t)
{
    uint64_t now = now_of(t);

    if (t->deadline == NEVER)
        return 0;
    return t->deadline > now ? t->deadline - now : 1;
}

/* --- setitimer, alarm --- */

struct itimer {
    int64_t interval_s, interval_us, value_s, value_us;
};

static struct itimer itimer_of(const struct timer *t)
{
    uint64_t value = left(t) + 999;

    return (struct itimer){(int64_t)(t->interval / NS), (int64_t)(t->interval % NS / 1000),
                           (int64_t)(value / NS), (int64_t)(value % NS / 1000)};
}

int64_t sys_setitimer(uint64_t which, uint64_t new, uint64_t old)
{
    struct itimer v, was;

    if ((uint32_t)which > 2)
        return -EINVAL;
    struct timer *t = &itimers[(uint32_t)which];

    was = itimer_of(t);
    if (new) {
        if (copy_in(&v, new, sizeof v))
            return -EFAULT;
        if ((uint64_t)v.interval_us > 999999 || (uint64_t)v.value_us > 999999 ||
            (uint64_t)v.interval_s > 9000000000 || (uint64_t)v.value_s > 9000000000)
            return -EINVAL;
        uint64_t value = (uint64_t)v.value_s * NS + (uint64_t)v.value_us * 1000;

        set(t, value ? now_of(t) + value : NEVER,
            (uint64_t)v.interval_s * NS + (uint64_t)v.interval_us * 1000);
    }
    return old ? copy_out(old, &was, sizeof was) : 0;
}

int64_t sys_getitimer(uint64_t which, uint64_t out)
{
    return out ? sys_setitimer(which, 0, out) : -EFAULT;
}

int64_t sys_alarm(uint64_t seconds)
{
    uint64_t was = left(&itimers[0]);

    set(&itimers[0], (uint32_t)seconds ? clock_ns() + (uint32_t)seconds * NS : NEVER, 0);
    return (int64_t)((was + NS - 1) / NS);
}

/* --- what timer_settime() and timerfd_settime() have in common --- */

struct itimerspec64 {
    struct timespec64 interval, value;
};

/* A new timer on that clock; NULL: there is no such clock (-EINVAL), or no room. */
static struct timer *make(uint64_t clock, int *err)
{
    int which = (int)clock;
    bool cpu = which == CLOCK_PROCESS_CPUTIME_ID || which == CLOCK_THREAD_CPUTIME_ID || which < 0;
    bool wall = which == CLOCK_REALTIME || which == CLOCK_REALTIME_ALARM;
    struct timer *t = NULL;

    *err = -EINVAL;
    if (cpu || wall || which == CLOCK_MONOTONIC || which == CLOCK_BOOTTIME ||
        which == CLOCK_BOOTTIME_ALARM) {
        *err = -EAGAIN;
        t = count < MAX_TIMERS ? kalloc(sizeof *t) : NULL;
    }
    if (t) {
        *t = (struct timer){.deadline = NEVER, .cpu = cpu, .wall = wall, .id = -1};
        count++;
    }
    return t;
}

static void unmake(struct timer *t)
{
    take_away(t);
    kfree(t, sizeof *t);
    count--;
}

static int spec_out(const struct timer *t, uint64_t out)
{
    uint64_t value = left(t);
    struct itimerspec64 s = {{(int64_t)(t->interval / NS), (int64_t)(t->interval % NS)},
                             {(int64_t)(value / NS), (int64_t)(value % NS)}};

    return copy_out(out, &s, sizeof s);
}

static int64_t set_spec(struct timer *t, bool absolute, uint64_t new, uint64_t old)
{
    uint64_t interval, value;
    int err = timespec_in(new, &interval);

    if (!err)
        err = timespec_in(new + 16, &value);
    if (!err && old)
        err = spec_out(t, old);
    if (err)
        return err;
    if (!value) {
        value = NEVER;
    } else if (!absolute) {
        value += now_of(t);
    } else if (t->wall) {
        uint64_t wall = (uint64_t)clock_wall();

        value = value > wall ? value - wall : 0;
    }
    set(t, value, interval);
    return 0;
}

/* --- timer_create --- */

static struct timer *timer_of(uint64_t id)
{
    struct timer *t = timers;

    while (t && (t->id != (int32_t)id || t->id < 0))
        t = t->next;
    return t;
}

/* struct sigevent: value, signal, how (SIGEV_*), thread. */
struct event {
    uint64_t value;
    int32_t signal, how, tid;
};
enum { EVENT_SIGNAL, EVENT_NONE, EVENT_THREAD, EVENT_THREAD_ID = 4 };

int64_t sys_timer_create(uint64_t clock, uint64_t event, uint64_t out)
{
    static int32_t last = -1;
    struct event e = {.signal = SIGALRM, .how = EVENT_SIGNAL};
    int err;

    if (event && copy_in(&e, event, sizeof e))
        return -EFAULT;
    if (e.how != EVENT_NONE && (e.signal < 1 || e.signal > NSIG_MAX))
        return -EINVAL;
    if (e.how == EVENT_THREAD_ID && !thread_find((uint32_t)e.tid))
        return -EINVAL;
    struct timer *t = make(clock, &err);

    if (!t)
        return err;
    t->signal = e.how == EVENT_NONE ? 0 : e.signal;
    t->code = SI_TIMER;
    t->tid = e.how == EVENT_THREAD_ID ? (uint32_t)e.tid : 0;
    t->id = last = last == INT32_MAX ? 0 : last + 1;
    t->value = event ? e.value : (uint64_t)last;
    add(t);
    if (!copy_out(out, &t->id, 4))
        return 0;
    unmake(t);
    return -EFAULT;
}

int64_t sys_timer_settime(uint64_t id, uint64_t flags, uint64_t new, uint64_t old)
{
    struct timer *t = timer_of(id);

    return t ? set_spec(t, flags & TFD_TIMER_ABSTIME, new, old) : -EINVAL;
}

int64_t sys_timer_gettime(uint64_t id, uint64_t out)
{
    const struct timer *t = timer_of(id);

    return t ? spec_out(t, out) : -EINVAL;
}

int64_t sys_timer_getoverrun(uint64_t id)
{
    struct timer *t = timer_of(id);
    uint64_t n;

    if (!t)
        return -EINVAL;
    n = t->expired ? t->expired - 1 : 0;
    t->expired = 0;
    return (int64_t)least(n, INT32_MAX);
}

int64_t sys_timer_delete(uint64_t id)
{
    struct timer *t = timer_of(id);

    if (!t)
        return -EINVAL;
    unmake(t);
    return 0;
}

/* --- timerfd --- */

static int64_t timerfd_read(struct file *f, uint64_t buf, uint64_t len, uint64_t *pos)
{
    struct timer *t = f->data;
    uint64_t n;

    (void)pos;
    if (len < 8)
        return -EINVAL;
    while (!t->expired) {
        int64_t err = file_wait(f, t);

        if (err)
            return err;
    }
    n = t->expired;
    t->expired = 0;
    return copy_out(buf, &n, 8) ? -EFAULT : 8;
}

static unsigned timerfd_poll(struct file *f)
{
    return ((struct timer *)f->data)->expired ? POLLIN | POLLRDNORM : 0;
}

static void timerfd_release(struct file *f)
{
    unmake(f->data);
}

static const struct file_ops timerfd_ops = {
    .read = timerfd_read, .poll = timerfd_poll, .release = timerfd_release};

int64_t sys_timerfd_create(uint64_t clock, uint64_t flags)
{
    int err;

    if (flags & ~(uint64_t)(TFD_CLOEXEC | TFD_NONBLOCK))
        return -EINVAL;
    struct timer *t = make(clock, &err);

    if (!t || t->cpu) {
        if (t)
            unmake(t);
        return t ? -EINVAL : err;
    }
    struct file *f = file_new(&timerfd_ops, NULL, O_RDWR | ((uint32_t)flags & O_NONBLOCK));

    if (!f) {
        unmake(t);
        return -ENFILE;
    }
    t->descriptor = true;
    f->data = t;
    return fd_install(f, 0, flags & TFD_CLOEXEC);
}

static struct timer *timerfd_of(uint64_t fd, int *err)
{
    struct file *f = fd_file(fd);

    *err = f ? -EINVAL : -EBADF;
    return f && f->ops == &timerfd_ops ? f->data : NULL;
}

int64_t sys_timerfd_settime(uint64_t fd, uint64_t flags, uint64_t new, uint64_t old)
{
    int err;
    struct timer *t = timerfd_of(fd, &err);

    if (!t || flags & ~(uint64_t)TFD_FLAGS)
        return t ? -EINVAL : err;
    return set_spec(t, flags & TFD_TIMER_ABSTIME, new, old);
}

int64_t sys_timerfd_gettime(uint64_t fd, uint64_t out)
{
    int err;
    const struct timer *t = timerfd_of(fd, &err);

    return t ? spec_out(t, out) : err;
}
