/*
 * What a runtime guest and the monitor share: the boot block (RDI at the entry), the hypercall
 * block, and the ELF note that says "this is a runtime guest". Used on both sides: plain C, fixed
 * sizes, no include beyond stdint.h.
 *
 * Entry contract (monitor/boot_elf_runtime): 64-bit mode, CPL0, paging on with identity 2 MiB pages
 * over all RAM below 4 GiB, IF=0, RDI = guest-physical address of the boot block (0x6000). Segments
 * are flat; the guest loads its own GDT, IDT, TSS and stack. Guests are linked at 0x200000.
 */
#ifndef GUESTS_RUNTIME_BOOTBLOCK_H
#define GUESTS_RUNTIME_BOOTBLOCK_H

#include <stdint.h>

#define MAYFLY_BOOT_MAGIC   "mayfly01"
#define MAYFLY_BOOT_VERSION 1
#define MAYFLY_PIE_BASE     0x400000ull /* where a movable program's address 0 is put */

struct mayfly_boot {
    char magic[8];       /* MAYFLY_BOOT_MAGIC, no NUL */
    uint32_t version;    /* MAYFLY_BOOT_VERSION */
    uint32_t flags;      /* MAYFLY_BOOT_TTY(fd), MAYFLY_BOOT_CLOSED(fd) */
    uint64_t mem_size;   /* bytes of RAM in all (past 3 GiB it continues at 4 GiB) */
    uint64_t tsc_hz;     /* frequency of RDTSC */
    uint64_t image_end;  /* first free byte after the image, its bss included */
    uint64_t initrd_gpa; /* 0 when there is none */
    uint64_t initrd_len;
    uint64_t hypercall_port; /* MAYFLY_PORT */
    uint8_t seed[32];        /* fresh random bytes for this run */
    /* The program's file, page-aligned, the rest of the last page zero. 0 for an image with the
     * note, which has it inside. */
    uint64_t program_gpa, program_len;
    uint64_t args_gpa; /* argc + envc strings, each with its NUL */
    uint64_t args_len;
    uint64_t argc, envc;
    uint64_t path_gpa;    /* the program's name as the user gave it, with a NUL */
    uint64_t cwd_gpa;     /* where it starts, with a NUL; 0: / */
    uint64_t virtio_base; /* virtio-mmio devices, a page each */
    uint64_t virtio_count;
    uint8_t auxv_seed[16];  /* AT_RANDOM, fresh as seed */
    uint64_t mounts_gpa;    /* of each --share its PATH, with a NUL; 0: none has one */
    uint8_t virtio_gsi[24]; /* their interrupts */
    /* The first network card's, in network order; address 0: ask DHCP. */
    uint32_t net_address, net_mask, net_gateway, net_dns;
    uint32_t net_ahead; /* bytes the network behind it holds for us, and drops more; 0: no limit */
};

/* flags: standard descriptor fd is a terminal; is closed. */
#define MAYFLY_BOOT_TTY(fd)    (1u << (fd))
#define MAYFLY_BOOT_CLOSED(fd) (8u << (fd))
#define MAYFLY_BOOT_DIRTY      128u /* RAM does not read as zero (a loader other than mayfly) */
#define MAYFLY_BOOT_VERBOSE    64u  /* MAYFLY_CALL_ASKED at the end */
#define MAYFLY_BOOT_RING3      256u /* only CPL 3 is the processor's own: see ring3.c */

/* Hypercall: 32-bit OUT to hypercall_port of the guest-physical address of this block (which must
 * lie below 4 GiB, 8-aligned). The monitor writes ret: a count, 0, or a negative Linux errno. */
struct mayfly_call {
    uint32_t op; /* MAYFLY_CALL_* */
    uint32_t fd;
    uint64_t gpa; /* the buffer */
    uint64_t len; /* its length; MAYFLY_CALL_EXIT: the status 0-255 */
    int64_t ret;
};

enum {
    MAYFLY_CALL_WRITE = 1,    /* fd 1: console, 2: the monitor's stderr; ret = bytes taken. The
                                 console may keep them for a while, and tell of an error at the next
                                 write; MAYFLY_WRITE_THROUGH: not so */
    MAYFLY_CALL_READ = 2,     /* stdin: bytes, 0 at its end, -EAGAIN when nothing is there yet,
                                 another errno where it cannot be read. fd:
                                 0, or a vector >= 32: then -EAGAIN comes at once, and that interrupt
                                 when there is something to read */
    MAYFLY_CALL_EXIT = 3,     /* ends the machine with status len & 255 */
    MAYFLY_CALL_WALLTIME = 4, /* ret = CLOCK_REALTIME in ns */
    MAYFLY_CALL_ASKED = 6, /* the system calls a program made: an array of struct mayfly_asked, for
                              the user who said -v */
    MAYFLY_CALL_TTY = 7,   /* the terminal that standard descriptor fd & 3 is: fd >> 2 is the ioctl
                              (TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGWINSZ), gpa what it takes or
                              gives. At the end the terminal is as it was. */
    MAYFLY_CALL_INPUT = 5, /* is there something to read (or the end)? 1, or 0 and then the
                              interrupt fd, as with READ */
    MAYFLY_CALL_SIGNALS = 8, /* the signals that came for the program, bit N-1, none twice: asked
                                when MAYFLY_VECTOR_SIGNAL came. Who does not ask soon is ended. */
};

struct mayfly_asked {
    uint16_t number;  /* of the call, as Linux counts them */
    uint16_t lacking; /* 1: answered with ENOSYS */
    uint32_t times;
};
#define MAYFLY_ASKED_MAX 512u

#define MAYFLY_VECTOR_SIGNAL 0x43u  /* an interrupt that comes unasked for */
#define MAYFLY_WRITE_THROUGH 0x100u /* with fd 1 */

/* PT_NOTE: name "mayfly", this type, desc = u32 version. */
#define MAYFLY_NOTE_NAME "mayfly"
#define MAYFLY_NOTE_TYPE 1

#endif
