/*
 * Where the other processors begin (SDM 3A 8.4.4): real mode at page AP_PAGE, to which bare_main()
 * copies this, then 64-bit mode in one step with the boot processor's tables, and ap_main(APIC id)
 * on a stack of its own.
 */
#include "guests/wake/wake.h"

    .text
    .code16
    .globl ap_begin, ap_end
ap_begin:
    cli
    movw %cs, %ax
    movw %ax, %ds
    lgdtl ap_gdtr - ap_begin
    movl $0x620, %eax                          /* PAE, OSFXSR, OSXMMEXCPT */
    movl %eax, %cr4
    movl $bare_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x101, %eax                           /* LME, SCE */
    wrmsr
    movl %cr0, %eax
    andl $~0x6000000c, %eax                    /* CD, NW: caches on */
    orl $0x80010023, %eax                      /* PG, WP, NE, MP, PE */
    movl %eax, %cr0
    ljmpl $0x08, $ap_long
    .balign 8
ap_gdtr:
    .word 8 * 8 - 1
    .long bare_gdt
ap_end:

    .code64
ap_long:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    lidt ap_idtr
    movl $0xfee00020, %eax
    movl (%rax), %edi
    shrl $24, %edi
    leal 1(%rdi), %eax
    imull $AP_STACK, %eax
    leaq ap_stacks(%rax), %rsp
    xorl %ebp, %ebp
    call ap_main
    ud2

    .section .note.GNU-stack, "", @progbits
