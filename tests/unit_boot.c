/* The loaders on good images: what is in RAM and in the CPU afterwards. Multiboot:
 * unit_boot_multiboot.c; files they do not take: unit_boot_refuse.c; damaged ones:
 * unit_boot_hostile.c. */
#include <criterion/criterion.h>
#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "guests/runtime/bootblock.h"
#include "tests/boot_check.h"

/* What every zero page has; the initrd's address. */
static uint32_t check_zero_page(const struct run *r, uint64_t kernel_end)
{
    const struct boot_params *bp = AT(r, struct boot_params, r->cpu.gpr[RSI]);
    const struct setup_data *sd;

    cr_assert_eq(r->cpu.gpr[RSI], 0x7000);
    cr_assert_eq(bp->sentinel, 0);
    cr_assert_eq(bp->hdr.boot_flag, 0xaa55);
    cr_assert_eq(bp->hdr.header, 0x53726448);
    cr_assert_geq(bp->hdr.version, 0x20c);
    cr_assert_eq(bp->hdr.type_of_loader, 0xff);
    cr_assert_eq(bp->hdr.loadflags, LOADED_HIGH);
    cr_assert_eq(bp->acpi_rsdp_addr, 0xe0000);
    cr_assert_str_eq(AT(r, char, bp->hdr.cmd_line_ptr), r->req.cmdline);
    cr_assert_eq(bp->e820_entries, r->ram.high ? 5 : 4);
    cr_assert_eq(bp->e820_table[0].addr, 0);
    cr_assert_eq(bp->e820_table[0].size, 0x9fc00);
    cr_assert_eq(bp->e820_table[1].addr, 0x9fc00);
    cr_assert_eq(bp->e820_table[1].size, 0x400);
    cr_assert_eq(bp->e820_table[1].type, 2);
    cr_assert_eq(bp->e820_table[2].addr, 0xe0000);
    cr_assert_eq(bp->e820_table[2].size, 0x20000);
    cr_assert_eq(bp->e820_table[2].type, 2);
    cr_assert_eq(bp->e820_table[3].addr, 0x100000);
    cr_assert_eq(bp->e820_table[3].size, r->ram.low - 0x100000);
    cr_assert_eq(bp->e820_table[3].type, 1);
    sd = AT(r, struct setup_data, bp->hdr.setup_data);
    cr_assert_eq(sd->next, 0);
    cr_assert_eq(sd->type, 9);
    cr_assert_eq(sd->len, 64);
    cr_assert_arr_eq(sd->data, r->req.seed, 64);
    if (r->req.initrd.data) {
        uint64_t top = r->ram.low < 0x80000000 ? r->ram.low : 0x80000000;
        uint64_t want = (top - r->req.initrd.len) & PAGE_MASK;

        cr_assert_eq(bp->hdr.ramdisk_image, want, "initrd at 0x%x", bp->hdr.ramdisk_image);
        cr_assert_eq(bp->hdr.ramdisk_size, r->req.initrd.len);
        cr_assert_geq(bp->hdr.ramdisk_image, kernel_end);
        cr_assert_arr_eq(AT(r, uint8_t, want), r->req.initrd.data, r->req.initrd.len);
    } else {
        cr_assert_eq(bp->hdr.ramdisk_image, 0);
        cr_assert_eq(bp->hdr.ramdisk_size, 0);
    }
    return bp->hdr.ramdisk_image;
}

