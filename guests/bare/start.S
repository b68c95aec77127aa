/*
 * Start of the bare guests: multiboot 1, so mayfly and QEMU can both load them. From 32-bit
 * protected mode to 64-bit with the first 4 GiB identity-mapped by 2 MiB pages, then bare_main().
 * The image is linked for 64-bit and its container turned into ELF32 (QEMU's loader wants that).
 */
#include "guests/entry.inc"

    .section .multiboot, "a"
    .balign 4
    .long 0x1badb002, 3, -(0x1badb002 + 3)     /* page-aligned modules, memory info */

    .text
    .code32
    .globl bare_entry
bare_entry:
    cld
    movl %eax, bare_magic
    movl %ebx, bare_info
    movl $boot_stack_top, %esp

    /* PDs: 2048 entries of 2 MiB, present, writable. */
    xorl %ecx, %ecx
1:  movl %ecx, %eax
    shll $21, %eax
    orl $0x83, %eax
    movl %eax, bare_pd(, %ecx, 8)
    movl $0, bare_pd + 4(, %ecx, 8)
    incl %ecx
    cmpl $2048, %ecx
    jne 1b
    xorl %ecx, %ecx
2:  movl %ecx, %eax
    shll $12, %eax
    addl $bare_pd + 3, %eax
    movl %eax, bare_pdpt(, %ecx, 8)
    incl %ecx
    cmpl $4, %ecx
    jne 2b
    movl $bare_pdpt + 3, bare_pml4

    movl %cr4, %eax
    orl $0x620, %eax                           /* PAE, OSFXSR, OSXMMEXCPT */
    movl %eax, %cr4
    movl $bare_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x101, %eax                           /* LME, SCE */
    wrmsr
    movl %cr0, %eax
    andl $~0xc, %eax
    orl $0x80010023, %eax                      /* PG, WP, NE, MP, PE */
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $0x08, $long_mode
    .code64
long_mode:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    leaq boot_stack_top(%rip), %rsp
    xorl %ebp, %ebp
    call bare_start
    ud2

    /* One stub a vector, 16 bytes apart. All come to bare_trap(struct frame *) with every general
     * register saved and restored, so a handler may change where and with what to go on. */
    .balign 16
    .globl bare_stubs
bare_stubs:
    trap_stubs 256

trap_common:
    push_regs
    cld
    movq %rsp, %rdi
    movq %rsp, %rbp
    andq $-16, %rsp
    call bare_trap
    movq %rbp, %rsp
    pop_regs
    addq $16, %rsp
    iretq

    .data
    .balign 16
    .globl bare_gdt
bare_gdt:
    .quad 0
    .quad 0x00af9b000000ffff                   /* 0x08 code64 */
    .quad 0x00cf93000000ffff                   /* 0x10 data */
    .quad 0x00cffb000000ffff                   /* 0x18 user code32: SYSRET's base */
    .quad 0x00cff3000000ffff                   /* 0x20 user data */
    .quad 0x00affb000000ffff                   /* 0x28 user code64 */
    .quad 0, 0                                 /* 0x30 TSS */
gdt_end:
gdt_pointer:
    .word gdt_end - bare_gdt - 1
    .quad bare_gdt

    .bss
    .balign 4096
    .globl bare_pml4, bare_pdpt, bare_pd, bare_magic, bare_info
bare_pml4:
    .skip 4096
bare_pdpt:
    .skip 4096
bare_pd:
    .skip 16384
    .skip 16384
boot_stack_top:
bare_magic:
    .skip 4
bare_info:
    .skip 4

    .section .note.GNU-stack, "", @progbits
