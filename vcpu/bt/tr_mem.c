#include "vcpu/bt/tr.h"

unsigned tr_use(struct tr *t, unsigned r, unsigned h)
{
    if (r == RSP)
        return H_SP;
    if (!tr_spilled(r))
        return r;
    if (t->held == r)
        return H_A;
    e_gs_load(&t->e, h, GPR_OFF(r));
    if (h == H_A)
        t->held = (uint16_t)r;
    return h;
}

/* Next instruction's RIP, which RIP-relative operands count from. */
static uint64_t next_rip(const struct tr *t)
{
    return t->rip[t->i] + t->in[t->i].len;
}

void tr_segment_base(struct tr *t, unsigned seg)
{
    t->held = REG_NONE;
    e_gs_load(&t->e, H_A,
              (int32_t)offsetof(struct vcpu, cpu.seg[0].base) +
                  (int32_t)sizeof(struct seg) * (int32_t)seg);
}

/* In 32-bit code, the offset in H_A and size bytes from there on being more than 4 GiB: H_B becomes
 * what makes of the address one that no TLB has (SDM 3A 5.3: the interpreter faults). Else 0. */
static void offset_wraps(struct tr *t, unsigned size)
{
    struct emit *e = &t->e;

    e_lea(e, H_B, H_A, REG_NONE, 0, (int32_t)size - 1, 8, 8);
    for (unsigned digit = 5; digit >= 4; digit--) { /* shr r11, 32; shl r11, 62 */
        e8(e, 0x49);
        e8(e, 0xc1);
        e8(e, 0xc3 | digit << 3);
        e8(e, digit == 5 ? 32 : 62);
    }
}

/* H_A, an offset, += base of FS or GS. In 32-bit code that wraps, and an address through a segment
 * that has not all of the 4 GiB becomes one that no TLB has (bt_settle32()). */
static void add_base(struct tr *t, unsigned seg, unsigned size, bool known)
{
    struct emit *e = &t->e;

    if (!tr_wide(t) && !known)
        offset_wraps(t, size);
    e_gs(e, 0x03, H_A,
         (int32_t)offsetof(struct vcpu, cpu.seg[0].base) +
             (int32_t)sizeof(struct seg) * (int32_t)seg,
         tr_wide(t));
    if (tr_wide(t))
        return;
    if (!known)
        e_rr(e, 0x09, H_B, H_A, true); /* or */
    e_gs(e, 0x0b, H_A, VOFF(hot.odd_seg) + 8 * (int32_t)(seg - SEG_FS), true);
}

/* Linear address of i's memory operand, and l->add, into H_A; l->fixed true when it is a constant,
 * in l->lin. May use H_B. */
static void address(struct tr *t, struct tr_linear *l)
{
    const struct insn *in = &t->in[t->i];
    int32_t disp = (int32_t)((uint32_t)in->disp + (uint32_t)l->add);
    struct emit *e = &t->e;
    bool seg = in->seg == SEG_FS || in->seg == SEG_GS, known = false;
    unsigned base = in->base, index = in->index;

    l->fixed = false;
    l->lin = 0;
    if (index == REG_NONE && (base == BASE_RIP || base == REG_NONE)) {
        uint64_t a = (uint64_t)(in->disp + l->add) + (base == BASE_RIP ? next_rip(t) : 0);

        if (in->addrsize == 4) {
            a = (uint32_t)a;
            t->fixed |= base == BASE_RIP;
        }
        l->lin = a;
        l->fixed = !seg;
        known = a + l->size - 1 <= UINT32_MAX;
        if (base == BASE_RIP)
            tr_mov_addr(t, H_A, a);
        else
            e_mov_imm(e, H_A, a);
    } else {
        if (base != REG_NONE)
            base = tr_use(t, base, H_A);
        if (index != REG_NONE)
            index = tr_use(t, index, H_B);
        if (in->addrsize == in->mode && index == REG_NONE && disp == 0) {
            if (base != H_A)
                e_mov(e, H_A, base);
        } else {
            e_lea(e, H_A, base, index, in->scale, disp, in->addrsize, 8);
        }
    }
    if (seg)
        add_base(t, in->seg, l->size, known);
}

