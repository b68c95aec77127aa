/*
 * Solo5 unikernels for "hvt" (guests/hvt/abi.h). The image is an ELF64 executable linked where it
 * is to lie; its notes say for which monitor it was made and which devices it wants.
 */
#include "monitor/hvt.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include "monitor/elf.h"

#define GDT_GPA   0x1000u
#define PML4_GPA  0x2000u
#define PDPT_GPA  0x3000u
#define PD_GPA    0x4000u /* four of them */
#define PT0_GPA   0x8000u
#define MAP_START 0x10000u /* what is below is not mapped */

#define PTE_P  0x1u
#define PTE_W  0x2u
#define PTE_AD 0x60u /* accessed and dirty already: nobody need note it */
#define PTE_PS 0x80u

#define SEL_CODE  0x08u
#define SEL_DATA  0x10u
#define ATTR_CODE (0x9u | SEG_S | SEG_P | SEG_L | SEG_G)
#define ATTR_DATA (0x3u | SEG_S | SEG_P | SEG_DB | SEG_G)
#define ATTR_TSS  (0xbu | SEG_P)
#define ATTR_LDT  (0x2u | SEG_P | SEG_NULL)

/* --- notes --- */

#define NOTE_HEAD 20u /* three words, and the name with its padding */
#define MAX_NOTES 64u

enum found { NONE, FOUND, DAMAGED };

/* The note of ours of that type: its descriptor and size. Each begins a PT_NOTE or follows another
 * note there; sizes are padded to four bytes. */
static enum found find_note(const struct elf *e, uint32_t type, const uint8_t **desc, uint32_t *len)
{
    unsigned seen = 0;

    for (unsigned i = 0; i < e->nsegment; i++) {
        const struct elf_segment *s = &e->segment[i];
        uint64_t pos = 0;
        uint32_t head[3];

        if (s->type != PT_NOTE || s->offset > e->len || s->filesz > e->len - s->offset)
            continue;
        while (s->filesz - pos >= NOTE_HEAD && seen++ < MAX_NOTES) {
            const uint8_t *p = e->data + s->offset + pos;

            memcpy(head, p, sizeof head);
            uint64_t size =
                sizeof head + (((uint64_t)head[0] + 3) & ~3ull) + (((uint64_t)head[1] + 3) & ~3ull);
            bool ours = head[0] == sizeof HVT_NOTE_NAME && head[2] == type &&
                        !memcmp(p + sizeof head, HVT_NOTE_NAME, sizeof HVT_NOTE_NAME);

            if (ours && head[1] <= s->filesz - pos - NOTE_HEAD) {
                *desc = p + NOTE_HEAD;
                *len = head[1];
                return FOUND;
            }
            if (ours)
                return DAMAGED;
            if (size > s->filesz - pos)
                break;
            pos += size;
        }
    }
    return NONE;
}

static bool read_abi(const struct elf *e, struct hvt_abi *abi)
{
    const uint8_t *desc;
    uint32_t len;

    if (find_note(e, HVT_NOTE_ABI, &desc, &len) != FOUND || len < sizeof *abi)
        return false;
    memcpy(abi, desc, sizeof *abi);
    return true;
}

bool hvt_probe(const struct boot_image *k)
{
    struct boot_result ignored;
    struct hvt_abi abi;
    const uint8_t *desc;
    uint32_t len;
    struct elf e;

    if (!elf_magic(k) || elf_read(k, &e, &ignored) ||
        (find_note(&e, HVT_NOTE_ABI, &desc, &len) == NONE &&
         find_note(&e, HVT_NOTE_MFT, &desc, &len) == NONE))
        return false;
    return !read_abi(&e, &abi) || abi.target != HVT_TARGET_VIRTIO;
}

