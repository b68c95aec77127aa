/* Random state that is likely to matter: edge integers, odd floating-point values, pages' ends. */
#include <stdlib.h>
#include "tests/fuzz.h"

#define POOL (64 * 1024)
static uint8_t ints[POOL + 2 * PAGE_SIZE], vecs[POOL + 1024], ext[256][16];

static const uint64_t edge[] = {
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x10000,
    0x7fffffff,
    0x80000000,
    0xffffffff,
    0x100000000,
    0x7fffffffffffffff,
    0x8000000000000000,
    0xffffffffffffffff,
    0xffffffff80000000,
    0xffffffffffff8000,
    0xffffffffffffff80,
    0x5555555555555555,
    0x0123456789abcdef,
    0x00007fffffffffff,
    0x0000800000000000,
    0xffff800000000000,
};
#define NEDGE (sizeof(edge) / sizeof(*edge))

static const uint32_t single[] = {
    0,          0x80000000, 0x3f800000, 0xbf800000, 0x40000000, 0x3f000000, 0x7f800000, 0xff800000,
    0x7fc00000, 0xffc00000, 0x7f800001, 0xff812345, 0x00000001, 0x807fffff, 0x00800000, 0x7f7fffff,
    0x4f000000, 0xcf000000, 0x5f000000, 0x3eaaaaab, 0x4b800001, 0xc2f60000, 0x33800000, 0x3fc00000,
};
static const uint64_t dbl[] = {
    0,
    0x8000000000000000,
    0x3ff0000000000000,
    0xbff0000000000000,
    0x4000000000000000,
    0x3fe0000000000000,
    0x7ff0000000000000,
    0xfff0000000000000,
    0x7ff8000000000000,
    0xfff8000000000001,
    0x7ff0000000000001,
    0xfff4000000000000,
    0x0000000000000001,
    0x800fffffffffffff,
    0x0010000000000000,
    0x7fefffffffffffff,
    0x41e0000000000000,
    0xc1e0000000000000,
    0x43e0000000000000,
    0x3fd5555555555555,
    0x3ff8000000000000,
    0x47f0000000000000,
    0x3810000000000000,
    0x36a0000000000000,
};

uint64_t fz_interesting(struct fz_rng *r)
{
    uint64_t v = fz_rnd(r);

    switch (v >> 60) {
    case 0 ... 4:
        return fz_rnd(r);
    case 5 ... 7:
        return edge[v % NEDGE];
    case 8:
        return edge[v % NEDGE] + (v >> 8 & 7) - 4;
    case 9:
        return (uint64_t)1 << (v & 63);
    case 10:
    case 11:
        return v & 63;
    case 12:
        return -(v & 63);
    case 13:
        return FZ_DATA + (v & 0x1fff);
    default:
        return (uint32_t)v;
    }
}

static void fill_ints(struct fz_rng *r)
{
    for (unsigned i = 0; i < sizeof(ints); i += 8) {
        uint64_t v = fz_interesting(r);

        memcpy(ints + i, &v, 8);
    }
}

static void fill_vecs(struct fz_rng *r)
{
    for (unsigned i = 0; i < sizeof(vecs); i += 16) {
        uint64_t v[2] = {fz_rnd(r), fz_rnd(r)};
        unsigned kind = fz_below(r, 8);

        for (unsigned k = 0; k < 2; k++) {
            if (kind < 3)
                v[k] = single[v[k] % 24] | (uint64_t)single[(v[k] >> 32) % 24] << 32;
            else if (kind < 6)
                v[k] = dbl[v[k] % 24];
            else if (kind == 6)
                v[k] = fz_interesting(r);
        }
        memcpy(vecs + i, v, 16);
    }
}

/* 80-bit values: numbers, zeros, infinities, NaNs, denormals, and the encodings that the 387 on
 * does not know (SDM 1 table 8-3). */
