/* ACPI and MP tables: walked as a guest walks them, checksums, bounds and AML; by iasl as well
 * where it is installed. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "monitor/aml.h"
#include "monitor/boot.h"
#include "monitor/ports.h"

static struct ram ram;

static void setup(void)
{
    cr_assert_eq(ram_create(&ram, 16 * MIB), 0);
}

static void teardown(void)
{
    ram_destroy(&ram);
}

TestSuite(acpi, .init = setup, .fini = teardown);
TestSuite(mptable, .init = setup, .fini = teardown);

static uint32_t u32(uint64_t gpa)
{
    uint32_t v;

    cr_assert_eq(ram_read(&ram, gpa, &v, 4), 0);
    return v;
}

static uint64_t u64(uint64_t gpa)
{
    return u32(gpa) | (uint64_t)u32(gpa + 4) << 32;
}

static uint16_t u16(uint64_t gpa)
{
    return (uint16_t)u32(gpa);
}

static uint8_t u8(uint64_t gpa)
{
    return (uint8_t)u32(gpa);
}

static uint8_t sum(uint64_t gpa, uint32_t len)
{
    uint8_t s = 0;

    for (uint32_t i = 0; i < len; i++)
        s = (uint8_t)(s + u8(gpa + i));
    return s;
}

/* A table with the signature, whole, in the reserved memory. */
static uint64_t check_table(uint64_t gpa, const char *sig)
{
    cr_assert(gpa >= 0xe0000 && gpa < 0xf0000, "%s at 0x%llx", sig, (unsigned long long)gpa);
    cr_assert_arr_eq(ram.base + gpa, sig, 4);
    cr_assert_geq(u32(gpa + 4), 36);
    cr_assert_leq(gpa + u32(gpa + 4), 0xf0000);
    cr_assert_eq(sum(gpa, u32(gpa + 4)), 0, "%s checksum", sig);
    return gpa;
}

static uint64_t find(const char *sig)
{
    uint64_t xsdt = u64(0xe0000 + 24), rsdt = u32(0xe0000 + 16);
    unsigned n;

    check_table(xsdt, "XSDT");
    check_table(rsdt, "RSDT");
    n = (u32(xsdt + 4) - 36) / 8;
    cr_assert_eq(n, (u32(rsdt + 4) - 36) / 4);
    for (unsigned i = 0; i < n; i++) {
        cr_assert_eq(u64(xsdt + 36 + 8 * i), u32(rsdt + 36 + 4 * i));
        if (!memcmp(ram.base + u64(xsdt + 36 + 8 * i), sig, 4))
            return check_table(u64(xsdt + 36 + 8 * i), sig);
    }
    cr_assert_fail("no %s", sig);
    return 0;
}

Test(acpi, rsdp)
{
    acpi_build(&ram, 1, 0);
    cr_assert_arr_eq(ram.base + 0xe0000, "RSD PTR ", 8);
    cr_assert_eq(u8(0xe0000 + 15), 2);
    cr_assert_eq(u32(0xe0000 + 20), 36);
    cr_assert_eq(sum(0xe0000, 20), 0);
    cr_assert_eq(sum(0xe0000, 36), 0);
}

