/*
 * The jump cache: guest RIP to translated code for indirect branches and cross-page jumps. An entry
 * is a translation in the architecture's sense: it goes when the TLB entry it was made from would.
 */
#include "vcpu/bt/tr.h"

#include "paging/copy.h"
#include "vcpu/bt/world.h"

#define NPAGES_HASH (sizeof(((struct bt_vcpu *)0)->jc_pages) * 8)
#define LIST_MAX    (sizeof(((struct jc_list *)0)->slot) / sizeof(uint32_t))

static int32_t table(unsigned ctx)
{
    return (int32_t)(offsetof(struct vcpu, jc) + sizeof(struct jc_entry) * JC_ENTRIES * ctx);
}

uint32_t bt_jc_probe(struct emit *e, unsigned ctx)
{
    e_mov(e, H_B, H_A);
    e8(e, 0x41); /* and r11d, mask */
    e8(e, 0x81);
    e8(e, 0xe3);
    e32(e, (JC_ENTRIES - 1) << 1);
    e_gs_index(e, 0x3b, H_A, H_B, 3, table(ctx));
    return e_jcc(e, 5);
}

void bt_jc_go(struct emit *e, unsigned ctx, bool call)
{
    e_self(e); /* jmp or call gs:[r11 * 8 + code] */
    e8(e, 0x42);
    e8(e, 0xff);
    e8(e, (call ? 2 : 4) << 3 | 4);
    e8(e, 0xdd);
    e_self_disp(e, table(ctx) + 8);
}

/* A RIP whose own slot is another: an empty entry. */
static uint64_t no_rip(unsigned slot)
{
    return slot == 0 ? 2 : 0;
}

static unsigned page_hash(uint64_t rip)
{
    return (unsigned)((rip >> PAGE_SHIFT) * 0x9e3779b1u) % NPAGES_HASH;
}

void bt_jc_fill(struct vcpu *v, uint64_t rip, const struct bt_block *b, bool global)
{
    struct bt_vcpu *bv = v->bt;
    unsigned ctx = b->key & KEY_CTX, slot = jc_slot(rip);
    struct jc_entry *e = &v->jc[ctx][slot];
    unsigned last = page_hash(rip + b->len - 1), first = page_hash(rip);

    e->rip = rip;
    e->code = (uintptr_t)v->vm->bt->rx + b->entry_slot;
    bv->jc_pages[first / 8] |= (uint8_t)(1u << first % 8);
    bv->jc_pages[last / 8] |= (uint8_t)(1u << last % 8);
    if (global && !(rip >> 63))
        bv->low_globals = true;
    struct jc_list *l = &bv->jc_list[global];

    if (l->n < LIST_MAX)
        l->slot[l->n] = ctx << JC_BITS | slot;
    if (l->n <= LIST_MAX)
        l->n++;
}

/* Empty the entries on a list; false: it overflowed. */
static bool clear_list(struct vcpu *v, struct jc_list *l)
{
    if (l->n > LIST_MAX)
        return false;
    for (uint32_t i = 0; i < l->n; i++) {
        unsigned slot = l->slot[i] & (JC_ENTRIES - 1);

        v->jc[l->slot[i] >> JC_BITS][slot].rip = no_rip(slot);
    }
    l->n = 0;
    return true;
}

/* A fresh table is never touched here beyond what was filled: launches are short. */
static void clear_all(struct vcpu *v)
{
    bt_jc_forget_all(v);
    v->bt->low_globals = false;
    if (!clear_list(v, &v->bt->jc_list[0]) || !clear_list(v, &v->bt->jc_list[1])) {
        zero_bytes(v->jc, sizeof(v->jc));
        v->bt->jc_list[0].n = v->bt->jc_list[1].n = 0;
    }
    for (unsigned ctx = 0; ctx < TLB_CTXS; ctx++)
        if (v->jc[ctx][0].rip == 0)
            v->jc[ctx][0].rip = no_rip(0);
    zero_bytes(v->bt->jc_pages, sizeof(v->bt->jc_pages));
}

