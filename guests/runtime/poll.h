/* What poll.c and epoll.c share. */
#ifndef GUESTS_RUNTIME_POLL_H
#define GUESTS_RUNTIME_POLL_H

#include "guests/runtime/fs.h"

unsigned poll_ready(struct file *f); /* POLLIN ... now */
/* Deadlines: from milliseconds (negative: none), from a timespec of the program's (0: none). */
uint64_t poll_after_ms(uint64_t ms);
int poll_deadline_in(uint64_t timeout, uint64_t *deadline);

/* --- epoll.c --- */
void epoll_forget(struct file *f); /* it is closed for good: nobody watches it any more */

#endif
