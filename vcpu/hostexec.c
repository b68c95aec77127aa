/*
 * One guest instruction on the host's own vector unit: see hostexec.h.
 *
 * The stub is the instruction re-encoded, and RET. It is entered with all guest GPRs loaded but RSP
 * and, for a memory operand, the register that holds its host address; an operand that is RSP is
 * renamed. Every thread has its own corner of the stub area, direct-mapped by the bytes of the
 * instruction, so nothing is shared and nothing needs a lock.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include "paging/copy.h"
#include "vcpu/hostexec.h"
#include "vcpu/interp_ops.h"

#define SLOT     16u  /* bytes of code; re-encoded and with RET nothing is longer than 8 */
#define SLOTS    512u /* a thread */
#define AREA     (SLOT * SLOTS)
#define THREADS  256u /* the last area is shared, under a mutex */
#define AREA_ALL ((size_t)AREA * THREADS)

static uint8_t *code_rx, *code_rw;
static _Atomic unsigned areas;
static pthread_mutex_t shared = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local unsigned my_area; /* index + 1 */

/* Filled and emptied by hostexec_enter below: keep the order. */
struct frame {
    uint64_t gpr[NGPR];
    uint64_t flags;
};

/* int hostexec_enter(struct frame *, const void *stub): 0, or the host's trap number + 1 with the
 * frame as it was. */
int hostexec_enter(struct frame *f, const void *stub);
/* Serialize: the code just written lies at another linear address than the one it runs at (SDM 3A
 * 9.1.3). IRET to the next instruction does it without leaving the guest we may be in. */
void hostexec_sync(void);
extern const char hostexec_fault[];

/* RSP is the host's throughout: a fault in the stub finds the return address on top. */
__asm__(".text\n"
        ".globl hostexec_enter\n"
        ".globl hostexec_fault\n"
        ".hidden hostexec_enter\n"
        ".hidden hostexec_fault\n"
        ".type hostexec_enter, @function\n"
        "hostexec_enter:\n"
        "    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "    push %rsi\n" /* stub, at 8(%rsp) below */
        "    push %rdi\n" /* frame, at (%rsp) */
        "    pushq 128(%rdi); popfq\n"
        "    mov 0(%rdi), %rax; mov 8(%rdi), %rcx; mov 16(%rdi), %rdx; mov 24(%rdi), %rbx\n"
        "    mov 40(%rdi), %rbp; mov 48(%rdi), %rsi\n"
        "    mov 64(%rdi), %r8; mov 72(%rdi), %r9; mov 80(%rdi), %r10; mov 88(%rdi), %r11\n"
        "    mov 96(%rdi), %r12; mov 104(%rdi), %r13; mov 112(%rdi), %r14; mov 120(%rdi), %r15\n"
        "    mov 56(%rdi), %rdi\n"
        "    call *8(%rsp)\n"
        "    pushfq\n"
        "    push %rdi\n"
        "    mov 16(%rsp), %rdi\n"
        "    mov %rax, 0(%rdi); mov %rcx, 8(%rdi); mov %rdx, 16(%rdi); mov %rbx, 24(%rdi)\n"
        "    mov %rbp, 40(%rdi); mov %rsi, 48(%rdi)\n"
        "    mov %r8, 64(%rdi); mov %r9, 72(%rdi); mov %r10, 80(%rdi); mov %r11, 88(%rdi)\n"
        "    mov %r12, 96(%rdi); mov %r13, 104(%rdi); mov %r14, 112(%rdi); mov %r15, 120(%rdi)\n"
        "    popq 56(%rdi)\n"
        "    popq 128(%rdi)\n"
        "    xor %eax, %eax\n"
        "1:  add $16, %rsp\n"
        "    cld\n"
        "    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "    ret\n"
        "hostexec_fault:\n" /* from the signal handler, trap number + 1 in EAX */
        "    add $8, %rsp\n"
        "    jmp 1b\n"
        ".size hostexec_enter, . - hostexec_enter\n"
        ".globl hostexec_sync\n"
        ".hidden hostexec_sync\n"
        ".type hostexec_sync, @function\n"
        "hostexec_sync:\n"
        "    mov %rsp, %rax\n"
        "    mov %ss, %ecx; push %rcx\n"
        "    push %rax\n"
        "    pushfq\n"
        "    mov %cs, %ecx; push %rcx\n"
        "    lea 2f(%rip), %rcx; push %rcx\n"
        "    iretq\n"
        "2:  ret\n"
        ".size hostexec_sync, . - hostexec_sync\n");

