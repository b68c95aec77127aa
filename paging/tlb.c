#include "paging/tlb.h"

#include "paging/copy.h"

/* An entry that nothing looked up in its slot can hit: zeroes would be for linear addresses 1 to
 * 4096, which slots 0 and 1 are asked for; theirs is for page 2. */
#define EMPTY_LAST(slot) ((slot) < 2 ? (uint64_t)2 * PAGE_SIZE - 1 : 0)

#define MAX_FILLED (sizeof(((struct tlb *)0)->filled[0].entry) / sizeof(uint16_t))

static void clear_entry(struct tlb *tlb, unsigned ctx, unsigned kind, unsigned slot)
{
    tlb->e[ctx][kind][slot] = (struct tlb_entry){.last = EMPTY_LAST(slot)};
}

static void no_huge(struct tlb *tlb, unsigned half)
{
    tlb->huge[half].lo = ~(gva_t)0;
    tlb->huge[half].hi = 0;
    tlb->huge[half].global = false;
}

static void no_large(struct tlb *tlb, bool global)
{
    if (tlb->any_large[global])
        zero_bytes(tlb->large[global], sizeof(tlb->large[global]));
    tlb->any_large[global] = false;
}

void tlb_init(struct tlb *tlb)
{
    for (unsigned ctx = 0; ctx < TLB_CTXS; ctx++)
        for (unsigned kind = 0; kind < TLB_KINDS; kind++)
            for (unsigned slot = 0; slot < 2; slot++)
                clear_entry(tlb, ctx, kind, slot);
    no_huge(tlb, 0);
    no_huge(tlb, 1);
    no_large(tlb, false);
    no_large(tlb, true);
    tlb->four = false;
}

/* Packed for the filled list: ctx and kind above the slot's bits. */
static unsigned pack(unsigned ctx, unsigned kind, unsigned slot)
{
    return (ctx * TLB_KINDS + kind) << TLB_BITS | slot;
}

static void unpack(unsigned p, unsigned *ctx, unsigned *kind, unsigned *slot)
{
    *slot = p & (TLB_ENTRIES - 1);
    *ctx = (p >> TLB_BITS) / TLB_KINDS;
    *kind = (p >> TLB_BITS) % TLB_KINDS;
}

static void note_huge(struct tlb *tlb, gva_t lin, bool global)
{
    unsigned half = (unsigned)(lin >> 63);

    if (lin < tlb->huge[half].lo)
        tlb->huge[half].lo = lin & ~(GIB - 1);
    if (lin > tlb->huge[half].hi)
        tlb->huge[half].hi = lin | (GIB - 1);
    tlb->huge[half].global |= global;
}

/* The number of lin's 2 MiB. Those with the same number share their slots. */
static unsigned granule(gva_t lin)
{
    return (unsigned)(lin >> 21) & (TLB_LARGE - 1);
}

static void note_large(struct tlb *tlb, gva_t lin, bool global, uint64_t page_size)
{
    unsigned g = granule(lin);

    if (page_size >= GIB) {
        note_huge(tlb, lin, global);
        return;
    }
    tlb->large[global][g / 8] |= (uint8_t)(1u << (g % 8));
    tlb->any_large[global] = true;
    if (page_size > 2 * MIB) { /* one of two, and which, does not matter: 4 MiB */
        tlb->large[global][g / 8] |= (uint8_t)(1u << ((g ^ 1) % 8));
        tlb->four = true;
    }
}

void tlb_fill(struct tlb *tlb, enum tlb_ctx ctx, enum tlb_kind kind, gva_t lin, void *host,
              bool global, uint64_t page_size)
{
    unsigned slot = tlb_slot(lin);
    struct tlb_entry *e = &tlb->e[ctx][kind][slot];
    uint8_t *gmap = &tlb->global[ctx][kind][slot / 8];
    uint8_t bit = (uint8_t)(1u << (slot % 8));
    /* An entry of the same class that is in use is listed already. */
    bool listed = e->last != EMPTY_LAST(slot) && !(*gmap & bit) == !global;

    e->last = ((uintptr_t)host & PAGE_MASK) - 1;
    e->add = e->last + 1 - (lin & PAGE_MASK);
    if (global)
        *gmap |= bit;
    else
        *gmap &= (uint8_t)~bit;
    if (page_size > PAGE_SIZE)
        note_large(tlb, lin, global, page_size);
    tlb->fills++;
    if (!listed) {
        if (tlb->filled[global].n < MAX_FILLED)
            tlb->filled[global].entry[tlb->filled[global].n] = (uint16_t)pack(ctx, kind, slot);
        if (tlb->filled[global].n <= MAX_FILLED)
            tlb->filled[global].n++;
    }
}

