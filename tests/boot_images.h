/* Small images of every kind that mayfly boots, made up in memory, for the loaders' tests. */
#ifndef TESTS_BOOT_IMAGES_H
#define TESTS_BOOT_IMAGES_H

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include "monitor/boot.h"

struct image {
    uint8_t bytes[8192];
    uint64_t len;
};

static inline void img_put(struct image *i, uint64_t at, const void *src, uint64_t len)
{
    memcpy(i->bytes + at, src, len);
    if (at + len > i->len)
        i->len = at + len;
}

static inline void img_u32(struct image *i, uint64_t at, uint32_t v)
{
    img_put(i, at, &v, 4);
}

static inline void img_u16(struct image *i, uint64_t at, uint16_t v)
{
    img_put(i, at, &v, 2);
}

/* --- bzImage: one setup sector more than the header, 2 KiB of body --- */
#define BZ_PREF        0x1000000u
#define BZ_INIT        0x200000u
#define BZ_SETUP       1024u
#define BZ_BODY        2048u
#define BZ_FIELDS_FROM 0x1f1u
#define BZ_FIELDS_TO   0x268u

static inline struct image img_bzimage(void)
{
    struct image i = {.len = 0};
    uint64_t pref = BZ_PREF;

    i.bytes[0x1f1] = 1; /* setup_sects */
    img_u32(&i, 0x1f4, BZ_BODY / 16);
    img_u16(&i, 0x1fe, 0xaa55);
    img_u16(&i, 0x200, 0x66eb); /* jump: the header ends at 0x268 */
    img_put(&i, 0x202, "HdrS", 4);
    img_u16(&i, 0x206, 0x20f);
    i.bytes[0x211] = 1; /* LOADED_HIGH */
    img_u32(&i, 0x22c, 0x7fffffff);
    img_u32(&i, 0x230, 0x200000);
    i.bytes[0x234] = 1;
    i.bytes[0x235] = 21;
    img_u16(&i, 0x236, 0x7f);
    img_u32(&i, 0x238, 2047);
    img_put(&i, 0x258, &pref, 8);
    img_u32(&i, 0x260, BZ_INIT);
    for (unsigned b = 0; b < BZ_BODY; b++)
        i.bytes[BZ_SETUP + b] = (uint8_t)(b * 7 + 1 + (b >> 8)); /* no short period */
    i.len = BZ_SETUP + BZ_BODY;
    return i;
}

/* --- ELF files --- */
struct img_note {
    const char *name;
    uint32_t type, descsz;
    uint64_t desc;
};

/* Two segments (16 MiB + text of 256 bytes, data of 64 with a bss to 8 KiB), a PT_NOTE when notes
 * are given, and a PT_INTERP if asked. vbase is added to the virtual addresses. With headers the
 * text is the file's first bytes, as linkers lay programs out. */
struct img_elf {
    bool is32, interp, relro, headers;
    uint16_t type, machine; /* 0: EXEC, x86-64 or 386 */
    uint8_t osabi;
    uint64_t base, vbase, entry; /* base 0: 16 MiB; entry 0: base + 16 */
    struct img_note note[3];
};
#define ELF_BASE  0x1000000u
#define ELF_TEXT  256u
#define ELF_DATA  64u
#define ELF_BSS   8192u
#define ELF_FILE  0x1000u /* where the text is in the file; notes lie before it */
#define ELF_NOTES 0x400u

static inline uint64_t img_notes(struct image *i, const struct img_note *n, unsigned count)
{
    uint64_t at = ELF_NOTES;

    for (unsigned k = 0; k < count && n[k].name; k++) {
        uint32_t namesz = (uint32_t)strlen(n[k].name) + 1;

        img_u32(i, at, namesz);
        img_u32(i, at + 4, n[k].descsz);
        img_u32(i, at + 8, n[k].type);
        img_put(i, at + 12, n[k].name, namesz);
        at += 12 + ((namesz + 3) & ~3u);
        img_put(i, at, &n[k].desc, n[k].descsz);
        at += (n[k].descsz + 3) & ~3u;
    }
    return at - ELF_NOTES;
}

static inline void img_phdr(struct image *i, bool is32, unsigned n, Elf64_Phdr p)
{
    Elf32_Phdr q = {.p_type = p.p_type,
                    .p_flags = p.p_flags,
                    .p_offset = (uint32_t)p.p_offset,
                    .p_vaddr = (uint32_t)p.p_vaddr,
                    .p_paddr = (uint32_t)p.p_paddr,
                    .p_filesz = (uint32_t)p.p_filesz,
                    .p_memsz = (uint32_t)p.p_memsz,
                    .p_align = (uint32_t)p.p_align};

    if (is32)
        img_put(i, sizeof(Elf32_Ehdr) + n * sizeof q, &q, sizeof q);
    else
        img_put(i, sizeof(Elf64_Ehdr) + n * sizeof p, &p, sizeof p);
}

