/* Parts of the self-test. */
#ifndef GUESTS_SELFTEST_SELFTEST_H
#define GUESTS_SELFTEST_SELFTEST_H

#include "guests/bare/bare.h"

void test_sums(void);
void test_exceptions(void);
void test_system(void);
void test_paging(void);
void test_pcid(void);
void test_user(void);
void test_debug(void);
void test_blocks(void);
void test_survival(void);

/* Single accesses as functions for bare_try(). */
void try_read(void *p);
void try_write(void *p);
void try_call(void *p);

bool has_cpuid(uint32_t leaf, unsigned reg, unsigned bit);

#endif
