/* What must be equal, and how a difference is shown. */
#include <Zydis/Zydis.h>
#include "tests/fuzz.h"
#include "paging/walk.h"

static const char *const who_name[] = {"native", "interp", "bt"};
static const char *const gpr_name[NGPR] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                           "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

void fz_normalize(uint8_t *x)
{
    uint8_t bv = x[512];

    if (!(bv & 1)) {
        memset(x, 0, 24);
        x[0] = 0x7f;
        x[1] = 0x03;
        memset(x + 32, 0, 128);
    }
    if (!(bv & 2))
        memset(x + 160, 0, 256);
    if (!(bv & 4))
        memset(x + 576, 0, 256);
    memset(x + 5, 0, 19); /* FOP, FIP, FDP: the host's addresses, or none */
    memset(x + 28, 0, 4); /* MXCSR_MASK */
    for (unsigned i = 0; i < 8; i++)
        memset(x + 32 + 16 * i + 10, 0, 6);
    /* With all registers empty the unit may count as not in use, and lose what is in them. */
    if (!x[4])
        memset(x + 32, 0, 128);
    memset(x + 416, 0, 160);
}

/* The instruction that RIP stands at, or c->n. */
static unsigned at_insn(const struct fz_case *c, uint64_t rip)
{
    for (unsigned i = 0; i < c->n; i++)
        if (rip == c->code_va + c->off[i])
            return i;
    return c->n;
}

/* Did a stray store change the code, beyond what was meant? */
static bool other_code(const struct fz_case *c, const struct fz_result *x)
{
    unsigned changed = 0;

    for (unsigned i = 0; i < c->len; i++) {
        uint64_t off = c->code_va + i - (c->code_in_data ? FZ_DATA : FZ_CODE);

        if (off < 2 * PAGE_SIZE)
            changed +=
                x->page[(c->code_in_data ? 0 : 2) + off / PAGE_SIZE][off % PAGE_SIZE] != c->code[i];
    }
    return changed > c->patches;
}

static uint64_t flags_differ(const struct fz_case *c, const struct fz_result *a,
                             const struct fz_result *b, bool bt, unsigned debug)
{
    uint64_t mask = FL_ARITH | FL_DF | FL_IF | FL_TF | FL_NT | FL_AC | FL_ID | FL_IOPL;
    unsigned i = at_insn(c, b->st.rip);

    if (b->vector == FZ_END) {
        mask &= ~(uint64_t)c->undef;
    } else {
        mask &= ~(uint64_t)c->undef_at[i];
        if (b->vector != VEC_DB)
            mask |= FL_RF;
        if (bt && !(debug & BT_DBG_NO_LIVENESS))
            mask &= ~(uint64_t)fz_dead_flags(c, i);
        /* In the middle of an instruction, or of another, or astray: what is dead there is not
         * known. */
        if (bt && (i == c->n || other_code(c, b)))
            mask &= ~(uint64_t)FL_ARITH;
    }
    return (a->st.rflags ^ b->st.rflags) & mask;
}

/* The instruction that faulted, or NULL. */
static const struct insn *faulting(const struct fz_case *c, const struct fz_result *a)
{
    unsigned i = at_insn(c, a->st.rip);

    return a->vector >= 0 && i < c->n ? &c->in[i] : NULL;
}

/* Linear address of in's ModRM operand with the registers as they are in st. */
static uint64_t operand(const struct insn *in, const struct fz_state *st)
{
    uint64_t ea = (uint64_t)in->disp;

    if (in->base == BASE_RIP)
        ea += st->rip + in->len;
    else if (in->base != REG_NONE)
        ea += st->gpr[in->base];
    if (in->index != REG_NONE)
        ea += st->gpr[in->index] << in->scale;
    if (in->addrsize < 8)
        ea &= in->addrsize == 4 ? 0xffffffff : 0xffff;
    return fz_wrap(ea + (in->seg == SEG_FS ? st->fs_base : in->seg == SEG_GS ? st->gs_base : 0));
}

