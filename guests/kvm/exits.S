# What an exit costs: N times OUT to port 0x80, which no device claims, by the TSC. N is the last word
# of the command line, 1000 without. At CPL 0.
    .include "common.inc"
    .set DEFAULT_N, 1000
    .code32
    .globl _start
_start:
    enter DEFAULT_N
    mov %eax, count
    mov %eax, %ecx
    out %al, $0x80             # once outside of the measurement
    rdtsc
    mov %eax, %esi
    mov %edx, %edi
2:  out %al, $0x80
    dec %ecx
    jnz 2b
    rdtsc
    sub %esi, %eax
    sbb %edi, %edx
    # A quotient of more than 32 bits would be 4 G cycles an exit.
    cmp count, %edx
    jae bad
    divl count
    mov %eax, result

    mov $before, %esi
    call puts
    mov result, %eax
    call putdec
    mov $between, %esi
    call puts
    mov count, %eax
    call putdec
    mov $after, %esi
    call puts
    exit_with 0
bad:
    exit_with 1

    multiboot_header
    routines
before:
    .asciz "exit cost: "
between:
    .asciz " TSC cycles, mean of "
after:
    .asciz " OUTs\n"
    .bss
    .balign 16
count:
    .skip 4
result:
    .skip 4
    .skip 256
    .balign 16
stack_top:
