/* a * b / c with a 128-bit product, for conversions between clocks; saturates. One MUL and one DIV:
 * libgcc's 128-bit division may be compiled with vector instructions. */
#ifndef VCPU_SCALE_H
#define VCPU_SCALE_H

#include <stdint.h>

static inline uint64_t mul_div(uint64_t a, uint64_t b, uint64_t c)
{
    unsigned __int128 p = (unsigned __int128)a * b;
    uint64_t hi = (uint64_t)(p >> 64), lo = (uint64_t)p;

    if (hi >= c)
        return UINT64_MAX;
    __asm__("divq %2" : "+a"(lo), "+d"(hi) : "r"(c) : "cc");
    return lo;
}

#endif
