/*
 * The debugger's connection and its thread. One client at a time; when it goes the guest runs on,
 * and the next one stops it again.
 */
#include "monitor/gdb.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/futex.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "monitor/core.h"
#include "seccomp/seccomp.h"
#include "virtio/unix_path.h"

#define END_PATIENCE_NS 250000000 /* for the thread to say goodbye */

static struct gdb the_gdb = {.listen_fd = -1, .event_fd = -1, .client = -1};
static bool nowait;

/* --- the socket --- */

static int refuse(const char *arg, const char *why)
{
    msg_error("--gdb %s: %s", arg, why);
    return STATUS_FAILURE;
}

static int failed(const char *arg)
{
    char why[128];

    snprintf(why, sizeof why, "%s%s", strerror(errno),
             errno == EADDRINUSE ? "; give another port, or 0 for a free one" : "");
    return refuse(arg, why);
}

static int listen_tcp(struct gdb *g, const char *arg, unsigned port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    int one = 1;

    g->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (g->listen_fd < 0)
        return failed(arg);
    setsockopt(g->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(g->listen_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* clients inherit it */
    if (bind(g->listen_fd, (struct sockaddr *)&sa, sizeof sa) || listen(g->listen_fd, 1) ||
        getsockname(g->listen_fd, (struct sockaddr *)&sa, &len))
        return failed(arg);
    msg_error("gdb: %s; in GDB: target remote 127.0.0.1:%u",
              nowait ? "the guest does not wait" : "the guest waits", ntohs(sa.sin_port));
    return 0;
}

static int listen_unix(struct gdb *g, const char *arg, const char *path, size_t len)
{
    char why[256];

    if (!len || len >= sizeof g->path)
        return refuse(arg, "the path of a Unix socket has 1 to 107 characters");
    memcpy(g->path, path, len);
    mode_t old = umask(077); /* whoever may connect may do anything to the guest */

    g->listen_fd = unix_path_listen(g->path, 1, why, sizeof why);
    umask(old);
    if (g->listen_fd < 0)
        return refuse(arg, why);
    msg_error("gdb: %s; in GDB: target remote %s",
              nowait ? "the guest does not wait" : "the guest waits", g->path);
    return 0;
}

/* Takes ",nowait" or the like off the end of arg[0..*len). */
static bool take_word(const char *arg, size_t *len, const char *word)
{
    size_t n = strlen(word);

    if (*len < n || strncmp(arg + *len - n, word, n))
        return false;
    *len -= n;
    return true;
}

int gdb_open(struct machine *m, const char *arg)
{
    struct gdb *g = &the_gdb;
    size_t len = strlen(arg), before;
    char *end = NULL;

    do {
        before = len;
        nowait |= take_word(arg, &len, ",nowait");
        g->layout.i386 |= take_word(arg, &len, ",i386");
    } while (len != before);
    g->m = m;
    g->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (g->event_fd < 0)
        return failed(arg);
    m->gdb = g;
    if (!strncmp(arg, "unix:", 5))
        return listen_unix(g, arg, arg + 5, len - 5);
    unsigned long port = *arg >= '0' && *arg <= '9' ? strtoul(arg, &end, 10) : 65536;

    if (port > 65535 || end != arg + len)
        return refuse(
            arg,
            "neither a port (0 to 65535, 0 takes a free one) nor unix:PATH, then ,nowait or ,i386");
    return listen_tcp(g, arg, (unsigned)port);
}

/* --- sending --- */

static void drop_client(struct gdb *g);

static void send_all(struct gdb *g, const char *p, size_t len)
{
    while (len && g->client >= 0) {
        ssize_t n = write(g->client, p, len);

        if (n > 0) {
            p += n;
            len -= (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            drop_client(g);
        }
    }
}

static void send_reply(struct gdb *g)
{
    static char wire[GDB_WIRE_MAX];

    send_all(g, wire, gdb_wire(&g->out, wire));
}

/* --- clients come and go --- */

/* Without a client nothing shall stop the guest; its breakpoints can be forgotten only while all
 * CPUs stand. */
static void drop_client(struct gdb *g)
{
    if (g->client < 0)
        return;
    close(g->client);
    g->client = -1;
    atomic_store(&g->attached, false);
    if (g->state == GDB_STOPPED) {
        gdb_let_go(g);
        g->state = GDB_FREE;
    } else {
        g->state = GDB_LEAVING;
        debugger_pause(g->m);
    }
}

static void take_client(struct gdb *g)
{
    int fd = accept4(g->listen_fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    g->client = fd;
    g->no_ack = g->swbreak = g->hwbreak = g->interrupted = false;
    g->cpu = 0;
    g->cpu_cont = ALL_CPUS;
    g->in.state = GDB_IDLE;
    g->state = GDB_PAUSING;
    atomic_store(&g->attached, true);
    debugger_pause(g->m);
}

/* --- packets --- */

static void take_packet(struct gdb *g)
{
    if (!g->no_ack)
        send_all(g, "+", 1);
    /* While the guest runs only Ctrl-C means something. */
    if (g->state != GDB_STOPPED)
        return;
    if (gdb_command(g))
        send_reply(g);
    if (g->in.data[0] == 'D')
        drop_client(g);
}

static void take_byte(struct gdb *g, uint8_t byte)
{
    switch (gdb_feed(&g->in, byte)) {
    case GDB_PACKET:
        take_packet(g);
        break;
    case GDB_TOO_LONG:
        if (!g->no_ack)
            send_all(g, "+", 1);
        gdb_error(g, GDB_E_NOSPACE);
        send_reply(g);
        break;
    case GDB_DAMAGED:
        if (!g->no_ack)
            send_all(g, "-", 1);
        break;
    case GDB_NAK:
        if (!g->no_ack && g->state == GDB_STOPPED)
            send_reply(g);
        break;
    case GDB_INTERRUPT:
        if (g->state == GDB_RUNNING) {
            g->interrupted = true;
            debugger_pause(g->m);
        }
        break;
    case GDB_NOTHING:
        break;
    }
}

static void take_bytes(struct gdb *g)
{
    uint8_t buf[4096];
    ssize_t n = read(g->client, buf, sizeof buf);

    if (n <= 0) {
        if (n == 0 || errno != EINTR)
            drop_client(g);
        return;
    }
    for (ssize_t i = 0; i < n && g->client >= 0; i++)
        take_byte(g, buf[i]);
}

/* --- the end --- */

static _Noreturn void say_end(struct gdb *g)
{
    if (g->state == GDB_RUNNING) {
        bool signal = g->end_status > STATUS_SIGNAL;

        gdb_begin(&g->out);
        gdb_put(&g->out, "%c%02x", signal ? 'X' : 'W',
                (unsigned)(signal ? g->end_status - STATUS_SIGNAL : g->end_status) & 0xff);
        g->state = GDB_LEAVING;
        send_reply(g);
    }
    if (g->client >= 0)
        close(g->client);
    unix_path_remove(g->path);
    atomic_store(&g->ended, 1);
    syscall(SYS_futex, &g->ended, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    wait_forever();
}

void gdb_end(struct machine *m, int status)
{
    static const struct timespec patience = {.tv_nsec = END_PATIENCE_NS};
    struct gdb *g = m->gdb;

    if (!g || !atomic_load(&g->serving))
        return;
    g->end_status = status;
    atomic_store(&g->ending, true);
    (void)!write(g->event_fd, &(uint64_t){1}, 8);
    if (!atomic_load(&g->ended))
        syscall(SYS_futex, &g->ended, FUTEX_WAIT_PRIVATE, 0, &patience, NULL, 0);
}

bool gdb_sees_crash(struct machine *m, struct vcpu *v)
{
    if (!atomic_load(&m->gdb->attached))
        return false;
    v->debug_stop = (struct debug_stop){.why = DEBUG_CRASHED};
    debugger_pause(m);
    return debugger_gate(m, v);
}

/* --- the thread --- */

/* What waits until all CPUs stand. */
static void settle(struct gdb *g)
{
    if (!debugger_paused(g->m))
        return;
    if (g->state == GDB_LEAVING) {
        gdb_let_go(g);
        g->state = GDB_FREE;
    } else if (g->state == GDB_PAUSING) {
        g->state = GDB_STOPPED;
    } else if (g->state == GDB_RUNNING) {
        gdb_stop_reply(g);
        send_reply(g);
    }
}

static void *serve(void *arg)
{
    struct gdb *g = arg;
    int err = g->m->cfg->seccomp ? seccomp_install(SECCOMP_GDB) : 0;

    if (err) {
        msg_error("gdb: seccomp: %s; --seccomp off runs without the filter", strerror(-err));
        machine_stop(g->m, STATUS_FAILURE, "gdb");
        return NULL;
    }
    for (;;) {
        settle(g);
        bool idle = g->state == GDB_WAITING || g->state == GDB_FREE;
        /* A client that came before all CPUs stand is not read, but its end is seen. */
        struct pollfd p[] = {{.fd = g->event_fd, .events = POLLIN},
                             {.fd = idle ? g->listen_fd : -1, .events = POLLIN},
                             {.fd = g->client, .events = g->state == GDB_PAUSING ? 0 : POLLIN}};

        if (poll(p, 3, -1) < 0)
            continue;
        if (p[0].revents)
            (void)!read(g->event_fd, &(uint64_t){0}, 8);
        if (atomic_load(&g->ending))
            say_end(g);
        if (p[1].revents)
            take_client(g);
        else if (p[2].revents)
            take_bytes(g);
    }
    return NULL;
}

int gdb_start(struct machine *m)
{
    struct gdb *g = m->gdb;
    pthread_t t;

    g->layout.avx = cpuid_has(&m->cpuid, 1, 0, 2, 28);
    g->state = nowait ? GDB_FREE : GDB_WAITING;
    debugger_init(m, g->event_fd, !nowait);
    int err = -pthread_create(&t, NULL, serve, g);

    atomic_store(&g->serving, !err);
    return err;
}
