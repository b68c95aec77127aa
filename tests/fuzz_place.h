/*
 * Inside the placing of operands: an instruction on its way into a case, and what its classes
 * share.
 *
 *   fuzz_place.c  registers, displacements, ModRM operands; integer instructions
 *   fuzz_vec.c    vectors, x87, saved images
 *   fuzz_flow.c   strings, stack, branches
 */
#ifndef TESTS_FUZZ_PLACE_H
#define TESTS_FUZZ_PLACE_H

#include "tests/fuzz.h"

struct place {
    struct fz_case *c;
    struct fz_rng *r;
    unsigned i;
    uint16_t *keep, dirty;
};

static inline struct insn *fzp_insn(const struct place *p)
{
    return &p->c->in[p->i];
}

/* fz_set_reg() for this instruction; may a register no longer be chosen? */
bool fzp_set(struct place *p, unsigned reg, uint64_t val);
bool fzp_fixed(const struct place *p, unsigned reg);

/* n bytes of the instruction from off on become val. */
void fzp_patch(struct place *p, unsigned off, uint64_t val, unsigned n);
/* Give the displacement a value; false when it cannot have it. */
bool fzp_disp(struct place *p, uint64_t disp);

uint64_t fzp_next_rip(const struct place *p);
uint64_t fzp_seg_base(const struct place *p, unsigned seg);
/* An address register's value for an effective address: what is cut off is random. */
uint64_t fzp_widen(struct place *p, uint64_t val);
uint64_t fzp_mask_of(const struct insn *in); /* of the address size */

/* The ModRM memory operand to linear address target; false when it cannot be. Where it came to lie
 * in the end. */
bool fzp_mem(struct place *p, uint64_t target, unsigned size);
uint64_t fzp_placed(const struct place *p);

/* By class. */
bool fzp_vec(struct place *p);
bool fzp_vecsys(struct place *p);
bool fzp_string(struct place *p);
bool fzp_moffs(struct place *p);
bool fzp_stack(struct place *p);
bool fzp_branch(struct place *p);

#endif
