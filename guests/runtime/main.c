/* The runtime's start. */
#include "guests/runtime/hostfs.h"
#include "guests/runtime/vm.h"

struct mayfly_boot boot;

_Noreturn void runtime_main(uint64_t block);
_Noreturn void runtime_main(uint64_t block)
{
    const struct mayfly_boot *given = kva(block);
    struct place p;

    boot = *given;
    cpu_init();
    clock_init();
    frames_init(boot.image_end);
    pages_init();
    fs_init();
    program_path = kva(boot.path_gpa);
    program_inode = inode_new(0100755);
    program_inode->flat = kva(boot.program_gpa);
    program_inode->size = boot.program_len;
    if (boot.cwd_gpa && !path_walk(0, kva(boot.cwd_gpa), true, &p) && p.inode)
        cwd = p.inode;
    exec_program();
}
