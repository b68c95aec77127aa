/* Hypercalls and output of the hvt guest. */
#include <stdarg.h>
#include <string.h>
#include "guests/hvt/hvt.h"

const struct hvt_boot *hvt_info;
unsigned hvt_failures;

void *memcpy(void *dst, const void *src, size_t n)
{
    void *d = dst;

    __asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n) : : "memory");
    return dst;
}

void *memset(void *dst, int c, size_t n)
{
    void *d = dst;

    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
    return dst;
}

static uint32_t gpa_of(const volatile void *p)
{
    return (uint32_t)(uintptr_t)p;
}

void hvt_exit(int status, uint64_t cookie)
{
    volatile struct hvt_halt h = {.cookie = cookie, .status = status};

    for (;;)
        hvt_call(HVT_HALT, gpa_of(&h));
}

static void write_bytes(const char *s, uint64_t len)
{
    volatile struct hvt_puts p = {.data = (uintptr_t)s, .len = len};

    hvt_call(HVT_PUTS, gpa_of(&p));
}

void hvt_print(const char *s)
{
    uint64_t len = 0;

    while (s[len])
        len++;
    write_bytes(s, len);
}

static void number(uint64_t v, unsigned base)
{
    char buf[24];
    unsigned at = sizeof buf;

    do {
        buf[--at] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v);
    write_bytes(buf + at, sizeof buf - at);
}

void hvt_printf(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    for (; *fmt; fmt++) {
        if (*fmt != '%') {
            write_bytes(fmt, 1);
            continue;
        }
        while (*++fmt == 'l')
            continue;
        if (*fmt == 's')
            hvt_print(va_arg(ap, const char *));
        else
            number(va_arg(ap, uint64_t), *fmt == 'x' ? 16 : 10);
    }
    va_end(ap);
}

uint64_t hvt_tsc_ns(void)
{
    uint64_t t = __builtin_ia32_rdtsc(), hz = hvt_info->tsc_hz;

    return t / hz * 1000000000u + t % hz * 1000000000u / hz;
}

void hvt_check(bool good, const char *name)
{
    hvt_failures += !good;
    hvt_printf("%s %s\n", good ? "ok" : "FAIL", name);
}

bool hvt_same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

const struct hvt_device *hvt_entry_of(uint64_t handle)
{
    const struct hvt_manifest *m = (const struct hvt_manifest *)hvt_info->manifest;

    return handle < m->entries ? &m->device[handle] : NULL;
}

uint64_t hvt_device(const char *name)
{
    const struct hvt_device *d;

    for (uint64_t h = 1; (d = hvt_entry_of(h)); h++)
        if (hvt_same(d->name, name))
            return h;
    return 0;
}

uint64_t hvt_poll(uint64_t ns, int32_t *ret)
{
    volatile struct hvt_poll p = {.timeout_ns = ns, .ready = ~0ull, .ret = -1};

    hvt_call(HVT_POLL, gpa_of(&p));
    *ret = p.ret;
    return p.ready;
}

int32_t hvt_block(bool write, uint64_t handle, uint64_t offset, void *data, uint64_t len)
{
    volatile struct hvt_block_io b = {handle, offset, (uintptr_t)data, len, -1};

    hvt_call(write ? HVT_BLOCK_WRITE : HVT_BLOCK_READ, gpa_of(&b));
    return b.ret;
}

int32_t hvt_net(bool write, uint64_t handle, void *data, uint64_t *len)
{
    volatile struct hvt_net_io n = {handle, (uintptr_t)data, *len, -1};

    hvt_call(write ? HVT_NET_WRITE : HVT_NET_READ, gpa_of(&n));
    *len = n.len;
    return n.ret;
}
