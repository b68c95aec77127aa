/* Every form of a user-level instruction, found by asking the decoder about every encoding. */
#include <stdlib.h>
#include "tests/fuzz.h"

/* What tells one form from another. */
struct sig {
    const struct opinfo *info;
    uint16_t op; /* map, opcode */
    uint8_t has_mem, has_modrm, opsize, mem_size, lock, rep, repne, vex, vex_l, vex_w, pp;
};

/* How to make one: fields that the decoder's answer depends on. */
struct form {
    struct sig sig;
    uint8_t p66, rep_byte, lock, rexw; /* legacy */
    uint8_t vex, l, w, pp, map, opcode, modrm;
    bool vvvv_free;
    unsigned first; /* form of this opcode */
    struct insn example;
};

#define MAX_FORMS 8192
static struct form *forms;
static unsigned nforms;

static bool wanted(const struct insn *in)
{
    switch (insn_class(in)) {
    case IC_ALU:
        /* Their results are random. */
        return strcmp(in->info->name, "rdrand") && strcmp(in->info->name, "rdseed");
    case IC_VEC:
    case IC_X87:
    case IC_STACK:
    case IC_BRANCH:
    case IC_STRING:
    case IC_MOFFS:
        return true;
    case IC_VECSYS:
        return !(in->info->flags & OF_CPL0);
    default:
        return false;
    }
}

static void sig_of(const struct insn *in, struct sig *s)
{
    bool string = insn_class(in) == IC_STRING;

    memset(s, 0, sizeof(*s));
    s->info = in->info;
    s->op = (uint16_t)(in->map << 8 | in->opcode);
    s->has_mem = in->has_mem;
    s->has_modrm = in->has_modrm;
    s->opsize = in->opsize;
    s->mem_size = in->mem_size;
    s->lock = in->lock;
    s->rep = string && in->rep;
    s->repne = string && in->repne;
    s->vex = in->vex != 0;
    s->vex_l = in->vex_l;
    s->vex_w = in->vex ? in->vex_w : 0;
    s->pp = in->pp;
}

static unsigned put_legacy(uint8_t *b, const struct form *f, unsigned rex)
{
    unsigned n = 0;

    if (f->lock)
        b[n++] = 0xf0;
    if (f->p66)
        b[n++] = 0x66;
    if (f->rep_byte)
        b[n++] = f->rep_byte;
    if (fz_mode != 8)
        rex = 0;
    else if (f->rexw)
        rex |= 0x48;
    if (rex)
        b[n++] = (uint8_t)(rex | 0x40);
    if (f->map)
        b[n++] = 0x0f;
    if (f->map > 1)
        b[n++] = f->map == 2 ? 0x38 : 0x3a;
    b[n++] = f->opcode;
    return n;
}

/* rxb: REX-like bits 4 R, 2 X, 1 B. Two bytes where they can say it and short is set. */
static unsigned put_vex(uint8_t *b, const struct form *f, unsigned rxb, unsigned vvvv, bool brief)
{
    if (fz_mode != 8) { /* or it would be LES or LDS */
        rxb = 0;
        vvvv &= 7;
    }
    unsigned last = (~vvvv & 15) << 3 | (unsigned)f->l << 2 | f->pp;

    if (brief && f->map == 1 && !f->w && !(rxb & 3)) {
        b[0] = 0xc5;
        b[1] = (uint8_t)((rxb & 4 ? 0 : 0x80) | last);
        b[2] = f->opcode;
        return 3;
    }
    b[0] = 0xc4;
    b[1] = (uint8_t)((~rxb & 7) << 5 | f->map);
    b[2] = (uint8_t)((unsigned)f->w << 7 | last);
    b[3] = f->opcode;
    return 4;
}

static void consider(struct form *f)
{
    uint8_t b[INSN_MAX + 12] = {0};
    struct insn in;
    struct sig s;
    unsigned n = f->vex ? put_vex(b, f, 0, 0, false) : put_legacy(b, f, 0);
    bool with_none, with_one = false;

    b[n++] = f->modrm;
    b[n] = 0x20; /* SIB: base rAX, no index; VSIB: index 4 */
    with_none = decode(&in, b, INSN_MAX, fz_mode) == DEC_OK && wanted(&in);
    if (f->vex) {
        struct insn other;

        put_vex(b, f, 0, 5, false);
        with_one = decode(&other, b, INSN_MAX, fz_mode) == DEC_OK && wanted(&other);
        if (with_one)
            in = other;
    }
    if (!with_none && !with_one)
        return;
    sig_of(&in, &s);
    for (unsigned i = f->first; i < nforms; i++)
        if (!memcmp(&forms[i].sig, &s, sizeof(s)))
            return;
    if (nforms == MAX_FORMS)
        abort();
    f->vvvv_free = with_one;
    f->sig = s;
    f->example = in;
    forms[nforms++] = *f;
}

static void each_modrm(struct form *f)
{
    for (unsigned reg = 0; reg < 8; reg++)
        for (unsigned rm = 0; rm < 9; rm++) {
            /* [rAX], with SIB, and every register */
            f->modrm = (uint8_t)(reg << 3 | (rm == 8 ? 4 : 0xc0 | rm));
            consider(f);
        }
}

