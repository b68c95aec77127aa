/* --vsock CID,uds=PATH. */
#include "virtio/vsock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "virtio/unix_path.h"

#define BACKLOG 128

static int refuse(char *err, size_t len, int e, const char *fmt, const char *what)
{
    snprintf(err, len, fmt, what);
    return e;
}

static int parse(struct vsock *v, const char *arg, char *err, size_t len)
{
    static const char form[] = "as in 3,uds=/run/guest.sock";
    char *end;
    size_t n;

    if (!arg || *arg < '0' || *arg > '9')
        return refuse(err, len, -EINVAL, "the guest's CID is a number; %s", form);
    errno = 0;
    v->cid = strtoull(arg, &end, 10);
    if (errno || v->cid < 3 || v->cid >= 0xffffffffu)
        return refuse(err, len, -EINVAL, "this CID cannot be a guest's, 0 to 2 are reserved; %s",
                      "3 to 4294967294");
    if (strncmp(end, ",uds=", 5))
        return refuse(err, len, -EINVAL, "the Unix socket is missing; %s", form);
    end += 5;
    n = strlen(end);
    if (!n)
        return refuse(err, len, -EINVAL, "the path of the Unix socket is empty; %s", form);
    /* With _4294967295 after it, it is the name of a socket too. */
    if (n + 11 >= sizeof v->path)
        return refuse(err, len, -ENAMETOOLONG, "the path is too long for a Unix socket; %s",
                      "at most 96 characters");
    memcpy(v->path, end, n + 1);
    return 0;
}

int vsock_open(struct vsock *v, const char *arg, char *err, size_t len)
{
    int e = parse(v, arg, err, len);

    v->listen_fd = e ? -1 : unix_path_listen(v->path, BACKLOG, err, len);
    return e ? e : v->listen_fd < 0 ? v->listen_fd : 0;
}
