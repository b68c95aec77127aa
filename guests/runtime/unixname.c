/* Names of AF_UNIX sockets: paths in memory, and abstract ones. */
#include "guests/runtime/unix.h"
#include <asm/fcntl.h>
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <linux/un.h>
#include "guests/runtime/path.h"

struct local *unix_all;

int unix_name_in(struct unix_name *n, uint64_t at, uint64_t len)
{
    struct sockaddr_un a;

    fill(n, 0, sizeof *n);
    if ((uint32_t)len < sizeof a.sun_family || (uint32_t)len > sizeof a)
        return -EINVAL;
    if (copy_in(&a, at, (uint32_t)len))
        return -EFAULT;
    if (a.sun_family != AF_UNIX)
        return -EINVAL;
    n->len = (uint32_t)len - sizeof a.sun_family;
    copy(n->text, a.sun_path, n->len);
    if (n->len && n->text[0])
        n->len = (uint32_t)length(n->text);
    return 0;
}

int unix_name_out(const struct unix_name *n, uint64_t at, uint32_t room, uint64_t len_at)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    uint32_t size = (uint32_t)(sizeof a.sun_family + n->len + (n->len && n->text[0]));

    copy(a.sun_path, n->text, least(n->len, sizeof a.sun_path));
    if (copy_out(at, &a, least(room, least(size, sizeof a))) ||
        copy_out(len_at, &size, sizeof size))
        return -EFAULT;
    return 0;
}

static bool same_name(const struct unix_name *a, const struct unix_name *b)
{
    uint32_t k = 0;

    while (a->len == b->len && k < a->len && a->text[k] == b->text[k])
        k++;
    return a->len == b->len && k == a->len;
}

static struct local *of_abstract(const struct unix_name *n)
{
    struct local *u = unix_all;

    while (u && (!u->bound || u->name.text[0] || !same_name(&u->name, n)))
        u = u->next;
    return u;
}

static struct local *of_inode(const struct inode *i)
{
    struct local *u = unix_all;

    while (u && u->inode != i)
        u = u->next;
    return u;
}

static int64_t bind_path(struct local *u, const struct unix_name *n)
{
    struct inode *i = NULL;
    struct place p;
    int64_t err = path_walk(AT_FDCWD, n->text, PATH_FIND, &p);

    if (err)
        return err;
    if (p.inode)
        return -EADDRINUSE;
    if (p.dir->node)
        return -EPERM; /* on the host's side nobody would meet at it */
    err = path_create(&p, S_IFSOCK | (0777 & ~umask_now), &i);
    if (err)
        return err;
    inode_hold(i);
    u->inode = i;
    return 0;
}

int64_t unix_bind(struct local *u, const struct unix_name *n)
{
    static uint32_t last;
    struct unix_name name = *n;
    int64_t err = 0;

    if (u->name.len)
        return -EINVAL;
    if (!name.len) {
        do {
            name.len = 6;
            for (unsigned k = 0; k < 5; k++)
                name.text[k + 1] = "0123456789abcdef"[last >> 4 * (4 - k) & 15];
            last++;
        } while (of_abstract(&name));
    } else if (name.text[0]) {
        err = bind_path(u, &name);
    } else if (of_abstract(&name)) {
        err = -EADDRINUSE;
    }
    if (!err) {
        u->name = name;
        u->bound = true;
    }
    return err;
}

void unix_unbind(struct local *u)
{
    if (u->inode)
        inode_drop(u->inode);
    u->inode = NULL;
    u->bound = false;
}

struct local *unix_find(const struct unix_name *n, unsigned type, int64_t *err)
{
    struct local *u = NULL;
    struct place p;

    *err = !n->len ? -EINVAL : -ECONNREFUSED;
    if (n->len && n->text[0]) {
        int64_t walked = path_walk(AT_FDCWD, n->text, PATH_FOLLOW, &p);

        if (walked || !p.inode)
            *err = walked ? walked : -ENOENT;
        else
            u = of_inode(p.inode);
    } else if (n->len) {
        u = of_abstract(n);
    }
    if (u && u->socket->ops->type != type) {
        *err = -EPROTOTYPE;
        return NULL;
    }
    return u;
}
