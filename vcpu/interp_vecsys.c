/* FXSAVE FXRSTOR, XSAVE XSAVEOPT XSAVEC XRSTOR (SDM 1 chapters 10.5 and 13), on cpu.xsave. */
#include "vcpu/interp_xstate.h"

static void fninit(uint8_t *x)
{
    zero_bytes(x, XS_MXCSR);
    xs_put16(x, XS_FCW, 0x37f);
}

uint8_t *xstate_open(struct vcpu *v)
{
    uint8_t *x = v->cpu.xsave;
    uint64_t bv;

    fpu_put(v);
    bv = xs_get64(x, XS_BV);
    if (!(bv & 1)) {
        fninit(x);
        zero_bytes(x + XS_ST, XS_XMM - XS_ST);
    }
    if (!(bv & 2))
        zero_bytes(x + XS_XMM, XS_LEGACY_END - XS_XMM);
    if (!(bv & 4))
        zero_bytes(x + XS_AVX, XS_END - XS_AVX);
    /* FOP, FIP, FDP are host addresses if anything. */
    zero_bytes(x + 6, XS_MXCSR - 6);
    xs_put64(x, XS_BV, XCR0_SUPPORTED);
    xs_put64(x, XS_COMP_BV, 0);
    return x;
}

static unsigned piece(unsigned left)
{
    return left < 64 ? left : 64;
}

int xs_read_mem(struct vcpu *v, gva_t lin, uint8_t *dst, unsigned len)
{
    for (unsigned off = 0; off < len; off += 64)
        if (mem_read(v, lin + off, dst + off, piece(len - off), ACC_READ) != CPU_OK)
            return CPU_FAULT;
    return CPU_OK;
}

int xs_probe_mem(struct vcpu *v, gva_t lin, unsigned len)
{
    for (unsigned off = 0; off < len; off += 64)
        if (mem_probe_write(v, lin + off, piece(len - off), ACC_WRITE) != CPU_OK)
            return CPU_FAULT;
    return CPU_OK;
}

int xs_write_mem(struct vcpu *v, gva_t lin, const uint8_t *src, unsigned len)
{
    for (unsigned off = 0; off < len; off += 64)
        if (mem_write(v, lin + off, src + off, piece(len - off), ACC_WRITE) != CPU_OK)
            return CPU_FAULT;
    return CPU_OK;
}

/* XMM registers that exist in this mode end here in the legacy area. */
static unsigned xmm_end(const struct insn *in)
{
    return in->mode == 8 ? XS_LEGACY_END : XS_XMM + 8 * 16;
}

static uint32_t mxcsr_mask(const uint8_t *x)
{
    uint32_t m = xs_get32(x, XS_MXCSR_MASK);

    return m ? m : 0xffff;
}

static int fxsave(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    bool save = (in->modrm >> 3 & 7) == 0, sse = c->cr4 & CR4_OSFXSR;
    unsigned end = sse ? xmm_end(in) : XS_MXCSR;
    uint8_t buf[512], *x;
    uint32_t mask;
    gva_t lin;

    if (c->cr0 & (CR0_EM | CR0_TS))
        return cpu_raise(c, VEC_NM);
    if (op_lin(v, in, 512, save ? ACC_WRITE : ACC_READ, &lin) != CPU_OK)
        return CPU_FAULT;
    if (lin & 15)
        return cpu_gp0(c);
    x = xstate_open(v);
    if (save) {
        copy_bytes(buf, x, sizeof(buf));
        mask = mxcsr_mask(x);
        __builtin_memcpy(buf + XS_MXCSR_MASK, &mask, 4);
        if (xs_probe_mem(v, lin, 512) != CPU_OK)
            return CPU_FAULT;
        if (!sse) {
            if (xs_write_mem(v, lin, buf, XS_MXCSR) != CPU_OK ||
                xs_write_mem(v, lin + XS_ST, buf + XS_ST, XS_XMM - XS_ST) != CPU_OK)
                return CPU_FAULT;
        } else if (xs_write_mem(v, lin, buf, end) != CPU_OK) {
            return CPU_FAULT;
        }
        return op_done(v, in);
    }
    if (xs_read_mem(v, lin, buf, 512) != CPU_OK)
        return CPU_FAULT;
    if (sse && (xs_get32(buf, XS_MXCSR) & ~mxcsr_mask(x)))
        return cpu_gp0(c);
    xs_put_control(x, xs_get16(buf, XS_FCW), xs_get16(buf, XS_FSW));
    xs_put16(x, XS_FTW, buf[XS_FTW]);
    copy_bytes(x + XS_ST, buf + XS_ST, XS_XMM - XS_ST);
    if (sse) {
        copy_bytes(x + XS_MXCSR, buf + XS_MXCSR, 4);
        copy_bytes(x + XS_XMM, buf + XS_XMM, end - XS_XMM);
    }
    return op_done(v, in);
}

