/* The local APIC by its registers (SDM 3A 11.4), for a CPU that has no x2APIC or no TSC deadline:
 * its timer counts down once, at a rate that is measured. */
#include "guests/runtime/standalone.h"

#define PAGE_OF_IMAGE 8u /* entry of image_pd: the 2 MiB that begin with the registers */
#define APIC_BASE     0xfee00000ull
#define LONGEST       (NS / 2)

enum {
    EOI = 0xb0,
    SPURIOUS = 0xf0,
    LVT_TIMER = 0x320,
    INITIAL = 0x380,
    CURRENT = 0x390,
    DIVIDE = 0x3e0
};

extern uint64_t image_pd[];
static uint64_t hz;

static volatile uint32_t *reg(unsigned at)
{
    return (volatile uint32_t *)(KIMAGE + PAGE_OF_IMAGE * (2ull << 20) + at);
}

bool xapic_init(void)
{
    const uint32_t both = 1u << 21 | 1u << 24;
    uint32_t a = 1, b, c = 0, d;

    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if ((c & both) == both)
        return false;
    image_pd[PAGE_OF_IMAGE] = APIC_BASE | 0x93 | 1ull << 63; /* P, W, PCD, PS, NX */
    __asm__ volatile("" : : : "memory");
    *reg(SPURIOUS) = 0x100 | VECTOR_SPURIOUS;
    *reg(DIVIDE) = 0xb; /* by 1 */
    *reg(LVT_TIMER) = 1u << 16 | VECTOR_TIMER;
    *reg(INITIAL) = UINT32_MAX;
    for (uint64_t start = tsc(); tsc() - start < boot.tsc_hz / 1000;)
        __asm__ volatile("pause");
    hz = (uint64_t)(UINT32_MAX - *reg(CURRENT)) * 1000;
    *reg(INITIAL) = 0;
    *reg(LVT_TIMER) = VECTOR_TIMER; /* one shot */
    return true;
}

/* A time far away is armed in pieces: who waits for it looks at the clock, and arms again. */
void xapic_arm(uint64_t ns)
{
    uint64_t now = clock_ns(), left = ns > now ? least(ns - now, LONGEST) : 0;

    *reg(INITIAL) = ns == NEVER ? 0 : (uint32_t)least(left * hz / NS + 1, UINT32_MAX);
}

void xapic_eoi(void)
{
    *reg(EOI) = 0;
}
