/*
 * What the nanobenchmarks repeat. Each routine takes RDI = its argument, RSI = rounds and clobbers RAX,
 * RCX, RDX, R8 and R11 only. All of it is position-independent: the guest runs a copy at CPL 3, the
 * host program runs those that a process may.
 */
    .text
    .globl nano_user, nano_user_end, nano_where, nano_nothing, nano_syscalls, nano_ins, nano_cr8_writes
    .globl nano_calls, nano_page_faults, nano_divides, nano_pte_stores, nano_pte_changes

/* At CPL 3: the routine in RAX, then back to whoever entered. By INT3: a KVM that runs CPL 3 without
 * VMX or SVM delivers that; SYSCALL did not come back there. */
nano_user:
    call *%rax
    int3

/* A handler of system calls that tells in R8 where it runs, and returns as if it had been jumped to. */
nano_where:
    movl %cs, %r8d
    jmp *%rcx

nano_nothing:
1:  decq %rsi
    jnz 1b
    ret

/* RDI: the system call's number. One a round. */
nano_syscalls:
1:  movl %edi, %eax
    syscall
    decq %rsi
    jnz 1b
    ret

    /* Eight a round from here on, where it does not say otherwise. */
nano_ins:
1:  .rept 8
    inb $0x80, %al
    .endr
    decq %rsi
    jnz 1b
    ret

nano_cr8_writes:
    xorl %eax, %eax
    movl $5, %edx
1:  .rept 4
    movq %rdx, %cr8
    movq %rax, %cr8
    .endr
    decq %rsi
    jnz 1b
    ret

nano_calls:
1:  .rept 8
    call 2f
    .endr
    decq %rsi
    jnz 1b
2:  ret

/* RDI: an address that is not mapped. The handler goes on behind the two bytes of the load. One a
 * round. */
nano_page_faults:
1:  movb (%rdi), %al
    decq %rsi
    jnz 1b
    ret

nano_divides: /* one a round, two bytes long as well */
    xorl %ecx, %ecx
1:  divl %ecx
    decq %rsi
    jnz 1b
    ret

/* RDI: an entry of the page table that is in use; a bit that software may use as it likes changes. */
nano_pte_stores:
    movq (%rdi), %rax
    movq %rax, %rdx
    xorq $0x200, %rdx
1:  .rept 4
    movq %rdx, (%rdi)
    movq %rax, (%rdi)
    .endr
    decq %rsi
    jnz 1b
    ret

/* RDI: two words, the entry's address and its page's. The store, INVLPG, and a load through the page.
 * Two a round. */
nano_pte_changes:
    movq 8(%rdi), %rcx
    movq (%rdi), %rdi
    movq (%rdi), %rax
    movq %rax, %rdx
    xorq $0x200, %rdx
1:  movq %rdx, (%rdi)
    invlpg (%rcx)
    movb (%rcx), %r8b
    movq %rax, (%rdi)
    invlpg (%rcx)
    movb (%rcx), %r8b
    decq %rsi
    jnz 1b
    ret
nano_user_end:

    .section .note.GNU-stack, "", @progbits