/* Checks that XSAVE and XRSTOR share; *rfbm is the requested-feature bitmap. */
static int xs_enter(struct vcpu *v, const struct insn *in, unsigned acc, gva_t *lin, uint64_t *rfbm)
{
    struct cpu *c = &v->cpu;

    if (!(c->cr4 & CR4_OSXSAVE))
        return cpu_raise(c, VEC_UD);
    if (c->cr0 & CR0_TS)
        return cpu_raise(c, VEC_NM);
    *rfbm = ((c->gpr[RDX] << 32) | (uint32_t)c->gpr[RAX]) & c->xcr0 & XCR0_SUPPORTED;
    if (op_lin(v, in, *rfbm & 4 ? XS_END : XS_AVX, acc, lin) != CPU_OK)
        return CPU_FAULT;
    return *lin & 63 ? cpu_gp0(c) : CPU_OK;
}

/* One stretch of the state: probed in the first round, written in the second. */
static int put(struct vcpu *v, gva_t lin, const uint8_t *x, unsigned from, unsigned to, bool probe)
{
    return probe ? xs_probe_mem(v, lin + from, to - from)
                 : xs_write_mem(v, lin + from, x + from, to - from);
}

static int xsave(struct vcpu *v, const struct insn *in, bool compact)
{
    uint64_t rfbm, header[2] = {0, 0};
    uint32_t mask;
    unsigned avx_end = in->mode == 8 ? XS_END : XS_AVX + 8 * 16;
    uint8_t buf[XS_END];
    gva_t lin;

    if (xs_enter(v, in, ACC_WRITE, &lin, &rfbm) != CPU_OK)
        return CPU_FAULT;
    copy_bytes(buf, xstate_open(v), sizeof(buf));
    mask = mxcsr_mask(buf);
    __builtin_memcpy(buf + XS_MXCSR_MASK, &mask, 4);
    /* The header is modified: a fault there is a write's. */
    if (!compact && (mem_probe_write(v, lin + XS_BV, 8, ACC_WRITE) != CPU_OK ||
                     mem_read(v, lin + XS_BV, header, 8, ACC_READ) != CPU_OK))
        return CPU_FAULT;
    /* XINUSE is taken as all of it: never wrong, and the init optimization is only allowed. */
    xs_put64(buf, XS_BV, (header[0] & ~rfbm) | rfbm);
    xs_put64(buf, XS_COMP_BV, (uint64_t)1 << 63 | rfbm);
    for (int probe = 1; probe >= 0; probe--) {
        if ((rfbm & 1) && (put(v, lin, buf, 0, XS_MXCSR, probe) != CPU_OK ||
                           put(v, lin, buf, XS_ST, XS_XMM, probe) != CPU_OK))
            return CPU_FAULT;
        if ((rfbm & (compact ? 2 : 6)) && put(v, lin, buf, XS_MXCSR, XS_ST, probe) != CPU_OK)
            return CPU_FAULT;
        if ((rfbm & 2) && put(v, lin, buf, XS_XMM, xmm_end(in), probe) != CPU_OK)
            return CPU_FAULT;
        if ((rfbm & 4) && put(v, lin, buf, XS_AVX, avx_end, probe) != CPU_OK)
            return CPU_FAULT;
        if (put(v, lin, buf, XS_BV, XS_BV + (compact ? 16 : 8), probe) != CPU_OK)
            return CPU_FAULT;
    }
    return op_done(v, in);
}

/* Header rules (SDM 1 13.8.1, 13.8.2, 13.12). */
static bool header_ok(const struct vcpu *v, const uint8_t *h, bool may_compact, bool must_compact)
{
    const uint64_t top = (uint64_t)1 << 63;
    uint64_t bv = xs_get64(h, 0), comp = xs_get64(h, 8), rest = 0;

    for (unsigned i = 16; i < 64; i += 8)
        if (i < 24 || (comp & top))
            rest |= xs_get64(h, i);
    if (rest)
        return false;
    if (!(comp & top))
        return !must_compact && !comp && !(bv & ~v->cpu.xcr0);
    return may_compact && !(comp & ~top & ~v->cpu.xcr0) && !(bv & ~comp);
}

