/*
 * CPUID as the guest sees it: the host's vendor, family and user-level features, masked by one
 * table to what the engines execute, and the system side that is ours (SDM 2A CPUID; APM 3
 * appendix E).
 *
 * The host is asked five times (0, 1, 7, 0xd.1, 0x80000001), as each CPUID may be an exit of the
 * host's own hypervisor; the rest is made up.
 */
#include "vcpu/hostcpu.h"
#include "vcpu/system.h"

enum { EAX, EBX, ECX, EDX };

#define BIT(n) ((uint32_t)1 << (n))

static bool host_avx(const struct host_leaf *one)
{
    uint32_t lo = 0, hi;

    if ((one->r[ECX] & (BIT(27) | BIT(28))) != (BIT(27) | BIT(28)))
        return false;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (lo & 6) == 6;
}

/* Leaf 1 ECX, EDX; 7 EBX, ECX, EDX; 80000001 ECX, EDX: bits passed from the host, bits that are
 * ours whatever the host has, and bits that go when the host cannot run AVX. */
static const struct feature_row {
    uint32_t leaf;
    uint8_t reg;
    uint32_t pass, force, avx;
} features[] = {
    {1, ECX,
     /* SSE3 PCLMUL SSSE3 FMA CX16 PCID SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND */
     BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | BIT(17) | BIT(19) | BIT(20) | BIT(22) |
         BIT(23) | BIT(25) | BIT(26) | BIT(28) | BIT(29) | BIT(30),
     /* x2APIC, TSC deadline, hypervisor */
     BIT(21) | BIT(24) | BIT(31),
     /* FMA AVX F16C */
     BIT(12) | BIT(28) | BIT(29)},
    {1, EDX,
     /* FPU DE PSE TSC MSR PAE MCE CX8 SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2 SS
      */
     BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(11) | BIT(12) |
         BIT(13) | BIT(14) | BIT(15) | BIT(16) | BIT(17) | BIT(19) | BIT(23) | BIT(24) | BIT(25) |
         BIT(26) | BIT(27),
     BIT(9) /* APIC */, 0},
    {7, EBX,
     /* FSGSBASE BMI1 AVX2 FDP_EXCPTN_ONLY SMEP BMI2 ERMS INVPCID ZERO_FCS_FDS RDSEED ADX SMAP
        CLFLUSHOPT CLWB SHA */
     BIT(0) | BIT(3) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(9) | BIT(10) | BIT(13) | BIT(18) |
         BIT(19) | BIT(20) | BIT(23) | BIT(24) | BIT(29),
     BIT(1) /* TSC_ADJUST */, BIT(5)},
    {7, ECX, BIT(2) | BIT(22) /* UMIP RDPID */, 0, 0},
    {7, EDX, BIT(4) /* FSRM */, 0, 0},
    {0x80000001, ECX, BIT(0) | BIT(5) | BIT(8) /* LAHF LZCNT PREFETCHW */, 0, 0},
    {0x80000001, EDX,
     BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29) /* SYSCALL NX 1GB RDTSCP LM */, 0, 0},
};

static uint32_t offered(uint32_t leaf, unsigned reg, const struct host_leaf *host, bool avx)
{
    for (unsigned i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
        const struct feature_row *f = &features[i];

        if (f->leaf == leaf && f->reg == reg)
            return ((host->r[reg] & f->pass) | f->force) & ~(avx ? 0 : f->avx);
    }
    return 0;
}

static void add(struct cpuid_table *t, uint32_t leaf, uint32_t sub, uint32_t eax, uint32_t ebx,
                uint32_t ecx, uint32_t edx)
{
    if (t->n < sizeof(t->leaf) / sizeof(t->leaf[0]))
        t->leaf[t->n++] = (struct cpuid_leaf){leaf, sub, eax, ebx, ecx, edx};
}

/* Bits of an APIC id that tell n CPUs apart. */
static unsigned id_bits(unsigned n)
{
    unsigned bits = 0;

    while (n > 1u << bits)
        bits++;
    return bits;
}

/* One package, a core per CPU, one thread a core; L1 and L2 of its own, L3 shared. The sizes are
 * made up. */
