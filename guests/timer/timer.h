/* Parts of the timer guest. */
#ifndef GUESTS_TIMER_TIMER_H
#define GUESTS_TIMER_TIMER_H

#include "guests/bare/bare.h"

/* The local APIC's registers, not as an x2APIC. */
#define LAPIC_EOI           0xfee000b0ul
#define LAPIC_ICR           0xfee00300ul
#define LAPIC_TIMER         0xfee00320ul
#define LAPIC_TIMER_INITIAL 0xfee00380ul

void test_blocks(void);

#endif
