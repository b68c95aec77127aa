/* PVH direct boot (Xen docs/misc/pvh.pandoc, xen/include/public/arch-x86/hvm/start_info.h): an ELF
 * with a note that gives a 32-bit physical entry. */
#include "monitor/elf.h"

#define HVM_START_MAGIC 0x336ec578u
#define INITRD_LIMIT    0x80000000u

struct hvm_start_info {
    uint32_t magic, version, flags, nr_modules;
    uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
    uint32_t memmap_entries, reserved;
};
struct hvm_module {
    uint64_t paddr, size, cmdline_paddr, reserved;
};
struct hvm_memmap {
    uint64_t addr, size;
    uint32_t type, reserved;
};
struct pvh_page {
    struct hvm_start_info info;
    struct hvm_module module;
    struct hvm_memmap map[8];
};
_Static_assert(sizeof(struct hvm_start_info) == 56, "PVH ABI");
_Static_assert(sizeof(struct pvh_page) <= PAGE_SIZE, "BOOT_PVH_INFO is one page");

static void put_info(const struct boot_request *req, struct ram *ram, uint64_t initrd)
{
    struct e820_entry map[8];
    unsigned n = boot_memory_map(ram, map, sizeof map / sizeof map[0]);
    struct pvh_page *p = ram_ptr(ram, BOOT_PVH_INFO, sizeof *p);

    if (!p)
        return;
    p->info = (struct hvm_start_info){
        .magic = HVM_START_MAGIC,
        .version = 1,
        .cmdline_paddr = BOOT_CMDLINE,
        .rsdp_paddr = BOOT_ACPI,
        .memmap_paddr = BOOT_PVH_INFO + offsetof(struct pvh_page, map),
        .memmap_entries = n,
    };
    if (initrd) {
        p->info.nr_modules = 1;
        p->info.modlist_paddr = BOOT_PVH_INFO + offsetof(struct pvh_page, module);
        p->module = (struct hvm_module){.paddr = initrd, .size = req->initrd.len};
    }
    for (unsigned i = 0; i < n; i++)
        p->map[i] =
            (struct hvm_memmap){.addr = map[i].addr, .size = map[i].size, .type = map[i].type};
}

int boot_pvh(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
             struct boot_result *res)
{
    uint64_t entry, initrd;
    struct elf e;
    int err = elf_read(&req->kernel, &e, res);

    if (err)
        return err;
    if (!elf_pvh_entry(&e, &entry)) {
        err = elf_refuse_programs(&e, res);
        return err ? err
                   : boot_fail(res,
                               "an ELF file without a PVH entry (no Xen note 18); " BOOT_TAKES);
    }
    err = elf_claim(&e, ram, BOOT_LOW_NONE, res);
    if (err)
        return err;
    if (!elf_has_phys(&e, entry))
        return boot_fail(res, "a PVH kernel whose entry point 0x%llx is in no segment",
                         (unsigned long long)entry);
    err = boot_initrd(&req->initrd, ram, e.end, INITRD_LIMIT, true, &initrd, res);
    if (err)
        return err;
    err = boot_cmdline(req, ram, BOOT_CMDLINE, "", BOOT_CMDLINE_MAX - 1, res);
    if (err)
        return err;
    put_info(req, ram, initrd);
    elf_load(&e, ram);
    boot_cpu_flat32(ram, cpu, (uint32_t)entry);
    cpu->gpr[RBX] = BOOT_PVH_INFO;
    res->protocol = "pvh";
    return 0;
}
