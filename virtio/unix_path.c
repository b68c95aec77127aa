#include "virtio/unix_path.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* The kernel lets go of a killed monitor's io_uring, which holds the socket, some 40 ms after its
 * end: a listener whose process is no more is waited for. */
#define GONE_MS      2000
#define GONE_STEP_MS 10

static struct ours {
    _Atomic bool there;
    dev_t dev;
    ino_t ino;
    char path[UNIX_PATH_MAX + 1];
} ours[2]; /* vsock's and GDB's */
#define OURS (sizeof ours / sizeof ours[0])

static void remove_one(struct ours *o)
{
    struct stat st;

    if (atomic_exchange(&o->there, false) && !stat(o->path, &st) && st.st_dev == o->dev &&
        st.st_ino == o->ino)
        unlink(o->path);
}

void unix_path_remove(const char *path)
{
    for (unsigned i = 0; i < OURS; i++)
        if (!strcmp(ours[i].path, path))
            remove_one(&ours[i]);
}

void unix_path_remove_all(void)
{
    for (unsigned i = 0; i < OURS; i++)
        remove_one(&ours[i]);
}

static void remember(const char *path)
{
    static bool registered;
    struct stat st;
    unsigned i = 0;

    while (i < OURS && ours[i].there)
        i++;
    if (i == OURS || stat(path, &st))
        return;
    strcpy(ours[i].path, path);
    ours[i].dev = st.st_dev;
    ours[i].ino = st.st_ino;
    atomic_store(&ours[i].there, true);
    if (!registered)
        atexit(unix_path_remove_all);
    registered = true;
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

static int refuse(char *err, size_t len, int e, const char *fmt, const char *path)
{
    snprintf(err, len, fmt, path);
    return e;
}

/* Is PATH there, and may it go? */
static int clear_path(const struct sockaddr_un *sa, char *err, size_t len)
{
    const struct timespec pause = {.tv_nsec = GONE_STEP_MS * 1000000};
    const char *path = sa->sun_path;
    struct stat st;
    bool gone;
    int e;

    if (lstat(path, &st))
        return 0; /* or bind() will say why not */
    if (!S_ISSOCK(st.st_mode))
        return refuse(err, len, -EEXIST, "'%s' exists and is no socket; give another path", path);
    e = try_path(sa, &gone);
    for (unsigned ms = 0; gone && ms < GONE_MS; ms += GONE_STEP_MS) {
        nanosleep(&pause, NULL);
        e = try_path(sa, &gone);
    }
    if (e != ECONNREFUSED)
        return refuse(err, len, -EADDRINUSE,
                      "'%s' is in use: another program listens there; give another path", path);
    return unlink(path) ? refuse(err, len, -errno, "'%s' is stale and cannot be removed", path) : 0;
}

int unix_path_listen(const char *path, int backlog, char *err, size_t len)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    snprintf(sa.sun_path, sizeof sa.sun_path, "%s", path);
    int e = clear_path(&sa, err, len);

    if (e)
        return e;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        e = -errno;
        snprintf(err, len, "%s", strerror(-e));
        return e;
    }
    bool bound = !bind(fd, (struct sockaddr *)&sa, sizeof sa);

    if (bound)
        remember(path);
    if (bound && !listen(fd, backlog))
        return fd;
    e = -errno;
    snprintf(err, len, "'%s': %s%s", path, strerror(-e),
             e == -ENOENT ? "; make its directory first, or give another path" : "");
    if (bound)
        unix_path_remove(path);
    close(fd);
    return e;
}
