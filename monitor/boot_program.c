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

#define PROGRAM_LOWEST (64ull << 10)     /* Linux's vm.mmap_min_addr */
#define PROGRAM_TOP    0x700000000000ull /* the runtime's mappings and stack are above */
#define PIE_TOP        0x200000000000ull /* from where a movable program is put */

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

int boot_program(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
                 struct boot_result *res)
{
    struct mayfly_boot block = {.program_len = req->kernel.len};
    struct elf program, runtime;
    int err = elf_read(&req->kernel, &program, res);

    if (!err)
        err = check(&program, res);
    if (err)
        return err;
    if (!req->runtime.data && req->network)
        return boot_fail(res, "a program with --net; this mayfly was built without lwIP, its "
                              "network for programs: build it where a Debian mirror is in reach");
    if (!req->runtime.data)
        return boot_fail(res, "a static Linux program; this mayfly was built without its runtime");
    err = elf_read(&req->runtime, &runtime, res);
    if (!err)
        err = elf_claim(&runtime, ram, BOOT_LOW_NONE, res);
    if (err)
        return err;
    block.program_gpa = (runtime.end + PAGE_SIZE - 1) & PAGE_MASK;
    block.image_end = (block.program_gpa + req->kernel.len + PAGE_SIZE - 1) & PAGE_MASK;
    err = boot_claim(ram, block.program_gpa, req->kernel.len, BOOT_LOW_NONE, res);
    if (!err)
        err = boot_runtime(req, ram, cpu, &runtime, &block, res);
    if (err)
        return err;
    boot_copy(ram, block.program_gpa, req->kernel.data, req->kernel.len);
    res->moved = program.type == ET_DYN ? MAYFLY_PIE_BASE : 0;
    res->protocol = "program";
    return 0;
}
