/* The kernel's side: to CPL 3 and back, and the shortest handlers that still do a handler's work. */
    .text
    .globl nano_enter, nano_syscall_entry, nano_page_fault_entry, nano_divide_entry
    .globl nano_breakpoint_entry

/* nano_enter(RDI = code at CPL 3, RSI = its stack, RDX = its RAX, RCX = its RDI, R8 = its RSI): returns
 * at its INT3 what is in R8 then. */
nano_enter:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, kernel_stack(%rip)
    pushq $0x23
    pushq %rsi
    pushq $2
    pushq $0x2b
    pushq %rdi
    movq %rdx, %rax
    movq %rcx, %rdi
    movq %r8, %rsi
    iretq

nano_syscall_entry:
    sysretq

nano_breakpoint_entry:
    movq kernel_stack(%rip), %rsp
    movq %r8, %rax
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

nano_page_fault_entry: /* reads where it was, drops the error code, skips the instruction */
    movq %cr2, %r11
    addq $2, 8(%rsp)
    addq $8, %rsp
    iretq

nano_divide_entry:
    addq $2, (%rsp)
    iretq

    .bss
    .balign 8
kernel_stack:
    .skip 8

    .section .note.GNU-stack, "", @progbits
