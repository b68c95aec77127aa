/* The interpreter's step: fetching, tracing, shadows, long REPs, devices, locks, the engine. */
#include <criterion/criterion.h>
#include <pthread.h>
#include "tests/interp_fix.h"
#include "vcpu/engine.h"

static struct {
    unsigned n;
    struct {
        char what;
        uint64_t addr, val;
        unsigned size;
    } e[64];
} bus;

static void note(char what, uint64_t addr, unsigned size, uint64_t val)
{
    if (bus.n < 64) {
        bus.e[bus.n].what = what;
        bus.e[bus.n].addr = addr;
        bus.e[bus.n].size = size;
        bus.e[bus.n].val = val;
    }
    bus.n++;
}

static uint64_t bus_pio_read(void *m, uint16_t port, unsigned size)
{
    (void)m;
    note('i', port, size, 0);
    return 0x1122334455667788u + bus.n;
}

static void bus_pio_write(void *m, uint16_t port, unsigned size, uint64_t val)
{
    (void)m;
    note('o', port, size, val);
    if (port == 0xf4) {
        atomic_store(&ifx.vm.stop, true);
        vcpu_kick(ifx.v);
    }
}

static uint64_t bus_mmio_read(void *m, gpa_t gpa, unsigned size)
{
    (void)m;
    note('r', gpa, size, 0);
    return 0x0807060504030201u;
}

static void bus_mmio_write(void *m, gpa_t gpa, unsigned size, uint64_t val)
{
    (void)m;
    note('w', gpa, size, val);
}

static const struct machine_ops bus_ops = {.pio_read = bus_pio_read,
                                           .pio_write = bus_pio_write,
                                           .mmio_read = bus_mmio_read,
                                           .mmio_write = bus_mmio_write,
                                           .arm_timer = vmf_arm_timer};

static struct cpu *start(enum vmfix_mode mode)
{
    ifx_create(mode);
    ifx.vm.ops = &bus_ops;
    bus.n = 0;
    ifx.v->cpu.rflags = FL_R1;
    return &ifx.v->cpu;
}

static void step(void)
{
    cr_assert_eq(interp_step(ifx.v), STEP_OK);
}

TestSuite(flow, .fini = ifx_destroy);

/* --- fetching --- */

Test(flow, fetch_second_page_faults_at_its_start)
{
    struct cpu *c = start(VMFIX_LONG);

    c->rip = IFX_NP - 2;
    vmf_poke16(&ifx, IFX_NP - 2, 0xb848); /* the first bytes of MOV RAX, imm64 */
    step();
    cr_expect_eq(ifx_vector(), VEC_PF);
    cr_expect_eq(c->cr2, IFX_NP);
    cr_expect_eq(ifx_saved(0), IFX_NP - 2);
}

Test(flow, fetch_does_not_look_at_the_next_page)
{
    struct cpu *c = start(VMFIX_LONG);

    c->rip = IFX_NP - 2;
    vmf_poke16(&ifx, IFX_NP - 2, 0x05b0);
    step();
    cr_expect_eq(c->rip, IFX_NP);
    cr_expect_eq((uint8_t)c->gpr[RAX], 5);
    step();
    cr_expect_eq(ifx_vector(), VEC_PF);
    cr_expect_eq(ifx_saved(0), IFX_NP);
}

Test(flow, fetch_across_pages)
{
    struct cpu *c = start(VMFIX_LONG);

    c->rip = 0x12ffd;
    vmf_poke(&ifx, c->rip, "\x48\xb8\x11\x22\x33\x44\x55\x66\x77\x88", 10);
    for (int i = 0; i < 3; i++) {
        c->rip = 0x12ffd;
        step();
        cr_expect_eq(c->gpr[RAX], 0x8877665544332211);
        cr_expect_eq(c->rip, 0x13007);
    }
}

