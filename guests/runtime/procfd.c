/* /proc/self/fd: a link for each open descriptor, made when somebody looks. */
#include <asm/fcntl.h>
#include <linux/stat.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/hostfs.h"

static struct inode *fd_dir;

void procfd_init(void)
{
    fd_dir = inode_new(S_IFDIR | 0500);
    inode_hold(fd_dir);
    fs_place("/proc/self/fd", fd_dir);
}

bool procfd_is(const struct inode *dir)
{
    return dir && dir == fd_dir;
}

/* The entries are those of the descriptors that are open now. */
void procfd_refresh(void)
{
    for (unsigned fd = 0; fd < MAX_FDS; fd++) {
        char name[8];

        format(name, sizeof name, "%d", (uint64_t)fd);
        size_t n = length(name);
        struct inode *i = dir_known(fd_dir, name, n);

        if (!i && fd_file(fd)) {
            i = inode_new(S_IFLNK | 0700);
            if (!i)
                return;
            i->rdev = LINK_FD + fd;
            dir_add(fd_dir, name, n, i);
            inode_drop(i);
        } else if (i && !fd_file(fd)) {
            dir_remove(fd_dir, name, n);
        }
    }
}

void procfd_resolve(uint64_t fd, char *out, size_t size)
{
    const struct file *f = fd_file(fd);

    if (f && f->ops == &console_ops)
        format(out, size,
               boot.flags & MAYFLY_BOOT_TTY((uintptr_t)f->data) ? "/dev/tty" : "pipe:[%d]",
               (uint64_t)(uintptr_t)f->data);
    else if (!f || !f->inode)
        format(out, size, "anon_inode:[%d]", fd);
    else if (path_of(f->inode, out, size) < 0)
        format(out, size, "/ (deleted)");
}

/* /proc/self/fd/N and its other names. */
int procfd_of(const char *path)
{
    static const char *const dirs[] = {"/proc/self/fd/", "/dev/fd/"};
    static const char *const names[] = {"/dev/stdin", "/dev/stdout", "/dev/stderr"};

    for (int i = 0; i < 3; i++) {
        if (same(path, names[i]))
            return i;
        const struct file *f = fd_file((uint64_t)i);

        if (same(path, "/dev/tty") && f && f->ops == &console_ops &&
            boot.flags & MAYFLY_BOOT_TTY((uintptr_t)f->data))
            return i;
    }
    for (unsigned i = 0; i < 2; i++) {
        size_t n = 0;
        int fd = 0;

        while (dirs[i][n] && dirs[i][n] == path[n])
            n++;
        if (dirs[i][n] || !path[n])
            continue;
        for (; path[n] >= '0' && path[n] <= '9' && fd < MAX_FDS; n++)
            fd = fd * 10 + (path[n] - '0');
        return path[n] ? -1 : fd;
    }
    return -1;
}
