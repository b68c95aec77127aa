# A line on the serial port in a few hundred CPL 0 instructions, and exit status 0; 1 when the loader
# did not leave the multiboot magic.
    .include "common.inc"
    .code32
    .globl _start
_start:
    cmp $MB_LOADED, %eax
    jne bad
    mov $stack_top, %esp
    mov $text, %esi
    call puts
    exit_with 0
bad:
    exit_with 1

    multiboot_header
    routines
text:
    .asciz "hello from CPL 0\n"
    .bss
    .balign 16
    .skip 256
stack_top:
