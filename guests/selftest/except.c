/* Exceptions: vector, error code, RIP, CR2 and what a faulting instruction leaves behind. */
#include "guests/selftest/selftest.h"

static void do_div(void *p)
{
    (void)p;
    __asm__ volatile("xorl %%ecx, %%ecx\n\tdivl %%ecx" : : "a"(1), "d"(0) : "rcx", "cc");
}
static void do_div_overflow(void *p)
{
    (void)p;
    __asm__ volatile("divl %%ecx" : : "a"(1), "d"(5), "c"(2) : "cc");
}
static void do_ud2(void *p)
{
    (void)p;
    __asm__ volatile("ud2");
}
static void do_lock_ud(void *p)
{
    (void)p;
    __asm__ volatile(".byte 0xf0, 0x48, 0x89, 0xc0"); /* lock mov %rax, %rax */
}
static void do_invalid64(void *p)
{
    (void)p;
    __asm__ volatile(".byte 0x06"); /* push %es: not in 64-bit mode */
}
static void do_int3(void *p)
{
    (void)p;
    __asm__ volatile("int3");
}
static void do_int(void *p)
{
    (void)p;
    __asm__ volatile("int $0x42");
}
static void do_stack_noncanonical(void *p)
{
    __asm__ volatile(
        "movq %%rbp, %%rcx\n\tmovq %0, %%rbp\n\tmovq (%%rbp), %%rax\n\tmovq %%rcx, %%rbp"
        :
        : "r"(p)
        : "rax", "rcx", "memory");
}
static void do_load_selector(void *p)
{
    __asm__ volatile("movl %k0, %%es" : : "r"(p));
}
static void do_single_step(void *p)
{
    (void)p;
    __asm__ volatile("pushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\tnop\n\tnop" : : : "cc", "memory");
}
static void do_long_instruction(void *p)
{
    (void)p;
    __asm__ volatile(".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,"
                     "0x66,0x90"); /* 16 bytes */
}
static void do_push(void *p)
{
    __asm__ volatile("movq %0, %%rsp\n\tpushq %%rax" : : "r"(p) : "memory");
}
static void do_rep_movs(void *p)
{
    uint64_t c = 100;
    const void *s = frames[7];

    __asm__ volatile("cld\n\trep movsb" : "+S"(s), "+D"(p), "+c"(c) : : "memory");
}
static void do_rep_stosq_down(void *p)
{
    uint64_t c = 100;

    __asm__ volatile("std\n\trep stosq\n\tcld" : "+D"(p), "+c"(c) : "a"(7) : "memory");
}
static void do_xadd(void *p)
{
    uint64_t v = 0x1234;

    __asm__ volatile("xaddq %0, (%1)" : "+r"(v) : "r"(p) : "memory");
}
static void do_call_memory(void *p)
{
    __asm__ volatile("call *(%0)" : : "r"(p) : "memory");
}
static void do_jump_noncanonical(void *p)
{
    __asm__ volatile("jmp *%0" : : "r"(p));
}
static void do_ret_noncanonical(void *p)
{
    __asm__ volatile("pushq %0\n\tmovq %%rsp, %%rcx\n\tret" : : "r"(p) : "rcx", "memory");
}
static void do_ret_pop_noncanonical(void *p)
{
    __asm__ volatile("pushq %0\n\tmovq %%rsp, %%rcx\n\tret $24" : : "r"(p) : "rcx", "memory");
}
static void do_aligned_sse(void *p)
{
    __asm__ volatile("movaps (%0), %%xmm0" : : "r"(p) : "memory");
}

static uint64_t handler_rsp, handler_rip;
static void note(struct frame *f)
{
    handler_rsp = (uintptr_t)(f + 1);
    handler_rip = f->rip;
}

#define NONCANONICAL ((void *)0x8000000000000000)
#define ABSENT       ((void *)0x300000123)

