/*
 * Inside the translator.
 *
 * Translated code runs with GS at struct vcpu and host RSP on the return stack (ras.c):
 *   guest RSP is host R15; host R10 and R11 are scratch; guest R10, R11 and R15 live in cpu.gpr;
 *   every other guest GPR is the host register of the same name.
 *   In 32-bit code the upper halves of guest RAX to RDI are 0; windows (window.c) are not used.
 *   Arithmetic flags are in EFLAGS, or put away in hot.flags (enum flags_at); DF is a part of the
 * block key and always 0 in the host; x87/SSE/AVX are the host's own.
 *
 * A block is keyed by (guest-physical address, RIP, key): RIP because translated code holds
 * constants made of it (move.c changes them), the physical address so that a remapped page never
 * runs old code. It lies in one page but for at most one last instruction that straddles into the
 * next (page2). It goes on after conditional branches not taken and after calls, and repeats the
 * body of a short loop.
 *
 * Control leaves the cache by the glue made in glue.c: exits return to bt_run()'s loop, callouts
 * return into the block. Every exit leaves struct cpu complete but for the vector state.
 */
#ifndef VCPU_BT_INT_H
#define VCPU_BT_INT_H

#include "vcpu/bt/bt.h"
#include "vcpu/decode.h"
#include "vcpu/except.h"
#include "vcpu/hostexec.h"
#include "vcpu/interp.h"
#include "vcpu/mem.h"

#define BT_MAX_INSNS  64
#define BT_MAX_SIDES  8            /* conditional branches and calls that a block goes on after */
#define BT_AHEAD      6            /* stretches of code looked at beyond a block */
#define BT_BLOCK_ROOM (64 * 1024u) /* host bytes that one block may need */
#define BT_HEAT_SIZE  (1u << 14)
/* Times that code is interpreted before it is translated: translating costs as much as some 10
 * runs, and of what has run for a millisecond more is to be expected than of what has just begun.
 */
#define BT_HOT_EARLY  12
#define BT_HOT        3
#define BT_EARLY_RUNS 2000 /* up to the next branch, interpreted */
#define BT_HASH_MAX   (1u << 17)

/* Block key: what a translation depends on besides the bytes. The low two bits are enum tlb_ctx. */
enum {
    KEY_CTX = 3,
    KEY_ODD = 4,    /* DF, IOPL or NT set: string instructions and CLI not inline */
    KEY_FPU = 8,    /* x87 and SSE usable: no CR0.EM/TS, CR4.OSFXSR */
    KEY_AVX = 16,   /* AVX usable too */
    KEY_TSC = 32,   /* RDTSC may run as it is */
    KEY_FSGS = 128, /* RDFSBASE and its kin: CR4.FSGSBASE */
    /* Not a state of the CPU: translated without windows, the rest of a block of which an access
     * was outside its window. Neither linked to nor in the jump cache. */
    KEY_PLAIN = 64,
    KEY_32 = 256, /* 32-bit code with flat segments (bt_flat32()); else 64-bit code */
};

/* The bytes of an address, a general register and a stack slot. */
static inline unsigned bt_mode(unsigned key)
{
    return key & KEY_32 ? 4 : 8;
}

enum bt_exit {
    BTX_JUMP = 1, /* indirect branch missed the jump cache: cpu.rip is the target */
    BTX_RET,      /* likewise a RET; hot.tmp2 is its cache offset */
    BTX_INTERP,   /* interpret the instruction at cpu.rip */
    BTX_AGAIN,    /* a callout ended the block: look around, then go on at cpu.rip */
    BTX_FAULT,    /* the host faulted in the copy of the instruction at cpu.rip */
    BTX_POLL,     /* a kick, met at the start of the block at cpu.rip */
    BTX_SYSCALL,  /* the instruction at cpu.rip is this one: no need to look */
    BTX_SYSRET,
    BTX_IRET, /* IRETQ; of 32-bit code IRETD */
    BTX_LINKS /* from here on a struct bt_link pointer: direct branch not linked yet; or, with
                 BTX_MISS_TAG, a struct bt_miss pointer */
};
#define BTX_MISS_TAG 1u

struct bt_block;

/* A direct branch out of a block. */
struct bt_link {
    struct bt_block *from, *to; /* to: NULL while not linked */
    struct bt_link *next_in;    /* other links into to */
    struct bt_link *next_out;   /* other links of from */
    struct bt_link *next_x;     /* list of cross-page links */
    uint64_t target;            /* guest RIP */
    uint32_t site;              /* cache offset of the rel32 */
    uint32_t stub;              /* cache offset that an unlinked rel32 goes to */
    bool flags_saved;           /* enters with flags in hot.flags */
    bool cross_page;
};

/* Accesses outside their window, the first of them at rip. */
struct bt_miss {
    struct bt_block *block;
    uint64_t rip;
    uint8_t kind, count;
    uint8_t class_; /* of what was compared (WIN_CLASSES) */
    uint8_t hint;   /* that it was translated by */
    bool both;      /* the other window, of the stack or not, was asked as well */
    bool shadow;    /* STI is just before it */
};

