/*
 * Threads and the shared code cache.
 *
 * bt->lock guards blocks, links and page lists. It is taken for short stretches by vCPU threads and
 * by whoever writes guest RAM (devices); nobody waits for anything else while holding it. It is
 * recursive: the page walk of a translation may write an A bit into a traced page.
 *
 * Two things must not happen while another vCPU is between two instructions of translated code: a
 * page becoming traced (the other may hold a checked write pointer into it), and the cache being
 * emptied. For those the world is stopped: every other vCPU is brought to the top of its run loop
 * and kept there. bt->lock is not held while stopping it, for a vCPU on its way out may need
 * devices, and devices the lock.
 */
#ifndef VCPU_BT_WORLD_H
#define VCPU_BT_WORLD_H

#include "vcpu/bt/bt_int.h"

void bt_lock(struct bt *bt);
void bt_unlock(struct bt *bt);

/* The top of v's run loop: wait while the world is stopped, then be counted as running. */
void bt_world_enter(struct vcpu *v);
/* v leaves run(), or is about to wait. */
void bt_world_leave(struct vcpu *v);

/* By a running vCPU's own thread, without bt->lock, and never from a callout (the thread counts as
 * standing still while it waits for its turn, and the cache may be emptied): every other vCPU
 * stands still until start. */
void bt_world_stop(struct vcpu *v);
void bt_world_start(struct vcpu *v);

#endif
