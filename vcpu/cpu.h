/*
 * struct cpu: the architectural state of one virtual CPU, engine-neutral.
 *
 * It is the truth whenever an engine has returned from run(); any engine resumes what any other
 * left, so nothing here may be engine-specific. While an engine runs it may keep parts elsewhere
 * (the translator keeps GPRs, arithmetic flags and vector state in the host's registers).
 */
#ifndef VCPU_CPU_H
#define VCPU_CPU_H

#include "paging/types.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, NGPR };
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, NSEG };

/* RFLAGS */
#define FL_CF      0x1u
#define FL_R1      0x2u
#define FL_PF      0x4u
#define FL_AF      0x10u
#define FL_ZF      0x40u
#define FL_SF      0x80u
#define FL_TF      0x100u
#define FL_IF      0x200u
#define FL_DF      0x400u
#define FL_OF      0x800u
#define FL_IOPL    0x3000u
#define FL_NT      0x4000u
#define FL_RF      0x10000u
#define FL_VM      0x20000u
#define FL_AC      0x40000u
#define FL_VIF     0x80000u
#define FL_VIP     0x100000u
#define FL_ID      0x200000u
#define FL_ARITH   (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)
#define FL_DEFINED 0x3f7fd7u

/* CR0 */
#define CR0_PE 0x1u
#define CR0_MP 0x2u
#define CR0_EM 0x4u
#define CR0_TS 0x8u
#define CR0_ET 0x10u
#define CR0_NE 0x20u
#define CR0_WP 0x10000u
#define CR0_AM 0x40000u
#define CR0_NW 0x20000000u
#define CR0_CD 0x40000000u
#define CR0_PG 0x80000000u

/* CR4 */
#define CR4_VME        0x1u
#define CR4_PVI        0x2u
#define CR4_TSD        0x4u
#define CR4_DE         0x8u
#define CR4_PSE        0x10u
#define CR4_PAE        0x20u
#define CR4_MCE        0x40u
#define CR4_PGE        0x80u
#define CR4_PCE        0x100u
#define CR4_OSFXSR     0x200u
#define CR4_OSXMMEXCPT 0x400u
#define CR4_UMIP       0x800u
#define CR4_LA57       0x1000u
#define CR4_FSGSBASE   0x10000u
#define CR4_PCIDE      0x20000u
#define CR4_OSXSAVE    0x40000u
#define CR4_SMEP       0x100000u
#define CR4_SMAP       0x200000u
#define CR4_PKE        0x400000u

/* EFER */
#define EFER_SCE 0x1u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u
#define EFER_NXE 0x800u

/* Exception vectors */
enum {
    VEC_DE,
    VEC_DB,
    VEC_NMI,
    VEC_BP,
    VEC_OF,
    VEC_BR,
    VEC_UD,
    VEC_NM,
    VEC_DF,
    VEC_MP,
    VEC_TS,
    VEC_NP,
    VEC_SS,
    VEC_GP,
    VEC_PF,
    VEC_MF = 16,
    VEC_AC,
    VEC_MC,
    VEC_XM,
    /* No exceptions of the guest's: an access that guest memory does not permit (ram_protect()).
     * "Delivery" leaves run() with EXIT_ERROR. */
    VEC_NO_WRITE = 64,
    VEC_NO_EXEC
};

/* A segment register with its hidden part. attr is the descriptor's access byte and flags nibble
 * as the VMCS and Linux KVM split them: type:4 s:1 dpl:2 p:1 (bits 0-7), avl l d/b g (bits 12-15);
 * bit 16 set means unusable (null). limit is in bytes, already scaled. */
struct seg {
    uint64_t base;
    uint32_t limit;
    uint32_t attr;
    uint16_t sel;
};
#define SEG_TYPE(a) ((a)&0xfu)
#define SEG_S       0x10u
#define SEG_DPL(a)  (((a) >> 5) & 3u)
#define SEG_P       0x80u
#define SEG_AVL     0x1000u
#define SEG_L       0x2000u
#define SEG_DB      0x4000u
#define SEG_G       0x8000u
#define SEG_NULL    0x10000u

struct dtr {
    uint64_t base;
    uint16_t limit;
};

