/* What a guest must not do: each ends the run with a line of the monitor's. */
#include "guests/hvt/hvt.h"

#define OUT_OF_MEMORY 0xfffff000u

static uint64_t word[64];
static const uint64_t constant[512] = {1};

/* Whatever the compiler thinks it knows. */
static void *any(const volatile void *p)
{
    void *q;

    __asm__ volatile("" : "=r"(q) : "0"(p));
    return q;
}

static void bad_puts(uint64_t data, uint64_t len)
{
    volatile struct hvt_puts p = {data, len};

    hvt_call(HVT_PUTS, (uint32_t)(uintptr_t)&p);
}

static void bad_read(void *to)
{
    hvt_block(false, hvt_device("disk0"), 0, to, 512);
}

static void out8(uint16_t port)
{
    __asm__ volatile("outb %0, %1" : : "a"((uint8_t)0), "d"(port));
}

static void in32(uint16_t port)
{
    uint32_t v;

    __asm__ volatile("inl %1, %0" : "=a"(v) : "d"(port));
}

static void execute(const void *p)
{
    ((void (*)(void))any(p))();
}

static void halt_with(uint64_t cookie)
{
    hvt_exit(0, cookie);
}

/* A net buffer that is not there. */
static void bad_net(bool write)
{
    uint64_t len = 100;

    hvt_net(write, hvt_device("net0"), (void *)(uintptr_t)OUT_OF_MEMORY, &len);
}

static void store(const volatile void *p)
{
    *(volatile uint64_t *)any(p) = 1;
}

/* --- every way to store, at an address that goes bad once the code is hot --- */

static uint64_t room[1 << 16];

static void by_mov(uint64_t *p)
{
    *(volatile uint64_t *)p = 1;
}

static void by_stos(uint64_t *p)
{
    uint64_t n = 3;

    __asm__ volatile("rep stosq" : "+D"(p), "+c"(n) : "a"(1) : "memory");
}

static void by_movs(uint64_t *p)
{
    uint64_t n = 3, *from = room;

    __asm__ volatile("rep movsb" : "+D"(p), "+S"(from), "+c"(n) : : "memory");
}

static void by_xadd(uint64_t *p)
{
    uint64_t one = 1;

    __asm__ volatile("lock xaddq %0, (%1)" : "+r"(one) : "r"(p) : "memory");
}

static void by_push(uint64_t *p)
{
    uint64_t sp;

    __asm__ volatile("movq %%rsp, %0; leaq 8(%1), %%rsp; pushq $1; movq %0, %%rsp"
                     : "=&r"(sp)
                     : "r"(p)
                     : "memory");
}

static void by_sse(uint64_t *p)
{
    __asm__ volatile("pxor %%xmm0, %%xmm0; movups %%xmm0, (%0)" : : "r"(p) : "memory");
}

static const struct {
    const char *name;
    void (*store)(uint64_t *p);
} ways[] = {{"hot-mov", by_mov},   {"hot-stos", by_stos}, {"hot-movs", by_movs},
            {"hot-xadd", by_xadd}, {"hot-push", by_push}, {"hot-sse", by_sse}};

static bool hot(const char *what)
{
    uint64_t end = hvt_tsc_ns() + 40000000;

    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (!hvt_same(what, ways[i].name))
            continue;
        while (hvt_tsc_ns() < end)
            for (unsigned k = 0; k < 1u << 12; k++)
                ways[i].store(room + 8 + k * 8);
        ways[i].store(any(constant + 16));
        return constant[16] || constant[17] || constant[18];
    }
    return false;
}

/* A byte of code: RET. In data, and in what is to be read only. */
static uint8_t ret_in_data[64] = {0xc3};
static const uint8_t ret_in_rodata[64] = {0xc3};

bool hvt_hostile(const char *what)
{
    uint64_t size = hvt_info->mem_size;

    if (hvt_same(what, "block-nowhere"))
        hvt_call(HVT_WALLTIME, OUT_OF_MEMORY);
    else if (hvt_same(what, "block-over-the-end"))
        hvt_call(HVT_POLL, (uint32_t)size - 8);
    else if (hvt_same(what, "results-into-rodata"))
        hvt_call(HVT_WALLTIME, (uint32_t)(uintptr_t)constant);
    else if (hvt_same(what, "results-into-text"))
        hvt_call(HVT_WALLTIME, HVT_LOAD_MIN);
    else if (hvt_same(what, "puts-nowhere"))
        bad_puts(size, 1);
    else if (hvt_same(what, "puts-too-long"))
        bad_puts(HVT_LOAD_MIN, size);
    else if (hvt_same(what, "puts-wraps"))
        bad_puts(HVT_LOAD_MIN, ~0ull);
    else if (hvt_same(what, "puts-far"))
        bad_puts(~0ull - 100, 50);
    else if (hvt_same(what, "read-nowhere"))
        bad_read((void *)(uintptr_t)(size - 256));
    else if (hvt_same(what, "read-into-text"))
        bad_read((void *)(uintptr_t)HVT_LOAD_MIN);
    else if (hvt_same(what, "read-into-rodata"))
        bad_read(any(constant));
    else if (hvt_same(what, "net-write-nowhere"))
        bad_net(true);
    else if (hvt_same(what, "net-read-nowhere"))
        bad_net(false);
    else if (hvt_same(what, "cookie-nowhere"))
        halt_with(size - 100);
    else if (hvt_same(what, "cookie-far"))
        halt_with(~0ull - 511);
    else if (hvt_same(what, "call-0"))
        hvt_call(0, (uint32_t)(uintptr_t)word);
    else if (hvt_same(what, "call-9"))
        hvt_call(HVT_CALLS, (uint32_t)(uintptr_t)word);
    else if (hvt_same(what, "kick"))
        hvt_call(0x100, 0);
    else if (hvt_same(what, "byte-call"))
        out8(HVT_PORT + HVT_PUTS);
    else if (hvt_same(what, "read-port"))
        in32(HVT_PORT + HVT_POLL);
    else if (hvt_same(what, "write-text"))
        store(hvt_vectors);
    else if (hvt_same(what, "write-rodata"))
        store(constant);
    else if (hvt_same(what, "run-data"))
        execute(ret_in_data);
    else if (hvt_same(what, "run-rodata"))
        execute(ret_in_rodata);
    else
        return hot(what);
    return true;
}