/* Is the alignment looked at before canonical form, or after? #GP or #SS. */
static bool misaligned_either(const struct insn *in, const struct fz_result *a,
                              const struct fz_result *b)
{
    return in && (in->info->flags & OF_ALIGN16) && in->seg == SEG_SS &&
           ((a->vector == VEC_GP && b->vector == VEC_SS) ||
            (a->vector == VEC_SS && b->vector == VEC_GP));
}

/* Does an access over the end of the 4 GiB fault by the limit, or wrap (SDM 3A 5.3)? */
static bool wraps_either(const struct fz_result *a, const struct fz_result *b)
{
    return fz_mode != 8 && a->vector == VEC_PF && a->cr2 > UINT32_MAX - 64 &&
           (b->vector == VEC_GP || b->vector == VEC_SS);
}

static bool fault_differs(const struct fz_case *c, const struct fz_result *a,
                          const struct fz_result *b, bool native)
{
    const struct insn *in = faulting(c, a);
    uint32_t error = a->error ^ b->error;

    if (a->vector != b->vector)
        return !misaligned_either(in, a, b) && !(native && wraps_either(a, b));
    if (a->vector == VEC_PF) {
        /* Which byte of many is touched first is not said. */
        if (in && insn_class(in) == IC_VECSYS && native &&
            a->cr2 - b->cr2 + XSAVE_AREA_SIZE <= 2 * XSAVE_AREA_SIZE) {
            if ((a->cr2 ^ b->cr2) >> PAGE_SHIFT)
                return false;
        } else if (a->cr2 != b->cr2) {
            return true;
        }
        /* The kernel's pages: absent natively, or said to be present whatever they are. */
        if (native && (a->cr2 - FZ_SUPER < PAGE_SIZE || a->cr2 >= 0x0000800000000000 - PAGE_SIZE))
            error &= ~(uint32_t)PF_P;
    }
    return a->vector >= 0 && error;
}

/* What an instruction that faults may have stored by then: ENTER and CALL push before they look at
 * all, an 80-bit store is two. *n bytes from the address returned. */
static uint64_t half_done(const struct fz_case *c, const struct fz_result *a, unsigned *n)
{
    const struct insn *in = faulting(c, a);

    *n = 0;
    if (!in)
        return 0;
    if (!in->map && in->opcode == 0xc8)
        *n = 34 * 8;
    else if (!in->map && in->opcode == 0x60)
        *n = 8 * in->opsize;
    else if (!in->map && (in->opcode == 0xe8 || (in->opcode == 0xff && (in->reg & 7) == 2)))
        *n = fz_mode;
    if (*n)
        return a->st.gpr[RSP] - *n;
    if (insn_class(in) == IC_X87 && in->mem_size == 10)
        *n = 10;
    return operand(in, &a->st);
}

static bool masked(const struct fz_case *c, uint64_t va, bool native)
{
    for (unsigned i = 0; i < c->nmask; i++)
        if (va - c->mask[i].va < c->mask[i].len)
            return true;
    /* What stands behind the code of one instruction differs: INT3 here, a jump there. */
    return va - (c->code_va + c->len) < 16 && native && !c->sequence;
}

/* With 32-bit addresses a REP that does nothing, or faults, may have cleared the upper halves of
 * its registers or not. */
static bool gprs_differ(const struct fz_case *c, const struct fz_result *a,
                        const struct fz_result *b, bool native)
{
    const struct insn *in = &c->in[0];
    const uint16_t counters = 1u << RCX | 1u << RSI | 1u << RDI;
    bool vague = native && c->n == 1 && insn_class(in) == IC_STRING && (in->rep || in->repne) &&
                 in->addrsize == 4 && (a->vector >= 0 || !(uint32_t)c->st.gpr[RCX]);

    for (unsigned r = 0; r < NGPR; r++)
        if (vague && (counters >> r & 1) ? (uint32_t)(a->st.gpr[r] ^ b->st.gpr[r]) != 0
                                         : a->st.gpr[r] != b->st.gpr[r])
            return true;
    return false;
}

