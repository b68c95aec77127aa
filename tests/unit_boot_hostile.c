/* Damaged and hostile images: whatever the bytes, a loader returns 0 or -ENOEXEC with one sentence,
 * reads nothing past the image (exact heap copies under the sanitizer) and leaves nothing odd in
 * the CPU. MUTATIONS=n and SEED=n change the random test. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "tests/boot_images.h"

/* What lies past RAM here is not mapped, so a stray write faults. */
#define MEMORY (48 * MIB)
static struct ram ram;
static struct cpu cpu;

static void setup(void)
{
    cr_assert_eq(ram_create(&ram, MEMORY + 16 * MIB), 0);
    cr_assert_eq(mprotect(ram.base + MEMORY, 16 * MIB, PROT_NONE), 0);
    ram.size = ram.low = MEMORY;
}

static void teardown(void)
{
    ram_destroy(&ram);
}

TestSuite(boot_hostile, .init = setup, .fini = teardown, .timeout = 240);

static const struct good {
    const char *name;
    enum boot_choice forced;
} goods[] = {{"bzimage", BOOT_LINUX},
             {"vmlinux", BOOT_LINUX},
             {"pvh", BOOT_PVH},
             {"pvh32", BOOT_PVH},
             {"multiboot32", BOOT_MULTIBOOT},
             {"multiboot64", BOOT_MULTIBOOT},
             {"flat", BOOT_MULTIBOOT},
             {"runtime", BOOT_ELF}};
#define GOODS (sizeof goods / sizeof *goods)

static struct image good(unsigned n)
{
    switch (n) {
    case 0:
        return img_bzimage();
    case 1:
        return img_elf((struct img_elf){.note = {NOTE_PVH(ELF_BASE + 32)}});
    case 2:
        return img_pvh();
    case 3:
        return img_elf((struct img_elf){.is32 = true, .note = {NOTE_PVH(ELF_BASE + 32)}});
    case 4:
        return img_multiboot(true);
    case 5:
        return img_multiboot(false);
    case 6:
        return img_flat(0x100000);
    default:
        return img_runtime();
    }
}

/* Where the headers of image n lie: what is worth changing byte by byte. */
static unsigned ranges(unsigned n, uint64_t r[3][2])
{
    if (n == 0) {
        r[0][0] = 0x1f0, r[0][1] = 0x290;
        return 1;
    }
    if (n == 6) {
        r[0][0] = 64, r[0][1] = 96;
        return 1;
    }
    r[0][0] = 0, r[0][1] = sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr);
    r[1][0] = ELF_NOTES, r[1][1] = ELF_NOTES + 64;
    r[2][0] = ELF_FILE, r[2][1] = ELF_FILE + 32;
    return 3;
}

static uint64_t loaded, refused;

static void try(const struct image *i, uint64_t len, enum boot_choice boot, const char *what,
                uint64_t a, uint64_t b)
{
    static const uint8_t initrd[64] = {1};
    struct boot_request req = {.cmdline = "a=b", .boot = boot};
    struct boot_result res;
    int err;

    memset(&res, 0xee, sizeof res);
    req.initrd = (struct boot_image){"initrd", initrd, sizeof initrd};
    err = img_load(i, len, &req, &ram, &cpu, &res);
    if (err == 0) {
        loaded++;
        cr_assert_not_null(res.protocol);
        cr_assert_eq(res.error[0], 0);
        cr_assert(cpu.rip < ram.low, "%s %llu %llu: rip 0x%llx", what, (unsigned long long)a,
                  (unsigned long long)b, (unsigned long long)cpu.rip);
        return;
    }
    refused++;
    cr_assert_eq(err, -ENOEXEC, "%s %llu %llu: %d", what, (unsigned long long)a,
                 (unsigned long long)b, err);
    cr_assert(memchr(res.error, 0, sizeof res.error) && strlen(res.error) > 8);
    for (const char *p = res.error; *p; p++)
        cr_assert(*p >= ' ' && *p < 0x7f, "%s %llu %llu: '%s'", what, (unsigned long long)a,
                  (unsigned long long)b, res.error);
}

static void try_both(unsigned n, const struct image *i, uint64_t len, uint64_t a, uint64_t b)
{
    try(i, len, BOOT_AUTO, goods[n].name, a, b);
    try(i, len, goods[n].forced, goods[n].name, a, b);
}

Test(boot_hostile, the_good_ones_load)
{
    for (unsigned n = 0; n < GOODS; n++) {
        struct image i = good(n);

        loaded = refused = 0;
        try_both(n, &i, i.len, 0, 0);
        cr_assert_eq(loaded, 2, "%s", goods[n].name);
    }
}

Test(boot_hostile, every_length)
{
    for (unsigned n = 0; n < GOODS; n++) {
        struct image i = good(n);

        for (uint64_t len = 0; len < i.len; len++)
            try_both(n, &i, len, len, 0);
    }
    cr_assert(refused > 1000);
}

