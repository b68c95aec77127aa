/*
 * Signals that come to mayfly. The I/O thread takes them all; where there is none yet, the vCPU
 * makes one for them; before the guest runs they end the process.
 *
 * A kernel knows nothing of them: the first ends the run. A program in the runtime gets its own:
 * the runtime is interrupted and asks (MAYFLY_CALL_SIGNALS) which came, and the program's handler
 * runs, or the default action ends it. The guest need not cooperate: who does not ask within
 * ANSWER_NS is ended, and so is who gets another within AGAIN_NS, or SIGQUIT.
 */
#include <errno.h>
#include <signal.h>
#include <unistd.h>
#include "guests/runtime/bootblock.h"
#include "monitor/core.h"
#include "virtio/unix_path.h"

#define ANSWER_NS 250000000u
#define AGAIN_NS  1000000000u
#define REPEAT_NS 10000000u
/* timeout(1) sends to its child and then to the group: the child gets both. */
#define TWIN_NS 100000000u

#define BIT(sig) (1ull << ((sig)-1))
static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
#define ENDING (BIT(SIGINT) | BIT(SIGTERM) | BIT(SIGHUP) | BIT(SIGQUIT))
static const int telling[] = {SIGWINCH, SIGUSR1, SIGUSR2};

static _Atomic uint64_t came; /* BIT(signal) */
static atomic_bool loop_takes_signals;
static sigset_t taken;
/* The I/O thread's. */
static uint64_t undelivered;
static uint64_t repeat_at, repeat_until; /* ns */
static uint64_t last_ending;             /* ns */
static int first_ending;
static _Atomic uint64_t answer_by; /* ns; 0: no answer is due */
static uint64_t asked;             /* the vCPU's: what the program was told of */

static void on_signal(int sig)
{
    if (!atomic_load(&loop_takes_signals)) {
        console_restore();
        unix_path_remove_all();
        _exit(status_own(STATUS_SIGNAL + sig));
    }
    int saved = errno;

    atomic_fetch_or(&came, BIT(sig));
    if (!loop_signalled() && BIT(sig) & ENDING) {
        console_restore();
        _exit(status_own(STATUS_SIGNAL + sig));
    }
    errno = saved;
}

/* nohup, and a script's background job, have a signal ignored: it stays so. */
static void receive(int sig)
{
    /* It may interrupt the guest. */
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK}, old;

    if (!sigaction(sig, &sa, &old) && old.sa_handler == SIG_IGN)
        sigaction(sig, &old, NULL);
}

void signals_early(void)
{
    for (unsigned i = 0; i < sizeof ending / sizeof ending[0]; i++)
        receive(ending[i]);
    sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
}

void signals_begin(const struct machine *m)
{
    bool program = m->boot.runtime;

    sigemptyset(&taken);
    for (unsigned i = 0; i < sizeof ending / sizeof ending[0]; i++)
        sigaddset(&taken, ending[i]);
    for (unsigned i = 0; i < sizeof telling / sizeof telling[0]; i++)
        if (program || (telling[i] == SIGWINCH && m->console->hvc)) {
            receive(telling[i]);
            sigaddset(&taken, telling[i]);
        }
    atomic_store(&loop_takes_signals, true);
}

void signals_block(void)
{
    pthread_sigmask(SIG_BLOCK, &taken, NULL);
}

void signals_unblock(void)
{
    pthread_sigmask(SIG_UNBLOCK, &taken, NULL);
}

void signals_open(sigset_t *mask)
{
    for (int sig = 1; sig < 32; sig++)
        if (sigismember(&taken, sig))
            sigdelset(mask, sig);
}

static void end(struct machine *m, int sig)
{
    machine_stop(m, status_own(STATUS_SIGNAL + sig), "signal");
}

/* An ending signal came to a program: is that its end without it being asked? */
static bool enough(uint64_t endings, uint64_t now)
{
    uint64_t since = now - last_ending;

    if (endings & BIT(SIGQUIT) || console_is_stopped())
        return true;
    if (last_ending && since < TWIN_NS)
        return false;
    if (last_ending && since < AGAIN_NS)
        return true;
    last_ending = now;
    return false;
}

/* Interrupt the program, and again until it asks: one that is just starting has its APIC off, and
 * the interrupt is lost. */
static void tell(struct machine *m, uint64_t fresh, uint64_t now)
{
    undelivered |= fresh;
    if (fresh)
        repeat_until = now + ANSWER_NS;
    if ((!undelivered && now < repeat_at) || !loop_lock(m))
        return;
    m->signals |= undelivered;
    undelivered = 0;
    repeat_at = m->signals && now < repeat_until ? now + REPEAT_NS : 0;
    if (m->signals)
        apic_deliver(&m->cpus, 0, false, 0, MAYFLY_VECTOR_SIGNAL, false, NULL);
    pthread_mutex_unlock(&m->lock);
}

uint64_t signals_take(struct machine *m)
{
    uint64_t fresh = atomic_exchange(&came, 0), now, by = atomic_load(&answer_by);

    if (!fresh && !undelivered && !by && !repeat_at)
        return 0;
    int sig = __builtin_ffsll((long long)(fresh & ENDING));

    /* The machine has stopped and still we are here (output that nobody reads): no more waiting. */
    if (sig && m->cpus.stop)
        loop_end_now(status_own(STATUS_SIGNAL + sig));
    if (fresh & BIT(SIGWINCH))
        hvc_resized(m->console);
    if (m->cpus.stop)
        return 0;
    now = clock_ns();
    if (sig && (!m->boot.runtime || enough(fresh & ENDING, now))) {
        end(m, sig);
        return 0;
    }
    if (!m->boot.runtime)
        return 0;
    if (by && now >= by) {
        end(m, first_ending);
        return 0;
    }
    if (sig && !by) {
        first_ending = sig;
        atomic_store(&answer_by, by = now + ANSWER_NS);
    }
    if (fresh || undelivered || repeat_at)
        tell(m, fresh, now);
    return repeat_at && (!by || repeat_at < by) ? repeat_at : by;
}

int64_t signals_asked(struct machine *m)
{
    uint64_t which = m->signals;

    m->signals = 0;
    asked |= which;
    if (which & ENDING)
        atomic_store(&answer_by, 0);
    return (int64_t)which;
}

bool signals_ended(int status)
{
    int sig = status - STATUS_SIGNAL;

    return sig > 0 && sig < 64 && asked & ENDING & BIT(sig);
}