Test(boot, bzimage)
{
    static const uint64_t mem[] = {128, 256, 2048, 3072, 4096};

    for (unsigned m = 0; m < sizeof mem / sizeof *mem; m++) {
        struct run *r = begin(mem[m]);
        struct image i = img_bzimage();

        if (m)
            give_initrd(r);
        i.bytes[0x211] |= m & 1 ? 0x80 : 0x40; /* CAN_USE_HEAP, KEEP_SEGMENTS: not for us */
        cr_assert_eq(load(r, i), 0, "%s", r->res.error);
        cr_assert_str_eq(r->res.protocol, "linux64");
        check_long(r, BZ_PREF + 0x200);
        check_zero_page(r, BZ_PREF + BZ_INIT);
        cr_assert_arr_eq(AT(r, uint8_t, BZ_PREF), i.bytes + BZ_SETUP, BZ_BODY);
        for (uint64_t a = 0; a < GIB; a += 0x1ff7ff)
            cr_assert_eq(translate(r, a), a);
        cr_assert_eq(translate(r, GIB), UINT64_MAX, "Firecracker maps 1 GiB");
        const struct boot_params *bp = AT(r, struct boot_params, 0x7000);
        cr_assert_eq(bp->hdr.pref_address, BZ_PREF);
        cr_assert_eq(bp->hdr.init_size, BZ_INIT);
        cr_assert_eq(bp->hdr.code32_start, BZ_PREF);
        cr_assert_eq(bp->hdr.cmdline_size, 2047);
        cr_assert_eq(bp->hdr.vid_mode, 0xffff);
        if (r->ram.high) {
            cr_assert_eq(bp->e820_table[4].addr, 4 * GIB);
            cr_assert_eq(bp->e820_table[4].size, r->ram.high);
        }
        end(r);
    }
}

/* The 32-bit entry: i386 kernels, and x86-64 ones of before 3.8. What a version does not know may
 * be anything in the header. */
Test(boot, bzimage_32_bit_entry)
{
    static const struct {
        uint16_t version, xloadflags;
        bool relocatable;
        uint32_t start;          /* code32_start */
        uint64_t load, end, max; /* end: where an initrd may lie from; max: the last byte of one */
    } t[] = {
        {0x20f, 0x7e, true, 0x100000, BZ_PREF, BZ_PREF + BZ_INIT, 0x7fffffff},
        {0x20f, 4, true, 0x100100, BZ_PREF, BZ_PREF + BZ_INIT, 0x7fffffff},
        {0x20c, 4, false, 0x100000, 0x100000, BZ_PREF + BZ_INIT, 0x7fffffff},
        {0x20b, 0xffff, true, 0x100000, BZ_PREF, BZ_PREF + BZ_INIT, 0x7fffffff},
        {0x209, 0xffff, true, 0x100000, 0x100000, 0x100000 + BZ_BODY, 0x7fffffff},
        {0x204, 0xffff, true, 0x100000, 0x100000, 0x100000 + BZ_BODY, 0x7fffffff},
        {0x202, 0xffff, true, 0x100000, 0x100000, 0x100000 + BZ_BODY, 0x37ffffff},
    };

    for (unsigned n = 0; n < sizeof t / sizeof *t; n++) {
        struct run *r = begin(1024);
        struct image i = img_bzimage();
        const struct boot_params *bp = AT(r, struct boot_params, 0x7000);

        img_u16(&i, 0x206, t[n].version);
        img_u16(&i, 0x236, t[n].xloadflags);
        img_u32(&i, 0x214, t[n].start);
        i.bytes[0x234] = t[n].relocatable;
        give_initrd(r);
        cr_assert_eq(load(r, i), 0, "case %u: %s", n, r->res.error);
        cr_assert_str_eq(r->res.protocol, "linux32");
        check_flat32_in(r, t[n].load + t[n].start - 0x100000, 0x10, 0x18);
        cr_assert_eq(AT(r, uint64_t, r->cpu.gdtr.base)[2], 0x00cf9b000000ffff);
        cr_assert_eq(AT(r, uint64_t, r->cpu.gdtr.base)[3], 0x00cf93000000ffff);
        cr_assert_eq(r->cpu.gpr[RSI], 0x7000);
        cr_assert_eq(r->cpu.gpr[RBX] | r->cpu.gpr[RBP] | r->cpu.gpr[RDI], 0);
        cr_assert_arr_eq(AT(r, uint8_t, t[n].load), i.bytes + BZ_SETUP, BZ_BODY);
        cr_assert_eq(bp->hdr.code32_start, t[n].load);
        cr_assert_eq(bp->acpi_rsdp_addr, 0xe0000);
        cr_assert_str_eq(AT(r, char, bp->hdr.cmd_line_ptr), r->req.cmdline);
        cr_assert_geq(bp->hdr.ramdisk_image, t[n].end);
        cr_assert_eq(bp->hdr.ramdisk_image,
                     ((t[n].max < r->ram.low ? t[n].max + 1 : r->ram.low) - sizeof initrd) &
                         ~(uint64_t)0xfff);
        end(r);
    }
}

