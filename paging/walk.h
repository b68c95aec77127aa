/*
 * The guest's page tables (SDM 3A chapter 4): no paging, 32-bit, PAE, 4-level. One definition of
 * every permission rule, for the interpreter, the translator and the debugger alike.
 */
#ifndef PAGING_WALK_H
#define PAGING_WALK_H

#include "paging/ram.h"

/* What the access is. */
enum {
    ACC_READ = 0,
    ACC_WRITE = 1,   /* SDM: W/R bit of the #PF error code */
    ACC_FETCH = 2,   /* instruction fetch */
    ACC_USER = 4,    /* made at CPL 3 and not an implicit supervisor access */
    ACC_IMPLICIT = 8 /* implicit supervisor access (GDT/IDT/TSS): SMAP ignores EFLAGS.AC */
};

/* The control state a walk depends on; filled from struct cpu by vcpu/mem.c. */
struct walk_ctx {
    uint64_t cr0, cr3, cr4, efer;
    uint64_t pdpte[4]; /* PAE: loaded at MOV CR3 (SDM 3A 4.4.1) */
    bool ac;           /* EFLAGS.AC, for SMAP */
    uint8_t maxphyaddr;
};

struct walk_result {
    gpa_t gpa;          /* of the byte asked for */
    uint64_t page_size; /* of the mapping: 4096, 2 MiB, 4 MiB, 1 GiB; 4096 without paging */
    bool write_ok;      /* a write with the same U/S would be allowed and D is already set */
    bool accessed;      /* A is set in every entry used */
    bool user;          /* U/S of the translation (all levels) */
    bool nx;            /* execute-disable of the translation */
    bool global;        /* G of the leaf with CR4.PGE set */
    uint8_t mem_type;   /* PAT index of the leaf (PAT<<2|PCD<<1|PWT) */
};

/* #PF error code bits (SDM 3A 4.7). */
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };

/*
 * Translate lin (canonical already) for access acc. 0 and *out on success, with A (and, for writes,
 * D) set in the tables by locked compare-exchange (SDM 3A 4.8). On a page fault: -EFAULT, and
 * *error is the #PF error code. A table that is not in RAM reads as not present.
 * set_ad false: a debugger's or a probe's walk, changing nothing.
 */
int walk(struct ram *ram, const struct walk_ctx *ctx, gva_t lin, unsigned acc, bool set_ad,
         struct walk_result *out, uint32_t *error);

#endif
