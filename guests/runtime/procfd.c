/* /proc/self/fd: a link for each open descriptor, and /proc/self/task: a directory for each thread;
 * made when somebody looks. */
#include <asm/fcntl.h>
#include <linux/stat.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/hostfs.h"
#include "guests/runtime/process.h"

static struct inode *fd_dir, *task_dir;

static struct inode *place_live(const char *path, uint32_t mode)
{
    struct inode *i = inode_new(S_IFDIR | mode);

    inode_hold(i);
    fs_place(path, i);
    return i;
}

void procfd_init(void)
{
    fd_dir = place_live("/proc/self/fd", 0500);
    task_dir = place_live("/proc/self/task", 0555);
}

bool procfd_is(const struct inode *dir)
{
    return dir && (dir == fd_dir || dir == task_dir);
}

/* One entry of a directory is to be there, or not. */
static void refresh_one(struct inode *dir, uint64_t number, bool there)
{
    char name[16];

    format(name, sizeof name, "%d", number);
    size_t n = length(name);
    struct inode *i = dir_known(dir, name, n);

    if (i && !there)
        dir_remove(dir, name, n);
    if (i || !there)
        return;
    i = inode_new(dir == fd_dir ? S_IFLNK | 0700 : S_IFDIR | 0555);
    if (!i)
        return;
    i->rdev = dir == fd_dir ? LINK_FD + number : number;
    if (dir == task_dir)
        proc_task(i, number);
    dir_add(dir, name, n, i);
    inode_drop(i);
}

static uint64_t gone; /* a thread that has an entry still; 0: none */

static void note_gone(struct inode *task)
{
    if (!thread_find((uint32_t)task->rdev))
        gone = task->rdev;
}

/* Descriptors that are open now; threads that live. */
void procfd_refresh(struct inode *dir)
{
    if (dir == fd_dir) {
        for (unsigned fd = 0; fd < MAX_FDS; fd++)
            refresh_one(dir, fd, fd_file(fd));
        return;
    }
    while (gone = 0, dir_each(dir, note_gone), gone)
        refresh_one(dir, gone, false);
    for (const struct thread *t = thread_list(); t; t = t->next)
        refresh_one(dir, t->tid, true);
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
