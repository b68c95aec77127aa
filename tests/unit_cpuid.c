/* CPUID: consistent in itself, nothing offered that is not there, by 1 to 8 CPUs and both vendors.
 */
#include <math.h>
#include <criterion/criterion.h>
#include "tests/vmfix.h"

enum { EAX, EBX, ECX, EDX };

static struct vmfix f;

static void setup(unsigned ncpu)
{
    vmf_create(&f, VMFIX_LONG);
    f.vm.nvcpu = ncpu;
    cpuid_build(&f.cpuid, &f.vm);
}

static void down(void)
{
    vmf_destroy(&f);
}

static uint32_t leaf(uint32_t l, uint32_t sub, unsigned reg)
{
    uint32_t out[4];

    cpu_cpuid(f.v, l, sub, out);
    return out[reg];
}

static bool intel(void)
{
    return leaf(0, 0, EBX) == 0x756e6547;
}

static void host(uint32_t l, uint32_t sub, uint32_t out[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "a"(l), "c"(sub));
}

/* No feature whose state or instructions we do not run. */
Test(cpuid, hidden_features, .fini = down)
{
    static const struct {
        uint32_t leaf, reg, bits;
        const char *what;
    } hidden[] = {
        {1, ECX,
         1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 8 | 1u << 10 | 1u << 11 |
             1u << 14 | 1u << 15 | 1u << 18,
         "DTES64 MONITOR DS-CPL VMX SMX EIST TM2 CNXT SDBG xTPR PDCM DCA"},
        {1, EDX, 1u << 1 | 1u << 18 | 1u << 21 | 1u << 22 | 1u << 29 | 1u << 30 | 1u << 31,
         "VME PSN DS ACPI TM IA64 PBE"},
        {7, EBX,
         1u << 2 | 1u << 4 | 1u << 11 | 1u << 12 | 1u << 14 | 1u << 15 | 1u << 16 | 1u << 17 |
             1u << 21 | 1u << 25 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31,
         "SGX HLE RTM PQM MPX PQE AVX-512 PT"},
        {7, ECX, ~(1u << 2 | 1u << 22), "all but UMIP, RDPID"},
        {7, EDX, ~(1u << 4 | 1u << 29), "all but FSRM, ARCH_CAPABILITIES"},
        {7, EAX, ~0u, "subleaves"},
        {0xa, EAX, ~0u, "PMU"},
        {0x80000001, ECX, ~(1u << 0 | 1u << 1 | 1u << 5 | 1u << 8 | 1u << 22), "SVM, XOP ..."},
        {0x80000001, EDX, 1u << 25 | 1u << 30 | 1u << 31, "FFXSR, 3DNow"},
        {0x80000008, EBX, ~0u, "AMD's"},
    };

    setup(2);
    for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
        cr_assert_eq(leaf(hidden[i].leaf, 0, hidden[i].reg) & hidden[i].bits, 0, "%s",
                     hidden[i].what);
    cr_assert_eq(leaf(0xd, 1, EAX) & ~1u, 0); /* no XSAVEC, XGETBV1, XSAVES */
}

/* User-level features only where the host has them. */
Test(cpuid, within_the_host, .fini = down)
{
    uint32_t h1[4], h7[4], x1[4];

    setup(1);
    host(1, 0, h1);
    host(7, 0, h7);
    host(0x80000001, 0, x1);
    cr_assert_eq(leaf(1, 0, ECX) & ~(h1[ECX] | 1u << 21 | 1u << 24 | 1u << 31), 0);
    cr_assert_eq(leaf(1, 0, EDX) & ~(h1[EDX] | 1u << 9), 0);
    cr_assert_eq(leaf(7, 0, EBX) & ~(h7[EBX] | 2), 0);
    cr_assert_eq(leaf(7, 0, ECX) & ~h7[ECX], 0);
    if (!cpuid_has(&f.cpuid, 1, 0, ECX, 28)) { /* no AVX: nothing that needs it */
        cr_assert_eq(leaf(1, 0, ECX) & (1u << 12 | 1u << 29), 0);
        cr_assert_eq(leaf(7, 0, EBX) & 1u << 5, 0);
    }
    /* The baseline of any 64-bit kernel. */
    cr_assert_eq(leaf(1, 0, EDX) & 0x0700a971, 0x0700a971);
    cr_assert_eq(leaf(0x80000001, 0, EDX) & 0x20100800, 0x20100800);
}