static int get(struct vcpu *v, gva_t lin, uint8_t *buf, unsigned from, unsigned to, bool wanted)
{
    return wanted ? xs_read_mem(v, lin + from, buf + from, to - from) : CPU_OK;
}

static int xrstor(struct vcpu *v, const struct insn *in, bool must_compact)
{
    struct cpu *c = &v->cpu;
    unsigned avx_end = in->mode == 8 ? XS_END : XS_AVX + 8 * 16;
    bool compact, load_mxcsr;
    uint8_t buf[XS_END], *x;
    uint64_t rfbm, bv;
    uint32_t mxcsr;
    gva_t lin;

    if (xs_enter(v, in, ACC_READ, &lin, &rfbm) != CPU_OK)
        return CPU_FAULT;
    if (xs_read_mem(v, lin + XS_BV, buf + XS_BV, 64) != CPU_OK)
        return CPU_FAULT;
    if (!header_ok(v, buf + XS_BV, cpuid_has(v->vm->cpuid, 0xd, 1, 0, 1), must_compact))
        return cpu_gp0(c);
    bv = xs_get64(buf, XS_BV) & rfbm;
    compact = xs_get64(buf, XS_COMP_BV) >> 63;
    /* Standard form: MXCSR comes with SSE or AVX whatever XSTATE_BV says; compacted: it is part of
     * SSE (SDM 1 13.8.1, 13.8.2). */
    load_mxcsr = compact ? rfbm & 2 : rfbm & 6;
    /* What is not loaded is not touched either. */
    if (get(v, lin, buf, 0, XS_MXCSR, bv & 1) != CPU_OK ||
        get(v, lin, buf, XS_ST, XS_XMM, bv & 1) != CPU_OK ||
        get(v, lin, buf, XS_MXCSR, XS_ST, load_mxcsr) != CPU_OK ||
        get(v, lin, buf, XS_XMM, xmm_end(in), bv & 2) != CPU_OK ||
        get(v, lin, buf, XS_AVX, avx_end, bv & 4) != CPU_OK)
        return CPU_FAULT;
    x = xstate_open(v);
    mxcsr = compact && !(bv & 2) ? 0x1f80 : xs_get32(buf, XS_MXCSR);
    if (load_mxcsr && (mxcsr & ~mxcsr_mask(x)))
        return cpu_gp0(c);
    if (load_mxcsr)
        __builtin_memcpy(x + XS_MXCSR, &mxcsr, 4);
    if (bv & 1) {
        xs_put_control(x, xs_get16(buf, XS_FCW), xs_get16(buf, XS_FSW));
        xs_put16(x, XS_FTW, buf[XS_FTW]);
        copy_bytes(x + XS_ST, buf + XS_ST, XS_XMM - XS_ST);
    } else if (rfbm & 1) {
        fninit(x);
        zero_bytes(x + XS_ST, XS_XMM - XS_ST);
    }
    if (bv & 2)
        copy_bytes(x + XS_XMM, buf + XS_XMM, xmm_end(in) - XS_XMM);
    else if (rfbm & 2)
        zero_bytes(x + XS_XMM, xmm_end(in) - XS_XMM);
    if (bv & 4)
        copy_bytes(x + XS_AVX, buf + XS_AVX, avx_end - XS_AVX);
    else if (rfbm & 4)
        zero_bytes(x + XS_AVX, avx_end - XS_AVX);
    return op_done(v, in);
}

/* XSAVEOPT XSAVEC XSAVES, by their bit of CPUID 0xD.1:EAX. IA32_XSS is zero: XSAVES is XSAVEC. */
static int xsave_variant(struct vcpu *v, const struct insn *in, unsigned bit, bool save)
{
    if (!cpuid_has(v->vm->cpuid, 0xd, 1, 0, bit))
        return cpu_raise(&v->cpu, VEC_UD);
    if (bit == 3 && v->cpu.cpl)
        return cpu_gp0(&v->cpu);
    return save ? xsave(v, in, bit != 0) : xrstor(v, in, true);
}

int interp_vecsys(struct vcpu *v, const struct insn *in)
{
    unsigned op = in->modrm >> 3 & 7;

    if (in->map == 0)
        return interp_x87env(v, in);
    if (in->map == 1 && in->opcode == 0xae && !in->vex) {
        if (op < 2)
            return fxsave(v, in);
        if (op == 4)
            return xsave(v, in, false);
        return op == 5 ? xrstor(v, in, false) : xsave_variant(v, in, 0, true);
    }
    if (in->map == 1 && in->opcode == 0xc7)
        return xsave_variant(v, in, op == 4 ? 1 : 3, op != 3);
    return interp_vecmask(v, in);
}
