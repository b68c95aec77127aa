/*
 * The decoder held against Zydis: every opcode of the one-, two- and three-byte maps and of VEX
 * with representative prefixes and every ModRM byte, in 16-, 32- and 64-bit code; then random
 * bytes; then every truncation against the end of a page.
 */
#include <criterion/criterion.h>
#include <sys/mman.h>
#include <unistd.h>
#include "tests/decode_oracle.h"

static const uint8_t tail[3][12] = {
    /* SIB, displacement and immediate bytes: plain, negative, no base and no index */
    {0x24, 0x11, 0x22, 0x33, 0x44, 0x05, 0x66, 0x77, 0x08, 0x19, 0x2a, 0x3b},
    {0xca, 0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, 0xf8, 0x89, 0x9a, 0xab},
    {0x65, 0xff, 0xff, 0xff, 0xff, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00},
};

struct prefix {
    uint8_t n, b[4];
};
static const struct prefix legacy_prefixes[] = {
    {0, {0}},          {1, {0x66}},       {1, {0xf3}},
    {1, {0xf2}},       {1, {0xf0}},       {1, {0x48}},
    {2, {0x66, 0xf3}}, {2, {0xf2, 0x66}}, {2, {0xf3, 0x4d}},
    {1, {0x67}},       {2, {0x66, 0x48}}, {2, {0xf2, 0x47}},
    {2, {0x64, 0x43}}, {1, {0x2e}},       {2, {0xf0, 0x66}},
    {2, {0xf3, 0xf2}}, {2, {0x66, 0x45}}, {3, {0x65, 0x2e, 0x67}},
    {2, {0x48, 0x66}}, {1, {0x40}},
};

static void put(uint8_t *b, const struct prefix *p, unsigned nop, const uint8_t *op, unsigned modrm,
                unsigned t)
{
    unsigned n = p->n;

    memcpy(b, p->b, n);
    memcpy(b + n, op, nop);
    n += nop;
    b[n++] = (uint8_t)modrm;
    memcpy(b + n, tail[t], INSN_MAX - n < 12 ? INSN_MAX - n : 12);
    if (n + 12 < INSN_MAX)
        memset(b + n + 12, 0, INSN_MAX - n - 12);
}

/* All ModRM bytes after the opcode; the tail varies along. */
static void sweep_modrm(const struct prefix *p, unsigned nop, const uint8_t *op, unsigned mode)
{
    uint8_t b[INSN_MAX + 8];
    struct insn in;

    for (unsigned modrm = 0; modrm < 256; modrm++) {
        put(b, p, nop, op, modrm, modrm >> 3 & 1);
        agree(b, mode, &in);
        if ((modrm & 7) == 4 && modrm < 0xc0)
            for (unsigned t = 1; t < 3; t++) {
                put(b, p, nop, op, modrm, t);
                agree(b, mode, &in);
            }
    }
}

static void sweep_legacy(unsigned mode)
{
    for (size_t i = 0; i < sizeof legacy_prefixes / sizeof *legacy_prefixes; i++)
        for (unsigned op = 0; op < 256; op++) {
            const struct prefix *p = &legacy_prefixes[i];

            if (op != 0xc4 && op != 0xc5 && op != 0x62)
                sweep_modrm(p, 1, (const uint8_t[]){(uint8_t)op}, mode);
            if (op == 0x38 || op == 0x3a)
                continue;
            sweep_modrm(p, 2, (const uint8_t[]){0x0f, (uint8_t)op}, mode);
            sweep_modrm(p, 3, (const uint8_t[]){0x0f, 0x38, (uint8_t)op}, mode);
            sweep_modrm(p, 3, (const uint8_t[]){0x0f, 0x3a, (uint8_t)op}, mode);
        }
}

static void report(const char *what)
{
    printf("%s: %llu encodings, %llu accepted, %llu differ\n", what, (unsigned long long)ncompared,
           (unsigned long long)naccepted, (unsigned long long)ndiffs);
    print_tallies();
    cr_assert_eq(ndiffs, 0);
}

Test(decode_zydis, legacy64)
{
    oracle_init();
    sweep_legacy(8);
    report("legacy maps, 64-bit");
}

Test(decode_zydis, legacy32)
{
    oracle_init();
    sweep_legacy(4);
    report("legacy maps, 32-bit");
}

Test(decode_zydis, legacy16)
{
    oracle_init();
    sweep_legacy(2);
    report("legacy maps, 16-bit");
}