Test(cpuid, xsave_sizes, .fini = down)
{
    uint32_t max;

    setup(1);
    if (!cpuid_has(&f.cpuid, 1, 0, ECX, 26)) {
        cr_assert_eq(leaf(0xd, 0, EAX), 0);
        return;
    }
    cr_assert_eq(leaf(1, 0, ECX) & 1u << 27, 0); /* OSXSAVE follows CR4 */
    cr_assert_eq(cpu_write_cr(f.v, 4, f.v->cpu.cr4 | CR4_OSXSAVE), CPU_OK);
    cr_assert(leaf(1, 0, ECX) & 1u << 27);
    max = 576;
    for (unsigned i = 2; i < 32; i++) {
        uint32_t size = leaf(0xd, i, EAX), off = leaf(0xd, i, EBX);

        cr_assert_eq(!size, !(leaf(0xd, 0, EAX) & 1u << i), "component %u", i);
        if (off + size > max)
            max = off + size;
    }
    cr_assert_eq(leaf(0xd, 0, ECX), max);
    cr_assert_leq(max, XSAVE_AREA_SIZE);
    for (uint64_t xcr0 = 1; xcr0 <= 7; xcr0 += 2) {
        if (cpu_xsetbv(f.v, 0, xcr0))
            continue;
        cr_assert_eq(leaf(0xd, 0, EBX), xcr0 & 4 ? 832 : 576);
    }
}

Test(cpuid, topology, .fini = down)
{
    for (unsigned ncpu = 1; ncpu <= 8; ncpu++) {
        unsigned shift, logical;

        if (ncpu > 1)
            down();
        setup(ncpu);
        f.v->index = ncpu - 1;
        shift = leaf(0xb, 1, EAX);
        logical = leaf(1, 0, EBX) >> 16 & 0xff;
        cr_assert_eq(leaf(1, 0, EBX) >> 24, ncpu - 1);
        cr_assert_eq(!(leaf(1, 0, EDX) & 1u << 28), ncpu == 1);
        cr_assert_geq(logical, ncpu);
        cr_assert_eq(logical, 1u << shift);
        cr_assert_lt(logical, 2 * ncpu);      /* no wider than needed */
        cr_assert_lt((ncpu - 1) >> shift, 1); /* one package */
        cr_assert_eq(leaf(0xb, 0, EAX), 0);
        cr_assert_eq(leaf(0xb, 0, EBX), 1);
        cr_assert_eq(leaf(0xb, 0, ECX), 0x100);
        cr_assert_eq(leaf(0xb, 1, EBX), ncpu);
        cr_assert_eq(leaf(0xb, 1, ECX), 0x201);
        cr_assert_eq(leaf(0xb, 2, EBX), 0);
        cr_assert_eq(leaf(0xb, 2, ECX), 2);
        for (unsigned sub = 0; sub < 4; sub++)
            cr_assert_eq(leaf(0xb, sub, EDX), ncpu - 1);
        if (!intel())
            continue;
        for (unsigned reg = 0; reg < 4; reg++)
            cr_assert_eq(leaf(0x1f, 1, reg), leaf(0xb, 1, reg));
        for (unsigned sub = 0; sub < 4; sub++) {
            unsigned sharing = (leaf(4, sub, EAX) >> 14 & 0xfff) + 1;

            cr_assert_eq(sharing, sub == 3 ? 1u << shift : 1, "cache %u", sub);
            cr_assert_eq((leaf(4, sub, EAX) >> 26) + 1, 1u << shift);
        }
        cr_assert_eq(leaf(4, 4, EAX), 0);
        cr_assert_lt(leaf(1, 0, EBX) >> 8 & 0xff, 9); /* CLFLUSH line 64 */
    }
}

