#include "monitor/gdb_packet.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char digits[] = "0123456789abcdef";

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* --- in --- */

static void take(struct gdb_in *in, uint8_t byte)
{
    if (in->len < GDB_PACKET_MAX)
        in->data[in->len++] = (char)byte;
    else
        in->too_long = true;
}

static enum gdb_event begin(struct gdb_in *in)
{
    in->state = GDB_DATA;
    in->len = 0;
    in->sum = 0;
    in->too_long = false;
    return GDB_NOTHING;
}

static enum gdb_event finish(struct gdb_in *in, int low)
{
    in->state = GDB_IDLE;
    in->data[in->len] = 0;
    if (low < 0 || (in->want | low) != in->sum)
        return GDB_DAMAGED;
    return in->too_long ? GDB_TOO_LONG : GDB_PACKET;
}

static enum gdb_event in_data(struct gdb_in *in, uint8_t byte)
{
    if (byte == '#') {
        in->state = GDB_SUM1;
        return GDB_NOTHING;
    }
    in->sum = (uint8_t)(in->sum + byte);
    if (in->state == GDB_ESCAPED) {
        in->state = GDB_DATA;
        take(in, byte ^ 0x20);
    } else if (byte == '}') {
        in->state = GDB_ESCAPED;
    } else {
        take(in, byte);
    }
    return GDB_NOTHING;
}

enum gdb_event gdb_feed(struct gdb_in *in, uint8_t byte)
{
    /* A new packet begins in the middle of one that was cut off. */
    if (byte == '$')
        return begin(in);
    switch (in->state) {
    case GDB_IDLE:
        return byte == 3 ? GDB_INTERRUPT : byte == '-' ? GDB_NAK : GDB_NOTHING;
    case GDB_SUM1:
        in->want = 0;
        in->state = GDB_SUM2;
        if (digit((char)byte) < 0)
            return finish(in, -1);
        in->want = (uint8_t)(digit((char)byte) << 4);
        return GDB_NOTHING;
    case GDB_SUM2:
        return finish(in, digit((char)byte));
    default:
        return in_data(in, byte);
    }
}

/* --- out --- */

void gdb_begin(struct gdb_out *out)
{
    out->len = 0;
    out->full = false;
}

static void put(struct gdb_out *out, const char *bytes, size_t n)
{
    if (n > sizeof out->data - out->len) {
        out->full = true;
        return;
    }
    memcpy(out->data + out->len, bytes, n);
    out->len += n;
}

void gdb_put(struct gdb_out *out, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);

    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text)
        out->full = true;
    else
        put(out, text, (size_t)n);
}

void gdb_put_hex(struct gdb_out *out, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;

    for (size_t i = 0; i < n; i++)
        put(out, (char[]){digits[p[i] >> 4], digits[p[i] & 15]}, 2);
}

void gdb_put_binary(struct gdb_out *out, const void *bytes, size_t n)
{
    const char *p = bytes;

    for (size_t i = 0; i < n; i++)
        if (p[i] == '#' || p[i] == '$' || p[i] == '}' || p[i] == '*')
            put(out, (char[]){'}', (char)(p[i] ^ 0x20)}, 2);
        else
            put(out, &p[i], 1);
}

size_t gdb_wire(const struct gdb_out *out, char *wire)
{
    uint8_t sum = 0;

    wire[0] = '$';
    for (size_t i = 0; i < out->len; i++) {
        wire[i + 1] = out->data[i];
        sum = (uint8_t)(sum + (uint8_t)out->data[i]);
    }
    wire[out->len + 1] = '#';
    wire[out->len + 2] = digits[sum >> 4];
    wire[out->len + 3] = digits[sum & 15];
    return out->len + 4;
}

/* --- reading --- */

bool gdb_number(const char **s, uint64_t *val)
{
    const char *p = *s;
    uint64_t n = 0;

    for (; digit(*p) >= 0; p++) {
        if (p - *s == 16)
            return false;
        n = n << 4 | (unsigned)digit(*p);
    }
    if (p == *s)
        return false;
    *s = p;
    *val = n;
    return true;
}

bool gdb_char(const char **s, char c)
{
    if (**s != c || !c)
        return false;
    ++*s;
    return true;
}

bool gdb_word(const char **s, const char *word)
{
    size_t n = strlen(word);

    if (strncmp(*s, word, n))
        return false;
    *s += n;
    return true;
}

bool gdb_bytes(const char **s, void *to, size_t n)
{
    uint8_t *p = to;
    const char *at = *s;

    for (size_t i = 0; i < n; i++, at += 2) {
        int hi = digit(at[0]), lo = hi < 0 ? -1 : digit(at[1]);

        if (lo < 0)
            return false;
        p[i] = (uint8_t)(hi << 4 | lo);
    }
    *s = at;
    return true;
}

bool gdb_range(const char **s, uint64_t *at, uint64_t *len)
{
    const char *p = *s;

    if (!gdb_number(&p, at) || !gdb_char(&p, ',') || !gdb_number(&p, len))
        return false;
    *s = p;
    return true;
}
