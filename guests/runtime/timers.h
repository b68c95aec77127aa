/* Timers (timers.c), as the scheduler sees them. */
#ifndef GUESTS_RUNTIME_TIMERS_H
#define GUESTS_RUNTIME_TIMERS_H

#include "guests/runtime/runtime.h"

extern uint64_t timers_next; /* clock_ns() when timers_tick() is wanted; NEVER: no timer is set */
void timers_tick(void);

#endif
