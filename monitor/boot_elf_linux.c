/*
 * An ELF64 kernel entered by the Linux 64-bit protocol: the vmlinux out of a bzImage, and the
 * unikernels that take the same entry (Unikraft, OSv, Nanos, hermit-loader). It has no setup
 * header, so one is made up.
 */
#include <elf.h>
#include <string.h>
#include "monitor/elf.h"
#include "monitor/zeropage.h"

#define BOOT_FLAG    0xaa55u
#define HDRS         0x53726448u /* "HdrS" */
#define VERSION      0x20fu
#define INITRD_MAX   0x7fffffffu
#define KERNEL_ALIGN 0x200000u

int boot_elf_linux(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
                   struct boot_result *res)
{
    struct setup_header h = {
        .boot_flag = BOOT_FLAG,
        .header = HDRS,
        .version = VERSION,
        .loadflags = LOADED_HIGH,
        .xloadflags = XLF_KERNEL_64,
        .kernel_alignment = KERNEL_ALIGN,
        .initrd_addr_max = INITRD_MAX,
        .cmdline_size = BOOT_CMDLINE_MAX - 1,
    };
    struct elf e;
    int err = elf_read(&req->kernel, &e, res);

    if (err)
        return err;
    err = elf_refuse_programs(&e, res);
    if (err)
        return err;
    if (!e.is64)
        return boot_fail(res, "a 32-bit ELF file, which has no 64-bit entry; " BOOT_TAKES);
    err = elf_claim(&e, ram, BOOT_LOW_NONE, res);
    if (err)
        return err;
    if (!elf_has_phys(&e, e.entry))
        return boot_fail(res, "an ELF file whose entry point 0x%llx is in no segment; " BOOT_TAKES,
                         (unsigned long long)e.entry);
    h.code32_start = (uint32_t)e.start;
    h.pref_address = e.start;
    h.init_size = (uint32_t)(e.end - e.start);
    err = zeropage_build(req, ram, &h, e.end, res);
    if (err)
        return err;
    /* With no header of its own to say how much it takes, the guest reads here how much there is
     * (Unikraft, Nanos); the NUL counts. */
    struct boot_params *bp = ram_ptr(ram, BOOT_ZERO_PAGE, sizeof *bp);
    bp->hdr.cmdline_size = (uint32_t)strlen(req->cmdline ? req->cmdline : "") + 1;
    /* It bounded the initrd; a limit is the kernel's word to its loader, so there is none here, as
     * in Firecracker's page. Hermit's loader reads cmd_line_ptr as 64 bits, this field their top.
     */
    bp->hdr.initrd_addr_max = 0;
    elf_load(&e, ram);
    boot_cpu_long(ram, cpu, e.entry, e.end);
    cpu->gpr[RSI] = BOOT_ZERO_PAGE;
    res->protocol = "linux64";
    return 0;
}
