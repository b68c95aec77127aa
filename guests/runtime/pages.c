/* The program's page tables: the lower half under the PML4 that the monitor made. */
#include "guests/runtime/vm.h"
#include <asm/mman.h>

#define TABLE_BITS (PTE_P | PTE_W | PTE_U | PTE_A)
#define SLOTS      512u

static uint64_t *pml4;

#define LARGE      (2ull << 20)
#define LARGE_BITS (PTE_P | PTE_W | PTE_A | PTE_D | 0x80 | PTE_NX)

/* All RAM is shown at KMAP by the monitor's tables below 3 GiB, and from 4 GiB on by ours. */
static void map_high(uint64_t *pdpt)
{
    uint64_t high = frames_high();

    for (uint64_t at = 0; at < high; at += SLOTS * LARGE) {
        uint64_t pa = frame_alloc(), *pd = kva(pa);

        if (!pa)
            panic("mayfly: too little memory for this program: give more with -m");
        for (uint64_t i = 0; i < SLOTS && at + i * LARGE < high; i++)
            pd[i] = ((4ull << 30) + at + i * LARGE) | LARGE_BITS;
        pdpt[4 + at / (SLOTS * LARGE)] = pa | PTE_P | PTE_W | PTE_A;
    }
    frames_add_high();
}

void pages_init(void)
{
    uint64_t cr3;

    __asm__ volatile("movq %%cr3, %0" : "=r"(cr3));
    pml4 = kva(cr3 & PTE_ADDR);
    if (frames_high())
        map_high(kva(pml4[256] & PTE_ADDR));
    pml4[0] = 0; /* the identity map of the start */
    __asm__ volatile("movq %0, %%cr3" : : "r"(cr3) : "memory");
}

void pages_flush(uint64_t at)
{
    __asm__ volatile("invlpg (%0)" : : "r"(at) : "memory");
}

static void flush_all(void)
{
    uint64_t cr3;

    __asm__ volatile("movq %%cr3, %0; movq %0, %%cr3" : "=r"(cr3) : : "memory");
}

struct last_table pages_last = {NEVER, NULL};

uint64_t *pages_entry_of(uint64_t at, bool create)
{
    uint64_t *table = pml4;

    for (unsigned shift = 39; shift > 12; shift -= 9) {
        uint64_t *e = &table[at >> shift & 511];

        if (!*e) {
            uint64_t pa = create ? frame_alloc() : 0;

            if (!pa)
                return NULL;
            *e = pa | TABLE_BITS;
        }
        table = kva(*e & PTE_ADDR);
    }
    pages_last = (struct last_table){at >> 21, table};
    return &table[at >> 12 & 511];
}

uint64_t pages_bits(uint32_t prot)
{
    if (!(prot & (PROT_READ | PROT_WRITE | PROT_EXEC)))
        return 0;
    return PTE_P | PTE_U | PTE_A | (prot & PROT_WRITE ? PTE_W | PTE_D : 0) |
           (prot & PROT_EXEC ? 0 : PTE_NX);
}

uint64_t pages_next(uint64_t at, uint64_t end, uint64_t **e)
{
    while (at < end) {
        *e = pages_entry(at, false);
        if (*e)
            return at;
        uint64_t *table = pml4;
        unsigned shift = 39;

        for (; shift > 12; shift -= 9) {
            uint64_t t = table[at >> shift & 511];

            if (!t)
                break;
            table = kva(t & PTE_ADDR);
        }
        at = ((at >> shift) + 1) << shift;
    }
    return end;
}

#define FLUSH_ONE_BY_ONE 32u

void pages_drop(uint64_t start, uint64_t end)
{
    unsigned n = 0;
    uint64_t *e;

    for (uint64_t at = start; (at = pages_next(at, end, &e)) < end; at += PAGE) {
        if (!*e)
            continue;
        if (*e & PTE_OWNED)
            frame_free(*e & PTE_ADDR);
        *e = 0;
        if (n++ < FLUSH_ONE_BY_ONE)
            pages_flush(at);
    }
    if (n > FLUSH_ONE_BY_ONE)
        flush_all();
}

/* A page that is not the mapping's own stays read-only: a write makes a copy of it first. */
void pages_protect(uint64_t start, uint64_t end, uint32_t prot, bool shared)
{
    uint64_t bits = pages_bits(prot), *e;
    unsigned n = 0;

    for (uint64_t at = start; (at = pages_next(at, end, &e)) < end; at += PAGE) {
        if (!*e)
            continue;
        uint64_t new = (*e & (PTE_ADDR | PTE_OWNED)) | bits;

        if (!(new &PTE_OWNED) && !shared)
            new &= ~PTE_W;
        *e = new;
        if (n++ < FLUSH_ONE_BY_ONE)
            pages_flush(at);
    }
    if (n > FLUSH_ONE_BY_ONE)
        flush_all();
}

/* The tables at `to` were made before. */
void pages_move(uint64_t from, uint64_t to, uint64_t len)
{
    uint64_t *e;

    for (uint64_t at = from; (at = pages_next(at, from + len, &e)) < from + len; at += PAGE) {
        if (!*e)
            continue;
        *pages_entry(to + (at - from), true) = *e;
        *pages_entry(at, false) = 0;
    }
    flush_all();
}
