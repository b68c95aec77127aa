#include "vcpu/mem.h"

#include "paging/copy.h"
#include "vcpu/watch.h"

/* A linear page resolved: RAM by host pointer, or a bus address. */
struct page_ref {
    uint8_t *host; /* of the byte asked for; NULL: not RAM */
    gpa_t gpa;
    bool traced;
};

void mem_walk_ctx(const struct vcpu *v, struct walk_ctx *w)
{
    const struct cpu *c = &v->cpu;

    w->cr0 = c->cr0;
    w->cr3 = c->cr3;
    w->cr4 = c->cr4;
    w->efer = c->efer;
    for (int i = 0; i < 4; i++)
        w->pdpte[i] = c->pdpte[i];
    w->ac = c->rflags & FL_AC;
    w->maxphyaddr = v->vm->maxphyaddr;
}

static unsigned full_acc(const struct vcpu *v, unsigned acc)
{
    return v->cpu.cpl == 3 && !(acc & ACC_IMPLICIT) ? acc | ACC_USER : acc;
}

enum tlb_ctx mem_tlb_ctx(const struct vcpu *v, unsigned acc)
{
    if (acc & ACC_USER)
        return TLB_USER;
    if ((v->cpu.cr4 & CR4_SMAP) && (v->cpu.rflags & FL_AC) && !(acc & ACC_IMPLICIT))
        return TLB_SUPER_AC;
    return TLB_SUPER;
}

static int page_fault(struct vcpu *v, gva_t lin, uint32_t error)
{
    v->cpu.exc =
        (struct exception){.vector = VEC_PF, .has_error = true, .error = error, .cr2 = lin};
    return CPU_FAULT;
}

/* Walk and enter the result in the TLB. acc is full_acc()'s. */
static int refill(struct vcpu *v, gva_t lin, unsigned acc, struct page_ref *out)
{
    struct ram *ram = v->vm->ram;
    struct walk_ctx w;
    struct walk_result r;
    uint32_t error;

    mem_walk_ctx(v, &w);
    if (walk(ram, &w, lin, acc, true, &r, &error))
        return page_fault(v, lin, error);
    v->tlb.misses++;
    out->gpa = r.gpa;
    out->host = NULL;
    out->traced = false;
    gpa_t page = r.gpa & PAGE_MASK;
    uint8_t *host = ram_ptr(ram, page, PAGE_SIZE);

    if (!host)
        return CPU_OK;
    enum tlb_ctx ctx = mem_tlb_ctx(v, acc);
    uint8_t attr = __atomic_load_n(&ram->attr[page >> PAGE_SHIFT], __ATOMIC_RELAXED);

    if (((acc & ACC_WRITE) && (attr & RAM_ATTR_RO)) || ((acc & ACC_FETCH) && (attr & RAM_ATTR_NX)))
        return cpu_raise(&v->cpu, acc & ACC_FETCH ? VEC_NO_EXEC : VEC_NO_WRITE);
    out->host = host + (lin & (PAGE_SIZE - 1));
    out->traced = attr & RAM_ATTR_CODE;
    if (watch_any(v) && !(acc & ACC_FETCH) && watch_page(v, lin))
        return CPU_OK;
    if (acc & ACC_FETCH)
        tlb_fill(&v->tlb, ctx, TLB_X, lin, host, r.global, r.page_size);
    else
        tlb_fill(&v->tlb, ctx, TLB_R, lin, host, r.global, r.page_size);
    /* A write entry only once D is set, so that the first write to the page walks. */
    if (!(acc & ACC_FETCH) && ((acc & ACC_WRITE) || r.write_ok) &&
        !(attr & (RAM_ATTR_CODE | RAM_ATTR_RO)))
        tlb_fill(&v->tlb, ctx, TLB_W, lin, host, r.global, r.page_size);
    return CPU_OK;
}

static int page_of(struct vcpu *v, gva_t lin, unsigned acc, struct page_ref *out)
{
    enum tlb_kind kind = acc & ACC_FETCH ? TLB_X : acc & ACC_WRITE ? TLB_W : TLB_R;
    uint8_t *host = tlb_lookup(&v->tlb, mem_tlb_ctx(v, acc), kind, lin, 1);

    if (host) {
        out->host = host;
        out->gpa = (gpa_t)(host - v->vm->ram->base);
        out->traced = false;
        return CPU_OK;
    }
    return refill(v, lin, acc, out);
}

