/*
 * Physical memory. RAM comes zeroed from the monitor, so pages never used before are handed out
 * from the bottom as they are; pages that came back are kept in a list through their own first
 * words and cleared when they go out again. Small blocks come from pages cut into powers of two.
 */
#include "guests/runtime/runtime.h"

#define RAM_END   (3ull << 30) /* what the monitor's tables map */
#define MIN_SHIFT 5u
#define CLASSES   8u /* 32 bytes to a page */

static uint64_t next, top, first;
static uint64_t free_list, nfree;
static void *stacks;
static void *classes[CLASSES];

void frames_init(uint64_t start)
{
    first = next = page_up(start);
    top = page_down(least(boot.mem_size, RAM_END));
    if (top < next + 64 * PAGE)
        panic("mayfly: too little memory for this program: give more with -m");
}

uint64_t frame_alloc(void)
{
    uint64_t pa = free_list;

    if (!pa) {
        if (next >= top)
            return 0;
        pa = next;
        next += PAGE;
        return pa;
    }
    free_list = *(uint64_t *)kva(pa);
    nfree--;
    fill(kva(pa), 0, PAGE);
    return pa;
}

void frame_free(uint64_t pa)
{
    *(uint64_t *)kva(pa) = free_list;
    free_list = pa;
    nfree++;
}

uint64_t frames_free(void)
{
    return nfree + (top - next) / PAGE;
}

uint64_t frames_total(void)
{
    return (top - first) / PAGE;
}

void *stack_alloc(void)
{
    void *s = stacks;

    if (s) {
        stacks = *(void **)s;
        return (char *)s + STACK_BYTES;
    }
    if (top - next < STACK_BYTES)
        return NULL;
    s = kva(next);
    next += STACK_BYTES;
    return (char *)s + STACK_BYTES;
}

void stack_free(void *stack_top)
{
    void *s = (char *)stack_top - STACK_BYTES;

    *(void **)s = stacks;
    stacks = s;
}

static unsigned class_of(size_t n)
{
    unsigned c = 0;

    while (((size_t)1 << (MIN_SHIFT + c)) < n)
        c++;
    return c;
}

void *kalloc(size_t n)
{
    unsigned c = class_of(n);
    size_t size = (size_t)1 << (MIN_SHIFT + c);
    void *p = classes[c];

    if (!p) {
        uint64_t pa = frame_alloc();

        if (!pa)
            return NULL;
        if (size == PAGE)
            return kva(pa);
        for (size_t at = size; at < PAGE; at += size)
            kfree((char *)kva(pa) + at, size);
        return kva(pa);
    }
    classes[c] = *(void **)p;
    fill(p, 0, size);
    return p;
}

void kfree(void *p, size_t n)
{
    unsigned c = class_of(n);

    if (!p)
        return;
    if (c == CLASSES - 1) {
        frame_free(kpa(p));
        return;
    }
    *(void **)p = classes[c];
    classes[c] = p;
}
