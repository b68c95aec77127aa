/*
 * Kinds of address. A guest address is a number, never a pointer: the only ways to a host pointer
 * are ram_ptr() (guest-physical, with a length) and the software TLB (guest-linear).
 */
#ifndef PAGING_TYPES_H
#define PAGING_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t gpa_t; /* guest-physical address */
typedef uint64_t gva_t; /* guest-linear address: segment base already added */

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096u
#define PAGE_MASK  (~(uint64_t)0xfff)

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

/* RAM never covers [MMIO_HOLE_START, MMIO_HOLE_END): what does not fit below continues at 4 GiB. */
#define MMIO_HOLE_START (3 * GIB)
#define MMIO_HOLE_END   (4 * GIB)

#endif