/* What the program itself does counts, not the CPU's own use of tables. */
static void note_access(struct vcpu *v, gva_t lin, unsigned size, unsigned acc)
{
    if (watch_any(v) && !(acc & ACC_IMPLICIT))
        watch_access(v, lin, size, acc & ACC_WRITE);
}

/* The linear address n bytes on: wraps at 4 GiB outside 64-bit mode (SDM 3A 3.3.6). */
static gva_t lin_add(const struct vcpu *v, gva_t lin, unsigned n)
{
    return cpu_long_mode(&v->cpu) ? lin + n : (uint32_t)(lin + n);
}

static bool lapic_page(const struct vcpu *v, gpa_t gpa)
{
    uint64_t b = v->lapic.base_msr;

    return (b & 0xc00) == 0x800 && (gpa & PAGE_MASK) == (b & 0xffffff000u);
}

static uint64_t bus_read(struct vcpu *v, gpa_t gpa, unsigned size)
{
    v->stats.mmio_reads++;
    if (lapic_page(v, gpa)) {
        uint32_t off = gpa & 0xfff;

        return size == 4 && !(off & 15) ? lapic_mmio_read(v, off)
                                        : lapic_mmio_read(v, off & ~15u) >> (off & 3) * 8;
    }
    fpu_put(v);
    return v->vm->ops->mmio_read(v->vm->machine, gpa, size);
}

static void bus_write(struct vcpu *v, gpa_t gpa, unsigned size, uint64_t val)
{
    v->stats.mmio_writes++;
    if (lapic_page(v, gpa)) {
        if (size == 4 && !(gpa & 15))
            lapic_mmio_write(v, gpa & 0xfff, (uint32_t)val);
        return;
    }
    fpu_put(v);
    v->vm->ops->mmio_write(v->vm->machine, gpa, size, val);
}

/* Largest naturally aligned piece of [gpa, gpa+size) that a bus access takes. */
static unsigned bus_piece(gpa_t gpa, unsigned size)
{
    unsigned n = 8;

    while (n > size || (gpa & (n - 1)))
        n >>= 1;
    return n;
}

static void move_bus(struct vcpu *v, gpa_t gpa, uint8_t *buf, unsigned size, bool write)
{
    while (size) {
        unsigned n = bus_piece(gpa, size);
        uint64_t val = 0;

        if (write) {
            copy_bytes(&val, buf, n);
            bus_write(v, gpa, n, val);
        } else {
            val = bus_read(v, gpa, n);
            copy_bytes(buf, &val, n);
        }
        gpa += n;
        buf += n;
        size -= n;
    }
}

/* At any address: the host takes them as the guest's CPU does. */
typedef uint16_t any_u16 __attribute__((aligned(1), may_alias));
typedef uint32_t any_u32 __attribute__((aligned(1), may_alias));
typedef uint64_t any_u64 __attribute__((aligned(1), may_alias));

/* Single host accesses for the sizes that the architecture makes atomic. */
static void move_ram(uint8_t *to, const uint8_t *from, unsigned size)
{
    switch (size) {
    case 1:
        *(volatile uint8_t *)to = *(const volatile uint8_t *)from;
        break;
    case 2:
        *(volatile any_u16 *)to = *(const volatile any_u16 *)from;
        break;
    case 4:
        *(volatile any_u32 *)to = *(const volatile any_u32 *)from;
        break;
    case 8:
        *(volatile any_u64 *)to = *(const volatile any_u64 *)from;
        break;
    default:
        copy_bytes(to, from, size);
    }
}

static void move_page(struct vcpu *v, const struct page_ref *p, uint8_t *buf, unsigned size,
                      bool write)
{
    if (!p->host) {
        move_bus(v, p->gpa, buf, size, write);
    } else if (write) {
        move_ram(p->host, buf, size);
        if (p->traced)
            ram_written(v->vm->ram, p->gpa, size);
    } else {
        move_ram(buf, p->host, size);
    }
}

