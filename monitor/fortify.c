/*
 * Debian's libjansson.a is built against glibc with _FORTIFY_SOURCE, so it calls three checking
 * variants that musl does not have. The destination's size is known to them; it bounds the call.
 */
#include <features.h>

#ifndef __GLIBC__
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int __snprintf_chk(char *s, size_t n, int flag, size_t room, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
int __vsnprintf_chk(char *s, size_t n, int flag, size_t room, const char *fmt, va_list ap)
    __attribute__((format(printf, 5, 0)));
char *__strncpy_chk(char *dst, const char *src, size_t n, size_t room);

int __vsnprintf_chk(char *s, size_t n, int flag, size_t room, const char *fmt, va_list ap)
{
    (void)flag;
    if (n > room)
        abort();
    return vsnprintf(s, n, fmt, ap);
}

int __snprintf_chk(char *s, size_t n, int flag, size_t room, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int r = __vsnprintf_chk(s, n, flag, room, fmt, ap);
    va_end(ap);
    return r;
}

char *__strncpy_chk(char *dst, const char *src, size_t n, size_t room)
{
    if (n > room)
        abort();
    return strncpy(dst, src, n);
}
#endif