/* Each byte, and each 16, 32 and 64-bit field at any address, at its extremes and one off. */
Test(boot_hostile, every_field)
{
    for (unsigned n = 0; n < GOODS; n++) {
        const struct image ok = good(n);
        uint64_t range[3][2];
        unsigned nrange = ranges(n, range);

        for (unsigned k = 0; k < nrange; k++)
            for (uint64_t at = range[k][0]; at < range[k][1]; at++)
                for (unsigned size = 1; size <= 8; size *= 2) {
                    uint64_t old = 0;

                    memcpy(&old, ok.bytes + at, size);
                    const uint64_t values[] = {
                        0,          1,           ~0ull,       old + 1,       old - 1,
                        old ^ 128,  ok.len,      ok.len - 1,  0x7fffffff,    0x80000000,
                        1ull << 63, ~0ull << 12, ~0ull - old, 3 * GIB - old, 48 * MIB};

                    for (unsigned v = 0; v < sizeof values / sizeof *values; v++) {
                        struct image i = ok;

                        memcpy(i.bytes + at, &values[v], size);
                        try_both(n, &i, i.len, at, values[v]);
                    }
                }
    }
    cr_assert(loaded > 1000 && refused > 1000);
}

static uint64_t state;
static uint64_t rnd(void)
{
    /* xorshift64*: any seed but 0. */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1d;
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *s = getenv(name);

    return s ? strtoull(s, NULL, 0) : otherwise;
}

/* Mostly in the headers; values that are near a limit more often than not. */
static void mutate(struct image *i, unsigned n)
{
    uint64_t range[3][2];
    unsigned nrange = ranges(n, range);
    unsigned changes = 1 + (unsigned)(rnd() % 6);

    while (changes--) {
        const uint64_t *r = range[rnd() % nrange];
        uint64_t at = rnd() % 8 ? r[0] + rnd() % (r[1] - r[0]) : rnd() % i->len;
        unsigned size = 1u << (rnd() % 4);
        uint64_t v = rnd();

        if (at + size > sizeof i->bytes)
            continue;
        switch (rnd() % 6) {
        case 0:
            v = 0 - (v & 0xff);
            break;
        case 1:
            v &= 0xff;
            break;
        case 2:
            v = 1ull << (v & 63);
            break;
        case 3:
            v = (uint64_t)i->bytes[at] + (v & 1 ? 1 : 255);
            break;
        case 4:
            v = ELF_BASE + (v & 0xffffff);
            break;
        }
        memcpy(i->bytes + at, &v, size);
    }
    if (rnd() % 8 == 0)
        i->len = rnd() % (i->len + 1);
}

Test(boot_hostile, random)
{
    uint64_t count = number("MUTATIONS", 100000), seed = number("SEED", 0x6d61796662797465);

    for (uint64_t k = 0; k < count; k++) {
        unsigned n = (unsigned)(k % GOODS);
        struct image i = good(n);

        state = seed + k * 0x9e3779b97f4a7c15 + 1; /* each case can be had alone */
        if (!state)
            state = 1;
        mutate(&i, n);
        try(&i, i.len, rnd() % 4 ? BOOT_AUTO : goods[n].forced, goods[n].name, seed, k);
    }
    printf("boot_hostile: %llu loaded, %llu refused\n", (unsigned long long)loaded,
           (unsigned long long)refused);
    cr_assert(loaded > count / 100 && refused > count / 100);
}

/* Every segment at every kind of edge of memory: a huge image must not be copied half. */
Test(boot_hostile, refused_images_change_nothing)
{
    for (unsigned n = 1; n < GOODS; n++) {
        struct image i = good(n);
        bool is32 = i.bytes[EI_CLASS] == ELFCLASS32;
        uint64_t at = is32
                          ? sizeof(Elf32_Ehdr) + sizeof(Elf32_Phdr) + offsetof(Elf32_Phdr, p_memsz)
                          : sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, p_memsz);

        if (n == 6)
            continue;
        img_u32(&i, at, 0x70000000);
        ram_destroy(&ram);
        setup();
        loaded = 0;
        try_both(n, &i, i.len, 0, 0);
        cr_assert_eq(loaded, 0, "%s", goods[n].name);
        for (uint64_t a = 0; a < ram.low; a += 8)
            cr_assert_eq(*(uint64_t *)(ram.base + a), 0, "%s: 0x%llx", goods[n].name,
                         (unsigned long long)a);
    }
}

/* A note segment of nothing but the smallest notes, as large as a file: bounded work. */
Test(boot_hostile, endless_notes)
{
    const uint64_t len = 16 * MIB;
    struct image head = img_pvh();
    uint8_t *data = calloc(1, len);
    struct boot_request req = {.cmdline = ""};
    struct boot_result res;
    Elf64_Ehdr eh;

    memcpy(&eh, head.bytes, sizeof eh);
    eh.e_phnum = 64;
    memcpy(data, &eh, sizeof eh);
    for (unsigned i = 0; i < 64; i++) {
        Elf64_Phdr p = {.p_type = PT_NOTE, .p_offset = 8192, .p_filesz = len - 8192, .p_align = 4};

        memcpy(data + sizeof eh + i * sizeof p, &p, sizeof p);
    }
    req.kernel = (struct boot_image){"x", data, len};
    cr_assert_eq(boot_load(&req, &ram, &cpu, &res), -ENOEXEC);
    free(data);
}

/* A PT_NOTE that ends with the file, and inside each part of its note. */
Test(boot_hostile, note_cut_by_the_end)
{
    struct image i = img_pvh();
    uint64_t phdr = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr), at = i.len;

    img_put(&i, at, i.bytes + ELF_NOTES, 20);
    for (uint64_t size = 0; size <= 20; size++) {
        img_put(&i, phdr + offsetof(Elf64_Phdr, p_offset), &at, 8);
        img_put(&i, phdr + offsetof(Elf64_Phdr, p_filesz), &size, 8);
        loaded = 0;
        try_both(2, &i, at + size, size, 0);
        cr_assert_eq(loaded, size == 20 ? 2 : 0, "%llu bytes", (unsigned long long)size);
    }
}
