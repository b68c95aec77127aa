# Several CPUs: INIT and start-up IPIs to all others, then to each of them ROUNDS interrupts which it
# answers with one, the boot processor halted in between. How many CPUs there are is the last word of
# the command line, 2 without.
    .include "common.inc"
    .set DEFAULT_CPUS, 2
    .set ROUNDS, 50
    .set LAPIC, 0xfee00000
    .set ID, LAPIC + 0x20
    .set EOI, LAPIC + 0xb0
    .set SVR, LAPIC + 0xf0
    .set ICR, LAPIC + 0x300
    .set ICR_HIGH, LAPIC + 0x310
    .set PING, 0x40
    .set PONG, 0x41
    .set TRAMPOLINE, 0x8000            # the start-up IPI's vector is its page
    .set STACK_BYTES, 512

    .code32
    .globl _start
_start:
    enter DEFAULT_CPUS
    cmp $16, %eax
    ja bad
    mov %eax, cpus

    mov $trampoline, %esi
    mov $TRAMPOLINE, %edi
    mov $trampoline_end - trampoline, %ecx
    rep movsb
    movl $ping, %eax
    mov $PING, %ecx
    call set_gate
    movl $pong, %eax
    mov $PONG, %ecx
    call set_gate
    lgdt gdtr
    ljmp $8, $1f
1:  mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    lidt idtr
    movl $0x1ff, SVR
    mov $0xff, %al                     # the 8259 out of the way
    out %al, $0x21

    movl $0xc4500, ICR                 # INIT to all but this one
    mov $2000, %ecx
1:  out %al, $0x80
    dec %ecx
    jnz 1b
    movl $0xc4600 | TRAMPOLINE >> 12, ICR
    mov cpus, %eax
    dec %eax
2:  pause
    cmp %eax, alive
    jb 2b

    mov $ROUNDS, %ebp
each_round:
    mov $1, %ebx
each_cpu:
    cmp cpus, %ebx
    jae 3f
    incl want
    mov %ebx, %eax
    shl $24, %eax
    mov %eax, ICR_HIGH
    movl $0x4000 | PING, ICR
await:                                 # PONG comes back here, with the stack as it was
    cli
    mov want, %eax
    cmp pongs, %eax
    je 1f
    sti
    hlt
    jmp await
1:  inc %ebx
    jmp each_cpu
3:  dec %ebp
    jnz each_round

    mov $before, %esi
    call puts
    mov cpus, %eax
    call putdec
    mov $between, %esi
    call puts
    mov pings, %eax
    call putdec
    mov $after, %esi
    call puts
    mov pings, %eax
    cmp want, %eax
    jne bad
    exit_with 0
bad:
    exit_with 1

# The boot processor's: it needs no IRET, as it is interrupted in one place.
pong:
    movl $0, EOI
    incl pongs
    add $12, %esp
    jmp await

# The others': count, answer, sleep again.
ping:
    movl $0, EOI
    lock incl pings
    movl $0, ICR_HIGH
    movl $0x4000 | PONG, ICR
    add $12, %esp
ap_sleep:
    sti
    hlt
    jmp ap_sleep

ap_start:                              # 32 bits, flat
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    lidt idtr
    mov ID, %eax
    shr $24, %eax
    cmp $16, %eax
    jae 1f
    imul $STACK_BYTES, %eax, %eax
    lea ap_stacks + STACK_BYTES(%eax), %esp
    movl $0x1ff, SVR
    lock incl alive
    jmp ap_sleep
1:  cli
    hlt
    jmp 1b

# ECX: vector, EAX: where to. Changes EDX.
set_gate:
    mov %eax, %edx
    and $0xffff, %eax
    or $8 << 16, %eax
    mov %eax, idt(,%ecx,8)
    mov $0x8e00, %dx
    mov %edx, idt + 4(,%ecx,8)
    ret

    .code16
trampoline:                            # CS:IP is TRAMPOLINE / 16 : 0
    cli
    mov %cs, %ax
    mov %ax, %ds
    lgdtl trampoline_gdtr - trampoline
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $8, $ap_start
    .balign 4
trampoline_gdtr:
    .word 23
    .long gdt
trampoline_end:

    .code32
    multiboot_header
    routines
    .data
    .balign 8
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:
    .word 23
    .long gdt
idtr:
    .word 0x42 * 8 - 1
    .long idt
before:
    .asciz "smp: "
between:
    .asciz " CPUs, "
after:
    .asciz " interrupts there and back\n"
    .bss
    .balign 16
idt:
    .skip 0x42 * 8
cpus:
    .skip 4
alive:
    .skip 4
want:
    .skip 4
pings:
    .skip 4
pongs:
    .skip 4
ap_stacks:
    .skip 16 * STACK_BYTES
    .skip 512
    .balign 16
stack_top:
