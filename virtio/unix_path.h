/*
 * Unix sockets that have a name in the host's file system (--vsock, --gdb unix:PATH): made on the
 * main thread before there are others, removed at the end.
 *
 * A name that exists already is taken over only when it is a socket that nobody listens on any
 * more (connect() says ECONNREFUSED), as a killed monitor leaves it; anything else there is
 * somebody's, and refused.
 */
#ifndef VIRTIO_UNIX_PATH_H
#define VIRTIO_UNIX_PATH_H

#include <stddef.h>

#define UNIX_PATH_MAX 107u /* bytes of a name, without the NUL */

/* A descriptor that listens at path (1 to UNIX_PATH_MAX bytes; with O_NONBLOCK, the caller's), or
 * -errno with one clause in err. The name is removed at exit(), or before by one of these: */
int unix_path_listen(const char *path, int backlog, char *err, size_t len);
/* Remove path, if it is still the socket that was made. Any thread that may unlink() it. */
void unix_path_remove(const char *path);
/* All of them. Async-signal-safe. */
void unix_path_remove_all(void);

#endif
