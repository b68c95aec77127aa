# A checksum at CPL 3: CPL 0 enters long mode on static tables, drops to CPL 3 by IRETQ, and gets the
# result back through a DPL 3 interrupt gate. The gate is INT3's: a KVM that runs CPL 3 without VMX or
# SVM does not deliver INT n. The number of steps is the last word of the command line, 10^8 without.
    .include "common.inc"
    .set DEFAULT_STEPS, 100000000
    .set MSR_EFER, 0xc0000080
    .set KCODE64, 0x08
    .set KDATA, 0x10
    .set KCODE32, 0x18
    .set UDATA, 0x20
    .set UCODE64, 0x28
    .set TSS, 0x30
    .set BP, 3

    .code32
    .globl _start
_start:
    enter DEFAULT_STEPS
    mov %eax, steps

    mov $pml4, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x20, %eax             # PAE
    mov %eax, %cr4
    mov $MSR_EFER, %ecx
    rdmsr
    or $0x100, %eax            # LME
    wrmsr
    mov %cr0, %eax
    or $0x80000001, %eax       # PG, PE
    mov %eax, %cr0
    # The TSS descriptor's base is scattered over it.
    mov $tss, %eax
    mov %ax, gdt + TSS + 2
    shr $16, %eax
    mov %al, gdt + TSS + 4
    mov %ah, gdt + TSS + 7
    # So is the gate's offset.
    mov $gate, %eax
    mov %ax, idt + BP * 16
    shr $16, %eax
    mov %ax, idt + BP * 16 + 6
    lgdt gdtr
    ljmp $KCODE64, $long_mode
bad:
    exit_with 1

    .code64
long_mode:
    mov $KDATA, %eax
    mov %eax, %ss
    mov $UDATA | 3, %eax
    mov %eax, %ds
    mov %eax, %es
    mov $idtr, %eax
    lidt (%rax)
    mov $TSS, %eax
    ltr %ax
    pushq $UDATA | 3
    mov $user_stack_top, %eax
    push %rax
    pushq $2
    pushq $UCODE64 | 3
    mov $user, %eax
    push %rax
    iretq

# s = s * 6364136223846793005 + 1442695040888963407 (Knuth's MMIX), folded: a multiply, an add and
# a rotate a step, each on the one before.
user:
    mov $steps, %eax
    mov (%rax), %ecx
    mov $1, %eax
    mov $6364136223846793005, %rsi
    mov $1442695040888963407, %rdi
1:  imul %rsi, %rax
    add %rdi, %rax
    rol $13, %rax
    dec %rcx
    jnz 1b
    int3

# CPL 0 again: RAX is the sum.
gate:
    mov $result, %ecx
    mov %rax, (%rcx)
    mov $KDATA, %eax           # the gate left SS null, which only 64-bit code may have
    mov %eax, %ss
    # Back to 32-bit code for the printing: far return to a compatibility segment.
    mov $stack_top, %esp
    pushq $KCODE32
    mov $print, %eax
    push %rax
    lretq

    .code32
print:
    mov $before, %esi
    call puts
    mov steps, %eax
    call putdec
    mov $between, %esi
    call puts
    mov result + 4, %ebx
    call puthex
    mov result, %ebx
    call puthex
    mov $after, %esi
    call puts
    exit_with 0

    multiboot_header
    routines
before:
    .asciz "cpl3: "
between:
    .asciz " steps, checksum "
after:
    .asciz "\n"

    .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00209b0000000000   # 64-bit code, DPL 0
    .quad 0x00cf93000000ffff   # data, DPL 0
    .quad 0x00cf9b000000ffff   # 32-bit code, DPL 0
    .quad 0x00cff3000000ffff   # data, DPL 3
    .quad 0x0020fb0000000000   # 64-bit code, DPL 3
    .quad 0x0000890000000067   # TSS, limit 0x67: no I/O bitmap
    .quad 0
gdt_end:
gdtr:
    .word gdt_end - gdt - 1
    .long gdt, 0
idtr:
    .word idt_end - idt - 1
    .long idt, 0
    .balign 16
idt:
    .skip BP * 16
    .word 0, KCODE64
    .byte 0, 0xee              # interrupt gate, DPL 3
    .word 0
    .quad 0
idt_end:
    .balign 16
tss:
    .long 0
    .long stack_top, 0         # RSP0
    .skip 0x66 - 12
    .word 0x68                 # I/O bitmap base: past the limit
    .balign 4096
pml4:
    .long pdpt + 7, 0
    .balign 4096
pdpt:
    .long pd + 7, 0
    .balign 4096
pd:
    .quad 0x87                 # present, writable, user, 2 MiB: identity
    .quad 0x200087
    .balign 4096

    .bss
    .balign 16
steps:
    .skip 8
result:
    .skip 8
    .skip 512
    .balign 16
stack_top:
    .skip 512
    .balign 16
user_stack_top:
