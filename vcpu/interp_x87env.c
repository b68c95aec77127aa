/* FNSTENV FLDENV FNSAVE FRSTOR (SDM 1 8.1.10): the x87 environment in its 14- and 28-byte forms.
 * Instruction and operand pointers are stored as zero. */
#include "vcpu/interp_xstate.h"

static unsigned top(const uint8_t *x)
{
    return xs_get16(x, XS_FSW) >> 11 & 7;
}

/* Two bits per physical register (SDM 1 8.1.7): valid, zero, special, empty. */
static unsigned full_tags(const uint8_t *x)
{
    unsigned tags = 0, exp, tag;
    uint64_t man;

    for (unsigned r = 0; r < 8; r++) {
        const uint8_t *st = x + XS_ST + 16 * ((r - top(x)) & 7);

        man = xs_get64(st, 0);
        exp = xs_get16(st, 8) & 0x7fff;
        if (!(x[XS_FTW] >> r & 1))
            tag = 3;
        else if (!exp && !man)
            tag = 1;
        else
            tag = exp && exp != 0x7fff && man >> 63 ? 0 : 2;
        tags |= tag << (2 * r);
    }
    return tags;
}

static unsigned env_store(const uint8_t *x, uint8_t *buf, unsigned size)
{
    unsigned word[3] = {xs_get16(x, XS_FCW), xs_get16(x, XS_FSW), full_tags(x)};

    for (unsigned i = 0; i < 7; i++) {
        uint32_t val = i < 3 ? 0xffff0000u | word[i] : i == 6 ? 0xffff0000u : 0;

        __builtin_memcpy(buf + i * size, &val, size == 4 ? 4 : 2);
    }
    return 7 * size;
}

/* The image holds registers relative to TOP; a load of the environment moves TOP alone. */
static void turn(uint8_t *x, unsigned by)
{
    uint8_t reg[8][16];

    for (unsigned i = 0; i < 8; i++)
        __builtin_memcpy(reg[i], x + XS_ST + 16 * i, 16);
    for (unsigned i = 0; i < 8; i++)
        __builtin_memcpy(x + XS_ST + 16 * i, reg[(i + by) & 7], 16);
}

static void env_load(uint8_t *x, const uint8_t *buf, unsigned size)
{
    unsigned fcw = xs_get16(buf, 0), fsw = xs_get16(buf, size);
    unsigned tags = xs_get16(buf, 2 * size), ftw = 0;

    for (unsigned r = 0; r < 8; r++)
        if ((tags >> (2 * r) & 3) != 3)
            ftw |= 1u << r;
    turn(x, (fsw >> 11) - top(x));
    xs_put_control(x, fcw, fsw);
    x[XS_FTW] = (uint8_t)ftw;
    x[XS_FTW + 1] = 0;
}

int interp_x87env(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;
    bool all = in->opcode == 0xdd, store = in->modrm >> 3 & 2;
    unsigned size = op_size(in) == 2 ? 2 : 4, len = 7 * size + (all ? 80 : 0), n;
    uint8_t buf[28 + 80], *x;
    gva_t lin;

    if (c->cr0 & (CR0_EM | CR0_TS))
        return cpu_raise(c, VEC_NM);
    x = xstate_open(v);
    /* The loads wait for pending exceptions; the stores are the FN forms. */
    if (!store && (xs_get16(x, XS_FSW) & FSW_ES))
        return cpu_raise(c, VEC_MF);
    if (op_lin(v, in, len, store ? ACC_WRITE : ACC_READ, &lin) != CPU_OK)
        return CPU_FAULT;
    if (!store) {
        if (xs_read_mem(v, lin, buf, len) != CPU_OK)
            return CPU_FAULT;
        env_load(x, buf, size);
        for (unsigned i = 0; all && i < 8; i++)
            copy_bytes(x + XS_ST + 16 * i, buf + 7 * size + 10 * i, 10);
        return op_done(v, in);
    }
    n = env_store(x, buf, size);
    for (unsigned i = 0; all && i < 8; i++)
        copy_bytes(buf + n + 10 * i, x + XS_ST + 16 * i, 10);
    if (xs_probe_mem(v, lin, len) != CPU_OK || xs_write_mem(v, lin, buf, len) != CPU_OK)
        return CPU_FAULT;
    if (all) { /* as FNINIT does: registers keep their bits and become empty */
        turn(x, 0 - top(x));
        xs_put16(x, XS_FCW, 0x37f);
        xs_put16(x, XS_FSW, 0);
        x[XS_FTW] = 0;
    } else { /* all exceptions masked from here on */
        unsigned fcw = xs_get16(x, XS_FCW) | 0x3f, fsw = xs_get16(x, XS_FSW);

        xs_put16(x, XS_FCW, fcw);
        xs_put16(x, XS_FSW, fsw & ~(FSW_ES | FSW_B));
    }
    return op_done(v, in);
}
