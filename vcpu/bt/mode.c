/*
 * What translated code depends on besides its bytes, as a block's key; the modes it is made for:
 * 64-bit code, and 32-bit code with flat segments, in protected and in compatibility mode.
 *
 * A segment register that is loaded, or a mode that changes, invalidates nothing: it leads to other
 * blocks, or to the interpreter. FS and GS may have any base, which is fetched at each access.
 */
#include "vcpu/bt/bt_int.h"

uint16_t bt_key(const struct vcpu *v)
{
    const struct cpu *c = &v->cpu;
    uint16_t key = (uint16_t)mem_tlb_ctx(v, c->cpl == 3 ? ACC_USER : 0);

    if (c->rflags & (FL_DF | FL_IOPL | FL_NT))
        key |= KEY_ODD;
    if (!(c->cr0 & (CR0_EM | CR0_TS)) && (c->cr4 & CR4_OSFXSR)) {
        key |= KEY_FPU;
        if ((c->cr4 & CR4_OSXSAVE) && (c->xcr0 & 6) == 6)
            key |= KEY_AVX;
    }
    if (c->tsc_offset == 0 && (!(c->cr4 & CR4_TSD) || c->cpl == 0))
        key |= KEY_TSC;
    if (c->cr4 & CR4_FSGSBASE)
        key |= KEY_FSGS;
    if (!cpu_code64(c))
        key |= KEY_32;
    return key;
}

/* Type: 8 code, 4 expand-down, 2 writable. */
#define TYPE 0xe
#define DATA 2

/* All of the 4 GiB, with what of attr is asked for? */
static bool whole(const struct seg *s, uint32_t mask, uint32_t attr)
{
    return s->limit == UINT32_MAX &&
           (s->attr & (SEG_NULL | SEG_P | SEG_S | mask)) == (SEG_P | SEG_S | attr);
}

static bool flat(const struct seg *s, uint32_t mask, uint32_t attr)
{
    return s->base == 0 && whole(s, mask, attr);
}

bool bt_flat32(const struct cpu *c)
{
    return (c->cr0 & CR0_PE) && !(c->rflags & FL_VM) &&
           flat(&c->seg[SEG_CS], SEG_L | SEG_DB | 8, SEG_DB | 8) &&
           flat(&c->seg[SEG_SS], SEG_DB | TYPE, SEG_DB | DATA) &&
           flat(&c->seg[SEG_DS], TYPE, DATA) && flat(&c->seg[SEG_ES], TYPE, DATA);
}

void bt_settle32(struct vcpu *v)
{
    for (unsigned r = 0; r < R8; r++)
        v->cpu.gpr[r] = (uint32_t)v->cpu.gpr[r];
    for (unsigned k = 0; k < 2; k++) {
        /* Its base may be anything; not canonical, and so in no TLB, is what this makes of it. */
        v->hot.odd_seg[k] = whole(&v->cpu.seg[SEG_FS + k], TYPE, DATA) ? 0 : (uint64_t)1 << 62;
    }
}

/* States that only the interpreter runs: 16-bit code and segments that are not flat, rings 1 and 2,
 * single steps, the instruction in an interrupt shadow. */
bool bt_wants_interp(const struct vcpu *v)
{
    const struct cpu *c = &v->cpu;

    return (!cpu_code64(c) && !bt_flat32(c)) || c->cpl == 1 || c->cpl == 2 ||
           (c->rflags & (FL_TF | FL_RF)) || c->int_shadow || (c->dr[7] & 0xff) ||
           (v->debug & DEBUG_STEP);
}
