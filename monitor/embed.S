/* The hello guest, inside the binary: what `mayfly run hello` boots where no file is named so. */
    .section .rodata
    .balign 64
    .globl embedded_hello_start, embedded_hello_end
embedded_hello_start:
    .incbin "build/guests/hello"
embedded_hello_end:
    .section .note.GNU-stack, "", @progbits
