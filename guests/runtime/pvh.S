/*
 * The entry of an image that something else than mayfly boots: PVH (Xen docs/misc/pvh.pandoc), 32-bit
 * protected mode without paging, EBX = struct hvm_start_info. Makes the state of runtime_entry, an
 * identity map of 4 GiB in long mode, and goes there with the start info in the boot block's place;
 * standalone.c makes a boot block of it.
 */
#define KIMAGE 0xffffffff80000000

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18             /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long pvh_entry - KIMAGE

    .section .text.entry, "ax"
    .code32
    .globl pvh_entry
pvh_entry:
    cli
    cld
    movl $(tables - KIMAGE), %edi
    leal 0x1003(%edi), %eax    /* PML4: slot 0 */
    movl %eax, (%edi)
    leal 0x1000(%eax), %eax    /* PDPT: four page directories of 2 MiB pages */
    xorl %ecx, %ecx
1:  movl %eax, 0x1000(%edi,%ecx,8)
    addl $0x1000, %eax
    incl %ecx
    cmpl $4, %ecx
    jb 1b
    xorl %ecx, %ecx
    movl $0xe3, %eax
2:  movl %eax, 0x2000(%edi,%ecx,8)
    addl $0x200000, %eax
    incl %ecx
    cmpl $2048, %ecx
    jb 2b

    movl %cr4, %eax
    orl $0x20, %eax            /* PAE */
    movl %eax, %cr4
    movl %edi, %cr3
    movl $0xc0000080, %ecx     /* EFER: LME, NXE */
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax
    movl %eax, %cr0
    lgdt (gdt_pointer - KIMAGE)
    ljmp $8, $(long_mode - KIMAGE)

    .code64
long_mode:
    movl $16, %eax
    movl %eax, %ss
    movl %eax, %ds
    movl %eax, %es
    movl %ebx, %edi
    jmp runtime_entry

    .section .rodata
    .balign 8
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
    .word 23
    .long gdt - KIMAGE

    .section .bss.pages, "aw", @nobits
    .balign 4096
tables:
    .skip 6*4096

    .section .note.GNU-stack, "", @progbits
