/* Strings, and the program's memory as the runtime reaches it. */
#include "guests/runtime/runtime.h"

size_t length(const char *s)
{
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

bool same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

int copy_in(void *dst, uint64_t src, size_t n)
{
    return user_range(src, n) ? copy_user(dst, (const void *)src, n) : -EFAULT;
}

int copy_out(uint64_t dst, const void *src, size_t n)
{
    return user_range(dst, n) ? copy_user((void *)dst, src, n) : -EFAULT;
}

int clear_out(uint64_t dst, size_t n)
{
    return user_range(dst, n) ? clear_user((void *)dst, n) : -EFAULT;
}

/* By pieces that end where pages do: the next page need not be there when the NUL is in this one.
 */
int64_t str_in(char *dst, uint64_t src, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t n = least(size - at, 64 - (src + at) % 64);

        if (copy_in(dst + at, src + at, n))
            return -EFAULT;
        for (size_t i = 0; i < n; i++)
            if (!dst[at + i])
                return (int64_t)(at + i);
        at += n;
    }
    return -ENAMETOOLONG;
}
