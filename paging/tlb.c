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

static void no_large(struct tlb *tlb, unsigned half)
{
    tlb->large[half].lo = ~(gva_t)0;
    tlb->large[half].hi = 0;
    tlb->large[half].global = false;
}

void tlb_init(struct tlb *tlb)
{
    for (unsigned ctx = 0; ctx < TLB_CTXS; ctx++)
        for (unsigned kind = 0; kind < TLB_KINDS; kind++)
            for (unsigned slot = 0; slot < 2; slot++)
                clear_entry(tlb, ctx, kind, slot);
    no_large(tlb, 0);
    no_large(tlb, 1);
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

static void note_large(struct tlb *tlb, gva_t lin, bool global)
{
    unsigned half = (unsigned)(lin >> 63);

    if (lin < tlb->large[half].lo)
        tlb->large[half].lo = lin & ~(GIB - 1);
    if (lin > tlb->large[half].hi)
        tlb->large[half].hi = lin | (GIB - 1);
    tlb->large[half].global |= global;
}

void tlb_fill(struct tlb *tlb, enum tlb_ctx ctx, enum tlb_kind kind, gva_t lin, void *host,
              bool global, bool large)
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
    if (large)
        note_large(tlb, lin, global);
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
        if (!tlb->large[half].global)
            no_large(tlb, half);
}

/* Pages above 4 KiB are entered by 4 KiB pieces; INVLPG drops the whole mapping (SDM 3A 4.10.4.1),
 * so every piece that any such page may have left goes: those within 1 GiB of lin. */
static void flush_large(struct tlb *tlb, gva_t lin)
{
    for (unsigned ctx = 0; ctx < TLB_CTXS; ctx++)
        for (unsigned kind = 0; kind < TLB_KINDS; kind++)
            for (unsigned slot = 0; slot < TLB_ENTRIES; slot++)
                if (tlb_page(&tlb->e[ctx][kind][slot]) >> 30 == lin >> 30)
                    clear_entry(tlb, ctx, kind, slot);
}

void tlb_flush_page(struct tlb *tlb, gva_t lin)
{
    unsigned slot = tlb_slot(lin);

    tlb->flushes++;
    if (lin >= tlb->large[lin >> 63].lo && lin <= tlb->large[lin >> 63].hi) {
        flush_large(tlb, lin);
        return;
    }
    for (unsigned ctx = 0; ctx < TLB_CTXS; ctx++)
        for (unsigned kind = 0; kind < TLB_KINDS; kind++)
            if (tlb_page(&tlb->e[ctx][kind][slot]) == (lin & PAGE_MASK))
                clear_entry(tlb, ctx, kind, slot);
}

void tlb_drop_writes(struct tlb *tlb, const void *host_page)
{
    unsigned ctx, kind, slot, n[2] = {tlb->filled[0].n, tlb->filled[1].n};

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
