/*
 * Host faults in generated code: SIGSEGV, SIGBUS, SIGFPE, SIGILL are offered to the owner of the
 * code they happened in. Anywhere else they are the monitor's own bug: one line, then the default
 * action. (hostexec.h has the contract.)
 */
/* Ours first: <sys/auxv.h> defines macros (PF_W) with names of paging/walk.h. */
#include "vcpu/hostexec.h"
#include "vcpu/interp_ops.h"
#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

#define RANGES 16

struct range {
    uintptr_t start;
    size_t len;
    hostfault_fn fn;
};
static struct range range[RANGES];
static _Atomic unsigned nrange;
static _Thread_local struct vcpu *self;
void (*hostfault_dying)(void);

void hostfault_register(const void *start, size_t len, hostfault_fn fn)
{
    unsigned n = atomic_load(&nrange);

    if (n < RANGES) {
        range[n] = (struct range){(uintptr_t)start, len, fn};
        atomic_store(&nrange, n + 1);
    }
}

static char *put_text(char *p, const char *s)
{
    while (*s)
        *p++ = *s++;
    return p;
}

static char *put_hex(char *p, uint64_t val)
{
    p = put_text(p, "0x");
    for (int shift = 60; shift >= 0; shift -= 4)
        *p++ = "0123456789abcdef"[val >> shift & 15];
    return p;
}

static void die(int sig, uintptr_t pc, uintptr_t addr)
{
    char line[128], *p = line;

    p = put_text(p, "mayfly: internal error: host fault, signal ");
    *p++ = (char)('0' + sig / 10);
    *p++ = (char)('0' + sig % 10);
    p = put_hex(put_text(p, " at pc "), pc);
    p = put_hex(put_text(p, " address "), addr);
    *p++ = '\n';
    if (write(STDERR_FILENO, line, (size_t)(p - line)) < 0)
        errno = 0;
    if (hostfault_dying)
        hostfault_dying();
    /* Back to the instruction with the default action in place: it faults again, for good. */
    signal(sig, SIG_DFL);
}

static void on_fault(int sig, siginfo_t *si, void *uc_)
{
    ucontext_t *uc = uc_;
    uintptr_t pc = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP], to;
    uintptr_t addr = (uintptr_t)uc->uc_mcontext.gregs[REG_CR2];
    unsigned trapno = (unsigned)uc->uc_mcontext.gregs[REG_TRAPNO], n = atomic_load(&nrange);

    for (unsigned i = 0; i < n && si->si_code > 0; i++) {
        if (pc - range[i].start >= range[i].len)
            continue;
        to = range[i].fn(self, pc, trapno, addr, uc);
        if (!to)
            break;
        uc->uc_mcontext.gregs[REG_RIP] = (greg_t)to;
        return;
    }
    die(sig, pc, addr);
    if (si->si_code <= 0) /* sent by kill(): the instruction would not fault again */
        raise(sig);
}

int hostfault_init(void)
{
    static const int sigs[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigemptyset(&sa.sa_mask);
    for (unsigned i = 0; i < sizeof(sigs) / sizeof(*sigs); i++)
        if (sigaction(sigs[i], &sa, NULL))
            return -errno;
    return 0;
}

/* GETAUXVAL's minimum counts the vector state that the kernel saves on this CPU. */
static int signal_stack(void)
{
    size_t len = (getauxval(AT_MINSIGSTKSZ) + 0x10000 + PAGE_SIZE - 1) & PAGE_MASK;
    stack_t ss = {.ss_size = len}, old;

    /* The thread that runs CPU after CPU (tests) keeps its stack. */
    if (self && !sigaltstack(NULL, &old) && !(old.ss_flags & SS_DISABLE))
        return 0;
    ss.ss_sp = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ss.ss_sp == MAP_FAILED)
        return -errno;
    if (sigaltstack(&ss, NULL)) {
        int err = errno;

        munmap(ss.ss_sp, len);
        return -err;
    }
    return 0;
}

int hostfault_thread_init(struct vcpu *v)
{
    int rc = signal_stack();

    if (rc)
        return rc;
    self = v;
    rc = interp_thread_init();
    if (rc)
        return rc;
    if (syscall(SYS_arch_prctl, ARCH_SET_GS, v))
        return -errno;
    return 0;
}

void hostfault_set_gpr(void *uc_, unsigned r, uint64_t val)
{
    static const int greg[NGPR] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                   REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                   REG_R12, REG_R13, REG_R14, REG_R15};
    ucontext_t *uc = uc_;

    uc->uc_mcontext.gregs[greg[r]] = (greg_t)val;
}
