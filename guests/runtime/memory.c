/*
 * The program's memory: from the end of the image to the end of RAM below the hole.
 *
 *   image | heap (brk) ->      <- mappings | guard | stack | top
 *
 * RAM comes zeroed from the monitor, so what was never used needs no clearing; what comes back
 * through munmap or a shrunk brk is cleared when it is handed out again. Freed mappings are kept as
 * a sorted array of extents; should it overflow, the memory is lost to the program, not reused
 * wrongly. Protections are not enforced, but page 0 and the guard below the stack fault.
 */
#include "guests/runtime/runtime.h"

#define PAGE    4096ull
#define LARGE   (2ull << 20)
#define RAM_END (3ull << 30) /* RAM past the hole is not mapped at the entry */
#define EXTENTS 512
#define P_TABLE 3ull /* present, writable */

enum { FLAG_FIXED = 0x10, FLAG_ANONYMOUS = 0x20, ADVISE_DONTNEED = 4, ADVISE_FREE = 8 };

static uint64_t heap_start, heap_end, heap_high; /* high: the furthest brk so far */
static uint64_t map_low, map_top;                /* mappings live in [map_low, map_top) */
static struct extent {
    uint64_t start, end;
} free_list[EXTENTS];
static unsigned nfree;
static uint64_t low_table[512] __attribute__((aligned(4096)));

static uint64_t page_up(uint64_t v)
{
    return (v + PAGE - 1) & ~(PAGE - 1);
}

/* The page directory entry of a linear address in the identity map. */
static uint64_t *directory_entry(uint64_t lin)
{
    uint64_t *table;

    __asm__ volatile("movq %%cr3, %0" : "=r"(table));
    table = (uint64_t *)((uint64_t)table & ~0xfffull);
    table = (uint64_t *)(table[0] & 0xffffffffff000);
    table = (uint64_t *)(table[lin >> 30 & 511] & 0xffffffffff000);
    return &table[lin >> 21 & 511];
}

static void protect_null(void)
{
    for (uint64_t i = 1; i < 512; i++)
        low_table[i] = i * PAGE | P_TABLE;
    *directory_entry(0) = (uintptr_t)low_table | P_TABLE;
    __asm__ volatile("movq %%cr3, %%rax; movq %%rax, %%cr3" : : : "rax", "memory");
}

void memory_init(uint64_t stack_bytes, uint64_t *stack_top)
{
    const struct mayfly_boot *b = &runtime_boot;
    uint64_t top = b->mem_size < RAM_END ? b->mem_size : RAM_END;
    uint64_t start = page_up(b->image_end);

    if (b->initrd_len && b->initrd_gpa >= start && b->initrd_gpa < top) {
        if (b->initrd_gpa - start > top - b->initrd_gpa - b->initrd_len)
            top = b->initrd_gpa;
        else
            start = page_up(b->initrd_gpa + b->initrd_len);
    }
    top &= ~(PAGE - 1);
    *stack_top = top;
    if (top > start && top - start >= 4 * stack_bytes) {
        uint64_t guard = (top - stack_bytes - LARGE) & ~(LARGE - 1);

        *directory_entry(guard) = 0;
        map_top = guard;
    } else {
        static const char small[] = "guest: too little memory\n";

        if (top < start + 16 * PAGE) {
            runtime_call(MAYFLY_CALL_WRITE, 2, small, sizeof(small) - 1);
            runtime_exit(125);
        }
        map_top = (top - (top - start) / 4) & ~(PAGE - 1);
    }
    heap_start = heap_end = heap_high = start;
    map_low = map_top;
    protect_null();
}

uint64_t memory_brk(uint64_t want)
{
    if (want < heap_start || want > map_low)
        return heap_end;
    if (want > heap_end && heap_end < heap_high)
        fill_bytes((void *)heap_end, 0, (want < heap_high ? want : heap_high) - heap_end);
    if (want > heap_high)
        heap_high = want;
    heap_end = want;
    return want;
}

static void extent_remove(unsigned i)
{
    move_bytes(&free_list[i], &free_list[i + 1], (--nfree - i) * sizeof(free_list[0]));
}

static void extent_add(uint64_t start, uint64_t end)
{
    unsigned i = 0;

    while (i < nfree && free_list[i].end < start)
        i++;
    while (i < nfree && free_list[i].start <= end) {
        if (free_list[i].start < start)
            start = free_list[i].start;
        if (free_list[i].end > end)
            end = free_list[i].end;
        extent_remove(i);
    }
    if (nfree == EXTENTS)
        return;
    for (unsigned j = nfree++; j > i; j--)
        free_list[j] = free_list[j - 1];
    free_list[i] = (struct extent){start, end};
}

/* Is [start, end) all handed out: heap below brk, or mappings that no free extent touches? */
static int in_use(uint64_t start, uint64_t end)
{
    if (start >= heap_start && end <= page_up(heap_end))
        return 1;
    if (start < map_low || end > map_top)
        return 0;
    for (unsigned i = 0; i < nfree; i++)
        if (free_list[i].start < end && start < free_list[i].end)
            return 0;
    return 1;
}

int64_t memory_map(uint64_t addr, uint64_t len, int flags)
{
    if (!(flags & FLAG_ANONYMOUS))
        return -E_BADF;
    if (!len)
        return -E_INVAL;
    if (len > map_top)
        return -E_NOMEM;
    len = page_up(len);
    if (flags & FLAG_FIXED) {
        if (addr % PAGE)
            return -E_INVAL;
        if (addr + len < addr || !in_use(addr, addr + len))
            return -E_NOMEM;
        fill_bytes((void *)addr, 0, len);
        return (int64_t)addr;
    }
    for (unsigned i = 0; i < nfree; i++) {
        struct extent *e = &free_list[i];

        if (e->end - e->start < len)
            continue;
        addr = e->end -= len;
        if (e->start == e->end)
            extent_remove(i);
        fill_bytes((void *)addr, 0, len);
        return (int64_t)addr;
    }
    if (map_low - page_up(heap_high) < len)
        return -E_NOMEM;
    return (int64_t)(map_low -= len);
}

int64_t memory_unmap(uint64_t addr, uint64_t len)
{
    uint64_t end = addr + page_up(len);

    if (addr % PAGE || !len || end < addr)
        return -E_INVAL;
    if (addr < map_low)
        addr = map_low;
    if (end > map_top)
        end = map_top;
    if (addr < end)
        extent_add(addr, end);
    return 0;
}

int64_t memory_advise(uint64_t addr, uint64_t len, int advice)
{
    if (addr % PAGE)
        return -E_INVAL;
    if (advice != ADVISE_DONTNEED)
        return 0;
    len = page_up(len);
    if (addr + len < addr || !in_use(addr, addr + len))
        return -E_NOMEM;
    fill_bytes((void *)addr, 0, len);
    return 0;
}
