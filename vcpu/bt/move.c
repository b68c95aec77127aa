/*
 * Translations for another address. A program that starts again lies elsewhere, in the same pages
 * of the page cache; what was translated of it is right but for the constants made of RIP, and
 * those are few and listed (enum bt_reloc). The bytes are the same by construction: a block goes as
 * soon as one of them is written, whatever the address they are seen at.
 *
 * A block is copied as long as few addresses share it, then the one that was looked up the longest
 * ago moves, with all of its page and the links within. Whoever misses it where it was gets a copy,
 * so that programs which take turns, all of them with the same library, do not take each other's.
 * With several vCPUs, of which another may be in it, it is always a copy.
 */
#include "paging/copy.h"
#include "vcpu/bt/tr.h"
#include "vcpu/bt/world.h"

#define COPIES    2  /* of a block, at as many addresses; */
#define MISSED    16 /* where it is missed */
#define MAX_LINKS (BT_MAX_SIDES + 4)

/* Addresses that never move are shorter in what is translated; those of position-independent
 * programs are far above. */
#define LOW  ((uint64_t)8 * GIB)
#define HIGH ((uint64_t)1 << 47)

bool bt_movable(const struct vcpu *v, uint64_t rip, uint16_t key)
{
    if ((bt_debug & BT_DBG_NO_MOVE) || (key & (KEY_PLAIN | KEY_32)) ||
        (v->vm->debug && v->vm->debug->ncode))
        return false;
    return bt_debug & BT_DBG_MOVE_LOW ? rip < HIGH : rip - LOW < HIGH - LOW;
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t x;

    __builtin_memcpy(&x, p, 8);
    return x;
}

static void add32(uint8_t *p, uint32_t add)
{
    uint32_t x;

    __builtin_memcpy(&x, p, 4);
    x += add;
    __builtin_memcpy(p, &x, 4);
}

static void add64(uint8_t *p, uint64_t add)
{
    uint64_t x = get64(p) + add;

    __builtin_memcpy(p, &x, 8);
}

/* The displacement of a slot, 16 bytes each, in a table that begins at base and is made of tables
 * of n slots: to the slot add further on, round the end. */
static void turn_slot(uint8_t *p, uint32_t base, uint32_t n, uint32_t add)
{
    uint32_t disp, slot;

    __builtin_memcpy(&disp, p, 4);
    slot = (disp - base) / 16 & (n - 1);
    disp += (((slot + add) & (n - 1)) - slot) * 16;
    __builtin_memcpy(p, &disp, 4);
}

/* b's code, which was made for delta less, and lay shift further down in the cache. */
static void relocate(struct bt *bt, const struct bt_block *b, uint64_t delta, uint32_t shift)
{
    for (unsigned k = 0; k < b->nreloc; k++) {
        uint8_t *p = bt->rw + b->code + (b->reloc[k] & 0xffff);

        switch ((enum bt_reloc)(b->reloc[k] >> 16)) {
        case RELOC_ADDR:
            add64(p, delta);
            break;
        case RELOC_TLB:
            turn_slot(p, bt->self + (uint32_t)VOFF(tlb.e), TLB_ENTRIES,
                      (uint32_t)(delta >> PAGE_SHIFT));
            break;
        case RELOC_JC:
            turn_slot(p, bt->self + (uint32_t)VOFF(jc), JC_ENTRIES, (uint32_t)(delta >> 1));
            break;
        case RELOC_GLUE:
            add32(p, 0 - shift);
            break;
        case RELOC_SITE:
            add32(p, shift);
            break;
        case RELOC_LINK:
            break;
        }
    }
}

/* --- copies --- */

static void copy_links(struct bt *bt, struct bt_block *b, const struct bt_block *from)
{
    const struct bt_link *was[MAX_LINKS];
    struct bt_link *now[MAX_LINKS];
    uint32_t shift = b->code - from->code;
    unsigned n = 0;

    b->out = NULL;
    for (const struct bt_link *l = from->out; l && n < MAX_LINKS; l = l->next_out, n++) {
        was[n] = l;
        now[n] = bt_meta_alloc(bt, sizeof(*now[n]));
        *now[n] = (struct bt_link){.from = b,
                                   .next_out = b->out,
                                   .target = l->target + b->rip - from->rip,
                                   .site = l->site + shift,
                                   .stub = l->stub + shift,
                                   .flags_saved = l->flags_saved,
                                   .cross_page = l->cross_page};
        b->out = now[n];
        e_patch(bt->rw, now[n]->site, now[n]->stub);
    }
    for (unsigned k = 0; k < b->nreloc; k++) {
        uint8_t *p = bt->rw + b->code + (b->reloc[k] & 0xffff);

        if (b->reloc[k] >> 16 != RELOC_LINK)
            continue;
        for (unsigned i = 0; i < n; i++)
            if (get64(p) == (uintptr_t)was[i]) {
                add64(p, (uintptr_t)now[i] - (uintptr_t)was[i]);
                break;
            }
    }
}

