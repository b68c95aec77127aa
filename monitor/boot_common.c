/* Claims on guest RAM, the initrd, the command line: what every loader does the same way. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "monitor/loader.h"

int boot_fail(struct boot_result *res, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(res->error, sizeof res->error, fmt, ap);
    va_end(ap);
    return -ENOEXEC;
}

unsigned boot_memory_map(const struct ram *ram, struct e820_entry *e, unsigned max)
{
    /* Pages that RAM does not reach are clipped off; the rest has these bounds everywhere. As in a
     * PC's own map 0xa0000-0xdffff is not spoken of: a kernel for one (Unikraft) adds the display's
     * window itself, and stops where it finds that reserved already. */
    const struct e820_entry want[] = {
        {0, BOOT_EBDA, 1},
        {BOOT_EBDA, BOOT_VGA - BOOT_EBDA, 2},
        {BOOT_ACPI, BOOT_HIGH - BOOT_ACPI, 2},
        {BOOT_HIGH, ram->low > BOOT_HIGH ? ram->low - BOOT_HIGH : 0, 1},
        {MMIO_HOLE_END, ram->high, 1},
    };
    unsigned n = 0;

    for (unsigned i = 0; i < sizeof want / sizeof want[0] && n < max; i++) {
        uint64_t size = want[i].size;

        if (want[i].addr < BOOT_HIGH) {
            if (want[i].addr >= ram->low)
                continue;
            if (size > ram->low - want[i].addr)
                size = ram->low - want[i].addr;
        }
        if (size)
            e[n++] = (struct e820_entry){want[i].addr, size, want[i].type};
    }
    return n;
}

/* Memory below 1 MiB that holds nothing of ours when the guest is started by multiboot: not the
 * BIOS data area and GDT, the information block and its strings, nor the tables at the top. */
static bool low_free(uint64_t start, uint64_t end, enum boot_low low)
{
    if (low != BOOT_LOW_MULTIBOOT)
        return false;
    return (start >= 0x1000 && end <= BOOT_MB_INFO) ||
           (start >= BOOT_SETUP_DATA && end <= BOOT_EBDA);
}

int boot_claim(const struct ram *ram, uint64_t start, uint64_t len, enum boot_low low,
               struct boot_result *res)
{
    uint64_t end;

    if (__builtin_add_overflow(start, len, &end) || end > MMIO_HOLE_START)
        return boot_fail(res,
                         "it wants to be loaded at 0x%llx (0x%llx bytes), where there can be "
                         "no memory: RAM reaches up to 3 GiB at most there",
                         (unsigned long long)start, (unsigned long long)len);
    if (start < BOOT_HIGH && !low_free(start, end, low))
        return boot_fail(res,
                         "it wants to be loaded at 0x%llx (0x%llx bytes), where the firmware's "
                         "tables lie; kernels go to 1 MiB and above",
                         (unsigned long long)start, (unsigned long long)len);
    if (end > ram->low)
        return boot_fail(res, "it needs at least %llu MiB of memory and has %llu: give -m %lluM",
                         (unsigned long long)((end + MIB - 1) / MIB),
                         (unsigned long long)(ram->low / MIB),
                         (unsigned long long)((end + MIB - 1) / MIB));
    return 0;
}

void boot_copy(struct ram *ram, uint64_t gpa, const void *src, uint64_t len)
{
    void *dst = ram_ptr(ram, gpa, len);

    if (!dst || !len)
        return;
    if (len >= 2 * MIB)
        ram_advise_huge(ram, gpa, len);
    else if (len > 2 * PAGE_SIZE)
        ram_populate(ram, gpa, len);
    memcpy(dst, src, len);
}

int boot_initrd(const struct boot_image *initrd, struct ram *ram, uint64_t floor, uint64_t limit,
                bool high, uint64_t *gpa, struct boot_result *res)
{
    uint64_t len = initrd->len;
    uint64_t top = limit < ram->low ? limit : ram->low;
    uint64_t at;

    *gpa = 0;
    if (!initrd->data || !len)
        return 0;
    floor = (floor + PAGE_SIZE - 1) & PAGE_MASK;
    if (floor > top || len > top - floor) {
        uint64_t room = limit < MMIO_HOLE_START ? limit : MMIO_HOLE_START;

        if (floor > room || len > room - floor)
            return boot_fail(res,
                             "the initrd (%llu MiB) does not fit: beside this kernel there is "
                             "room for one of %llu MiB at most",
                             (unsigned long long)((len + MIB - 1) / MIB),
                             (unsigned long long)(floor > room ? 0 : (room - floor) / MIB));
        return boot_fail(
            res,
            "the initrd (%llu KiB) does not fit beside the kernel in %llu MiB of memory; they "
            "need at least %llu MiB: give -m %lluM",
            (unsigned long long)((len + 1023) / 1024), (unsigned long long)(ram->low / MIB),
            (unsigned long long)((floor + len + MIB - 1) / MIB),
            (unsigned long long)((floor + len + MIB - 1) / MIB));
    }
    at = high ? (top - len) & PAGE_MASK : floor;
    boot_copy(ram, at, initrd->data, len);
    *gpa = at;
    return 0;
}

int boot_cmdline(const struct boot_request *req, struct ram *ram, uint64_t gpa, const char *prefix,
                 uint64_t max, struct boot_result *res)
{
    const char *args = req->cmdline ? req->cmdline : "";
    size_t a = strlen(prefix), b = strlen(args);
    char *dst;

    if (max > BOOT_CMDLINE_MAX - 1)
        max = BOOT_CMDLINE_MAX - 1;
    if (b > max || a > max - b)
        return boot_fail(res, "the command line has %llu bytes; this guest takes at most %llu",
                         (unsigned long long)a + b, (unsigned long long)max);
    dst = ram_ptr(ram, gpa, a + b + 1);
    if (!dst)
        return boot_fail(res, "no memory at 0x%llx for the command line: give -m 2M or more",
                         (unsigned long long)gpa);
    memcpy(dst, prefix, a);
    memcpy(dst + a, args, b + 1);
    return 0;
}

void boot_basename(const char *path, char *out, size_t size)
{
    const char *slash = path ? strrchr(path, '/') : NULL;

    snprintf(out, size, "%s", slash ? slash + 1 : path ? path : "");
    for (char *p = out; *p; p++)
        if (*p == ' ' || *p == '\t' || *p == '\n')
            *p = '_';
    if (!*out)
        snprintf(out, size, "kernel");
}
