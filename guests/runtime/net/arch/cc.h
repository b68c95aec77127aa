/* lwIP's view of the compiler and of what the runtime gives it (memory.c). */
#ifndef GUESTS_RUNTIME_NET_CC_H
#define GUESTS_RUNTIME_NET_CC_H

#include <stddef.h>
#include <stdint.h>

#define LWIP_NO_UNISTD_H 1
#define LWIP_NO_CTYPE_H  1
#define SSIZE_MAX        INT64_MAX
typedef long ssize_t;

#define LWIP_PLATFORM_DIAG(x) \
    do {                      \
    } while (0)
#define LWIP_PLATFORM_ASSERT(x) net_assert_failed(x)
#define LWIP_RAND()             net_random()
#define SMEMCPY(dst, src, len)  __builtin_memcpy(dst, src, len)

_Noreturn void net_assert_failed(const char *what);
uint32_t net_random(void);
extern uint32_t net_window;
void *net_malloc(size_t n);
void *net_calloc(size_t n, size_t size);
void net_free(void *p);
uint16_t net_checksum(const void *data, int len);

#endif
