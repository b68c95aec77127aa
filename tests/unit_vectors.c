/*
 * The guest's vector and x87 registers are the host's while it runs, and whatever of the monitor is
 * called meanwhile may use them: here every call does. The guest (guests/selftest/survive.c) only
 * notices what the monitor's own code happens to touch.
 */
#include <criterion/criterion.h>
#include "tests/vmfix.h"
#include "vcpu/bt/bt.h"
#include "vcpu/engine.h"

enum {
    IN = VMF_DATA, /* 16 vectors of 32 bytes, 8 of x87 in 16 each, MXCSR, control word */
    OUT = VMF_DATA + 0x1000,
    SIZE = 16 * 32 + 8 * 16 + 8,
    LAPIC = 0x900000 /* past the end of RAM, as is MMIO at 0x800000 */
};

static struct vmfix f;
static unsigned calls;

static void clobber(void)
{
    static const uint32_t mxcsr = 0x1f80;

    calls++;
    __asm__ volatile(
        "pcmpeqd %%xmm0, %%xmm0\n\tmovdqa %%xmm0, %%xmm1\n\tmovdqa %%xmm0, %%xmm2\n\t"
        "movdqa %%xmm0, %%xmm3\n\tmovdqa %%xmm0, %%xmm4\n\tmovdqa %%xmm0, %%xmm5\n\t"
        "movdqa %%xmm0, %%xmm6\n\tmovdqa %%xmm0, %%xmm7\n\tmovdqa %%xmm0, %%xmm8\n\t"
        "movdqa %%xmm0, %%xmm9\n\tmovdqa %%xmm0, %%xmm10\n\tmovdqa %%xmm0, %%xmm11\n\t"
        "movdqa %%xmm0, %%xmm12\n\tmovdqa %%xmm0, %%xmm13\n\tmovdqa %%xmm0, %%xmm14\n\t"
        "movdqa %%xmm0, %%xmm15\n\tfninit\n\tldmxcsr %0"
        :
        : "m"(mxcsr)
        : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
          "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "memory");
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vzeroall" : : : "memory");
}

static uint64_t mmio_read(void *m, gpa_t gpa, unsigned size)
{
    (void)m, (void)gpa, (void)size;
    clobber();
    return 0x1122334455667788;
}

static void mmio_write(void *m, gpa_t gpa, unsigned size, uint64_t val)
{
    (void)m, (void)gpa, (void)size, (void)val;
    clobber();
}

static uint64_t pio_read(void *m, uint16_t port, unsigned size)
{
    (void)m, (void)port, (void)size;
    clobber();
    return 0x5a;
}

static void pio_write(void *m, uint16_t port, unsigned size, uint64_t val)
{
    (void)m, (void)port, (void)size, (void)val;
    clobber();
}

static void arm_timer(void *m, unsigned index, uint64_t tsc)
{
    (void)m, (void)index, (void)tsc;
    clobber();
}

static const struct machine_ops ops = {.pio_read = pio_read,
                                       .pio_write = pio_write,
                                       .mmio_read = mmio_read,
                                       .mmio_write = mmio_write,
                                       .arm_timer = arm_timer};

static gpa_t at;

static void byte(unsigned b)
{
    uint8_t c = (uint8_t)b;

    vmf_poke(&f, at++, &c, 1);
}

static void hex(const char *s)
{
    unsigned b;

    for (; s[0] && sscanf(s, "%2x", &b) == 1; s += 2)
        byte(b);
}

static void disp32(uint32_t d)
{
    vmf_poke32(&f, at, d);
    at += 4;
}

/* vmovups ymmN and [rsi + 32 N], or movups; and x87's stack, MXCSR, control word */
static void move_state(bool load, bool avx)
{
    for (unsigned n = 0; n < 16; n++) {
        if (avx)
            hex(n < 8 ? "c5fc" : "c57c");
        else
            hex(n < 8 ? "0f" : "440f");
        byte(load ? 0x10 : 0x11);
        byte(0x86 | (n & 7) << 3);
        disp32(32 * n);
    }
    hex(load ? "0fae96" : "0fae9e"); /* ldmxcsr, stmxcsr [rsi + ...] */
    disp32(640);
    hex(load ? "dbe3d9ae" : "d9be"); /* fninit, fldcw; fnstcw */
    disp32(644);
    for (unsigned n = 0; n < 8; n++) {
        hex(load ? "dbae" : "dbbe"); /* fld, fstp tbyte [rsi + ...] */
        disp32(512 + 16 * (load ? n : 7 - n));
    }
}

/* What is done between: every way into the monitor that a guest's instruction has. */
static const struct {
    const char *name, *code;
    unsigned calls;
} between[] = {
    {"in al, imm", "e480", 1},
    {"in eax, dx", "66ba3412ed", 1},
    {"out imm, al", "e680", 1},
    {"out dx, ax", "66ba341266ef", 1},
    {"rep insb", "bf00300400b90400000066ba3412f36c", 4},
    {"rep outsd", "be00300400b90400000066ba3412f36f", 4},
    {"mov eax, [mmio]", "8b042500008000", 1},
    {"mov [mmio], rax", "4889042500008000", 1},
    {"add [mmio], eax", "01042500008000", 2},
    {"lock inc dword [mmio]", "f0ff042500008000", 2},
    {"push [mmio]; pop rax", "ff34250000800058", 1},
    {"movzx eax, byte [mmio + 3]", "0fb6042503008000", 1},
    {"rep movsb from mmio", "be00008000bf00300400b904000000f3a4", 1},
    {"rep stosd to mmio", "bf00008000b904000000f3ab", 1},
    {"call in between", "e802000000eb03e480c3", 1},
    {"lapic timer", "c704252003900060000000c704258003900040420f00", 1},
};

static void step(enum vmfix_mode mode, const struct engine *engine, unsigned i, bool avx)
{
    const char *what = "";
    uint8_t in[SIZE], out[SIZE];
    struct cpu *c;

    vmf_create(&f, mode);
    f.vm.ops = &ops;
    c = &f.v->cpu;
    c->cr4 |= CR4_OSXSAVE;
    c->xcr0 = avx ? 7 : 3;
    cr_assert_eq(engine->vm_init(&f.vm, &what), 0, "%s", what);
    cr_assert_eq(engine->vcpu_init(f.v, &what), 0, "%s", what);
    cr_assert_eq(cpu_wrmsr(f.v, 0x1b, LAPIC | 0x900), CPU_OK);
    for (unsigned k = 0; k < SIZE; k++)
        in[k] = (uint8_t)(k * 37 + 11);
    for (unsigned k = 0; k < 8; k++) {
        in[512 + 16 * k + 7] |= 0x80;
        in[512 + 16 * k + 9] = 0x3f;
    }
    memcpy(in + 640, &(uint32_t){0xbfbf}, 4);
    memcpy(in + 644, &(uint32_t){0x0e7f}, 4);
    vmf_poke(&f, IN, in, SIZE);
    at = VMF_CODE;
    hex("be"); /* mov esi, imm32 */
    disp32(IN);
    move_state(true, avx);
    hex(between[i].code);
    hex("be");
    disp32(OUT);
    move_state(false, avx);
    hex("faf4"); /* cli; hlt */
    bt_debug = BT_DBG_EAGER;
    calls = 0;
    f.v->lapic.svr = 0x1ff;
    engine->run(f.v);
    cr_assert(c->halted && c->rip == at, "%s: %s: stands at %lx of %lx", engine->name,
              between[i].name, c->rip, at);
    cr_expect(calls >= between[i].calls, "%s: %s: %u calls", engine->name, between[i].name, calls);
    ram_read(&f.ram, OUT, out, SIZE);
    for (unsigned k = 0; k < SIZE; k++) {
        bool counts = k < 512 ? avx || !(k & 16) : k < 640 ? (k & 15) < 10 : k < 646;

        cr_expect(!counts || in[k] == out[k], "%s: %s: %s %u byte %u: %02x, was %02x", engine->name,
                  between[i].name,
                  k < 512   ? "ymm"
                  : k < 640 ? "st"
                            : "word",
                  k < 512 ? k / 32 : (k - 512) / 16, k % 16, out[k], in[k]);
    }
    engine->vcpu_fini(f.v);
    engine->vm_fini(&f.vm);
    vmf_destroy(&f);
}

static void all(const struct engine *engine)
{
    for (unsigned i = 0; i < sizeof(between) / sizeof(*between); i++) {
        step(VMFIX_LONG, engine, i, false);
        if (__builtin_cpu_supports("avx"))
            step(VMFIX_LONG, engine, i, true);
    }
}

Test(vectors, bt)
{
#ifdef __SANITIZE_ADDRESS__
    cr_skip("the sanitizer's own calls use vector registers on the way to fpu_put()");
#endif
    all(&engine_bt);
}

Test(vectors, interp)
{
    all(&engine_interp);
}
