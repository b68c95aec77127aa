/* Which engine runs the guest: DESIGN's rule, and the sentence that says why. */
#include "monitor/core.h"

#include <string.h>
#include "vcpu/hostcpu.h"
#include "vcpu/kvm/kvm.h"

const struct engine *choose_engine(enum engine_choice choice, char *why, size_t len)
{
    struct text t = {why, 0, len};
    struct probe p;

    text_add(&t, "as asked");
    switch (choice) {
    case ENGINE_KVM:
        return &engine_kvm;
    case ENGINE_BT:
        return &engine_bt;
    case ENGINE_INTERP:
        return &engine_interp;
    case ENGINE_AUTO:
        break;
    }
    t.len = 0;
    if (!host_virtualizes()) {
        text_add(&t, "CPUID has neither VMX nor SVM: KVM, if it is there, interprets kernel code");
        return &engine_bt;
    }
    if (kvm_known_hardware()) {
        text_add(&t, "KVM runs kernel code at hardware speed (found at an earlier launch)");
        return &engine_kvm;
    }
    kvm_probe(&p);
    if (p.kind == KVM_HARDWARE) {
        kvm_note_hardware();
        text_add(&t, "KVM runs kernel code at hardware speed (%s)", p.step);
        return &engine_kvm;
    }
    if (p.kind == KVM_SOFTWARE)
        text_add(&t, "KVM is there, but interprets kernel code (%s)", p.step);
    else
        text_add(&t, "no KVM: %s: %s", p.step, strerror(p.err < 0 ? -p.err : p.err));
    return &engine_bt;
}
