/* brk, and the room between it and the mappings. */
#include <asm/mman.h>
#include "guests/runtime/vm.h"

#define BLOCK     (2ull << 20)
#define HEAP_STEP (256ull << 10)
#define HEAP_ROOM (16ull << 20) /* for brk, before mappings begin */

static uint64_t brk_start, brk_now, heap_end;

/* The heap is mapped further than brk says, so that it and the program's data are one stretch from
 * the start, and small steps of brk cost nothing. */
void vm_set_brk(uint64_t start)
{
    brk_start = brk_now = start;
    heap_end = page_up(start);
    if (vm_affordable(HEAP_STEP) && vma_free(heap_end, heap_end + HEAP_STEP) &&
        !vm_map(heap_end, HEAP_STEP, PROT_READ | PROT_WRITE, false, NULL, 0, "[heap]")) {
        struct fault f;

        vm_fault(heap_end, true, false, &f);
        heap_end += HEAP_STEP;
    }
}

uint64_t vm_heap_limit(void)
{
    return page_up(brk_start) + least(HEAP_ROOM, page_down(linear_high() / 8));
}

/* Before the first large mapping: what lies between the heap and it. */
void heap_bridge(void)
{
    static bool done;
    uint64_t end = vm_heap_limit();

    if (done || heap_end >= end || !vma_free(heap_end, end))
        return;
    done = true;
    if (vm_map(heap_end, end - heap_end, PROT_READ | PROT_WRITE, false, NULL, 0, "[heap]"))
        return;
    heap_end = end;
    for (uint64_t at = page_up(brk_start); at < end; at += BLOCK) {
        struct fault f;

        vm_fault(at, true, false, &f);
    }
}

int64_t sys_brk(uint64_t want)
{
    uint64_t from = page_up(brk_now), to = page_up(want);

    uint64_t stack = stack_top - STACK_SIZE - STACK_GUARD;

    if (want < brk_start || want > MMAP_TOP || (brk_start < stack && want > stack))
        return (int64_t)brk_now;
    if (to > heap_end) {
        uint64_t end = (to + HEAP_STEP - 1) & ~(HEAP_STEP - 1);

        if (end > stack || !vm_affordable(end - heap_end) || !vma_free(heap_end, end))
            end = to;
        if (!limit_maps(end - heap_end) || !vm_affordable(end - heap_end) ||
            !vma_free(heap_end, end) ||
            vm_map(heap_end, end - heap_end, PROT_READ | PROT_WRITE, false, NULL, 0, "[heap]"))
            return (int64_t)brk_now;
        heap_end = end;
    } else if (to < from) {
        pages_drop(to, from);
    }
    brk_now = want;
    return (int64_t)want;
}
