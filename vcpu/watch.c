#include "vcpu/watch.h"

enum kind { EXECUTE, WRITE, IO, READ_WRITE }; /* DR7.R/Wn */

static bool enabled(const struct cpu *c, unsigned n)
{
    return c->dr[7] >> (2 * n) & 3;
}

static enum kind kind(const struct cpu *c, unsigned n)
{
    return (enum kind)(c->dr[7] >> (16 + 4 * n) & 3);
}

/* LENn counts 1, 2, 8, 4 bytes; the address's low bits do not count (SDM 3B 17.2.5). */
static unsigned length(const struct cpu *c, unsigned n)
{
    static const uint8_t len[] = {1, 2, 8, 4};

    return len[c->dr[7] >> (18 + 4 * n) & 3];
}

static bool overlaps(const struct cpu *c, unsigned n, uint64_t at, unsigned size)
{
    unsigned len = length(c, n);
    uint64_t start = c->dr[n] & ~(uint64_t)(len - 1);

    return at - start < len || start - at < size;
}

bool watch_page(const struct vcpu *v, gva_t lin)
{
    const struct cpu *c = &v->cpu;

    if ((v->debug & DEBUG_DATA) && debug_page(v->vm->debug, lin))
        return true;
    for (unsigned n = 0; n < 4; n++)
        if (enabled(c, n) && (kind(c, n) & 1) && !((c->dr[n] ^ lin) & PAGE_MASK))
            return true;
    return false;
}

void watch_access(struct vcpu *v, gva_t lin, unsigned size, bool write)
{
    const struct cpu *c = &v->cpu;

    if (v->debug & DEBUG_DATA)
        debug_access(v, lin, size, write);
    for (unsigned n = 0; n < 4; n++)
        if (enabled(c, n) && (kind(c, n) == READ_WRITE || (write && kind(c, n) == WRITE)) &&
            overlaps(c, n, lin, size))
            v->watch_hits |= 1u << n;
}

void watch_io(struct vcpu *v, uint16_t port, unsigned size)
{
    const struct cpu *c = &v->cpu;

    if (!(c->cr4 & CR4_DE))
        return;
    for (unsigned n = 0; n < 4; n++)
        if (enabled(c, n) && kind(c, n) == IO && overlaps(c, n, port, size))
            v->watch_hits |= 1u << n;
}

unsigned watch_code(const struct cpu *c, gva_t lin)
{
    unsigned hits = 0;

    for (unsigned n = 0; n < 4; n++)
        if (enabled(c, n) && kind(c, n) == EXECUTE && c->dr[n] == lin)
            hits |= 1u << n;
    return hits;
}