/* Clear what a list names, but for entries that now belong to the other class. */
static bool clear_filled(struct tlb *tlb, bool global)
{
    unsigned ctx, kind, slot;

    if (tlb->filled[global].n > MAX_FILLED)
        return false;
    for (unsigned i = 0; i < tlb->filled[global].n; i++) {
        unpack(tlb->filled[global].entry[i], &ctx, &kind, &slot);
        if ((tlb->global[ctx][kind][slot / 8] >> (slot % 8) & 1) == global)
            clear_entry(tlb, ctx, kind, slot);
    }
    tlb->filled[global].n = 0;
    return true;
}

void tlb_flush_all(struct tlb *tlb)
{
    /* Each list leaves alone what changed class since, and the other list has that. */
    if (!clear_filled(tlb, false) || !clear_filled(tlb, true)) {
        zero_bytes(tlb->e, sizeof(tlb->e));
        tlb->filled[0].n = tlb->filled[1].n = 0;
    }
    tlb_init(tlb);
    tlb_forget_all(tlb);
    tlb->flushes++;
}

void tlb_flush_nonglobal(struct tlb *tlb)
{
    tlb->flushes++;
    if (!clear_filled(tlb, false)) {
        for (unsigned ctx = 0; ctx < TLB_CTXS; ctx++)
            for (unsigned kind = 0; kind < TLB_KINDS; kind++)
                for (unsigned slot = 0; slot < TLB_ENTRIES; slot++)
                    if (!(tlb->global[ctx][kind][slot / 8] >> (slot % 8) & 1))
                        clear_entry(tlb, ctx, kind, slot);
        tlb->filled[0].n = 0;
    }
    for (unsigned half = 0; half < 2; half++)
        if (!tlb->huge[half].global)
            no_huge(tlb, half);
    no_large(tlb, false);
}

/* Pages above 4 KiB are entered by 4 KiB pieces; INVLPG drops the whole mapping (SDM 3A 4.10.4.1),
 * so every piece that any such page may have left goes: of 1 GiB those within 1 GiB of lin; */
static void flush_huge(struct tlb *tlb, gva_t lin)
{
    for (unsigned ctx = 0; ctx < TLB_CTXS; ctx++)
        for (unsigned kind = 0; kind < TLB_KINDS; kind++)
            for (unsigned slot = 0; slot < TLB_ENTRIES; slot++)
                if (tlb_page(&tlb->e[ctx][kind][slot]) >> 30 == lin >> 30)
                    clear_entry(tlb, ctx, kind, slot);
}

/* and of 2 MiB whatever is in their slots, so that the bit is not needed any more. */
static void flush_large(struct tlb *tlb, gva_t lin)
{
    unsigned g = granule(lin), slot = tlb_slot(lin & ~(2 * MIB - 1));

    for (unsigned ctx = 0; ctx < TLB_CTXS; ctx++)
        for (unsigned kind = 0; kind < TLB_KINDS; kind++) {
            zero_bytes(&tlb->e[ctx][kind][slot], 2 * MIB / PAGE_SIZE * sizeof(struct tlb_entry));
            if (slot == 0) {
                clear_entry(tlb, ctx, kind, 0);
                clear_entry(tlb, ctx, kind, 1);
            }
        }
    tlb->large[0][g / 8] &= (uint8_t) ~(1u << (g % 8));
    tlb->large[1][g / 8] &= (uint8_t) ~(1u << (g % 8));
}