static void sweep_vex(unsigned mode)
{
    static const struct prefix prefixes[] = {{0, {0}}, {1, {0x67}}, {1, {0x66}}, {1, {0xf0}}};
    static const uint8_t some[] = {0x00, 0x0c, 0x14, 0x1d, 0x25, 0x2e, 0x34, 0x44,
                                   0x9c, 0xc1, 0xca, 0xd3, 0xdc, 0xe5, 0xee, 0xff};
    uint8_t b[INSN_MAX + 8];
    struct insn in;

    for (unsigned map = 0; map < 5; map++)
        for (unsigned op = 0; op < 256; op++)
            for (unsigned lpp = 0; lpp < 8; lpp++)
                for (unsigned v = 0; v < 6; v++) {
                    /* vvvv 1111 and others, W, and the inverted R, X, B */
                    static const uint8_t vv[6] = {0x78, 0xf8, 0x68, 0xe8, 0x30, 0x78};
                    static const uint8_t rxb[6] = {0xe0, 0xe0, 0xe0, 0xe0, 0xc0, 0x00};
                    uint8_t c4[] = {0xc4, (uint8_t)(rxb[v] | map), (uint8_t)(vv[v] | lpp),
                                    (uint8_t)op};
                    uint8_t c5[] = {0xc5, (uint8_t)((vv[v] | lpp) ^ (v == 5 ? 0 : 0x80)),
                                    (uint8_t)op};

                    if (v == 0) {
                        sweep_modrm(&prefixes[0], 4, c4, mode);
                    } else {
                        for (unsigned m = 0; m < sizeof some; m++) {
                            put(b, &prefixes[0], 4, c4, some[m], m % 3);
                            agree(b, mode, &in);
                        }
                    }
                    if (map == 1)
                        for (unsigned m = 0; m < sizeof some; m++) {
                            put(b, &prefixes[0], 3, c5, some[m], m % 3);
                            agree(b, mode, &in);
                        }
                    for (unsigned i = 1; v == 0 && i < 4; i++) {
                        put(b, &prefixes[i], 4, c4, some[op % sizeof some], 0);
                        agree(b, mode, &in);
                    }
                }
}

Test(decode_zydis, vex)
{
    oracle_init();
    for (unsigned mode = 8; mode >= 2; mode /= 2)
        sweep_vex(mode);
    report("VEX maps, all modes");
}

/* xorshift64*: the same bytes on every run. */
static uint64_t rnd(uint64_t *s)
{
    *s ^= *s >> 12;
    *s ^= *s << 25;
    *s ^= *s >> 27;
    return *s * 0x2545f4914f6cdd1dULL;
}

/*
 * Random strings. Half are bytes as they come; the others are put together so that more of them
 * are instructions: some prefixes, a REX, an escape or VEX.
 */
static void random_bytes(uint64_t *s, uint8_t *b)
{
    static const uint8_t pfx[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e,
                                  0x26, 0x64, 0x65, 0x66, 0xf3, 0x48, 0x4f, 0x41};
    uint64_t r[3] = {rnd(s), rnd(s), rnd(s)};
    unsigned n = 0;

    memcpy(b, r, INSN_MAX);
    if (!(r[2] >> 63))
        return;
    for (unsigned k = r[2] >> 56 & 7; k > 4; k--)
        b[n++] = pfx[r[2] >> (4 * k) & 15];
    switch (r[2] >> 59 & 7) {
    case 0:
        b[n++] = (uint8_t)(0x40 | (r[1] & 15));
        break;
    case 1:
        b[n++] = 0x0f;
        break;
    case 2:
        b[n++] = 0x0f;
        b[n++] = r[1] & 1 ? 0x38 : 0x3a;
        break;
    case 3:
        b[n++] = 0xc5;
        break;
    case 4:
        b[n++] = 0xc4;
        b[n] = (uint8_t)((b[n] & 0xe0) | (1 + r[1] % 3));
        break;
    case 5: /* long strings of prefixes: the 15-byte limit */
        for (n = 0; n < (r[1] & 15); n++)
            b[n] = pfx[rnd(s) & 15];
        break;
    }
}

Test(decode_zydis, random)
{
    const char *env = getenv("DECODE_FUZZ"); /* how many, for longer runs */
    uint64_t n = env ? strtoull(env, NULL, 0) : 2000000, s = env ? n : 0x6d61796679;
    uint8_t b[INSN_MAX + 1];
    struct insn in;

    oracle_init();
    for (uint64_t i = 0; i < n; i++) {
        random_bytes(&s, b);
        agree(b, 2u << i % 3, &in);
    }
    report("random");
}

/* Every truncation asks for more, and reads nothing past its end: the next page is absent. */
Test(decode_zydis, truncated)
{
    uint64_t s = 0x74727563, n = 0;
    uint8_t b[INSN_MAX + 1];
    struct insn in, whole;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *end = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    cr_assert_neq(end, MAP_FAILED);
    end += page;
    cr_assert_eq(mprotect(end, page, PROT_NONE), 0);
    for (unsigned i = 0; i < 200000; i++) {
        unsigned mode = 2u << i % 3;

        random_bytes(&s, b);
        if (decode(&whole, b, INSN_MAX, mode) != DEC_OK)
            continue;
        n++;
        for (unsigned len = 0; len < whole.len; len++) {
            memcpy(end - len, b, len);
            cr_assert_eq(decode(&in, end - len, len, mode), DEC_MORE, "%02x %02x %02x at %u", b[0],
                         b[1], b[2], len);
        }
        /* Just enough gives the same, field for field. */
        memcpy(end - whole.len, b, whole.len);
        cr_assert_eq(decode(&in, end - whole.len, whole.len, mode), DEC_OK);
        memset(in.bytes, 0, sizeof in.bytes);
        memset(whole.bytes, 0, sizeof whole.bytes);
        cr_assert_eq(memcmp(&in, &whole, sizeof in), 0);
    }
    printf("truncated: %llu instructions\n", (unsigned long long)n);
    cr_assert_gt(n, 50000);
}
