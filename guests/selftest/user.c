/* CPL 3: IRETQ there, SYSCALL and SYSRET, INT through a DPL 3 gate, what user code may not, the
 * same in compatibility mode, SMEP and SMAP. */
#include "guests/selftest/selftest.h"

enum { CODE_PAGE = 16, STACK_PAGE = 17 };

/* The code that runs at CPL 3, copied to a user page. */
#define USER(name, text)                       \
    extern const uint8_t name[], name##_end[]; \
    __asm__(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n.popsection")

USER(user_syscall,
     "movl $0x77, %eax\n\tstc\n\tsyscall\n\tmovq %rax, %rbx\n\tpushfq\n\tpopq %rdx\n\t"
     "int $0x80");
USER(user_syscall_rex, "movl $0x77, %eax\n\t.byte 0x48\n\tsyscall\n\tmovq %rax, %rbx\n\tint $0x80");
USER(user_int_dpl0, "int $0x42");
USER(user_cli, "cli");
USER(user_hlt, "hlt");
USER(user_out, "outb %al, $0x80");
USER(user_read, "movq 0x100000, %rax");
USER(user_rdmsr, "xorl %ecx, %ecx\n\trdmsr");
USER(user_popf, "pushq $0x3202\n\tpopfq\n\tpushfq\n\tpopq %rax\n\tint $0x80");
USER(user_mov_cs, "movw %cs, %ax\n\tmovw %ss, %bx\n\tint $0x80");
USER(user_code32, ".code32\n\tmovl %esp, %ebx\n\tpushl $5\n\tmovl %esp, %ecx\n\tpopl %eax\n\t"
                  "incl %eax\n\t.byte 0x48\n\t" /* dec %eax in 32-bit code */
                  "int $0x80\n\t.code64");

/* What the kernel side of SYSCALL saw. */
static volatile uint64_t seen_rcx __attribute__((used)), seen_r11 __attribute__((used)),
    seen_rflags __attribute__((used)), kernel_stack_save __attribute__((used));
extern const char syscall_target[];
__asm__(".pushsection .text\n"
        "syscall_target:\n\t"
        "movq %rcx, seen_rcx(%rip)\n\t"
        "movq %r11, seen_r11(%rip)\n\t"
        "movq %rsp, kernel_stack_save(%rip)\n\t"
        "leaq syscall_stack + 512(%rip), %rsp\n\t"
        "pushfq\n\t"
        "popq seen_rflags(%rip)\n\t"
        "movq kernel_stack_save(%rip), %rsp\n\t"
        "addl $1, %eax\n\t"
        "sysretq\n"
        ".popsection");
static uint8_t syscall_stack[512] __attribute__((aligned(16), used));

struct entry {
    uint64_t rip, cs, rflags, rsp, ss;
};

static void enter(void *p)
{
    const struct entry *e = p;

    __asm__ volatile("pushq 32(%0)\n\tpushq 24(%0)\n\tpushq 16(%0)\n\tpushq 8(%0)\n\tpushq (%0)\n\t"
                     "iretq"
                     :
                     : "r"(e)
                     : "memory");
}

static unsigned run_user(const uint8_t *from, const uint8_t *to, uint16_t cs, uint64_t rflags,
                         struct frame *f)
{
    struct entry e;
    uint8_t *code = region_map(CODE_PAGE, 2, P | U);
    uint8_t *stack = region_map(STACK_PAGE, 3, P | W | U);

    for (unsigned i = 0; from + i < to; i++)
        frames[2][i] = from[i];
    if (cs == SEL_UCODE32) {
        code += REGION32 - REGION;
        stack += REGION32 - REGION;
    }
    e = (struct entry){(uintptr_t)code, cs, rflags, (uintptr_t)stack + 4096, SEL_UDATA};
    return bare_try(enter, &e, f);
}
#define RUN(name, f) run_user(name, name##_end, SEL_UCODE, 2, f)

static void test_syscall(void)
{
    struct frame f;

    wrmsr(0xc0000081, (uint64_t)SEL_UCODE32 << 48 | (uint64_t)SEL_CODE << 32);
    wrmsr(0xc0000082, (uintptr_t)syscall_target);
    wrmsr(0xc0000084, 0x401); /* clears DF and CF */
    check_equal(RUN(user_syscall, &f), 1 + 0x80, "user to kernel by INT 0x80");
    check_equal(f.rbx, 0x78, "SYSCALL and SYSRET came and went");
    check_equal(seen_rcx, REGION + CODE_PAGE * 4096 + 8, "SYSCALL: RCX is the next RIP");
    check_equal(seen_r11 & 0xfff, 3, "SYSCALL: R11 is RFLAGS");
    check_equal(seen_rflags & 1, 0, "SYSCALL: FMASK");
    check_equal(f.rdx & 1, 1, "SYSRET: RFLAGS from R11");
    check_equal(f.cs, SEL_UCODE, "SYSRET: CS");
    check_equal(f.ss, SEL_UDATA, "SYSRET: SS");
    check_equal(f.rsp, REGION + STACK_PAGE * 4096 + 4096, "user RSP in the frame");
    check_equal(f.rip, REGION + CODE_PAGE * 4096 + (uint64_t)(user_syscall_end - user_syscall),
                "user RIP in the frame");
    RUN(user_syscall_rex, &f);
    check_equal(f.rbx, 0x78, "SYSCALL with a prefix: RCX is the next RIP");
}

static void test_privilege(void)
{
    struct frame f;

    check_equal(RUN(user_mov_cs, &f), 1 + 0x80, "CPL 3 runs");
    check_equal((f.rax & 0xffff) << 16 | (f.rbx & 0xffff), SEL_UCODE << 16 | SEL_UDATA,
                "CS and SS as user code reads them");
    check_equal(RUN(user_int_dpl0, &f), 1 + 13, "#GP INT through a DPL 0 gate");
    check_equal(f.error, 0x42 * 8 + 2, "its error code: the gate, IDT");
    check_equal(RUN(user_cli, &f), 1 + 13, "#GP CLI");
    check_equal(RUN(user_hlt, &f), 1 + 13, "#GP HLT");
    check_equal(RUN(user_out, &f), 1 + 13, "#GP OUT");
    check_equal(RUN(user_rdmsr, &f), 1 + 13, "#GP RDMSR");
    check_equal(RUN(user_read, &f), 1 + 14, "#PF user reads a supervisor page");
    check_equal(f.error, 5, "its error code: user, present");
    check_equal(read_cr2(), 0x100000, "its CR2");
    check_equal(RUN(user_popf, &f), 1 + 0x80, "POPF at CPL 3");
    check_equal(f.rax & 0x3200, 0, "POPF leaves IF and IOPL");
    check_equal(run_user(user_code32, user_code32_end, SEL_UCODE32, 2, &f), 1 + 0x80,
                "compatibility mode");
    check_equal(f.rax, 5, "32-bit code: inc and dec, not REX");
    check_equal(f.rbx - f.rcx, 4, "32-bit code: a push is 4 bytes");
}

static void test_smep_smap(void)
{
    struct frame f;
    uint8_t *p = region_map(18, 4, P | W | U);
    uint64_t cr4 = read_cr4();

    frames[4][0] = 0xc3;
    check_equal(bare_try(try_call, p, &f), 0, "supervisor executes a user page");
    if (has_cpuid(7, 1, 7)) {
        write_cr4(cr4 | 1 << 20);
        check_equal(bare_try(try_call, p, &f), 1 + 14, "#PF SMEP");
        check_equal(f.error, 0x11, "SMEP error code");
        write_cr4(cr4);
    }
    if (has_cpuid(7, 1, 20)) {
        write_cr4(cr4 | 1 << 21);
        check_equal(bare_try(try_read, p, &f), 1 + 14, "#PF SMAP");
        check_equal(f.error, 1, "SMAP error code");
        __asm__ volatile("stac");
        check_equal(bare_try(try_read, p, &f), 0, "STAC lets it");
        __asm__ volatile("clac");
        write_cr4(cr4);
    }
}

void test_user(void)
{
    static uint8_t stack[8192] __attribute__((aligned(16)));

    bare_tss.rsp[0] = (uintptr_t)stack + sizeof(stack);
    bare_gate(0x80, 0, 3);
    test_syscall();
    test_privilege();
    test_smep_smap();
}