bool tlb_flush_page(struct tlb *tlb, gva_t lin)
{
    unsigned slot = tlb_slot(lin), g = granule(lin);

    tlb->flushes++;
    bool huge = lin >= tlb->huge[lin >> 63].lo && lin <= tlb->huge[lin >> 63].hi;

    if (huge)
        flush_huge(tlb, lin);
    if (huge || ((tlb->large[0][g / 8] | tlb->large[1][g / 8]) >> (g % 8) & 1)) {
        flush_large(tlb, lin);
        if (tlb->four)
            flush_large(tlb, lin ^ 2 * MIB);
        return true;
    }
    for (unsigned ctx = 0; ctx < TLB_CTXS; ctx++)
        for (unsigned kind = 0; kind < TLB_KINDS; kind++)
            if (tlb_page(&tlb->e[ctx][kind][slot]) == (lin & PAGE_MASK))
                clear_entry(tlb, ctx, kind, slot);
    return false;
}

void tlb_forget(struct tlb *tlb, uint16_t pcid)
{
    pcids_forget(&tlb->pcids, pcid);
}

void tlb_forget_all(struct tlb *tlb)
{
    pcids_forget_all(&tlb->pcids);
}

/* Pieces of large pages stay out of it: INVLPG would not find them there. */
static void keep_current(struct tlb *tlb)
{
    bool huge = (tlb->huge[0].lo <= tlb->huge[0].hi && !tlb->huge[0].global) ||
                (tlb->huge[1].lo <= tlb->huge[1].hi && !tlb->huge[1].global);
    unsigned ctx, kind, slot;

    if (tlb->filled[0].n > TLB_KEPT || tlb->any_large[0] || huge)
        return;
    struct tlb_kept *k = &tlb->kept[pcids_put(&tlb->pcids, tlb->pcid)];

    k->n = 0;
    for (unsigned i = 0; i < tlb->filled[0].n; i++) {
        unpack(tlb->filled[0].entry[i], &ctx, &kind, &slot);
        const struct tlb_entry *e = &tlb->e[ctx][kind][slot];

        if (e->last == EMPTY_LAST(slot) || (tlb->global[ctx][kind][slot / 8] >> (slot % 8) & 1))
            continue;
        k->at[k->n] = tlb->filled[0].entry[i];
        k->entry[k->n++] = *e;
    }
}

void tlb_switch(struct tlb *tlb, uint16_t pcid, bool keep)
{
    unsigned ctx, kind, slot;

    keep_current(tlb);
    tlb_flush_nonglobal(tlb);
    tlb->pcid = pcid;
    int place = pcids_find(&tlb->pcids, pcid);

    if (place < 0)
        return;
    const struct tlb_kept *k = &tlb->kept[place];

    tlb->pcids.place[place].used = false;
    for (unsigned i = 0; keep && i < k->n; i++) {
        unpack(k->at[i], &ctx, &kind, &slot);
        if (k->entry[i].last == EMPTY_LAST(slot))
            continue; /* tlb_drop_writes() */
        tlb_fill(tlb, ctx, kind, tlb_page(&k->entry[i]), (void *)(uintptr_t)tlb_host(&k->entry[i]),
                 false, PAGE_SIZE);
    }
}

void tlb_drop_writes(struct tlb *tlb, const void *host_page)
{
    unsigned ctx, kind, slot, n[2] = {tlb->filled[0].n, tlb->filled[1].n};

    for (unsigned place = 0; place < PCIDS; place++) {
        struct tlb_kept *k = &tlb->kept[place];

        for (unsigned i = 0; tlb->pcids.place[place].used && i < k->n; i++) {
            unpack(k->at[i], &ctx, &kind, &slot);
            if (kind == TLB_W && tlb_host(&k->entry[i]) == (uintptr_t)host_page)
                k->entry[i] = (struct tlb_entry){.last = EMPTY_LAST(slot)};
        }
    }

    /* While the lists are whole, what is in them is all there is. */
    if (n[0] <= MAX_FILLED && n[1] <= MAX_FILLED) {
        for (unsigned list = 0; list < 2; list++)
            for (unsigned i = 0; i < n[list]; i++) {
                unpack(tlb->filled[list].entry[i], &ctx, &kind, &slot);
                if (kind == TLB_W && tlb_host(&tlb->e[ctx][kind][slot]) == (uintptr_t)host_page)
                    clear_entry(tlb, ctx, kind, slot);
            }
        return;
    }
    for (ctx = 0; ctx < TLB_CTXS; ctx++)
        for (slot = 0; slot < TLB_ENTRIES; slot++)
            if (tlb_host(&tlb->e[ctx][TLB_W][slot]) == (uintptr_t)host_page)
                clear_entry(tlb, ctx, TLB_W, slot);
}