static bool is_prefix(unsigned op)
{
    return (op & 0xe7) == 0x26 || (fz_mode == 8 && (op & 0xf0) == 0x40) ||
           (op >= 0x64 && op <= 0x67) || op == 0xf0 || op == 0xf2 || op == 0xf3 || op == 0x0f ||
           op == 0xc4 || op == 0xc5 || op == 0x62;
}

unsigned fz_forms_init(void)
{
    static const uint8_t reps[] = {0, 0xf3, 0xf2};

    forms = calloc(MAX_FORMS, sizeof(*forms));
    if (!forms)
        abort();
    for (unsigned map = 0; map < 4; map++)
        for (unsigned op = 0; op < 256; op++) {
            unsigned first = nforms;

            if ((map == 0 && is_prefix(op)) || (map == 1 && (op == 0x38 || op == 0x3a)))
                continue;
            for (unsigned p = 0; p < 24; p++) {
                if (fz_mode != 8 && (p & 2))
                    continue;
                struct form f = {.p66 = p & 1,
                                 .rexw = p >> 1 & 1,
                                 .lock = p >> 2 & 1,
                                 .rep_byte = reps[p >> 3],
                                 .map = (uint8_t)map,
                                 .opcode = (uint8_t)op,
                                 .first = first};

                each_modrm(&f);
            }
            for (unsigned p = 0; p < 16 && map; p++) {
                struct form f = {.vex = 1,
                                 .l = p & 1,
                                 .w = p >> 1 & 1,
                                 .pp = (uint8_t)(p >> 2),
                                 .map = (uint8_t)map,
                                 .opcode = (uint8_t)op,
                                 .first = first};

                each_modrm(&f);
            }
        }
    return nforms;
}

const struct insn *fz_form(unsigned form)
{
    return &forms[form].example;
}

bool fz_form_is_vex(unsigned form)
{
    return forms[form].vex;
}

/* Prefixes that change the address, or nothing. */
static unsigned put_extra(uint8_t *b, struct fz_rng *r, const struct form *f)
{
    static const uint8_t noop[] = {0x2e, 0x36, 0x3e, 0x26};
    enum insn_class cls = insn_class(&f->example);
    bool branch = cls == IC_BRANCH;
    unsigned n = 0;

    /* 16-bit addresses reach nothing. */
    bool far = fz_mode != 8 && (f->sig.mem_size || cls == IC_STRING || cls == IC_VECSYS);

    if (fz_pct(r, 8) && !far && (!branch || f->opcode >= 0xe0))
        b[n++] = 0x67;
    if (fz_pct(r, 8))
        b[n++] = fz_pct(r, 50) ? 0x64 : 0x65;
    else if (fz_pct(r, 3))
        b[n++] = noop[fz_below(r, 4)];
    /* REP that means nothing here. Where F2, F3 choose the row, or elide a lock, it would not. */
    if (!f->vex && f->map == 0 && cls == IC_ALU && !f->rep_byte && !f->lock && f->opcode != 0x90 &&
        fz_pct(r, 2))
        b[n++] = fz_pct(r, 50) ? 0xf3 : 0xf2;
    return n;
}

/* One try; level 0 varies everything, 1 keeps modrm.reg, 2 keeps all of ModRM. */
static bool try_instance(struct fz_case *c, struct fz_rng *r, const struct form *f, unsigned at,
                         unsigned level)
{
    uint8_t b[32], modrm = f->modrm;
    uint64_t bits = fz_rnd(r);
    unsigned n = put_extra(b, r, f);
    struct insn *in = &c->in[c->n];
    struct sig s;

    if (f->vex) {
        n += put_vex(b + n, f, bits & 7, f->vvvv_free ? bits >> 3 & 15 : 0, bits >> 7 & 1);
    } else {
        unsigned rex = bits & 1 ? 0x40 | (bits >> 1 & 7) : 0;

        n += put_legacy(b + n, f, rex);
    }
    bits >>= 8;
    if (level == 0)
        modrm = (uint8_t)((modrm & 0xc7) | (bits & 0x38));
    if (level < 2) {
        if (f->modrm < 0xc0)
            modrm = (uint8_t)((modrm & 0x38) | (bits >> 6 & 7) |
                              (bits >> 9 & 1    ? 0x40
                               : bits >> 10 & 1 ? 0x80
                                                : 0));
        else
            modrm = (uint8_t)((modrm & 0xf8) | (bits >> 6 & 7));
    }
    b[n++] = modrm;
    for (unsigned k = 0; k < 2; k++) {
        uint64_t tail = fz_rnd(r);

        memcpy(b + n, &tail, 8);
        n += 8;
    }
    if (decode(in, b, INSN_MAX, fz_mode) != DEC_OK || at + in->len > FZ_MAX_CODE)
        return false;
    sig_of(in, &s);
    if (memcmp(&s, &f->sig, sizeof(s)))
        return false;
    memcpy(c->code + at, b, in->len);
    return true;
}

bool fz_form_instance(struct fz_case *c, struct fz_rng *r, unsigned form, unsigned at)
{
    for (unsigned k = 0; k < 12; k++)
        if (try_instance(c, r, &forms[form], at, k / 4))
            return true;
    return false;
}