/* The first byte of memory that differs, or 0. */
static uint64_t memory_differs(const struct fz_case *c, const struct fz_result *a,
                               const struct fz_result *b, bool native)
{
    unsigned n;
    uint64_t half = half_done(c, a, &n);

    for (unsigned p = 0; p < 2; p++) {
        if (!memcmp(a->page[p], b->page[p], PAGE_SIZE))
            continue;
        for (unsigned i = 0; i < PAGE_SIZE; i++) {
            uint64_t va = FZ_DATA + p * PAGE_SIZE + i;

            if (a->page[p][i] != b->page[p][i] && va - half >= n && !masked(c, va, native))
                return va;
        }
    }
    for (unsigned i = 0; i < c->len && !c->code_in_data; i++) {
        uint64_t at = c->code_va + i - FZ_CODE;

        if (at < 0x2000 && a->page[2 + at / PAGE_SIZE][at % PAGE_SIZE] !=
                               b->page[2 + at / PAGE_SIZE][at % PAGE_SIZE])
            return c->code_va + i;
    }
    return 0;
}

/* An MMX instruction that faults on its operand may have made TOP zero and the registers valid by
 * then (SDM 1 9.5.1 says nothing of the order). */
static bool mmx_fault(const struct insn *in)
{
    return in && insn_class(in) == IC_VEC && !in->vex && in->has_mem && in->map &&
           (in->pp == 0 || (in->map == 1 && in->opcode == 0x2a));
}

static bool vectors_differ(const struct fz_case *c, const struct fz_result *a,
                           const struct fz_result *b)
{
    const struct insn *in = faulting(c, a);
    const uint8_t *x = a->st.xsave, *y = b->st.xsave;
    uint32_t m, n, mask = ~(uint32_t)0;

    /* VCVTPS2PH may have noted what the conversion raised before its store faults. */
    if (in && in->vex && in->map == 3 && in->opcode == 0x1d)
        mask = ~(uint32_t)0x3f;
    memcpy(&m, x + 24, 4);
    memcpy(&n, y + 24, 4);
    if (memcmp(x + 160, y + 160, sizeof(a->st.xsave) - 160) || ((m ^ n) & mask))
        return true;
    return !mmx_fault(in) && (memcmp(x, y, 24) || memcmp(x + 32, y + 32, 128));
}

bool fz_same(const struct fz_case *c, const struct fz_result *a, enum fz_who who_a,
             const struct fz_result *b, enum fz_who who_b, unsigned debug)
{
    bool native = who_a == FZ_NATIVE;

    return !fault_differs(c, a, b, native) && a->st.rip == b->st.rip &&
           !gprs_differ(c, a, b, native) && !flags_differ(c, a, b, who_b == FZ_BT, debug) &&
           !vectors_differ(c, a, b) && !memory_differs(c, a, b, native);
}

/* --- print --- */

static void print_insn(const struct fz_case *c, unsigned i)
{
    ZydisMachineMode mode =
        fz_mode == 8 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LONG_COMPAT_32;
    ZydisDisassembledInstruction d;
    uint64_t va = c->code_va + c->off[i];

    printf("    %2u %#lx ", i, va);
    for (unsigned k = c->off[i]; k < c->off[i + 1]; k++)
        printf("%02x", c->code[k]);
    if (ZYAN_SUCCESS(
            ZydisDisassembleIntel(mode, va, c->code + c->off[i], c->off[i + 1] - c->off[i], &d)))
        printf("  %s", d.text);
    printf("\n");
}

