/* Solo5 images: what notes and segments are taken, what is said about the others, and that no bytes
 * at all do harm. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include "monitor/hvt.h"
#include "tests/boot_images.h"

#define TEXT    0x1000u /* in the file */
#define NOTES   0x400u
#define MFT     NOTES
#define MFT_AT  (MFT + 24) /* the manifest itself */
#define ABI     0xb00u
#define PHDR(n) (sizeof(Elf64_Ehdr) + (n) * sizeof(Elf64_Phdr))

/* An image with two devices: text at 1 MiB, constants, data with a bss, and the two notes. */
static struct image image(void)
{
    struct image i = {.len = 0};
    struct hvt_device d[3] = {{.type = HVT_DEV_RESERVED},
                              {.name = "store", .type = HVT_DEV_BLOCK},
                              {.name = "wire", .type = HVT_DEV_NET}};
    Elf64_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1},
                    .e_type = ET_EXEC,
                    .e_machine = EM_X86_64,
                    .e_version = 1,
                    .e_entry = 0x100010,
                    .e_phoff = sizeof h,
                    .e_ehsize = sizeof h,
                    .e_phentsize = sizeof(Elf64_Phdr),
                    .e_phnum = 6};
    uint32_t size = 4 + 8 + sizeof d;

    img_put(&i, 0, &h, sizeof h);
    img_phdr(&i, false, 0,
             (Elf64_Phdr){PT_LOAD, PF_R | PF_X, TEXT, 0x100000, 0x100000, 64, 64, 0x1000});
    img_phdr(&i, false, 1,
             (Elf64_Phdr){PT_LOAD, PF_R, TEXT + 64, 0x101000, 0x101000, 64, 64, 0x1000});
    img_phdr(
        &i, false, 2,
        (Elf64_Phdr){PT_LOAD, PF_R | PF_W, TEXT + 128, 0x102000, 0x102000, 64, 0x5000, 0x1000});
    img_phdr(&i, false, 3, (Elf64_Phdr){.p_type = PT_LOAD, .p_flags = PF_R, .p_align = 0x1000});
    img_phdr(&i, false, 4, (Elf64_Phdr){PT_NOTE, PF_R, MFT, 0, 0, 20 + size, 20 + size, 8});
    img_phdr(&i, false, 5, (Elf64_Phdr){PT_NOTE, PF_R, ABI, 0, 0, 36, 36, 4});
    img_u32(&i, MFT, 6);
    img_u32(&i, MFT + 4, size);
    img_u32(&i, MFT + 8, HVT_NOTE_MFT);
    img_put(&i, MFT + 12, "Solo5", 6);
    img_u32(&i, MFT_AT, 1);
    img_u32(&i, MFT_AT + 4, 3);
    img_put(&i, MFT_AT + 8, d, sizeof d);
    img_u32(&i, ABI, 6);
    img_u32(&i, ABI + 4, 16);
    img_u32(&i, ABI + 8, HVT_NOTE_ABI);
    img_put(&i, ABI + 12, "Solo5", 6);
    img_u32(&i, ABI + 20, HVT_TARGET);
    img_u32(&i, ABI + 24, 2);
    for (unsigned k = 0; k < 192; k++)
        i.bytes[TEXT + k] = (uint8_t)(k + 1);
    i.len = TEXT + 192;
    return i;
}

struct outcome {
    int err;
    struct boot_result res;
    struct ram ram;
    struct cpu cpu;
    struct hvt_mft mft;
};

/* As a run does: the notes, then the load with every device attached. */
static struct outcome *load(const struct image *i, uint64_t memory, const char *cmdline)
{
    struct outcome *o = calloc(1, sizeof *o);
    struct boot_image k = {.path = "test", .data = i->bytes, .len = i->len};
    struct boot_request req = {
        .kernel = k, .cmdline = cmdline, .tsc_hz = 1000000000, .boot = BOOT_HVT};

    cr_assert_eq(ram_create_flat(&o->ram, memory), 0);
    o->err = hvt_probe(&k) ? hvt_read_notes(&k, &o->mft, &o->res) : -ENOENT;
    if (!o->err) {
        for (unsigned n = 1; n < o->mft.entries; n++)
            o->mft.device[n].attached = 1;
        req.hvt = &o->mft;
        o->err = boot_load(&req, &o->ram, &o->cpu, &o->res);
    }
    return o;
}

static void done(struct outcome *o)
{
    ram_destroy(&o->ram);
    free(o);
}

static uint64_t word(const struct outcome *o, gpa_t at)
{
    uint64_t v = 0;

    cr_assert_eq(ram_read(&o->ram, at, &v, 8), 0);
    return v;
}