/* setup_sects 0 means 4 (boot.rst). */
Test(boot, bzimage_old_setup_size)
{
    struct run *r = begin(64);
    struct image i = img_bzimage();

    i.bytes[0x1f1] = 0;
    memmove(i.bytes + 2560, i.bytes + BZ_SETUP, BZ_BODY);
    i.len = 2560 + BZ_BODY;
    cr_assert_eq(load(r, i), 0, "%s", r->res.error);
    cr_assert_arr_eq(AT(r, uint8_t, BZ_PREF), i.bytes + 2560, BZ_BODY);
    end(r);
}

Test(boot, bzimage_limits)
{
    struct run *r = begin(18);
    char *longer = calloc(1, 70000);
    struct image i = img_bzimage();

    /* The kernel ends at 18 MiB exactly; with the initrd it does not fit. */
    cr_assert_eq(load(r, i), 0, "%s", r->res.error);
    give_initrd(r);
    cr_assert_eq(load(r, i), -ENOEXEC);
    cr_assert(strstr(r->res.error, "initrd"), "%s", r->res.error);
    cr_assert(strstr(r->res.error, "at least 19 MiB"), "%s", r->res.error);
    r->req.initrd.data = NULL;
    memset(longer, 'x', 2047);
    r->req.cmdline = longer;
    cr_assert_eq(load(r, i), 0, "%s", r->res.error);
    longer[2047] = 'x';
    cr_assert_eq(load(r, i), -ENOEXEC);
    cr_assert_str_eq(r->res.error,
                     "the command line has 2048 bytes; this guest takes at most 2047");
    img_u32(&i, 0x238, 0xffffffff);
    cr_assert_eq(load(r, i), 0, "%s", r->res.error);
    memset(longer, 'x', 65535);
    cr_assert_eq(load(r, i), 0, "%s", r->res.error);
    longer[65535] = 'x';
    cr_assert_eq(load(r, i), -ENOEXEC);
    end(r);
    r = begin(8);
    cr_assert_eq(load(r, i), -ENOEXEC);
    cr_assert_str_eq(r->res.error, "it needs at least 18 MiB of memory and has 8: give -m 18M");
    free(longer);
    end(r);
}

Test(boot, initrd_limit_of_the_kernel)
{
    struct run *r = begin(128);
    struct image i = img_bzimage();
    const struct boot_params *bp = AT(r, struct boot_params, 0x7000);

    give_initrd(r);
    img_u32(&i, 0x22c, 0x2ffffff); /* 48 MiB */
    cr_assert_eq(load(r, i), 0, "%s", r->res.error);
    cr_assert_eq(bp->hdr.ramdisk_image, 0x3000000 - 12288);
    img_u32(&i, 0x22c, 0xffffff); /* below the kernel */
    cr_assert_eq(load(r, i), -ENOEXEC);
    img_u32(&i, 0x22c, 0x11fffff); /* just the kernel's end */
    cr_assert_eq(load(r, i), -ENOEXEC);
    cr_assert(strstr(r->res.error, "room for one of 0 MiB"), "%s", r->res.error);
    end(r);
}