Test(acpi, fadt)
{
    uint64_t f, facs;

    acpi_build(&ram, 1, 0);
    f = find("FACP");
    cr_assert_eq(u32(f + 4), 276);
    cr_assert_eq(u8(f + 8), 6);
    facs = u32(f + 36);
    cr_assert_arr_eq(ram.base + facs, "FACS", 4);
    cr_assert_eq(facs % 64, 0);
    cr_assert_eq(u32(facs + 4), 64);
    check_table(u32(f + 40), "DSDT");
    cr_assert_eq(u64(f + 140), u32(f + 40));
    cr_assert_eq(u16(f + 46), 9);
    cr_assert_eq(u32(f + 48), 0, "no SMI command port: ACPI mode from the start");
    cr_assert_eq(u32(f + 56), ACPI_PM1_EVT);
    cr_assert_eq(u32(f + 64), ACPI_PM1_CNT);
    cr_assert_eq(u32(f + 76), ACPI_PM_TMR);
    cr_assert_eq(u8(f + 88), 4);
    cr_assert_eq(u8(f + 89), 2);
    cr_assert_eq(u8(f + 91), 4);
    cr_assert_eq(u8(f + 109) & 7, 5, "legacy devices, no 8042, no VGA");
    cr_assert_eq(u32(f + 112) & (1u << 20), 0, "not hardware-reduced");
    cr_assert(u32(f + 112) & (1u << 10), "reset register");
    cr_assert_eq(u8(f + 116), 1);
    cr_assert_eq(u64(f + 120), PORT_RESET);
    cr_assert_eq(u8(f + 128), 6);
    cr_assert_eq(u64(f + 148 + 4), ACPI_PM1_EVT);
    cr_assert_eq(u64(f + 172 + 4), ACPI_PM1_CNT);
    cr_assert_eq(u64(f + 208 + 4), ACPI_PM_TMR);
}

Test(acpi, madt)
{
    static const unsigned counts[] = {1, 2, 16, 255, 256, 400, 2048};

    for (unsigned c = 0; c < sizeof counts / sizeof *counts; c++) {
        unsigned n = counts[c], cpus = 0, ioapics = 0, overrides = 0, nmis = 0, x2nmis = 0;
        uint64_t m, at;

        acpi_build(&ram, n, 0);
        m = find("APIC");
        cr_assert_eq(u32(m + 36), 0xfee00000);
        cr_assert_eq(u32(m + 40), 1);
        for (at = m + 44; at < m + u32(m + 4); at += u8(at + 1)) {
            cr_assert_geq(u8(at + 1), 6);
            switch (u8(at)) {
            case 0:
                cr_assert_eq(u8(at + 2), cpus);
                cr_assert_eq(u8(at + 3), cpus);
                cr_assert_neq(u8(at + 3), 255, "the broadcast");
                cr_assert_eq(u32(at + 4), 1);
                cpus++;
                break;
            case 9:
                cr_assert_eq(u32(at + 4), cpus);
                cr_assert_eq(u32(at + 8), 1);
                cr_assert_eq(u32(at + 12), cpus);
                cpus++;
                break;
            case 1:
                cr_assert_eq(u32(at + 4), 0xfec00000);
                cr_assert_eq(u32(at + 8), 0);
                ioapics++;
                break;
            case 2:
                cr_assert(u8(at + 3) == 0
                              ? u32(at + 4) == 2 && u16(at + 8) == 0
                              : u8(at + 3) == 9 && u32(at + 4) == 9 && u16(at + 8) == 13);
                overrides++;
                break;
            case 4:
                cr_assert_eq(u8(at + 2), 0xff);
                cr_assert_eq(u8(at + 5), 1);
                nmis++;
                break;
            case 10:
                cr_assert_eq(u32(at + 4), 0xffffffff);
                x2nmis++;
                break;
            default:
                cr_assert_fail("entry of type %u", u8(at));
            }
        }
        cr_assert_eq(at, m + u32(m + 4));
        cr_assert(cpus == n && ioapics == 1 && overrides == 2 && nmis == 1 && x2nmis == (n > 255));
    }
}

/* --- AML: a walker of what the emitter can write --- */

struct walk {
    const uint8_t *p;
    uint32_t len, pos;
    unsigned devices, names;
};

static uint32_t pkg_end(struct walk *w)
{
    uint32_t at = w->pos, n = w->p[at] >> 6, len = w->p[at] & (n ? 0xf : 0x3f);

    cr_assert_lt(at + n, w->len);
    cr_assert(!n || !(w->p[at] & 0x30));
    for (uint32_t i = 0; i < n; i++)
        len |= (uint32_t)w->p[at + 1 + i] << (4 + 8 * i);
    w->pos = at + 1 + n;
    cr_assert_leq(at + len, w->len);
    cr_assert_geq(len, 1 + n);
    return at + len;
}

