/* The state after RESET (SDM 3A table 9-1). */
#include "paging/copy.h"
#include "vcpu/cpu.h"

void cpu_reset(struct cpu *c)
{
    /* The TSC is one clock for the machine: it runs on over a processor's INIT, and what sets a
     * machine up gives all CPUs the same offset. */
    uint64_t tsc_offset = c->tsc_offset, tsc_adjust = c->tsc_adjust;
    uint16_t fcw = 0x37f;
    uint32_t mxcsr = 0x1f80, mxcsr_mask = 0xffff;
    uint64_t xstate_bv = 3;

    zero_bytes(c, sizeof(*c));
    c->tsc_offset = tsc_offset;
    c->tsc_adjust = tsc_adjust;
    c->gpr[RDX] = 0x600; /* family 6 */
    c->rip = 0xfff0;
    c->rflags = FL_R1;
    for (unsigned i = 0; i < NSEG; i++)
        c->seg[i] = (struct seg){.limit = 0xffff, .attr = 0x93};
    c->seg[SEG_CS] = (struct seg){.sel = 0xf000, .base = 0xffff0000, .limit = 0xffff, .attr = 0x9b};
    c->ldtr = (struct seg){.limit = 0xffff, .attr = 0x82};
    c->tr = (struct seg){.limit = 0xffff, .attr = 0x8b};
    c->gdtr.limit = c->idtr.limit = 0xffff;
    c->cr0 = CR0_CD | CR0_NW | CR0_ET;
    c->dr[6] = 0xffff0ff0;
    c->dr[7] = 0x400;
    c->xcr0 = 1;
    c->pat = 0x0007040600070406;

    /* What firmware would have left: MTRRs enabled with everything write-back (Linux gives PAT up
     * where they are disabled), fast strings, no branch trace and no PEBS (SDM 4 table 2-2). */
    c->mtrr_def_type = 0xc06;
    for (unsigned i = 0; i < 11; i++)
        c->mtrr_fixed[i] = 0x0606060606060606;
    c->misc_enable = 0x1801;

    /* x87 as FNINIT leaves it, not as RESET does (FCW 0x40): boot protocols start behind firmware.
     */
    __builtin_memcpy(c->xsave, &fcw, 2);
    __builtin_memcpy(c->xsave + 24, &mxcsr, 4);
    __builtin_memcpy(c->xsave + 28, &mxcsr_mask, 4);
    __builtin_memcpy(c->xsave + 512, &xstate_bv, 8);
}
