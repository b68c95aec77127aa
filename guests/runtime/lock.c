/*
 * Locks on files. flock() is held between the open files of the program; a record lock of a process
 * is in nobody's way, for there is no other process. The host's programs hear of neither.
 */
#include <asm/fcntl.h>
#include "guests/runtime/fs.h"
#include "guests/runtime/process.h"

enum { SHARED = 1, EXCLUSIVE = 2, UNLOCK = 8, NOW = 4 }; /* LOCK_SH ... LOCK_NB */

static struct lock {
    struct lock *next;
    const struct file *file;
    bool exclusive;
} * locks;

void lock_release(const struct file *f)
{
    for (struct lock **p = &locks; *p; p = &(*p)->next) {
        struct lock *l = *p;

        if (l->file != f)
            continue;
        *p = l->next;
        kfree(l, sizeof *l);
        thread_wake(&locks);
        return;
    }
}

static bool is_free(const struct file *f, bool exclusive)
{
    for (const struct lock *l = locks; l; l = l->next)
        if (l->file->inode == f->inode && (exclusive || l->exclusive))
            return false;
    return true;
}

/* One that is changed is given up first, as on Linux. */
static int64_t take(const struct file *f, bool exclusive, bool now)
{
    struct lock *l;

    lock_release(f);
    while (!is_free(f, exclusive)) {
        int64_t err = now ? -EAGAIN : thread_wait(&locks, NEVER);

        if (err)
            return err;
    }
    l = kalloc(sizeof *l);
    if (!l)
        return -ENOMEM;
    *l = (struct lock){locks, f, exclusive};
    locks = l;
    return 0;
}

int64_t sys_flock(uint64_t fd, uint64_t op)
{
    struct file *f = fd_file(fd);
    uint32_t what = (uint32_t)op & ~(uint32_t)NOW;
    int64_t err = 0;

    if (!f || f->flags & O_PATH)
        return -EBADF;
    if (what != SHARED && what != EXCLUSIVE && what != UNLOCK)
        return -EINVAL;
    if (!f->inode)
        return 0; /* the console, a pipe: there is one of each */
    file_hold(f);
    if (what == UNLOCK)
        lock_release(f);
    else
        err = take(f, what == EXCLUSIVE, op & NOW);
    file_drop(f);
    return err;
}

/* fcntl()'s, at being struct flock of the program. */
int64_t lock_record(const struct file *f, uint64_t at, bool ask)
{
    uint16_t l[2], unlocked = F_UNLCK; /* l_type, l_whence */

    if (copy_in(l, at, sizeof l))
        return -EFAULT;
    if (l[0] > F_UNLCK || l[1] > 2 || (ask && l[0] == F_UNLCK))
        return -EINVAL;
    if (!ask && ((l[0] == F_RDLCK && (f->flags & O_ACCMODE) == O_WRONLY) ||
                 (l[0] == F_WRLCK && (f->flags & O_ACCMODE) == O_RDONLY)))
        return -EBADF;
    return ask ? copy_out(at, &unlocked, sizeof unlocked) : 0;
}
