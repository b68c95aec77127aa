#include "vcpu/bt/tr.h"

unsigned tr_use(struct tr *t, unsigned r, unsigned h)
{
    if (r == RSP)
        return H_SP;
    if (!tr_spilled(r))
        return r;
    e_gs_load(&t->e, h, GPR_OFF(r));
    return h;
}

/* Next instruction's RIP, which RIP-relative operands count from. */
static uint64_t next_rip(const struct tr *t)
{
    return t->rip[t->i] + t->in[t->i].len;
}

void tr_choose(struct tr *t, bool write, unsigned base)
{
    t->kind = (write ? WIN_WRITE : WIN_READ) | (base == RSP ? WIN_STACK : 0);
    const struct bt_window *win = &t->bt->win[tr_ctx(t)][t->kind];

    t->win = win->on && !(bt_debug & BT_DBG_NO_WINDOW) ? win : NULL;
}

/* disp less the window's start; no window if that is no displacement. */
static int32_t biased(struct tr *t, int64_t disp)
{
    int64_t d = t->win ? disp - (int64_t)t->win->lo : disp;

    if (d == (int32_t)d)
        return (int32_t)d;
    t->win = NULL;
    return (int32_t)disp;
}

void tr_stack_address(struct tr *t, unsigned base, int32_t disp)
{
    disp = biased(t, disp);
    if (disp)
        e_lea(&t->e, H_A, base, REG_NONE, 0, disp, 8, 8);
    else
        e_mov(&t->e, H_A, base);
}

void tr_address(struct tr *t, bool *fixed, uint64_t *lin)
{
    const struct insn *in = &t->in[t->i];
    int32_t disp;
    struct emit *e = &t->e;
    bool seg = in->seg == SEG_FS || in->seg == SEG_GS;
    unsigned base = in->base, index = in->index;

    *fixed = false;
    *lin = 0;
    if (index == REG_NONE && (base == BASE_RIP || base == REG_NONE)) {
        uint64_t a = (uint64_t)in->disp + (base == BASE_RIP ? next_rip(t) : 0);

        if (in->addrsize == 4)
            a = (uint32_t)a;
        *lin = a;
        *fixed = !seg;
        e_mov_imm(e, H_A, t->win ? a - t->win->lo : a);
    } else {
        /* With 32-bit addresses the sum wraps: nothing may be taken off before. */
        if (in->addrsize == 4)
            t->win = NULL;
        disp = biased(t, in->disp);
        if (base != REG_NONE)
            base = tr_use(t, base, H_A);
        if (index != REG_NONE)
            index = tr_use(t, index, H_B);
        if (in->addrsize == 8 && index == REG_NONE && disp == 0) {
            if (base != H_A)
                e_mov(e, H_A, base);
        } else {
            e_lea(e, H_A, base, index, in->scale, disp, in->addrsize, in->addrsize);
        }
    }
    if (seg)
        e_gs(e, 0x03, H_A,
             (int32_t)offsetof(struct vcpu, cpu.seg[0].base) +
                 (int32_t)sizeof(struct seg) * in->seg,
             true);
}

/* The TLB probe of c, up to the jump that is taken on a miss; then H_A is the host address. */
static uint32_t tlb_probe(struct tr *t, const struct cold *c)
{
    static const uint8_t rorx[] = {0xc4, 0x43, 0xfb, 0xf0, 0xda, PAGE_SHIFT - 4};
    struct emit *e = &t->e;
    int32_t tag = c->tag_off;
    uint32_t jcc;

    if (c->fixed) {
        tag += (int32_t)(tlb_slot(c->lin) * sizeof(struct tlb_entry));
        e_gs(e, 0x2b, H_A, tag, true);
    } else {
        if (t->bt->bmi2) {
            for (unsigned i = 0; i < sizeof(rorx); i++) /* rorx r11, r10, 8 */
                e8(e, rorx[i]);
        } else {
            e_mov(e, H_B, H_A);
            e8(e, 0x49); /* shr r11, 8 */
            e8(e, 0xc1);
            e8(e, 0xeb);
            e8(e, PAGE_SHIFT - 4);
        }
        e8(e, 0x41); /* and r11d, mask */
        e8(e, 0x81);
        e8(e, 0xe3);
        e32(e, (TLB_ENTRIES - 1) << 4);
        e_gs_index(e, 0x2b, H_A, H_B, 0, tag);
    }
    e8(e, 0x49); /* cmp r10, imm32 */
    e8(e, 0x81);
    e8(e, 0xfa);
    e32(e, PAGE_SIZE - SITE_SIZE(c->info));
    jcc = e_jcc(e, 7); /* ja */
    if (c->fixed)
        e_gs(e, 0x03, H_A, tag + 8, true);
    else
        e_gs_index(e, 0x03, H_A, H_B, 0, tag + 8);
    return jcc;
}

