/*
 * Boot protocols, one file each. A loader puts an image into guest RAM and sets the boot
 * processor's struct cpu. Images are hostile: every offset, size and count is checked where it is
 * read; whatever the bytes, the result is success or -ENOEXEC with one clear sentence.
 */
#ifndef MONITOR_BOOT_H
#define MONITOR_BOOT_H

#include "monitor/config.h"
#include "paging/ram.h"
#include "vcpu/cpu.h"
#include "virtio/address.h"

/* Where things of ours lie in low memory. */
#define BOOT_GDT_GPA 0x500u
#define BOOT_BLOCK_GPA \
    0x6000u /* mayfly boot block (guests/runtime/bootblock.h), its strings after */
#define BOOT_ZERO_PAGE   0x7000u
#define BOOT_PML4        0x9000u  /* PML4, PDPT, then 4 PDs of 2 MiB pages: 0x9000-0xefff */
#define BOOT_PVH_INFO    0xf000u  /* hvm_start_info, memmap, modlist */
#define BOOT_MB_INFO     0x10000u /* multiboot info, mmap, modules, strings */
#define BOOT_CMDLINE     0x20000u
#define BOOT_CMDLINE_MAX 0x10000u /* bytes, NUL included */
#define BOOT_SETUP_DATA  0x30000u /* setup_data list (RNG seed) */
#define BOOT_EBDA        0x9fc00u /* e820: RAM 0-0x9fc00 */
#define BOOT_MPTABLE     0x9fc00u
#define BOOT_VGA         0xa0000u
#define BOOT_ACPI        0xe0000u /* RSDP here; tables after it */
#define BOOT_HIGH        0x100000u

struct boot_image {
    const char *path;
    const uint8_t *data; /* whole file, mapped read-only (MAP_PRIVATE) */
    uint64_t len;
};

#define BOOT_MODULES 7u /* multiboot modules beside the initrd, which is the first */
struct boot_request {
    struct boot_image kernel;
    struct boot_image initrd; /* data NULL when there is none */
    struct boot_image module[BOOT_MODULES];
    unsigned nmodule;
    const char *cmdline;
    /* For a Linux program: argv[0] is its path; both end with NULL. NULL: none. */
    char *const *argv, *const *env;
    const char *cwd;      /* where it starts, or NULL */
    uint32_t std_flags;   /* MAYFLY_BOOT_* of bootblock.h */
    unsigned ndevice;     /* virtio devices, */
    uint64_t virtio_base; /* from here on, a page each; their interrupts: */
    uint8_t virtio_gsi[24];
    bool network;           /* --net was given: the runtime with a network */
    struct net_address net; /* of the first card */
    const char *const
        *mounts; /* for a program: each share's PATH or "", NULL at the end; or NULL */
    struct boot_image runtime; /* the embedded runtime */
    const struct hvt_mft *hvt; /* a Solo5 image's manifest, filled in (hvt.h), or NULL */
    enum boot_choice boot;
    uint64_t tsc_hz;
    uint8_t seed[64];
};

struct boot_result {
    const char *protocol; /* "linux64", "linux32", "pvh", "multiboot", "elf", "program",
                              "hvt": for -v and --stats */
    uint64_t moved;       /* a program lies that much above its own addresses (the debugger's) */
    bool runtime;         /* a mayfly runtime guest: wants the boot block and port MAYFLY_PORT */
    bool hermit;          /* a Hermit application is the initrd: port 0xf4 takes 1 for success */
    char error[256];      /* on failure: "what was found; what is taken" without path or newline */
};

struct e820_entry {
    uint64_t addr, size;
    uint32_t type; /* 1 RAM, 2 reserved, 3 ACPI */
} __attribute__((packed));
/* The machine's one memory map; at most max entries; returns the count. */
unsigned boot_memory_map(const struct ram *ram, struct e820_entry *e, unsigned max);

/* Choose the protocol (BOOT_AUTO looks at the bytes), load, set cpu. 0; -ENOEXEC: not an image we
 * take, damaged, or does not fit (error says what and what to do). */
int boot_load(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
              struct boot_result *res);

/* The protocols: same results. probe returns true when the bytes look like its format. */
bool boot_linux_probe(const struct boot_image *k);
int boot_linux(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
               struct boot_result *res); /* bzImage */
int boot_elf_linux(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
                   struct boot_result *res); /* vmlinux, 64-bit entry, zero page */
int boot_pvh(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
             struct boot_result *res);
int boot_multiboot(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
                   struct boot_result *res);
int boot_elf_runtime(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
                     struct boot_result *res); /* a static ELF with the mayfly note */
/* A static Linux program, with the runtime below it. */
int boot_program(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
                 struct boot_result *res);

/* A Solo5 unikernel for hvt (hvt.h): RAM without a hole, in whole 2 MiB. */
int boot_hvt(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
             struct boot_result *res);

/* CPU entry states shared by loaders: flat 64-bit with identity 2 MiB pages over 4 GiB at
 * BOOT_PML4; flat 32-bit protected mode, paging off; the same with Linux's selectors. */
void boot_cpu_long(struct ram *ram, struct cpu *cpu, uint64_t rip, uint64_t kernel_end);
void boot_cpu_flat32(struct ram *ram, struct cpu *cpu, uint32_t rip);
void boot_cpu_linux32(struct ram *ram, struct cpu *cpu, uint32_t rip);

/* Is it a Linux kernel, by its bytes: a bzImage, or an ELF with Linux's notes? */
bool boot_is_linux(const struct boot_image *k);

/* What makes the bytes' sum zero, in the tables of both kinds (ACPI 5.2.5.3, MP 1.4 4.1). */
static inline uint8_t table_checksum(const void *p, size_t len)
{
    const uint8_t *b = p;
    uint8_t sum = 0;

    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + b[i]);
    return (uint8_t)-sum;
}
/* ACPI (RSDP at BOOT_ACPI, XSDT, FADT, MADT, DSDT) and the MP table, for ncpu CPUs; the DSDT names
 * the first nvirtio slots of the virtio bus. */
void acpi_build(struct ram *ram, unsigned ncpu, unsigned nvirtio);
void mptable_build(struct ram *ram, unsigned ncpu);

#endif