void bt_jc_forget_all(struct vcpu *v)
{
    pcids_forget_all(&v->bt->pcids);
}

void bt_note_forget(struct vcpu *v, uint16_t pcid)
{
    pcids_forget(&v->bt->pcids, pcid);
}

/* Only of the lower half, where nothing is global: what INVLPG drops whatever the PCID must not
 * come back. */
static void keep_current(struct vcpu *v, uint16_t pcid)
{
    struct bt_vcpu *bv = v->bt;
    const struct jc_list *l = &bv->jc_list[0];

    if (l->n > JC_KEPT || bv->low_globals)
        return;
    struct jc_kept *k = &bv->jc_kept[pcids_put(&bv->pcids, pcid)];

    k->gen = v->vm->bt->gen;
    k->n = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        const struct jc_entry *e = &v->jc[l->slot[i] >> JC_BITS][l->slot[i] & (JC_ENTRIES - 1)];

        if (e->rip >> 63 || jc_slot(e->rip) != (l->slot[i] & (JC_ENTRIES - 1)))
            continue;
        k->slot[k->n] = l->slot[i];
        k->entry[k->n++] = *e;
    }
}

static void put_back(struct vcpu *v, const struct jc_kept *k)
{
    struct bt_vcpu *bv = v->bt;
    struct jc_list *l = &bv->jc_list[0];

    for (uint32_t i = 0; i < k->n; i++) {
        unsigned h = page_hash(k->entry[i].rip);

        v->jc[k->slot[i] >> JC_BITS][k->slot[i] & (JC_ENTRIES - 1)] = k->entry[i];
        bv->jc_pages[h / 8] |= (uint8_t)(1u << h % 8);
        l->slot[l->n++] = k->slot[i];
    }
}

void bt_note_pcid(struct vcpu *v, uint16_t old, uint16_t pcid, bool keep)
{
    struct bt *bt = v->vm->bt;

    bt_lock(bt); /* no block goes meanwhile */
    keep_current(v, old);
    bt_note_cr3(v);
    int place = pcids_find(&v->bt->pcids, pcid);

    if (place >= 0 && keep && v->bt->jc_kept[place].gen == bt->gen)
        put_back(v, &v->bt->jc_kept[place]);
    pcids_forget(&v->bt->pcids, pcid);
    bt_unlock(bt);
}

void bt_jc_flush(struct vcpu *v)
{
    clear_all(v);
}

void bt_note_cr3(struct vcpu *v)
{
    bt_window_drop(v, false);
    if (!clear_list(v, &v->bt->jc_list[0]))
        clear_all(v);
}

static void unlink_cross(struct bt *bt)
{
    bt_lock(bt);
    bt_unlink_cross(bt);
    bt_unlock(bt);
}

void bt_note_paging(struct vcpu *v)
{
    clear_all(v);
    bt_window_drop(v, true);
    unlink_cross(v->vm->bt);
}

static void drop_page(struct jc_entry *jc, gva_t page)
{
    for (unsigned off = 0; off < PAGE_SIZE; off += 2) {
        unsigned slot = jc_slot(page + off);

        if ((jc[slot].rip ^ page) >> PAGE_SHIFT == 0)
            jc[slot].rip = no_rip(slot);
    }
}

void bt_note_invlpg(struct vcpu *v, gva_t lin, bool large)
{
    unsigned h = page_hash(lin);

    bt_window_drop_page(v, lin);
    /* Cross-page links exist between global pages of the upper half only. */
    if (lin >> 63)
        unlink_cross(v->vm->bt);
    /* A large page may be dropped whole, whichever piece of it lin is. */
    if (large) {
        clear_all(v);
        return;
    }
    if (!(v->bt->jc_pages[h / 8] >> (h % 8) & 1))
        return;
    /* The page before too: a block there may straddle into this one. */
    for (gva_t page = (lin & PAGE_MASK) - PAGE_SIZE; page != (lin & PAGE_MASK) + PAGE_SIZE;
         page += PAGE_SIZE)
        for (unsigned ctx = 0; ctx < TLB_CTXS; ctx++)
            drop_page(v->jc[ctx], page);
}
