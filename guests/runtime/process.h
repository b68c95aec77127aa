/* Threads, waiting, signals: what the process does rather than has. */
#ifndef GUESTS_RUNTIME_PROCESS_H
#define GUESTS_RUNTIME_PROCESS_H

#include <asm/siginfo.h>
#include <asm/signal.h>
#include <linux/signal.h>
#include "guests/runtime/runtime.h"

/* A wait was cut short by a signal: the call starts again if the handler allows it (signal.c). A
 * call that must not, says -EINTR instead. */
#define ERESTARTSYS 512

#define RELEASE  "6.1.0-mayfly" /* what uname says: Debian 12's calls are those we have */
#define NSIG_MAX 64
#define BIT(sig) (1ull << ((sig)-1))

struct fault {
    int signal, code;
    uint64_t address;
};

#define NAME_BYTES 16u /* of a thread's name with its NUL */

enum thread_state { READY, WAITING };

struct thread {
    struct thread *next;     /* of all */
    struct thread *next_run; /* of those that are ready */
    enum thread_state state;
    uint32_t tid;
    uint64_t sp; /* its kernel stack, while another runs */
    void *stack_top;
    void *fpu; /* a page; NULL: never switched away from */
    uint64_t fs, gs;
    const void *wait; /* what for, NULL when not waiting */
    uint64_t deadline, futex;
    uint64_t turn; /* when it began to wait */
    uint32_t futex_bits;
    int result; /* of the wait */
    uint64_t mask, pending;
    uint64_t saved_mask; /* to be put back after a handler: ppoll, sigsuspend */
    bool mask_saved;
    stack_t alt;
    uint32_t policy, priority; /* sched.c */
    char name[NAME_BYTES];     /* empty: the program's; prctl.c */
    int code[NSIG_MAX + 1];    /* si_code of what is pending */
    uint64_t value[NSIG_MAX + 1];
    uint64_t clear_tid, robust, cpu_ns;
};

extern struct thread *current;

/* --- thread.c --- */
/* The first thread: enters the program with these registers; does not return. */
_Noreturn void thread_first(const struct regs *r);
struct thread *thread_find(uint32_t tid);
/* Wait for thread_wake(key) until deadline: 0, -ETIMEDOUT, -ERESTARTSYS (a signal). */
int64_t thread_wait(const void *key, uint64_t deadline);
unsigned thread_wake(const void *key); /* all; how many */
void thread_ready(struct thread *t, int result);
void thread_yield(void);
/* An interrupt came: deadlines, input; the running thread may have to make room. */
void thread_interrupt(bool input);
/* Last thing before the program goes on: other threads' turn, signals. */
void thread_leave(struct regs *r);
_Noreturn void thread_exit(int status);
/* Is that number a thread's, or the process's own, which outlives its first thread? */
bool thread_is_known(uint32_t tid);
struct thread *thread_list(void);
unsigned thread_count(void);
uint64_t thread_cpu_ns(void);
uint64_t process_cpu_ns(void);
extern char poll_key;         /* woken when anything that poll() looks at has changed */
extern uint64_t poll_changes; /* how often poll_key was woken */
extern char input_key;
extern uint64_t net_timer; /* the network's next */
void thread_timers_changed(void);

/* --- prctl.c --- */
/* A thread's name to, and from the program, n bytes of it; 0 or -EFAULT. */
void thread_name(const struct thread *t, char out[NAME_BYTES]);
int64_t thread_set_name(struct thread *t, uint64_t at, uint64_t n);

/* --- signal.c --- */
void signal_fault(struct regs *r, const struct fault *f);
/* NULL: the process. -EAGAIN: too many real-time signals wait. */
int signal_send(struct thread *t, int sig, int code, uint64_t value);
void signals_from_host(void); /* some came to mayfly */
void signal_thread_ends(const struct thread *t);
bool signal_waits(const struct thread *t); /* one that would be taken now */
void signal_deliver(struct regs *r);
/* One pending signal of the set, no longer pending; 0: there is none. */
int signal_take(uint64_t among, siginfo_t *info);
/* For ppoll and friends: mask for the time of a wait. */
int signal_swap_mask(uint64_t set, uint64_t size);
extern struct sigaction actions[NSIG_MAX + 1];
extern uint64_t process_pending;
const char *program_name(void);

/* --- signalfd.c --- */
void signalfd_notify(void); /* a signal became pending */

/* --- sigframe.c --- */
/* Put the handler's frame on the program's stack. false: there is no room. */
bool sigframe_push(struct regs *r, const struct sigaction *a, const siginfo_t *info);

#endif