/* An exception raised by the instruction being executed, not delivered yet. */
struct exception {
    uint8_t vector;
    bool has_error;
    bool is_soft; /* INT n, INT3, INTO: RIP pushed is that of the next instruction, DPL checked */
    uint32_t error;
    uint64_t cr2; /* #PF only */
};

#define XSAVE_AREA_SIZE 832 /* legacy 512 + header 64 + AVX 256: components 0-2 */
#define XCR0_SUPPORTED  0x7u

/* cpu.int_shadow. MOV SS and POP SS hold debug exceptions off as well (SDM 3A 6.8.3). */
enum { SHADOW_STI = 1, SHADOW_SS = 2 };

struct cpu {
    uint64_t gpr[NGPR];
    uint64_t rip;
    uint64_t rflags; /* whole, bit 1 always set */

    struct seg seg[NSEG];
    struct seg ldtr, tr;
    struct dtr gdtr, idtr;

    uint64_t cr0, cr2, cr3, cr4, cr8, efer;
    uint64_t pdpte[4]; /* PAE paging: as loaded by the last MOV CR3 (or CR0/CR4 write) */
    uint64_t xcr0;
    uint64_t dr[8]; /* 4, 5 unused */

    /* MSRs with state of their own */
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, misc_enable, mtrr_def_type;
    uint64_t mtrr_fixed[11], mtrr_phys[16]; /* base, mask pairs */
    uint64_t tsc_offset;                    /* guest TSC = host TSC + tsc_offset */
    uint64_t tsc_adjust;
    uint64_t spec_ctrl, mcg_status;
    uint64_t kvm_system_time, kvm_wall_clock; /* 0x4b564d01/00: pvclock */

    uint8_t cpl;
    uint8_t int_shadow;   /* interrupts blocked until after the next instruction: SHADOW_* */
    bool nmi_blocked;     /* until IRET */
    uint8_t nmi_pending;  /* NMIs: at most 2, 1 while they are blocked */
    bool halted;          /* HLT executed, waiting for an event */
    bool wait_for_sipi;   /* application processor before INIT/SIPI */
    struct exception exc; /* valid between a helper returning CPU_FAULT and its delivery */

    /* x87, SSE, AVX in the standard (not compacted) XSAVE form. XSTATE_BV may be set to 7. */
    _Alignas(64) uint8_t xsave[XSAVE_AREA_SIZE];
};

/* Helpers of the vcpu room return CPU_OK, or CPU_FAULT with cpu->exc filled in. Rule: every check
 * comes before every change of state, so a faulting instruction leaves the state as it found it. */
enum { CPU_OK = 0, CPU_FAULT = -1 };

static inline bool cpu_long_mode(const struct cpu *c)
{
    return c->efer & EFER_LMA;
}

static inline bool cpu_code64(const struct cpu *c)
{
    return (c->efer & EFER_LMA) && (c->seg[SEG_CS].attr & SEG_L);
}

/* Default operand size of the current code segment: 2, 4 (32-bit and 64-bit code). */
static inline unsigned cpu_code_size(const struct cpu *c)
{
    if (cpu_code64(c))
        return 8;
    return c->seg[SEG_CS].attr & SEG_DB ? 4 : 2;
}

static inline bool cpu_real_mode(const struct cpu *c)
{
    return !(c->cr0 & CR0_PE);
}

static inline bool cpu_v86(const struct cpu *c)
{
    return (c->cr0 & CR0_PE) && (c->rflags & FL_VM);
}

static inline bool canonical(uint64_t va)
{
    return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

/* Fill cpu->exc; the return value is CPU_FAULT, so `return cpu_raise(...)`. */
static inline int cpu_raise(struct cpu *c, uint8_t vector)
{
    c->exc = (struct exception){.vector = vector};
    return CPU_FAULT;
}

static inline int cpu_raise_error(struct cpu *c, uint8_t vector, uint32_t error)
{
    c->exc = (struct exception){.vector = vector, .has_error = true, .error = error};
    return CPU_FAULT;
}

#define cpu_gp0(c) cpu_raise_error((c), VEC_GP, 0)

/* State after RESET (SDM 3A table 9-1), as a boot protocol starts from; apic_id is not part of it.
 */
void cpu_reset(struct cpu *c);

#endif
