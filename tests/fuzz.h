/*
 * The differential test against the CPU itself: one ISA on both sides, so user-level instructions
 * run natively, in the interpreter and in the translator on the same random state, and everything
 * that software could see is compared.
 *
 *   fuzz_forms.c    every instruction form that decode() accepts, and instances of a form
 *   fuzz_state.c    random registers, vector state and memory
 *   fuzz_place.c    registers and memory made to fit an instruction's operands (with fuzz_vec.c,
 *                   fuzz_flow.c)
 *   fuzz_seq.c      short sequences: loops, branches, self-modification
 *   fuzz_prog.c     small programs as compilers make them
 *   fuzz_native.c   on the host CPU, with its faults caught
 *   fuzz_engine.c   in a guest at CPL 3, by interp or bt
 *   fuzz_compare.c  what must be equal, and what a difference looks like in print
 *   fuzz_effects.c  what the decoder says an instruction touches, against what it does
 *   fuzz_cpu.c      the command
 *
 * A case is a function of (seed, index): a failure prints both.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stdio.h>
#include <string.h>
#include "vcpu/bt/bt.h"
#include "vcpu/decode.h"

/* Linear addresses, the same for the guest and natively. What is not listed is absent. */
enum {
    FZ_CODE = 0x10000000, /* two pages, RWX */
    FZ_WIN = 0x100c0000,  /* from here to the data is memory where FZ_WINDOWS is asked for */
    FZ_DATA = 0x10100000, /* two pages, RWX */
    FZ_RO = 0x10104000,   /* one page, read-only, no execute */
    FZ_SUPER = 0x10106000 /* one page, supervisor's; natively absent */
};
#define FZ_AREA     0x120000u /* from FZ_CODE on: all of these and gaps */
#define FZ_MAX_CODE 320
#define FZ_MAX_INSN 40
#define FZ_INT3     0xcc /* fills the code pages: where a run ends */

/* Of the code: 8, or 4: compatibility mode, the same cases with registers and addresses of 32 bits.
 * Set before all else. */
extern unsigned fz_mode;
static inline unsigned fz_nregs(void)
{
    return fz_mode == 8 ? NGPR : 8;
}
static inline uint64_t fz_wrap(uint64_t val)
{
    return fz_mode == 8 ? val : (uint32_t)val;
}

/* The part of struct cpu that the program sees. */
struct fz_state {
    uint64_t gpr[NGPR], rip, rflags, fs_base, gs_base;
    _Alignas(64) uint8_t xsave[XSAVE_AREA_SIZE];
};

struct fz_case {
    uint64_t seed, index;
    bool sequence;
    uint64_t code_va; /* of the first instruction */
    unsigned len, n;
    uint8_t code[FZ_MAX_CODE];
    uint16_t off[FZ_MAX_INSN + 1]; /* of instruction i in code */
    struct insn in[FZ_MAX_INSN];
    uint64_t pad_va; /* single branches: one more place where a run ends, 0 none */
    struct fz_state st;
    uint8_t data[2][PAGE_SIZE]; /* the data pages before the run, code not in them */
    bool code_in_data;
    bool no_native;                     /* only interp against bt */
    unsigned patches;                   /* stores into the code, of a byte each */
    uint16_t undef;                     /* flags undefined at the end */
    uint16_t undef_at[FZ_MAX_INSN + 1]; /* ... before instruction i */
    /* Memory that is not compared: x87 pointers in saved images. */
    struct {
        uint64_t va;
        unsigned len;
    } mask[4];
    unsigned nmask;
    unsigned form; /* single instructions */
};

enum { FZ_END = -1, FZ_LOST = -2 };
struct fz_result {
    int vector; /* FZ_END: came to a place where runs end; FZ_LOST: never did */
    uint32_t error;
    uint64_t cr2; /* #PF */
    bool astray;  /* interp: executed something outside the code */
    struct fz_state st;
    const uint8_t *page[4]; /* data, data, code, code as the run left them */
};

/* xorshift64*. */
struct fz_rng {
    uint64_t s;
};
static inline uint64_t fz_rnd(struct fz_rng *r)
{
    r->s ^= r->s >> 12;
    r->s ^= r->s << 25;
    r->s ^= r->s >> 27;
    return r->s * 0x2545f4914f6cdd1dULL;
}
static inline unsigned fz_below(struct fz_rng *r, unsigned n)
{
    return (unsigned)((fz_rnd(r) >> 32) * n >> 32);
}
/* n times in 100. */
static inline bool fz_pct(struct fz_rng *r, unsigned n)
{
    return fz_below(r, 100) < n;
}
static inline void fz_seed(struct fz_rng *r, uint64_t seed, uint64_t index)
{
    r->s = (seed + 1) * 0x9e3779b97f4a7c15ULL ^ (index + 1) * 0xd1342543de82ef95ULL;
    r->s |= 1;
    for (int i = 0; i < 4; i++)
        fz_rnd(r);
}

