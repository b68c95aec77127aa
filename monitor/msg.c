/* mayfly's own words: the only place that prints to stderr in lines. */
#include "monitor/core.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

int msg_verbosity;
bool status_tender;

void msg_write_all(int fd, const char *buf, size_t len)
{
    loop_before_write(fd, len);
    while (len) {
        ssize_t n = write(fd, buf, len);

        if (n > 0) {
            buf += n;
            len -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};

            if (poll(&p, 1, 1000) <= 0)
                return;
        } else if (n == 0 || errno != EINTR) {
            return;
        }
    }
}

void text_add(struct text *t, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(t->buf + t->len, t->cap - t->len, fmt, ap);
    va_end(ap);
    if (n > 0)
        t->len = (size_t)n < t->cap - t->len ? t->len + (size_t)n : t->cap - 1;
}

/* One line, whatever bytes a file name or an image brought into it; one write, so that lines of two
 * threads do not mix. */
static void say(const char *fmt, va_list ap)
{
    char line[1024] = "mayfly: ";
    size_t head = 8;
    int n = vsnprintf(line + head, sizeof line - head - 1, fmt, ap);
    size_t len = n < 0 ? 0 : (size_t)n;

    if (len > sizeof line - head - 2)
        len = sizeof line - head - 2;
    for (size_t i = head; i < head + len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[head + len] = '\n';
    msg_write_all(2, line, head + len + 1);
}

void msg_error(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
}

void msg_verbose(const char *fmt, ...)
{
    va_list ap;

    if (!msg_verbosity)
        return;
    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
}