static int check_abi(const struct elf *e, struct boot_result *res)
{
    static const char *const target[] = {[HVT_TARGET_SPT] = "spt",
                                         [HVT_TARGET_VIRTIO] = "virtio",
                                         [HVT_TARGET_MUEN] = "muen",
                                         [HVT_TARGET_GENODE] = "genode",
                                         [HVT_TARGET_XEN] = "xen"};
    struct hvt_abi abi;

    if (!e->is64 || e->type != ET_EXEC)
        return boot_fail(res, "a Solo5 unikernel that is not a 64-bit ELF executable; mayfly takes "
                              "those built for hvt on x86-64");
    if (!read_abi(e, &abi))
        return boot_fail(res, "a Solo5 unikernel without a sound note about its interface; mayfly "
                              "takes those built for hvt");
    if (abi.target != HVT_TARGET) {
        const char *name = abi.target < sizeof target / sizeof *target ? target[abi.target] : NULL;

        return boot_fail(res,
                         "a Solo5 unikernel for %s; build it for hvt (mirage configure -t hvt)",
                         name ? name : "an unknown monitor");
    }
    if (abi.version != HVT_VERSION)
        return boot_fail(res, "a Solo5 unikernel for version %u of hvt; mayfly has version %u",
                         abi.version, HVT_VERSION);
    return 0;
}

const char *hvt_name(const char *name, char buf[HVT_NAME_SIZE])
{
    unsigned i = 0;

    for (; i < HVT_NAME_SIZE - 1 && name[i]; i++)
        buf[i] = name[i] > ' ' && name[i] < 127 ? name[i] : '?';
    buf[i] = 0;
    return buf;
}

/* Is the manifest what an image may bring? The monitor's own fields must be clear: the guest is
 * told what they say. */
static int check_manifest(const struct hvt_mft *m, struct boot_result *res)
{
    const struct hvt_device *d = m->device;

    if (d->type != HVT_DEV_RESERVED || d->name[0])
        return boot_fail(res, "a Solo5 unikernel whose manifest does not begin with the reserved "
                              "entry");
    for (unsigned i = 0; i < m->entries; i++, d++) {
        char name[HVT_NAME_SIZE];

        if (d->name[HVT_NAME_SIZE - 1])
            return boot_fail(res, "a Solo5 unikernel whose manifest has a name without an end");
        if (d->attached)
            return boot_fail(res, "a Solo5 unikernel whose manifest has '%s' attached already",
                             hvt_name(d->name, name));
        if (d->type != HVT_DEV_BLOCK && d->type != HVT_DEV_NET && d->type < HVT_DEV_RESERVED)
            return boot_fail(res, "a Solo5 unikernel that wants a device '%s' of unknown type %u",
                             hvt_name(d->name, name), d->type);
    }
    return 0;
}

int hvt_read_notes(const struct boot_image *k, struct hvt_mft *mft, struct boot_result *res)
{
    const uint8_t *desc = NULL;
    uint32_t len = 0;
    struct elf e;
    int err = elf_read(k, &e, res);

    if (!err)
        err = check_abi(&e, res);
    if (err)
        return err;
    switch (find_note(&e, HVT_NOTE_MFT, &desc, &len)) {
    case NONE:
        return boot_fail(res, "a Solo5 unikernel without a manifest");
    case DAMAGED:
        return boot_fail(res, "a Solo5 unikernel with a damaged manifest: it is longer than the "
                              "note it lies in");
    default:
        break;
    }
    if (len < 4 + HVT_MFT_SIZE(1) || len > 4 + HVT_MFT_SIZE(HVT_MFT_ENTRIES))
        return boot_fail(res, "a Solo5 unikernel with a manifest of %u bytes, of %u to %u devices",
                         len, 0, HVT_MFT_ENTRIES - 1);
    memset(mft, 0, sizeof *mft);
    memcpy(mft, desc + 4, len - 4);
    if (mft->version != HVT_MFT_VERSION)
        return boot_fail(res, "a Solo5 unikernel with a manifest of version %u; mayfly knows %u",
                         mft->version, HVT_MFT_VERSION);
    if (!mft->entries || mft->entries > HVT_MFT_ENTRIES || len != 4 + HVT_MFT_SIZE(mft->entries))
        return boot_fail(res, "a Solo5 unikernel whose manifest has %u entries in %u bytes",
                         mft->entries, len);
    return check_manifest(mft, res);
}

/* --- segments --- */

static bool loads(const struct elf_segment *s)
{
    return s->type == PT_LOAD && (s->memsz || s->filesz);
}

static uint64_t page_down(uint64_t a)
{
    return a & PAGE_MASK;
}