static void name(struct walk *w)
{
    if (w->p[w->pos] == '\\')
        w->pos++;
    for (unsigned i = 0; i < 4; i++) {
        uint8_t c = w->p[w->pos++];

        cr_assert((c >= 'A' && c <= 'Z') || c == '_' || (i && c >= '0' && c <= '9'));
    }
}

static void resources(const uint8_t *p, uint32_t len)
{
    uint32_t at = 0;

    while (p[at] != 0x79) {
        at += p[at] & 0x80 ? 3u + p[at + 1] + 256u * p[at + 2] : 1u + (p[at] & 7);
        cr_assert_lt(at, len);
    }
    cr_assert_eq(at + 2, len);
}

static void object(struct walk *w, uint32_t limit)
{
    uint32_t end;
    uint8_t op;

    cr_assert_lt(w->pos, limit);
    op = w->p[w->pos++];
    switch (op) {
    case 0x00:
    case 0x01:
        return;
    case 0x0a:
        w->pos += 1;
        return;
    case 0x0b:
        w->pos += 2;
        return;
    case 0x0c:
        w->pos += 4;
        return;
    case 0x0e:
        w->pos += 8;
        return;
    case 0x0d:
        while (w->p[w->pos++])
            cr_assert_lt(w->pos, limit);
        return;
    case 0x08:
        w->names++;
        name(w);
        object(w, limit);
        return;
    case 0x11: /* buffer: a WordConst, then that many bytes of resources */
        end = pkg_end(w);
        cr_assert_leq(end, limit);
        cr_assert_eq(w->p[w->pos], 0x0b);
        cr_assert_eq(w->p[w->pos + 1] + 256u * w->p[w->pos + 2], end - w->pos - 3);
        resources(w->p + w->pos + 3, end - w->pos - 3);
        w->pos = end;
        return;
    case 0x12: {
        end = pkg_end(w);
        cr_assert_leq(end, limit);
        unsigned count = w->p[w->pos++];
        while (count--)
            object(w, end);
        cr_assert_eq(w->pos, end);
        return;
    }
    case 0x5b:
        cr_assert_eq(w->p[w->pos], 0x82);
        w->pos++;
        w->devices++; /* fall through */
    case 0x10:
        end = pkg_end(w);
        cr_assert_leq(end, limit);
        name(w);
        while (w->pos < end)
            object(w, end);
        cr_assert_eq(w->pos, end);
        return;
    default:
        cr_assert_fail("opcode 0x%x at %u", op, w->pos - 1);
    }
}

static struct walk walk_aml(const uint8_t *p, uint32_t len)
{
    struct walk w = {.p = p, .len = len};

    while (w.pos < len)
        object(&w, len);
    cr_assert_eq(w.pos, len);
    return w;
}

static const uint8_t *memfind(const uint8_t *p, size_t len, const void *what, size_t n)
{
    return memmem(p, len, what, n);
}

Test(acpi, dsdt)
{
    uint64_t d;
    uint32_t len;
    struct walk w;

    acpi_build(&ram, 1, 0);
    d = u32(find("FACP") + 40);
    len = u32(d + 4);
    w = walk_aml(ram.base + d + 36, len - 36);
    cr_assert_eq(w.devices, 1);
    /* COM1: PNP0501, I/O 0x3f8-0x3ff, IRQ 4. _S5: what the PM1 control port takes. */
    cr_assert(memfind(ram.base + d, len, "\x0c\x41\xd0\x05\x01", 5));
    cr_assert(
        memfind(ram.base + d, len, "\x47\x01\xf8\x03\xf8\x03\x01\x08\x22\x10\x00\x79\x00", 13));
    const uint8_t s5[] = {'\\', '_', 'S',  '5',          '_',  0x12,
                          8,    4,   0x0a, ACPI_S5_TYPE, 0x0a, ACPI_S5_TYPE};
    cr_assert(memfind(ram.base + d, len, s5, sizeof s5));
}

