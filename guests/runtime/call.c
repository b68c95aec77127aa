/* What the runtime asks of the monitor (bootblock.h), and the lines it says itself. */
#include <stdarg.h>
#include "guests/runtime/net.h"
#include "guests/runtime/standalone.h"
#include "guests/runtime/vm.h"

static struct mayfly_call block __attribute__((aligned(8)));
char bounce[BOUNCE] __attribute__((aligned(4096), section(".bss.pages")));

int64_t monitor_call(uint32_t op, uint32_t fd, const void *buf, uint64_t len)
{
    if (standalone_call && !boot.hypercall_port)
        return standalone_call(op, fd, buf, len);
    block = (struct mayfly_call){
        .op = op, .fd = fd, .gpa = buf ? kpa(buf) : 0, .len = len, .ret = -ENOSYS};
    __asm__ volatile("outl %0, %1"
                     :
                     : "a"((uint32_t)kpa(&block)), "d"((uint16_t)boot.hypercall_port)
                     : "memory");
    return *(volatile int64_t *)&block.ret;
}

_Noreturn void machine_exit(int status)
{
    mapfile_sync_range(0, USER_TOP);
    if (net_finish)
        net_finish();
    syscalls_report();
    monitor_call(MAYFLY_CALL_EXIT, 0, NULL, (uint8_t)status);
    for (;;)
        __asm__ volatile("cli; hlt");
}

static size_t number(char *out, uint64_t v, unsigned base)
{
    char digits[20];
    size_t n = 0;

    do {
        digits[n++] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v);
    for (size_t i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    return n;
}

static void vformat(char *out, size_t size, const char *fmt, va_list ap)
{
    size_t at = 0;
    char text[24];

    for (; *fmt; fmt++) {
        const char *s = text;
        size_t n = 1;

        text[0] = *fmt;
        if (*fmt == '%') {
            fmt++;
            if (*fmt == 's') {
                s = va_arg(ap, const char *);
                n = length(s);
            } else if (*fmt == 'x') {
                n = number(text, va_arg(ap, uint64_t), 16);
            } else {
                n = number(text, va_arg(ap, uint64_t), 10);
            }
        }
        for (size_t i = 0; i < n && at + 1 < size; i++)
            out[at++] = s[i];
    }
    out[at] = 0;
}

void format(char *out, size_t size, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vformat(out, size, fmt, ap);
    va_end(ap);
}

/* One line, whatever stands in the words of the user in it. */
static void line(const char *fmt, va_list ap)
{
    static char text[512];

    vformat(text, sizeof text - 1, fmt, ap);
    size_t n = length(text);

    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            text[i] = '?';
    text[n] = '\n';
    monitor_call(MAYFLY_CALL_WRITE, 2, text, n + 1);
}

void say(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    line(fmt, ap);
    va_end(ap);
}

_Noreturn void panic(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    line(fmt, ap);
    va_end(ap);
    monitor_call(MAYFLY_CALL_EXIT, 0, NULL, 125);
    for (;;)
        __asm__ volatile("cli; hlt");
}
