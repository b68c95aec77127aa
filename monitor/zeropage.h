/*
 * Linux's boot_params ("zero page"), for the bzImage and for ELF kernels with the 64-bit entry.
 * Layout and field meanings: Linux Documentation/arch/x86/boot.rst and zero-page.rst.
 */
#ifndef MONITOR_ZEROPAGE_H
#define MONITOR_ZEROPAGE_H

#include <asm/bootparam.h>
#include "monitor/loader.h"

/* Fill the zero page at BOOT_ZERO_PAGE around the kernel's own header hdr, with the e820 map, the
 * RSDP's address, the seed; place the initrd above kernel_end and the command line. hdr's
 * initrd_addr_max and cmdline_size bound those two. 0 or -ENOEXEC. */
int zeropage_build(const struct boot_request *req, struct ram *ram, const struct setup_header *hdr,
                   uint64_t kernel_end, struct boot_result *res);

#endif