/* Devices as virtio-mmio will have them; lengths of one, two and three bytes. */
static uint32_t emit_devices(struct aml *a, uint8_t *buf, uint32_t cap, unsigned n)
{
    aml_init(a, buf, cap);
    aml_scope(a, "\\_SB");
    for (unsigned i = 0; i < n; i++) {
        char id[8];

        snprintf(id, sizeof id, "V%03X", i & 0xfff);
        aml_device(a, id);
        aml_name_string(a, "_HID", "LNRO0005");
        aml_name_int(a, "_UID", i);
        aml_name_int(a, "_CCA", 1);
        aml_crs(a);
        aml_res_memory32(a, 0xd0000000 + i * 4096, 4096);
        aml_res_interrupt(a, 5 + i % 19);
        aml_crs_end(a);
        aml_end(a);
    }
    aml_name_int(a, "BIGN", 0x123456789a);
    aml_end(a);
    return a->len;
}

Test(acpi, aml_devices)
{
    static uint8_t buf[1 << 18];
    struct aml a;

    for (unsigned n = 0; n < 2000; n += n < 60 ? 1 : 97) {
        uint32_t len = emit_devices(&a, buf, sizeof buf, n);

        cr_assert(!a.full && !a.depth);
        cr_assert_eq(walk_aml(buf, len).devices, n);
    }
}

/* Around the lengths where PkgLength grows by a byte. */
Test(acpi, aml_lengths)
{
    static const uint32_t edges[] = {0x40, 0x1000, 0x100000};
    static uint8_t buf[0x100100];
    static char text[0x100040];
    struct aml a;

    for (unsigned e = 0; e < 3; e++)
        for (uint32_t n = edges[e] - 24; n < edges[e] + 8; n++) {
            memset(text, 'a', n);
            text[n] = 0;
            aml_init(&a, buf, sizeof buf);
            aml_scope(&a, "\\_SB");
            aml_name_string(&a, "LONG", text);
            aml_end(&a);
            cr_assert(!a.full);
            cr_assert_eq(walk_aml(buf, a.len).names, 1);
        }
}

/* Any room too small is said so, and nothing is written past it. */
Test(acpi, aml_room)
{
    uint8_t *whole = malloc(4096);
    struct aml a;
    uint32_t len = emit_devices(&a, whole, 4096, 8);

    for (uint32_t cap = 0; cap <= len; cap++) {
        uint8_t *buf = malloc(cap + 16);

        memset(buf, 0xcc, cap + 16);
        emit_devices(&a, buf, cap, 8);
        cr_assert_eq(a.full, cap < len, "%u of %u", cap, len);
        for (unsigned i = 0; i < 16; i++)
            cr_assert_eq(buf[cap + i], 0xcc);
        free(buf);
    }
    aml_init(&a, whole, 4096);
    aml_end(&a);
    cr_assert(a.full);
    aml_init(&a, whole, 4096);
    for (unsigned i = 0; i <= AML_DEPTH; i++)
        aml_scope(&a, "ABCD");
    cr_assert(a.full);
    aml_init(&a, whole, 4096);
    aml_name_eisa(&a, "_HID", "PNP05");
    cr_assert(a.full);
    free(whole);
}

