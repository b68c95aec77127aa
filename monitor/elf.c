/* Reading ELF images. */
#include <elf.h>
#include <string.h>
#include "monitor/elf.h"

/* A vmlinux has 24 notes; this bounds the walk over a file made of nothing else. */
#define MAX_NOTES 1024u

#define XEN_ELFNOTE_PHYS32_ENTRY 18u

bool elf_magic(const struct boot_image *img)
{
    return img->data && img->len >= SELFMAG && !memcmp(img->data, ELFMAG, SELFMAG);
}

static bool in_file(const struct elf *e, uint64_t offset, uint64_t len)
{
    return offset <= e->len && len <= e->len - offset;
}

/* The fields both classes share, widened. */
struct ehdr {
    uint64_t entry, phoff;
    uint16_t type, machine, phentsize, phnum;
};

static bool read_ehdr(struct elf *e, struct ehdr *h)
{
    if (e->is64) {
        Elf64_Ehdr x;

        if (!in_file(e, 0, sizeof x))
            return false;
        memcpy(&x, e->data, sizeof x);
        *h = (struct ehdr){x.e_entry, x.e_phoff, x.e_type, x.e_machine, x.e_phentsize, x.e_phnum};
    } else {
        Elf32_Ehdr x;

        if (!in_file(e, 0, sizeof x))
            return false;
        memcpy(&x, e->data, sizeof x);
        *h = (struct ehdr){x.e_entry, x.e_phoff, x.e_type, x.e_machine, x.e_phentsize, x.e_phnum};
    }
    return true;
}

static struct elf_segment read_phdr(const struct elf *e, uint64_t offset)
{
    if (e->is64) {
        Elf64_Phdr p;

        memcpy(&p, e->data + offset, sizeof p);
        return (struct elf_segment){p.p_type,  p.p_flags,  p.p_offset, p.p_vaddr,
                                    p.p_paddr, p.p_filesz, p.p_memsz,  p.p_align};
    }
    Elf32_Phdr p;

    memcpy(&p, e->data + offset, sizeof p);
    return (struct elf_segment){p.p_type,  p.p_flags,  p.p_offset, p.p_vaddr,
                                p.p_paddr, p.p_filesz, p.p_memsz,  p.p_align};
}

static const char *machine_name(uint16_t machine)
{
    switch (machine) {
    case EM_AARCH64:
        return "64-bit Arm";
    case EM_ARM:
        return "32-bit Arm";
    case EM_RISCV:
        return "RISC-V";
    case EM_PPC64:
        return "64-bit POWER";
    case EM_S390:
        return "S/390";
    default:
        return "another machine";
    }
}