static void test_vectors(void)
{
    struct frame f;

    check_equal(bare_try(do_div, NULL, &f), 1 + 0, "#DE by zero");
    check_equal(*(uint16_t *)f.rip, 0xf1f7, "#DE at the DIV");
    check_equal(f.rdx << 32 | f.rax, 1, "#DE leaves EDX:EAX");
    check_equal(bare_try(do_div_overflow, NULL, &f), 1 + 0, "#DE overflow");
    check_equal(bare_try(do_ud2, NULL, &f), 1 + 6, "#UD ud2");
    check_equal(*(uint16_t *)f.rip, 0x0b0f, "#UD at the UD2");
    check_equal(bare_try(do_lock_ud, NULL, &f), 1 + 6, "#UD lock mov");
    check_equal(bare_try(do_invalid64, NULL, &f), 1 + 6, "#UD push es in 64-bit");
    check_equal(bare_try(do_int3, NULL, &f), 1 + 3, "#BP int3");
    check_equal(*(uint8_t *)(f.rip - 1), 0xcc, "#BP behind the INT3");
    check_equal(bare_try(do_int, NULL, &f), 1 + 0x42, "INT n");
    check_equal(*(uint16_t *)(f.rip - 2), 0x42cd, "INT n behind itself");
    check_equal(bare_try(do_single_step, NULL, &f), 1 + 1, "#DB single step");
    check_equal(*(uint16_t *)(f.rip - 1), 0x9090, "#DB after one instruction");
    check_equal(bare_try(do_long_instruction, NULL, &f), 1 + 13, "#GP 16-byte instruction");
    check(f.cs == SEL_CODE && f.ss == SEL_DATA, "frame CS and SS");

    check_equal(bare_try(try_read, NONCANONICAL, &f), 1 + 13, "#GP non-canonical read");
    check_equal(f.error, 0, "#GP error code 0");
    check_equal(bare_try(do_stack_noncanonical, NONCANONICAL, &f), 1 + 12, "#SS non-canonical RBP");
    check_equal(bare_try(do_load_selector, (void *)0x1000, &f), 1 + 13, "#GP selector beyond GDT");
    check_equal(f.error, 0x1000, "#GP error code is the selector");
    check_equal(bare_try(do_jump_noncanonical, NONCANONICAL, &f), 1 + 13, "#GP jump non-canonical");
    check_equal(bare_try(do_ret_noncanonical, NONCANONICAL, &f), 1 + 13,
                "#GP return non-canonical");
    check_equal(*(uint8_t *)f.rip, 0xc3, "#GP at the RET");
    check_equal(f.rsp, f.rcx, "#GP leaves what RET would have popped");
    check_equal(bare_try(do_ret_pop_noncanonical, NONCANONICAL, &f), 1 + 13, "#GP RET imm");
    check_equal(*(uint8_t *)f.rip, 0xc2, "#GP at the RET imm");
    check_equal(f.rsp, f.rcx, "#GP leaves what RET imm would have popped");
    check_equal(bare_try(do_aligned_sse, frames[0] + 8, &f), 1 + 13, "#GP unaligned movaps");
}

static void test_page_faults(void)
{
    struct frame f;

    check_equal(bare_try(try_read, ABSENT, &f), 1 + 14, "#PF read absent");
    check_equal(f.error, 0, "#PF read error code");
    check_equal(read_cr2(), (uintptr_t)ABSENT, "#PF CR2");
    check_equal(bare_try(try_write, ABSENT, &f), 1 + 14, "#PF write absent");
    check_equal(f.error, 2, "#PF write error code");
    check_equal(bare_try(do_jump_noncanonical, ABSENT, &f), 1 + 14, "#PF fetch absent");
    check_equal(f.rip, (uintptr_t)ABSENT, "#PF fetch RIP is the target");
    check_equal(read_cr2(), (uintptr_t)ABSENT, "#PF fetch CR2");
    check_equal(bare_try(do_call_memory, ABSENT, &f), 1 + 14, "#PF call through absent pointer");
    check_equal(read_cr2(), (uintptr_t)ABSENT, "#PF call CR2");
}

