/* Signals of the process to itself: pending sets, actions, what a fault becomes, timers. */
#include "guests/runtime/process.h"
#include "guests/runtime/vm.h"

#define IGNORED       (BIT(SIGCHLD) | BIT(SIGURG) | BIT(SIGWINCH) | BIT(SIGCONT))
#define STOPS         (BIT(SIGSTOP) | BIT(SIGTSTP) | BIT(SIGTTIN) | BIT(SIGTTOU))
#define NEVER_BLOCKED (BIT(SIGKILL) | BIT(SIGSTOP))

struct sigaction actions[NSIG_MAX + 1];
uint64_t process_pending;
static int process_code[NSIG_MAX + 1];
static uint64_t process_value[NSIG_MAX + 1];

/* Signals whose default is a core dump: their end is worth a line. */
static const char *const crash_name[NSIG_MAX + 1] = {[SIGQUIT] = "Quit",
                                                     [SIGILL] = "Illegal instruction",
                                                     [SIGTRAP] = "Trace/breakpoint trap",
                                                     [SIGABRT] = "Aborted",
                                                     [SIGBUS] = "Bus error",
                                                     [SIGFPE] = "Floating point exception",
                                                     [SIGSEGV] = "Segmentation fault",
                                                     [SIGXCPU] = "CPU time limit exceeded",
                                                     [SIGXFSZ] = "File size limit exceeded",
                                                     [SIGSYS] = "Bad system call"};

const char *program_name(void)
{
    const char *s = program_path, *name = s;

    for (; s && *s; s++)
        if (*s == '/' && s[1])
            name = s + 1;
    return name ? name : "program";
}

static _Noreturn void die(int sig)
{
    if (crash_name[sig])
        say("%s: %s", program_name(), crash_name[sig]);
    machine_exit(128 + sig);
}

static bool is_ignored(int sig)
{
    return actions[sig].sa_handler == SIG_IGN ||
           (actions[sig].sa_handler == SIG_DFL && (IGNORED | STOPS) & BIT(sig));
}

static void set_info(struct thread *t, int sig, int code, uint64_t value)
{
    t->pending |= BIT(sig);
    t->code[sig] = code;
    t->value[sig] = value;
}

/* A fault cannot wait: a blocked or ignored signal is the end. */
void signal_fault(struct regs *r, const struct fault *f)
{
    int sig = f->signal;

    if (current->mask & BIT(sig) || actions[sig].sa_handler == SIG_IGN ||
        actions[sig].sa_handler == SIG_DFL) {
        say("%s: %s at 0x%x (rip 0x%x)", program_name(), crash_name[sig], f->address, r->rip);
        machine_exit(128 + sig);
    }
    set_info(current, sig, f->code, f->address);
}

bool signal_waits(const struct thread *t)
{
    return (t->pending | process_pending) & ~t->mask;
}

/* Real-time signals that came while one of their number was pending (signal(7)), in order. */
#define QUEUE_MOST 1024u
static struct queued {
    struct queued *next;
    struct thread *to; /* NULL: the process */
    uint64_t value;
    int sig, code;
} * queued, **queue_end = &queued;
static unsigned queue_length;

static bool enqueue(struct thread *to, int sig, int code, uint64_t value)
{
    struct queued *q = queue_length < QUEUE_MOST ? kalloc(sizeof *q) : NULL;

    if (!q)
        return false;
    *q = (struct queued){.to = to, .value = value, .sig = sig, .code = code};
    *queue_end = q;
    queue_end = &q->next;
    queue_length++;
    return true;
}

static void unqueue(struct queued **p)
{
    struct queued *q = *p;

    *p = q->next;
    if (!q->next)
        queue_end = p;
    kfree(q, sizeof *q);
    queue_length--;
}

/* One was taken: the next of its number is pending. */
static void pend_next(struct thread *to, int sig)
{
    struct queued **p = &queued;

    while (*p && ((*p)->to != to || (*p)->sig != sig))
        p = &(*p)->next;
    if (!*p)
        return;
    if (to) {
        set_info(to, sig, (*p)->code, (*p)->value);
    } else {
        process_pending |= BIT(sig);
        process_code[sig] = (*p)->code;
        process_value[sig] = (*p)->value;
    }
    unqueue(p);
}

void signal_thread_ends(const struct thread *t)
{
    for (struct queued **p = &queued; *p;)
        if ((*p)->to == t)
            unqueue(p);
        else
            p = &(*p)->next;
}

