/* Which protocol an image is given, and what is said about files that are not for us or do not fit.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include "tests/boot_run.h"

Test(boot_refuse, tiny_memory)
{
    struct image all[] = {img_bzimage(), img_pvh(),        img_multiboot(true),
                          img_runtime(), img_flat(0x8000), img_elf((struct img_elf){0})};

    for (unsigned pages = 1; pages < 600; pages += pages < 40 ? 1 : 13)
        for (unsigned n = 0; n < sizeof all / sizeof *all; n++) {
            struct run *r = begin(1);
            int err;

            ram_destroy(&r->ram);
            cr_assert_eq(ram_create(&r->ram, pages * PAGE_SIZE), 0);
            err = load(r, all[n]);
            cr_assert(err == 0 || (err == -ENOEXEC && strstr(r->res.error, "-m ")),
                      "%u pages, image %u: %d %s", pages, n, err, r->res.error);
            acpi_build(&r->ram, 4, 0);
            mptable_build(&r->ram, 4);
            end(r);
        }
}

static struct image text(const char *s, size_t len)
{
    struct image i = {.len = 0};

    img_put(&i, 0, s, len);
    return i;
}
#define TEXT(s) text(s, sizeof s - 1)

Test(boot_refuse, choice)
{
    struct image osv = img_elf((struct img_elf){.note = {NOTE_PVH(ELF_BASE + 32)}});
    struct image pvh_only = img_elf((struct img_elf){.note = {NOTE_PVH(ELF_BASE + 16)}});
    struct image mayfly_mb = img_runtime();
    struct {
        struct image i;
        const char *protocol;
    } t[] = {{img_bzimage(), "linux64"},
             {img_elf((struct img_elf){0}), "linux64"},
             {osv, "linux64"},
             {pvh_only, "pvh"},
             {img_pvh(), "pvh"},
             {img_multiboot(true), "multiboot"},
             {img_multiboot(false), "multiboot"},
             {img_flat(0x100000), "multiboot"},
             {mayfly_mb, "elf"}};

    img_multiboot_header(&t[2].i, ELF_FILE + 64, 3);
    img_multiboot_header(&t[8].i, ELF_FILE + 64, 3);
    for (unsigned n = 0; n < sizeof t / sizeof *t; n++) {
        struct run *r = begin(64);

        cr_assert_eq(load(r, t[n].i), 0, "image %u: %s", n, r->res.error);
        cr_assert_str_eq(r->res.protocol, t[n].protocol, "image %u: %s", n, r->res.protocol);
        cr_assert_eq(r->res.runtime, n == 8);
        end(r);
    }
}

#define VBASE 0xffffffff80000000

Test(boot_refuse, refusals)
{
    struct image bios = img_bzimage(), zimage = img_bzimage(), old = img_bzimage(),
                 iso = TEXT("\0\0"), video = img_multiboot(true), odd = img_multiboot(true),
                 big = img_elf((struct img_elf){0}), flat = img_flat(0x100000), cut = img_bzimage(),
                 low = img_bzimage(), bss = img_flat(0x100000), fat = img_elf((struct img_elf){0});
    struct {
        struct image i;
        enum boot_choice boot;
        const char *says;
    } t[] = {
        {TEXT(""), 0, "an empty file"},
        {TEXT("#!/bin/sh\n"), 0, "a script"},
        {TEXT("hello, world\n"), 0, "a text file"},
        {TEXT("\x1f\x8b\x08\0\0\0\0"), 0, "a gzip file"},
        {TEXT("070701000000000"), 0, "--initrd"},
        {TEXT("MZ\x90\0\0\0"), 0, "EFI program"},
        {TEXT("\0\0\0\0\0\0\0\0"), 0, "a file of zeros"},
        {TEXT("\x01\x02\x03"), 0, "an unknown kind of file (3 bytes)"},
        {TEXT("\x7f"
              "ELF"),
         0, "cut short after 4 bytes"},
        {img_elf((struct img_elf){.interp = true, .type = ET_DYN}), 0, "dynamically linked Linux"},
        {img_elf((struct img_elf){.note = {{"GNU", 1, 4, 0}}}), 0,
         "a damaged program: segment 1 is not aligned"},
        {img_elf((struct img_elf){.osabi = ELFOSABI_LINUX}), 0,
         "a damaged program: segment 1 is not aligned"},
        {img_elf((struct img_elf){.base = 0x400000, .relro = true}), 0,
         "a damaged program: segment 1 is not aligned"},
        {img_elf((struct img_elf){.base = 0x400000, .headers = true}), 0,
         "a damaged program: segment 1 is not aligned"},
        {img_elf((struct img_elf){.base = 0x200000, .headers = true, .relro = true}), 0,
         "a damaged program: segment 1 is not aligned"},
        {img_elf((struct img_elf){.base = 0x200000, .headers = true}), 0, NULL},
        {img_elf((struct img_elf){.base = 0x100000, .headers = true, .relro = true}), 0, NULL},
        {img_elf((struct img_elf){.osabi = ELFOSABI_LINUX, .vbase = VBASE}), 0, NULL},
        {img_elf((struct img_elf){.base = 0x400000}), 0, NULL},
        {img_elf((struct img_elf){.base = 0x500000, .relro = true}), 0, NULL},
        {img_elf((struct img_elf){.note = {{"Solo5", 0x31494241, 8, 1}}}), 0, "a Solo5 unikernel"},
        {img_elf((struct img_elf){.note = {{"HERMIT", 0x5a00, 4, 1}}}), 0, "hermit-loader"},
        {img_elf((struct img_elf){.machine = EM_AARCH64}), 0, "64-bit Arm"},
        {img_elf((struct img_elf){.is32 = true}), 0, "neither a PVH note nor a multiboot header"},
        {img_elf((struct img_elf){.entry = 0x5000000}), 0, "entry point 0x5000000"},
        {img_elf((struct img_elf){.base = 0x80000}), 0, "firmware's tables"},
        {img_elf((struct img_elf){.base = 0xbffff000}), 0, "where there can be no memory"},
        {img_elf((struct img_elf){.base = 0xb0000000}), 0, "needs at least 2817 MiB"},
        {img_elf((struct img_elf){.base = 0x200000, .note = {{"mayfly", 1, 4, 2}}}), 0,
         "version 2 of mayfly's runtime"},
        {img_elf((struct img_elf){.vbase = VBASE, .note = {NOTE_MAYFLY}}), 0, NULL},
        {img_bzimage(), BOOT_PVH, "a Linux bzImage; --boot pvh takes"},
        {img_bzimage(), BOOT_ELF, "a Linux bzImage; --boot elf takes"},
        {img_bzimage(), BOOT_MULTIBOOT, "a Linux bzImage; --boot multiboot takes"},
        {img_flat(0x100000), BOOT_LINUX, "a multiboot kernel; --boot linux takes"},
        {TEXT("hello"), BOOT_LINUX, "a text file; --boot linux takes"},
        {img_elf((struct img_elf){0}), BOOT_PVH, "without a PVH entry"},
        {img_elf((struct img_elf){0}), BOOT_ELF, "without the note of mayfly-cc's"},
        {img_elf((struct img_elf){.is32 = true}), BOOT_LINUX, "no 64-bit entry"},
        {img_elf((struct img_elf){.interp = true}), BOOT_PVH, "dynamically linked"},
        {img_elf((struct img_elf){.osabi = ELFOSABI_LINUX}), BOOT_LINUX,
         "no kernel; leave --boot out"},
        {bios, 0, "no entry in protected mode: it needs a BIOS"},
        {zimage, 0, "a zImage"},
        {old, 0, "of boot protocol 2.01; mayfly takes those from 2.02"},
        {iso, 0, "a disk image or boot sector"},
        {video, 0, NULL},
        {odd, 0, "requires features 0x8"},
        {big, 0, "overlaps"},
        {flat, 0, "no ELF file"},
        {cut, 0, "cut short: the file has 2000 bytes of 3072"},
        {low, 0, "firmware's tables"},
        {bss, 0, "before its data"},
        {fat, 0, "more bytes in the file than"},
    };
    unsigned n = sizeof t / sizeof *t - 12;

    t[n++].i.bytes[0x236] = 0x7e;
    t[n++].i.bytes[0x211] = 0;
    img_u16(&t[n++].i, 0x206, 0x201);
    img_u16(&t[n++].i, 0x1fe, 0xaa55);
    img_multiboot_header(&t[n++].i, ELF_FILE, 7);
    img_multiboot_header(&t[n++].i, ELF_FILE, 8);
    img_put(&t[n++].i, sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, p_paddr),
            &(uint64_t){ELF_BASE + 0x80}, 8);
    img_multiboot_header(&t[n++].i, 64, 3);
    t[n++].i.len = 2000;
    img_put(&t[n++].i, 0x258, &(uint64_t){0x1000}, 8);
    img_u32(&t[n++].i, 88, 0x100000 + 511);
    img_put(&t[n++].i, sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_memsz),
            &(uint64_t){ELF_TEXT - 1}, 8);
    for (n = 0; n < sizeof t / sizeof *t; n++) {
        struct run *r = begin(64);
        int err;

        r->req.boot = t[n].boot;
        err = load(r, t[n].i);
        cr_assert_eq(err, t[n].says ? -ENOEXEC : 0, "case %u: %d %s", n, err, r->res.error);
        cr_assert(!t[n].says || strstr(r->res.error, t[n].says), "case %u: %s", n, r->res.error);
        cr_assert(!strchr(r->res.error, '\n') && !strstr(r->res.error, "somewhere"));
        cr_assert_leq(strlen(r->res.error), 250, "case %u is cut: %s", n, r->res.error);
        end(r);
    }
}
