/*
 * Physical memory. What lies behind the program's file is in two parts:
 *
 *   pool: page tables, kernel stacks, small blocks, files | linear part | hole | more pool, from 4
 * GiB
 *
 * A page of the linear part belongs to the address LINEAR_LOW + its distance from the part's start:
 * program memory there is one stretch with one offset, which the bt engine reaches without a TLB
 * probe. When the pool is used up, any free page of the linear part will do, from its middle.
 *
 * RAM comes zeroed from the monitor, so pages never used before go out as they are; what came back
 * is cleared when it goes out again. Small blocks come from pages cut into powers of two.
 */
#include "guests/runtime/runtime.h"

#define LOW_END   (3ull << 30) /* what the monitor's tables map */
#define HIGH      (4ull << 30)
#define HIGH_MOST (500ull << 30) /* one entry of the PML4 shows it all */
#define POOL_MIN  (1ull << 20)
#define LARGE     (2ull << 20)
#define CLASSES   8u /* 32 bytes to a page */

enum { FRESH, DIRTY, USED };

static uint64_t next, pool_end, top, first;
static uint64_t pool_list, nfree, cursor;
static uint64_t high_next, high_end;
static uint8_t *state; /* of the linear part's pages */
static void *stacks;
static void *classes[CLASSES];
static char *fresh[CLASSES], *fresh_end[CLASSES]; /* of a page not yet cut up */

void frames_init(uint64_t start)
{
    next = page_up(start);
    top = page_down(least(boot.mem_size, LOW_END));
    if (top < next + 64 * PAGE)
        panic("mayfly: too little memory for this program: give more with -m");
    state = kva(next);
    if (boot.flags & MAYFLY_BOOT_DIRTY)
        fill(state, DIRTY, (top - next) / PAGE);
    next += page_up((top - next) / PAGE);
    first = next;
    pool_end = (next + POOL_MIN + LARGE - 1) & ~(LARGE - 1);
    if (pool_end > next + (top - next) / 2)
        pool_end = next + page_down((top - next) / 2);
    cursor = page_down((pool_end + top) / 2);
    nfree = (top - next) / PAGE;
}

uint64_t frames_high(void)
{
    return boot.mem_size > LOW_END ? least(page_down(boot.mem_size - LOW_END), HIGH_MOST) : 0;
}

void frames_add_high(void)
{
    high_next = HIGH;
    high_end = HIGH + frames_high();
    nfree += frames_high() / PAGE;
}

uint64_t linear_high(void)
{
    return LINEAR_LOW + (top - pool_end);
}

static uint8_t *state_of(uint64_t pa)
{
    return &state[(pa - pool_end) / PAGE];
}

static void take(uint64_t pa)
{
    if (*state_of(pa) == DIRTY)
        fill(kva(pa), 0, PAGE);
    *state_of(pa) = USED;
    nfree--;
}

static uint64_t linear_frame(uint64_t at)
{
    return at >= LINEAR_LOW && at < linear_high() ? at - LINEAR_LOW + pool_end : 0;
}

uint64_t frame_for(uint64_t at)
{
    uint64_t pa = linear_frame(at);

    if (pa && *state_of(pa) != USED) {
        take(pa);
        return pa;
    }
    return frame_alloc();
}

/* A start takes some hundred pages so; where it is interpreted (vcpu/bt runs cold code so) each
 * instruction counts. */
static bool all_zero(const void *p, uint64_t bytes)
{
    uint64_t eights = bytes / 8, rest = bytes % 8;
    bool zero = true;

    if (eights)
        __asm__("repe scasq" : "+D"(p), "+c"(eights), "=@ccz"(zero) : "a"(0) : "memory");
    if (zero && rest)
        __asm__("repe scasb" : "+D"(p), "+c"(rest), "=@ccz"(zero) : "a"(0) : "memory");
    return zero;
}

#define STEP 16u

uint64_t frames_run(uint64_t at, uint64_t n, uint64_t *entry, uint64_t bits)
{
    uint64_t pa = linear_frame(at), i = 0, p = pa | bits;

    if (!pa || n > (top - pa) / PAGE)
        return 0;
    uint8_t *s = state_of(pa);

    if (!all_zero(entry, n * 8) || !all_zero(s, n)) /* FRESH is 0 */
        return 0;
    fill(s, USED, n);
    nfree -= n;
    for (; i + STEP <= n; i += STEP, p += STEP * PAGE)
#pragma GCC unroll 16
        for (unsigned k = 0; k < STEP; k++)
            entry[i + k] = p + k * PAGE;
    for (; i < n; i++, p += PAGE)
        entry[i] = p;
    return pa;
}

