/* MSRs and the paravirtual clock behind two of them. */
#include <criterion/criterion.h>
#include "tests/vmfix.h"

#define NONCANON 0x800000000000u
#define ANY      ((uint64_t)-1)

static struct vmfix f;

static void down(void)
{
    vmf_destroy(&f);
}

/* What a vendor-neutral guest may do with each: reads of the reset value, a good and a bad write.
 * ANY: not checked. vendor 'I' or 'A': only there; elsewhere #GP. */
static const struct msr_case {
    uint32_t msr;
    char vendor;
    uint64_t reads, good, bad;
} cases[] = {
    {0x17, 'I', 0, ANY, 0},
    {0x3a, 'I', 1, ANY, 1},
    {0x8b, 0, ANY, 0, ANY},
    {0xce, 'I', 0, ANY, 0},
    {0xfe, 0, 0x508, ANY, 0x508},
    {0x10a, 'I', ANY, ANY, 0},
    {0x140, 'I', 0, 0, 1},
    {0x174, 0, 0, 0x10, ANY},
    {0x175, 0, 0, 0xffffc90000000000, NONCANON},
    {0x176, 0, 0, 0x7fffffffffff, NONCANON},
    {0x179, 0, 0, ANY, 0},
    {0x17a, 0, 0, 4, 8},
    {0x1a0, 'I', 0x1801, 0x1800, (uint64_t)1 << 63},
    {0x1a0, 'I', 0x1800, 0x400c51809, 2},
    {0x1d9, 0, 0, 0, 1},
    {0x200, 0, 0, 0x80000006, 2},
    {0x200, 0, ANY, ANY, 0x80000106},
    {0x201, 0, 0, 0x3fff80000800, 0x3fff80000801},
    {0x20e, 0, 0, 0, (uint64_t)1 << 46},
    {0x20f, 0, 0, 0, (uint64_t)1 << 46},
    {0x250, 0, 0x0606060606060606, 0x0001040506060606, 0x02},
    {0x259, 0, 0x0606060606060606, 0, 0x0700000000000000},
    {0x26f, 0, 0x0606060606060606, 0x0505050505050505, 0x08},
    {0x277, 0, 0x0007040600070406, 0x0407050600070106, 0x0000000000000002},
    {0x277, 0, ANY, ANY, 0x0800000000000000},
    {0x2ff, 0, 0xc06, 0xc00, 0x1006},
    {0x2ff, 0, ANY, ANY, 0xc02},
    {0xc0000081, 0, 0, 0x0023001000000000, ANY},
    {0xc0000082, 0, 0, 0xffffffff81000000, NONCANON},
    {0xc0000083, 0, 0, 0xffffffff81000000, NONCANON},
    {0xc0000084, 0, 0, 0x257fd5, (uint64_t)1 << 32},
    {0xc0000100, 0, 0, 0x7f0000000000, NONCANON},
    {0xc0000101, 0, 0, 0xffff888000000000, NONCANON},
    {0xc0000102, 0, 0, 0xffff888000000000, NONCANON},
    {0xc0000103, 0, 0, 0xffffffff, (uint64_t)1 << 32},
    {0xc0010015, 'A', 1u << 24, 1u << 24 | 0x40, 2},
    {0xc0011029, 'A', 2, ANY, ANY},
    {0xc0010055, 'A', 0, ANY, ANY},
};

static void check(const struct msr_case *t, bool present)
{
    struct cpu *c = &f.v->cpu;
    uint64_t val = 0;

    if (!present) {
        cr_assert_eq(cpu_rdmsr(f.v, t->msr, &val), CPU_FAULT, "%x", t->msr);
        cr_assert_eq(cpu_wrmsr(f.v, t->msr, 0), CPU_FAULT, "%x", t->msr);
        return;
    }
    cr_assert_eq(cpu_rdmsr(f.v, t->msr, &val), CPU_OK, "%x", t->msr);
    if (t->reads != ANY)
        cr_assert_eq(val, t->reads, "%x: %lx", t->msr, val);
    if (t->good != ANY)
        cr_assert_eq(cpu_wrmsr(f.v, t->msr, t->good), CPU_OK, "%x", t->msr);
    cr_assert_eq(cpu_rdmsr(f.v, t->msr, &val), CPU_OK);
    if (t->good != ANY && t->msr != 0x8b && t->msr != 0xc0010015)
        cr_assert_eq(val, t->good, "%x: %lx", t->msr, val);
    if (t->bad != ANY) {
        uint64_t after = 0;

        cr_assert_eq(cpu_wrmsr(f.v, t->msr, t->bad), CPU_FAULT, "%x", t->msr);
        cr_assert_eq(c->exc.vector, VEC_GP);
        cr_assert_eq(c->exc.error, 0);
        cpu_rdmsr(f.v, t->msr, &after);
        cr_assert_eq(after, val, "%x", t->msr);
    }
}