Test(boot, vmlinux)
{
    struct run *r = begin(3584);

    give_initrd(r);
    /* An entry of its own beside the PVH one, virtual addresses high. */
    cr_assert_eq(load(r, img_elf((struct img_elf){.vbase = 0xffffffff80000000,
                                                  .note = {NOTE_PVH(ELF_BASE + 32)}})),
                 0, "%s", r->res.error);
    cr_assert_str_eq(r->res.protocol, "linux64");
    check_long(r, ELF_BASE + 16);
    check_zero_page(r, ELF_BASE + 0x1000 + ELF_BSS);
    check_elf_bytes(r, ELF_BASE);
    /* Unikraft and Nanos read the length here. */
    cr_assert_eq(AT(r, struct boot_params, 0x7000)->hdr.cmdline_size, strlen(r->req.cmdline) + 1);
    cr_assert_eq(AT(r, struct boot_params, 0x7000)->hdr.initrd_addr_max, 0, "Hermit's loader");
    cr_assert(!r->res.hermit);
    struct image app = img_elf((struct img_elf){.note = {{"HERMIT", 0x5a00, 1, 4}}});
    r->req.initrd = (struct boot_image){"app", app.bytes, app.len};
    cr_assert_eq(load(r, img_elf((struct img_elf){.vbase = 0})), 0, "%s", r->res.error);
    cr_assert(r->res.hermit);
    end(r);
}

struct start_info { /* as Xen's start_info.h has it */
    uint32_t magic, version, flags, nr_modules;
    uint64_t modlist, cmdline, rsdp, memmap;
    uint32_t memmap_entries, reserved;
};

Test(boot, pvh)
{
    struct image images[] = {
        img_pvh(),
        img_elf(
            (struct img_elf){.is32 = true, .note = {{"Other", 1, 4, 0}, NOTE_PVH(ELF_BASE + 32)}}),
        img_elf((struct img_elf){.note = {{"Xen", 18, 8, ELF_BASE + 32}}}),
    };

    for (unsigned n = 0; n < 3; n++) {
        struct run *r = begin(n ? 64 : 3100);
        const struct start_info *si;

        if (n == 2)
            r->req.boot = BOOT_PVH; /* its 64-bit entry would win */
        else
            give_initrd(r);
        cr_assert_eq(load(r, images[n]), 0, "%s", r->res.error);
        cr_assert_str_eq(r->res.protocol, "pvh");
        check_flat32(r, ELF_BASE + 32);
        check_elf_bytes(r, ELF_BASE);
        si = AT(r, struct start_info, r->cpu.gpr[RBX]);
        cr_assert_eq(si->magic, 0x336ec578);
        cr_assert_eq(si->version, 1);
        cr_assert_eq(si->rsdp, 0xe0000);
        cr_assert_str_eq(AT(r, char, si->cmdline), r->req.cmdline);
        cr_assert_eq(si->memmap_entries, n ? 4 : 5);
        const struct {
            uint64_t addr, size;
            uint32_t type, reserved;
        } *map = (const void *)AT(r, char, si->memmap);
        cr_assert_eq(map[3].addr, 0x100000);
        cr_assert_eq(map[3].size, r->ram.low - 0x100000);
        cr_assert_eq(map[3].type, 1);
        cr_assert_eq(si->nr_modules, n == 2 ? 0 : 1);
        if (n != 2) {
            const uint64_t *mod = AT(r, uint64_t, si->modlist);

            cr_assert_eq(mod[1], sizeof initrd);
            cr_assert_eq(mod[0] & 0xfff, 0);
            cr_assert_arr_eq(AT(r, uint8_t, mod[0]), initrd, sizeof initrd);
        }
        end(r);
    }
}