static int access(struct vcpu *v, gva_t lin, uint8_t *buf, unsigned size, unsigned acc)
{
    struct page_ref a, b;
    unsigned first = PAGE_SIZE - (unsigned)(lin & (PAGE_SIZE - 1));
    bool write = acc & ACC_WRITE;

    acc = full_acc(v, acc);
    if (page_of(v, lin, acc, &a))
        return CPU_FAULT;
    if (size <= first) {
        note_access(v, lin, size, acc);
        move_page(v, &a, buf, size, write);
        return CPU_OK;
    }
    if (page_of(v, lin_add(v, lin, first), acc, &b))
        return CPU_FAULT;
    note_access(v, lin, first, acc);
    note_access(v, lin_add(v, lin, first), size - first, acc);
    move_page(v, &a, buf, first, write);
    move_page(v, &b, buf + first, size - first, write);
    return CPU_OK;
}

int mem_read(struct vcpu *v, gva_t lin, void *dst, unsigned size, unsigned acc)
{
    const uint8_t *host = tlb_lookup(&v->tlb, mem_tlb_ctx(v, full_acc(v, acc)), TLB_R, lin, size);

    if (host) {
        move_ram(dst, host, size);
        return CPU_OK;
    }
    return access(v, lin, dst, size, acc & ~(unsigned)ACC_WRITE);
}

int mem_write(struct vcpu *v, gva_t lin, const void *src, unsigned size, unsigned acc)
{
    uint8_t *host = tlb_lookup(&v->tlb, mem_tlb_ctx(v, full_acc(v, acc)), TLB_W, lin, size);

    if (host) {
        move_ram(host, src, size);
        return CPU_OK;
    }
    return access(v, lin, (uint8_t *)(uintptr_t)src, size, acc | ACC_WRITE);
}

int mem_probe_write(struct vcpu *v, gva_t lin, unsigned size, unsigned acc)
{
    struct page_ref p;
    unsigned first = PAGE_SIZE - (unsigned)(lin & (PAGE_SIZE - 1));

    acc = full_acc(v, acc | ACC_WRITE);
    if (page_of(v, lin, acc, &p))
        return CPU_FAULT;
    return size > first ? page_of(v, lin_add(v, lin, first), acc, &p) : CPU_OK;
}

int mem_host(struct vcpu *v, gva_t lin, unsigned size, unsigned acc, void **host, bool *traced)
{
    struct page_ref p;

    *host = NULL;
    *traced = false;
    if (size > PAGE_SIZE - (unsigned)(lin & (PAGE_SIZE - 1)))
        return CPU_OK;
    if (page_of(v, lin, full_acc(v, acc), &p))
        return CPU_FAULT;
    *host = p.host;
    *traced = p.traced;
    if (p.host)
        note_access(v, lin, size, acc);
    return CPU_OK;
}

int mem_fetch(struct vcpu *v, gva_t lin, uint8_t *buf, unsigned want, unsigned *got)
{
    struct page_ref p;
    unsigned acc = full_acc(v, ACC_FETCH);
    unsigned first = PAGE_SIZE - (unsigned)(lin & (PAGE_SIZE - 1));
    unsigned n = want < first ? want : first;

    if (page_of(v, lin, acc, &p))
        return CPU_FAULT;
    move_page(v, &p, buf, n, false);
    *got = n;
    if (n < want && page_of(v, lin_add(v, lin, n), acc, &p) == CPU_OK) {
        move_page(v, &p, buf + n, want - n, false);
        *got = want;
    }
    return CPU_OK;
}

int mem_translate_fetch(struct vcpu *v, gva_t lin, gpa_t *gpa, bool *global)
{
    unsigned acc = full_acc(v, ACC_FETCH);
    enum tlb_ctx ctx = mem_tlb_ctx(v, acc);
    struct page_ref p;

    if (page_of(v, lin, acc, &p))
        return CPU_FAULT;
    unsigned slot = tlb_slot(lin);

    *gpa = p.gpa;
    *global = p.host && tlb_page(&v->tlb.e[ctx][TLB_X][slot]) == (lin & PAGE_MASK) &&
              (v->tlb.global[ctx][TLB_X][slot / 8] >> (slot % 8) & 1);
    return CPU_OK;
}
