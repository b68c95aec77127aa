/* Inside the binary: the hello guest, what `mayfly run hello` boots where no file is named so, and
 * the runtime below every static Linux program. */
    .section .rodata
    .balign 64
    .globl embedded_hello_start, embedded_hello_end
embedded_hello_start:
    .incbin "build/guests/hello"
embedded_hello_end:
    .balign 64
    .globl embedded_runtime_start, embedded_runtime_end
embedded_runtime_start:
    .incbin "build/guests/runtime.elf"
embedded_runtime_end:
    .section .note.GNU-stack, "", @progbits