Test(flow, changed_code_is_decoded_again)
{
    struct cpu *c = start(VMFIX_LONG);

    for (unsigned i = 0; i < 256; i++) {
        uint8_t code[2] = {0xb0, (uint8_t)i};

        c->rip = VMF_CODE;
        vmf_poke(&ifx, VMF_CODE, code, 2);
        step();
        cr_assert_eq((uint8_t)c->gpr[RAX], i);
    }
    /* the same bytes in another mode */
    vmf_poke(&ifx, VMF_CODE, "\x48\x90", 2);
    c->rip = VMF_CODE;
    step();
    cr_expect_eq(c->rip, VMF_CODE + 2);
    vmf_set_seg(&ifx, SEG_CS, VMS_CODE32);
    c->gpr[RAX] = 9;
    c->rip = VMF_CODE;
    step();
    cr_expect_eq(c->rip, VMF_CODE + 1);
    cr_expect_eq(c->gpr[RAX], 8);
}

Test(flow, code_limit)
{
    struct cpu *c = start(VMFIX_PROT32);

    c->seg[SEG_CS].limit = VMF_CODE + 1;
    ifx_code("b805000000");
    step();
    cr_expect_eq(c->rip, IFX_HANDLERS + VEC_GP * 16);
}

Test(flow, noncanonical_rip)
{
    struct cpu *c = start(VMFIX_LONG);

    c->rip = 1ull << 47;
    step();
    cr_expect_eq(ifx_vector(), VEC_GP);
}

/* --- single step, breakpoints, shadows --- */

Test(flow, single_step)
{
    struct cpu *c = start(VMFIX_LONG);

    ifx_code("90");
    c->rflags |= FL_TF;
    step();
    cr_expect_eq(ifx_vector(), VEC_DB);
    cr_expect_eq(ifx_saved(0), VMF_CODE + 1);
    cr_expect(ifx_saved(2) & FL_TF);
    cr_expect(c->dr[6] & 0x4000);
    cr_expect_not(c->rflags & FL_TF);
}

Test(flow, single_step_of_each_string_element)
{
    struct cpu *c = start(VMFIX_LONG);

    ifx_code("f3a4");
    c->gpr[RSI] = VMF_DATA;
    c->gpr[RDI] = VMF_DATA + 64;
    c->gpr[RCX] = 3;
    for (unsigned left = 2; left + 1; left--) {
        c->rip = VMF_CODE;
        c->rflags |= FL_TF;
        step();
        cr_assert_eq(ifx_vector(), VEC_DB);
        cr_expect_eq(c->gpr[RCX], left);
        cr_expect_eq(ifx_saved(0), left ? VMF_CODE : VMF_CODE + 2);
    }
}

Test(flow, mov_ss_holds_the_trap_off)
{
    struct cpu *c = start(VMFIX_LONG);

    ifx_code("8ed090");
    c->gpr[RAX] = VMS_DATA;
    c->rflags |= FL_TF;
    step();
    cr_expect_eq(c->rip, VMF_CODE + 2);
    cr_expect_eq(c->int_shadow, SHADOW_SS);
    step();
    cr_expect_eq(ifx_vector(), VEC_DB);
    cr_expect_eq(ifx_saved(0), VMF_CODE + 3);
    cr_expect_eq(c->int_shadow, 0);
}

Test(flow, sti_shadow)
{
    struct cpu *c = start(VMFIX_LONG);

    ifx_code("fbfb90");
    step();
    cr_expect_eq(c->int_shadow, SHADOW_STI);
    cr_expect(c->rflags & FL_IF);
    step(); /* a second STI opens no new shadow */
    cr_expect_eq(c->int_shadow, 0);
}

Test(flow, instruction_breakpoint)
{
    struct cpu *c = start(VMFIX_LONG);

    ifx_code("b005");
    c->dr[1] = VMF_CODE;
    c->dr[7] = 0x408;
    step();
    cr_expect_eq(ifx_vector(), VEC_DB);
    cr_expect_eq(ifx_saved(0), VMF_CODE);
    cr_expect_not(ifx_saved(2) & FL_RF);
    cr_expect_eq(c->dr[6] & 15, 2);
    c->rip = VMF_CODE;
    c->rflags |= FL_RF;
    step();
    cr_expect_eq(c->rip, VMF_CODE + 2);
    cr_expect_not(c->rflags & FL_RF);
}

/* --- long string operations --- */

