/* The program's address space. */
#ifndef GUESTS_RUNTIME_VM_H
#define GUESTS_RUNTIME_VM_H

#include "guests/runtime/fs.h"
#include "guests/runtime/process.h"

struct vma {
    struct vma *next, *prev;
    uint64_t start, end;
    uint32_t prot; /* PROT_* */
    bool shared;
    struct inode *inode; /* NULL: anonymous */
    uint64_t offset;     /* of start in it */
    const char *name;    /* for /proc/self/maps, or NULL */
};

/* --- vma.c: the list --- */
extern struct vma *vmas, *vma_tail;
/* Is all that is mapped below at? A program's start maps upwards. */
static inline bool vma_past(uint64_t at)
{
    return !vma_tail || vma_tail->end <= at;
}
struct vma *vma_from(uint64_t at); /* the first that ends behind at, or NULL */
struct vma *vma_find(uint64_t at); /* the one that holds it, or NULL */
/* Make boundaries at both ends of [start, end). 0 or -ENOMEM. */
int vma_cut(uint64_t start, uint64_t end);
/* Drop all in the range (cut before). */
void vma_remove(uint64_t start, uint64_t end);
/* Add; merges with neighbours of the same kind. Takes a reference on inode. */
int vma_add(const struct vma *like);
/* A free range of len, as high as possible below the stack; 0: none. */
uint64_t vma_gap(uint64_t len);
bool vma_free(uint64_t start, uint64_t end);
/* Is all of it mapped? */
bool vma_covers(uint64_t start, uint64_t end);
void vma_merge(uint64_t start, uint64_t end);

/* --- pages.c: page tables --- */
#define PTE_P     1ull
#define PTE_W     2ull
#define PTE_U     4ull
#define PTE_A     0x20ull
#define PTE_D     0x40ull
#define PTE_OWNED 0x200ull /* the frame goes with the mapping */
#define PTE_NX    (1ull << 63)
#define PTE_ADDR  0x000ffffffffff000ull
void pages_init(void);
/* The entry of a page; NULL when there is none (or, create, no memory for its tables). */
uint64_t *pages_entry_of(uint64_t at, bool create);
extern struct last_table {
    uint64_t block, *table;
} pages_last;
static inline uint64_t *pages_entry(uint64_t at, bool create)
{
    return at >> 21 == pages_last.block ? &pages_last.table[at >> 12 & 511]
                                        : pages_entry_of(at, create);
}
uint64_t pages_bits(uint32_t prot);
void pages_drop(uint64_t start, uint64_t end);
void pages_protect(uint64_t start, uint64_t end, uint32_t prot, bool shared);
void pages_move(uint64_t from, uint64_t to, uint64_t len);
void pages_flush(uint64_t at);
/* The next page from at on that may have an entry: whole missing tables are stepped over. */
uint64_t pages_next(uint64_t at, uint64_t end, uint64_t **e);

/* --- vm.c --- */
/* 0 when the access can be made again; else *f says which signal it is. */
int vm_fault(uint64_t at, bool write, bool fetch, struct fault *f);
int vm_map(uint64_t start, uint64_t len, uint32_t prot, bool shared, struct inode *i, uint64_t off,
           const char *name);
bool vm_affordable(uint64_t len);
/* Have all pages there now. */
void vm_populate(uint64_t start, uint64_t end);
#define STACK_SIZE  (8ull << 20)
#define STACK_GUARD (1ull << 20)
extern uint64_t stack_top; /* end of the linear part */
#define MMAP_TOP 0x7ffff0000000ull

/* --- mapfile.c --- */
bool mapfile_tracked(const struct vma *v);
extern unsigned mapfile_count; /* mappings of the kind */
/* What was written to mappings goes to the host: all in the range; all of a file. */
int mapfile_sync_range(uint64_t start, uint64_t end);
int mapfile_sync(const struct inode *i);
/* A write to the file shows in its mappings. */
void mapfile_update(struct inode *i, uint64_t at, const void *src, uint64_t len);

/* --- limits.c: setrlimit --- */
bool limit_maps(uint64_t len); /* may so much more be mapped? */

/* --- heap.c --- */
void vm_set_brk(uint64_t start);
uint64_t vm_heap_limit(void); /* mappings begin here */
void heap_bridge(void);

/* --- exec.c --- */
_Noreturn void exec_program(void);
extern struct inode *program_inode;
extern const char *program_path;
extern uint64_t saved_auxv[48];
extern unsigned saved_auxv_bytes;
extern uint64_t arg_start, arg_end, env_start, env_end;

#endif
