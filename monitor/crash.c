/* What a crashed guest leaves behind, as text: for status 134. */
#include "monitor/core.h"

#include <string.h>

static const char *const gpr_name[NGPR] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                           "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
static const char *const seg_name[NSEG] = {"es", "cs", "ss", "ds", "fs", "gs"};

static const char *mode_name(const struct cpu *c)
{
    if (!(c->cr0 & CR0_PE))
        return "real mode";
    if (c->rflags & FL_VM)
        return "virtual-8086 mode";
    if (cpu_code64(c))
        return "64-bit mode";
    return c->seg[SEG_CS].attr & SEG_DB ? "32-bit protected mode" : "16-bit protected mode";
}

#define X(v) ((unsigned long long)(v))

static void add_regs(struct text *t, const struct cpu *c)
{
    static const uint8_t order[NGPR] = {RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP,
                                        R8,  R9,  R10, R11, R12, R13, R14, R15};

    for (unsigned i = 0; i < NGPR; i++)
        text_add(t, "%s%-3s %016llx%s", i % 4 ? "  " : "  ", gpr_name[order[i]],
                 X(c->gpr[order[i]]), i % 4 == 3 ? "\n" : "");
    text_add(t, "  rip %016llx  rflags %08llx  cpl %u  %s%s\n", X(c->rip), X(c->rflags), c->cpl,
             mode_name(c), c->halted ? ", halted" : "");
    text_add(t, "  cr0 %08llx  cr2 %016llx  cr3 %016llx  cr4 %08llx  cr8 %llx  efer %llx\n",
             X(c->cr0), X(c->cr2), X(c->cr3), X(c->cr4), X(c->cr8), X(c->efer));
    for (unsigned i = 0; i < NSEG; i++)
        text_add(t, "  %s %04x base %016llx limit %08x attr %05x\n", seg_name[i], c->seg[i].sel,
                 X(c->seg[i].base), c->seg[i].limit, c->seg[i].attr);
    text_add(t, "  tr %04x base %016llx limit %08x  ldtr %04x\n", c->tr.sel, X(c->tr.base),
             c->tr.limit, c->ldtr.sel);
    text_add(t, "  gdt %016llx limit %04x  idt %016llx limit %04x\n", X(c->gdtr.base),
             c->gdtr.limit, X(c->idtr.base), c->idtr.limit);
}

void crash_report(const struct vcpu *v, const char *what, int err)
{
    char buf[4096];
    struct text t = {buf, 0, sizeof buf};
    const struct cpu *c = &v->cpu;

    text_add(&t, "mayfly: guest crashed: %s at %04x:%016llx", what, c->seg[SEG_CS].sel, X(c->rip));
    if (v->vm->nvcpu > 1)
        text_add(&t, " on CPU %u", v->index);
    if (err)
        text_add(&t, " (%s)", strerror(err));
    text_add(&t, "\n");
    add_regs(&t, c);
    if (v->exit.nbytes) {
        unsigned n = v->exit.nbytes;

        text_add(&t, "  code at %016llx:", X(v->exit.rip));
        for (unsigned i = 0; i < n && i < sizeof v->exit.bytes; i++)
            text_add(&t, " %02x", v->exit.bytes[i]);
        text_add(&t, "\n");
    }
    msg_write_all(2, t.buf, t.len);
}
