#include "vcpu/bt/world.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "vcpu/bt/tr.h"

/* 0 free, 1 held, 2 held and waited for. */
static void mutex_lock(_Atomic uint32_t *m)
{
    uint32_t c = 0;

    if (atomic_compare_exchange_strong(m, &c, 1))
        return;
    if (c != 2)
        c = atomic_exchange(m, 2);
    while (c) {
        syscall(SYS_futex, m, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
        c = atomic_exchange(m, 2);
    }
}

static void mutex_unlock(_Atomic uint32_t *m)
{
    if (atomic_exchange(m, 0) == 2)
        syscall(SYS_futex, m, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Its address names the thread. */
static _Thread_local char me;

void bt_lock(struct bt *bt)
{
    if (atomic_load_explicit(&bt->owner, memory_order_relaxed) == &me) {
        bt->depth++;
        return;
    }
    mutex_lock(&bt->mutex);
    atomic_store_explicit(&bt->owner, &me, memory_order_relaxed);
}

void bt_unlock(struct bt *bt)
{
    if (bt->depth) {
        bt->depth--;
        return;
    }
    atomic_store_explicit(&bt->owner, NULL, memory_order_relaxed);
    mutex_unlock(&bt->mutex);
}

void bt_world_enter(struct vcpu *v)
{
    struct bt *bt = v->vm->bt;

    if (v->vm->nvcpu == 1)
        return;
    atomic_store(&v->bt->running, 0);
    for (;;) {
        if (atomic_load(&bt->stopped)) {
            /* Whoever stopped the world holds this until it is over. */
            mutex_lock(&bt->world);
            mutex_unlock(&bt->world);
        }
        atomic_store(&v->bt->running, 1);
        if (!atomic_load(&bt->stopped))
            return;
        atomic_store(&v->bt->running, 0);
    }
}

void bt_world_leave(struct vcpu *v)
{
    atomic_store(&v->bt->running, 0);
}

void bt_world_stop(struct vcpu *v)
{
    struct vm_cpus *vm = v->vm;

    if (vm->nvcpu == 1)
        return;
    atomic_store(&v->bt->running, 0);
    mutex_lock(&vm->bt->world);
    atomic_store(&vm->bt->stopped, true);
    for (unsigned i = 0; i < vm->nvcpu; i++) {
        struct vcpu *o = vm->vcpu[i];

        if (o == v || !o->bt)
            continue;
        if (atomic_load(&o->bt->running))
            vcpu_kick(o);
        while (atomic_load(&o->bt->running))
            sched_yield();
    }
    atomic_store(&v->bt->running, 1);
}

void bt_world_start(struct vcpu *v)
{
    if (v->vm->nvcpu == 1)
        return;
    atomic_store(&v->vm->bt->stopped, false);
    mutex_unlock(&v->vm->bt->world);
}