/* Half-done instructions: nothing changed, or REP exactly as far as it came. */
static void test_precise(void)
{
    static uint8_t stack[4096] __attribute__((aligned(16)));
    struct frame f;
    uint8_t *page = region_map(0, 0, P | W);

    for (unsigned i = 0; i < 4096; i++) {
        frames[0][i] = 0xee;
        frames[7][i] = (uint8_t)i;
    }
    region_unmap(1);
    bare_tss.ist[0] = (uintptr_t)stack + sizeof(stack);
    bare_gate(14, 1, 0);
    check_equal(bare_try(do_push, ABSENT, &f), 1 + 14, "#PF push, on an IST stack");
    check_equal(f.rsp, (uintptr_t)ABSENT, "#PF push leaves RSP");
    check_equal(read_cr2(), (uintptr_t)ABSENT - 8, "#PF push CR2");
    bare_gate(14, 0, 0);

    check_equal(bare_try(do_rep_movs, page + 4096 - 37, &f), 1 + 14, "#PF rep movsb");
    check_equal(f.rcx, 100 - 37, "rep movsb RCX at the fault");
    check_equal(f.rdi, (uintptr_t)page + 4096, "rep movsb RDI at the fault");
    check_equal(f.rsi, (uintptr_t)frames[7] + 37, "rep movsb RSI at the fault");
    check_equal(frames[0][4095], 36, "rep movsb bytes before the fault are there");
    check_equal(*(uint16_t *)f.rip, 0xa4f3, "rep movsb RIP at the instruction");

    region_map(1, 1, P | W);
    region_unmap(0);
    check_equal(bare_try(do_rep_stosq_down, page + 4096 + 80, &f), 1 + 14, "#PF rep stosq down");
    check_equal(f.rcx, 100 - 11, "rep stosq RCX at the fault");
    check_equal(f.rdi, (uintptr_t)page + 4096 - 8, "rep stosq RDI at the fault");

    region_map(0, 0, P | W);
    region_unmap(1);
    frames[0][4092] = 0x77;
    check_equal(bare_try(try_write, page + 4096 - 4, &f), 1 + 14, "#PF write across pages");
    check_equal(read_cr2(), (uintptr_t)page + 4096, "CR2 is the second page");
    check_equal(frames[0][4092], 0x77, "first page untouched");

    region_map(1, 1, P);
    check_equal(bare_try(do_xadd, page + 4096, &f), 1 + 14, "#PF xadd read-only");
    check_equal(f.error, 3, "xadd error code: present, write");

    /* An instruction whose second half lies in an absent page. */
    region_unmap(1);
    frames[0][4094] = 0x48; /* movabs $..., %rax */
    frames[0][4095] = 0xb8;
    check_equal(bare_try(try_call, page + 4094, &f), 1 + 14, "#PF fetch across pages");
    check_equal(f.rip, (uintptr_t)page + 4094, "RIP is the first byte");
    check_equal(read_cr2(), (uintptr_t)page + 4096, "CR2 is the second page (fetch)");
}

/* In 64-bit mode the CPU aligns the stack to 16 before it pushes the frame (SDM 3A 6.14.2). */
static void test_frame(void)
{
    uint64_t rsp, top;

    bare_on(0x42, note);
    __asm__ volatile("movq %%rsp, %0\n\tsubq $256, %%rsp\n\tandq $-16, %%rsp\n\tsubq $24, %%rsp\n\t"
                     "movq %%rsp, %1\n\tint $0x42\n\tmovq %0, %%rsp"
                     : "=&b"(rsp), "=&r"(top)
                     :
                     : "memory", "cc");
    check_equal(handler_rsp, (top & ~15ull), "frame aligned to 16");
    bare_on(0x42, NULL);

    bare_on(3, note);
    __asm__ volatile("int3");
    check(handler_rip != 0, "IRETQ resumes after INT3");
    bare_on(3, NULL);
}

void test_exceptions(void)
{
    test_vectors();
    test_page_faults();
    test_precise();
    test_frame();
}