int elf_read(const struct boot_image *img, struct elf *e, struct boot_result *res)
{
    struct ehdr h;
    uint64_t phsize;

    memset(e, 0, sizeof *e);
    e->data = img->data;
    e->len = img->len;
    if (!elf_magic(img))
        return boot_fail(res, "not an ELF file");
    if (!in_file(e, 0, EI_NIDENT))
        return boot_fail(res, "an ELF file cut short after %llu bytes", (unsigned long long)e->len);
    if (e->data[EI_CLASS] != ELFCLASS32 && e->data[EI_CLASS] != ELFCLASS64)
        return boot_fail(res, "a damaged ELF file: class %u", e->data[EI_CLASS]);
    if (e->data[EI_DATA] != ELFDATA2LSB)
        return boot_fail(res, "an ELF file that is not little-endian; " BOOT_TAKES);
    e->is64 = e->data[EI_CLASS] == ELFCLASS64;
    e->osabi = e->data[EI_OSABI];
    if (!read_ehdr(e, &h))
        return boot_fail(res, "an ELF file cut short after %llu bytes", (unsigned long long)e->len);
    e->type = h.type;
    e->machine = h.machine;
    e->entry = h.entry;
    if (h.machine != EM_X86_64 && h.machine != EM_386)
        return boot_fail(res, "an ELF file for %s (%u); " BOOT_TAKES, machine_name(h.machine),
                         h.machine);
    if (e->is64 && h.machine != EM_X86_64)
        return boot_fail(res, "a damaged ELF file: 64-bit, for machine %u", h.machine);
    if (!h.phnum)
        return boot_fail(res, "an ELF file without program headers (%s); " BOOT_TAKES,
                         h.type == ET_REL ? "an object file" : "nothing to load");
    if (h.phnum > ELF_MAX_SEGMENTS)
        return boot_fail(res, "an ELF file with %u program headers; mayfly takes up to %u", h.phnum,
                         ELF_MAX_SEGMENTS);
    if (h.phentsize < (e->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
        return boot_fail(res, "a damaged ELF file: program headers of %u bytes", h.phentsize);
    phsize = (uint64_t)h.phnum * h.phentsize;
    if (!in_file(e, h.phoff, phsize))
        return boot_fail(res,
                         "a damaged or truncated ELF file: its program headers lie past its "
                         "end (%llu bytes)",
                         (unsigned long long)e->len);
    e->nsegment = h.phnum;
    for (unsigned i = 0; i < h.phnum; i++)
        e->segment[i] = read_phdr(e, h.phoff + (uint64_t)i * h.phentsize);
    return 0;
}

struct note {
    const uint8_t *name, *desc;
    uint32_t namesz, descsz, type;
};

/* Take the note at *pos of a PT_NOTE; false at its end or at the first one that does not fit. */
static bool next_note(const struct elf *e, const struct elf_segment *s, uint64_t *pos,
                      struct note *n)
{
    uint64_t align = s->align == 8 ? 8 : 4;
    uint32_t head[3];
    uint64_t desc, left;

    if (!in_file(e, s->offset, s->filesz) || *pos > s->filesz || s->filesz - *pos < sizeof head)
        return false;
    memcpy(head, e->data + s->offset + *pos, sizeof head);
    left = s->filesz - *pos - sizeof head;
    /* Sums of 32-bit numbers: no overflow in 64 bits. Padding counts from the note's start. */
    desc = (sizeof head + head[0] + align - 1) / align * align - sizeof head;
    if (desc > left || head[1] > left - desc)
        return false;
    n->name = e->data + s->offset + *pos + sizeof head;
    n->desc = n->name + desc;
    n->namesz = head[0];
    n->descsz = head[1];
    n->type = head[2];
    *pos += (sizeof head + desc + head[1] + align - 1) / align * align;
    return true;
}

/* Some writers leave the NUL out of namesz, others count the padding in. */
static bool name_is(const struct note *n, const char *name)
{
    size_t len = strlen(name);

    if (n->namesz < len || memcmp(n->name, name, len))
        return false;
    for (size_t i = len; i < n->namesz; i++)
        if (n->name[i])
            return false;
    return true;
}

static bool find_note(const struct elf *e, const char *name, const uint32_t *type, struct note *n)
{
    unsigned seen = 0;

    for (unsigned i = 0; i < e->nsegment; i++) {
        const struct elf_segment *s = &e->segment[i];
        uint64_t pos = 0;

        if (s->type != PT_NOTE)
            continue;
        while (seen++ < MAX_NOTES && next_note(e, s, &pos, n))
            if (name_is(n, name) && (!type || n->type == *type))
                return true;
    }
    return false;
}

const uint8_t *elf_note(const struct elf *e, const char *name, uint32_t type, uint32_t *len)
{
    struct note n;

    if (!find_note(e, name, &type, &n))
        return NULL;
    *len = n.descsz;
    return n.desc;
}

bool elf_has_note(const struct elf *e, const char *name)
{
    struct note n;

    return find_note(e, name, NULL, &n);
}

bool elf_pvh_entry(const struct elf *e, uint64_t *entry)
{
    uint32_t len;
    const uint8_t *desc = elf_note(e, "Xen", XEN_ELFNOTE_PHYS32_ENTRY, &len);

    *entry = 0;
    if (!desc || (len != 4 && len != 8))
        return false;
    memcpy(entry, desc, len);
    return true;
}

static bool has_segment(const struct elf *e, uint32_t type)
{
    for (unsigned i = 0; i < e->nsegment; i++)
        if (e->segment[i].type == type)
            return true;
    return false;
}

/* As a linker lays a program out when nobody says otherwise: the file's own headers are in memory
 * too, at 4 MiB (ld), 2 MiB (lld) or 16 MiB (zig), and mostly there is a part to be made read-only
 * by a C library's start-up code, thread-local data or a wish about the stack. Kernels come with a
 * linker script of their own. */
static bool default_layout(const struct elf *e)
{
    const struct elf_segment *lowest = NULL;
    bool hosted =
        has_segment(e, PT_GNU_RELRO) || has_segment(e, PT_TLS) || has_segment(e, PT_GNU_STACK);

    for (unsigned i = 0; i < e->nsegment; i++)
        if (e->segment[i].type == PT_LOAD && (!lowest || e->segment[i].paddr < lowest->paddr))
            lowest = &e->segment[i];
    if (!lowest || lowest->paddr < 0x200000)
        return false;
    bool headers = !lowest->offset && lowest->paddr == lowest->vaddr;

    return lowest->paddr == 0x400000 ? hosted || headers : hosted && headers;
}

/* gcc -static-pie, and Rust for musl: a shared object for address 0 with an entry, a dynamic
 * section to relocate itself by, and no interpreter. */
static bool static_pie(const struct elf *e)
{
    bool zero = false;

    for (unsigned i = 0; i < e->nsegment; i++)
        if (e->segment[i].type == PT_LOAD && e->segment[i].vaddr < PAGE_SIZE)
            zero = true;
    return e->type == ET_DYN && e->is64 && e->entry && zero && has_segment(e, PT_DYNAMIC);
}

/* Linux enters a program at a virtual address. An entry that only makes sense as a physical one is
 * a kernel's, whatever its OSABI byte says: ld writes "GNU" there for IFUNCs (OSv). */
static bool entry_is_physical(const struct elf *e)
{
    for (unsigned i = 0; i < e->nsegment; i++) {
        const struct elf_segment *s = &e->segment[i];

        if (s->type == PT_LOAD && e->entry >= s->vaddr && e->entry - s->vaddr < s->memsz)
            return false;
    }
    return elf_has_phys(e, e->entry);
}

/* The system a program was linked for, from the ABI tag (LSB: note "GNU" type 1, word 0), the
 * OSABI byte and the notes of other systems; NULL when nothing says so. */
static const char *program_of(const struct elf *e)
{
    uint32_t len = 0, os;
    const uint8_t *tag = elf_note(e, "GNU", NT_GNU_ABI_TAG, &len);

    if (entry_is_physical(e))
        return NULL;
    if (tag && len >= sizeof os) {
        memcpy(&os, tag, sizeof os);
        if (os == ELF_NOTE_OS_LINUX)
            return "Linux";
    }
    if (e->osabi == ELFOSABI_LINUX || elf_has_note(e, "Go") || default_layout(e) || static_pie(e))
        return "Linux";
    return NULL;
}

bool elf_is_static_program(const struct elf *e)
{
    if (!e->is64 || (e->type != ET_EXEC && e->type != ET_DYN) || elf_has_note(e, "Solo5") ||
        elf_has_note(e, "HERMIT") || elf_has_note(e, "UHYVEIF"))
        return false;
    return !has_segment(e, PT_INTERP) && program_of(e);
}

int elf_refuse_programs(const struct elf *e, struct boot_result *res)
{
    const char *os = program_of(e);

    if (elf_has_note(e, "Solo5"))
        return boot_fail(res,
                         "a Solo5 unikernel, for which this way to boot is not; leave --boot out");
    if (elf_has_note(e, "HERMIT") || elf_has_note(e, "UHYVEIF"))
        return boot_fail(res, "a Hermit unikernel for uhyve; mayfly takes hermit-loader as the "
                              "kernel, with this file as --initrd");
    if (e->type == ET_REL)
        return boot_fail(res, "an object file or kernel module; " BOOT_TAKES);
    if (e->type == ET_CORE)
        return boot_fail(res, "a core dump; " BOOT_TAKES);
    if (has_segment(e, PT_INTERP))
        return boot_fail(res, "a dynamically linked Linux program; mayfly takes static ones: "
                              "link it with -static (musl-gcc -static, go build with "
                              "CGO_ENABLED=0, rustc's target x86_64-unknown-linux-musl)");
    if (os && e->is64)
        return boot_fail(res, "a statically linked %s program, no kernel; leave --boot out", os);
    if (os)
        return boot_fail(
            res, "a 32-bit %s program; mayfly takes static x86-64 ones, and " BOOT_KERNELS, os);
    if (e->type == ET_DYN && !e->entry && has_segment(e, PT_DYNAMIC))
        return boot_fail(res, "a shared library; " BOOT_TAKES);
    if (e->type != ET_EXEC && e->type != ET_DYN)
        return boot_fail(res, "a damaged ELF file: type %u", e->type);
    return 0;
}

/* Do segments i and any earlier one share a byte of memory? Their ends are known not to wrap. */
static bool overlaps(const struct elf *e, unsigned i)
{
    const struct elf_segment *a = &e->segment[i];

    for (unsigned j = 0; j < i; j++) {
        const struct elf_segment *b = &e->segment[j];

        if (b->type == PT_LOAD && b->memsz && a->paddr < b->paddr + b->memsz &&
            b->paddr < a->paddr + a->memsz)
            return true;
    }
    return false;
}

int elf_claim(struct elf *e, const struct ram *ram, enum boot_low low, struct boot_result *res)
{
    /* Unsatisfiable addresses first, then one sentence about memory for the image as a whole. */
    struct ram most = {.low = MMIO_HOLE_START};
    int err;

    e->start = UINT64_MAX;
    e->end = 0;
    for (unsigned i = 0; i < e->nsegment; i++) {
        const struct elf_segment *s = &e->segment[i];

        if (s->type != PT_LOAD || (!s->memsz && !s->filesz))
            continue;
        if (s->filesz > s->memsz)
            return boot_fail(res,
                             "a damaged ELF file: segment %u has more bytes in the file than "
                             "in memory",
                             i);
        if (!in_file(e, s->offset, s->filesz))
            return boot_fail(res,
                             "a damaged or truncated ELF file: segment %u lies past its end "
                             "(%llu bytes)",
                             i, (unsigned long long)e->len);
        err = boot_claim(&most, s->paddr, s->memsz, low, res);
        if (err)
            return err;
        if (overlaps(e, i))
            return boot_fail(res, "a damaged ELF file: segment %u overlaps another in memory", i);
        if (s->paddr < e->start)
            e->start = s->paddr;
        if (s->paddr + s->memsz > e->end)
            e->end = s->paddr + s->memsz;
    }
    if (!e->end)
        return boot_fail(res, "an ELF file with nothing to load; " BOOT_TAKES);
    return e->end > BOOT_HIGH ? boot_claim(ram, BOOT_HIGH, e->end - BOOT_HIGH, low, res) : 0;
}

void elf_load(const struct elf *e, struct ram *ram)
{
    /* The rest of memsz is zero already: RAM is fresh and segments do not overlap. */
    for (unsigned i = 0; i < e->nsegment; i++) {
        const struct elf_segment *s = &e->segment[i];

        if (s->type == PT_LOAD)
            boot_copy(ram, s->paddr, e->data + s->offset, s->filesz);
    }
}

bool elf_has_phys(const struct elf *e, uint64_t addr)
{
    for (unsigned i = 0; i < e->nsegment; i++) {
        const struct elf_segment *s = &e->segment[i];

        if (s->type == PT_LOAD && addr >= s->paddr && addr - s->paddr < s->memsz)
            return true;
    }
    return false;
}
