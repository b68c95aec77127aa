/* Threads: a queue of those that are ready, deadlines of those that wait, clone and exit. */
#include <asm/unistd.h>
#include <linux/sched.h>
#include "guests/runtime/futex.h"
#include "guests/runtime/net.h"
#include "guests/runtime/process.h"
#include "guests/runtime/timers.h"

#define SLICE       (4 * NS / 1000)
#define MAX_THREADS 4096u

struct thread *current;
static struct thread *all, *run_head, *run_tail, *dead;
static uint32_t last_tid;
static unsigned count;
static uint64_t earliest = NEVER; /* no deadline is before it */
static uint64_t slice_end, switched_at, idle_ns, turns;
static bool must_yield, rearm;
char poll_key, input_key;
uint64_t poll_changes = 1, net_timer = NEVER;

struct thread *thread_list(void)
{
    return all;
}

unsigned thread_count(void)
{
    return count;
}

struct thread *thread_find(uint32_t tid)
{
    struct thread *t = all;

    while (t && t->tid != tid)
        t = t->next;
    return t;
}

bool thread_is_known(uint32_t tid)
{
    return tid == 1 || thread_find(tid);
}

uint64_t thread_cpu_ns(void)
{
    return current->cpu_ns + clock_ns() - switched_at;
}

static uint64_t started_at;
uint64_t process_cpu_ns(void)
{
    return clock_ns() - started_at - idle_ns;
}

/* The timer fires at the next deadline, and when others wait for their turn at the slice's end. Set
 * when the program goes on or the CPU sleeps: what changes before that only sets rearm. */
static void arm(void)
{
    if (!rearm)
        return;
    rearm = false;
    uint64_t t = least(least(earliest, timers_next), net_timer);

    if (run_head && slice_end < t)
        t = slice_end;
    timer_arm(t);
}

void thread_timers_changed(void)
{
    rearm = true;
}

static void enqueue(struct thread *t)
{
    t->next_run = NULL;
    if (run_tail)
        run_tail->next_run = t;
    else
        run_head = t;
    run_tail = t;
}

void thread_ready(struct thread *t, int result)
{
    if (t->state != WAITING)
        return;
    t->state = READY;
    t->wait = NULL;
    t->futex = 0;
    t->result = result;
    enqueue(t);
    rearm = true;
}

unsigned thread_wake(const void *key)
{
    unsigned n = 0;

    poll_changes += key == &poll_key;
    for (struct thread *t = all; t; t = t->next)
        if (t->state == WAITING && t->wait == key) {
            thread_ready(t, 0);
            n++;
        }
    return n;
}

static void expire(void)
{
    uint64_t now = clock_ns(), next = NEVER;

    if (timers_next <= now)
        timers_tick();
    if (net_timer <= now)
        net_tick();
    if (earliest > now)
        return;
    for (struct thread *t = all; t; t = t->next) {
        if (t->state != WAITING || t->deadline == NEVER)
            continue;
        if (t->deadline <= now)
            thread_ready(t, -ETIMEDOUT);
        else if (t->deadline < next)
            next = t->deadline;
    }
    earliest = next;
}

void thread_interrupt(bool input)
{
    if (input) {
        thread_wake(&input_key);
        thread_wake(&poll_key);
    }
    expire();
    must_yield = run_head != NULL;
    rearm = true;
}

static void idle(void)
{
    uint64_t from = clock_ns();

    expire();
    if (!run_head) {
        arm();
        cpu_idle();
    }
    idle_ns += clock_ns() - from;
}

static void bury(void)
{
    if (!dead)
        return;
    if (dead->fpu)
        kfree(dead->fpu, PAGE);
    stack_free(dead->stack_top);
    kfree(dead, sizeof *dead);
    dead = NULL;
}

/* Give the CPU to the next in the queue; the caller has put itself where it belongs. */
static void schedule(void)
{
    struct thread *from = current, *to;

    from->cpu_ns += clock_ns() - switched_at;
    while (!run_head)
        idle();
    to = run_head;
    run_head = to->next_run;
    if (!run_head)
        run_tail = NULL;
    switched_at = clock_ns();
    slice_end = switched_at + SLICE;
    must_yield = false;
    rearm = true;
    if (to == from)
        return;
    if (from != dead) {
        if (!from->fpu)
            from->fpu = kalloc(PAGE);
        if (!from->fpu)
            panic("mayfly: out of memory for threads: give more with -m");
        fpu_save(from->fpu);
    }
    fpu_load(to->fpu);
    current = to;
    cpu_set_kernel_stack((uintptr_t)to->stack_top);
    cpu_set_fs(to->fs);
    cpu_set_gs(to->gs);
    switch_stacks(&from->sp, to->sp);
    bury();
}