static inline struct image img_elf(struct img_elf o)
{
    struct image i = {.len = 0};
    uint64_t base = o.base ? o.base : ELF_BASE, entry = o.entry ? o.entry : base + 16;
    uint64_t notes = img_notes(&i, o.note, 3);
    unsigned n = 0;

    img_phdr(&i, o.is32, n++,
             (Elf64_Phdr){PT_LOAD, PF_R | PF_X, o.headers ? 0 : ELF_FILE, base + o.vbase, base,
                          ELF_TEXT, ELF_TEXT, 0x1000});
    img_phdr(&i, o.is32, n++,
             (Elf64_Phdr){PT_LOAD, PF_R | PF_W, ELF_FILE + 512, base + 0x1000 + o.vbase,
                          base + 0x1000, ELF_DATA, ELF_BSS, 0x1000});
    if (notes)
        img_phdr(&i, o.is32, n++, (Elf64_Phdr){PT_NOTE, PF_R, ELF_NOTES, 0, 0, notes, notes, 4});
    if (o.interp)
        img_phdr(&i, o.is32, n++, (Elf64_Phdr){PT_INTERP, PF_R, ELF_NOTES, 0, 0, 16, 16, 1});
    if (o.relro)
        img_phdr(&i, o.is32, n++,
                 (Elf64_Phdr){PT_GNU_RELRO, PF_R, ELF_FILE + 512, 0, 0, 16, 16, 1});
    if (o.is32) {
        Elf32_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, 1, o.osabi},
                        .e_type = o.type ? o.type : ET_EXEC,
                        .e_machine = o.machine ? o.machine : EM_386,
                        .e_version = 1,
                        .e_entry = (uint32_t)entry,
                        .e_phoff = sizeof h,
                        .e_ehsize = sizeof h,
                        .e_phentsize = sizeof(Elf32_Phdr),
                        .e_phnum = (uint16_t)n};
        img_put(&i, 0, &h, sizeof h);
    } else {
        Elf64_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1, o.osabi},
                        .e_type = o.type ? o.type : ET_EXEC,
                        .e_machine = o.machine ? o.machine : EM_X86_64,
                        .e_version = 1,
                        .e_entry = entry,
                        .e_phoff = sizeof h,
                        .e_ehsize = sizeof h,
                        .e_phentsize = sizeof(Elf64_Phdr),
                        .e_phnum = (uint16_t)n};
        img_put(&i, 0, &h, sizeof h);
    }
    for (unsigned b = 0; b < ELF_TEXT; b++)
        i.bytes[ELF_FILE + b] = (uint8_t)(b + 1);
    for (unsigned b = 0; b < ELF_DATA; b++)
        i.bytes[ELF_FILE + 512 + b] = (uint8_t)(0x80 | b);
    i.len = ELF_FILE + 512 + ELF_DATA;
    return i;
}

/* The notes that matter. */
#define NOTE_PVH(entry)       \
    {                         \
        "Xen", 18, 4, (entry) \
    }
#define NOTE_MAYFLY       \
    {                     \
        "mayfly", 1, 4, 1 \
    }

static inline struct image img_pvh(void)
{
    /* Linked high, entered low, as kernels are: no 64-bit physical entry. */
    return img_elf((struct img_elf){.vbase = 0xffffffff80000000,
                                    .entry = 0xffffffff80000000 + ELF_BASE,
                                    .note = {NOTE_PVH(ELF_BASE + 32)}});
}

static inline struct image img_runtime(void)
{
    return img_elf((struct img_elf){.base = 0x200000, .note = {NOTE_MAYFLY}});
}

/* --- multiboot --- */
static inline void img_multiboot_header(struct image *i, uint64_t at, uint32_t flags)
{
    img_u32(i, at, 0x1badb002);
    img_u32(i, at + 4, flags);
    img_u32(i, at + 8, 0u - 0x1badb002 - flags);
}

static inline struct image img_multiboot(bool is32)
{
    struct image i = img_elf((struct img_elf){.is32 = is32});

    img_multiboot_header(&i, ELF_FILE, 3);
    return i;
}

/* A flat image with the header at 64, loaded whole at addr, with a bss. */
static inline struct image img_flat(uint32_t addr)
{
    struct image i = {.len = 0};

    for (unsigned b = 0; b < 512; b++)
        i.bytes[b] = (uint8_t)(b ^ 0x5a);
    img_multiboot_header(&i, 64, 0x10003);
    img_u32(&i, 76, addr + 64);
    img_u32(&i, 80, addr);
    img_u32(&i, 84, addr + 512);
    img_u32(&i, 88, addr + 4096);
    img_u32(&i, 92, addr + 128);
    i.len = 512;
    return i;
}

/* Exactly len bytes on the heap, so that the sanitizer sees a read past the end. */
static inline int img_load(const struct image *i, uint64_t len, struct boot_request *req,
                           struct ram *ram, struct cpu *cpu, struct boot_result *res)
{
    uint8_t *copy = malloc(len ? len : 1);
    int err;

    memcpy(copy, i->bytes, len);
    req->kernel = (struct boot_image){"/somewhere/test kernel", copy, len};
    err = boot_load(req, ram, cpu, res);
    free(copy);
    return err;
}

#endif