static void all(uint32_t vendor, char letter)
{
    vmf_create(&f, VMFIX_LONG);
    cpu_reset(&f.v->cpu);
    f.cpuid.leaf[0].ebx = vendor;
    for (unsigned i = 0; i < f.cpuid.n; i++)
        if (f.cpuid.leaf[i].leaf == 7)
            f.cpuid.leaf[i].edx =
                (f.cpuid.leaf[i].edx & ~(1u << 29)) | (letter == 'I' ? 1u << 29 : 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check(&cases[i], !cases[i].vendor || cases[i].vendor == letter);
}

Test(msr, intel, .fini = down)
{
    all(0x756e6547, 'I');
}

Test(msr, amd, .fini = down)
{
    all(0x68747541, 'A');
}

/* What we do not offer does not exist: PMU, SPEC_CTRL, XSS, VMX, SVM, async page faults ... */
Test(msr, unknown, .fini = down)
{
    static const uint32_t absent[] = {
        0x0,        0x1,        0x48,       0x49,       0x10b,      0xc1,       0xe7,
        0x186,      0x1c9,      0x210,      0x276,      0x309,      0x345,      0x38f,
        0x400,      0x480,      0x64e,      0x6a0,      0xda0,      0x840,      0x4b564d02,
        0x4b564d03, 0x40000000, 0xc0000104, 0xc0010000, 0xc0010114, 0xc0010117, 0xffffffff};
    uint64_t val;

    vmf_create(&f, VMFIX_LONG);
    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        cr_assert_eq(cpu_rdmsr(f.v, absent[i], &val), CPU_FAULT, "%x", absent[i]);
        cr_assert_eq(cpu_wrmsr(f.v, absent[i], 0), CPU_FAULT, "%x", absent[i]);
        cr_assert_eq(f.v->cpu.exc.vector, VEC_GP);
    }
}

Test(msr, efer, .fini = down)
{
    struct cpu *c;

    vmf_create(&f, VMFIX_LONG);
    c = &f.v->cpu;
    for (unsigned bit = 0; bit < 64; bit++) {
        bool known = bit == 0 || bit == 8 || bit == 10 || bit == 11;
        uint64_t val = EFER_LME | EFER_LMA | (uint64_t)1 << bit;

        cr_assert_eq(cpu_wrmsr(f.v, 0xc0000080, val), known ? CPU_OK : CPU_FAULT, "bit %u", bit);
    }
    cr_assert_eq(cpu_wrmsr(f.v, 0xc0000080, EFER_LME), CPU_OK);
    cr_assert_eq(c->efer, EFER_LME | EFER_LMA);
}

Test(msr, tsc, .fini = down)
{
    uint64_t a = 0, b = 0, adjust = 0;

    vmf_create(&f, VMFIX_LONG);
    cr_assert_eq(cpu_wrmsr(f.v, 0x10, 1000), CPU_OK);
    cr_assert_eq(cpu_rdmsr(f.v, 0x10, &a), CPU_OK);
    cr_assert_geq(a, 1000);
    cr_assert_lt(a, 1000 + 100 * f.vm.tsc_hz);
    cr_assert_eq(cpu_rdmsr(f.v, 0x3b, &adjust), CPU_OK);
    cr_assert_eq(adjust, f.v->cpu.tsc_offset);
    cr_assert_eq(cpu_wrmsr(f.v, 0x3b, adjust + ((uint64_t)1 << 60)), CPU_OK);
    cr_assert_eq(cpu_rdmsr(f.v, 0x10, &b), CPU_OK);
    cr_assert_geq(b - a, (uint64_t)1 << 60);
    cr_assert_eq(cpu_wrmsr(f.v, 0x3b, 0), CPU_OK);
    cr_assert_eq(f.v->cpu.tsc_offset, 0);
}

/* --- pvclock --- */

