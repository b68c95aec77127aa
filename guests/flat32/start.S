# Entry, tables, exceptions, ways between modes.
    .set EXIT_PORT, 0xf4
    .set CODE32, 0x08
    .set DATA, 0x10
    .set UCODE32, 0x2b
    .set UDATA, 0x33
    .set CODE64, 0x38
    .set TSS, 0x40
    .set BASE, 0x600000

    .text
    .code32
    .balign 4
    .long 0x1badb002, 0, -0x1badb002
    .globl _start
_start:
    mov $stack_top, %esp
    call load_tables
    call main
    mov $EXIT_PORT, %edx
    out %eax, %dx
1:  hlt
    jmp 1b

    .globl load_tables
load_tables:
    lgdt gdtr
    ljmp $CODE32, $1f
1:  mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    # The gates: vectors 0 to 31 and 0x80, which CPL 3 may use, as it may INT3 and INTO.
    mov $idt32, %edi
    mov $stubs32, %eax
    mov $idt64, %ecx
    mov $stubs64, %edx
    xor %ebx, %ebx
2:  mov %ax, (%edi)
    movw $CODE32, 2(%edi)
    movw $0xee00, 4(%edi)
    mov %eax, %esi
    shr $16, %esi
    mov %si, 6(%edi)
    mov %dx, (%ecx)
    movw $CODE64, 2(%ecx)
    movw $0xee00, 4(%ecx)
    mov %edx, %esi
    shr $16, %esi
    mov %si, 6(%ecx)
    add $8, %edi
    add $16, %ecx
    add $16, %eax
    add $16, %edx
    inc %ebx
    cmp $129, %ebx
    jne 2b
    lidt idtr32
    mov $tss, %eax
    mov %ax, gdt + TSS + 2
    shr $16, %eax
    mov %al, gdt + TSS + 4
    mov %ah, gdt + TSS + 7
    movb $0x89, gdt + TSS + 5
    mov $TSS, %eax
    ltr %ax
    ret

# One stub of 16 bytes a vector: the vector in EAX, an error code on the stack whatever the vector.
    .macro stubs bits
    .balign 16
stubs\bits:
    .set n, 0
    .rept 129
    .balign 16
    .if !((n == 8) || (n >= 10 && n <= 14) || (n == 17))
    push $0
    .endif
    mov $n, %eax
    jmp common\bits
    .set n, n + 1
    .endr
    .endm

    stubs 32
common32:
    mov $DATA, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    mov %ecx, %fs
    mov %ecx, %gs
    mov (%esp), %ecx
    mov %ecx, last_error
    mov 4(%esp), %ecx
    mov %ecx, last_eip
    mov %cr2, %ecx
    mov %ecx, last_cr2
    mov $DATA, %ecx
    mov %ecx, %ss
    mov caught, %esp
    cld
    jmp caught_here

# int try(void (*f)(void *), void *arg)
    .globl try
try:
    push %ebp
    push %ebx
    push %esi
    push %edi
    mov %esp, caught
    push 24(%esp)
    call *24(%esp)
    add $4, %esp
    mov $-1, %eax
caught_here:
    pop %edi
    pop %esi
    pop %ebx
    pop %ebp
    ret

    .globl try_user
try_user:
    push %ebp
    push %ebx
    push %esi
    push %edi
    mov %esp, caught
    mov 24(%esp), %eax
    mov %eax, user_stack_top - 8
    movl $0, user_stack_top - 12
    mov $UDATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov 20(%esp), %ecx
    push $UDATA
    push $user_stack_top - 12
    pushf
    push $UCODE32
    push %ecx
    iret
    .globl user_done
user_done:
    int $0x80

    .globl enter_long
enter_long:
    mov 4(%esp), %eax
    mov %cr0, %ecx
    and $0x7fffffff, %ecx
    mov %ecx, %cr0
    mov %cr4, %edx
    or $0x20, %edx
    mov %edx, %cr4
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x900, %eax                # LME, NXE
    wrmsr
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    lidt idtr64
    movb $0x89, gdt + TSS + 5
    mov $TSS, %eax                 # for its RSP0 in the long mode's form
    movl $long_tss, gdt + TSS + 2  # the base's low 24 bits, and the type above them
    movb $0x89, gdt + TSS + 5
    ltr %ax
    ret

    .globl leave_long
