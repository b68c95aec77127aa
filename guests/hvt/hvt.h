/* What the hvt guest's own files share. */
#ifndef GUESTS_HVT_HVT_H
#define GUESTS_HVT_HVT_H

#include <stdbool.h>
#include "guests/hvt/abi.h"

extern const struct hvt_boot *hvt_info;
extern uint64_t hvt_first_rsp;
extern const uint8_t hvt_vectors[], hvt_end[];

/* --- lib.c --- */
static inline void hvt_call(unsigned nr, uint32_t gpa)
{
    __asm__ volatile("outl %0, %1" : : "a"(gpa), "d"((uint16_t)(HVT_PORT + nr)) : "memory");
}
_Noreturn void hvt_exit(int status, uint64_t cookie);
void hvt_print(const char *s);
/* %s, %lu and %lx, no widths. */
void hvt_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
uint64_t hvt_tsc_ns(void);
/* One line: "ok NAME" or "FAIL NAME"; failures are counted. */
void hvt_check(bool good, const char *name);
extern unsigned hvt_failures;
/* The device of that name: its handle, 0 when there is none. */
uint64_t hvt_device(const char *name);
const struct hvt_device *hvt_entry_of(uint64_t handle);
bool hvt_same(const char *a, const char *b);
uint64_t hvt_poll(uint64_t ns, int32_t *ret);
int32_t hvt_block(bool write, uint64_t handle, uint64_t offset, void *data, uint64_t len);
int32_t hvt_net(bool write, uint64_t handle, void *data, uint64_t *len);

/* --- checks.c --- */
void hvt_layout(void);
void hvt_clock(void);
void hvt_disks(void);
void hvt_echo(unsigned frames);
/* Who has this IPv4 address? Waits for the answer. */
void hvt_arp(uint32_t address);

/* --- hostile.c --- */
/* Do what no guest should; false when there is no such thing. Does not come back when the monitor
 * is sound. */
bool hvt_hostile(const char *what);

#endif