/* Host code offset (in the block) -> guest instruction offset; for host faults and polls. */
struct bt_map {
    uint32_t host;
    uint16_t guest;
    bool poll;     /* the load of a poll: a fault there goes to stub */
    bool saved;    /* the guest's flags are in hot.flags */
    uint32_t stub; /* of a RET: the bytes it pops */
};

struct bt_block {
    gpa_t gpa, page2; /* page2: gpa of the second page, ~0 when none */
    uint64_t rip;
    uint16_t len; /* guest bytes */
    /* Bytes of the same page that were read ahead for flag liveness: a change there matters too. */
    struct {
        uint16_t at, len; /* page offset */
    } ahead[BT_AHEAD];
    uint16_t key;
    bool valid;
    uint32_t code, code_len; /* cache offset, bytes */
    uint32_t entry_slot;     /* cache offset: flags come in hot.flags */
    uint32_t entry_live;     /* cache offset: flags come in EFLAGS */
    struct bt_block *hash_next;
    struct bt_block *page_next[2]; /* lists of the (up to two) pages */
    struct bt_link *in;            /* links into this block */
    struct bt_link *out;           /* its own */
    struct bt_map *map;
    unsigned nmap;
    uint32_t *reloc; /* what depends on rip, enum bt_reloc << 16 | offset in the code (move.c) */
    uint16_t nreloc;
    bool fixed;     /* it cannot be moved to another rip */
    uint32_t asked; /* when it was last looked up, in bt->asked */
    uint64_t was;   /* rip, before it was moved here; 0 */
};

/* What a place in a block's code holds that is made of its RIP, or of where it lies in the cache.
 */
enum bt_reloc {
    RELOC_ADDR, /* 8 bytes: a linear address */
    RELOC_TLB,  /* 4 bytes: displacement of the TLB slot of one */
    RELOC_JC,   /* 4 bytes: displacement of the jump cache slot of one */
    RELOC_LINK, /* 8 bytes: struct bt_link * of its own */
    RELOC_GLUE, /* rel32 to the glue */
    RELOC_SITE  /* 4 bytes: a cache offset */
};

/* What translated code bakes in of a linear window (window.c). */
struct bt_window {
    bool on;
    gva_t lo;       /* its first linear address */
    uint64_t delta; /* guest-physical minus linear */
    int32_t off;    /* host address of lo */
    unsigned moves;
};

/* How often in succession an access for several (SITE_RUN) was not to be had at once in one page.
 */
struct bt_cross {
    uint64_t rip;
    gva_t page;
    unsigned count;
};
#define BT_CROSS 256

/* The shared cache of one machine. */
struct bt {
    struct ram *ram;
    struct vm_cpus *vm;
    uint32_t code_size, hash_size, max_blocks; /* bytes, entries, entries of order */
    uint64_t meta_size;
    uint8_t *rx, *rw;     /* two mappings of one memfd */
    uint32_t used, start; /* bytes; start: after the glue */
    uint8_t *meta;
    uint64_t meta_used;
    uint64_t meta_ahead; /* how far pages are there already (bt_cache_ahead) */
    uint32_t code_ahead;
    struct bt_block **hash;
    struct bt_block **page; /* by page frame: head of its block list */
    uint64_t npages;
    struct bt_block **order; /* blocks by cache offset, for host PC -> block */
    uint32_t norder;
    struct bt_link *xlinks;        /* linked cross-page links */
    _Atomic uint32_t mutex, world; /* world.c */
    _Atomic(const char *) owner;   /* of mutex: the thread */
    unsigned depth;
    _Atomic bool stopped;
    uint64_t gen; /* bumped by every invalidation */
    uint32_t asked;
    struct bt_window win[TLB_CTXS][WIN_KINDS];
    struct bt_cross cross[BT_CROSS];
    uint8_t hint[1 << 12]; /* enum bt_hint by hash of RIP */
    _Atomic bool flush_wanted;
    bool bmi2; /* of the host */
    /* The only struct vcpu's address, when it is in the low 2 GiB (struct emit); else 0. */
    uint32_t self;
    /* glue, cache offsets */
    uint32_t g_exit_live, g_exit_slot, g_mem, g_insn, g_enter;
    uint32_t g_ret_miss[TLB_CTXS], g_ras_empty[TLB_CTXS];
};