leave_long:
    mov %cr0, %eax
    and $0x7fffffff, %eax
    mov %eax, %cr0
    mov $0xc0000080, %ecx
    rdmsr
    and $~0x900, %eax
    wrmsr
    mov %cr4, %eax
    and $~0x20, %eax
    mov %eax, %cr4
    jmp load_tables

# uint32_t call64(const void *f, uint32_t arg)
    .globl call64
call64:
    push %ebp
    push %ebx
    push %esi
    push %edi
    mov 20(%esp), %eax
    mov 24(%esp), %edi
    lcall $CODE64, $1f
    jmp *%edx                      # these have rubbish above
2:  mov (%ebx), %ecx
    mov %ecx, probed
    pop %edi
    pop %esi
    pop %ebx
    pop %ebp
    ret
    .code64
1:  push %rax
    call *%rax
    add $8, %rsp
    # What 32-bit code must not see.
    lea probe(%rip), %rbx
    lea 2b(%rip), %rdx
    mov $0x1234567800000000, %rcx
    or %rcx, %rax
    or %rcx, %rbx
    or %rcx, %rdx
    or %rcx, %rsi
    or %rcx, %rdi
    or %rcx, %rbp
    not %rcx
    lretl

# SYSENTER comes here: ECX, EDX say where to go back to.
    .code32
    .globl sysenter_here, user_sysenter
sysenter_here:
    incl syscalls
    sysexit
# At CPL 3.
user_sysenter:
    mov $50, %ebx
1:  mov %esp, %ecx
    mov $2f, %edx
    sysenter
    ud2
2:  dec %ebx
    jnz 1b
    int $0x80
    .code64

# Sum of the squares up to RDI, in registers that 32-bit code has not.
    .globl sum64
sum64:
    xor %r10d, %r10d
    mov %rdi, %r15
    mov $0x100000000, %r11
1:  mov %r15, %rax
    imul %rax, %rax
    add %rax, %r10
    lea (%r11, %r15), %r11
    dec %r15
    jnz 1b
    mov %r11, %rax
    shr $32, %rax
    dec %eax
    add %r10d, %eax
    ret

    .globl dual
dual:
    .byte 0x48, 0xff, 0xc8         # dec rax; or dec eax twice
    .byte 0xc3

    stubs 64
common64:
    mov (%rsp), %rcx
    mov %ecx, last_error(%rip)
    mov 8(%rsp), %rcx
    mov %ecx, last_eip(%rip)
    mov %cr2, %rcx
    mov %ecx, last_cr2(%rip)
    mov caught(%rip), %esp
    cld
    ljmp *caught_far(%rip)
    .code32
back_from64:
    mov $DATA, %ecx
    mov %ecx, %ss
    mov %ecx, %ds
    mov %ecx, %es
    mov %ecx, %fs
    mov %ecx, %gs
    jmp caught_here

    .data
caught_far:
    .long back_from64
    .word CODE32
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff       # CODE32
    .quad 0x00cf93000000ffff       # DATA
    .quad 0x0040930000000fff       # SMALL
    .quad 0x00cf93000000ffff | (BASE & 0xffffff) << 16 | (BASE >> 24) << 56
    .quad 0x00cffb000000ffff       # UCODE32
    .quad 0x00cff3000000ffff       # UDATA
    .quad 0x00af9b000000ffff       # CODE64
    .quad 0x0000890000000067, 0    # TSS; in long mode it has two
    .quad 0x00cf91000000ffff       # RODATA
gdt_end:
gdtr:
    .word gdt_end - gdt - 1
    .long gdt
idtr32:
    .word 129 * 8 - 1
    .long idt32
idtr64:
    .word 129 * 16 - 1
    .long idt64
    .globl last_error, last_eip, last_cr2, syscalls, probe, probed
probe:      .long 0x1357
probed:     .long 0
syscalls:   .long 0
last_error: .long 0
last_eip:   .long 0
last_cr2:   .long 0
caught:     .long 0
tss:
    .long 0, fault_stack_top, DATA
    .skip 102 - 12
    .word 104                      # no I/O bitmap
long_tss:
    .long 0, fault_stack_top, 0
    .skip 102 - 12
    .word 104                      # no I/O bitmap

    .bss
    .balign 4096
    .skip 65536
stack_top:
    .skip 16384
fault_stack_top:
    .skip 16384
user_stack_top:
    .balign 16
idt32: .skip 129 * 8
idt64: .skip 129 * 16

    .section .note.GNU-stack, "", @progbits
