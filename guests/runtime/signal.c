/* Signals of the process to itself: pending sets, actions, what a fault becomes, timers. */
#include "guests/runtime/process.h"
#include "guests/runtime/vm.h"

#define IGNORED       (BIT(SIGCHLD) | BIT(SIGURG) | BIT(SIGWINCH) | BIT(SIGCONT))
#define STOPS         (BIT(SIGSTOP) | BIT(SIGTSTP) | BIT(SIGTTIN) | BIT(SIGTTOU))
#define NEVER_BLOCKED (BIT(SIGKILL) | BIT(SIGSTOP))

struct sigaction actions[NSIG_MAX + 1];
uint64_t process_pending;
static int process_code[NSIG_MAX + 1];
static uint64_t real_interval;

/* Signals whose default is a core dump: their end is worth a line. */
static const char *const crash_name[NSIG_MAX + 1] = {[SIGQUIT] = "Quit",
                                                     [SIGILL] = "Illegal instruction",
                                                     [SIGTRAP] = "Trace trap",
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

void signal_send(struct thread *to, int sig, int code, uint64_t value)
{
    if (sig == SIGKILL)
        machine_exit(128 + SIGKILL);
    if (is_ignored(sig) && !((to ? to : current)->mask & BIT(sig)))
        return;
    if (to) {
        set_info(to, sig, code, value);
    } else {
        process_pending |= BIT(sig);
        process_code[sig] = code;
        if (!(current->mask & BIT(sig)))
            return; /* we take it ourselves */
        for (to = thread_list(); to && to->mask & BIT(sig);)
            to = to->next;
    }
    if (to && !(to->mask & BIT(sig)))
        thread_ready(to, -ERESTARTSYS);
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

static int take(siginfo_t *info)
{
    struct thread *t = current;
    uint64_t mine = t->pending & ~t->mask, all = process_pending & ~t->mask;
    bool own = mine;
    int sig = __builtin_ctzll(own ? mine : all) + 1;

    fill(info, 0, sizeof *info);
    info->si_signo = sig;
    info->si_code = own ? t->code[sig] : process_code[sig];
    if (own && info->si_code > 0)
        info->si_addr = (void *)t->value[sig];
    else if (own)
        *(uint64_t *)((char *)info + 24) = t->value[sig]; /* si_value */
    if (info->si_code <= 0)
        info->si_pid = 1;
    if (own)
        t->pending &= ~BIT(sig);
    else
        process_pending &= ~BIT(sig);
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
    int sig = take(&info);
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

void signal_tick(uint64_t now)
{
    real_timer = real_interval ? now + real_interval : NEVER;
    signal_send(NULL, SIGALRM, SI_KERNEL, 0);
    for (struct thread *t = thread_list(); t; t = t->next)
        if (!(t->mask & BIT(SIGALRM)) && t->state == WAITING) {
            thread_ready(t, -ERESTARTSYS);
            break;
        }
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
            current->mask = ~ready;
            int sig = take(&info);

            current->mask = mask;
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

static int64_t send_to(struct thread *t, uint64_t sig, int code)
{
    if (sig > NSIG_MAX)
        return -EINVAL;
    if (sig)
        signal_send(t, (int)sig, code, 0);
    return 0;
}

int64_t sys_kill(uint64_t pid, uint64_t sig)
{
    int32_t p = (int32_t)pid;

    return p == 1 || p == 0 || p == -1 ? send_to(NULL, sig, SI_USER) : -ESRCH;
}

int64_t sys_tkill(uint64_t tid, uint64_t sig)
{
    struct thread *t = thread_find((uint32_t)tid);

    return t ? send_to(t, sig, SI_TKILL) : -ESRCH;
}

int64_t sys_tgkill(uint64_t pid, uint64_t tid, uint64_t sig)
{
    return (int32_t)pid == 1 ? sys_tkill(tid, sig) : -ESRCH;
}

int64_t sys_setitimer(uint64_t which, uint64_t new, uint64_t old)
{
    struct {
        int64_t interval_s, interval_us, value_s, value_us;
    } t;
    uint64_t now = clock_ns(), left = real_timer == NEVER ? 0 : real_timer - now;
    uint64_t interval = real_interval;

    if (which)
        return which > 2 ? -EINVAL : -ENOSYS;
    if (new) {
        if (copy_in(&t, new, sizeof t))
            return -EFAULT;
        if ((uint64_t)t.interval_us > 999999 || (uint64_t)t.value_us > 999999 ||
            (uint64_t)t.interval_s > 9000000000 || (uint64_t)t.value_s > 9000000000)
            return -EINVAL;
        uint64_t value = (uint64_t)t.value_s * NS + (uint64_t)t.value_us * 1000;

        real_interval = (uint64_t)t.interval_s * NS + (uint64_t)t.interval_us * 1000;
        real_timer = value ? now + value : NEVER;
        thread_timers_changed();
    }
    if (!old)
        return 0;
    t.interval_s = (int64_t)(interval / NS);
    t.interval_us = (int64_t)(interval % NS / 1000);
    t.value_s = (int64_t)(left / NS);
    t.value_us = (int64_t)(left % NS / 1000);
    return copy_out(old, &t, sizeof t);
}

int64_t sys_getitimer(uint64_t which, uint64_t out)
{
    return out ? sys_setitimer(which, 0, out) : -EFAULT;
}

int64_t sys_alarm(uint64_t seconds)
{
    uint64_t now = clock_ns(), left = real_timer == NEVER ? 0 : real_timer - now;

    real_interval = 0;
    real_timer = (uint32_t)seconds ? now + (uint32_t)seconds * NS : NEVER;
    thread_timers_changed();
    return (int64_t)((left + NS - 1) / NS);
}
