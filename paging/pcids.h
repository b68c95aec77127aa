/*
 * Which PCIDs have something put by for when they come back (tlb.h: TLB entries; vcpu/bt/tr.h:
 * jump cache entries). A place each, in number as many as Linux uses; what lies in a place is the
 * owner's, at the same index. Used on the thread of the vCPU alone. Zeroed: nobody has anything.
 */
#ifndef PAGING_PCIDS_H
#define PAGING_PCIDS_H

#include <stdbool.h>
#include <stdint.h>

#define PCIDS 6u

struct pcids {
    struct pcid_place {
        uint16_t pcid;
        bool used;
        uint32_t since; /* which one it was of all that were put by */
    } place[PCIDS];
    uint32_t puts;
};

/* The place of pcid, or -1: it has none. */
static inline int pcids_find(const struct pcids *p, uint16_t pcid)
{
    for (unsigned i = 0; i < PCIDS; i++)
        if (p->place[i].used && p->place[i].pcid == pcid)
            return (int)i;
    return -1;
}

/* A place for pcid, which has none: one in no use, or the one in use the longest. */
static inline unsigned pcids_put(struct pcids *p, uint16_t pcid)
{
    unsigned best = 0;

    for (unsigned i = 0; i < PCIDS; i++) {
        if (!p->place[i].used) {
            best = i;
            break;
        }
        if ((int32_t)(p->place[i].since - p->place[best].since) < 0)
            best = i;
    }
    p->place[best] = (struct pcid_place){pcid, true, p->puts++};
    return best;
}

static inline void pcids_forget(struct pcids *p, uint16_t pcid)
{
    int i = pcids_find(p, pcid);

    if (i >= 0)
        p->place[i].used = false;
}

static inline void pcids_forget_all(struct pcids *p)
{
    for (unsigned i = 0; i < PCIDS; i++)
        p->place[i].used = false;
}

#endif