Test(hvt, loads)
{
    struct image i = image();
    struct outcome *o = load(&i, 8 * MIB, "a b");
    struct hvt_boot b;
    struct hvt_device d;

    cr_assert_eq(o->err, 0, "%s", o->res.error);
    cr_assert_str_eq(o->res.protocol, "hvt");
    ram_read(&o->ram, HVT_BOOT_GPA, &b, sizeof b);
    cr_expect_eq(b.mem_size, 8 * MIB);
    cr_expect_eq(b.kernel_end, 0x107000);
    cr_expect_eq(b.tsc_hz, 1000000000);
    cr_expect_eq(b.host_features | b.guest_features | b.net_ring, 0);
    cr_expect_str_eq((char *)ram_ptr(&o->ram, b.cmdline, 4), "a b");
    ram_read(&o->ram, b.manifest + 8 + sizeof d, &d, sizeof d);
    cr_expect_str_eq(d.name, "store");
    cr_expect_eq(d.attached, 1);
    cr_expect_eq(o->cpu.rip, 0x100010);
    cr_expect_eq(o->cpu.gpr[RDI], HVT_BOOT_GPA);
    cr_expect_eq(o->cpu.gpr[RSP], 8 * MIB - 8);
    cr_expect_eq(word(o, 0x100000), 0x0807060504030201);
    cr_expect_eq(word(o, 0x102000) & 0xff, 129);
    cr_expect_eq(o->ram.attr[0xff], 0);
    cr_expect_eq(o->ram.attr[0x100], RAM_ATTR_RO);
    cr_expect_eq(o->ram.attr[0x101], RAM_ATTR_RO | RAM_ATTR_NX);
    for (unsigned p = 0x102; p < 0x107; p++)
        cr_expect_eq(o->ram.attr[p], RAM_ATTR_NX);
    cr_expect_eq(o->ram.attr[0x107], 0);
    cr_expect_null(ram_ptr_out(&o->ram, 0x101fff, 2));
    cr_expect_not_null(ram_ptr_out(&o->ram, 0x102000, 0x6000));
    done(o);
}

/* Page tables by the walk itself: what is mapped, and how. */
Test(hvt, page_tables)
{
    struct image i = image();
    static const struct {
        gva_t at;
        bool read, write;
    } t[] = {{0, false, false},        {0xffff, false, false},    {0x10000, true, false},
             {0xfffff, true, false},   {0x100000, true, true},    {0x1fffff, true, true},
             {0x200000, true, true},   {4 * GIB - 1, true, true}, {4 * GIB, false, false},
             {0x40000000, true, true}, {0xfee00000, true, true}};
    struct outcome *o = load(&i, 4 * GIB, "");
    struct walk_ctx w = {.cr0 = o->cpu.cr0,
                         .cr3 = o->cpu.cr3,
                         .cr4 = o->cpu.cr4,
                         .efer = o->cpu.efer,
                         .maxphyaddr = 46};

    cr_assert_eq(o->err, 0, "%s", o->res.error);
    for (unsigned n = 0; n < sizeof t / sizeof *t; n++) {
        struct walk_result r;
        uint32_t error;

        cr_expect_eq(!walk(&o->ram, &w, t[n].at, ACC_READ, true, &r, &error), t[n].read, "%u", n);
        cr_expect_eq(!walk(&o->ram, &w, t[n].at, ACC_WRITE, true, &r, &error), t[n].write, "%u", n);
        cr_expect(!t[n].read || r.gpa == t[n].at);
    }
    done(o);
}

