/*
 * A static Linux program as a unikernel: the embedded runtime (guests/runtime) at its place, the
 * program's file as it is behind it, its arguments and environment behind that. The runtime maps
 * the program's segments from the file and gives it its address space; here the file is only
 * checked, so that what cannot run is refused before there is a machine.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include "guests/runtime/bootblock.h"
#include "monitor/elf.h"
#include "monitor/ports.h"

#define PROGRAM_LOWEST (64ull << 10)     /* Linux's vm.mmap_min_addr */
#define PROGRAM_TOP    0x700000000000ull /* the runtime's mappings and stack are above */
#define PIE_TOP        0x200000000000ull /* from where a movable program is put */
#define BLOCK_END      (BOOT_BLOCK_GPA + PAGE_SIZE - BOOT_GDT_BYTES)

/* Segments as Linux takes them: in the file, ascending, apart, in the program's half. */
static int check(const struct elf *e, struct boot_result *res)
{
    uint64_t end = 0, lowest = e->type == ET_EXEC ? PROGRAM_LOWEST : 0;
    uint64_t top = e->type == ET_EXEC ? PROGRAM_TOP : PIE_TOP;
    bool entry = false;

    for (unsigned i = 0; i < e->nsegment; i++) {
        const struct elf_segment *s = &e->segment[i];

        if (s->type != PT_LOAD || !s->memsz)
            continue;
        if (s->filesz > s->memsz)
            return boot_fail(res,
                             "a damaged program: segment %u has more bytes in the file than in "
                             "memory",
                             i);
        if (s->offset > e->len || s->filesz > e->len - s->offset)
            return boot_fail(res,
                             "a damaged or truncated program: segment %u lies past the file's "
                             "end (%llu bytes)",
                             i, (unsigned long long)e->len);
        if (s->offset % PAGE_SIZE != s->vaddr % PAGE_SIZE)
            return boot_fail(res, "a damaged program: segment %u is not aligned to pages", i);
        if (s->vaddr < lowest)
            return boot_fail(res,
                             "a program that wants to be at address 0x%llx; the first 64 KiB "
                             "stay empty: link it higher",
                             (unsigned long long)s->vaddr);
        if (s->vaddr >= top || s->memsz > top - s->vaddr)
            return boot_fail(res,
                             "a damaged program: segment %u (%llu bytes at 0x%llx) does not fit "
                             "in the address space",
                             i, (unsigned long long)s->memsz, (unsigned long long)s->vaddr);
        if (s->vaddr < end)
            return boot_fail(res,
                             "a damaged program: segment %u overlaps another, or they are not "
                             "in order",
                             i);
        end = s->vaddr + s->memsz;
        if (e->entry >= s->vaddr && e->entry < end && s->flags & PF_X)
            entry = true;
    }
    if (!end)
        return boot_fail(res, "a program with nothing to load");
    return entry ? 0
                 : boot_fail(res, "a damaged program: its entry point 0x%llx is in no code",
                             (unsigned long long)e->entry);
}

static uint64_t strings_size(char *const *list)
{
    uint64_t n = 0;

    for (; list && *list; list++)
        n += strlen(*list) + 1;
    return n;
}

/* Copy them; returns how many there are. */
static uint64_t put_strings(char *const *list, char **out)
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
    uint64_t size = strings_size(req->argv) + strings_size(req->env);
    uint64_t all = size + strlen(path) + 1 + (req->cwd ? strlen(req->cwd) + 1 : 0);

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
    b->argc = put_strings(req->argv, &p);
    b->envc = put_strings(req->env, &p);
    b->path_gpa = at + (uint64_t)(p - start);
    p = stpcpy(p, path) + 1;
    if (req->cwd) {
        b->cwd_gpa = at + (uint64_t)(p - start);
        stpcpy(p, req->cwd);
    }
    return 0;
}

int boot_program(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
                 struct boot_result *res)
{
    struct mayfly_boot block = {
        .magic = MAYFLY_BOOT_MAGIC,
        .version = MAYFLY_BOOT_VERSION,
        .flags = req->std_flags,
        .mem_size = ram->size,
        .tsc_hz = req->tsc_hz,
        .hypercall_port = MAYFLY_PORT,
        .program_len = req->kernel.len,
        .virtio_base = req->virtio_base,
        .virtio_count = req->ndevice,
    };
    struct elf program, runtime;
    int err = elf_read(&req->kernel, &program, res);

    if (!err)
        err = check(&program, res);
    if (err)
        return err;
    if (!req->runtime.data)
        return boot_fail(res, "a static Linux program; this mayfly was built without its runtime");
    err = elf_read(&req->runtime, &runtime, res);
    if (!err)
        err = elf_claim(&runtime, ram, BOOT_LOW_NONE, res);
    if (err)
        return err;
    block.program_gpa = (runtime.end + PAGE_SIZE - 1) & PAGE_MASK;
    err = boot_claim(ram, block.program_gpa, req->kernel.len, BOOT_LOW_NONE, res);
    if (!err)
        err = put_args(req, ram, (block.program_gpa + req->kernel.len + PAGE_SIZE - 1) & PAGE_MASK,
                       &block, &block.image_end, res);
    if (err)
        return err;
    memcpy(block.seed, req->seed, sizeof block.seed);
    if (ram_write(ram, BOOT_BLOCK_GPA, &block, sizeof block))
        return boot_fail(res, "no memory: give -m 4M or more");
    boot_copy(ram, block.program_gpa, req->kernel.data, req->kernel.len);
    elf_load(&runtime, ram);
    boot_cpu_long_sized(ram, cpu, runtime.entry, ram->low, BLOCK_END);
    cpu->gpr[RDI] = BOOT_BLOCK_GPA;
    res->protocol = "program";
    res->runtime = true;
    return 0;
}
