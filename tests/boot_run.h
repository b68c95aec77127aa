/* One machine to load an image into, for the loaders' tests. */
#ifndef TESTS_BOOT_RUN_H
#define TESTS_BOOT_RUN_H

#include <criterion/criterion.h>
#include "tests/boot_images.h"

struct run {
    struct ram ram;
    struct cpu cpu;
    struct boot_result res;
    struct boot_request req;
};

static inline struct run *begin(uint64_t mib)
{
    struct run *r = aligned_alloc(64, (sizeof *r + 63) / 64 * 64);

    memset(r, 0, sizeof *r);
    cr_assert_eq(ram_create(&r->ram, mib * MIB), 0);
    r->req.cmdline = "console=ttyS0 a=b";
    r->req.tsc_hz = 2100000000;
    for (unsigned i = 0; i < sizeof r->req.seed; i++)
        r->req.seed[i] = (uint8_t)(i + 100);
    return r;
}

static inline void end(struct run *r)
{
    ram_destroy(&r->ram);
    free(r);
}

static inline int load(struct run *r, struct image i)
{
    return img_load(&i, i.len, &r->req, &r->ram, &r->cpu, &r->res);
}

static const uint8_t initrd[10000] = {'0', '7', '0', '7', [9999] = 0xee};
static inline void give_initrd(struct run *r)
{
    r->req.initrd = (struct boot_image){"/x/the initrd.gz", initrd, sizeof initrd};
}

#define AT(r, type, gpa) ((const type *)((r)->ram.base + (gpa)))

#endif