int64_t thread_wait(const void *key, uint64_t deadline)
{
    struct thread *t = current;

    if (signal_waits(t))
        return -ERESTARTSYS;
    t->state = WAITING;
    t->wait = key;
    t->deadline = deadline;
    t->turn = turns++;
    if (deadline < earliest)
        earliest = deadline;
    rearm = true;
    schedule();
    return t->result;
}

void thread_yield(void)
{
    if (!run_head)
        return;
    enqueue(current);
    schedule();
}

void thread_leave(struct regs *r)
{
    if (must_yield)
        thread_yield();
    arm();
    while (signal_waits(current) || current->mask_saved)
        signal_deliver(r);
}

void thread_started(struct regs *r);
void thread_started(struct regs *r)
{
    bury();
    thread_leave(r);
}

static struct thread *make(const struct regs *r)
{
    struct thread *t = kalloc(sizeof *t);

    if (t)
        t->stack_top = stack_alloc();
    if (!t || !t->stack_top) {
        kfree(t, sizeof *t);
        return NULL;
    }
    struct regs *top = (struct regs *)t->stack_top - 1;
    uint64_t *sp = (uint64_t *)top;

    *top = *r;
    *--sp = (uintptr_t)thread_begin;
    t->sp = (uintptr_t)(sp - 6);
    t->tid = ++last_tid;
    t->deadline = NEVER;
    t->next = all;
    all = t;
    count++;
    return t;
}

_Noreturn void thread_first(const struct regs *r)
{
    uint64_t unused;

    current = make(r);
    if (!current)
        panic("mayfly: too little memory for this program: give more with -m");
    switched_at = started_at = clock_ns();
    cpu_set_kernel_stack((uintptr_t)current->stack_top);
    switch_stacks(&unused, current->sp);
    __builtin_unreachable();
}

#define THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)

static int64_t clone_thread(uint64_t flags, uint64_t sp, uint64_t ptid, uint64_t ctid, uint64_t tls)
{
    struct regs r = *syscall_regs;
    struct thread *t;

    if ((flags & THREAD_FLAGS) != THREAD_FLAGS) {
        static bool said;

        if (!said)
            say("mayfly: %s: fork: a program runs alone here and cannot start another",
                program_name());
        said = true;
        return -ENOSYS;
    }
    if (count >= MAX_THREADS)
        return -EAGAIN;
    r.rax = 0;
    if (sp)
        r.rsp = sp;
    void *fpu = kalloc(PAGE);

    t = fpu ? make(&r) : NULL;
    if (!t) {
        kfree(fpu, PAGE);
        return -EAGAIN;
    }
    t->fpu = fpu;
    fpu_save(fpu);
    t->fs = flags & CLONE_SETTLS ? tls : current->fs;
    t->gs = current->gs;
    t->mask = current->mask;
    if (!(current->policy & SCHED_RESET_ON_FORK)) {
        t->policy = current->policy;
        t->priority = current->priority;
    }
    copy(t->name, current->name, sizeof t->name);
    if (flags & CLONE_PARENT_SETTID)
        copy_out(ptid, &t->tid, 4);
    if (flags & CLONE_CHILD_SETTID)
        copy_out(ctid, &t->tid, 4);
    if (flags & CLONE_CHILD_CLEARTID)
        t->clear_tid = ctid;
    uint32_t tid = t->tid;

    t->state = WAITING;
    thread_ready(t, 0);
    return tid;
}

int64_t sys_clone(uint64_t flags, uint64_t sp, uint64_t ptid, uint64_t ctid, uint64_t tls)
{
    return clone_thread(flags, sp, ptid, ctid, tls);
}

int64_t sys_clone3(uint64_t args, uint64_t size)
{
    struct clone_args a = {0};

    if (size < CLONE_ARGS_SIZE_VER0 || size > PAGE)
        return -EINVAL;
    if (copy_in(&a, args, least(size, sizeof a)))
        return -EFAULT;
    return clone_thread(a.flags, a.stack + a.stack_size, a.parent_tid, a.child_tid, a.tls);
}

int64_t sys_fork(void)
{
    return clone_thread(0, 0, 0, 0, 0);
}

_Noreturn void thread_exit(int status)
{
    struct thread *t = current, **p = &all;

    if (count == 1)
        machine_exit(status);
    futex_thread_ends(t);
    signal_thread_ends(t);
    if (t->clear_tid) {
        uint32_t zero = 0;

        if (!copy_out(t->clear_tid, &zero, 4))
            futex_wake(t->clear_tid, 1, ~0u);
    }
    while (*p != t)
        p = &(*p)->next;
    *p = t->next;
    count--;
    dead = t;
    schedule();
    __builtin_unreachable();
}
