/*
 * --vsock CID,uds=PATH.
 *
 * PATH is made here and removed at the end. One that exists already is removed only when it is a
 * socket that nobody listens on any more (connect() says ECONNREFUSED), as a killed monitor leaves
 * it; anything else there is somebody's, and refused. The kernel lets go of a killed monitor's
 * io_uring, which holds the socket, some 40 ms after its end: a listener whose process is no more
 * is waited for.
 */
#include "virtio/vsock.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG      128
#define GONE_MS      2000
#define GONE_STEP_MS 10

static struct vsock *to_unlink;

void vsock_unlink(struct vsock *v)
{
    struct stat st;

    if (to_unlink == v && !stat(v->path, &st) && st.st_dev == v->path_dev &&
        st.st_ino == v->path_ino)
        unlink(v->path);
    to_unlink = NULL;
}

/* The launch failed after this. */
static void at_exit(void)
{
    if (to_unlink)
        vsock_unlink(to_unlink);
}

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

/* errno of a connection to PATH. *gone: it was made, but who listens has ended. */
static int try_path(const struct sockaddr_un *sa, bool *gone)
{
    struct ucred who = {0};
    socklen_t size = sizeof who;
    int e = 0, s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (s < 0 || connect(s, (const struct sockaddr *)sa, sizeof *sa))
        e = errno;
    *gone = !e && !getsockopt(s, SOL_SOCKET, SO_PEERCRED, &who, &size) && who.pid > 0 &&
            kill(who.pid, 0) && errno == ESRCH;
    if (s >= 0)
        close(s);
    return e;
}

/* Is PATH there, and may it go? */
static int clear_path(const struct vsock *v, const struct sockaddr_un *sa, char *err, size_t len)
{
    const struct timespec pause = {.tv_nsec = GONE_STEP_MS * 1000000};
    struct stat st;
    bool gone;
    int e;

    if (lstat(v->path, &st))
        return 0; /* or bind() will say why not */
    if (!S_ISSOCK(st.st_mode))
        return refuse(err, len, -EEXIST, "'%s' exists and is no socket; give another path",
                      v->path);
    e = try_path(sa, &gone);
    for (unsigned ms = 0; gone && ms < GONE_MS; ms += GONE_STEP_MS) {
        nanosleep(&pause, NULL);
        e = try_path(sa, &gone);
    }
    if (e != ECONNREFUSED)
        return refuse(err, len, -EADDRINUSE,
                      "'%s' is in use: another program listens there; give another path", v->path);
    return unlink(v->path)
               ? refuse(err, len, -errno, "'%s' is stale and cannot be removed", v->path)
               : 0;
}

int vsock_open(struct vsock *v, const char *arg, char *err, size_t len)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct stat st;
    int e = parse(v, arg, err, len);

    v->listen_fd = -1;
    if (e)
        return e;
    snprintf(sa.sun_path, sizeof sa.sun_path, "%s", v->path);
    e = clear_path(v, &sa, err, len);
    if (e)
        return e;
    v->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (v->listen_fd < 0) {
        e = -errno;
        snprintf(err, len, "%s", strerror(-e));
    } else if (bind(v->listen_fd, (struct sockaddr *)&sa, sizeof sa)) {
        e = -errno;
        snprintf(err, len, "'%s': %s", v->path, strerror(-e));
    } else {
        if (!stat(v->path, &st)) {
            v->path_dev = st.st_dev;
            v->path_ino = st.st_ino;
            to_unlink = v;
            atexit(at_exit);
        }
        if (listen(v->listen_fd, BACKLOG)) {
            e = -errno;
            snprintf(err, len, "'%s': %s", v->path, strerror(-e));
            vsock_unlink(v);
        }
    }
    if (e && v->listen_fd >= 0)
        close(v->listen_fd);
    return e;
}
