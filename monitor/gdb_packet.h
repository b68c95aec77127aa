/*
 * GDB's remote serial protocol, the layer of packets: "$data#hh", acknowledgements, the interrupt
 * byte, and the numbers inside. No input can do more than give a wrong packet.
 */
#ifndef MONITOR_GDB_PACKET_H
#define MONITOR_GDB_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GDB_PACKET_MAX 16384 /* bytes of data in either direction */

enum gdb_event {
    GDB_NOTHING,   /* go on */
    GDB_PACKET,    /* a packet is in data[0..len), unescaped and followed by a 0 */
    GDB_DAMAGED,   /* its checksum is wrong: ask for it again */
    GDB_TOO_LONG,  /* more than GDB_PACKET_MAX bytes, dropped */
    GDB_INTERRUPT, /* Ctrl-C */
    GDB_NAK        /* our last packet was damaged */
};

struct gdb_in {
    enum { GDB_IDLE, GDB_DATA, GDB_ESCAPED, GDB_SUM1, GDB_SUM2 } state;
    bool too_long;
    uint8_t sum, want;
    size_t len;
    char data[GDB_PACKET_MAX + 1];
};

/* One byte from the wire. */
enum gdb_event gdb_feed(struct gdb_in *in, uint8_t byte);

/* A packet being written. What does not fit is dropped, and full says so. */
struct gdb_out {
    size_t len;
    bool full;
    char data[GDB_PACKET_MAX];
};

void gdb_begin(struct gdb_out *out);
void gdb_put(struct gdb_out *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void gdb_put_hex(struct gdb_out *out, const void *bytes, size_t n);
/* Bytes as they are, with those escaped that mean something. */
void gdb_put_binary(struct gdb_out *out, const void *bytes, size_t n);
/* The whole of it for the wire in wire[GDB_WIRE_MAX]; returns its length. */
#define GDB_WIRE_MAX (GDB_PACKET_MAX + 4)
size_t gdb_wire(const struct gdb_out *out, char *wire);

/* A packet being read: everything moves *s on over what it took, and false takes nothing. */
bool gdb_number(const char **s, uint64_t *val);              /* hexadecimal, at most 16 digits */
bool gdb_range(const char **s, uint64_t *at, uint64_t *len); /* two, with a comma between */
bool gdb_char(const char **s, char c);
bool gdb_word(const char **s, const char *word);
/* Two hexadecimal digits a byte; all n of them, or false. */
bool gdb_bytes(const char **s, void *to, size_t n);

#endif
