/* Extended attributes, as on a filesystem that has none: the lists are empty, nothing can be set.
 */
#include <linux/fcntl.h>
#include "guests/runtime/path.h"

/* Is the file there, and the attribute's name readable (0: the call takes none)? */
static int64_t there(uint64_t at, bool follow, uint64_t name)
{
    char *path, first;
    struct place p;
    int64_t err = path_take((uint64_t)AT_FDCWD, at, follow, &path, &p);

    if (err)
        return err;
    path_free(path);
    if (!p.inode)
        return -ENOENT;
    return name && copy_in(&first, name, 1) ? -EFAULT : 0;
}

static int64_t none(int64_t err)
{
    return err ? err : -EOPNOTSUPP;
}

int64_t sys_xattr(uint64_t at, uint64_t name)
{
    return none(there(at, true, name));
}

int64_t sys_lxattr(uint64_t at, uint64_t name)
{
    return none(there(at, false, name));
}

int64_t sys_fxattr(uint64_t fd)
{
    return fd_file(fd) ? -EOPNOTSUPP : -EBADF;
}

int64_t sys_listxattr(uint64_t at)
{
    return there(at, true, 0);
}

int64_t sys_llistxattr(uint64_t at)
{
    return there(at, false, 0);
}

int64_t sys_flistxattr(uint64_t fd)
{
    return fd_file(fd) ? 0 : -EBADF;
}
