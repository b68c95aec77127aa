/* The vector state in cpu.xsave (standard form), for the instructions that work on it in memory.
 * Offsets: SDM 1 table 13-1, 10.5.1. */
#ifndef VCPU_INTERP_XSTATE_H
#define VCPU_INTERP_XSTATE_H

#include "paging/copy.h"
#include "vcpu/interp_ops.h"

enum {
    XS_FCW = 0,
    XS_FSW = 2,
    XS_FTW = 4, /* abridged: a bit per physical register, set when not empty */
    XS_FIP = 8,
    XS_MXCSR = 24,
    XS_MXCSR_MASK = 28,
    XS_ST = 32,
    XS_XMM = 160,
    XS_LEGACY_END = 416,
    XS_BV = 512,
    XS_COMP_BV = 520,
    XS_AVX = 576,
    XS_END = 832
};

/* Put the state away and fill in what XSAVE left out, so that every byte means what it says. */
uint8_t *xstate_open(struct vcpu *v);

static inline uint16_t xs_get16(const uint8_t *x, unsigned off)
{
    uint16_t w;

    __builtin_memcpy(&w, x + off, 2);
    return w;
}

static inline void xs_put16(uint8_t *x, unsigned off, unsigned val)
{
    uint16_t w = (uint16_t)val;

    __builtin_memcpy(x + off, &w, 2);
}

static inline uint32_t xs_get32(const uint8_t *x, unsigned off)
{
    uint32_t w;

    __builtin_memcpy(&w, x + off, 4);
    return w;
}

static inline uint64_t xs_get64(const uint8_t *x, unsigned off)
{
    uint64_t w;

    __builtin_memcpy(&w, x + off, 8);
    return w;
}

static inline void xs_put64(uint8_t *x, unsigned off, uint64_t val)
{
    __builtin_memcpy(x + off, &val, 8);
}

#define FSW_ES 0x80u
#define FSW_B  0x8000u

/* x87 control and status as the unit takes them: reserved bits have their value, ES and B summarize
 * the unmasked exceptions. */
static inline void xs_put_control(uint8_t *x, unsigned fcw, unsigned fsw)
{
    fcw = (fcw & 0x1f7f) | 0x40;
    fsw = fsw & ~fcw & 0x3f ? fsw | FSW_ES | FSW_B : fsw & ~(FSW_ES | FSW_B);
    xs_put16(x, XS_FCW, fcw);
    xs_put16(x, XS_FSW, fsw);
}

/* Vector register r as 32 bytes. */
static inline void xs_get_ymm(const uint8_t *x, unsigned r, uint8_t out[32])
{
    __builtin_memcpy(out, x + XS_XMM + 16 * (r & 15), 16);
    __builtin_memcpy(out + 16, x + XS_AVX + 16 * (r & 15), 16);
}

static inline void xs_put_ymm(uint8_t *x, unsigned r, const uint8_t in[32])
{
    __builtin_memcpy(x + XS_XMM + 16 * (r & 15), in, 16);
    __builtin_memcpy(x + XS_AVX + 16 * (r & 15), in + 16, 16);
}

/* Guest memory of any length in pieces; seg_linear() has seen the whole. A write is checked in all
 * its pages before it begins. */
int xs_read_mem(struct vcpu *v, gva_t lin, uint8_t *dst, unsigned len);
int xs_write_mem(struct vcpu *v, gva_t lin, const uint8_t *src, unsigned len);
int xs_probe_mem(struct vcpu *v, gva_t lin, unsigned len);

int interp_x87env(struct vcpu *v, const struct insn *in); /* FNSTENV FLDENV FNSAVE FRSTOR */

#endif
