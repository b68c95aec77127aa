/* Pipes, as splice.c and path.c see them. */
#ifndef GUESTS_RUNTIME_PIPE_H
#define GUESTS_RUNTIME_PIPE_H

#include "guests/runtime/fs.h"
#include "guests/runtime/ring.h"

extern const struct file_ops pipe_ops;
/* Opening the inode of a named pipe: may wait. What it returns is the call's result; f is dropped
 * by the caller. */
int64_t fifo_open(struct file *f);
/* NULL: it is no pipe. */
struct ring *pipe_ring(const struct file *f);
int64_t pipe_capacity(const struct file *f, uint64_t set); /* fcntl; 0: only asked for */
void pipe_changed(const struct file *f);
/* Wait for bytes; for room: 1, 0 at the end, or an error; now: do not wait. */
int64_t pipe_wait_bytes(struct file *f, bool now);
int64_t pipe_wait_room(struct file *f, uint64_t room, bool now);

#endif
