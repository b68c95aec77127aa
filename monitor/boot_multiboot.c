/* Multiboot 1 (GNU Multiboot Specification 0.6.96): ELF kernels of either class, and flat images
 * that state their addresses in the header. */
#include <elf.h>
#include <string.h>
#include "monitor/elf.h"

#define MB_SEARCH     8192u
#define MB_MAGIC      0x1badb002u
#define MB_BOOTED     0x2badb002u
#define MB_PAGE_ALIGN 0x1u
#define MB_MEMORY     0x2u
#define MB_VIDEO      0x4u /* asked for in vain: there is no screen, and no guest insists */
#define MB_MANDATORY  0xffffu
#define MB_ADDRESSES  0x10000u
#define MB_HEAD       12u
#define MB_HEAD_ADDR  32u

#define INFO_MEMORY  0x1u
#define INFO_CMDLINE 0x4u
#define INFO_MODULES 0x8u
#define INFO_MMAP    0x40u
#define INFO_LOADER  0x200u

struct mb_info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4];
    uint32_t mmap_length, mmap_addr, drives[2], config_table, boot_loader_name, apm_table;
    uint32_t vbe[4];
};
struct mb_module {
    uint32_t start, end, string, reserved;
};
struct mb_mmap {
    uint32_t size;
    uint64_t addr, len;
    uint32_t type;
} __attribute__((packed));
/* All of it, at BOOT_MB_INFO; the command line comes right after, as GRUB has it: a guest that maps
 * just the information's page (Hermit's loader) reads both. */
struct mb_page {
    struct mb_info info;
    struct mb_module module[1 + BOOT_MODULES];
    struct mb_mmap map[8];
    char loader[16];
    char module_name[1 + BOOT_MODULES][96];
};
_Static_assert(offsetof(struct mb_info, cmdline) == 16, "multiboot 3.3");
_Static_assert(offsetof(struct mb_info, mmap_addr) == 48, "multiboot 3.3");
_Static_assert(offsetof(struct mb_info, boot_loader_name) == 64, "multiboot 3.3");
_Static_assert(sizeof(struct mb_page) <= PAGE_SIZE, "BOOT_MB_INFO is one page");
#define MB_CMDLINE (BOOT_MB_INFO + (uint32_t)sizeof(struct mb_page))

struct mb_header {
    uint64_t at; /* file offset */
    uint32_t flags;
    uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};

static uint32_t word(const struct boot_image *k, uint64_t at)
{
    uint32_t v;

    memcpy(&v, k->data + at, sizeof v);
    return v;
}

static bool find_header(const struct boot_image *k, struct mb_header *h)
{
    uint64_t end = k->len < MB_SEARCH ? k->len : MB_SEARCH;

    memset(h, 0, sizeof *h);
    for (uint64_t at = 0; k->data && at + MB_HEAD <= end; at += 4) {
        if (word(k, at) != MB_MAGIC || word(k, at) + word(k, at + 4) + word(k, at + 8) != 0)
            continue;
        h->at = at;
        h->flags = word(k, at + 4);
        if (h->flags & MB_ADDRESSES) {
            if (at + MB_HEAD_ADDR > end)
                continue;
            h->header_addr = word(k, at + 12);
            h->load_addr = word(k, at + 16);
            h->load_end_addr = word(k, at + 20);
            h->bss_end_addr = word(k, at + 24);
            h->entry_addr = word(k, at + 28);
        }
        return true;
    }
    return false;
}

bool boot_multiboot_probe(const struct boot_image *k)
{
    struct mb_header h;

    return find_header(k, &h);
}

/* What is loaded: checked by claim(), copied by load(). */
struct mb_kernel {
    struct elf elf;
    bool flat;
    uint64_t offset, addr, filesz; /* flat */
    uint64_t end;
    uint32_t entry;
};

