/*
 * What the boot protocols share: the error sentence, claims on guest RAM, the initrd, the command
 * line, notes in ELF images. For monitor/boot*.c only; the rest of the monitor sees boot.h.
 *
 * A loader works in two steps: check everything and claim it, then copy. RAM is fresh, so it reads
 * as zero: nothing here clears what was never written (each first touch of a page costs the launch
 * microseconds), and no page can hold translated code yet, so nothing calls ram_written().
 */
#ifndef MONITOR_LOADER_H
#define MONITOR_LOADER_H

#include "monitor/boot.h"

#define BOOT_KERNELS "Linux kernels (bzImage, x86-64 vmlinux), PVH and multiboot 1 kernels"
#define BOOT_TAKES   "mayfly takes " BOOT_KERNELS ", and static Linux programs"

/* Write res->error; the value is -ENOEXEC, so `return boot_fail(...)`. */
int boot_fail(struct boot_result *res, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What a file looks like, for error sentences ("a gzip file", "a text file"). buf is used when the
 * words have to be made up. */
const char *boot_describe(const struct boot_image *img, char *buf, size_t size);

/* Is there a valid multiboot header? */
bool boot_multiboot_probe(const struct boot_image *k);

/* Which memory below 1 MiB an image may claim. */
enum boot_low { BOOT_LOW_NONE, BOOT_LOW_MULTIBOOT };

/* May an image have [start, start+len)? 0, or -ENOEXEC: not RAM below the hole (says how much
 * memory would do) or over structures of ours. len may be 0. */
int boot_claim(const struct ram *ram, uint64_t start, uint64_t len, enum boot_low low,
               struct boot_result *res);

/* Copy into RAM that boot_claim() granted. */
void boot_copy(struct ram *ram, uint64_t gpa, const void *src, uint64_t len);

/* Find the place of an initrd (or another file that goes beside the kernel), page-aligned, wholly
 * in [floor, limit) and RAM below the hole: as high as possible, or (high false) as low as
 * possible; copy it. *gpa is 0 when there is none. */
int boot_initrd(const struct boot_image *initrd, struct ram *ram, uint64_t floor, uint64_t limit,
                bool high, uint64_t *gpa, struct boot_result *res);

/* Put prefix + the command line + NUL at gpa, BOOT_CMDLINE or nearby. max: bytes the guest takes
 * without the NUL. */
int boot_cmdline(const struct boot_request *req, struct ram *ram, uint64_t gpa, const char *prefix,
                 uint64_t max, struct boot_result *res);

/* The last part of a path, for the guest to read as a name: blanks become '_', cut to size. */
void boot_basename(const char *path, char *out, size_t size);

/* Real-mode interrupt vectors for a guest that may call a BIOS (bios.c). */
void bios_vectors(struct ram *ram);

struct elf;
struct mayfly_boot;
/* The end of both ways to the runtime: its arguments behind the block where they fit, else at
 * image_end (which moves); the rest of the block; the image, claimed before; the CPU. */
int boot_runtime(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
                 const struct elf *runtime, struct mayfly_boot *b, struct boot_result *res);

/* Identity page tables of 2 MiB pages for [0, bytes) at BOOT_PML4, bytes <= 4 GiB, and the GDT at
 * gdt. boot_cpu_long() is this with BOOT_GDT_GPA and 1 GiB, or more where the kernel ends above. */
void boot_cpu_long_sized(struct ram *ram, struct cpu *cpu, uint64_t rip, uint64_t bytes,
                         uint64_t gdt);
#define BOOT_GDT_BYTES 48u
#define BOOT_STACK     0x8ff0u /* RSP at the entry: one free page below the page tables */

#endif