void tr_probe(struct tr *t, bool write, unsigned size, bool fixed, uint64_t lin, uint32_t more)
{
    struct emit *e = &t->e;
    struct cold *c = &t->cold[t->ncold++];
    unsigned ctx = tr_ctx(t);

    *c = (struct cold){.rip = t->rip[t->i], .lin = lin, .fixed = fixed, .win = t->win};
    c->tag_off = (int32_t)offsetof(struct vcpu, tlb.e) +
                 (int32_t)(sizeof(struct tlb_entry) * TLB_ENTRIES) *
                     (int32_t)(ctx * TLB_KINDS + (write ? TLB_W : TLB_R));
    c->info = size | (write ? SITE_WRITE : 0) | (t->saved ? SITE_FLAGS : 0) |
              SITE_ARG(t->in[t->i].len) | more;
    /* Misaligned operands of aligned vector instructions raise #GP before any #PF, a pending x87
     * exception comes before all. */
    if (!(t->in[t->i].info->flags & OF_ALIGN16) && !interp_mf_first(&t->in[t->i]) &&
        !(more & SITE_RUN))
        c->info |= SITE_PLAIN;
    if (t->win) {
        int32_t limit =
            (int32_t)offsetof(struct vcpu, hot.win_limit) +
            (int32_t)(8 * (WIN_CLASSES * (WIN_KINDS * ctx + t->kind) + bt_window_class(size)));

        e_gs(e, 0x3b, H_A, limit, true);
        c->miss = (int32_t)(8 * (WIN_KINDS * ctx + t->kind));
        c->jcc = e_jcc(e, 3); /* jae */
        t->disp = t->win->off;
    } else {
        c->jcc = tlb_probe(t, c);
        t->disp = 0;
    }
    c->hit = e->at;
    t->win = NULL;
}

/* H_A is a host address: make it what the code at hit expects, and go there. */
static uint32_t to_hit(struct tr *t, const struct cold *c)
{
    uint32_t at = t->e.at;

    if (c->win)
        e_lea(&t->e, H_A, H_A, REG_NONE, 0, -c->win->off, 8, 8);
    e_jmp_to(&t->e, c->hit);
    return at;
}

void tr_cold_all(struct tr *t)
{
    struct emit *e = &t->e;

    for (unsigned k = 0; k < t->ncold; k++) {
        const struct cold *c = &t->cold[k];
        uint32_t hit = c->hit;

        e_patch(e->rw, c->jcc, e->at);
        if (c->win) {
            /* Outside the window: the TLB may have it. */
            e_gs(e, 0xff, 0, VOFF(hot.win_miss[0][0]) + c->miss, true); /* inc */
            e_lea(e, H_A, H_A, REG_NONE, 0, (int32_t)c->win->lo, 8, 8);
            uint32_t miss = tlb_probe(t, c);

            hit = to_hit(t, c);
            e_patch(e->rw, miss, e->at);
        }
        if (c->fixed)
            e_mov_imm(e, H_A, c->lin);
        else
            e_gs_index(e, 0x03, H_A, H_B, 0, c->tag_off);
        e_mov_imm(e, H_B, c->rip);
        e8(e, 0x68); /* push info */
        e32(e, c->info);
        e_call_to(e, t->bt->g_mem);
        e_jmp_to(e, hit);
        if (c->info & SITE_END)
            continue;
        if (c->restore)
            e_flags_restore(e);
        e_jmp_to(e, c->next);
    }
}