int signal_send(struct thread *to, int sig, int code, uint64_t value)
{
    if (sig == SIGKILL)
        machine_exit(128 + SIGKILL);
    if (is_ignored(sig) && !((to ? to : current)->mask & BIT(sig)))
        return 0;
    if (sig >= SIGRTMIN && (to ? to->pending : process_pending) & BIT(sig))
        return enqueue(to, sig, code, value) ? 0 : -EAGAIN;
    if (to) {
        set_info(to, sig, code, value);
    } else {
        process_pending |= BIT(sig);
        process_code[sig] = code;
        process_value[sig] = value;
        if (current->state == READY && !(current->mask & BIT(sig)))
            return 0; /* we take it ourselves */
        for (to = thread_list(); to && to->mask & BIT(sig);)
            to = to->next;
    }
    if (to && !(to->mask & BIT(sig)))
        thread_ready(to, -ERESTARTSYS);
    signalfd_notify();
    return 0;
}

void signals_from_host(void)
{
    /* Before there is a program there is none to be told: the monitor ends who does not ask. */
    uint64_t which = current ? (uint64_t)monitor_call(MAYFLY_CALL_SIGNALS, 0, NULL, 0) : 0;

    for (int sig = 1; which && sig < SIGRTMIN; sig++)
        if (which & BIT(sig))
            signal_send(NULL, sig, SI_USER, 0);
}

static void restart(struct regs *r, bool again)
{
    if (r->vector != (uint64_t)-1 || (int64_t)r->rax != -ERESTARTSYS)
        return;
    if (again) {
        r->rax = r->error;
        r->rip -= 2; /* the SYSCALL itself */
    } else {
        r->rax = (uint64_t)-EINTR;
    }
}

int signal_take(uint64_t among, siginfo_t *info)
{
    struct thread *t = current;
    uint64_t mine = t->pending & among, all = process_pending & among;
    bool own = mine;

    if (!mine && !all)
        return 0;
    int sig = __builtin_ctzll(own ? mine : all) + 1;
    uint64_t value = own ? t->value[sig] : process_value[sig];

    fill(info, 0, sizeof *info);
    info->si_signo = sig;
    info->si_code = own ? t->code[sig] : process_code[sig];
    if (own && info->si_code > 0 && info->si_code != SI_KERNEL)
        info->si_addr = (void *)value;
    else
        *(uint64_t *)((char *)info + 24) = value; /* si_value */
    if (info->si_code == SI_USER || info->si_code == SI_TKILL || info->si_code == SI_QUEUE)
        info->si_pid = 1;
    if (own)
        t->pending &= ~BIT(sig);
    else
        process_pending &= ~BIT(sig);
    if (sig >= SIGRTMIN)
        pend_next(own ? t : NULL, sig);
    return sig;
}

/* One signal, or none left: then the mask of before a ppoll() comes back. */
void signal_deliver(struct regs *r)
{
    struct thread *t = current;
    siginfo_t info;

    if (!signal_waits(t)) {
        restart(r, true);
        if (t->mask_saved)
            t->mask = t->saved_mask;
        t->mask_saved = false;
        return;
    }
    int sig = signal_take(~t->mask, &info);
    struct sigaction *a = &actions[sig];

    if (is_ignored(sig))
        return;
    if (a->sa_handler == SIG_DFL)
        die(sig);
    restart(r, a->sa_flags & SA_RESTART);
    if (!sigframe_push(r, a, &info)) {
        say("%s: Segmentation fault at 0x%x (rip 0x%x), no room for signal %d's handler",
            program_name(), r->rsp, r->rip, (uint64_t)sig);
        machine_exit(128 + SIGSEGV);
    }
    t->mask |= a->sa_mask;
    if (!(a->sa_flags & SA_NODEFER))
        t->mask |= BIT(sig);
    t->mask &= ~NEVER_BLOCKED;
    if (a->sa_flags & SA_RESETHAND)
        a->sa_handler = SIG_DFL;
}

/* --- system calls --- */

int64_t sys_rt_sigaction(uint64_t sig, uint64_t new, uint64_t old, uint64_t size)
{
    struct sigaction a, was;

    if (size != 8 || !sig || sig > NSIG_MAX || (new &&NEVER_BLOCKED &BIT(sig)))
        return -EINVAL;
    was = actions[sig];
    if (new) {
        if (copy_in(&a, new, sizeof a))
            return -EFAULT;
        actions[sig] = a;
        if (is_ignored((int)sig)) {
            process_pending &= ~BIT(sig);
            for (struct thread *t = thread_list(); t; t = t->next)
                t->pending &= ~BIT(sig);
        }
    }
    return old ? copy_out(old, &was, sizeof was) : 0;
}

int64_t sys_rt_sigprocmask(uint64_t how, uint64_t new, uint64_t old, uint64_t size)
{
    uint64_t set, was = current->mask;

    if (size != 8)
        return -EINVAL;
    if (new) {
        if (copy_in(&set, new, 8))
            return -EFAULT;
        if (how == SIG_BLOCK)
            set |= was;
        else if (how == SIG_UNBLOCK)
            set = was & ~set;
        else if (how != SIG_SETMASK)
            return -EINVAL;
        current->mask = set & ~NEVER_BLOCKED;
    }
    return old ? copy_out(old, &was, 8) : 0;
}

