/*
 * A case on the host CPU: the arena at its addresses, registers loaded, a jump (32-bit code: a far
 * one to the kernel's segment for such programs), and the way back:
 * a jump written after the code, INT3 everywhere else, or the signal of a fault. FS is the guest's
 * meanwhile, so the handler's first instructions touch no thread-local data.
 */
/* Ours first: <sys/auxv.h> defines macros with names of paging/walk.h. */
#include "tests/fuzz.h"
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>

/* The assembly below knows this layout. */
struct nat {
    uint64_t gpr[NGPR];
    uint64_t target, flags;                      /* 128, 136 */
    uint64_t host_rsp, host_fs, host_gs;         /* 144, 152, 160 */
    uint64_t fs, gs;                             /* 168, 176 */
    uint32_t active, bases;                      /* 184, 188 */
    _Alignas(64) uint8_t xsave[XSAVE_AREA_SIZE]; /* 192 */
    uint32_t far_eip;                            /* 1024: of 32-bit code */
    uint16_t far_cs;
};
_Static_assert(offsetof(struct nat, xsave) == 192, "as the assembly has it");
_Static_assert(offsetof(struct nat, far_eip) == 1024, "as the assembly has it");
#define USER32_CS 0x23 /* the kernel's */
#define USER_CS   0x33

extern struct nat fz_nat;
__attribute__((visibility("hidden"))) struct nat fz_nat;
void fz_nat_enter(void);
void fz_nat_enter32(void);
void fz_nat_on_signal(int, siginfo_t *, void *);
void fz_nat_caught(int sig, siginfo_t *si, void *uc);
extern const char fz_nat_exit[], fz_nat_fault[];

/* Of both ways in. */
#define LEAVE_HOST                                                           \
    "    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n" \
    "    mov %rsp, fz_nat+144(%rip)\n"                                       \
    "    mov $7, %eax; xor %edx, %edx\n"                                     \
    "    xrstor64 fz_nat+192(%rip)\n"
#define LOAD_STATE                                                \
    "    pushq fz_nat+136(%rip); popfq\n"                         \
    "    mov fz_nat+0(%rip), %rax; mov fz_nat+8(%rip), %rcx\n"    \
    "    mov fz_nat+16(%rip), %rdx; mov fz_nat+24(%rip), %rbx\n"  \
    "    mov fz_nat+32(%rip), %rsp; mov fz_nat+40(%rip), %rbp\n"  \
    "    mov fz_nat+48(%rip), %rsi; mov fz_nat+56(%rip), %rdi\n"  \
    "    mov fz_nat+64(%rip), %r8; mov fz_nat+72(%rip), %r9\n"    \
    "    mov fz_nat+80(%rip), %r10; mov fz_nat+88(%rip), %r11\n"  \
    "    mov fz_nat+96(%rip), %r12; mov fz_nat+104(%rip), %r13\n" \
    "    mov fz_nat+112(%rip), %r14; mov fz_nat+120(%rip), %r15\n"

__asm__(".text\n"
        ".globl fz_nat_enter, fz_nat_enter32, fz_nat_exit, fz_nat_fault, fz_nat_on_signal\n"
        ".hidden fz_nat_enter, fz_nat_enter32, fz_nat_exit, fz_nat_fault, fz_nat_on_signal\n"
        "fz_nat_enter:\n" LEAVE_HOST "    cmpl $0, fz_nat+188(%rip); je 1f\n"
        "    mov fz_nat+168(%rip), %rax; wrfsbase %rax\n"
        "    mov fz_nat+176(%rip), %rax; wrgsbase %rax\n"
        "1:  movl $1, fz_nat+184(%rip)\n" LOAD_STATE "    jmp *fz_nat+128(%rip)\n"
        "fz_nat_enter32:\n" LEAVE_HOST "    mov $0x2b, %eax\n"
        "    mov %eax, %ds; mov %eax, %es; mov %eax, %fs; mov %eax, %gs\n"
        "    mov fz_nat+168(%rip), %rax; wrfsbase %rax\n"
        "    mov fz_nat+176(%rip), %rax; wrgsbase %rax\n"
        "    movl $1, fz_nat+184(%rip)\n" LOAD_STATE "    ljmp *fz_nat+1024(%rip)\n"
        "fz_nat_exit:\n"
        "    mov %rax, fz_nat+0(%rip); mov %rcx, fz_nat+8(%rip)\n"
        "    mov %rdx, fz_nat+16(%rip); mov %rbx, fz_nat+24(%rip)\n"
        "    mov %rsp, fz_nat+32(%rip); mov %rbp, fz_nat+40(%rip)\n"
        "    mov %rsi, fz_nat+48(%rip); mov %rdi, fz_nat+56(%rip)\n"
        "    mov %r8, fz_nat+64(%rip); mov %r9, fz_nat+72(%rip)\n"
        "    mov %r10, fz_nat+80(%rip); mov %r11, fz_nat+88(%rip)\n"
        "    mov %r12, fz_nat+96(%rip); mov %r13, fz_nat+104(%rip)\n"
        "    mov %r14, fz_nat+112(%rip); mov %r15, fz_nat+120(%rip)\n"
        "    mov fz_nat+144(%rip), %rsp\n"
        "    pushfq; popq fz_nat+136(%rip)\n"
        "    cmpl $0, fz_nat+188(%rip); je 2f\n"
        "    mov fz_nat+152(%rip), %rax; wrfsbase %rax\n"
        "    mov fz_nat+160(%rip), %rax; wrgsbase %rax\n"
        "2:  movl $0, fz_nat+184(%rip)\n"
        "    mov $7, %eax; xor %edx, %edx\n"
        "    xsave64 fz_nat+192(%rip)\n"
        "fz_nat_fault:\n"
        "    cld\n"
        "    fninit\n"
        "    ldmxcsr 3f(%rip)\n"
        "    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "    ret\n"
        "fz_nat_on_signal:\n"
        "    cmpl $0, fz_nat+184(%rip); je 4f\n"
        "    cmpl $0, fz_nat+188(%rip); je 4f\n"
        "    mov fz_nat+152(%rip), %rax; wrfsbase %rax\n"
        "    mov fz_nat+160(%rip), %rax; wrgsbase %rax\n"
        "4:  jmp fz_nat_caught\n"
        "    .section .rodata\n"
        "    .align 4\n"
        "3:  .long 0x1f80\n"
        "    .text\n");

static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
static struct sigaction before[65];
static struct {
    int vector;
    uint32_t error;
    uint64_t cr2, rip;
} caught;

void (*fz_crash)(int sig, uint64_t pc);

/* Where this process has memory. */
static struct {
    uint64_t lo, hi;
} map[512];
static unsigned nmap;
#define LEAVINGS (FZ_MAX_CODE + 16u)
static uint8_t filler[2 * PAGE_SIZE];
static unsigned last; /* offset in the code pages of what the case before wrote */
static uint8_t *const code = (uint8_t *)(uintptr_t)FZ_CODE;
static uint8_t *const data = (uint8_t *)(uintptr_t)FZ_DATA;

__attribute__((visibility("hidden"))) void fz_nat_caught(int sig, siginfo_t *si, void *uc_)
{
    static const int greg[NGPR] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                   REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                   REG_R12, REG_R13, REG_R14, REG_R15};
    ucontext_t *uc = uc_;
    greg_t *g = uc->uc_mcontext.gregs;

    if (!fz_nat.active) {
        /* In translated code or a stub of hostexec's: theirs. Else this is the end. */
        if (fz_crash)
            fz_crash(sig, (uint64_t)g[REG_RIP]);
        if (before[sig].sa_flags & SA_SIGINFO)
            before[sig].sa_sigaction(sig, si, uc_);
        else
            signal(sig, SIG_DFL);
        return;
    }
    for (unsigned i = 0; i < NGPR; i++)
        fz_nat.gpr[i] = (uint64_t)g[greg[i]];
    fz_nat.flags = (uint64_t)g[REG_EFL];
    memcpy(fz_nat.xsave, uc->uc_mcontext.fpregs, sizeof(fz_nat.xsave));
    caught.vector = (int)g[REG_TRAPNO];
    caught.error = (uint32_t)g[REG_ERR];
    caught.cr2 = (uint64_t)g[REG_CR2];
    caught.rip = (uint64_t)g[REG_RIP];
    g[REG_RIP] = (greg_t)(uintptr_t)fz_nat_fault;
    g[REG_RSP] = (greg_t)fz_nat.host_rsp;
    g[REG_EFL] = FL_R1 | FL_IF;
    g[REG_CSGSFS] = (g[REG_CSGSFS] & ~(greg_t)0xffff) | USER_CS;
    fz_nat.active = 0;
}