static struct bt_block *copy(struct vcpu *v, const struct bt_block *from, uint64_t rip)
{
    struct bt *bt = v->vm->bt;
    struct bt_block *b = bt_meta_alloc(bt, sizeof(*b));
    uint32_t shift = bt->used - from->code;

    *b = *from;
    b->rip = rip;
    b->was = 0;
    b->in = NULL;
    b->page_next[0] = b->page_next[1] = NULL;
    b->code += shift;
    b->entry_slot += shift;
    b->entry_live += shift;
    copy_bytes(bt->rw + b->code, bt->rw + from->code, b->code_len);
    relocate(bt, b, rip - from->rip, shift);
    copy_links(bt, b, from);
    b->map = bt_meta_alloc(bt, sizeof(*b->map) * b->nmap);
    for (unsigned k = 0; k < b->nmap; k++) {
        b->map[k] = from->map[k];
        if (b->map[k].poll)
            b->map[k].stub += shift;
    }
    bt->used = (b->code + b->code_len + 15) & ~15u;
    bt_block_add(bt, b);
    bt_cache_ahead(bt);
    v->stats.bt_copied++;
    return b;
}

/* --- moves --- */

static void move_block(struct bt *bt, struct bt_block *b, uint64_t delta)
{
    bt_block_forget(bt, b);
    relocate(bt, b, delta, 0);
    b->was = b->rip;
    b->rip += delta;
    for (struct bt_link *l = b->out; l; l = l->next_out)
        l->target += delta;
}

/* Links between what has moved, asked for at now, and what has not. */
static void part(struct bt *bt, struct bt_block *b, uint32_t now)
{
    struct bt_link *next;

    for (struct bt_link *l = b->in; l; l = next) {
        next = l->next_in;
        if (l->from->asked != now)
            bt_link_undo(bt, l);
    }
    for (struct bt_link *l = b->out; l; l = l->next_out)
        if (l->to && l->to->asked != now)
            bt_link_undo(bt, l);
}

/* All of the page that first lies in, at its linear address, moves by delta. */
static void move_page(struct vcpu *v, const struct bt_block *first, uint64_t delta)
{
    struct bt *bt = v->vm->bt;
    uint64_t pfn = first->gpa >> PAGE_SHIFT, from = first->rip >> PAGE_SHIFT;
    uint32_t now = ++bt->asked;
    struct bt_block *b, *next;

    for (b = bt->page[pfn]; b; b = next) {
        next = b->page_next[b->gpa >> PAGE_SHIFT == pfn ? 0 : 1];
        if (b->gpa >> PAGE_SHIFT != pfn || b->rip >> PAGE_SHIFT != from)
            continue;
        if (b->fixed || bt_block_find(bt, b->gpa, b->rip + delta, b->key)) {
            bt_block_kill(bt, b);
            continue;
        }
        move_block(bt, b, delta);
        b->asked = now;
        v->stats.bt_moved++;
    }
    for (b = bt->page[pfn]; b; b = b->page_next[b->gpa >> PAGE_SHIFT == pfn ? 0 : 1])
        if (b->asked == now)
            part(bt, b, now);
    bt->gen++; /* the return stacks hold addresses in them */
}

/* --- what there is --- */

struct bt_block *bt_move(struct vcpu *v, gpa_t gpa, uint64_t rip, uint16_t key)
{
    struct bt *bt = v->vm->bt;
    struct bt_block *newest = NULL, *oldest = NULL;
    bool missed = false;
    unsigned n = 0;

    if (!bt_movable(v, rip, key))
        return NULL;
    for (struct bt_block *b = bt_block_first(bt, gpa, key); b; b = b->hash_next) {
        if (b->gpa != gpa || b->key != key || b->fixed || (b->rip ^ rip) & (PAGE_SIZE - 1))
            continue;
        n++;
        missed |= b->was == rip;
        if (!newest || (int32_t)(b->asked - newest->asked) > 0)
            newest = b;
        if (!oldest || (int32_t)(b->asked - oldest->asked) < 0)
            oldest = b;
    }
    if (!n)
        return NULL;
    if (n < (missed ? MISSED : COPIES) || v->vm->nvcpu > 1)
        return copy(v, newest, rip);
    move_page(v, oldest, rip - oldest->rip);
    return oldest;
}

bool bt_known(struct vcpu *v)
{
    struct bt *bt = v->vm->bt;
    uint16_t key = bt_key(v);
    gpa_t gpa;
    bool global, known = false;

    /* What cannot be fetched the interpreter finds out about. */
    if (!bt_movable(v, v->cpu.rip, key) || !canonical(v->cpu.rip) ||
        mem_translate_fetch(v, v->cpu.rip, &gpa, &global))
        return false;
    bt_lock(bt);
    for (struct bt_block *b = bt_block_first(bt, gpa, key); b && !known; b = b->hash_next)
        known = b->gpa == gpa && b->key == key;
    bt_unlock(bt);
    return known;
}
