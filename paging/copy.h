/*
 * Copies that touch no vector register: usable while the guest's vector state is live, whatever
 * libc is linked (glibc's memcpy uses AVX, and the tests link glibc).
 */
#ifndef PAGING_COPY_H
#define PAGING_COPY_H

#include <stddef.h>

static inline void copy_bytes(void *dst, const void *src, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}

static inline void zero_bytes(void *dst, size_t n)
{
    __asm__ volatile("rep stosb" : "+D"(dst), "+c"(n) : "a"(0) : "memory");
}

#endif