Test(acpi, iasl)
{
    static const char *const sigs[] = {"DSDT", "FACP", "APIC", "XSDT", "RSDT"};
    char dir[] = "/tmp/mayfly-acpi-XXXXXX", cmd[256];
    int bad = 0;

    if (system("command -v iasl >/dev/null 2>&1")) {
        puts("skipped: no iasl");
        return;
    }
    acpi_build(&ram, 300, 0);
    cr_assert_not_null(mkdtemp(dir));
    for (unsigned i = 0; i < 5; i++) {
        uint64_t t = i == 0   ? u32(find("FACP") + 40)
                     : i == 3 ? u64(0xe0000 + 24)
                     : i == 4 ? u32(0xe0000 + 16)
                              : find(sigs[i]);
        FILE *f;

        snprintf(cmd, sizeof cmd, "%s/%s.aml", dir, sigs[i]);
        f = fopen(cmd, "w");
        cr_assert_not_null(f);
        fwrite(ram.base + t, 1, u32(t + 4), f);
        fclose(f);
        snprintf(cmd, sizeof cmd,
                 "cd %s && iasl -d %s.aml >%s.log 2>&1 && test -s %s.dsl && "
                 "! grep -iE 'error|warning|incorrect|invalid' %s.log",
                 dir, sigs[i], sigs[i], sigs[i], sigs[i]);
        bad |= system(cmd);
    }
    /* What it reads in the DSDT compiles again without a remark. */
    snprintf(cmd, sizeof cmd,
             "cd %s && iasl -ve DSDT.dsl >c.log 2>&1 && grep -q ' 0 Errors, 0 Warnings' c.log",
             dir);
    bad |= system(cmd);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    bad |= system(cmd);
    cr_assert_eq(bad, 0);
}

/* --- MP table --- */

Test(mptable, entries)
{
    static const unsigned counts[] = {1, 2, 16, 37, 38, 100, 254, 300};

    for (unsigned c = 0; c < sizeof counts / sizeof *counts; c++) {
        unsigned n = counts[c] > 254 ? 254 : counts[c], seen[5] = {0}, pins = 0, total = 0;
        uint64_t t, at;

        mptable_build(&ram, counts[c]);
        cr_assert_eq(u16(0x40e), 0x9fc0);
        cr_assert_arr_eq(ram.base + 0x9fc00, "_MP_", 4);
        cr_assert_eq(sum(0x9fc00, 16), 0);
        t = u32(0x9fc04);
        cr_assert(n <= 37 ? t == 0x9fc10 : t == 0xf0000);
        cr_assert_arr_eq(ram.base + t, "PCMP", 4);
        cr_assert_eq(sum(t, u16(t + 4)), 0);
        cr_assert(t + u16(t + 4) <= (t < 0xa0000 ? 0xa0000 : 0x100000));
        cr_assert_eq(u32(t + 36), 0xfee00000);
        for (at = t + 44; at < t + u16(t + 4); total++) {
            cr_assert_leq(u8(at), 4);
            switch (u8(at)) {
            case 0:
                cr_assert_eq(u8(at + 1), seen[0]);
                cr_assert_eq(u8(at + 3), seen[0] ? 1 : 3);
                break;
            case 1:
                cr_assert_arr_eq(ram.base + at + 2, "ISA   ", 6);
                break;
            case 2:
                cr_assert_eq(u32(at + 4), 0xfec00000);
                break;
            case 3:
                cr_assert(!(pins & 1u << u8(at + 7)), "pin %u twice", u8(at + 7));
                pins |= 1u << u8(at + 7);
                break;
            }
            seen[u8(at)]++;
            at += u8(at) ? 8 : 20;
        }
        cr_assert_eq(at, t + u16(t + 4));
        cr_assert_eq(total, u16(t + 34));
        cr_assert(seen[0] == n && seen[1] == 1 && seen[2] == 1 && seen[3] == 23 && seen[4] == 2);
        cr_assert_eq(pins, 0xfffffe, "all pins but 0");
    }
}

/* Too little memory for tables: nothing happens. */
Test(mptable, no_memory)
{
    ram.low = ram.size = 0x9f000;
    mptable_build(&ram, 1);
    acpi_build(&ram, 1, 0);
    cr_assert_eq(*(uint32_t *)(ram.base + 0x9fc00), 0);
    cr_assert_eq(*(uint32_t *)(ram.base + 0xe0000), 0);
}