static void fill_ext(struct fz_rng *r)
{
    static const uint16_t exps[] = {0, 1, 0x3fff, 0x3ffe, 0x4000, 0x403e, 0x7ffe, 0x7fff};

    for (unsigned i = 0; i < 256; i++) {
        uint64_t man = fz_pct(r, 50) ? edge[fz_below(r, NEDGE)] : fz_rnd(r);
        unsigned exp = fz_pct(r, 60)   ? 0x3fffu - 40 + fz_below(r, 110)
                       : fz_pct(r, 70) ? exps[fz_below(r, 8)]
                                       : fz_below(r, 0x8000);

        if (fz_pct(r, 85) && exp)
            man |= (uint64_t)1 << 63;
        if (fz_pct(r, 10))
            man = exp = 0;
        exp |= fz_below(r, 2) << 15;
        memcpy(ext[i], &man, 8);
        ext[i][8] = (uint8_t)exp;
        ext[i][9] = (uint8_t)(exp >> 8);
    }
}

void fz_state_init(uint64_t seed)
{
    struct fz_rng r;

    fz_seed(&r, seed, ~(uint64_t)0);
    fill_ints(&r);
    fill_vecs(&r);
    fill_ext(&r);
}

static void put16(uint8_t *p, unsigned val)
{
    p[0] = (uint8_t)val;
    p[1] = (uint8_t)(val >> 8);
}

static void random_x87(uint8_t *x, struct fz_rng *r)
{
    unsigned fcw = 0x37f, fsw = fz_below(r, 8) << 11, ftw = fz_below(r, 256);

    if (fz_pct(r, 20))
        fcw = (fz_below(r, 16) << 8 & 0xf00) | 0x7f;
    if (fz_pct(r, 5))
        fcw &= 0xffc0u | fz_below(r, 64);
    fcw |= 0x40;
    if (fz_pct(r, 40))
        fsw |= (unsigned)fz_rnd(r) & 0x477f;
    /* ES and B say what the rest says. */
    if (fsw & ~fcw & 0x3f)
        fsw = fz_pct(r, 30) ? fsw | 0x8080 : fsw & ~0x3fu;
    if (fz_pct(r, 60))
        ftw |= 0xff;
    put16(x, fcw);
    put16(x + 2, fsw);
    x[4] = (uint8_t)ftw;
    for (unsigned i = 0; i < 8; i++)
        memcpy(x + 32 + 16 * i, ext[fz_below(r, 256)], 10);
}

static void random_vectors(struct fz_state *s, struct fz_rng *r)
{
    uint8_t *x = s->xsave;
    uint32_t mxcsr = 0x1f80;

    memset(x, 0, sizeof(s->xsave));
    random_x87(x, r);
    if (fz_pct(r, 30))
        mxcsr |= (uint32_t)fz_rnd(r) & 0xe07f;
    if (fz_pct(r, 5))
        mxcsr &= ~((uint32_t)fz_rnd(r) & 0x1f80);
    memcpy(x + 24, &mxcsr, 4);
    memcpy(x + 160, vecs + 16 * fz_below(r, POOL / 16), 256);
    memcpy(x + 576, vecs + 16 * fz_below(r, POOL / 16), 256);
    x[512] = 7;
}

static uint64_t random_base(struct fz_rng *r)
{
    switch (fz_below(r, 4)) {
    case 0:
        return 0;
    case 1:
        return fz_wrap((uint64_t)((int64_t)(fz_rnd(r) << 16) >> 16));
    default:
        return FZ_DATA - 0x1000 + fz_below(r, 0x3000);
    }
}

static void code_place(struct fz_case *c, struct fz_rng *r, unsigned room, bool alone)
{
    unsigned p = fz_below(r, 100);

    c->code_in_data = false;
    if (p < 10 && !alone) {
        c->code_in_data = true;
        c->code_va = FZ_DATA + 0x100 + fz_below(r, 0x100);
    } else if (p < 20) { /* runs across the page's end */
        c->code_va = FZ_CODE + 0x1000 - 1 - fz_below(r, room);
    } else if (p < 22 && !c->sequence) { /* or into the absent page */
        c->code_va = FZ_CODE + 0x2000 - 1 - fz_below(r, room);
    } else {
        c->code_va = FZ_CODE + 0x200 + fz_below(r, 0xe00 - FZ_MAX_CODE - 0x200);
    }
}

