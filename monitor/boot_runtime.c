/*
 * Runtime guests of our own: a static ELF64 with the note "mayfly" (guests/runtime/bootblock.h is
 * the contract). This is the fast launch, so it touches as few pages as it can: besides the image,
 * the boot block with the GDT and a short command line behind it, and three pages of page tables
 * for up to 1 GiB.
 */
#include <elf.h>
#include <string.h>
#include "guests/runtime/bootblock.h"
#include "monitor/elf.h"
#include "monitor/ports.h"

#define BLOCK_END (BOOT_BLOCK_GPA + PAGE_SIZE)
#define BLOCK_GDT (BLOCK_END - BOOT_GDT_BYTES)

static int check_note(const struct elf *e, struct boot_result *res)
{
    uint32_t len, version;
    const uint8_t *desc = elf_note(e, MAYFLY_NOTE_NAME, MAYFLY_NOTE_TYPE, &len);

    if (!desc)
        return boot_fail(res, "an ELF file without mayfly's note; " BOOT_TAKES);
    if (len != sizeof version)
        return boot_fail(res, "a damaged mayfly guest: a note of %u bytes", len);
    memcpy(&version, desc, sizeof version);
    if (version != MAYFLY_BOOT_VERSION)
        return boot_fail(res, "a guest for version %u of mayfly's runtime; this mayfly has %u",
                         version, MAYFLY_BOOT_VERSION);
    if (!e->is64 || e->type != ET_EXEC)
        return boot_fail(res, "a damaged mayfly guest: not a static 64-bit executable");
    for (unsigned i = 0; i < e->nsegment; i++)
        if (e->segment[i].type == PT_LOAD && e->segment[i].memsz &&
            e->segment[i].paddr != e->segment[i].vaddr)
            return boot_fail(res,
                             "a damaged mayfly guest: segment %u is not mapped where it is "
                             "loaded",
                             i);
    return 0;
}

/* Behind the boot block when it fits there, which saves a page; else where kernels get theirs. */
static int put_cmdline(const struct boot_request *req, struct ram *ram, struct mayfly_boot *block,
                       struct boot_result *res)
{
    const uint64_t at = BOOT_BLOCK_GPA + sizeof *block;
    const char *args = req->cmdline ? req->cmdline : "";
    uint64_t len = strlen(args);

    if (len >= BLOCK_GDT - at) {
        block->cmdline_gpa = BOOT_CMDLINE;
        return boot_cmdline(req, ram, "", BOOT_CMDLINE_MAX - 1, &block->cmdline_len, res);
    }
    block->cmdline_gpa = at;
    block->cmdline_len = len;
    return ram_write(ram, at, args, len + 1) ? boot_fail(res, "no memory: give -m 2M or more") : 0;
}

int boot_elf_runtime(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
                     struct boot_result *res)
{
    struct mayfly_boot block = {
        .magic = MAYFLY_BOOT_MAGIC,
        .version = MAYFLY_BOOT_VERSION,
        .mem_size = ram->size,
        .tsc_hz = req->tsc_hz,
        .hypercall_port = MAYFLY_PORT,
    };
    struct elf e;
    int err = elf_read(&req->kernel, &e, res);

    if (err)
        return err;
    err = check_note(&e, res);
    if (err)
        return err;
    err = elf_claim(&e, ram, BOOT_LOW_NONE, res);
    if (err)
        return err;
    if (!elf_has_phys(&e, e.entry))
        return boot_fail(res, "a damaged mayfly guest: its entry point 0x%llx is in no segment",
                         (unsigned long long)e.entry);
    /* The initrd follows the image, and image_end it: the heap begins past both. */
    block.image_end = e.end;
    err = boot_initrd(req, ram, e.end, MMIO_HOLE_START, false, &block.initrd_gpa, res);
    if (err)
        return err;
    if (block.initrd_gpa) {
        block.initrd_len = req->initrd.len;
        block.image_end = block.initrd_gpa + block.initrd_len;
    }
    err = put_cmdline(req, ram, &block, res);
    if (err)
        return err;
    memcpy(block.seed, req->seed, sizeof block.seed);
    if (ram_write(ram, BOOT_BLOCK_GPA, &block, sizeof block))
        return boot_fail(res, "no memory: give -m 2M or more");
    elf_load(&e, ram);
    boot_cpu_long_sized(ram, cpu, e.entry, ram->low, BLOCK_GDT);
    cpu->cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT; /* compiled C may use SSE from its first instruction */
    cpu->gpr[RDI] = BOOT_BLOCK_GPA;
    res->protocol = "elf";
    res->runtime = true;
    return 0;
}