uint64_t frames_map(uint64_t at, uint64_t n, uint64_t *entry, uint64_t bits)
{
    uint64_t pa = linear_frame(at), done = 0;

    if (!pa)
        return 0;
    if (frames_run(at, n, entry, bits))
        return n;
    uint8_t *s = state_of(pa);

    for (uint64_t i = 0; i < n && pa < top; i++, pa += PAGE)
        if (!entry[i] && s[i] == FRESH) {
            entry[i] = pa | bits;
            s[i] = USED;
            done++;
        }
    nfree -= done;
    return done;
}

/* n pages in a row that are free, from the linear part's middle on. */
static uint64_t borrow(unsigned n)
{
    uint64_t run = 0, pages = (top - pool_end) / PAGE;

    for (uint64_t i = 0; i < pages + n; i++) {
        run = *state_of(cursor) == USED ? 0 : run + 1;
        cursor += PAGE;
        if (run == n) {
            for (unsigned k = 1; k <= n; k++)
                take(cursor - k * PAGE);
            uint64_t pa = cursor - n * PAGE;

            if (cursor >= top)
                cursor = pool_end;
            return pa;
        }
        if (cursor >= top) {
            cursor = pool_end;
            run = 0;
        }
    }
    return 0;
}

static uint64_t alloc(bool clear)
{
    uint64_t pa = pool_list;

    if (pa) {
        pool_list = *(uint64_t *)kva(pa);
        nfree--;
        if (clear)
            fill(kva(pa), 0, PAGE);
        return pa;
    }
    if (next < pool_end) {
        pa = next;
        next += PAGE;
    } else if (high_next < high_end) {
        pa = high_next;
        high_next += PAGE;
    } else {
        return nfree ? borrow(1) : 0;
    }
    nfree--;
    if (clear && boot.flags & MAYFLY_BOOT_DIRTY)
        fill(kva(pa), 0, PAGE);
    return pa;
}

uint64_t frame_alloc(void)
{
    return alloc(true);
}

uint64_t frame_alloc_dirty(void)
{
    return alloc(false);
}

uint64_t frames_row(unsigned n)
{
    uint64_t pa = next;

    if (pool_end - next < n * PAGE)
        return nfree >= n ? borrow(n) : 0;
    next += n * PAGE;
    nfree -= n;
    if (boot.flags & MAYFLY_BOOT_DIRTY)
        fill(kva(pa), 0, n * PAGE);
    return pa;
}

void frame_free(uint64_t pa)
{
    nfree++;
    if (pa >= pool_end && pa < HIGH) {
        *state_of(pa) = DIRTY;
        return;
    }
    *(uint64_t *)kva(pa) = pool_list;
    pool_list = pa;
}

uint64_t frames_free(void)
{
    return nfree;
}

uint64_t frames_total(void)
{
    return (top - first + (high_end ? high_end - HIGH : 0)) / PAGE;
}

void *stack_alloc(void)
{
    void *s = stacks;
    uint64_t pa;

    if (s) {
        stacks = *(void **)s;
        return (char *)s + STACK_BYTES;
    }
    if (pool_end - next >= STACK_BYTES) {
        pa = next;
        next += STACK_BYTES;
        nfree -= STACK_BYTES / PAGE;
    } else if (high_end - high_next >= STACK_BYTES) {
        pa = high_next;
        high_next += STACK_BYTES;
        nfree -= STACK_BYTES / PAGE;
    } else {
        pa = borrow(STACK_BYTES / PAGE);
    }
    return pa ? (char *)kva(pa) + STACK_BYTES : NULL;
}

void stack_free(void *stack_top)
{
    void *s = (char *)stack_top - STACK_BYTES;

    *(void **)s = stacks;
    stacks = s;
}

void *kalloc_block(unsigned c)
{
    size_t size = (size_t)1 << (KALLOC_SHIFT + c);
    void *p = classes[c];

    if (!p && fresh[c] < fresh_end[c]) {
        fresh[c] += size;
        return fresh[c] - size;
    }
    if (!p) {
        uint64_t pa = frame_alloc();

        if (!pa)
            return NULL;
        fresh[c] = (char *)kva(pa) + size;
        fresh_end[c] = (char *)kva(pa) + PAGE;
        return kva(pa);
    }
    classes[c] = *(void **)p;
    fill(p, 0, size);
    return p;
}

void kfree(void *p, size_t n)
{
    unsigned c = kalloc_class(n);

    if (!p)
        return;
    if (c == CLASSES - 1) {
        frame_free(kpa(p));
        return;
    }
    *(void **)p = classes[c];
    classes[c] = p;
}