/* Never wraps for what is in memory. */
static uint64_t page_up(uint64_t a)
{
    return (a + PAGE_SIZE - 1) & PAGE_MASK;
}

static int check_segment(const struct elf *e, unsigned i, uint64_t *end, const struct ram *ram,
                         struct boot_result *res)
{
    const struct elf_segment *s = &e->segment[i];
    unsigned long long at = s->vaddr, size = s->memsz, align = s->align ? s->align : 1;

    if (s->filesz > s->memsz || s->offset > e->len || s->filesz > e->len - s->offset)
        return boot_fail(res, "a damaged or truncated ELF file: segment %u lies past its end", i);
    if (align & (align - 1) || align > HVT_MEMORY_MAX)
        return boot_fail(res, "a damaged ELF file: segment %u is aligned to 0x%llx", i, align);
    if (s->vaddr < HVT_LOAD_MIN || (s->vaddr & ~(align - 1)) < HVT_LOAD_MIN)
        return boot_fail(res,
                         "segment %u lies at 0x%llx, where only the monitor may put things; "
                         "link it at 1 MiB or above",
                         i, at);
    if (s->vaddr > HVT_MEMORY_MAX || s->memsz > HVT_MEMORY_MAX - s->vaddr)
        return boot_fail(res, "segment %u (0x%llx bytes at 0x%llx) ends above 4 GiB", i, size, at);
    if (page_down(s->vaddr) < *end)
        return boot_fail(res, "segment %u at 0x%llx shares a page with another or is out of order",
                         i, at);
    *end = page_up(s->vaddr + s->memsz);
    if (*end > ram->low)
        return boot_fail(res, "it needs at least %llu MiB of memory and has %llu: give -m %lluM",
                         (unsigned long long)(*end / MIB + 2) & ~1ull,
                         (unsigned long long)(ram->low / MIB),
                         (unsigned long long)(*end / MIB + 2) & ~1ull);
    if ((s->flags & PF_W) && (s->flags & PF_X))
        return boot_fail(res,
                         "segment %u is to be writable and executable; a Solo5 unikernel may "
                         "have no such",
                         i);
    return 0;
}

static int check_segments(const struct elf *e, const struct ram *ram, uint64_t *end,
                          struct boot_result *res)
{
    bool entry = false;

    *end = 0;
    for (unsigned i = 0; i < e->nsegment; i++) {
        const struct elf_segment *s = &e->segment[i];

        if (!loads(s))
            continue;
        int err = check_segment(e, i, end, ram, res);

        if (err)
            return err;
        entry |= e->entry >= s->vaddr && e->entry - s->vaddr < s->memsz && s->flags & PF_X;
    }
    if (!entry)
        return boot_fail(res, "its entry point 0x%llx is in no executable segment",
                         (unsigned long long)e->entry);
    return 0;
}

/* Read permission is not held apart: what is executable can be read. */
static int load_segments(const struct elf *e, struct ram *ram)
{
    for (unsigned i = 0; i < e->nsegment; i++) {
        const struct elf_segment *s = &e->segment[i];
        uint64_t from = page_down(s->vaddr);

        if (!loads(s))
            continue;
        boot_copy(ram, s->vaddr, e->data + s->offset, s->filesz);
        int err =
            ram_protect(ram, from, page_up(s->vaddr + s->memsz) - from,
                        (s->flags & PF_W ? 0 : RAM_ATTR_RO) | (s->flags & PF_X ? 0 : RAM_ATTR_NX));

        if (err)
            return err;
    }
    return 0;
}

/* --- low memory and the CPU --- */

static void put_page_tables(struct ram *ram)
{
    uint64_t *pml4 = ram_ptr(ram, PML4_GPA, PT0_GPA + PAGE_SIZE - PML4_GPA);
    uint64_t *pdpt = pml4 + 512, *pd = pdpt + 512, *pt = pd + 4 * 512ul;

    pml4[0] = PDPT_GPA | PTE_P | PTE_W | PTE_AD;
    for (unsigned i = 0; i < 4; i++)
        pdpt[i] = (PD_GPA + i * PAGE_SIZE) | PTE_P | PTE_W | PTE_AD;
    pd[0] = PT0_GPA | PTE_P | PTE_W | PTE_AD;
    for (uint64_t a = HVT_PAGE; a < ram->low; a += HVT_PAGE)
        pd[a / HVT_PAGE] = a | PTE_P | PTE_W | PTE_AD | PTE_PS;
    for (uint64_t a = MAP_START; a < HVT_PAGE; a += PAGE_SIZE)
        pt[a / PAGE_SIZE] = a | PTE_P | PTE_AD | (a >= HVT_LOAD_MIN ? PTE_W : 0);
}

