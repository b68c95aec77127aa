/*
 * The host's side of the vsock test: Unix sockets.
 *
 *   vsock_host serve PATH                echo to everybody who connects to PATH, for ever
 *   vsock_host send PATH PORT BYTES      "CONNECT PORT", the answer, then a pattern there and back
 *   vsock_host many PATH PORT COUNT      COUNT connections open at a time, a word through each
 *   vsock_host line PATH TEXT            send TEXT as the line; says what comes back, or "closed"
 *   vsock_host ask PATH PORT TEXT        "CONNECT PORT", then TEXT as a line; says what comes back
 */
#include "vsock_peer.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/un.h>

static int make(const char *path, struct sockaddr_un *sa)
{
    int s = socket(AF_UNIX, SOCK_STREAM, 0);

    sa->sun_family = AF_UNIX;
    snprintf(sa->sun_path, sizeof sa->sun_path, "%s", path);
    return s;
}

static int dial(const char *path)
{
    struct sockaddr_un sa;
    int s = make(path, &sa);

    if (connect(s, (struct sockaddr *)&sa, sizeof sa)) {
        printf("connect %s: %s\n", path, strerror(errno));
        exit(1);
    }
    return s;
}

static int serve(const char *path)
{
    struct sockaddr_un sa;
    int s = make(path, &sa), c;

    unlink(path);
    if (bind(s, (struct sockaddr *)&sa, sizeof sa) || listen(s, 128))
        return 1;
    signal(SIGCHLD, SIG_IGN);
    while ((c = accept(s, NULL, NULL)) >= 0) {
        if (fork()) {
            close(c);
            continue;
        }
        close(s); /* nobody listens any more once the parent is gone */
        peer_echo(c);
        _exit(0);
    }
    return 1;
}

/* The line and its answer, which is read to its end and no further. */
static bool hello(int s, const char *line, char *answer, size_t cap)
{
    size_t n = 0;

    if (write(s, line, strlen(line)) != (ssize_t)strlen(line))
        return false;
    while (n < cap - 1 && read(s, answer + n, 1) == 1)
        if (answer[n++] == '\n')
            break;
    answer[n] = 0;
    return n && answer[n - 1] == '\n';
}

static int open_port(const char *path, const char *port)
{
    char line[64], answer[64];
    int s = dial(path);

    snprintf(line, sizeof line, "CONNECT %s\n", port);
    if (!hello(s, line, answer, sizeof answer) || strncmp(answer, "OK ", 3)) {
        printf("no OK: '%s'\n", answer);
        exit(1);
    }
    return s;
}

static int send_back(const char *path, const char *port, uint64_t bytes)
{
    uint64_t got = peer_send_back(open_port(path, port), bytes);

    printf("%llu of %llu bytes\n", (unsigned long long)got, (unsigned long long)bytes);
    return got != bytes;
}

static int many(const char *path, const char *port, unsigned count)
{
    int *s = calloc(count, sizeof *s);
    unsigned good = 0;

    for (unsigned i = 0; i < count; i++)
        s[i] = open_port(path, port);
    for (unsigned i = 0; i < count; i++) {
        char word[32], back[32];
        int n = snprintf(word, sizeof word, "word %u", i);
        int at = 0;
        ssize_t r;

        if (write(s[i], word, (size_t)n) != n)
            break;
        shutdown(s[i], SHUT_WR);
        while (at < n && (r = read(s[i], back + at, (size_t)(n - at))) > 0)
            at += (int)r;
        good += at == n && !memcmp(word, back, (size_t)n);
    }
    printf("%u of %u\n", good, count);
    return good != count;
}

int main(int argc, char **argv)
{
    char answer[64] = "";

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 2 && !strcmp(argv[1], "serve"))
        return serve(argv[2]);
    if (argc > 4 && !strcmp(argv[1], "send"))
        return send_back(argv[2], argv[3], strtoull(argv[4], NULL, 10));
    if (argc > 4 && !strcmp(argv[1], "many"))
        return many(argv[2], argv[3], (unsigned)atoi(argv[4]));
    if (argc > 3 && !strcmp(argv[1], "line")) {
        char line[128];

        snprintf(line, sizeof line, "%s\n", argv[3]);
        printf("%s", hello(dial(argv[2]), line, answer, sizeof answer) ? answer : "closed\n");
        return 0;
    }
    if (argc > 4 && !strcmp(argv[1], "ask")) {
        int s = dial(argv[2]);
        char line[32];
        ssize_t n;

        snprintf(line, sizeof line, "CONNECT %s\n", argv[3]);
        if (!hello(s, line, answer, sizeof answer)) {
            printf("closed\n");
            return 1;
        }
        dprintf(s, "%s\n", argv[4]);
        while ((n = read(s, answer, sizeof answer)) > 0)
            fwrite(answer, 1, (size_t)n, stdout);
        return 0;
    }
    return 2;
}