/* BT and its kin with a register bit index reach beyond the operand: H_A, its address, becomes that
 * of the word. */
static void bit_word(struct tr *t)
{
    const struct insn *in = &t->in[t->i];
    struct emit *e = &t->e;
    unsigned index = in->reg == RSP ? H_SP : in->reg;

    if (tr_spilled(index) && in->reg != RSP) {
        e_gs_load(e, H_B, GPR_OFF(index));
        index = H_B;
    }
    if (in->opsize == 4)
        e_rr(e, 0x63, H_B, index, true); /* movsxd r11, index */
    else if (index != H_B)
        e_mov(e, H_B, index);
    e8(e, 0x49); /* sar r11, 3 */
    e8(e, 0xc1);
    e8(e, 0xfb);
    e8(e, 3);
    e8(e, 0x49); /* and r11, -size */
    e8(e, 0x83);
    e8(e, 0xe3);
    e8(e, (uint8_t)-in->opsize);
    e_rr(e, 0x01, H_B, H_A, tr_wide(t)); /* add r10, r11 */
}

/* H_A = the linear address. */
static void make_linear(struct tr *t, struct tr_linear *l)
{
    l->fixed = false;
    if (l->base != REG_NONE) {
        if (l->add)
            e_lea(&t->e, H_A, l->base, REG_NONE, 0, l->add, t->mode, 8);
        else
            e_mov(&t->e, H_A, l->base);
        return;
    }
    address(t, l);
    if (l->bits) {
        bit_word(t);
        l->fixed = false;
    }
}

void tr_tlb_index(struct tr *t, unsigned reg)
{
    struct emit *e = &t->e;

    if (t->bt->bmi2) {
        e8(e, 0xc4); /* rorx r11, reg, 8 */
        e8(e, reg & 8 ? 0x43 : 0x63);
        e8(e, 0xfb);
        e8(e, 0xf0);
        e8(e, 0xd8 | (reg & 7));
        e8(e, PAGE_SHIFT - 4);
    } else {
        e_mov(e, H_B, reg);
        e8(e, 0x49); /* shr r11, 8 */
        e8(e, 0xc1);
        e8(e, 0xeb);
        e8(e, PAGE_SHIFT - 4);
    }
    e8(e, 0x41); /* and r11d, mask */
    e8(e, 0x81);
    e8(e, 0xe3);
    e32(e, (TLB_ENTRIES - 1) << 4);
}

/* The TLB probe of c, up to the jump that is taken on a miss. H_A becomes the host address, right
 * or wrong: the accesses that follow need not wait for the comparison. */
static uint32_t tlb_probe(struct tr *t, const struct cold *c, int32_t at)
{
    struct emit *e = &t->e;
    int32_t last = at + (int32_t)offsetof(struct tlb_entry, last);

    if (c->lin.fixed) {
        int32_t slot = (int32_t)(tlb_slot(c->lin.lin) * sizeof(struct tlb_entry));

        e_gs(e, 0x03, H_A, at + slot, true);
        if (t->in[t->i].base == BASE_RIP)
            tr_reloc(t, RELOC_TLB);
        e_gs_load(e, H_B, last + slot);
        if (t->in[t->i].base == BASE_RIP)
            tr_reloc(t, RELOC_TLB);
    } else if (c->indexed) {
        tr_tlb_index(t, c->index);
        e_gs_index(e, 0x8b, H_A, H_B, 0, at);
        e_gs_index(e, 0x8b, H_B, H_B, 0, last);
        e_rr(e, 0x29, c->index, H_B, true);
    } else {
        tr_tlb_index(t, H_A);
        e_gs_index(e, 0x03, H_A, H_B, 0, at);
        e_gs_index(e, 0x8b, H_B, H_B, 0, last);
    }
    e_rr(e, 0x29, H_A, H_B, true); /* sub r11, r10 */
    e8(e, 0x49);                   /* cmp r11, imm32 */
    e8(e, 0x81);
    e8(e, 0xfb);
    e32(e, SITE_SIZE(c->info) - PAGE_SIZE - 1);
    return e_jcc(e, 2); /* jb */
}

