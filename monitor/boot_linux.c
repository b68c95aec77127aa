/* Linux bzImage (boot.rst): entered in 64-bit mode where the kernel has such an entry, else in
 * 32-bit protected mode, which i386 kernels, x86-64 ones before 3.8, and other things that a boot
 * loader can start as a kernel have. The decompressor runs in the guest, where the kernel likes to
 * be. */
#include <string.h>
#include "monitor/zeropage.h"

#define SECTOR    512u
#define HEADER_AT 0x1f1u
#define JUMP_AT   0x201u /* its byte + 0x202 is the end of the header */
#define MAGIC_AT  0x202u
#define ENTRY64   0x200u /* from where the protected-mode part is loaded */

/* Protocol versions, by what they brought. */
#define VER_CMDLINE   0x202u /* cmd_line_ptr */
#define VER_INITRD    0x203u /* initrd_addr_max */
#define VER_RELOCATE  0x205u
#define VER_LENGTH    0x206u /* cmdline_size */
#define VER_INIT_SIZE 0x20au /* and pref_address */
#define VER_XLOAD     0x20cu /* xloadflags */

_Static_assert(offsetof(struct boot_params, hdr) == HEADER_AT, "zero page layout");
_Static_assert(sizeof(struct boot_params) == PAGE_SIZE, "zero page layout");

bool boot_linux_probe(const struct boot_image *k)
{
    return k->data && k->len >= MAGIC_AT + 6 && k->data[0x1fe] == 0x55 && k->data[0x1ff] == 0xaa &&
           !memcmp(k->data + MAGIC_AT, "HdrS", 4);
}

/* What the header's version does not know may be anything there. */
static void forget_later_fields(struct setup_header *h)
{
    if (h->version < VER_INITRD || !h->initrd_addr_max)
        h->initrd_addr_max = 0x37ffffff;
    if (h->version < VER_RELOCATE)
        h->relocatable_kernel = 0;
    if (h->version < VER_LENGTH)
        h->cmdline_size = 255;
    if (h->version < VER_INIT_SIZE)
        h->pref_address = h->init_size = 0;
    if (h->version < VER_XLOAD)
        h->xloadflags = 0;
}

/* The setup header: as long as the kernel says, within our structure and the file. */
static int read_header(const struct boot_image *k, struct setup_header *h, struct boot_result *res)
{
    uint64_t end = MAGIC_AT + k->data[JUMP_AT];

    if (end > HEADER_AT + sizeof *h)
        end = HEADER_AT + sizeof *h;
    if (end > k->len)
        return boot_fail(res, "a Linux kernel cut short inside its header (%llu bytes)",
                         (unsigned long long)k->len);
    memset(h, 0, sizeof *h);
    memcpy(h, k->data + HEADER_AT, end - HEADER_AT);
    if (h->version < VER_CMDLINE ||
        end < HEADER_AT + offsetof(struct setup_header, cmd_line_ptr) + 4)
        return boot_fail(res,
                         "a Linux kernel of boot protocol %u.%02u; mayfly takes those from 2.02 "
                         "on, Linux 2.4",
                         h->version >> 8, h->version & 0xff);
    if (!(h->loadflags & LOADED_HIGH))
        return boot_fail(res, "a zImage, which is loaded below 1 MiB; mayfly takes bzImages");
    forget_later_fields(h);
    return 0;
}

/* Where the protected-mode part goes, where it is entered, and the memory that it then takes. */
struct place {
    bool long_mode;
    uint64_t load, entry, end;
};

static int find_place(const struct setup_header *h, uint64_t body, struct place *p,
                      struct boot_result *res)
{
    /* A relocatable kernel loaded lower still decompresses to pref_address, so there is nothing
     * to gain from another place when this one does not fit. */
    bool there = h->pref_address && (h->relocatable_kernel || (h->xloadflags & XLF_KERNEL_64));

    p->long_mode = h->xloadflags & XLF_KERNEL_64;
    p->load = there ? h->pref_address : BOOT_HIGH;
    p->end = (h->pref_address ? h->pref_address : p->load) + h->init_size;
    if (p->end < p->load + body)
        p->end = p->load + body;
    p->entry = p->load + ENTRY64;
    if (p->long_mode)
        return 0;
    if (h->code32_start < BOOT_HIGH || h->code32_start >= BOOT_HIGH + body)
        return boot_fail(res,
                         "a bzImage with no entry in protected mode: it needs a BIOS, and there "
                         "is none");
    p->entry = p->load + (h->code32_start - BOOT_HIGH);
    return 0;
}

int boot_linux(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
               struct boot_result *res)
{
    const struct boot_image *k = &req->kernel;
    struct setup_header h;
    uint64_t setup, body, stated;
    struct place p = {0};
    int err;

    if (!boot_linux_probe(k))
        return boot_fail(res, "not a Linux bzImage");
    err = read_header(k, &h, res);
    if (err)
        return err;
    setup = (h.setup_sects ? h.setup_sects + 1u : 5u) * SECTOR;
    if (k->len <= setup + (h.xloadflags & XLF_KERNEL_64 ? ENTRY64 : 0))
        return boot_fail(res, "a Linux kernel cut short: the file has %llu bytes",
                         (unsigned long long)k->len);
    body = k->len - setup;
    stated = (uint64_t)h.syssize * 16;
    /* A signature may follow the kernel; the last paragraph may be short. */
    if (stated > body + 15)
        return boot_fail(res, "a Linux kernel cut short: the file has %llu bytes of %llu",
                         (unsigned long long)k->len, (unsigned long long)(setup + stated));
    if (stated > ENTRY64 && stated < body)
        body = stated;

    err = find_place(&h, body, &p, res);
    if (err)
        return err;
    err = boot_claim(ram, p.load, p.end - p.load, BOOT_LOW_NONE, res);
    if (err)
        return err;
    h.code32_start = (uint32_t)p.load;
    err = zeropage_build(req, ram, &h, p.end, res);
    if (err)
        return err;
    boot_copy(ram, p.load, k->data + setup, body);
    if (p.long_mode)
        boot_cpu_long(ram, cpu, p.entry, p.end);
    else
        boot_cpu_linux32(ram, cpu, (uint32_t)p.entry);
    cpu->gpr[RSI] = BOOT_ZERO_PAGE;
    res->protocol = p.long_mode ? "linux64" : "linux32";
    return 0;
}
