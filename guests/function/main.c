/*
 * function                  stdin is a request; its answer; status 0, or 1 where that is an error
 * function --loop           a request a line, an answer a line, to the end of stdin
 * function --vsock PORT [N] a request a connection, to where it ends or its line does; N of them
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vm_sockets.h> /* after sys/socket.h */
#include "guests/function/function.h"

#define REQUEST_MOST (1u << 20)

static bool respond(const char *request, size_t len, int fd)
{
    char *answer;
    bool good = handle(request, len, &answer);

    dprintf(fd, "%s\n", answer ? answer : "{\"error\":\"out of memory\"}");
    free(answer);
    return good;
}

/* All there is, or a line. */
static ssize_t receive(int fd, char *request, bool line)
{
    size_t len = 0;

    while (len < REQUEST_MOST) {
        ssize_t n = read(fd, request + len, REQUEST_MOST - len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        len += (size_t)n;
        if (!n || (line && memchr(request + len - n, '\n', (size_t)n)))
            break;
    }
    return (ssize_t)len;
}

static int serve(const char *port, const char *count)
{
    static char request[REQUEST_MOST];
    struct sockaddr_vm at = {.svm_family = AF_VSOCK,
                             .svm_port = (unsigned)strtoul(port, NULL, 10),
                             .svm_cid = VMADDR_CID_ANY};
    long left = count ? atol(count) : -1;
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 16)) {
        fprintf(stderr, "function: vsock port %s: %s\n", port, strerror(errno));
        return 2;
    }
    while (left--) {
        int c = accept(fd, NULL, NULL);
        ssize_t n = c < 0 ? -1 : receive(c, request, true);

        if (n >= 0)
            respond(request, (size_t)n, c);
        if (c >= 0)
            close(c);
        else if (errno != EINTR && errno != ECONNABORTED)
            return 2;
    }
    return 0;
}

static int loop(void)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;

    while ((n = getline(&line, &room, stdin)) > 0)
        respond(line, (size_t)n, 1);
    free(line);
    return 0;
}

static int once(void)
{
    static char request[REQUEST_MOST];
    ssize_t n = receive(0, request, false);

    if (n < 0) {
        perror("function: stdin");
        return 2;
    }
    return respond(request, (size_t)n, 1) ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 1)
        return once();
    if (argc == 2 && !strcmp(argv[1], "--loop"))
        return loop();
    if ((argc == 3 || argc == 4) && !strcmp(argv[1], "--vsock"))
        return serve(argv[2], argc == 4 ? argv[3] : NULL);
    fprintf(stderr, "usage: function [--loop | --vsock PORT [N]]\n");
    return 2;
}
