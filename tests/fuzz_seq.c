#include "tests/fuzz.h"
void fz_sequence(struct fz_case *c, uint64_t seed, uint64_t index, unsigned nforms)
{
    (void)c, (void)seed, (void)index, (void)nforms;
}
uint16_t fz_dead_flags(const struct fz_case *c, unsigned i)
{
    return i < c->n ? (uint16_t)(c->in[i].fl_write & ~c->in[i].fl_read & FL_ARITH) : 0;
}
