/*
 * What KVM cannot execute, the interpreter does, one instruction at a time: an access to a device
 * with a vector register, and on KVMs that interpret kernel code themselves whatever their emulator
 * lacks (SSE, CMPXCHG16B, POPCNT, XGETBV...). Dear, five to twelve system calls an instruction, but
 * exact, and the guest need not know.
 */
#include "vcpu/kvm/kvm.h"

#include "vcpu/hostexec.h"
#include "vcpu/interp.h"

/* The interpreter runs vector instructions on the host's own unit. Before the thread is confined:
 * it needs memory that can be executed. */
int kvm_emulate_init(void)
{
    return hostexec_init();
}

int kvm_emulate_thread_init(struct vcpu *v)
{
    return hostfault_thread_init(v);
}

bool kvm_emulate_by_registers(const struct vcpu *v)
{
    const unsigned classes = 1u << IC_ALU | 1u << IC_VEC | 1u << IC_X87 | 1u << IC_VECSYS |
                             1u << IC_STRING | 1u << IC_MOFFS;
    struct insn in;

    if (v->vm->debug || !v->exit.nbytes)
        return false;
    return decode(&in, v->exit.bytes, v->exit.nbytes, cpu_code_size(&v->cpu)) == DEC_OK &&
           in.info && classes >> insn_class(&in) & 1;
}

bool kvm_emulate(struct vcpu *v)
{
    /* An event went first and is delivered: where it leads is KVM's to try. */
    if (v->cpu.rip != v->kvm->run->s.regs.regs.rip)
        return true;
    enum step s = interp_step(v);

    fpu_put(v);
    v->exit.rip = v->cpu.rip;
    return s != STEP_EXIT;
}