/* The ModRM operand is [base], a register the host has too: the access then adds it itself, and
 * what follows a chain of pointers waits two cycles less for each. */
static bool is_pointer(const struct tr *t)
{
    const struct insn *in = &t->in[t->i];

    return in->base < NGPR && in->base != RSP && !tr_spilled(in->base) && in->index == REG_NONE &&
           in->disp == 0 && in->addrsize == in->mode && in->seg != SEG_FS && in->seg != SEG_GS;
}

void tr_probe(struct tr *t, struct tr_linear l, bool write, unsigned size, uint32_t more)
{
    struct cold *c = &t->cold[t->ncold++];
    bool indexed = l.base == REG_NONE && !l.bits && !(more & SITE_RUN) && is_pointer(t);

    l.size = (uint8_t)size;
    tr_sp_settle(t);
    tr_flags_clobber(t);
    if (!indexed)
        make_linear(t, &l);
    *c = (struct cold){
        .rip = t->rip[t->i], .i = t->i, .lin = l, .indexed = indexed, .index = t->in[t->i].base};
    c->info = size | (write ? SITE_WRITE : 0) | (t->saved ? SITE_FLAGS : 0) |
              SITE_ARG(t->in[t->i].len) | more;
    /* Misaligned operands of aligned vector instructions raise #GP before any #PF, a pending x87
     * exception comes before all. */
    if (!(t->in[t->i].info->flags & OF_ALIGN16) && !interp_mf_first(&t->in[t->i]) &&
        !(more & SITE_RUN))
        c->info |= SITE_PLAIN;
    c->jcc = tlb_probe(t, c,
                       (int32_t)offsetof(struct vcpu, tlb.e) +
                           (int32_t)(sizeof(struct tlb_entry) * TLB_ENTRIES) *
                               (int32_t)(tr_ctx(t) * TLB_KINDS + (write ? TLB_W : TLB_R)));
    c->hit = t->e.at;
    t->m = (struct opnd){.base = H_A, .index = indexed ? c->index : REG_NONE};
    t->held = REG_NONE;
}

void tr_operand(struct tr *t, bool write, unsigned size, uint32_t more)
{
    struct tr_linear l = {.base = REG_NONE};

    if (t->plan != PLAN_PAGE || !t->acc[t->i][0].group)
        tr_probe(t, l, write, size, more);
    else if (!tr_page_held(t, 0, &l.add))
        tr_page_probe(t, 0, l, more);
}

void tr_access(struct tr *t, unsigned k, unsigned base, int32_t disp, unsigned size, bool write,
               uint32_t more)
{
    struct tr_linear l = {.base = (uint8_t)base};

    if (tr_window_simple(t, k, base))
        return;
    if (t->plan != PLAN_PAGE || !t->acc[t->i][k].group) {
        l.add = disp;
        tr_probe(t, l, write, size, more);
    } else if (!tr_page_held(t, k, &l.add)) {
        l.add += disp;
        tr_page_probe(t, k, l, more);
    }
}

void tr_cold_all(struct tr *t)
{
    struct emit *e = &t->e;

    for (unsigned k = 0; k < t->ncold; k++) {
        struct cold *c = &t->cold[k];

        e_patch(e->rw, c->jcc, e->at);
        /* Once more: nothing that it is made of has changed. */
        t->i = c->i;
        t->held = REG_NONE;
        make_linear(t, &c->lin);
        tr_mov_addr(t, H_B, c->rip);
        e8(e, 0x68); /* push info */
        e32(e, c->info);
        tr_call_glue(t, t->bt->g_mem);
        uint32_t back = e_jmp(e); /* g_mem comes back behind it, too */

        if (!(c->info & SITE_END)) {
            if (c->restore)
                e_flags_restore(e, true);
            e_jmp_to(e, c->next);
        }
        e_patch(e->rw, back, c->indexed ? e->at : c->hit);
        if (c->indexed) {
            e_rr(e, 0x29, c->index, H_A, true); /* sub r10, index */
            e_jmp_to(e, c->hit);
        }
    }
}