int signal_swap_mask(uint64_t at, uint64_t size)
{
    uint64_t set;

    if (!at)
        return 0;
    if (size != 8)
        return -EINVAL;
    if (copy_in(&set, at, 8))
        return -EFAULT;
    current->saved_mask = current->mask;
    current->mask_saved = true;
    current->mask = set & ~NEVER_BLOCKED;
    return 0;
}

int64_t sys_rt_sigsuspend(uint64_t at, uint64_t size)
{
    static char nobody;
    int err = at ? signal_swap_mask(at, size) : -EFAULT;

    if (err)
        return err;
    while (!thread_wait(&nobody, NEVER))
        ;
    return -EINTR;
}

int64_t sys_pause(void)
{
    static char nobody;

    while (!thread_wait(&nobody, NEVER))
        ;
    return -EINTR;
}

int64_t sys_rt_sigpending(uint64_t at, uint64_t size)
{
    uint64_t set = (current->pending | process_pending) & current->mask;

    return size != 8 ? -EINVAL : copy_out(at, &set, 8);
}

int64_t sys_rt_sigtimedwait(uint64_t at, uint64_t info_at, uint64_t timeout, uint64_t size)
{
    static char nobody;
    uint64_t set, ns, deadline = NEVER, mask = current->mask;
    siginfo_t info;

    if (size != 8 || copy_in(&set, at, 8))
        return -EINVAL;
    if (timeout) {
        int err = timespec_in(timeout, &ns);

        if (err)
            return err;
        deadline = clock_ns() + ns;
    }
    for (;;) {
        uint64_t ready = (current->pending | process_pending) & set;

        if (ready) {
            int sig = signal_take(ready, &info);

            return info_at && copy_out(info_at, &info, sizeof info) ? -EFAULT : sig;
        }
        current->mask = mask & ~set;
        int64_t err = thread_wait(&nobody, deadline);

        current->mask = mask;
        if (err == -ETIMEDOUT)
            return -EAGAIN;
        if (err && !((current->pending | process_pending) & set))
            return -EINTR;
    }
}

int64_t sys_sigaltstack(uint64_t new, uint64_t old)
{
    stack_t s, was = current->alt;
    uint64_t sp = syscall_regs->rsp, base = (uintptr_t)was.ss_sp;
    bool on = was.ss_size && sp > base && sp - base <= was.ss_size;

    if (!was.ss_size)
        was.ss_flags = SS_DISABLE;
    else
        was.ss_flags = on ? SS_ONSTACK : 0;
    if (new) {
        if (copy_in(&s, new, sizeof s))
            return -EFAULT;
        if (on)
            return -EPERM;
        if (s.ss_flags & SS_DISABLE)
            s = (stack_t){.ss_flags = SS_DISABLE};
        else if (s.ss_size < MINSIGSTKSZ)
            return -ENOMEM;
        current->alt = s;
    }
    return old ? copy_out(old, &was, sizeof was) : 0;
}

static int64_t send_to(struct thread *t, uint64_t sig, int code, uint64_t value)
{
    if (sig > NSIG_MAX)
        return -EINVAL;
    return sig ? signal_send(t, (int)sig, code, value) : 0;
}

int64_t sys_kill(uint64_t pid, uint64_t sig)
{
    int32_t p = (int32_t)pid;

    return p == 0 || p == -1 || (p > 0 && thread_is_known((uint32_t)p))
               ? send_to(NULL, sig, SI_USER, 0)
               : -ESRCH;
}

int64_t sys_tkill(uint64_t tid, uint64_t sig)
{
    struct thread *t = thread_find((uint32_t)tid);

    return (int32_t)tid <= 0 ? -EINVAL : t ? send_to(t, sig, SI_TKILL, 0) : -ESRCH;
}

int64_t sys_tgkill(uint64_t pid, uint64_t tid, uint64_t sig)
{
    if ((int32_t)pid <= 0)
        return -EINVAL;
    return pid == 1 ? sys_tkill(tid, sig) : -ESRCH;
}

/* sigqueue(): what the program says of it, its code and its value. */
static int64_t queue(struct thread *t, uint64_t sig, uint64_t info_at)
{
    siginfo_t info;

    if (copy_in(&info, info_at, sizeof info))
        return -EFAULT;
    if (info.si_code >= 0)
        return -EPERM; /* the kernel's own */
    return send_to(t, sig, info.si_code, *(uint64_t *)((char *)&info + 24));
}

int64_t sys_rt_sigqueueinfo(uint64_t pid, uint64_t sig, uint64_t info)
{
    return thread_is_known((uint32_t)pid) ? queue(NULL, sig, info) : -ESRCH;
}

int64_t sys_rt_tgsigqueueinfo(uint64_t pid, uint64_t tid, uint64_t sig, uint64_t info)
{
    struct thread *t = thread_find((uint32_t)tid);

    return (int32_t)pid == 1 && t ? queue(t, sig, info) : -ESRCH;
}
