/*
 * gpr_write of the instructions that fuzz_cpu cannot run at CPL 3: system instructions, held
 * against what the interpreter changes. The translator keeps a check of an access for later ones
 * (tr_plan.c) as long as nothing says that its registers were written.
 */
#include <criterion/criterion.h>
#include "tests/interp_fix.h"

enum { FRAME = 0x50010 }; /* popped as RIP, its low half is the selector of data as well */

static uint64_t rnd(uint64_t *s)
{
    *s ^= *s >> 12;
    *s ^= *s << 25;
    *s ^= *s >> 27;
    return *s * 0x2545f4914f6cdd1dULL;
}

#define PICK(s, list) (list)[rnd(s) % (sizeof(list) / sizeof(*(list)))]

/* What a register may hold so that something comes of the instruction. */
static uint64_t value(uint64_t *s)
{
    static const uint64_t some[] = {0,        1,        2,         8,          0x10,       0x18,
                                    0x33,     0x50,     0x60,      0x80,       0xffffffff, 0x40,
                                    VMF_DATA, VMF_DATA, VMF_STACK, IFX_MMIO,   CR4_PAE,    0x174,
                                    0x10,     0x277,    0xc000102, 0x40000000, 0xd};

    return rnd(s) % 3 ? PICK(s, some) : VMF_DATA + 0x100 + (rnd(s) & 0xff8);
}

static struct cpu start;

/* Registers, a frame to pop, and a memory operand that may be a descriptor table or far pointer. */
static void prepare(const uint8_t *code, uint64_t *s)
{
    static const uint32_t msr[] = {0x10, 0x1b, 0xc0000080, 0xc0000100, 0xc0000102, 0x277};
    static const uint64_t frame[] = {FRAME, VMS_CODE64, 2, VMF_STACK - 64, VMS_DATA};
    struct cpu *c = &ifx.v->cpu;

    *c = start;
    for (unsigned r = 0; r < NGPR; r++)
        c->gpr[r] = r == RSP ? VMF_STACK - 256 : value(s);
    if (rnd(s) & 1)
        c->gpr[RCX] = PICK(s, msr);
    c->rflags ^= rnd(s) & FL_ARITH;
    vmf_poke(&ifx, VMF_CODE, code, INSN_MAX);
    vmf_poke(&ifx, VMF_STACK - 256, frame, sizeof(frame));
    for (unsigned i = 0; i < 0x2000; i += 16) {
        vmf_poke64(&ifx, VMF_DATA + i, FRAME);
        vmf_poke64(&ifx, VMF_DATA + i + 8, VMS_CODE64);
    }
    vmf_poke64(&ifx, VMF_GDT + VMS_TSS + 0, vmf_desc(VMF_TSS, 0x67, 0x0089));
    vmf_poke64(&ifx, VMF_GDT + VMS_TSS + 8, 0);
    ifx.v->fpu_live = false;
    tlb_init(&ifx.v->tlb);
    atomic_store(&ifx.vm.stop, false);
}

/* By opcode of a map: executed at least once; a register was seen to change. */
static bool ran[4][256];
static uint16_t seen[4][256];
static unsigned steps;

static void step(const uint8_t *code, uint64_t *s)
{
    uint64_t before[NGPR];
    uint16_t changed = 0;
    struct insn in;

    if (decode(&in, code, INSN_MAX, 8) != DEC_OK || insn_class(&in) != IC_SYS)
        return;
    prepare(code, s);
    memcpy(before, ifx.v->cpu.gpr, sizeof(before));
    if (interp_step(ifx.v) == STEP_EXIT || ifx_vector() >= 0)
        return;
    for (unsigned r = 0; r < NGPR; r++)
        if (ifx.v->cpu.gpr[r] != before[r])
            changed |= (uint16_t)(1u << r);
    ran[in.map][in.opcode] = true;
    seen[in.map][in.opcode] |= changed;
    steps++;
    cr_assert(!(changed & ~in.gpr_write),
              "%s (map %u opcode %02x modrm %02x): registers %#x changed, the decoder says %#x",
              in.info->name, in.map, in.opcode, in.modrm, changed, in.gpr_write);
}

/* Every opcode with every ModRM byte behind some prefixes. */
static void sweep(unsigned map, uint64_t *s)
{
    static const uint8_t prefix[][3] = {{0},       {1, 0x66}, {1, 0x48}, {1, 0xf3}, {2, 0xf3, 0x48},
                                        {1, 0x41}, {1, 0xf2}};

    for (unsigned p = 0; p < sizeof(prefix) / sizeof(*prefix); p++)
        for (unsigned op = 0; op < 256; op++)
            for (unsigned modrm = 0; modrm < 256; modrm++) {
                uint8_t code[INSN_MAX] = {0};
                unsigned n = prefix[p][0];

                memcpy(code, prefix[p] + 1, n);
                if (map)
                    code[n++] = 0x0f;
                if (map > 1)
                    code[n++] = map == 2 ? 0x38 : 0x3a;
                code[n++] = (uint8_t)op;
                code[n++] = (uint8_t)modrm;
                step(code, s);
                step(code, s);
            }
}

Test(decode_sys, gpr_write)
{
    /* What writes registers nobody names: opcode, which. */
    static const struct {
        uint8_t map, opcode;
        uint16_t regs;
    } implicit[] = {
        {0, 0x6c, 1 << RDI},                                  /* INS */
        {0, 0x6e, 1 << RSI},                                  /* OUTS */
        {0, 0xcb, 1 << RSP},                                  /* RETF */
        {0, 0xcf, 1 << RSP},                                  /* IRET */
        {0, 0xe4, 1 << RAX},                                  /* IN */
        {0, 0xec, 1 << RAX},                                  /* IN */
        {1, 0x31, 1 << RAX | 1 << RDX},                       /* RDTSC */
        {1, 0x32, 1 << RAX | 1 << RDX},                       /* RDMSR */
        {1, 0x05, 1 << RCX | 1 << R11},                       /* SYSCALL */
        {1, 0xa2, 1 << RAX | 1 << RBX | 1 << RCX | 1 << RDX}, /* CPUID */
        {1, 0xa1, 1 << RSP},                                  /* POP FS */
        {1, 0x01, 1 << RAX | 1 << RDX | 1 << RCX},            /* XGETBV, RDTSCP */
        {0, 0xff, 1 << RSP},                                  /* CALL far */
    };
    uint64_t s = 0x737973;
    struct cpu *c;

    ifx_create(VMFIX_LONG);
    c = &ifx.v->cpu;
    c->cr4 |= CR4_OSXSAVE | CR4_FSGSBASE;
    c->xcr0 = XCR0_SUPPORTED;
    c->sysenter_cs = VMS_CODE64;
    c->lstar = FRAME;
    c->star = (uint64_t)VMS_CODE64 << 32 | (uint64_t)0x2b << 48;
    start = *c;
    for (unsigned map = 0; map < 4; map++)
        sweep(map, &s);
    printf("%u system instructions done\n", steps);
    cr_expect(steps > 50000, "%u", steps);
    for (unsigned i = 0; i < sizeof(implicit) / sizeof(*implicit); i++)
        cr_expect((seen[implicit[i].map][implicit[i].opcode] & implicit[i].regs) ==
                      implicit[i].regs,
                  "map %u opcode %02x: only %#x were seen to change", implicit[i].map,
                  implicit[i].opcode, seen[implicit[i].map][implicit[i].opcode]);
    ifx_destroy();
}