struct cache {
    uint32_t type, level, line, ways, sets;
    bool shared;
};
static const struct cache caches[] = {
    {1, 1, 64, 8, 64, false},    /* 32 KiB data */
    {2, 1, 64, 8, 64, false},    /* 32 KiB code */
    {3, 2, 64, 16, 1024, false}, /* 1 MiB */
    {3, 3, 64, 16, 16384, true}, /* 16 MiB */
};

static void add_caches(struct cpuid_table *t, uint32_t leaf, unsigned ncpu)
{
    uint32_t cores = (BIT(id_bits(ncpu)) - 1) & 0x3f, sharing = (BIT(id_bits(ncpu)) - 1) & 0xfff;
    unsigned n = sizeof(caches) / sizeof(caches[0]);

    for (unsigned i = 0; i < n; i++) {
        const struct cache *c = &caches[i];
        uint32_t eax = c->type | c->level << 5 | BIT(8) /* self-initialising */;

        if (c->shared)
            eax |= sharing << 14;
        if (leaf == 4)
            eax |= cores << 26;
        add(t, leaf, i, eax, (c->ways - 1) << 22 | (c->line - 1), c->sets - 1, 0);
    }
    add(t, leaf, n, 0, 0, 0, 0);
}

static void add_topology(struct cpuid_table *t, uint32_t leaf, unsigned ncpu)
{
    add(t, leaf, 0, 0, 1, 1u << 8, 0);                     /* thread */
    add(t, leaf, 1, id_bits(ncpu), ncpu, 1u | 2u << 8, 0); /* core */
}

static void add_xsave(struct cpuid_table *t, bool xsave, bool avx)
{
    uint32_t size = avx ? XSAVE_AREA_SIZE : 576;

    if (!xsave)
        return;
    add(t, 0xd, 0, avx ? 7 : 3, size, size, 0);
    add(t, 0xd, 1, host_cpuid(0xd, 1).r[EAX] & 1 /* XSAVEOPT */, 0, 0, 0);
    if (avx)
        add(t, 0xd, 2, 256, 576, 0, 0);
}

/* The fraction *p / *q nearest to num / den with *p <= max: its continued fraction as far as that
 * allows, the last term cut short where that is nearer than to leave it out. */
static void best_ratio(uint64_t num, uint64_t den, uint64_t max, uint64_t *p, uint64_t *q)
{
    uint64_t p0 = 0, q0 = 1;

    *p = 1;
    *q = 0;
    while (den) {
        uint64_t a = num / den, cut = *p ? (max - p0) / *p : a, rest = num % den;
        uint64_t n = a < cut ? a : cut, p2 = p0 + n * *p, q2 = q0 + n * *q;

        if (n < a && 2 * n <= a)
            break;
        p0 = *p;
        q0 = *q;
        *p = p2;
        *q = q2;
        if (n < a)
            break;
        num = den;
        den = rest;
    }
}

/* 0x15: TSC Hz = ECX * EBX / EAX, where ECX is the crystal that the local APIC's timer counts (SDM
 * 3A 11.5.4). Linux multiplies ECX / 1000 by EBX in 32 bits. 0x16: MHz. */
static void add_frequency(struct cpuid_table *t, uint64_t hz)
{
    uint32_t mhz = (uint32_t)((hz + 500000) / 1000000);
    uint64_t mul, div;

    best_ratio(hz, LAPIC_TIMER_HZ, UINT32_MAX / (LAPIC_TIMER_HZ / 1000), &mul, &div);
    if (mul && div)
        add(t, 0x15, 0, (uint32_t)div, (uint32_t)mul, LAPIC_TIMER_HZ, 0);
    else
        add(t, 0x15, 0, 0, 0, 0, 0);
    add(t, 0x16, 0, mhz, mhz, 100, 0);
}