/* The header's own addresses (multiboot 3.1.3) win over an ELF header. */
static int claim_flat(const struct boot_image *k, const struct mb_header *h, const struct ram *ram,
                      struct mb_kernel *mk, struct boot_result *res)
{
    uint64_t before = (uint64_t)h->header_addr - h->load_addr;
    uint64_t size;
    int err;

    if (h->load_addr > h->header_addr || before > h->at)
        return boot_fail(res,
                         "a damaged multiboot kernel: its load address 0x%x does not fit its "
                         "header's, 0x%x",
                         h->load_addr, h->header_addr);
    mk->flat = true;
    mk->offset = h->at - before;
    mk->addr = h->load_addr;
    mk->filesz = k->len - mk->offset;
    if (h->load_end_addr) {
        if (h->load_end_addr < h->load_addr || h->load_end_addr - h->load_addr > mk->filesz)
            return boot_fail(res,
                             "a damaged or truncated multiboot kernel: it ends at 0x%x, which "
                             "the file does not reach",
                             h->load_end_addr);
        mk->filesz = h->load_end_addr - h->load_addr;
    }
    size = mk->filesz;
    if (h->bss_end_addr) {
        if (h->bss_end_addr < h->load_addr || h->bss_end_addr - h->load_addr < size)
            return boot_fail(res,
                             "a damaged multiboot kernel: its bss ends at 0x%x, before its "
                             "data",
                             h->bss_end_addr);
        size = h->bss_end_addr - h->load_addr;
    }
    err = boot_claim(ram, mk->addr, size, BOOT_LOW_MULTIBOOT, res);
    if (err)
        return err;
    if (h->entry_addr < mk->addr || h->entry_addr - mk->addr >= size)
        return boot_fail(res, "a damaged multiboot kernel: its entry point 0x%x is outside it",
                         h->entry_addr);
    mk->end = mk->addr + size;
    mk->entry = h->entry_addr;
    return 0;
}

/* e_entry is a linear address (multiboot 3.1.3 leaves it open, GRUB and QEMU agree): where the
 * segment that holds it is loaded elsewhere, so is the entry. */
static bool elf_entry(const struct elf *e, uint32_t *entry)
{
    for (unsigned i = 0; i < e->nsegment; i++) {
        const struct elf_segment *s = &e->segment[i];

        if (s->type == PT_LOAD && e->entry >= s->vaddr && e->entry - s->vaddr < s->memsz) {
            *entry = (uint32_t)(s->paddr + (e->entry - s->vaddr));
            return true;
        }
    }
    *entry = (uint32_t)e->entry;
    return elf_has_phys(e, e->entry);
}

static int claim(const struct boot_image *k, const struct ram *ram, struct mb_kernel *mk,
                 struct boot_result *res)
{
    struct mb_header h;
    uint32_t unknown;
    int err;

    memset(mk, 0, sizeof *mk);
    if (!find_header(k, &h))
        return boot_fail(res, "no multiboot header in the first 8192 bytes; " BOOT_TAKES);
    unknown = h.flags & MB_MANDATORY & ~(MB_PAGE_ALIGN | MB_MEMORY | MB_VIDEO);
    if (unknown)
        return boot_fail(res,
                         "a multiboot kernel that requires features 0x%x, which mayfly does "
                         "not have",
                         unknown);
    if (h.flags & MB_ADDRESSES)
        return claim_flat(k, &h, ram, mk, res);
    if (!elf_magic(k))
        return boot_fail(res, "a multiboot kernel that is no ELF file and states no load address");
    err = elf_read(k, &mk->elf, res);
    if (err)
        return err;
    err = elf_claim(&mk->elf, ram, BOOT_LOW_MULTIBOOT, res);
    if (err)
        return err;
    if (!elf_entry(&mk->elf, &mk->entry))
        return boot_fail(res, "a multiboot kernel whose entry point 0x%llx is in no segment",
                         (unsigned long long)mk->elf.entry);
    mk->end = mk->elf.end;
    return 0;
}