void fz_print_case(const struct fz_case *c)
{
    printf("case %c%lu of SEED=%lu (ONLY=%c%lu repeats it)%s\n", c->sequence ? 'q' : 's', c->index,
           c->seed, c->sequence ? 'q' : 's', c->index, c->code_in_data ? ", code among data" : "");
    for (unsigned i = 0; i < c->n; i++)
        print_insn(c, i);
    printf("    rflags %#lx fs %#lx gs %#lx", c->st.rflags, c->st.fs_base, c->st.gs_base);
    for (unsigned r = 0; r < NGPR; r++)
        printf("%s%s %#lx", r % 4 ? " " : "\n    ", gpr_name[r], c->st.gpr[r]);
    printf("\n    fcw %#x fsw %#x ftw %#x mxcsr %#x\n", c->st.xsave[0] | c->st.xsave[1] << 8,
           c->st.xsave[2] | c->st.xsave[3] << 8, c->st.xsave[4],
           c->st.xsave[24] | c->st.xsave[25] << 8);
}

static void print_end(const struct fz_result *x, enum fz_who who)
{
    printf("    %s: ", who_name[who]);
    if (x->vector == FZ_END)
        printf("ended at %#lx", x->st.rip);
    else if (x->vector == FZ_LOST)
        printf("lost at %#lx", x->st.rip);
    else
        printf("vector %d error %#x cr2 %#lx rip %#lx", x->vector, x->error,
               x->vector == VEC_PF ? x->cr2 : 0, x->st.rip);
    printf(" flags %#lx\n", x->st.rflags);
}

static void print_xsave(const uint8_t *a, const uint8_t *b)
{
    for (unsigned i = 0; i < XSAVE_AREA_SIZE; i += 16) {
        if (!memcmp(a + i, b + i, 16))
            continue;
        if (i < 32)
            printf("    x87/mxcsr +%u:", i);
        else if (i < 160)
            printf("    st%u:", (i - 32) / 16);
        else
            printf("    %cmm%u:", i < 416 ? 'x' : 'y', (i - (i < 416 ? 160 : 576)) / 16);
        for (unsigned k = 16; k-- > 0;)
            printf("%s%02x", k == 15 ? " " : "", a[i + k]);
        printf(" /");
        for (unsigned k = 16; k-- > 0;)
            printf("%s%02x", k == 15 ? " " : "", b[i + k]);
        printf("\n");
    }
}

void fz_report(const struct fz_case *c, const struct fz_result *a, enum fz_who who_a,
               const struct fz_result *b, enum fz_who who_b, unsigned debug)
{
    uint64_t va = memory_differs(c, a, b, who_a == FZ_NATIVE);
    uint64_t fl = flags_differ(c, a, b, who_b == FZ_BT, debug);

    printf("%s and %s differ", who_name[who_a], who_name[who_b]);
    if (debug)
        printf(" (bt_debug %#x)", debug);
    printf(": ");
    fz_print_case(c);
    print_end(a, who_a);
    print_end(b, who_b);
    for (unsigned r = 0; r < NGPR; r++)
        if (a->st.gpr[r] != b->st.gpr[r])
            printf("    %s: %#lx / %#lx\n", gpr_name[r], a->st.gpr[r], b->st.gpr[r]);
    if (fl)
        printf("    flags that differ: %#lx\n", fl);
    print_xsave(a->st.xsave, b->st.xsave);
    if (va && va - FZ_DATA < 0x2000) {
        const uint8_t *pa = a->page[va >> 12 & 1] + (va & 0xff0),
                      *pb = b->page[va >> 12 & 1] + (va & 0xff0);

        printf("    memory %#lx:", va & ~15ul);
        for (unsigned k = 0; k < 16; k++)
            printf(" %02x", pa[k]);
        printf(" /");
        for (unsigned k = 0; k < 16; k++)
            printf(" %02x", pb[k]);
        printf("\n");
    } else if (va) {
        printf("    code at %#lx\n", va);
    }
    fflush(stdout);
}
