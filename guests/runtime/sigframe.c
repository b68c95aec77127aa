/* The frame of a signal handler, as x86-64 Linux lays it out, and the way back from it. */
#include "guests/runtime/process.h"
#include <asm/sigcontext.h>
#include <asm/ucontext.h>

#define RED_ZONE      128
#define XSTATE_MAGIC1 0x46505853u /* asm/sigcontext.h: FP_XSTATE_MAGIC1, 2 */
#define XSTATE_MAGIC2 0x46505845u
#define USER_FLAGS    0x240dd5ull /* CF PF AF ZF SF TF DF OF AC ID: what a program may set */

struct frame {
    uint64_t return_address;
    struct ucontext uc;
    siginfo_t info;
};

static char area[PAGE] __attribute__((aligned(4096), section(".bss.pages")));

static bool push_vectors(uint64_t at)
{
    uint32_t magic2 = XSTATE_MAGIC2, size = fpu_bytes;

    fpu_save(area);
    if (fpu_mask) {
        uint32_t *sw = (uint32_t *)(area + 464);

        sw[0] = XSTATE_MAGIC1;
        sw[1] = size + 4;
        *(uint64_t *)(sw + 2) = fpu_mask;
        sw[4] = size;
    }
    return !copy_out(at, area, size) && !copy_out(at + size, &magic2, 4);
}

bool sigframe_push(struct regs *r, const struct sigaction *a, const siginfo_t *info)
{
    struct thread *t = current;
    uint64_t sp = r->rsp - RED_ZONE, base = (uintptr_t)t->alt.ss_sp;
    struct frame f = {0};

    if (a->sa_flags & SA_ONSTACK && t->alt.ss_size &&
        !(r->rsp > base && r->rsp - base <= t->alt.ss_size))
        sp = base + t->alt.ss_size;
    uint64_t fp = (sp - fpu_bytes - 4) & ~63ull;

    sp = ((fp - sizeof f) & ~15ull) - 8;
    if (!user_range(sp, fp - sp + fpu_bytes + 4) || !push_vectors(fp))
        return false;
    f.return_address = (uintptr_t)a->sa_restorer;
    f.uc.uc_flags = UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS | (fpu_mask ? UC_FP_XSTATE : 0);
    f.uc.uc_stack = t->alt;
    f.uc.uc_sigmask = t->mask_saved ? t->saved_mask : t->mask;
    t->mask_saved = false;
    f.uc.uc_mcontext = (struct sigcontext){.r8 = r->r8,
                                           .r9 = r->r9,
                                           .r10 = r->r10,
                                           .r11 = r->r11,
                                           .r12 = r->r12,
                                           .r13 = r->r13,
                                           .r14 = r->r14,
                                           .r15 = r->r15,
                                           .rdi = r->rdi,
                                           .rsi = r->rsi,
                                           .rbp = r->rbp,
                                           .rbx = r->rbx,
                                           .rdx = r->rdx,
                                           .rax = r->rax,
                                           .rcx = r->rcx,
                                           .rsp = r->rsp,
                                           .rip = r->rip,
                                           .eflags = r->rflags,
                                           .cs = (uint16_t)r->cs,
                                           .ss = (uint16_t)r->ss,
                                           .fpstate = (struct _fpstate_64 *)fp};
    if (r->vector < 32) {
        f.uc.uc_mcontext.trapno = r->vector;
        f.uc.uc_mcontext.err = r->error;
        f.uc.uc_mcontext.cr2 = r->vector == 14 ? (uintptr_t)info->si_addr : 0;
    }
    f.info = *info;
    if (copy_out(sp, &f, sizeof f))
        return false;
    r->rsp = sp;
    r->rip = (uintptr_t)a->sa_handler;
    if (r->rip >= USER_TOP)
        return false;
    r->rdi = (uint64_t)info->si_signo;
    r->rsi = sp + offsetof(struct frame, info);
    r->rdx = sp + offsetof(struct frame, uc);
    r->rax = 0;
    r->rflags &= ~0x500ull; /* TF, DF */
    r->vector = (uint64_t)-2;
    fpu_fresh(area);
    fpu_load(area);
    return true;
}

/* What a program put there is checked: XRSTOR and IRETQ would fault in the runtime. */
static bool pop_vectors(uint64_t at)
{
    if (copy_in(area, at, fpu_bytes))
        return false;
    *(uint32_t *)(area + 24) &= 0xffff; /* MXCSR */
    if (fpu_mask) {
        *(uint64_t *)(area + 512) &= fpu_mask;
        fill(area + 520, 0, 56);
    }
    fpu_load(area);
    return true;
}

int64_t sys_rt_sigreturn(void)
{
    struct regs *r = syscall_regs;
    struct frame f;
    struct fault bad = {.signal = SIGSEGV, .code = SI_KERNEL};
    const struct sigcontext *c = &f.uc.uc_mcontext;

    if (copy_in(&f, r->rsp - 8, sizeof f) || c->rip >= USER_TOP) {
        signal_fault(r, &bad);
        return 0;
    }
    if (c->fpstate && !pop_vectors((uintptr_t)c->fpstate)) {
        signal_fault(r, &bad);
        return 0;
    }
    current->mask = f.uc.uc_sigmask & ~(BIT(SIGKILL) | BIT(SIGSTOP));
    *r = (struct regs){.r15 = c->r15,
                       .r14 = c->r14,
                       .r13 = c->r13,
                       .r12 = c->r12,
                       .rbp = c->rbp,
                       .rbx = c->rbx,
                       .r11 = c->r11,
                       .r10 = c->r10,
                       .r9 = c->r9,
                       .r8 = c->r8,
                       .rax = c->rax,
                       .rcx = c->rcx,
                       .rdx = c->rdx,
                       .rsi = c->rsi,
                       .rdi = c->rdi,
                       .vector = (uint64_t)-2,
                       .rip = c->rip,
                       .cs = 0x33,
                       .rflags = (c->eflags & USER_FLAGS) | 0x202,
                       .rsp = c->rsp,
                       .ss = 0x2b};
    return (int64_t)r->rax;
}