Test(flow, long_rep_returns_in_between)
{
    struct cpu *c = start(VMFIX_LONG);
    unsigned steps = 0;

    ifx_code("f3ac");
    c->gpr[RSI] = VMF_DATA;
    c->gpr[RCX] = 20000;
    for (; c->rip == VMF_CODE; steps++)
        step();
    cr_expect_geq(steps, 4);
    cr_expect_eq(c->gpr[RCX], 0);
    cr_expect_eq(c->gpr[RSI], VMF_DATA + 20000);
    cr_expect_not(c->rflags & FL_RF);
}

Test(flow, rep_movs_over_pages)
{
    struct cpu *c = start(VMFIX_LONG);
    uint8_t *ram = ifx.ram.base;

    ifx_code("f3a4");
    for (unsigned i = 0; i < 30000; i++)
        ram[0x100123 + i] = (uint8_t)(i * 7);
    c->gpr[RSI] = 0x100123;
    c->gpr[RDI] = 0x120fff;
    c->gpr[RCX] = 30000;
    while (c->rip == VMF_CODE)
        step();
    cr_expect_eq(memcmp(ram + 0x100123, ram + 0x120fff, 30000), 0);
    cr_expect_eq(c->gpr[RDI], 0x120fff + 30000);
    cr_expect_eq(ram[0x120fff + 30000], 0);
}

/* Downwards, the operands apart, the same but for some bytes, or propagating; at any alignment. */
Test(flow, rep_movs_down)
{
    static const char *const code[] = {"f3a4", "66f3a5", "f3a5", "f348a5"};
    static const int apart[] = {-70001, -64, -8, -5, 0, 3, 8, 24, 5000, 70001};
    static uint8_t want[0x60000];

    for (unsigned k = 0; k < 4; k++)
        for (unsigned i = 0; i < sizeof(apart) / sizeof(*apart); i++) {
            struct cpu *c = start(VMFIX_LONG);
            uint8_t *ram = ifx.ram.base + 0x100000;
            unsigned size = 1u << k, n = 9000, from = 0x2e000 + 13 * i,
                     to = from + (unsigned)apart[i];

            ifx_code(code[k]);
            for (unsigned j = 0; j < sizeof(want); j++)
                want[j] = ram[j] = (uint8_t)(j * 7 ^ j >> 8);
            for (unsigned j = 0; j < n; j++)
                memmove(want + to - j * size, want + from - j * size, size);
            c->gpr[RSI] = 0x100000 + from;
            c->gpr[RDI] = 0x100000 + to;
            c->gpr[RCX] = n;
            c->rflags |= FL_DF;
            while (c->rip == VMF_CODE)
                step();
            cr_expect_eq(memcmp(ram, want, sizeof(want)), 0, "%s, %d", code[k], apart[i]);
            cr_expect_eq(c->gpr[RSI], 0x100000 + from - n * size);
            cr_expect_eq(c->gpr[RDI], 0x100000 + to - n * size);
        }
}

Test(flow, rep_movsw_down_wraps_in_16_bits)
{
    struct cpu *c = start(VMFIX_REAL);

    ifx_code("f3a5");
    for (unsigned i = 0; i < 8; i++)
        vmf_poke16(&ifx, 0x9000 + 2 * i, (uint16_t)(0x1111 * i));
    c->gpr[RSI] = 0x900e;
    c->gpr[RDI] = 6;
    c->gpr[RCX] = 8;
    c->rflags |= FL_DF;
    step();
    cr_expect_eq(c->gpr[RDI], 0xfff6);
    cr_expect_eq(vmf_peek(&ifx, 0, 8), 0x7777666655554444);
    cr_expect_eq(vmf_peek(&ifx, 0xfff8, 8), 0x3333222211110000);
}

Test(flow, rep_movsw_wraps_in_16_bits)
{
    struct cpu *c = start(VMFIX_REAL);

    ifx_code("f3a5");
    vmf_poke64(&ifx, 0x9000, 0x4444333322221111);
    c->gpr[RSI] = 0x9000;
    c->gpr[RDI] = 0xaaaafffc;
    c->gpr[RCX] = 4;
    step();
    cr_expect_eq(c->gpr[RDI], 0xaaaa0004);
    cr_expect_eq(vmf_peek(&ifx, 0xfffc, 4), 0x22221111);
    cr_expect_eq(vmf_peek(&ifx, 0, 4), 0x44443333);
}

