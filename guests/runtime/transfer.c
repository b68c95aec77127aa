/* From file to file inside the runtime: sendfile, copy_file_range. Files read and write program
 * memory, so a stretch of it is borrowed for the time of the call. */
#include <asm/fcntl.h>
#include <asm/mman.h>
#include <linux/mman.h>
#include <linux/stat.h>
#include "guests/runtime/fs.h"

#define ROOM (64ull << 10)

/* Copy up to count bytes; a NULL position is the file's own. */
static int64_t move(struct file *from, uint64_t *in, struct file *to, uint64_t *out, uint64_t count)
{
    uint64_t at, done = 0;
    int64_t room = sys_mmap(0, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NEVER, 0);
    int64_t n = 0;

    if (room < 0)
        return room;
    at = (uint64_t)room;
    file_hold(from);
    file_hold(to);
    if (!in)
        file_settle(from);
    while (done < count) {
        uint64_t start = in ? *in : from->pos, want = least(count - done, ROOM);

        n = file_read(from, at, want, in);
        if (n <= 0)
            break;
        int64_t put = file_write(to, at, (uint64_t)n, out);

        done += put > 0 ? (uint64_t)put : 0;
        if (put < n) { /* what was read and not taken is still to be read */
            if (in)
                *in = start + (put > 0 ? (uint64_t)put : 0);
            else
                from->pos = start + (put > 0 ? (uint64_t)put : 0);
            n = put;
            break;
        }
        if ((uint64_t)n < want)
            break;
    }
    file_drop(from);
    file_drop(to);
    sys_munmap(at, ROOM);
    return done ? (int64_t)done : n;
}

static int position(uint64_t at, uint64_t *pos)
{
    if (copy_in(pos, at, 8))
        return -EFAULT;
    return (int64_t)*pos < 0 ? -EINVAL : 0;
}

int64_t sys_sendfile(uint64_t out, uint64_t in, uint64_t off_at, uint64_t count)
{
    struct file *from = fd_file(in), *to = fd_file(out);
    uint64_t pos = 0;
    int err = off_at ? position(off_at, &pos) : 0;

    if (!from || !to || (to->flags & 3) == O_RDONLY || (from->flags & 3) == O_WRONLY)
        return -EBADF;
    if (err)
        return err;
    if (!from->ops->seekable || !from->inode || !S_ISREG(from->inode->mode))
        return -EINVAL; /* as Linux: the caller copies by itself then */
    int64_t n = move(from, off_at ? &pos : NULL, to, NULL, least(count, 0x7ffff000));

    if (off_at && copy_out(off_at, &pos, 8))
        return -EFAULT;
    return n;
}

int64_t sys_copy_file_range(uint64_t in, uint64_t in_at, uint64_t out, uint64_t out_at,
                            uint64_t count, uint64_t flags)
{
    struct file *from = fd_file(in), *to = fd_file(out);
    uint64_t a = 0, b = 0;
    int err = in_at ? position(in_at, &a) : 0;

    if (!err && out_at)
        err = position(out_at, &b);
    if (!from || !to || to->flags & O_APPEND)
        return -EBADF;
    if (err || flags)
        return err ? err : -EINVAL;
    if (!from->inode || !to->inode || !S_ISREG(from->inode->mode) || !S_ISREG(to->inode->mode))
        return -EINVAL;
    if (from->inode == to->inode) {
        uint64_t x = in_at ? a : from->pos, y = out_at ? b : to->pos;

        if (x < y + count && y < x + count)
            return -EINVAL;
    }
    int64_t n = move(from, in_at ? &a : NULL, to, out_at ? &b : NULL, least(count, 0x7ffff000));

    if ((in_at && copy_out(in_at, &a, 8)) || (out_at && copy_out(out_at, &b, 8)))
        return -EFAULT;
    return n;
}

int64_t sys_memfd_create(uint64_t name, uint64_t flags)
{
    enum { CLOEXEC = 1, KNOWN = 3 };
    char text[250];
    int64_t n = str_in(text, name, sizeof text);

    if (n < 0 || flags & ~(uint64_t)KNOWN)
        return n == -EFAULT ? -EFAULT : -EINVAL;
    struct inode *i = inode_new(S_IFREG | 0777);
    struct file *f = i ? file_new(&regular_ops, i, O_RDWR) : NULL;

    if (i)
        inode_drop(i);
    return f ? fd_install(f, 0, flags & CLOEXEC) : -ENFILE;
}
