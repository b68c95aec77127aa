/*
 * The return stack: host RSP while translated code runs. A guest CALL is a host CALL of the
 * callee's translation, so that its RET is a host RET that the processor predicts. That comes to
 * the CALL's landing, which compares the address the guest's own stack gave. Anything out of step
 * (longjmp, a switch of stacks) fails the comparison and goes by the jump cache (glue.c).
 *
 * What lies on it are translations in the architecture's sense, good only for the mode and mappings
 * they were made under: it is emptied whenever the key, a TLB flush or an invalidation comes
 * between. At its bottom lies an address that does as a landing which is nobody's.
 */
#include <errno.h>
#include <sys/mman.h>
#include "vcpu/bt/tr.h"

int bt_ras_init(struct vcpu *v)
{
    uint8_t *p = mmap(NULL, PAGE_SIZE + RAS_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return -ENOMEM;
    if (mprotect(p, PAGE_SIZE, PROT_NONE)) {
        munmap(p, PAGE_SIZE + RAS_SIZE);
        return -ENOMEM;
    }
    v->bt->ras = p;
    v->hot.ras_base = v->hot.ras_rsp = (uintptr_t)p + PAGE_SIZE + RAS_SIZE - 8;
    v->bt->ras_gen = ~(uint64_t)0; /* to be settled */
    return 0;
}

void bt_ras_fini(struct vcpu *v)
{
    munmap(v->bt->ras, PAGE_SIZE + RAS_SIZE);
}

void bt_ras_settle(struct vcpu *v)
{
    struct bt_vcpu *bv = v->bt;
    uint64_t gen = __atomic_load_n(&v->vm->bt->gen, __ATOMIC_RELAXED);
    uint64_t *bottom = (uint64_t *)(uintptr_t)v->hot.ras_base;
    uint16_t key = bt_key(v);
    uint64_t empty = (uintptr_t)v->vm->bt->rx + v->vm->bt->g_ras_empty[key & KEY_CTX];

    /* What STAC began in the cache may have ended outside: the bottom says whose the stack is. */
    if (bv->ras_gen == gen && bv->ras_flushes == v->tlb.flushes && bv->ras_key == key &&
        *bottom == empty)
        return;
    bv->ras_gen = gen;
    bv->ras_flushes = v->tlb.flushes;
    bv->ras_key = key;
    v->hot.ras_rsp = v->hot.ras_base;
    *bottom = empty;
}
