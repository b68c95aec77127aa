/* Entry, system calls and exceptions of the guest runtime. */

    .section .note.mayfly, "a", @note
    .balign 4
    .long 7, 4, 1              /* name and desc lengths, MAYFLY_NOTE_TYPE */
    .asciz "mayfly"
    .byte 0
    .long 1                    /* MAYFLY_BOOT_VERSION */

    .text
    /* 64-bit, CPL0, RDI = boot block. The stack is ours until runtime_main() has made the program's. */
    .globl runtime_entry
runtime_entry:
    cld
    leaq runtime_stack_top(%rip), %rsp
    xorl %ebp, %ebp
    call runtime_main
    ud2

    /* runtime_enter(sp, main, argc, argv): leave our stack for the program's. */
    .globl runtime_enter
runtime_enter:
    movq %rdi, %rsp
    movq %rsi, %rdi
    movl %edx, %esi
    movq %rcx, %rdx
    xorl %ecx, %ecx
    xorl %r8d, %r8d
    xorl %r9d, %r9d
    xorl %ebp, %ebp
    call __libc_start_main
    ud2

    /*
     * SYSCALL at CPL0: RCX = return RIP, R11 = RFLAGS, no stack switch by the CPU. The program may
     * keep data in the 128 bytes below RSP, so ours is another stack. One CPU and IF=0: never
     * entered twice. Everything but RAX, RCX, R11 comes back as it was.
     */
    .globl syscall_entry
syscall_entry:
    movq %rsp, saved_rsp(%rip)
    leaq runtime_stack_top(%rip), %rsp
    pushq %r11
    pushq %rcx
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %r10
    pushq %r8
    pushq %r9
    subq $8, %rsp
    movq %r10, %rcx
    pushq %rax                 /* seventh argument: the number; RSP is 16-aligned here */
    call runtime_syscall
    addq $16, %rsp
    popq %r9
    popq %r8
    popq %r10
    popq %rdx
    popq %rsi
    popq %rdi
    popq %rcx
    popfq
    movq saved_rsp(%rip), %rsp
    jmp *%rcx

    /* Exceptions come on IST 1 and are the end: runtime_crash(vector, error, frame). Vectors 8,
     * 10-14, 17, 21, 29, 30 push an error code (SDM 3A 6.13); the others get a zero. */
    .balign 16
    .globl exception_stubs
exception_stubs:
    .set vector, 0
    .rept 32
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
    .else
    pushq $0
    .endif
    pushq $vector
    jmp exception_common
    .set vector, vector + 1
    .endr

exception_common:
    popq %rdi
    popq %rsi
    movq %rsp, %rdx
    cld
    andq $-16, %rsp
    call runtime_crash
    ud2

    .bss
    .balign 16
    .skip 8192
runtime_stack_top:
saved_rsp:
    .skip 8

    .section .note.GNU-stack, "", @progbits
