/*
 * http-echo [PORT]: an HTTP/1.1 server (on 8080) whose answer is the request: its method and URL,
 * its header fields, an empty line, its body. One thread, poll(), any number of requests a
 * connection, pipelined or not; bodies with a length or chunked. http_parser (Debian:
 * libhttp-parser-dev) reads the requests.
 */
#include <errno.h>
#include <http_parser.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS   128
#define ECHO_MOST (1u << 20) /* of one request */
#define OUT_MOST \
    (2u << 20) /* answers that wait for who asked: until they are fewer nothing is read */

struct text {
    char *at;
    size_t len, room;
};

static struct client {
    int fd; /* -1: free */
    bool closing, too_large;
    enum { URL, FIELD, VALUE, BODY } last; /* what the parser found last */
    http_parser parser;
    struct text echo, out;
    size_t sent; /* of out */
} clients[CLIENTS];

static void add(struct text *t, const char *s, size_t n)
{
    if (n > t->room - t->len) {
        t->room = 2 * (t->len + n);
        t->at = realloc(t->at, t->room);
        if (!t->at) {
            fputs("http-echo: out of memory\n", stderr);
            exit(1);
        }
    }
    memcpy(t->at + t->len, s, n);
    t->len += n;
}

static void echo(struct client *c, const char *s, size_t n)
{
    if (n > ECHO_MOST - c->echo.len)
        c->too_large = true;
    else
        add(&c->echo, s, n);
}

static void answer(struct client *c, const char *status, const struct text *body, bool head_only)
{
    char head[200];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n",
                     status, body->len, c->closing ? "Connection: close\r\n" : "");

    add(&c->out, head, (size_t)n);
    if (!head_only)
        add(&c->out, body->at, body->len);
}

/* --- what the parser finds, in pieces --- */

static int on_begin(http_parser *p)
{
    struct client *c = p->data;

    c->echo.len = 0;
    c->too_large = false;
    c->last = BODY;
    return 0;
}

static int on_url(http_parser *p, const char *s, size_t n)
{
    struct client *c = p->data;
    const char *method = http_method_str((enum http_method)p->method);

    if (c->last != URL) {
        echo(c, method, strlen(method));
        echo(c, " ", 1);
    }
    c->last = URL;
    echo(c, s, n);
    return 0;
}

static int on_field(http_parser *p, const char *s, size_t n)
{
    struct client *c = p->data;

    if (c->last == BODY) /* behind a chunked one */
        return 0;
    if (c->last != FIELD)
        echo(c, "\n", 1);
    c->last = FIELD;
    echo(c, s, n);
    return 0;
}

static int on_value(http_parser *p, const char *s, size_t n)
{
    struct client *c = p->data;

    if (c->last == BODY)
        return 0;
    if (c->last != VALUE)
        echo(c, ": ", 2);
    c->last = VALUE;
    echo(c, s, n);
    return 0;
}

static int on_headers(http_parser *p)
{
    struct client *c = p->data;

    c->last = BODY;
    echo(c, "\n\n", 2);
    return 0;
}

static int on_body(http_parser *p, const char *s, size_t n)
{
    echo(p->data, s, n);
    return 0;
}

static int on_end(http_parser *p)
{
    static const struct text sorry = {"a request may have 1 MiB\n", 25, 0};
    struct client *c = p->data;

    c->closing |= !http_should_keep_alive(p) || c->too_large;
    if (c->too_large)
        answer(c, "413 Content Too Large", &sorry, false);
    else
        answer(c, "200 OK", &c->echo, p->method == HTTP_HEAD);
    if (c->closing)
        http_parser_pause(p, 1); /* what follows is not for us */
    return 0;
}

static const http_parser_settings settings = {.on_message_begin = on_begin,
                                              .on_url = on_url,
                                              .on_header_field = on_field,
                                              .on_header_value = on_value,
                                              .on_headers_complete = on_headers,
                                              .on_body = on_body,
                                              .on_message_complete = on_end};

/* --- connections --- */

static void drop(struct client *c)
{
    close(c->fd);
    free(c->echo.at);
    free(c->out.at);
    *c = (struct client){.fd = -1};
}

static void receive(struct client *c)
{
    static const struct text sorry = {"no HTTP request\n", 16, 0};
    static char data[65536];
    ssize_t n = recv(c->fd, data, sizeof data, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop(c);
        return;
    }
    http_parser_execute(&c->parser, &settings, data, (size_t)n);
    if (c->closing)
        return;
    if (HTTP_PARSER_ERRNO(&c->parser) != HPE_OK) {
        c->closing = true;
        answer(c, "400 Bad Request", &sorry, false);
    } else if (c->parser.upgrade) {
        c->closing = true; /* answered as an ordinary request */
    }
}

static void deliver(struct client *c)
{
    ssize_t n = send(c->fd, c->out.at + c->sent, c->out.len - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        drop(c);
        return;
    }
    c->sent += n > 0 ? (size_t)n : 0;
    if (c->sent < c->out.len)
        return;
    c->sent = c->out.len = 0;
    if (c->closing)
        drop(c);
}

static void take(int listener)
{
    int fd = accept(listener, NULL, NULL);

    for (struct client *c = clients; fd >= 0 && c < clients + CLIENTS; c++)
        if (c->fd < 0) {
            c->fd = fd;
            http_parser_init(&c->parser, HTTP_REQUEST);
            c->parser.data = c;
            return;
        }
    if (fd >= 0)
        close(fd); /* too many */
}

static int listen_on(unsigned port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, CLIENTS)) {
        fprintf(stderr, "http-echo: port %u: %s\n", port, strerror(errno));
        exit(1);
    }
    fprintf(stderr, "http-echo: listening on port %u\n", port);
    return fd;
}

int main(int argc, char **argv)
{
    unsigned port = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 8080;

    if (argc > 2 || !port || port > 65535) {
        fprintf(stderr, "usage: http-echo [PORT]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i].fd = -1;
    for (int listener = listen_on(port);;) {
        struct pollfd p[CLIENTS + 1];

        for (unsigned i = 0; i < CLIENTS; i++) {
            const struct client *c = &clients[i];
            bool full = c->closing || c->out.len - c->sent > OUT_MOST;

            p[i] = (struct pollfd){
                .fd = c->fd, .events = (short)((full ? 0 : POLLIN) | (c->out.len ? POLLOUT : 0))};
        }
        p[CLIENTS] = (struct pollfd){.fd = listener, .events = POLLIN};
        if (poll(p, CLIENTS + 1, -1) < 0 && errno != EINTR)
            return 1;
        for (unsigned i = 0; i < CLIENTS; i++) {
            struct client *c = &clients[i];

            if (p[i].revents & (POLLIN | POLLHUP | POLLERR) && p[i].events & POLLIN)
                receive(c);
            if (c->fd >= 0 && c->out.len)
                deliver(c);
            else if (c->fd >= 0 && p[i].revents & (POLLHUP | POLLERR | POLLNVAL))
                drop(c);
        }
        if (p[CLIENTS].revents)
            take(listener);
    }
}