/* --- fuzz_forms.c --- */
unsigned fz_forms_init(void); /* how many there are */
/* Bytes of an instance of the form into c->code at at, and c->in[c->n]. False: none fits there. */
bool fz_form_instance(struct fz_case *c, struct fz_rng *r, unsigned form, unsigned at);
const struct insn *fz_form(unsigned form); /* a decoded example */
bool fz_form_is_vex(unsigned form);

/* --- fuzz_state.c --- */
void fz_state_init(uint64_t seed);
/* State, data pages and the place of the code; no instruction yet. room: bytes the code may need;
 * alone: no code in the data pages. */
void fz_random_state(struct fz_case *c, struct fz_rng *r, unsigned room, bool alone);
uint64_t fz_interesting(struct fz_rng *r);
void fz_poke(struct fz_case *c, uint64_t va, const void *src, unsigned n);
void fz_poke64(struct fz_case *c, uint64_t va, uint64_t val);
uint64_t fz_peek(const struct fz_case *c, uint64_t va, unsigned n);
/* Is [va, va+n) in the data pages and clear of code? */
bool fz_data_free(const struct fz_case *c, uint64_t va, uint64_t n);
/* A linear address for an access of size bytes; mostly one that works. */
uint64_t fz_target(struct fz_case *c, struct fz_rng *r, unsigned size, unsigned align);

/* --- fuzz_place.c --- */
/* Choose where instruction i's operands lie, and set registers, displacement and memory for it.
 * *keep: registers whose value is relied upon (grows); dirty: written by instructions before.
 * False: cannot be done. */
bool fz_place(struct fz_case *c, struct fz_rng *r, unsigned i, uint16_t *keep, uint16_t dirty);
/* Set a register for a purpose, within keep and dirty. */
bool fz_set_reg(struct fz_case *c, uint16_t *keep, uint16_t dirty, unsigned reg, uint64_t val);
/* c->code changed under instruction i: decode it anew. */
void fz_redecode(struct fz_case *c, unsigned i);
/* Flags that instruction i leaves undefined. */
uint16_t fz_undef(const struct fz_case *c, unsigned i, bool known_cl);
void fz_single(struct fz_case *c, uint64_t seed, uint64_t index, unsigned nforms);

/* --- fuzz_seq.c --- */
void fz_sequence(struct fz_case *c, uint64_t seed, uint64_t index, unsigned nforms);
/* Arithmetic flags that the translator may know nobody reads before they are written again, at
 * instruction i: what a fault there pushes of them is not defined (bt_int.h). */
uint16_t fz_dead_flags(const struct fz_case *c, unsigned i);

/* --- fuzz_prog.c --- */
void fz_program(struct fz_case *c, uint64_t seed, uint64_t index);

/* --- fuzz_native.c --- */
/* 0, or -errno with the step that failed. */
int fz_native_init(const char **what);
/* Told of every signal that no native run caused, with where it happened. */
extern void (*fz_crash)(int sig, uint64_t pc);
bool fz_native_bases(void); /* can FS and GS have bases? */
/* False: it would touch this process. guess: what interp made of it. */
bool fz_native_run(const struct fz_case *c, const struct fz_result *guess, struct fz_result *out);

/* --- fuzz_engine.c --- */
int fz_engine_init(const char **what);
void fz_interp_run(const struct fz_case *c, struct fz_result *out);
/* With debug's bits of bt_debug; FZ_WINDOWS: the data pages are in the translator's linear windows.
 */
#define FZ_WINDOWS 0x10000u
void fz_bt_run(const struct fz_case *c, unsigned debug, struct fz_result *out);
/* From now on bt is kicked every so many microseconds: such a run does not repeat. 0 or -errno. */
int fz_kicks(unsigned us);
void fz_engine_tally(void); /* prints how much of bt was used */
bool fz_guest_xsavec(void); /* does the guest's CPUID offer XSAVEC and compacted images? */

/* --- fuzz_compare.c --- */
enum fz_who { FZ_NATIVE, FZ_INTERP, FZ_BT };
/* Are they the same, but for what the manuals leave open? debug: bt's switches. */
bool fz_same(const struct fz_case *c, const struct fz_result *a, enum fz_who who_a,
             const struct fz_result *b, enum fz_who who_b, unsigned debug);
/* The case and every difference. */
void fz_report(const struct fz_case *c, const struct fz_result *a, enum fz_who who_a,
               const struct fz_result *b, enum fz_who who_b, unsigned debug);
void fz_print_case(const struct fz_case *c);
/* Put the vector state in the form that says everything: components in their initial state are
 * written out, pointers are zero. */
void fz_normalize(uint8_t *xsave);

/* --- fuzz_effects.c --- */
void fz_effects_init(unsigned nforms);
/* c, a single instruction, did a in interp: is what it touched what the decoder says? */
bool fz_effects(const struct fz_case *c, const struct fz_result *a);
/* Prints how many forms there were. enough: there were so many cases that whatever is missing from
 * the tables would have been noticed; false if not. */
bool fz_effects_tally(unsigned nforms, bool enough);

#endif
