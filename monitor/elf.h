/*
 * Reading ELF images, 32- and 64-bit, for x86. The file is hostile: elf_read() checks the headers
 * and copies the program headers out once; elf_load() checks every segment before it copies one.
 */
#ifndef MONITOR_ELF_H
#define MONITOR_ELF_H

#include "monitor/loader.h"

#define ELF_MAX_SEGMENTS 64u

struct elf_segment {
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

struct elf {
    const uint8_t *data;
    uint64_t len;
    bool is64;
    uint8_t osabi;
    uint16_t type, machine;
    uint64_t entry;
    unsigned nsegment;
    struct elf_segment segment[ELF_MAX_SEGMENTS];
    uint64_t start, end; /* set by elf_claim(): physical bounds of what is loaded */
};

bool elf_magic(const struct boot_image *img);

/* 0, or -ENOEXEC with res->error. */
int elf_read(const struct boot_image *img, struct elf *e, struct boot_result *res);

/* The descriptor of the first note of that name and type in a PT_NOTE, NULL when there is none.
 * *len is its size; the pointer is into the file, of any alignment. */
const uint8_t *elf_note(const struct elf *e, const char *name, uint32_t type, uint32_t *len);
/* Is there a note of that name, of any type? */
bool elf_has_note(const struct elf *e, const char *name);

/* The 32-bit entry of the PVH note ("Xen" type 18, 4 or 8 bytes); false when there is none. */
bool elf_pvh_entry(const struct elf *e, uint64_t *entry);

/* Is it a program for Linux, or linked like one: a static one (true), or one to be refused with the
 * words of elf_refuse_programs() (false, as for what is no program)? */
bool elf_is_static_program(const struct elf *e);

/* Say no to what is an ELF but no kernel of ours: programs for an operating system, images for
 * other monitors, object files. */
int elf_refuse_programs(const struct elf *e, struct boot_result *res);

/* Check that the PT_LOADs lie in the file and may lie in RAM at their physical addresses, and do
 * not overlap; sets start and end. */
int elf_claim(struct elf *e, const struct ram *ram, enum boot_low low, struct boot_result *res);
/* Copy them. Only after elf_claim() said yes. */
void elf_load(const struct elf *e, struct ram *ram);

/* Is addr a physical address inside a PT_LOAD? */
bool elf_has_phys(const struct elf *e, uint64_t addr);

#endif
