#include "vcpu/hostcpu.h"

#include <stdatomic.h>

enum { EAX, EBX, ECX, EDX };

static struct host_leaf ask(uint32_t leaf, uint32_t sub)
{
    struct host_leaf h;

    __asm__ volatile("cpuid"
                     : "=a"(h.r[EAX]), "=b"(h.r[EBX]), "=c"(h.r[ECX]), "=d"(h.r[EDX])
                     : "a"(leaf), "c"(sub));
    return h;
}

static struct {
    _Atomic uint64_t key; /* leaf and sub, plus 1; 0: empty */
    struct host_leaf h;
} known[HOST_LEAVES];
static _Atomic unsigned used;

static void know(uint64_t key, const struct host_leaf *h)
{
    unsigned i = atomic_fetch_add(&used, 1);

    if (i < HOST_LEAVES) {
        known[i].h = *h;
        atomic_store_explicit(&known[i].key, key, memory_order_release);
    } else {
        atomic_store(&used, HOST_LEAVES);
    }
}

void host_cpuid_know(const struct host_known *k)
{
    know(((uint64_t)k->leaf << 32 | k->sub) + 1, &k->h);
}

unsigned host_cpuid_known(struct host_known k[HOST_LEAVES])
{
    unsigned n = 0;

    for (unsigned i = 0; i < HOST_LEAVES; i++) {
        uint64_t key = atomic_load_explicit(&known[i].key, memory_order_acquire);

        if (key)
            k[n++] =
                (struct host_known){(uint32_t)((key - 1) >> 32), (uint32_t)(key - 1), known[i].h};
    }
    return n;
}

struct host_leaf host_cpuid(uint32_t leaf, uint32_t sub)
{
    uint64_t key = ((uint64_t)leaf << 32 | sub) + 1;

    for (unsigned i = 0; i < HOST_LEAVES; i++)
        if (atomic_load_explicit(&known[i].key, memory_order_acquire) == key)
            return known[i].h;
    struct host_leaf h = ask(leaf, sub);

    know(key, &h);
    return h;
}

bool host_virtualizes(void)
{
    struct host_leaf one = host_cpuid(1, 0);

    if (one.r[ECX] & 1u << 5)
        return true;
    /* Family 6 is Intel's, VIA's, and AMD's before there was SVM: one CPUID less. */
    if ((one.r[EAX] >> 8 & 15) == 6)
        return false;
    return host_cpuid(0x80000001, 0).r[ECX] & 1u << 2;
}
