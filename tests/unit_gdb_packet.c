/* The packet layer of the GDB stub (monitor/gdb_packet.h): framing, damage, hostile bytes. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "monitor/gdb_packet.h"

static struct gdb_in in;
static struct gdb_out out;

/* The event of the last byte; none before it but GDB_NOTHING. */
static enum gdb_event feed(const char *s, size_t n)
{
    enum gdb_event e = GDB_NOTHING;

    for (size_t i = 0; i < n; i++) {
        cr_expect_eq(e, GDB_NOTHING, "before byte %zu of %s", i, s);
        e = gdb_feed(&in, (uint8_t)s[i]);
    }
    return e;
}
static enum gdb_event feeds(const char *s)
{
    return feed(s, strlen(s));
}

Test(gdb_packet, well_formed)
{
    cr_assert_eq(feeds("$g#67"), GDB_PACKET);
    cr_assert_str_eq(in.data, "g");
    cr_assert_eq(feeds("$#00"), GDB_PACKET);
    cr_assert_eq(in.len, 0);
    cr_assert_eq(feeds("$qSupported:a+;b-#C7"), GDB_PACKET);
    cr_assert_str_eq(in.data, "qSupported:a+;b-");
}

Test(gdb_packet, between_packets)
{
    cr_assert_eq(feeds("+"), GDB_NOTHING);
    cr_assert_eq(feeds("-"), GDB_NAK);
    cr_assert_eq(feeds("\003"), GDB_INTERRUPT);
    cr_assert_eq(feeds("noise#12"), GDB_NOTHING);
    cr_assert_eq(feeds("$g#67"), GDB_PACKET);
}

Test(gdb_packet, control_bytes_inside_are_data)
{
    cr_assert_eq(feed("$\003#03", 5), GDB_PACKET);
    cr_assert_eq(in.len, 1);
    cr_assert_eq(in.data[0], 3);
}

Test(gdb_packet, escapes)
{
    /* '}' ']' is '}', '}' 0x03 is '#' */
    cr_assert_eq(feed("$X}]}\003#d8", 9), GDB_NOTHING + GDB_DAMAGED, "a wrong sum");
    char text[16] = "$X}]}\003#";
    uint8_t sum = (uint8_t)('X' + '}' + ']' + '}' + 3);

    snprintf(text + 7, 3, "%02x", sum);
    cr_assert_eq(feeds(text), GDB_PACKET);
    cr_assert_eq(in.len, 3);
    cr_assert_str_eq(in.data, "X}#");
}

Test(gdb_packet, damaged)
{
    cr_assert_eq(feeds("$g#68"), GDB_DAMAGED);
    cr_assert_eq(feeds("$g#x"), GDB_DAMAGED);
    cr_assert_eq(feeds("$g#6x"), GDB_DAMAGED);
    cr_assert_eq(feeds("$half$g#67"), GDB_PACKET);
    cr_assert_str_eq(in.data, "g");
}

Test(gdb_packet, as_long_as_can_be)
{
    for (size_t n = GDB_PACKET_MAX; n <= GDB_PACKET_MAX + 3; n++) {
        uint8_t sum = 0;
        char end[4];

        cr_assert_eq(feeds("$"), GDB_NOTHING);
        for (size_t i = 0; i < n; i++, sum += 'm')
            cr_assert_eq(gdb_feed(&in, 'm'), GDB_NOTHING);
        snprintf(end, sizeof end, "#%02x", sum);
        cr_assert_eq(feeds(end), n == GDB_PACKET_MAX ? GDB_PACKET : GDB_TOO_LONG);
        cr_assert_eq(in.len, GDB_PACKET_MAX);
        cr_assert_eq(in.data[in.len], 0);
    }
}

Test(gdb_packet, any_bytes)
{
    srand(1);
    for (unsigned i = 0; i < 2000000; i++) {
        static const char likely[] = "$#}gGmM0123456789abcdef,:;+-\003";
        int r = rand();

        gdb_feed(&in,
                 r & 0x10000 ? (uint8_t)r : (uint8_t)likely[(r & 0xffff) % (sizeof likely - 1)]);
        cr_assert_leq(in.len, GDB_PACKET_MAX);
    }
}

Test(gdb_packet, written)
{
    static char wire[GDB_WIRE_MAX];

    gdb_begin(&out);
    gdb_put(&out, "T%02x", 5);
    gdb_put_hex(&out, "\x01\xfe", 2);
    cr_assert_eq(gdb_wire(&out, wire), 11);
    cr_assert(!memcmp(wire, "$T0501fe#e5", 11), "%.11s", wire);
    gdb_begin(&out);
    gdb_put_binary(&out, "a#$}*", 5);
    size_t n = gdb_wire(&out, wire);

    cr_assert_eq(feed(wire, n), GDB_PACKET);
    cr_assert_str_eq(in.data, "a#$}*");
}

Test(gdb_packet, written_too_long)
{
    gdb_begin(&out);
    for (unsigned i = 0; i < GDB_PACKET_MAX; i++)
        gdb_put_hex(&out, "x", 1);
    cr_assert(out.full);
    cr_assert_leq(out.len, GDB_PACKET_MAX);
}

Test(gdb_packet, numbers)
{
    const char *s = "1f,ffffffffffffffff:10000000000000000;";
    uint64_t v;
    uint8_t b[3] = {0};

    cr_assert(gdb_number(&s, &v) && v == 0x1f);
    cr_assert(!gdb_number(&s, &v));
    cr_assert(gdb_char(&s, ',') && !gdb_char(&s, ','));
    cr_assert(gdb_number(&s, &v) && v == UINT64_MAX);
    cr_assert(gdb_char(&s, ':'));
    cr_assert(!gdb_number(&s, &v), "17 digits");
    s = "";
    cr_assert(!gdb_number(&s, &v) && !gdb_char(&s, 0) && !gdb_bytes(&s, b, 1));
    s = "01aBf";
    cr_assert(!gdb_bytes(&s, b, 3), "half a byte");
    cr_assert(gdb_bytes(&s, b, 2) && b[0] == 1 && b[1] == 0xab && *s == 'f');
    s = "vCont;c";
    cr_assert(gdb_word(&s, "vCont") && !gdb_word(&s, "x") && *s == ';');
}
