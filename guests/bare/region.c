/* A 2 MiB linear range of 4 KiB pages that a guest maps as it likes. */
#include "guests/bare/bare.h"

uint8_t frames[8][4096] __attribute__((aligned(4096)));
uint64_t region_table[512] __attribute__((aligned(4096)));
uint64_t region_directory[512] __attribute__((aligned(4096)));

void region_init(void)
{
    bare_pml4[0] |= U; /* the leaves decide */
    bare_pdpt[REGION >> 30] = (uintptr_t)region_directory | P | W | U;
    region_directory[0] = (uintptr_t)region_table | P | W | U;
    bare_pdpt[REGION32 >> 30] |= U;
    bare_pd[REGION32 >> 30][0] = (uintptr_t)region_table | P | W | U;
    __asm__ volatile("movq %%cr3, %%rax\n\tmovq %%rax, %%cr3" : : : "rax", "memory");
}

uint8_t *region_map(unsigned page, unsigned frame, uint64_t bits)
{
    uint8_t *lin = (uint8_t *)REGION + page * 4096ull;

    region_table[page] = (uintptr_t)frames[frame] | bits;
    invlpg(lin);
    return lin;
}

void region_unmap(unsigned page)
{
    region_table[page] = 0;
    invlpg((uint8_t *)REGION + page * 4096ull);
}
