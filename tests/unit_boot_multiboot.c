/* The multiboot loader on good images: what is in RAM and in the CPU afterwards. */
#include <errno.h>
#include <stdio.h>
#include "tests/boot_check.h"

static void check_multiboot(struct run *r, uint32_t entry)
{
    const uint32_t *mb = AT(r, uint32_t, r->cpu.gpr[RBX]);
    char want[128];

    cr_assert_str_eq(r->res.protocol, "multiboot");
    check_flat32(r, entry);
    cr_assert_eq(r->cpu.gpr[RAX], 0x2badb002);
    cr_assert_eq(mb[0], 0x24d);
    cr_assert_eq(mb[1], 639);
    cr_assert_eq(mb[2], (r->ram.low - 0x100000) / 1024);
    snprintf(want, sizeof want, "test_kernel%s%s", *r->req.cmdline ? " " : "", r->req.cmdline);
    cr_assert_str_eq(AT(r, char, mb[4]), want);
    cr_assert_eq(mb[4] >> 12, r->cpu.gpr[RBX] >> 12, "a short one is in the information's page");
    cr_assert_str_eq(AT(r, char, mb[16]), "mayfly");
    cr_assert_eq(mb[11], (r->ram.high ? 5u : 4u) * 24);
    const uint32_t *map = AT(r, uint32_t, mb[12]);
    cr_assert_eq(map[18], 20);
    cr_assert_eq(map[19], 0x100000);
    cr_assert_eq(map[23], 1);
    if (r->req.initrd.data) {
        const uint32_t *mod = AT(r, uint32_t, mb[6]);

        cr_assert_eq(mb[5], 1);
        cr_assert_eq(mod[0] & 0xfff, 0);
        cr_assert_eq(mod[1] - mod[0], sizeof initrd);
        cr_assert_arr_eq(AT(r, uint8_t, mod[0]), initrd, sizeof initrd);
        cr_assert_str_eq(AT(r, char, mod[2]), "the_initrd.gz");
    } else {
        cr_assert_eq(mb[5], 0);
    }
}

/* More modules follow the first, a page apart at least; other protocols have one initrd. */
Test(boot_multiboot, modules)
{
    struct run *r = begin(32);
    struct image i = img_elf((struct img_elf){.is32 = true});
    const uint32_t *mb, *mod;

    img_multiboot_header(&i, ELF_FILE, 3);
    give_initrd(r);
    for (r->req.nmodule = 0; r->req.nmodule < BOOT_MODULES; r->req.nmodule++)
        r->req.module[r->req.nmodule] =
            (struct boot_image){"dir/second", initrd, 3 + r->req.nmodule};
    cr_assert_eq(load(r, i), 0, "%s", r->res.error);
    mb = AT(r, uint32_t, r->cpu.gpr[RBX]);
    mod = AT(r, uint32_t, mb[6]);
    cr_assert_eq(mb[5], 8);
    cr_assert_str_eq(AT(r, char, mod[2]), "the_initrd.gz");
    for (unsigned k = 1; k < 8; k++) {
        cr_assert(!(mod[4 * k] & 0xfff) && mod[4 * k] >= mod[4 * k - 3], "module %u", k);
        cr_assert_eq(mod[4 * k + 1] - mod[4 * k], 2 + k);
        cr_assert_arr_eq(AT(r, uint8_t, mod[4 * k]), initrd, 2 + k);
        cr_assert_str_eq(AT(r, char, mod[4 * k + 2]), "second");
    }
    cr_assert_eq(load(r, img_elf((struct img_elf){.note = {{"Xen", 18, 4, ELF_BASE}}})), -ENOEXEC);
    cr_assert(strstr(r->res.error, "--initrd was given 8 times"), "%s", r->res.error);
    end(r);
}

Test(boot_multiboot, elf)
{
    for (unsigned n = 0; n < 4; n++) {
        struct run *r = begin(n == 3 ? 5000 : 32);

        if (n & 1)
            give_initrd(r);
        else
            r->req.cmdline = n ? "" : NULL;
        if (!r->req.cmdline)
            r->req.cmdline = "";
        cr_assert_eq(load(r, img_multiboot(n < 2)), 0, "%s", r->res.error);
        check_multiboot(r, ELF_BASE + 16);
        check_elf_bytes(r, ELF_BASE);
        if (n & 1) /* not in the page after the kernel */
            cr_assert_eq(*AT(r, uint32_t, AT(r, uint32_t, r->cpu.gpr[RBX])[6]),
                         ELF_BASE + 0x2000 + ELF_BSS);
        cr_assert(!r->res.hermit);
        end(r);
    }
}

/* An entry given by its virtual address is entered where it was loaded. */
Test(boot_multiboot, virtual_entry)
{
    struct run *r = begin(32);
    struct image i = img_elf(
        (struct img_elf){.is32 = true, .vbase = 0xc0000000, .entry = 0xc0000020 + ELF_BASE});

    img_multiboot_header(&i, ELF_FILE, 0);
    cr_assert_eq(load(r, i), 0, "%s", r->res.error);
    check_multiboot(r, ELF_BASE + 32);
    end(r);
}

Test(boot_multiboot, flat)
{
    static const struct {
        uint32_t addr;
        bool ok;
    } at[] = {{0x100000, true}, {0x8000, true},    {0x40000, true},    {0x500, false},
              {0xf800, false},  {0x10000, false},  {0x20000, false},   {0x9f800, false},
              {0xff800, false}, {0x1fff000, true}, {0x1fff800, false}, {0xc0000000, false}};

    for (unsigned n = 0; n < sizeof at / sizeof *at; n++) {
        struct run *r = begin(32);
        struct image i = img_flat(at[n].addr);
        int err = load(r, i);

        cr_assert_eq(err, at[n].ok ? 0 : -ENOEXEC, "0x%x: %d %s", at[n].addr, err, r->res.error);
        if (!err) {
            check_multiboot(r, at[n].addr + 128);
            cr_assert_arr_eq(AT(r, uint8_t, at[n].addr), i.bytes, 512);
        }
        end(r);
    }
}

/* The kludge's addresses win over the ELF header they come in (Solo5's virtio images). */
Test(boot_multiboot, flat_elf)
{
    struct run *r = begin(32);
    struct image i = img_elf((struct img_elf){.is32 = true});
    uint32_t addr = 0x100000;

    img_multiboot_header(&i, 0x200, 0x10003);
    img_u32(&i, 0x20c, addr + 0x200);
    img_u32(&i, 0x210, addr);
    img_u32(&i, 0x214, 0);
    img_u32(&i, 0x218, 0);
    img_u32(&i, 0x21c, addr + 0x1010);
    cr_assert_eq(load(r, i), 0, "%s", r->res.error);
    check_multiboot(r, addr + 0x1010);
    cr_assert_arr_eq(AT(r, uint8_t, addr), i.bytes, i.len);
    end(r);
}