Test(boot, runtime)
{
    struct run *r = begin(128);
    const struct mayfly_boot *b = AT(r, struct mayfly_boot, 0x6000);
    char *argv[] = {"image", "two words", "", NULL}, *env[] = {"A=b", NULL};

    r->req.argv = argv;
    r->req.env = env;
    r->req.cwd = "/tmp";
    cr_assert_eq(load(r, img_runtime()), 0, "%s", r->res.error);
    cr_assert_str_eq(r->res.protocol, "elf");
    cr_assert(r->res.runtime);
    check_long(r, 0x200010);
    check_elf_bytes(r, 0x200000);
    cr_assert_eq(r->cpu.gpr[RDI], 0x6000);
    cr_assert_arr_eq(b->magic, "mayfly01", 8);
    cr_assert_eq(b->version, 1);
    cr_assert_eq(b->mem_size, 128 * MIB);
    cr_assert_eq(b->tsc_hz, 2100000000);
    cr_assert_eq(b->argc, 3);
    cr_assert_eq(b->envc, 1);
    cr_assert_eq(b->args_len, sizeof "image\0two words\0\0A=b");
    cr_assert_arr_eq(AT(r, char, b->args_gpa), "image\0two words\0\0A=b", b->args_len);
    cr_assert_str_eq(AT(r, char, b->path_gpa), "image");
    cr_assert_str_eq(AT(r, char, b->cwd_gpa), "/tmp");
    cr_assert_eq(b->program_gpa, 0);
    cr_assert_eq(b->image_end, 0x201000 + ELF_BSS);
    cr_assert_eq(b->initrd_gpa, 0);
    cr_assert_arr_eq(b->seed, r->req.seed, 32);
    for (uint64_t a = 0; a < 128 * MIB; a += 0x1ff7ff)
        cr_assert_eq(translate(r, a), a);
    cr_assert_eq(translate(r, 128 * MIB), UINT64_MAX);
    end(r);
}

Test(boot, runtime_sizes)
{
    static const uint64_t mem[] = {3, 4, 1024, 1026, 3072, 5000};

    for (unsigned m = 0; m < sizeof mem / sizeof *mem; m++) {
        struct run *r = begin(mem[m]);
        const struct mayfly_boot *b = AT(r, struct mayfly_boot, 0x6000);
        uint64_t top = (r->ram.low + 2 * MIB - 1) / (2 * MIB) * (2 * MIB);
        char big[9000], *argv[] = {"image", big, NULL};

        memset(big, 'y', sizeof big - 1);
        big[sizeof big - 1] = 0;
        r->req.argv = argv;
        give_initrd(r);
        cr_assert_eq(load(r, img_runtime()), 0, "%s", r->res.error);
        cr_assert_eq(b->args_gpa, 0x203000 + sizeof initrd);
        cr_assert_str_eq(AT(r, char, b->args_gpa + 6), big);
        cr_assert_eq(b->initrd_gpa, 0x203000);
        cr_assert_eq(b->initrd_len, sizeof initrd);
        cr_assert_eq(b->image_end, b->args_gpa + b->args_len + sizeof "image");
        cr_assert_arr_eq(AT(r, uint8_t, 0x203000), initrd, sizeof initrd);
        cr_assert_eq(b->mem_size, mem[m] * MIB);
        cr_assert_eq(translate(r, top - 1), top - 1);
        cr_assert_eq(translate(r, top), UINT64_MAX);
        end(r);
    }
    /* A page too few for the image. */
    struct run *r = begin(2);
    cr_assert_eq(load(r, img_runtime()), -ENOEXEC);
    cr_assert(strstr(r->res.error, "at least 3 MiB"), "%s", r->res.error);
    end(r);
}

/* The arguments go behind the boot block up to the GDT, never over it. */
Test(boot, runtime_arguments_edge)
{
    for (size_t n = 1800; n < 2048; n++) {
        struct run *r = begin(4);
        const struct mayfly_boot *b = AT(r, struct mayfly_boot, 0x6000);
        char *s = calloc(1, n + 1), *argv[] = {s, NULL};

        memset(s, 'z', n);
        r->req.argv = argv;
        cr_assert_eq(load(r, img_runtime()), 0, "%s", r->res.error);
        cr_assert_str_eq(AT(r, char, b->args_gpa), s);
        check_segs(r);
        free(s);
        end(r);
    }
}