/* Modules come soon after the kernel, as every other loader of the protocol has it, but not in the
 * page after it: QEMU's command lines are there, and a kernel whose first map of itself is a page
 * too long (Hermit's loader) fails to map a module there again. */
static int load_modules(const struct boot_request *req, struct ram *ram, uint64_t floor,
                        uint64_t at[1 + BOOT_MODULES], struct boot_result *res)
{
    floor += PAGE_SIZE;
    for (unsigned i = 0; i <= req->nmodule; i++) {
        const struct boot_image *module = i ? &req->module[i - 1] : &req->initrd;
        int err = boot_initrd(module, ram, floor, MMIO_HOLE_START, false, &at[i], res);

        if (err)
            return err;
        if (at[i])
            floor = at[i] + module->len;
    }
    return 0;
}

static void put_module(struct mb_page *p, const struct boot_image *module, uint64_t gpa)
{
    unsigned n = p->info.mods_count++;

    p->module[n] = (struct mb_module){
        .start = (uint32_t)gpa,
        .end = (uint32_t)(gpa + module->len),
        .string = BOOT_MB_INFO + (uint32_t)((uint8_t *)p->module_name[n] - (uint8_t *)p),
    };
    boot_basename(module->path, p->module_name[n], sizeof p->module_name[n]);
}

static void put_info(const struct boot_request *req, struct ram *ram, const uint64_t *modules)
{
    struct e820_entry map[8];
    unsigned n = boot_memory_map(ram, map, sizeof map / sizeof map[0]);
    struct mb_page *p = ram_ptr(ram, BOOT_MB_INFO, sizeof *p);

    if (!p)
        return;
    p->info = (struct mb_info){
        .flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MMAP | INFO_LOADER,
        .mem_lower = BOOT_EBDA / 1024,
        .mem_upper = (uint32_t)((ram->low - BOOT_HIGH) / 1024),
        .cmdline = MB_CMDLINE,
        .mods_addr = BOOT_MB_INFO + offsetof(struct mb_page, module),
        .mmap_addr = BOOT_MB_INFO + offsetof(struct mb_page, map),
        .mmap_length = n * (uint32_t)sizeof(struct mb_mmap),
        .boot_loader_name = BOOT_MB_INFO + offsetof(struct mb_page, loader),
    };
    for (unsigned i = 0; i < n; i++)
        p->map[i] = (struct mb_mmap){sizeof(struct mb_mmap) - sizeof(uint32_t), map[i].addr,
                                     map[i].size, map[i].type};
    strcpy(p->loader, "mayfly");
    for (unsigned i = 0; i <= req->nmodule; i++)
        if (modules[i])
            put_module(p, i ? &req->module[i - 1] : &req->initrd, modules[i]);
}

int boot_multiboot(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
                   struct boot_result *res)
{
    struct mb_kernel mk;
    uint64_t modules[1 + BOOT_MODULES];
    char name[256];
    int err = claim(&req->kernel, ram, &mk, res);

    if (err)
        return err;
    err = load_modules(req, ram, mk.end < BOOT_HIGH ? BOOT_HIGH : mk.end, modules, res);
    if (err)
        return err;
    boot_basename(req->kernel.path, name, sizeof name - 1);
    if (req->cmdline && *req->cmdline)
        strcat(name, " ");
    err = boot_cmdline(req, ram, MB_CMDLINE, name, BOOT_CMDLINE_MAX - 1, res);
    if (err)
        return err;
    put_info(req, ram, modules);
    bios_vectors(ram);
    if (mk.flat)
        boot_copy(ram, mk.addr, req->kernel.data + mk.offset, mk.filesz);
    else
        elf_load(&mk.elf, ram);
    boot_cpu_flat32(ram, cpu, mk.entry);
    cpu->gpr[RAX] = MB_BOOTED;
    cpu->gpr[RBX] = BOOT_MB_INFO;
    res->protocol = "multiboot";
    return 0;
}