Test(cpuid, hypervisor_and_frequency, .fini = down)
{
    static const uint64_t hz[] = {2600000000, 2599998000, 2599999999, 4600000000,
                                  5000000002, 1000000000, 999999999,  3141592653};
    char sig[13] = {0};

    for (size_t i = 0; i < sizeof(hz) / sizeof(hz[0]); i++) {
        uint64_t den, num, crystal;

        if (i)
            down();
        setup(1);
        f.vm.tsc_hz = hz[i];
        cpuid_build(&f.cpuid, &f.vm);
        cr_assert_eq(leaf(0x40000010, 0, EAX), hz[i] / 1000);
        if (!intel())
            continue;
        den = leaf(0x15, 0, EAX);
        num = leaf(0x15, 0, EBX);
        crystal = leaf(0x15, 0, ECX);
        cr_assert_eq(crystal, LAPIC_TIMER_HZ);
        cr_assert(den && num && num <= 4294, "Linux multiplies the kHz in 32 bits");
        double got = fabs((double)num / (double)den * 1e9 - (double)hz[i]);

        for (double n = 1; n <= 4294; n++) {
            double d = (double)(uint64_t)(n * 1e9 / (double)hz[i] + 0.5);

            cr_assert(d == 0 || got <= fabs(n / d * 1e9 - (double)hz[i]) + 1e-3,
                      "%lu: %g/%g is nearer", hz[i], n, d);
        }
        cr_assert_eq(leaf(0x16, 0, EAX), (hz[i] + 500000) / 1000000);
    }
    for (unsigned i = 0; i < 3; i++) {
        uint32_t r = leaf(0x40000000, 0, i + 1);

        memcpy(sig + 4 * i, &r, 4);
    }
    cr_assert_str_eq(sig, "KVMKVMKVM");
    cr_assert_eq(leaf(0x40000000, 0, EAX), 0x40000010);
    cr_assert_eq(leaf(0x40000001, 0, EAX), 0x0100000b);
    cr_assert(leaf(1, 0, ECX) & 1u << 31);
    for (uint32_t l = 0x40000100; l <= 0x4000ff00; l += 0x100)
        for (unsigned reg = 0; reg < 4; reg++)
            cr_assert_eq(leaf(l, 0, reg), 0);
    cr_assert(leaf(0x80000007, 0, EDX) & 1u << 8);
    cr_assert_eq(leaf(0x80000008, 0, EAX), 46 | 48 << 8);
}

Test(cpuid, past_the_end, .fini = down)
{
    uint32_t genuine[3] = {0x756e6547, 0x6c65746e, 0x49656e69};

    setup(2);
    f.v->index = 1;
    /* As Intel: the data of the last basic leaf; subleaf and all. */
    f.cpuid.leaf[0].ebx = genuine[0];
    f.cpuid.leaf[0].edx = genuine[2];
    f.cpuid.leaf[0].ecx = genuine[1];
    for (unsigned reg = 0; reg < 4; reg++) {
        uint32_t top = leaf(0, 0, EAX);

        cr_assert_eq(leaf(0x100, 1, reg), leaf(top, 1, reg));
        cr_assert_eq(leaf(0x80001000, 1, reg), leaf(top, 1, reg));
    }
    f.cpuid.leaf[0].ebx = 0x68747541;
    for (unsigned reg = 0; reg < 4; reg++)
        cr_assert_eq(leaf(0x100, 1, reg), 0);
    /* Subleaves that do not exist, leaves that ignore them. */
    cr_assert_eq(leaf(7, 1, EBX), 0);
    cr_assert_eq(leaf(0xd, 3, EAX), 0);
    cr_assert_eq(leaf(1, 77, EAX), leaf(1, 0, EAX));
}

/* The table's rows are unique and fit; the brand string is text. */
Test(cpuid, table, .fini = down)
{
    char brand[49] = {0};

    setup(8);
    cr_assert_lt(f.cpuid.n, sizeof(f.cpuid.leaf) / sizeof(f.cpuid.leaf[0]));
    for (unsigned i = 0; i < f.cpuid.n; i++)
        for (unsigned k = 0; k < i; k++)
            cr_assert(f.cpuid.leaf[i].leaf != f.cpuid.leaf[k].leaf ||
                      f.cpuid.leaf[i].sub != f.cpuid.leaf[k].sub);
    for (unsigned i = 0; i < 12; i++) {
        uint32_t r = leaf(0x80000002 + i / 4, 0, i % 4);

        memcpy(brand + 4 * i, &r, 4);
    }
    cr_assert_str_eq(brand, "mayfly virtual CPU @ 2.60GHz");
    cr_assert_eq(cpuid_has(NULL, 1, 0, ECX, 0), false);
    f.v->lapic.base_msr &= ~(uint64_t)0x800;
    cr_assert_eq(leaf(1, 0, EDX) & 1u << 9, 0); /* APIC switched off */
}
