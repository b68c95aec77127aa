/* The runtime's start. */
#include <linux/stat.h>
#include "guests/runtime/hostfs.h"
#include "guests/runtime/net.h"
#include "guests/runtime/standalone.h"
#include "guests/runtime/vm.h"

struct mayfly_boot boot;

extern const char program_start[], program_end[]; /* runtime.ld: the same where there is none */

_Noreturn void runtime_main(uint64_t block);
_Noreturn void runtime_main(uint64_t block)
{
    const struct mayfly_boot *given = kva(block);
    struct place p;

    if (standalone_boot && *(const uint32_t *)given == PVH_MAGIC)
        standalone_boot(block);
    else
        boot = *given;
    if (!boot.program_gpa) {
        boot.program_gpa = kpa(program_start);
        boot.program_len = (uint64_t)(program_end - program_start);
    }
    cpu_init();
    clock_init();
    frames_init(boot.image_end);
    pages_init();
    fs_init();
    if (net_init)
        net_init();
    program_path = kva(boot.path_gpa);
    if (!boot.program_len) {
        say("mayfly: %s: no program inside: run the program itself, or make an image of it with "
            "mayfly-cc",
            program_path);
        machine_exit(126);
    }
    program_inode = inode_new(0100755);
    program_inode->flat = kva(boot.program_gpa);
    program_inode->size = boot.program_len;
    if (boot.cwd_gpa) {
        const char *path = kva(boot.cwd_gpa);

        if (path_walk(0, path, true, &p) || !p.inode || !S_ISDIR(p.inode->mode)) {
            say("mayfly: --cwd %s: no such directory in the program's tree; --share DIR:/PATH "
                "makes one",
                path);
            machine_exit(125);
        }
        inode_hold(cwd = p.inode);
    }
    exec_program();
}
