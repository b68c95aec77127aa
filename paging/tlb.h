/*
 * The software TLB of one vCPU: direct-mapped, separate tags for read, write and execute, and a set
 * for each kind of privilege: supervisor, user, and supervisor with EFLAGS.AC under SMAP.
 * Translated code probes it inline; the interpreter and every callout use the same entries, so
 * there is one truth to flush.
 *
 * An entry hits when last - (lin + add) is at least size - 4097, unsigned: one comparison checks
 * page and page crossing both, and the host address lin + add does not wait for it. A zeroed table
 * is empty except slots 0 and 1 (tlb_init).
 *
 * Threads: the owning vCPU's thread alone.
 */
#ifndef PAGING_TLB_H
#define PAGING_TLB_H

#include "paging/pcids.h"
#include "paging/walk.h"

#define TLB_BITS    12
#define TLB_ENTRIES (1u << TLB_BITS)
#define TLB_LARGE   4096u

struct tlb_entry {
    uint64_t add;  /* hva less linear address */
    uint64_t last; /* hva of the byte before the page */
};

enum tlb_kind { TLB_R, TLB_W, TLB_X, TLB_KINDS };

/* Whose accesses: the first index of struct tlb.e. TLB_SUPER_AC only when CR4.SMAP is set. */
enum tlb_ctx { TLB_SUPER, TLB_USER, TLB_SUPER_AC, TLB_CTXS };

/* What a PCID that is not the current one has: entries that are not global, as they were. */
#define TLB_KEPT 192
struct tlb_kept {
    uint32_t n;
    uint16_t at[TLB_KEPT];
    struct tlb_entry entry[TLB_KEPT];
};

struct tlb {
    struct tlb_entry e[TLB_CTXS][TLB_KINDS][TLB_ENTRIES];
    /* Entries filled since they were last flushed, so that a flush clears just those: [0] what a
     * CR3 write drops, [1] global ones. n beyond the array: more than are listed. */
    struct {
        uint32_t n;
        uint16_t entry[8192];
    } filled[2];
    /* Where INVLPG drops more than a page: pieces of pages of 2 and 4 MiB may be in the 2 MiB of
     * which the number, by TLB_LARGE, has its bit set, [1] those that survive a CR3 write; four:
     * there were some of 4 MiB. Pieces of 1 GiB are in the linear ranges huge, low and high half of
     * the address space, empty when lo > hi. */
    uint8_t large[2][TLB_LARGE / 8];
    bool any_large[2], four;
    struct {
        gva_t lo, hi;
        bool global;
    } huge[2];
    uint8_t global[TLB_CTXS][TLB_KINDS][TLB_ENTRIES / 8]; /* bit: survives a CR3 write */
    uint64_t fills, flushes, misses;
    uint16_t pcid; /* the current one */
    struct pcids pcids;
    struct tlb_kept kept[PCIDS];
};

static inline unsigned tlb_slot(gva_t lin)
{
    return (unsigned)(lin >> PAGE_SHIFT) & (TLB_ENTRIES - 1);
}

void tlb_init(struct tlb *tlb);

/* Enter the translation of lin's 4 KiB, which are of a page of page_size. */
void tlb_fill(struct tlb *tlb, enum tlb_ctx ctx, enum tlb_kind kind, gva_t lin, void *host,
              bool global, uint64_t page_size);

void tlb_flush_all(struct tlb *tlb);       /* CR0/CR4/EFER changes, INVPCID all */
void tlb_flush_nonglobal(struct tlb *tlb); /* MOV CR3 */
/* Another PCID: what the current one has is kept for when it comes back, if it is little, and what
 * the new one has kept is there again, or (!keep) is not. */
void tlb_switch(struct tlb *tlb, uint16_t pcid, bool keep);
/* A PCID that is not the current one has nothing any more; all of those. */
void tlb_forget(struct tlb *tlb, uint16_t pcid);
void tlb_forget_all(struct tlb *tlb);
/* INVLPG: all sets, all kinds. True: it may have been a large page, all of which is gone. */
bool tlb_flush_page(struct tlb *tlb, gva_t lin);

/* Drop every write entry whose host page is host_page: the page just became traced. */
void tlb_drop_writes(struct tlb *tlb, const void *host_page);

/* The linear page that an entry in use is for, and its hva. */
static inline gva_t tlb_page(const struct tlb_entry *e)
{
    return e->last + 1 - e->add;
}
static inline uint64_t tlb_host(const struct tlb_entry *e)
{
    return e->last + 1;
}

/* The host pointer of [lin, lin+size) if the entry is there and no page is crossed, else NULL. */
static inline void *tlb_lookup(const struct tlb *tlb, enum tlb_ctx ctx, enum tlb_kind kind,
                               gva_t lin, unsigned size)
{
    const struct tlb_entry *e = &tlb->e[ctx][kind][tlb_slot(lin)];
    uint64_t host = lin + e->add;

    return e->last - host >= (uint64_t)size - PAGE_SIZE - 1 ? (void *)(uintptr_t)host : (void *)0;
}

#endif
