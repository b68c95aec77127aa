# A Linux kernel to a boot loader, of boot protocol 2.06 with no entry but the 32-bit one (boot.rst,
# "32-bit boot protocol"): checks the state that it is entered in and the zero page, uses Linux's
# selectors, turns paging on with 4 MiB pages, prints the command line and exits with 32. Status 1 to
# 9: the check that failed. The file is the real-mode part's header, one sector more, and the code.
    .set BOOT_CS, 0x10
    .set BOOT_DS, 0x18
    .set LOADED_AT, 0x100000
    .set SERIAL, 0x3f8
    .set EXIT_PORT, 0xf4

    .text
    .code32
    .globl _start
_start:
image:
    .org 0x1f1
    .byte 1                        # setup_sects
    .word 0
    .long (code_end - code + 15) / 16
    .word 0, 0, 0
    .word 0xaa55                   # 0x1fe
    .byte 0xeb, header_end - . - 1 # 0x200: where the header ends
    .ascii "HdrS"
    .word 0x206
    .long 0
    .word 0, 0
    .byte 0, 1                     # 0x210 type_of_loader, loadflags: LOADED_HIGH
    .word 0
    .long LOADED_AT                # 0x214 code32_start
    .long 0, 0, 0                  # ramdisk_image, ramdisk_size, bootsect_kludge
    .word 0
    .byte 0, 0
    .long 0                        # 0x228 cmd_line_ptr
    .long 0x7fffffff               # initrd_addr_max
    .long 0x1000                   # kernel_alignment
    .byte 0, 0                     # relocatable_kernel, min_alignment
    .word 0xffff                   # xloadflags, in 2.12: to be ignored
    .long 255                      # 0x238 cmdline_size
header_end:
    .org 0x258
    .quad 0xdeadbeef000            # pref_address, in 2.10: to be ignored
    .long 0xffffffff               # init_size

    .macro expect status, cc
    j\cc 1f
    mov $\status, %edi
    jmp failed
1:
    .endm

    .org 0x400
code:
    mov $esp_here, %esp
    # CS, DS, ES, SS; EBP, EDI, EBX are 0; interrupts off; paging off.
    mov %edi, %ecx
    or %ebx, %ecx
    or %ebp, %ecx
    expect 1, z
    mov %cs, %ecx
    cmp $BOOT_CS, %ecx
    expect 2, e
    mov %ds, %ecx
    cmp $BOOT_DS, %ecx
    expect 3, e
    mov %es, %ecx
    mov %ss, %edx
    sub $BOOT_DS, %ecx
    sub $BOOT_DS, %edx
    or %edx, %ecx
    expect 4, z
    pushf
    pop %ecx
    test $0x200, %ecx
    expect 5, z
    mov %cr0, %ecx
    and $0x80000001, %ecx
    cmp $1, %ecx
    expect 6, e
    # The zero page has the header, and memory.
    cmpl $0x53726448, 0x202(%esi)
    expect 7, e
    cmpb $0, 0x1e8(%esi)
    expect 8, ne
    # The descriptors are in the GDT as well.
    ljmp $BOOT_CS, $loaded + LOADED_AT - 0x400
loaded:
    mov $BOOT_DS, %ecx
    mov %ecx, %ds
    mov %ecx, %ss

    # 4 MiB pages, the first 4 GiB as they are, and 1 GiB higher the first 4 MiB again.
    mov $directory, %edi
    mov $0x83, %eax
2:  mov %eax, (%edi)
    add $4, %edi
    add $0x400000, %eax
    jnc 2b
    movl $0x83, directory + 0x100 * 4
    mov %cr4, %eax
    or $0x10, %eax
    mov %eax, %cr4
    mov $directory, %eax
    mov %eax, %cr3
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    mov message - 0x400 + LOADED_AT, %eax
    cmp message - 0x400 + LOADED_AT + 0x40000000, %eax
    expect 9, e

    mov 0x228(%esi), %ebp          # cmd_line_ptr
    mov $message - 0x400 + LOADED_AT, %esi
    call puts
    mov %ebp, %esi
    call puts
    mov $newline - 0x400 + LOADED_AT, %esi
    call puts
    mov $32, %edi
failed:
    mov $EXIT_PORT, %edx
    mov %edi, %eax
    out %eax, %dx
3:  hlt
    jmp 3b

puts:
    mov $SERIAL, %edx
4:  lodsb
    test %al, %al
    jz 5f
    out %al, %dx
    jmp 4b
5:  ret

message:
    .asciz "linux32: "
newline:
    .asciz "\n"
code_end:
    .set esp_here, 0x180000
    .set directory, 0x200000