static void read_maps(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];

    nmap = 0;
    if (!f)
        return;
    while (nmap < 512 && fgets(line, sizeof(line), f))
        if (sscanf(line, "%lx-%lx", &map[nmap].lo, &map[nmap].hi) == 2)
            nmap++;
    fclose(f);
}

/* Might an access at va touch memory of this process, now or by what it allocates later? */
static bool ours(uint64_t va)
{
    const uint64_t slack = 16 * MIB;

    if (va - (FZ_CODE - PAGE_SIZE) < FZ_AREA + 2 * PAGE_SIZE || va < 0x10000 || va >> 47)
        return false;
    for (unsigned i = 0; i < nmap; i++)
        if (va + slack >= map[i].lo && va < map[i].hi + slack)
            return va < 0x7ffffffe0000; /* the page below the end of user space is nobody's */
    return false;
}

bool fz_native_bases(void)
{
    return fz_nat.bases;
}

static bool host_has_avx(void)
{
    uint32_t a = 1, b, c = 0, d;

    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (!(c >> 27 & 1)) /* OSXSAVE */
        return false;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & 6) == 6;
}

int fz_native_init(const char **what)
{
    struct sigaction sa = {.sa_sigaction = fz_nat_on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    const int rwx = PROT_READ | PROT_WRITE | PROT_EXEC;
    uint8_t *ro = (uint8_t *)(uintptr_t)FZ_RO;

    *what = "AVX";
    if (!host_has_avx())
        return -EOPNOTSUPP;
    *what = "mapping the arena";
    if (mmap(code, FZ_AREA, rwx, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != code)
        return -errno;
    memset(code, FZ_INT3, 2 * PAGE_SIZE);
    memset(filler, FZ_INT3, sizeof(filler));
    memset(data, 0, 2 * PAGE_SIZE);
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        ro[i] = (uint8_t)(i * 37);
    for (uint64_t va = FZ_CODE; va < FZ_CODE + FZ_AREA; va += PAGE_SIZE) {
        int prot = PROT_NONE;

        if (va < FZ_CODE + 2 * PAGE_SIZE || (va >= FZ_DATA && va < FZ_DATA + 2 * PAGE_SIZE))
            prot = rwx;
        else if (va == FZ_RO)
            prot = PROT_READ;
        if (mprotect((void *)(uintptr_t)va, PAGE_SIZE, prot))
            return -errno;
    }
    /* A page that was swapped out would fault with another error code. */
    mlock(code, 2 * PAGE_SIZE);
    mlock(data, 2 * PAGE_SIZE);
    mlock(ro, PAGE_SIZE);
    *what = "sigaction";
    sigemptyset(&sa.sa_mask);
    for (unsigned i = 0; i < sizeof(signals) / sizeof(*signals); i++)
        if (sigaction(signals[i], &sa, &before[signals[i]]))
            return -errno;
    if (getauxval(26 /* AT_HWCAP2 */) & 2 /* FSGSBASE */) {
        fz_nat.bases = 1;
        __asm__ volatile("rdfsbase %0" : "=r"(fz_nat.host_fs));
    }
    read_maps();
    return 0;
}

/* jmp *0(%rip) to fz_nat_exit, quicker than INT3. Sequences do without: they may read it. */
static void put_exit(uint8_t *p)
{
    static const uint8_t jmp[6] = {0xff, 0x25};
    uint64_t to = (uintptr_t)fz_nat_exit;

    memcpy(p, jmp, 6);
    memcpy(p + 6, &to, 8);
}

static void put_code(const struct fz_case *c)
{
    uint8_t *at = (uint8_t *)(uintptr_t)c->code_va;
    uint64_t end = c->code_va + c->len, limit = FZ_CODE + 2 * PAGE_SIZE;
    unsigned n = c->len;

    /* The code of the case before; and a stray store may have been anywhere in the pages. Looking
     * is cheaper than storing to what the CPU takes for code. */
    memset(code + last, FZ_INT3, 2 * PAGE_SIZE - last < LEAVINGS ? 2 * PAGE_SIZE - last : LEAVINGS);
    if (memcmp(code, filler, sizeof(filler)))
        memset(code, FZ_INT3, 2 * PAGE_SIZE);
    last = c->code_in_data ? 0 : (unsigned)(c->code_va - FZ_CODE);
    if (!c->code_in_data) {
        if (end > limit)
            n = (unsigned)(limit - c->code_va);
        memcpy(at, c->code, n);
        if (end + 14 <= limit && !c->sequence && fz_mode == 8)
            put_exit(at + c->len);
        return;
    }
    memcpy(at, c->code, n);
    if (c->sequence || fz_mode != 8)
        at[n] = FZ_INT3;
    else
        put_exit(at + n);
    if (c->pad_va)
        *(uint8_t *)(uintptr_t)c->pad_va = FZ_INT3;
}

static void collect(const struct fz_case *c, struct fz_result *out)
{
    bool end = caught.vector == FZ_END || caught.vector == VEC_BP;

    out->vector = end ? FZ_END : caught.vector;
    out->error = end ? 0 : caught.error;
    out->cr2 = caught.cr2;
    memcpy(out->st.gpr, fz_nat.gpr, sizeof(out->st.gpr));
    out->st.rip = caught.vector == FZ_END ? c->code_va + c->len : caught.rip - (end ? 1 : 0);
    out->st.rflags = fz_nat.flags;
    out->st.fs_base = c->st.fs_base;
    out->st.gs_base = c->st.gs_base;
    memcpy(out->st.xsave, fz_nat.xsave, sizeof(fz_nat.xsave));
    fz_normalize(out->st.xsave);
    for (unsigned i = 0; i < 2; i++) {
        out->page[i] = data + i * PAGE_SIZE;
        out->page[2 + i] = code + i * PAGE_SIZE;
    }
}

bool fz_native_run(const struct fz_case *c, const struct fz_result *guess, struct fz_result *out)
{
    if (c->no_native || (fz_mode != 8 && !fz_nat.bases) || guess->astray ||
        guess->vector == FZ_LOST || guess->vector == VEC_DB)
        return false;
    if (guess->vector == VEC_PF && ours(guess->cr2))
        return false;
    memcpy(data, c->data, sizeof(c->data));
    put_code(c);
    memcpy(fz_nat.gpr, c->st.gpr, sizeof(fz_nat.gpr));
    memcpy(fz_nat.xsave, c->st.xsave, sizeof(fz_nat.xsave));
    fz_nat.target = c->code_va;
    fz_nat.flags = c->st.rflags & (FL_ARITH | FL_DF | FL_ID | FL_IF | FL_R1);
    fz_nat.fs = c->st.fs_base;
    fz_nat.gs = c->st.gs_base;
    if (fz_nat.bases)
        __asm__ volatile("rdgsbase %0" : "=r"(fz_nat.host_gs));
    caught.vector = FZ_END;
    fz_nat.far_eip = (uint32_t)c->code_va;
    fz_nat.far_cs = USER32_CS;
    if (fz_mode == 8)
        fz_nat_enter();
    else
        fz_nat_enter32();
    collect(c, out);
    return true;
}
