/* IC_VEC and IC_X87: is the unit enabled, where is the operand, then the host executes it. */
#include "paging/copy.h"
#include "vcpu/hostexec.h"
#include "vcpu/interp_ops.h"

/* Does a legacy vector instruction touch MMX registers alone? They need no CR4.OSFXSR. */
static bool is_mmx(const struct insn *in)
{
    if (in->pp || in->vex)
        return false;
    switch (in->map) {
    case 1:
        if (in->opcode >= 0x60 && in->opcode <= 0x7f)
            return true;
        return in->opcode >= 0xc4 && in->opcode != 0xc6;
    case 2:
        return in->opcode < 0x20;
    default:
        return in->opcode == 0x0f;
    }
}

/* Conditions for x87 (SDM 3A 2.5), SSE (table 13-1), AVX (SDM 1 14.3). */
int interp_vec_enabled(struct vcpu *v, const struct insn *in)
{
    struct cpu *c = &v->cpu;

    if (insn_class(in) == IC_X87) {
        uint64_t stop = in->opcode == 0x9b && in->map == 0
                            ? ((c->cr0 & CR0_MP) ? c->cr0 & CR0_TS : 0)
                            : c->cr0 & (CR0_EM | CR0_TS);

        return stop ? cpu_raise(c, VEC_NM) : CPU_OK;
    }
    if (in->vex) {
        if (!(c->cr4 & CR4_OSXSAVE) || (c->xcr0 & 6) != 6)
            return cpu_raise(c, VEC_UD);
    } else if ((c->cr0 & CR0_EM) || (!is_mmx(in) && !(c->cr4 & CR4_OSFXSR))) {
        return cpu_raise(c, VEC_UD);
    }
    return c->cr0 & CR0_TS ? cpu_raise(c, VEC_NM) : CPU_OK;
}

/* An operand that is not plain RAM in one page goes through a copy with the same low address bits,
 * so that alignment faults stay what they are. */
static int run_bounced(struct vcpu *v, const struct insn *in, gva_t lin)
{
    _Alignas(64) uint8_t buf[128];
    uint8_t *p = buf + (lin & 63);
    unsigned size = in->mem_size;

    zero_bytes(buf, sizeof(buf));
    if (in->mem_write && mem_probe_write(v, lin, size, ACC_WRITE) != CPU_OK)
        return CPU_FAULT;
    /* An x87 store that raises an unmasked exception leaves memory alone: then what is written
     * back must be what was there. */
    if ((in->mem_read || insn_class(in) == IC_X87) && mem_read(v, lin, p, size, ACC_READ) != CPU_OK)
        return CPU_FAULT;
    if (hostexec_run(v, in, p) != CPU_OK)
        return CPU_FAULT;
    if (in->mem_write && mem_write(v, lin, p, size, ACC_WRITE) != CPU_OK)
        return CPU_FAULT;
    return op_done(v, in);
}

bool interp_mf_first(const struct insn *in)
{
    if (insn_class(in) != IC_VEC && insn_class(in) != IC_X87)
        return false;
    if (insn_class(in) == IC_X87) /* all memory forms but FNSTCW and FNSTSW */
        return (in->modrm >> 3 & 7) != 7 || (in->opcode != 0xd9 && in->opcode != 0xdd);
    return is_mmx(in) ||
           (!in->vex && in->map == 1 && in->pp < 2 && (in->opcode == 0x2c || in->opcode == 0x2d));
}

static bool x87_pending(const struct vcpu *v)
{
    uint16_t fsw = 0;

    if (v->fpu_live)
        __asm__ volatile("fnstsw %0" : "=m"(fsw));
    else if (v->cpu.xsave[512] & 1) /* XSTATE_BV */
        __builtin_memcpy(&fsw, v->cpu.xsave + 2, 2);
    return fsw & 0x80;
}

static int execute(struct vcpu *v, const struct insn *in)
{
    unsigned size = in->mem_size, acc = in->mem_write ? ACC_WRITE : ACC_READ;
    bool traced;
    void *host;
    gva_t lin;

    if (!in->has_mem) {
        if (hostexec_run(v, in, NULL) != CPU_OK)
            return CPU_FAULT;
        return op_done(v, in);
    }
    if (!size || size > 64)
        return cpu_raise(&v->cpu, VEC_UD);
    if (op_lin(v, in, size, acc, &lin) != CPU_OK)
        return CPU_FAULT;
    if ((in->info->flags & OF_ALIGN16) && (lin & (in->mem_size - 1u)))
        return cpu_gp0(&v->cpu);
    if (size <= 8 && !(size & (size - 1)) && interp_misaligned(v, lin, size))
        return cpu_raise_error(&v->cpu, VEC_AC, 0);
    if (mem_host(v, lin, size, acc, &host, &traced) != CPU_OK)
        return CPU_FAULT;
    if (!host)
        return run_bounced(v, in, lin);
    if (hostexec_run(v, in, host) != CPU_OK)
        return CPU_FAULT;
    if (traced && in->mem_write)
        interp_traced(v, host, size);
    return op_done(v, in);
}

/* VZEROUPPER and VZEROALL outside 64-bit code, where there are eight registers (SDM 2C). */
static int zero_eight(struct vcpu *v, const struct insn *in)
{
    fpu_put(v);
    zero_bytes(v->cpu.xsave + 576, 8 * 16);
    if (in->vex_l)
        zero_bytes(v->cpu.xsave + 160, 8 * 16);
    return op_done(v, in);
}

int interp_vec(struct vcpu *v, const struct insn *in)
{
    if (insn_class(in) == IC_VECSYS)
        return interp_vecsys(v, in);
    if (interp_vec_enabled(v, in) != CPU_OK)
        return CPU_FAULT;
    if (in->mode != 8 && in->vex && in->map == 1 && in->opcode == 0x77)
        return zero_eight(v, in);
    if (execute(v, in) == CPU_OK)
        return CPU_OK;
    /* #MF of an earlier instruction comes before this one's operand (SDM 1 8.6). */
    if (in->has_mem && interp_mf_first(in) && x87_pending(v))
        return cpu_raise(&v->cpu, VEC_MF);
    return CPU_FAULT;
}
