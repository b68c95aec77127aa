/*
 * The other end of a hvt guest's network: hvt_peer FRAMES[,INTERFACE] COMMAND ARG... runs the
 * command, waits until it prints "serving", sends FRAMES frames of all sizes and expects each back
 * with its addresses exchanged. Without an interface the command has a socket for frames as
 * descriptor 3. Prints what the command prints; the status is the command's, or 99 with a line of
 * its own.
 */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 60000

static pid_t pid;

static _Noreturn void fail(const char *what)
{
    printf("FAIL peer: %s\n", what);
    fflush(stdout);
    if (pid > 0)
        kill(pid, SIGKILL);
    _exit(99);
}

/* Copy lines from fd to stdout; until one is "serving", or the end. */
static void copy(int fd, int until_serving)
{
    static char line[256];
    size_t n = 0;
    char c;

    while (read(fd, &c, 1) == 1) {
        putchar(c);
        if (c != '\n') {
            if (n < sizeof line - 1)
                line[n++] = c;
            continue;
        }
        line[n] = 0;
        n = 0;
        if (until_serving && !strcmp(line, "serving"))
            return;
    }
    if (until_serving)
        fail("the guest never served");
}

#define PROTOCOL 0x88b5 /* for experiments (IEEE 802) */

/* A socket on the interface for frames of our protocol. */
static int packet_socket(const char *interface)
{
    struct sockaddr_ll a = {.sll_family = AF_PACKET,
                            .sll_protocol = htons(PROTOCOL),
                            .sll_ifindex = (int)if_nametoindex(interface)};
    int s = socket(AF_PACKET, SOCK_RAW, htons(PROTOCOL));

    if (s < 0 || !a.sll_ifindex || bind(s, (struct sockaddr *)&a, sizeof a))
        fail("no such interface, or not root");
    return s;
}

static void exchange(int s, unsigned i, int on_interface)
{
    static uint8_t out[65535], back[65536];
    static const unsigned sizes[] = {14, 15, 60, 64, 1499, 1500, 1514, 9014, 4096, 65000};
    unsigned len = sizes[i % (on_interface ? 7 : sizeof sizes / sizeof *sizes)];
    struct pollfd p = {.fd = s, .events = POLLIN};

    for (unsigned k = 0; k < len; k++)
        out[k] = (uint8_t)(k * 3 + i + (k >> 8));
    out[0] = out[6] = 2; /* stations' addresses */
    out[12] = PROTOCOL >> 8;
    out[13] = PROTOCOL & 255;
    if (send(s, out, len, 0) != (ssize_t)len)
        fail("cannot send");
    if (poll(&p, 1, PATIENCE_MS) != 1)
        fail("nothing came back");
    if (recv(s, back, sizeof back, 0) != (ssize_t)len)
        fail("another length came back");
    if (memcmp(back, out + 6, 6) || memcmp(back + 6, out, 6) ||
        memcmp(back + 12, out + 12, len - 12))
        fail("another frame came back");
}

int main(int argc, char **argv)
{
    int s[2], out[2], status;

    if (argc < 3 || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s) || pipe(out))
        fail("usage, or no sockets");
    const char *interface = strchr(argv[1], ',');
    pid = fork();
    if (!pid) {
        int theirs = dup(s[1]); /* so that 3 may be anything before */

        dup2(out[1], 1);
        dup2(theirs, 3);
        for (int fd = 4; fd < 20; fd++)
            close(fd);
        execv(argv[2], argv + 2);
        _exit(98);
    }
    close(s[1]);
    close(out[1]);
    copy(out[0], 1);
    if (interface)
        s[0] = packet_socket(interface + 1);
    for (unsigned i = 0; i < (unsigned)atoi(argv[1]); i++)
        exchange(s[0], i, interface != NULL);
    copy(out[0], 0);
    fflush(stdout);
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        fail("it did not exit");
    return WEXITSTATUS(status);
}