/* --- devices --- */

Test(flow, port_io)
{
    struct cpu *c = start(VMFIX_LONG);

    ifx_code("e670ed66ef");
    c->gpr[RAX] = ~0ull;
    c->gpr[RDX] = 0x3f8;
    step();
    step();
    cr_expect_eq(c->gpr[RAX], 0x5566778a);
    step();
    cr_expect_eq(bus.n, 3);
    cr_expect(bus.e[0].what == 'o' && bus.e[0].addr == 0x70 && bus.e[0].val == 0xff);
    cr_expect(bus.e[1].what == 'i' && bus.e[1].addr == 0x3f8 && bus.e[1].size == 4);
    cr_expect(bus.e[2].what == 'o' && bus.e[2].size == 2 && bus.e[2].val == 0x778a);
}

Test(flow, string_io)
{
    struct cpu *c = start(VMFIX_LONG);

    ifx_code("f36ef36d");
    vmf_poke(&ifx, VMF_DATA, "abc", 3);
    c->gpr[RSI] = VMF_DATA;
    c->gpr[RDI] = IFX_NP - 6;
    c->gpr[RCX] = 3;
    c->gpr[RDX] = 0xe9;
    step();
    cr_expect_eq(bus.n, 3);
    cr_expect_eq(bus.e[2].val, 'c');
    c->gpr[RCX] = 3;
    step(); /* the second doubleword would cross into the absent page: its port is not read */
    cr_expect_eq(ifx_vector(), VEC_PF);
    cr_expect_eq(bus.n, 4);
    cr_expect_eq(c->gpr[RCX], 2);
    cr_expect_eq(c->gpr[RDI], IFX_NP - 2);
}

Test(flow, stop_from_a_port)
{
    start(VMFIX_LONG);
    ifx_code("e6f4");
    cr_expect_eq(interp_step(ifx.v), STEP_EXIT);
    cr_expect_eq(ifx.v->exit.reason, EXIT_STOP);
    cr_expect_eq(ifx.v->cpu.rip, VMF_CODE + 2);
}

Test(flow, rmw_on_mmio)
{
    struct cpu *c = start(VMFIX_LONG);

    ifx_code("f00103");
    c->gpr[RBX] = IFX_MMIO;
    c->gpr[RAX] = 1;
    step();
    cr_expect_eq(bus.n, 2);
    cr_expect(bus.e[0].what == 'r' && bus.e[1].what == 'w' && bus.e[1].val == 0x04030202);
}

Test(flow, hlt)
{
    struct cpu *c = start(VMFIX_LONG);

    ifx_code("f4");
    cr_expect_eq(interp_step(ifx.v), STEP_HLT);
    cr_expect_eq(c->rip, VMF_CODE + 1);
    cr_expect(c->halted);
}

Test(flow, triple_fault)
{
    struct cpu *c = start(VMFIX_LONG);

    c->idtr.limit = 0;
    ifx_code("0f0b");
    cr_expect_eq(interp_step(ifx.v), STEP_EXIT);
    cr_expect_eq(ifx.v->exit.reason, EXIT_SHUTDOWN);
}

/* --- write traces --- */

static unsigned traced;
static gpa_t traced_at;

static void code_written(void *opaque, gpa_t gpa, uint64_t len)
{
    (void)opaque, (void)len;
    traced++;
    traced_at = gpa;
}

Test(flow, stores_to_traced_pages_are_told)
{
    static const char *const code[] = {"c60305", "000b", "f0000b",   "8603",        "f3aa",
                                       "0f1103", "53",   "480fc70b", "660f3a160300"};
    struct cpu *c = start(VMFIX_LONG);

    for (unsigned i = 0; i < sizeof(code) / sizeof(*code); i++) {
        tlb_flush_all(&ifx.v->tlb);
        ifx.ram.code_written = code_written;
        ifx.ram.attr[0x50] = RAM_ATTR_CODE;
        traced = 0;
        c->rip = VMF_CODE;
        ifx_code(code[i]);
        c->gpr[RBX] = c->gpr[RDI] = 0x50010;
        c->gpr[RSP] = 0x50018;
        c->gpr[RCX] = 4;
        step();
        cr_expect_eq(traced, 1, "%s: told %u times", code[i], traced);
        cr_expect_eq(traced_at, 0x50010, "%s: at %#lx", code[i], traced_at);
    }
}

