/* The runtime's entries: the boot, system calls, traps, and the switch between threads. */

#include "guests/entry.inc"

#define KMAP_SLOT 256
#define SEL_KCODE 0x08
#define SEL_UDATA 0x2b
#define SEL_UCODE 0x33

    .section .note.mayfly, "a", @note
    .balign 4
    .long 7, 4, 1              /* name and desc lengths, MAYFLY_NOTE_TYPE */
    .asciz "mayfly"
    .byte 0
    .long 1                    /* MAYFLY_BOOT_VERSION */

    /*
     * 64-bit, CPL0, identity map of 2 MiB pages, RDI = boot block. RIP-relative addresses are
     * physical until the jump. The monitor's tables stay in use: slot 256 of the PML4 becomes all
     * of RAM, never executable; slot 511 the image, in two large pages: the first 2 MiB, with the
     * code, may be executed and not written, the next written and not executed; slot 0 the
     * program's.
     */
    .section .text.entry, "ax"
    .globl runtime_entry
runtime_entry:
    cld
    movl $0xc0000080, %ecx     /* EFER: SCE, NXE */
    rdmsr
    orl $0x801, %eax
    wrmsr
    movq %cr0, %rax            /* WP: the runtime too honours read-only pages */
    orl $0x10000, %eax
    movq %rax, %cr0

    movq $1, %r11
    shlq $63, %r11             /* NX */
    leaq image_pd(%rip), %rcx
    movq $0xa1, (%rcx)         /* P, A, PS */
    leaq 0x2000e3(%r11), %rax  /* 2 MiB: P, W, A, D, PS, NX */
    movq %rax, 8(%rcx)
    leaq image_pdpt(%rip), %rdx
    orq $0x23, %rcx
    movq %rcx, 510*8(%rdx)
    orq $0x23, %rdx
    movq %cr3, %rax
    movq (%rax), %rcx
    movq %rdx, 511*8(%rax)
    orq %r11, %rcx
    movq %rcx, KMAP_SLOT*8(%rax)
    movq %rax, %cr3
    movq $high, %rax
    jmp *%rax
high:
    movq $boot_stack_top, %rsp
    xorl %ebp, %ebp
    call runtime_main
    ud2

    .text
    /*
     * SYSCALL: RCX = return RIP, R11 = RFLAGS, IF=0, the program's stack still in RSP. The pushes
     * make a struct regs.
     */
    .balign 16
    .globl syscall_entry
syscall_entry:
    movq %rsp, user_sp(%rip)
    movq kernel_sp(%rip), %rsp
    pushq $SEL_UDATA
    pushq user_sp(%rip)
    pushq %r11
    pushq $SEL_UCODE
    pushq %rcx
    pushq %rax
    pushq $-1
    push_regs
    movq %rsp, %rdi
    call syscall_enter
back_to_user:
    pop_regs
    /* SYSRET needs RCX = RIP and R11 = RFLAGS: so it is, unless a signal or a fault was here. */
    cmpq %rcx, 16(%rsp)
    jne 1f
    cmpq %r11, 32(%rsp)
    jne 1f
    movq 40(%rsp), %rsp
    sysretq
1:  addq $16, %rsp
    iretq

    /* A new thread's first instructions: switch_stacks() returns here with RSP at its regs. */
    .globl thread_begin
thread_begin:
    movq %rsp, %rdi
    call thread_started
    jmp back_to_user

    .balign 2048
    .globl trap_stubs
trap_stubs:
    trap_stubs 80

trap_common:
    cld
    push_regs
    movq %rsp, %rdi
    call trap
    pop_regs
    addq $16, %rsp
    iretq

    /* switch_stacks(save, load): leave this kernel stack, go on where load was left. */
    .globl switch_stacks
switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret

    /* What ring3.c copies to a page of CPL 3. */
    .globl ring3_code, ring3_restore, ring3_code_end
ring3_code:
    xsave64 (%rdi)
    syscall
ring3_restore:
    xrstor64 (%rdi)
    syscall
ring3_code_end:

    .globl ring3_run, ring3_return
ring3_run:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq (%rcx)
    pushq %rcx
    movq %rsp, (%rcx)          /* traps come to this stack, below what is in use */
    movq %rsp, ring3_sp(%rip)
    pushq $SEL_UDATA
    pushq $0
    pushq $2                   /* IF=0 */
    pushq $SEL_UCODE
    pushq %rdi
    movq %rsi, %rdi
    movq %rdx, %rax
    shrq $32, %rdx
    iretq
ring3_return:
    movq ring3_sp(%rip), %rsp
    popq %rcx
    popq (%rcx)
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret

    /* The only instructions that touch program memory. A fault that cannot be served goes on at
     * user_access_failed. */
    .globl user_access_begin, user_access_end, user_access_failed, copy_user, clear_user
user_access_begin:
copy_user:
    movq %rdx, %rcx
    shrq $3, %rcx
    rep movsq
    movl %edx, %ecx
    andl $7, %ecx
    rep movsb
    xorl %eax, %eax
    ret
clear_user:
    movq %rsi, %rcx
    xorl %eax, %eax
    shrq $3, %rcx
    rep stosq
    movl %esi, %ecx
    andl $7, %ecx
    rep stosb
    ret
user_access_end:
user_access_failed:
    movl $-14, %eax            /* -EFAULT */
    ret

    /* Interrupt gates (SDM 3A 6.14.1). The linker script has the pieces of trap_stubs' address. */
    .macro gate stub, dpl=0, ist=0
    .word trap_stubs_low + 16 * (\stub), SEL_KCODE
    .byte \ist, 0x8e | (\dpl) << 5
    .word trap_stubs_middle
    .long -1, 0
    .endm

    .section .rodata
    .balign 16
    .globl idt, idt_end
idt:
    .set vector, 0
    .rept 32
    gate vector, ((vector == 3) | (vector == 4)) & 3, (vector == 8) & 1
    .set vector, vector + 1
    .endr
    .skip 32 * 16              /* no vectors from 0x20 to 0x3f */
    .rept 16
    gate vector + 32
    .set vector, vector + 1
    .endr
idt_end:

    .bss
    .balign 16
    .skip 16384
    .globl boot_stack_top
boot_stack_top:
    .globl kernel_sp
kernel_sp:
    .skip 8
user_sp:
    .skip 8
ring3_sp:
    .skip 8

    .section .bss.pages, "aw", @nobits
    .balign 4096
image_pdpt:
    .skip 4096
    .globl image_pd
image_pd:
    .skip 4096

    .section .note.GNU-stack, "", @progbits