static uintptr_t stub_fault(struct vcpu *v, uintptr_t pc, unsigned trapno, uintptr_t addr,
                            void *uc_)
{
    ucontext_t *uc = uc_;

    (void)v;
    (void)pc;
    (void)addr;
    /* #PF here is a wrong host pointer: nothing the guest did. */
    if (trapno != VEC_DE && trapno != VEC_UD && trapno != VEC_GP && trapno != VEC_SS &&
        trapno != VEC_MF && trapno != VEC_AC && trapno != VEC_XM)
        return 0;
    uc->uc_mcontext.gregs[REG_RAX] = (greg_t)trapno + 1;
    return (uintptr_t)hostexec_fault;
}

int hostexec_init(void)
{
    static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
    int fd, rc = 0;

    pthread_mutex_lock(&once);
    if (code_rx)
        goto out;
    rc = hostfault_init();
    if (rc)
        goto out;
    fd = memfd_create("mayfly-stubs", MFD_CLOEXEC);
    if (fd < 0) {
        rc = -errno;
        goto out;
    }
    if (ftruncate(fd, (off_t)AREA_ALL)) {
        rc = -errno;
    } else {
        void *rw = mmap(NULL, AREA_ALL, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        void *rx = mmap(NULL, AREA_ALL, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);

        if (rw == MAP_FAILED || rx == MAP_FAILED) {
            rc = -errno;
            if (rw != MAP_FAILED)
                munmap(rw, AREA_ALL);
            if (rx != MAP_FAILED)
                munmap(rx, AREA_ALL);
        } else {
            code_rw = rw;
            code_rx = rx;
            hostfault_register(rx, AREA_ALL, stub_fault);
        }
    }
    close(fd);
out:
    pthread_mutex_unlock(&once);
    return rc;
}

/* ---- re-encoding ---- */

enum { FIELD_NONE, FIELD_REG, FIELD_RM };

/* Which ModRM field names a GPR: asked only when one of them has the number of RSP. */
static int gpr_field(const struct insn *in)
{
    bool mem = in->has_mem;

    switch (in->map << 8 | in->opcode) {
    case 0x12c: /* CVTT* and CVT* to integer: with F3, F2 (the others make MMX of it) */
    case 0x12d:
        return in->pp >= 2 ? FIELD_REG : FIELD_NONE;
    case 0x12a:
        return in->pp >= 2 && !mem ? FIELD_RM : FIELD_NONE;
    case 0x16e:
        return mem ? FIELD_NONE : FIELD_RM;
    case 0x17e: /* F3: MOVQ xmm, xmm/m64 */
        return mem || in->pp == 2 ? FIELD_NONE : FIELD_RM;
    case 0x150: /* MOVMSKPS/PD, PMOVMSKB, PEXTRW */
    case 0x1d7:
    case 0x1c5:
    case 0x1c3: /* MOVNTI */
        return FIELD_REG;
    case 0x1c4: /* PINSRW, PINSRB/D/Q, PEXTRB/W/D/Q, EXTRACTPS */
    case 0x320:
    case 0x322:
    case 0x314 ... 0x317:
        return mem ? FIELD_NONE : FIELD_RM;
    default:
        return FIELD_NONE;
    }
}

/* VEX.W and REX.W mean nothing to these outside 64-bit code, where the host runs. */
static bool w_is_width(const struct insn *in)
{
    switch (in->map << 8 | in->opcode) {
    case 0x12a:
    case 0x12c:
    case 0x12d:
    case 0x16e:
    case 0x17e:
    case 0x316:
    case 0x322:
    case 0x360: /* VPCMPESTRM, VPCMPESTRI */
    case 0x361:
        return true;
    default:
        return false;
    }
}

struct recoded {
    uint8_t addr, spare; /* registers: the address of memory, the stand-in for RSP or REG_NONE */
    uint8_t code[SLOT];
};

static uint8_t *put_opcode(uint8_t *p, const struct insn *in, uint8_t reg, uint8_t rm, bool w)
{
    static const uint8_t prefix[4] = {0, 0x66, 0xf3, 0xf2};
    uint8_t rex = (uint8_t)(w << 3 | (reg >> 3 & 1) << 2 | (rm >> 3 & 1));

    if (in->vex) {
        *p++ = 0xc4;
        *p++ = (uint8_t)(((reg >> 3 & 1) ? 0 : 0x80) | 0x40 | ((rm >> 3 & 1) ? 0 : 0x20) | in->map);
        *p++ = (uint8_t)(w << 7 | (~in->vex_vvvv & 15) << 3 | (in->vex_l & 1) << 2 | (in->pp & 3));
        *p++ = in->opcode;
        return p;
    }
    if (in->pp & 3)
        *p++ = prefix[in->pp & 3];
    if (rex)
        *p++ = 0x40 | rex;
    if (in->map)
        *p++ = 0x0f;
    if (in->map > 1)
        *p++ = in->map == 2 ? 0x38 : 0x3a;
    *p++ = in->opcode;
    return p;
}

static void recode(const struct insn *in, struct recoded *r)
{
    uint8_t reg = in->reg & 15, rm = in->rm & 15, *p = r->code;
    bool w = in->vex ? in->vex_w : in->rex & 8, x87 = insn_class(in) == IC_X87;
    int field;

    __builtin_memset(r->code, 0, SLOT);
    /* Neither is an implicit operand of anything here, nor needs SIB or displacement as a base. */
    r->addr = reg == RDI ? RSI : RDI;
    r->spare = REG_NONE;
    if (in->mode != 8 && w_is_width(in))
        w = false;
    if (x87) { /* ModRM is all opcode but for the address */
        reg &= 7;
        rm &= 7;
        w = false;
    }
    if (reg == RSP || (rm == RSP && !in->has_mem)) {
        field = gpr_field(in);
        if (field == FIELD_REG && reg == RSP)
            reg = r->spare = RBP;
        else if (field == FIELD_RM && rm == RSP)
            rm = r->spare = RBP;
    }
    if (in->has_mem)
        rm = r->addr;
    p = put_opcode(p, in, reg, in->has_modrm ? rm : 0, w);
    if (in->has_modrm)
        *p++ = (uint8_t)((in->has_mem ? 0 : 0xc0) | (reg & 7) << 3 | (rm & 7));
    if (in->imm_len) {
        /* A register in an immediate (VBLENDV) has three bits outside 64-bit code. */
        bool is4 = in->vex && in->map == 3 && (in->opcode & 0xf0) == 0x40 && in->opcode >= 0x4a;

        *p++ = (uint8_t)in->imm & (is4 && in->mode != 8 ? 0x7f : 0xff);
    }
    *p = 0xc3;
}

/* The slot of these bytes in this thread's area, written if they are not there yet. */
static const void *stub(unsigned area, const struct recoded *r)
{
    uint64_t want[2], *have, h;
    size_t off;

    __builtin_memcpy(want, r->code, SLOT);
    h = (want[0] ^ want[1]) * 0x9e3779b97f4a7c15u;
    off = (size_t)area * AREA + (h >> 32) % SLOTS * SLOT;
    have = (uint64_t *)(void *)(code_rw + off);
    if (have[0] != want[0] || have[1] != want[1]) {
        have[0] = want[0];
        have[1] = want[1];
        hostexec_sync();
    }
    return code_rx + off;
}

static unsigned area_of_thread(void)
{
    unsigned n;

    if (!my_area) {
        n = atomic_fetch_add(&areas, 1);
        if (n >= THREADS)
            atomic_store(&areas, THREADS); /* no wrap, however many threads come and go */
        my_area = (n < THREADS - 1 ? n : THREADS - 1) + 1;
    }
    return my_area - 1;
}

static int run(struct frame *f, const struct recoded *r)
{
    unsigned area = area_of_thread();
    int rc;

    if (area == THREADS - 1)
        pthread_mutex_lock(&shared);
    rc = hostexec_enter(f, stub(area, r));
    if (area == THREADS - 1)
        pthread_mutex_unlock(&shared);
    return rc;
}

static int fault(struct vcpu *v, unsigned trapno)
{
    struct cpu *c = &v->cpu;

    switch (trapno) {
    case VEC_GP:
    case VEC_SS:
        return cpu_gp0(c);
    case VEC_AC:
        return cpu_raise_error(c, VEC_AC, 0);
    case VEC_XM: /* SDM 3A 2.5, CR4.OSXMMEXCPT */
        return cpu_raise(c, c->cr4 & CR4_OSXMMEXCPT ? VEC_XM : VEC_UD);
    default:
        return cpu_raise(c, (uint8_t)trapno);
    }
}

int hostexec_run(struct vcpu *v, const struct insn *in, void *mem)
{
    struct cpu *c = &v->cpu;
    struct recoded r;
    struct frame f;
    int rc;

    recode(in, &r);
    for (unsigned i = 0; i < NGPR; i++)
        f.gpr[i] = c->gpr[i];
    f.flags = (c->rflags & FL_ARITH) | FL_R1;
    if (in->has_mem)
        f.gpr[r.addr] = (uint64_t)(uintptr_t)mem;
    if (r.spare != REG_NONE)
        f.gpr[r.spare] = c->gpr[RSP];
    fpu_take(v);
    rc = run(&f, &r);
#ifdef MAYFLY_FPU_EAGER
    fpu_put(v); /* the C library of tests and sanitizers uses vector registers between runs */
#endif
    if (rc)
        return fault(v, (unsigned)rc - 1);
    for (unsigned i = 0; i < NGPR; i++)
        if (i != RSP && i != r.spare && !(in->has_mem && i == r.addr))
            c->gpr[i] = f.gpr[i];
    if (r.spare != REG_NONE)
        c->gpr[RSP] = f.gpr[r.spare];
    c->rflags = (c->rflags & ~(uint64_t)FL_ARITH) | (f.flags & FL_ARITH);
    return CPU_OK;
}