/* --- locked operations of two CPUs --- */

#define ROUNDS 200000u

static pthread_barrier_t together;

static void *other_cpu(void *arg)
{
    struct vcpu *v = arg;

    if (hostfault_thread_init(v))
        abort();
    pthread_barrier_wait(&together);
    for (unsigned i = 0; i < ROUNDS; i++) {
        v->cpu.rip = VMF_CODE;
        while (v->cpu.rip != VMF_CODE + 0x40)
            if (interp_step(v) != STEP_OK || v->cpu.rip < VMF_CODE || v->cpu.rip > VMF_CODE + 0x40)
                return v;
    }
    return NULL;
}

Test(flow, locked_operations_are_atomic)
{
    /* lock inc [rbx]; lock add [rbx+11h], 3, unaligned; lock xadd [rbx+20h], eax; lock dec
     * [rbx+fbch], across a page, by the bus lock; and a loop of CMPXCHG16B that counts in both
     * halves of [rbx+40h]. */
    static const char code[] = "f048ff03"
                               "f04883431103"
                               "b801000000"
                               "f00fc14320"
                               "f048ff8bbc0f0000"
                               "488b4340"
                               "488b5348"
                               "4c8d4001"
                               "488d4a01"
                               "4c87c3" /* xchg r8, rbx: rbx = rax + 1 */
                               "f0490fc74840"
                               "4c87c3"
                               "75e2";
    struct vcpu *v[2];
    pthread_t th[2];
    void *res;

    start(VMFIX_LONG);
    v[0] = ifx.v;
    v[1] = aligned_alloc(64, (sizeof(*v[1]) + 63) & ~(size_t)63);
    cr_assert(v[1]);
    unsigned len = ifx_code(code);

    cr_assert_leq(len, 0x40);
    for (unsigned i = len; i < 0x40; i++)
        vmf_poke(&ifx, VMF_CODE + i, "\x90", 1);
    v[0]->cpu.gpr[RBX] = VMF_DATA + 0x40;
    v[0]->cpu.gpr[RCX] = 3;
    memcpy(v[1], v[0], sizeof(*v[1]));
    pthread_barrier_init(&together, NULL, 2);
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&th[i], NULL, other_cpu, v[i]), 0);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(th[i], &res);
        cr_expect_null(res, "CPU %u left its code: rip %#lx", i, v[i]->cpu.rip);
    }
    cr_expect_eq(vmf_peek(&ifx, VMF_DATA + 0x40, 8), 2 * ROUNDS);
    cr_expect_eq(vmf_peek(&ifx, VMF_DATA + 0x51, 8), 6 * ROUNDS);
    cr_expect_eq(vmf_peek(&ifx, VMF_DATA + 0x60, 4), 2 * ROUNDS);
    cr_expect_eq(vmf_peek(&ifx, VMF_DATA + 0x40 + 0xfbc, 8), -(uint64_t)(2 * ROUNDS));
    cr_expect_eq(vmf_peek(&ifx, VMF_DATA + 0x80, 8), 2 * ROUNDS);
    cr_expect_eq(vmf_peek(&ifx, VMF_DATA + 0x88, 8), 2 * ROUNDS);
    free(v[1]);
}

/* --- the engine --- */

Test(flow, engine_runs_to_hlt_and_stops)
{
    struct cpu *c = start(VMFIX_LONG);
    const char *what;

    cr_assert_eq(engine_interp.vm_init(&ifx.vm, &what), 0);
    cr_assert_eq(engine_interp.vcpu_init(ifx.v, &what), 0);
    ifx_code("b9640000004801c8e2fbf4e6f4ebfe");
    c->gpr[RAX] = 0;
    cr_expect_eq(engine_interp.run(ifx.v), EXIT_HLT);
    cr_expect_eq(c->gpr[RAX], 5050);
    c->halted = false;
    cr_expect_eq(engine_interp.run(ifx.v), EXIT_STOP);
    cr_expect_eq(ifx.v->fpu_live, false);
}
