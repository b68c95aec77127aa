/* The interrupt vectors of a guest that calls a BIOS which is not there (monitor/bios.c): the
 * interpreter calls them from real mode. */
#include <criterion/criterion.h>
#include "monitor/loader.h"
#include "tests/interp_fix.h"

static void setup(void)
{
    ifx_create(VMFIX_REAL);
    bios_vectors(&ifx.ram);
}
TestSuite(bios, .init = setup, .fini = ifx_destroy);

/* INT n with AX 0xe820 and BP, CF clear: back behind it with the stack as it was; AX. */
static uint16_t call(uint8_t n)
{
    struct cpu *c = &ifx.v->cpu;
    uint8_t code[2] = {0xcd, n};
    gpa_t at = ifx_at();
    uint64_t sp = c->gpr[RSP];
    unsigned steps = 0;

    vmf_poke(&ifx, at, code, sizeof code);
    c->gpr[RAX] = 0x1234e820;
    c->gpr[RBP] = 0x5555;
    c->rflags = FL_R1 | FL_IF;
    do
        cr_assert_eq(interp_step(ifx.v), CPU_OK, "INT %02x", n);
    while (ifx_at() != at + 2 && ++steps < 20);
    cr_assert_eq(ifx_at(), at + 2, "INT %02x", n);
    cr_assert_eq(c->gpr[RSP], sp);
    cr_assert_eq(c->gpr[RBP], 0x5555);
    cr_assert_eq(c->gpr[RAX] >> 16, 0x1234);
    cr_assert_eq(c->rflags & FL_IF, FL_IF);
    return (uint16_t)c->gpr[RAX];
}

Test(bios, services_fail)
{
    static const uint8_t service[] = {0x10, 0x11, 0x13, 0x14, 0x15, 0x16, 0x17, 0x19, 0x1a};

    for (unsigned i = 0; i < sizeof service; i++) {
        cr_expect_eq(call(service[i]), 0x8620, "INT %02x", service[i]);
        cr_expect(ifx.v->cpu.rflags & FL_CF, "INT %02x", service[i]);
    }
}

Test(bios, memory_size)
{
    cr_expect_eq(call(0x12), 639);
    cr_expect_not(ifx.v->cpu.rflags & FL_CF);
}

Test(bios, the_rest_returns)
{
    for (unsigned n = 0; n < 256; n++)
        if (n < 0x10 || n > 0x1f) {
            cr_expect_eq(call((uint8_t)n), 0xe820, "INT %02x", n);
            cr_expect_not(ifx.v->cpu.rflags & FL_CF);
        }
}
