/*
 * kv [--format] [--listen PORT] DISK: the store by lines, from stdin and from TCP connections.
 *
 *   put KEY VALUE    ok                  VALUE: the rest of the line; on the disk when "ok" is said
 *   get KEY          value VALUE | none
 *   delete KEY       ok | none
 *   list             key KEY ... ok COUNT
 *
 * What fails answers "error: ...". Ends with stdin, unless it listens.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "guests/kv/store.h"

#define LINE    (VALUE_MAX + KEY_MAX + 16)
#define CLIENTS 32

static struct client {
    int in, out; /* in -1: free */
    size_t len;  /* of the line so far */
    bool skip;   /* the line is too long: up to its end */
    char line[LINE];
} clients[CLIENTS];

static struct store *store;
static char value[VALUE_MAX];

static void say(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* who does not listen is gone at the next read */
        p += n;
        len -= (size_t)n;
    }
}

static void __attribute__((format(printf, 2, 3))) answer(int fd, const char *fmt, ...)
{
    char text[KEY_MAX + 64];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    say(fd, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

static void result(int fd, int err)
{
    if (!err)
        answer(fd, "ok\n");
    else if (err == -ENOENT)
        answer(fd, "none\n");
    else
        answer(fd, "error: %s\n", err == -ENOSPC ? "the store is full" : strerror(-err));
}

static void list_key(const char *key, uint32_t len, void *to)
{
    (void)len;
    answer(*(int *)to, "key %s\n", key);
}

/* line ends with a NUL and has no other. */
static void command(char *line, int out)
{
    char *verb = strsep(&line, " "), *key = strsep(&line, " ");
    int n;

    if (key && (!*key || strlen(key) > KEY_MAX)) {
        answer(out, "error: a key has 1 to %u bytes\n", KEY_MAX);
    } else if (!strcmp(verb, "put") && line) {
        result(out, strlen(line) > VALUE_MAX ? -E2BIG
                                             : store_put(store, key, line, (uint32_t)strlen(line)));
    } else if (!strcmp(verb, "get") && key && !line) {
        n = store_get(store, key, value);
        if (n < 0) {
            result(out, n);
            return;
        }
        say(out, "value ", 6);
        say(out, value, (size_t)n);
        say(out, "\n", 1);
    } else if (!strcmp(verb, "delete") && key && !line) {
        result(out, store_delete(store, key));
    } else if (!strcmp(verb, "list") && !key) {
        store_list(store, list_key, &out);
        answer(out, "ok %zu\n", store_count(store));
    } else if (*verb) {
        answer(out, "error: put KEY VALUE, get KEY, delete KEY, list\n");
    }
}

/* The lines that are whole. */
static void lines(struct client *c, size_t from)
{
    char *start = c->line, *end;

    while ((end = memchr(c->line + from, '\n', c->len - from))) {
        *end = 0;
        if (c->skip || memchr(start, 0, (size_t)(end - start)))
            answer(c->out, "error: a line too long, or with a NUL\n");
        else
            command(start, c->out);
        c->skip = false;
        start = end + 1;
        from = (size_t)(start - c->line);
    }
    c->len -= (size_t)(start - c->line);
    memmove(c->line, start, c->len);
    if (c->len == LINE) {
        c->skip = true;
        c->len = 0;
    }
}

/* false: it is gone. */
static bool serve(struct client *c)
{
    ssize_t n = read(c->in, c->line + c->len, LINE - c->len);
    size_t from = c->len;

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    if (n <= 0) {
        if (c->in)
            close(c->in);
        c->in = -1;
        return false;
    }
    c->len += (size_t)n;
    lines(c, from);
    return true;
}

static int listen_on(const char *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, CLIENTS)) {
        fprintf(stderr, "kv: port %s: %s\n", port, strerror(errno));
        exit(1);
    }
    return fd;
}

static void take(int listener)
{
    int fd = accept(listener, NULL, NULL);

    for (struct client *c = clients; fd >= 0 && c < clients + CLIENTS; c++)
        if (c->in < 0) {
            c->in = c->out = fd;
            c->len = 0;
            c->skip = false;
            return;
        }
    if (fd >= 0)
        close(fd); /* too many */
}

static void loop(int listener)
{
    bool input = true;

    while (input || listener >= 0) {
        struct pollfd p[CLIENTS + 1];

        for (unsigned i = 0; i < CLIENTS; i++)
            p[i] = (struct pollfd){.fd = clients[i].in, .events = POLLIN};
        p[CLIENTS] = (struct pollfd){.fd = listener, .events = POLLIN};
        if (poll(p, CLIENTS + 1, -1) < 0 && errno != EINTR)
            return;
        for (unsigned i = 0; i < CLIENTS; i++)
            if (p[i].revents && !serve(&clients[i]) && !i)
                input = false;
        if (p[CLIENTS].revents)
            take(listener);
    }
}

static int usage(void)
{
    fprintf(stderr, "usage: kv [--format] [--listen PORT] DISK\n");
    return 2;
}

int main(int argc, char **argv)
{
    const char *port = NULL, *disk = NULL;
    bool format = false;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--format"))
            format = true;
        else if (!strcmp(argv[i], "--listen") && i + 1 < argc)
            port = argv[++i];
        else if (argv[i][0] != '-' && !disk)
            disk = argv[i];
        else
            return usage();
    }
    if (!disk)
        return usage();
    int err = store_open(disk, format, &store);

    if (err) {
        fprintf(stderr, "kv: %s: %s\n", disk,
                err == -EINVAL   ? "too small: a store takes 64 KiB or more"
                : err == -EEXIST ? "something else is on it: --format makes it a store"
                                 : strerror(-err));
        return 1;
    }
    fprintf(stderr, "kv: %s: %zu keys\n", disk, store_count(store));
    for (unsigned i = 1; i < CLIENTS; i++)
        clients[i].in = -1;
    clients[0].out = 1;
    loop(port ? listen_on(port) : -1);
    store_close(store);
    return 0;
}
