/* The host sequences between C and translated code (glue.c). */
#ifndef VCPU_BT_GLUE_H
#define VCPU_BT_GLUE_H

#include "vcpu/bt/bt_int.h"

/* Make them at the start of the cache; sets bt->g_* and bt->start. */
void bt_glue_init(struct bt *bt);

#endif
