/* vmfix.h's machine with handlers for every exception, a page that is absent and one that is
 * read-only: for tests that step the interpreter. */
#ifndef TESTS_INTERP_FIX_H
#define TESTS_INTERP_FIX_H

#include "tests/vmfix.h"
#include "vcpu/hostexec.h"
#include "vcpu/interp.h"

enum {
    IFX_HANDLERS = 0x18000, /* 16 bytes a vector; real mode: 0xa000 */
    IFX_PT = 0x8000,        /* 4 KiB pages of 2-4 MiB */
    IFX_NP = 0x300000,      /* not present; the pages around it are */
    IFX_RO = 0x302000,
    IFX_MMIO = 0x500000 /* past the end of RAM */
};

static struct vmfix ifx;

static inline void ifx_create(enum vmfix_mode mode)
{
    vmf_create(&ifx, mode);
    if (hostexec_init() || hostfault_thread_init(ifx.v))
        abort();
    for (unsigned i = 0; i < 32; i++) {
        if (mode >= VMFIX_COMPAT)
            vmf_gate64(&ifx, i, i == VEC_BP || i == VEC_OF ? 0xee : 0x8e, VMS_CODE64,
                       IFX_HANDLERS + i * 16, 1);
        else if (mode == VMFIX_REAL)
            vmf_poke32(&ifx, i * 4, 0xa000 + i * 16);
        else
            vmf_gate32(&ifx, i, 0x8e, VMS_CODE32, IFX_HANDLERS + i * 16);
    }
    if (mode < VMFIX_COMPAT)
        return;
    for (uint64_t i = 0; i < 512; i++)
        vmf_poke64(&ifx, IFX_PT + i * 8, (0x200000 + i * 4096) | 7);
    vmf_poke64(&ifx, IFX_PT + 0x100 * 8, 0);
    vmf_poke64(&ifx, IFX_PT + 0x102 * 8, IFX_RO | 5);
    vmf_poke64(&ifx, VMF_PML4 + 0x2000 + 8, IFX_PT | 7);
}

static inline void ifx_destroy(void)
{
    vmf_destroy(&ifx);
}

static inline gpa_t ifx_at(void)
{
    struct cpu *c = &ifx.v->cpu;

    return cpu_code64(c) ? c->rip : c->seg[SEG_CS].base + c->rip;
}

/* Hex bytes at RIP; their number. */
static inline unsigned ifx_code(const char *hex)
{
    unsigned n = 0, b;

    for (; hex[0] && sscanf(hex, "%2x", &b) == 1; hex += 2) {
        uint8_t byte = (uint8_t)b;

        vmf_poke(&ifx, ifx_at() + n++, &byte, 1);
    }
    return n;
}

/* The exception whose handler the CPU stands at, or -1. */
static inline int ifx_vector(void)
{
    uint64_t off = ifx.v->cpu.rip - (cpu_real_mode(&ifx.v->cpu) ? 0xa000 : IFX_HANDLERS);

    return off < 512 && !(off & 15) ? (int)(off / 16) : -1;
}

/* Long mode: RIP CS RFLAGS RSP SS (0-4) of the frame on IST 1; -1: the error code. */
static inline uint64_t ifx_saved(int i)
{
    return vmf_peek(&ifx, VMF_IST1 - 40 + i * 8, 8);
}

#endif
