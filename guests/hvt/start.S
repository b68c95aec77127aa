/*
 * Entry of the hvt guests, their exception entries, and the note that says what they are. RDI is
 * the gpa of struct hvt_boot (abi.h), RSP the stack.
 */
    .text
    .globl hvt_entry
hvt_entry:
    movq %rsp, hvt_first_rsp(%rip)
    call hvt_main
    ud2

/* One entry a vector, 16 bytes apart: all with an error code on the stack, and the vector. */
    .balign 16
    .globl hvt_vectors
hvt_vectors:
    .set vector, 0
    .rept 32
    .balign 16
    .if (1 << vector) & 0x60227d00
    .else
    pushq $0
    .endif
    pushq $vector
    jmp trap
    .set vector, vector + 1
    .endr

/* hvt_trap(vector, frame): frame is error, rip, cs, rflags, rsp, ss. Does not return. */
trap:
    popq %rdi
    movq %rsp, %rsi
    andq $-16, %rsp
    call hvt_trap
    ud2

    .bss
    .globl hvt_first_rsp
hvt_first_rsp:
    .skip 8

    .section .note.hvt.abi, "a", @note
    .balign 4
    .long 6, 16, 0x31494241
    .asciz "Solo5"
    .balign 4
    .long 1, 2, 0, 0

    .section .note.GNU-stack, "", @progbits
