/* Linux's boot_params. */
#include <string.h>
#include "monitor/zeropage.h"

#define LOADER_UNDEFINED 0xffu /* boot.rst: type_of_loader without an assigned number */
#define VID_MODE_NORMAL  0xffffu

#ifndef SETUP_RNG_SEED
#define SETUP_RNG_SEED 9
#endif

/* The list of one node that carries the seed: Linux from 6.0 credits it and wipes it. */
static bool put_seed(const struct boot_request *req, struct ram *ram)
{
    struct setup_data node = {.next = 0, .type = SETUP_RNG_SEED, .len = sizeof req->seed};
    uint8_t *p = ram_ptr(ram, BOOT_SETUP_DATA, sizeof node + sizeof req->seed);

    if (!p)
        return false;
    memcpy(p, &node, sizeof node);
    memcpy(p + sizeof node, req->seed, sizeof req->seed);
    return true;
}

int zeropage_build(const struct boot_request *req, struct ram *ram, const struct setup_header *hdr,
                   uint64_t kernel_end, struct boot_result *res)
{
    struct boot_params *bp = ram_ptr(ram, BOOT_ZERO_PAGE, sizeof *bp);
    struct e820_entry map[8];
    uint64_t initrd;
    unsigned n;
    int err;

    if (!bp)
        return boot_fail(res, "no memory for the boot parameters: give -m 2M or more");
    err = boot_initrd(&req->initrd, ram, kernel_end, (uint64_t)hdr->initrd_addr_max + 1, true,
                      &initrd, res);
    if (err)
        return err;
    err = boot_cmdline(req, ram, BOOT_CMDLINE, "", hdr->cmdline_size, res);
    if (err)
        return err;
    n = boot_memory_map(ram, map, sizeof map / sizeof map[0]);
    for (unsigned i = 0; i < n; i++)
        bp->e820_table[i] =
            (struct boot_e820_entry){.addr = map[i].addr, .size = map[i].size, .type = map[i].type};
    bp->e820_entries = (uint8_t)n;
    bp->acpi_rsdp_addr = BOOT_ACPI;
    bp->hdr = *hdr;
    bp->hdr.type_of_loader = LOADER_UNDEFINED;
    bp->hdr.ext_loader_type = 0;
    bp->hdr.ext_loader_ver = 0;
    bp->hdr.vid_mode = VID_MODE_NORMAL;
    bp->hdr.loadflags |= LOADED_HIGH;
    /* No real-mode code runs, so there is no heap; KEEP_SEGMENTS concerns the 32-bit entry alone.
     */
    bp->hdr.loadflags &= (uint8_t) ~(CAN_USE_HEAP | KASLR_FLAG | KEEP_SEGMENTS);
    bp->hdr.heap_end_ptr = 0;
    bp->hdr.cmd_line_ptr = BOOT_CMDLINE;
    bp->hdr.ramdisk_image = (uint32_t)initrd;
    bp->hdr.ramdisk_size = initrd ? (uint32_t)req->initrd.len : 0;
    bp->hdr.setup_data = put_seed(req, ram) ? BOOT_SETUP_DATA : 0;
    return 0;
}