void fz_random_state(struct fz_case *c, struct fz_rng *r, unsigned room, bool alone)
{
    struct fz_state *s = &c->st;

    c->n = c->len = c->nmask = c->patches = 0;
    c->pad_va = 0;
    c->no_native = false;
    c->undef = 0;
    memset(c->off, 0, sizeof(c->off));
    memset(c->undef_at, 0, sizeof(c->undef_at));
    code_place(c, r, room, alone);
    for (unsigned i = 0; i < NGPR; i++)
        s->gpr[i] = i < 8 ? fz_wrap(fz_interesting(r)) : fz_interesting(r);
    s->rip = c->code_va;
    s->rflags = FL_R1 | FL_IF | (fz_rnd(r) & FL_ARITH);
    if (fz_pct(r, 10))
        s->rflags |= FL_DF;
    s->fs_base = random_base(r);
    s->gs_base = random_base(r);
    random_vectors(s, r);
    memcpy(c->data, (fz_pct(r, 50) ? ints : vecs) + 64 * fz_below(r, (POOL - 2 * PAGE_SIZE) / 64),
           sizeof(c->data));
}

bool fz_data_free(const struct fz_case *c, uint64_t va, uint64_t n)
{
    uint64_t from = FZ_DATA + (c->code_in_data ? 0x400u : 0);

    return n <= 0x2000 && va >= from && va <= FZ_DATA + 0x2000 - n;
}

void fz_poke(struct fz_case *c, uint64_t va, const void *src, unsigned n)
{
    if (fz_data_free(c, va, n))
        memcpy((uint8_t *)c->data + (va - FZ_DATA), src, n);
}

void fz_poke64(struct fz_case *c, uint64_t va, uint64_t val)
{
    fz_poke(c, va, &val, 8);
}

uint64_t fz_peek(const struct fz_case *c, uint64_t va, unsigned n)
{
    uint64_t val = 0;

    if (va >= FZ_DATA && va <= FZ_DATA + 0x2000 - n)
        memcpy(&val, (const uint8_t *)c->data + (va - FZ_DATA), n);
    return val;
}

static uint64_t bad_target(struct fz_rng *r, unsigned size)
{
    switch (fz_below(r, 9)) {
    case 0: /* into the absent page */
        return FZ_DATA + 0x2000 - 1 - (size > 1 ? fz_below(r, size - 1) : 0);
    case 1:
        return FZ_DATA + 0x2000 + fz_below(r, 0x1000);
    case 2: /* from the absent page into data */
        return FZ_DATA - 1 - (size > 1 ? fz_below(r, size - 1) : 0);
    case 3:
        return FZ_RO + fz_below(r, 0x1000);
    case 4:
        return FZ_RO + 0x1000 - 1 - fz_below(r, size);
    case 5:
        return FZ_SUPER + fz_below(r, 0x1000);
    case 6:
        return FZ_SUPER - 1 - fz_below(r, size);
    case 7:
        if (fz_mode != 8) /* where addresses wrap, which faults or not (SDM 3A 5.3) */
            return UINT32_MAX - fz_below(r, 2 * size);
        return fz_rnd(r) | 0x0001000000000000;
    default: /* the last canonical bytes of the lower half */
        return fz_mode != 8 || fz_below(r, 2) ? fz_below(r, 256)
                                              : 0x0000800000000000 - 1 - fz_below(r, size);
    }
}

uint64_t fz_target(struct fz_case *c, struct fz_rng *r, unsigned size, unsigned align)
{
    unsigned low = c->code_in_data ? 0x480 : 0, p = fz_below(r, 1000);
    unsigned bad = c->sequence ? 12 : 60;
    uint64_t va;

    if (!size)
        size = 1;
    if (p < bad) {
        va = bad_target(r, size) & ~(uint64_t)(align && fz_pct(r, 80) ? align - 1 : 0);
        c->no_native |= fz_mode != 8 && va + size - 1 > UINT32_MAX;
        return va;
    }
    if (p < bad + 120 && size > 1 && size < 0x400)
        va = FZ_DATA + 0x1000 - 1 - fz_below(r, size - 1);
    else
        va = FZ_DATA + low + fz_below(r, 0x2000 - size - low + 1);
    if (align > 1 && fz_pct(r, c->sequence ? 97 : 85)) {
        va &= ~(uint64_t)(align - 1);
        if (va + size > FZ_DATA + 0x2000)
            va -= align;
    }
    return va;
}
