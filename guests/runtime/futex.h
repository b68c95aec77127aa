/* Waiting on a word of program memory (futex(2)). */
#ifndef GUESTS_RUNTIME_FUTEX_H
#define GUESTS_RUNTIME_FUTEX_H

#include "guests/runtime/process.h"

unsigned futex_wake(uint64_t at, unsigned n, uint32_t bits);
/* The locks on its robust list have no owner any more. */
void futex_thread_ends(const struct thread *t);

#endif
