/*
 * The guest's side of the vsock test (also a client): built with musl, static.
 *
 *   vsock_echo serve PORT          echo until the peer has finished, for ever
 *   vsock_echo send PORT BYTES     connect to the host, send a pattern, read it back, compare
 *   vsock_echo refused PORT        connecting must fail
 */
#include "vsock_peer.h"

#include <pthread.h>

/* <linux/vm_sockets.h>, which musl's compiler does not find. */
struct sockaddr_vm {
    unsigned short family, reserved;
    unsigned int port, cid;
    unsigned char flags, zero[3];
};
#define CID_ANY  0xffffffffu
#define CID_HOST 2u

static int make(unsigned port, unsigned cid, struct sockaddr_vm *sa)
{
    int s = socket(AF_VSOCK, SOCK_STREAM, 0);

    if (s < 0) {
        perror("socket AF_VSOCK");
        exit(1);
    }
    *sa = (struct sockaddr_vm){.family = AF_VSOCK, .port = port, .cid = cid};
    return s;
}

static void *echo(void *s)
{
    peer_echo((int)(intptr_t)s);
    return NULL;
}

static int serve(unsigned port)
{
    struct sockaddr_vm sa;
    int s = make(port, CID_ANY, &sa), c;

    if (bind(s, (struct sockaddr *)&sa, sizeof sa) || listen(s, 1024)) {
        perror("listen");
        return 1;
    }
    while ((c = accept(s, NULL, NULL)) >= 0) {
        pthread_t t;

        if (pthread_create(&t, NULL, echo, (void *)(intptr_t)c))
            close(c);
        else
            pthread_detach(t);
    }
    return 1;
}

static int send_back(unsigned port, uint64_t bytes)
{
    struct sockaddr_vm sa;
    int s = make(port, CID_HOST, &sa);

    if (connect(s, (struct sockaddr *)&sa, sizeof sa)) {
        printf("T: connect %u: %s\n", port, strerror(errno));
        return 1;
    }
    uint64_t got = peer_send_back(s, bytes);

    printf("T: echo %u: %llu of %llu bytes\n", port, (unsigned long long)got,
           (unsigned long long)bytes);
    return got != bytes;
}

static int refused(unsigned port)
{
    struct sockaddr_vm sa;
    int s = make(port, CID_HOST, &sa);

    if (!connect(s, (struct sockaddr *)&sa, sizeof sa)) {
        printf("T: port %u is open\n", port);
        return 1;
    }
    printf("T: refused %u: %s\n", port, strerror(errno));
    return 0;
}

int main(int argc, char **argv)
{
    unsigned port = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;

    if (argc > 2 && !strcmp(argv[1], "serve"))
        return serve(port);
    if (argc > 3 && !strcmp(argv[1], "send"))
        return send_back(port, strtoull(argv[3], NULL, 10));
    if (argc > 2 && !strcmp(argv[1], "refused"))
        return refused(port);
    return 2;
}
