/*
 * String instructions from translated code, the common case: flat addresses, DF = 0, both
 * operands in pages that the TLB has. Page by page with the host's own string instruction, which
 * keeps overlap and flags exact. Anything else is left to the interpreter where it stopped.
 */
#include "vcpu/bt/bt_int.h"

enum { MOVS = 0xa4, CMPS = 0xa6, STOS = 0xaa, LODS = 0xac, SCAS = 0xae };

/* Elements of size from lin to the end of its page. */
static uint64_t room(uint64_t lin, unsigned size)
{
    return (PAGE_SIZE - (lin & (PAGE_SIZE - 1))) / size;
}

#define HOST_STRING(op, size, pre, ...)               \
    switch (size) {                                   \
    case 1:                                           \
        __asm__ volatile(pre " " op "b" __VA_ARGS__); \
        break;                                        \
    case 2:                                           \
        __asm__ volatile(pre " " op "w" __VA_ARGS__); \
        break;                                        \
    case 4:                                           \
        __asm__ volatile(pre " " op "l" __VA_ARGS__); \
        break;                                        \
    default:                                          \
        __asm__ volatile(pre " " op "q" __VA_ARGS__); \
    }

/* Up to n elements of MOVS or STOS. */
static void move(unsigned op, unsigned size, uint8_t *to, const uint8_t *from, uint64_t ax,
                 uint64_t n)
{
    if (op == MOVS) {
        HOST_STRING("movs", size, "rep", : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    } else {
        HOST_STRING("stos", size, "rep", : "+D"(to), "+c"(n) : "a"(ax) : "memory");
    }
}

/* Up to n > 0 elements of CMPS or SCAS; returns how many were done, and the host's flags. */
static uint64_t compare(unsigned op, unsigned size, bool ne, const uint8_t *di, const uint8_t *si,
                        uint64_t ax, uint64_t n, uint64_t *flags)
{
    uint64_t left = n;

    if (op == CMPS && ne) {
        HOST_STRING("cmps", size, "repne", "\n\tpushfq\n\tpop %3"
                    : "+D"(di), "+S"(si), "+c"(left), "=r"(*flags)
                    :
                    : "memory", "cc");
    } else if (op == CMPS) {
        HOST_STRING("cmps", size, "repe", "\n\tpushfq\n\tpop %3"
                    : "+D"(di), "+S"(si), "+c"(left), "=r"(*flags)
                    :
                    : "memory", "cc");
    } else if (ne) {
        HOST_STRING("scas", size, "repne", "\n\tpushfq\n\tpop %2"
                    : "+D"(di), "+c"(left), "=r"(*flags)
                    : "a"(ax)
                    : "memory", "cc");
    } else {
        HOST_STRING("scas", size, "repe", "\n\tpushfq\n\tpop %2"
                    : "+D"(di), "+c"(left), "=r"(*flags)
                    : "a"(ax)
                    : "memory", "cc");
    }
    return n - left;
}

static void set_flags(struct vcpu *v, uint64_t f)
{
    v->hot.flags = (uint16_t)((f & 0xd5) << 8 | 0x200 | (f >> 11 & 1));
}

static void load(struct vcpu *v, unsigned size, const uint8_t *p)
{
    uint64_t *ax = &v->cpu.gpr[RAX];

    switch (size) {
    case 1:
        *ax = (*ax & ~(uint64_t)0xff) | *p;
        break;
    case 2:
        *ax = (*ax & ~(uint64_t)0xffff) | *(const uint16_t *)(const void *)p;
        break;
    case 4:
        *ax = *(const uint32_t *)(const void *)p;
        break;
    default:
        *ax = *(const uint64_t *)(const void *)p;
    }
}

/* One stretch that stays in its page(s): elements done, 0 when it cannot be done here. */
static uint64_t stretch(struct vcpu *v, unsigned op, unsigned size, uint64_t n, bool ne, bool *stop)
{
    uint64_t *g = v->cpu.gpr, flags, m;
    enum tlb_ctx ctx = mem_tlb_ctx(v, v->cpu.cpl == 3 ? ACC_USER : 0);
    bool write = op == MOVS || op == STOS, si = op == MOVS || op == CMPS || op == LODS;
    uint8_t *to = NULL, *from = NULL;

    if (op != LODS) {
        to = tlb_lookup(&v->tlb, ctx, write ? TLB_W : TLB_R, g[RDI], size);
        if (!to)
            return 0;
        m = room(g[RDI], size);
        n = n < m ? n : m;
    }
    if (si) {
        from = tlb_lookup(&v->tlb, ctx, TLB_R, g[RSI], size);
        if (!from)
            return 0;
        m = room(g[RSI], size);
        n = n < m ? n : m;
    }
    if (write) {
        move(op, size, to, from, g[RAX], n);
    } else if (op == LODS) {
        load(v, size, from + (n - 1) * size);
    } else {
        n = compare(op, size, ne, to, from, g[RAX], n, &flags);
        set_flags(v, flags);
        *stop = !(flags & FL_ZF) != ne;
    }
    uint64_t mask = cpu_code64(&v->cpu) ? ~(uint64_t)0 : UINT32_MAX;

    if (op != LODS)
        g[RDI] = (g[RDI] + n * size) & mask;
    if (si)
        g[RSI] = (g[RSI] + n * size) & mask;
    return n;
}

bool bt_string(struct vcpu *v, uint64_t info)
{
    unsigned size = SITE_SIZE(info) & 15, op = SITE_GET_OP(info) & 0xfe;
    bool stop = false;
    uint64_t n, *rcx = &v->cpu.gpr[RCX];
    uint16_t flags = v->hot.flags;

    if (!(info & SITE_REP))
        return stretch(v, op, size, 1, true, &stop) == 1;
    while (*rcx) {
        n = stretch(v, op, size, *rcx, info & SITE_REPNE, &stop);
        if (!n)
            break;
        *rcx -= n;
        if (stop || !*rcx)
            return true;
        if (atomic_load_explicit(&v->kicked, memory_order_relaxed))
            break;
    }
    if (!*rcx)
        return true;
    /* The element to come sets flags, or faults: then they are as before the instruction (SDM 2B,
     * REP). */
    v->hot.flags = flags;
    return false;
}
