/*
 * Integer arithmetic with x86's flags, in plain C: the interpreter's independent statement of what
 * the host's ALU does. Operands and results are masked to the operand size (bytes). Flags that the
 * manual leaves undefined follow what Intel cores since Haswell do, where one formula says it.
 */
#ifndef VCPU_ALU_H
#define VCPU_ALU_H

#include "vcpu/cpu.h"

static inline uint64_t alu_mask(unsigned size)
{
    return ~(uint64_t)0 >> (64 - 8 * size);
}

static inline unsigned alu_msb(uint64_t val, unsigned size)
{
    return (unsigned)(val >> (8 * size - 1)) & 1;
}

static inline uint64_t alu_sext(uint64_t val, unsigned size)
{
    unsigned up = 64 - 8 * size;

    return (uint64_t)((int64_t)(val << up) >> up);
}

/* SF, ZF, PF of a masked result. */
static inline uint32_t alu_szp(uint64_t r, unsigned size)
{
    return alu_msb(r, size) << 7 | (uint32_t)(r == 0) << 6 |
           (uint32_t)!__builtin_parity((unsigned)r & 0xff) << 2;
}

static inline void alu_set(uint64_t *fl, uint32_t mask, uint32_t val)
{
    *fl = (*fl & ~(uint64_t)mask) | val;
}

static inline uint64_t alu_adc(uint64_t a, uint64_t b, unsigned carry, unsigned size, uint64_t *fl)
{
    uint64_t r = (a + b + carry) & alu_mask(size);

    alu_set(fl, FL_ARITH,
            alu_szp(r, size) | alu_msb((a & b) | ((a | b) & ~r), size) |
                (uint32_t)((a ^ b ^ r) & FL_AF) | alu_msb((a ^ r) & (b ^ r), size) << 11);
    return r;
}

static inline uint64_t alu_sbb(uint64_t a, uint64_t b, unsigned borrow, unsigned size, uint64_t *fl)
{
    uint64_t r = (a - b - borrow) & alu_mask(size);

    alu_set(fl, FL_ARITH,
            alu_szp(r, size) | alu_msb((~a & b) | ((~a | b) & r), size) |
                (uint32_t)((a ^ b ^ r) & FL_AF) | alu_msb((a ^ b) & (a ^ r), size) << 11);
    return r;
}

/* AND, OR, XOR, TEST: AF is undefined, 0 on Intel. */
static inline uint64_t alu_logic(uint64_t r, unsigned size, uint64_t *fl)
{
    alu_set(fl, FL_ARITH, alu_szp(r, size));
    return r;
}

static inline uint64_t alu_inc(uint64_t a, unsigned size, uint64_t *fl)
{
    uint64_t cf = *fl & FL_CF, r = alu_adc(a, 1, 0, size, fl);

    alu_set(fl, FL_CF, (uint32_t)cf);
    return r;
}

static inline uint64_t alu_dec(uint64_t a, unsigned size, uint64_t *fl)
{
    uint64_t cf = *fl & FL_CF, r = alu_sbb(a, 1, 0, size, fl);

    alu_set(fl, FL_CF, (uint32_t)cf);
    return r;
}

/* The eight of opcodes 00-3f and group 1, by number; 7 (CMP) returns a. */
static inline uint64_t alu_group1(unsigned op, uint64_t a, uint64_t b, unsigned size, uint64_t *fl)
{
    switch (op) {
    case 0:
        return alu_adc(a, b, 0, size, fl);
    case 1:
        return alu_logic(a | b, size, fl);
    case 2:
        return alu_adc(a, b, *fl & FL_CF, size, fl);
    case 3:
        return alu_sbb(a, b, *fl & FL_CF, size, fl);
    case 4:
        return alu_logic(a & b, size, fl);
    case 5:
        return alu_sbb(a, b, 0, size, fl);
    case 6:
        return alu_logic(a ^ b, size, fl);
    default:
        alu_sbb(a, b, 0, size, fl);
        return a;
    }
}

/* Condition code (low nibble of Jcc, SETcc, CMOVcc) against RFLAGS. */
static inline bool alu_cond(unsigned cc, uint64_t fl)
{
    bool r, less = !(fl & FL_SF) != !(fl & FL_OF);

    switch ((cc >> 1) & 7) {
    case 0:
        r = fl & FL_OF;
        break;
    case 1:
        r = fl & FL_CF;
        break;
    case 2:
        r = fl & FL_ZF;
        break;
    case 3:
        r = fl & (FL_CF | FL_ZF);
        break;
    case 4:
        r = fl & FL_SF;
        break;
    case 5:
        r = fl & FL_PF;
        break;
    case 6:
        r = less;
        break;
    default:
        r = less || (fl & FL_ZF);
        break;
    }
    return r != (cc & 1);
}

/* Shift group (group 2) by its ModRM.reg number; count as the instruction gives it. */
uint64_t alu_shift(unsigned op, uint64_t a, unsigned count, unsigned size, uint64_t *fl);
/* SHLD (left) and SHRD. */
uint64_t alu_shift_double(bool left, uint64_t a, uint64_t b, unsigned count, unsigned size,
                          uint64_t *fl);

#endif
