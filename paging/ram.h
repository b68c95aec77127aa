/*
 * Guest RAM.
 *
 * One reservation of host address space holds the whole guest-physical space that can be RAM:
 * hva = base + gpa everywhere, with the 3-4 GiB MMIO hole left PROT_NONE. A page of attributes per
 * guest page frame (one byte each, zero until used) carries the write traces.
 *
 * Threads: ram_create/ram_destroy by the owner alone; everything else from any thread.
 */
#ifndef PAGING_RAM_H
#define PAGING_RAM_H

#include "paging/types.h"

/* Attribute bits of a guest page frame (ram_attr). */
enum {
    RAM_ATTR_CODE = 1u, /* holds translated code: stores must reach ram_written() */
    /* Rights to the page whatever the guest's page tables say, as a second-level table has them. A
     * CPU that goes against them leaves with EXIT_ERROR. */
    RAM_ATTR_RO = 2u, /* no stores by the guest or for it */
    RAM_ATTR_NX = 4u, /* no instruction fetches; kvm does not hold it */
};

struct ram {
    uint8_t *base;    /* hva of gpa 0 */
    uint64_t size;    /* bytes of RAM in all */
    uint64_t low;     /* bytes of RAM from gpa 0 (<= MMIO_HOLE_START) */
    uint64_t high;    /* bytes of RAM from MMIO_HOLE_END */
    uint64_t reserve; /* bytes of host address space held at base */
    uint8_t *attr;    /* one byte a page frame, indexed by gpa >> PAGE_SHIFT */
    uint64_t attr_len;
    /* Called after bytes of a page with RAM_ATTR_CODE were changed by anything but translated
     * code's own fast path (devices, loaders, interpreter). NULL when there is no translator. */
    void (*code_written)(void *opaque, gpa_t gpa, uint64_t len);
    void *opaque;
    bool host_protect; /* kvm: what is RAM_ATTR_RO is to be read-only for the host as well */
};

/* Reserve and map size bytes (a positive multiple of PAGE_SIZE). 0 or -errno (-ENOMEM, -EINVAL).
 * No page is touched. */
int ram_create(struct ram *ram, uint64_t size);
/* The same without a hole, for a machine without devices in memory: size up to 4 GiB. */
int ram_create_flat(struct ram *ram, uint64_t size);
void ram_destroy(struct ram *ram);

/* Ask for huge pages behind [gpa, gpa+len): advice only, never fails. */
void ram_advise_huge(struct ram *ram, gpa_t gpa, uint64_t len);

/* Have the pages of [gpa, gpa+len) there in one go: they are about to be written, and a page so
 * costs a third of one that faults. Advice only, never fails. */
void ram_populate(struct ram *ram, gpa_t gpa, uint64_t len);

/* Is [gpa, gpa+len) wholly inside RAM (not over the hole, no wrap)? len 0 is true inside RAM. */
static inline bool ram_has(const struct ram *ram, gpa_t gpa, uint64_t len)
{
    if (gpa < ram->low)
        return len <= ram->low - gpa;
    if (gpa >= MMIO_HOLE_END && gpa - MMIO_HOLE_END < ram->high)
        return len <= ram->high - (gpa - MMIO_HOLE_END);
    return false;
}

/* Host pointer to [gpa, gpa+len), or NULL when any byte of it is not RAM. */
static inline void *ram_ptr(const struct ram *ram, gpa_t gpa, uint64_t len)
{
    return ram_has(ram, gpa, len) ? ram->base + gpa : (void *)0;
}

/* Tell the write traces that [gpa, gpa+len), which is RAM, was changed. Cheap when no page of it
 * holds code. Everyone who writes guest RAM other than through the TLB's write tags calls this. */
void ram_written(struct ram *ram, gpa_t gpa, uint64_t len);

/* Give the pages of [gpa, gpa+len) back to the host: they read as zero from here on, and cost no
 * memory until they are written again. Whole pages, all RAM, else -EINVAL; or the host's -errno. */
int ram_discard(struct ram *ram, gpa_t gpa, uint64_t len);

/* Give the pages of [gpa, gpa+len) RAM_ATTR_RO, RAM_ATTR_NX or both, for good; before the guest
 * runs. Whole pages, all RAM, else -EINVAL; or the host's -errno. */
int ram_protect(struct ram *ram, gpa_t gpa, uint64_t len, uint8_t attr);

/* Host pointer for the monitor to store to [gpa, gpa+len) on the guest's behalf, or NULL when any
 * byte of it is not RAM or is RAM_ATTR_RO. */
void *ram_ptr_out(const struct ram *ram, gpa_t gpa, uint64_t len);

/* Copy to / from guest RAM. 0, or -EFAULT with nothing copied when the range is not all RAM. */
int ram_write(struct ram *ram, gpa_t gpa, const void *src, uint64_t len);
int ram_read(const struct ram *ram, gpa_t gpa, void *dst, uint64_t len);

#endif
