/* What path.c and pathcalls.c share. */
#ifndef GUESTS_RUNTIME_PATH_H
#define GUESTS_RUNTIME_PATH_H

#include "guests/runtime/fs.h"

/* openat2(): RESOLVE_* and the directory that is the top, while it walks. */
extern struct path_rule {
    uint64_t flags;
    struct inode *top;
} path_rule;
extern uint32_t umask_now;
int64_t wall_now(void); /* ns, CLOCK_REALTIME */
/* The path from the program, walked. The buffer stays, for path_free(): names point into it. */
int path_take(uint64_t dirfd, uint64_t at, unsigned how, char **buf, struct place *p);
/* A new thing at a place that has none. */
int64_t path_create(struct place *p, uint32_t mode, struct inode **made);

#endif
