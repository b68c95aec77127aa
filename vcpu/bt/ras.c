/*
 * The return stack: host RSP while translated code runs. A guest CALL pushes the guest's return
 * address and calls the callee's translation, so that its RET, once the address that the guest's
 * own stack gives compares equal, is a host RET that the processor predicts. Anything out of step
 * (longjmp, a switch of stacks) fails the comparison, empties it and goes by the jump cache.
 *
 * What lies on it are translations in the architecture's sense, good only for the mode and mappings
 * they were made under: it is emptied whenever the key, a TLB flush or an invalidation comes
 * between. Entries are 16 bytes, so that a full stack faults on its guard page at a push, never
 * halfway.
 */
#include <errno.h>
#include <sys/mman.h>
#include "vcpu/bt/tr.h"

int bt_ras_init(struct vcpu *v)
{
    uint8_t *p = mmap(NULL, PAGE_SIZE + RAS_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t lo, hi;

    if (p == MAP_FAILED)
        return -ENOMEM;
    if (mprotect(p, PAGE_SIZE, PROT_NONE)) {
        munmap(p, PAGE_SIZE + RAS_SIZE);
        return -ENOMEM;
    }
    v->bt->ras = p;
    uint64_t *bottom = (uint64_t *)(void *)(p + PAGE_SIZE + RAS_SIZE - 16);

    /* The bottom's return address: one that no guest can know, and not canonical. */
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    bottom[0] = (uintptr_t)v->vm->bt->rx + v->vm->bt->g_exit_slot;
    bottom[1] = (((uint64_t)hi << 32 | lo) * 0x9e3779b97f4a7c15u & ~(uint64_t)0 >> 2) | (uint64_t)1
                                                                                            << 62;
    v->hot.ras_base = v->hot.ras_rsp = (uintptr_t)bottom;
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
    uint8_t key = bt_key(v);

    if (bv->ras_gen == gen && bv->ras_flushes == v->tlb.flushes && bv->ras_key == key)
        return;
    bv->ras_gen = gen;
    bv->ras_flushes = v->tlb.flushes;
    bv->ras_key = key;
    v->hot.ras_rsp = v->hot.ras_base;
}
