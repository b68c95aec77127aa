/*
 * A second wall around shared directories: the server confines itself (virtio/fuse_inode.c), and
 * should a guest get past that, the kernel still lets its thread touch no file but those below.
 */
#include <errno.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "seccomp/seccomp.h"

#define READ   (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define REMOVE LANDLOCK_ACCESS_FS_REMOVE_FILE
#define CHANGE                                                                                  \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | REMOVE |                   \
     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_FIFO | \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER)
/* For nobody, nowhere. */
#define NEVER \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK)

/* Newer than the headers of the oldest system that builds this. */
#define TRUNCATE  (1ull << 14) /* ABI 3 */
#define IOCTL_DEV (1ull << 15) /* ABI 5 */

int seccomp_beneath(const struct seccomp_dir *dir, unsigned n, bool remove_elsewhere)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct landlock_ruleset_attr all = {.handled_access_fs = READ | CHANGE | NEVER};
    int err = 0;

    /* Before ABI 2 there is no moving a file from one directory to another. */
    if (abi < 2)
        return -EOPNOTSUPP;
    if (abi >= 3)
        all.handled_access_fs |= TRUNCATE;
    if (abi >= 5)
        all.handled_access_fs |= IOCTL_DEV;
    if (remove_elsewhere)
        all.handled_access_fs &= ~(uint64_t)REMOVE;
    int set = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);

    if (set < 0)
        return -errno;
    for (unsigned i = 0; i < n && !err; i++) {
        struct landlock_path_beneath_attr below = {
            .allowed_access =
                all.handled_access_fs & (dir[i].read_only ? READ : READ | CHANGE | TRUNCATE),
            .parent_fd = dir[i].fd,
        };

        if (syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &below, 0))
            err = -errno;
    }
    if (!err &&
        (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_landlock_restrict_self, set, 0)))
        err = -errno;
    close(set);
    return err;
}