static void add_brand(struct cpuid_table *t, uint64_t hz)
{
    static const char name[] = "mayfly virtual CPU @ 0.00GHz";
    unsigned centi = (unsigned)((hz + 5000000) / 10000000 % 1000);
    union {
        char c[48];
        uint32_t r[12];
    } s = {{0}};

    for (unsigned i = 0; i < sizeof(name); i++)
        s.c[i] = name[i];
    s.c[21] = (char)('0' + centi / 100);
    s.c[23] = (char)('0' + centi / 10 % 10);
    s.c[24] = (char)('0' + centi % 10);
    for (unsigned i = 0; i < 3; i++)
        add(t, 0x80000002 + i, 0, s.r[4 * i], s.r[4 * i + 1], s.r[4 * i + 2], s.r[4 * i + 3]);
}

static bool vendor_amd(uint32_t ebx)
{
    return ebx == 0x68747541 /* Auth */ || ebx == 0x6f677948 /* Hygo */;
}

static void add_amd(struct cpuid_table *t, unsigned ncpu)
{
    add(t, 0x80000005, 0, 0, 0, 0x20080140, 0x20080140); /* L1: 32 KiB, 8 ways */
    add(t, 0x80000006, 0, 0, 0, 0x04008140, 32u << 18 | 8u << 12 | 0x140);
    add_caches(t, 0x8000001d, ncpu);
    add(t, 0x8000001e, 0, 0, 0, 0, 0);
}

void cpuid_build(struct cpuid_table *t, const struct vm_cpus *vm)
{
    struct host_leaf h0 = host_cpuid(0, 0), h1 = host_cpuid(1, 0), h7 = {{0}};
    struct host_leaf x1 = host_cpuid(0x80000001, 0);
    bool avx = host_avx(&h1), amd = vendor_amd(h0.r[EBX]);
    unsigned ncpu = vm->nvcpu ? vm->nvcpu : 1, bits = id_bits(ncpu);
    uint32_t ext_ecx = offered(0x80000001, ECX, &x1, avx);
    uint32_t ext_edx = offered(0x80000001, EDX, &x1, avx);
    uint32_t ecx = offered(1, ECX, &h1, avx), edx = offered(1, EDX, &h1, avx);
    uint32_t phys = vm->maxphyaddr ? vm->maxphyaddr : 46;
    uint32_t arch_cap = amd ? 0 : BIT(29);

    if (h0.r[EAX] >= 7)
        h7 = host_cpuid(7, 0);
    if (ncpu > 1)
        edx |= BIT(28); /* HTT: the logical count in EBX is valid */

    t->n = 0;
    add(t, 0, 0, amd ? 0x10 : 0x1f, h0.r[EBX], h0.r[ECX], h0.r[EDX]);
    add(t, 1, 0, h1.r[EAX] & 0x0fff3fff, 8u << 8 | (BIT(bits) & 0xff) << 16, ecx, edx);
    add(t, 7, 0, 0, offered(7, EBX, &h7, avx), offered(7, ECX, &h7, avx),
        offered(7, EDX, &h7, avx) | arch_cap);
    add_xsave(t, ecx & BIT(26), avx);
    add_topology(t, 0xb, ncpu);
    add(t, 6, 0, BIT(2) /* ARAT */, 0, 0, 0);
    if (!amd) {
        add(t, 2, 0, 0x00feff01, 0xf0, 0, 0); /* see leaf 4 */
        add_caches(t, 4, ncpu);
        add_frequency(t, vm->tsc_hz);
        add_topology(t, 0x1f, ncpu);
    }

    add(t, 0x40000000, 0, 0x40000010, 0x4b4d564b, 0x564b4d56, 0x4d); /* KVMKVMKVM */
    /* CLOCKSOURCE NOP_IO_DELAY CLOCKSOURCE2 CLOCKSOURCE_STABLE */
    add(t, 0x40000001, 0, BIT(0) | BIT(1) | BIT(3) | BIT(24), 0, 0, 0);
    add(t, 0x40000010, 0, (uint32_t)(vm->tsc_hz / 1000), LAPIC_TIMER_HZ / 1000, 0, 0);

    if (amd) {
        add(t, 0x80000000, 0, 0x8000001e, h0.r[EBX], h0.r[ECX], h0.r[EDX]);
        /* The legacy features show twice (APM 3 E.4.2); TOPOEXT; core count in place of threads. */
        add(t, 0x80000001, 0, h1.r[EAX] & 0x0fff3fff, 0,
            ext_ecx | BIT(22) | (ncpu > 1 ? BIT(1) : 0), ext_edx | (edx & 0x0183f3ff));
        add_amd(t, ncpu);
    } else {
        add(t, 0x80000000, 0, 0x80000008, 0, 0, 0);
        add(t, 0x80000001, 0, 0, 0, ext_ecx, ext_edx);
        add(t, 0x80000006, 0, 0, 0, 1024u << 16 | 8u << 12 | 64, 0);
    }
    add_brand(t, vm->tsc_hz);
    add(t, 0x80000007, 0, 0, 0, 0, BIT(8)); /* invariant TSC */
    add(t, 0x80000008, 0, phys | 48u << 8, 0, amd ? (ncpu - 1) | bits << 12 : 0, 0);
}

