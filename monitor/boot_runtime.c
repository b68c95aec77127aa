/*
 * What boots on the boot block (guests/runtime/bootblock.h is the contract): the embedded runtime
 * below a program (boot_program.c), and images that say by the note "mayfly" that they hold both
 * (guests/runtime/mayfly-cc makes them). This is the fast launch, so it touches as few pages as it
 * can: besides the image, the boot block with the GDT and short arguments behind it, and three
 * pages of page tables for up to 1 GiB.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include "guests/runtime/bootblock.h"
#include "monitor/elf.h"
#include "monitor/ports.h"

#define BLOCK_END (BOOT_BLOCK_GPA + PAGE_SIZE - BOOT_GDT_BYTES)

static int check_note(const struct elf *e, struct boot_result *res)
{
    uint32_t len, version;
    const uint8_t *desc = elf_note(e, MAYFLY_NOTE_NAME, MAYFLY_NOTE_TYPE, &len);

    if (!desc)
        return boot_fail(res, "an ELF file without the note of mayfly-cc's images; " BOOT_TAKES);
    if (len != sizeof version)
        return boot_fail(res, "a damaged mayfly guest: a note of %u bytes", len);
    memcpy(&version, desc, sizeof version);
    if (version != MAYFLY_BOOT_VERSION)
        return boot_fail(res, "a guest for version %u of mayfly's runtime; this mayfly has %u",
                         version, MAYFLY_BOOT_VERSION);
    if (!e->is64 || e->type != ET_EXEC)
        return boot_fail(res, "a damaged mayfly guest: not a static 64-bit executable");
    return 0;
}

static uint64_t strings_size(const char *const *list)
{
    uint64_t n = 0;

    for (; list && *list; list++)
        n += strlen(*list) + 1;
    return n;
}

/* Copy them; returns how many there are. */
static uint64_t put_strings(const char *const *list, char **out)
{
    uint64_t n = 0;

    for (; list && list[n]; n++)
        *out = stpcpy(*out, list[n]) + 1;
    return n;
}

/* Behind the boot block where they fit, which saves pages; else at `at`. Returns the end. */
static int put_args(const struct boot_request *req, struct ram *ram, uint64_t at,
                    struct mayfly_boot *b, uint64_t *end, struct boot_result *res)
{
    const char *path = req->argv ? req->argv[0] : req->kernel.path;
    const char *const *argv = (const char *const *)req->argv;
    const char *const *env = (const char *const *)req->env;
    uint64_t size = strings_size(argv) + strings_size(env);
    uint64_t all =
        size + strlen(path) + 1 + (req->cwd ? strlen(req->cwd) + 1 : 0) + strings_size(req->mounts);

    *end = at;
    if (all <= BLOCK_END - (BOOT_BLOCK_GPA + sizeof *b)) {
        at = BOOT_BLOCK_GPA + sizeof *b;
    } else {
        *end = at + all;
        if (boot_claim(ram, at, all, BOOT_LOW_NONE, res))
            return -ENOEXEC;
    }
    char *start = ram_ptr(ram, at, all), *p = start;

    if (!start)
        return boot_fail(res, "no memory: give -m 4M or more");
    b->args_gpa = at;
    b->args_len = size;
    b->argc = put_strings(argv, &p);
    b->envc = put_strings(env, &p);
    b->path_gpa = at + (uint64_t)(p - start);
    p = stpcpy(p, path) + 1;
    if (req->cwd) {
        b->cwd_gpa = at + (uint64_t)(p - start);
        p = stpcpy(p, req->cwd) + 1;
    }
    if (req->mounts) {
        b->mounts_gpa = at + (uint64_t)(p - start);
        put_strings(req->mounts, &p);
    }
    return 0;
}

int boot_runtime(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
                 const struct elf *runtime, struct mayfly_boot *b, struct boot_result *res)
{
    int err = put_args(req, ram, b->image_end, b, &b->image_end, res);

    if (err)
        return err;
    memcpy(b->magic, MAYFLY_BOOT_MAGIC, sizeof b->magic);
    b->version = MAYFLY_BOOT_VERSION;
    b->flags = req->std_flags;
    b->mem_size = ram->size;
    b->tsc_hz = req->tsc_hz;
    b->hypercall_port = MAYFLY_PORT;
    b->virtio_base = req->virtio_base;
    b->virtio_count = req->ndevice;
    memcpy(b->virtio_gsi, req->virtio_gsi, sizeof b->virtio_gsi);
    b->net_address = req->net.address;
    b->net_mask = req->net.mask;
    b->net_gateway = req->net.gateway;
    b->net_dns = req->net.dns;
    b->net_ahead = req->net.ahead;
    memcpy(b->seed, req->seed, sizeof b->seed);
    memcpy(b->auxv_seed, req->seed + sizeof b->seed, sizeof b->auxv_seed);
    if (ram_write(ram, BOOT_BLOCK_GPA, b, sizeof *b))
        return boot_fail(res, "no memory: give -m 4M or more");
    elf_load(runtime, ram);
    boot_cpu_long_sized(ram, cpu, runtime->entry, ram->low, BLOCK_END);
    cpu->gpr[RDI] = BOOT_BLOCK_GPA;
    res->runtime = true;
    return 0;
}

int boot_elf_runtime(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
                     struct boot_result *res)
{
    struct mayfly_boot block = {0};
    struct elf e;
    int err = elf_read(&req->kernel, &e, res);

    if (!err)
        err = check_note(&e, res);
    if (!err)
        err = elf_claim(&e, ram, BOOT_LOW_NONE, res);
    if (err)
        return err;
    if (!elf_has_phys(&e, e.entry))
        return boot_fail(res, "a damaged mayfly guest: its entry point 0x%llx is in no segment",
                         (unsigned long long)e.entry);
    /* The initrd follows the image, and image_end it: the heap begins past both. */
    block.image_end = e.end;
    err = boot_initrd(&req->initrd, ram, e.end, MMIO_HOLE_START, false, &block.initrd_gpa, res);
    if (err)
        return err;
    if (block.initrd_gpa) {
        block.initrd_len = req->initrd.len;
        block.image_end = block.initrd_gpa + block.initrd_len;
    }
    res->protocol = "elf";
    return boot_runtime(req, ram, cpu, &e, &block, res);
}