/* --- cache.c --- */
int bt_cache_init(struct bt *bt);
void bt_cache_fini(struct bt *bt);
/* Forget every translation. Nobody may be in the cache. */
void bt_cache_flush(struct bt *bt);
void *bt_meta_alloc(struct bt *bt, size_t size);
bool bt_cache_room(const struct bt *bt);
void bt_cache_ahead(struct bt *bt);
struct bt_block *bt_block_find(struct bt *bt, gpa_t gpa, uint64_t rip, uint16_t key);
/* The first block of the list by hash_next that holds all for gpa and key, at whatever RIP. */
struct bt_block *bt_block_first(struct bt *bt, gpa_t gpa, uint16_t key);
/* Enter a finished block. */
void bt_block_add(struct bt *bt, struct bt_block *b);
/* Writes to the page of gpa are to be noticed from now on. The world stops if it was not so: not
 * with bt->lock held. Comes before the page's bytes are read. */
void bt_trace_page(struct vcpu *v, gpa_t gpa);
void bt_block_kill(struct bt *bt, struct bt_block *b);
struct bt_block *bt_block_at(const struct bt *bt, uint32_t off); /* by cache offset */
void bt_code_written(void *opaque, gpa_t gpa, uint64_t len);
void bt_link_to(struct bt *bt, struct bt_link *l, struct bt_block *to);
void bt_link_undo(struct bt *bt, struct bt_link *l);
/* The jump caches may still point at b's code: no more. */
void bt_block_forget(struct bt *bt, const struct bt_block *b);
void bt_unlink_cross(struct bt *bt);

/* --- move.c --- */
/* May what is at rip be used for another address, and the reverse? */
bool bt_movable(const struct vcpu *v, uint64_t rip, uint16_t key);
/* A translation of the same bytes for another RIP, made to be one for rip; NULL: there is none. At
 * the top of the loop, bt->lock held. */
struct bt_block *bt_move(struct vcpu *v, gpa_t gpa, uint64_t rip, uint16_t key);
/* Is the code at cpu.rip translated, for whatever address? */
bool bt_known(struct vcpu *v);

/* --- jumpcache.c --- */
void bt_jc_fill(struct vcpu *v, uint64_t rip, const struct bt_block *b, bool global);
void bt_jc_flush(struct vcpu *v);

/* --- translate.c --- */
/* Translate the block at cpu.rip; gpa is its physical address. NULL with *fault false: the first
 * instruction cannot be translated (interpret it); *fault true: fetching raised cpu->exc. */
struct bt_block *bt_translate(struct vcpu *v, gpa_t gpa, uint16_t key, bool *fault);

/* --- callout.c: called from translated code --- */
uint64_t bt_callout_mem(struct vcpu *v, gva_t lin, uint64_t info, uint64_t rip);
uint64_t bt_callout_insn(struct vcpu *v, uint64_t rip, uint64_t info);
/* The common case of a string instruction: plain RAM, forwards. True: RIP's instruction is done. */
bool bt_string(struct vcpu *v, uint64_t info);
/* Flags between struct cpu and hot.flags. */
void bt_flags_in(struct vcpu *v);
void bt_flags_out(struct vcpu *v);
/* Does an interrupt wait that the guest would take now? Is there one that only IF keeps out? */
bool bt_irq_waits(struct vcpu *v);
bool bt_irq_masked(struct vcpu *v);

/* --- mode.c --- */
uint16_t bt_key(const struct vcpu *v);
/* Is the CPU in a state that only the interpreter runs? */
bool bt_wants_interp(const struct vcpu *v);
/* 32-bit code of the common shape: CS, SS, DS and ES are all of the 4 GiB from 0. */
bool bt_flat32(const struct cpu *c);
/* About to run translated code: what it takes for granted of struct cpu and has in hot. */
void bt_settle32(struct vcpu *v);

/* info of a callout site */
#define SITE_SIZE(i)     ((unsigned)(i)&0x7f)
#define SITE_WRITE       0x80u
#define SITE_FLAGS       0x100u /* the guest's flags are in hot.flags */
#define SITE_END         0x200u /* last instruction of the block: never continue after it */
#define SITE_REP         0x400u /* a REP string instruction: go on until it is through */
#define SITE_REPNE       0x800u
#define SITE_PLAIN       0x10000u /* a #PF of this access is the instruction's first fault */
#define SITE_RUN         0x20000u /* several instructions' accesses, checked as one */
#define SITE_STRING      0x80u    /* a string instruction with flat addresses and DF = 0 */
#define SITE_LEN(i)      (((unsigned)(i) >> 12) & 15)
#define SITE_ARG(len)    ((uint32_t)(len) << 12)
#define SITE_OP(map, op) ((uint32_t)((map) << 8 | (op)) << 16)
#define OP_PAUSE         0x90u /* no other callout has it: NOP and XCHG are copied */
#define SITE_GET_OP(i)   ((unsigned)((i) >> 16) & 1023)

/* Exit information of BTX_JUMP: what to give back to RSP should the target not be canonical; the
 * branch's own RIP is in hot.tmp2. */
#define BTX_UNDO(n)     ((uint32_t)(int32_t)(n) << 8)
#define BTX_GET_UNDO(i) ((int64_t)((int32_t)(uint32_t)(i) >> 8))
#define BTX_KIND(i)     ((unsigned)(i)&0xff)

#endif