/* The launch pays for each page it touches: boot block, three page tables, two of the image. */
Test(boot, runtime_touches_few_pages)
{
    struct run *r = begin(256);
    uint64_t pages = r->ram.low / PAGE_SIZE, touched = 0;
    unsigned char *vec = calloc(1, pages);

    madvise(r->ram.base, r->ram.low, MADV_NOHUGEPAGE);
    cr_assert_eq(load(r, img_runtime()), 0, "%s", r->res.error);
    cr_assert_eq(mincore(r->ram.base, r->ram.low, vec), 0);
    for (uint64_t p = 0; p < pages; p++)
        touched += vec[p] & 1;
    cr_assert_eq(touched, 6, "%llu pages", (unsigned long long)touched);
    free(vec);
    end(r);
}

Test(boot, memory_map_is_bounded)
{
    struct run *r = begin(5000);
    struct e820_entry e[4] = {0};

    cr_assert_eq(boot_memory_map(&r->ram, e, 0), 0);
    cr_assert_eq(boot_memory_map(&r->ram, e, 2), 2);
    cr_assert_eq(e[2].size, 0);
    end(r);
}

/* --- the real thing --- */

static bool map_file(const char *path, struct boot_image *img)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    void *p;

    if (fd < 0)
        return false;
    cr_assert_eq(fstat(fd, &st), 0);
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    *img = (struct boot_image){path, p, (uint64_t)st.st_size};
    return p != MAP_FAILED;
}

Test(boot, debian_kernel)
{
    struct run *r = begin(256);

    if (!map_file(".cache/vmlinuz", &r->req.kernel)) {
        puts("skipped: no Debian kernel in .cache");
        end(r);
        return;
    }
    give_initrd(r);
    cr_assert_eq(boot_load(&r->req, &r->ram, &r->cpu, &r->res), 0, "%s", r->res.error);
    check_long(r, 0x1000200);
    const struct boot_params *bp = AT(r, struct boot_params, 0x7000);
    check_zero_page(r, 0x1000000 + bp->hdr.init_size);
    /* The payload is where the header says, in one of the forms Debian uses. */
    uint32_t magic = *AT(r, uint32_t, 0x1000000 + bp->hdr.payload_offset);
    cr_assert(magic == 0x184c2102 || magic == 0x587a37fd || magic == 0xfd2fb528, "0x%x", magic);
    struct boot_image k = r->req.kernel;
    end(r);
    r = begin(8);
    r->req.kernel = k;
    cr_assert_eq(boot_load(&r->req, &r->ram, &r->cpu, &r->res), -ENOEXEC);
    cr_assert(strstr(r->res.error, "needs at least"), "%s", r->res.error);
    end(r);
}

Test(boot, debian_vmlinux)
{
    struct run *r = begin(256);

    if (!map_file(".cache/vmlinux", &r->req.kernel)) {
        puts("skipped: no Debian kernel in .cache");
        end(r);
        return;
    }
    give_initrd(r);
    cr_assert_eq(boot_load(&r->req, &r->ram, &r->cpu, &r->res), 0, "%s", r->res.error);
    cr_assert_str_eq(r->res.protocol, "linux64");
    check_long(r, 0x1000000);
    check_zero_page(r, 0x3e00000);
    struct boot_image k = r->req.kernel;
    end(r);
    r = begin(256);
    r->req.kernel = k;
    r->req.boot = BOOT_PVH;
    cr_assert_eq(boot_load(&r->req, &r->ram, &r->cpu, &r->res), 0, "%s", r->res.error);
    cr_assert_str_eq(r->res.protocol, "pvh");
    check_flat32(r, 0x1000850);
    end(r);
}