/* A descriptor with base 0 and the highest limit (SDM 3A 3.4.5). */
static uint64_t descriptor(uint32_t attr)
{
    return 0x000f00000000ffffull | (uint64_t)(attr & 0xff) << 40 |
           (uint64_t)(attr >> 12 & 0xf) << 52;
}

static void start_cpu(struct ram *ram, struct cpu *cpu, uint64_t entry)
{
    const uint64_t gdt[] = {0, descriptor(ATTR_CODE), descriptor(ATTR_DATA)};

    boot_copy(ram, GDT_GPA, gdt, sizeof gdt);
    put_page_tables(ram);
    cpu_reset(cpu);
    memset(cpu->gpr, 0, sizeof cpu->gpr);
    for (unsigned i = 0; i < NSEG; i++)
        cpu->seg[i] = (struct seg){.limit = 0xffffffff, .attr = ATTR_DATA, .sel = SEL_DATA};
    cpu->seg[SEG_CS] = (struct seg){.limit = 0xffffffff, .attr = ATTR_CODE, .sel = SEL_CODE};
    cpu->tr = (struct seg){.attr = ATTR_TSS};
    cpu->ldtr = (struct seg){.attr = ATTR_LDT};
    cpu->gdtr = (struct dtr){.base = GDT_GPA, .limit = sizeof gdt - 1};
    cpu->idtr = (struct dtr){0};
    cpu->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    cpu->cr3 = PML4_GPA;
    cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    cpu->efer = EFER_LME | EFER_LMA;
    cpu->rflags = FL_R1;
    cpu->cpl = 0;
    cpu->halted = cpu->wait_for_sipi = false;
    cpu->rip = entry;
    cpu->gpr[RSP] = ram->low - 8;
    cpu->gpr[RDI] = HVT_BOOT_GPA;
}

int boot_hvt(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
             struct boot_result *res)
{
    const char *cmdline = req->cmdline ? req->cmdline : "";
    size_t len = strlen(cmdline) + 1;
    struct hvt_mft own;
    const struct hvt_mft *mft = req->hvt;
    struct elf e;
    uint64_t end;
    int err = mft ? 0 : hvt_read_notes(&req->kernel, &own, res);

    if (!err)
        err = elf_read(&req->kernel, &e, res);
    if (err)
        return err;
    /* Without a machine made for it there are no devices either. */
    if (!mft && own.entries > 1)
        return boot_fail(res, "a Solo5 unikernel that wants devices");
    if (!mft)
        mft = &own;
    if (ram->high || ram->low % HVT_PAGE || ram->low < HVT_PAGE)
        return boot_fail(res,
                         "a Solo5 unikernel takes a multiple of 2 MiB of memory, 4 GiB at most");
    if (len > HVT_CMDLINE)
        return boot_fail(res, "the command line has %llu bytes; a Solo5 unikernel takes at most %u",
                         (unsigned long long)len - 1, HVT_CMDLINE - 1);
    err = check_segments(&e, ram, &end, res);
    if (err)
        return err;
    struct hvt_boot b = {.mem_size = ram->low,
                         .kernel_end = end,
                         .tsc_hz = req->tsc_hz,
                         .manifest = HVT_BOOT_GPA + sizeof b,
                         .cmdline = HVT_BOOT_GPA + sizeof b + HVT_MFT_SIZE(mft->entries)};

    boot_copy(ram, HVT_BOOT_GPA, &b, sizeof b);
    boot_copy(ram, b.manifest, mft, HVT_MFT_SIZE(mft->entries));
    boot_copy(ram, b.cmdline, cmdline, len);
    err = load_segments(&e, ram);
    if (err)
        return boot_fail(res, "its segments cannot be protected: %s", strerror(-err));
    start_cpu(ram, cpu, e.entry);
    res->protocol = "hvt";
    return 0;
}