/* Does ECX select a part of this leaf? */
static bool leaf_indexed(uint32_t leaf)
{
    return leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd || leaf == 0x1f ||
           leaf == 0x8000001d;
}

static const struct cpuid_leaf *find(const struct cpuid_table *t, uint32_t leaf, uint32_t sub)
{
    if (!leaf_indexed(leaf))
        sub = 0;
    for (unsigned i = 0; i < t->n; i++)
        if (t->leaf[i].leaf == leaf && t->leaf[i].sub == sub)
            return &t->leaf[i];
    return NULL;
}

bool cpuid_has(const struct cpuid_table *t, uint32_t leaf, uint32_t sub, unsigned reg, unsigned bit)
{
    const struct cpuid_leaf *l = t ? find(t, leaf, sub) : NULL;
    uint32_t r;

    if (!l)
        return false;
    r = reg == EAX ? l->eax : reg == EBX ? l->ebx : reg == ECX ? l->ecx : l->edx;
    return r >> bit & 1;
}

bool cpu_is_amd(const struct vcpu *v)
{
    const struct cpuid_table *t = v->vm->cpuid;

    return t && t->n && vendor_amd(t->leaf[0].ebx);
}

/* Leaves past the end: Intel answers with the highest basic leaf's data, AMD with zeros (SDM 2A
 * CPUID, "INPUT EAX"). The hypervisor's range is ours: zeros. */
static uint32_t clamp_leaf(const struct cpuid_table *t, uint32_t leaf)
{
    uint32_t max = leaf >> 31 ? 0x80000000 : 0;
    const struct cpuid_leaf *top = find(t, max, 0);

    if (leaf >> 24 == 0x40 || !top || leaf <= top->eax || vendor_amd(t->leaf[0].ebx))
        return leaf;
    return t->leaf[0].eax;
}

void cpu_cpuid(const struct vcpu *v, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    const struct cpuid_table *t = v->vm->cpuid;
    const struct cpu *c = &v->cpu;
    const struct cpuid_leaf *l;

    out[EAX] = out[EBX] = out[ECX] = out[EDX] = 0;
    if (!t || !t->n)
        return;
    leaf = clamp_leaf(t, leaf);
    l = find(t, leaf, sub);
    if (l) {
        out[EAX] = l->eax;
        out[EBX] = l->ebx;
        out[ECX] = l->ecx;
        out[EDX] = l->edx;
    }

    /* What depends on the CPU and its present state. */
    switch (leaf) {
    case 1:
        out[EBX] |= v->index << 24;
        if (c->cr4 & CR4_OSXSAVE)
            out[ECX] |= BIT(27);
        if (!(v->lapic.base_msr & 0x800)) /* globally disabled: SDM 3A 11.4.3 */
            out[EDX] &= ~BIT(9);
        break;
    case 0xb:
    case 0x1f:
        if (!l)
            out[ECX] = sub & 0xff;
        out[EDX] = v->index;
        break;
    case 0xd:
        if (sub == 0 && l)
            out[EBX] = c->xcr0 & 4 ? XSAVE_AREA_SIZE : 576;
        break;
    case 0x8000001e:
        out[EAX] = out[EBX] = v->index;
        break;
    default:
        break;
    }
}