struct published {
    uint32_t version, pad0;
    uint64_t tsc_timestamp, system_time;
    uint32_t mul;
    int8_t shift;
    uint8_t flags, pad[2];
};

/* As a guest computes it. */
static uint64_t guest_ns(const struct published *p, uint64_t tsc)
{
    uint64_t delta = tsc - p->tsc_timestamp;

    delta = p->shift < 0 ? delta >> -p->shift : delta << p->shift;
    return p->system_time + (uint64_t)((unsigned __int128)delta * p->mul >> 32);
}

Test(pvclock, rates, .fini = down)
{
    static const uint64_t hz[] = {100000000,  999999999,  1000000000, 1000000001,
                                  2600000000, 2599998000, 5200000000};

    for (size_t i = 0; i < sizeof(hz) / sizeof(hz[0]); i++) {
        struct published p;
        uint64_t ns;

        if (i)
            down();
        vmf_create(&f, VMFIX_LONG);
        f.vm.tsc_hz = hz[i];
        cr_assert_eq(cpu_wrmsr(f.v, 0x4b564d01, VMF_DATA | 1), CPU_OK);
        ram_read(&f.ram, VMF_DATA, &p, sizeof(p));
        cr_assert_eq(p.version & 1, 0);
        cr_assert_neq(p.version, 0);
        cr_assert_eq(p.flags, 1);
        cr_assert_neq(p.system_time, 0, "a guest takes it for a clock that is not there");
        /* An hour's worth of cycles is an hour, to a microsecond a second. */
        ns = guest_ns(&p, p.tsc_timestamp + 3600 * hz[i]) - guest_ns(&p, p.tsc_timestamp);
        cr_assert_leq(ns, 3600 * 1000001000ull, "%lu Hz: %lu", hz[i], ns);
        cr_assert_geq(ns, 3600 * 999999000ull, "%lu Hz: %lu", hz[i], ns);
    }
}

/* Time does not jump when the guest moves its TSC. */
Test(pvclock, follows_tsc_adjust, .fini = down)
{
    struct published p, q;
    uint64_t a, b;

    vmf_create(&f, VMFIX_LONG);
    cr_assert_eq(cpu_wrmsr(f.v, 0x4b564d01, VMF_DATA | 1), CPU_OK);
    ram_read(&f.ram, VMF_DATA, &p, sizeof(p));
    a = guest_ns(&p, vcpu_tsc(f.v));
    cr_assert_eq(cpu_wrmsr(f.v, 0x10, 5), CPU_OK);
    ram_read(&f.ram, VMF_DATA, &q, sizeof(q));
    cr_assert_gt(q.version, p.version);
    b = guest_ns(&q, vcpu_tsc(f.v));
    cr_assert_geq(b, a);
    cr_assert_lt(b - a, 100000000000ull);
}

Test(pvclock, wall, .fini = down)
{
    struct published p;
    uint64_t now, wall;

    vmf_create(&f, VMFIX_LONG);
    cr_assert_eq(cpu_wrmsr(f.v, 0x4b564d01, VMF_DATA | 1), CPU_OK);
    cr_assert_eq(cpu_wrmsr(f.v, 0x4b564d00, VMF_DATA + 64), CPU_OK);
    ram_read(&f.ram, VMF_DATA, &p, sizeof(p));
    cr_assert_eq(vmf_peek(&f, VMF_DATA + 64, 4) & 1, 0);
    wall = vmf_peek(&f, VMF_DATA + 68, 4) * 1000000000 + vmf_peek(&f, VMF_DATA + 72, 4);
    now = wall + guest_ns(&p, vcpu_tsc(f.v));
    cr_assert_leq(now / 1000000000 - (uint64_t)time(NULL) + 100, 200);
}

/* Addresses that are no RAM, or cross its end: taken, nothing written, nothing broken. */
Test(pvclock, hostile_addresses, .fini = down)
{
    static const uint64_t bad[] = {VMF_RAM - 8,        VMF_RAM - 1,       MMIO_HOLE_START,
                                   0xffffffffffffffff, (uint64_t)1 << 45, 3};

    vmf_create(&f, VMFIX_LONG);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(cpu_wrmsr(f.v, 0x4b564d01, bad[i] | 1), CPU_OK);
        cr_assert_eq(cpu_wrmsr(f.v, 0x4b564d00, bad[i]), CPU_OK);
    }
    cr_assert_eq(vmf_peek(&f, VMF_RAM - 8, 8), 0);
}
