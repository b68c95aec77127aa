/* Parts of the self-test, and the 4 KiB pages that several of them map as they like. */
#ifndef GUESTS_SELFTEST_SELFTEST_H
#define GUESTS_SELFTEST_SELFTEST_H

#include "guests/bare/bare.h"

void test_sums(void);
void test_exceptions(void);
void test_system(void);
void test_paging(void);
void test_user(void);

/* A 2 MiB linear range whose page table is ours; nothing is mapped in it at first. */
#define REGION 0x200000000ull
enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40 };
#define NX (1ull << 63)

extern uint8_t frames[8][4096];
extern uint64_t region_table[512], region_directory[512];

void region_init(void);
/* Page page of the region shows frame frame (0-7) with these entry bits; its address. */
uint8_t *region_map(unsigned page, unsigned frame, uint64_t bits);
void region_unmap(unsigned page);

/* Single accesses as functions for bare_try(). */
void try_read(void *p);
void try_write(void *p);
void try_call(void *p);

bool has_cpuid(uint32_t leaf, unsigned reg, unsigned bit);

#endif
