/* Choosing the boot protocol. */
#include <errno.h>
#include <string.h>
#include "guests/runtime/bootblock.h"
#include "monitor/elf.h"
#include "monitor/hvt.h"
#include "monitor/loader.h"

typedef int boot_fn(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
                    struct boot_result *res);

/* Does the kernel's e_entry look like a 64-bit physical one? FreeBSD's is virtual; images made for
 * PVH alone repeat their 32-bit entry there. */
static bool entry_is_long(const struct elf *e)
{
    uint64_t pvh;

    return e->is64 && elf_has_phys(e, e->entry) && !(elf_pvh_entry(e, &pvh) && pvh == e->entry);
}

/* The protocol for an ELF file. The note of ours names the guest's own choice; a PVH note goes
 * before a multiboot header (OSv has one for its private loader); between the 64-bit entry and PVH
 * the former saves the guest a mode switch. */
static int choose_elf(const struct boot_image *k, boot_fn **fn, struct boot_result *res)
{
    struct boot_result quiet;
    struct elf e;
    uint64_t entry;
    uint32_t len;
    bool pvh, multiboot = boot_multiboot_probe(k);
    int err = elf_read(k, &e, &quiet);

    if (err) {
        /* A flat multiboot image may begin with bytes that look like a broken ELF header. */
        *fn = boot_multiboot;
        return multiboot ? 0 : elf_read(k, &e, res);
    }
    if (elf_note(&e, MAYFLY_NOTE_NAME, MAYFLY_NOTE_TYPE, &len)) {
        *fn = boot_elf_runtime;
        return 0;
    }
    pvh = elf_pvh_entry(&e, &entry);
    if (multiboot && !pvh) {
        *fn = boot_multiboot;
        return 0;
    }
    if (!pvh && elf_is_static_program(&e)) {
        *fn = boot_program;
        return 0;
    }
    if (!pvh) {
        err = elf_refuse_programs(&e, res);
        if (err)
            return err;
    }
    if (entry_is_long(&e))
        *fn = boot_elf_linux;
    else if (pvh)
        *fn = boot_pvh;
    else if (e.is64)
        *fn = boot_elf_linux; /* says what is wrong with it */
    else
        return boot_fail(res, "a 32-bit ELF file with neither a PVH note nor a multiboot header (a "
                              "program: build it for "
                              "x86-64, gcc -m64 -static); " BOOT_TAKES);
    return 0;
}

/* "#!/bin/sh -e": the interpreter has to be the guest, and to reach the script. */
static int refuse_script(const struct boot_image *k, struct boot_result *res)
{
    char name[64] = "";
    uint64_t at = 2;
    unsigned n = 0;

    while (at < k->len && (k->data[at] == ' ' || k->data[at] == '\t'))
        at++;
    while (at < k->len && k->data[at] > ' ' && k->data[at] < 0x7f && n < sizeof name - 1)
        name[n++] = (char)k->data[at++];
    return boot_fail(res,
                     "a script for %s: run a static build of that, with the script's directory: "
                     "mayfly run --share DIR:/work --cwd /work INTERPRETER SCRIPT",
                     n ? name : "an interpreter it does not name");
}

static int choose(const struct boot_image *k, boot_fn **fn, struct boot_result *res)
{
    char buf[64];

    if (boot_linux_probe(k)) {
        *fn = boot_linux;
        return 0;
    }
    if (hvt_probe(k)) {
        *fn = boot_hvt;
        return 0;
    }
    if (elf_magic(k))
        return choose_elf(k, fn, res);
    if (boot_multiboot_probe(k)) {
        *fn = boot_multiboot;
        return 0;
    }
    if (k->len > 2 && !memcmp(k->data, "#!", 2))
        return refuse_script(k, res);
    return boot_fail(res, "%s; " BOOT_TAKES, boot_describe(k, buf, sizeof buf));
}

/* --boot X: the file must be of a kind that X can be. */
static int forced(const struct boot_image *k, enum boot_choice boot, boot_fn **fn,
                  struct boot_result *res)
{
    const char *takes;
    char buf[64];

    switch (boot) {
    case BOOT_LINUX:
        *fn = elf_magic(k) ? boot_elf_linux : boot_linux;
        if (boot_linux_probe(k) || elf_magic(k))
            return 0;
        takes = "--boot linux takes a bzImage or a vmlinux";
        break;
    case BOOT_PVH:
        *fn = boot_pvh;
        if (elf_magic(k))
            return 0;
        takes = "--boot pvh takes an ELF file with a PVH note, such as a vmlinux";
        break;
    case BOOT_MULTIBOOT:
        *fn = boot_multiboot;
        if (boot_multiboot_probe(k))
            return 0;
        takes = "--boot multiboot takes a file with a multiboot 1 header in its first 8192 bytes";
        break;
    case BOOT_ELF:
        *fn = boot_elf_runtime;
        if (elf_magic(k))
            return 0;
        takes = "--boot elf takes an image made by mayfly-cc";
        break;
    case BOOT_HVT:
        *fn = boot_hvt;
        if (hvt_probe(k))
            return 0;
        takes = "--boot hvt takes a Solo5 unikernel built for hvt";
        break;
    default:
        return boot_fail(res, "no such boot protocol");
    }
    return boot_fail(res, "%s; %s", boot_describe(k, buf, sizeof buf), takes);
}

/* An application that Hermit's loader takes as its initrd (hermit-entry: note HERMIT). */
static bool is_hermit(const struct boot_image *initrd)
{
    static struct elf e;
    struct boot_result ignored;

    return initrd->data && elf_magic(initrd) && !elf_read(initrd, &e, &ignored) &&
           elf_has_note(&e, "HERMIT");
}

int boot_load(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
              struct boot_result *res)
{
    const struct boot_image *k = &req->kernel;
    boot_fn *fn = NULL;
    int err;

    *res = (struct boot_result){0};
    if (!k->data || !k->len)
        return boot_fail(res, "an empty file; " BOOT_TAKES);
    err = req->boot == BOOT_AUTO ? choose(k, &fn, res) : forced(k, req->boot, &fn, res);
    if (err || !fn)
        return err ? err : -ENOEXEC;
    if (ram->low < BOOT_HIGH)
        return boot_fail(res, "no guest fits in %llu KiB of memory: give -m 2M or more",
                         (unsigned long long)(ram->low / 1024));
    if (req->nmodule && fn != boot_multiboot)
        return boot_fail(res,
                         "a guest that takes one initrd, and --initrd was given %u times: only "
                         "multiboot kernels take several, as their modules",
                         req->nmodule + 1);
    err = fn(req, ram, cpu, res);
    if (!err)
        res->hermit = is_hermit(&req->initrd);
    return err;
}

bool boot_is_linux(const struct boot_image *k)
{
    static struct elf e;
    struct boot_result ignored;

    if (boot_linux_probe(k))
        return true;
    return elf_magic(k) && !elf_read(k, &e, &ignored) && elf_has_note(&e, "Linux");
}
