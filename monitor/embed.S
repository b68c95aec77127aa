/* Inside the binary: the hello guest, what `mayfly run hello` boots where no file is named so, and
 * the runtime below every static Linux program, and that with a network (empty when lwIP was not to
 * be had). */
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
    .balign 64
    .globl embedded_runtime_net_start, embedded_runtime_net_end
embedded_runtime_net_start:
    .incbin "build/guests/runtime_net.elf"
embedded_runtime_net_end:
    .section .note.GNU-stack, "", @progbits
