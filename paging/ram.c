#include "paging/ram.h"

#include <errno.h>
#include <sys/mman.h>
#include "paging/copy.h"

#define RAM_LOW      0x20000000u
#define RAM_LOW_STEP 0x08000000u
#define RAM_LOW_LAST 0x70000000u

static void *reserve(uint64_t len, int prot)
{
    void *p = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void *reserve_at(uintptr_t at, uint64_t len, int prot)
{
    void *p = mmap((void *)at, len, prot,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    if (p != (void *)at) { /* kernels before 4.17 take it as a hint */
        munmap(p, len);
        return NULL;
    }
    return p;
}

/* Where host addresses of guest RAM fit a 32-bit displacement, which the translator's linear
 * windows want: above the monitor's own image, and above its heap where that is in the way, which
 * the kernel puts anywhere in the first GiB or so. NULL when something is there everywhere. */
static void *reserve_low(uint64_t len, int prot)
{
    void *p = NULL;

    for (uintptr_t at = RAM_LOW; !p && at <= RAM_LOW_LAST; at += RAM_LOW_STEP)
        p = reserve_at(at, len, prot);
    return p;
}

/* The attributes, and the high part's protection. */
static int map_rest(struct ram *ram)
{
    if (ram->high && (mprotect(ram->base, ram->low, PROT_READ | PROT_WRITE) ||
                      mprotect(ram->base + MMIO_HOLE_END, ram->high, PROT_READ | PROT_WRITE)))
        goto fail;
    ram->attr_len = ram->reserve >> PAGE_SHIFT;
    ram->attr = reserve(ram->attr_len, PROT_READ | PROT_WRITE);
    if (!ram->attr)
        goto fail;
    return 0;
fail:
    munmap(ram->base, ram->reserve);
    ram->base = NULL;
    return -ENOMEM;
}

static int create(struct ram *ram, uint64_t low, uint64_t high)
{
    *ram = (struct ram){.size = low + high, .low = low, .high = high};
    ram->reserve = ram->high ? MMIO_HOLE_END + ram->high : ram->low;

    /* 2 MiB alignment lets huge pages back the guest's own 2 MiB mappings. */
    uint64_t slack = 2 * MIB;
    uint8_t *p = reserve_low(ram->reserve, ram->high ? PROT_NONE : PROT_READ | PROT_WRITE);

    if (p) {
        ram->base = p;
        return map_rest(ram);
    }
    p = reserve(ram->reserve + slack, ram->high ? PROT_NONE : PROT_READ | PROT_WRITE);

    if (!p)
        return -ENOMEM;
    uint64_t skip = (slack - ((uintptr_t)p & (slack - 1))) & (slack - 1);

    if (skip)
        munmap(p, skip);
    if (slack - skip)
        munmap(p + skip + ram->reserve, slack - skip);
    ram->base = p + skip;
    return map_rest(ram);
}

int ram_create(struct ram *ram, uint64_t size)
{
    uint64_t low = size < MMIO_HOLE_START ? size : MMIO_HOLE_START;

    if (size == 0 || size % PAGE_SIZE != 0 || size > ((uint64_t)1 << 46))
        return -EINVAL;
    return create(ram, low, size - low);
}

int ram_create_flat(struct ram *ram, uint64_t size)
{
    if (size == 0 || size % PAGE_SIZE != 0 || size > 4 * GIB)
        return -EINVAL;
    return create(ram, size, 0);
}

void ram_destroy(struct ram *ram)
{
    if (ram->attr)
        munmap(ram->attr, ram->attr_len);
    if (ram->base)
        munmap(ram->base, ram->reserve);
    *ram = (struct ram){0};
}

void ram_advise_huge(struct ram *ram, gpa_t gpa, uint64_t len)
{
    void *p = ram_ptr(ram, gpa, len);

    if (p)
        madvise((void *)((uintptr_t)p & PAGE_MASK), len, MADV_HUGEPAGE);
}

void ram_populate(struct ram *ram, gpa_t gpa, uint64_t len)
{
    gpa_t from = gpa & PAGE_MASK;
    uint64_t all = (gpa + len - from + PAGE_SIZE - 1) & PAGE_MASK;
    void *p = len && len < ram->size ? ram_ptr(ram, from, all) : NULL;

    if (p)
        madvise(p, all, 23 /* MADV_POPULATE_WRITE, since Linux 5.14 */);
}

void ram_written(struct ram *ram, gpa_t gpa, uint64_t len)
{
    if (len == 0 || !ram->code_written || !ram_has(ram, gpa, len))
        return;
    /* The bytes come before the question whether anybody translated them (bt_trace_page). */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint64_t last = (gpa + len - 1) >> PAGE_SHIFT;

    for (uint64_t pfn = gpa >> PAGE_SHIFT; pfn <= last; pfn++)
        if (ram->attr[pfn] & RAM_ATTR_CODE) {
            ram->code_written(ram->opaque, gpa, len);
            return;
        }
}

int ram_discard(struct ram *ram, gpa_t gpa, uint64_t len)
{
    void *p = ram_ptr(ram, gpa, len);

    if (!p || ((gpa | len) & (PAGE_SIZE - 1)))
        return -EINVAL;
    /* Private and anonymous: the next touch finds a new page of zeroes. */
    if (len && madvise(p, len, MADV_DONTNEED))
        return -errno;
    ram_written(ram, gpa, len);
    return 0;
}

int ram_protect(struct ram *ram, gpa_t gpa, uint64_t len, uint8_t attr)
{
    void *p = ram_ptr(ram, gpa, len);

    if (!p || ((gpa | len) & (PAGE_SIZE - 1)))
        return -EINVAL;
    for (uint64_t pfn = gpa >> PAGE_SHIFT; pfn < (gpa + len) >> PAGE_SHIFT; pfn++)
        ram->attr[pfn] |= attr;
    if (len && (attr & RAM_ATTR_RO) && ram->host_protect && mprotect(p, len, PROT_READ))
        return -errno;
    return 0;
}

void *ram_ptr_out(const struct ram *ram, gpa_t gpa, uint64_t len)
{
    void *p = ram_ptr(ram, gpa, len);

    if (!p || !len)
        return p;
    for (uint64_t pfn = gpa >> PAGE_SHIFT; pfn <= (gpa + len - 1) >> PAGE_SHIFT; pfn++)
        if (ram->attr[pfn] & RAM_ATTR_RO)
            return NULL;
    return p;
}

int ram_write(struct ram *ram, gpa_t gpa, const void *src, uint64_t len)
{
    void *p = ram_ptr(ram, gpa, len);

    if (!p)
        return -EFAULT;
    copy_bytes(p, src, len);
    ram_written(ram, gpa, len);
    return 0;
}

int ram_read(const struct ram *ram, gpa_t gpa, void *dst, uint64_t len)
{
    const void *p = ram_ptr(ram, gpa, len);

    if (!p)
        return -EFAULT;
    copy_bytes(dst, p, len);
    return 0;
}
