/* Emitting AML. */
#include <string.h>
#include "monitor/aml.h"

enum {
    OP_NAME = 0x08,
    OP_BYTE = 0x0a,
    OP_WORD = 0x0b,
    OP_DWORD = 0x0c,
    OP_STRING = 0x0d,
    OP_QWORD = 0x0e,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_EXT = 0x5b,
    OP_EXT_DEVICE = 0x82,
};

/* A buffer's size comes before its bytes, so a template reserves a WordConst for it. */
#define CRS_SIZE_BYTES 3u

void aml_init(struct aml *a, uint8_t *buf, uint32_t cap)
{
    *a = (struct aml){.buf = buf, .cap = cap};
}

static void put(struct aml *a, const void *src, uint32_t len)
{
    if (a->full || len > a->cap - a->len) {
        a->full = true;
        return;
    }
    memcpy(a->buf + a->len, src, len);
    a->len += len;
}

static void put8(struct aml *a, uint8_t v)
{
    put(a, &v, 1);
}

static void put16(struct aml *a, uint16_t v)
{
    put(a, &v, 2);
}

static void put32(struct aml *a, uint32_t v)
{
    put(a, &v, 4);
}

/* NameString: an optional root, then one segment padded with '_' (ACPI 20.2.2). */
static void put_name(struct aml *a, const char *name)
{
    char seg[4] = {'_', '_', '_', '_'};

    if (*name == '\\') {
        put8(a, '\\');
        name++;
    }
    for (unsigned i = 0; i < 4 && name[i]; i++)
        seg[i] = name[i];
    put(a, seg, 4);
}

static void open_block(struct aml *a)
{
    if (a->depth == AML_DEPTH)
        a->full = true;
    if (!a->full)
        a->open[a->depth++] = a->len;
}

/* PkgLength counts itself, in 1 to 4 bytes (ACPI 20.2.4); it is slipped in before the contents. */
void aml_end(struct aml *a)
{
    uint32_t at, body, n, total;
    uint8_t enc[4];

    if (a->full || !a->depth) {
        a->full = true;
        return;
    }
    at = a->open[--a->depth];
    body = a->len - at;
    if (body + 1 < 0x40)
        n = 1;
    else if (body + 2 < 0x1000)
        n = 2;
    else
        n = body + 3 < 0x100000 ? 3 : 4;
    total = body + n;
    if (n > a->cap - a->len || total >= 0x10000000) {
        a->full = true;
        return;
    }
    if (n == 1) {
        enc[0] = (uint8_t)total;
    } else {
        enc[0] = (uint8_t)((n - 1) << 6 | (total & 0xf));
        for (uint32_t i = 1; i < n; i++)
            enc[i] = (uint8_t)(total >> (4 + 8 * (i - 1)));
    }
    memmove(a->buf + at + n, a->buf + at, body);
    memcpy(a->buf + at, enc, n);
    a->len += n;
}

void aml_scope(struct aml *a, const char *name)
{
    put8(a, OP_SCOPE);
    open_block(a);
    put_name(a, name);
}

void aml_device(struct aml *a, const char *name)
{
    put8(a, OP_EXT);
    put8(a, OP_EXT_DEVICE);
    open_block(a);
    put_name(a, name);
}

void aml_int(struct aml *a, uint64_t val)
{
    if (val <= 1) {
        put8(a, (uint8_t)val); /* ZeroOp, OneOp */
    } else if (val <= 0xff) {
        put8(a, OP_BYTE);
        put8(a, (uint8_t)val);
    } else if (val <= 0xffff) {
        put8(a, OP_WORD);
        put16(a, (uint16_t)val);
    } else if (val <= 0xffffffff) {
        put8(a, OP_DWORD);
        put32(a, (uint32_t)val);
    } else {
        put8(a, OP_QWORD);
        put(a, &val, 8);
    }
}

static void aml_string(struct aml *a, const char *s)
{
    put8(a, OP_STRING);
    put(a, s, (uint32_t)strlen(s) + 1);
}

void aml_name(struct aml *a, const char *name)
{
    put8(a, OP_NAME);
    put_name(a, name);
}

void aml_name_int(struct aml *a, const char *name, uint64_t val)
{
    aml_name(a, name);
    aml_int(a, val);
}

void aml_name_string(struct aml *a, const char *name, const char *val)
{
    aml_name(a, name);
    aml_string(a, val);
}

/* EISA ID (ACPI 19.3.4): three letters of five bits and four hex digits, stored big-endian. */
void aml_name_eisa(struct aml *a, const char *name, const char *id)
{
    uint32_t v = 0;

    if (strlen(id) != 7) {
        a->full = true;
        return;
    }
    for (unsigned i = 0; i < 3; i++)
        v = v << 5 | ((uint32_t)(id[i] - '@') & 0x1f);
    for (unsigned i = 3; i < 7; i++)
        v = v << 4 | ((uint32_t)(id[i] <= '9' ? id[i] - '0' : id[i] - 'A' + 10) & 0xf);
    aml_name(a, name);
    put8(a, OP_DWORD);
    put32(a, __builtin_bswap32(v));
}

void aml_package(struct aml *a, uint8_t count)
{
    put8(a, OP_PACKAGE);
    open_block(a);
    put8(a, count);
}

void aml_crs(struct aml *a)
{
    aml_name(a, "_CRS");
    put8(a, OP_BUFFER);
    open_block(a);
    put8(a, OP_WORD);
    put16(a, 0);
}

void aml_crs_end(struct aml *a)
{
    uint16_t size;

    put16(a, 0x0079); /* end tag, checksum 0: not used (ACPI 6.4.2.9) */
    if (!a->full && a->depth) {
        size = (uint16_t)(a->len - a->open[a->depth - 1] - CRS_SIZE_BYTES);
        memcpy(a->buf + a->open[a->depth - 1] + 1, &size, sizeof size);
    }
    aml_end(a);
}

void aml_res_io(struct aml *a, uint16_t port, uint8_t len)
{
    put8(a, 0x47); /* I/O port descriptor, 7 bytes (ACPI 6.4.2.5) */
    put8(a, 1);    /* decodes 16 bits */
    put16(a, port);
    put16(a, port);
    put8(a, 1);
    put8(a, len);
}

void aml_res_irq(struct aml *a, uint8_t irq)
{
    put8(a, 0x22); /* IRQ descriptor without flags (ACPI 6.4.2.1) */
    put16(a, (uint16_t)(1u << (irq & 15)));
}

void aml_res_memory32(struct aml *a, uint32_t base, uint32_t len)
{
    put8(a, 0x86); /* 32-bit fixed memory range (ACPI 6.4.3.4) */
    put16(a, 9);
    put8(a, 1); /* read-write */
    put32(a, base);
    put32(a, len);
}

void aml_res_interrupt(struct aml *a, uint32_t gsi)
{
    put8(a, 0x89); /* extended interrupt (ACPI 6.4.3.6) */
    put16(a, 6);
    put8(a, 0x03); /* consumer, edge; active high, exclusive: 0 */
    put8(a, 1);
    put32(a, gsi);
}
