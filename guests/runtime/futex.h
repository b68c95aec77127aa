/* Waiting on a word of program memory (futex(2)). */
#ifndef GUESTS_RUNTIME_FUTEX_H
#define GUESTS_RUNTIME_FUTEX_H

#include "guests/runtime/runtime.h"

unsigned futex_wake(uint64_t at, unsigned n, uint32_t bits);

#endif
