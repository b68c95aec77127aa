/* Linux bzImage, 64-bit entry (boot.rst "64-bit boot protocol"): the decompressor runs in the
 * guest, at the address the kernel prefers. */
#include <string.h>
#include "monitor/zeropage.h"

#define SECTOR     512u
#define HEADER_AT  0x1f1u
#define JUMP_AT    0x201u /* its byte + 0x202 is the end of the header */
#define MAGIC_AT   0x202u
#define ENTRY64    0x200u /* from where the protected-mode part is loaded */
#define VERSION_64 0x20cu /* the first with xloadflags */

_Static_assert(offsetof(struct boot_params, hdr) == HEADER_AT, "zero page layout");
_Static_assert(sizeof(struct boot_params) == PAGE_SIZE, "zero page layout");

bool boot_linux_probe(const struct boot_image *k)
{
    return k->data && k->len >= MAGIC_AT + 6 && k->data[0x1fe] == 0x55 && k->data[0x1ff] == 0xaa &&
           !memcmp(k->data + MAGIC_AT, "HdrS", 4);
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
    /* 64-bit loading needs every field up to init_size (protocol 2.10). */
    if (h->version < VERSION_64 || end < HEADER_AT + offsetof(struct setup_header, init_size) + 4 ||
        !(h->xloadflags & XLF_KERNEL_64))
        return boot_fail(res,
                         "a Linux kernel without a 64-bit entry (boot protocol %u.%02u); "
                         "mayfly takes x86-64 kernels from 3.8 on",
                         h->version >> 8, h->version & 0xff);
    if (!(h->loadflags & LOADED_HIGH))
        return boot_fail(res, "a zImage, which is loaded below 1 MiB; mayfly takes bzImages");
    return 0;
}

int boot_linux(const struct boot_request *req, struct ram *ram, struct cpu *cpu,
               struct boot_result *res)
{
    const struct boot_image *k = &req->kernel;
    struct setup_header h;
    uint64_t setup, body, stated, load, need;
    int err;

    if (!boot_linux_probe(k))
        return boot_fail(res, "not a Linux bzImage");
    err = read_header(k, &h, res);
    if (err)
        return err;
    setup = (h.setup_sects ? h.setup_sects + 1u : 5u) * SECTOR;
    if (k->len < setup + ENTRY64 + 1)
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

    /* A relocatable kernel loaded lower still decompresses to pref_address, so there is nothing
     * to gain from another place when this one does not fit. */
    load = h.pref_address ? h.pref_address : BOOT_HIGH;
    need = h.init_size > body ? h.init_size : body;
    err = boot_claim(ram, load, need, BOOT_LOW_NONE, res);
    if (err)
        return err;
    if (h.initrd_addr_max == 0)
        h.initrd_addr_max = 0x37ffffff; /* boot.rst: the limit before 2.03 */
    h.code32_start = (uint32_t)load;
    err = zeropage_build(req, ram, &h, load + need, res);
    if (err)
        return err;
    boot_copy(ram, load, k->data + setup, body);
    boot_cpu_long(ram, cpu, load + ENTRY64, load + need);
    cpu->gpr[RSI] = BOOT_ZERO_PAGE;
    res->protocol = "linux64";
    return 0;
}