/* One word of the good image changed. */
static const struct {
    uint32_t at, value;
    const char *says;
} broken[] = {
    {ABI + 20, 2, "for spt"},
    {ABI + 20, 4, "for muen"},
    {ABI + 20, 5, "for genode"},
    {ABI + 20, 6, "for xen"},
    {ABI + 20, 99, "for an unknown monitor"},
    {ABI + 24, 1, "version 1 of hvt"},
    {ABI + 24, 3, "version 3 of hvt"},
    {ABI + 4, 8, "without a sound note"},
    {ABI + 4, 17, "without a sound note"},
    {ABI + 8, 7, "without a sound note"},
    {MFT + 8, 7, "without a manifest"},
    {MFT + 4, 0, "of 0 bytes"},
    {MFT + 4, 4, "of 4 bytes"},
    {MFT + 4, 12 + 2 * 104, "3 entries in 220 bytes"},
    {MFT + 4, 12 + 4 * 104, "damaged manifest"},
    {MFT + 4, 0xffffffff, "damaged manifest"},
    {MFT_AT, 2, "manifest of version 2"},
    {MFT_AT + 4, 0, "0 entries"},
    {MFT_AT + 4, 2, "2 entries"},
    {MFT_AT + 4, 65, "65 entries"},
    {MFT_AT + 4, 0xffffffff, "entries in"},
    {MFT_AT + 8, 'x', "reserved entry"},
    {MFT_AT + 8 + 68, 1, "reserved entry"},
    {MFT_AT + 112 + 64, 0x78787878, "a name without an end"},
    {MFT_AT + 112 + 68, 0, "unknown type 0"},
    {MFT_AT + 112 + 68, 3, "unknown type 3"},
    {MFT_AT + 112 + 96, 1, "attached already"},
    {PHDR(0) + offsetof(Elf64_Phdr, p_flags), PF_R | PF_W | PF_X, "writable and executable"},
    {PHDR(0) + offsetof(Elf64_Phdr, p_vaddr), 0xff000, "only the monitor"},
    {PHDR(0) + offsetof(Elf64_Phdr, p_align), 0x200000, "only the monitor"},
    {PHDR(0) + offsetof(Elf64_Phdr, p_align), 3, "aligned to 0x3"},
    {PHDR(0) + offsetof(Elf64_Phdr, p_vaddr) + 4, 1, "ends above 4 GiB"},
    {PHDR(0) + offsetof(Elf64_Phdr, p_memsz) + 4, 1, "ends above 4 GiB"},
    {PHDR(0) + offsetof(Elf64_Phdr, p_memsz) + 4, 0x80000000, "ends above 4 GiB"},
    {PHDR(0) + offsetof(Elf64_Phdr, p_memsz), 0x1001, "shares a page"},
    {PHDR(1) + offsetof(Elf64_Phdr, p_vaddr), 0x100800, "shares a page"},
    {PHDR(2) + offsetof(Elf64_Phdr, p_memsz), 0x800000, "give -m 10M"},
    {PHDR(2) + offsetof(Elf64_Phdr, p_filesz), 0x5001, "past its end"},
    {PHDR(0) + offsetof(Elf64_Phdr, p_offset), 0x10000, "past its end"},
    {PHDR(0) + offsetof(Elf64_Phdr, p_offset) + 4, 0xffffffff, "past its end"},
    {offsetof(Elf64_Ehdr, e_entry), 0x102000, "in no executable segment"},
    {offsetof(Elf64_Ehdr, e_entry), 0x100040, "in no executable segment"},
    {offsetof(Elf64_Ehdr, e_type), ET_DYN | EM_X86_64 << 16, "not a 64-bit ELF executable"},
};

Test(hvt, refusals)
{
    for (unsigned n = 0; n < sizeof broken / sizeof *broken; n++) {
        struct image i = image();

        img_u32(&i, broken[n].at, broken[n].value);
        i.len = TEXT + 192;
        struct outcome *o = load(&i, 8 * MIB, "");

        cr_expect(o->err == -ENOEXEC && strstr(o->res.error, broken[n].says),
                  "%u: %d '%s', not '%s'", n, o->err, o->res.error, broken[n].says);
        done(o);
    }
}

/* A hostile name does not reach the terminal. */
Test(hvt, names)
{
    struct image i = image();
    struct boot_result res;
    struct hvt_mft mft;
    char plain[HVT_NAME_SIZE];

    img_put(&i, MFT_AT + 112, "\33[2J\n\200x", 8);
    i.bytes[MFT_AT + 112 + 68] = 9;
    i.len = TEXT + 192;
    cr_assert_eq(hvt_read_notes(&(struct boot_image){"x", i.bytes, i.len}, &mft, &res), -ENOEXEC);
    cr_expect_not_null(strstr(res.error, "'?[2J??x'"), "%s", res.error);
    cr_expect_str_eq(hvt_name("ok-1", plain), "ok-1");
}

Test(hvt, another_target)
{
    struct image i = image(), plain = img_elf((struct img_elf){0});

    cr_expect(hvt_probe(&(struct boot_image){"x", i.bytes, i.len}));
    img_u32(&i, ABI + 20, HVT_TARGET_VIRTIO);
    i.len = TEXT + 192;
    cr_expect_not(hvt_probe(&(struct boot_image){"x", i.bytes, i.len}), "a multiboot kernel's");
    cr_expect_not(hvt_probe(&(struct boot_image){"x", plain.bytes, plain.len}));
}

/* Whatever the bytes: taken, or refused with a sentence. Every cut, every byte, and words of
 * extreme values at every place of headers and notes. */
static void survives(const struct image *i)
{
    struct outcome *o = load(i, 8 * MIB, "");

    cr_assert(o->err == 0 || o->err == -ENOENT || (o->err == -ENOEXEC && o->res.error[0]));
    done(o);
}

Test(hvt, damaged)
{
    static const uint64_t extreme[] = {0, 1, 0x7fffffff, 0xffffffff, ~0ull, 1ull << 63, 0x100000};
    struct image i = image();

    for (uint64_t len = 0; len < TEXT + 192; len += len < 0x200 ? 1 : 13) {
        i.len = len;
        survives(&i);
    }
    for (unsigned at = 0; at < ABI + 36; at += 4) {
        if (at >= PHDR(6) && at < NOTES)
            continue;
        for (unsigned n = 0; n < sizeof extreme / sizeof *extreme; n++) {
            i = image();
            img_put(&i, at, &extreme[n], 4 + 4 * (n & 1));
            i.len = TEXT + 192;
            survives(&i);
        }
    }
}
