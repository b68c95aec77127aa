/*
 * Starting passt: the user-mode network at the other end of a socket pair.
 *
 * It goes to the background when it is ready, so that the end of the process we start says how it
 * went, and it ends by itself when our end of the socket closes, however we end (--fd implies
 * that).
 */
#include "virtio/net.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READY_MS      10000
#define SOCKET_BUFFER (2 << 20)
#define BIND_TRIES    6 /* pauses of 20, 40, 80 ... ms between them: 620 ms */

extern char **environ;

/* The words of passt on why it does not start, in one line: its lines but those about itself. */
static void reason(char *text, char *out, size_t len)
{
    static const char *const noise[] = {"Failed to send", "Don't run as root", "Couldn't open log"};
    size_t at = 0;
    char *line;

    *out = 0;
    while ((line = strsep(&text, "\n"))) {
        bool keep = *line != 0;

        for (unsigned i = 0; i < sizeof noise / sizeof noise[0]; i++)
            keep &= strncmp(line, noise[i], strlen(noise[i])) != 0;
        if (keep && at < len)
            at += (size_t)snprintf(out + at, len - at, "%s%s", at ? "; " : "", line);
    }
}

/* What the child says until it and the daemon it leaves have closed stderr. false: it takes too
 * long. */
static bool listen_to(int fd, char *text, size_t cap)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t end = io_now() + READY_MS * 1000000ull, now;
    size_t at = 0;

    while ((now = io_now()) < end && at < cap - 1 &&
           poll(&p, 1, (int)((end - now) / 1000000u) + 1) >= 0) {
        ssize_t n = p.revents ? read(fd, text + at, cap - 1 - at) : 0;

        if (n <= 0 && p.revents)
            break;
        at += n > 0 ? (size_t)n : 0;
    }
    text[at] = 0;
    return now < end;
}

static int spawn(const struct net_options *o, int sock, int errors, pid_t *pid)
{
    const char *argv[10 + 2 * NET_FORWARDS];
    unsigned n = 0;
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t attr;
    sigset_t none, dfl;
    int e;

    argv[n++] = "passt";
    argv[n++] = "--quiet";
    argv[n++] = "--fd";
    argv[n++] = "3";
    if (o->restricted)
        argv[n++] = "--no-map-gw";
    for (unsigned i = 0; i < o->nforward; i++) {
        argv[n++] = o->forward[i].udp ? "-u" : "-t";
        argv[n++] = o->forward[i].spec;
    }
    argv[n] = NULL;
    sigemptyset(&none);
    sigemptyset(&dfl);
    sigaddset(&dfl, SIGPIPE);
    posix_spawn_file_actions_init(&fa);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&fa, 0, 1);
    posix_spawn_file_actions_adddup2(&fa, errors, 2);
    posix_spawn_file_actions_adddup2(&fa, sock, 3);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &dfl);
    /* Ctrl-C at our terminal is ours. */
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                        POSIX_SPAWN_SETPGROUP);
    e = posix_spawnp(pid, "passt", &fa, &attr, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    posix_spawnattr_destroy(&attr);
    return -e;
}

/* passt drops what its end does not take. As root any size, else what net.core.wmem_max allows. */
static void enlarge(const int sock[2])
{
    int size = SOCKET_BUFFER;

    for (unsigned i = 0; i < 2; i++)
        if (setsockopt(sock[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size))
            setsockopt(sock[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

/* A copy of *fd above the descriptors that spawn() uses. */
static int move_up(int *fd)
{
    int up = fcntl(*fd, F_DUPFD_CLOEXEC, 10);

    if (up < 0)
        return errno == EINVAL ? -EMFILE : -errno; /* 10 is past the limit */
    close(*fd);
    *fd = up;
    return 0;
}

/* *taken: a port is not to be had now. */
static int start(const struct net_options *o, int *fd, bool *taken, char *err, size_t len)
{
    int sock[2] = {-1, -1}, errors[2] = {-1, -1}, e = 0, status = 0;
    char text[4096] = "", why[512];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock) || pipe2(errors, O_CLOEXEC))
        e = -errno;
    if (!e)
        enlarge(sock);
    if (!e)
        e = move_up(&sock[1]);
    if (!e)
        e = move_up(&errors[1]);
    if (!e)
        e = spawn(o, sock[1], errors[1], &pid);
    close(sock[1]);
    close(errors[1]);
    if (!e) {
        if (!listen_to(errors[0], text, sizeof text))
            kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        if (!WIFEXITED(status) || WEXITSTATUS(status)) {
            e = -EIO;
            *taken = strstr(text, "Failed to bind");
            reason(text, why, sizeof why);
            snprintf(err, len, "passt does not start: %s", *why ? why : "it says nothing");
        }
    } else if (e == -ENOENT) {
        snprintf(err, len, "passt is not installed; apt-get install passt");
    } else {
        snprintf(err, len, "cannot start passt: %s%s", strerror(-e),
                 e == -EMFILE ? "; allow more of them (ulimit -n)" : "");
    }
    close(errors[0]);
    if (e)
        close(sock[0]);
    else
        *fd = sock[0];
    return e;
}

/* The kernel lets go of the io_uring of a mayfly that was killed some 40 ms after its end, and only
 * then does its passt see that the socket is closed and give the ports back: the next run must not
 * fail of it. */
int net_passt_start(const struct net_options *o, int *fd, char *err, size_t len)
{
    struct timespec pause = {.tv_nsec = 20000000};
    bool taken = false;
    int e = start(o, fd, &taken, err, len);

    for (unsigned i = 1; e && taken && i < BIND_TRIES; i++) {
        nanosleep(&pause, NULL);
        pause.tv_nsec *= 2;
        taken = false;
        e = start(o, fd, &taken, err, len);
    }
    return e;
}
