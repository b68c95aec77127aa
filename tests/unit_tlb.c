/* The software TLB: what each flush drops, and what it leaves. */
#include <criterion/criterion.h>
#include "paging/tlb.h"

static struct tlb tlb;
static uint8_t pages[4][PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

static void fill(gva_t lin, bool global, uint64_t size)
{
    tlb_fill(&tlb, TLB_USER, TLB_R, lin, pages[lin >> 12 & 3], global, size);
}

static bool there(gva_t lin)
{
    void *host = tlb_lookup(&tlb, TLB_USER, TLB_R, lin, 1);

    cr_expect(!host || host == pages[lin >> 12 & 3] + (lin & (PAGE_SIZE - 1)));
    return host;
}

#define LOW  (gva_t)0x40000000
#define HIGH (gva_t)0xffffffff80000000

Test(tlb, empty)
{
    tlb_init(&tlb);
    for (gva_t lin = 0; lin < 16 * MIB; lin += PAGE_SIZE)
        cr_expect(!there(lin) && !there(HIGH + lin));
    cr_expect(!tlb_flush_page(&tlb, 0));
}

Test(tlb, small_page)
{
    tlb_init(&tlb);
    fill(LOW, false, PAGE_SIZE);
    fill(LOW + PAGE_SIZE, false, PAGE_SIZE);
    cr_expect(there(LOW) && there(LOW + 4095) && there(LOW + PAGE_SIZE));
    cr_expect(!tlb_lookup(&tlb, TLB_USER, TLB_R, LOW + 4095, 2)); /* crosses */
    cr_expect(!tlb_lookup(&tlb, TLB_USER, TLB_W, LOW, 1));
    cr_expect(!tlb_lookup(&tlb, TLB_SUPER, TLB_R, LOW, 1));
    cr_expect(!tlb_flush_page(&tlb, LOW + 100));
    cr_expect(!there(LOW) && there(LOW + PAGE_SIZE));
}

/* INVLPG of any address in a large page drops the pieces of it (SDM 3A 4.10.4.1). */
Test(tlb, large_page)
{
    static const gva_t at[] = {LOW, HIGH, 0, 0x7fffffe00000};
    static const uint64_t sizes[] = {2 * MIB, 4 * MIB, GIB};

    for (unsigned i = 0; i < sizeof(at) / sizeof(*at); i++)
        for (unsigned k = 0; k < 3; k++)
            for (unsigned global = 0; global < 2; global++) {
                gva_t page = at[i] & ~(sizes[k] - 1);
                gva_t other = page ^ (gva_t)4 * GIB;

                tlb_init(&tlb);
                fill(page + 0x5000, global, sizes[k]);
                fill(page + sizes[k] - PAGE_SIZE, global, sizes[k]);
                fill(page + sizes[k] / 2, global, sizes[k]);
                fill(other + 0x7000, global, PAGE_SIZE);
                cr_expect(tlb_flush_page(&tlb, page + sizes[k] - 9 * PAGE_SIZE));
                cr_expect(!there(page + 0x5000) && !there(page + sizes[k] - PAGE_SIZE) &&
                          !there(page + sizes[k] / 2));
                /* That is known now, and costs no more. */
                if (sizes[k] < GIB) {
                    cr_expect(!tlb_flush_page(&tlb, page));
                    fill(page, global, PAGE_SIZE);
                    fill(page + PAGE_SIZE, global, PAGE_SIZE);
                    cr_expect(!tlb_flush_page(&tlb, page) && there(page + PAGE_SIZE));
                }
            }
}

/* Two large pages of which the numbers are the same. */
Test(tlb, large_pages_that_share)
{
    gva_t far = LOW + (gva_t)TLB_LARGE * 2 * MIB;

    tlb_init(&tlb);
    fill(LOW + 0x1000, false, 2 * MIB);
    fill(far + 0x2000, true, 2 * MIB);
    cr_expect(tlb_flush_page(&tlb, LOW));
    cr_expect(!there(LOW + 0x1000));
    cr_expect(!there(far + 0x2000) || tlb_flush_page(&tlb, far));
    cr_expect(!there(far + 0x2000));
}

Test(tlb, cr3_write)
{
    tlb_init(&tlb);
    fill(LOW, false, PAGE_SIZE);
    fill(LOW + 4 * MIB, false, 2 * MIB);
    fill(HIGH + 0x1000, true, PAGE_SIZE);
    fill(HIGH + 2 * MIB, true, 2 * MIB);
    tlb_flush_nonglobal(&tlb);
    cr_expect(!there(LOW) && !there(LOW + 4 * MIB));
    cr_expect(there(HIGH + 0x1000) && there(HIGH + 2 * MIB));
    cr_expect(!tlb_flush_page(&tlb, LOW + 4 * MIB), "nothing of it is left");
    cr_expect(tlb_flush_page(&tlb, HIGH + 2 * MIB + 0x9000));
    cr_expect(!there(HIGH + 2 * MIB) && there(HIGH + 0x1000));
    tlb_flush_all(&tlb);
    cr_expect(!there(HIGH + 0x1000));
}

/* More entries than the lists of them hold. */
Test(tlb, flushes_of_a_full_table)
{
    tlb_init(&tlb);
    for (unsigned ctx = 0; ctx < TLB_CTXS; ctx++)
        for (unsigned kind = 0; kind < TLB_KINDS; kind++)
            for (unsigned i = 0; i < TLB_ENTRIES; i++)
                tlb_fill(&tlb, ctx, kind, LOW + i * PAGE_SIZE, pages[i & 3], i & 1,
                         i & 512 ? 2 * MIB : PAGE_SIZE);
    tlb_flush_nonglobal(&tlb);
    for (unsigned i = 0; i < TLB_ENTRIES; i++)
        cr_expect(there(LOW + i * PAGE_SIZE) == (i & 1));
    tlb_drop_writes(&tlb, pages[1]);
    cr_expect(!tlb_lookup(&tlb, TLB_SUPER, TLB_W, LOW + PAGE_SIZE, 1));
    cr_expect(tlb_lookup(&tlb, TLB_SUPER, TLB_W, LOW + 3 * PAGE_SIZE, 1));
    cr_expect(tlb_lookup(&tlb, TLB_SUPER, TLB_R, LOW + PAGE_SIZE, 1));
    tlb_flush_all(&tlb);
    for (unsigned i = 0; i < TLB_ENTRIES; i++)
        cr_expect(!there(LOW + i * PAGE_SIZE));
}

/* What a PCID has is there again after others, unless there was an order to drop it. */
Test(tlb, pcids)
{
    tlb_init(&tlb);
    fill(LOW, false, PAGE_SIZE);
    fill(HIGH + 0x9000, true, PAGE_SIZE);
    tlb_switch(&tlb, 7, true);
    cr_expect(!there(LOW) && there(HIGH + 0x9000), "only what is global");
    fill(LOW + PAGE_SIZE, false, PAGE_SIZE);
    tlb_switch(&tlb, 0, true);
    cr_expect(there(LOW) && !there(LOW + PAGE_SIZE));
    tlb_flush_page(&tlb, LOW);
    tlb_switch(&tlb, 7, true);
    cr_expect(!there(LOW) && there(LOW + PAGE_SIZE));
    tlb_switch(&tlb, 0, true);
    cr_expect(!there(LOW), "dropped while it was current");
    tlb_switch(&tlb, 7, false);
    cr_expect(!there(LOW + PAGE_SIZE), "MOV CR3 with bit 63 clear");
    for (unsigned how = 0; how < 3; how++) {
        fill(LOW, false, PAGE_SIZE);
        tlb_switch(&tlb, 8, true);
        if (how == 0)
            tlb_forget(&tlb, 7);
        else if (how == 1)
            tlb_forget_all(&tlb);
        else
            tlb_flush_all(&tlb);
        tlb_switch(&tlb, 7, true);
        cr_expect(!there(LOW), "%u", how);
    }
}

/* Large pages are not kept: INVLPG would not find their pieces. Nor is more than there is room for;
 * and of many PCIDs only some. */
Test(tlb, pcids_limits)
{
    tlb_init(&tlb);
    fill(LOW, false, 2 * MIB);
    tlb_switch(&tlb, 1, true);
    tlb_switch(&tlb, 0, true);
    cr_expect(!there(LOW));
    for (unsigned i = 0; i <= TLB_KEPT; i++)
        fill(LOW + i * PAGE_SIZE, false, PAGE_SIZE);
    tlb_switch(&tlb, 1, true);
    tlb_switch(&tlb, 0, true);
    cr_expect(!there(LOW) && !there(LOW + TLB_KEPT * PAGE_SIZE));
    for (uint16_t pcid = 0; pcid < 3 * PCIDS; pcid++) {
        tlb_switch(&tlb, pcid, false);
        fill(LOW + pcid * PAGE_SIZE, false, PAGE_SIZE);
    }
    for (uint16_t pcid = 0; pcid < 3 * PCIDS; pcid++) {
        tlb_switch(&tlb, pcid, true);
        for (uint16_t k = 0; k < 3 * PCIDS; k++)
            cr_expect(k == pcid || !there(LOW + k * PAGE_SIZE));
    }
}

/* When there is no place left the one that was put by first goes. */
Test(tlb, pcids_oldest)
{
    tlb_init(&tlb);
    for (uint16_t pcid = 0; pcid <= PCIDS; pcid++) {
        tlb_switch(&tlb, pcid, false);
        fill(LOW + pcid * PAGE_SIZE, false, PAGE_SIZE);
    }
    tlb_switch(&tlb, PCIDS - 1, true);
    cr_expect(there(LOW + (PCIDS - 1) * PAGE_SIZE));
    tlb_switch(&tlb, 1, true);
    cr_expect(there(LOW + PAGE_SIZE));
    tlb_switch(&tlb, 0, true);
    cr_expect(!there(LOW));
}

/* A page comes to hold code: entries to write to it go, also those that are kept. */
Test(tlb, pcids_writes)
{
    tlb_init(&tlb);
    tlb_fill(&tlb, TLB_USER, TLB_W, LOW, pages[0], false, PAGE_SIZE);
    tlb_fill(&tlb, TLB_USER, TLB_R, LOW, pages[0], false, PAGE_SIZE);
    tlb_fill(&tlb, TLB_USER, TLB_W, LOW + PAGE_SIZE, pages[1], false, PAGE_SIZE);
    tlb_switch(&tlb, 1, true);
    tlb_drop_writes(&tlb, pages[0]);
    tlb_switch(&tlb, 0, true);
    cr_expect(!tlb_lookup(&tlb, TLB_USER, TLB_W, LOW, 1) && there(LOW));
    cr_expect(tlb_lookup(&tlb, TLB_USER, TLB_W, LOW + PAGE_SIZE, 1));
}
